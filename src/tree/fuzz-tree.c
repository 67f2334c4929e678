/* SPDX-License-Identifier: MIT */
/*
 * Arbitrary bytes as a stream of a tree, written into a folder that has links out of it. Nothing outside changes, and what
 * was made is a tree that can be read.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "tree/tree.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(cond) \
	do { \
		if (!(cond)) \
			__builtin_trap(); \
	} while (0)

static char place[64];
static int top, outside;
static struct stat before;

static void remove_place(void)
{
	io_remove_tree_at(AT_FDCWD, place);
}

static void make_place(void)
{
	snprintf(place, sizeof(place), "/tmp/a3s-fuzz-tree-XXXXXX");
	CHECK(mkdtemp(place));
	atexit(remove_place);
	top = open(place, O_PATH | O_DIRECTORY | O_CLOEXEC);
	CHECK(top >= 0 && mkdirat(top, "outside", 0700) == 0);
	outside = openat(top, "outside", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CLEANUP_CLOSE int file = openat(outside, "f", O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	CHECK(file >= 0 && fstat(outside, &before) == 0);
}

static void check_outside(void)
{
	struct stat now, file;

	CHECK(fstat(outside, &now) == 0 && fstatat(outside, "f", &file, AT_SYMLINK_NOFOLLOW) == 0);
	CHECK(now.st_mtim.tv_sec == before.st_mtim.tv_sec && now.st_mtim.tv_nsec == before.st_mtim.tv_nsec);
	CHECK(now.st_mode == before.st_mode && now.st_uid == before.st_uid &&
		now.st_ctim.tv_sec == before.st_ctim.tv_sec && now.st_ctim.tv_nsec == before.st_ctim.tv_nsec);
	CHECK(file.st_size == 0 && file.st_nlink == 1 && file.st_mode == (S_IFREG | 0600));
}

static int count_entry(void *data, const struct wire_entry *en, struct err *e)
{
	++*(uint64_t *)data;
	CHECK(wire_entry_valid(en));
	return 0;
}

static int count_content(void *data, uint64_t offset, const void *bytes, size_t len, struct err *e)
{
	CHECK(len > 0);
	return 0;
}

static int count_end(void *data, struct err *e)
{
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* The first byte chooses; no owners, which are a matter of privileges. */
	struct tree_write_opts o = {.owner = size && data[0] & 1 ? TREE_OWNER_STORED : TREE_OWNER_SELF,
		.root_attr = size && data[0] & 2,
		.max_entries = 100,
		.max_bytes = 1 << 20};
	const struct tree_read_opts ro = {0};
	const char *name = size && data[0] & 4 ? "new" : "";
	CLEANUP(tree_writer_freep) struct tree_writer *w = NULL;
	CLEANUP(buf_done) struct buf in = {0};
	struct err e = {0};
	uint64_t n = 0;
	const struct tree_sink counter = {count_entry, count_content, count_end, &n};

	if (!size)
		return 0;
	if (!*place)
		make_place();
	CHECK(mkdirat(top, "in", 0700) == 0 && buf_append(&in, data + 1, size - 1) == 0);
	CLEANUP_CLOSE int dir = openat(top, "in", O_PATH | O_DIRECTORY | O_CLOEXEC);
	CLEANUP_CLOSE int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	CHECK(dir >= 0 && symlinkat("../outside", dir, "out") == 0 &&
		symlinkat("../outside/f", dir, "file") == 0);
	CHECK(tree_writer_new(dir, name, &o, &w, &e) == 0);
	int r = tree_read_stream(null, &in, tree_writer_sink(w), &e);
	CHECK(r <= 0 && (r == 0) == (e.code == 0) && (r == 0 || e.msg[0]));
	tree_writer_free(TAKE_PTR(w));
	check_outside();
	/* A mode can be one that only root reads. */
	if (tree_read_folder(dir, "", &ro, &counter, &e) == 0)
		CHECK(n >= 3);
	CHECK(fchmodat(top, "in", 0700, 0) == 0);
	CHECK(io_remove_tree_at(top, "in") == 0);
	return 0;
}
