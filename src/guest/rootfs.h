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

#define ROOTFS_DIR	"/rootfs"      /* the box's root, as PID 1 sees it */
#define ROOTFS_SCRATCH	"/run/scratch" /* its own disk, likewise */
#define ROOTFS_ETC	"/run/"	       /* the box's /etc/hosts and its like */
#define ROOTFS_ETC_KEPT "/run/kept-"   /* what they were when PID 1 last wrote them */

/*
 * IDs of a box in a user namespace: 0 to 65535 of the box and of its disks are 100000 and above outside. A map for
 * userns_new, and the line by which a mount takes root itself as well.
 */
#define ROOTFS_ID_BASE	   100000
#define ROOTFS_ID_MAP	   "0 100000 65536\n"
#define ROOTFS_ID_MAP_SELF "65536 0 1\n"

#define ROOTFS_SHM_BYTES	67108864 /* size of /dev/shm unless said otherwise */
#define ROOTFS_DEVPTS_OPTIONS	"ptmxmode=0666,mode=0620"
#define ROOTFS_TTY_GROUP	"5"	 /* group tty of every distribution */
#define ROOTFS_TTY_GROUP_MAPPED "100005" /* with ROOTFS_ID_MAP */

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
/* For a box in a user namespace: the same overlay once more, with its files' owners mapped. */
int rootfs_map_ids(char *what, size_t size);
/* Files in /etc. */
int rootfs_configure(const struct wire_config *c, char *what, size_t size);

/* PID 1's /dev with all the guest's devices, as long as it is in reach: descriptor. */
int rootfs_open_guest_dev(void);
/*
 * In the workload's process with its own mount namespace: attaches the parts, lets PID 1's mounts go, and
 * makes the box the root and the working directory. What c says of /proc and /sys is done here.
 */
int rootfs_enter(const struct rootfs_parts *parts, const struct wire_config *c, char *what, size_t size);
/* Later, with the box as root: makes the root file system, but no other mount, read-only. */
int rootfs_seal(void);
/* Then, if the workload has a terminal: /dev/console. */
int rootfs_mount_console(int pty, char *what, size_t size);

/* A new mount of this type that is attached nowhere; nosuid, nodev, noexec and attr. Descriptor. */
int rootfs_new(const char *type, const char *source, unsigned int attr, char *what, size_t size);

/*
 * When the workload is probably about to end: a child that brings to the scratch disk what was written so far, beside the
 * end of the box's processes; little of it is left to rootfs_unmount then. Its PID, or -errno.
 */
pid_t rootfs_sync_ahead(void);
/* After the last process of the box is gone: leaves the scratch disk as an unmount would, clean. 0 or -errno. */
int rootfs_unmount(void);

#endif
