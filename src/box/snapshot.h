/* SPDX-License-Identifier: MIT */
/* What snapshot.c (records) and snapshot-make.c (files) share. */
#ifndef BOX_SNAPSHOT_PRIVATE_H
#define BOX_SNAPSHOT_PRIVATE_H

#include "box/network.h"
#include "box/snapshot.h"

#define SNAPSHOTS_DIR	  "snapshots"
#define SNAPSHOT_DISK	  "scratch.img"
#define SNAPSHOT_ID_BYTES (BOX_ID_LEN / 2)

/* Of a box's networks, what it asked for. */
char *snapshot_endpoints_text(const struct box_endpoint *v, size_t n);
/* 0, -EBADMSG or -ENOMEM. */
int snapshot_endpoints_parse(const char *text, struct box_endpoint **ret, size_t *ret_n);

/* Its folder, or -errno with e set. */
int snapshot_open_dir(struct state *st, const char *id, struct err *e);
/*
 * The transaction that makes it count: its record, its hold on the image, the event. -ENOENT when the box is gone, -EEXIST
 * when the name is taken. b: the box as it was.
 */
int snapshot_insert(struct state *st, const struct box_snapshot *s, const struct box *b, struct err *e);
int snapshot_event(struct state *st, const struct box_snapshot *s, const char *action, struct err *e);

#endif
