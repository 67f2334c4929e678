/* SPDX-License-Identifier: MIT */
/* The file system device, with a server that does what the test says. */
#include <linux/fuse.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "base/io.h"
#include "device.h"
#include "test-mmio-driver.h"

enum { THREADS_DATA = 8 };

/* Requests: opcode READ goes to a thread and waits for `open_gate`, SETLKW until it is interrupted; all others are done at once. */
struct fs_server {
	pthread_mutex_t lock;
	pthread_cond_t moved;
	unsigned running, most, done, interrupted, on_loop;
	bool gate;
	unsigned resets, running_at_reset;
	pthread_t loop_thread;
};

bool fs_header(const struct iovec *out, unsigned n, struct fuse_in_header *ret)
{
	return iov_read(out, n, 0, ret, sizeof(*ret)) == sizeof(*ret);
}

bool fs_may_block(const struct fuse_in_header *h, const struct iovec *out, unsigned n)
{
	return h->opcode == FUSE_READ || h->opcode == FUSE_SETLKW;
}

static void count(struct fs_server *s, int by)
{
	pthread_mutex_lock(&s->lock);
	s->running += (unsigned)by;
	s->most = MAX_OF(s->most, s->running);
	s->done += by < 0;
	pthread_cond_broadcast(&s->moved);
	pthread_mutex_unlock(&s->lock);
}

static void wait_for_gate(struct fs_server *s)
{
	pthread_mutex_lock(&s->lock);
	while (!s->gate)
		pthread_cond_wait(&s->moved, &s->lock);
	pthread_mutex_unlock(&s->lock);
}

static int wait_for_interrupt(struct fs_server *s, const atomic_bool *interrupted)
{
	pthread_mutex_lock(&s->lock);
	while (!atomic_load(interrupted))
		pthread_cond_wait(&s->moved, &s->lock);
	s->interrupted++;
	pthread_mutex_unlock(&s->lock);
	return -EINTR;
}

void fs_interrupt(struct fs_server *s, atomic_bool *flag)
{
	pthread_mutex_lock(&s->lock);
	atomic_store(flag, true);
	pthread_cond_broadcast(&s->moved);
	pthread_mutex_unlock(&s->lock);
}

bool fs_interrupts(const struct fuse_in_header *h, const struct iovec *out, unsigned n, uint64_t *ret_unique)
{
	struct fuse_interrupt_in i;

	if (h->opcode != FUSE_INTERRUPT || iov_read(out, n, sizeof(*h), &i, sizeof(i)) != sizeof(i))
		return false;
	*ret_unique = i.unique;
	return true;
}

size_t fs_handle(struct fs_server *s, const struct fuse_in_header *h, const struct iovec *out, unsigned n_out,
	const struct iovec *in, unsigned n_in, const atomic_bool *interrupted)
{
	int error = 0;

	if (h->opcode == FUSE_FORGET || h->opcode == FUSE_INTERRUPT)
		return 0;
	count(s, 1);
	if (pthread_equal(pthread_self(), s->loop_thread))
		__atomic_fetch_add(&s->on_loop, 1, __ATOMIC_SEQ_CST);
	else if (h->opcode == FUSE_READ)
		wait_for_gate(s);
	else if (h->opcode == FUSE_SETLKW)
		error = wait_for_interrupt(s, interrupted);
	const struct fuse_out_header o = {.len = sizeof(o), .error = error, .unique = h->unique};
	size_t n = iov_write(in, n_in, 0, &o, sizeof(o));
	count(s, -1);
	return n;
}

void fs_reset(struct fs_server *s)
{
	s->resets++;
	s->running_at_reset = s->running;
}

struct fixture {
	struct loop *loop;
	struct fs_server s;
	struct fs_dev *dev;
	struct tdrv d;
	uint64_t unique;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	pthread_mutex_init(&f->s.lock, NULL);
	pthread_cond_init(&f->s.moved, NULL);
	f->s.loop_thread = pthread_self();
	assert_int_equal(loop_new(&f->loop), 0);
	assert_int_equal(fs_device_new(f->loop, &f->s, &f->dev), 0);
	tdrv_init(&f->d, f->loop, fs_device(f->dev));
	tdrv_start(&f->d, VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	fs_device_free(f->dev);
	tdrv_done(&f->d);
	loop_free(f->loop);
	free(f);
	return 0;
}

/* Puts a request there; *ret_reply is where its answer will be. Returns its unique number. */
static uint64_t add(
	struct fixture *f, unsigned queue, uint32_t opcode, const struct fuse_out_header **ret_reply)
{
	void *out, *in;
	uint64_t a = tdrv_alloc(&f->d, sizeof(struct fuse_in_header), &out);
	uint64_t b = tdrv_alloc(&f->d, sizeof(struct fuse_out_header), &in);
	const struct fuse_in_header h = {.len = sizeof(h), .opcode = opcode, .unique = ++f->unique};
	const struct tdrv_buf bufs[] = {{a, sizeof(h), false}, {b, sizeof(struct fuse_out_header), true}};

	memcpy(out, &h, sizeof(h));
	tdrv_add(&f->d, queue, bufs, 2);
	if (ret_reply)
		*ret_reply = in;
	return h.unique;
}

/* As Linux has it: no room for a reply. */
static void add_interrupt(struct fixture *f, unsigned queue, uint64_t unique)
{
	const struct {
		struct fuse_in_header h;
		struct fuse_interrupt_in i;
	} x = {{.len = sizeof(x), .opcode = FUSE_INTERRUPT, .unique = unique | 1}, {unique}};
	void *out;
	const struct tdrv_buf buf = {tdrv_alloc(&f->d, sizeof(x), &out), sizeof(x), false};

	memcpy(out, &x, sizeof(x));
	tdrv_add(&f->d, queue, &buf, 1);
}

static void open_gate(struct fixture *f)
{
	pthread_mutex_lock(&f->s.lock);
	f->s.gate = true;
	pthread_cond_broadcast(&f->s.moved);
	pthread_mutex_unlock(&f->s.lock);
}

/* Until so many are at work. */
static void wait_running(struct fixture *f, unsigned n)
{
	pthread_mutex_lock(&f->s.lock);
	while (f->s.running < n)
		pthread_cond_wait(&f->s.moved, &f->s.lock);
	pthread_mutex_unlock(&f->s.lock);
}

static void expect(
	struct fixture *f, unsigned queue, uint64_t unique, int error, const struct fuse_out_header *o)
{
	assert_int_equal(tdrv_wait(&f->d, queue, NULL), sizeof(*o));
	assert_int_equal(o->unique, unique);
	assert_int_equal(o->error, error);
}

static void test_configuration(void **state)
{
	struct fixture *f = *state;
	struct {
		char tag[36];
		uint32_t queues;
	} c;

	assert_int_equal(tdrv_read(&f->d, MMIO_DEVICE_ID), 26);
	tdrv_config(&f->d, 0, &c, sizeof(c));
	assert_string_equal(c.tag, FS_TAG);
	assert_int_equal(c.queues, 1);
}

static void test_at_once(void **state)
{
	struct fixture *f = *state;
	const struct fuse_out_header *o;

	for (int i = 0; i < 300; i++) {
		uint64_t unique = add(f, FS_QUEUE_REQUEST, FUSE_GETATTR, &o);
		tdrv_kick(&f->d, FS_QUEUE_REQUEST);
		expect(f, FS_QUEUE_REQUEST, unique, 0, o);
		assert_true(tdrv_interrupted(&f->d));
	}
	assert_int_equal(f->s.on_loop, 300);
}

/* A request without an answer is returned, with nothing written. */
static void test_forget(void **state)
{
	struct fixture *f = *state;

	add(f, FS_QUEUE_HIPRIO, FUSE_FORGET, NULL);
	tdrv_kick(&f->d, FS_QUEUE_HIPRIO);
	assert_int_equal(tdrv_wait(&f->d, FS_QUEUE_HIPRIO, NULL), 0);
}

/* What takes long keeps no thread from what does not, and uses a bounded number of them. */
static void test_threads(void **state)
{
	struct fixture *f = *state;
	const struct fuse_out_header *o;
	const unsigned n = 20;

	for (unsigned i = 0; i < n; i++)
		add(f, FS_QUEUE_REQUEST, FUSE_READ, NULL);
	uint64_t unique = add(f, FS_QUEUE_REQUEST, FUSE_GETATTR, &o);
	tdrv_kick(&f->d, FS_QUEUE_REQUEST);
	expect(f, FS_QUEUE_REQUEST, unique, 0, o);
	wait_running(f, THREADS_DATA);
	assert_false(tdrv_used(&f->d, FS_QUEUE_REQUEST, NULL, NULL));
	open_gate(f);
	for (unsigned i = 0; i < n; i++)
		assert_int_equal(tdrv_wait(&f->d, FS_QUEUE_REQUEST, NULL), sizeof(*o));
	assert_in_range(f->s.most, THREADS_DATA, THREADS_DATA + 1); /* the loop's own may be one of them */
	assert_int_equal(f->s.on_loop, 1);
}

/* Those who wait for locks take no thread from who reads, or from who gives the lock up. */
static void test_locks_have_their_own_threads(void **state)
{
	struct fixture *f = *state;
	const struct fuse_out_header *o;
	const unsigned n = 20;

	for (unsigned i = 0; i < n; i++)
		add(f, FS_QUEUE_REQUEST, FUSE_SETLKW, NULL);
	tdrv_kick(&f->d, FS_QUEUE_REQUEST);
	tdrv_settle(&f->d);
	wait_running(f, n);
	open_gate(f);
	uint64_t unique = add(f, FS_QUEUE_REQUEST, FUSE_READ, &o);
	tdrv_kick(&f->d, FS_QUEUE_REQUEST);
	expect(f, FS_QUEUE_REQUEST, unique, 0, o);
	assert_int_equal(f->s.most, n + 1);
}

/* Ends one that waits, and no other. */
static void test_interrupt(void **state)
{
	struct fixture *f = *state;
	const struct fuse_out_header *o[3];
	uint64_t unique[3];

	for (unsigned i = 0; i < 3; i++)
		unique[i] = add(f, FS_QUEUE_REQUEST, FUSE_SETLKW, &o[i]);
	tdrv_kick(&f->d, FS_QUEUE_REQUEST);
	tdrv_settle(&f->d);
	wait_running(f, 3);
	for (unsigned i = 3; i-- > 0;) {
		add_interrupt(f, FS_QUEUE_HIPRIO, unique[i]);
		tdrv_kick(&f->d, FS_QUEUE_HIPRIO);
		assert_int_equal(tdrv_wait(&f->d, FS_QUEUE_HIPRIO, NULL), 0);
		expect(f, FS_QUEUE_REQUEST, unique[i], -EINTR, o[i]);
		assert_int_equal(f->s.interrupted, 3 - i);
	}
}

/* The queues are independent: here it is read before the request that it is about, in whatever order the driver rang. */
static void test_interrupt_comes_first(void **state)
{
	struct fixture *f = *state;
	const struct fuse_out_header *o;

	for (unsigned i = 0; i < 50; i++) {
		uint64_t unique = add(f, FS_QUEUE_REQUEST, FUSE_SETLKW, &o);
		add_interrupt(f, FS_QUEUE_HIPRIO, unique);
		tdrv_kick(&f->d, FS_QUEUE_HIPRIO);
		assert_int_equal(tdrv_wait(&f->d, FS_QUEUE_HIPRIO, NULL), 0);
		expect(f, FS_QUEUE_REQUEST, unique, -EINTR, o);
	}
	/* More than a turn's worth stands before it. */
	for (unsigned i = 0; i + 1 < TDRV_QSIZE / 2; i++)
		add(f, FS_QUEUE_REQUEST, FUSE_GETATTR, NULL);
	uint64_t unique = add(f, FS_QUEUE_REQUEST, FUSE_SETLKW, &o);
	add_interrupt(f, FS_QUEUE_HIPRIO, unique);
	tdrv_kick(&f->d, FS_QUEUE_HIPRIO);
	for (unsigned i = 0; i < TDRV_QSIZE / 2; i++)
		tdrv_wait(&f->d, FS_QUEUE_REQUEST, NULL);
	assert_int_equal(o->unique, unique);
	assert_int_equal(o->error, -EINTR);
	assert_int_equal(f->s.on_loop, TDRV_QSIZE / 2 - 1);
}

/* Of what is not there, what is done, what is no lock's wait, and what says no number: nothing happens. */
static void test_interrupt_of_nothing(void **state)
{
	struct fixture *f = *state;
	const struct fuse_out_header *lock, *read, *o;

	uint64_t waiting = add(f, FS_QUEUE_REQUEST, FUSE_SETLKW, &lock);
	uint64_t reading = add(f, FS_QUEUE_REQUEST, FUSE_READ, &read);
	uint64_t done = add(f, FS_QUEUE_REQUEST, FUSE_GETATTR, &o);
	tdrv_kick(&f->d, FS_QUEUE_REQUEST);
	expect(f, FS_QUEUE_REQUEST, done, 0, o);
	wait_running(f, 2);
	const uint64_t none[] = {done, reading, 12345, 0, waiting | 1ull << 63};
	for (unsigned i = 0; i < ARRAY_LEN(none); i++) {
		add_interrupt(f, i % 2 ? FS_QUEUE_REQUEST : FS_QUEUE_HIPRIO, none[i]);
		tdrv_kick(&f->d, i % 2 ? FS_QUEUE_REQUEST : FS_QUEUE_HIPRIO);
		assert_int_equal(tdrv_wait(&f->d, i % 2 ? FS_QUEUE_REQUEST : FS_QUEUE_HIPRIO, NULL), 0);
	}
	add(f, FS_QUEUE_HIPRIO, FUSE_INTERRUPT, NULL);
	tdrv_kick(&f->d, FS_QUEUE_HIPRIO);
	assert_int_equal(tdrv_wait(&f->d, FS_QUEUE_HIPRIO, NULL), 0);
	assert_int_equal(f->s.interrupted, 0);
	open_gate(f);
	expect(f, FS_QUEUE_REQUEST, reading, 0, read);
	/* In the same queue it is behind its request. */
	add_interrupt(f, FS_QUEUE_REQUEST, waiting);
	tdrv_kick(&f->d, FS_QUEUE_REQUEST);
	tdrv_wait(&f->d, FS_QUEUE_REQUEST, NULL);
	tdrv_wait(&f->d, FS_QUEUE_REQUEST, NULL);
	assert_int_equal(lock->unique, waiting);
	assert_int_equal(lock->error, -EINTR);
}

/* Many interrupts at once: each a turn of the loop, and all are heard. */
static void test_interrupts(void **state)
{
	struct fixture *f = *state;
	const unsigned n = TDRV_QSIZE / 2;
	uint64_t unique[TDRV_QSIZE / 2];

	for (unsigned i = 0; i < n; i++)
		unique[i] = add(f, FS_QUEUE_REQUEST, FUSE_SETLKW, NULL);
	for (unsigned i = 0; i < n; i++)
		add_interrupt(f, FS_QUEUE_HIPRIO, unique[i]);
	tdrv_kick(&f->d, FS_QUEUE_HIPRIO);
	for (unsigned i = 0; i < n; i++) {
		tdrv_wait(&f->d, FS_QUEUE_HIPRIO, NULL);
		tdrv_wait(&f->d, FS_QUEUE_REQUEST, NULL);
	}
	assert_int_equal(f->s.interrupted, n);
}

/* A driver that resets the device: what is under way ends first, waits are ended, and then all is forgotten. */
static void test_reset(void **state)
{
	struct fixture *f = *state;
	const struct fuse_out_header *lock;

	for (int i = 0; i < 3; i++) {
		const unsigned before = f->s.resets;
		f->s.running_at_reset = 1;
		uint64_t unique = add(f, FS_QUEUE_REQUEST, FUSE_SETLKW, &lock);
		add(f, FS_QUEUE_REQUEST, FUSE_READ, NULL);
		tdrv_kick(&f->d, FS_QUEUE_REQUEST);
		tdrv_settle(&f->d);
		/* Not taken yet: taken and done by the stop. */
		add(f, FS_QUEUE_REQUEST, FUSE_GETATTR, NULL);
		open_gate(f);
		tdrv_write(&f->d, MMIO_STATUS, 0);
		assert_int_equal(lock->unique, unique);
		assert_int_equal(lock->error, -EINTR);
		assert_int_equal(f->s.resets, before + 1);
		assert_int_equal(f->s.running_at_reset, 0);
		assert_int_equal(f->s.done, 3 * ((unsigned)i + 1));
		tdrv_start(&f->d, 0);
	}
	assert_int_equal(f->s.interrupted, 3);
}

struct flipper {
	uint32_t *opcodes[TDRV_QSIZE / 2];
	bool end;
};

static void *flip_main(void *data)
{
	struct flipper *x = data;

	while (!__atomic_load_n(&x->end, __ATOMIC_SEQ_CST)) {
		for (size_t i = 0; i < ARRAY_LEN(x->opcodes); i++)
			__atomic_store_n(x->opcodes[i], FUSE_SETLKW, __ATOMIC_SEQ_CST);
		for (size_t i = 0; i < ARRAY_LEN(x->opcodes); i++)
			__atomic_store_n(x->opcodes[i], FUSE_READ, __ATOMIC_SEQ_CST);
	}
	return NULL;
}

/* A guest that makes a lock's wait of a read, or the other way round, while we look: none waits where no reset ends it. */
static void test_changing_header(void **state)
{
	struct fixture *f = *state;
	pthread_t t;

	for (unsigned round = 0; round < 100; round++) {
		struct flipper x = {0};
		open_gate(f);
		for (unsigned i = 0; i < ARRAY_LEN(x.opcodes); i++) {
			void *out, *in;
			const struct fuse_in_header h = {
				.len = sizeof(h), .opcode = FUSE_READ, .unique = ++f->unique};
			const struct tdrv_buf bufs[] = {
				{tdrv_alloc(&f->d, sizeof(h), &out), sizeof(h), false},
				{tdrv_alloc(&f->d, sizeof(struct fuse_out_header), &in),
					sizeof(struct fuse_out_header), true}};
			memcpy(out, &h, sizeof(h));
			x.opcodes[i] = &((struct fuse_in_header *)out)->opcode;
			tdrv_add(&f->d, FS_QUEUE_REQUEST, bufs, 2);
		}
		assert_int_equal(pthread_create(&t, NULL, flip_main, &x), 0);
		tdrv_kick(&f->d, FS_QUEUE_REQUEST);
		tdrv_settle(&f->d);
		tdrv_write(&f->d, MMIO_STATUS, 0);
		__atomic_store_n(&x.end, true, __ATOMIC_SEQ_CST);
		pthread_join(t, NULL);
		assert_int_equal(f->s.running, 0);
		assert_int_equal(f->s.done, (round + 1) * ARRAY_LEN(x.opcodes));
		tdrv_start(&f->d, 0);
	}
}

/* No header, no answer; and the chain comes back. */
static void test_short_header(void **state)
{
	struct fixture *f = *state;
	void *out, *in;
	const struct tdrv_buf bufs[] = {
		{tdrv_alloc(&f->d, 8, &out), 8, false}, {tdrv_alloc(&f->d, 64, &in), 64, true}};

	memset(out, 0xff, 8);
	tdrv_add(&f->d, FS_QUEUE_REQUEST, bufs, 2);
	tdrv_kick(&f->d, FS_QUEUE_REQUEST);
	assert_int_equal(tdrv_wait(&f->d, FS_QUEUE_REQUEST, NULL), 0);
	assert_int_equal(f->s.done, 0);
}

/* The device goes before its transport does, in the middle of everything. */
static void test_free_first(void **state)
{
	struct fixture *f = *state;
	const struct fuse_out_header *o;

	uint64_t unique = add(f, FS_QUEUE_REQUEST, FUSE_SETLKW, &o);
	tdrv_kick(&f->d, FS_QUEUE_REQUEST);
	tdrv_settle(&f->d);
	fs_device_free(TAKE_PTR(f->dev));
	assert_int_equal(o->unique, unique);
	assert_int_equal(f->s.interrupted, 1);
	assert_int_equal(f->s.running, 0);
}

/* One bad chain, and nothing of the driver's is touched until it resets; what a thread has comes to a good end. */
static void test_broken(void **state)
{
	struct fixture *f = *state;
	const struct fuse_out_header *o;
	const struct tdrv_buf outside = {1, 64, true};

	add(f, FS_QUEUE_REQUEST, FUSE_READ, NULL);
	tdrv_add(&f->d, FS_QUEUE_REQUEST, &outside, 1);
	tdrv_kick(&f->d, FS_QUEUE_REQUEST);
	tdrv_expect_broken(&f->d);
	add(f, FS_QUEUE_HIPRIO, FUSE_GETATTR, NULL);
	tdrv_kick(&f->d, FS_QUEUE_HIPRIO);
	tdrv_settle(&f->d);
	assert_false(tdrv_used(&f->d, FS_QUEUE_HIPRIO, NULL, NULL));
	open_gate(f);
	tdrv_start(&f->d, 0);
	uint64_t unique = add(f, FS_QUEUE_REQUEST, FUSE_GETATTR, &o);
	tdrv_kick(&f->d, FS_QUEUE_REQUEST);
	expect(f, FS_QUEUE_REQUEST, unique, 0, o);
}

/* A full queue at once, more than is done in one turn. */
static void test_many(void **state)
{
	struct fixture *f = *state;

	for (int round = 0; round < 5; round++) {
		for (unsigned i = 0; i < TDRV_QSIZE / 2; i++)
			add(f, FS_QUEUE_REQUEST, i % 3 ? FUSE_GETATTR : FUSE_READ, NULL);
		open_gate(f);
		tdrv_kick(&f->d, FS_QUEUE_REQUEST);
		for (unsigned i = 0; i < TDRV_QSIZE / 2; i++)
			assert_int_equal(
				tdrv_wait(&f->d, FS_QUEUE_REQUEST, NULL), sizeof(struct fuse_out_header));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_configuration, setup, teardown),
		cmocka_unit_test_setup_teardown(test_at_once, setup, teardown),
		cmocka_unit_test_setup_teardown(test_forget, setup, teardown),
		cmocka_unit_test_setup_teardown(test_threads, setup, teardown),
		cmocka_unit_test_setup_teardown(test_locks_have_their_own_threads, setup, teardown),
		cmocka_unit_test_setup_teardown(test_interrupt, setup, teardown),
		cmocka_unit_test_setup_teardown(test_interrupt_comes_first, setup, teardown),
		cmocka_unit_test_setup_teardown(test_interrupt_of_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(test_interrupts, setup, teardown),
		cmocka_unit_test_setup_teardown(test_reset, setup, teardown),
		cmocka_unit_test_setup_teardown(test_changing_header, setup, teardown),
		cmocka_unit_test_setup_teardown(test_short_header, setup, teardown),
		cmocka_unit_test_setup_teardown(test_free_first, setup, teardown),
		cmocka_unit_test_setup_teardown(test_broken, setup, teardown),
		cmocka_unit_test_setup_teardown(test_many, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
