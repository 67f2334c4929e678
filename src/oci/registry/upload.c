/* SPDX-License-Identifier: MIT */
/*
 * What is written to a registry (distribution specification, "Pushing").
 *
 * A blob of one chunk goes whole, with the request that ends the upload. A larger one goes in chunks: when
 * one breaks off, the registry is asked how far it got, and the upload goes on there, or begins anew if it is
 * gone. Registries that take no chunks get the blob whole, too.
 */
#include <inttypes.h>
#include <string.h>

#include "base/io.h"
#include "base/log.h"
#include "base/units.h"
#include "registry/conn.h"
#include "registry/headers.h"

#define CHUNK	  (16ull << 20) /* bytes */
#define CHUNK_MAX (1ull << 30)	/* what a registry may want as the least */
#define COMMIT_S  600		/* in which it must have put a blob in its place; some copy it then */
#define RESTARTS  3		/* uploads that vanish, or cannot be ended */
#define OCTETS	  "application/octet-stream"

struct upload {
	struct oci_conn *c;
	const char *digest;
	char what[64]; /* for messages */
	int fd;
	uint64_t size, chunk;
	uint64_t arrived;
	char *url;		     /* of the upload, absolute; NULL: none yet */
	unsigned failures, restarts; /* failures: in a row, without a chunk's worth between them */
	uint64_t mark;		     /* how far it was when failures were last forgotten */
	bool whole;		     /* no chunks */
	void (*on_bytes)(void *data, uint64_t bytes);
	void *data;
	uint64_t told; /* what on_bytes was told at most: a bar that goes back confuses */
};

static void upload_done(struct upload *u)
{
	free(u->url);
}

static bool is_success(long status)
{
	return status >= 200 && status < 300;
}

static bool is_transient(long status)
{
	return status == 408 || status == 429 || status == 500 || status == 502 || status == 503 ||
	       status == 504;
}

static int refused(struct upload *u, struct err *e)
{
	return oci_place_refused(u->c, oci_conn_origin(u->c), u->what, e);
}

static void tell(struct upload *u, uint64_t bytes)
{
	if (bytes > u->told)
		u->told = bytes;
	else
		return;
	if (u->on_bytes)
		u->on_bytes(u->data, bytes);
}

static void on_sent(void *user, uint64_t bytes)
{
	struct upload *u = user;

	tell(u, u->arrived + bytes);
}

/* ---- questions ---- */

int oci_conn_has_blob(struct oci_conn *c, const char *digest, struct err *e)
{
	CLEANUP_FREE char *path = str_printf("blobs/%s", digest);
	char what[64];

	c->digest[0] = '\0';
	if (!path)
		return err_oom(e);
	struct oci_place_request rq = {.method = OCI_HTTP_HEAD, .path = path, .small = true};
	int r = oci_place_send(c, oci_conn_origin(c), &rq, e);
	if (r < 0)
		return r;
	long status = oci_http_response(c->http)->status;
	if (status == 200 || status == 404)
		return status == 200;
	snprintf(what, sizeof(what), "blob %.19s", digest);
	return oci_place_refused(c, oci_conn_origin(c), what, e);
}

/* The Location of the answer, absolute. *ret is NULL when there is none. */
static int location(struct oci_conn *c, char **ret, struct err *e)
{
	CLEANUP(oci_url_done) struct oci_url to = {0};
	const struct oci_url *base = oci_http_url(c->http);
	const char *text = oci_http_response(c->http)->location;

	*ret = NULL;
	if (!text)
		return 0;
	int r = oci_url_parse(text, base, &to, e);
	if (r < 0) {
		err_wrap(e, "%s: where to upload", oci_conn_origin(c)->domain);
		return r;
	}
	if (base->tls && !to.tls)
		return err_set(e, -EPROTO, "%s wants an upload to leave HTTPS", oci_conn_origin(c)->domain);
	*ret = TAKE_PTR(to.text);
	return 0;
}

int oci_conn_mount(struct oci_conn *c, const char *digest, struct err *e)
{
	CLEANUP_FREE char *from = c->r->from ? oci_url_encode(c->r->from) : NULL;
	CLEANUP_FREE char *path = from ? str_printf("blobs/uploads/?mount=%s&from=%s", digest, from) : NULL;

	c->digest[0] = '\0';
	if (!c->r->from)
		return 0;
	if (!path)
		return err_oom(e);
	struct oci_place_request rq = {
		.method = OCI_HTTP_POST, .path = path, .scope = OCI_SCOPE_MOUNT, .small = true};
	struct err why = {0};
	int r = oci_place_send(c, oci_conn_origin(c), &rq, &why);
	if (r == -EACCES) { /* no token for the other repository: then it is uploaded */
		log_debug("registry: %s", why.msg);
		return 0;
	}
	if (r < 0) {
		if (e)
			*e = why;
		return r;
	}
	long status = oci_http_response(c->http)->status;
	if (status == 201)
		return 1;
	if (status == 202) { /* an upload has begun instead, which is not to be left lying about */
		free(TAKE_PTR(c->upload));
		return MIN_OF(location(c, &c->upload, e), 0);
	}
	return 0;
}

/* ---- steps of an upload ---- */

/* What the answer says of the least size of chunks. */
static void take_chunk_min(struct upload *u)
{
	const char *text = oci_http_response(u->c->http)->chunk_min;
	uint64_t min;

	if (text && parse_u64(text, CHUNK_MAX, &min) == 0)
		u->chunk = MAX_OF(u->chunk, min);
}

static int begin(struct upload *u, struct err *e)
{
	u->arrived = u->mark = 0;
	free(u->url);
	u->url = TAKE_PTR(u->c->upload);
	if (u->url)
		return 0;
	struct oci_place_request rq = {.method = OCI_HTTP_POST, .path = "blobs/uploads/", .small = true};
	int r = oci_place_send(u->c, oci_conn_origin(u->c), &rq, e);
	if (r < 0)
		return r;
	if (oci_http_response(u->c->http)->status != 202)
		return refused(u, e);
	take_chunk_min(u);
	r = location(u->c, &u->url, e);
	if (r < 0)
		return r;
	return u->url ? 0
		      : err_set(e, -EPROTO, "%s does not say where to upload", oci_conn_origin(u->c)->domain);
}

/* Takes over where the upload goes on, if the answer says so. */
static int take_location(struct upload *u, struct err *e)
{
	char *next;
	int r = location(u->c, &next, e);

	if (r == 0 && next) {
		free(u->url);
		u->url = next;
	}
	return r;
}

/* How far the registry says that it got. None: as far as we think. */
static int take_arrived(struct upload *u, uint64_t sent_to, struct err *e)
{
	const char *range = oci_http_response(u->c->http)->range;
	uint64_t last;

	if (!range) {
		u->arrived = sent_to;
		return 0;
	}
	if (!oci_header_upload_range(range, &last) || last >= u->size)
		return err_set(e, -EPROTO, "%s has more of %s than was sent", oci_conn_origin(u->c)->domain,
			u->what);
	/* "0-0" is also said of nothing at all; and nobody sends a single byte. */
	uint64_t has = last ? last + 1 : 0;
	if (has > sent_to)
		return err_set(e, -EPROTO, "%s has more of %s than was sent", oci_conn_origin(u->c)->domain,
			u->what);
	u->arrived = has;
	return 0;
}

/* 1: this failure may pass (there was a pause); 0: not any more; -ECANCELED. e holds the failure. */
static int may_pass(struct upload *u, struct err *e)
{
	struct err why = {0};

	if (++u->failures >= OCI_HTTP_TRIES)
		return 0;
	int r = oci_http_pause(u->c->http, u->failures, &why);
	if (r == -ECANCELED && e)
		*e = why;
	return r == -ECANCELED ? r : r == 0;
}

/* After failure r, which *e holds, begins anew, if it was not done too often. */
static int begin_anew(struct upload *u, int r, struct err *e)
{
	if (++u->restarts > RESTARTS)
		return r;
	log_debug("registry: the upload of %s begins anew", u->what);
	return begin(u, e);
}

/*
 * After a chunk that ends at `to` was taken, or so the registry says: taking less counts as a failure. Failures are
 * forgotten only for bytes that had never come before in this upload, and not for a few of them: a registry could go
 * back and forth, or a byte ahead at a time, for ever.
 */
static int check_progress(struct upload *u, uint64_t to, struct err *e)
{
	if (u->arrived > u->mark && u->arrived - u->mark >= MIN_OF(CHUNK, u->size - u->mark)) {
		u->failures = 0;
		u->mark = u->arrived;
	}
	if (u->arrived == to)
		return 0;
	err_set(e, -EIO, "%s does not take what it is sent of %s", oci_conn_origin(u->c)->domain, u->what);
	int again = may_pass(u, e);
	return again > 0 ? 0 : again < 0 ? again : -EIO;
}

/* After a chunk broke off: asks how far it got. The upload may be gone: then it begins anew. */
static int ask_arrived(struct upload *u, uint64_t sent_to, struct err *e)
{
	struct oci_place_request rq = {.url = u->url, .small = true};

	int r = oci_place_send(u->c, oci_conn_origin(u->c), &rq, e);
	if (r < 0)
		return r;
	long status = oci_http_response(u->c->http)->status;
	/* Without a word on how far it is, nothing can be counted on. */
	if (is_success(status) && oci_http_response(u->c->http)->range) {
		r = take_location(u, e);
		return r < 0 ? r : take_arrived(u, sent_to, e);
	}
	r = is_success(status) ? err_set(e, -EIO, "%s loses uploads", oci_conn_origin(u->c)->domain)
			       : refused(u, e);
	return begin_anew(u, r, e);
}

/* Registries that take a blob only whole say so in many ways. */
static bool wants_whole(long status)
{
	return status == 400 || status == 405 || status == 411 || status == 413 || status == 415 ||
	       status == 501;
}

/* One chunk. Progress, or a failure that was dealt with, is 0. */
static int send_chunk(struct upload *u, struct err *e)
{
	uint64_t n = MIN_OF(u->chunk, u->size - u->arrived), from = u->arrived, to = from + n;
	char range[64];

	snprintf(range, sizeof(range), "%" PRIu64 "-%" PRIu64, from, to - 1);
	struct oci_http_body body = {.type = OCTETS,
		.fd = u->fd,
		.off = from,
		.len = n,
		.range = range,
		.on_sent = on_sent,
		.user = u};
	struct oci_place_request rq = {
		.method = OCI_HTTP_PATCH, .url = u->url, .body = &body, .tries = 1, .answer_s = COMMIT_S};
	int r = oci_place_send(u->c, oci_conn_origin(u->c), &rq, e);
	if (r == -ECANCELED || r == -ENOMEM || r == -EPROTO || r == -EACCES)
		return r;
	long status = r < 0 ? 0 : oci_http_response(u->c->http)->status;
	if (r == 0 && is_success(status)) {
		take_chunk_min(u);
		r = take_location(u, e);
		if (r == 0)
			r = take_arrived(u, to, e);
		return r < 0 ? r : check_progress(u, to, e);
	}
	if (r == 0 && wants_whole(status)) {
		log_debug("registry: %s takes no chunks (HTTP status %ld)", oci_conn_origin(u->c)->domain,
			status);
		u->whole = true;
		return begin(u, e);
	}
	if (r == 0 && status != 416 && status != 404 && !is_transient(status))
		return refused(u, e);
	if (r == 0)
		r = refused(u, e); /* what is said if it does not pass */
	int again = may_pass(u, e);
	return again > 0 ? ask_arrived(u, to, e) : again < 0 ? again : r;
}

/* Ends the upload, with what is left of the blob. 0: it is there. 1: once more. */
static int commit(struct upload *u, struct err *e)
{
	CLEANUP_FREE char *url =
		str_printf("%s%cdigest=%s", u->url, strchr(u->url, '?') ? '&' : '?', u->digest);
	struct oci_http_body body = {.type = OCTETS,
		.fd = u->fd,
		.off = u->arrived,
		.len = u->size - u->arrived,
		.on_sent = on_sent,
		.user = u};

	if (!url)
		return err_oom(e);
	struct oci_place_request rq = {
		.method = OCI_HTTP_PUT, .url = url, .body = &body, .tries = 1, .answer_s = COMMIT_S};
	int r = oci_place_send(u->c, oci_conn_origin(u->c), &rq, e);
	if (r == -ECANCELED || r == -ENOMEM || r == -EPROTO || r == -EACCES)
		return r;
	long status = r < 0 ? 0 : oci_http_response(u->c->http)->status;
	if (r == 0 && is_success(status))
		return 0;
	if (r == 0 && status != 404 && status != 416 && !is_transient(status))
		return refused(u, e);
	if (r == 0)
		r = refused(u, e);
	int again = may_pass(u, e);
	if (again <= 0)
		return again < 0 ? again : r;
	/* It may have come all the same, and only the answer was lost. */
	int has = oci_conn_has_blob(u->c, u->digest, e);
	if (has != 0)
		return MIN_OF(has, 0);
	again = begin_anew(u, r, e);
	return again < 0 ? again : 1;
}

int oci_conn_upload(struct oci_conn *c, const char *digest, int fd, uint64_t size,
	void (*on_bytes)(void *data, uint64_t bytes), void *data, struct err *e)
{
	CLEANUP(upload_done)
	struct upload u = {.c = c,
		.digest = digest,
		.fd = fd,
		.size = size,
		.chunk = CHUNK,
		.on_bytes = on_bytes,
		.data = data};

	c->digest[0] = '\0';
	snprintf(u.what, sizeof(u.what), "the upload of %.19s", digest);
	int r = begin(&u, e);
	while (r >= 0) {
		bool chunks = !u.whole && (u.arrived ? u.arrived < size : size > u.chunk);
		if (chunks) {
			r = send_chunk(&u, e);
			continue;
		}
		r = commit(&u, e);
		if (r == 0) {
			tell(&u, size);
			return 0;
		}
	}
	return r;
}

/* ---- manifests ---- */

int oci_conn_put_manifest(struct oci_conn *c, const char *tag_or_digest, const char *type, const void *data,
	size_t n, struct err *e)
{
	CLEANUP_FREE char *path = str_printf("manifests/%s", tag_or_digest);
	CLEANUP_FREE char *what = str_printf("manifest %s", tag_or_digest);
	struct oci_http_body body = {.type = type, .data = data, .fd = -1, .len = n};
	char digest[OCI_DIGEST_MAX];

	c->digest[0] = '\0';
	if (!path || !what)
		return err_oom(e);
	int r = oci_digest_of(data, n, digest, e);
	if (r < 0)
		return r;
	struct oci_place_request rq = {.method = OCI_HTTP_PUT, .path = path, .body = &body, .small = true};
	r = oci_place_send(c, oci_conn_origin(c), &rq, e);
	if (r < 0)
		return r;
	const struct oci_http_response *resp = oci_http_response(c->http);
	if (!is_success(resp->status))
		return oci_place_refused(c, oci_conn_origin(c), what, e);
	if (resp->docker_digest && strncmp(resp->docker_digest, "sha256:", 7) == 0 &&
		strcmp(resp->docker_digest, digest) != 0)
		return err_set(e, -EBADMSG, "%s has kept %s as %.80s instead of %s",
			oci_conn_origin(c)->domain, what, resp->docker_digest, digest);
	return 0;
}
