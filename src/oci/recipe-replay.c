/* SPDX-License-Identifier: MIT */
/* Recipes of disks, second part: replaying them. A recipe is ours and bears its digest; still nothing in it is believed. */
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "erofs-format.h"
#include "recipe-format.h"
#include "recipe.h"

#define BUFFER (RECIPE_RECORD_MAX + (256u << 10))

struct oci_base {
	int fd;
	uint64_t offset, len, blocks; /* records; blocks of the file in front of them */
	struct recipe_trailer trailer;
	uint8_t *mem; /* BUFFER bytes */
	size_t start, end;
	uint64_t next; /* byte of the records that follows what is in mem */
};

/* A record in the buffer, valid until the next. */
struct record {
	const uint8_t *whole; /* with its head */
	const uint8_t *p;
	size_t n;
	uint8_t type;
};

/* What goes through the replay of some layers. */
struct replay {
	struct oci_base *b;
	struct oci_erofs *w;
	struct oci_recipe *out;
	const char *const *diff_ids;
	struct oci_layer_end *ends;
	uint64_t data_end; /* of the layer's content, at least */
	uint32_t *punched; /* by later layers, then sorted */
	size_t n_punched, cap;
};

static int damaged(struct err *e)
{
	return err_set(e, -EBADMSG, "a disk's recipe is damaged");
}

/* ---- records ---- */

static void rewind_records(struct oci_base *b)
{
	b->start = b->end = 0;
	b->next = 0;
}

/* Makes sure that n bytes are in the buffer, if the recipe has so many. */
static int want(struct oci_base *b, size_t n, struct err *e)
{
	if (b->end - b->start >= n)
		return 0;
	memmove(b->mem, b->mem + b->start, b->end - b->start);
	b->end -= b->start;
	b->start = 0;
	size_t k = (size_t)MIN_OF((uint64_t)(BUFFER - b->end), b->len - b->next);
	ssize_t got = io_pread_full(b->fd, b->mem + b->end, k, (off_t)(b->offset + b->next));
	if (got < 0 || (size_t)got != k)
		return err_sys(e, got < 0 ? (int)got : -EIO, "cannot read a disk's recipe");
	b->end += k;
	b->next += k;
	return b->end < n ? damaged(e) : 0;
}

/* 1 and the next record, 0 at the end, -errno. */
static int next_record(struct oci_base *b, struct record *ret, struct err *e)
{
	struct recipe_head h;

	if (b->start == b->end && b->next == b->len)
		return 0;
	int r = want(b, sizeof(h), e);
	if (r < 0)
		return r;
	memcpy(&h, b->mem + b->start, sizeof(h));
	size_t n = le32toh(h.len);
	if (n > RECIPE_RECORD_MAX)
		return damaged(e);
	r = want(b, sizeof(h) + n, e);
	if (r < 0)
		return r;
	*ret = (struct record){b->mem + b->start, b->mem + b->start + sizeof(h), n, h.type};
	b->start += sizeof(h) + n;
	return 1;
}

/* ---- opening ---- */

static int check_trailer(struct oci_base *b, struct err *e)
{
	struct stat st;
	uint32_t last = 1;

	if (fstat(b->fd, &st) < 0)
		return err_sys(e, -errno, "cannot look at a disk");
	uint64_t size = (uint64_t)st.st_size, end = size - EROFS_BLOCK_SIZE;
	if (size < 3 * EROFS_BLOCK_SIZE || size % EROFS_BLOCK_SIZE)
		return -ENOENT;
	if (io_pread_full(b->fd, &b->trailer, sizeof(b->trailer), (off_t)end) != sizeof(b->trailer) ||
		memcmp(b->trailer.magic, RECIPE_MAGIC, sizeof(b->trailer.magic)) != 0)
		return -ENOENT;
	b->offset = le64toh(b->trailer.offset);
	b->len = le64toh(b->trailer.len);
	b->blocks = b->offset >> EROFS_BLOCK_BITS;
	uint32_t n = le32toh(b->trailer.n_layers);
	if (b->offset > end || b->len > end - b->offset || end - b->offset - b->len >= EROFS_BLOCK_SIZE ||
		(n == 0) != (b->len == 0) || n > OCI_LAYERS_MAX ||
		strnlen(b->trailer.digest, OCI_DIGEST_MAX) == OCI_DIGEST_MAX)
		return -ENOENT;
	for (uint32_t i = 0; i < n; i++) {
		uint32_t block = le32toh(b->trailer.next_block[i]);
		if (block < last || block > b->blocks)
			return -ENOENT;
		last = block;
	}
	return 0;
}

static int check_digest(struct oci_base *b, struct err *e)
{
	CLEANUP(oci_hash_freep) struct oci_hash *h = NULL;
	char digest[OCI_DIGEST_MAX];
	int r = oci_hash_new(NULL, &h, e);

	for (uint64_t at = 0; r == 0 && at < b->len;) {
		size_t n = (size_t)MIN_OF((uint64_t)BUFFER, b->len - at);
		if (io_pread_full(b->fd, b->mem, n, (off_t)(b->offset + at)) != (ssize_t)n)
			return -ENOENT;
		oci_hash_update(h, b->mem, n);
		at += n;
	}
	if (r < 0)
		return r;
	oci_hash_final(h, digest);
	return strcmp(digest, b->trailer.digest) == 0 ? 0 : -ENOENT;
}

int oci_base_open(int fd, struct oci_base **ret, struct err *e)
{
	CLEANUP(oci_base_freep) struct oci_base *b = calloc(1, sizeof(*b));

	if (!b)
		return err_oom(e);
	b->fd = fd;
	b->mem = malloc(BUFFER);
	int r = b->mem ? check_trailer(b, e) : err_oom(e);
	if (r == 0)
		r = check_digest(b, e);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(b);
	return 0;
}

void oci_base_free(struct oci_base *b)
{
	if (!b)
		return;
	free(b->mem);
	free(b);
}

int oci_base_end(const struct oci_base *b, size_t n, uint64_t *ret_block)
{
	if (n == 0 || n > le32toh(b->trailer.n_layers))
		return -ENOENT;
	*ret_block = le32toh(b->trailer.next_block[n - 1]);
	return 0;
}

/* ---- entries ---- */

static void use_blocks(struct replay *rp, uint64_t block, uint64_t n)
{
	rp->data_end = MAX_OF(rp->data_end, block + n);
}

static int set_map(struct replay *rp, struct oci_inode *i, const uint8_t *p, size_t len, struct err *e)
{
	size_t n = oci_erofs_chunks(i);

	if (n == 0 || n > OCI_CHUNKS_MAX || len != n * sizeof(*i->map))
		return damaged(e);
	int r = oci_tree_charge(rp->w->tree, len, e);
	if (r < 0)
		return r;
	i->map = malloc(len);
	if (!i->map) {
		oci_tree_uncharge(rp->w->tree, len);
		return err_oom(e);
	}
	memcpy(i->map, p, len);
	for (size_t k = 0; k < n; k++) {
		i->map[k] = le32toh(i->map[k]);
		if (i->map[k] != EROFS_NULL_ADDR)
			use_blocks(rp, i->map[k], 1ull << i->chunk_bits);
	}
	return 0;
}

static int set_content(struct replay *rp, struct oci_inode *i, const struct recipe_entry *en,
	const uint8_t *p, struct err *e)
{
	uint64_t size = le64toh(en->size);
	size_t len = le32toh(en->content_len);

	if (size > OCI_FILE_MAX || en->chunk_bits > EROFS_CHUNK_BITS_MAX)
		return damaged(e);
	i->chunk_bits = en->chunk_bits;
	switch (en->content) {
	case RECIPE_INLINE:
		if (size == 0 || size > OCI_INLINE_MAX || len != size)
			return damaged(e);
		return oci_erofs_file_restore(rp->w, i, size, p, e);
	case RECIPE_PLAIN:
		i->blkaddr = le32toh(en->blkaddr);
		if (size > 0)
			use_blocks(rp, i->blkaddr, (size + EROFS_BLOCK_SIZE - 1) >> EROFS_BLOCK_BITS);
		return len != 0 || (size > 0 && i->blkaddr == 0)
			       ? damaged(e)
			       : oci_erofs_file_restore(rp->w, i, size, NULL, e);
	case RECIPE_SPARSE: {
		int r = oci_erofs_file_restore(rp->w, i, size, NULL, e);
		return r < 0 ? r : set_map(rp, i, p, len, e);
	}
	default:
		return damaged(e);
	}
}

/* Whether the attributes are whole, as the writer of EROFS images relies on. */
static bool xattrs_good(const uint8_t *p, size_t n)
{
	while (n > 0) {
		struct erofs_xattr x;
		if (n < sizeof(x))
			return false;
		memcpy(&x, p, sizeof(x));
		size_t len = (sizeof(x) + x.name_len + le16toh(x.value_size) + 3) & ~(size_t)3;
		if (len > n)
			return false;
		p += len;
		n -= len;
	}
	return true;
}

/* As the reader of archives makes them. */
static bool attr_good(const struct recipe_entry *en)
{
	uint16_t mode = le16toh(en->mode);

	switch (mode & S_IFMT) {
	case S_IFREG:
	case S_IFDIR:
	case S_IFLNK:
	case S_IFCHR:
	case S_IFBLK:
	case S_IFIFO:
	case S_IFSOCK:
		return le32toh(en->mtime_ns) < 1000000000;
	default:
		return false;
	}
}

static int replay_entry(struct replay *rp, const struct record *rec, struct err *e)
{
	char path[OCI_TREE_PATH_MAX], target[OCI_TREE_PATH_MAX];
	struct recipe_entry en;
	struct oci_inode *i = NULL;

	if (rec->n < sizeof(en))
		return damaged(e);
	memcpy(&en, rec->p, sizeof(en));
	size_t path_len = le16toh(en.path_len), target_len = le16toh(en.target_len);
	uint32_t xattr_len = le32toh(en.xattr_len);
	const uint8_t *p = rec->p + sizeof(en);
	if (!attr_good(&en) || path_len >= sizeof(path) || target_len >= sizeof(target) ||
		xattr_len > OCI_TREE_XATTR_MAX ||
		rec->n - sizeof(en) !=
			path_len + target_len + xattr_len + (uint64_t)le32toh(en.content_len) ||
		!xattrs_good(p + path_len + target_len, xattr_len))
		return damaged(e);
	memcpy(path, p, path_len);
	path[path_len] = '\0';
	memcpy(target, p + path_len, target_len);
	target[target_len] = '\0';
	p += path_len + target_len;
	struct oci_attr a = {
		.mode = le16toh(en.mode),
		.uid = le32toh(en.uid),
		.gid = le32toh(en.gid),
		.mtime_s = (int64_t)le64toh(en.mtime_s),
		.mtime_ns = le32toh(en.mtime_ns),
		.rdev = le32toh(en.rdev),
		.target = S_ISLNK(le16toh(en.mode)) ? target : NULL,
		.xattr_len = xattr_len,
	};
	if (xattr_len > 0) {
		a.xattrs = malloc(xattr_len);
		if (!a.xattrs)
			return err_oom(e);
		memcpy(a.xattrs, p, xattr_len);
	}
	int r = oci_tree_add(rp->w->tree, path, &a, &i, e);
	if (r < 0)
		return r;
	if ((en.content == RECIPE_NONE) != (i == NULL))
		return damaged(e);
	return i ? set_content(rp, i, &en, p + xattr_len, e) : 0;
}

static int replay_link(struct replay *rp, const struct record *rec, struct err *e)
{
	char both[2 * OCI_TREE_PATH_MAX + 1];

	if (rec->n >= sizeof(both))
		return damaged(e);
	memcpy(both, rec->p, rec->n);
	both[rec->n] = '\0';
	size_t n = strlen(both);
	return n < rec->n ? oci_tree_link(rp->w->tree, both, both + n + 1, e) : damaged(e);
}

/* ---- layers ---- */

static int begin_layer(struct replay *rp, const struct record *rec, size_t index, struct err *e)
{
	const char *diff_id = rp->diff_ids ? rp->diff_ids[index] : NULL;

	if (diff_id && (rec->n != strlen(diff_id) || memcmp(rec->p, diff_id, rec->n) != 0))
		return damaged(e);
	oci_erofs_next_layer(rp->w);
	return 0;
}

static int end_layer(struct replay *rp, const struct record *rec, size_t index, struct err *e)
{
	struct oci_erofs *w = rp->w;
	struct recipe_end re;
	uint64_t limit;

	if (rec->n != sizeof(re) || oci_base_end(rp->b, index + 1, &limit) < 0)
		return damaged(e);
	memcpy(&re, rec->p, sizeof(re));
	struct oci_layer_end end = {
		.next_block = le64toh(re.next_block),
		.content = le64toh(re.content),
		.kept = le64toh(re.kept),
		.unpacked = le64toh(re.unpacked),
		.brought = le64toh(re.brought),
	};
	/* What was decided on the way must be what was decided then. */
	if (end.next_block != limit || end.next_block < w->next_block || rp->data_end > end.next_block ||
		end.content < w->content)
		return damaged(e);
	w->next_block = end.next_block;
	w->content = end.content;
	rp->ends[index] = end;
	return 0;
}

static int replay_layers(struct replay *rp, size_t n, struct err *e)
{
	struct record rec;
	bool inside = false;
	size_t layer = 0;
	int r = 0;

	while (layer < n && (r = next_record(rp->b, &rec, e)) > 0) {
		if (inside != (rec.type != RECIPE_LAYER))
			return damaged(e);
		switch (rec.type) {
		case RECIPE_LAYER:
			r = begin_layer(rp, &rec, layer, e);
			inside = true;
			break;
		case RECIPE_ENTRY:
			r = replay_entry(rp, &rec, e);
			break;
		case RECIPE_LINK:
			r = replay_link(rp, &rec, e);
			break;
		case RECIPE_PUNCH:
			break; /* it is decided again */
		case RECIPE_END:
			r = end_layer(rp, &rec, layer++, e);
			inside = false;
			break;
		default:
			r = damaged(e);
		}
		if (r < 0)
			return r;
		if (rp->out)
			oci_recipe_copy(rp->out, rec.whole, (size_t)(rec.p - rec.whole) + rec.n,
				rec.type == RECIPE_END);
	}
	return r < 0 ? r : layer == n ? 0 : damaged(e);
}

/* ---- what is missing ---- */

static int note_punched(struct replay *rp, uint32_t block, struct err *e)
{
	if (rp->n_punched == rp->cap) {
		size_t cap = rp->cap ? rp->cap * 2 : 256;
		uint32_t *v = realloc(rp->punched, cap * sizeof(*v));
		if (!v)
			return err_oom(e);
		rp->punched = v;
		rp->cap = cap;
	}
	rp->punched[rp->n_punched++] = block;
	return 0;
}

/* What later layers punched out of the data of those that were replayed. */
static int list_punched(struct replay *rp, struct err *e)
{
	struct record rec;
	uint32_t block;
	int r;

	while ((r = next_record(rp->b, &rec, e)) > 0) {
		if (rec.type != RECIPE_PUNCH)
			continue;
		if (rec.n != sizeof(block))
			return damaged(e);
		memcpy(&block, rec.p, sizeof(block));
		block = le32toh(block);
		r = block < rp->w->next_block ? note_punched(rp, block, e) : 0;
		if (r < 0)
			return r;
	}
	return r;
}

static int compare_blocks(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static bool is_missing(const struct replay *rp, const struct oci_inode *i)
{
	uint32_t block = oci_erofs_first_block(i);

	return block != 0 &&
	       bsearch(&block, rp->punched, rp->n_punched, sizeof(block), compare_blocks) != NULL;
}

/* Recursion is bounded by OCI_TREE_DEPTH_MAX. */
static bool any_missing(const struct replay *rp, const struct oci_dir *d)
{
	for (uint32_t k = 0; k < d->n_buckets; k++)
		for (const struct oci_ent *ent = d->buckets[k]; ent; ent = ent->next)
			if (ent->inode->dir ? any_missing(rp, ent->inode->dir)
					    : S_ISREG(ent->inode->mode) && is_missing(rp, ent->inode))
				return true;
	return false;
}

int oci_base_replay(struct oci_base *b, struct oci_erofs *w, const char *const *diff_ids, size_t n,
	struct oci_recipe *out, struct oci_layer_end *ends, struct err *e)
{
	struct replay rp = {.b = b, .w = w, .out = out, .diff_ids = diff_ids, .ends = ends};

	rewind_records(b);
	/* What it punches is in the recipe already, and not yet in the file. */
	struct oci_recipe *own = w->recipe;
	w->recipe = NULL;
	w->replaying = true;
	int r = replay_layers(&rp, n, e);
	w->replaying = false;
	w->recipe = own;
	if (r == 0 && n > 0 && ends[n - 1].kept != w->kept)
		r = damaged(e);
	if (r == 0)
		r = list_punched(&rp, e);
	if (r == 0 && rp.n_punched > 0) {
		qsort(rp.punched, rp.n_punched, sizeof(*rp.punched), compare_blocks);
		r = any_missing(&rp, w->tree->root->dir);
	}
	free(rp.punched);
	return r < 0 ? r : !r;
}

int oci_base_replay_all(struct oci_base *b, struct oci_erofs *w, struct err *e)
{
	size_t n = le32toh(b->trailer.n_layers);
	CLEANUP_FREE struct oci_layer_end *ends = calloc(n + 1, sizeof(*ends));

	return ends ? oci_base_replay(b, w, NULL, n, NULL, ends, e) : err_oom(e);
}
