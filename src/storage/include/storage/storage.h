/* SPDX-License-Identifier: MIT */
/*
 * A box's disks, read on the host without booting it.
 *
 * THEORY OF OPERATION
 *
 * What a box wrote is the upper layer of an overlay, on an ext4 disk that its guest made and that is as hostile as the guest. It
 * is read by libext2fs in a process of its own (reader.c), which has given up everything but the disk's descriptor and a pipe,
 * and whose memory and time are bounded; what comes through the pipe is a tree (wire/tree.h) of the upper layer, checked like any
 * other. The image's part comes from its disk's recipe (oci/content.h), which is ours. Both are merged here by the overlay's
 * rules (Linux, Documentation/filesystems/overlayfs.rst): whiteouts are character devices 0:0 (or files with
 * trusted.overlay.whiteout in a folder with trusted.overlay.opaque = "x"), opaque folders have trusted.overlay.opaque = "y";
 * other attributes of the overlay's are left out.
 *
 * The disk must be at rest: of a box that does not run, or a copy made while its guest had frozen it (box/files.h). -EUCLEAN when
 * its journal would have to be replayed first.
 */
#ifndef STORAGE_STORAGE_H
#define STORAGE_STORAGE_H

#include "oci/content.h"
#include "state/state.h"
#include "tree/tree.h"

/* Of one box; image_disk below the home folder; scratch_fd borrowed while it is used, -1: it never wrote anything. */
struct storage_root;
int storage_root_open(
	struct state *st, const char *image_disk, int scratch_fd, struct storage_root **ret, struct err *e);
void storage_root_free(struct storage_root *r);
DEFINE_CLEANUP(struct storage_root *, storage_root_free)

/*
 * The upper layer as an image's layer, as Docker makes it of the same folder: everything in it, folders on the way with it;
 * whiteouts and opaque folders are marked in entries, where they hide something of the image's. Left out are what the guest makes
 * only to mount on (empty files and folders at /dev, /proc, /sys, in /etc, and at mounts: the box's targets; where the image has
 * nothing of the kind), and folders that are as in the image and in which nothing is left. The root's entry comes always.
 */
int storage_read_layer(
	struct storage_root *r, const struct strv *mounts, const struct tree_sink *to, struct err *e);
/* The whole file system as the box sees it, without what is mounted in it. */
int storage_read_all(struct storage_root *r, const struct tree_sink *to, struct err *e);

enum storage_change { STORAGE_MODIFIED = 'C', STORAGE_ADDED = 'A', STORAGE_DELETED = 'D' };
/*
 * What differs from the image, as `docker diff` tells it: every changed, added or deleted path ("/etc/passwd"), folders on the
 * way as modified, in the order of their paths, components bytewise. A folder that is deleted is told once. What the guest makes
 * to mount on is not told. fn: non-zero ends it, and is returned.
 */
int storage_diff(struct storage_root *r, const struct strv *mounts,
	int (*fn)(void *data, enum storage_change kind, const char *path), void *data, struct err *e);

#endif
