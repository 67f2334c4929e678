/* SPDX-License-Identifier: MIT */
/* Digests, "sha256:…" or "sha512:…" in lower-case hex (image-spec descriptor.md, "Digests"). */
#ifndef OCI_DIGEST_H
#define OCI_DIGEST_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

#define OCI_DIGEST_MAX	   136 /* "sha512:", 128 hex digits, NUL */
#define OCI_SHA256_HEX_LEN 64

/* Whether s is a digest of an algorithm we know, in canonical form. Then it is safe as a file name. */
bool oci_digest_valid(const char *s);
/* The hex part of a valid digest; of an empty text nothing. */
const char *oci_digest_hex(const char *digest);
/* "sha256" or "sha512" of a valid digest. */
const char *oci_digest_alg(const char *digest);

/* Copies a digest, or an empty string. */
void oci_digest_copy(char dst[OCI_DIGEST_MAX], const char *src);

/* Streaming hash. like: a valid digest whose algorithm to use, or NULL for sha256. */
struct oci_hash;
int oci_hash_new(const char *like, struct oci_hash **ret, struct err *e);
void oci_hash_free(struct oci_hash *h);
DEFINE_CLEANUP(struct oci_hash *, oci_hash_free)
void oci_hash_update(struct oci_hash *h, const void *data, size_t n);
/* Writes the digest; the hash is used up (free it). */
void oci_hash_final(struct oci_hash *h, char ret[OCI_DIGEST_MAX]);

int oci_digest_of(const void *data, size_t n, char ret[OCI_DIGEST_MAX], struct err *e);
/* The same by the algorithm of another digest, to be compared with it; like as in oci_hash_new. */
int oci_digest_like(const char *like, const void *data, size_t n, char ret[OCI_DIGEST_MAX], struct err *e);

#endif
