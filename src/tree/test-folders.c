/* SPDX-License-Identifier: MIT */
/* Folders read and written: everything a file is comes along, what is there stays or gives way by rules, nothing leads out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include "base/io.h"
#include "inside.h"
#include "test-copy.h"
#include "tree/stored.h"

static struct copy_world world;
static int from, to;

static int setup(void **state)
{
	copy_world_new(&world);
	from = copy_folder(&world, "from");
	to = copy_folder(&world, "to");
	return 0;
}

static int teardown(void **state)
{
	close_fd(&from);
	close_fd(&to);
	copy_world_done(&world);
	return 0;
}

static int copy(int src, const char *src_name, const struct tree_read_opts *ro, int dst, const char *dst_name,
	const struct tree_write_opts *wo, struct err *e)
{
	CLEANUP(tree_writer_freep) struct tree_writer *w = NULL;

	*e = (struct err){0};
	assert_int_equal(tree_writer_new(dst, dst_name, wo, &w, e), 0);
	return tree_read_folder(src, src_name, ro, tree_writer_sink(w), e);
}

static const struct tree_read_opts plain_read;
static const struct tree_write_opts fill_root = {.root_attr = true};

static void assert_copied(int src, int dst)
{
	CLEANUP_FREE char *a = copy_describe(src);
	CLEANUP_FREE char *b = copy_describe(dst);

	assert_string_equal(a, b);
}

static void set_time(int dir, const char *name, long long s, long ns)
{
	struct timespec times[2] = {{.tv_sec = 1}, {.tv_sec = s, .tv_nsec = ns}};

	assert_int_equal(utimensat(dir, name, times, AT_SYMLINK_NOFOLLOW), 0);
}

static void make_variety(int dir)
{
	copy_file(dir, "file", "content\n", 0640);
	copy_file(dir, "empty", "", 0444);
	copy_file(dir, "\n\x1b[2J \xff", "odd name", 0755);
	assert_int_equal(mkdirat(dir, "folder", 0755), 0);
	assert_int_equal(mkdirat(dir, "folder/below", 0755), 0);
	assert_int_equal(mkdirat(dir, "none", 0711), 0);
	copy_file(dir, "folder/below/x", "deep", 0600);
	assert_int_equal(symlinkat("/etc/passwd", dir, "absolute"), 0);
	assert_int_equal(symlinkat("nowhere/../..", dir, "folder/dangling"), 0);
	assert_int_equal(linkat(dir, "file", dir, "folder/second", 0), 0);
	assert_int_equal(linkat(dir, "file", dir, "zzz", 0), 0);
	assert_int_equal(mkfifoat(dir, "fifo", 0622), 0);
	assert_int_equal(fchmodat(dir, "fifo", 0622, 0), 0);
	set_time(dir, "file", 1000000000, 123456789);
	set_time(dir, "absolute", -5, 7);
	set_time(dir, "fifo", 5, 0);
	set_time(dir, "folder/below", 77, 1);
	assert_int_equal(fchmodat(dir, "folder/below", 0555, 0), 0);
	set_time(dir, "folder", 78, 2);
}

static void a_tree_comes_whole(void **state)
{
	struct err e;

	make_variety(from);
	assert_int_equal(copy(from, "", &plain_read, to, "", &fill_root, &e), 0);
	assert_copied(from, to);
	/* Once more over it: all files are new, the folders keep what they have. And as another name. */
	assert_int_equal(fchmodat(to, "folder/below", 0755, 0), 0);
	copy_file(to, "folder/below/x", "changed", 0600);
	assert_int_equal(copy(world.dir, "from", &plain_read, to, "", &fill_root, &e), 0);
	copy_assert_text(to, "folder/below/x", "deep");
	copy_assert_text(to, "folder/second", "content\n");
	assert_int_equal(copy(world.dir, "from", &plain_read, world.dir, "new", &fill_root, &e), 0);
	CLEANUP_CLOSE int fresh = openat(world.dir, "new", O_PATH | O_DIRECTORY | O_CLOEXEC);
	assert_copied(from, fresh);
}

static void sparse_files_stay_sparse(void **state)
{
	CLEANUP_CLOSE int fd = openat(from, "sparse", O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	struct stat a, b;
	struct err e;

	assert_int_equal(io_pwrite_full(fd, "begin", 5, 1 << 20), 0);
	assert_int_equal(io_pwrite_full(fd, "end", 3, 64 << 20), 0);
	assert_int_equal(ftruncate(fd, 200 << 20), 0);
	assert_int_equal(fstat(fd, &a), 0);
	assert_int_equal(copy(from, "", &plain_read, to, "", &fill_root, &e), 0);
	assert_int_equal(fstatat(to, "sparse", &b, 0), 0);
	assert_int_equal(b.st_size, 200 << 20);
	assert_copied(from, to);
	assert_true(b.st_blocks <= a.st_blocks + 1024);
}

static void a_single_file_has_the_name_it_is_given(void **state)
{
	struct err e;

	copy_file(from, "f", "one", 0751);
	assert_int_equal(symlinkat("f", from, "l"), 0);
	assert_int_equal(copy(from, "f", &plain_read, to, "g", &fill_root, &e), 0);
	copy_assert_text(to, "g", "one");
	assert_int_equal(copy(from, "l", &plain_read, to, "l", &fill_root, &e), 0);
	char target[8] = "";
	assert_int_equal(readlinkat(to, "l", target, sizeof(target)), 1);
	/* Followed, it is the file; and a link in the way is replaced, not written through. */
	const struct tree_read_opts follow = {.follow = true};
	copy_file(to, "f", "untouched", 0600);
	assert_int_equal(copy(from, "l", &follow, to, "l", &fill_root, &e), 0);
	copy_assert_text(to, "l", "one");
	copy_assert_text(to, "f", "untouched");
	/* A file has no place where only a folder has. */
	assert_int_equal(copy(from, "f", &plain_read, to, "", &fill_root, &e), -EISDIR);
	assert_int_equal(copy(from, "absent", &plain_read, to, "x", &fill_root, &e), -ENOENT);
	assert_non_null(strstr(e.msg, "absent"));
}

static void files_and_folders_do_not_replace_each_other(void **state)
{
	struct err e;

	copy_file(from, "a", "new", 0600);
	assert_int_equal(mkdirat(to, "a", 0700), 0);
	assert_int_equal(copy(from, "", &plain_read, to, "", &fill_root, &e), -EISDIR);
	assert_non_null(strstr(e.msg, "\"a\""));
	assert_int_equal(unlinkat(from, "a", 0), 0);
	assert_int_equal(mkdirat(from, "a", 0700), 0);
	assert_int_equal(unlinkat(to, "a", AT_REMOVEDIR), 0);
	copy_file(to, "a", "old", 0600);
	assert_int_equal(copy(from, "", &plain_read, to, "", &fill_root, &e), -ENOTDIR);
	copy_assert_text(to, "a", "old");
	/* A link to a folder is none. */
	assert_int_equal(unlinkat(to, "a", 0), 0);
	assert_int_equal(mkdirat(to, "elsewhere", 0700), 0);
	assert_int_equal(symlinkat("elsewhere", to, "a"), 0);
	copy_file(from, "a/file", "x", 0600);
	assert_int_equal(copy(from, "", &plain_read, to, "", &fill_root, &e), -ENOTDIR);
	assert_int_equal(faccessat(to, "elsewhere/file", F_OK, 0), -1);
	/* Nor is one that stands for the root. */
	assert_int_equal(copy(from, "a", &plain_read, to, "a", &fill_root, &e), -ENOTDIR);
	/* No temporary file is left by any of them. */
	CLEANUP_FREE char *text = copy_describe(to);
	assert_null(strstr(text, ".a3s-"));
}

static void what_is_there_stays(void **state)
{
	struct err e;
	struct stat st;

	assert_int_equal(mkdirat(from, "d", 0700), 0);
	copy_file(from, "d/new", "new", 0600);
	copy_file(from, "d/both", "from", 0600);
	assert_int_equal(fchmodat(from, "d", 0777, 0), 0);
	assert_int_equal(mkdirat(to, "d", 0700), 0);
	copy_file(to, "d/old", "old", 0600);
	copy_file(to, "d/both", "to", 0600);
	/* A box cannot open a folder of the user's to others. */
	const struct tree_write_opts self = {.owner = TREE_OWNER_SELF};
	assert_int_equal(copy(from, "", &plain_read, to, "", &self, &e), 0);
	copy_assert_text(to, "d/old", "old");
	copy_assert_text(to, "d/new", "new");
	copy_assert_text(to, "d/both", "from");
	assert_int_equal(fstatat(to, "d", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	/* The root's own attributes come only when asked for. */
	assert_int_equal(fchmodat(world.dir, "from", 0705, 0), 0);
	assert_int_equal(copy(from, "", &plain_read, to, "", &self, &e), 0);
	assert_int_equal(fstatat(world.dir, "to", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0755);
	assert_int_equal(copy(from, "", &plain_read, to, "", &fill_root, &e), 0);
	assert_int_equal(fstatat(world.dir, "to", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0705);
}

static void a_further_name_replaces_too(void **state)
{
	struct stat a, b;
	struct err e;

	copy_file(from, "a", "new", 0600);
	assert_int_equal(linkat(from, "a", from, "b", 0), 0);
	copy_file(to, "b", "old", 0600);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(copy(from, "", &plain_read, to, "", &fill_root, &e), 0);
		assert_int_equal(fstatat(to, "a", &a, 0), 0);
		assert_int_equal(fstatat(to, "b", &b, 0), 0);
		assert_true(a.st_ino == b.st_ino);
		assert_int_equal(a.st_nlink, 2);
	}
}

static void privileges_do_not_come_from_elsewhere(void **state)
{
	struct stat st;
	struct err e;

	copy_file(from, "s", "x", 06755);
	assert_int_equal(copy(from, "", &plain_read, to, "", &fill_root, &e), 0);
	assert_int_equal(fstatat(to, "s", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0755);
}

static void extended_attributes(void **state)
{
	char name[128], value[64];
	struct err e;

	copy_file(from, "f", "x", 0600);
	snprintf(name, sizeof(name), "%s/from/f", world.path);
	if (setxattr(name, "user.color", "r\0d", 3, 0) < 0) {
		printf("# no extended attributes below /tmp: skipped\n");
		skip();
	}
	assert_int_equal(setxattr(name, "user.empty", "", 0, 0), 0);
	assert_int_equal(setxattr(name, STORED_STAT, "100644 0 0 0:0", 14, 0), 0);
	assert_int_equal(copy(from, "", &plain_read, to, "", &fill_root, &e), 0);
	snprintf(name, sizeof(name), "%s/to/f", world.path);
	assert_int_equal(getxattr(name, "user.color", value, sizeof(value)), 3);
	assert_memory_equal(value, "r\0d", 3);
	assert_int_equal(getxattr(name, "user.empty", value, sizeof(value)), 0);
	assert_int_equal(getxattr(name, STORED_STAT, value, sizeof(value)), -1);
}

/* ---- what is kept in attributes ---- */

static int give(const struct tree_sink *sink, const struct wire_entry *en, struct err *e)
{
	*e = (struct err){0};
	return sink->entry(sink->data, en, e);
}

static void stored_owners(void **state)
{
	const struct tree_write_opts o = {.owner = TREE_OWNER_STORED, .root_attr = true, .sync = true};
	struct wire_xattr forged = {(char *)STORED_STAT, (uint8_t *)"104755 0 0 0:0", 14};
	char far[PATH_MAX], back[PATH_MAX];
	const struct wire_entry all[] = {
		{.path = (char *)"", .mode = S_IFDIR | 01777, .uid = 7},
		{.path = (char *)"s",
			.mode = S_IFREG | 04511,
			.uid = 999,
			.gid = 5,
			.xattrs = &forged,
			.n_xattrs = 1},
		{.path = (char *)"c", .mode = S_IFCHR | 0660, .major = 1, .minor = 3},
		{.path = (char *)"p", .mode = S_IFIFO | 0600},
		{.path = (char *)"l", .mode = S_IFLNK | 0777, .uid = 3, .gid = 4, .target = (char *)"to/s"},
		{.path = (char *)"l2", .link = (char *)"l"},
		{.path = (char *)"far", .mode = S_IFLNK | 0777, .target = far},
	};
	CLEANUP(tree_writer_freep) struct tree_writer *w = NULL;
	char name[128], value[64] = "";
	struct stat st;
	struct err e;

	memset(far, 'x', sizeof(far));
	far[PATH_MAX - 1] = '\0';
	snprintf(name, sizeof(name), "%s/to", world.path);
	if (setxattr(name, "user.x", "", 0, 0) < 0) {
		printf("# no extended attributes below /tmp: skipped\n");
		skip();
	}
	assert_int_equal(tree_writer_new(to, "", &o, &w, &e), 0);
	const struct tree_sink *sink = tree_writer_sink(w);
	for (size_t i = 0; i < ARRAY_LEN(all); i++)
		assert_int_equal(give(sink, &all[i], &e), 0);
	assert_int_equal(sink->end(sink->data, &e), 0);
	snprintf(name, sizeof(name), "%s/to/s", world.path);
	assert_int_equal(getxattr(name, STORED_STAT, value, sizeof(value)), 16);
	assert_string_equal(value, "104511 999 5 0:0");
	assert_int_equal(fstatat(to, "s", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0711);
	assert_int_equal(st.st_uid, geteuid());
	assert_int_equal(fstatat(to, "c", &st, 0), 0);
	assert_true(S_ISREG(st.st_mode) && st.st_size == 0);
	assert_int_equal(fstatat(to, "p", &st, 0), 0);
	assert_true(S_ISREG(st.st_mode));
	assert_int_equal(fstatat(to, "l", &st, AT_SYMLINK_NOFOLLOW), 0);
	assert_true(S_ISREG(st.st_mode) && st.st_size == 0 && st.st_nlink == 2);
	snprintf(name, sizeof(name), "%s/to/l2", world.path);
	memset(value, 0, sizeof(value));
	assert_int_equal(getxattr(name, STORED_STAT, value, sizeof(value)), 14);
	assert_string_equal(value, "120777 3 4 0:0");
	memset(value, 0, sizeof(value));
	assert_int_equal(getxattr(name, STORED_LINK, value, sizeof(value)), 4);
	assert_string_equal(value, "to/s");
	/* One that has no room in attributes is a real link. */
	snprintf(name, sizeof(name), "%s/to/far", world.path);
	if (readlink(name, back, sizeof(back)) != PATH_MAX - 1)
		assert_int_equal(getxattr(name, STORED_LINK, back, sizeof(back)), PATH_MAX - 1);
	assert_memory_equal(back, far, PATH_MAX - 1);
	snprintf(name, sizeof(name), "%s/to", world.path);
	memset(value, 0, sizeof(value));
	assert_true(getxattr(name, STORED_STAT, value, sizeof(value)) > 0);
	assert_string_equal(value, "41777 7 0 0:0");
}

/* ---- what a writer refuses ---- */

static void hostile_entries(void **state)
{
	static const struct {
		struct wire_entry en;
		int result;
	} all[] = {
		{{.path = (char *)"../x", .mode = S_IFREG | 0600}, -EINVAL},
		{{.path = (char *)"/x", .mode = S_IFREG | 0600}, -EINVAL},
		{{.path = (char *)"missing/x", .mode = S_IFREG | 0600}, -ENOENT},
		{{.path = (char *)"out/x", .mode = S_IFREG | 0600}, -ENOTDIR},
		{{.path = (char *)"out", .mode = S_IFDIR | 0700}, -ENOTDIR},
		{{.path = (char *)"y", .link = (char *)"out/secret"}, -ENOTDIR},
		{{.path = (char *)"y", .link = (char *)"missing"}, -ENOENT},
		{{.path = (char *)"y", .link = (char *)"sub"}, -EBADMSG},
		{{.path = (char *)"w", .whiteout = true}, -EINVAL},
		{{.path = (char *)"sub", .mode = S_IFDIR | 0700, .opaque = true}, -EINVAL},
		{{.path = (char *)"dev", .mode = S_IFCHR | 0600, .major = 1, .minor = 3}, -EPERM},
		{{.path = (char *)"bad", .mode = S_IFREG | 0600, .uid = UINT32_MAX}, -EINVAL},
	};
	CLEANUP_CLOSE int outside = copy_folder(&world, "outside");

	copy_file(outside, "secret", "s", 0600);
	assert_int_equal(symlinkat("../outside", to, "out"), 0);
	assert_int_equal(mkdirat(to, "sub", 0700), 0);
	for (size_t i = 0; i < ARRAY_LEN(all); i++) {
		CLEANUP(tree_writer_freep) struct tree_writer *w = NULL;
		struct err e = {0};

		assert_int_equal(tree_writer_new(to, "", &fill_root, &w, &e), 0);
		int r = give(tree_writer_sink(w), &all[i].en, &e);
		if (r != all[i].result)
			fail_msg("case %zu: %d, %s", i, r, e.msg);
		assert_int_equal(e.code, r);
	}
	CLEANUP_FREE char *text = copy_describe(outside);
	assert_int_equal(
		strchr(text, '\n') - text + 1, (long)strlen(text)); /* one line: the secret, with one name */
	assert_non_null(strstr(text, " 1 \"\" "));
}

/* What was there has no further name by a sender's entry, whatever that says came before under the same name. */
static void links_lead_only_to_what_came(void **state)
{
	const struct wire_entry root = {.path = (char *)"", .mode = S_IFDIR | 0700},
				folder = {.path = (char *)"pub", .mode = S_IFDIR | 0700},
				sock = {.path = (char *)"secret", .mode = S_IFSOCK | 0600},
				file = {.path = (char *)"secret", .mode = S_IFREG | 0600},
				alias = {.path = (char *)"pub/alias", .link = (char *)"secret"},
				again = {.path = (char *)"pub/again", .link = (char *)"pub/alias"};
	const struct wire_entry *const hostile[] = {&root, &sock, &folder, &alias}, *const honest[] = {&root,
											    &file, &folder,
											    &alias, &again};
	struct err e = {0};
	struct stat st;

	copy_file(to, "secret", "own", 0600);
	for (int round = 0; round < 2; round++) {
		CLEANUP(tree_writer_freep) struct tree_writer *w = NULL;
		const struct wire_entry *const *all = round ? honest : hostile;
		size_t n = round ? ARRAY_LEN(honest) : ARRAY_LEN(hostile);
		assert_int_equal(tree_writer_new(to, "", &fill_root, &w, &e), 0);
		for (size_t i = 0; i < n; i++)
			assert_int_equal(
				give(tree_writer_sink(w), all[i], &e), !round && i == n - 1 ? -EBADMSG : 0);
		if (!round) {
			copy_assert_text(to, "secret", "own");
			assert_int_equal(fstatat(to, "pub/alias", &st, AT_SYMLINK_NOFOLLOW), -1);
		}
	}
	assert_int_equal(fstatat(to, "pub/again", &st, AT_SYMLINK_NOFOLLOW), 0);
	assert_int_equal(st.st_nlink, 3);
}

static void limits_and_misplaced_content(void **state)
{
	const struct wire_entry root = {.path = (char *)"", .mode = S_IFDIR | 0700},
				file = {.path = (char *)"f", .mode = S_IFREG | 0600, .size = 100};
	const struct tree_write_opts few = {.max_entries = 2}, small = {.max_bytes = 10};
	CLEANUP(tree_writer_freep) struct tree_writer *w = NULL;
	CLEANUP(tree_writer_freep) struct tree_writer *v = NULL;
	struct err e;

	assert_int_equal(tree_writer_new(to, "", &few, &w, &e), 0);
	const struct tree_sink *s = tree_writer_sink(w);
	assert_int_equal(give(s, &root, &e), 0);
	assert_int_equal(s->content(s->data, 0, "x", 1, &e), -EBADMSG);
	assert_int_equal(give(s, &file, &e), 0);
	assert_int_equal(give(s, &file, &e), -E2BIG);
	assert_int_equal(tree_writer_new(to, "", &small, &v, &e), 0);
	s = tree_writer_sink(v);
	assert_int_equal(give(s, &file, &e), 0);
	assert_int_equal(s->content(s->data, 50, "12345", 5, &e), 0);
	assert_int_equal(s->content(s->data, 54, "x", 1, &e), -EBADMSG);
	assert_int_equal(s->content(s->data, 100, "x", 1, &e), -EBADMSG);
	assert_int_equal(s->content(s->data, 99, "xx", 2, &e), -EBADMSG);
	assert_int_equal(s->content(s->data, 60, "123456", 6, &e), -EFBIG);
	/* What is not complete leaves nothing behind. */
	tree_writer_free(TAKE_PTR(v));
	tree_writer_free(TAKE_PTR(w));
	CLEANUP_FREE char *text = copy_describe(to);
	assert_null(strstr(text, ".a3s-"));
}

static void a_full_disk_leaves_nothing_behind(void **state)
{
	const struct rlimit old = {RLIM_INFINITY, RLIM_INFINITY}, little = {65536, RLIM_INFINITY};
	static char text[100001];
	struct err e;

	memset(text, 'x', sizeof(text) - 1);
	copy_file(from, "f", text, 0600);
	copy_file(to, "f", "old", 0600);
	/* A limit of file sizes is what an ordinary user can have instead: also EFBIG in the middle of a write. */
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &little), 0);
	int r = copy(from, "", &plain_read, to, "", &fill_root, &e);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_int_equal(r, -EFBIG);
	copy_assert_text(to, "f", "old");
	CLEANUP_FREE char *list = copy_describe(to);
	assert_null(strstr(list, ".a3s-"));
}

/* ---- depth, sockets, mounts ---- */

static void the_deepest_tree_needs_few_descriptors(void **state)
{
	struct rlimit old, few = {200, 0};
	CLEANUP_CLOSE int at = dup(from);
	struct stat st;
	struct err e;
	int depth = 0;

	/* The tree is as deep as a path can say: 2,048 folders with names of one byte. */
	while (depth < 2048) {
		assert_int_equal(mkdirat(at, "d", 0700), 0);
		int next = openat(at, "d", O_PATH | O_DIRECTORY | O_CLOEXEC);
		assert_true(next >= 0);
		close(at);
		at = next;
		depth++;
	}
	/* A name beside each on the way back up would exceed the path; one near the middle makes both sides come back. */
	copy_file(from, "d/d/d/z", "up", 0600);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	few.rlim_max = old.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	int r = copy(from, "", &plain_read, to, "", &fill_root, &e);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	assert_int_equal(r, 0);
	copy_assert_text(to, "d/d/d/z", "up");
	close_fd(&at);
	at = dup(to);
	for (depth = 0; depth < 2048; depth++) {
		int next = openat(at, "d", O_PATH | O_DIRECTORY | O_CLOEXEC);
		assert_true(next >= 0);
		close(at);
		at = next;
	}
	/* One more has no path any more. */
	close_fd(&at);
	at = dup(from);
	for (depth = 0; depth < 2048; depth++) {
		int next = openat(at, "d", O_PATH | O_DIRECTORY | O_CLOEXEC);
		close(at);
		at = next;
	}
	assert_int_equal(fstat(at, &st), 0);
	assert_int_equal(mkdirat(at, "e", 0700), 0);
	assert_int_equal(copy(from, "", &plain_read, to, "", &fill_root, &e), -ENAMETOOLONG);
}

/* What the sanitizers and io_remove_tree_at need: a shallow tree again. */
static int teardown_deep(void **state)
{
	const char *const names[] = {"from", "to"};

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		CLEANUP_CLOSE int at = openat(world.dir, names[i], O_PATH | O_DIRECTORY | O_CLOEXEC);
		int depth = 0;

		unlinkat(at, "d/d/d/z", 0);
		for (;; depth++) {
			int next = openat(at, "d", O_PATH | O_DIRECTORY | O_CLOEXEC);
			if (next < 0)
				break;
			close(at);
			at = next;
		}
		unlinkat(at, "e", AT_REMOVEDIR);
		while (depth-- > 0) {
			int up = openat(at, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
			unlinkat(up, "d", AT_REMOVEDIR);
			close(at);
			at = up;
		}
	}
	return teardown(state);
}

static void sockets_are_passed_over(void **state)
{
	CLEANUP_CLOSE int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	struct err e;

	snprintf(a.sun_path, sizeof(a.sun_path), "%s/from/socket", world.path);
	assert_int_equal(bind(s, (struct sockaddr *)&a, sizeof(a)), 0);
	copy_file(from, "z", "x", 0600);
	assert_int_equal(copy(from, "", &plain_read, to, "", &fill_root, &e), 0);
	copy_assert_text(to, "z", "x");
	assert_int_equal(faccessat(to, "socket", F_OK, 0), -1);
	assert_int_equal(copy(from, "socket", &plain_read, to, "s", &fill_root, &e), -EINVAL);
}

static void only_the_root_when_only_that_is_asked(void **state)
{
	const struct tree_read_opts o = {.no_content = true};
	struct err e;
	struct stat st;

	copy_file(from, "f", "content", 0640);
	assert_int_equal(copy(world.dir, "from", &o, to, "d", &fill_root, &e), 0);
	assert_int_equal(faccessat(to, "d/f", F_OK, 0), -1);
	assert_int_equal(copy(from, "f", &o, to, "f", &fill_root, &e), 0);
	assert_int_equal(fstatat(to, "f", &st, 0), 0);
	assert_int_equal(st.st_size, 7); /* as the entry says, without what is in it */
}

/* ---- what the kernel makes up ---- */

static void made_up_files_have_their_true_length(void **state)
{
	CLEANUP_CLOSE int kernel = open("/proc/sys/kernel", O_PATH | O_DIRECTORY | O_CLOEXEC);
	CLEANUP_CLOSE int self = open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct err e;
	struct stat st;

	assert_int_equal(copy(kernel, "ostype", &plain_read, to, "o", &fill_root, &e), 0);
	copy_assert_text(to, "o", "Linux\n");
	/* Over a page, and a folder of them. */
	assert_int_equal(copy(self, "smaps", &plain_read, to, "s", &fill_root, &e), 0);
	assert_int_equal(fstatat(to, "s", &st, 0), 0);
	assert_true(st.st_size > 4096);
	assert_int_equal(copy(kernel, "random", &plain_read, to, "r", &fill_root, &e), 0);
	assert_int_equal(fstatat(to, "r/boot_id", &st, 0), 0);
	assert_int_equal(st.st_size, 37); /* a UUID and a line's end */
}

/* ---- what is passed over ---- */

static void folders_that_are_passed_over_come_empty(void **state)
{
	struct tree_file_id id;
	const struct tree_read_opts o = {.pass_over = &id, .n_pass_over = 1};
	struct stat st;
	struct err e;

	assert_int_equal(mkdirat(from, "p", 0751), 0);
	copy_file(from, "p/f", "x", 0600);
	copy_file(from, "q", "y", 0600);
	assert_int_equal(fstatat(from, "p", &st, 0), 0);
	id = (struct tree_file_id){st.st_dev, st.st_ino};
	assert_int_equal(copy(from, "", &o, to, "", &fill_root, &e), 0);
	assert_int_equal(fstatat(to, "p", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0751);
	assert_int_equal(faccessat(to, "p/f", F_OK, 0), -1);
	copy_assert_text(to, "q", "y");
	assert_int_equal(copy(from, "p", &o, to, "whole", &fill_root, &e), 0);
	copy_assert_text(to, "whole/f", "x");
}

/* Ends the process when the first file about it has come. */
struct reaper {
	pid_t pid;
	int entries;
	bool ended;
};

static int reap_entry(void *data, const struct wire_entry *en, struct err *e)
{
	struct reaper *rp = data;

	if (++rp->entries == 2) {
		kill(rp->pid, SIGKILL);
		waitpid(rp->pid, NULL, 0);
	}
	return 0;
}

static int reap_content(void *data, uint64_t offset, const void *bytes, size_t len, struct err *e)
{
	return 0;
}

static int reap_end(void *data, struct err *e)
{
	((struct reaper *)data)->ended = true;
	return 0;
}

static void a_process_that_ends_meanwhile_is_passed_over(void **state)
{
	struct reaper rp = {.pid = fork()};
	const struct tree_sink sink = {reap_entry, reap_content, reap_end, &rp};
	char path[32];
	struct err e = {0};

	if (rp.pid == 0)
		for (;;)
			pause();
	snprintf(path, sizeof(path), "/proc/%d", rp.pid);
	CLEANUP_CLOSE int dir = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	assert_true(dir >= 0);
	assert_int_equal(tree_read_folder(dir, "", &plain_read, &sink, &e), 0);
	assert_true(rp.ended);
	assert_in_range(rp.entries, 2, 20);
}

static void memory_is_no_place_for_what_shall_last(void **state)
{
	static const struct tree_write_opts o = {.durable = true};
	CLEANUP_CLOSE int memory = open("/dev/shm", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct statfs fs;
	struct err e;

	if (memory < 0 || fstatfs(memory, &fs) < 0 || fs.f_type != TMPFS_MAGIC)
		skip();
	copy_file(from, "a3s-durable", "x", 0600);
	assert_int_equal(copy(from, "a3s-durable", &plain_read, memory, "a3s-durable", &o, &e), -ENOMEDIUM);
	assert_int_equal(copy(world.dir, "from", &plain_read, memory, "a3s-durable", &o, &e), -ENOMEDIUM);
	assert_int_equal(copy(from, "", &plain_read, memory, "", &o, &e), -ENOMEDIUM);
	assert_int_equal(faccessat(memory, "a3s-durable", F_OK, 0), -1);
	assert_int_equal(fstatfs(to, &fs), 0);
	if (fs.f_type != TMPFS_MAGIC)
		assert_int_equal(copy(from, "", &plain_read, to, "", &o, &e), 0);
}

/* ---- order of entries ---- */

struct seen {
	char text[4096];
};

static int see_entry(void *data, const struct wire_entry *en, struct err *e)
{
	struct seen *s = data;
	size_t n = strlen(s->text);

	snprintf(s->text + n, sizeof(s->text) - n, "%s%s%s;", en->path, en->link ? "=" : "",
		en->link ? en->link : "");
	return 0;
}

static int see_content(void *data, uint64_t offset, const void *bytes, size_t len, struct err *e)
{
	return 0;
}

static int see_end(void *data, struct err *e)
{
	strcat(((struct seen *)data)->text, ".");
	return 0;
}

static void entries_come_in_order(void **state)
{
	struct seen s = {""};
	const struct tree_sink sink = {see_entry, see_content, see_end, &s};
	struct err e = {0};

	assert_int_equal(mkdirat(from, "a", 0700), 0);
	copy_file(from, "a/z", "", 0600);
	copy_file(from, "a.", "", 0600);
	copy_file(from, "B", "", 0600);
	assert_int_equal(linkat(from, "B", from, "c", 0), 0);
	assert_int_equal(tree_read_folder(from, "", &plain_read, &sink, &e), 0);
	assert_string_equal(s.text, ";B;a;a/z;a.;c=B;.");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define CASE(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
		CASE(a_tree_comes_whole),
		CASE(sparse_files_stay_sparse),
		CASE(a_single_file_has_the_name_it_is_given),
		CASE(files_and_folders_do_not_replace_each_other),
		CASE(what_is_there_stays),
		CASE(a_further_name_replaces_too),
		CASE(privileges_do_not_come_from_elsewhere),
		CASE(extended_attributes),
		CASE(stored_owners),
		CASE(hostile_entries),
		CASE(links_lead_only_to_what_came),
		CASE(limits_and_misplaced_content),
		CASE(a_full_disk_leaves_nothing_behind),
		cmocka_unit_test_setup_teardown(the_deepest_tree_needs_few_descriptors, setup, teardown_deep),
		CASE(sockets_are_passed_over),
		CASE(only_the_root_when_only_that_is_asked),
		CASE(made_up_files_have_their_true_length),
		CASE(folders_that_are_passed_over_come_empty),
		CASE(a_process_that_ends_meanwhile_is_passed_over),
		CASE(memory_is_no_place_for_what_shall_last),
		CASE(entries_come_in_order),
	};
	return copy_possible() ? cmocka_run_group_tests(tests, NULL, NULL) : 0;
}
