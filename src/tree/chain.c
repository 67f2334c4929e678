/* SPDX-License-Identifier: MIT */
/*
 * THEORY OF OPERATION
 *
 * Entries come mostly folder by folder, so the folders on the way to the last one stay open: at[i] is the i-th part of
 * the path. Of a deep path only the TREE_OPEN_MAX last ones do; those above are opened again, part by part from the nearest
 * one that is open, when the tree comes back to them.
 */
#include <fcntl.h>
#include <string.h>

#include "inside.h"

void tree_chain_init(struct tree_chain *c, int root)
{
	c->path[0] = '\0';
	c->at[0].end = 0;
	c->at[0].fd = root;
	c->depth = c->n_open = 0;
}

static void pop(struct tree_chain *c)
{
	c->n_open -= c->at[c->depth].fd >= 0;
	close_fd(&c->at[c->depth--].fd);
}

void tree_chain_done(struct tree_chain *c)
{
	while (c->depth)
		pop(c);
}

static void close_uppermost(struct tree_chain *c)
{
	size_t i = 1;

	while (c->at[i].fd < 0)
		i++;
	close_fd(&c->at[i].fd);
	c->n_open--;
}

static int open_level(struct tree_chain *c, size_t i)
{
	size_t start = i > 1 ? c->at[i - 1].end + 1 : 0;
	char name[256];

	memcpy(name, c->path + start, c->at[i].end - start);
	name[c->at[i].end - start] = '\0';
	int fd = tree_open(c->at[i - 1].fd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW, 0);
	if (fd < 0)
		return fd == -ELOOP ? -ENOTDIR : fd;
	c->at[i].fd = fd;
	if (++c->n_open > TREE_OPEN_MAX)
		close_uppermost(c);
	return 0;
}

/* Leaves what is not on the way to path[0 .. len). */
static void keep_common(struct tree_chain *c, const char *path, size_t len)
{
	while (c->depth) {
		size_t end = c->at[c->depth].end;

		if (end <= len && (end == len || path[end] == '/') && memcmp(c->path, path, end) == 0)
			return;
		pop(c);
	}
}

int tree_chain_open(struct tree_chain *c, const char *path, size_t len)
{
	size_t i, known;

	keep_common(c, path, len);
	known = c->depth;
	/* The rest, still closed. */
	while (c->at[c->depth].end < len) {
		size_t start = c->depth ? c->at[c->depth].end + 1 : 0;
		size_t n = strcspn(path + start, "/");

		if (start + n > len || n > 255 || c->depth == TREE_DEPTH_MAX)
			return -ENAMETOOLONG;
		memcpy(c->path, path, start + n);
		c->depth++;
		c->at[c->depth].end = start + n;
		c->at[c->depth].fd = -1;
	}
	if (c->at[c->depth].fd >= 0)
		return c->at[c->depth].fd;
	for (i = c->depth; c->at[i].fd < 0; i--)
		;
	while (++i <= c->depth) {
		int r = open_level(c, i);

		if (r < 0) {
			while (c->depth > MIN_OF(known, i - 1))
				pop(c);
			return r;
		}
	}
	return c->at[c->depth].fd;
}

int tree_chain_parent(struct tree_chain *c, const char *path, const char **ret_base)
{
	const char *slash = strrchr(path, '/');

	*ret_base = slash ? slash + 1 : path;
	return tree_chain_open(c, path, slash ? (size_t)(slash - path) : 0);
}
