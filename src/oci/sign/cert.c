/* SPDX-License-Identifier: MIT */
#include "sign/cert.h"

#include <string.h>

#include "sign/root.h"

#define DEPTH_MAX  8 /* certificates of a chain */
#define AUTH_LEVEL 2 /* libcrypto's: 112 bits of security, so neither SHA-1 nor short RSA keys */
#define CERT_MAX   (64u << 10)

/* https://github.com/sigstore/fulcio/blob/main/docs/oid-info.md */
#define OID_ISSUER     "1.3.6.1.4.1.57264.1.8" /* a DER UTF8String */
#define OID_ISSUER_OLD "1.3.6.1.4.1.57264.1.1" /* the bare text */
#define OID_OTHER_NAME "1.3.6.1.4.1.57264.1.7" /* user names that are no e-mail addresses */

static int refuse(struct err *e, const char *why)
{
	return err_set(e, -EKEYREJECTED, "the signer's certificate %s", why);
}

/* ---- reading ---- */

void sign_cert_free(struct sign_cert *c)
{
	if (!c)
		return;
	if (c->x)
		c->l->X509_free(c->x);
	bytes_done(&c->der);
	free(c);
}

void cert_list_done(struct cert_list *list)
{
	for (size_t i = 0; i < list->n; i++)
		sign_cert_free(list->v[i]);
	free(list->v);
	*list = (struct cert_list){0};
}

int cert_list_take(struct cert_list *list, struct sign_cert *c)
{
	struct sign_cert **v = NULL;

	if (list->n < CERTS_MAX)
		v = realloc(list->v, (list->n + 1) * sizeof(*v));
	if (!v) {
		sign_cert_free(c);
		return list->n < CERTS_MAX ? -ENOMEM : -EBADMSG;
	}
	list->v = v;
	list->v[list->n++] = c;
	return 0;
}

int cert_from_der(const struct bytes *der, const char *what, struct sign_cert **ret, struct err *e)
{
	const struct signlib *l = signlib_get(e);

	if (!l)
		return -ENOENT;
	CLEANUP(sign_cert_freep) struct sign_cert *c = calloc(1, sizeof(*c));
	if (!c)
		return err_oom(e);
	c->l = l;
	const unsigned char *p = der->p;
	if (der->n <= CERT_MAX)
		c->x = l->d2i_X509(NULL, &p, (long)der->n);
	l->ERR_clear_error();
	if (!c->x || p != der->p + der->n)
		return err_set(e, -EBADMSG, "%s is not a certificate", what);
	c->der = (struct bytes){.p = malloc(der->n + 1), .n = der->n};
	if (!c->der.p)
		return err_oom(e);
	memcpy(c->der.p, der->p, der->n);
	*ret = TAKE_PTR(c);
	return 0;
}

int certs_from_pem(const char *pem, bool with_text, const char *what, struct cert_list *ret, struct err *e)
{
	const char *p = pem, *end = pem + strlen(pem);
	char label[PEM_LABEL_MAX];
	size_t before = ret->n;

	for (;;) {
		CLEANUP(bytes_done) struct bytes der = {0};
		struct sign_cert *c = NULL;
		int r = pem_next(&p, end, with_text, label, &der);
		if (r == -ENOENT && ret->n > before)
			return 0;
		if (r == -ENOMEM)
			return err_oom(e);
		if (r < 0 || strcmp(label, "CERTIFICATE") != 0)
			return err_set(e, -EBADMSG, "%s: not certificates in PEM format", what);
		r = cert_from_der(&der, what, &c, e);
		if (r < 0)
			return r;
		r = cert_list_take(ret, c);
		if (r < 0)
			return r == -ENOMEM ? err_oom(e)
					    : err_set(e, r, "%s: more than %d certificates", what, CERTS_MAX);
	}
}

int cert_key(const struct sign_cert *c, const char *what, struct sign_key **ret, struct err *e)
{
	EVP_PKEY *pkey = c->l->X509_get0_pubkey(c->x);

	c->l->ERR_clear_error();
	int r = pkey ? key_from_pkey(pkey, what, ret, e)
		     : err_set(e, -EINVAL, "%s has a key that cannot be read", what);
	if (r == -EINVAL && e)
		e->code = -EKEYREJECTED;
	return r == -EINVAL ? -EKEYREJECTED : r;
}

int cert_extension(
	const struct sign_cert *c, const char *oid, const ASN1_OCTET_STRING **ret, int *ret_at, struct err *e)
{
	const struct signlib *l = c->l;
	ASN1_OBJECT *obj = l->OBJ_txt2obj(oid, 1);

	*ret = NULL;
	if (!obj)
		return err_oom(e);
	int at = l->X509_get_ext_by_OBJ(c->x, obj, -1);
	bool twice = at >= 0 && l->X509_get_ext_by_OBJ(c->x, obj, at) >= 0;
	l->ASN1_OBJECT_free(obj);
	if (twice)
		return refuse(e, "has an extension twice");
	if (at >= 0)
		*ret = l->X509_EXTENSION_get_data(l->X509_get_ext(c->x, at));
	if (ret_at)
		*ret_at = at;
	return 0;
}

/* ---- usage ---- */

int cert_check_usage(const struct sign_cert *leaf, struct err *e)
{
	const struct signlib *l = leaf->l;
	uint32_t flags = l->X509_get_extension_flags(leaf->x);

	if (flags & EXFLAG_INVALID)
		return refuse(e, "has malformed extensions");
	if (flags & EXFLAG_CA)
		return refuse(e, "is that of an authority");
	/* Without the extension a key may be used for anything: then this is UINT32_MAX. */
	if (!(l->X509_get_key_usage(leaf->x) & KU_DIGITAL_SIGNATURE))
		return refuse(e, "is not for signatures");
	uint32_t usage = l->X509_get_extended_key_usage(leaf->x);
	if (!(flags & EXFLAG_XKUSAGE) || !(usage & XKU_CODE_SIGN))
		return refuse(e, "is not for signing code");
	return 0;
}

/* ---- identity ---- */

static bool text_is(const struct signlib *l, const ASN1_STRING *s, const char *want)
{
	size_t n = strlen(want);

	return s && l->ASN1_STRING_length(s) == (int)n && memcmp(l->ASN1_STRING_get0_data(s), want, n) == 0;
}

static bool other_name_is(const struct signlib *l, const OTHERNAME *o, const char *want)
{
	ASN1_OBJECT *obj = l->OBJ_txt2obj(OID_OTHER_NAME, 1);

	bool ok = obj && o->type_id && l->OBJ_cmp(o->type_id, obj) == 0 && o->value &&
		  o->value->type == V_ASN1_UTF8STRING && text_is(l, o->value->value.utf8string, want);
	l->ASN1_OBJECT_free(obj);
	return ok;
}

static bool name_is(const struct signlib *l, const GENERAL_NAME *g, const char *want)
{
	switch (g->type) {
	case GEN_EMAIL:
		return text_is(l, g->d.rfc822Name, want);
	case GEN_URI:
		return text_is(l, g->d.uniformResourceIdentifier, want);
	case GEN_OTHERNAME:
		return other_name_is(l, g->d.otherName, want);
	default:
		return false;
	}
}

/* For the message: the first name that could have been asked for. */
static void describe(const struct signlib *l, const GENERAL_NAME *g, char *buf, size_t size)
{
	const ASN1_STRING *s = NULL;

	if (*buf)
		return;
	if (g->type == GEN_EMAIL)
		s = g->d.rfc822Name;
	else if (g->type == GEN_URI)
		s = g->d.uniformResourceIdentifier;
	else if (g->type == GEN_OTHERNAME && g->d.otherName->value &&
		 g->d.otherName->value->type == V_ASN1_UTF8STRING)
		s = g->d.otherName->value->value.utf8string;
	if (s)
		snprintf(buf, size, "%.*s", l->ASN1_STRING_length(s),
			(const char *)l->ASN1_STRING_get0_data(s));
}

static int check_names(const struct sign_cert *leaf, const char *identity, struct err *e)
{
	const struct signlib *l = leaf->l;
	int critical = 0;
	bool found = false;
	char have[256] = "";
	GENERAL_NAMES *names = l->X509_get_ext_d2i(leaf->x, NID_subject_alt_name, &critical, NULL);

	l->ERR_clear_error();
	if (!names)
		return refuse(e, critical == -1 ? "names nobody" : "has malformed names");
	for (int i = 0; i < l->OPENSSL_sk_num((OPENSSL_STACK *)names); i++) {
		const GENERAL_NAME *g = l->OPENSSL_sk_value((OPENSSL_STACK *)names, i);
		found = found || name_is(l, g, identity);
		describe(l, g, have, sizeof(have));
	}
	l->GENERAL_NAMES_free(names);
	if (!found)
		return err_set(e, -EKEYREJECTED, "signed by \"%s\", not by \"%s\"", have, identity);
	return 0;
}

static int check_issuer(const struct sign_cert *leaf, const char *issuer, struct err *e)
{
	const struct signlib *l = leaf->l;
	const ASN1_OCTET_STRING *now, *old;
	int r = cert_extension(leaf, OID_ISSUER, &now, NULL, e);

	if (r == 0)
		r = cert_extension(leaf, OID_ISSUER_OLD, &old, NULL, e);
	if (r < 0)
		return r;
	if (!now && !old)
		return refuse(e, "does not say which issuer vouched for its identity");
	bool ok = !old || text_is(l, old, issuer);
	if (now) {
		const unsigned char *p = l->ASN1_STRING_get0_data(now), *end = p + l->ASN1_STRING_length(now);
		ASN1_UTF8STRING *s = l->d2i_ASN1_UTF8STRING(NULL, &p, end - p);
		ok = ok && s && p == end && text_is(l, s, issuer);
		l->ASN1_STRING_free(s);
		l->ERR_clear_error();
	}
	return ok ? 0
		  : err_set(e, -EKEYREJECTED, "the signer's identity is not vouched for by \"%s\"", issuer);
}

int cert_check_identity(const struct sign_cert *leaf, const char *issuer, const char *identity, struct err *e)
{
	int r = check_names(leaf, identity, e);

	return r < 0 ? r : check_issuer(leaf, issuer, e);
}

/* ---- chain ---- */

STACK_OF(X509) * cert_stack(const struct signlib *l, const struct cert_list *a, const struct cert_list *b)
{
	OPENSSL_STACK *s = l->OPENSSL_sk_new_null();
	bool ok = s;

	for (size_t i = 0; ok && i < a->n; i++)
		ok = l->OPENSSL_sk_push(s, a->v[i]->x) > 0;
	for (size_t i = 0; ok && i < b->n; i++)
		ok = l->OPENSSL_sk_push(s, b->v[i]->x) > 0;
	if (!ok) {
		l->OPENSSL_sk_free(s);
		s = NULL;
	}
	return (STACK_OF(X509) *)s;
}

X509_STORE *cert_store(const struct signlib *l, const struct cert_list *anchors, int64_t time)
{
	X509_STORE *store = l->X509_STORE_new();
	X509_VERIFY_PARAM *param = l->X509_VERIFY_PARAM_new();
	bool ok = store && param;

	if (ok) {
		l->X509_VERIFY_PARAM_set_time(param, (time_t)time);
		l->X509_VERIFY_PARAM_set_depth(param, DEPTH_MAX);
		l->X509_VERIFY_PARAM_set_auth_level(param, AUTH_LEVEL);
		/* What is trusted ends a chain, be it self-signed or not. */
		ok = l->X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_PARTIAL_CHAIN) &&
		     l->X509_STORE_set1_param(store, param);
	}
	for (size_t i = 0; ok && i < anchors->n; i++)
		ok = l->X509_STORE_add_cert(store, anchors->v[i]->x);
	l->X509_VERIFY_PARAM_free(param);
	if (!ok) {
		l->X509_STORE_free(store);
		store = NULL;
	}
	return store;
}

/* Looks at a chain that was found: who signed the leaf, and whether its authorities may sign for signers of code. */
static const char *judge_chain(
	const struct signlib *l, const OPENSSL_STACK *chain, uint8_t ret_issuer[SHA256_LEN])
{
	for (int i = 1; i < l->OPENSSL_sk_num(chain); i++) {
		X509 *x = l->OPENSSL_sk_value(chain, i);
		uint32_t usage = l->X509_get_extended_key_usage(x);
		if ((l->X509_get_extension_flags(x) & EXFLAG_XKUSAGE) &&
			!(usage & (XKU_CODE_SIGN | XKU_ANYEKU)))
			return "an authority is not for signing code";
	}
	X509 *issuer = l->OPENSSL_sk_num(chain) > 1 ? l->OPENSSL_sk_value(chain, 1) : NULL;
	EVP_PKEY *pkey = issuer ? l->X509_get0_pubkey(issuer) : NULL;
	unsigned char *der = NULL;
	int n = pkey ? l->i2d_PUBKEY(pkey, &der) : 0;
	bool ok = n > 0 && l->EVP_Digest(der, (size_t)n, ret_issuer, NULL, l->EVP_sha256(), NULL);
	if (n > 0)
		l->CRYPTO_free(der, __FILE__, __LINE__);
	return ok ? NULL : "it has no authority";
}

/* NULL, or why not. */
static const char *check_authority(const struct sign_cert *leaf, const struct cert_list *extra,
	const struct sign_authority *a, int64_t time, uint8_t ret_issuer[SHA256_LEN])
{
	const struct signlib *l = leaf->l;
	X509_STORE *store = cert_store(l, &a->anchors, time);
	STACK_OF(X509) *others = cert_stack(l, &a->others, extra);
	X509_STORE_CTX *ctx = l->X509_STORE_CTX_new();
	const char *why = "out of memory";

	if (store && others && ctx && l->X509_STORE_CTX_init(ctx, store, leaf->x, others)) {
		if (l->X509_verify_cert(ctx) == 1)
			why = judge_chain(l, (OPENSSL_STACK *)l->X509_STORE_CTX_get0_chain(ctx), ret_issuer);
		else
			why = l->X509_verify_cert_error_string(l->X509_STORE_CTX_get_error(ctx));
	}
	l->X509_STORE_CTX_free(ctx);
	l->OPENSSL_sk_free((OPENSSL_STACK *)others);
	l->X509_STORE_free(store);
	l->ERR_clear_error();
	return why;
}

int cert_check_chain(const struct sign_cert *leaf, const struct cert_list *extra,
	const struct sign_root *root, int64_t time, uint8_t ret_issuer[SHA256_LEN], struct err *e)
{
	const char *why = "no authority was trusted at the time of signing";

	for (size_t i = 0; i < root->n_cas; i++) {
		if (!valid_at(&root->cas[i].valid, time))
			continue;
		why = check_authority(leaf, extra, &root->cas[i], time, ret_issuer);
		if (!why)
			return 0;
	}
	return err_set(e, -EKEYREJECTED, "the signer's certificate is not trusted: %s", why);
}
