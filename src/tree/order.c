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

/* For one more. */
static int make_room(struct tree_order *o, struct err *e)
{
	if (o->n >= ENTRIES_MAX)
		return err_set(e, -E2BIG, "more than %u files", ENTRIES_MAX);
	return o->n + 1 > o->cap / 4 * 3 && grow(o) < 0 ? err_oom(e) : 0;
}

int tree_order_add(struct tree_order *o, const struct wire_entry *en, struct err *e)
{
	const char *slash = strrchr(en->path, '/');
	int r = make_room(o, e);

	if (r < 0)
		return r;
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

/* ---- what a writer made ---- */

void tree_made_done(struct tree_made *m)
{
	tree_order_done(&m->set);
}

static uint64_t hash_made(const struct tree_made *m, const char *path, const struct stat *st)
{
	const uint64_t v[] = {hash(&m->set, path, strlen(path)), st->st_dev, st->st_ino};

	return hash(&m->set, (const char *)v, sizeof(v));
}

int tree_made_add(struct tree_made *m, const char *path, const struct stat *st, struct err *e)
{
	int r = make_room(&m->set, e);

	if (r < 0)
		return r;
	uint64_t h = hash_made(m, path, st), *slot = slot_of(m->set.slots, m->set.cap, h);
	m->set.n += !*slot;
	*slot = h;
	return 0;
}

bool tree_made_has(const struct tree_made *m, const char *path, const struct stat *st)
{
	return m->set.cap && *slot_of(m->set.slots, m->set.cap, hash_made(m, path, st));
}
