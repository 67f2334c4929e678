/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "signals.h"

#define STATUS(blk, ign, cgt) "Name:\tx\nSigBlk:\t" blk "\nSigIgn:\t" ign "\nSigCgt:\t" cgt "\nCapInh:\t0\n"
#define NONE		      "0000000000000000"

static void test_default_when_no_set_has_it(void **state)
{
	assert_true(signals_default_action(STATUS(NONE, NONE, NONE), SIGTERM));
	assert_true(signals_default_action(STATUS(NONE, NONE, NONE), SIGRTMAX));
	assert_true(signals_default_action(
		STATUS("0000000000002000", NONE, NONE), SIGTERM)); /* bit 13: SIGALRM */
}

static void test_not_default_when_any_set_has_it(void **state)
{
	assert_false(signals_default_action(STATUS("0000000000004000", NONE, NONE), SIGTERM));
	assert_false(signals_default_action(STATUS(NONE, "0000000000004000", NONE), SIGTERM));
	assert_false(signals_default_action(STATUS(NONE, NONE, "0000000000004000"), SIGTERM));
	assert_false(signals_default_action(STATUS(NONE, NONE, "8000000000000000"), 64));
}

static void test_unknown_text_is_never_default(void **state)
{
	assert_false(signals_default_action("", SIGTERM));
	assert_false(signals_default_action("\nSigBlk:\t" NONE "\n", SIGTERM));
	assert_false(signals_default_action(STATUS("12", NONE, NONE), SIGTERM));
	assert_false(signals_default_action(STATUS("zz00000000000000", NONE, NONE), SIGTERM));
}

static void test_real_process(void **state)
{
	CLEANUP_FREE char *before = NULL;
	CLEANUP_FREE char *after = NULL;

	signal(SIGUSR1, SIG_DFL);
	assert_int_equal(io_read_file_at(-1, "/proc/self/status", 65536, &before, NULL), 0);
	const char *caught = strstr(before, "\nSigCgt:\t");
	assert_non_null(caught);
	if (strtoull(caught + 9, NULL, 16) & 1 << (SIGUSR2 - 1)) { /* which nobody here has asked for */
		print_message("an emulator catches this program's signals\n");
		skip();
	}
	assert_true(signals_default_action(before, SIGUSR1));
	signal(SIGUSR1, SIG_IGN);
	assert_int_equal(io_read_file_at(-1, "/proc/self/status", 65536, &after, NULL), 0);
	assert_false(signals_default_action(after, SIGUSR1));
	signal(SIGUSR1, SIG_DFL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_default_when_no_set_has_it),
		cmocka_unit_test(test_not_default_when_any_set_has_it),
		cmocka_unit_test(test_unknown_text_is_never_default),
		cmocka_unit_test(test_real_process),
	};

	return cmocka_run_group_tests_name("guest-signals", tests, NULL, NULL);
}
