/* SPDX-License-Identifier: MIT */
/*
 * THEORY OF OPERATION
 *
 *     images/blobs/sha256/HEX   content, named by its digest, exactly as in an OCI image layout
 *     images/disks/HEX.img      read-only disks, named by chain ID
 *     images/tmp/               everything while it is written
 *     images/lock               see below
 *     state.db                  what there is: schema.sql.h
 *
 * A file is written in tmp/, synced, and renamed to its place; its folder is synced; only then does one
 * transaction enter the image. A process that dies on the way leaves files that no row names. They do no
 * harm, and the next collection (after a removal) or the next load or pull (tmp/ only) deletes them. Commands
 * that only run or list never look.
 *
 * Whoever adds content holds images/lock shared, from before it looks for what is there until its transaction
 * is done. Whoever deletes holds it exclusively, so nothing is deleted between being found and being named.
 * Locks are flock(2): they end with their holder, however that ends.
 */
#ifndef OCI_STORE_H
#define OCI_STORE_H

#include <stdint.h>

#include "digest.h"
#include "manifest.h"
#include "oci/oci.h"
#include "stream.h"

#define OCI_UNPACKED_MAX (64ull << 30) /* bytes of an image's layers, uncompressed; of an archive's entries */

struct oci_store {
	struct state *st;
	int images_fd, tmp_fd, disks_fd, sha256_fd, sha512_fd;
	uint64_t unpacked_max; /* OCI_UNPACKED_MAX; tests lower it */
};

enum oci_lock { OCI_LOCK_ADD, OCI_LOCK_DELETE };
/*
 * Waits for OCI_LOCK_ADD; OCI_LOCK_DELETE is -EBUSY when others work (no error set). *ret is closed to
 * unlock. OCI_LOCK_ADD first deletes what dead processes left in tmp/, if nobody else is at work.
 */
int oci_store_lock(struct oci_store *s, enum oci_lock kind, int *ret, struct err *e);
/* Empties tmp/. Needs the lock for deleting. */
void oci_store_clean_tmp(struct oci_store *s);

/* -ENOSPC if so many bytes more do not fit, so that a large file is refused before it fills the disk. */
int oci_store_room(struct oci_store *s, uint64_t bytes, struct err *e);

/* A file in tmp/ that becomes a blob or a disk, or nothing. */
struct oci_spool {
	struct oci_store *store;
	int fd;
	char tmp[48]; /* name; empty once it is gone */
	struct oci_hash *hash;
	uint64_t size;
	char digest[OCI_DIGEST_MAX]; /* set by finish */
};
/* hash_like: as oci_hash_new, or no hash at all with hash unset. */
int oci_spool_new(
	struct oci_store *s, bool hash, const char *hash_like, struct oci_spool **ret, struct err *e);
int oci_spool_write(struct oci_spool *sp, const void *data, size_t n, struct err *e);
/* No more writes: computes the digest and starts writing back. The file can be read through fd. */
int oci_spool_finish(struct oci_spool *sp, struct err *e);
/* Makes it durable under name in folder dirfd, which is not synced. */
int oci_spool_commit(struct oci_spool *sp, int dirfd, const char *name, struct err *e);
/* Deletes the file unless committed. */
void oci_spool_free(struct oci_spool *sp);
DEFINE_CLEANUP(struct oci_spool *, oci_spool_free)

/* Folder of the blobs of a digest's algorithm. */
int oci_store_blob_dir(struct oci_store *s, const char *digest);
/* A descriptor, or -ENOENT (no error set), or -errno. */
int oci_store_blob_open(struct oci_store *s, const char *digest, struct err *e);
/* Syncs the folders, after commits. */
int oci_store_sync(struct oci_store *s, struct err *e);

/* An image about to be entered. */
struct oci_entry {
	char manifest[OCI_DIGEST_MAX];
	char served[OCI_DIGEST_MAX]; /* what the names lead to in a registry; the manifest itself if unknown
				      */
	char config[OCI_DIGEST_MAX];
	char chain[OCI_DIGEST_MAX];
	uint64_t disk_size;
	const struct oci_manifest *m;
	const struct oci_config *c;
	struct strv names; /* normalised */
};
/* Within the caller's transaction. action: what its event says, "pull" or "load". */
int oci_store_enter(struct oci_store *s, const struct oci_entry *en, const char *action, struct err *e);

#endif
