/* SPDX-License-Identifier: MIT */
#include "base/units.h"

#include <ctype.h>
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/cleanup.h"

/* Takes decimal digits off *s. Returns 0, -EINVAL for none, -ERANGE. */
static int take_digits(const char **s, uint64_t *ret)
{
	uint64_t v = 0;
	const char *p = *s;

	if (!isdigit((unsigned char)*p))
		return -EINVAL;
	for (; isdigit((unsigned char)*p); p++) {
		if (__builtin_mul_overflow(v, (uint64_t)10, &v) ||
			__builtin_add_overflow(v, (uint64_t)(*p - '0'), &v))
			return -ERANGE;
	}
	*s = p;
	*ret = v;
	return 0;
}

int parse_u64(const char *s, uint64_t max, uint64_t *ret)
{
	uint64_t v;
	int r = take_digits(&s, &v);
	if (r < 0)
		return r;
	if (*s)
		return -EINVAL;
	if (v > max)
		return -ERANGE;
	*ret = v;
	return 0;
}

int parse_port(const char *s, size_t len, uint16_t *ret)
{
	uint32_t v = 0;

	if (len == 0 || len > 5)
		return -EINVAL;
	for (size_t i = 0; i < len; i++) {
		if (!isdigit((unsigned char)s[i]))
			return -EINVAL;
		v = v * 10 + (uint32_t)(s[i] - '0');
	}
	if (v > 65535)
		return -ERANGE;
	*ret = (uint16_t)v;
	return 0;
}

int parse_port_range(const char *s, size_t len, uint16_t *ret_from, uint16_t *ret_to)
{
	const char *dash = memchr(s, '-', len);
	size_t first = dash ? (size_t)(dash - s) : len;
	uint16_t from, to;

	int r = parse_port(s, first, &from);
	to = from;
	if (r == 0 && dash)
		r = parse_port(dash + 1, len - first - 1, &to);
	if (r < 0)
		return r;
	if (from > to)
		return -EINVAL;
	*ret_from = from;
	*ret_to = to;
	return 0;
}

/*
 * Takes "12" or "12.34" off *s as value * unit, truncated. Digits of the fraction beyond what fits are ignored.
 */
static int take_scaled(const char **s, uint64_t unit_of_number(const char **), uint64_t *ret)
{
	uint64_t whole, frac = 0, scale = 1;
	int r = take_digits(s, &whole);
	if (r < 0)
		return r;
	if (**s == '.') {
		(*s)++;
		if (!isdigit((unsigned char)**s))
			return -EINVAL;
		for (; isdigit((unsigned char)**s); (*s)++) {
			if (scale < 1000000000) {
				frac = frac * 10 + (uint64_t)(**s - '0');
				scale *= 10;
			}
		}
	}
	uint64_t unit = unit_of_number(s);
	if (unit == 0)
		return -EINVAL;
	unsigned __int128 v = (unsigned __int128)whole * unit + (unsigned __int128)frac * unit / scale;
	if (v > UINT64_MAX)
		return -ERANGE;
	*ret = (uint64_t)v;
	return 0;
}

static uint64_t size_unit(const char **s)
{
	static const char letters[] = "bkmgtp";
	uint64_t unit = 1;

	if (**s == '\0')
		return 1;
	const char *at = strchr(letters, tolower((unsigned char)**s));
	if (!at)
		return 0;
	unit <<= 10 * (at - letters);
	(*s)++;
	if (unit > 1) { /* "k", "kb", "kib" are the same, as in Docker */
		if (tolower((unsigned char)**s) == 'i' && tolower((unsigned char)(*s)[1]) == 'b')
			*s += 2;
		else if (tolower((unsigned char)**s) == 'b')
			(*s)++;
	}
	return unit;
}

int parse_size(const char *s, uint64_t *ret_bytes)
{
	uint64_t v;
	int r = take_scaled(&s, size_unit, &v);
	if (r < 0)
		return r;
	if (*s)
		return -EINVAL;
	*ret_bytes = v;
	return 0;
}

static uint64_t duration_unit(const char **s)
{
	static const struct {
		const char *name;
		uint64_t ns;
	} units[] = {{"ns", 1}, {"us", 1000}, {"ms", 1000000}, {"s", 1000000000}, {"m", 60000000000},
		{"h", 3600000000000}};

	if (**s == '\0')
		return 1000000000;
	for (size_t i = 0; i < ARRAY_LEN(units); i++) {
		size_t n = strlen(units[i].name);
		if (strncmp(*s, units[i].name, n) == 0 && !isalpha((unsigned char)(*s)[n])) {
			*s += n;
			return units[i].ns;
		}
	}
	return 0;
}

int parse_duration_ns(const char *s, uint64_t *ret_ns)
{
	uint64_t sum = 0;

	do {
		uint64_t part;
		int r = take_scaled(&s, duration_unit, &part);
		if (r < 0)
			return r;
		if (__builtin_add_overflow(sum, part, &sum))
			return -ERANGE;
	} while (*s);
	*ret_ns = sum;
	return 0;
}

/* Takes exactly `width` digits and then `sep` (unless '\0') off *s, a number from min to max. */
static bool take_part(const char **s, char sep, int width, int min, int max, int *ret)
{
	const char *p = *s;
	int v = 0;

	for (int i = 0; i < width; i++, p++) {
		if (!isdigit((unsigned char)*p))
			return false;
		v = v * 10 + (*p - '0');
	}
	if (v < min || v > max || (sep && *p++ != sep))
		return false;
	*s = p;
	*ret = v;
	return true;
}

/* Takes ".5" off *s, when there is one, as nanoseconds. Digits beyond the ninth are ignored. */
static bool take_fraction(const char **s, int64_t *ret_ns)
{
	int64_t unit = 100000000;

	*ret_ns = 0;
	if (**s != '.')
		return true;
	if (!isdigit((unsigned char)*++*s))
		return false;
	for (; isdigit((unsigned char)**s); (*s)++, unit /= 10)
		*ret_ns += (**s - '0') * unit;
	return true;
}

/* What follows date and time: "", "Z", "+02:00". */
static bool take_zone(const char **s, bool *ret_local, int *ret_offset_s)
{
	int h = 0, m = 0;

	*ret_local = **s == '\0';
	*ret_offset_s = 0;
	if (**s == 'Z' || **s == 'z') {
		(*s)++;
	} else if (**s == '+' || **s == '-') {
		int sign = *(*s)++ == '-' ? -1 : 1;
		if (!take_part(s, ':', 2, 0, 23, &h) || !take_part(s, '\0', 2, 0, 59, &m))
			return false;
		*ret_offset_s = sign * (h * 3600 + m * 60);
	}
	return **s == '\0';
}

static bool is_leap(int year)
{
	return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
}

/* Seconds since the epoch of a date in UTC, from 1970 on; timegm takes several times as long, for each line of a log. */
static int64_t utc_seconds(const struct tm *tm)
{
	static const int before[] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334};
	int year = tm->tm_year + 1900, last = year - 1;
	/* 477 leap days are before 1970. */
	int days = (year - 1970) * 365 + last / 4 - last / 100 + last / 400 - 477 + before[tm->tm_mon] +
		   (is_leap(year) && tm->tm_mon > 1) + tm->tm_mday - 1;

	return ((days * 24ll + tm->tm_hour) * 60 + tm->tm_min) * 60 + tm->tm_sec;
}

static bool day_exists(const struct tm *tm)
{
	static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};

	return tm->tm_mday <= days[tm->tm_mon] + (tm->tm_mon == 1 && is_leap(tm->tm_year + 1900));
}

static int parse_date_ns(const char *s, int64_t *ret_ns)
{
	struct tm tm = {.tm_isdst = -1, .tm_mday = 1};
	bool local;
	int offset_s, year, month;
	int64_t ns = 0;

	if (!take_part(&s, '-', 4, 1970, 2261, &year) || !take_part(&s, '-', 2, 1, 12, &month) ||
		!take_part(&s, '\0', 2, 1, 31, &tm.tm_mday))
		return -EINVAL;
	tm.tm_year = year - 1900;
	tm.tm_mon = month - 1;
	if (*s == 'T' || *s == 't' || *s == ' ') {
		s++;
		if (!take_part(&s, '\0', 2, 0, 23, &tm.tm_hour))
			return -EINVAL;
		if (*s == ':' && (s++, !take_part(&s, '\0', 2, 0, 59, &tm.tm_min)))
			return -EINVAL;
		if (*s == ':' && (s++, !take_part(&s, '\0', 2, 0, 60, &tm.tm_sec) || !take_fraction(&s, &ns)))
			return -EINVAL;
	}
	if (!take_zone(&s, &local, &offset_s) || !day_exists(&tm))
		return -EINVAL;
	int64_t t = local ? (int64_t)mktime(&tm) : utc_seconds(&tm);
	*ret_ns = ((int64_t)t - offset_s) * 1000000000 + ns;
	return 0;
}

int parse_time_ns(const char *s, int64_t now_ns, int64_t *ret_ns)
{
	const char *p = s;
	uint64_t n;
	int64_t ns;

	if (strlen(s) > 4 && s[4] == '-')
		return parse_date_ns(s, ret_ns);
	if (take_digits(&p, &n) == 0 && take_fraction(&p, &ns) && *p == '\0') {
		if (n > INT64_MAX / 1000000000 - 1)
			return -ERANGE;
		*ret_ns = (int64_t)n * 1000000000 + ns;
		return 0;
	}
	int r = parse_duration_ns(s, &n);
	if (r < 0)
		return r;
	if (now_ns < 0 || n > (uint64_t)now_ns)
		return -ERANGE;
	*ret_ns = now_ns - (int64_t)n;
	return 0;
}

int parse_signal(const char *s, int *ret)
{
	uint64_t v;

	if (isdigit((unsigned char)*s)) {
		int r = parse_u64(s, (uint64_t)SIGRTMAX, &v);
		if (r < 0 || v == 0)
			return r < 0 ? r : -ERANGE;
		*ret = (int)v;
		return 0;
	}
	if (strncasecmp(s, "SIG", 3) == 0)
		s += 3;
	for (int sig = 1; sig < SIGRTMIN; sig++) {
		const char *name = sigabbrev_np(sig);
		if (name && strcasecmp(name, s) == 0) {
			*ret = sig;
			return 0;
		}
	}
	if (strncasecmp(s, "RTMIN", 5) == 0) {
		v = 0;
		int r = s[5] == '\0'  ? 0
			: s[5] == '+' ? parse_u64(s + 6, (uint64_t)(SIGRTMAX - SIGRTMIN), &v)
				      : -EINVAL;
		if (r < 0)
			return r;
		*ret = SIGRTMIN + (int)v;
		return 0;
	}
	return -EINVAL;
}

char *format_size(char *buf, size_t size, uint64_t bytes)
{
	static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
	double v = (double)bytes;
	size_t u = 0;

	while (v >= 1000.0 && u + 1 < ARRAY_LEN(units)) {
		v /= 1000.0;
		u++;
	}
	/* Docker prints three significant digits at most, without trailing zeros: 4.19MB, 614MB, 1.5GB. */
	snprintf(buf, size, "%.3g%s", v, units[u]);
	if (v >= 1000.0 || (v >= 999.5 && u + 1 < ARRAY_LEN(units)))
		snprintf(buf, size, "%.0f%s", v, units[u]);
	return buf;
}

char *format_duration_human(char *buf, size_t size, int64_t ns)
{
	int64_t s = ns / 1000000000,
		h = (s + 1800) / 3600; /* Docker rounds hours, and days and longer follow from them */

	if (s < 1)
		snprintf(buf, size, "Less than a second");
	else if (s == 1)
		snprintf(buf, size, "1 second");
	else if (s < 60)
		snprintf(buf, size, "%lld seconds", (long long)s);
	else if (s < 120)
		snprintf(buf, size, "About a minute");
	else if (s < 3600)
		snprintf(buf, size, "%lld minutes", (long long)(s / 60));
	else if (s / 60 < 90)
		snprintf(buf, size, "About an hour");
	else if (h < 48)
		snprintf(buf, size, "%lld hours", (long long)h);
	else if (h < 24 * 14)
		snprintf(buf, size, "%lld days", (long long)(h / 24));
	else if (h < 24 * 60)
		snprintf(buf, size, "%lld weeks", (long long)(h / 24 / 7));
	else if (h < 24 * 365 * 2)
		snprintf(buf, size, "%lld months", (long long)(h / 24 / 30));
	else
		snprintf(buf, size, "%lld years", (long long)(s / 86400 / 365));
	return buf;
}

char *format_time_rfc3339(char *buf, size_t size, int64_t real_ns)
{
	int64_t sec = real_ns / 1000000000, frac = real_ns % 1000000000;
	if (frac < 0) {
		frac += 1000000000;
		sec--;
	}
	time_t t = (time_t)sec;
	struct tm tm;
	char date[32];
	if (!gmtime_r(&t, &tm) || strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &tm) == 0)
		snprintf(date, sizeof(date), "0001-01-01T00:00:00");
	snprintf(buf, size, "%s.%09lldZ", date, (long long)frac);
	return buf;
}
