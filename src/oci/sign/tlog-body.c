/* SPDX-License-Identifier: MIT */
/*
 * What a log entry is about. The log's signature says that the entry was there, not that it has to do with the signature
 * it came with; so each kind of entry must name this signature, what it is over, and who made it:
 *
 *     hashedrekord 0.0.1, 0.0.2   hash of the message, signature, key or certificate
 *     dsse 0.0.1, 0.0.2           hash of the envelope's payload, its signature, key or certificate
 *     intoto 0.0.2                the same, the signature encoded twice
 *
 * intoto 0.0.1 does not name the signature, and is refused.
 */
#include <string.h>

#include "base/io.h"
#include "sign/evidence.h"

#define WHAT "log entry"

static int refuse(struct err *e, const char *why)
{
	return err_set(e, -EKEYREJECTED, "the transparency log's entry is about another %s", why);
}

struct subject {
	const struct evidence *v;
	const struct sign_key *key;
	const struct sign_cert *leaf; /* NULL: signed with a bare key */
};

/* ---- who ---- */

static int check_cert(const struct bytes *der, const struct subject *s, struct err *e)
{
	CLEANUP(sign_cert_freep) struct sign_cert *c = NULL;
	CLEANUP(sign_key_freep) struct sign_key *k = NULL;

	if (s->leaf)
		return bytes_equal(der, &s->leaf->der) ? 0 : refuse(e, "certificate");
	int r = cert_from_der(der, WHAT "'s certificate", &c, e);
	if (r == 0)
		r = cert_key(c, WHAT "'s certificate", &k, e);
	return r < 0 ? r : key_equal(k, s->key) ? 0 : refuse(e, "key");
}

static int check_key(const struct bytes *der, const struct subject *s, struct err *e)
{
	CLEANUP(sign_key_freep) struct sign_key *k = NULL;

	if (s->leaf)
		return refuse(e, "certificate");
	int r = key_from_der(der, false, WHAT "'s key", &k, e);
	if (r == -EINVAL)
		return refuse(e, "key");
	return r < 0 ? r : key_equal(k, s->key) ? 0 : refuse(e, "key");
}

/* A member with base64 of one PEM block. */
static int check_pem(const json_t *o, const char *member, const struct subject *s, struct err *e)
{
	CLEANUP(bytes_done) struct bytes text = {0}, der = {0}, more = {0};
	char label[PEM_LABEL_MAX], other[PEM_LABEL_MAX];
	int r = doc_bytes(WHAT, o, member, &text, e);

	if (r < 0)
		return r;
	const char *p = (const char *)text.p, *end = p + text.n;
	r = pem_next(&p, end, false, label, &der);
	if (r == -ENOMEM)
		return err_oom(e);
	if (r < 0 || pem_next(&p, end, false, other, &more) != -ENOENT)
		return refuse(e, "key");
	if (strcmp(label, "CERTIFICATE") == 0)
		return check_cert(&der, s, e);
	return strcmp(label, "PUBLIC KEY") == 0 ? check_key(&der, s, e) : refuse(e, "key");
}

/* verifier of the second generation: DER. */
static int check_verifier(const json_t *o, const struct subject *s, struct err *e)
{
	CLEANUP(bytes_done) struct bytes der = {0};
	const json_t *verifier, *cert, *key;
	int r = doc_object(WHAT, o, "verifier", &verifier, e);

	if (r < 0)
		return r;
	cert = json_object_get(verifier, "x509Certificate");
	key = json_object_get(verifier, "publicKey");
	if (!cert == !key)
		return refuse(e, "key");
	r = doc_bytes(WHAT, cert ? cert : key, "rawBytes", &der, e);
	if (r < 0)
		return r;
	return cert ? check_cert(&der, s, e) : check_key(&der, s, e);
}

/* ---- what ---- */

static int check_signature(const json_t *o, const char *member, const struct subject *s, struct err *e)
{
	CLEANUP(bytes_done) struct bytes sig = {0};
	int r = doc_bytes(WHAT, o, member, &sig, e);

	return r < 0 ? r : bytes_equal(&sig, &s->v->signature) ? 0 : refuse(e, "signature");
}

static const EVP_MD *algorithm(const struct signlib *l, const char *name, size_t *ret_len)
{
	static const struct {
		const char *name;
		size_t len;
	} known[] = {{"sha256", 32}, {"sha384", 48}, {"sha512", 64}};

	for (size_t i = 0; i < ARRAY_LEN(known); i++)
		if (strcmp(known[i].name, name) == 0) {
			*ret_len = known[i].len;
			return i == 0 ? l->EVP_sha256() : i == 1 ? l->EVP_sha384() : l->EVP_sha512();
		}
	return NULL;
}

/* {"algorithm": …, "value": hex} of data; with data->p NULL, of what sha256 is the hash of. */
static int check_hash(
	const json_t *o, const char *member, const struct bytes *data, const uint8_t *sha256, struct err *e)
{
	const struct signlib *l = signlib_get(e);
	const char *name, *value;
	const json_t *h;
	uint8_t hash[EVP_MAX_MD_SIZE];
	char hex[2 * EVP_MAX_MD_SIZE + 1];
	size_t len = 0;

	if (!l)
		return -ENOENT;
	int r = doc_object(WHAT, o, member, &h, e);
	if (r < 0 || (r = doc_str(WHAT, h, "algorithm", &name, e)) < 0 ||
		(r = doc_str(WHAT, h, "value", &value, e)) < 0)
		return r;
	const EVP_MD *md = algorithm(l, name, &len);
	if (!md || (!data->p && (len != SHA256_LEN || !sha256)))
		return refuse(e, "kind of hash");
	if (!data->p)
		memcpy(hash, sha256, SHA256_LEN);
	else if (!l->EVP_Digest(data->p, data->n, hash, NULL, md, NULL))
		return err_set(e, -EIO, "cannot compute a digest");
	hex_encode(hex, hash, len);
	return strcmp(hex, value) == 0 ? 0 : refuse(e, "content");
}

/* {"algorithm": "SHA2_256", "digest": base64}. */
static int check_hash_v2(const json_t *o, const char *member, const uint8_t sha256[SHA256_LEN], struct err *e)
{
	CLEANUP(bytes_done) struct bytes have = {0};
	const json_t *h;
	int r = doc_object(WHAT, o, member, &h, e);

	if (r < 0 || (r = doc_equal(WHAT, h, "algorithm", "SHA2_256", e)) < 0 ||
		(r = doc_bytes(WHAT, h, "digest", &have, e)) < 0)
		return r;
	return have.n == SHA256_LEN && memcmp(have.p, sha256, SHA256_LEN) == 0 ? 0 : refuse(e, "content");
}

/* The only element of a list. */
static int only(const json_t *o, const char *member, const json_t **ret, struct err *e)
{
	const json_t *list;
	int r = doc_array(WHAT, o, member, 1, &list, e);

	*ret = r == 0 ? json_array_get(list, 0) : NULL;
	return r < 0 ? r : *ret ? 0 : refuse(e, "signature");
}

/* ---- kinds ---- */

static int hashedrekord_1(const json_t *spec, const struct subject *s, struct err *e)
{
	const json_t *data, *sig, *key;
	int r;

	if ((r = doc_object(WHAT, spec, "data", &data, e)) < 0 ||
		(r = check_hash(data, "hash", &s->v->message, s->v->hash, e)) < 0 ||
		(r = doc_object(WHAT, spec, "signature", &sig, e)) < 0 ||
		(r = check_signature(sig, "content", s, e)) < 0 ||
		(r = doc_object(WHAT, sig, "publicKey", &key, e)) < 0)
		return r;
	return check_pem(key, "content", s, e);
}

static int hashedrekord_2(const json_t *spec, const struct subject *s, struct err *e)
{
	const json_t *v2, *sig;
	int r;

	if ((r = doc_object(WHAT, spec, "hashedRekordV002", &v2, e)) < 0 ||
		(r = check_hash_v2(v2, "data", s->v->hash, e)) < 0 ||
		(r = doc_object(WHAT, v2, "signature", &sig, e)) < 0 ||
		(r = check_signature(sig, "content", s, e)) < 0)
		return r;
	return check_verifier(sig, s, e);
}

static int dsse_1(const json_t *spec, const struct subject *s, struct err *e)
{
	const json_t *one;
	int r;

	if ((r = check_hash(spec, "payloadHash", &s->v->payload, NULL, e)) < 0 ||
		(r = only(spec, "signatures", &one, e)) < 0 ||
		(r = check_signature(one, "signature", s, e)) < 0)
		return r;
	return check_pem(one, "verifier", s, e);
}

static int dsse_2(const json_t *spec, const struct subject *s, struct err *e)
{
	const json_t *v2, *one;
	uint8_t hash[SHA256_LEN];
	int r = sign_sha256(s->v->payload.p, s->v->payload.n, hash, e);

	if (r < 0 || (r = doc_object(WHAT, spec, "dsseV002", &v2, e)) < 0 ||
		(r = check_hash_v2(v2, "payloadHash", hash, e)) < 0 ||
		(r = only(v2, "signatures", &one, e)) < 0 || (r = check_signature(one, "content", s, e)) < 0)
		return r;
	return check_verifier(one, s, e);
}

static int intoto_2(const json_t *spec, const struct subject *s, struct err *e)
{
	CLEANUP(bytes_done) struct bytes text = {0}, sig = {0};
	const json_t *content, *envelope, *one;
	int r;

	if ((r = doc_object(WHAT, spec, "content", &content, e)) < 0 ||
		(r = check_hash(content, "payloadHash", &s->v->payload, NULL, e)) < 0 ||
		(r = doc_object(WHAT, content, "envelope", &envelope, e)) < 0 ||
		(r = only(envelope, "signatures", &one, e)) < 0 ||
		(r = doc_bytes(WHAT, one, "sig", &text, e)) < 0)
		return r;
	r = b64_bytes((const char *)text.p, text.n, &sig);
	if (r == -ENOMEM)
		return err_oom(e);
	if (r < 0 || !bytes_equal(&sig, &s->v->signature))
		return refuse(e, "signature");
	return check_pem(one, "publicKey", s, e);
}

static const struct body_kind {
	const char *kind, *version;
	bool of_envelope; /* only of envelopes */
	int (*check)(const json_t *spec, const struct subject *s, struct err *e);
} kinds[] = {
	{"hashedrekord", "0.0.1", false, hashedrekord_1},
	{"hashedrekord", "0.0.2", false, hashedrekord_2},
	{"dsse", "0.0.1", true, dsse_1},
	{"dsse", "0.0.2", true, dsse_2},
	{"intoto", "0.0.2", true, intoto_2},
};

int tlog_body_check(const struct log_entry *t, const struct evidence *v, const struct sign_key *key,
	const struct sign_cert *leaf, struct err *e)
{
	CLEANUP(json_done) json_t *j = NULL;
	const struct subject s = {.v = v, .key = key, .leaf = leaf};
	const char *kind, *version;
	const json_t *spec;
	int r = doc_parse(WHAT, t->body.p, t->body.n, &j, e);

	if (r < 0 || (r = doc_str(WHAT, j, "kind", &kind, e)) < 0 ||
		(r = doc_str(WHAT, j, "apiVersion", &version, e)) < 0 ||
		(r = doc_object(WHAT, j, "spec", &spec, e)) < 0)
		return r;
	if ((t->kind && strcmp(t->kind, kind) != 0) || (t->version && strcmp(t->version, version) != 0))
		return refuse(e, "kind of thing");
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		const struct body_kind *k = &kinds[i];
		if (strcmp(k->kind, kind) == 0 && strcmp(k->version, version) == 0)
			return k->of_envelope && !v->is_envelope ? refuse(e, "kind of thing")
								 : k->check(spec, &s, e);
	}
	return err_set(e, -EKEYREJECTED,
		"the transparency log's entry is of a kind that cannot be checked (%.50s %.20s)", kind,
		version);
}
