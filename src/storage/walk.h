/* SPDX-License-Identifier: MIT */
/*
 * The upper layer of an overlay on an ext4 file system, as a tree. What reads the guest's bytes: to be called in a process that
 * has nothing to lose (reader.c).
 *
 * Entries come in the order of their paths, components bytewise. Whiteouts and opaque folders are marked; the overlay's own
 * attributes are left out, and so are those that Linux has for itself ("system." but for ACLs). Times are in nanoseconds.
 *
 * Nothing is believed: names, sizes, counts, addresses and depths are checked; a folder is entered once; content that is sent is,
 * all files together, at most what the disk can hold. Metadata has checksums, which the library compares. That all this ends
 * soon is not seen to here: the caller limits time and memory.
 */
#ifndef STORAGE_WALK_H
#define STORAGE_WALK_H

#include "ext2.h"
#include "tree/tree.h"

#define WALK_ENTRIES_MAX (16u << 20)

struct walk_opts {
	bool content; /* else: no content, and all names of a file come with all that it is, as if they were files of their own */
};

/*
 * 0, or -errno with e set. -ENOENT, without e: there is no upper layer, and the sink was not called. size: bytes of the disk.
 */
int walk_upper(const struct ext2 *lib, int fd, uint64_t size, const struct walk_opts *o,
	const struct tree_sink *to, struct err *e);

#endif
