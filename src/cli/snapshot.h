/* SPDX-License-Identifier: MIT */
#ifndef CLI_SNAPSHOT_H
#define CLI_SNAPSHOT_H

#include "app.h"
#include "box/snapshot.h"

/* Everything about a snapshot; NULL: out of memory. */
json_t *snapshot_json(const struct app *a, const struct box_snapshot *s);

#endif
