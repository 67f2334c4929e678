/* SPDX-License-Identifier: MIT */
/*
 * An archive of a stranger's as a tree: what comes must keep the rules of tree.h, and what is read must be written as an archive
 * that reads the same.
 */
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "oci/content.h"
#include "paths.h"

#define CONTENT_MAX (8u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct check {
	struct oci_paths seen;
	const struct tree_sink *next;
	uint64_t size, at, bytes, sum;
	bool file, ended, full;
};

static void require(bool ok)
{
	if (!ok)
		abort();
}

static void hash(struct check *c, const void *p, size_t n)
{
	const uint8_t *b = p;

	for (size_t i = 0; i < n; i++)
		c->sum = (c->sum ^ b[i]) * 0x100000001b3ull;
}

static void check_parents(struct check *c, const char *path)
{
	for (const char *p = strchr(path, '/'); p; p = strchr(p + 1, '/')) {
		const struct oci_path *dir = oci_paths_find(&c->seen, path, (size_t)(p - path));
		require(dir && S_ISDIR(dir->mode));
	}
}

static int on_entry(void *data, const struct wire_entry *en, struct err *e)
{
	struct check *c = data;
	struct oci_path *p;

	require(!c->ended && wire_path_valid(en->path));
	require(c->seen.n > 0 || *en->path == '\0');
	check_parents(c, en->path);
	if (en->link)
		require(oci_paths_find(&c->seen, en->link, strlen(en->link)) && en->mode == 0);
	require(en->n_xattrs <= WIRE_XATTR_MAX && en->mtime_ns < 1000000000);
	require(!S_ISLNK(en->mode) || (en->target && *en->target));
	if (oci_paths_add(&c->seen, en->path, strlen(en->path), &p, e) < 0)
		return e->code;
	p->mode = en->link ? S_IFREG : en->mode;
	c->file = S_ISREG(en->mode);
	c->size = en->size;
	c->at = 0;
	hash(c, en->path, strlen(en->path) + 1);
	hash(c, &en->mode, sizeof(en->mode));
	hash(c, &en->uid, sizeof(en->uid));
	hash(c, &en->gid, sizeof(en->gid));
	return c->next ? c->next->entry(c->next->data, en, e) : 0;
}

static int on_content(void *data, uint64_t offset, const void *bytes, size_t len, struct err *e)
{
	struct check *c = data;

	require(c->file && len > 0 && offset >= c->at && offset <= c->size && len <= c->size - offset);
	c->at = offset + len;
	c->bytes += len;
	c->full = c->bytes > CONTENT_MAX;
	if (c->full)
		return err_set(e, -EFBIG, "enough");
	return c->next ? c->next->content(c->next->data, offset, bytes, len, e) : 0;
}

static int on_end(void *data, struct err *e)
{
	struct check *c = data;

	require(!c->ended && c->seen.n > 0);
	c->ended = true;
	return c->next ? c->next->end(c->next->data, e) : 0;
}

/* A file whose holes are not kept would be written out. */
static bool is_huge(const struct check *c)
{
	return c->size > CONTENT_MAX;
}

static int filter_entry(void *data, const struct wire_entry *en, struct err *e)
{
	int r = on_entry(data, en, e);

	return r == 0 && S_ISREG(en->mode) && is_huge(data) ? err_set(e, -EFBIG, "enough") : r;
}

static int read_all(int fd, struct check *c, struct err *e)
{
	const struct tree_sink to = {.entry = filter_entry, .content = on_content, .end = on_end, .data = c};

	require(lseek(fd, 0, SEEK_SET) == 0);
	int r = oci_tar_read(fd, &to, e);
	require(r < 0 ? e->code != 0 && e->msg[0] : c->ended);
	return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct oci_tar_sink *tar = NULL;
	struct check first = {0}, again = {0};
	struct err e = {0};
	int in = memfd_create("in", MFD_CLOEXEC), out = memfd_create("out", MFD_CLOEXEC);

	if (in >= 0 && out >= 0 && io_write_full(in, data, size) == 0 &&
		oci_tar_sink_new(out, NULL, &tar, &e) == 0) {
		first.next = oci_tar_sink(tar);
		/* What the archive cannot say again (a socket, a name with "=") fails, or is left out. */
		if (read_all(in, &first, &e) == 0 && read_all(out, &again, &e) < 0)
			require(e.code == -EFBIG || e.code == -E2BIG);
	}
	oci_tar_sink_free(tar);
	oci_paths_done(&first.seen);
	oci_paths_done(&again.seen);
	close(in);
	close(out);
	return 0;
}
