/* SPDX-License-Identifier: MIT */
/*
 * Writes a tar to a descriptor, a stream: POSIX ustar (IEEE 1003.1, pax, "ustar Interchange Format"), with a pax header
 * before what does not fit into it. What is written is a function of names, sizes and contents: no times, owners of 0.
 */
#ifndef OCI_TAR_WRITE_H
#define OCI_TAR_WRITE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct oci_tar_writer {
	int fd;
	uint64_t left;	/* bytes of the file that are still to come */
	uint64_t total; /* bytes written */
};

int oci_tar_folder(struct oci_tar_writer *w, const char *name, struct err *e);
/* Of exactly size bytes, which oci_tar_write brings. */
int oci_tar_begin(struct oci_tar_writer *w, const char *name, uint64_t size, struct err *e);
int oci_tar_write(struct oci_tar_writer *w, const void *data, size_t n, struct err *e);
/* After the last byte. */
int oci_tar_end(struct oci_tar_writer *w, struct err *e);
int oci_tar_file(struct oci_tar_writer *w, const char *name, const void *data, size_t n, struct err *e);
int oci_tar_finish(struct oci_tar_writer *w, struct err *e);

#endif
