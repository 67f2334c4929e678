/* SPDX-License-Identifier: MIT */
/* What the files of this room share. All functions return 0, or -errno with e set, unless said otherwise. */
#ifndef STORAGE_INSIDE_H
#define STORAGE_INSIDE_H

#include "merge.h"
#include "storage/storage.h"

struct storage_root {
	struct oci_root *image;
	int scratch_fd; /* borrowed; -1: none */
};

/* Tells ops of both layers. *ret_any false: there is no upper layer, and nothing was told. */
int storage_merge(
	struct storage_root *r, bool content, const struct merge_ops *ops, bool *ret_any, struct err *e);

/* ---- what the guest makes itself (mounted.c) ---- */

/*
 * Where things are mounted: paths in the form of entries, in ret. Besides mounts what every box has: /dev, /proc, /sys and files
 * of /etc. Each as it is said, and as the image's links lead there.
 */
int mounted_paths(const struct oci_root *image, const struct strv *mounts, struct strv *ret, struct err *e);
/*
 * Whether an entry may have been made by the guest only to mount on it, or on something below it: an empty file or a folder (the
 * caller sees whether it stays empty) at such a path, where the image has nothing of that kind.
 */
bool mounted_made(const struct oci_root *image, const struct strv *paths, const struct wire_entry *en,
	const struct oci_node *below);

/* ---- entries (compare.c) ---- */

bool node_is(const struct oci_root *image, const struct oci_node *n, uint32_t type); /* false for NULL */
/* Attributes of a folder, but for its time. */
bool same_folder(const struct wire_entry *a, const struct wire_entry *b);
/*
 * Whether docker diff would call it changed: in type, permissions, owner, device number or capabilities; what is no folder also
 * in size and time of its content, and a link in where it leads.
 */
bool looks_changed(const struct wire_entry *now, const struct wire_entry *before);
int entry_copy(struct wire_entry *dst, const struct wire_entry *src, struct err *e);

#endif
