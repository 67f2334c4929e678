/* SPDX-License-Identifier: MIT */
#include "base/buf.h"

#include <string.h>

uint8_t *buf_reserve(struct buf *b, size_t n)
{
	if (b->cap - b->start - b->len >= n && b->cap > 0)
		return b->mem + b->start + b->len;

	size_t need;
	if (__builtin_add_overflow(b->len, n, &need))
		return NULL;
	if (need <= b->cap && b->cap > 0 &&
		b->start >= b->len) { /* moving down is cheap enough to be amortised */
		memcpy(b->mem, b->mem + b->start, b->len);
		b->start = 0;
		return b->mem + b->len;
	}

	size_t cap = b->cap ? b->cap : 256;
	while (cap < need) {
		if (__builtin_mul_overflow(cap, (size_t)2, &cap))
			return NULL;
	}
	uint8_t *mem = malloc(cap);
	if (!mem)
		return NULL;
	if (b->len)
		memcpy(mem, b->mem + b->start, b->len);
	free(b->mem);
	b->mem = mem;
	b->cap = cap;
	b->start = 0;
	return b->mem + b->len;
}

int buf_append(struct buf *b, const void *data, size_t n)
{
	if (n == 0)
		return 0;
	uint8_t *p = buf_reserve(b, n);
	if (!p)
		return -ENOMEM;
	memcpy(p, data, n);
	buf_commit(b, n);
	return 0;
}

void buf_consume(struct buf *b, size_t n)
{
	b->start += n;
	b->len -= n;
	if (b->len == 0)
		b->start = 0;
}

void buf_done(struct buf *b)
{
	free(b->mem);
	*b = (struct buf){0};
}
