/* SPDX-License-Identifier: MIT */
/* Later states of the box's /etc/hosts and /etc/resolv.conf, and what the box wrote into them meanwhile. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/io.h"
#include "names.h"

static char folder[64], path[96], kept[96];

static int setup(void **state)
{
	snprintf(folder, sizeof(folder), "/tmp/a3s-test-names-XXXXXX");
	assert_non_null(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/hosts", folder);
	snprintf(kept, sizeof(kept), "%s/kept-hosts", folder);
	return 0;
}

static int teardown(void **state)
{
	io_remove_tree_at(AT_FDCWD, folder);
	return 0;
}

static void put(const char *file, const char *text)
{
	CLEANUP_CLOSE int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(io_write_full(fd, text, strlen(text)), 0);
}

static void check(const char *file, const char *text)
{
	CLEANUP_FREE char *content = NULL;

	assert_int_equal(io_read_file_at(AT_FDCWD, file, 1 << 20, &content, NULL), 0);
	assert_string_equal(content, text);
}

static void rewrite(const char *text, enum names_rule rule)
{
	assert_int_equal(names_rewrite(path, kept, text, strlen(text), rule), 0);
}

static void test_by_line(void **state)
{
	struct stat before, after;

	put(path, "a\nb\nc\n");
	put(kept, "a\nb\nc\n");
	assert_int_equal(stat(path, &before), 0);
	rewrite("a\nd\n", NAMES_BY_LINE);
	check(path, "a\nd\n");
	check(kept, "a\nd\n");
	/* The box has a mount of this very file. */
	assert_int_equal(stat(path, &after), 0);
	assert_true(before.st_ino == after.st_ino);

	/* What the box has added stays where it is, and what it has removed does not come back. */
	put(path, "mine\nd\nmine too");
	rewrite("a\nd\ne\n", NAMES_BY_LINE);
	check(path, "mine\nd\nmine too\ne\n");
	rewrite("a\n", NAMES_BY_LINE);
	check(path, "mine\nmine too\n");
	rewrite("a\n", NAMES_BY_LINE);
	check(path, "mine\nmine too\n");
	put(path, "");
	rewrite("a\nb\n", NAMES_BY_LINE);
	check(path, "b\n");
}

static void test_unless_changed(void **state)
{
	put(path, "nameserver 1\n");
	put(kept, "nameserver 1\n");
	rewrite("nameserver 2\n", NAMES_UNLESS_CHANGED);
	check(path, "nameserver 2\n");
	put(path, "nameserver 9\n");
	rewrite("nameserver 3\n", NAMES_UNLESS_CHANGED);
	check(path, "nameserver 9\n");
	/* Without one of ours the file is the image's. */
	assert_int_equal(unlink(kept), 0);
	put(path, "image\n");
	rewrite("nameserver 3\n", NAMES_UNLESS_CHANGED);
	check(path, "image\n");
}

static void test_hosts(void **state)
{
	CLEANUP(buf_done) struct buf b = {0};
	CLEANUP(strv_done) struct strv lines = {0};

	assert_int_equal(strv_push(&lines, "10.0.0.1\tx"), 0);
	assert_int_equal(names_hosts(&b, &lines), 0);
	assert_int_equal(buf_append(&b, "", 1), 0);
	assert_int_equal(strncmp((char *)buf_data(&b), "127.0.0.1\tlocalhost\n", 20), 0);
	assert_non_null(strstr((char *)buf_data(&b), "\n10.0.0.1\tx\n"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_by_line, setup, teardown),
		cmocka_unit_test_setup_teardown(test_unless_changed, setup, teardown),
		cmocka_unit_test(test_hosts),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
