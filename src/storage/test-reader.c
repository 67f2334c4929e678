/* SPDX-License-Identifier: MIT */
/* The upper layer of an ext4 disk: as mke2fs(8) put it there, and whatever becomes of a disk that lies. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "base/emulator.h"
#include "base/proc.h"
#include "base/sanitized.h"
#include "test-world.h"

#define DAMAGED_ROUNDS 1000 /* of each kind of disk */

static int read_disk(struct world *w, bool content, struct dump *d, struct err *e)
{
	struct walk_opts o = {.content = content};
	struct tree_sink to = dump_sink(d);
	CLEANUP_CLOSE int fd = open_disk(w);
	bool any = false;

	*e = (struct err){0};
	int r = reader_run(fd, &o, &to, &any, e);
	return r == 0 && !any ? -ENOENT : r;
}

/* Owner, the user 1234, owning group, the group 70000, mask, others. */
static void set_acl(struct world *w, const char *path, const char *name)
{
	static const uint8_t acl[] = {2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 4, 0, 210, 4, 0, 0, 4,
		0, 4, 0, 255, 255, 255, 255, 8, 0, 5, 0, 112, 17, 1, 0, 16, 0, 5, 0, 255, 255, 255, 255, 32,
		0, 0, 0, 255, 255, 255, 255};
	CLEANUP_FREE char *full = str_printf("%s/%s", w->path, path);

	if (lsetxattr(full, name, acl, sizeof(acl), 0) < 0) {
		assert_int_equal(errno, EOPNOTSUPP);
		print_message("# no access control lists on this host\n");
	}
}

/* All that a file can have. As root owners and devices too. */
static void make_torture(struct world *w)
{
	static char large[3000];

	shell(w, "mkdir -p up/upper/deep && cd up/upper && umask 022"
		 " && mkdir -p a/b/c sticky many && chmod 1777 sticky && chmod 2750 a/b"
		 " && echo text > a/file && ln a/file a/twin && ln a/file z-twin && chmod 4711 a/file"
		 " && ln -s a/file short && ln -s \"$(printf %0200d 7)\" long && ln -s \"$(printf %059d 7)\" "
		 "l59"
		 " && ln -s \"$(printf %060d 7)\" l60 && ln -s \"$(printf %04095d 7)\" longest"
		 " && truncate -s 3G holes && printf end | dd of=holes bs=1 seek=2000000001 conv=notrunc "
		 "status=none"
		 " && printf begin | dd of=holes conv=notrunc status=none && truncate -s 10M empty"
		 " && head -c 5000001 /dev/urandom > big && : > none && mkfifo pipe"
		 " && i=0 && while [ $i -lt 1500 ]; do : > many/file-with-a-name-of-some-length-$i; "
		 "i=$((i+1)); done"
		 " && : > \"$(printf 'new\\nline')\" && : > \"$(printf %0255d 1)\" && : > \"$(printf "
		 "'\\377\\376')\""
		 " && touch -d '1999-12-31 23:59:58' big && touch -d '2037-06-07' a/file && touch -d "
		 "1915-01-01 none"
		 " && cd deep && i=0"
		 " && while [ $i -lt 300 ]; do mkdir ddddddddd && cd ddddddddd; i=$((i+1)); done && echo x > "
		 "bottom");
	if (geteuid() == 0)
		shell(w,
			"cd up/upper && chown 70000:4000000000 big && chown -h 5:6 short && mknod dev c 4 300"
			" && mknod block b 259 70000");
	memset(large, 'v', sizeof(large));
	set_xattr(w, "up/upper/a/b", "user.small", "1", 1);
	set_xattr(w, "up/upper/big", "user.large", large, sizeof(large));
	set_xattr(w, "up/upper/big", "user.empty", "", 0);
	set_xattr(w, "up/upper/none", "user.bytes", "\0\xff", 2);
	set_acl(w, "up/upper/none", "system.posix_acl_access");
	set_acl(w, "up/upper/deep", "system.posix_acl_default");
}

static void test_torture(void **state)
{
	SKIP_IN_EMULATOR();
	struct world *w = *state;
	struct dump got = {0}, want = {0};
	struct err e;

	make_torture(w);
	make_disk(w, "", NULL);
	if (read_disk(w, true, &got, &e) < 0)
		fail_msg("%s", e.msg);
	dump_folder(w, "up/upper", &want);
	assert_same_text(dump_text(&got), dump_text(&want));
	assert_non_null(strstr(dump_text(&got), "a/twin = a/file\n"));
	dump_done(&got);
	/* Blocks in the form that ext2 had. */
	got = (struct dump){0};
	shell(w, "rm -r up/upper/holes");
	make_disk(w, "-O ^extent,^64bit", NULL);
	if (read_disk(w, true, &got, &e) < 0)
		fail_msg("%s", e.msg);
	dump_done(&want);
	want = (struct dump){0};
	dump_folder(w, "up/upper", &want);
	assert_same_text(dump_text(&got), dump_text(&want));
	dump_done(&got);
	/* Without content every name is a file. */
	got = (struct dump){0};
	assert_int_equal(read_disk(w, false, &got, &e), 0);
	assert_null(strstr(dump_text(&got), " = "));
	assert_non_null(strstr(dump_text(&got), "\nz-twin\t104711 "));
	dump_done(&got);
	dump_done(&want);
}

/* Times to the nanosecond, after 2038 too; ACLs; what is the overlay's. */
static void test_attributes(void **state)
{
	SKIP_IN_EMULATOR();
	struct world *w = *state;
	struct dump got = {.times = true};
	struct err e;

	shell(w, "mkdir -p up/upper/dir up/upper/odir/sub up/upper/xdir && cd up/upper && echo x > file && : "
		 "> xdir/gone"
		 " && : > xdir/here && : > dir/gone");
	make_disk(w, "",
		"cd upper\nmknod white c 0 0\ncd /\n"
		"sif upper/file mtime @5000000000\n"
		"sif upper/file mtime_extra 0x3B9AC9FD\n" /* epoch 1, 249999999 ns */
		"ea_set upper/odir trusted.overlay.opaque y\n"
		"ea_set upper/dir trusted.overlay.opaque n\n"
		"ea_set upper/xdir trusted.overlay.opaque x\n"
		"ea_set upper/xdir/gone trusted.overlay.whiteout y\n"
		"ea_set upper/dir/gone trusted.overlay.whiteout y\n"
		"ea_set upper/file trusted.mine value\n"
		"ea_set upper/file security.capability 12345678901234567890\n"
		"ea_set upper/file trusted.overlay.origin abc");
	/* mknod of debugfs leaves it without a link. */
	shell(w, "debugfs -w -R 'sif upper/white links_count 1' disk 2>/dev/null");
	if (read_disk(w, true, &got, &e) < 0)
		fail_msg("%s", e.msg);
	const char *text = dump_text(&got);
	assert_non_null(strstr(text, "\nwhite\twhiteout\n"));
	assert_non_null(strstr(text, "\nodir\t40755 0:0 0:0 0 opaque "));
	assert_null(strstr(text, "\nodir/sub\t40755 0:0 0:0 0 opaque"));
	assert_null(strstr(text, "\ndir\t40755 0:0 0:0 0 opaque"));
	assert_null(strstr(text, "\nxdir\t40755 0:0 0:0 0 opaque"));
	assert_non_null(strstr(text, "\nxdir/gone\twhiteout\n"));
	assert_null(strstr(text, "xdir/here\twhiteout\n"));
	assert_null(strstr(text, "\ndir/gone\twhiteout\n"));
	assert_null(strstr(text, "overlay"));
	const char *file = strstr(text, "\nfile\t");
	assert_non_null(file);
	file = strndup(file, strcspn(file + 1, "\n") + 1);
	assert_non_null(strstr(file, ".249999999"));
	assert_non_null(strstr(file, " security.capability="));
	assert_non_null(strstr(file, " trusted.mine="));
	free((char *)file);
	dump_done(&got);
}

static void assert_refused(struct world *w, const char *what)
{
	struct dump d = {0};
	struct err e;
	int r = read_disk(w, true, &d, &e);

	if (r != -EUCLEAN || !strstr(e.msg, what))
		fail_msg("%d \"%s\" does not say \"%s\"", r, e.msg, what);
	dump_done(&d);
}

/* Each would be endless, or more than a disk can hold. */
static void test_lies(void **state)
{
	SKIP_IN_EMULATOR();
	struct world *w = *state;

	shell(w, "mkdir -p up/upper/a/b && cd up/upper && echo x > file && echo y > file2 && ln -s x link"
		 " && head -c 200000 /dev/urandom > big");
	make_disk(w, "", "link upper/a upper/a/b/loop");
	assert_refused(w, "a folder has several names");
	make_disk(w, "", "sif upper/file size 0x1000000000000000");
	assert_refused(w, "its size");
	make_disk(w, "", "sif upper/file links_count 0");
	assert_refused(w, "deleted");
	make_disk(w, "", "sif upper/file mode 0170644");
	assert_refused(w, "its type");
	make_disk(w, "", "sif upper/file flags 0x80800");
	assert_refused(w, "kind of storage");
	make_disk(w, "", "sif upper/link size 0");
	assert_refused(w, "where the link leads");
	make_disk(w, "", "sif upper/link size 5000");
	assert_refused(w, "where the link leads");
	make_disk(w, "-O ^metadata_csum", "link upper/file upper/b\nset_super_value inodes_count 3000000000");
	assert_refused(w, "damaged");
	make_disk(w, "-O ^metadata_csum", "set_super_value blocks_count 300000000");
	assert_refused(w, "damaged");
	make_disk(w, "", "feature needs_recovery");
	assert_refused(w, "not left clean");
	make_disk(w, "-O encrypt", NULL);
	assert_refused(w, "features");
	make_disk(w, "", "sif upper/file uid 0xffffffff");
	assert_refused(w, "no valid ones");
	shell(w, "truncate -s 0 disk && truncate -s 1M disk");
	assert_refused(w, "no file system");
	shell(w, "truncate -s 500 disk");
	assert_refused(w, "too small");
}

static void test_no_upper(void **state)
{
	SKIP_IN_EMULATOR();
	struct world *w = *state;
	struct walk_opts o = {.content = true};
	struct tree_sink to = {0}; /* would crash */
	struct err e = {0};
	bool any = true;

	shell(w, "mkdir up");
	make_disk(w, "", NULL);
	CLEANUP_CLOSE int fd = open_disk(w);
	if (reader_run(fd, &o, &to, &any, &e) < 0)
		fail_msg("%s", e.msg);
	assert_false(any);
}

static int refuse_entry(void *data, const struct wire_entry *en, struct err *e)
{
	return ++*(int *)data == 3 ? err_set(e, -EPIPE, "enough") : 0;
}

static int take_content(void *data, uint64_t offset, const void *bytes, size_t len, struct err *e)
{
	return 0;
}

/* The sink's failure is what comes back, -EPIPE too, and no process stays behind. */
static void test_sink_fails(void **state)
{
	SKIP_IN_EMULATOR();
	struct world *w = *state;
	struct walk_opts o = {.content = true};
	int n = 0;
	struct tree_sink to = {refuse_entry, take_content, NULL, &n};
	struct err e = {0};
	bool any;

	shell(w, "mkdir -p up/upper && cd up/upper && for i in 1 2 3 4 5 6; do head -c 2000000 /dev/zero > "
		 "$i; done");
	make_disk(w, "", NULL);
	CLEANUP_CLOSE int fd = open_disk(w);
	assert_int_equal(reader_run(fd, &o, &to, &any, &e), -EPIPE);
	assert_string_equal(e.msg, "enough");
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
}

/* Blocks that hold something, in random order of their use. */
static size_t used_blocks(int fd, uint32_t *v, size_t max)
{
	static uint8_t block[4096], zeros[4096];
	size_t n = 0;

	for (uint32_t i = 0; i < (64u << 20) / sizeof(block) && n < max; i++)
		if (pread(fd, block, sizeof(block), (off_t)i * 4096) == 4096 &&
			memcmp(block, zeros, sizeof(block)) != 0)
			v[n++] = i;
	return n;
}

static void damage_rounds(struct world *w, unsigned int *seed)
{
	static uint32_t blocks[4096];
	CLEANUP_CLOSE int fd = open_disk(w);
	size_t n = used_blocks(fd, blocks, ARRAY_LEN(blocks));
	int failed = 0;

	assert_true(n > 10);
	for (int round = 0; round < DAMAGED_ROUNDS; round++) {
		struct dump d = {0};
		struct err e;
		uint8_t old[8], byte;
		off_t at[8];
		int flips = 1 + rand_r(seed) % 8;
		for (int i = 0; i < flips; i++) {
			at[i] = (off_t)blocks[(size_t)rand_r(seed) % n] * 4096 + rand_r(seed) % 4096;
			/* Mostly where inodes and entries are. */
			if (rand_r(seed) % 2)
				at[i] = at[i] / 256 * 256 + rand_r(seed) % 64;
			assert_int_equal(pread(fd, &old[i], 1, at[i]), 1);
			byte = rand_r(seed) % 3 ? (uint8_t)rand_r(seed)
						: (uint8_t)(old[i] ^ 1 << rand_r(seed) % 8);
			assert_int_equal(pwrite(fd, &byte, 1, at[i]), 1);
		}
		int r = read_disk(w, round % 2, &d, &e);
		failed += r < 0;
		if (r < 0 && r != -ENOENT && (!e.msg[0] || e.code != r))
			fail_msg("round %d: %d \"%s\"", round, r, e.msg);
		dump_done(&d);
		for (int i = flips - 1; i >= 0; i--)
			assert_int_equal(pwrite(fd, &old[i], 1, at[i]), 1);
	}
	assert_true(failed > DAMAGED_ROUNDS / 100);
}

/* With checksums nearly all of it is noticed at once; without, the library goes where it is sent. */
static void test_damaged(void **state)
{
	struct world *w = *state;
	unsigned int seed = (unsigned int)time_real_ns();

	print_message("# seed %u\n", seed);
	shell(w, "mkdir -p up/upper/a/b up/upper/many && cd up/upper && echo text > a/file && ln a/file twin"
		 " && ln -s \"$(printf %0200d 7)\" long && truncate -s 1M holes && echo x >> holes && head "
		 "-c 70000 /dev/urandom > big"
		 " && i=0 && while [ $i -lt 300 ]; do : > many/file-with-a-name-of-some-length-$i; "
		 "i=$((i+1)); done");
	static char large[3000];
	memset(large, 'v', sizeof(large));
	set_xattr(w, "up/upper/big", "user.large", large, sizeof(large));
	make_disk(w, "-O ^has_journal", NULL);
	damage_rounds(w, &seed);
	make_disk(w, "-O ^has_journal,^metadata_csum,^uninit_bg", NULL);
	damage_rounds(w, &seed);
}

static volatile char *shared; /* memory of the parent and its children */

/* What the process can do, once it is confined. */
/* Many files with the blocks of one would fill the host's disk. */
static void test_blocks_used_many_times(void **state)
{
	SKIP_IN_EMULATOR();
	struct world *w = *state;
	struct dump d = {0};
	struct err e;

	shell(w, "mkdir -p up/upper && cd up/upper && head -c 8M /dev/urandom > f && for i in 1 2 3 4 5 6 7 "
		 "8 9; do : > $i; done");
	make_disk(w, "",
		"copy_inode /upper/f /upper/1\ncopy_inode /upper/f /upper/2\ncopy_inode /upper/f /upper/3\n"
		"copy_inode /upper/f /upper/4\ncopy_inode /upper/f /upper/5\ncopy_inode /upper/f /upper/6\n"
		"copy_inode /upper/f /upper/7\ncopy_inode /upper/f /upper/8\ncopy_inode /upper/f /upper/9");
	assert_int_equal(read_disk(w, true, &d, &e), -EUCLEAN);
	assert_non_null(strstr(e.msg, "more content"));
	dump_done(&d);
}

static void confined_child(int disk, int out, const char *what)
{
	static char byte;

	if (reader_confine(disk, out, 5) < 0)
		_exit(99);
	if (strcmp(what, "nothing") == 0)
		_exit(pread(0, &byte, 1, 0) == 1 && write(1, "x", 1) == 1 ? 0 : 1);
	if (strcmp(what, "open") == 0)
		_exit(open("/etc/passwd", O_RDONLY) < 0 ? 0 : 1);
	if (strcmp(what, "socket") == 0)
		_exit(socket(AF_UNIX, SOCK_STREAM, 0) < 0 ? 1 : 2);
	if (strcmp(what, "execute") == 0)
		_exit(mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ==
					MAP_FAILED
				? 1
				: 2);
	if (strcmp(what, "map") == 0)
		_exit(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, 0, 0) == MAP_FAILED ? 1 : 2);
	if (strcmp(what, "shared") == 0)
		*shared = 1;
	if (strcmp(what, "kill") == 0)
		_exit(kill(1, 0) < 0 ? 1 : 2);
	if (strcmp(what, "memory") == 0)
		_exit(malloc(2ull << 30) ? 1 : 0);
	if (strcmp(what, "loop") == 0)
		for (volatile int i = 0;; i++)
			;
	_exit(98);
}

static void assert_confined(struct world *w, const char *what, int signal)
{
	CLEANUP_CLOSE int disk = openat(w->fd, "file", O_RDONLY | O_CLOEXEC);
	int pipes[2], status;

	assert_int_equal(pipe(pipes), 0);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		confined_child(disk, pipes[1], what);
	close(pipes[0]);
	close(pipes[1]);
	assert_int_equal(proc_wait(pid, &status), 0);
	if (signal ? !WIFSIGNALED(status) || WTERMSIG(status) != signal : status != 0)
		fail_msg("%s: wait status 0x%x", what, (unsigned int)status);
}

static void test_confined(void **state)
{
	struct world *w = *state;

	if (SANITIZED || !kernel_has_filters()) {
		print_message("# no filters of system calls here\n");
		skip();
	}
	shell(w, "echo x > file");
	signal(SIGPIPE, SIG_IGN);
	assert_confined(w, "open", 0);
	assert_confined(w, "memory", 0);
	static const char *const forbidden[] = {"socket", "execute", "map", "kill"};
	for (size_t i = 0; i < ARRAY_LEN(forbidden); i++)
		assert_confined(w, forbidden[i], SIGSYS);
	shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(shared, MAP_FAILED);
	assert_confined(w, "shared", SIGSEGV);
	assert_int_equal(*shared, 0);
	assert_confined(w, "loop", SIGKILL);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, world_setup, world_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_torture),
		TEST(test_attributes),
		TEST(test_lies),
		TEST(test_no_upper),
		TEST(test_sink_fails),
		TEST(test_damaged),
		TEST(test_blocks_used_many_times),
		TEST(test_confined),
	};

	return cmocka_run_group_tests_name("storage-reader", tests, NULL, NULL);
}
