/* SPDX-License-Identifier: MIT */
/*
 * Credential helpers: programs named docker-credential-NAME in PATH that are told "get", "store" or "erase",
 * read a server's address or JSON from standard input, and answer with JSON (docker-credential-helpers,
 * "Development").
 *
 * They are the user's own programs, but what they say is bounded, and they have OCI_HELPER_S seconds.
 */
#ifndef OCI_REGISTRY_HELPER_H
#define OCI_REGISTRY_HELPER_H

#include "registry/credentials.h"

#define OCI_HELPER_S 30

/* Whether a name from the configuration file may become part of a program's name. */
bool oci_helper_name_valid(const char *name);
/* *ret is empty when the helper has nothing for this server. */
int oci_helper_get(const char *name, const char *server, struct oci_credentials *ret, struct err *e);
int oci_helper_store(
	const char *name, const char *server, const char *user, const char *password, struct err *e);
int oci_helper_erase(const char *name, const char *server, struct err *e);

#endif
