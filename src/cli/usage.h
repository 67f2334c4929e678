/* SPDX-License-Identifier: MIT */
/* What things take on disk: blocks that are allocated, folders included, as du counts them. */
#ifndef CLI_USAGE_H
#define CLI_USAGE_H

#include "app.h"

/* A file or a whole tree below dirfd; 0 when it is not there. Links are not followed. */
uint64_t usage_tree_bytes(int dirfd, const char *path);
/* Everything in boxes/ID. */
uint64_t usage_box_bytes(const struct app *a, const char *id);
/* The disk that a box writes to. */
uint64_t usage_scratch_bytes(const struct app *a, const char *id);
/* How many volumes a box of box_list_brief (BOX_PART_MOUNTS) has, as text. */
json_t *usage_volumes_json(const struct box *b);

#endif
