/* SPDX-License-Identifier: MIT */
/* Volumes, for this room alone. */
#ifndef BOX_VOLUME_PRIVATE_H
#define BOX_VOLUME_PRIVATE_H

#include "box/volume.h"

/* By its whole name. -ENOENT. */
int volume_find_exact(struct state *st, const char *name, struct box_volume **ret, struct err *e);
/* Value of an option, NULL: not given. */
const char *volume_opt(const struct box_volume *v, const char *key);
/* Whether its files are a folder of the host's, or nowhere. */
bool volume_is_bind(const struct box_volume *v);
bool volume_is_tmpfs(const struct box_volume *v);
/* Opens volumes/NAME, made with data/ in it if need be, and for good. fd or -errno. */
int volume_open_folder(struct state *st, const char *name, struct err *e);

#endif
