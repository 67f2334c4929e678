/* SPDX-License-Identifier: MIT */
/*
 * One repository of a registry, and of its mirrors (OCI distribution specification 1.1; Docker's schema 2
 * types).
 *
 * THEORY OF OPERATION
 *
 * struct oci_registry is what is known of the other end: where it is, which scheme it speaks, who we are
 * there. A registry on this machine, under a name with a port, and for which no certificates are there, is
 * asked without TLS first: most have none, and reading the system's CAs takes longer than many a request.
 * Other hosts that may speak plain HTTP are asked with TLS first; all others, with nothing else.
 *
 * It is thread-safe and shared by the connections (struct oci_conn) that threads make from it, each for one
 * transfer at a time. Authentication happens inside: a 401 is answered with what the challenge asks for
 * (basic, bearer with scope, OAuth2 refresh of an identity token), once per request; a token that expires in
 * between is renewed.
 *
 * Mirrors and hosts without TLS come from registries.json in the home folder (registry/config.h). A pull asks
 * the mirrors in order, then the registry itself; a push goes to the registry only. What a mirror delivers is
 * checked against the same digests; tags of a mirror are believed, as in Docker.
 */
#ifndef OCI_REGISTRY_H
#define OCI_REGISTRY_H

#include "manifest.h"
#include "oci/transfer.h"
#include "reference.h"
#include "registry/http.h"

enum oci_access {
	OCI_ACCESS_PULL,
	OCI_ACCESS_PUSH, /* and pull */
};

struct oci_registry;
/*
 * Finds out how to reach the registry of a reference. ref is copied. home_fd: the home folder, for
 * registries.json; -1: none. from: repository path ("library/alpine") on the same registry that blobs may be
 * mounted from, or NULL.
 */
int oci_registry_open(const struct oci_reference *ref, const struct oci_remote_opts *o, int home_fd,
	enum oci_access access, const char *from, struct oci_registry **ret, struct err *e);
void oci_registry_close(struct oci_registry *r);
DEFINE_CLEANUP(struct oci_registry *, oci_registry_close)

struct oci_conn;
int oci_conn_new(struct oci_registry *r, struct oci_conn **ret, struct err *e);
void oci_conn_free(struct oci_conn *c);
DEFINE_CLEANUP(struct oci_conn *, oci_conn_free)

/* From another thread: what the connection does ends soon with -ECANCELED. */
void oci_conn_cancel(struct oci_conn *c);

/*
 * By tag or digest (then checked). *ret is malloc'd with a NUL behind; ret_digest is computed from it;
 * *ret_type (malloc'd; NULL if it said nothing; ret_type may be NULL) what the transport said it is. -ENOENT
 * (with *e) when the registry does not have it.
 */
int oci_conn_manifest(struct oci_conn *c, const char *tag_or_digest, char **ret, size_t *ret_n,
	char ret_digest[OCI_DIGEST_MAX], char **ret_type, struct err *e);
/*
 * Starts reading a blob from byte from on (of which the server must be capable: else *ret_from, where it
 * starts, is 0).
 */
int oci_conn_blob(struct oci_conn *c, const char *digest, uint64_t from, uint64_t *ret_from, struct err *e);
/* Bytes, 0 at the end, -errno. Its digest is for the caller to check. */
ssize_t oci_conn_read(struct oci_conn *c, void *buf, size_t n, struct err *e);
/*
 * What came of the last blob was wrong. true: it came from a mirror, which is asked for nothing any more; to
 * ask for the blob again makes sense then, from its beginning.
 */
bool oci_conn_distrust(struct oci_conn *c);
/* All tags, pages followed, bounded. */
int oci_conn_tags(struct oci_conn *c, struct strv *ret, struct err *e);
/*
 * The index of what refers to a manifest ("referrers", or its fallback tag sha256-HEX), filtered by artifact
 * type (NULL: all) where the server filters. *ret malloc'd; -ENOENT (no *e) when there is none.
 */
int oci_conn_referrers(struct oci_conn *c, const char *digest, const char *artifact_type, char **ret,
	size_t *ret_n, struct err *e);

/* 1: the repository has this blob; 0: not; -errno. */
int oci_conn_has_blob(struct oci_conn *c, const char *digest, struct err *e);
/*
 * 1: it has this manifest (ret_digest: as what, computed by the server and checked for form); 0: not; -errno.
 */
int oci_conn_has_manifest(
	struct oci_conn *c, const char *tag_or_digest, char ret_digest[OCI_DIGEST_MAX], struct err *e);
/* Takes the blob over from the repository named when opening. 1: done; 0: it must be uploaded; -errno. */
int oci_conn_mount(struct oci_conn *c, const char *digest, struct err *e);
/*
 * Uploads size bytes of fd (from its beginning, by pread) in chunks; a chunk that breaks off goes on where
 * the server says it is. on_bytes (may be NULL): so many bytes are there now.
 */
int oci_conn_upload(struct oci_conn *c, const char *digest, int fd, uint64_t size,
	void (*on_bytes)(void *data, uint64_t bytes), void *data, struct err *e);
/* Puts a manifest or index, under a tag or its digest. */
int oci_conn_put_manifest(struct oci_conn *c, const char *tag_or_digest, const char *type, const void *data,
	size_t n, struct err *e);

#endif
