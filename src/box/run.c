/* SPDX-License-Identifier: MIT */
#include "run.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>

#include "base/io.h"
#include "base/proc.h"

#define LOCK_PATIENCE_NS 300000000ull

static int open_dir(struct state *st, const char *parent, const char *id, bool create, struct err *e)
{
	CLEANUP_CLOSE int pfd = io_open_dir_at(st->home_fd, parent, create);
	if (pfd < 0)
		return pfd == -ENOENT ? pfd : err_sys(e, pfd, "cannot open %s/%s", st->home, parent);
	int fd = io_open_dir_at(pfd, id, create);
	if (fd < 0 && fd != -ENOENT)
		return err_sys(e, fd, "cannot open %s/%s/%s", st->home, parent, id);
	return fd;
}

int box_open_run_dir(struct state *st, const char *id, bool create, struct err *e)
{
	return open_dir(st, "run", id, create, e);
}

int box_open_box_dir(struct state *st, const char *id, bool create, struct err *e)
{
	return open_dir(st, "boxes", id, create, e);
}

int box_try_lock(struct state *st, const char *id, int *ret_lock_fd, struct err *e)
{
	/* The folder may be removed by the last holder between our open and our lock: then start over. */
	for (int attempt = 0; attempt < 100; attempt++) {
		CLEANUP_CLOSE int dir = box_open_run_dir(st, id, true, e);
		if (dir == -ENOENT)
			continue;
		if (dir < 0)
			return dir;
		CLEANUP_CLOSE int fd = openat(dir, "lock", O_RDONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
		if (fd < 0 && errno == ENOENT)
			continue;
		if (fd < 0)
			return err_sys(e, -errno, "cannot lock box %.*s", BOX_ID_SHORT_LEN, id);
		if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
			if (errno == EWOULDBLOCK)
				return err_set(e, -EBUSY, "box %.*s is in use by another command",
					BOX_ID_SHORT_LEN, id);
			return err_sys(e, -errno, "cannot lock box %.*s", BOX_ID_SHORT_LEN, id);
		}
		struct stat ours, current;
		CLEANUP_FREE char *path = str_printf("run/%s/lock", id);
		if (!path)
			return err_oom(e);
		if (fstat(fd, &ours) == 0 && fstatat(st->home_fd, path, &current, AT_SYMLINK_NOFOLLOW) == 0 &&
			ours.st_ino == current.st_ino && ours.st_dev == current.st_dev) {
			*ret_lock_fd = TAKE_FD(fd);
			return 0;
		}
	}
	return err_set(e, -EBUSY, "box %.*s is in use by another command", BOX_ID_SHORT_LEN, id);
}

static int busy(struct state *st, const char *id, struct err *e)
{
	CLEANUP(box_freep) struct box *b = NULL;

	if (box_find_quiet(st, id, &b, NULL) == 0)
		err_set(e, -EBUSY, "box %s is in use by another command", b->name);
	return e ? err_hint(e, "try again when that has ended") : -EBUSY;
}

int box_lock(struct state *st, const char *id, int *ret_lock_fd, struct err *e)
{
	/* box_reconcile of another command holds locks for a moment: only one that stays is an owner's. */
	for (uint64_t until = time_mono_ns() + LOCK_PATIENCE_NS;;) {
		int r = box_try_lock(st, id, ret_lock_fd, e);
		if (r != -EBUSY)
			return r;
		if (time_mono_ns() >= until)
			return busy(st, id, e);
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	}
}

/* Removes what lies in run/ID beside the lock. */
static void clear_run_dir(struct state *st, const char *id)
{
	int fd = box_open_run_dir(st, id, false, NULL);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);

	if (!d) {
		close_fd(&fd);
		return;
	}
	for (struct dirent *de; (de = readdir(d));) {
		if (strcmp(de->d_name, ".") != 0 && strcmp(de->d_name, "..") != 0 &&
			strcmp(de->d_name, "lock") != 0)
			io_remove_tree_at(dirfd(d), de->d_name);
	}
	closedir(d);
}

void box_unlock(struct state *st, const char *id, int *lock_fd)
{
	CLEANUP_FREE char *path = str_printf("run/%s", id);
	CLEANUP_FREE char *lock = str_printf("run/%s/lock", id);

	/* The lock's file goes last: from then on the folder may be another holder's, and is left alone if not empty. */
	clear_run_dir(st, id);
	if (path && lock) {
		unlinkat(st->home_fd, lock, 0);
		unlinkat(st->home_fd, path, AT_REMOVEDIR); /* what stays is removed by the next holder */
	}
	close_fd(lock_fd);
}

/* Fills an address that reaches dirfd/name whatever the length of the folder's path. */
static void unix_addr(struct sockaddr_un *a, int dirfd, const char *name)
{
	*a = (struct sockaddr_un){.sun_family = AF_UNIX};
	snprintf(a->sun_path, sizeof(a->sun_path), "/proc/self/fd/%d/%s", dirfd, name);
}

int unix_listen_at(int dirfd, const char *name)
{
	struct sockaddr_un a;
	CLEANUP_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (unlinkat(dirfd, name, 0) < 0 && errno != ENOENT)
		return -errno;
	unix_addr(&a, dirfd, name);
	if (bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(fd, SOMAXCONN) < 0)
		return -errno;
	return TAKE_FD(fd);
}

int unix_connect_at(int dirfd, const char *name)
{
	struct sockaddr_un a;
	CLEANUP_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	unix_addr(&a, dirfd, name);
	if (connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		return -errno;
	return TAKE_FD(fd);
}

int handshake_ask(struct handshake *h, int fd, uint32_t port)
{
	char line[sizeof(h->line)];
	int n = snprintf(line, sizeof(line), "CONNECT %u\n", port);

	h->len = 0;
	/* A connection that is new takes so little at once, or is of no use. */
	return send(fd, line, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT) == n ? 0 : -EPIPE;
}

int handshake_read(struct handshake *h, int fd)
{
	/* Byte by byte: what follows the line belongs to the guest. */
	while (h->len < sizeof(h->line)) {
		ssize_t n = recv(fd, h->line + h->len, 1, MSG_DONTWAIT);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return 0;
		if (n <= 0)
			return n < 0 ? -errno : -ECONNREFUSED;
		if (h->line[h->len++] == '\n')
			return h->len > 3 && memcmp(h->line, "OK ", 3) == 0 ? 1 : -EPROTO;
	}
	return -EPROTO;
}

/* A small disk has room for something else than its journal; mke2fs wants no less than 4 MiB. */
static uint64_t journal_mib(uint64_t bytes)
{
	return MAX_OF(MIN_OF(bytes >> 25, 32ull), 4ull);
}

/*
 * Formats the template through a temporary file of a fixed name, locked: of several commands at once the first does
 * the work, and what a killed one left is used again by the next.
 */
static int make_template(int cache_fd, const char *name, uint64_t bytes, struct err *e)
{
	char journal[32];

	static const char *const programs[] = {"mke2fs", "/sbin/mke2fs", "/usr/sbin/mke2fs"};
	static const char tmp[] = "scratch.tmp";

	CLEANUP_CLOSE int fd = openat(cache_fd, tmp, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0 || flock(fd, LOCK_EX) < 0)
		return err_sys(e, -errno, "cannot create a scratch disk");
	if (faccessat(cache_fd, name, F_OK, 0) == 0)
		return 0; /* made while we waited; ours may even be it */
	struct stat ours, current;
	if (fstat(fd, &ours) < 0 || fstatat(cache_fd, tmp, &current, AT_SYMLINK_NOFOLLOW) < 0 ||
		ours.st_ino != current.st_ino)
		return make_template(cache_fd, name, bytes,
			e); /* another one failed and took the file along while we waited */
	int r = ftruncate(fd, 0) < 0 || ftruncate(fd, (off_t)bytes) < 0 ? -errno : -ENOENT;
	/*
	 * No journal checksum or resize reserve is needed on a disk that lives with one box; tables are zeroed lazily
	 * because a hole already reads as zeros. root_owner: the image's own root decides, the guest copies it.
	 */
	snprintf(journal, sizeof(journal), "size=%llu", (unsigned long long)journal_mib(bytes));
	const char *argv[] = {"mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-m", "0", "-J", journal,
		"-O", "^resize_inode", "-E",
		"lazy_itable_init=1,lazy_journal_init=1,nodiscard,root_owner=0:0", "-L", "scratch",
		"/proc/self/fd/3", NULL};
	struct proc_fd fds[] = {{fd, 3}};
	int status = 0;
	for (size_t i = 0; r == -ENOENT && i < ARRAY_LEN(programs); i++) {
		struct proc_opts o = {
			.path = programs[i], .argv = argv, .fds = fds, .n_fds = 1, .die_with_parent = true};
		pid_t pid = proc_spawn(&o, NULL);
		r = pid < 0 ? (int)pid : proc_wait(pid, &status);
	}
	if (r == -ENOENT) {
		err_set(e, r, "cannot format a scratch disk: mke2fs not found");
		err_hint(e, "install the package e2fsprogs");
	} else if (r == 0 && status != 0) {
		r = err_set(e, -EIO, "cannot format a scratch disk: mke2fs failed (is the disk full?)");
	} else if (r < 0 || fsync(fd) < 0 || renameat(cache_fd, tmp, cache_fd, name) < 0) {
		r = err_sys(e, r < 0 ? r : -errno, "cannot format a scratch disk");
	}
	if (r < 0)
		unlinkat(cache_fd, tmp, 0);
	return r;
}

int box_ensure_scratch(struct state *st, int box_dirfd, uint64_t bytes, bool durable, struct err *e)
{
	char template[64];

	if (!bytes)
		bytes = BOX_DISK_BYTES;
	/* The first number changes with mke2fs's arguments. */
	bool whole = bytes % (1ull << 30) == 0;
	snprintf(template, sizeof(template), "scratch-1-%llu%c.img",
		(unsigned long long)(bytes >> (whole ? 30 : 20)), whole ? 'g' : 'm');
	if (faccessat(box_dirfd, "scratch.img", F_OK, 0) == 0)
		return 0;
	CLEANUP_CLOSE int cache = io_open_dir_at(st->home_fd, "cache", true);
	if (cache < 0)
		return err_sys(e, cache, "cannot open %s/cache", st->home);
	CLEANUP_CLOSE int src = openat(cache, template, O_RDONLY | O_CLOEXEC);
	if (src < 0) {
		int r = make_template(cache, template, bytes, e);
		if (r < 0)
			return r;
		src = openat(cache, template, O_RDONLY | O_CLOEXEC);
		if (src < 0)
			return err_sys(e, -errno, "cannot open the scratch disk's template");
	}
	CLEANUP_CLOSE int dst =
		openat(box_dirfd, "scratch.tmp", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	int r = dst < 0 ? -errno : io_copy_sparse(src, dst, false);
	/* The record outlives a power failure, so the disk must; not so where both go with the box's end. */
	if (r == 0 && durable && fsync(dst) < 0)
		r = -errno;
	if (r == 0 && renameat(box_dirfd, "scratch.tmp", box_dirfd, "scratch.img") < 0)
		r = -errno;
	if (r < 0) {
		unlinkat(box_dirfd, "scratch.tmp", 0);
		return err_sys(e, r, "cannot create the scratch disk");
	}
	return 0;
}
