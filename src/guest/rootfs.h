/* SPDX-License-Identifier: MIT */
/* The box's root file system: the image's disk, the scratch disk, and what a container finds in /dev, /proc
 * and /etc. */
#ifndef GUEST_ROOTFS_H
#define GUEST_ROOTFS_H

#include <stddef.h>

#include "wire/wire.h"

/*
 * All functions return 0 (or the descriptor their comment says) or -errno, with what failed in one line of
 * `what`. The order is that of the comments in rootfs.c.
 */

/* PID 1's own file systems. */
int rootfs_mount_guest(char *what, size_t size);
/* The box's cgroup folder: descriptor. */
int rootfs_open_cgroup(void);
/* The scratch disk. */
int rootfs_mount_scratch(char *what, size_t size);

/* In the workload's process, at the same time: the image's disk, and /dev, not yet in its place. */
int rootfs_build_base(char *what, size_t size);
/* Does nothing of use: see rootfs.c. */
void rootfs_rehearse(void);
/* In the workload's process with its PID, IPC and cgroup namespaces: file systems that depend on them. */
struct rootfs_parts {
	int mqueue; /* detached mount; the others wait in PID 1's /run */
};
int rootfs_build_parts(struct rootfs_parts *ret, char *what, size_t size);

/*
 * After both: the overlay of image and scratch disk at the box's root, /dev in its place, and folders for the
 * parts. *ret_devpts is the root of the box's devpts.
 */
int rootfs_assemble(int *ret_devpts, char *what, size_t size);
/* Files in /etc; makes the root read-only if wanted. */
int rootfs_configure(const struct wire_config *c, char *what, size_t size);

/*
 * In the workload's process with its own mount namespace: attaches the parts, lets PID 1's mounts go, and
 * makes the box the root and the working directory.
 */
int rootfs_enter(const struct rootfs_parts *parts, char *what, size_t size);
/* Then, if the workload has a terminal: /dev/console. */
int rootfs_mount_console(int pty, char *what, size_t size);

/* After the last process of the box is gone: unmounts it all and leaves the scratch disk clean. */
int rootfs_unmount(void);

#endif
