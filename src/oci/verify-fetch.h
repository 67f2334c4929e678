/* SPDX-License-Identifier: MIT */
/* The signatures that a registry has of an image, wherever clients put them. */
#ifndef OCI_VERIFY_FETCH_H
#define OCI_VERIFY_FETCH_H

#include "verify.h"

/* Names within the manifest of a signature in cosign's form. */
#define COSIGN_SIGNATURE   "dev.cosignproject.cosign/signature"
#define COSIGN_CERTIFICATE "dev.sigstore.cosign/certificate"
#define COSIGN_CHAIN	   "dev.sigstore.cosign/chain"
#define COSIGN_LOG_ENTRY   "dev.sigstore.cosign/bundle"

#define SIGN_TOTAL_MAX	 (16u << 20) /* bytes of all signatures of an image */
#define SIGN_FETCH_MAX_S 300	     /* for getting them all */

/* Tag under which the signatures of a manifest are, "sha256-HEX.sig". false: the digest is too long for a tag. */
bool oci_signature_tag(const char *digest, char ret[OCI_TAG_MAX + 1]);

/* Drops the others. */
void oci_signatures_keep(struct oci_signatures *s, const bool *keep);

struct oci_found {
	struct oci_signatures all;
	size_t requests; /* for documents of signatures, so far: bounded too */
	uint64_t bytes, deadline_ns;
	bool more;  /* there are more than are looked at */
	int failed; /* the first of what could not be got, or 0 */
	struct err failure;
};
void oci_found_done(struct oci_found *f);
/*
 * Adds what there is for a digest. What cannot be got is noted in *f and passed over: whether it matters, the
 * rest decides. -ENOMEM or -ECANCELED.
 */
int oci_signatures_fetch(struct oci_conn *c, const char *digest, struct oci_found *f, struct err *e);

#endif
