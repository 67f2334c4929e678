/* SPDX-License-Identifier: MIT */
#include "cp-paths.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/io.h"

static void test_split(void **state)
{
	static const struct {
		const char *arg, *box, *path;
	} good[] = {
		{"web:/x", "web", "/x"},
		{"web:", "web", ""},
		{"web:a:b", "web", "a:b"},
		{"/x:y", NULL, "/x:y"},
		{"./x:y", NULL, "./x:y"},
		{"../x:y", NULL, "../x:y"},
		{".x:y", NULL, ".x:y"},
		{"x", NULL, "x"},
		{"-", NULL, "-"},
	};
	char *box;
	const char *path;

	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		assert_int_equal(cp_split(good[i].arg, &box, &path, NULL), 0);
		if (good[i].box)
			assert_string_equal(box, good[i].box);
		else
			assert_null(box);
		assert_string_equal(path, good[i].path);
		free(box);
	}
	assert_int_equal(cp_split("", &box, &path, NULL), -EINVAL);
	assert_int_equal(cp_split(":x", &box, &path, NULL), -EINVAL);
}

static void test_clean(void **state)
{
	static const struct {
		const char *base, *text, *path, *name, *again;
		bool folder, content;
	} good[] = {
		{"/", "/a/b", "/a/b", "b", "/a/b"},
		{"/", "a//b/", "/a/b", "b", "/a/b/", true},
		{"/", "a/./b/.", "/a/b", "b", "/a/b/.", true, true},
		{"/", "a/b/./", "/a/b", "b", "/a/b/.", true, true},
		{"/", "a/b/..", "/a", "a", "/a"},
		{"/", "../../a", "/a", "a", "/a"},
		{"/", "/a/../../..", "/", "", "/", true, true},
		{"/", "", "/", "", "/", true, true},
		{"/", ".", "/", "", "/", true, true},
		{"/x/y", ".", "/x/y", "y", "/x/y/.", true, true},
		{"/x/y", "..", "/x", "x", "/x"},
		{"/x/y", "../z", "/x/z", "z", "/x/z"},
		{"/x/y", "/z.", "/z.", "z.", "/z."},
		{"/x", "a:b\n", "/x/a:b\n", "a:b\n", "/x/a:b\n"},
	};

	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		struct cp_path p = {0};
		assert_int_equal(cp_path_set(&p, good[i].base, good[i].text), 0);
		assert_string_equal(p.path, good[i].path);
		assert_string_equal(cp_path_name(&p), good[i].name);
		assert_int_equal(p.folder, good[i].folder);
		assert_int_equal(p.content, good[i].content);
		CLEANUP_FREE char *text = cp_path_text(&p);
		assert_string_equal(text, good[i].again);
		cp_path_done(&p);
	}
}

/* A path of a path is the same path, and nothing leads above the root. */
static void test_any_text(void **state)
{
	static const char letters[] = "/.ab";

	for (unsigned n = 0; n < 4096; n++) {
		char text[7] = "";
		for (unsigned i = 0, v = n; i < 6; i++, v /= 4)
			text[i] = letters[v % 4];
		struct cp_path p = {0}, q = {0};
		assert_int_equal(cp_path_set(&p, "/x", text), 0);
		assert_int_equal(p.path[0], '/');
		assert_null(strstr(p.path, "//"));
		assert_null(strstr(p.path, "/../"));
		CLEANUP_FREE char *again = cp_path_text(&p);
		assert_int_equal(cp_path_set(&q, "/", again), 0);
		assert_string_equal(p.path, q.path);
		assert_int_equal(p.folder, q.folder);
		assert_int_equal(p.content, q.content);
		cp_path_done(&p);
		cp_path_done(&q);
	}
}

struct place_test {
	char root[64];
	int fd;
};

static int place_setup(void **state)
{
	static struct place_test t;

	snprintf(t.root, sizeof(t.root), "/tmp/test-cp-paths.XXXXXX");
	assert_non_null(mkdtemp(t.root));
	t.fd = open(t.root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(mkdirat(t.fd, "d", 0700), 0);
	assert_int_equal(mkdirat(t.fd, "d/e", 0700), 0);
	assert_int_equal(io_write_file_at(t.fd, "f", "F", 1, 0600), 0);
	assert_int_equal(symlinkat("d", t.fd, "to-d"), 0);
	assert_int_equal(symlinkat("d/e/../../f", t.fd, "to-f"), 0);
	assert_int_equal(symlinkat("d/new", t.fd, "to-new"), 0);
	assert_int_equal(symlinkat("to-new", t.fd, "to-to-new"), 0);
	assert_int_equal(symlinkat("loop", t.fd, "loop"), 0);
	assert_int_equal(symlinkat("d/e/..", t.fd, "to-dots"), 0);
	assert_int_equal(symlinkat("d/", t.fd, "to-slash"), 0);
	assert_int_equal(symlinkat("/", t.fd, "to-root"), 0);
	*state = &t;
	return 0;
}

static int place_teardown(void **state)
{
	struct place_test *t = *state;

	close(t->fd);
	return io_remove_tree_at(AT_FDCWD, t->root);
}

static ino_t inode(int dir, const char *name)
{
	struct stat st;

	assert_int_equal(fstatat(dir, name, &st, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW), 0);
	return st.st_ino;
}

static void test_place(void **state)
{
	struct place_test *t = *state;
	static const struct {
		const char *path;
		bool follow;
		const char *dir, *name; /* what is found; name "": the folder itself */
		mode_t type;		/* 0: nothing there */
	} good[] = {
		{"f", false, ".", "f", S_IFREG},
		{"d", false, "d", "", S_IFDIR},
		{"d/", true, "d", "", S_IFDIR},
		{"d/new", true, "d", "new", 0},
		{"new/", true, ".", "new", 0},
		{"to-d", false, ".", "to-d", S_IFLNK},
		{"to-d", true, "d", "", S_IFDIR},
		{"to-d/", false, "d", "", S_IFDIR},
		{"to-d/.", false, "d", "", S_IFDIR},
		{"to-f", true, ".", "f", S_IFREG},
		{"to-new", true, "d", "new", 0},
		{"to-to-new", true, "d", "new", 0},
		{"to-dots", true, "d", "", S_IFDIR},
		{"to-slash", true, "d", "", S_IFDIR},
		{"to-root", true, "/", "", S_IFDIR},
	};
	static const struct {
		const char *path;
		int code;
	} bad[] = {{"f/", -ENOTDIR}, {"f/x", -ENOTDIR}, {"no/x", -ENOENT}, {"loop", -ELOOP},
		{"to-f/", -ENOTDIR}};

	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		struct cp_path p = {0};
		struct cp_place found;
		struct err e = {0};
		assert_int_equal(cp_path_set(&p, t->root, good[i].path), 0);
		assert_int_equal(cp_place_find(&p, good[i].follow, &found, &e), 0);
		assert_string_equal(found.name, good[i].name);
		assert_int_equal(found.type, good[i].type);
		assert_int_equal(found.exists, good[i].type != 0);
		assert_int_equal(inode(found.dir, ""), inode(t->fd, good[i].dir));
		cp_place_done(&found);
		cp_path_done(&p);
	}
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct cp_path p = {0};
		struct cp_place found;
		struct err e = {0};
		assert_int_equal(cp_path_set(&p, t->root, bad[i].path), 0);
		assert_int_equal(cp_place_find(&p, true, &found, &e), bad[i].code);
		assert_true(e.msg[0]);
		assert_null(found.name);
		assert_int_equal(found.dir, -1);
		cp_path_done(&p);
	}
}

static void test_table(void **state)
{
	static const struct {
		struct cp_case c;
		int code;
		enum cp_where where;
	} rows[] = {
		/* The reference of `docker container cp`, line by line. A file: */
		{{.dst_exists = false}, 0, CP_ONTO},
		{{.dst_exists = false, .dst_folder = true}, -ENOENT},
		{{.dst_exists = true}, 0, CP_ONTO},
		{{.dst_exists = true, .dst_is_folder = true}, 0, CP_INTO},
		{{.dst_exists = true, .dst_is_folder = true, .dst_folder = true}, 0, CP_INTO},
		/* A folder: */
		{{.src_folder = true}, 0, CP_ONTO},
		{{.src_folder = true, .dst_folder = true}, 0, CP_ONTO},
		{{.src_folder = true, .dst_exists = true}, -ENOTDIR},
		{{.src_folder = true, .dst_exists = true, .dst_is_folder = true}, 0, CP_INTO},
		{{.src_folder = true, .src_content = true, .dst_exists = true, .dst_is_folder = true}, 0,
			CP_ONTO},
		{{.src_folder = true, .src_content = true}, 0, CP_ONTO},
		{{.src_folder = true, .src_content = true, .dst_exists = true}, -ENOTDIR},
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		enum cp_where where = CP_ONTO;
		struct err e = {0};
		assert_int_equal(cp_decide(&rows[i].c, "DST", &where, &e), rows[i].code);
		if (rows[i].code == 0)
			assert_int_equal(where, rows[i].where);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_split),
		cmocka_unit_test(test_clean),
		cmocka_unit_test(test_any_text),
		cmocka_unit_test_setup_teardown(test_place, place_setup, place_teardown),
		cmocka_unit_test(test_table),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
