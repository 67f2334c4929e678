/* SPDX-License-Identifier: MIT */
/* Connections that are carried into the box: to services of this test on the loopback. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include "base/io.h"
#include "forward.h"
#include "server.h"

#define LIMIT_NS   60000000000ull
#define BIG	   (8u << 20)
#define WAIT_MS	   60000
#define PATTERN(i) ((uint8_t)((i)*7 + ((i) >> 16)))

static struct loop *loop;
static struct server *server;
static struct spawn_box box;

static int setup(void **state)
{
	box = (struct spawn_box){
		.cgroup = -1, .devpts = -1, .self_pidfd = -1, .main_pidfd = -1, .bare = true};
	box.prepared = (struct spawn_prepared){0, -1, -1, -1};
	assert_int_equal(loop_new(&loop), 0);
	assert_int_equal(server_new(loop, &box, NULL, NULL, &server), 0);
	return 0;
}

static int teardown(void **state)
{
	server_free(TAKE_PTR(server));
	loop_free(TAKE_PTR(loop));
	return 0;
}

/* A service on one of the two loopback addresses. */
static int listen_on(bool six, uint16_t *ret_port)
{
	struct sockaddr_in6 a6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	struct sockaddr_in a4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr *a = six ? (struct sockaddr *)&a6 : (struct sockaddr *)&a4;
	socklen_t len = six ? sizeof(a6) : sizeof(a4);
	int fd = socket(a->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, a, len) < 0 || listen(fd, 1024) < 0) {
		close_fd(&fd);
		return -1;
	}
	assert_int_equal(getsockname(fd, a, &len), 0);
	*ret_port = ntohs(six ? a6.sin6_port : a4.sin_port);
	return fd;
}

/* The answer's frame type; what follows it stays in the socket. */
static uint8_t ask(int *ret_fd, const char *address, uint16_t port, char **ret_why)
{
	struct wire_forward to = {.address = (char *)(uintptr_t)address, .port = port};
	CLEANUP(buf_done) struct buf out = {0}, in = {0};
	uint64_t deadline = time_mono_ns() + LIMIT_NS;
	struct wire_frame f;
	uint32_t status;
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
	assert_int_equal(server_add(server, fds[1]), 0);
	assert_int_equal(wire_put_forward(&out, &to), 0);
	assert_int_equal(send(fds[0], buf_data(&out), out.len, 0), (ssize_t)out.len);
	while (wire_next(&in, &f) == 0) {
		uint8_t byte;
		ssize_t n = recv(fds[0], &byte, 1, 0);

		assert_true(time_mono_ns() < deadline);
		assert_int_not_equal(n, 0);
		if (n > 0)
			assert_int_equal(buf_append(&in, &byte, 1), 0);
		else
			assert_int_equal(loop_turn(loop, 10), 0);
	}
	if (f.type == WIRE_FAIL && ret_why)
		assert_int_equal(wire_get_fail(&f, &status, ret_why), 0);
	*ret_fd = fds[0];
	assert_int_equal(io_set_nonblock(fds[0], false), 0);
	return f.type;
}

static void run_down(void)
{
	for (int i = 0; i < 6000 && server_has_processes(server); i++)
		assert_int_equal(loop_turn(loop, 10), 0);
	assert_false(server_has_processes(server));
	assert_false(server_has_sessions(server));
}

/* Writes BIG bytes to `to` and its end, reads from `from` to the end, both as it goes: how many were as they should be. */
static size_t pump(int to, int from)
{
	static uint8_t chunk[100000];
	size_t sent = 0, got = 0;
	bool over = false;

	while (!over) {
		struct pollfd p[2] = {
			{.fd = sent < BIG ? to : -1, .events = POLLOUT}, {.fd = from, .events = POLLIN}};

		assert_true(poll(p, 2, WAIT_MS) > 0);
		if (p[0].revents) {
			size_t n = MIN_OF(sizeof(chunk), BIG - sent);
			for (size_t i = 0; i < n; i++)
				chunk[i] = PATTERN(sent + i);
			ssize_t w = send(to, chunk, n, MSG_DONTWAIT | MSG_NOSIGNAL);
			assert_true(w > 0);
			sent += (size_t)w;
			if (sent == BIG)
				assert_int_equal(shutdown(to, SHUT_WR), 0);
		}
		if (p[1].revents) {
			ssize_t r = recv(from, chunk, sizeof(chunk), 0);
			assert_true(r >= 0);
			for (ssize_t i = 0; i < r; i++)
				assert_int_equal(chunk[i], PATTERN(got + (size_t)i));
			got += (size_t)r;
			over = r == 0;
		}
	}
	return got;
}

static void test_both_ways(void **state)
{
	CLEANUP_CLOSE int host = -1;
	uint16_t port = 0;
	CLEANUP_CLOSE int service = listen_on(false, &port);

	assert_true(service >= 0);
	assert_int_equal(ask(&host, NULL, port, NULL), WIRE_DONE);
	CLEANUP_CLOSE int peer = accept(service, NULL, NULL);
	/* Each direction in full, then its end; the other one goes on. */
	assert_int_equal(pump(host, peer), BIG);
	assert_int_equal(pump(peer, host), BIG);
	run_down();
}

/* The service says its piece and closes, whatever there was to read: it is heard to the end. */
static void test_unread(void **state)
{
	static uint8_t chunk[60000];
	CLEANUP_CLOSE int host = -1;
	uint16_t port = 0;
	CLEANUP_CLOSE int service = listen_on(false, &port);
	size_t got = 0;
	ssize_t n;

	assert_int_equal(ask(&host, "127.0.0.1", port, NULL), WIRE_DONE);
	CLEANUP_CLOSE int peer = accept(service, NULL, NULL);
	assert_int_equal(send(host, "x", 1, 0), 1);
	struct pollfd p = {.fd = peer, .events = POLLIN};
	assert_int_equal(poll(&p, 1, WAIT_MS), 1);
	assert_int_equal(send(peer, chunk, sizeof(chunk), 0), (ssize_t)sizeof(chunk));
	close_fd(&peer);
	while ((n = recv(host, chunk, sizeof(chunk), 0)) > 0)
		got += (size_t)n;
	assert_int_equal(got, sizeof(chunk));
	close_fd(&host);
	run_down();
}

static void test_host_goes(void **state)
{
	CLEANUP_CLOSE int host = -1;
	uint16_t port = 0;
	CLEANUP_CLOSE int service = listen_on(false, &port);
	char byte;

	assert_int_equal(ask(&host, NULL, port, NULL), WIRE_DONE);
	CLEANUP_CLOSE int peer = accept(service, NULL, NULL);
	close_fd(&host);
	/* A service that never says anything does not keep the process. */
	assert_int_equal(recv(peer, &byte, 1, 0), 0);
	run_down();
}

static void test_refused(void **state)
{
	CLEANUP_CLOSE int host = -1;
	CLEANUP_FREE char *why = NULL;
	CLEANUP_FREE char *bad = NULL;
	uint16_t port = 0;
	int service = listen_on(false, &port);

	close_fd(&service);
	assert_int_equal(ask(&host, NULL, port, &why), WIRE_FAIL);
	assert_string_equal(why, "Connection refused");
	close_fd(&host);
	assert_int_equal(ask(&host, "localhost", port, &bad), WIRE_FAIL);
	assert_string_equal(bad, "Invalid argument");
	run_down();
}

static void test_six(void **state)
{
	CLEANUP_CLOSE int host = -1;
	uint16_t port = 0;
	CLEANUP_CLOSE int service = listen_on(true, &port);

	if (service < 0)
		skip(); /* no IPv6 here */
	assert_int_equal(ask(&host, NULL, port, NULL), WIRE_DONE);
	close_fd(&host);
	assert_int_equal(ask(&host, "::1", port, NULL), WIRE_DONE);
	close_fd(&host);
	run_down();
}

static void test_no_more_than(void **state)
{
	static int hosts[FORWARD_MAX + 1];
	CLEANUP_FREE char *why = NULL;
	uint16_t port = 0;
	CLEANUP_CLOSE int service = listen_on(false, &port);

	assert_true(service >= 0);
	for (size_t i = 0; i < FORWARD_MAX; i++)
		assert_int_equal(ask(&hosts[i], NULL, port, NULL), WIRE_DONE);
	assert_int_equal(ask(&hosts[FORWARD_MAX], NULL, port, &why), WIRE_FAIL);
	assert_string_equal(why, "too many connections at once");
	for (size_t i = 0; i < ARRAY_LEN(hosts); i++)
		close_fd(&hosts[i]);
	run_down();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_both_ways, setup, teardown),
		cmocka_unit_test_setup_teardown(test_unread, setup, teardown),
		cmocka_unit_test_setup_teardown(test_host_goes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_six, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_more_than, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
