/* SPDX-License-Identifier: MIT */
/* The whole file system of a box. */
#include <search.h>
#include <string.h>
#include <sys/stat.h>

#include "inside.h"

/* A file of the image that has several names, and the first of them that came. */
struct first {
	uint64_t id;
	char *path;
};

struct all {
	const struct oci_root *image;
	const struct tree_sink *to;
	void *firsts; /* tsearch(3) */
	char path[WIRE_PATH_MAX + 1];
};

static int compare_firsts(const void *a, const void *b)
{
	uint64_t x = ((const struct first *)a)->id, y = ((const struct first *)b)->id;

	return x < y ? -1 : x > y;
}

static void first_free(void *p)
{
	free(((struct first *)p)->path);
	free(p);
}

/* *ret: the path at which it came before; NULL: that is now. */
static int find_or_note(struct all *a, uint64_t id, const char *path, const char **ret, struct err *e)
{
	struct first key = {.id = id};
	struct first **found = tfind(&key, &a->firsts, compare_firsts);

	*ret = found ? (*found)->path : NULL;
	if (found)
		return 0;
	struct first *f = calloc(1, sizeof(*f));
	if (f) {
		f->id = id;
		f->path = strdup(path);
	}
	if (!f || !f->path || !tsearch(f, &a->firsts, compare_firsts)) {
		if (f)
			first_free(f);
		return err_oom(e);
	}
	return 0;
}

/* ---- the image's part ---- */

static int send_file(struct all *a, const struct oci_node *n, bool *ret_known, struct err *e)
{
	struct wire_entry en;
	const char *first = NULL;
	uint64_t id;
	int r = oci_node_entry(a->image, n, &en, &id, e);

	if (r < 0)
		return r;
	if (!S_ISDIR(en.mode) && oci_node_names(a->image, n) > 1)
		r = find_or_note(a, id, a->path, &first, e);
	if (r == 0 && first) {
		struct wire_entry link = {.path = a->path, .link = (char *)first};
		r = a->to->entry(a->to->data, &link, e);
	} else if (r == 0) {
		en.path = a->path;
		r = a->to->entry(a->to->data, &en, e);
		en.path = NULL;
	}
	wire_entry_done(&en);
	*ret_known = first != NULL;
	return r;
}

/* The tree below a node, whose path is in a->path. Recursion is bounded by the depth of images. */
static int send_tree(struct all *a, const struct oci_node *n, struct err *e)
{
	const struct oci_node *child;
	const char *name;
	bool known = false;
	size_t len = strlen(a->path);

	if (node_is(a->image, n, S_IFSOCK))
		return 0;
	int r = send_file(a, n, &known, e);
	if (r == 0 && !known)
		r = oci_node_content(a->image, n, a->to, e);
	for (size_t i = 0; r == 0 && (child = oci_node_at(a->image, n, i, &name)); i++) {
		size_t k = strlen(name);
		if (k + 1 > WIRE_PATH_MAX - len)
			return err_set(e, -ENAMETOOLONG, "a path of the image is longer than %d bytes",
				WIRE_PATH_MAX);
		a->path[len] = '/';
		memcpy(a->path + len + 1, name, k + 1);
		r = send_tree(a, child, e);
		a->path[len] = '\0';
	}
	return r;
}

static int on_image(void *data, const char *path, const struct oci_node *n, bool hidden, struct err *e)
{
	struct all *a = data;

	if (hidden)
		return 0;
	memcpy(a->path, path, strlen(path) + 1); /* of at most WIRE_PATH_MAX bytes */
	return send_tree(a, n, e);
}

/* ---- the upper layer's ---- */

static int on_upper(
	void *data, const struct wire_entry *en, const struct oci_node *below, bool hidden, struct err *e)
{
	struct all *a = data;
	struct wire_entry plain = *en;

	(void)below, (void)hidden;
	if (en->whiteout || S_ISSOCK(en->mode))
		return 0;
	plain.opaque = false;
	return a->to->entry(a->to->data, &plain, e);
}

static int on_content(void *data, uint64_t offset, const void *bytes, size_t len, struct err *e)
{
	struct all *a = data;

	return a->to->content(a->to->data, offset, bytes, len, e);
}

static int on_leave(void *data, const char *path, struct err *e)
{
	(void)data, (void)path, (void)e;
	return 0;
}

int storage_read_all(struct storage_root *r, const struct tree_sink *to, struct err *e)
{
	struct all *a = calloc(1, sizeof(*a));
	bool any;

	if (!a)
		return err_oom(e);
	*a = (struct all){.image = r->image, .to = to};
	struct merge_ops ops = {on_upper, on_content, on_image, on_leave, a};
	int rc = storage_merge(r, true, &ops, &any, e);
	if (rc == 0)
		rc = any ? to->end(to->data, e) : oci_node_read(r->image, oci_root_node(r->image), to, e);
	tdestroy(a->firsts, first_free);
	free(a);
	return rc;
}
