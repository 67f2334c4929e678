/* SPDX-License-Identifier: MIT */
/*
 * THEORY OF OPERATION
 *
 * A box's root owns the files of /proc by their permissions, without any capability: kernel/core_pattern would make
 * the kernel run a program of the box outside of it. So the same paths as in Docker are mounted over, with a
 * read-only copy of the mount, with /dev/null or with an empty folder. The box cannot take that away: it has no
 * CAP_SYS_ADMIN, and in a user namespace of its own the mounts are locked together.
 *
 * The paths are the kernel's, looked up from the root of a mount that PID 1 made; none is the image's.
 */
#include "mask.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "base/cleanup.h"

const struct mask mask_proc[] = {
	{MASK_READ_ONLY, "bus"},
	{MASK_READ_ONLY, "fs"},
	{MASK_READ_ONLY, "irq"},
	{MASK_READ_ONLY, "sys"},
	{MASK_READ_ONLY, "sysrq-trigger"},
	{MASK_HIDDEN, "acpi"},
	{MASK_HIDDEN, "asound"},
	{MASK_HIDDEN, "kcore"},
	{MASK_HIDDEN, "keys"},
	{MASK_HIDDEN, "latency_stats"},
	{MASK_HIDDEN, "sched_debug"},
	{MASK_HIDDEN, "scsi"},
	{MASK_HIDDEN, "timer_list"},
	{MASK_HIDDEN, "timer_stats"},
};
const size_t mask_proc_len = ARRAY_LEN(mask_proc);

/* All of /sys is read-only besides. */
const struct mask mask_sys[] = {
	{MASK_HIDDEN, "devices/virtual/powercap"},
	{MASK_HIDDEN, "firmware"},
};
const size_t mask_sys_len = ARRAY_LEN(mask_sys);

static int read_only_copy(int fd)
{
	struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY};
	CLEANUP_CLOSE int tree = open_tree(fd, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);

	if (tree < 0 || mount_setattr(tree, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0)
		return -errno;
	return TAKE_FD(tree);
}

static int empty_folder(void)
{
	CLEANUP_CLOSE int fs = fsopen("tmpfs", FSOPEN_CLOEXEC);
	int fd;

	if (fs < 0 || fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return -errno;
	fd = fsmount(fs, FSMOUNT_CLOEXEC,
		MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
	return fd < 0 ? -errno : fd;
}

/* The mount that goes over target. */
static int make_cover(int target, enum mask_kind kind, int null_device)
{
	struct stat st;

	if (kind == MASK_READ_ONLY)
		return read_only_copy(target);
	if (fstat(target, &st) < 0)
		return -errno;
	return S_ISDIR(st.st_mode) ? empty_folder() : read_only_copy(null_device);
}

static int apply_one(int root, const struct mask *m, int null_device)
{
	CLEANUP_CLOSE int cover = -1;
	CLEANUP_CLOSE int target = openat(root, m->path, O_PATH | O_NOFOLLOW | O_CLOEXEC);

	if (target < 0)
		return errno == ENOENT ? 0 : -errno;
	cover = make_cover(target, m->kind, null_device);
	if (cover < 0)
		return cover;
	if (move_mount(cover, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0)
		return -errno;
	return 0;
}

int mask_apply(int root, const struct mask *list, size_t n, int null_device, char *what, size_t size)
{
	for (size_t i = 0; i < n; i++) {
		int r = apply_one(root, &list[i], null_device);

		if (r < 0) {
			snprintf(what, size, "cover %s", list[i].path);
			return r;
		}
	}
	return 0;
}
