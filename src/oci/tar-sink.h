/* SPDX-License-Identifier: MIT */
/* Within the room: an archive that goes elsewhere than into a descriptor. The rest is in oci/content.h. */
#ifndef OCI_TAR_SINK_H
#define OCI_TAR_SINK_H

#include "gzip.h"
#include "oci/content.h"

/* As oci_tar_sink_new; to is copied. Its errors end the source. */
int oci_tar_sink_to(
	const struct oci_sink *to, const struct oci_tar_opts *o, struct oci_tar_sink **ret, struct err *e);
/* Entries that were written but for the root's. */
uint64_t oci_tar_sink_entries(const struct oci_tar_sink *s);
/* Bytes that were written. */
uint64_t oci_tar_sink_bytes(const struct oci_tar_sink *s);

#endif
