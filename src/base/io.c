/* SPDX-License-Identifier: MIT */
#include "base/io.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

ssize_t io_read_full(int fd, void *buf, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = read(fd, (char *)buf + done, len - done);
		if (n < 0) {
			if (errno == EINTR)
				continue;
			return -errno;
		}
		if (n == 0)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

ssize_t io_pread_full(int fd, void *buf, size_t len, off_t off)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = pread(fd, (char *)buf + done, len - done, off + (off_t)done);
		if (n < 0) {
			if (errno == EINTR)
				continue;
			return -errno;
		}
		if (n == 0)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

int io_write_full(int fd, const void *buf, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = write(fd, (const char *)buf + done, len - done);
		if (n < 0) {
			if (errno == EINTR)
				continue;
			return -errno;
		}
		done += (size_t)n;
	}
	return 0;
}

int io_pwrite_full(int fd, const void *buf, size_t len, off_t off)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = pwrite(fd, (const char *)buf + done, len - done, off + (off_t)done);
		if (n < 0) {
			if (errno == EINTR)
				continue;
			return -errno;
		}
		done += (size_t)n;
	}
	return 0;
}

int io_set_nonblock(int fd, bool on)
{
	int fl = fcntl(fd, F_GETFL);
	if (fl < 0)
		return -errno;
	int want = on ? fl | O_NONBLOCK : fl & ~O_NONBLOCK;
	if (want != fl && fcntl(fd, F_SETFL, want) < 0)
		return -errno;
	return 0;
}

int io_set_cloexec(int fd, bool on)
{
	return fcntl(fd, F_SETFD, on ? FD_CLOEXEC : 0) < 0 ? -errno : 0;
}

int io_read_file_at(int dirfd, const char *path, size_t max, char **ret, size_t *ret_len)
{
	CLEANUP_CLOSE int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return -errno;
	struct stat st;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (S_ISDIR(st.st_mode))
		return -EISDIR;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	if ((uint64_t)st.st_size > max)
		return -EFBIG;

	/* Files under /proc and /sys say they are empty: read one byte more than announced until the end. */
	size_t cap = (size_t)st.st_size + 1, len = 0;
	CLEANUP_FREE char *data = NULL;
	for (;;) {
		char *bigger = realloc(data, cap + 1);
		if (!bigger)
			return -ENOMEM;
		data = bigger;
		ssize_t n = io_read_full(fd, data + len, cap - len);
		if (n < 0)
			return (int)n;
		len += (size_t)n;
		if (len > max)
			return -EFBIG;
		if (len < cap)
			break;
		cap = MIN_OF(cap * 2 + 4096, max) + 1;
	}
	data[len] = '\0';
	*ret = TAKE_PTR(data);
	if (ret_len)
		*ret_len = len;
	return 0;
}

int io_fsync_dir(int dirfd)
{
	return fsync(dirfd) < 0 ? -errno : 0;
}

int io_write_file_at(int dirfd, const char *path, const void *buf, size_t len, mode_t mode)
{
	uint8_t rnd[8];
	char suffix[17];
	io_random(rnd, sizeof(rnd));
	hex_encode(suffix, rnd, sizeof(rnd));
	CLEANUP_FREE char *tmp = str_printf("%s.%s.tmp", path, suffix);
	if (!tmp)
		return -ENOMEM;

	CLEANUP_CLOSE int fd = openat(dirfd, tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
	if (fd < 0)
		return -errno;
	int r = io_write_full(fd, buf, len);
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	if (r == 0 && renameat(dirfd, tmp, dirfd, path) < 0)
		r = -errno;
	if (r < 0) {
		unlinkat(dirfd, tmp, 0);
		return r;
	}

	const char *slash = strrchr(path, '/');
	CLEANUP_FREE char *dir = slash ? strndup(path, (size_t)(slash - path + 1)) : str_dup(".");
	if (!dir)
		return -ENOMEM;
	CLEANUP_CLOSE int dfd = openat(dirfd, dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return dfd < 0 ? -errno : io_fsync_dir(dfd);
}

int io_openat2(int dirfd, const char *path, uint64_t flags, uint64_t resolve)
{
	enum { TRIES = 64 };
	struct open_how how = {.flags = flags | O_CLOEXEC, .resolve = resolve};

	for (int i = 0; i < TRIES; i++) {
		int fd = (int)syscall(SYS_openat2, dirfd, path, &how, sizeof(how));
		if (fd >= 0)
			return fd;
		if (errno != EAGAIN)
			break;
	}
	return -errno;
}

int io_open_dir_at(int dirfd, const char *path, bool create)
{
	if (create && mkdirat(dirfd, path, 0700) < 0 && errno != EEXIST)
		return -errno;
	int fd = openat(dirfd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	return fd < 0 ? -errno : fd;
}

int io_mkdir_p(const char *path, mode_t mode)
{
	CLEANUP_FREE char *p = str_dup(path);
	if (!p)
		return -ENOMEM;
	for (char *s = p + (*p == '/');; s++) {
		if (*s != '/' && *s != '\0')
			continue;
		char end = *s;
		*s = '\0';
		if (*p && mkdir(p, mode) < 0 && errno != EEXIST) {
			/* A part may exist and yet refuse mkdir (read-only, no permission): only the last must be a folder. */
			int saved = errno;
			struct stat st;
			if (stat(p, &st) < 0 || !S_ISDIR(st.st_mode))
				return -saved;
		}
		*s = end;
		if (end == '\0')
			break;
	}
	struct stat st;
	if (stat(path, &st) < 0)
		return -errno;
	return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
}

static int copy_data(int src, int dst, off_t size)
{
	enum { CHUNK = 1 << 18 };
	CLEANUP_FREE char *chunk = malloc(CHUNK);
	if (!chunk)
		return -ENOMEM;
	off_t pos = 0;
	while (pos < size) {
		off_t data = lseek(src, pos, SEEK_DATA);
		if (data < 0)
			return errno == ENXIO ? 0 : -errno;
		off_t end = lseek(src, data, SEEK_HOLE);
		if (end < 0)
			return -errno;
		for (pos = data; pos < end;) {
			ssize_t n = io_pread_full(src, chunk, (size_t)MIN_OF(end - pos, (off_t)CHUNK), pos);
			if (n <= 0)
				return n < 0 ? (int)n : -EIO;
			int r = io_pwrite_full(dst, chunk, (size_t)n, pos);
			if (r < 0)
				return r;
			pos += n;
		}
	}
	return 0;
}

int io_copy_sparse(int src, int dst, bool sync)
{
	struct stat st;
	if (fstat(src, &st) < 0)
		return -errno;
	if (ioctl(dst, FICLONE, src) < 0) {
		if (ftruncate(dst, st.st_size) < 0)
			return -errno;
		int r = copy_data(src, dst, st.st_size);
		if (r < 0)
			return r;
	}
	return sync && fsync(dst) < 0 ? -errno : 0;
}
