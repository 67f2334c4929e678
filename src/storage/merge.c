/* SPDX-License-Identifier: MIT */
#include "merge.h"

#include <string.h>
#include <sys/stat.h>

/* A folder of the upper layer on the way to where we are. */
struct level {
	const struct oci_node *image; /* the image's folder that it lies over; NULL: none */
	size_t next;		      /* number of the image's entry that was not dealt with */
	size_t len;		      /* of its path */
	bool hidden;		      /* what the image has in it is not seen */
};

struct merge {
	const struct oci_root *root;
	const struct merge_ops *ops;
	struct tree_sink sink;
	struct level *levels;
	size_t n_levels, cap;
	bool is_file; /* content may follow */
	char path[WIRE_PATH_MAX + 1];
};

static int confused(struct err *e)
{
	return err_set(e, -EBADMSG, "what was read of the box's disk is out of order");
}

static int push(struct merge *m, const struct level *l, struct err *e)
{
	if (m->n_levels == m->cap) {
		size_t cap = m->cap ? 2 * m->cap : 32;
		struct level *v = realloc(m->levels, cap * sizeof(*v));
		if (!v)
			return err_oom(e);
		m->levels = v;
		m->cap = cap;
	}
	m->levels[m->n_levels++] = *l;
	return 0;
}

/*
 * Deals with the image's entries of the folder up to this name; NULL: all that are left. *ret: what it has under the name.
 * m->path is that of the folder, and stays so.
 */
static int pass_image(
	struct merge *m, struct level *l, const char *until, const struct oci_node **ret, struct err *e)
{
	const struct oci_node *n;
	const char *name;

	*ret = NULL;
	while (l->image && (n = oci_node_at(m->root, l->image, l->next, &name))) {
		int c = until ? strcmp(name, until) : -1;
		if (c > 0)
			return 0;
		l->next++;
		if (c == 0) {
			*ret = n;
			return 0;
		}
		size_t slash = l->len > 0, len = strlen(name);
		if (len + slash > WIRE_PATH_MAX - l->len)
			return err_set(e, -ENAMETOOLONG, "a path of the image is longer than %d bytes",
				WIRE_PATH_MAX);
		if (slash)
			m->path[l->len] = '/';
		memcpy(m->path + l->len + slash, name, len + 1);
		int r = m->ops->image(m->ops->data, m->path, n, l->hidden, e);
		m->path[l->len] = '\0';
		if (r < 0)
			return r;
	}
	return 0;
}

/* Leaves the folder that we are in. */
static int pop(struct merge *m, struct err *e)
{
	struct level *l = &m->levels[m->n_levels - 1];
	const struct oci_node *none;

	m->path[l->len] = '\0';
	int r = pass_image(m, l, NULL, &none, e);
	if (r == 0)
		r = m->ops->leave(m->ops->data, m->path, e);
	m->n_levels--;
	return r;
}

/* Whether path lies somewhere below the folder of this level. */
static bool is_below(const struct merge *m, const struct level *l, const char *path)
{
	return strncmp(path, m->path, l->len) == 0 && (l->len == 0 ? *path != '\0' : path[l->len] == '/');
}

static int descend(struct merge *m, const struct wire_entry *en, const struct oci_node *below, bool hidden,
	struct err *e)
{
	const char *name;
	struct level l = {
		.image = below,
		.len = strlen(en->path),
		.hidden = hidden || en->opaque,
	};

	/* One that is no folder, or empty, has no first entry either. */
	if (below && !oci_node_at(m->root, below, 0, &name))
		l.image = NULL;
	return push(m, &l, e);
}

static int check_order(struct merge *m, const char *path, struct err *e)
{
	/* Of the entry before, which was not left, m->path has the whole path, also if it was no folder. */
	const unsigned char *a = (const unsigned char *)m->path, *b = (const unsigned char *)path;

	while (*a && *a == *b)
		a++, b++;
	/* A slash ends a component, and so comes before every byte of one. */
	int x = *a == '/' ? 1 : *a ? *a + 1 : 0, y = *b == '/' ? 1 : *b ? *b + 1 : 0;
	return x < y ? 0 : confused(e);
}

/* Leaves what the path is not in. *ret: what the image has there; *hidden: but it is not seen. */
static int find_place(
	struct merge *m, const char *path, const struct oci_node **ret, bool *hidden, struct err *e)
{
	const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
	struct level *l = &m->levels[m->n_levels - 1];
	int r = check_order(m, path, e);

	/* The root, which all is in, is never left. */
	while (r == 0 && !is_below(m, l, path)) {
		r = pop(m, e);
		l = &m->levels[m->n_levels - 1];
	}
	if (r == 0 && l->len != (slash ? (size_t)(slash - path) : 0))
		r = confused(e);
	if (r < 0)
		return r;
	m->path[l->len] = '\0';
	*hidden = l->hidden;
	return pass_image(m, l, name, ret, e);
}

static int on_entry(void *data, const struct wire_entry *en, struct err *e)
{
	struct merge *m = data;
	const struct oci_node *below = oci_root_node(m->root);
	bool hidden = false;
	int r = 0;

	if (!wire_path_valid(en->path) || (m->n_levels == 0) != (*en->path == '\0') ||
		(m->n_levels == 0 && !S_ISDIR(en->mode)))
		return confused(e);
	if (m->n_levels > 0)
		r = find_place(m, en->path, &below, &hidden, e);
	m->is_file = S_ISREG(en->mode);
	if (r == 0)
		r = m->ops->upper(m->ops->data, en, below, hidden, e);
	if (r == 0 && S_ISDIR(en->mode))
		r = descend(m, en, below, hidden, e);
	memcpy(m->path, en->path, strlen(en->path) + 1); /* checked: at most WIRE_PATH_MAX bytes */
	return r;
}

static int on_content(void *data, uint64_t offset, const void *bytes, size_t len, struct err *e)
{
	struct merge *m = data;

	return m->is_file ? m->ops->content(m->ops->data, offset, bytes, len, e) : confused(e);
}

static int on_end(void *data, struct err *e)
{
	struct merge *m = data;
	int r = m->n_levels > 0 ? 0 : confused(e);

	while (r == 0 && m->n_levels > 0)
		r = pop(m, e);
	return r;
}

int merge_new(const struct oci_root *r, const struct merge_ops *ops, struct merge **ret, struct err *e)
{
	struct merge *m = calloc(1, sizeof(*m));

	if (!m)
		return err_oom(e);
	m->root = r;
	m->ops = ops;
	m->sink = (struct tree_sink){on_entry, on_content, on_end, m};
	*ret = m;
	return 0;
}

const struct tree_sink *merge_sink(struct merge *m)
{
	return &m->sink;
}

void merge_free(struct merge *m)
{
	if (!m)
		return;
	free(m->levels);
	free(m);
}
