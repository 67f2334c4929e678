/* SPDX-License-Identifier: MIT */
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "inside.h"

bool node_is(const struct oci_root *image, const struct oci_node *n, uint32_t type)
{
	return n && (oci_node_mode(image, n) & S_IFMT) == type;
}

static const struct wire_xattr *find_xattr(const struct wire_entry *en, const char *name)
{
	for (size_t i = 0; i < en->n_xattrs; i++)
		if (strcmp(en->xattrs[i].name, name) == 0)
			return &en->xattrs[i];
	return NULL;
}

static bool same_value(const struct wire_xattr *a, const struct wire_xattr *b)
{
	return (!a && !b) ||
	       (a && b && a->len == b->len && (a->len == 0 || memcmp(a->value, b->value, a->len) == 0));
}

static bool same_owner(const struct wire_entry *a, const struct wire_entry *b)
{
	return a->mode == b->mode && a->uid == b->uid && a->gid == b->gid;
}

bool same_folder(const struct wire_entry *a, const struct wire_entry *b)
{
	if (!same_owner(a, b) || a->n_xattrs != b->n_xattrs)
		return false;
	for (size_t i = 0; i < a->n_xattrs; i++)
		if (!same_value(&a->xattrs[i], find_xattr(b, a->xattrs[i].name)))
			return false;
	return true;
}

/* Docker's sameFsTimeSpec: archives often have no nanoseconds. */
static bool same_time(const struct wire_entry *a, const struct wire_entry *b)
{
	return a->mtime_s == b->mtime_s &&
	       (a->mtime_ns == b->mtime_ns || a->mtime_ns == 0 || b->mtime_ns == 0);
}

bool looks_changed(const struct wire_entry *now, const struct wire_entry *before)
{
	static const char capability[] = "security.capability";

	if (!same_owner(now, before) || now->major != before->major || now->minor != before->minor ||
		!same_value(find_xattr(now, capability), find_xattr(before, capability)))
		return true;
	if (S_ISDIR(now->mode))
		return false;
	return now->size != before->size || !same_time(now, before) ||
	       (now->target && strcmp(now->target, before->target) != 0);
}

int entry_copy(struct wire_entry *dst, const struct wire_entry *src, struct err *e)
{
	struct wire_entry c = *src;

	c.path = str_dup(src->path);
	c.target = str_dup(src->target);
	c.link = str_dup(src->link);
	c.xattrs = src->n_xattrs ? calloc(src->n_xattrs, sizeof(*c.xattrs)) : NULL;
	c.n_xattrs = c.xattrs ? src->n_xattrs : 0;
	bool whole =
		c.path && (c.target || !src->target) && (c.link || !src->link) && c.n_xattrs == src->n_xattrs;
	for (size_t i = 0; i < c.n_xattrs; i++) {
		const struct wire_xattr *x = &src->xattrs[i];
		c.xattrs[i] = (struct wire_xattr){
			.name = strdup(x->name), .value = malloc(x->len + 1), .len = x->len};
		whole = whole && c.xattrs[i].name && c.xattrs[i].value;
		if (whole && x->len)
			memcpy(c.xattrs[i].value, x->value, x->len);
	}
	if (!whole) {
		wire_entry_done(&c);
		return err_oom(e);
	}
	*dst = c;
	return 0;
}
