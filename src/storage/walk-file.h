/* SPDX-License-Identifier: MIT */
/* Inside of walk.c: one file of the disk. All functions return 0, or -errno with e set. */
#ifndef STORAGE_WALK_FILE_H
#define STORAGE_WALK_FILE_H

#include "walk.h"

#define WALK_COPY_SIZE (256u << 10) /* bytes of content read at once */

struct walk {
	const struct ext2 *lib;
	ext2_filsys fs;
	const struct walk_opts *o;
	const struct tree_sink *to;
	int fd;
	uint64_t size;	     /* bytes of the disk */
	uint64_t bytes_left; /* of content that may be sent */
	uint32_t entries, depth;
	uint8_t *seen;	   /* a bit for each inode: a folder that was entered */
	void *firsts;	   /* tsearch(3): struct first */
	uint8_t *mem;	   /* WALK_COPY_SIZE bytes */
	size_t inode_size; /* bytes */
	struct ext2_inode_large
		*inode; /* that of the last file_read; inode_size bytes, and all of its structure */
	char path[WIRE_PATH_MAX + 1]; /* where we are */
	size_t len;
};

struct file {
	uint64_t size;
	int64_t mtime_s;
	uint32_t mtime_ns, uid, gid, flags, major, minor;
	uint16_t mode, links;
	struct ext2_inode inode; /* as on the disk, its first part */
};

/* What the overlay's attributes say. */
struct overlay_attr {
	bool opaque;	 /* trusted.overlay.opaque = "y" */
	bool xwhiteouts; /* = "x": there may be files with the next in it */
	bool whiteout;	 /* trusted.overlay.whiteout */
};

int file_read(struct walk *w, uint32_t ino, struct file *ret, struct err *e);
int file_xattrs(struct walk *w, uint32_t ino, struct wire_entry *en, struct overlay_attr *ret, struct err *e);
/* *ret malloc'd. */
int file_target(struct walk *w, uint32_t ino, const struct file *f, char **ret, struct err *e);
int file_content(struct walk *w, uint32_t ino, const struct file *f, struct err *e);

int walk_damaged(struct walk *w, struct err *e, const char *what);
int walk_failed(struct walk *w, struct err *e, errcode_t code);

#endif
