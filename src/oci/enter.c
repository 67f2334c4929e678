/* SPDX-License-Identifier: MIT */
/* Entering an image into the database: the one transaction that makes its files count. */
#include <string.h>

#include "base/io.h"
#include "image.h"
#include "reference.h"
#include "state/event.h"
#include "store.h"
#include "verify.h"

/* ---- what the image itself needs ---- */

static int enter_blob(struct oci_store *s, const char *manifest, uint64_t pos, const char *digest,
	const char *diff, struct err *e)
{
	return state_exec(s->st, e, "INSERT INTO image_blobs(manifest, pos, digest, diff) VALUES(?, ?, ?, ?)",
		"suss", manifest, pos, digest, diff);
}

int oci_store_enter_blobs(struct oci_store *s, const char *manifest, const struct oci_manifest *m,
	const struct oci_config *c, struct err *e)
{
	uint64_t pos = 0;
	int r = state_exec(s->st, e, "DELETE FROM image_blobs WHERE manifest = ?", "s", manifest);

	if (r == 0)
		r = enter_blob(s, manifest, pos++, manifest, NULL, e);
	if (r == 0)
		r = enter_blob(s, manifest, pos++, m->config.digest, NULL, e);
	for (size_t i = 0; r == 0 && i < m->n_layers; i++)
		r = enter_blob(s, manifest, pos++, m->layers[i].digest, c->diff_ids[i], e);
	return r;
}

static int enter_layer_sizes(struct oci_store *s, const struct oci_entry *en, struct err *e)
{
	int r = 0;

	for (size_t i = 0; r == 0 && en->layer_sizes && i < en->c->n_diff_ids; i++)
		r = oci_store_enter_layer(s, en->c->diff_ids[i], en->layer_sizes[i], e);
	return r;
}

int oci_store_enter_layer(struct oci_store *s, const char *diff_id, uint64_t size, struct err *e)
{
	return state_exec(s->st, e, "INSERT OR REPLACE INTO image_layers(diff, size) VALUES(?, ?)", "su",
		diff_id, size);
}

/* ---- names, and what registries call it ---- */

static int enter_remote(struct oci_store *s, const char *name, const char *repo, const char *manifest,
	const char *digest, struct err *e)
{
	return state_exec(s->st, e,
		"INSERT OR IGNORE INTO image_remotes(manifest, name, repo, digest) SELECT ?1, ?2, ?3, ?4"
		" WHERE EXISTS (SELECT 1 FROM image_manifests WHERE digest = ?1)",
		"ssss", manifest, name, repo, digest);
}

static int repo_of(const char *name, char **ret, struct err *e)
{
	CLEANUP(oci_reference_done) struct oci_reference ref = {0};
	int r = oci_reference_parse(name, &ref, e);

	if (r < 0)
		return r;
	*ret = oci_reference_repo(&ref);
	return *ret ? 0 : err_oom(e);
}

int oci_store_enter_name(struct oci_store *s, const char *name, const char *served, const char *manifest,
	bool remote, struct err *e)
{
	CLEANUP_FREE char *repo = NULL;
	int r = repo_of(name, &repo, e);

	if (r == 0)
		r = state_exec(s->st, e,
			"INSERT OR REPLACE INTO image_names(name, repo, digest, manifest) VALUES(?, ?, ?, ?)",
			"ssss", name, repo, served, manifest);
	if (r == 0 && remote)
		r = enter_remote(s, name, repo, manifest, served, e);
	/* It may have been the last that led to an index. */
	return r == 0 ? oci_store_note_index(s, e) : r;
}

int oci_store_pushed(
	struct oci_store *s, const char *name, const char *manifest, const char *digest, struct err *e)
{
	CLEANUP_FREE char *repo = NULL;
	int r = repo_of(name, &repo, e);

	if (r == 0)
		r = enter_remote(s, name, repo, manifest, digest, e);
	/* A name that keeps an index here goes on keeping it, even where only one of its images was pushed. */
	if (r == 0)
		r = state_exec(s->st, e,
			"UPDATE image_names SET digest = ? WHERE name = ? AND manifest = ?"
			" AND digest NOT IN (SELECT digest FROM image_indexes)",
			"sss", digest, name, manifest);
	return r == 0 ? oci_store_note_index(s, e) : r;
}

static int enter_names(struct oci_store *s, const struct oci_entry *en, struct err *e)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < en->names.n; i++)
		r = oci_store_enter_name(s, en->names.v[i], en->served, en->manifest, en->pulled, e);
	return r;
}

/*
 * An index that was complete stays so when it comes again with less: what it names is still here, since rows go before
 * files do. An image without a name keeps no index: nothing would lead to it.
 */
static int enter_index(struct oci_store *s, const struct oci_entry *en, struct err *e)
{
	if (en->index_blobs.n == 0 || en->names.n == 0)
		return 0;
	int r = state_exec(s->st, e,
		"INSERT INTO image_indexes(digest, complete) VALUES(?, ?)"
		" ON CONFLICT(digest) DO UPDATE SET complete = max(complete, excluded.complete)",
		"si", en->served, (int64_t)en->all_platforms);
	for (size_t i = 0; r == 0 && i < en->index_blobs.n; i++)
		r = state_exec(s->st, e, "INSERT OR IGNORE INTO image_index_blobs(idx, digest) VALUES(?, ?)",
			"ss", en->served, en->index_blobs.v[i]);
	return r;
}

/* ---- signatures ---- */

/* Unless it is here already; of more than may be looked at, the oldest goes. */
static int enter_signature(
	struct oci_store *s, const char *digest, const struct sign_candidate *c, struct err *e)
{
	CLEANUP(stmt_done) sqlite3_stmt *st = NULL;
	int r = state_prepare(s->st, &st, e,
		"INSERT INTO image_signatures(digest, pos, kind, signature, certificate, chain, log_entry, "
		"payload)"
		" SELECT ?1, (SELECT coalesce(max(pos), -1) + 1 FROM image_signatures WHERE digest = ?1),"
		"  ?2, ?3, ?4, ?5, ?6, ?7 WHERE NOT EXISTS (SELECT 1 FROM image_signatures WHERE digest = ?1"
		"  AND kind = ?2 AND signature IS ?3 AND certificate IS ?4 AND chain IS ?5 AND log_entry IS "
		"?6"
		"  AND payload = ?7)",
		"ssssss", digest, c->is_bundle ? "bundle" : "simple", c->is_bundle ? NULL : c->signature,
		c->is_bundle ? NULL : c->certificate, c->is_bundle ? NULL : c->chain,
		c->is_bundle ? NULL : c->log_entry);

	if (r < 0)
		return r;
	if (sqlite3_bind_blob64(st, 7, c->payload ? c->payload : "", c->payload_len, SQLITE_STATIC) !=
		SQLITE_OK)
		return err_set(e, -EIO, "image store: cannot keep a signature");
	r = state_step(s->st, st, e);
	if (r < 0)
		return r;
	return state_exec(s->st, e,
		"DELETE FROM image_signatures WHERE digest = ?1"
		" AND pos <= (SELECT max(pos) FROM image_signatures WHERE digest = ?1) - ?2",
		"si", digest, (int64_t)SIGN_CANDIDATES_MAX);
}

int oci_store_enter_signatures(struct oci_store *s, const struct oci_signatures *sigs, struct err *e)
{
	int r = 0;

	for (size_t i = 0; r == 0 && sigs && i < sigs->n; i++)
		r = enter_signature(s, sigs->digest[i], &sigs->v[i], e);
	return r;
}

/* ---- all of it ---- */

/* As Docker reports it: a pull by the reference that was asked for, all else by the image's ID. */
static int note_entered(struct oci_store *s, const struct oci_entry *en, const char *action, struct err *e)
{
	CLEANUP_FREE char *name = en->names.n ? oci_ref_familiar(en->names.v[0]) : NULL;

	if (en->names.n && !name)
		return err_oom(e);
	const char *actor = name && strcmp(action, "pull") == 0 ? name : en->config;
	return event_add(s->st, e, "image", action, actor, "name", name ? name : en->config, NULL);
}

static int enter_use(struct oci_store *s, const struct oci_entry *en, int64_t now_ns, struct err *e)
{
	/* The last one used, whatever the clock says. What was brought here by hand once is never evicted. */
	return state_exec(s->st, e,
		"INSERT INTO image_use(manifest, used_ns, pulled)"
		" SELECT ?1, max(?2, coalesce(max(used_ns), 0) + 1), ?3 FROM image_use WHERE true"
		" ON CONFLICT(manifest) DO UPDATE SET used_ns = excluded.used_ns, pulled = min(pulled, "
		"excluded.pulled)",
		"sii", en->manifest, now_ns, (int64_t)en->pulled);
}

int oci_store_enter(struct oci_store *s, const struct oci_entry *en, const char *action, struct err *e)
{
	const struct oci_platform *p = &en->c->platform;
	int64_t now_ns = time_real_ns();

	int r = state_exec(s->st, e,
		"INSERT OR REPLACE INTO image_manifests(digest, config, chain, size, created_ns, added_ns, "
		"os, arch,"
		" variant, exec, doomed) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0)",
		"sssuiissss", en->manifest, en->config, en->chain, en->disk_size, en->c->created_ns, now_ns,
		p->os, p->arch, p->variant, en->c->exec_json);
	if (r == 0)
		r = oci_store_enter_blobs(s, en->manifest, en->m, en->c, e);
	if (r == 0)
		r = enter_layer_sizes(s, en, e);
	if (r == 0)
		r = enter_use(s, en, now_ns, e);
	if (r == 0)
		r = enter_names(s, en, e);
	if (r == 0)
		r = enter_index(s, en, e);
	if (r == 0)
		r = oci_store_enter_signatures(s, en->signatures, e);
	return r < 0 ? r : note_entered(s, en, action, e);
}
