/* SPDX-License-Identifier: MIT */
/*
 * Reading a box's log, also while it is written and rotated.
 *
 * A reader holds one file open. At its end, the file that follows in time is the one with the next lower number:
 * it is found by looking which name our inode has now. An inode without a name was rotated away: the oldest one left
 * follows. Nothing is read twice, and nothing is lost unless the reader falls behind by all files.
 */
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>

#include "base/b64.h"
#include "base/io.h"
#include "base/units.h"
#include "box/box.h"
#include "log.h"
#include "run.h"

enum { READ_CHUNK = 65536, ENTRY_MAX = 6 * LOG_LINE_MAX + 512, POLL_MS = 100 };

struct entry {
	char *data; /* malloc'd */
	size_t len;
	bool is_err;
	const char *time; /* inside `json` */
	json_t *json;
};

static void entry_done(struct entry *en)
{
	free(en->data);
	json_decref(en->json);
	*en = (struct entry){0};
}

static void file_name(char *dst, size_t size, int index)
{
	if (index == 0)
		snprintf(dst, size, "box.log");
	else
		snprintf(dst, size, "box.log.%d", index);
}

static int open_index(int dirfd, int index)
{
	char name[32];
	file_name(name, sizeof(name), index);
	int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	return fd < 0 ? -errno : fd;
}

static int open_oldest(int dirfd)
{
	for (int i = LOG_FILES - 1; i >= 0; i--) {
		int fd = open_index(dirfd, i);
		if (fd >= 0)
			return fd;
	}
	return -ENOENT;
}

/* The number that an inode has now, LOG_FILES if it has no name any more. */
static int find_index(int dirfd, ino_t ino)
{
	struct stat st;
	char name[32];
	int i = 0;

	for (; i < LOG_FILES; i++) {
		file_name(name, sizeof(name), i);
		if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_ino == ino)
			break;
	}
	return i;
}

/*
 * The file after fd: its descriptor, or -EAGAIN when fd is still the one being written. The names move one by one, so
 * in the middle of a rotation the next may be missing, or have become the one after the next: then look again.
 */
static int open_following(int dirfd, int fd)
{
	struct stat ours;
	int i = 0;

	if (fstat(fd, &ours) < 0)
		return -errno;
	for (int attempt = 0; attempt < 100; attempt++) {
		i = find_index(dirfd, ours.st_ino);
		if (i == 0)
			return -EAGAIN;
		int next = i == LOG_FILES ? open_oldest(dirfd) : open_index(dirfd, i - 1);
		if (next >= 0 && find_index(dirfd, ours.st_ino) == i)
			return next;
		if (next >= 0)
			close(next);
	}
	/* A rotation that a crash cut off stays so: what is left follows. */
	for (int k = i - 2; k >= 0; k--) {
		int next = open_index(dirfd, k);
		if (next >= 0)
			return next;
	}
	return -ENOENT;
}

/* A line that a crash cut off, or that is no entry, is skipped: false. */
static bool parse(const char *line, size_t len, struct entry *ret)
{
	struct entry en = {.json = json_loadb(line, len, JSON_REJECT_DUPLICATES, NULL)};
	const char *stream = json_string_value(json_object_get(en.json, "stream"));
	json_t *text = json_object_get(en.json, "log"), *b64 = json_object_get(en.json, "b64");

	en.time = json_string_value(json_object_get(en.json, "time"));
	if (stream && en.time && (json_is_string(text) || json_is_string(b64))) {
		bool is_text = json_is_string(text);
		json_t *src = is_text ? text : b64;
		size_t n = json_string_length(src);
		en.data = malloc(n + 1);
		if (en.data && is_text) {
			memcpy(en.data, json_string_value(text), n);
			en.len = n;
		} else if (en.data) {
			ssize_t got = b64_decode(en.data, json_string_value(b64), n);
			en.len = got > 0 ? (size_t)got : 0;
		}
		en.is_err = strcmp(stream, "stderr") == 0;
	}
	if (!en.data) {
		entry_done(&en);
		return false;
	}
	*ret = en;
	return true;
}

static int print(const struct entry *en, const struct box_log_opts *o)
{
	int fd = en->is_err ? STDERR_FILENO : STDOUT_FILENO;

	if (o->since_ns) {
		char since[40];
		/* RFC 3339 in UTC with nine digits compares as text. */
		if (strcmp(en->time, format_time_rfc3339(since, sizeof(since), o->since_ns)) < 0)
			return 0;
	}
	if (o->timestamps) {
		int r = io_write_full(fd, en->time, strlen(en->time));
		if (r == 0)
			r = io_write_full(fd, " ", 1);
		if (r < 0)
			return r;
	}
	return io_write_full(fd, en->data, en->len);
}

struct reader {
	int dirfd, fd;
	struct buf in;
	const struct box_log_opts *opts;
	/* for --tail: the last entries, a ring of `tail` */
	struct entry *ring;
	size_t ring_next, ring_used;
	bool tailing;
};

static int take(struct reader *rd, struct entry *en)
{
	if (!rd->tailing) {
		int r = print(en, rd->opts);
		entry_done(en);
		return r;
	}
	size_t n = (size_t)rd->opts->tail;
	if (n == 0) {
		entry_done(en);
		return 0;
	}
	entry_done(&rd->ring[rd->ring_next]);
	rd->ring[rd->ring_next] = *en;
	rd->ring_next = (rd->ring_next + 1) % n;
	rd->ring_used = MIN_OF(rd->ring_used + 1, n);
	return 0;
}

static int take_lines(struct reader *rd)
{
	int r = 0;

	for (;;) {
		uint8_t *start = buf_data(&rd->in);
		uint8_t *nl = rd->in.len ? memchr(start, '\n', rd->in.len) : NULL;
		if (!nl || r < 0)
			break;
		struct entry en;
		if (parse((char *)start, (size_t)(nl - start), &en))
			r = take(rd, &en);
		buf_consume(&rd->in, (size_t)(nl - start) + 1);
	}
	if (rd->in.len > ENTRY_MAX)
		buf_consume(&rd->in, rd->in.len); /* not an entry of ours */
	return r;
}

/* Reads all there is now, through all files. 0 or -errno. */
static int read_available(struct reader *rd)
{
	for (;;) {
		if (rd->fd < 0) {
			rd->fd = open_oldest(rd->dirfd);
			if (rd->fd < 0)
				return rd->fd == -ENOENT ? 0 : rd->fd;
		}
		uint8_t *p = buf_reserve(&rd->in, READ_CHUNK);
		if (!p)
			return -ENOMEM;
		/* Asked before reading: what is written in between is then seen by the next round. */
		int next = open_following(rd->dirfd, rd->fd);
		ssize_t n = read(rd->fd, p, READ_CHUNK);
		int r = n < 0 ? -errno : 0;
		if (n > 0) {
			buf_commit(&rd->in, (size_t)n);
			r = take_lines(rd);
		}
		if (r == 0 && n == 0 && next >= 0) {
			close_fd(&rd->fd);
			rd->fd = next;
			rd->in.len = 0;
			continue;
		}
		if (next >= 0)
			close(next);
		if (r < 0 || n == 0)
			return r;
	}
}

static int print_tail(struct reader *rd)
{
	size_t cap = (size_t)rd->opts->tail;
	int r = 0;

	rd->tailing = false;
	for (size_t i = 0; i < rd->ring_used; i++) {
		struct entry *en = &rd->ring[(rd->ring_next + cap - rd->ring_used + i) % cap];
		if (r == 0)
			r = print(en, rd->opts);
		entry_done(en);
	}
	free(TAKE_PTR(rd->ring));
	return r;
}

static bool still_live(struct state *st, const struct box *b)
{
	CLEANUP(box_freep) struct box *now = NULL;
	struct err e;

	return box_reconcile(st, &e) == 0 && box_find(st, b->id, &now, &e) == 0 && box_is_live(now);
}

static int follow(struct state *st, const struct box *b, struct reader *rd)
{
	char path[64];
	CLEANUP_CLOSE int in = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);

	snprintf(path, sizeof(path), "/proc/self/fd/%d", rd->dirfd);
	if (in < 0 || inotify_add_watch(in, path, IN_MODIFY | IN_CREATE | IN_MOVED_TO) < 0)
		return -errno;
	for (bool quiet = true;;) {
		/* Asked only in a quiet moment, and before the last read, so that nothing is missed. */
		bool live = !quiet || still_live(st, b);
		int r = read_available(rd);
		if (r < 0 || !live)
			return r;
		struct pollfd p = {.fd = in, .events = POLLIN};
		quiet = poll(&p, 1, POLL_MS) <= 0;
		if (!quiet) {
			char events[4096];
			if (read(in, events, sizeof(events)) < 0 && errno != EAGAIN)
				return -errno;
		}
	}
}

int box_logs(struct state *st, const struct box *b, const struct box_log_opts *o, struct err *e)
{
	CLEANUP_CLOSE int dir = box_open_box_dir(st, b->id, false, e);
	CLEANUP_CLOSE int logs = dir < 0 ? dir : io_open_dir_at(dir, "logs", false);
	if (logs == -ENOENT && !box_is_live(b))
		return 0; /* never started */
	if (logs < 0)
		return err_sys(e, logs, "cannot open the log of box %s", b->name);
	struct reader rd = {.dirfd = logs, .fd = -1, .opts = o, .tailing = o->tail >= 0};
	int r = 0;
	if (o->tail > 0) {
		rd.ring = calloc((size_t)o->tail, sizeof(*rd.ring));
		if (!rd.ring)
			return err_oom(e);
	}
	r = read_available(&rd);
	if (r == 0 && rd.tailing)
		r = print_tail(&rd);
	if (r == 0 && o->follow)
		r = follow(st, b, &rd);
	close_fd(&rd.fd);
	buf_done(&rd.in);
	free(rd.ring);
	if (r == -EPIPE)
		return 0; /* the reader of our output has seen enough */
	return r < 0 ? err_sys(e, r, "cannot read the log of box %s", b->name) : 0;
}
