/* SPDX-License-Identifier: MIT */
/*
 * THEORY OF OPERATION
 *
 * Behind the file system of a disk stands its recipe: what was laid over the tree, layer by layer, in the order of the
 * archives, and where in the disk the content went. Of it a disk can be made again without reading the layers: the
 * recipe's first k layers, replayed, give the tree as it was after them, and the data area up to there is copied. So
 * the disk of an image that shares its first layers with another one costs a copy of those, and the work of the rest.
 *
 *     blocks of the EROFS image
 *     records          see recipe.c
 *     last block       struct trailer: where the records are, their SHA-256, and how far the data of each layer reaches
 *
 * Why this and not less or more: reading the finished file system back would give the tree after the last layer only,
 * and images that differ in their last layer are the common case (the next build of the same application). Sharing the
 * data instead of copying it would need several disks in every guest, or a file system with reflinks; where there is
 * one (copy_file_range(2) sees to it), sharing is what happens. And in the disk's own file the recipe needs no name, no
 * row and no cleaning up: it comes and goes with what it describes.
 *
 * What a higher layer replaced is punched out of the data area and so cannot be replayed, with one exception that makes
 * the common case work (erofs.h): small files are kept. The recipe says what was punched; if a disk would need that, it
 * is built from its layers. Replaying takes every decision that building takes, from the same facts: the disk comes out
 * the same to the byte, its recipe too.
 *
 * The guest can read the recipe behind its root file system. It says nothing that the image's layers do not say.
 */
#ifndef OCI_RECIPE_H
#define OCI_RECIPE_H

#include "erofs.h"
#include "store.h"

/* ---- writing; failures are kept until oci_recipe_finish ---- */

int oci_recipe_new(struct oci_store *s, struct oci_recipe **ret, struct err *e);
void oci_recipe_free(struct oci_recipe *r);
DEFINE_CLEANUP(struct oci_recipe *, oci_recipe_free)

void oci_recipe_layer(struct oci_recipe *r, const char *diff_id);
/* An entry: what it says, before the tree takes that over; then its inode, with its content, or NULL. */
void oci_recipe_entry(struct oci_recipe *r, const char *path, const struct oci_attr *a);
void oci_recipe_entry_end(struct oci_recipe *r, const struct oci_inode *i);
void oci_recipe_link(struct oci_recipe *r, const char *path, const char *target);
/* The content that begins at this block was punched out. */
void oci_recipe_punched(struct oci_recipe *r, uint32_t block);

/* Totals after a layer. */
struct oci_layer_end {
	uint64_t next_block, content, kept; /* of struct oci_erofs */
	uint64_t unpacked;		    /* bytes of the layer, uncompressed */
	uint64_t brought;		    /* bytes of content in it */
};
void oci_recipe_layer_end(struct oci_recipe *r, const struct oci_layer_end *end);
/* A record of another recipe, as it is; is_end: it ends a layer. */
void oci_recipe_copy(struct oci_recipe *r, const void *record, size_t n, bool is_end);
/* Appends it to the disk, whose file system is complete. */
int oci_recipe_finish(struct oci_recipe *r, int disk_fd, struct err *e);

/* ---- replaying ---- */

struct oci_base;
/* fd: a disk, borrowed. -ENOENT without *e when it has no recipe, or a damaged one. */
int oci_base_open(int fd, struct oci_base **ret, struct err *e);
void oci_base_free(struct oci_base *b);
DEFINE_CLEANUP(struct oci_base *, oci_base_free)
/* Where the data of its first n layers ends. -ENOENT without *e if it has fewer. */
int oci_base_end(const struct oci_base *b, size_t n, uint64_t *ret_block);
/*
 * Fills the new, empty tree and writer with the first n layers, whose diff IDs are expected (NULL: whatever they are), and the
 * recipe (may be NULL) with their records. ends: of each layer. 1; 0 when the disk no longer has what is needed; -errno. After
 * other than 1 writer and tree are of no use.
 */
int oci_base_replay(struct oci_base *b, struct oci_erofs *w, const char *const *diff_ids, size_t n,
	struct oci_recipe *r, struct oci_layer_end *ends, struct err *e);
/* The same with all its layers, whatever their diff IDs are: what the whole disk has in it. */
int oci_base_replay_all(struct oci_base *b, struct oci_erofs *w, struct err *e);

#endif
