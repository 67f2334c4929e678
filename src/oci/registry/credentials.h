/* SPDX-License-Identifier: MIT */
/*
 * Who we are at registries: the Docker configuration file ($DOCKER_CONFIG/config.json or
 * ~/.docker/config.json), and the credential helpers that it names (registry/helper.h). What it does not have is looked for
 * where podman keeps its own (containers-auth.json(5): $REGISTRY_AUTH_FILE, else containers/auth.json in $XDG_RUNTIME_DIR
 * and in $XDG_CONFIG_HOME or ~/.config), which is only read, never written. The format is the same, but that podman also has
 * entries for parts of a registry ("quay.io/team"); the closest one counts, in either file.
 *
 * "credHelpers" names a helper for one registry, "credsStore" one for all others; without either, "auths" has
 * the credentials. What the file has besides stays as it is when it is rewritten, which is done by a new file
 * in its place: a crash leaves the old one or the new one. Logins at once wait for each other (a lock on the
 * folder).
 */
#ifndef OCI_REGISTRY_CREDENTIALS_H
#define OCI_REGISTRY_CREDENTIALS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

#define OCI_CREDENTIAL_MAX 65536 /* bytes of a user name or a password; tokens serve as those too */

struct oci_credentials {
	char *user, *password;
	char *identity_token; /* OAuth2 refresh token, instead of a password */
	char *registry_token; /* bearer token that is sent as it is */
};
void oci_credentials_done(struct oci_credentials *c);
bool oci_credentials_empty(const struct oci_credentials *c);
/* base64 of "user:password", malloc'd; NULL without them, or when out of memory. */
char *oci_credentials_basic(const struct oci_credentials *c);

/*
 * For a registry ("docker.io", "localhost:5000"), and a repository in it ("library/alpine"; NULL: none in particular). Empty when
 * there are none: that is no error.
 */
int oci_credentials_find(
	const char *domain, const char *repository, struct oci_credentials *ret, struct err *e);
/* The same from the file's content; *ret_helper (malloc'd): the helper to be asked instead, or NULL. */
int oci_credentials_parse(const char *json, size_t n, const char *domain, const char *repository,
	struct oci_credentials *ret, char **ret_helper, struct err *e);
/* Keeps them. *ret_where (malloc'd): the file or the helper, for a person. */
int oci_credentials_store(
	const char *domain, const char *user, const char *password, char **ret_where, struct err *e);
/* Forgets them. -ENOENT (with *e) when there are none. */
int oci_credentials_erase(const char *domain, struct err *e);

#endif
