/* SPDX-License-Identifier: MIT */
/*
 * EROFS images, second part: inodes and directories, when the tree is complete.
 *
 * First every inode is given its place, folder by folder from the root down, so that the inodes of one folder
 * lie together. Directories name inodes by place, hence only a second pass writes. Blocks that do not fit
 * beside their inode (large directories, long link targets) are counted in the first pass and follow the
 * inodes.
 */
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "erofs-format.h"
#include "erofs.h"

#define ROOT_POS 64 /* the root's NID must fit 16 bits; not 0, which as an inode number means "deleted" */

struct meta {
	struct oci_erofs *w;
	struct oci_inode **order; /* in order of place */
	size_t n, cap;
	uint64_t start;	     /* byte offset of the metadata area */
	uint64_t end;	     /* bytes used of it */
	uint64_t n_extra;    /* blocks after it */
	uint64_t extra_next; /* second pass: next of them, as a block address */
	bool chunked;
	struct oci_writer inodes, extra;
};

/* How an inode's content is laid out. */
struct layout {
	uint32_t format;
	uint64_t size;	       /* i_size */
	uint32_t tail;	       /* bytes beside the inode */
	uint64_t extra_blocks; /* behind the inodes */
	uint64_t map_len;      /* entries */
};

static uint32_t xattr_area(const struct oci_inode *i)
{
	return i->xattr_len ? EROFS_XATTR_HEADER_SIZE + i->xattr_len : 0;
}

/* ---- directories ---- */

/* Goes through the entries of a sorted directory with "." and ".." in their places. */
struct dir_iter {
	struct oci_inode *dir;
	uint32_t next, dots; /* entries and dots given out */
	const char *name;
	size_t len;
	struct oci_inode *inode;
};

static bool dir_next(struct dir_iter *it)
{
	static const char *const dots[] = {".", ".."};
	struct oci_dir *d = it->dir->dir;
	struct oci_ent *ent = it->next < d->n ? d->buckets[it->next] : NULL;

	if (it->dots < 2 && (!ent || strcmp(dots[it->dots], ent->name) < 0)) {
		it->name = dots[it->dots];
		it->inode = it->dots == 0 ? it->dir : d->parent;
		it->len = ++it->dots;
		return true;
	}
	if (!ent)
		return false;
	it->name = ent->name;
	it->len = ent->len;
	it->inode = ent->inode;
	it->next++;
	return true;
}

/* Length in bytes; every block but the last counts whole. */
static uint64_t dir_size(struct oci_inode *dir)
{
	struct dir_iter it = {.dir = dir};
	uint64_t full = 0;
	size_t used = 0;

	while (dir_next(&it)) {
		size_t need = sizeof(struct erofs_dirent) + it.len;
		if (used + need > EROFS_BLOCK_SIZE) {
			full++;
			used = 0;
		}
		used += need;
	}
	return full * EROFS_BLOCK_SIZE + used;
}

static uint8_t file_type(uint16_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFDIR:
		return EROFS_FT_DIR;
	case S_IFCHR:
		return EROFS_FT_CHR;
	case S_IFBLK:
		return EROFS_FT_BLK;
	case S_IFIFO:
		return EROFS_FT_FIFO;
	case S_IFSOCK:
		return EROFS_FT_SOCK;
	case S_IFLNK:
		return EROFS_FT_LNK;
	default:
		return EROFS_FT_REG;
	}
}

/* Fills one block from *it on, which moves behind it. Returns the bytes used. */
static size_t fill_dir_block(struct dir_iter *it, uint8_t *block)
{
	struct dir_iter look = *it, end = *it;
	size_t n = 0, used = 0;

	while (dir_next(&look)) {
		used += sizeof(struct erofs_dirent) + look.len;
		if (used > EROFS_BLOCK_SIZE)
			break;
		n++;
		end = look;
	}
	memset(block, 0, EROFS_BLOCK_SIZE);
	size_t nameoff = n * sizeof(struct erofs_dirent);
	for (size_t k = 0; k < n; k++) {
		dir_next(it);
		struct erofs_dirent de = {.nid = htole64(it->inode->pos / EROFS_SLOT_SIZE),
			.nameoff = htole16((uint16_t)nameoff),
			.type = file_type(it->inode->mode)};
		memcpy(block + k * sizeof(de), &de, sizeof(de));
		memcpy(block + nameoff, it->name, it->len);
		nameoff += it->len;
	}
	*it = end;
	return nameoff;
}

/* ---- first pass ---- */

static struct layout layout_of(struct oci_inode *i)
{
	struct layout l = {.format = EROFS_FLAT_PLAIN, .size = i->size};
	uint32_t room = EROFS_BLOCK_SIZE - (uint32_t)sizeof(struct erofs_inode);

	/* Content beside the inode is kept in one block with it; attributes that leave no room push it out.
	 */
	room = xattr_area(i) < room ? room - xattr_area(i) : 0;
	if (S_ISDIR(i->mode))
		l.size = dir_size(i);
	else if (!S_ISREG(i->mode) && !S_ISLNK(i->mode))
		l.size = 0;
	if (i->map) {
		l.format = EROFS_CHUNK_BASED;
		uint64_t chunk = (uint64_t)EROFS_BLOCK_SIZE << i->chunk_bits;
		l.map_len = (l.size + chunk - 1) / chunk;
		return l;
	}
	if (l.size == 0 || (S_ISREG(i->mode) && !i->data))
		return l;
	uint32_t tail = (uint32_t)(l.size % EROFS_BLOCK_SIZE);
	l.extra_blocks = l.size / EROFS_BLOCK_SIZE;
	if (tail > 0 && tail <= room) {
		l.format = EROFS_FLAT_INLINE;
		l.tail = tail;
	} else if (tail > 0) {
		l.extra_blocks++;
	}
	return l;
}

static int push(struct meta *m, struct oci_inode *i, struct err *e)
{
	if (m->n == m->cap) {
		size_t cap = m->cap ? m->cap * 2 : 1024;
		struct oci_inode **v = realloc(m->order, cap * sizeof(struct oci_inode *));
		if (!v)
			return err_oom(e);
		m->order = v;
		m->cap = cap;
	}
	m->order[m->n++] = i;
	return 0;
}

/* Gives an inode its place. */
static int assign(struct meta *m, struct oci_inode *i, struct err *e)
{
	if (S_ISDIR(i->mode)) {
		int r = oci_tree_sort(i, e);
		if (r < 0)
			return r;
	}
	struct layout l = layout_of(i);
	uint64_t need = sizeof(struct erofs_inode) + xattr_area(i) + l.tail;
	uint64_t left = EROFS_BLOCK_SIZE - m->end % EROFS_BLOCK_SIZE;

	/* The inode, and with content all of it, stays within a block. */
	if (left < (l.tail ? need : sizeof(struct erofs_inode)))
		m->end += left;
	i->pos = m->end;
	m->end += need + l.map_len * sizeof(*i->map);
	m->end = (m->end + EROFS_SLOT_SIZE - 1) & ~(uint64_t)(EROFS_SLOT_SIZE - 1);
	m->n_extra += l.extra_blocks;
	m->chunked |= i->map != NULL;
	return push(m, i, e);
}

static int assign_all(struct meta *m, struct err *e)
{
	m->end = ROOT_POS;
	int r = assign(m, m->w->tree->root, e);

	for (size_t k = 0; r == 0 && k < m->n; k++) {
		struct oci_dir *d = m->order[k]->dir;
		for (uint32_t c = 0; r == 0 && d && c < d->n; c++)
			if (d->buckets[c]->inode->pos ==
				0) /* else another name of a file that has its place */
				r = assign(m, d->buckets[c]->inode, e);
	}
	return r;
}

/* ---- second pass ---- */

static int put_extra(struct meta *m, const void *data, size_t n, struct err *e)
{
	int r = oci_writer_put(&m->extra, m->extra_next << EROFS_BLOCK_BITS, data, n, e);

	m->extra_next += (n + EROFS_BLOCK_SIZE - 1) / EROFS_BLOCK_SIZE;
	return r;
}

/* Writes the content that is not in the data area; its last part to *tail, which has room for a block. */
static int put_content(
	struct meta *m, struct oci_inode *i, const struct layout *l, uint8_t *tail, struct err *e)
{
	struct dir_iter it = {.dir = i};
	const uint8_t *content = S_ISLNK(i->mode) ? (const uint8_t *)i->target : i->data;
	int r = 0;

	for (uint64_t k = 0; r == 0 && k < l->extra_blocks; k++) {
		if (S_ISDIR(i->mode)) {
			fill_dir_block(&it, tail);
			r = put_extra(m, tail, EROFS_BLOCK_SIZE, e);
		} else {
			r = put_extra(m, content, l->size, e); /* never more than a block */
		}
	}
	if (l->tail && S_ISDIR(i->mode))
		fill_dir_block(&it, tail);
	else if (l->tail)
		memcpy(tail, content, l->tail);
	return r;
}

static int put_map(struct meta *m, struct oci_inode *i, uint64_t at, uint64_t n, struct err *e)
{
	for (uint64_t k = 0; k < n; k++)
		i->map[k] = htole32(i->map[k]);
	return oci_writer_put(&m->inodes, at, i->map, n * sizeof(*i->map), e);
}

static int put_xattrs(struct meta *m, struct oci_inode *i, uint64_t at, struct err *e)
{
	static const uint8_t header[EROFS_XATTR_HEADER_SIZE];
	int r = oci_writer_put(&m->inodes, at, header, sizeof(header), e);

	return r < 0 ? r : oci_writer_put(&m->inodes, at + sizeof(header), i->xattrs, i->xattr_len, e);
}

static uint32_t inode_union(struct meta *m, const struct oci_inode *i, const struct layout *l)
{
	if (l->format == EROFS_CHUNK_BASED)
		return i->chunk_bits;
	if (l->extra_blocks)
		return (uint32_t)m->extra_next;
	if (S_ISREG(i->mode))
		return i->data ? 0 : i->blkaddr;
	return S_ISCHR(i->mode) || S_ISBLK(i->mode) ? i->rdev : 0;
}

static int put_inode(struct meta *m, struct oci_inode *i, size_t index, struct err *e)
{
	uint8_t tail[EROFS_BLOCK_SIZE];
	struct layout l = layout_of(i);
	uint64_t at = m->start + i->pos;
	uint32_t nlink = S_ISDIR(i->mode) ? 2 + i->dir->n_subdirs : i->nlink;
	struct erofs_inode d = {
		.format = htole16((uint16_t)(EROFS_INODE_EXTENDED | l.format << 1)),
		.xattr_icount = htole16((uint16_t)(i->xattr_len ? 1 + i->xattr_len / 4 : 0)),
		.mode = htole16(i->mode),
		.size = htole64(l.size),
		.u = htole32(inode_union(m, i, &l)),
		.ino = htole32((uint32_t)index + 1),
		.uid = htole32(i->uid),
		.gid = htole32(i->gid),
		.mtime = htole64((uint64_t)i->mtime_s),
		.mtime_nsec = htole32(i->mtime_ns),
		.nlink = htole32(nlink),
	};

	int r = put_content(m, i, &l, tail, e);
	if (r == 0)
		r = oci_writer_put(&m->inodes, at, &d, sizeof(d), e);
	at += sizeof(d);
	if (r == 0 && i->xattr_len)
		r = put_xattrs(m, i, at, e);
	at += xattr_area(i);
	if (r == 0 && l.tail)
		r = oci_writer_put(&m->inodes, at, tail, l.tail, e);
	if (r == 0 && l.map_len)
		r = put_map(m, i, at, l.map_len, e);
	return r;
}

/* ---- superblock ---- */

/* CRC-32C without the final inversion, as the kernel's crc32c(). Runs once over 3 KiB. */
static uint32_t crc32c(uint32_t crc, const uint8_t *p, size_t n)
{
	while (n--) {
		crc ^= *p++;
		for (int k = 0; k < 8; k++)
			crc = crc & 1 ? crc >> 1 ^ 0x82f63b78u : crc >> 1;
	}
	return crc;
}

static int put_super(struct meta *m, uint64_t blocks, const uint8_t *uuid, struct err *e)
{
	uint8_t block[EROFS_BLOCK_SIZE] = {0};
	struct erofs_super sb = {
		.magic = htole32(EROFS_SUPER_MAGIC),
		.feature_compat = htole32(EROFS_COMPAT_SB_CHKSUM | EROFS_COMPAT_MTIME),
		.blkszbits = EROFS_BLOCK_BITS,
		.root_nid = htole16(ROOT_POS / EROFS_SLOT_SIZE),
		.inos = htole64(m->n),
		.blocks = htole32((uint32_t)blocks),
		.meta_blkaddr = htole32((uint32_t)(m->start >> EROFS_BLOCK_BITS)),
		.feature_incompat = htole32(m->chunked ? EROFS_INCOMPAT_CHUNKED_FILE : 0),
	};

	memcpy(sb.uuid, uuid, sizeof(sb.uuid));
	memcpy(block + EROFS_SUPER_OFFSET, &sb, sizeof(sb));
	sb.checksum = htole32(crc32c(~0u, block + EROFS_SUPER_OFFSET, sizeof(block) - EROFS_SUPER_OFFSET));
	memcpy(block + EROFS_SUPER_OFFSET, &sb, sizeof(sb));
	int r = io_pwrite_full(m->w->fd, block, sizeof(block), 0);
	return r < 0 ? oci_write_error(r, e) : 0;
}

static int write_all(struct meta *m, const uint8_t *uuid, struct err *e)
{
	int r = oci_writer_flush(&m->w->w, e);

	if (r < 0)
		return r;
	m->start = m->w->next_block << EROFS_BLOCK_BITS;
	r = assign_all(m, e);
	if (r < 0)
		return r;
	uint64_t meta_blocks = (m->end + EROFS_BLOCK_SIZE - 1) >> EROFS_BLOCK_BITS;
	uint64_t blocks = m->w->next_block + meta_blocks + m->n_extra;
	if (blocks >= EROFS_NULL_ADDR)
		return err_set(e, -EFBIG, "image content is larger than 16 TiB");
	m->extra_next = m->w->next_block + meta_blocks;
	/* Sets the length, so that the rest of a last block reads as zeros. */
	if (ftruncate(m->w->fd, (off_t)(blocks << EROFS_BLOCK_BITS)) < 0)
		return oci_write_error(-errno, e);
	for (size_t k = 0; k < m->n; k++) {
		r = put_inode(m, m->order[k], k, e);
		if (r < 0)
			return r;
	}
	r = oci_writer_flush(&m->inodes, e);
	if (r == 0)
		r = oci_writer_flush(&m->extra, e);
	return r < 0 ? r : put_super(m, blocks, uuid, e);
}

int oci_erofs_finish(struct oci_erofs *w, const uint8_t *uuid, struct err *e)
{
	struct meta m = {.w = w};
	int r = oci_writer_init(&m.inodes, w->fd, e);

	if (r == 0)
		r = oci_writer_init(&m.extra, w->fd, e);
	if (r == 0)
		r = write_all(&m, uuid, e);
	oci_writer_done(&m.inodes);
	oci_writer_done(&m.extra);
	free(m.order);
	return r;
}
