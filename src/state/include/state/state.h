/* SPDX-License-Identifier: MIT */
/*
 * The home folder (A3S_HOME) and its database. One SQLite file in WAL mode with synchronous=FULL; every change of
 * state is one transaction, so a process may be killed at any instruction.
 */
#ifndef STATE_STATE_H
#define STATE_STATE_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct state {
	char *home; /* absolute path */
	int home_fd;
	sqlite3 *db;
	int tx_depth;
	bool lax; /* within state_begin_lax */
};

/* Opens A3S_HOME [~/.a3s], made with mode 0700 when missing, and the database in it, migrated to this version. */
int state_open(struct state **ret, struct err *e);
void state_close(struct state *s);
/* Where that is, malloc'd; it may not be there. 0 or -errno. */
int state_home_path(char **ret, struct err *e);
DEFINE_CLEANUP(struct state *, state_close)

/*
 * A write transaction (BEGIN IMMEDIATE). It waits for other writers up to a minute: dozens of boxes may start at once on
 * a loaded host. state_end commits when r >= 0, else rolls back, and returns r or why the commit failed. They nest: only
 * the outermost pair acts, on the result that reaches it.
 */
int state_begin(struct state *s, struct err *e);
int state_end(struct state *s, int r, struct err *e);
/*
 * As state_begin, for what nobody waits for a disk for: a host that goes down may take the change along, though never what was
 * committed otherwise before it; that a process is killed cannot. Within another transaction it is part of that.
 */
int state_begin_lax(struct state *s, struct err *e);

/*
 * Prepares sql and binds arguments by type letters: s string (NULL allowed), i int64_t, u uint64_t.
 * *ret is finalized by the caller (CLEANUP(stmt_done)).
 */
int state_prepare(
	struct state *s, sqlite3_stmt **ret, struct err *e, const char *sql, const char *types, ...);
/* The same, run to the end. Rows are discarded. -EEXIST on a constraint violation. */
int state_exec(struct state *s, struct err *e, const char *sql, const char *types, ...);
/* Steps: 1 row, 0 done, -errno. */
int state_step(struct state *s, sqlite3_stmt *st, struct err *e);
/* malloc'd copy of a text column, NULL if NULL (or out of memory). */
char *state_column_dup(sqlite3_stmt *st, int col);

static inline void stmt_done(sqlite3_stmt **st)
{
	sqlite3_finalize(*st);
}

#endif
