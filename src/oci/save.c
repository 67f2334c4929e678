/* SPDX-License-Identifier: MIT */
/*
 * Saving: an OCI image layout as a tar, with docker save's manifest.json beside it, which leads to the same blobs:
 *
 *     oci-layout, index.json [, manifest.json], blobs/, blobs/ALG/, blobs/ALG/HEX …
 *
 * Everything is known, sorted and measured before the first byte is written, so that the same images give the same
 * bytes. A blob is hashed while it is written: a store that is damaged makes no archive that looks whole, because its end
 * is then missing.
 */
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "image.h"
#include "oci/transfer.h"
#include "progress.h"
#include "reference.h"
#include "store.h"
#include "tar-write.h"

#define CHUNK (1u << 20)

struct blob {
	char digest[OCI_DIGEST_MAX];
	uint64_t size;
};

/* One manifest as docker and podman see it. */
struct docker_image {
	char manifest[OCI_DIGEST_MAX];
	struct oci_manifest m;
	struct oci_platform platform;
	struct strv tags; /* normalised names */
};

/* An entry of index.json. */
struct top {
	char digest[OCI_DIGEST_MAX];
	char *name; /* normalised; NULL: none */
	char *media_type;
	uint64_t size;
	const struct oci_platform *platform; /* of a manifest, borrowed; NULL: an index */
};

struct save {
	struct oci_store *s;
	const struct oci_save_opts *o;
	const struct oci_progress *progress;
	struct oci_platform want; /* if one was asked for */
	struct blob *blobs;
	size_t n_blobs, cap_blobs;
	struct docker_image **images;
	size_t n_images;
	struct top *tops;
	size_t n_tops;
	struct oci_tar_writer w;
	uint64_t done, total;
};

static void image_free(struct docker_image *d)
{
	if (!d)
		return;
	oci_manifest_done(&d->m);
	oci_platform_done(&d->platform);
	strv_done(&d->tags);
	free(d);
}
DEFINE_CLEANUP(struct docker_image *, image_free)

static void save_done(struct save *sv)
{
	oci_platform_done(&sv->want);
	free(sv->blobs);
	for (size_t i = 0; i < sv->n_images; i++)
		image_free(sv->images[i]);
	free(sv->images);
	for (size_t i = 0; i < sv->n_tops; i++) {
		free(sv->tops[i].name);
		free(sv->tops[i].media_type);
	}
	free(sv->tops);
}

/* ---- what is needed ---- */

static int add_blob(struct save *sv, const char *digest, uint64_t size, struct err *e)
{
	if (sv->n_blobs == sv->cap_blobs) {
		size_t cap = sv->cap_blobs ? sv->cap_blobs * 2 : 64;
		struct blob *v = realloc(sv->blobs, cap * sizeof(*v));
		if (!v)
			return err_oom(e);
		sv->blobs = v;
		sv->cap_blobs = cap;
	}
	struct blob *b = &sv->blobs[sv->n_blobs++];
	oci_digest_copy(b->digest, digest);
	b->size = size;
	return 0;
}

/* Of the size that its descriptor says. A layer that may not be distributed need not be here. */
static int add_described(struct save *sv, const struct oci_desc *d, struct err *e)
{
	struct stat st;
	CLEANUP_CLOSE int fd = oci_store_blob_open(sv->s, d->digest, e);

	if (fd == -ENOENT)
		return d->foreign ? 0 : oci_store_damaged(d->digest, "is missing", e);
	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		return err_sys(e, -errno, "image store: cannot read %.19s", d->digest);
	if ((uint64_t)st.st_size != d->size)
		return oci_store_damaged(d->digest, "is damaged", e);
	return add_blob(sv, d->digest, d->size, e);
}

/* For struct oci_getter. */
static int get_document(void *data, const struct oci_desc *d, char **ret, size_t *ret_n, struct err *e)
{
	struct save *sv = data;

	return oci_store_document(sv->s, d->digest, ret, ret_n, e);
}

/* Whether everything that the index of this digest names is here. 1, 0, -errno. */
static int is_complete(struct save *sv, const char *digest, struct err *e)
{
	CLEANUP(stmt_done) sqlite3_stmt *st = NULL;

	if (!digest)
		return 0;
	int r = state_prepare(
		sv->s->st, &st, e, "SELECT 1 FROM image_indexes WHERE digest = ? AND complete", "s", digest);
	return r < 0 ? r : state_step(sv->s->st, st, e);
}

/* ---- images as docker sees them ---- */

static int read_platform(struct save *sv, struct docker_image *d, struct err *e)
{
	CLEANUP(oci_config_done) struct oci_config c = {0};
	CLEANUP_FREE char *text = NULL;
	size_t n;
	int r = oci_store_document(sv->s, d->m.config.digest, &text, &n, e);

	if (r == 0)
		r = oci_config_parse(text, n, &c, e);
	if (r < 0)
		return r;
	d->platform = c.platform;
	c.platform = (struct oci_platform){0};
	return 0;
}

/* The image of a manifest, whose blobs are added to what is needed. Borrowed. */
static int need_image(struct save *sv, const char *manifest, struct docker_image **ret, struct err *e)
{
	CLEANUP(image_freep) struct docker_image *d = NULL;
	CLEANUP_FREE char *text = NULL;
	size_t n;

	for (size_t i = 0; i < sv->n_images; i++)
		if (strcmp(sv->images[i]->manifest, manifest) == 0) {
			*ret = sv->images[i];
			return 0;
		}
	d = calloc(1, sizeof(*d));
	if (!d)
		return err_oom(e);
	int r = oci_store_document(sv->s, manifest, &text, &n, e);
	if (r == 0)
		r = oci_manifest_parse(text, n, &d->m, e);
	if (r == 0)
		r = read_platform(sv, d, e);
	if (r == 0)
		r = add_blob(sv, manifest, n, e);
	if (r == 0)
		r = add_described(sv, &d->m.config, e);
	for (size_t i = 0; r == 0 && i < d->m.n_layers; i++)
		r = add_described(sv, &d->m.layers[i], e);
	if (r < 0)
		return r;
	oci_digest_copy(d->manifest, manifest);
	struct docker_image **v = realloc(sv->images, (sv->n_images + 1) * sizeof(*v));
	if (!v)
		return err_oom(e);
	sv->images = v;
	*ret = v[sv->n_images++] = TAKE_PTR(d);
	return 0;
}

/* ---- entries of index.json ---- */

/* name: normalised, or NULL. d: the image, if digest is its manifest. */
static int add_top(struct save *sv, const char *digest, const char *name, const struct docker_image *d,
	const char *text, size_t n, struct err *e)
{
	for (size_t i = 0; i < sv->n_tops; i++) {
		const struct top *t = &sv->tops[i];
		if (strcmp(t->digest, digest) == 0 &&
			(name ? t->name && strcmp(t->name, name) == 0 : !t->name))
			return 0;
	}
	CLEANUP_FREE char *type = NULL;
	int r = oci_document_type(text, n, NULL, &type, e);
	if (r < 0)
		return r;
	struct top *v = realloc(sv->tops, (sv->n_tops + 1) * sizeof(*v));
	if (!v)
		return err_oom(e);
	sv->tops = v;
	struct top *t = &v[sv->n_tops++];
	*t = (struct top){.name = str_dup(name),
		.media_type = TAKE_PTR(type),
		.size = n,
		.platform = d ? &d->platform : NULL};
	oci_digest_copy(t->digest, digest);
	return name && !t->name ? err_oom(e) : 0;
}

/*
 * In full, "docker.io/library/…" too: docker takes either, and podman would make "localhost/…" of the short one.
 */
static int add_tag(struct docker_image *d, const char *name, struct err *e)
{
	for (size_t i = 0; i < d->tags.n; i++)
		if (strcmp(d->tags.v[i], name) == 0)
			return 0;
	return strv_push(&d->tags, name) < 0 ? err_oom(e) : 0;
}

static int need_index(struct save *sv, const char *digest, const char *text, size_t n, struct err *e)
{
	CLEANUP(oci_contents_done) struct oci_contents c = {0};
	struct oci_getter get = {get_document, sv};
	int r = oci_contents_of(text, n, NULL, &get, &c, e);

	if (r == 0)
		r = add_blob(sv, digest, n, e);
	for (size_t i = 0; r == 0 && i < c.n; i++)
		r = add_described(sv, &c.v[i], e);
	return r;
}

/* The manifest of the platform that was asked for: that of the image itself, or one of a complete index. */
static int choose(
	struct save *sv, const struct oci_image *i, bool complete, char ret[OCI_DIGEST_MAX], struct err *e)
{
	CLEANUP_FREE char *index = NULL, *text = NULL;
	struct oci_getter get = {get_document, sv};
	struct oci_platform have = {.os = i->os, .arch = i->arch, .variant = i->variant};
	char have_text[160], want_text[160];
	size_t n, text_n;

	oci_digest_copy(ret, i->manifest);
	if (complete) {
		int r = oci_store_document(sv->s, i->digest, &index, &n, e);
		if (r == 0)
			r = oci_manifest_choose(index, n, NULL, &sv->want, &get, ret, &text, &text_n, e);
		return r;
	}
	if (oci_platform_matches(&have, &sv->want))
		return 0;
	err_set(e, -ENOENT, "it is here for %s only, not for %s",
		oci_platform_text(&have, have_text, sizeof(have_text)),
		oci_platform_text(&sv->want, want_text, sizeof(want_text)));
	return err_hint(e, "a pull with --all-platforms, or with --platform, brings the others");
}

static int add_found(
	struct save *sv, const struct oci_image *i, const char *name, bool with_index, struct err *e)
{
	CLEANUP_FREE char *text = NULL;
	struct docker_image *d = NULL;
	char manifest[OCI_DIGEST_MAX];
	size_t n;
	int r, complete = with_index ? is_complete(sv, i->digest, e) : 0;

	if (complete < 0)
		return complete;
	oci_digest_copy(manifest, i->manifest);
	r = sv->want.os ? choose(sv, i, complete, manifest, e) : 0;
	bool whole = complete && !sv->want.os;
	if (r == 0)
		r = need_image(sv, manifest, &d, e);
	if (r < 0 || !d)
		return r;
	r = name ? add_tag(d, name, e) : 0;
	if (r == 0)
		r = oci_store_document(sv->s, whole ? i->digest : manifest, &text, &n, e);
	if (r == 0 && whole)
		r = need_index(sv, i->digest, text, n, e);
	return r < 0 ? r : add_top(sv, whole ? i->digest : manifest, name, whole ? NULL : d, text, n, e);
}

/* One that was asked for by its name goes under that name; by ID, or by digest, it has none. */
static int add_image(struct save *sv, const char *text, struct err *e)
{
	CLEANUP(oci_image_freep) struct oci_image *i = NULL;
	CLEANUP(oci_reference_done) struct oci_reference ref = {0};
	int r = oci_image_find(sv->s, text, &i, e);

	if (r < 0)
		return r;
	bool is_ref = oci_reference_parse(text, &ref, NULL) == 0;
	CLEANUP_FREE char *name = is_ref ? oci_reference_name(&ref) : NULL;
	if (is_ref && !name)
		return err_oom(e);
	bool by_name = name && i->name && strcmp(name, i->name) == 0;
	bool by_digest = is_ref && ref.digest && i->digest && strcmp(ref.digest, i->digest) == 0;
	if (!oci_digest_valid(i->manifest) || (i->digest && !oci_digest_valid(i->digest)))
		return err_set(e, -EBADMSG, "the database names an invalid digest");
	r = add_found(sv, i, by_name && !ref.digest ? name : NULL, by_name || by_digest, e);
	return r < 0 ? err_wrap(e, "image %s", text) : 0;
}

/* ---- order ---- */

static int compare_blobs(const void *a, const void *b)
{
	return strcmp(((const struct blob *)a)->digest, ((const struct blob *)b)->digest);
}

static int compare_tops(const void *pa, const void *pb)
{
	const struct top *a = pa, *b = pb;
	int c = strcmp(a->name ? a->name : "", b->name ? b->name : "");

	return c ? c : strcmp(a->digest, b->digest);
}

static int compare_images(const void *a, const void *b)
{
	return strcmp(
		(*(struct docker_image *const *)a)->manifest, (*(struct docker_image *const *)b)->manifest);
}

static int compare_texts(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void sort_all(struct save *sv)
{
	size_t n = 0;

	qsort(sv->tops, sv->n_tops, sizeof(*sv->tops), compare_tops);
	qsort(sv->images, sv->n_images, sizeof(*sv->images), compare_images);
	for (size_t i = 0; i < sv->n_images; i++)
		if (sv->images[i]->tags.n > 1)
			qsort(sv->images[i]->tags.v, sv->images[i]->tags.n, sizeof(char *), compare_texts);
	qsort(sv->blobs, sv->n_blobs, sizeof(*sv->blobs), compare_blobs);
	for (size_t i = 0; i < sv->n_blobs; i++) {
		if (n > 0 && strcmp(sv->blobs[n - 1].digest, sv->blobs[i].digest) == 0)
			continue;
		sv->blobs[n++] = sv->blobs[i];
		sv->total += sv->blobs[i].size;
	}
	sv->n_blobs = n;
}

/* ---- writing ---- */

static void blob_name(const char *digest, char *dst, size_t size)
{
	snprintf(dst, size, "blobs/%s/%s", oci_digest_alg(digest), oci_digest_hex(digest));
}

static json_t *json_blob_name(const char *digest)
{
	char name[OCI_DIGEST_MAX + 8];

	blob_name(digest, name, sizeof(name));
	return json_string(name);
}

/* "docker.io/library/alpine:3.20": what stands behind its last colon, which is in every name. */
static const char *tag_of(const char *name)
{
	const char *colon = strrchr(name, ':');

	return colon ? colon + 1 : name;
}

static json_t *top_json(const struct top *t)
{
	json_t *o = json_pack("{s:s, s:s, s:I}", "mediaType", t->media_type, "digest", t->digest, "size",
		(json_int_t)t->size);
	bool ok = o;

	if (ok && t->name)
		ok = json_object_set_new(o, "annotations",
			     json_pack("{s:s, s:s}", "io.containerd.image.name", t->name,
				     "org.opencontainers.image.ref.name", tag_of(t->name))) == 0;
	if (ok && t->platform && t->platform->os && t->platform->arch)
		ok = json_object_set_new(o, "platform",
			     json_pack("{s:s, s:s, s:s*}", "architecture", t->platform->arch, "os",
				     t->platform->os, "variant", t->platform->variant)) == 0;
	if (ok)
		return o;
	json_decref(o);
	return NULL;
}

static int put_json(struct save *sv, const char *name, const json_t *j, struct err *e)
{
	CLEANUP_FREE char *text = j ? json_dumps(j, JSON_COMPACT) : NULL;

	return text ? oci_tar_file(&sv->w, name, text, strlen(text), e) : err_oom(e);
}

static int put_index(struct save *sv, struct err *e)
{
	json_t *list = json_array();
	CLEANUP(json_done)
	json_t *j = json_pack(
		"{s:i, s:s, s:o}", "schemaVersion", 2, "mediaType", OCI_TYPE_INDEX, "manifests", list);

	for (size_t i = 0; j && i < sv->n_tops; i++)
		if (json_array_append_new(list, top_json(&sv->tops[i])) < 0)
			return err_oom(e);
	return put_json(sv, "index.json", j, e);
}

static int put_docker(struct save *sv, struct err *e)
{
	CLEANUP(json_done) json_t *list = json_array();

	for (size_t i = 0; i < sv->n_images; i++) {
		const struct docker_image *d = sv->images[i];
		json_t *tags = json_array(), *layers = json_array();
		json_t *o = json_pack("{s:o, s:o, s:o}", "Config", json_blob_name(d->m.config.digest),
			"RepoTags", tags, "Layers", layers);
		if (json_array_append_new(list, o) < 0)
			return err_oom(e);
		for (size_t k = 0; k < d->tags.n; k++)
			if (json_array_append_new(tags, json_string(d->tags.v[k])) < 0)
				return err_oom(e);
		for (size_t k = 0; k < d->m.n_layers; k++)
			if (json_array_append_new(layers, json_blob_name(d->m.layers[k].digest)) < 0)
				return err_oom(e);
	}
	return put_json(sv, "manifest.json", list, e);
}

static int put_content(struct save *sv, const struct blob *b, int fd, uint8_t *buf, struct err *e)
{
	CLEANUP(oci_hash_freep) struct oci_hash *h = NULL;
	char got[OCI_DIGEST_MAX];
	int r = oci_hash_new(b->digest, &h, e);

	for (uint64_t left = b->size; r == 0 && left > 0;) {
		ssize_t n = io_read_full(fd, buf, MIN_OF(left, CHUNK));
		if (n <= 0)
			return n < 0 ? err_sys(e, (int)n, "image store: cannot read %.19s", b->digest)
				     : oci_store_damaged(b->digest, "is damaged", e);
		oci_hash_update(h, buf, (size_t)n);
		r = oci_tar_write(&sv->w, buf, (size_t)n, e);
		left -= (uint64_t)n;
		sv->done += (uint64_t)n;
		oci_tell(sv->progress, NULL, "Saving", sv->done, sv->total);
	}
	if (r < 0)
		return r;
	oci_hash_final(h, got);
	return strcmp(got, b->digest) == 0 ? 0 : oci_store_damaged(b->digest, "is damaged", e);
}

static int put_blob(struct save *sv, const struct blob *b, uint8_t *buf, struct err *e)
{
	char name[OCI_DIGEST_MAX + 8];
	CLEANUP_CLOSE int fd = oci_store_blob_open(sv->s, b->digest, e);

	if (fd < 0)
		return fd == -ENOENT ? oci_store_damaged(b->digest, "is missing", e) : fd;
	blob_name(b->digest, name, sizeof(name));
	int r = oci_tar_begin(&sv->w, name, b->size, e);
	if (r == 0)
		r = put_content(sv, b, fd, buf, e);
	return r < 0 ? r : oci_tar_end(&sv->w, e);
}

static int put_blobs(struct save *sv, struct err *e)
{
	CLEANUP_FREE uint8_t *buf = malloc(CHUNK);
	const char *alg = NULL;
	char folder[32];
	int r = buf ? oci_tar_folder(&sv->w, "blobs/", e) : err_oom(e);

	for (size_t i = 0; r == 0 && i < sv->n_blobs; i++) {
		const char *mine = oci_digest_alg(sv->blobs[i].digest);
		if (!alg || strcmp(alg, mine) != 0) {
			alg = mine;
			snprintf(folder, sizeof(folder), "blobs/%s/", alg);
			r = oci_tar_folder(&sv->w, folder, e);
		}
		if (r == 0)
			r = put_blob(sv, &sv->blobs[i], buf, e);
	}
	return r;
}

static int put_all(struct save *sv, struct err *e)
{
	static const char layout[] = "{\"imageLayoutVersion\":\"1.0.0\"}";
	int r = oci_tar_file(&sv->w, "oci-layout", layout, strlen(layout), e);

	if (r == 0)
		r = put_index(sv, e);
	if (r == 0 && !sv->o->oci_only)
		r = put_docker(sv, e);
	if (r == 0)
		r = put_blobs(sv, e);
	return r < 0 ? r : oci_tar_finish(&sv->w, e);
}

/* Of a repository without tag and digest the names of all its tags; nothing for anything else. */
static int tags_of(struct oci_store *s, const char *text, struct strv *ret, struct err *e)
{
	CLEANUP(oci_reference_done) struct oci_reference ref = {0};
	const char *slash = strrchr(text, '/');

	if (strchr(slash ? slash : text, ':') || oci_reference_parse(text, &ref, NULL) < 0 || ref.digest)
		return 0;
	CLEANUP_FREE char *repo = oci_reference_repo(&ref);
	if (!repo)
		return err_oom(e);
	return oci_query_texts(s, ret, e,
		"SELECT name FROM image_names WHERE substr(name, 1, length(?1) + 1) = ?1 || ':' ORDER BY "
		"name",
		repo, NULL, NULL);
}

int oci_save_names(struct oci_store *s, const char *const *refs, size_t n, struct strv *ret, struct err *e)
{
	CLEANUP(strv_done) struct strv names = {0};
	int r = 0;

	for (size_t i = 0; r == 0 && i < n; i++) {
		size_t before = names.n;
		r = tags_of(s, refs[i], &names, e);
		if (r == 0 && names.n == before && strv_push(&names, refs[i]) < 0)
			r = err_oom(e);
	}
	if (r < 0)
		return r;
	*ret = names;
	names = (struct strv){0};
	return 0;
}

int oci_save(struct oci_store *s, int fd, const char *const *refs, size_t n, const struct oci_save_opts *o,
	const struct oci_progress *p, struct err *e)
{
	static const struct oci_save_opts defaults;
	CLEANUP(save_done) struct save sv = {.s = s, .o = o ? o : &defaults, .progress = p, .w = {.fd = fd}};
	int lock = -1; /* nothing goes away meanwhile */
	int r = n ? oci_store_lock(s, OCI_LOCK_ADD, &lock, e) : err_set(e, -EINVAL, "no image to save");

	if (r == 0 && sv.o->platform)
		r = oci_platform_parse(sv.o->platform, &sv.want, e);
	for (size_t i = 0; r == 0 && i < n; i++)
		r = add_image(&sv, refs[i], e);
	if (r == 0) {
		sort_all(&sv);
		r = put_all(&sv, e);
	}
	oci_store_release(s, &lock);
	return r;
}
