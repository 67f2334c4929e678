/* SPDX-License-Identifier: MIT */
#include "manifest.h"

#include <string.h>
#include <strings.h>

#include "base/io.h"

int oci_json_parse_as(bool array, const char *what, const void *data, size_t n, json_t **ret, struct err *e)
{
	json_error_t je;

	if (n > OCI_JSON_MAX)
		return err_set(e, -EFBIG, "%s is larger than %u MiB", what, OCI_JSON_MAX >> 20);
	/* jansson bounds the depth itself (JSON_PARSER_MAX_DEPTH, 2048). */
	json_t *j = json_loadb(data, n, JSON_REJECT_DUPLICATES, &je);
	if (!j)
		return err_set(e, -EBADMSG, "%s is not valid JSON: %s", what, je.text);
	if (array ? !json_is_array(j) : !json_is_object(j)) {
		json_decref(j);
		return err_set(e, -EBADMSG, "%s is not a JSON %s", what, array ? "array" : "object");
	}
	*ret = j;
	return 0;
}

int oci_json_parse(const char *what, const void *data, size_t n, json_t **ret, struct err *e)
{
	return oci_json_parse_as(false, what, data, n, ret, e);
}

static void json_done(json_t **j)
{
	json_decref(*j);
}

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

static int parse_desc(const char *what, const json_t *o, struct oci_desc *d, struct err *e)
{
	const char *digest = get_str(o, "digest");
	const json_t *size = json_object_get(o, "size");
	const char *type = get_str(o, "mediaType");
	const json_t *annotations = json_object_get(o, "annotations");

	if (!json_is_object(o))
		return err_set(e, -EBADMSG, "%s has an entry that is not a descriptor", what);
	if (!oci_digest_valid(digest))
		return err_set(e, -EBADMSG, "%s has an entry with an invalid digest \"%s\"", what,
			digest ? digest : "");
	if (!json_is_integer(size) || json_integer_value(size) < 0)
		return err_set(e, -EBADMSG, "%s has an entry with an invalid size", what);
	oci_digest_copy(d->digest, digest);
	d->size = (uint64_t)json_integer_value(size);
	d->media_type = strdup(type ? type : "");
	if (!d->media_type || platform_from_json(json_object_get(o, "platform"), &d->platform) < 0 ||
		dup_str(annotations, "io.containerd.image.name", &d->name) < 0 ||
		dup_str(annotations, "org.opencontainers.image.ref.name", &d->ref_name) < 0)
		return err_oom(e);
	const char *os = d->platform.os, *arch = d->platform.arch;
	d->attestation = get_str(annotations, "vnd.docker.reference.type") ||
			 (os && arch && strcmp(os, "unknown") == 0 && strcmp(arch, "unknown") == 0);
	return 0;
}

static int parse_descs(const char *what, const json_t *array, size_t max, struct oci_desc **ret,
	size_t *ret_n, struct err *e)
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
		int r = parse_desc(what, json_array_get(array, i), &v[i], e);
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

int oci_kind_of(const void *data, size_t n, const char *media_type, enum oci_kind *ret, struct err *e)
{
	static const char *const index_types[] = {OCI_TYPE_INDEX, DOCKER_TYPE_LIST};
	static const char *const manifest_types[] = {OCI_TYPE_MANIFEST, DOCKER_TYPE_MANIFEST};
	CLEANUP(json_done) json_t *j = NULL;
	int r = oci_json_parse("image manifest", data, n, &j, e);

	if (r < 0)
		return r;
	if (json_integer_value(json_object_get(j, "schemaVersion")) == 1)
		return err_set(e, -EOPNOTSUPP,
			"image manifest has Docker's schema 1, which is obsolete and not supported");
	/* What the document says of itself counts more than what the transport says. */
	const char *type = get_str(j, "mediaType");
	if (!type)
		type = media_type;
	bool manifests = json_is_array(json_object_get(j, "manifests"));
	bool layers = json_is_array(json_object_get(j, "layers"));
	if (manifests && layers)
		return err_set(e, -EBADMSG, "image manifest is ambiguous: it has both layers and manifests");
	if (manifests && (!type || !known_type(type, manifest_types, ARRAY_LEN(manifest_types))))
		*ret = OCI_KIND_INDEX;
	else if (layers && (!type || !known_type(type, index_types, ARRAY_LEN(index_types))))
		*ret = OCI_KIND_MANIFEST;
	else
		return err_set(e, -EBADMSG, "not an image manifest (media type \"%s\")", type ? type : "");
	return 0;
}

int oci_index_parse(const void *data, size_t n, struct oci_index *ret, struct err *e)
{
	CLEANUP(json_done) json_t *j = NULL;
	int r = oci_json_parse("image index", data, n, &j, e);

	if (r < 0)
		return r;
	*ret = (struct oci_index){0};
	return parse_descs(
		"image index", json_object_get(j, "manifests"), OCI_MANIFESTS_MAX, &ret->v, &ret->n, e);
}

void oci_index_done(struct oci_index *i)
{
	descs_free(i->v, i->n);
	*i = (struct oci_index){0};
}

static bool is_manifest_type(const char *t)
{
	return !*t || strcmp(t, OCI_TYPE_MANIFEST) == 0 || strcmp(t, DOCKER_TYPE_MANIFEST) == 0;
}

const struct oci_desc *oci_index_select(
	const struct oci_index *i, const struct oci_platform *want, struct err *e)
{
	const struct oci_desc *unnamed = NULL;
	char have[512] = "", text[128];
	size_t n_unnamed = 0, len = 0;

	for (size_t k = 0; k < i->n; k++) {
		const struct oci_desc *d = &i->v[k];
		if (d->attestation || !is_manifest_type(d->media_type))
			continue;
		if (!d->platform.os || !d->platform.arch) {
			unnamed = d;
			n_unnamed++;
			continue;
		}
		if (oci_platform_matches(&d->platform, want))
			return d;
		oci_platform_text(&d->platform, text, sizeof(text));
		if (len < sizeof(have))
			len += (size_t)snprintf(
				have + len, sizeof(have) - len, "%s%s", len ? ", " : "", text);
	}
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

static int check_manifest(const struct oci_manifest *m, struct err *e)
{
	static const char *const config_types[] = {"", OCI_TYPE_CONFIG, DOCKER_TYPE_CONFIG};
	uint64_t total = 0;

	if (!known_type(m->config.media_type, config_types, ARRAY_LEN(config_types)))
		return err_set(e, -EOPNOTSUPP,
			"not a container image: its configuration has media type \"%s\"",
			m->config.media_type);
	if (m->config.size > OCI_JSON_MAX)
		return err_set(e, -EFBIG, "image configuration is larger than %u MiB", OCI_JSON_MAX >> 20);
	if (m->n_layers == 0)
		return err_set(e, -EBADMSG, "image has no layers");
	for (size_t i = 0; i < m->n_layers; i++) {
		if (!layer_type_ok(m->layers[i].media_type))
			return err_set(e, -EOPNOTSUPP, "layer %zu of %zu has unsupported media type \"%s\"",
				i + 1, m->n_layers, m->layers[i].media_type);
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
	r = parse_desc("image manifest", json_object_get(j, "config"), &m.config, e);
	if (r < 0)
		return r;
	r = parse_descs(
		"image manifest", json_object_get(j, "layers"), OCI_LAYERS_MAX, &m.layers, &m.n_layers, e);
	if (r < 0)
		return r;
	r = check_manifest(&m, e);
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
