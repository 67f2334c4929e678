/* SPDX-License-Identifier: MIT */
/* The terminal end of a session: run, start -a, attach, exec and shell. */
#ifndef CLI_SESSION_H
#define CLI_SESSION_H

#include "base/err.h"
#include "wire/wire.h"

#define SESSION_SLOW_NS 10000000000ull /* a start that takes as long is worth a word */

struct session_opts {
	int fd;			   /* connected; consumed */
	const struct buf *opening; /* frames to send first: an ATTACH request, or START */
	bool stdin_open;	   /* pass standard input on */
	bool tty;		   /* raw terminal, resize */
	bool redraw;		   /* with tty: make a program that runs already draw its screen again */
	bool sig_proxy; /* pass signals on; else those that end a command end this one, and only this one */
	bool until_started; /* return with status 0 as soon as the process runs (detached) */
	bool to_guest;	    /* fd leads to the guest itself: an exec */
	const char *
		detach_keys; /* checked by detach_parse; NULL: the default. They count with tty and stdin_open */
	int detach_status; /* status after they were typed: 0, or as Docker has it for attach and exec, 1 */
	uint64_t limit_ns; /* an exec is ended after so long, started or not, status 124; 0: never */

	void (*on_started)(void *data); /* the process runs; NULL: nobody wants to know */
	void *data;
	bool *ret_detached; /* becomes true when the user detached; NULL: nobody wants to know */
};

/*
 * Moves data until the process ends or the user detaches. Returns the exit status (0-255, 128+N), or -errno with e set; then
 * *ret_status is the exit status to use: 125 to 127 when it did not start, 137 when it was lost, 124 when limit_ns ran out.
 * Signal dispositions and the terminal are afterwards as they were.
 */
int session_run(const struct session_opts *o, int *ret_status, struct err *e);

/* Says so, to whoever sits at a terminal. */
void session_say_slow(void);

#endif
