/* SPDX-License-Identifier: MIT */
/*
 * The session server with real processes but without a box: the other end of a socket pair plays the host.
 * Server and host share one thread; step() gives each a turn.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include "base/io.h"
#include "base/proc.h"
#include "server.h"

#define TIMEOUT_NS 60000000000ull

struct host {
	int fd;
	struct buf in, out;
	bool started, exited, failed, closed, mute; /* mute: does not read */
	uint32_t pid, status;
	char text[512];
	uint64_t credit, sent, to_send; /* bytes of STDIN: allowed in all, sent, wanted */
	uint64_t n_stdout, n_stderr;
	bool check, wrong, late; /* output is compared with the input; something came after EXIT */
	char tail[256];		 /* last bytes of standard output */
};

static struct loop *loop;
static struct server *server;
static struct spawn_box box;

static uint8_t pattern(uint64_t i)
{
	return (uint8_t)((i * 2654435761u) >> 13 ^ i >> 20);
}

/* QEMU's user-mode emulation, for one, has none. */
static void need_clone3(void)
{
	if (syscall(SYS_clone3, NULL, 0) < 0 && errno == ENOSYS) {
		print_message("there is no clone3 here\n");
		skip();
	}
}

static void host_open(struct host *h)
{
	int fds[2];

	*h = (struct host){.fd = -1};
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
	h->fd = fds[0];
	assert_int_equal(server_add(server, fds[1]), 0);
}

static void host_close(struct host *h)
{
	close_fd(&h->fd);
	buf_done(&h->in);
	buf_done(&h->out);
}

static void host_start(struct host *h, const struct wire_process *proto, const char *script)
{
	struct wire_process p = *proto;
	char *argv[] = {(char *)"sh", (char *)"-c", (char *)script, NULL},
	     *env[] = {(char *)"LC_ALL=C", NULL};

	need_clone3();
	host_open(h);
	p.argv = (struct strv){argv, 3};
	p.env = (struct strv){env, 1};
	assert_int_equal(wire_put_process(&h->out, &p), 0);
}

static void take_output(struct host *h, const struct wire_frame *f)
{
	size_t keep = sizeof(h->tail) - 1, old = strlen(h->tail), n = MIN_OF(f->len, keep), cut;

	for (uint32_t i = 0; h->check && i < f->len; i++)
		h->wrong |= f->payload[i] != pattern(h->n_stdout + i);
	h->n_stdout += f->len;
	if (h->check)
		return;
	cut = old + n > keep ? old + n - keep : 0;
	memmove(h->tail, h->tail + cut, old - cut);
	memcpy(h->tail + old - cut, f->payload + f->len - n, n);
	h->tail[old - cut + n] = '\0';
}

static void take_frame(struct host *h, const struct wire_frame *f)
{
	CLEANUP_FREE char *text = NULL;
	uint32_t v = 0;

	h->late |= h->exited;
	switch (f->type) {
	case WIRE_STARTED:
		h->started = true;
		assert_int_equal(wire_get_u32(f, &h->pid), 0);
		break;
	case WIRE_STDIN_CREDIT:
		assert_int_equal(wire_get_u32(f, &v), 0);
		h->credit += v;
		assert_true(h->credit <= h->sent + WIRE_STDIN_WINDOW);
		break;
	case WIRE_STDOUT:
		take_output(h, f);
		break;
	case WIRE_STDERR:
		h->n_stderr += f->len;
		break;
	case WIRE_EXIT:
		h->exited = true;
		assert_int_equal(wire_get_u32(f, &h->status), 0);
		break;
	case WIRE_FAIL:
		h->failed = true;
		assert_int_equal(wire_get_fail(f, &h->status, &text), 0);
		snprintf(h->text, sizeof(h->text), "%s", text);
		break;
	default:
		fail_msg("frame of type %u", f->type);
	}
}

static void host_step(struct host *h)
{
	struct wire_frame f;
	uint8_t data[WIRE_DATA_MAX];
	ssize_t n;

	while (h->fd >= 0 && h->sent < h->to_send && h->sent < h->credit && h->out.len < sizeof(data)) {
		size_t len = MIN_OF(MIN_OF(h->to_send, h->credit) - h->sent, sizeof(data));

		for (size_t i = 0; i < len; i++)
			data[i] = pattern(h->sent + i);
		assert_int_equal(wire_put(&h->out, WIRE_STDIN, data, len), 0);
		h->sent += len;
		if (h->sent == h->to_send)
			assert_int_equal(wire_put(&h->out, WIRE_STDIN_EOF, NULL, 0), 0);
	}
	while (h->fd >= 0 && h->out.len && (n = send(h->fd, buf_data(&h->out), h->out.len, MSG_NOSIGNAL)) > 0)
		buf_consume(&h->out, (size_t)n);
	while (h->fd >= 0 && !h->mute && !h->closed) {
		uint8_t *room = buf_reserve(&h->in, WIRE_DATA_MAX);

		assert_non_null(room);
		n = recv(h->fd, room, WIRE_DATA_MAX, 0);
		if (n <= 0) {
			h->closed = n == 0 || errno != EAGAIN;
			break;
		}
		buf_commit(&h->in, (size_t)n);
		while (wire_next(&h->in, &f) == 1) {
			take_frame(h, &f);
			wire_consume(&h->in, &f);
		}
	}
}

static void step(struct host *hosts, size_t n)
{
	assert_int_equal(loop_turn(loop, 1), 0);
	for (size_t i = 0; i < n; i++)
		host_step(&hosts[i]);
}

static void step_until(struct host *h, const bool *what)
{
	uint64_t end = time_mono_ns() + TIMEOUT_NS;

	while (!*what && time_mono_ns() < end)
		step(h, 1);
	assert_true(*what);
}

static void step_for(struct host *h, unsigned int ms)
{
	uint64_t end = time_mono_ns() + ms * 1000000ull;

	while (time_mono_ns() < end)
		step(h, 1);
}

static void finish(struct host *h, uint32_t status)
{
	step_until(h, &h->closed);
	assert_true(h->exited);
	assert_false(h->failed);
	assert_false(h->late);
	assert_int_equal(h->status, status);
	host_close(h);
}

static int setup(void **state)
{
	signal(SIGPIPE, SIG_IGN);
	box = (struct spawn_box){.cgroup = -1, .self_pidfd = -1, .main_pidfd = -1, .bare = true};
	box.prepared = (struct spawn_prepared){0, -1, -1, -1};
	/* On most hosts only root may open the first; where the second is a link, all may. */
	bool may = access("/dev/pts/ptmx", R_OK | W_OK) == 0;
	box.devpts = open(may ? "/dev/pts" : "/dev", O_PATH | O_DIRECTORY | O_CLOEXEC);
	return loop_new(&loop) < 0 || server_new(loop, &box, NULL, NULL, &server) < 0 ? -1 : 0;
}

static int teardown(void **state)
{
	server_stop(server);
	server_free(server);
	loop_free(loop);
	close_fd(&box.devpts);
	close_fd(&box.main_pidfd);
	return 0;
}

static const struct wire_process workload = {.main = true, .open_stdin = true};
static const struct wire_process no_stdin = {.main = true};

static void test_echo(void **state)
{
	struct host h;

	host_start(&h, &no_stdin, "echo out; echo err >&2; exit 7");
	finish(&h, 7);
	assert_string_equal(h.tail, "out\n");
	assert_int_equal(h.n_stderr, 4);
	assert_int_not_equal(h.pid, 0);
	assert_int_equal(h.credit, 0);
	assert_false(server_has_sessions(server));
}

static void test_cat(void **state)
{
	struct host h;

	host_start(&h, &workload, "exec cat");
	h.check = true;
	h.to_send = 64 << 20;
	finish(&h, 0);
	assert_int_equal(h.n_stdout, 64 << 20);
	assert_false(h.wrong);
}

static void test_signal_status(void **state)
{
	struct host h;

	host_start(&h, &workload, "echo ready; exec sleep 1000");
	step_until(&h, &h.started);
	step_for(&h, 50);
	assert_int_equal(wire_put_u32(&h.out, WIRE_SIGNAL, SIGTERM), 0);
	finish(&h, 128 + SIGTERM);
	assert_string_equal(h.tail, "ready\n");
}

static void test_not_found(void **state)
{
	struct host h;
	char *argv[] = {(char *)"no-such-program", NULL};
	struct wire_process p = {.main = true, .argv = {argv, 1}};

	need_clone3();
	host_open(&h);
	assert_int_equal(wire_put_process(&h.out, &p), 0);
	step_until(&h, &h.closed);
	assert_true(h.failed);
	assert_false(h.started);
	assert_int_equal(h.status, 127);
	assert_string_equal(h.text, "exec: \"no-such-program\": executable file not found in $PATH");
	host_close(&h);
	step_for(&h, 20);
	/* Not started, so the next attempt may. */
	host_start(&h, &no_stdin, "true");
	finish(&h, 0);
}

static void test_fails(void **state)
{
	struct wire_process p = no_stdin;
	struct host h;

	p.user = (char *)"no-such-user";
	host_start(&h, &p, "true");
	step_until(&h, &h.closed);
	assert_int_equal(h.status, 125);
	assert_string_equal(h.text, "unable to find user no-such-user: no matching entries in passwd file");
	host_close(&h);
	p = (struct wire_process){.main = false};
	host_start(&h, &p, "true");
	step_until(&h, &h.closed);
	assert_int_equal(h.status, 125);
	assert_string_equal(h.text, "box is not running");
	host_close(&h);
}

/* Input for a process that does not want it is accepted and credited all the same. */
static void test_stdin_ignored(void **state)
{
	struct host h;

	host_start(&h, &workload, "exec <&-; sleep 0.3; echo done");
	h.to_send = 4 << 20;
	finish(&h, 0);
	assert_int_equal(h.sent, 4 << 20);
	assert_string_equal(h.tail, "done\n");
}

static void test_stdin_waits(void **state)
{
	struct host h;

	host_start(&h, &workload, "sleep 0.3; wc -c");
	h.to_send = 2 << 20;
	step_until(&h, &h.started);
	step_for(&h, 150);
	/* The pipe has taken its part, the rest waits within the credit. */
	assert_true(h.sent < h.to_send);
	finish(&h, 0);
	assert_string_equal(h.tail, "2097152\n");
}

static void test_credit_violation(void **state)
{
	static uint8_t data[WIRE_DATA_MAX];
	struct host h;

	host_start(&h, &workload, "read x; read y; echo lost; exit 3");
	step_until(&h, &h.started);
	for (int i = 0; i < 10; i++)
		assert_int_equal(wire_put(&h.out, WIRE_STDIN, data, sizeof(data)), 0);
	h.to_send = h.sent = 10 * sizeof(data);
	step_until(&h, &h.closed);
	assert_false(h.exited);
	host_close(&h);
}

static void test_garbage(void **state)
{
	static const uint8_t bytes[] = {0xee, 0, 0, 0, 1, 0};
	struct host h;

	host_open(&h);
	assert_int_equal(buf_append(&h.out, bytes, sizeof(bytes)), 0);
	step_until(&h, &h.closed);
	host_close(&h);
	host_open(&h);
	assert_int_equal(wire_put(&h.out, WIRE_STDIN, "x", 1), 0);
	step_until(&h, &h.closed);
	host_close(&h);
	assert_false(server_has_sessions(server));
}

/* A host that does not read makes the process wait, and then nothing is missing. */
static void test_slow_host(void **state)
{
	struct host h;

	host_start(&h, &no_stdin, "head -c 8388608 /dev/zero; echo end");
	step_until(&h, &h.started);
	h.mute = true;
	step_for(&h, 300);
	assert_true(server_has_processes(server));
	h.mute = false;
	finish(&h, 0);
	assert_int_equal(h.n_stdout, 8388608 + 4);
}

/* Fast output right before the end: all of it comes before EXIT. */
static void test_complete(void **state)
{
	struct host h;

	for (int i = 0; i < 20; i++) {
		host_start(&h, &no_stdin, "head -c 200000 /dev/zero; echo end; head -c 100000 /dev/zero >&2");
		h.mute = i % 2;
		step_for(&h, 10);
		h.mute = false;
		finish(&h, 0);
		assert_int_equal(h.n_stdout, 200004);
		assert_int_equal(h.n_stderr, 100000);
		teardown(NULL);
		setup(NULL);
	}
}

/* The process runs on without its host, losing its input only. */
static void test_host_leaves(void **state)
{
	char dir[] = "/tmp/guest-session-XXXXXX", script[256];
	struct host h;

	assert_non_null(mkdtemp(dir));
	snprintf(script, sizeof(script), "cat >/dev/null; head -c 1000000 /dev/zero; touch %s/done", dir);
	host_start(&h, &workload, script);
	step_until(&h, &h.started);
	host_close(&h);
	for (int i = 0; i < 5000 && server_has_processes(server); i++)
		step_for(&h, 1);
	assert_false(server_has_sessions(server));
	snprintf(script, sizeof(script), "%s/done", dir);
	assert_int_equal(access(script, F_OK), 0);
	assert_int_equal(io_remove_tree_at(AT_FDCWD, dir), 0);
}

static void test_tty(void **state)
{
	struct wire_process p = {.main = true, .tty = true, .rows = 33, .cols = 101};
	struct host h;

	host_start(&h, &p, "stty size; tty >/dev/null && echo $TERM; read x; stty size; echo got $x; exit 5");
	step_until(&h, &h.started);
	while (!strstr(h.tail, "xterm"))
		step_for(&h, 5);
	assert_non_null(strstr(h.tail, "33 101\r\n"));
	assert_int_equal(wire_put_resize(&h.out, 44, 55), 0);
	assert_int_equal(wire_put(&h.out, WIRE_STDIN_EOF, NULL, 0), 0);
	step_for(&h, 50);
	assert_false(h.exited);
	host_close(&h); /* hang up: the shell dies of it */
	for (int i = 0; i < 5000 && server_has_processes(server); i++)
		step_for(&h, 1);
	assert_false(server_has_sessions(server));
}

/* A host that announces that it goes leaves the terminal behind, for the process to go on with. */
static void test_detach(void **state)
{
	struct wire_process p = {.main = true, .tty = true};
	char dir[] = "/tmp/guest-session-XXXXXX", script[256];
	struct host h;

	assert_non_null(mkdtemp(dir));
	snprintf(script, sizeof(script),
		"read x; trap 'exit 1' HUP; head -c 1000000 /dev/zero; sleep 0.2; tty >%s/tty", dir);
	host_start(&h, &p, script);
	step_until(&h, &h.started);
	assert_int_equal(wire_put(&h.out, WIRE_STDIN, "\n", 1), 0);
	assert_int_equal(wire_put(&h.out, WIRE_DETACH, NULL, 0), 0);
	while (h.out.len)
		step_for(&h, 1);
	host_close(&h);
	for (int i = 0; i < 5000 && server_has_processes(server); i++)
		step_for(&h, 1);
	assert_false(server_has_sessions(server));
	CLEANUP_FREE char *text = NULL;
	snprintf(script, sizeof(script), "%s/tty", dir);
	assert_int_equal(io_read_file_at(AT_FDCWD, script, 100, &text, NULL), 0);
	assert_int_equal(strncmp(text, "/dev/pts/", 9), 0);
	assert_int_equal(io_remove_tree_at(AT_FDCWD, dir), 0);
}

/* Who stays connected after DETACH gets no output, but the end. */
static void test_detached_end(void **state)
{
	struct wire_process p = {.main = true};
	struct host h;

	host_start(&h, &p, "head -c 1000000 /dev/zero; echo more >&2; exit 7");
	assert_int_equal(wire_put(&h.out, WIRE_DETACH, NULL, 0), 0);
	step_until(&h, &h.exited);
	assert_true(h.started);
	assert_int_equal(h.n_stdout + h.n_stderr, 0);
	assert_int_equal(h.status, 7);
	host_close(&h);
}

/* SIGNAL to the group reaches the process's children; who ignores it is killed when the process ends. */
static void test_group_signal(void **state)
{
	struct wire_process p = {.open_stdin = true};
	struct host w, h;
	int ignores;

	host_start(&w, &workload, "exec cat");
	step_until(&w, &w.started);
	host_start(&h, &p,
		"trap 'exit 9' TERM; sh -c 'trap \"\" TERM; echo pid $$; sleep 1000; sleep 1000' & wait");
	while (!strchr(h.tail, '\n'))
		step_for(&h, 5);
	assert_int_equal(sscanf(h.tail, "pid %d", &ignores), 1);
	assert_int_equal(kill(ignores, 0), 0);
	assert_int_equal(wire_put_u32(&h.out, WIRE_SIGNAL, SIGTERM | WIRE_SIGNAL_GROUP), 0);
	finish(&h, 9);
	for (int i = 0; i < 5000 && kill(ignores, 0) == 0; i++)
		step_for(&w, 1);
	assert_int_equal(kill(ignores, 0), -1);
	assert_int_equal(wire_put(&w.out, WIRE_STDIN_EOF, NULL, 0), 0);
	finish(&w, 0);
}

static void test_tty_input(void **state)
{
	struct wire_process p = {.main = true, .tty = true};
	struct host h;

	host_start(&h, &p, "read x; echo got $x; exit 5");
	step_until(&h, &h.started);
	assert_int_equal(wire_put(&h.out, WIRE_STDIN, "abc\n", 4), 0);
	finish(&h, 5);
	assert_non_null(strstr(h.tail, "got abc\r\n"));
}

/* A later process ends its session when it ends, whoever still holds its output. */
static void test_exec_background(void **state)
{
	struct wire_process p = {.open_stdin = true}, tty = {.tty = true};
	struct host w, h;
	uint64_t begin;

	host_start(&w, &workload, "exec cat");
	step_until(&w, &w.started);
	begin = time_mono_ns();
	host_start(&h, &p, "head -c 100000 /dev/zero; sleep 12 & echo x");
	finish(&h, 0);
	assert_int_equal(h.n_stdout, 100002);
	host_start(&h, &tty, "trap '' HUP; sleep 12 & echo x");
	finish(&h, 0);
	assert_string_equal(h.tail, "x\r\n");
	assert_true(time_mono_ns() - begin < 10000000000ull);
	assert_int_equal(wire_put(&w.out, WIRE_STDIN_EOF, NULL, 0), 0);
	finish(&w, 0);
}

static void test_many(void **state)
{
	enum { N = 200 };
	static struct host hosts[N + 1];
	struct wire_process p = {.open_stdin = true};
	uint64_t end = time_mono_ns() + TIMEOUT_NS;
	size_t done = 0;

	host_start(&hosts[N], &workload, "exec cat");
	step_until(&hosts[N], &hosts[N].started);
	for (int i = 0; i < N; i++) {
		host_start(&hosts[i], &p, "exec cat");
		hosts[i].check = true;
		hosts[i].to_send = 10000 + (uint64_t)i;
	}
	while (done < N && time_mono_ns() < end) {
		step(hosts, N + 1);
		done = 0;
		for (int i = 0; i < N; i++)
			done += hosts[i].closed;
	}
	for (int i = 0; i < N; i++) {
		assert_true(hosts[i].exited);
		assert_int_equal(hosts[i].status, 0);
		assert_int_equal(hosts[i].n_stdout, 10000 + i);
		assert_false(hosts[i].wrong);
		host_close(&hosts[i]);
	}
	assert_int_equal(wire_put(&hosts[N].out, WIRE_STDIN_EOF, NULL, 0), 0);
	finish(&hosts[N], 0);
}

/* A listening socket of the server; returns its address. It has no name in the file system. */
static struct sockaddr_un listen_here(void)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	socklen_t len = sizeof(addr);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(sa_family_t)), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&addr, &len), 0);
	assert_int_equal(listen(fd, 128), 0);
	assert_int_equal(server_listen(server, fd), 0);
	return addr;
}

static void host_connect(struct host *h, const struct sockaddr_un *addr)
{
	*h = (struct host){.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
	assert_true(h->fd >= 0);
	assert_int_equal(connect(h->fd, (const struct sockaddr *)addr, sizeof(sa_family_t) + 6), 0);
}

static void test_no_start_in_time(void **state)
{
	struct host h;

	server_set_start_timeout(server, 100000000);
	host_open(&h);
	step_for(&h, 30);
	assert_false(h.closed);
	step_until(&h, &h.closed);
	assert_false(h.failed);
	host_close(&h);
	/* It ends with START. */
	host_start(&h, &no_stdin, "sleep 0.3; echo x");
	finish(&h, 0);
	assert_string_equal(h.tail, "x\n");
}

/* Connections that say nothing are not even accepted beyond a number, and keep nobody out for long. */
static void test_many_without_start(void **state)
{
	enum { N = SERVER_NEW_MAX * 2 };
	static struct host hosts[N + 1];
	struct sockaddr_un addr = listen_here();
	uint64_t end = time_mono_ns() + TIMEOUT_NS;
	char *argv[] = {(char *)"true", NULL};
	struct wire_process p = no_stdin;
	size_t closed = 0;

	need_clone3();
	server_set_start_timeout(server, 200000000);
	for (int i = 0; i < N; i++)
		host_connect(&hosts[i], &addr);
	host_connect(&hosts[N], &addr);
	p.argv = (struct strv){argv, 1};
	assert_int_equal(wire_put_process(&hosts[N].out, &p), 0);
	while (!closed && time_mono_ns() < end) {
		step(hosts, N + 1);
		for (int i = 0; i < N; i++)
			closed += hosts[i].closed;
	}
	assert_in_range(closed, 1, SERVER_NEW_MAX);
	assert_false(hosts[N].started);
	while (!hosts[N].closed && time_mono_ns() < end)
		step(hosts, N + 1);
	assert_true(hosts[N].exited);
	for (int i = 0; i <= N; i++)
		host_close(&hosts[i]);
}

/* In a box only the host's address will do. */
static void test_strangers(void **state)
{
	struct sockaddr_un addr = listen_here();
	struct host h;

	box.bare = false;
	host_connect(&h, &addr);
	step_until(&h, &h.closed);
	assert_false(h.failed);
	host_close(&h);
	box.bare = true;
}

static void test_stop(void **state)
{
	struct host h;

	host_start(&h, &workload, "trap '' TERM; echo x; while :; do sleep 1; done");
	step_until(&h, &h.started);
	step_for(&h, 50);
	server_stop(server);
	finish(&h, 137);
	assert_false(server_has_processes(server));
	host_start(&h, &workload, "true");
	step_until(&h, &h.closed);
	assert_true(h.failed);
	host_close(&h);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	proc_raise_descriptor_limit(); /* hundreds of sessions at once, both ends of each */
	const struct CMUnitTest tests[] = {
		TEST(test_echo),
		TEST(test_cat),
		TEST(test_signal_status),
		TEST(test_not_found),
		TEST(test_fails),
		TEST(test_stdin_ignored),
		TEST(test_stdin_waits),
		TEST(test_credit_violation),
		TEST(test_garbage),
		TEST(test_slow_host),
		TEST(test_complete),
		TEST(test_host_leaves),
		TEST(test_tty),
		TEST(test_detach),
		TEST(test_detached_end),
		TEST(test_group_signal),
		TEST(test_tty_input),
		TEST(test_exec_background),
		TEST(test_many),
		TEST(test_no_start_in_time),
		TEST(test_many_without_start),
		TEST(test_strangers),
		TEST(test_stop),
	};

	return cmocka_run_group_tests_name("guest-session", tests, NULL, NULL);
}
