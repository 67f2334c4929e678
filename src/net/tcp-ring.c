/* SPDX-License-Identifier: MIT */
/*
 * Unused rings of each size are kept, up to TCP_RING_SPARE in all: a connection takes and gives its ring back with every
 * answer, and memory that was just used is in the cache, while large blocks fresh from malloc cost a page fault per page.
 */
#include <string.h>

#include "tcp.h"

static unsigned size_class(uint32_t cap)
{
	unsigned i = 0;

	while (TCP_RING_MIN << i < cap)
		i++;
	return i;
}

static void give_back(struct ring_pool *pool, struct ring_user *u, uint8_t *mem, uint32_t cap)
{
	pool->used -= cap;
	u->used -= cap;
	if (!u->used)
		pool->n_users--;
	if (pool->spare + cap > TCP_RING_SPARE) {
		free(mem);
		return;
	}
	struct ring_spare *s = (void *)mem;
	struct ring_spare **list = &pool->free[size_class(cap)];
	s->next = *list;
	*list = s;
	pool->spare += cap;
}

/* Whether that box may have so much more: in the way in which port.c shares a queue. */
static bool may_take(const struct ring_pool *pool, const struct ring_user *u, uint32_t cap)
{
	if (pool->used + cap > ENGINE_TCP_MEMORY)
		return false;
	if (!ring_scarce(pool))
		return true;
	return cap <= TCP_RING_MIN && u->used + cap <= ENGINE_TCP_MEMORY / (pool->n_users + !u->used + 1);
}

static uint8_t *take(struct ring_pool *pool, struct ring_user *u, uint32_t cap)
{
	struct ring_spare **list = &pool->free[size_class(cap)];
	uint8_t *mem = (void *)*list;

	if (!may_take(pool, u, cap))
		return NULL;
	if (mem) {
		*list = (*list)->next;
		pool->spare -= cap;
	} else {
		mem = malloc(cap);
	}
	if (!mem)
		return NULL;
	pool->n_users += !u->used;
	pool->used += cap;
	u->used += cap;
	return mem;
}

bool ring_reserve(struct ring_pool *pool, struct ring_user *u, struct ring *r, uint32_t cap)
{
	struct iovec iov[2];
	size_t at = 0;

	if (cap <= r->cap)
		return true;
	uint8_t *mem = take(pool, u, cap);
	if (!mem)
		return false;
	unsigned n = ring_content(r, 0, r->len, iov);
	for (unsigned i = 0; i < n; i++) {
		memcpy(mem + at, iov[i].iov_base, iov[i].iov_len);
		at += iov[i].iov_len;
	}
	if (r->mem)
		give_back(pool, u, r->mem, r->cap);
	*r = (struct ring){.mem = mem, .cap = cap, .len = (uint32_t)at};
	return true;
}

void ring_release(struct ring_pool *pool, struct ring_user *u, struct ring *r)
{
	if (r->mem)
		give_back(pool, u, r->mem, r->cap);
	*r = (struct ring){0};
}

void ring_pool_done(struct ring_pool *pool)
{
	for (unsigned i = 0; i < TCP_RING_SIZES; i++) {
		while (pool->free[i]) {
			struct ring_spare *s = pool->free[i];
			pool->free[i] = s->next;
			free(s);
		}
	}
	pool->spare = 0;
}

static unsigned pieces(const struct ring *r, uint32_t at, size_t len, struct iovec iov[static 2])
{
	if (len == 0)
		return 0;
	at &= r->cap - 1;
	size_t first = MIN_OF(len, r->cap - at);
	iov[0] = (struct iovec){r->mem + at, first};
	if (first == len)
		return 1;
	iov[1] = (struct iovec){r->mem, len - first};
	return 2;
}

unsigned ring_space(const struct ring *r, size_t max, struct iovec iov[static 2])
{
	return pieces(r, r->head + r->len, MIN_OF(max, r->cap - r->len), iov);
}

unsigned ring_content(const struct ring *r, uint32_t off, size_t max, struct iovec iov[static 2])
{
	return pieces(r, r->head + off, MIN_OF(max, r->len - off), iov);
}

void ring_consume(struct ring *r, uint32_t n)
{
	r->head += n;
	r->len -= n;
	if (r->len == 0)
		r->head = 0; /* the part that is in the cache, in one piece */
}
