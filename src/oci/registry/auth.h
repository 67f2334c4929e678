/* SPDX-License-Identifier: MIT */
/* How registries ask who is there (RFC 9110 section 11.6.1, distribution "token" specification). */
#ifndef OCI_AUTH_H
#define OCI_AUTH_H

#include <stdbool.h>

#include "base/err.h"

#define OCI_AUTH_HEADER_MAX 16384 /* bytes of one WWW-Authenticate header */

struct oci_challenge {
	bool basic, bearer;	       /* schemes offered */
	char *realm, *service, *scope; /* of Bearer; NULL when absent */
};

/* Adds what one WWW-Authenticate value offers. Unknown schemes are skipped. -EBADMSG or -ENOMEM. */
int oci_challenge_parse(const char *value, struct oci_challenge *c);
void oci_challenge_done(struct oci_challenge *c);

#endif
