/* SPDX-License-Identifier: MIT */
/* A compressor of layers: gzip (RFC 1952), fast rather than small. */
#ifndef OCI_GZIP_H
#define OCI_GZIP_H

#include <stddef.h>

#include "base/err.h"

/* Where compressed bytes go. 0, or -errno with *e set. */
struct oci_sink {
	int (*write)(void *data, const void *buf, size_t n, struct err *e);
	void *data;
};

struct oci_gzip;
int oci_gzip_new(const struct oci_sink *to, struct oci_gzip **ret, struct err *e);
void oci_gzip_free(struct oci_gzip *g);
DEFINE_CLEANUP(struct oci_gzip *, oci_gzip_free)
int oci_gzip_write(struct oci_gzip *g, const void *data, size_t n, struct err *e);
/* Writes the rest. Nothing may follow. */
int oci_gzip_finish(struct oci_gzip *g, struct err *e);

#endif
