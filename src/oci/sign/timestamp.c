/* SPDX-License-Identifier: MIT */
/* Timestamps by an authority (RFC 3161) over a signature: when it was made at the latest. */
#include <string.h>
#include <time.h>

#include "sign/evidence.h"

static int refuse(struct err *e, const char *why)
{
	return err_set(e, -EKEYREJECTED, "the signature's timestamp %s", why);
}

static int time_of(const struct signlib *l, TS_RESP *resp, int64_t *ret, struct err *e)
{
	TS_TST_INFO *info = l->TS_RESP_get_tst_info(resp);
	const ASN1_OBJECT *algorithm = NULL;
	struct tm tm = {0};

	if (!info)
		return refuse(e, "was not granted");
	l->X509_ALGOR_get0(
		&algorithm, NULL, NULL, l->TS_MSG_IMPRINT_get_algo(l->TS_TST_INFO_get_msg_imprint(info)));
	int nid = algorithm ? l->OBJ_obj2nid(algorithm) : NID_undef;
	if (nid != NID_sha256 && nid != NID_sha384 && nid != NID_sha512)
		return refuse(e, "is of a hash that is not accepted");
	if (!l->ASN1_TIME_to_tm(l->TS_TST_INFO_get_time(info), &tm))
		return refuse(e, "has an invalid time");
	*ret = timegm(&tm);
	return 0;
}

/* Whether the authority's own certificate signed it: others of the same issuer do not speak for it. */
static bool is_signer(
	const struct signlib *l, TS_RESP *resp, STACK_OF(X509) * certs, const struct sign_cert *want)
{
	PKCS7 *token = l->TS_RESP_get_token(resp);
	OPENSSL_STACK *signers = token ? (OPENSSL_STACK *)l->PKCS7_get0_signers(token, certs, 0) : NULL;

	bool ok = signers && l->OPENSSL_sk_num(signers) == 1 &&
		  l->X509_cmp(l->OPENSSL_sk_value(signers, 0), want->x) == 0;
	l->OPENSSL_sk_free(signers);
	return ok;
}

static bool verify_by(const struct signlib *l, TS_RESP *resp, const struct bytes *signature,
	const struct sign_authority *a, int64_t time)
{
	TS_VERIFY_CTX *ctx = l->TS_VERIFY_CTX_new();
	X509_STORE *store = cert_store(l, &a->anchors, time);
	/* The certificate of whoever signs need not be in the response. It, the others, and one that is trusted. */
	STACK_OF(X509) *certs = cert_stack(l, &a->others, &a->anchors);
	BIO *data = signature->n <= INT32_MAX ? l->BIO_new_mem_buf(signature->p, (int)signature->n) : NULL;
	bool ok = ctx && store && certs && data;

	for (int i = 0; ok && i < l->OPENSSL_sk_num((OPENSSL_STACK *)certs); i++)
		ok = l->X509_up_ref(l->OPENSSL_sk_value((OPENSSL_STACK *)certs, i));
	if (!ok) { /* some of the references may be there and stay: memory has run out */
		l->TS_VERIFY_CTX_free(ctx);
		l->X509_STORE_free(store);
		l->OPENSSL_sk_free((OPENSSL_STACK *)certs);
		l->BIO_free(data);
		return false;
	}
	bool named = !a->signer || is_signer(l, resp, certs, a->signer);
	/* All three are the context's from here on. */
	l->TS_VERIFY_CTX_set_store(ctx, store);
	l->TS_VERIFY_CTX_set_certs(ctx, certs);
	l->TS_VERIFY_CTX_set_data(ctx, data);
	l->TS_VERIFY_CTX_set_flags(ctx, TS_VFY_VERSION | TS_VFY_SIGNATURE | TS_VFY_DATA);
	ok = l->TS_RESP_verify_response(ctx, resp) == 1 && named;
	l->TS_VERIFY_CTX_free(ctx);
	l->ERR_clear_error();
	return ok;
}

int timestamp_check(const struct bytes *response, const struct bytes *signature, const struct sign_root *root,
	int64_t *ret_time, struct err *e)
{
	const struct signlib *l = signlib_get(e);

	if (!l)
		return -ENOENT;
	const unsigned char *p = response->p;
	TS_RESP *resp = response->n <= SIGN_DOCUMENT_MAX ? l->d2i_TS_RESP(NULL, &p, (long)response->n) : NULL;
	l->ERR_clear_error();
	int r = resp && p == response->p + response->n ? time_of(l, resp, ret_time, e)
						       : refuse(e, "is malformed");
	if (r == 0) {
		r = refuse(e, "is not by an authority that was trusted then");
		for (size_t i = 0; r < 0 && i < root->n_tsas; i++)
			if (valid_at(&root->tsas[i].valid, *ret_time) &&
				verify_by(l, resp, signature, &root->tsas[i], *ret_time))
				r = 0;
	}
	l->TS_RESP_free(resp);
	return r;
}
