/* SPDX-License-Identifier: MIT */
/*
 * The log of a box: lines, the json-file format and its files (private to this room).
 *
 * LINES. Output is cut into entries behind each line feed, and after LOG_LINE_MAX bytes where a line is longer: an entry of
 * exactly that length without a line feed goes on in the next one of its stream.
 *
 * JSON-FILE. boxes/ID/logs/box.log, and older parts box.log.1 (newest) upwards. One JSON object a line, as Docker's:
 *
 *     {"log":"text\n","stream":"stdout","attrs":{"name":"value"},"time":"RFC 3339"}
 *
 * attrs only where --log-opt labels, env or tag ask for them. A piece that is not valid UTF-8, or holds a NUL, has "b64"
 * (base64) instead of "log": output is bytes, and none is lost.
 *
 * ROTATION. When a file has grown to max-size, an empty one is made beside it, the older ones move up by one name each,
 * the oldest is dropped, and the empty one takes the name. A crash in between leaves a gap among the names, which
 * readers step over. A reader knows the file it reads by its inode, whatever it is called by now.
 */
#ifndef BOX_LOG_H
#define BOX_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "box/box.h"

#define LOG_LINE_MAX  16384    /* bytes of output in one entry, as Docker */
#define LOG_FILE_MAX  10485760 /* bytes of one file before it is rotated, unless said otherwise */
#define LOG_FILES     3
#define LOG_FILES_MAX 1000
#define LOG_ATTRS_MAX 65536 /* bytes of attrs in an entry */
#define LOG_STREAMS   2	    /* 0: stdout, 1: stderr */
/* No entry of ours is longer: six bytes for each of the line, the attributes, and the rest. */
#define LOG_ENTRY_MAX (6 * LOG_LINE_MAX + LOG_ATTRS_MAX + 512)

/* How many files are kept, the current one included. */
unsigned log_files(const struct box_log_config *c);
/* "box.log", "box.log.1"… */
void log_file_name(char *dst, size_t size, unsigned index);
/*
 * What --log-opt labels, env and tag ask for, as a JSON object of strings; *ret malloc'd, "" for none. 0, or -errno with e
 * set when it would be too long.
 */
int log_attrs(const struct box *b, char **ret, struct err *e);
/* The value of a log option, or NULL. */
const char *log_opt(const struct box_log_config *c, const char *name);
/* Fills in a tag ("{{.Name}}", "{{.ID}}"…); malloc'd, or NULL when it cannot be understood, or for want of memory. */
char *log_tag(const struct box *b, const char *tag);

/* ---- lines ---- */
struct log_lines {
	struct buf partial[LOG_STREAMS]; /* the line that has not ended */
};
typedef void (*log_line_fn)(void *data, int stream, const uint8_t *s, size_t len);
/* Calls fn for each entry that is whole now. */
void log_lines_put(struct log_lines *l, int stream, const uint8_t *s, size_t len, log_line_fn fn, void *data);
/* Calls fn for the lines that have not ended, and forgets them. */
void log_lines_end(struct log_lines *l, log_line_fn fn, void *data);
void log_lines_done(struct log_lines *l);

/* ---- json-file ---- */
struct log_writer {
	int dirfd, fd;
	uint64_t max_size; /* 0: never rotated */
	unsigned files;
	uint64_t size; /* of the current file */
	char *attrs;   /* what goes into each entry between stream and time; "" */
	struct log_lines lines;
	struct buf out;	   /* entries not yet written, the first perhaps in part */
	int64_t stamp_sec; /* second that stamp_text is for */
	char stamp_text[24];
	int64_t stamp_ns;   /* of the next entry: those that come together differ by a nanosecond */
	uint64_t unwritten; /* bytes of output in `out` */
	uint64_t dropped;   /* bytes of output that log_writer_drop gave up */
	bool torn; /* the file may end inside an entry: a line feed goes before the next, or that would be lost too */
};

/* Opens logs/ in the box's folder (made when missing) and appends to its current file. */
int log_writer_open(struct log_writer *w, int box_dirfd, const struct box *b, struct err *e);
/* Takes output bytes of a stream; written by log_writer_flush. */
void log_writer_put(struct log_writer *w, int stream, const uint8_t *data, size_t len);
/* Bytes that wait to be written. */
static inline size_t log_writer_pending(const struct log_writer *w)
{
	return w->out.len;
}
/* Writes what was taken. 0; or -errno when the disk does not take it: what is left stays, and can be tried again. */
int log_writer_flush(struct log_writer *w);
/* Gives up what waits. The next flush that works says in an entry of its own how much that was. */
void log_writer_drop(struct log_writer *w);
/* Writes the unfinished lines too, drops what the disk does not take, and closes. */
void log_writer_close(struct log_writer *w);

/* ---- reading ---- */
struct log_entry {
	char *mem;	  /* malloc'd: what data lies in */
	const char *data; /* output bytes */
	size_t len;
	int stream;
	int64_t time_ns;
	char *details; /* attrs as `logs --details` shows them, malloc'd; NULL: not asked for */
	char time[36]; /* as in the file */
	bool whole;    /* its line ends with it */
};
/*
 * Understands one line of a file, its line feed left out. False for what is none of ours: it is to be skipped. A file may
 * have been damaged, or written by others.
 */
bool log_entry_parse(const char *line, size_t len, bool details, struct log_entry *ret);
void log_entry_done(struct log_entry *en);

#endif
