/* SPDX-License-Identifier: MIT */
/* Questions about the box: what the kernel's files say, and connections that ask. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>
#include <sys/socket.h>

#include "base/io.h"
#include "query.h"
#include "server.h"
#include "stats.h"
#include "tasks.h"

/* ---- the kernel's texts ---- */

static void test_stat_values(void **state)
{
	const char *text = "usage_usec 12\nuser_usec 5\nthrottled_usec 18446744073709551615\nx 1";

	assert_int_equal(stats_value(text, "usage_usec"), 12);
	assert_int_equal(stats_value(text, "user_usec"), 5);
	assert_int_equal(stats_value(text, "usec"), 0);
	assert_int_equal(stats_value(text, "user"), 0);
	assert_int_equal(stats_value(text, "x"), 1);
	assert_true(stats_value(text, "throttled_usec") == UINT64_MAX);
	assert_int_equal(stats_value("", "x"), 0);
}

static void test_io_and_net(void **state)
{
	uint64_t a, b;

	stats_parse_io("254:0 rbytes=10 wbytes=1 rios=5 wios=6 dbytes=0 dios=0\n254:16 rbytes=20 wbytes=2\n",
		&a, &b);
	assert_int_equal(a, 30);
	assert_int_equal(b, 3);
	stats_parse_io("", &a, &b);
	assert_int_equal(a + b, 0);
	stats_parse_net("Inter-|   Receive  |  Transmit\n face |bytes packets|bytes\n"
			"    lo: 100 1 0 0 0 0 0 0 200 1 0 0 0 0 0 0\n"
			"  eth0: 11 1 0 0 0 0 0 0 22 1 0 0 0 0 0 0\n"
			"  eth1: 5 1 0 0 0 0 0 0 6 1 0 0 0 0 0 0\n"
			"eth01:1 1 0 0 0 0 0 0 2 1 0 0 0 0 0 0\n",
		&a, &b);
	assert_int_equal(a, 11);
	assert_int_equal(b, 22);
	stats_parse_net("no line", &a, &b);
	assert_int_equal(a + b, 0);
}

#define REST " S 3 4 5 34817 6 7 8 9 10 11 100 50 14 15 20 -5 2 21 400 8192 3 22 23"

static void test_task_stat(void **state)
{
	struct wire_task t;

	assert_int_equal(tasks_parse_stat("12 (sh)" REST, &t), 0);
	assert_int_equal(t.pid, 12);
	assert_int_equal(t.ppid, 3);
	assert_int_equal(t.state, 'S');
	assert_int_equal(t.nice, -5);
	assert_int_equal(t.threads, 2);
	assert_true(t.cpu_ns == 1500000000);
	assert_true(t.start_ns == 4000000000);
	assert_int_equal(t.vsz, 8192);
	assert_int_equal(t.rss, 3 * sysconf(_SC_PAGESIZE));
	assert_string_equal(t.name, "sh");
	assert_string_equal(t.tty, "pts/1");
	free(t.name);
	free(t.tty);
	/* A name is what its process says: it may look like what follows it. */
	assert_int_equal(tasks_parse_stat("12 (a) R 1 (\n)" REST, &t), 0);
	assert_string_equal(t.name, "a) R 1 (\n");
	assert_int_equal(t.ppid, 3);
	free(t.name);
	free(t.tty);
	assert_int_equal(tasks_parse_stat("", &t), -EBADMSG);
	assert_int_equal(tasks_parse_stat("12 (sh", &t), -EBADMSG);
	assert_int_equal(tasks_parse_stat("12 )sh(", &t), -EBADMSG);
	assert_int_equal(tasks_parse_stat("12 (sh)", &t), -EBADMSG);
	assert_int_equal(tasks_parse_stat("12 (sh) S 1 2 3", &t), -EBADMSG);
}

static void test_task_status(void **state)
{
	const char *text = "Name:\tsh\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nNSpid:\t90\t12\t3\nX:\n";
	struct wire_task t = {0};

	assert_int_equal(tasks_parse_status(text, 1, &t), 0);
	assert_int_equal(t.pid, 12);
	assert_int_equal(t.uid, 2);
	assert_int_equal(t.gid, 6);
	assert_int_equal(tasks_parse_status(text, 0, &t), 0);
	assert_int_equal(t.pid, 90);
	assert_int_equal(tasks_parse_status(text, 2, &t), 0);
	assert_int_equal(t.pid, 3);
	assert_int_equal(tasks_parse_status(text, 3, &t), -ESRCH);
	assert_int_equal(tasks_parse_status("Name:\tsh\nUid:\t1\n", 0, &t), -EBADMSG);
	assert_true(tasks_parse_status("\nNSpid:\t1\nUid:\t1\nGid:\t1\t1", 0, &t) < 0);
	assert_int_equal(tasks_parse_status("", 0, &t), -EBADMSG);
}

static void test_tty_names(void **state)
{
	static const struct {
		uint64_t number;
		const char *name;
	} known[] = {{0, ""}, {136 << 8, "pts/0"}, {136 << 8 | 0x100000 | 2, "pts/258"},
		{137 << 8 | 1, "pts/257"}, {4 << 8 | 1, "tty1"}, {4 << 8 | 64, "ttyS0"}, {229 << 8, "hvc0"},
		{1 << 8, "?"}};

	for (size_t i = 0; i < ARRAY_LEN(known); i++) {
		char name[32];

		tasks_tty_name(known[i].number, name, sizeof(name));
		assert_string_equal(name, known[i].name);
	}
}

static void test_args(void **state)
{
	char args[] = "a\0b c\0\0d\0\0", empty[] = "\0\0";

	tasks_join_args(args, sizeof(args) - 1);
	assert_string_equal(args, "a b c  d");
	tasks_join_args(empty, 2);
	assert_string_equal(empty, "");
}

static void test_own_processes(void **state)
{
	CLEANUP_CLOSE int proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct wire_tasks tasks;
	bool found = false;

	assert_int_equal(tasks_collect(proc, 0, &tasks), 0);
	for (size_t i = 0; i < tasks.n; i++) {
		if (tasks.v[i].pid != (uint32_t)getpid())
			continue;
		found = true;
		assert_int_equal(tasks.v[i].ppid, getppid());
		assert_int_equal(tasks.v[i].uid, geteuid());
		assert_int_equal(tasks.v[i].gid, getegid());
		assert_true(tasks.v[i].rss > 0 && tasks.v[i].vsz >= tasks.v[i].rss);
		assert_non_null(strstr(tasks.v[i].args, "test-guest-query"));
	}
	assert_true(found || tasks.n == WIRE_TASKS_MAX);
	wire_tasks_done(&tasks);
}

/* ---- connections ---- */

static struct loop *loop;
static struct server *server;
static struct spawn_box box;
static char folder[64];

static int setup(void **state)
{
	static const char *const files[][2] = {{"cpu.weight", "100"}, {"cpu.max", "max 100000"},
		{"pids.max", "max"}, {"memory.swap.max", "max"}, {"memory.low", "0"},
		{"memory.max", "1000000"}, {"memory.current", "5000"}, {"pids.current", "7"}};

	snprintf(folder, sizeof(folder), "/tmp/a3s-test-query-XXXXXX");
	assert_non_null(mkdtemp(folder));
	box = (struct spawn_box){.devpts = -1, .self_pidfd = -1, .main_pidfd = -1, .bare = true};
	box.prepared = (struct spawn_prepared){0, -1, -1, -1};
	box.cgroup = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
	for (size_t i = 0; i < ARRAY_LEN(files); i++)
		assert_int_equal(
			io_write_file_at(box.cgroup, files[i][0], files[i][1], strlen(files[i][1]), 0600), 0);
	assert_int_equal(loop_new(&loop), 0);
	assert_int_equal(server_new(loop, &box, NULL, NULL, &server), 0);
	return 0;
}

static int teardown(void **state)
{
	server_free(TAKE_PTR(server));
	loop_free(TAKE_PTR(loop));
	close_fd(&box.cgroup);
	io_remove_tree_at(AT_FDCWD, folder);
	return 0;
}

static int open_connection(void)
{
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
	assert_int_equal(server_add(server, fds[1]), 0);
	return fds[0];
}

static void send_frame(int fd, struct buf *out)
{
	assert_int_equal(send(fd, buf_data(out), out->len, MSG_NOSIGNAL), (ssize_t)out->len);
	buf_consume(out, out->len);
}

/* The next frame, or type 0 at the end. */
static struct wire_frame receive(int fd, struct buf *in)
{
	uint64_t deadline = time_mono_ns() + 60000000000ull;
	struct wire_frame f = {0};

	while (wire_next(in, &f) == 0) {
		uint8_t *room = buf_reserve(in, 4096);
		ssize_t n = recv(fd, room, 4096, 0);

		assert_true(time_mono_ns() < deadline);
		if (n > 0)
			buf_commit(in, (size_t)n);
		else if (n == 0 || errno != EAGAIN)
			return (struct wire_frame){0};
		else
			assert_int_equal(loop_turn(loop, 10), 0);
	}
	return f;
}

static void run_down(void)
{
	for (int i = 0; i < 6000 && server_has_processes(server); i++)
		assert_int_equal(loop_turn(loop, 10), 0);
	assert_false(server_has_processes(server));
	assert_false(server_has_sessions(server));
}

static void test_several_questions(void **state)
{
	CLEANUP_CLOSE int fd = open_connection();
	CLEANUP(buf_done) struct buf in = {0};
	CLEANUP(buf_done) struct buf out = {0};
	struct wire_stats s;
	struct wire_frame f;

	/* Two at once, the second one cut: what was read with the first must not be lost. */
	assert_int_equal(wire_put(&out, WIRE_GET_STATS, NULL, 0), 0);
	assert_int_equal(wire_put(&out, WIRE_GET_STATS, NULL, 0), 0);
	assert_int_equal(send(fd, buf_data(&out), 8, 0), 8);
	buf_consume(&out, 8);
	for (int i = 0; i < 2; i++) {
		f = receive(fd, &in);
		assert_int_equal(f.type, WIRE_STATS);
		assert_int_equal(wire_get_stats(&f, &s), 0);
		assert_true(s.uptime_ns > 0 && s.cpus > 0);
		assert_int_equal(s.mem_usage, 5000);
		assert_int_equal(s.mem_limit, 1000000);
		assert_int_equal(s.pids, 7);
		assert_int_equal(s.pids_limit, 0);
		wire_consume(&in, &f);
		if (!i)
			send_frame(fd, &out);
	}
	close_fd(&fd);
	run_down();
}

static void test_update(void **state)
{
	CLEANUP_CLOSE int fd = open_connection();
	CLEANUP(buf_done) struct buf in = {0};
	CLEANUP(buf_done) struct buf out = {0};
	CLEANUP_FREE char *text = NULL;
	CLEANUP_FREE char *why = NULL;
	struct wire_limits l = {.pids_max = 44};
	struct wire_frame f;
	uint32_t status;

	assert_int_equal(wire_put_limits(&out, &l), 0);
	send_frame(fd, &out);
	f = receive(fd, &in);
	assert_int_equal(f.type, WIRE_DONE);
	wire_consume(&in, &f);
	assert_int_equal(io_read_file_at(box.cgroup, "pids.max", 100, &text, NULL), 0);
	assert_string_equal(text, "44");
	l.cpu_shares = 1;
	assert_int_equal(wire_put_limits(&out, &l), 0);
	send_frame(fd, &out);
	f = receive(fd, &in);
	assert_int_equal(f.type, WIRE_FAIL);
	assert_int_equal(wire_get_fail(&f, &status, &why), 0);
	assert_non_null(strstr(why, "CPU shares"));
	close_fd(&fd);
	run_down();
}

static void test_nonsense(void **state)
{
	CLEANUP_CLOSE int fd = open_connection();
	CLEANUP(buf_done) struct buf in = {0};
	CLEANUP(buf_done) struct buf out = {0};

	assert_int_equal(wire_put(&out, WIRE_UPDATE, "x", 1), 0);
	send_frame(fd, &out);
	assert_int_equal(receive(fd, &in).type, 0);
	run_down();
	/* A question is none of a process, and the other way round. */
	close_fd(&fd);
	fd = open_connection();
	assert_int_equal(wire_put(&out, WIRE_GET_STATS, NULL, 0), 0);
	assert_int_equal(wire_put(&out, WIRE_STDIN_EOF, NULL, 0), 0);
	send_frame(fd, &out);
	struct wire_frame f = receive(fd, &in);
	assert_int_equal(f.type, WIRE_STATS);
	wire_consume(&in, &f);
	assert_int_equal(receive(fd, &in).type, 0);
	run_down();
}

static void test_no_more_than(void **state)
{
	int fds[QUERY_MAX + 1];
	CLEANUP(buf_done) struct buf out = {0};

	for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
		CLEANUP(buf_done) struct buf in = {0};

		fds[i] = open_connection();
		assert_int_equal(wire_put(&out, WIRE_GET_STATS, NULL, 0), 0);
		send_frame(fds[i], &out);
		assert_int_equal(receive(fds[i], &in).type, i < QUERY_MAX ? WIRE_STATS : WIRE_FAIL);
	}
	/* What is open in one does not keep another one's connection open. */
	for (size_t i = 0; i < ARRAY_LEN(fds); i++)
		close_fd(&fds[i]);
	run_down();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_stat_values),
		cmocka_unit_test(test_io_and_net),
		cmocka_unit_test(test_task_stat),
		cmocka_unit_test(test_task_status),
		cmocka_unit_test(test_tty_names),
		cmocka_unit_test(test_args),
		cmocka_unit_test(test_own_processes),
		cmocka_unit_test_setup_teardown(test_several_questions, setup, teardown),
		cmocka_unit_test_setup_teardown(test_update, setup, teardown),
		cmocka_unit_test_setup_teardown(test_nonsense, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_more_than, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
