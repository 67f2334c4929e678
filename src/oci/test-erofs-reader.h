/* SPDX-License-Identifier: MIT */
/*
 * For tests: a small EROFS reader of its own, written from the kernel's point of view (fs/erofs), that shares
 * nothing with the writer. It reads byte offsets, not structs, and checks each rule on the way; a broken one
 * aborts.
 */
#ifndef OCI_TEST_EROFS_READER_H
#define OCI_TEST_EROFS_READER_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define CHECK(c) \
	do { \
		if (!(c)) { \
			fprintf(stderr, "%s:%d: EROFS rule broken: %s\n", __FILE__, __LINE__, #c); \
			abort(); \
		} \
	} while (0)

struct er_image {
	const uint8_t *p;
	size_t n;
	uint64_t meta, root, inos;
	uint64_t seen; /* inodes' first names met by er_check_all */
};

struct er_inode {
	uint64_t nid, at, size, xattr_at, data_at;
	uint32_t xattr_len, u, uid, gid, nsec, nlink;
	int64_t mtime;
	unsigned layout, mode;
};

static inline uint64_t er_le(const struct er_image *im, uint64_t at, int n)
{
	uint64_t v = 0;

	CHECK(at <= im->n && (uint64_t)n <= im->n - at);
	while (n-- > 0)
		v = v << 8 | im->p[at + (uint64_t)n];
	return v;
}

static inline uint32_t er_crc(const uint8_t *p, size_t n)
{
	uint32_t c = ~0u;

	for (size_t i = 0; i < n; i++)
		for (int k = 0; k < 8; k++) {
			uint32_t bit = (c ^ (uint32_t)p[i] >> k) & 1;
			c = c >> 1 ^ (bit ? 0x82f63b78u : 0);
		}
	return c;
}

static inline void er_open(struct er_image *im, int fd)
{
	struct stat st;
	uint8_t block[3072];

	CHECK(fstat(fd, &st) == 0 && st.st_size >= 4096 && st.st_size % 4096 == 0);
	*im = (struct er_image){.n = (size_t)st.st_size};
	im->p = mmap(NULL, im->n, PROT_READ, MAP_SHARED, fd, 0);
	CHECK(im->p != MAP_FAILED);
	CHECK(er_le(im, 1024, 4) == 0xE0F5E1E2);
	memcpy(block, im->p + 1024, sizeof(block));
	memset(block + 4, 0, 4);
	CHECK(er_crc(block, sizeof(block)) == er_le(im, 1024 + 4, 4));
	CHECK(er_le(im, 1024 + 12, 1) == 12);
	CHECK(er_le(im, 1024 + 36, 4) * 4096 <= im->n); /* something of the caller's may follow */
	CHECK((er_le(im, 1024 + 80, 4) & ~4ull) == 0);
	im->root = er_le(im, 1024 + 14, 2);
	im->inos = er_le(im, 1024 + 16, 8);
	im->meta = er_le(im, 1024 + 40, 4) * 4096;
}

static inline void er_close(struct er_image *im)
{
	munmap((void *)im->p, im->n);
}

static inline struct er_inode er_get(const struct er_image *im, uint64_t nid)
{
	struct er_inode i = {.nid = nid, .at = im->meta + nid * 32};
	unsigned format = (unsigned)er_le(im, i.at, 2), icount = (unsigned)er_le(im, i.at + 2, 2);

	CHECK(nid != 0 && (format & ~0xfu) == 0 && (format & 1));
	i.layout = format >> 1;
	CHECK(i.layout == 0 || i.layout == 2 || i.layout == 4);
	CHECK(icount != 1);
	i.xattr_len = icount ? 12 + 4 * (icount - 1) : 0;
	i.mode = (unsigned)er_le(im, i.at + 4, 2);
	i.size = er_le(im, i.at + 8, 8);
	i.u = (uint32_t)er_le(im, i.at + 16, 4);
	i.uid = (uint32_t)er_le(im, i.at + 24, 4);
	i.gid = (uint32_t)er_le(im, i.at + 28, 4);
	i.mtime = (int64_t)er_le(im, i.at + 32, 8);
	i.nsec = (uint32_t)er_le(im, i.at + 40, 4);
	i.nlink = (uint32_t)er_le(im, i.at + 44, 4);
	i.xattr_at = i.at + 64;
	i.data_at = i.xattr_at + i.xattr_len;
	CHECK((int64_t)i.size >= 0 && i.nsec < 1000000000 && i.nlink > 0);
	CHECK(S_ISREG(i.mode) || S_ISDIR(i.mode) || S_ISLNK(i.mode) || i.size == 0);
	return i;
}

/* Where byte off of the content is, and how many follow it there; 0 for a hole. */
static inline uint64_t er_map(
	const struct er_image *im, const struct er_inode *i, uint64_t off, uint64_t *run)
{
	uint64_t left = i->size - off;

	CHECK(off < i->size);
	if (i->layout == 4) {
		unsigned bits = 12 + (i->u & 31);
		CHECK((i->u & ~31u) == 0);
		uint64_t k = off >> bits, within = off & ((1ull << bits) - 1);
		uint64_t addr = er_le(im, i->data_at + 4 * k, 4);
		*run = (1ull << bits) - within < left ? (1ull << bits) - within : left;
		if (addr == UINT32_MAX)
			return 0;
		CHECK(addr * 4096 + within + *run <= im->meta);
		return addr * 4096 + within;
	}
	uint64_t tail = i->layout == 2 ? (i->size - 1) / 4096 * 4096 : i->size;
	if (off >= tail) {
		CHECK((i->data_at + off - tail) / 4096 == (i->data_at + i->size - 1 - tail) / 4096);
		CHECK(i->data_at + i->size - tail <= im->n);
		*run = left;
		return i->data_at + off - tail;
	}
	*run = tail - off;
	CHECK((uint64_t)i->u * 4096 + tail <= im->n && i->u != 0);
	return (uint64_t)i->u * 4096 + off;
}

static inline void er_read(
	const struct er_image *im, const struct er_inode *i, uint64_t off, void *buf, size_t n)
{
	uint8_t *out = buf;

	while (n > 0) {
		uint64_t run, at = er_map(im, i, off, &run);
		size_t k = run < n ? (size_t)run : n;
		if (at)
			memcpy(out, im->p + at, k);
		else
			memset(out, 0, k);
		out += k;
		off += k;
		n -= k;
	}
}

typedef void (*er_fn)(void *data, const char *name, uint64_t nid, unsigned type);

/* All entries of a directory, in order, checked to be in order. */
static inline void er_list(const struct er_image *im, const struct er_inode *dir, er_fn fn, void *data)
{
	char last[257] = "", name[257];
	uint8_t block[4096];
	int n_entries = 0;

	CHECK(S_ISDIR(dir->mode));
	for (uint64_t off = 0; off < dir->size; off += 4096) {
		size_t len = dir->size - off < 4096 ? (size_t)(dir->size - off) : 4096;
		memset(block, 0, sizeof(block));
		er_read(im, dir, off, block, len);
		struct er_image b = {.p = block, .n = len};
		size_t n = er_le(&b, 8, 2) / 12;
		CHECK(n > 0 && er_le(&b, 8, 2) % 12 == 0);
		for (size_t k = 0; k < n; k++, n_entries++) {
			size_t from = er_le(&b, 12 * k + 8, 2),
			       to = k + 1 < n ? er_le(&b, 12 * k + 20, 2) : len;
			CHECK(from < to && to <= len);
			size_t name_len = k + 1 < n ? to - from : strnlen((char *)block + from, to - from);
			CHECK(name_len > 0 && name_len <= 255);
			memcpy(name, block + from, name_len);
			name[name_len] = '\0';
			CHECK(strlen(name) == name_len && !strchr(name, '/'));
			CHECK(n_entries == 0 || strcmp(last, name) < 0);
			memcpy(last, name, name_len + 1);
			fn(data, name, er_le(&b, 12 * k, 8), (unsigned)er_le(&b, 12 * k + 10, 1));
		}
	}
	CHECK(n_entries >= 2);
}

struct er_find {
	const char *name;
	size_t n;
	uint64_t nid;
};

static inline void er_find_fn(void *data, const char *name, uint64_t nid, unsigned type)
{
	struct er_find *f = data;

	(void)type;
	if (strlen(name) == f->n && memcmp(name, f->name, f->n) == 0)
		f->nid = nid;
}

/* NID at a path without links, 0 if there is none. */
static inline uint64_t er_lookup(const struct er_image *im, const char *path)
{
	uint64_t nid = im->root;

	while (*path && nid) {
		struct er_inode dir = er_get(im, nid);
		struct er_find f = {.name = path, .n = strcspn(path, "/")};
		if (!S_ISDIR(dir.mode))
			return 0;
		er_list(im, &dir, er_find_fn, &f);
		nid = f.nid;
		path += f.n + (path[f.n] == '/');
	}
	return nid;
}

/* Value of an attribute by name index and rest of the name; length, or -1. */
static inline int er_xattr(
	const struct er_image *im, const struct er_inode *i, unsigned index, const char *name, void *buf)
{
	uint64_t at = i->xattr_at + 12, end = i->xattr_at + i->xattr_len;

	while (i->xattr_len && at < end) {
		uint64_t len = er_le(im, at, 1), idx = er_le(im, at + 1, 1), size = er_le(im, at + 2, 2);
		CHECK(idx >= 1 && idx <= 6 && idx != 5);
		CHECK(at + 4 + len + size <= end);
		if (idx == index && len == strlen(name) && memcmp(im->p + at + 4, name, len) == 0) {
			memcpy(buf, im->p + at + 4 + len, size);
			return (int)size;
		}
		at += (4 + len + size + 3) / 4 * 4;
	}
	CHECK(!i->xattr_len || at == end);
	return -1;
}

struct er_walk {
	struct er_image *im;
	uint64_t self, parent;
	uint32_t subdirs;
	uint8_t *names; /* per NID: names met, saturating */
	uint64_t max_nid;
};

static inline void er_check_dir(
	struct er_image *im, uint64_t nid, uint64_t parent, uint8_t *names, uint64_t max_nid);

static inline void er_check_fn(void *data, const char *name, uint64_t nid, unsigned type)
{
	static const unsigned types[] = {0, S_IFREG, S_IFDIR, S_IFCHR, S_IFBLK, S_IFIFO, S_IFSOCK, S_IFLNK};
	struct er_walk *w = data;
	char scratch[65536];

	CHECK(type >= 1 && type <= 7 && nid <= w->max_nid);
	if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
		CHECK(type == 2 && nid == (name[1] ? w->parent : w->self));
		return;
	}
	struct er_inode i = er_get(w->im, nid);
	CHECK((i.mode & S_IFMT) == types[type]);
	er_xattr(w->im, &i, 99, "", scratch);
	if (w->names[nid]++ == 0)
		w->im->seen++;
	CHECK(w->names[nid] <= i.nlink || i.nlink > 200 || S_ISDIR(i.mode));
	if (S_ISDIR(i.mode)) {
		CHECK(w->names[nid] == 1);
		w->subdirs++;
		er_check_dir(w->im, nid, w->self, w->names, w->max_nid);
	}
	for (uint64_t off = 0, run; off < i.size; off += run)
		er_map(w->im, &i, off, &run);
}

static inline void er_check_dir(
	struct er_image *im, uint64_t nid, uint64_t parent, uint8_t *names, uint64_t max_nid)
{
	struct er_inode dir = er_get(im, nid);
	struct er_walk w = {.im = im, .self = nid, .parent = parent, .names = names, .max_nid = max_nid};

	er_list(im, &dir, er_check_fn, &w);
	CHECK(dir.nlink == 2 + w.subdirs);
}

/* Every rule for every inode. */
static inline void er_check_all(struct er_image *im)
{
	uint64_t max_nid = (im->n - im->meta) / 32;
	uint8_t *names = calloc(1, max_nid + 1);

	CHECK(names);
	im->seen = 1;
	er_check_dir(im, im->root, im->root, names, max_nid);
	CHECK(im->seen == im->inos);
	free(names);
}

#endif
