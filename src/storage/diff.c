/* SPDX-License-Identifier: MIT */
/*
 * What differs from the image, by the rules by which Docker compares two trees (github.com/moby/moby, pkg/archive/changes.go,
 * FileInfo.addChanges): what is only in the box was added, what is only in the image deleted, with all that is in it; what is in
 * both was changed if it looks so (looks_changed). A folder in which something is different was changed.
 */
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "inside.h"

/* A folder on the way to where we are. */
struct folder {
	size_t len; /* of its path */
	char kind;  /* what is to be told of it if something in it is different */
	bool told;
};

struct diff {
	const struct oci_root *image;
	struct strv mounted;
	struct folder *folders;
	size_t n, cap;
	int (*fn)(void *data, enum storage_change kind, const char *path);
	void *data;
	int stopped; /* what fn returned */
	char path[WIRE_PATH_MAX + 2];
};

static int tell_one(struct diff *d, char kind, const char *path, size_t len)
{
	d->path[0] = '/';
	memcpy(d->path + 1, path, len);
	d->path[len + 1] = '\0';
	d->stopped = d->fn(d->data, (enum storage_change)kind, d->path);
	return d->stopped ? -ECANCELED : 0;
}

/* With the folders on the way, of which nothing was told yet. */
static int tell(struct diff *d, char kind, const char *path)
{
	int r = 0;

	for (size_t i = 1; r == 0 && i < d->n; i++) {
		struct folder *f = &d->folders[i];
		if (!f->told)
			r = tell_one(d, f->kind, path, f->len);
		f->told = true;
	}
	return r < 0 ? r : tell_one(d, kind, path, strlen(path));
}

static int push(struct diff *d, const struct folder *f, struct err *e)
{
	if (d->n == d->cap) {
		size_t cap = d->cap ? 2 * d->cap : 32;
		struct folder *v = realloc(d->folders, cap * sizeof(*v));
		if (!v)
			return err_oom(e);
		d->folders = v;
		d->cap = cap;
	}
	d->folders[d->n++] = *f;
	return 0;
}

/* *ret: what happened to it, 0 for nothing. */
static int judge(
	struct diff *d, const struct wire_entry *en, const struct oci_node *below, char *ret, struct err *e)
{
	struct wire_entry before;

	*ret = 0;
	if (!below) {
		*ret = en->whiteout ? 0 : STORAGE_ADDED;
		return 0;
	}
	if (en->whiteout) {
		*ret = STORAGE_DELETED;
		return 0;
	}
	int r = oci_node_entry(d->image, below, &before, NULL, e);
	if (r < 0)
		return r;
	*ret = looks_changed(en, &before) ? STORAGE_MODIFIED : 0;
	wire_entry_done(&before);
	return 0;
}

static int on_upper(
	void *data, const struct wire_entry *en, const struct oci_node *below, bool hidden, struct err *e)
{
	struct diff *d = data;
	char kind;

	(void)hidden;
	if (!*en->path)
		return push(d, &(struct folder){.told = true}, e);
	int r = judge(d, en, below, &kind, e);
	if (r < 0)
		return r;
	bool made = mounted_made(d->image, &d->mounted, en, below), told = kind && !made;
	if (told)
		r = tell(d, kind, en->path);
	if (r == 0 && S_ISDIR(en->mode)) {
		struct folder f = {
			.len = strlen(en->path), .kind = kind ? kind : STORAGE_MODIFIED, .told = told};
		r = push(d, &f, e);
	}
	return r;
}

static int on_content(void *data, uint64_t offset, const void *bytes, size_t len, struct err *e)
{
	(void)data, (void)offset, (void)bytes, (void)len, (void)e;
	return 0;
}

static int on_image(void *data, const char *path, const struct oci_node *n, bool hidden, struct err *e)
{
	(void)n, (void)e;
	return hidden ? tell(data, STORAGE_DELETED, path) : 0;
}

static int on_leave(void *data, const char *path, struct err *e)
{
	struct diff *d = data;

	(void)path, (void)e;
	d->n--;
	return 0;
}

int storage_diff(struct storage_root *r, const struct strv *mounts,
	int (*fn)(void *data, enum storage_change kind, const char *path), void *data, struct err *e)
{
	struct diff *d = calloc(1, sizeof(*d));
	bool any;

	if (!d)
		return err_oom(e);
	d->image = r->image;
	d->fn = fn;
	d->data = data;
	struct merge_ops ops = {on_upper, on_content, on_image, on_leave, d};
	int rc = mounted_paths(r->image, mounts, &d->mounted, e);
	if (rc == 0)
		rc = storage_merge(r, false, &ops, &any, e);
	if (d->stopped)
		rc = d->stopped;
	strv_done(&d->mounted);
	free(d->folders);
	free(d);
	return rc;
}
