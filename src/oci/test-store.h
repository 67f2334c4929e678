/* SPDX-License-Identifier: MIT */
/* For tests of the store: images put into it, and what is told of them. After cmocka.h. */
#ifndef OCI_TEST_STORE_H
#define OCI_TEST_STORE_H

#include <sys/mman.h>
#include <sys/stat.h>

#include "oci/transfer.h"
#include "test-home.h"
#include "test-images.h"

#define STORE_TEST(f) cmocka_unit_test_setup_teardown(f, home_setup, home_teardown)

static inline char *host_arch(void)
{
	static struct oci_platform p;

	oci_platform_done(&p);
	assert_int_equal(oci_platform_parse(NULL, &p, NULL), 0);
	return p.arch;
}

/* Loads an image under a name (NULL: none). 0 or -errno. */
static inline int try_load(struct home *h, const struct made_image *m, const char *name, struct err *e)
{
	struct buf b = {0};
	char annotations[256] = "";
	int fd = memfd_create("archive", MFD_CLOEXEC);

	if (name)
		snprintf(annotations, sizeof(annotations), "\"io.containerd.image.name\":\"%s\"", name);
	put_oci(&b, m, annotations, true, -1);
	tar_end(&b);
	int r = io_write_full(fd, buf_data(&b), b.len);
	if (r == 0 && lseek(fd, 0, SEEK_SET) < 0)
		r = -errno;
	struct oci_load_opts o = {0};
	if (r == 0)
		r = oci_load(h->s, fd, &o, NULL, NULL, NULL, e);
	close(fd);
	buf_done(&b);
	return r;
}

/* Puts an image of a layer for each text under a name (NULL: none) into the store; its ID to id. */
static inline void put_layers(
	struct home *h, const char *name, const char *const *texts, size_t n, char id[OCI_DIGEST_MAX])
{
	struct made_image m;
	struct err e = {0};

	made_init(&m, host_arch(), texts, n);
	if (try_load(h, &m, name, &e) < 0)
		fail_msg("%s", e.msg);
	if (id)
		strcpy(id, m.config_digest);
	made_done(&m);
}

static inline void put_image(struct home *h, const char *name, const char *text, char id[OCI_DIGEST_MAX])
{
	put_layers(h, name, &text, 1, id);
}

/* As if it had been pulled under its names. */
static inline void make_pulled(struct home *h, const char *id)
{
	static const char *const statements[] = {
		"UPDATE image_use SET pulled = 1 WHERE manifest IN (SELECT digest FROM image_manifests WHERE "
		"config = ?)",
		"INSERT OR IGNORE INTO image_remotes(manifest, name, repo, digest) SELECT n.manifest, "
		"n.name, n.repo,"
		" n.digest FROM image_names n JOIN image_manifests m ON m.digest = n.manifest WHERE m.config "
		"= ?",
	};

	for (size_t i = 0; i < ARRAY_LEN(statements); i++)
		assert_int_equal(state_exec(h->st, NULL, statements[i], "s", id), 0);
}

struct removed {
	char text[2048];
};

static inline void on_removed(void *data, const char *key, const char *value)
{
	struct removed *r = data;
	size_t n = strlen(r->text);

	snprintf(r->text + n, sizeof(r->text) - n, "%s %.19s;", key, value);
}

static inline size_t list_names(struct home *h, char *text, size_t size)
{
	struct oci_image **list;
	size_t n, len = 0;

	*text = '\0';
	assert_int_equal(oci_image_list(h->s, &list, &n, NULL), 0);
	for (size_t i = 0; i < n; i++)
		len += (size_t)snprintf(
			text + len, size - len, "%s;", list[i]->name ? list[i]->name : "<none>");
	oci_image_list_free(list, n);
	return n;
}

static inline struct oci_image *find(struct home *h, const char *ref)
{
	struct oci_image *i = NULL;
	struct err e = {0};

	if (oci_image_find(h->s, ref, &i, &e) < 0)
		fail_msg("%s: %s", ref, e.msg);
	return i;
}

static inline void assert_found(struct home *h, const char *ref, const char *id)
{
	struct oci_image *i = find(h, ref);

	assert_string_equal(i->id, id);
	oci_image_free(i);
}

static inline int find_error(struct home *h, const char *ref, struct err *e)
{
	struct oci_image *i;

	*e = (struct err){0};
	int r = oci_image_find(h->s, ref, &i, e);
	if (r == 0)
		oci_image_free(i);
	return r;
}

static inline int64_t number(struct home *h, const char *sql)
{
	CLEANUP(stmt_done) sqlite3_stmt *st = NULL;

	assert_int_equal(state_prepare(h->st, &st, NULL, sql, ""), 0);
	assert_int_equal(state_step(h->st, st, NULL), 1);
	return sqlite3_column_int64(st, 0);
}

/* A blob of this text; its digest. */
static inline void put_text_blob(struct home *h, const char *text, char ret[OCI_DIGEST_MAX])
{
	struct oci_spool *sp;
	struct err e = {0};

	assert_int_equal(oci_spool_new(h->s, true, NULL, &sp, &e), 0);
	assert_int_equal(oci_spool_write(sp, text, strlen(text), &e), 0);
	assert_int_equal(oci_spool_finish(sp, &e), 0);
	assert_int_equal(oci_spool_commit(sp, h->s->sha256_fd, hex(sp->digest), &e), 0);
	strcpy(ret, sp->digest);
	oci_spool_free(sp);
}

static inline bool has_blob(struct home *h, const char *digest)
{
	return faccessat(h->s->sha256_fd, hex(digest), F_OK, 0) == 0;
}

static inline bool has_disk(struct home *h, const char *chain)
{
	char name[OCI_DIGEST_MAX + 8];

	snprintf(name, sizeof(name), "%s.img", hex(chain));
	return faccessat(h->s->disks_fd, name, F_OK, 0) == 0;
}

/* Changes a byte of a file in the store. */
static inline void damage(int dirfd, const char *name, off_t at)
{
	uint8_t byte;

	assert_int_equal(fchmodat(dirfd, name, 0600, 0), 0);
	int fd = openat(dirfd, name, O_RDWR | O_CLOEXEC);
	assert_int_equal(pread(fd, &byte, 1, at), 1);
	byte ^= 0x55;
	assert_int_equal(pwrite(fd, &byte, 1, at), 1);
	close(fd);
}

#endif
