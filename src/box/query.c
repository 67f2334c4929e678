/* SPDX-License-Identifier: MIT */
/*
 * THEORY OF OPERATION
 *
 * A connection to the guest on which the host asks and the guest answers (wire.h, QUERY). Nothing waits inside: the
 * descriptor says when there is something to read, so that one process can ask many boxes at once, of which some may
 * not answer. The three questions that are asked alone are built on it, with a time limit.
 *
 * The vsock device answers "OK <port>\n" before the stream is the guest's; questions wait for that line.
 */
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "base/io.h"
#include "run.h"

enum { READ_CHUNK = 65536 };

/* The guest itself gives up after 10 s: guest/query.h. */
#define ANSWER_LIMIT_NS 20000000000ull

struct box_query {
	int fd;
	struct handshake handshake;
	bool connected; /* the device has answered */
	struct buf in, out;
	uint32_t used; /* bytes of the last answer, which is still in `in` */
	char *name;
};

void box_query_free(struct box_query *q)
{
	if (!q)
		return;
	close_fd(&q->fd);
	buf_done(&q->in);
	buf_done(&q->out);
	free(q->name);
	free(q);
}

static int send_now(int fd, const void *data, size_t len)
{
	/* Questions are small, and there is one at a time: a socket that does not take one is of no use. */
	return send(fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)len ? 0 : -EPIPE;
}

int box_query_new(struct state *st, const struct box *b, struct box_query **ret, struct err *e)
{
	CLEANUP(box_query_freep) struct box_query *q = calloc(1, sizeof(*q));

	if (!q)
		return err_oom(e);
	q->fd = -1;
	q->name = strdup(b->name);
	if (!q->name)
		return err_oom(e);
	if (b->state == BOX_PAUSED) {
		err_set(e, -EBUSY, "box %s is paused", b->name);
		return err_hint(e, "let it go on with: a3s-box unpause %s", b->name);
	}
	q->fd = box_dial_guest(st, b, e);
	if (q->fd < 0)
		return q->fd;
	int r = io_set_nonblock(q->fd, true);
	if (r == 0)
		r = handshake_ask(&q->handshake, q->fd, WIRE_PORT_SESSION);
	if (r < 0)
		return err_sys(e, r, "box %s does not answer", b->name);
	*ret = TAKE_PTR(q);
	return 0;
}

int box_query_fd(const struct box_query *q)
{
	return q->fd;
}

static int send_questions(struct box_query *q)
{
	int r = q->connected && q->out.len ? send_now(q->fd, buf_data(&q->out), q->out.len) : 0;

	if (q->connected)
		buf_consume(&q->out, q->out.len);
	return r;
}

static int lost(const struct box_query *q, int r, struct err *e)
{
	return err_sys(e, r, "box %s does not answer", q->name);
}

int box_query_ask(struct box_query *q, enum wire_type type, const struct wire_limits *limits, struct err *e)
{
	int r = type == WIRE_UPDATE ? wire_put_limits(&q->out, limits) : wire_put(&q->out, type, NULL, 0);

	if (r == 0)
		r = send_questions(q);
	return r < 0 ? lost(q, r, e) : 0;
}

/* 1 when the device has answered; what was asked meanwhile is sent then. 0, or -errno. */
static int connected(struct box_query *q)
{
	int r = q->connected ? 1 : handshake_read(&q->handshake, q->fd);

	if (r <= 0 || q->connected)
		return r;
	q->connected = true;
	r = send_questions(q);
	return r < 0 ? r : 1;
}

int box_query_read(struct box_query *q, struct wire_frame *ret, struct err *e)
{
	buf_consume(&q->in, q->used);
	q->used = 0;
	int r = connected(q);
	if (r <= 0)
		return r < 0 ? lost(q, r, e) : 0;
	for (;;) {
		r = wire_next(&q->in, ret);
		if (r < 0)
			return lost(q, r, e);
		if (r > 0) {
			q->used = WIRE_HEADER_SIZE + ret->len;
			return 1;
		}
		uint8_t *room = buf_reserve(&q->in, READ_CHUNK);
		if (!room)
			return err_oom(e);
		ssize_t n = recv(q->fd, room, READ_CHUNK, 0);
		if (n > 0)
			buf_commit(&q->in, (size_t)n);
		else if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return 0;
		else
			return lost(q, n < 0 ? -errno : -EPIPE, e);
	}
}

int box_query_check(const struct box_query *q, const struct wire_frame *f, enum wire_type want, struct err *e)
{
	CLEANUP_FREE char *text = NULL;
	uint32_t status;

	if (f->type == want)
		return 0;
	if (f->type == WIRE_FAIL && wire_get_fail(f, &status, &text) == 0)
		return err_set(e, -EIO, "box %s: %s", q->name, text);
	return lost(q, -EBADMSG, e);
}

/* Waits for the answer to a question. */
static int answer(struct box_query *q, enum wire_type want, struct wire_frame *ret, struct err *e)
{
	uint64_t deadline = time_mono_ns() + ANSWER_LIMIT_NS;
	int r;

	while ((r = box_query_read(q, ret, e)) == 0) {
		uint64_t now = time_mono_ns();
		struct pollfd p = {.fd = q->fd, .events = POLLIN};
		if (now >= deadline)
			return lost(q, -ETIMEDOUT, e);
		if (poll(&p, 1, (int)((deadline - now) / 1000000 + 1)) < 0 && errno != EINTR)
			return lost(q, -errno, e);
	}
	return r < 0 ? r : box_query_check(q, ret, want, e);
}

int box_query_update(struct state *st, const struct box *b, const struct wire_limits *limits, struct err *e)
{
	CLEANUP(box_query_freep) struct box_query *q = NULL;
	struct wire_frame f;
	int r = box_query_new(st, b, &q, e);

	if (r == 0)
		r = box_query_ask(q, WIRE_UPDATE, limits, e);
	return r < 0 ? r : answer(q, WIRE_DONE, &f, e);
}

int box_query_tasks(struct state *st, const struct box *b, struct wire_tasks *ret, struct wire_stats *stats,
	struct err *e)
{
	CLEANUP(box_query_freep) struct box_query *q = NULL;
	struct wire_frame f;
	int r = box_query_new(st, b, &q, e);

	if (r == 0)
		r = box_query_ask(q, WIRE_GET_STATS, NULL, e);
	if (r == 0)
		r = answer(q, WIRE_STATS, &f, e);
	if (r == 0 && (r = wire_get_stats(&f, stats)) < 0)
		return lost(q, r, e);
	if (r == 0)
		r = box_query_ask(q, WIRE_GET_TASKS, NULL, e);
	if (r == 0)
		r = answer(q, WIRE_TASKS, &f, e);
	if (r == 0 && (r = wire_get_tasks(&f, ret)) < 0)
		return lost(q, r, e);
	return r;
}
