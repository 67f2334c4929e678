/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>

#include "base/io.h"
#include "process.h"

static void test_env_defaults(void **state)
{
	struct strv env = {0};

	assert_int_equal(process_env(&env, true, "box", "/root"), 0);
	assert_string_equal(strv_getenv(&env, "PATH"), PROCESS_PATH_DEFAULT);
	assert_string_equal(strv_getenv(&env, "HOSTNAME"), "box");
	assert_string_equal(strv_getenv(&env, "TERM"), "xterm");
	assert_string_equal(strv_getenv(&env, "HOME"), "/root");
	strv_done(&env);
	assert_int_equal(process_env(&env, false, "", "/"), 0);
	assert_null(strv_getenv(&env, "TERM"));
	assert_null(strv_getenv(&env, "HOSTNAME"));
	strv_done(&env);
}

static void test_env_kept(void **state)
{
	struct strv env = {0};

	assert_int_equal(strv_push(&env, "PATH="), 0);
	assert_int_equal(strv_push(&env, "HOME=/mine"), 0);
	assert_int_equal(strv_push(&env, "TERM=dumb"), 0);
	assert_int_equal(strv_push(&env, "HOSTNAME=other"), 0);
	assert_int_equal(process_env(&env, true, "box", "/root"), 0);
	assert_int_equal(env.n, 4);
	assert_string_equal(strv_getenv(&env, "PATH"), "");
	assert_string_equal(strv_getenv(&env, "HOME"), "/mine");
	assert_string_equal(strv_getenv(&env, "TERM"), "dumb");
	assert_string_equal(strv_getenv(&env, "HOSTNAME"), "other");
	strv_done(&env);
}

static void test_path(void **state)
{
	const char *path = "/a::/b/c:";
	char out[16];

	assert_int_equal(process_path_next(&path, "ls", out, sizeof(out)), 1);
	assert_string_equal(out, "/a/ls");
	assert_int_equal(process_path_next(&path, "ls", out, sizeof(out)), 1);
	assert_string_equal(out, "./ls");
	assert_int_equal(process_path_next(&path, "ls", out, sizeof(out)), 1);
	assert_string_equal(out, "/b/c/ls");
	assert_int_equal(process_path_next(&path, "ls", out, sizeof(out)), 1);
	assert_string_equal(out, "./ls");
	assert_int_equal(process_path_next(&path, "ls", out, sizeof(out)), 0);
	path = "/a-folder-that-is-long:/b";
	assert_int_equal(process_path_next(&path, "ls", out, sizeof(out)), -ENAMETOOLONG);
	assert_int_equal(process_path_next(&path, "ls", out, sizeof(out)), 1);
	assert_string_equal(out, "/b/ls");
}

static uint32_t try_exec(const char *name, const char *path_env, char *why, size_t size)
{
	struct strv argv = {0}, env = {0};
	uint32_t status;

	assert_int_equal(strv_push(&argv, name), 0);
	assert_int_equal(strv_push(&env, path_env), 0);
	status = process_exec(&argv, &env, why, size);
	strv_done(&argv);
	strv_done(&env);
	return status;
}

/* Only failures: a success would replace the test. */
static void test_exec_errors(void **state)
{
	char dir[] = "/tmp/guest-process-XXXXXX", path[PATH_MAX], file[PATH_MAX], why[512];
	int fd;

	assert_non_null(mkdtemp(dir));
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(io_write_file_at(fd, "data", "x", 1, 0644), 0);
	assert_int_equal(io_write_file_at(fd, "odd", "\1\2\3\4", 4, 0755), 0);
	assert_int_equal(mkdirat(fd, "folder", 0755), 0);
	snprintf(path, sizeof(path), "PATH=/nonexistent:%s", dir);

	assert_int_equal(try_exec("nothing", path, why, sizeof(why)), 127);
	assert_string_equal(why, "exec: \"nothing\": executable file not found in $PATH");
	assert_int_equal(try_exec("", path, why, sizeof(why)), 127);
	assert_int_equal(try_exec("/nonexistent/x", path, why, sizeof(why)), 127);
	assert_string_equal(why, "exec: \"/nonexistent/x\": no such file or directory");
	assert_int_equal(try_exec("data", path, why, sizeof(why)), 126);
	assert_string_equal(why, "exec: \"data\": permission denied");
	assert_int_equal(try_exec("folder", path, why, sizeof(why)), 126);
	assert_int_equal(try_exec("odd", path, why, sizeof(why)), 126);
	assert_string_equal(why, "exec: \"odd\": exec format error");
	snprintf(file, sizeof(file), "%.64s/data", dir);
	assert_int_equal(try_exec(file, path, why, sizeof(why)), 126);
	close(fd);
	assert_int_equal(io_remove_tree_at(AT_FDCWD, dir), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_env_defaults),
		cmocka_unit_test(test_env_kept),
		cmocka_unit_test(test_path),
		cmocka_unit_test(test_exec_errors),
	};

	return cmocka_run_group_tests_name("guest-process", tests, NULL, NULL);
}
