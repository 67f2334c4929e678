/* SPDX-License-Identifier: MIT */
/*
 * registries.json in the home folder: which mirrors a registry has, and which hosts may be spoken to without
 * protection.
 *
 *     {"mirrors": {"docker.io": ["https://mirror.example", "https://harbor.example/v2/hub"]},
 *      "insecure": ["registry.lan:5000"]}
 *
 * Mirrors are asked in this order. A path in a mirror's address comes before "/v2/REPOSITORY", as in Docker;
 * one that begins with "/v2/" comes before the repository, as proxies want it that keep several registries'
 * images in projects. Insecure hosts may speak plain HTTP, and their certificates are not checked. Anything
 * else in the file is an error.
 */
#ifndef OCI_REGISTRY_CONFIG_H
#define OCI_REGISTRY_CONFIG_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

#define OCI_REGISTRIES_FILE "registries.json"
#define OCI_MIRRORS_MAX	    16 /* of one registry */

struct oci_registries;
/* From the file's content. */
int oci_registries_parse(const char *json, size_t n, struct oci_registries **ret, struct err *e);
/* From the home folder; without one (-1), or without the file, there is nothing in it. */
int oci_registries_read(int home_fd, struct oci_registries **ret, struct err *e);
void oci_registries_free(struct oci_registries *c);
DEFINE_CLEANUP(struct oci_registries *, oci_registries_free)

/* The mirrors of a domain ("docker.io"), NULL and 0 when it has none. Addresses without a "/" at the end. */
const char *const *oci_registries_mirrors(const struct oci_registries *c, const char *domain, size_t *ret_n);
/* c may be NULL. */
bool oci_registries_insecure(const struct oci_registries *c, const char *authority);

#endif
