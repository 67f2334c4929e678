/* SPDX-License-Identifier: MIT */
/* Complete reads and writes, durable replacement, trees that are never left through a link. */
#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "base/io.h"

enum { NOBODY = 65534 };

static char top[64]; /* a fresh folder for each test */
static int dir = -1;

static int set_up(void **state)
{
	strcpy(top, "/tmp/test-io-XXXXXX");
	if (!mkdtemp(top))
		return -1;
	dir = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return dir < 0 ? -1 : 0;
}

static int tear_down(void **state)
{
	close_fd(&dir);
	return io_remove_tree_at(AT_FDCWD, top);
}

static void put_file(const char *path, const char *text)
{
	int fd = openat(dir, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(io_write_full(fd, text, strlen(text)), 0);
	close(fd);
}

static void assert_file(const char *path, const char *want)
{
	char *text = NULL;
	size_t len;

	assert_int_equal(io_read_file_at(dir, path, 4096, &text, &len), 0);
	assert_int_equal(len, strlen(want));
	assert_string_equal(text, want);
	free(text);
}

static int count_entries(void)
{
	int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), n = 0;
	DIR *d = fdopendir(fd);
	assert_non_null(d);
	for (struct dirent *de; (de = readdir(d));)
		n += strcmp(de->d_name, ".") != 0 && strcmp(de->d_name, "..") != 0;
	closedir(d);
	return n;
}

/* ---- reading ---- */

static void a_file_is_read_whole_up_to_the_limit_and_no_byte_more(void **state)
{
	char *text = NULL;
	size_t len = 0;

	put_file("f", "12345");
	assert_int_equal(io_read_file_at(dir, "f", 5, &text, &len), 0);
	assert_int_equal(len, 5);
	assert_string_equal(text, "12345");
	free(text);
	text = NULL;
	assert_int_equal(io_read_file_at(dir, "f", 4, &text, &len), -EFBIG);
	assert_null(text);
	assert_int_equal(io_read_file_at(dir, "f", SIZE_MAX, &text, NULL), 0);
	assert_string_equal(text, "12345");
	free(text);
}

static void an_empty_file_reads_as_an_empty_string(void **state)
{
	char *text = NULL;
	size_t len = 9;

	put_file("f", "");
	assert_int_equal(io_read_file_at(dir, "f", 0, &text, &len), 0);
	assert_int_equal(len, 0);
	assert_string_equal(text, "");
	free(text);
}

static void files_that_say_they_are_empty_are_read_to_their_end(void **state)
{
	char *text = NULL;
	size_t len = 0;

	assert_int_equal(io_read_file_at(AT_FDCWD, "/proc/sys/kernel/random/boot_id", 37, &text, &len), 0);
	assert_int_equal(len, 37);
	assert_int_equal(text[36], '\n');
	free(text);
	text = NULL;
	assert_int_equal(
		io_read_file_at(AT_FDCWD, "/proc/sys/kernel/random/boot_id", 36, &text, &len), -EFBIG);
	assert_null(text);
	/* Longer than the first guess at its size. */
	assert_int_equal(io_read_file_at(AT_FDCWD, "/proc/self/smaps", 1 << 24, &text, &len), 0);
	assert_true(len > 4096);
	assert_int_equal(strlen(text), len);
	free(text);
	text = NULL;
	assert_int_equal(io_read_file_at(AT_FDCWD, "/proc/self/smaps", 5000, &text, &len), -EFBIG);
	assert_int_equal(io_read_file_at(AT_FDCWD, "/proc/self/smaps", SIZE_MAX, &text, &len), 0);
	free(text);
}

static void only_regular_files_are_read(void **state)
{
	char *text = NULL;

	assert_int_equal(mkfifoat(dir, "fifo", 0600), 0);
	assert_int_equal(
		io_read_file_at(dir, "fifo", 10, &text, NULL), -EINVAL); /* and does not wait for a writer */
	assert_int_equal(io_read_file_at(dir, ".", 10, &text, NULL), -EISDIR);
	assert_int_equal(io_read_file_at(AT_FDCWD, "/dev/zero", 10, &text, NULL), -EINVAL);
	assert_int_equal(io_read_file_at(dir, "absent", 10, &text, NULL), -ENOENT);
	assert_null(text);
}

static void full_reads_and_writes_continue_where_a_pipe_stopped(void **state)
{
	enum { LEN = 1 << 20 };
	int fds[2], status;
	char *data = malloc(LEN), *back = malloc(LEN + 1);

	assert_true(data && back);
	for (size_t i = 0; i < LEN; i++)
		data[i] = (char)(i * 31);
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	pid_t pid = fork();
	if (pid == 0)
		_exit(io_write_full(fds[1], data, LEN) < 0);
	close(fds[1]);
	assert_int_equal(io_read_full(fds[0], back, LEN + 1), LEN); /* to the end of the stream */
	assert_memory_equal(back, data, LEN);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	close(fds[0]);
	free(data);
	free(back);
}

static void positioned_reads_end_at_the_end_of_the_file(void **state)
{
	char back[16] = "";
	int fd = openat(dir, "f", O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	assert_int_equal(io_pwrite_full(fd, "abcdef", 6, 4), 0);
	assert_int_equal(io_pread_full(fd, back, sizeof(back), 5), 5);
	assert_memory_equal(back, "bcdef", 5);
	assert_int_equal(io_pread_full(fd, back, sizeof(back), 100), 0);
	assert_int_equal(io_pread_full(-1, back, 1, 0), -EBADF);
	close(fd);
}

/* ---- replacing ---- */

static void a_replaced_file_has_the_new_content_and_mode_and_leaves_no_temporary(void **state)
{
	struct stat st;

	put_file("f", "old and longer");
	assert_int_equal(io_write_file_at(dir, "f", "new", 3, 0640), 0);
	assert_file("f", "new");
	assert_int_equal(fstatat(dir, "f", &st, 0), 0);
	assert_int_equal(st.st_mode & 0777, 0640);
	assert_int_equal(count_entries(), 1);
	assert_int_equal(mkdirat(dir, "sub", 0700), 0);
	assert_int_equal(io_write_file_at(dir, "sub/g", "x", 1, 0600), 0);
	assert_file("sub/g", "x");
}

static void a_link_is_replaced_and_its_target_left_alone(void **state)
{
	struct stat st;

	put_file("target", "keep");
	assert_int_equal(symlinkat("target", dir, "link"), 0);
	assert_int_equal(io_write_file_at(dir, "link", "new", 3, 0600), 0);
	assert_file("target", "keep");
	assert_int_equal(fstatat(dir, "link", &st, AT_SYMLINK_NOFOLLOW), 0);
	assert_true(S_ISREG(st.st_mode));
}

static void a_failed_write_leaves_the_old_file_and_no_temporary(void **state)
{
	struct rlimit old, small;
	char big[8192];

	memset(big, 'x', sizeof(big));
	put_file("f", "old");
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	small = old;
	small.rlim_cur = 4096; /* the disk is full in the middle of the file */
	void (*was)(int) = signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	int r = io_write_file_at(dir, "f", big, sizeof(big), 0600);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	signal(SIGXFSZ, was);
	assert_int_equal(r, -EFBIG);
	assert_file("f", "old");
	assert_int_equal(count_entries(), 1);
}

static void a_failed_rename_leaves_no_temporary(void **state)
{
	assert_int_equal(mkdirat(dir, "folder", 0700), 0);
	assert_int_equal(io_write_file_at(dir, "folder", "x", 1, 0600), -EISDIR);
	assert_int_equal(count_entries(), 1);
	assert_int_equal(io_write_file_at(dir, "absent/f", "x", 1, 0600), -ENOENT);
	assert_int_equal(count_entries(), 1);
}

/* ---- folders ---- */

static void missing_parts_of_a_path_are_made_with_the_mode(void **state)
{
	char path[256];
	struct stat st;

	snprintf(path, sizeof(path), "%s/a//b/c/", top);
	assert_int_equal(io_mkdir_p(path, 0700), 0);
	assert_int_equal(fstatat(dir, "a/b/c", &st, 0), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
	assert_int_equal(io_mkdir_p(path, 0700), 0); /* again is no error */
	assert_int_equal(io_mkdir_p("/", 0700), 0);
	assert_int_equal(io_mkdir_p("", 0700), -ENOENT);
}

static void a_file_where_a_folder_is_wanted_is_an_error(void **state)
{
	char path[256];

	put_file("f", "");
	snprintf(path, sizeof(path), "%s/f", top);
	assert_int_equal(io_mkdir_p(path, 0700), -ENOTDIR);
	snprintf(path, sizeof(path), "%s/f/g", top);
	assert_int_equal(io_mkdir_p(path, 0700), -ENOTDIR);
	assert_int_equal(symlinkat("absent", dir, "dangling"), 0);
	snprintf(path, sizeof(path), "%s/dangling", top);
	assert_true(io_mkdir_p(path, 0700) < 0);
}

static void a_relative_path_is_made_below_the_current_folder(void **state)
{
	int old = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	assert_int_equal(fchdir(dir), 0);
	assert_int_equal(io_mkdir_p("x/y", 0700), 0);
	assert_int_equal(fchdir(old), 0);
	close(old);
	assert_int_equal(faccessat(dir, "x/y", F_OK, 0), 0);
}

static void a_folder_is_opened_but_not_through_a_link(void **state)
{
	int fd = io_open_dir_at(dir, "new", false);
	assert_int_equal(fd, -ENOENT);
	fd = io_open_dir_at(dir, "new", true);
	assert_true(fd >= 0);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	close(fd);
	assert_int_equal(symlinkat("new", dir, "link"), 0);
	assert_true(io_open_dir_at(dir, "link", false) < 0);
	assert_true(io_open_dir_at(dir, "link", true) < 0);
	put_file("f", "");
	assert_int_equal(io_open_dir_at(dir, "f", true), -ENOTDIR);
}

/* ---- removing ---- */

static void a_tree_is_removed_whole_and_its_absence_is_no_error(void **state)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/t/a/b", top);
	assert_int_equal(io_mkdir_p(path, 0700), 0);
	put_file("t/1", "");
	put_file("t/a/2", "");
	assert_int_equal(mkfifoat(dir, "t/a/b/fifo", 0), 0);
	for (int i = 0; i < 500; i++) { /* more than one read of the folder */
		snprintf(path, sizeof(path), "t/a/a-file-with-a-rather-long-name-%d", i);
		put_file(path, "");
	}
	assert_int_equal(io_remove_tree_at(dir, "t"), 0);
	assert_int_equal(count_entries(), 0);
	assert_int_equal(io_remove_tree_at(dir, "t"), 0);
	put_file("f", "");
	assert_int_equal(io_remove_tree_at(dir, "f"), 0);
	assert_int_equal(count_entries(), 0);
}

static void removing_never_follows_a_link(void **state)
{
	assert_int_equal(mkdirat(dir, "outside", 0700), 0);
	put_file("outside/keep", "kept");
	assert_int_equal(mkdirat(dir, "t", 0700), 0);
	assert_int_equal(symlinkat("../outside", dir, "t/link"), 0);
	assert_int_equal(symlinkat("/", dir, "t/root"), 0);
	assert_int_equal(symlinkat("../outside/keep", dir, "t/file"), 0);
	assert_int_equal(symlinkat("absent", dir, "t/dangling"), 0);
	assert_int_equal(io_remove_tree_at(dir, "t"), 0);
	assert_file("outside/keep", "kept");

	assert_int_equal(symlinkat("outside", dir, "direct"), 0);
	assert_int_equal(io_remove_tree_at(dir, "direct"), 0);
	assert_file("outside/keep", "kept");
	assert_int_equal(count_entries(), 1);
}

/* Runs fn in a child that permissions apply to. */
static void without_privileges(int (*fn)(void))
{
	int status;
	assert_int_equal(chmod(top, 0777), 0);
	pid_t pid = fork();
	if (pid == 0) {
		if (geteuid() == 0 && setresuid(NOBODY, NOBODY, NOBODY) < 0)
			_exit(99);
		_exit(fn());
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static int remove_unreadable(void)
{
	if (mkdirat(dir, "t", 0700) < 0 || mkdirat(dir, "t/sub", 0700) < 0 ||
		mkdirat(dir, "t/sub/none", 0700) < 0)
		return 1;
	int fd = openat(dir, "t/sub/none/f", O_WRONLY | O_CREAT | O_CLOEXEC, 0);
	if (fd < 0 || fchmodat(dir, "t/sub/none", 0, 0) < 0 || fchmodat(dir, "t/sub", 0500, 0) < 0)
		return 2;
	if (fchmodat(dir, "t", 0, 0) < 0) /* the topmost one too */
		return 3;
	if (io_remove_tree_at(dir, "t") < 0)
		return 4;
	return faccessat(dir, "t", F_OK, 0) == 0 ? 5 : 0;
}

static void our_own_folders_are_removed_even_if_made_unreadable(void **state)
{
	without_privileges(remove_unreadable);
}

static int remove_foreign(void)
{
	return io_remove_tree_at(dir, "theirs") == -EACCES ? 0 : 1;
}

static void what_belongs_to_others_stays_and_says_why(void **state)
{
	if (geteuid() != 0)
		skip();
	assert_int_equal(mkdirat(dir, "theirs", 0700), 0);
	put_file("theirs/f", "kept");
	without_privileges(remove_foreign);
	assert_file("theirs/f", "kept");
}

/* Makes t/d/d/d…, n levels below t. */
static void make_deep(int n)
{
	assert_int_equal(mkdirat(dir, "t", 0700), 0);
	int at = openat(dir, "t", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (int i = 0; i < n; i++) {
		assert_int_equal(mkdirat(at, "d", 0700), 0);
		int next = openat(at, "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		assert_true(next >= 0);
		close(at);
		at = next;
	}
	close(at);
}

static void a_deep_tree_is_removed(void **state)
{
	make_deep(700); /* longer than PATH_MAX would be at 2,048; deeper than any image */
	assert_int_equal(io_remove_tree_at(dir, "t"), 0);
	assert_int_equal(count_entries(), 0);
}

/* As a box can make it in a volume, with something in every folder of some levels, and one that cannot be written. */
static void a_tree_deeper_than_a_process_has_descriptors_is_removed(void **state)
{
	struct rlimit old, usual;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	usual = old;
	usual.rlim_cur = MIN_OF(old.rlim_max, 1024);
	make_deep(5000);
	int at = openat(dir, "t", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (int i = 0; i < 2000; i++) {
		int next = openat(at, "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		assert_true(next >= 0);
		if (i % 100 == 0)
			assert_int_equal(mkdirat(next, "beside", 0500), 0);
		close(at);
		at = next;
	}
	assert_int_equal(fchmod(at, 0500), 0);
	close(at);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &usual), 0);
	int r = io_remove_tree_at(dir, "t");
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	assert_int_equal(r, 0);
	assert_int_equal(count_entries(), 0);
}

static void a_tree_is_measured_as_du_does(void **state)
{
	char block[16384] = {1};
	uint64_t want = 0;
	struct stat st;

	assert_int_equal(mkdirat(dir, "t", 0700), 0);
	for (int i = 0; i < 300;
		i++) { /* more than the first table of files with several names has room for */
		char a[32], b[32];
		snprintf(a, sizeof(a), "t/a%d", i);
		snprintf(b, sizeof(b), "t/b%d", i);
		int fd = openat(dir, a, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
		assert_int_equal(io_write_full(fd, block, sizeof(block)), 0);
		assert_int_equal(fsync(fd), 0);
		assert_int_equal(fstat(fd, &st), 0);
		close(fd);
		assert_int_equal(linkat(dir, a, dir, b, 0), 0);
		want += (uint64_t)st.st_blocks * 512;
	}
	assert_int_equal(symlinkat("/", dir, "t/root"), 0); /* not followed, and short enough for its inode */
	assert_int_equal(fstatat(dir, "t/root", &st, AT_SYMLINK_NOFOLLOW), 0);
	want += (uint64_t)st.st_blocks * 512;
	assert_int_equal(fstatat(dir, "t", &st, 0), 0);
	want += (uint64_t)st.st_blocks * 512;
	assert_true(want > 300 * sizeof(block));
	assert_int_equal(io_tree_bytes_at(dir, "t"), want);
	assert_int_equal(io_tree_bytes_at(dir, "nothing"), 0);
}

static void a_tree_deeper_than_there_are_descriptors_fails_and_leaks_none(void **state)
{
	struct rlimit old, small;

	make_deep(150);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	small = old;
	small.rlim_cur = 100;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &small), 0);
	int before = dup(0), r = io_remove_tree_at(dir, "t"), after = (close(before), dup(0));
	close(after);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	assert_int_equal(r, -EMFILE);
	assert_int_equal(before, after);
	assert_int_equal(io_remove_tree_at(dir, "t"), 0);
}

/* ---- sparse copies ---- */

static void a_sparse_copy_keeps_content_length_and_holes(void **state)
{
	enum { MIB = 1 << 20, LEN = 64 * MIB };
	static const off_t at[] = {0, 3 * MIB + 5, 40 * MIB - 1}; /* and a hole at the end */
	char data[70000], back[sizeof(data)];
	int src = openat(dir, "src", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	int dst = openat(dir, "dst", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	struct stat st;

	memset(data, 'd', sizeof(data));
	assert_int_equal(ftruncate(src, LEN), 0);
	for (size_t i = 0; i < ARRAY_LEN(at); i++)
		assert_int_equal(io_pwrite_full(src, data, sizeof(data), at[i]), 0);
	assert_int_equal(io_copy_sparse(src, dst, true), 0);
	assert_int_equal(fstat(dst, &st), 0);
	assert_int_equal(st.st_size, LEN);
	assert_true(st.st_blocks * 512 < 2 * MIB);
	for (size_t i = 0; i < ARRAY_LEN(at); i++) {
		assert_int_equal(io_pread_full(dst, back, sizeof(back), at[i]), sizeof(back));
		assert_memory_equal(back, data, sizeof(back));
	}
	assert_int_equal(io_pread_full(dst, back, sizeof(back), 20 * MIB), sizeof(back));
	for (size_t i = 0; i < sizeof(back); i++)
		assert_int_equal(back[i], 0);
	close(src);
	close(dst);
}

static void empty_and_all_hole_files_are_copied_with_their_length(void **state)
{
	int src = openat(dir, "src", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	int dst = openat(dir, "dst", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	struct stat st;

	assert_int_equal(io_copy_sparse(src, dst, true), 0);
	assert_int_equal(fstat(dst, &st), 0);
	assert_int_equal(st.st_size, 0);
	assert_int_equal(ftruncate(src, 12345), 0);
	assert_int_equal(io_copy_sparse(src, dst, true), 0);
	assert_int_equal(fstat(dst, &st), 0);
	assert_int_equal(st.st_size, 12345);
	assert_int_equal(st.st_blocks, 0);
	close(src);
	close(dst);
}

static void a_copy_that_cannot_be_written_says_so(void **state)
{
	put_file("src", "data");
	put_file("dst", "");
	int src = openat(dir, "src", O_RDONLY | O_CLOEXEC), dst = openat(dir, "dst", O_RDONLY | O_CLOEXEC);

	assert_true(io_copy_sparse(src, dst, true) < 0);
	assert_int_equal(io_copy_sparse(-1, dst, false), -EBADF);
	close(src);
	close(dst);
}

static void small_helpers_do_what_they_say(void **state)
{
	char hex[9];
	int fd = openat(dir, "f", O_RDWR | O_CREAT, 0600);

	hex_encode(hex, "\x00\x0f\xa5\xff", 4);
	assert_string_equal(hex, "000fa5ff");
	assert_null(str_dup(NULL));
	char *s = str_printf("%d-%s", 7, "x");
	assert_string_equal(s, "7-x");
	free(s);
	assert_int_equal(io_set_cloexec(fd, true), 0);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	assert_int_equal(io_set_nonblock(fd, true), 0);
	assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
	assert_int_equal(io_set_nonblock(fd, false), 0);
	assert_false(fcntl(fd, F_GETFL) & O_NONBLOCK);
	close(fd);
	uint64_t a = time_mono_ns();
	assert_true(time_mono_ns() >= a);
	assert_true(time_real_ns() > 1500000000ll * 1000000000);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

static void a_lookup_during_renames_is_tried_again(void **state)
{
	CLEANUP_CLOSE int fd = io_openat2(dir, ".", O_PATH | O_DIRECTORY, RESOLVE_NO_SYMLINKS);

	if (fd == -ENOSYS)
		skip();
	assert_true(fd >= 0);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	assert_int_equal(io_openat2(dir, "..", O_PATH, RESOLVE_BENEATH), -EXDEV);
	assert_int_equal(io_openat2(dir, "none", O_PATH, 0), -ENOENT);
	assert_int_equal(mkdirat(dir, "sub", 0700), 0);
	/* One of ".." cannot be told to be inside while anything is renamed anywhere. */
	pid_t pid = fork();
	while (pid == 0) {
		renameat(dir, "sub", dir, "sub2");
		renameat(dir, "sub2", dir, "sub");
	}
	assert_int_equal(mkdirat(dir, "a", 0700), 0);
	for (int i = 0; i < 20000; i++) {
		int got = io_openat2(dir, "a/../a", O_PATH, RESOLVE_IN_ROOT);
		if (got < 0)
			kill(pid, SIGKILL);
		assert_true(got >= 0);
		close(got);
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_file_is_read_whole_up_to_the_limit_and_no_byte_more),
		TEST(an_empty_file_reads_as_an_empty_string),
		TEST(files_that_say_they_are_empty_are_read_to_their_end),
		TEST(only_regular_files_are_read),
		TEST(full_reads_and_writes_continue_where_a_pipe_stopped),
		TEST(positioned_reads_end_at_the_end_of_the_file),
		TEST(a_replaced_file_has_the_new_content_and_mode_and_leaves_no_temporary),
		TEST(a_link_is_replaced_and_its_target_left_alone),
		TEST(a_failed_write_leaves_the_old_file_and_no_temporary),
		TEST(a_failed_rename_leaves_no_temporary),
		TEST(missing_parts_of_a_path_are_made_with_the_mode),
		TEST(a_file_where_a_folder_is_wanted_is_an_error),
		TEST(a_relative_path_is_made_below_the_current_folder),
		TEST(a_folder_is_opened_but_not_through_a_link),
		TEST(a_tree_is_removed_whole_and_its_absence_is_no_error),
		TEST(removing_never_follows_a_link),
		TEST(our_own_folders_are_removed_even_if_made_unreadable),
		TEST(what_belongs_to_others_stays_and_says_why),
		TEST(a_deep_tree_is_removed),
		TEST(a_tree_deeper_than_a_process_has_descriptors_is_removed),
		TEST(a_tree_is_measured_as_du_does),
		TEST(a_tree_deeper_than_there_are_descriptors_fails_and_leaks_none),
		TEST(a_sparse_copy_keeps_content_length_and_holes),
		TEST(empty_and_all_hole_files_are_copied_with_their_length),
		TEST(a_copy_that_cannot_be_written_says_so),
		TEST(a_lookup_during_renames_is_tried_again),
		TEST(small_helpers_do_what_they_say),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
