/* SPDX-License-Identifier: MIT */
/* Frames of a tree. Tags are part of the protocol: append, never renumber. */
#include "wire/tree.h"

#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "fields.h"

enum {
	ENTRY_PATH = 1,
	ENTRY_MODE = 2, /* numbers that are 0 are left out */
	ENTRY_UID = 3,
	ENTRY_GID = 4,
	ENTRY_MTIME_S = 5, /* two's complement */
	ENTRY_MTIME_NS = 6,
	ENTRY_MAJOR = 7,
	ENTRY_MINOR = 8,
	ENTRY_SIZE = 9,
	ENTRY_TARGET = 10,
	ENTRY_LINK = 11,
	ENTRY_FLAGS = 12,
	ENTRY_XATTR = 13, /* repeated; fields inside */
};
enum { XATTR_NAME = 1, XATTR_VALUE = 2 };
enum { ENTRY_FLAG_WHITEOUT = 1, ENTRY_FLAG_OPAQUE = 2 };
enum { CONTENT_HEADER = 8, ATTR_NAME_MAX = 255 /* XATTR_NAME_MAX */, MAJOR_MAX = 0xfff, MINOR_MAX = 0xfffff };

static void xattrs_done(struct wire_entry *e)
{
	for (size_t i = 0; i < e->n_xattrs; i++) {
		free(e->xattrs[i].name);
		free(e->xattrs[i].value);
	}
	free(e->xattrs);
}

void wire_entry_done(struct wire_entry *e)
{
	free(e->path);
	free(e->target);
	free(e->link);
	xattrs_done(e);
	*e = (struct wire_entry){0};
}

bool wire_path_valid(const char *path)
{
	const char *p = path;

	if (!*path)
		return true;
	if (strnlen(path, WIRE_PATH_MAX + 1) > WIRE_PATH_MAX)
		return false;
	for (;;) {
		size_t n = strcspn(p, "/");

		if (n == 0 || n > NAME_MAX || (p[0] == '.' && (n == 1 || (n == 2 && p[1] == '.'))))
			return false;
		if (!p[n])
			return true;
		p += n + 1;
	}
}

static bool xattrs_valid(const struct wire_entry *e)
{
	size_t total = 0;

	if (e->n_xattrs > WIRE_XATTR_MAX)
		return false;
	for (size_t i = 0; i < e->n_xattrs; i++) {
		const char *name = e->xattrs[i].name;
		size_t n = name ? strnlen(name, ATTR_NAME_MAX + 1) : 0;

		if (n == 0 || n > ATTR_NAME_MAX || !strchr(name, '.') || e->xattrs[i].len > WIRE_XATTRS_MAX)
			return false;
		total += n + e->xattrs[i].len;
	}
	return total <= WIRE_XATTRS_MAX;
}

/* What has a place in the tree, but is nothing by itself. */
static bool nameless_valid(const struct wire_entry *e)
{
	return *e->path && !e->mode && !e->target && !e->size && !e->n_xattrs && !e->opaque && !e->major &&
	       !e->minor &&
	       (!e->link || (*e->link && wire_path_valid(e->link) && strcmp(e->link, e->path) != 0));
}

bool wire_entry_valid(const struct wire_entry *e)
{
	uint32_t type = e->mode & S_IFMT;
	bool device = type == S_IFCHR || type == S_IFBLK;

	if (!e->path || !wire_path_valid(e->path) || e->mtime_ns >= 1000000000 || e->uid == UINT32_MAX ||
		e->gid == UINT32_MAX)
		return false;
	if (e->link || e->whiteout)
		return !(e->link && e->whiteout) && nameless_valid(e);
	if (!device && type != S_IFREG && type != S_IFDIR && type != S_IFLNK && type != S_IFIFO &&
		type != S_IFSOCK)
		return false;
	if ((e->mode & ~(uint32_t)(S_IFMT | 07777)) || (type == S_IFLNK) != (e->target != NULL) ||
		(e->opaque && type != S_IFDIR) || (e->size && type != S_IFREG) || e->size > INT64_MAX)
		return false;
	if (e->target && (!*e->target || strnlen(e->target, WIRE_PATH_MAX + 1) > WIRE_PATH_MAX))
		return false;
	if (e->major > (device ? MAJOR_MAX : 0) || e->minor > (device ? MINOR_MAX : 0))
		return false;
	return xattrs_valid(e);
}

/* ---- writing ---- */

static int put_xattr(struct buf *msg, const struct wire_xattr *x)
{
	CLEANUP(buf_done) struct buf fields = {0};
	int r = wire_field_str(&fields, XATTR_NAME, x->name);

	if (r == 0)
		r = wire_field_bytes(&fields, XATTR_VALUE, x->value, x->len);
	return r < 0 ? r : wire_field_bytes(msg, ENTRY_XATTR, buf_data(&fields), fields.len);
}

int wire_put_entry(struct buf *out, const struct wire_entry *e)
{
	const struct {
		uint8_t tag;
		uint64_t value;
	} numbers[] = {{ENTRY_MODE, e->mode}, {ENTRY_UID, e->uid}, {ENTRY_GID, e->gid},
		{ENTRY_MTIME_S, (uint64_t)e->mtime_s}, {ENTRY_MTIME_NS, e->mtime_ns}, {ENTRY_MAJOR, e->major},
		{ENTRY_MINOR, e->minor}, {ENTRY_SIZE, e->size},
		{ENTRY_FLAGS, (e->whiteout ? ENTRY_FLAG_WHITEOUT : 0) | (e->opaque ? ENTRY_FLAG_OPAQUE : 0)}};
	struct buf msg = {0};
	int r = wire_entry_valid(e) ? wire_field_str(&msg, ENTRY_PATH, e->path) : -EINVAL;

	for (size_t i = 0; r == 0 && i < ARRAY_LEN(numbers); i++)
		if (numbers[i].value)
			r = wire_field_u64(&msg, numbers[i].tag, numbers[i].value);
	if (r == 0)
		r = wire_field_str(&msg, ENTRY_TARGET, e->target);
	if (r == 0)
		r = wire_field_str(&msg, ENTRY_LINK, e->link);
	for (size_t i = 0; r == 0 && i < e->n_xattrs; i++)
		r = put_xattr(&msg, &e->xattrs[i]);
	return wire_put_message(out, WIRE_ENTRY, &msg, r);
}

int wire_put_content_header(uint8_t dst[WIRE_CONTENT_HEADER], uint64_t offset, size_t len)
{
	if (!len || offset > INT64_MAX || len > INT64_MAX - offset)
		return -EINVAL;
	if (len > WIRE_DATA_MAX)
		return -EMSGSIZE;
	dst[0] = WIRE_CONTENT;
	put_be32(dst + 1, (uint32_t)(CONTENT_HEADER + len));
	put_be64(dst + WIRE_HEADER_SIZE, offset);
	return 0;
}

int wire_put_content(struct buf *out, uint64_t offset, const void *data, size_t len)
{
	uint8_t header[WIRE_CONTENT_HEADER];
	int r = wire_put_content_header(header, offset, len);
	uint8_t *p = r == 0 ? buf_reserve(out, sizeof(header) + len) : NULL;

	if (!p)
		return r < 0 ? r : -ENOMEM;
	memcpy(p, header, sizeof(header));
	memcpy(p + sizeof(header), data, len);
	buf_commit(out, sizeof(header) + len);
	return 0;
}

/* ---- reading ---- */

static int get_u32(const struct wire_field *f, uint32_t *ret)
{
	uint64_t v;

	if (wire_field_get_u64(f, &v) < 0 || v > UINT32_MAX)
		return -EBADMSG;
	*ret = (uint32_t)v;
	return 0;
}

static int get_flags(const struct wire_field *f, struct wire_entry *e)
{
	uint32_t flags;

	/* An unknown flag would change what the entry means. */
	if (get_u32(f, &flags) < 0 || (flags & ~(uint32_t)(ENTRY_FLAG_WHITEOUT | ENTRY_FLAG_OPAQUE)))
		return -EBADMSG;
	e->whiteout = flags & ENTRY_FLAG_WHITEOUT;
	e->opaque = flags & ENTRY_FLAG_OPAQUE;
	return 0;
}

static int get_value(const struct wire_field *f, struct wire_xattr *x)
{
	uint8_t *value = malloc((size_t)f->len + 1);

	if (!value)
		return -ENOMEM;
	if (f->len)
		memcpy(value, f->data, f->len);
	free(x->value);
	x->value = value;
	x->len = f->len;
	return 0;
}

static int get_xattr(const struct wire_field *f, struct wire_entry *e)
{
	const uint8_t *p = f->data, *end = p + f->len;
	struct wire_field field;
	int r;

	if (e->n_xattrs == WIRE_XATTR_MAX)
		return -EBADMSG;
	if ((e->n_xattrs & (e->n_xattrs - 1)) == 0) { /* room for the next power of two */
		void *more = realloc(e->xattrs, MAX_OF(2 * e->n_xattrs, (size_t)1) * sizeof(*e->xattrs));

		if (!more)
			return -ENOMEM;
		e->xattrs = more;
	}
	struct wire_xattr *x = &e->xattrs[e->n_xattrs++];
	*x = (struct wire_xattr){0};
	while ((r = wire_field_next(&p, end, &field)) > 0) {
		if (field.tag == XATTR_NAME)
			r = wire_field_get_str(&field, &x->name);
		else if (field.tag == XATTR_VALUE)
			r = get_value(&field, x);
		if (r < 0)
			return r;
	}
	return r;
}

static int get_field(const struct wire_field *f, struct wire_entry *e)
{
	uint64_t v;

	switch (f->tag) {
	case ENTRY_PATH:
		return wire_field_get_str(f, &e->path);
	case ENTRY_MODE:
		return get_u32(f, &e->mode);
	case ENTRY_UID:
		return get_u32(f, &e->uid);
	case ENTRY_GID:
		return get_u32(f, &e->gid);
	case ENTRY_MTIME_S:
		if (wire_field_get_u64(f, &v) < 0)
			return -EBADMSG;
		e->mtime_s = (int64_t)v;
		return 0;
	case ENTRY_MTIME_NS:
		return get_u32(f, &e->mtime_ns);
	case ENTRY_MAJOR:
		return get_u32(f, &e->major);
	case ENTRY_MINOR:
		return get_u32(f, &e->minor);
	case ENTRY_SIZE:
		return wire_field_get_u64(f, &e->size);
	case ENTRY_TARGET:
		return wire_field_get_str(f, &e->target);
	case ENTRY_LINK:
		return wire_field_get_str(f, &e->link);
	case ENTRY_FLAGS:
		return get_flags(f, e);
	case ENTRY_XATTR:
		return get_xattr(f, e);
	default:
		return 0;
	}
}

int wire_get_entry(const struct wire_frame *f, struct wire_entry *ret)
{
	const uint8_t *p = f->payload, *end = p + f->len;
	struct wire_entry e = {0};
	struct wire_field field;
	int r;

	*ret = (struct wire_entry){0};
	while ((r = wire_field_next(&p, end, &field)) > 0) {
		r = get_field(&field, &e);
		if (r < 0)
			break;
	}
	if (r == 0 && !wire_entry_valid(&e))
		r = -EBADMSG;
	if (r < 0) {
		wire_entry_done(&e);
		return r;
	}
	*ret = e;
	return 0;
}

int wire_get_content(const struct wire_frame *f, uint64_t *offset, const uint8_t **data, size_t *len)
{
	if (f->len <= CONTENT_HEADER)
		return -EBADMSG;
	uint64_t at = get_be64(f->payload);
	if (at > INT64_MAX || f->len - CONTENT_HEADER > INT64_MAX - at)
		return -EBADMSG;
	*offset = at;
	*data = f->payload + CONTENT_HEADER;
	*len = f->len - CONTENT_HEADER;
	return 0;
}
