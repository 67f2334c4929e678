/* SPDX-License-Identifier: MIT */
/* The machine of a box that does not run, booted to reach its files (private to this room). */
#ifndef BOX_MAINTENANCE_H
#define BOX_MAINTENANCE_H

#include "box/box.h"

struct maintenance;

/*
 * Boots it: with its disks and mounts, without a network and without the image's program. The caller holds the box's lock until
 * maintenance_free, and has found that the box is not live. Returns when the guest's session port answers in run/ID as that of a
 * running box does. On failure nothing is left.
 */
int maintenance_start(
	struct state *st, const struct box *b, int lock_fd, struct maintenance **ret, struct err *e);
/* Lets the guest unmount its disk, and ends the machine: 0, or why the disk may not be clean. Once; then free. */
int maintenance_end(struct maintenance *m, struct err *e);
/* Why the machine is gone although nobody ended it: -errno with e set; 0: it is not. */
int maintenance_check(struct maintenance *m, struct err *e);
/* Pulls the plug, if it has not ended. NULL allowed. */
void maintenance_free(struct maintenance *m);
DEFINE_CLEANUP(struct maintenance *, maintenance_free)

#endif
