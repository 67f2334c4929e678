/* SPDX-License-Identifier: MIT */
/* Walking what documents name: to one manifest, or to everything. */
#include <string.h>

#include "base/io.h"
#include "manifest.h"
#include "text-hash.h"

#define DOCUMENTS_MAX (64ull << 20) /* bytes of all documents that are read on one walk */

static int get_document(const struct oci_getter *get, const struct oci_desc *d, uint64_t *total, char **ret,
	size_t *ret_n, struct err *e)
{
	if (d->size > OCI_JSON_MAX)
		return err_set(e, -EFBIG, "image manifest %.19s is larger than %u MiB", d->digest,
			OCI_JSON_MAX >> 20);
	*total += d->size;
	if (*total > DOCUMENTS_MAX)
		return err_set(e, -EFBIG, "the manifests of the image are larger than %llu MiB",
			DOCUMENTS_MAX >> 20);
	return get->get(get->data, d, ret, ret_n, e);
}

/* ---- one manifest ---- */

struct choice {
	const struct oci_platform *want;
	const struct oci_getter *get;
	uint64_t total;
	char digest[OCI_DIGEST_MAX];
	char *text;
	size_t len;
};

static int choose(
	struct choice *c, const void *data, size_t n, const char *media_type, unsigned depth, struct err *e);

/* The document behind an index's entry, and what that leads to. */
static int descend(struct choice *c, const struct oci_desc *d, unsigned depth, struct err *e)
{
	CLEANUP_FREE char *text = NULL;
	size_t n;
	int r = get_document(c->get, d, &c->total, &text, &n, e);

	if (r == 0) {
		oci_digest_copy(c->digest, d->digest);
		r = choose(c, text, n, *d->media_type ? d->media_type : NULL, depth + 1, e);
	}
	return r;
}

static int choose_from_index(struct choice *c, const void *data, size_t n, unsigned depth, struct err *e)
{
	CLEANUP(oci_index_done) struct oci_index index = {0};
	int r = oci_index_parse(data, n, &index, e);

	if (r < 0)
		return r;
	if (depth >= OCI_INDEX_DEPTH)
		return err_set(
			e, -EBADMSG, "image indexes are nested more than %d levels deep", OCI_INDEX_DEPTH);
	const struct oci_desc *d = oci_index_select(&index, c->want, e);
	if (d)
		return descend(c, d, depth, e);
	/* The error stays, if none of the indexes in it has the platform. */
	struct err first = e ? *e : (struct err){0};
	for (size_t i = 0; i < index.n; i++) {
		d = &index.v[i];
		if (d->role != OCI_ROLE_INDEX || d->attestation ||
			(d->platform.os && d->platform.arch && !oci_platform_rank(&d->platform, c->want)))
			continue;
		r = descend(c, d, depth, e);
		if (r != -ENOENT)
			return r;
	}
	if (e)
		*e = first;
	return -ENOENT;
}

static int choose(
	struct choice *c, const void *data, size_t n, const char *media_type, unsigned depth, struct err *e)
{
	enum oci_kind kind;
	int r = oci_kind_of(data, n, media_type, &kind, e);

	if (r < 0)
		return r;
	if (kind == OCI_KIND_INDEX)
		return choose_from_index(c, data, n, depth, e);
	c->text = malloc(n + 1);
	if (!c->text)
		return err_oom(e);
	memcpy(c->text, data, n);
	c->text[n] = '\0';
	c->len = n;
	return 0;
}

int oci_manifest_choose(const void *data, size_t n, const char *media_type, const struct oci_platform *want,
	const struct oci_getter *get, char ret_digest[OCI_DIGEST_MAX], char **ret, size_t *ret_n,
	struct err *e)
{
	struct choice c = {.want = want, .get = get};
	int r = choose(&c, data, n, media_type, 0, e);

	if (r < 0)
		return r;
	oci_digest_copy(ret_digest, c.digest);
	*ret = c.text;
	*ret_n = c.len;
	return 0;
}

/* ---- everything ---- */

struct walk {
	const struct oci_getter *get;
	struct oci_contents c;
	size_t cap;
	uint64_t total;
	size_t *table; /* open hashing by digest: numbers in c.v plus one */
	size_t table_size;
	uint64_t hash_key[2]; /* random: whoever chooses the digests cannot choose their slots */
};

static bool is_document(const struct oci_desc *d)
{
	return d->role != OCI_ROLE_BLOB;
}

/* Digests in documents are whatever their author wants: unlike content's they are not spread by themselves. */
static uint64_t hash_desc(const struct walk *w, const struct oci_desc *d)
{
	return oci_text_hash(w->hash_key, d->digest, strlen(d->digest)) ^ is_document(d);
}

/* The slot of what has this digest and sort, or where it would be. */
static size_t *slot_of(struct walk *w, const struct oci_desc *d)
{
	for (size_t h = hash_desc(w, d);; h++) {
		size_t *slot = &w->table[h & (w->table_size - 1)];
		if (*slot == 0)
			return slot;
		const struct oci_desc *have = &w->c.v[*slot - 1];
		if (is_document(have) == is_document(d) && strcmp(have->digest, d->digest) == 0)
			return slot;
	}
}

static int grow(struct walk *w, struct err *e)
{
	if (w->c.n == OCI_CONTENT_MAX)
		return err_set(e, -E2BIG, "the image's index names more than %d things", OCI_CONTENT_MAX);
	if (w->c.n == w->cap) {
		size_t cap = w->cap ? w->cap * 2 : 64;
		struct oci_desc *v = realloc(w->c.v, cap * sizeof(*v));
		if (!v)
			return err_oom(e);
		w->c.v = v;
		w->cap = cap;
	}
	if (w->table_size >= 2 * (w->c.n + 1))
		return 0;
	size_t size = w->table_size ? w->table_size * 2 : 256;
	size_t *table = calloc(size, sizeof(*table));
	if (!table)
		return err_oom(e);
	free(w->table);
	w->table = table;
	w->table_size = size;
	for (size_t i = 0; i < w->c.n; i++)
		*slot_of(w, &w->c.v[i]) = i + 1;
	return 0;
}

static int walk_document(
	struct walk *w, const void *data, size_t n, const char *media_type, unsigned depth, struct err *e);

/* Takes what *d holds. */
static int visit(struct walk *w, struct oci_desc *d, unsigned depth, struct err *e)
{
	int r = grow(w, e);

	if (r < 0)
		return r;
	size_t have = *slot_of(w, d);
	if (have && w->c.v[have - 1].size != d->size)
		return err_set(
			e, -EBADMSG, "the image's manifests disagree about the size of %.19s", d->digest);
	if (have)
		return 0;
	if (is_document(d)) {
		CLEANUP_FREE char *text = NULL;
		size_t n;
		/* What contains itself cannot be: its digest would have to be known before it is written. */
		if (depth >= OCI_INDEX_DEPTH)
			return err_set(e, -EBADMSG, "image indexes are nested more than %d levels deep",
				OCI_INDEX_DEPTH);
		r = get_document(w->get, d, &w->total, &text, &n, e);
		if (r == 0)
			r = walk_document(w, text, n, d->media_type, depth + 1, e);
		if (r == 0)
			r = grow(w, e);
		if (r < 0)
			return r;
	}
	*slot_of(w, d) = w->c.n + 1;
	w->c.v[w->c.n++] = *d;
	*d = (struct oci_desc){0};
	return 0;
}

static int walk_document(
	struct walk *w, const void *data, size_t n, const char *media_type, unsigned depth, struct err *e)
{
	CLEANUP(oci_contents_done) struct oci_contents named = {0};
	int r = oci_document_names(data, n, media_type, &named, e);

	for (size_t i = 0; r == 0 && i < named.n; i++)
		r = visit(w, &named.v[i], depth, e);
	return r;
}

int oci_contents_of(const void *data, size_t n, const char *media_type, const struct oci_getter *get,
	struct oci_contents *ret, struct err *e)
{
	struct walk w = {.get = get};

	io_random(w.hash_key, sizeof(w.hash_key));
	/* As oci_kind_of, which does not mind how a server calls it. */
	int r = walk_document(&w, data, n, oci_type_known(media_type) ? media_type : NULL, 0, e);
	free(w.table);
	if (r < 0) {
		oci_contents_done(&w.c);
		return r;
	}
	*ret = w.c;
	return 0;
}
