/* SPDX-License-Identifier: MIT */
/* Extended attributes, under the names that tree/stored.h gives them on the host. */
#include "server.h"

#include <linux/limits.h>
#include <string.h>
#include <sys/xattr.h>

#define CAPABILITY "security.capability"

struct host_name {
	char text[XATTR_NAME_MAX + 1];
};

static bool starts(const char *s, const char *prefix)
{
	return strncmp(s, prefix, strlen(prefix)) == 0;
}

/* The name at `at` of the body and what it is on the host. *ret_name points into the body. */
static int take_xattr(const struct request *r, size_t *at, const char **ret_name, struct host_name *ret)
{
	const char *name = r->body + *at, *end;

	if (*at >= r->body_len || !(end = memchr(name, '\0', r->body_len - *at)))
		return -EINVAL;
	*at += (size_t)(end - name) + 1;
	*ret_name = name;
	/* Access control lists would be ours to judge. */
	if (!starts(name, "user.") && !starts(name, "security.") && !starts(name, "trusted."))
		return -EOPNOTSUPP;
	return stored_xattr_name(name, ret->text);
}

/* What is kept for others than the file's user needs that one, as it would to set it under its own name. */
static int check_owner(struct fs_server *s, int fd, const char *name)
{
	struct file_stat fs;
	int err;

	if (s->user == 0 || starts(name, "user."))
		return 0;
	err = get_stat(fd, &fs);
	return err < 0 ? err : fs.st.st_uid != s->user ? -EPERM : 0;
}

int op_setxattr(struct request *r)
{
	struct fuse_setxattr_in in = {0};
	size_t head = atomic_load(&r->s->setxattr_ext) ? sizeof(in) : FUSE_COMPAT_SETXATTR_IN_SIZE, at = head;
	struct host_name host;
	const char *name;
	int fd, err;

	if (r->body_len < head)
		return -EINVAL;
	memcpy(&in, r->body, head);
	err = take_xattr(r, &at, &name, &host);
	if (err < 0)
		return err;
	if (in.size > XATTR_VALUE_MAX)
		return -E2BIG;
	if (in.size > r->body_len - at || (in.flags & ~(uint32_t)(XATTR_CREATE | XATTR_REPLACE)))
		return -EINVAL;
	fd = node_fd(r->s, r->node);
	if (fd < 0)
		return fd;
	if (strcmp(name, CAPABILITY) == 0)
		atomic_fetch_add(&r->node->privileges, 1);
	err = check_owner(r->s, fd, name);
	if (err == 0 && setxattr(fd_name(fd).text, host.text, r->body + at, in.size, (int)in.flags) < 0)
		err = -errno;
	if (strcmp(name, CAPABILITY) == 0)
		atomic_fetch_add(&r->node->privileges, 1);
	node_done_fd(r->s, r->node);
	return err;
}

int op_removexattr(struct request *r)
{
	struct host_name host;
	const char *name;
	size_t at = 0;
	int fd, err;

	err = take_xattr(r, &at, &name, &host);
	if (err < 0)
		return err;
	fd = node_fd(r->s, r->node);
	if (fd < 0)
		return fd;
	err = check_owner(r->s, fd, name);
	if (err == 0 && removexattr(fd_name(fd).text, host.text) < 0)
		err = -errno;
	node_done_fd(r->s, r->node);
	return err;
}

/* With a size of 0 it is the size that is asked for. */
static int reply_value(struct request *r, uint32_t size, const char *value, size_t len)
{
	struct fuse_getxattr_out out = {.size = (uint32_t)len};

	if (size == 0)
		return reply_add(r, &out, sizeof(out));
	return len > size ? -ERANGE : reply_add(r, value, len);
}

int op_getxattr(struct request *r)
{
	struct fuse_getxattr_in in;
	struct host_name host;
	const char *name;
	size_t at = sizeof(in);
	char *value = NULL;
	ssize_t n;
	int fd, err;

	memcpy(&in, r->body, sizeof(in));
	err = take_xattr(r, &at, &name, &host);
	if (err < 0)
		return err == -EPERM || err == -ERANGE ? -ENODATA : err; /* no file has such */
	in.size = MIN_OF(in.size, XATTR_VALUE_MAX);
	if (in.size && !(value = malloc(in.size)))
		return -ENOMEM;
	fd = node_fd(r->s, r->node);
	if (fd < 0) {
		free(value);
		return fd;
	}
	n = getxattr(fd_name(fd).text, host.text, value, in.size);
	err = n < 0 ? -errno : 0;
	node_done_fd(r->s, r->node);
	if (err == 0)
		err = reply_value(r, in.size, value, (size_t)n);
	free(value);
	return err;
}

int op_listxattr(struct request *r)
{
	struct fuse_getxattr_in in;
	char *host = malloc(XATTR_VALUE_MAX);
	size_t len = 0;
	ssize_t n;
	int fd, err = 0;

	memcpy(&in, r->body, sizeof(in));
	if (!host)
		return -ENOMEM;
	fd = node_fd(r->s, r->node);
	if (fd < 0) {
		free(host);
		return fd;
	}
	n = listxattr(fd_name(fd).text, host, XATTR_VALUE_MAX);
	if (n < 0)
		err = errno == EOPNOTSUPP ? 0 : -errno;
	node_done_fd(r->s, r->node);
	/* The box's names are no longer than the host's: they are written over those. */
	for (ssize_t at = 0, next; at < n; at = next) {
		const char *name = stored_xattr_back(host + at);
		next = at + (ssize_t)strlen(host + at) + 1;
		if (name) {
			size_t part = strlen(name) + 1;
			memmove(host + len, name, part);
			len += part;
		}
	}
	if (err == 0)
		err = reply_value(r, in.size, host, len);
	free(host);
	return err;
}
