/* SPDX-License-Identifier: MIT */
/*
 * THEORY OF OPERATION
 *
 * Each connection is carried by a process of its own, a fork of PID 1 outside of the box, which has two descriptors and
 * ends with the connection (base/relay.h). The network namespace is the box's, so that 127.0.0.1 is the box's loopback.
 *
 * That the host has gone altogether, after the end of its direction, shows when something is written to it. With a
 * service that says nothing it would never show, so that is looked at from time to time.
 */
#include "forward.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "base/io.h"
#include "base/relay.h"

#define LOOK_MS 30000

static int wait_connected(int fd, uint64_t deadline_ns)
{
	struct pollfd p = {.fd = fd, .events = POLLOUT};
	socklen_t len = sizeof(int);
	int error = 0, n;

	do {
		uint64_t now = time_mono_ns();
		n = poll(&p, 1, now < deadline_ns ? (int)((deadline_ns - now) / 1000000 + 1) : 0);
	} while (n < 0 && errno == EINTR);
	if (n <= 0)
		return n < 0 ? -errno : -ETIMEDOUT;
	return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0 ? -errno : -error;
}

static int connect_to(const char *address, uint16_t port, uint64_t deadline_ns)
{
	struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons(port)};
	const struct sockaddr *to = (const struct sockaddr *)&four;
	socklen_t len = sizeof(four);

	if (inet_pton(AF_INET, address, &four.sin_addr) != 1) {
		if (inet_pton(AF_INET6, address, &six.sin6_addr) != 1)
			return -EINVAL;
		to = (const struct sockaddr *)&six;
		len = sizeof(six);
	}
	CLEANUP_CLOSE int fd = socket(to->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	int r = connect(fd, to, len) < 0 ? -errno : 0;
	if (r == -EINPROGRESS)
		r = wait_connected(fd, deadline_ns);
	return r < 0 ? r : TAKE_FD(fd);
}

static int connect_as_asked(const struct wire_forward *f)
{
	uint64_t deadline = time_mono_ns() + FORWARD_CONNECT_S * 1000000000ull;

	if (f->address)
		return connect_to(f->address, f->port, deadline);
	int fd = connect_to("127.0.0.1", f->port, deadline);
	int six = fd == -ECONNREFUSED ? connect_to("::1", f->port, deadline) : -1;
	return six >= 0 ? six : fd;
}

static void carry(struct relay *r)
{
	int more = 1;

	while (more > 0 && (!r->to[1].over || relay_is_heard(r))) {
		struct pollfd p[2];

		for (int i = 0; i < 2; i++) {
			short wants = (short)relay_wants(r, i);
			p[i] = (struct pollfd){.fd = wants ? r->fd[i] : -1, .events = wants};
		}
		if (poll(p, 2, r->to[1].over ? LOOK_MS : -1) < 0 && errno != EINTR)
			return;
		more = relay_move(r, (uint32_t[]){(uint16_t)p[0].revents, (uint16_t)p[1].revents});
	}
}

static int reply(int fd, int r)
{
	CLEANUP(buf_done) struct buf out = {0};
	int put = r < 0 ? wire_put_fail(&out, 125, strerror(-r)) : wire_put(&out, WIRE_DONE, NULL, 0);

	return put < 0 ? put : io_write_full(fd, buf_data(&out), out.len);
}

static _Noreturn void run(int fd, struct buf *in)
{
	static struct relay r;
	struct wire_frame f;
	struct wire_forward to;

	/* Everything else that PID 1 has open would stay open with us. */
	if (fd != 3 && dup3(fd, 3, O_CLOEXEC) < 0)
		_exit(1);
	fd = 3;
	close_range(4, ~0U, 0);
	if (io_set_nonblock(fd, false) < 0 || wire_next(in, &f) != 1 || wire_get_forward(&f, &to) < 0)
		_exit(1);
	wire_consume(in, &f);
	if (relay_put(&r, 1, buf_data(in), in->len) < 0) /* the host waits for the answer before it sends */
		_exit(1);
	int s = connect_as_asked(&to);
	if (reply(fd, s) < 0 || s < 0)
		_exit(1);
	r.fd[0] = fd;
	r.fd[1] = s;
	carry(&r);
	_exit(0);
}

pid_t forward_start(int fd, const struct buf *in)
{
	pid_t pid = fork();

	if (pid == 0) {
		struct buf own = *in; /* the copy that fork made */

		run(fd, &own);
	}
	return pid < 0 ? -errno : pid;
}
