/* SPDX-License-Identifier: MIT */
/* The store's check: what files hold, and what is done about it. */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "check.h"
#include "disk.h"
#include "progress.h"

/* ---- blobs ---- */

static void report(struct check *c, const char *item)
{
	oci_tell(c->progress, item, "Checking", MIN_OF(c->done, c->total), c->total);
}

int check_blob(struct check *c, const char *digest, struct err *e)
{
	CLEANUP(oci_hash_freep) struct oci_hash *h = NULL;
	char got[OCI_DIGEST_MAX];
	struct stat st;
	ssize_t n;

	if (!oci_digest_valid(digest))
		return 0;
	CLEANUP_CLOSE int fd = oci_store_blob_open(c->s, digest, e);
	if (fd == -ELOOP) /* a link is no content of ours */
		return 0;
	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return 0;
	int r = oci_hash_new(digest, &h, e);
	if (r < 0)
		return r;
	while ((n = io_read_full(fd, c->buf, OCI_STREAM_BLOCK)) > 0) {
		oci_hash_update(h, c->buf, (size_t)n);
		c->done += (uint64_t)n;
		report(c, digest);
	}
	if (n < 0)
		return n == -EIO ? -EIO : err_sys(e, (int)n, "image store: cannot read %.19s", digest);
	oci_hash_final(h, got);
	return strcmp(got, digest) == 0;
}

static bool has(const struct strv *list, const char *text)
{
	for (size_t i = 0; i < list->n; i++)
		if (strcmp(list->v[i], text) == 0)
			return true;
	return false;
}

static int remember(struct strv *list, const char *text, struct err *e)
{
	return list->n < CHECK_BAD_MAX && strv_push(list, text) < 0 ? err_oom(e) : 0;
}

/* The first text behind last that a query for it gives: 1, 0 at the end. */
static int next_text(struct check *c, const char *sql, char last[OCI_DIGEST_MAX], struct err *e)
{
	CLEANUP(strv_done) struct strv found = {0};
	int r = oci_query_texts(c->s, &found, e, sql, last, NULL, NULL);

	if (r < 0 || found.n == 0)
		return r;
	oci_digest_copy(last, found.v[0]);
	return 1;
}

static int check_blobs(struct check *c, struct err *e)
{
	static const char next[] = "SELECT d FROM (SELECT min(digest) AS d FROM image_blobs WHERE digest > ?1"
				   " UNION ALL SELECT min(digest) FROM image_index_blobs WHERE digest > ?1)"
				   " WHERE d IS NOT NULL ORDER BY d LIMIT 1";
	char digest[OCI_DIGEST_MAX] = "";
	int r;

	while ((r = next_text(c, next, digest, e)) > 0) {
		r = check_blob(c, digest, e);
		if (r < 0 && r != -ENOENT && r != -EIO)
			return r;
		if (r == 1)
			continue;
		CLEANUP_FREE char *user = check_user_of(c, digest);
		check_fault(c, digest, true, "%s; %s needs it",
			r == 0	       ? "is damaged"
			: r == -ENOENT ? "is missing"
				       : "cannot be read from the disk",
			user ? user : "an image");
		r = remember(&c->bad_blobs, digest, e);
		if (r < 0)
			return r;
	}
	return r;
}

/* ---- documents against rows ---- */

struct documents {
	struct oci_manifest m;
	struct oci_config c;
};

static void documents_done(struct documents *d)
{
	oci_manifest_done(&d->m);
	oci_config_done(&d->c);
}

static int read_documents(
	struct check *c, const char *manifest, const char *config, struct documents *d, struct err *e)
{
	CLEANUP_FREE char *m = NULL, *cfg = NULL;
	size_t m_len = 0, cfg_len = 0;
	int r = oci_store_document(c->s, manifest, &m, &m_len, e);

	if (r == 0)
		r = oci_manifest_parse(m, m_len, &d->m, e);
	if (r == 0)
		r = oci_store_document(c->s, config, &cfg, &cfg_len, e);
	return r == 0 ? oci_config_parse(cfg, cfg_len, &d->c, e) : r;
}

/* "digest diff" of each row, in order. */
static bool rows_agree(const struct strv *rows, const char *manifest, const struct documents *d)
{
	if (rows->n != d->m.n_layers + 2 || d->c.n_diff_ids != d->m.n_layers ||
		strcmp(rows->v[0], manifest) != 0 || strcmp(rows->v[1], d->m.config.digest) != 0)
		return false;
	for (size_t i = 0; i < d->m.n_layers; i++) {
		char text[2 * OCI_DIGEST_MAX];
		snprintf(text, sizeof(text), "%s %s", d->m.layers[i].digest, d->c.diff_ids[i]);
		if (strcmp(rows->v[i + 2], text) != 0)
			return false;
	}
	return true;
}

/* What the image is called and which disk it has can only be wrong if somebody wrote it so: then it stays as it is. */
static bool identity_agrees(const struct documents *d, const char *config, const char *chain)
{
	char is[OCI_DIGEST_MAX];

	return strcmp(d->m.config.digest, config) == 0 && d->c.n_diff_ids == d->m.n_layers &&
	       oci_chain_id(d->c.diff_ids, d->c.n_diff_ids, is, NULL) == 0 && strcmp(is, chain) == 0;
}

static int check_manifest(
	struct check *c, const char *manifest, const char *config, const char *chain, struct err *e)
{
	CLEANUP(documents_done) struct documents d = {0};
	CLEANUP(strv_done) struct strv rows = {0};
	struct err why = {0};

	if (has(&c->bad_blobs, manifest) || has(&c->bad_blobs, config))
		return 0;
	int r = read_documents(c, manifest, config, &d, &why);
	if (r == -ENOMEM)
		return err_oom(e);
	if (r < 0) {
		check_fault(c, manifest, true, "cannot be read: %.300s", why.msg);
		return 0;
	}
	r = oci_query_texts(c->s, &rows, e,
		"SELECT digest || coalesce(' ' || diff, '') FROM image_blobs WHERE manifest = ?1 ORDER BY "
		"pos",
		manifest, NULL, NULL);
	if (r < 0)
		return r;
	bool same = identity_agrees(&d, config, chain);
	if (same && rows_agree(&rows, manifest, &d))
		return 0;
	/* It may have been removed since its row was read. */
	int64_t there = 0;
	r = oci_query_number(c->s, &there, e, "SELECT count(*) FROM image_manifests WHERE digest = ?1",
		manifest, NULL, NULL);
	if (r < 0 || !there)
		return r;
	bool mend = same && c->repair;
	check_fault(c, manifest, !mend, "the database says otherwise about its content");
	if (!mend)
		return 0;
	r = state_begin(c->s->st, e);
	return r < 0 ? r : state_end(c->s->st, oci_store_enter_blobs(c->s, manifest, &d.m, &d.c, e), e);
}

static int check_manifests(struct check *c, struct err *e)
{
	char manifest[OCI_DIGEST_MAX] = "";
	int r;

	while ((r = next_text(c,
			"SELECT min(digest) FROM image_manifests WHERE digest > ?1 HAVING min(digest) IS NOT "
			"NULL",
			manifest, e)) > 0) {
		CLEANUP(strv_done) struct strv config = {0}, chain = {0};
		r = oci_query_texts(c->s, &config, e, "SELECT config FROM image_manifests WHERE digest = ?1",
			manifest, NULL, NULL);
		if (r == 0)
			r = oci_query_texts(c->s, &chain, e,
				"SELECT chain FROM image_manifests WHERE digest = ?1", manifest, NULL, NULL);
		if (r == 0 && config.n && chain.n)
			r = check_manifest(c, manifest, config.v[0], chain.v[0], e);
		if (r < 0)
			return r;
	}
	return r;
}

/* ---- indexes that are said to be complete ---- */

static int get_stored(void *data, const struct oci_desc *d, char **ret, size_t *ret_n, struct err *e)
{
	struct check *c = data;
	return oci_store_document(c->s, d->digest, ret, ret_n, e);
}

/* Content that is damaged is told elsewhere: here it is about what no row speaks of. */
static int check_index(struct check *c, const char *digest, struct err *e)
{
	CLEANUP(oci_contents_done) struct oci_contents all = {0};
	CLEANUP_FREE char *text = NULL;
	struct oci_getter get = {get_stored, c};
	struct err why = {0};
	int64_t here = 1;
	size_t n;

	int r = oci_store_document(c->s, digest, &text, &n, &why);
	if (r == 0)
		r = oci_contents_of(text, n, NULL, &get, &all, &why);
	if (r == -ENOMEM)
		return err_oom(e);
	if (r < 0 && c->bad_blobs.n)
		return 0;
	for (size_t i = 0; r == 0 && here && i < all.n; i++)
		if (!all.v[i].foreign)
			r = oci_query_number(c->s, &here, &why,
				"SELECT EXISTS(SELECT 1 FROM image_index_blobs WHERE digest = ?1)"
				" OR EXISTS(SELECT 1 FROM image_blobs WHERE digest = ?1)",
				all.v[i].digest, NULL, NULL);
	if (r == 0 && here)
		return 0;
	CLEANUP_FREE char *user = check_user_of(c, digest);
	check_fault(c, digest, !c->repair, "the index of %s is not complete, although it is said to be",
		user ? user : "an image");
	return c->repair ? state_exec(c->s->st, e, "UPDATE image_indexes SET complete = 0 WHERE digest = ?",
				   "s", digest)
			 : 0;
}

static int check_indexes(struct check *c, struct err *e)
{
	char digest[OCI_DIGEST_MAX] = "";
	int r;

	while ((r = next_text(c,
			"SELECT min(i.digest) FROM image_indexes i JOIN image_names n ON n.digest = i.digest"
			" WHERE i.complete AND i.digest > ?1 HAVING min(i.digest) IS NOT NULL",
			digest, e)) > 0) {
		r = has(&c->bad_blobs, digest) ? 0 : check_index(c, digest, e);
		if (r < 0)
			return r;
	}
	return r;
}

/* ---- disks ---- */

/* A manifest of which the disk can be made: all of its content is good; NULL without. */
static int find_maker(struct check *c, const char *chain, char **ret, struct err *e)
{
	CLEANUP(strv_done) struct strv manifests = {0};
	int r = oci_query_texts(c->s, &manifests, e, "SELECT digest FROM image_manifests WHERE chain = ?1",
		chain, NULL, NULL);

	*ret = NULL;
	for (size_t i = 0; r == 0 && !*ret && i < manifests.n; i++) {
		CLEANUP(strv_done) struct strv blobs = {0};
		bool good = true;
		r = oci_query_texts(c->s, &blobs, e, "SELECT digest FROM image_blobs WHERE manifest = ?1",
			manifests.v[i], NULL, NULL);
		for (size_t k = 0; good && k < blobs.n; k++)
			good = !has(&c->bad_blobs, blobs.v[k]);
		if (r == 0 && good && blobs.n && !(*ret = strdup(manifests.v[i])))
			return err_oom(e);
	}
	return r;
}

/* Whether the check can go on without this. */
static bool ends_check(int r)
{
	return r == -ENOMEM || r == -ENOSPC || r == -EDQUOT || r == -EMFILE || r == -ENFILE;
}

/* 1, 0 (then also when the image has gone meanwhile and it means nothing), or -errno. */
static int still_there(struct check *c, const char *manifest, const char *chain, struct err *e)
{
	int64_t there = 0;
	int r = oci_query_number(c->s, &there, e,
		"SELECT EXISTS(SELECT 1 FROM image_disks WHERE chain = ?1)"
		" AND EXISTS(SELECT 1 FROM image_blobs WHERE manifest = ?2)",
		chain, manifest, NULL);

	return r < 0 ? r : there != 0;
}

/* A disk whose image has lost content cannot be compared with anything: it is all that is left of it. */
static int check_disk(struct check *c, const char *chain, struct err *e)
{
	CLEANUP_FREE char *manifest = NULL;
	struct err why = {0};
	int64_t missing = 0;
	int r = oci_query_number(c->s, &missing, e,
		"SELECT EXISTS(SELECT 1 FROM image_disks_unsynced WHERE chain = ?1 AND (boot <> ?2 OR boot = "
		"''))",
		chain, oci_boot(), NULL);

	if (r == 0 && !missing)
		r = find_maker(c, chain, &manifest, e);
	if (r < 0 || !manifest)
		return r;
	c->done += oci_disk_bytes(c->s, chain);
	r = oci_disk_verify(c->s, manifest, chain, &why);
	report(c, chain);
	if (r == 1)
		return 0;
	if (ends_check(r)) {
		if (e)
			*e = why;
		return r;
	}
	int there = still_there(c, manifest, chain, e);
	if (there <= 0)
		return there;
	CLEANUP_FREE char *user = check_user_of(c, chain);
	if (r < 0)
		check_fault(c, chain, true, "the disk of %s cannot be compared with its layers: %.300s",
			user ? user : "an image", why.msg);
	else
		check_fault(c, chain, true, "the disk of %s is damaged", user ? user : "an image");
	return r < 0 ? 0 : remember(&c->bad_disks, chain, e);
}

static int check_disks(struct check *c, struct err *e)
{
	char chain[OCI_DIGEST_MAX] = "";
	int r;

	while ((r = next_text(c,
			"SELECT min(chain) FROM image_disks WHERE chain > ?1 HAVING min(chain) IS NOT NULL",
			chain, e)) > 0) {
		r = check_disk(c, chain, e);
		if (r < 0)
			return r;
	}
	return r;
}

int check_content(struct check *c, struct err *e)
{
	int r = oci_store_bytes(c->s, &c->total, e);

	if (r == 0)
		r = check_blobs(c, e);
	if (r == 0)
		r = check_manifests(c, e);
	if (r == 0)
		r = check_indexes(c, e);
	return r == 0 ? check_disks(c, e) : r;
}

/* ---- repairing ---- */

/* What an index named and is gone, it keeps no longer; without the index itself nothing beyond the image is kept. */
static int forget_in_indexes(struct check *c, const char *digest, struct err *e)
{
	static const char incomplete[] = "UPDATE image_indexes SET complete = 0 WHERE digest IN"
					 " (SELECT idx FROM image_index_blobs WHERE digest = ?1)";
	static const char *const statements[] = {
		incomplete,
		"DELETE FROM image_index_blobs WHERE idx = ?1 OR digest = ?1",
		"DELETE FROM image_indexes WHERE digest = ?1",
	};
	int r = state_begin(c->s->st, e);

	if (r < 0)
		return r;
	for (size_t i = 0; r == 0 && i < ARRAY_LEN(statements); i++)
		r = state_exec(c->s->st, e, statements[i], "s", digest);
	if (r == 0)
		r = oci_store_sweep_due(c->s, e);
	return state_end(c->s->st, r, e);
}

/* Of the images of which a blob is a part, those that no registry is known to have. */
#define ONLY_HERE \
	"SELECT 1 FROM image_blobs b WHERE b.digest = ?1" \
	" AND NOT EXISTS (SELECT 1 FROM image_remotes r WHERE r.manifest = b.manifest)"

/* Out of the way of the next load, which takes what is in its place for good. */
static int put_aside(struct check *c, const char *digest, struct err *e)
{
	CLEANUP_CLOSE int fd = io_open_dir_at(c->s->images_fd, OCI_DAMAGED, true);
	const char *hex = oci_digest_hex(digest);

	if (fd < 0)
		return err_sys(e, fd, "image store: cannot open %s", OCI_DAMAGED);
	if (renameat(oci_store_blob_dir(c->s, digest), hex, fd, hex) < 0)
		return err_sys(e, -errno, "image store: cannot put %.19s aside", digest);
	return 0;
}

static int repair_blob(struct check *c, const char *digest, struct err *e)
{
	int64_t needed = 0, only_here = 0;
	int r = check_blob(c, digest, e);

	if (r == 1) { /* somebody brought it again */
		c->left--;
		return 0;
	}
	if (r == -EIO)
		return 0;
	if (r < 0 && r != -ENOENT)
		return r;
	if (r == 0) {
		r = oci_query_number(c->s, &only_here, e, "SELECT EXISTS(" ONLY_HERE ")", digest, NULL, NULL);
		if (r == 0 && only_here)
			r = put_aside(c, digest, e);
		if (r < 0)
			return r;
	}
	if (oci_digest_valid(digest) && !only_here)
		(void)unlinkat(oci_store_blob_dir(c->s, digest), oci_digest_hex(digest), 0);
	r = forget_in_indexes(c, digest, e);
	if (r == 0)
		r = oci_query_number(c->s, &needed, e,
			"SELECT EXISTS(SELECT 1 FROM image_blobs WHERE digest = ?1)", digest, NULL, NULL);
	/* An image that lost content stays a fault, until it is pulled or loaded again or removed. */
	if (r == 0 && !needed)
		c->left--;
	return r;
}

/* The collection deletes what has no row now; what somebody took up meanwhile has one and is no stray any more. */
static int repair_strays(struct check *c, struct err *e)
{
	struct stat st;
	int r = oci_store_collect(c->s, e);

	for (size_t i = 0; r == 0 && i < c->stray.n; i++) {
		const char *path = c->stray.v[i];
		if (fstatat(c->s->images_fd, path, &st, AT_SYMLINK_NOFOLLOW) < 0 || check_has_row(c, path) ||
			unlinkat(c->s->images_fd, path, 0) == 0)
			c->left--;
	}
	return r;
}

/* Only if it is bad now: it may be another one than was looked at. */
static int drop_disk(struct check *c, const char *chain, struct err *e)
{
	CLEANUP_FREE char *manifest = NULL;
	char name[OCI_DIGEST_MAX + 8];
	struct err why = {0};
	int r = find_maker(c, chain, &manifest, e);

	if (r < 0 || !manifest)
		return r;
	r = oci_disk_verify(c->s, manifest, chain, &why);
	if (ends_check(r)) {
		if (e)
			*e = why;
		return r;
	}
	if (r == 1)
		c->left--;
	if (r != 0)
		return 0;
	r = state_exec(c->s->st, e, "DELETE FROM image_disks WHERE chain = ?", "s", chain);

	if (r < 0)
		return r;
	snprintf(name, sizeof(name), "%s.img", oci_digest_hex(chain));
	(void)unlinkat(c->s->disks_fd, name, 0);
	c->left--;
	return 0;
}

/* A box that runs goes on with the disk that it has open; for its next start there is a good one. */
static int remake_held(struct check *c, const char *chain, struct err *e)
{
	CLEANUP_FREE char *manifest = NULL;
	int64_t held = 0;
	int r = oci_query_number(c->s, &held, e,
		"SELECT EXISTS(SELECT 1 FROM image_manifests WHERE chain = ?1"
		" AND digest IN (SELECT manifest FROM image_refs))",
		chain, NULL, NULL);

	if (r == 0 && held)
		r = find_maker(c, chain, &manifest, e);
	if (r < 0 || !manifest)
		return r;
	r = oci_store_room(c->s, oci_disk_bytes(c->s, chain), e);
	if (r == 0)
		r = oci_disk_remake(c->s, manifest, chain, c->progress, e);
	return r == -ENOENT ? 0 : r;
}

int check_remake(struct check *c, struct err *e)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < c->bad_disks.n; i++)
		r = remake_held(c, c->bad_disks.v[i], e);
	return r;
}

int check_repair(struct check *c, struct err *e)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < c->bad_disks.n; i++)
		r = drop_disk(c, c->bad_disks.v[i], e);
	for (size_t i = 0; r == 0 && i < c->bad_blobs.n; i++)
		r = repair_blob(c, c->bad_blobs.v[i], e);
	return r == 0 ? repair_strays(c, e) : r;
}
