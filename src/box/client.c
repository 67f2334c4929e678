/* SPDX-License-Identifier: MIT */
/* The command line's side of talking to a supervisor and to a guest. */
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "base/io.h"
#include "box/box.h"
#include "run.h"

enum { HANDSHAKE_LIMIT_MS = 10000 };

static int not_running(const struct box *b, struct err *e)
{
	if (b->state == BOX_RESTARTING)
		return err_set(e, -ENOENT, "box %s is restarting: wait until it runs", b->name);
	return err_set(e, -ENOENT, "box %s is not running", b->name);
}

static int connect_in_run_dir(struct state *st, const struct box *b, const char *name, struct err *e)
{
	CLEANUP_CLOSE int dir = box_open_run_dir(st, b->id, false, e);
	if (dir < 0)
		return dir == -ENOENT ? not_running(b, e) : dir;
	int fd = unix_connect_at(dir, name);
	if (fd == -ENOENT || fd == -ECONNREFUSED)
		return not_running(b, e);
	if (fd < 0)
		return err_sys(e, fd, "cannot reach box %s", b->name);
	return fd;
}

int box_connect(struct state *st, const struct box *b, struct err *e)
{
	return connect_in_run_dir(st, b, RUN_CTL_SOCKET, e);
}

int box_dial_guest(struct state *st, const struct box *b, struct err *e)
{
	return connect_in_run_dir(st, b, RUN_VSOCK_SOCKET, e);
}

/* Waits for data until the deadline. 0, -ETIMEDOUT or -errno. */
static int wait_readable(int fd, uint64_t deadline_ns)
{
	for (;;) {
		uint64_t now = time_mono_ns();
		int ms = deadline_ns == UINT64_MAX ? -1
			 : deadline_ns <= now
				 ? 0
				 : (int)MIN_OF((deadline_ns - now) / 1000000 + 1, (uint64_t)3600000);
		struct pollfd p = {.fd = fd, .events = POLLIN};
		int n = poll(&p, 1, ms);
		if (n > 0)
			return 0;
		if (n == 0 && (ms == 0 || time_mono_ns() >= deadline_ns))
			return -ETIMEDOUT;
		if (n < 0 && errno != EINTR)
			return -errno;
	}
}

int box_connect_guest(struct state *st, const struct box *b, uint32_t port, struct err *e)
{
	struct handshake h;
	CLEANUP_CLOSE int fd = box_dial_guest(st, b, e);
	if (fd < 0)
		return fd;
	int r = handshake_ask(&h, fd, port);
	uint64_t deadline = time_mono_ns() + HANDSHAKE_LIMIT_MS * 1000000ull;
	while (r == 0) {
		r = wait_readable(fd, deadline);
		if (r == 0)
			r = handshake_read(&h, fd);
	}
	if (r < 0)
		return err_sys(e, r, "box %s does not answer", b->name);
	return TAKE_FD(fd);
}
