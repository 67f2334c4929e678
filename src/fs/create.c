/* SPDX-License-Identifier: MIT */
/*
 * New files. One that needs an attribute to be whose it is gets it before it has a name, where the file system can
 * (O_TMPFILE), so that nobody ever sees it as another's; else it is made with a mode that lets nobody in.
 */
#include "server.h"

#include <fcntl.h>
#include <string.h>
#include <sys/xattr.h>

/*
 * Owner and mode as Linux gives them (inode_init_owner): a folder with setgid passes its group on, and setgid to folders.
 * ret_kept, may be NULL: of a link, whether it is kept as a file (tree/stored.h).
 */
static int wanted(struct request *r, int dirfd, uint32_t mode, struct stored_stat *ret, bool *ret_kept)
{
	struct stored_stat dir;
	struct file_stat fs;
	bool known;
	int err = get_stat(dirfd, &fs);

	if (err < 0)
		return err;
	/* Made by whom? Mounts that map users send it with every request that makes something. */
	if (r->h.uid == UINT32_MAX || r->h.gid == UINT32_MAX)
		return -EOVERFLOW;
	*ret = (struct stored_stat){.mode = mode, .uid = r->h.uid, .gid = r->h.gid};
	known = attr_stored(r->s, r->node, dirfd, &fs.st, &dir);
	if (dir.mode & S_ISGID) {
		ret->gid = dir.gid;
		if (S_ISDIR(mode))
			ret->mode |= S_ISGID;
	}
	/* A real one would be its folder's owner's if that is known, else root's as any file without an attribute. */
	if (ret_kept)
		*ret_kept = r->node->export->e.cache == FS_CACHE_VOLUME ||
			    ((dir.mode & S_ISVTX) && ret->uid != (known ? dir.uid : 0));
	return 0;
}

/* What the attributes of the new file say without STORED_STAT, before it is made. */
static bool needs_attribute(struct request *r, const struct stored_stat *want)
{
	struct stat st = {
		.st_mode = (want->mode & S_IFMT) | stored_real_mode(want->mode), .st_uid = r->s->user};
	struct stored_stat plain;

	stored_default(&st, r->s->user, &plain);
	return plain.mode != want->mode || plain.uid != want->uid || plain.gid != want->gid;
}

/* Where the file system has no attributes it is the default's, if nothing depends on more; else -EOPNOTSUPP. */
static int store_new(struct request *r, int fd, const struct stored_stat *want)
{
	struct file_stat fs;
	int err = get_stat(fd, &fs);

	if (err < 0)
		return err;
	/* A server of files that gives them to another (NFS's root_squash): then they are that one's. */
	if (r->s->user != 0 && fs.st.st_uid != r->s->user)
		err = -EOPNOTSUPP;
	else
		err = attr_set_owner(r->s, fd, &fs.st, want, true);
	return err == -EOPNOTSUPP && (S_ISREG(want->mode) || S_ISDIR(want->mode)) ? 0 : err;
}

static int open_eintr(int dirfd, const char *name, int flags, mode_t mode)
{
	int fd;

	do
		fd = openat(dirfd, name, flags | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK, mode);
	while (fd < 0 && errno == EINTR);
	return fd < 0 ? -errno : fd;
}

static int make_tmpfile(struct request *r, int dirfd, const struct stored_stat *want)
{
	int fd, err;

	for (;;) {
		fd = open_eintr(dirfd, ".", O_TMPFILE | O_RDWR, stored_real_mode(want->mode));
		if (fd != -EMFILE || !node_fds_shrink(r->s))
			break;
	}
	if (fd < 0)
		/* How file systems without it say so (open(2)). */
		return fd == -EISDIR || fd == -ENOENT || fd == -EINVAL ? -EOPNOTSUPP : fd;
	err = store_new(r, fd, want);
	if (err < 0) {
		close(fd);
		return err;
	}
	return fd;
}

/* A regular file, or what is one here. Open for reading and writing. */
static int make_file(struct request *r, int dirfd, const char *name, const struct stored_stat *want)
{
	bool attribute = needs_attribute(r, want);
	int fd, err;

	if (attribute) {
		fd = make_tmpfile(r, dirfd, want);
		if (fd >= 0) {
			if (linkat(r->s->proc_fd, fd_name(fd).text, dirfd, name, AT_SYMLINK_FOLLOW) == 0)
				return fd;
			err = -errno;
			close(fd);
			return err;
		}
		if (fd != -EOPNOTSUPP)
			return fd;
	}
	for (;;) {
		fd = open_eintr(dirfd, name, O_CREAT | O_EXCL | O_RDWR,
			attribute ? 0600 : stored_real_mode(want->mode));
		if (fd != -EMFILE || !node_fds_shrink(r->s))
			break;
	}
	if (fd < 0)
		return fd == -EMFILE ? -ENFILE : fd;
	err = store_new(r, fd, want);
	if (err < 0) {
		unlinkat(dirfd, name, 0);
		close(fd);
		return err;
	}
	return fd;
}

/* fd is consumed. */
static int entry_of_open(
	struct request *r, int fd, const char *name, struct fuse_entry_out *out, struct node **ret)
{
	struct file_stat fs;
	int path = reopen(r->s, fd, O_PATH), err;

	if (path < 0)
		return path;
	err = get_stat(path, &fs);
	if (err < 0) {
		close(path);
		return err;
	}
	return entry_fill(r, r->node, name, path, &fs, out, ret);
}

/* It has target and owner before it has its name, so that nothing less of it is ever seen. 0 or -errno. */
static int make_kept_link(
	struct request *r, int dirfd, const char *name, const struct stored_stat *want, const char *target)
{
	int fd = make_tmpfile(r, dirfd, want), err = 0;

	if (fd < 0)
		return fd;
	if (fsetxattr(fd, STORED_LINK, target, strlen(target), 0) < 0 ||
		linkat(r->s->proc_fd, fd_name(fd).text, dirfd, name, AT_SYMLINK_FOLLOW) < 0)
		err = -errno;
	close(fd);
	return err;
}

static int make_link(struct request *r, int dirfd, const char *name, const char *target)
{
	struct stored_stat want;
	bool kept;
	int err = wanted(r, dirfd, S_IFLNK | 0777, &want, &kept);

	if (err < 0)
		return err;
	if (kept) {
		err = make_kept_link(r, dirfd, name, &want, target);
		if (!stored_link_refused(err))
			return err;
	}
	return symlinkat(target, dirfd, name) < 0 ? -errno : 0;
}

int op_symlink(struct request *r)
{
	struct fuse_entry_out out;
	struct file_stat fs;
	const char *name, *target;
	size_t at = 0, left;
	int err, dirfd, fd = -1;

	err = take_name(r, &at, &name);
	if (err < 0)
		return err;
	target = r->body + at;
	left = r->body_len - at;
	if (!left || !memchr(target, '\0', left) || !*target)
		return -EINVAL;
	if (strlen(target) >= PATH_MAX)
		return -ENAMETOOLONG;
	dirfd = node_fd(r->s, r->node);
	if (dirfd < 0)
		return dirfd;
	err = make_link(r, dirfd, name, target);
	if (err == 0)
		err = fd = open_child(r->s, dirfd, name, &fs);
	node_done_fd(r->s, r->node);
	if (err < 0)
		return err;
	err = entry_fill(r, r->node, name, fd, &fs, &out, NULL);
	return err < 0 ? err : reply_add(r, &out, sizeof(out));
}

int op_mknod(struct request *r)
{
	struct fuse_mknod_in in;
	struct fuse_entry_out out;
	struct stored_stat want;
	const char *name;
	size_t at = sizeof(in);
	int err, dirfd, fd = -1;

	memcpy(&in, r->body, sizeof(in));
	err = take_name(r, &at, &name);
	if (err < 0)
		return err;
	if (!(in.mode & S_IFMT))
		in.mode |= S_IFREG;
	if ((in.mode & ~(uint32_t)(S_IFMT | 07777)) ||
		(!S_ISREG(in.mode) && !S_ISCHR(in.mode) && !S_ISBLK(in.mode) && !S_ISFIFO(in.mode) &&
			!S_ISSOCK(in.mode)))
		return -EINVAL;
	dirfd = node_fd(r->s, r->node);
	if (dirfd < 0)
		return dirfd;
	err = wanted(r, dirfd, in.mode, &want, NULL);
	if (err == 0) {
		if (S_ISCHR(in.mode) || S_ISBLK(in.mode)) {
			/* Linux's new_decode_dev. */
			want.major = (in.rdev & 0xfff00) >> 8;
			want.minor = (in.rdev & 0xff) | ((in.rdev >> 12) & 0xfff00);
		}
		err = fd = make_file(r, dirfd, name, &want);
	}
	node_done_fd(r->s, r->node);
	if (err < 0)
		return err;
	err = entry_of_open(r, fd, name, &out, NULL);
	close(fd);
	return err < 0 ? err : reply_add(r, &out, sizeof(out));
}

static int make_folder(
	struct request *r, int dirfd, const char *name, const struct stored_stat *want, struct file_stat *ret)
{
	bool attribute = needs_attribute(r, want);
	int fd, err;

	if (mkdirat(dirfd, name, attribute ? 0700 : stored_real_mode(want->mode)) < 0)
		return -errno;
	fd = open_child(r->s, dirfd, name, ret);
	if (fd < 0)
		return fd;
	/* Another's, put there meanwhile: that one's attributes are not ours to set. */
	err = S_ISDIR(ret->st.st_mode) ? store_new(r, fd, want) : -ESTALE;
	if (err == 0)
		err = get_stat(fd, ret);
	if (err < 0) {
		close(fd);
		if (err != -ESTALE)
			unlinkat(dirfd, name, AT_REMOVEDIR);
		return err;
	}
	return fd;
}

int op_mkdir(struct request *r)
{
	struct fuse_mkdir_in in;
	struct fuse_entry_out out;
	struct stored_stat want;
	struct file_stat fs;
	const char *name;
	size_t at = sizeof(in);
	int err, dirfd, fd = -1;

	memcpy(&in, r->body, sizeof(in));
	dirfd = take_place(r, &at, &name);
	if (dirfd < 0)
		return dirfd;
	err = wanted(r, dirfd, S_IFDIR | (in.mode & 07777), &want, NULL);
	if (err == 0)
		err = fd = make_folder(r, dirfd, name, &want, &fs);
	node_done_fd(r->s, r->node);
	if (err < 0)
		return err;
	err = entry_fill(r, r->node, name, fd, &fs, &out, NULL);
	return err < 0 ? err : reply_add(r, &out, sizeof(out));
}

/* The reply of CREATE and TMPFILE; fd, which is consumed, is open for both: what the handle is good for is noted in that. */
static int reply_created(struct request *r, int fd, const char *name, uint32_t flags)
{
	struct fuse_entry_out out;
	struct fuse_open_out opened;
	struct node *n;
	int err;

	err = entry_of_open(r, fd, name, &out, &n);
	if (err < 0) {
		close(fd);
		return err;
	}
	err = file_open(r, n, fd, (flags & O_ACCMODE) != O_RDONLY, &opened);
	if (err < 0)
		node_forget(r->s, n->id, 1);
	node_put(r->s, n);
	if (err < 0)
		return err;
	/* There is room: it was asked for before. */
	reply_add(r, &out, sizeof(out));
	return reply_add(r, &opened, sizeof(opened));
}

static int create_open(struct request *r, const char *name, const struct fuse_create_in *in)
{
	struct stored_stat want;
	int err, dirfd, fd = -1;

	if ((in->flags & O_ACCMODE) == O_ACCMODE)
		return -EINVAL;
	dirfd = node_fd(r->s, r->node);
	if (dirfd < 0)
		return dirfd;
	err = wanted(r, dirfd, S_IFREG | (in->mode & 07777), &want, NULL);
	if (err == 0)
		err = fd = name ? make_file(r, dirfd, name, &want) : make_tmpfile(r, dirfd, &want);
	node_done_fd(r->s, r->node);
	/*
	 * There is one that the guest did not know of. Whether its user may open that, its kernel has not looked at: it is
	 * told to look the name up again and begin anew.
	 */
	if (err == -EEXIST && !(in->flags & O_EXCL))
		return -ESTALE;
	return err < 0 ? err : reply_created(r, fd, name, in->flags);
}

int op_create(struct request *r)
{
	struct fuse_create_in in;
	const char *name;
	size_t at = sizeof(in);
	int err;

	memcpy(&in, r->body, sizeof(in));
	err = take_name(r, &at, &name);
	return err < 0 ? err : create_open(r, name, &in);
}

int op_tmpfile(struct request *r)
{
	struct fuse_create_in in;

	memcpy(&in, r->body, sizeof(in));
	return create_open(r, NULL, &in);
}
