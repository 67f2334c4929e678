/* SPDX-License-Identifier: MIT */
#include "registry/headers.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#define VALUE_MAX 16384

char *oci_header_value(const char *line, size_t n, const char *name)
{
	size_t k = strlen(name);

	if (n <= k || strncasecmp(line, name, k) != 0 || line[k] != ':')
		return NULL;
	const char *p = line + k + 1, *end = line + n;
	while (p < end && (*p == ' ' || *p == '\t'))
		p++;
	while (end > p && (end[-1] == '\r' || end[-1] == '\n' || end[-1] == ' ' || end[-1] == '\t'))
		end--;
	if (end - p >= VALUE_MAX || memchr(p, '\0', (size_t)(end - p)))
		return NULL;
	return strndup(p, (size_t)(end - p));
}

/* Decimal digits at *p. */
static bool take_number(const char **p, uint64_t *ret)
{
	uint64_t v = 0;

	if (**p < '0' || **p > '9')
		return false;
	for (; **p >= '0' && **p <= '9'; (*p)++)
		if (__builtin_mul_overflow(v, 10u, &v) ||
			__builtin_add_overflow(v, (unsigned)(**p - '0'), &v))
			return false;
	*ret = v;
	return true;
}

bool oci_header_content_range(const char *value, uint64_t *ret_first, uint64_t *ret_last)
{
	const char *p = value;
	uint64_t first, last, total;

	if (strncasecmp(p, "bytes ", 6) != 0)
		return false;
	p += 6;
	if (!take_number(&p, &first) || *p++ != '-' || !take_number(&p, &last) || *p++ != '/' || last < first)
		return false;
	if (*p == '*')
		p++;
	else if (!take_number(&p, &total) || last >= total)
		return false;
	if (*p)
		return false;
	*ret_first = first;
	*ret_last = last;
	return true;
}

bool oci_header_upload_range(const char *value, uint64_t *ret_last)
{
	const char *p = value;
	uint64_t first, last;

	if (strncasecmp(p, "bytes=", 6) == 0)
		p += 6;
	if (!take_number(&p, &first) || first != 0 || *p++ != '-' || !take_number(&p, &last) || *p)
		return false;
	*ret_last = last;
	return true;
}

static int64_t from_date(const char *value, int64_t now_s)
{
	struct tm tm = {0};
	/* Only the form that is allowed to be sent: "Sun, 06 Nov 1994 08:49:37 GMT". The language of dates is always C's. */
	const char *end = strlen(value) == 29 ? strptime(value, "%a, %d %b %Y %H:%M:%S GMT", &tm) : NULL;

	if (!end || *end || tm.tm_year < 70)
		return -1;
	time_t t = timegm(&tm);
	return t > now_s ? t - now_s : 0;
}

int64_t oci_header_retry_after(const char *value, int64_t now_s)
{
	const char *p = value;
	uint64_t seconds;

	if (*p < '0' || *p > '9')
		return from_date(value, now_s);
	if (!take_number(&p, &seconds) || *p || seconds > INT_MAX)
		return -1;
	return (int64_t)seconds;
}

/* The end of one parameter's value, quoted or not. */
static const char *skip_value(const char *p)
{
	if (*p != '"')
		return p + strcspn(p, ";,");
	for (p++; *p && *p != '"'; p++)
		if (*p == '\\' && p[1])
			p++;
	return *p ? p + 1 : p;
}

static bool is_next(const char *value, const char *end)
{
	if (end - value >= 2 && *value == '"') {
		value++;
		end--;
	}
	/* a list of relations, separated by spaces */
	for (const char *p = value; p < end; p++) {
		size_t n = strcspn(p, " ");
		n = n > (size_t)(end - p) ? (size_t)(end - p) : n;
		if (n == 4 && strncasecmp(p, "next", 4) == 0)
			return true;
		p += n;
	}
	return false;
}

char *oci_header_link_next(const char *value)
{
	const char *p = value;

	for (;;) {
		p += strspn(p, " \t,");
		if (*p != '<')
			return NULL;
		const char *url = ++p, *url_end = url + strcspn(url, ">");
		if (*url_end != '>')
			return NULL;
		bool next = false;
		for (p = url_end + 1, p += strspn(p, " \t"); *p == ';'; p += strspn(p, " \t")) {
			p++;
			p += strspn(p, " \t");
			bool rel = strncasecmp(p, "rel", 3) == 0;
			p += strcspn(p, "=;,");
			if (*p != '=')
				continue;
			const char *v = p + 1, *end = skip_value(v);
			next |= rel && is_next(v, end);
			p = end;
		}
		if (next)
			return strndup(url, (size_t)(url_end - url));
		if (*p != ',')
			return NULL;
	}
}
