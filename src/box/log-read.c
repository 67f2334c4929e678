/* SPDX-License-Identifier: MIT */
#include "log-read.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"

enum { READ_CHUNK = 65536, FIND_ATTEMPTS = 100 };

/* ---- files ---- */

static int open_index(int dirfd, unsigned index)
{
	char name[32];
	log_file_name(name, sizeof(name), index);
	int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	return fd < 0 ? -errno : fd;
}

static int open_oldest(const struct log_reader *rd)
{
	for (unsigned i = rd->files; i > 0; i--) {
		int fd = open_index(rd->dirfd, i - 1);
		if (fd >= 0)
			return fd;
	}
	return -ENOENT;
}

/* The number that an inode has now, rd->files if it has no name any more. */
static unsigned find_index(const struct log_reader *rd, ino_t ino)
{
	struct stat st;
	char name[32];
	unsigned i = 0;

	for (; i < rd->files; i++) {
		log_file_name(name, sizeof(name), i);
		if (fstatat(rd->dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_ino == ino)
			break;
	}
	return i;
}

/*
 * The file after ours: its descriptor, or -EAGAIN when ours is still the one being written. The names move one by one, so
 * in the middle of a rotation the next may be missing, or have become the one after the next: then look again.
 */
static int open_following(struct log_reader *rd, bool *ret_gap)
{
	struct stat ours;
	unsigned i = 0;

	*ret_gap = false;
	if (fstat(rd->fd, &ours) < 0)
		return -errno;
	for (int attempt = 0; attempt < FIND_ATTEMPTS; attempt++) {
		i = find_index(rd, ours.st_ino);
		if (i == 0)
			return -EAGAIN;
		int next = i == rd->files ? open_oldest(rd) : open_index(rd->dirfd, i - 1);
		if (next >= 0 && find_index(rd, ours.st_ino) == i) {
			*ret_gap = i == rd->files;
			return next;
		}
		if (next >= 0)
			close(next);
	}
	/* A rotation that a crash cut off stays so: what is left follows. */
	for (unsigned k = i; k > 1; k--) {
		int next = open_index(rd->dirfd, k - 2);
		if (next >= 0)
			return next;
	}
	return -ENOENT;
}

/* ---- forwards ---- */

static int take_lines(struct log_reader *rd, log_read_fn fn, void *data)
{
	int r = 0;

	while (r == 0) {
		uint8_t *start = buf_data(&rd->in);
		uint8_t *nl = rd->in.len ? memchr(start, '\n', rd->in.len) : NULL;
		if (!nl)
			break;
		if (!rd->skipping)
			r = fn(data, (const char *)start, (size_t)(nl - start));
		rd->skipping = false;
		buf_consume(&rd->in, (size_t)(nl - start) + 1);
	}
	if (rd->in.len > LOG_ENTRY_MAX) { /* not an entry of ours */
		rd->skipping = true;
		buf_consume(&rd->in, rd->in.len);
	}
	return r;
}

int log_reader_run(struct log_reader *rd, log_read_fn fn, void *data)
{
	bool gap;

	for (;;) {
		if (rd->fd < 0) {
			rd->fd = open_oldest(rd);
			if (rd->fd < 0)
				return rd->fd == -ENOENT ? 0 : rd->fd;
		}
		uint8_t *p = buf_reserve(&rd->in, READ_CHUNK);
		if (!p)
			return -ENOMEM;
		ssize_t n = read(rd->fd, p, READ_CHUNK);
		if (n > 0) {
			buf_commit(&rd->in, (size_t)n);
			int r = take_lines(rd, fn, data);
			if (r < 0)
				return r;
			continue;
		}
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		int next = open_following(rd, &gap);
		if (next < 0)
			return 0;
		/* It is not written any more; what came between the last read and the look at its name is read now. */
		struct stat st;
		off_t at = lseek(rd->fd, 0, SEEK_CUR);
		if (at >= 0 && fstat(rd->fd, &st) == 0 && st.st_size > at) {
			close(next);
			continue;
		}
		close_fd(&rd->fd);
		rd->fd = next;
		rd->gap |= gap;
		rd->in.len = 0;
		rd->skipping = false;
	}
}

void log_reader_done(struct log_reader *rd)
{
	close_fd(&rd->fd);
	buf_done(&rd->in);
}

/* ---- backwards ---- */

struct tail {
	int64_t wanted, since_ns, until_ns;
	int64_t seen; /* lines that end in what was read */
	bool enough;
	/* Of the file being read: where its earliest entry that belongs to the tail begins, -1 for none; where it ends, but for
	   an entry that is being written. */
	off_t start, end;
};

/* An entry at `at`, the one before the last one given. */
static void tail_take(struct tail *t, const char *line, size_t len, off_t at)
{
	struct log_entry en;

	if (!log_entry_parse(line, len, false, &en))
		return;
	if (t->since_ns && en.time_ns < t->since_ns) {
		t->enough = true;
	} else if (!t->until_ns || en.time_ns <= t->until_ns) {
		/* A piece without an end belongs to what follows it, or is what a box printed last. */
		bool ends = en.whole || t->seen == 0;
		if (ends && t->seen == t->wanted)
			t->enough = true;
		else
			t->seen += ends;
		if (!t->enough)
			t->start = at;
	}
	log_entry_done(&en);
}

/* Gives the lines of buf[0..len) from the end on; the first one only if `first`. Returns how much is left. */
static size_t tail_lines(struct tail *t, const char *buf, size_t len, off_t base, bool first)
{
	while (len && !t->enough) {
		size_t stop = buf[len - 1] == '\n' ? len - 1 : len;
		const char *nl = stop ? memrchr(buf, '\n', stop) : NULL;
		if (!nl && !first)
			break;
		size_t begin = nl ? (size_t)(nl - buf) + 1 : 0;
		if (stop == len && base + (off_t)len == t->end)
			t->end = base + (off_t)begin;
		tail_take(t, buf + begin, stop - begin, base + (off_t)begin);
		len = begin;
	}
	return len;
}

/* Reads one file backwards. 0 or -errno. */
static int tail_file(struct tail *t, int fd, off_t size)
{
	CLEANUP_FREE char *buf = malloc(READ_CHUNK + LOG_ENTRY_MAX);
	size_t kept = 0; /* bytes at the start of buf that lack the beginning of their line */
	off_t base = size;

	if (!buf)
		return -ENOMEM;
	t->start = -1;
	t->end = size;
	while (base > 0 && !t->enough) {
		size_t n = (size_t)MIN_OF(base, (off_t)READ_CHUNK);
		if (kept > LOG_ENTRY_MAX)
			kept = 0; /* no entry of ours: what is left of it will not be understood */
		memmove(buf + n, buf, kept);
		base -= (off_t)n;
		ssize_t got = io_pread_full(fd, buf, n, base);
		if (got != (ssize_t)n)
			return got < 0 ? (int)got : -EIO;
		kept = tail_lines(t, buf, n + kept, base, base == 0);
	}
	return 0;
}

/* Reads one file, and places the reader in it if the tail begins there, or may. */
static int tail_step(struct log_reader *rd, struct tail *t, int fd, off_t size)
{
	int r = tail_file(t, fd, size);

	if (r < 0 || (t->start < 0 && rd->fd >= 0))
		return r;
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (copy < 0)
		return -errno;
	close_fd(&rd->fd);
	rd->fd = copy;
	return lseek(copy, t->start >= 0 ? t->start : t->end, SEEK_SET) < 0 ? -errno : 0;
}

int log_reader_seek_tail(struct log_reader *rd, int64_t lines, int64_t since_ns, int64_t until_ns)
{
	struct tail t = {.wanted = lines, .since_ns = since_ns, .until_ns = until_ns};
	struct stat st = {0}; /* of the file read last, which had the number `last` */
	unsigned last = 0;

	for (unsigned i = 0; i < rd->files && !t.enough; i++) {
		CLEANUP_CLOSE int fd = open_index(rd->dirfd, i);
		unsigned now = st.st_ino ? find_index(rd, st.st_ino) : last;
		if (now != last) { /* rotated meanwhile: all have moved on by as much */
			i += now - last - 1;
			last = now;
			continue;
		}
		if (fd == -ENOENT)
			continue;
		if (fd < 0 || fstat(fd, &st) < 0)
			return fd < 0 ? fd : -errno;
		last = i;
		int r = tail_step(rd, &t, fd, st.st_size);
		if (r < 0)
			return r;
	}
	return 0;
}
