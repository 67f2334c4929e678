/* SPDX-License-Identifier: MIT */
/*
 * A world of signatures for tests: an authority with an intermediate, a transparency log, a certificate log, a timestamp
 * authority, and whoever signs. It makes what cosign would write, and on request what an attacker would.
 */
#ifndef OCI_SIGN_TEST_WORLD_H
#define OCI_SIGN_TEST_WORLD_H

#include "sign/lib.h"
#include "sign/sign.h"

#define WORLD_DIGEST	 "sha256:a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1"
#define WORLD_IDENTITY	 "signer@example.com"
#define WORLD_URI	 "https://example.com/workflow@refs/heads/main"
#define WORLD_OTHER_NAME "signer!example.com"
#define WORLD_ISSUER	 "https://issuer.example"
#define WORLD_REPOSITORY "example.com/app"
#define WORLD_NOW	 1700000000 /* when everything was signed */
#define WORLD_LEAF_SPAN	 600	    /* seconds that a signer's certificate lives from 60 before that */

/* How a signature is to be; each bit is one thing. */
#define W_EXPIRED	  (1ull << 0) /* the log took it an hour later */
#define W_EARLY		  (1ull << 1) /* an hour before */
#define W_NO_SCT	  (1ull << 2)
#define W_BAD_SCT	  (1ull << 3)
#define W_OTHER_SCT	  (1ull << 4) /* by a log that nobody knows */
#define W_NO_LOG	  (1ull << 5)
#define W_NO_PROMISE	  (1ull << 6)
#define W_BAD_PROMISE	  (1ull << 7)
#define W_NO_PROOF	  (1ull << 8)
#define W_BAD_PROOF	  (1ull << 9)
#define W_BAD_CHECKPOINT  (1ull << 10)
#define W_NO_CHECKPOINT	  (1ull << 11)
#define W_OTHER_CONTENT	  (1ull << 12) /* log entry of another content, signature, signer */
#define W_OTHER_SIGNATURE (1ull << 13)
#define W_OTHER_SIGNER	  (1ull << 14)
#define W_NO_EKU	  (1ull << 15)
#define W_OTHER_EKU	  (1ull << 16)
#define W_NO_SIGNING	  (1ull << 17) /* key usage */
#define W_CA_LEAF	  (1ull << 18)
#define W_NO_ISSUER	  (1ull << 19)
#define W_OLD_ISSUER	  (1ull << 20) /* only the older extension */
#define W_ISSUERS_DIFFER  (1ull << 21)
#define W_URI		  (1ull << 22) /* names beside, or instead of, the e-mail address */
#define W_OTHER_NAME	  (1ull << 23)
#define W_NO_NAME	  (1ull << 24)
#define W_NO_CHAIN	  (1ull << 25) /* the annotation is missing */
#define W_SELF_MADE	  (1ull << 26) /* an authority of the same names that is not trusted */
#define W_TIMESTAMP	  (1ull << 27)
#define W_BAD_TIMESTAMP	  (1ull << 28) /* of another signature */
#define W_LATE_TIMESTAMP  (1ull << 29)
#define W_OTHER_TSA	  (1ull << 30)
#define W_MESSAGE	  (1ull << 31) /* bundle: a bare signature, of the digest */
#define W_PREDICATE	  (1ull << 32) /* bundle: of something else than a signature */
#define W_V1		  (1ull << 33) /* bundle version 0.1, with the whole chain */
#define W_HASHEDREKORD_1  (1ull << 34) /* bundle: kind of the log's entry; otherwise dsse 0.0.1 */
#define W_HASHEDREKORD_2  (1ull << 35)
#define W_DSSE_2	  (1ull << 36)
#define W_INTOTO_1	  (1ull << 37)
#define W_INTOTO_2	  (1ull << 38)
#define W_LOGGED	  (1ull << 39) /* simple, with a key: in the log all the same */
#define W_ISSUER_TWICE	  (1ull << 40)
#define W_TAGGED	  (1ull << 41) /* simple: the name that is signed has the tag "v1" */
#define W_SIBLING_TSA	  (1ull << 42) /* timestamp by another of the authority's certificates for timestamps */
#define W_NULLS		  (1ull << 43) /* bundle: members that are not there are null */

struct world {
	EVP_PKEY *root_key, *ca_key, *log_key, *ct_key, *tsa_key, *leaf_key, *other_key, *fake_key;
	X509 *root, *ca, *tsa, *fake_root, *fake_ca;
	char *json; /* trusted root */
};

EVP_PKEY *world_key(const char *kind); /* "P-256", "P-384", "P-521", "RSA", "RSA1024", "ED25519" */
char *world_pem(EVP_PKEY *key);	       /* public */
char *world_cert_pem(const X509 *x);
void world_init(struct world *w);
void world_done(struct world *w);
/* The trusted root without timestamp authorities, or with windows that end at some time. */
char *world_root(const struct world *w, bool tsa, const char *log_end, const char *ct_end, const char *ca_end,
	const char *tsa_end);

/* Candidates; key NULL: keyless. All that they point to is freed by world_free. */
struct sign_candidate world_simple(const struct world *w, EVP_PKEY *key, uint64_t how);
struct sign_candidate world_bundle(const struct world *w, EVP_PKEY *key, uint64_t how);
void world_free(struct sign_candidate *c);

/* SHA-256 signature (Ed25519: none) in DER; RSA's padding 0: PKCS#1. */
size_t world_sign(EVP_PKEY *key, int padding, const void *data, size_t n, uint8_t sig[1024]);
char *world_b64(const void *data, size_t n);

#endif
