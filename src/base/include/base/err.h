/* SPDX-License-Identifier: MIT */
/*
 * The error object of user-facing rooms. It carries the one line that the user will read:
 * "what failed: on what: why (hint)". The innermost function sets it, each layer above may prefix context.
 *
 * Convention everywhere: a function that fails returns -errno and, if it takes a struct err, has filled it.
 * Callers pass the code on unchanged. A NULL error object is allowed and ignored.
 */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include <stdint.h>

#include "base/cleanup.h"

#define ERR_MSG_MAX 1024 /* bytes; longer text is cut */

struct err {
	int code;	       /* -errno of the failure, 0 if unset */
	char msg[ERR_MSG_MAX]; /* without trailing newline; control characters may still be in it */
	char hint[256];	       /* what the user can do; empty if nothing helps */
};

/* Sets the message and code (a negative errno value) and clears the hint. Returns code. */
int err_set(struct err *e, int code, const char *fmt, ...) PRINTF(3, 4);
/* As err_set, with ": strerror(-code)" appended. */
int err_sys(struct err *e, int code, const char *fmt, ...) PRINTF(3, 4);
/* Prefixes "context: " to an error that is set. Returns its code. */
int err_wrap(struct err *e, const char *fmt, ...) PRINTF(2, 3);
/* Sets the hint of an error that is set. Returns its code, and -EINVAL without one to set: never success. */
int err_hint(struct err *e, const char *fmt, ...) PRINTF(2, 3);
/* Out of memory, in one word. Returns -ENOMEM. */
int err_oom(struct err *e);

/* Length of the UTF-8 sequence (RFC 3629) that s[0..left) begins with, left > 0; 0 if malformed. ret_cp may be NULL. */
size_t text_utf8_len(const uint8_t *s, size_t left, uint32_t *ret_cp);
/*
 * Copies src to dst (size bytes, always terminated) with control characters, and bytes that are not
 * valid UTF-8, written as \xNN, so that names chosen by others cannot drive the user's terminal.
 */
void text_escape(char *dst, size_t size, const char *src);
/* The same, malloc'd and whole; NULL when out of memory. */
char *text_escape_dup(const char *src);
/* Writes "prog: msg (hint)\n", escaped, to standard error in one write(2). */
void err_print(const char *prog, const struct err *e);

#endif
