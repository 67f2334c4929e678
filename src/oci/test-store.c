/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "disk.h"
#include "test-store.h"

static void test_find(void **state)
{
	struct home *h = *state;
	char id[OCI_DIGEST_MAX], other[OCI_DIGEST_MAX], ref[160];
	struct err e;

	put_image(h, "docker.io/library/x:latest", "1", id);
	put_image(h, "docker.io/library/cafe:latest", "2", other);
	assert_found(h, "x", id);
	assert_found(h, "docker.io/x", id);
	assert_found(h, id, id);
	assert_found(h, hex(id), id);
	snprintf(ref, sizeof(ref), "%.12s", hex(id));
	assert_found(h, ref, id);
	assert_found(h, "cafe", other); /* a name, though it could be an ID */
	struct oci_image *i;
	assert_int_equal(oci_image_find(h->s, "x", &i, NULL), 0);
	snprintf(ref, sizeof(ref), "x@%s", i->manifest);
	assert_found(h, ref, id);
	assert_found(h, i->manifest, id);
	oci_image_free(i);
	assert_int_equal(find_error(h, "y", &e), -ENOENT);
	assert_string_equal(e.msg, "no such image: y");
	assert_int_equal(find_error(h, "sha256:0000", &e), -ENOENT);
	assert_int_equal(find_error(h,
				 "x@"
				 "sha256:0000000000000000000000000000000000000000000000000000000000000000",
				 &e),
		-ENOENT);
	assert_int_equal(find_error(h, "Not Valid", &e), -EINVAL);
}

static void test_ambiguous(void **state)
{
	struct home *h = *state;
	struct err e;

	for (int i = 0; i < 3; i++) {
		char sql[512];
		snprintf(sql, sizeof(sql),
			"INSERT INTO image_manifests(digest, config, chain, size, created_ns, added_ns, "
			"exec) "
			"VALUES('sha256:ffff%d', 'sha256:abcdef%058d', 'sha256:c', 0, 0, 0, '{}')",
			i, i);
		assert_int_equal(state_exec(h->st, NULL, sql, ""), 0);
	}
	assert_int_equal(find_error(h, "abcdef", &e), -EEXIST);
	assert_string_equal(
		e.msg, "image ID abcdef is ambiguous: it could be abcdef000000, abcdef000000, abcdef000000");
	assert_int_equal(
		find_error(h, "abcdef0000000000000000000000000000000000000000000000000000000002", &e), 0);
}

static void test_retag(void **state)
{
	struct home *h = *state;
	char a[OCI_DIGEST_MAX], b[OCI_DIGEST_MAX], text[512];

	put_image(h, "docker.io/library/x:1", "1", a);
	put_image(h, "docker.io/library/x:1", "2", b);
	assert_found(h, "x:1", b);
	assert_found(h, a, a); /* lost its name, and stays until it is removed */
	assert_int_equal(list_names(h, text, sizeof(text)), 2);
	assert_non_null(strstr(text, "<none>"));
	assert_int_equal(oci_store_gc(h->s, NULL), 0);
	assert_found(h, a, a);
}

static void test_remove(void **state)
{
	struct home *h = *state;
	char id[OCI_DIGEST_MAX], text[512], expect[256];
	struct removed r = {""};
	struct err e = {0};

	put_image(h, "docker.io/library/x:1", "1", id);
	put_image(h, "docker.io/library/x:2", "1", id);
	assert_int_equal(oci_image_remove(h->s, hex(id), false, on_removed, &r, &e), -EBUSY);
	assert_string_equal(r.text, "");
	assert_int_equal(oci_image_remove(h->s, "x:1", false, on_removed, &r, &e), 0);
	assert_string_equal(r.text, "Untagged x:1;");
	assert_found(h, "x:2", id);
	r.text[0] = '\0';
	assert_int_equal(oci_image_remove(h->s, "x:2", false, on_removed, &r, &e), 0);
	snprintf(expect, sizeof(expect), "Untagged x:2;Deleted %.19s;", id);
	assert_string_equal(r.text, expect);
	assert_int_equal(list_names(h, text, sizeof(text)), 0);
	assert_int_equal(home_files(h), 0);
	assert_int_equal(oci_image_remove(h->s, "x:2", false, on_removed, &r, &e), -ENOENT);
	/* by ID with all names */
	put_image(h, "docker.io/library/x:1", "1", id);
	put_image(h, "docker.io/library/x:2", "1", id);
	assert_int_equal(oci_image_remove(h->s, hex(id), true, NULL, NULL, &e), 0);
	assert_int_equal(home_files(h), 0);
}

static void test_holders(void **state)
{
	struct home *h = *state;
	char id[OCI_DIGEST_MAX], text[512];
	struct oci_image *i;
	struct err e = {0};

	put_image(h, "docker.io/library/x:1", "1", id);
	assert_int_equal(oci_image_find(h->s, "x:1", &i, &e), 0);
	assert_int_equal(oci_ref_add(h->st, "box1", i->manifest, &e), 0);
	assert_int_equal(oci_ref_add(h->st, "box1", i->manifest, &e), 0);
	assert_int_equal(oci_image_remove(h->s, "x:1", false, NULL, NULL, &e), -EBUSY);
	assert_non_null(strstr(e.msg, "box1"));
	/* by force the names go and the content stays */
	assert_int_equal(oci_image_remove(h->s, "x:1", true, NULL, NULL, &e), 0);
	assert_int_equal(list_names(h, text, sizeof(text)), 0);
	assert_int_equal(oci_store_gc(h->s, &e), 0);
	char *path;
	assert_int_equal(oci_image_disk(h->s, i, NULL, &path, &e), 0);
	free(path);
	/* loading it again makes it whole again */
	put_image(h, "docker.io/library/x:1", "1", id);
	assert_int_equal(list_names(h, text, sizeof(text)), 1);
	assert_int_equal(oci_image_remove(h->s, "x:1", true, NULL, NULL, &e), 0);
	assert_int_equal(oci_ref_drop(h->st, "box1", &e), 0);
	assert_int_equal(oci_store_gc(h->s, &e), 0);
	assert_int_equal(home_files(h), 0);
	assert_int_equal(oci_ref_add(h->st, "box2", i->manifest, &e), -ENOENT);
	oci_image_free(i);
}

/* Collecting only if the last holder of a removed image went. */
static void test_gc_if_due(void **state)
{
	struct home *h = *state;
	char id[OCI_DIGEST_MAX];
	struct oci_image *i;
	struct err e = {0};

	assert_int_equal(oci_store_gc_if_due(h->s, &e), 0);
	put_image(h, "docker.io/library/x:1", "1", id);
	put_image(h, NULL, "2", NULL);
	size_t files = home_files(h);
	assert_int_equal(oci_image_find(h->s, "x:1", &i, &e), 0);
	assert_int_equal(oci_ref_add(h->st, "box1", i->manifest, &e), 0);
	assert_int_equal(oci_ref_add(h->st, "box2", i->manifest, &e), 0);
	assert_int_equal(oci_image_remove(h->s, "x:1", true, NULL, NULL, &e), 0);
	assert_int_equal(oci_ref_drop(h->st, "box1", &e), 0);
	assert_int_equal(oci_store_gc_if_due(h->s, &e), 0);
	assert_int_equal(home_files(h), files);
	/* Not due: not even what a collection would delete is looked for. */
	int fd = openat(h->s->tmp_fd, "left-over", O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	close(fd);
	assert_int_equal(oci_store_gc_if_due(h->s, &e), 0);
	assert_int_equal(home_files(h), files + 1);
	assert_int_equal(oci_ref_drop(h->st, "box2", &e), 0);
	assert_int_equal(oci_store_gc_if_due(h->s, &e), 0);
	assert_int_equal(home_files(h), files / 2);
	oci_image_free(i);
}

struct memory {
	struct buf tar;
	size_t pos;
};

static ssize_t read_memory(void *data, void *buf, size_t n, struct err *e)
{
	struct memory *m = data;

	n = MIN_OF(n, m->tar.len - m->pos);
	memcpy(buf, buf_data(&m->tar) + m->pos, n);
	m->pos += n;
	return (ssize_t)n;
}

static int open_memory(void *data, size_t index, struct oci_source *ret, struct err *e)
{
	struct memory *m = data;

	m[index].pos = 0;
	*ret = (struct oci_source){.read = read_memory, .data = &m[index]};
	return 0;
}

/* Builds a disk of the layers with this much allowed; its error, or nothing. */
static const char *build(struct home *h, struct memory *m, size_t n, uint64_t max)
{
	static struct err e;
	struct oci_layer layers[3] = {0};
	char diff_ids[3][OCI_DIGEST_MAX];
	uint64_t size;

	e = (struct err){0};
	for (size_t i = 0; i < n; i++) {
		assert_int_equal(oci_digest_of(buf_data(&m[i].tar), m[i].tar.len, diff_ids[i], &e), 0);
		layers[i] = (struct oci_layer){
			.blob = diff_ids[i], .diff_id = diff_ids[i], .open = open_memory, .data = m};
	}
	h->s->unpacked_max = max;
	int r = oci_disk_build(h->s, diff_ids[0], layers, n, NULL, &size, &e);
	h->s->unpacked_max = OCI_UNPACKED_MAX;
	return r < 0 ? e.msg : "";
}

/* One budget for all layers of an image, and for the blocks that they take. */
static void test_layer_budget(void **state)
{
	struct memory m[3] = {0};
	uint64_t total = 0;
	struct buf map = {0};
	char text[32];

	for (size_t i = 0; i < ARRAY_LEN(m); i++) {
		tar_text(&m[i].tar, "f", "text");
		tar_end(&m[i].tar);
		total += m[i].tar.len;
	}
	assert_string_equal(build(*state, m, 3, total), "");
	assert_non_null(strstr(build(*state, m, 3, total - 1), "layer 3 of 3 (sha256:"));
	assert_non_null(
		strstr(build(*state, m, 3, total - 1), "with it the image is larger than 0 MiB unpacked"));
	/* 256 single bytes, a block apart: 1 MiB of blocks from a few kilobytes */
	buf_append(&map, "256\n", 4);
	for (int i = 0; i < 256; i++)
		buf_append(&map, text, (size_t)snprintf(text, sizeof(text), "%d\n1\n", i * 8192));
	tar_pad(&map);
	for (int i = 0; i < 256; i++)
		buf_append(&map, "s", 1);
	buf_done(&m[0].tar);
	m[0].tar = (struct buf){0};
	tar_pax("GNU.sparse.major", "1", 1);
	tar_pax("GNU.sparse.minor", "0", 1);
	tar_pax("GNU.sparse.name", "sparse", 6);
	tar_pax("GNU.sparse.realsize", "2097152", 7);
	tar_file(&m[0].tar, "x", buf_data(&map), map.len);
	tar_end(&m[0].tar);
	assert_string_equal(build(*state, m, 1, 1 << 20), "");
	assert_non_null(strstr(build(*state, m, 1, (1 << 20) - 1), "image content is larger than 0 MiB"));
	for (size_t i = 0; i < ARRAY_LEN(m); i++)
		buf_done(&m[i].tar);
	buf_done(&map);
}

/* A store's own copy that is damaged makes no disk, though it is as its name says. */
static void test_damaged_blob(void **state)
{
	struct home *h = *state;
	struct oci_image *i;
	struct err e = {0};
	char id[OCI_DIGEST_MAX], layer[OCI_DIGEST_MAX] = "", *path;

	put_image(h, "docker.io/library/x:1", "1", id);
	assert_int_equal(oci_image_find(h->s, "x:1", &i, &e), 0);
	CLEANUP(stmt_done) sqlite3_stmt *st = NULL;
	assert_int_equal(
		state_prepare(h->st, &st, &e, "SELECT digest FROM image_blobs WHERE diff = digest", ""), 0);
	assert_int_equal(state_step(h->st, st, &e), 1);
	oci_digest_copy(layer, (const char *)sqlite3_column_text(st, 0));
	assert_int_equal(fchmodat(h->s->sha256_fd, hex(layer), 0600, 0), 0);
	int fd = openat(h->s->sha256_fd, hex(layer), O_WRONLY | O_CLOEXEC);
	assert_int_equal(pwrite(fd, "X", 1, 512), 1);
	close(fd);
	assert_int_equal(oci_image_disk(h->s, i, NULL, &path, &e), 0);
	assert_int_equal(unlink(path), 0);
	free(path);
	assert_int_equal(oci_image_disk(h->s, i, NULL, &path, &e), -EBADMSG);
	assert_non_null(strstr(e.msg, "does not match the diff ID"));
	oci_image_free(i);
}

/* What a process that died left behind. */
static void test_leftovers(void **state)
{
	struct home *h = *state;
	struct oci_spool *sp;
	struct err e = {0};
	char id[OCI_DIGEST_MAX];
	int lock;

	assert_int_equal(oci_spool_new(h->s, true, NULL, &sp, &e), 0);
	sp->tmp[0] = '\0'; /* forgets to delete it */
	oci_spool_free(sp);
	assert_int_equal(home_count(h->s->tmp_fd), 1);
	/* an orphaned blob */
	assert_int_equal(oci_spool_new(h->s, true, NULL, &sp, &e), 0);
	assert_int_equal(oci_spool_write(sp, "x", 1, &e), 0);
	assert_int_equal(oci_spool_finish(sp, &e), 0);
	assert_int_equal(oci_spool_commit(sp, h->s->sha256_fd, hex(sp->digest), &e), 0);
	oci_spool_free(sp);
	/* nobody collects while somebody adds */
	assert_int_equal(oci_store_lock(h->s, OCI_LOCK_ADD, &lock, &e), 0);
	assert_int_equal(home_count(h->s->tmp_fd), 0);
	assert_int_equal(oci_store_gc(h->s, &e), 0);
	assert_int_equal(home_count(h->s->sha256_fd), 1);
	close(lock);
	assert_int_equal(oci_store_gc(h->s, &e), 0);
	assert_int_equal(home_count(h->s->sha256_fd), 0);
	/* and a store that was closed opens again */
	put_image(h, "docker.io/library/x:1", "1", id);
	home_close(h);
	assert_int_equal(home_open(h), 0);
	assert_found(h, "x:1", id);
}

/* ---- homes, crashes ---- */

/* A home from before most tables there are now. */
static void test_old_home(void **state)
{
	struct home *h = *state;
	char id[OCI_DIGEST_MAX];
	static const char *const tables[] = {"image_use", "image_indexes", "image_index_blobs",
		"image_layers", "image_signatures", "image_remotes", "image_disks_unsynced", "image_sweep"};
	struct err e = {0};

	put_image(h, "docker.io/library/x:1", "1", id);
	for (size_t i = 0; i < ARRAY_LEN(tables); i++) {
		CLEANUP_FREE char *sql = str_printf("DROP TABLE %s", tables[i]);
		assert_int_equal(state_exec(h->st, &e, sql, ""), 0);
	}
	assert_int_equal(io_remove_tree_at(h->s->images_fd, "partial"), 0);
	home_close(h);
	assert_int_equal(home_open(h), 0);
	struct oci_image *i = find(h, "x:1");
	assert_true(i->used_ns > 0);
	int64_t came_ns = i->used_ns;
	assert_int_equal(oci_ref_add(h->st, "box1", i->manifest, &e), 0);
	oci_image_free(i);
	i = find(h, "x:1");
	assert_true(i->used_ns > came_ns);
	oci_image_free(i);
	assert_int_equal(oci_ref_drop(h->st, "box1", &e), 0);
	assert_int_equal(oci_image_remove(h->s, "x:1", false, NULL, NULL, &e), 0);
	assert_int_equal(home_files(h), 0);
}

/* A removal that died after its rows were gone is finished by the next command that has to do with images. */
static void test_unfinished_removal(void **state)
{
	struct home *h = *state;
	struct err e = {0};
	int lock;

	for (int round = 0; round < 3; round++) {
		put_image(h, "docker.io/library/x:1", "1", NULL);
		size_t files = home_files(h);
		assert_int_equal(oci_store_lock(h->s, OCI_LOCK_ADD, &lock, &e), 0);
		assert_int_equal(oci_image_remove(h->s, "x:1", false, NULL, NULL, &e), 0);
		assert_int_equal(home_files(h), files); /* it could not collect */
		close(lock);
		if (round == 0) {
			assert_int_equal(oci_image_remove(h->s, "x:1", false, NULL, NULL, &e), -ENOENT);
		} else if (round == 1) {
			assert_int_equal(oci_store_gc_if_due(h->s, &e), 0);
		} else {
			assert_int_equal(oci_store_lock(h->s, OCI_LOCK_ADD, &lock, &e), 0);
			close(lock);
		}
		assert_int_equal(home_files(h), 0);
		assert_int_equal(number(h, "SELECT count(*) FROM image_sweep"), 0);
	}
}

/* The same image packed anew takes the place of the old one, unless a box needs that. */
static void test_packed_anew(void **state)
{
	struct home *h = *state;
	const char *text = "1";
	struct made_image m;
	struct err e = {0};

	made_init(&m, host_arch(), &text, 1);
	assert_int_equal(try_load(h, &m, "docker.io/library/x:1", &e), 0);
	char *manifest =
		str_printf("%.*s, \"annotations\":{\"a\":\"b\"}}", (int)strlen(m.manifest) - 1, m.manifest);
	free(m.manifest);
	m.manifest = manifest;
	oci_digest_of(m.manifest, strlen(m.manifest), m.manifest_digest, NULL);
	struct oci_image *i = find(h, "x:1");
	assert_int_equal(oci_ref_add(h->st, "box1", i->manifest, &e), 0);
	assert_int_equal(try_load(h, &m, "docker.io/library/x:1", &e), 0);
	assert_int_equal(oci_store_gc(h->s, &e), 0);
	assert_int_equal(number(h, "SELECT count(*) FROM image_manifests"), 2);
	assert_int_equal(oci_ref_drop(h->st, "box1", &e), 0);
	assert_int_equal(oci_store_gc(h->s, &e), 0);
	assert_int_equal(number(h, "SELECT count(*) FROM image_manifests"), 1);
	assert_false(has_blob(h, i->manifest));
	assert_found(h, "x:1", m.config_digest);
	oci_image_free(i);
	made_done(&m);
}

/* What dies without a trace goes after a day, and a download that was cut off with it. */
static void test_old_leftovers(void **state)
{
	struct home *h = *state;
	const struct timespec old[2] = {{.tv_sec = 1}, {.tv_sec = 1}};
	char left[OCI_DIGEST_MAX], fresh[OCI_DIGEST_MAX];
	int lock;

	put_text_blob(h, "left by a kill", left);
	put_text_blob(h, "just now", fresh);
	assert_int_equal(utimensat(h->s->sha256_fd, hex(left), old, 0), 0);
	close(openat(h->s->partial_fd, "sha256-00", O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	assert_int_equal(utimensat(h->s->partial_fd, "sha256-00", old, 0), 0);
	assert_int_equal(oci_store_lock(h->s, OCI_LOCK_ADD, &lock, NULL), 0);
	oci_store_release(h->s, &lock);
	assert_int_equal(faccessat(h->s->partial_fd, "sha256-00", F_OK, 0), -1);
	assert_true(has_blob(h, left)); /* looked for once a day */
	assert_int_equal(utimensat(h->s->images_fd, "lock", old, 0), 0);
	assert_int_equal(oci_store_lock(h->s, OCI_LOCK_ADD, &lock, NULL), 0);
	oci_store_release(h->s, &lock);
	assert_false(has_blob(h, left));
	assert_true(has_blob(h, fresh));
}

/* A removal that finds others at work leaves the files to whoever is last. */
static void test_handed_over(void **state)
{
	struct home *h = *state;
	struct err e = {0};
	int adding, holding;

	put_image(h, "docker.io/library/x:1", "1", NULL);
	assert_int_equal(oci_store_lock(h->s, OCI_LOCK_ADD, &adding, &e), 0);
	assert_int_equal(oci_store_hold(h->s, &holding, &e), 0);
	assert_int_equal(oci_image_remove(h->s, "x:1", false, NULL, NULL, &e), 0);
	assert_true(home_files(h) > 0);
	oci_store_release(h->s, &adding);
	assert_true(home_files(h) > 0);
	oci_store_release(h->s, &holding);
	assert_int_equal(holding, -1);
	assert_int_equal(home_files(h), 0);
}

/* No disk is made of an image that was removed, and none left to be taken for that of its next life. */
static void test_removed_before_disk(void **state)
{
	struct home *h = *state;
	struct err e = {0};
	char *path;

	put_image(h, "docker.io/library/a:1", "hello", NULL);
	struct oci_image *i = find(h, "a:1");
	assert_int_equal(state_exec(h->st, NULL, "DELETE FROM image_disks", ""), 0);
	assert_int_equal(oci_image_remove(h->s, "a:1", false, NULL, NULL, &e), 0);
	assert_int_equal(oci_image_disk(h->s, i, NULL, &path, &e), -ENOENT);
	assert_non_null(strstr(e.msg, "removed meanwhile"));
	assert_int_equal(number(h, "SELECT count(*) FROM image_disks"), 0);
	assert_int_equal(home_files(h), 0);
	put_image(h, "docker.io/library/a:1", "hello", NULL);
	assert_int_equal(oci_disk_verify(h->s, i->manifest, i->chain_id, &e), 1);
	oci_image_free(i);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		STORE_TEST(test_find),
		STORE_TEST(test_ambiguous),
		STORE_TEST(test_retag),
		STORE_TEST(test_remove),
		STORE_TEST(test_holders),
		STORE_TEST(test_gc_if_due),
		STORE_TEST(test_layer_budget),
		STORE_TEST(test_damaged_blob),
		STORE_TEST(test_leftovers),
		STORE_TEST(test_old_home),
		STORE_TEST(test_unfinished_removal),
		STORE_TEST(test_packed_anew),
		STORE_TEST(test_old_leftovers),
		STORE_TEST(test_handed_over),
		STORE_TEST(test_removed_before_disk),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
