/* SPDX-License-Identifier: MIT */
#include "registry.h"

#include <string.h>
#include <strings.h>

#include "base/io.h"
#include "base/log.h"

#define ACCEPT		OCI_TYPE_INDEX ", " DOCKER_TYPE_LIST ", " OCI_TYPE_MANIFEST ", " DOCKER_TYPE_MANIFEST
#define DOCKER_HUB_HOST "registry-1.docker.io"
#define TOKEN_MAX	(1u << 20) /* bytes of an answer with a token */

struct oci_registry {
	const struct oci_reference *ref;
	struct oci_http *http;
	bool plain_ok;
	const char *scheme;  /* "https" or "http" */
	char *basic;	     /* base64 of user and password, or NULL */
	char *authorization; /* header value that worked last, or NULL */
};

static const char *host_of(const struct oci_registry *r)
{
	return strcmp(r->ref->domain, "docker.io") == 0 ? DOCKER_HUB_HOST : r->ref->domain;
}

/* The scheme is tried out once: a registry on this machine often has no TLS. */
static int find_scheme(struct oci_registry *r, bool plain_only, struct err *e)
{
	bool may_be_plain = r->plain_ok || oci_http_is_loopback(host_of(r));

	r->scheme = plain_only ? "http" : "https";
	for (;;) {
		CLEANUP_FREE char *url = str_printf("%s://%s/v2/", r->scheme, host_of(r));
		if (!url)
			return err_oom(e);
		struct oci_http_request rq = {.url = url};
		int rc = oci_http_get(r->http, &rq, e);
		if (rc >= 0)
			return 0;
		if ((rc != -EPROTO && rc != -ECONNREFUSED) || !may_be_plain || strcmp(r->scheme, "http") == 0)
			return rc;
		log_debug("registry: %s does not speak TLS, using HTTP", host_of(r));
		r->scheme = "http";
	}
}

int oci_registry_open(const struct oci_reference *ref, const struct oci_pull_opts *o,
	struct oci_registry **ret, struct err *e)
{
	CLEANUP(oci_registry_closep) struct oci_registry *r = calloc(1, sizeof(*r));
	struct oci_http_opts opts = {.plain_ok = o->plain_http, .tls_verify = o->tls_verify};

	if (!r)
		return err_oom(e);
	r->ref = ref;
	r->plain_ok = o->plain_http;
	int rc = oci_auth_find(ref->domain, &r->basic, e);
	if (rc == 0)
		rc = oci_http_new(&opts, &r->http, e);
	if (rc == 0)
		rc = find_scheme(r, o->plain_http, e);
	if (rc < 0)
		return rc;
	*ret = TAKE_PTR(r);
	return 0;
}

void oci_registry_close(struct oci_registry *r)
{
	if (!r)
		return;
	oci_http_free(r->http);
	free(r->basic);
	free(r->authorization);
	free(r);
}

/* ---- authentication ---- */

/* Appends text to a URL's query, percent-encoded. */
static char *query_encode(const char *s)
{
	char *out = malloc(3 * strlen(s) + 1), *p = out;

	for (; out && *s; s++) {
		bool plain = (*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') ||
			     (*s >= '0' && *s <= '9') || strchr("-._~:/", *s);
		p += plain ? sprintf(p, "%c", *s) : sprintf(p, "%%%02X", (unsigned char)*s);
	}
	if (out)
		*p = '\0';
	return out;
}

static char *token_url(const struct oci_registry *r, const struct oci_challenge *c)
{
	/* The scope is ours to name: the server's word for it could ask for more than reading this
	 * repository. */
	CLEANUP_FREE char *scope = str_printf("repository:%s:pull", r->ref->path);
	CLEANUP_FREE char *scope_q = scope ? query_encode(scope) : NULL;
	CLEANUP_FREE char *service_q = query_encode(c->service ? c->service : "");

	if (!scope_q || !service_q)
		return NULL;
	return str_printf(
		"%s%cservice=%s&scope=%s", c->realm, strchr(c->realm, '?') ? '&' : '?', service_q, scope_q);
}

static void json_done(json_t **j)
{
	json_decref(*j);
}

/* A token goes into a header: nothing in it may end that. */
static bool token_valid(const char *s)
{
	if (!s || !*s)
		return false;
	for (; *s; s++)
		if ((unsigned char)*s <= 0x20 || (unsigned char)*s >= 0x7f)
			return false;
	return true;
}

static int take_token(struct oci_registry *r, struct err *e)
{
	CLEANUP(json_done) json_t *j = NULL;
	CLEANUP_FREE char *body = NULL;
	size_t n;

	long status = oci_http_response(r->http)->status;
	if (status == 401 || status == 403)
		return err_set(e, -EACCES, "the credentials were refused");
	if (status != 200)
		return err_set(e, -EACCES, "the token server answered with HTTP status %ld", status);
	int rc = oci_http_read_all(r->http, TOKEN_MAX, &body, &n, e);
	if (rc == 0)
		rc = oci_json_parse("the token server's answer", body, n, &j, e);
	if (rc < 0)
		return rc;
	const char *token = json_string_value(json_object_get(j, "token"));
	if (!token)
		token = json_string_value(json_object_get(j, "access_token"));
	if (!token_valid(token))
		return err_set(e, -EBADMSG, "the token server's answer has no token");
	r->authorization = str_printf("Bearer %s", token);
	return r->authorization ? 0 : err_oom(e);
}

static int fetch_token(struct oci_registry *r, const struct oci_challenge *c, struct err *e)
{
	if (!c->realm)
		return err_set(e, -EPROTO, "the registry asks for a token but does not say where to get one");
	CLEANUP_FREE char *url = token_url(r, c);
	CLEANUP_FREE char *basic = r->basic ? str_printf("Basic %s", r->basic) : NULL;
	if (!url || (r->basic && !basic))
		return err_oom(e);
	struct oci_http_request rq = {.url = url, .authorization = basic, .accept = "application/json"};
	int rc = oci_http_get(r->http, &rq, e);
	return rc < 0 ? rc : take_token(r, e);
}

/* Answers the challenge in the present response. */
static int authenticate(struct oci_registry *r, struct err *e)
{
	struct oci_challenge c = oci_http_response(r->http)->challenge;
	CLEANUP_FREE char *realm = str_dup(c.realm), *service = str_dup(c.service);

	/* The next request drops the response with its strings. */
	c.realm = realm;
	c.service = service;
	free(r->authorization);
	r->authorization = NULL;
	if (c.bearer)
		return fetch_token(r, &c, e);
	if (c.basic && r->basic) {
		r->authorization = str_printf("Basic %s", r->basic);
		return r->authorization ? 0 : err_oom(e);
	}
	err_set(e, -EACCES, "%s wants to know who you are", r->ref->domain);
	return err_hint(e, "store credentials with `docker login %s` or the like", r->ref->domain);
}

/* GET below the repository; authenticates when asked to, once. */
static int get(struct oci_registry *r, const char *what, const char *name, const char *accept, struct err *e)
{
	CLEANUP_FREE char *url =
		str_printf("%s://%s/v2/%s/%s/%s", r->scheme, host_of(r), r->ref->path, what, name);

	if (!url)
		return err_oom(e);
	for (bool again = false;; again = true) {
		struct oci_http_request rq = {
			.url = url, .authorization = r->authorization, .accept = accept};
		int rc = oci_http_get(r->http, &rq, e);
		if (rc < 0)
			return rc;
		const struct oci_http_response *resp = oci_http_response(r->http);
		if (resp->status == 200)
			return 0;
		if (resp->status == 401 && resp->elsewhere)
			return err_set(
				e, -EACCES, "%s redirected to a server that refused access", r->ref->domain);
		if (resp->status == 401 && !again) {
			rc = authenticate(r, e);
			if (rc < 0)
				return rc;
			continue;
		}
		if (resp->status == 404)
			return err_set(e, -ENOENT, "%s has no such image", r->ref->domain);
		/* Docker Hub says 401 for what does not exist, too. */
		if (resp->status == 401 || resp->status == 403)
			return err_set(e, -EACCES, "%s refused access: it does not exist or is private",
				r->ref->domain);
		if (resp->status == 429)
			return err_set(e, -EBUSY, "%s is limiting requests; try again later", r->ref->domain);
		return err_set(e, -EIO, "%s answered with HTTP status %ld", r->ref->domain, resp->status);
	}
}

/* ---- content ---- */

int oci_registry_manifest(struct oci_registry *r, const char *tag_or_digest, char **ret, size_t *ret_n,
	char ret_digest[OCI_DIGEST_MAX], char **ret_type, struct err *e)
{
	bool by_digest = oci_digest_valid(tag_or_digest);
	CLEANUP_FREE char *body = NULL;
	CLEANUP(oci_hash_freep) struct oci_hash *hash = NULL;
	size_t n;

	int rc = get(r, "manifests", tag_or_digest, ACCEPT, e);
	if (rc == 0)
		rc = oci_http_read_all(r->http, OCI_JSON_MAX, &body, &n, e);
	if (rc == 0)
		rc = oci_hash_new(by_digest ? tag_or_digest : NULL, &hash, e);
	if (rc < 0)
		return rc;
	oci_hash_update(hash, body, n);
	oci_hash_final(hash, ret_digest);
	if (!*ret_digest)
		return err_set(e, -EIO, "cannot compute a digest");
	const struct oci_http_response *resp = oci_http_response(r->http);
	const char *expect = by_digest ? tag_or_digest : resp->docker_digest;
	if (expect && strncmp(expect, "sha256:", 7) == strncmp(ret_digest, "sha256:", 7) &&
		strcmp(expect, ret_digest) != 0)
		return err_set(e, -EBADMSG, "the manifest from %s has digest %s instead of %s",
			r->ref->domain, ret_digest, expect);
	*ret_type = NULL;
	if (resp->content_type) {
		*ret_type = strndup(resp->content_type, strcspn(resp->content_type, "; "));
		if (!*ret_type)
			return err_oom(e);
	}
	*ret = TAKE_PTR(body);
	*ret_n = n;
	return 0;
}

int oci_registry_blob(struct oci_registry *r, const char *digest, struct err *e)
{
	return get(r, "blobs", digest, NULL, e);
}

ssize_t oci_registry_read(struct oci_registry *r, void *buf, size_t n, struct err *e)
{
	return oci_http_read(r->http, buf, n, e);
}
