/* SPDX-License-Identifier: MIT */
/* Trees into archives and back. That others read what is written is the functional tests' part. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/io.h"
#include "oci/content.h"
#include "test-tar.h"

/* ---- a sink that writes down what it is told ---- */

struct notes {
	struct buf text;
	size_t entries, fail_after; /* 0: never */
	uint64_t bytes;
	bool ended;
};

static void note(struct notes *n, const char *fmt, ...) PRINTF(2, 3);
static void note(struct notes *n, const char *fmt, ...)
{
	char line[16384];
	va_list ap;

	va_start(ap, fmt);
	int k = vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	assert_true(k >= 0 && k < (int)sizeof(line));
	assert_int_equal(buf_append(&n->text, line, (size_t)k), 0);
}

static int note_entry(void *data, const struct wire_entry *en, struct err *e)
{
	struct notes *n = data;

	assert_false(n->ended);
	assert_true(wire_path_valid(en->path));
	if (n->fail_after && ++n->entries > n->fail_after)
		return err_set(e, -ENOSPC, "it is full");
	note(n, "%s|%o %u:%u %lld.%09u", en->path, en->mode, en->uid, en->gid, (long long)en->mtime_s,
		en->mtime_ns);
	if (S_ISREG(en->mode))
		note(n, " %llu", (unsigned long long)en->size);
	if (S_ISCHR(en->mode) || S_ISBLK(en->mode))
		note(n, " %u,%u", en->major, en->minor);
	if (en->target)
		note(n, " -> %s", en->target);
	if (en->link)
		note(n, " = %s", en->link);
	for (size_t i = 0; i < en->n_xattrs; i++)
		note(n, " %s=%.*s", en->xattrs[i].name, (int)en->xattrs[i].len,
			(const char *)en->xattrs[i].value);
	note(n, "\n");
	return 0;
}

static int note_content(void *data, uint64_t offset, const void *bytes, size_t len, struct err *e)
{
	struct notes *n = data;

	(void)e;
	n->bytes += len;
	note(n, "  %llu+%zu %.*s\n", (unsigned long long)offset, len, (int)(len < 16 ? len : 16),
		(const char *)bytes);
	return 0;
}

static int note_end(void *data, struct err *e)
{
	struct notes *n = data;

	(void)e;
	n->ended = true;
	return 0;
}

static struct tree_sink sink_of(struct notes *n)
{
	return (struct tree_sink){.entry = note_entry, .content = note_content, .end = note_end, .data = n};
}

static const char *text_of(struct notes *n)
{
	assert_int_equal(buf_append(&n->text, "", 1), 0);
	return (const char *)buf_data(&n->text);
}

/* ---- helpers ---- */

static int memory_file(void)
{
	int fd = memfd_create("archive", MFD_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

static struct oci_tar_sink *open_sink(int fd, const struct oci_tar_opts *o)
{
	struct oci_tar_sink *s = NULL;

	assert_int_equal(oci_tar_sink_new(fd, o, &s, NULL), 0);
	return s;
}

static void put(struct oci_tar_sink *s, const struct wire_entry *en)
{
	const struct tree_sink *to = oci_tar_sink(s);
	struct err e = {0};

	if (to->entry(to->data, en, &e) < 0)
		fail_msg("%s", e.msg);
}

static void put_content(struct oci_tar_sink *s, uint64_t at, const void *bytes, size_t n)
{
	const struct tree_sink *to = oci_tar_sink(s);

	assert_int_equal(to->content(to->data, at, bytes, n, NULL), 0);
}

static void put_end(struct oci_tar_sink *s)
{
	const struct tree_sink *to = oci_tar_sink(s);

	assert_int_equal(to->end(to->data, NULL), 0);
	oci_tar_sink_free(s);
}

static int read_back(int fd, struct notes *n, struct err *e)
{
	struct tree_sink to = sink_of(n);

	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	return oci_tar_read(fd, &to, e);
}

/* What archive `b` says; the error, or the notes. */
static int read_bytes(const struct buf *b, struct notes *n, struct err *e)
{
	int fd = memory_file();

	assert_int_equal(io_write_full(fd, buf_data(b), b->len), 0);
	int r = read_back(fd, n, e);
	close(fd);
	return r;
}

/* ---- there and back ---- */

static void put_all_kinds(struct oci_tar_sink *s, char *deep)
{
	struct wire_xattr x[] = {{(char *)"user.x", (uint8_t *)"a=b\nc", 5},
		{(char *)"security.capability", (uint8_t *)"\1\2", 2}};

	put(s, &(struct wire_entry){.path = (char *)"", .mode = S_IFDIR | 0755, .mtime_s = 7});
	put(s, &(struct wire_entry){.path = (char *)"a",
		       .mode = S_IFREG | 04755,
		       .uid = 1,
		       .gid = 2,
		       .mtime_s = 1700000000,
		       .mtime_ns = 123456789,
		       .size = 5,
		       .xattrs = x,
		       .n_xattrs = 2});
	put_content(s, 0, "hel", 3);
	put_content(s, 3, "lo", 2);
	put(s, &(struct wire_entry){.path = (char *)"b\xff\n", .link = (char *)"a"});
	put(s, &(struct wire_entry){.path = (char *)"d",
		       .mode = S_IFDIR | 01777,
		       .uid = 3000000,
		       .gid = 4294967294u,
		       .mtime_s = -2,
		       .mtime_ns = 750000000});
	put(s, &(struct wire_entry){.path = deep, .mode = S_IFREG | 0600, .mtime_s = 8589934592, .size = 0});
	put(s, &(struct wire_entry){
		       .path = (char *)"e", .mode = S_IFLNK | 0777, .target = (char *)"/x\xfe/../y"});
	put(s, &(struct wire_entry){
		       .path = (char *)"f", .mode = S_IFCHR | 0666, .major = 1, .minor = 1048575});
	put(s, &(struct wire_entry){.path = (char *)"g", .mode = S_IFBLK | 0660, .major = 4095, .minor = 3});
	put(s, &(struct wire_entry){.path = (char *)"h", .mode = S_IFIFO | 0600});
	put(s, &(struct wire_entry){.path = (char *)"i", .mode = S_IFSOCK | 0600});
	put(s, &(struct wire_entry){.path = (char *)"j", .link = (char *)"i"});
}

static void everything_comes_back_but_sockets(void **state)
{
	char deep[302] = "d/";
	struct notes n = {0};
	struct err e = {0};
	int fd = memory_file();
	char expected[2048];

	(void)state;
	memset(deep + 2, 'n', 250);
	deep[3] = '\xf0'; /* not in UTF-8 */
	struct oci_tar_sink *s = open_sink(fd, NULL);
	put_all_kinds(s, deep);
	put_end(s);
	if (read_back(fd, &n, &e) < 0)
		fail_msg("%s", e.msg);
	snprintf(expected, sizeof(expected),
		"|40755 0:0 7.000000000\n"
		"a|104755 1:2 1700000000.123456789 5 user.x=a=b\nc security.capability=\1\2\n"
		"  0+5 hello\n"
		"b\xff\n|0 0:0 0.000000000 = a\n"
		"d|41777 3000000:4294967294 -2.750000000\n"
		"%s|100600 0:0 8589934592.000000000 0\n"
		"e|120777 0:0 0.000000000 -> /x\xfe/../y\n"
		"f|20666 0:0 0.000000000 1,1048575\n"
		"g|60660 0:0 0.000000000 4095,3\n"
		"h|10600 0:0 0.000000000\n",
		deep);
	assert_string_equal(text_of(&n), expected);
	assert_true(n.ended);
	buf_done(&n.text);
	close(fd);
}

static void the_same_tree_gives_the_same_bytes(void **state)
{
	char deep[300] = "d/";
	struct stat st[2];
	int fds[2];

	(void)state;
	memset(deep + 2, 'n', 250);
	for (int i = 0; i < 2; i++) {
		fds[i] = memory_file();
		struct oci_tar_sink *s = open_sink(fds[i], NULL);
		put_all_kinds(s, deep);
		put_end(s);
		assert_int_equal(fstat(fds[i], &st[i]), 0);
	}
	assert_true(st[0].st_size == st[1].st_size && st[0].st_size % 512 == 0);
	char *a = malloc((size_t)st[0].st_size), *b = malloc((size_t)st[0].st_size);
	assert_true(a && b);
	assert_int_equal(io_pread_full(fds[0], a, (size_t)st[0].st_size, 0), st[0].st_size);
	assert_int_equal(io_pread_full(fds[1], b, (size_t)st[0].st_size, 0), st[0].st_size);
	assert_memory_equal(a, b, (size_t)st[0].st_size);
	free(a);
	free(b);
	close(fds[0]);
	close(fds[1]);
}

/* Holes at the beginning, between and at the end, and a file of nothing else. */
static void sparse_files_stay_small_and_sparse(void **state)
{
	const struct wire_entry big = {.path = (char *)"big", .mode = S_IFREG | 0644, .size = 1ull << 45};
	const struct wire_entry empty = {.path = (char *)"none", .mode = S_IFREG | 0644, .size = 1ull << 40};
	int fd = memory_file();
	struct notes n = {0};
	struct stat st;

	(void)state;
	struct oci_tar_sink *s = open_sink(fd, NULL);
	put(s, &big);
	put_content(s, 4096, "one", 3);
	put_content(s, 1ull << 44, "two", 3);
	put(s, &empty);
	put(s, &(struct wire_entry){.path = (char *)"z", .mode = S_IFREG | 0644, .size = 1});
	put_content(s, 0, "z", 1);
	put_end(s);
	assert_int_equal(fstat(fd, &st), 0);
	assert_true(st.st_size < 16384);
	assert_int_equal(read_back(fd, &n, NULL), 0);
	assert_string_equal(text_of(&n),
		"|40755 0:0 0.000000000\n"
		"big|100644 0:0 0.000000000 35184372088832\n  4096+3 one\n  17592186044416+3 two\n"
		"none|100644 0:0 0.000000000 1099511627776\n"
		"z|100644 0:0 0.000000000 1\n  0+1 z\n");
	buf_done(&n.text);
	close(fd);
}

/* More content than is kept before the header, more pieces than a map has, and what ends before its size. */
static void what_is_not_kept_gets_zeros(void **state)
{
	static char block[1 << 20];
	int fd = memory_file();
	struct notes n = {0};
	struct stat st;

	(void)state;
	memset(block, 'x', sizeof(block));
	struct oci_tar_sink *s = open_sink(fd, NULL);
	put(s, &(struct wire_entry){.path = (char *)"a", .mode = S_IFREG | 0644, .size = 8 << 20});
	for (unsigned i = 0; i < 6; i++)
		put_content(s, (uint64_t)i << 20, block, sizeof(block));
	put(s, &(struct wire_entry){.path = (char *)"b", .mode = S_IFREG | 0644, .size = 2 << 20});
	for (unsigned i = 0; i < 2000; i++)
		put_content(s, 4 + (uint64_t)i * 1024, "y", 1);
	put_end(s);
	assert_int_equal(fstat(fd, &st), 0);
	assert_true(st.st_size > (10 << 20) && st.st_size < (10 << 20) + 8192);
	assert_int_equal(read_back(fd, &n, NULL), 0);
	assert_true(n.bytes == 10u << 20);
	buf_done(&n.text);
	close(fd);
}

/* ---- options ---- */

static int read_names(int fd, char *dst, size_t size)
{
	char h[512];
	size_t len = 0;

	dst[0] = '\0';
	for (off_t at = 0; io_pread_full(fd, h, 512, at) == 512 && h[0];) {
		len += (size_t)snprintf(dst + len, size - len, "%.100s %c\n", h, h[156]);
		at += 512 + (off_t)((strtoull(h + 124, NULL, 8) + 511) / 512 * 512);
	}
	return (int)len;
}

static void a_layer_marks_what_is_gone(void **state)
{
	static const struct oci_tar_opts layer = {.layer = true};
	int fd = memory_file();
	char names[1024];
	struct err e = {0};

	(void)state;
	struct oci_tar_sink *s = open_sink(fd, &layer);
	const struct tree_sink *to = oci_tar_sink(s);
	put(s, &(struct wire_entry){.path = (char *)"", .mode = S_IFDIR | 0755});
	put(s, &(struct wire_entry){.path = (char *)"d", .mode = S_IFDIR | 0755, .opaque = true});
	put(s, &(struct wire_entry){.path = (char *)"d/x", .whiteout = true});
	put(s, &(struct wire_entry){.path = (char *)"y", .whiteout = true});
	assert_int_equal(to->entry(to->data,
				 &(struct wire_entry){.path = (char *)"d/.wh.z", .mode = S_IFREG | 0644}, &e),
		-EINVAL);
	assert_non_null(strstr(e.msg, ".wh."));
	/* Holes are zeros there. */
	put(s, &(struct wire_entry){.path = (char *)"s", .mode = S_IFREG | 0644, .size = 1 << 20});
	put_end(s);
	read_names(fd, names, sizeof(names));
	assert_string_equal(names, "./ 5\nd/ 5\nd/.wh..wh..opq 0\nd/.wh.x 0\n.wh.y 0\ns 0\n");
	close(fd);

	fd = memory_file();
	s = open_sink(fd, NULL);
	to = oci_tar_sink(s);
	assert_int_equal(to->entry(to->data, &(struct wire_entry){.path = (char *)"y", .whiteout = true}, &e),
		-EINVAL);
	oci_tar_sink_free(s);
	close(fd);
}

static void a_prefix_is_before_every_name(void **state)
{
	static const struct oci_tar_opts prefix = {.prefix = "top"}, bare = {.no_root = true};
	int fd = memory_file();
	char names[1024];

	(void)state;
	struct oci_tar_sink *s = open_sink(fd, &prefix);
	put(s, &(struct wire_entry){.path = (char *)"", .mode = S_IFDIR | 0755});
	put(s, &(struct wire_entry){.path = (char *)"a", .mode = S_IFREG | 0644});
	put(s, &(struct wire_entry){.path = (char *)"b", .link = (char *)"a"});
	put_end(s);
	read_names(fd, names, sizeof(names));
	assert_string_equal(names, "top/ 5\ntop/a 0\ntop/b 1\n");
	close(fd);

	fd = memory_file();
	s = open_sink(fd, &prefix); /* the tree is one file */
	put(s, &(struct wire_entry){.path = (char *)"", .mode = S_IFREG | 0644});
	put_end(s);
	read_names(fd, names, sizeof(names));
	assert_string_equal(names, "top 0\n");
	close(fd);

	fd = memory_file();
	s = open_sink(fd, &bare);
	put(s, &(struct wire_entry){.path = (char *)"", .mode = S_IFDIR | 0755});
	put(s, &(struct wire_entry){.path = (char *)"a", .mode = S_IFDIR | 0755});
	put_end(s);
	read_names(fd, names, sizeof(names));
	assert_string_equal(names, "a/ 5\n");
	close(fd);
}

static void a_source_that_breaks_the_rules_is_refused(void **state)
{
	int fd = memory_file();
	struct oci_tar_sink *s = open_sink(fd, NULL);
	const struct tree_sink *to = oci_tar_sink(s);
	struct err e = {0};

	(void)state;
	assert_int_equal(to->content(to->data, 0, "x", 1, &e), -EBADMSG);
	put(s, &(struct wire_entry){.path = (char *)"a", .mode = S_IFREG | 0644, .size = 4});
	assert_int_equal(to->content(to->data, 3, "xy", 2, &e), -EBADMSG);
	put_content(s, 2, "x", 1);
	assert_int_equal(to->content(to->data, 1, "x", 1, &e), -EBADMSG);
	assert_int_equal(to->content(to->data, UINT64_MAX, "x", 1, &e), -EBADMSG);
	assert_int_equal(
		to->entry(to->data, &(struct wire_entry){.path = (char *)"b", .link = (char *)"c"}, &e),
		-EBADMSG);
	oci_tar_sink_free(s);
	close(fd);
}

/* ---- reading what others made ---- */

static void assert_refused(const struct tar_entry *t, size_t n, int code, const char *what)
{
	CLEANUP(buf_done) struct buf b = {0};
	struct notes notes = {0};
	struct err e = {0};

	for (size_t i = 0; i < n; i++)
		tar_put(&b, &t[i]);
	tar_end(&b);
	assert_int_equal(read_bytes(&b, &notes, &e), code);
	if (!strstr(e.msg, what))
		fail_msg("\"%s\" is not about \"%s\"", e.msg, what);
	assert_false(notes.ended);
	buf_done(&notes.text);
}

static void what_leads_out_is_refused(void **state)
{
	const struct tar_entry up = {.name = "../x"}, back = {.name = "a/../../a/x"},
			       link[] = {{.name = "x", .type = '1', .link = "../../etc/passwd"}},
			       absent[] = {{.name = "x", .type = '1', .link = "etc/passwd"}},
			       folder[] = {{.name = "d", .type = '5'},
				       {.name = "x", .type = '1', .link = "d"}},
			       through[] = {{.name = "l", .type = '2', .link = "/etc"}, {.name = "l/x"}},
			       below[] = {{.name = "f"}, {.name = "f/x"}};

	(void)state;
	assert_refused(&up, 1, -EINVAL, "leads out");
	assert_refused(&back, 1, -EINVAL, "leads out");
	assert_refused(link, 1, -EINVAL, "leads out");
	assert_refused(absent, 1, -ENOENT, "did not come before");
	assert_refused(folder, 2, -EPERM, "is a folder");
	assert_refused(through, 2, -ENOTDIR, "not a folder");
	assert_refused(below, 2, -ENOTDIR, "not a folder");
	assert_refused(&(struct tar_entry){.name = "."}, 1, -EISDIR, "root");
}

static void paths_are_cleaned_and_parents_made(void **state)
{
	CLEANUP(buf_done) struct buf b = {0};
	struct notes n = {0};

	(void)state;
	tar_put(&b, &(struct tar_entry){.name = "/a//b/./c/../x", .mode = 0600, .data = "12", .size = 2});
	tar_put(&b, &(struct tar_entry){.name = "./", .type = '5', .mode = 0700});
	tar_put(&b, &(struct tar_entry){.name = "a", .type = '5', .mode = 0711});
	tar_put(&b, &(struct tar_entry){.name = "y", .type = '1', .link = "/a/b/x"});
	tar_put(&b, &(struct tar_entry){.name = "z", .type = '1', .link = "y"});
	tar_end(&b);
	assert_int_equal(read_bytes(&b, &n, NULL), 0);
	assert_string_equal(text_of(&n), "|40755 0:0 0.000000000\n"
					 "a|40755 0:0 0.000000000\n"
					 "a/b|40755 0:0 0.000000000\n"
					 "a/b/x|100600 0:0 0.000000000 2\n  0+2 12\n"
					 "a|40711 0:0 0.000000000\n"
					 "y|0 0:0 0.000000000 = a/b/x\n"
					 "z|0 0:0 0.000000000 = y\n");
	buf_done(&n.text);
}

static void an_empty_archive_is_an_empty_tree(void **state)
{
	CLEANUP(buf_done) struct buf b = {0};
	struct notes n = {0};

	(void)state;
	assert_int_equal(read_bytes(&b, &n, NULL), -ENODATA); /* not even that */
	assert_int_equal(n.text.len, 0);
	tar_end(&b);
	assert_int_equal(read_bytes(&b, &n, NULL), 0);
	assert_string_equal(text_of(&n), "|40755 0:0 0.000000000\n");
	assert_true(n.ended);
	buf_done(&n.text);
}

static void damage_is_told(void **state)
{
	CLEANUP(buf_done) struct buf b = {0};
	struct notes n = {0};
	struct err e = {0};

	(void)state;
	tar_put(&b, &(struct tar_entry){.name = "a", .data = "0123456789", .size = 10});
	b.len -= 505;
	assert_true(read_bytes(&b, &n, &e) < 0);
	assert_true(e.msg[0] && !n.ended);
	buf_done(&n.text);
	n = (struct notes){0};
	b.len = 0;
	for (int i = 0; i < 400; i++)
		assert_int_equal(buf_append(&b, "garbage ", 8), 0);
	assert_int_equal(read_bytes(&b, &n, &e), -EBADMSG);
	buf_done(&n.text);
}

static void a_sink_that_fails_ends_it(void **state)
{
	CLEANUP(buf_done) struct buf b = {0};
	struct notes n = {.fail_after = 2};
	struct err e = {0};

	(void)state;
	tar_text(&b, "a", "1");
	tar_text(&b, "b", "2");
	tar_end(&b);
	assert_int_equal(read_bytes(&b, &n, &e), -ENOSPC);
	assert_string_equal(e.msg, "entry \"b\": it is full");
	assert_false(n.ended);
	buf_done(&n.text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(everything_comes_back_but_sockets),
		cmocka_unit_test(the_same_tree_gives_the_same_bytes),
		cmocka_unit_test(sparse_files_stay_small_and_sparse),
		cmocka_unit_test(what_is_not_kept_gets_zeros),
		cmocka_unit_test(a_layer_marks_what_is_gone),
		cmocka_unit_test(a_prefix_is_before_every_name),
		cmocka_unit_test(a_source_that_breaks_the_rules_is_refused),
		cmocka_unit_test(what_leads_out_is_refused),
		cmocka_unit_test(paths_are_cleaned_and_parents_made),
		cmocka_unit_test(an_empty_archive_is_an_empty_tree),
		cmocka_unit_test(damage_is_told),
		cmocka_unit_test(a_sink_that_fails_ends_it),
	};

	return cmocka_run_group_tests_name("tar-tree", tests, NULL, NULL);
}
