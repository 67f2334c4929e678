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
 * "alpine" to "docker.io/library/alpine:latest", and back to what people read and write: "alpine:latest".
 * Both malloc'd; NULL when out of memory and, for the first, when ref is no valid reference (*e says why).
 */
char *oci_ref_normalise(const char *ref, struct err *e);
char *oci_ref_familiar(const char *name);

/* What is being done, for a person to watch. total is 0 when unknown. Called often; may be NULL. */
struct oci_progress {
	void (*fn)(void *data, const char *what, uint64_t done_bytes, uint64_t total_bytes);
	void *data;
};

/* Docker's Healthcheck, which OCI images may carry too. test: {"NONE"}, {"CMD", argv…}, {"CMD-SHELL", line}; empty: none. */
struct oci_health_check {
	struct strv test;
	uint64_t interval_ns, timeout_ns, start_period_ns, start_interval_ns; /* 0: not said */
	uint32_t retries;
};

struct oci_image {
	char *name;	/* normalised "docker.io/library/alpine:3.20", or NULL when untagged */
	char *id;	/* config digest, "sha256:…" */
	char *manifest; /* manifest digest, "sha256:…" */
	char *chain_id; /* of the layers, "sha256:…": names the disk */
	char *os, *arch, *variant;
	int64_t created_ns; /* from the config, 0 if absent or invalid */
	uint64_t size;	    /* bytes of the uncompressed disk's content */
	/* execution parameters (image-spec config) */
	struct strv env, entrypoint, cmd, labels, volumes, exposed_ports; /* labels as "k=v" */
	char *workdir, *user, *stop_signal;				  /* NULL when absent */
	struct oci_health_check health;
};
void oci_image_free(struct oci_image *i);
DEFINE_CLEANUP(struct oci_image *, oci_image_free)

/*
 * Reads a docker-archive or OCI archive (plain, gzip or zstd; a stream, no seeking needed) from fd and enters
 * its images. Disks are built here, so that a later run does not wait. For every image entered, on_image is
 * called with its normalised name (or NULL) and ID. Nothing enters the store unless the whole archive is
 * good.
 */
int oci_load(struct oci_store *s, int fd, const struct oci_progress *p,
	void (*on_image)(void *data, const char *name, const char *id), void *data, struct err *e);

struct oci_pull_opts {
	const char *platform; /* "linux/amd64"; NULL: the host's */
	bool plain_http;      /* allow HTTP for any host; loopback always may */
	bool tls_verify;
};
/* Pulls ref and builds its disk. *ret (may be NULL) is the image. */
int oci_pull(struct oci_store *s, const char *ref, const struct oci_pull_opts *o,
	const struct oci_progress *p, struct oci_image **ret, struct err *e);

/*
 * Finds by name (normalised as Docker does: "alpine" is docker.io/library/alpine:latest), by name@digest, by
 * image ID or unique ID prefix of at least 4 hex digits (ambiguity is -EEXIST with the candidates). -ENOENT
 * when there is none.
 */
int oci_image_find(struct oci_store *s, const char *ref, struct oci_image **ret, struct err *e);
/* All images, newest first, one entry per name; untagged ones once with name NULL. */
int oci_image_list(struct oci_store *s, struct oci_image ***ret, size_t *ret_n, struct err *e);
void oci_image_list_free(struct oci_image **list, size_t n);

/*
 * Path of the image's read-only disk, built when missing. *ret is malloc'd. A box's record must hold a
 * reference (oci_ref_add) before it relies on the disk staying.
 */
int oci_image_disk(struct oci_store *s, const struct oci_image *i, const struct oci_progress *p, char **ret,
	struct err *e);

/* Within the caller's transaction: holder (a box ID) needs this manifest. 0 or -errno. */
int oci_ref_add(struct state *st, const char *holder, const char *manifest, struct err *e);
int oci_ref_drop(struct state *st, const char *holder, struct err *e);

/*
 * Removes a name, or with an ID all names (several need force). An image in use by a holder is refused
 * (-EBUSY) unless force, which removes the names and leaves the content until the last holder is gone.
 * on_removed is told "Untagged: …" and "Deleted: …" as key and value.
 */
int oci_image_remove(struct oci_store *s, const char *ref, bool force,
	void (*on_removed)(void *data, const char *key, const char *value), void *data, struct err *e);

/* What an image takes on disk: allocated blocks of its blobs and its disk. */
struct oci_usage {
	uint64_t bytes;
	uint64_t shared_bytes; /* of these, what other images need too */
	uint64_t holders;      /* boxes that need it */
};
/* Fills ret[0..n) for list[0..n). *ret_free: what would go if all images went that no holder needs. 0 or -errno. */
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

#endif
