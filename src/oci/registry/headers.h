/* SPDX-License-Identifier: MIT */
/* Values of response headers, strictly read: what is malformed is not there. */
#ifndef OCI_REGISTRY_HEADERS_H
#define OCI_REGISTRY_HEADERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The value of a header line of n bytes, malloc'd; NULL when it is another header or longer than 16 KiB. */
char *oci_header_value(const char *line, size_t n, const char *name);
/* "bytes 100-199/200" (RFC 9110 section 14.4). false if malformed. */
bool oci_header_content_range(const char *value, uint64_t *ret_first, uint64_t *ret_last);
/*
 * "0-1023" or "bytes=0-1023" of an upload: the last byte that has arrived ("0-0" is also said of an empty
 * one).
 */
bool oci_header_upload_range(const char *value, uint64_t *ret_last);
/* Seconds, or a date (RFC 9110 section 10.2.3), from now_s on, the epoch's seconds. -1 if malformed. */
int64_t oci_header_retry_after(const char *value, int64_t now_s);
/* The address of rel="next" in a Link header (RFC 8288), malloc'd; NULL when there is none. */
char *oci_header_link_next(const char *value);

#endif
