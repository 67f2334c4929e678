/* SPDX-License-Identifier: MIT */
/*
 * A byte queue: appended at the end, consumed at the start. Zero-initialise; release with buf_done.
 * The owner bounds its length: growth only fails when memory does.
 */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include <stdint.h>

#include "base/cleanup.h"

struct buf {
	uint8_t *mem;
	size_t start, len, cap; /* bytes; content is mem[start .. start + len) */
};

static inline uint8_t *buf_data(const struct buf *b)
{
	return b->mem + b->start;
}

/* Returns room for at least n more bytes at the end, or NULL. Follow with buf_commit. */
uint8_t *buf_reserve(struct buf *b, size_t n);
static inline void buf_commit(struct buf *b, size_t n)
{
	b->len += n;
}
/* 0 or -ENOMEM. */
int buf_append(struct buf *b, const void *data, size_t n);
/* Drops n <= len bytes from the start. */
void buf_consume(struct buf *b, size_t n);
void buf_done(struct buf *b);

#endif
