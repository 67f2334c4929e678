/* SPDX-License-Identifier: MIT */
/* Reading folders. Offsets are the host's own (d_off), which stay good however the folder changes. */
#include "server.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>

#define DIR_BUF	  32768
#define REPLY_MAX (128u << 10)

struct listing {
	struct request *r;
	struct handle *h;
	bool plus;
	char *buf;
	size_t len, size;
};

int op_opendir(struct request *r)
{
	struct fuse_open_out out = {0};
	struct node *n = r->node;
	int fd = -1, nodefd, err;

	if (n != r->s->root) {
		nodefd = node_fd(r->s, n);
		if (nodefd < 0)
			return nodefd;
		fd = reopen(r->s, nodefd, O_RDONLY | O_DIRECTORY | (n->export->e.read_only ? O_NOATIME : 0));
		if (fd == -EPERM && n->export->e.read_only)
			fd = reopen(r->s, nodefd, O_RDONLY | O_DIRECTORY);
		node_done_fd(r->s, n);
		if (fd < 0)
			return fd;
	}
	err = handle_new(r->s, n, fd, true, false, false, &out.fh);
	return err < 0 ? err : reply_add(r, &out, sizeof(out));
}

int op_releasedir(struct request *r)
{
	struct fuse_release_in in;

	memcpy(&in, r->body, sizeof(in));
	return handle_release(r->s, in.fh, r->node, true);
}

int op_fsyncdir(struct request *r)
{
	struct fuse_fsync_in in;
	struct handle *h;
	int err;

	memcpy(&in, r->body, sizeof(in));
	if (!(h = handle_get(r->s, in.fh, r->node, true)))
		return -EBADF;
	err = h->fd >= 0 && fsync(h->fd) < 0 ? -errno : 0;
	handle_put(r->s, h);
	return err;
}

static bool has_room(const struct listing *l, size_t name_len)
{
	size_t need = FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + name_len) +
		      (l->plus ? sizeof(struct fuse_entry_out) : 0);

	return l->size - l->len >= need;
}

static void emit(
	struct listing *l, const struct fuse_entry_out *entry, const struct fuse_dirent *d, const char *name)
{
	size_t len = FUSE_NAME_OFFSET + d->namelen, padded = FUSE_DIRENT_ALIGN(len);

	if (l->plus) {
		memcpy(l->buf + l->len, entry, sizeof(*entry));
		l->len += sizeof(*entry);
	}
	memcpy(l->buf + l->len, d, FUSE_NAME_OFFSET);
	memcpy(l->buf + l->len + FUSE_NAME_OFFSET, name, d->namelen);
	memset(l->buf + l->len + len, 0, padded - len);
	l->len += padded;
}

/* false: no room. What has vanished is passed over. */
static bool list_entry(struct listing *l, const struct dirent64 *host)
{
	struct fs_server *s = l->r->s;
	struct fuse_entry_out entry = {0};
	size_t len = strlen(host->d_name);
	bool dots = strcmp(host->d_name, ".") == 0 || strcmp(host->d_name, "..") == 0;
	/* A regular file may be shown as a device: that is for who looks at it. */
	struct fuse_dirent d = {.ino = attr_ino(s, l->h->node->dev, host->d_ino),
		.off = (uint64_t)host->d_off,
		.namelen = (uint32_t)len,
		.type = host->d_type == DT_REG ? DT_UNKNOWN : host->d_type};

	if (len == 0 || len > FS_NAME_MAX || memchr(host->d_name, '/', len))
		return true;
	if (!has_room(l, len))
		return false;
	if (l->plus && !dots) {
		struct file_stat fs;
		int fd = open_child(s, l->h->fd, host->d_name, &fs);
		if (fd == -ENOENT)
			return true;
		/* Without an entry the guest looks it up itself, and hears why not. */
		if (fd < 0 || entry_fill(l->r, l->h->node, host->d_name, fd, &fs, &entry, NULL) < 0)
			entry = (struct fuse_entry_out){0};
		else {
			d.ino = entry.attr.ino;
			d.type = (entry.attr.mode & S_IFMT) >> 12;
		}
	}
	emit(l, &entry, &d, host->d_name);
	return true;
}

static int list_folder(struct listing *l, int64_t off)
{
	struct handle *h = l->h;

	if (!h->dir_buf && !(h->dir_buf = malloc(DIR_BUF)))
		return -ENOMEM;
	if (off != h->dir_off || off == 0) {
		if (lseek(h->fd, off, SEEK_SET) < 0)
			return -errno;
		h->dir_len = h->dir_at = 0;
		h->dir_off = off;
	}
	for (;;) {
		if (h->dir_at == h->dir_len) {
			ssize_t n = getdents64(h->fd, h->dir_buf, DIR_BUF);
			if (n < 0 && errno == EINTR)
				continue;
			if (n <= 0) {
				h->dir_off = -1; /* what comes later is asked for anew */
				return n < 0 && !l->len ? -errno : 0;
			}
			h->dir_len = (size_t)n;
			h->dir_at = 0;
		}
		/* The kernel wrote it, aligned, into memory that is aligned. */
		const struct dirent64 *d = (const void *)(h->dir_buf + h->dir_at);
		if (!list_entry(l, d))
			return 0;
		h->dir_at += d->d_reclen;
		h->dir_off = d->d_off;
	}
}

/* The made-up root: offsets count entries. */
static int list_root(struct listing *l, uint64_t off)
{
	struct fs_server *s = l->r->s;

	for (; off < s->n_exports + 2; off++) {
		struct fuse_entry_out entry = {0};
		struct fuse_dirent d = {.ino = FUSE_ROOT_ID, .off = off + 1, .type = DT_DIR};
		char name[16];
		if (off < 2) {
			snprintf(name, sizeof(name), "%s", off ? ".." : ".");
		} else {
			const struct export *x = &s->exports[off - 2];
			snprintf(name, sizeof(name), "%u", (unsigned)(off - 2));
			d.ino = attr_ino(s, x->node->dev, x->node->ino);
			d.type = x->e.file ? DT_UNKNOWN : DT_DIR;
		}
		d.namelen = (uint32_t)strlen(name);
		if (!has_room(l, d.namelen))
			return 0;
		emit(l, &entry, &d, name);
	}
	return 0;
}

static int list(struct request *r, bool plus)
{
	struct listing l = {.r = r, .plus = plus};
	struct fuse_read_in in;
	int err;

	memcpy(&in, r->body, sizeof(in));
	if (in.offset > INT64_MAX)
		return -EINVAL;
	if (!(l.h = handle_get(r->s, in.fh, r->node, true)))
		return -EBADF;
	l.size = MIN_OF(MIN_OF((size_t)in.size, reply_room(r)), (size_t)REPLY_MAX);
	if (!(l.buf = malloc(l.size ? l.size : 1))) {
		err = -ENOMEM;
	} else {
		pthread_mutex_lock(&l.h->dir_lock);
		err = r->node == r->s->root ? list_root(&l, in.offset) : list_folder(&l, (int64_t)in.offset);
		pthread_mutex_unlock(&l.h->dir_lock);
	}
	if (err == 0)
		err = reply_add(r, l.buf, l.len);
	free(l.buf);
	handle_put(r->s, l.h);
	return err;
}

int op_readdir(struct request *r)
{
	return list(r, false);
}

int op_readdirplus(struct request *r)
{
	return list(r, true);
}
