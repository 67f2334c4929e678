/* SPDX-License-Identifier: MIT */
/*
 * The bytes of a recipe (recipe.h). All numbers are little-endian.
 *
 * A record is a struct recipe_head and the rest of its length:
 *
 *     LAYER   the diff ID
 *     ENTRY   struct recipe_entry; path, link target, extended attributes (as struct oci_inode has them), content
 *     LINK    the path, a NUL, the target
 *     PUNCH   u32: the first block of what was punched out
 *     END     struct recipe_end
 *
 * Paths are cleaned (oci_path_clean). Content is the bytes of a small file, or the map of a sparse one.
 */
#ifndef OCI_RECIPE_FORMAT_H
#define OCI_RECIPE_FORMAT_H

#include <endian.h>
#include <stdint.h>

#include "erofs.h"
#include "manifest.h"

#define RECIPE_MAGIC "A3SRCP\0\1"
/* What a record can hold at most. */
#define RECIPE_RECORD_MAX \
	(sizeof(struct recipe_entry) + 2 * OCI_TREE_PATH_MAX + OCI_TREE_XATTR_MAX + 4 * OCI_CHUNKS_MAX)

enum recipe_type { RECIPE_LAYER = 1, RECIPE_ENTRY, RECIPE_LINK, RECIPE_PUNCH, RECIPE_END };
enum recipe_content { RECIPE_NONE, RECIPE_INLINE, RECIPE_PLAIN, RECIPE_SPARSE };

struct recipe_head {
	uint32_t len; /* of what follows */
	uint8_t type, reserved[3];
} __attribute__((packed));

struct recipe_entry {
	uint16_t mode, path_len, target_len;
	uint8_t content, chunk_bits;
	uint32_t uid, gid, mtime_ns, rdev, xattr_len, content_len, blkaddr;
	uint64_t mtime_s, size;
} __attribute__((packed));

struct recipe_end {
	uint64_t next_block, content, kept, unpacked, brought;
} __attribute__((packed));

struct recipe_trailer {
	char magic[8];
	uint64_t offset, len;	     /* of the records in the file */
	char digest[OCI_DIGEST_MAX]; /* of the records */
	uint32_t n_layers;
	uint32_t next_block[OCI_LAYERS_MAX]; /* after each layer */
} __attribute__((packed));
_Static_assert(sizeof(struct recipe_trailer) <= 4096, "the trailer is one block");

#endif
