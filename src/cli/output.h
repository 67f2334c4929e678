/* SPDX-License-Identifier: MIT */
/* Where a command writes an archive: standard output, or a file. */
#ifndef CLI_OUTPUT_H
#define CLI_OUTPUT_H

#include "base/err.h"

/*
 * A file that gets its name only when it is whole. It has none before where the file system can do that, so that a
 * command that is killed leaves nothing; else one beside its own.
 */
struct output {
	char *path; /* with links followed; NULL: fd is written to as it is */
	char *tmp;  /* its name until then, NULL: it has none */
	int fd;
};
void output_done(struct output *o);
/* Early, before anything is done: path as in output_open. Nobody wants an archive on a terminal. */
int output_check(const char *path, struct err *e);
/* path NULL: standard output. A pipe or a device is written to as it is. */
int output_open(struct output *o, const char *path, struct err *e);
/* All was written to fd: the file gets its name, durably. */
int output_finish(struct output *o, struct err *e);

#endif
