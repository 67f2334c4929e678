/* SPDX-License-Identifier: MIT */
#include "usage.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"

enum { DEPTH_MAX = 16 }; /* ours is a few deep */

static uint64_t tree_bytes(int dirfd, const char *path, int depth)
{
	struct stat st;

	if (fstatat(dirfd, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return 0;
	/* A file with several names counts once for each: we make none. */
	uint64_t bytes = (uint64_t)st.st_blocks * 512;
	if (!S_ISDIR(st.st_mode) || depth == DEPTH_MAX)
		return bytes;
	int fd = openat(dirfd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	if (!d) {
		close_fd(&fd);
		return bytes;
	}
	for (struct dirent *de; (de = readdir(d));) {
		if (strcmp(de->d_name, ".") != 0 && strcmp(de->d_name, "..") != 0)
			bytes += tree_bytes(fd, de->d_name, depth + 1);
	}
	closedir(d);
	return bytes;
}

uint64_t usage_tree_bytes(int dirfd, const char *path)
{
	return tree_bytes(dirfd, path, 0);
}

uint64_t usage_box_bytes(const struct app *a, const char *id)
{
	CLEANUP_FREE char *path = str_printf("boxes/%s", id);
	return path ? usage_tree_bytes(a->st->home_fd, path) : 0;
}

uint64_t usage_scratch_bytes(const struct app *a, const char *id)
{
	CLEANUP_FREE char *path = str_printf("boxes/%s/scratch.img", id);
	return path ? usage_tree_bytes(a->st->home_fd, path) : 0;
}
