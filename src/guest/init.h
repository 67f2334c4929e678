/* SPDX-License-Identifier: MIT */
/* A small init for a box (--init) and for nsexec's subprocesses: this program once more, in the box and with nothing of PID 1. */
#ifndef GUEST_INIT_H
#define GUEST_INIT_H

#define INIT_PATH   "/dev/a3s/nsexec"	/* this program, as the box sees it */
#define INIT_NAME   "/sbin/docker-init" /* its argv[0] as init, known from Docker */
#define INIT_REPORT 3			/* descriptor: see init.c */

/*
 * In place of a workload, for as long as the host reaches for the files of a box that does not run: INIT_PATH with this as its only
 * argument waits, and nothing more, as the first process of the box's namespaces.
 */
#define INIT_HOLD "--hold"
_Noreturn void init_hold(void);

/* INIT_NAME -- PROGRAM ARG…, or --watch in place of --. Returns the exit status. */
int init_main(int argc, char **argv);

#endif
