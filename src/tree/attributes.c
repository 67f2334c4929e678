/* SPDX-License-Identifier: MIT */
#include <fcntl.h>
#include <linux/limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "inside.h"
#include "tree/stored.h"

#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452 /* Linux 6.6, the same number on every architecture */
#endif

/* Not all file systems have all attributes, and some are for the privileged: a file without them is better than none. */
static int set_xattr(int fd, const char *name, const struct wire_xattr *x)
{
	if (fsetxattr(fd, name, x->value ? (const void *)x->value : "", x->len, 0) == 0 ||
		errno == EOPNOTSUPP || errno == EPERM)
		return 0;
	return -errno;
}

static int set_xattrs(int fd, enum tree_owner owner, const struct wire_entry *en)
{
	char name[XATTR_NAME_MAX + 1];
	int r = 0;

	for (size_t i = 0; r == 0 && i < en->n_xattrs; i++) {
		const struct wire_xattr *x = &en->xattrs[i];

		if (!tree_xattr_travels(x->name))
			continue;
		if (owner == TREE_OWNER_STORED)
			r = stored_xattr_name(x->name, name) < 0 ? 0 : set_xattr(fd, name, x);
		else if (owner == TREE_OWNER_KEEP || strncmp(x->name, "user.", 5) == 0)
			r = set_xattr(fd, x->name, x);
		/* Else: ACLs and capabilities go by the owners of elsewhere. */
	}
	return r;
}

static int store_stat(int fd, const struct wire_entry *en)
{
	const struct stored_stat s = {
		.mode = en->mode, .uid = en->uid, .gid = en->gid, .major = en->major, .minor = en->minor};
	char text[STORED_TEXT_MAX];
	size_t len = stored_format(text, &s);

	return fsetxattr(fd, STORED_STAT, text, len, 0) < 0 ? -errno : 0;
}

/* As it is set on the host. */
static mode_t real_mode(enum tree_owner owner, uint32_t mode)
{
	if (owner == TREE_OWNER_STORED)
		return stored_real_mode(mode);
	return mode & (owner == TREE_OWNER_KEEP ? 07777 : S_ISDIR(mode) ? 01777 : 0777);
}

static void times_of(const struct wire_entry *en, struct timespec ret[2])
{
	ret[0] = (struct timespec){.tv_nsec = UTIME_OMIT};
	ret[1] = (struct timespec){.tv_sec = en->mtime_s, .tv_nsec = en->mtime_ns};
}

int tree_set_attributes(int fd, enum tree_owner owner, const struct wire_entry *en)
{
	struct timespec times[2];
	int r;

	times_of(en, times);
	if (owner == TREE_OWNER_KEEP && fchown(fd, en->uid, en->gid) < 0)
		return -errno;
	if (fchmod(fd, real_mode(owner, en->mode)) < 0)
		return -errno;
	r = owner == TREE_OWNER_STORED ? store_stat(fd, en) : 0;
	if (r == 0)
		r = set_xattrs(fd, owner, en);
	return r < 0 ? r : futimens(fd, times) < 0 ? -errno : 0;
}

/* chmod(2) of what cannot be opened: by an O_PATH descriptor, or on older kernels by its name in /proc. */
static int change_mode(int fd, mode_t mode)
{
	char self[32];

	if (syscall(SYS_fchmodat2, fd, "", mode, AT_EMPTY_PATH) == 0)
		return 0;
	if (errno != ENOSYS)
		return -errno;
	snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	return chmod(self, mode) < 0 ? -errno : 0;
}

int tree_set_node_attributes(int dirfd, const char *name, enum tree_owner owner, const struct wire_entry *en)
{
	CLEANUP_CLOSE int fd = tree_open(dirfd, name, O_PATH | O_NOFOLLOW, 0);
	struct timespec times[2];
	struct stat st;
	int r = 0;

	if (fd < 0 || fstat(fd, &st) < 0)
		return fd < 0 ? fd : -errno;
	/* It was made a moment ago, but not by a descriptor that could be kept. */
	if ((st.st_mode & S_IFMT) != (en->mode & S_IFMT) ||
		(!S_ISLNK(st.st_mode) && !S_ISFIFO(st.st_mode) &&
			st.st_rdev != makedev(en->major, en->minor)))
		return -ESTALE;
	times_of(en, times);
	if (owner == TREE_OWNER_KEEP && fchownat(fd, "", en->uid, en->gid, AT_EMPTY_PATH) < 0)
		return -errno;
	if (!S_ISLNK(st.st_mode))
		r = change_mode(fd, real_mode(owner, en->mode));
	return r < 0 ? r : utimensat(fd, "", times, AT_EMPTY_PATH) < 0 ? -errno : 0;
}

int tree_copy_attributes(struct wire_entry *dst, const struct wire_entry *src)
{
	struct wire_entry d = *src;

	d.path = d.target = d.link = NULL;
	d.n_xattrs = 0;
	d.xattrs = src->n_xattrs ? calloc(src->n_xattrs, sizeof(*d.xattrs)) : NULL;
	if (src->n_xattrs && !d.xattrs)
		return -ENOMEM;
	for (size_t i = 0; i < src->n_xattrs; i++) {
		struct wire_xattr *x = &d.xattrs[d.n_xattrs++];

		x->name = strdup(src->xattrs[i].name);
		x->len = src->xattrs[i].len;
		x->value = malloc(x->len + 1);
		if (!x->name || !x->value) {
			wire_entry_done(&d);
			return -ENOMEM;
		}
		if (x->len)
			memcpy(x->value, src->xattrs[i].value, x->len);
	}
	*dst = d;
	return 0;
}
