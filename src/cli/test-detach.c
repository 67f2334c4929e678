/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "detach.h"

static void assert_keys(const char *notation, const char *keys, size_t n)
{
	struct detach d;

	assert_int_equal(detach_parse(notation, &d, NULL), 0);
	assert_int_equal(d.n, n);
	assert_memory_equal(d.keys, keys, n);
	assert_int_equal(d.held, 0);
}

static void test_notation(void **state)
{
	assert_keys(NULL, "\x10\x11", 2);
	assert_keys("", "", 0);
	assert_keys("a", "a", 1);
	assert_keys("a,B, ,ctrl-z", "aB \x1a", 4);
	assert_keys("ctrl-@,ctrl-a,ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_", "\0\x01\x1b\x1c\x1d\x1e\x1f", 7);
	assert_keys("a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a", "aaaaaaaaaaaaaaaa", 16);
}

static void test_bad_notation(void **state)
{
	static const char *const bad[] = {",", "a,", ",a", "a,,b", "ab", "ctrl-", "ctrl-A", "ctrl-1",
		"ctrl-`", "ctrl-ab", "CTRL-a", "ctrl", "^P", "ctrl-p, ctrl-q",
		"a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a"};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct detach d = {.n = 77};
		struct err e = {0};
		if (detach_parse(bad[i], &d, &e) != -EINVAL)
			fail_msg("accepted: %s", bad[i]);
		assert_int_equal(d.n, 77); /* untouched */
		assert_non_null(strstr(e.msg, "--detach-keys"));
		assert_int_equal(detach_parse(bad[i], NULL, NULL), -EINVAL);
	}
}

/* Feeds `typed` whole and byte by byte; what comes out and whether it detached must be the same. */
static void assert_filter(
	const char *notation, const char *typed, const char *passed, bool detached, size_t held)
{
	for (int single = 0; single < 2; single++) {
		size_t n = strlen(typed), len = 0;
		uint8_t out[64 + DETACH_KEYS_MAX];
		struct detach d;
		bool done = false;

		assert_int_equal(detach_parse(notation, &d, NULL), 0);
		for (size_t at = 0, step = single ? 1 : n; at < n && !done; at += step)
			len += detach_filter(&d, (const uint8_t *)typed + at, step, out + len, &done);
		out[len] = '\0';
		assert_string_equal((char *)out, passed);
		assert_int_equal(done, detached);
		assert_int_equal(d.held, held);
	}
}

static void test_filter(void **state)
{
	assert_filter("a,b", "xyz", "xyz", false, 0);
	assert_filter("a,b", "xaby", "x", true, 0);
	assert_filter("a,b", "xa", "x", false, 1);
	assert_filter("a,b", "xaxb", "xaxb", false, 0);
	assert_filter("a,b", "aab", "a", true, 0); /* the second one begins it anew */
	assert_filter("a,b", "aaaa", "aaa", false, 1);
	assert_filter("a", "xya", "xy", true, 0);
	assert_filter("", "ab\x10\x11", "ab\x10\x11", false, 0);
	assert_filter("a,b,a,c", "ababac", "ab", true, 0);
	assert_filter("a,b,a,c", "abab", "ab", false, 2);
	assert_filter("a,a,b", "aaab", "a", true, 0);
	assert_filter("a,a,b", "aacaab", "aac", true, 0);
}

static void test_release(void **state)
{
	uint8_t out[2 + DETACH_KEYS_MAX];
	struct detach d;
	bool detached;

	assert_int_equal(detach_parse("a,b,c", &d, NULL), 0);
	assert_int_equal(detach_filter(&d, (const uint8_t *)"ab", 2, out, &detached), 0);
	assert_int_equal(detach_release(&d, out), 2);
	assert_memory_equal(out, "ab", 2);
	assert_int_equal(detach_release(&d, out), 0);
	assert_int_equal(detach_filter(&d, (const uint8_t *)"c", 1, out, &detached), 1);
	assert_false(detached);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_notation),
		cmocka_unit_test(test_bad_notation),
		cmocka_unit_test(test_filter),
		cmocka_unit_test(test_release),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
