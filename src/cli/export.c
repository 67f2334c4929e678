/* SPDX-License-Identifier: MIT */
/* export: the files of a box as an archive. */
#include <string.h>

#include "app.h"
#include "box/files.h"
#include "output.h"

/* The name of an owner, a size or a path that an archive's entry is about is in what is printed: err_print escapes it. */
static int write_archive(struct app *a, const struct box *b, int fd, struct err *e)
{
	static const struct oci_tar_opts opts = {.no_root = true};
	CLEANUP(storage_root_freep) struct storage_root *root = NULL;
	CLEANUP(oci_tar_sink_freep) struct oci_tar_sink *tar = NULL;
	struct box_disk disk;
	int r = box_disk_hold(a->st, b, false, &disk, e);

	if (r < 0)
		return r;
	r = storage_root_open(a->st, b->disk, disk.fd, &root, e);
	if (r == 0)
		r = oci_tar_sink_new(fd, &opts, &tar, e);
	if (r == 0)
		r = storage_read_all(root, oci_tar_sink(tar), e);
	box_disk_release(a->st, &disk);
	return r;
}

static int export(const char *ref, const char *path, struct err *e)
{
	CLEANUP(output_done) struct output o = {.fd = -1};
	CLEANUP(app_close) struct app a = {0};
	CLEANUP(box_freep) struct box *b = NULL;
	int r = output_check(path, e);

	if (r == 0)
		r = app_open(&a, true, e);
	if (r == 0)
		r = box_find(a.st, ref, &b, e);
	if (r == 0) /* a power cut may have damaged it, or somebody deleted it: built again */
		r = oci_ref_disk(a.store, b->manifest, NULL, e);
	if (r == 0) /* the last thing that may fail before a file is begun */
		r = output_open(&o, path, e);
	if (r == 0)
		r = write_archive(&a, b, o.fd, e);
	if (r == 0)
		r = output_finish(&o, e);
	return r < 0 ? r : box_event(a.st, e, b, "export", NULL);
}

int cmd_export(const struct cmd *c, int argc, char **argv)
{
	const char *path = NULL;
	struct opt opts[] = {{'o', "output", OPT_STR, &path, "FILE", "the archive [standard output]"}, {0}};
	struct err e = {0};

	int r = opts_parse(c, opts, OPTS_MIXED, &argc, argv, &e);
	if (r > 0)
		return 0;
	if (r == 0 && argc != 2)
		return app_usage(c, "one box is needed");
	if (r == 0)
		r = export(argv[1], path && strcmp(path, "-") == 0 ? NULL : path, &e);
	return r < 0 ? app_fail(c, &e, 1) : 0;
}
