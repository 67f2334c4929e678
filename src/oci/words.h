/* SPDX-License-Identifier: MIT */
/* Words of Dockerfile instructions: quotes, backslashes and variables (Dockerfile reference, "Environment replacement"). */
#ifndef OCI_WORDS_H
#define OCI_WORDS_H

#include <jansson.h>

#include "base/err.h"
#include "wire/wire.h" /* struct strv */

#define OCI_WORD_MAX (1u << 20) /* bytes of a word, variables replaced */

/* Splits at blanks that are neither quoted nor escaped; quotes stay in the words. -EINVAL: a quote is not closed. */
int oci_words_split(const char *s, struct strv *ret, struct err *e);
/*
 * Takes quotes off and replaces $NAME, ${NAME}, ${NAME:-else}, ${NAME:+then} and ${NAME:?message} (or without the colon)
 * by what env, a list of "NAME=value", says. *ret malloc'd.
 */
int oci_word_expand(const char *s, const json_t *env, char **ret, struct err *e);

#endif
