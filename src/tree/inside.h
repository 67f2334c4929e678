/* SPDX-License-Identifier: MIT */
/* Shared within the room: opening, and what the two sides of a copy agree on. */
#ifndef TREE_INSIDE_H
#define TREE_INSIDE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "tree/tree.h"

#define TREE_OPEN_MAX 64 /* descriptors of folders that one copy holds at most: trees can be deeper */
#define TREE_MEMORY_MAX \
	(256u << 20) /* bytes: names of folders being read; attributes of folders still to be set */
#define TREE_BUFFER (256u << 10) /* bytes read from a file or stream at once */

/*
 * openat2(2) of one component, which is no link, or with O_PATH | O_NOFOLLOW is one itself. resolve: RESOLVE_NO_XDEV or 0.
 * Close-on-exec. Descriptor or -errno.
 */
int tree_open(int dirfd, const char *name, uint64_t flags, uint64_t resolve);

/*
 * Whether an extended attribute goes with its file: user.*, trusted.*, capabilities and ACLs. Not what describes the place
 * (labels of security modules, signatures), nor what is ours (tree/stored.h).
 */
bool tree_xattr_travels(const char *name);

/* How long a descriptor that does not block is waited for (stream.c), a minute; tests lower it. */
extern unsigned int tree_idle_ms;

/* ---- what came already (order.c) ---- */

/*
 * Paths of a stream as 64-bit hashes under a random key: enough to tell a stream that is out of order, in 8 to 16 bytes an
 * entry. Zero-initialise.
 */
struct tree_order {
	uint64_t *slots;
	size_t n, cap;
	uint64_t key[2];
};
void tree_order_done(struct tree_order *o);
/* 0 and the entry is noted; -EBADMSG when its folder, or the file that it is a name of, did not come before; -E2BIG, -ENOMEM. */
int tree_order_add(struct tree_order *o, const struct wire_entry *en, struct err *e);

/*
 * What a writer put at a path: hashes of the path and the file itself. A hard link to anything else would give a sender what was
 * there before it. Zero-initialise.
 */
struct tree_made {
	struct tree_order set;
};
void tree_made_done(struct tree_made *m);
/* 0, or -E2BIG, -ENOMEM with e set. */
int tree_made_add(struct tree_made *m, const char *path, const struct stat *st, struct err *e);
bool tree_made_has(const struct tree_made *m, const char *path, const struct stat *st);

/* ---- names of files that have several (links.c) ---- */

struct tree_links {
	struct tree_link *slots;
	size_t n, cap;
	char *text; /* paths, with NUL */
	size_t len, size;
};
void tree_links_done(struct tree_links *l);
/* The path under which the file was met before, valid until the next call; else NULL, and path is noted. */
const char *tree_links_seen(struct tree_links *l, dev_t dev, ino_t ino, const char *path);

/* ---- folders on the way to a path (chain.c) ---- */

struct tree_chain {
	char path[WIRE_PATH_MAX + 1];
	struct {
		size_t end;	  /* bytes of path */
		int fd;		  /* O_PATH; -1: closed meanwhile */
	} at[TREE_DEPTH_MAX + 1]; /* at[0]: the root, borrowed */
	size_t depth, n_open;
};
void tree_chain_init(struct tree_chain *c, int root);
void tree_chain_done(struct tree_chain *c);
/* The folder path[0 .. len), which exists and has no link in it: a borrowed descriptor (O_PATH), or -errno. */
int tree_chain_open(struct tree_chain *c, const char *path, size_t len);
/* The folder that path, not "", is in, and its last part. */
int tree_chain_parent(struct tree_chain *c, const char *path, const char **ret_base);

/* ---- attributes (attributes.c) ---- */

/*
 * Owner, mode, extended attributes and time of a regular file or folder, in this order: the first ones undo the later ones.
 * 0 or -errno.
 */
int tree_set_attributes(int fd, enum tree_owner owner, const struct wire_entry *en);
/* The same of the link, device or FIFO `name`, which must be what en says, but without extended attributes. */
int tree_set_node_attributes(int dirfd, const char *name, enum tree_owner owner, const struct wire_entry *en);
/* What is kept of a folder's entry until the tree is complete: without path, target, link. 0 or -ENOMEM. */
int tree_copy_attributes(struct wire_entry *dst, const struct wire_entry *src);

#endif
