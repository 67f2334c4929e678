/* SPDX-License-Identifier: MIT */
/* The line that a user reads: its context, its limits, and that names chosen by others cannot drive the terminal. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"

static void setting_an_error_returns_its_code_and_clears_the_hint(void **state)
{
	struct err e = {0};

	assert_int_equal(err_set(&e, -EPERM, "no %s", "way"), -EPERM);
	assert_int_equal(e.code, -EPERM);
	assert_string_equal(e.msg, "no way");
	assert_int_equal(err_hint(&e, "try %d", 2), -EPERM);
	assert_string_equal(e.hint, "try 2");
	err_set(&e, -EIO, "other");
	assert_string_equal(e.hint, "");
}

static void a_system_error_says_why(void **state)
{
	struct err e = {0};

	assert_int_equal(err_sys(&e, -ENOENT, "open %s", "/x"), -ENOENT);
	assert_string_equal(e.msg, "open /x: No such file or directory");
}

static void each_layer_prefixes_its_context_and_keeps_code_and_hint(void **state)
{
	struct err e = {0};

	err_set(&e, -EIO, "inner");
	err_hint(&e, "help");
	assert_int_equal(err_wrap(&e, "middle %d", 1), -EIO);
	assert_int_equal(err_wrap(&e, "outer"), -EIO);
	assert_string_equal(e.msg, "outer: middle 1: inner");
	assert_string_equal(e.hint, "help");
}

static void an_absent_error_object_is_ignored(void **state)
{
	assert_int_equal(err_set(NULL, -EIO, "x"), -EIO);
	assert_int_equal(err_sys(NULL, -EIO, "x"), -EIO);
	assert_int_equal(err_wrap(NULL, "x"), 0);
	assert_int_equal(err_hint(NULL, "x"), -EINVAL);
	assert_int_equal(err_oom(NULL), -ENOMEM);
}

static void a_message_may_be_made_from_itself(void **state)
{
	struct err e = {0};

	err_set(&e, -EIO, "first");
	err_set(&e, -EIO, "<%s>", e.msg);
	assert_string_equal(e.msg, "<first>");
	err_sys(&e, -EIO, "%s", e.msg);
	assert_string_equal(e.msg, "<first>: Input/output error");
}

static void text_that_does_not_fit_is_cut_and_terminated(void **state)
{
	struct err e;
	char big[3 * ERR_MSG_MAX];

	memset(&e, 'z', sizeof(e));
	memset(big, 'a', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	err_set(&e, -EIO, "%s", big);
	assert_int_equal(strlen(e.msg), ERR_MSG_MAX - 1);
	err_set(&e, -EIO, "end");
	err_wrap(&e, "%s", big);
	assert_int_equal(strlen(e.msg), ERR_MSG_MAX - 1);
	err_hint(&e, "%s", big);
	assert_int_equal(strlen(e.hint), sizeof(e.hint) - 1);
}

static void the_reason_of_a_system_error_is_kept_however_long_its_context(void **state)
{
	static const char why[] = ": Input/output error";
	struct err e;
	char big[2 * ERR_MSG_MAX];

	memset(big, 'a', sizeof(big) - 1);
	for (size_t len = ERR_MSG_MAX - 40; len < sizeof(big); len++) {
		big[len] = '\0';
		err_sys(&e, -EIO, "%s", big);
		size_t n = strlen(e.msg);
		assert_true(n < ERR_MSG_MAX && n >= ERR_MSG_MAX - 40);
		assert_string_equal(e.msg + n - strlen(why), why);
		big[len] = 'a';
	}
}

static const struct {
	const char *in, *want;
} escapes[] = {
	{"plain text", "plain text"}, {"", ""}, {"a\nb\tc\r", "a\\x0ab\\x09c\\x0d"},
	{"\033[31mred\a\b", "\\x1b[31mred\\x07\\x08"}, {"\001\037\177", "\\x01\\x1f\\x7f"},
	{"gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x98\x80",
		"gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x98\x80"},
	{"\xc2\x80\xc2\x9b\xc2\x9f",
		"\\xc2\\x80\\xc2\\x9b\\xc2\\x9f"}, /* C1 controls: CSI in one character */
	{"\xc2\xa0", "\xc2\xa0"},		   /* the first after them */
	{"\xe2\x80\xaa\xe2\x80\xae", "\\xe2\\x80\\xaa\\xe2\\x80\\xae"}, /* LRE, RLO */
	{"\xe2\x81\xa6\xe2\x81\xa9", "\\xe2\\x81\\xa6\\xe2\\x81\\xa9"}, /* LRI, PDI */
	{"\xe2\x80\xa8\xe2\x80\xa9", "\\xe2\\x80\\xa8\\xe2\\x80\\xa9"}, /* line and paragraph separator */
	{"\xe2\x80\xaf", "\xe2\x80\xaf"},				/* narrow no-break space: harmless */
	{"\x80\xbf\xff\xfe", "\\x80\\xbf\\xff\\xfe"},			/* never valid */
	{"\xc0\x80\xc1\xbf", "\\xc0\\x80\\xc1\\xbf"},			/* overlong */
	{"\xe0\x80\xaf\xf0\x80\x80\xaf", "\\xe0\\x80\\xaf\\xf0\\x80\\x80\\xaf"},
	{"\xed\xa0\x80", "\\xed\\xa0\\x80"},	      /* surrogate */
	{"\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80"}, /* beyond U+10FFFF */
	{"\xc3", "\\xc3"},			      /* cut at the end */
	{"\xe2\x82", "\\xe2\\x82"}, {"\xf0\x9f\x98", "\\xf0\\x9f\\x98"},
	{"\xc3(", "\\xc3("}, /* the byte behind a broken sequence is read again */
};

static void whatever_could_drive_a_terminal_is_escaped(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(escapes); i++) {
		char out[128];
		text_escape(out, sizeof(out), escapes[i].in);
		assert_string_equal(out, escapes[i].want);
	}
}

static void escaping_never_writes_beyond_the_buffer_nor_cuts_a_character(void **state)
{
	static const char src[] = "ab\xe2\x82\xac\033z";
	static const char *const want[] = {"", "", "a", "ab", "ab", "ab", "ab\xe2\x82\xac", "ab\xe2\x82\xac",
		"ab\xe2\x82\xac", "ab\xe2\x82\xac", "ab\xe2\x82\xac\\x1b", "ab\xe2\x82\xac\\x1bz"};

	for (size_t size = 0; size < ARRAY_LEN(want); size++) {
		char out[32];
		memset(out, '#', sizeof(out));
		text_escape(out, size, src);
		if (size)
			assert_string_equal(out, want[size]);
		for (size_t i = size; i < sizeof(out); i++)
			assert_int_equal(out[i], '#');
	}
}

/* What err_print writes to standard error. */
static void printed(const struct err *e, char *dst, size_t size)
{
	int fds[2], saved = dup(STDERR_FILENO);

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	assert_true(dup2(fds[1], STDERR_FILENO) >= 0);
	err_print("prog", e);
	assert_true(dup2(saved, STDERR_FILENO) >= 0);
	close(saved);
	close(fds[1]);
	ssize_t n = read(fds[0], dst, size - 1);
	assert_true(n >= 0);
	dst[n] = '\0';
	assert_int_equal(read(fds[0], dst + n, 1), 0); /* one write took it all */
	close(fds[0]);
}

static void an_error_is_printed_as_one_escaped_line(void **state)
{
	struct err e = {0};
	char line[16384];

	err_set(&e, -EIO, "bad name \"\033]0;x\a\"");
	printed(&e, line, sizeof(line));
	assert_string_equal(line, "prog: bad name \"\\x1b]0;x\\x07\"\n");
	err_hint(&e, "rename\nit");
	printed(&e, line, sizeof(line));
	assert_string_equal(line, "prog: bad name \"\\x1b]0;x\\x07\" (rename\\x0ait)\n");
}

static void the_longest_error_is_still_one_whole_line(void **state)
{
	struct err e = {.code = -EIO};
	char line[16384];

	memset(e.msg, '\001', sizeof(e.msg) - 1);
	memset(e.hint, '\002', sizeof(e.hint) - 1);
	printed(&e, line, sizeof(line));
	assert_int_equal(line[strlen(line) - 1], '\n');
	assert_non_null(strstr(line, "\\x01 (\\x02"));
}

static void an_error_without_text_says_what_its_code_means(void **state)
{
	struct err e = {.code = -EACCES};
	char line[256];

	printed(&e, line, sizeof(line));
	assert_string_equal(line, "prog: Permission denied\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(setting_an_error_returns_its_code_and_clears_the_hint),
		cmocka_unit_test(a_system_error_says_why),
		cmocka_unit_test(each_layer_prefixes_its_context_and_keeps_code_and_hint),
		cmocka_unit_test(an_absent_error_object_is_ignored),
		cmocka_unit_test(a_message_may_be_made_from_itself),
		cmocka_unit_test(text_that_does_not_fit_is_cut_and_terminated),
		cmocka_unit_test(the_reason_of_a_system_error_is_kept_however_long_its_context),
		cmocka_unit_test(whatever_could_drive_a_terminal_is_escaped),
		cmocka_unit_test(escaping_never_writes_beyond_the_buffer_nor_cuts_a_character),
		cmocka_unit_test(an_error_is_printed_as_one_escaped_line),
		cmocka_unit_test(the_longest_error_is_still_one_whole_line),
		cmocka_unit_test(an_error_without_text_says_what_its_code_means),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
