/* SPDX-License-Identifier: MIT */
/*
 * The JSON documents of an image: index, manifest and configuration, in OCI's and in Docker's (schema 2)
 * spelling. All come from strangers: strict UTF-8, no duplicate keys, bounded size, depth and counts. The
 * digests in them are checked to be canonical, so that whoever holds one of these structs may use them as
 * file names.
 */
#ifndef OCI_MANIFEST_H
#define OCI_MANIFEST_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "digest.h"
#include "json.h"
#include "oci/oci.h"

#define OCI_LAYERS_MAX	  512	/* overlayfs itself stops at 500 */
#define OCI_MANIFESTS_MAX 4096	/* entries of an index */
#define OCI_STRINGS_MAX	  16384 /* entries of one list or map in a configuration */
#define OCI_INDEX_DEPTH	  4	/* indexes within each other, the outermost included */
#define OCI_CONTENT_MAX	  32768 /* what belongs to one index */

#define OCI_TYPE_INDEX	  "application/vnd.oci.image.index.v1+json"
#define OCI_TYPE_MANIFEST "application/vnd.oci.image.manifest.v1+json"
#define OCI_TYPE_CONFIG	  "application/vnd.oci.image.config.v1+json"
#define OCI_TYPE_EMPTY	  "application/vnd.oci.empty.v1+json"
#define OCI_TYPE_ARTIFACT \
	"application/vnd.oci.artifact.manifest.v1+json" /* in no final specification, but met */
#define OCI_TYPE_LAYER	      "application/vnd.oci.image.layer.v1.tar"
#define OCI_TYPE_LAYER_GZ     "application/vnd.oci.image.layer.v1.tar+gzip"
#define OCI_TYPE_LAYER_ZST    "application/vnd.oci.image.layer.v1.tar+zstd"
#define DOCKER_TYPE_LIST      "application/vnd.docker.distribution.manifest.list.v2+json"
#define DOCKER_TYPE_MANIFEST  "application/vnd.docker.distribution.manifest.v2+json"
#define DOCKER_TYPE_CONFIG    "application/vnd.docker.container.image.v1+json"
#define DOCKER_TYPE_LAYER     "application/vnd.docker.image.rootfs.diff.tar"
#define DOCKER_TYPE_LAYER_GZ  "application/vnd.docker.image.rootfs.diff.tar.gzip"
#define DOCKER_TYPE_LAYER_ZST "application/vnd.docker.image.rootfs.diff.tar.zstd"

struct oci_platform {
	char *os, *arch, *variant; /* NULL when absent */
	bool features;		   /* asks for features of the system (os.features) */
};

/* "linux/arm64/v8", "arm64", "linux"; NULL: this host. Sets os and arch always, in Go's words ("x86_64" is amd64). */
int oci_platform_parse(const char *s, struct oci_platform *ret, struct err *e);
void oci_platform_done(struct oci_platform *p);
/*
 * How well software for `have` serves where `want` is asked for: 0 not at all, else more is better. As in containerd
 * an older variant of the processor serves for a newer one, never the reverse.
 */
unsigned oci_platform_rank(const struct oci_platform *have, const struct oci_platform *want);
/* Whether it serves at all. */
bool oci_platform_matches(const struct oci_platform *have, const struct oci_platform *want);
/* "linux/amd64" into buf. Returns buf. */
char *oci_platform_text(const struct oci_platform *p, char *buf, size_t size);

/* What stands behind a descriptor, as who names it and its media type tell. */
enum oci_role {
	OCI_ROLE_BLOB,	   /* configuration, layer, anything else: registries have it under blobs/ */
	OCI_ROLE_MANIFEST, /* a manifest, or another document that an index names: under manifests/ */
	OCI_ROLE_INDEX,	   /* an index: under manifests/ */
};

struct oci_desc {
	char *media_type; /* never NULL, may be empty */
	char digest[OCI_DIGEST_MAX];
	uint64_t size;
	struct oci_platform platform;
	char *name;	  /* annotation io.containerd.image.name, NULL when absent */
	char *ref_name;	  /* annotation org.opencontainers.image.ref.name, NULL when absent */
	bool attestation; /* describes another manifest, or is an artifact: holds no image */
	bool foreign;	  /* a layer that may not be distributed: registries and archives need not have it */
	enum oci_role role;
};

struct oci_index {
	struct oci_desc *v;
	size_t n;
};
struct oci_manifest {
	struct oci_desc config;
	struct oci_desc *layers; /* lowest first */
	size_t n_layers;
};
struct oci_config {
	struct oci_platform platform;
	int64_t created_ns;
	char (*diff_ids)[OCI_DIGEST_MAX]; /* lowest first */
	size_t n_diff_ids;
	char *exec_json; /* execution parameters only, for oci_config_exec */
};

enum oci_kind { OCI_KIND_INDEX, OCI_KIND_MANIFEST };

/* RFC 3339 to nanoseconds since the epoch, 0 if invalid or beyond what fits. */
int64_t oci_time_parse(const char *s);

/* Whether a media type is one of an index or a manifest, artifacts' included. NULL: no. */
bool oci_type_known(const char *type);
/*
 * What a document is, by its media type or else its members; media_type as the transport told it, or NULL.
 * Docker's schema 1 and anything that is no image is refused in words. What this takes for an index names manifests for
 * oci_document_names, too, and what names any is not taken for anything else.
 */
int oci_kind_of(const void *data, size_t n, const char *media_type, enum oci_kind *ret, struct err *e);
/* What a document is to be called: by itself, by who names it (NULL: nobody), or by what it looks like. malloc'd. */
int oci_document_type(const void *data, size_t n, const char *named, char **ret, struct err *e);
int oci_index_parse(const void *data, size_t n, struct oci_index *ret, struct err *e);
void oci_index_done(struct oci_index *i);
/* The entry for a platform; NULL with *e naming what there is. */
const struct oci_desc *oci_index_select(
	const struct oci_index *i, const struct oci_platform *want, struct err *e);
int oci_manifest_parse(const void *data, size_t n, struct oci_manifest *ret, struct err *e);
void oci_manifest_done(struct oci_manifest *m);

struct oci_contents {
	struct oci_desc *v;
	size_t n;
};
void oci_contents_done(struct oci_contents *c);
/*
 * What a document names: an index its manifests, a manifest (of an image, attestation or artifact) its layers and then
 * its configuration. Nothing if it is of a type that we do not know.
 */
int oci_document_names(
	const void *data, size_t n, const char *media_type, struct oci_contents *ret, struct err *e);

/*
 * Where a document is got that another one names: its content, verified, of at most OCI_JSON_MAX bytes, malloc'd.
 * 0, or -errno with *e set, which ends what asked for it.
 */
struct oci_getter {
	int (*get)(void *data, const struct oci_desc *d, char **ret, size_t *ret_n, struct err *e);
	void *data;
};
/*
 * The manifest for a platform: the document itself if it is one, else what an index, or an index within it, names for
 * the platform. *ret, *ret_n: its text, malloc'd; ret_digest: its digest, empty when it is the document itself.
 * -ENOENT names the platforms there are.
 */
int oci_manifest_choose(const void *data, size_t n, const char *media_type, const struct oci_platform *want,
	const struct oci_getter *get, char ret_digest[OCI_DIGEST_MAX], char **ret, size_t *ret_n,
	struct err *e);

/*
 * Everything that belongs to a document, for those who copy images whole: what an index names and what that names in
 * turn, of every platform, attestations and artifacts included. Each digest once (as a blob and as a document it is
 * two), what is named before who names it: the order in which a registry takes them. The document itself is not in
 * it, nor is its "subject", which belongs to nobody.
 *
 * get is called once for each that is a document (role not blob), of whatever type.
 */
int oci_contents_of(const void *data, size_t n, const char *media_type, const struct oci_getter *get,
	struct oci_contents *ret, struct err *e);

int oci_config_parse(const void *data, size_t n, struct oci_config *ret, struct err *e);
void oci_config_done(struct oci_config *c);
/* Fills the execution parameters of *i from exec_json. */
int oci_config_exec(const char *exec_json, struct oci_image *i, struct err *e);

/* Chain ID of the first n layers (image-spec config.md, "Layer ChainID"); one of our own for none. */
int oci_chain_id(const char (*diff_ids)[OCI_DIGEST_MAX], size_t n, char ret[OCI_DIGEST_MAX], struct err *e);

#endif
