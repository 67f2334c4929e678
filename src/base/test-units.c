/* SPDX-License-Identifier: MIT */
/* Numbers as people write them, and as Docker prints them. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/units.h"

struct parse_case {
	const char *in;
	int r;
	uint64_t value;
};

static void check(int (*parse)(const char *, uint64_t *), const struct parse_case *cases, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		uint64_t v = 0xdead;
		int r = parse(cases[i].in, &v);
		uint64_t want = cases[i].r < 0 ? 0xdead : cases[i].value; /* untouched on failure */
		if (r != cases[i].r || v != want)
			fail_msg("\"%s\": %d %llu, want %d %llu", cases[i].in, r, (unsigned long long)v,
				cases[i].r, (unsigned long long)want);
	}
}

static int parse_u64_all(const char *s, uint64_t *ret)
{
	return parse_u64(s, UINT64_MAX, ret);
}

static int parse_u64_100(const char *s, uint64_t *ret)
{
	return parse_u64(s, 100, ret);
}

static void numbers_are_decimal_whole_and_bounded(void **state)
{
	static const struct parse_case cases[] = {{"0", 0, 0}, {"1", 0, 1}, {"007", 0, 7},
		{"18446744073709551615", 0, UINT64_MAX}, {"18446744073709551616", -ERANGE, 0},
		{"99999999999999999999999", -ERANGE, 0}, {"", -EINVAL, 0}, {"-1", -EINVAL, 0},
		{"+1", -EINVAL, 0}, {" 1", -EINVAL, 0}, {"1 ", -EINVAL, 0}, {"0x10", -EINVAL, 0},
		{"1.0", -EINVAL, 0}, {"1e3", -EINVAL, 0}, {"\xd9\xa1", -EINVAL, 0}};
	static const struct parse_case bounded[] = {{"100", 0, 100}, {"101", -ERANGE, 0}};

	check(parse_u64_all, cases, ARRAY_LEN(cases));
	check(parse_u64_100, bounded, ARRAY_LEN(bounded));
}

static void sizes_are_binary_multiples(void **state)
{
	static const struct parse_case cases[] = {{"10", 0, 10}, {"0", 0, 0}, {"10b", 0, 10}, {"10B", 0, 10},
		{"1k", 0, 1024}, {"1K", 0, 1024}, {"1kb", 0, 1024}, {"1KiB", 0, 1024},
		{"512m", 0, 512ull << 20}, {"1g", 0, 1ull << 30}, {"2GB", 0, 2ull << 30},
		{"1t", 0, 1ull << 40}, {"1p", 0, 1ull << 50}, {"1.5g", 0, 3ull << 29}, {"0.5k", 0, 512},
		{"1.0", 0, 1}, {"1.9", 0, 1}, {"0.000000000000001p", 0, 0}, {"16383p", 0, 16383ull << 50},
		{"1.123456789012345678k", 0, 1150}, {"18446744073709551615", 0, UINT64_MAX},
		{"16384p", -ERANGE, 0}, {"18446744073709551615k", -ERANGE, 0},
		{"18446744073709551616", -ERANGE, 0}, {"", -EINVAL, 0}, {"k", -EINVAL, 0},
		{"-1k", -EINVAL, 0}, {"1x", -EINVAL, 0}, {"1kk", -EINVAL, 0}, {"1ki", -EINVAL, 0},
		{"1bb", -EINVAL, 0}, {"1bib", -EINVAL, 0}, {"1kib ", -EINVAL, 0}, {"1.k", -EINVAL, 0},
		{".5k", -EINVAL, 0}, {"1.5.5k", -EINVAL, 0}, {"1,5g", -EINVAL, 0}, {"1gibb", -EINVAL, 0},
		{"1e", -EINVAL, 0}};

	check(parse_size, cases, ARRAY_LEN(cases));
}

#define S 1000000000ull

static void durations_are_sums_of_parts(void **state)
{
	static const struct parse_case cases[] = {{"10s", 0, 10 * S}, {"10", 0, 10 * S}, {"0", 0, 0},
		{"1m30s", 0, 90 * S}, {"500ms", 0, S / 2}, {"2h", 0, 7200 * S},
		{"1h2m3s4ms5us6ns", 0, 3723004005006ull}, {"1.5s", 0, 3 * S / 2}, {"1.5", 0, 3 * S / 2},
		{"0.1s", 0, S / 10}, {"0.000000001s", 0, 1}, {"100ns", 0, 100}, {"1.5h", 0, 5400 * S},
		{"18446744073s", 0, 18446744073 * S}, {"18446744074s", -ERANGE, 0},
		{"18446744073s999s", -ERANGE, 0}, {"99999999999999999999h", -ERANGE, 0}, {"", -EINVAL, 0},
		{"s", -EINVAL, 0}, {"-1s", -EINVAL, 0}, {"1x", -EINVAL, 0}, {"1sec", -EINVAL, 0},
		{"1 s", -EINVAL, 0}, {"1s ", -EINVAL, 0}, {"1min", -EINVAL, 0}, {"1msx", -EINVAL, 0},
		{"1H", -EINVAL, 0}, {"1..5s", -EINVAL, 0}, {"1d", -EINVAL, 0}, {"inf", -EINVAL, 0}};

	check(parse_duration_ns, cases, ARRAY_LEN(cases));
}

static void moments_are_dates_seconds_or_ages(void **state)
{
	const int64_t now = 1700000000 * (int64_t)S;
	static const struct {
		const char *s;
		int want;
		int64_t ns;
	} cases[] = {
		{"2024-02-29T12:34:56.123456789Z", 0, 1709210096123456789},
		{"2024-02-29T12:34:56.1234567891Z", 0, 1709210096123456789},
		{"2024-02-29T12:34:56.5Z", 0, 1709210096500000000},
		{"2024-02-29T12:34:56Z", 0, 1709210096000000000},
		{"2024-02-29t12:34:56z", 0, 1709210096000000000},
		{"2024-02-29T13:34:56+01:00", 0, 1709210096000000000},
		{"2024-02-29T08:04:56-04:30", 0, 1709210096000000000},
		{"2024-02-29T12:34Z", 0, 1709210040000000000},
		{"2024-02-29T12Z", 0, 1709208000000000000},
		{"2024-02-29Z", 0, 1709164800000000000},
		{"2024-02-29", 0, 1709164800000000000}, /* local time, which the test sets to UTC */
		{"2024-02-29 12:34:56", 0, 1709210096000000000},
		{"1709210096", 0, 1709210096000000000},
		{"1709210096.25", 0, 1709210096250000000},
		{"0", 0, 0},
		{"10m", 0, 1699999400000000000},
		{"1h30m", 0, 1699994600000000000},
		{"0s", 0, 1700000000000000000},
		{"999999h", -ERANGE, 0},
		{"99999999999", -ERANGE, 0},
		{"99999999999999999999", -ERANGE, 0},
		{"2023-02-29", -EINVAL, 0},
		{"2024-13-01", -EINVAL, 0},
		{"2024-00-01", -EINVAL, 0},
		{"2024-2-9", -EINVAL, 0},
		{"2024-02-29T", -EINVAL, 0},
		{"2024-02-29T24:00:00Z", -EINVAL, 0},
		{"2024-02-29T12:34:56.Z", -EINVAL, 0},
		{"2024-02-29T12:34:56Zx", -EINVAL, 0},
		{"2024-02-29T12:34:56+0100", -EINVAL, 0},
		{"9999-01-01", -EINVAL, 0},
		{"", -EINVAL, 0},
		{"-10m", -EINVAL, 0},
		{"yesterday", -EINVAL, 0},
		{"1.", -EINVAL, 0},
		{"1e9", -EINVAL, 0},
	};

	setenv("TZ", "UTC0", 1);
	tzset();
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		int64_t ns = -1;
		assert_int_equal(parse_time_ns(cases[i].s, now, &ns), cases[i].want);
		assert_int_equal(ns, cases[i].want == 0 ? cases[i].ns : -1);
	}
}

static void dates_are_what_the_c_library_says(void **state)
{
	for (int year = 1970; year <= 2261; year++) {
		for (int month = 1; month <= 12; month++) {
			for (int day = 1; day <= 31; day++) {
				struct tm tm = {.tm_year = year - 1900,
					.tm_mon = month - 1,
					.tm_mday = day,
					.tm_hour = 23};
				char text[48];
				int64_t ns = -1;
				time_t want = timegm(&tm);
				bool exists = tm.tm_mday == day;
				snprintf(text, sizeof(text), "%04d-%02d-%02dT23:00:00Z", year, month, day);
				assert_int_equal(parse_time_ns(text, 0, &ns), exists ? 0 : -EINVAL);
				assert_int_equal(ns, exists ? (int64_t)want * 1000000000 : -1);
			}
		}
	}
}

static void signals_have_names_and_numbers(void **state)
{
	const struct {
		const char *in;
		int r, sig;
	} cases[] = {{"SIGTERM", 0, SIGTERM}, {"TERM", 0, SIGTERM}, {"term", 0, SIGTERM},
		{"sigTerm", 0, SIGTERM}, {"15", 0, 15}, {"1", 0, 1}, {"64", 0, 64}, {"KILL", 0, SIGKILL},
		{"WINCH", 0, SIGWINCH}, {"CHLD", 0, SIGCHLD}, {"SIGRTMIN", 0, SIGRTMIN},
		{"RTMIN+3", 0, SIGRTMIN + 3}, {"sigrtmin+30", 0, SIGRTMAX}, {"SIGRTMIN+31", -ERANGE, 0},
		{"0", -ERANGE, 0}, {"65", -ERANGE, 0}, {"99999999999999999999", -ERANGE, 0}, {"", -EINVAL, 0},
		{"SIG", -EINVAL, 0}, {"SIGSIGTERM", -EINVAL, 0}, {"SIG15", -EINVAL, 0}, {"-9", -EINVAL, 0},
		{"9x", -EINVAL, 0}, {"KILL ", -EINVAL, 0}, {"SIGRTMIN+", -EINVAL, 0},
		{"SIGRTMIN+x", -EINVAL, 0}, {"SIGRTMIN-1", -EINVAL, 0}, {"SIGRTMINX", -EINVAL, 0},
		{"NOSUCH", -EINVAL, 0}};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		int sig = -7, r = parse_signal(cases[i].in, &sig);
		if (r != cases[i].r || sig != (r < 0 ? -7 : cases[i].sig))
			fail_msg("\"%s\": %d, signal %d", cases[i].in, r, sig);
	}
}

/* Three significant digits, as in `docker images`; never "1e+03MB". */
static void sizes_are_printed_as_docker_does(void **state)
{
	static const struct {
		uint64_t bytes;
		const char *want;
	} cases[] = {{0, "0B"}, {1, "1B"}, {999, "999B"}, {1000, "1kB"}, {1500, "1.5kB"}, {4190000, "4.19MB"},
		{7830000, "7.83MB"}, {614000000, "614MB"}, {187654321, "188MB"}, {1500000000, "1.5GB"},
		{999400, "999kB"}, {999700, "1000kB"}, {1000000000000, "1TB"}, {UINT64_MAX, "18.4EB"}};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char buf[16];
		assert_ptr_equal(format_size(buf, sizeof(buf), cases[i].bytes), buf);
		assert_string_equal(buf, cases[i].want);
	}
}

#define MIN_S  60ll
#define HOUR_S 3600ll
#define DAY_S  86400ll

/* go-units HumanDuration, which prints the CREATED and STATUS columns of `docker ps`: hours round, the rest is cut. */
static void ages_are_printed_as_docker_does(void **state)
{
	static const struct {
		int64_t s;
		const char *want;
	} cases[] = {{-5, "Less than a second"}, {0, "Less than a second"}, {1, "1 second"}, {2, "2 seconds"},
		{59, "59 seconds"}, {60, "About a minute"}, {119, "About a minute"}, {120, "2 minutes"},
		{59 * MIN_S, "59 minutes"}, {59 * MIN_S + 30, "59 minutes"}, {HOUR_S - 1, "59 minutes"},
		{HOUR_S, "About an hour"}, {90 * MIN_S - 1, "About an hour"}, {90 * MIN_S, "2 hours"},
		{47 * HOUR_S, "47 hours"}, {47 * HOUR_S + 30 * MIN_S, "2 days"}, {2 * DAY_S, "2 days"},
		{3 * DAY_S - 20 * MIN_S, "3 days"}, {13 * DAY_S, "13 days"}, {14 * DAY_S, "2 weeks"},
		{21 * DAY_S - 20 * MIN_S, "3 weeks"}, {59 * DAY_S, "8 weeks"}, {60 * DAY_S, "2 months"},
		{90 * DAY_S - 20 * MIN_S, "3 months"}, {729 * DAY_S, "24 months"}, {730 * DAY_S, "2 years"},
		{3650 * DAY_S, "10 years"}};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char buf[64];
		format_duration_human(buf, sizeof(buf), cases[i].s * 1000000000);
		if (strcmp(buf, cases[i].want) != 0)
			fail_msg("%lld s: \"%s\", want \"%s\"", (long long)cases[i].s, buf, cases[i].want);
	}
	char buf[64];
	assert_string_equal(format_duration_human(buf, sizeof(buf), 999999999), "Less than a second");
	format_duration_human(buf, sizeof(buf), INT64_MAX);
	assert_string_equal(buf, "292 years");
	format_duration_human(buf, sizeof(buf), INT64_MIN);
	assert_string_equal(buf, "Less than a second");
}

static void times_are_printed_in_utc_with_nine_digits(void **state)
{
	static const struct {
		int64_t ns;
		const char *want;
	} cases[] = {{0, "1970-01-01T00:00:00.000000000Z"}, {1, "1970-01-01T00:00:00.000000001Z"},
		{-1, "1969-12-31T23:59:59.999999999Z"}, {-1000000000, "1969-12-31T23:59:59.000000000Z"},
		{1709210096123456789, "2024-02-29T12:34:56.123456789Z"},
		{INT64_MAX, "2262-04-11T23:47:16.854775807Z"}, {INT64_MIN, "1677-09-21T00:12:43.145224192Z"}};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char buf[40];
		assert_string_equal(format_time_rfc3339(buf, sizeof(buf), cases[i].ns), cases[i].want);
	}
}

static void hex_is_decoded_as_it_was_encoded(void **state)
{
	const uint8_t bytes[4] = {0x00, 0x9a, 0xff, 0x01};
	uint8_t back[4];
	char text[9];

	hex_encode(text, bytes, sizeof(bytes));
	assert_string_equal(text, "009aff01");
	assert_int_equal(hex_decode(back, "009aff01rest", sizeof(back)), 0);
	assert_memory_equal(back, bytes, sizeof(bytes));
	assert_int_equal(hex_decode(back, "009aff0", sizeof(back)), -EINVAL);
	assert_int_equal(hex_decode(back, "009AFF01", sizeof(back)), -EINVAL);
}

static void ports_are_numbers_or_ranges(void **state)
{
	static const struct {
		const char *in;
		int r;
		uint16_t from, to;
	} cases[] = {{"0", 0, 0, 0}, {"80", 0, 80, 80}, {"0080", 0, 80, 80}, {"80-90", 0, 80, 90},
		{"65535-65535", 0, 65535, 65535}, {"65536", -ERANGE}, {"1-65536", -ERANGE},
		{"4294967376", -EINVAL}, {"000080", -EINVAL}, {"90-80", -EINVAL}, {"", -EINVAL},
		{"-", -EINVAL}, {"80-", -EINVAL}, {"-80", -EINVAL}, {"80-90-99", -EINVAL}, {"+80", -EINVAL},
		{" 80", -EINVAL}, {"80x", -EINVAL}};
	uint16_t from, to;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		from = to = 7;
		int r = parse_port_range(cases[i].in, strlen(cases[i].in), &from, &to);
		if (r != cases[i].r || from != (r ? 7 : cases[i].from) || to != (r ? 7 : cases[i].to))
			fail_msg("\"%s\": %d %u-%u", cases[i].in, r, from, to);
	}
	/* No more than it is to look at. */
	assert_int_equal(parse_port("8080:80", 4, &from), 0);
	assert_int_equal(from, 8080);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hex_is_decoded_as_it_was_encoded),
		cmocka_unit_test(numbers_are_decimal_whole_and_bounded),
		cmocka_unit_test(ports_are_numbers_or_ranges),
		cmocka_unit_test(sizes_are_binary_multiples),
		cmocka_unit_test(durations_are_sums_of_parts),
		cmocka_unit_test(moments_are_dates_seconds_or_ages),
		cmocka_unit_test(dates_are_what_the_c_library_says),
		cmocka_unit_test(signals_have_names_and_numbers),
		cmocka_unit_test(sizes_are_printed_as_docker_does),
		cmocka_unit_test(ages_are_printed_as_docker_does),
		cmocka_unit_test(times_are_printed_in_utc_with_nine_digits),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
