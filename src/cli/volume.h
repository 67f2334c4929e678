/* SPDX-License-Identifier: MIT */
#ifndef CLI_VOLUME_H
#define CLI_VOLUME_H

#include "app.h"
#include "box/volume.h"

/* What `inspect` shows of a volume. A new reference; NULL with e set. */
json_t *volume_json(const struct app *a, const struct box_volume *v, struct err *e);

#endif
