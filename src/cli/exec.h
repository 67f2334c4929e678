/* SPDX-License-Identifier: MIT */
/* A further process in a running box: exec and shell. */
#ifndef CLI_EXEC_H
#define CLI_EXEC_H

#include "spec.h"

struct exec_opts {
	bool detach, interactive, tty, privileged;
	const char *workdir, *user, *detach_keys;
	const char *what; /* shown in events instead of the command line; NULL: that */
	struct strv env, env_files;
	uint64_t limit_ns; /* 0: none */
};
void exec_opts_done(struct exec_opts *o);

/* Checks what needs no box. 0 or -errno. */
int exec_check(const struct exec_opts *o, struct err *e);
/*
 * Runs argv in the box to its end, or with detach until it runs. Returns its status; or -errno with e set, and *status the one
 * to use.
 */
int exec_in_box(const char *ref, const struct exec_opts *o, char *const *argv, size_t argc, int *status,
	struct err *e);

#endif
