/* SPDX-License-Identifier: MIT */
/*
 * THEORY OF OPERATION
 *
 * What is pushed is a document of the store and everything that belongs to it (oci_contents_of), each byte as it came:
 * the index, where the name leads to one of which all is here, else the one manifest. Blobs first, several at once,
 * then the documents, each after what it names, the outermost last and under the tag. So whoever stops on the way
 * leaves a registry in which nothing half-done can be seen, and the next push goes on.
 *
 * A blob that the repository has is not sent; one that another repository of the registry should have, because an
 * image of that name has it here, is taken over from there; all else is read once to compare it with its digest (which
 * also brings it into the page cache) and then sent. The registry compares too, but a store that is damaged is to be
 * told apart from a network that is.
 *
 * OCI_LOCK_ADD is held all the while: what was found stays.
 */
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/io.h"
#include "progress.h"
#include "state/event.h"
#include "verify.h"

#define PUSH_THREADS 3	       /* uploads at once, as OCI_FETCH_THREADS */
#define PUT_TRIES    3	       /* of a manifest that a registry refuses */
#define PUT_WAIT_NS  300000000 /* before each but the first */

struct push {
	struct oci_store *s;
	const struct oci_push_opts *o;
	struct oci_serial progress;
	struct oci_image *image;
	struct oci_reference target;
	char *name;			  /* of the target, normalised */
	char *from;			  /* repository path to mount from, or NULL */
	struct sign_private *key;	  /* NULL: not to be signed */
	struct oci_signatures signatures; /* that were made */
	struct oci_registry *reg;
	char root[OCI_DIGEST_MAX];
	char *doc; /* the root */
	size_t doc_len;
	struct oci_contents contents;

	/* of the threads */
	pthread_mutex_t mutex;
	size_t next; /* of contents */
	struct oci_conn *conns[PUSH_THREADS];
	int result; /* the first failure */
	struct err err;
};

static void push_done(struct push *p)
{
	oci_image_free(p->image);
	oci_reference_done(&p->target);
	free(p->name);
	free(p->from);
	if (p->key)
		sign_private_free(p->key);
	oci_signatures_done(&p->signatures);
	oci_registry_closep(&p->reg);
	free(p->doc);
	oci_contents_done(&p->contents);
	pthread_mutex_destroy(&p->mutex);
	oci_serial_done(&p->progress);
}

static void report(struct push *p, const char *item, const char *action, uint64_t done, uint64_t total)
{
	oci_tell(&p->progress.progress, item, action, done, total);
}

/* ---- reading the store ---- */

static int open_blob(struct push *p, const struct oci_desc *d, int *ret, struct err *e)
{
	struct stat st;
	CLEANUP_CLOSE int fd = oci_store_blob_open(p->s, d->digest, e);

	if (fd < 0)
		return fd == -ENOENT ? oci_store_damaged(d->digest, "is missing", e) : fd;
	if (fstat(fd, &st) < 0)
		return err_sys(e, -errno, "image store: cannot look at %.19s", d->digest);
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != d->size)
		return oci_store_damaged(d->digest, "is damaged", e);
	*ret = TAKE_FD(fd);
	return 0;
}

static bool stopped(struct push *p)
{
	pthread_mutex_lock(&p->mutex);
	bool r = p->result < 0;
	pthread_mutex_unlock(&p->mutex);
	return r;
}

static int check_blob(struct push *p, const struct oci_desc *d, int fd, struct err *e)
{
	CLEANUP(oci_hash_freep) struct oci_hash *h = NULL;
	CLEANUP_FREE uint8_t *buf = malloc(OCI_STREAM_BLOCK);
	char digest[OCI_DIGEST_MAX];
	uint64_t off = 0;
	ssize_t n;

	int r = buf ? oci_hash_new(d->digest, &h, e) : err_oom(e);
	if (r < 0)
		return r;
	while ((n = io_pread_full(fd, buf, OCI_STREAM_BLOCK, (off_t)off)) > 0) {
		if (stopped(p))
			return err_set(e, -ECANCELED, "stopped");
		oci_hash_update(h, buf, (size_t)n);
		off += (uint64_t)n;
	}
	if (n < 0)
		return err_sys(e, (int)n, "image store: cannot read %.19s", d->digest);
	oci_hash_final(h, digest);
	return strcmp(digest, d->digest) == 0 ? 0 : oci_store_damaged(d->digest, "is damaged", e);
}

/* An oci_getter's. */
static int read_document(void *data, const struct oci_desc *d, char **ret, size_t *ret_n, struct err *e)
{
	struct push *p = data;
	CLEANUP_FREE char *text = NULL;
	size_t n;
	int r = oci_store_document(p->s, d->digest, &text, &n, e);

	if (r < 0)
		return r;
	if (n != d->size)
		return err_set(e, -EBADMSG, "%.19s has another size than what names it says", d->digest);
	*ret = TAKE_PTR(text);
	*ret_n = n;
	return 0;
}

/* ---- what goes where ---- */

static int find_target(struct push *p, const char *ref, const char *target, struct err *e)
{
	int r = oci_reference_parse(target ? target : ref, &p->target, e);

	if (r == 0) {
		p->name = oci_reference_name(&p->target);
		r = p->name ? 0 : err_oom(e);
	}
	/* An ID says nothing of a registry, and which of the image's names is meant is not for us to guess. */
	bool is_name =
		r == 0 && (p->target.digest || (p->image->name && strcmp(p->name, p->image->name) == 0));
	if (!target && !is_name && r != -ENOMEM) {
		err_set(e, -EINVAL, "it does not say where to");
		return err_hint(e, "name the target, too: push %s REGISTRY/REPOSITORY:TAG", ref);
	}
	if (r < 0)
		return r;
	if (p->target.digest) {
		err_set(e, -EINVAL, "an image is pushed to a tag, not to a digest");
		return err_hint(
			e, "%s", target ? "leave out the \"@…\"" : "name the target as a second argument");
	}
	return 0;
}

/* The repository of that registry which is known to have most of this image's content, by what was pulled and pushed. */
static int find_source(struct push *p, struct err *e)
{
	CLEANUP(stmt_done) sqlite3_stmt *st = NULL;
	CLEANUP_FREE char *low = str_printf("%s/", p->target.domain);
	CLEANUP_FREE char *high = str_printf("%s0", p->target.domain); /* '0' follows '/' */
	CLEANUP_FREE char *own = oci_reference_repo(&p->target);

	if (!low || !high || !own)
		return err_oom(e);
	int r = state_prepare(p->s->st, &st, e,
		"SELECT n.repo FROM image_remotes n JOIN image_blobs b ON b.manifest = n.manifest"
		" WHERE n.repo > ? AND n.repo < ? AND n.repo <> ?"
		" AND b.digest IN (SELECT digest FROM image_blobs WHERE manifest = ?)"
		" GROUP BY n.repo ORDER BY count(DISTINCT b.digest) DESC, n.repo LIMIT 1",
		"ssss", low, high, own, p->image->manifest);
	if (r == 0)
		r = state_step(p->s->st, st, e);
	if (r <= 0)
		return r;
	const char *repo = (const char *)sqlite3_column_text(st, 0);
	p->from = repo && strlen(repo) > strlen(low) ? strdup(repo + strlen(low)) : NULL;
	return p->from ? 0 : err_oom(e);
}

/* 1 if the image's name leads to an index of which everything is here, 0 if not. */
static int has_index(struct push *p, struct err *e)
{
	CLEANUP(stmt_done) sqlite3_stmt *st = NULL;

	if (!p->image->digest || strcmp(p->image->digest, p->image->manifest) == 0)
		return 0;
	int r = state_prepare(p->s->st, &st, e, "SELECT 1 FROM image_indexes WHERE digest = ? AND complete",
		"s", p->image->digest);
	return r < 0 ? r : state_step(p->s->st, st, e);
}

static int choose_platform(struct push *p, const struct oci_platform *want, bool index, struct err *e)
{
	struct oci_platform have = {p->image->os, p->image->arch, p->image->variant, false};
	char digest[OCI_DIGEST_MAX] = "", is[160], wanted[160];

	if (!index) {
		if (oci_platform_matches(&have, want))
			return 0;
		err_set(e, -ENOENT, "the image here is for %s, not for %s",
			oci_platform_text(&have, is, sizeof(is)),
			oci_platform_text(want, wanted, sizeof(wanted)));
		return err_hint(e, "pull it with --all-platforms first");
	}
	CLEANUP_FREE char *chosen = NULL;
	size_t n;
	struct oci_getter get = {read_document, p};
	int r = oci_manifest_choose(p->doc, p->doc_len, NULL, want, &get, digest, &chosen, &n, e);
	if (r < 0 || !*digest)
		return r;
	oci_digest_copy(p->root, digest);
	free(p->doc);
	p->doc = TAKE_PTR(chosen);
	p->doc_len = n;
	return 0;
}

static int find_content(struct push *p, struct err *e)
{
	CLEANUP(oci_platform_done) struct oci_platform want = {0};
	struct oci_getter get = {read_document, p};
	int index = has_index(p, e);

	if (index < 0)
		return index;
	oci_digest_copy(p->root, index ? p->image->digest : p->image->manifest);
	int r = oci_store_document(p->s, p->root, &p->doc, &p->doc_len, e);
	if (r == 0 && p->o->platform) {
		r = oci_platform_parse(p->o->platform, &want, e);
		if (r == 0)
			r = choose_platform(p, &want, index, e);
	} else if (r == 0 && !index && p->image->digest &&
		   strcmp(p->image->digest, p->image->manifest) != 0) {
		/* Of the index, so that it is a line of its own, and stays. */
		report(p, p->image->digest, "Pushing one platform: the others are not here", 0, 0);
	}
	return r < 0 ? r : oci_contents_of(p->doc, p->doc_len, NULL, &get, &p->contents, e);
}

/* ---- blobs ---- */

struct upload {
	struct push *push;
	const struct oci_desc *d;
	const char *item; /* NULL: not shown */
};

static void on_bytes(void *data, uint64_t bytes)
{
	struct upload *u = data;

	if (u->item)
		report(u->push, u->item, "Pushing", bytes, u->d->size);
}

static bool is_config(const struct oci_desc *d)
{
	return strcmp(d->media_type, OCI_TYPE_CONFIG) == 0 ||
	       strcmp(d->media_type, DOCKER_TYPE_CONFIG) == 0 || strcmp(d->media_type, OCI_TYPE_EMPTY) == 0;
}

static int send_blob(struct upload *u, struct oci_conn *c, struct err *e)
{
	const struct oci_desc *d = u->d;
	CLEANUP_CLOSE int fd = -1;
	int r = open_blob(u->push, d, &fd, e);

	if (r == 0)
		r = check_blob(u->push, d, fd, e);
	if (r == 0)
		r = oci_conn_upload(c, d->digest, fd, d->size, on_bytes, u, e);
	return r;
}

/* Says which blob it was, unless the error does, or no blob matters to it. */
static int blob_failed(const struct push *p, const struct oci_desc *d, int r, struct err *e)
{
	size_t n = strlen(p->target.domain);
	bool of_host = r == -ECONNREFUSED || r == -EKEYREJECTED ||
		       (strncmp(e->msg, p->target.domain, n) == 0 && e->msg[n] == ':');
	char short_digest[20];

	snprintf(short_digest, sizeof(short_digest), "%.19s", d->digest);
	return of_host || strstr(e->msg, short_digest) ? r : err_wrap(e, "%s", short_digest);
}

static int push_blob(struct push *p, struct oci_conn *c, const struct oci_desc *d, struct err *e)
{
	struct upload u = {p, d, is_config(d) ? NULL : d->digest};
	char text[OCI_NAME_MAX + 32] = "Layer already exists";
	int r = oci_conn_has_blob(c, d->digest, e);

	if (r == 0 && p->from) {
		r = oci_conn_mount(c, d->digest, e);
		snprintf(text, sizeof(text), "Mounted from %s", p->from);
	}
	if (r == 0 && d->foreign) {
		/* As in Docker: who made it does not want it passed on. Its URLs say where it is to be had. */
		snprintf(text, sizeof(text), "Skipped: it must not be distributed");
	} else if (r == 0) {
		on_bytes(&u, 0);
		r = send_blob(&u, c, e);
		snprintf(text, sizeof(text), "Pushed");
	}
	if (r >= 0 && u.item)
		report(p, u.item, text, d->size, d->size);
	return r < 0 ? blob_failed(p, d, r, e) : 0;
}

/* The first failure counts; the others' work ends soon, with errors that nobody needs. */
static void fail(struct push *p, int r, const struct err *e)
{
	pthread_mutex_lock(&p->mutex);
	if (p->result == 0) {
		p->result = r;
		p->err = *e;
		for (size_t i = 0; i < PUSH_THREADS; i++)
			if (p->conns[i])
				oci_conn_cancel(p->conns[i]);
	}
	pthread_mutex_unlock(&p->mutex);
}

static const struct oci_desc *next_blob(struct push *p)
{
	const struct oci_desc *d = NULL;

	pthread_mutex_lock(&p->mutex);
	while (!d && p->result == 0 && p->next < p->contents.n) {
		d = &p->contents.v[p->next++];
		if (d->role != OCI_ROLE_BLOB)
			d = NULL;
	}
	pthread_mutex_unlock(&p->mutex);
	return d;
}

/* A free place among the connections that can be cancelled; there is one for each thread. */
static size_t add_conn(struct push *p, struct oci_conn *c)
{
	size_t i = 0;

	pthread_mutex_lock(&p->mutex);
	while (p->conns[i])
		i++;
	p->conns[i] = c;
	pthread_mutex_unlock(&p->mutex);
	return i;
}

static void *push_blobs(void *data)
{
	struct push *p = data;
	struct oci_conn *c = NULL;
	struct err e = {0};
	const struct oci_desc *d;

	int r = oci_conn_new(p->reg, &c, &e);
	if (r < 0) {
		fail(p, r, &e);
		return NULL;
	}
	size_t slot = add_conn(p, c);
	while (r == 0 && (d = next_blob(p))) {
		r = push_blob(p, c, d, &e);
		if (r < 0)
			fail(p, r, &e);
	}
	pthread_mutex_lock(&p->mutex);
	p->conns[slot] = NULL;
	pthread_mutex_unlock(&p->mutex);
	oci_conn_free(c);
	return NULL;
}

static int push_all_blobs(struct push *p, struct err *e)
{
	pthread_t threads[PUSH_THREADS - 1];
	size_t n = 0, blobs = 0;

	for (size_t i = 0; i < p->contents.n; i++)
		blobs += p->contents.v[i].role == OCI_ROLE_BLOB;
	/* This thread is one of them: without the others it only takes longer. */
	while (n < ARRAY_LEN(threads) && n + 1 < blobs &&
		pthread_create(&threads[n], NULL, push_blobs, p) == 0)
		n++;
	push_blobs(p);
	for (size_t i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
	if (p->result < 0 && e)
		*e = p->err;
	return p->result;
}

/* ---- documents ---- */

/*
 * Registries that keep content in files (Docker's) write it without a lock: while somebody else pushes the same to the same
 * repository, what the manifest names may for a moment not seem to be there, or not what it should be.
 */
static int put_manifest(struct oci_conn *c, const char *tag_or_digest, const char *type, const char *doc,
	size_t n, struct err *e)
{
	struct err why = {0};
	int r = oci_conn_put_manifest(c, tag_or_digest, type, doc, n, &why);

	for (int tries = 1; r == -EIO && tries < PUT_TRIES; tries++) {
		(void)nanosleep(&(struct timespec){.tv_nsec = PUT_WAIT_NS}, NULL);
		why = (struct err){0};
		r = oci_conn_put_manifest(c, tag_or_digest, type, doc, n, &why);
	}
	if (r < 0 && e)
		*e = why;
	return r;
}

static int push_document(struct push *p, struct oci_conn *c, const struct oci_desc *d, struct err *e)
{
	CLEANUP_FREE char *text = NULL, *type = NULL;
	char digest[OCI_DIGEST_MAX];
	size_t n;
	int r = oci_conn_has_manifest(c, d->digest, digest, e);

	if (r != 0)
		return r < 0 ? r : 0;
	r = read_document(p, d, &text, &n, e);
	if (r == 0)
		r = oci_document_type(text, n, d->media_type, &type, e);
	return r < 0 ? r : put_manifest(c, d->digest, type, text, n, e);
}

static int push_documents(struct push *p, struct err *e)
{
	CLEANUP(oci_conn_freep) struct oci_conn *c = NULL;
	CLEANUP_FREE char *type = NULL;
	int r = oci_conn_new(p->reg, &c, e);

	for (size_t i = 0; r == 0 && i < p->contents.n; i++) {
		if (p->contents.v[i].role == OCI_ROLE_BLOB)
			continue;
		r = push_document(p, c, &p->contents.v[i], e);
		if (r < 0)
			err_wrap(e, "%.19s", p->contents.v[i].digest);
	}
	if (r == 0)
		r = oci_document_type(p->doc, p->doc_len, NULL, &type, e);
	if (r == 0)
		r = put_manifest(c, p->target.tag, type, p->doc, p->doc_len, e);
	if (r < 0 || !p->key)
		return r;
	report(p, NULL, "Signing", 0, 0);
	r = oci_sign_pushed(c, &p->target, p->root, p->key, &p->signatures, e);
	return r < 0 ? err_wrap(e, "it was pushed, but not signed") : 0;
}

/* What is in the way of signing is better known before anything is pushed. */
static int check_signing(struct push *p, struct err *e)
{
	CLEANUP(oci_conn_freep) struct oci_conn *c = NULL;

	if (!p->key)
		return 0;
	int r = oci_conn_new(p->reg, &c, e);
	return r < 0 ? r : oci_sign_check(c, &p->target, p->root, p->key, e);
}

/* ---- all of it ---- */

/* Where the image is now, too; its name, if it is that, leads to what was pushed. */
static int record(struct push *p, struct err *e)
{
	CLEANUP_FREE char *name = oci_ref_familiar(p->name);
	int r = name ? state_begin(p->s->st, e) : err_oom(e);

	if (r < 0)
		return r;
	/* Of another platform's image, which has no name here, there is nothing to note. */
	if (strcmp(p->root, p->image->manifest) == 0 ||
		(p->image->digest && strcmp(p->root, p->image->digest) == 0)) {
		r = oci_store_pushed(p->s, p->name, p->image->manifest, p->root, e);
		if (r == 0)
			r = oci_store_enter_signatures(p->s, &p->signatures, e);
	}
	if (r == 0)
		r = event_add(p->s->st, e, "image", "push", name, "name", name, NULL);
	return state_end(p->s->st, r, e);
}

static int push_locked(struct push *p, const char *ref, const char *target, struct err *e)
{
	int r = oci_image_find(p->s, ref, &p->image, e);

	if (r == 0)
		r = find_target(p, ref, target, e);
	if (r == 0 && p->o->sign_key) /* what is wrong with the key is better known before */
		r = oci_sign_key(p->o->sign_key, p->o->sign_password, &p->key, e);
	if (r == 0)
		r = find_content(p, e);
	if (r == 0)
		r = find_source(p, e);
	if (r == 0)
		r = oci_registry_open(
			&p->target, &p->o->remote, p->s->st->home_fd, OCI_ACCESS_PUSH, p->from, &p->reg, e);
	if (r == 0)
		r = check_signing(p, e);
	if (r == 0)
		r = push_all_blobs(p, e);
	if (r == 0)
		r = push_documents(p, e);
	if ((r == -EACCES || r == -EPERM) && e && p->reg && !*e->hint)
		err_hint(
			e, "\"a3s-box login %s\" first, or check that you may write there", p->target.domain);
	return r < 0 ? r : record(p, e);
}

int oci_push(struct oci_store *s, const char *ref, const char *target, const struct oci_push_opts *o,
	const struct oci_progress *prog, char *ret_digest, struct err *e)
{
	struct push p = {.s = s, .o = o, .mutex = PTHREAD_MUTEX_INITIALIZER};
	CLEANUP_CLOSE int lock = -1;

	oci_serial_init(&p.progress, prog);
	int r = oci_store_lock(s, OCI_LOCK_ADD, &lock, e);

	if (r == 0)
		r = push_locked(&p, ref, target, e);
	if (r == 0 && ret_digest)
		oci_digest_copy(ret_digest, p.root);
	if (r < 0)
		err_wrap(e, target ? "cannot push %s to %s" : "cannot push %s", ref, target);
	push_done(&p);
	oci_store_release(s, &lock);
	return r;
}
