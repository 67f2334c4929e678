/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "layer.h"
#include "test-erofs-reader.h"
#include "test-tar.h"

struct memory {
	const uint8_t *p;
	size_t n;
};

static ssize_t read_memory(void *data, void *buf, size_t n, struct err *e)
{
	struct memory *m = data;

	n = MIN_OF(n, m->n);
	if (n)
		memcpy(buf, m->p, n);
	m->p += n;
	m->n -= n;
	return (ssize_t)n;
}

/* Builds an image of the layers (consumed). fd of it, or -errno. */
static int build(struct buf *layers, size_t n, struct err *e)
{
	struct oci_erofs w;
	struct oci_tree *tree;
	struct oci_tree_ops ops = {oci_erofs_discard, &w};
	static const uint8_t uuid[16] = "0123456789abcde";
	int fd = memfd_create("erofs", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(oci_erofs_init(&w, fd, e), 0);
	assert_int_equal(oci_tree_new(&ops, &tree, e), 0);
	w.tree = tree;
	int r = 0;
	for (size_t i = 0; i < n; i++) {
		tar_end(&layers[i]);
		struct memory m = {buf_data(&layers[i]), layers[i].len};
		struct oci_source src = {.read = read_memory, .data = &m};
		struct oci_stream *s;
		assert_int_equal(oci_stream_new("layer", &src, NULL, 1 << 30, &s, e), 0);
		if (r == 0)
			r = oci_layer_apply(&w, s, NULL, NULL, e);
		oci_stream_free(s);
		buf_done(&layers[i]);
	}
	if (r == 0)
		r = oci_erofs_finish(&w, uuid, e);
	oci_erofs_done(&w);
	oci_tree_free(tree);
	if (r < 0) {
		close(fd);
		return r;
	}
	return fd;
}

static void open_built(struct er_image *im, struct buf *layers, size_t n)
{
	struct err e = {0};
	int fd = build(layers, n, &e);

	if (fd < 0)
		fail_msg("%s", e.msg);
	er_open(im, fd);
	close(fd);
	er_check_all(im);
}

static void assert_refused(struct buf *layers, size_t n, const char *why)
{
	struct err e = {0};
	int fd = build(layers, n, &e);

	assert_true(fd < 0);
	assert_non_null(strstr(e.msg, why));
}

static struct er_inode get(const struct er_image *im, const char *path)
{
	uint64_t nid = er_lookup(im, path);

	if (!nid)
		fail_msg("%s is missing", path);
	return er_get(im, nid);
}

static void assert_content(const struct er_image *im, const char *path, const void *data, size_t n)
{
	struct er_inode i = get(im, path);
	uint8_t *got = malloc(n + 1);

	assert_int_equal(i.size, n);
	er_read(im, &i, 0, got, n);
	assert_memory_equal(got, data, n);
	free(got);
}

static void test_empty(void **state)
{
	struct buf l = {0};
	struct er_image im;

	open_built(&im, &l, 1);
	struct er_inode root = get(&im, "");
	assert_int_equal(root.mode, S_IFDIR | 0755);
	assert_int_equal(im.inos, 1);
	er_close(&im);
}

static void test_sizes(void **state)
{
	static const size_t sizes[] = {0, 1, 2047, 2048, 2049, 4095, 4096, 4097, 8192, 70000, 3 << 20};
	static uint8_t data[3 << 20];
	struct buf l = {0};
	struct er_image im;
	char name[32];

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 2654435761u >> 13);
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		snprintf(name, sizeof(name), "d/f%zu", sizes[i]);
		tar_file(&l, name, data + i, sizes[i] - (i > 9 ? i : 0));
	}
	open_built(&im, &l, 1);
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		snprintf(name, sizeof(name), "d/f%zu", sizes[i]);
		assert_content(&im, name, data + i, sizes[i] - (i > 9 ? i : 0));
	}
	er_close(&im);
}

static void test_metadata(void **state)
{
	static const uint8_t cap[] = {1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
	struct buf l = {0};
	struct er_image im;
	uint8_t value[65536];
	char target[101];

	memset(target, 't', 100);
	target[100] = '\0';
	tar_put(&l,
		&(struct tar_entry){.name = "dev/null", .type = '3', .mode = 0666, .major = 1, .minor = 3});
	tar_put(&l, &(struct tar_entry){
			    .name = "dev/big", .type = '4', .mode = 0600, .major = 259, .minor = 70000});
	tar_put(&l, &(struct tar_entry){.name = "fifo", .type = '6'});
	tar_put(&l, &(struct tar_entry){.name = "sticky/", .type = '5', .mode = 01777});
	tar_put(&l, &(struct tar_entry){.name = "link", .type = '2', .link = target});
	tar_pax("SCHILY.xattr.security.capability", cap, sizeof(cap));
	tar_pax("mtime", "-1.25", 5);
	tar_put(&l, &(struct tar_entry){.name = "su", .mode = 04755, .uid = 0});
	tar_pax("uid", "4294967294", 10);
	tar_pax("mtime", "5000000000.123456789", 20);
	tar_pax("SCHILY.xattr.user.a", "x", 1);
	tar_pax("SCHILY.xattr.trusted.overlay.opaque", "y", 1);
	tar_pax("SCHILY.xattr.unknown.a", "x", 1);
	tar_put(&l, &(struct tar_entry){.name = "f", .gid = 65536, .data = "abc", .size = 3});
	tar_pax("path", "bad\xff\xfename", 9);
	tar_file(&l, "ignored", "raw", 3);
	tar_pax("path", "e\xcc\x81", 3);
	tar_file(&l, "ignored", "not composed", 12);
	open_built(&im, &l, 1);

	assert_int_equal(get(&im, "dev/null").u, 0x103);
	assert_int_equal(get(&im, "dev/null").mode, S_IFCHR | 0666);
	assert_int_equal(get(&im, "dev/big").u, (70000 & 0xff) | 259 << 8 | (70000 & ~0xff) << 12);
	assert_int_equal(get(&im, "fifo").mode, S_IFIFO | 0644);
	assert_int_equal(get(&im, "sticky").mode, S_IFDIR | 01777);
	assert_content(&im, "link", target, 100);
	struct er_inode su = get(&im, "su");
	assert_int_equal(su.mode, S_IFREG | 04755);
	assert_int_equal(su.mtime, -2);
	assert_int_equal(su.nsec, 750000000);
	assert_int_equal(er_xattr(&im, &su, 6, "capability", value), sizeof(cap));
	assert_memory_equal(value, cap, sizeof(cap));
	struct er_inode f = get(&im, "f");
	assert_int_equal(f.uid, 4294967294u);
	assert_int_equal(f.gid, 65536);
	assert_int_equal(f.mtime, 5000000000);
	assert_int_equal(f.nsec, 123456789);
	assert_int_equal(er_xattr(&im, &f, 1, "a", value), 1);
	assert_int_equal(er_xattr(&im, &f, 4, "overlay.opaque", value), -1);
	assert_content(&im, "bad\xff\xfename", "raw", 3);
	assert_content(&im, "e\xcc\x81", "not composed", 12);
	er_close(&im);
}

static void test_large_directory(void **state)
{
	struct buf l = {0};
	struct er_image im;
	char name[120];

	for (int i = 0; i < 3000; i++) {
		snprintf(name, sizeof(name), "big/%0*d", 1 + i % 90, i * 7919 % 3000);
		tar_file(&l, name, "", 0);
	}
	tar_file(&l, "big/!first", "1", 1);
	tar_file(&l, "big/-second", "2", 1);
	open_built(&im, &l, 1);
	assert_content(&im, "big/!first", "1", 1);
	assert_content(&im, "big/-second", "2", 1);
	assert_true(get(&im, "big").size > 40000);
	er_close(&im);
}

static void test_hard_links(void **state)
{
	static uint8_t data[9000];
	struct buf l[3] = {0};
	struct er_image im;

	memset(data, 7, sizeof(data));
	tar_file(&l[0], "a", data, sizeof(data));
	tar_put(&l[0], &(struct tar_entry){.name = "b", .type = '1', .link = "a"});
	tar_put(&l[0], &(struct tar_entry){.name = "d/c", .type = '1', .link = "./b"});
	/* to a lower layer, which then loses its own name */
	tar_put(&l[1], &(struct tar_entry){.name = "e", .type = '1', .link = "/a"});
	tar_put(&l[1], &(struct tar_entry){.name = "a", .type = '1', .link = "a"});
	tar_file(&l[2], ".wh.a", "", 0);
	tar_file(&l[2], "b", "new", 3);
	open_built(&im, l, 3);
	assert_int_equal(er_lookup(&im, "e"), er_lookup(&im, "d/c"));
	assert_int_equal(get(&im, "e").nlink, 2);
	assert_content(&im, "e", data, sizeof(data));
	assert_content(&im, "b", "new", 3);
	assert_int_equal(er_lookup(&im, "a"), 0);
	er_close(&im);
}

static void test_whiteouts(void **state)
{
	struct buf l[2] = {0};
	struct er_image im;

	tar_file(&l[0], "d/gone", "1", 1);
	tar_file(&l[0], "d/stays", "2", 1);
	tar_file(&l[0], "tree/x/y", "3", 1);
	tar_file(&l[0], "o/low", "4", 1);
	tar_file(&l[0], "o/sub/low", "5", 1);
	tar_file(&l[0], "back", "6", 1);
	tar_file(&l[1], "d/.wh.gone", "", 0);
	tar_file(&l[1], ".wh.tree", "", 0);
	tar_file(&l[1], "o/new", "7", 1);
	tar_file(&l[1], "o/sub/new", "8", 1);
	tar_file(&l[1], "o/.wh..wh..opq", "", 0);
	tar_file(&l[1], "back", "9", 1);
	tar_file(&l[1], ".wh.back", "", 0); /* hides only lower layers' */
	tar_file(&l[1], ".wh.never", "", 0);
	tar_file(&l[1], "no/such/.wh.x", "", 0);
	tar_file(&l[1], ".wh..wh.plnk/9.1", "", 0);
	open_built(&im, l, 2);
	assert_int_equal(er_lookup(&im, "d/gone"), 0);
	assert_content(&im, "d/stays", "2", 1);
	assert_int_equal(er_lookup(&im, "tree"), 0);
	assert_int_equal(er_lookup(&im, "o/low"), 0);
	assert_int_equal(er_lookup(&im, "o/sub/low"), 0);
	assert_content(&im, "o/new", "7", 1);
	assert_content(&im, "o/sub/new", "8", 1);
	assert_content(&im, "back", "9", 1);
	assert_int_equal(er_lookup(&im, "no"), 0);
	assert_int_equal(er_lookup(&im, ".wh..wh.plnk"), 0);
	er_close(&im);
}

static void test_replacing(void **state)
{
	struct buf l[2] = {0};
	struct er_image im;

	tar_file(&l[0], "file", "1", 1);
	tar_file(&l[0], "dir/x", "2", 1);
	tar_put(&l[0], &(struct tar_entry){.name = "merge/", .type = '5', .mode = 0700});
	tar_file(&l[0], "merge/kept", "3", 1);
	tar_put(&l[1], &(struct tar_entry){.name = "file", .type = '5', .mode = 0755});
	tar_file(&l[1], "file/inside", "4", 1);
	tar_file(&l[1], "dir", "5", 1);
	tar_put(&l[1], &(struct tar_entry){.name = "merge", .type = '5', .mode = 0711, .uid = 9});
	tar_file(&l[1], "twice", "6", 1);
	tar_file(&l[1], "twice", "77", 2);
	tar_put(&l[1], &(struct tar_entry){.name = "./", .type = '5', .mode = 0750});
	open_built(&im, l, 2);
	assert_content(&im, "file/inside", "4", 1);
	assert_content(&im, "dir", "5", 1);
	assert_content(&im, "merge/kept", "3", 1);
	assert_int_equal(get(&im, "merge").mode, S_IFDIR | 0711);
	assert_int_equal(get(&im, "merge").uid, 9);
	assert_content(&im, "twice", "77", 2);
	assert_int_equal(get(&im, "").mode, S_IFDIR | 0750);
	er_close(&im);
}

/* Nothing leaves the root, by whatever way. */
static void test_paths(void **state)
{
	struct buf l = {0};
	struct er_image im;

	tar_put(&l, &(struct tar_entry){.name = "usr/lib/", .type = '5', .mode = 0755});
	tar_put(&l, &(struct tar_entry){.name = "lib", .type = '2', .link = "usr/lib"});
	tar_put(&l, &(struct tar_entry){.name = "abs", .type = '2', .link = "/usr"});
	tar_put(&l, &(struct tar_entry){.name = "usr/up", .type = '2', .link = "../../../.."});
	tar_put(&l, &(struct tar_entry){.name = "dangling", .type = '2', .link = "made/here"});
	tar_file(&l, "lib/a", "1", 1);
	tar_file(&l, "abs/lib/b", "2", 1);
	tar_file(&l, "usr/up/c", "3", 1);
	tar_file(&l, "dangling/d", "4", 1);
	tar_file(&l, "../../etc/e", "5", 1);
	tar_file(&l, "/x/../../f", "6", 1);
	open_built(&im, &l, 1);
	assert_content(&im, "usr/lib/a", "1", 1);
	assert_content(&im, "usr/lib/b", "2", 1);
	assert_content(&im, "c", "3", 1);
	assert_content(&im, "made/here/d", "4", 1);
	assert_content(&im, "etc/e", "5", 1);
	assert_content(&im, "f", "6", 1);
	er_close(&im);
}

static void test_refusals(void **state)
{
	struct buf l[1] = {0};

	tar_put(l, &(struct tar_entry){.name = "a", .type = '1', .link = "missing"});
	assert_refused(l, 1, "missing");
	l[0] = (struct buf){0};
	tar_put(l, &(struct tar_entry){.name = "d", .type = '5'});
	tar_put(l, &(struct tar_entry){.name = "a", .type = '1', .link = "d"});
	assert_refused(l, 1, "folder");
	l[0] = (struct buf){0};
	tar_put(l, &(struct tar_entry){.name = "x", .type = '2', .link = "y"});
	tar_put(l, &(struct tar_entry){.name = "y", .type = '2', .link = "x"});
	tar_file(l, "x/f", "", 0);
	assert_refused(l, 1, "too many symbolic links");
	l[0] = (struct buf){0};
	tar_file(l, "f", "", 0);
	tar_file(l, "f/g", "", 0);
	assert_refused(l, 1, "not a folder");
	l[0] = (struct buf){0};
	tar_file(l, "f", "", 0);
	l[0].mem[10] ^= 1;
	assert_refused(l, 1, "tar archive");
	l[0] = (struct buf){0};
	tar_put(l, &(struct tar_entry){.name = ".", .type = '2', .link = "x"});
	assert_refused(l, 1, "root");
	l[0] = (struct buf){0};
	tar_put(l, &(struct tar_entry){.name = "dev", .type = '3', .major = 5000});
	assert_refused(l, 1, "device number");
}

/* A map of holes takes room in memory; content does not, whether it is read or passed over. */
static void test_long_descriptions(void **state)
{
	size_t n = 24 << 20;
	char *data = malloc(n);
	struct er_image im;
	struct buf l = {0};

	for (size_t i = 0; i < n; i += 4)
		memcpy(data + i, "0\n0\n", 4);
	memcpy(data, "9999999\n", 8);
	tar_pax("GNU.sparse.major", "1", 1);
	tar_pax("GNU.sparse.minor", "0", 1);
	tar_pax("GNU.sparse.name", "sparse", 6);
	tar_pax("GNU.sparse.realsize", "1", 1);
	tar_file(&l, "GNUSparseFile.0/sparse", data, n);
	assert_refused(&l, 1, "the description of an entry is longer than 4 MiB");
	l = (struct buf){0};
	tar_file(&l, ".wh.nothing", data, n);
	tar_file(&l, "big", data, n);
	tar_file(&l, "small", data, 7);
	open_built(&im, &l, 1);
	assert_int_equal(get(&im, "big").size, n);
	assert_int_equal(get(&im, "small").size, 7);
	er_close(&im);
	free(data);
}

/* GNU's sparse format 1.0 in pax: the map stands in front of the data. */
static void test_sparse(void **state)
{
	struct buf l = {0};
	struct er_image im;
	static char body[512 + 1024];
	static const uint64_t size = 40ull << 30, at = 5000000000ull;
	char text[32], got[1024], zeros[64] = {0};
	int n = snprintf(
		body, 512, "2\n%llu\n1024\n%llu\n0\n", (unsigned long long)at, (unsigned long long)size);

	assert_true(n < 512);
	memset(body + 512, 's', 1024);
	tar_pax("GNU.sparse.major", "1", 1);
	tar_pax("GNU.sparse.minor", "0", 1);
	tar_pax("GNU.sparse.name", "sparse", 6);
	n = snprintf(text, sizeof(text), "%llu", (unsigned long long)size);
	tar_pax("GNU.sparse.realsize", text, (size_t)n);
	tar_file(&l, "GNUSparseFile.0/sparse", body, sizeof(body));
	open_built(&im, &l, 1);
	struct er_inode i = get(&im, "sparse");
	assert_int_equal(i.size, size);
	er_read(&im, &i, at, got, sizeof(got));
	assert_memory_equal(got, body + 512, 1024);
	er_read(&im, &i, at - 64, got, 64);
	assert_memory_equal(got, zeros, 64);
	er_read(&im, &i, size - 64, got, 64);
	assert_memory_equal(got, zeros, 64);
	er_close(&im);
}

/* What a higher layer replaces takes no room on the disk. */
static void test_punching(void **state)
{
	static uint8_t data[8 << 20];
	struct buf l[2] = {0};
	struct err e = {0};
	struct stat st;

	memset(data, 1, sizeof(data));
	tar_file(&l[0], "big", data, sizeof(data));
	tar_file(&l[1], ".wh.big", "", 0);
	int fd = build(l, 2, &e);
	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_true(st.st_size > (off_t)sizeof(data));
	assert_true(st.st_blocks * 512 < 1 << 20);
	close(fd);
}

static void test_deterministic(void **state)
{
	struct buf l[2] = {0};
	struct err e = {0};
	uint8_t a[4096 * 16], b[4096 * 16];

	for (int k = 0; k < 2; k++) {
		for (int i = 0; i < 100; i++) {
			char name[32];
			snprintf(name, sizeof(name), "d%d/f%d", i % 7, i);
			tar_file(&l[k], name, name, strlen(name));
		}
		int fd = build(&l[k], 1, &e);
		assert_true(fd >= 0);
		memset(k ? b : a, 0, sizeof(a));
		assert_true(pread(fd, k ? b : a, sizeof(a), 0) > 0);
		close(fd);
	}
	assert_memory_equal(a, b, sizeof(a));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_empty),
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_metadata),
		cmocka_unit_test(test_large_directory),
		cmocka_unit_test(test_hard_links),
		cmocka_unit_test(test_whiteouts),
		cmocka_unit_test(test_replacing),
		cmocka_unit_test(test_paths),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_long_descriptions),
		cmocka_unit_test(test_sparse),
		cmocka_unit_test(test_punching),
		cmocka_unit_test(test_deterministic),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
