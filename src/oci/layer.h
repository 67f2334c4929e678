/* SPDX-License-Identifier: MIT */
/* Lays one layer, an uncompressed tar stream, over the tree and appends its content to the disk image. */
#ifndef OCI_LAYER_H
#define OCI_LAYER_H

#include "erofs.h"
#include "stream.h"

/*
 * Reads s to its end, so that its digest is complete. on_block (may be NULL) is called about once a megabyte.
 * Errors name the entry they are about.
 */
int oci_layer_apply(
	struct oci_erofs *w, struct oci_stream *s, void (*on_block)(void *data), void *data, struct err *e);

#endif
