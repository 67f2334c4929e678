/* SPDX-License-Identifier: MIT */
/* The block device's threads: several queues at once, and being stopped, reset and freed at any moment. */
#include <endian.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "base/io.h"
#include "blk/test-disk.h"

enum { QUEUES = 4, DEPTH = 8, BLOCK = 4096, SHARE = DISK_LEN / QUEUES };

static int setup(void **state)
{
	struct disk *k = malloc(sizeof(*k));

	disk_init(k, DISK_MEMFD, false, QUEUES);
	disk_start(k, DISK_FEATURES);
	*state = k;
	return 0;
}

static int teardown(void **state)
{
	disk_done(*state);
	free(*state);
	return 0;
}

static void submit(
	struct disk *k, struct disk_op *op, unsigned queue, uint32_t type, uint64_t sector, uint8_t fill)
{
	const struct blk_req_hdr h = {htole32(type), 0, htole64(sector)};
	uint8_t out[sizeof(h) + BLOCK];

	memcpy(out, &h, sizeof(h));
	memset(out + sizeof(h), fill, BLOCK);
	disk_submit(k, op, queue, out, type == BLK_T_OUT ? sizeof(out) : sizeof(h),
		type == BLK_T_OUT ? 1 : BLOCK + 1, 0, true);
}

/* ---- several queues ---- */

/* What queue q holds in its block b after a number of rounds. */
static uint8_t content(unsigned q, unsigned b, unsigned round)
{
	return (uint8_t)(1 + q * 61 + b * 7 + round * 13);
}

static void queues_go_side_by_side(void **state)
{
	enum { ROUNDS = 20, BLOCKS = DEPTH };
	struct disk *k = *state;
	static struct disk_op ops[QUEUES][DEPTH];
	uint8_t in[BLOCK + 1], want[BLOCK];

	for (unsigned round = 0; round < 2 * ROUNDS; round++) {
		uint32_t type = round & 1 ? BLK_T_IN : BLK_T_OUT;
		for (unsigned b = 0; b < BLOCKS; b++) {
			for (unsigned q = 0; q < QUEUES; q++) {
				uint64_t sector = (q * SHARE + (uint64_t)b * BLOCK) / 512;
				submit(k, &ops[q][b], q, type, sector, content(q, b, round / 2));
				tdrv_kick(&k->d, q);
			}
		}
		for (unsigned b = 0; b < BLOCKS; b++) {
			for (unsigned q = 0; q < QUEUES; q++) {
				uint16_t head;
				uint32_t len = tdrv_wait(&k->d, q, &head);
				/* One queue completes in order. */
				assert_int_equal(head, ops[q][b].head);
				assert_int_equal(len, ops[q][b].in_len);
				disk_collect(k, &ops[q][b], in);
				assert_int_equal(in[len - 1], BLK_S_OK);
				memset(want, content(q, b, round / 2), BLOCK);
				if (type == BLK_T_IN)
					assert_memory_equal(in, want, BLOCK);
			}
		}
	}
	struct blk_stats s;
	blk_stats(k->b, &s);
	assert_int_equal(s.requests, 2 * ROUNDS * BLOCKS * QUEUES);
	assert_int_equal(s.read_bytes, ROUNDS * BLOCKS * QUEUES * BLOCK);
}

static void a_broken_queue_leaves_the_others_until_reset(void **state)
{
	struct disk *k = *state;
	struct disk_op op;
	uint8_t in[BLOCK + 1];

	disk_submit(k, &op, 0, "short", 5, 1, 0, false);
	disk_expect_broken(k);
	submit(k, &op, 1, BLK_T_IN, 0, 0);
	tdrv_kick(&k->d, 1);
	assert_int_equal(tdrv_wait(&k->d, 1, NULL), BLOCK + 1);
	for (int i = 0; i < 100; i++) /* wakes the thread, which has nothing to do */
		tdrv_kick(&k->d, 0);
	disk_start(k, DISK_FEATURES);
	submit(k, &op, 0, BLK_T_IN, 0, 0);
	tdrv_kick(&k->d, 0);
	tdrv_wait(&k->d, 0, NULL);
	disk_collect(k, &op, in);
	assert_int_equal(in[BLOCK], BLK_S_OK);
}

/* ---- stopping ---- */

static void what_is_queued_is_done_before_the_queue_stops(void **state)
{
	struct disk *k = *state;
	struct disk_op op;
	uint8_t got[BLOCK], want[BLOCK];

	for (unsigned i = 0; i < 20; i++) /* and never notified */
		submit(k, &op, 1, BLK_T_OUT, i * BLOCK / 512, (uint8_t)(i + 1));
	tdrv_write(&k->d, MMIO_STATUS, 0);
	for (unsigned i = 0; i < 20; i++) {
		assert_int_equal(io_pread_full(k->fd, got, BLOCK, i * BLOCK), BLOCK);
		memset(want, (int)(i + 1), BLOCK);
		assert_memory_equal(got, want, BLOCK);
	}
}

/* 2.4: after a reset the device touches neither rings nor buffers. TSan watches the rest. */
static void reset_while_busy(void **state)
{
	enum { ROUNDS = 150, WATCHED = 64 << 10 };
	struct disk *k = *state;
	struct disk_op op;
	const uint64_t bump = k->d.bump;

	for (unsigned round = 0; round < ROUNDS; round++) {
		k->d.bump = bump; /* what a reset took never comes back */
		for (unsigned i = 0; i < DEPTH * QUEUES; i++) {
			submit(k, &op, i % QUEUES, i & 4 ? BLK_T_OUT : BLK_T_IN, i, (uint8_t)round);
			if (disk_random(k) & 1)
				tdrv_kick(&k->d, i % QUEUES);
		}
		for (unsigned q = 0; q < QUEUES && round & 1; q++) { /* one by one first */
			tdrv_write(&k->d, MMIO_QUEUE_SEL, q);
			tdrv_write(&k->d, MMIO_QUEUE_READY, 0);
		}
		tdrv_write(&k->d, MMIO_STATUS, 0);
		memset(k->d.host, 0xcc, TDRV_MEM_LEN);
		for (unsigned q = 0; q < QUEUES; q++)
			tdrv_kick(&k->d, q); /* means nothing now */
		for (size_t i = 0; i < WATCHED; i++)
			assert_int_equal(k->d.host[i], 0xcc);
		disk_start(k, round & 2 ? DISK_FEATURES : VIRTIO_F_INDIRECT_DESC);
		assert_int_equal(disk_do(k, BLK_T_FLUSH, 0, NULL, NULL, 0), BLK_S_OK);
	}
}

static void suspended_and_resumed(void **state)
{
	struct disk *k = *state;
	struct virtio_mmio_state *s = malloc(sizeof(*s));
	struct disk_op op;

	for (unsigned round = 0; round < 20; round++) {
		for (unsigned i = 0; i < 40; i++)
			submit(k, &op, i % QUEUES, BLK_T_OUT, i * 8, (uint8_t)i);
		tdrv_kick(&k->d, 2);
		assert_int_equal(virtio_mmio_suspend(k->d.m, s), 0);
		assert_int_equal(virtio_mmio_resume(k->d.m), 0);
		for (unsigned i = 0; i < 40; i++)
			assert_int_equal(tdrv_wait(&k->d, i % QUEUES, NULL), 1);
	}
	free(s);
}

static void restored_only_over_the_same_disk(void **state)
{
	struct disk *k = *state;
	const struct virtio_device_ops *ops = blk_device(k->b)->ops;
	uint8_t s[VIRTIO_STATE_MAX], bad[VIRTIO_STATE_MAX];

	size_t len = ops->save(blk_device(k->b), s);
	assert_int_equal(ops->restore(blk_device(k->b), s, len), 0);
	assert_int_equal(ops->restore(blk_device(k->b), s, len - 1), -EINVAL);
	assert_int_equal(ops->restore(blk_device(k->b), s, 0), -EINVAL);
	for (size_t i = 0; i < len; i++) { /* version, mode and size all have to fit */
		memcpy(bad, s, len);
		bad[i] ^= 0x40;
		assert_int_equal(ops->restore(blk_device(k->b), bad, len), -EINVAL);
	}
}

static void freed_before_its_transport(void **state)
{
	struct disk *k = *state;
	struct disk_op op;

	for (unsigned i = 0; i < DEPTH; i++)
		submit(k, &op, i % QUEUES, BLK_T_OUT, i, 1);
	tdrv_kick(&k->d, 0);
	blk_free(TAKE_PTR(k->b));
	assert_int_equal(tdrv_read(&k->d, MMIO_MAGIC), 0x74726976);
}

/* ---- batches: the test is the thread ---- */

static uint64_t interrupts(struct disk *k)
{
	struct virtio_mmio_stats s;

	virtio_mmio_stats(k->d.m, &s);
	return s.interrupts;
}

/* A device without threads in place of the one with. */
static void become_the_thread(struct disk *k)
{
	struct err e = {0};

	tdrv_done(&k->d);
	blk_free(TAKE_PTR(k->b));
	loop_free(TAKE_PTR(k->loop));
	assert_int_equal(loop_new(&k->loop), 0);
	k->conf.n_queues = 1;
	assert_int_equal(blk_alloc(&k->conf, &k->b, &e), 0);
	tdrv_init(&k->d, k->loop, blk_device(k->b));
}

static void s2_7_7_one_notification_per_batch(void **state)
{
	struct disk *k = *state;
	struct blk_queue *bq;
	struct disk_op op;

	become_the_thread(k);
	disk_start(k, VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC | BLK_F_FLUSH);
	bq = &k->b->queues[0];
	blk_begin(bq);
	uint64_t before = interrupts(k);
	for (unsigned i = 0; i < 10; i++)
		submit(k, &op, 0, BLK_T_IN, 0, 0);
	assert_false(blk_serve(bq, 100));
	assert_int_equal(interrupts(k) - before, 1);
	assert_false(blk_serve(bq, 100)); /* nothing was there */
	assert_int_equal(interrupts(k) - before, 1);
	for (unsigned i = 0; i < 10; i++)
		tdrv_wait(&k->d, 0, NULL);
	/* Many are told of in part, that the guest may go on meanwhile; and before what may last. */
	for (unsigned i = 0; i < 32; i++)
		submit(k, &op, 0, BLK_T_IN, 0, 0);
	assert_true(blk_serve(bq, 32));
	assert_int_equal(interrupts(k) - before, 2);
	while (tdrv_used(&k->d, 0, NULL, NULL))
		;
	submit(k, &op, 0, BLK_T_IN, 0, 0);
	const struct blk_req_hdr flush = {htole32(BLK_T_FLUSH), 0, 0};
	disk_submit(k, &op, 0, &flush, sizeof(flush), 1, 0, false);
	assert_false(blk_serve(bq, 32));
	assert_int_equal(interrupts(k) - before, 3);
}

/* ---- starting ---- */

struct on_thread {
	int calls, fail_at;
	pthread_t self;
};

static int on_thread(void *data)
{
	struct on_thread *t = data;
	sigset_t now;

	/* No lock: blk_new starts one thread after the other. */
	pthread_sigmask(SIG_SETMASK, NULL, &now);
	if (pthread_equal(t->self, pthread_self()) || !sigismember(&now, SIGTERM) ||
		!sigismember(&now, SIGXFSZ))
		return -EPROTO;
	return ++t->calls == t->fail_at ? -EPERM : 0;
}

static void each_thread_is_prepared_first(void **state)
{
	struct disk *k = *state;
	struct on_thread t = {.fail_at = -1, .self = pthread_self()};
	struct blk_dev *b = NULL;
	struct err e = {0};
	struct blk_config c = k->conf;

	c.on_thread = on_thread;
	c.data = &t;
	assert_int_equal(blk_new(&c, &b, &e), 0);
	assert_int_equal(t.calls, QUEUES);
	blk_free(TAKE_PTR(b));
	t = (struct on_thread){.fail_at = 3, .self = pthread_self()};
	assert_int_equal(blk_new(&c, &b, &e), -EPERM);
	assert_int_equal(t.calls, 3);
	assert_null(b);
	assert_int_not_equal(e.msg[0], 0);
	sigset_t now;
	pthread_sigmask(SIG_SETMASK, NULL, &now);
	assert_false(sigismember(&now, SIGTERM));
}

static int try_new(struct blk_config c, int fd)
{
	struct blk_dev *b = NULL;
	struct err e = {0};

	c.fd = fd;
	int r = blk_new(&c, &b, &e);
	assert_true(r == 0 ? b != NULL : e.msg[0] != 0);
	blk_free(b);
	return r;
}

static void unfit_disks_are_refused(void **state)
{
	struct disk *k = *state;
	struct blk_config c = k->conf;
	char path[64];
	int p[2];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", k->fd);
	CLEANUP_CLOSE int ro = open(path, O_RDONLY | O_CLOEXEC);
	CLEANUP_CLOSE int wo = open(path, O_WRONLY | O_CLOEXEC);
	CLEANUP_CLOSE int append = open(path, O_RDWR | O_APPEND | O_CLOEXEC);
	assert_int_equal(try_new(c, ro), -EBADF);
	assert_int_equal(try_new(c, wo), -EBADF);
	assert_int_equal(try_new(c, append), -EINVAL);
	assert_int_equal(try_new(c, -1), -EBADF);
	c.read_only = true;
	assert_int_equal(try_new(c, ro), 0);
	assert_int_equal(pipe(p), 0);
	assert_int_equal(try_new(c, p[0]), -ENOTBLK);
	close(p[0]);
	close(p[1]);
	c.n_queues = 0;
	assert_int_equal(try_new(c, ro), -EINVAL);
	c.n_queues = BLK_QUEUES_MAX + 1;
	assert_int_equal(try_new(c, ro), -EINVAL);
	c.n_queues = 1;
	c.id = "more than twenty bytes";
	assert_int_equal(try_new(c, ro), -EINVAL);
	c.id = "just twenty bytes ok";
	assert_int_equal(try_new(c, ro), 0);
}

#define CASE(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(queues_go_side_by_side),
		CASE(a_broken_queue_leaves_the_others_until_reset),
		CASE(what_is_queued_is_done_before_the_queue_stops),
		CASE(reset_while_busy),
		CASE(suspended_and_resumed),
		CASE(restored_only_over_the_same_disk),
		CASE(freed_before_its_transport),
		CASE(s2_7_7_one_notification_per_batch),
		CASE(each_thread_is_prepared_first),
		CASE(unfit_disks_are_refused),
	};
	return cmocka_run_group_tests_name("blk-threads", tests, NULL, NULL);
}
