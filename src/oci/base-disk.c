/* SPDX-License-Identifier: MIT */
#include "base-disk.h"

#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "erofs-format.h"
#include "unsynced.h"

#define COPY_STEP (8u << 20) /* bytes copied by one system call */

/* ---- finding ---- */

/*
 * Of the disks that do not count as missing, the one with the most layers in common, the first of several; *ret_n: how
 * many they are, 0: none.
 */
static int find(struct oci_store *s, const char *const *diff_ids, size_t n, char ret_chain[OCI_DIGEST_MAX],
	size_t *ret_n, struct err *e)
{
	CLEANUP(stmt_done) sqlite3_stmt *st = NULL;
	CLEANUP_FREE char *manifest = NULL;
	size_t same = 0;
	bool differs = false;
	int r = state_prepare(s->st, &st, e,
		"SELECT m.digest, m.chain, b.diff FROM image_manifests m JOIN image_disks d ON d.chain = "
		"m.chain"
		" LEFT JOIN image_disks_unsynced u ON u.chain = m.chain JOIN image_blobs b ON b.manifest = "
		"m.digest"
		" WHERE (u.boot IS NULL OR (u.boot = ?2 AND u.boot <> '')) AND b.diff IS NOT NULL AND "
		"m.digest IN (SELECT manifest FROM image_blobs WHERE diff = ?1)"
		" ORDER BY m.digest, b.pos",
		"ss", diff_ids[0], oci_boot());

	*ret_n = 0;
	while (r >= 0 && (r = state_step(s->st, st, e)) > 0) {
		const char *digest = (const char *)sqlite3_column_text(st, 0);
		const char *chain = (const char *)sqlite3_column_text(st, 1);
		const char *diff = (const char *)sqlite3_column_text(st, 2);
		if (!digest || !chain || !diff)
			return err_oom(e);
		if (!manifest || strcmp(manifest, digest) != 0) {
			free(manifest);
			manifest = strdup(digest);
			if (!manifest)
				return err_oom(e);
			same = 0;
			differs = false;
		}
		differs |= same == n || strcmp(diff, diff_ids[same]) != 0;
		if (differs)
			continue;
		if (++same > *ret_n && oci_digest_valid(chain)) {
			*ret_n = same;
			oci_digest_copy(ret_chain, chain);
		}
	}
	return r;
}

static int open_disk(struct oci_store *s, const char *chain)
{
	char name[OCI_DIGEST_MAX + 8];

	snprintf(name, sizeof(name), "%s.img", oci_digest_hex(chain));
	int fd = openat(s->disks_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	return fd < 0 ? -errno : fd;
}

/* ---- copying, in a thread ---- */

struct oci_base_copy {
	int from; /* its own */
	int to;	  /* the new disk, borrowed */
	off_t end;
	int result;
	_Atomic bool stop;
	pthread_t thread;
};

static int copy_plain(const struct oci_base_copy *c, off_t at, size_t n)
{
	uint8_t mem[65536];

	while (n > 0) {
		ssize_t k = io_pread_full(c->from, mem, MIN_OF(n, sizeof(mem)), at);
		if (k <= 0)
			return k < 0 ? (int)k : -EIO;
		int r = io_pwrite_full(c->to, mem, (size_t)k, at);
		if (r < 0)
			return r;
		at += k;
		n -= (size_t)k;
	}
	return 0;
}

/*
 * Shared extents where the file system can. Writing to the storage medium is not begun here: nothing waits for it
 * (unsynced.h), and it would be in the way of the layers that do get synced.
 */
static int copy_step(const struct oci_base_copy *c, off_t at, size_t n)
{
	for (size_t left = n; left > 0;) {
		off_t from = at, to = at;
		ssize_t k = copy_file_range(c->from, &from, c->to, &to, left, 0);
		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0 && (errno == ENOSPC || errno == EDQUOT || errno == EIO || errno == EFBIG))
			return -errno;
		if (k <= 0)
			return copy_plain(c, at, left);
		at += k;
		left -= (size_t)k;
	}
	return 0;
}

/* What is no hole, of the data area up to the end. Sets no error object: it is not the only thread. */
static void *copy(void *data)
{
	struct oci_base_copy *c = data;
	off_t at = EROFS_BLOCK_SIZE;

	while (at < c->end && !c->stop) {
		at = lseek(c->from, at, SEEK_DATA);
		if (at < 0 || at >= c->end) {
			c->result = at < 0 && errno != ENXIO ? -errno : 0;
			break;
		}
		off_t hole = lseek(c->from, at, SEEK_HOLE);
		if (hole < 0) {
			c->result = -errno;
			break;
		}
		off_t to = MIN_OF(hole, c->end);
		/* Room for all of it at once saves a fifth of the copying's time; if there is none, the copying says so. */
		(void)!fallocate(c->to, FALLOC_FL_KEEP_SIZE, at, to - at);
		while (c->result == 0 && at < to && !c->stop) {
			size_t n = (size_t)MIN_OF(to - at, (off_t)COPY_STEP);
			c->result = copy_step(c, at, n);
			at += (off_t)n;
		}
		if (c->result < 0)
			break;
	}
	return NULL;
}

static int copy_begin(int from, int to, uint64_t end_block, struct oci_base_copy **ret, struct err *e)
{
	CLEANUP_FREE struct oci_base_copy *c = calloc(1, sizeof(*c));
	CLEANUP_CLOSE int own = fcntl(from, F_DUPFD_CLOEXEC, 3);

	if (!c)
		return err_oom(e);
	if (own < 0)
		return err_sys(e, -errno, "cannot read another disk");
	*c = (struct oci_base_copy){.from = own, .to = to, .end = (off_t)(end_block << EROFS_BLOCK_BITS)};
	int r = -pthread_create(&c->thread, NULL, copy, c);
	if (r < 0)
		return err_sys(e, r, "cannot start a thread");
	(void)TAKE_FD(own);
	*ret = TAKE_PTR(c);
	return 0;
}

int oci_base_copy_wait(struct oci_base_copy **c, struct err *e)
{
	if (!*c)
		return 0;
	pthread_join((*c)->thread, NULL);
	int r = (*c)->result;
	close_fd(&(*c)->from);
	free(TAKE_PTR(*c));
	return r < 0 ? oci_write_error(r, e) : 0;
}

void oci_base_copy_free(struct oci_base_copy *c)
{
	if (c)
		c->stop = true;
	(void)oci_base_copy_wait(&c, NULL);
}

/* ---- both together ---- */

static int replay_and_copy(struct oci_base *b, int fd, struct oci_erofs *w, const char *const *diff_ids,
	size_t n, struct oci_recipe *recipe, struct oci_layer_end *ends, struct oci_base_copy **ret,
	struct err *e)
{
	CLEANUP(oci_base_copy_freep) struct oci_base_copy *c = NULL;
	uint64_t end_block;
	int r = oci_base_end(b, n, &end_block);

	if (r == 0)
		r = copy_begin(fd, w->fd, end_block, &c, e);
	if (r < 0)
		return r;
	r = oci_base_replay(b, w, diff_ids, n, recipe, ends, e);
	if (r != 1)
		return r;
	w->filling = true;
	w->written_back = end_block;
	*ret = TAKE_PTR(c);
	return 1;
}

int oci_base_take(struct oci_store *s, const char *const *diff_ids, size_t n, struct oci_erofs *w,
	struct oci_recipe *recipe, struct oci_layer_end *ends, size_t *ret_n, struct oci_base_copy **ret_copy,
	struct err *e)
{
	CLEANUP(oci_base_freep) struct oci_base *b = NULL;
	char chain[OCI_DIGEST_MAX] = "";
	struct err why = {0};
	size_t same = 0;

	*ret_n = 0;
	*ret_copy = NULL;
	int r = n > 0 ? find(s, diff_ids, n, chain, &same, e) : 0;
	if (r < 0)
		return r;
	CLEANUP_CLOSE int fd = same > 0 ? open_disk(s, chain) : -1;
	if (fd < 0)
		return 1;
	/* Whatever is wrong with the other disk, this one can be built from its layers. */
	if (oci_base_open(fd, &b, &why) < 0)
		return 1;
	r = replay_and_copy(b, fd, w, diff_ids, same, recipe, ends, ret_copy, &why);
	log_debug("image store: %zu of %zu layers from the disk %.19s: %s", r == 1 ? same : 0, n, chain,
		r == 1	 ? "taken"
		: r == 0 ? "some of their content is gone"
			 : why.msg);
	if (r == -ENOSPC || r == -EDQUOT || r == -ENOMEM) {
		if (e)
			*e = why;
		return r;
	}
	*ret_n = r == 1 ? same : 0;
	return 0;
}
