/* SPDX-License-Identifier: MIT */
/*
 * A new image of another one and what changed since. The layer goes straight from its source into the store's spool: as a
 * tar, hashed (diff ID), compressed, and hashed again (digest), in one pass. Its disk is made at once, from that of the base
 * (recipe.h), so that a box of it starts as fast as any.
 */
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/units.h"
#include "changes.h"
#include "disk.h"
#include "oci/transfer.h"
#include "progress.h"
#include "put.h"
#include "tar-sink.h"

#define MESSAGE_MAX (64u << 10)

struct commit {
	struct oci_store *s;
	const struct oci_commit_opts *o;
	const struct oci_progress *progress;
	const char *base;
	/* of the base */
	json_t *manifest_json, *config_json;
	struct oci_manifest base_m;
	struct oci_config base_c;
	/* the layer */
	struct oci_hash *hash;
	struct oci_gzip *gz;
	struct oci_spool *layer; /* NULL: none is added */
	struct oci_tar_sink *tar;
	struct tree_sink counted;
	uint64_t declared; /* bytes that the entries so far say they have */
	bool complete;	   /* its end came */
	char diff_id[OCI_DIGEST_MAX];
	/* the image */
	struct oci_manifest m;
	struct oci_config c;
	struct oci_entry entry;
	struct oci_layer layers[OCI_LAYERS_MAX];
	uint64_t sizes[OCI_LAYERS_MAX];
	int fd; /* of the layer that is read for the disk */
};

static void commit_done(struct commit *cm)
{
	json_decref(cm->manifest_json);
	json_decref(cm->config_json);
	oci_manifest_done(&cm->base_m);
	oci_config_done(&cm->base_c);
	oci_hash_free(cm->hash);
	oci_gzip_free(cm->gz);
	oci_tar_sink_free(cm->tar);
	oci_spool_free(cm->layer);
	oci_manifest_done(&cm->m);
	oci_config_done(&cm->c);
	strv_done(&cm->entry.names);
	close_fd(&cm->fd);
}

/* ---- the base ---- */

static int load(struct commit *cm, const char *digest, char **text, size_t *n, json_t **ret, struct err *e)
{
	int r = oci_store_document(cm->s, digest, text, n, e);

	if (r < 0)
		return r;
	*ret = json_loadb(*text, *n, JSON_REJECT_DUPLICATES, NULL);
	return *ret ? 0 : err_set(e, -EBADMSG, "the image's document %.19s is not JSON", digest);
}

static int load_base(struct commit *cm, struct err *e)
{
	CLEANUP_FREE char *manifest = NULL, *config = NULL;
	size_t n;
	int r = load(cm, cm->base, &manifest, &n, &cm->manifest_json, e);

	if (r == 0)
		r = oci_manifest_parse(manifest, n, &cm->base_m, e);
	if (r == 0)
		r = load(cm, cm->base_m.config.digest, &config, &n, &cm->config_json, e);
	if (r == 0)
		r = oci_config_parse(config, n, &cm->base_c, e);
	if (r < 0) {
		err_wrap(e, "cannot read the image %.19s", cm->base);
		return r;
	}
	if (cm->base_c.n_diff_ids != cm->base_m.n_layers)
		return err_set(e, -EBADMSG, "the image %.19s names %zu layers and has %zu", cm->base,
			cm->base_c.n_diff_ids, cm->base_m.n_layers);
	if (cm->base_m.n_layers + 1 > OCI_LAYERS_MAX)
		return err_set(e, -E2BIG, "the image would have more than %d layers", OCI_LAYERS_MAX);
	return 0;
}

/* ---- the layer ---- */

static int put_blob(void *data, const void *buf, size_t n, struct err *e)
{
	struct commit *cm = data;
	int r = oci_store_room(cm->s, n, e);

	return r < 0 ? r : oci_spool_write(cm->layer, buf, n, e);
}

static int too_large(const struct commit *cm, struct err *e)
{
	return err_set(e, -EFBIG, "the layer is larger than %llu MiB",
		(unsigned long long)(cm->s->unpacked_max >> 20));
}

static int put_tar(void *data, const void *buf, size_t n, struct err *e)
{
	struct commit *cm = data;

	if (oci_tar_sink_bytes(cm->tar) > cm->s->unpacked_max)
		return too_large(cm, e);
	oci_hash_update(cm->hash, buf, n);
	oci_tell(cm->progress, NULL, "Committing", oci_tar_sink_bytes(cm->tar), 0);
	return oci_gzip_write(cm->gz, buf, n, e);
}

static int on_entry(void *data, const struct wire_entry *en, struct err *e)
{
	struct commit *cm = data;
	const struct tree_sink *to = oci_tar_sink(cm->tar);

	if (cm->complete)
		return err_set(e, -EBADMSG, "the layer goes on behind its end");
	/* Before its content comes: zeros of a hole would be compressed for minutes until the tar is too large. */
	if (S_ISREG(en->mode) && !en->link) {
		if (en->size > cm->s->unpacked_max - cm->declared)
			return too_large(cm, e);
		cm->declared += en->size;
	}
	return to->entry(to->data, en, e);
}

static int on_content(void *data, uint64_t offset, const void *bytes, size_t len, struct err *e)
{
	struct commit *cm = data;
	const struct tree_sink *to = oci_tar_sink(cm->tar);

	return to->content(to->data, offset, bytes, len, e);
}

static int on_end(void *data, struct err *e)
{
	struct commit *cm = data;
	const struct tree_sink *to = oci_tar_sink(cm->tar);

	cm->complete = true;
	return to->end(to->data, e);
}

static int make_layer(struct commit *cm, int (*write)(void *data, const struct tree_sink *to, struct err *e),
	void *data, struct err *e)
{
	struct oci_sink blob = {put_blob, cm}, tar = {put_tar, cm};
	static const struct oci_tar_opts opts = {.layer = true};
	int r = oci_spool_new(cm->s, true, NULL, &cm->layer, e);

	if (r == 0)
		r = oci_hash_new(NULL, &cm->hash, e);
	if (r == 0)
		r = oci_gzip_new(&blob, &cm->gz, e);
	if (r == 0)
		r = oci_tar_sink_to(&tar, &opts, &cm->tar, e);
	if (r < 0)
		return r;
	cm->counted = (struct tree_sink){.entry = on_entry, .content = on_content, .end = on_end, .data = cm};
	r = write(data, &cm->counted, e);
	if (r == 0 && !cm->complete)
		r = err_set(e, -EIO, "the layer is not complete");
	if (r == 0)
		r = oci_gzip_finish(cm->gz, e);
	if (r == 0)
		r = oci_spool_finish(cm->layer, e);
	if (r < 0)
		return r;
	oci_hash_final(cm->hash, cm->diff_id);
	if (oci_tar_sink_entries(cm->tar) == 0) {
		oci_spool_free(cm->layer);
		cm->layer = NULL;
	}
	return 0;
}

/* ---- its documents ---- */

/* What Docker notes of the container or the program that an image was made by is not true of the next one. */
static const char *const old_members[] = {
	"container", "container_config", "docker_version", "id", "parent", "parent_id", "throwaway", "Size"};

static json_t *member(json_t *j, const char *name, json_t *made)
{
	json_t *old = json_object_get(j, name);

	if (old && json_typeof(old) == json_typeof(made)) {
		json_decref(made);
		return old;
	}
	return json_object_set_new(j, name, made) == 0 ? made : NULL;
}

static json_t *make_history(const struct commit *cm, const char *created)
{
	const char *author = cm->o->author && *cm->o->author ? cm->o->author : NULL;
	const char *message = cm->o->message && *cm->o->message ? cm->o->message : NULL;

	return json_pack("{s:s, s:s*, s:s*, s:s*, s:o*}", "created", created, "created_by", cm->o->created_by,
		"author", author, "comment", message, "empty_layer", cm->layer ? NULL : json_true());
}

/* Members of what the box runs with take the place of the image's; null ones go. */
static int merge(json_t *config, json_t *changes)
{
	const char *key;
	json_t *value;

	json_object_foreach (changes, key, value) {
		int r = json_is_null(value) ? (json_object_del(config, key), 0)
					    : json_object_set(config, key, value);
		if (r < 0)
			return -ENOMEM;
	}
	return 0;
}

/* What does not depend on the layer. */
static int change_config(struct commit *cm, struct err *e)
{
	const struct oci_commit_opts *o = cm->o;
	json_t *config = member(cm->config_json, "config", json_object());
	CLEANUP(json_done) json_t *changes = o->config ? json_loads(o->config, 0, NULL) : NULL;

	if (o->config && !json_is_object(changes))
		return err_set(
			e, -EINVAL, "the box's configuration does not go into an image: it is not in UTF-8");
	if (!config || (changes && merge(config, changes) < 0))
		return err_oom(e);
	for (size_t i = 0; i < ARRAY_LEN(old_members); i++)
		(void)json_object_del(cm->config_json, old_members[i]);
	return o->changes ? oci_config_changes(config, o->changes, e) : 0;
}

static int make_config(struct commit *cm, char **ret, struct err *e)
{
	json_t *j = cm->config_json, *rootfs = member(j, "rootfs", json_object()),
	       *history = member(j, "history", json_array()),
	       *diff_ids = rootfs ? member(rootfs, "diff_ids", json_array()) : NULL;
	char created[64];

	format_time_rfc3339(created, sizeof(created), time_real_ns());
	if (!history || !diff_ids || json_object_set_new(j, "created", json_string(created)) < 0)
		return err_oom(e);
	json_t *step = make_history(cm, created);
	if (!step || json_array_append_new(history, step) < 0)
		return err_oom(e);
	/* Docker's, who made the image last; an older author is in the history. */
	if (cm->o->author && *cm->o->author ? json_object_set_new(j, "author", json_string(cm->o->author)) < 0
					    : 0)
		return err_oom(e);
	if (cm->layer && json_array_append_new(diff_ids, json_string(cm->diff_id)) < 0)
		return err_oom(e);
	*ret = json_dumps(j, JSON_COMPACT);
	return *ret ? 0 : err_oom(e);
}

/* What one of Docker's layers is called in a manifest of OCI's; others keep their type. */
static const char *layer_type(const char *type)
{
	static const char *const names[][2] = {{DOCKER_TYPE_LAYER, OCI_TYPE_LAYER},
		{DOCKER_TYPE_LAYER_GZ, OCI_TYPE_LAYER_GZ}, {DOCKER_TYPE_LAYER_ZST, OCI_TYPE_LAYER_ZST}};

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (strcmp(type, names[i][0]) == 0)
			return names[i][1];
	return type;
}

/* The base's descriptors with all they have (annotations, urls), and one for the layer. */
static json_t *make_layers(const struct commit *cm)
{
	CLEANUP(json_done) json_t *a = json_deep_copy(json_object_get(cm->manifest_json, "layers"));

	for (size_t i = 0; i < json_array_size(a); i++) {
		json_t *d = json_array_get(a, i),
		       *type = json_string(layer_type(cm->base_m.layers[i].media_type));
		if (!type || json_object_set_new(d, "mediaType", type) < 0)
			return NULL;
	}
	if (!a || (cm->layer && json_array_append_new(a, oci_descriptor_json(OCI_TYPE_LAYER_GZ,
								 cm->layer->digest, cm->layer->size)) < 0))
		return NULL;
	return json_incref(a);
}

/* ---- disk and entering ---- */

static int open_layer(void *data, size_t index, struct oci_source *ret, struct err *e)
{
	struct commit *cm = data;

	close_fd(&cm->fd);
	if (index == cm->base_m.n_layers)
		cm->fd = oci_spool_open(cm->layer, e);
	else
		cm->fd = oci_store_blob_open(cm->s, cm->layers[index].blob, e);
	if (cm->fd == -ENOENT)
		return oci_store_damaged(cm->layers[index].blob, "is missing", e);
	if (cm->fd < 0)
		return cm->fd;
	*ret = (struct oci_source){.read = oci_source_fd, .data = &cm->fd};
	return 0;
}

static int build_disk(struct commit *cm, struct err *e)
{
	size_t n = cm->c.n_diff_ids;

	for (size_t i = 0; i < n; i++) {
		bool added = i == cm->base_m.n_layers;
		cm->layers[i] =
			(struct oci_layer){.blob = added ? cm->layer->digest : cm->base_m.layers[i].digest,
				.diff_id = cm->c.diff_ids[i],
				.verified = added ? cm->layer->digest : NULL,
				.size = added ? cm->layer->size : cm->base_m.layers[i].size,
				.open = open_layer,
				.data = cm};
	}
	int r = oci_disk_find(cm->s, cm->entry.chain, &cm->entry.disk_size, e);
	if (r == 0)
		return oci_disk_check_layers(cm->s, cm->layers, n, cm->progress, e);
	if (r != -ENOENT)
		return r;
	r = oci_disk_build(cm->s, cm->entry.chain, cm->layers, n, cm->progress, &cm->entry.disk_size, e);
	for (size_t i = 0; i < n; i++)
		cm->sizes[i] = cm->layers[i].brought;
	cm->entry.layer_sizes = cm->sizes;
	return r;
}

static int enter(struct commit *cm, struct err *e)
{
	int r = state_begin(cm->s->st, e);

	if (r < 0)
		return r;
	r = oci_disk_enter(cm->s, cm->entry.chain, cm->entry.disk_size, e);
	if (r == 0)
		r = oci_store_enter(cm->s, &cm->entry, cm->entry.names.n ? "tag" : "create", e);
	if (r == 0 && cm->o->on_enter)
		r = cm->o->on_enter(cm->o->data, cm->entry.config, e);
	return state_end(cm->s->st, r, e);
}

static bool is_utf8(const char *s)
{
	CLEANUP(json_done) json_t *j = s ? json_string(s) : NULL;

	return !s || j;
}

/* Mistakes in what was asked for. */
static int check_options(struct commit *cm, struct err *e)
{
	const struct oci_commit_opts *o = cm->o;
	CLEANUP_FREE char *name = o->ref ? oci_ref_normalise(o->ref, e) : NULL;

	if (o->ref && !name)
		return e && e->code ? e->code : -EINVAL;
	if (name && strchr(name, '@'))
		return err_set(e, -EINVAL,
			"\"%.200s\" has a digest, which is not known before the image is made", o->ref);
	if (name && strv_push(&cm->entry.names, name) < 0)
		return err_oom(e);
	if ((o->message && strlen(o->message) > MESSAGE_MAX) ||
		(o->author && strlen(o->author) > MESSAGE_MAX))
		return err_set(e, -E2BIG, "the %s is longer than %u KiB",
			o->message && strlen(o->message) > MESSAGE_MAX ? "message" : "author",
			MESSAGE_MAX >> 10);
	if (!is_utf8(o->author) || !is_utf8(o->message) || !is_utf8(o->created_by))
		return err_set(e, -EINVAL, "the author, the message or the command is not in UTF-8");
	return 0;
}

/* Everything that needs no layer. Reads no more than the base's documents. */
static int prepare(struct commit *cm, struct err *e)
{
	int r = check_options(cm, e);

	if (r == 0)
		r = load_base(cm, e);
	return r < 0 ? r : change_config(cm, e);
}

/* It is read again when it is complete; this time only its limits matter. */
static int check_config(const struct commit *cm, struct err *e)
{
	CLEANUP_FREE char *text = json_dumps(cm->config_json, JSON_COMPACT);
	struct oci_config c = {0};
	int r = text ? oci_config_parse(text, strlen(text), &c, e) : err_oom(e);

	oci_config_done(&c);
	return r;
}

int oci_commit_check(struct oci_store *s, const char *base, const struct oci_commit_opts *o, struct err *e)
{
	struct commit *cm = calloc(1, sizeof(*cm));

	if (!cm)
		return err_oom(e);
	*cm = (struct commit){.s = s, .base = base, .o = o, .fd = -1};
	int r = prepare(cm, e);
	if (r == 0)
		r = check_config(cm, e);
	commit_done(cm);
	free(cm);
	return r;
}

static int commit_locked(struct commit *cm,
	int (*write)(void *data, const struct tree_sink *to, struct err *e), void *data, struct err *e)
{
	CLEANUP_FREE char *config = NULL;
	int r = prepare(cm, e);

	if (r == 0)
		r = make_layer(cm, write, data, e);
	if (r == 0)
		r = make_config(cm, &config, e);
	if (r == 0)
		r = oci_config_parse(config, strlen(config), &cm->c, e);
	if (r == 0)
		r = oci_chain_id(
			(const char(*)[OCI_DIGEST_MAX])cm->c.diff_ids, cm->c.n_diff_ids, cm->entry.chain, e);
	if (r == 0)
		r = build_disk(cm, e);
	if (r == 0)
		r = oci_put_documents(cm->s, config, make_layers(cm), &cm->c, &cm->m, &cm->entry, e);
	if (r == 0)
		r = oci_put_spool(cm->layer, e);
	if (r == 0)
		r = oci_store_sync(cm->s, e);
	return r < 0 ? r : enter(cm, e);
}

int oci_commit(struct oci_store *s, const char *base, const struct oci_commit_opts *o,
	int (*write)(void *data, const struct tree_sink *to, struct err *e), void *data,
	const struct oci_progress *p, char **ret_id, struct err *e)
{
	struct commit *cm = calloc(1, sizeof(*cm));
	CLEANUP_CLOSE int lock = -1;
	char id[OCI_DIGEST_MAX];

	if (!cm)
		return err_oom(e);
	*cm = (struct commit){.s = s, .base = base, .o = o, .progress = p, .fd = -1};
	int r = oci_store_lock(s, OCI_LOCK_ADD, &lock, e);
	if (r == 0)
		r = commit_locked(cm, write, data, e);
	oci_digest_copy(id, cm->entry.config);
	commit_done(cm);
	free(cm);
	if (r < 0) {
		close_fd(&lock);
		(void)oci_store_gc(s, NULL);
		return r;
	}
	oci_store_release(s, &lock);
	oci_put_trim(s);
	*ret_id = strdup(id);
	return *ret_id ? 0 : err_oom(e);
}
