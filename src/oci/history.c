/* SPDX-License-Identifier: MIT */
/*
 * How an image was made. The configuration's history is what its builder says of itself, and need not fit the layers:
 * steps and layers are matched from the lowest on, layers that no step speaks of become steps of their own, and steps that
 * have no layer left made none.
 */
#include <string.h>

#include "base/io.h"
#include "image.h"
#include "tar.h"

#define HISTORY_MAX OCI_STRINGS_MAX /* steps shown */

void oci_history_free(struct oci_history *h, size_t n)
{
	for (size_t i = 0; h && i < n; i++) {
		free(h[i].created_by);
		free(h[i].comment);
		free(h[i].author);
	}
	free(h);
}

/* ---- sizes of layers ---- */

static int add_up(struct oci_tar *t, uint64_t *ret, struct err *e)
{
	struct archive_entry *en;
	int r;

	while ((r = oci_tar_next(t, &en, e)) > 0) {
		if (t->lib->archive_entry_hardlink(en) || t->lib->archive_entry_filetype(en) != AE_IFREG)
			continue;
		int64_t size = t->lib->archive_entry_size(en);
		if (size > 0 && __builtin_add_overflow(*ret, (uint64_t)size, ret))
			return err_set(e, -EFBIG, "its files have more bytes than can be counted");
	}
	return r;
}

static int measure(struct oci_store *s, const char *blob, const char *diff_id, uint64_t *ret, struct err *e)
{
	CLEANUP(oci_stream_freep) struct oci_stream *stream = NULL;
	CLEANUP_CLOSE int fd = oci_store_blob_open(s, blob, e);
	struct oci_source src = {oci_source_fd, &fd};
	char got[OCI_DIGEST_MAX];
	struct oci_tar t;

	if (fd < 0)
		return fd == -ENOENT ? oci_store_damaged(blob, "is missing", e) : fd;
	int r = oci_stream_new("its content", &src, diff_id, s->unpacked_max, &stream, e);
	if (r == 0)
		r = oci_tar_open(&t, stream, e);
	if (r < 0)
		return r;
	*ret = 0;
	r = add_up(&t, ret, e);
	oci_tar_close(&t);
	if (r == 0)
		r = oci_stream_drain(stream, e);
	if (r < 0)
		return r;
	oci_stream_digest(stream, got);
	return strcmp(got, diff_id) == 0 ? 0 : oci_store_damaged(blob, "is damaged", e);
}

/* Known since the disk was made; else it is found out now, once. */
static int layer_size(
	struct oci_store *s, const struct oci_image *i, const char *diff_id, uint64_t *ret, struct err *e)
{
	CLEANUP(strv_done) struct strv known = {0}, blob = {0};
	int r = oci_query_texts(
		s, &known, e, "SELECT size FROM image_layers WHERE diff = ?1", diff_id, NULL, NULL);

	if (r < 0)
		return r;
	if (known.n) {
		*ret = strtoull(known.v[0], NULL, 10);
		return 0;
	}
	r = oci_query_texts(s, &blob, e, "SELECT digest FROM image_blobs WHERE manifest = ?1 AND diff = ?2",
		i->manifest, diff_id, NULL);
	if (r < 0)
		return r;
	if (blob.n == 0 || !oci_digest_valid(blob.v[0]))
		return oci_store_damaged(diff_id, "is not among the image's content", e);
	r = measure(s, blob.v[0], diff_id, ret, e);
	if (r < 0)
		return err_wrap(e, "layer %.19s", blob.v[0]);
	(void)oci_store_enter_layer(s, diff_id, *ret, NULL);
	return 0;
}

/* ---- steps ---- */

static char *member(const json_t *step, const char *key)
{
	const char *text = json_string_value(json_object_get(step, key));

	return strdup(text ? text : "");
}

/* step NULL: nobody said anything about it. */
static int set_step(struct oci_history *h, const json_t *step, struct err *e)
{
	h->created_ns = oci_time_parse(json_string_value(json_object_get(step, "created")));
	h->created_by = member(step, "created_by");
	h->comment = member(step, "comment");
	h->author = member(step, "author");
	h->empty = true;
	return h->created_by && h->comment && h->author ? 0 : err_oom(e);
}

static int set_layer(struct oci_store *s, const struct oci_image *i, struct oci_history *h,
	const char *diff_id, struct err *e)
{
	snprintf(h->diff_id, sizeof(h->diff_id), "%s", diff_id);
	h->empty = false;
	return layer_size(s, i, diff_id, &h->size, e);
}

static int fill(struct oci_store *s, const struct oci_image *i, const struct oci_config *c,
	const json_t *steps, struct oci_history *h, size_t *n, struct err *e)
{
	size_t layer = 0;
	int r = 0;

	for (size_t k = 0; r == 0 && k < MIN_OF(json_array_size(steps), (size_t)HISTORY_MAX); k++) {
		const json_t *step = json_array_get(steps, k);
		r = set_step(&h[(*n)++], step, e);
		if (r == 0 && !json_is_true(json_object_get(step, "empty_layer")) && layer < c->n_diff_ids)
			r = set_layer(s, i, &h[*n - 1], c->diff_ids[layer++], e);
	}
	for (; r == 0 && layer < c->n_diff_ids; layer++) {
		r = set_step(&h[(*n)++], NULL, e);
		if (r == 0)
			r = set_layer(s, i, &h[*n - 1], c->diff_ids[layer], e);
	}
	return r;
}

int oci_image_history(struct oci_store *s, const struct oci_image *i, struct oci_history **ret, size_t *ret_n,
	struct err *e)
{
	CLEANUP(oci_config_done) struct oci_config c = {0};
	CLEANUP(json_done) json_t *j = NULL;
	CLEANUP_FREE char *text = NULL;
	size_t len, n = 0;

	int r = oci_image_document(s, i, OCI_DOC_CONFIG, &text, &len, e);
	if (r == 0)
		r = oci_config_parse(text, len, &c, e);
	if (r == 0)
		r = oci_json_parse("image configuration", text, len, &j, e);
	if (r < 0)
		return r;
	const json_t *steps = json_object_get(j, "history");
	size_t max = MIN_OF(json_array_size(steps), (size_t)HISTORY_MAX) + c.n_diff_ids;
	struct oci_history *h = calloc(max + 1, sizeof(*h));
	if (!h)
		return err_oom(e);
	r = fill(s, i, &c, steps, h, &n, e);
	if (r < 0) {
		oci_history_free(h, n);
		return r;
	}
	for (size_t a = 0, b = n; a + 1 < b; a++) {
		struct oci_history swap = h[a];
		h[a] = h[--b];
		h[b] = swap;
	}
	*ret = h;
	*ret_n = n;
	return 0;
}
