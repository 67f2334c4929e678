/* SPDX-License-Identifier: MIT */
/* Finding, listing and naming images: all of it questions to the database. */
#include <string.h>

#include "base/io.h"
#include "image.h"
#include "reference.h"
#include "state/event.h"

#define ID_PREFIX_MIN  4
#define CANDIDATES_MAX 8 /* named in the error for an ambiguous prefix */

/* Of images from before uses were noted, the time they came stands for the last use. */
#define COLUMNS \
	"m.digest, m.config, m.chain, m.size, m.created_ns, m.os, m.arch, m.variant, m.exec," \
	" coalesce((SELECT u.used_ns FROM image_use u WHERE u.manifest = m.digest), m.added_ns), n.name, " \
	"n.digest"
#define NAMED " FROM image_names n JOIN image_manifests m ON m.digest = n.manifest"
/* An image with the first of its names, which is one with a tag where there is one. */
#define FIRST_NAME \
	" FROM image_manifests m LEFT JOIN image_names n" \
	" ON n.name = (SELECT min(x.name) FROM image_names x WHERE x.manifest = m.digest)"

void oci_image_free(struct oci_image *i)
{
	if (!i)
		return;
	free(i->name);
	free(i->asked);
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
	free(i->digest);
	free(i);
}

void oci_image_list_free(struct oci_image **list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		oci_image_free(list[i]);
	free(list);
}

/* From a row of COLUMNS; name and its digest may be NULL. */
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
	i->used_ns = sqlite3_column_int64(st, 9);
	i->name = state_column_dup(st, 10);
	i->digest = state_column_dup(st, 11);
	if (!i->manifest || !i->id || !i->chain_id || !exec)
		return err_oom(e);
	int r = oci_config_exec(exec, i, e);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(i);
	return 0;
}

/* ---- questions ---- */

static int prepare_texts(struct oci_store *s, sqlite3_stmt **ret, struct err *e, const char *sql,
	const char *a, const char *b, const char *c)
{
	const char *const args[] = {a, b, c};
	int r = state_prepare(s->st, ret, e, sql, "");

	for (int i = 0; r == 0 && i < sqlite3_bind_parameter_count(*ret); i++)
		if (i >= (int)ARRAY_LEN(args) ||
			sqlite3_bind_text(*ret, i + 1, args[i], -1, SQLITE_TRANSIENT) != SQLITE_OK)
			r = err_set(e, -EIO, "state database: cannot bind an argument");
	return r;
}

int oci_query_number(struct oci_store *s, int64_t *ret, struct err *e, const char *sql, const char *a,
	const char *b, const char *c)
{
	CLEANUP(stmt_done) sqlite3_stmt *st = NULL;
	int r = prepare_texts(s, &st, e, sql, a, b, c);

	if (r == 0)
		r = state_step(s->st, st, e);
	if (r < 0)
		return r;
	*ret = r > 0 ? sqlite3_column_int64(st, 0) : 0;
	return 0;
}

int oci_query_texts(struct oci_store *s, struct strv *ret, struct err *e, const char *sql, const char *a,
	const char *b, const char *c)
{
	CLEANUP(stmt_done) sqlite3_stmt *st = NULL;
	int r = prepare_texts(s, &st, e, sql, a, b, c);

	if (r < 0)
		return r;
	while ((r = state_step(s->st, st, e)) > 0) {
		char *text = state_column_dup(st, 0);
		if (!text || strv_take(ret, text) < 0)
			return err_oom(e);
	}
	return r;
}

/* The first row of a query for COLUMNS; -ENOENT without *e when there is none. */
static int first_image(struct oci_store *s, sqlite3_stmt *st, struct oci_image **ret, struct err *e)
{
	int r = state_step(s->st, st, e);

	if (r <= 0)
		return r < 0 ? r : -ENOENT;
	return image_from_row(st, ret, e);
}

/* ---- finding ---- */

/* A digest that a registry served for this repository is a name too, after all tags have gone. */
static int find_by_remote(
	struct oci_store *s, const char *repo, const char *digest, struct oci_image **ret, struct err *e)
{
	CLEANUP(stmt_done) sqlite3_stmt *st = NULL;
	int r = state_prepare(s->st, &st, e,
		"SELECT " COLUMNS FIRST_NAME
		" WHERE m.digest IN (SELECT manifest FROM image_remotes WHERE repo = ?1"
		"  AND (digest = ?2 OR manifest = ?2)) ORDER BY m.doomed, m.added_ns DESC LIMIT 1",
		"ss", repo, digest);

	return r < 0 ? r : first_image(s, st, ret, e);
}

int oci_image_find_name(struct oci_store *s, const char *ref, struct oci_image **ret, struct err *e)
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
			"SELECT " COLUMNS NAMED
			" WHERE n.repo = ?1 AND (n.digest = ?2 OR n.manifest = ?2 OR n.name = ?3)"
			" ORDER BY n.name LIMIT 1",
			"sss", repo, r.digest, name);
	else
		rc = state_prepare(s->st, &st, e, "SELECT " COLUMNS NAMED " WHERE n.name = ?", "s", name);
	if (rc == 0)
		rc = first_image(s, st, ret, e);
	if (rc == -ENOENT && r.digest)
		rc = find_by_remote(s, repo, r.digest, ret, e);
	if (rc == 0)
		(*ret)->asked = TAKE_PTR(name);
	return rc;
}

#define ALG_LEN 7 /* of "sha256:" and "sha512:" */

static bool has_alg(const char *s)
{
	return strncmp(s, "sha256:", ALG_LEN) == 0 || strncmp(s, "sha512:", ALG_LEN) == 0;
}

/* Whether s can be an ID: hex digits, perhaps after an algorithm. Returns the hex, or NULL. */
static const char *id_hex(const char *s)
{
	const char *hex = has_alg(s) ? s + ALG_LEN : s;
	size_t n = strlen(hex), max = strncmp(s, "sha512:", ALG_LEN) == 0 ? 128 : OCI_SHA256_HEX_LEN;

	if (n < ID_PREFIX_MIN || n > max || strspn(hex, "0123456789abcdef") != n)
		return NULL;
	return hex;
}

/*
 * The one config or manifest digest that starts like this. Two manifests of one configuration are one image.
 * GLOB with a prefix uses the index; hex has no pattern characters.
 */
static int resolve_id(struct oci_store *s, const char *ref, const char *hex, char **ret_id, struct err *e)
{
	CLEANUP(stmt_done) sqlite3_stmt *st = NULL;
	bool is_sha512 = strncmp(ref, "sha512:", ALG_LEN) == 0;
	CLEANUP_FREE char *glob = str_printf("%s:%s*", is_sha512 ? "sha512" : "sha256", hex);
	CLEANUP_FREE char *other = str_printf(has_alg(ref) ? "%s*" : "sha512:%s*", has_alg(ref) ? ref : hex);
	char list[CANDIDATES_MAX * 32] = "";
	size_t n = 0, len = 0;

	if (!glob || !other)
		return err_oom(e);
	int r = state_prepare(s->st, &st, e,
		"SELECT DISTINCT config FROM image_manifests WHERE config GLOB ?1 OR digest GLOB ?1"
		" OR config GLOB ?2 OR digest GLOB ?2 ORDER BY config",
		"ss", glob, other);
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

int oci_image_find_id(struct oci_store *s, const char *ref, struct oci_image **ret, struct err *e)
{
	CLEANUP(stmt_done) sqlite3_stmt *st = NULL;
	CLEANUP_FREE char *id = NULL;
	const char *hex = id_hex(ref);
	if (!hex)
		return -ENOENT;
	CLEANUP_FREE char *digest = has_alg(ref) ? strdup(ref) : str_printf("sha256:%s", hex);
	int r = digest ? resolve_id(s, ref, hex, &id, e) : err_oom(e);

	if (r < 0)
		return r;
	/* A manifest named exactly comes first: a box's record keeps that. */
	r = state_prepare(s->st, &st, e,
		"SELECT " COLUMNS FIRST_NAME " WHERE m.config = ? ORDER BY m.digest = ? DESC, m.doomed, "
		"n.name IS NULL, m.added_ns DESC LIMIT 1",
		"ss", id, digest);
	return r < 0 ? r : first_image(s, st, ret, e);
}

bool oci_image_maybe_name(const char *ref)
{
	const char *hex = id_hex(ref);

	return !hex || (!has_alg(ref) && strlen(hex) < OCI_SHA256_HEX_LEN);
}

int oci_image_find(struct oci_store *s, const char *ref, struct oci_image **ret, struct err *e)
{
	int r = oci_image_maybe_name(ref) ? oci_image_find_name(s, ref, ret, e) : -ENOENT;

	if (r == -ENOENT)
		r = oci_image_find_id(s, ref, ret, e);
	return r == -ENOENT ? oci_image_not_found(ref, e) : r;
}

int oci_image_not_found(const char *ref, struct err *e)
{
	return err_set(e, -ENOENT, "no such image: %s", ref);
}

static int list_images(
	struct oci_store *s, bool doomed, struct oci_image ***ret, size_t *ret_n, struct err *e)
{
	CLEANUP(stmt_done) sqlite3_stmt *st = NULL;
	struct oci_image **list = NULL;
	size_t n = 0, cap = 0;

	int r = state_prepare(s->st, &st, e,
		"SELECT " COLUMNS " FROM image_manifests m LEFT JOIN image_names n ON n.manifest = m.digest"
		/* Manifests of one configuration are one image: without a name, one of them speaks for it. */
		" WHERE m.doomed <= ?1 AND (n.name IS NOT NULL OR m.digest ="
		"  (SELECT x.digest FROM image_manifests x LEFT JOIN image_names y ON y.manifest = x.digest"
		"   WHERE x.config = m.config AND x.doomed <= ?1 ORDER BY y.name IS NULL, x.digest LIMIT 1))"
		" ORDER BY m.created_ns DESC, m.config, n.name",
		"i", (int64_t)doomed);
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

int oci_image_list(struct oci_store *s, struct oci_image ***ret, size_t *ret_n, struct err *e)
{
	return list_images(s, false, ret, ret_n, e);
}

int oci_image_list_all(struct oci_store *s, struct oci_image ***ret, size_t *ret_n, struct err *e)
{
	return list_images(s, true, ret, ret_n, e);
}

/* ---- names ---- */

int oci_image_names(struct oci_store *s, const struct oci_image *i, struct strv *tags, struct strv *digests,
	struct err *e)
{
	int r = 0;

	if (tags)
		r = oci_query_texts(s, tags, e,
			"SELECT n.name" NAMED
			" WHERE m.config = ?1 AND instr(n.name, '@') = 0 ORDER BY n.name",
			i->id, NULL, NULL);
	if (r == 0 && digests)
		r = oci_query_texts(s, digests, e,
			"SELECT r.repo || '@' || r.digest FROM image_remotes r JOIN image_manifests m"
			"  ON m.digest = r.manifest WHERE m.config = ?1"
			" UNION SELECT n.name" NAMED
			" WHERE m.config = ?1 AND instr(n.name, '@') > 0 ORDER BY 1",
			i->id, NULL, NULL);
	return r;
}

/* What the image's own name leads to: the new one leads there too, so that it keeps a whole index as well. */
static int tag_in_tx(struct oci_store *s, const char *ref, const char *name, struct err *e)
{
	CLEANUP(oci_image_freep) struct oci_image *i = NULL;
	CLEANUP_FREE char *familiar = oci_ref_familiar(name);
	int r = familiar ? oci_image_find(s, ref, &i, e) : err_oom(e);

	if (r == 0)
		r = oci_store_enter_name(s, name, i->digest ? i->digest : i->manifest, i->manifest, false, e);
	/* One that was removed while a box held it is wanted again. */
	if (r == 0)
		r = state_exec(s->st, e, "UPDATE image_manifests SET doomed = 0 WHERE digest = ? AND doomed",
			"s", i->manifest);
	return r < 0 ? r : event_add(s->st, e, "image", "tag", i->id, "name", familiar, NULL);
}

int oci_image_tag(struct oci_store *s, const char *ref, const char *name, struct err *e)
{
	CLEANUP(oci_reference_done) struct oci_reference parsed = {0};
	int r = oci_reference_parse(name, &parsed, e);

	if (r < 0)
		return r;
	if (parsed.digest) {
		err_set(e, -EINVAL, "cannot tag an image as %s: a digest is no name that can be given", name);
		return err_hint(e, "leave out what follows the @");
	}
	CLEANUP_FREE char *full = oci_reference_name(&parsed);
	if (!full)
		return err_oom(e);
	r = state_begin(s->st, e);
	return r < 0 ? r : state_end(s->st, tag_in_tx(s, ref, full, e), e);
}
