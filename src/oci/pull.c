/* SPDX-License-Identifier: MIT */
/*
 * Pulling: manifest, configuration, then layer after layer. If the disk has to be built, a layer is written
 * to its spool file while the disk is made of it; a layer that the store has is read from there. Digest and
 * length of each layer are checked at its end, and nothing is put in its place before all are good.
 */
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "disk.h"
#include "registry.h"

struct pull {
	struct oci_store *s;
	struct oci_registry *reg;
	const struct oci_progress *progress;
	struct oci_platform want;
	struct oci_manifest m;
	struct oci_config c;
	char *manifest;
	size_t manifest_len;
	struct oci_spool *config;
	struct oci_spool *layers[OCI_LAYERS_MAX]; /* NULL where the store has it */
	struct oci_entry entry;
	/* the layer being read */
	size_t index;
	int fd; /* of the store's copy, or of a spool that was filled for an earlier layer; -1: from the
		   registry */
	bool own_fd;
	uint64_t done, total;
};

static void pull_done(struct pull *p)
{
	oci_registry_close(p->reg);
	oci_platform_done(&p->want);
	oci_manifest_done(&p->m);
	oci_config_done(&p->c);
	free(p->manifest);
	oci_spool_free(p->config);
	for (size_t i = 0; i < OCI_LAYERS_MAX; i++)
		oci_spool_free(p->layers[i]);
	strv_done(&p->entry.names);
	if (p->own_fd)
		close_fd(&p->fd);
}

static void report(struct pull *p, const char *what)
{
	if (p->progress && p->progress->fn)
		p->progress->fn(p->progress->data, what, p->done, p->total);
}

/* ---- manifest and configuration ---- */

static int get_manifest(struct pull *p, const char *tag_or_digest, enum oci_kind *ret_kind,
	char ret_digest[OCI_DIGEST_MAX], struct err *e)
{
	CLEANUP_FREE char *type = NULL;

	free(p->manifest);
	p->manifest = NULL;
	int r = oci_registry_manifest(
		p->reg, tag_or_digest, &p->manifest, &p->manifest_len, ret_digest, &type, e);
	return r < 0 ? r : oci_kind_of(p->manifest, p->manifest_len, type, ret_kind, e);
}

static int resolve_manifest(struct pull *p, const char *tag_or_digest, struct err *e)
{
	enum oci_kind kind;
	int r = get_manifest(p, tag_or_digest, &kind, p->entry.served, e);

	oci_digest_copy(p->entry.manifest, p->entry.served);
	if (r == 0 && kind == OCI_KIND_INDEX) {
		CLEANUP(oci_index_done) struct oci_index index = {0};
		r = oci_index_parse(p->manifest, p->manifest_len, &index, e);
		const struct oci_desc *d = r == 0 ? oci_index_select(&index, &p->want, e) : NULL;
		if (!d)
			return r < 0 ? r : -ENOENT;
		r = get_manifest(p, d->digest, &kind, p->entry.manifest, e);
		if (r == 0 && kind == OCI_KIND_INDEX)
			return err_set(e, -EBADMSG, "image indexes are nested too deep");
	}
	return r < 0 ? r : oci_manifest_parse(p->manifest, p->manifest_len, &p->m, e);
}

/* Reads a blob whole into a spool, checking it. */
static int fetch(struct pull *p, const struct oci_desc *d, struct oci_spool **ret, struct err *e)
{
	CLEANUP(oci_spool_freep) struct oci_spool *sp = NULL;
	CLEANUP_FREE uint8_t *buf = malloc(OCI_STREAM_BLOCK);
	ssize_t n;

	int r = buf ? oci_store_room(p->s, d->size, e) : err_oom(e);
	if (r == 0)
		r = oci_spool_new(p->s, true, d->digest, &sp, e);
	if (r == 0)
		r = oci_registry_blob(p->reg, d->digest, e);
	if (r < 0)
		return r;
	while ((n = oci_registry_read(p->reg, buf, OCI_STREAM_BLOCK, e)) > 0) {
		if ((uint64_t)n > d->size - sp->size)
			return err_set(e, -EBADMSG, "%.19s is longer than the %llu bytes announced",
				d->digest, (unsigned long long)d->size);
		r = oci_spool_write(sp, buf, (size_t)n, e);
		if (r < 0)
			return r;
		p->done += (uint64_t)n;
		report(p, "Downloading");
	}
	if (n < 0)
		return (int)n;
	r = oci_spool_finish(sp, e);
	if (r < 0)
		return r;
	if (sp->size != d->size || strcmp(sp->digest, d->digest) != 0)
		return err_set(e, -EBADMSG, "%.19s arrived damaged", d->digest);
	*ret = TAKE_PTR(sp);
	return 0;
}

static int get_config(struct pull *p, struct err *e)
{
	char have[160], want[160];
	CLEANUP_FREE char *text = malloc(p->m.config.size + 1);

	if (!text)
		return err_oom(e);
	int r = fetch(p, &p->m.config, &p->config, e);
	if (r < 0)
		return r;
	ssize_t n = io_pread_full(p->config->fd, text, p->m.config.size, 0);
	if (n < 0)
		return err_sys(e, (int)n, "cannot read the image configuration again");
	r = oci_config_parse(text, (size_t)n, &p->c, e);
	if (r < 0)
		return r;
	if (!oci_platform_matches(&p->c.platform, &p->want))
		return err_set(e, -ENOEXEC, "image is for %s, not for %s",
			oci_platform_text(&p->c.platform, have, sizeof(have)),
			oci_platform_text(&p->want, want, sizeof(want)));
	if (p->c.n_diff_ids != p->m.n_layers)
		return err_set(e, -EBADMSG, "image has %zu layers, but its configuration names %zu",
			p->m.n_layers, p->c.n_diff_ids);
	oci_digest_copy(p->entry.config, p->m.config.digest);
	p->entry.m = &p->m;
	p->entry.c = &p->c;
	return oci_chain_id(p->c.diff_ids, p->c.n_diff_ids, p->entry.chain, e);
}

/* ---- layers ---- */

/* A layer that came earlier in the same image, or -1. */
static ssize_t same_layer(const struct pull *p, size_t index)
{
	for (size_t i = 0; i < index; i++)
		if (strcmp(p->m.layers[i].digest, p->m.layers[index].digest) == 0)
			return (ssize_t)i;
	return -1;
}

/* Looks for a copy that need not be fetched; sets p->fd. 1 found, 0 not, -errno. */
static int find_copy(struct pull *p, size_t index, struct err *e)
{
	ssize_t same = same_layer(p, index);

	if (p->own_fd)
		close_fd(&p->fd);
	p->own_fd = false;
	p->fd = -1;
	if (same >= 0 && p->layers[same]) {
		p->fd = p->layers[same]->fd;
		return lseek(p->fd, 0, SEEK_SET) < 0 ? err_sys(e, -errno, "cannot read it again") : 1;
	}
	int fd = oci_store_blob_open(p->s, p->m.layers[index].digest, e);
	if (fd == -ENOENT)
		return 0;
	if (fd < 0)
		return fd;
	p->fd = fd;
	p->own_fd = true;
	return 1;
}

/* Bytes of the layer on their way to the disk, kept on the way. */
static ssize_t read_layer(void *data, void *buf, size_t n, struct err *e)
{
	struct pull *p = data;
	const struct oci_desc *d = &p->m.layers[p->index];

	if (p->fd >= 0) {
		ssize_t k = oci_source_fd(&p->fd, buf, n, e);
		p->done += k > 0 ? (uint64_t)k : 0;
		return k;
	}
	ssize_t k = oci_registry_read(p->reg, buf, n, e);
	if (k <= 0)
		return k;
	struct oci_spool *sp = p->layers[p->index];
	if ((uint64_t)k > d->size - sp->size)
		return err_set(e, -EBADMSG, "it is longer than the %llu bytes announced",
			(unsigned long long)d->size);
	int r = oci_spool_write(sp, buf, (size_t)k, e);
	p->done += (uint64_t)k;
	report(p, "Downloading");
	return r < 0 ? r : k;
}

static int open_layer(void *data, size_t index, struct oci_source *ret, struct err *e)
{
	struct pull *p = data;
	int r = find_copy(p, index, e);

	if (r == 0) {
		r = oci_store_room(p->s, p->m.layers[index].size, e);
		if (r == 0)
			r = oci_spool_new(p->s, true, p->m.layers[index].digest, &p->layers[index], e);
		if (r == 0)
			r = oci_registry_blob(p->reg, p->m.layers[index].digest, e);
	}
	if (r < 0)
		return r;
	p->index = index;
	*ret = (struct oci_source){read_layer, p};
	return 0;
}

static int close_layer(void *data, size_t index, struct err *e)
{
	struct pull *p = data;
	const struct oci_desc *d = &p->m.layers[index];
	struct oci_spool *sp = p->layers[index];

	if (!sp)
		return 0;
	int r = oci_spool_finish(sp, e);
	if (r < 0)
		return r;
	if (sp->size != d->size || strcmp(sp->digest, d->digest) != 0)
		return err_set(e, -EBADMSG, "it arrived damaged");
	return 0;
}

static int get_layers(struct pull *p, struct err *e)
{
	/* The sum is known to fit. */
	for (size_t i = 0; i < p->m.n_layers; i++)
		p->total += p->m.layers[i].size;
	if (p->total > p->s->unpacked_max)
		return err_set(e, -EFBIG, "its layers have %llu bytes, and at most %llu MiB are supported",
			(unsigned long long)p->total, (unsigned long long)(p->s->unpacked_max >> 20));
	int r = oci_disk_find(p->s, p->entry.chain, &p->entry.disk_size, e);
	if (r == 0) { /* the disk is there; what is missing of its layers is still wanted */
		for (size_t i = 0; i < p->m.n_layers; i++) {
			r = find_copy(p, i, e);
			if (r == 0)
				r = fetch(p, &p->m.layers[i], &p->layers[i], e);
			if (r < 0)
				return r;
		}
		return 0;
	}
	if (r != -ENOENT)
		return r;
	CLEANUP_FREE struct oci_layer *layers = calloc(p->m.n_layers, sizeof(*layers));
	if (!layers)
		return err_oom(e);
	for (size_t i = 0; i < p->m.n_layers; i++)
		layers[i] = (struct oci_layer){.blob = p->m.layers[i].digest,
			.diff_id = p->c.diff_ids[i],
			.size = p->m.layers[i].size,
			.open = open_layer,
			.close = close_layer,
			.data = p};
	return oci_disk_build(p->s, p->entry.chain, layers, p->m.n_layers, NULL, &p->entry.disk_size, e);
}

/* ---- entering ---- */

static int commit(struct oci_spool *sp, struct err *e)
{
	return sp ? oci_spool_commit(
			    sp, oci_store_blob_dir(sp->store, sp->digest), oci_digest_hex(sp->digest), e)
		  : 0;
}

static int commit_all(struct pull *p, struct err *e)
{
	CLEANUP(oci_spool_freep) struct oci_spool *sp = NULL;
	int r = oci_spool_new(p->s, true, p->entry.manifest, &sp, e);

	if (r == 0)
		r = oci_spool_write(sp, p->manifest, p->manifest_len, e);
	if (r == 0)
		r = oci_spool_finish(sp, e);
	if (r == 0)
		r = commit(sp, e);
	if (r == 0)
		r = commit(p->config, e);
	for (size_t i = 0; r == 0 && i < p->m.n_layers; i++)
		r = commit(p->layers[i], e);
	if (r == 0)
		r = oci_store_sync(p->s, e);
	if (r < 0)
		return r;
	r = state_begin(p->s->st, e);
	if (r < 0)
		return r;
	r = oci_disk_enter(p->s, p->entry.chain, p->entry.disk_size, e);
	if (r == 0)
		r = oci_store_enter(p->s, &p->entry, "pull", e);
	return state_end(p->s->st, r, e);
}

static int pull_locked(
	struct pull *p, const struct oci_reference *ref, const struct oci_pull_opts *o, struct err *e)
{
	CLEANUP_FREE char *name = oci_reference_name(ref);

	if (!name || strv_push(&p->entry.names, name) < 0)
		return err_oom(e);
	int r = oci_platform_parse(o->platform, &p->want, e);
	if (r == 0)
		r = oci_registry_open(ref, o, &p->reg, e);
	if (r == 0)
		r = resolve_manifest(p, ref->digest ? ref->digest : ref->tag, e);
	if (r == 0)
		r = get_config(p, e);
	if (r == 0)
		r = get_layers(p, e);
	return r < 0 ? r : commit_all(p, e);
}

int oci_pull(struct oci_store *s, const char *ref_text, const struct oci_pull_opts *o,
	const struct oci_progress *prog, struct oci_image **ret, struct err *e)
{
	CLEANUP(oci_reference_done) struct oci_reference ref = {0};
	struct pull p = {.s = s, .progress = prog, .fd = -1};
	CLEANUP_CLOSE int lock = -1;
	int r = oci_reference_parse(ref_text, &ref, e);

	if (r == 0)
		r = oci_store_lock(s, OCI_LOCK_ADD, &lock, e);
	if (r < 0)
		return r;
	r = pull_locked(&p, &ref, o, e);
	CLEANUP_FREE char *id = r == 0 ? strdup(p.entry.manifest) : NULL;
	pull_done(&p);
	close_fd(&lock);
	if (r < 0) {
		err_wrap(e, "cannot pull %s", ref_text);
		(void)oci_store_gc(s, NULL);
		return r;
	}
	if (!ret)
		return 0;
	return id ? oci_image_find(s, ref_text, ret, e) : err_oom(e);
}
