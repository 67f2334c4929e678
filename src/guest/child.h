/* SPDX-License-Identifier: MIT */
/* The new process between clone and exec. */
#ifndef GUEST_CHILD_H
#define GUEST_CHILD_H

#include <stdint.h>

#include "spawn.h"

struct child {
	const struct spawn_box *box;
	const struct wire_process *process;
	int stdio[3]; /* -1: /dev/null, or the terminal */
	int pty;      /* number of its terminal, with tty */
	int report;
	int userns; /* its user namespace, to be joined; -1: none of its own */
	bool seal;  /* makes the root file system read-only once its working directory is there */
};

/* What PID 1 tells the prepared process with START; the descriptors that exist come with it, in order. */
struct child_start {
	size_t frame_len;
	int pty;
	uint8_t has[3];
	uint8_t read_only; /* nsexec: see isolate.c */
};

/* A process that joins the box: sets itself up and executes its program, or reports why not and ends. */
_Noreturn void child_run(struct child *c);
/* The workload, in the protocol of spawn.c. */
_Noreturn void child_prepare(const struct spawn_box *box, int sock, int report);

/* ---- steps that isolate.c takes too; each ends the process with a report when it fails ---- */

/* Reports a status (125 to 127) and why, and ends. */
_Noreturn void child_fail(const struct child *c, uint32_t status, const char *fmt, ...) PRINTF(3, 4);
/* The same with status 125 and the text of an errno value, of either sign. */
_Noreturn void child_fail_sys(const struct child *c, int err, const char *what);
/*
 * Closes all descriptors from 3 on but these; -1 is none. An image can name what we hold, as /proc/self/fd/N in a link or
 * as its working directory: a folder of PID 1 that is open here would be a way out of the box.
 */
void child_close_others(const int *keep, size_t n);
/* Takes START and the streams' descriptors off a socket. What p gets lives until execve. The sender is believed in nothing. */
void child_receive_start(struct child *c, int sock, struct wire_process *p);
/* A session of its own, with stdio as descriptors 0 to 2. */
void child_set_streams(struct child *c);
void child_set_cwd(const struct child *c);
/* Hands the report on to the next program, as INIT_REPORT. */
void child_keep_report(const struct child *c);

#endif
