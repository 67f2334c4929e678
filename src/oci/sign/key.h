/* SPDX-License-Identifier: MIT */
/* Public keys, and signatures by them: ECDSA on P-256 and P-384, RSA of 2048 to 8192 bits, Ed25519; no others. */
#ifndef OCI_SIGN_KEY_H
#define OCI_SIGN_KEY_H

#include "sign/doc.h"
#include "sign/lib.h"
#include "sign/sign.h"

enum key_kind { KEY_P256, KEY_P384, KEY_RSA, KEY_ED25519 };

struct sign_key {
	const struct signlib *l;
	EVP_PKEY *pkey;
	enum key_kind kind;
	struct bytes spki;	/* SubjectPublicKeyInfo, DER */
	uint8_t id[SHA256_LEN]; /* SHA-256 of that */
};
DEFINE_CLEANUP(struct sign_key *, sign_key_free)

/* What kind of key it is; -EINVAL with *e if it is none that may be used. */
int key_kind_of(
	const struct signlib *l, const EVP_PKEY *pkey, const char *what, enum key_kind *ret, struct err *e);
/* From a key of libcrypto's, of which a reference is taken. */
int key_from_pkey(EVP_PKEY *pkey, const char *what, struct sign_key **ret, struct err *e);
/* From DER: a SubjectPublicKeyInfo, or (with rsa set) also an RSAPublicKey. -EINVAL if it is no good. */
int key_from_der(const struct bytes *der, bool rsa, const char *what, struct sign_key **ret, struct err *e);
bool key_equal(const struct sign_key *a, const struct sign_key *b);
/* -EKEYREJECTED (with *e) unless sig is this key's signature over the message. */
int key_verify(const struct sign_key *k, const void *msg, size_t n, const struct bytes *sig, struct err *e);
/* The same where only the message's SHA-256 is known: not for Ed25519. */
int key_verify_sha256(
	const struct sign_key *k, const uint8_t hash[SHA256_LEN], const struct bytes *sig, struct err *e);

#endif
