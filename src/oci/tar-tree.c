/* SPDX-License-Identifier: MIT */
/*
 * An archive as a tree. What it says is checked before a sink sees it: where its paths lead, that a folder is where something
 * lies below it, that a further name is one of what came. So a sink gets a tree as from any other source.
 */
#include <string.h>
#include <sys/stat.h>

#include "layer.h"
#include "oci/content.h"
#include "paths.h"
#include "store.h"
#include "tar.h"
#include "tree.h"

#define LIBARCHIVE_XATTR_NAME_MAX 255

struct reading {
	struct oci_tar tar;
	const struct tree_sink *to;
	struct oci_paths paths; /* of what was sent */
	bool root_sent;
	int fd;
	bool any; /* a byte came */
};

static ssize_t read_input(void *data, void *buf, size_t n, struct err *e)
{
	struct reading *rd = data;
	ssize_t got = oci_source_fd(&rd->fd, buf, n, e);

	rd->any |= got > 0;
	return got;
}

static int send(struct reading *rd, struct wire_entry *en, struct err *e)
{
	struct oci_path *p;
	int r = oci_paths_add(&rd->paths, en->path, strlen(en->path), &p, e);

	if (r < 0)
		return r;
	if (!en->link) /* a further name is no file to have more of */
		p->mode = en->mode;
	else
		p->mode = oci_paths_find(&rd->paths, en->link, strlen(en->link))->mode;
	return rd->to->entry(rd->to->data, en, e);
}

static int send_folder(struct reading *rd, const char *path, size_t n, struct err *e)
{
	char text[OCI_TREE_PATH_MAX];
	struct wire_entry en = {.path = text, .mode = S_IFDIR | 0755};

	memcpy(text, path, n);
	text[n] = '\0';
	return send(rd, &en, e);
}

/* The folders that a path lies in: there, or made. */
static int send_parents(struct reading *rd, const char *path, struct err *e)
{
	if (!rd->root_sent) {
		rd->root_sent = true;
		int r = send_folder(rd, "", 0, e);
		if (r < 0)
			return r;
	}
	for (const char *p = strchr(path, '/'); p; p = strchr(p + 1, '/')) {
		const struct oci_path *dir = oci_paths_find(&rd->paths, path, (size_t)(p - path));
		int r = dir ? 0 : send_folder(rd, path, (size_t)(p - path), e);
		if (r < 0)
			return r;
		if (dir && !S_ISDIR(dir->mode))
			return err_set(e, -ENOTDIR, "\"%.*s\" is not a folder, but something lies below it",
				(int)MIN_OF(p - path, (ptrdiff_t)300), path);
	}
	return 0;
}

/* As text: nothing of it may lead above the root, even where it comes back. */
static int clean(const char *path, char dst[OCI_TREE_PATH_MAX], struct err *e)
{
	size_t depth = 0;

	for (const char *p = path; *p; p += *p == '/') {
		size_t n = strcspn(p, "/");
		if (n == 2 && p[0] == '.' && p[1] == '.') {
			if (depth == 0)
				return err_set(e, -EINVAL, "the path leads out of the archive");
			depth--;
		} else if (n > 0 && !(n == 1 && p[0] == '.')) {
			depth++;
		}
		p += n;
	}
	return oci_path_clean(path, dst, e);
}

/* ---- one entry ---- */

/* libarchive has them last first: so that an archive of them is the one they came from. */
static void reverse_xattrs(struct wire_entry *en)
{
	for (size_t i = 0; i < en->n_xattrs / 2; i++) {
		struct wire_xattr x = en->xattrs[i];
		en->xattrs[i] = en->xattrs[en->n_xattrs - 1 - i];
		en->xattrs[en->n_xattrs - 1 - i] = x;
	}
}

static int take_xattrs(struct reading *rd, struct archive_entry *ae, struct wire_entry *en, struct err *e)
{
	const struct libarchive *lib = rd->tar.lib;
	const char *name;
	const void *value;
	size_t n, sum = 0;
	int count = lib->archive_entry_xattr_reset(ae);

	if (count > WIRE_XATTR_MAX)
		return err_set(e, -E2BIG, "more than %d extended attributes", WIRE_XATTR_MAX);
	if (count <= 0)
		return 0;
	en->xattrs = calloc((size_t)count, sizeof(*en->xattrs));
	if (!en->xattrs)
		return err_oom(e);
	while (en->n_xattrs < (size_t)count &&
		lib->archive_entry_xattr_next(ae, &name, &value, &n) == ARCHIVE_OK) {
		size_t len = name ? strlen(name) : 0;
		if (len == 0 || len > LIBARCHIVE_XATTR_NAME_MAX) /* no file can have it */
			continue;
		if (n > WIRE_XATTRS_MAX || (sum += n + len + 1) > WIRE_XATTRS_MAX)
			return err_set(e, -E2BIG, "its extended attributes are larger than %u KiB",
				WIRE_XATTRS_MAX >> 10);
		struct wire_xattr *x = &en->xattrs[en->n_xattrs++];
		x->name = strdup(name);
		x->value = malloc(n + 1);
		x->len = n;
		if (!x->name || !x->value)
			return err_oom(e);
		if (n)
			memcpy(x->value, value, n);
	}
	reverse_xattrs(en);
	return 0;
}

static int send_content(struct reading *rd, uint64_t size, struct err *e)
{
	const void *p;
	size_t n;
	uint64_t off, at = 0;
	int r = 0;

	while (size > 0 && (r = oci_tar_data(&rd->tar, &p, &n, &off, e)) > 0) {
		if (n == 0)
			continue;
		if (off < at || off > size || n > size - off)
			return err_set(e, -EBADMSG, "damaged tar archive: content beyond its file's end");
		r = rd->to->content(rd->to->data, off, p, n, e);
		if (r < 0)
			return r;
		at = off + n;
	}
	return r;
}

static int send_link(struct reading *rd, const char *path, const char *target, struct err *e)
{
	char clean_target[OCI_TREE_PATH_MAX];
	int r = clean(target, clean_target, e);

	if (r < 0)
		return r;
	const struct oci_path *f = oci_paths_find(&rd->paths, clean_target, strlen(clean_target));
	if (!f)
		return err_set(e, -ENOENT, "it is a further name of \"%.300s\", which did not come before it",
			target);
	if (S_ISDIR(f->mode))
		return err_set(e, -EPERM, "it is a further name of \"%.300s\", which is a folder", target);
	if (strcmp(path, clean_target) == 0)
		return 0;
	struct wire_entry en = {.path = (char *)path, .link = clean_target};
	return send(rd, &en, e);
}

static int fill(struct reading *rd, struct archive_entry *ae, struct wire_entry *en, struct err *e)
{
	struct oci_tar_attr a;
	int64_t size = rd->tar.lib->archive_entry_size(ae);
	int r = oci_tar_attr(&rd->tar, ae, &a, e);

	if (r < 0)
		return r;
	en->mode = a.mode;
	en->uid = a.uid;
	en->gid = a.gid;
	en->mtime_s = a.mtime_s;
	en->mtime_ns = a.mtime_ns;
	if (S_ISREG(a.mode)) {
		if (size < 0 || size > (int64_t)OCI_FILE_MAX)
			return err_set(e, -EBADMSG, "a file's size is out of range");
		en->size = (uint64_t)size;
	}
	if (S_ISCHR(a.mode) || S_ISBLK(a.mode)) {
		if (a.major > UINT32_MAX || a.minor > UINT32_MAX)
			return err_set(e, -EINVAL, "device number %llu:%llu is out of range",
				(unsigned long long)a.major, (unsigned long long)a.minor);
		en->major = (uint32_t)a.major;
		en->minor = (uint32_t)a.minor;
	}
	if (S_ISLNK(a.mode)) {
		if (!*a.target || strlen(a.target) > WIRE_PATH_MAX)
			return err_set(e, -EINVAL, "a symbolic link's target is %s",
				*a.target ? "too long" : "empty");
		en->target = strdup(a.target);
		if (!en->target)
			return err_oom(e);
	}
	return take_xattrs(rd, ae, en, e);
}

static int send_entry(struct reading *rd, struct archive_entry *ae, const char *path, struct err *e)
{
	CLEANUP(wire_entry_done) struct wire_entry en = {0};
	char clean_path[OCI_TREE_PATH_MAX];
	const char *link = rd->tar.lib->archive_entry_hardlink(ae);
	int r = clean(path, clean_path, e);

	if (r < 0)
		return r;
	if (*clean_path == '\0' && (link || rd->tar.lib->archive_entry_filetype(ae) != AE_IFDIR))
		return err_set(e, -EISDIR, "the root is a folder");
	/* The root was sent already if anything was. */
	if (*clean_path == '\0' && rd->root_sent)
		return 0;
	if (*clean_path == '\0')
		rd->root_sent = true;
	r = send_parents(rd, clean_path, e);
	if (r < 0)
		return r;
	if (link)
		return send_link(rd, clean_path, link, e);
	en.path = strdup(clean_path);
	r = en.path ? fill(rd, ae, &en, e) : err_oom(e);
	if (r == 0)
		r = send(rd, &en, e);
	return r == 0 && S_ISREG(en.mode) ? send_content(rd, en.size, e) : r;
}

static int send_all(struct reading *rd, struct err *e)
{
	struct archive_entry *ae;
	int r;

	while ((r = oci_tar_next(&rd->tar, &ae, e)) > 0) {
		const char *path = rd->tar.lib->archive_entry_pathname(ae);
		if (!path)
			return err_set(e, -EBADMSG, "damaged tar archive: an entry has no name");
		r = send_entry(rd, ae, path, e);
		if (r < 0) {
			err_wrap(e, "entry \"%.300s\"", path);
			return r;
		}
	}
	if (r == 0 && !rd->any)
		return err_set(e, -ENODATA, "there is no archive: its input is empty");
	return r < 0 ? r : send_parents(rd, "", e);
}

int oci_tar_read(int fd, const struct tree_sink *to, struct err *e)
{
	CLEANUP(oci_stream_freep) struct oci_stream *s = NULL;
	struct reading rd = {.to = to, .fd = fd};
	struct oci_source src = {.read = read_input, .data = &rd};
	int r = oci_stream_new(OCI_STREAM_ARCHIVE, &src, NULL, OCI_UNPACKED_MAX, &s, e);

	if (r == 0)
		r = oci_tar_open(&rd.tar, s, e);
	if (r < 0)
		return r;
	r = send_all(&rd, e);
	/* What stands behind the end mark: whoever writes it should not meet a closed pipe. */
	if (r == 0)
		r = oci_stream_drain(s, e);
	oci_tar_close(&rd.tar);
	oci_paths_done(&rd.paths);
	return r < 0 ? r : to->end(to->data, e);
}
