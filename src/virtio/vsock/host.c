/* SPDX-License-Identifier: MIT */
/*
 * The host's side: a listening Unix socket for clients that want into the guest, and outgoing connections to
 * the sockets that stand for the host's ports. sockaddr_un holds 107 bytes only, so both are named below
 * /proc/self/fd/<dirfd>/, which a path of any length fits behind; or relative to the working folder (AT_FDCWD), which a
 * confined process without /proc still has.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/io.h"
#include "base/log.h"
#include "vsock/internal.h"

#define LISTEN_NAME "vsock.sock"

/* Clients accepted per turn. */
#define ACCEPTS_PER_TURN 16

/* port: NULL for the listener. Fits whatever dirfd and port are: 15 + 10 + 12 + 10 bytes at most. */
static void socket_addr(const struct vsock_dev *v, struct sockaddr_un *a, const uint32_t *port)
{
	char dir[32] = "", suffix[16] = "";

	if (v->dirfd != AT_FDCWD)
		snprintf(dir, sizeof(dir), "/proc/self/fd/%d/", v->dirfd);
	if (port)
		snprintf(suffix, sizeof(suffix), "_%u", *port);
	memset(a, 0, sizeof(*a));
	a->sun_family = AF_UNIX;
	snprintf(a->sun_path, sizeof(a->sun_path), "%s" LISTEN_NAME "%s", dir, suffix);
}

int vsock_host_connect(struct vsock_dev *v, uint32_t port)
{
	struct sockaddr_un a;
	CLEANUP_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -errno;
	socket_addr(v, &a, &port);
	/* A Unix socket connects at once or not at all; a full listen queue (EAGAIN) is a refusal as any
	 * other. */
	if (connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		return -errno;
	return TAKE_FD(fd);
}

/* A host port that no connection to this guest port uses. Ports above 2^30 are ours alone by convention. */
static uint32_t pick_port(struct vsock_dev *v, uint32_t guest_port)
{
	uint32_t port;

	do {
		port = v->next_port++;
		if (v->next_port == UINT32_MAX) /* VMADDR_PORT_ANY */
			v->next_port = VSOCK_FIRST_PORT;
	} while (vsock_conn_find(v, guest_port, port)); /* at most VSOCK_CONNS_MAX are taken */
	return port;
}

/* "CONNECT <port>\n" without the newline. Decimal digits only. */
static bool parse_line(const char *line, size_t len, uint32_t *ret_port)
{
	static const char word[] = "CONNECT ";
	const size_t skip = sizeof(word) - 1;
	uint64_t port = 0;

	if (len <= skip || len > skip + 10 || memcmp(line, word, skip) != 0)
		return false;
	for (size_t i = skip; i < len; i++) {
		if (line[i] < '0' || line[i] > '9')
			return false;
		port = port * 10 + (uint64_t)(line[i] - '0');
	}
	if (port >= UINT32_MAX)
		return false;
	*ret_port = (uint32_t)port;
	return true;
}

void vsock_host_line(struct vsock_conn *c, bool hup)
{
	char line[VSOCK_LINE_MAX];
	uint32_t port;

	/* What follows the newline belongs to the guest: look first, then take the line alone. */
	ssize_t n = recv(c->fd, line, sizeof(line), MSG_DONTWAIT | MSG_PEEK);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	const char *nl = n > 0 ? memchr(line, '\n', (size_t)n) : NULL;
	if (!nl) {
		/* An incomplete line stays in the socket; edge-triggered, it wakes us again only when it
		 * grows. */
		if (n <= 0 || n == VSOCK_LINE_MAX || hup)
			vsock_conn_free(c);
		return;
	}
	size_t len = (size_t)(nl - line);
	if (!parse_line(line, len, &port) || recv(c->fd, line, len + 1, MSG_DONTWAIT) != (ssize_t)(len + 1)) {
		vsock_conn_free(c);
		return;
	}
	c->state = VSOCK_ASKED;
	vsock_conn_hash(c, port, pick_port(c->v, port));
	vsock_conn_wait(c, c->v->answer_ns);
	vsock_conn_watch(c);
	c->want |= WANT_REQUEST;
	vsock_conn_schedule(c);
}

static void accept_one(struct vsock_dev *v, int fd)
{
	struct vsock_conn *c = vsock_conn_new(v, fd, VSOCK_LINE);

	if (!c)
		return; /* closed: the client sees the end of file */
	if (vsock_conn_watch_new(c, EPOLLIN | EPOLLET) < 0) {
		vsock_conn_free(c);
		return;
	}
	vsock_conn_wait(c, v->line_ns);
}

static void on_listen(void *data, int fd, uint32_t events)
{
	struct vsock_dev *v = data;

	for (int i = 0; i < ACCEPTS_PER_TURN && v->n_waiting < VSOCK_CONNECTING_MAX; i++) {
		int s = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (s >= 0) {
			accept_one(v, s);
			continue;
		}
		if (errno == EINTR || errno == ECONNABORTED)
			continue;
		if (errno != EAGAIN) {
			/* Out of descriptors or memory: the client waits in the queue while we wait for
			 * better times. */
			v->accept_paused = true;
			vsock_host_update(v);
		}
		return;
	}
}

static void on_tick(void *data)
{
	struct vsock_dev *v = data;
	uint64_t now = time_mono_ns();
	struct vsock_conn *c, *next;

	v->timer_armed = false;
	v->accept_paused = false;
	for (c = TAILQ_FIRST(&v->waiting); c; c = next) {
		next = TAILQ_NEXT(c, waiting);
		if (c->deadline_ns <= now)
			vsock_conn_reset(c);
	}
	vsock_host_update(v);
}

void vsock_host_update(struct vsock_dev *v)
{
	if (v->listen_src) {
		bool room = v->n_waiting < VSOCK_CONNECTING_MAX && !v->accept_paused;
		loop_set_events(v->listen_src, room ? EPOLLIN : 0);
	}
	if (v->timer && !v->timer_armed && (v->n_waiting || v->accept_paused)) {
		v->timer_armed = true;
		loop_set_timer(v->timer, v->tick_ns);
	}
}

int vsock_host_init(struct vsock_dev *v)
{
	struct sockaddr_un a;
	struct stat st;

	/* Left by a supervisor that was killed. Only a socket is removed; anything else makes bind fail. */
	if (fstatat(v->dirfd, LISTEN_NAME, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISSOCK(st.st_mode))
		unlinkat(v->dirfd, LISTEN_NAME, 0);
	v->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (v->listen_fd < 0)
		return -errno;
	socket_addr(v, &a, NULL);
	/* The inode that bind makes inherits the socket's mode: nobody else can connect, not even for a
	 * moment. */
	if (fchmod(v->listen_fd, 0600) < 0 || bind(v->listen_fd, (struct sockaddr *)&a, sizeof(a)) < 0) {
		int r = -errno;
		close_fd(&v->listen_fd); /* nothing of ours to unlink */
		return r;
	}
	if (listen(v->listen_fd, SOMAXCONN) < 0)
		return -errno;
	int r = loop_add_timer(v->loop, UINT64_MAX, on_tick, v, &v->timer);
	if (r < 0)
		return r;
	return loop_add_io(v->loop, v->listen_fd, EPOLLIN, on_listen, v, &v->listen_src);
}

void vsock_host_done(struct vsock_dev *v)
{
	loop_source_free(TAKE_PTR(v->listen_src));
	loop_source_free(TAKE_PTR(v->timer));
	if (v->listen_fd >= 0)
		unlinkat(v->dirfd, LISTEN_NAME, 0);
	close_fd(&v->listen_fd);
}
