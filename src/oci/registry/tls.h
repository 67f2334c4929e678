/* SPDX-License-Identifier: MIT */
/*
 * Which certificates are trusted, and shown, where: Docker's layout.
 *
 * Of the folders $DOCKER_CONFIG/certs.d (else ~/.docker/certs.d), ~/.config/containers/certs.d,
 * /etc/containers/certs.d and /etc/docker/certs.d, the first that has a folder HOST[:PORT]. In it, *.crt are
 * CAs, trusted for this host beside the system's; NAME.cert and NAME.key are what is shown to it.
 * SSL_CERT_FILE and SSL_CERT_DIR replace the system's CAs, as they do for programs in Go.
 */
#ifndef OCI_REGISTRY_TLS_H
#define OCI_REGISTRY_TLS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

/* For one host. */
struct oci_tls {
	char *authority;
	char *cas; /* PEM: all CAs that are trusted; NULL: the system's */
	size_t n_cas;
	char *cert, *key; /* paths, or NULL */
};
/*
 * authority: host[:port]. cert_dir: used instead of the folders above, or NULL; show: whether its client
 * certificate is for this host too. -EINVAL and others for folders that cannot be used as they are: a user
 * who put something there wants it.
 */
int oci_tls_find(const char *authority, const char *cert_dir, bool show, struct oci_tls *ret, struct err *e);
/* Whether one of the folders above is there for a host: then it speaks TLS. */
int oci_tls_configured(const char *authority, bool *ret, struct err *e);
void oci_tls_done(struct oci_tls *t);

#endif
