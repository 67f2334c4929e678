/* SPDX-License-Identifier: MIT */
#include "state/state.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/io.h"

/* Another program version may have written this file: refuse what is newer than we understand. */
enum { SCHEMA_VERSION = 1, BUSY_TIMEOUT_MS = 60000 };
/* SQLite's unix VFS takes paths of 512 bytes, the names of the log and of journals included. */
enum { DB_FOLDER_MAX = 480 };
/* Of the database's write-ahead log, bytes: a longer one is folded back by who is done. Reading that much takes a millisecond. */
enum { LOG_MAX = 2 << 20 };

int state_home_path(char **ret, struct err *e)
{
	const char *home = getenv("A3S_HOME");
	CLEANUP_FREE char *path = NULL;

	if (home && *home) {
		if (home[0] == '/') {
			path = strdup(home);
		} else {
			char cwd[PATH_MAX];
			if (!getcwd(cwd, sizeof(cwd)))
				return err_sys(e, -errno, "A3S_HOME: cannot resolve \"%s\"", home);
			path = str_printf("%s/%s", cwd, home);
		}
	} else {
		const char *user_home = getenv("HOME");
		if (!user_home || user_home[0] != '/') {
			struct passwd *pw = getpwuid(getuid());
			user_home = pw ? pw->pw_dir : NULL;
		}
		if (!user_home || user_home[0] != '/')
			return err_set(
				e, -ENOENT, "cannot find a home folder: set A3S_HOME to an absolute path");
		path = str_printf("%s/.a3s", user_home);
	}
	if (!path)
		return err_oom(e);
	*ret = TAKE_PTR(path);
	return 0;
}

static bool is_empty(int dirfd)
{
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	bool empty = d != NULL;

	for (struct dirent *de; empty && (de = readdir(d));)
		empty = strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0;
	if (d)
		closedir(d);
	else
		close_fd(&fd);
	return empty;
}

static int open_home(struct state *s, struct err *e)
{
	int r = io_mkdir_p(s->home, 0700);
	if (r < 0)
		return err_sys(e, r, "A3S_HOME: cannot use %s", s->home);
	s->home_fd = open(s->home, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->home_fd < 0)
		return err_sys(e, -errno, "A3S_HOME: cannot open %s", s->home);
	struct stat st;
	if (fstat(s->home_fd, &st) < 0)
		return err_sys(e, -errno, "A3S_HOME: cannot read %s", s->home);
	if (st.st_uid != geteuid()) {
		err_set(e, -EPERM, "A3S_HOME: %s belongs to another user (UID %u)", s->home,
			(unsigned)st.st_uid);
		return err_hint(e, "set A3S_HOME to a folder of your own");
	}
	if (st.st_mode & 077) {
		/* A folder of ours, or an empty one that is to become ours, is made private; any other is not touched. */
		if (faccessat(s->home_fd, "state.db", F_OK, AT_SYMLINK_NOFOLLOW) < 0 &&
			!is_empty(s->home_fd)) {
			err_set(e, -EPERM, "A3S_HOME: %s is open to other users and holds other things",
				s->home);
			return err_hint(e, "choose a new folder, or chmod 700 this one");
		}
		if (fchmod(s->home_fd, 0700) < 0)
			return err_sys(e, -errno, "A3S_HOME: cannot make %s private", s->home);
	}
	if (faccessat(s->home_fd, ".", R_OK | W_OK | X_OK, AT_EACCESS) < 0)
		return err_sys(e, -errno, "A3S_HOME: cannot write in %s", s->home);
	return 0;
}

static int db_err(struct state *s, struct err *e, const char *what)
{
	int code = sqlite3_errcode(s->db), r = -EIO;
	const char *why = sqlite3_errmsg(s->db);

	switch (code & 0xff) {
	case SQLITE_FULL:
		r = -ENOSPC;
		why = "no space left on device";
		break;
	case SQLITE_NOMEM:
		r = -ENOMEM;
		break;
	case SQLITE_CONSTRAINT:
		r = -EEXIST;
		break;
	case SQLITE_BUSY:
		r = -EBUSY;
		why = "another command holds it for too long";
		break;
	case SQLITE_READONLY:
	case SQLITE_PERM:
	case SQLITE_CANTOPEN:
		r = -EACCES;
		break;
	default:
		break;
	}
	return err_set(e, r, "state database: %s: %s", what, why);
}

/*
 * trusted_schema off: views and triggers in a tampered file cannot reach functions with side effects. When several
 * processes turn a fresh file to WAL at once, SQLite refuses all but one without waiting: hence the loop.
 */
static int set_up(sqlite3 *db)
{
	static const char sql[] =
		"PRAGMA trusted_schema=OFF; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
		" PRAGMA foreign_keys=ON;";
	uint64_t until = time_mono_ns() + BUSY_TIMEOUT_MS * 1000000ull;

	for (;;) {
		int rc = sqlite3_exec(db, sql, NULL, NULL, NULL);
		if ((rc & 0xff) != SQLITE_BUSY || time_mono_ns() >= until)
			return rc;
		nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
	}
}

static int open_db(struct state *s, struct err *e)
{
	/* NOFOLLOW is about every part of the path, but only the file itself must be no link: resolve the rest. */
	CLEANUP_FREE char *real = realpath(s->home, NULL);
	if (!real)
		return err_sys(e, -errno, "A3S_HOME: cannot resolve %s", s->home);
	if (strlen(real) > DB_FOLDER_MAX)
		return err_sys(e, -ENAMETOOLONG, "A3S_HOME: cannot use %s", s->home);
	CLEANUP_FREE char *path = str_printf("%s/state.db", real);
	if (!path)
		return err_oom(e);
	int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW;
	if (sqlite3_open_v2(path, &s->db, flags, NULL) != SQLITE_OK)
		return s->db ? db_err(s, e, "cannot open") : err_oom(e);
	sqlite3_busy_timeout(s->db, BUSY_TIMEOUT_MS);
	/* Folded back when it has grown, not by every command that happens to be the last one open. */
	sqlite3_db_config(s->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
	if (set_up(s->db) != SQLITE_OK)
		return db_err(s, e, "cannot set up");

	CLEANUP(stmt_done) sqlite3_stmt *st = NULL;
	int r = state_prepare(s, &st, e, "PRAGMA user_version", "");
	if (r == 0)
		r = state_step(s, st, e);
	if (r < 0)
		return r;
	int version = sqlite3_column_int(st, 0);
	if (version > SCHEMA_VERSION) {
		err_set(e, -EPROTO,
			"state database: written by a newer a3s-box (schema %d, this one knows %d)", version,
			SCHEMA_VERSION);
		return err_hint(e, "update a3s-box or set A3S_HOME to another folder");
	}
	stmt_done(&st);
	st = NULL;
	if (version < SCHEMA_VERSION &&
		sqlite3_exec(s->db, "PRAGMA user_version=1", NULL, NULL, NULL) != SQLITE_OK)
		return db_err(s, e, "cannot set up");
	return 0;
}

int state_open(struct state **ret, struct err *e)
{
	CLEANUP(state_closep) struct state *s = calloc(1, sizeof(*s));
	if (!s)
		return err_oom(e);
	s->home_fd = -1;
	int r = state_home_path(&s->home, e);
	if (r == 0)
		r = open_home(s, e);
	if (r == 0)
		r = open_db(s, e);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(s);
	return 0;
}

/*
 * Who opens the database as the first reads all of its log (sqlite.org/walformat.html, section 4), as how far that is folded
 * back is only known while somebody has it open: so a long log costs each command. Where others have it open, they will do it.
 */
static void fold_back(struct state *s)
{
	struct stat st;

	if (s->home_fd < 0 || fstatat(s->home_fd, "state.db-wal", &st, AT_SYMLINK_NOFOLLOW) < 0 ||
		st.st_size < LOG_MAX)
		return;
	sqlite3_busy_timeout(s->db, 0);
	sqlite3_wal_checkpoint_v2(s->db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
}

void state_close(struct state *s)
{
	if (!s)
		return;
	if (s->db)
		fold_back(s);
	sqlite3_close(s->db);
	close_fd(&s->home_fd);
	free(s->home);
	free(s);
}

static void end_lax(struct state *s)
{
	if (s->lax)
		sqlite3_exec(s->db, "PRAGMA synchronous=FULL", NULL, NULL, NULL);
	s->lax = false;
}

int state_begin(struct state *s, struct err *e)
{
	if (s->tx_depth == 0 && sqlite3_exec(s->db, "BEGIN IMMEDIATE", NULL, NULL, NULL) != SQLITE_OK)
		return db_err(s, e, "cannot begin a change");
	s->tx_depth++;
	return 0;
}

int state_begin_lax(struct state *s, struct err *e)
{
	if (s->tx_depth == 0)
		s->lax = sqlite3_exec(s->db, "PRAGMA synchronous=NORMAL", NULL, NULL, NULL) == SQLITE_OK;
	int r = state_begin(s, e);
	if (r < 0)
		end_lax(s);
	return r;
}

static int commit(struct state *s, int r, struct err *e)
{
	if (r >= 0) {
		if (sqlite3_exec(s->db, "COMMIT", NULL, NULL, NULL) == SQLITE_OK)
			return r;
		r = db_err(s, e, "cannot commit");
	}
	sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
	return r;
}

int state_end(struct state *s, int r, struct err *e)
{
	if (--s->tx_depth > 0)
		return r;
	r = commit(s, r, e);
	end_lax(s);
	return r;
}

static int prepare_va(
	struct state *s, sqlite3_stmt **ret, struct err *e, const char *sql, const char *types, va_list ap)
{
	sqlite3_stmt *st = NULL;
	if (sqlite3_prepare_v2(s->db, sql, -1, &st, NULL) != SQLITE_OK)
		return db_err(s, e, "cannot prepare");
	for (int i = 1; *types; types++, i++) {
		int rc = SQLITE_MISUSE;
		switch (*types) {
		case 's':
			rc = sqlite3_bind_text(st, i, va_arg(ap, const char *), -1, SQLITE_TRANSIENT);
			break;
		case 'i':
			rc = sqlite3_bind_int64(st, i, va_arg(ap, int64_t));
			break;
		case 'u':
			rc = sqlite3_bind_int64(st, i, (int64_t)va_arg(ap, uint64_t));
			break;
		}
		if (rc != SQLITE_OK) {
			int r = db_err(s, e, "cannot bind");
			sqlite3_finalize(st);
			return r;
		}
	}
	*ret = st;
	return 0;
}

int state_prepare(struct state *s, sqlite3_stmt **ret, struct err *e, const char *sql, const char *types, ...)
{
	va_list ap;
	va_start(ap, types);
	int r = prepare_va(s, ret, e, sql, types, ap);
	va_end(ap);
	return r;
}

int state_step(struct state *s, sqlite3_stmt *st, struct err *e)
{
	switch (sqlite3_step(st)) {
	case SQLITE_ROW:
		return 1;
	case SQLITE_DONE:
		return 0;
	default:
		return db_err(s, e, "cannot read or change");
	}
}

int state_exec(struct state *s, struct err *e, const char *sql, const char *types, ...)
{
	CLEANUP(stmt_done) sqlite3_stmt *st = NULL;
	va_list ap;
	va_start(ap, types);
	int r = prepare_va(s, &st, e, sql, types, ap);
	va_end(ap);
	if (r < 0)
		return r;
	while ((r = state_step(s, st, e)) > 0)
		;
	return r;
}

char *state_column_dup(sqlite3_stmt *st, int col)
{
	return str_dup((const char *)sqlite3_column_text(st, col));
}
