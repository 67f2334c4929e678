/* SPDX-License-Identifier: MIT */
/* Disks that a power cut may have torn: what another boot left is never used, and what was written becomes permanent. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <time.h>

#include "disk.h"
#include "image.h"
#include "test-store.h"
#include "unsynced.h"

#define OTHER_BOOT "UPDATE image_disks_unsynced SET boot = '00000000-0000-4000-8000-000000000000'"
#define NOTES	   "SELECT count(*) FROM image_disks_unsynced"
#define HERE	   "docker.io/library/x:1"

static struct oci_image *put(struct home *h, char name[OCI_DIGEST_MAX + 8])
{
	put_image(h, HERE, "content", NULL);
	struct oci_image *i = find(h, "x:1");
	snprintf(name, OCI_DIGEST_MAX + 8, "%s.img", hex(i->chain_id));
	return i;
}

static void set_age(struct home *h, const char *name, time_t seconds)
{
	struct timespec t[2] = {{.tv_sec = time(NULL) - seconds}, {.tv_sec = time(NULL) - seconds}};

	assert_int_equal(utimensat(h->s->disks_fd, name, t, 0), 0);
}

static void digest_of_file(struct home *h, const char *name, char ret[OCI_DIGEST_MAX])
{
	char *text;
	size_t n;

	assert_int_equal(io_read_file_at(h->s->disks_fd, name, 1 << 24, &text, &n), 0);
	assert_int_equal(oci_digest_of(text, n, ret, NULL), 0);
	free(text);
}

/* What a power cut leaves of what was not synced: the boot is another one, and the file has lost its end and its bytes. */
static void cut_power(struct home *h, const char *name, off_t size)
{
	char zero[4096] = "";

	assert_int_equal(state_exec(h->st, NULL, OTHER_BOOT, ""), 0);
	assert_int_equal(fchmodat(h->s->disks_fd, name, 0600, 0), 0);
	int fd = openat(h->s->disks_fd, name, O_WRONLY | O_CLOEXEC);
	assert_int_equal(ftruncate(fd, size), 0);
	if (size)
		assert_int_equal(pwrite(fd, zero, sizeof(zero), 0), sizeof(zero));
	close(fd);
}

static bool counts(struct home *h, const struct oci_image *i)
{
	uint64_t size;
	int r = oci_disk_find(h->s, i->chain_id, &size, NULL);

	assert_true(r == 0 || r == -ENOENT);
	return r == 0;
}

static void test_another_boot(void **state)
{
	struct home *h = *state;
	char name[OCI_DIGEST_MAX + 8], was[OCI_DIGEST_MAX], is[OCI_DIGEST_MAX];
	struct oci_image *i = put(h, name);
	struct err e = {0};
	char *path = NULL;

	assert_int_equal(number(h, NOTES), 1);
	assert_true(counts(h, i));
	digest_of_file(h, name, was);
	for (off_t size = 0; size <= 8192; size += 8192) {
		cut_power(h, name, size);
		assert_false(counts(h, i));
		if (oci_image_disk(h->s, i, NULL, &path, &e) < 0)
			fail_msg("%s", e.msg);
		free(path);
		digest_of_file(h, name, is);
		assert_string_equal(is, was);
		assert_true(counts(h, i));
		assert_int_equal(number(h, NOTES), 1);
	}
	/* a box that starts again; the file did not reach its place */
	cut_power(h, name, 0);
	assert_int_equal(unlinkat(h->s->disks_fd, name, 0), 0);
	assert_int_equal(oci_ref_disk(h->s, i->manifest, NULL, &e), 0);
	digest_of_file(h, name, is);
	assert_string_equal(is, was);
	assert_int_equal(oci_ref_disk(h->s, i->id, NULL, &e), -ENOENT);
	/* the next load */
	cut_power(h, name, 8192);
	put_image(h, HERE, "content", NULL);
	digest_of_file(h, name, is);
	assert_string_equal(is, was);
	assert_true(counts(h, i));
	oci_image_free(i);
}

/* What cannot be built again does not come to count by the attempt. */
static void test_not_built_again(void **state)
{
	struct home *h = *state;
	const char *text = "content";
	char name[OCI_DIGEST_MAX + 8];
	struct oci_image *i = put(h, name);
	struct made_image m;
	struct err e = {0};
	char *path = NULL;

	made_init(&m, host_arch(), &text, 1);
	damage(h->s->sha256_fd, hex(m.diff_ids[0]), 512);
	cut_power(h, name, 4096);
	for (int round = 0; round < 2; round++) {
		assert_int_equal(oci_image_disk(h->s, i, NULL, &path, &e), -EBADMSG);
		assert_false(counts(h, i));
	}
	assert_int_equal(unlinkat(h->s->sha256_fd, hex(m.diff_ids[0]), 0), 0);
	assert_int_equal(try_load(h, &m, HERE, &e), 0);
	assert_true(counts(h, i));
	made_done(&m);
	oci_image_free(i);
}

/* Nothing is taken from such a disk for another. */
static void test_no_base(void **state)
{
	static const char *const two[] = {"content", "2"};
	struct home *h = *state;
	char name[OCI_DIGEST_MAX + 8];
	struct oci_image *i = put(h, name);
	struct err e = {0};

	cut_power(h, name, 8192);
	put_layers(h, "docker.io/library/y:1", two, 2, NULL);
	struct oci_image *y = find(h, "y:1");
	assert_int_equal(oci_disk_verify(h->s, y->manifest, y->chain_id, &e), 1);
	assert_false(counts(h, i));
	oci_image_free(i);
	oci_image_free(y);
}

static void use(struct home *h, const struct oci_image *i)
{
	struct err e = {0};
	char *path = NULL;

	assert_int_equal(oci_image_disk(h->s, i, NULL, &path, &e), 0);
	free(path);
}

static void test_synced(void **state)
{
	struct home *h = *state;
	char name[OCI_DIGEST_MAX + 8];
	struct oci_image *i = put(h, name);
	struct err e = {0};
	int lock;

	use(h, i);
	assert_int_equal(oci_store_gc(h->s, &e), 0);
	assert_int_equal(number(h, NOTES), 1); /* it was written just now */
	set_age(h, name, 100);
	assert_int_equal(oci_store_lock(h->s, OCI_LOCK_ADD, &lock, &e), 0);
	use(h, i);
	assert_int_equal(number(h, NOTES), 1); /* somebody may be about to replace it */
	close(lock);
	assert_int_equal(oci_store_hold(h->s, &lock, &e), 0);
	use(h, i);
	assert_int_equal(number(h, NOTES), 1);
	oci_store_release(h->s, &lock);
	assert_int_equal(number(h, NOTES), 0);
	assert_true(counts(h, i));
	/* permanent: what another boot left would not be */
	assert_int_equal(state_exec(h->st, &e, OTHER_BOOT, ""), 0);
	assert_true(counts(h, i));
	put_image(h, "docker.io/library/y:1", "2", NULL);
	struct oci_image *y = find(h, "y:1");
	snprintf(name, sizeof(name), "%s.img", hex(y->chain_id));
	set_age(h, name, 100);
	assert_int_equal(oci_store_gc(h->s, &e), 0);
	assert_int_equal(number(h, NOTES), 0);
	/* not what is of another boot: it may be torn by now */
	put_image(h, "docker.io/library/z:1", "3", NULL);
	assert_int_equal(state_exec(h->st, &e, OTHER_BOOT, ""), 0);
	oci_image_free(y);
	y = find(h, "z:1");
	snprintf(name, sizeof(name), "%s.img", hex(y->chain_id));
	set_age(h, name, 100);
	assert_int_equal(oci_store_gc(h->s, &e), 0);
	assert_int_equal(number(h, NOTES), 1);
	/* notes go with their disks */
	assert_int_equal(oci_image_remove(h->s, "z:1", false, NULL, NULL, &e), 0);
	assert_int_equal(number(h, NOTES), 0);
	oci_image_free(i);
	oci_image_free(y);
}

/* In place of a disk that was synced another one is put: if it is not entered, the note says that it may be torn. */
static void test_replaced(void **state)
{
	struct home *h = *state;
	char name[OCI_DIGEST_MAX + 8];
	struct oci_image *i = put(h, name);
	struct err e = {0};
	int lock;

	set_age(h, name, 100);
	use(h, i);
	assert_int_equal(number(h, NOTES), 0);
	assert_int_equal(oci_store_lock(h->s, OCI_LOCK_ADD, &lock, &e), 0);
	assert_int_equal(oci_unsynced_begin(h->s, i->chain_id, &e), 0);
	assert_int_equal(number(h, NOTES), 1);
	close(lock);
	assert_true(counts(h, i));
	/* the same where the file has gone: the row does not wait for what will be there */
	use(h, i);
	assert_int_equal(number(h, NOTES), 0);
	assert_int_equal(unlinkat(h->s->disks_fd, name, 0), 0);
	assert_int_equal(oci_store_lock(h->s, OCI_LOCK_ADD, &lock, &e), 0);
	assert_int_equal(oci_unsynced_begin(h->s, i->chain_id, &e), 0);
	close(lock);
	assert_int_equal(number(h, "SELECT count(*) FROM image_disks"), 0);
	use(h, i);
	assert_int_equal(number(h, NOTES), 1);
	oci_image_free(i);
}

static void on_fault(void *data, const char *what, const char *fault)
{
	fail_msg("%s: %s", what, fault);
}

static void test_check(void **state)
{
	struct home *h = *state;
	char name[OCI_DIGEST_MAX + 8];
	struct oci_image *i = put(h, name);
	struct err e = {0};
	size_t faults, left;

	cut_power(h, name, 8192);
	assert_int_equal(oci_store_check(h->s, true, NULL, on_fault, NULL, &faults, &left, &e), 0);
	assert_int_equal(unlinkat(h->s->disks_fd, name, 0), 0);
	assert_int_equal(oci_store_check(h->s, true, NULL, on_fault, NULL, &faults, &left, &e), 0);
	use(h, i);
	assert_int_equal(oci_store_check(h->s, false, NULL, on_fault, NULL, &faults, &left, &e), 0);
	assert_int_equal(faults, 0);
	oci_image_free(i);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		STORE_TEST(test_another_boot),
		STORE_TEST(test_not_built_again),
		STORE_TEST(test_no_base),
		STORE_TEST(test_synced),
		STORE_TEST(test_replaced),
		STORE_TEST(test_check),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
