/* SPDX-License-Identifier: MIT */
#include "log.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/b64.h"
#include "base/io.h"
#include "base/log.h"

int log_writer_open(struct log_writer *w, int box_dirfd, struct err *e)
{
	*w = (struct log_writer){.fd = -1};
	w->dirfd = io_open_dir_at(box_dirfd, "logs", true);
	if (w->dirfd >= 0)
		w->fd = openat(
			w->dirfd, "box.log", O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
	struct stat st;
	if (w->dirfd < 0 || w->fd < 0 || fstat(w->fd, &st) < 0) {
		int r = w->dirfd < 0 ? w->dirfd : -errno;
		close_fd(&w->dirfd);
		close_fd(&w->fd);
		return err_sys(e, r, "cannot open the log");
	}
	w->size = (uint64_t)st.st_size;
	char last = '\n'; /* a crash may have cut the last entry off */
	if (st.st_size > 0)
		io_pread_full(w->fd, &last, 1, st.st_size - 1);
	w->torn = last != '\n';
	return 0;
}

static void rotate(struct log_writer *w)
{
	for (int i = LOG_FILES - 1; i > 0; i--) {
		char from[32] = "box.log", to[32];
		if (i > 1)
			snprintf(from, sizeof(from), "box.log.%d", i - 1);
		snprintf(to, sizeof(to), "box.log.%d", i);
		renameat(w->dirfd, from, w->dirfd, to); /* may be absent */
	}
	int fd = openat(w->dirfd, "box.log", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return; /* keep writing to the old one */
	close_fd(&w->fd);
	w->fd = fd;
	w->size = 0;
	w->torn = false;
}

static void flush(struct log_writer *w)
{
	if (w->out.len == 0)
		return;
	int r = w->torn ? io_write_full(w->fd, "\n", 1) : 0;
	if (r == 0) {
		r = io_write_full(w->fd, buf_data(&w->out), w->out.len);
		w->torn = r < 0;
	}
	if (r < 0 && !w->failed) {
		w->failed = true;
		log_error("log: output is being lost: %s", strerror(-r));
	}
	w->size += r < 0 ? 0 : w->out.len; /* or a full disk would rotate the old entries away */
	w->out.len = 0;
	if (w->size >= LOG_FILE_MAX)
		rotate(w);
}

/* Writes s as the inside of a JSON string at o (6 * len bytes of room). Returns its end, or NULL if it is no text. */
static char *put_json_text(char *o, const uint8_t *s, size_t len)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < len;) {
		uint8_t c = s[i];
		if (c >= 0x80) {
			size_t n = text_utf8_len(s + i, len - i, NULL);
			if (n == 0)
				return NULL;
			memcpy(o, s + i, n);
			o += n;
			i += n;
			continue;
		}
		if (c == 0)
			return NULL;
		if (c == '"' || c == '\\') {
			*o++ = '\\';
			*o++ = (char)c;
		} else if (c >= 0x20 && c != 0x7f) {
			*o++ = (char)c;
		} else if (c == '\n' || c == '\t' || c == '\r') {
			*o++ = '\\';
			*o++ = c == '\n' ? 'n' : c == '\t' ? 't' : 'r';
		} else {
			memcpy(o, "\\u00", 4);
			o[4] = digits[c >> 4];
			o[5] = digits[c & 15];
			o += 6;
		}
		i++;
	}
	return o;
}

static size_t put_time(struct log_writer *w, char *o)
{
	int64_t now = time_real_ns();
	time_t sec = (time_t)(now / 1000000000);

	if (sec != w->stamp_sec) {
		struct tm tm;
		gmtime_r(&sec, &tm);
		strftime(w->stamp_text, sizeof(w->stamp_text), "%Y-%m-%dT%H:%M:%S", &tm);
		w->stamp_sec = sec;
	}
	return (size_t)sprintf(o, "%s.%09ldZ", w->stamp_text, (long)(now % 1000000000));
}

static void put_entry(struct log_writer *w, int stream, const uint8_t *s, size_t len)
{
	static const char *const names[LOG_STREAMS] = {"stdout", "stderr"};
	uint8_t *room = buf_reserve(&w->out, 6 * len + 160);
	if (!room)
		return;
	char *start = (char *)room, *o = start;

	memcpy(o, "{\"log\":\"", 8);
	char *end = put_json_text(o + 8, s, len);
	if (end) {
		o = end;
	} else {
		memcpy(o, "{\"b64\":\"", 8);
		o += 8;
		o += b64_encode(o, s, len);
	}
	o += sprintf(o, "\",\"stream\":\"%s\",\"time\":\"", names[stream]);
	o += put_time(w, o);
	memcpy(o, "\"}\n", 3);
	buf_commit(&w->out, (size_t)(o + 3 - start));
}

void log_writer_put(struct log_writer *w, int stream, const uint8_t *data, size_t len)
{
	struct buf *part = &w->partial[stream];

	while (len) {
		const uint8_t *nl = memchr(data, '\n', MIN_OF(len, LOG_LINE_MAX - part->len));
		size_t n = nl ? (size_t)(nl - data) + 1 : MIN_OF(len, LOG_LINE_MAX - part->len);
		bool whole = nl || part->len + n == LOG_LINE_MAX;
		if (whole && part->len == 0) {
			put_entry(w, stream, data, n);
		} else {
			if (buf_append(part, data, n) < 0)
				return;
			if (whole) {
				put_entry(w, stream, buf_data(part), part->len);
				buf_consume(part, part->len);
			}
		}
		data += n;
		len -= n;
	}
	flush(w);
}

void log_writer_close(struct log_writer *w)
{
	for (int i = 0; i < LOG_STREAMS; i++) {
		if (w->fd >= 0 && w->partial[i].len)
			put_entry(w, i, buf_data(&w->partial[i]), w->partial[i].len);
		buf_done(&w->partial[i]);
	}
	if (w->fd >= 0)
		flush(w);
	buf_done(&w->out);
	close_fd(&w->fd);
	close_fd(&w->dirfd);
}
