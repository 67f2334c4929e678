/* SPDX-License-Identifier: MIT */
/*
 * THEORY OF OPERATION
 *
 * PID 1's own mounts all hang below one tmpfs, /run, so that the workload gets rid of them with one umount:
 *
 *     /run                tmpfs, also holds the box's /etc/hosts and its like
 *     /run/dev            devtmpfs: the disks, /dev/random
 *     /run/image          first disk, EROFS, read-only, shared by all boxes of the image
 *     /run/scratch        second disk, ext4: upper/ and work/ of the overlay
 *     /run/cgroup         cgroup2; the box is in /run/cgroup/box
 *     /rootfs             the overlay, and below it what containers expect
 *
 * Two processes share the work, because the first pass through any part of the kernel is slow, above all
 * under emulation. PID 1 mounts the scratch disk; at the same time the workload's process mounts the image
 * and builds /dev in /run/boxdev (they still share the mount namespace), then /proc and /sys in /run/boxproc and
 * /run/boxsys, with their masks (mask.c): those belong to the workload's namespaces. PID 1 makes the overlay,
 * moves /dev into place and adds the configuration; the workload's process takes a mount namespace of its own,
 * moves the rest into place,
 * detaches /run, and moves /rootfs over the root. pivot_root refuses to replace the initial root file system;
 * after the move nothing leads to it any more: ".." stops at the top of the stack, and setns enters at the
 * top as well.
 *
 * Mounting the overlay is the longest step that has to wait for another one. Under emulation nearly all of it
 * is the translation of code that runs for the first time; so there, and with a second processor, the
 * workload's process mounts another overlay of empty folders while PID 1 is still busy with the scratch disk
 * (measured: 25 to 30 ms less until the box is ready).
 *
 * The image is hostile: any of these folders can be a link to anywhere or a file. Each is therefore opened
 * part by part without following links and, if it is no folder, replaced by one, before anything is mounted
 * on it. Only the box's processes change the tree later, and PID 1 does not walk it then.
 *
 * hosts, hostname and resolv.conf are bind mounts, as in Docker: the image's files stay as they are, a
 * read-only root works, and nothing is copied to the scratch disk.
 */
#include "rootfs.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/io.h"
#include "cgroup.h"
#include "mask.h"
#include "names.h"
#include "net.h"
#include "system.h"
#include "userns.h"

#define ROOT	  ROOTFS_DIR
#define RUN	  "/run"
#define IMAGE	  RUN "/image"
#define SCRATCH	  ROOTFS_SCRATCH
#define CGROUP	  RUN "/cgroup"
#define BOXDEV	  RUN "/boxdev"
#define BOXPROC	  RUN "/boxproc"
#define BOXSYS	  RUN "/boxsys"
#define REHEARSAL RUN "/rehearsal"

#define MAPPED_IMAGE   RUN "/mapped-image"
#define MAPPED_SCRATCH RUN "/mapped-scratch"

/* linux/ext4.h, which older headers lack: journal to its places. */
#define EXT4_IOC_CHECKPOINT _IOW('f', 43, uint32_t)

#define SAFE (MS_NOSUID | MS_NODEV | MS_NOEXEC)

static int note(int r, char *what, size_t size, const char *text)
{
	if (r < 0)
		snprintf(what, size, "%s", text);
	return r;
}

static int do_mount(const char *src, const char *target, const char *type, unsigned long flags,
	const char *data, char *what, size_t size)
{
	if (mount(src, target, type, flags, data) == 0)
		return 0;
	snprintf(what, size, "mount %s on %s", src, target);
	return -errno;
}

static int make_dirs(const char *const *dirs, size_t n, mode_t mode, char *what, size_t size)
{
	for (size_t i = 0; i < n; i++)
		if (mkdir(dirs[i], mode) < 0 && errno != EEXIST)
			return note(-errno, what, size, dirs[i]);
	return 0;
}

int rootfs_mount_guest(char *what, size_t size)
{
	static const char *const dirs[] = {RUN "/dev", IMAGE, SCRATCH, CGROUP, BOXDEV};
	int r = do_mount("tmpfs", RUN, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=16m", what, size);

	if (r == 0)
		r = make_dirs(dirs, ARRAY_LEN(dirs), 0755, what, size);
	if (r == 0)
		r = do_mount("devtmpfs", RUN "/dev", "devtmpfs", MS_NOSUID | MS_NOEXEC, NULL, what, size);
	return r;
}

int rootfs_open_cgroup(void)
{
	int fd;

	/* nsdelegate: a box whose cgroups are writable cannot lift its own limits. */
	if (mount("cgroup2", CGROUP, "cgroup2", SAFE, "nsdelegate") < 0)
		return -errno;
	fd = cgroup_enable(CGROUP);
	if (fd < 0)
		return fd;
	if (mkdir(CGROUP "/box", 0755) < 0 && errno != EEXIST)
		return -errno;
	fd = open(CGROUP "/box", O_PATH | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/* The upper layer's root stands for the image's: same owner, same mode. */
static int make_upper(void)
{
	struct stat st;

	if (mkdir(SCRATCH "/upper", 0755) < 0)
		return errno == EEXIST ? 0 : -errno;
	if (stat(IMAGE, &st) < 0 || chown(SCRATCH "/upper", st.st_uid, st.st_gid) < 0 ||
		chmod(SCRATCH "/upper", st.st_mode & 07777) < 0)
		return -errno;
	return 0;
}

int rootfs_mount_scratch(char *what, size_t size)
{
	/*
	 * noinit_itable: the kernel would write zeros to a sparse file's free inode tables for minutes. discard: what is deleted goes
	 * back to the host. The kernel does it behind each commit of the journal, in the background: 500 MB are back within a
	 * second, and deleting 20,000 files takes a tenth longer.
	 */
	return do_mount(RUN "/dev/vdb", SCRATCH, "ext4", MS_NOATIME,
		"noinit_itable,errors=remount-ro,discard", what, size);
}

#define LAYERS(image, scratch) "lowerdir=" image ",upperdir=" scratch "/upper,workdir=" scratch "/work"

static int mount_overlay(char *what, size_t size)
{
	static const char *const work[] = {SCRATCH "/work"};
	int r = note(make_upper(), what, size, "make the writable layer");

	if (r == 0)
		r = make_dirs(work, ARRAY_LEN(work), 0700, what, size);
	if (r == 0)
		r = do_mount("overlay", ROOT, "overlay", 0, LAYERS(IMAGE, SCRATCH), what, size);
	return r;
}

/* The same mount again, with the IDs of its files as `users` maps them. */
static int map_layer(const char *from, const char *to, int users, char *what, size_t size)
{
	struct mount_attr attr = {.attr_set = MOUNT_ATTR_IDMAP, .userns_fd = (uint64_t)users};
	CLEANUP_CLOSE int tree = open_tree(AT_FDCWD, from, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);

	if (tree < 0 || mount_setattr(tree, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0 ||
		(mkdir(to, 0755) < 0 && errno != EEXIST) ||
		move_mount(tree, "", AT_FDCWD, to, MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return note(-errno, what, size, "map the IDs of the file system");
	return 0;
}

int rootfs_map_ids(char *what, size_t size)
{
	/* The overlay's own folder is made by root itself, which has an ID behind those of the box. */
	CLEANUP_CLOSE int users = userns_new(ROOTFS_ID_MAP ROOTFS_ID_MAP_SELF);
	int r = users < 0 ? note(users, what, size, "user namespace")
			  : do_mount(ROOT "/dev", BOXDEV, NULL, MS_MOVE, NULL, what, size);

	if (r == 0 && umount2(ROOT, 0) < 0)
		r = note(-errno, what, size, ROOT);
	if (r == 0)
		r = map_layer(IMAGE, MAPPED_IMAGE, users, what, size);
	if (r == 0)
		r = map_layer(SCRATCH, MAPPED_SCRATCH, users, what, size);
	if (r == 0)
		r = do_mount("overlay", ROOT, "overlay", 0, LAYERS(MAPPED_IMAGE, MAPPED_SCRATCH), what, size);
	/* The overlay has mounts of its own of both. */
	umount2(MAPPED_IMAGE, MNT_DETACH);
	umount2(MAPPED_SCRATCH, MNT_DETACH);
	if (r == 0 && chown(BOXDEV, ROOTFS_ID_BASE, ROOTFS_ID_BASE) < 0)
		r = note(-errno, what, size, ROOT "/dev");
	return r < 0 ? r : do_mount(BOXDEV, ROOT "/dev", NULL, MS_MOVE, NULL, what, size);
}

void rootfs_rehearse(void)
{
	static const char *const dirs[] = {
		REHEARSAL, REHEARSAL "/lower", REHEARSAL "/upper", REHEARSAL "/work"};
	char what[64];

	if (make_dirs(dirs, ARRAY_LEN(dirs), 0700, what, sizeof(what)) == 0)
		(void)!mount("overlay", REHEARSAL, "overlay", 0,
			"lowerdir=" REHEARSAL "/lower,upperdir=" REHEARSAL "/upper,workdir=" REHEARSAL
			"/work");
}

/* A folder of the box that is no link; made if missing, put in place of whatever else has the name. */
static int ensure_dir(const char *path)
{
	for (int attempt = 0; attempt < 3; attempt++) {
		int fd = io_openat2(AT_FDCWD, path, O_PATH | O_DIRECTORY | O_NOFOLLOW, RESOLVE_NO_SYMLINKS);

		if (fd >= 0) {
			close(fd);
			return 0;
		}
		if (fd == -ENOENT) {
			if (mkdir(path, 0755) == 0)
				return 0;
			if (errno != EEXIST)
				return -errno;
		} else if (fd != -ENOTDIR && fd != -ELOOP) {
			return fd;
		}
		if (unlink(path) < 0 && errno != ENOENT)
			return -errno;
	}
	return -EEXIST;
}

static int make_devices(void)
{
	static const struct {
		const char *name;
		unsigned int major, minor;
	} devices[] = {{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9},
		{"tty", 5, 0}};
	static const char *const links[][2] = {{"/proc/self/fd", "fd"}, {"/proc/self/fd/0", "stdin"},
		{"/proc/self/fd/1", "stdout"}, {"/proc/self/fd/2", "stderr"}, {"/proc/kcore", "core"},
		{"pts/ptmx", "ptmx"}};
	static const char *const dirs[] = {"pts", "shm", "mqueue", "a3s"};
	CLEANUP_CLOSE int dev = open(BOXDEV, O_PATH | O_DIRECTORY | O_CLOEXEC);
	mode_t saved;
	int r = 0;

	if (dev < 0)
		return -errno;
	saved = umask(0);
	for (size_t i = 0; r == 0 && i < ARRAY_LEN(devices); i++)
		r = mknodat(
			dev, devices[i].name, S_IFCHR | 0666, makedev(devices[i].major, devices[i].minor));
	for (size_t i = 0; r == 0 && i < ARRAY_LEN(links); i++)
		r = symlinkat(links[i][0], dev, links[i][1]);
	for (size_t i = 0; r == 0 && i < ARRAY_LEN(dirs); i++)
		r = mkdirat(dev, dirs[i], 0755);
	r = r < 0 ? -errno : 0;
	umask(saved);
	return r;
}

static int attach(int mount_fd, const char *path, char *what, size_t size)
{
	if (move_mount(mount_fd, "", AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH) == 0)
		return 0;
	return note(-errno, what, size, path);
}

/* This program, to be init of the box and nsexec in it: the initramfs's own file, which nobody can write to. */
static int bind_self(char *what, size_t size)
{
	struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV};
	CLEANUP_CLOSE int file = open(BOXDEV "/a3s/nsexec", O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0755);
	CLEANUP_CLOSE int tree =
		file < 0 ? -1 : open_tree(AT_FDCWD, "/init", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);

	if (tree < 0 || mount_setattr(tree, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0)
		return note(-errno, what, size, "nsexec");
	return attach(tree, BOXDEV "/a3s/nsexec", what, size);
}

int rootfs_build_base(char *what, size_t size)
{
	int r = do_mount(RUN "/dev/vda", IMAGE, "erofs", MS_RDONLY, NULL, what, size);

	if (r == 0)
		r = do_mount("tmpfs", BOXDEV, "tmpfs", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k",
			what, size);
	if (r == 0)
		r = note(make_devices(), what, size, "make devices");
	if (r == 0)
		r = do_mount("devpts", BOXDEV "/pts", "devpts", MS_NOSUID | MS_NOEXEC,
			"newinstance," ROOTFS_DEVPTS_OPTIONS ",gid=" ROOTFS_TTY_GROUP, what, size);
	if (r == 0)
		r = do_mount("shm", BOXDEV "/shm", "tmpfs", SAFE, "mode=1777,size=64m" /* ROOTFS_SHM_BYTES */,
			what, size);
	if (r == 0)
		r = bind_self(what, size);
	return r;
}

int rootfs_new(const char *type, const char *source, unsigned int attr, char *what, size_t size)
{
	CLEANUP_CLOSE int fs = fsopen(type, FSOPEN_CLOEXEC);
	int fd;

	if (fs >= 0 && fsconfig(fs, FSCONFIG_SET_STRING, "source", source, 0) == 0 &&
		fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) == 0) {
		fd = fsmount(
			fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC | attr);
		if (fd >= 0)
			return fd;
	}
	snprintf(what, size, "mount %s", type);
	return -errno;
}

/* Mounts it on path; returns its root, open. */
static int build_part(
	const char *type, const char *source, unsigned int attr, const char *path, char *what, size_t size)
{
	CLEANUP_CLOSE int fd = rootfs_new(type, source, attr, what, size);
	int r = fd < 0 ? fd : attach(fd, path, what, size);

	return r < 0 ? r : TAKE_FD(fd);
}

/* Ports below 1024 and ICMP echo for users too, as in Docker. Else they would want capabilities, which users do not have. */
static void open_network(int proc)
{
	static const char *const settings[][2] = {
		{"sys/net/ipv4/ip_unprivileged_port_start", "0"},
		{"sys/net/ipv4/ping_group_range", "0 2147483647"},
	};

	for (size_t i = 0; i < ARRAY_LEN(settings); i++) {
		CLEANUP_CLOSE int fd = openat(proc, settings[i][0], O_WRONLY | O_CLOEXEC);

		if (fd < 0 || write(fd, settings[i][1], strlen(settings[i][1])) < 0)
			system_complain("%s: %s", settings[i][0], strerror(errno));
	}
}

int rootfs_build_parts(struct rootfs_parts *ret, char *what, size_t size)
{
	static const char *const dirs[] = {BOXPROC, BOXSYS};
	CLEANUP_CLOSE int proc = -1;
	CLEANUP_CLOSE int sys = -1;
	CLEANUP_CLOSE int cgroup = -1;
	/* Not the one in BOXDEV, which PID 1 moves at the same time. */
	CLEANUP_CLOSE int null_device = open(RUN "/dev/null", O_PATH | O_NOFOLLOW | O_CLOEXEC);
	int r = null_device < 0 ? note(-errno, what, size, RUN "/dev/null")
				: make_dirs(dirs, ARRAY_LEN(dirs), 0755, what, size);

	if (r == 0)
		r = proc = build_part("proc", "proc", 0, BOXPROC, what, size);
	if (r >= 0)
		open_network(proc);
	if (r >= 0)
		r = mask_apply(proc, mask_proc, mask_proc_len, null_device, what, size);
	if (r >= 0)
		r = sys = build_part("sysfs", "sysfs", MOUNT_ATTR_RDONLY, BOXSYS, what, size);
	if (r >= 0)
		r = mask_apply(sys, mask_sys, mask_sys_len, null_device, what, size);
	if (r >= 0)
		r = cgroup =
			build_part("cgroup2", "cgroup", MOUNT_ATTR_RDONLY, BOXSYS "/fs/cgroup", what, size);
	if (r >= 0)
		r = ret->mqueue = rootfs_new("mqueue", "mqueue", 0, what, size);
	return r < 0 ? r : 0;
}

int rootfs_assemble(int *ret_devpts, char *what, size_t size)
{
	static const char *const dirs[] = {ROOT "/dev", ROOT "/proc", ROOT "/sys"};
	int r = mount_overlay(what, size), fd;

	for (size_t i = 0; r == 0 && i < ARRAY_LEN(dirs); i++)
		r = note(ensure_dir(dirs[i]), what, size, dirs[i]);
	if (r == 0)
		r = do_mount(BOXDEV, ROOT "/dev", NULL, MS_MOVE, NULL, what, size);
	if (r < 0)
		return r;
	fd = open(ROOT "/dev/pts", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return note(-errno, what, size, ROOT "/dev/pts");
	*ret_devpts = fd;
	return 0;
}

/*
 * Opens /etc/NAME of the box to mount on. Links are followed inside the box; one that leads nowhere gives way
 * to an empty file, as does a missing file.
 */
static int open_etc_file(int root, const char *name)
{
	char path[64];
	int fd;
	CLEANUP_CLOSE int etc = io_openat2(root, "etc", O_PATH | O_DIRECTORY, RESOLVE_IN_ROOT);

	if (etc < 0) {
		int r = ensure_dir(ROOT "/etc");

		if (r < 0)
			return r;
		etc = io_openat2(root, "etc", O_PATH | O_DIRECTORY, RESOLVE_IN_ROOT);
		if (etc < 0)
			return etc;
	}
	snprintf(path, sizeof(path), "etc/%s", name);
	fd = io_openat2(root, path, O_PATH, RESOLVE_IN_ROOT);
	if (fd != -ENOENT && fd != -ELOOP && fd != -ENOTDIR)
		return fd;
	if (unlinkat(etc, name, 0) < 0 && errno != ENOENT)
		return -errno;
	fd = openat(etc, name, O_CREAT | O_EXCL | O_NOFOLLOW | O_WRONLY | O_CLOEXEC, 0644);
	if (fd < 0)
		return -errno;
	close(fd);
	fd = openat(etc, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/* In PID 1's /run, and once more for names.c. */
static int write_etc_file(const char *path, uid_t owner, const char *text, size_t len)
{
	CLEANUP_CLOSE int file = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0644);
	int r = file < 0 ? -errno : io_write_full(file, text, len);

	return r == 0 && owner && fchown(file, owner, owner) < 0 ? -errno : r;
}

static int bind_etc_file(int root, uid_t owner, const char *name, const char *text, size_t len)
{
	char path[64], kept[64];
	int r;
	CLEANUP_CLOSE int tree = -1;
	CLEANUP_CLOSE int target = open_etc_file(root, name);

	if (target < 0)
		return target;
	snprintf(path, sizeof(path), ROOTFS_ETC "%s", name);
	snprintf(kept, sizeof(kept), ROOTFS_ETC_KEPT "%s", name);
	r = write_etc_file(path, owner, text, len);
	if (r == 0)
		r = write_etc_file(kept, 0, text, len);
	if (r < 0)
		return r;
	tree = open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (tree < 0 ||
		move_mount(tree, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0)
		return -errno;
	return 0;
}

static int bind_hosts(int root, uid_t owner, const struct strv *lines)
{
	CLEANUP(buf_done) struct buf text = {0};
	int r = names_hosts(&text, lines);

	return r < 0 ? r : bind_etc_file(root, owner, "hosts", (const char *)buf_data(&text), text.len);
}

int rootfs_configure(const struct wire_config *c, char *what, size_t size)
{
	uid_t owner = c->user_namespace ? ROOTFS_ID_BASE : 0;
	CLEANUP_CLOSE int root = open(ROOT, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int r = root < 0 ? note(-errno, what, size, ROOT)
			 : note(bind_hosts(root, owner, &c->network.hosts), what, size, "/etc/hosts");

	if (r == 0 && c->hostname) {
		char line[256];

		snprintf(line, sizeof(line), "%.250s\n", c->hostname);
		r = note(bind_etc_file(root, owner, "hostname", line, strlen(line)), what, size,
			"/etc/hostname");
	}
	/* A box that can have a network later has a file that can say so. */
	const char *resolv = c->network.resolv_conf ? c->network.resolv_conf : net_has_device() ? "" : NULL;
	if (r == 0 && resolv)
		r = note(bind_etc_file(root, owner, "resolv.conf", resolv, strlen(resolv)), what, size,
			"/etc/resolv.conf");
	return r;
}

int rootfs_open_guest_dev(void)
{
	int fd = open(RUN "/dev", O_PATH | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

int rootfs_seal(void)
{
	return mount("read-only", "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL) < 0 ? -errno : 0;
}

/* Instead of those that were made with masks: new ones, in our own mount namespace. */
static int unmask(bool writable, char *what, size_t size)
{
	unsigned int attr = writable ? 0 : MOUNT_ATTR_RDONLY;
	int fds[3], r = 0;

	/* With what is mounted on them. */
	if (umount2(BOXPROC, MNT_DETACH) < 0 || umount2(BOXSYS, MNT_DETACH) < 0)
		return note(-errno, what, size, "unmask");
	fds[0] = build_part("proc", "proc", 0, BOXPROC, what, size);
	fds[1] = fds[0] < 0 ? -1 : build_part("sysfs", "sysfs", attr, BOXSYS, what, size);
	fds[2] = fds[1] < 0 ? -1 : build_part("cgroup2", "cgroup", attr, BOXSYS "/fs/cgroup", what, size);
	for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
		if (fds[i] < 0 && r == 0)
			r = -errno;
		close_fd(&fds[i]);
	}
	return r;
}

int rootfs_enter(const struct rootfs_parts *parts, const struct wire_config *c, char *what, size_t size)
{
	int r = c->unmasked || c->privileged ? unmask(c->privileged, what, size) : 0;

	if (r == 0)
		r = do_mount(BOXPROC, ROOT "/proc", NULL, MS_MOVE, NULL, what, size);
	if (r == 0)
		r = do_mount(BOXSYS, ROOT "/sys", NULL, MS_MOVE, NULL, what, size);
	if (r == 0)
		r = attach(parts->mqueue, ROOT "/dev/mqueue", what, size);
	if (r < 0)
		return r;
	if (chdir(ROOT) < 0)
		return note(-errno, what, size, ROOT);
	if (umount2(RUN, MNT_DETACH) < 0)
		return note(-errno, what, size, "detach " RUN);
	r = do_mount(".", "/", NULL, MS_MOVE, NULL, what, size);
	if (r == 0 && (chroot(".") < 0 || chdir("/") < 0))
		r = note(-errno, what, size, "change the root");
	return r;
}

/* Plain paths will do: nothing of the image has run yet, and /dev is ours. */
int rootfs_mount_console(int pty, char *what, size_t size)
{
	char slave[32];
	int fd = open("/dev/console", O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);

	if (fd < 0)
		return note(-errno, what, size, "/dev/console");
	close(fd);
	snprintf(slave, sizeof(slave), "/dev/pts/%d", pty);
	return do_mount(slave, "/dev/console", NULL, MS_BIND, NULL, what, size);
}

pid_t rootfs_sync_ahead(void)
{
	uint32_t flags = 0;
	int scratch;
	pid_t pid = fork();

	if (pid != 0)
		return pid < 0 ? -errno : pid;
	/* Nobody is to wait for the end of a connection or a pipe because of this copy. */
	close_range(3, UINT_MAX, 0);
	(void)!nice(19); /* nor to have less of the processor */
	scratch = open(SCRATCH, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (scratch < 0 || syncfs(scratch) < 0)
		_exit(1);
	/* All changes wait while the journal is emptied, so not longer than need be. */
	(void)setpriority(PRIO_PROCESS, 0, 0);
	_exit(ioctl(scratch, EXT4_IOC_CHECKPOINT, &flags) < 0);
}

int rootfs_unmount(void)
{
	int scratch;

	/*
	 * Everything written, the journal empty: what an unmount leaves on the disk, without the time to take the file
	 * system's structures in memory apart. Under emulation that is a third less.
	 */
	if (mount(NULL, SCRATCH, NULL, MS_REMOUNT | MS_RDONLY, NULL) == 0)
		return 0;
	/* A file is still open for writing. */
	scratch = open(SCRATCH, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (scratch >= 0) {
		syncfs(scratch);
		close(scratch);
	}
	umount2(ROOT, MNT_DETACH);
	if (umount2(SCRATCH, 0) == 0)
		return 0;
	/* The overlay may have been what held it. */
	if (mount(NULL, SCRATCH, NULL, MS_REMOUNT | MS_RDONLY, NULL) == 0)
		return 0;
	return -errno;
}
