/* SPDX-License-Identifier: MIT */
/* What a box's machine is made of, found by name (private to this room). */
#ifndef BOX_MACHINE_PARTS_H
#define BOX_MACHINE_PARTS_H

#include "box/box.h"
#include "machine/machine.h"

struct machine_parts {
	char *kernel, *initrd, *monitor, *image, *scratch, *run_dir;
};
void machine_parts_done(struct machine_parts *p);
/*
 * Chooses the accelerator that the box asks for, and fills in *c: programs, processors, memory and the two disks. It borrows from p and
 * b. No device and no descriptor is set but those that are to be absent. 0 or -errno.
 */
int machine_parts_find(struct state *st, const struct box *b, struct machine_parts *p,
	struct machine_config *c, struct err *e);

#endif
