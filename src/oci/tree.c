/* SPDX-License-Identifier: MIT */
#include "tree.h"

#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "text-hash.h"

#define WHITEOUT      ".wh."
#define WHITEOUT_META ".wh..wh." /* AUFS's own names; of these only the opaque mark means something */
#define OPAQUE	      ".wh..wh..opq"
#define BUCKETS_MIN   4

/* ---- memory ---- */

int oci_tree_charge(struct oci_tree *t, uint64_t n, struct err *e)
{
	if (n > OCI_TREE_MEMORY_MAX - t->memory)
		return err_set(e, -E2BIG, "too much metadata for one image (over %llu MiB)",
			OCI_TREE_MEMORY_MAX >> 20);
	t->memory += n;
	return 0;
}

void oci_tree_uncharge(struct oci_tree *t, uint64_t n)
{
	t->memory -= n;
}

static uint64_t inode_cost(const struct oci_inode *i)
{
	uint64_t n = sizeof(*i) + i->xattr_len;

	if (i->dir)
		n += sizeof(*i->dir) + sizeof(*i->dir->buckets) * i->dir->n_buckets;
	if (i->target)
		n += i->size + 1;
	return n;
}

static void inode_free(struct oci_inode *i)
{
	if (i->dir)
		free(i->dir->buckets);
	free(i->dir);
	free(i->xattrs);
	free(i->target);
	free(i->data);
	free(i->map);
	free(i);
}

static void inode_unref(struct oci_tree *t, struct oci_inode *i)
{
	if (--i->nlink > 0)
		return;
	if (S_ISREG(i->mode) && t->ops.discard)
		t->ops.discard(t->ops.data, i);
	oci_tree_uncharge(t, inode_cost(i));
	inode_free(i);
}

static void set_attr(struct oci_inode *i, struct oci_attr *a)
{
	i->mode = a->mode;
	i->uid = a->uid;
	i->gid = a->gid;
	i->mtime_s = a->mtime_s;
	i->mtime_ns = a->mtime_ns;
	i->rdev = a->rdev;
	free(i->xattrs);
	i->xattrs = TAKE_PTR(a->xattrs);
	i->xattr_len = a->xattr_len;
}

static struct oci_inode *inode_new(struct oci_tree *t, struct oci_attr *a, struct err *e)
{
	struct oci_inode *i = calloc(1, sizeof(*i));

	if (!i)
		goto oom;
	set_attr(i, a);
	if (S_ISLNK(a->mode)) {
		i->target = strdup(a->target);
		i->size = strlen(a->target);
		if (!i->target)
			goto oom;
	} else if (S_ISDIR(a->mode)) {
		i->dir = calloc(1, sizeof(*i->dir));
		if (!i->dir)
			goto oom;
		i->dir->n_buckets = BUCKETS_MIN;
		i->dir->buckets = calloc(BUCKETS_MIN, sizeof(*i->dir->buckets));
		if (!i->dir->buckets)
			goto oom;
	}
	if (oci_tree_charge(t, inode_cost(i), e) < 0) {
		inode_free(i);
		return NULL;
	}
	return i;
oom:
	if (i)
		inode_free(i);
	err_oom(e);
	return NULL;
}

/* ---- directories ---- */

static struct oci_ent *lookup(const struct oci_tree *t, const struct oci_dir *d, const char *name, size_t n)
{
	uint64_t h = oci_text_hash(t->hash_key, name, n);

	for (struct oci_ent *ent = d->buckets[h & (d->n_buckets - 1)]; ent; ent = ent->next)
		if (ent->hash == h && ent->len == n && memcmp(ent->name, name, n) == 0)
			return ent;
	return NULL;
}

static int grow(struct oci_tree *t, struct oci_dir *d, struct err *e)
{
	uint32_t n = d->n_buckets * 2;
	int r = oci_tree_charge(t, sizeof(*d->buckets) * d->n_buckets, e);

	if (r < 0)
		return r;
	struct oci_ent **b = calloc(n, sizeof(struct oci_ent *));
	if (!b) {
		oci_tree_uncharge(t, sizeof(*d->buckets) * d->n_buckets);
		return err_oom(e);
	}
	for (uint32_t k = 0; k < d->n_buckets; k++)
		for (struct oci_ent *ent = d->buckets[k], *next; ent; ent = next) {
			next = ent->next;
			ent->next = b[ent->hash & (n - 1)];
			b[ent->hash & (n - 1)] = ent;
		}
	free(d->buckets);
	d->buckets = b;
	d->n_buckets = n;
	return 0;
}

/* Puts a name for inode (whose count is raised) into dir. */
static int insert(struct oci_tree *t, struct oci_inode *dir, const char *name, size_t n,
	struct oci_inode *inode, struct err *e)
{
	struct oci_dir *d = dir->dir;
	size_t cost = sizeof(struct oci_ent) + n + 1;

	if (t->n_entries >= OCI_TREE_NODES_MAX)
		return err_set(e, -E2BIG, "too many files for one image (over %u)", OCI_TREE_NODES_MAX);
	if (d->n >= d->n_buckets) {
		int r = grow(t, d, e);
		if (r < 0)
			return r;
	}
	int r = oci_tree_charge(t, cost, e);
	if (r < 0)
		return r;
	struct oci_ent *ent = malloc(cost);
	if (!ent) {
		oci_tree_uncharge(t, cost);
		return err_oom(e);
	}
	*ent = (struct oci_ent){.inode = inode,
		.hash = oci_text_hash(t->hash_key, name, n),
		.layer = t->layer,
		.len = (uint8_t)n};
	memcpy(ent->name, name, n);
	ent->name[n] = '\0';
	struct oci_ent **bucket = &d->buckets[ent->hash & (d->n_buckets - 1)];
	ent->next = *bucket;
	*bucket = ent;
	d->n++;
	t->n_entries++;
	inode->nlink++;
	if (inode->dir) {
		d->n_subdirs++;
		inode->dir->parent = dir;
		inode->dir->depth = (uint16_t)(d->depth + 1);
	}
	return 0;
}

static void remove_children(struct oci_tree *t, struct oci_inode *dir);

static void remove_ent(struct oci_tree *t, struct oci_inode *dir, struct oci_ent *ent)
{
	struct oci_dir *d = dir->dir;
	struct oci_ent **p = &d->buckets[ent->hash & (d->n_buckets - 1)];

	while (*p != ent)
		p = &(*p)->next;
	*p = ent->next;
	d->n--;
	t->n_entries--;
	if (ent->inode->dir) {
		d->n_subdirs--;
		remove_children(t, ent->inode);
	}
	inode_unref(t, ent->inode);
	oci_tree_uncharge(t, sizeof(*ent) + ent->len + 1);
	free(ent);
}

/* Recursion is bounded by OCI_TREE_DEPTH_MAX. */
static void remove_children(struct oci_tree *t, struct oci_inode *dir)
{
	for (uint32_t k = 0; k < dir->dir->n_buckets; k++)
		while (dir->dir->buckets[k])
			remove_ent(t, dir, dir->dir->buckets[k]);
}

static void prune(struct oci_tree *t, struct oci_inode *dir, struct oci_ent *ent);

static void prune_children(struct oci_tree *t, struct oci_inode *dir)
{
	for (uint32_t k = 0; k < dir->dir->n_buckets; k++)
		for (struct oci_ent *ent = dir->dir->buckets[k], *next; ent; ent = next) {
			next = ent->next;
			prune(t, dir, ent);
		}
}

/* Removes what lower layers brought under this name, and keeps what the present one did. */
static void prune(struct oci_tree *t, struct oci_inode *dir, struct oci_ent *ent)
{
	struct oci_dir *d = ent->inode->dir;

	if (ent->layer < t->layer && (!d || d->touched < t->layer))
		remove_ent(t, dir, ent);
	else if (d)
		prune_children(t, ent->inode);
}

static void touch(struct oci_tree *t, struct oci_inode *dir)
{
	while (dir->dir->touched != t->layer) {
		dir->dir->touched = t->layer;
		dir = dir->dir->parent;
	}
}

/* ---- paths ---- */

int oci_path_clean(const char *path, char *dst, struct err *e)
{
	size_t len = 0;

	for (const char *p = path; *p;) {
		size_t n = strcspn(p, "/");
		if (n == 2 && p[0] == '.' && p[1] == '.') {
			while (len > 0 && dst[--len] != '/')
				;
		} else if (n > 0 && !(n == 1 && p[0] == '.')) {
			if (n > OCI_TREE_NAME_MAX)
				return err_set(e, -ENAMETOOLONG, "a file name is longer than %d bytes",
					OCI_TREE_NAME_MAX);
			if (len + 1 + n >= OCI_TREE_PATH_MAX)
				return err_set(e, -ENAMETOOLONG, "a path is longer than %d bytes",
					OCI_TREE_PATH_MAX);
			if (len > 0)
				dst[len++] = '/';
			memcpy(dst + len, p, n);
			len += n;
		}
		p += n;
		p += *p == '/';
	}
	dst[len] = '\0';
	return 0;
}

static int make_implied_dir(struct oci_tree *t, struct oci_inode *dir, const char *name, size_t n,
	struct oci_inode **ret, struct err *e)
{
	struct oci_attr a = {.mode = S_IFDIR | 0755};

	if (dir->dir->depth >= OCI_TREE_DEPTH_MAX)
		return err_set(e, -ENAMETOOLONG, "folders are nested deeper than %d", OCI_TREE_DEPTH_MAX);
	struct oci_inode *i = inode_new(t, &a, e);
	if (!i)
		return -ENOMEM;
	int r = insert(t, dir, name, n, i, e);
	if (r < 0) {
		oci_tree_uncharge(t, inode_cost(i));
		inode_free(i);
		return r;
	}
	*ret = i;
	return 0;
}

/* Puts a link's target in front of what remains of the path at *p, which points into buf. */
static int splice_link(char *buf, const char **p, const char *target, struct err *e)
{
	char joined[OCI_TREE_PATH_MAX];
	int n = snprintf(joined, sizeof(joined), "%s/%s", target, *p);

	if (n >= (int)sizeof(joined))
		return err_set(e, -ENAMETOOLONG, "a path is longer than %d bytes", OCI_TREE_PATH_MAX);
	memcpy(buf, joined, (size_t)n + 1);
	*p = buf;
	return 0;
}

/* Goes from *cur to its child, or to where a link leads. Returns 1 if something is missing and create unset.
 */
static int step(struct oci_tree *t, struct oci_inode **cur, const char *name, size_t n, bool create,
	const char **ret_link, struct err *e)
{
	struct oci_ent *ent = lookup(t, (*cur)->dir, name, n);

	*ret_link = NULL;
	if (!ent)
		return create ? make_implied_dir(t, *cur, name, n, cur, e) : 1;
	if (ent->inode->dir) {
		*cur = ent->inode;
		return 0;
	}
	if (!ent->inode->target)
		return err_set(e, -ENOTDIR, "\"%s\" is not a folder, but something lies below it", ent->name);
	*ret_link = ent->inode->target;
	if (**ret_link == '/')
		*cur = t->root;
	return 0;
}

/* The directory at path. *ret is NULL if something is missing and create unset. */
static int walk(struct oci_tree *t, const char *path, bool create, struct oci_inode **ret, struct err *e)
{
	char buf[OCI_TREE_PATH_MAX];
	const char *p = path, *link;
	struct oci_inode *cur = t->root;
	int links = 0;

	*ret = NULL;
	for (;;) {
		p += strspn(p, "/");
		size_t n = strcspn(p, "/");
		if (n == 0)
			break;
		const char *name = p;
		p += n;
		/* These come only from the target of a link. */
		if (n == 1 && *name == '.')
			continue;
		if (n == 2 && name[0] == '.' && name[1] == '.') {
			cur = cur->dir->parent;
			continue;
		}
		if (n > OCI_TREE_NAME_MAX)
			return err_set(
				e, -ENAMETOOLONG, "a file name is longer than %d bytes", OCI_TREE_NAME_MAX);
		int r = step(t, &cur, name, n, create, &link, e);
		if (r != 0)
			return r < 0 ? r : 0;
		if (link && ++links > OCI_TREE_LINKS_MAX)
			return err_set(e, -ELOOP, "too many symbolic links in one path");
		if (link) {
			r = splice_link(buf, &p, link, e);
			if (r < 0)
				return r;
		}
	}
	*ret = cur;
	return 0;
}

/* Where a path leads: its parent, and its last name (NULL for the root) which points into buf. */
static int locate(struct oci_tree *t, const char *path, bool create, char buf[OCI_TREE_PATH_MAX],
	struct oci_inode **ret_dir, const char **ret_base, struct err *e)
{
	int r = oci_path_clean(path, buf, e);

	if (r < 0)
		return r;
	*ret_base = NULL;
	*ret_dir = t->root;
	if (!*buf)
		return 0;
	char *slash = strrchr(buf, '/');
	*ret_base = slash ? slash + 1 : buf;
	if (!slash)
		return 0;
	*slash = '\0';
	return walk(t, buf, create, ret_dir, e);
}

/* What a cleaned path says by its names alone. */
enum path_kind { PATH_PLAIN, PATH_WHITEOUT, PATH_IGNORED, PATH_BELOW_WHITEOUT };

static enum path_kind path_kind(const char *path)
{
	for (const char *p = path;; p++) {
		size_t n = strcspn(p, "/");
		bool opaque = n == strlen(OPAQUE) && strncmp(p, OPAQUE, n) == 0;
		if (strncmp(p, WHITEOUT_META, strlen(WHITEOUT_META)) == 0 && !opaque)
			return PATH_IGNORED;
		if (strncmp(p, WHITEOUT, strlen(WHITEOUT)) == 0)
			return p[n] ? PATH_BELOW_WHITEOUT : PATH_WHITEOUT;
		p += n;
		if (!*p)
			return PATH_PLAIN;
	}
}

static int below_whiteout(struct err *e)
{
	return err_set(e, -EINVAL, "something lies below a whiteout");
}

/* ---- the interface ---- */

int oci_tree_new(const struct oci_tree_ops *ops, struct oci_tree **ret, struct err *e)
{
	CLEANUP(oci_tree_freep) struct oci_tree *t = calloc(1, sizeof(*t));
	struct oci_attr a = {.mode = S_IFDIR | 0755};

	if (!t)
		return err_oom(e);
	t->ops = *ops;
	io_random(t->hash_key, sizeof(t->hash_key));
	t->root = inode_new(t, &a, e);
	if (!t->root)
		return -ENOMEM;
	t->root->nlink = 1;
	t->root->dir->parent = t->root;
	*ret = TAKE_PTR(t);
	return 0;
}

static void free_below(struct oci_inode *dir)
{
	struct oci_dir *d = dir->dir;
	uint32_t n = d->sorted ? d->n : d->n_buckets;

	for (uint32_t k = 0; k < n; k++)
		for (struct oci_ent *ent = d->buckets[k], *next; ent; ent = next) {
			next = d->sorted ? NULL : ent->next;
			if (ent->inode->dir)
				free_below(ent->inode);
			if (--ent->inode->nlink == 0)
				inode_free(ent->inode);
			free(ent);
		}
}

void oci_tree_free(struct oci_tree *t)
{
	if (!t)
		return;
	if (t->root) {
		free_below(t->root);
		inode_free(t->root);
	}
	free(t);
}

void oci_tree_next_layer(struct oci_tree *t)
{
	t->layer++;
}

static void apply_whiteout(struct oci_tree *t, struct oci_inode *dir, const char *base)
{
	if (strcmp(base, OPAQUE) == 0) {
		prune_children(t, dir);
		return;
	}
	base += strlen(WHITEOUT);
	struct oci_ent *ent = lookup(t, dir->dir, base, strlen(base));
	if (ent)
		prune(t, dir, ent);
}

/* Creates or replaces base in dir. */
static int place(struct oci_tree *t, struct oci_inode *dir, const char *base, struct oci_attr *a,
	struct oci_inode **ret, struct err *e)
{
	size_t n = strlen(base);
	struct oci_ent *ent = lookup(t, dir->dir, base, n);

	if (ent && ent->inode->dir && S_ISDIR(a->mode)) {
		struct oci_inode *i = ent->inode;
		int r = oci_tree_charge(t, a->xattr_len, e);
		if (r < 0)
			return r;
		oci_tree_uncharge(t, i->xattr_len);
		set_attr(i, a);
		ent->layer = t->layer;
		return 0;
	}
	if (S_ISDIR(a->mode) && dir->dir->depth >= OCI_TREE_DEPTH_MAX)
		return err_set(e, -ENAMETOOLONG, "folders are nested deeper than %d", OCI_TREE_DEPTH_MAX);
	if (ent)
		remove_ent(t, dir, ent);
	struct oci_inode *i = inode_new(t, a, e);
	if (!i)
		return e && e->code ? e->code : -ENOMEM;
	int r = insert(t, dir, base, n, i, e);
	if (r < 0) {
		oci_tree_uncharge(t, inode_cost(i));
		inode_free(i);
		return r;
	}
	*ret = i;
	return 0;
}

static int add(
	struct oci_tree *t, const char *path, struct oci_attr *a, struct oci_inode **ret, struct err *e)
{
	char buf[OCI_TREE_PATH_MAX];
	struct oci_inode *dir;
	const char *base;
	int r = oci_path_clean(path, buf, e);

	if (r < 0)
		return r;
	enum path_kind kind = path_kind(buf);
	if (kind == PATH_IGNORED)
		return 0;
	if (kind == PATH_BELOW_WHITEOUT)
		return below_whiteout(e);
	r = locate(t, path, kind == PATH_PLAIN, buf, &dir, &base, e);
	if (r < 0)
		return r;
	if (kind == PATH_WHITEOUT) {
		if (dir)
			apply_whiteout(t, dir, base);
		return 0;
	}
	if (!base) {
		if (!S_ISDIR(a->mode))
			return err_set(e, -EINVAL, "the root is not a folder");
		r = oci_tree_charge(t, a->xattr_len, e);
		if (r < 0)
			return r;
		oci_tree_uncharge(t, t->root->xattr_len);
		set_attr(t->root, a);
		return 0;
	}
	if (S_ISLNK(a->mode) && !*a->target)
		return err_set(e, -EINVAL, "a symbolic link has no target");
	if (S_ISLNK(a->mode) && strlen(a->target) >= OCI_TREE_PATH_MAX)
		return err_set(e, -ENAMETOOLONG, "a symbolic link's target is longer than %d bytes",
			OCI_TREE_PATH_MAX);
	touch(t, dir);
	r = place(t, dir, base, a, ret, e);
	if (r == 0 && *ret && !S_ISREG(a->mode))
		*ret = NULL;
	return r;
}

int oci_tree_add(
	struct oci_tree *t, const char *path, struct oci_attr *a, struct oci_inode **ret, struct err *e)
{
	*ret = NULL;
	int r = add(t, path, a, ret, e);
	free(a->xattrs);
	a->xattrs = NULL;
	return r;
}

int oci_tree_link(struct oci_tree *t, const char *path, const char *target, struct err *e)
{
	char buf[OCI_TREE_PATH_MAX], target_buf[OCI_TREE_PATH_MAX];
	struct oci_inode *dir, *target_dir;
	const char *base, *target_base;
	int r = oci_path_clean(path, buf, e);

	if (r < 0)
		return r;
	enum path_kind kind = path_kind(buf);
	if (kind == PATH_IGNORED)
		return 0;
	if (kind != PATH_PLAIN)
		return kind == PATH_WHITEOUT ? err_set(e, -EINVAL, "a whiteout is a hard link")
					     : below_whiteout(e);
	r = locate(t, target, false, target_buf, &target_dir, &target_base, e);
	if (r < 0)
		return r;
	struct oci_ent *ent = target_dir && target_base
				      ? lookup(t, target_dir->dir, target_base, strlen(target_base))
				      : NULL;
	if (!ent)
		return err_set(e, -ENOENT, "a hard link leads to \"%s\", which is missing", target);
	struct oci_inode *i = ent->inode;
	if (i->dir)
		return err_set(e, -EINVAL, "a hard link leads to the folder \"%s\"", target);
	r = locate(t, path, true, buf, &dir, &base, e);
	if (r < 0)
		return r;
	if (!base)
		return err_set(e, -EINVAL, "a hard link has no name of its own");
	touch(t, dir);
	struct oci_ent *old = lookup(t, dir->dir, base, strlen(base));
	if (old && old->inode == i) {
		old->layer = t->layer;
		return 0;
	}
	/* What is replaced may hold the target's last other name. */
	i->nlink++;
	if (old)
		remove_ent(t, dir, old);
	r = insert(t, dir, base, strlen(base), i, e);
	inode_unref(t, i);
	return r;
}

static int compare_ents(const void *a, const void *b)
{
	return strcmp((*(struct oci_ent *const *)a)->name, (*(struct oci_ent *const *)b)->name);
}

int oci_tree_sort(struct oci_inode *dir, struct err *e)
{
	struct oci_dir *d = dir->dir;
	struct oci_ent **v = malloc(sizeof(struct oci_ent *) * (d->n ? d->n : 1));
	uint32_t n = 0;

	if (!v)
		return err_oom(e);
	for (uint32_t k = 0; k < d->n_buckets; k++)
		for (struct oci_ent *ent = d->buckets[k]; ent; ent = ent->next)
			v[n++] = ent;
	qsort(v, n, sizeof(*v), compare_ents);
	free(d->buckets);
	d->buckets = v;
	d->sorted = true;
	return 0;
}
