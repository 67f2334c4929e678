/* SPDX-License-Identifier: MIT */
#include "stream.h"

#include <stdint.h>

void stream_init(struct stream *st, int fd)
{
	*st = (struct stream){.fd = fd, .limit = STREAM_NO_LIMIT};
}

void stream_close(struct stream *st)
{
	loop_source_free(TAKE_PTR(st->source));
	close_fd(&st->fd);
}

int stream_watch(struct stream *st, struct loop *loop, uint32_t events, loop_io_fn fn, void *data)
{
	if (st->fd < 0)
		return 0;
	if (!events) {
		loop_source_free(TAKE_PTR(st->source));
		return 0;
	}
	if (!st->source)
		return loop_add_io(loop, st->fd, events, fn, data, &st->source);
	return loop_set_events(st->source, events);
}

ssize_t stream_read(struct stream *st, void *buf, size_t size)
{
	ssize_t n;

	if (!st->limit)
		return 0;
	do
		n = read(st->fd, buf, MIN_OF(size, st->limit));
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EIO ? 0 : -errno;
	if (st->limit != STREAM_NO_LIMIT)
		st->limit -= (size_t)n;
	return n;
}
