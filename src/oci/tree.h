/* SPDX-License-Identifier: MIT */
/*
 * THEORY OF OPERATION
 *
 * A tree of a root file system in memory, built by laying image layers over each other, lowest first
 * (image-spec layer.md, "Changeset" and "Whiteouts"). File content is not here: an inode only knows where in
 * the disk image its data went. When the last name of a file goes, its owner is told (oci_tree_ops) and gives
 * the space back.
 *
 * Names come from strangers. A path is cleaned as text first, so that ".." never climbs above the root; then
 * its parents are walked, following symbolic links inside the tree only, which is what a container engine
 * unpacking into a chroot would see. The last component is never followed.
 *
 * A whiteout hides what lower layers brought, wherever it stands among the entries of its own layer. So each
 * entry remembers the layer that last stated it, and each directory the last layer that put something below
 * it.
 *
 * Everything is counted: entries, and bytes of memory. Names hash with a random key, so that nobody can make
 * a directory slow by choosing names.
 */
#ifndef OCI_TREE_H
#define OCI_TREE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

#define OCI_TREE_NODES_MAX  (4u << 20)
#define OCI_TREE_MEMORY_MAX (1ull << 30) /* bytes */
#define OCI_TREE_DEPTH_MAX  2100	 /* PATH_MAX allows 2,048 components */
#define OCI_TREE_LINKS_MAX  40		 /* symbolic links followed in one path, as in Linux */
#define OCI_TREE_NAME_MAX   255
#define OCI_TREE_PATH_MAX   4096
#define OCI_TREE_XATTR_MAX  (128u << 10) /* bytes of one inode's extended attributes, encoded */

struct oci_inode;

struct oci_ent {
	struct oci_ent *next; /* in its bucket */
	struct oci_inode *inode;
	uint64_t hash;
	uint32_t layer; /* that stated it last; implied parents keep that of their creation */
	uint8_t len;
	char name[]; /* with NUL */
};

struct oci_dir {
	struct oci_inode *parent; /* the root's is itself */
	struct oci_ent *
		*buckets; /* power of two; after oci_tree_sort: the n entries in order of their names */
	uint32_t n, n_buckets, n_subdirs;
	uint32_t touched; /* last layer that added something below */
	uint16_t depth;
	bool sorted;
};

struct oci_inode {
	uint64_t size; /* of a file's content or a link's target */
	int64_t mtime_s;
	uint32_t mtime_ns;
	uint32_t uid, gid;
	uint32_t nlink; /* names; directories are computed when written */
	uint32_t xattr_len;
	uint16_t mode;
	uint8_t chunk_bits; /* log2 of blocks per entry of map */
	uint32_t rdev;	    /* as Linux encodes it ("huge" dev_t, 32 bits) */
	uint8_t *xattrs;    /* EROFS inline entries, see erofs-format.h */
	struct oci_dir *dir;
	char *target;
	uint8_t *data;	  /* content of a small file, kept until it is written beside the inode */
	uint32_t blkaddr; /* first block of content, when neither data nor map */
	uint32_t *map;	  /* sparse file: first block of each chunk, or EROFS_NULL_ADDR */
	uint64_t pos;	  /* byte position in the metadata area, set when written */
};

/* What an archive entry says. target is copied; xattrs (malloc'd) are taken over, also on failure. */
struct oci_attr {
	uint16_t mode; /* type and permissions */
	uint32_t uid, gid;
	int64_t mtime_s;
	uint32_t mtime_ns;
	uint32_t rdev;
	const char *target;
	uint8_t *xattrs;
	uint32_t xattr_len;
};

struct oci_tree_ops {
	/* The content of an inode is not needed any more: called once, before it is freed. */
	void (*discard)(void *data, struct oci_inode *i);
	void *data;
};

struct oci_tree {
	struct oci_inode *root;
	struct oci_tree_ops ops;
	uint64_t memory, hash_key[2];
	uint32_t n_entries, layer;
};

/* Cleans a path as text: "/a/./b/../c" to "a/c", never above the root. dst: OCI_TREE_PATH_MAX bytes. */
int oci_path_clean(const char *path, char *dst, struct err *e);

int oci_tree_new(const struct oci_tree_ops *ops, struct oci_tree **ret, struct err *e);
/* Does not call discard. */
void oci_tree_free(struct oci_tree *t);
DEFINE_CLEANUP(struct oci_tree *, oci_tree_free)

/* The entries that follow lie over those that came before. */
void oci_tree_next_layer(struct oci_tree *t);
/*
 * One entry, whiteouts included. *ret is the inode of a new regular file, else NULL: its size and data are
 * the caller's to fill in.
 */
int oci_tree_add(
	struct oci_tree *t, const char *path, struct oci_attr *a, struct oci_inode **ret, struct err *e);
/* A further name for a file that is there already. */
int oci_tree_link(struct oci_tree *t, const char *path, const char *target, struct err *e);
/* Accounts for n bytes that the caller keeps for an inode. */
int oci_tree_charge(struct oci_tree *t, uint64_t n, struct err *e);
void oci_tree_uncharge(struct oci_tree *t, uint64_t n);

/* Orders a directory's entries by name, bytewise. Nothing may be added to it afterwards. */
int oci_tree_sort(struct oci_inode *dir, struct err *e);

#endif
