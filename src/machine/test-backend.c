/* SPDX-License-Identifier: MIT */
/* The kvm backend's side of the control socket, with scripts for the monitor: what a monitor can do to its supervisor. */
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/io.h"
#include "machine/machine.h"
#include "vmm/protocol.h"

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

/* ---- network ---- */

static unsigned gone, gone_links;

static void on_gone(void *data, unsigned link)
{
	gone++;
	gone_links |= 1u << link;
}

static void on_gone_free(void *data, unsigned link)
{
	on_gone(data, link);
	machine_free(m);
	m = NULL;
}

/* A monitor in Python that has `send` and `take`, which gives operation, sequence, argument and descriptors. */
static void put_python(const char *body)
{
	char text[4096];

	snprintf(text, sizeof(text),
		"#!/usr/bin/python3\n"
		"import socket, struct, sys, time\n"
		"PAUSE, CONNECT, GONE = %d, %d, %d\n"
		"s = socket.socket(fileno=%d)\n"
		"def send(op, seq=0, result=0, link=0):\n"
		"    s.send(struct.pack('IIiII', op, seq, result, 0, link).ljust(%zu, b'\\0'))\n"
		"def take():\n"
		"    data, fds, _, _ = socket.recv_fds(s, 64, 4)\n"
		"    return struct.unpack('IIQ', data) + (fds,)\n"
		"%s\ntime.sleep(1000)\n",
		VMM_PAUSE, VMM_NET_CONNECT, VMM_NET_GONE, VMM_FD_CONTROL, sizeof(struct vmm_reply), body);
	put_monitor(text);
}

static void add_net(void)
{
	conf.net = (struct machine_net){.present = true, .mac = {2, 0, 0, 0xff, 0, 1}, .mtu = 1500};
	gone = gone_links = 0;
}

static void the_monitor_inherits_the_links_peers(void **state)
{
	int first[2], second[2];
	char byte;
	struct stat st;

	put_python("print(sys.argv[1:], flush=True)\n"
		   "for fd, c in ((8, b'a'), (9, b'b')):\n"
		   "    socket.socket(fileno=fd).send(c)\n");
	add_net();
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, first), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, second), 0);
	conf.net.fds[0] = first[1];
	conf.net.fds[7] = second[1];
	start();
	assert_int_equal(recv(first[0], &byte, 1, 0), 1);
	assert_int_equal(byte, 'a');
	assert_int_equal(recv(second[0], &byte, 1, 0), 1);
	assert_int_equal(byte, 'b');
	assert_int_equal(fstat(first[1], &st), 0); /* borrowed */
	CLEANUP_FREE char *said = NULL;
	assert_int_equal(io_read_file_at(AT_FDCWD, file, 4096, &said, NULL), 0);
	assert_non_null(strstr(said, "'--net=02:00:00:ff:00:01,1500,129'"));
	for (int i = 0; i < 2; i++) {
		close(first[i]);
		close(second[i]);
	}
}

static void links_are_given_and_taken_away(void **state)
{
	int pair[2];
	char text[16] = "";

	/* Two at once, of different links, answered in the other order; then one without a descriptor. */
	put_python("_, a, link, fds = take()\n"
		   "_, b, link2, fds2 = take()\n"
		   "send(CONNECT, b, 0)\n"
		   "send(CONNECT, a, -106)\n"
		   "_, c, link3, fds3 = take()\n"
		   "text = '%d%d%d%d%d%d' % (link, link2, link3, len(fds), len(fds2), len(fds3))\n"
		   "socket.socket(fileno=fds2[0]).send(text.encode())\n"
		   "send(CONNECT, c, 0)\n");
	add_net();
	start();
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(machine_net_connect(m, 1, dup(pair[1]), on_done, NULL), 0);
	assert_int_equal(machine_net_connect(m, 1, dup(pair[1]), on_done, NULL), -EBUSY);
	assert_int_equal(machine_net_connect(m, 2, pair[1], on_done, NULL), 0);
	turn_until(2);
	assert_int_equal(last_result, -EISCONN);
	assert_int_equal(machine_net_connect(m, 4, -1, on_done, NULL), 0);
	turn_until(3);
	assert_int_equal(last_result, 0);
	assert_true(recv(pair[0], text, sizeof(text) - 1, 0) > 0);
	assert_string_equal(text, "124110");
	assert_int_equal(recv(pair[0], text, 1, MSG_DONTWAIT),
		-1); /* no end of ours is open any more, the monitor's is */
	assert_int_equal(errno, EAGAIN);
	close(pair[0]);
	assert_int_equal(machine_net_connect(m, MACHINE_LINKS_MAX, -1, on_done, NULL), -EINVAL);
}

/* It may say so whenever it likes: believed it is once for each connection. */
static void a_link_goes_once(void **state)
{
	int pair[2];

	put_python("for link in (0, 0, 1, 5, 5, 8, 31, 32, 0xffffffff):\n"
		   "    send(GONE, link=link)\n"
		   "_, seq, _, fds = take()\n"
		   "send(GONE, link=1)\n" /* of the one before */
		   "send(CONNECT, seq)\n"
		   "_, seq, _, _ = take()\n"
		   "send(GONE, link=1)\n"
		   "send(GONE, link=1)\n"
		   "send(PAUSE, seq)\n");
	add_net();
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	conf.net.fds[0] = pair[1];
	conf.net.fds[5] = pair[1];
	start();
	machine_net_on_gone(m, on_gone, NULL);
	assert_int_equal(machine_net_connect(m, 1, dup(pair[1]), on_done, NULL), 0);
	turn_until(1);
	assert_int_equal(last_result, 0);
	assert_int_equal(gone, 2);
	assert_int_equal(gone_links, 1 << 0 | 1 << 5);
	assert_int_equal(machine_pause(m, on_done, NULL), 0);
	turn_until(2);
	assert_int_equal(gone, 3);
	assert_int_equal(gone_links, 1 << 0 | 1 << 1 | 1 << 5);
	close(pair[0]);
	close(pair[1]);
}

static void a_link_that_goes_may_take_the_machine_along(void **state)
{
	int pair[2];

	put_python("send(GONE, link=0)\nsend(GONE, link=1)\n");
	add_net();
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	conf.net.fds[0] = conf.net.fds[1] = pair[1];
	start();
	machine_net_on_gone(m, on_gone_free, NULL);
	for (uint64_t until = time_mono_ns() + LIMIT_MS * 1000000ull; m;) {
		assert_true(time_mono_ns() < until);
		assert_int_equal(loop_turn(loop, 100), 0);
	}
	assert_int_equal(gone, 1);
	close(pair[0]);
	close(pair[1]);
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
		TEST(the_monitor_inherits_the_links_peers),
		TEST(links_are_given_and_taken_away),
		TEST(a_link_goes_once),
		TEST(a_link_that_goes_may_take_the_machine_along),
		TEST(a_missing_monitor_is_named_with_a_hint),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
