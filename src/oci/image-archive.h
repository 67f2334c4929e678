/* SPDX-License-Identifier: MIT */
/*
 * THEORY OF OPERATION
 *
 * An image archive is a tar of either layout, or of both at once (Docker 25 and later):
 *
 *     OCI image layout   oci-layout, index.json, blobs/ALG/HEX
 *     docker save        manifest.json: a list of { Config, RepoTags, Layers }, which name other entries
 *
 * It comes as a stream, and the documents that say what is what may come last. So every file is spooled into
 * the store's tmp/ folder while it is hashed (archive-read.c), and only then are the images put together
 * (archive-images.c), their disks built and everything entered (archive-load.c). Entries' names are keys to look up,
 * never paths. What the store has already is compared instead, which also finds and mends what was damaged there. Links are
 * followed for docker save's names only: a blob is what stands under its own name, verified.
 *
 * Of an image for several platforms one is entered, to be run. Its index is kept too, and if the archive has everything
 * that it names (contents.c), so is all of that: then the image can be saved and pushed as it came.
 *
 * Nothing need refer to an entry, so what all of them may take is bounded as they are read: bytes by the
 * store's limit and the room there is, and no holes are filled in; of documents with one name only the last is
 * kept.
 */
#ifndef OCI_ARCHIVE_H
#define OCI_ARCHIVE_H

#include "store.h"

#define OCI_ARCHIVE_ENTRIES_MAX 65536
#define OCI_ARCHIVE_DOCUMENTS	3	    /* names that documents have */
#define OCI_ARCHIVE_ALIASES_MAX 8	    /* links followed from one name to its content */
#define OCI_ARCHIVE_TEXT_MAX	(16u << 20) /* bytes of all names and of what links name */

struct oci_item {
	char *name;
	char *alias; /* a link: the name it stands for */
	char *doc;   /* content of a document, NUL-terminated */
	size_t doc_len;
	struct oci_spool *spool;     /* NULL if the store has the content already */
	char digest[OCI_DIGEST_MAX]; /* of the content, verified; empty for links and documents */
	uint64_t size;
	size_t order;
};

struct oci_archive {
	struct oci_store *store;
	struct oci_item *items;				      /* sorted by name */
	size_t n, cap, read;				      /* read: entries so far, replaced ones too */
	size_t text_len;				      /* bytes of all names */
	uint64_t size;					      /* bytes of all entries, as they say */
	size_t documents[OCI_ARCHIVE_DOCUMENTS], n_documents; /* items, before they are sorted */
};

/* Reads everything. progress may be NULL. */
int oci_archive_read(
	struct oci_store *s, int fd, const struct oci_progress *p, struct oci_archive *ret, struct err *e);
void oci_archive_done(struct oci_archive *a);
/* Content of an item that has any, for reading; the caller's. -ENOENT without *e when the store has lost it. */
int oci_archive_open(struct oci_archive *a, const struct oci_item *it, struct err *e);
/* By name, as it stands; NULL if missing. */
struct oci_item *oci_archive_find(struct oci_archive *a, const char *name);
/* By name, through links; NULL if missing. */
struct oci_item *oci_archive_get(struct oci_archive *a, const char *name);
/* Content of a small item, malloc'd with a NUL behind. what names it in errors. */
int oci_archive_load_doc(struct oci_archive *a, const struct oci_item *it, const char *what, char **ret,
	size_t *ret_n, struct err *e);

#endif
