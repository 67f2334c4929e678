/* SPDX-License-Identifier: MIT */
/* Fields inside a message, and lists of strings. */
#include "fields.h"

#include <string.h>

enum { FIELD_HEADER = 5 };

int wire_field_bytes(struct buf *msg, uint8_t tag, const void *data, size_t len)
{
	if (len > WIRE_MESSAGE_MAX)
		return -EMSGSIZE;
	uint8_t *p = buf_reserve(msg, FIELD_HEADER + len);
	if (!p)
		return -ENOMEM;
	p[0] = tag;
	put_be32(p + 1, (uint32_t)len);
	if (len)
		memcpy(p + FIELD_HEADER, data, len);
	buf_commit(msg, FIELD_HEADER + len);
	return 0;
}

int wire_field_u64(struct buf *msg, uint8_t tag, uint64_t value)
{
	uint8_t be[8];
	put_be32(be, (uint32_t)(value >> 32));
	put_be32(be + 4, (uint32_t)value);
	return wire_field_bytes(msg, tag, be, sizeof(be));
}

int wire_field_str(struct buf *msg, uint8_t tag, const char *s)
{
	return s ? wire_field_bytes(msg, tag, s, strlen(s)) : 0;
}

int wire_field_next(const uint8_t **p, const uint8_t *end, struct wire_field *ret)
{
	size_t left = (size_t)(end - *p);
	if (left == 0)
		return 0;
	if (left < FIELD_HEADER)
		return -EBADMSG;
	uint32_t len = get_be32(*p + 1);
	if (len > left - FIELD_HEADER)
		return -EBADMSG;
	*ret = (struct wire_field){.tag = (*p)[0], .len = len, .data = *p + FIELD_HEADER};
	*p += FIELD_HEADER + len;
	return 1;
}

int wire_field_get_u64(const struct wire_field *f, uint64_t *ret)
{
	if (f->len != 8)
		return -EBADMSG;
	*ret = (uint64_t)get_be32(f->data) << 32 | get_be32(f->data + 4);
	return 0;
}

int wire_field_get_str(const struct wire_field *f, char **ret)
{
	if (f->len && memchr(f->data, '\0', f->len))
		return -EBADMSG;
	char *s = malloc((size_t)f->len + 1);
	if (!s)
		return -ENOMEM;
	if (f->len)
		memcpy(s, f->data, f->len);
	s[f->len] = '\0';
	free(*ret);
	*ret = s;
	return 0;
}

/* Appends str, which becomes the list's. 0 or -ENOMEM (then str is freed). */
static int strv_take(struct strv *s, char *str)
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

int wire_field_push_str(const struct wire_field *f, struct strv *list)
{
	char *s = NULL;
	if (list->n >= WIRE_LIST_MAX)
		return -EBADMSG;
	int r = wire_field_get_str(f, &s);
	return r < 0 ? r : strv_take(list, s);
}
