/* SPDX-License-Identifier: MIT */
/*
 * Importing a root file system: what comes is read once, hashed plain (diff ID) and as it is kept (digest); then the disk
 * is built from what was kept. A tar that comes plain is compressed on its way, because it will be pushed and saved
 * more often than it is built from, and the compressor keeps pace with the disk; one that comes compressed is kept as it is.
 */
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/units.h"
#include "changes.h"
#include "disk.h"
#include "gzip.h"
#include "oci/transfer.h"
#include "progress.h"
#include "put.h"

#define MESSAGE_MAX (64u << 10)

struct import {
	struct oci_store *s;
	const struct oci_import_opts *o;
	const struct oci_progress *progress;
	struct oci_platform platform;
	struct oci_spool *layer;
	enum oci_compression kind; /* as the layer is kept */
	char diff_id[OCI_DIGEST_MAX];
	struct oci_manifest m;
	struct oci_config c;
	struct oci_entry entry;
	uint64_t size; /* bytes of content */
	/* the input */
	int fd;
	uint64_t done, total;
	uint8_t head[8]; /* its first bytes, read to see what it is, and then again as its beginning */
	size_t head_len, head_at;
	bool keep; /* what is read goes into the layer as it is */
};

static void import_done(struct import *im)
{
	oci_platform_done(&im->platform);
	oci_spool_free(im->layer);
	oci_manifest_done(&im->m);
	oci_config_done(&im->c);
	strv_done(&im->entry.names);
}

/* ---- the layer ---- */

static ssize_t read_input(void *data, void *buf, size_t n, struct err *e)
{
	struct import *im = data;
	ssize_t k;

	if (im->head_at < im->head_len) {
		k = (ssize_t)MIN_OF(n, im->head_len - im->head_at);
		memcpy(buf, im->head + im->head_at, (size_t)k);
		im->head_at += (size_t)k;
	} else {
		k = oci_source_fd(&im->fd, buf, n, e);
	}
	if (k <= 0)
		return k;
	im->done += (uint64_t)k;
	oci_tell(im->progress, NULL, "Importing", im->done, im->total);
	if (!im->keep)
		return k;
	/* Room is asked for where it may soon be short, for what comes has no length. */
	int r = oci_store_room(im->s, (uint64_t)k, e);
	if (r == 0)
		r = oci_spool_write(im->layer, buf, (size_t)k, e);
	return r < 0 ? r : k;
}

static int put_layer(void *data, const void *buf, size_t n, struct err *e)
{
	struct import *im = data;
	int r = oci_store_room(im->s, n, e);

	return r < 0 ? r : oci_spool_write(im->layer, buf, n, e);
}

static int sniff_input(struct import *im, struct err *e)
{
	struct stat st;

	if (fstat(im->fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0)
		im->total = (uint64_t)st.st_size;
	ssize_t n = io_read_full(im->fd, im->head, sizeof(im->head));
	if (n < 0)
		return err_sys(e, (int)n, "cannot read the archive");
	if (n == 0)
		return err_set(e, -ENODATA, "the archive is empty");
	im->head_len = (size_t)n;
	int r = oci_sniff(OCI_STREAM_ARCHIVE, im->head, im->head_len, &im->kind, e);
	im->keep = im->kind != OCI_PLAIN;
	return r;
}

/* Reads everything, into the layer's spool; says its diff ID. */
static int take_layer(struct import *im, struct err *e)
{
	CLEANUP(oci_stream_freep) struct oci_stream *in = NULL;
	CLEANUP(oci_gzip_freep) struct oci_gzip *gz = NULL;
	struct oci_source src = {.read = read_input, .data = im};
	struct oci_sink sink = {put_layer, im};
	/* Something to say which hash is meant. */
	static const char sha256[] =
		"sha256:0000000000000000000000000000000000000000000000000000000000000000";
	const void *p;
	ssize_t n = 0;

	int r = sniff_input(im, e);
	if (r == 0)
		r = oci_spool_new(im->s, true, NULL, &im->layer, e);
	if (r == 0 && !im->keep)
		r = oci_gzip_new(&sink, &gz, e);
	if (r == 0)
		r = oci_stream_new(OCI_STREAM_ARCHIVE, &src, sha256, im->s->unpacked_max, &in, e);
	while (r == 0 && (n = oci_stream_read(in, &p, e)) > 0)
		if (gz)
			r = oci_gzip_write(gz, p, (size_t)n, e);
	if (r == 0 && n < 0)
		r = (int)n;
	if (r == 0 && gz)
		r = oci_gzip_finish(gz, e);
	if (r == 0)
		r = oci_spool_finish(im->layer, e);
	if (r < 0)
		return r;
	if (gz)
		im->kind = OCI_GZIP;
	oci_stream_digest(in, im->diff_id);
	return 0;
}

/* ---- its documents ---- */

static json_t *make_history(const struct import *im, const char *created)
{
	return json_pack("[{s:s, s:s}]", "created", created, "comment",
		im->o->message && *im->o->message ? im->o->message : "Imported from -");
}

static int make_config(struct import *im, char **ret, struct err *e)
{
	char created[64];
	json_t *config = json_object();
	CLEANUP(json_done) json_t *j = NULL;

	format_time_rfc3339(created, sizeof(created), time_real_ns());
	j = json_pack("{s:s, s:s, s:s, s:s*, s:o, s:{s:s, s:[s]}, s:o}", "created", created, "architecture",
		im->platform.arch, "os", im->platform.os, "variant", im->platform.variant, "config", config,
		"rootfs", "type", "layers", "diff_ids", im->diff_id, "history", make_history(im, created));
	if (!j)
		return err_set(e, -EINVAL, "the message is not in UTF-8");
	int r = im->o->changes ? oci_config_changes(config, im->o->changes, e) : 0;
	if (r < 0)
		return r;
	*ret = json_dumps(j, JSON_COMPACT);
	return *ret ? 0 : err_oom(e);
}

static int put_documents(struct import *im, struct err *e)
{
	static const char *const types[] = {OCI_TYPE_LAYER, OCI_TYPE_LAYER_GZ, OCI_TYPE_LAYER_ZST};
	CLEANUP_FREE char *config = NULL;
	int r = make_config(im, &config, e);

	if (r == 0)
		r = oci_config_parse(config, strlen(config), &im->c, e);
	if (r < 0)
		return r;
	json_t *layer = oci_descriptor_json(types[im->kind], im->layer->digest, im->layer->size);
	return oci_put_documents(
		im->s, config, layer ? json_pack("[o]", layer) : NULL, &im->c, &im->m, &im->entry, e);
}

/* ---- disk and entering ---- */

static int open_layer(void *data, size_t index, struct oci_source *ret, struct err *e)
{
	struct import *im = data;

	(void)index;
	if (lseek(im->layer->fd, 0, SEEK_SET) < 0)
		return err_sys(e, -errno, "cannot read it again");
	*ret = (struct oci_source){.read = oci_source_fd, .data = &im->layer->fd};
	return 0;
}

static int build_disk(struct import *im, struct err *e)
{
	struct oci_layer layer = {.blob = im->layer->digest,
		.diff_id = im->diff_id,
		.verified = im->layer->digest,
		.size = im->layer->size,
		.open = open_layer,
		.data = im};
	int r = oci_disk_find(im->s, im->entry.chain, &im->entry.disk_size, e);

	if (r != -ENOENT)
		return r;
	r = oci_disk_build(im->s, im->entry.chain, &layer, 1, im->progress, &im->entry.disk_size, e);
	im->size = layer.brought;
	im->entry.layer_sizes = &im->size;
	return r;
}

static int enter(struct import *im, struct err *e)
{
	int r = state_begin(im->s->st, e);

	if (r < 0)
		return r;
	r = oci_disk_enter(im->s, im->entry.chain, im->entry.disk_size, e);
	if (r == 0)
		r = oci_store_enter(im->s, &im->entry, "import", e);
	return state_end(im->s->st, r, e);
}

/* Before anything is read: mistakes in what was asked for. */
static int check_options(struct import *im, struct err *e)
{
	CLEANUP_FREE char *name = im->o->ref ? oci_ref_normalise(im->o->ref, e) : NULL;
	CLEANUP(json_done) json_t *scratch = json_object();

	if (im->o->ref && !name)
		return e && e->code ? e->code : -EINVAL;
	if (name && strchr(name, '@'))
		return err_set(e, -EINVAL,
			"\"%.200s\" has a digest, which is not known before the image is made", im->o->ref);
	if (name && strv_push(&im->entry.names, name) < 0)
		return err_oom(e);
	if (im->o->message && strlen(im->o->message) > MESSAGE_MAX)
		return err_set(e, -E2BIG, "the message is longer than %u KiB", MESSAGE_MAX >> 10);
	if (!scratch)
		return err_oom(e);
	int r = im->o->changes ? oci_config_changes(scratch, im->o->changes, e) : 0;
	return r < 0 ? r : oci_platform_parse(im->o->platform, &im->platform, e);
}

static int import_locked(struct import *im, struct err *e)
{
	int r = take_layer(im, e);

	if (r == 0)
		r = oci_chain_id(&im->diff_id, 1, im->entry.chain, e);
	if (r == 0)
		r = build_disk(im, e);
	if (r == 0)
		r = put_documents(im, e);
	if (r == 0)
		r = oci_put_spool(im->layer, e);
	if (r == 0)
		r = oci_store_sync(im->s, e);
	return r < 0 ? r : enter(im, e);
}

int oci_import(struct oci_store *s, int fd, const struct oci_import_opts *o, const struct oci_progress *p,
	char **ret_id, struct err *e)
{
	static const struct oci_import_opts defaults;
	CLEANUP(import_done) struct import im = {.s = s, .o = o ? o : &defaults, .progress = p, .fd = fd};
	CLEANUP_CLOSE int lock = -1;
	int r = check_options(&im, e);

	if (r == 0)
		r = oci_store_lock(s, OCI_LOCK_ADD, &lock, e);
	if (r < 0)
		return r;
	r = import_locked(&im, e);
	if (r < 0) {
		import_done(&im);
		im = (struct import){0};
		close_fd(&lock);
		(void)oci_store_gc(s, NULL);
		return r;
	}
	oci_store_release(s, &lock);
	oci_put_trim(s);
	*ret_id = strdup(im.entry.config);
	return *ret_id ? 0 : err_oom(e);
}
