/* SPDX-License-Identifier: MIT */
/* POSIX locks of the processes of one box: whose they are, who waits for whom, and waits that are interrupted. */
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/io.h"
#include "test-client.h"

enum { FILES = 4, END = 64 };

struct fixture {
	struct client c;
	uint64_t node[FILES], fh[FILES];
};

static int setup(void **state)
{
	static const unsigned plain[] = {0};
	struct fixture *f = calloc(1, sizeof(*f));
	struct fuse_open_out o;

	client_start(&f->c, NULL, 1, plain, 100);
	for (unsigned i = 0; i < FILES; i++) {
		const char name[] = {(char)('a' + i), 0};
		assert_int_equal(io_write_file_at(f->c.dir, name, "1", 1, 0644), 0);
		f->node[i] = client_walk(&f->c, name);
		assert_int_equal(client_open(&f->c, f->node[i], O_RDWR, &o), 0);
		f->fh[i] = o.fh;
	}
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(f->c.s->waiters, 0);
	assert_null(f->c.s->lock_waits);
	fs_reset(f->c.s);
	assert_int_equal(f->c.s->n_owners, 0);
	assert_int_equal(f->c.s->n_held, 0);
	client_stop(&f->c, true);
	free(f);
	return 0;
}

/* A process of the box is one owner, and has that number. */
static int lock(struct fixture *f, uint32_t process, unsigned file, uint32_t type, uint64_t start,
	uint64_t end, bool wait, const atomic_bool *interrupted)
{
	struct client c = f->c;
	struct fuse_lk_in in = {.fh = f->fh[file],
		.owner = process,
		.lk = {.start = start, .end = end, .type = type, .pid = type == F_UNLCK ? 0 : process}};

	c.interrupted = interrupted;
	return client_call(
		&c, wait ? FUSE_SETLKW : FUSE_SETLK, f->node[file], &in, sizeof(in), NULL, 0, NULL, 0);
}

static int lock_all(struct fixture *f, uint32_t process, unsigned file, uint32_t type, bool wait)
{
	return lock(f, process, file, type, 0, INT64_MAX, wait, NULL);
}

/* What is in the way of an exclusive lock. */
static struct fuse_file_lock whose(
	struct fixture *f, uint32_t process, unsigned file, uint64_t start, uint64_t end)
{
	struct fuse_lk_in in = {.fh = f->fh[file],
		.owner = process,
		.lk = {.start = start, .end = end, .type = F_WRLCK, .pid = process}};
	struct fuse_lk_out out;

	assert_int_equal(
		client_call(&f->c, FUSE_GETLK, f->node[file], &in, sizeof(in), NULL, 0, &out, sizeof(out)),
		sizeof(out));
	return out.lk;
}

struct waiter {
	struct fixture *f;
	uint32_t process;
	unsigned file;
	uint32_t type;
	atomic_bool interrupted;
	pthread_t thread;
	int result;
};

static void *wait_main(void *data)
{
	struct waiter *w = data;

	w->result = lock(w->f, w->process, w->file, w->type, 0, INT64_MAX, true, &w->interrupted);
	return NULL;
}

/* Begins a wait, and returns once it waits, the n-th. */
static void begin(struct waiter *w, unsigned n)
{
	atomic_store(&w->interrupted, false);
	assert_int_equal(pthread_create(&w->thread, NULL, wait_main, w), 0);
	while (atomic_load(&w->f->c.s->waiters) < n)
		usleep(500);
}

static int finish(struct waiter *w)
{
	pthread_join(w->thread, NULL);
	return w->result;
}

static void test_whose(void **state)
{
	struct fixture *f = *state;
	struct fuse_file_lock lk;

	assert_int_equal(whose(f, 1, 0, 0, INT64_MAX).type, F_UNLCK);
	assert_int_equal(lock(f, 7, 0, F_WRLCK, 10, 19, false, NULL), 0);
	assert_int_equal(lock(f, 8, 0, F_RDLCK, 30, INT64_MAX, false, NULL), 0);
	lk = whose(f, 1, 0, 0, 25);
	assert_int_equal(lk.pid, 7);
	assert_int_equal(lk.start, 10);
	assert_int_equal(lk.end, 19);
	lk = whose(f, 7, 0, 0, 100);
	assert_int_equal(lk.pid, 8);
	assert_int_equal(lk.type, F_RDLCK);
	assert_int_equal(lk.end, INT64_MAX);
	/* Its own is in nobody's way, and another file has others. */
	assert_int_equal(whose(f, 7, 0, 0, 29).type, F_UNLCK);
	assert_int_equal(whose(f, 1, 1, 0, 29).type, F_UNLCK);
	/* One of the host is nobody's here. */
	CLEANUP_CLOSE int fd = openat(f->c.dir, "b", O_RDWR | O_CLOEXEC);
	struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	assert_int_equal(fcntl(fd, F_OFD_SETLK, &l), 0);
	lk = whose(f, 1, 1, 0, 29);
	assert_int_equal(lk.type, F_WRLCK);
	assert_int_equal(lk.pid, 0);
	/* Closed, it is gone, and so is what was known of it. */
	struct fuse_flush_in fl = {.fh = f->fh[0], .lock_owner = 7};
	assert_int_equal(client_call(&f->c, FUSE_FLUSH, f->node[0], &fl, sizeof(fl), NULL, 0, NULL, 0), 0);
	assert_int_equal(whose(f, 1, 0, 0, 29).type, F_UNLCK);
	assert_int_equal(f->c.s->n_held, 1);
}

/* What is noted is what the kernel has, however it was put together: else a conflict would be nobody's. */
static void test_noted_as_granted(void **state)
{
	struct fixture *f = *state;
	/* By byte, and process: what it holds. */
	uint32_t model[3][END];
	unsigned seed = 1, conflicts = 0;

	for (unsigned p = 0; p < 3; p++)
		for (unsigned i = 0; i < END; i++)
			model[p][i] = F_UNLCK;
	for (unsigned i = 0; i < 3000; i++) {
		static const uint32_t types[] = {F_RDLCK, F_WRLCK, F_UNLCK};
		unsigned p = (unsigned)rand_r(&seed) % 3, a = (unsigned)rand_r(&seed) % END;
		unsigned b = a + (unsigned)rand_r(&seed) % 9, end = MIN_OF(b, END - 1u);
		uint32_t type = types[rand_r(&seed) % 3];
		if (lock(f, p + 1, 0, type, a, b >= END ? INT64_MAX : b, false, NULL) == 0)
			for (unsigned j = a; j <= end; j++)
				model[p][j] = type;
		struct fuse_file_lock lk = whose(f, 9, 0, a, end);
		bool any = false;
		for (unsigned q = 0; q < 3; q++)
			for (unsigned j = a; j <= end; j++)
				any |= model[q][j] != F_UNLCK;
		assert_int_equal(lk.type != F_UNLCK, any);
		if (!any)
			continue;
		conflicts++;
		assert_in_range(lk.pid, 1, 3);
		for (uint64_t j = lk.start; j <= MIN_OF(lk.end, END - 1u); j++)
			assert_int_equal(model[lk.pid - 1][j], lk.type);
	}
	assert_true(conflicts > 500);
}

/* More than is noted: the locks are granted all the same, whose they are is not known, and no deadlock is made up. */
static void test_too_many(void **state)
{
	struct fixture *f = *state;

	f->c.s->n_held = HELD_MAX - 1; /* as if others had them */
	assert_int_equal(lock(f, 1, 0, F_WRLCK, 0, 0, false, NULL), 0);
	assert_int_equal(whose(f, 2, 0, 0, 0).pid, 1);
	assert_int_equal(lock(f, 1, 0, F_WRLCK, 2, 2, false, NULL), 0);
	assert_int_equal(f->c.s->n_held, HELD_MAX - 1);
	assert_int_equal(whose(f, 2, 0, 0, 0).type, F_WRLCK);
	assert_int_equal(whose(f, 2, 0, 0, 0).pid, 0);
	assert_int_equal(lock(f, 1, 0, F_UNLCK, 0, INT64_MAX, false, NULL), 0);
	assert_int_equal(lock(f, 2, 0, F_WRLCK, 0, 0, false, NULL), 0);
	assert_int_equal(whose(f, 1, 0, 0, 0).pid, 2);
	assert_int_equal(lock(f, 2, 0, F_UNLCK, 0, 0, false, NULL), 0);
	f->c.s->n_held -= HELD_MAX - 1;
}

static void test_deadlock_of_two(void **state)
{
	struct fixture *f = *state;
	struct waiter one = {.f = f, .process = 1, .file = 1, .type = F_WRLCK};

	assert_int_equal(lock_all(f, 1, 0, F_WRLCK, false), 0);
	assert_int_equal(lock_all(f, 2, 1, F_WRLCK, false), 0);
	begin(&one, 1);
	assert_int_equal(lock_all(f, 2, 0, F_WRLCK, true), -EDEADLK);
	assert_int_equal(lock_all(f, 2, 0, F_RDLCK, true), -EDEADLK);
	/* It has what it had, and the other gets it in the end. */
	assert_int_equal(whose(f, 3, 1, 0, 0).pid, 2);
	assert_int_equal(lock_all(f, 2, 1, F_UNLCK, false), 0);
	assert_int_equal(finish(&one), 0);
	assert_int_equal(whose(f, 3, 1, 0, 0).pid, 1);
}

/* Through two others, on files of their own; one of them has but a shared lock, and so have others. */
static void test_deadlock_of_three(void **state)
{
	struct fixture *f = *state;
	struct waiter one = {.f = f, .process = 1, .file = 1, .type = F_WRLCK},
		      two = {.f = f, .process = 2, .file = 2, .type = F_RDLCK};

	assert_int_equal(lock_all(f, 1, 0, F_WRLCK, false), 0);
	assert_int_equal(lock_all(f, 4, 1, F_RDLCK, false), 0);
	assert_int_equal(lock_all(f, 2, 1, F_RDLCK, false), 0);
	assert_int_equal(lock_all(f, 3, 2, F_WRLCK, false), 0);
	begin(&one, 1);
	begin(&two, 2);
	assert_int_equal(lock_all(f, 3, 0, F_RDLCK, true), -EDEADLK);
	assert_int_equal(lock_all(f, 3, 2, F_UNLCK, false), 0);
	assert_int_equal(finish(&two), 0);
	assert_int_equal(lock_all(f, 2, 1, F_UNLCK, false), 0);
	assert_int_equal(lock_all(f, 4, 1, F_UNLCK, false), 0);
	assert_int_equal(finish(&one), 0);
}

/* A chain is no cycle, nor is what does not overlap, nor two that read. */
static void test_no_deadlock(void **state)
{
	struct fixture *f = *state;
	struct waiter one = {.f = f, .process = 1, .file = 1, .type = F_WRLCK},
		      three = {.f = f, .process = 3, .file = 0, .type = F_RDLCK};

	assert_int_equal(lock(f, 1, 0, F_WRLCK, 0, 9, false, NULL), 0);
	assert_int_equal(lock_all(f, 2, 1, F_WRLCK, false), 0);
	assert_int_equal(lock(f, 1, 2, F_RDLCK, 0, 9, false, NULL), 0);
	begin(&one, 1);
	begin(&three, 2);
	/* Beside, and with, what the one who waits for it has: at once. */
	assert_int_equal(lock(f, 2, 0, F_WRLCK, 10, 19, true, NULL), 0);
	assert_int_equal(lock(f, 2, 0, F_UNLCK, 10, 19, true, NULL), 0);
	assert_int_equal(lock(f, 2, 2, F_RDLCK, 0, 9, true, NULL), 0);
	assert_int_equal(lock_all(f, 2, 1, F_UNLCK, false), 0);
	assert_int_equal(finish(&one), 0);
	assert_int_equal(lock_all(f, 1, 0, F_UNLCK, false), 0);
	assert_int_equal(finish(&three), 0);
}

static void test_interrupt(void **state)
{
	struct fixture *f = *state;
	struct waiter w[4];

	assert_int_equal(lock_all(f, 1, 0, F_WRLCK, false), 0);
	for (unsigned i = 0; i < 4; i++) {
		w[i] = (struct waiter){.f = f, .process = 2 + i, .type = F_WRLCK};
		begin(&w[i], i + 1);
	}
	/* That one, and no other. */
	fs_interrupt(f->c.s, &w[2].interrupted);
	assert_int_equal(finish(&w[2]), -EINTR);
	assert_int_equal(f->c.s->waiters, 3);
	fs_interrupt(f->c.s, &w[0].interrupted);
	fs_interrupt(f->c.s, &w[1].interrupted);
	assert_int_equal(finish(&w[0]), -EINTR);
	assert_int_equal(finish(&w[1]), -EINTR);
	assert_int_equal(lock_all(f, 1, 0, F_UNLCK, false), 0);
	assert_int_equal(finish(&w[3]), 0);
	/* None of them has it by and by. */
	assert_int_equal(lock_all(f, 5, 0, F_UNLCK, false), 0);
	assert_int_equal(whose(f, 1, 0, 0, 0).type, F_UNLCK);
}

/* Before it waits: what is free it gets, as a system call does that a signal is pending for. */
static void test_interrupted_before(void **state)
{
	struct fixture *f = *state;
	const atomic_bool interrupted = true;

	assert_int_equal(lock(f, 1, 0, F_WRLCK, 0, 9, true, &interrupted), 0);
	assert_int_equal(lock(f, 2, 0, F_WRLCK, 0, 9, true, &interrupted), -EINTR);
	assert_int_equal(whose(f, 3, 0, 0, 9).pid, 1);
}

/* A wait that ends and an interrupt at the same time: one or the other, and never is an interrupt missed. */
static void test_interrupt_race(void **state)
{
	struct fixture *f = *state;
	unsigned got = 0;

	for (unsigned i = 0; i < 300; i++) {
		struct waiter w = {.f = f, .process = 2, .type = F_WRLCK};
		assert_int_equal(lock_all(f, 1, 0, F_WRLCK, false), 0);
		begin(&w, 0); /* perhaps it waits already */
		if (i % 3 == 0)
			sched_yield();
		if (i % 2)
			assert_int_equal(lock_all(f, 1, 0, F_UNLCK, false), 0);
		fs_interrupt(f->c.s, &w.interrupted);
		int r = finish(&w);
		assert_true(r == -EINTR || (r == 0 && i % 2));
		got += r == 0;
		assert_int_equal(lock_all(f, r == 0 ? 2 : 1, 0, F_UNLCK, false), 0);
		assert_int_equal(whose(f, 3, 0, 0, 9).type, F_UNLCK);
	}
	assert_true(got <= 150);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_whose, setup, teardown),
		cmocka_unit_test_setup_teardown(test_noted_as_granted, setup, teardown),
		cmocka_unit_test_setup_teardown(test_too_many, setup, teardown),
		cmocka_unit_test_setup_teardown(test_deadlock_of_two, setup, teardown),
		cmocka_unit_test_setup_teardown(test_deadlock_of_three, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_deadlock, setup, teardown),
		cmocka_unit_test_setup_teardown(test_interrupt, setup, teardown),
		cmocka_unit_test_setup_teardown(test_interrupted_before, setup, teardown),
		cmocka_unit_test_setup_teardown(test_interrupt_race, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
