/* SPDX-License-Identifier: MIT */
/* Building the disks of an archive's images, and entering them. */
#include <string.h>
#include <unistd.h>

#include "archive-images.h"
#include "base/io.h"
#include "disk.h"
#include "oci/transfer.h"
#include "put.h"

struct load {
	struct oci_store *s;
	const struct oci_progress *progress;
	struct oci_archive a;
	struct oci_platform want;
	struct oci_archive_images images;
};

static void load_done(struct load *l)
{
	oci_archive_images_done(&l->images);
	oci_archive_done(&l->a);
	oci_platform_done(&l->want);
}

struct layer_source {
	struct load *l;
	struct oci_archive_image *im;
	int fd;
};

static int open_layer(void *data, size_t index, struct oci_source *ret, struct err *e)
{
	struct layer_source *ls = data;
	struct oci_item *it = ls->im->layers[index];

	close_fd(&ls->fd);
	ls->fd = oci_archive_open(&ls->l->a, it, e);
	if (ls->fd < 0)
		return ls->fd == -ENOENT ? err_set(e, -ENOENT, "it disappeared") : ls->fd;
	*ret = (struct oci_source){.read = oci_source_fd, .data = &ls->fd};
	return 0;
}

static bool same_layers(const struct oci_manifest *a, const struct oci_manifest *b)
{
	if (a->n_layers != b->n_layers)
		return false;
	for (size_t i = 0; i < a->n_layers; i++)
		if (strcmp(a->layers[i].digest, b->layers[i].digest) != 0)
			return false;
	return true;
}

/* The disk of an image before it in the archive may be its own. *ret_same: made of the very same blobs. */
static bool find_built(const struct load *l, struct oci_archive_image *im, bool *ret_same)
{
	bool found = false;

	for (size_t i = 0; i < l->images.n && l->images.v[i] != im && !*ret_same; i++) {
		const struct oci_archive_image *other = l->images.v[i];
		if (strcmp(other->entry.chain, im->entry.chain) != 0)
			continue;
		im->entry.disk_size = other->entry.disk_size;
		found = true;
		*ret_same = same_layers(&other->m, &im->m);
	}
	return found;
}

static int build_disk(struct load *l, struct oci_archive_image *im, struct err *e)
{
	struct layer_source ls = {.l = l, .im = im, .fd = -1};
	CLEANUP_FREE struct oci_layer *layers = calloc(im->m.n_layers + 1, sizeof(*layers));

	if (!layers)
		return err_oom(e);
	for (size_t i = 0; i < im->m.n_layers; i++)
		layers[i] = (struct oci_layer){.blob = im->m.layers[i].digest,
			.diff_id = im->c.diff_ids[i],
			.verified = im->layers[i]->spool ? im->layers[i]->spool->digest : NULL,
			.size = im->m.layers[i].size,
			.open = open_layer,
			.data = &ls};
	bool same = false;
	int r = find_built(l, im, &same) ? 0 : oci_disk_find(l->s, im->entry.chain, &im->entry.disk_size, e);
	if (r == 0 && !same) {
		r = oci_disk_check_layers(l->s, layers, im->m.n_layers, l->progress, e);
	} else if (r == -ENOENT) {
		r = oci_disk_build(
			l->s, im->entry.chain, layers, im->m.n_layers, l->progress, &im->entry.disk_size, e);
		for (size_t i = 0; i < im->m.n_layers; i++)
			im->sizes[i] = layers[i].brought;
		im->entry.layer_sizes = im->sizes;
	}
	close_fd(&ls.fd);
	return r;
}

static int commit_content(struct load *l, struct oci_archive_image *im, struct err *e)
{
	int r = im->manifest ? oci_put_spool(im->manifest->spool, e)
			     : oci_put(l->s, im->made, im->made_len, NULL, e);

	if (r == 0)
		r = oci_put_spool(im->config->spool, e);
	for (size_t i = 0; r == 0 && i < im->m.n_layers; i++)
		r = oci_put_spool(im->layers[i]->spool, e);
	/* Only a name leads to an index. */
	for (size_t i = 0; r == 0 && im->entry.names.n > 0 && i < im->n_index; i++)
		r = oci_put_spool(im->index[i]->spool, e);
	return r;
}

static int enter_all(struct load *l, struct err *e)
{
	int r = state_begin(l->s->st, e);

	if (r < 0)
		return r;
	for (size_t i = 0; r == 0 && i < l->images.n; i++) {
		struct oci_entry *en = &l->images.v[i]->entry;
		r = oci_disk_enter(l->s, en->chain, en->disk_size, e);
		if (r == 0)
			r = oci_store_enter(l->s, en, "load", e);
	}
	return state_end(l->s->st, r, e);
}

static int load_locked(struct load *l, int fd, bool host, struct err *e)
{
	int r = oci_archive_read(l->s, fd, l->progress, &l->a, e);

	if (r == 0)
		r = oci_archive_images(&l->a, &l->want, host, &l->images, e);
	for (size_t i = 0; r == 0 && i < l->images.n; i++)
		r = build_disk(l, l->images.v[i], e);
	for (size_t i = 0; r == 0 && i < l->images.n; i++)
		r = commit_content(l, l->images.v[i], e);
	if (r == 0)
		r = oci_store_sync(l->s, e);
	return r < 0 ? r : enter_all(l, e);
}

static void tell(
	const struct load *l, void (*on_image)(void *data, const char *name, const char *id), void *data)
{
	for (size_t i = 0; on_image && i < l->images.n; i++) {
		const struct oci_entry *en = &l->images.v[i]->entry;
		if (en->names.n == 0)
			on_image(data, NULL, en->config);
		for (size_t k = 0; k < en->names.n; k++)
			on_image(data, en->names.v[k], en->config);
	}
}

int oci_load(struct oci_store *s, int fd, const struct oci_load_opts *o, const struct oci_progress *p,
	void (*on_image)(void *data, const char *name, const char *id), void *data, struct err *e)
{
	CLEANUP(load_done) struct load l = {.s = s, .progress = p};
	CLEANUP_CLOSE int lock = -1;
	const char *platform = o ? o->platform : NULL;
	int r = oci_platform_parse(platform, &l.want, e);

	if (r == 0)
		r = oci_store_lock(s, OCI_LOCK_ADD, &lock, e);
	if (r < 0)
		return r;
	r = load_locked(&l, fd, !platform, e);
	if (r < 0) {
		/* What was put in place already belongs to nobody. */
		load_done(&l);
		l = (struct load){0};
		close_fd(&lock);
		(void)oci_store_gc(s, NULL);
		return r;
	}
	oci_store_release(s, &lock);
	tell(&l, on_image, data);
	oci_put_trim(s);
	return 0;
}
