/* SPDX-License-Identifier: MIT */
/* Owners, modes, devices, privileges and extended attributes: what the box sets, what the host has, what the box reads back. */
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/xattr.h>
/* cmocka.h needs the four above. */
#include <cmocka.h>

#include "base/io.h"
#include "test-client.h"

static const unsigned plain[] = {0};

static ssize_t stored(struct client *c, const char *name, char *text)
{
	char path[128];
	ssize_t n;

	snprintf(path, sizeof(path), "%s/0/%s", c->path, name);
	n = lgetxattr(path, STORED_STAT, text, STORED_TEXT_MAX - 1);
	text[n > 0 ? n : 0] = '\0';
	return n;
}

static void test_create(void **state)
{
	struct client c;
	struct fuse_entry_out en;
	struct fuse_open_out o;
	struct stat st;
	char text[STORED_TEXT_MAX];

	client_start(&c, NULL, 1, plain, 100);
	uint64_t root = client_walk(&c, "");
	/* Root's own needs nothing. */
	assert_int_equal(client_create(&c, root, "r", O_RDWR, 0644, &en, &o), 0);
	assert_int_equal(en.attr.uid, 0);
	assert_true(stored(&c, "r", text) < 0);
	c.uid = 999;
	c.gid = 998;
	assert_int_equal(client_create(&c, root, "f", O_RDONLY, 0400, &en, &o), 0);
	assert_int_equal(en.attr.uid, 999);
	assert_int_equal(en.attr.gid, 998);
	assert_int_equal(en.attr.mode, S_IFREG | 0400);
	assert_int_equal(client_write(&c, en.nodeid, o.fh, 0, "x", 1, 0, 0), -EBADF);
	assert_true(stored(&c, "f", text) > 0);
	assert_string_equal(text, "100400 999 998 0:0");
	assert_int_equal(fstatat(c.dir, "f", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(st.st_uid, geteuid());
	assert_int_equal(client_mkdir(&c, root, "d", 01777, &en), 0);
	assert_int_equal(en.attr.mode, S_IFDIR | 01777);
	assert_int_equal(en.attr.uid, 999);
	fstatat(c.dir, "d", &st, 0);
	assert_int_equal(st.st_mode & 07777, 0777);
	/* Devices, FIFOs and sockets are empty files here. */
	assert_int_equal(client_mknod(&c, root, "blk", S_IFBLK | 0660,
				 (300 & 0xff) | 8 << 8 | (300 & ~0xff) << 12, &en),
		0);
	assert_int_equal(en.attr.mode, S_IFBLK | 0660);
	assert_int_equal(en.attr.rdev, (300 & 0xff) | 8 << 8 | (300 & ~0xff) << 12);
	stored(&c, "blk", text);
	assert_string_equal(text, "60660 999 998 8:300");
	fstatat(c.dir, "blk", &st, 0);
	assert_true(S_ISREG(st.st_mode));
	assert_int_equal(client_mknod(&c, root, "fifo", S_IFIFO | 0600, 0, &en), 0);
	assert_int_equal(client_lookup(&c, root, "fifo", &en), 0);
	assert_int_equal(en.attr.mode, S_IFIFO | 0600);
	assert_int_equal(client_mknod(&c, root, "s", S_IFSOCK | 0600, 0, &en), 0);
	assert_int_equal(client_mknod(&c, root, "bad", S_IFDIR | 0600, 0, &en), -EINVAL);
	assert_int_equal(client_mknod(&c, root, "bad", S_IFLNK | 0600, 0, &en), -EINVAL);
	/* Unknown by whom. */
	c.uid = UINT32_MAX;
	assert_int_equal(client_mkdir(&c, root, "nobody", 0755, &en), -EOVERFLOW);
	client_stop(&c, true);
}

static int read_link(struct client *c, uint64_t node, char *target, size_t size)
{
	int n = client_call(c, FUSE_READLINK, node, NULL, 0, NULL, 0, target, (unsigned)size - 1);

	target[n > 0 ? n : 0] = '\0';
	return n;
}

/* For programs of the host to follow. */
static void test_links_of_the_host(void **state)
{
	struct client c;
	struct fuse_entry_out d, en;
	struct fuse_attr_out a;
	char text[STORED_TEXT_MAX], target[PATH_MAX + 1];
	struct stat st;

	client_start(&c, NULL, 1, plain, 100);
	uint64_t root = client_walk(&c, "");
	c.uid = 999;
	assert_int_equal(client_mkdir(&c, root, "d", 0777, &d), 0);
	c.uid = 5;
	/* A real one, of its folder's owner. */
	assert_int_equal(client_symlink(&c, d.nodeid, "l", "t", &en), 0);
	assert_int_equal(en.attr.uid, 999);
	struct fuse_setattr_in own = {.valid = FATTR_UID, .uid = 7};
	assert_int_equal(client_setattr(&c, en.nodeid, &own, &a), 0);
	assert_int_equal(a.attr.uid, 999);
	assert_int_equal(fstatat(c.dir, "d/l", &st, AT_SYMLINK_NOFOLLOW), 0);
	assert_true(S_ISLNK(st.st_mode));
	/* In a sticky folder another's is his; root's, and the folder's owner's, stay real ones. */
	c.uid = 0;
	struct fuse_setattr_in sticky = {.valid = FATTR_MODE, .mode = 01777};
	assert_int_equal(client_setattr(&c, d.nodeid, &sticky, NULL), 0);
	c.uid = 5;
	assert_int_equal(client_symlink(&c, d.nodeid, "his", "target", &en), 0);
	assert_int_equal(en.attr.uid, 5);
	assert_int_equal(en.attr.size, 6);
	assert_int_equal(en.attr.mode, S_IFLNK | 0777);
	assert_int_equal(read_link(&c, en.nodeid, target, sizeof(target)), 6);
	assert_string_equal(target, "target");
	assert_int_equal(fstatat(c.dir, "d/his", &st, AT_SYMLINK_NOFOLLOW), 0);
	assert_true(S_ISREG(st.st_mode) && st.st_size == 0 && (st.st_mode & 07777) == 0644);
	assert_true(stored(&c, "d/his", text) > 0);
	assert_string_equal(text, "120777 5 0 0:0");
	c.uid = 999;
	assert_int_equal(client_symlink(&c, d.nodeid, "owners", "t", &en), 0);
	assert_int_equal(fstatat(c.dir, "d/owners", &st, AT_SYMLINK_NOFOLLOW), 0);
	assert_true(S_ISLNK(st.st_mode));
	assert_int_equal(fchmod(c.dir, 01777), 0);
	c.uid = 0;
	assert_int_equal(client_symlink(&c, root, "roots", "t", &en), 0);
	assert_int_equal(fstatat(c.dir, "roots", &st, AT_SYMLINK_NOFOLLOW), 0);
	assert_true(S_ISLNK(st.st_mode));
	client_stop(&c, true);
}

/* Nothing but boxes uses it: each link is whose it was made or given to be. */
static void test_links_of_a_volume(void **state)
{
	const unsigned volume[] = {CLIENT_VOLUME};
	struct client c;
	struct fuse_entry_out d, en, again;
	struct fuse_attr_out a;
	char target[PATH_MAX + 1], far[PATH_MAX];
	struct stat st;

	client_start(&c, NULL, 1, volume, 100);
	uint64_t root = client_walk(&c, "");
	assert_int_equal(client_mkdir(&c, root, "d", 0777, &d), 0);
	c.uid = 5;
	c.gid = 6;
	assert_int_equal(client_symlink(&c, d.nodeid, "l", "../f", &en), 0);
	assert_int_equal(en.attr.uid, 5);
	assert_int_equal(en.attr.gid, 6);
	struct fuse_setattr_in own = {.valid = FATTR_UID | FATTR_GID, .uid = 7, .gid = 8};
	assert_int_equal(client_setattr(&c, en.nodeid, &own, &a), 0);
	assert_int_equal(a.attr.uid, 7);
	assert_int_equal(a.attr.gid, 8);
	assert_int_equal(a.attr.mode, S_IFLNK | 0777);
	assert_int_equal(a.attr.size, 4);
	struct fuse_setattr_in mode = {.valid = FATTR_MODE, .mode = 0600};
	assert_int_equal(client_setattr(&c, en.nodeid, &mode, &a), -EOPNOTSUPP);
	/* Two names, and another folder. */
	assert_int_equal(client_link(&c, en.nodeid, root, "l2"), 0);
	assert_int_equal(client_rename(&c, d.nodeid, "l", root, "l3", 0), 0);
	assert_int_equal(client_lookup(&c, root, "l3", &again), 0);
	assert_int_equal(again.nodeid, en.nodeid);
	assert_int_equal(again.attr.nlink, 2);
	assert_int_equal(again.attr.uid, 7);
	assert_int_equal(read_link(&c, again.nodeid, target, sizeof(target)), 4);
	assert_string_equal(target, "../f");
	assert_int_equal(client_symlink(&c, root, "l3", "t", &again), -EEXIST);
	assert_int_equal(client_unlink(&c, root, "l2"), 0);
	/* What the host has itself is as it is there; what has no target is no link. */
	assert_int_equal(symlinkat("real", c.dir, "r"), 0);
	assert_int_equal(client_lookup(&c, root, "r", &again), 0);
	assert_int_equal(again.attr.mode, S_IFLNK | 0777);
	assert_int_equal(client_setattr(&c, again.nodeid, &own, &a), 0);
	assert_int_equal(read_link(&c, again.nodeid, target, sizeof(target)), 4);
	assert_int_equal(client_mknod(&c, root, "f", S_IFREG | 0644, 0, &again), 0);
	assert_int_equal(read_link(&c, again.nodeid, target, sizeof(target)), -EINVAL);
	CLEANUP_CLOSE int fd = openat(c.dir, "l3", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	assert_int_equal(fsetxattr(fd, STORED_LINK, "a\0b", 3, 0), 0);
	assert_int_equal(read_link(&c, en.nodeid, target, sizeof(target)), -EINVAL);
	assert_int_equal(fsetxattr(fd, STORED_LINK, "", 0, 0), 0);
	assert_int_equal(read_link(&c, en.nodeid, target, sizeof(target)), -EINVAL);
	assert_int_equal(client_lookup(&c, root, "l3", &again), 0);
	assert_true(S_ISREG(again.attr.mode));
	/* The longest there is: kept, or where attributes have no room for it a real link. */
	memset(far, 'x', sizeof(far));
	far[PATH_MAX - 1] = '\0';
	assert_int_equal(client_symlink(&c, root, "far", far, &en), 0);
	assert_int_equal(en.attr.size, PATH_MAX - 1);
	assert_int_equal(read_link(&c, en.nodeid, target, sizeof(target)), PATH_MAX - 1);
	assert_string_equal(target, far);
	assert_int_equal(fstatat(c.dir, "far", &st, AT_SYMLINK_NOFOLLOW), 0);
	assert_int_equal(en.attr.uid, S_ISLNK(st.st_mode) ? 0 : 5);
	client_stop(&c, true);
}

static void test_setgid_folder(void **state)
{
	struct client c;
	struct fuse_entry_out d, en;
	struct fuse_open_out o;

	client_start(&c, NULL, 1, plain, 100);
	uint64_t root = client_walk(&c, "");
	c.gid = 50;
	assert_int_equal(client_mkdir(&c, root, "d", 02775, &d), 0);
	c.uid = 7;
	c.gid = 8;
	assert_int_equal(client_create(&c, d.nodeid, "f", O_RDWR, 0664, &en, &o), 0);
	assert_int_equal(en.attr.uid, 7);
	assert_int_equal(en.attr.gid, 50);
	assert_int_equal(client_mkdir(&c, d.nodeid, "d", 0755, &en), 0);
	assert_int_equal(en.attr.gid, 50);
	assert_int_equal(en.attr.mode, S_IFDIR | 02755);
	client_stop(&c, true);
}

static void test_change(void **state)
{
	struct client c;
	struct fuse_entry_out en;
	struct fuse_open_out o;
	struct fuse_attr_out a;
	struct stat st;
	char text[STORED_TEXT_MAX];

	client_start(&c, NULL, 1, plain, 100);
	uint64_t root = client_walk(&c, "");
	assert_int_equal(client_create(&c, root, "f", O_RDWR, 0755, &en, &o), 0);
	struct fuse_setattr_in in = {.valid = FATTR_MODE, .mode = S_IFREG | 06511};
	assert_int_equal(client_setattr(&c, en.nodeid, &in, &a), 0);
	assert_int_equal(a.attr.mode, S_IFREG | 06511);
	fstatat(c.dir, "f", &st, 0);
	assert_int_equal(st.st_mode & 07777, 0711); /* no setuid on the host */
	/* A new owner takes setuid and setgid away. */
	in = (struct fuse_setattr_in){
		.valid = FATTR_UID | FATTR_GID | FATTR_KILL_SUIDGID, .uid = 999, .gid = 1000};
	assert_int_equal(client_setattr(&c, en.nodeid, &in, &a), 0);
	assert_int_equal(a.attr.mode, S_IFREG | 0511);
	assert_int_equal(a.attr.uid, 999);
	in.uid = UINT32_MAX;
	assert_int_equal(client_setattr(&c, en.nodeid, &in, &a), -EINVAL);
	/* Back to what the host shows by itself: the attribute goes, and the host's chmod is seen. */
	in = (struct fuse_setattr_in){.valid = FATTR_UID | FATTR_GID | FATTR_MODE, .mode = 0644};
	assert_int_equal(client_setattr(&c, en.nodeid, &in, &a), 0);
	assert_true(stored(&c, "f", text) < 0);
	assert_int_equal(fchmodat(c.dir, "f", 0640, 0), 0);
	assert_int_equal(client_getattr(&c, en.nodeid, &a), 0);
	assert_int_equal(a.attr.mode, S_IFREG | 0640);
	/* Size and times. */
	in = (struct fuse_setattr_in){.valid = FATTR_SIZE | FATTR_FH, .size = 1000, .fh = o.fh};
	assert_int_equal(client_setattr(&c, en.nodeid, &in, &a), 0);
	assert_int_equal(a.attr.size, 1000);
	in = (struct fuse_setattr_in){.valid = FATTR_SIZE, .size = 10};
	assert_int_equal(client_setattr(&c, en.nodeid, &in, &a), 0);
	assert_int_equal(a.attr.size, 10);
	in.size = UINT64_MAX;
	assert_int_equal(client_setattr(&c, en.nodeid, &in, &a), -EFBIG);
	in = (struct fuse_setattr_in){
		.valid = FATTR_ATIME | FATTR_MTIME, .atime = 5, .atimensec = 6, .mtime = 7, .mtimensec = 8};
	assert_int_equal(client_setattr(&c, en.nodeid, &in, &a), 0);
	assert_int_equal(a.attr.atime, 5);
	assert_int_equal(a.attr.mtime, 7);
	assert_int_equal(a.attr.mtimensec, 8);
	in.mtimensec = 1000000000;
	assert_int_equal(client_setattr(&c, en.nodeid, &in, &a), -EINVAL);
	in = (struct fuse_setattr_in){.valid = FATTR_MTIME | FATTR_MTIME_NOW};
	assert_int_equal(client_setattr(&c, en.nodeid, &in, &a), 0);
	assert_int_equal(a.attr.atime, 5);
	assert_true(a.attr.mtime > 1000);
	client_stop(&c, true);
}

/* What a host's program wrote there is a text as any other. */
static void test_bad_attribute(void **state)
{
	static const char *const bad[] = {"", "nonsense", "40755 1 1 0:0", "120777 1 1 0:0",
		"100644 1 1 0:0 ", "100644 4294967295 1 0:0"};
	struct client c;
	struct fuse_attr_out a;

	client_start(&c, NULL, 1, plain, 100);
	CLEANUP_CLOSE int fd = openat(c.dir, "f", O_CREAT | O_RDWR | O_CLOEXEC, 0604);
	uint64_t f = client_walk(&c, "f");
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		assert_int_equal(fsetxattr(fd, STORED_STAT, bad[i], strlen(bad[i]), 0), 0);
		assert_int_equal(client_getattr(&c, f, &a), 0);
		assert_int_equal(a.attr.mode, S_IFREG | 0604);
		assert_int_equal(a.attr.uid, 0);
	}
	client_stop(&c, true);
}

static void test_privileges_go(void **state)
{
	struct client c;
	struct fuse_entry_out en;
	struct fuse_open_out o;
	struct fuse_attr_out a;
	char b[8];

	client_start(&c, NULL, 1, plain, 100);
	uint64_t root = client_walk(&c, "");
	assert_int_equal(client_create(&c, root, "f", O_RDWR, 0755, &en, &o), 0);
	struct fuse_setattr_in set = {.valid = FATTR_MODE, .mode = 06775};
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(client_setattr(&c, en.nodeid, &set, NULL), 0);
		assert_int_equal(client_setxattr(&c, en.nodeid, "security.capability", "cap", 3), 0);
		if (i == 0) { /* who may keep setuid keeps it; capabilities never stay */
			assert_int_equal(client_write(&c, en.nodeid, o.fh, 0, "x", 1, 0, 0), 1);
		} else if (i == 1) {
			assert_int_equal(
				client_write(&c, en.nodeid, o.fh, 0, "x", 1, 0, FUSE_WRITE_KILL_SUIDGID), 1);
		} else if (i == 2) {
			struct fuse_setattr_in size = {.valid = FATTR_SIZE | FATTR_KILL_SUIDGID};
			assert_int_equal(client_setattr(&c, en.nodeid, &size, NULL), 0);
		} else {
			struct fuse_open_in in = {
				.flags = O_WRONLY | O_TRUNC, .open_flags = FUSE_OPEN_KILL_SUIDGID};
			struct fuse_open_out o2;
			assert_int_equal(client_call(&c, FUSE_OPEN, en.nodeid, &in, sizeof(in), NULL, 0, &o2,
						 sizeof(o2)),
				sizeof(o2));
		}
		assert_int_equal(client_getattr(&c, en.nodeid, &a), 0);
		assert_int_equal(a.attr.mode, S_IFREG | (i ? 0775 : 06775));
		assert_int_equal(client_getxattr(&c, en.nodeid, "security.capability", b, 8), -ENODATA);
	}
	client_stop(&c, true);
}

static void test_xattr(void **state)
{
	struct client c;
	char b[256];
	static char big[XATTR_VALUE_MAX];

	client_start(&c, NULL, 1, plain, 100);
	CLEANUP_CLOSE int fd = openat(c.dir, "f", O_CREAT | O_RDWR | O_CLOEXEC, 0644);
	uint64_t f = client_walk(&c, "f");
	c.uid = 3;
	struct fuse_setattr_in own = {.valid = FATTR_UID, .uid = 9};
	assert_int_equal(client_setattr(&c, f, &own, NULL), 0);
	assert_int_equal(client_setxattr(&c, f, "user.a", "value", 5), 0);
	assert_int_equal(client_setxattr(&c, f, "trusted.overlay.opaque", "y", 1), 0);
	assert_int_equal(client_getxattr(&c, f, "user.a", b, sizeof(b)), 5);
	assert_int_equal(client_getxattr(&c, f, "user.a", b, 0), 5);
	assert_int_equal(client_getxattr(&c, f, "user.a", b, 4), -ERANGE);
	assert_int_equal(client_getxattr(&c, f, "trusted.overlay.opaque", b, sizeof(b)), 1);
	assert_int_equal(fgetxattr(fd, "user.a3s.x.trusted.overlay.opaque", b, sizeof(b)), 1);
	/* Ours are not the box's to see or set. */
	assert_int_equal(client_getxattr(&c, f, STORED_STAT, b, sizeof(b)), -ENODATA);
	assert_int_equal(client_setxattr(&c, f, STORED_STAT, "100777 0 0 0:0", 14), -EPERM);
	assert_int_equal(client_setxattr(&c, f, "user.a3s.x.security.capability", "x", 1), -EPERM);
	assert_int_equal(client_setxattr(&c, f, "system.posix_acl_access", "x", 1), -EOPNOTSUPP);
	assert_int_equal(client_setxattr(&c, f, "nothing", "x", 1), -EOPNOTSUPP);
	assert_int_equal(client_setxattr(&c, f, "user.b", big, sizeof(big)) < 0,
		1); /* ENOSPC or E2BIG, by the file system */
	struct fuse_getxattr_in in = {.size = sizeof(b)};
	struct fuse_getxattr_out out;
	int n = client_call(&c, FUSE_LISTXATTR, f, &in, sizeof(in), NULL, 0, b, sizeof(b));
	assert_int_equal(n, sizeof("user.a") + sizeof("trusted.overlay.opaque"));
	in.size = 0;
	assert_int_equal(
		client_call(&c, FUSE_LISTXATTR, f, &in, sizeof(in), NULL, 0, &out, sizeof(out)), sizeof(out));
	assert_int_equal(out.size, n);
	assert_int_equal(client_call(&c, FUSE_REMOVEXATTR, f, "user.a", 7, NULL, 0, NULL, 0), 0);
	assert_int_equal(
		client_call(&c, FUSE_REMOVEXATTR, f, STORED_STAT, sizeof(STORED_STAT), NULL, 0, NULL, 0),
		-EPERM);
	assert_int_equal(client_getxattr(&c, f, "user.a", b, sizeof(b)), -ENODATA);
	client_stop(&c, true);
}

/* A file system that keeps none of this: ramfs, in a mount namespace of our own. */
static void test_without_attributes(void **state)
{
	struct client c;
	struct fuse_entry_out en;
	struct fuse_open_out o;
	struct fuse_attr_out a;
	char base[] = "/tmp/fs-test-ram-XXXXXX";

	if (geteuid() != 0 || unshare(CLONE_NEWNS) < 0 ||
		mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
		print_message("not permitted to mount\n");
		skip();
	}
	assert_non_null(mkdtemp(base));
	assert_int_equal(mount("none", base, "ramfs", 0, NULL), 0);
	client_start(&c, base, 1, plain, 100);
	uint64_t root = client_walk(&c, "");
	c.uid = 999;
	assert_int_equal(client_create(&c, root, "f", O_RDWR, 0640, &en, &o), 0);
	assert_int_equal(en.attr.uid, geteuid());
	assert_int_equal(client_mkdir(&c, root, "d", 0750, &en), 0);
	struct fuse_setattr_in in = {.valid = FATTR_MODE, .mode = 0700};
	assert_int_equal(client_setattr(&c, en.nodeid, &in, &a), 0);
	assert_int_equal(a.attr.mode & 07777, 0700);
	in.mode = 04755;
	assert_int_equal(client_setattr(&c, en.nodeid, &in, &a), -EPERM);
	in = (struct fuse_setattr_in){.valid = FATTR_UID, .uid = a.attr.uid};
	assert_int_equal(client_setattr(&c, en.nodeid, &in, &a), 0);
	in.uid = 77;
	assert_int_equal(client_setattr(&c, en.nodeid, &in, &a), -EPERM);
	assert_int_equal(client_mknod(&c, root, "fifo", S_IFIFO | 0600, 0, &en), -EOPNOTSUPP);
	assert_int_equal(client_lookup(&c, root, "fifo", &en), -ENOENT);
	assert_int_equal(fchmod(c.dir, 01777), 0);
	assert_int_equal(client_symlink(&c, root, "real", "t", &en), 0);
	assert_int_equal(en.attr.mode, S_IFLNK | 0777);
	client_stop(&c, true);
	assert_int_equal(umount(base), 0);
	assert_int_equal(rmdir(base), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_create),
		cmocka_unit_test(test_links_of_the_host),
		cmocka_unit_test(test_links_of_a_volume),
		cmocka_unit_test(test_setgid_folder),
		cmocka_unit_test(test_change),
		cmocka_unit_test(test_bad_attribute),
		cmocka_unit_test(test_privileges_go),
		cmocka_unit_test(test_xattr),
		cmocka_unit_test(test_without_attributes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
