/* SPDX-License-Identifier: MIT */
/* What is to be copied. Tags are part of the protocol: append, never renumber. */
#include <string.h>

#include "fields.h"
#include "wire/tree.h"

enum { COPY_PATH = 1, COPY_FLAGS = 2 };
enum {
	COPY_FLAG_FOLLOW = 1,
	COPY_FLAG_NO_CONTENT = 2,
	COPY_FLAG_KEEP_OWNER = 4,
	COPY_FLAG_ROOT_ATTR = 8,
	COPY_FLAG_DURABLE = 16
};

void wire_copy_done(struct wire_copy *c)
{
	free(c->path);
	*c = (struct wire_copy){0};
}

static bool path_valid(const char *path)
{
	return path && path[0] == '/' && strlen(path) <= WIRE_PATH_MAX;
}

int wire_put_copy(struct buf *out, enum wire_type type, const struct wire_copy *c)
{
	uint64_t flags = (c->follow ? COPY_FLAG_FOLLOW : 0) | (c->no_content ? COPY_FLAG_NO_CONTENT : 0) |
			 (c->keep_owner ? COPY_FLAG_KEEP_OWNER : 0) |
			 (c->root_attr ? COPY_FLAG_ROOT_ATTR : 0) | (c->durable ? COPY_FLAG_DURABLE : 0);
	struct buf msg = {0};
	int r = path_valid(c->path) ? wire_field_str(&msg, COPY_PATH, c->path) : -EINVAL;

	if (r == 0)
		r = wire_field_u64(&msg, COPY_FLAGS, flags);
	return wire_put_message(out, type, &msg, r);
}

int wire_get_copy(const struct wire_frame *f, struct wire_copy *ret)
{
	const uint8_t *p = f->payload, *end = p + f->len;
	struct wire_copy c = {0};
	struct wire_field field;
	uint64_t flags = 0;
	int r;

	*ret = (struct wire_copy){0};
	while ((r = wire_field_next(&p, end, &field)) > 0) {
		if (field.tag == COPY_PATH)
			r = wire_field_get_str(&field, &c.path);
		else if (field.tag == COPY_FLAGS)
			r = wire_field_get_u64(&field, &flags);
		if (r < 0)
			break;
	}
	if (r == 0 && !path_valid(c.path))
		r = -EBADMSG;
	if (r < 0) {
		wire_copy_done(&c);
		return r;
	}
	c.follow = flags & COPY_FLAG_FOLLOW;
	c.no_content = flags & COPY_FLAG_NO_CONTENT;
	c.keep_owner = flags & COPY_FLAG_KEEP_OWNER;
	c.root_attr = flags & COPY_FLAG_ROOT_ATTR;
	c.durable = flags & COPY_FLAG_DURABLE;
	*ret = c;
	return 0;
}
