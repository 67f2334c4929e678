/* SPDX-License-Identifier: MIT */
/* Docker's --tmpfs: "/path" or "/path:options". */
#ifndef GUEST_TMPFS_H
#define GUEST_TMPFS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define TMPFS_MAX 64 /* of one box */

struct tmpfs {
	char path[4096];     /* absolute, no ".", ".." or empty part */
	char options[512];   /* of the file system: "size=64m,mode=700", or "" */
	uint64_t attributes; /* MOUNT_ATTR_* */
	bool has_mode, has_uid, has_gid;
};

/*
 * Reads one. Options are those of tmpfs(5), size, nr_blocks, nr_inodes, mode, uid and gid, and the mount's own, ro, exec, suid,
 * dev, noatime and their opposites; noexec, nosuid and nodev unless said otherwise. The kernel judges the values. 0, or -EINVAL
 * with what is wrong in `why`.
 */
int tmpfs_parse(const char *spec, struct tmpfs *ret, char *why, size_t size);

/*
 * Mounts one, in a process whose root is the box's and before a program of the box has run; spec is what it was read from. A
 * folder that is there keeps its mode, one that is not is made. The files belong to uid and gid `owner` unless the options say
 * otherwise; IDs in options are shifted by owner. 0, or -errno with `why`.
 */
int tmpfs_mount(const struct tmpfs *t, uid_t owner, const char *spec, char *why, size_t size);

#endif
