/* SPDX-License-Identifier: MIT */
/*
 * What confines a3s-box-fsd: a guest that takes it over has what it had before, the folders shared with it, and next to nothing
 * else. Each layer stands alone; what a host does not permit is left out and reported, never a reason to fail, but for the
 * filter of system calls, which every kernel has.
 *
 *   root      a mount namespace with nothing in it but /proc/self/fd. The exports are mounts of their own that hang nowhere: ".."
 *             ends at their root; read-only ones are read-only to the kernel, attributes included, which Landlock does not judge
 *   Landlock  nothing can be opened, made or removed but below the exports, and nothing but read in read-only ones
 *   seccomp   the calls that it needs; threads, but no program, no socket, no device's requests
 *   others    no capabilities (of root's: two), no new privileges, no core dumps, nobody may trace it
 */
#ifndef FS_JAIL_H
#define FS_JAIL_H

#include "base/err.h"
#include "fs/protocol.h"

/*
 * First, while there is one thread, before anything is opened: root and mounts. The exports' descriptors lead to mounts of their
 * own on return, under the same numbers, or as before if the host does not permit it.
 */
void jail_roots(const struct fs_export *exports, size_t n, struct fs_status *s);
/*
 * Last, before there are other threads: all the rest. root: root runs the box, and its files may be those of others. 0, or
 * -errno with e set.
 */
int jail_close(const struct fs_export *exports, size_t n, bool root, struct fs_status *s, struct err *e);

#endif
