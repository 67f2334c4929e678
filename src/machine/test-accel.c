/* SPDX-License-Identifier: MIT */
/*
 * The choice of the accelerator and the cached verdict. Probing happens in children without privileges: on most hosts
 * /dev/kvm is then refused and the verdict costs nothing.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "base/io.h"
#include "machine/accel.h"

enum { NOBODY = 65534 };

static char top[64];
static int dir = -1;

static int set_up(void **state)
{
	strcpy(top, "/tmp/test-accel-XXXXXX");
	if (!mkdtemp(top) || (geteuid() == 0 && chown(top, NOBODY, NOBODY) < 0))
		return -1;
	dir = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return dir < 0 ? -1 : 0;
}

static int tear_down(void **state)
{
	close_fd(&dir);
	return io_remove_tree_at(AT_FDCWD, top);
}

static struct accel_info probe(int cache_dirfd)
{
	struct accel_info info;
	int fds[2], status;

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	pid_t pid = fork();
	if (pid == 0) {
		if (geteuid() == 0 && setresuid(NOBODY, NOBODY, NOBODY) < 0)
			_exit(1);
		memset(&info, 'z', sizeof(info));
		accel_probe(cache_dirfd, &info);
		_exit(io_write_full(fds[1], &info, sizeof(info)) < 0);
	}
	close(fds[1]);
	assert_int_equal(io_read_full(fds[0], &info, sizeof(info)), sizeof(info));
	close(fds[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_non_null(memchr(info.kvm_reason, '\0', sizeof(info.kvm_reason)));
	assert_true(info.kvm_reason[0]); /* always says why */
	return info;
}

static char *cache_text(void)
{
	char *text = NULL;
	assert_int_equal(io_read_file_at(dir, "accel", 4096, &text, NULL), 0);
	return text;
}

static void put_cache(const char *text, size_t len)
{
	assert_int_equal(io_write_file_at(dir, "accel", text, len, 0644), 0);
}

/* The key that this boot and user have now. */
static char *current_key(void)
{
	probe(dir);
	char *text = cache_text();
	text[strcspn(text, "\t")] = '\0';
	return text;
}

static void a_verdict_is_cached_privately_in_one_line(void **state)
{
	struct accel_info info = probe(dir);
	char *text = cache_text(), want[512];
	struct stat st;

	size_t key = strcspn(text, "\t");
	assert_true(key > 36); /* a boot ID is in it */
	snprintf(want, sizeof(want), "\t%d\t%llu\t%s\n", info.kvm_usable, (unsigned long long)info.tsc_khz,
		info.kvm_reason);
	assert_string_equal(text + key, want);
	assert_int_equal(fstatat(dir, "accel", &st, 0), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	free(text);
}

static void a_cached_verdict_is_used_and_not_measured_again(void **state)
{
	char *key = current_key(), line[512];

	for (int usable = 0; usable < 2; usable++) {
		int n = snprintf(line, sizeof(line), "%s\t%d\t123456\tplanted verdict\n", key, usable);
		put_cache(line, (size_t)n);
		struct accel_info info = probe(dir);
		assert_int_equal(info.kvm_usable, usable);
		assert_int_equal(info.tsc_khz, 123456);
		assert_string_equal(info.kvm_reason, "planted verdict");
	}
	free(key);
}

static void a_cache_of_another_boot_or_malformed_is_ignored_and_replaced(void **state)
{
	char *key = current_key(), other[256], lines[16][2048];
	size_t n = 0;

	snprintf(other, sizeof(other), "%s", key);
	other[5] = other[5] == '0' ? '1' : '0'; /* inside the boot ID */
	snprintf(lines[n++], sizeof(lines[0]), "%s\t1\t5\tplanted\n", other);
	snprintf(lines[n++], sizeof(lines[0]), "%s0\t1\t5\tplanted\n", key);
	snprintf(lines[n++], sizeof(lines[0]), "%s\t1\tx5\tplanted\n", key);
	snprintf(lines[n++], sizeof(lines[0]), "%s\t1\t-5\tplanted\n", key);
	snprintf(lines[n++], sizeof(lines[0]), "%s\t1\t99999999999999999999999\tplanted\n", key);
	snprintf(lines[n++], sizeof(lines[0]), "%s\t1\t5\n", key);
	snprintf(lines[n++], sizeof(lines[0]), "%s\t1\n", key);
	snprintf(lines[n++], sizeof(lines[0]), "%s", key);
	snprintf(lines[n++], sizeof(lines[0]), "\t\t\t\t\n");
	snprintf(lines[n++], sizeof(lines[0]), "{\"kvm\": \"planted\"}");
	snprintf(lines[n++], sizeof(lines[0]), "%s", "");
	int head = snprintf(lines[n], sizeof(lines[0]), "%s\t1\t5\tplanted", key);
	memset(lines[n] + head, 'd', 1500); /* longer than a cache may be */
	n++;
	for (size_t i = 0; i < n; i++) {
		put_cache(lines[i], strlen(lines[i]));
		struct accel_info info = probe(dir);
		if (strstr(info.kvm_reason, "planted"))
			fail_msg("believed: %s", lines[i]);
		char *text = cache_text();
		assert_true(strncmp(text, key, strlen(key)) == 0 && text[strlen(key)] == '\t');
		assert_null(strstr(text, "planted"));
		free(text);
	}
	put_cache("\0\0\0\0", 4);
	assert_null(strstr(probe(dir).kvm_reason, "planted"));
	free(key);
}

static void a_cache_reason_of_any_length_is_cut_to_fit(void **state)
{
	char *key = current_key(), line[1000];
	int n = snprintf(line, sizeof(line), "%s\t1\t5\t", key);

	memset(line + n, 'r', 700);
	put_cache(line, (size_t)n + 700);
	struct accel_info info = probe(dir);
	assert_true(info.kvm_usable);
	assert_int_equal(strlen(info.kvm_reason), sizeof(info.kvm_reason) - 1);
	free(key);
}

static void without_a_cache_the_verdict_is_the_same(void **state)
{
	struct accel_info cached = probe(dir), fresh = probe(-1);

	assert_int_equal(cached.kvm_usable, fresh.kvm_usable);
	assert_int_equal(unlinkat(dir, "accel", 0), 0);
	assert_int_equal(fchmod(dir, 0500), 0); /* only a cache: not being able to write it is no failure */
	fresh = probe(dir);
	assert_int_equal(fchmod(dir, 0700), 0);
	assert_int_equal(cached.kvm_usable, fresh.kvm_usable);
}

static void accelerators_have_names(void **state)
{
	static const char *const bad[] = {"", "KVM", "kvm ", "hvf", "tcg,thread=multi", "auto\n"};
	enum accel a = (enum accel)99;

	for (enum accel i = ACCEL_AUTO; i <= ACCEL_TCG; i++) {
		assert_int_equal(accel_parse(accel_name(i), &a), 0);
		assert_int_equal(a, i);
	}
	a = (enum accel)99;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(accel_parse(bad[i], &a), -EINVAL);
	assert_int_equal(a, 99);
	assert_true(accel_isolates(ACCEL_KVM));
	assert_true(accel_isolates(ACCEL_QEMU_KVM));
	assert_false(accel_isolates(ACCEL_TCG));
}

static void the_choice_follows_the_wish_and_the_measurement(void **state)
{
	static const struct {
		enum accel wanted;
		bool usable;
		int r;
		enum accel got;
	} cases[] = {{ACCEL_AUTO, true, 0, ACCEL_KVM}, {ACCEL_AUTO, false, 0, ACCEL_TCG},
		{ACCEL_KVM, true, 0, ACCEL_KVM}, {ACCEL_KVM, false, -ENOTSUP, ACCEL_AUTO},
		{ACCEL_QEMU_KVM, true, 0, ACCEL_QEMU_KVM}, {ACCEL_QEMU_KVM, false, -ENOTSUP, ACCEL_AUTO},
		{ACCEL_TCG, true, 0, ACCEL_TCG}, {ACCEL_TCG, false, 0, ACCEL_TCG}};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct accel_info info = {.kvm_usable = cases[i].usable, .kvm_reason = "because"};
		struct err e = {0};
		enum accel got = ACCEL_AUTO;
		assert_int_equal(accel_choose(cases[i].wanted, &info, &got, &e), cases[i].r);
		assert_int_equal(got, cases[i].got);
		if (cases[i].r < 0) {
			assert_non_null(strstr(e.msg, "because"));
			assert_non_null(strstr(e.hint, "tcg"));
		}
	}
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_verdict_is_cached_privately_in_one_line),
		TEST(a_cached_verdict_is_used_and_not_measured_again),
		TEST(a_cache_of_another_boot_or_malformed_is_ignored_and_replaced),
		TEST(a_cache_reason_of_any_length_is_cut_to_fit),
		TEST(without_a_cache_the_verdict_is_the_same),
		cmocka_unit_test(accelerators_have_names),
		cmocka_unit_test(the_choice_follows_the_wish_and_the_measurement),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
