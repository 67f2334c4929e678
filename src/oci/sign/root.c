/* SPDX-License-Identifier: MIT */
#include "sign/root.h"

#include <string.h>

#define CHAIN_MAX 8 /* certificates of one authority */

static void authorities_free(struct sign_authority *v, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		cert_list_done(&v[i].anchors);
		cert_list_done(&v[i].others);
	}
	free(v);
}

static void logs_free(struct sign_log *v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		sign_key_free(v[i].key);
	free(v);
}

void sign_root_free(struct sign_root *r)
{
	if (!r)
		return;
	authorities_free(r->cas, r->n_cas);
	authorities_free(r->tsas, r->n_tsas);
	logs_free(r->tlogs, r->n_tlogs);
	logs_free(r->ctlogs, r->n_ctlogs);
	free(r);
}

/* ---- trusted_root.json (protobuf-specs, sigstore_trustroot.proto, as JSON) ---- */

/* A trusted thing without a beginning is not in use yet; without an end it still is. */
static int parse_validity(const json_t *o, struct validity *ret, struct err *e)
{
	const json_t *v;
	const char *start;
	int r = doc_object("trusted root", o, "validFor", &v, e);

	if (r < 0)
		return r;
	r = doc_str("trusted root", v, "start", &start, e);
	if (r < 0)
		return r;
	ret->end = INT64_MAX;
	const json_t *end = json_object_get(v, "end");
	if (doc_time(start, &ret->start) < 0 ||
		(end && (!json_is_string(end) || doc_time(json_string_value(end), &ret->end) < 0)))
		return err_set(e, -EBADMSG, "trusted root has an invalid time in \"validFor\"");
	return 0;
}

static int parse_chain(const json_t *list, struct sign_authority *a, struct err *e)
{
	size_t n = json_array_size(list);

	for (size_t i = 0; i < n; i++) {
		CLEANUP(bytes_done) struct bytes der = {0};
		struct sign_cert *c = NULL;
		int r = doc_bytes("trusted root", json_array_get(list, i), "rawBytes", &der, e);
		if (r == 0)
			r = cert_from_der(&der, "trusted root's certificate", &c, e);
		if (r < 0)
			return r;
		if (i == 0 && !(c->l->X509_get_extension_flags(c->x) & EXFLAG_CA))
			a->signer = c;
		/* What the others lead to: the last one by the format, but roots in the reverse order are about. */
		bool anchor =
			(c->l->X509_get_extension_flags(c->x) & EXFLAG_SS) || (i + 1 == n && !a->anchors.n);
		if (cert_list_take(anchor ? &a->anchors : &a->others, c) < 0) {
			a->signer = NULL;
			return err_oom(e);
		}
	}
	return 0;
}

static int parse_authorities(
	const json_t *root, const char *key, struct sign_authority **ret, size_t *ret_n, struct err *e)
{
	const json_t *list, *chain, *certs;

	if (!json_object_get(root, key))
		return 0;
	int r = doc_array("trusted root", root, key, ROOT_ENTRIES_MAX, &list, e);
	if (r < 0)
		return r;
	size_t n = json_array_size(list);
	*ret = calloc(n ? n : 1, sizeof(**ret));
	if (!*ret)
		return err_oom(e);
	for (size_t i = 0; i < n; i++) {
		const json_t *o = json_array_get(list, i);
		struct sign_authority *a = &(*ret)[(*ret_n)++];
		if ((r = parse_validity(o, &a->valid, e)) < 0 ||
			(r = doc_object("trusted root", o, "certChain", &chain, e)) < 0 ||
			(r = doc_array("trusted root", chain, "certificates", CHAIN_MAX, &certs, e)) < 0 ||
			(r = parse_chain(certs, a, e)) < 0)
			return r;
	}
	return 0;
}

static int parse_id(const json_t *o, const char *key, struct bytes *ret, struct err *e)
{
	const json_t *id = json_object_get(o, key);

	return id ? doc_bytes("trusted root", id, "keyId", ret, e) : 0;
}

/* 1: a log with a key of a kind that we do not know: it cannot vouch for anything. */
static int parse_log(const json_t *o, struct sign_log *log, struct err *e)
{
	CLEANUP(bytes_done) struct bytes der = {0}, id = {0}, checkpoint_id = {0};
	const json_t *key;
	int r = doc_object("trusted root", o, "publicKey", &key, e);

	if (r < 0 || (r = parse_validity(key, &log->valid, e)) < 0 ||
		(r = doc_bytes("trusted root", key, "rawBytes", &der, e)) < 0 ||
		(r = parse_id(o, "logId", &id, e)) < 0 ||
		(r = parse_id(o, "checkpointKeyId", &checkpoint_id, e)) < 0)
		return r;
	const char *hash = json_string_value(json_object_get(o, "hashAlgorithm"));
	if (hash && strcmp(hash, "SHA2_256") != 0)
		return 1;
	r = key_from_der(&der, true, "trusted root's log key", &log->key, e);
	if (r == -EINVAL)
		return 1;
	if (r < 0)
		return r;
	if (id.p && id.n != SHA256_LEN)
		return err_set(e, -EBADMSG, "trusted root has a log with an invalid \"logId\"");
	memcpy(log->id, id.p ? id.p : log->key->id, SHA256_LEN);
	if (checkpoint_id.p && checkpoint_id.n < NOTE_HINT_LEN)
		return err_set(e, -EBADMSG, "trusted root has a log with an invalid \"checkpointKeyId\"");
	memcpy(log->hint, checkpoint_id.p ? checkpoint_id.p : log->id, NOTE_HINT_LEN);
	return 0;
}

static int parse_logs(
	const json_t *root, const char *key, struct sign_log **ret, size_t *ret_n, struct err *e)
{
	const json_t *list;

	if (!json_object_get(root, key))
		return 0;
	int r = doc_array("trusted root", root, key, ROOT_ENTRIES_MAX, &list, e);
	if (r < 0)
		return r;
	size_t n = json_array_size(list);
	*ret = calloc(n ? n : 1, sizeof(**ret));
	if (!*ret)
		return err_oom(e);
	for (size_t i = 0; i < n; i++) {
		r = parse_log(json_array_get(list, i), &(*ret)[*ret_n], e);
		if (r < 0) {
			sign_key_free((*ret)[*ret_n].key);
			return r;
		}
		*ret_n += r == 0;
	}
	return 0;
}

int sign_root_parse(const char *json, size_t n, struct sign_root **ret, struct err *e)
{
	static const char *const types[] = {"application/vnd.dev.sigstore.trustedroot+json;version=0.1",
		"application/vnd.dev.sigstore.trustedroot.v0.1+json",
		"application/vnd.dev.sigstore.trustedroot.v0.2+json"};
	CLEANUP(json_done) json_t *j = NULL;
	CLEANUP(sign_root_freep) struct sign_root *root = calloc(1, sizeof(*root));
	const char *type;
	size_t known = 0;

	if (!root)
		return err_oom(e);
	int r = doc_parse("trusted root", json, n, &j, e);
	if (r < 0 || (r = doc_str("trusted root", j, "mediaType", &type, e)) < 0)
		return r;
	while (known < ARRAY_LEN(types) && strcmp(types[known], type) != 0)
		known++;
	if (known == ARRAY_LEN(types))
		return err_set(e, -EBADMSG, "trusted root has the unknown media type \"%.100s\"", type);
	if ((r = parse_authorities(j, "certificateAuthorities", &root->cas, &root->n_cas, e)) < 0 ||
		(r = parse_authorities(j, "timestampAuthorities", &root->tsas, &root->n_tsas, e)) < 0 ||
		(r = parse_logs(j, "tlogs", &root->tlogs, &root->n_tlogs, e)) < 0 ||
		(r = parse_logs(j, "ctlogs", &root->ctlogs, &root->n_ctlogs, e)) < 0)
		return r;
	root->need_sct = true;
	*ret = TAKE_PTR(root);
	return 0;
}

/* ---- from PEM ---- */

static int log_from_pem(
	const char *pem, const char *what, struct sign_log **ret, size_t *ret_n, struct err *e)
{
	if (!pem)
		return 0;
	struct sign_log *log = calloc(1, sizeof(*log));
	if (!log)
		return err_oom(e);
	*ret = log;
	int r = sign_key_parse(pem, strlen(pem), what, &log->key, e);
	if (r < 0)
		return r;
	memcpy(log->id, log->key->id, sizeof(log->id));
	memcpy(log->hint, log->id, sizeof(log->hint));
	log->valid = (struct validity){.start = INT64_MIN, .end = INT64_MAX};
	*ret_n = 1;
	return 0;
}

int sign_root_from_pem(const char *authorities, const char *log_key, const char *ct_key,
	struct sign_root **ret, struct err *e)
{
	CLEANUP(sign_root_freep) struct sign_root *root = calloc(1, sizeof(*root));

	if (!root)
		return err_oom(e);
	if (authorities) {
		root->cas = calloc(1, sizeof(*root->cas));
		if (!root->cas)
			return err_oom(e);
		root->n_cas = 1;
		root->cas->valid = (struct validity){.start = INT64_MIN, .end = INT64_MAX};
		int r = certs_from_pem(authorities, true, "certificate authorities", &root->cas->anchors, e);
		if (r < 0)
			return r;
	}
	int r = log_from_pem(log_key, "transparency log's key", &root->tlogs, &root->n_tlogs, e);
	if (r == 0)
		r = log_from_pem(ct_key, "certificate log's key", &root->ctlogs, &root->n_ctlogs, e);
	if (r < 0)
		return r;
	root->need_sct = ct_key != NULL;
	*ret = TAKE_PTR(root);
	return 0;
}
