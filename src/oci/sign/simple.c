/* SPDX-License-Identifier: MIT */
/*
 * "Simple signing" as cosign and containers/image use it: a JSON payload that names a manifest, with the signature and
 * its proofs as annotations of the layer that holds it.
 *
 *     {"critical": {"identity": {"docker-reference": "example.com/app"},
 *                   "image": {"docker-manifest-digest": "sha256:…"},
 *                   "type": "cosign container image signature"}, "optional": …}
 */
#include <string.h>

#include "digest.h"
#include "sign/evidence.h"

#define SIMPLE_TYPE "cosign container image signature"

int simple_parse(const void *payload, size_t n, const char *digest, char **ret_reference, struct err *e)
{
	static const char *const members[] = {"critical", "optional", NULL};
	static const char *const critical_members[] = {"type", "image", "identity", NULL};
	static const char *const image_members[] = {"docker-manifest-digest", NULL};
	static const char *const identity_members[] = {"docker-reference", NULL};
	static const char what[] = "signature's payload";
	CLEANUP(json_done) json_t *j = NULL;
	const json_t *critical, *image, *identity;
	const char *signed_digest, *reference;
	int r = doc_parse(what, payload, n, &j, e);

	if (r < 0 || (r = doc_members(what, j, members, e)) < 0 ||
		(r = doc_object(what, j, "critical", &critical, e)) < 0 ||
		(r = doc_members(what, critical, critical_members, e)) < 0 ||
		(r = doc_equal(what, critical, "type", SIMPLE_TYPE, e)) < 0 ||
		(r = doc_object(what, critical, "image", &image, e)) < 0 ||
		(r = doc_members(what, image, image_members, e)) < 0 ||
		(r = doc_object(what, critical, "identity", &identity, e)) < 0 ||
		(r = doc_members(what, identity, identity_members, e)) < 0 ||
		(r = doc_str(what, image, "docker-manifest-digest", &signed_digest, e)) < 0 ||
		(r = doc_str(what, identity, "docker-reference", &reference, e)) < 0)
		return r;
	const json_t *optional = json_object_get(j, "optional");
	if (optional && !json_is_null(optional) && !json_is_object(optional))
		return err_set(e, -EBADMSG, "%s has an invalid \"optional\"", what);
	if (!oci_digest_valid(signed_digest) || strcmp(signed_digest, digest) != 0)
		return err_set(e, -EKEYREJECTED, "signed for another image (%.140s)", signed_digest);
	*ret_reference = strdup(reference);
	return *ret_reference ? 0 : err_oom(e);
}

/* ---- the transparency log's bundle ---- */

static int hex_id(const char *s, uint8_t ret[SHA256_LEN])
{
	static const char digits[] = "0123456789abcdef";

	if (strspn(s, digits) != (size_t)SHA256_LEN * 2 || s[SHA256_LEN * 2])
		return -EBADMSG;
	for (size_t i = 0; i < SHA256_LEN; i++)
		ret[i] = (uint8_t)((strchr(digits, s[2 * i]) - digits) << 4 |
				   (strchr(digits, s[2 * i + 1]) - digits));
	return 0;
}

static int parse_log_entry(const char *json, struct log_entry *t, struct err *e)
{
	static const char *const members[] = {"SignedEntryTimestamp", "Payload", NULL};
	static const char *const payload_members[] = {"body", "integratedTime", "logIndex", "logID", NULL};
	static const char what[] = "signature's log entry";
	CLEANUP(json_done) json_t *j = NULL;
	const json_t *payload;
	const char *id;
	int r = doc_parse(what, json, strlen(json), &j, e);

	if (r < 0 || (r = doc_members(what, j, members, e)) < 0 ||
		(r = doc_bytes(what, j, "SignedEntryTimestamp", &t->promise, e)) < 0 ||
		(r = doc_object(what, j, "Payload", &payload, e)) < 0 ||
		(r = doc_members(what, payload, payload_members, e)) < 0 ||
		(r = doc_bytes(what, payload, "body", &t->body, e)) < 0 ||
		(r = doc_int64(what, payload, "integratedTime", &t->integrated_time, e)) < 0 ||
		(r = doc_int64(what, payload, "logIndex", &t->log_index, e)) < 0 ||
		(r = doc_str(what, payload, "logID", &id, e)) < 0)
		return r;
	if (hex_id(id, t->log_id) < 0)
		return err_set(e, -EBADMSG, "%s has an invalid \"logID\"", what);
	return 0;
}

static int parse_certificates(const struct sign_candidate *c, struct evidence *v, struct err *e)
{
	CLEANUP(cert_list_done) struct cert_list own = {0};
	int r = certs_from_pem(c->certificate, false, "signature's certificate", &own, e);

	if (r < 0)
		return r;
	if (own.n != 1)
		return err_set(e, -EBADMSG, "signature has more than one certificate");
	v->leaf = TAKE_PTR(own.v[0]);
	own.n = 0;
	return c->chain && *c->chain
		       ? certs_from_pem(c->chain, false, "signature's certificate chain", &v->others, e)
		       : 0;
}

static bool too_long(const char *s)
{
	return s && strnlen(s, SIGN_DOCUMENT_MAX + 1) > SIGN_DOCUMENT_MAX;
}

int evidence_simple(const struct sign_candidate *c, const char *digest, struct evidence *ret, struct err *e)
{
	CLEANUP(evidence_done) struct evidence v = {0};

	if (!c->signature || !*c->signature)
		return err_set(e, -EBADMSG, "the signature is missing");
	if (too_long(c->signature) || too_long(c->certificate) || too_long(c->chain) ||
		too_long(c->log_entry))
		return err_set(e, -EBADMSG, "the signature is larger than %u KiB", SIGN_DOCUMENT_MAX >> 10);
	int r = simple_parse(c->payload, c->payload_len, digest, &v.reference, e);
	if (r < 0)
		return r;
	r = b64_bytes(c->signature, strlen(c->signature), &v.signature);
	if (r < 0)
		return r == -ENOMEM ? err_oom(e) : err_set(e, r, "the signature is not base64");
	v.message = (struct bytes){.p = malloc(c->payload_len + 1), .n = c->payload_len};
	if (!v.message.p)
		return err_oom(e);
	memcpy(v.message.p, c->payload, c->payload_len);
	r = sign_sha256(v.message.p, v.message.n, v.hash, e);
	if (r == 0 && c->certificate && *c->certificate)
		r = parse_certificates(c, &v, e);
	if (r == 0 && c->log_entry && *c->log_entry) {
		v.entries = calloc(1, sizeof(*v.entries));
		if (!v.entries)
			return err_oom(e);
		v.n_entries = 1;
		r = parse_log_entry(c->log_entry, v.entries, e);
	}
	if (r < 0)
		return r;
	*ret = v;
	v = (struct evidence){0};
	return 0;
}
