/* SPDX-License-Identifier: MIT */
/*
 * Signatures of images in cosign's formats: is this one good, for this requirement, for this manifest?
 *
 * THEORY OF OPERATION
 *
 * No network, no store, no files: whoever calls has fetched what there is (oci/verify.h), and everything given here but
 * the requirement is written by an attacker. Two forms:
 *
 *   simple   a layer of the image tagged sha256-HEX.sig: the payload ("simple signing" JSON) and, as annotations,
 *            signature, certificate, chain, and the transparency log's bundle
 *   bundle   a sigstore bundle (application/vnd.dev.sigstore.bundle.v0.1 to v0.3+json) that refers to the image: a
 *            message signature over the payload, or a DSSE envelope around an in-toto statement whose subject is the image
 *
 * A requirement is a key, or an identity that a certificate must prove. Checked, each a test of its own:
 *   - the signature over the very bytes of payload or envelope (PAE), with ECDSA P-256/P-384 (SHA-256; P-384 also SHA-384),
 *     RSA (PKCS#1 v1.5 and PSS, 2048 bits and up, SHA-256) or Ed25519;
 *   - that the payload names this manifest's digest, of this algorithm, and the right type;
 *   - keyless: the chain up to one of the trusted root's authorities, valid at the time of signing, code signing usage,
 *     identity and issuer equal, byte for byte; the signed certificate timestamp by a trusted log;
 *   - the log: signed entry timestamp, or inclusion proof and signed checkpoint, by a trusted key valid at that time; that
 *     the entry is about this signature, this key or certificate and this payload; the time of signing is the log's
 *     integrated time (of a bundle also an RFC 3161 timestamp by a trusted authority, if the root has one).
 * Whatever cannot be checked is refused: nothing here fails open. All proofs that come along must hold, and all times
 * must fit: one proof too many would be a place to hide a wrong one.
 *
 * Not taken: keys on P-521 and RSA keys over 8192 bits; a message signature by Ed25519 (it cannot be checked by a digest
 * alone); log entries of the kind intoto 0.0.1 (they do not name the signature); envelopes with several signatures.
 */
#ifndef OCI_SIGN_H
#define OCI_SIGN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define SIGN_TYPE_SIMPLE    "application/vnd.dev.cosign.simplesigning.v1+json"
#define SIGN_TYPE_BUNDLE    "application/vnd.dev.sigstore.bundle" /* a prefix: ".v0.3+json" follows */
#define SIGN_DOCUMENT_MAX   (1u << 20) /* bytes of a payload, certificate chain, bundle */
#define SIGN_CANDIDATES_MAX 64	       /* signatures looked at for one image */

/* One signature as it was found. All borrowed. */
struct sign_candidate {
	bool is_bundle;
	const char *payload; /* simple: the layer; bundle: the bundle's JSON. Any bytes. */
	size_t payload_len;
	/* simple only; NULL when absent */
	const char *signature;	 /* annotation dev.cosignproject.cosign/signature, base64 */
	const char *certificate; /* dev.sigstore.cosign/certificate, PEM */
	const char *chain;	 /* dev.sigstore.cosign/chain, PEM */
	const char *log_entry;	 /* dev.sigstore.cosign/bundle, JSON */
};

struct sign_root; /* a trusted root: authorities, transparency logs, certificate logs, timestamp authorities */
/*
 * From sigstore's trusted_root.json (application/vnd.dev.sigstore.trustedroot+json;version=0.1). Each entry must say from
 * when on it is valid. -EBADMSG.
 */
int sign_root_parse(const char *json, size_t n, struct sign_root **ret, struct err *e);
/*
 * From PEM: authorities (each trusted by itself, roots or not), the transparency log's key, the certificate log's key; each
 * may be NULL. Without a certificate log's key no signed certificate timestamps are asked for. -EBADMSG or -EINVAL.
 */
int sign_root_from_pem(const char *authorities, const char *log_key, const char *ct_key,
	struct sign_root **ret, struct err *e);
void sign_root_free(struct sign_root *r);

struct sign_key; /* a public key */
/* PEM, SubjectPublicKeyInfo, and nothing else; what names it in errors. -EINVAL. */
int sign_key_parse(const char *pem, size_t n, const char *what, struct sign_key **ret, struct err *e);
void sign_key_free(struct sign_key *k);

struct sign_requirement {
	const struct sign_key *key; /* or: */
	const char *issuer, *identity;
	/* Needed without key; with a key it may be NULL, else the log's proof is demanded too. */
	const struct sign_root *root;
};
/*
 * 0: good. -EKEYREJECTED with *e saying why; any other -errno says nothing about the signature (-EINVAL: the requirement or
 * the digest is incomplete; memory; a library is missing). digest: of the manifest that is asked about.
 */
int sign_verify(
	const struct sign_requirement *rq, const char *digest, const struct sign_candidate *c, struct err *e);

/* ---- signing ---- */

struct sign_private; /* a private key */
/*
 * PEM: PKCS#8 (encrypted too), OpenSSL's older forms, or cosign's "ENCRYPTED SIGSTORE PRIVATE KEY" (an empty password is
 * not the same as none, NULL). -EACCES: the password is wrong or missing; -EINVAL.
 */
int sign_private_parse(
	const char *pem, size_t n, const char *password, struct sign_private **ret, struct err *e);
void sign_private_free(struct sign_private *k);
/* Its public half. */
int sign_private_public(const struct sign_private *k, struct sign_key **ret, struct err *e);
/*
 * The simple-signing payload for a manifest of a repository ("registry/path"; as cosign writes it), and the signature over
 * it in base64. Both malloc'd.
 */
int sign_simple(const struct sign_private *k, const char *repository, const char *digest, char **ret_payload,
	char **ret_signature, struct err *e);

#endif
