/* SPDX-License-Identifier: MIT */
/*
 * libext2fs (e2fsprogs), loaded when a box's disk is first read: of it nothing is linked, and commands that read no disk do not
 * pay for it. A table of the few functions used, typed from the library's own header.
 */
#ifndef STORAGE_EXT2_H
#define STORAGE_EXT2_H

#include <et/com_err.h>
#include <ext2fs/ext2_fs.h>
#include <ext2fs/ext2fs.h>

#include "base/err.h"

#define EXT2_FUNCTIONS(X) \
	X(initialize_ext2_error_table) \
	X(error_message) \
	X(ext2fs_open2) \
	X(ext2fs_free) \
	X(ext2fs_blocks_count) \
	X(ext2fs_lookup) \
	X(ext2fs_read_inode_full) \
	X(ext2fs_dir_iterate2) \
	X(ext2fs_block_iterate3) \
	X(ext2fs_extent_open2) \
	X(ext2fs_extent_get) \
	X(ext2fs_extent_free) \
	X(ext2fs_xattrs_open) \
	X(ext2fs_xattrs_read) \
	X(ext2fs_xattrs_iterate) \
	X(ext2fs_xattrs_close)

#define EXT2_FIELD(f) __typeof__(f) *f; /* NOLINT(bugprone-macro-parentheses) */

struct ext2 {
	EXT2_FUNCTIONS(EXT2_FIELD)
};

/* The table, never unloaded; NULL with *e set when the library is not installed. Not for several threads. */
const struct ext2 *ext2_get(struct err *e);

/* An I/O manager for ext2fs_open2: reads `fd` (borrowed), of so many bytes, and writes nothing. One at a time. */
io_manager ext2_reads(int fd, uint64_t size);

#endif
