/* SPDX-License-Identifier: MIT */
/* The registry's side of a pull (distribution specification, "Pull"). */
#ifndef OCI_REGISTRY_H
#define OCI_REGISTRY_H

#include "http.h"
#include "manifest.h"
#include "reference.h"

struct oci_registry;

/* Finds out how to reach the registry of a reference, which must outlive it. */
int oci_registry_open(const struct oci_reference *ref, const struct oci_pull_opts *o,
	struct oci_registry **ret, struct err *e);
void oci_registry_close(struct oci_registry *r);
DEFINE_CLEANUP(struct oci_registry *, oci_registry_close)

/* By tag or digest (then checked). *ret is malloc'd; ret_digest is computed from it; *ret_type may be NULL.
 */
int oci_registry_manifest(struct oci_registry *r, const char *tag_or_digest, char **ret, size_t *ret_n,
	char ret_digest[OCI_DIGEST_MAX], char **ret_type, struct err *e);
/* Starts reading a blob; one at a time. Its digest is for the caller to check. */
int oci_registry_blob(struct oci_registry *r, const char *digest, struct err *e);
ssize_t oci_registry_read(struct oci_registry *r, void *buf, size_t n, struct err *e);

#endif
