/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "user.h"

static const char passwd[] = "root:x:0:0:root:/root:/bin/sh\n"
			     "\n"
			     "broken line\n"
			     "evil:x:abc:0::/:\n"
			     "huge:x:4294967296:1::/:\n"
			     "joe:x:1000:1001:Joe:/home/joe:/bin/sh\n"
			     "2000:x:3000:3000::/home/digits:/bin/sh\n"
			     "nohome:x:1500:1500\n"
			     "second:x:1000:7::/second:\n"
			     "last:x:42:43::/last:/bin/sh";
static const char group[] = "root:x:0:\n"
			    "wheel:x:10:joe,root\n"
			    "bad:x:zz:joe\n"
			    "audio:x:29:other,joe\n"
			    "pre:x:30:joey\n"
			    "joe:x:1001:\n"
			    "77:x:78:\n"
			    "short:x:99";

static const struct user_files files = {passwd, group, sizeof(passwd) - 1, sizeof(group) - 1};
static char why[256];

static int resolve(const char *spec, struct user_ids *ids)
{
	memset(ids, 0, sizeof(*ids));
	why[0] = '\0';
	return user_resolve(spec, NULL, &files, ids, why, sizeof(why));
}

static void expect(const char *spec, uid_t uid, gid_t gid, const char *home, size_t n_groups)
{
	struct user_ids ids;

	assert_int_equal(resolve(spec, &ids), 0);
	assert_int_equal(ids.uid, uid);
	assert_int_equal(ids.gid, gid);
	assert_string_equal(ids.home, home);
	assert_int_equal(ids.n_groups, n_groups);
	user_ids_done(&ids);
}

static void test_known(void **state)
{
	expect("", 0, 0, "/root", 1);
	expect(NULL, 0, 0, "/root", 1);
	expect("root", 0, 0, "/root", 1);
	expect("0", 0, 0, "/root", 1);
	expect("joe", 1000, 1001, "/home/joe", 2);
	expect("1000", 1000, 1001, "/home/joe", 2);
	expect("last", 42, 43, "/last", 0);
	expect("nohome", 1500, 1500, "/", 0);
	/* A name made of digits goes before the number. */
	expect("2000", 3000, 3000, "/home/digits", 0);
}

static void test_group(void **state)
{
	expect("joe:wheel", 1000, 10, "/home/joe", 0);
	expect("joe:29", 1000, 29, "/home/joe", 0);
	expect("joe:12345", 1000, 12345, "/home/joe", 0);
	expect("joe:77", 1000, 78, "/home/joe", 0);
	expect("joe:short", 1000, 99, "/home/joe", 0);
	expect(":wheel", 0, 10, "/root", 0);
	expect("joe:", 1000, 1001, "/home/joe", 2);
}

static void test_unknown(void **state)
{
	struct user_ids ids;

	expect("5555", 5555, 0, "/", 0);
	assert_int_equal(resolve("nobody", &ids), -ENOENT);
	assert_string_equal(why, "unable to find user nobody: no matching entries in passwd file");
	assert_int_equal(resolve("joe:nogroup", &ids), -ENOENT);
	assert_string_equal(why, "unable to find group nogroup: no matching entries in group file");
	/* Lines that are not well formed do not exist. */
	assert_int_equal(resolve("evil", &ids), -ENOENT);
	assert_int_equal(resolve("huge", &ids), -ENOENT);
	assert_int_equal(resolve("broken line", &ids), -ENOENT);
	assert_int_equal(resolve("joe:bad", &ids), -ENOENT);
	assert_int_equal(resolve("2147483648", &ids), -ERANGE);
	assert_int_equal(resolve("1:99999999999999999999999", &ids), -ERANGE);
	assert_int_equal(resolve("-1", &ids), -ENOENT);
}

static void test_extra(void **state)
{
	char *names[] = {(char *)"audio", (char *)"4711", NULL}, *bad[] = {(char *)"nope", NULL};
	struct strv extra = {.v = names, .n = 2}, wrong = {.v = bad, .n = 1};
	struct user_ids ids = {0};

	assert_int_equal(user_resolve("joe", &extra, &files, &ids, why, sizeof(why)), 0);
	assert_int_equal(ids.n_groups, 4);
	assert_int_equal(ids.groups[0], 10);
	assert_int_equal(ids.groups[1], 29);
	assert_int_equal(ids.groups[2], 29);
	assert_int_equal(ids.groups[3], 4711);
	user_ids_done(&ids);
	assert_int_equal(user_resolve("joe", &wrong, &files, &ids, why, sizeof(why)), -ENOENT);
}

static void test_no_files(void **state)
{
	struct user_files none = {0};
	struct user_ids ids = {0};

	assert_int_equal(user_resolve("", NULL, &none, &ids, why, sizeof(why)), 0);
	assert_int_equal(ids.uid, 0);
	assert_string_equal(ids.home, "/");
	user_ids_done(&ids);
	assert_int_equal(user_resolve("root", NULL, &none, &ids, why, sizeof(why)), -ENOENT);
}

static void test_nul(void **state)
{
	static const char text[] = "a\0b:x:1:1::/:\nok:x:2:2::/ok:\n";
	struct user_files f = {.passwd = text, .passwd_len = sizeof(text) - 1};
	struct user_ids ids = {0};

	assert_int_equal(user_resolve("a", NULL, &f, &ids, why, sizeof(why)), -ENOENT);
	assert_int_equal(user_resolve("ok", NULL, &f, &ids, why, sizeof(why)), 0);
	assert_int_equal(ids.uid, 2);
	user_ids_done(&ids);
}

static void test_too_many_groups(void **state)
{
	static const char line[] = "g:x:1:joe\n";
	size_t n = USER_GROUPS_MAX + 1, len = sizeof(line) - 1;
	char *text = malloc(n * len);
	struct user_files f = {passwd, text, sizeof(passwd) - 1, n * len};
	struct user_ids ids = {0};

	assert_non_null(text);
	for (size_t i = 0; i < n; i++)
		memcpy(text + i * len, line, len);
	assert_int_equal(user_resolve("joe", NULL, &f, &ids, why, sizeof(why)), -E2BIG);
	f.group_len -= len;
	assert_int_equal(user_resolve("joe", NULL, &f, &ids, why, sizeof(why)), 0);
	assert_int_equal(ids.n_groups, USER_GROUPS_MAX);
	user_ids_done(&ids);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_known),
		cmocka_unit_test(test_group),
		cmocka_unit_test(test_unknown),
		cmocka_unit_test(test_extra),
		cmocka_unit_test(test_no_files),
		cmocka_unit_test(test_nul),
		cmocka_unit_test(test_too_many_groups),
	};

	return cmocka_run_group_tests_name("guest-user", tests, NULL, NULL);
}
