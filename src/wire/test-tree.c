/* SPDX-License-Identifier: MIT */
/* Entries of a tree and their content, and what is to be copied. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <sys/stat.h>

#include "fields.h"
#include "wire/tree.h"

static struct wire_frame only_frame(const struct buf *b)
{
	struct wire_frame f;

	assert_int_equal(wire_next(b, &f), 1);
	assert_int_equal(WIRE_HEADER_SIZE + f.len, b->len);
	return f;
}

static void paths(void **state)
{
	static const char *const good[] = {"", "a", "a/b", ".a", "..a", "a/...", "a\n/\xff b", "a:b"};
	static const char *const bad[] = {
		"/", "/a", "a/", "a//b", ".", "..", "a/.", "./a", "a/../b", "../a", "a/.."};
	char *path = calloc(1, WIRE_PATH_MAX + 2), name[258] = "";

	for (size_t i = 0; i < ARRAY_LEN(good); i++)
		assert_true(wire_path_valid(good[i]));
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_false(wire_path_valid(bad[i]));
	for (size_t i = 0; i <= WIRE_PATH_MAX; i++)
		path[i] = i % 2 ? '/' : 'a';
	path[WIRE_PATH_MAX] = '\0';
	assert_true(wire_path_valid(path));
	strcpy(path + WIRE_PATH_MAX, "a");
	assert_false(wire_path_valid(path));
	memset(name, 'a', 256);
	assert_false(wire_path_valid(name));
	name[255] = '\0';
	assert_true(wire_path_valid(name));
	free(path);
}

static void an_entry_survives_the_wire(void **state)
{
	struct wire_xattr xattrs[] = {{(char *)"user.x", (uint8_t *)"a\0b", 3},
		{(char *)"security.capability", NULL, 0}, {(char *)"user.y", (uint8_t *)"z", 1}};
	struct wire_entry e = {.path = (char *)"a/b",
		.mode = S_IFREG | 04711,
		.uid = 1,
		.gid = UINT32_MAX - 1,
		.mtime_s = -5,
		.mtime_ns = 999999999,
		.size = INT64_MAX,
		.xattrs = xattrs,
		.n_xattrs = 3};
	struct wire_entry got;
	struct buf b = {0};

	assert_int_equal(wire_put_entry(&b, &e), 0);
	struct wire_frame f = only_frame(&b);
	assert_int_equal(f.type, WIRE_ENTRY);
	assert_int_equal(wire_get_entry(&f, &got), 0);
	assert_string_equal(got.path, "a/b");
	assert_int_equal(got.mode, e.mode);
	assert_int_equal(got.uid, 1);
	assert_int_equal(got.gid, UINT32_MAX - 1);
	assert_true(got.mtime_s == -5 && got.mtime_ns == 999999999 && got.size == INT64_MAX);
	assert_int_equal(got.n_xattrs, 3);
	for (size_t i = 0; i < 3; i++) {
		assert_string_equal(got.xattrs[i].name, xattrs[i].name);
		assert_int_equal(got.xattrs[i].len, xattrs[i].len);
		if (xattrs[i].len)
			assert_memory_equal(got.xattrs[i].value, xattrs[i].value, xattrs[i].len);
	}
	assert_null(got.target);
	assert_null(got.link);
	wire_entry_done(&got);
	buf_done(&b);
}

static void the_other_kinds_survive_too(void **state)
{
	const struct wire_entry all[] = {
		{.path = (char *)"", .mode = S_IFDIR | 01777, .opaque = true},
		{.path = (char *)"l", .mode = S_IFLNK | 0777, .target = (char *)"/../\n"},
		{.path = (char *)"h", .link = (char *)"l"},
		{.path = (char *)"w", .whiteout = true},
		{.path = (char *)"c", .mode = S_IFCHR | 0600, .major = 0xfff, .minor = 0xfffff},
		{.path = (char *)"p", .mode = S_IFIFO | 0600},
	};

	for (size_t i = 0; i < ARRAY_LEN(all); i++) {
		struct wire_entry got;
		struct buf b = {0}, again = {0};

		assert_int_equal(wire_put_entry(&b, &all[i]), 0);
		struct wire_frame f = only_frame(&b);
		assert_int_equal(wire_get_entry(&f, &got), 0);
		assert_string_equal(got.path, all[i].path);
		assert_int_equal(got.opaque, all[i].opaque);
		assert_int_equal(got.whiteout, all[i].whiteout);
		assert_int_equal(wire_put_entry(&again, &got), 0);
		assert_int_equal(again.len, b.len);
		assert_memory_equal(buf_data(&again), buf_data(&b), b.len);
		wire_entry_done(&got);
		buf_done(&b);
		buf_done(&again);
	}
}

static void nonsense_is_not_sent(void **state)
{
	static char long_target[WIRE_PATH_MAX + 2];
	struct wire_xattr no_dot = {(char *)"x", NULL, 0}, no_name = {NULL, NULL, 0};
	static uint8_t large[WIRE_XATTRS_MAX];
	struct wire_xattr too_large = {(char *)"user.x", large, sizeof(large)};
	const struct wire_entry bad[] = {
		{.mode = S_IFREG},
		{.path = (char *)"a"},
		{.path = (char *)"a/", .mode = S_IFREG},
		{.path = (char *)"a", .mode = 0010000 | S_IFREG | 0x10000},
		{.path = (char *)"a", .mode = S_IFREG, .mtime_ns = 1000000000},
		{.path = (char *)"a", .mode = S_IFREG, .uid = UINT32_MAX},
		{.path = (char *)"a", .mode = S_IFREG, .gid = UINT32_MAX},
		{.path = (char *)"a", .mode = S_IFREG, .size = (uint64_t)INT64_MAX + 1},
		{.path = (char *)"a", .mode = S_IFDIR, .size = 1},
		{.path = (char *)"a", .mode = S_IFREG, .target = (char *)"b"},
		{.path = (char *)"a", .mode = S_IFLNK},
		{.path = (char *)"a", .mode = S_IFLNK, .target = (char *)""},
		{.path = (char *)"a", .mode = S_IFLNK, .target = long_target},
		{.path = (char *)"a", .mode = S_IFREG, .opaque = true},
		{.path = (char *)"a", .mode = S_IFREG, .major = 1},
		{.path = (char *)"a", .mode = S_IFCHR, .major = 0x1000},
		{.path = (char *)"a", .mode = S_IFBLK, .minor = 0x100000},
		{.path = (char *)"a", .mode = S_IFREG, .link = (char *)"b"},
		{.path = (char *)"a", .link = (char *)"a"},
		{.path = (char *)"a", .link = (char *)""},
		{.path = (char *)"a", .link = (char *)"../b"},
		{.path = (char *)"", .link = (char *)"b"},
		{.path = (char *)"", .whiteout = true},
		{.path = (char *)"a", .whiteout = true, .mode = S_IFREG},
		{.path = (char *)"a", .whiteout = true, .link = (char *)"b"},
		{.path = (char *)"a", .mode = S_IFREG, .xattrs = &no_dot, .n_xattrs = 1},
		{.path = (char *)"a", .mode = S_IFREG, .xattrs = &no_name, .n_xattrs = 1},
		{.path = (char *)"a", .mode = S_IFREG, .xattrs = &too_large, .n_xattrs = 1},
	};

	memset(long_target, 'a', sizeof(long_target) - 1);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct buf b = {0};

		if (wire_put_entry(&b, &bad[i]) != -EINVAL)
			fail_msg("case %zu", i);
		assert_int_equal(b.len, 0);
		buf_done(&b);
	}
}

static void nonsense_is_not_taken(void **state)
{
	static const struct {
		uint8_t tag;
		const char *data;
		size_t len;
	} bad[] = {
		{1, "a\0b", 3},
		{1, "../a", 4},
		{1, "/a", 2},
		{2, "\0\0\0\1\0\0\x81\xa4", 8},
		{2, "1234", 4},
		{5, "1", 1},
		{6, "\0\0\0\0\xff\xff\xff\xff", 8},
		{10, "x", 1},
		{10, "x\0", 2},
		{12, "\0\0\0\0\0\0\0\x04", 8},
		{13, "x", 1},
		{13, "", 0},
		{13, "\x01\0\0\0\x01x", 6},
	};
	static const uint8_t mode[] = {0, 0, 0, 0, 0, 0, 0x81, 0xa4};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct wire_entry e;
		struct buf msg = {0};

		assert_int_equal(wire_field_bytes(&msg, 2, mode, sizeof(mode)), 0);
		assert_int_equal(wire_field_str(&msg, 1, "a"), 0);
		struct wire_frame f = {
			.type = WIRE_ENTRY, .len = (uint32_t)msg.len, .payload = buf_data(&msg)};
		assert_int_equal(wire_get_entry(&f, &e), 0);
		wire_entry_done(&e);
		assert_int_equal(wire_field_bytes(&msg, bad[i].tag, bad[i].data, bad[i].len), 0);
		f = (struct wire_frame){
			.type = WIRE_ENTRY, .len = (uint32_t)msg.len, .payload = buf_data(&msg)};
		if (wire_get_entry(&f, &e) != -EBADMSG)
			fail_msg("case %zu", i);
		assert_null(e.path);
		buf_done(&msg);
	}
}

static void too_many_attributes_are_refused(void **state)
{
	struct wire_xattr xattrs[WIRE_XATTR_MAX + 1];
	struct wire_entry e = {
		.path = (char *)"a", .mode = S_IFREG, .xattrs = xattrs, .n_xattrs = WIRE_XATTR_MAX};
	struct wire_entry got;
	struct buf b = {0};

	for (size_t i = 0; i < ARRAY_LEN(xattrs); i++)
		xattrs[i] = (struct wire_xattr){(char *)"user.x", (uint8_t *)"", 0};
	assert_int_equal(wire_put_entry(&b, &e), 0);
	struct wire_frame f = only_frame(&b);
	assert_int_equal(wire_get_entry(&f, &got), 0);
	assert_int_equal(got.n_xattrs, WIRE_XATTR_MAX);
	wire_entry_done(&got);
	e.n_xattrs++;
	assert_int_equal(wire_put_entry(&b, &e), -EINVAL);
	/* One more than the sender would send. */
	uint8_t *more = calloc(1, f.len + 16);
	memcpy(more, f.payload, f.len);
	static const uint8_t field[] = {13, 0, 0, 0, 8, 1, 0, 0, 0, 3, 'u', '.', 'x'};
	memcpy(more + f.len, field, sizeof(field));
	struct wire_frame long_frame = {.type = WIRE_ENTRY, .len = f.len + sizeof(field), .payload = more};
	assert_int_equal(wire_get_entry(&long_frame, &got), -EBADMSG);
	free(more);
	buf_done(&b);
}

static void content_survives_the_wire(void **state)
{
	static uint8_t data[WIRE_DATA_MAX + 1];
	const uint8_t *got;
	struct buf b = {0};
	uint64_t offset;
	size_t len;

	assert_int_equal(wire_put_content(&b, 7, "abc", 3), 0);
	struct wire_frame f = only_frame(&b);
	assert_int_equal(f.type, WIRE_CONTENT);
	assert_int_equal(wire_get_content(&f, &offset, &got, &len), 0);
	assert_true(offset == 7 && len == 3);
	assert_memory_equal(got, "abc", 3);
	wire_consume(&b, &f);
	assert_int_equal(wire_put_content(&b, INT64_MAX - WIRE_DATA_MAX, data, WIRE_DATA_MAX), 0);
	f = only_frame(&b);
	assert_int_equal(wire_get_content(&f, &offset, &got, &len), 0);
	assert_int_equal(wire_put_content(&b, 0, data, WIRE_DATA_MAX + 1), -EMSGSIZE);
	assert_int_equal(wire_put_content(&b, 0, data, 0), -EINVAL);
	assert_int_equal(wire_put_content(&b, INT64_MAX, data, 1), -EINVAL);
	assert_int_equal(wire_put_content(&b, UINT64_MAX, data, 1), -EINVAL);
	struct wire_frame beyond = {.type = WIRE_CONTENT,
		.len = 9,
		.payload = (const uint8_t *)"\x7f\xff\xff\xff\xff\xff\xff\xff!"};
	assert_int_equal(wire_get_content(&beyond, &offset, &got, &len), -EBADMSG);
	beyond.len = 8;
	assert_int_equal(wire_get_content(&beyond, &offset, &got, &len), -EBADMSG);
	buf_done(&b);
}

static void a_copy_survives_the_wire(void **state)
{
	struct wire_copy c = {.path = (char *)"/a/.", .follow = true, .root_attr = true}, got;
	struct buf b = {0};

	assert_int_equal(wire_put_copy(&b, WIRE_COPY_IN, &c), 0);
	struct wire_frame f = only_frame(&b);
	assert_int_equal(f.type, WIRE_COPY_IN);
	assert_int_equal(wire_get_copy(&f, &got), 0);
	assert_string_equal(got.path, "/a/.");
	assert_true(got.follow && !got.no_content && !got.keep_owner && got.root_attr && !got.durable);
	wire_copy_done(&got);
	wire_consume(&b, &f);
	c = (struct wire_copy){.path = (char *)"/", .no_content = true, .keep_owner = true, .durable = true};
	assert_int_equal(wire_put_copy(&b, WIRE_COPY_OUT, &c), 0);
	f = only_frame(&b);
	assert_int_equal(wire_get_copy(&f, &got), 0);
	assert_true(!got.follow && got.no_content && got.keep_owner && !got.root_attr && got.durable);
	wire_copy_done(&got);
	c.path = (char *)"a";
	assert_int_equal(wire_put_copy(&b, WIRE_COPY_OUT, &c), -EINVAL);
	struct wire_frame none = {.type = WIRE_COPY_OUT, .len = 0, .payload = (const uint8_t *)""};
	assert_int_equal(wire_get_copy(&none, &got), -EBADMSG);
	none = (struct wire_frame){
		.type = WIRE_COPY_OUT, .len = 6, .payload = (const uint8_t *)"\1\0\0\0\1a"};
	assert_int_equal(wire_get_copy(&none, &got), -EBADMSG);
	buf_done(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(paths),
		cmocka_unit_test(an_entry_survives_the_wire),
		cmocka_unit_test(the_other_kinds_survive_too),
		cmocka_unit_test(nonsense_is_not_sent),
		cmocka_unit_test(nonsense_is_not_taken),
		cmocka_unit_test(too_many_attributes_are_refused),
		cmocka_unit_test(content_survives_the_wire),
		cmocka_unit_test(a_copy_survives_the_wire),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
