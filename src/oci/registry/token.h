/* SPDX-License-Identifier: MIT */
/* Tokens of a registry's token server (distribution specification, "token" and "oauth2"). */
#ifndef OCI_REGISTRY_TOKEN_H
#define OCI_REGISTRY_TOKEN_H

#include <stdint.h>

#include "registry/credentials.h"
#include "registry/http.h"

#define OCI_TOKEN_SCOPES_MAX 2

struct oci_token_request {
	const char *realm;
	const char *service;			   /* or NULL */
	const char *scopes[OCI_TOKEN_SCOPES_MAX];  /* NULL: not that many */
	const struct oci_credentials *credentials; /* empty: an anonymous token */
	const char *registry_host; /* authority; without TLS only it, or a host that may, gets credentials */
	const struct oci_registries *registries;
};
/*
 * *ret: the token, malloc'd, fit for a header. *ret_expires_ns: on the monotonic clock. -EACCES when it is
 * refused. The answer at hand of h is lost.
 */
int oci_token_fetch(struct oci_http *h, const struct oci_token_request *rq, char **ret,
	uint64_t *ret_expires_ns, struct err *e);

#endif
