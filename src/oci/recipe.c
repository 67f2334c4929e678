/* SPDX-License-Identifier: MIT */
/* Recipes of disks, first part: writing them. */
#include "recipe.h"

#include <string.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/io.h"
#include "erofs-format.h"
#include "recipe-format.h"

#define BUFFER (256u << 10)

struct oci_recipe {
	struct oci_spool *spool;
	struct buf out;
	struct buf entry; /* the one that is being read */
	struct recipe_trailer trailer;
	int error; /* the first, else 0 */
	struct err err;
};

int oci_recipe_new(struct oci_store *s, struct oci_recipe **ret, struct err *e)
{
	CLEANUP(oci_recipe_freep) struct oci_recipe *r = calloc(1, sizeof(*r));

	if (!r)
		return err_oom(e);
	int rc = oci_spool_new(s, true, NULL, &r->spool, e);
	if (rc < 0)
		return rc;
	*ret = TAKE_PTR(r);
	return 0;
}

void oci_recipe_free(struct oci_recipe *r)
{
	if (!r)
		return;
	oci_spool_free(r->spool);
	buf_done(&r->out);
	buf_done(&r->entry);
	free(r);
}

static void fail(struct oci_recipe *r, int code, const struct err *e)
{
	if (r->error)
		return;
	r->error = code;
	if (e)
		r->err = *e;
	else
		err_oom(&r->err);
}

static void flush(struct oci_recipe *r, size_t from)
{
	struct err e = {0};

	if (r->error || r->out.len < from)
		return;
	int rc = oci_spool_write(r->spool, buf_data(&r->out), r->out.len, &e);
	if (rc < 0)
		fail(r, rc, &e);
	buf_consume(&r->out, r->out.len);
}

static void put(struct oci_recipe *r, struct buf *to, const void *data, size_t n)
{
	if (!r->error && n > 0 && buf_append(to, data, n) < 0)
		fail(r, -ENOMEM, NULL);
}

static void put_head(struct oci_recipe *r, enum recipe_type type, size_t len)
{
	struct recipe_head h = {.len = htole32((uint32_t)len), .type = (uint8_t)type};

	flush(r, BUFFER);
	put(r, &r->out, &h, sizeof(h));
}

static void put_record(struct oci_recipe *r, enum recipe_type type, const void *data, size_t n)
{
	put_head(r, type, n);
	put(r, &r->out, data, n);
}

void oci_recipe_layer(struct oci_recipe *r, const char *diff_id)
{
	put_record(r, RECIPE_LAYER, diff_id, strlen(diff_id));
}

/* A path as the tree sees it; one that it refuses ends the building anyway. */
static size_t clean(struct oci_recipe *r, const char *path, char dst[OCI_TREE_PATH_MAX])
{
	struct err e = {0};
	int rc = oci_path_clean(path, dst, &e);

	if (rc < 0) {
		fail(r, rc, &e);
		*dst = '\0';
	}
	return strlen(dst);
}

void oci_recipe_entry(struct oci_recipe *r, const char *path, const struct oci_attr *a)
{
	char cleaned[OCI_TREE_PATH_MAX];
	size_t path_len = clean(r, path, cleaned), target_len = S_ISLNK(a->mode) ? strlen(a->target) : 0;

	if (target_len >= OCI_TREE_PATH_MAX) /* refused by the tree */
		target_len = 0;
	struct recipe_entry en = {
		.mode = htole16(a->mode),
		.path_len = htole16((uint16_t)path_len),
		.target_len = htole16((uint16_t)target_len),
		.uid = htole32(a->uid),
		.gid = htole32(a->gid),
		.mtime_ns = htole32(a->mtime_ns),
		.rdev = htole32(a->rdev),
		.xattr_len = htole32(a->xattr_len),
		.mtime_s = htole64((uint64_t)a->mtime_s),
	};
	buf_consume(&r->entry, r->entry.len);
	put(r, &r->entry, &en, sizeof(en));
	put(r, &r->entry, cleaned, path_len);
	put(r, &r->entry, a->target, target_len);
	put(r, &r->entry, a->xattrs, a->xattr_len);
}

static void put_map(struct oci_recipe *r, const struct oci_inode *i, size_t n)
{
	for (size_t k = 0; k < n; k++) {
		uint32_t block = htole32(i->map[k]);
		put(r, &r->entry, &block, sizeof(block));
	}
}

void oci_recipe_entry_end(struct oci_recipe *r, const struct oci_inode *i)
{
	struct recipe_entry en;

	if (r->error)
		return;
	memcpy(&en, buf_data(&r->entry), sizeof(en));
	if (i) {
		en.size = htole64(i->size);
		en.content = i->data ? RECIPE_INLINE : i->map ? RECIPE_SPARSE : RECIPE_PLAIN;
		en.chunk_bits = i->chunk_bits;
		en.blkaddr = htole32(i->data || i->map ? 0 : i->blkaddr);
		size_t n = i->map ? oci_erofs_chunks(i) : 0;
		en.content_len = htole32((uint32_t)(i->data ? i->size : n * sizeof(*i->map)));
		if (i->data)
			put(r, &r->entry, i->data, i->size);
		put_map(r, i, n);
		if (r->error)
			return;
		memcpy(buf_data(&r->entry), &en, sizeof(en));
	}
	put_record(r, RECIPE_ENTRY, buf_data(&r->entry), r->entry.len);
}

void oci_recipe_link(struct oci_recipe *r, const char *path, const char *target)
{
	char a[OCI_TREE_PATH_MAX], b[OCI_TREE_PATH_MAX];
	size_t n = clean(r, path, a), m = clean(r, target, b);

	put_head(r, RECIPE_LINK, n + 1 + m);
	put(r, &r->out, a, n + 1);
	put(r, &r->out, b, m);
}

void oci_recipe_punched(struct oci_recipe *r, uint32_t block)
{
	block = htole32(block);
	put_record(r, RECIPE_PUNCH, &block, sizeof(block));
}

static void count_layer(struct oci_recipe *r, uint64_t next_block)
{
	uint32_t n = r->trailer.n_layers;

	if (n == OCI_LAYERS_MAX) {
		fail(r, -E2BIG, &(struct err){.code = -E2BIG, .msg = "the image has too many layers"});
		return;
	}
	r->trailer.next_block[n] = htole32((uint32_t)next_block);
	r->trailer.n_layers = n + 1;
}

void oci_recipe_layer_end(struct oci_recipe *r, const struct oci_layer_end *end)
{
	struct recipe_end re = {
		.next_block = htole64(end->next_block),
		.content = htole64(end->content),
		.kept = htole64(end->kept),
		.unpacked = htole64(end->unpacked),
		.brought = htole64(end->brought),
	};

	put_record(r, RECIPE_END, &re, sizeof(re));
	count_layer(r, end->next_block);
}

void oci_recipe_copy(struct oci_recipe *r, const void *record, size_t n, bool is_end)
{
	struct recipe_end re;

	flush(r, BUFFER);
	put(r, &r->out, record, n);
	if (is_end) {
		memcpy(&re, (const uint8_t *)record + sizeof(struct recipe_head), sizeof(re));
		count_layer(r, le64toh(re.next_block));
	}
}

/* Copies the spool behind the file system. */
static int append(struct oci_recipe *r, int disk_fd, uint64_t at, struct err *e)
{
	CLEANUP_FREE uint8_t *mem = malloc(BUFFER);
	uint64_t done = 0;

	if (!mem)
		return err_oom(e);
	while (done < r->spool->size) {
		size_t want = (size_t)MIN_OF(r->spool->size - done, (uint64_t)BUFFER);
		ssize_t n = io_pread_full(r->spool->fd, mem, want, (off_t)done);
		if (n <= 0)
			return err_sys(e, n < 0 ? (int)n : -EIO, "cannot read a disk's recipe again");
		int rc = io_pwrite_full(disk_fd, mem, (size_t)n, (off_t)(at + done));
		if (rc < 0)
			return oci_write_error(rc, e);
		done += (uint64_t)n;
	}
	return 0;
}

int oci_recipe_finish(struct oci_recipe *r, int disk_fd, struct err *e)
{
	uint8_t block[EROFS_BLOCK_SIZE] = {0};
	struct stat st;

	flush(r, 0);
	if (r->error) {
		if (e)
			*e = r->err;
		return r->error;
	}
	int rc = oci_spool_finish(r->spool, e);
	if (rc == 0 && fstat(disk_fd, &st) < 0)
		rc = err_sys(e, -errno, "cannot look at a disk");
	if (rc == 0)
		rc = append(r, disk_fd, (uint64_t)st.st_size, e);
	if (rc < 0)
		return rc;
	memcpy(r->trailer.magic, RECIPE_MAGIC, sizeof(r->trailer.magic));
	r->trailer.offset = htole64((uint64_t)st.st_size);
	r->trailer.len = htole64(r->spool->size);
	oci_digest_copy(r->trailer.digest, r->spool->digest);
	r->trailer.n_layers = htole32(r->trailer.n_layers);
	memcpy(block, &r->trailer, sizeof(r->trailer));
	uint64_t end = (uint64_t)st.st_size + r->spool->size;
	end = (end + EROFS_BLOCK_SIZE - 1) & ~(uint64_t)(EROFS_BLOCK_SIZE - 1);
	rc = io_pwrite_full(disk_fd, block, sizeof(block), (off_t)end);
	return rc < 0 ? oci_write_error(rc, e) : 0;
}
