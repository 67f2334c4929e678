/* SPDX-License-Identifier: MIT */
/*
 * The files of a box, for commands: into and out of it as it sees them (through its guest), and its disk as it lies on the host.
 *
 * THEORY OF OPERATION
 *
 * cp goes through the guest, with everything that is mounted there: of a running box through one more connection to its session
 * port; of one that does not run, its machine is booted for as long as that takes (maintenance.c), by the command itself, which
 * holds the box's lock meanwhile: with its disks and volumes, without a network, and without the image's program: the process
 * that stands for the box is one of ours. The record does not change.
 *
 * diff, export, commit and snapshots read the disk (storage/storage.h). Of a running box the guest freezes it meanwhile, so that
 * what writes to it waits. diff reads its metadata in place, which is soon done and does not depend on anybody. export, commit
 * and snapshots read everything, and hand it on to who may be slow or wait for the box itself: for them it is frozen only for the
 * moment in which it is copied to a file without a name, which is free where the file system shares blocks (XFS, btrfs) and
 * elsewhere takes as much room as the box has written. Of one that did not leave its disk clean, the machine is booted once,
 * which cleans it.
 */
#ifndef BOX_FILES_H
#define BOX_FILES_H

#include "box/box.h"
#include "storage/storage.h"

/* ---- through the guest ---- */

struct box_files;
/*
 * Connects to a box in any state but removing and dead, booting its machine where it does not run. -EBUSY while it starts, stops,
 * is paused, or somebody else works on it (with a hint).
 */
int box_files_open(struct state *st, const struct box *b, struct box_files **ret, struct err *e);
/* A machine that was booted for this ends in good order: *e says if not. */
int box_files_close(struct box_files *f, struct err *e);
/* Without a word. NULL allowed. */
void box_files_free(struct box_files *f);
/* Of a signal handler: the copy that is under way, and any later one, fails with -EINTR. */
void box_files_interrupt(struct box_files *f);
DEFINE_CLEANUP(struct box_files *, box_files_free)

/* The tree at a path of the box goes to the sink. -ENOENT and the like are those of the box. */
int box_files_read(struct box_files *f, const struct wire_copy *c, const struct tree_sink *to, struct err *e);
/* source writes a tree to the sink that it is given; it is put at a path of the box. */
int box_files_write(struct box_files *f, const struct wire_copy *c,
	int (*source)(void *data, const struct tree_sink *to, struct err *e), void *data, struct err *e);

/* ---- on the host ---- */

/*
 * The scratch disk at rest, read-only: the box's own, not running (lock holds it so), or running and with in_place (freeze holds
 * it so); else a copy of that moment; -1: it has none yet. -EBUSY as box_files_open.
 */
struct box_disk {
	int fd, lock, freeze;
	char *id;
};
int box_disk_hold(struct state *st, const struct box *b, bool in_place, struct box_disk *ret, struct err *e);
/*
 * Once, when all is read: whether it had not changed until then; it may from here on. False: the guest had ended its freeze
 * (after WIRE_FREEZE_MAX_S, or the box ended), and what was read in place is worth nothing.
 */
bool box_disk_still(struct box_disk *d);
void box_disk_release(struct state *st, struct box_disk *d);
/* Copies the disk of that moment to dst, an empty file; running or not. *ret_any false: the box has none yet. */
int box_disk_copy(struct state *st, const struct box *b, int dst, bool *ret_any, struct err *e);
/* Paths of the box that something is mounted on: mounts and tmpfs. */
int box_mount_targets(const struct box *b, struct strv *ret, struct err *e);

#endif
