/* SPDX-License-Identifier: MIT */
/* Finding, listing and removing images, and who holds them: all of it questions to the database. */
#include <string.h>

#include "base/io.h"
#include "reference.h"
#include "state/event.h"
#include "store.h"

#define ID_PREFIX_MIN  4
#define CANDIDATES_MAX 8 /* named in the error for an ambiguous prefix */

#define COLUMNS "m.digest, m.config, m.chain, m.size, m.created_ns, m.os, m.arch, m.variant, m.exec"

void oci_image_free(struct oci_image *i)
{
	if (!i)
		return;
	free(i->name);
	free(i->id);
	free(i->manifest);
	free(i->chain_id);
	free(i->os);
	free(i->arch);
	free(i->variant);
	strv_done(&i->env);
	strv_done(&i->entrypoint);
	strv_done(&i->cmd);
	strv_done(&i->labels);
	strv_done(&i->volumes);
	strv_done(&i->exposed_ports);
	strv_done(&i->health.test);
	free(i->workdir);
	free(i->user);
	free(i->stop_signal);
	free(i);
}

void oci_image_list_free(struct oci_image **list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		oci_image_free(list[i]);
	free(list);
}

/* From a row of COLUMNS, name (NULL allowed). */
static int image_from_row(sqlite3_stmt *st, struct oci_image **ret, struct err *e)
{
	CLEANUP(oci_image_freep) struct oci_image *i = calloc(1, sizeof(*i));

	if (!i)
		return err_oom(e);
	i->manifest = state_column_dup(st, 0);
	i->id = state_column_dup(st, 1);
	i->chain_id = state_column_dup(st, 2);
	i->size = (uint64_t)sqlite3_column_int64(st, 3);
	i->created_ns = sqlite3_column_int64(st, 4);
	i->os = state_column_dup(st, 5);
	i->arch = state_column_dup(st, 6);
	i->variant = state_column_dup(st, 7);
	const char *exec = (const char *)sqlite3_column_text(st, 8);
	i->name = state_column_dup(st, 9);
	if (!i->manifest || !i->id || !i->chain_id || !exec)
		return err_oom(e);
	int r = oci_config_exec(exec, i, e);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(i);
	return 0;
}

/* The first row of a query for COLUMNS, name; -ENOENT without *e when there is none. */
static int first_image(struct oci_store *s, sqlite3_stmt *st, struct oci_image **ret, struct err *e)
{
	int r = state_step(s->st, st, e);

	if (r <= 0)
		return r < 0 ? r : -ENOENT;
	return image_from_row(st, ret, e);
}

/* ---- finding ---- */

static int find_by_name(struct oci_store *s, const char *ref, struct oci_image **ret, struct err *e)
{
	CLEANUP(oci_reference_done) struct oci_reference r = {0};
	CLEANUP(stmt_done) sqlite3_stmt *st = NULL;
	int rc = oci_reference_parse(ref, &r, e);

	if (rc < 0)
		return rc;
	CLEANUP_FREE char *name = oci_reference_name(&r);
	CLEANUP_FREE char *repo = oci_reference_repo(&r);
	if (!name || !repo)
		return err_oom(e);
	if (r.digest)
		rc = state_prepare(s->st, &st, e,
			"SELECT " COLUMNS
			", n.name FROM image_names n JOIN image_manifests m ON m.digest = n.manifest"
			" WHERE n.repo = ? AND (n.digest = ? OR n.manifest = ?) ORDER BY n.name LIMIT 1",
			"sss", repo, r.digest, r.digest);
	else
		rc = state_prepare(s->st, &st, e,
			"SELECT " COLUMNS
			", n.name FROM image_names n JOIN image_manifests m ON m.digest = n.manifest"
			" WHERE n.name = ?",
			"s", name);
	return rc < 0 ? rc : first_image(s, st, ret, e);
}

/* Whether s can be an ID: hex digits, perhaps after "sha256:". Returns the hex, or NULL. */
static const char *id_hex(const char *s)
{
	bool full = strncmp(s, "sha256:", 7) == 0;
	const char *hex = full ? s + 7 : s;
	size_t n = strlen(hex);

	if (n < ID_PREFIX_MIN || n > OCI_SHA256_HEX_LEN || strspn(hex, "0123456789abcdef") != n)
		return NULL;
	return hex;
}

/*
 * The one config or manifest digest that starts like this. Two manifests of one configuration are one image.
 * GLOB with a prefix uses the index; hex has no pattern characters.
 */
static int resolve_id(struct oci_store *s, const char *hex, char **ret_id, struct err *e)
{
	CLEANUP(stmt_done) sqlite3_stmt *st = NULL;
	CLEANUP_FREE char *glob = str_printf("sha256:%s*", hex);
	char list[CANDIDATES_MAX * 32] = "";
	size_t n = 0, len = 0;

	if (!glob)
		return err_oom(e);
	int r = state_prepare(s->st, &st, e,
		"SELECT DISTINCT config FROM image_manifests WHERE config GLOB ?1 OR digest GLOB ?1 ORDER BY "
		"config",
		"s", glob);
	if (r < 0)
		return r;
	CLEANUP_FREE char *id = NULL;
	while ((r = state_step(s->st, st, e)) > 0) {
		const char *c = (const char *)sqlite3_column_text(st, 0);
		if (!c)
			return err_oom(e);
		if (n++ == 0)
			id = strdup(c);
		if (n <= CANDIDATES_MAX && strlen(c) > 19)
			len += (size_t)snprintf(
				list + len, sizeof(list) - len, "%s%.12s", len ? ", " : "", c + 7);
	}
	if (r < 0)
		return r;
	if (n == 0)
		return -ENOENT;
	if (n > 1)
		return err_set(e, -EEXIST, "image ID %s is ambiguous: it could be %s%s", hex, list,
			n > CANDIDATES_MAX ? ", …" : "");
	*ret_id = TAKE_PTR(id);
	return *ret_id ? 0 : err_oom(e);
}

static int find_by_id(struct oci_store *s, const char *hex, struct oci_image **ret, struct err *e)
{
	CLEANUP(stmt_done) sqlite3_stmt *st = NULL;
	CLEANUP_FREE char *id = NULL;
	CLEANUP_FREE char *digest = str_printf("sha256:%s", hex);
	int r = digest ? resolve_id(s, hex, &id, e) : err_oom(e);

	if (r < 0)
		return r;
	/* A manifest named exactly comes first: a box's record keeps that. */
	r = state_prepare(s->st, &st, e,
		"SELECT " COLUMNS
		", (SELECT min(name) FROM image_names n WHERE n.manifest = m.digest) AS name"
		" FROM image_manifests m WHERE m.config = ?"
		" ORDER BY m.digest = ? DESC, m.doomed, name IS NULL, m.added_ns DESC LIMIT 1",
		"ss", id, digest);
	return r < 0 ? r : first_image(s, st, ret, e);
}

static int not_found(const char *ref, struct err *e)
{
	return err_set(e, -ENOENT, "no such image: %s", ref);
}

int oci_image_find(struct oci_store *s, const char *ref, struct oci_image **ret, struct err *e)
{
	const char *hex = id_hex(ref);
	int r = -ENOENT;

	/* A name that looks like an ID ("cafe") is still a name, if there is one. */
	if (!hex || (strncmp(ref, "sha256:", 7) != 0 && strlen(hex) < OCI_SHA256_HEX_LEN))
		r = find_by_name(s, ref, ret, e);
	if (r == -ENOENT && hex)
		r = find_by_id(s, hex, ret, e);
	return r == -ENOENT ? not_found(ref, e) : r;
}

int oci_image_list(struct oci_store *s, struct oci_image ***ret, size_t *ret_n, struct err *e)
{
	CLEANUP(stmt_done) sqlite3_stmt *st = NULL;
	struct oci_image **list = NULL;
	size_t n = 0, cap = 0;

	int r = state_prepare(s->st, &st, e,
		"SELECT " COLUMNS
		", n.name FROM image_manifests m LEFT JOIN image_names n ON n.manifest = m.digest"
		/* Manifests of one configuration are one image: without a name, one of them speaks for it. */
		" WHERE NOT m.doomed AND (n.name IS NOT NULL OR m.digest ="
		"  (SELECT x.digest FROM image_manifests x LEFT JOIN image_names y ON y.manifest = x.digest"
		"   WHERE x.config = m.config AND NOT x.doomed ORDER BY y.name IS NULL, x.digest LIMIT 1))"
		" ORDER BY m.created_ns DESC, m.config, n.name",
		"");
	if (r < 0)
		return r;
	while ((r = state_step(s->st, st, e)) > 0) {
		if (n == cap) {
			cap = cap ? cap * 2 : 16;
			struct oci_image **v = realloc(list, cap * sizeof(struct oci_image *));
			if (!v) {
				r = err_oom(e);
				break;
			}
			list = v;
		}
		r = image_from_row(st, &list[n], e);
		if (r < 0)
			break;
		n++;
	}
	if (r < 0) {
		oci_image_list_free(list, n);
		return r;
	}
	*ret = list;
	*ret_n = n;
	return 0;
}

/* ---- removing ---- */

struct removal {
	struct oci_store *s;
	void (*on_removed)(void *data, const char *key, const char *value);
	void *data;
	struct strv untagged, deleted; /* told after the commit */
};

static int count(struct oci_store *s, const char *sql, const char *arg, int64_t *ret, struct err *e)
{
	CLEANUP(stmt_done) sqlite3_stmt *st = NULL;
	int r = state_prepare(s->st, &st, e, sql, "s", arg);

	if (r == 0)
		r = state_step(s->st, st, e);
	if (r < 0)
		return r;
	*ret = r > 0 ? sqlite3_column_int64(st, 0) : 0;
	return 0;
}

static int column_list(struct oci_store *s, const char *sql, const char *arg, struct strv *ret, struct err *e)
{
	CLEANUP(stmt_done) sqlite3_stmt *st = NULL;
	int r = state_prepare(s->st, &st, e, sql, "s", arg);

	if (r < 0)
		return r;
	while ((r = state_step(s->st, st, e)) > 0)
		if (strv_push(ret, (const char *)sqlite3_column_text(st, 0)) < 0)
			return err_oom(e);
	return r;
}

/* The image has no name left: gone, or hidden while a holder needs it. */
static int drop_manifest(struct removal *rm, const char *manifest, struct err *e)
{
	int64_t holders;
	int r = count(rm->s, "SELECT count(*) FROM image_refs WHERE manifest = ?", manifest, &holders, e);

	if (r < 0)
		return r;
	if (holders > 0)
		return state_exec(rm->s->st, e, "UPDATE image_manifests SET doomed = 1 WHERE digest = ?", "s",
			manifest);
	r = state_exec(rm->s->st, e, "DELETE FROM image_blobs WHERE manifest = ?", "s", manifest);
	if (r == 0)
		r = state_exec(rm->s->st, e, "DELETE FROM image_manifests WHERE digest = ?", "s", manifest);
	return r;
}

static int tell_if_gone(struct removal *rm, const char *id, struct err *e)
{
	int64_t left;
	int r = count(rm->s, "SELECT count(*) FROM image_manifests WHERE config = ?", id, &left, e);

	if (r == 0 && left == 0 && strv_push(&rm->deleted, id) < 0)
		r = err_oom(e);
	return r;
}

static int refuse_if_held(struct removal *rm, const struct oci_image *i, const char *ref, struct err *e)
{
	CLEANUP(stmt_done) sqlite3_stmt *st = NULL;
	int r = state_prepare(rm->s->st, &st, e,
		"SELECT holder FROM image_refs WHERE manifest IN (SELECT digest FROM image_manifests WHERE "
		"config = ?)"
		" LIMIT 1",
		"s", i->id);

	if (r == 0)
		r = state_step(rm->s->st, st, e);
	if (r <= 0)
		return r;
	err_set(e, -EBUSY, "cannot remove image %s: box %.12s uses it", ref, sqlite3_column_text(st, 0));
	return err_hint(e, "remove the box first, or use force");
}

static int remove_by_id(
	struct removal *rm, const struct oci_image *i, const char *ref, bool force, struct err *e)
{
	CLEANUP(strv_done) struct strv manifests = {0};
	int r = force ? 0 : refuse_if_held(rm, i, ref, e);

	if (r == 0)
		r = column_list(rm->s,
			"SELECT name FROM image_names WHERE manifest IN"
			" (SELECT digest FROM image_manifests WHERE config = ?) ORDER BY name",
			i->id, &rm->untagged, e);
	if (r == 0)
		r = column_list(
			rm->s, "SELECT digest FROM image_manifests WHERE config = ?", i->id, &manifests, e);
	if (r < 0)
		return r;
	if (rm->untagged.n > 1 && !force) {
		err_set(e, -EBUSY, "cannot remove image %s: it has %zu names", ref, rm->untagged.n);
		return err_hint(e, "remove it by name, or use force to remove them all");
	}
	for (size_t k = 0; r == 0 && k < manifests.n; k++) {
		r = state_exec(
			rm->s->st, e, "DELETE FROM image_names WHERE manifest = ?", "s", manifests.v[k]);
		if (r == 0)
			r = drop_manifest(rm, manifests.v[k], e);
	}
	return r < 0 ? r : tell_if_gone(rm, i->id, e);
}

static int remove_by_name(
	struct removal *rm, const struct oci_image *i, const char *ref, bool force, struct err *e)
{
	int64_t names;
	int r = count(rm->s,
		"SELECT count(*) FROM image_names WHERE manifest IN (SELECT digest FROM image_manifests "
		"WHERE config = ?)",
		i->id, &names, e);

	if (r < 0)
		return r;
	if (names <= 1)
		return remove_by_id(rm, i, ref, force, e);
	r = state_exec(rm->s->st, e, "DELETE FROM image_names WHERE name = ?", "s", i->name);
	return r == 0 && strv_push(&rm->untagged, i->name) < 0 ? err_oom(e) : r;
}

/* Events, in the transaction that makes them true. */
static int note_removed(struct removal *rm, const char *id, struct err *e)
{
	int r = 0;

	for (size_t k = 0; r == 0 && k < rm->untagged.n; k++) {
		CLEANUP_FREE char *name = oci_ref_familiar(rm->untagged.v[k]);
		r = name ? event_add(rm->s->st, e, "image", "untag", id, "name", name, NULL) : err_oom(e);
	}
	for (size_t k = 0; r == 0 && k < rm->deleted.n; k++)
		r = event_add(
			rm->s->st, e, "image", "delete", rm->deleted.v[k], "name", rm->deleted.v[k], NULL);
	return r;
}

static int remove_in_tx(struct removal *rm, const char *ref, bool force, struct err *e)
{
	CLEANUP(oci_image_freep) struct oci_image *i = NULL;
	const char *hex = id_hex(ref);
	int r = -ENOENT;

	if (!hex || (strncmp(ref, "sha256:", 7) != 0 && strlen(hex) < OCI_SHA256_HEX_LEN))
		r = find_by_name(rm->s, ref, &i, e);
	if (r == 0)
		r = remove_by_name(rm, i, ref, force, e);
	else if (r == -ENOENT && hex && (r = find_by_id(rm->s, hex, &i, e)) == 0)
		r = remove_by_id(rm, i, ref, force, e);
	if (r == -ENOENT && !i)
		return not_found(ref, e);
	return r < 0 ? r : note_removed(rm, i->id, e);
}

static void tell(struct removal *rm)
{
	for (size_t k = 0; k < rm->untagged.n; k++) {
		CLEANUP_FREE char *name = oci_ref_familiar(rm->untagged.v[k]);
		rm->on_removed(rm->data, "Untagged", name ? name : rm->untagged.v[k]);
	}
	for (size_t k = 0; k < rm->deleted.n; k++)
		rm->on_removed(rm->data, "Deleted", rm->deleted.v[k]);
}

int oci_image_remove(struct oci_store *s, const char *ref, bool force,
	void (*on_removed)(void *data, const char *key, const char *value), void *data, struct err *e)
{
	struct removal rm = {.s = s, .on_removed = on_removed, .data = data};
	int r = state_begin(s->st, e);

	if (r < 0)
		return r;
	r = state_end(s->st, remove_in_tx(&rm, ref, force, e), e);
	if (r == 0) {
		if (on_removed)
			tell(&rm);
		if (rm.deleted.n)
			r = oci_store_gc(s, e);
	}
	strv_done(&rm.untagged);
	strv_done(&rm.deleted);
	return r;
}
