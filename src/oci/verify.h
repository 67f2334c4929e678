/* SPDX-License-Identifier: MIT */
/*
 * Signatures of images: fetched with a pull, judged (sign/sign.h) by the options and the policy file, kept beside the
 * image so that a later run can be judged without a network, made by a push.
 */
#ifndef OCI_VERIFY_H
#define OCI_VERIFY_H

#include "registry/registry.h"
#include "sign/policy.h"
#include "store.h"

/* Good signatures of an image; entered with it (oci_entry.signatures), each in a row of image_signatures. */
struct oci_signatures {
	struct sign_candidate *v;	/* what it points to belongs to it */
	char (*digest)[OCI_DIGEST_MAX]; /* that each of them is for: of the index or of the manifest */
	size_t n;
};
void oci_signatures_done(struct oci_signatures *s);

/*
 * Before anything of the image is fetched but its manifest: served is what the registry serves under ref (an index or a
 * manifest), manifest the one chosen for the platform (may be the same). -EKEYREJECTED unless the options' and the
 * policy's requirements are all met by signatures of one of the two; with whole set, of what is served. *ret: those
 * signatures, to be kept; empty when nothing was asked for. *ret_served: what is served may be kept, too; else only the
 * manifest was signed, and the index that led to it is anybody's.
 */
int oci_verify_pull(struct oci_store *s, struct oci_conn *c, const struct oci_reference *ref,
	const struct oci_verify_opts *o, const char *served, const char *manifest, bool whole,
	struct oci_signatures *ret, bool *ret_served, struct err *e);

/* A private key to sign with, from its file. */
int oci_sign_key(const char *file, const char *password, struct sign_private **ret, struct err *e);
/* Before a push: whether something is in the way of signing what will have this digest. */
int oci_sign_check(struct oci_conn *c, const struct oci_reference *ref, const char *digest,
	const struct sign_private *key, struct err *e);
/*
 * Signs what was pushed as digest and puts the signature beside it, as cosign does: a new one joins those there, and where
 * one by this key is there already, nothing is done. *ret: the signature, to be kept.
 */
int oci_sign_pushed(struct oci_conn *c, const struct oci_reference *ref, const char *digest,
	const struct sign_private *key, struct oci_signatures *ret, struct err *e);

#endif
