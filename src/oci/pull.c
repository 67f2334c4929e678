/* SPDX-License-Identifier: MIT */
/*
 * Pulling.
 *
 * What the registry serves under the reference (asked by HEAD first where the name is here already: if nothing changed,
 * that is the only request) leads to the manifest for the platform. Signatures are judged then, before anything is kept.
 * Documents follow, the configuration last, because its diff IDs say whether the disk is here and of what it can be
 * built. Layers are downloaded by threads (fetch.h) while the disk is built of what has arrived (disk.h).
 *
 * Everything good is put in its place at once, and counts when the transaction at the end names it. If that is not
 * reached, the complete layers go back to the partial files, where the next try finds them, and the rest is collected.
 */
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "disk.h"
#include "fetch.h"
#include "progress.h"
#include "put.h"
#include "reference.h"
#include "registry/registry.h"
#include "verify.h"

/* A document that was read on the way to the manifest. */
struct document {
	char digest[OCI_DIGEST_MAX];
	char *text;
	size_t len;
	bool stored;
};

struct pull {
	struct oci_store *s;
	const struct oci_pull_opts *o;
	const struct oci_reference *ref;
	const struct oci_progress *progress; /* takes calls from several threads */
	struct oci_registry *reg;
	struct oci_conn *conn;
	struct oci_platform want;
	struct document docs[OCI_INDEX_DEPTH + 1]; /* what is served, and what it led to */
	size_t n_docs;
	char *type;	     /* of docs[0], as the registry said */
	bool documents_stay; /* signatures are good: what is read is kept */
	struct oci_manifest m;
	struct oci_config c;
	struct oci_contents contents;	/* with all platforms */
	const struct oci_desc **wanted; /* the layers, then other blobs of the index */
	size_t n_wanted;
	struct oci_fetch *fetch;
	struct oci_layer *layers;
	uint64_t *layer_sizes;
	bool built; /* the disk was */
	struct oci_signatures signatures;
	struct oci_entry entry;
	bool newer;
	bool was_alone; /* the name led to the manifest already, and to no index */
};

static void pull_done(struct pull *p)
{
	oci_fetch_free(p->fetch);
	oci_conn_free(p->conn);
	oci_registry_close(p->reg);
	oci_platform_done(&p->want);
	for (size_t i = 0; i < p->n_docs; i++)
		free(p->docs[i].text);
	free(p->type);
	oci_manifest_done(&p->m);
	oci_config_done(&p->c);
	oci_contents_done(&p->contents);
	free(p->wanted);
	free(p->layers);
	free(p->layer_sizes);
	oci_signatures_done(&p->signatures);
	strv_done(&p->entry.names);
	strv_done(&p->entry.index_blobs);
}

/* ---- documents ---- */

/* Of the store, if it is there and as it should be: 1. Else 0, and fetched again it replaces the damaged one. */
static int read_stored(struct oci_store *s, const char *digest, char **ret, size_t *ret_n, struct err *e)
{
	struct err why = {0};
	int r = oci_store_document(s, digest, ret, ret_n, &why);

	if (r == 0 || r == -EBADMSG || r == -EIO)
		return r == 0;
	if (e)
		*e = why;
	return r;
}

static int store_document(struct pull *p, const char *digest, const char *text, size_t n, struct err *e)
{
	CLEANUP(oci_spool_freep) struct oci_spool *sp = NULL;
	int r = oci_spool_new(p->s, true, digest, &sp, e);

	if (r == 0)
		r = oci_spool_write(sp, text, n, e);
	if (r == 0)
		r = oci_spool_finish(sp, e);
	if (r == 0 && strcmp(sp->digest, digest) != 0)
		r = err_set(e, -EBADMSG, "%.19s arrived damaged", digest);
	return r < 0 ? r : oci_spool_commit(sp, oci_store_blob_dir(p->s, digest), oci_digest_hex(digest), e);
}

static int check_text(const struct oci_desc *d, const char *text, size_t len, struct err *e)
{
	char is[OCI_DIGEST_MAX];

	if (len != d->size)
		return err_set(e, -EBADMSG, "%.19s is %s than the %llu bytes announced", d->digest,
			len > d->size ? "longer" : "shorter", (unsigned long long)d->size);
	int r = oci_digest_like(d->digest, text, len, is, e);
	if (r < 0)
		return r;
	return strcmp(is, d->digest) == 0 ? 0 : err_set(e, -EBADMSG, "%.19s arrived damaged", d->digest);
}

/* text has room for two bytes more than are announced. */
static int try_blob(struct pull *p, const struct oci_desc *d, char *text, struct err *e)
{
	uint64_t from;
	ssize_t n;
	size_t len = 0;
	int r = oci_conn_blob(p->conn, d->digest, 0, &from, e);

	if (r < 0)
		return r;
	while (len <= d->size && (n = oci_conn_read(p->conn, text + len, d->size + 1 - len, e)) != 0) {
		if (n < 0)
			return (int)n;
		len += (size_t)n;
	}
	return check_text(d, text, len, e);
}

/* The configuration: a document that registries keep among the blobs. A mirror that sends another is not asked again. */
static int download_blob(struct pull *p, const struct oci_desc *d, char **ret, size_t *ret_n, struct err *e)
{
	if (d->size > OCI_JSON_MAX)
		return err_set(e, -EFBIG, "%.19s is larger than %u MiB", d->digest, OCI_JSON_MAX >> 20);
	CLEANUP_FREE char *text = malloc(d->size + 2);
	int r = text ? try_blob(p, d, text, e) : err_oom(e);
	while (r == -EBADMSG && oci_conn_distrust(p->conn))
		r = try_blob(p, d, text, e);
	if (r < 0)
		return r;
	text[d->size] = '\0';
	*ret = TAKE_PTR(text);
	*ret_n = d->size;
	return 0;
}

static int download_document(
	struct pull *p, const struct oci_desc *d, char **ret, size_t *ret_n, struct err *e)
{
	char digest[OCI_DIGEST_MAX];
	CLEANUP_FREE char *text = NULL;
	size_t n = 0;
	int r = oci_conn_manifest(p->conn, d->digest, &text, &n, digest, NULL, e);

	if (r == 0 && n != d->size)
		r = err_set(e, -EBADMSG, "%.19s has %zu bytes, and not the %llu announced", d->digest, n,
			(unsigned long long)d->size);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(text);
	*ret_n = n;
	return 0;
}

/* Remembers a document on the way to the manifest. */
static int remember(
	struct pull *p, const char *digest, const char *text, size_t n, bool stored, struct err *e)
{
	if (p->n_docs == ARRAY_LEN(p->docs))
		return err_set(e, -EBADMSG, "image indexes are nested too deep");
	struct document *d = &p->docs[p->n_docs];
	*d = (struct document){.text = malloc(n + 1), .len = n, .stored = stored};
	if (!d->text)
		return err_oom(e);
	memcpy(d->text, text, n);
	d->text[n] = '\0';
	oci_digest_copy(d->digest, digest);
	p->n_docs++;
	return 0;
}

/* oci_getter.get: from the store, or the registry. */
static int get_document(void *data, const struct oci_desc *d, char **ret, size_t *ret_n, struct err *e)
{
	struct pull *p = data;
	CLEANUP_FREE char *text = NULL;
	size_t n = 0;
	int stored = read_stored(p->s, d->digest, &text, &n, e);
	int r = stored < 0 ? stored : 0;

	if (stored == 0)
		r = download_document(p, d, &text, &n, e);
	if (r == 0 && stored == 0 && p->documents_stay)
		r = store_document(p, d->digest, text, n, e);
	if (r == 0 && !p->documents_stay)
		r = remember(p, d->digest, text, n, stored, e);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(text);
	*ret_n = n;
	return 0;
}

/* ---- from the reference to the manifest ---- */

/* What the name leads to here; both empty when it is unknown. */
static int known_here(
	struct pull *p, char served[OCI_DIGEST_MAX], char manifest[OCI_DIGEST_MAX], struct err *e)
{
	CLEANUP(stmt_done) sqlite3_stmt *st = NULL;
	int r = state_prepare(p->s->st, &st, e, "SELECT digest, manifest FROM image_names WHERE name = ?",
		"s", p->entry.names.v[0]);

	*served = *manifest = '\0';
	if (r == 0)
		r = state_step(p->s->st, st, e);
	for (int i = 0; r > 0 && i < 2; i++) {
		const char *digest = (const char *)sqlite3_column_text(st, i);
		if (digest && oci_digest_valid(digest))
			oci_digest_copy(i == 0 ? served : manifest, digest);
	}
	return r < 0 ? r : 0;
}

static int get_served(struct pull *p, const char *here, struct err *e)
{
	const char *what = p->ref->digest ? p->ref->digest : p->ref->tag;
	CLEANUP_FREE char *text = NULL;
	char digest[OCI_DIGEST_MAX];
	size_t n = 0;
	int r;

	/* A HEAD is cheap, and some registries count nothing else as no pull. */
	if (*here && (r = read_stored(p->s, here, &text, &n, e)) != 0) {
		struct err ignored = {0};
		if (r < 0)
			return r;
		if (oci_conn_has_manifest(p->conn, what, digest, &ignored) == 1 &&
			strcmp(digest, here) == 0) {
			oci_digest_copy(p->entry.served, here);
			return remember(p, here, text, n, true, e);
		}
		free(TAKE_PTR(text));
	}
	r = oci_conn_manifest(p->conn, what, &text, &n, p->entry.served, &p->type, e);
	if (r == 0 && p->ref->digest && strcmp(p->entry.served, p->ref->digest) != 0)
		r = err_set(e, -EBADMSG, "the registry's answer has the digest %s", p->entry.served);
	return r < 0 ? r : remember(p, p->entry.served, text, n, false, e);
}

static int resolve(struct pull *p, struct err *e)
{
	const struct oci_getter getter = {get_document, p};
	char served[OCI_DIGEST_MAX], manifest[OCI_DIGEST_MAX], digest[OCI_DIGEST_MAX];
	CLEANUP_FREE char *text = NULL;
	size_t n = 0;
	int r = known_here(p, served, manifest, e);

	if (r == 0)
		r = get_served(p, served, e);
	if (r == 0)
		r = oci_manifest_choose(
			p->docs[0].text, p->docs[0].len, p->type, &p->want, &getter, digest, &text, &n, e);
	if (r < 0)
		return r;
	oci_digest_copy(p->entry.manifest, *digest ? digest : p->entry.served);
	p->newer = strcmp(served, p->entry.served) != 0 || strcmp(manifest, p->entry.manifest) != 0;
	p->was_alone = strcmp(served, p->entry.manifest) == 0 && strcmp(manifest, p->entry.manifest) == 0;
	return oci_manifest_parse(text, n, &p->m, e);
}

/* An index that nobody has signed, where signatures are asked for, is not what the name leads to. */
static int verify(struct pull *p, struct err *e)
{
	struct oci_entry *en = &p->entry;
	bool served = true;
	int r = oci_verify_pull(p->s, p->conn, p->ref, &p->o->verify, en->served, en->manifest,
		p->o->all_platforms, &p->signatures, &served, e);

	if (r < 0 || served)
		return r;
	oci_digest_copy(en->served, en->manifest);
	p->newer = !p->was_alone;
	return 0;
}

/* What was read so far; from now on documents are kept as they come. */
static int keep_documents(struct pull *p, struct err *e)
{
	bool alone = strcmp(p->entry.served, p->entry.manifest) == 0;
	int r = 0;

	p->documents_stay = true;
	for (size_t i = 0; r == 0 && i < p->n_docs; i++) {
		struct document *d = &p->docs[i];
		if (alone && strcmp(d->digest, p->entry.manifest) != 0)
			continue;
		if (!d->stored)
			r = store_document(p, d->digest, d->text, d->len, e);
		/* Those on the way, without the manifest itself, belong to the index. */
		if (r == 0 && strcmp(d->digest, p->entry.manifest) != 0 &&
			strv_push(&p->entry.index_blobs, d->digest) < 0)
			r = err_oom(e);
	}
	return r;
}

static int get_config(struct pull *p, struct err *e)
{
	const struct oci_desc *d = &p->m.config;
	char have[160], want[160];
	CLEANUP_FREE char *text = NULL;
	size_t n = 0;
	int stored = read_stored(p->s, d->digest, &text, &n, e);
	int r = stored < 0 ? stored : 0;

	if (stored == 0)
		r = download_blob(p, d, &text, &n, e);
	if (r == 0 && stored == 0)
		r = store_document(p, d->digest, text, n, e);
	if (r == 0)
		r = oci_config_parse(text, n, &p->c, e);
	if (r < 0)
		return r;
	if (!oci_platform_matches(&p->c.platform, &p->want))
		return err_set(e, -ENOEXEC, "image is for %s, not for %s",
			oci_platform_text(&p->c.platform, have, sizeof(have)),
			oci_platform_text(&p->want, want, sizeof(want)));
	if (p->c.n_diff_ids != p->m.n_layers)
		return err_set(e, -EBADMSG, "image has %zu layers, but its configuration names %zu",
			p->m.n_layers, p->c.n_diff_ids);
	oci_digest_copy(p->entry.config, d->digest);
	p->entry.m = &p->m;
	p->entry.c = &p->c;
	p->entry.pulled = true;
	return oci_chain_id(p->c.diff_ids, p->c.n_diff_ids, p->entry.chain, e);
}

/* ---- blobs ---- */

/* Everything else that the index names. */
static int list_contents(struct pull *p, struct err *e)
{
	const struct oci_getter getter = {get_document, p};

	if (!p->o->all_platforms || strcmp(p->entry.served, p->entry.manifest) == 0)
		return 0;
	p->entry.all_platforms = true;
	int r = oci_contents_of(p->docs[0].text, p->docs[0].len, p->type, &getter, &p->contents, e);
	for (size_t i = 0; r == 0 && i < p->contents.n; i++)
		if (!p->contents.v[i].foreign &&
			strv_push(&p->entry.index_blobs, p->contents.v[i].digest) < 0)
			r = err_oom(e);
	return r;
}

/* The layers come first, in their order: the disk waits for them. */
static int list_wanted(struct pull *p, struct err *e)
{
	uint64_t total = 0;

	p->wanted = calloc(p->m.n_layers + p->contents.n + 1, sizeof(*p->wanted));
	if (!p->wanted)
		return err_oom(e);
	for (size_t i = 0; i < p->m.n_layers; i++)
		p->wanted[p->n_wanted++] = &p->m.layers[i];
	for (size_t i = 0; i < p->contents.n; i++)
		if (p->contents.v[i].role == OCI_ROLE_BLOB && !p->contents.v[i].foreign)
			p->wanted[p->n_wanted++] = &p->contents.v[i];
	for (size_t i = 0; i < p->n_wanted; i++)
		if (__builtin_add_overflow(total, p->wanted[i]->size, &total) || total > p->s->unpacked_max)
			return err_set(e, -EFBIG, "it has more than the %llu MiB that are supported at most",
				(unsigned long long)(p->s->unpacked_max >> 20));
	return 0;
}

static int open_layer(void *data, size_t index, struct oci_source *ret, struct err *e)
{
	struct pull *p = data;

	(void)e;
	oci_fetch_read(p->fetch, index, ret);
	return 0;
}

static int close_layer(void *data, size_t index, struct err *e)
{
	struct pull *p = data;

	return oci_fetch_wait(p->fetch, index, e);
}

/* The disk, or, where it is there, only that the layers are what it was made of. */
static int build_once(struct pull *p, struct err *e)
{
	int r = oci_disk_find(p->s, p->entry.chain, &p->entry.disk_size, e);

	if (r < 0 && r != -ENOENT)
		return r;
	for (size_t i = 0; i < p->m.n_layers; i++)
		p->layers[i] = (struct oci_layer){.blob = p->m.layers[i].digest,
			.diff_id = p->c.diff_ids[i],
			.size = p->m.layers[i].size,
			.open = open_layer,
			.close = close_layer,
			.data = p};
	if (r == 0)
		return oci_disk_check_layers(p->s, p->layers, p->m.n_layers, p->progress, e);
	r = oci_disk_build(
		p->s, p->entry.chain, p->layers, p->m.n_layers, p->progress, &p->entry.disk_size, e);
	p->built = r == 0;
	return r;
}

/* Whether a layer can be the reason: that its bytes are wrong, or that they did not come. */
static bool may_be_content(int r)
{
	return r < 0 && r != -ENOMEM && r != -ENOSPC && r != -EDQUOT && r != -EIO;
}

/*
 * A layer that cannot be read may be damaged: then that is what went wrong, and if the damage was only in what an earlier
 * download had left, or a mirror sent, it is good by now: 1.
 */
static int was_repeated(struct pull *p, struct err *e)
{
	struct err why = {0};
	bool repeated = false;

	for (size_t i = 0; i < p->m.n_layers; i++) {
		if (!p->layers[i].begun)
			continue;
		int r = oci_fetch_wait(p->fetch, i, &why);
		if (r < 0) {
			if (e)
				*e = why;
			return err_wrap(e, "layer %zu of %zu", i + 1, p->m.n_layers), r;
		}
		repeated |= oci_fetch_repeated(p->fetch, i);
	}
	return repeated;
}

static int build_disk(struct pull *p, struct err *e)
{
	p->layers = calloc(p->m.n_layers + 1, sizeof(*p->layers));
	p->layer_sizes = calloc(p->m.n_layers + 1, sizeof(*p->layer_sizes));
	if (!p->layers || !p->layer_sizes)
		return err_oom(e);
	int r = build_once(p, e);
	int again = may_be_content(r) ? was_repeated(p, e) : 0;
	if (again < 0)
		return again;
	/* Only of what is good, so that no other layer of a bad mirror can spoil it too. */
	for (size_t i = 0; again && i < p->n_wanted; i++)
		if ((r = oci_fetch_wait(p->fetch, i, e)) < 0)
			return r;
	if (again) {
		err_set(e, 0, "%s", "");
		r = build_once(p, e);
	}
	for (size_t i = 0; p->built && i < p->m.n_layers; i++)
		p->layer_sizes[i] = p->layers[i].brought;
	if (p->built)
		p->entry.layer_sizes = p->layer_sizes;
	return r;
}

static int get_blobs(struct pull *p, struct err *e)
{
	int r = list_wanted(p, e);

	if (r == 0)
		r = oci_fetch_new(p->s, p->reg, p->wanted, p->n_wanted, p->progress, &p->fetch, e);
	if (r < 0)
		return r;
	r = build_disk(p, e);
	for (size_t i = 0; r == 0 && i < p->n_wanted; i++)
		r = oci_fetch_wait(p->fetch, i, e);
	return r;
}

/* ---- entering, or not ---- */

static int commit(struct pull *p, struct err *e)
{
	int r = oci_store_sync(p->s, e);

	if (r == 0)
		r = state_begin(p->s->st, e);
	if (r < 0)
		return r;
	p->entry.signatures = &p->signatures;
	r = oci_disk_enter(p->s, p->entry.chain, p->entry.disk_size, e);
	if (r == 0)
		r = oci_store_enter(p->s, &p->entry, "pull", e);
	return state_end(p->s->st, r, e);
}

static int pull_locked(struct pull *p, struct err *e)
{
	CLEANUP_FREE char *name = oci_reference_name(p->ref);

	if (!name || strv_push(&p->entry.names, name) < 0)
		return err_oom(e);
	int r = oci_platform_parse(p->o->platform, &p->want, e);
	if (r == 0)
		r = oci_registry_open(
			p->ref, &p->o->remote, p->s->st->home_fd, OCI_ACCESS_PULL, NULL, &p->reg, e);
	if (r == 0)
		r = oci_conn_new(p->reg, &p->conn, e);
	if (r == 0)
		r = resolve(p, e);
	if (r == 0)
		r = verify(p, e);
	if (r == 0)
		r = keep_documents(p, e);
	if (r == 0)
		r = get_config(p, e);
	if (r == 0)
		r = list_contents(p, e);
	if (r == 0)
		r = get_blobs(p, e);
	return r < 0 ? r : commit(p, e);
}

/* Whether a second try can go on where this one stopped. */
static bool worth_keeping(int r)
{
	switch (r) {
	case -EBADMSG:
	case -EFBIG:
	case -E2BIG:
	case -EINVAL:
	case -ENOEXEC:
	case -EKEYREJECTED:
	case -ENOSPC:
	case -EDQUOT:
		return false;
	default:
		return true;
	}
}

/* After a failure: nothing of it stays but what the next try can use. Skipped while others work. */
static void give_up(struct pull *p, int why)
{
	bool keep = worth_keeping(why), full = why == -ENOSPC || why == -EDQUOT;
	CLEANUP_CLOSE int lock = -1;
	struct err ignored = {0};

	if (oci_store_lock(p->s, OCI_LOCK_DELETE, &lock, &ignored) < 0)
		return;
	for (size_t i = 0; keep && i < p->n_wanted; i++)
		oci_partial_keep(p->s, p->wanted[i]->digest);
	/* What filled the disk goes: everybody needs the room more. */
	for (size_t i = 0; full && i < p->n_wanted; i++)
		oci_partial_drop(p->s, p->wanted[i]->digest);
	close_fd(&lock);
	(void)oci_store_gc(p->s, &ignored);
}

static int set_result(struct pull *p, const char *ref, struct oci_pull_result *ret, struct err *e)
{
	snprintf(ret->digest, sizeof(ret->digest), "%s", p->entry.served);
	ret->newer = p->newer;
	return oci_image_find(p->s, ref, &ret->image, e);
}

int oci_pull(struct oci_store *s, const char *ref_text, const struct oci_pull_opts *o,
	const struct oci_progress *prog, struct oci_pull_result *ret, struct err *e)
{
	CLEANUP(oci_reference_done) struct oci_reference ref = {0};
	CLEANUP_CLOSE int lock = -1;
	struct oci_serial serial;
	int r = oci_reference_parse(ref_text, &ref, e);

	if (r == 0)
		r = oci_store_lock(s, OCI_LOCK_ADD, &lock, e);
	if (r < 0)
		return r;
	oci_serial_init(&serial, prog);
	struct pull p = {.s = s, .o = o, .ref = &ref, .progress = &serial.progress};
	r = pull_locked(&p, e);
	uint64_t added = p.fetch ? oci_fetch_missing(p.fetch) : 0;
	/* Before another process may evict it again. */
	if (r == 0 && ret)
		r = set_result(&p, ref_text, ret, e);
	/* Its threads are at an end before the lock is. */
	oci_fetch_free(TAKE_PTR(p.fetch));
	oci_store_release(s, &lock);
	if (r < 0)
		give_up(&p, r);
	else if (added > 0 || p.newer)
		oci_put_trim(s);
	pull_done(&p);
	oci_serial_done(&serial);
	return r < 0 ? err_wrap(e, "cannot pull %s", ref_text), r : 0;
}

void oci_pull_result_done(struct oci_pull_result *r)
{
	oci_image_free(r->image);
	r->image = NULL;
}

int oci_remote_tags(struct oci_store *s, const char *ref_text, const struct oci_remote_opts *o,
	struct strv *ret, struct err *e)
{
	CLEANUP(oci_reference_done) struct oci_reference ref = {0};
	CLEANUP(oci_registry_closep) struct oci_registry *reg = NULL;
	CLEANUP(oci_conn_freep) struct oci_conn *conn = NULL;
	CLEANUP(strv_done) struct strv tags = {0}, names = {0};
	int r = oci_reference_parse(ref_text, &ref, e);

	if (r == 0)
		r = oci_registry_open(&ref, o, s->st->home_fd, OCI_ACCESS_PULL, NULL, &reg, e);
	if (r == 0)
		r = oci_conn_new(reg, &conn, e);
	if (r == 0)
		r = oci_conn_tags(conn, &tags, e);
	CLEANUP_FREE char *repo = r == 0 ? oci_reference_repo(&ref) : NULL;
	if (r == 0 && !repo)
		r = err_oom(e);
	for (size_t i = 0; r == 0 && i < tags.n; i++) {
		char *name = str_printf("%s:%s", repo, tags.v[i]);
		r = !name || strv_take(&names, name) < 0 ? err_oom(e) : 0;
	}
	if (r < 0)
		return err_wrap(e, "cannot list the tags of %s", ref_text), r;
	*ret = names;
	names = (struct strv){0};
	return 0;
}
