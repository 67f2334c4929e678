/* SPDX-License-Identifier: MIT */
/* What inspect shows, with Docker's field names where the meaning is the same. */
#ifndef CLI_INSPECT_H
#define CLI_INSPECT_H

#include "app.h"

/* Docker's form of a time: "0001-01-01T00:00:00Z" for never. */
json_t *inspect_time_json(int64_t ns);
/* with_size: also what it takes on disk, which has to be looked up. */
json_t *inspect_box_json(const struct app *a, const struct box *b, bool with_size);

/* *ret: a new reference. Reads the image's documents. 0 or -errno. */
int inspect_image_json(struct app *a, const struct oci_image *i, json_t **ret, struct err *e);

#endif
