/* SPDX-License-Identifier: MIT */
/*
 * Somebody swaps folders and files for links, FIFOs and devices while a tree is read or written there. The copy may fail; it
 * never reads or changes anything outside, and never waits.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>

#include "base/io.h"
#include "inside.h"
#include "test-copy.h"

#define ROUNDS	 400
#define FOLDERS	 4
#define OF_FILES 4

static struct copy_world world;
static atomic_bool over;
static atomic_uint swaps;

/* Exchanges `name` with what lies beside it as "x-NAME", again and again. */
static void *swap(void *data)
{
	int dir = *(int *)data;
	unsigned int n = 0;

	while (!atomic_load(&over)) {
		char name[16], other[20];

		snprintf(name, sizeof(name), "d%u", n++ % FOLDERS);
		snprintf(other, sizeof(other), "x-%s", name);
		if (renameat2(dir, name, dir, other, RENAME_EXCHANGE) == 0)
			atomic_fetch_add(&swaps, 1);
		snprintf(name, sizeof(name), "f%u", n % OF_FILES);
		snprintf(other, sizeof(other), "x-%s", name);
		renameat2(dir, name, dir, other, RENAME_EXCHANGE);
	}
	return NULL;
}

static void make_outside(void)
{
	CLEANUP_CLOSE int outside = copy_folder(&world, "outside");

	copy_file(outside, "secret", "SECRET", 0600);
	copy_file(outside, "f", "SECRET", 0600);
	assert_int_equal(mkdirat(outside, "sub", 0700), 0);
	copy_file(outside, "sub/f", "SECRET", 0600);
}

/* Folders and files, and beside each a link that leads outside, for swap. */
static void make_inside(int dir, bool with_content)
{
	char name[32];

	for (int i = 0; i < FOLDERS; i++) {
		snprintf(name, sizeof(name), "d%d", i);
		assert_int_equal(mkdirat(dir, name, 0700), 0);
		if (with_content) {
			snprintf(name, sizeof(name), "d%d/sub", i);
			assert_int_equal(mkdirat(dir, name, 0700), 0);
			snprintf(name, sizeof(name), "d%d/sub/f", i);
			copy_file(dir, name, "inside", 0600);
			snprintf(name, sizeof(name), "d%d/f", i);
			copy_file(dir, name, "inside", 0600);
		}
		snprintf(name, sizeof(name), "x-d%d", i);
		assert_int_equal(symlinkat("../outside", dir, name), 0);
	}
	for (int i = 0; i < OF_FILES; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		copy_file(dir, name, "inside", 0600);
		snprintf(name, sizeof(name), "x-f%d", i);
		if (i % 2)
			assert_int_equal(symlinkat("../outside/secret", dir, name), 0);
		else
			assert_int_equal(mkfifoat(dir, name, 0600), 0);
	}
}

static int setup(void **state)
{
	copy_world_new(&world);
	make_outside();
	atomic_store(&over, false);
	atomic_store(&swaps, 0);
	return 0;
}

static int teardown(void **state)
{
	copy_world_done(&world);
	return 0;
}

/* ---- reading ---- */

static int see_entry(void *data, const struct wire_entry *en, struct err *e)
{
	assert_null(strstr(en->path, "secret"));
	return 0;
}

static int see_content(void *data, uint64_t offset, const void *bytes, size_t len, struct err *e)
{
	assert_int_equal(len, 6);
	assert_memory_equal(bytes, "inside", 6);
	return 0;
}

static int see_end(void *data, struct err *e)
{
	++*(unsigned int *)data;
	return 0;
}

static void nothing_outside_is_read(void **state)
{
	CLEANUP_CLOSE int from = copy_folder(&world, "from");
	const struct tree_read_opts o = {0};
	unsigned int complete = 0;
	const struct tree_sink sink = {see_entry, see_content, see_end, &complete};
	pthread_t thread;
	struct err e;

	make_inside(from, true);
	assert_int_equal(pthread_create(&thread, NULL, swap, &from), 0);
	for (int i = 0; i < ROUNDS; i++)
		tree_read_folder(from, "", &o, &sink, &e);
	atomic_store(&over, true);
	pthread_join(thread, NULL);
	/* It has been a race. */
	assert_true(atomic_load(&swaps) > 10 && complete > 0);
}

/* ---- writing ---- */

static int write_tree(int dir, struct err *e)
{
	const struct tree_write_opts o = {
		.owner = geteuid() == 0 ? TREE_OWNER_KEEP : TREE_OWNER_SELF, .root_attr = true};
	CLEANUP(tree_writer_freep) struct tree_writer *w = NULL;
	struct wire_entry en = {
		.path = (char *)"", .mode = S_IFDIR | 0755, .uid = geteuid(), .gid = getegid()};
	char path[32], link[32];

	assert_int_equal(tree_writer_new(dir, "", &o, &w, e), 0);
	const struct tree_sink *s = tree_writer_sink(w);
	int r = s->entry(s->data, &en, e);
	en.path = path;
	for (int i = 0; r == 0 && i < 4 * FOLDERS; i++) {
		int d = i / 4;

		en = (struct wire_entry){.path = path, .uid = en.uid, .gid = en.gid};
		snprintf(path, sizeof(path),
			i % 4 == 0   ? "d%d"
			: i % 4 == 1 ? "d%d/f"
			: i % 4 == 2 ? "d%d/l"
				     : "d%d/n",
			d);
		if (i % 4 == 0) {
			en.mode = S_IFDIR | 0777;
		} else if (i % 4 == 1) {
			en.mode = S_IFREG | 0666;
			en.size = 3;
		} else if (i % 4 == 2) {
			en.mode = S_IFLNK | 0777;
			en.target = (char *)"../../outside/secret";
		} else {
			snprintf(link, sizeof(link), "d%d/f", d);
			en.link = link;
		}
		r = s->entry(s->data, &en, e);
		if (r == 0 && en.size)
			r = s->content(s->data, 0, "new", 3, e);
	}
	return r < 0 ? r : s->end(s->data, e);
}

static void nothing_outside_is_written(void **state)
{
	CLEANUP_CLOSE int to = copy_folder(&world, "to");
	CLEANUP_CLOSE int outside = copy_folder(&world, "outside");
	CLEANUP_FREE char *before = copy_describe(outside);
	unsigned int attempts = 0, failed = 0;
	pthread_t thread;
	struct err e;

	make_inside(to, false);
	assert_int_equal(pthread_create(&thread, NULL, swap, &to), 0);
	/* Until both have met often enough, however the two are scheduled. */
	while (attempts < ROUNDS || (failed < 10 && attempts < 100 * ROUNDS)) {
		attempts++;
		failed += write_tree(to, &e) < 0;
	}
	atomic_store(&over, true);
	pthread_join(thread, NULL);
	CLEANUP_FREE char *after = copy_describe(outside);
	assert_string_equal(before, after);
	/* It has been a race. */
	assert_true(failed >= 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(nothing_outside_is_read, setup, teardown),
		cmocka_unit_test_setup_teardown(nothing_outside_is_written, setup, teardown),
	};
	return copy_possible() ? cmocka_run_group_tests(tests, NULL, NULL) : 0;
}
