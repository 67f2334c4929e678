/* SPDX-License-Identifier: MIT */
/* The home folder and its database: who may use them, what is refused, and that no kill leaves half a change. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include <cmocka.h>

#include "base/io.h"
#include "state/state.h"

enum { NOBODY = 65534, KILLS = 30, ROWS = 20 };

static char top[64], home[160];

static int set_up(void **state)
{
	strcpy(top, "/tmp/test-state-XXXXXX");
	if (!mkdtemp(top))
		return -1;
	snprintf(home, sizeof(home), "%s/home", top);
	return setenv("A3S_HOME", home, 1);
}

static int tear_down(void **state)
{
	return io_remove_tree_at(AT_FDCWD, top);
}

static struct state *open_state(void)
{
	struct state *s = NULL;
	struct err e = {0};

	if (state_open(&s, &e) < 0)
		fail_msg("%s", e.msg);
	return s;
}

/* Opening fails with the code, and the line for the user has the text in it. */
static void assert_refused(int code, const char *text)
{
	struct state *s = NULL;
	struct err e = {0};
	int r = state_open(&s, &e);

	if (r != code || e.code != code || !strstr(e.msg, text))
		fail_msg("%d, \"%s\": want %d, \"%s\"", r, e.msg, code, text);
	assert_null(s);
}

static void sql(struct state *s, const char *text)
{
	struct err e = {0};
	if (state_exec(s, &e, text, "") < 0)
		fail_msg("%s: %s", text, e.msg);
}

static int64_t number(struct state *s, const char *text)
{
	CLEANUP(stmt_done) sqlite3_stmt *st = NULL;
	struct err e = {0};

	if (state_prepare(s, &st, &e, text, "") < 0 || state_step(s, st, &e) != 1)
		fail_msg("%s: %s", text, e.msg);
	return sqlite3_column_int64(st, 0);
}

/* ---- opening ---- */

static void a_missing_home_is_made_private(void **state)
{
	struct stat st;
	struct state *s;

	snprintf(home, sizeof(home), "%s/a/b/home", top);
	setenv("A3S_HOME", home, 1);
	mode_t old = umask(0);
	s = open_state();
	umask(old);
	assert_string_equal(s->home, home);
	assert_int_equal(stat(home, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	assert_int_equal(faccessat(s->home_fd, "state.db", F_OK, 0), 0);
	assert_int_equal(fcntl(s->home_fd, F_GETFD), FD_CLOEXEC);
	state_close(s);
	state_close(NULL);
}

static void a_home_open_to_others_is_made_private(void **state)
{
	struct stat st;

	assert_int_equal(mkdir(home, 0700), 0);
	assert_int_equal(chmod(home, 0755), 0);
	state_close(open_state());
	assert_int_equal(stat(home, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
}

static void the_home_may_be_given_relative_to_the_current_folder(void **state)
{
	int old = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	assert_int_equal(chdir(top), 0);
	setenv("A3S_HOME", "rel/home", 1);
	struct state *s = open_state();
	assert_int_equal(fchdir(old), 0);
	close(old);
	snprintf(home, sizeof(home), "%s/rel/home", top);
	assert_string_equal(s->home, home);
	sql(s, "CREATE TABLE t(a)"); /* still works from elsewhere */
	state_close(s);
}

static void without_a3s_home_it_is_in_the_users_home(void **state)
{
	char *old = str_dup(getenv("HOME"));

	unsetenv("A3S_HOME");
	setenv("HOME", top, 1);
	struct state *s = open_state();
	snprintf(home, sizeof(home), "%s/.a3s", top);
	assert_string_equal(s->home, home);
	state_close(s);
	setenv("A3S_HOME", "", 1); /* empty is as unset */
	s = open_state();
	assert_string_equal(s->home, home);
	state_close(s);
	if (old)
		setenv("HOME", old, 1);
	free(old);
}

static void the_home_may_lie_behind_a_link(void **state)
{
	char target[160], link[160];

	snprintf(target, sizeof(target), "%s/elsewhere", top);
	snprintf(link, sizeof(link), "%s/link", top);
	assert_int_equal(mkdir(target, 0700), 0);
	assert_int_equal(symlink("elsewhere", link), 0);
	setenv("A3S_HOME", link, 1);
	struct state *s = open_state();
	sql(s, "CREATE TABLE t(a)");
	state_close(s);
	snprintf(link, sizeof(link), "%s/link/below", top);
	setenv("A3S_HOME", link, 1);
	state_close(open_state());
}

static void a_database_that_is_a_link_is_refused(void **state)
{
	char path[200];

	assert_int_equal(mkdir(home, 0700), 0);
	snprintf(path, sizeof(path), "%s/state.db", home);
	assert_int_equal(symlink("../other.db", path), 0);
	struct state *s = NULL;
	assert_true(state_open(&s, NULL) < 0);
	snprintf(path, sizeof(path), "%s/other.db", top);
	assert_int_equal(access(path, F_OK), -1);
}

static void a_home_that_is_no_folder_is_refused(void **state)
{
	int fd = open(home, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	char below[200];

	close(fd);
	assert_refused(-ENOTDIR, home);
	snprintf(below, sizeof(below), "%s/below", home);
	setenv("A3S_HOME", below, 1);
	assert_refused(-ENOTDIR, below);
}

static void a_home_of_another_user_is_refused_untouched(void **state)
{
	struct stat st;

	if (geteuid() != 0)
		skip();
	assert_int_equal(mkdir(home, 0755), 0);
	assert_int_equal(chown(home, NOBODY, NOBODY), 0);
	assert_refused(-EPERM, "another user");
	assert_int_equal(stat(home, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0755);
}

/* Opens in a child that permissions apply to. Returns state_open's result. */
static int open_without_privileges(void)
{
	int status;
	pid_t pid = fork();
	if (pid == 0) {
		struct state *s = NULL;
		struct err e = {0};
		if (geteuid() == 0 && setresuid(NOBODY, NOBODY, NOBODY) < 0)
			_exit(255);
		int r = state_open(&s, &e);
		state_close(s);
		_exit(r == 0 ? 0 : strstr(e.msg, home) ? -r : 254); /* the line names the folder */
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return -WEXITSTATUS(status);
}

static void own(const char *path)
{
	if (geteuid() == 0)
		assert_int_equal(chown(path, NOBODY, NOBODY), 0);
}

static void an_unreadable_or_unwritable_home_is_refused(void **state)
{
	own(top);
	assert_int_equal(mkdir(home, 0700), 0);
	own(home);
	assert_int_equal(chmod(home, 0), 0);
	assert_int_equal(open_without_privileges(), -EACCES);
	assert_int_equal(chmod(home, 0500), 0);
	assert_int_equal(open_without_privileges(), -EACCES);
	assert_int_equal(chmod(home, 0700), 0);
	assert_int_equal(open_without_privileges(), 0);
}

static void a_home_that_cannot_be_made_is_refused(void **state)
{
	own(top);
	assert_int_equal(chmod(top, 0500), 0);
	assert_int_equal(open_without_privileges(), -EACCES);
	assert_int_equal(chmod(top, 0700), 0);
}

/* Longer than the file system allows, and longer than the database library does. */
static void a_path_that_is_too_long_is_refused_for_that_reason(void **state)
{
	char long_path[6000];
	size_t n = strlen(top);

	memcpy(long_path, top, n);
	for (; n < sizeof(long_path) - 1; n++)
		long_path[n] = (n - strlen(top)) % 100 ? 'x' : '/';
	long_path[n] = '\0';
	setenv("A3S_HOME", long_path, 1);
	assert_refused(-ENAMETOOLONG, "File name too long");
	long_path[strlen(top) + 600] = '\0';
	setenv("A3S_HOME", long_path, 1);
	assert_refused(-ENAMETOOLONG, "File name too long");
	long_path[300] = '\0';
	setenv("A3S_HOME", long_path, 1);
	state_close(open_state());
}

/* ---- the database ---- */

static void put_db(const void *data, size_t len)
{
	char path[200];

	assert_int_equal(io_mkdir_p(home, 0700), 0);
	snprintf(path, sizeof(path), "%s/state.db", home);
	assert_int_equal(io_write_file_at(AT_FDCWD, path, data, len, 0600), 0);
}

static void a_file_that_is_no_database_is_refused_and_kept(void **state)
{
	char garbage[8192], *back = NULL, path[200];
	size_t len;

	memset(garbage, 'g', sizeof(garbage));
	put_db(garbage, sizeof(garbage));
	assert_refused(-EIO, "state database: ");
	snprintf(path, sizeof(path), "%s/state.db", home);
	assert_int_equal(io_read_file_at(AT_FDCWD, path, sizeof(garbage), &back, &len), 0);
	assert_memory_equal(back, garbage, sizeof(garbage));
	free(back);
}

static void a_damaged_database_is_an_error_and_no_crash(void **state)
{
	struct state *s = open_state();
	char *db = NULL, path[200];
	size_t len;
	struct err e = {0};

	sql(s, "CREATE TABLE t(a TEXT)");
	for (int i = 0; i < 300; i++)
		sql(s, "INSERT INTO t VALUES(hex(randomblob(200)))");
	sql(s, "PRAGMA wal_checkpoint(TRUNCATE)");
	state_close(s);
	snprintf(path, sizeof(path), "%s/state.db", home);
	assert_int_equal(io_read_file_at(AT_FDCWD, path, 1 << 22, &db, &len), 0);
	assert_true(len > 8192);
	memset(db + 4096, 0xee, len - 4096); /* all pages but the first */
	put_db(db, len);
	free(db);
	s = NULL;
	int r = state_open(&s, &e);
	if (r == 0)
		r = state_exec(s, &e, "UPDATE t SET a='x'", "");
	assert_true(r < 0);
	assert_non_null(strstr(e.msg, "state database: "));
	state_close(s);
}

static void a_database_of_a_newer_version_is_refused_with_a_hint(void **state)
{
	struct state *s = open_state();
	struct err e = {0};

	sql(s, "PRAGMA user_version=99");
	state_close(s);
	assert_refused(-EPROTO, "newer");
	assert_int_equal(state_open(&s, &e), -EPROTO);
	assert_true(e.hint[0]);
}

static void changes_survive_closing_and_are_durable_by_configuration(void **state)
{
	struct state *s = open_state();

	sql(s, "CREATE TABLE t(a)");
	sql(s, "INSERT INTO t VALUES(42)");
	assert_int_equal(number(s, "PRAGMA synchronous"), 2); /* FULL */
	assert_int_equal(number(s, "PRAGMA foreign_keys"), 1);
	assert_int_equal(number(s, "PRAGMA trusted_schema"), 0);
	assert_int_equal(number(s, "SELECT count(*) FROM pragma_journal_mode WHERE journal_mode='wal'"), 1);
	state_close(s);
	s = open_state();
	assert_int_equal(number(s, "SELECT a FROM t"), 42);
	state_close(s);
}

static off_t log_size(void)
{
	char path[200];
	struct stat st;

	snprintf(path, sizeof(path), "%s/state.db-wal", home);
	assert_int_equal(stat(path, &st), 0);
	return st.st_size;
}

static void a_long_log_is_folded_back_by_the_last_one(void **state)
{
	struct state *s = open_state(), *other = open_state();

	sql(s, "CREATE TABLE t(a TEXT)");
	/* One transaction, read by another connection from before it: neither can the log begin anew meanwhile. */
	sql(other, "BEGIN");
	assert_int_equal(number(other, "SELECT count(*) FROM t"), 0);
	sql(s, "INSERT INTO t WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)"
	       " SELECT hex(randomblob(2000)) FROM n");
	state_close(s);
	assert_true(log_size() > 2 << 20);
	sql(other, "COMMIT");
	state_close(other);
	assert_int_equal(log_size(), 0);
	s = open_state();
	assert_int_equal(number(s, "SELECT count(*) FROM t"), 1000);
	state_close(s);
}

static void values_are_bound_by_type(void **state)
{
	struct state *s = open_state();
	CLEANUP(stmt_done) sqlite3_stmt *st = NULL;
	struct err e = {0};

	sql(s, "CREATE TABLE t(a, b, c, d)");
	assert_int_equal(state_exec(s, &e, "INSERT INTO t VALUES(?,?,?,?)", "ssiu", "it's; DROP TABLE t",
				 NULL, (int64_t)-3, (uint64_t)7),
		0);
	assert_int_equal(state_prepare(s, &st, &e, "SELECT a,b,c,d FROM t WHERE c=?1", "i", (int64_t)-3), 0);
	assert_int_equal(state_step(s, st, &e), 1);
	char *a = state_column_dup(st, 0), *b = state_column_dup(st, 1);
	assert_string_equal(a, "it's; DROP TABLE t");
	assert_null(b);
	assert_int_equal(sqlite3_column_int64(st, 2), -3);
	assert_int_equal(sqlite3_column_int64(st, 3), 7);
	assert_int_equal(state_step(s, st, &e), 0);
	free(a);
	stmt_done(&st);
	st = NULL;
	state_close(s);
}

static void a_violated_constraint_is_told_apart(void **state)
{
	struct state *s = open_state();
	struct err e = {0};

	sql(s, "CREATE TABLE t(a UNIQUE)");
	sql(s, "INSERT INTO t VALUES(1)");
	assert_int_equal(state_exec(s, &e, "INSERT INTO t VALUES(?)", "i", (int64_t)1), -EEXIST);
	assert_true(state_exec(s, &e, "INSERT INTO absent VALUES(1)", "") < 0);
	assert_non_null(strstr(e.msg, "absent"));
	state_close(s);
}

/* ---- transactions ---- */

static void only_a_lax_change_does_not_wait_for_the_disk(void **state)
{
	enum { NORMAL = 1, FULL = 2 };
	struct state *s = open_state();
	struct err e = {0};

	sql(s, "CREATE TABLE t(a)");
	for (int result = 0; result >= -1; result--) {
		assert_int_equal(state_begin_lax(s, &e), 0);
		assert_int_equal(number(s, "PRAGMA synchronous"), NORMAL);
		assert_int_equal(state_begin_lax(s, &e), 0);
		sql(s, "INSERT INTO t VALUES(1)");
		assert_int_equal(state_end(s, 0, &e), 0);
		assert_int_equal(number(s, "PRAGMA synchronous"), NORMAL);
		assert_int_equal(state_end(s, result ? -EPERM : 0, &e), result ? -EPERM : 0);
		assert_int_equal(number(s, "PRAGMA synchronous"), FULL);
		assert_int_equal(number(s, "SELECT count(*) FROM t"), 1);
	}
	assert_int_equal(state_begin(s, &e), 0); /* within another one it is part of that */
	assert_int_equal(state_begin_lax(s, &e), 0);
	assert_int_equal(number(s, "PRAGMA synchronous"), FULL);
	assert_int_equal(state_end(s, 0, &e), 0);
	assert_int_equal(state_end(s, 0, &e), 0);
	state_close(s);
}

static void only_the_outermost_end_decides(void **state)
{
	struct state *s = open_state();
	struct err e = {0};

	sql(s, "CREATE TABLE t(a)");
	for (int outer = 0; outer >= -1; outer--) {
		assert_int_equal(state_begin(s, &e), 0);
		sql(s, "INSERT INTO t VALUES(1)");
		assert_int_equal(state_begin(s, &e), 0);
		assert_int_equal(state_begin(s, &e), 0);
		sql(s, "INSERT INTO t VALUES(2)");
		assert_int_equal(state_end(s, 5, &e), 5); /* the value passes through */
		assert_int_equal(state_end(s, -EIO, &e), -EIO);
		assert_int_equal(
			number(s, "SELECT count(*) FROM t"), outer ? 4 : 2); /* nothing is decided yet */
		assert_int_equal(state_end(s, outer ? -EPERM : 0, &e), outer ? -EPERM : 0);
		assert_int_equal(s->tx_depth, 0);
		assert_int_equal(number(s, "SELECT count(*) FROM t"), 2);
	}
	state_close(s);
}

static void a_failed_change_rolls_all_of_it_back(void **state)
{
	struct state *s = open_state();
	struct err e = {0};

	sql(s, "CREATE TABLE t(a UNIQUE)");
	assert_int_equal(state_begin(s, &e), 0);
	sql(s, "INSERT INTO t VALUES(1)");
	int r = state_exec(s, &e, "INSERT INTO t VALUES(1)", "");
	assert_int_equal(r, -EEXIST);
	assert_int_equal(state_end(s, r, &e), -EEXIST);
	assert_int_equal(number(s, "SELECT count(*) FROM t"), 0);
	assert_int_equal(state_begin(s, &e), 0); /* and the next one works */
	sql(s, "INSERT INTO t VALUES(1)");
	assert_int_equal(state_end(s, 0, &e), 0);
	state_close(s);
}

static void a_change_that_is_not_ended_is_not_made(void **state)
{
	struct state *s = open_state(), *other = open_state();

	sql(s, "CREATE TABLE t(a)");
	assert_int_equal(state_begin(s, NULL), 0);
	sql(s, "INSERT INTO t VALUES(1)");
	assert_int_equal(number(other, "SELECT count(*) FROM t"), 0); /* nobody else sees it */
	state_close(s);
	assert_int_equal(number(other, "SELECT count(*) FROM t"), 0);
	state_close(other);
}

static void two_writers_take_turns(void **state)
{
	struct state *s = open_state();
	int status;

	sql(s, "CREATE TABLE t(n INTEGER)");
	sql(s, "INSERT INTO t VALUES(0)");
	pid_t pids[4];
	for (int p = 0; p < 4; p++) {
		pids[p] = fork();
		if (pids[p] == 0) {
			struct state *own_state = NULL;
			int r = state_open(&own_state, NULL);
			for (int i = 0; r == 0 && i < 25; i++) {
				r = state_begin(own_state, NULL);
				if (r == 0)
					r = state_end(own_state,
						state_exec(own_state, NULL, "UPDATE t SET n=n+1", ""), NULL);
			}
			_exit(r < 0);
		}
	}
	for (int p = 0; p < 4; p++) {
		assert_int_equal(waitpid(pids[p], &status, 0), pids[p]);
		assert_int_equal(status, 0);
	}
	assert_int_equal(number(s, "SELECT n FROM t"), 100);
	state_close(s);
}

/* The first commands on a machine may well be several at once. */
static void a_fresh_home_can_be_opened_by_many_at_once(void **state)
{
	enum { MANY = 8, ROUNDS = 10 };

	for (int round = 0; round < ROUNDS; round++) {
		pid_t pids[MANY];
		int go[2], status;
		snprintf(home, sizeof(home), "%s/home-%d", top, round);
		setenv("A3S_HOME", home, 1);
		assert_int_equal(pipe2(go, O_CLOEXEC), 0);
		for (int p = 0; p < MANY; p++) {
			pids[p] = fork();
			if (pids[p] == 0) {
				struct state *s = NULL;
				struct err e = {0};
				char c;
				close(go[1]);
				if (read(go[0], &c, 1) < 0)
					_exit(2);
				int r = state_open(&s, &e);
				if (r == 0)
					r = state_exec(s, &e, "CREATE TABLE IF NOT EXISTS t(a)", "");
				if (r < 0)
					print_message("# %s\n", e.msg);
				_exit(r < 0);
			}
		}
		close(go[0]);
		close(go[1]); /* all start together */
		int failed = 0;
		for (int p = 0; p < MANY; p++) {
			assert_int_equal(waitpid(pids[p], &status, 0), pids[p]);
			failed += status != 0;
		}
		assert_int_equal(failed, 0);
	}
}

/* ---- kill -9 ---- */

/* Each transaction rewrites all rows with one new number; half of them fail on purpose. For ever. */
static void rewrite_for_ever(int ready)
{
	struct state *s = NULL;

	if (state_open(&s, NULL) < 0)
		_exit(1);
	if (write(ready, "x", 1) != 1)
		_exit(1);
	for (int64_t n = number(s, "SELECT max(n) FROM t") + 1;; n++) {
		if (state_begin(s, NULL) < 0)
			_exit(1);
		for (int64_t id = 0; id < ROWS; id++) {
			if (state_exec(s, NULL, "UPDATE t SET n=?1, pad=hex(randomblob(?3)) WHERE id=?2",
				    "iii", n, id, n % 700) < 0)
				_exit(1);
		}
		if (state_exec(s, NULL, "INSERT INTO log VALUES(?1)", "i", n) < 0)
			_exit(1);
		state_end(s, n % 2 ? 0 : -EIO, NULL);
	}
}

static void a_process_killed_in_the_middle_leaves_a_consistent_database(void **state)
{
	const char *given = getenv("A3S_TEST_SEED");
	unsigned seed = given ? (unsigned)strtoul(given, NULL, 10) : (unsigned)time_mono_ns();
	struct state *s = open_state();
	int64_t last = 0;

	print_message("# A3S_TEST_SEED=%u\n", seed);
	sql(s, "CREATE TABLE t(id INTEGER PRIMARY KEY, n INTEGER, pad TEXT)");
	sql(s, "CREATE TABLE log(n INTEGER)");
	for (int i = 0; i < ROWS; i++)
		assert_int_equal(state_exec(s, NULL, "INSERT INTO t VALUES(?,0,'')", "i", (int64_t)i), 0);
	state_close(s);

	for (int round = 0; round < KILLS; round++) {
		int ready[2], status;
		char c;
		assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
		pid_t pid = fork();
		if (pid == 0)
			rewrite_for_ever(ready[1]);
		close(ready[1]);
		assert_int_equal(read(ready[0], &c, 1), 1);
		close(ready[0]);
		seed = seed * 1664525 + 1013904223;
		nanosleep(&(struct timespec){.tv_nsec = (seed >> 8) % 40000000}, NULL);
		assert_int_equal(kill(pid, SIGKILL), 0);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status));

		s = open_state();
		int64_t n = number(s, "SELECT max(n) FROM t");
		assert_int_equal(number(s, "SELECT count(*) FROM t"), ROWS);
		assert_int_equal(number(s, "SELECT min(n) FROM t"), n); /* all rows of one transaction */
		assert_true(n >= last);
		assert_int_equal(number(s, "SELECT count(*) FROM log WHERE n % 2 = 0"), 0);
		assert_int_equal(number(s, "SELECT count(*) FROM log"), (n + 1) / 2);
		assert_int_equal(
			number(s, "SELECT count(*) FROM pragma_integrity_check WHERE integrity_check='ok'"),
			1);
		last = n;
		state_close(s);
	}
	assert_true(last > 0); /* the kills did meet work */
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_missing_home_is_made_private),
		TEST(a_home_open_to_others_is_made_private),
		TEST(the_home_may_be_given_relative_to_the_current_folder),
		TEST(without_a3s_home_it_is_in_the_users_home),
		TEST(the_home_may_lie_behind_a_link),
		TEST(a_database_that_is_a_link_is_refused),
		TEST(a_home_that_is_no_folder_is_refused),
		TEST(a_home_of_another_user_is_refused_untouched),
		TEST(an_unreadable_or_unwritable_home_is_refused),
		TEST(a_home_that_cannot_be_made_is_refused),
		TEST(a_path_that_is_too_long_is_refused_for_that_reason),
		TEST(a_file_that_is_no_database_is_refused_and_kept),
		TEST(a_damaged_database_is_an_error_and_no_crash),
		TEST(a_database_of_a_newer_version_is_refused_with_a_hint),
		TEST(a_long_log_is_folded_back_by_the_last_one),
		TEST(changes_survive_closing_and_are_durable_by_configuration),
		TEST(values_are_bound_by_type),
		TEST(a_violated_constraint_is_told_apart),
		TEST(only_a_lax_change_does_not_wait_for_the_disk),
		TEST(only_the_outermost_end_decides),
		TEST(a_failed_change_rolls_all_of_it_back),
		TEST(a_change_that_is_not_ended_is_not_made),
		TEST(two_writers_take_turns),
		TEST(a_fresh_home_can_be_opened_by_many_at_once),
		TEST(a_process_killed_in_the_middle_leaves_a_consistent_database),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
