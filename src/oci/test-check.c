/* SPDX-License-Identifier: MIT */
/* The store's check: every kind of damage is found, and what can be is repaired. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <time.h>

#include "disk.h"
#include "test-store.h"

struct faults {
	char text[4096];
};

static void on_fault(void *data, const char *what, const char *fault)
{
	struct faults *f = data;
	size_t n = strlen(f->text);

	snprintf(f->text + n, sizeof(f->text) - n, "%.15s %s;", what, fault);
}

/* Checks; faults found in *ret_left those that stay. What was told. */
static const char *check(struct home *h, bool repair, size_t *ret_left)
{
	static struct faults f;
	struct err e = {0};
	size_t found;

	f.text[0] = '\0';
	if (oci_store_check(h->s, repair, NULL, on_fault, &f, &found, ret_left, &e) < 0)
		fail_msg("%s", e.msg);
	if (!f.text[0])
		assert_int_equal(found, 0);
	return f.text;
}

static void assert_sound(struct home *h)
{
	size_t left;

	assert_string_equal(check(h, false, &left), "");
	assert_int_equal(left, 0);
}

/* One fault is found, of this kind; repair leaves so many. */
static void assert_fault(struct home *h, const char *fault, size_t left_after)
{
	size_t left;
	const char *told = check(h, false, &left);

	if (!strstr(told, fault))
		fail_msg("\"%s\" is not in \"%s\"", fault, told);
	assert_true(left > 0);
	told = check(h, true, &left);
	if (!strstr(told, fault))
		fail_msg("\"%s\" is not in \"%s\"", fault, told);
	if (left != left_after)
		fail_msg("%zu left: %s", left, told);
	if (left_after == 0)
		assert_sound(h);
}

static void set_age(int dirfd, const char *name, time_t seconds)
{
	struct timespec t[2] = {{.tv_sec = time(NULL) - seconds}, {.tv_sec = time(NULL) - seconds}};

	assert_int_equal(utimensat(dirfd, name, t, AT_SYMLINK_NOFOLLOW), 0);
}

static void test_sound(void **state)
{
	struct home *h = *state;
	static const char *const two[] = {"1", "2"};

	assert_sound(h);
	put_image(h, "docker.io/library/x:1", "1", NULL);
	put_layers(h, "docker.io/library/y:1", two, 2, NULL);
	put_image(h, NULL, "3", NULL);
	assert_sound(h);
	/* what a dead process left and the next one deals with */
	char digest[OCI_DIGEST_MAX];
	put_text_blob(h, "fresh", digest);
	close(openat(h->s->tmp_fd, "left-over", O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	assert_sound(h);
	assert_int_equal(home_count(h->s->tmp_fd), 0);
	assert_true(has_blob(h, digest));
}

static void test_blobs(void **state)
{
	struct home *h = *state;
	const char *text = "content";
	struct made_image m;
	struct err e = {0};
	char *path;

	made_init(&m, host_arch(), &text, 1);
	assert_int_equal(try_load(h, &m, "docker.io/library/x:1", &e), 0);
	damage(h->s->sha256_fd, hex(m.diff_ids[0]), 512);
	/* no registry has it: what is left of it may be of use to somebody */
	assert_fault(h, "is damaged; x:1 needs it;", 1);
	assert_false(has_blob(h, m.diff_ids[0]));
	char aside[OCI_DIGEST_MAX + 16];
	snprintf(aside, sizeof(aside), "damaged/%s", hex(m.diff_ids[0]));
	assert_int_equal(faccessat(h->s->images_fd, aside, F_OK, 0), 0);
	assert_fault(h, "is missing; x:1 needs it;", 1);
	/* the disk is all that is left of it, and the image still runs */
	struct oci_image *i = find(h, "x:1");
	assert_int_equal(oci_image_disk(h->s, i, NULL, &path, &e), 0);
	free(path);
	oci_image_free(i);
	assert_int_equal(try_load(h, &m, "docker.io/library/x:1", &e), 0);
	assert_sound(h);
	/* the same for documents */
	damage(h->s->sha256_fd, hex(m.manifest_digest), 3);
	damage(h->s->sha256_fd, hex(m.config_digest), 3);
	assert_fault(h, "is damaged; x:1 needs it;", 2);
	assert_int_equal(try_load(h, &m, "docker.io/library/x:1", &e), 0);
	assert_sound(h);
	/* of an image that is removed nothing is missed */
	damage(h->s->sha256_fd, hex(m.config_digest), 3);
	assert_int_equal(oci_image_remove(h->s, "x:1", false, NULL, NULL, &e), 0);
	assert_int_equal(faccessat(h->s->images_fd, aside, F_OK, 0), -1);
	assert_sound(h);
	made_done(&m);
}

static void test_disks(void **state)
{
	struct home *h = *state;
	char name[OCI_DIGEST_MAX + 8];
	struct err e = {0};
	char *path;

	put_image(h, "docker.io/library/x:1", "content", NULL);
	struct oci_image *i = find(h, "x:1");
	snprintf(name, sizeof(name), "%s.img", hex(i->chain_id));
	damage(h->s->disks_fd, name, 1030);
	assert_fault(h, "the disk of x:1 is damaged;", 0);
	assert_false(has_disk(h, i->chain_id));
	assert_int_equal(oci_image_disk(h->s, i, NULL, &path, &e), 0);
	free(path);
	/* of a box it is built again at once; who has it open keeps what he has */
	assert_int_equal(oci_ref_add(h->st, "box1", i->manifest, &e), 0);
	int fd = openat(h->s->disks_fd, name, O_RDONLY | O_CLOEXEC);
	damage(h->s->disks_fd, name, 4096);
	assert_fault(h, "the disk of x:1 is damaged;", 0);
	assert_true(has_disk(h, i->chain_id));
	struct stat was, is;
	assert_int_equal(fstat(fd, &was), 0);
	assert_int_equal(fstatat(h->s->disks_fd, name, &is, 0), 0);
	assert_int_not_equal(was.st_ino, is.st_ino);
	close(fd);
	/* cut short */
	assert_int_equal(fchmodat(h->s->disks_fd, name, 0600, 0), 0);
	fd = openat(h->s->disks_fd, name, O_WRONLY | O_CLOEXEC);
	assert_int_equal(ftruncate(fd, 4096), 0);
	close(fd);
	assert_fault(h, "the disk of x:1 is damaged;", 0);
	/* gone */
	assert_int_equal(unlinkat(h->s->disks_fd, name, 0), 0);
	assert_fault(h, "the disk of x:1 is missing;", 0);
	oci_image_free(i);
}

/* An image that goes while its disk is compared takes nothing with it. */
static void test_gone_meanwhile(void **state)
{
	struct home *h = *state;
	struct err e = {0};

	put_image(h, "docker.io/library/x:1", "content", NULL);
	struct oci_image *i = find(h, "x:1");
	assert_int_equal(
		state_exec(h->st, NULL, "DELETE FROM image_blobs WHERE manifest = ?", "s", i->manifest), 0);
	assert_int_equal(oci_disk_verify(h->s, i->manifest, i->chain_id, &e), -ENOENT);
	assert_int_equal(oci_disk_remake(h->s, i->manifest, i->chain_id, NULL, &e), -ENOENT);
	assert_true(has_disk(h, i->chain_id));
	oci_image_free(i);
}

/* What does not belong there goes; what nobody came back for, too. */
static void test_strays(void **state)
{
	struct home *h = *state;
	char digest[OCI_DIGEST_MAX], name[80];

	put_image(h, "docker.io/library/x:1", "1", NULL);
	put_text_blob(h, "old", digest);
	set_age(h->s->sha256_fd, hex(digest), 2 * 86400);
	assert_fault(h, "nothing needs it;", 0);
	assert_false(has_blob(h, digest));
	close(openat(h->s->sha256_fd, "notes.txt", O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	assert_fault(h, "notes.txt is nothing that belongs into blobs/sha256;", 0);
	close(openat(h->s->disks_fd, ".hidden", O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	assert_fault(h, ".hidden is nothing that belongs into disks;", 0);
	snprintf(name, sizeof(name), "%064d.img", 1);
	assert_int_equal(symlinkat("/etc/passwd", h->s->disks_fd, name), 0);
	assert_fault(h, "is nothing that belongs into disks;", 0);
	/* a folder is nobody's to delete unasked */
	assert_int_equal(mkdirat(h->s->disks_fd, "folder", 0700), 0);
	assert_fault(h, "folder is nothing that belongs into disks;", 1);
	assert_int_equal(unlinkat(h->s->disks_fd, "folder", AT_REMOVEDIR), 0);
	/* a blob that is a link is no blob */
	struct oci_image *i = find(h, "x:1");
	assert_int_equal(unlinkat(h->s->sha256_fd, hex(i->manifest), 0), 0);
	assert_int_equal(symlinkat("/etc/passwd", h->s->sha256_fd, hex(i->manifest)), 0);
	assert_fault(h, "is damaged; x:1 needs it;", 1);
	oci_image_free(i);
}

static void test_rows(void **state)
{
	struct home *h = *state;
	char text[256];

	put_image(h, "docker.io/library/x:1", "1", NULL);
	put_image(h, "docker.io/library/y:1", "2", NULL);
	assert_int_equal(state_exec(h->st, NULL,
				 "UPDATE image_names SET manifest = 'sha256:0' WHERE name LIKE '%/y:1'", ""),
		0);
	assert_fault(h, "leads to an image that is not here;", 0);
	assert_int_equal(list_names(h, text, sizeof(text)), 2); /* y is there without a name */
	assert_int_equal(state_exec(h->st, NULL, "DELETE FROM image_blobs WHERE diff IS NOT NULL", ""), 0);
	size_t left;
	assert_non_null(strstr(check(h, true, &left), "the database says otherwise about its content;"));
	assert_int_equal(left, 0);
	assert_int_equal(number(h, "SELECT count(*) FROM image_blobs WHERE diff IS NOT NULL"), 2);
	assert_sound(h);
	assert_int_equal(state_exec(h->st, NULL, "INSERT INTO image_refs VALUES('box', 'sha256:0')", ""), 0);
	assert_fault(h, "box the image of this box or snapshot is not here;", 1);
	assert_int_equal(state_exec(h->st, NULL, "DELETE FROM image_refs", ""), 0);
	/* which disk an image has cannot be mended by guessing */
	assert_int_equal(state_exec(h->st, NULL,
				 "UPDATE image_manifests SET chain = 'sha256:1' WHERE digest ="
				 " (SELECT manifest FROM image_names LIMIT 1)",
				 ""),
		0);
	assert_non_null(strstr(check(h, false, &left), "the database says otherwise about its content;"));
}

static void test_index(void **state)
{
	struct home *h = *state;
	char index[OCI_DIGEST_MAX], missing[OCI_DIGEST_MAX];

	put_image(h, "docker.io/library/x:1", "1", NULL);
	struct oci_image *i = find(h, "x:1");
	put_text_blob(h, "{}", missing);
	char *json = str_printf("{\"schemaVersion\":2,\"mediaType\":\"" OCI_TYPE_INDEX "\",\"manifests\":["
				"{\"mediaType\":\"" OCI_TYPE_MANIFEST "\",\"digest\":\"%s\",\"size\":%d},"
				"{\"mediaType\":\"application/x\",\"digest\":\"%s\",\"size\":2}]}",
		i->manifest, (int)number(h, "SELECT 1"), missing);
	put_text_blob(h, json, index);
	free(json);
	assert_int_equal(state_exec(h->st, NULL, "UPDATE image_names SET digest = ?", "s", index), 0);
	assert_int_equal(state_exec(h->st, NULL, "INSERT INTO image_indexes(digest, complete) VALUES(?, 1)",
				 "s", index),
		0);
	assert_int_equal(state_exec(h->st, NULL, "INSERT INTO image_index_blobs(idx, digest) VALUES(?1, ?1)",
				 "s", index),
		0);
	/* a part has no row */
	assert_fault(h, "the index of x:1 is not complete", 0);
	assert_int_equal(number(h, "SELECT complete FROM image_indexes"), 0);
	/* a part is damaged: the index keeps the rest */
	assert_int_equal(state_exec(h->st, NULL, "INSERT INTO image_index_blobs(idx, digest) VALUES(?1, ?2)",
				 "ss", index, missing),
		0);
	put_text_blob(h, "{}", missing);
	damage(h->s->sha256_fd, hex(missing), 0);
	assert_fault(h, "is damaged; x:1 needs it;", 0);
	assert_true(has_blob(h, index));
	assert_int_equal(number(h, "SELECT count(*) FROM image_index_blobs"), 1);
	/* so is the index itself: the image stays */
	damage(h->s->sha256_fd, hex(index), 0);
	assert_fault(h, "is damaged; x:1 needs it;", 0);
	assert_int_equal(number(h, "SELECT count(*) FROM image_indexes"), 0);
	oci_image_free(i);
	oci_image_free(find(h, "x:1"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		STORE_TEST(test_sound),
		STORE_TEST(test_blobs),
		STORE_TEST(test_disks),
		STORE_TEST(test_gone_meanwhile),
		STORE_TEST(test_strays),
		STORE_TEST(test_rows),
		STORE_TEST(test_index),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
