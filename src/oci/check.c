/* SPDX-License-Identifier: MIT */
#include "check.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

#include "base/io.h"
#include "progress.h"

void check_fault(struct check *c, const char *what, bool left, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	c->faults++;
	c->left += left;
	if (c->on_fault)
		c->on_fault(c->data, what, text);
}

char *check_user_of(struct check *c, const char *digest)
{
	CLEANUP(strv_done) struct strv names = {0};
	int r = oci_query_texts(c->s, &names, NULL,
		"SELECT name FROM image_names WHERE manifest IN (SELECT manifest FROM image_blobs WHERE "
		"digest = ?1"
		"  UNION SELECT digest FROM image_manifests WHERE chain = ?1)"
		" OR digest IN (SELECT idx FROM image_index_blobs WHERE digest = ?1) ORDER BY name LIMIT 1",
		digest, NULL, NULL);

	if (r == 0 && names.n)
		return oci_ref_familiar(names.v[0]);
	r = oci_query_texts(c->s, &names, NULL,
		"SELECT config FROM image_manifests WHERE chain = ?1"
		" OR digest IN (SELECT manifest FROM image_blobs WHERE digest = ?1) LIMIT 1",
		digest, NULL, NULL);
	return r == 0 && names.n ? str_printf("%.19s", names.v[0]) : strdup("an image");
}

/* ---- the database by itself ---- */

/* *ret: complaints, at most some. */
static int ask_sqlite(struct check *c, struct strv *ret, struct err *e)
{
	int r = oci_query_texts(c->s, ret, e, "PRAGMA integrity_check(20)", NULL, NULL, NULL);

	if (r == 0 && ret->n == 1 && strcmp(ret->v[0], "ok") == 0) {
		strv_done(ret);
		*ret = (struct strv){0};
	}
	return r;
}

/* Indexes are made of the tables, and can be made again. */
static int check_sqlite(struct check *c, struct err *e)
{
	CLEANUP(strv_done) struct strv found = {0}, after = {0};
	int r = ask_sqlite(c, &found, e);

	if (r < 0 || found.n == 0)
		return r;
	if (c->repair && state_exec(c->s->st, NULL, "REINDEX", "") == 0)
		r = ask_sqlite(c, &after, e);
	bool whole = c->repair && r == 0 && after.n == 0;
	for (size_t i = 0; i < found.n; i++)
		check_fault(c, "state.db", !whole, "%.400s", found.v[i]);
	return r;
}

/* Rows that lead nowhere. */
static int check_rows(struct check *c, struct err *e)
{
	CLEANUP(strv_done) struct strv names = {0}, holders = {0};
	int r = oci_query_texts(c->s, &names, e,
		"SELECT name FROM image_names WHERE manifest NOT IN (SELECT digest FROM image_manifests)",
		NULL, NULL, NULL);

	if (r == 0)
		r = oci_query_texts(c->s, &holders, e,
			"SELECT DISTINCT substr(replace(holder, '" OCI_HOLDER_SNAPSHOT
			"', ''), 1, 12) FROM image_refs"
			" WHERE manifest NOT IN (SELECT digest FROM image_manifests)",
			NULL, NULL, NULL);
	for (size_t i = 0; r == 0 && i < names.n; i++)
		check_fault(c, names.v[i], !c->repair, "leads to an image that is not here");
	for (size_t i = 0; r == 0 && i < holders.n; i++)
		check_fault(c, holders.v[i], true, "the image of this box or snapshot is not here");
	if (r < 0 || !c->repair || names.n == 0)
		return r;
	return state_exec(c->s->st, e,
		"DELETE FROM image_names WHERE manifest NOT IN (SELECT digest FROM image_manifests)", "");
}

/* ---- rows and files ---- */

static int check_disk_rows(struct check *c, struct err *e)
{
	CLEANUP(strv_done) struct strv chains = {0};
	char name[OCI_DIGEST_MAX + 8];
	int r = oci_query_texts(c->s, &chains, e,
		"SELECT chain FROM image_disks WHERE chain NOT IN (" CHECK_MISSING_DISKS ")", oci_boot(),
		NULL, NULL);

	for (size_t i = 0; r == 0 && i < chains.n; i++) {
		snprintf(name, sizeof(name), "%s.img", oci_digest_hex(chains.v[i]));
		if (oci_digest_valid(chains.v[i]) &&
			faccessat(c->s->disks_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
			continue;
		CLEANUP_FREE char *user = check_user_of(c, chains.v[i]);
		check_fault(
			c, chains.v[i], !c->repair, "the disk of %s is missing", user ? user : "an image");
		if (c->repair)
			r = state_exec(
				c->s->st, e, "DELETE FROM image_disks WHERE chain = ?", "s", chains.v[i]);
	}
	return r;
}

struct folder {
	const char *name, *alg, *suffix;
	const char *query; /* whether a digest has a row */
};

#define BLOB_HAS_ROW \
	"SELECT EXISTS(SELECT 1 FROM image_blobs WHERE digest = ?1)" \
	" OR EXISTS(SELECT 1 FROM image_index_blobs WHERE digest = ?1)"

static const struct folder folders[] = {
	{"blobs/sha256", "sha256", "", BLOB_HAS_ROW},
	{"blobs/sha512", "sha512", "", BLOB_HAS_ROW},
	{"disks", NULL, ".img", "SELECT EXISTS(SELECT 1 FROM image_disks WHERE chain = ?1)"},
};

/* What a file's name stands for; false: nothing that we ever write. */
static bool digest_of_file(const struct folder *f, const char *name, char ret[OCI_DIGEST_MAX])
{
	size_t n = strlen(name), k = strlen(f->suffix);

	if (n <= k || strcmp(name + n - k, f->suffix) != 0)
		return false;
	/* A chain ID says its algorithm by its length. */
	const char *alg = f->alg ? f->alg : n - k == OCI_SHA256_HEX_LEN ? "sha256" : "sha512";
	int len = snprintf(ret, OCI_DIGEST_MAX, "%s:%.*s", alg, (int)(n - k), name);
	return len < OCI_DIGEST_MAX && oci_digest_valid(ret);
}

/* 1, 0, or -errno. */
static int has_row(struct check *c, const struct folder *f, const char *digest, struct err *e)
{
	int64_t rows = 0;
	int r = oci_query_number(c->s, &rows, e, f->query, digest, NULL, NULL);

	return r < 0 ? r : rows != 0;
}

bool check_has_row(struct check *c, const char *path)
{
	char digest[OCI_DIGEST_MAX];

	for (size_t i = 0; i < ARRAY_LEN(folders); i++) {
		size_t n = strlen(folders[i].name);
		if (strncmp(path, folders[i].name, n) == 0 && path[n] == '/')
			return digest_of_file(&folders[i], path + n + 1, digest) &&
			       has_row(c, &folders[i], digest, NULL) != 0;
	}
	return true;
}

static int remember_stray(struct check *c, const struct folder *f, const char *name, struct err *e)
{
	CLEANUP_FREE char *path = str_printf("%s/%s", f->name, name);

	return !path || (c->stray.n < CHECK_BAD_MAX && strv_push(&c->stray, path) < 0) ? err_oom(e) : 0;
}

static int check_file(struct check *c, const struct folder *f, int dirfd, const char *name, struct err *e)
{
	char digest[OCI_DIGEST_MAX];
	struct stat st;

	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : err_sys(e, -errno, "image store: cannot read %s", name);
	if (!S_ISREG(st.st_mode) || !digest_of_file(f, name, digest)) {
		check_fault(c, name, true, "is nothing that belongs into %s", f->name);
		return remember_stray(c, f, name, e);
	}
	int r = has_row(c, f, digest, e);
	if (r != 0)
		return r < 0 ? r : 0;
	int64_t age_ns = time_real_ns() - ((int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec);
	if (age_ns < CHECK_FRESH_NS)
		return 0;
	check_fault(c, digest, true, "nothing needs %s", f->alg ? "it" : "this disk");
	return remember_stray(c, f, name, e);
}

static int check_folder(struct check *c, const struct folder *f, struct err *e)
{
	int fd = openat(c->s->images_fd, f->name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	int r = 0;

	if (!d) {
		r = err_sys(e, -errno, "image store: cannot read %s", f->name);
		close_fd(&fd);
		return r;
	}
	for (struct dirent *de; r == 0 && (de = readdir(d));)
		if (strcmp(de->d_name, ".") != 0 && strcmp(de->d_name, "..") != 0)
			r = check_file(c, f, fd, de->d_name, e);
	closedir(d);
	return r;
}

int check_structure(struct check *c, struct err *e)
{
	int r = check_sqlite(c, e);

	if (r == 0)
		r = check_rows(c, e);
	if (r == 0)
		r = check_disk_rows(c, e);
	for (size_t i = 0; r == 0 && i < ARRAY_LEN(folders); i++)
		r = check_folder(c, &folders[i], e);
	return r;
}

/* ---- all of it ---- */

/* Waits for those who are at work: a while, or to the end when there is something to lose. */
static int lock_all(struct check *c, bool to_the_end, struct err *e)
{
	uint64_t until = to_the_end ? UINT64_MAX : time_mono_ns() + CHECK_PATIENCE_NS;

	for (;;) {
		int r = oci_store_lock(c->s, OCI_LOCK_DELETE, &c->lock, e);
		if (r != -EBUSY)
			return r;
		if (time_mono_ns() >= until)
			break;
		oci_tell(c->progress, NULL, "Waiting for others", 0, 0);
		nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
	}
	err_set(e, -EBUSY, "image store: others are at work on it");
	return err_hint(e, "try again when pulls, loads and the like are over");
}

static int run(struct check *c, struct err *e)
{
	int r = lock_all(c, false, e);

	if (r == 0 && oci_store_gc_due(c->s))
		r = oci_store_collect(c->s, e);
	else if (r == 0)
		oci_store_clean_tmp(c->s);
	if (r == 0)
		r = check_structure(c, e);
	if (r < 0)
		return r;
	/* Somebody may delete in between; what is gone then has no rows either. */
	while (flock(c->lock, LOCK_SH) < 0)
		if (errno != EINTR)
			return err_sys(e, -errno, "image store: cannot lock it");
	r = check_content(c, e);
	bool repair = r == 0 && c->repair && c->left > 0;
	if (repair)
		r = check_remake(c, e);
	oci_store_release(c->s, &c->lock);
	if (!repair || r < 0)
		return r;
	r = lock_all(c, true, e);
	if (r == 0)
		r = check_repair(c, e);
	oci_store_release(c->s, &c->lock);
	return r;
}

int oci_store_check(struct oci_store *s, bool repair, const struct oci_progress *p,
	void (*on_fault)(void *data, const char *what, const char *fault), void *data, size_t *ret_faults,
	size_t *ret_left, struct err *e)
{
	struct check c = {
		.s = s, .repair = repair, .progress = p, .on_fault = on_fault, .data = data, .lock = -1};
	int r = 0;

	c.buf = malloc(OCI_STREAM_BLOCK);
	r = c.buf ? run(&c, e) : err_oom(e);
	close_fd(&c.lock);
	free(c.buf);
	strv_done(&c.bad_blobs);
	strv_done(&c.bad_disks);
	strv_done(&c.stray);
	*ret_faults = c.faults;
	*ret_left = c.left;
	return r;
}
