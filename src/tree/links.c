/* SPDX-License-Identifier: MIT */
#include <string.h>

#include "inside.h"

enum { SLOTS_MIN = 256 };

struct tree_link {
	dev_t dev;
	ino_t ino;
	size_t path; /* in the text, counted from 1; 0: free */
};

void tree_links_done(struct tree_links *l)
{
	free(l->slots);
	free(l->text);
	*l = (struct tree_links){0};
}

/* Inode numbers are nobody's choice but the file system's; a slow table is as far as one can get with them. */
static struct tree_link *slot_of(struct tree_link *slots, size_t cap, dev_t dev, ino_t ino)
{
	size_t i = (size_t)(((uint64_t)ino ^ (uint64_t)dev << 32) * 0x9e3779b97f4a7c15u >> 20) & (cap - 1);

	while (slots[i].path && (slots[i].dev != dev || slots[i].ino != ino))
		i = (i + 1) & (cap - 1);
	return &slots[i];
}

static int grow_slots(struct tree_links *l)
{
	size_t cap = l->cap ? l->cap * 2 : SLOTS_MIN;
	struct tree_link *slots = calloc(cap, sizeof(*slots));

	if (!slots)
		return -ENOMEM;
	for (size_t i = 0; i < l->cap; i++)
		if (l->slots[i].path)
			*slot_of(slots, cap, l->slots[i].dev, l->slots[i].ino) = l->slots[i];
	free(l->slots);
	l->slots = slots;
	l->cap = cap;
	return 0;
}

static int grow_text(struct tree_links *l, size_t n)
{
	size_t size = MAX_OF(l->size, (size_t)4096);
	char *text;

	while (size - l->len < n)
		size *= 2;
	if (size == l->size)
		return 0;
	text = size > TREE_MEMORY_MAX / 4 ? NULL : realloc(l->text, size);
	if (!text)
		return -ENOMEM;
	l->text = text;
	l->size = size;
	return 0;
}

/* Where there is no memory left for it, a further name becomes a file of its own: the content is all there. */
const char *tree_links_seen(struct tree_links *l, dev_t dev, ino_t ino, const char *path)
{
	size_t len = strlen(path) + 1;
	struct tree_link *slot;

	if (l->n + 1 > l->cap / 4 * 3 && grow_slots(l) < 0)
		return NULL;
	slot = slot_of(l->slots, l->cap, dev, ino);
	if (slot->path)
		return l->text + slot->path - 1;
	if (grow_text(l, len) < 0)
		return NULL;
	memcpy(l->text + l->len, path, len);
	*slot = (struct tree_link){dev, ino, l->len + 1};
	l->len += len;
	l->n++;
	return NULL;
}
