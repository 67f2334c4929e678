/* SPDX-License-Identifier: MIT */
/* Lists of strings: arguments, environments, whatever a user may give several of. */
#ifndef BASE_STRV_H
#define BASE_STRV_H

#include <stdbool.h>
#include <stddef.h>

/* A list of strings, owned, with a NULL behind the last so that v can serve as argv. */
struct strv {
	char **v;
	size_t n;
};
int strv_push(struct strv *s, const char *str); /* 0 or -ENOMEM */
int strv_copy(struct strv *dst, const struct strv *src);
void strv_done(struct strv *s);
/* Sets NAME=value in an environment list, replacing an earlier NAME. kv holds "NAME=value". 0 or -ENOMEM. */
int strv_setenv(struct strv *s, const char *kv);
/* Value of NAME in an environment list, or NULL. */
const char *strv_getenv(const struct strv *s, const char *name);
/* Whether a list of "NAME=value" has want: "NAME" with any value, or exactly "NAME=value". Docker's label filters. */
bool strv_has_pair(const struct strv *s, const char *want);
/* Appends str, which becomes the list's. 0 or -ENOMEM (then str is freed). */
int strv_take(struct strv *s, char *str);

#endif
