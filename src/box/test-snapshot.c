/* SPDX-License-Identifier: MIT */
#include "test-home.h"

#include <signal.h>
#include <sys/wait.h>

#include "box/snapshot.h"
#include "test-steps.h"

static unsigned at_step;

static void die_there(unsigned step)
{
	if (step == at_step)
		kill(getpid(), SIGKILL);
}

static int make(const struct box *b)
{
	CLEANUP(box_snapshot_freep) struct box_snapshot *s = NULL;

	return box_snapshot_create(st, b, NULL, NULL, &s, &err);
}

/* Killed at each step of the first one's making: the way to the next one is on the disk. */
static void making_goes_on(void **state)
{
	CLEANUP_FREE char *id = make_idle_box("b1");
	CLEANUP(box_freep) struct box *b = NULL;
	int status = -1;

	expect(box_find(st, id, &b, &err), 0);
	for (at_step = 0; !WIFEXITED(status); at_step++) {
		pid_t pid = fork();
		if (pid == 0) {
			st = home_reopen();
			steps_watch(die_there);
			_exit(make(b) < 0);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		steps_watch(NULL);
		expect(make(b), 0);
		assert_true(steps_synced(st->home_fd, ".") && steps_synced(st->home_fd, "snapshots"));
	}
	assert_int_equal(WEXITSTATUS(status), 0);
	assert_true(at_step > 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		HOME_TEST(making_goes_on),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
