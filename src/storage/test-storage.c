/* SPDX-License-Identifier: MIT */
/* Both layers together: what a box sees, what it changed, and what a new layer would be. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/emulator.h"
#include "test-world.h"

static struct storage_root *open_root(struct world *w, int *fd)
{
	CLEANUP_FREE char *image = make_image(w);
	struct storage_root *r = NULL;
	struct err e = {0};

	if (storage_root_open(w->st, image, *fd, &r, &e) < 0)
		fail_msg("%s", e.msg);
	return r;
}

static void read_all(struct storage_root *r, struct dump *d)
{
	struct tree_sink to = dump_sink(d);
	struct err e = {0};

	if (storage_read_all(r, &to, &e) < 0)
		fail_msg("%s", e.msg);
}

static void read_layer(struct storage_root *r, const struct strv *mounts, struct dump *d)
{
	struct tree_sink to = dump_sink(d);
	struct err e = {0};

	if (storage_read_layer(r, mounts, &to, &e) < 0)
		fail_msg("%s", e.msg);
}

static int add_change(void *data, enum storage_change kind, const char *path)
{
	struct buf *b = data;
	CLEANUP_FREE char *line = str_printf("%c %s\n", (char)kind, path);

	return buf_append(b, line, strlen(line));
}

static void assert_diff(struct storage_root *r, const struct strv *mounts, const char *want)
{
	CLEANUP(buf_done) struct buf b = {0};
	struct err e = {0};

	if (storage_diff(r, mounts, add_change, &b, &e) < 0)
		fail_msg("%s", e.msg);
	assert_int_equal(buf_append(&b, "", 1), 0);
	assert_same_text((const char *)buf_data(&b), want);
}

/* Names at the starts of lines, with whether they are whiteouts or opaque. */
static void assert_names(const struct dump *d, const char *want)
{
	CLEANUP(buf_done) struct buf b = {0};

	for (const char *p = dump_text(d); *p; p += strcspn(p, "\n") + 1) {
		size_t n = strcspn(p, "\n"), name = strcspn(p, "\t");
		CLEANUP_FREE char *line = strndup(p, n);
		const char *mark = strstr(line, "\twhiteout") ? " whiteout"
				   : strstr(line, " opaque")  ? " opaque"
							      : "";
		name = MIN_OF(n, name);
		assert_int_equal(buf_append(&b, p, name), 0);
		assert_int_equal(buf_append(&b, mark, strlen(mark)), 0);
		assert_int_equal(buf_append(&b, "\n", 1), 0);
	}
	assert_int_equal(buf_append(&b, "", 1), 0);
	assert_same_text((const char *)buf_data(&b), want);
}

/* What overlayfs leaves after these changes. */
static void make_layers(struct world *w, const char *commands)
{
	shell(w, "mkdir -p base/etc base/keep/sub base/opaque/sub base/gone base/swap base/parent && cd base"
		 " && echo a > etc/passwd && echo b > etc/group && echo c > keep/file && ln keep/file "
		 "keep/twin"
		 " && ln keep/file keep/sub/third && echo d > opaque/old && echo e > opaque/both && echo f > "
		 "opaque/sub/x"
		 " && echo g > gone/x && echo h > swap/x && ln -s etc link && echo i > to-dir && echo j > "
		 "parent/child"
		 " && echo k > same && chmod 600 same && find . -exec touch -h -d @1000000000 {} +");
	shell(w, "mkdir -p up/upper/etc up/upper/keep/sub up/upper/opaque/sub up/upper/new/below "
		 "up/upper/to-dir up/upper/parent"
		 " && cd up/upper && echo A > etc/passwd && echo C > keep/file && echo B > opaque/both && "
		 "echo N > opaque/sub/y"
		 " && echo S > swap && echo n > new/below/file && ln new/below/file new/again && echo z > "
		 "to-dir/z"
		 " && echo k > same && chmod 600 same && touch -d @1000000000 same && cp same z-file && "
		 "chmod 640 parent"
		 " && touch -d @1000000000 keep/sub");
	CLEANUP_FREE char *all = str_printf(
		"cd upper/etc\nmknod group c 0 0\ncd ..\nmknod gone c 0 0\nmknod nothing c 0 0\ncd /\n"
		"sif upper/etc/group links_count 1\nsif upper/gone links_count 1\nsif upper/nothing "
		"links_count 1\n"
		"ea_set upper/opaque trusted.overlay.opaque y\nea_set upper/new trusted.overlay.opaque y\n%s",
		commands);
	assert_non_null(all);
	make_disk(w, "", all);
}

static void test_both(void **state)
{
	SKIP_IN_EMULATOR();
	struct world *w = *state;
	struct dump got = {0}, want = {0};

	make_layers(w, "");
	CLEANUP_CLOSE int fd = open_disk(w);
	struct storage_root *r = open_root(w, &fd);
	assert_diff(r, NULL,
		"C /etc\nD /etc/group\nC /etc/passwd\nD /gone\nC /keep\nC /keep/file\nA /new\nA "
		"/new/again\nA /new/below\n"
		"A /new/below/file\nC /opaque\nC /opaque/both\nD /opaque/old\nC /opaque/sub\nD "
		"/opaque/sub/x\n"
		"A /opaque/sub/y\nC /parent\nC /swap\nC /to-dir\nA /to-dir/z\nA /z-file\n");
	read_layer(r, NULL, &got);
	assert_names(&got,
		"\netc\netc/group whiteout\netc/passwd\ngone whiteout\nkeep\nkeep/file\nnew\nnew/again\n"
		"new/below\nnew/below/file = new/again\nopaque "
		"opaque\nopaque/both\nopaque/sub\nopaque/sub/y\n"
		"parent\nsame\nswap\nto-dir\nto-dir/z\nz-file\n");
	dump_done(&got);
	/* What the box would see, made by hand. */
	shell(w, "cp -a base all && cd all && rm -r etc/group gone opaque swap to-dir && cp -a "
		 "../up/upper/swap"
		 " ../up/upper/opaque ../up/upper/new ../up/upper/to-dir ../up/upper/z-file . && echo A > "
		 "etc/passwd"
		 " && rm keep/file && cp -a ../up/upper/keep/file keep/file && touch -r "
		 "../up/upper/etc/passwd etc/passwd"
		 " && chmod 640 parent");
	got = (struct dump){0};
	read_all(r, &got);
	dump_folder(w, "all", &want);
	assert_same_text(dump_text(&got), dump_text(&want));
	assert_non_null(strstr(dump_text(&got), "keep/twin = keep/sub/third\n"));
	dump_done(&got);
	dump_done(&want);
	storage_root_free(r);
}

/* A box that never wrote, and one whose disk has no upper layer. */
static void test_nothing(void **state)
{
	SKIP_IN_EMULATOR();
	struct world *w = *state;
	struct dump got = {0}, want = {0};

	shell(w, "mkdir -p base/dir up && echo x > base/dir/file && ln base/dir/file base/link");
	make_disk(w, "", NULL);
	for (int k = 0; k < 2; k++) {
		CLEANUP_CLOSE int fd = k ? open_disk(w) : -1;
		struct storage_root *r = open_root(w, &fd);
		assert_diff(r, NULL, "");
		got = want = (struct dump){0};
		read_layer(r, NULL, &got);
		assert_names(&got, "\n");
		dump_done(&got);
		got = (struct dump){0};
		read_all(r, &got);
		dump_folder(w, "base", &want);
		assert_same_text(dump_text(&got), dump_text(&want));
		dump_done(&got);
		dump_done(&want);
		storage_root_free(r);
	}
}

/* What is there to mount on says nothing, unless it became more than that. */
static void test_mounts(void **state)
{
	SKIP_IN_EMULATOR();
	struct world *w = *state;
	struct strv mounts = {0};
	struct dump got = {0};

	shell(w, "mkdir -p base/var base/data base/run && cd base && ln -s ../run var/run && ln -s nowhere "
		 "run/resolv"
		 " && find . -exec touch -h -d @1000000000 {} +");
	shell(w, "mkdir -p up/upper/dev up/upper/proc up/upper/etc up/upper/srv/www/html up/upper/run/lock "
		 "up/upper/data"
		 " up/upper/opt/app up/upper/var up/upper/mnt/used && cd up/upper && : > etc/hosts && : > "
		 "etc/hostname"
		 " && : > etc/resolv.conf && ln etc/resolv.conf other && ln etc/resolv.conf third && : > "
		 "run/lock/file"
		 " && : > opt/app/conf && echo x > mnt/used/file");
	make_disk(w, "", NULL);
	CLEANUP_CLOSE int fd = open_disk(w);
	struct storage_root *r = open_root(w, &fd);
	static const char *const targets[] = {"/srv/www/html", "/var/run/lock/file", "//data/",
		"/opt/./app/../app/conf", "/mnt/used", "/../.."};
	for (size_t i = 0; i < ARRAY_LEN(targets); i++)
		assert_int_equal(strv_push(&mounts, targets[i]), 0);
	assert_diff(r, &mounts, "A /mnt\nA /mnt/used\nA /mnt/used/file\nA /other\nA /third\n");
	read_layer(r, &mounts, &got);
	assert_names(&got, "\ndata\nmnt\nmnt/used\nmnt/used/file\nother\nthird = other\nvar\n");
	dump_done(&got);
	assert_diff(r, NULL,
		"A /mnt\nA /mnt/used\nA /mnt/used/file\nA /opt\nA /opt/app\nA /opt/app/conf\nA /other\nC "
		"/run\nA /run/lock\n"
		"A /run/lock/file\nA /srv\nA /srv/www\nA /srv/www/html\nA /third\n");
	strv_done(&mounts);
	storage_root_free(r);
}

static int stop_at_second(void *data, enum storage_change kind, const char *path)
{
	return ++*(int *)data == 2 ? 77 : 0;
}

static void test_stopped(void **state)
{
	SKIP_IN_EMULATOR();
	struct world *w = *state;
	struct err e = {0};
	int n = 0;

	make_layers(w, "");
	CLEANUP_CLOSE int fd = open_disk(w);
	struct storage_root *r = open_root(w, &fd);
	assert_int_equal(storage_diff(r, NULL, stop_at_second, &n, &e), 77);
	assert_int_equal(n, 2);
	storage_root_free(r);
}

/* Sockets: no archive has them, and what one lies over is gone. */
static void test_sockets(void **state)
{
	SKIP_IN_EMULATOR();
	struct world *w = *state;
	struct dump got = {0};

	shell(w, "mkdir -p base up/upper && echo x > base/was-file && : > up/upper/was-file && : > "
		 "up/upper/new");
	make_disk(w, "", "sif upper/was-file mode 0140755\nsif upper/new mode 0140755");
	CLEANUP_CLOSE int fd = open_disk(w);
	struct storage_root *r = open_root(w, &fd);
	assert_diff(r, NULL, "A /new\nC /was-file\n");
	read_layer(r, NULL, &got);
	assert_names(&got, "\nwas-file whiteout\n");
	dump_done(&got);
	got = (struct dump){0};
	read_all(r, &got);
	assert_names(&got, "\n");
	dump_done(&got);
	storage_root_free(r);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, world_setup, world_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_both),
		TEST(test_nothing),
		TEST(test_mounts),
		TEST(test_stopped),
		TEST(test_sockets),
	};

	return cmocka_run_group_tests_name("storage", tests, NULL, NULL);
}
