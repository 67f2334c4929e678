/* SPDX-License-Identifier: MIT */
#include "registry/url.h"

#include <arpa/inet.h>
#include <string.h>
#include <strings.h>

#include "base/io.h"
#include "base/units.h"
#include "registry/curl.h"

bool oci_http_is_loopback(const char *authority)
{
	bool v6 = *authority == '[';
	size_t n = v6 ? strcspn(authority, "]") : strcspn(authority, ":");
	const char *host = authority + v6;
	char text[INET6_ADDRSTRLEN];
	struct in6_addr a6;
	struct in_addr a4;

	if (v6 && (authority[n] != ']' || (authority[n + 1] && authority[n + 1] != ':')))
		return false;
	n -= v6;
	if (!v6 && n == 9 && strncasecmp(host, "localhost", 9) == 0)
		return true;
	if (n >= sizeof(text))
		return false;
	memcpy(text, host, n);
	text[n] = '\0';
	if (v6)
		return inet_pton(AF_INET6, text, &a6) == 1 && IN6_IS_ADDR_LOOPBACK(&a6);
	return inet_pton(AF_INET, text, &a4) == 1 && ntohl(a4.s_addr) >> 24 == 127;
}

char *oci_url_encode(const char *s)
{
	char *out = malloc(3 * strlen(s) + 1), *p = out;

	for (; out && *s; s++) {
		bool plain = (*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') ||
			     (*s >= '0' && *s <= '9') || strchr("-._~:/,", *s);
		p += plain ? sprintf(p, "%c", *s) : sprintf(p, "%%%02X", (unsigned char)*s);
	}
	if (out)
		*p = '\0';
	return out;
}

/* ---- parsing ---- */

struct parser {
	const struct libcurl *lib;
	CURLU *u;
};

static void parser_done(struct parser *p)
{
	if (p->u)
		p->lib->curl_url_cleanup(p->u);
}

/* A part as malloc'd text of ours, NULL when absent. */
static int part(const struct parser *p, CURLUPart what, unsigned flags, char **ret)
{
	char *s = NULL;

	*ret = NULL;
	if (p->lib->curl_url_get(p->u, what, &s, flags) != CURLUE_OK)
		return 0;
	*ret = strdup(s);
	p->lib->curl_free(s);
	return *ret ? 0 : -ENOMEM;
}

static bool has_part(const struct parser *p, CURLUPart what)
{
	char *s = NULL;

	if (p->lib->curl_url_get(p->u, what, &s, 0) != CURLUE_OK)
		return false;
	p->lib->curl_free(s);
	return true;
}

/* Whether text could hold a password, which is then not to be shown. */
static int not_http(const char *text, struct err *e)
{
	if (strchr(text, '@'))
		return err_set(e, -EPROTO, "an address carries credentials, or is no HTTP address");
	return err_set(e, -EPROTO, "%.200s is no HTTP address", text);
}

static bool printable(const char *s)
{
	size_t n = strnlen(s, OCI_URL_MAX);

	for (size_t i = 0; i < n; i++)
		if ((unsigned char)s[i] <= 0x20 || (unsigned char)s[i] >= 0x7f)
			return false;
	return n > 0 && n < OCI_URL_MAX;
}

static int take_parts(const struct parser *p, const char *text, struct oci_url *u, struct err *e)
{
	CLEANUP_FREE char *scheme = NULL, *port = NULL;
	uint16_t number;

	int r = part(p, CURLUPART_SCHEME, 0, &scheme);
	if (r == 0)
		r = part(p, CURLUPART_PORT, CURLU_DEFAULT_PORT, &port);
	if (r == 0)
		r = part(p, CURLUPART_HOST, 0, &u->host);
	if (r < 0)
		return err_oom(e);
	if (!scheme || (strcmp(scheme, "https") != 0 && strcmp(scheme, "http") != 0) || !u->host ||
		!*u->host || !port || parse_port(port, strlen(port), &number) < 0 || number == 0)
		return not_http(text, e);
	if (has_part(p, CURLUPART_USER) || has_part(p, CURLUPART_PASSWORD))
		return err_set(e, -EPROTO, "an address of %.200s carries credentials", u->host);
	u->tls = strcmp(scheme, "https") == 0;
	u->port = number;
	for (char *c = u->host; *c; c++)
		if (*c >= 'A' && *c <= 'Z')
			*c = (char)(*c - 'A' + 'a');
	return 0;
}

/* The registry says http and means itself, whom we reached by HTTPS: it stays HTTPS. */
static bool means_https(const struct oci_url *u, const struct oci_url *base)
{
	return base && base->tls && !u->tls && strcmp(u->host, base->host) == 0 &&
	       (u->port == base->port || (u->port == 80 && base->port == 443));
}

int oci_url_parse(const char *text, const struct oci_url *base, struct oci_url *ret, struct err *e)
{
	CLEANUP(oci_url_done) struct oci_url u = {0};
	CLEANUP(parser_done) struct parser p = {.lib = oci_curl(e)};

	if (!p.lib)
		return -ENOENT;
	p.u = p.lib->curl_url();
	if (!p.u)
		return err_oom(e);
	if (!printable(text))
		return err_set(e, -EPROTO, "an address of a server is empty, too long, or not in ASCII");
	if (base && p.lib->curl_url_set(p.u, CURLUPART_URL, base->text, 0) != CURLUE_OK)
		return not_http(base->text, e);
	CURLUcode rc = p.lib->curl_url_set(p.u, CURLUPART_URL, text, CURLU_NON_SUPPORT_SCHEME);
	if (rc == CURLUE_OUT_OF_MEMORY)
		return err_oom(e);
	if (rc != CURLUE_OK)
		return not_http(text, e);
	p.lib->curl_url_set(p.u, CURLUPART_FRAGMENT, NULL, 0);
	int r = take_parts(&p, text, &u, e);
	if (r < 0)
		return r;
	if (means_https(&u, base)) {
		u.tls = true;
		u.port = base->port;
		char number[8];
		snprintf(number, sizeof(number), "%u", base->port);
		if (p.lib->curl_url_set(p.u, CURLUPART_SCHEME, "https", 0) != CURLUE_OK ||
			p.lib->curl_url_set(p.u, CURLUPART_PORT, number, 0) != CURLUE_OK)
			return err_oom(e);
	}
	u.authority = u.port == (u.tls ? 443 : 80) ? strdup(u.host) : str_printf("%s:%u", u.host, u.port);
	if (!u.authority || part(&p, CURLUPART_URL, 0, &u.text) < 0 || !u.text)
		return err_oom(e);
	*ret = u;
	u = (struct oci_url){0};
	return 0;
}

void oci_url_done(struct oci_url *u)
{
	free(u->text);
	free(u->host);
	free(u->authority);
	*u = (struct oci_url){0};
}

bool oci_url_same_origin(const struct oci_url *a, const struct oci_url *b)
{
	return a->tls == b->tls && a->port == b->port && strcmp(a->host, b->host) == 0;
}
