/* SPDX-License-Identifier: MIT */
/* diff: what a box changed in the files of its image. */
#include <string.h>

#include "app.h"
#include "base/buf.h"
#include "box/files.h"

/* Names are the box's: escaped, as everywhere, and so a name never looks like two lines. */
static int add_line(void *data, enum storage_change kind, const char *path)
{
	struct buf *lines = data;
	char what[2] = {(char)kind, ' '};
	CLEANUP_FREE char *text = text_escape_dup(path);

	if (!text || buf_append(lines, what, sizeof(what)) < 0 || buf_append(lines, text, strlen(text)) < 0 ||
		buf_append(lines, "\n", 1) < 0)
		return -ENOMEM;
	return 0;
}

/* 0, -errno, or 1: the disk did not stay as it was meanwhile, and the lines are worth nothing. */
static int read_disk(struct app *a, const struct box *b, const struct strv *mounts, bool in_place,
	struct buf *lines, struct err *e)
{
	CLEANUP(storage_root_freep) struct storage_root *root = NULL;
	struct box_disk disk;
	int r = box_disk_hold(a->st, b, in_place, &disk, e);

	if (r < 0)
		return r;
	r = storage_root_open(a->st, b->disk, disk.fd, &root, e);
	if (r == 0) {
		r = storage_diff(root, mounts, add_line, lines, e);
		if (r == -ENOMEM)
			err_oom(e);
	}
	if (!box_disk_still(&disk))
		r = 1;
	box_disk_release(a->st, &disk);
	return r;
}

/* In place, and once more, for the box may have ended; then of a copy, however long that takes to read. */
static int read_lines(struct app *a, const struct box *b, struct buf *lines, struct err *e)
{
	CLEANUP(strv_done) struct strv mounts = {0};
	int r = box_mount_targets(b, &mounts, e);

	if (r < 0)
		return r;
	r = 1;
	for (int i = 0; r > 0 && i < 3; i++) {
		buf_consume(lines, lines->len);
		r = read_disk(a, b, &mounts, i < 2, lines, e);
	}
	return r;
}

static int diff(const char *ref, struct err *e)
{
	CLEANUP(app_close) struct app a = {0};
	CLEANUP(box_freep) struct box *b = NULL;
	CLEANUP(buf_done) struct buf lines = {0};
	int r = app_open(&a, true, e);

	if (r == 0)
		r = box_find(a.st, ref, &b, e);
	if (r == 0) /* a power cut may have damaged it, or somebody deleted it: built again */
		r = oci_ref_disk(a.store, b->manifest, NULL, e);
	if (r == 0)
		r = read_lines(&a, b, &lines, e);
	/* All or nothing; main sees to failures of standard output. */
	if (r == 0 && lines.len > 0)
		fwrite(buf_data(&lines), 1, lines.len, stdout);
	return r;
}

int cmd_diff(const struct cmd *c, int argc, char **argv)
{
	struct opt opts[] = {{0}};
	struct err e = {0};
	int r = opts_parse(c, opts, OPTS_MIXED, &argc, argv, &e);

	if (r > 0)
		return 0;
	if (r == 0 && argc != 2)
		return app_usage(c, "one box is needed");
	if (r == 0)
		r = diff(argv[1], &e);
	return r < 0 ? app_fail(c, &e, 1) : 0;
}
