/* SPDX-License-Identifier: MIT */
#include "disk.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "layer.h"

#define DISK_NAME_SIZE (OCI_DIGEST_MAX + 8)

struct build {
	const struct oci_progress *progress;
	struct oci_stream *stream;	 /* of the present layer */
	uint64_t done, total;		 /* bytes of blobs */
	uint64_t unpacked, unpacked_max; /* bytes of all layers, uncompressed */
};

static void disk_name(const char *chain, char ret[DISK_NAME_SIZE])
{
	snprintf(ret, DISK_NAME_SIZE, "%s.img", oci_digest_hex(chain));
}

int oci_disk_find(struct oci_store *s, const char *chain, uint64_t *ret_size, struct err *e)
{
	CLEANUP(stmt_done) sqlite3_stmt *st = NULL;
	char name[DISK_NAME_SIZE];

	disk_name(chain, name);
	if (faccessat(s->disks_fd, name, R_OK, 0) < 0)
		return errno == ENOENT ? -ENOENT : err_sys(e, -errno, "cannot open disk %s", name);
	int r = state_prepare(s->st, &st, e, "SELECT size FROM image_disks WHERE chain = ?", "s", chain);
	if (r == 0)
		r = state_step(s->st, st, e);
	if (r < 0)
		return r;
	if (r == 0)
		return -ENOENT;
	*ret_size = (uint64_t)sqlite3_column_int64(st, 0);
	return 0;
}

int oci_disk_enter(struct oci_store *s, const char *chain, uint64_t size, struct err *e)
{
	return state_exec(
		s->st, e, "INSERT OR REPLACE INTO image_disks(chain, size) VALUES(?, ?)", "su", chain, size);
}

static void on_block(void *data)
{
	struct build *b = data;

	if (b->progress && b->progress->fn)
		b->progress->fn(b->progress->data, "Building disk", b->done + oci_stream_bytes_in(b->stream),
			b->total);
}

static int apply(struct build *b, struct oci_erofs *w, const struct oci_layer *l, size_t index, struct err *e)
{
	CLEANUP(oci_stream_freep) struct oci_stream *stream = NULL;
	struct oci_source src;
	char diff_id[OCI_DIGEST_MAX] = "";
	/* Only what is known to be just these bytes need not be hashed again. */
	bool plain = l->verified && strcmp(l->verified, l->diff_id) == 0;

	int r = l->open(l->data, index, &src, e);
	if (r == 0)
		r = oci_stream_new("its content", &src, plain ? NULL : l->diff_id,
			b->unpacked_max - b->unpacked, &stream, e);
	if (r < 0)
		return r;
	b->stream = stream;
	r = oci_layer_apply(w, stream, on_block, b, e);
	if (oci_stream_bytes_out(stream) > b->unpacked_max - b->unpacked)
		return err_set(e, -EFBIG, "with it the image is larger than %llu MiB unpacked",
			(unsigned long long)(b->unpacked_max >> 20));
	if (r < 0)
		return r;
	b->unpacked += oci_stream_bytes_out(stream);
	if (!plain)
		oci_stream_digest(stream, diff_id);
	if (plain ? oci_stream_compression(stream) != OCI_PLAIN : strcmp(diff_id, l->diff_id) != 0)
		return err_set(e, -EBADMSG, "its content does not match the diff ID %s", l->diff_id);
	b->done += oci_stream_bytes_in(stream);
	return l->close ? l->close(l->data, index, e) : 0;
}

static int write_image(struct oci_spool *sp, const char *chain, const struct oci_layer *layers, size_t n,
	struct build *b, uint64_t *ret_size, struct err *e)
{
	CLEANUP(oci_tree_freep) struct oci_tree *tree = NULL;
	CLEANUP(oci_erofs_done) struct oci_erofs w;
	struct oci_tree_ops ops = {oci_erofs_discard, &w};
	uint8_t uuid[16];

	int r = oci_erofs_init(&w, sp->fd, e);
	w.content_max = b->unpacked_max;
	if (r == 0)
		r = oci_tree_new(&ops, &tree, e);
	if (r < 0)
		return r;
	w.tree = tree;
	for (size_t i = 0; i < n; i++) {
		r = apply(b, &w, &layers[i], i, e);
		if (r < 0) {
			err_wrap(e, "layer %zu of %zu (%.19s)", i + 1, n, layers[i].blob);
			return r;
		}
	}
	/* The image is a function of its layers, its UUID too. */
	r = hex_decode(uuid, oci_digest_hex(chain), sizeof(uuid));
	if (r < 0)
		return err_sys(e, r, "chain ID %s", chain);
	*ret_size = w.live_bytes;
	return oci_erofs_finish(&w, uuid, e);
}

int oci_disk_build(struct oci_store *s, const char *chain, const struct oci_layer *layers, size_t n,
	const struct oci_progress *p, uint64_t *ret_size, struct err *e)
{
	CLEANUP(oci_spool_freep) struct oci_spool *sp = NULL;
	struct build b = {.progress = p, .unpacked_max = s->unpacked_max};
	char name[DISK_NAME_SIZE];

	for (size_t i = 0; i < n; i++)
		b.total += layers[i].size;
	int r = oci_spool_new(s, false, NULL, &sp, e);
	if (r == 0)
		r = write_image(sp, chain, layers, n, &b, ret_size, e);
	if (r == 0)
		r = oci_spool_finish(sp, e);
	disk_name(chain, name);
	return r < 0 ? r : oci_spool_commit(sp, s->disks_fd, name, e);
}

/* ---- rebuilding from the store ---- */

struct stored {
	struct oci_store *store;
	struct oci_layer *layers;
	size_t n;
	int fd;
};

static int stored_open(void *data, size_t index, struct oci_source *ret, struct err *e)
{
	struct stored *sd = data;

	close_fd(&sd->fd);
	sd->fd = oci_store_blob_open(sd->store, sd->layers[index].blob, e);
	if (sd->fd == -ENOENT)
		err_set(e, -ENOENT, "its content is missing from the image store");
	if (sd->fd < 0)
		return sd->fd;
	*ret = (struct oci_source){oci_source_fd, &sd->fd};
	return 0;
}

static void stored_done(struct stored *sd)
{
	close_fd(&sd->fd);
	for (size_t i = 0; i < sd->n; i++) {
		free((char *)sd->layers[i].blob);
		free((char *)sd->layers[i].diff_id);
	}
	free(sd->layers);
}

static int load_layers(struct oci_store *s, const char *manifest, struct stored *sd, struct err *e)
{
	CLEANUP(stmt_done) sqlite3_stmt *st = NULL;
	int r = state_prepare(s->st, &st, e,
		"SELECT digest, diff FROM image_blobs WHERE manifest = ? AND diff IS NOT NULL ORDER BY pos",
		"s", manifest);

	if (r < 0)
		return r;
	sd->layers = calloc(OCI_LAYERS_MAX, sizeof(*sd->layers));
	if (!sd->layers)
		return err_oom(e);
	while ((r = state_step(s->st, st, e)) > 0) {
		if (sd->n == OCI_LAYERS_MAX)
			return err_set(e, -EBADMSG, "the database names too many layers");
		struct oci_layer *l = &sd->layers[sd->n++];
		*l = (struct oci_layer){.blob = state_column_dup(st, 0),
			.diff_id = state_column_dup(st, 1),
			.open = stored_open,
			.data = sd};
		if (!l->blob || !l->diff_id)
			return err_oom(e);
		if (!oci_digest_valid(l->blob) || !oci_digest_valid(l->diff_id))
			return err_set(e, -EBADMSG, "the database names an invalid digest");
	}
	return r;
}

static int rebuild(
	struct oci_store *s, const struct oci_image *i, const struct oci_progress *p, struct err *e)
{
	CLEANUP_CLOSE int lock = -1;
	CLEANUP(stored_done) struct stored sd = {.store = s, .fd = -1};
	uint64_t size = 0;
	int r = oci_store_lock(s, OCI_LOCK_ADD, &lock, e);

	if (r < 0)
		return r;
	/* Whoever held the lock before may have built it. */
	r = oci_disk_find(s, i->chain_id, &size, e);
	if (r != -ENOENT)
		return r;
	r = load_layers(s, i->manifest, &sd, e);
	if (r == 0)
		r = oci_disk_build(s, i->chain_id, sd.layers, sd.n, p, &size, e);
	if (r == 0)
		r = oci_store_sync(s, e);
	return r < 0 ? r : oci_disk_enter(s, i->chain_id, size, e);
}

int oci_image_disk(struct oci_store *s, const struct oci_image *i, const struct oci_progress *p, char **ret,
	struct err *e)
{
	char name[DISK_NAME_SIZE];
	uint64_t size;

	if (!oci_digest_valid(i->chain_id))
		return err_set(e, -EINVAL, "image has an invalid chain ID");
	disk_name(i->chain_id, name);
	int r = oci_disk_find(s, i->chain_id, &size, e);
	if (r == -ENOENT) {
		r = rebuild(s, i, p, e);
		if (r < 0)
			err_wrap(e, "cannot build the disk of image %.19s", i->id);
	}
	if (r < 0)
		return r;
	*ret = str_printf("%s/images/disks/%s", s->st->home, name);
	return *ret ? 0 : err_oom(e);
}
