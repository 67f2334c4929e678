/* SPDX-License-Identifier: MIT */
/* What images take on disk. The database says which files there are, and whose; the file system, how large they are. */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "store.h"

static uint64_t file_bytes(int dirfd, const char *name)
{
	struct stat st;
	return fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
}

static uint64_t blob_bytes(struct oci_store *s, const char *digest)
{
	return digest && strchr(digest, ':')
		       ? file_bytes(oci_store_blob_dir(s, digest), oci_digest_hex(digest))
		       : 0;
}

static uint64_t disk_bytes(struct oci_store *s, const char *chain)
{
	char name[OCI_DIGEST_MAX + 8];

	if (!chain || !strchr(chain, ':'))
		return 0;
	snprintf(name, sizeof(name), "%s.img", oci_digest_hex(chain));
	return file_bytes(s->disks_fd, name);
}

/* sql gives names of files of one image, and how many images need each. */
static int add_files(struct oci_store *s, const char *sql, const char *arg,
	uint64_t (*bytes_of)(struct oci_store *s, const char *name), struct oci_usage *u, struct err *e)
{
	CLEANUP(stmt_done) sqlite3_stmt *st = NULL;
	int r = state_prepare(s->st, &st, e, sql, "s", arg);

	while (r >= 0 && (r = state_step(s->st, st, e)) > 0) {
		uint64_t bytes = bytes_of(s, (const char *)sqlite3_column_text(st, 0));
		u->bytes += bytes;
		if (sqlite3_column_int64(st, 1) > 1)
			u->shared_bytes += bytes;
	}
	return r;
}

static int image_usage(struct oci_store *s, const char *id, struct oci_usage *u, struct err *e)
{
	CLEANUP(stmt_done) sqlite3_stmt *st = NULL;

	int r = add_files(s,
		"SELECT b.digest, (SELECT count(DISTINCT m2.config) FROM image_blobs b2"
		"  JOIN image_manifests m2 ON m2.digest = b2.manifest WHERE b2.digest = b.digest)"
		" FROM image_blobs b JOIN image_manifests m ON m.digest = b.manifest WHERE m.config = ?"
		" GROUP BY b.digest",
		id, blob_bytes, u, e);
	if (r == 0)
		r = add_files(s,
			"SELECT m.chain, (SELECT count(DISTINCT m2.config) FROM image_manifests m2 WHERE "
			"m2.chain = "
			"m.chain)"
			" FROM image_manifests m WHERE m.config = ? GROUP BY m.chain",
			id, disk_bytes, u, e);
	if (r == 0)
		r = state_prepare(s->st, &st, e,
			"SELECT count(DISTINCT holder) FROM image_refs WHERE manifest IN"
			" (SELECT digest FROM image_manifests WHERE config = ?)",
			"s", id);
	if (r == 0)
		r = state_step(s->st, st, e);
	if (r > 0)
		u->holders = (uint64_t)sqlite3_column_int64(st, 0);
	return r < 0 ? r : 0;
}

int oci_image_usage(struct oci_store *s, struct oci_image *const *list, size_t n, struct oci_usage *ret,
	uint64_t *ret_free, struct err *e)
{
	static const char blobs[] = "SELECT DISTINCT digest, 1 FROM image_blobs WHERE digest NOT IN"
				    " (SELECT digest FROM image_blobs WHERE manifest IN (SELECT manifest "
				    "FROM image_refs)) AND ? IS NULL";
	static const char disks[] = "SELECT DISTINCT chain, 1 FROM image_manifests WHERE chain NOT IN "
				    "(SELECT chain FROM image_manifests"
				    " WHERE digest IN (SELECT manifest FROM image_refs)) AND ? IS NULL";
	struct oci_usage unused = {0};
	int r = 0;

	for (size_t i = 0; r == 0 && i < n; i++) {
		ret[i] = (struct oci_usage){0};
		r = image_usage(s, list[i]->id, &ret[i], e);
	}
	if (r == 0)
		r = add_files(s, blobs, NULL, blob_bytes, &unused, e);
	if (r == 0)
		r = add_files(s, disks, NULL, disk_bytes, &unused, e);
	*ret_free = unused.bytes;
	return r;
}
