/* SPDX-License-Identifier: MIT */
#include <sys/stat.h>

#include "base/io.h"
#include "inside.h"
#include "reader.h"

int storage_root_open(
	struct state *st, const char *image_disk, int scratch_fd, struct storage_root **ret, struct err *e)
{
	CLEANUP(storage_root_freep) struct storage_root *r = calloc(1, sizeof(*r));

	if (!r)
		return err_oom(e);
	r->scratch_fd = scratch_fd;
	int rc = oci_root_open(st, image_disk, &r->image, e);
	if (rc < 0)
		return rc;
	*ret = TAKE_PTR(r);
	return 0;
}

void storage_root_free(struct storage_root *r)
{
	if (!r)
		return;
	oci_root_free(r->image);
	free(r);
}

int storage_merge(
	struct storage_root *r, bool content, const struct merge_ops *ops, bool *ret_any, struct err *e)
{
	CLEANUP(merge_freep) struct merge *m = NULL;
	struct walk_opts o = {.content = content};

	*ret_any = false;
	if (r->scratch_fd < 0)
		return 0;
	int rc = merge_new(r->image, ops, &m, e);
	return rc < 0 ? rc : reader_run(r->scratch_fd, &o, merge_sink(m), ret_any, e);
}
