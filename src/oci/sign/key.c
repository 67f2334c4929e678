/* SPDX-License-Identifier: MIT */
#include "sign/key.h"

#include <string.h>

#define RSA_BITS_MIN 2048
#define RSA_BITS_MAX 8192 /* beyond, a check costs more than any honest key is worth */
#define SIG_MAX	     2048 /* bytes of a signature: more than the longest of those keys */
#define KEY_DOC_MAX  (64u << 10)

int key_kind_of(
	const struct signlib *l, const EVP_PKEY *pkey, const char *what, enum key_kind *ret, struct err *e)
{
	char group[64] = "";
	size_t n = 0;

	if (l->EVP_PKEY_is_a(pkey, "ED25519")) {
		*ret = KEY_ED25519;
	} else if (l->EVP_PKEY_is_a(pkey, "RSA")) {
		int bits = l->EVP_PKEY_get_bits(pkey);
		if (bits < RSA_BITS_MIN || bits > RSA_BITS_MAX)
			return err_set(e, -EINVAL, "%s is an RSA key of %d bits (%d to %d are accepted)",
				what, bits, RSA_BITS_MIN, RSA_BITS_MAX);
		*ret = KEY_RSA;
	} else if (l->EVP_PKEY_is_a(pkey, "EC") &&
		   l->EVP_PKEY_get_group_name(pkey, group, sizeof(group), &n) &&
		   strcmp(group, "prime256v1") == 0) {
		*ret = KEY_P256;
	} else if (strcmp(group, "secp384r1") == 0) {
		*ret = KEY_P384;
	} else {
		return err_set(e, -EINVAL,
			"%s is of a kind that is not supported (ECDSA P-256 and P-384, RSA and "
			"Ed25519 are)",
			what);
	}
	return 0;
}

int key_from_pkey(EVP_PKEY *pkey, const char *what, struct sign_key **ret, struct err *e)
{
	const struct signlib *l = signlib_get(e);
	unsigned char *der = NULL;

	if (!l)
		return -ENOENT;
	CLEANUP(sign_key_freep) struct sign_key *k = calloc(1, sizeof(*k));
	if (!k || !l->EVP_PKEY_up_ref(pkey))
		return err_oom(e);
	k->l = l;
	k->pkey = pkey;
	int r = key_kind_of(l, pkey, what, &k->kind, e);
	if (r < 0)
		return r;
	int n = l->i2d_PUBKEY(pkey, &der);
	if (n <= 0)
		return err_set(e, -EINVAL, "%s cannot be encoded", what);
	k->spki = (struct bytes){.p = malloc((size_t)n), .n = (size_t)n};
	if (k->spki.p)
		memcpy(k->spki.p, der, (size_t)n);
	l->CRYPTO_free(der, __FILE__, __LINE__);
	if (!k->spki.p)
		return err_oom(e);
	r = sign_sha256(k->spki.p, k->spki.n, k->id, e);
	if (r == 0)
		*ret = TAKE_PTR(k);
	return r;
}

int key_from_der(const struct bytes *der, bool rsa, const char *what, struct sign_key **ret, struct err *e)
{
	const struct signlib *l = signlib_get(e);

	if (!l)
		return -ENOENT;
	const unsigned char *p = der->p;
	EVP_PKEY *pkey = NULL;
	if (der->n <= KEY_DOC_MAX)
		pkey = l->d2i_PUBKEY(NULL, &p, (long)der->n);
	if (!pkey && rsa && der->n <= KEY_DOC_MAX) {
		p = der->p;
		pkey = l->d2i_PublicKey(EVP_PKEY_RSA, NULL, &p, (long)der->n);
	}
	l->ERR_clear_error();
	int r;
	if (!pkey || p != der->p + der->n)
		r = err_set(e, -EINVAL, "%s is not a public key", what);
	else
		r = key_from_pkey(pkey, what, ret, e);
	l->EVP_PKEY_free(pkey);
	return r;
}

int sign_key_parse(const char *pem, size_t n, const char *what, struct sign_key **ret, struct err *e)
{
	CLEANUP(bytes_done) struct bytes der = {0}, more = {0};
	char label[PEM_LABEL_MAX] = "", other[PEM_LABEL_MAX];
	const char *p = pem;

	if (n > KEY_DOC_MAX)
		return err_set(e, -EINVAL, "%s is larger than %u KiB", what, KEY_DOC_MAX >> 10);
	int r = pem_next(&p, pem + n, false, label, &der);
	if (r == -ENOMEM)
		return err_oom(e);
	if (r < 0)
		return err_set(e, -EINVAL, "%s is not a public key in PEM format", what);
	if (strstr(label, "PRIVATE KEY"))
		return err_set(e, -EINVAL, "%s is a private key; the public one is needed", what);
	if (strcmp(label, "PUBLIC KEY") != 0)
		return err_set(e, -EINVAL, "%s is not a public key, but a PEM block \"%s\"", what, label);
	r = pem_next(&p, pem + n, false, other, &more);
	if (r != -ENOENT)
		return r == 0 ? err_set(e, -EINVAL, "%s holds more than one key", what)
			      : err_set(e, -EINVAL, "%s has something behind the key", what);
	return key_from_der(&der, false, what, ret, e);
}

void sign_key_free(struct sign_key *k)
{
	if (!k)
		return;
	if (k->pkey)
		k->l->EVP_PKEY_free(k->pkey);
	bytes_done(&k->spki);
	free(k);
}

bool key_equal(const struct sign_key *a, const struct sign_key *b)
{
	return bytes_equal(&a->spki, &b->spki);
}

/* ---- signatures ---- */

/* One way of signing: a hash (NULL: none of its own), and RSA's padding. */
static bool verify_with(const struct sign_key *k, const EVP_MD *md, int padding, const void *msg, size_t n,
	const struct bytes *sig)
{
	const struct signlib *l = k->l;
	EVP_MD_CTX *ctx = l->EVP_MD_CTX_new();
	EVP_PKEY_CTX *pctx = NULL;

	bool ok = ctx && l->EVP_DigestVerifyInit(ctx, &pctx, md, NULL, k->pkey) == 1;
	if (ok && padding)
		ok = l->EVP_PKEY_CTX_set_rsa_padding(pctx, padding) > 0;
	if (ok && padding == RSA_PKCS1_PSS_PADDING)
		ok = l->EVP_PKEY_CTX_set_rsa_pss_saltlen(pctx, RSA_PSS_SALTLEN_AUTO) > 0;
	ok = ok && l->EVP_DigestVerify(ctx, sig->p, sig->n, msg, n) == 1;
	l->EVP_MD_CTX_free(ctx);
	l->ERR_clear_error();
	return ok;
}

static int no_match(struct err *e)
{
	return err_set(e, -EKEYREJECTED, "the signature is not by this key");
}

int key_verify(const struct sign_key *k, const void *msg, size_t n, const struct bytes *sig, struct err *e)
{
	const struct signlib *l = k->l;
	bool ok = false;

	if (!sig->p || sig->n > SIG_MAX)
		return no_match(e);
	switch (k->kind) {
	case KEY_P384: /* cosign signs with SHA-256 whatever the curve; Fulcio and others with the curve's own */
		ok = verify_with(k, l->EVP_sha384(), 0, msg, n, sig);
		__attribute__((fallthrough));
	case KEY_P256:
		ok = ok || verify_with(k, l->EVP_sha256(), 0, msg, n, sig);
		break;
	case KEY_RSA:
		ok = verify_with(k, l->EVP_sha256(), RSA_PKCS1_PADDING, msg, n, sig) ||
		     verify_with(k, l->EVP_sha256(), RSA_PKCS1_PSS_PADDING, msg, n, sig);
		break;
	case KEY_ED25519:
		ok = verify_with(k, NULL, 0, msg, n, sig);
		break;
	}
	return ok ? 0 : no_match(e);
}

static bool verify_hash_with(
	const struct sign_key *k, int padding, const uint8_t hash[SHA256_LEN], const struct bytes *sig)
{
	const struct signlib *l = k->l;
	EVP_PKEY_CTX *ctx = l->EVP_PKEY_CTX_new(k->pkey, NULL);

	bool ok = ctx && l->EVP_PKEY_verify_init(ctx) == 1;
	if (ok && padding)
		ok = l->EVP_PKEY_CTX_set_rsa_padding(ctx, padding) > 0;
	ok = ok && l->EVP_PKEY_CTX_set_signature_md(ctx, l->EVP_sha256()) > 0;
	if (ok && padding == RSA_PKCS1_PSS_PADDING)
		ok = l->EVP_PKEY_CTX_set_rsa_pss_saltlen(ctx, RSA_PSS_SALTLEN_AUTO) > 0;
	ok = ok && l->EVP_PKEY_verify(ctx, sig->p, sig->n, hash, SHA256_LEN) == 1;
	l->EVP_PKEY_CTX_free(ctx);
	l->ERR_clear_error();
	return ok;
}

int key_verify_sha256(
	const struct sign_key *k, const uint8_t hash[SHA256_LEN], const struct bytes *sig, struct err *e)
{
	if (!sig->p || sig->n > SIG_MAX)
		return no_match(e);
	if (k->kind == KEY_ED25519)
		return err_set(e, -EKEYREJECTED,
			"an Ed25519 signature over the manifest itself cannot be checked by its digest");
	bool ok = k->kind != KEY_RSA ? verify_hash_with(k, 0, hash, sig)
				     : verify_hash_with(k, RSA_PKCS1_PADDING, hash, sig) ||
					       verify_hash_with(k, RSA_PKCS1_PSS_PADDING, hash, sig);
	return ok ? 0 : no_match(e);
}
