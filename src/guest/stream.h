/* SPDX-License-Identifier: MIT */
/* One descriptor of a session on the loop: what is watched, and until when it is read. */
#ifndef GUEST_STREAM_H
#define GUEST_STREAM_H

#include <stddef.h>

#include "base/loop.h"

#define STREAM_NO_LIMIT SIZE_MAX

struct stream {
	int fd; /* -1: closed */
	struct loop_source *source;
	size_t limit; /* bytes still to be read from it */
};

void stream_init(struct stream *st, int fd);
void stream_close(struct stream *st);
/*
 * Watches for events with fn, or with events 0 takes it off the loop altogether: a hang-up would be reported
 * again and again otherwise. 0 or -errno.
 */
int stream_watch(struct stream *st, struct loop *loop, uint32_t events, loop_io_fn fn, void *data);
/*
 * Reads once, at most size bytes and at most the limit. Returns the bytes; 0 at the end, or when the limit is
 * used up (a terminal whose other side closed is at its end); -EAGAIN; or another -errno.
 */
ssize_t stream_read(struct stream *st, void *buf, size_t size);

#endif
