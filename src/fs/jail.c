/* SPDX-License-Identifier: MIT */
#include "jail.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "base/io.h"
#include "base/landlock.h"
#include "base/sanitized.h"
#include "jail-filter.h"

#ifndef LANDLOCK_ACCESS_FS_REFER
#define LANDLOCK_ACCESS_FS_REFER (1ull << 13)
#endif
#ifndef LANDLOCK_ACCESS_FS_TRUNCATE
#define LANDLOCK_ACCESS_FS_TRUNCATE (1ull << 14)
#endif

/* ---- the report ---- */

static void append(char *dst, size_t size, const char *separator, const char *text)
{
	size_t n = strlen(dst);

	snprintf(dst + n, size - n, "%s%s", n ? separator : "", text);
}

static const char *why(int error)
{
	switch (-error) {
	case EPERM:
	case EACCES:
		return "not permitted here";
	case EINVAL:
	case ENOSYS:
		return "not in this kernel";
	case EOPNOTSUPP:
		return "off in this kernel";
	default:
		return strerror(-error);
	}
}

static void report(struct fs_status *s, const char *layer, int r)
{
	char text[128];

	if (r >= 0) {
		append(s->confined, sizeof(s->confined), ", ", layer);
		return;
	}
	snprintf(text, sizeof(text), "%s: %s", layer, why(r));
	append(s->not_confined, sizeof(s->not_confined), "; ", text);
}

/* ---- root and mounts (mount_namespaces(7), open_tree(2), mount_setattr(2)) ---- */

#define PROC_FDS "/proc/self/fd"

/*
 * The same file or folder, as the calling process's mount namespace has it: the descriptor is of the one that it was opened in,
 * of which nothing can be mounted here. O_PATH, or -errno.
 */
static int open_again(int fd)
{
	char link[40], path[PATH_MAX];
	struct stat a, b;

	snprintf(link, sizeof(link), PROC_FDS "/%d", fd);
	ssize_t n = readlink(link, path, sizeof(path));
	if (n < 0 || n == (ssize_t)sizeof(path))
		return n < 0 ? -errno : -ENAMETOOLONG;
	path[n] = '\0';
	CLEANUP_CLOSE int again = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (again < 0 || fstat(fd, &a) < 0 || fstat(again, &b) < 0)
		return -errno;
	/* Whoever moved it meanwhile does not get another one into its place. */
	return a.st_dev == b.st_dev && a.st_ino == b.st_ino ? TAKE_FD(again) : -ESTALE;
}

/* A mount of what fd is, with all that is mounted below, that hangs nowhere. fd or -errno. */
static int own_mount(int fd, bool read_only)
{
	struct mount_attr attr = {.attr_set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC |
					      (read_only ? MOUNT_ATTR_RDONLY : 0)};
	CLEANUP_CLOSE int again = open_again(fd);
	if (again < 0)
		return again;
	CLEANUP_CLOSE int tree =
		open_tree(again, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
	if (tree < 0 || mount_setattr(tree, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr, sizeof(attr)) < 0)
		return -errno;
	return TAKE_FD(tree);
}

/* A tmpfs with room for the folders of PROC_FDS only, where proc is mounted. Its descriptor, or -errno. */
static int new_root(int proc)
{
	static const char *const folders[] = {"proc", "proc/self", "proc/self/fd"};
	struct mount_attr read_only = {.attr_set = MOUNT_ATTR_RDONLY};
	CLEANUP_CLOSE int fs = fsopen("tmpfs", FSOPEN_CLOEXEC);

	if (fs < 0 || fsconfig(fs, FSCONFIG_SET_STRING, "mode", "0555", 0) < 0 ||
		fsconfig(fs, FSCONFIG_SET_STRING, "nr_inodes", "4", 0) < 0 ||
		fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return -errno;
	CLEANUP_CLOSE int root =
		fsmount(fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
	if (root < 0 || move_mount(root, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return -errno;
	for (size_t i = 0; i < ARRAY_LEN(folders); i++) {
		if (mkdirat(root, folders[i], 0555) < 0)
			return -errno;
	}
	if (move_mount(proc, "", root, folders[ARRAY_LEN(folders) - 1], MOVE_MOUNT_F_EMPTY_PATH) < 0 ||
		mount_setattr(root, "", AT_EMPTY_PATH, &read_only, sizeof(read_only)) < 0)
		return -errno;
	return TAKE_FD(root);
}

/* 0, or -errno with root and exports as before. */
static int enter_root(const struct fs_export *exports, size_t n)
{
	int trees[FS_EXPORTS_MAX];
	size_t have = 0;
	int r = 0;

	/* Always a namespace of its own, so that this cannot be the host's, or the supervisor's. */
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return -errno;
	CLEANUP_CLOSE int proc = open_tree(AT_FDCWD, PROC_FDS, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (proc < 0)
		return -errno;
	while (have < n && r == 0) {
		trees[have] = own_mount(exports[have].fd, exports[have].read_only);
		if (trees[have] < 0)
			r = trees[have];
		else
			have++;
	}
	CLEANUP_CLOSE int root = r == 0 ? new_root(proc) : -1;
	/* The old root comes to lie on the new one, and is taken off (pivot_root(2), "pivot_root(".", ".")"). */
	if (r == 0 && (root < 0 || fchdir(root) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 ||
			      umount2(".", MNT_DETACH) < 0 || chdir("/") < 0))
		r = root < 0 ? root : -errno;
	for (size_t i = 0; i < have; i++) {
		if (r == 0 && dup3(trees[i], exports[i].fd, O_CLOEXEC) < 0)
			r = -errno;
		close(trees[i]);
	}
	return r;
}

void jail_roots(const struct fs_export *exports, size_t n, struct fs_status *s)
{
	report(s, "mount-namespace", enter_root(exports, n));
}

/* ---- Landlock ---- */

static int landlock(const struct fs_export *exports, size_t n)
{
	const uint64_t read = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR,
		       write = LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_TRUNCATE,
		       /* Devices, sockets and FIFOs of the guest are ordinary files (tree/stored.h). */
		names = LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_DIR |
			LANDLOCK_ACCESS_FS_MAKE_SYM | LANDLOCK_ACCESS_FS_REMOVE_FILE |
			LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REFER;
	/* The first of them let nobody move a file to another folder, which is what half of all programs do. */
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	if (abi < 2)
		return abi < 0 ? -errno : -ENOSYS;
	CLEANUP_CLOSE int ruleset = landlock_new(true);
	int r = ruleset < 0 ? ruleset : 0;

	for (size_t i = 0; i < n && r == 0; i++) {
		const struct fs_export *x = &exports[i];
		uint64_t rights = read | (x->read_only ? 0 : write) | (x->read_only || x->file ? 0 : names);
		r = landlock_allow(ruleset, x->fd, rights);
	}
	return r == 0 ? landlock_enter(ruleset) : r;
}

/* ---- capabilities, limits ---- */

/*
 * A user's server is like any program of his. Root's box works on the files of all, as root does outside:
 *
 *     CAP_DAC_OVERRIDE  reads and writes what others own
 *     CAP_FOWNER        changes its mode and times, and the attributes that hold what the box sees (tree/stored.h)
 *
 * Not CAP_CHOWN: files do not change their owner. Not CAP_FSETID: what is written to loses its setuid bit as for everybody.
 */
static int keep_capabilities(bool root)
{
	const uint32_t keep = root ? 1u << CAP_DAC_OVERRIDE | 1u << CAP_FOWNER : 0;
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct have[_LINUX_CAPABILITY_U32S_3], want[_LINUX_CAPABILITY_U32S_3] = {0};

	if (syscall(SYS_capget, &head, have) < 0)
		return -errno;
	want[0].permitted = want[0].effective = have[0].permitted & keep;
	(void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	for (unsigned long cap = 0; prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) == 0; cap++)
		;
	return syscall(SYS_capset, &head, want) < 0 ? -errno : 0;
}

static int limits(void)
{
	const struct rlimit none = {0, 0};

	if (setrlimit(RLIMIT_CORE, &none) < 0 || setrlimit(RLIMIT_MEMLOCK, &none) < 0)
		return -errno;
	return 0;
}

int jail_close(const struct fs_export *exports, size_t n, bool root, struct fs_status *s, struct err *e)
{
	report(s, "rlimits", limits());
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return err_sys(e, -errno, "no new privileges");
	report(s, "no-new-privileges", 0);
	int r = keep_capabilities(root);
	if (r < 0)
		return err_sys(e, r, "capabilities");
	/* No debugger of the same user gets at the guest's memory (ptrace(2)). */
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return err_sys(e, -errno, "dumpable");
	if (SANITIZED) { /* the runtime opens files, and more */
		append(s->not_confined, sizeof(s->not_confined), "; ",
			"landlock, seccomp: built with a sanitizer");
		return 0;
	}
	report(s, "landlock", landlock(exports, n));
	r = jail_filter_enter(exports, n);
	if (r < 0)
		return err_sys(e, r, "filter of system calls");
	report(s, "seccomp", 0);
	return 0;
}
