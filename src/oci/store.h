/* SPDX-License-Identifier: MIT */
/*
 * THEORY OF OPERATION
 *
 *     images/blobs/sha256/HEX   content, named by its digest, exactly as in an OCI image layout
 *     images/disks/HEX.img      read-only disks, named by chain ID
 *     images/tmp/               everything while it is written
 *     images/partial/ALG-HEX    unfinished downloads, which go on where they stopped: fetch.h
 *     images/damaged/HEX        content that a repair found damaged, and that no registry is known to have: check.h
 *     images/lock               see below
 *     state.db                  what there is: schema.sql.h
 *
 * A file is written in tmp/, synced, and renamed to its place; its folder is synced; only then does one
 * transaction enter the image. Disks are a cache, and are not synced: see unsynced.h. A process that dies on
 * the way leaves files that no row names. They do no harm: in tmp/ the next load or pull deletes them, else its next try goes on with them, or the next
 * collection (after a removal) deletes them, or, when they are a day old, the next load or pull. A removal that dies is
 * finished by the next load, pull or removal, of an image or a box.
 *
 * Whoever adds content holds images/lock shared, from before it looks for what is there until its transaction
 * is done; so does whoever makes a box, from before it looks for the image until the box's record needs it. Whoever
 * deletes holds it exclusively, so nothing is deleted between being found and being named, and never waits for it: who
 * comes to the end of adding, or of deleting, looks whether somebody went away so (oci_store_release), and collects.
 * Locks are flock(2): they end with their holder, however that ends.
 */
#ifndef OCI_STORE_H
#define OCI_STORE_H

#include <stdint.h>

#include "digest.h"
#include "manifest.h"
#include "oci/oci.h"
#include "stream.h"

/* How large the store may grow, and how large where nobody says so. */
#define OCI_LIMIT_VARIABLE "A3S_IMAGE_CACHE_SIZE"
#define OCI_LIMIT_DEFAULT  "10g"

#define OCI_DAMAGED	 "damaged"
#define OCI_LEFTOVER_NS	 (86400ll * 1000000000) /* after a day nobody goes on with what was cut off */
#define OCI_UNPACKED_MAX (64ull << 30) /* bytes of an image's layers, uncompressed; of an archive's entries */

#define OCI_STUCK_NS 60000000000ull /* without a byte from whoever downloads a blob; twice OCI_HTTP_STALL_S */

struct oci_store {
	struct state *st;
	int images_fd, tmp_fd, disks_fd, sha256_fd, sha512_fd, partial_fd;
	uint64_t unpacked_max; /* OCI_UNPACKED_MAX; tests lower it */
	uint64_t stuck_ns;     /* OCI_STUCK_NS; tests lower it */
	bool grown; /* a disk that was missing was built: whoever holds the store trims when it is released */
};

enum oci_lock { OCI_LOCK_ADD, OCI_LOCK_DELETE };
/*
 * Waits for OCI_LOCK_ADD; OCI_LOCK_DELETE is -EBUSY when others work (no error set). *ret is closed to
 * unlock, or better given to oci_store_release, for the collection that others could not make. OCI_LOCK_ADD first deletes what dead processes left in tmp/ or had begun
 * to delete, and what is OCI_LEFTOVER_NS old and has no row, if nobody else is at work.
 */
int oci_store_lock(struct oci_store *s, enum oci_lock kind, int *ret, struct err *e);
/* Empties tmp/. Needs the lock for deleting. */
void oci_store_clean_tmp(struct oci_store *s);
/* The collection of oci_store_gc for whoever has the lock for deleting, and whether one is due. */
int oci_store_collect(struct oci_store *s, struct err *e);
bool oci_store_gc_due(struct oci_store *s);
/* Deletes content without a row that is at least OCI_LEFTOVER_NS old. Needs the lock for deleting. */
int oci_store_sweep_old(struct oci_store *s, struct err *e);

/* -ENOSPC if so many bytes more do not fit, so that a large file is refused before it fills the disk. */
int oci_store_room(struct oci_store *s, uint64_t bytes, struct err *e);

/* A file in tmp/ that becomes a blob or a disk, or nothing. */
struct oci_spool {
	struct oci_store *store;
	int fd;	      /* -1: closed */
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
/* After finish: gives the descriptor back, which committing gets again, so that there may be any number of spools. */
void oci_spool_close(struct oci_spool *sp);
/* After finish: another descriptor, for reading, from the beginning; the caller's. -ENOENT once it was committed. */
int oci_spool_open(const struct oci_spool *sp, struct err *e);
/* Makes it durable under name in folder dirfd, which is not synced. */
int oci_spool_commit(struct oci_spool *sp, int dirfd, const char *name, struct err *e);
/* The same, but not durable: for what can be made again (unsynced.h). */
int oci_spool_place(struct oci_spool *sp, int dirfd, const char *name, struct err *e);
/* Deletes the file unless committed or placed. */
void oci_spool_free(struct oci_spool *sp);
DEFINE_CLEANUP(struct oci_spool *, oci_spool_free)

/* Folder of the blobs of a digest's algorithm. */
int oci_store_blob_dir(struct oci_store *s, const char *digest);
/* A descriptor, or -ENOENT (no error set), or -errno. */
int oci_store_blob_open(struct oci_store *s, const char *digest, struct err *e);
/* A JSON document, malloc'd with a NUL behind; its digest was checked again. -EBADMSG when it is damaged or missing. */
int oci_store_document(struct oci_store *s, const char *digest, char **ret, size_t *ret_n, struct err *e);
/* -EBADMSG: content of the store "is missing" or "is damaged", with a hint what to do. */
int oci_store_damaged(const char *digest, const char *fault, struct err *e);
/* Syncs the folders of blobs, after commits. */
int oci_store_sync(struct oci_store *s, struct err *e);

struct oci_signatures;

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
	/* Bytes of content that each layer brought, as oci_disk_build found; NULL: not known (the disk was there). */
	const uint64_t *layer_sizes;
	/* Blobs that names with this served digest need beyond the image's own: the index (served) itself, and where
	 * all platforms are kept, everything it names. Empty when served is the manifest. */
	struct strv index_blobs;
	bool all_platforms;			 /* index_blobs is everything that the index names */
	bool pulled;				 /* came from a registry, so that it may be evicted */
	const struct oci_signatures *signatures; /* of served or manifest, to be kept; NULL: none */
};
/*
 * Within the caller's transaction, as all that follow. action: what its event says, "pull", "load" or "import". An image
 * that had one of the names stays, untagged.
 */
int oci_store_enter(struct oci_store *s, const struct oci_entry *en, const char *action, struct err *e);
/* Lists what a manifest needs, anew. */
int oci_store_enter_blobs(struct oci_store *s, const char *manifest, const struct oci_manifest *m,
	const struct oci_config *c, struct err *e);
/* Remembers how many bytes of content a layer brings. */
int oci_store_enter_layer(struct oci_store *s, const char *diff_id, uint64_t size, struct err *e);
/* A normalised name leads to a manifest; served: as in oci_entry; remote: a registry says so. */
int oci_store_enter_name(struct oci_store *s, const char *name, const char *served, const char *manifest,
	bool remote, struct err *e);
/* Keeps signatures that were found good; sigs may be NULL. */
int oci_store_enter_signatures(struct oci_store *s, const struct oci_signatures *sigs, struct err *e);
/* After a push: under this normalised name a registry serves the manifest, by itself or in an index, as digest. */
int oci_store_pushed(
	struct oci_store *s, const char *name, const char *manifest, const char *digest, struct err *e);

#endif
