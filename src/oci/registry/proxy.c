/* SPDX-License-Identifier: MIT */
#include "registry/proxy.h"

#include <arpa/inet.h>
#include <string.h>
#include <strings.h>

#include "base/io.h"
#include "base/units.h"
#include "registry/curl.h"

static const char *env2(const char *upper, const char *lower)
{
	const char *v = getenv(upper);

	if (!v || !*v)
		v = getenv(lower);
	return v && *v ? v : NULL;
}

/* ---- NO_PROXY ---- */

/* An address as 16 bytes, IPv4 mapped; text may be in brackets. */
static bool parse_address(const char *text, size_t n, uint8_t ret[16], bool *ret_v4)
{
	char s[INET6_ADDRSTRLEN];

	if (n >= 2 && text[0] == '[' && text[n - 1] == ']') {
		text++;
		n -= 2;
	}
	if (n == 0 || n >= sizeof(s))
		return false;
	memcpy(s, text, n);
	s[n] = '\0';
	memset(ret, 0, 10);
	memset(ret + 10, 0xff, 2);
	*ret_v4 = inet_pton(AF_INET, s, ret + 12) == 1;
	return *ret_v4 || inet_pton(AF_INET6, s, ret) == 1;
}

static bool in_network(const char *entry, size_t n, const uint8_t address[16], bool v4)
{
	const char *slash = memchr(entry, '/', n);
	uint8_t net[16];
	uint64_t bits;
	char number[8];
	bool net_v4;
	size_t k = slash ? (size_t)(entry + n - slash - 1) : 0;

	if (!slash || !parse_address(entry, (size_t)(slash - entry), net, &net_v4) || net_v4 != v4 ||
		k == 0 || k >= sizeof(number))
		return false;
	memcpy(number, slash + 1, k);
	number[k] = '\0';
	if (parse_u64(number, v4 ? 32 : 128, &bits) < 0)
		return false;
	bits += v4 ? 96 : 0;
	for (size_t i = 0; i < 16 && bits > 0; i++) {
		unsigned take = bits >= 8 ? 8 : (unsigned)bits;
		uint8_t mask = (uint8_t)(0xff00u >> take);
		if ((net[i] ^ address[i]) & mask)
			return false;
		bits -= take;
	}
	return true;
}

/* Cuts a port off an entry; false when it is another one than the address's. */
static bool port_fits(const char *entry, size_t *n, uint16_t port)
{
	const char *colon = memrchr(entry, ':', *n);
	uint16_t want;
	uint8_t address[16];
	bool v4;

	if (!colon || parse_address(entry, *n, address, &v4)) /* "::1" */
		return true;
	if (parse_port(colon + 1, (size_t)(entry + *n - colon - 1), &want) < 0)
		return true;
	*n = (size_t)(colon - entry);
	return want == port;
}

static bool name_fits(const char *entry, size_t n, const char *host)
{
	size_t len = strlen(host);
	bool below = false;

	if (n && *entry == '*') { /* "*.example.com" */
		entry++;
		n--;
	}
	if (n && *entry == '.') {
		below = true;
		entry++;
		n--;
	}
	if (n == 0 || len < n || strncasecmp(host + len - n, entry, n) != 0)
		return false;
	return len == n ? !below : host[len - n - 1] == '.';
}

static bool entry_fits(const char *entry, size_t n, const struct oci_url *u)
{
	uint8_t address[16], other[16];
	bool v4, other_v4, is_address = parse_address(u->host, strlen(u->host), address, &v4);

	if (n == 1 && *entry == '*')
		return true;
	if (memchr(entry, '/', n))
		return is_address && in_network(entry, n, address, v4);
	if (!port_fits(entry, &n, u->port))
		return false;
	if (parse_address(entry, n, other, &other_v4))
		return is_address && memcmp(address, other, 16) == 0;
	return !is_address && name_fits(entry, n, u->host);
}

static bool direct(const struct oci_url *u)
{
	const char *list = env2("NO_PROXY", "no_proxy");

	if (oci_http_is_loopback(u->host))
		return true;
	while (list && *list) {
		list += strspn(list, " \t,");
		size_t n = strcspn(list, ",");
		const char *next = list + n;
		while (n && (list[n - 1] == ' ' || list[n - 1] == '\t'))
			n--;
		if (n && entry_fits(list, n, u))
			return true;
		list = next;
	}
	return false;
}

/* ---- the proxy ---- */

static bool scheme_known(const char *proxy)
{
	static const char *const known[] = {"http://", "https://", "socks5://", "socks5h://"};

	for (size_t i = 0; i < ARRAY_LEN(known); i++)
		if (strncasecmp(proxy, known[i], strlen(known[i])) == 0)
			return true;
	return false;
}

/* Whether libcurl understands it as we do. It would repeat what it does not understand, password and all. */
static bool well_formed(const struct libcurl *lib, const char *proxy)
{
	CURLU *u = lib->curl_url();
	char *host = NULL;

	bool ok = u && lib->curl_url_set(u, CURLUPART_URL, proxy, CURLU_NON_SUPPORT_SCHEME) == CURLUE_OK &&
		  lib->curl_url_get(u, CURLUPART_HOST, &host, 0) == CURLUE_OK && *host;
	if (host)
		lib->curl_free(host);
	if (u)
		lib->curl_url_cleanup(u);
	return ok;
}

static int check_proxy(const char *proxy, struct err *e)
{
	const struct libcurl *lib = oci_curl(e);

	if (!lib)
		return -ENOENT;
	if (well_formed(lib, proxy))
		return 0;
	/* What of it is a password nobody can say. */
	err_set(e, -EINVAL, "the proxy that the environment names is no address");
	err_hint(e, "write it as http://USER:PASSWORD@HOST:PORT, with %%2F for / and %%40 for @ in USER and "
		    "PASSWORD");
	return -EINVAL;
}

int oci_proxy_find(const struct oci_url *u, char **ret, struct err *e)
{
	const char *v;

	*ret = NULL;
	if (direct(u))
		return 0;
	if (u->tls)
		v = env2("HTTPS_PROXY", "https_proxy");
	else if (getenv("REQUEST_METHOD")) /* in a CGI program, HTTP_PROXY is a header that a client sent */
		v = env2("http_proxy", "http_proxy");
	else
		v = env2("HTTP_PROXY", "http_proxy");
	if (!v)
		v = env2("ALL_PROXY", "all_proxy");
	if (!v)
		return 0;
	if (strstr(v, "://") && !scheme_known(v)) {
		CLEANUP_FREE char *shown = oci_proxy_shown(v);
		return err_set(e, -EINVAL, "the proxy %s is neither HTTP nor SOCKS 5", shown ? shown : "");
	}
	CLEANUP_FREE char *proxy = strstr(v, "://") ? strdup(v) : str_printf("http://%s", v);
	if (!proxy)
		return err_oom(e);
	int r = check_proxy(proxy, e);
	if (r == 0)
		*ret = TAKE_PTR(proxy);
	return r;
}

char *oci_proxy_shown(const char *proxy)
{
	const char *p = strstr(proxy, "://");
	size_t scheme = p ? (size_t)(p + 3 - proxy) : 0;
	size_t n = strcspn(proxy + scheme, "/?#");
	const char *at = memrchr(proxy + scheme, '@', n);

	/*
	 * A password may have a "/" in it: then what stands before the last "@" is none of anybody's business
	 * either.
	 */
	if (!at)
		at = strrchr(proxy + scheme, '@');
	const char *host = at ? at + 1 : proxy + scheme;
	return str_printf(
		"%.*s%.*s", (int)scheme, proxy, (int)MIN_OF(strcspn(host, "/?#"), (size_t)255), host);
}
