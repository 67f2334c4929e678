/* SPDX-License-Identifier: MIT */
/*
 * Snapshots of a box's own disk: what it wrote over its image, at one moment. Volumes are not part of it.
 *
 * A snapshot is a row and a folder snapshots/ID with scratch.img, a copy that shares its blocks with the box's disk where the
 * file system can, else holds what was written and no more. It holds the image (oci_ref_add), and the configuration of the box, so
 * that a new box can be made of it after the old one is gone. The folder is made and synced first, then the row; a folder
 * without a row is a creation that did not get there, or a removal that did not end, and goes (box_reconcile).
 */
#ifndef BOX_SNAPSHOT_H
#define BOX_SNAPSHOT_H

#include "box/box.h"

struct box_snapshot {
	char *id, *name;			  /* id: 64 hex digits */
	char *box_id, *box_name;		  /* whose it was */
	char *image, *image_id, *manifest, *disk; /* as of struct box */
	char *description;			  /* NULL: none */
	int64_t created_ns;
	uint64_t bytes; /* allocated blocks; filled in by find and list */
	bool running;	/* the box ran at that moment */
	struct box_config config;
};
void box_snapshot_free(struct box_snapshot *s);
DEFINE_CLEANUP(struct box_snapshot *, box_snapshot_free)
void box_snapshot_list_free(struct box_snapshot **list, size_t n);

int box_snapshots_init(struct state *st, struct err *e);
void box_snapshots_repair(struct state *st);

/* name NULL: made of the box's name and the time. -EEXIST. */
int box_snapshot_create(struct state *st, const struct box *b, const char *name, const char *description,
	struct box_snapshot **ret, struct err *e);
/* By name, ID, or a unique prefix of it. */
int box_snapshot_find(struct state *st, const char *ref, struct box_snapshot **ret, struct err *e);
/* Newest first; of one box, or all (NULL). */
int box_snapshot_list(
	struct state *st, const char *box_id, struct box_snapshot ***ret, size_t *ret_n, struct err *e);
int box_snapshot_remove(struct state *st, const char *id, struct err *e);
/* Puts the disk of a box that does not run back to that moment. -EINVAL when the snapshot is of another box. */
int box_snapshot_restore(struct state *st, const struct box_snapshot *s, const struct box *b, struct err *e);
/*
 * A new box in state created; name NULL: one is made up. Its anonymous volumes are new, its published ports and addresses those
 * asked for.
 */
int box_snapshot_fork(
	struct state *st, const struct box_snapshot *s, const char *name, struct box **ret, struct err *e);

#endif
