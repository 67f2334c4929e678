/* SPDX-License-Identifier: MIT */
/* Trees that others may have filled, removed and measured without ever following a link. */
#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "base/log.h"

/* A descriptor for each level: few enough for a process that may open 1024. */
enum { TREE_DEPTH_MAX = 400 };

/* Opens a folder for emptying; one that is ours but was made unreadable is made readable again. fd or -errno. */
static int open_folder(int at, const char *name)
{
	CLEANUP_CLOSE int path = openat(at, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;

	if (path < 0 || fstat(path, &st) < 0)
		return -errno;
	if ((st.st_mode & 0700) != 0700) {
		/* By descriptor: by name it could meanwhile be a link. If it cannot be mended, opening it says why. */
		char self[32];
		snprintf(self, sizeof(self), "/proc/self/fd/%d", path);
		if (chmod(self, 0700) < 0)
			log_debug("cannot make %s readable", name);
	}
	int fd = openat(path, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

struct removal {
	dev_t dev;
	int top; /* the folder that is to be emptied */
	bool moved;
};

/* A folder that lies too deep goes on at the top, under a name that is free there. */
static int move_up(struct removal *rm, int at, const char *name)
{
	int fd = open_folder(at, name); /* what cannot be written cannot be moved */
	char to[48];
	uint8_t rnd[16];

	if (fd < 0)
		return fd;
	close(fd);
	io_random(rnd, sizeof(rnd));
	hex_encode(to, rnd, sizeof(rnd));
	rm->moved = true;
	return renameat2(at, name, rm->top, to, RENAME_NOREPLACE) < 0 ? -errno : 0;
}

static int empty_dir(struct removal *rm, int dfd, int depth);

static int remove_entry(struct removal *rm, int at, const char *name, int depth)
{
	struct stat st;
	int r = 0;

	if (fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (!S_ISDIR(st.st_mode))
		return unlinkat(at, name, 0) < 0 ? -errno : 0;
	if (st.st_dev != rm->dev)
		return -EXDEV;
	if (unlinkat(at, name, AT_REMOVEDIR) == 0)
		return 0;
	if (depth >= TREE_DEPTH_MAX)
		return move_up(rm, at, name);
	int sub = open_folder(at, name);
	r = sub < 0 ? sub : empty_dir(rm, sub, depth + 1);
	return r < 0 ? r : unlinkat(at, name, AT_REMOVEDIR) < 0 ? -errno : 0;
}

/* Empties the folder dfd (consumed). */
static int empty_dir(struct removal *rm, int dfd, int depth)
{
	DIR *d = fdopendir(dfd);
	if (!d) {
		int r = -errno;
		close(dfd);
		return r;
	}
	int r = 0;
	for (struct dirent *de; r == 0 && (errno = 0, de = readdir(d));) {
		if (strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0)
			continue;
		r = remove_entry(rm, dirfd(d), de->d_name, depth);
		if (r == -ENOENT)
			r = 0;
	}
	if (r == 0 && errno)
		r = -errno;
	closedir(d);
	return r;
}

/* Until nothing came up from below any more. */
static int empty_top(int fd)
{
	struct removal rm = {.top = fd};
	struct stat st;
	int r = fstat(fd, &st) < 0 ? -errno : 0;

	rm.dev = st.st_dev;
	do {
		rm.moved = false;
		int dfd = r < 0 ? r : openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (r == 0)
			r = dfd < 0 ? -errno : empty_dir(&rm, dfd, 0);
	} while (r == 0 && rm.moved);
	return r;
}

int io_remove_tree_at(int dirfd, const char *path)
{
	if (unlinkat(dirfd, path, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return -errno;
	CLEANUP_CLOSE int fd = open_folder(dirfd, path);
	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	int r = empty_top(fd);
	if (r < 0)
		return r;
	if (unlinkat(dirfd, path, AT_REMOVEDIR) < 0 && errno != ENOENT)
		return -errno;
	return 0;
}

/* ---- measuring ---- */

struct inode {
	dev_t dev;
	ino_t ino;
};
struct measure {
	struct inode *seen; /* files with several names, open addressing; ino 0: free */
	size_t n, size;
};

static size_t slot_of(const struct measure *m, const struct inode *i)
{
	uint64_t h = ((uint64_t)i->ino ^ (uint64_t)i->dev << 40) * 0x9e3779b97f4a7c15ull;
	size_t at = (size_t)(h >> 20) & (m->size - 1);

	while (m->seen[at].ino && (m->seen[at].ino != i->ino || m->seen[at].dev != i->dev))
		at = (at + 1) & (m->size - 1);
	return at;
}

/* Whether it was counted before. Without memory it is counted again. */
static bool was_seen(struct measure *m, const struct stat *st)
{
	const struct inode i = {.dev = st->st_dev, .ino = st->st_ino};

	if (2 * (m->n + 1) > m->size) {
		struct measure bigger = {.size = m->size ? 2 * m->size : 64};
		bigger.seen = calloc(bigger.size, sizeof(*bigger.seen));
		if (!bigger.seen)
			return false;
		for (size_t k = 0; k < m->size; k++) {
			if (m->seen[k].ino)
				bigger.seen[slot_of(&bigger, &m->seen[k])] = m->seen[k];
		}
		bigger.n = m->n;
		free(m->seen);
		*m = bigger;
	}
	size_t at = slot_of(m, &i);
	if (m->seen[at].ino)
		return true;
	m->seen[at] = i;
	m->n++;
	return false;
}

static uint64_t tree_bytes(struct measure *m, int dirfd, const char *path)
{
	struct stat st;

	if (fstatat(dirfd, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return 0;
	if (!S_ISDIR(st.st_mode) && st.st_nlink > 1 && was_seen(m, &st))
		return 0;
	uint64_t bytes = (uint64_t)st.st_blocks * 512;
	if (!S_ISDIR(st.st_mode))
		return bytes;
	int fd = openat(dirfd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	if (!d) {
		close_fd(&fd);
		return bytes;
	}
	for (struct dirent *de; (de = readdir(d));) {
		if (strcmp(de->d_name, ".") != 0 && strcmp(de->d_name, "..") != 0)
			bytes += tree_bytes(m, fd, de->d_name);
	}
	closedir(d);
	return bytes;
}

uint64_t io_tree_bytes_at(int dirfd, const char *path)
{
	struct measure m = {0};
	uint64_t bytes = tree_bytes(&m, dirfd, path);

	free(m.seen);
	return bytes;
}
