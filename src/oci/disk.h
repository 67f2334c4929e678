/* SPDX-License-Identifier: MIT */
/*
 * The read-only disk of a set of layers.
 *
 * THEORY OF OPERATION
 *
 * A layer's source is read, decompressed and hashed (stream.h, in a thread of its own), its entries laid over the tree
 * (tree.h), its content appended to the disk (erofs.h); the file system follows, then the recipe (recipe.h). Layers that
 * the disk of another image begins with too are not read again: they are taken from there, and a thread copies their
 * content while the other layers are laid and the file system is written behind it. What is skipped so is known to be
 * right: a layer's blob and diff ID belong together because the database says so, from when it was read; if it does not,
 * the layer is read for that and nothing else.
 *
 * The same layers give the same disk to the byte, whichever way. So a disk is no more than a cache of its layers, and
 * nothing waits for it to be on the storage medium (unsynced.h).
 */
#ifndef OCI_DISK_H
#define OCI_DISK_H

#include "store.h"

struct oci_layer {
	const char *blob, *diff_id; /* digests */
	const char *verified;	    /* digest that the content was just found to have; NULL: unknown */
	uint64_t size;		    /* bytes of the blob, for progress; 0 if unknown */
	/*
	 * Opens the blob's content, already verified or verified while it is read. Called in order, once each, but not for a
	 * layer that another disk begins with, and again from the first if that disk turns out to be unreadable. The source
	 * may be read from another thread, until close is called or the building ends.
	 */
	int (*open)(void *data, size_t index, struct oci_source *ret, struct err *e);
	/* After the source was read to its end; NULL: nothing to do. */
	int (*close)(void *data, size_t index, struct err *e);
	void *data;
	/* Set by building: */
	uint64_t brought; /* bytes of content that it brings */
	bool begun;	  /* it was opened */
};

/*
 * Size of the content of a complete disk. 0, or -ENOENT (no error set), or -errno. What a power cut may have torn counts as
 * missing (unsynced.h).
 */
int oci_disk_find(struct oci_store *s, const char *chain, uint64_t *ret_size, struct err *e);
/*
 * Builds it from the layers, lowest first, checking each against its diff ID, and puts it in its place (the
 * folder is not synced, nor is it). It counts as existing once oci_disk_enter is committed. Needs OCI_LOCK_ADD, until then.
 */
int oci_disk_build(struct oci_store *s, const char *chain, struct oci_layer *layers, size_t n,
	const struct oci_progress *p, uint64_t *ret_size, struct err *e);
/*
 * Where the disk is there: reads each layer of which it is not known that its blob holds it, so that no other content
 * enters the store under the name of this. Whoever finds a disk calls this before entering an image of it.
 */
int oci_disk_check_layers(
	struct oci_store *s, struct oci_layer *layers, size_t n, const struct oci_progress *p, struct err *e);
int oci_disk_enter(struct oci_store *s, const char *chain, uint64_t size, struct err *e);
/*
 * Builds it of what the store holds of a manifest, of nothing else, puts it in the place of one that may be there, and
 * enters it. -ENOENT when the manifest has gone. Needs OCI_LOCK_ADD.
 */
int oci_disk_remake(struct oci_store *s, const char *manifest, const char *chain,
	const struct oci_progress *p, struct err *e);
/*
 * Whether a disk is what a manifest's layers make: it is made anew of them, in tmp/ and of nothing else, and compared. 1 or
 * 0, or -errno. A disk of a program that left no recipe in it passes with a good superblock. Needs OCI_LOCK_ADD.
 */
int oci_disk_verify(struct oci_store *s, const char *manifest, const char *chain, struct err *e);

#endif
