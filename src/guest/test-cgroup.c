/* SPDX-License-Identifier: MIT */
/* Limits of the box, on a folder of plain files in place of a cgroup. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/io.h"
#include "cgroup.h"

static char folder[64];
static int cgroup = -1;

static void put(const char *name, const char *text)
{
	CLEANUP_CLOSE int fd = openat(cgroup, name, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(io_write_full(fd, text, strlen(text)), 0);
}

static void assert_file(const char *name, const char *want)
{
	char *text = NULL;

	assert_int_equal(io_read_file_at(cgroup, name, 4096, &text, NULL), 0);
	text[strcspn(text, "\n")] = '\0';
	assert_string_equal(text, want);
	free(text);
}

static int setup(void **state)
{
	snprintf(folder, sizeof(folder), "/tmp/a3s-test-cgroup-XXXXXX");
	assert_non_null(mkdtemp(folder));
	cgroup = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
	put("cpu.weight", "100\n");
	put("cpu.max", "max 100000\n");
	put("pids.max", "max\n");
	put("memory.swap.max", "max\n");
	put("memory.low", "0\n");
	put("memory.max", "1000000\n");
	put("memory.current", "5000\n");
	return 0;
}

static int teardown(void **state)
{
	close_fd(&cgroup);
	io_remove_tree_at(AT_FDCWD, folder);
	return 0;
}

static void test_weight(void **state)
{
	static const struct {
		uint64_t shares;
		unsigned int weight;
	} known[] = {{0, 1}, {2, 1}, {3, 2}, {100, 17}, {512, 59}, {1024, 100}, {2048, 174}, {262144, 10000},
		{UINT64_MAX, 10000}};

	for (size_t i = 0; i < ARRAY_LEN(known); i++)
		assert_int_equal(cgroup_cpu_weight(known[i].shares), known[i].weight);
}

static void test_reserve(void **state)
{
	assert_true(cgroup_guest_memory(100ull << 20) == 92ull << 20);
	assert_true(cgroup_guest_memory(1024ull << 20) == 992ull << 20);
	assert_true(cgroup_guest_memory(64ull << 30) == (64ull << 30) - (64ull << 20));
	assert_true(cgroup_guest_memory(10ull << 20) == 5ull << 20);
	assert_true(cgroup_guest_memory(0) == 0);
}

/* A limit of processes leaves some to PID 1; what is not known limits nothing. */
static void test_processes(void **state)
{
	const struct wire_limits none = {.swap_max = UINT64_MAX},
				 much = {.swap_max = UINT64_MAX, .pids_max = 5000},
				 few = {.swap_max = UINT64_MAX, .pids_max = 20};
	char why[256];

	assert_int_equal(cgroup_guest_pids(cgroup), 0);
	assert_int_equal(mkdirat(cgroup, "sys", 0700), 0);
	assert_int_equal(mkdirat(cgroup, "sys/kernel", 0700), 0);
	put("sys/kernel/threads-max", "1000\n");
	put("sys/kernel/pid_max", "32768\n");
	assert_int_equal(cgroup_guest_pids(cgroup), 872);
	assert_int_equal(cgroup_limit(cgroup, cgroup, &none, false, why, sizeof(why)), 0);
	assert_file("pids.max", "872");
	assert_int_equal(cgroup_limit(cgroup, cgroup, &few, false, why, sizeof(why)), 0);
	assert_file("pids.max", "20");
	assert_int_equal(cgroup_limit(cgroup, cgroup, &much, false, why, sizeof(why)), 0);
	assert_file("pids.max", "872");
	put("sys/kernel/pid_max", "100\n");
	assert_int_equal(cgroup_guest_pids(cgroup), 50);
}

static const struct cgroup_guest guest = {.mem_bytes = 100 << 20, .cpus = 4};

static void test_refused(void **state)
{
	char three[] = "3", all[] = "0-3", list[] = "0,2-3", four[] = "4", range[] = "0-4", back[] = "3-1",
	     word[] = "a", comma[] = "1,", dash[] = "1-", newline[] = "1\n", big[] = "99999999999999999999";
	char *good[] = {three, all, list, NULL},
	     *bad[] = {four, range, back, word, comma, dash, newline, big};
	const struct wire_limits wrong[] = {{.cpu_shares = 1}, {.cpu_shares = 262145}, {.cpu_quota_us = 999},
		{.cpu_quota_us = UINT64_MAX}, {.cpu_period_us = 999}, {.cpu_period_us = 1000001},
		{.pids_max = 4194305}, {.pids_max = UINT64_MAX}, {.mem_max = 1000, .mem_reservation = 1001}};
	const struct wire_limits right[] = {{0}, {.cpu_shares = 2}, {.cpu_shares = 262144},
		{.cpu_quota_us = 1000, .cpu_period_us = 1000}, {.cpu_period_us = 1000000},
		{.pids_max = 4194304}, {.mem_max = 1000, .mem_reservation = 1000},
		{.mem_reservation = UINT64_MAX}, {.mem_max = UINT64_MAX, .swap_max = UINT64_MAX}};
	char why[256];

	for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
		why[0] = '\0';
		assert_int_equal(cgroup_check(&wrong[i], &guest, why, sizeof(why)), -EINVAL);
		assert_true(why[0]);
	}
	for (size_t i = 0; i < ARRAY_LEN(right); i++)
		assert_int_equal(cgroup_check(&right[i], &guest, why, sizeof(why)), 0);
	for (size_t i = 0; i < ARRAY_LEN(good); i++)
		assert_int_equal(
			cgroup_check(&(struct wire_limits){.cpuset = good[i]}, &guest, why, sizeof(why)), 0);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(
			cgroup_check(&(struct wire_limits){.cpuset = bad[i]}, &guest, why, sizeof(why)),
			-EINVAL);
}

static const struct wire_limits some = {.cpu_shares = 512,
	.cpu_quota_us = 50000,
	.mem_max = 500000,
	.mem_reservation = 400000,
	.swap_max = 7,
	.pids_max = 33};

static void assert_some(void)
{
	assert_file("cpu.weight", "59");
	assert_file("cpu.max", "50000 100000");
	assert_file("pids.max", "33");
	assert_file("memory.swap.max", "7");
	assert_file("memory.low", "400000");
	assert_file("memory.max", "500000");
}

static void test_applied_and_taken_back(void **state)
{
	const struct wire_limits none = {.swap_max = UINT64_MAX};
	char why[256], *max = NULL;

	assert_int_equal(cgroup_limit(cgroup, -1, &some, false, why, sizeof(why)), 0);
	assert_some();
	assert_int_equal(cgroup_limit(cgroup, -1, &none, false, why, sizeof(why)), 0);
	assert_file("cpu.weight", "100");
	assert_file("cpu.max", "max 100000");
	assert_file("pids.max", "max");
	assert_file("memory.swap.max", "max");
	assert_file("memory.low", "0");
	/* Never "max": what PID 1 needs is not the box's. */
	assert_int_equal(io_read_file_at(cgroup, "memory.max", 100, &max, NULL), 0);
	assert_true(strtoull(max, NULL, 10) > 8 << 20);
	free(max);
}

/* What is usual is not even looked at: the files may as well be missing. */
static void test_first(void **state)
{
	const struct wire_limits usual = {.swap_max = UINT64_MAX, .pids_max = 5};
	char why[256];

	assert_int_equal(unlinkat(cgroup, "cpu.max", 0), 0);
	assert_int_equal(unlinkat(cgroup, "memory.low", 0), 0);
	assert_int_equal(cgroup_limit(cgroup, -1, &usual, true, why, sizeof(why)), 0);
	assert_file("pids.max", "5");
	assert_int_equal(cgroup_limit(cgroup, -1, &usual, false, why, sizeof(why)), -ENOENT);
	assert_non_null(strstr(why, "CPU quota"));
}

static void test_all_or_none(void **state)
{
	struct wire_limits other = some;
	char why[256];

	assert_int_equal(cgroup_limit(cgroup, -1, &some, false, why, sizeof(why)), 0);
	/* One that can be read and not written. */
	assert_int_equal(unlinkat(cgroup, "memory.low", 0), 0);
	assert_int_equal(symlinkat("/proc/version", cgroup, "memory.low"), 0);
	other.cpu_shares = 1024;
	other.cpu_quota_us = 0;
	other.pids_max = 0;
	other.swap_max = UINT64_MAX;
	other.mem_max = 600000;
	assert_true(cgroup_limit(cgroup, -1, &other, false, why, sizeof(why)) < 0);
	assert_non_null(strstr(why, "memory reservation"));
	assert_int_equal(unlinkat(cgroup, "memory.low", 0), 0);
	put("memory.low", "400000");
	assert_some();
}

static void test_memory_in_use(void **state)
{
	struct wire_limits low = some;
	char why[256];

	assert_int_equal(cgroup_limit(cgroup, -1, &some, false, why, sizeof(why)), 0);
	low.pids_max = 1;
	low.mem_reservation = 0;
	low.mem_max = 4000; /* 5000 in use, and nothing that gives it back */
	assert_int_equal(cgroup_limit(cgroup, -1, &low, false, why, sizeof(why)), -EBUSY);
	assert_non_null(strstr(why, "uses"));
	assert_some();
}

static void test_cpuset_only_where_there_is_one(void **state)
{
	struct wire_limits pinned = some;
	char zero[] = "0", why[256];

	/* No controller can be enabled here. */
	pinned.cpuset = zero;
	assert_true(cgroup_limit(cgroup, -1, &pinned, false, why, sizeof(why)) < 0);
	assert_file("pids.max", "max");
	put("cpuset.cpus", "0\n");
	assert_int_equal(cgroup_limit(cgroup, -1, &some, false, why, sizeof(why)), 0);
	assert_file("cpuset.cpus", "");
}

static void test_oom_kills(void **state)
{
	assert_int_equal(cgroup_oom_kills(-1), 0);
	assert_int_equal(cgroup_oom_kills(cgroup), 0);
	put("memory.events", "low 1\nhigh 2\nmax 3\noom 4\noom_kill 5\noom_group_kill 6\n");
	assert_int_equal(cgroup_oom_kills(cgroup), 5);
	put("memory.events", "nothing\n");
	assert_int_equal(cgroup_oom_kills(cgroup), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_weight),
		cmocka_unit_test(test_reserve),
		cmocka_unit_test(test_refused),
		cmocka_unit_test_setup_teardown(test_applied_and_taken_back, setup, teardown),
		cmocka_unit_test_setup_teardown(test_processes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_first, setup, teardown),
		cmocka_unit_test_setup_teardown(test_all_or_none, setup, teardown),
		cmocka_unit_test_setup_teardown(test_memory_in_use, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cpuset_only_where_there_is_one, setup, teardown),
		cmocka_unit_test_setup_teardown(test_oom_kills, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
