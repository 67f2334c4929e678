/* SPDX-License-Identifier: MIT */
/* The new process between clone and exec. */
#ifndef GUEST_CHILD_H
#define GUEST_CHILD_H

#include "spawn.h"

struct child {
	const struct spawn_box *box;
	const struct wire_process *process;
	int stdio[3]; /* -1: /dev/null, or the terminal */
	int pty;      /* number of its terminal, with tty */
	int report;
};

/* What PID 1 tells the prepared process with START; the descriptors that exist come with it, in order. */
struct child_start {
	size_t frame_len;
	int pty;
	bool has[3];
};

/* A process that joins the box: sets itself up and executes its program, or reports why not and ends. */
_Noreturn void child_run(struct child *c);
/* The workload, in the protocol of spawn.c. */
_Noreturn void child_prepare(const struct spawn_box *box, int sock, int report);

#endif
