/* SPDX-License-Identifier: MIT */
/*
 * The paths of a tree that passes by, each with what is remembered of its file: archives give a further name of a file with
 * that file's attributes, and must not name what did not come. Bounded, for the names are a stranger's.
 */
#ifndef OCI_PATHS_H
#define OCI_PATHS_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define OCI_PATHS_MAX	     (4u << 20)
#define OCI_PATHS_MEMORY_MAX (1ull << 30) /* bytes */

struct oci_path {
	struct oci_path *next; /* in its bucket */
	uint64_t hash;
	uint32_t mode; /* with the type */
	uint32_t uid, gid;
	uint32_t mtime_ns;
	int64_t mtime_s;
	uint16_t len;
	char text[];
};

/* Zero-initialise, and release with oci_paths_done. */
struct oci_paths {
	struct oci_path **buckets;
	size_t n, n_buckets;
	uint64_t memory, key[2];
};
void oci_paths_done(struct oci_paths *p);
/* text need not end after its n bytes. NULL: it is not there. */
struct oci_path *oci_paths_find(const struct oci_paths *p, const char *text, size_t n);
/* The path, added with attributes of 0 where it was not there. 0, -E2BIG or -ENOMEM. */
int oci_paths_add(struct oci_paths *p, const char *text, size_t n, struct oci_path **ret, struct err *e);

#endif
