/* SPDX-License-Identifier: MIT */
/* What is mounted in the box: folders and files of the host, volumes, tmpfs. */
#ifndef GUEST_MOUNTS_H
#define GUEST_MOUNTS_H

#include <sys/types.h>

#include "wire/wire.h"

/*
 * Mounts all of c->mounts and c->tmpfs, those that contain others first, in a process whose root is the box's and before a
 * program of the box has run. owner: as of tmpfs_mount; where it is not 0, files show the owners that ROOTFS_ID_MAP makes of
 * theirs. 0, or -errno with a complete text in `why`.
 */
int mounts_apply(const struct wire_config *c, uid_t owner, char *why, size_t size);

#endif
