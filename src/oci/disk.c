/* SPDX-License-Identifier: MIT */
#include "disk.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base-disk.h"
#include "base/io.h"
#include "erofs-format.h"
#include "image.h"
#include "layer.h"
#include "unsynced.h"

#define DISK_NAME_SIZE (OCI_DIGEST_MAX + 8)

struct build {
	struct oci_store *store;
	const struct oci_progress *progress;
	struct oci_erofs w;
	struct oci_tree *tree;
	struct oci_recipe *recipe;
	bool alone;			 /* take nothing from other disks */
	bool base_failed;		 /* what was taken from another disk could not be copied */
	struct oci_base_copy *copy;	 /* still on its way from another disk */
	struct oci_stream *stream;	 /* of the present layer */
	uint64_t done, total;		 /* bytes of blobs */
	uint64_t unpacked, unpacked_max; /* bytes of all layers, uncompressed */
};

static void disk_name(const char *chain, char ret[DISK_NAME_SIZE])
{
	snprintf(ret, DISK_NAME_SIZE, "%s.img", oci_digest_hex(chain));
}

/* As oci_disk_find; 1: it is not synced. */
static int find(struct oci_store *s, const char *chain, uint64_t *ret_size, struct err *e)
{
	CLEANUP(stmt_done) sqlite3_stmt *st = NULL;
	char name[DISK_NAME_SIZE];

	disk_name(chain, name);
	if (faccessat(s->disks_fd, name, R_OK, 0) < 0)
		return errno == ENOENT ? -ENOENT : err_sys(e, -errno, "cannot open disk %s", name);
	int r = state_prepare(s->st, &st, e,
		"SELECT d.size, u.boot FROM image_disks d LEFT JOIN image_disks_unsynced u ON u.chain = "
		"d.chain"
		" WHERE d.chain = ?",
		"s", chain);
	if (r == 0)
		r = state_step(s->st, st, e);
	if (r < 0)
		return r;
	const char *boot = r ? (const char *)sqlite3_column_text(st, 1) : NULL;
	if (r == 0 || (boot && (!*boot || strcmp(boot, oci_boot()) != 0)))
		return -ENOENT;
	*ret_size = (uint64_t)sqlite3_column_int64(st, 0);
	return boot != NULL;
}

int oci_disk_find(struct oci_store *s, const char *chain, uint64_t *ret_size, struct err *e)
{
	return MIN_OF(find(s, chain, ret_size, e), 0);
}

int oci_disk_enter(struct oci_store *s, const char *chain, uint64_t size, struct err *e)
{
	int r = oci_unsynced_enter(s, chain, e);

	return r < 0 ? r
		     : state_exec(s->st, e, "INSERT OR REPLACE INTO image_disks(chain, size) VALUES(?, ?)",
			       "su", chain, size);
}

static void on_block(void *data)
{
	struct build *b = data;

	if (b->progress && b->progress->fn)
		b->progress->fn(b->progress->data, NULL, "Building disk",
			b->done + oci_stream_bytes_in(b->stream), b->total);
}

/* ---- one layer ---- */

static int too_large(struct build *b, struct err *e)
{
	return err_set(e, -EFBIG, "with it the image is larger than %llu MiB unpacked",
		(unsigned long long)(b->unpacked_max >> 20));
}

/* Reads a layer to its end; checked only, or laid over what there is. */
static int read_layer(struct build *b, struct oci_layer *l, size_t index, bool check_only, struct err *e)
{
	CLEANUP(oci_stream_freep) struct oci_stream *stream = NULL;
	struct oci_source src;
	char diff_id[OCI_DIGEST_MAX] = "";
	/* Only what is known to be just these bytes need not be hashed again. */
	bool plain = l->verified && strcmp(l->verified, l->diff_id) == 0;

	int r = l->open(l->data, index, &src, e);
	l->begun = true;
	if (r == 0)
		r = oci_stream_new("its content", &src, plain ? NULL : l->diff_id,
			b->unpacked_max - b->unpacked, &stream, e);
	if (r == 0)
		r = oci_stream_ahead(stream, e);
	if (r < 0)
		return r;
	b->stream = stream;
	r = check_only ? oci_stream_drain(stream, e) : oci_layer_apply(&b->w, stream, on_block, b, e);
	if (oci_stream_bytes_out(stream) > b->unpacked_max - b->unpacked)
		return too_large(b, e);
	if (r < 0)
		return r;
	if (!plain)
		oci_stream_digest(stream, diff_id);
	if (plain ? oci_stream_compression(stream) != OCI_PLAIN : strcmp(diff_id, l->diff_id) != 0)
		return err_set(e, -EBADMSG, "its content does not match the diff ID %s", l->diff_id);
	b->done += oci_stream_bytes_in(stream);
	if (!check_only)
		b->unpacked += oci_stream_bytes_out(stream);
	return 0;
}

static int apply(struct build *b, struct oci_layer *l, size_t index, struct err *e)
{
	uint64_t brought = b->w.brought, unpacked = b->unpacked;

	oci_recipe_layer(b->recipe, l->diff_id);
	int r = read_layer(b, l, index, false, e);
	if (r < 0)
		return r;
	l->brought = b->w.brought - brought;
	struct oci_layer_end end = {
		.next_block = b->w.next_block,
		.content = b->w.content,
		.kept = b->w.kept,
		.unpacked = b->unpacked - unpacked,
		.brought = l->brought,
	};
	oci_recipe_layer_end(b->recipe, &end);
	return l->close ? l->close(l->data, index, e) : 0;
}

/* Whether this blob is known to hold the layer with this diff ID. 1, 0, -errno. */
static int is_known(struct oci_store *s, const struct oci_layer *l, struct err *e)
{
	CLEANUP(stmt_done) sqlite3_stmt *st = NULL;
	int r = state_prepare(s->st, &st, e,
		"SELECT 1 FROM image_blobs WHERE digest = ? AND diff = ? LIMIT 1", "ss", l->blob, l->diff_id);

	return r < 0 ? r : state_step(s->st, st, e);
}

/* A layer whose content is here already: that its blob holds it is known, or found out. */
static int check_unless_known(struct build *b, struct oci_layer *l, size_t index, struct err *e)
{
	int r = l->verified && strcmp(l->verified, l->diff_id) == 0 ? 1 : is_known(b->store, l, e);

	if (r != 0) {
		b->done += l->size;
		return MIN_OF(r, 0);
	}
	r = read_layer(b, l, index, true, e);
	return r == 0 && l->close ? l->close(l->data, index, e) : r;
}

/* A layer that the base has. */
static int skip(
	struct build *b, struct oci_layer *l, size_t index, const struct oci_layer_end *end, struct err *e)
{
	if (end->unpacked > b->unpacked_max - b->unpacked)
		return too_large(b, e);
	l->brought = end->brought;
	int r = check_unless_known(b, l, index, e);
	b->unpacked += end->unpacked;
	return r;
}

/* ---- all of them ---- */

static int begin(struct build *b, int fd, struct err *e)
{
	struct oci_tree_ops ops = {oci_erofs_discard, &b->w};
	int r = oci_erofs_init(&b->w, fd, e);

	b->w.content_max = b->unpacked_max;
	if (r == 0)
		r = oci_tree_new(&ops, &b->tree, e);
	if (r == 0)
		r = oci_recipe_new(b->store, &b->recipe, e);
	b->w.tree = b->tree;
	b->w.recipe = b->recipe;
	return r;
}

static void build_done(struct build *b)
{
	oci_base_copy_free(TAKE_PTR(b->copy));
	oci_tree_free(b->tree);
	oci_recipe_free(b->recipe);
	oci_erofs_done(&b->w);
	b->tree = NULL;
	b->recipe = NULL;
}

/* Takes over the first layers of another disk. *ret_n: how many, which may be none. */
static int begin_from_base(struct build *b, int fd, const struct oci_layer *layers, size_t n,
	struct oci_layer_end *ends, size_t *ret_n, struct err *e)
{
	CLEANUP_FREE const char **diff_ids = calloc(n + 1, sizeof(*diff_ids));
	int r = diff_ids ? 0 : err_oom(e);

	*ret_n = 0;
	for (size_t i = 0; r == 0 && i < n; i++)
		diff_ids[i] = layers[i].diff_id;
	if (r == 0)
		r = oci_base_take(b->store, diff_ids, n, &b->w, b->recipe, ends, ret_n, &b->copy, e);
	if (r != 0)
		return MIN_OF(r, 0);
	/* Nothing could be taken, or not all of it. */
	if (*ret_n > 0)
		return 0;
	build_done(b);
	if (ftruncate(fd, 0) < 0)
		return oci_write_error(-errno, e);
	return begin(b, fd, e);
}

static int lay_layers(struct build *b, int fd, struct oci_layer *layers, size_t n, struct err *e)
{
	CLEANUP_FREE struct oci_layer_end *ends = calloc(n + 1, sizeof(*ends));
	size_t taken = 0;
	int r = ends ? begin(b, fd, e) : err_oom(e);

	if (r == 0 && !b->alone)
		r = begin_from_base(b, fd, layers, n, ends, &taken, e);
	for (size_t i = 0; r == 0 && i < n; i++) {
		r = i < taken ? skip(b, &layers[i], i, &ends[i], e) : apply(b, &layers[i], i, e);
		if (r < 0)
			err_wrap(e, "layer %zu of %zu (%.19s)", i + 1, n, layers[i].blob);
	}
	return r;
}

/* What is copied from another disk has come; layers were laid and the file system written meanwhile. */
static int end_copy(struct build *b, struct err *e)
{
	int r = oci_base_copy_wait(&b->copy, e);

	b->base_failed = r < 0 && r != -ENOSPC && r != -EDQUOT;
	return r < 0 ? r : oci_erofs_filled(&b->w, e);
}

static int write_image(struct build *b, int fd, const char *chain, struct oci_layer *layers, size_t n,
	uint64_t *ret_size, struct err *e)
{
	uint8_t uuid[16];
	int r = lay_layers(b, fd, layers, n, e);

	if (r < 0)
		return r;
	/* The image is a function of its layers, its UUID too. */
	r = hex_decode(uuid, oci_digest_hex(chain), sizeof(uuid));
	if (r < 0)
		return err_sys(e, r, "chain ID %s", chain);
	*ret_size = b->w.live_bytes;
	r = oci_erofs_finish(&b->w, uuid, e);
	if (r == 0)
		r = oci_recipe_finish(b->recipe, fd, e);
	return r < 0 ? r : end_copy(b, e);
}

/* Without the other disk, after all. */
static int write_alone(struct build *b, int fd, const char *chain, struct oci_layer *layers, size_t n,
	uint64_t *ret_size, struct err *e)
{
	build_done(b);
	if (ftruncate(fd, 0) < 0)
		return oci_write_error(-errno, e);
	b->alone = true;
	b->base_failed = false;
	b->done = b->unpacked = 0;
	return write_image(b, fd, chain, layers, n, ret_size, e);
}

static int build_disk(struct oci_store *s, const char *chain, struct oci_layer *layers, size_t n, bool alone,
	const struct oci_progress *p, uint64_t *ret_size, struct err *e)
{
	CLEANUP(oci_spool_freep) struct oci_spool *sp = NULL;
	CLEANUP(build_done)
	struct build b = {.store = s, .progress = p, .alone = alone, .unpacked_max = s->unpacked_max};
	char name[DISK_NAME_SIZE];

	for (size_t i = 0; i < n; i++)
		b.total += layers[i].size;
	int r = oci_unsynced_begin(s, chain, e);
	if (r == 0)
		r = oci_spool_new(s, false, NULL, &sp, e);
	if (r == 0)
		r = write_image(&b, sp->fd, chain, layers, n, ret_size, e);
	if (r < 0 && b.base_failed)
		r = write_alone(&b, sp->fd, chain, layers, n, ret_size, e);
	disk_name(chain, name);
	if (r < 0)
		return r;
	if (*oci_boot())
		return oci_spool_place(sp, s->disks_fd, name, e);
	r = oci_spool_finish(sp, e);
	if (r == 0)
		r = oci_spool_commit(sp, s->disks_fd, name, e);
	if (r == 0 && (r = io_fsync_dir(s->disks_fd)) < 0)
		return oci_write_error(r, e);
	return r;
}

int oci_disk_build(struct oci_store *s, const char *chain, struct oci_layer *layers, size_t n,
	const struct oci_progress *p, uint64_t *ret_size, struct err *e)
{
	return build_disk(s, chain, layers, n, false, p, ret_size, e);
}

int oci_disk_check_layers(
	struct oci_store *s, struct oci_layer *layers, size_t n, const struct oci_progress *p, struct err *e)
{
	struct build b = {.store = s, .progress = p, .unpacked_max = s->unpacked_max};

	for (size_t i = 0; i < n; i++)
		b.total += layers[i].size;
	for (size_t i = 0; i < n; i++) {
		int r = check_unless_known(&b, &layers[i], i, e);
		if (r < 0) {
			err_wrap(e, "layer %zu of %zu (%.19s)", i + 1, n, layers[i].blob);
			return r;
		}
	}
	return 0;
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
	*ret = (struct oci_source){.read = oci_source_fd, .data = &sd->fd};
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

static int load_layers(
	struct oci_store *s, const char *manifest, const char *chain, struct stored *sd, struct err *e)
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
	/* Without rows it has gone, unless it has no layers: what would be made of nothing is no disk of it then. */
	char none[OCI_DIGEST_MAX];
	if (r == 0 && sd->n == 0)
		r = oci_chain_id(NULL, 0, none, e);
	if (r == 0 && sd->n == 0 && strcmp(chain, none) != 0)
		return err_set(e, -ENOENT, "it was removed meanwhile");
	return r;
}

/* Its image may have gone while it was made: then the disk, which no row names, goes with the next collection. */
static int enter_built(struct oci_store *s, const char *chain, uint64_t size, struct err *e)
{
	int64_t needed = 0;
	int r = state_begin(s->st, e);

	if (r < 0)
		return r;
	r = oci_query_number(s, &needed, e, "SELECT EXISTS(SELECT 1 FROM image_manifests WHERE chain = ?1)",
		chain, NULL, NULL);
	if (r == 0)
		r = needed ? oci_disk_enter(s, chain, size, e) : oci_store_sweep_due(s, e);
	r = state_end(s->st, r, e);
	return r == 0 && !needed ? err_set(e, -ENOENT, "it was removed meanwhile") : r;
}

static int make_of_stored(struct oci_store *s, const char *manifest, const char *chain, bool alone,
	const struct oci_progress *p, struct err *e)
{
	CLEANUP(stored_done) struct stored sd = {.store = s, .fd = -1};
	uint64_t size = 0;
	int r = load_layers(s, manifest, chain, &sd, e);

	if (r == 0)
		r = build_disk(s, chain, sd.layers, sd.n, alone, p, &size, e);
	return r < 0 ? r : enter_built(s, chain, size, e);
}

int oci_disk_remake(struct oci_store *s, const char *manifest, const char *chain,
	const struct oci_progress *p, struct err *e)
{
	return make_of_stored(s, manifest, chain, true, p, e);
}

static int rebuild(
	struct oci_store *s, const struct oci_image *i, const struct oci_progress *p, struct err *e)
{
	CLEANUP_CLOSE int lock = -1;
	uint64_t size = 0;
	int r = oci_store_lock(s, OCI_LOCK_ADD, &lock, e);

	if (r < 0)
		return r;
	/* Whoever held the lock before may have built it. */
	r = oci_disk_find(s, i->chain_id, &size, e);
	bool missing = r == -ENOENT;
	if (missing)
		r = make_of_stored(s, i->manifest, i->chain_id, false, p, e);
	oci_store_release(s, &lock);
	/* Not before it is in use, or it would be among what goes. */
	s->grown |= missing && r == 0;
	return r;
}

/* The disk is there, and good. */
static int provide(
	struct oci_store *s, const struct oci_image *i, const struct oci_progress *p, struct err *e)
{
	uint64_t size;

	if (!oci_digest_valid(i->chain_id))
		return err_set(e, -EINVAL, "image has an invalid chain ID");
	int r = find(s, i->chain_id, &size, e);
	if (r == 1)
		r = oci_unsynced_sync(s, i->chain_id) < 0 ? -ENOENT : 0;
	if (r == -ENOENT) {
		r = rebuild(s, i, p, e);
		if (r < 0)
			err_wrap(e, "cannot build the disk of image %.19s", i->id);
	}
	return r;
}

int oci_image_disk(struct oci_store *s, const struct oci_image *i, const struct oci_progress *p, char **ret,
	struct err *e)
{
	char name[DISK_NAME_SIZE];
	int r = provide(s, i, p, e);

	if (r < 0)
		return r;
	disk_name(i->chain_id, name);
	*ret = str_printf("%s/images/disks/%s", s->st->home, name);
	return *ret ? 0 : err_oom(e);
}

int oci_ref_disk(struct oci_store *s, const char *manifest, const struct oci_progress *p, struct err *e)
{
	CLEANUP(stmt_done) sqlite3_stmt *st = NULL;
	CLEANUP_FREE char *id = NULL, *chain = NULL;
	int r = state_prepare(
		s->st, &st, e, "SELECT config, chain FROM image_manifests WHERE digest = ?", "s", manifest);

	if (r == 0)
		r = state_step(s->st, st, e);
	if (r < 0)
		return r;
	if (r == 0)
		return err_set(e, -ENOENT, "the image %.19s is not here any more", manifest);
	id = state_column_dup(st, 0);
	chain = state_column_dup(st, 1);
	if (!id || !chain)
		return err_oom(e);
	stmt_done(&st);
	st = NULL;
	const struct oci_image i = {.id = id, .manifest = (char *)manifest, .chain_id = chain};
	return provide(s, &i, p, e);
}

/* ---- comparing ---- */

/*
 * Before there were recipes a disk ended with its file system. It cannot be compared with what is made now, so its
 * superblock has to do.
 */
static bool is_old_disk(int fd, off_t size)
{
	struct erofs_super sb;

	return io_pread_full(fd, &sb, sizeof(sb), EROFS_SUPER_OFFSET) == (ssize_t)sizeof(sb) &&
	       le32toh(sb.magic) == EROFS_SUPER_MAGIC &&
	       (off_t)le32toh(sb.blocks) << EROFS_BLOCK_BITS == size;
}

/* 1, 0 or -errno. What cannot be read of `is` differs. */
static int same_content(int is, int made, struct err *e)
{
	CLEANUP_FREE uint8_t *a = malloc(2ul * OCI_STREAM_BLOCK);
	struct stat st_is, st_made;
	ssize_t n, k;

	if (!a)
		return err_oom(e);
	if (fstat(is, &st_is) < 0 || fstat(made, &st_made) < 0)
		return err_sys(e, -errno, "cannot read a disk");
	if (is_old_disk(is, st_is.st_size))
		return 1;
	if (!S_ISREG(st_is.st_mode) || st_is.st_size != st_made.st_size)
		return 0;
	for (off_t at = 0; at < st_made.st_size; at += n) {
		n = io_pread_full(made, a, OCI_STREAM_BLOCK, at);
		if (n <= 0)
			return err_sys(e, n < 0 ? (int)n : -EIO, "cannot read a disk again");
		k = io_pread_full(is, a + OCI_STREAM_BLOCK, (size_t)n, at);
		if (k != n || memcmp(a, a + OCI_STREAM_BLOCK, (size_t)n) != 0)
			return 0;
	}
	return 1;
}

int oci_disk_verify(struct oci_store *s, const char *manifest, const char *chain, struct err *e)
{
	CLEANUP(stored_done) struct stored sd = {.store = s, .fd = -1};
	CLEANUP(oci_spool_freep) struct oci_spool *sp = NULL;
	CLEANUP(build_done) struct build b = {.store = s, .alone = true, .unpacked_max = s->unpacked_max};
	char name[DISK_NAME_SIZE];
	struct stat st;
	uint64_t size;

	disk_name(chain, name);
	CLEANUP_CLOSE int fd = openat(s->disks_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0 || fstat(fd, &st) < 0)
		return 0;
	/* What is made will not be smaller by much: better to know before the file system is full. */
	int r = oci_store_room(s, (uint64_t)MAX_OF(st.st_size, 0), e);
	if (r == 0)
		r = load_layers(s, manifest, chain, &sd, e);
	if (r == 0)
		r = oci_spool_new(s, false, NULL, &sp, e);
	if (r == 0)
		r = write_image(&b, sp->fd, chain, sd.layers, sd.n, &size, e);
	return r < 0 ? r : same_content(fd, sp->fd, e);
}
