/* SPDX-License-Identifier: MIT */
/* A small init for a box (--init) and for nsexec's subprocesses: this program once more, in the box and with nothing of PID 1. */
#ifndef GUEST_INIT_H
#define GUEST_INIT_H

#define INIT_PATH   "/dev/a3s/nsexec"	/* this program, as the box sees it */
#define INIT_NAME   "/sbin/docker-init" /* its argv[0] as init, known from Docker */
#define INIT_REPORT 3			/* descriptor: see init.c */

/* INIT_NAME -- PROGRAM ARG…, or --watch in place of --. Returns the exit status. */
int init_main(int argc, char **argv);

#endif
