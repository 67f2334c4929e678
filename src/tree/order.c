/* SPDX-License-Identifier: MIT */
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "inside.h"

enum { FOLDER = 1 /* lowest bit of a slot */, SLOTS_MIN = 1024 };
#define ENTRIES_MAX (16u << 20)

void tree_order_done(struct tree_order *o)
{
	free(o->slots);
	*o = (struct tree_order){0};
}

/* Never 0, and without the bit FOLDER. */
static uint64_t hash(const struct tree_order *o, const char *path, size_t n)
{
	uint64_t h = o->key[0] ^ n;

	while (n > 0) {
		uint64_t w = 0;
		size_t k = MIN_OF(n, sizeof(w));

		memcpy(&w, path, k);
		unsigned __int128 m = (unsigned __int128)(h ^ w) * (o->key[1] | 1);
		h = (uint64_t)m ^ (uint64_t)(m >> 64);
		path += k;
		n -= k;
	}
	h ^= h >> 29;
	h &= ~(uint64_t)FOLDER;
	return h ? h : 2;
}

static uint64_t *slot_of(uint64_t *slots, size_t cap, uint64_t h)
{
	size_t i = (h >> 1) & (cap - 1);

	while (slots[i] && (slots[i] & ~(uint64_t)FOLDER) != h)
		i = (i + 1) & (cap - 1);
	return &slots[i];
}

static int grow(struct tree_order *o)
{
	size_t cap = o->cap ? o->cap * 2 : SLOTS_MIN;
	uint64_t *slots = calloc(cap, sizeof(*slots));

	if (!slots)
		return -ENOMEM;
	if (!o->cap)
		io_random(o->key, sizeof(o->key));
	for (size_t i = 0; i < o->cap; i++)
		if (o->slots[i])
			*slot_of(slots, cap, o->slots[i] & ~(uint64_t)FOLDER) = o->slots[i];
	free(o->slots);
	o->slots = slots;
	o->cap = cap;
	return 0;
}

static bool has(const struct tree_order *o, const char *path, size_t len, bool folder)
{
	uint64_t s = *slot_of(o->slots, o->cap, hash(o, path, len));

	return s && (s & FOLDER) == (folder ? FOLDER : 0);
}

int tree_order_add(struct tree_order *o, const struct wire_entry *en, struct err *e)
{
	const char *slash = strrchr(en->path, '/');

	if (o->n >= ENTRIES_MAX)
		return err_set(e, -E2BIG, "more than %u files", ENTRIES_MAX);
	if (o->n + 1 > o->cap / 4 * 3 && grow(o) < 0)
		return err_oom(e);
	if (*en->path && !has(o, en->path, slash ? (size_t)(slash - en->path) : 0, true))
		return err_set(e, -EBADMSG, "\"%s\" comes before its folder", en->path);
	if (en->link && !has(o, en->link, strlen(en->link), false))
		return err_set(e, -EBADMSG,
			"\"%s\" is a further name of \"%s\", which did not come before it", en->path,
			en->link);
	uint64_t h = hash(o, en->path, strlen(en->path)), *slot = slot_of(o->slots, o->cap, h);
	o->n += !*slot;
	*slot = h | (S_ISDIR(en->mode) ? FOLDER : 0);
	return 0;
}
