/* SPDX-License-Identifier: MIT */
/*
 * The image's tree and the upper layer over it, gone through together in the order of their paths: what stands behind all
 * questions about a box's files. Nothing of either is kept but the way down to where we are.
 */
#ifndef STORAGE_MERGE_H
#define STORAGE_MERGE_H

#include "oci/content.h"

/*
 * What is told, in the order of paths (components bytewise), a folder before what is in it. All return 0, or -errno with e set,
 * which ends it.
 */
struct merge_ops {
	/*
	 * An entry of the upper layer. below: what the image has at its path, or NULL. hidden: an opaque folder on the way hides
	 * that from the box.
	 */
	int (*upper)(void *data, const struct wire_entry *en, const struct oci_node *below, bool hidden,
		struct err *e);
	int (*content)(void *data, uint64_t offset, const void *bytes, size_t len, struct err *e);
	/* What only the image has, in a folder that both have; what is below it is not told. */
	int (*image)(void *data, const char *path, const struct oci_node *n, bool hidden, struct err *e);
	/* Nothing more comes of this folder of the upper layer. */
	int (*leave)(void *data, const char *path, struct err *e);
	void *data;
};

/*
 * The upper layer is what comes to the sink: in that order, checked here, because it comes from a process that may no longer do
 * what we wrote. r and ops are borrowed until merge_free.
 */
struct merge;
int merge_new(const struct oci_root *r, const struct merge_ops *ops, struct merge **ret, struct err *e);
const struct tree_sink *merge_sink(struct merge *m);
void merge_free(struct merge *m);
DEFINE_CLEANUP(struct merge *, merge_free)

#endif
