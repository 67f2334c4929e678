/* SPDX-License-Identifier: MIT */
/*
 * Reading a box's log files in order, also while they are written and rotated.
 *
 * A reader holds one file open. At its end, the file that follows in time is the one with the next lower number: it is found
 * by looking which name our inode has now. An inode without a name was rotated away: the oldest one left follows, and what
 * was between them may be lost (`gap`). Nothing is read twice, and nothing is lost unless the reader falls behind by all
 * files.
 */
#ifndef BOX_LOG_READ_H
#define BOX_LOG_READ_H

#include "log.h"

struct log_reader {
	int dirfd, fd; /* fd -1: begin with the oldest file */
	unsigned files;
	struct buf in;
	bool skipping; /* inside a line that is too long to be an entry */
	bool gap;      /* something was rotated away before it was read; for the caller to reset */
};

/* Called with each line, its line feed left out. A negative result ends the reading and is returned. */
typedef int (*log_read_fn)(void *data, const char *line, size_t len);

/* Reads on to what is the end now, through all files. 0 or -errno. */
int log_reader_run(struct log_reader *rd, log_read_fn fn, void *data);
/*
 * Places the reader where the last `lines` lines begin that have a time in [since_ns, until_ns] (0: no limit). Reads
 * backwards, and only as far as it must. Where the pieces of a long line are mixed with another stream's lines, its first
 * pieces may be left out.
 */
int log_reader_seek_tail(struct log_reader *rd, int64_t lines, int64_t since_ns, int64_t until_ns);
void log_reader_done(struct log_reader *rd);

#endif
