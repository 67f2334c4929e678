/* SPDX-License-Identifier: MIT */
/*
 * Image references as Docker reads them (distribution/reference, "Grammar"):
 *
 *     reference := [domain "/"] path [":" tag] ["@" digest]
 *
 * normalised: without a domain it is docker.io, and a single path component there is in "library/". Domains are in lower
 * case, but for one that only its capitals tell from a path ("Host/x"): that is in capitals.
 */
#ifndef OCI_REFERENCE_H
#define OCI_REFERENCE_H

#include <stdbool.h>

#include "base/err.h"

#define OCI_NAME_MAX 255 /* bytes of domain and path */
#define OCI_TAG_MAX  128

struct oci_reference {
	char *domain; /* "docker.io", "localhost:5000", "[::1]:5000" */
	char *path;   /* "library/alpine" */
	char *tag;    /* NULL when absent and there is a digest; otherwise defaults to "latest" */
	char *digest; /* NULL when absent */
};

/* Parses and normalises. On failure *ret is empty. -EINVAL or -ENOMEM. */
int oci_reference_parse(const char *s, struct oci_reference *ret, struct err *e);
void oci_reference_done(struct oci_reference *r);
bool oci_tag_valid(const char *s);

/* "docker.io/library/alpine"; malloc'd, NULL when out of memory. */
char *oci_reference_repo(const struct oci_reference *r);
/* The key under which the image store keeps it: repo@digest when there is a digest (a tag beside it says
 * nothing then, as in Docker), else repo:tag. */
char *oci_reference_name(const struct oci_reference *r);

#endif
