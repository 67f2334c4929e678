/* SPDX-License-Identifier: MIT */
/*
 * THEORY OF OPERATION
 *
 * Writes an EROFS image in one pass. Content of files is appended block-aligned as the layers are read; what
 * is not known until the last layer (inodes, directories) follows it, and the superblock comes last, so that
 * an unfinished image can never be mounted.
 *
 *     block 0      superblock
 *     block 1...   content of files, in the order of the archives
 *     meta_blkaddr inodes with extended attributes, small files, small directories, maps of sparse files
 *     ...          blocks of large directories, long link targets
 *
 * Nothing is compressed: the guest's kernel then reads straight into its page cache. Content that a higher
 * layer replaced has its blocks punched out again. Of the image's address space such blocks, and the holes of
 * sparse files, take only numbers, no room. Some of it is kept, at most OCI_KEEP_FILE of a file and OCI_KEEP_MAX and an
 * eighth of the image in all: without it no other image could be built on this one's lower layers (recipe.h), since
 * every layer replaces a few files such as a package manager's list of what is installed.
 *
 * Small files are kept in memory until their inode is written, and stand beside it: a directory of them is
 * then read with a few blocks. The memory for that is bounded; beyond the bound they get blocks like all
 * others.
 *
 * The same layers always give the same bytes.
 */
#ifndef OCI_EROFS_H
#define OCI_EROFS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "tree.h"

#define OCI_INLINE_MAX	      2048	   /* bytes of a file that is kept beside its inode */
#define OCI_INLINE_BUDGET     (24u << 20)  /* bytes of all of them */
#define OCI_CHUNKS_MAX	      65536	   /* entries in the map of one sparse file */
#define OCI_FILE_MAX	      (1ull << 50) /* bytes, holes included */
#define OCI_WRITE_BUFFER_SIZE (1u << 20)
#define OCI_KEEP_FILE	      (2u << 20)
#define OCI_KEEP_MAX	      (32u << 20)
#define OCI_WRITEBACK_STEP    (16u << 20) /* bytes of content after which writing it to the disk is begun */

struct oci_recipe;

struct oci_writer {
	int fd;
	uint64_t offset; /* of mem in the file */
	size_t len;
	uint8_t *mem; /* OCI_WRITE_BUFFER_SIZE bytes */
};

struct oci_hole {
	uint64_t block, n;
};

struct oci_erofs {
	int fd; /* the caller's */
	struct oci_tree *tree;
	struct oci_writer w;
	uint64_t next_block, inline_bytes;
	uint64_t live_bytes;	   /* of content that has a name */
	uint64_t brought;	   /* of content that came, all layers together */
	uint64_t kept;		   /* of content without a name that was not punched out */
	uint64_t kept_max;	   /* of it, in the present layer */
	uint64_t written_back;	   /* block up to which writing to the disk has begun */
	struct oci_recipe *recipe; /* the caller's; told of what is punched out. NULL: none */
	bool replaying;		   /* content that is discarded is not in the file, nor will it be */
	bool filling;		/* somebody else is still writing content: it is punched when that is over */
	bool holes_failed;	/* there was no memory to note a hole */
	struct oci_hole *holes; /* to be punched then */
	size_t n_holes, cap_holes;
	/* Bytes of blocks that content was written to, and how many are allowed. Holes cost nothing, but in a
	 * sparse file each byte between two holes takes a block. */
	uint64_t content, content_max;
	/* the file being written */
	struct oci_inode *cur;
	uint64_t start, pos; /* first block; next byte expected */
	uint64_t charged;    /* blocks of it, from its start, that are in content or holes */
};

/* fd: an empty regular file, readable and writable. The tree's discards must go to oci_erofs_discard. */
int oci_erofs_init(struct oci_erofs *w, int fd, struct err *e);
void oci_erofs_done(struct oci_erofs *w);

/* What follows is of the next layer. */
void oci_erofs_next_layer(struct oci_erofs *w);
/* Content of a new regular file: begin, writes in rising order of offset with gaps as holes, end. */
int oci_erofs_file_begin(struct oci_erofs *w, struct oci_inode *i, uint64_t size, struct err *e);
int oci_erofs_file_write(struct oci_erofs *w, uint64_t off, const void *data, size_t n, struct err *e);
int oci_erofs_file_end(struct oci_erofs *w, struct err *e);
/* A file whose content is in its blocks already, or with data: small, and copied. Its map is the caller's to add. */
int oci_erofs_file_restore(
	struct oci_erofs *w, struct oci_inode *i, uint64_t size, const uint8_t *data, struct err *e);
/* Entries that its map has; the first block that its content takes in the data area, 0 for none. */
size_t oci_erofs_chunks(const struct oci_inode *i);
uint32_t oci_erofs_first_block(const struct oci_inode *i);
/* The file has all the content that it did not have while filling was set: punches what was discarded meanwhile. */
int oci_erofs_filled(struct oci_erofs *w, struct err *e);
/* oci_tree_ops.discard, with the writer as data. */
void oci_erofs_discard(void *writer, struct oci_inode *i);

/* Writes the tree. uuid: 16 bytes that name the file system. Sorts the tree; nothing may be added after. */
int oci_erofs_finish(struct oci_erofs *w, const uint8_t *uuid, struct err *e);

/*
 * Appends an extended attribute in the form the tree keeps (malloc'd, *len bytes). Names that Linux would not
 * take on such a file system are left out. 0, -E2BIG or -ENOMEM.
 */
int oci_erofs_xattr(
	uint8_t **buf, uint32_t *len, const char *name, const void *value, size_t value_len, struct err *e);

/* Buffered writing at rising or jumping offsets; large pieces pass by the buffer. */
int oci_writer_init(struct oci_writer *w, int fd, struct err *e);
void oci_writer_done(struct oci_writer *w);
int oci_writer_put(struct oci_writer *w, uint64_t off, const void *data, size_t n, struct err *e);
int oci_writer_flush(struct oci_writer *w, struct err *e);
/* The one line for a failed write of image content. */
int oci_write_error(int r, struct err *e);

#endif
