/* SPDX-License-Identifier: MIT */
/*
 * THEORY OF OPERATION
 *
 * The box has one virtio-fs device, whose root holds the exports by their numbers. It is mounted once, for a moment, in a folder
 * of our own tmpfs in /dev; a copy of the mount is taken of each export (open_tree), and they stay when that folder is gone.
 * So nothing leads from one export to another, and the root of the device is in nobody's reach.
 *
 * Each copy gets its own attributes and is moved to where it belongs, together with the tmpfs, in the order of their paths: a
 * folder's path is the beginning of those of what it contains. Read-only is what the box sees here; it is the server that
 * enforces it.
 */
#include "mounts.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "base/io.h"
#include "rootfs.h"
#include "target.h"
#include "tmpfs.h"
#include "userns.h"

#define HOST "/dev/a3s/host" /* the folder, in a tmpfs that no image has a part in */

struct entry {
	const char *path;
	const struct wire_mount *mount; /* NULL: tmpfs */
	int tree;			/* of mount: its copy; else -1 */
	const char *spec;		/* of tmpfs */
	struct tmpfs *tmpfs;
};

static int fail(int r, char *why, size_t size, const char *target, const char *text)
{
	snprintf(why, size, "mount on \"%.200s\": %s", target, text);
	return r;
}

/* ---- exports ---- */

/* The device's file system, mounted on HOST. 0 or -errno. */
static int mount_device(void)
{
	CLEANUP_CLOSE int fs = fsopen("virtiofs", FSOPEN_CLOEXEC);
	CLEANUP_CLOSE int fd = -1;

	if (fs < 0 || fsconfig(fs, FSCONFIG_SET_STRING, "source", WIRE_MOUNTS_TAG, 0) < 0 ||
		fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return -errno;
	fd = fsmount(fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NODEV);
	if (fd < 0 || (mkdir(HOST, 0700) < 0 && errno != EEXIST) ||
		move_mount(fd, "", AT_FDCWD, HOST, MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return -errno;
	return 0;
}

static int open_below(int dir, const char *path)
{
	return io_openat2(dir, path, O_PATH, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV);
}

/* A path below an export, through no link; folders that are missing are made. O_PATH, or -errno. */
static int open_subpath(int root, const char *path)
{
	CLEANUP_CLOSE int dir = dup(root);
	CLEANUP_FREE char *copy = strdup(path);
	char *rest = copy, *part;

	if (dir < 0 || !copy)
		return dir < 0 ? -errno : -ENOMEM;
	while ((part = strsep(&rest, "/"))) {
		int next;

		if (!*part || strcmp(part, ".") == 0)
			continue;
		if (strcmp(part, "..") == 0)
			return -EINVAL;
		next = open_below(dir, part);
		if (next == -ENOENT) {
			if (mkdirat(dir, part, 0755) < 0 && errno != EEXIST)
				return -errno;
			next = open_below(dir, part);
		}
		if (next < 0)
			return next;
		close(dir);
		dir = next;
	}
	return TAKE_FD(dir);
}

/* A copy of the mount with this as its root. Descriptor or -errno. */
static int copy_export(const struct wire_mount *m, size_t number, int users)
{
	struct mount_attr attr = {
		.attr_set = (m->read_only ? MOUNT_ATTR_RDONLY : 0) | (users >= 0 ? MOUNT_ATTR_IDMAP : 0),
		.userns_fd = users >= 0 ? (uint64_t)users : 0};
	char name[64];
	CLEANUP_CLOSE int root = -1;
	CLEANUP_CLOSE int tree = -1;
	struct stat st;

	snprintf(name, sizeof(name), HOST "/%zu", number);
	root = open(name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (root < 0)
		return -errno;
	if (m->subpath) {
		int below = open_subpath(root, m->subpath);

		if (below < 0)
			return below;
		close(root);
		root = below;
	}
	if (fstat(root, &st) < 0)
		return -errno;
	if (!S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode))
		return -EINVAL;
	tree = open_tree(root, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
	if (tree < 0 || (attr.attr_set && mount_setattr(tree, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0))
		return -errno;
	return TAKE_FD(tree);
}

static int copy_exports(struct entry *all, const struct wire_config *c, int users, char *why, size_t size)
{
	for (size_t i = 0; i < c->n_mounts; i++) {
		all[i] = (struct entry){.path = c->mounts[i].target, .mount = &c->mounts[i]};
		all[i].tree = copy_export(&c->mounts[i], i, users);
		if (all[i].tree < 0 && c->mounts[i].subpath)
			snprintf(why, size, "mount on \"%.200s\": subpath \"%.150s\": %s", all[i].path,
				c->mounts[i].subpath, strerror(-all[i].tree));
		else if (all[i].tree < 0)
			fail(0, why, size, all[i].path, strerror(-all[i].tree));
		if (all[i].tree < 0)
			return all[i].tree;
	}
	return 0;
}

/* Fills in the first entries. */
static int take_exports(struct entry *all, const struct wire_config *c, uid_t owner, char *why, size_t size)
{
	CLEANUP_CLOSE int users = owner ? userns_new(ROOTFS_ID_MAP ROOTFS_ID_MAP_SELF) : -1;
	int r;

	if (!c->n_mounts)
		return 0;
	if (owner && users < 0)
		return fail(users, why, size, c->mounts[0].target, "user namespace");
	r = mount_device();
	if (r < 0) {
		snprintf(why, size, "the file system of the host cannot be mounted: %s", strerror(-r));
		return r;
	}
	r = copy_exports(all, c, users, why, size);
	if (umount2(HOST, MNT_DETACH) < 0 || rmdir(HOST) < 0)
		return r < 0 ? r : fail(-errno, why, size, HOST, strerror(errno));
	return r;
}

/* ---- all of them ---- */

static int attach_export(const struct entry *m, uid_t owner, char *why, size_t size)
{
	struct stat st, now;
	bool file = fstat(m->tree, &st) == 0 && !S_ISDIR(st.st_mode);
	CLEANUP_CLOSE int target = target_open(m->path, file, owner, &now);

	if (target == -EISDIR || target == -ENOTDIR)
		return fail(target, why, size, m->path,
			file ? "a file cannot be mounted on a folder"
			     : "a folder cannot be mounted on a file");
	if (target < 0)
		return fail(target, why, size, m->path,
			target == -EPERM ? "nothing can be mounted inside /proc" : strerror(-target));
	if (move_mount(m->tree, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0)
		return fail(-errno, why, size, m->path, strerror(errno));
	return 0;
}

static int by_path(const void *a, const void *b)
{
	return strcmp(((const struct entry *)a)->path, ((const struct entry *)b)->path);
}

/* Fills in the entries of tmpfs, whose parsed forms are in `parsed`. */
static int take_tmpfs(
	struct entry *all, struct tmpfs *parsed, const struct strv *list, char *why, size_t size)
{
	for (size_t i = 0; i < list->n; i++) {
		int r = tmpfs_parse(list->v[i], &parsed[i], why, size);

		if (r < 0)
			return r;
		all[i] = (struct entry){
			.path = parsed[i].path, .tree = -1, .spec = list->v[i], .tmpfs = &parsed[i]};
	}
	return 0;
}

int mounts_apply(const struct wire_config *c, uid_t owner, char *why, size_t size)
{
	size_t n = c->n_mounts + c->tmpfs.n;
	CLEANUP_FREE struct entry *all = NULL;
	CLEANUP_FREE struct tmpfs *parsed = NULL;
	int r;

	if (!n)
		return 0;
	if (c->tmpfs.n > TMPFS_MAX) {
		snprintf(why, size, "more than %d tmpfs mounts", TMPFS_MAX);
		return -E2BIG;
	}
	all = calloc(n, sizeof(*all));
	parsed = calloc(c->tmpfs.n + 1, sizeof(*parsed));
	if (!all || !parsed) {
		snprintf(why, size, "mounts: out of memory");
		return -ENOMEM;
	}
	for (size_t i = 0; i < n; i++)
		all[i].tree = -1;
	r = take_tmpfs(all + c->n_mounts, parsed, &c->tmpfs, why, size);
	if (r == 0)
		r = take_exports(all, c, owner, why, size);
	if (r == 0)
		qsort(all, n, sizeof(*all), by_path);
	for (size_t i = 0; r == 0 && i < n; i++)
		r = all[i].mount ? attach_export(&all[i], owner, why, size)
				 : tmpfs_mount(all[i].tmpfs, owner, all[i].spec, why, size);
	for (size_t i = 0; i < n; i++)
		close_fd(&all[i].tree);
	return r;
}
