/* SPDX-License-Identifier: MIT */
#include "manifest.h"

#include <string.h>

#include "base/io.h"

/* A string member without NUL inside (jansson refuses those by default); NULL when absent or of another type.
 */
static const char *get_str(const json_t *o, const char *key)
{
	return json_string_value(json_object_get(o, key));
}

static int dup_str(const json_t *o, const char *key, char **ret)
{
	const char *s = get_str(o, key);

	if (!s || !*s)
		return 0;
	*ret = strdup(s);
	return *ret ? 0 : -ENOMEM;
}

static bool known_type(const char *type, const char *const *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(type, list[i]) == 0)
			return true;
	return false;
}

/* ---- platforms ---- */

static int platform_from_json(const json_t *o, struct oci_platform *p)
{
	int r = dup_str(o, "os", &p->os);

	if (r == 0)
		r = dup_str(o, "architecture", &p->arch);
	if (r == 0)
		r = dup_str(o, "variant", &p->variant);
	p->features = json_array_size(json_object_get(o, "os.features")) > 0;
	return r;
}

/* ---- descriptors ---- */

static void desc_done(struct oci_desc *d)
{
	free(d->media_type);
	free(d->name);
	free(d->ref_name);
	oci_platform_done(&d->platform);
}

static void descs_free(struct oci_desc *v, size_t n)
{
	for (size_t i = 0; v && i < n; i++)
		desc_done(&v[i]);
	free(v);
}

static const char *const index_types[] = {OCI_TYPE_INDEX, DOCKER_TYPE_LIST};
static const char *const manifest_types[] = {OCI_TYPE_MANIFEST, DOCKER_TYPE_MANIFEST};
static const char *const config_types[] = {"", OCI_TYPE_CONFIG, DOCKER_TYPE_CONFIG};

static bool is_index_type(const char *type)
{
	return known_type(type, index_types, ARRAY_LEN(index_types));
}

static bool is_manifest_type(const char *type)
{
	return known_type(type, manifest_types, ARRAY_LEN(manifest_types));
}

bool oci_type_known(const char *type)
{
	return type &&
	       (is_index_type(type) || is_manifest_type(type) || strcmp(type, OCI_TYPE_ARTIFACT) == 0);
}

/* What an index's entry says of itself that tells it from an image. */
static bool is_no_image(const json_t *o, const struct oci_platform *p)
{
	const char *artifact = get_str(o, "artifactType");

	return get_str(json_object_get(o, "annotations"), "vnd.docker.reference.type") ||
	       (p->os && p->arch && strcmp(p->os, "unknown") == 0 && strcmp(p->arch, "unknown") == 0) ||
	       (artifact && !known_type(artifact, config_types, ARRAY_LEN(config_types)));
}

static bool is_foreign(const char *type)
{
	static const char *const prefixes[] = {"application/vnd.oci.image.layer.nondistributable.",
		"application/vnd.docker.image.rootfs.foreign."};

	for (size_t i = 0; i < ARRAY_LEN(prefixes); i++)
		if (strncmp(type, prefixes[i], strlen(prefixes[i])) == 0)
			return true;
	return false;
}

static int parse_desc(const char *what, const json_t *o, bool in_index, struct oci_desc *d, struct err *e)
{
	const char *digest = get_str(o, "digest");
	const json_t *size = json_object_get(o, "size");
	const char *type = get_str(o, "mediaType");
	const json_t *annotations = json_object_get(o, "annotations");

	if (!json_is_object(o))
		return err_set(e, -EBADMSG, "%s has an entry that is not a descriptor", what);
	if (!oci_digest_valid(digest))
		return err_set(e, -EBADMSG, "%s has an entry with an invalid digest \"%.200s\"", what,
			digest ? digest : "");
	if (!json_is_integer(size) || json_integer_value(size) < 0)
		return err_set(e, -EBADMSG, "%s has an entry with an invalid size", what);
	oci_digest_copy(d->digest, digest);
	d->size = (uint64_t)json_integer_value(size);
	d->media_type = strdup(type ? type : "");
	if (!d->media_type)
		return err_oom(e);
	if (in_index && (platform_from_json(json_object_get(o, "platform"), &d->platform) < 0 ||
				dup_str(annotations, "io.containerd.image.name", &d->name) < 0 ||
				dup_str(annotations, "org.opencontainers.image.ref.name", &d->ref_name) < 0))
		return err_oom(e);
	d->attestation = is_no_image(o, &d->platform);
	d->foreign = is_foreign(d->media_type);
	if (in_index)
		d->role = is_index_type(d->media_type) ? OCI_ROLE_INDEX : OCI_ROLE_MANIFEST;
	return 0;
}

/* in_index: what is named there are documents, else blobs. */
static int parse_descs(const char *what, const json_t *array, bool in_index, size_t max,
	struct oci_desc **ret, size_t *ret_n, struct err *e)
{
	size_t n = json_array_size(array);

	if (!json_is_array(array))
		return err_set(e, -EBADMSG, "%s has no list of entries", what);
	if (n > max)
		return err_set(e, -E2BIG, "%s has %zu entries (at most %zu are supported)", what, n, max);
	struct oci_desc *v = calloc(n ? n : 1, sizeof(*v));
	if (!v)
		return err_oom(e);
	for (size_t i = 0; i < n; i++) {
		int r = parse_desc(what, json_array_get(array, i), in_index, &v[i], e);
		if (r < 0) {
			descs_free(v, n);
			return r;
		}
	}
	*ret = v;
	*ret_n = n;
	return 0;
}

/* ---- index and manifest ---- */

/* What people have in registries beside images, in words. */
static int refuse_type(const json_t *j, const char *type, struct err *e)
{
	if (json_integer_value(json_object_get(j, "schemaVersion")) == 1 ||
		(type && strstr(type, "distribution.manifest.v1+")))
		return err_set(e, -EOPNOTSUPP,
			"image manifest has Docker's schema 1, which is obsolete and not supported");
	if (type && strcmp(type, OCI_TYPE_ARTIFACT) == 0)
		return err_set(e, -EOPNOTSUPP, "not a container image but an artifact of type \"%.200s\"",
			get_str(j, "artifactType") ? get_str(j, "artifactType") : "");
	return 0;
}

enum sort { SORT_INDEX, SORT_MANIFEST, SORT_OTHER };

/*
 * The one place that says what a document is. Its own word counts more than the transport's, which may be any
 * ("text/plain") and then counts nothing. What is of a type has the lists of that type, and not those of another.
 * *ret_type: the type, "" if nobody says.
 */
static int sort_of(
	const json_t *j, const char *media_type, enum sort *ret, const char **ret_type, struct err *e)
{
	bool manifests = json_is_array(json_object_get(j, "manifests"));
	bool layers = json_is_array(json_object_get(j, "layers"));
	const char *type = get_str(j, "mediaType");

	if (!type || !*type)
		type = oci_type_known(media_type) ? media_type : "";
	*ret_type = type;
	if (manifests && layers)
		return err_set(e, -EBADMSG, "image manifest is ambiguous: it has both layers and manifests");
	if (manifests && !*type && json_object_get(j, "config"))
		return err_set(
			e, -EBADMSG, "manifest is ambiguous: it has both a configuration and manifests");
	if (manifests && (!*type || is_index_type(type)))
		*ret = SORT_INDEX;
	else if (layers && (!*type || is_manifest_type(type)))
		*ret = SORT_MANIFEST;
	else
		*ret = SORT_OTHER;
	return 0;
}

int oci_kind_of(const void *data, size_t n, const char *media_type, enum oci_kind *ret, struct err *e)
{
	CLEANUP(json_done) json_t *j = NULL;
	enum sort sort = SORT_OTHER;
	const char *type = NULL;
	int r = oci_json_parse("image manifest", data, n, &j, e);

	if (r < 0)
		return r;
	const char *said = get_str(j, "mediaType");
	if (!said)
		said = media_type;
	r = refuse_type(j, said, e);
	if (r == 0)
		r = sort_of(j, media_type, &sort, &type, e);
	if (r < 0)
		return r;
	if (sort == SORT_OTHER)
		return err_set(
			e, -EBADMSG, "not an image manifest (media type \"%.200s\")", said ? said : "");
	*ret = sort == SORT_INDEX ? OCI_KIND_INDEX : OCI_KIND_MANIFEST;
	return 0;
}

int oci_document_type(const void *data, size_t n, const char *named, char **ret, struct err *e)
{
	CLEANUP(json_done) json_t *j = NULL;
	enum oci_kind kind = OCI_KIND_MANIFEST;
	int r = oci_json_parse("image manifest", data, n, &j, e);

	if (r < 0)
		return r;
	const char *type = json_string_value(json_object_get(j, "mediaType"));
	if (!type || !*type)
		type = named;
	if (!type || !*type) {
		r = oci_kind_of(data, n, NULL, &kind, e);
		type = kind == OCI_KIND_INDEX ? OCI_TYPE_INDEX : OCI_TYPE_MANIFEST;
	}
	*ret = r == 0 ? strdup(type) : NULL;
	return r < 0 || *ret ? r : err_oom(e);
}

int oci_index_parse(const void *data, size_t n, struct oci_index *ret, struct err *e)
{
	CLEANUP(json_done) json_t *j = NULL;
	int r = oci_json_parse("image index", data, n, &j, e);

	if (r < 0)
		return r;
	*ret = (struct oci_index){0};
	return parse_descs(
		"image index", json_object_get(j, "manifests"), true, OCI_MANIFESTS_MAX, &ret->v, &ret->n, e);
}

void oci_index_done(struct oci_index *i)
{
	descs_free(i->v, i->n);
	*i = (struct oci_index){0};
}

static bool may_be_image(const struct oci_desc *d)
{
	return !d->attestation && (!*d->media_type || is_manifest_type(d->media_type));
}

const struct oci_desc *oci_index_select(
	const struct oci_index *i, const struct oci_platform *want, struct err *e)
{
	const struct oci_desc *unnamed = NULL, *best = NULL;
	char have[512] = "", text[128];
	size_t n_unnamed = 0, len = 0;
	unsigned best_rank = 0;

	for (size_t k = 0; k < i->n; k++) {
		const struct oci_desc *d = &i->v[k];
		if (!may_be_image(d))
			continue;
		if (!d->platform.os || !d->platform.arch) {
			unnamed = d;
			n_unnamed++;
			continue;
		}
		unsigned rank = oci_platform_rank(&d->platform, want);
		if (rank > best_rank) {
			best = d;
			best_rank = rank;
		}
		oci_platform_text(&d->platform, text, sizeof(text));
		if (len < sizeof(have))
			len += (size_t)snprintf(
				have + len, sizeof(have) - len, "%s%s", len ? ", " : "", text);
	}
	if (best)
		return best;
	/* Without a platform the configuration decides, later. */
	if (n_unnamed == 1)
		return unnamed;
	oci_platform_text(want, text, sizeof(text));
	if (!len)
		err_set(e, -ENOENT, "image index has no image for %s", text);
	else
		err_set(e, -ENOENT, "image has no variant for %s, only for %s", text, have);
	return NULL;
}

/* Layers must be tars; their compression is found out by looking at them, not by the type. */
static bool layer_type_ok(const char *t)
{
	static const char *const prefixes[] = {
		"application/vnd.oci.image.layer.v1.tar",
		"application/vnd.oci.image.layer.nondistributable.v1.tar",
		"application/vnd.docker.image.rootfs.diff.tar",
		"application/vnd.docker.image.rootfs.foreign.diff.tar",
	};
	static const char *const suffixes[] = {"", "+gzip", ".gzip", "+zstd", ".zstd"};

	for (size_t i = 0; i < ARRAY_LEN(prefixes); i++) {
		size_t n = strlen(prefixes[i]);
		if (strncmp(t, prefixes[i], n) == 0 && known_type(t + n, suffixes, ARRAY_LEN(suffixes)))
			return true;
	}
	return false;
}

static int check_manifest(const json_t *j, const struct oci_manifest *m, struct err *e)
{
	const char *artifact = get_str(j, "artifactType");
	uint64_t total = 0;

	if (!known_type(m->config.media_type, config_types, ARRAY_LEN(config_types)))
		return artifact
			       ? err_set(e, -EOPNOTSUPP,
					 "not a container image but an artifact of type \"%.200s\"", artifact)
			       : err_set(e, -EOPNOTSUPP,
					 "not a container image: its configuration has media type \"%.200s\"",
					 m->config.media_type);
	if (m->config.size > OCI_JSON_MAX)
		return err_set(e, -EFBIG, "image configuration is larger than %u MiB", OCI_JSON_MAX >> 20);
	for (size_t i = 0; i < m->n_layers; i++) {
		if (!layer_type_ok(m->layers[i].media_type))
			return err_set(e, -EOPNOTSUPP,
				"layer %zu of %zu has unsupported media type \"%.200s\"", i + 1, m->n_layers,
				m->layers[i].media_type);
		if (__builtin_add_overflow(total, m->layers[i].size, &total) || total > INT64_MAX)
			return err_set(e, -EBADMSG, "image manifest has impossible layer sizes");
	}
	return 0;
}

int oci_manifest_parse(const void *data, size_t n, struct oci_manifest *ret, struct err *e)
{
	CLEANUP(json_done) json_t *j = NULL;
	CLEANUP(oci_manifest_done) struct oci_manifest m = {0};
	int r = oci_json_parse("image manifest", data, n, &j, e);

	if (r < 0)
		return r;
	r = parse_desc("image manifest", json_object_get(j, "config"), false, &m.config, e);
	/* Go writes null for an empty list. */
	const json_t *layers = json_object_get(j, "layers");
	if (r == 0 && !json_is_null(layers))
		r = parse_descs("image manifest", layers, false, OCI_LAYERS_MAX, &m.layers, &m.n_layers, e);
	if (r == 0)
		r = check_manifest(j, &m, e);
	if (r < 0)
		return r;
	*ret = m;
	m = (struct oci_manifest){0};
	return 0;
}

void oci_manifest_done(struct oci_manifest *m)
{
	desc_done(&m->config);
	descs_free(m->layers, m->n_layers);
	*m = (struct oci_manifest){0};
}

/* ---- everything ---- */

/* The configuration after the layers, in one list. */
static int manifest_names(const json_t *j, struct oci_contents *c, struct err *e)
{
	int r = parse_descs("manifest", json_object_get(j, "layers"), false, OCI_LAYERS_MAX, &c->v, &c->n, e);
	struct oci_desc *v = r == 0 ? realloc(c->v, (c->n + 1) * sizeof(*v)) : NULL;

	if (!v)
		return r < 0 ? r : err_oom(e);
	c->v = v;
	v[c->n++] = (struct oci_desc){0};
	return parse_desc("manifest", json_object_get(j, "config"), false, &v[c->n - 1], e);
}

/* What is neither an index nor a manifest names nothing, unless it looks as if it did. */
static int other_names(const json_t *j, const char *type, struct oci_contents *c, struct err *e)
{
	const json_t *blobs = json_object_get(j, "blobs");

	if (strcmp(type, OCI_TYPE_ARTIFACT) == 0)
		return blobs ? parse_descs("manifest", blobs, false, OCI_LAYERS_MAX, &c->v, &c->n, e) : 0;
	if (is_index_type(type) || is_manifest_type(type) || json_object_get(j, "manifests") ||
		(!*type && json_object_get(j, "config")))
		return err_set(e, -EBADMSG,
			"manifest of media type \"%.200s\" does not have what belongs to that", type);
	return 0;
}

int oci_document_names(
	const void *data, size_t n, const char *media_type, struct oci_contents *ret, struct err *e)
{
	CLEANUP(json_done) json_t *j = NULL;
	CLEANUP(oci_contents_done) struct oci_contents c = {0};
	enum sort sort = SORT_OTHER;
	const char *type = NULL;

	*ret = (struct oci_contents){0};
	if (media_type && *media_type && !oci_type_known(media_type))
		return 0; /* it need not even be JSON */
	int r = oci_json_parse("manifest", data, n, &j, e);
	if (r == 0)
		r = sort_of(j, media_type, &sort, &type, e);
	if (r < 0)
		return r;
	if (sort == SORT_INDEX)
		r = parse_descs("image index", json_object_get(j, "manifests"), true, OCI_MANIFESTS_MAX, &c.v,
			&c.n, e);
	else if (sort == SORT_MANIFEST)
		r = manifest_names(j, &c, e);
	else
		r = other_names(j, type, &c, e);
	if (r < 0)
		return r;
	*ret = c;
	c = (struct oci_contents){0};
	return 0;
}

void oci_contents_done(struct oci_contents *c)
{
	descs_free(c->v, c->n);
	*c = (struct oci_contents){0};
}
