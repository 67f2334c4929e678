/* SPDX-License-Identifier: MIT */
/*
 * What is in an image and in archives, as trees of files; and images made of such trees. For commands that read what boxes
 * have: a box's image disk is read here, what it wrote itself is the room storage's.
 */
#ifndef OCI_CONTENT_H
#define OCI_CONTENT_H

#include "oci/oci.h"
#include "tree/tree.h"

/* ---- the file system of an image ---- */

struct oci_root;
/*
 * Opens the disk (built by oci_image_disk or oci_ref_disk, and kept by a reference while this is open) that lies at `disk` below
 * the home folder. Reads its recipe, not the file system. Without one, the disk is made again of what the store holds.
 */
int oci_root_open(struct state *st, const char *disk, struct oci_root **ret, struct err *e);
void oci_root_free(struct oci_root *r);
DEFINE_CLEANUP(struct oci_root *, oci_root_free)

/* A file of it. Valid as long as the root is open. */
struct oci_node;
const struct oci_node *oci_root_node(const struct oci_root *r);
/*
 * By a path of any form; links in it are followed inside of the image, at its end only with follow. NULL: there is none.
 */
const struct oci_node *oci_root_find(const struct oci_root *r, const char *path, bool follow);
/* The entry `name` of a folder, itself; NULL: none, or no folder. */
const struct oci_node *oci_node_child(const struct oci_root *r, const struct oci_node *dir, const char *name);
/* Calls fn for each entry of a folder in the order of their names, until it returns non-zero, which is returned. */
int oci_node_list(const struct oci_root *r, const struct oci_node *dir,
	int (*fn)(void *data, const char *name, const struct oci_node *n), void *data, struct err *e);
/* The entry with this number, from 0, of that order, and its name; NULL: there are no more, or it is no folder. */
const struct oci_node *oci_node_at(
	const struct oci_root *r, const struct oci_node *dir, size_t index, const char **ret_name);
/* Fills everything but path and link. *id: the same for all names of one file. Release with wire_entry_done. */
int oci_node_entry(const struct oci_root *r, const struct oci_node *n, struct wire_entry *ret, uint64_t *id,
	struct err *e);
/* Its type and permissions, as st_mode; how many names it has (1 for a folder). */
uint32_t oci_node_mode(const struct oci_root *r, const struct oci_node *n);
uint32_t oci_node_names(const struct oci_root *r, const struct oci_node *n);
/* Sends a regular file's content, holes left out, to the sink. */
int oci_node_content(
	const struct oci_root *r, const struct oci_node *n, const struct tree_sink *to, struct err *e);
/* A source: the tree below a node, which is its root. Sockets are passed over. */
int oci_node_read(
	const struct oci_root *r, const struct oci_node *n, const struct tree_sink *to, struct err *e);

/* ---- archives ---- */

struct oci_tar_opts {
	bool layer; /* whiteouts and opaque folders as in an image's layer (image-spec layer.md); else an error */
	const char *prefix; /* written: before each path; NULL: none. The root's entry is then that name */
	bool no_root;	    /* written: the root's entry is left out, if it is a folder */
};
/* A sink that writes a pax archive to a blocking descriptor (borrowed). The same tree gives the same bytes. */
struct oci_tar_sink;
int oci_tar_sink_new(int fd, const struct oci_tar_opts *o, struct oci_tar_sink **ret, struct err *e);
const struct tree_sink *oci_tar_sink(struct oci_tar_sink *s);
void oci_tar_sink_free(struct oci_tar_sink *s);
DEFINE_CLEANUP(struct oci_tar_sink *, oci_tar_sink_free)

/*
 * A source: an archive (plain, gzip or zstd) from a blocking descriptor, which may be a pipe and is read to its end. Entries come
 * as they are, cleaned; one whose path leads out ("..") or a link to what the archive did not bring before is refused; what
 * a folder's entry did not come before gets one (0755, root). A root entry is sent first, in any case. Not a single byte is
 * -ENODATA: whoever should have written it failed. Bounded as an image's layer is.
 */
int oci_tar_read(int fd, const struct tree_sink *to, struct err *e);

/* ---- commit ---- */

struct oci_commit_opts {
	const char *ref;	      /* its name, or NULL */
	const char *author, *message; /* or NULL */
	const struct strv *changes;   /* Dockerfile instructions, see oci_import_opts */
	const char *created_by;	      /* of the layer: the box's command */
	/*
	 * JSON object, or NULL: its members take the place of those of the base's "config", null ones are taken out of it: what
	 * the box runs with. Before changes.
	 */
	const char *config;
	/* Within the transaction that enters the image, for the event of whose image it is; NULL: nothing to do. */
	int (*on_enter)(void *data, const char *id, struct err *e);
	void *data;
};
/*
 * Finds, before anything is done for it, what oci_commit would refuse whatever the layer is: a name, a text or an instruction
 * that is wrong, or a configuration that an image cannot have. 0 or what oci_commit would return.
 */
int oci_commit_check(struct oci_store *s, const char *base, const struct oci_commit_opts *o, struct err *e);
/*
 * A new image: those layers of the manifest `base` (a box's), then one more, which write brings as a layer's entries; without
 * entries but the root's, no layer is added (but the history says so). Nothing enters the store unless write returned 0.
 * *ret_id malloc'd.
 */
int oci_commit(struct oci_store *s, const char *base, const struct oci_commit_opts *o,
	int (*write)(void *data, const struct tree_sink *to, struct err *e), void *data,
	const struct oci_progress *p, char **ret_id, struct err *e);

#endif
