/* SPDX-License-Identifier: MIT */
/* The command line's side of talking to a supervisor and to a guest. */
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>

#include "base/io.h"
#include "box/box.h"
#include "ctl.h"
#include "run.h"

enum { HANDSHAKE_LIMIT_MS = 10000, RETRY_NS = 5000000 };

/* The supervisor itself gives the guest 10 s before it ends the machine. */
#define KILL_LIMIT_NS 20000000000ull

static int not_running(const struct box *b, struct err *e)
{
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
	char line[32];
	size_t len = 0;
	CLEANUP_CLOSE int fd = connect_in_run_dir(st, b, RUN_VSOCK_SOCKET, e);
	if (fd < 0)
		return fd;
	int n = snprintf(line, sizeof(line), "CONNECT %u\n", port);
	int r = send(fd, line, (size_t)n, MSG_NOSIGNAL) == n ? 0 : -EPIPE;
	uint64_t deadline = time_mono_ns() + HANDSHAKE_LIMIT_MS * 1000000ull;
	/* Byte by byte: what follows the line belongs to the session. */
	while (r == 0 && (len == 0 || line[len - 1] != '\n')) {
		r = wait_readable(fd, deadline);
		if (r < 0)
			break;
		ssize_t got = len == sizeof(line) - 1 ? 0 : read(fd, line + len, 1);
		if (got <= 0)
			r = got < 0 ? -errno : -ECONNREFUSED;
		else
			len++;
	}
	line[len] = '\0';
	if (r == 0 && strncmp(line, "OK ", 3) != 0)
		r = -EPROTO;
	if (r < 0)
		return err_sys(e, r, "box %s does not answer", b->name);
	return TAKE_FD(fd);
}

/* Reads until a frame that answers is complete. *in keeps its memory. */
static int next_frame(int fd, struct buf *in, uint64_t deadline, struct wire_frame *f)
{
	int r;

	while ((r = wire_next(in, f)) == 0) {
		r = wait_readable(fd, deadline);
		if (r < 0)
			return r;
		uint8_t *p = buf_reserve(in, 4096);
		if (!p)
			return -ENOMEM;
		ssize_t n = read(fd, p, 4096);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return -EPIPE;
		buf_commit(in, (size_t)n);
	}
	return r < 0 ? r : 0;
}

int box_call(struct state *st, const struct box *b, const struct box_request *req, uint64_t limit_ns,
	struct err *e)
{
	CLEANUP_CLOSE int fd = box_connect(st, b, e);
	if (fd < 0)
		return fd;
	CLEANUP(buf_done) struct buf out = {0};
	CLEANUP(buf_done) struct buf in = {0};
	uint64_t deadline;
	if (__builtin_add_overflow(time_mono_ns(), limit_ns, &deadline))
		deadline = UINT64_MAX;
	int r = box_put_request(&out, req);
	if (r == 0 && send(fd, buf_data(&out), out.len, MSG_NOSIGNAL) != (ssize_t)out.len)
		r = -EPIPE;
	for (;;) {
		struct wire_frame f;
		uint32_t status = 0;
		CLEANUP_FREE char *text = NULL;

		if (r == 0)
			r = next_frame(fd, &in, deadline, &f);
		if (r < 0)
			return err_sys(e, r, "the supervisor of box %s does not answer", b->name);
		if (f.type == WIRE_EXIT && req->op == BOX_OP_WAIT)
			return wire_get_u32(&f, &status) < 0 ? err_sys(e, -EBADMSG, "box %s", b->name)
							     : (int)(status & 255);
		if (f.type == WIRE_CTL_REPLY)
			return ctl_get_reply(&f, e);
		if (f.type == WIRE_FAIL)
			return wire_get_fail(&f, &status, &text) < 0 ? -EBADMSG
								     : err_set(e, -EIO, "%s", text);
		wire_consume(&in, &f);
	}
}

/* 1 while somebody holds the box's lock, 0 when it is free (what a dead owner left is then repaired), or -errno. */
static int has_owner(struct state *st, const struct box *b, struct err *e)
{
	CLEANUP_CLOSE int lock = -1;
	int r = box_try_lock(st, b->id, &lock, e);

	if (r == -EBUSY)
		return 1;
	if (r < 0)
		return r;
	close_fd(&lock); /* run/ID stays for reconcile, which knows what the record says */
	return box_reconcile(st, e);
}

int box_call_live(struct state *st, const struct box *b, const struct box_request *req, struct err *e)
{
	for (;;) {
		int r = box_call(st, b, req, UINT64_MAX, e);
		if (r != -ENOENT && r != -EPIPE && r != -ECONNRESET)
			return r;
		/* Nobody to talk to: it is starting, ending, or over. Only the lock tells. */
		r = has_owner(st, b, e);
		if (r <= 0)
			return r < 0 ? r : -ESRCH;
		nanosleep(&(struct timespec){.tv_nsec = RETRY_NS}, NULL);
	}
}

/* One attempt: asks, and when the supervisor does not act, ends it. Returns what box_call returned. */
static int kill_once(struct state *st, const struct box *b)
{
	struct box_request req = {.op = BOX_OP_STOP, .signal = SIGKILL};
	struct ucred peer;
	socklen_t len = sizeof(peer);
	CLEANUP_CLOSE int fd = box_connect(st, b, NULL);
	/* Taken while it is connected: later the number could be another process's. */
	bool known = fd >= 0 && getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 && peer.pid > 0;
	CLEANUP_CLOSE int pidfd = known ? (int)syscall(SYS_pidfd_open, peer.pid, 0) : -1;

	int r = box_call(st, b, &req, KILL_LIMIT_NS, NULL);
	if ((r == -ETIMEDOUT || r == -EBADMSG) && pidfd >= 0)
		syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0); /* its machine dies with it */
	return r;
}

int box_kill_hard(struct state *st, const struct box *b, struct err *e)
{
	/* However the calls go: it is over once the lock is free. */
	for (uint64_t until = time_mono_ns() + 2 * KILL_LIMIT_NS; time_mono_ns() < until;) {
		kill_once(st, b);
		int r = has_owner(st, b, e);
		if (r <= 0)
			return r;
		nanosleep(&(struct timespec){.tv_nsec = RETRY_NS}, NULL);
	}
	return err_set(e, -EBUSY, "box %s cannot be stopped", b->name);
}
