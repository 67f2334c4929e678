/* SPDX-License-Identifier: MIT */
#include "vhost-user-proto.h"

#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"

_Static_assert(sizeof(struct vhost_user_header) == 12, "wire format");
_Static_assert(sizeof(struct vhost_user_vring_addr) == 40, "wire format");
_Static_assert(sizeof(struct vhost_user_region) == 32, "wire format");
_Static_assert(sizeof(struct vhost_user_config) == 12 + VHOST_USER_CONFIG_MAX, "wire format");

void vhost_user_msg_init(struct vhost_user_msg *m)
{
	memset(m, 0, sizeof(*m));
	for (unsigned i = 0; i < VHOST_USER_FDS_MAX; i++)
		m->fds[i] = -1;
}

void vhost_user_msg_done(struct vhost_user_msg *m)
{
	for (unsigned i = 0; i < m->n_fds; i++)
		close_fd(&m->fds[i]);
	vhost_user_msg_init(m);
}

/* Takes the descriptors of one recvmsg into the message; those above the limit are closed. */
static int take_fds(struct vhost_user_msg *m, struct msghdr *mh)
{
	int r = mh->msg_flags & MSG_CTRUNC ? -EPROTO : 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(mh); c; c = CMSG_NXTHDR(mh, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < n; i++) {
			int fd;
			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			if (m->n_fds < VHOST_USER_FDS_MAX) {
				m->fds[m->n_fds++] = fd;
			} else {
				close(fd);
				r = -EPROTO;
			}
		}
	}
	return r;
}

/* One recvmsg of at most len bytes. Returns bytes, 0 when none are there, or -errno. */
static ssize_t recv_part(int sock, struct vhost_user_msg *m, void *buf, size_t len)
{
	/* Room for more than the limit, so that too many are told from cut off, and all are closed by us. */
	union {
		char buf[CMSG_SPACE(2 * VHOST_USER_FDS_MAX * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov = {.iov_base = buf, .iov_len = len};
	struct msghdr mh = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buf,
		.msg_controllen = sizeof(control.buf)};

	ssize_t n = recvmsg(sock, &mh, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	int r = take_fds(m, &mh);
	if (r < 0)
		return r;
	return n == 0 ? -ECONNRESET : n;
}

/* kind: VHOST_USER_REPLY, or 0 for a request. */
static int recv_message(int sock, struct vhost_user_msg *m, uint32_t kind)
{
	while (m->got < sizeof(m->h)) {
		ssize_t n = recv_part(sock, m, (uint8_t *)&m->h + m->got, sizeof(m->h) - m->got);
		if (n <= 0)
			return (int)n;
		m->got += (size_t)n;
	}
	if (m->h.size > sizeof(m->p))
		return -EPROTO;
	if ((m->h.flags & VHOST_USER_VERSION_MASK) != VHOST_USER_VERSION ||
		(m->h.flags & VHOST_USER_REPLY) != kind)
		return -EPROTO;
	while (m->got < sizeof(m->h) + m->h.size) {
		size_t have = m->got - sizeof(m->h);
		ssize_t n = recv_part(sock, m, m->p.bytes + have, m->h.size - have);
		if (n <= 0)
			return (int)n;
		m->got += (size_t)n;
	}
	return 1;
}

int vhost_user_recv(int sock, struct vhost_user_msg *m)
{
	return recv_message(sock, m, 0);
}

int vhost_user_recv_reply(int sock, struct vhost_user_msg *m)
{
	return recv_message(sock, m, VHOST_USER_REPLY);
}

static int send_message(
	int sock, const struct vhost_user_header *h, const void *payload, const int *fds, unsigned n_fds)
{
	union {
		char buf[CMSG_SPACE(VHOST_USER_FDS_MAX * sizeof(int))];
		struct cmsghdr align;
	} control = {0};
	struct iovec iov[2] = {
		{.iov_base = (void *)(uintptr_t)h, .iov_len = sizeof(*h)},
		{.iov_base = (void *)(uintptr_t)payload, .iov_len = h->size},
	};
	struct msghdr mh = {.msg_iov = iov, .msg_iovlen = 2};

	if (n_fds > 0) {
		mh.msg_control = control.buf;
		mh.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
		struct cmsghdr *c = CMSG_FIRSTHDR(&mh);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
		memcpy(CMSG_DATA(c), fds, n_fds * sizeof(int));
	}
	ssize_t n = sendmsg(sock, &mh, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n < 0)
		return -errno;
	/* Messages are a few hundred bytes: a socket without room for one has a peer that stopped reading. */
	return (size_t)n == sizeof(*h) + h->size ? 0 : -EAGAIN;
}

int vhost_user_reply(int sock, uint32_t request, const void *payload, uint32_t size)
{
	const struct vhost_user_header h = {
		.request = request, .flags = VHOST_USER_VERSION | VHOST_USER_REPLY, .size = size};

	return send_message(sock, &h, payload, NULL, 0);
}

int vhost_user_send(
	int sock, uint32_t request, const void *payload, uint32_t size, const int *fds, unsigned n_fds)
{
	const struct vhost_user_header h = {.request = request, .flags = VHOST_USER_VERSION, .size = size};

	return send_message(sock, &h, payload, fds, n_fds);
}
