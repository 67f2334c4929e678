/* SPDX-License-Identifier: MIT */
#include "base/relay.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

static bool is_waiting(const struct relay_half *h)
{
	return h->start < h->end;
}

int relay_put(struct relay *r, int i, const void *data, size_t len)
{
	struct relay_half *h = &r->to[i];

	if (len > sizeof(h->mem) - h->end)
		return -EMSGSIZE;
	if (len)
		memcpy(h->mem + h->end, data, len);
	h->end += len;
	return 0;
}

uint32_t relay_wants(const struct relay *r, int i)
{
	const struct relay_half *from = &r->to[!i], *to = &r->to[i];
	uint32_t wants = 0;

	if (!from->over && !is_waiting(from))
		wants |= POLLIN;
	if (!to->over && is_waiting(to))
		wants |= POLLOUT;
	return wants;
}

static bool is_transient(int error)
{
	return error == EAGAIN || error == EINTR;
}

/* Nobody takes it any more. */
static int writing_broke(struct relay *r, int i, int error)
{
	struct relay_half *h = &r->to[i];

	if (i == 0)
		return -error;
	h->over = true;
	h->start = h->end;
	shutdown(r->fd[!i], SHUT_RD);
	return 0;
}

/* Only into an empty buffer. */
static int take(struct relay *r, int i)
{
	struct relay_half *h = &r->to[i];
	ssize_t n = recv(r->fd[!i], h->mem, sizeof(h->mem), MSG_DONTWAIT);

	if (n < 0)
		return is_transient(errno) ? 0 : -errno;
	h->start = 0;
	h->end = (size_t)n;
	if (n > 0)
		return 0;
	h->over = true;
	return shutdown(r->fd[i], SHUT_WR) < 0 ? writing_broke(r, i, errno) : 0;
}

static int give(struct relay *r, int i)
{
	struct relay_half *h = &r->to[i];
	ssize_t n = send(r->fd[i], h->mem + h->start, h->end - h->start, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n < 0)
		return is_transient(errno) ? 0 : writing_broke(r, i, errno);
	h->start += (size_t)n;
	return 0;
}

/* What is wrong with a side is found by using it: hang-ups and errors count as ready. */
static int move_to(struct relay *r, int i, uint32_t from_events, uint32_t to_events)
{
	const struct relay_half *h = &r->to[i];
	bool writable = to_events & (POLLOUT | POLLHUP | POLLERR);
	int res = 0;

	if (h->over)
		return 0;
	if (!is_waiting(h) && from_events & (POLLIN | POLLHUP | POLLERR)) {
		res = take(r, i);
		writable = true; /* most likely */
	}
	return res == 0 && is_waiting(h) && writable ? give(r, i) : res;
}

int relay_move(struct relay *r, const uint32_t events[static 2])
{
	int res = move_to(r, 0, events[1], events[0]);

	if (res == 0)
		res = move_to(r, 1, events[0], events[1]);
	if (res < 0)
		return res;
	return !r->to[0].over || !r->to[1].over;
}

bool relay_is_heard(const struct relay *r)
{
	return send(r->fd[0], "", 0, MSG_DONTWAIT | MSG_NOSIGNAL) == 0 || is_transient(errno);
}
