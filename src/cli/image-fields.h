/* SPDX-License-Identifier: MIT */
/* Images as listings show them. */
#ifndef CLI_IMAGE_FIELDS_H
#define CLI_IMAGE_FIELDS_H

#include "app.h"

/* "sha256:0123…", or 12 digits of it unless full. */
json_t *image_id_json(const char *id, bool full);
/* Repository and tag as a person would type them, "<none>" without. */
void image_split_name(const char *name, char *repo, size_t repo_size, char *tag, size_t tag_size);
/* "3 days ago", "N/A" */
json_t *image_age_json(int64_t created_ns, int64_t now);
/* A size as people read it. */
json_t *image_size_json(uint64_t bytes);
/* Whether a normalised name has a tag, and not only a digest. NULL: no. */
bool image_is_tagged(const char *name);
/* The reference a user gave has a tag or a digest. */
bool image_ref_is_exact(const char *ref);

#endif
