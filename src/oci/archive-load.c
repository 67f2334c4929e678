/* SPDX-License-Identifier: MIT */
/* Putting images together from the entries of an archive, and entering them. */
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "disk.h"
#include "image-archive.h"

#define IMAGES_MAX 1024 /* in one archive */

struct image {
	char *manifest;
	size_t manifest_len;
	char served[OCI_DIGEST_MAX];
	struct oci_item *manifest_item; /* NULL if the manifest is ours */
	struct oci_item *config_item;
	struct oci_item *layers[OCI_LAYERS_MAX];
	struct oci_manifest m;
	struct oci_config c;
	struct oci_entry entry;
};

struct load {
	struct oci_store *s;
	const struct oci_progress *progress;
	struct oci_archive a;
	struct oci_platform host;
	struct image **images;
	size_t n;
};

static void image_free(struct image *im)
{
	if (!im)
		return;
	free(im->manifest);
	oci_manifest_done(&im->m);
	oci_config_done(&im->c);
	strv_done(&im->entry.names);
	free(im);
}
DEFINE_CLEANUP(struct image *, image_free)

static void load_done(struct load *l)
{
	for (size_t i = 0; i < l->n; i++)
		image_free(l->images[i]);
	free(l->images);
	oci_archive_done(&l->a);
	oci_platform_done(&l->host);
}

static void json_done(json_t **j)
{
	json_decref(*j);
}

static int push_image(struct load *l, struct image **im, struct err *e)
{
	if (l->n == IMAGES_MAX)
		return err_set(e, -E2BIG, "the archive has more than %d images", IMAGES_MAX);
	struct image **v = realloc(l->images, (l->n + 1) * sizeof(struct image *));
	if (!v)
		return err_oom(e);
	l->images = v;
	v[l->n++] = TAKE_PTR(*im);
	return 0;
}

static int add_name(struct image *im, const char *name, struct err *e)
{
	CLEANUP_FREE char *normal = oci_ref_normalise(name, e);

	if (!normal)
		return e && e->code ? e->code : -EINVAL;
	for (size_t i = 0; i < im->entry.names.n; i++)
		if (strcmp(im->entry.names.v[i], normal) == 0)
			return 0;
	return strv_push(&im->entry.names, normal) < 0 ? err_oom(e) : 0;
}

/*
 * A blob under its own name, never through a link: what stands there must itself have been found to have this
 * digest. what names it in errors.
 */
static int get_blob(
	struct load *l, const char *digest, const char *what, struct oci_item **ret, struct err *e)
{
	char name[OCI_DIGEST_MAX + 8];

	snprintf(name, sizeof(name), "blobs/%s/%s", oci_digest_alg(digest), oci_digest_hex(digest));
	struct oci_item *it = oci_archive_find(&l->a, name);
	if (!it)
		return err_set(e, -ENOENT, "%s (%.19s) is missing from the archive", what, digest);
	if (it->alias || strcmp(it->digest, digest) != 0)
		return err_set(e, -EBADMSG, "%s (%.19s) is %s in the archive", what, digest,
			it->alias ? "a link" : "something else");
	*ret = it;
	return 0;
}

/* ---- checks that both layouts share ---- */

static int check_config(struct load *l, struct image *im, struct err *e)
{
	CLEANUP_FREE char *text = NULL;
	char have[160], host[160];
	size_t n;

	int r = oci_archive_load_doc(&l->a, im->config_item, "image configuration", &text, &n, e);
	if (r == 0)
		r = oci_config_parse(text, n, &im->c, e);
	if (r < 0)
		return r;
	if (!oci_platform_matches(&im->c.platform, &l->host))
		return err_set(e, -ENOEXEC, "image is for %s, but this host is %s",
			oci_platform_text(&im->c.platform, have, sizeof(have)),
			oci_platform_text(&l->host, host, sizeof(host)));
	if (im->c.n_diff_ids != im->m.n_layers)
		return err_set(e, -EBADMSG, "image has %zu layers, but its configuration names %zu",
			im->m.n_layers, im->c.n_diff_ids);
	oci_digest_copy(im->entry.config, im->config_item->digest);
	im->entry.m = &im->m;
	im->entry.c = &im->c;
	return oci_chain_id(im->c.diff_ids, im->c.n_diff_ids, im->entry.chain, e);
}

/* ---- OCI layout ---- */

static int find_oci_parts(struct load *l, struct image *im, struct err *e)
{
	char what[64];

	int r = get_blob(l, im->m.config.digest, "the configuration", &im->config_item, e);
	if (r < 0)
		return r;
	for (size_t i = 0; i < im->m.n_layers; i++) {
		const struct oci_desc *d = &im->m.layers[i];
		snprintf(what, sizeof(what), "layer %zu of %zu", i + 1, im->m.n_layers);
		r = get_blob(l, d->digest, what, &im->layers[i], e);
		if (r < 0)
			return r;
		if (im->layers[i]->size != d->size)
			return err_set(e, -EBADMSG, "layer %zu of %zu (%.19s) has %llu bytes instead of %llu",
				i + 1, im->m.n_layers, d->digest, (unsigned long long)im->layers[i]->size,
				(unsigned long long)d->size);
	}
	return 0;
}

/* Loads the manifest that a descriptor leads to, through at most one nested index. */
static int load_oci_manifest(
	struct load *l, struct image *im, const struct oci_desc *d, bool nested, struct err *e)
{
	CLEANUP_FREE char *text = NULL;
	enum oci_kind kind;
	size_t n;

	struct oci_item *it = NULL;
	int r = get_blob(l, d->digest, "the manifest", &it, e);
	if (r == 0)
		r = oci_archive_load_doc(&l->a, it, "image manifest", &text, &n, e);
	if (r == 0)
		r = oci_kind_of(text, n, *d->media_type ? d->media_type : NULL, &kind, e);
	if (r < 0)
		return r;
	if (kind == OCI_KIND_INDEX) {
		CLEANUP(oci_index_done) struct oci_index index = {0};
		if (nested)
			return err_set(e, -EBADMSG, "image indexes are nested too deep");
		r = oci_index_parse(text, n, &index, e);
		if (r < 0)
			return r;
		const struct oci_desc *chosen = oci_index_select(&index, &l->host, e);
		return chosen ? load_oci_manifest(l, im, chosen, true, e) : -ENOENT;
	}
	r = oci_manifest_parse(text, n, &im->m, e);
	if (r < 0)
		return r;
	im->manifest_item = it;
	oci_digest_copy(im->entry.manifest, it->digest);
	return find_oci_parts(l, im, e);
}

/* A bare tag ("latest") names no repository, so the image stays untagged. */
static int add_oci_names(struct image *im, const struct oci_desc *d, struct err *e)
{
	if (d->name)
		return add_name(im, d->name, e);
	if (d->ref_name && strpbrk(d->ref_name, ":/"))
		return add_name(im, d->ref_name, e);
	return 0;
}

static struct image *same_manifest(struct load *l, const char *digest)
{
	for (size_t i = 0; i < l->n; i++)
		if (strcmp(l->images[i]->entry.manifest, digest) == 0)
			return l->images[i];
	return NULL;
}

static int add_oci_image(struct load *l, const struct oci_desc *d, struct err *e)
{
	CLEANUP(image_freep) struct image *im = calloc(1, sizeof(*im));

	if (!im)
		return err_oom(e);
	int r = load_oci_manifest(l, im, d, false, e);
	if (r < 0)
		return r;
	oci_digest_copy(im->entry.served, d->digest);
	struct image *same = same_manifest(l, im->entry.manifest);
	r = add_oci_names(same ? same : im, d, e);
	if (r < 0 || same)
		return r;
	r = check_config(l, im, e);
	return r < 0 ? r : push_image(l, &im, e);
}

static bool for_other_platform(const struct load *l, const struct oci_desc *d)
{
	return d->platform.os && d->platform.arch && !oci_platform_matches(&d->platform, &l->host);
}

static int add_oci_images(struct load *l, const struct oci_item *doc, struct err *e)
{
	CLEANUP(oci_index_done) struct oci_index index = {0};
	size_t usable = 0;
	int r = oci_index_parse(doc->doc, doc->doc_len, &index, e);

	if (r < 0)
		return r;
	for (size_t i = 0; i < index.n; i++)
		usable += !index.v[i].attestation && !for_other_platform(l, &index.v[i]);
	/* Says which platforms there are. */
	if (usable == 0)
		return oci_index_select(&index, &l->host, e) ? 0 : -ENOENT;
	for (size_t i = 0; r == 0 && i < index.n; i++)
		if (!index.v[i].attestation && !for_other_platform(l, &index.v[i]))
			r = add_oci_image(l, &index.v[i], e);
	return r;
}

/* ---- docker save ---- */

static const char *layer_type(struct load *l, const struct oci_item *it, struct err *e)
{
	enum oci_compression kind = OCI_PLAIN;
	uint8_t magic[8];
	CLEANUP_CLOSE int opened = -1;
	int fd = it->spool ? it->spool->fd : -1;

	if (fd < 0)
		fd = opened = oci_store_blob_open(l->s, it->digest, e);
	ssize_t n = fd < 0 ? 0 : io_pread_full(fd, magic, sizeof(magic), 0);
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
static int make_manifest(struct load *l, struct image *im, const json_t *layers, struct err *e)
{
	CLEANUP(json_done) json_t *list = json_array();
	size_t i;
	json_t *name;

	json_array_foreach (layers, i, name) {
		const char *s = json_string_value(name);
		struct oci_item *it = s && i < OCI_LAYERS_MAX ? oci_archive_get(&l->a, s) : NULL;
		if (!it || it->doc)
			return err_set(e, -ENOENT,
				"layer %zu of %zu (\"%.100s\") is missing from the archive", i + 1,
				json_array_size(layers), s ? s : "");
		const char *type = layer_type(l, it, e);
		if (!type)
			return -EOPNOTSUPP;
		im->layers[i] = it;
		if (json_array_append_new(list, descriptor(type, it)) < 0)
			return err_oom(e);
	}
	CLEANUP(json_done)
	json_t *m = json_pack("{s:i, s:s, s:o, s:O}", "schemaVersion", 2, "mediaType", DOCKER_TYPE_MANIFEST,
		"config", descriptor(DOCKER_TYPE_CONFIG, im->config_item), "layers", list);
	im->manifest = m ? json_dumps(m, JSON_COMPACT) : NULL;
	if (!im->manifest)
		return err_oom(e);
	im->manifest_len = strlen(im->manifest);
	int r = oci_manifest_parse(im->manifest, im->manifest_len, &im->m, e);
	return r < 0 ? r : oci_digest_of(im->manifest, im->manifest_len, im->entry.manifest, e);
}

static int add_repo_tags(struct image *im, const json_t *tags, struct err *e)
{
	size_t i;
	json_t *tag;

	json_array_foreach (tags, i, tag) {
		const char *s = json_string_value(tag);
		if (!s || strcmp(s, "<none>:<none>") == 0)
			continue;
		int r = add_name(im, s, e);
		if (r < 0)
			return r;
	}
	return 0;
}

static int add_docker_image(struct load *l, const json_t *o, struct err *e)
{
	CLEANUP(image_freep) struct image *im = calloc(1, sizeof(*im));
	const char *config = json_string_value(json_object_get(o, "Config"));
	const json_t *layers = json_object_get(o, "Layers");

	if (!im)
		return err_oom(e);
	im->config_item = config ? oci_archive_get(&l->a, config) : NULL;
	if (!im->config_item || im->config_item->doc)
		return err_set(e, -ENOENT, "the configuration \"%.100s\" is missing from the archive",
			config ? config : "");
	if (json_array_size(layers) > OCI_LAYERS_MAX)
		return err_set(e, -E2BIG, "image has %zu layers (at most %d are supported)",
			json_array_size(layers), OCI_LAYERS_MAX);
	int r = make_manifest(l, im, layers, e);
	if (r < 0)
		return r;
	oci_digest_copy(im->entry.served, im->entry.manifest);
	struct image *same = same_manifest(l, im->entry.manifest);
	r = add_repo_tags(same ? same : im, json_object_get(o, "RepoTags"), e);
	if (r < 0 || same)
		return r;
	r = check_config(l, im, e);
	return r < 0 ? r : push_image(l, &im, e);
}

static int parse_docker_manifest(const struct oci_item *doc, json_t **ret, struct err *e)
{
	return oci_json_parse_as(true, "the archive's manifest.json", doc->doc, doc->doc_len, ret, e);
}

static int add_docker_images(struct load *l, const struct oci_item *doc, struct err *e)
{
	CLEANUP(json_done) json_t *list = NULL;
	size_t i;
	json_t *o;
	int r = parse_docker_manifest(doc, &list, e);

	if (r < 0)
		return r;
	json_array_foreach (list, i, o) {
		r = add_docker_image(l, o, e);
		if (r < 0)
			return r;
	}
	return 0;
}

/* In an archive of both layouts the names may stand only in Docker's document. */
static int add_docker_names(struct load *l, const struct oci_item *doc, struct err *e)
{
	CLEANUP(json_done) json_t *list = NULL;
	size_t i;
	json_t *o;
	int r = parse_docker_manifest(doc, &list, e);

	if (r < 0)
		return r;
	json_array_foreach (list, i, o) {
		const char *name = json_string_value(json_object_get(o, "Config"));
		const struct oci_item *config = name ? oci_archive_get(&l->a, name) : NULL;
		for (size_t k = 0; config && k < l->n; k++) {
			if (strcmp(l->images[k]->entry.config, config->digest) != 0)
				continue;
			r = add_repo_tags(l->images[k], json_object_get(o, "RepoTags"), e);
			if (r < 0)
				return r;
		}
	}
	return 0;
}

static int collect_images(struct load *l, struct err *e)
{
	const struct oci_item *index = oci_archive_get(&l->a, "index.json");
	const struct oci_item *docker = oci_archive_get(&l->a, "manifest.json");
	int r;

	if (index && index->doc) {
		r = add_oci_images(l, index, e);
		if (r == 0 && docker && docker->doc)
			r = add_docker_names(l, docker, e);
	} else if (docker && docker->doc) {
		r = add_docker_images(l, docker, e);
	} else {
		return err_set(
			e, -EBADMSG, "not an image archive: it has neither index.json nor manifest.json");
	}
	if (r == 0 && l->n == 0)
		return err_set(e, -ENOENT, "the archive holds no image");
	return r;
}

/* ---- disks and entering ---- */

struct layer_source {
	struct load *l;
	struct image *im;
	int fd, opened;
};

static int open_layer(void *data, size_t index, struct oci_source *ret, struct err *e)
{
	struct layer_source *ls = data;
	struct oci_item *it = ls->im->layers[index];

	close_fd(&ls->opened);
	if (it->spool) {
		ls->fd = it->spool->fd;
		if (lseek(ls->fd, 0, SEEK_SET) < 0)
			return err_sys(e, -errno, "cannot read it again");
	} else {
		ls->fd = ls->opened = oci_store_blob_open(ls->l->s, it->digest, e);
		if (ls->fd < 0)
			return ls->fd == -ENOENT ? err_set(e, -ENOENT, "it disappeared") : ls->fd;
	}
	*ret = (struct oci_source){oci_source_fd, &ls->fd};
	return 0;
}

static int build_disk(struct load *l, struct image *im, struct err *e)
{
	struct layer_source ls = {.l = l, .im = im, .opened = -1};
	int r = oci_disk_find(l->s, im->entry.chain, &im->entry.disk_size, e);

	if (r != -ENOENT)
		return r;
	CLEANUP_FREE struct oci_layer *layers = calloc(im->m.n_layers, sizeof(*layers));
	if (!layers)
		return err_oom(e);
	for (size_t i = 0; i < im->m.n_layers; i++)
		layers[i] = (struct oci_layer){.blob = im->m.layers[i].digest,
			.diff_id = im->c.diff_ids[i],
			.verified = im->layers[i]->spool ? im->layers[i]->spool->digest : NULL,
			.size = im->m.layers[i].size,
			.open = open_layer,
			.data = &ls};
	r = oci_disk_build(
		l->s, im->entry.chain, layers, im->m.n_layers, l->progress, &im->entry.disk_size, e);
	close_fd(&ls.opened);
	return r;
}

static int commit_spool(struct oci_spool *sp, struct err *e)
{
	if (!sp || !sp->tmp[0])
		return 0; /* the store has it, or it was committed for another image of this archive */
	return oci_spool_commit(sp, oci_store_blob_dir(sp->store, sp->digest), oci_digest_hex(sp->digest), e);
}

static int commit_content(struct load *l, struct image *im, struct err *e)
{
	int r = 0;

	if (im->manifest_item) {
		r = commit_spool(im->manifest_item->spool, e);
	} else {
		CLEANUP(oci_spool_freep) struct oci_spool *sp = NULL;
		r = oci_spool_new(l->s, true, NULL, &sp, e);
		if (r == 0)
			r = oci_spool_write(sp, im->manifest, im->manifest_len, e);
		if (r == 0)
			r = oci_spool_finish(sp, e);
		if (r == 0)
			r = commit_spool(sp, e);
	}
	if (r == 0)
		r = commit_spool(im->config_item->spool, e);
	for (size_t i = 0; r == 0 && i < im->m.n_layers; i++)
		r = commit_spool(im->layers[i]->spool, e);
	return r;
}

static int enter_all(struct load *l, struct err *e)
{
	int r = state_begin(l->s->st, e);

	if (r < 0)
		return r;
	for (size_t i = 0; r == 0 && i < l->n; i++) {
		struct oci_entry *en = &l->images[i]->entry;
		r = oci_disk_enter(l->s, en->chain, en->disk_size, e);
		if (r == 0)
			r = oci_store_enter(l->s, en, "load", e);
	}
	return state_end(l->s->st, r, e);
}

static int load_locked(struct load *l, int fd, struct err *e)
{
	int r = oci_archive_read(l->s, fd, l->progress, &l->a, e);

	if (r == 0)
		r = collect_images(l, e);
	for (size_t i = 0; r == 0 && i < l->n; i++)
		r = build_disk(l, l->images[i], e);
	for (size_t i = 0; r == 0 && i < l->n; i++)
		r = commit_content(l, l->images[i], e);
	if (r == 0)
		r = oci_store_sync(l->s, e);
	return r < 0 ? r : enter_all(l, e);
}

static void tell(
	const struct load *l, void (*on_image)(void *data, const char *name, const char *id), void *data)
{
	for (size_t i = 0; on_image && i < l->n; i++) {
		const struct oci_entry *en = &l->images[i]->entry;
		if (en->names.n == 0)
			on_image(data, NULL, en->config);
		for (size_t k = 0; k < en->names.n; k++)
			on_image(data, en->names.v[k], en->config);
	}
}

int oci_load(struct oci_store *s, int fd, const struct oci_progress *p,
	void (*on_image)(void *data, const char *name, const char *id), void *data, struct err *e)
{
	CLEANUP(load_done) struct load l = {.s = s, .progress = p};
	CLEANUP_CLOSE int lock = -1;
	int r = oci_platform_parse(NULL, &l.host, e);

	if (r == 0)
		r = oci_store_lock(s, OCI_LOCK_ADD, &lock, e);
	if (r < 0)
		return r;
	r = load_locked(&l, fd, e);
	if (r < 0) {
		/* What was put in place already belongs to nobody. */
		load_done(&l);
		l = (struct load){0};
		close_fd(&lock);
		(void)oci_store_gc(s, NULL);
		return r;
	}
	tell(&l, on_image, data);
	return 0;
}
