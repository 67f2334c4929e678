/* SPDX-License-Identifier: MIT */
#include "layer.h"

#include <string.h>
#include <sys/stat.h>

#include "recipe.h"
#include "tar.h"

#define PROGRESS_STEP (1u << 20) /* bytes */

struct layer {
	struct oci_erofs *w;
	struct oci_tar tar;
	void (*on_block)(void *data);
	void *data;
	uint64_t reported;
};

static void report(struct layer *l)
{
	uint64_t n = oci_stream_bytes_out(l->tar.stream);

	if (l->on_block && n - l->reported >= PROGRESS_STEP) {
		l->reported = n;
		l->on_block(l->data);
	}
}

static int read_xattrs(struct layer *l, struct archive_entry *en, struct oci_attr *a, struct err *e)
{
	const struct libarchive *lib = l->tar.lib;
	const char *name;
	const void *value;
	size_t n;

	lib->archive_entry_xattr_reset(en);
	while (lib->archive_entry_xattr_next(en, &name, &value, &n) == ARCHIVE_OK) {
		int r = name ? oci_erofs_xattr(&a->xattrs, &a->xattr_len, name, value, n, e) : 0;
		if (r < 0)
			return r;
	}
	return 0;
}

/* As Linux packs device numbers into 32 bits (new_encode_dev). */
static int encode_device(uint64_t major, uint64_t minor, uint32_t *ret, struct err *e)
{
	if (major >= 1u << 12 || minor >= 1u << 20)
		return err_set(e, -EINVAL, "device number %llu:%llu is out of range",
			(unsigned long long)major, (unsigned long long)minor);
	*ret = (uint32_t)((minor & 0xff) | major << 8 | (minor & ~(uint64_t)0xff) << 12);
	return 0;
}

static int read_attr(struct layer *l, struct archive_entry *en, struct oci_attr *a, struct err *e)
{
	struct oci_tar_attr t;
	int r = oci_tar_attr(&l->tar, en, &t, e);

	if (r < 0)
		return r;
	*a = (struct oci_attr){.mode = t.mode,
		.uid = t.uid,
		.gid = t.gid,
		.mtime_s = t.mtime_s,
		.mtime_ns = t.mtime_ns,
		.target = t.target};
	if (S_ISCHR(a->mode) || S_ISBLK(a->mode)) {
		r = encode_device(t.major, t.minor, &a->rdev, e);
		if (r < 0)
			return r;
	}
	return read_xattrs(l, en, a, e);
}

static int read_content(struct layer *l, struct oci_inode *i, uint64_t size, struct err *e)
{
	const void *p;
	size_t n;
	uint64_t off;
	int r = oci_erofs_file_begin(l->w, i, size, e);

	while (r == 0 && size > 0) {
		r = oci_tar_data(&l->tar, &p, &n, &off, e);
		if (r <= 0)
			break;
		r = oci_erofs_file_write(l->w, off, p, n, e);
		report(l);
	}
	return r < 0 ? r : oci_erofs_file_end(l->w, e);
}

static int add_entry(
	struct layer *l, struct archive_entry *en, const char *path, struct oci_attr *a, struct err *e)
{
	struct oci_inode *i = NULL;
	struct oci_recipe *recipe = l->w->recipe;

	if (recipe)
		oci_recipe_entry(recipe, path, a);
	int r = oci_tree_add(l->w->tree, path, a, &i, e);
	if (r < 0)
		return r;
	if (i) {
		int64_t size = l->tar.lib->archive_entry_size(en);
		if (size < 0) {
			/* No discard may see an inode whose content was never begun. */
			i->size = 0;
			return err_set(e, -EBADMSG, "a file has a negative size");
		}
		r = read_content(l, i, (uint64_t)size, e);
	}
	if (r == 0 && recipe)
		oci_recipe_entry_end(recipe, i);
	return r;
}

static int apply_entry(struct layer *l, struct archive_entry *en, const char *path, struct err *e)
{
	const char *hardlink = l->tar.lib->archive_entry_hardlink(en);
	struct oci_attr a = {0};

	if (hardlink) {
		if (l->w->recipe)
			oci_recipe_link(l->w->recipe, path, hardlink);
		return oci_tree_link(l->w->tree, path, hardlink, e);
	}
	int r = read_attr(l, en, &a, e);
	if (r < 0) {
		free(a.xattrs);
		return r;
	}
	return add_entry(l, en, path, &a, e);
}

static int apply_all(struct layer *l, struct err *e)
{
	struct archive_entry *en;
	int r;

	while ((r = oci_tar_next(&l->tar, &en, e)) > 0) {
		const char *path = l->tar.lib->archive_entry_pathname(en);
		if (!path)
			return err_set(e, -EBADMSG, "damaged tar archive: an entry has no name");
		r = apply_entry(l, en, path, e);
		if (r < 0) {
			err_wrap(e, "entry \"%.300s\"", path);
			return r;
		}
		report(l);
	}
	return r;
}

int oci_layer_apply(
	struct oci_erofs *w, struct oci_stream *s, void (*on_block)(void *data), void *data, struct err *e)
{
	struct layer l = {.w = w, .on_block = on_block, .data = data};
	int r = oci_tar_open(&l.tar, s, e);

	if (r < 0)
		return r;
	oci_erofs_next_layer(w);
	r = apply_all(&l, e);
	oci_tar_close(&l.tar);
	/* A tar ends at its end mark; the digest covers whatever comes after that, too. */
	return r < 0 ? r : oci_stream_drain(s, e);
}
