/* SPDX-License-Identifier: MIT */
/* The disk of another image that begins with the same layers, to begin a new one from (recipe.h). */
#ifndef OCI_BASE_DISK_H
#define OCI_BASE_DISK_H

#include "recipe.h"

/*
 * Finds the disk that shares most of the first layers, and takes these over into the empty file, tree and recipe of w.
 * *ret_n: how many; 0: none, and then w, its tree and its file are of no use if 0 is returned, and untouched for 1.
 * ends has room for n.
 */
int oci_base_take(struct oci_store *s, const char *const *diff_ids, size_t n, struct oci_erofs *w,
	struct oci_recipe *r, struct oci_layer_end *ends, size_t *ret_n, struct err *e);

#endif
