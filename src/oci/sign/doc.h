/* SPDX-License-Identifier: MIT */
/*
 * Documents written by others, read strictly: bounded, no duplicate and no unknown members, base64 in its one canonical
 * form, so that nothing can be changed in what was signed, or slipped in beside it, without being noticed.
 * Failures are -EBADMSG; what names the document in messages.
 */
#ifndef OCI_SIGN_DOC_H
#define OCI_SIGN_DOC_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "json.h"

struct bytes {
	uint8_t *p; /* owned; there is a NUL behind the last byte that is not counted */
	size_t n;
};
void bytes_done(struct bytes *b);
bool bytes_equal(const struct bytes *a, const struct bytes *b);

/* An object of at most SIGN_DOCUMENT_MAX bytes. *ret: a new reference. */
int doc_parse(const char *what, const void *data, size_t n, json_t **ret, struct err *e);
/* Whether o is an object with no member but those named; the list ends with NULL. */
int doc_members(const char *what, const json_t *o, const char *const *names, struct err *e);
/* Members; all borrowed from o. doc_str fails if it is absent or no string; doc_object and doc_array likewise. */
int doc_str(const char *what, const json_t *o, const char *key, const char **ret, struct err *e);
int doc_object(const char *what, const json_t *o, const char *key, const json_t **ret, struct err *e);
int doc_array(
	const char *what, const json_t *o, const char *key, size_t max, const json_t **ret, struct err *e);
/* A number that is not negative; in protobuf's JSON it is written as a string, and absent when 0. */
int doc_int64(const char *what, const json_t *o, const char *key, int64_t *ret, struct err *e);
/* A member in base64; not empty. */
int doc_bytes(const char *what, const json_t *o, const char *key, struct bytes *ret, struct err *e);
/* A member that must be this string. */
int doc_equal(const char *what, const json_t *o, const char *key, const char *want, struct err *e);

/* Base64, canonical: whoever encodes the result gets the text back. -EBADMSG or -ENOMEM, without a message. */
int b64_bytes(const char *s, size_t n, struct bytes *ret);
/* RFC 3339 to seconds since the epoch. 0 or -EBADMSG. */
int doc_time(const char *s, int64_t *ret);

/*
 * The PEM block at *p, and *p behind it. Label and content must be well-formed; no headers. -ENOENT at the end of the
 * text. Text between blocks is skipped if with_text is set, else only white space may be there.
 */
#define PEM_LABEL_MAX 64
int pem_next(const char **p, const char *end, bool with_text, char label[PEM_LABEL_MAX], struct bytes *ret);

#endif
