/* SPDX-License-Identifier: MIT */
/*
 * Images: references, the content-addressed store, archives, registries, and the read-only disk of each
 * image. All of it is rootless, and everything read (archive, registry, layer, stored JSON) is taken as
 * hostile.
 */
#ifndef OCI_OCI_H
#define OCI_OCI_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "state/state.h"
#include "wire/wire.h" /* struct strv */

struct oci_store;

/* The state database must outlive the store. Creates images/ in the home folder when missing. 0 or -errno. */
int oci_store_open(struct state *st, struct oci_store **ret, struct err *e);
void oci_store_close(struct oci_store *s);
DEFINE_CLEANUP(struct oci_store *, oci_store_close)

/*
 * From before an image is looked for until a record needs it (oci_ref_add): nothing of the store is deleted meanwhile.
 * Waits while others delete; adding goes on beside it. *ret goes to oci_store_release.
 * Not to be held over oci_pull or oci_store_trim, which could not make room. 0 or -errno.
 */
int oci_store_hold(struct oci_store *s, int *ret, struct err *e);
/* Lets go, and deletes what others could not delete meanwhile; nothing with *fd < 0. */
void oci_store_release(struct oci_store *s, int *fd);

/*
 * "alpine" to "docker.io/library/alpine:latest", and back to what people read and write: "alpine:latest".
 * Both malloc'd; NULL when out of memory and, for the first, when ref is no valid reference (*e says why).
 */
char *oci_ref_normalise(const char *ref, struct err *e);
char *oci_ref_familiar(const char *name);

/*
 * What is being done, for a person to watch. item: the digest of the layer or other blob that it is about, or NULL for
 * the whole; action: "Downloading", "Waiting", "Building disk", "Download complete", … Bytes are 0 when unknown.
 * Called often, from several threads but never from two at once; fn may be NULL.
 */
struct oci_progress {
	void (*fn)(
		void *data, const char *item, const char *action, uint64_t done_bytes, uint64_t total_bytes);
	void *data;
};

/* Docker's Healthcheck, which OCI images may carry too. test: {"NONE"}, {"CMD", argv…}, {"CMD-SHELL", line}; empty: none. */
struct oci_health_check {
	struct strv test;
	uint64_t interval_ns, timeout_ns, start_period_ns, start_interval_ns; /* 0: not said */
	uint32_t retries;
};

struct oci_image {
	char *name;  /* normalised "docker.io/library/alpine:3.20", or NULL when untagged */
	char *asked; /* normalised reference by which oci_image_find found it; NULL: an ID, or not found so */
	char *id;    /* config digest, "sha256:…" */
	char *manifest; /* manifest digest, "sha256:…" */
	char *chain_id; /* of the layers, "sha256:…": names the disk */
	char *os, *arch, *variant;
	int64_t created_ns; /* from the config, 0 if absent or invalid */
	char *digest; /* what its name leads to in a registry or archive: manifest or index; NULL without a name */
	uint64_t size;	 /* bytes of the uncompressed disk's content */
	int64_t used_ns; /* when a box was last made of it, or it came */
	/* execution parameters (image-spec config) */
	struct strv env, entrypoint, cmd, labels, volumes, exposed_ports; /* labels as "k=v" */
	char *workdir, *user, *stop_signal;				  /* NULL when absent */
	struct oci_health_check health;
};
void oci_image_free(struct oci_image *i);
DEFINE_CLEANUP(struct oci_image *, oci_image_free)

/*
 * Finds by name (normalised as Docker does: "alpine" is docker.io/library/alpine:latest), by name@digest, by
 * image ID or unique ID prefix of at least 4 hex digits (ambiguity is -EEXIST with the candidates). -ENOENT
 * when there is none.
 */
int oci_image_find(struct oci_store *s, const char *ref, struct oci_image **ret, struct err *e);
/* All images, newest first, one entry per name; untagged ones once with name NULL. */
int oci_image_list(struct oci_store *s, struct oci_image ***ret, size_t *ret_n, struct err *e);
/* With those that have lost all names while a holder needs them. */
int oci_image_list_all(struct oci_store *s, struct oci_image ***ret, size_t *ret_n, struct err *e);
void oci_image_list_free(struct oci_image **list, size_t n);

/*
 * Path of the image's read-only disk, built when missing. *ret is malloc'd. A box's record must hold a
 * reference (oci_ref_add) before it relies on the disk staying.
 */
int oci_image_disk(struct oci_store *s, const struct oci_image *i, const struct oci_progress *p, char **ret,
	struct err *e);

/* For the next start of a box that holds an image (by manifest): its disk is there, built again if it has to be. */
int oci_ref_disk(struct oci_store *s, const char *manifest, const struct oci_progress *p, struct err *e);

/* A further name (normalised here) for an image; a name that led elsewhere leads here now. */
int oci_image_tag(struct oci_store *s, const char *ref, const char *name, struct err *e);

/* All names of an image ("docker.io/library/alpine:3.20") and "repository@digest" of each registry it came from or went to. */
int oci_image_names(struct oci_store *s, const struct oci_image *i, struct strv *tags, struct strv *digests,
	struct err *e);

enum oci_document { OCI_DOC_MANIFEST, OCI_DOC_CONFIG };
/* One of its JSON documents as it came, malloc'd with a NUL behind; its digest was checked again. */
int oci_image_document(struct oci_store *s, const struct oci_image *i, enum oci_document which, char **ret,
	size_t *ret_n, struct err *e);

/* One step of how an image was made (image-spec config.md, "history"), newest first. */
struct oci_history {
	int64_t created_ns;
	char *created_by, *comment, *author; /* never NULL */
	bool empty;			     /* it made no layer */
	uint64_t size;			     /* bytes of content that its layer brought */
	char diff_id[160];		     /* of that layer; empty when empty */
};
int oci_image_history(struct oci_store *s, const struct oci_image *i, struct oci_history **ret, size_t *ret_n,
	struct err *e);
void oci_history_free(struct oci_history *h, size_t n);

/*
 * Within the caller's transaction: holder (a box ID, or a snapshot's behind OCI_HOLDER_SNAPSHOT) needs this manifest, which is
 * thereby used. 0 or -errno.
 */
#define OCI_HOLDER_SNAPSHOT "snapshot:"
int oci_ref_add(struct state *st, const char *holder, const char *manifest, struct err *e);
int oci_ref_drop(struct state *st, const char *holder, struct err *e);

/*
 * Removes a name, or with an ID all names (several need force). An image in use by a holder is refused
 * (-EBUSY) unless force, which removes the names and leaves the content until the last holder is gone.
 * on_removed is told "Untagged: …" and "Deleted: …" as key and value.
 */
int oci_image_remove(struct oci_store *s, const char *ref, bool force,
	void (*on_removed)(void *data, const char *key, const char *value), void *data, struct err *e);
/*
 * As oci_image_remove with i's name (its ID where it has none), if what was listed is still so: -ENOENT when the name
 * leads to another image by now or nowhere, -EBUSY when a holder needs the image, or when a name of it has a tag and
 * tagged is unset.
 */
int oci_image_prune(struct oci_store *s, const struct oci_image *i, bool tagged,
	void (*on_removed)(void *data, const char *key, const char *value), void *data, struct err *e);

/* What an image takes on disk: allocated blocks of its blobs and its disk. */
struct oci_usage {
	uint64_t bytes;
	uint64_t shared_bytes; /* of these, what other images need too */
	uint64_t holders;      /* boxes and snapshots that need it */
};
/*
 * Fills ret[0..n) for list[0..n). *ret_free: what would go if all images went that no holder needs, with what is left over
 * of work that was cut off (oci_store_drop_partial). 0 or -errno.
 */
int oci_image_usage(struct oci_store *s, struct oci_image *const *list, size_t n, struct oci_usage *ret,
	uint64_t *ret_free, struct err *e);

/*
 * Deletes content that no image needs, and left-overs of interrupted work. Skips if the store is busy. An
 * image that lost its name to another one stays, untagged, until it is removed; one that was removed by force
 * while a holder needed it goes once the last holder has.
 */
int oci_store_gc(struct oci_store *s, struct err *e);
/* The same, after holders went, only if one of them was the last of a removed image: one cheap question. */
int oci_store_gc_if_due(struct oci_store *s, struct err *e);
/* Deletes downloads that were cut off; none if the store is busy. *ret_bytes: what they took on disk. */
int oci_store_drop_partial(struct oci_store *s, uint64_t *ret_bytes, struct err *e);

/*
 * Brings the store under limit bytes, if it can: first the disks of images that no box needs, those used longest ago
 * first (they are built again when needed), then such images that came from a registry and so can be pulled again.
 * What was loaded, imported, built or named here is never removed by itself, nor is the image that was used last. Does
 * nothing while others add to the store: they trim it in their turn. The caller holds no lock of the store. on_removed as
 * in oci_image_remove.
 */
int oci_store_trim(struct oci_store *s, uint64_t limit,
	void (*on_removed)(void *data, const char *key, const char *value), void *data, struct err *e);
/* A3S_IMAGE_CACHE_SIZE, or 10 GiB; -EINVAL for a bad value. */
int oci_store_limit(uint64_t *ret, struct err *e);
/* What the store takes on disk, allocated blocks, unfinished downloads included. */
int oci_store_bytes(struct oci_store *s, uint64_t *ret, struct err *e);

/*
 * Reads everything and compares it with its digests and with the database. on_fault is told each fault: what it is
 * about (digest or name) and what is wrong. repair: what can be made good is (disks are dropped and built anew when
 * needed, what nobody names is deleted, images with damaged content lose it, so that the next pull brings it again).
 * *ret_faults, *ret_left: found, and of these not repaired. Boxes that run are not disturbed. What killed commands leave
 * and the next ones deal with is no fault. -EBUSY when others add to the store for longer than ten seconds.
 */
int oci_store_check(struct oci_store *s, bool repair, const struct oci_progress *p,
	void (*on_fault)(void *data, const char *what, const char *fault), void *data, size_t *ret_faults,
	size_t *ret_left, struct err *e);

#endif
