/* SPDX-License-Identifier: MIT */
/* Reading JSON of strangers: strict UTF-8, no duplicate keys, and bounded before it is parsed. */
#ifndef OCI_JSON_H
#define OCI_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

#define OCI_JSON_MAX	(4u << 20) /* bytes of one document; the distribution specification's own limit */
#define OCI_JSON_DEPTH	128	   /* lists and maps within each other */
#define OCI_JSON_LISTS	131072	   /* lists and maps in one document: in memory "{}" takes 200 bytes */
#define OCI_JSON_VALUES 524288	   /* values in one document */

/* For CLEANUP. */
static inline void json_done(json_t **j)
{
	json_decref(*j);
}

/*
 * The document (an object, or with array set an array), bounded, strict. what names it. *ret: a new reference.
 * Bounded in size, depth and number of values, so that it takes at most 64 MiB of memory.
 */
int oci_json_parse_as(bool array, const char *what, const void *data, size_t n, json_t **ret, struct err *e);
int oci_json_parse(const char *what, const void *data, size_t n, json_t **ret, struct err *e);

#endif
