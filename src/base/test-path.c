/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/path.h"

static void a_path_is_cleaned(void **state)
{
	static const struct {
		const char *given, *clean;
	} cases[] = {
		{"/", "/"},
		{"", "/"},
		{"//", "/"},
		{"/a", "/a"},
		{"/a/", "/a"},
		{"//a///b//", "/a/b"},
		{"/./a/./b/.", "/a/b"},
		{"/a/..", "/"},
		{"/..", "/"},
		{"/../../a", "/a"},
		{"/a/b/../../../c", "/c"},
		{"/a/b/../c", "/a/c"},
		{"/...", "/..."},
		{"/.a/..b/c.", "/.a/..b/c."},
		{"a", "/a"},
		{"a/../b", "/b"},
		{"./..", "/"},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char text[64];
		path_clean(text, cases[i].given);
		assert_string_equal(text, cases[i].clean);
		if (cases[i].given[0] != '/')
			continue;
		strcpy(text, cases[i].given);
		path_clean(text, text);
		assert_string_equal(text, cases[i].clean);
	}
}

static void components_are_appended(void **state)
{
	char path[32];
	size_t n = path_append(path, 0, "/a/b");

	n = path_append(path, n, "../c//d/.");
	assert_int_equal(n, 6);
	assert_memory_equal(path, "/a/c/d", 6);
	assert_int_equal(path_append(path, n, "../../../../"), 0);
	/* No more than was said is written. */
	memset(path, 'x', sizeof(path));
	assert_int_equal(path_append(path, 0, "ab/cd"), 6);
	assert_memory_equal(path, "/ab/cdxx", 8);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_path_is_cleaned),
		cmocka_unit_test(components_are_appended),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
