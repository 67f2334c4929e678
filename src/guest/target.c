/* SPDX-License-Identifier: MIT */
#include "target.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/vfs.h>

#include "base/io.h"

#define LINKS_MAX 40 /* followed by one path, as in Linux */

static int open_existing(const char *path)
{
	CLEANUP_CLOSE int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);

	return root < 0 ? -errno : io_openat2(root, path, O_PATH, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
}

/* A path on its way: what is done of it leads through no link, and what is left. */
struct walk {
	char done[PATH_MAX], left[PATH_MAX];
	int links;
};

/* What the link at `done` says, in its place. */
static int follow(struct walk *w)
{
	char text[PATH_MAX];
	ssize_t n = readlink(w->done, text, sizeof(text) - 1);
	size_t left = strlen(w->left);

	if (n < 0)
		return -errno;
	if (++w->links > LINKS_MAX)
		return -ELOOP;
	text[n] = '\0';
	if ((size_t)n + 1 + left >= sizeof(w->left))
		return -ENAMETOOLONG;
	memmove(w->left + n + 1, w->left, left + 1);
	memcpy(w->left, text, (size_t)n);
	w->left[n] = '/';
	/* From the root, or from the folder that the link is in. */
	*(text[0] == '/' ? w->done : strrchr(w->done, '/')) = '\0';
	return 0;
}

static int make(const char *path, bool file, uid_t owner)
{
	int fd = -1, r = 0;

	if (file) {
		fd = open(path, O_CREAT | O_EXCL | O_NOFOLLOW | O_WRONLY | O_CLOEXEC, 0644);
		r = fd < 0 ? -errno : 0;
		close_fd(&fd);
	} else if (mkdir(path, 0755) < 0) {
		r = -errno;
	}
	return r == 0 && owner && lchown(path, owner, owner) < 0 ? -errno : r;
}

/* Takes the next part of what is left. 1, 0 at the end, or -errno. */
static int step(struct walk *w, bool file, uid_t owner)
{
	size_t skip = strspn(w->left, "/"), n = strcspn(w->left + skip, "/"), done = strlen(w->done);
	const char *part = w->left + skip;
	struct stat st;
	bool dots = n == 2 && part[0] == '.' && part[1] == '.', last = !part[n + strspn(part + n, "/")];

	if (n == 0)
		return 0;
	if (dots && done)
		*strrchr(w->done, '/') = '\0';
	if (!dots && !(n == 1 && part[0] == '.')) {
		if (done + 1 + n >= sizeof(w->done))
			return -ENAMETOOLONG;
		w->done[done] = '/';
		memcpy(w->done + done + 1, part, n);
		w->done[done + 1 + n] = '\0';
	}
	memmove(w->left, part + n, strlen(part + n) + 1);
	if (dots || !w->done[0])
		return 1;
	if (lstat(w->done, &st) < 0) {
		int r = errno == ENOENT ? make(w->done, file && last, owner) : -errno;
		return r < 0 ? r : 1;
	}
	int r = S_ISLNK(st.st_mode) ? follow(w) : 0;
	return r < 0 ? r : 1;
}

/* As mkdir -p, but a link that leads nowhere is where its target is made, as in Docker. */
static int make_missing(const char *path, bool file, uid_t owner)
{
	struct walk w = {.links = 0};
	int r;

	if (strlen(path) >= sizeof(w.left))
		return -ENAMETOOLONG;
	memcpy(w.left, path, strlen(path) + 1);
	while ((r = step(&w, file, owner)) > 0)
		;
	return r;
}

int target_open(const char *path, bool file, uid_t owner, struct stat *st)
{
	struct statfs fs;
	CLEANUP_CLOSE int fd = -1;

	st->st_mode = 0;
	if (strncmp(path, "/proc/", 6) == 0)
		return -EPERM;
	fd = open_existing(path);
	if (fd == -ENOENT) {
		int r = make_missing(path, file, owner);

		if (r < 0)
			return r;
		fd = open_existing(path);
	} else if (fd >= 0 && fstat(fd, st) < 0) {
		return -errno;
	}
	if (fd < 0)
		return fd;
	if (st->st_mode && S_ISDIR(st->st_mode) == file)
		return file ? -EISDIR : -ENOTDIR;
	if (fstatfs(fd, &fs) < 0)
		return -errno;
	return fs.f_type == PROC_SUPER_MAGIC ? -EPERM : TAKE_FD(fd);
}
