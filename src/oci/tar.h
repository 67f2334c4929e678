/* SPDX-License-Identifier: MIT */
/* Tar archives (ustar, pax, GNU) read from a stream through libarchive. */
#ifndef OCI_TAR_H
#define OCI_TAR_H

#include <locale.h>

#include "libs.h"
#include "stream.h"

#define OCI_TAR_HEADER_MAX (4u << 20) /* bytes: headers, extended ones, long names, and a map of holes */

struct oci_tar {
	const struct libarchive *lib;
	struct archive *a;
	struct oci_stream *stream; /* the caller's */
	struct err read_err;	   /* why the stream failed, when it did */
	bool in_entry;		   /* whose content may not have been read to its end */
	bool in_header;
	size_t header_len; /* bytes read for it */
	locale_t c_locale, old_locale;
};

/*
 * Between open and close the calling thread runs in the C locale: there, and only there, libarchive hands out
 * names as the bytes that are in the archive. In a UTF-8 locale it replaces what is not UTF-8 and composes
 * the rest.
 */
int oci_tar_open(struct oci_tar *t, struct oci_stream *s, struct err *e);
void oci_tar_close(struct oci_tar *t);

/*
 * 1 and the next entry, 0 at the end, -errno. -E2BIG when what describes an entry is longer than OCI_TAR_HEADER_MAX:
 * libarchive keeps all of it, and what a map of holes becomes in memory is many times as large as its text.
 */
int oci_tar_next(struct oci_tar *t, struct archive_entry **ret, struct err *e);
/* A piece of the entry's content, 1; 0 at its end; -errno. */
int oci_tar_data(struct oci_tar *t, const void **ret, size_t *ret_n, uint64_t *ret_off, struct err *e);

/* What an entry says of its file, in the terms of stat(2); target and device numbers only where they mean something. */
struct oci_tar_attr {
	uint16_t mode; /* with the type */
	uint32_t uid, gid;
	int64_t mtime_s;
	uint32_t mtime_ns;
	uint64_t major, minor; /* not checked */
	const char *target;    /* the entry's */
};
int oci_tar_attr(const struct oci_tar *t, struct archive_entry *en, struct oci_tar_attr *ret, struct err *e);

#endif
