/* SPDX-License-Identifier: MIT */
/* Theory of operation: sign/sign.h. Here the checks are put in order; each is in a file of its own. */
#include <string.h>

#include "digest.h"
#include "sign/evidence.h"

#define TIMES_MAX (ENTRIES_MAX + TIMESTAMPS_MAX)

/* When the signature was made, as far as somebody trusted has said so. */
struct times {
	int64_t v[TIMES_MAX];
	size_t n;
};

static void entry_done(struct log_entry *t)
{
	bytes_done(&t->body);
	bytes_done(&t->promise);
	free(t->hashes);
	free(t->checkpoint);
	free(t->kind);
	free(t->version);
}

void evidence_done(struct evidence *v)
{
	bytes_done(&v->message);
	bytes_done(&v->payload);
	bytes_done(&v->signature);
	sign_cert_free(v->leaf);
	cert_list_done(&v->others);
	for (size_t i = 0; i < v->n_entries; i++)
		entry_done(&v->entries[i]);
	free(v->entries);
	for (size_t i = 0; i < v->n_timestamps; i++)
		bytes_done(&v->timestamps[i]);
	free(v->timestamps);
	free(v->reference);
	*v = (struct evidence){0};
}

static int check_signature(const struct evidence *v, const struct sign_key *key, struct err *e)
{
	if (v->message.p)
		return key_verify(key, v->message.p, v->message.n, &v->signature, e);
	return key_verify_sha256(key, v->hash, &v->signature, e);
}

static int check_entries(const struct evidence *v, const struct sign_root *root, const struct sign_key *key,
	const struct sign_cert *leaf, const struct sign_log **ret_logs, struct times *t, struct err *e)
{
	if (!root->n_tlogs)
		return err_set(e, -EKEYREJECTED, "the trusted root has no transparency log");
	if (!v->n_entries)
		return err_set(e, -EKEYREJECTED, "the signature is in no transparency log");
	for (size_t i = 0; i < v->n_entries; i++) {
		int64_t time = 0;
		int r = tlog_check(&v->entries[i], root, v, key, leaf, &ret_logs[i], &time, e);
		if (r < 0)
			return r;
		if (time)
			t->v[t->n++] = time;
	}
	return 0;
}

/*
 * Everything that the trusted root can prove about the signature. All that came along must hold, and all times must fit:
 * one proof too many would else be a place to hide a wrong one.
 */
static int check_log(const struct evidence *v, const struct sign_root *root, const struct sign_key *key,
	const struct sign_cert *leaf, struct times *t, struct err *e)
{
	const struct sign_log *logs[ENTRIES_MAX] = {0};
	int r = check_entries(v, root, key, leaf, logs, t, e);

	for (size_t i = 0; r == 0 && root->n_tsas && i < v->n_timestamps; i++) {
		r = timestamp_check(&v->timestamps[i], &v->signature, root, &t->v[t->n], e);
		t->n += r == 0;
	}
	if (r < 0)
		return r;
	if (!t->n)
		return err_set(e, -EKEYREJECTED, "nobody trusted says when the signature was made");
	for (size_t i = 0; i < v->n_entries; i++)
		for (size_t k = 0; k < t->n; k++)
			if (!valid_at(&logs[i]->valid, t->v[k]))
				return err_set(e, -EKEYREJECTED,
					"the transparency log's key was not in use when the signature was "
					"made");
	return 0;
}

static int verify_keyless(const struct sign_requirement *rq, const struct evidence *v, struct err *e)
{
	CLEANUP(sign_key_freep) struct sign_key *key = NULL;
	struct times t = {0};
	uint8_t issuer[SHA256_LEN];

	if (!v->leaf)
		return err_set(e, -EKEYREJECTED, "the signature has no certificate");
	int r = cert_key(v->leaf, "the signer's certificate", &key, e);
	if (r < 0 || (r = check_signature(v, key, e)) < 0 || (r = cert_check_usage(v->leaf, e)) < 0 ||
		(r = check_log(v, rq->root, key, v->leaf, &t, e)) < 0)
		return r;
	for (size_t i = 0; i < t.n; i++) {
		r = cert_check_chain(v->leaf, &v->others, rq->root, t.v[i], issuer, e);
		if (r == 0 && rq->root->need_sct)
			r = cert_check_sct(v->leaf, issuer, rq->root, e);
		if (r < 0)
			return r;
	}
	return cert_check_identity(v->leaf, rq->issuer, rq->identity, e);
}

static int verify_key(const struct sign_requirement *rq, const struct evidence *v, struct err *e)
{
	struct times t = {0};
	int r = check_signature(v, rq->key, e);

	return r == 0 && rq->root ? check_log(v, rq->root, rq->key, NULL, &t, e) : r;
}

int sign_verify_reference(const struct sign_requirement *rq, const char *digest,
	const struct sign_candidate *c, char **ret_reference, struct err *e)
{
	CLEANUP(evidence_done) struct evidence v = {0};

	if (!rq->key && (!rq->root || !rq->issuer || !*rq->issuer || !rq->identity || !*rq->identity))
		return err_set(e, -EINVAL, "a signature without key needs issuer, identity and trusted root");
	if (!oci_digest_valid(digest))
		return err_set(e, -EINVAL, "\"%.140s\" is not a digest", digest);
	int r = c->is_bundle ? evidence_bundle(c, digest, &v, e) : evidence_simple(c, digest, &v, e);
	if (r == 0)
		r = rq->key ? verify_key(rq, &v, e) : verify_keyless(rq, &v, e);
	/* What cannot be read is no signature. */
	if (r == -EBADMSG && e)
		e->code = -EKEYREJECTED;
	if (r < 0)
		return r == -EBADMSG ? -EKEYREJECTED : r;
	if (ret_reference)
		*ret_reference = TAKE_PTR(v.reference);
	return 0;
}

int sign_verify(
	const struct sign_requirement *rq, const char *digest, const struct sign_candidate *c, struct err *e)
{
	return sign_verify_reference(rq, digest, c, NULL, e);
}
