/* SPDX-License-Identifier: MIT */
/* What is read from a registry: manifests, blobs, tags, referrers. */
#include <string.h>

#include "base/io.h"
#include "base/log.h"
#include "registry/conn.h"

#define ACCEPT		   OCI_TYPE_INDEX ", " DOCKER_TYPE_LIST ", " OCI_TYPE_MANIFEST ", " DOCKER_TYPE_MANIFEST
#define TAGS_MAX	   100000
#define PAGE_TAGS	   1000 /* asked for at once */
#define PAGES_MAX	   2000 /* of tags */
#define REFERRER_PAGES_MAX 16
#define AGAIN_MIN	   (64u << 10) /* bytes after which the same place is asked once more for the rest */

/*
 * The first manifest says where the image is; a signature that only the registry itself has does not change
 * that.
 */
static void prefer(struct oci_conn *c, const struct oci_place *p)
{
	pthread_mutex_lock(&c->r->lock);
	if (!c->r->has_preferred)
		c->r->preferred = (size_t)(p - c->r->places);
	c->r->has_preferred = true;
	pthread_mutex_unlock(&c->r->lock);
}

static char *manifest_name(const struct oci_place *p, const char *name)
{
	return str_printf("manifest %s%s%s", p->repository, oci_digest_valid(name) ? "@" : ":", name);
}

/* ---- manifests ---- */

struct manifest {
	const char *name; /* tag or digest */
	char *text;
	size_t n;
	char digest[OCI_DIGEST_MAX];
	char *type;
};

static void manifest_done(struct manifest *m)
{
	free(m->text);
	free(m->type);
}

static int check_digest(struct oci_conn *c, const struct oci_place *p, struct manifest *m, struct err *e)
{
	bool by_digest = oci_digest_valid(m->name);
	int r = oci_digest_like(by_digest ? m->name : NULL, m->text, m->n, m->digest, e);

	if (r < 0)
		return r;
	const char *expect = by_digest ? m->name : oci_http_response(c->http)->docker_digest;
	/* Of another algorithm it says nothing that can be compared. */
	if (expect && strncmp(expect, m->digest, 7) == 0 && strcmp(expect, m->digest) != 0)
		return err_set(e, -EBADMSG, "the manifest from %s has digest %s instead of %.135s", p->domain,
			m->digest, expect);
	return 0;
}

/*
 * A mirror that serves something else, perhaps a page that asks to log in, is passed over; a registry is
 * taken at its word.
 */
static int check_kind(const struct oci_place *p, const struct manifest *m, struct err *e)
{
	CLEANUP(json_done) json_t *j = NULL;

	return p->mirror ? oci_json_parse("the manifest", m->text, m->n, &j, e) : 0;
}

static int get_manifest(struct oci_conn *c, struct oci_place *p, void *data, struct err *e)
{
	struct manifest *m = data;
	CLEANUP_FREE char *path = str_printf("manifests/%s", m->name);
	CLEANUP_FREE char *what = manifest_name(p, m->name);

	manifest_done(m);
	m->text = m->type = NULL;
	if (!path || !what)
		return err_oom(e);
	struct oci_place_request rq = {.path = path, .accept = ACCEPT, .small = true};
	int r = oci_place_send(c, p, &rq, e);
	if (r < 0)
		return r;
	if (oci_http_response(c->http)->status != 200)
		return oci_place_refused(c, p, what, e);
	r = oci_http_read_all(c->http, OCI_JSON_MAX, &m->text, &m->n, e);
	if (r == 0)
		r = check_digest(c, p, m, e);
	if (r == 0)
		r = check_kind(p, m, e);
	if (r < 0)
		return r;
	const char *type = oci_http_response(c->http)->content_type;
	m->type = type ? strndup(type, strcspn(type, "; ")) : NULL;
	if (type && !m->type)
		return err_oom(e);
	prefer(c, p);
	return 0;
}

int oci_conn_manifest(struct oci_conn *c, const char *tag_or_digest, char **ret, size_t *ret_n,
	char ret_digest[OCI_DIGEST_MAX], char **ret_type, struct err *e)
{
	CLEANUP(manifest_done) struct manifest m = {.name = tag_or_digest};

	c->digest[0] = '\0';
	int r = oci_conn_try(c, get_manifest, &m, e);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(m.text);
	*ret_n = m.n;
	oci_digest_copy(ret_digest, m.digest);
	if (ret_type)
		*ret_type = TAKE_PTR(m.type);
	return 0;
}

static int head_manifest(struct oci_conn *c, struct oci_place *p, void *data, struct err *e)
{
	struct manifest *m = data;
	CLEANUP_FREE char *path = str_printf("manifests/%s", m->name);
	CLEANUP_FREE char *what = manifest_name(p, m->name);

	if (!path || !what)
		return err_oom(e);
	struct oci_place_request rq = {
		.method = OCI_HTTP_HEAD, .path = path, .accept = ACCEPT, .small = true};
	int r = oci_place_send(c, p, &rq, e);
	if (r < 0)
		return r;
	const struct oci_http_response *resp = oci_http_response(c->http);
	if (resp->status == 405) /* no HEAD here */
		return get_manifest(c, p, m, e);
	if (resp->status != 200)
		return oci_place_refused(c, p, what, e);
	if (!resp->docker_digest || !oci_digest_valid(resp->docker_digest))
		return get_manifest(c, p, m, e);
	oci_digest_copy(m->digest, resp->docker_digest);
	prefer(c, p);
	return 0;
}

int oci_conn_has_manifest(
	struct oci_conn *c, const char *tag_or_digest, char ret_digest[OCI_DIGEST_MAX], struct err *e)
{
	CLEANUP(manifest_done) struct manifest m = {.name = tag_or_digest};

	c->digest[0] = '\0';
	int r = oci_conn_try(c, head_manifest, &m, e);
	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return r;
	oci_digest_copy(ret_digest, m.digest);
	return 1;
}

/* ---- blobs ---- */

static int get_blob(struct oci_conn *c, struct oci_place *p, void *data, struct err *e)
{
	const uint64_t *from = data;
	CLEANUP_FREE char *path = str_printf("blobs/%s", c->digest);

	if (!path)
		return err_oom(e);
	struct oci_place_request rq = {.path = path, .from = *from};
	int r = oci_place_send(c, p, &rq, e);
	if (r < 0)
		return r;
	const struct oci_http_response *resp = oci_http_response(c->http);
	if (resp->status != 200 && resp->status != 206) {
		char what[64];
		snprintf(what, sizeof(what), "blob %.19s", c->digest);
		return oci_place_refused(c, p, what, e);
	}
	c->since_open = 0;
	return 0;
}

int oci_conn_blob(struct oci_conn *c, const char *digest, uint64_t from, uint64_t *ret_from, struct err *e)
{
	oci_digest_copy(c->digest, digest);
	int r = oci_conn_try(c, get_blob, &from, e);
	if (r < 0)
		return r;
	c->position = *ret_from = oci_http_response(c->http)->from;
	return 0;
}

/* Reads over what a server sends again. */
static int pass_over(struct oci_conn *c, uint64_t bytes, struct err *e)
{
	CLEANUP_FREE uint8_t *buf = malloc(65536);

	if (!buf)
		return err_oom(e);
	while (bytes) {
		ssize_t n = oci_http_read(c->http, buf, (size_t)MIN_OF(bytes, (uint64_t)65536), e);
		if (n <= 0)
			return n < 0 ? (int)n : err_set(e, -EIO, "%s sends less than before", c->at->domain);
		bytes -= (uint64_t)n;
	}
	return 0;
}

/*
 * The download broke off for good: the rest from the same place (an address or a token may have expired), or
 * another.
 */
static int read_elsewhere(struct oci_conn *c, int why, struct err *e)
{
	struct oci_place *at = c->at;
	struct err other = {0};
	uint64_t from = c->position;
	int r = why;

	if (why == -EIO && c->since_open >= AGAIN_MIN)
		r = get_blob(c, at, &from, &other);
	if (r < 0 && r != -ECANCELED && at->mirror) {
		pthread_mutex_lock(&c->r->lock);
		at->bad = true;
		pthread_mutex_unlock(&c->r->lock);
		r = oci_conn_try(c, get_blob, &from, &other);
	}
	if (r < 0) {
		log_debug("registry: %s: %s", c->at->domain, other.msg);
		return r == -ECANCELED ? r : why;
	}
	uint64_t begins = oci_http_response(c->http)->from;
	return begins < from ? pass_over(c, from - begins, e) : 0;
}

ssize_t oci_conn_read(struct oci_conn *c, void *buf, size_t n, struct err *e)
{
	for (;;) {
		ssize_t k = oci_http_read(c->http, buf, n, e);
		if (k >= 0) {
			c->position += (uint64_t)k;
			c->since_open += (uint64_t)k;
			return k;
		}
		if (k == -ECANCELED || k == -ENOMEM || !*c->digest)
			return k;
		int r = read_elsewhere(c, (int)k, e);
		if (r < 0)
			return r;
	}
}

bool oci_conn_distrust(struct oci_conn *c)
{
	if (!c->at->mirror)
		return false;
	pthread_mutex_lock(&c->r->lock);
	c->at->bad = true;
	free(c->at->failure);
	c->at->failure = strdup("what it sends is damaged");
	pthread_mutex_unlock(&c->r->lock);
	return true;
}

/* ---- pages ---- */

/* The next page: Link with rel="next", of the same origin. *ret NULL: this was the last. */
static int next_page(struct oci_conn *c, const struct oci_place *p, char **ret, struct err *e)
{
	CLEANUP(oci_url_done) struct oci_url next = {0};
	const char *link = oci_http_response(c->http)->next;

	*ret = NULL;
	if (!link)
		return 0;
	int r = oci_url_parse(link, oci_http_url(c->http), &next, e);
	if (r < 0)
		return r;
	if (!oci_url_same_origin(&next, oci_http_url(c->http)))
		return err_set(e, -EPROTO, "%s continues its list on another server", p->domain);
	*ret = TAKE_PTR(next.text);
	return 0;
}

/* One page as JSON; *next: the address of this one (NULL: the first, path), then of the next. */
static int get_page(struct oci_conn *c, struct oci_place *p, const char *path, const char *what, char **next,
	char **ret, size_t *ret_n, struct err *e)
{
	CLEANUP_FREE char *url = TAKE_PTR(*next);
	struct oci_place_request rq = {.path = url ? NULL : path,
		.url = url,
		.accept = "application/json, " OCI_TYPE_INDEX,
		.small = true};

	int r = oci_place_send(c, p, &rq, e);
	if (r < 0)
		return r;
	if (oci_http_response(c->http)->status != 200)
		return oci_place_refused(c, p, what, e);
	r = next_page(c, p, next, e);
	if (r == 0)
		r = oci_http_read_all(c->http, OCI_JSON_MAX, ret, ret_n, e);
	if (r == 0 && *next && url && strcmp(*next, url) == 0)
		return err_set(e, -ELOOP, "%s: a list continues with itself", p->domain);
	return r;
}

/* ---- tags ---- */

static int take_tags(const struct oci_place *p, const char *text, size_t n, struct strv *ret, struct err *e)
{
	CLEANUP(json_done) json_t *j = NULL;

	int r = oci_json_parse("the list of tags", text, n, &j, e);
	if (r < 0)
		return r;
	const json_t *tags = json_object_get(j, "tags"); /* null where there are none */
	for (size_t i = 0; i < json_array_size(tags); i++) {
		const char *tag = json_string_value(json_array_get(tags, i));
		if (!tag || !oci_tag_valid(tag))
			return err_set(e, -EBADMSG, "%s lists something that is no tag", p->domain);
		if (ret->n >= TAGS_MAX)
			return err_set(e, -EFBIG, "%s has more than %d tags", p->domain, TAGS_MAX);
		if (strv_push(ret, tag) < 0)
			return err_oom(e);
	}
	return 0;
}

static int get_tags(struct oci_conn *c, struct oci_place *p, void *data, struct err *e)
{
	struct strv *ret = data;
	CLEANUP_FREE char *next = NULL, *what = str_printf("repository %s", p->repository);
	char path[64];
	int r = what ? 0 : err_oom(e);

	strv_done(ret);
	*ret = (struct strv){0};
	snprintf(path, sizeof(path), "tags/list?n=%d", PAGE_TAGS);
	for (int page = 0; r == 0 && (page == 0 || next); page++) {
		CLEANUP_FREE char *text = NULL;
		size_t n;
		if (page == PAGES_MAX)
			return err_set(e, -EFBIG, "the list of tags of %s has no end", p->domain);
		r = get_page(c, p, path, what, &next, &text, &n, e);
		if (r == 0)
			r = take_tags(p, text, n, ret, e);
	}
	return r;
}

int oci_conn_tags(struct oci_conn *c, struct strv *ret, struct err *e)
{
	CLEANUP(strv_done) struct strv tags = {0};

	c->digest[0] = '\0';
	int r = oci_conn_try(c, get_tags, &tags, e);
	if (r < 0)
		return r;
	*ret = tags;
	tags = (struct strv){0};
	return 0;
}

/* ---- referrers ---- */

struct referrers {
	const char *digest, *type;
	char *text;
	size_t n;
};

static void referrers_done(struct referrers *q)
{
	free(q->text);
}

/* Whether a registry that answers so does not know the question. */
static bool not_supported(long status)
{
	return status == 404 || status == 400 || status == 405 || status == 406 || status == 501;
}

/* The tag that stands in for the question: "sha256-HEX". */
static int by_tag(struct oci_conn *c, struct oci_place *p, struct referrers *q, struct err *e)
{
	CLEANUP(manifest_done) struct manifest m = {0};
	CLEANUP_FREE char *tag = strdup(q->digest);

	if (!tag)
		return err_oom(e);
	*strchr(tag, ':') = '-';
	tag[MIN_OF(strlen(tag), (size_t)OCI_TAG_MAX)] =
		'\0'; /* of SHA-512: distribution specification, "Referrers Tag" */
	m.name = tag;
	int r = get_manifest(c, p, &m, e);
	if (r < 0)
		return r;
	q->text = TAKE_PTR(m.text);
	q->n = m.n;
	return 0;
}

/* Adds a further page's manifests to the first's. */
static int add_page(json_t *all, const char *text, size_t n, struct err *e)
{
	CLEANUP(json_done) json_t *j = NULL;
	json_t *list = json_object_get(all, "manifests");

	int r = oci_json_parse("the list of referrers", text, n, &j, e);
	if (r < 0)
		return r;
	const json_t *more = json_object_get(j, "manifests");
	if (!json_is_array(list) || !json_is_array(more) ||
		json_array_size(list) + json_array_size(more) > OCI_MANIFESTS_MAX)
		return err_set(e, -EBADMSG, "the list of referrers is no index, or too long");
	return json_array_extend(list, (json_t *)more) < 0 ? err_oom(e) : 0;
}

/* The pages behind the first one, which is in q. */
static int more_pages(
	struct oci_conn *c, struct oci_place *p, struct referrers *q, char **next, struct err *e)
{
	CLEANUP(json_done) json_t *all = NULL;

	int r = oci_json_parse("the list of referrers", q->text, q->n, &all, e);
	for (int page = 1; r == 0 && *next; page++) {
		CLEANUP_FREE char *text = NULL;
		size_t n;
		if (page == REFERRER_PAGES_MAX)
			return err_set(e, -EFBIG, "the list of referrers at %s has no end", p->domain);
		r = get_page(c, p, NULL, "list of referrers", next, &text, &n, e);
		if (r == 0)
			r = add_page(all, text, n, e);
	}
	if (r < 0)
		return r;
	free(q->text);
	q->text = json_dumps(all, JSON_COMPACT);
	q->n = q->text ? strlen(q->text) : 0;
	return q->text ? 0 : err_oom(e);
}

/* A mirror that copies images only when they are asked for knows of no referrers: that says nothing. */
static int check_any(const struct oci_place *p, const struct referrers *q, struct err *e)
{
	CLEANUP(json_done) json_t *j = NULL;

	int r = oci_json_parse("the list of referrers", q->text, q->n, &j, e);
	if (r == 0 && json_array_size(json_object_get(j, "manifests")) == 0)
		return err_set(e, -ENOENT, "%s has no referrers of %s", p->domain, q->digest);
	return r;
}

static int get_referrers(struct oci_conn *c, struct oci_place *p, void *data, struct err *e)
{
	struct referrers *q = data;
	CLEANUP_FREE char *type = q->type ? oci_url_encode(q->type) : NULL;
	CLEANUP_FREE char *path =
		str_printf("referrers/%s%s%s", q->digest, q->type ? "?artifactType=" : "", type ? type : "");
	CLEANUP_FREE char *next = NULL;

	referrers_done(q);
	q->text = NULL;
	if (!path || (q->type && !type))
		return err_oom(e);
	int r = get_page(c, p, path, "list of referrers", &next, &q->text, &q->n, e);
	if (r < 0 && r != -ECANCELED && r != -ENOMEM && not_supported(oci_http_response(c->http)->status))
		return by_tag(c, p, q, e);
	if (r == 0 && next)
		r = more_pages(c, p, q, &next, e);
	return r == 0 && p->mirror ? check_any(p, q, e) : r;
}

int oci_conn_referrers(struct oci_conn *c, const char *digest, const char *artifact_type, char **ret,
	size_t *ret_n, struct err *e)
{
	CLEANUP(referrers_done) struct referrers q = {.digest = digest, .type = artifact_type};

	c->digest[0] = '\0';
	int r = oci_conn_try(c, get_referrers, &q, e);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(q.text);
	*ret_n = q.n;
	return 0;
}
