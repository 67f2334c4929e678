/* SPDX-License-Identifier: MIT */
/*
 * Private keys and what is signed with them. Cosign's own format is a PEM block around JSON:
 *
 *     {"kdf": {"name": "scrypt", "params": {"N": 65536, "r": 8, "p": 1}, "salt": base64},
 *      "cipher": {"name": "nacl/secretbox", "nonce": base64}, "ciphertext": base64}
 *
 * whose plain text is PKCS#8 in DER.
 */
#include <string.h>

#include "base/b64.h"
#include "digest.h"
#include "sign/key.h"

#define KEY_FILE_MAX   (64u << 10)
#define SCRYPT_MEM_MAX (128u << 20) /* bytes; cosign's own parameters need 64 MiB */
#define SCRYPT_OPS_MAX (1u << 23)   /* N * r * p: some seconds */

struct sign_private {
	const struct signlib *l;
	EVP_PKEY *pkey;
	enum key_kind kind;
};
DEFINE_CLEANUP(struct sign_private *, sign_private_free)

void sign_private_free(struct sign_private *k)
{
	if (!k)
		return;
	if (k->pkey)
		k->l->EVP_PKEY_free(k->pkey);
	free(k);
}

static int wrong_password(const char *password, struct err *e)
{
	return err_set(e, -EACCES,
		password ? "the password does not open the private key" : "the private key needs a password");
}

/* ---- cosign's format ---- */

struct sealed {
	struct bytes salt, nonce, text;
	int64_t n, r, p;
};

static void sealed_done(struct sealed *s)
{
	bytes_done(&s->salt);
	bytes_done(&s->nonce);
	bytes_done(&s->text);
}

static int parse_sealed(const struct bytes *json, struct sealed *s, struct err *e)
{
	static const char what[] = "private key";
	CLEANUP(json_done) json_t *j = NULL;
	const json_t *kdf, *params, *cipher;
	int r = doc_parse(what, json->p, json->n, &j, e);

	if (r < 0 || (r = doc_object(what, j, "kdf", &kdf, e)) < 0 ||
		(r = doc_equal(what, kdf, "name", "scrypt", e)) < 0 ||
		(r = doc_object(what, kdf, "params", &params, e)) < 0 ||
		(r = doc_int64(what, params, "N", &s->n, e)) < 0 ||
		(r = doc_int64(what, params, "r", &s->r, e)) < 0 ||
		(r = doc_int64(what, params, "p", &s->p, e)) < 0 ||
		(r = doc_bytes(what, kdf, "salt", &s->salt, e)) < 0 ||
		(r = doc_object(what, j, "cipher", &cipher, e)) < 0 ||
		(r = doc_equal(what, cipher, "name", "nacl/secretbox", e)) < 0 ||
		(r = doc_bytes(what, cipher, "nonce", &s->nonce, e)) < 0 ||
		(r = doc_bytes(what, j, "ciphertext", &s->text, e)) < 0)
		return r;
	int64_t mem, ops;
	if (s->n < 2 || (s->n & (s->n - 1)) || s->r < 1 || s->p < 1 ||
		__builtin_mul_overflow(s->n, s->r, &mem) || __builtin_mul_overflow(mem, s->p, &ops) ||
		ops > SCRYPT_OPS_MAX || __builtin_mul_overflow(mem, 128, &mem) || mem > SCRYPT_MEM_MAX)
		return err_set(e, -EBADMSG, "%s has scrypt parameters beyond what is accepted", what);
	if (s->nonce.n != crypto_secretbox_NONCEBYTES || s->text.n <= crypto_secretbox_MACBYTES)
		return err_set(e, -EBADMSG, "%s is malformed", what);
	return 0;
}

/* 0, or -errno with *e set. *ret is the plain text. */
static int unseal(const struct sealed *s, const char *password, struct bytes *ret, struct err *e)
{
	const struct signlib *l = signlib_get(e);
	const struct sodium *na = l ? sodium_get(e) : NULL;
	uint8_t key[crypto_secretbox_KEYBYTES];

	if (!na)
		return -ENOENT;
	if (na->sodium_init() < 0)
		return err_set(e, -EIO, "libsodium does not start");
	/* The library adds some of its own to what the parameters need. */
	if (!l->EVP_PBE_scrypt(password, strlen(password), s->salt.p, s->salt.n, (uint64_t)s->n,
		    (uint64_t)s->r, (uint64_t)s->p, SCRYPT_MEM_MAX + (8u << 20), key, sizeof(key))) {
		l->ERR_clear_error();
		return err_set(e, -EIO, "cannot derive the private key's key");
	}
	size_t n = s->text.n - crypto_secretbox_MACBYTES;
	uint8_t *p = malloc(n + 1);
	int r = p ? 0 : err_oom(e);
	if (r == 0 && na->crypto_secretbox_open_easy(p, s->text.p, s->text.n, s->nonce.p, key) != 0)
		r = wrong_password(password, e);
	na->sodium_memzero(key, sizeof(key));
	if (r < 0)
		free(p);
	else
		*ret = (struct bytes){.p = p, .n = n};
	return r;
}

static int open_cosign(const struct bytes *json, const char *password, EVP_PKEY **ret, struct err *e)
{
	CLEANUP(sealed_done) struct sealed s = {0};
	struct bytes plain = {0};
	const struct signlib *l = signlib_get(e);

	if (!l)
		return -ENOENT;
	if (!password)
		return wrong_password(password, e);
	int r = parse_sealed(json, &s, e);
	if (r == -EBADMSG && e)
		e->code = -EINVAL;
	if (r == 0)
		r = unseal(&s, password, &plain, e);
	if (r < 0)
		return r == -EBADMSG ? -EINVAL : r;
	const unsigned char *p = plain.p;
	*ret = l->d2i_AutoPrivateKey(NULL, &p, (long)plain.n);
	l->ERR_clear_error();
	l->OPENSSL_cleanse(plain.p, plain.n);
	bytes_done(&plain);
	return *ret ? 0 : err_set(e, -EINVAL, "the private key cannot be read");
}

/* ---- PKCS#8 ---- */

struct prompt {
	const char *password;
	bool asked;
};

static int give_password(char *buf, int size, int writing, void *data)
{
	struct prompt *p = data;
	size_t n = p->password ? strlen(p->password) : 0;

	(void)writing;
	p->asked = true;
	if (!p->password || n > (size_t)size)
		return -1;
	memcpy(buf, p->password, n);
	return (int)n;
}

static int open_pem(const char *pem, size_t n, const char *password, EVP_PKEY **ret, struct err *e)
{
	const struct signlib *l = signlib_get(e);
	struct prompt prompt = {.password = password};

	if (!l)
		return -ENOENT;
	BIO *bio = l->BIO_new_mem_buf(pem, (int)n);
	if (!bio)
		return err_oom(e);
	*ret = l->PEM_read_bio_PrivateKey(bio, NULL, give_password, &prompt);
	l->BIO_free(bio);
	l->ERR_clear_error();
	if (*ret)
		return 0;
	if (prompt.asked)
		return wrong_password(password, e);
	return err_set(e, -EINVAL, "not a private key in PEM format");
}

int sign_private_parse(
	const char *pem, size_t n, const char *password, struct sign_private **ret, struct err *e)
{
	CLEANUP(bytes_done) struct bytes der = {0}, more = {0};
	CLEANUP(sign_private_freep) struct sign_private *k = calloc(1, sizeof(*k));
	char label[PEM_LABEL_MAX] = "", other[PEM_LABEL_MAX];
	const char *p = pem;

	if (!k)
		return err_oom(e);
	k->l = signlib_get(e);
	if (!k->l)
		return -ENOENT;
	if (n > KEY_FILE_MAX)
		return err_set(e, -EINVAL, "private key is larger than %u KiB", KEY_FILE_MAX >> 10);
	int r = pem_next(&p, pem + n, true, label, &der);
	bool cosign = strcmp(label, "ENCRYPTED SIGSTORE PRIVATE KEY") == 0 ||
		      strcmp(label, "ENCRYPTED COSIGN PRIVATE KEY") == 0;
	if (cosign && (r < 0 || pem_next(&p, pem + n, false, other, &more) != -ENOENT))
		return err_set(e, -EINVAL, "private key is malformed, or there are several");
	r = cosign ? open_cosign(&der, password, &k->pkey, e) : open_pem(pem, n, password, &k->pkey, e);
	if (r == 0)
		r = key_kind_of(k->l, k->pkey, "private key", &k->kind, e);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(k);
	return 0;
}

int sign_private_public(const struct sign_private *k, struct sign_key **ret, struct err *e)
{
	return key_from_pkey(k->pkey, "private key", ret, e);
}

/* ---- signing ---- */

static int sign(const struct sign_private *k, const char *text, char **ret, struct err *e)
{
	const struct signlib *l = k->l;
	const EVP_MD *md = k->kind == KEY_ED25519 ? NULL : l->EVP_sha256();
	uint8_t sig[2048];
	size_t n = sizeof(sig);
	EVP_MD_CTX *ctx = l->EVP_MD_CTX_new();

	bool ok = ctx && l->EVP_DigestSignInit(ctx, NULL, md, NULL, k->pkey) == 1 &&
		  l->EVP_DigestSign(ctx, sig, &n, (const unsigned char *)text, strlen(text)) == 1;
	l->EVP_MD_CTX_free(ctx);
	l->ERR_clear_error();
	if (!ok)
		return err_set(e, -EIO, "the private key does not sign");
	*ret = malloc(B64_SIZE(n));
	if (!*ret)
		return err_oom(e);
	b64_encode(*ret, sig, n);
	return 0;
}

int sign_simple(const struct sign_private *k, const char *repository, const char *digest, char **ret_payload,
	char **ret_signature, struct err *e)
{
	if (!oci_digest_valid(digest))
		return err_set(e, -EINVAL, "\"%.140s\" is not a digest", digest);
	/* Members in cosign's order. */
	CLEANUP(json_done)
	json_t *j = json_pack("{s:{s:{s:s}, s:{s:s}, s:s}, s:n}", "critical", "identity", "docker-reference",
		repository, "image", "docker-manifest-digest", digest, "type",
		"cosign container image signature", "optional");
	CLEANUP_FREE char *text = j ? json_dumps(j, JSON_COMPACT) : NULL;

	if (!text)
		return j ? err_oom(e) : err_set(e, -EINVAL, "the repository's name is not valid UTF-8");
	int r = sign(k, text, ret_signature, e);
	if (r == 0)
		*ret_payload = TAKE_PTR(text);
	return r;
}
