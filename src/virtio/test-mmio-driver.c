/* SPDX-License-Identifier: MIT */
#include "test-mmio-driver.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "base/io.h"

/* Each queue's rings lie in RINGS_LEN bytes of their own, large enough for VQ_SIZE_MAX; buffers come behind them. */
enum {
	RINGS_LEN = 0x8000,
	AVAIL_AT = 0x4000,
	USED_AT = 0x5000,
	BUFFERS_AT = RINGS_LEN * VIRTIO_QUEUES_MAX,
	PAGE = 4096
};
#define WAIT_NS	 5000000000ULL
#define QUIET_MS 10

void tdrv_init(struct tdrv *d, struct loop *loop, struct virtio_device *dev)
{
	memset(d, 0, sizeof(*d));
	d->loop = loop;
	d->dev = dev;
	void *p = mmap(NULL, TDRV_MEM_LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(p, MAP_FAILED);
	d->host = p;
	d->mem.n_regions = 1;
	d->mem.regions[0] = (struct guest_mem_region){
		.gpa = TDRV_GPA, .len = TDRV_MEM_LEN, .host = d->host, .uaddr = TDRV_GPA};
	d->bump = TDRV_GPA + BUFFERS_AT;
	assert_int_equal(loop_allow_calls(loop), 0);
	assert_int_equal(virtio_mmio_new(loop, dev, &d->mem, &d->m), 0);
}

void tdrv_done(struct tdrv *d)
{
	virtio_mmio_free(TAKE_PTR(d->m));
	if (d->host)
		munmap(TAKE_PTR(d->host), TDRV_MEM_LEN);
}

/* ---- registers ---- */

uint32_t tdrv_read(struct tdrv *d, uint32_t off)
{
	uint32_t v = 0xdeadbeef;

	virtio_mmio_read(d->m, off, &v, sizeof(v));
	return v;
}

void tdrv_write(struct tdrv *d, uint32_t off, uint32_t v)
{
	virtio_mmio_write(d->m, off, &v, sizeof(v));
}

/* 4.2.2.2: wide fields as 32 bits each; the rest by the byte. */
void tdrv_config(struct tdrv *d, uint32_t off, void *buf, uint32_t len)
{
	uint8_t *p = buf;

	while (len) {
		uint32_t n = len >= 4 && off % 4 == 0 ? 4 : 1;
		virtio_mmio_read(d->m, MMIO_CONFIG + off, p, n);
		p += n;
		off += n;
		len -= n;
	}
}

static void write64(struct tdrv *d, uint32_t off, uint64_t v)
{
	tdrv_write(d, off, (uint32_t)v);
	tdrv_write(d, off + 4, (uint32_t)(v >> 32));
}

bool tdrv_negotiate(struct tdrv *d, uint64_t wanted)
{
	uint64_t offered = 0;

	/* 3.1.1, steps 1 to 6 */
	tdrv_write(d, MMIO_STATUS, 0);
	assert_int_equal(tdrv_read(d, MMIO_STATUS), 0);
	tdrv_write(d, MMIO_STATUS, STATUS_ACKNOWLEDGE);
	tdrv_write(d, MMIO_STATUS, STATUS_ACKNOWLEDGE | STATUS_DRIVER);
	for (uint32_t i = 0; i < 2; i++) {
		tdrv_write(d, MMIO_DEVICE_FEATURES_SEL, i);
		offered |= (uint64_t)tdrv_read(d, MMIO_DEVICE_FEATURES) << (32 * i);
	}
	d->features = offered & (wanted | VIRTIO_F_VERSION_1);
	for (uint32_t i = 0; i < 2; i++) {
		tdrv_write(d, MMIO_DRIVER_FEATURES_SEL, i);
		tdrv_write(d, MMIO_DRIVER_FEATURES, (uint32_t)(d->features >> (32 * i)));
	}
	tdrv_write(d, MMIO_STATUS, STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK);
	return tdrv_read(d, MMIO_STATUS) & STATUS_FEATURES_OK;
}

void tdrv_queue_up(struct tdrv *d, unsigned q, uint16_t size)
{
	struct tdrv_queue *tq = &d->q[q];

	assert_true(q < VIRTIO_QUEUES_MAX && size > 0 && size <= VQ_SIZE_MAX);
	memset(tq, 0, sizeof(*tq));
	tq->size = size;
	tq->desc = TDRV_GPA + (uint64_t)q * RINGS_LEN;
	tq->avail = tq->desc + AVAIL_AT;
	tq->used = tq->desc + USED_AT;
	memset(tdrv_at(d, tq->desc), 0, RINGS_LEN);

	/* 4.2.3.2 */
	tdrv_write(d, MMIO_QUEUE_SEL, q);
	assert_int_equal(tdrv_read(d, MMIO_QUEUE_READY), 0);
	assert_true(tdrv_read(d, MMIO_QUEUE_NUM_MAX) >= size);
	tdrv_write(d, MMIO_QUEUE_NUM, size);
	write64(d, MMIO_QUEUE_DESC, tq->desc);
	write64(d, MMIO_QUEUE_DRIVER, tq->avail);
	write64(d, MMIO_QUEUE_DEVICE, tq->used);
	tdrv_write(d, MMIO_QUEUE_READY, 1);
	assert_int_equal(tdrv_read(d, MMIO_QUEUE_READY), 1);
}

void tdrv_driver_ok(struct tdrv *d)
{
	tdrv_write(d, MMIO_STATUS, tdrv_read(d, MMIO_STATUS) | STATUS_DRIVER_OK);
	assert_int_equal(tdrv_read(d, MMIO_STATUS) & ~STATUS_NEEDS_RESET,
		STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK | STATUS_DRIVER_OK);
}

void tdrv_start(struct tdrv *d, uint64_t wanted)
{
	assert_true(tdrv_negotiate(d, wanted));
	for (unsigned q = 0; q < d->dev->n_queues; q++) {
		tdrv_write(d, MMIO_QUEUE_SEL, q);
		uint32_t max = tdrv_read(d, MMIO_QUEUE_NUM_MAX);
		tdrv_queue_up(d, q, (uint16_t)MIN_OF(max, TDRV_QSIZE));
	}
	tdrv_driver_ok(d);
}

/* ---- memory ---- */

void *tdrv_at(struct tdrv *d, uint64_t gpa)
{
	void *p = guest_mem_at(&d->mem, gpa, 1);

	assert_non_null(p);
	return p;
}

static bool all_returned(const struct tdrv *d)
{
	for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++) {
		if (d->q[i].outstanding)
			return false;
	}
	return true;
}

uint64_t tdrv_alloc(struct tdrv *d, size_t len, void **ret_host)
{
	const uint64_t end = TDRV_GPA + TDRV_MEM_LEN;
	uint64_t align = len >= PAGE ? PAGE : 16;
	uint64_t at = (d->bump + align - 1) / align * align;

	if (at > end || len > end - at) {
		assert_true(all_returned(d));
		at = TDRV_GPA + BUFFERS_AT;
		assert_true(len <= end - at);
	}
	d->bump = at + len;
	memset(tdrv_at(d, at), 0, len);
	if (ret_host)
		*ret_host = tdrv_at(d, at);
	return at;
}

/* ---- rings ---- */

static void put16(struct tdrv *d, uint64_t gpa, uint16_t v)
{
	__atomic_store_n((uint16_t *)tdrv_at(d, gpa), v, __ATOMIC_SEQ_CST);
}

static uint16_t get16(struct tdrv *d, uint64_t gpa)
{
	return __atomic_load_n((uint16_t *)tdrv_at(d, gpa), __ATOMIC_SEQ_CST);
}

/* A free descriptor, by then owned by the chain with that head; head < 0: it is the head itself. */
static uint16_t take_desc(struct tdrv_queue *tq, int head)
{
	for (unsigned n = 0; n < tq->size; n++) {
		uint16_t i = tq->next_desc;
		tq->next_desc = (uint16_t)((i + 1) % tq->size);
		if (tq->owner[i] == 0) {
			tq->owner[i] = (uint16_t)((head < 0 ? i : head) + 1);
			return i;
		}
	}
	fail_msg("no descriptor is free");
	return 0;
}

static void put_desc(struct tdrv *d, uint64_t table, unsigned i, struct tdrv_desc desc)
{
	memcpy(tdrv_at(d, table + sizeof(desc) * i), &desc, sizeof(desc));
}

/* 2.7.13: the entry is there before the index */
static void offer(struct tdrv *d, struct tdrv_queue *tq, uint16_t head)
{
	put16(d, tq->avail + 4 + 2 * (uint64_t)(tq->avail_idx % tq->size), head);
	tq->avail_idx++;
	tq->outstanding++;
	put16(d, tq->avail + 2, tq->avail_idx);
}

uint16_t tdrv_add(struct tdrv *d, unsigned q, const struct tdrv_buf *bufs, unsigned n)
{
	struct tdrv_queue *tq = &d->q[q];

	assert_true(n > 0);
	uint16_t head = take_desc(tq, -1), at = head;
	for (unsigned i = 0; i < n; i++) {
		bool last = i + 1 == n;
		uint16_t next = last ? 0 : take_desc(tq, head);
		put_desc(d, tq->desc, at,
			(struct tdrv_desc){bufs[i].gpa, bufs[i].len,
				(uint16_t)((bufs[i].write ? DESC_WRITE : 0) | (last ? 0 : DESC_NEXT)), next});
		at = next;
	}
	offer(d, tq, head);
	return head;
}

uint16_t tdrv_add_indirect(struct tdrv *d, unsigned q, const struct tdrv_buf *bufs, unsigned n)
{
	struct tdrv_queue *tq = &d->q[q];

	assert_true(n > 0);
	uint16_t head = take_desc(tq, -1);
	uint64_t table = tdrv_alloc(d, sizeof(struct tdrv_desc) * n, NULL);
	for (unsigned i = 0; i < n; i++) {
		put_desc(d, table, i,
			(struct tdrv_desc){bufs[i].gpa, bufs[i].len,
				(uint16_t)((bufs[i].write ? DESC_WRITE : 0) | (i + 1 < n ? DESC_NEXT : 0)),
				(uint16_t)(i + 1 < n ? i + 1 : 0)});
	}
	put_desc(d, tq->desc, head,
		(struct tdrv_desc){table, (uint32_t)sizeof(struct tdrv_desc) * n, DESC_INDIRECT, 0});
	offer(d, tq, head);
	return head;
}

void tdrv_kick(struct tdrv *d, unsigned q)
{
	const uint64_t one = 1;

	assert_int_equal(write(virtio_mmio_kick_fd(d->m, q), &one, sizeof(one)), sizeof(one));
}

bool tdrv_used(struct tdrv *d, unsigned q, uint16_t *ret_head, uint32_t *ret_len)
{
	struct tdrv_queue *tq = &d->q[q];
	uint32_t elem[2]; /* 2.7.8: id, len */

	if (get16(d, tq->used + 2) == tq->used_seen)
		return false;
	memcpy(elem, tdrv_at(d, tq->used + 4 + 8 * (uint64_t)(tq->used_seen % tq->size)), sizeof(elem));
	tq->used_seen++;
	tq->outstanding--;
	for (unsigned i = 0; i < tq->size; i++) {
		if (tq->owner[i] == elem[0] + 1)
			tq->owner[i] = 0;
	}
	/* 2.7.7: with EVENT_IDX every further one is wanted to be told */
	put16(d, tq->avail + 4 + 2 * (uint64_t)tq->size, tq->used_seen);
	if (ret_head)
		*ret_head = (uint16_t)elem[0];
	if (ret_len)
		*ret_len = elem[1];
	return true;
}

/* ---- time ---- */

uint32_t tdrv_wait(struct tdrv *d, unsigned q, uint16_t *ret_head)
{
	uint64_t end = time_mono_ns() + WAIT_NS;
	uint32_t len = 0;

	while (!tdrv_used(d, q, ret_head, &len)) {
		if (time_mono_ns() > end)
			fail_msg("nothing came back on queue %u", q);
		assert_int_equal(loop_turn(d->loop, 1), 0);
	}
	return len;
}

bool tdrv_interrupted(struct tdrv *d)
{
	uint64_t n;

	return read(virtio_mmio_irq_fd(d->m), &n, sizeof(n)) == sizeof(n);
}

void tdrv_settle(struct tdrv *d)
{
	uint64_t end = time_mono_ns() + WAIT_NS, before;

	/* A turn that lasted as long as it may had nothing to do. */
	do {
		before = time_mono_ns();
		if (before > end)
			fail_msg("the loop does not come to rest");
		assert_int_equal(loop_turn(d->loop, QUIET_MS), 0);
	} while (time_mono_ns() - before < QUIET_MS * 1000000ULL);
}

void tdrv_expect_broken(struct tdrv *d)
{
	uint64_t end = time_mono_ns() + WAIT_NS;

	while (!(tdrv_read(d, MMIO_STATUS) & STATUS_NEEDS_RESET)) {
		if (time_mono_ns() > end)
			fail_msg("the device does not ask for a reset");
		assert_int_equal(loop_turn(d->loop, 1), 0);
	}
}
