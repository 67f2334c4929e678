/* SPDX-License-Identifier: MIT */
/* Starts processes of the box: the workload in namespaces of its own, later ones (exec) inside them. */
#ifndef GUEST_SPAWN_H
#define GUEST_SPAWN_H

#include <stdbool.h>
#include <sys/types.h>

#include "wire/wire.h"

#define SPAWN_PIPE_SIZE	 262144 /* bytes a process may write ahead of the host */
#define SPAWN_REPORT_MAX 1024	/* bytes: u32 PID, and for a failure u32 status and text */

/* The workload's process before its START: see spawn.c. pid 0: there is none. */
struct spawn_prepared {
	pid_t pid;
	int pidfd, sock, report;
};

/* What the box offers to its processes. Descriptors are -1 where there is none. */
struct spawn_box {
	int cgroup;	     /* the box's cgroup folder */
	int devpts;	     /* root of the box's devpts: what the box does to its /dev cannot redirect us */
	int proc;	     /* /proc of PID 1's namespaces, mounted nowhere; -1 */
	int self_pidfd;	     /* this process */
	int main_pidfd;	     /* the workload, once it runs */
	bool bare;	     /* unit tests: no namespaces, no root change, no change of identity */
	bool user_namespace; /* the workload has one of its own */
	struct buf config;   /* CONFIG frame for the workload's process; empty: nothing unusual */
	uint8_t *filter;     /* the workload's seccomp filter, NULL: none */
	size_t filter_len;   /* bytes */
	bool isolates;	     /* subprocesses for nsexec can be had */
	bool has_base;	     /* image mounted and /dev built: see rootfs.h */
	struct spawn_prepared prepared;
};

/* Makes the workload's process and lets it begin with what needs no disk. 0 or -errno. */
int spawn_prepare(struct spawn_box *box);
/*
 * Waits until it has mounted the image and built /dev. 0, or -errno with why it failed in
 * report[SPAWN_REPORT_MAX + 1] and *why pointing into it.
 */
int spawn_wait_base(struct spawn_box *box, char *report, const char **why);
/* Tells it that the root file system is complete. 0 or -errno. */
int spawn_release(struct spawn_box *box);
/* The prepared process is gone, or taken: forgets it, closing what is still open. */
void spawn_forget(struct spawn_box *box);

/* Our ends of a new process, all close-on-exec and non-blocking; -1 where there is none. */
struct spawn {
	pid_t pid;  /* in our PID namespace */
	int pidfd;  /* only of the workload */
	int in;	    /* to its standard input, or to its terminal */
	int out;    /* its standard output, or its terminal */
	int err;    /* its standard error */
	int report; /* see spawn_parse; end of file once the program runs or the attempt is over */
};

/* Starts setting up the process; the outcome arrives on ret->report. 0 or -errno. */
int spawn_start(struct spawn_box *box, const struct wire_process *p, struct spawn *ret);

struct child_start;
/* Sends START: *start with its lengths filled, the streams that are not -1, and the frame (child.h). 0 or -errno. */
int spawn_send_start(int sock, struct child_start *start, const int stdio[3], const struct buf *frame);

/* As fork, into the box's PID namespace and cgroup and no other: 0 in the child, its PID, or -errno. */
pid_t spawn_joined(const struct spawn_box *box);

/*
 * Reads a complete report. Returns 0 and the PID in the process's own namespace when the program runs, else
 * the status for FAIL (125 to 127) and *why pointing at a terminated text inside report[len + 1].
 */
uint32_t spawn_parse(char *report, size_t len, uint32_t *ret_pid, const char **why);

#endif
