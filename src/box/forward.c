/* SPDX-License-Identifier: MIT */
/*
 * A TCP connection inside a box, made by its guest: wire.h, FORWARD. Nothing waits inside, so that one process can have many.
 * Not a byte behind the guest's answer is taken, as those are the connection's.
 */
#include <string.h>
#include <sys/socket.h>

#include "base/io.h"
#include "run.h"

enum { ANSWER_MAX = WIRE_HEADER_SIZE + 4096 }; /* DONE, or FAIL with a line of text */

struct box_forward {
	int fd;
	struct handshake handshake;
	bool connected; /* the device has answered, and the question is sent */
	struct buf question, answer;
	char *name;
};

void box_forward_free(struct box_forward *f)
{
	if (!f)
		return;
	close_fd(&f->fd);
	buf_done(&f->question);
	buf_done(&f->answer);
	free(f->name);
	free(f);
}

static int lost(const struct box_forward *f, int r, struct err *e)
{
	return err_sys(e, r, "box %s does not answer", f->name);
}

int box_forward_new(struct state *st, const struct box *b, const struct wire_forward *to,
	struct box_forward **ret, struct err *e)
{
	CLEANUP(box_forward_freep) struct box_forward *f = calloc(1, sizeof(*f));

	if (!f)
		return err_oom(e);
	f->fd = -1;
	f->name = strdup(b->name);
	if (!f->name || wire_put_forward(&f->question, to) < 0)
		return err_oom(e);
	f->fd = box_dial_guest(st, b, e);
	if (f->fd < 0)
		return f->fd;
	int r = io_set_nonblock(f->fd, true);
	if (r == 0)
		r = handshake_ask(&f->handshake, f->fd, WIRE_PORT_SESSION);
	if (r < 0)
		return lost(f, r, e);
	*ret = TAKE_PTR(f);
	return 0;
}

int box_forward_fd(const struct box_forward *f)
{
	return f->fd;
}

static int ask(struct box_forward *f)
{
	int r = handshake_read(&f->handshake, f->fd);

	if (r <= 0)
		return r;
	/* It is small, and the first one: a socket that does not take it is of no use. */
	if (send(f->fd, buf_data(&f->question), f->question.len, MSG_NOSIGNAL | MSG_DONTWAIT) !=
		(ssize_t)f->question.len)
		return -EPIPE;
	f->connected = true;
	return 1;
}

/* 1 when the answer is there, and *frame is it. */
static int read_answer(struct box_forward *f, struct wire_frame *frame)
{
	int r;

	while ((r = wire_next(&f->answer, frame)) == 0) {
		size_t want = WIRE_HEADER_SIZE;

		if (f->answer.len >= WIRE_HEADER_SIZE) {
			const uint8_t *p = buf_data(&f->answer);
			want += (uint32_t)p[1] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 8 | p[4];
		}
		if (want > ANSWER_MAX)
			return -EBADMSG;
		uint8_t *room = buf_reserve(&f->answer, want - f->answer.len);
		if (!room)
			return -ENOMEM;
		ssize_t n = recv(f->fd, room, want - f->answer.len, MSG_DONTWAIT);
		if (n < 0)
			return errno == EAGAIN || errno == EINTR ? 0 : -errno;
		if (n == 0)
			return -EPIPE;
		buf_commit(&f->answer, (size_t)n);
	}
	return r;
}

int box_forward_read(struct box_forward *f, struct err *e)
{
	CLEANUP_FREE char *text = NULL;
	struct wire_frame frame;
	uint32_t status;
	int r = f->connected ? 1 : ask(f);

	if (r > 0)
		r = read_answer(f, &frame);
	if (r <= 0)
		return r < 0 ? lost(f, r, e) : 0;
	if (frame.type == WIRE_DONE)
		return 1;
	if (frame.type == WIRE_FAIL && wire_get_fail(&frame, &status, &text) == 0)
		return err_set(e, -EIO, "%s", text);
	return lost(f, -EBADMSG, e);
}

int box_forward_take(struct box_forward *f)
{
	return TAKE_FD(f->fd);
}
