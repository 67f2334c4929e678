/* SPDX-License-Identifier: MIT */
/*
 * Addresses of registries, and of where they send us. They are taken apart by libcurl's own parser, so that
 * what is checked here is what is connected to.
 */
#ifndef OCI_REGISTRY_URL_H
#define OCI_REGISTRY_URL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#define OCI_URL_MAX 8192 /* bytes; signed addresses of object stores have two thousand */

struct oci_url {
	char *text; /* normalised, without fragment */
	bool tls;
	char *host;	 /* lower case; IPv6 in brackets */
	char *authority; /* host, and the port where it is not the scheme's own */
	uint16_t port;
};
/*
 * An absolute http or https address, or with a base one relative to it (RFC 3986 section 5). An http address
 * of the host and port on which the base was HTTPS becomes HTTPS: registries behind proxies often do not know
 * their own scheme.
 * -EPROTO for anything else, credentials in it included (which no message repeats).
 */
int oci_url_parse(const char *text, const struct oci_url *base, struct oci_url *ret, struct err *e);
void oci_url_done(struct oci_url *u);
bool oci_url_same_origin(const struct oci_url *a, const struct oci_url *b);

/*
 * Percent-encoded for a query; NULL when out of memory. Leaves what registries' own examples leave (":", "/",
 * ",").
 */
char *oci_url_encode(const char *s);

/* Whether an authority ("127.0.0.1:5000", "[::1]", "localhost") is this machine. */
bool oci_http_is_loopback(const char *authority);

#endif
