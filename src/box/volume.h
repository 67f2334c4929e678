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
/*
 * Opens volumes/NAME. One that is not there is made, with data/ in it; what one who was killed had not done is done. A box can
 * use it from here on. fd or -errno; -ENOENT: there is no such volume (any more).
 */
int volume_open_folder(struct state *st, const char *name, struct err *e);
/* In the transaction that removes the row: takes the folder out of the way, for good. 0 too where there is none. */
int volume_folder_retire(struct state *st, const char *name);
/* Deletes what was retired, or left unfinished by one who was killed. 0, or why some of it cannot be deleted. */
int volume_folders_delete(struct state *st);

#endif
