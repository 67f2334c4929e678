/* SPDX-License-Identifier: MIT */
/*
 * Sigstore bundles, versions 0.1 to 0.3 (protobuf-specs, sigstore_bundle.proto, as JSON): signature, certificate or key,
 * log entries and timestamps in one document. Of the signatures that a bundle can hold two are of images: an envelope
 * (DSSE) around an in-toto statement with cosign's predicate, and a bare signature over the manifest itself. Envelopes
 * with other predicates say something about an image (where it was built, what is in it), but do not sign it.
 */
#include <string.h>

#include "base/buf.h"
#include "base/io.h"
#include "digest.h"
#include "sign/evidence.h"

#define WHAT	       "signature's bundle"
#define STATEMENT_TYPE "application/vnd.in-toto+json"
#define PREDICATE_SIGN "https://sigstore.dev/cosign/sign/v1"

#define MEMBERS(name, ...) static const char *const name[] = {__VA_ARGS__, NULL}

/*
 * Whether o has no member but those named; those that are null go: in protobuf's JSON they are the same as not there. The
 * document is ours, in memory.
 */
static int take_members(const json_t *o, const char *const *names, struct err *e)
{
	const char *key;
	json_t *value;
	void *next;
	int r = doc_members(WHAT, o, names, e);

	if (r < 0)
		return r;
	json_object_foreach_safe((json_t *)o, next, key, value) if (json_is_null(value))
		json_object_del((json_t *)o, key);
	return 0;
}

/* ---- log entries ---- */

static int take_hash(const char *s, uint8_t ret[SHA256_LEN], struct err *e)
{
	CLEANUP(bytes_done) struct bytes b = {0};
	int r = s ? b64_bytes(s, strlen(s), &b) : -EBADMSG;

	if (r == -ENOMEM)
		return err_oom(e);
	if (r < 0 || b.n != SHA256_LEN)
		return err_set(e, -EBADMSG, WHAT " has an invalid hash");
	memcpy(ret, b.p, SHA256_LEN);
	return 0;
}

static int parse_proof(const json_t *o, struct log_entry *t, struct err *e)
{
	MEMBERS(members, "logIndex", "rootHash", "treeSize", "hashes", "checkpoint");
	MEMBERS(checkpoint_members, "envelope");
	const char *note;
	int r = take_members(o, members, e);
	const json_t *checkpoint = json_object_get(o, "checkpoint"), *hashes = json_object_get(o, "hashes");

	if (r < 0 || (r = doc_int64(WHAT, o, "logIndex", &t->proof_index, e)) < 0 ||
		(r = doc_int64(WHAT, o, "treeSize", &t->tree_size, e)) < 0 ||
		(r = take_hash(json_string_value(json_object_get(o, "rootHash")), t->root_hash, e)) < 0 ||
		(hashes && (r = doc_array(WHAT, o, "hashes", PROOF_MAX, &hashes, e)) < 0))
		return r;
	size_t n = json_array_size(hashes);
	t->hashes = calloc(n ? n : 1, sizeof(*t->hashes));
	if (!t->hashes)
		return err_oom(e);
	for (; t->n_hashes < n; t->n_hashes++) {
		const char *s = json_string_value(json_array_get(hashes, t->n_hashes));
		r = take_hash(s, t->hashes[t->n_hashes], e);
		if (r < 0)
			return r;
	}
	t->has_proof = true;
	if (!checkpoint)
		return 0;
	if ((r = take_members(checkpoint, checkpoint_members, e)) < 0 ||
		(r = doc_str(WHAT, checkpoint, "envelope", &note, e)) < 0)
		return r;
	if (strlen(note) > CHECKPOINT_MAX)
		return err_set(e, -EBADMSG, WHAT " has a checkpoint that is too long");
	t->checkpoint = strdup(note);
	return t->checkpoint ? 0 : err_oom(e);
}

static int parse_kind(const json_t *o, struct log_entry *t, struct err *e)
{
	MEMBERS(members, "kind", "version");
	const char *kind, *version;
	int r = take_members(o, members, e);

	if (r < 0 || (r = doc_str(WHAT, o, "kind", &kind, e)) < 0 ||
		(r = doc_str(WHAT, o, "version", &version, e)) < 0)
		return r;
	t->kind = strdup(kind);
	t->version = strdup(version);
	return t->kind && t->version ? 0 : err_oom(e);
}

static int parse_entry(const json_t *o, struct log_entry *t, struct err *e)
{
	MEMBERS(members, "logIndex", "logId", "kindVersion", "integratedTime", "inclusionPromise",
		"inclusionProof", "canonicalizedBody");
	MEMBERS(id_members, "keyId");
	MEMBERS(promise_members, "signedEntryTimestamp");
	const json_t *id, *kind;
	int r = take_members(o, members, e);
	const json_t *promise = json_object_get(o, "inclusionPromise");
	const json_t *proof = json_object_get(o, "inclusionProof");

	if (r < 0 || (r = doc_int64(WHAT, o, "logIndex", &t->log_index, e)) < 0 ||
		(r = doc_int64(WHAT, o, "integratedTime", &t->integrated_time, e)) < 0 ||
		(r = doc_bytes(WHAT, o, "canonicalizedBody", &t->body, e)) < 0 ||
		(r = doc_object(WHAT, o, "logId", &id, e)) < 0 || (r = take_members(id, id_members, e)) < 0 ||
		(r = take_hash(json_string_value(json_object_get(id, "keyId")), t->log_id, e)) < 0 ||
		(r = doc_object(WHAT, o, "kindVersion", &kind, e)) < 0 || (r = parse_kind(kind, t, e)) < 0)
		return r;
	if (promise && ((r = take_members(promise, promise_members, e)) < 0 ||
			       (r = doc_bytes(WHAT, promise, "signedEntryTimestamp", &t->promise, e)) < 0))
		return r;
	return proof ? parse_proof(proof, t, e) : 0;
}

/* ---- verification material ---- */

static int parse_certificate(const json_t *o, struct sign_cert **ret, struct err *e)
{
	MEMBERS(members, "rawBytes");
	CLEANUP(bytes_done) struct bytes der = {0};
	int r = take_members(o, members, e);

	if (r == 0)
		r = doc_bytes(WHAT, o, "rawBytes", &der, e);
	return r < 0 ? r : cert_from_der(&der, "signature's certificate", ret, e);
}

static int parse_chain(const json_t *o, struct evidence *v, struct err *e)
{
	MEMBERS(members, "certificates");
	const json_t *list;
	int r = take_members(o, members, e);

	if (r < 0 || (r = doc_array(WHAT, o, "certificates", CERTS_MAX, &list, e)) < 0)
		return r;
	if (json_array_size(list) == 0)
		return err_set(e, -EBADMSG, WHAT " has an empty certificate chain");
	for (size_t i = 0; i < json_array_size(list); i++) {
		struct sign_cert *c = NULL;
		r = parse_certificate(json_array_get(list, i), &c, e);
		if (r < 0)
			return r;
		if (i == 0)
			v->leaf = c;
		else if (cert_list_take(&v->others, c) < 0)
			return err_oom(e);
	}
	return 0;
}

static int parse_entries(const json_t *o, struct evidence *v, struct err *e)
{
	const json_t *list;

	if (!json_object_get(o, "tlogEntries"))
		return 0;
	int r = doc_array(WHAT, o, "tlogEntries", ENTRIES_MAX, &list, e);
	if (r < 0)
		return r;
	size_t n = json_array_size(list);
	v->entries = calloc(n ? n : 1, sizeof(*v->entries));
	if (!v->entries)
		return err_oom(e);
	while (v->n_entries < n && r == 0) {
		const json_t *entry = json_array_get(list, v->n_entries);
		r = parse_entry(entry, &v->entries[v->n_entries++], e);
	}
	return r;
}

static int parse_timestamps(const json_t *o, struct evidence *v, struct err *e)
{
	MEMBERS(members, "rfc3161Timestamps");
	MEMBERS(one_members, "signedTimestamp");
	const json_t *data = json_object_get(o, "timestampVerificationData"), *list;
	int r;

	if (!data)
		return 0;
	if ((r = take_members(data, members, e)) < 0 || !json_object_get(data, "rfc3161Timestamps"))
		return r;
	r = doc_array(WHAT, data, "rfc3161Timestamps", TIMESTAMPS_MAX, &list, e);
	if (r < 0)
		return r;
	size_t n = json_array_size(list);
	v->timestamps = calloc(n ? n : 1, sizeof(*v->timestamps));
	if (!v->timestamps)
		return err_oom(e);
	while (v->n_timestamps < n && r == 0) {
		const json_t *one = json_array_get(list, v->n_timestamps);
		r = take_members(one, one_members, e);
		if (r == 0)
			r = doc_bytes(WHAT, one, "signedTimestamp", &v->timestamps[v->n_timestamps++], e);
	}
	return r;
}

static int parse_material(const json_t *o, struct evidence *v, struct err *e)
{
	MEMBERS(members, "publicKey", "x509CertificateChain", "certificate", "tlogEntries",
		"timestampVerificationData");
	MEMBERS(key_members, "hint");
	int r = take_members(o, members, e);
	const json_t *key = json_object_get(o, "publicKey"), *cert = json_object_get(o, "certificate");
	const json_t *chain = json_object_get(o, "x509CertificateChain");

	if (r < 0)
		return r;
	if (!!key + !!cert + !!chain != 1)
		return err_set(e, -EBADMSG, WHAT " must have one of key, certificate and certificate chain");
	if (key)
		r = take_members(key, key_members, e);
	else if (cert)
		r = parse_certificate(cert, &v->leaf, e);
	else
		r = parse_chain(chain, v, e);
	if (r == 0)
		r = parse_entries(o, v, e);
	return r < 0 ? r : parse_timestamps(o, v, e);
}

/* ---- what was signed ---- */

static int check_subject(const json_t *statement, const char *digest, struct err *e)
{
	const json_t *list;
	int r = doc_array("signature's statement", statement, "subject", SIGN_CANDIDATES_MAX, &list, e);

	if (r < 0)
		return r;
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *d = json_object_get(json_array_get(list, i), "digest");
		const char *s = json_string_value(json_object_get(d, oci_digest_alg(digest)));
		if (s && strcmp(s, oci_digest_hex(digest)) == 0)
			return 0;
	}
	return err_set(e, -EKEYREJECTED, "signed for another image");
}

static int check_statement(const struct bytes *payload, const char *digest, struct err *e)
{
	static const char what[] = "signature's statement";
	MEMBERS(members, "_type", "subject", "predicateType", "predicate");
	CLEANUP(json_done) json_t *j = NULL;
	const char *type, *predicate;
	int r = doc_parse(what, payload->p, payload->n, &j, e);

	if (r < 0 || (r = doc_members(what, j, members, e)) < 0 ||
		(r = doc_str(what, j, "_type", &type, e)) < 0 ||
		(r = doc_str(what, j, "predicateType", &predicate, e)) < 0)
		return r;
	if (strcmp(type, "https://in-toto.io/Statement/v1") != 0 &&
		strcmp(type, "https://in-toto.io/Statement/v0.1") != 0)
		return err_set(e, -EBADMSG, "%s has the unknown type \"%.100s\"", what, type);
	if (strcmp(predicate, PREDICATE_SIGN) != 0)
		return err_set(e, -EKEYREJECTED,
			"says something about the image (%.100s), but does not sign it", predicate);
	return check_subject(j, digest, e);
}

/* Pre-authentication encoding (DSSE protocol.md): what an envelope's signature is over. */
static int encode(struct evidence *v, struct err *e)
{
	CLEANUP_FREE char *head =
		str_printf("DSSEv1 %zu " STATEMENT_TYPE " %zu ", strlen(STATEMENT_TYPE), v->payload.n);
	CLEANUP(buf_done) struct buf b = {0};

	if (!head || buf_append(&b, head, strlen(head)) < 0 || buf_append(&b, v->payload.p, v->payload.n) < 0)
		return err_oom(e);
	v->message = (struct bytes){.p = malloc(b.len + 1), .n = b.len};
	if (!v->message.p)
		return err_oom(e);
	memcpy(v->message.p, buf_data(&b), b.len);
	return sign_sha256(v->message.p, v->message.n, v->hash, e);
}

static int parse_envelope(const json_t *o, const char *digest, struct evidence *v, struct err *e)
{
	MEMBERS(members, "payload", "payloadType", "signatures");
	MEMBERS(signature_members, "sig", "keyid");
	const json_t *list;
	int r = take_members(o, members, e);

	if (r < 0 || (r = doc_equal(WHAT, o, "payloadType", STATEMENT_TYPE, e)) < 0 ||
		(r = doc_bytes(WHAT, o, "payload", &v->payload, e)) < 0 ||
		(r = doc_array(WHAT, o, "signatures", 1, &list, e)) < 0)
		return r;
	const json_t *one = json_array_get(list, 0);
	if (!one)
		return err_set(e, -EBADMSG, WHAT " has an envelope without a signature");
	if ((r = take_members(one, signature_members, e)) < 0 ||
		(r = doc_bytes(WHAT, one, "sig", &v->signature, e)) < 0 ||
		(r = check_statement(&v->payload, digest, e)) < 0)
		return r;
	v->is_envelope = true;
	return encode(v, e);
}

static int parse_message(const json_t *o, const char *digest, struct evidence *v, struct err *e)
{
	MEMBERS(members, "messageDigest", "signature");
	MEMBERS(digest_members, "algorithm", "digest");
	const json_t *d;
	int r = take_members(o, members, e);

	if (r < 0 || (r = doc_object(WHAT, o, "messageDigest", &d, e)) < 0 ||
		(r = take_members(d, digest_members, e)) < 0 ||
		(r = doc_equal(WHAT, d, "algorithm", "SHA2_256", e)) < 0 ||
		(r = take_hash(json_string_value(json_object_get(d, "digest")), v->hash, e)) < 0 ||
		(r = doc_bytes(WHAT, o, "signature", &v->signature, e)) < 0)
		return r;
	char text[OCI_DIGEST_MAX] = "sha256:";
	hex_encode(text + strlen(text), v->hash, SHA256_LEN);
	return strcmp(text, digest) == 0 ? 0
					 : err_set(e, -EKEYREJECTED, "signed for another image (%s)", text);
}

/* ---- versions ---- */

static int check_version(const json_t *j, int *ret_minor, struct err *e)
{
	static const struct {
		const char *type;
		int minor;
	} types[] = {
		{SIGN_TYPE_BUNDLE "+json;version=0.1", 1},
		{SIGN_TYPE_BUNDLE "+json;version=0.2", 2},
		{SIGN_TYPE_BUNDLE "+json;version=0.3", 3},
		{SIGN_TYPE_BUNDLE ".v0.1+json", 1},
		{SIGN_TYPE_BUNDLE ".v0.2+json", 2},
		{SIGN_TYPE_BUNDLE ".v0.3+json", 3},
	};
	const char *type;
	int r = doc_str(WHAT, j, "mediaType", &type, e);

	if (r < 0)
		return r;
	for (size_t i = 0; i < ARRAY_LEN(types); i++)
		if (strcmp(types[i].type, type) == 0) {
			*ret_minor = types[i].minor;
			return 0;
		}
	return err_set(e, -EBADMSG, WHAT " has the unknown media type \"%.100s\"", type);
}

/* What each version demands of a log entry. */
static int check_entries(const struct evidence *v, int minor, struct err *e)
{
	for (size_t i = 0; i < v->n_entries; i++) {
		const struct log_entry *t = &v->entries[i];
		if (minor == 1 ? !t->promise.p : !t->has_proof || !t->checkpoint)
			return err_set(e, -EBADMSG, WHAT " has a log entry without %s",
				minor == 1 ? "promise of inclusion" : "proof of inclusion");
	}
	return 0;
}

int evidence_bundle(const struct sign_candidate *c, const char *digest, struct evidence *ret, struct err *e)
{
	MEMBERS(members, "mediaType", "verificationMaterial", "messageSignature", "dsseEnvelope");
	CLEANUP(evidence_done) struct evidence v = {0};
	CLEANUP(json_done) json_t *j = NULL;
	const json_t *material;
	int minor = 0, r = doc_parse(WHAT, c->payload, c->payload_len, &j, e);

	if (r < 0 || (r = take_members(j, members, e)) < 0 || (r = check_version(j, &minor, e)) < 0 ||
		(r = doc_object(WHAT, j, "verificationMaterial", &material, e)) < 0 ||
		(r = parse_material(material, &v, e)) < 0 || (r = check_entries(&v, minor, e)) < 0)
		return r;
	const json_t *message = json_object_get(j, "messageSignature"),
		     *envelope = json_object_get(j, "dsseEnvelope");
	if (!message == !envelope)
		return err_set(e, -EBADMSG, WHAT " must have either a signature or an envelope");
	r = envelope ? parse_envelope(envelope, digest, &v, e) : parse_message(message, digest, &v, e);
	if (r < 0)
		return r;
	*ret = v;
	v = (struct evidence){0};
	return 0;
}
