/* SPDX-License-Identifier: MIT */
/* Attributes: what the host has, what the box is shown (tree/stored.h), and both changed together. */
#include "server.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <time.h>

#include "base/io.h"

#define CAPABILITY STORED_XATTR "security.capability"

struct fd_name fd_name(int fd)
{
	struct fd_name name;

	snprintf(name.text, sizeof(name.text), "%d", fd);
	return name;
}

int get_stat(int fd, struct file_stat *ret)
{
	struct statx x;

	if (statx(fd, "", AT_EMPTY_PATH | AT_NO_AUTOMOUNT, STATX_BASIC_STATS | STATX_BTIME, &x) < 0)
		return -errno;
	*ret = (struct file_stat){
		.st = {.st_dev = makedev(x.stx_dev_major, x.stx_dev_minor),
			.st_ino = x.stx_ino,
			.st_mode = x.stx_mode,
			.st_nlink = x.stx_nlink,
			.st_uid = x.stx_uid,
			.st_gid = x.stx_gid,
			.st_rdev = makedev(x.stx_rdev_major, x.stx_rdev_minor),
			.st_size = (off_t)x.stx_size,
			.st_blksize = (blksize_t)x.stx_blksize,
			.st_blocks = (blkcnt_t)x.stx_blocks,
			.st_atim = {x.stx_atime.tv_sec, x.stx_atime.tv_nsec},
			.st_mtim = {x.stx_mtime.tv_sec, x.stx_mtime.tv_nsec},
			.st_ctim = {x.stx_ctime.tv_sec, x.stx_ctime.tv_nsec}},
		.btime_ns = x.stx_mask & STATX_BTIME ? x.stx_btime.tv_sec * 1000000000ll + x.stx_btime.tv_nsec
						     : 0,
	};
	return 0;
}

static bool can_store(const struct stat *st)
{
	return S_ISREG(st->st_mode) || S_ISDIR(st->st_mode);
}

/* Of a link that is kept as a file: the length of its target. 0: there is none that is good. */
static size_t target_len(int fd)
{
	ssize_t n = getxattr(fd_name(fd).text, STORED_LINK, NULL, 0);

	return n > 0 && n < PATH_MAX ? (size_t)n : 0;
}

/* What the attribute says: 1, 0 without one that is good, -EOPNOTSUPP where there are none. */
static int read_stored(int fd, const struct stat *st, struct stored_stat *ret)
{
	char text[STORED_TEXT_MAX];
	struct stored_stat v;
	ssize_t n;

	if (!can_store(st))
		return 0;
	n = getxattr(fd_name(fd).text, STORED_STAT, text, sizeof(text));
	if (n < 0)
		return errno == EOPNOTSUPP ? -EOPNOTSUPP : 0;
	if (stored_parse(text, (size_t)n, &v) < 0)
		return 0;
	/* A folder is one on both sides, a link has a target. */
	if (S_ISDIR(v.mode) != S_ISDIR(st->st_mode) || (S_ISLNK(v.mode) && !target_len(fd)))
		return 0;
	*ret = v;
	return 1;
}

bool attr_stored(struct fs_server *s, struct node *n, int fd, const struct stat *st, struct stored_stat *ret)
{
	struct node *parent;
	struct stored_stat of;
	struct file_stat fs;
	int dirfd;

	if (read_stored(fd, st, ret) == 1)
		return true;
	stored_default(st, s->user, ret);
	if (!S_ISLNK(st->st_mode) || !(parent = node_parent(s, n)))
		return false;
	/* Of who owns its folder, if that is known by an attribute. */
	dirfd = node_fd(s, parent);
	if (dirfd >= 0) {
		if (get_stat(dirfd, &fs) == 0 && read_stored(dirfd, &fs.st, &of) == 1) {
			ret->uid = of.uid;
			ret->gid = of.gid;
		}
		node_done_fd(s, parent);
	}
	node_put(s, parent);
	return false;
}

unsigned attr_believed(struct request *r, struct export *x)
{
	unsigned long long until;

	if (!x || x->e.cache != FS_CACHE_VOLUME)
		return 0;
	if (r->granting != x) {
		if (r->granting)
			return 0; /* one at a time: nothing answers for two exports but made-up entries of the root */
		r->granting = x;
		atomic_fetch_add(&x->granting, 1);
	}
	if (!atomic_load(&x->alone))
		return 0;
	until = time_mono_ns() + BELIEVED_S * 1000000000ull;
	if (atomic_load(&x->believed_until_ns) < until)
		atomic_store(&x->believed_until_ns, until);
	return BELIEVED_S;
}

uint64_t attr_ino(struct fs_server *s, dev_t dev, ino_t ino)
{
	unsigned i;

	/* The guest sees one device: numbers of several must not meet. */
	pthread_mutex_lock(&s->lock);
	for (i = 0; i < s->n_devices && s->devices[i] != dev; i++)
		;
	if (i == s->n_devices && i < DEVICES_MAX)
		s->devices[s->n_devices++] = dev;
	pthread_mutex_unlock(&s->lock);
	return ino ^ (uint64_t)i << 48;
}

bool attr_is_racy(const struct timespec *t)
{
	struct timespec now;
	int64_t age_s;

	clock_gettime(CLOCK_REALTIME_COARSE, &now);
	/* Times are the guest's to set, to any value. */
	if (__builtin_sub_overflow((int64_t)now.tv_sec, (int64_t)t->tv_sec, &age_s) || age_s > 1 ||
		age_s < -1)
		return false;
	return age_s * 1000000000ll + now.tv_nsec - t->tv_nsec <= RACY_NS;
}

/* A time that is as good, and not the one told before: what the guest keeps of the file is then read again. */
static uint32_t mtime_ns(struct request *r, struct node *n, const struct stat *st)
{
	uint32_t ns = (uint32_t)st->st_mtim.tv_nsec;

	if (!S_ISREG(st->st_mode) || atomic_load(&n->export->alone) || !attr_is_racy(&st->st_mtim))
		return ns;
	pthread_mutex_lock(node_lock(r->s, n));
	if (n->cached)
		ns += 1 + n->racy_reads++ % 999999;
	pthread_mutex_unlock(node_lock(r->s, n));
	return ns < 1000000000u ? ns : ns - 1000000000u; /* another, of the same second */
}

int attr_fill(struct request *r, struct node *n, int fd, const struct stat *st, struct fuse_attr *ret)
{
	struct stored_stat v;

	if (n == r->s->root) {
		*ret = (struct fuse_attr){.ino = FUSE_ROOT_ID, .mode = S_IFDIR | 0755, .nlink = 2};
		return 0;
	}
	attr_stored(r->s, n, fd, st, &v);
	*ret = (struct fuse_attr){
		.ino = attr_ino(r->s, st->st_dev, st->st_ino),
		.size = S_ISLNK(v.mode) && S_ISREG(st->st_mode) ? target_len(fd) : (uint64_t)st->st_size,
		.blocks = (uint64_t)st->st_blocks,
		.atime = (uint64_t)st->st_atim.tv_sec,
		.mtime = (uint64_t)st->st_mtim.tv_sec,
		.ctime = (uint64_t)st->st_ctim.tv_sec,
		.atimensec = (uint32_t)st->st_atim.tv_nsec,
		.mtimensec = mtime_ns(r, n, st),
		.ctimensec = (uint32_t)st->st_ctim.tv_nsec,
		.mode = v.mode,
		.nlink = (uint32_t)st->st_nlink,
		.uid = v.uid,
		.gid = v.gid,
		/* Linux's new_encode_dev (include/linux/kdev_t.h). */
		.rdev = (v.minor & 0xff) | v.major << 8 | (v.minor & ~0xffu) << 12,
		.blksize = (uint32_t)st->st_blksize,
	};
	return 0;
}

static int reply_attr(struct request *r, int fd, const struct stat *st)
{
	struct fuse_attr_out out = {.attr_valid = attr_believed(r, r->node->export)};
	int err = attr_fill(r, r->node, fd, st, &out.attr);

	return err < 0 ? err : reply_add(r, &out, sizeof(out));
}

int op_getattr(struct request *r)
{
	struct file_stat fs;
	int fd, err;

	if (r->node == r->s->root)
		return reply_attr(r, -1, NULL);
	fd = node_fd(r->s, r->node);
	if (fd < 0)
		return fd;
	/* Believed from before it is looked at: who gives up being alone waits for this request. */
	attr_believed(r, r->node->export);
	err = get_stat(fd, &fs);
	if (err == 0)
		err = reply_attr(r, fd, &fs.st);
	node_done_fd(r->s, r->node);
	return err;
}

static bool same(const struct stored_stat *a, const struct stored_stat *b)
{
	return a->mode == b->mode && a->uid == b->uid && a->gid == b->gid && a->major == b->major &&
	       a->minor == b->minor;
}

int attr_set_owner(
	struct fs_server *s, int fd, const struct stat *st, const struct stored_stat *want, bool is_new)
{
	struct fd_name name = fd_name(fd);
	mode_t real = stored_real_mode(want->mode);
	struct stat now = *st;
	struct stored_stat plain;
	char text[STORED_TEXT_MAX];

	/* The host's permissions hold: an attribute may be set by who may write, but owners are the owner's to give. */
	if (s->user != 0 && st->st_uid != s->user)
		return -EPERM;
	if ((st->st_mode & 07777) != real && fchmodat(s->proc_fd, name.text, real, 0) < 0)
		return -errno;
	now.st_mode = (st->st_mode & S_IFMT) | real;
	stored_default(&now, s->user, &plain);
	if (same(&plain, want)) {
		/* It needs none: then what the host changes is seen in the box. */
		bool have = !is_new && getxattr(name.text, STORED_STAT, NULL, 0) >= 0;
		return have && removexattr(name.text, STORED_STAT) < 0 && errno != ENODATA ? -errno : 0;
	}
	return setxattr(name.text, STORED_STAT, text, stored_format(text, want), 0) < 0 ? -errno : 0;
}

/* Without attributes: the real mode; owners are what they are. */
static int set_real(struct fs_server *s, int fd, const struct stored_stat *is, const struct stored_stat *want)
{
	if (want->uid != is->uid || want->gid != is->gid)
		return -EPERM;
	if (((want->mode ^ is->mode) & 07777) == 0)
		return 0;
	/* Never a program of the host's that gives its user's rights away. */
	if (want->mode & 07000)
		return -EPERM;
	return fchmodat(s->proc_fd, fd_name(fd).text, want->mode & 0777, 0) < 0 ? -errno : 0;
}

static void drop_set_id(struct stored_stat *v)
{
	v->mode &= ~(uint32_t)S_ISUID;
	if (v->mode & S_IXGRP)
		v->mode &= ~(uint32_t)S_ISGID;
}

/* By a descriptor that is open rather than by a name: this is done before every write. */
static ssize_t get_attribute(int fd, bool is_open, const char *name, char *value, size_t size)
{
	return is_open ? fgetxattr(fd, name, value, size) : getxattr(fd_name(fd).text, name, value, size);
}

/* 0, and whether there is anything else to take away, as most files have no attribute at all. */
static int drop_capabilities(int fd, bool is_open, bool *ret_more)
{
	ssize_t n = is_open ? flistxattr(fd, NULL, 0) : 1;

	*ret_more = n > 0;
	/* Asking is cheap, removing what is not there is a transaction. */
	if (n <= 0 || get_attribute(fd, is_open, CAPABILITY, NULL, 0) < 0)
		return 0;
	return removexattr(fd_name(fd).text, CAPABILITY) < 0 && errno != ENODATA ? -errno : 0;
}

/* Under the node's lock. */
static int drop_stored_set_id(struct fs_server *s, int fd)
{
	struct stored_stat v, want;
	struct file_stat fs;
	int r = get_stat(fd, &fs);

	if (r < 0 || read_stored(fd, &fs.st, &v) != 1)
		return r;
	want = v;
	drop_set_id(&want);
	return want.mode == v.mode ? 0 : attr_set_owner(s, fd, &fs.st, &want, false);
}

/* Of what is known without asking: it is as long as we are alone and nothing was set. 0: nothing is. */
static uint64_t plain_key(const struct node *n)
{
	const struct export *x = n->export;

	return atomic_load(&x->alone)
		       ? (uint64_t)atomic_load(&x->alone_since) << 32 | atomic_load(&n->privileges)
		       : 0;
}

int attr_kill_privileges(struct fs_server *s, struct node *n, int fd, bool is_open, bool set_id)
{
	uint64_t key = plain_key(n);
	struct stored_stat v;
	char text[STORED_TEXT_MAX];
	ssize_t len;
	bool more;
	int r;

	if (key && atomic_load(&n->plain) == key)
		return 0;
	r = drop_capabilities(fd, is_open, &more);
	if (r < 0)
		return r;
	/* Of a file without the attribute the host's kernel clears what there is as we write. */
	len = more ? get_attribute(fd, is_open, STORED_STAT, text, sizeof(text)) : -1;
	if (len < 0 || stored_parse(text, (size_t)len, &v) < 0 || !(v.mode & (S_ISUID | S_ISGID))) {
		atomic_store(&n->plain, key);
		return 0;
	}
	if (!set_id)
		return 0;
	pthread_mutex_lock(node_lock(s, n));
	r = drop_stored_set_id(s, fd);
	pthread_mutex_unlock(node_lock(s, n));
	return r;
}

static int set_owner_mode(struct request *r, int fd, const struct fuse_setattr_in *in)
{
	struct stored_stat v, want;
	struct file_stat fs;
	int err = get_stat(fd, &fs);

	if (err < 0)
		return err;
	attr_stored(r->s, r->node, fd, &fs.st, &v);
	if (S_ISLNK(v.mode) && (in->valid & FATTR_MODE))
		return -EOPNOTSUPP;
	/*
	 * A real link's owner is its folder's: giving it away succeeds, as it must for `chown -R` and archives, and changes
	 * nothing. Programs of the host follow it: to be kept, it would have to become a file for them.
	 */
	if (S_ISLNK(fs.st.st_mode))
		return 0;
	want = v;
	if (in->valid & FATTR_MODE)
		want.mode = (v.mode & S_IFMT) | (in->mode & 07777);
	if (in->valid & FATTR_UID)
		want.uid = in->uid;
	if (in->valid & FATTR_GID)
		want.gid = in->gid;
	if (want.uid == UINT32_MAX || want.gid == UINT32_MAX)
		return -EINVAL;
	if ((in->valid & FATTR_KILL_SUIDGID) && !S_ISDIR(v.mode) && !(in->valid & FATTR_MODE))
		drop_set_id(&want);
	if (same(&v, &want))
		return 0;
	if (!can_store(&fs.st))
		return set_real(r->s, fd, &v, &want);
	err = attr_set_owner(r->s, fd, &fs.st, &want, false);
	if (err == -EOPNOTSUPP)
		err = set_real(r->s, fd, &v, &want);
	return err;
}

static int set_size(struct request *r, int nodefd, const struct fuse_setattr_in *in)
{
	struct handle *h = in->valid & FATTR_FH ? handle_get(r->s, in->fh, r->node, false) : NULL;
	int fd = -1, err;

	if (in->size > INT64_MAX)
		err = -EFBIG;
	else if (r->node->type != S_IFREG)
		err = r->node->type == S_IFDIR ? -EISDIR : -EINVAL;
	else if ((in->valid & FATTR_FH) && (!h || !h->writable))
		err = h ? -EINVAL : -EBADF;
	else if (!h && (fd = reopen(r->s, nodefd, O_WRONLY)) < 0)
		err = fd;
	else
		err = ftruncate(h ? h->fd : fd, (off_t)in->size) < 0 ? -errno : 0;
	close_fd(&fd);
	if (h)
		handle_put(r->s, h);
	if (err < 0)
		return err;
	return attr_kill_privileges(r->s, r->node, nodefd, false, in->valid & FATTR_KILL_SUIDGID);
}

static int set_times(struct request *r, int fd, const struct fuse_setattr_in *in)
{
	struct timespec t[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_nsec = UTIME_OMIT}};

	if (((in->valid & FATTR_ATIME) && in->atimensec > 999999999u) ||
		((in->valid & FATTR_MTIME) && in->mtimensec > 999999999u))
		return -EINVAL;
	if (in->valid & FATTR_ATIME_NOW)
		t[0].tv_nsec = UTIME_NOW;
	else if (in->valid & FATTR_ATIME)
		t[0] = (struct timespec){(time_t)in->atime, in->atimensec};
	if (in->valid & FATTR_MTIME_NOW)
		t[1].tv_nsec = UTIME_NOW;
	else if (in->valid & FATTR_MTIME)
		t[1] = (struct timespec){(time_t)in->mtime, in->mtimensec};
	return utimensat(r->s->proc_fd, fd_name(fd).text, t, 0) < 0 ? -errno : 0;
}

int op_setattr(struct request *r)
{
	struct fuse_setattr_in in;
	struct file_stat fs;
	int fd, err = 0;

	memcpy(&in, r->body, sizeof(in));
	fd = node_fd(r->s, r->node);
	if (fd < 0)
		return fd;
	attr_believed(r, r->node->export);
	if (in.valid & (FATTR_MODE | FATTR_UID | FATTR_GID)) {
		atomic_fetch_add(&r->node->privileges, 1);
		if ((in.valid & (FATTR_UID | FATTR_GID)) && r->node->type == S_IFREG)
			err = attr_kill_privileges(r->s, r->node, fd, false, false);
		if (err == 0) {
			/* One after another, so that of two changes none is lost. */
			pthread_mutex_lock(node_lock(r->s, r->node));
			err = set_owner_mode(r, fd, &in);
			pthread_mutex_unlock(node_lock(r->s, r->node));
		}
		atomic_fetch_add(&r->node->privileges, 1);
	}
	if (err == 0 && (in.valid & FATTR_SIZE))
		err = set_size(r, fd, &in);
	if (err == 0 && (in.valid & (FATTR_ATIME | FATTR_MTIME | FATTR_ATIME_NOW | FATTR_MTIME_NOW)))
		err = set_times(r, fd, &in);
	if (err == 0)
		err = get_stat(fd, &fs);
	if (err == 0)
		err = reply_attr(r, fd, &fs.st);
	node_done_fd(r->s, r->node);
	return err;
}

int op_access(struct request *r)
{
	struct fuse_access_in in;

	/* Modes are the guest's kernel's to judge. */
	memcpy(&in, r->body, sizeof(in));
	return (in.mask & W_OK) && (!r->node->export || r->node->export->e.read_only) ? -EROFS : 0;
}

int op_statfs(struct request *r)
{
	struct fuse_statfs_out out = {.st = {.bsize = 4096, .frsize = 4096, .namelen = FS_NAME_MAX}};
	struct statvfs v;
	int fd, err = 0;

	if (r->node != r->s->root) {
		fd = node_fd(r->s, r->node);
		if (fd < 0)
			return fd;
		if (fstatvfs(fd, &v) < 0)
			err = -errno;
		node_done_fd(r->s, r->node);
		if (err < 0)
			return err;
		out.st = (struct fuse_kstatfs){.blocks = v.f_blocks,
			.bfree = v.f_bfree,
			.bavail = v.f_bavail,
			.files = v.f_files,
			.ffree = v.f_ffree,
			.bsize = (uint32_t)v.f_bsize,
			.frsize = (uint32_t)v.f_frsize,
			.namelen = (uint32_t)MIN_OF(v.f_namemax, (unsigned long)FS_NAME_MAX)};
	}
	return reply_add(r, &out, sizeof(out));
}
