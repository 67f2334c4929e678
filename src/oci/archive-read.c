/* SPDX-License-Identifier: MIT */
#include "image-archive.h"

#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "progress.h"
#include "tar.h"
#include "tree.h"

#define PIECE (64u << 10) /* bytes compared or copied at a time */

static const char *const documents[OCI_ARCHIVE_DOCUMENTS] = {"index.json", "manifest.json", "oci-layout"};

void oci_archive_done(struct oci_archive *a)
{
	for (size_t i = 0; i < a->n; i++) {
		free(a->items[i].name);
		free(a->items[i].alias);
		free(a->items[i].doc);
		oci_spool_free(a->items[i].spool);
	}
	free(a->items);
	*a = (struct oci_archive){0};
}

static int charge_text(struct oci_archive *a, const char *text, struct err *e)
{
	a->text_len += strlen(text);
	if (a->text_len > OCI_ARCHIVE_TEXT_MAX)
		return err_set(e, -E2BIG, "the names in the archive are longer than %u MiB",
			OCI_ARCHIVE_TEXT_MAX >> 20);
	return 0;
}

static struct oci_item *add_item(struct oci_archive *a, const char *name, struct err *e)
{
	if (charge_text(a, name, e) < 0)
		return NULL;
	if (a->n == OCI_ARCHIVE_ENTRIES_MAX) {
		err_set(e, -E2BIG, "the archive has more than %d entries", OCI_ARCHIVE_ENTRIES_MAX);
		return NULL;
	}
	if (a->n == a->cap) {
		size_t cap = a->cap ? a->cap * 2 : 64;
		struct oci_item *v = realloc(a->items, cap * sizeof(*v));
		if (!v) {
			err_oom(e);
			return NULL;
		}
		a->items = v;
		a->cap = cap;
	}
	struct oci_item *it = &a->items[a->n];
	*it = (struct oci_item){.name = strdup(name), .order = a->read++};
	if (!it->name) {
		err_oom(e);
		return NULL;
	}
	a->n++;
	return it;
}

/* "blobs/ALG/HEX" to a digest; false for other names. */
static bool blob_name(const char *name, char ret[OCI_DIGEST_MAX])
{
	const char *alg = name + strlen("blobs/");

	if (strncmp(name, "blobs/", strlen("blobs/")) != 0 || strlen(alg) >= OCI_DIGEST_MAX)
		return false;
	oci_digest_copy(ret, alg);
	char *slash = strchr(ret, '/');
	if (slash)
		*slash = ':';
	return oci_digest_valid(ret);
}

static bool is_document(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(documents); i++)
		if (strcmp(name, documents[i]) == 0)
			return true;
	return false;
}

/* A document's item, new or the one of an earlier entry, which it replaces. */
static struct oci_item *document_item(struct oci_archive *a, const char *name, struct err *e)
{
	for (size_t i = 0; i < a->n_documents; i++) {
		struct oci_item *it = &a->items[a->documents[i]];
		if (strcmp(it->name, name) != 0)
			continue;
		free(it->doc);
		it->doc = NULL;
		it->doc_len = 0;
		it->order = a->read++;
		return it;
	}
	struct oci_item *it = add_item(a, name, e);
	if (it)
		a->documents[a->n_documents++] = (size_t)(it - a->items);
	return it;
}

/* Metadata that Docker wrote per layer before 1.10 and still does; nothing refers to it. */
static bool is_legacy(const char *name)
{
	const char *slash = strrchr(name, '/');

	return (slash && (strcmp(slash, "/json") == 0 || strcmp(slash, "/VERSION") == 0)) ||
	       strcmp(name, "repositories") == 0;
}

static int read_document(struct oci_tar *t, struct oci_item *it, uint64_t size, struct err *e)
{
	const void *p;
	size_t n;
	uint64_t off;
	int r;

	if (size > OCI_JSON_MAX)
		return err_set(e, -EFBIG, "it is larger than %u MiB", OCI_JSON_MAX >> 20);
	it->doc = calloc(1, size + 1);
	if (!it->doc)
		return err_oom(e);
	it->doc_len = size;
	while ((r = oci_tar_data(t, &p, &n, &off, e)) > 0) {
		if (n > size || off > size - n)
			return err_set(e, -EBADMSG, "it is longer than it says");
		if (n > 0)
			memcpy(it->doc + off, p, n);
	}
	return r;
}

static int spool_block(
	struct oci_spool *sp, const void *p, size_t n, uint64_t off, uint64_t size, struct err *e)
{
	if (off < sp->size)
		return err_set(e, -EBADMSG, "its parts are out of order");
	/* Filling holes in, a few bytes of archive could fill the disk. */
	if (off > sp->size || n > size - sp->size)
		return err_set(e, -EBADMSG, "it is a sparse file, which image archives do not have");
	return oci_spool_write(sp, p, n, e);
}

/* What is left of the entry. */
static int spool_content(struct oci_tar *t, struct oci_spool *sp, uint64_t size, struct err *e)
{
	const void *p;
	size_t n;
	uint64_t off;
	int r;

	while ((r = oci_tar_data(t, &p, &n, &off, e)) > 0) {
		r = spool_block(sp, p, n, off, size, e);
		if (r < 0)
			return r;
	}
	if (r == 0 && sp->size != size)
		return err_set(e, -EBADMSG, "it is shorter than it says");
	return r < 0 ? r : oci_spool_finish(sp, e);
}

static int new_spool(struct oci_archive *a, struct oci_item *it, uint64_t size, struct err *e)
{
	int r = oci_store_room(a->store, size, e);

	return r < 0 ? r : oci_spool_new(a->store, true, *it->digest ? it->digest : NULL, &it->spool, e);
}

/* ---- what the store has already ---- */

/* A blob of this digest and size. Its descriptor, or -ENOENT without *e. */
static int open_stored(struct oci_archive *a, const char *digest, uint64_t size, struct err *e)
{
	CLEANUP_CLOSE int fd = oci_store_blob_open(a->store, digest, e);
	struct stat st;

	if (fd < 0)
		return fd;
	return fstat(fd, &st) == 0 && (uint64_t)st.st_size == size ? TAKE_FD(fd) : -ENOENT;
}

static bool is_same(int fd, const uint8_t *p, size_t n, uint64_t off)
{
	uint8_t mem[PIECE];

	while (n > 0) {
		size_t k = MIN_OF(n, sizeof(mem));
		if (io_pread_full(fd, mem, k, (off_t)off) != (ssize_t)k || memcmp(mem, p, k) != 0)
			return false;
		p += k;
		off += k;
		n -= k;
	}
	return true;
}

/* The first bytes of the blob, which the archive's entry has too. */
static int spool_stored(struct oci_spool *sp, int fd, uint64_t n, struct err *e)
{
	uint8_t mem[PIECE];
	int r = 0;

	while (r == 0 && sp->size < n) {
		size_t k = (size_t)MIN_OF(n - sp->size, (uint64_t)sizeof(mem));
		ssize_t got = io_pread_full(fd, mem, k, (off_t)sp->size);
		if (got != (ssize_t)k)
			return err_sys(e, got < 0 ? (int)got : -EIO, "cannot read from the image store");
		r = oci_spool_write(sp, mem, k, e);
	}
	return r;
}

/*
 * What the store has was verified when it came, and may have been damaged since: the archive's copy is compared with it, and
 * from the first difference on spooled like one that is new. Its digest says whose fault it was.
 */
static int compare_content(
	struct oci_archive *a, struct oci_tar *t, struct oci_item *it, int fd, uint64_t size, struct err *e)
{
	const void *p;
	size_t n;
	uint64_t off, same = 0;
	int r;

	while ((r = oci_tar_data(t, &p, &n, &off, e)) > 0) {
		if (off != same || n > size - same || !is_same(fd, p, n, same))
			break;
		same += n;
	}
	if (r < 0 || (r == 0 && same == size))
		return r;
	bool more = r > 0;
	r = new_spool(a, it, size, e);
	if (r == 0)
		r = spool_stored(it->spool, fd, same, e);
	if (r == 0 && more)
		r = spool_block(it->spool, p, n, off, size, e);
	if (r < 0)
		return r;
	return more ? spool_content(t, it->spool, size, e)
		    : err_set(e, -EBADMSG, "it is shorter than it says");
}

static int read_blob(
	struct oci_archive *a, struct oci_tar *t, struct oci_item *it, uint64_t size, struct err *e)
{
	bool named = blob_name(it->name, it->digest);
	CLEANUP_CLOSE int fd = named ? open_stored(a, it->digest, size, e) : -ENOENT;
	int r;

	it->size = size;
	if (fd < 0 && fd != -ENOENT)
		return fd;
	if (fd >= 0) {
		r = compare_content(a, t, it, fd, size, e);
		if (r < 0 || !it->spool)
			return r;
	} else {
		r = new_spool(a, it, size, e);
		if (r == 0)
			r = spool_content(t, it->spool, size, e);
		if (r < 0)
			return r;
	}
	if (named && strcmp(it->digest, it->spool->digest) != 0)
		return err_set(e, -EBADMSG, "its content has digest %s", it->spool->digest);
	oci_digest_copy(it->digest, it->spool->digest);
	oci_spool_close(it->spool); /* there are more of them than descriptors */
	return 0;
}

static int read_link(struct oci_archive *a, const char *name, const char *target, bool symlink, struct err *e)
{
	char joined[2 * OCI_TREE_PATH_MAX], clean[OCI_TREE_PATH_MAX];
	const char *slash = symlink && *target != '/' ? strrchr(name, '/') : NULL;

	/* A hard link names from the top, a symbolic link from where it is. */
	int n = snprintf(joined, sizeof(joined), "%.*s/%s", slash ? (int)(slash - name) : 0, name, target);
	if (n >= (int)sizeof(joined) || oci_path_clean(joined, clean, NULL) < 0)
		return 0; /* leads nowhere, and is reported missing if something needs it */
	struct oci_item *it = add_item(a, name, e);
	if (!it)
		return -E2BIG;
	int r = charge_text(a, clean, e);
	if (r < 0)
		return r;
	it->alias = strdup(clean);
	return it->alias ? 0 : err_oom(e);
}

static int charge_size(struct oci_archive *a, uint64_t size, struct err *e)
{
	uint64_t max = a->store->unpacked_max;

	if (size > max - a->size)
		return err_set(e, -EFBIG, "with its %llu bytes the archive's content is larger than %llu MiB",
			(unsigned long long)size, (unsigned long long)(max >> 20));
	a->size += size;
	return 0;
}

static int read_entry(struct oci_archive *a, struct oci_tar *t, struct archive_entry *en, struct err *e)
{
	const struct libarchive *lib = t->lib;
	const char *path = lib->archive_entry_pathname(en), *link = lib->archive_entry_hardlink(en);
	char name[OCI_TREE_PATH_MAX];

	if (!path || oci_path_clean(path, name, NULL) < 0 || !*name)
		return 0;
	if (link)
		return read_link(a, name, link, false, e);
	if (lib->archive_entry_filetype(en) == AE_IFLNK) {
		link = lib->archive_entry_symlink(en);
		return link ? read_link(a, name, link, true, e) : 0;
	}
	int64_t size = lib->archive_entry_size(en);
	if (lib->archive_entry_filetype(en) != AE_IFREG || is_legacy(name) || size < 0)
		return 0;
	struct oci_item *it = is_document(name) ? document_item(a, name, e) : add_item(a, name, e);
	if (!it)
		return -E2BIG;
	int r = charge_size(a, (uint64_t)size, e);
	if (r == 0)
		r = is_document(name) ? read_document(t, it, (uint64_t)size, e)
				      : read_blob(a, t, it, (uint64_t)size, e);
	if (r < 0)
		err_wrap(e, "archive entry \"%.200s\"", name);
	return r;
}

/* By name; of entries with one name the last, which tar says replaces the others, first. */
static int compare_items(const void *pa, const void *pb)
{
	const struct oci_item *a = pa, *b = pb;
	int c = strcmp(a->name, b->name);

	if (c != 0)
		return c;
	return a->order < b->order ? 1 : -1;
}

struct reading {
	const struct oci_progress *progress;
	int fd;
	uint64_t done, total;
};

static ssize_t read_outer(void *data, void *buf, size_t n, struct err *e)
{
	struct reading *rd = data;
	ssize_t k = oci_source_fd(&rd->fd, buf, n, e);

	if (k > 0)
		rd->done += (uint64_t)k;
	if (k >= 0)
		oci_tell(rd->progress, NULL, "Reading archive", rd->done, rd->total);
	return k;
}

int oci_archive_read(
	struct oci_store *s, int fd, const struct oci_progress *p, struct oci_archive *ret, struct err *e)
{
	CLEANUP(oci_archive_done) struct oci_archive a = {.store = s};
	CLEANUP(oci_stream_freep) struct oci_stream *stream = NULL;
	struct reading rd = {.progress = p, .fd = fd};
	struct oci_source src = {.read = read_outer, .data = &rd};
	struct archive_entry *en;
	struct oci_tar t;
	struct stat st;

	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
		rd.total = (uint64_t)st.st_size;
	int r = oci_stream_new(OCI_STREAM_ARCHIVE, &src, NULL, 2 * s->unpacked_max, &stream, e);
	if (r == 0)
		r = oci_tar_open(&t, stream, e);
	if (r < 0)
		return r;
	while ((r = oci_tar_next(&t, &en, e)) > 0) {
		r = read_entry(&a, &t, en, e);
		if (r < 0)
			break;
	}
	oci_tar_close(&t);
	if (r < 0)
		return r;
	if (a.n > 0)
		qsort(a.items, a.n, sizeof(*a.items), compare_items);
	*ret = a;
	a = (struct oci_archive){0};
	return 0;
}

struct oci_item *oci_archive_find(struct oci_archive *a, const char *name)
{
	size_t lo = 0, hi = a->n;

	while (lo < hi) { /* the first that is not less: of equal names the one that counts */
		size_t mid = lo + (hi - lo) / 2;
		if (strcmp(a->items[mid].name, name) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < a->n && strcmp(a->items[lo].name, name) == 0 ? &a->items[lo] : NULL;
}

struct oci_item *oci_archive_get(struct oci_archive *a, const char *name)
{
	char clean[OCI_TREE_PATH_MAX];

	if (oci_path_clean(name, clean, NULL) < 0)
		return NULL;
	name = clean;
	for (int hops = 0; hops <= OCI_ARCHIVE_ALIASES_MAX; hops++) {
		struct oci_item *it = oci_archive_find(a, name);
		if (!it || !it->alias)
			return it;
		name = it->alias;
	}
	return NULL;
}

int oci_archive_open(struct oci_archive *a, const struct oci_item *it, struct err *e)
{
	return it->spool && it->spool->tmp[0] ? oci_spool_open(it->spool, e)
					      : oci_store_blob_open(a->store, it->digest, e);
}

int oci_archive_load_doc(struct oci_archive *a, const struct oci_item *it, const char *what, char **ret,
	size_t *ret_n, struct err *e)
{
	if (it->size > OCI_JSON_MAX)
		return err_set(e, -EFBIG, "%s is larger than %u MiB", what, OCI_JSON_MAX >> 20);
	CLEANUP_CLOSE int fd = oci_archive_open(a, it, e);
	if (fd < 0)
		return fd == -ENOENT ? err_set(e, fd, "%s disappeared", what) : fd;
	char *buf = malloc(it->size + 1);
	if (!buf)
		return err_oom(e);
	ssize_t n = io_pread_full(fd, buf, it->size, 0);
	if (n < 0 || (uint64_t)n != it->size) {
		free(buf);
		return n < 0 ? err_sys(e, (int)n, "cannot read %s", what)
			     : err_set(e, -EIO, "%s is cut off", what);
	}
	buf[it->size] = '\0';
	*ret = buf;
	*ret_n = it->size;
	return 0;
}
