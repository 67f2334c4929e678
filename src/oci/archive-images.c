/* SPDX-License-Identifier: MIT */
#include "archive-images.h"

#include <string.h>

#include "base/io.h"
#include "reference.h"

/* Of all images together, what is needed twice counted twice: time and memory do not grow as their number squared. */
#define DOCUMENTS_MAX (256ull << 20) /* bytes of manifests read */
#define CONFIGS_MAX   (64ull << 20)  /* bytes of configurations, which are kept in memory */
#define LAYERS_MAX    65536
#define CONTENTS_MAX  (8ull * OCI_CONTENT_MAX) /* what indexes name */
#define NAMES_MAX     16384

struct finder {
	struct oci_archive *a;
	uint64_t documents, configs, layers, contents, names; /* so far */
	const struct oci_platform *want;
	bool host;
	struct oci_archive_images out;
};

static void image_free(struct oci_archive_image *im)
{
	if (!im)
		return;
	free(im->made);
	free(im->index);
	oci_manifest_done(&im->m);
	oci_config_done(&im->c);
	strv_done(&im->entry.names);
	strv_done(&im->entry.index_blobs);
	free(im);
}
DEFINE_CLEANUP(struct oci_archive_image *, image_free)

void oci_archive_images_done(struct oci_archive_images *l)
{
	for (size_t i = 0; i < l->n; i++)
		image_free(l->v[i]);
	free(l->v);
	*l = (struct oci_archive_images){0};
}

static int charge(uint64_t *sum, uint64_t n, uint64_t max, const char *what, struct err *e)
{
	if (n > max - *sum)
		return max >> 20 ? err_set(e, -EFBIG, "%s have more than %llu MiB", what,
					   (unsigned long long)(max >> 20))
				 : err_set(e, -E2BIG, "%s are more than %llu", what, (unsigned long long)max);
	*sum += n;
	return 0;
}

static int push_image(struct finder *f, struct oci_archive_image **im, struct err *e)
{
	if (f->out.n == OCI_ARCHIVE_IMAGES_MAX)
		return err_set(e, -E2BIG, "the archive has more than %d images", OCI_ARCHIVE_IMAGES_MAX);
	struct oci_archive_image **v = realloc(f->out.v, (f->out.n + 1) * sizeof(*v));
	if (!v)
		return err_oom(e);
	f->out.v = v;
	v[f->out.n++] = TAKE_PTR(*im);
	return 0;
}

/* A name with a digest must be right about it: it is what the user later relies on. */
static int add_name(struct finder *f, struct oci_archive_image *im, const char *name, struct err *e)
{
	CLEANUP(oci_reference_done) struct oci_reference ref = {0};
	int r = charge(&f->names, 1, NAMES_MAX, "the names of the archive's images", e);

	if (r == 0)
		r = oci_reference_parse(name, &ref, e);
	if (r < 0)
		return r;
	if (ref.digest && strcmp(ref.digest, im->entry.served) != 0)
		return err_set(e, -EBADMSG, "the archive calls %.19s \"%.200s\"", im->entry.served, name);
	CLEANUP_FREE char *normal = oci_reference_name(&ref);
	if (!normal)
		return err_oom(e);
	for (size_t i = 0; i < im->entry.names.n; i++)
		if (strcmp(im->entry.names.v[i], normal) == 0)
			return 0;
	return strv_push(&im->entry.names, normal) < 0 ? err_oom(e) : 0;
}

/* ---- blobs ---- */

/*
 * A blob under its own name, never through a link: what stands there must itself have been found to have this
 * digest. what names it in errors.
 */
static int get_blob(
	struct oci_archive *a, const char *digest, const char *what, struct oci_item **ret, struct err *e)
{
	char name[OCI_DIGEST_MAX + 8];

	snprintf(name, sizeof(name), "blobs/%s/%s", oci_digest_alg(digest), oci_digest_hex(digest));
	struct oci_item *it = oci_archive_find(a, name);
	if (!it)
		return err_set(e, -ENOENT, "%s (%.19s) is missing from the archive", what, digest);
	if (it->alias || strcmp(it->digest, digest) != 0)
		return err_set(e, -EBADMSG, "%s (%.19s) is %s in the archive", what, digest,
			it->alias ? "a link" : "something else");
	*ret = it;
	return 0;
}

static int get_described(struct oci_archive *a, const struct oci_desc *d, const char *what,
	struct oci_item **ret, struct err *e)
{
	int r = get_blob(a, d->digest, what, ret, e);

	if (r == 0 && (*ret)->size != d->size)
		return err_set(e, -EBADMSG, "%s (%.19s) has %llu bytes instead of %llu", what, d->digest,
			(unsigned long long)(*ret)->size, (unsigned long long)d->size);
	return r;
}

/* For struct oci_getter. */
static int get_document(void *data, const struct oci_desc *d, char **ret, size_t *ret_n, struct err *e)
{
	struct finder *f = data;
	struct oci_item *it = NULL;
	int r = get_described(f->a, d, "the manifest", &it, e);

	if (r < 0)
		return r;
	r = charge(&f->documents, it->size, DOCUMENTS_MAX, "the archive's manifests", e);
	return r < 0 ? r : oci_archive_load_doc(f->a, it, "image manifest", ret, ret_n, e);
}

/* ---- what both layouts share ---- */

static int check_config(struct finder *f, struct oci_archive_image *im, struct err *e)
{
	CLEANUP_FREE char *text = NULL;
	char have[160], want[160];
	size_t n;

	int r = charge(
		&f->configs, im->config->size, CONFIGS_MAX, "the configurations of the archive's images", e);
	if (r == 0)
		r = oci_archive_load_doc(f->a, im->config, "image configuration", &text, &n, e);
	if (r == 0)
		r = oci_config_parse(text, n, &im->c, e);
	if (r < 0)
		return r;
	if (!oci_platform_matches(&im->c.platform, f->want)) {
		err_set(e, -ENOEXEC, "image is for %s, %s %s",
			oci_platform_text(&im->c.platform, have, sizeof(have)),
			f->host ? "but this host is" : "not for",
			oci_platform_text(f->want, want, sizeof(want)));
		return err_hint(e, "--platform %s loads it", have);
	}
	if (im->c.n_diff_ids != im->m.n_layers)
		return err_set(e, -EBADMSG, "image has %zu layers, but its configuration names %zu",
			im->m.n_layers, im->c.n_diff_ids);
	oci_digest_copy(im->entry.config, im->config->digest);
	im->entry.m = &im->m;
	im->entry.c = &im->c;
	return oci_chain_id(im->c.diff_ids, im->c.n_diff_ids, im->entry.chain, e);
}

/* ---- OCI layout ---- */

static int find_oci_parts(struct finder *f, struct oci_archive_image *im, struct err *e)
{
	char what[64];
	int r = charge(&f->layers, im->m.n_layers, LAYERS_MAX, "the layers of the archive's images", e);

	if (r == 0)
		r = get_described(f->a, &im->m.config, "the configuration", &im->config, e);
	for (size_t i = 0; r == 0 && i < im->m.n_layers; i++) {
		snprintf(what, sizeof(what), "layer %zu of %zu", i + 1, im->m.n_layers);
		r = get_described(f->a, &im->m.layers[i], what, &im->layers[i], e);
	}
	return r;
}

static int keep_in_index(struct oci_archive_image *im, struct oci_item *it, struct err *e)
{
	im->index[im->n_index++] = it;
	return strv_push(&im->entry.index_blobs, it->digest) < 0 ? err_oom(e) : 0;
}

/* Everything that the index names, if the archive has it. 1 kept, 0 something is missing, -errno. */
static int keep_contents(
	struct finder *f, struct oci_archive_image *im, const struct oci_contents *c, struct err *e)
{
	size_t n = 0;

	int r = charge(&f->contents, c->n, CONTENTS_MAX, "the things that the archive's indexes name", e);
	if (r < 0)
		return r;
	CLEANUP_FREE struct oci_item **found = calloc(c->n + 1, sizeof(struct oci_item *));
	if (!found)
		return err_oom(e);
	for (size_t i = 0; i < c->n; i++) {
		r = get_described(f->a, &c->v[i], "what the index names", &found[n], e);
		if (r == 0)
			n++;
		else if (r != -ENOENT)
			return r;
		else if (!c->v[i].foreign)
			return 0;
	}
	struct oci_item **v = realloc(im->index, (im->n_index + n) * sizeof(struct oci_item *));
	if (!v)
		return err_oom(e);
	im->index = v;
	for (size_t i = 0; i < n; i++) {
		r = keep_in_index(im, found[i], e);
		if (r < 0)
			return r;
	}
	im->entry.all_platforms = true;
	return 1;
}

static int keep_index(struct finder *f, struct oci_archive_image *im, const struct oci_desc *d,
	const char *text, size_t n, struct err *e)
{
	CLEANUP(oci_contents_done) struct oci_contents c = {0};
	struct oci_getter get = {get_document, f};
	struct oci_item *it = NULL;

	int r = get_blob(f->a, d->digest, "the manifest", &it, e);
	if (r < 0)
		return r;
	im->index = malloc(sizeof(struct oci_item *));
	if (!im->index)
		return err_oom(e);
	r = keep_in_index(im, it, e);
	if (r == 0)
		r = oci_contents_of(text, n, d->media_type, &get, &c, e);
	if (r == 0)
		r = keep_contents(f, im, &c, e);
	if (r != -ENOENT)
		return r < 0 ? r : 0;
	if (e)
		*e = (struct err){0};
	return 0;
}

/* Loads the manifest that a descriptor leads to, and the index it leads through. */
static int load_oci_manifest(
	struct finder *f, struct oci_archive_image *im, const struct oci_desc *d, struct err *e)
{
	CLEANUP_FREE char *top = NULL, *text = NULL;
	struct oci_getter get = {get_document, f};
	const char *type = *d->media_type ? d->media_type : NULL;
	char digest[OCI_DIGEST_MAX];
	size_t top_n, n;

	int r = get_document(f, d, &top, &top_n, e);
	if (r == 0)
		r = oci_manifest_choose(top, top_n, type, f->want, &get, digest, &text, &n, e);
	if (r == 0)
		r = oci_manifest_parse(text, n, &im->m, e);
	if (r == 0)
		r = get_blob(f->a, *digest ? digest : d->digest, "the manifest", &im->manifest, e);
	if (r < 0)
		return r;
	oci_digest_copy(im->entry.manifest, im->manifest->digest);
	oci_digest_copy(im->entry.served, d->digest);
	r = find_oci_parts(f, im, e);
	return r == 0 && *digest ? keep_index(f, im, d, top, top_n, e) : r;
}

/*
 * A bare tag ("latest") names no repository, and other words are allowed in this annotation too: without a name that we
 * understand the image stays untagged.
 */
static int add_oci_names(
	struct finder *f, struct oci_archive_image *im, const struct oci_desc *d, struct err *e)
{
	if (d->name)
		return add_name(f, im, d->name, e);
	if (!d->ref_name || !strpbrk(d->ref_name, ":/"))
		return 0;
	int r = add_name(f, im, d->ref_name, e);
	if (r == -EINVAL) {
		r = 0;
		if (e)
			*e = (struct err){0};
	}
	return r;
}

static int add_oci_image(struct finder *f, const struct oci_desc *d, struct err *e)
{
	/* One image with several names has an entry for each. */
	for (size_t i = 0; i < f->out.n; i++)
		if (strcmp(f->out.v[i]->entry.served, d->digest) == 0)
			return add_oci_names(f, f->out.v[i], d, e);
	CLEANUP(image_freep) struct oci_archive_image *im = calloc(1, sizeof(*im));
	if (!im)
		return err_oom(e);
	int r = load_oci_manifest(f, im, d, e);
	if (r < 0)
		return r;
	r = add_oci_names(f, im, d, e);
	if (r == 0)
		r = check_config(f, im, e);
	return r < 0 ? r : push_image(f, &im, e);
}

static const char *name_of(const struct oci_desc *d)
{
	return d->name ? d->name : d->ref_name;
}

/* Entries of one name are one image for several platforms; those without a name are what they are. */
static bool is_same_name(const struct oci_desc *a, const struct oci_desc *b)
{
	const char *na = name_of(a), *nb = name_of(b);

	return na && nb && strcmp(na, nb) == 0;
}

/* Whether to take the index.json's entry i: not if it, or another one of its name, says that it serves worse. */
static bool is_wanted(const struct finder *f, const struct oci_index *index, size_t i)
{
	const struct oci_desc *d = &index->v[i];

	if (d->attestation)
		return false;
	if (!d->platform.os || !d->platform.arch)
		return true; /* its configuration decides */
	unsigned rank = oci_platform_rank(&d->platform, f->want);
	for (size_t k = 0; rank > 0 && k < index->n; k++)
		if (is_same_name(d, &index->v[k]) && oci_platform_rank(&index->v[k].platform, f->want) > rank)
			return false;
	return rank > 0;
}

/* No image with a name may be missing. taken: which entries were loaded. first: the error of the first that was not. */
static int check_names(const struct finder *f, const struct oci_index *index, const bool *taken,
	const struct err *first, struct err *e)
{
	for (size_t i = 0; i < index->n; i++) {
		const struct oci_desc *d = &index->v[i];
		bool found = d->attestation || (!name_of(d) && f->out.n > 0);
		for (size_t k = 0; !found && k < index->n; k++)
			found = taken[k] && (k == i || is_same_name(d, &index->v[k]));
		if (found)
			continue;
		if (first->code < 0) {
			if (e)
				*e = *first;
			return first->code;
		}
		return oci_index_select(index, f->want, e)
			       ? err_set(e, -ENOENT, "image %.200s has no variant for this platform",
					 name_of(d) ? name_of(d) : d->digest)
			       : -ENOENT;
	}
	return 0;
}

static int add_oci_images(struct finder *f, const struct oci_item *doc, struct err *e)
{
	CLEANUP(oci_index_done) struct oci_index index = {0};
	struct err failed, first = {0};
	int r = oci_index_parse(doc->doc, doc->doc_len, &index, e);

	if (r < 0)
		return r;
	CLEANUP_FREE bool *taken = calloc(index.n + 1, sizeof(*taken));
	if (!taken)
		return err_oom(e);
	for (size_t i = 0; i < index.n; i++) {
		const struct oci_desc *d = &index.v[i];
		if (!is_wanted(f, &index, i))
			continue;
		failed = (struct err){0};
		r = add_oci_image(f, d, &failed);
		taken[i] = r == 0;
		/* Another one of its name may serve; what has no name may be no image. */
		if (r < 0 && r != -ENOEXEC && (name_of(d) || r != -EOPNOTSUPP)) {
			if (e)
				*e = failed;
			return r;
		}
		if (r < 0 && first.code == 0)
			first = failed;
	}
	return check_names(f, &index, taken, &first, e);
}

/* ---- docker save ---- */

static const char *layer_type(struct finder *f, const struct oci_item *it, struct err *e)
{
	enum oci_compression kind = OCI_PLAIN;
	uint8_t magic[8];
	CLEANUP_CLOSE int fd = oci_archive_open(f->a, it, e);

	if (fd < 0) {
		if (fd == -ENOENT)
			err_set(e, fd, "a layer (%.19s) disappeared", it->digest);
		return NULL;
	}
	ssize_t n = io_pread_full(fd, magic, sizeof(magic), 0);
	if (n > 0 && oci_sniff("a layer", magic, (size_t)n, &kind, e) < 0)
		return NULL;
	static const char *const types[] = {DOCKER_TYPE_LAYER, DOCKER_TYPE_LAYER_GZ, DOCKER_TYPE_LAYER_ZST};
	return types[kind];
}

static json_t *descriptor(const char *type, const struct oci_item *it)
{
	return json_pack(
		"{s:s, s:I, s:s}", "mediaType", type, "size", (json_int_t)it->size, "digest", it->digest);
}

/* Such an archive has no manifest; ours says the same as what `docker push` would send, uncompressed. */
static int make_manifest(struct finder *f, struct oci_archive_image *im, const json_t *layers, struct err *e)
{
	CLEANUP(json_done) json_t *list = json_array();
	size_t i;
	json_t *name;

	json_array_foreach (layers, i, name) {
		const char *s = json_string_value(name);
		struct oci_item *it = s && i < OCI_LAYERS_MAX ? oci_archive_get(f->a, s) : NULL;
		if (!it || it->doc)
			return err_set(e, -ENOENT,
				"layer %zu of %zu (\"%.100s\") is missing from the archive", i + 1,
				json_array_size(layers), s ? s : "");
		const char *type = layer_type(f, it, e);
		if (!type)
			return e && e->code ? e->code : -EOPNOTSUPP;
		im->layers[i] = it;
		if (json_array_append_new(list, descriptor(type, it)) < 0)
			return err_oom(e);
	}
	CLEANUP(json_done)
	json_t *m = json_pack("{s:i, s:s, s:o, s:O}", "schemaVersion", 2, "mediaType", DOCKER_TYPE_MANIFEST,
		"config", descriptor(DOCKER_TYPE_CONFIG, im->config), "layers", list);
	im->made = m ? json_dumps(m, JSON_COMPACT) : NULL;
	if (!im->made)
		return err_oom(e);
	im->made_len = strlen(im->made);
	int r = oci_manifest_parse(im->made, im->made_len, &im->m, e);
	return r < 0 ? r : oci_digest_of(im->made, im->made_len, im->entry.manifest, e);
}

static int add_repo_tags(struct finder *f, struct oci_archive_image *im, const json_t *tags, struct err *e)
{
	size_t i;
	json_t *tag;

	json_array_foreach (tags, i, tag) {
		const char *s = json_string_value(tag);
		if (!s || strcmp(s, "<none>:<none>") == 0)
			continue;
		int r = add_name(f, im, s, e);
		if (r < 0)
			return r;
	}
	return 0;
}

static int add_docker_image(struct finder *f, const json_t *o, struct err *e)
{
	CLEANUP(image_freep) struct oci_archive_image *im = calloc(1, sizeof(*im));
	const char *config = json_string_value(json_object_get(o, "Config"));
	const json_t *layers = json_object_get(o, "Layers");

	if (!im)
		return err_oom(e);
	im->config = config ? oci_archive_get(f->a, config) : NULL;
	if (!im->config || im->config->doc)
		return err_set(e, -ENOENT, "the configuration \"%.100s\" is missing from the archive",
			config ? config : "");
	if (json_array_size(layers) > OCI_LAYERS_MAX)
		return err_set(e, -E2BIG, "image has %zu layers (at most %d are supported)",
			json_array_size(layers), OCI_LAYERS_MAX);
	int r = charge(
		&f->layers, json_array_size(layers), LAYERS_MAX, "the layers of the archive's images", e);
	if (r == 0)
		r = make_manifest(f, im, layers, e);
	if (r < 0)
		return r;
	oci_digest_copy(im->entry.served, im->entry.manifest);
	for (size_t i = 0; i < f->out.n; i++)
		if (strcmp(f->out.v[i]->entry.manifest, im->entry.manifest) == 0)
			return add_repo_tags(f, f->out.v[i], json_object_get(o, "RepoTags"), e);
	r = add_repo_tags(f, im, json_object_get(o, "RepoTags"), e);
	if (r == 0)
		r = check_config(f, im, e);
	return r < 0 ? r : push_image(f, &im, e);
}

static int parse_docker_manifest(const struct oci_item *doc, json_t **ret, struct err *e)
{
	return oci_json_parse_as(true, "the archive's manifest.json", doc->doc, doc->doc_len, ret, e);
}

static int add_docker_images(struct finder *f, const struct oci_item *doc, struct err *e)
{
	CLEANUP(json_done) json_t *list = NULL;
	size_t i;
	json_t *o;
	int r = parse_docker_manifest(doc, &list, e);

	json_array_foreach (list, i, o)
		if (r == 0)
			r = add_docker_image(f, o, e);
	return r;
}

/* In an archive of both layouts the names may stand only in Docker's document. */
static int add_docker_names(struct finder *f, const struct oci_item *doc, struct err *e)
{
	CLEANUP(json_done) json_t *list = NULL;
	size_t i;
	json_t *o;
	int r = parse_docker_manifest(doc, &list, e);

	json_array_foreach (list, i, o) {
		const char *name = json_string_value(json_object_get(o, "Config"));
		const struct oci_item *config = name ? oci_archive_get(f->a, name) : NULL;
		for (size_t k = 0; r == 0 && config && k < f->out.n; k++)
			if (strcmp(f->out.v[k]->entry.config, config->digest) == 0)
				r = add_repo_tags(f, f->out.v[k], json_object_get(o, "RepoTags"), e);
	}
	return r;
}

int oci_archive_images(struct oci_archive *a, const struct oci_platform *want, bool host,
	struct oci_archive_images *ret, struct err *e)
{
	struct finder f = {.a = a, .want = want, .host = host};
	const struct oci_item *index = oci_archive_get(a, "index.json");
	const struct oci_item *docker = oci_archive_get(a, "manifest.json");
	int r;

	if (index && index->doc) {
		r = add_oci_images(&f, index, e);
		if (r == 0 && docker && docker->doc)
			r = add_docker_names(&f, docker, e);
	} else if (docker && docker->doc) {
		r = add_docker_images(&f, docker, e);
	} else {
		r = err_set(e, -EBADMSG, "not an image archive: it has neither index.json nor manifest.json");
	}
	if (r == 0 && f.out.n == 0)
		r = err_set(e, -ENOENT, "the archive holds no image");
	if (r < 0)
		oci_archive_images_done(&f.out);
	else
		*ret = f.out;
	return r;
}
