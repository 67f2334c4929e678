/* SPDX-License-Identifier: MIT */
/* Disks made of layers, and of other disks: the same bytes either way, and damage noticed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base-disk.h"
#include "recipe-format.h"
#include "test-built.h"
#include "test-erofs-reader.h"

/* In the place of the C library's, for disks whose medium fails. */
static _Atomic bool unreadable;

ssize_t copy_file_range(int in, off_t *in_off, int out, off_t *out_off, size_t n, unsigned flags)
{
	if (!unreadable)
		return syscall(SYS_copy_file_range, in, in_off, out, out_off, n, flags);
	errno = EIO;
	return -1;
}

static int open_disk(struct home *h, const struct made *m, int flags)
{
	char name[OCI_DIGEST_MAX + 8];

	snprintf(name, sizeof(name), "%s.img", oci_digest_hex(m->chain));
	if (flags != O_RDONLY)
		assert_int_equal(fchmodat(h->s->disks_fd, name, 0600, 0), 0);
	int fd = openat(h->s->disks_fd, name, flags | O_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

static void digest_of_disk(struct home *h, const struct made *m, char ret[OCI_DIGEST_MAX])
{
	struct stat st;
	int fd = open_disk(h, m, O_RDONLY);

	assert_int_equal(fstat(fd, &st), 0);
	uint8_t *mem = malloc((size_t)st.st_size);
	assert_int_equal(io_pread_full(fd, mem, (size_t)st.st_size, 0), st.st_size);
	assert_int_equal(oci_digest_of(mem, (size_t)st.st_size, ret, NULL), 0);
	free(mem);
	close(fd);
}

static void forget_all(struct home *h)
{
	struct err e = {0};

	assert_int_equal(state_exec(h->s->st, &e, "DELETE FROM image_disks", ""), 0);
}

/* Builds m on what is there; taken: layers that were not read. It is what building it from nothing gives. */
static void assert_built_on(struct home *h, struct made *m, size_t taken)
{
	char on_base[OCI_DIGEST_MAX], alone[OCI_DIGEST_MAX];
	uint64_t brought[LAYERS];
	struct er_image im;

	build(h, m);
	for (size_t i = 0; i < m->n; i++) {
		assert_int_equal(m->layers[i].begun, i >= taken);
		brought[i] = m->layers[i].brought;
	}
	digest_of_disk(h, m, on_base);
	int fd = open_disk(h, m, O_RDONLY);
	er_open(&im, fd);
	er_check_all(&im);
	er_close(&im);
	close(fd);
	forget_all(h);
	build(h, m);
	for (size_t i = 0; i < m->n; i++) {
		assert_true(m->layers[i].begun);
		assert_int_equal(m->layers[i].brought, brought[i]);
	}
	digest_of_disk(h, m, alone);
	assert_string_equal(on_base, alone);
}

static void tar_bytes(struct buf *b, const char *name, size_t n, unsigned seed)
{
	uint8_t *mem = malloc(n + 1);

	for (size_t i = 0; i < n; i++)
		mem[i] = (uint8_t)((i * 2654435761u >> 13) + seed);
	tar_file(b, name, mem, n);
	free(mem);
}

/* Everything that a recipe has to say. */
static void put_base(struct made *m)
{
	static const uint8_t cap[] = {1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
	static char body[512 + 1024];
	struct buf *l = &m->tars[0];

	tar_put(l, &(struct tar_entry){.name = "./", .type = '5', .mode = 0751});
	tar_put(l,
		&(struct tar_entry){.name = "dev/null", .type = '3', .mode = 0666, .major = 1, .minor = 3});
	tar_put(l, &(struct tar_entry){.name = "link", .type = '2', .link = "../usr/lib"});
	tar_pax("SCHILY.xattr.security.capability", cap, sizeof(cap));
	tar_pax("mtime", "-1.25", 5);
	tar_put(l, &(struct tar_entry){.name = "su", .mode = 04755});
	tar_pax("path", "bad\xff\xfename", 9);
	tar_file(l, "ignored", "raw", 3);
	for (int i = 0; i < 300; i++) {
		char name[40];
		snprintf(name, sizeof(name), "d%d/f%d", i % 7, i);
		tar_bytes(l, name, (size_t)i * 97, (unsigned)i);
	}
	tar_bytes(l, "status", 300000, 1);
	tar_bytes(l, "big", 9 << 20, 2);
	tar_bytes(l, "huge", 5 << 20, 3);
	int n = snprintf(body, 512, "2\n1000000\n1024\n4000000\n0\n");
	assert_true(n < 512);
	memset(body + 512, 's', 1024);
	tar_pax("GNU.sparse.major", "1", 1);
	tar_pax("GNU.sparse.minor", "0", 1);
	tar_pax("GNU.sparse.name", "sparse", 6);
	tar_pax("GNU.sparse.realsize", "4000000", 7);
	tar_file(l, "GNUSparseFile.0/sparse", body, sizeof(body));
	l = &m->tars[1];
	tar_put(l, &(struct tar_entry){.name = "hard", .type = '1', .link = "d1/f288"});
	tar_bytes(l, "status", 310000, 4);
	tar_bytes(l, "d2/f2", 20, 5);
	tar_file(l, ".wh.huge", "", 0);
	tar_file(l, "d3/.wh..wh..opq", "", 0);
	tar_bytes(l, "d3/new", 5000, 6);
}

static void put_top(struct buf *l, unsigned seed)
{
	tar_bytes(l, "status", 320000, seed);
	tar_bytes(l, "app/binary", 2 << 20, seed + 1);
	tar_file(l, ".wh.big", "", 0);
}

/* Another layer on top of what is there. */
static void test_on_top(void **state)
{
	struct made a = {0}, b = {0};

	put_base(&a);
	made_end(&a, 2);
	put_base(&b);
	put_top(&b.tars[2], 10);
	made_end(&b, 3);
	build(*state, &a);
	assert_built_on(*state, &b, 2);
	made_done(&a);
	made_done(&b);
}

/* The last layer is another one: what the first one's replaced is still to be had, unless it is too much. */
static void test_other_last_layer(void **state)
{
	struct made a = {0}, b = {0}, c = {0};

	put_base(&a);
	tar_bytes(&a.tars[2], "status", 320000, 10);
	made_end(&a, 3);
	put_base(&b);
	tar_bytes(&b.tars[2], "another", 20000, 20);
	made_end(&b, 3);
	build(*state, &a);
	assert_built_on(*state, &b, 2);
	forget_all(*state);
	put_base(&c);
	put_top(&c.tars[2], 30); /* deletes "big" */
	made_end(&c, 3);
	build(*state, &c);
	assert_built_on(*state, &b, 0);
	made_done(&a);
	made_done(&b);
	made_done(&c);
}

/* A disk that was itself begun from another one, and shares one layer of three. */
static void test_chain_of_bases(void **state)
{
	struct made a = {0}, b = {0}, c = {0};

	put_base(&a);
	made_end(&a, 2);
	put_base(&b);
	put_top(&b.tars[2], 10);
	put_top(&b.tars[3], 40);
	made_end(&b, 4);
	put_base(&c);
	buf_done(&c.tars[1]);
	c.tars[1] = (struct buf){0};
	tar_bytes(&c.tars[1], "d4/other", 70000, 50);
	made_end(&c, 2);
	build(*state, &a);
	build(*state, &b);
	assert_false(b.layers[0].begun);
	assert_built_on(*state, &c, 0); /* the base lost "huge" */
	forget_all(*state);
	build(*state, &b);
	assert_built_on(*state, &a, 0);
	made_done(&a);
	made_done(&b);
	made_done(&c);
}

/* A recipe that is not as it was written is not used. */
static void test_damage(void **state)
{
	static const int64_t at[] = {-4096, -4096 + 40, -8192, -4096 * 3 + 17};
	struct made a = {0}, b = {0};
	struct stat st;

	put_base(&a);
	made_end(&a, 2);
	put_base(&b);
	put_top(&b.tars[2], 10);
	made_end(&b, 3);
	for (size_t i = 0; i < ARRAY_LEN(at); i++) {
		uint8_t byte;
		build(*state, &a);
		int fd = open_disk(*state, &a, O_RDWR);
		assert_int_equal(fstat(fd, &st), 0);
		assert_int_equal(pread(fd, &byte, 1, st.st_size + at[i]), 1);
		byte ^= 1;
		assert_int_equal(pwrite(fd, &byte, 1, st.st_size + at[i]), 1);
		close(fd);
		assert_built_on(*state, &b, 0);
		forget_all(*state);
	}
	/* Cut off: what was built by a version without recipes looks like that. */
	build(*state, &a);
	int fd = open_disk(*state, &a, O_RDWR);
	assert_int_equal(ftruncate(fd, st.st_size - 4096), 0);
	close(fd);
	assert_built_on(*state, &b, 0);
	made_done(&a);
	made_done(&b);
}

/* What is copied cannot be read, which is noticed when all the rest is done: then it is built of the layers alone. */
static void test_unreadable_base(void **state)
{
	struct made a = {0}, b = {0};

	put_base(&a);
	made_end(&a, 2);
	put_base(&b);
	put_top(&b.tars[2], 10);
	made_end(&b, 3);
	build(*state, &a);
	unreadable = true;
	assert_built_on(*state, &b, 0);
	unreadable = false;
	assert_int_equal(home_count(((struct home *)*state)->s->tmp_fd), 0);
	made_done(&a);
	made_done(&b);
}

/* A blob that nobody knows to hold the layer is read, even where the layer itself is here; a wrong one is refused. */
static void test_unknown_blob(void **state)
{
	struct home *h = *state;
	struct made a = {0}, b = {0};
	struct err e = {0};
	uint64_t size;

	put_base(&a);
	made_end(&a, 2);
	build(h, &a);
	put_base(&b);
	put_top(&b.tars[2], 10);
	made_end(&b, 3);
	b.layers[1].blob = "sha256:0000000000000000000000000000000000000000000000000000000000000000";
	assert_int_equal(oci_disk_build(h->s, b.chain, b.layers, 3, NULL, &size, &e), 0);
	assert_false(b.layers[0].begun);
	assert_true(b.layers[1].begun);
	buf_data(&b.tars[1])[700] ^= 1;
	assert_int_equal(oci_disk_build(h->s, b.chain, b.layers, 3, NULL, &size, &e), -EBADMSG);
	assert_non_null(strstr(e.msg, "layer 2 of 3"));
	assert_int_equal(home_count(h->s->tmp_fd), 0);
	made_done(&a);
	made_done(&b);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, home_setup, home_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_on_top),
		TEST(test_other_last_layer),
		TEST(test_chain_of_bases),
		TEST(test_damage),
		TEST(test_unreadable_base),
		TEST(test_unknown_blob),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
