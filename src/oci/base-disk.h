/* SPDX-License-Identifier: MIT */
/* The disk of another image that begins with the same layers, to begin a new one from (recipe.h). */
#ifndef OCI_BASE_DISK_H
#define OCI_BASE_DISK_H

#include "recipe.h"

/* The content of a base on its way into a new disk, in a thread of its own. */
struct oci_base_copy;

/*
 * Finds the disk that shares most of the first layers, and takes these over into the empty file, tree and recipe of w.
 * *ret_n: how many; 0: none, and then w, its tree and its file are of no use if 0 is returned, and untouched for 1.
 * ends has room for n. *ret_copy, NULL for none: content is still being copied. Further layers can be laid meanwhile, behind
 * it; the disk is complete after oci_base_copy_wait and oci_erofs_filled.
 */
int oci_base_take(struct oci_store *s, const char *const *diff_ids, size_t n, struct oci_erofs *w,
	struct oci_recipe *r, struct oci_layer_end *ends, size_t *ret_n, struct oci_base_copy **ret_copy,
	struct err *e);
/* Waits for its end, and frees it. Of *c NULL nothing: 0. An error may be the other disk's, too. */
int oci_base_copy_wait(struct oci_base_copy **c, struct err *e);
/* Stops it. */
void oci_base_copy_free(struct oci_base_copy *c);
DEFINE_CLEANUP(struct oci_base_copy *, oci_base_copy_free)

#endif
