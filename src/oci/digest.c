/* SPDX-License-Identifier: MIT */
#include "digest.h"

#include <stdint.h>
#include <string.h>

#include "base/io.h"
#include "libs.h"

static const struct {
	const char *name;
	size_t hex_len;
} algorithms[] = {{"sha256", OCI_SHA256_HEX_LEN}, {"sha512", 128}};

struct oci_hash {
	const struct libcrypto *lib;
	EVP_MD_CTX *ctx;
	bool sha512, failed;
};

static int algorithm_of(const char *s)
{
	const char *colon = s ? strchr(s, ':') : NULL;

	for (size_t i = 0; colon && i < ARRAY_LEN(algorithms); i++)
		if (strlen(algorithms[i].name) == (size_t)(colon - s) &&
			strncmp(s, algorithms[i].name, (size_t)(colon - s)) == 0)
			return (int)i;
	return -1;
}

bool oci_digest_valid(const char *s)
{
	int a = algorithm_of(s);

	if (a < 0)
		return false;
	const char *hex = oci_digest_hex(s);
	return strspn(hex, "0123456789abcdef") == algorithms[a].hex_len && !hex[algorithms[a].hex_len];
}

const char *oci_digest_hex(const char *digest)
{
	const char *colon = strchr(digest, ':');

	return colon ? colon + 1 : "";
}

const char *oci_digest_alg(const char *digest)
{
	return algorithm_of(digest) == 1 ? "sha512" : "sha256";
}

void oci_digest_copy(char dst[OCI_DIGEST_MAX], const char *src)
{
	size_t n = strnlen(src, OCI_DIGEST_MAX - 1);

	memmove(dst, src, n);
	dst[n] = '\0';
}

int oci_hash_new(const char *like, struct oci_hash **ret, struct err *e)
{
	const struct libcrypto *lib = libcrypto_get(e);

	if (!lib)
		return -ENOENT;
	CLEANUP(oci_hash_freep) struct oci_hash *h = calloc(1, sizeof(*h));
	if (!h)
		return err_oom(e);
	h->lib = lib;
	h->sha512 = algorithm_of(like) == 1;
	h->ctx = lib->EVP_MD_CTX_new();
	if (!h->ctx ||
		!lib->EVP_DigestInit_ex(h->ctx, h->sha512 ? lib->EVP_sha512() : lib->EVP_sha256(), NULL))
		return err_set(e, -EIO, "cannot set up %s", h->sha512 ? "SHA-512" : "SHA-256");
	*ret = TAKE_PTR(h);
	return 0;
}

void oci_hash_free(struct oci_hash *h)
{
	if (!h)
		return;
	h->lib->EVP_MD_CTX_free(h->ctx);
	free(h);
}

void oci_hash_update(struct oci_hash *h, const void *data, size_t n)
{
	if (!h->lib->EVP_DigestUpdate(h->ctx, data, n))
		h->failed = true;
}

void oci_hash_final(struct oci_hash *h, char ret[OCI_DIGEST_MAX])
{
	uint8_t md[EVP_MAX_MD_SIZE];
	unsigned int n = 0;

	/* An empty digest equals no valid one, so a failure of the library reads as a mismatch. */
	ret[0] = '\0';
	if (h->failed || !h->lib->EVP_DigestFinal_ex(h->ctx, md, &n))
		return;
	memcpy(ret, h->sha512 ? "sha512:" : "sha256:", 7);
	hex_encode(ret + 7, md, n);
}

int oci_digest_of(const void *data, size_t n, char ret[OCI_DIGEST_MAX], struct err *e)
{
	return oci_digest_like(NULL, data, n, ret, e);
}

int oci_digest_like(const char *like, const void *data, size_t n, char ret[OCI_DIGEST_MAX], struct err *e)
{
	CLEANUP(oci_hash_freep) struct oci_hash *h = NULL;
	int r = oci_hash_new(like, &h, e);

	if (r < 0)
		return r;
	oci_hash_update(h, data, n);
	oci_hash_final(h, ret);
	return *ret ? 0 : err_set(e, -EIO, "cannot compute a digest");
}
