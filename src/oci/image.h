/* SPDX-License-Identifier: MIT */
/* What finding, removing, evicting and checking images have in common. */
#ifndef OCI_IMAGE_H
#define OCI_IMAGE_H

#include "store.h"

/* Whether ref could be a name: all but what can only be an ID. */
bool oci_image_maybe_name(const char *ref);
/* The two halves of oci_image_find; -ENOENT without an error set. */
int oci_image_find_name(struct oci_store *s, const char *ref, struct oci_image **ret, struct err *e);
int oci_image_find_id(struct oci_store *s, const char *ref, struct oci_image **ret, struct err *e);
int oci_image_not_found(const char *ref, struct err *e);

/* Questions with up to three arguments, the unused NULL: one number (0 when there is no row), or one text of each row. */
int oci_query_number(struct oci_store *s, int64_t *ret, struct err *e, const char *sql, const char *a,
	const char *b, const char *c);
int oci_query_texts(struct oci_store *s, struct strv *ret, struct err *e, const char *sql, const char *a,
	const char *b, const char *c);

/* A removal: rows and their events in the caller's transaction; told when that is done. */
struct oci_removal {
	struct oci_store *s;
	struct strv untagged, deleted; /* names, normalised; image IDs */
	size_t noted_untagged, noted_deleted;
	const char *reason; /* for the events, or NULL */
};
void oci_removal_done(struct oci_removal *rm);
/* Removes a manifest that nobody holds, with all of its names. */
int oci_removal_manifest(struct oci_removal *rm, const char *manifest, const char *id, struct err *e);
void oci_removal_tell(const struct oci_removal *rm,
	void (*on_removed)(void *data, const char *key, const char *value), void *data);

/* What a file takes on disk; 0 if there is none. */
uint64_t oci_blob_bytes(struct oci_store *s, const char *digest);
uint64_t oci_disk_bytes(struct oci_store *s, const char *chain);

/* Within the caller's transaction: files have lost their rows. */
int oci_store_sweep_due(struct oci_store *s, struct err *e);
/* Notes so when there is an index that no name leads to any more: its content is to go. */
int oci_store_note_index(struct oci_store *s, struct err *e);

#endif
