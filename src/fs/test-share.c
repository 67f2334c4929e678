/* SPDX-License-Identifier: MIT */
/* Several at once: two boxes with a volume, locks between them, what may be believed, and many threads. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
/* cmocka.h needs the four above. */
#include <cmocka.h>

#include "base/io.h"
#include "test-client.h"

static const unsigned volume[] = {CLIENT_VOLUME}, plain[] = {0};

/* Looks after the leases of servers, as their process's thread does. */
struct keeper {
	struct client *clients[2];
	atomic_bool stop;
	pthread_t thread;
};

static void *keep(void *data)
{
	struct keeper *k = data;
	const struct timespec wait = {.tv_nsec = 20000000};
	sigset_t io;

	sigemptyset(&io);
	sigaddset(&io, SIGIO);
	while (!atomic_load(&k->stop)) {
		(void)sigtimedwait(&io, NULL, &wait);
		for (size_t i = 0; i < ARRAY_LEN(k->clients); i++)
			if (k->clients[i])
				fs_leases_look(k->clients[i]->s);
	}
	return NULL;
}

static void test_lease(void **state)
{
	struct client a, b;
	struct keeper k = {.clients = {&a}};
	struct fuse_entry_out en;
	struct fuse_open_out o, direct, p;
	struct fuse_attr_out at;
	uint64_t before;

	client_start(&a, NULL, 1, volume, 100);
	uint64_t root = client_walk(&a, "");
	assert_int_equal(client_create(&a, root, "f", O_RDWR, 0644, &en, &o), 0);
	assert_false(o.open_flags & FOPEN_DIRECT_IO);
	assert_int_equal(en.entry_valid, 1);
	assert_int_equal(en.attr_valid, 1);
	struct fuse_entry_out none;
	assert_int_equal(
		client_call(&a, FUSE_LOOKUP, root, "none", 5, NULL, 0, &none, sizeof(none)), sizeof(none));
	assert_int_equal(none.nodeid, 0);
	assert_int_equal(none.entry_valid, 1);
	assert_int_equal(client_getattr(&a, en.nodeid, &at), 0);
	pthread_create(&k.thread, NULL, keep, &k);

	/* Another box: it waits until all that was said is over. */
	before = time_mono_ns();
	client_join(&b, &a, 1, volume);
	assert_true(time_mono_ns() - before > 1000000000);
	assert_int_equal(client_getattr(&a, en.nodeid, &at), 0);
	assert_int_equal(at.attr_valid, 0);
	assert_int_equal(
		client_call(&a, FUSE_LOOKUP, root, "none", 5, NULL, 0, &none, sizeof(none)), -ENOENT);
	assert_int_equal(client_open(&a, en.nodeid, O_RDWR, &direct), 0);
	assert_true(direct.open_flags & FOPEN_DIRECT_IO);
	uint64_t f = client_walk(&b, "f");
	assert_int_equal(client_open(&b, f, O_RDWR, &p), 0);
	assert_true(p.open_flags & FOPEN_DIRECT_IO);

	/* What a still has of it: every change is seen, although times have the granularity of the host's tick. */
	for (unsigned i = 0; i < 200; i++) {
		struct fuse_attr_out one, two;
		char c = (char)('a' + i % 26), got;
		assert_int_equal(client_getattr(&a, en.nodeid, &one), 0);
		assert_int_equal(client_write(&b, f, p.fh, 0, &c, 1, 0, 0), 1);
		assert_int_equal(client_getattr(&a, en.nodeid, &two), 0);
		assert_true(one.attr.size != two.attr.size || one.attr.mtime != two.attr.mtime ||
			    one.attr.mtimensec != two.attr.mtimensec);
		assert_int_equal(client_read(&a, en.nodeid, o.fh, 0, &got, 1), 1);
		assert_int_equal(got, c);
	}

	/* It leaves: alone again. */
	client_stop(&b, false);
	for (unsigned i = 0; i < 500 && !atomic_load(&a.s->exports[0].alone); i++)
		usleep(20000);
	assert_int_equal(client_getattr(&a, en.nodeid, &at), 0);
	assert_int_equal(at.attr_valid, 1);
	atomic_store(&k.stop, true);
	pthread_join(k.thread, NULL);
	client_stop(&a, true);
}

static uint32_t reopened(struct client *c, uint64_t node)
{
	struct fuse_open_out o;

	assert_int_equal(client_open(c, node, O_RDONLY, &o), 0);
	assert_int_equal(client_close(c, node, o.fh), 0);
	return o.open_flags;
}

static void test_content_is_kept(void **state)
{
	struct client c;
	struct fuse_attr_out a;
	struct stat st;

	client_start(&c, NULL, 1, plain, 100);
	assert_int_equal(io_write_file_at(c.dir, "f", "1", 1, 0644), 0);
	uint64_t f = client_walk(&c, "f");
	CLEANUP_CLOSE int fd = openat(c.dir, "f", O_WRONLY | O_CLOEXEC);
	/* Too young to tell: a change may have come within the tick. Again, if it was not young any more by then. */
	do {
		assert_int_equal(pwrite(fd, "1", 1, 0), 1);
		assert_int_equal(fstat(fd, &st), 0);
		reopened(&c, f);
	} while (!attr_is_racy(&st.st_ctim));
	assert_int_equal(reopened(&c, f), 0);
	while (attr_is_racy(&st.st_ctim))
		usleep(1000);
	reopened(&c, f);
	assert_int_equal(reopened(&c, f), FOPEN_KEEP_CACHE);
	assert_int_equal(client_getattr(&c, f, &a), 0);
	assert_int_equal(a.attr_valid, 0); /* the host may do anything at any time */
	assert_int_equal(pwrite(fd, "2", 1, 0), 1);
	/* The same size, and the time put back: the change of that is seen. */
	const struct timespec t[2] = {
		{(time_t)a.attr.atime, a.attr.atimensec}, {(time_t)a.attr.mtime, a.attr.mtimensec}};
	assert_int_equal(futimens(fd, t), 0);
	assert_int_equal(reopened(&c, f), 0);
	client_stop(&c, true);

	client_start(&c, NULL, 1, volume, 100);
	assert_int_equal(io_write_file_at(c.dir, "f", "1", 1, 0644), 0);
	f = client_walk(&c, "f");
	reopened(&c, f);
	assert_int_equal(reopened(&c, f), FOPEN_KEEP_CACHE); /* nobody else is there */
	client_stop(&c, true);
}

struct counter {
	struct client *c;
	uint64_t owner;
	bool flock;
	unsigned rounds;
};

/* Reads a number, adds one, writes it back, under a lock; each thread is a process of its box. */
static void *count(void *data)
{
	struct counter *t = data;
	struct fuse_open_out o;
	uint64_t f = client_walk(t->c, "n");
	unsigned v = 0;

	assert_int_equal(client_open(t->c, f, O_RDWR, &o), 0);
	for (unsigned i = 0; i < t->rounds; i++) {
		assert_int_equal(client_lock(t->c, f, o.fh, t->owner, F_WRLCK, t->flock, true), 0);
		assert_int_equal(client_read(t->c, f, o.fh, 0, &v, sizeof(v)), sizeof(v));
		v++;
		assert_int_equal(client_write(t->c, f, o.fh, 0, &v, sizeof(v), 0, 0), sizeof(v));
		assert_int_equal(client_lock(t->c, f, o.fh, t->owner, F_UNLCK, t->flock, false), 0);
	}
	assert_int_equal(client_close(t->c, f, o.fh), 0);
	return NULL;
}

static void test_no_lost_update(void **state)
{
	enum { THREADS = 4, ROUNDS = 100 };
	struct client a, b;
	unsigned v = 0;

	client_start(&a, NULL, 1, plain, 100);
	client_join(&b, &a, 1, plain);
	CLEANUP_CLOSE int fd = openat(a.dir, "n", O_CREAT | O_RDWR | O_CLOEXEC, 0644);
	for (unsigned flock = 0; flock < 2; flock++) {
		struct counter t[THREADS];
		pthread_t thread[THREADS];
		v = 0;
		assert_int_equal(pwrite(fd, &v, sizeof(v), 0), sizeof(v));
		for (unsigned i = 0; i < THREADS; i++) {
			t[i] = (struct counter){i % 2 ? &b : &a, i + 1, flock, ROUNDS};
			pthread_create(&thread[i], NULL, count, &t[i]);
		}
		for (unsigned i = 0; i < THREADS; i++)
			pthread_join(thread[i], NULL);
		assert_int_equal(pread(fd, &v, sizeof(v), 0), sizeof(v));
		assert_int_equal(v, THREADS * ROUNDS);
	}
	assert_int_equal(a.s->waiters, 0);
	client_stop(&b, false);
	client_stop(&a, true);
}

struct waiter {
	struct client *c;
	uint64_t node, fh;
	int result;
};

static void *wait_for_lock(void *data)
{
	struct waiter *w = data;

	w->result = client_lock(w->c, w->node, w->fh, 99, F_WRLCK, false, true);
	return NULL;
}

static void test_locks(void **state)
{
	struct client a, b;
	struct fuse_open_out o, p;
	pthread_t thread;

	client_start(&a, NULL, 1, plain, 100);
	client_join(&b, &a, 1, plain);
	assert_int_equal(io_write_file_at(a.dir, "f", "1", 1, 0644), 0);
	uint64_t f = client_walk(&a, "f"), g = client_walk(&b, "f");
	assert_int_equal(client_open(&a, f, O_RDWR, &o), 0);
	assert_int_equal(client_open(&b, g, O_RDWR, &p), 0);
	assert_int_equal(client_lock(&a, f, o.fh, 1, F_WRLCK, false, false), 0);
	assert_int_equal(client_lock(&a, f, o.fh, 1, F_WRLCK, false, false), 0); /* its own */
	assert_int_equal(client_lock(&a, f, o.fh, 2, F_RDLCK, false, false), -EAGAIN);
	assert_int_equal(client_lock(&b, g, p.fh, 1, F_RDLCK, false, false), -EAGAIN);
	struct fuse_lk_in in = {.fh = p.fh, .owner = 1, .lk = {.end = INT64_MAX, .type = F_WRLCK}};
	struct fuse_lk_out out;
	assert_int_equal(
		client_call(&b, FUSE_GETLK, g, &in, sizeof(in), NULL, 0, &out, sizeof(out)), sizeof(out));
	assert_int_equal(out.lk.type, F_WRLCK);
	assert_int_equal(out.lk.end, INT64_MAX);
	in.lk = (struct fuse_file_lock){.start = 5, .end = 4, .type = F_WRLCK};
	assert_int_equal(client_call(&b, FUSE_SETLK, g, &in, sizeof(in), NULL, 0, NULL, 0), -EINVAL);
	in.lk = (struct fuse_file_lock){.start = UINT64_MAX, .end = UINT64_MAX, .type = F_WRLCK};
	assert_int_equal(client_call(&b, FUSE_SETLK, g, &in, sizeof(in), NULL, 0, NULL, 0), -EINVAL);
	in.lk = (struct fuse_file_lock){.end = 1, .type = 77};
	assert_int_equal(client_call(&b, FUSE_SETLK, g, &in, sizeof(in), NULL, 0, NULL, 0), -EINVAL);
	/* One that waits has it as soon as the other's process closes the file. */
	struct waiter w = {&b, g, p.fh, 1};
	pthread_create(&thread, NULL, wait_for_lock, &w);
	while (atomic_load(&b.s->waiters) == 0)
		usleep(1000);
	struct fuse_flush_in fl = {.fh = o.fh, .lock_owner = 1};
	assert_int_equal(client_call(&a, FUSE_FLUSH, f, &fl, sizeof(fl), NULL, 0, NULL, 0), 0);
	pthread_join(thread, NULL);
	assert_int_equal(w.result, 0);
	assert_int_equal(a.s->n_owners,
		1); /* of the two that there were, the second never got it, and is kept until it closes */
	/* The driver is reset while one waits. */
	w = (struct waiter){&a, f, o.fh, 1};
	pthread_create(&thread, NULL, wait_for_lock, &w);
	while (atomic_load(&a.s->waiters) == 0)
		usleep(1000);
	fs_reset(a.s);
	pthread_join(thread, NULL);
	assert_int_equal(w.result, -EINTR);
	assert_int_equal(a.s->n_owners, 0);
	/* flock, and its end with the handle. */
	client_init(&a);
	f = client_walk(&a, "f");
	assert_int_equal(client_open(&a, f, O_RDONLY, &o), 0);
	assert_int_equal(client_lock(&a, f, o.fh, 1, F_WRLCK, true, false), 0);
	assert_int_equal(client_lock(&b, g, p.fh, 1, F_RDLCK, true, false), -EAGAIN);
	assert_int_equal(client_close(&a, f, o.fh), 0);
	assert_int_equal(client_lock(&b, g, p.fh, 1, F_RDLCK, true, false), 0);
	client_stop(&b, false);
	client_stop(&a, true);
}

struct storm {
	struct client *c;
	unsigned seed;
};

/* All kinds of requests on the same few names and nodes. */
static void *storm(void *data)
{
	struct storm *t = data;
	struct client *c = t->c;
	uint64_t root = client_walk(c, "");
	struct fuse_entry_out en;
	struct fuse_open_out o;
	struct fuse_attr_out a;
	char name[8], other[8], buf[4096];

	for (unsigned i = 0; i < 1500; i++) {
		unsigned x = (unsigned)rand_r(&t->seed);
		snprintf(name, sizeof(name), "n%u", x % 6);
		snprintf(other, sizeof(other), "n%u", x / 6 % 6);
		switch (x / 64 % 9) {
		case 0:
			if (client_create(c, root, name, O_RDWR, 0640, &en, &o) == 0) {
				client_write(
					c, en.nodeid, o.fh, 0, buf, sizeof(buf), 0, FUSE_WRITE_KILL_SUIDGID);
				client_close(c, en.nodeid, o.fh);
				client_forget(c, en.nodeid, 1);
			}
			break;
		case 1:
			client_unlink(c, root, name);
			break;
		case 2:
			client_rename(c, root, name, root, other, 0);
			break;
		case 3:
			client_mkdir(c, root, name, 0755, &en);
			break;
		case 4:
			client_call(c, FUSE_RMDIR, root, name, strlen(name) + 1, NULL, 0, NULL, 0);
			break;
		default:
			if (client_lookup(c, root, name, &en) < 0)
				break;
			client_getattr(c, en.nodeid, &a);
			struct fuse_setattr_in in = {.valid = FATTR_UID, .uid = x % 5};
			client_setattr(c, en.nodeid, &in, NULL);
			if (client_open(c, en.nodeid, O_RDWR, &o) == 0) {
				client_read(c, en.nodeid, o.fh, 0, buf, sizeof(buf));
				client_lock(c, en.nodeid, o.fh, x % 3, F_WRLCK, false, x % 2);
				client_lock(c, en.nodeid, o.fh, x % 3, F_UNLCK, false, false);
				client_close(c, en.nodeid, o.fh);
			}
			client_forget(c, en.nodeid, 1);
		}
	}
	return NULL;
}

static void test_storm(void **state)
{
	struct client c;
	struct storm t[4];
	pthread_t thread[ARRAY_LEN(t)];

	client_start(&c, NULL, 1, volume, 3);
	for (unsigned i = 0; i < ARRAY_LEN(t); i++) {
		t[i] = (struct storm){&c, i + 1};
		pthread_create(&thread[i], NULL, storm, &t[i]);
	}
	for (unsigned i = 0; i < ARRAY_LEN(t); i++)
		pthread_join(thread[i], NULL);
	fs_reset(c.s);
	assert_int_equal(c.s->n_nodes, 2);
	assert_int_equal(c.s->n_fds, 0);
	assert_int_equal(c.s->n_handles, 0);
	assert_int_equal(c.s->n_owners, 0);
	assert_int_equal(c.s->exports[0].granting, 0);
	client_stop(&c, true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lease),
		cmocka_unit_test(test_content_is_kept),
		cmocka_unit_test(test_no_lost_update),
		cmocka_unit_test(test_locks),
		cmocka_unit_test(test_storm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
