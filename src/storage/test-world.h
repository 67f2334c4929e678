/* SPDX-License-Identifier: MIT */
/* For tests: folders, ext4 disks made of them, images, and trees as text. After cmocka.h. */
#ifndef STORAGE_TEST_WORLD_H
#define STORAGE_TEST_WORLD_H

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "base/io.h"
#include "oci/transfer.h"
#include "reader.h"
#include "state/event.h"
#include "storage/storage.h"

struct world {
	char path[64];
	int fd; /* that folder */
	struct state *st;
	struct oci_store *store;
	int n_images;
};

static inline int world_setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	const char *tmp = getenv("TMPDIR");
	struct err e = {0};
	char home[80];

	*state = w;
	snprintf(w->path, sizeof(w->path), "%.40s/a3s-storage-XXXXXX", tmp ? tmp : "/tmp");
	if (!mkdtemp(w->path))
		return -1;
	w->fd = open(w->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	snprintf(home, sizeof(home), "%s/home", w->path);
	setenv("A3S_HOME", home, 1);
	setenv("W", w->path, 1);
	setenv("PATH", "/usr/sbin:/sbin:/usr/bin:/bin", 1);
	umask(022);
	if (state_open(&w->st, &e) < 0 || event_init(w->st, &e) < 0 ||
		oci_store_open(w->st, &w->store, &e) < 0) {
		fprintf(stderr, "%s\n", e.msg);
		return -1;
	}
	return 0;
}

static inline int world_teardown(void **state)
{
	struct world *w = *state;

	oci_store_close(w->store);
	state_close(w->st);
	close_fd(&w->fd);
	int r = io_remove_tree_at(AT_FDCWD, w->path);
	free(w);
	return r;
}

/* A script, in that folder, which it may call $W too. */
static inline void shell(struct world *w, const char *script)
{
	CLEANUP_FREE char *line = str_printf("cd \"$W\" && set -e && { %s\n} >&2", script);

	assert_non_null(line);
	assert_int_equal(fchdir(w->fd), 0);
	if (system(line) != 0)
		fail_msg("failed: %s", script);
}

static inline void set_xattr(struct world *w, const char *path, const char *name, const void *value, size_t n)
{
	CLEANUP_FREE char *full = str_printf("%s/%s", w->path, path);

	assert_int_equal(lsetxattr(full, name, value, n, 0), 0);
}

/*
 * The ext4 disk `disk` with the folder `up` in it (upper/ is the upper layer), as a box's disk is made; then what debugfs(8) is
 * told by `commands`, if anything.
 */
static inline void make_disk(struct world *w, const char *options, const char *commands)
{
	CLEANUP_FREE char *script = str_printf(
		"rm -f disk; mkdir -p up/work; mke2fs -q -F -t ext4 -b 4096 -m 0 -O ^resize_inode %s"
		" -E lazy_itable_init=1,nodiscard,root_owner=0:0 -d up disk 64M",
		options);

	assert_non_null(script);
	shell(w, script);
	if (!commands)
		return;
	CLEANUP_FREE char *change =
		str_printf("debugfs -w -f - disk 2>&1 >/dev/null <<'END'\n%s\nEND", commands);
	assert_non_null(change);
	shell(w, change);
}

static inline int open_disk(struct world *w)
{
	int fd = openat(w->fd, "disk", O_RDWR | O_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

/* An image of the folder `base`: its disk's path below the home folder, malloc'd. */
static inline char *make_image(struct world *w)
{
	struct err e = {0};
	struct oci_import_opts o = {0};
	struct oci_image *i = NULL;
	char *id = NULL, *path = NULL;

	shell(w, "tar -C base --format=pax --numeric-owner --sort=name -cf base.tar .");
	CLEANUP_CLOSE int fd = openat(w->fd, "base.tar", O_RDONLY | O_CLOEXEC);
	if (oci_import(w->store, fd, &o, NULL, &id, &e) < 0 || oci_image_find(w->store, id, &i, &e) < 0 ||
		oci_image_disk(w->store, i, NULL, &path, &e) < 0)
		fail_msg("%s", e.msg);
	free(path);
	path = str_printf("images/disks/%s.img", strchr(i->chain_id, ':') + 1);
	assert_non_null(path);
	oci_image_free(i);
	free(id);
	return path;
}

/* ---- trees as text ---- */

struct dump {
	struct buf text;
	uint64_t sum;	  /* of the last file's content */
	bool file, times; /* mtime with nanoseconds; else without, and not at all of folders */
};

static inline void dump_print(struct dump *d, const char *text)
{
	assert_int_equal(buf_append(&d->text, text, strlen(text)), 0);
}

static inline void dump_file_end(struct dump *d)
{
	char line[40];

	if (!d->file)
		return;
	d->file = false;
	snprintf(line, sizeof(line), "\t%016llx\n", (unsigned long long)d->sum);
	dump_print(d, line);
}

static inline int compare_xattrs(const void *a, const void *b)
{
	return strcmp(((const struct wire_xattr *)a)->name, ((const struct wire_xattr *)b)->name);
}

static inline int dump_entry(void *data, const struct wire_entry *en, struct err *e)
{
	struct dump *d = data;
	char line[256], path[4 * WIRE_PATH_MAX + 1];

	(void)e;
	dump_file_end(d);
	text_escape(path, sizeof(path), en->path);
	dump_print(d, path);
	if (en->whiteout || en->link) {
		dump_print(d, en->whiteout ? "\twhiteout\n" : " = ");
		dump_print(d, en->whiteout ? "" : en->link);
		dump_print(d, en->whiteout ? "" : "\n");
		return 0;
	}
	snprintf(line, sizeof(line), "\t%o %u:%u %u:%u %llu%s", en->mode, en->uid, en->gid, en->major,
		en->minor, (unsigned long long)en->size, en->opaque ? " opaque" : "");
	dump_print(d, line);
	if (d->times || !S_ISDIR(en->mode)) {
		snprintf(line, sizeof(line), " %lld.%09u", (long long)en->mtime_s,
			d->times ? en->mtime_ns : 0);
		dump_print(d, line);
	}
	if (en->target) {
		dump_print(d, " -> ");
		dump_print(d, en->target);
	}
	if (en->n_xattrs)
		qsort(en->xattrs, en->n_xattrs, sizeof(*en->xattrs), compare_xattrs);
	for (size_t i = 0; i < en->n_xattrs; i++) {
		uint64_t sum = en->xattrs[i].len;
		for (size_t k = 0; k < en->xattrs[i].len; k++)
			sum = sum * 31 + en->xattrs[i].value[k];
		snprintf(line, sizeof(line), " %.100s=%llx", en->xattrs[i].name, (unsigned long long)sum);
		dump_print(d, line);
	}
	d->sum = 0;
	d->file = S_ISREG(en->mode);
	if (!d->file)
		dump_print(d, "\n");
	return 0;
}

/* A sum in which a hole is what zeros are. */
static inline int dump_content(void *data, uint64_t offset, const void *bytes, size_t len, struct err *e)
{
	struct dump *d = data;
	const uint8_t *p = bytes;

	(void)e;
	assert_true(d->file);
	for (size_t i = 0; i < len; i++)
		if (p[i])
			d->sum += (offset + i + 1) * 0x9e3779b97f4a7c15 * p[i];
	return 0;
}

static inline int dump_end(void *data, struct err *e)
{
	(void)e;
	dump_file_end(data);
	assert_int_equal(buf_append(&((struct dump *)data)->text, "", 1), 0);
	return 0;
}

static inline struct tree_sink dump_sink(struct dump *d)
{
	return (struct tree_sink){dump_entry, dump_content, dump_end, d};
}

static inline const char *dump_text(const struct dump *d)
{
	return (const char *)buf_data(&d->text);
}

static inline void dump_done(struct dump *d)
{
	buf_done(&d->text);
}

/* A folder of the host. */
static inline void dump_folder(struct world *w, const char *name, struct dump *d)
{
	struct tree_read_opts o = {0};
	struct tree_sink to = dump_sink(d);
	struct err e = {0};
	CLEANUP_CLOSE int fd = openat(w->fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	assert_true(fd >= 0);
	if (tree_read_folder(fd, "", &o, &to, &e) < 0)
		fail_msg("%s", e.msg);
}

/* The same, with the line in which they differ. */
static inline void assert_same_text(const char *got, const char *want)
{
	size_t at = 0, line = 0;

	while (got[at] && got[at] == want[at])
		if (got[at++] == '\n')
			line = at;
	if (got[at] != want[at])
		fail_msg("there is\n%.*s\nwhere there should be\n%.*s", (int)strcspn(got + line, "\n"),
			got + line, (int)strcspn(want + line, "\n"), want + line);
}

#endif
