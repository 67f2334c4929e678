/* SPDX-License-Identifier: MIT */
#include "state/audit.h"

#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

#include "audit-files.h"
#include "base/io.h"

enum { LOCK_TRIES = 2000, LOCK_PAUSE_NS = 1000000 };

static const char *file_name(int i, char *dst, size_t size)
{
	if (i == 0)
		snprintf(dst, size, "audit.log");
	else
		snprintf(dst, size, "audit.log.%d", i);
	return dst;
}

int audit_lock(int home_fd, bool create, int operation, int *ret_lock)
{
	CLEANUP_CLOSE int dir = io_open_dir_at(home_fd, "audit", create);
	if (dir < 0)
		return dir;
	CLEANUP_CLOSE int lock = openat(dir, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (lock < 0)
		return -errno;
	/* Whoever holds it is done in a moment, unless somebody stopped it: nothing may hang for that. */
	for (int i = 0; flock(lock, operation | LOCK_NB) < 0; i++) {
		if (errno != EWOULDBLOCK && errno != EINTR)
			return -errno;
		if (i == LOCK_TRIES)
			return -EBUSY;
		nanosleep(&(struct timespec){.tv_nsec = LOCK_PAUSE_NS}, NULL);
	}
	*ret_lock = TAKE_FD(lock);
	return TAKE_FD(dir);
}

/* Oldest first, so that a kill between two renames loses nothing but a number. */
static int rotate(int dir)
{
	char from[32], to[32];

	for (int i = AUDIT_FILES - 1; i > 0; i--) {
		if (renameat(dir, file_name(i - 1, from, sizeof(from)), dir, file_name(i, to, sizeof(to))) <
				0 &&
			errno != ENOENT)
			return -errno;
	}
	return 0;
}

/* The newest file, made when missing. *ret_torn: it does not end with a line feed. fd or -errno. */
static int open_newest(int dir, bool *ret_torn, off_t *ret_size)
{
	CLEANUP_CLOSE int fd = openat(
		dir, "audit.log", O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
	struct stat st;
	char last = '\n';

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	if (st.st_size > 0 && pread(fd, &last, 1, st.st_size - 1) != 1)
		return -EIO;
	*ret_torn = last != '\n';
	*ret_size = st.st_size;
	return TAKE_FD(fd);
}

static int append(int dir, const char *line)
{
	CLEANUP_FREE char *text = NULL;
	bool torn;
	off_t size;

	CLEANUP_CLOSE int fd = open_newest(dir, &torn, &size);
	if (fd >= 0 && size > 0 && size + (off_t)strlen(line) + 2 > AUDIT_FILE_MAX) {
		close_fd(&fd);
		int r = rotate(dir);
		if (r < 0)
			return r;
		fd = open_newest(dir, &torn, &size);
	}
	if (fd < 0)
		return fd;
	text = str_printf("%s%s\n", torn ? "\n" : "", line);
	return text ? io_write_full(fd, text, strlen(text)) : -ENOMEM;
}

int audit_append(int home_fd, const char *line, struct err *e)
{
	CLEANUP_CLOSE int lock = -1;
	int r = strlen(line) > AUDIT_LINE_MAX ? -EMSGSIZE : 0;
	CLEANUP_CLOSE int dir = r < 0 ? r : audit_lock(home_fd, true, LOCK_EX, &lock);

	r = dir < 0 ? dir : append(dir, line);
	return r < 0 ? err_sys(e, r, "audit log: cannot add to it") : 0;
}

/* Lines of text[0..len), the last one first. */
static int read_backwards(char *text, size_t len, int (*fn)(const char *line, void *data), void *data)
{
	int r = 0;

	while (r == 0 && len) {
		text[--len] = '\0'; /* the line feed, or the end of a line that was not completed */
		char *start = memrchr(text, '\n', len);
		char *line = start ? start + 1 : text;
		size_t n = (size_t)(text + len - line);
		if (n && n <= AUDIT_LINE_MAX)
			r = fn(line, data);
		len -= n;
	}
	return r;
}

static int read_file(int fd, int (*fn)(const char *line, void *data), void *data)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	/* Larger than we ever make it: only its end counts. */
	size_t len = (size_t)MIN_OF(st.st_size, (off_t)AUDIT_FILE_MAX);
	CLEANUP_FREE char *text = malloc(len + 1);
	ssize_t n = text ? io_pread_full(fd, text, len, st.st_size - (off_t)len) : -ENOMEM;
	if (n < 0)
		return (int)n;
	if (n && text[n - 1] != '\n')
		text[n++] = '\n';
	return read_backwards(text, (size_t)n, fn, data);
}

int audit_read(int home_fd, int (*fn)(const char *line, void *data), void *data, struct err *e)
{
	int fds[AUDIT_FILES], r = 0;
	CLEANUP_CLOSE int lock = -1;
	CLEANUP_CLOSE int dir = audit_lock(home_fd, false, LOCK_SH, &lock);

	if (dir == -ENOENT)
		return 0;
	if (dir < 0)
		return err_sys(e, dir, "audit log: cannot read it");
	for (int i = 0; i < AUDIT_FILES; i++) {
		char name[32];
		fds[i] = openat(dir, file_name(i, name, sizeof(name)),
			O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	}
	close_fd(&lock); /* the files that are open stay what they are, whatever they are called */
	for (int i = 0; i < AUDIT_FILES; i++) {
		if (r == 0 && fds[i] >= 0) {
			r = read_file(fds[i], fn, data);
			if (r < 0)
				err_sys(e, r, "audit log: cannot read it");
		}
		close_fd(&fds[i]);
	}
	return r;
}
