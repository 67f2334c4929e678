/* SPDX-License-Identifier: MIT */
/* A guest's kernel for tests of the file server: builds requests, in buffers cut up at will, and reads replies. */
#ifndef FS_TEST_CLIENT_H
#define FS_TEST_CLIENT_H

#include "server.h"

struct client {
	struct fs_server *s;
	char path[64]; /* a folder of the host; what is served lies in it, in "0", "1", … */
	int dir;       /* of "0" */
	uint32_t uid, gid;
	unsigned piece; /* buffers are no longer than that; 0: header, body and data in one each */
	const atomic_bool *interrupted; /* of each request; NULL: cannot be */
};

enum { CLIENT_FILE = 1, CLIENT_READ_ONLY = 2, CLIENT_VOLUME = 4 };

/* n folders "0", … with flags, served; base: NULL for /tmp. After INIT. */
void client_start(struct client *c, const char *base, unsigned n, const unsigned *flags, unsigned max_fds);
/* Another server of the first one's folders, with FS_CACHE_VOLUME the one volume's second. */
void client_join(struct client *c, const struct client *first, unsigned n, const unsigned *flags);
void client_init(struct client *c);
void client_stop(struct client *c, bool remove);

/* The bytes of the reply's payload, in reply, or -errno as the server answered. -ENOMSG: no answer. */
int client_call(struct client *c, uint32_t opcode, uint64_t node, const void *body, size_t len,
	const void *data, size_t data_len, void *reply, size_t size);
/* As it is, header and all; returns what fs_handle does. */
size_t client_raw(struct client *c, const void *request, size_t len, void *reply, size_t size);

/* The node of a name: 0 with *ret, or -errno (-ENOENT also where a negative entry is told). */
int client_lookup(struct client *c, uint64_t parent, const char *name, struct fuse_entry_out *ret);
/* Of a path below export 0, which must be there. */
uint64_t client_walk(struct client *c, const char *path);
int client_create(struct client *c, uint64_t parent, const char *name, uint32_t flags, uint32_t mode,
	struct fuse_entry_out *ret, struct fuse_open_out *ret_open);
int client_mkdir(
	struct client *c, uint64_t parent, const char *name, uint32_t mode, struct fuse_entry_out *ret);
int client_mknod(struct client *c, uint64_t parent, const char *name, uint32_t mode, uint32_t rdev,
	struct fuse_entry_out *ret);
int client_symlink(
	struct client *c, uint64_t parent, const char *name, const char *target, struct fuse_entry_out *ret);
int client_link(struct client *c, uint64_t node, uint64_t parent, const char *name);
int client_unlink(struct client *c, uint64_t parent, const char *name);
int client_rename(
	struct client *c, uint64_t from, const char *old, uint64_t to, const char *new, unsigned flags);
int client_getattr(struct client *c, uint64_t node, struct fuse_attr_out *ret);
int client_setattr(
	struct client *c, uint64_t node, const struct fuse_setattr_in *in, struct fuse_attr_out *ret);
int client_open(struct client *c, uint64_t node, uint32_t flags, struct fuse_open_out *ret);
int client_close(struct client *c, uint64_t node, uint64_t fh);
int client_read(struct client *c, uint64_t node, uint64_t fh, uint64_t off, void *buf, uint32_t size);
int client_write(struct client *c, uint64_t node, uint64_t fh, uint64_t off, const void *buf, uint32_t size,
	uint32_t flags, uint32_t write_flags);
int client_lock(
	struct client *c, uint64_t node, uint64_t fh, uint64_t owner, uint32_t type, bool flock, bool wait);
int client_setxattr(struct client *c, uint64_t node, const char *name, const void *value, uint32_t size);
int client_getxattr(struct client *c, uint64_t node, const char *name, void *value, uint32_t size);
void client_forget(struct client *c, uint64_t node, uint64_t n);

#endif
