/* SPDX-License-Identifier: MIT */
/* Removing trees that others may have filled, without ever following a link. */
#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "base/log.h"

enum { TREE_DEPTH_MAX = 4096 };

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

/*
 * Empties the folder dfd (consumed). One descriptor per level is open at a time; a tree deeper than the process
 * may open fails with EMFILE, which a caller meets only with folders it did not make itself.
 */
static int empty_dir(int dfd, dev_t dev, int depth)
{
	DIR *d = fdopendir(dfd);
	if (!d) {
		int r = -errno;
		close(dfd);
		return r;
	}
	int r = depth > TREE_DEPTH_MAX ? -ELOOP : 0;
	for (struct dirent *de; r == 0 && (errno = 0, de = readdir(d));) {
		if (strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0)
			continue;
		struct stat st;
		if (fstatat(dirfd(d), de->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
			r = errno == ENOENT ? 0 : -errno;
			continue;
		}
		if (S_ISDIR(st.st_mode)) {
			if (st.st_dev != dev) {
				r = -EXDEV;
				continue;
			}
			int sub = open_folder(dirfd(d), de->d_name);
			r = sub < 0 ? sub : empty_dir(sub, dev, depth + 1);
			if (r == 0 && unlinkat(dirfd(d), de->d_name, AT_REMOVEDIR) < 0)
				r = -errno;
		} else if (unlinkat(dirfd(d), de->d_name, 0) < 0) {
			r = -errno;
		}
		if (r == -ENOENT)
			r = 0;
	}
	if (r == 0 && errno)
		r = -errno;
	closedir(d);
	return r;
}

int io_remove_tree_at(int dirfd, const char *path)
{
	if (unlinkat(dirfd, path, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return -errno;
	int fd = open_folder(dirfd, path);
	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	struct stat st;
	if (fstat(fd, &st) < 0) {
		int r = -errno;
		close(fd);
		return r;
	}
	int r = empty_dir(fd, st.st_dev, 0);
	if (r < 0)
		return r;
	if (unlinkat(dirfd, path, AT_REMOVEDIR) < 0 && errno != ENOENT)
		return -errno;
	return 0;
}
