/* SPDX-License-Identifier: MIT */
#include "log.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/b64.h"
#include "base/io.h"

/* ---- lines ---- */

void log_lines_put(struct log_lines *l, int stream, const uint8_t *s, size_t len, log_line_fn fn, void *data)
{
	struct buf *part = &l->partial[stream];

	while (len) {
		size_t room = MIN_OF(len, LOG_LINE_MAX - part->len);
		const uint8_t *nl = memchr(s, '\n', room);
		size_t n = nl ? (size_t)(nl - s) + 1 : room;
		bool whole = nl || part->len + n == LOG_LINE_MAX;
		if (whole && part->len == 0) {
			fn(data, stream, s, n);
		} else {
			if (buf_append(part, s, n) < 0)
				return;
			if (whole) {
				fn(data, stream, buf_data(part), part->len);
				buf_consume(part, part->len);
			}
		}
		s += n;
		len -= n;
	}
}

void log_lines_end(struct log_lines *l, log_line_fn fn, void *data)
{
	for (int i = 0; i < LOG_STREAMS; i++) {
		if (l->partial[i].len)
			fn(data, i, buf_data(&l->partial[i]), l->partial[i].len);
		l->partial[i].len = 0;
	}
}

void log_lines_done(struct log_lines *l)
{
	for (int i = 0; i < LOG_STREAMS; i++)
		buf_done(&l->partial[i]);
}

/* ---- files ---- */

void log_file_name(char *dst, size_t size, unsigned index)
{
	if (index == 0)
		snprintf(dst, size, "box.log");
	else
		snprintf(dst, size, "box.log.%u", index);
}

int log_writer_open(struct log_writer *w, int box_dirfd, const struct box *b, struct err *e)
{
	*w = (struct log_writer){.dirfd = -1,
		.fd = -1,
		.max_size = b->config.log.max_size,
		.files = log_files(&b->config.log)};
	CLEANUP_FREE char *attrs = NULL;
	struct stat st;
	int r = log_attrs(b, &attrs, e);

	if (r < 0)
		return r;
	w->attrs = *attrs ? str_printf(",\"attrs\":%s", attrs) : strdup("");
	if (!w->attrs)
		return err_oom(e);
	w->dirfd = io_open_dir_at(box_dirfd, "logs", true);
	if (w->dirfd >= 0)
		w->fd = openat(
			w->dirfd, "box.log", O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (w->dirfd < 0 || w->fd < 0 || fstat(w->fd, &st) < 0) {
		r = w->dirfd < 0 ? w->dirfd : -errno;
		close_fd(&w->dirfd);
		close_fd(&w->fd);
		free(TAKE_PTR(w->attrs));
		return err_sys(e, r, "cannot open the log");
	}
	w->size = (uint64_t)st.st_size;
	char last = '\n'; /* a crash may have cut the last entry off */
	if (st.st_size > 0)
		io_pread_full(w->fd, &last, 1, st.st_size - 1);
	w->torn = last != '\n';
	return 0;
}

/* The new file is made first: where the disk has no room for it, the old one goes on under its name. */
static void rotate(struct log_writer *w)
{
	static const char fresh[] = "box.log.new";
	int fd =
		openat(w->dirfd, fresh, O_RDWR | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0)
		return; /* the next flush tries again */
	for (unsigned i = w->files - 1; i > 0; i--) {
		char from[32], to[32];
		log_file_name(from, sizeof(from), i - 1);
		log_file_name(to, sizeof(to), i);
		renameat(w->dirfd, from, w->dirfd, to); /* may be absent */
	}
	if (renameat(w->dirfd, fresh, w->dirfd, "box.log") < 0) {
		close(fd);
		return;
	}
	close_fd(&w->fd);
	w->fd = fd;
	w->size = 0;
	w->torn = false;
}

static int write_some(struct log_writer *w, const void *data, size_t len, size_t *done)
{
	*done = 0;
	while (*done < len) {
		ssize_t n = write(w->fd, (const char *)data + *done, len - *done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -EIO;
		*done += (size_t)n;
	}
	return 0;
}

static void put_entry(void *data, int stream, const uint8_t *s, size_t len);

/* What was given up is said before what comes now. */
static int write_dropped(struct log_writer *w)
{
	struct buf later = w->out;
	uint64_t unwritten = w->unwritten;
	char text[128];
	size_t done;

	w->out = (struct buf){0};
	snprintf(text, sizeof(text),
		"a3s-box: %llu bytes of output are missing here: they could not be logged\n",
		(unsigned long long)w->dropped);
	put_entry(w, 1, (const uint8_t *)text, strlen(text));
	CLEANUP(buf_done) struct buf entry = w->out;
	w->out = later;
	w->unwritten = unwritten;
	int r = write_some(w, buf_data(&entry), entry.len, &done);
	w->torn |= r < 0;
	w->size += done;
	if (r == 0)
		w->dropped = 0;
	return r;
}

int log_writer_flush(struct log_writer *w)
{
	size_t done;
	int r = 0;

	if (w->out.len == 0 && w->dropped == 0)
		return 0;
	if (w->torn) {
		r = write_some(w, "\n", 1, &done);
		w->torn = r < 0;
		w->size += done;
	}
	if (r == 0 && w->dropped)
		r = write_dropped(w);
	if (r == 0) {
		r = write_some(w, buf_data(&w->out), w->out.len, &done);
		buf_consume(&w->out, done);
		w->size += done;
		w->unwritten = r == 0 ? 0 : w->unwritten;
	}
	if (r == 0 && w->max_size && w->size >= w->max_size)
		rotate(w);
	return r;
}

void log_writer_drop(struct log_writer *w)
{
	w->dropped += w->unwritten;
	w->unwritten = 0;
	w->torn = true; /* the first may have gone in part; an empty line does no harm */
	w->out.len = w->out.start = 0;
}

void log_writer_close(struct log_writer *w)
{
	if (w->fd >= 0) {
		w->stamp_ns = 0;
		log_lines_end(&w->lines, put_entry, w);
		if (log_writer_flush(w) < 0) {
			log_writer_drop(w);
			log_writer_flush(w); /* a line may have room where they had none */
		}
	}
	log_lines_done(&w->lines);
	buf_done(&w->out);
	free(TAKE_PTR(w->attrs));
	close_fd(&w->fd);
	close_fd(&w->dirfd);
}

/* ---- entries ---- */

/*
 * How each byte stands in a JSON string: 0: as it is; a letter: behind a backslash; 1: \u00NN; 2: it begins a UTF-8
 * sequence, or is wrong; 3: not at all.
 */
static const uint8_t json_class[256] = {
	[0] = 3,
	[0x01 ... 0x07] = 1,
	['\b'] = 'b',
	['\t'] = 't',
	['\n'] = 'n',
	[0x0b] = 1,
	['\f'] = 'f',
	['\r'] = 'r',
	[0x0e ... 0x1f] = 1,
	['"'] = '"',
	['\\'] = '\\',
	[0x7f] = 1,
	[0x80 ... 0xff] = 2,
};

/* Writes s as the inside of a JSON string at o (6 * len bytes of room). Returns its end, or NULL if it is no text. */
static char *put_json_text(char *o, const uint8_t *s, size_t len)
{
	static const char digits[] = "0123456789abcdef";
	const uint8_t *end = s + len;

	while (s < end) {
		uint8_t c = *s, class = json_class[c];
		size_t n = 1;
		if (class == 0) {
			*o++ = (char)c;
		} else if (class == 1) {
			memcpy(o, "\\u00", 4);
			o[4] = digits[c >> 4];
			o[5] = digits[c & 15];
			o += 6;
		} else if (class == 2) {
			n = text_utf8_len(s, (size_t)(end - s), NULL);
			if (n == 0)
				return NULL;
			memcpy(o, s, n);
			o += n;
		} else if (class == 3) {
			return NULL;
		} else {
			*o++ = '\\';
			*o++ = (char)class;
		}
		s += n;
	}
	return o;
}

/* "2024-02-29T12:34:56.123456789Z"; the part up to the seconds is kept. */
static char *put_time(struct log_writer *w, char *o)
{
	int64_t now = w->stamp_ns ? w->stamp_ns : time_real_ns();
	time_t sec = (time_t)(now / 1000000000);
	uint32_t frac = (uint32_t)(now % 1000000000);

	w->stamp_ns = now + 1;
	if (sec != w->stamp_sec || !w->stamp_text[0]) {
		struct tm tm;
		gmtime_r(&sec, &tm);
		strftime(w->stamp_text, sizeof(w->stamp_text), "%Y-%m-%dT%H:%M:%S.", &tm);
		w->stamp_sec = sec;
	}
	size_t n = strlen(w->stamp_text);
	memcpy(o, w->stamp_text, n);
	o += n + 9;
	for (int i = 1; i <= 9; i++, frac /= 10)
		o[-i] = (char)('0' + frac % 10);
	*o++ = 'Z';
	return o;
}

#define PUT(o, literal) ((o) = (char *)memcpy((o), (literal), sizeof(literal) - 1) + sizeof(literal) - 1)

static void put_entry(void *data, int stream, const uint8_t *s, size_t len)
{
	struct log_writer *w = data;
	size_t attrs_len = strlen(w->attrs);
	uint8_t *room = buf_reserve(&w->out, 6 * len + attrs_len + 160);

	w->unwritten += len;
	if (!room)
		return;
	char *start = (char *)room, *o = start;

	PUT(o, "{\"log\":\"");
	char *end = put_json_text(o, s, len);
	if (end) {
		o = end;
	} else {
		o = start;
		PUT(o, "{\"b64\":\"");
		o += b64_encode(o, s, len);
	}
	if (stream == 0)
		PUT(o, "\",\"stream\":\"stdout\"");
	else
		PUT(o, "\",\"stream\":\"stderr\"");
	o = (char *)memcpy(o, w->attrs, attrs_len) + attrs_len;
	PUT(o, ",\"time\":\"");
	o = put_time(w, o);
	PUT(o, "\"}\n");
	buf_commit(&w->out, (size_t)(o - start));
}

void log_writer_put(struct log_writer *w, int stream, const uint8_t *data, size_t len)
{
	w->stamp_ns = 0;
	log_lines_put(&w->lines, stream, data, len, put_entry, w);
}
