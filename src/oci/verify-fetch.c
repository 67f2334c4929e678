/* SPDX-License-Identifier: MIT */
/*
 * Two places: the tag sha256-HEX.sig, whose manifest has a layer for each signature, and the referrers of the manifest,
 * each a manifest with the signature as its layer, in sigstore's bundle form or in that of the tag (cosign's "OCI 1.1
 * experimental"). All of it is a stranger's: sizes, counts and time are bounded, digests are checked.
 */
#include "verify-fetch.h"

#include <string.h>

#include "base/io.h"

#define TYPE_COSIGN_ARTIFACT \
	"application/vnd.dev.cosign.artifact.sig.v1+json" /* artifact type of the tag's form */

bool oci_signature_tag(const char *digest, char ret[OCI_TAG_MAX + 1])
{
	int n = snprintf(ret, OCI_TAG_MAX + 1, "%s-%s.sig", oci_digest_alg(digest), oci_digest_hex(digest));

	return n <= OCI_TAG_MAX;
}

static void candidate_done(struct sign_candidate *c)
{
	free((char *)c->payload);
	free((char *)c->signature);
	free((char *)c->certificate);
	free((char *)c->chain);
	free((char *)c->log_entry);
}

void oci_signatures_done(struct oci_signatures *s)
{
	for (size_t i = 0; i < s->n; i++)
		candidate_done(&s->v[i]);
	free(s->v);
	free(s->digest);
	*s = (struct oci_signatures){0};
}

void oci_signatures_keep(struct oci_signatures *s, const bool *keep)
{
	size_t n = 0;

	for (size_t i = 0; i < s->n; i++) {
		if (!keep[i]) {
			candidate_done(&s->v[i]);
			continue;
		}
		s->v[n] = s->v[i];
		oci_digest_copy(s->digest[n++], s->digest[i]);
	}
	s->n = n;
}

void oci_found_done(struct oci_found *f)
{
	oci_signatures_done(&f->all);
}

/* Notes what could not be got. Returns 0, or the code of what ends everything. */
static int note(struct oci_found *f, int r, const struct err *why, struct err *e)
{
	if (r == -ENOMEM || r == -ECANCELED) {
		if (e)
			*e = *why;
		return r;
	}
	if (f->failed == 0) {
		f->failed = r;
		f->failure = *why;
	}
	return 0;
}

static bool enough(struct oci_found *f)
{
	struct err late;

	if (f->all.n >= SIGN_CANDIDATES_MAX || f->requests >= SIGN_CANDIDATES_MAX * 2 ||
		f->bytes >= SIGN_TOTAL_MAX)
		f->more = true;
	if (time_mono_ns() <= f->deadline_ns)
		return f->more;
	(void)note(f, err_set(&late, -ETIMEDOUT, "the registry takes longer than %d s", SIGN_FETCH_MAX_S),
		&late, NULL);
	return true;
}

/* ---- one signature ---- */

/* A blob as a text; what the descriptor says of it must be true. */
static int get_blob(struct oci_conn *c, const char *digest, size_t size, char **ret, struct err *e)
{
	CLEANUP_FREE char *buf = malloc(size + 1);
	char is[OCI_DIGEST_MAX];
	uint64_t from = 0;
	size_t have = 0;
	ssize_t n;

	int r = buf ? oci_conn_blob(c, digest, 0, &from, e) : err_oom(e);
	if (r < 0)
		return r;
	/* One byte more than announced shows that it is longer. */
	while (have <= size && (n = oci_conn_read(c, buf + have, size + 1 - have, e)) > 0)
		have += (size_t)n;
	if (have <= size && n < 0)
		return (int)n;
	r = oci_digest_like(digest, buf, have, is, e);
	if (r < 0)
		return r;
	if (have != size || strcmp(is, digest) != 0)
		return err_set(e, -EBADMSG, "signature %.19s arrived damaged", digest);
	buf[have] = '\0';
	*ret = TAKE_PTR(buf);
	return 0;
}

static const char *text(const json_t *o, const char *key)
{
	return json_string_value(json_object_get(o, key));
}

/* Text and size of an annotation are a stranger's too, but of a bounded document. */
static int annotation(const json_t *layer, const char *key, const char **ret, uint64_t *bytes)
{
	const char *s = text(json_object_get(layer, "annotations"), key);

	if (!s || !*s)
		return 0;
	*bytes += strlen(s);
	*ret = strdup(s);
	return *ret ? 0 : -ENOMEM;
}

static int add(struct oci_found *f, const struct sign_candidate *c, const char *digest, struct err *e)
{
	struct oci_signatures *s = &f->all;

	if (!s->v)
		s->v = calloc(SIGN_CANDIDATES_MAX, sizeof(*s->v));
	if (!s->digest)
		s->digest = calloc(SIGN_CANDIDATES_MAX, sizeof(*s->digest));
	if (!s->v || !s->digest)
		return err_oom(e);
	oci_digest_copy(s->digest[s->n], digest);
	s->v[s->n++] = *c;
	return 0;
}

/* A layer that is a signature of digest. */
static int add_layer(
	struct oci_conn *c, const json_t *layer, const char *digest, struct oci_found *f, struct err *e)
{
	const char *type = text(layer, "mediaType"), *blob = text(layer, "digest");
	const json_t *size = json_object_get(layer, "size");
	bool bundle = type && strncmp(type, SIGN_TYPE_BUNDLE, strlen(SIGN_TYPE_BUNDLE)) == 0;
	struct sign_candidate sig = {.is_bundle = bundle};
	struct err why = {0};
	int r = 0;

	if (!bundle && (!type || strcmp(type, SIGN_TYPE_SIMPLE) != 0))
		return 0;
	if (!oci_digest_valid(blob) || !json_is_integer(size) || json_integer_value(size) < 0)
		return note(f, err_set(&why, -EBADMSG, "a signature has an invalid descriptor"), &why, e);
	if (json_integer_value(size) > SIGN_DOCUMENT_MAX)
		return note(f,
			err_set(&why, -EFBIG, "a signature is larger than %u KiB", SIGN_DOCUMENT_MAX >> 10),
			&why, e);
	if (!bundle) {
		r = annotation(layer, COSIGN_SIGNATURE, &sig.signature, &f->bytes);
		if (r == 0)
			r = annotation(layer, COSIGN_CERTIFICATE, &sig.certificate, &f->bytes);
		if (r == 0)
			r = annotation(layer, COSIGN_CHAIN, &sig.chain, &f->bytes);
		if (r == 0)
			r = annotation(layer, COSIGN_LOG_ENTRY, &sig.log_entry, &f->bytes);
		if (r < 0)
			err_oom(&why);
	}
	sig.payload_len = (size_t)json_integer_value(size);
	f->bytes += sig.payload_len;
	if (r == 0)
		r = get_blob(c, blob, sig.payload_len, (char **)&sig.payload, &why);
	if (r == 0)
		r = add(f, &sig, digest, &why);
	if (r == 0)
		return 0;
	candidate_done(&sig);
	return note(f, r, &why, e);
}

/* The manifest that a tag or digest leads to: each of its layers may be a signature of digest. */
static int add_manifest(
	struct oci_conn *c, const char *tag_or_digest, const char *digest, struct oci_found *f, struct err *e)
{
	CLEANUP_FREE char *doc = NULL;
	CLEANUP(json_done) json_t *j = NULL;
	char is[OCI_DIGEST_MAX];
	struct err why = {0};
	size_t n;

	f->requests++;
	int r = oci_conn_manifest(c, tag_or_digest, &doc, &n, is, NULL, &why);
	if (r == -ENOENT)
		return 0;
	if (r == 0)
		r = oci_json_parse("signature's manifest", doc, n, &j, &why);
	if (r < 0)
		return note(f, r, &why, e);
	const json_t *layers = json_object_get(j, "layers");
	for (size_t i = 0; r == 0 && i < json_array_size(layers) && !enough(f); i++)
		r = add_layer(c, json_array_get(layers, i), digest, f, e);
	return r;
}

/* ---- where they are ---- */

/* Whether a referrer can be a signature: it says so, or does not say what it is. */
static bool may_be_signature(const json_t *entry)
{
	const char *type = text(entry, "artifactType");

	return !type || !*type || strcmp(type, TYPE_COSIGN_ARTIFACT) == 0 ||
	       strcmp(type, SIGN_TYPE_SIMPLE) == 0 ||
	       strncmp(type, SIGN_TYPE_BUNDLE, strlen(SIGN_TYPE_BUNDLE)) == 0;
}

static int add_referrers(struct oci_conn *c, const char *digest, struct oci_found *f, struct err *e)
{
	CLEANUP_FREE char *doc = NULL;
	CLEANUP(json_done) json_t *j = NULL;
	struct err why = {0};
	size_t n;

	f->requests++;
	/* Servers compare artifact types whole, and the bundle's has its version in it: we choose here. */
	int r = oci_conn_referrers(c, digest, NULL, &doc, &n, &why);
	if (r == -ENOENT)
		return 0;
	if (r == 0)
		r = oci_json_parse("list of referrers", doc, n, &j, &why);
	if (r < 0)
		return note(f, r, &why, e);
	const json_t *entries = json_object_get(j, "manifests");
	for (size_t i = 0; r == 0 && i < json_array_size(entries); i++) {
		const json_t *entry = json_array_get(entries, i);
		const char *d = text(entry, "digest");
		if (!oci_digest_valid(d) || !may_be_signature(entry))
			continue;
		if (enough(f))
			break;
		r = add_manifest(c, d, digest, f, e);
	}
	return r;
}

int oci_signatures_fetch(struct oci_conn *c, const char *digest, struct oci_found *f, struct err *e)
{
	char tag[OCI_TAG_MAX + 1];
	int r = 0;

	if (!f->deadline_ns)
		f->deadline_ns = time_mono_ns() + (uint64_t)SIGN_FETCH_MAX_S * 1000000000;
	if (oci_signature_tag(digest, tag) && !enough(f))
		r = add_manifest(c, tag, digest, f, e);
	if (r == 0 && !enough(f))
		r = add_referrers(c, digest, f, e);
	return r;
}
