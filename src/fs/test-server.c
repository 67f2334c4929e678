/* SPDX-License-Identifier: MIT */
/* Names, handles and requests that lie: what the guest reaches, and what it does not. */
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
/* cmocka.h needs the four above. */
#include <cmocka.h>

#include "base/emulator.h"
#include "base/io.h"
#include "test-client.h"

static const unsigned plain[] = {0, 0};

static void put(const struct client *c, const char *name, const char *text)
{
	assert_int_equal(io_write_file_at(c->dir, name, text, strlen(text), 0644), 0);
}

static void test_round_trip(void **state)
{
	SKIP_IN_EMULATOR();
	struct client c;
	struct fuse_entry_out en;
	struct fuse_open_out o;
	struct fuse_attr_out a;
	static char big[300000], back[300000];
	char text[64];

	client_start(&c, NULL, 1, plain, 100);
	for (unsigned piece = 0; piece < 3; piece++) {
		c.piece = piece ? 1 + piece * 6 : 0;
		uint64_t root = client_walk(&c, "");
		assert_int_equal(client_create(&c, root, "f", O_RDWR | O_EXCL, 0644, &en, &o), 0);
		assert_int_equal(client_write(&c, en.nodeid, o.fh, 0, "hello world", 11, 0, 0), 11);
		assert_int_equal(client_read(&c, en.nodeid, o.fh, 6, text, sizeof(text)), 5);
		assert_memory_equal(text, "world", 5);
		assert_int_equal(client_getattr(&c, en.nodeid, &a), 0);
		assert_int_equal(a.attr.size, 11);
		assert_int_equal(a.attr.mode, S_IFREG | 0644);
		/* Appended, wherever the guest thinks the end is; what it has in memory goes where it says. */
		assert_int_equal(client_write(&c, en.nodeid, o.fh, 2, "!", 1, O_APPEND, 0), 1);
		assert_int_equal(client_write(&c, en.nodeid, o.fh, 0, "H", 1, O_APPEND, FUSE_WRITE_CACHE), 1);
		assert_int_equal(client_read(&c, en.nodeid, o.fh, 0, text, sizeof(text)), 12);
		assert_memory_equal(text, "Hello world!", 12);
		assert_int_equal(client_close(&c, en.nodeid, o.fh), 0);
		assert_int_equal(client_read(&c, en.nodeid, o.fh, 0, text, 1), -EBADF);
		/* Exclusive; and without: the guest shall look at it first. */
		assert_int_equal(client_create(&c, root, "f", O_RDWR | O_EXCL, 0644, &en, &o), -EEXIST);
		assert_int_equal(client_create(&c, root, "f", O_RDWR, 0644, &en, &o), -ESTALE);
		assert_int_equal(client_unlink(&c, root, "f"), 0);
		assert_int_equal(client_lookup(&c, root, "f", &en), -ENOENT);
	}
	c.piece = 0;
	memset(big, 'x', sizeof(big));
	assert_int_equal(client_create(&c, client_walk(&c, ""), "b", O_RDWR, 0600, &en, &o), 0);
	assert_int_equal(client_write(&c, en.nodeid, o.fh, 0, big, sizeof(big), 0, 0), sizeof(big));
	c.piece = 1000;
	assert_int_equal(client_read(&c, en.nodeid, o.fh, 0, back, sizeof(back)), sizeof(back));
	assert_memory_equal(big, back, sizeof(back));
	c.piece = 0;
	client_stop(&c, true);
}

static void test_names(void **state)
{
	static const char *const bad[] = {"", ".", "..", "/", "a/b", "../x", "/etc", "a/"};
	struct client c;
	struct fuse_entry_out en;
	struct fuse_open_out o;
	char longest[FS_NAME_MAX + 2];

	client_start(&c, NULL, 2, plain, 100);
	uint64_t root = client_walk(&c, "");
	put(&c, "x", "1");
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		assert_int_equal(client_lookup(&c, root, bad[i], &en), -EINVAL);
		assert_int_equal(client_create(&c, root, bad[i], O_RDWR, 0644, &en, &o), -EINVAL);
		assert_int_equal(client_mkdir(&c, root, bad[i], 0755, &en), -EINVAL);
		assert_int_equal(client_mknod(&c, root, bad[i], S_IFIFO | 0644, 0, &en), -EINVAL);
		assert_int_equal(client_symlink(&c, root, bad[i], "x", &en), -EINVAL);
		assert_int_equal(client_unlink(&c, root, bad[i]), -EINVAL);
		assert_int_equal(client_rename(&c, root, bad[i], root, "y", 0), -EINVAL);
		assert_int_equal(client_rename(&c, root, "x", root, bad[i], 0), -EINVAL);
		assert_int_equal(client_link(&c, client_walk(&c, "x"), root, bad[i]), -EINVAL);
		assert_int_equal(client_lookup(&c, FUSE_ROOT_ID, bad[i], &en), -EINVAL);
	}
	memset(longest, 'n', sizeof(longest));
	longest[FS_NAME_MAX] = '\0';
	assert_int_equal(client_mkdir(&c, root, longest, 0755, &en), 0);
	longest[FS_NAME_MAX] = 'n';
	longest[FS_NAME_MAX + 1] = '\0';
	assert_int_equal(client_mkdir(&c, root, longest, 0755, &en), -ENAMETOOLONG);
	/* A name that does not end. */
	assert_int_equal(client_call(&c, FUSE_LOOKUP, root, "xyz", 3, NULL, 0, &en, sizeof(en)), -EINVAL);
	/* Control characters are names as any other. */
	assert_int_equal(client_mkdir(&c, root, "a\nb\033[31m", 0755, &en), 0);
	/* The made-up root: exports, and nothing to be made. */
	assert_int_equal(client_lookup(&c, FUSE_ROOT_ID, "1", &en), 0);
	assert_int_equal(client_lookup(&c, FUSE_ROOT_ID, "2", &en), -ENOENT);
	assert_int_equal(client_lookup(&c, FUSE_ROOT_ID, "01", &en), -ENOENT);
	assert_int_equal(client_mkdir(&c, FUSE_ROOT_ID, "n", 0755, &en), -EROFS);
	assert_int_equal(client_unlink(&c, FUSE_ROOT_ID, "0"), -EROFS);
	assert_int_equal(client_rename(&c, FUSE_ROOT_ID, "0", FUSE_ROOT_ID, "1", 0), -EROFS);
	/* From one export to another. */
	client_lookup(&c, FUSE_ROOT_ID, "1", &en);
	assert_int_equal(client_rename(&c, root, "x", en.nodeid, "x", 0), -EXDEV);
	assert_int_equal(client_link(&c, client_walk(&c, "x"), en.nodeid, "x"), -EXDEV);
	client_stop(&c, true);
}

static void test_links_are_not_followed(void **state)
{
	struct client c;
	struct fuse_entry_out en, inner;
	struct fuse_open_out o;
	char target[PATH_MAX];

	client_start(&c, NULL, 1, plain, 100);
	uint64_t root = client_walk(&c, "");
	assert_int_equal(symlinkat("/etc", c.dir, "out"), 0);
	assert_int_equal(symlinkat("/etc/passwd", c.dir, "file"), 0);
	assert_int_equal(client_lookup(&c, root, "out", &en), 0);
	assert_int_equal(en.attr.mode & S_IFMT, S_IFLNK);
	assert_int_equal(client_lookup(&c, en.nodeid, "passwd", &inner), -ENOTDIR);
	assert_int_equal(
		client_call(&c, FUSE_READLINK, en.nodeid, NULL, 0, NULL, 0, target, sizeof(target)), 4);
	assert_memory_equal(target, "/etc", 4);
	assert_int_equal(client_open(&c, en.nodeid, O_RDONLY, &o), -ELOOP);
	assert_int_equal(client_mkdir(&c, en.nodeid, "d", 0755, &inner), -ENOTDIR);
	assert_int_equal(client_lookup(&c, root, "file", &en), 0);
	assert_int_equal(client_open(&c, en.nodeid, O_RDWR, &o), -ELOOP);
	struct fuse_setattr_in chmod_in = {.valid = FATTR_MODE, .mode = 0777};
	assert_int_equal(client_setattr(&c, en.nodeid, &chmod_in, NULL), -EOPNOTSUPP);
	/* A folder that becomes a link while the guest knows it: what it knows is the folder. */
	assert_int_equal(mkdirat(c.dir, "d", 0755), 0);
	uint64_t d = client_walk(&c, "d");
	assert_int_equal(renameat(c.dir, "d", c.dir, "moved"), 0);
	assert_int_equal(symlinkat("/etc", c.dir, "d"), 0);
	assert_int_equal(client_lookup(&c, d, "passwd", &en), -ENOENT);
	assert_int_equal(client_mkdir(&c, d, "inside", 0755, &en), 0);
	assert_int_equal(faccessat(c.dir, "moved/inside", F_OK, 0), 0);
	client_stop(&c, true);
}

struct swapper {
	int dir;
	atomic_bool stop;
};

static void *swap(void *data)
{
	struct swapper *s = data;

	while (!atomic_load(&s->stop))
		(void)renameat2(s->dir, "a", s->dir, "b", RENAME_EXCHANGE);
	return NULL;
}

/* A folder and a link to outside change places all the time; few descriptors, so that both are found again by name. */
static void test_swapped_folder(void **state)
{
	struct client c;
	struct swapper s;
	struct fuse_entry_out en, in;
	pthread_t t;
	char name[16];
	unsigned found = 0;

	client_start(&c, NULL, 1, plain, 2);
	s = (struct swapper){.dir = c.dir};
	assert_int_equal(mkdirat(c.dir, "outside", 0755), 0);
	assert_int_equal(mkdirat(c.dir, "a", 0755), 0);
	put(&c, "a/x", "in");
	assert_int_equal(symlinkat("/etc", c.dir, "b"), 0);
	uint64_t root = client_walk(&c, "");
	pthread_create(&t, NULL, swap, &s);
	for (unsigned i = 0; i < 20000; i++) {
		if (client_lookup(&c, root, "a", &en) < 0)
			continue;
		assert_int_not_equal(client_lookup(&c, en.nodeid, "passwd", &in), 0);
		if (client_lookup(&c, en.nodeid, "x", &in) == 0) {
			found++;
			client_forget(&c, in.nodeid, 1);
		}
		snprintf(name, sizeof(name), "n%u", i % 16);
		if (client_mkdir(&c, en.nodeid, name, 0755, &in) == 0)
			client_forget(&c, in.nodeid, 1);
		client_forget(&c, en.nodeid, 1);
	}
	atomic_store(&s.stop, true);
	pthread_join(t, NULL);
	assert_true(found > 0);
	assert_int_equal(faccessat(AT_FDCWD, "/etc/n0", F_OK, 0), -1);
	client_stop(&c, true);
}

static void test_what_is_not_opened(void **state)
{
	struct client c;
	struct fuse_entry_out en;
	struct fuse_open_out o;

	client_start(&c, NULL, 1, plain, 100);
	uint64_t root = client_walk(&c, "");
	assert_int_equal(mkfifoat(c.dir, "fifo", 0666), 0);
	assert_int_equal(client_lookup(&c, root, "fifo", &en), 0);
	assert_int_equal(en.attr.mode & S_IFMT, S_IFIFO);
	assert_int_equal(client_open(&c, en.nodeid, O_RDONLY, &o), -ENXIO);
	assert_int_equal(client_open(&c, en.nodeid, O_RDWR, &o), -ENXIO);
	if (geteuid() == 0 && mknodat(c.dir, "null", S_IFCHR | 0666, 1 << 8 | 3) == 0) {
		assert_int_equal(client_lookup(&c, root, "null", &en), 0);
		assert_int_equal(en.attr.rdev, 1 << 8 | 3);
		assert_int_equal(client_open(&c, en.nodeid, O_RDWR, &o), -ENXIO);
		struct fuse_setattr_in size = {.valid = FATTR_SIZE};
		assert_int_equal(client_setattr(&c, en.nodeid, &size, NULL), -EINVAL);
	}
	assert_int_equal(client_open(&c, root, O_RDONLY, &o), -EISDIR);
	assert_int_equal(client_open(&c, root, O_ACCMODE, &o), -EINVAL);
	client_stop(&c, true);
}

static void test_handles(void **state)
{
	struct client c;
	struct fuse_entry_out f, g;
	struct fuse_open_out fo, go;
	char b[8];

	client_start(&c, NULL, 1, plain, 100);
	uint64_t root = client_walk(&c, "");
	assert_int_equal(client_create(&c, root, "f", O_RDWR, 0644, &f, &fo), 0);
	put(&c, "g", "g");
	client_lookup(&c, root, "g", &g);
	assert_int_equal(client_open(&c, g.nodeid, O_RDONLY, &go), 0);
	assert_int_equal(client_read(&c, g.nodeid, fo.fh, 0, b, 1), -EBADF); /* another's */
	assert_int_equal(client_read(&c, f.nodeid, go.fh, 0, b, 1), -EBADF);
	assert_int_equal(client_read(&c, f.nodeid, 0, 0, b, 1), -EBADF);
	assert_int_equal(client_read(&c, f.nodeid, UINT64_MAX, 0, b, 1), -EBADF);
	assert_int_equal(client_write(&c, g.nodeid, go.fh, 0, "x", 1, 0, 0), -EBADF); /* for reading */
	struct fuse_read_in rd = {.fh = fo.fh, .size = 4096};
	assert_int_equal(client_call(&c, FUSE_READDIR, f.nodeid, &rd, sizeof(rd), NULL, 0, b, 8), -ENOTDIR);
	assert_int_equal(client_call(&c, FUSE_READDIR, root, &rd, sizeof(rd), NULL, 0, b, 8), -EBADF);
	/* Offsets and lengths that go too far. */
	assert_int_equal(client_read(&c, f.nodeid, fo.fh, UINT64_MAX, b, 8), -EINVAL);
	assert_int_equal(client_write(&c, f.nodeid, fo.fh, INT64_MAX, "x", 1, 0, 0), -EFBIG);
	struct fuse_fallocate_in fa = {.fh = fo.fh, .offset = UINT64_MAX, .length = 1};
	assert_int_equal(
		client_call(&c, FUSE_FALLOCATE, f.nodeid, &fa, sizeof(fa), NULL, 0, NULL, 0), -EFBIG);
	fa = (struct fuse_fallocate_in){.fh = fo.fh, .length = 1, .mode = FALLOC_FL_COLLAPSE_RANGE};
	assert_int_equal(
		client_call(&c, FUSE_FALLOCATE, f.nodeid, &fa, sizeof(fa), NULL, 0, NULL, 0), -EOPNOTSUPP);
	assert_int_equal(client_close(&c, g.nodeid, fo.fh), -EBADF);
	assert_int_equal(client_close(&c, f.nodeid, fo.fh), 0);
	assert_int_equal(client_close(&c, f.nodeid, fo.fh), -EBADF);
	/* Nodes that were never told, and one that was forgotten. */
	assert_int_equal(client_lookup(&c, 999999, "x", &f), -ESTALE);
	assert_int_equal(client_close(&c, g.nodeid, go.fh), 0);
	client_forget(&c, g.nodeid, UINT64_MAX);
	struct fuse_attr_out a;
	assert_int_equal(client_getattr(&c, g.nodeid, &a), -ESTALE);
	uint64_t old = g.nodeid;
	client_lookup(&c, root, "g", &g);
	assert_int_not_equal(g.nodeid, old); /* never again the same */
	client_forget(&c, FUSE_ROOT_ID, UINT64_MAX);
	client_forget(&c, root, UINT64_MAX);
	assert_int_equal(client_getattr(&c, root, &a), 0);
	client_stop(&c, true);
}

static void test_lies(void **state)
{
	struct client c;
	struct fuse_open_out o;
	struct fuse_entry_out f;
	struct fuse_out_header *out;
	char req[256] = {0}, reply[256];
	struct fuse_in_header *h = (void *)req;

	client_start(&c, NULL, 1, plain, 100);
	uint64_t root = client_walk(&c, "");
	assert_int_equal(client_create(&c, root, "f", O_RDWR, 0644, &f, &o), 0);
	out = (void *)reply;
	/* Cut-off headers, and no room for an answer. */
	for (size_t len = 0; len < sizeof(*h); len++)
		assert_int_equal(client_raw(&c, req, len, reply, sizeof(reply)), 0);
	*h = (struct fuse_in_header){.len = sizeof(*h), .opcode = FUSE_GETATTR, .nodeid = root, .unique = 7};
	for (size_t room = 0; room < sizeof(*out); room++)
		assert_int_equal(client_raw(&c, req, sizeof(*h), reply, room), 0);
	for (size_t room = sizeof(*out); room < sizeof(*out) + sizeof(struct fuse_attr_out); room++) {
		assert_int_equal(client_raw(&c, req, sizeof(*h), reply, room), sizeof(*out));
		assert_int_equal(out->error, -EINVAL);
	}
	/* A length that is more than there is, or less than the header. */
	h->len = sizeof(*h) + 1;
	assert_int_equal(client_raw(&c, req, sizeof(*h), reply, sizeof(reply)), sizeof(*out));
	assert_int_equal(out->error, -EINVAL);
	h->len = 3;
	assert_int_equal(client_raw(&c, req, sizeof(*h), reply, sizeof(reply)), sizeof(*out));
	assert_int_equal(out->error, -EINVAL);
	/* Every kind of request with every length of its body. */
	for (uint32_t op = 0; op < 80; op++)
		for (uint32_t len = sizeof(*h); len <= 160; len++) {
			if (op == FUSE_DESTROY || op == FUSE_INIT)
				continue;
			memset(req, 0, sizeof(req));
			*h = (struct fuse_in_header){.len = len, .opcode = op, .nodeid = f.nodeid};
			client_raw(&c, req, len, reply, sizeof(reply));
		}
	*h = (struct fuse_in_header){.len = sizeof(*h), .opcode = 4096, .nodeid = root};
	client_raw(&c, req, sizeof(*h), reply, sizeof(reply));
	assert_int_equal(out->error, -ENOSYS);
	/* A write of more than it brings; a count that is not there. */
	struct fuse_write_in w = {.fh = o.fh, .size = 4096};
	struct fuse_write_out wo;
	assert_int_equal(
		client_call(&c, FUSE_WRITE, f.nodeid, &w, sizeof(w), "x", 1, &wo, sizeof(wo)), -EINVAL);
	w.size = UINT32_MAX;
	assert_int_equal(
		client_call(&c, FUSE_WRITE, f.nodeid, &w, sizeof(w), "x", 1, &wo, sizeof(wo)), -EINVAL);
	struct fuse_batch_forget_in bf = {.count = UINT32_MAX};
	assert_int_equal(client_call(&c, FUSE_BATCH_FORGET, 0, &bf, sizeof(bf), NULL, 0, NULL, 0), -ENOMSG);
	struct fuse_setxattr_in x = {.size = UINT32_MAX};
	assert_int_equal(
		client_call(&c, FUSE_SETXATTR, f.nodeid, &x, sizeof(x), "user.a", 7, NULL, 0), -E2BIG);
	x.size = 100;
	assert_int_equal(
		client_call(&c, FUSE_SETXATTR, f.nodeid, &x, sizeof(x), "user.a", 7, NULL, 0), -EINVAL);
	client_stop(&c, true);
}

static void test_init(void **state)
{
	struct client c;
	struct fuse_init_in in = {.major = 8};
	struct fuse_init_out out;
	struct fuse_attr_out a;

	client_start(&c, NULL, 1, plain, 100);
	client_walk(&c, "");
	fs_reset(c.s);
	assert_int_equal(client_getattr(&c, FUSE_ROOT_ID, &a), -EIO);
	/* A newer one is told our version and asks again; an older one is refused. */
	assert_int_equal(
		client_call(&c, FUSE_INIT, 0, &in, sizeof(in), NULL, 0, &out, sizeof(out)), sizeof(out));
	assert_int_equal(out.major, 7);
	assert_int_equal(client_getattr(&c, FUSE_ROOT_ID, &a), -EIO);
	in.major = 6;
	assert_int_equal(client_call(&c, FUSE_INIT, 0, &in, sizeof(in), NULL, 0, &out, sizeof(out)), -EPROTO);
	/* Nothing that was not offered. */
	in = (struct fuse_init_in){.major = 7, .minor = 31, .flags = FUSE_ASYNC_READ};
	assert_int_equal(client_call(&c, FUSE_INIT, 0, &in, 16, NULL, 0, &out, sizeof(out)), sizeof(out));
	assert_int_equal(out.flags, FUSE_ASYNC_READ);
	assert_int_equal(out.flags2, 0);
	client_init(&c);
	assert_int_equal(client_getattr(&c, FUSE_ROOT_ID, &a), 0);
	assert_int_equal(a.attr.mode, S_IFDIR | 0755);
	client_stop(&c, true);
}

static void test_few_descriptors(void **state)
{
	struct client c;
	struct fuse_entry_out en[40];
	struct fuse_attr_out a;
	struct fuse_open_out o;
	char name[16], b[8];

	client_start(&c, NULL, 1, plain, 8);
	uint64_t parent = client_walk(&c, "");
	/* A chain of folders, each of which needs those above to be found again. */
	for (unsigned i = 0; i < 20; i++) {
		snprintf(name, sizeof(name), "d%u", i);
		assert_int_equal(client_mkdir(&c, parent, name, 0755, &en[i]), 0);
		parent = en[i].nodeid;
	}
	for (unsigned i = 20; i < 40; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		assert_int_equal(client_create(&c, parent, name, O_RDWR, 0600, &en[i], &o), 0);
		assert_int_equal(client_close(&c, en[i].nodeid, o.fh), 0);
		assert_true(c.s->n_fds <= 8);
	}
	for (unsigned i = 0; i < 40; i++) {
		assert_int_equal(client_getattr(&c, en[i].nodeid, &a), 0);
		assert_int_equal(a.attr.ino, en[i].attr.ino);
		assert_true(c.s->n_fds <= 8 + 1);
	}
	/* Without a name a file keeps its descriptor. */
	assert_int_equal(client_open(&c, en[20].nodeid, O_RDWR, &o), 0);
	assert_int_equal(client_write(&c, en[20].nodeid, o.fh, 0, "abc", 3, 0, 0), 3);
	assert_int_equal(client_unlink(&c, parent, "f20"), 0);
	assert_int_equal(client_rename(&c, parent, "f22", parent, "f21", 0), 0);
	assert_int_equal(client_rename(&c, parent, "f23", en[3].nodeid, "moved", 0), 0);
	for (unsigned i = 24; i < 40; i++)
		client_getattr(&c, en[i].nodeid, &a);
	assert_int_equal(client_getattr(&c, en[20].nodeid, &a), 0);
	assert_int_equal(a.attr.nlink, 0);
	assert_int_equal(client_getattr(&c, en[21].nodeid, &a), 0);
	assert_int_equal(client_getattr(&c, en[22].nodeid, &a), 0);
	assert_int_equal(client_getattr(&c, en[23].nodeid, &a), 0);
	assert_int_equal(client_read(&c, en[20].nodeid, o.fh, 0, b, 8), 3);
	/* Another file of the host in its place is not it. */
	for (unsigned i = 0; i < 20; i++)
		client_getattr(&c, en[i].nodeid, &a);
	assert_int_equal(renameat(c.dir, "d0", c.dir, "away"), 0);
	assert_int_equal(mkdirat(c.dir, "d0", 0755), 0);
	for (unsigned i = 24; i < 40; i++)
		client_getattr(&c, en[i].nodeid, &a);
	int r = client_getattr(&c, en[0].nodeid, &a);
	assert_true(r == -ESTALE || (r == 0 && a.attr.ino == en[0].attr.ino));
	/* Forgotten from the top: what is below keeps its folders, and all is given back in the end. */
	assert_int_equal(client_close(&c, en[20].nodeid, o.fh), 0);
	for (unsigned i = 0; i < 40; i++)
		client_forget(&c, en[i].nodeid, 1);
	assert_int_equal(c.s->n_nodes, 2);
	assert_int_equal(c.s->n_fds, 0);
	client_stop(&c, true);
}

static unsigned list(struct client *c, uint64_t node, bool plus, uint32_t size, uint64_t *sum)
{
	struct fuse_open_in oi = {0};
	struct fuse_open_out o;
	struct fuse_read_in in = {.size = size};
	char *buf = malloc(size);
	unsigned seen = 0;

	assert_int_equal(
		client_call(c, FUSE_OPENDIR, node, &oi, sizeof(oi), NULL, 0, &o, sizeof(o)), sizeof(o));
	in.fh = o.fh;
	for (;;) {
		int n = client_call(
			c, plus ? FUSE_READDIRPLUS : FUSE_READDIR, node, &in, sizeof(in), NULL, 0, buf, size);
		assert_true(n >= 0);
		if (n == 0)
			break;
		for (int at = 0; at < n;) {
			const struct fuse_dirent *d =
				(void *)(buf + at + (plus ? sizeof(struct fuse_entry_out) : 0));
			const struct fuse_entry_out *e = (void *)(buf + at);
			if (plus && e->nodeid) {
				assert_int_equal(e->attr.ino, d->ino);
				client_forget(c, e->nodeid, 1);
			}
			*sum ^= d->ino * 31;
			seen++;
			in.offset = d->off;
			at += (int)FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + d->namelen) +
			      (int)(plus ? sizeof(struct fuse_entry_out) : 0);
		}
	}
	struct fuse_release_in ri = {.fh = o.fh};
	assert_int_equal(client_call(c, FUSE_RELEASEDIR, node, &ri, sizeof(ri), NULL, 0, NULL, 0), 0);
	free(buf);
	return seen;
}

static void test_readdir(void **state)
{
	struct client c;
	char name[32];
	uint64_t a = 0, b = 0;

	client_start(&c, NULL, 2, plain, 20);
	for (unsigned i = 0; i < 1500; i++) {
		snprintf(name, sizeof(name), "file-with-a-name-%u", i);
		int fd = openat(c.dir, name, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
		assert_true(fd >= 0);
		close(fd);
	}
	uint64_t root = client_walk(&c, "");
	assert_int_equal(list(&c, root, false, 4096, &a), 1502);
	assert_int_equal(list(&c, root, true, 4096, &b), 1502);
	assert_int_equal(list(&c, root, false, 1 << 20, &a), 1502);
	assert_int_equal(list(&c, root, false, 64, &a), 1502);
	assert_int_equal(list(&c, FUSE_ROOT_ID, false, 4096, &a), 4);
	assert_int_equal(list(&c, FUSE_ROOT_ID, true, 4096, &a), 4);
	assert_int_equal(c.s->n_nodes, 3);
	client_stop(&c, true);
}

static void test_read_only(void **state)
{
	static const unsigned flags[] = {CLIENT_READ_ONLY, CLIENT_FILE};
	struct client c;
	struct fuse_entry_out en;
	struct fuse_open_out o;
	struct stat before, after;
	char b[8];

	client_start(&c, NULL, 2, flags, 100);
	put(&c, "f", "text");
	const struct timespec old[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
	assert_int_equal(utimensat(c.dir, "f", old, 0), 0);
	fstatat(c.dir, "f", &before, 0);
	uint64_t root = client_walk(&c, ""), f = client_walk(&c, "f");
	assert_int_equal(client_open(&c, f, O_RDWR, &o), -EROFS);
	assert_int_equal(client_open(&c, f, O_WRONLY, &o), -EROFS);
	assert_int_equal(client_open(&c, f, O_RDONLY | O_TRUNC, &o), -EROFS);
	assert_int_equal(client_open(&c, f, O_RDONLY, &o), 0);
	assert_int_equal(client_read(&c, f, o.fh, 0, b, 8), 4);
	assert_int_equal(client_write(&c, f, o.fh, 0, "x", 1, 0, 0), -EBADF);
	struct fuse_fallocate_in fa = {.fh = o.fh, .length = 10};
	assert_int_equal(client_call(&c, FUSE_FALLOCATE, f, &fa, sizeof(fa), NULL, 0, NULL, 0), -EROFS);
	struct fuse_copy_file_range_in cp = {
		.fh_in = o.fh, .nodeid_out = f, .fh_out = o.fh, .off_out = 100, .len = 4};
	struct fuse_write_out wo;
	assert_int_equal(
		client_call(&c, FUSE_COPY_FILE_RANGE, f, &cp, sizeof(cp), NULL, 0, &wo, sizeof(wo)), -EBADF);
	for (uint32_t bit = 1; bit <= FATTR_KILL_SUIDGID; bit <<= 1) {
		struct fuse_setattr_in in = {.valid = bit, .fh = o.fh};
		assert_int_equal(client_setattr(&c, f, &in, NULL), -EROFS);
	}
	assert_int_equal(client_setxattr(&c, f, "user.a", "x", 1), -EROFS);
	assert_int_equal(client_create(&c, root, "n", O_RDONLY, 0644, &en, &o), -EROFS);
	assert_int_equal(client_mkdir(&c, root, "n", 0755, &en), -EROFS);
	assert_int_equal(client_mknod(&c, root, "n", S_IFREG, 0, &en), -EROFS);
	assert_int_equal(client_symlink(&c, root, "n", "t", &en), -EROFS);
	assert_int_equal(client_link(&c, f, root, "n"), -EROFS);
	assert_int_equal(client_unlink(&c, root, "f"), -EROFS);
	assert_int_equal(client_rename(&c, root, "f", root, "n", 0), -EROFS);
	struct fuse_access_in acc = {.mask = W_OK};
	assert_int_equal(client_call(&c, FUSE_ACCESS, f, &acc, sizeof(acc), NULL, 0, NULL, 0), -EROFS);
	fstatat(c.dir, "f", &after, 0);
	assert_memory_equal(&before, &after, sizeof(before)); /* its time of access too */
	/* The other export, a file, is not. */
	assert_int_equal(client_lookup(&c, FUSE_ROOT_ID, "1", &en), 0);
	assert_int_equal(en.attr.mode & S_IFMT, S_IFREG);
	assert_int_equal(client_open(&c, en.nodeid, O_RDWR, &o), 0);
	assert_int_equal(client_write(&c, en.nodeid, o.fh, 0, "live", 4, 0, 0), 4);
	client_stop(&c, true);
}

static void test_rename(void **state)
{
	struct client c;
	struct fuse_entry_out d, f;
	struct fuse_open_out o;

	client_start(&c, NULL, 1, plain, 100);
	uint64_t root = client_walk(&c, "");
	put(&c, "a", "1");
	put(&c, "b", "22");
	assert_int_equal(client_mkdir(&c, root, "d", 0755, &d), 0);
	assert_int_equal(client_rename(&c, root, "a", root, "b", RENAME_NOREPLACE), -EEXIST);
	assert_int_equal(client_rename(&c, root, "a", root, "b", RENAME_EXCHANGE), 0);
	assert_int_equal(client_lookup(&c, root, "a", &f), 0);
	assert_int_equal(f.attr.size, 2);
	assert_int_equal(client_rename(&c, root, "a", d.nodeid, "a", 0), 0);
	assert_int_equal(client_rename(&c, root, "d", d.nodeid, "d", 0), -EINVAL);
	assert_int_equal(client_rename(&c, root, "b", root, "c", RENAME_WHITEOUT), -EINVAL);
	assert_int_equal(client_rename(&c, root, "b", f.nodeid, "c", 0), -ENOTDIR);
	assert_int_equal(client_rename(&c, root, "b", 12345, "c", 0), -ESTALE);
	assert_int_equal(client_link(&c, f.nodeid, root, "hard"), 0);
	uint64_t same = f.nodeid;
	assert_int_equal(client_lookup(&c, root, "hard", &f), 0);
	assert_int_equal(f.nodeid, same);
	assert_int_equal(f.attr.nlink, 2);
	assert_int_equal(client_unlink(&c, d.nodeid, "a"), 0);
	assert_int_equal(client_open(&c, same, O_RDONLY, &o), 0);
	assert_int_equal(client_link(&c, d.nodeid, root, "nofolder"), -EPERM);
	client_stop(&c, true);
}

/* A guest that never forgets is told that there is no memory, and is served again when it does. */
static void test_too_many_nodes(void **state)
{
	struct client c;
	struct fuse_entry_out en;
	struct fuse_open_out o;
	uint64_t first = 0;
	char name[16];
	int r = 0, n;

	client_start(&c, NULL, 1, plain, 8);
	uint64_t root = client_walk(&c, "");
	fs_server_limit(c.s, 20);
	for (n = 0; n < 100 && r == 0; n++) {
		snprintf(name, sizeof(name), "f%d", n);
		r = client_mknod(&c, root, name, S_IFREG | 0644, 0, &en);
		first = first ? first : en.nodeid;
	}
	assert_int_equal(r, -ENOMEM);
	assert_int_equal(n, 20 - 2 + 1); /* the made-up root and the export are nodes, too */
	assert_int_equal(c.s->n_nodes, 20);
	assert_int_equal(client_lookup(&c, root, name, &en), -ENOMEM);
	assert_int_equal(client_create(&c, root, "more", O_RDWR, 0644, &en, &o), -ENOMEM);
	assert_int_equal(client_lookup(&c, root, "f0", &en), 0);
	client_forget(&c, first, 2);
	assert_int_equal(client_lookup(&c, root, name, &en), 0);
	assert_int_equal(c.s->n_nodes, 20);
	client_stop(&c, true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_links_are_not_followed),
		cmocka_unit_test(test_swapped_folder),
		cmocka_unit_test(test_what_is_not_opened),
		cmocka_unit_test(test_handles),
		cmocka_unit_test(test_lies),
		cmocka_unit_test(test_init),
		cmocka_unit_test(test_few_descriptors),
		cmocka_unit_test(test_too_many_nodes),
		cmocka_unit_test(test_readdir),
		cmocka_unit_test(test_read_only),
		cmocka_unit_test(test_rename),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
