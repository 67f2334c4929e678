/* SPDX-License-Identifier: MIT */
/*
 * One direction of a descriptor that was lent to us, used without ever blocking, and without changing what others
 * who share it see of it.
 */
#ifndef CONSOLE_STREAM_H
#define CONSOLE_STREAM_H

#include <stdbool.h>

#include "base/loop.h"

/* Most that one call moves: what a pipe takes whole or not at all (PIPE_BUF). */
#define STREAM_CHUNK 4096

enum stream_kind {
	STREAM_OWN,    /* non-blocking: an open file description of our own */
	STREAM_SOCKET, /* shared; each call says that it must not block */
	STREAM_FILE,   /* shared; never blocks for long */
	STREAM_ASK,    /* shared; asked by poll before each call */
};

struct stream {
	int fd; /* -1: closed */
	bool out;
	enum stream_kind kind;
	struct loop *loop;
	struct loop_source *src; /* only while waiting: epoll tells of a peer that hung up for ever */
	loop_fn on_ready;
	void *data;
};

/*
 * Takes a duplicate of fd (-1: the stream is closed from the start). on_ready is called, once, after a call that
 * found nothing to do. 0 or -errno.
 */
int stream_open(struct stream *s, struct loop *loop, int fd, bool out, loop_fn on_ready, void *data);
void stream_close(struct stream *s);
static inline bool stream_is_open(const struct stream *s)
{
	return s->fd >= 0;
}
static inline bool stream_is_waiting(const struct stream *s)
{
	return s->src != NULL;
}

/*
 * Moves at most STREAM_CHUNK bytes. Returns how many; 0 when on_ready will say when to try again, or when the stream
 * has met its end or an error, and is closed now.
 */
size_t stream_read(struct stream *s, void *buf, size_t len);
size_t stream_write(struct stream *s, const void *buf, size_t len);

#endif
