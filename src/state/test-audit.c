/* SPDX-License-Identifier: MIT */
/* The audit log's files: order, rotation, torn lines, several writers at once. */
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "base/io.h"
#include "state/audit.h"

static char top[128];
static int home = -1;
static struct err err;

static int set_up(void **state)
{
	const char *base = getenv("A3S_TEST_DIR");

	snprintf(top, sizeof(top), "%s/test-audit-XXXXXX", base ? base : "/tmp");
	if (!mkdtemp(top))
		return -1;
	home = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return home < 0;
}

static int tear_down(void **state)
{
	close_fd(&home);
	return io_remove_tree_at(AT_FDCWD, top);
}

struct seen {
	char text[256];
	size_t n, stop_at;
	size_t by_writer[8];
};

static int note(const char *line, void *data)
{
	struct seen *s = data;
	size_t used = strlen(s->text);

	snprintf(s->text + used, sizeof(s->text) - used, "%.20s|", line);
	if (line[0] == 'w')
		s->by_writer[line[1] - '0']++;
	return ++s->n == s->stop_at;
}

static void add_raw(const char *name, const char *text)
{
	CLEANUP_CLOSE int fd = openat(home, name, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(io_write_full(fd, text, strlen(text)), 0);
}

static void test_order(void **state)
{
	struct seen s = {0}, two = {.stop_at = 2};

	assert_int_equal(audit_read(home, note, &s, &err), 0); /* none yet, and none is made */
	assert_int_equal(faccessat(home, "audit", F_OK, 0), -1);
	assert_int_equal(audit_append(home, "one", &err), 0);
	assert_int_equal(audit_append(home, "two", &err), 0);
	assert_int_equal(audit_append(home, "three", &err), 0);
	assert_int_equal(audit_read(home, note, &s, &err), 0);
	assert_string_equal(s.text, "three|two|one|");
	assert_int_equal(audit_read(home, note, &two, &err), 1);
	assert_string_equal(two.text, "three|two|");
}

static void test_torn(void **state)
{
	struct seen s = {0};

	add_raw("audit/audit.log", "{\"torn");
	assert_int_equal(audit_append(home, "next", &err), 0);
	add_raw("audit/audit.log", "\n\nend");
	assert_int_equal(audit_read(home, note, &s, &err), 0);
	assert_string_equal(s.text, "end|next|{\"torn|three|two|one|");
}

static void test_bad(void **state)
{
	char *longest = malloc(AUDIT_LINE_MAX + 2);

	memset(longest, 'x', AUDIT_LINE_MAX + 1);
	longest[AUDIT_LINE_MAX + 1] = '\0';
	assert_int_equal(audit_append(home, longest, &err), -EMSGSIZE);
	free(longest);
	assert_int_equal(unlinkat(home, "audit/audit.log", 0), 0);
	assert_int_equal(symlinkat("/dev/null", home, "audit/audit.log"), 0);
	assert_int_equal(audit_append(home, "x", &err), -ELOOP);
	assert_int_equal(unlinkat(home, "audit/audit.log", 0), 0);
	assert_int_equal(mkfifoat(home, "audit/audit.log", 0600), 0);
	assert_int_equal(audit_append(home, "x", &err), -EINVAL);
	assert_int_equal(unlinkat(home, "audit/audit.log", 0), 0);
}

static void grow(off_t size)
{
	CLEANUP_CLOSE int fd = openat(home, "audit/audit.log", O_RDWR | O_CLOEXEC);
	assert_int_equal(ftruncate(fd, size - 1), 0); /* a hole: one long line that readers pass over */
	assert_int_equal(io_pwrite_full(fd, "\n", 1, size - 1), 0);
}

static void test_rotation(void **state)
{
	struct seen s = {0};
	struct stat sb;
	char line[16];

	for (int i = 0; i < AUDIT_FILES + 2; i++) {
		snprintf(line, sizeof(line), "r%d", i);
		assert_int_equal(audit_append(home, line, &err), 0);
		grow(AUDIT_FILE_MAX);
	}
	assert_int_equal(audit_append(home, "last", &err), 0);
	assert_int_equal(audit_read(home, note, &s, &err), 0);
	/* The file with "last", and four older ones; a line of zeros is an empty one. */
	assert_int_equal(strncmp(s.text, "last|", 5), 0);
	assert_int_equal(fstatat(home, "audit/audit.log.4", &sb, 0), 0);
	assert_int_equal(fstatat(home, "audit/audit.log.5", &sb, 0), -1);
	assert_int_equal(fstatat(home, "audit/audit.log", &sb, 0), 0);
	assert_int_equal(sb.st_size, 5);
}

enum { WRITERS = 4, EACH = 200 };

static void test_writers(void **state)
{
	struct seen s = {0};
	int status;

	io_remove_tree_at(home, "audit");
	for (int i = 0; i < WRITERS; i++) {
		pid_t pid = fork();
		assert_true(pid >= 0);
		if (pid == 0) {
			char line[32];
			for (int k = 0; k < EACH; k++) {
				snprintf(line, sizeof(line), "w%d %d", i, k);
				if (audit_append(home, line, NULL) < 0)
					_exit(1);
			}
			_exit(0);
		}
	}
	for (int i = 0; i < WRITERS; i++) {
		assert_true(wait(&status) > 0);
		assert_int_equal(status, 0);
	}
	assert_int_equal(audit_read(home, note, &s, &err), 0);
	assert_int_equal(s.n, WRITERS * EACH);
	for (int i = 0; i < WRITERS; i++)
		assert_int_equal(s.by_writer[i], EACH);
}

/* ---- commands that are killed ---- */

enum death { AT_ONCE, LATER, WITH_ENTRY, LIVES };

static size_t n_begun(void)
{
	size_t n = 0;
	int fd = openat(home, "audit/begun", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fdopendir(fd);

	assert_non_null(d);
	for (struct dirent *de; (de = readdir(d));)
		n += de->d_name[0] != '.';
	closedir(d);
	return n;
}

/* A command that is killed at some moment of its life. */
static void die(enum death when)
{
	struct audit_begun b;
	json_t *entry = audit_entry_new("test");

	if (audit_begun_new(home, entry, &b) < 0)
		_exit(1);
	if (when >= LATER) {
		audit_begun_about(&b, "boxes", json_pack("{s:s, s:s}", "id", "42", "name", "box"));
		audit_begun_about(&b, "images", json_string("sha256:1"));
	}
	if (when >= WITH_ENTRY)
		audit_entry_write(home, entry, "success", NULL, "", NULL);
	if (when == LIVES)
		audit_begun_end(&b);
	raise(SIGKILL);
}

static void run_to_death(enum death when)
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0)
		die(when);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
}

struct last {
	char text[512];
	size_t n;
};

static int keep_last(const char *line, void *data)
{
	struct last *l = data;

	if (l->n++ == 0)
		snprintf(l->text, sizeof(l->text), "%s", line);
	return 0;
}

static struct last read_last(void)
{
	struct last l = {0};

	assert_int_equal(audit_repair(home, &err), 0);
	assert_int_equal(n_begun(), 0);
	assert_int_equal(audit_read(home, keep_last, &l, &err), 0);
	return l;
}

static void test_killed(void **state)
{
	struct last l;

	io_remove_tree_at(home, "audit");
	run_to_death(AT_ONCE);
	assert_int_equal(n_begun(), 1);
	l = read_last();
	assert_int_equal(l.n, 1);
	assert_non_null(
		strstr(l.text, "\"boxes\":[],\"images\":[],\"outcome\":\"interrupted\",\"status\":null"));
	run_to_death(LATER);
	l = read_last();
	assert_int_equal(l.n, 2);
	assert_non_null(
		strstr(l.text, "\"boxes\":[{\"id\":\"42\",\"name\":\"box\"}],\"images\":[\"sha256:1\"],"
			       "\"outcome\":\"interrupted\""));
	run_to_death(WITH_ENTRY);
	assert_int_equal(n_begun(), 1);
	l = read_last();
	assert_int_equal(l.n, 3);
	assert_non_null(strstr(l.text, "\"outcome\":\"success\""));
	run_to_death(LIVES);
	assert_int_equal(n_begun(), 0);
	assert_int_equal(read_last().n, 4);
}

static void test_torn_beginnings(void **state)
{
	struct audit_begun b;

	io_remove_tree_at(home, "audit");
	assert_int_equal(audit_repair(home, &err), 0); /* there is nothing */
	run_to_death(LATER);
	read_last();
	add_raw("audit/begun/1", "");
	add_raw("audit/begun/2", "{\"time\":\"x\"");
	add_raw("audit/begun/3", "[]\n{\"boxes\":1}\n");
	add_raw("audit/begun/4", "{\"time\":\"y\",\"user\":{}}\n{\"boxes\":1}\n{\"boxes\":");
	struct last l = read_last();
	assert_int_equal(l.n, 2);
	assert_non_null(strstr(l.text, "\"time\":\"y\""));
	/* That of a command that lives stays. */
	json_t *entry = audit_entry_new("test");
	assert_int_equal(audit_begun_new(home, entry, &b), 0);
	assert_int_equal(audit_repair(home, &err), 0);
	assert_int_equal(n_begun(), 1);
	audit_begun_end(&b);
	json_decref(entry);
	assert_int_equal(read_last().n, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_torn),
		cmocka_unit_test(test_bad),
		cmocka_unit_test(test_rotation),
		cmocka_unit_test(test_writers),
		cmocka_unit_test(test_killed),
		cmocka_unit_test(test_torn_beginnings),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
