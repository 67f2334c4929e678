/* SPDX-License-Identifier: MIT */
/* Entries of a log file: what is understood, what is none, and that a general reader of JSON finds the same in them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>
#include <jansson.h>
#include <string.h>

#include "base/b64.h"
#include "log.h"

#define REST ",\"stream\":\"stdout\",\"time\":\"2020-01-01T00:00:00.000000001Z\"}"

static bool parse(const char *line, struct log_entry *ret)
{
	return log_entry_parse(line, strlen(line), true, ret);
}

static void strings_are_what_json_says(void **state)
{
	static const struct {
		const char *json, *want;
		size_t len;
	} cases[] = {
		{"", "", 0},
		{"a b\x7f", "a b\x7f", 4},
		{"\\\"\\\\\\/\\b\\f\\n\\r\\t", "\"\\/\b\f\n\r\t", 8},
		{"\\u0000\\u0041\\u007f", "\0A\x7f", 3},
		{"\\u00e9\\u07FF", "\xc3\xa9\xdf\xbf", 4},
		{"\\u20ac\\uFfFd", "\xe2\x82\xac\xef\xbf\xbd", 6},
		{"\\ud83d\\ude00\\udbff\\udfff", "\xf0\x9f\x98\x80\xf4\x8f\xbf\xbf", 8},
		{"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", 9},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		char line[256];
		struct log_entry en;
		snprintf(line, sizeof(line), "{\"log\":\"%s\"" REST, cases[i].json);
		assert_true(parse(line, &en));
		assert_int_equal(en.len, cases[i].len);
		assert_memory_equal(en.data, cases[i].want, en.len);
		assert_int_equal(en.time_ns, 1577836800000000001);
		assert_int_equal(en.stream, 0);
		log_entry_done(&en);
	}
}

static void other_writers_may_have_another_order_and_white_space(void **state)
{
	struct log_entry en;

	assert_true(parse(
		"{ \"time\" : \"2020-01-01T00:00:00Z\",\t\"attrs\": {\"a b\":\"c,d\", \"\\u00e9\" :\"\"} ,"
		"\"stream\":\"stderr\",\"log\":\"x\" }",
		&en));
	assert_string_equal(en.details, "a+b=c%2Cd,%C3%A9=");
	assert_int_equal(en.stream, 1);
	assert_int_equal(en.len, 1);
	assert_true(en.whole);
	log_entry_done(&en);
	assert_true(parse("{\"b64\":\"AP8=\",\"attrs\":{}" REST, &en));
	assert_string_equal(en.details, "");
	assert_int_equal(en.len, 2);
	assert_memory_equal(en.data, "\0\xff", 2);
	log_entry_done(&en);
}

static void what_is_none_is_refused(void **state)
{
	static const char *const cases[] = {
		"{}",
		"{\"log\":\"no end" REST,
		"{\"log\":\"raw\x01"
		"control\"" REST,
		"{\"log\":\"\\x\"" REST,
		"{\"log\":\"\\u12g4\"" REST,
		"{\"log\":\"\\ud800\"" REST,
		"{\"log\":\"\\ud800\\u0041\"" REST,
		"{\"log\":\"\\udc00\\ud800\"" REST,
		"{\"log\":\"\xc3\"" REST,
		"{\"log\":\"\xed\xa0\x80\"" REST,
		"{\"log\":null" REST,
		"{\"log\":\"twice\",\"log\":\"x\"" REST,
		"{\"log\":\"x\",\"b64\":\"AP8=\"" REST,
		"{\"b64\":\"AP8\"" REST,
		"{\"log\":\"x\",\"attrs\":{\"a\":1}" REST,
		"{\"log\":\"x\",\"attrs\":{\"a\":\"b\",}" REST,
		"{\"log\":\"x\",\"attrs\":[]" REST,
		"{\"log\":\"x\",\"attrs\":{},\"attrs\":{}" REST,
		"{\"log\":\"x\",\"more\":\"x\"" REST,
		"{\"log\":\"x\"" REST "}",
		"{\"log\":\"x\",\"stream\":\"stdout\",\"time\":\"today\"}",
		"{\"log\":\"x\",\"stream\":\"stdout\",\"time\":\"2020-01-01T00:00:00Z\\u0000\"}",
		"{\"log\":\"x\",\"stream\":\"stdout\",\"time\":\"2020-01-01T00:00:00."
		"000000000000000000000Z\"}",
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct log_entry en;
		if (parse(cases[i], &en))
			fail_msg("understood: %s", cases[i]);
	}
}

/* Every beginning of one, from memory that ends with it: nothing behind is read. */
static void what_is_cut_off_is_none(void **state)
{
	static const char line[] =
		"{\"log\":\"\\ud83d\\ude00\xf0\x9f\x98\x80\\n\",\"attrs\":{\"a\":\"b\"}" REST;

	for (size_t n = 0; n < sizeof(line) - 1; n++) {
		struct log_entry en;
		char *copy = malloc(n + 1);
		assert_non_null(copy);
		memcpy(copy + 1, line, n);
		assert_false(log_entry_parse(copy + 1, n, true, &en));
		free(copy);
	}
}

static uint32_t next_random(uint32_t *seed)
{
	return *seed = *seed * 1664525u + 1013904223u;
}

/* Whether a general reader finds the same; what it refuses, is refused by us too. */
static void compare(const char *line, size_t len)
{
	struct log_entry en;
	json_t *j = json_loadb(line, len, JSON_ALLOW_NUL, NULL);

	if (log_entry_parse(line, len, false, &en)) {
		json_t *text = json_object_get(j, "log"), *b64 = json_object_get(j, "b64");
		const char *want = json_string_value(text ? text : b64);
		assert_non_null(want);
		if (text) {
			assert_int_equal(json_string_length(text), en.len);
			assert_memory_equal(want, en.data, en.len);
		}
		assert_string_equal(json_string_value(json_object_get(j, "time")), en.time);
		log_entry_done(&en);
	}
	json_decref(j);
}

static void a_general_reader_finds_the_same(void **state)
{
	static const char line[] =
		"{\"log\":\"a\\n\\u00e9\\ud83d\\ude00\xc3\xa9\\\"\\\\\",\"attrs\":{\"a\":\"b\"}" REST;
	static const char bytes[] = "\"\\u,:{}[]0adnxDF \t\x01\x80\xc3\xe2\xf0";
	uint32_t seed = 1;

	compare(line, sizeof(line) - 1);
	for (int i = 0; i < 20000; i++) {
		char copy[sizeof(line)];
		memcpy(copy, line, sizeof(line));
		for (uint32_t n = next_random(&seed) >> 30; n < 4; n++)
			copy[(next_random(&seed) >> 8) % (sizeof(line) - 1)] =
				bytes[(next_random(&seed) >> 8) % (sizeof(bytes) - 1)];
		compare(copy, sizeof(line) - 1);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(strings_are_what_json_says),
		cmocka_unit_test(other_writers_may_have_another_order_and_white_space),
		cmocka_unit_test(what_is_none_is_refused),
		cmocka_unit_test(what_is_cut_off_is_none),
		cmocka_unit_test(a_general_reader_finds_the_same),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
