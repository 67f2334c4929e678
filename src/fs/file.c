/* SPDX-License-Identifier: MIT */
/* Regular files that are open: content goes straight between the guest's buffers and the host's file. */
#include "server.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <string.h>
#include <sys/file.h>
#include <sys/uio.h>
#include <time.h>

#define SLICE	 264	     /* buffers per system call: 1 MiB of pages and some */
#define COPY_MAX (64u << 20) /* bytes of one COPY_FILE_RANGE: it cannot be interrupted */

static bool time_equal(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

static struct content_mark mark_of(const struct export *x, const struct stat *st)
{
	return (struct content_mark){.known = true,
		.racy = attr_is_racy(&st->st_ctim),
		.alone = atomic_load(&x->alone) ? atomic_load(&x->alone_since) + 1 : 0,
		.size = st->st_size,
		.mtime = st->st_mtim,
		.ctime = st->st_ctim};
}

/* How the guest may cache what it reads of the file: FOPEN_* */
static uint32_t mark_open(struct request *r, struct node *n, const struct stat *st)
{
	struct content_mark now = mark_of(n->export, st), *was = &n->mark;
	bool keep;

	if (n->export->e.cache == FS_CACHE_VOLUME && !now.alone)
		return FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES;
	pthread_mutex_lock(node_lock(r->s, n));
	keep = was->known && was->size == now.size && time_equal(&was->mtime, &now.mtime) &&
	       time_equal(&was->ctime, &now.ctime) && (!was->racy || (now.alone && was->alone == now.alone));
	*was = now;
	n->cached++;
	pthread_mutex_unlock(node_lock(r->s, n));
	return keep ? FOPEN_KEEP_CACHE : 0;
}

void file_mark_closed(struct fs_server *s, struct handle *h)
{
	struct stat st;
	bool ok;

	if (!h->cached)
		return;
	ok = fstat(h->fd, &st) == 0;
	pthread_mutex_lock(node_lock(s, h->node));
	h->node->cached--;
	if (ok)
		h->node->mark = mark_of(h->node->export, &st);
	else
		h->node->mark.known = false;
	pthread_mutex_unlock(node_lock(s, h->node));
}

int file_open(struct request *r, struct node *n, int fd, bool writable, struct fuse_open_out *out)
{
	struct stat st;
	bool cached;
	int err;

	if (fstat(fd, &st) < 0) {
		err = -errno;
		close(fd);
		return err;
	}
	*out = (struct fuse_open_out){.open_flags = mark_open(r, n, &st)};
	cached = !(out->open_flags & FOPEN_DIRECT_IO);
	err = handle_new(r->s, n, fd, false, cached, writable, &out->fh);
	if (err < 0 && cached) {
		pthread_mutex_lock(node_lock(r->s, n));
		n->cached--;
		n->mark.known = false;
		pthread_mutex_unlock(node_lock(r->s, n));
	}
	return err;
}

int op_open(struct request *r)
{
	struct fuse_open_in in;
	struct fuse_open_out out;
	struct node *n = r->node;
	unsigned access;
	bool writable;
	int fd, nodefd, err = 0;

	memcpy(&in, r->body, sizeof(in));
	access = in.flags & O_ACCMODE;
	writable = access != O_RDONLY;
	if (access == O_ACCMODE)
		return -EINVAL;
	/* What else the host has is shown, and that is all: opening it waits, or does what the device does. */
	if (n->type != S_IFREG)
		return n->type == S_IFDIR ? -EISDIR : n->type == S_IFLNK ? -ELOOP : -ENXIO;
	if (n->export->e.read_only && (writable || (in.flags & O_TRUNC)))
		return -EROFS;
	nodefd = node_fd(r->s, n);
	if (nodefd < 0)
		return nodefd;
	fd = reopen(r->s, nodefd,
		(int)(access | (in.flags & O_TRUNC)) | (n->export->e.read_only ? O_NOATIME : 0));
	if (fd == -EPERM && n->export->e.read_only)
		fd = reopen(r->s, nodefd, O_RDONLY); /* another's file: its time is kept as its mount says */
	if (fd < 0)
		err = fd;
	else if (in.flags & O_TRUNC)
		err = attr_kill_privileges(r->s, n, fd, true, in.open_flags & FUSE_OPEN_KILL_SUIDGID);
	node_done_fd(r->s, n);
	if (err < 0) {
		close_fd(&fd);
		return err;
	}
	err = file_open(r, n, fd, writable, &out);
	return err < 0 ? err : reply_add(r, &out, sizeof(out));
}

/* At most SLICE buffers of at most len bytes from `off` on. Returns how many. */
static int slice(const struct iovec *v, unsigned n, size_t off, size_t len, struct iovec *ret)
{
	int used = 0;

	for (unsigned i = 0; i < n && len && used < SLICE; i++) {
		if (off >= v[i].iov_len) {
			off -= v[i].iov_len;
			continue;
		}
		ret[used].iov_base = (char *)v[i].iov_base + off;
		ret[used].iov_len = MIN_OF(v[i].iov_len - off, len);
		len -= ret[used++].iov_len;
		off = 0;
	}
	return used;
}

int op_read(struct request *r)
{
	struct fuse_read_in in;
	struct iovec v[SLICE];
	struct handle *h;
	size_t size, done = 0;
	ssize_t n = 0;

	memcpy(&in, r->body, sizeof(in));
	if (in.offset > INT64_MAX - UINT32_MAX)
		return -EINVAL;
	if (!(h = handle_get(r->s, in.fh, r->node, false)))
		return -EBADF;
	size = MIN_OF((size_t)in.size, reply_room(r));
	while (done < size) {
		int used = slice(r->in, r->n_in, sizeof(struct fuse_out_header) + done, size - done, v);
		n = preadv(h->fd, v, used, (off_t)(in.offset + done));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		done += (size_t)n;
	}
	if (n < 0 && !done)
		n = -errno;
	else
		n = 0;
	handle_put(r->s, h);
	r->payload += done;
	return (int)n;
}

static int write_some(struct request *r, struct handle *h, const struct fuse_write_in *in, size_t *ret)
{
	struct iovec v[SLICE];
	size_t done = 0;
	int flags = 0;

	/* Where the end is now, whatever the guest believes; but what it has in memory goes where it belongs. */
	if ((in->flags & O_APPEND) && !(in->write_flags & FUSE_WRITE_CACHE))
		flags |= RWF_APPEND;
	if (in->flags & O_DSYNC)
		flags |= (in->flags & O_SYNC) == O_SYNC ? RWF_SYNC : RWF_DSYNC;
	while (done < in->size) {
		int used = slice(r->out, r->n_out, sizeof(r->h) + sizeof(*in) + done, in->size - done, v);
		ssize_t n = pwritev2(h->fd, v, used, (off_t)(in->offset + done), flags);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && !done)
			return -errno;
		if (n <= 0)
			break;
		done += (size_t)n;
	}
	*ret = done;
	return 0;
}

int op_write(struct request *r)
{
	struct fuse_write_in in;
	struct fuse_write_out out = {0};
	struct handle *h;
	size_t done = 0;
	int err;

	memcpy(&in, r->body, sizeof(in));
	if (in.size > r->h.len - sizeof(r->h) - sizeof(in) || in.size > WRITE_MAX)
		return -EINVAL;
	if (in.offset > (uint64_t)INT64_MAX - in.size)
		return -EFBIG;
	if (!(h = handle_get(r->s, in.fh, r->node, false)))
		return -EBADF;
	if (!h->writable)
		err = -EBADF;
	else
		err = attr_kill_privileges(
			r->s, r->node, h->fd, true, in.write_flags & FUSE_WRITE_KILL_SUIDGID);
	if (err == 0) {
		atomic_store(&h->wrote, true);
		err = write_some(r, h, &in, &done);
	}
	handle_put(r->s, h);
	if (err < 0)
		return err;
	out.size = (uint32_t)done;
	return reply_add(r, &out, sizeof(out));
}

int op_flush(struct request *r)
{
	struct fuse_flush_in in;
	struct handle *h;
	int err = 0, copy;

	memcpy(&in, r->body, sizeof(in));
	if (!(h = handle_get(r->s, in.fh, r->node, false)))
		return -EBADF;
	locks_drop_owner(r->s, r->node, in.lock_owner);
	/* A close of ours, so that what a file system says only then (NFS: no space) is said to the guest. */
	if (atomic_exchange(&h->wrote, false) && (copy = fcntl(h->fd, F_DUPFD_CLOEXEC, 0)) >= 0 &&
		close(copy) < 0)
		err = -errno;
	handle_put(r->s, h);
	return err;
}

int op_release(struct request *r)
{
	struct fuse_release_in in;
	struct handle *h;
	int err;

	memcpy(&in, r->body, sizeof(in));
	if (!(h = handle_get(r->s, in.fh, r->node, false)))
		return -EBADF;
	if (in.release_flags & FUSE_RELEASE_FLUSH)
		locks_drop_owner(r->s, r->node, in.lock_owner);
	if (in.release_flags & FUSE_RELEASE_FLOCK_UNLOCK)
		flock(h->fd, LOCK_UN); /* now, not when the last request that uses it ends */
	handle_put(r->s, h);
	err = handle_release(r->s, in.fh, r->node, false);
	if (in.release_flags & FUSE_RELEASE_FLOCK_UNLOCK)
		locks_wake(r->s);
	return err;
}

int op_fsync(struct request *r)
{
	struct fuse_fsync_in in;
	struct handle *h;
	int err;

	memcpy(&in, r->body, sizeof(in));
	if (!(h = handle_get(r->s, in.fh, r->node, false)))
		return -EBADF;
	err = (in.fsync_flags & FUSE_FSYNC_FDATASYNC ? fdatasync(h->fd) : fsync(h->fd)) < 0 ? -errno : 0;
	handle_put(r->s, h);
	return err;
}

int op_fallocate(struct request *r)
{
	struct fuse_fallocate_in in;
	struct handle *h;
	int err;

	memcpy(&in, r->body, sizeof(in));
	if (in.offset > INT64_MAX || in.length > INT64_MAX)
		return -EFBIG;
	if (in.mode & ~(uint32_t)(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))
		return -EOPNOTSUPP;
	if (!(h = handle_get(r->s, in.fh, r->node, false)))
		return -EBADF;
	err = h->writable ? attr_kill_privileges(r->s, r->node, h->fd, true, true) : -EBADF;
	if (err == 0 && fallocate(h->fd, (int)in.mode, (off_t)in.offset, (off_t)in.length) < 0)
		err = -errno;
	handle_put(r->s, h);
	return err;
}

int op_lseek(struct request *r)
{
	struct fuse_lseek_in in;
	struct fuse_lseek_out out;
	struct handle *h;
	off_t at;
	int err;

	memcpy(&in, r->body, sizeof(in));
	if ((in.whence != SEEK_DATA && in.whence != SEEK_HOLE) || in.offset > INT64_MAX)
		return -EINVAL;
	if (!(h = handle_get(r->s, in.fh, r->node, false)))
		return -EBADF;
	/* The position that this moves is used by nothing. */
	at = lseek(h->fd, (off_t)in.offset, (int)in.whence);
	err = at < 0 ? -errno : 0;
	handle_put(r->s, h);
	out.offset = (uint64_t)at;
	return err < 0 ? err : reply_add(r, &out, sizeof(out));
}

static int copy_range(struct request *r, const struct fuse_copy_file_range_in *in, struct handle *from,
	struct node *to_node)
{
	struct handle *to = handle_get(r->s, in->fh_out, to_node, false);
	off_t off_in = (off_t)in->off_in, off_out = (off_t)in->off_out;
	struct fuse_write_out out = {0};
	ssize_t n = 0;
	int err;

	if (!to)
		return -EBADF;
	err = to->writable ? attr_kill_privileges(r->s, to_node, to->fd, true, true) : -EBADF;
	if (err == 0) {
		atomic_store(&to->wrote, true);
		n = copy_file_range(
			from->fd, &off_in, to->fd, &off_out, MIN_OF(in->len, (uint64_t)COPY_MAX), 0);
		err = n < 0 ? -errno : 0;
	}
	handle_put(r->s, to);
	out.size = (uint32_t)n;
	return err < 0 ? err : reply_add(r, &out, sizeof(out));
}

int op_copy_file_range(struct request *r)
{
	struct fuse_copy_file_range_in in;
	struct handle *from;
	struct node *to_node;
	int err;

	memcpy(&in, r->body, sizeof(in));
	if (in.flags || in.off_in > INT64_MAX || in.off_out > INT64_MAX)
		return -EINVAL;
	if (!(from = handle_get(r->s, in.fh_in, r->node, false)))
		return -EBADF;
	to_node = node_get(r->s, in.nodeid_out);
	if (!to_node || to_node == r->s->root)
		err = -EBADF;
	else
		err = copy_range(r, &in, from, to_node);
	node_put(r->s, to_node);
	handle_put(r->s, from);
	return err;
}

/* The file system of one export; what another one had synced as well is not again. */
static int sync_export(struct fs_server *s, size_t i)
{
	int fd, err;

	if (s->exports[i].e.read_only)
		return 0;
	for (size_t k = 0; k < i; k++)
		if (!s->exports[k].e.read_only && s->exports[k].node->dev == s->exports[i].node->dev)
			return 0;
	fd = reopen(s, s->exports[i].e.fd, O_RDONLY);
	if (fd < 0)
		return fd;
	err = syncfs(fd) < 0 ? -errno : 0;
	close(fd);
	return err;
}

/* It concerns the whole file system of the host: one at a time, and what was asked for before one began is done by it. */
int op_syncfs(struct request *r)
{
	struct fs_server *s = r->s;
	unsigned long long mine = atomic_fetch_add(&s->sync_asked, 1) + 1, covers;
	int err = 0;

	pthread_mutex_lock(&s->sync_lock);
	if (s->sync_done < mine) {
		covers = atomic_load(&s->sync_asked);
		for (size_t i = 0; i < s->n_exports && err == 0; i++)
			err = sync_export(s, i);
		if (err == 0)
			s->sync_done = covers;
	}
	pthread_mutex_unlock(&s->sync_lock);
	return err;
}
