/* SPDX-License-Identifier: MIT */
/*
 * The audit log: A3S_HOME/audit/audit.log, one line of JSON for each command that changed something or was to, and for what
 * a network's policy denied a box (action "network").
 *
 *     audit/lock                   held while a line is added, or files are opened for reading
 *     audit/audit.log              the newest; lines are added with O_APPEND, never changed
 *     audit/audit.log.1 … .4       older, renamed once the one before would grow beyond AUDIT_FILE_MAX
 *
 *     audit/begun/PID-NUMBER       a command that has not ended, locked by it: its entry as far as it is known, and lines
 *                                  {"boxes": one} or {"images": one} for what it came upon later
 *
 * A process may be killed while it writes: a line that is not complete is left as it is, and the next begins on a line of
 * its own. The entry of a command that is killed is made of what it had begun, by the next one (audit_repair). Nothing is synced
 * to disk one by one: a host that loses power may lose the last of it.
 */
#ifndef STATE_AUDIT_H
#define STATE_AUDIT_H

#include <stddef.h>

#include <jansson.h>

#include "base/err.h"

#define AUDIT_FILES    5
#define AUDIT_FILE_MAX (10 << 20) /* bytes */
#define AUDIT_LINE_MAX (64 << 10) /* bytes; longer ones are refused, and passed over when read */

/* Adds line (without a line feed in it) below home_fd. Waits at most some seconds for others. 0 or -errno. */
int audit_append(int home_fd, const char *line, struct err *e);

/*
 * Calls fn for every line, newest first, until it returns non-zero, which is then returned; else 0 or -errno. line is
 * terminated by a NUL and holds whatever is in the file.
 */
int audit_read(int home_fd, int (*fn)(const char *line, void *data), void *data, struct err *e);

/*
 * An entry: {"time", "user": {"uid", "name"}, "pid", "command", "args": [], "boxes": [{"id", "name"}], "images": [],
 * "outcome": "success"|"failure"|"denied"|"interrupted", "status": exit status or null, "error"}, and what an action has beside that. This
 * makes one without what is only known at its end, with empty lists.
 */
json_t *audit_entry_new(const char *action);
/* Completes and adds it; takes the reference. status NULL: none. home_fd < 0: nowhere. 0 or -errno. */
int audit_entry_write(
	int home_fd, json_t *entry, const char *outcome, const int *status, const char *error, struct err *e);

/* A command under way. */
struct audit_begun {
	int dir, fd; /* -1: none */
	char name[48];
};
/* Notes that it has begun; entry stays the caller's. 0 or -errno. */
int audit_begun_new(int home_fd, const json_t *entry, struct audit_begun *ret);
/* Notes what it is about; list: "boxes" or "images". Takes the reference. */
void audit_begun_about(const struct audit_begun *b, const char *list, json_t *what);
/* It has ended, and its entry is written. */
void audit_begun_end(struct audit_begun *b);
/* Makes the entries of commands that died. 0 or -errno. */
int audit_repair(int home_fd, struct err *e);

#endif
