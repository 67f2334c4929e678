/* SPDX-License-Identifier: MIT */
/* Deleting what no image needs. The database is changed first: a crash then leaves files without rows, never
 * the reverse. */
#include <dirent.h>
#include <fcntl.h>
#include <string.h>

#include "base/io.h"
#include "base/log.h"
#include "store.h"

/* A removed image that nobody holds any more. */
#define DOOMED \
	"doomed AND digest NOT IN (SELECT manifest FROM image_refs UNION SELECT manifest FROM image_names)"

/* Rows that nothing leads to: removed images whose last holder is gone, and disks without an image. */
static int delete_rows(struct oci_store *s, struct err *e)
{
	static const char doomed[] = "DELETE FROM image_manifests WHERE " DOOMED;
	static const char *const statements[] = {
		doomed,
		"DELETE FROM image_blobs WHERE manifest NOT IN (SELECT digest FROM image_manifests)",
		"DELETE FROM image_disks WHERE chain NOT IN (SELECT chain FROM image_manifests)",
	};
	int r = state_begin(s->st, e);

	if (r < 0)
		return r;
	for (size_t i = 0; r == 0 && i < ARRAY_LEN(statements); i++)
		r = state_exec(s->st, e, statements[i], "");
	return state_end(s->st, r, e);
}

/* Deletes each file of a folder for whose digest, named by the file without suffix, the query has no row. */
static int sweep(struct oci_store *s, int dirfd, const char *query, const char *suffix, struct err *e)
{
	CLEANUP(stmt_done) sqlite3_stmt *st = NULL;
	int r = state_prepare(s->st, &st, e, query, "");
	if (r < 0)
		return r;
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	if (!d) {
		r = err_sys(e, -errno, "image store: cannot read a folder");
		close_fd(&fd);
		return r;
	}
	for (struct dirent *de; r >= 0 && (de = readdir(d));) {
		char digest[OCI_DIGEST_MAX];
		size_t n = strlen(de->d_name), k = strlen(suffix);
		if (de->d_name[0] == '.' || n <= k || strcmp(de->d_name + n - k, suffix) != 0)
			continue;
		const char *alg = n - k == OCI_SHA256_HEX_LEN ? "sha256" : "sha512";
		int len = snprintf(digest, sizeof(digest), "%s:%.*s", alg, (int)(n - k), de->d_name);
		if (len >= (int)sizeof(digest))
			continue;
		sqlite3_reset(st);
		sqlite3_bind_text(st, 1, digest, -1, SQLITE_TRANSIENT);
		r = state_step(s->st, st, e);
		if (r == 0) {
			log_debug("image store: deleting %s", de->d_name);
			(void)unlinkat(dirfd, de->d_name, 0);
		}
	}
	closedir(d);
	return r < 0 ? r : 0;
}

int oci_store_gc(struct oci_store *s, struct err *e)
{
	static const char blobs[] = "SELECT 1 FROM image_blobs WHERE digest = ? LIMIT 1";
	static const char disks[] = "SELECT 1 FROM image_disks WHERE chain = ?";
	CLEANUP_CLOSE int lock = -1;
	int r = oci_store_lock(s, OCI_LOCK_DELETE, &lock, e);

	if (r == -EBUSY)
		return 0; /* whoever is at work now is not disturbed; the next removal collects */
	if (r < 0)
		return r;
	oci_store_clean_tmp(s);
	r = delete_rows(s, e);
	if (r == 0)
		r = sweep(s, s->sha256_fd, blobs, "", e);
	if (r == 0)
		r = sweep(s, s->sha512_fd, blobs, "", e);
	if (r == 0)
		r = sweep(s, s->disks_fd, disks, ".img", e);
	return r;
}

int oci_store_gc_if_due(struct oci_store *s, struct err *e)
{
	CLEANUP(stmt_done) sqlite3_stmt *st = NULL;
	int r = state_prepare(s->st, &st, e, "SELECT 1 FROM image_manifests WHERE " DOOMED " LIMIT 1", "");

	if (r == 0)
		r = state_step(s->st, st, e);
	if (r <= 0)
		return r;
	stmt_done(&st);
	st = NULL;
	return oci_store_gc(s, e);
}
