/* SPDX-License-Identifier: MIT */
/*
 * THEORY OF OPERATION
 *
 * The workload's process has built /dev, /proc and /sys before anybody knows what the box wants; what differs is done
 * here, on top, so that a box without wishes waits for nothing.
 *
 * Sysctls: the box has a kernel of its own, but not all of it. A setting is the box's to give if it belongs to a namespace
 * that the box has (IPC) or that the guest has for nobody else (network). Others are refused, as in Docker: they would
 * change how the guest's own part runs (kernel.panic, vm.panic_on_oom), or name programs that the kernel runs
 * outside of the box (kernel.core_pattern, kernel.modprobe).
 *
 * The files that rootfs_configure has mounted in /etc come on top of what is mounted at /etc, or above one of the files where it is
 * a link, as in Docker, which mounts those that contain others first. They are taken along from below. Only a mount whose target
 * is the file itself hides it. A file that is missing there is made, empty, to mount on: what lies there is not changed otherwise.
 *
 * Devices are the guest's: their numbers are read from PID 1's devtmpfs, where nothing is the image's, and a node with
 * the same number is made in the box.
 */
#include "settings.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/io.h"
#include "devices.h"
#include "mounts.h"
#include "rootfs.h"
#include "target.h"

#define DEVICES_DEPTH 4 /* folders below /dev */

static int fail(int r, char *why, size_t size, const char *what, const char *of)
{
	snprintf(why, size, "%s \"%.200s\": %s", what, of, strerror(-r));
	return r;
}

bool settings_unusual(const struct wire_config *c)
{
	return c->tmpfs.n || c->n_mounts || c->sysctls.n || c->devices.n || c->privileged || c->unmasked ||
	       c->user_namespace || c->read_only || (c->shm_bytes && c->shm_bytes != ROOTFS_SHM_BYTES);
}

/* ---- sysctls ---- */

static bool is_the_boxes(const char *name)
{
	static const char *const names[] = {"kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem",
		"kernel.shmall", "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced"};
	static const char *const groups[] = {"net.", "fs.mqueue."};

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (strcmp(name, names[i]) == 0)
			return true;
	for (size_t i = 0; i < ARRAY_LEN(groups); i++)
		if (strncmp(name, groups[i], strlen(groups[i])) == 0)
			return true;
	return false;
}

int settings_parse_sysctl(char *text, const char **ret_path, const char **ret_value)
{
	char *equals = strchr(text, '=');

	if (!equals || equals == text || memchr(text, '/', (size_t)(equals - text)))
		return -EINVAL;
	*equals = '\0';
	if (!is_the_boxes(text))
		return -EPERM;
	for (char *p = text; *p; p++)
		if (*p == '.')
			*p = '/';
	*ret_path = text;
	*ret_value = equals + 1;
	return 0;
}

static int write_sysctl(int proc, const char *path, const char *value)
{
	CLEANUP_CLOSE int sys = openat(proc, "sys", O_PATH | O_DIRECTORY | O_CLOEXEC);
	CLEANUP_CLOSE int fd =
		sys < 0 ? -errno : io_openat2(sys, path, O_WRONLY, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);

	/* One write is one setting. */
	return fd < 0 ? fd : write(fd, value, strlen(value)) < 0 ? -errno : 0;
}

static int apply_sysctls(const struct strv *list, char *why, size_t size)
{
	char what[64];
	CLEANUP_CLOSE int proc = list->n ? rootfs_new("proc", "proc", 0, what, sizeof(what)) : -1;

	if (list->n && proc < 0)
		return fail(proc, why, size, "sysctl", list->v[0]);
	for (size_t i = 0; i < list->n; i++) {
		const char *path, *value;
		CLEANUP_FREE char *text = str_dup(list->v[i]);
		int r = text ? settings_parse_sysctl(text, &path, &value) : -ENOMEM;

		if (r == -EPERM) {
			snprintf(why, size,
				"sysctl \"%.200s\" is not allowed: only net.*, fs.mqueue.*, kernel.msg*, "
				"kernel.sem and "
				"kernel.shm* are a box's own",
				list->v[i]);
			return r;
		}
		if (r == -EINVAL) {
			snprintf(why, size, "sysctl \"%.200s\": NAME=VALUE is wanted", list->v[i]);
			return r;
		}
		if (r == 0)
			r = write_sysctl(proc, path, value);
		if (r < 0)
			return fail(r, why, size, "sysctl", list->v[i]);
	}
	return 0;
}

/* ---- devices ---- */

static int parse_access(const char *text, uint32_t *ret)
{
	uint32_t access = 0;

	for (const char *p = text; *p; p++) {
		uint32_t bit = *p == 'r'   ? BPF_DEVCG_ACC_READ
			       : *p == 'w' ? BPF_DEVCG_ACC_WRITE
			       : *p == 'm' ? BPF_DEVCG_ACC_MKNOD
					   : 0;

		if (!bit || access & bit)
			return -EINVAL;
		access |= bit;
	}
	*ret = access;
	return access ? 0 : -EINVAL;
}

int settings_parse_device(char *text, struct device_map *ret)
{
	char *rest = text, *from = strsep(&rest, ":"), *second = strsep(&rest, ":"),
	     *third = strsep(&rest, ":");
	struct device_map m = {.to = from};
	const char *access = third ? third : "rwm";

	if (rest || strncmp(from, "/dev/", 5) != 0)
		return -EINVAL;
	m.from = from + 5;
	if (second && second[0] == '/')
		m.to = second;
	else if (second && !third)
		access = second;
	else if (second)
		return -EINVAL;
	if (parse_access(access, &m.access) < 0)
		return -EINVAL;
	*ret = m;
	return 0;
}

struct devices {
	struct device_rule rules[DEVICES_RULES_MAX];
	size_t n;
	uint32_t access; /* of those that are added */
	uid_t owner;
	bool all; /* no rules, and what is there already is left alone */
};

static int make_node(const char *path, const struct stat *st, const struct devices *d)
{
	struct stat old;

	if (mknod(path, st->st_mode, st->st_rdev) == 0)
		return chmod(path, st->st_mode & 07777) < 0 ||
				       chown(path, st->st_uid + d->owner, st->st_gid + d->owner) < 0
			       ? -errno
			       : 0;
	if (errno != EEXIST)
		return -errno;
	if (d->all || (lstat(path, &old) == 0 && (old.st_mode & S_IFMT) == (st->st_mode & S_IFMT) &&
			      old.st_rdev == st->st_rdev))
		return 0;
	return -EEXIST;
}

static int add_node(struct devices *d, const char *path, const struct stat *st)
{
	int r = make_node(path, st, d);

	if (r < 0 || d->all)
		return r;
	if (d->n >= DEVICES_RULES_MAX)
		return -E2BIG;
	d->rules[d->n++] =
		(struct device_rule){.type = S_ISBLK(st->st_mode) ? BPF_DEVCG_DEV_BLOCK : BPF_DEVCG_DEV_CHAR,
			.major = major(st->st_rdev),
			.minor = minor(st->st_rdev),
			.access = d->access};
	return 0;
}

static int add_tree(struct devices *d, int fd, const struct stat *st, const char *to, int depth);

/* What a folder of devices contains. dir is consumed. */
static int add_content(struct devices *d, int dir, const char *to, int depth)
{
	DIR *stream = fdopendir(dir);
	struct dirent *entry;
	int r = 0;

	if (!stream) {
		r = -errno;
		close(dir);
		return r;
	}
	while (r == 0 && (entry = readdir(stream))) {
		CLEANUP_CLOSE int fd = -1;
		CLEANUP_FREE char *path = NULL;
		struct stat st;

		/* The box has a console only with a terminal. */
		if (entry->d_name[0] == '.' || (d->all && strcmp(entry->d_name, "console") == 0))
			continue;
		fd = openat(dirfd(stream), entry->d_name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
		path = str_printf("%s/%s", to, entry->d_name);
		if (fd < 0 || !path || fstat(fd, &st) < 0)
			r = fd < 0 || path ? -errno : -ENOMEM;
		else
			r = add_tree(d, fd, &st, path, depth + 1);
	}
	closedir(stream);
	return r;
}

/* A node, or a folder with all that is in it; links and whatever else is in /dev are passed over. */
static int add_tree(struct devices *d, int fd, const struct stat *st, const char *to, int depth)
{
	int dir, r;

	if (S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode))
		return add_node(d, to, st);
	if (!S_ISDIR(st->st_mode) || depth > DEVICES_DEPTH)
		return 0;
	r = io_mkdir_p(to, 0755);
	dir = r < 0 ? -1 : openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (r == 0 && dir < 0)
		r = -errno;
	return r < 0 ? r : add_content(d, dir, to, depth);
}

static int make_parent(char *path)
{
	char *slash = strrchr(path, '/');
	int r = 0;

	if (slash && slash != path) {
		*slash = '\0';
		r = io_mkdir_p(path, 0755);
		*slash = '/';
	}
	return r;
}

static int add_device(struct devices *d, int guest_dev, const char *spec, char *why, size_t size)
{
	CLEANUP_FREE char *text = str_dup(spec);
	CLEANUP_FREE char *to = NULL;
	CLEANUP_CLOSE int fd = -1;
	struct device_map map;
	struct stat st;
	int r = text ? settings_parse_device(text, &map) : -ENOMEM;

	if (r < 0) {
		snprintf(why, size, "device \"%.200s\": /dev/NAME[:/PATH][:rwm] is wanted", spec);
		return r;
	}
	fd = io_openat2(guest_dev, map.from, O_PATH | O_NOFOLLOW, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);
	if (fd < 0 || fstat(fd, &st) < 0 ||
		(!S_ISCHR(st.st_mode) && !S_ISBLK(st.st_mode) && !S_ISDIR(st.st_mode))) {
		snprintf(
			why, size, "device \"%.200s\": the box's machine has no /dev/%.100s", spec, map.from);
		return -ENODEV;
	}
	to = str_dup(map.to);
	d->access = map.access;
	r = to ? make_parent(to) : -ENOMEM;
	if (r == 0)
		r = add_tree(d, fd, &st, map.to, 0);
	return r < 0 ? fail(r, why, size, "device", spec) : 0;
}

static int apply_devices(const struct wire_config *c, int cgroup, int guest_dev, char *why, size_t size)
{
	struct devices d = {.owner = c->user_namespace ? ROOTFS_ID_BASE : 0};
	int r = 0;

	for (size_t i = 0; r == 0 && i < c->devices.n; i++)
		r = add_device(&d, guest_dev, c->devices.v[i], why, size);
	if (r == 0 && c->privileged) {
		int dir = openat(guest_dev, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		d.all = true;
		r = dir < 0 ? -errno : add_content(&d, dir, "/dev", 0);
		if (r < 0)
			return fail(r, why, size, "devices of", "/dev");
	}
	if (r < 0 || (!d.n && !d.all))
		return r;
	r = devices_restrict(cgroup, d.rules, d.n, d.all);
	return r < 0 ? fail(r, why, size, "devices of", "the box") : 0;
}

static int resize_shm(uint64_t bytes, char *why, size_t size)
{
	char data[32];

	snprintf(data, sizeof(data), "size=%llu", (unsigned long long)bytes);
	if (mount("shm", "/dev/shm", NULL, MS_REMOUNT | MS_NOSUID | MS_NODEV | MS_NOEXEC, data) == 0)
		return 0;
	return fail(-errno, why, size, "size of", "/dev/shm");
}

/* ---- files in /etc ---- */

static const char *const etc_files[] = {"/etc/hosts", "/etc/hostname", "/etc/resolv.conf"};

/* What is mounted on this very file, O_PATH; -1: nothing is. */
static int open_mounted(const char *path)
{
	CLEANUP_CLOSE int fd = io_openat2(AT_FDCWD, path, O_PATH, RESOLVE_NO_MAGICLINKS);
	struct statx st;

	if (fd < 0 || statx(fd, "", AT_EMPTY_PATH, STATX_TYPE, &st) < 0 || !S_ISREG(st.stx_mode) ||
		!(st.stx_attributes & STATX_ATTR_MOUNT_ROOT))
		return -1;
	return TAKE_FD(fd);
}

/* Brings one (-1: there is none) back in sight after all others were mounted. */
static int show_etc_file(int mounted, const char *path, uid_t owner, char *why, size_t size)
{
	CLEANUP_CLOSE int now = open_mounted(path); /* itself, or one for this file */
	CLEANUP_CLOSE int target = -1;
	struct stat st;
	int r = 0;

	if (mounted < 0 || now >= 0)
		return 0;
	target = target_open(path, true, owner, &st);
	if (target == -EROFS) {
		snprintf(why, size,
			"\"%.200s\" is hidden by a read-only mount, which has no file there to mount it on",
			path);
		return target;
	}
	if (target < 0)
		r = target;
	else if (move_mount(mounted, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0)
		r = -errno;
	return r < 0 ? fail(r, why, size, "the box's own file", path) : 0;
}

static int apply_mounts(const struct wire_config *c, uid_t owner, char *why, size_t size)
{
	int mounted[ARRAY_LEN(etc_files)], r;

	for (size_t i = 0; i < ARRAY_LEN(etc_files); i++)
		mounted[i] = open_mounted(etc_files[i]);
	r = mounts_apply(c, owner, why, size);
	for (size_t i = 0; i < ARRAY_LEN(etc_files); i++) {
		if (r == 0)
			r = show_etc_file(mounted[i], etc_files[i], owner, why, size);
		close_fd(&mounted[i]);
	}
	return r;
}

int settings_apply(const struct wire_config *c, int cgroup, int guest_dev, char *why, size_t size)
{
	uid_t owner = c->user_namespace ? ROOTFS_ID_BASE : 0;
	int r = 0;

	if (c->privileged && c->user_namespace) {
		snprintf(why, size, "a privileged box cannot have a user namespace");
		return -EINVAL;
	}
	/* The terminals' group, as everything that was made before the IDs were known. */
	if (c->user_namespace && mount("devpts", "/dev/pts", NULL, MS_REMOUNT | MS_NOSUID | MS_NOEXEC,
					 ROOTFS_DEVPTS_OPTIONS ",gid=" ROOTFS_TTY_GROUP_MAPPED) < 0)
		return fail(-errno, why, size, "group of", "/dev/pts");
	if (c->shm_bytes)
		r = resize_shm(c->shm_bytes, why, size);
	if (r == 0)
		r = apply_sysctls(&c->sysctls, why, size);
	if (r == 0)
		r = apply_devices(c, cgroup, guest_dev, why, size);
	return r < 0 ? r : apply_mounts(c, owner, why, size);
}
