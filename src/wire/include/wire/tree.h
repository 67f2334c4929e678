/* SPDX-License-Identifier: MIT */
/*
 * A tree of files as a stream of frames: how files travel between host and guest, and between processes of the host.
 *
 *     ENTRY      struct wire_entry, a message
 *     CONTENT    bytes of the last ENTRY, a regular file, at offsets that only grow; what no CONTENT is about is a hole
 *     TREE_END   nothing follows that belongs to the tree
 *     FAIL       instead of anything: the tree could not be read to its end; its text says why
 *
 * A folder comes before what is in it, and a file before its further names. Paths are relative, without a "." or "..", an
 * empty part or a NUL, at most WIRE_PATH_MAX bytes of any other kind; the root's is "". Whoever reads a stream checks all of
 * that: wire_get_entry does, but for the order.
 */
#ifndef WIRE_TREE_H
#define WIRE_TREE_H

#include "wire/wire.h"

#define WIRE_PATH_MAX	4095	     /* bytes of a path, and of a link's target */
#define WIRE_XATTRS_MAX (256u << 10) /* bytes of an entry's extended attributes, names and values */
#define WIRE_ENTRY_MAX	(WIRE_XATTRS_MAX + 65536) /* bytes of the message */
#define WIRE_XATTR_MAX	256			  /* extended attributes of an entry */

struct wire_xattr {
	char *name; /* with its namespace: "user.x", "security.capability"; at most XATTR_NAME_MAX bytes */
	uint8_t *value;
	size_t len;
};

struct wire_entry {
	char *path;
	uint32_t mode; /* type and permissions, as st_mode; 0 with link or whiteout */
	uint32_t uid, gid;
	int64_t mtime_s;
	uint32_t mtime_ns;
	uint32_t major, minor; /* of a device */
	uint64_t size;	       /* of a regular file's content */
	char *target;	       /* of a symbolic link: any bytes but NUL */
	char *link;	       /* a further name of this earlier entry (a path of the tree); else NULL */
	bool whiteout;	       /* layers only: what lower layers have at the path is gone */
	bool opaque;	       /* layers only: a folder that hides what lower layers have in it */
	struct wire_xattr *xattrs;
	size_t n_xattrs;
};
void wire_entry_done(struct wire_entry *e);

/* Whether it is a path as above; "" is one. No part of it is longer than NAME_MAX. */
bool wire_path_valid(const char *path);
/* Whether the entry is one that a stream may have. Sockets may be there; nobody makes one from it. */
bool wire_entry_valid(const struct wire_entry *e);

/* Appends one whole frame. 0, -ENOMEM, -EMSGSIZE, or -EINVAL for what wire_get_entry would refuse. */
int wire_put_entry(struct buf *out, const struct wire_entry *e);
int wire_put_content(struct buf *out, uint64_t offset, const void *data, size_t len);
/* The same frame without its data, which follow: for whoever does not want to copy them. 0, -EMSGSIZE or -EINVAL. */
#define WIRE_CONTENT_HEADER (WIRE_HEADER_SIZE + 8)
int wire_put_content_header(uint8_t dst[WIRE_CONTENT_HEADER], uint64_t offset, size_t len);

/* 0, -EBADMSG or -ENOMEM; *ret is empty on failure. */
int wire_get_entry(const struct wire_frame *f, struct wire_entry *ret);
/* *data points into the frame. */
int wire_get_content(const struct wire_frame *f, uint64_t *offset, const uint8_t **data, size_t *len);

#endif
