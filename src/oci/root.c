/* SPDX-License-Identifier: MIT */
/*
 * The file system of an image, read on the host. The disk's recipe is replayed as far as it goes, which gives the tree that the
 * guest's kernel reads from the disk; content is then read where the recipe says that it lies. Nothing here parses EROFS.
 */
#include <fcntl.h>
#include <linux/limits.h>
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "disk.h"
#include "erofs-format.h"
#include "oci/content.h"
#include "recipe.h"

#define COPY_SIZE (256u << 10) /* bytes of content handed on at once */

struct oci_root {
	int fd;
	struct oci_erofs w; /* never writes: what replaying keeps its counts in */
	struct oci_tree *tree;
	uint64_t n_files; /* each has its number in `pos`, from 1 */
};

static const struct oci_inode *inode_of(const struct oci_node *n)
{
	return (const struct oci_inode *)n;
}

static const struct oci_node *node_of(const struct oci_inode *i)
{
	return (const struct oci_node *)i;
}

/* ---- opening ---- */

static int open_disk(struct state *st, const char *disk, struct err *e)
{
	CLEANUP_CLOSE int fd = openat(st->home_fd, disk, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	struct stat sb;

	if (fd < 0)
		return err_sys(e, -errno, "cannot open the image's disk %s", disk);
	if (fstat(fd, &sb) < 0 || !S_ISREG(sb.st_mode))
		return err_set(e, -EBADMSG, "the image's disk %s is no regular file", disk);
	return TAKE_FD(fd);
}

static int replay(struct oci_root *r, struct err *e)
{
	CLEANUP(oci_base_freep) struct oci_base *b = NULL;
	struct oci_tree_ops ops = {oci_erofs_discard, &r->w};
	int rc = oci_base_open(r->fd, &b, e);

	if (rc == 0)
		rc = oci_erofs_init(&r->w, r->fd, e);
	if (rc == 0)
		rc = oci_tree_new(&ops, &r->tree, e);
	if (rc < 0)
		return rc;
	r->w.tree = r->tree;
	rc = oci_base_replay_all(b, &r->w, e);
	return rc == 0 ? err_set(e, -EBADMSG, "the image's disk lacks what its recipe says") : MIN_OF(rc, 0);
}

/*
 * Of a disk without a recipe, of a program that left none or damaged: it is built again of what the store holds, and comes out
 * the same but for that. Boxes that run keep the one they have.
 */
static int remake(struct state *st, const char *disk, struct err *e)
{
	CLEANUP(oci_store_closep) struct oci_store *s = NULL;
	CLEANUP(stmt_done) sqlite3_stmt *found = NULL;
	CLEANUP_CLOSE int lock = -1;
	char chain[OCI_DIGEST_MAX];
	const char *slash = strrchr(disk, '/'), *name = slash ? slash + 1 : disk;

	snprintf(chain, sizeof(chain), "sha256:%.*s", (int)strcspn(name, "."), name);
	int r = state_prepare(st, &found, e,
		"SELECT digest FROM image_manifests WHERE chain = ? ORDER BY digest", "s", chain);
	if (r == 0)
		r = state_step(st, found, e);
	if (r == 0)
		r = err_set(e, -ENOENT, "the image's disk does not say what is in it, or is damaged");
	if (r < 0)
		return r;
	CLEANUP_FREE char *manifest = state_column_dup(found, 0);
	if (!manifest)
		return err_oom(e);
	r = oci_store_open(st, &s, e);
	if (r == 0)
		r = oci_store_lock(s, OCI_LOCK_ADD, &lock, e);
	if (r < 0)
		return r;
	r = oci_disk_remake(s, manifest, chain, NULL, e);
	oci_store_release(s, &lock);
	return r;
}

/* Puts every folder in order and numbers the files. Recursion is bounded by OCI_TREE_DEPTH_MAX. */
static int prepare(struct oci_root *r, struct oci_inode *dir, struct err *e)
{
	int rc = oci_tree_sort(dir, e);

	for (uint32_t k = 0; rc == 0 && k < dir->dir->n; k++) {
		struct oci_inode *i = dir->dir->buckets[k]->inode;
		if (i->pos == 0)
			i->pos = ++r->n_files;
		if (i->dir)
			rc = prepare(r, i, e);
	}
	return rc;
}

int oci_root_open(struct state *st, const char *disk, struct oci_root **ret, struct err *e)
{
	CLEANUP(oci_root_freep) struct oci_root *r = calloc(1, sizeof(*r));

	if (!r)
		return err_oom(e);
	r->fd = open_disk(st, disk, e);
	int rc = r->fd < 0 ? r->fd : replay(r, e);
	if (r->fd >= 0 && rc == -ENOENT) {
		rc = remake(st, disk, e);
		close_fd(&r->fd);
		if (rc == 0)
			rc = r->fd = open_disk(st, disk, e);
		if (rc >= 0)
			rc = replay(r, e);
		if (rc == -ENOENT && e && !e->code)
			err_set(e, rc, "the image's disk does not say what is in it");
	}
	if (rc == 0) {
		r->tree->root->pos = ++r->n_files;
		rc = prepare(r, r->tree->root, e);
	}
	if (rc < 0)
		return rc;
	/* Of the writer, nothing is needed any more. */
	oci_erofs_done(&r->w);
	*ret = TAKE_PTR(r);
	return 0;
}

void oci_root_free(struct oci_root *r)
{
	if (!r)
		return;
	oci_tree_free(r->tree);
	oci_erofs_done(&r->w);
	close_fd(&r->fd);
	free(r);
}

/* ---- finding ---- */

const struct oci_node *oci_root_node(const struct oci_root *r)
{
	return node_of(r->tree->root);
}

/* Of a sorted folder. The name has no NUL behind it. */
static const struct oci_inode *lookup(const struct oci_inode *dir, const char *name, size_t len)
{
	uint32_t from = 0, to = dir->dir ? dir->dir->n : 0;

	while (from < to) {
		uint32_t at = from + (to - from) / 2;
		const struct oci_ent *ent = dir->dir->buckets[at];
		int c = memcmp(name, ent->name, MIN_OF(len, (size_t)ent->len));
		if (c == 0 && len == ent->len)
			return ent->inode;
		if (c < 0 || (c == 0 && len < ent->len))
			to = at;
		else
			from = at + 1;
	}
	return NULL;
}

/* Puts a link's target in front of what is left of the path in buf. */
static bool put_in_front(char buf[OCI_TREE_PATH_MAX], const char **p, const char *target)
{
	char joined[OCI_TREE_PATH_MAX];
	int n = snprintf(joined, sizeof(joined), "%s%s%s", target, **p ? "/" : "", *p);

	if (n < 0 || (size_t)n >= sizeof(joined))
		return false;
	memcpy(buf, joined, (size_t)n + 1);
	*p = buf;
	return true;
}

const struct oci_node *oci_root_find(const struct oci_root *r, const char *path, bool follow)
{
	char buf[OCI_TREE_PATH_MAX];
	const struct oci_inode *cur = r->tree->root;
	const char *p = path;
	int links = 0;

	while (*(p += strspn(p, "/"))) {
		size_t n = strcspn(p, "/");
		const char *name = p;
		p += n;
		if (!cur->dir)
			return NULL;
		if (n == 1 && *name == '.')
			continue;
		if (n == 2 && name[0] == '.' && name[1] == '.') {
			cur = cur->dir->parent;
			continue;
		}
		const struct oci_inode *next = lookup(cur, name, n);
		if (!next)
			return NULL;
		/* With a slash behind it, a link stands for what it leads to. */
		if (!next->target || (!*p && !follow)) {
			if (*p && !next->dir)
				return NULL;
			cur = next;
			continue;
		}
		if (++links > OCI_TREE_LINKS_MAX)
			return NULL;
		if (*next->target == '/')
			cur = r->tree->root;
		if (!put_in_front(buf, &p, next->target))
			return NULL;
	}
	return node_of(cur);
}

const struct oci_node *oci_node_child(const struct oci_root *r, const struct oci_node *dir, const char *name)
{
	(void)r;
	return node_of(lookup(inode_of(dir), name, strlen(name)));
}

int oci_node_list(const struct oci_root *r, const struct oci_node *dir,
	int (*fn)(void *data, const char *name, const struct oci_node *n), void *data, struct err *e)
{
	const struct oci_dir *d = inode_of(dir)->dir;

	(void)r;
	if (!d)
		return err_set(e, -ENOTDIR, "what is listed is no folder");
	for (uint32_t k = 0; k < d->n; k++) {
		int rc = fn(data, d->buckets[k]->name, node_of(d->buckets[k]->inode));
		if (rc != 0)
			return rc;
	}
	return 0;
}

const struct oci_node *oci_node_at(
	const struct oci_root *r, const struct oci_node *dir, size_t index, const char **ret_name)
{
	const struct oci_dir *d = inode_of(dir)->dir;

	(void)r;
	if (!d || index >= d->n)
		return NULL;
	*ret_name = d->buckets[index]->name;
	return node_of(d->buckets[index]->inode);
}

/* ---- entries ---- */

static const char *const xattr_prefixes[] = {
	[EROFS_XATTR_USER] = "user.",
	[EROFS_XATTR_ACL_ACCESS] = "system.posix_acl_access",
	[EROFS_XATTR_ACL_DEFAULT] = "system.posix_acl_default",
	[EROFS_XATTR_TRUSTED] = "trusted.",
	[EROFS_XATTR_SECURITY] = "security.",
};

static int add_xattr(struct wire_entry *en, const struct erofs_xattr *x, const uint8_t *p, struct err *e)
{
	const char *prefix = x->name_index < ARRAY_LEN(xattr_prefixes) ? xattr_prefixes[x->name_index] : NULL;
	size_t len = le16toh(x->value_size), skip = prefix ? strlen(prefix) : 0;

	/* The kernel cannot name these either. */
	if (!prefix || skip + x->name_len > XATTR_NAME_MAX || memchr(p, '\0', x->name_len))
		return 0;
	if (en->n_xattrs == WIRE_XATTR_MAX)
		return err_set(e, -E2BIG, "a file of the image has more than %d extended attributes",
			WIRE_XATTR_MAX);
	struct wire_xattr *v = realloc(en->xattrs, (en->n_xattrs + 1) * sizeof(*v));
	if (!v)
		return err_oom(e);
	en->xattrs = v;
	v += en->n_xattrs;
	*v = (struct wire_xattr){
		.name = malloc(skip + x->name_len + 1), .value = malloc(len + 1), .len = len};
	en->n_xattrs++;
	if (!v->name || !v->value)
		return err_oom(e);
	memcpy(v->name, prefix, skip);
	memcpy(v->name + skip, p, x->name_len);
	v->name[skip + x->name_len] = '\0';
	memcpy(v->value, p + x->name_len, len);
	return 0;
}

/* The tree's form of them was checked when the recipe was replayed. */
static int read_xattrs(const struct oci_inode *i, struct wire_entry *en, struct err *e)
{
	int r = 0;

	for (uint32_t at = 0; r == 0 && at < i->xattr_len;) {
		struct erofs_xattr x;
		memcpy(&x, i->xattrs + at, sizeof(x));
		r = add_xattr(en, &x, i->xattrs + at + sizeof(x), e);
		at += (uint32_t)((sizeof(x) + x.name_len + le16toh(x.value_size) + 3) & ~(size_t)3);
	}
	return r;
}

int oci_node_entry(const struct oci_root *r, const struct oci_node *n, struct wire_entry *ret, uint64_t *id,
	struct err *e)
{
	const struct oci_inode *i = inode_of(n);
	struct wire_entry en = {
		.mode = i->mode,
		.uid = i->uid,
		.gid = i->gid,
		.mtime_s = i->mtime_s,
		.mtime_ns = i->mtime_ns,
		.size = S_ISREG(i->mode) ? i->size : 0,
	};
	int rc = 0;

	(void)r;
	if (S_ISCHR(i->mode) || S_ISBLK(i->mode)) {
		/* As layer.c packs them. */
		en.major = i->rdev >> 8 & 0xfff;
		en.minor = (i->rdev & 0xff) | (i->rdev >> 12 & 0xfff00);
	}
	if (i->target) {
		en.target = strdup(i->target);
		rc = en.target ? 0 : err_oom(e);
	}
	if (rc == 0)
		rc = read_xattrs(i, &en, e);
	if (rc < 0) {
		wire_entry_done(&en);
		return rc;
	}
	*ret = en;
	if (id)
		*id = i->pos;
	return 0;
}

uint32_t oci_node_mode(const struct oci_root *r, const struct oci_node *n)
{
	(void)r;
	return inode_of(n)->mode;
}

uint32_t oci_node_names(const struct oci_root *r, const struct oci_node *n)
{
	(void)r;
	return inode_of(n)->nlink;
}

/* ---- content ---- */

/* n bytes at a place of the disk, which are content from this offset on. */
static int send_blocks(const struct oci_root *r, uint64_t block, uint64_t offset, uint64_t n, uint8_t *mem,
	const struct tree_sink *to, struct err *e)
{
	uint64_t at = block << EROFS_BLOCK_BITS;

	while (n > 0) {
		size_t k = (size_t)MIN_OF(n, (uint64_t)COPY_SIZE);
		ssize_t got = io_pread_full(r->fd, mem, k, (off_t)at);
		if (got < 0)
			return err_sys(e, (int)got, "cannot read the image's disk");
		if ((size_t)got != k)
			return err_set(e, -EBADMSG, "the image's disk is shorter than its content");
		int rc = to->content(to->data, offset, mem, k, e);
		if (rc < 0)
			return rc;
		at += k;
		offset += k;
		n -= k;
	}
	return 0;
}

static int send_chunks(const struct oci_root *r, const struct oci_inode *i, uint8_t *mem,
	const struct tree_sink *to, struct err *e)
{
	uint64_t chunk = (uint64_t)EROFS_BLOCK_SIZE << i->chunk_bits;
	int rc = 0;

	for (size_t k = 0, n = oci_erofs_chunks(i); rc == 0 && k < n; k++) {
		uint64_t offset = k * chunk;
		if (i->map[k] != EROFS_NULL_ADDR)
			rc = send_blocks(r, i->map[k], offset, MIN_OF(chunk, i->size - offset), mem, to, e);
	}
	return rc;
}

int oci_node_content(
	const struct oci_root *r, const struct oci_node *n, const struct tree_sink *to, struct err *e)
{
	const struct oci_inode *i = inode_of(n);

	if (!S_ISREG(i->mode) || i->size == 0)
		return 0;
	if (i->data)
		return to->content(to->data, 0, i->data, i->size, e);
	CLEANUP_FREE uint8_t *mem = malloc(COPY_SIZE);
	if (!mem)
		return err_oom(e);
	return i->map ? send_chunks(r, i, mem, to, e) : send_blocks(r, i->blkaddr, 0, i->size, mem, to, e);
}

/* ---- a tree of it ---- */

struct reading {
	const struct oci_root *root;
	const struct tree_sink *to;
	char **first; /* by number of the file: its path when it came, of those with several names */
	char path[WIRE_PATH_MAX + 1];
	size_t len;
};

static int read_node(struct reading *rd, const struct oci_inode *i, struct err *e);

static int read_below(struct reading *rd, const struct oci_dir *d, struct err *e)
{
	int rc = 0;

	for (uint32_t k = 0; rc == 0 && k < d->n; k++) {
		const struct oci_ent *ent = d->buckets[k];
		size_t len = rd->len, slash = len > 0;
		if (S_ISSOCK(ent->inode->mode))
			continue;
		if (ent->len + slash > WIRE_PATH_MAX - len)
			return err_set(e, -ENAMETOOLONG, "a path of the image is longer than %d bytes",
				WIRE_PATH_MAX);
		if (slash)
			rd->path[len] = '/';
		memcpy(rd->path + len + slash, ent->name, (size_t)ent->len + 1);
		rd->len = len + slash + ent->len;
		rc = read_node(rd, ent->inode, e);
		rd->len = len;
		rd->path[len] = '\0';
	}
	return rc;
}

/* Recursion is bounded by OCI_TREE_DEPTH_MAX. */
static int read_node(struct reading *rd, const struct oci_inode *i, struct err *e)
{
	struct wire_entry en = {0};
	char *known = i->dir || i->nlink < 2 ? NULL : rd->first[i->pos - 1];
	int rc;

	if (known) {
		en = (struct wire_entry){.path = rd->path, .link = known};
		return rd->to->entry(rd->to->data, &en, e);
	}
	rc = oci_node_entry(rd->root, node_of(i), &en, NULL, e);
	if (rc < 0)
		return rc;
	en.path = strdup(rd->path);
	rc = en.path ? rd->to->entry(rd->to->data, &en, e) : err_oom(e);
	if (rc == 0 && !i->dir && i->nlink > 1)
		rd->first[i->pos - 1] = TAKE_PTR(en.path);
	wire_entry_done(&en);
	if (rc == 0)
		rc = i->dir ? read_below(rd, i->dir, e) : oci_node_content(rd->root, node_of(i), rd->to, e);
	return rc;
}

int oci_node_read(
	const struct oci_root *r, const struct oci_node *n, const struct tree_sink *to, struct err *e)
{
	struct reading *rd = calloc(1, sizeof(*rd));
	int rc = rd ? 0 : err_oom(e);

	if (rc == 0) {
		rd->root = r;
		rd->to = to;
		rd->first = calloc(r->n_files, sizeof(*rd->first));
		rc = rd->first ? read_node(rd, inode_of(n), e) : err_oom(e);
	}
	if (rc == 0)
		rc = to->end(to->data, e);
	for (uint64_t k = 0; rd && rd->first && k < r->n_files; k++)
		free(rd->first[k]);
	if (rd)
		free(rd->first);
	free(rd);
	return rc;
}
