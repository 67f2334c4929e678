/* SPDX-License-Identifier: MIT */
/* The box's processes, as its own /proc shows them. */
#ifndef GUEST_TASKS_H
#define GUEST_TASKS_H

#include "wire/wire.h"

/*
 * proc: a /proc of a PID namespace that is `level` above the box's, which is the only one below it; 0: the box's own. At
 * most WIRE_TASKS_MAX, in no order; those that end meanwhile are left out. Can be held up by the processes it looks at,
 * whose memory their command lines are. 0 or -errno.
 */
int tasks_collect(int proc, unsigned int level, struct wire_tasks *ret);

/* ---- parts ---- */

/* /proc/PID/stat (proc(5)). The name is the process's own choice, parentheses and newlines included. 0 or -EBADMSG. */
int tasks_parse_stat(const char *text, struct wire_task *ret);
/*
 * Number in the namespace `level` below that of /proc, effective user and group from /proc/PID/status. 0; -ESRCH: it is
 * not in such a namespace; -EBADMSG.
 */
int tasks_parse_status(const char *text, unsigned int level, struct wire_task *t);
/* "pts/0" and the like for a tty_nr of /proc/PID/stat; "" for none. */
void tasks_tty_name(uint64_t tty_nr, char *dst, size_t size);
/* Turns what lies between the arguments into spaces, and ends the text; size bytes hold len and a NUL. */
void tasks_join_args(char *args, size_t len);

#endif
