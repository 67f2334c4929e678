/* SPDX-License-Identifier: MIT */
/* The terminal end of a session: run, start -a and exec. */
#ifndef CLI_SESSION_H
#define CLI_SESSION_H

#include "base/err.h"
#include "wire/wire.h"

struct session_opts {
	int fd;			   /* connected; consumed */
	const struct buf *opening; /* frames to send first: an ATTACH request, or START */
	bool stdin_open;	   /* pass standard input on */
	bool tty;		   /* raw terminal, resize */
	bool sig_proxy;		   /* pass signals on */
	bool until_started;	   /* return with status 0 as soon as the process runs (detached) */
};

/*
 * Moves data until the process ends. Returns its exit status (0-255, 128+N), or -errno with e set; then *ret_status is
 * the exit status to use: 125 to 127 when it did not start, 137 when it was lost.
 */
int session_run(const struct session_opts *o, int *ret_status, struct err *e);

#endif
