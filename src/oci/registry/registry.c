/* SPDX-License-Identifier: MIT */
/* Where a registry is, and how one gets in: places, schemes, tokens. */
#include "registry/registry.h"

#include <string.h>
#include <strings.h>

#include "base/io.h"
#include "base/log.h"
#include "registry/answer.h"
#include "registry/conn.h"
#include "registry/tls.h"
#include "registry/token.h"

#define DOCKER_HUB	"docker.io"
#define DOCKER_HUB_HOST "registry-1.docker.io"
#define PROBE_S		5 /* to connect with TLS where there may be none: a server without it may just wait */
#define MIRROR_TRIES	2 /* there is somebody else to ask */

/* ---- places ---- */

static void place_done(struct oci_place *p)
{
	free(p->domain);
	free(p->host);
	free(p->prefix);
	free(p->repository);
	free(p->realm);
	free(p->service);
	for (size_t i = 0; i < OCI_SCOPES; i++)
		free(p->tokens[i].authorization);
	free(p->failure);
	oci_credentials_done(&p->credentials);
	free(p->no_credentials);
}

static bool place_ok(const struct oci_place *p)
{
	return p->domain && p->host && p->prefix && p->repository;
}

/*
 * On this machine TLS is rare, and trying it out takes the time to read the system's CAs. Whoever put a certificate in its
 * place says that there is TLS; and without a port in its name the schemes are two servers, of which that with TLS is meant.
 */
static int guess_scheme(struct oci_registry *r, struct oci_place *p, struct err *e)
{
	const char *bracket = strchr(p->host, ']'); /* of an IPv6 address */
	bool certificates = r->cert_dir;
	int rc = certificates ? 0 : oci_tls_configured(p->host, &certificates, e);

	p->plain = rc == 0 && !certificates && strchr(bracket ? bracket : p->host, ':');
	return rc;
}

/* The registry itself. */
static int set_origin(
	struct oci_registry *r, const struct oci_reference *ref, struct oci_place *p, struct err *e)
{
	bool hub = strcmp(ref->domain, DOCKER_HUB) == 0;

	p->domain = strdup(ref->domain);
	p->host = strdup(hub ? DOCKER_HUB_HOST : ref->domain);
	p->prefix = strdup("");
	p->repository = strdup(ref->path);
	if (!place_ok(p))
		return err_oom(e);
	p->plain = p->settled = r->opts.plain_http;
	bool loopback = oci_http_is_loopback(p->host);
	p->may_be_plain = loopback || oci_registries_insecure(r->registries, p->host);
	return loopback && !p->settled ? guess_scheme(r, p, e) : 0;
}

/* url was checked when the configuration was read. */
static int set_mirror(const char *url, const struct oci_reference *ref, struct oci_place *p, struct err *e)
{
	const char *authority = strstr(url, "://") + 3;
	size_t n = strcspn(authority, "/");
	const char *path = authority + n;
	bool project = strncmp(path, "/v2/", 4) == 0;

	p->mirror = p->settled = true;
	p->plain = strncmp(url, "http://", 7) == 0;
	p->domain = strndup(authority, n);
	p->host = strndup(authority, n);
	p->prefix = strdup(project ? "" : path);
	p->repository = project ? str_printf("%s/%s", path + 4, ref->path) : strdup(ref->path);
	return place_ok(p) ? 0 : err_oom(e);
}

static int find_places(struct oci_registry *r, const struct oci_reference *ref, struct err *e)
{
	size_t n = 0;
	const char *const *mirrors =
		r->access == OCI_ACCESS_PULL ? oci_registries_mirrors(r->registries, ref->domain, &n) : NULL;

	r->places = calloc(n + 1, sizeof(*r->places));
	if (!r->places)
		return err_oom(e);
	int rc = 0;
	for (r->n_places = 0; rc == 0 && r->n_places < n;) {
		struct oci_place *p = &r->places[r->n_places++];
		rc = set_mirror(mirrors[r->n_places - 1], ref, p, e);
	}
	if (rc == 0)
		rc = set_origin(r, ref, &r->places[r->n_places++], e);
	return rc;
}

int oci_registry_open(const struct oci_reference *ref, const struct oci_remote_opts *o, int home_fd,
	enum oci_access access, const char *from, struct oci_registry **ret, struct err *e)
{
	CLEANUP(oci_registry_closep) struct oci_registry *r = calloc(1, sizeof(*r));

	if (!r)
		return err_oom(e);
	pthread_mutex_init(&r->lock, NULL);
	pthread_mutex_init(&r->credentials_lock, NULL);
	r->opts = *o;
	r->cert_dir = str_dup(o->cert_dir);
	r->opts.cert_dir = r->cert_dir;
	r->access = access;
	r->name = oci_reference_repo(ref);
	r->from = str_dup(from);
	if (!r->name || (from && !r->from) || (o->cert_dir && !r->cert_dir))
		return err_oom(e);
	int rc = oci_registries_read(home_fd, &r->registries, e);
	if (rc == 0)
		rc = find_places(r, ref, e);
	if (rc < 0)
		return rc;
	*ret = TAKE_PTR(r);
	return 0;
}

void oci_registry_close(struct oci_registry *r)
{
	if (!r)
		return;
	for (size_t i = 0; i < r->n_places; i++)
		place_done(&r->places[i]);
	free(r->places);
	oci_registries_free(r->registries);
	pthread_mutex_destroy(&r->lock);
	pthread_mutex_destroy(&r->credentials_lock);
	free(r->cert_dir);
	free(r->name);
	free(r->from);
	free(r);
}

/* ---- connections ---- */

int oci_conn_new(struct oci_registry *r, struct oci_conn **ret, struct err *e)
{
	CLEANUP(oci_conn_freep) struct oci_conn *c = calloc(1, sizeof(*c));

	if (!c)
		return err_oom(e);
	c->r = r;
	c->at = &r->places[r->n_places - 1];
	struct oci_http_opts o = {.plain_ok = r->opts.plain_http,
		.tls_verify = r->opts.tls_verify,
		.cert_dir = r->cert_dir,
		.cert_host = oci_conn_origin(c)->host,
		.registries = r->registries};
	int rc = oci_http_new(&o, &c->http, e);
	if (rc < 0)
		return rc;
	*ret = TAKE_PTR(c);
	return 0;
}

void oci_conn_free(struct oci_conn *c)
{
	if (!c)
		return;
	oci_http_free(c->http);
	free(c->upload);
	free(c);
}

void oci_conn_cancel(struct oci_conn *c)
{
	oci_http_cancel(c->http);
}

/* ---- authentication ---- */

/*
 * They are asked for when a place wants them: most images are anybody's, and a helper may want to be
 * unlocked.
 */
static const struct oci_credentials *credentials_of(struct oci_registry *r, struct oci_place *p)
{
	struct err e = {0};

	pthread_mutex_lock(&r->credentials_lock);
	if (!p->asked && oci_credentials_find(p->domain, p->repository, &p->credentials, &e) < 0) {
		/* What is public can be had without: it is said only if access is refused. */
		log_debug("registry: %s: %s", p->domain, e.msg);
		p->no_credentials = strdup(e.msg);
	}
	p->asked = true;
	pthread_mutex_unlock(&r->credentials_lock);
	return &p->credentials; /* does not change any more */
}

/* Sets a token, or whatever goes into the header. Takes value. */
static void keep(
	struct oci_registry *r, struct oci_place *p, enum oci_scope scope, char *value, uint64_t expires_ns)
{
	pthread_mutex_lock(&r->lock);
	free(p->tokens[scope].authorization);
	p->tokens[scope].authorization = value;
	p->tokens[scope].expires_ns = expires_ns;
	pthread_mutex_unlock(&r->lock);
}

static int fetch_token(struct oci_conn *c, struct oci_place *p, enum oci_scope scope, const char *realm,
	const char *service, struct err *e)
{
	const struct oci_credentials *cr = credentials_of(c->r, p);
	uint64_t expires_ns = UINT64_MAX;
	CLEANUP_FREE char *mine = NULL, *other = NULL, *token = NULL;

	/*
	 * The scope is ours to name: the server's word for it could ask for more than reading this
	 * repository.
	 */
	mine = str_printf(
		"repository:%s:%s", p->repository, c->r->access == OCI_ACCESS_PUSH ? "pull,push" : "pull");
	other = c->r->from ? str_printf("repository:%s:pull", c->r->from) : NULL;
	if (!mine || (c->r->from && !other))
		return err_oom(e);
	if (cr->registry_token) {
		token = strdup(cr->registry_token);
	} else {
		struct oci_token_request rq = {.realm = realm,
			.service = service,
			.scopes = {scope == OCI_SCOPE_LOGIN ? NULL : mine,
				scope == OCI_SCOPE_MOUNT ? other : NULL},
			.credentials = cr,
			.registry_host = p->host,
			.registries = c->r->registries};
		int r = oci_token_fetch(c->http, &rq, &token, &expires_ns, e);
		if (r < 0)
			return r;
	}
	char *value = token ? str_printf("Bearer %s", token) : NULL;
	if (!value)
		return err_oom(e);
	if (strpbrk(value, "\r\n")) {
		free(value);
		return err_set(e, -EBADMSG, "the registry token that is stored for it is no token");
	}
	keep(c->r, p, scope, value, expires_ns);
	return 0;
}

static int use_password(struct oci_conn *c, struct oci_place *p, enum oci_scope scope, struct err *e)
{
	const struct oci_credentials *cr = credentials_of(c->r, p);
	CLEANUP_FREE char *basic = oci_credentials_basic(cr);
	char *value = basic ? str_printf("Basic %s", basic) : NULL;

	if (value) {
		keep(c->r, p, scope, value, UINT64_MAX);
		pthread_mutex_lock(&c->r->lock);
		p->basic = true;
		pthread_mutex_unlock(&c->r->lock);
		return 0;
	}
	if (cr->user)
		return err_oom(e);
	if (p->no_credentials)
		return err_set(e, -EACCES, "%s wants to know who you are: %s", p->domain, p->no_credentials);
	err_set(e, -EACCES, "%s wants to know who you are", p->domain);
	return err_hint(e, "a3s-box login %.200s", p->domain);
}

/* Answers the challenge in the present response; used: what was sent. */
static int authenticate(
	struct oci_conn *c, struct oci_place *p, enum oci_scope scope, const char *used, struct err *e)
{
	const struct oci_challenge *ch = &oci_http_response(c->http)->challenge;
	CLEANUP_FREE char *realm = str_dup(ch->realm), *service = str_dup(ch->service);
	bool bearer = ch->bearer;

	if ((ch->realm && !realm) || (ch->service && !service))
		return err_oom(e);
	pthread_mutex_lock(&c->r->lock);
	const char *now = p->tokens[scope].authorization;
	bool renewed = now && (!used || strcmp(now, used) != 0); /* by another thread */
	if (bearer && realm) {
		free(p->realm);
		free(p->service);
		p->realm = str_dup(realm);
		p->service = str_dup(service);
	}
	pthread_mutex_unlock(&c->r->lock);
	if (renewed)
		return 0;
	if (!bearer && !ch->basic)
		return err_set(
			e, -EACCES, "%s refused access and does not say what it wants to know", p->domain);
	if (!bearer)
		return use_password(c, p, scope, e);
	if (!realm)
		return err_set(
			e, -EPROTO, "%s asks for a token but does not say where to get one", p->domain);
	return fetch_token(c, p, scope, realm, service, e);
}

/*
 * What goes into the header; *ret NULL: nothing yet. A token near its end is renewed before something is sent
 * with it.
 */
static int authorization(
	struct oci_conn *c, struct oci_place *p, enum oci_scope scope, char **ret, struct err *e)
{
	CLEANUP_FREE char *realm = NULL, *service = NULL;
	int rc = 0;

	for (bool again = false;; again = true) {
		pthread_mutex_lock(&c->r->lock);
		const char *have = p->tokens[scope].authorization;
		bool good = have && p->tokens[scope].expires_ns > time_mono_ns();
		*ret = good || (have && again) ? strdup(have) : NULL;
		bool oom = have && (good || again) && !*ret;
		bool password = !have && p->basic;
		if (!again) {
			realm = str_dup(p->realm);
			service = str_dup(p->service);
		}
		pthread_mutex_unlock(&c->r->lock);
		if (oom)
			return err_oom(e);
		if (*ret || again || (!realm && !password))
			return 0;
		rc = password ? use_password(c, p, scope, e) : fetch_token(c, p, scope, realm, service, e);
		if (rc < 0)
			return rc;
	}
}

/* ---- requests ---- */

static char *address_of(
	struct oci_conn *c, struct oci_place *p, const struct oci_place_request *rq, bool *ret_settled)
{
	pthread_mutex_lock(&c->r->lock);
	const char *scheme = p->plain ? "http" : "https";
	*ret_settled = p->settled;
	pthread_mutex_unlock(&c->r->lock);
	if (rq->url)
		return strdup(rq->url);
	return rq->base ? str_printf("%s://%s%s/v2/%s", scheme, p->host, p->prefix, rq->path)
			: str_printf(
				  "%s://%s%s/v2/%s/%s", scheme, p->host, p->prefix, p->repository, rq->path);
}

/* Whether an address that a registry gave is its own: only then does it get what the registry gets. */
static bool own_address(struct oci_conn *c, struct oci_place *p, const char *url)
{
	CLEANUP(oci_url_done) struct oci_url a = {0}, b = {0};
	bool settled;
	CLEANUP_FREE char *base =
		address_of(c, p, &(struct oci_place_request){.path = "", .base = true}, &settled);

	return base && oci_url_parse(url, NULL, &a, NULL) == 0 && oci_url_parse(base, NULL, &b, NULL) == 0 &&
	       oci_url_same_origin(&a, &b);
}

static void set_scheme(struct oci_conn *c, struct oci_place *p, bool plain, bool settled)
{
	pthread_mutex_lock(&c->r->lock);
	if (!p->settled) { /* else another thread was faster */
		p->plain = plain;
		p->settled = settled;
	}
	pthread_mutex_unlock(&c->r->lock);
}

/*
 * What came of a request without TLS, sent to find out whether that is spoken. A server that does not answers with status
 * 400, with what is no HTTP, or not at all, or sends us to HTTPS. Returns whether it is to be sent again.
 */
static bool tried_plain(struct oci_conn *c, struct oci_place *p, int rc)
{
	const struct oci_url *at = oci_http_url(c->http);

	if (rc == 0 && at->tls && strcasecmp(at->authority, p->host) == 0) {
		set_scheme(c, p, false, true);
		return true;
	}
	if (rc == -EIO || (rc == 0 && oci_http_response(c->http)->status == 400)) {
		set_scheme(c, p, false, false);
		return true;
	}
	if (rc < 0 && rc != -ETIMEDOUT)
		return false;
	set_scheme(c, p, true, true);
	return false;
}

/* The same of one with TLS. */
static bool tried_tls(struct oci_conn *c, struct oci_place *p, int rc)
{
	if (rc == -EPROTO || rc == -ECONNREFUSED || rc == -ETIMEDOUT) {
		log_debug("registry: %s does not speak TLS, using HTTP", p->host);
		set_scheme(c, p, true, true);
		return true;
	}
	if (rc < 0 && rc != -EIO)
		return false;
	set_scheme(c, p, false, true);
	return rc < 0;
}

/*
 * Sends once. Where TLS may be missing, that is tried out with the first request, to which nobody has asked for credentials
 * yet.
 */
static int send_once(struct oci_conn *c, struct oci_place *p, const struct oci_place_request *rq,
	const char *authorization, struct err *e)
{
	for (;;) {
		bool settled;
		CLEANUP_FREE char *url = address_of(c, p, rq, &settled);
		if (!url)
			return err_oom(e);
		bool probe = !settled && p->may_be_plain && !rq->url;
		bool plain = strncmp(url, "http:", 5) == 0;
		struct oci_http_request out = {.method = rq->method,
			.url = url,
			.authorization = probe ? NULL : authorization,
			.accept = rq->accept,
			.from = rq->from,
			.body = rq->body,
			.small = rq->small,
			.probe = probe,
			.tries = rq->tries   ? rq->tries
				 : p->mirror ? MIRROR_TRIES
					     : OCI_HTTP_TRIES,
			.connect_s = probe && !plain ? PROBE_S : 0,
			.answer_s = rq->answer_s};
		int rc = oci_http_send(c->http, &out, e);
		if (!probe || !(plain ? tried_plain(c, p, rc) : tried_tls(c, p, rc)))
			return rc;
	}
}

int oci_place_send(struct oci_conn *c, struct oci_place *p, const struct oci_place_request *rq, struct err *e)
{
	bool own = !rq->url || own_address(c, p, rq->url);

	c->at = p;
	for (bool again = false;; again = true) {
		CLEANUP_FREE char *header = NULL;
		int rc = own ? authorization(c, p, rq->scope, &header, e) : 0;
		if (rc == 0)
			rc = send_once(c, p, rq, header, e);
		if (rc < 0)
			return rc;
		const struct oci_http_response *resp = oci_http_response(c->http);
		if (resp->status != 401)
			return 0;
		if (resp->elsewhere || !own)
			return err_set(
				e, -EACCES, "%s redirected to a server that refused access", p->domain);
		if (again || (!resp->challenge.bearer && !resp->challenge.basic))
			return 0;
		rc = authenticate(c, p, rq->scope, header, e);
		if (rc < 0)
			return rc;
	}
}

static int limited(const struct oci_http_response *resp, const char *who, const char *said, struct err *e)
{
	const char *colon = *said ? ": " : "";

	if (resp->retry_after_s > 0)
		return err_set(e, -EBUSY, "%s is limiting requests; it says to try again in %lld s%s%s", who,
			(long long)resp->retry_after_s, colon, said);
	return err_set(e, -EBUSY, "%s is limiting requests; try again later%s%s", who, colon, said);
}

int oci_place_refused(struct oci_conn *c, const struct oci_place *p, const char *what, struct err *e)
{
	CLEANUP_FREE char *body = oci_http_error_body(c->http);
	const struct oci_http_response *resp = oci_http_response(c->http);
	char text[400];

	oci_answer_text(body ? body : "", resp->content_type, text, sizeof(text));
	const char *colon = *text ? ": " : "";
	switch (resp->status) {
	case 404:
		return err_set(e, -ENOENT, "%s has no %s%s%s", p->domain, what, colon, text);
	case 401:
	case 403:
		/* Docker Hub says this for what does not exist, too. */
		err_set(e, -EACCES, "%s refused access to %s%s%s", p->domain, what, colon,
			*text ? text : ": it does not exist or is private");
		if (p->no_credentials)
			return err_hint(e, "%.200s", p->no_credentials);
		return err_hint(e, "a3s-box login %.200s", p->domain);
	case 413:
		return err_set(e, -EFBIG, "%s finds %s too large%s%s", p->domain, what, colon, text);
	case 429:
		return limited(resp, p->domain, text, e);
	default:
		err_set(e, -EIO, "%s answered with HTTP status %ld when asked about %s%s%s", p->domain,
			resp->status, what, colon, text);
		if (resp->status == 400 && c->r->opts.plain_http && !oci_http_url(c->http)->tls)
			err_hint(e, "it may speak TLS: leave out --plain-http");
		return -EIO;
	}
}

/* ---- one place after the other ---- */

static void note_failure(struct oci_conn *c, struct oci_place *p, int rc, const struct err *e)
{
	log_debug("registry: mirror %s: %s", p->host, e->msg);
	pthread_mutex_lock(&c->r->lock);
	p->bad |= rc != -ENOENT; /* that something is missing there is nobody's fault */
	free(p->failure);
	p->failure = strdup(e->msg);
	pthread_mutex_unlock(&c->r->lock);
}

static bool to_be_asked(struct oci_conn *c, size_t i)
{
	pthread_mutex_lock(&c->r->lock);
	bool yes = i >= c->r->preferred && !c->r->places[i].bad;
	pthread_mutex_unlock(&c->r->lock);
	return yes;
}

/* If nobody has it, the mirrors' reasons stand behind the registry's own. */
static void name_mirrors(struct oci_conn *c, struct err *e)
{
	pthread_mutex_lock(&c->r->lock);
	for (size_t i = 0; e && i + 1 < c->r->n_places; i++) {
		const struct oci_place *p = &c->r->places[i];
		char msg[ERR_MSG_MAX];
		if (!p->failure)
			continue;
		snprintf(msg, sizeof(msg), "%.600s; before, mirror %.100s: %.250s", e->msg, p->host,
			p->failure);
		memcpy(e->msg, msg, sizeof(msg));
	}
	pthread_mutex_unlock(&c->r->lock);
}

int oci_conn_try(struct oci_conn *c,
	int (*fn)(struct oci_conn *c, struct oci_place *p, void *data, struct err *e), void *data,
	struct err *e)
{
	size_t n = c->r->n_places;
	struct err mirror_error = {0};

	for (size_t i = c->r->access == OCI_ACCESS_PUSH ? n - 1 : 0; i + 1 < n; i++) {
		if (!to_be_asked(c, i))
			continue;
		int rc = fn(c, &c->r->places[i], data, &mirror_error);
		if (rc >= 0)
			return rc;
		if (rc == -ECANCELED || rc == -ENOMEM) {
			if (e)
				*e = mirror_error;
			return rc;
		}
		note_failure(c, &c->r->places[i], rc, &mirror_error);
	}
	int rc = fn(c, &c->r->places[n - 1], data, e);
	if (rc < 0 && rc != -ECANCELED)
		name_mirrors(c, e);
	return rc;
}
