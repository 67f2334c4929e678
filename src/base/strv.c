/* SPDX-License-Identifier: MIT */
#include "base/strv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int strv_take(struct strv *s, char *str)
{
	/* Capacity is the power of two that holds n entries and the NULL, so it need not be stored. */
	if ((s->n & (s->n + 1)) == 0) {
		char **v = realloc(s->v, 2 * (s->n + 1) * sizeof(*v));
		if (!v) {
			free(str);
			return -ENOMEM;
		}
		s->v = v;
	}
	s->v[s->n++] = str;
	s->v[s->n] = NULL;
	return 0;
}

int strv_push(struct strv *s, const char *str)
{
	char *dup = strdup(str);
	return dup ? strv_take(s, dup) : -ENOMEM;
}

int strv_copy(struct strv *dst, const struct strv *src)
{
	for (size_t i = 0; i < src->n; i++) {
		int r = strv_push(dst, src->v[i]);
		if (r < 0)
			return r;
	}
	return 0;
}

void strv_done(struct strv *s)
{
	for (size_t i = 0; i < s->n; i++)
		free(s->v[i]);
	free(s->v);
	*s = (struct strv){0};
}

static char **env_find(const struct strv *s, const char *name, size_t len)
{
	for (size_t i = 0; i < s->n; i++) {
		if (strncmp(s->v[i], name, len) == 0 && s->v[i][len] == '=')
			return &s->v[i];
	}
	return NULL;
}

int strv_setenv(struct strv *s, const char *kv)
{
	char **slot = env_find(s, kv, strcspn(kv, "="));
	if (!slot)
		return strv_push(s, kv);
	char *dup = strdup(kv);
	if (!dup)
		return -ENOMEM;
	free(*slot);
	*slot = dup;
	return 0;
}

const char *strv_getenv(const struct strv *s, const char *name)
{
	size_t len = strlen(name);
	char **slot = env_find(s, name, len);
	return slot ? *slot + len + 1 : NULL;
}

bool strv_has_pair(const struct strv *s, const char *want)
{
	size_t n = strcspn(want, "=");

	for (size_t i = 0; i < s->n; i++) {
		const char *kv = s->v[i];
		if (want[n] ? strcmp(kv, want) == 0 : strcspn(kv, "=") == n && strncmp(kv, want, n) == 0)
			return true;
	}
	return false;
}
