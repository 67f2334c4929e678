/* SPDX-License-Identifier: MIT */
/* What a process of the box starts with: its environment, and the file that its argv[0] means. */
#ifndef GUEST_PROCESS_H
#define GUEST_PROCESS_H

#include "user.h"
#include "wire/wire.h"

#define PROCESS_PATH_DEFAULT "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

/* Adds what is absent: PATH, HOSTNAME (unless empty), TERM (with tty), HOME. 0 or -ENOMEM. */
int process_env(struct strv *env, bool tty, const char *hostname, const char *home);

/*
 * Takes the next folder off *path (NULL when used up) and writes "folder/name" to out; an empty folder is
 * the working directory. Returns 1, 0 at the end, -ENAMETOOLONG when this candidate does not fit.
 */
int process_path_next(const char **path, const char *name, char *out, size_t size);

/*
 * Replaces the process by argv, searched in PATH of env unless it has a slash. Returns only on failure:
 * the status to report, 126 or 127, with one line in why.
 */
int process_exec(const struct strv *argv, const struct strv *env, char *why, size_t why_size);

/* Text of an errno value as Docker's users know it: strerror with a small first letter. */
const char *process_strerror(int err, char *buf, size_t size);

#endif
