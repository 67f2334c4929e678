/* SPDX-License-Identifier: MIT */
#include "test-client.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
/* cmocka.h needs the three above. */
#include <cmocka.h>

#include "base/io.h"

#define PIECES 512

static int proc_fd = -1;

static void serve(struct client *c, unsigned n, const unsigned *flags, unsigned max_fds)
{
	struct fs_export exports[8];
	struct err e = {0};
	char name[12];

	assert_true(n <= ARRAY_LEN(exports));
	if (proc_fd < 0)
		proc_fd = open("/proc/self/fd", O_PATH | O_CLOEXEC);
	assert_true(proc_fd >= 0);
	for (unsigned i = 0; i < n; i++) {
		char use[96];
		snprintf(name, sizeof(name), "/%u", i);
		snprintf(use, sizeof(use), "%s%s", c->path, name);
		exports[i] = (struct fs_export){.fd = open(use, O_PATH | O_CLOEXEC),
			.use_fd = -1,
			.read_only = flags[i] & CLIENT_READ_ONLY,
			.file = flags[i] & CLIENT_FILE,
			.cache = flags[i] & CLIENT_VOLUME ? FS_CACHE_VOLUME : FS_CACHE_HOST};
		assert_true(exports[i].fd >= 0);
		if (flags[i] & CLIENT_VOLUME) {
			snprintf(use, sizeof(use), "%s%s.use", c->path, name);
			exports[i].use_fd = open(use, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
			assert_true(exports[i].use_fd >= 0);
		}
	}
	if (fs_server_new(exports, n, proc_fd, max_fds, &c->s, &e) < 0)
		fail_msg("%s", e.msg);
	client_init(c);
}

void client_start(struct client *c, const char *base, unsigned n, const unsigned *flags, unsigned max_fds)
{
	*c = (struct client){.dir = -1};
	snprintf(c->path, sizeof(c->path), "%s/fs-test-XXXXXX", base ? base : "/tmp");
	assert_non_null(mkdtemp(c->path));
	CLEANUP_CLOSE int dir = open(c->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(dir >= 0);
	for (unsigned i = 0; i < n; i++) {
		char name[16];
		snprintf(name, sizeof(name), "%u", i);
		if (flags[i] & CLIENT_FILE) {
			int fd = openat(dir, name, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
			assert_true(fd >= 0);
			close(fd);
		} else {
			assert_int_equal(mkdirat(dir, name, 0755), 0);
		}
	}
	c->dir = openat(dir, "0", O_RDONLY | O_CLOEXEC);
	serve(c, n, flags, max_fds);
}

void client_join(struct client *c, const struct client *first, unsigned n, const unsigned *flags)
{
	*c = *first;
	c->dir = -1;
	serve(c, n, flags, 100);
}

void client_init(struct client *c)
{
	struct fuse_init_in in = {
		.major = 7, .minor = 41, .max_readahead = 1 << 20, .flags = UINT32_MAX, .flags2 = UINT32_MAX};
	struct fuse_init_out out;

	assert_int_equal(
		client_call(c, FUSE_INIT, 0, &in, sizeof(in), NULL, 0, &out, sizeof(out)), sizeof(out));
	assert_int_equal(out.major, 7);
	assert_int_equal(out.max_write, 1 << 20);
}

void client_stop(struct client *c, bool remove)
{
	fs_server_free(c->s);
	close_fd(&c->dir);
	if (remove)
		assert_int_equal(io_remove_tree_at(AT_FDCWD, c->path), 0);
}

static unsigned cut(struct iovec *v, unsigned used, const void *p, size_t len, unsigned piece)
{
	for (size_t at = 0; at < len;) {
		size_t part = piece && piece < len - at ? piece : len - at;
		assert_true(used < PIECES);
		v[used++] = (struct iovec){(char *)p + at, part};
		at += part;
	}
	return used;
}

int client_call(struct client *c, uint32_t opcode, uint64_t node, const void *body, size_t len,
	const void *data, size_t data_len, void *reply, size_t size)
{
	static atomic_ullong unique;
	struct fuse_in_header h = {.len = (uint32_t)(sizeof(h) + len + data_len),
		.opcode = opcode,
		.unique = atomic_fetch_add(&unique, 1) + 1,
		.nodeid = node,
		.uid = c->uid,
		.gid = c->gid,
		.pid = 1};
	struct fuse_out_header out = {.len = 0xdead};
	struct iovec v[PIECES], w[PIECES];
	unsigned n, m;
	size_t got;

	n = cut(v, 0, &h, sizeof(h), c->piece);
	n = cut(v, n, body, len, c->piece);
	n = cut(v, n, data, data_len, 0);
	m = cut(w, 0, &out, sizeof(out), c->piece);
	m = cut(w, m, reply, size, c->piece);
	got = fs_handle(c->s, &h, v, n, w, m, c->interrupted);
	if (got == 0)
		return -ENOMSG;
	assert_int_equal(out.unique, h.unique);
	assert_int_equal(out.len, got);
	assert_true(got >= sizeof(out) && got - sizeof(out) <= size);
	assert_true(out.error <= 0 && out.error > -512);
	if (out.error) {
		assert_int_equal(got, sizeof(out));
		return out.error;
	}
	return (int)(got - sizeof(out));
}

size_t client_raw(struct client *c, const void *request, size_t len, void *reply, size_t size)
{
	struct iovec v = {(void *)(uintptr_t)request, len}, w = {reply, size};
	struct fuse_in_header h;

	if (!fs_header(&v, len ? 1 : 0, &h))
		return 0;
	return fs_handle(c->s, &h, &v, len ? 1 : 0, &w, size ? 1 : 0, NULL);
}

/* A structure and up to two names behind it. */
static int call_names(struct client *c, uint32_t opcode, uint64_t node, const void *head, size_t len,
	const char *a, const char *b, void *reply, size_t size)
{
	char body[8192];
	size_t at = len;

	memcpy(body, head, len);
	for (const char *const *p = (const char *const[]){a, b, NULL}; *p; p++) {
		assert_true(at + strlen(*p) + 1 <= sizeof(body));
		memcpy(body + at, *p, strlen(*p) + 1);
		at += strlen(*p) + 1;
	}
	return client_call(c, opcode, node, body, at, NULL, 0, reply, size);
}

static int call_entry(struct client *c, uint32_t opcode, uint64_t node, const void *head, size_t len,
	const char *a, const char *b, struct fuse_entry_out *ret)
{
	struct fuse_entry_out out;
	int r = call_names(c, opcode, node, head, len, a, b, &out, sizeof(out));

	if (r < 0)
		return r;
	assert_int_equal(r, sizeof(out));
	if (ret)
		*ret = out;
	return out.nodeid ? 0 : -ENOENT;
}

int client_lookup(struct client *c, uint64_t parent, const char *name, struct fuse_entry_out *ret)
{
	return call_entry(c, FUSE_LOOKUP, parent, "", 0, name, NULL, ret);
}

uint64_t client_walk(struct client *c, const char *path)
{
	struct fuse_entry_out out;
	char copy[4096], *next = copy, *name;

	assert_int_equal(client_lookup(c, FUSE_ROOT_ID, "0", &out), 0);
	snprintf(copy, sizeof(copy), "%s", path);
	while ((name = strsep(&next, "/")))
		if (*name && client_lookup(c, out.nodeid, name, &out) < 0)
			fail_msg("%s: no %s", path, name);
	return out.nodeid;
}

int client_create(struct client *c, uint64_t parent, const char *name, uint32_t flags, uint32_t mode,
	struct fuse_entry_out *ret, struct fuse_open_out *ret_open)
{
	struct fuse_create_in in = {.flags = flags, .mode = mode};
	struct {
		struct fuse_entry_out entry;
		struct fuse_open_out open;
	} out;
	int r = call_names(c, FUSE_CREATE, parent, &in, sizeof(in), name, NULL, &out, sizeof(out));

	if (r < 0)
		return r;
	assert_int_equal(r, sizeof(out));
	*ret = out.entry;
	*ret_open = out.open;
	return 0;
}

int client_mkdir(
	struct client *c, uint64_t parent, const char *name, uint32_t mode, struct fuse_entry_out *ret)
{
	struct fuse_mkdir_in in = {.mode = mode};

	return call_entry(c, FUSE_MKDIR, parent, &in, sizeof(in), name, NULL, ret);
}

int client_mknod(struct client *c, uint64_t parent, const char *name, uint32_t mode, uint32_t rdev,
	struct fuse_entry_out *ret)
{
	struct fuse_mknod_in in = {.mode = mode, .rdev = rdev};

	return call_entry(c, FUSE_MKNOD, parent, &in, sizeof(in), name, NULL, ret);
}

int client_symlink(
	struct client *c, uint64_t parent, const char *name, const char *target, struct fuse_entry_out *ret)
{
	return call_entry(c, FUSE_SYMLINK, parent, "", 0, name, target, ret);
}

int client_link(struct client *c, uint64_t node, uint64_t parent, const char *name)
{
	struct fuse_link_in in = {.oldnodeid = node};

	return call_entry(c, FUSE_LINK, parent, &in, sizeof(in), name, NULL, NULL);
}

int client_unlink(struct client *c, uint64_t parent, const char *name)
{
	return call_names(c, FUSE_UNLINK, parent, "", 0, name, NULL, NULL, 0);
}

int client_rename(
	struct client *c, uint64_t from, const char *old, uint64_t to, const char *new, unsigned flags)
{
	struct fuse_rename2_in in = {.newdir = to, .flags = flags};

	return call_names(c, FUSE_RENAME2, from, &in, sizeof(in), old, new, NULL, 0);
}

static int fixed(int r, size_t size)
{
	if (r < 0)
		return r;
	assert_int_equal(r, size);
	return 0;
}

int client_getattr(struct client *c, uint64_t node, struct fuse_attr_out *ret)
{
	struct fuse_getattr_in in = {0};

	return fixed(client_call(c, FUSE_GETATTR, node, &in, sizeof(in), NULL, 0, ret, sizeof(*ret)),
		sizeof(*ret));
}

int client_setattr(
	struct client *c, uint64_t node, const struct fuse_setattr_in *in, struct fuse_attr_out *ret)
{
	struct fuse_attr_out out;

	return fixed(
		client_call(c, FUSE_SETATTR, node, in, sizeof(*in), NULL, 0, ret ? ret : &out, sizeof(out)),
		sizeof(out));
}

int client_open(struct client *c, uint64_t node, uint32_t flags, struct fuse_open_out *ret)
{
	struct fuse_open_in in = {.flags = flags};

	return fixed(
		client_call(c, FUSE_OPEN, node, &in, sizeof(in), NULL, 0, ret, sizeof(*ret)), sizeof(*ret));
}

int client_close(struct client *c, uint64_t node, uint64_t fh)
{
	struct fuse_release_in in = {.fh = fh, .release_flags = FUSE_RELEASE_FLOCK_UNLOCK};

	return client_call(c, FUSE_RELEASE, node, &in, sizeof(in), NULL, 0, NULL, 0);
}

int client_read(struct client *c, uint64_t node, uint64_t fh, uint64_t off, void *buf, uint32_t size)
{
	struct fuse_read_in in = {.fh = fh, .offset = off, .size = size};

	return client_call(c, FUSE_READ, node, &in, sizeof(in), NULL, 0, buf, size);
}

int client_write(struct client *c, uint64_t node, uint64_t fh, uint64_t off, const void *buf, uint32_t size,
	uint32_t flags, uint32_t write_flags)
{
	struct fuse_write_in in = {
		.fh = fh, .offset = off, .size = size, .flags = flags, .write_flags = write_flags};
	struct fuse_write_out out;
	int r = fixed(
		client_call(c, FUSE_WRITE, node, &in, sizeof(in), buf, size, &out, sizeof(out)), sizeof(out));

	return r < 0 ? r : (int)out.size;
}

int client_lock(
	struct client *c, uint64_t node, uint64_t fh, uint64_t owner, uint32_t type, bool flock, bool wait)
{
	struct fuse_lk_in in = {.fh = fh,
		.owner = owner,
		.lk = {.end = INT64_MAX, .type = type, .pid = 1},
		.lk_flags = flock ? FUSE_LK_FLOCK : 0};

	return client_call(c, wait ? FUSE_SETLKW : FUSE_SETLK, node, &in, sizeof(in), NULL, 0, NULL, 0);
}

int client_setxattr(struct client *c, uint64_t node, const char *name, const void *value, uint32_t size)
{
	struct fuse_setxattr_in in = {.size = size};
	char body[1024];

	memcpy(body, &in, sizeof(in));
	snprintf(body + sizeof(in), sizeof(body) - sizeof(in), "%s", name);
	return client_call(c, FUSE_SETXATTR, node, body, sizeof(in) + strlen(name) + 1, value, size, NULL, 0);
}

int client_getxattr(struct client *c, uint64_t node, const char *name, void *value, uint32_t size)
{
	struct fuse_getxattr_in in = {.size = size};

	if (size == 0) {
		struct fuse_getxattr_out out;
		int r = fixed(
			call_names(c, FUSE_GETXATTR, node, &in, sizeof(in), name, NULL, &out, sizeof(out)),
			sizeof(out));
		return r < 0 ? r : (int)out.size;
	}
	return call_names(c, FUSE_GETXATTR, node, &in, sizeof(in), name, NULL, value, size);
}

void client_forget(struct client *c, uint64_t node, uint64_t n)
{
	struct fuse_forget_in in = {.nlookup = n};

	assert_int_equal(client_call(c, FUSE_FORGET, node, &in, sizeof(in), NULL, 0, NULL, 0), -ENOMSG);
}
