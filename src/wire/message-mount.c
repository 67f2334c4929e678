/* SPDX-License-Identifier: MIT */
/* Mounts of a box, inside its configuration. Tags are part of the protocol: append, never renumber. */
#include "fields.h"

enum { MOUNT_TARGET = 1, MOUNT_FLAGS = 2, MOUNT_SUBPATH = 3 };
enum { MOUNT_FLAG_READ_ONLY = 1, MOUNT_FLAG_FILE = 2 };

void wire_mount_done(struct wire_mount *m)
{
	free(m->target);
	free(m->subpath);
	*m = (struct wire_mount){0};
}

int wire_mounts_fields(struct buf *msg, uint8_t tag, const struct wire_mount *v, size_t n)
{
	int r = n > WIRE_MOUNTS_MAX ? -EMSGSIZE : 0;

	for (size_t i = 0; r == 0 && i < n; i++) {
		CLEANUP(buf_done) struct buf one = {0};

		r = wire_field_str(&one, MOUNT_TARGET, v[i].target);
		if (r == 0)
			r = wire_field_u64(&one, MOUNT_FLAGS,
				(v[i].read_only ? MOUNT_FLAG_READ_ONLY : 0) |
					(v[i].file ? MOUNT_FLAG_FILE : 0));
		if (r == 0)
			r = wire_field_str(&one, MOUNT_SUBPATH, v[i].subpath);
		if (r == 0)
			r = wire_field_bytes(msg, tag, buf_data(&one), one.len);
	}
	return r;
}

static int parse_mount(const struct wire_field *f, struct wire_mount *m)
{
	const uint8_t *p = f->data, *end = p + f->len;
	struct wire_field field;
	uint64_t flags;
	int r;

	while ((r = wire_field_next(&p, end, &field)) > 0) {
		if (field.tag == MOUNT_TARGET) {
			r = wire_field_get_str(&field, &m->target);
		} else if (field.tag == MOUNT_SUBPATH) {
			r = wire_field_get_str(&field, &m->subpath);
		} else if (field.tag == MOUNT_FLAGS) {
			r = wire_field_get_u64(&field, &flags);
			if (r == 0) {
				m->read_only = flags & MOUNT_FLAG_READ_ONLY;
				m->file = flags & MOUNT_FLAG_FILE;
			}
		}
		if (r < 0)
			return r;
	}
	return r < 0 ? r : m->target && m->target[0] == '/' ? 0 : -EBADMSG;
}

int wire_mounts_push(const struct wire_field *f, struct wire_mount **v, size_t *n)
{
	struct wire_mount m = {0};

	if (*n >= WIRE_MOUNTS_MAX)
		return -EBADMSG;
	if (!*v && !(*v = calloc(WIRE_MOUNTS_MAX, sizeof(**v))))
		return -ENOMEM;
	int r = parse_mount(f, &m);
	if (r < 0) {
		wire_mount_done(&m);
		return r;
	}
	(*v)[(*n)++] = m;
	return 0;
}
