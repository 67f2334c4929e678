/* SPDX-License-Identifier: MIT */
/* The rules of virtio 1.2 section 2.7, each under its number, against a driver that keeps or breaks them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "virtio/virtqueue.h"

enum { GPA = 0x40000000, MEM_LEN = 1 << 20, SIZE = 8 };
enum { DESC_AT = 0x0, AVAIL_AT = 0x1000, USED_AT = 0x2000, TABLE_AT = 0x3000, DATA_AT = 0x8000 };
enum { NEXT = 1, WRITE = 2, INDIRECT = 4 };

struct fixture {
	uint8_t *mem;
	struct guest_mem gm;
	struct vq_config conf;
	struct vq q;
	struct vq_chain chain;
};

static void put16(struct fixture *f, size_t at, uint16_t v)
{
	memcpy(f->mem + at, &v, 2);
}

static uint16_t get16(struct fixture *f, size_t at)
{
	uint16_t v;
	memcpy(&v, f->mem + at, 2);
	return v;
}

static void put_desc(struct fixture *f, size_t table, unsigned i, uint64_t addr, uint32_t len, uint16_t flags,
	uint16_t next)
{
	uint8_t *p = f->mem + table + 16 * (size_t)i;
	memcpy(p, &addr, 8);
	memcpy(p + 8, &len, 4);
	memcpy(p + 12, &flags, 2);
	memcpy(p + 14, &next, 2);
}

static void offer(struct fixture *f, uint16_t head)
{
	uint16_t idx = get16(f, AVAIL_AT + 2);
	put16(f, AVAIL_AT + 4 + 2 * (idx % SIZE), head);
	put16(f, AVAIL_AT + 2, idx + 1);
}

static void start(struct fixture *f, bool event_idx, bool indirect)
{
	f->conf.event_idx = event_idx;
	f->conf.indirect = indirect;
	assert_int_equal(vq_init(&f->q, &f->gm, &f->conf), 0);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	f->mem = aligned_alloc(4096, MEM_LEN);
	memset(f->mem, 0, MEM_LEN);
	f->gm.n_regions = 1;
	f->gm.regions[0] =
		(struct guest_mem_region){.gpa = GPA, .len = MEM_LEN, .host = f->mem, .uaddr = 0x7000000000};
	f->conf = (struct vq_config){
		.size = SIZE, .desc = GPA + DESC_AT, .avail = GPA + AVAIL_AT, .used = GPA + USED_AT};
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	free(f->mem);
	free(f);
	return 0;
}

static void assert_broken(struct fixture *f, const char *section)
{
	assert_int_equal(vq_pop(&f->q, &f->chain), -EPROTO);
	assert_true(f->q.broken);
	assert_int_equal(strncmp(f->q.why, section, strlen(section)), 0);
	/* and never touched again */
	memset(f->mem + USED_AT, 0x5a, 6 + 8 * SIZE);
	vq_push(&f->q, 0, 1);
	vq_unpop(&f->q);
	vq_disable_notify(&f->q);
	assert_false(vq_enable_notify(&f->q));
	assert_false(vq_should_notify(&f->q));
	for (int i = 0; i < 6 + 8 * SIZE; i++)
		assert_int_equal(f->mem[USED_AT + i], 0x5a);
	assert_int_equal(vq_pop(&f->q, &f->chain), -EPROTO);
}

static void test_mem_bounds(void **state)
{
	struct fixture *f = *state;
	assert_ptr_equal(guest_mem_at(&f->gm, GPA, MEM_LEN), f->mem);
	assert_null(guest_mem_at(&f->gm, GPA, MEM_LEN + 1));
	assert_null(guest_mem_at(&f->gm, GPA - 1, 1));
	assert_non_null(guest_mem_at(&f->gm, GPA + MEM_LEN - 1, 1));
	assert_null(guest_mem_at(&f->gm, GPA + MEM_LEN - 1, 2));
	assert_null(guest_mem_at(&f->gm, GPA + MEM_LEN, 1));
	assert_null(guest_mem_at(&f->gm, UINT64_MAX, 2));
	assert_null(guest_mem_at(&f->gm, GPA + 1, UINT64_MAX));
	assert_ptr_equal(guest_mem_at_uaddr(&f->gm, 0x7000000010, 4), f->mem + 16);
	assert_null(guest_mem_at_uaddr(&f->gm, GPA, 4));
}

static void test_2_7_size_and_alignment(void **state)
{
	struct fixture *f = *state;
	static const uint16_t bad[] = {0, 3, 6, 2 * VQ_SIZE_MAX, 32769};
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		struct vq_config c = f->conf;
		c.size = bad[i];
		assert_int_equal(vq_init(&f->q, &f->gm, &c), -EINVAL);
		assert_false(vq_usable(&f->q));
	}
	struct vq_config c = f->conf;
	c.desc += 8;
	assert_int_equal(vq_init(&f->q, &f->gm, &c), -EINVAL);
	c = f->conf;
	c.avail += 1;
	assert_int_equal(vq_init(&f->q, &f->gm, &c), -EINVAL);
	c = f->conf;
	c.used += 2;
	assert_int_equal(vq_init(&f->q, &f->gm, &c), -EINVAL);
	c = f->conf;
	c.used = GPA + MEM_LEN - 4;
	assert_int_equal(vq_init(&f->q, &f->gm, &c), -EFAULT);
	c = f->conf;
	c.desc = 0;
	assert_int_equal(vq_init(&f->q, &f->gm, &c), -EFAULT);
	c.desc = UINT64_MAX - 15;
	assert_int_equal(vq_init(&f->q, &f->gm, &c), -EFAULT);
	assert_int_equal(vq_pop(&f->q, &f->chain), 0); /* not in service: nothing there */
}

static void test_2_7_uaddr_rings(void **state)
{
	struct fixture *f = *state;
	struct vq_config c = f->conf;
	c.addr_is_uaddr = true;
	assert_int_equal(vq_init(&f->q, &f->gm, &c), -EFAULT);
	c.desc += 0x7000000000 - GPA;
	c.avail += 0x7000000000 - GPA;
	c.used += 0x7000000000 - GPA;
	assert_int_equal(vq_init(&f->q, &f->gm, &c), 0);
	put_desc(f, DESC_AT, 0, GPA + DATA_AT, 4, 0, 0); /* buffers stay guest-physical */
	offer(f, 0);
	assert_int_equal(vq_pop(&f->q, &f->chain), 1);
	assert_ptr_equal(f->chain.iov[0].iov_base, f->mem + DATA_AT);
	/* the rings move */
	uint8_t *moved = aligned_alloc(4096, MEM_LEN);
	memcpy(moved, f->mem, MEM_LEN);
	free(f->mem);
	f->mem = f->gm.regions[0].host = moved;
	assert_int_equal(vq_relocate(&f->q), 0);
	vq_push(&f->q, 0, 0);
	assert_int_equal(get16(f, USED_AT + 2), 1);
	f->gm.regions[0].len = 0x1000;
	assert_int_equal(vq_relocate(&f->q), -EFAULT);
	assert_true(f->q.broken);
}

static void test_2_7_5_chain(void **state)
{
	struct fixture *f = *state;
	start(f, false, false);
	assert_int_equal(vq_pop(&f->q, &f->chain), 0);
	put_desc(f, DESC_AT, 5, GPA + DATA_AT, 10, NEXT, 2);
	put_desc(f, DESC_AT, 2, GPA + DATA_AT + 100, 0, NEXT, 3); /* empty: left out */
	put_desc(f, DESC_AT, 3, GPA + DATA_AT + 200, 20, NEXT | WRITE, 7);
	put_desc(f, DESC_AT, 7, GPA + DATA_AT + 300, 30, WRITE, 99);
	offer(f, 5);
	assert_int_equal(vq_pop(&f->q, &f->chain), 1);
	assert_int_equal(f->chain.head, 5);
	assert_int_equal(f->chain.n_out, 1);
	assert_int_equal(f->chain.n_in, 2);
	assert_int_equal(f->chain.out_len, 10);
	assert_int_equal(f->chain.in_len, 50);
	assert_ptr_equal(f->chain.iov[2].iov_base, f->mem + DATA_AT + 300);
	assert_int_equal(vq_pop(&f->q, &f->chain), 0);
	vq_push(&f->q, 5, 33);
	uint32_t elem[2];
	memcpy(elem, f->mem + USED_AT + 4, 8);
	assert_int_equal(elem[0], 5);
	assert_int_equal(elem[1], 33);
	assert_int_equal(get16(f, USED_AT + 2), 1);
}

static void test_2_7_4_2_order(void **state)
{
	struct fixture *f = *state;
	start(f, false, false);
	put_desc(f, DESC_AT, 0, GPA + DATA_AT, 10, NEXT | WRITE, 1);
	put_desc(f, DESC_AT, 1, GPA + DATA_AT, 10, 0, 0);
	offer(f, 0);
	assert_broken(f, "2.7.4.2");
}

static void test_2_7_5_index_outside(void **state)
{
	struct fixture *f = *state;
	start(f, false, false);
	put_desc(f, DESC_AT, 0, GPA + DATA_AT, 10, NEXT, SIZE);
	offer(f, 0);
	assert_broken(f, "2.7.5");
}

static void test_2_7_6_head_outside(void **state)
{
	struct fixture *f = *state;
	start(f, false, false);
	offer(f, 0xffff);
	assert_broken(f, "2.7.5");
}

static void test_2_7_5_buffer_outside(void **state)
{
	static const struct {
		uint64_t addr;
		uint32_t len;
	} bad[] = {{0, 1}, {GPA - 1, 2}, {GPA + MEM_LEN, 1}, {GPA + MEM_LEN - 1, 2}, {GPA, UINT32_MAX},
		{UINT64_MAX, 1}, {UINT64_MAX - 10, 100}};
	struct fixture *f = *state;
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		memset(f->mem, 0, MEM_LEN);
		start(f, false, false);
		put_desc(f, DESC_AT, 0, bad[i].addr, bad[i].len, 0, 0);
		offer(f, 0);
		assert_broken(f, "2.7.5");
	}
}

static void test_2_7_5_2_loop(void **state)
{
	struct fixture *f = *state;
	start(f, false, false);
	put_desc(f, DESC_AT, 0, GPA + DATA_AT, 1, NEXT, 1);
	put_desc(f, DESC_AT, 1, GPA + DATA_AT, 1, NEXT, 0);
	offer(f, 0);
	assert_broken(f, "2.7.5.3.1");

	memset(f->mem, 0, MEM_LEN); /* of empty descriptors as well */
	start(f, false, false);
	put_desc(f, DESC_AT, 3, 0, 0, NEXT, 3);
	offer(f, 3);
	assert_broken(f, "2.7.5.3.1");
}

static void test_2_7_5_2_total_length(void **state)
{
	struct fixture *f = *state;
	/* a region that claims 2 GiB: only addresses are formed, nothing is read */
	f->gm.n_regions = 2;
	f->gm.regions[1] = (struct guest_mem_region){.gpa = 1ULL << 40, .len = 1ULL << 31, .host = f->mem};
	start(f, false, false);
	put_desc(f, DESC_AT, 0, 1ULL << 40, 1U << 31, NEXT, 1);
	put_desc(f, DESC_AT, 1, 1ULL << 40, 1U << 31, 0, 0);
	offer(f, 0);
	assert_broken(f, "2.7.5.2");
}

static void test_2_7_5_full_length(void **state)
{
	struct fixture *f = *state;
	start(f, false, true);
	for (unsigned i = 0; i < SIZE; i++)
		put_desc(f, DESC_AT, i, GPA + DATA_AT, 1, i + 1 < SIZE ? NEXT : 0, i + 1);
	offer(f, 0);
	assert_int_equal(vq_pop(&f->q, &f->chain), 1);
	assert_int_equal(f->chain.n_out, SIZE);
}

static void test_2_7_5_3_indirect(void **state)
{
	struct fixture *f = *state;
	start(f, false, true);
	/* 2.7.5.3.2: normal descriptors may come before the indirect one, whose WRITE flag is ignored */
	put_desc(f, DESC_AT, 0, GPA + DATA_AT, 4, NEXT, 1);
	put_desc(f, DESC_AT, 1, GPA + TABLE_AT + 8, 16 * 3, INDIRECT | WRITE, 0);
	put_desc(f, TABLE_AT + 8, 0, GPA + DATA_AT + 50, 5, NEXT, 2);
	put_desc(f, TABLE_AT + 8, 2, GPA + DATA_AT + 60, 6, WRITE, 0);
	offer(f, 0);
	assert_int_equal(vq_pop(&f->q, &f->chain), 1);
	assert_int_equal(f->chain.n_out, 2);
	assert_int_equal(f->chain.n_in, 1);
	assert_int_equal(f->chain.out_len, 9);
	assert_int_equal(f->chain.in_len, 6);
}

static void test_2_7_5_3_1_indirect_rules(void **state)
{
	struct fixture *f = *state;
	static const struct {
		uint64_t addr;
		uint32_t len;
		uint16_t flags;
		bool feature;
		const char *why;
	} bad[] = {
		{GPA + TABLE_AT, 32, INDIRECT, false, "2.7.5.3.1"},
		{GPA + TABLE_AT, 32, INDIRECT | NEXT, true, "2.7.5.3.1"},
		{GPA + TABLE_AT, 0, INDIRECT, true, "2.7.5.3"},
		{GPA + TABLE_AT, 24, INDIRECT, true, "2.7.5.3"},
		{GPA + TABLE_AT, 16 * 40000, INDIRECT, true, "2.7.5.3.1"},
		{GPA + MEM_LEN - 16, 32, INDIRECT, true, "2.7.5.3"},
		{UINT64_MAX - 15, 32, INDIRECT, true, "2.7.5.3"},
	};
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		memset(f->mem, 0, MEM_LEN);
		start(f, false, bad[i].feature);
		put_desc(f, DESC_AT, 0, bad[i].addr, bad[i].len, bad[i].flags, 0);
		put_desc(f, TABLE_AT, 0, GPA + DATA_AT, 1, 0, 0);
		offer(f, 0);
		assert_broken(f, bad[i].why);
	}
}

static void test_2_7_5_3_1_nested(void **state)
{
	struct fixture *f = *state;
	start(f, false, true);
	put_desc(f, DESC_AT, 0, GPA + TABLE_AT, 16, INDIRECT, 0);
	put_desc(f, TABLE_AT, 0, GPA + TABLE_AT, 16, INDIRECT, 0);
	offer(f, 0);
	assert_broken(f, "2.7.5.3.1");

	memset(f->mem, 0, MEM_LEN); /* the queue's own table named as indirect table: would never end */
	start(f, false, true);
	put_desc(f, DESC_AT, 0, GPA + DESC_AT, 16, INDIRECT, 0);
	offer(f, 0);
	assert_broken(f, "2.7.5.3.1");
}

static void test_2_7_5_3_1_indirect_length(void **state)
{
	struct fixture *f = *state;
	start(f, false, true);
	put_desc(f, DESC_AT, 0, GPA + TABLE_AT, 16 * (SIZE + 1), INDIRECT, 0);
	for (unsigned i = 0; i <= SIZE; i++)
		put_desc(f, TABLE_AT, i, GPA + DATA_AT, 1, i < SIZE ? NEXT : 0, i + 1);
	offer(f, 0);
	assert_broken(f, "2.7.5.3.1");

	memset(f->mem, 0, MEM_LEN); /* next beyond the table, though within memory */
	start(f, false, true);
	put_desc(f, DESC_AT, 0, GPA + TABLE_AT, 32, INDIRECT, 0);
	put_desc(f, TABLE_AT, 0, GPA + DATA_AT, 1, NEXT, 2);
	offer(f, 0);
	assert_broken(f, "2.7.5");
}

static void test_2_7_6_index_jump(void **state)
{
	struct fixture *f = *state;
	start(f, false, false);
	put16(f, AVAIL_AT + 2, SIZE + 1);
	assert_broken(f, "2.7.6");

	memset(f->mem, 0, MEM_LEN); /* backwards */
	start(f, false, false);
	put16(f, AVAIL_AT + 2, 0xffff);
	assert_broken(f, "2.7.6");

	memset(f->mem, 0, MEM_LEN); /* more than the queue holds, counting those that we have not returned */
	start(f, false, false);
	put_desc(f, DESC_AT, 0, GPA + DATA_AT, 1, 0, 0);
	put16(f, AVAIL_AT + 2, SIZE);
	for (int i = 0; i < SIZE; i++)
		assert_int_equal(vq_pop(&f->q, &f->chain), 1);
	put16(f, AVAIL_AT + 2, SIZE + 1);
	assert_broken(f, "2.7.6");
}

static void test_2_7_6_wrap(void **state)
{
	struct fixture *f = *state;
	f->conf.next_avail = 0xfffe;
	put16(f, AVAIL_AT + 2, 0xfffe);
	put16(f, USED_AT + 2, 0xfffe);
	start(f, false, false);
	put_desc(f, DESC_AT, 1, GPA + DATA_AT, 1, 0, 0);
	for (int i = 0; i < 5; i++) {
		offer(f, 1);
		assert_int_equal(vq_pop(&f->q, &f->chain), 1);
		vq_push(&f->q, 1, 0);
		assert_int_equal(vq_pop(&f->q, &f->chain), 0);
	}
	assert_int_equal(get16(f, USED_AT + 2), 3);
	assert_int_equal(vq_stop(&f->q), 3);
}

static void test_unpop(void **state)
{
	struct fixture *f = *state;
	start(f, false, false);
	put_desc(f, DESC_AT, 1, GPA + DATA_AT, 1, 0, 0);
	put_desc(f, DESC_AT, 2, GPA + DATA_AT, 2, 0, 0);
	offer(f, 1);
	offer(f, 2);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(vq_pop(&f->q, &f->chain), 1);
		assert_int_equal(f->chain.head, 1);
		if (i < 2)
			vq_unpop(&f->q);
	}
	assert_int_equal(vq_pop(&f->q, &f->chain), 1);
	assert_int_equal(f->chain.head, 2);
}

static void test_2_7_7_interrupt_flag(void **state)
{
	struct fixture *f = *state;
	start(f, false, false);
	assert_true(vq_should_notify(&f->q));
	put16(f, AVAIL_AT, 1);
	assert_false(vq_should_notify(&f->q));
}

static void push_some(struct fixture *f, int n)
{
	for (int i = 0; i < n; i++) {
		offer(f, 1);
		assert_int_equal(vq_pop(&f->q, &f->chain), 1);
		vq_push(&f->q, 1, 0);
	}
}

static void test_2_7_7_2_used_event(void **state)
{
	struct fixture *f = *state;
	size_t used_event = AVAIL_AT + 4 + 2 * SIZE;
	start(f, true, false);
	put_desc(f, DESC_AT, 1, GPA + DATA_AT, 1, 0, 0);
	put16(f, AVAIL_AT, 1); /* flags are ignored with the feature */
	push_some(f, 1);
	assert_true(vq_should_notify(&f->q)); /* the first is told, nothing being known */
	push_some(f, 1);
	put16(f, used_event, 2); /* after entry 2, thus when the index becomes 3 */
	assert_false(vq_should_notify(&f->q));
	push_some(f, 1);
	assert_true(vq_should_notify(&f->q));
	assert_false(vq_should_notify(&f->q)); /* once */
	push_some(f, 3);
	assert_false(vq_should_notify(&f->q));
	put16(f, used_event, 7);
	push_some(f, 5); /* a batch that steps over it */
	assert_true(vq_should_notify(&f->q));
}

static void test_2_7_10_flags(void **state)
{
	struct fixture *f = *state;
	start(f, false, false);
	vq_disable_notify(&f->q);
	assert_int_equal(get16(f, USED_AT), 1);
	assert_false(vq_enable_notify(&f->q));
	assert_int_equal(get16(f, USED_AT), 0);
	offer(f, 0);
	assert_true(vq_enable_notify(&f->q));
}

static void test_2_7_10_avail_event(void **state)
{
	struct fixture *f = *state;
	size_t avail_event = USED_AT + 4 + 8 * SIZE;
	start(f, true, false);
	put_desc(f, DESC_AT, 1, GPA + DATA_AT, 1, 0, 0);
	vq_disable_notify(&f->q);
	assert_int_equal(get16(f, USED_AT), 0); /* 2.7.10.2: flags stay 0 */
	push_some(f, 3);
	assert_int_equal(get16(f, avail_event), 0);
	assert_false(vq_enable_notify(&f->q));
	assert_int_equal(get16(f, avail_event), 3);
	offer(f, 1);
	assert_true(vq_enable_notify(&f->q));
}

/* A hole in the guest's memory, and regions that touch: no buffer, table or ring lies on both sides of either. */
static void test_2_7_5_no_buffer_across_regions(void **state)
{
	struct fixture *f = *state;
	static const uint64_t second[] = {
		GPA + MEM_LEN, GPA + 2 * (uint64_t)MEM_LEN}; /* touching; behind a hole */
	uint8_t *other = aligned_alloc(4096, MEM_LEN);
	for (unsigned i = 0; i < ARRAY_LEN(second); i++) {
		f->gm.n_regions = 2;
		f->gm.regions[1] = (struct guest_mem_region){.gpa = second[i], .len = MEM_LEN, .host = other};
		static const struct {
			uint32_t len;
			uint16_t flags;
		} bad[] = {{16, 0}, {16, WRITE}, {32, INDIRECT}, {2 * MEM_LEN, 0}};
		for (unsigned k = 0; k < ARRAY_LEN(bad); k++) {
			memset(f->mem, 0, MEM_LEN);
			start(f, false, true);
			put_desc(f, DESC_AT, 0, GPA + MEM_LEN - 8, bad[k].len, bad[k].flags, 0);
			offer(f, 0);
			assert_broken(f, "2.7.5");
		}
		struct vq_config c = f->conf;
		c.used = GPA + MEM_LEN - 8;
		assert_int_equal(vq_init(&f->q, &f->gm, &c), -EFAULT);
		c = f->conf;
		c.desc = second[i] - 16;
		assert_int_equal(vq_init(&f->q, &f->gm, &c), -EFAULT);
		/* while the second region as such is as good as the first */
		memset(f->mem, 0, MEM_LEN);
		start(f, false, false);
		put_desc(f, DESC_AT, 0, second[i], MEM_LEN, WRITE, 0);
		offer(f, 0);
		assert_int_equal(vq_pop(&f->q, &f->chain), 1);
		assert_ptr_equal(f->chain.iov[0].iov_base, other);
	}
	free(other);
}

/* 2.7: what is taken and not returned counts, also when it comes back in another order and bit by bit */
static void test_2_7_6_in_flight_is_bounded(void **state)
{
	struct fixture *f = *state;
	start(f, false, false);
	for (unsigned i = 0; i < SIZE; i++)
		put_desc(f, DESC_AT, i, GPA + DATA_AT, 1, 0, 0);
	for (uint16_t i = 0; i < SIZE; i++)
		offer(f, i);
	for (int i = 0; i < SIZE; i++)
		assert_int_equal(vq_pop(&f->q, &f->chain), 1);
	assert_int_equal(f->q.in_flight, SIZE);
	assert_int_equal(vq_pop(&f->q, &f->chain), 0);
	vq_push(&f->q, 5, 0);
	vq_push(&f->q, 2, 0);
	offer(f, 5);
	offer(f, 2);
	assert_int_equal(vq_pop(&f->q, &f->chain), 1);
	assert_int_equal(vq_pop(&f->q, &f->chain), 1);
	assert_int_equal(f->q.in_flight, SIZE);
	offer(f, 0); /* still ours */
	assert_broken(f, "2.7.6");
}

/* The used ring's index is ours; where a queue is resumed it is read once, and what the guest puts there is its loss */
static void test_2_7_8_used_index_is_read_once(void **state)
{
	struct fixture *f = *state;
	put16(f, USED_AT + 2, 0xffff);
	start(f, false, false);
	put_desc(f, DESC_AT, 1, GPA + DATA_AT, 1, WRITE, 0);
	for (unsigned i = 0; i < 2 * SIZE; i++) {
		offer(f, 1);
		assert_int_equal(vq_pop(&f->q, &f->chain), 1);
		put16(f, USED_AT + 2, 0x1234); /* written over by the guest */
		vq_push(&f->q, 1, 0);
		assert_int_equal(get16(f, USED_AT + 2), (uint16_t)i);
	}
	for (unsigned i = 4 + 8 * SIZE + 2; i < 0x100; i++)
		assert_int_equal(f->mem[USED_AT + i], 0); /* nothing behind the ring */
}

/* 2.7.5, 2.7.6: the driver may rewrite anything after it made it available; only what was read counts */
static void test_2_7_5_a_chain_taken_is_not_read_again(void **state)
{
	struct fixture *f = *state;
	start(f, false, true);
	put_desc(f, DESC_AT, 0, GPA + TABLE_AT, 16, INDIRECT, 0);
	put_desc(f, TABLE_AT, 0, GPA + DATA_AT, 10, 0, 0);
	offer(f, 0);
	assert_int_equal(vq_pop(&f->q, &f->chain), 1);
	memset(f->mem + DESC_AT, 0xff, 16 * SIZE);
	memset(f->mem + TABLE_AT, 0xff, 16);
	memset(f->mem + AVAIL_AT + 4, 0xff, 2 * SIZE);
	assert_ptr_equal(f->chain.iov[0].iov_base, f->mem + DATA_AT);
	assert_int_equal(f->chain.out_len, 10);
	vq_push(&f->q, f->chain.head, 0);
	uint32_t elem[2];
	memcpy(elem, f->mem + USED_AT + 4, 8);
	assert_int_equal(elem[0], 0);
	assert_false(f->q.broken);
}

/* Rings that lie on each other, or on the buffers, are the guest's own harm. */
static void test_2_7_rings_may_lie_on_each_other(void **state)
{
	struct fixture *f = *state;
	f->conf.avail = f->conf.used = f->conf.desc;
	start(f, true, true);
	for (int i = 0; i < 100; i++) {
		put_desc(f, DESC_AT, i % SIZE, GPA + DESC_AT, 64, (uint16_t)(i & 7), 1);
		put16(f, DESC_AT + 2, (uint16_t)(f->q.next_avail + 1));
		if (vq_pop(&f->q, &f->chain) > 0) {
			memset(f->mem, i, 64);
			vq_push(&f->q, f->chain.head, 1);
		}
		(void)vq_enable_notify(&f->q);
		(void)vq_should_notify(&f->q);
	}
	for (unsigned i = 0x1000; i < 0x2000; i++)
		assert_int_equal(f->mem[i], 0);
}

static void test_iov(void **state)
{
	char a[] = "abc", b[] = "defgh", c[] = "ij", out[16] = {0};
	struct iovec v[] = {{a, 3}, {b, 5}, {c, 2}}, s[3];
	assert_int_equal(iov_read(v, 3, 2, out, 5), 5);
	assert_string_equal(out, "cdefg");
	assert_int_equal(iov_read(v, 3, 8, out, 16), 2);
	assert_int_equal(iov_read(v, 3, 10, out, 1), 0);
	assert_int_equal(iov_write(v, 3, 7, "XYZ!", 4), 3);
	assert_memory_equal(b, "defgX", 5);
	assert_memory_equal(c, "YZ", 2);
	assert_int_equal(iov_slice(s, v, 3, 3, 5), 1);
	assert_ptr_equal(s[0].iov_base, b);
	assert_int_equal(iov_slice(s, v, 3, 1, 100), 3);
	assert_int_equal(s[0].iov_len, 2);
	assert_int_equal(iov_slice(s, v, 3, 1, 0), 0);
}

#define RULE(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		RULE(test_mem_bounds),
		RULE(test_2_7_size_and_alignment),
		RULE(test_2_7_uaddr_rings),
		RULE(test_2_7_4_2_order),
		RULE(test_2_7_5_chain),
		RULE(test_2_7_5_full_length),
		RULE(test_2_7_5_index_outside),
		RULE(test_2_7_5_buffer_outside),
		RULE(test_2_7_5_2_loop),
		RULE(test_2_7_5_2_total_length),
		RULE(test_2_7_5_3_indirect),
		RULE(test_2_7_5_3_1_indirect_rules),
		RULE(test_2_7_5_3_1_nested),
		RULE(test_2_7_5_3_1_indirect_length),
		RULE(test_2_7_6_head_outside),
		RULE(test_2_7_6_index_jump),
		RULE(test_2_7_6_wrap),
		RULE(test_unpop),
		RULE(test_2_7_7_interrupt_flag),
		RULE(test_2_7_7_2_used_event),
		RULE(test_2_7_10_flags),
		RULE(test_2_7_10_avail_event),
		RULE(test_2_7_5_no_buffer_across_regions),
		RULE(test_2_7_6_in_flight_is_bounded),
		RULE(test_2_7_8_used_index_is_read_once),
		RULE(test_2_7_5_a_chain_taken_is_not_read_again),
		RULE(test_2_7_rings_may_lie_on_each_other),
		RULE(test_iov),
	};
	return cmocka_run_group_tests_name("virtqueue", tests, NULL, NULL);
}
