/* SPDX-License-Identifier: MIT */
/* What a guest hears of changes: those that others make, to what it watches, and nothing of its own. */
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/wait.h>
/* cmocka.h needs the four above. */
#include <cmocka.h>

#include "base/emulator.h"
#include "base/io.h"
#include "test-client.h"

#define ALL (IN_ALL_EVENTS | FAN_EVENT_ON_CHILD)

static const unsigned plain[] = {0};

struct heard {
	struct fuse_watch_event ev;
	char name[FS_NAME_MAX + 1];
};

/* Replies that were read and not yet looked at. */
static struct {
	char buf[4000];
	size_t at, len;
} pending;

static int watch(struct client *c, uint64_t node, uint32_t mask)
{
	const struct fuse_watch_in in = {.mask = mask};

	return client_call(c, FUSE_WATCH, node, &in, sizeof(in), NULL, 0, NULL, 0);
}

static int events(struct client *c, void *buf, size_t size)
{
	return client_call(c, FUSE_WATCH_EVENTS, FUSE_ROOT_ID, NULL, 0, NULL, 0, buf, size);
}

/* Waits for it. */
static void next(struct client *c, struct heard *h)
{
	if (pending.at == pending.len) {
		int n = events(c, pending.buf, sizeof(pending.buf));
		assert_true(n > 0);
		pending.at = 0;
		pending.len = (size_t)n;
	}
	assert_true(pending.len - pending.at >= sizeof(h->ev));
	memcpy(&h->ev, pending.buf + pending.at, sizeof(h->ev));
	assert_true(h->ev.namelen <= FS_NAME_MAX);
	size_t len = FUSE_WATCH_EVENT_LEN(h->ev.namelen);
	assert_true(pending.len - pending.at >= len);
	memcpy(h->name, pending.buf + pending.at + sizeof(h->ev), h->ev.namelen + 1);
	assert_int_equal(strlen(h->name), h->ev.namelen);
	pending.at += len;
}

static void expect_flags(struct client *c, uint64_t node, uint32_t mask, const char *name, uint32_t flags,
	uint32_t *ret_cookie)
{
	struct heard h;

	next(c, &h);
	if (h.ev.nodeid != node || h.ev.mask != mask || strcmp(h.name, name) != 0 || h.ev.flags != flags)
		fail_msg("heard %x of %llu \"%s\", flags %u, not %x of %llu \"%s\", flags %u", h.ev.mask,
			(unsigned long long)h.ev.nodeid, h.name, h.ev.flags, mask, (unsigned long long)node,
			name, flags);
	*ret_cookie = h.ev.cookie;
}

static void expect(struct client *c, uint64_t node, uint32_t mask, const char *name)
{
	uint32_t cookie;

	expect_flags(c, node, mask, name, 0, &cookie);
	assert_int_equal(cookie, 0);
}

static void expect_gone(struct client *c, uint64_t node)
{
	uint32_t cookie;

	expect_flags(c, node, 0, "", FUSE_WATCH_GONE, &cookie);
}

typedef int (*change_fn)(int dir);

/* Another process does it. */
static void other(const struct client *c, change_fn change)
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0)
		_exit(change(c->dir) < 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static int write_f(int dir)
{
	CLEANUP_CLOSE int fd = openat(dir, "f", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

	return fd < 0 ? -1 : (int)write(fd, "x", 1);
}

static int chmod_f(int dir)
{
	return fchmodat(dir, "f", 0600, 0);
}

static int rename_f_g(int dir)
{
	return renameat(dir, "f", dir, "g");
}

static int move_in(int dir)
{
	return renameat(dir, "g", dir, "d/h");
}

static int remove_f(int dir)
{
	return unlinkat(dir, "f", 0);
}

static int make_d(int dir)
{
	return mkdirat(dir, "d", 0755);
}

static int remove_d(int dir)
{
	return unlinkat(dir, "d", AT_REMOVEDIR);
}

/* A server whose folder's node is returned, or the test is skipped. */
static uint64_t start(struct client *c, unsigned max_fds)
{
	pending.at = pending.len = 0;
	client_start(c, NULL, 1, plain, max_fds);
	uint64_t root = client_walk(c, "");
	int r = watch(c, root, ALL);
	if (r == -ENOSYS || r == -ENODEV || r == -EOPNOTSUPP) {
		client_stop(c, true);
		print_message("this host tells of no changes (Linux 5.17, in /tmp): %s\n", strerror(-r));
		skip();
	}
	assert_int_equal(r, 0);
	return root;
}

static void test_folder(void **state)
{
	struct client c;
	struct fuse_entry_out en;
	struct fuse_open_out o;
	uint32_t from, to;

	SKIP_IN_EMULATOR();
	uint64_t root = start(&c, 100);
	/* Its own, of which it hears nothing. */
	assert_int_equal(client_create(&c, root, "own", O_RDWR, 0644, &en, &o), 0);
	assert_int_equal(client_write(&c, en.nodeid, o.fh, 0, "x", 1, O_RDWR, 0), 1);
	assert_int_equal(client_close(&c, en.nodeid, o.fh), 0);
	assert_int_equal(client_rename(&c, root, "own", root, "owned", 0), 0);
	assert_int_equal(client_unlink(&c, root, "owned"), 0);

	other(&c, write_f);
	expect(&c, root, IN_CREATE, "f");
	expect(&c, root, IN_MODIFY, "f");
	expect(&c, root, IN_CLOSE_WRITE, "f");
	other(&c, chmod_f);
	expect(&c, root, IN_ATTRIB, "f");
	other(&c, rename_f_g);
	expect_flags(&c, root, IN_MOVED_FROM, "f", 0, &from);
	expect_flags(&c, root, IN_MOVED_TO, "g", 0, &to);
	assert_int_not_equal(from, 0);
	assert_int_equal(from, to);
	other(&c, make_d);
	expect(&c, root, IN_CREATE | IN_ISDIR, "d");
	/* Only one of the two folders is watched. */
	other(&c, move_in);
	expect_flags(&c, root, IN_MOVED_FROM, "g", 0, &from);
	assert_int_not_equal(from, to);
	assert_int_equal(client_unlink(&c, client_walk(&c, "d"), "h"), 0);
	other(&c, remove_d);
	expect(&c, root, IN_DELETE | IN_ISDIR, "d");
	assert_int_equal(pending.at, pending.len);
	client_stop(&c, true);
}

static void test_only_what_is_asked_for(void **state)
{
	struct client c;

	SKIP_IN_EMULATOR();
	uint64_t root = start(&c, 100);
	/* Requests may overtake each other: what is waited for only grows, until nobody waits. */
	assert_int_equal(watch(&c, root, 0), 0);
	assert_int_equal(watch(&c, root, IN_CREATE), 0);
	other(&c, write_f);
	expect(&c, root, IN_CREATE, "f");
	other(&c, rename_f_g);
	other(&c, make_d);
	expect(&c, root, IN_CREATE | IN_ISDIR, "d");
	/* Not at all any more. */
	assert_int_equal(watch(&c, root, 0), 0);
	assert_int_equal(watch(&c, root, 0), 0);
	other(&c, write_f);
	uint64_t f = client_walk(&c, "f");
	assert_int_equal(watch(&c, f, IN_ATTRIB), 0);
	other(&c, chmod_f);
	expect(&c, f, IN_ATTRIB, "");
	assert_int_equal(pending.at, pending.len);
	client_stop(&c, true);
}

static void test_file(void **state)
{
	struct client c;

	SKIP_IN_EMULATOR();
	uint64_t root = start(&c, 100);
	other(&c, write_f);
	expect(&c, root, IN_CREATE, "f");
	expect(&c, root, IN_MODIFY, "f");
	expect(&c, root, IN_CLOSE_WRITE, "f");
	uint64_t f = client_walk(&c, "f");
	assert_int_equal(watch(&c, f, IN_ALL_EVENTS), 0);
	/* Who watches the folder hears it, and who watches the file. */
	other(&c, chmod_f);
	expect(&c, root, IN_ATTRIB, "f");
	expect(&c, f, IN_ATTRIB, "");
	assert_int_equal(watch(&c, root, 0), 0);
	other(&c, rename_f_g);
	expect(&c, f, IN_MOVE_SELF, "");
	/* Its last name goes, although it has a descriptor here. */
	other(&c, write_f);
	f = client_walk(&c, "f");
	assert_int_equal(watch(&c, f, IN_MODIFY), 0);
	other(&c, remove_f);
	expect_gone(&c, f);
	assert_int_equal(pending.at, pending.len);
	client_stop(&c, true);
}

static void test_folder_is_gone(void **state)
{
	struct client c;

	SKIP_IN_EMULATOR();
	uint64_t root = start(&c, 100);
	other(&c, make_d);
	expect(&c, root, IN_CREATE | IN_ISDIR, "d");
	uint64_t d = client_walk(&c, "d");
	assert_int_equal(watch(&c, d, ALL), 0);
	other(&c, remove_d);
	expect(&c, root, IN_DELETE | IN_ISDIR, "d");
	expect_gone(&c, d);
	client_stop(&c, true);
}

/* Two mounts of one folder: one mark, which goes with the second of them. */
static void test_shared_twice(void **state)
{
	static const unsigned two[2] = {0};
	struct client a, c;
	struct fuse_entry_out en;
	char link[80];

	SKIP_IN_EMULATOR();
	start(&a, 100);
	snprintf(link, sizeof(link), "%s/1", a.path);
	assert_int_equal(symlink("0", link), 0);
	client_join(&c, &a, 2, two);
	uint64_t first = client_walk(&c, "");
	assert_int_equal(client_lookup(&c, FUSE_ROOT_ID, "1", &en), 0);
	assert_int_not_equal(en.nodeid, first);
	assert_int_equal(watch(&c, first, ALL), 0);
	assert_int_equal(watch(&c, en.nodeid, ALL), 0);
	other(&a, make_d);
	expect(&c, en.nodeid, IN_CREATE | IN_ISDIR, "d");
	expect(&c, first, IN_CREATE | IN_ISDIR, "d");
	assert_int_equal(watch(&c, en.nodeid, 0), 0);
	other(&a, remove_d);
	expect(&c, first, IN_DELETE | IN_ISDIR, "d");
	assert_int_equal(pending.at, pending.len);
	client_stop(&c, false);
	client_stop(&a, true);
}

static void test_a_watch_goes_with_its_node(void **state)
{
	struct client c;

	SKIP_IN_EMULATOR();
	uint64_t root = start(&c, 100);
	other(&c, make_d);
	expect(&c, root, IN_CREATE | IN_ISDIR, "d");
	uint64_t d = client_walk(&c, "d");
	assert_int_equal(watch(&c, d, ALL), 0);
	assert_int_equal(c.s->watches.n, 2);
	client_forget(&c, d, 1);
	assert_int_equal(c.s->watches.n, 1);
	fs_reset(c.s);
	assert_int_equal(c.s->watches.n, 0);
	client_init(&c);
	assert_int_equal(watch(&c, root, ALL), 0);
	other(&c, write_f);
	expect(&c, root, IN_CREATE, "f");
	client_stop(&c, true);
}

static void test_as_many_as_may_be(void **state)
{
	enum { FDS = 16 };
	struct client c;
	uint64_t nodes[FDS];
	unsigned n;

	SKIP_IN_EMULATOR();
	uint64_t root = start(&c, FDS);
	for (n = 0; n < FDS; n++) {
		struct fuse_entry_out en;
		char name[12];
		snprintf(name, sizeof(name), "%u", n);
		assert_int_equal(client_mkdir(&c, root, name, 0755, &en), 0);
		nodes[n] = en.nodeid;
		int r = watch(&c, nodes[n], ALL);
		if (r == -ENOSPC)
			break;
		assert_int_equal(r, 0);
	}
	/* Half of the descriptors, of which the root has one. */
	assert_int_equal(n, FDS / 2 - 1);
	assert_int_equal(watch(&c, nodes[0], IN_CREATE), 0);
	assert_int_equal(watch(&c, nodes[0], 0), 0);
	assert_int_equal(watch(&c, nodes[n], ALL), 0);
	/* All is found as before. */
	for (unsigned i = 0; i <= n; i++) {
		struct fuse_attr_out at;
		assert_int_equal(client_getattr(&c, nodes[i], &at), 0);
	}
	client_stop(&c, true);
}

static void test_what_is_not_watched(void **state)
{
	struct client c;
	struct fuse_entry_out en;

	SKIP_IN_EMULATOR();
	uint64_t root = start(&c, 100);
	assert_int_equal(client_symlink(&c, root, "link", "/", &en), 0);
	assert_int_equal(watch(&c, en.nodeid, ALL), -EOPNOTSUPP);
	assert_int_equal(watch(&c, FUSE_ROOT_ID, ALL), -EINVAL);
	assert_int_equal(watch(&c, 12345, ALL), -ESTALE);
	char small[FUSE_WATCH_EVENT_LEN(0) - 1];
	assert_int_equal(events(&c, small, sizeof(small)), -EINVAL);
	/* No room for the name: that something was lost is told. */
	char room[FUSE_WATCH_EVENT_LEN(0)];
	struct fuse_watch_event ev;
	static char long_name[FS_NAME_MAX + 1];
	memset(long_name, 'n', FS_NAME_MAX);
	int to = dup(c.dir);
	assert_true(to >= 0);
	pid_t pid = fork();
	if (pid == 0)
		_exit(mkdirat(to, long_name, 0755) < 0);
	waitpid(pid, NULL, 0);
	assert_int_equal(events(&c, room, sizeof(room)), sizeof(room));
	memcpy(&ev, room, sizeof(ev));
	assert_int_equal(ev.mask, IN_Q_OVERFLOW);
	close(to);
	client_stop(&c, true);
}

static unsigned long queue_size(void)
{
	char text[24] = "";
	CLEANUP_CLOSE int fd = open("/proc/sys/fs/fanotify/max_queued_events", O_RDONLY | O_CLOEXEC);

	assert_true(read(fd, text, sizeof(text) - 1) > 0);
	return strtoul(text, NULL, 10);
}

static int storm(int dir)
{
	char name[24];

	for (unsigned long i = queue_size() + 1000; i-- > 0;) {
		snprintf(name, sizeof(name), "d/%lu", i);
		if (mknodat(dir, name, S_IFREG | 0644, 0) < 0)
			return -1;
	}
	return 0;
}

static void test_overflow(void **state)
{
	struct client c;
	struct heard h;
	unsigned long n = 0;

	SKIP_IN_EMULATOR();
	if (queue_size() > 100000) {
		print_message("the host keeps more events than a test may make\n");
		skip();
	}
	uint64_t root = start(&c, 100);
	other(&c, make_d);
	expect(&c, root, IN_CREATE | IN_ISDIR, "d");
	assert_int_equal(watch(&c, client_walk(&c, "d"), ALL), 0);
	other(&c, storm);
	do {
		next(&c, &h);
		n++;
	} while (!(h.ev.mask & IN_Q_OVERFLOW));
	assert_true(n >= 1000);
	/* And goes on. */
	other(&c, write_f);
	do
		next(&c, &h);
	while (strcmp(h.name, "f") != 0);
	client_stop(&c, true);
}

struct waiter {
	struct client *c;
	int result;
};

static void *wait_main(void *data)
{
	struct waiter *w = data;
	char buf[4000];

	w->result = events(w->c, buf, sizeof(buf));
	return NULL;
}

static void test_the_wait_ends(void **state)
{
	struct client c;
	struct waiter w = {.c = &c};
	pthread_t t;
	char buf[4000];

	SKIP_IN_EMULATOR();
	start(&c, 100);
	assert_int_equal(pthread_create(&t, NULL, wait_main, &w), 0);
	while (!atomic_load(&c.s->watches.waiting))
		sched_yield();
	assert_int_equal(events(&c, buf, sizeof(buf)), -EINTR);
	/* As the guest says when it is about to unmount; one that comes late does not wait either. */
	assert_int_equal(watch(&c, FUSE_ROOT_ID, 0), 0);
	pthread_join(t, NULL);
	assert_int_equal(w.result, -ENOTCONN);
	assert_int_equal(events(&c, buf, sizeof(buf)), -ENOTCONN);
	/* As the machine is reset. */
	fs_reset(c.s);
	client_init(&c);
	assert_int_equal(pthread_create(&t, NULL, wait_main, &w), 0);
	while (!atomic_load(&c.s->watches.waiting))
		sched_yield();
	fs_reset(c.s);
	pthread_join(t, NULL);
	assert_int_equal(w.result, -EINTR);
	client_stop(&c, true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_folder),
		cmocka_unit_test(test_only_what_is_asked_for),
		cmocka_unit_test(test_file),
		cmocka_unit_test(test_folder_is_gone),
		cmocka_unit_test(test_shared_twice),
		cmocka_unit_test(test_a_watch_goes_with_its_node),
		cmocka_unit_test(test_as_many_as_may_be),
		cmocka_unit_test(test_what_is_not_watched),
		cmocka_unit_test(test_overflow),
		cmocka_unit_test(test_the_wait_ends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
