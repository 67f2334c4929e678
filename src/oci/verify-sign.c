/* SPDX-License-Identifier: MIT */
/*
 * Signatures of our own, as cosign makes and finds them: the payload is a layer of the manifest under the tag
 * sha256-HEX.sig, the signature over it an annotation of that layer. A registry has no way to change a tag only if it
 * is still what was read: two who sign the same image in the same second may lose one of the signatures, as with
 * cosign itself.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

#include "base/io.h"
#include "verify-fetch.h"

#define NO_TIME "0001-01-01T00:00:00Z"

static const char *member(const json_t *o, const char *key)
{
	return json_string_value(json_object_get(o, key));
}

int oci_sign_key(const char *file, const char *password, struct sign_private **ret, struct err *e)
{
	char *text = NULL;
	size_t n = 0;
	int r = io_read_file_at(AT_FDCWD, file, OCI_KEY_FILE_MAX, &text, &n);

	if (r < 0)
		return err_sys(e, r, "cannot read the key %s", file);
	r = sign_private_parse(text, n, password, ret, e);
	explicit_bzero(text, n);
	free(text);
	return r < 0 ? err_wrap(e, "key %s", file) : 0;
}

/* Uploads what is in memory, unless it is there. */
static int put_blob(
	struct oci_conn *c, const void *data, size_t n, char ret_digest[OCI_DIGEST_MAX], struct err *e)
{
	int r = oci_digest_of(data, n, ret_digest, e);

	if (r == 0)
		r = oci_conn_has_blob(c, ret_digest, e);
	if (r != 0)
		return r < 0 ? r : 0;
	CLEANUP_CLOSE int fd = memfd_create("signature", MFD_CLOEXEC);
	if (fd < 0)
		return err_sys(e, -errno, "cannot make a file in memory");
	r = io_write_full(fd, data, n);
	if (r < 0)
		return err_sys(e, r, "cannot write a file in memory");
	return oci_conn_upload(c, ret_digest, fd, n, NULL, NULL, e);
}

/* Whether a tag leads to signatures, and nothing else: what is something else is not ours to replace. */
static bool is_signatures(const json_t *manifest)
{
	const json_t *layers = json_object_get(manifest, "layers");
	const char *type = member(manifest, "mediaType");

	if (!json_is_array(layers) ||
		(type && strcmp(type, OCI_TYPE_MANIFEST) != 0 && strcmp(type, DOCKER_TYPE_MANIFEST) != 0))
		return false;
	for (size_t i = 0; i < json_array_size(layers); i++) {
		const char *layer = member(json_array_get(layers, i), "mediaType");
		if (!layer || strcmp(layer, SIGN_TYPE_SIMPLE) != 0)
			return false;
	}
	return true;
}

/* The manifest of the signatures there are; one without layers where there is none. */
static int existing(struct oci_conn *c, const char *tag, json_t **ret, struct err *e)
{
	CLEANUP_FREE char *doc = NULL;
	CLEANUP(json_done) json_t *j = NULL;
	char digest[OCI_DIGEST_MAX];
	size_t n;

	int r = oci_conn_manifest(c, tag, &doc, &n, digest, NULL, e);
	if (r == -ENOENT) {
		*ret = json_pack(
			"{s:i,s:s,s:[]}", "schemaVersion", 2, "mediaType", OCI_TYPE_MANIFEST, "layers");
		return *ret ? 0 : err_oom(e);
	}
	if (r == 0)
		r = oci_json_parse("manifest of its signatures", doc, n, &j, e);
	if (r < 0)
		return r;
	if (!is_signatures(j))
		return err_set(e, -EBADMSG, "tag %s is something else than a manifest of signatures", tag);
	*ret = TAKE_PTR(j);
	return 0;
}

/*
 * The signature of this payload by this key that is there already, NULL if none is: most keys make another one each time,
 * and repeated pushes would fill up what is looked at.
 */
static const char *find_own(const json_t *layers, const struct sign_key *key, const char *image,
	const char *payload, const char *payload_digest)
{
	const struct sign_requirement rq = {.key = key};

	for (size_t i = 0; i < json_array_size(layers); i++) {
		const json_t *l = json_array_get(layers, i);
		const char *d = member(l, "digest"),
			   *s = member(json_object_get(l, "annotations"), COSIGN_SIGNATURE);
		const struct sign_candidate sig = {
			.payload = payload, .payload_len = strlen(payload), .signature = s};
		if (d && s && strcmp(d, payload_digest) == 0 && sign_verify(&rq, image, &sig, NULL) == 0)
			return s;
	}
	return NULL;
}

static bool is_docker(const json_t *manifest)
{
	const char *type = member(manifest, "mediaType");

	return type && strcmp(type, DOCKER_TYPE_MANIFEST) == 0;
}

static int check_room(const json_t *layers, struct err *e)
{
	if (json_array_size(layers) < SIGN_CANDIDATES_MAX)
		return 0;
	return err_set(e, -E2BIG, "it has %zu signatures already (at most %d are looked at)",
		json_array_size(layers), SIGN_CANDIDATES_MAX);
}

/* The configuration that goes with the layers, in the form of an image's: some registries want one. malloc'd. */
static char *config_for(const json_t *layers)
{
	CLEANUP(json_done) json_t *ids = json_array();

	for (size_t i = 0; ids && i < json_array_size(layers); i++)
		(void)json_array_append(ids, json_object_get(json_array_get(layers, i), "digest"));
	CLEANUP(json_done)
	json_t *config = json_pack("{s:s,s:s,s:[{s:s}],s:s,s:{s:s,s:O},s:{}}", "architecture", "", "created",
		NO_TIME, "history", "created", NO_TIME, "os", "", "rootfs", "type", "layers", "diff_ids", ids,
		"config");
	return config ? json_dumps(config, JSON_COMPACT) : NULL;
}

static int put_config(struct oci_conn *c, json_t *manifest, struct err *e)
{
	CLEANUP_FREE char *config = config_for(json_object_get(manifest, "layers"));
	char digest[OCI_DIGEST_MAX];

	if (!config)
		return err_oom(e);
	int r = put_blob(c, config, strlen(config), digest, e);
	if (r < 0)
		return r;
	json_t *desc = json_pack("{s:s,s:I,s:s}", "mediaType",
		is_docker(manifest) ? DOCKER_TYPE_CONFIG : OCI_TYPE_CONFIG, "size",
		(json_int_t)strlen(config), "digest", digest);
	return json_object_set_new(manifest, "config", desc) < 0 ? err_oom(e) : 0;
}

static int put_signature(struct oci_conn *c, const char *tag, json_t *manifest,
	const struct sign_candidate *sig, struct err *e)
{
	json_t *layers = json_object_get(manifest, "layers");
	char digest[OCI_DIGEST_MAX];

	int r = check_room(layers, e);
	if (r == 0)
		r = put_blob(c, sig->payload, sig->payload_len, digest, e);
	if (r < 0)
		return r;
	json_t *layer = json_pack("{s:s,s:I,s:s,s:{s:s}}", "mediaType", SIGN_TYPE_SIMPLE, "size",
		(json_int_t)sig->payload_len, "digest", digest, "annotations", COSIGN_SIGNATURE,
		sig->signature);
	if (json_array_append_new(layers, layer) < 0)
		return err_oom(e);
	r = put_config(c, manifest, e);
	CLEANUP_FREE char *doc = r == 0 ? json_dumps(manifest, JSON_COMPACT) : NULL;
	if (r == 0 && !doc)
		r = err_oom(e);
	return r < 0 ? r
		     : oci_conn_put_manifest(c, tag,
			       is_docker(manifest) ? DOCKER_TYPE_MANIFEST : OCI_TYPE_MANIFEST, doc,
			       strlen(doc), e);
}

/* What is to be there: our signature, or the one by this key that is there. */
struct signing {
	char tag[OCI_TAG_MAX + 1];
	json_t *manifest; /* of the signatures that are there */
	char *payload, *signature;
	bool there;
};

static void signing_done(struct signing *s)
{
	json_decref(s->manifest);
	free(s->payload);
	free(s->signature);
}

static int prepare(struct oci_conn *c, const struct oci_reference *ref, const char *digest,
	const struct sign_private *key, struct signing *s, struct err *e)
{
	CLEANUP_FREE char *repo = NULL;
	char payload_digest[OCI_DIGEST_MAX];
	struct sign_key *public = NULL;

	if (!oci_signature_tag(digest, s->tag))
		return err_set(
			e, -EOPNOTSUPP, "%.19s is too long a digest for a tag: it cannot be signed", digest);
	/* cosign writes Docker Hub's name as it was before. */
	repo = strcmp(ref->domain, "docker.io") == 0 ? str_printf("index.docker.io/%s", ref->path)
						     : oci_reference_repo(ref);
	if (!repo)
		return err_oom(e);
	int r = existing(c, s->tag, &s->manifest, e);
	if (r == 0)
		r = sign_simple(key, repo, digest, &s->payload, &s->signature, e);
	if (r == 0)
		r = oci_digest_of(s->payload, strlen(s->payload), payload_digest, e);
	if (r == 0)
		r = sign_private_public(key, &public, e);
	if (r < 0)
		return r;
	const json_t *layers = json_object_get(s->manifest, "layers");
	const char *own = find_own(layers, public, digest, s->payload, payload_digest);
	sign_key_free(public);
	if (!own)
		return check_room(layers, e);
	free(s->signature);
	s->signature = strdup(own);
	s->there = true;
	return s->signature ? 0 : err_oom(e);
}

int oci_sign_check(struct oci_conn *c, const struct oci_reference *ref, const char *digest,
	const struct sign_private *key, struct err *e)
{
	CLEANUP(signing_done) struct signing s = {0};
	struct err why = {0};
	int r = prepare(c, ref, digest, key, &s, &why);

	/* Registries that make a repository with the first push may hide until then that there is none. */
	if (r == 0 || r == -EACCES || r == -EPERM)
		return 0;
	if (e)
		*e = why;
	return r;
}

int oci_sign_pushed(struct oci_conn *c, const struct oci_reference *ref, const char *digest,
	const struct sign_private *key, struct oci_signatures *ret, struct err *e)
{
	CLEANUP(signing_done) struct signing s = {0};
	CLEANUP(oci_signatures_done)
	struct oci_signatures kept = {
		.v = calloc(1, sizeof(*kept.v)), .digest = calloc(1, sizeof(*kept.digest))};

	if (!kept.v || !kept.digest)
		return err_oom(e);
	int r = prepare(c, ref, digest, key, &s, e);
	if (r < 0)
		return r;
	const struct sign_candidate sig = {
		.payload = s.payload, .payload_len = strlen(s.payload), .signature = s.signature};
	if (!s.there)
		r = put_signature(c, s.tag, s.manifest, &sig, e);
	if (r < 0)
		return r;
	kept.v[0] = sig;
	oci_digest_copy(kept.digest[0], digest);
	kept.n = 1;
	s.payload = s.signature = NULL; /* they are kept's now */
	*ret = kept;
	kept = (struct oci_signatures){0};
	return 0;
}
