/* SPDX-License-Identifier: MIT */
/* nsexec, a command of the box: runs a program isolated further. */
#ifndef GUEST_NSEXEC_H
#define GUEST_NSEXEC_H

#include "wire/wire.h"

/*
 * Reads options into p, whose argv is filled and whose cwd and env are not: limits, and whether the file system is to be
 * read-only. 0; 1 for --help; -EINVAL with what is wrong in `why`.
 */
int nsexec_parse(int argc, char **argv, struct wire_process *p, bool *ret_read_only, char *why, size_t size);
/* Returns the exit status: that of the program; 125 to 127 as elsewhere. */
int nsexec_main(int argc, char **argv);

#endif
