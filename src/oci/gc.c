/* SPDX-License-Identifier: MIT */
/*
 * Deleting what no image needs. The database is changed first: a crash then leaves files without rows, never the reverse.
 * Whoever deletes rows notes in the same transaction that files are to follow (oci_store_sweep_due), so that the next one
 * to work on the store deletes them should this one die. What a pull or a load leaves that dies is not noted: its next try
 * goes on with it, for a day.
 */
#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "base/log.h"
#include "fetch.h"
#include "image.h"
#include "unsynced.h"

#define COLLECTIONS_MAX 16 /* at a time */

/* A removed image that nobody holds any more. */
#define DOOMED \
	"doomed AND digest NOT IN (SELECT manifest FROM image_refs UNION SELECT manifest FROM image_names)"

/* A further manifest of an image that has names by another one, while it has none itself: the same image, packed anew. */
#define REPLACED \
	"digest NOT IN (SELECT manifest FROM image_refs UNION SELECT manifest FROM image_names)" \
	" AND EXISTS (SELECT 1 FROM image_manifests x JOIN image_names n ON n.manifest = x.digest" \
	"  WHERE x.config = image_manifests.config)"

/* Rows that nothing leads to, each kind after what could lead to it. */
static int delete_in_tx(struct oci_store *s, struct err *e)
{
	/* What was not pulled is not evicted, and the one that speaks for the image from now on takes that over. */
	static const char hand_on[] =
		"UPDATE image_use SET pulled = 0 WHERE pulled AND manifest IN (SELECT y.digest FROM "
		"image_manifests y"
		" WHERE y.config IN (SELECT config FROM image_manifests WHERE " REPLACED
		"  AND digest IN (SELECT manifest FROM image_use WHERE NOT pulled)))";
	static const char doomed[] = "DELETE FROM image_manifests WHERE " DOOMED;
	static const char replaced[] = "DELETE FROM image_manifests WHERE " REPLACED;
	static const char layers[] = "DELETE FROM image_layers WHERE diff NOT IN"
				     " (SELECT diff FROM image_blobs WHERE diff IS NOT NULL)";
	static const char signatures[] =
		"DELETE FROM image_signatures WHERE digest NOT IN"
		" (SELECT digest FROM image_names UNION SELECT digest FROM image_manifests"
		"  UNION SELECT digest FROM image_remotes)";
	static const char *const statements[] = {
		doomed,
		hand_on,
		replaced,
		"DELETE FROM image_blobs WHERE manifest NOT IN (SELECT digest FROM image_manifests)",
		"DELETE FROM image_remotes WHERE manifest NOT IN (SELECT digest FROM image_manifests)",
		"DELETE FROM image_use WHERE manifest NOT IN (SELECT digest FROM image_manifests)",
		"DELETE FROM image_disks WHERE chain NOT IN (SELECT chain FROM image_manifests)",
		"DELETE FROM image_disks_unsynced WHERE chain NOT IN (SELECT chain FROM image_disks)",
		"DELETE FROM image_indexes WHERE digest NOT IN (SELECT digest FROM image_names)",
		"DELETE FROM image_index_blobs WHERE idx NOT IN (SELECT digest FROM image_indexes)",
		layers,
		signatures,
	};
	int before = sqlite3_total_changes(s->st->db);
	int r = 0;

	for (size_t i = 0; r == 0 && i < ARRAY_LEN(statements); i++)
		r = state_exec(s->st, e, statements[i], "");
	return r == 0 && sqlite3_total_changes(s->st->db) != before ? oci_store_sweep_due(s, e) : r;
}

/* *ret: the last change whose files will be swept, 0 when none is noted. */
static int delete_rows(struct oci_store *s, int64_t *ret, struct err *e)
{
	int r = state_begin(s->st, e);

	if (r < 0)
		return r;
	r = delete_in_tx(s, e);
	if (r == 0)
		r = oci_query_number(s, ret, e, "SELECT max(id) FROM image_sweep", NULL, NULL, NULL);
	return state_end(s->st, r, e);
}

int oci_store_sweep_due(struct oci_store *s, struct err *e)
{
	return state_exec(s->st, e, "INSERT INTO image_sweep DEFAULT VALUES", "");
}

static bool is_older(int dirfd, const char *name, int64_t than_ns)
{
	struct stat st;

	if (than_ns <= 0)
		return true;
	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return false;
	return time_real_ns() - ((int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec) >= than_ns;
}

/*
 * Deletes each file of a folder for whose digest, named by the file without suffix, the query has no row, and that is at
 * least so old.
 */
static int sweep(struct oci_store *s, int dirfd, const char *query, const char *suffix, int64_t older_than_ns,
	struct err *e)
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
		if (len >= (int)sizeof(digest) || !is_older(dirfd, de->d_name, older_than_ns))
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

static int sweep_all(struct oci_store *s, int64_t older_than_ns, struct err *e)
{
	static const char blobs[] = "SELECT 1 FROM image_blobs WHERE digest = ?1"
				    " UNION ALL SELECT 1 FROM image_index_blobs WHERE digest = ?1 LIMIT 1";
	static const char disks[] = "SELECT 1 FROM image_disks WHERE chain = ?";
	int r = sweep(s, s->sha256_fd, blobs, "", older_than_ns, e);

	if (r == 0)
		r = sweep(s, s->sha512_fd, blobs, "", older_than_ns, e);
	if (r == 0)
		r = sweep(s, s->disks_fd, disks, ".img", older_than_ns, e);
	CLEANUP_CLOSE int damaged = io_open_dir_at(s->images_fd, OCI_DAMAGED, false);
	return r == 0 && damaged >= 0 ? sweep(s, damaged, blobs, "", older_than_ns, e) : r;
}

int oci_store_sweep_old(struct oci_store *s, struct err *e)
{
	return sweep_all(s, OCI_LEFTOVER_NS, e);
}

int oci_store_collect(struct oci_store *s, struct err *e)
{
	int64_t swept = 0;

	oci_store_clean_tmp(s);
	oci_partial_clean(s, OCI_LEFTOVER_NS);
	int r = delete_rows(s, &swept, e);
	if (r == 0)
		r = sweep_all(s, 0, e);
	if (r == 0)
		oci_unsynced_sync_all_locked(s);
	/* Not what others have noted meanwhile: its files may have been passed by. */
	return r == 0 && swept ? state_exec(s->st, e, "DELETE FROM image_sweep WHERE id <= ?", "i", swept)
			       : r;
}

static int collect_once(struct oci_store *s, struct err *e)
{
	CLEANUP_CLOSE int lock = -1;
	int r = oci_store_lock(s, OCI_LOCK_DELETE, &lock, e);

	return r < 0 ? r : oci_store_collect(s, e);
}

/* Others may have found the lock taken meanwhile, and left the work to us. */
int oci_store_gc(struct oci_store *s, struct err *e)
{
	int r = collect_once(s, e);

	for (int i = 0; r == 0 && i < COLLECTIONS_MAX && oci_store_gc_due(s); i++)
		r = collect_once(s, e);
	/* Whoever is at work now is not disturbed: he collects at his end. */
	return r == -EBUSY ? 0 : r;
}

bool oci_store_gc_due(struct oci_store *s)
{
	int64_t due = 0;

	return oci_query_number(s, &due, NULL,
		       "SELECT EXISTS(SELECT 1 FROM image_sweep)"
		       " OR EXISTS(SELECT 1 FROM image_manifests WHERE " DOOMED ")",
		       NULL, NULL, NULL) == 0 &&
	       due;
}

int oci_store_gc_if_due(struct oci_store *s, struct err *e)
{
	return oci_store_gc_due(s) ? oci_store_gc(s, e) : 0;
}

int oci_store_note_index(struct oci_store *s, struct err *e)
{
	int64_t n;
	int r = oci_query_number(s, &n, e,
		"SELECT EXISTS(SELECT 1 FROM image_indexes WHERE digest NOT IN (SELECT digest FROM "
		"image_names))",
		NULL, NULL, NULL);

	return r == 0 && n ? oci_store_sweep_due(s, e) : r;
}

int oci_store_drop_partial(struct oci_store *s, uint64_t *ret_bytes, struct err *e)
{
	CLEANUP_CLOSE int lock = -1;
	uint64_t before = 0, after = 0;
	int r = oci_store_lock(s, OCI_LOCK_DELETE, &lock, e);

	*ret_bytes = 0;
	if (r < 0)
		return r == -EBUSY ? 0 : r;
	r = oci_store_bytes(s, &before, e);
	oci_partial_clean(s, 0);
	if (r == 0)
		r = oci_store_bytes(s, &after, e);
	*ret_bytes = before > after ? before - after : 0;
	oci_store_release(s, &lock);
	return r;
}
