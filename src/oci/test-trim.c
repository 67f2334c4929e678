/* SPDX-License-Identifier: MIT */
/* What the store takes, and what goes when that is too much. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "image.h"
#include "test-store.h"

struct image {
	char id[OCI_DIGEST_MAX], manifest[OCI_DIGEST_MAX], chain[OCI_DIGEST_MAX];
};

/* A pulled image "N:1" of its own content, used at second N. */
static struct image put_pulled(struct home *h, int n)
{
	char name[64], text[16];
	struct image im;

	snprintf(name, sizeof(name), "docker.io/library/i%d:1", n);
	snprintf(text, sizeof(text), "text %d", n);
	put_image(h, name, text, im.id);
	make_pulled(h, im.id);
	struct oci_image *i = find(h, name);
	strcpy(im.manifest, i->manifest);
	strcpy(im.chain, i->chain_id);
	oci_image_free(i);
	assert_int_equal(state_exec(h->st, NULL, "UPDATE image_use SET used_ns = ? WHERE manifest = ?", "is",
				 (int64_t)n * 1000000000, im.manifest),
		0);
	return im;
}

static uint64_t bytes(struct home *h)
{
	uint64_t n;

	assert_int_equal(oci_store_bytes(h->s, &n, NULL), 0);
	return n;
}

/* Trims by so many bytes; what was told. */
static const char *trim(struct home *h, uint64_t by)
{
	static struct removed r;
	struct err e = {0};
	uint64_t now = bytes(h);

	r.text[0] = '\0';
	if (oci_store_trim(h->s, now > by ? now - by : 0, on_removed, &r, &e) < 0)
		fail_msg("%s", e.msg);
	return r.text;
}

/* a:1 leads to an index that is here and names nothing else that is. */
static void put_index(struct home *h, char index[OCI_DIGEST_MAX])
{
	put_text_blob(h, "index", index);
	assert_int_equal(state_exec(h->st, NULL, "UPDATE image_names SET digest = ? WHERE name LIKE '%/a:1'",
				 "s", index),
		0);
	assert_int_equal(state_exec(h->st, NULL, "INSERT INTO image_indexes(digest, complete) VALUES(?, 0)",
				 "s", index),
		0);
	assert_int_equal(state_exec(h->st, NULL, "INSERT INTO image_index_blobs(idx, digest) VALUES(?1, ?1)",
				 "s", index),
		0);
}

static void test_limit(void **state)
{
	struct err e = {0};
	uint64_t n;

	(void)state;
	unsetenv("A3S_IMAGE_CACHE_SIZE");
	assert_int_equal(oci_store_limit(&n, &e), 0);
	assert_true(n == 10ull << 30);
	setenv("A3S_IMAGE_CACHE_SIZE", "", 1);
	assert_int_equal(oci_store_limit(&n, &e), 0);
	assert_true(n == 10ull << 30);
	setenv("A3S_IMAGE_CACHE_SIZE", "3m", 1);
	assert_int_equal(oci_store_limit(&n, &e), 0);
	assert_true(n == 3ull << 20);
	setenv("A3S_IMAGE_CACHE_SIZE", "much", 1);
	assert_int_equal(oci_store_limit(&n, &e), -EINVAL);
	assert_string_equal(e.msg, "A3S_IMAGE_CACHE_SIZE: \"much\" is no size");
	unsetenv("A3S_IMAGE_CACHE_SIZE");
}

/* Disks go by their last use, and are built again. */
static void test_disks_first(void **state)
{
	struct home *h = *state;
	struct image im[4];
	struct err e = {0};
	char *path;

	for (int n = 0; n < 4; n++)
		im[n] = put_pulled(h, 4 - n); /* the last one was used first */
	uint64_t before = bytes(h);
	assert_string_equal(trim(h, 0), "");
	assert_true(bytes(h) == before);
	assert_string_equal(trim(h, 1), "");
	assert_false(has_disk(h, im[3].chain));
	assert_true(has_disk(h, im[2].chain) && has_disk(h, im[1].chain) && has_disk(h, im[0].chain));
	/* a box that is made now uses it */
	assert_int_equal(oci_ref_add(h->st, "box1", im[2].manifest, &e), 0);
	assert_int_equal(oci_ref_drop(h->st, "box1", &e), 0);
	assert_string_equal(trim(h, 1), "");
	assert_true(has_disk(h, im[2].chain));
	assert_false(has_disk(h, im[1].chain));
	/* a box that found the disk before it went cannot take hold */
	assert_int_equal(oci_ref_add(h->st, "box1", im[1].manifest, &e), -ENOENT);
	assert_non_null(strstr(e.msg, "removed meanwhile, to make room"));
	struct oci_image *i = find(h, im[1].id);
	assert_int_equal(oci_image_disk(h->s, i, NULL, &path, &e), 0);
	free(path);
	oci_image_free(i);
	assert_true(has_disk(h, im[1].chain));
	assert_int_equal(oci_ref_add(h->st, "box1", im[1].manifest, &e), 0);
}

/* A disk that was built again for a box stays, and makes room for itself when its box holds it, not before. */
static void test_rebuilt(void **state)
{
	struct home *h = *state;
	struct image im[3];
	struct err e = {0};
	int hold = -1;
	char *path;

	for (int n = 0; n < 3; n++)
		im[n] = put_pulled(h, 3 - n);
	/* Made here: it does not go. */
	assert_int_equal(state_exec(h->st, NULL, "UPDATE image_use SET pulled = 0", ""), 0);
	assert_string_equal(trim(h, 1), "");
	assert_false(has_disk(h, im[2].chain));
	setenv(OCI_LIMIT_VARIABLE, "1", 1);
	assert_int_equal(oci_store_hold(h->s, &hold, &e), 0);
	struct oci_image *i = find(h, im[2].id);
	assert_int_equal(oci_image_disk(h->s, i, NULL, &path, &e), 0);
	free(path);
	assert_true(has_disk(h, im[2].chain) && has_disk(h, im[1].chain));
	assert_int_equal(oci_ref_add(h->st, "box1", im[2].manifest, &e), 0);
	oci_store_release(h->s, &hold);
	assert_true(has_disk(h, im[2].chain) && has_disk(h, im[0].chain));
	assert_false(has_disk(h, im[1].chain));
	/* Nothing is built: nothing goes. */
	assert_int_equal(oci_store_hold(h->s, &hold, &e), 0);
	oci_store_release(h->s, &hold);
	assert_true(has_disk(h, im[0].chain));
	oci_image_free(i);
	unsetenv(OCI_LIMIT_VARIABLE);
}

/* Then images; what was used last stays, and all that cannot be had again. */
static void test_images(void **state)
{
	struct home *h = *state;
	struct image im[6];
	char text[1024], expect[512], loaded[OCI_DIGEST_MAX];
	struct err e = {0};

	for (int n = 0; n < 6; n++)
		im[n] = put_pulled(h, n + 1);
	put_image(h, "docker.io/library/loaded:1", "loaded", loaded);
	assert_int_equal(state_exec(h->st, NULL, "UPDATE image_use SET used_ns = 0 WHERE NOT pulled", ""), 0);
	assert_int_equal(oci_ref_add(h->st, "box1", im[0].manifest, &e), 0);
	assert_int_equal(oci_image_tag(h->s, "i2:1", "mine", &e), 0);
	uint64_t disks = 0;
	for (int n = 0; n < 6; n++) {
		struct stat st;
		char name[OCI_DIGEST_MAX + 8];
		snprintf(name, sizeof(name), "%s.img", hex(im[n].chain));
		assert_int_equal(fstatat(h->s->disks_fd, name, &st, 0), 0);
		disks += n > 0 && n < 5 ? (uint64_t)st.st_blocks * 512 : 0;
	}
	/* the disks of 2 to 5 and of the loaded one are not enough: the first that may goes, of those used longest ago */
	const char *told = trim(h, disks + disks / 4 + 1);
	snprintf(expect, sizeof(expect), "Untagged i3:1;Untagged i3@%.16s;Deleted %.19s;", im[2].manifest,
		im[2].id);
	assert_string_equal(told, expect);
	assert_false(has_blob(h, im[2].manifest));
	assert_int_equal(number(h, "SELECT count(*) FROM events WHERE action = 'delete'"), 1);
	/* everything that may */
	trim(h, UINT64_MAX);
	list_names(h, text, sizeof(text));
	assert_non_null(strstr(text, "/i1:1;"));
	assert_non_null(strstr(text, "/i2:1;"));
	assert_non_null(strstr(text, "/mine:latest;"));
	assert_non_null(strstr(text, "/loaded:1;"));
	assert_null(strstr(text, "/i4:1;"));
	assert_null(strstr(text, "/i5:1;"));
	assert_true(has_disk(h, im[0].chain));
	/* box1 is gone, and with the next one the first image may go */
	assert_non_null(strstr(text, "/i6:1;"));
	assert_true(has_disk(h, im[5].chain));
	assert_int_equal(oci_ref_drop(h->st, "box1", &e), 0);
	put_pulled(h, 10);
	assert_int_equal(state_exec(h->st, NULL,
				 "UPDATE image_use SET used_ns = used_ns + 1000000000000000000"
				 " WHERE used_ns = 10000000000",
				 ""),
		0);
	assert_int_equal(state_exec(h->st, NULL, "UPDATE image_use SET used_ns = 1 WHERE manifest = ?", "s",
				 im[0].manifest),
		0);
	trim(h, UINT64_MAX);
	list_names(h, text, sizeof(text));
	assert_null(strstr(text, "/i1:1;"));
	assert_null(strstr(text, "/i6:1;"));
	assert_non_null(strstr(text, "/i10:1;"));
}

/* Blobs that another image needs free nothing; those of an index do. */
static void test_shared(void **state)
{
	struct home *h = *state;
	static const char *const a[] = {"base", "a"}, *const b[] = {"base", "b"};
	char id[2][OCI_DIGEST_MAX], index[OCI_DIGEST_MAX], text[256];

	put_layers(h, "docker.io/library/a:1", a, 2, id[0]);
	put_layers(h, "docker.io/library/b:1", b, 2, id[1]);
	put_index(h, index);
	make_pulled(h, id[0]);
	make_pulled(h, id[1]);
	assert_int_equal(state_exec(h->st, NULL,
				 "UPDATE image_use SET used_ns = 1 WHERE manifest ="
				 " (SELECT manifest FROM image_names WHERE name LIKE '%/a:1')",
				 ""),
		0);
	trim(h, UINT64_MAX);
	list_names(h, text, sizeof(text));
	assert_string_equal(text, "docker.io/library/b:1;");
	assert_false(has_blob(h, index));
	struct oci_image *i = find(h, "b:1");
	assert_int_equal(unlinkat(h->s->disks_fd, "none", 0), -1);
	assert_int_equal(state_exec(h->st, NULL, "DELETE FROM image_disks", ""), 0);
	char *path;
	assert_int_equal(oci_image_disk(h->s, i, NULL, &path, NULL), 0);
	free(path);
	oci_image_free(i);
}

/* Nothing is trimmed under somebody's feet; what was cut off goes before images do. */
static void test_busy(void **state)
{
	struct home *h = *state;
	struct err e = {0};
	char text[256];
	int lock;

	put_pulled(h, 1);
	put_pulled(h, 2);
	assert_int_equal(oci_store_lock(h->s, OCI_LOCK_ADD, &lock, &e), 0);
	uint64_t before = bytes(h);
	assert_string_equal(trim(h, UINT64_MAX), "");
	assert_true(bytes(h) == before);
	close(lock);
	char name[128];
	snprintf(name, sizeof(name), "sha256-%064d", 1);
	int fd = openat(h->s->partial_fd, name, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	char *block = calloc(1, 1 << 20);
	assert_int_equal(io_write_full(fd, block, 1 << 20), 0);
	free(block);
	close(fd);
	assert_string_equal(trim(h, 1 << 20), "");
	assert_int_equal(home_count(h->s->partial_fd), 0);
	assert_int_equal(list_names(h, text, sizeof(text)), 2);
	uint64_t freed;
	assert_int_equal(oci_store_drop_partial(h->s, &freed, &e), 0);
	assert_true(freed == 0);
}

/* Each file is counted once, and nothing is left out. */
static void test_usage(void **state)
{
	struct home *h = *state;
	static const char *const a[] = {"base", "a"}, *const b[] = {"base", "b"};
	char index[OCI_DIGEST_MAX];
	struct oci_image **list;
	struct oci_usage u[8];
	struct err e = {0};
	uint64_t unused;
	size_t n;

	put_layers(h, "docker.io/library/a:1", a, 2, NULL);
	put_layers(h, "docker.io/library/b:1", b, 2, NULL);
	put_layers(h, "docker.io/library/a:2", a, 2, NULL);
	put_index(h, index);
	assert_int_equal(oci_image_list(h->s, &list, &n, &e), 0);
	assert_int_equal(n, 3);
	assert_int_equal(oci_image_usage(h->s, list, n, u, &unused, &e), 0);
	size_t at_a = strstr(list[0]->name, "a:") ? 0 : 2, at_b = at_a ? 0 : 2;
	assert_memory_equal(&u[at_a], &u[1], sizeof(u[0])); /* two names of one */
	assert_true(u[at_a].shared_bytes == u[at_b].shared_bytes && u[at_a].shared_bytes > 0);
	assert_true(u[at_a].bytes + u[at_b].bytes - u[at_a].shared_bytes == bytes(h));
	assert_true(unused == bytes(h));
	/* what a box holds, its image's index included, is not free; what nobody names is */
	assert_int_equal(oci_ref_add(h->st, "box1", list[at_a]->manifest, &e), 0);
	char orphan[OCI_DIGEST_MAX];
	put_text_blob(h, "orphan", orphan);
	assert_int_equal(oci_image_usage(h->s, list, n, u, &unused, &e), 0);
	assert_int_equal(u[at_a].holders, 1);
	assert_int_equal(u[at_b].holders, 0);
	assert_true(unused == bytes(h) - u[at_a].bytes);
	/* of a part of the list the same is said */
	struct oci_usage one;
	assert_int_equal(oci_image_usage(h->s, &list[at_b], 1, &one, &unused, &e), 0);
	assert_memory_equal(&one, &u[at_b], sizeof(one));
	assert_int_equal(oci_image_usage(h->s, NULL, 0, NULL, &unused, &e), 0);
	oci_image_list_free(list, n);
}

/* A disk is not made room of when it could not be built again. */
static void test_last_copy(void **state)
{
	struct home *h = *state;
	char id[OCI_DIGEST_MAX];

	put_image(h, "docker.io/library/mine:1", "precious", id);
	struct oci_image *i = find(h, "mine:1");
	CLEANUP(strv_done) struct strv blobs = {0};
	assert_int_equal(oci_query_texts(h->s, &blobs, NULL,
				 "SELECT digest FROM image_blobs WHERE diff IS NOT NULL", NULL, NULL, NULL),
		0);
	assert_int_equal(unlinkat(h->s->sha256_fd, hex(blobs.v[0]), 0), 0);
	put_image(h, "docker.io/library/other:1", "x", NULL);
	trim(h, UINT64_MAX);
	assert_true(has_disk(h, i->chain_id));
	put_image(h, "docker.io/library/mine:1", "precious", id);
	put_image(h, "docker.io/library/other:1", "x", NULL);
	trim(h, UINT64_MAX);
	assert_false(has_disk(h, i->chain_id));
	oci_image_free(i);
}

/* What has just come is used last, whatever the clock said before. */
static void test_clock(void **state)
{
	struct home *h = *state;

	put_pulled(h, 1);
	assert_int_equal(state_exec(h->st, NULL, "UPDATE image_use SET used_ns = ?", "i",
				 INT64_C(9000000000000000000)),
		0);
	put_image(h, "docker.io/library/new:1", "y", NULL);
	assert_int_equal(number(h, "SELECT max(used_ns) FROM image_use"), INT64_C(9000000000000000001));
	assert_non_null(strstr(trim(h, UINT64_MAX), "Deleted sha256:"));
	oci_image_free(find(h, "new:1"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_limit),
		STORE_TEST(test_disks_first),
		STORE_TEST(test_rebuilt),
		STORE_TEST(test_images),
		STORE_TEST(test_last_copy),
		STORE_TEST(test_clock),
		STORE_TEST(test_shared),
		STORE_TEST(test_busy),
		STORE_TEST(test_usage),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
