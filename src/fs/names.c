/* SPDX-License-Identifier: MIT */
/* Entries of folders: looking up, removing, renaming, linking. */
#include "server.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/xattr.h>

int entry_fill(struct request *r, struct node *parent, const char *name, int fd, const struct file_stat *fs,
	struct fuse_entry_out *out, struct node **ret)
{
	struct export *x = parent->export;
	struct node *n;
	int err, nfd;

	*out = (struct fuse_entry_out){0};
	err = node_found(r->s, x, parent, name, fd, fs, 1, &n);
	if (err < 0)
		return err;
	nfd = node_fd(r->s, n);
	if (nfd >= 0) {
		err = attr_fill(r, n, nfd, &fs->st, &out->attr);
		node_done_fd(r->s, n);
	} else {
		err = nfd;
	}
	if (err < 0) {
		node_forget(r->s, n->id, 1);
		node_put(r->s, n);
		return err;
	}
	out->nodeid = n->id;
	out->entry_valid = out->attr_valid = attr_believed(r, x);
	if (ret)
		*ret = n;
	else
		node_put(r->s, n);
	return 0;
}

/* The root's entries are the exports, by number. */
static int lookup_export(struct request *r, const char *name)
{
	struct fuse_entry_out out = {0};
	struct file_stat fs;
	struct export *x = NULL;
	char text[24];
	int err;

	for (size_t i = 0; i < r->s->n_exports && !x; i++) {
		snprintf(text, sizeof(text), "%zu", i);
		if (strcmp(text, name) == 0)
			x = &r->s->exports[i];
	}
	if (!x)
		return -ENOENT;
	attr_believed(r, x);
	if ((err = get_stat(x->e.fd, &fs)) < 0 ||
		(err = attr_fill(r, x->node, x->e.fd, &fs.st, &out.attr)) < 0)
		return err;
	out.nodeid = x->node->id;
	out.attr_valid = attr_believed(r, x);
	out.entry_valid = BELIEVED_S; /* exports do not change */
	return reply_add(r, &out, sizeof(out));
}

int op_lookup(struct request *r)
{
	struct fuse_entry_out out;
	struct file_stat fs;
	const char *name;
	size_t at = 0;
	int err, dirfd, fd = -1;

	err = take_name(r, &at, &name);
	if (err < 0)
		return err;
	if (r->node == r->s->root)
		return lookup_export(r, name);
	dirfd = node_fd(r->s, r->node);
	if (dirfd < 0)
		return dirfd;
	fd = open_child(r->s, dirfd, name, &fs);
	node_done_fd(r->s, r->node);
	if (fd == -ENOENT &&
		(out = (struct fuse_entry_out){.entry_valid = attr_believed(r, r->node->export)}).entry_valid)
		return reply_add(r, &out, sizeof(out)); /* that there is none is believed too */
	if (fd < 0)
		return fd;
	err = entry_fill(r, r->node, name, fd, &fs, &out, NULL);
	return err < 0 ? err : reply_add(r, &out, sizeof(out));
}

/* Of a real link, or of one that is kept as a file (tree/stored.h): size bytes at most, or -errno. */
static ssize_t read_target(const struct node *n, int fd, char *target, size_t size)
{
	ssize_t len = n->type == S_IFLNK ? readlinkat(fd, "", target, size)
					 : getxattr(fd_name(fd).text, STORED_LINK, target, size);

	if (len < 0)
		return errno == ENODATA || errno == EOPNOTSUPP ? -EINVAL : -errno;
	/* What a host's program wrote there. */
	return len == 0 || memchr(target, '\0', (size_t)len) ? -EINVAL : len;
}

int op_readlink(struct request *r)
{
	char target[PATH_MAX];
	ssize_t n;
	int fd;

	if (r->node->type != S_IFLNK && r->node->type != S_IFREG)
		return -EINVAL;
	fd = node_fd(r->s, r->node);
	if (fd < 0)
		return fd;
	n = read_target(r->node, fd, target, sizeof(target));
	node_done_fd(r->s, r->node);
	if (n < 0)
		return (int)n;
	/* Cut off it would be another target. */
	return (size_t)n == sizeof(target) ? -ENAMETOOLONG : reply_add(r, target, (size_t)n);
}

/* What a name is about to be taken from stays reachable for a guest that has it open. */
static void keep_unnamed(struct request *r, struct node *dir, int dirfd, const char *name)
{
	struct file_stat fs;
	int fd = open_child(r->s, dirfd, name, &fs);

	if (fd >= 0)
		node_unnamed(r->s, dir->export, fd);
}

/* The guest's node of that entry, if it has one, is found there from now on. */
static void note_name(struct request *r, struct node *dir, int dirfd, const char *name)
{
	struct file_stat fs;
	struct node *n;
	int fd = open_child(r->s, dirfd, name, &fs);

	if (fd >= 0 && node_found(r->s, dir->export, dir, name, fd, &fs, 0, &n) == 0)
		node_put(r->s, n);
}

static int remove_entry(struct request *r, int flags)
{
	const char *name;
	size_t at = 0;
	int err, dirfd;

	dirfd = take_place(r, &at, &name);
	if (dirfd < 0)
		return dirfd;
	keep_unnamed(r, r->node, dirfd, name);
	err = unlinkat(dirfd, name, flags) < 0 ? -errno : 0;
	if (err < 0)
		note_name(r, r->node, dirfd, name); /* it has its name still */
	node_done_fd(r->s, r->node);
	return err;
}

int op_unlink(struct request *r)
{
	return remove_entry(r, 0);
}

int op_rmdir(struct request *r)
{
	return remove_entry(r, AT_REMOVEDIR);
}

static int rename_between(
	struct request *r, struct node *to, const char *old, const char *new, unsigned flags)
{
	int from_fd, to_fd, err;

	if (to->type != S_IFDIR)
		return -ENOTDIR;
	if (to->export != r->node->export)
		return -EXDEV;
	from_fd = node_fd(r->s, r->node);
	if (from_fd < 0)
		return from_fd;
	to_fd = node_fd(r->s, to);
	if (to_fd < 0) {
		node_done_fd(r->s, r->node);
		return to_fd;
	}
	if (!(flags & RENAME_EXCHANGE))
		keep_unnamed(r, to, to_fd, new);
	err = renameat2(from_fd, old, to_fd, new, flags) < 0 ? -errno : 0;
	note_name(r, to, to_fd, new); /* also of what stays there */
	if (err == 0 && (flags & RENAME_EXCHANGE))
		note_name(r, r->node, from_fd, old);
	node_done_fd(r->s, to);
	node_done_fd(r->s, r->node);
	return err;
}

static int do_rename(struct request *r, size_t at, uint64_t newdir, unsigned flags)
{
	const char *old, *new;
	struct node *to;
	int err;

	/* A whiteout is a device: the host's user may not make one. */
	if (flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE))
		return -EINVAL;
	if ((err = take_name(r, &at, &old)) < 0 || (err = take_name(r, &at, &new)) < 0)
		return err;
	if (!(to = node_get(r->s, newdir)))
		return -ESTALE;
	err = rename_between(r, to, old, new, flags);
	node_put(r->s, to);
	return err;
}

int op_rename(struct request *r)
{
	struct fuse_rename_in in;

	memcpy(&in, r->body, sizeof(in));
	return do_rename(r, sizeof(in), in.newdir, 0);
}

int op_rename2(struct request *r)
{
	struct fuse_rename2_in in;

	memcpy(&in, r->body, sizeof(in));
	return do_rename(r, sizeof(in), in.newdir, in.flags);
}

static int link_node(struct request *r, struct node *n, const char *name)
{
	struct fuse_entry_out out;
	struct file_stat fs;
	int fd, dirfd, err;

	if (n->export != r->node->export)
		return -EXDEV;
	if (n->type == S_IFDIR)
		return -EPERM;
	dirfd = node_fd(r->s, r->node);
	if (dirfd < 0)
		return dirfd;
	fd = node_fd(r->s, n);
	if (fd < 0) {
		node_done_fd(r->s, r->node);
		return fd;
	}
	err = linkat(r->s->proc_fd, fd_name(fd).text, dirfd, name, AT_SYMLINK_FOLLOW) < 0 ? -errno : 0;
	node_done_fd(r->s, n);
	if (err == 0)
		err = fd = open_child(r->s, dirfd, name, &fs);
	node_done_fd(r->s, r->node);
	if (err < 0)
		return err;
	if (fs.st.st_dev != n->dev || fs.st.st_ino != n->ino) {
		close(fd);
		return -ESTALE; /* someone has put another there already */
	}
	err = entry_fill(r, r->node, name, fd, &fs, &out, NULL);
	return err < 0 ? err : reply_add(r, &out, sizeof(out));
}

int op_link(struct request *r)
{
	struct fuse_link_in in;
	struct node *n;
	const char *name;
	size_t at = sizeof(in);
	int err;

	memcpy(&in, r->body, sizeof(in));
	err = take_name(r, &at, &name);
	if (err < 0)
		return err;
	if (!(n = node_get(r->s, in.oldnodeid)))
		return -ESTALE;
	err = n == r->s->root ? -EPERM : link_node(r, n, name);
	node_put(r->s, n);
	return err;
}
