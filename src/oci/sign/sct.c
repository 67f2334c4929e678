/* SPDX-License-Identifier: MIT */
/*
 * Signed certificate timestamps inside a certificate (RFC 6962). What a log signed is the certificate without them (a
 * "precertificate"), and the key of its issuer:
 *
 *     version=0  signature_type=0  timestamp:8  entry_type=1:2  issuer_key_hash:32  tbs<3>  extensions<2>
 *
 * The extension holds an OCTET STRING with a list<2> of SCT<2>:
 *
 *     version=0  log_id:32  timestamp:8  extensions<2>  hash:1  signature:1  signature<2>
 */
#include <string.h>

#include "base/buf.h"
#include "sign/root.h"

#define OID_SCT_LIST "1.3.6.1.4.1.11129.2.4.2"
#define SCTS_MAX     16

enum { SCT_V1 = 0, TLS_SHA256 = 4, TLS_RSA = 1, TLS_ECDSA = 3 };

struct reader {
	const uint8_t *p, *end;
};

struct sct {
	const uint8_t *log_id, *timestamp; /* SHA256_LEN and 8 bytes */
	struct reader extensions, signature;
	uint8_t hash, algorithm;
};

static bool take(struct reader *r, size_t n, const uint8_t **ret)
{
	if ((size_t)(r->end - r->p) < n)
		return false;
	*ret = r->p;
	r->p += n;
	return true;
}

static bool take_vector(struct reader *r, struct reader *ret)
{
	const uint8_t *len, *data;

	if (!take(r, 2, &len))
		return false;
	size_t n = (size_t)len[0] << 8 | len[1];
	if (!take(r, n, &data))
		return false;
	*ret = (struct reader){.p = data, .end = data + n};
	return true;
}

static bool parse_sct(struct reader r, struct sct *s)
{
	const uint8_t *version, *algorithms;

	if (!take(&r, 1, &version) || *version != SCT_V1 || !take(&r, SHA256_LEN, &s->log_id) ||
		!take(&r, 8, &s->timestamp) || !take_vector(&r, &s->extensions) ||
		!take(&r, 2, &algorithms) || !take_vector(&r, &s->signature))
		return false;
	s->hash = algorithms[0];
	s->algorithm = algorithms[1];
	return r.p == r.end;
}

static const struct sign_log *log_of(const struct sign_root *root, const struct sct *s)
{
	int64_t ms = 0;

	if (s->timestamp[0] & 0x80)
		return NULL;
	for (int i = 0; i < 8; i++)
		ms = ms << 8 | s->timestamp[i];
	for (size_t i = 0; i < root->n_ctlogs; i++)
		if (memcmp(root->ctlogs[i].id, s->log_id, SHA256_LEN) == 0 &&
			valid_at(&root->ctlogs[i].valid, ms / 1000))
			return &root->ctlogs[i];
	return NULL;
}

static bool algorithm_fits(const struct sct *s, enum key_kind kind)
{
	if (s->hash != TLS_SHA256)
		return false;
	return kind == KEY_RSA ? s->algorithm == TLS_RSA
			       : s->algorithm == TLS_ECDSA && (kind == KEY_P256 || kind == KEY_P384);
}

/* 0: good. -EKEYREJECTED without a message: not this one. */
static int check_sct(const struct sct *s, const struct sign_log *log, const uint8_t issuer[SHA256_LEN],
	const struct bytes *tbs)
{
	CLEANUP(buf_done) struct buf b = {0};
	CLEANUP(bytes_done) struct bytes sig = {0};
	const uint8_t head[] = {SCT_V1, 0}, type[] = {0, 1};
	const uint8_t len[] = {(uint8_t)(tbs->n >> 16), (uint8_t)(tbs->n >> 8), (uint8_t)tbs->n};
	size_t n_ext = (size_t)(s->extensions.end - s->extensions.p);
	size_t n_sig = (size_t)(s->signature.end - s->signature.p);
	const uint8_t ext_len[] = {(uint8_t)(n_ext >> 8), (uint8_t)n_ext};

	sig = (struct bytes){.p = malloc(n_sig + 1), .n = n_sig};
	if (!sig.p || buf_append(&b, head, sizeof(head)) < 0 || buf_append(&b, s->timestamp, 8) < 0 ||
		buf_append(&b, type, sizeof(type)) < 0 || buf_append(&b, issuer, SHA256_LEN) < 0 ||
		buf_append(&b, len, sizeof(len)) < 0 || buf_append(&b, tbs->p, tbs->n) < 0 ||
		buf_append(&b, ext_len, sizeof(ext_len)) < 0 || buf_append(&b, s->extensions.p, n_ext) < 0)
		return -ENOMEM;
	memcpy(sig.p, s->signature.p, n_sig);
	return key_verify(log->key, buf_data(&b), b.len, &sig, NULL);
}

/* The certificate's signed part without the timestamps. */
static int precertificate(const struct sign_cert *leaf, int at, struct bytes *ret)
{
	const struct signlib *l = leaf->l;
	X509 *x = l->X509_dup(leaf->x);
	unsigned char *der = NULL;

	if (!x)
		return -ENOMEM;
	X509_EXTENSION *ext = l->X509_delete_ext(x, at);
	int n = ext ? l->i2d_re_X509_tbs(x, &der) : 0;
	if (n > 0 && n < 1 << 24) {
		*ret = (struct bytes){.p = malloc((size_t)n), .n = (size_t)n};
		if (ret->p)
			memcpy(ret->p, der, (size_t)n);
	}
	if (n > 0)
		l->CRYPTO_free(der, __FILE__, __LINE__);
	l->X509_EXTENSION_free(ext);
	l->X509_free(x);
	return ret->p ? 0 : -ENOMEM;
}

static int check_list(struct reader list, const struct sign_root *root, const uint8_t issuer[SHA256_LEN],
	const struct bytes *tbs, struct err *e)
{
	struct reader all, one;
	bool known = false;

	if (!take_vector(&list, &all) || list.p != list.end)
		return err_set(
			e, -EKEYREJECTED, "the signer's certificate has malformed certificate timestamps");
	for (int n = 0; all.p < all.end; n++) {
		struct sct s;
		if (n == SCTS_MAX || !take_vector(&all, &one) || !parse_sct(one, &s))
			return err_set(e, -EKEYREJECTED,
				"the signer's certificate has malformed certificate timestamps");
		const struct sign_log *log = log_of(root, &s);
		known = known || log;
		if (log && algorithm_fits(&s, log->key->kind) && check_sct(&s, log, issuer, tbs) == 0)
			return 0;
	}
	return err_set(e, -EKEYREJECTED,
		known ? "the signer's certificate has no valid timestamp by a certificate log"
		      : "the signer's certificate has no timestamp by a trusted certificate log");
}

int cert_check_sct(const struct sign_cert *leaf, const uint8_t issuer[SHA256_LEN],
	const struct sign_root *root, struct err *e)
{
	const struct signlib *l = leaf->l;
	CLEANUP(bytes_done) struct bytes tbs = {0};
	const ASN1_OCTET_STRING *ext;
	int at, r = cert_extension(leaf, OID_SCT_LIST, &ext, &at, e);

	if (r < 0)
		return r;
	if (!ext)
		return err_set(
			e, -EKEYREJECTED, "the signer's certificate has no timestamp by a certificate log");
	const unsigned char *p = l->ASN1_STRING_get0_data(ext), *end = p + l->ASN1_STRING_length(ext);
	ASN1_OCTET_STRING *inner = l->d2i_ASN1_OCTET_STRING(NULL, &p, end - p);
	l->ERR_clear_error();
	if (!inner || p != end) {
		r = err_set(
			e, -EKEYREJECTED, "the signer's certificate has malformed certificate timestamps");
	} else if (precertificate(leaf, at, &tbs) < 0) {
		r = err_oom(e);
	} else {
		struct reader list = {.p = l->ASN1_STRING_get0_data(inner)};
		list.end = list.p + l->ASN1_STRING_length(inner);
		r = check_list(list, root, issuer, &tbs, e);
	}
	l->ASN1_STRING_free(inner);
	return r;
}
