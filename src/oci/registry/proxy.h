/* SPDX-License-Identifier: MIT */
/*
 * Proxies by the environment, as programs in Go (docker, podman) read it: HTTPS_PROXY, HTTP_PROXY, then
 * ALL_PROXY, each also in lower case; NO_PROXY is a list of "*", addresses, networks ("10.0.0.0/8"), and
 * names, which stand for what is below them too (".example.com" and "*.example.com" for that alone); each may
 * have a port. This machine is never reached through a proxy.
 */
#ifndef OCI_REGISTRY_PROXY_H
#define OCI_REGISTRY_PROXY_H

#include "registry/url.h"

/*
 * The proxy for an address, malloc'd, with a scheme; *ret NULL: none. 0, -EINVAL (whose message repeats no password),
 * -ENOMEM.
 */
int oci_proxy_find(const struct oci_url *u, char **ret, struct err *e);
/* The proxy as it may be shown: without user and password. malloc'd; NULL when out of memory. */
char *oci_proxy_shown(const char *proxy);

#endif
