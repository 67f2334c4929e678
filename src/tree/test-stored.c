/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <linux/limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
/* cmocka.h needs the four above. */
#include <cmocka.h>

#include "tree/stored.h"

static void test_text(void **state)
{
	struct stored_stat s = {.mode = S_IFREG | 0644, .uid = 999, .gid = 998}, back;
	char text[STORED_TEXT_MAX];
	size_t len = stored_format(text, &s);

	assert_string_equal(text, "100644 999 998 0:0");
	assert_int_equal(len, strlen(text));
	assert_int_equal(stored_parse(text, len, &back), 0);
	assert_memory_equal(&s, &back, sizeof(s));

	/* The longest there is. */
	s = (struct stored_stat){S_IFSOCK | 07777, UINT32_MAX - 1, UINT32_MAX - 1, 0xfff, 0xfffff};
	len = stored_format(text, &s);
	assert_true(len < STORED_TEXT_MAX);
	assert_int_equal(stored_parse(text, len, &back), 0);
	assert_memory_equal(&s, &back, sizeof(s));
}

static void test_bad_text(void **state)
{
	static const char *const bad[] = {"", " ", "100644", "100644 0 0", "100644 0 0 0",
		"100644 0 0 0:", "100644 0 0 0:0 ", "100644  0 0 0:0", "100644 -1 0 0:0", "100644 +1 0 0:0",
		"0100644 0 0 0:0", "100644 00 0 0:0", "100648 0 0 0:0", "644 0 0 0:0", "30644 0 0 0:0",
		"1100644 0 0 0:0", "100644 4294967295 0 0:0", "100644 0 4294967295 0:0",
		"100644 4294967296 0 0:0", "100644 0 0 4096:0", "100644 0 0 0:1048576", "100644 0 0 0:0\n",
		"100644 99999999999999999999999999 0 0:0",
		"100644 0 0 0:0000000000000000000000000000000000000000000000000000000000000000000"};
	struct stored_stat s = {.uid = 7};

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		if (stored_parse(bad[i], strlen(bad[i]), &s) != -EBADMSG)
			fail_msg("\"%s\" was taken", bad[i]);
	/* A NUL is not the end of the text. */
	assert_int_equal(stored_parse("100644 0 0 0:0\0x", 16, &s), -EBADMSG);
	assert_int_equal(s.uid, 7);
}

static void test_real_mode(void **state)
{
	assert_int_equal(stored_real_mode(S_IFREG | 06755), 0755);
	assert_int_equal(stored_real_mode(S_IFREG), 0600);
	assert_int_equal(stored_real_mode(S_IFDIR | 01000), 0700);
	assert_int_equal(stored_real_mode(S_IFDIR | 02070), 0770);
	assert_int_equal(stored_real_mode(S_IFCHR | 0666), 0666);
	assert_int_equal(stored_real_mode(S_IFLNK | 0777), 0644);
}

static void test_default(void **state)
{
	struct stat st = {.st_mode = S_IFREG | 0640, .st_uid = 1000, .st_gid = 100};
	struct stored_stat s;

	stored_default(&st, 1000, &s);
	assert_int_equal(s.uid, 0);
	assert_int_equal(s.gid, 0);
	assert_int_equal(s.mode, S_IFREG | 0640);
	stored_default(&st, 1001, &s);
	assert_int_equal(s.uid, STORED_NOBODY);
	assert_int_equal(s.gid, STORED_NOBODY);
	stored_default(&st, 0, &s);
	assert_int_equal(s.uid, 1000);
	assert_int_equal(s.gid, 100);
	st.st_rdev = makedev(8, 300);
	stored_default(&st, 0, &s);
	assert_int_equal(s.major | s.minor, 0);
	st.st_mode = S_IFBLK | 0600;
	stored_default(&st, 0, &s);
	assert_int_equal(s.major, 8);
	assert_int_equal(s.minor, 300);
}

static void test_xattr(void **state)
{
	char dst[XATTR_NAME_MAX + 1], name[XATTR_NAME_MAX + 2];

	assert_int_equal(stored_xattr_name("user.mime", dst), 0);
	assert_string_equal(dst, "user.mime");
	assert_int_equal(stored_xattr_name("security.capability", dst), 0);
	assert_string_equal(dst, "user.a3s.x.security.capability");
	assert_string_equal(stored_xattr_back(dst), "security.capability");
	assert_string_equal(stored_xattr_back("user.mime"), "user.mime");
	assert_int_equal(stored_xattr_name("user.a3s.stat", dst), -EPERM);
	assert_int_equal(stored_xattr_name("user.a3s.link", dst), -EPERM);
	assert_int_equal(stored_xattr_name("user.a3s.x.trusted.a", dst), -EPERM);
	assert_null(stored_xattr_back("user.a3s.stat"));
	assert_null(stored_xattr_back("user.a3s.link"));
	assert_null(stored_xattr_back("user.a3s.new"));
	assert_null(stored_xattr_back("user.a3s.x."));
	assert_null(stored_xattr_back("user.a3s.x.user.a"));
	/* What the host has itself in those namespaces is not the box's. */
	assert_null(stored_xattr_back("security.selinux"));
	assert_null(stored_xattr_back("trusted.overlay.opaque"));

	memset(name, 'a', sizeof(name));
	memcpy(name, "user.", 5);
	name[XATTR_NAME_MAX] = '\0';
	assert_int_equal(stored_xattr_name(name, dst), 0);
	name[XATTR_NAME_MAX] = 'a';
	name[XATTR_NAME_MAX + 1] = '\0';
	assert_int_equal(stored_xattr_name(name, dst), -ERANGE);
	memcpy(name, "trust", 5);
	name[XATTR_NAME_MAX - strlen(STORED_XATTR)] = '\0';
	assert_int_equal(stored_xattr_name(name, dst), 0);
	assert_int_equal(strlen(dst), XATTR_NAME_MAX);
	name[XATTR_NAME_MAX - strlen(STORED_XATTR)] = 'a';
	name[XATTR_NAME_MAX - strlen(STORED_XATTR) + 1] = '\0';
	assert_int_equal(stored_xattr_name(name, dst), -ERANGE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_text),
		cmocka_unit_test(test_bad_text),
		cmocka_unit_test(test_real_mode),
		cmocka_unit_test(test_default),
		cmocka_unit_test(test_xattr),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
