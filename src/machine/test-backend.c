/* SPDX-License-Identifier: MIT */
/* The kvm backend's side of the control socket, with scripts for the monitor: what a monitor can do to its supervisor. */
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/io.h"
#include "machine/machine.h"

enum { LIMIT_MS = 30000 };

static char top[64], monitor[128], file[128];
static int dir = -1, logs = -1;
static struct loop *loop;
static struct machine_config conf;
static struct machine *m;
static int answers, last_result;

static void put_monitor(const char *text)
{
	assert_int_equal(io_write_file_at(dir, "monitor", text, strlen(text), 0700), 0);
}

static int set_up(void **state)
{
	strcpy(top, "/tmp/test-backend-XXXXXX");
	if (!mkdtemp(top) || loop_new(&loop) < 0)
		return -1;
	dir = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	snprintf(monitor, sizeof(monitor), "%s/monitor", top);
	snprintf(file, sizeof(file), "%s/file", top);
	logs = open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	conf = (struct machine_config){.kernel = file,
		.initrd = file,
		.monitor = monitor,
		.vcpus = 1,
		.mem_bytes = 128 << 20,
		.accel = ACCEL_KVM,
		.vsock_dirfd = dir,
		.hold_fd = dir,
		.console_fd = logs,
		.log_fd = logs,
		.restore_state_fd = -1,
		.restore_mem_fd = -1};
	answers = 0;
	return dir < 0 || logs < 0 ? -1 : 0;
}

static int tear_down(void **state)
{
	machine_free(m);
	m = NULL;
	loop_free(TAKE_PTR(loop));
	close_fd(&dir);
	close_fd(&logs);
	return io_remove_tree_at(AT_FDCWD, top);
}

static void start(void)
{
	struct err e = {0};

	if (machine_start(loop, &conf, &m, &e) < 0)
		fail_msg("%s", e.msg);
}

static void on_done(void *data, int result)
{
	answers++;
	last_result = result;
}

static void on_done_free(void *data, int result)
{
	on_done(data, result);
	machine_free(m);
	m = NULL;
}

static void turn_until(int wanted)
{
	for (uint64_t until = time_mono_ns() + LIMIT_MS * 1000000ull; answers < wanted;) {
		assert_true(time_mono_ns() < until);
		assert_int_equal(loop_turn(loop, 100), 0);
	}
}

static void one_request_of_a_kind_at_a_time(void **state)
{
	put_monitor("#!/bin/sh\nexec sleep 1000\n");
	start();
	assert_int_equal(machine_pause(m, on_done, NULL), 0);
	assert_int_equal(machine_pause(m, on_done, NULL), -EBUSY);
	assert_int_equal(machine_resume(m, on_done, NULL), 0); /* another kind */
	machine_kill(m);
	assert_int_equal(machine_pause(m, on_done, NULL), -ESRCH);
	turn_until(2);
	assert_int_equal(last_result, -ESRCH);
}

static void requests_under_way_are_answered_when_the_monitor_dies(void **state)
{
	put_monitor("#!/bin/sh\nexec sleep 1000\n");
	start();
	assert_int_equal(machine_pause(m, on_done, NULL), 0);
	assert_int_equal(machine_balloon(m, 0, on_done, NULL), 0);
	assert_int_equal(kill(machine_pid(m), SIGKILL), 0);
	turn_until(2);
	assert_int_equal(last_result, -ESRCH);
}

/* Under a sanitizer this shows what is touched afterwards. */
static void an_answer_may_free_the_machine(void **state)
{
	put_monitor("#!/bin/sh\nexec sleep 1000\n");
	start();
	assert_int_equal(machine_pause(m, on_done, NULL), 0);
	assert_int_equal(machine_resume(m, on_done_free, NULL), 0);
	assert_int_equal(machine_balloon(m, 0, on_done, NULL), 0);
	assert_int_equal(kill(machine_pid(m), SIGKILL), 0);
	turn_until(2); /* pause and resume; the rest went with the machine */
	for (int i = 0; i < 5; i++)
		assert_int_equal(loop_turn(loop, 10), 0);
	assert_int_equal(answers, 2);
	assert_null(m);
}

static void what_is_no_answer_ends_the_conversation(void **state)
{
	struct machine_status status;

	put_monitor("#!/bin/sh\nprintf nonsense >&3\nexec sleep 1000\n");
	start();
	assert_int_equal(machine_pause(m, on_done, NULL), 0);
	turn_until(1);
	assert_int_equal(last_result, -ESRCH);
	assert_int_equal(machine_pause(m, on_done, NULL), -ESRCH);
	assert_false(machine_status(m, &status));
}

static void a_missing_monitor_is_named_with_a_hint(void **state)
{
	struct err e = {0};

	assert_int_equal(machine_start(loop, &conf, &m, &e), -ENOENT);
	assert_non_null(strstr(e.msg, monitor));
	assert_true(e.hint[0]);
	assert_null(m);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(one_request_of_a_kind_at_a_time),
		TEST(requests_under_way_are_answered_when_the_monitor_dies),
		TEST(an_answer_may_free_the_machine),
		TEST(what_is_no_answer_ends_the_conversation),
		TEST(a_missing_monitor_is_named_with_a_hint),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
