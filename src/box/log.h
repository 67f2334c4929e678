/* SPDX-License-Identifier: MIT */
/*
 * The json-file log of a box: boxes/ID/logs/box.log, and older parts box.log.1 (newest) upwards.
 *
 * One JSON object a line, as Docker's json-file:  {"log":"text\n","stream":"stdout","time":"RFC 3339"}
 * A piece that is not valid UTF-8, or holds a NUL, has "b64" (base64) instead of "log": output is bytes, and none is
 * lost. A line is split when longer than LOG_LINE_MAX; only its last piece ends with a newline.
 */
#ifndef BOX_LOG_H
#define BOX_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

#define LOG_LINE_MAX 16384    /* bytes of output in one entry, as Docker */
#define LOG_FILE_MAX 10485760 /* bytes of one file before it is rotated */
#define LOG_FILES    3
#define LOG_STREAMS  2 /* 0: stdout, 1: stderr */

struct log_writer {
	int dirfd, fd;
	uint64_t size;			 /* of the current file */
	struct buf partial[LOG_STREAMS]; /* the line that has not ended */
	struct buf out;			 /* entries not yet written */
	int64_t stamp_sec;		 /* second that stamp_text is for */
	char stamp_text[24];
	bool failed; /* said once */
	bool torn; /* the file may end inside an entry: a line feed goes before the next, or that would be lost too */
};

/* Opens logs/ in the box's folder (made when missing) and appends to its current file. */
int log_writer_open(struct log_writer *w, int box_dirfd, struct err *e);
/* Takes output bytes of a stream. Never fails for the caller: what the disk does not take is dropped and said once. */
void log_writer_put(struct log_writer *w, int stream, const uint8_t *data, size_t len);
/* Writes the unfinished lines too, and closes. */
void log_writer_close(struct log_writer *w);

#endif
