/* SPDX-License-Identifier: MIT */
#include "wire/conn.h"

#include <sys/socket.h>

#include "base/io.h"

enum { READ_CHUNK = WIRE_DATA_MAX + WIRE_HEADER_SIZE, READS_PER_TURN = 4 };

struct wire_conn {
	struct loop *loop;
	int fd;
	struct loop_source *io, *again; /* `again`: frames wait in `in`, or an end has to be reported */
	const struct wire_conn_ops *ops;
	void *data;
	struct buf in, out;
	bool paused, eof, ended, freed;
	int depth; /* callbacks running: freeing waits for them */
	int error;
};

static void release(struct wire_conn *c)
{
	buf_done(&c->in);
	buf_done(&c->out);
	free(c);
}

static void update_events(struct wire_conn *c)
{
	uint32_t ev = 0;
	if (!c->paused && !c->eof)
		ev |= EPOLLIN;
	if (c->out.len)
		ev |= EPOLLOUT;
	if (c->io)
		loop_set_events(c->io, ev);
}

static void stop(struct wire_conn *c)
{
	loop_source_free(TAKE_PTR(c->io));
	loop_source_free(TAKE_PTR(c->again));
	close_fd(&c->fd);
}

void wire_conn_free(struct wire_conn *c)
{
	if (!c)
		return;
	stop(c);
	c->freed = true;
	if (c->depth == 0)
		release(c);
}

/* Reports the end once. The connection may be freed in it. */
static void end(struct wire_conn *c, int error)
{
	if (c->ended)
		return;
	c->ended = true;
	c->out.len = 0;
	stop(c);
	c->ops->on_end(c->data, c, error);
}

static void dispatch(struct wire_conn *c)
{
	struct wire_frame f;
	int r = 0;

	while (!c->freed && !c->ended && !c->paused && (r = wire_next(&c->in, &f)) > 0) {
		r = c->ops->on_frame(c->data, c, &f);
		if (c->freed)
			return;
		wire_consume(&c->in, &f);
		if (r < 0)
			break;
	}
	if (c->freed || c->ended)
		return;
	if (r < 0)
		end(c, r);
	else if (c->eof && !c->paused)
		end(c, c->error ? c->error : c->in.len ? -EBADMSG : 0);
}

/* One read. Returns 1 if there may be more, 0 when drained or at the end. */
static int read_some(struct wire_conn *c)
{
	uint8_t *p = buf_reserve(&c->in, READ_CHUNK);
	if (!p) {
		c->error = -ENOMEM;
		c->eof = true;
		return 0;
	}
	ssize_t n = read(c->fd, p, READ_CHUNK);
	if (n > 0) {
		buf_commit(&c->in, (size_t)n);
		return n == READ_CHUNK;
	}
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	/* A reset after the peer's last bytes is how a vanished peer looks: an end like any other. */
	c->error = n < 0 && errno != ECONNRESET && errno != EPIPE ? -errno : 0;
	c->eof = true;
	return 0;
}

static void write_some(struct wire_conn *c)
{
	while (c->out.len) {
		ssize_t n = send(c->fd, buf_data(&c->out), c->out.len, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n > 0) {
			buf_consume(&c->out, (size_t)n);
			continue;
		}
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		/* The peer reads no more; what it sent before is still to be read, so the end is left to the reader. */
		c->out.len = 0;
		break;
	}
	update_events(c);
}

static void enter(struct wire_conn *c)
{
	c->depth++;
}

static void leave(struct wire_conn *c)
{
	if (--c->depth == 0 && c->freed)
		release(c);
}

static void on_io(void *data, int fd, uint32_t events)
{
	struct wire_conn *c = data;

	enter(c);
	if (events & EPOLLOUT) {
		write_some(c);
		if (c->ops->on_written)
			c->ops->on_written(c->data, c);
	}
	/* What a pause left behind goes first: a reader of one frame at a time must not be read ahead of. */
	if (!c->freed && !c->ended && !c->paused && c->in.len)
		dispatch(c);
	if (!c->freed && !c->ended && !c->paused && events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
		for (int i = 0; i < READS_PER_TURN && !c->eof; i++) {
			int more = read_some(c);
			dispatch(c);
			if (!more || c->freed || c->ended || c->paused)
				break;
		}
	} else if (!c->freed && !c->ended && c->paused && events & (EPOLLHUP | EPOLLERR)) {
		/* HUP cannot be masked: stop watching until resumed, or the loop would spin. */
		loop_source_free(TAKE_PTR(c->io));
	}
	if (!c->freed && !c->ended)
		update_events(c);
	leave(c);
}

static void on_again(void *data)
{
	struct wire_conn *c = data;

	enter(c);
	dispatch(c);
	leave(c);
}

int wire_conn_new(struct loop *l, int fd, const struct wire_conn_ops *ops, void *data, struct wire_conn **ret)
{
	struct wire_conn *c = calloc(1, sizeof(*c));
	if (!c) {
		close(fd);
		return -ENOMEM;
	}
	c->loop = l;
	c->fd = fd;
	c->ops = ops;
	c->data = data;
	int r = io_set_nonblock(fd, true);
	if (r == 0)
		r = loop_add_io(l, fd, EPOLLIN, on_io, c, &c->io);
	if (r == 0)
		r = loop_add_deferred(l, on_again, c, &c->again);
	if (r < 0) {
		wire_conn_free(c);
		return r;
	}
	*ret = c;
	return 0;
}

struct buf *wire_conn_out(struct wire_conn *c)
{
	return &c->out;
}

void wire_conn_flush(struct wire_conn *c)
{
	if (c->ended || c->freed) {
		c->out.len = 0;
		return;
	}
	write_some(c);
}

size_t wire_conn_pending(const struct wire_conn *c)
{
	return c->ended ? 0 : c->out.len;
}

void wire_conn_pause(struct wire_conn *c, bool paused)
{
	if (c->paused == paused || c->ended || c->freed)
		return;
	c->paused = paused;
	if (!paused) {
		if (!c->io && loop_add_io(c->loop, c->fd, 0, on_io, c, &c->io) < 0)
			c->eof = true;
		loop_defer(c->again);
	}
	update_events(c);
}
