/* SPDX-License-Identifier: MIT */
/* EROFS images, first part: content of files as it streams in. */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "erofs-format.h"
#include "erofs.h"
#include "recipe.h"

#define BYPASS_SIZE (64u << 10) /* from here on a copy costs more than a system call */

static uint64_t blocks_of(uint64_t bytes)
{
	return (bytes + EROFS_BLOCK_SIZE - 1) >> EROFS_BLOCK_BITS;
}

/* ---- buffered writing ---- */

int oci_write_error(int r, struct err *e)
{
	if (r == -ENOSPC || r == -EDQUOT) {
		err_sys(e, r, "cannot write image content");
		return err_hint(e, "free some space below A3S_HOME, or remove images with `a3s-box rmi`");
	}
	return err_sys(e, r, "cannot write image content");
}

int oci_writer_init(struct oci_writer *w, int fd, struct err *e)
{
	*w = (struct oci_writer){.fd = fd, .mem = malloc(OCI_WRITE_BUFFER_SIZE)};
	return w->mem ? 0 : err_oom(e);
}

void oci_writer_done(struct oci_writer *w)
{
	free(w->mem);
	w->mem = NULL;
}

int oci_writer_flush(struct oci_writer *w, struct err *e)
{
	if (w->len == 0)
		return 0;
	int r = io_pwrite_full(w->fd, w->mem, w->len, (off_t)w->offset);
	w->len = 0;
	return r < 0 ? oci_write_error(r, e) : 0;
}

int oci_writer_put(struct oci_writer *w, uint64_t off, const void *data, size_t n, struct err *e)
{
	uint64_t end = w->offset + w->len;

	/* A small gap (padding to a block) is cheaper as zeros than as another system call. */
	if (off > end && off - end < EROFS_BLOCK_SIZE && w->len > 0 &&
		w->len + (off - end) < OCI_WRITE_BUFFER_SIZE) {
		memset(w->mem + w->len, 0, off - end);
		w->len += off - end;
	} else if (off != end) {
		int r = oci_writer_flush(w, e);
		if (r < 0)
			return r;
		w->offset = off;
	}
	if (n > OCI_WRITE_BUFFER_SIZE - w->len || n >= BYPASS_SIZE) {
		int r = oci_writer_flush(w, e);
		if (r < 0)
			return r;
		w->offset = off;
	}
	if (n >= BYPASS_SIZE) {
		int r = io_pwrite_full(w->fd, data, n, (off_t)off);
		w->offset = off + n;
		return r < 0 ? oci_write_error(r, e) : 0;
	}
	memcpy(w->mem + w->len, data, n);
	w->len += n;
	return 0;
}

/* ---- content ---- */

int oci_erofs_init(struct oci_erofs *w, int fd, struct err *e)
{
	*w = (struct oci_erofs){.fd = fd, .next_block = 1, .written_back = 1, .content_max = UINT64_MAX};
	return oci_writer_init(&w->w, fd, e);
}

void oci_erofs_done(struct oci_erofs *w)
{
	oci_writer_done(&w->w);
	free(w->holes);
	w->holes = NULL;
}

void oci_erofs_next_layer(struct oci_erofs *w)
{
	oci_tree_next_layer(w->tree);
	w->kept_max = MIN_OF((uint64_t)OCI_KEEP_MAX, w->content / 8);
}

static uint64_t chunk_size(const struct oci_inode *i)
{
	return (uint64_t)EROFS_BLOCK_SIZE << i->chunk_bits;
}

static uint64_t n_chunks(const struct oci_inode *i)
{
	return (i->size + chunk_size(i) - 1) >> (EROFS_BLOCK_BITS + i->chunk_bits);
}

/* Takes n blocks of address space. */
static int take_blocks(struct oci_erofs *w, uint64_t n, uint64_t *ret, struct err *e)
{
	/* Half of what 32 bits can number is left for metadata. */
	if (n > (1ull << 31) - w->next_block)
		return err_set(e, -EFBIG, "image content is larger than 8 TiB");
	*ret = w->next_block;
	w->next_block += n;
	return 0;
}

size_t oci_erofs_chunks(const struct oci_inode *i)
{
	return (size_t)n_chunks(i);
}

uint32_t oci_erofs_first_block(const struct oci_inode *i)
{
	if (i->data || i->size == 0)
		return 0;
	if (!i->map)
		return i->blkaddr;
	for (uint64_t k = 0, n = n_chunks(i); k < n; k++)
		if (i->map[k] != EROFS_NULL_ADDR)
			return i->map[k];
	return 0;
}

/* Memory for a small file's content, zeroed. */
static int alloc_inline(struct oci_erofs *w, struct oci_inode *i, struct err *e)
{
	int r = oci_tree_charge(w->tree, i->size, e);

	if (r < 0)
		return r;
	i->data = calloc(1, i->size);
	if (!i->data) {
		oci_tree_uncharge(w->tree, i->size);
		return err_oom(e);
	}
	w->inline_bytes += i->size;
	return 0;
}

static void count_file(struct oci_erofs *w, struct oci_inode *i, uint64_t size)
{
	i->size = size;
	w->live_bytes += size;
	w->brought += size;
}

int oci_erofs_file_restore(
	struct oci_erofs *w, struct oci_inode *i, uint64_t size, const uint8_t *data, struct err *e)
{
	count_file(w, i, size);
	if (!data)
		return 0;
	int r = alloc_inline(w, i, e);
	if (r == 0)
		memcpy(i->data, data, size);
	return r;
}

int oci_erofs_file_begin(struct oci_erofs *w, struct oci_inode *i, uint64_t size, struct err *e)
{
	if (size > OCI_FILE_MAX)
		return err_set(e, -EFBIG, "a file is larger than %llu TiB", OCI_FILE_MAX >> 40);
	count_file(w, i, size);
	i->chunk_bits = 0;
	while (n_chunks(i) > OCI_CHUNKS_MAX)
		i->chunk_bits++;
	w->cur = i;
	w->pos = w->charged = 0;
	w->start = w->next_block;
	if (size > 0 && size <= OCI_INLINE_MAX && w->inline_bytes + size <= OCI_INLINE_BUDGET)
		return alloc_inline(w, i, e);
	return 0;
}

/* The file turns out to have a hole: from here on its chunks are placed one by one. */
static int become_sparse(struct oci_erofs *w, struct err *e)
{
	struct oci_inode *i = w->cur;
	uint64_t n = n_chunks(i), used = (w->pos + chunk_size(i) - 1) >> (EROFS_BLOCK_BITS + i->chunk_bits);
	uint64_t first = 0;
	int r = take_blocks(w, used << i->chunk_bits, &first, e);

	if (r == 0)
		r = oci_tree_charge(w->tree, n * sizeof(*i->map), e);
	if (r < 0)
		return r;
	i->map = malloc(n * sizeof(*i->map));
	if (!i->map) {
		oci_tree_uncharge(w->tree, n * sizeof(*i->map));
		return err_oom(e);
	}
	for (uint64_t k = 0; k < n; k++)
		i->map[k] = k < used ? (uint32_t)(first + (k << i->chunk_bits)) : EROFS_NULL_ADDR;
	return 0;
}

static int write_sparse(struct oci_erofs *w, uint64_t off, const uint8_t *data, size_t n, struct err *e)
{
	struct oci_inode *i = w->cur;
	uint64_t size = chunk_size(i);

	while (n > 0) {
		uint64_t k = off / size, within = off % size, block = 0;
		size_t part = (size_t)MIN_OF((uint64_t)n, size - within);
		if (i->map[k] == EROFS_NULL_ADDR) {
			int r = take_blocks(w, 1ull << i->chunk_bits, &block, e);
			if (r < 0)
				return r;
			i->map[k] = (uint32_t)block;
		}
		int r = oci_writer_put(
			&w->w, ((uint64_t)i->map[k] << EROFS_BLOCK_BITS) + within, data, part, e);
		if (r < 0)
			return r;
		off += part;
		data += part;
		n -= part;
	}
	return 0;
}

static int charge_content(struct oci_erofs *w, uint64_t off, size_t n, struct err *e)
{
	uint64_t first = off >> EROFS_BLOCK_BITS, end = blocks_of(off + n);

	first = first < w->charged ? w->charged : first;
	w->charged = end;
	w->content += (end - first) << EROFS_BLOCK_BITS;
	if (w->content > w->content_max)
		return err_set(e, -EFBIG, "image content is larger than %llu MiB",
			(unsigned long long)(w->content_max >> 20));
	return 0;
}

int oci_erofs_file_write(struct oci_erofs *w, uint64_t off, const void *data, size_t n, struct err *e)
{
	struct oci_inode *i = w->cur;
	int r = 0;

	if (off < w->pos || n > i->size || off > i->size - n)
		return err_set(e, -EBADMSG, "a file's content is out of order");
	if (n == 0)
		return 0;
	if (i->data) {
		memcpy(i->data + off, data, n);
	} else {
		r = charge_content(w, off, n, e);
		if (r == 0 && !i->map && off - w->pos >= chunk_size(i))
			r = become_sparse(w, e);
		if (r == 0 && i->map)
			r = write_sparse(w, off, data, n, e);
		else if (r == 0)
			r = oci_writer_put(&w->w, (w->start << EROFS_BLOCK_BITS) + off, data, n, e);
	}
	w->pos = off + n;
	return r;
}

/* The disk has something to do while more is read, and less when it is synced. */
static void start_writeback(struct oci_erofs *w)
{
	uint64_t from = w->written_back << EROFS_BLOCK_BITS, to = w->w.offset;

	if (to < from + OCI_WRITEBACK_STEP)
		return;
	(void)sync_file_range(w->fd, (off_t)from, (off_t)(to - from), SYNC_FILE_RANGE_WRITE);
	w->written_back = to >> EROFS_BLOCK_BITS;
}

int oci_erofs_file_end(struct oci_erofs *w, struct err *e)
{
	struct oci_inode *i = w->cur;
	int r = 0;

	w->cur = NULL;
	if (i->data || i->size == 0)
		return 0;
	if (!i->map && i->size - w->pos >= chunk_size(i)) {
		w->cur = i;
		r = become_sparse(w, e);
		w->cur = NULL;
	}
	if (r == 0 && !i->map) {
		uint64_t first;
		r = take_blocks(w, blocks_of(i->size), &first, e);
		i->blkaddr = (uint32_t)w->start;
	}
	start_writeback(w);
	return r;
}

/* Whether content that lost its last name stays: the same decision for the same layers, always. */
static bool keep(struct oci_erofs *w, const struct oci_inode *i)
{
	uint64_t n = blocks_of(i->size) << EROFS_BLOCK_BITS;

	if (i->map || n > OCI_KEEP_FILE || w->kept + n > w->kept_max)
		return false;
	w->kept += n;
	return true;
}

/* Only saves room; a file system that cannot do it keeps the bytes. */
static void punch_now(struct oci_erofs *w, const struct oci_hole *h)
{
	(void)!fallocate(w->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		(off_t)(h->block << EROFS_BLOCK_BITS), (off_t)(h->n << EROFS_BLOCK_BITS));
}

static void punch_later(struct oci_erofs *w, const struct oci_hole *h)
{
	struct oci_hole *last = w->n_holes ? &w->holes[w->n_holes - 1] : NULL;

	if (w->holes_failed)
		return;
	/* The chunks of a sparse file, which are many, mostly stand side by side. */
	if (last && last->block + last->n == h->block) {
		last->n += h->n;
		return;
	}
	if (w->n_holes == w->cap_holes) {
		size_t cap = w->cap_holes ? w->cap_holes * 2 : 64;
		struct oci_hole *v = realloc(w->holes, cap * sizeof(*v));
		if (!v) {
			w->holes_failed = true;
			return;
		}
		w->holes = v;
		w->cap_holes = cap;
	}
	w->holes[w->n_holes++] = *h;
}

static void punch(struct oci_erofs *w, uint64_t block, uint64_t n)
{
	const struct oci_hole h = {block, n};

	if (n == 0 || w->replaying)
		return;
	if (w->filling)
		punch_later(w, &h);
	else
		punch_now(w, &h);
}

int oci_erofs_filled(struct oci_erofs *w, struct err *e)
{
	/* The same layers give the same bytes: a disk without its holes would be another one. */
	if (w->holes_failed)
		return err_oom(e);
	w->filling = false;
	for (size_t i = 0; i < w->n_holes; i++)
		punch_now(w, &w->holes[i]);
	w->n_holes = 0;
	return 0;
}

void oci_erofs_discard(void *writer, struct oci_inode *i)
{
	struct oci_erofs *w = writer;

	w->live_bytes -= i->size;
	if (i->data) {
		w->inline_bytes -= i->size;
		oci_tree_uncharge(w->tree, i->size);
		return;
	}
	if (i->size == 0 || keep(w, i))
		return;
	if (w->recipe && oci_erofs_first_block(i))
		oci_recipe_punched(w->recipe, oci_erofs_first_block(i));
	/* What still waits in the buffer would be written over the hole. */
	struct err ignored = {0};
	(void)oci_writer_flush(&w->w, &ignored);
	if (!i->map) {
		punch(w, i->blkaddr, blocks_of(i->size));
		return;
	}
	uint64_t n = n_chunks(i);
	for (uint64_t k = 0; k < n; k++)
		if (i->map[k] != EROFS_NULL_ADDR)
			punch(w, i->map[k], 1ull << i->chunk_bits);
	oci_tree_uncharge(w->tree, n * sizeof(*i->map));
}

/* ---- extended attributes ---- */

static const struct {
	const char *prefix;
	uint8_t index;
	bool whole; /* the prefix is the whole name */
} xattr_kinds[] = {
	{"user.", EROFS_XATTR_USER, false},
	{"trusted.", EROFS_XATTR_TRUSTED, false},
	{"security.", EROFS_XATTR_SECURITY, false},
	{"system.posix_acl_access", EROFS_XATTR_ACL_ACCESS, true},
	{"system.posix_acl_default", EROFS_XATTR_ACL_DEFAULT, true},
};

/* The guest's overlayfs would obey these as its own. */
#define OVERLAY_PREFIX "trusted.overlay."

int oci_erofs_xattr(
	uint8_t **buf, uint32_t *len, const char *name, const void *value, size_t value_len, struct err *e)
{
	size_t k, skip = 0;

	for (k = 0; k < ARRAY_LEN(xattr_kinds); k++) {
		skip = strlen(xattr_kinds[k].prefix);
		if (strncmp(name, xattr_kinds[k].prefix, skip) == 0 && xattr_kinds[k].whole == !name[skip])
			break;
	}
	if (k == ARRAY_LEN(xattr_kinds) || strncmp(name, OVERLAY_PREFIX, strlen(OVERLAY_PREFIX)) == 0)
		return 0;
	size_t name_len = strlen(name + skip);
	size_t size = (sizeof(struct erofs_xattr) + name_len + value_len + 3) & ~(size_t)3;
	if (name_len > 255 || value_len > EROFS_XATTR_VALUE_MAX || size > OCI_TREE_XATTR_MAX - *len)
		return err_set(e, -E2BIG, "extended attributes are too large");
	uint8_t *p = realloc(*buf, *len + size);
	if (!p)
		return err_oom(e);
	*buf = p;
	p += *len;
	*len += (uint32_t)size;
	memset(p, 0, size);
	struct erofs_xattr x = {.name_len = (uint8_t)name_len,
		.name_index = xattr_kinds[k].index,
		.value_size = htole16((uint16_t)value_len)};
	memcpy(p, &x, sizeof(x));
	memcpy(p + sizeof(x), name + skip, name_len);
	if (value_len)
		memcpy(p + sizeof(x) + name_len, value, value_len);
	return 0;
}
