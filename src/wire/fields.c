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
	put_be64(be, value);
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
	*ret = get_be64(f->data);
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

int wire_put_message(struct buf *out, enum wire_type type, struct buf *msg, int r)
{
	if (r == 0)
		r = wire_put(out, type, msg->mem ? buf_data(msg) : NULL, msg->len);
	buf_done(msg);
	return r;
}

int wire_field_list(struct buf *msg, uint8_t tag, const struct strv *list)
{
	int r = list->n > WIRE_LIST_MAX ? -EMSGSIZE : 0; /* the receiver would refuse it */
	for (size_t i = 0; r == 0 && i < list->n; i++)
		r = wire_field_str(msg, tag, list->v[i]);
	return r;
}

int wire_field_push_str(const struct wire_field *f, struct strv *list)
{
	char *s = NULL;
	if (list->n >= WIRE_LIST_MAX)
		return -EBADMSG;
	int r = wire_field_get_str(f, &s);
	return r < 0 ? r : strv_take(list, s);
}
