/* SPDX-License-Identifier: MIT */
/* Builds the read-only disk of a set of layers. */
#ifndef OCI_DISK_H
#define OCI_DISK_H

#include "store.h"

struct oci_layer {
	const char *blob, *diff_id; /* digests */
	const char *verified;	    /* digest that the content was just found to have; NULL: unknown */
	uint64_t size;		    /* bytes of the blob, for progress; 0 if unknown */
	/* Opens the blob's content, already verified or verified while it is read. Called in order, once
	 * each. */
	int (*open)(void *data, size_t index, struct oci_source *ret, struct err *e);
	/* After the source was read to its end; NULL: nothing to do. */
	int (*close)(void *data, size_t index, struct err *e);
	void *data;
};

/* Size of the content of a complete disk. 0, or -ENOENT (no error set), or -errno. */
int oci_disk_find(struct oci_store *s, const char *chain, uint64_t *ret_size, struct err *e);
/*
 * Builds it from the layers, lowest first, checking each against its diff ID, and puts it in its place (the
 * folder is not synced). It counts as existing once oci_disk_enter is committed. Needs OCI_LOCK_ADD.
 */
int oci_disk_build(struct oci_store *s, const char *chain, const struct oci_layer *layers, size_t n,
	const struct oci_progress *p, uint64_t *ret_size, struct err *e);
int oci_disk_enter(struct oci_store *s, const char *chain, uint64_t size, struct err *e);

#endif
