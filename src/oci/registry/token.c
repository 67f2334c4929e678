/* SPDX-License-Identifier: MIT */
#include "registry/token.h"

#include <string.h>
#include <strings.h>

#include "base/buf.h"
#include "base/io.h"
#include "manifest.h"
#include "registry/answer.h"
#include "registry/config.h"

#define TOKEN_MAX  (1u << 20) /* bytes of an answer with a token */
#define LIFE_MIN_S 60	      /* what a token lives if nobody says how long; the specification's own number */
#define LIFE_MAX_S 86400
#define LEEWAY_S   10 /* so much earlier it is renewed */
#define CLIENT_ID  "a3s-box"

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

/* Appends "NAME=VALUE", the value encoded. */
static int add_pair(struct buf *b, const char *name, const char *value)
{
	CLEANUP_FREE char *encoded = oci_url_encode(value);
	CLEANUP_FREE char *pair = encoded ? str_printf("%s%s=%s", b->len ? "&" : "", name, encoded) : NULL;

	return pair ? buf_append(b, pair, strlen(pair)) : -ENOMEM;
}

static int add_query(struct buf *b, const struct oci_token_request *rq)
{
	int r = rq->service ? add_pair(b, "service", rq->service) : 0;

	for (size_t i = 0; r == 0 && i < OCI_TOKEN_SCOPES_MAX && rq->scopes[i]; i++)
		r = add_pair(b, "scope", rq->scopes[i]);
	return r;
}

/* Of identity tokens: all scopes are one value. */
static int add_form(struct buf *b, const struct oci_token_request *rq)
{
	CLEANUP_FREE char *scope = rq->scopes[0]
					   ? str_printf("%s%s%s", rq->scopes[0], rq->scopes[1] ? " " : "",
						     rq->scopes[1] ? rq->scopes[1] : "")
					   : strdup("");
	int r = scope ? add_pair(b, "grant_type", "refresh_token") : -ENOMEM;

	if (r == 0)
		r = add_pair(b, "service", rq->service ? rq->service : "");
	if (r == 0)
		r = add_pair(b, "client_id", CLIENT_ID);
	if (r == 0)
		r = add_pair(b, "refresh_token", rq->credentials->identity_token);
	return r == 0 && *scope ? add_pair(b, "scope", scope) : r;
}

/* The realm is the registry's to name: what it is given must not go over the wire for all to read. */
static int check_realm(const struct oci_token_request *rq, struct err *e)
{
	CLEANUP(oci_url_done) struct oci_url u = {0};

	int r = oci_url_parse(rq->realm, NULL, &u, e);
	if (r < 0) {
		err_wrap(e, "the token server");
		return r;
	}
	if (u.tls || oci_credentials_empty(rq->credentials) || oci_http_is_loopback(u.host) ||
		oci_registries_insecure(rq->registries, u.authority) ||
		strcasecmp(u.authority, rq->registry_host) == 0)
		return 0;
	return err_set(e, -EPROTO, "the token server %s is not encrypted: it does not get the credentials",
		u.authority);
}

static int take_token(const json_t *j, char **ret, uint64_t *ret_expires_ns, struct err *e)
{
	const char *token = json_string_value(json_object_get(j, "token"));
	const json_t *expires = json_object_get(j, "expires_in");
	json_int_t life = json_integer_value(expires);

	if (!token)
		token = json_string_value(json_object_get(j, "access_token"));
	if (!token_valid(token))
		return err_set(e, -EBADMSG, "the token server's answer has no token");
	if (!json_is_integer(expires) || life < LIFE_MIN_S)
		life = LIFE_MIN_S;
	life = MIN_OF(life, LIFE_MAX_S) - LEEWAY_S;
	*ret = strdup(token);
	*ret_expires_ns = time_mono_ns() + (uint64_t)life * 1000000000;
	return *ret ? 0 : err_oom(e);
}

static int refused(struct oci_http *h, const struct oci_token_request *rq, struct err *e)
{
	CLEANUP_FREE char *body = oci_http_error_body(h);
	long status = oci_http_response(h)->status;
	const char *who = oci_http_url(h)->authority;
	char text[300];

	oci_answer_text(body ? body : "", oci_http_response(h)->content_type, text, sizeof(text));
	const char *colon = *text ? ": " : "";
	if (status == 429)
		return err_set(e, -EBUSY, "the token server %s is limiting requests%s%s", who, colon, text);
	if (status != 400 && status != 401 && status != 403)
		return err_set(e, -EACCES, "the token server %s answered with HTTP status %ld%s%s", who,
			status, colon, text);
	if (oci_credentials_empty(rq->credentials))
		return err_set(e, -EACCES, "the token server %s refused access%s%s", who, colon, text);
	return err_set(e, -EACCES, "the token server %s refused the credentials%s%s", who, colon, text);
}

static int send_request(struct oci_http *h, const struct oci_token_request *rq, struct err *e)
{
	CLEANUP(buf_done) struct buf text = {0};
	CLEANUP_FREE char *url = NULL, *authorization = NULL, *basic = oci_credentials_basic(rq->credentials);
	bool form = rq->credentials->identity_token;
	struct oci_http_body body = {.type = "application/x-www-form-urlencoded", .fd = -1, .secret = true};

	int r = form ? add_form(&text, rq) : add_query(&text, rq);
	if (r == 0)
		r = buf_append(&text, "", 1);
	if (r < 0)
		return err_oom(e);
	const char *query = (const char *)buf_data(&text);
	if (form) {
		body.data = query;
		body.len = strlen(query);
		url = strdup(rq->realm);
	} else {
		url = str_printf("%s%s%s", rq->realm,
			!*query			 ? ""
			: strchr(rq->realm, '?') ? "&"
						 : "?",
			query);
		authorization = basic ? str_printf("Basic %s", basic) : NULL;
	}
	if (!url || (basic && !form && !authorization))
		return err_oom(e);
	struct oci_http_request get = {.method = form ? OCI_HTTP_POST : OCI_HTTP_GET,
		.url = url,
		.authorization = authorization,
		.accept = "application/json",
		.body = form ? &body : NULL,
		.small = true};
	r = oci_http_send(h, &get, e);
	explicit_bzero(buf_data(&text), text.len);
	return r;
}

int oci_token_fetch(struct oci_http *h, const struct oci_token_request *rq, char **ret,
	uint64_t *ret_expires_ns, struct err *e)
{
	CLEANUP(json_done) json_t *j = NULL;
	CLEANUP_FREE char *body = NULL;
	size_t n;

	int r = check_realm(rq, e);
	if (r == 0)
		r = send_request(h, rq, e);
	if (r < 0)
		return r;
	if (oci_http_response(h)->status != 200)
		return refused(h, rq, e);
	r = oci_http_read_all(h, TOKEN_MAX, &body, &n, e);
	if (r == 0)
		r = oci_json_parse("the token server's answer", body, n, &j, e);
	return r < 0 ? r : take_token(j, ret, ret_expires_ns, e);
}
