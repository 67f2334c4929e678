/* SPDX-License-Identifier: MIT */
/* The memory balloon (virtio 1.2 section 5.5): what of guest memory is given back, and above all what is not. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "balloon/test-machine.h"

/* ---- identity, numbers of the queues, configuration ---- */

static void test_5_5_3_features(void **state)
{
	struct machine *m = *state;

	assert_int_equal(tdrv_read(&m->d, MMIO_DEVICE_ID), 5);
	assert_true(tdrv_negotiate(&m->d, UINT32_MAX)); /* no MUST_TELL_HOST, no hints, no poison */
	assert_int_equal(m->d.features & 0xffffff, F_STATS_VQ | F_DEFLATE_ON_OOM | F_REPORTING);
}

static bool takes_reports(struct machine *m, unsigned q)
{
	struct tdrv_buf b = range(0, PAGE);

	tdrv_add(&m->d, q, &b, 1);
	tdrv_kick(&m->d, q);
	tdrv_settle(&m->d);
	bool used = tdrv_used(&m->d, q, NULL, NULL), given = m->n_given == 1;
	assert_int_equal(used, given);
	m->n_given = 0;
	return used;
}

/* The specification's numbers are fixed, Linux's are not: both work. */
static void test_5_5_2_queue_numbers(void **state)
{
	struct machine *m = *state;
	struct balloon_stats s;

	tdrv_start(&m->d, F_STATS_VQ | F_REPORTING);
	assert_false(takes_reports(m, 2)); /* a buffer of statistics, as it seems */
	assert_true(takes_reports(m, 3));
	assert_true(takes_reports(m, 4));
	balloon_stats(m->b, &s);
	assert_int_equal(tdrv_wait(&m->d, 2, NULL), 0);

	tdrv_start(&m->d, F_REPORTING);
	assert_true(takes_reports(m, 2));
	assert_false(takes_reports(m, 3));
	assert_true(takes_reports(m, 4));
	balloon_stats(m->b, &s);

	tdrv_start(&m->d, F_STATS_VQ);
	assert_false(takes_reports(m, 2));
	assert_false(takes_reports(m, 3));
	assert_false(takes_reports(m, 4));

	tdrv_start(&m->d, 0);
	for (unsigned q = 0; q < 5; q++)
		assert_false(q > 1 && takes_reports(m, q));
	balloon_stats(m->b, &s);
}

static void test_5_5_4_target(void **state)
{
	struct machine *m = *state;
	struct balloon_stats s;
	uint32_t pages = 1;

	tdrv_config(&m->d, NUM_PAGES, &pages, 4);
	assert_int_equal(pages, 0);
	assert_int_equal(balloon_set_target(m->b, 5 * PAGE + 4095), 0);
	assert_true(tdrv_read(&m->d, MMIO_INT_STATUS) & VIRTIO_MMIO_INT_CONFIG);
	assert_true(tdrv_interrupted(&m->d));
	tdrv_config(&m->d, NUM_PAGES, &pages, 4);
	assert_int_equal(pages, 5);
	assert_int_equal(balloon_set_target(m->b, 5 * PAGE), 0); /* no news */
	assert_false(tdrv_interrupted(&m->d));
	assert_int_equal(balloon_set_target(m->b, TDRV_MEM_LEN + PAGE), -EINVAL);
	assert_int_equal(balloon_set_target(m->b, UINT64_MAX), -EINVAL);
	tdrv_config(&m->d, NUM_PAGES, &pages, 4);
	assert_int_equal(pages, 5);
	assert_int_equal(balloon_set_target(m->b, TDRV_MEM_LEN), 0);
	tdrv_write(&m->d, MMIO_CONFIG + NUM_PAGES, 7); /* not the driver's to write */
	balloon_stats(m->b, &s);
	assert_int_equal(s.target, TDRV_MEM_LEN);
}

static void test_5_5_4_actual(void **state)
{
	struct machine *m = *state;
	struct virtio_device *dev = balloon_device(m->b);
	struct balloon_stats s;
	uint8_t bytes[8] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, space[16];

	tdrv_write(&m->d, MMIO_CONFIG + ACTUAL, 3);
	assert_int_equal(tdrv_read(&m->d, MMIO_CONFIG + ACTUAL), 3);
	balloon_stats(m->b, &s);
	assert_int_equal(s.actual, 3 * PAGE);
	/* 4.2.2.2: whole fields only */
	dev->ops->write_config(dev, ACTUAL, bytes, 1);
	dev->ops->write_config(dev, ACTUAL, bytes, 2);
	dev->ops->write_config(dev, ACTUAL, bytes, 8);
	dev->ops->write_config(dev, 2, bytes, 4);
	dev->ops->write_config(dev, 8, bytes, 4);
	dev->ops->write_config(dev, UINT32_MAX, bytes, 4);
	balloon_stats(m->b, &s);
	assert_int_equal(s.actual, 3 * PAGE);
	/* No more than there is. */
	tdrv_write(&m->d, MMIO_CONFIG + ACTUAL, UINT32_MAX);
	balloon_stats(m->b, &s);
	assert_int_equal(s.actual, TDRV_MEM_LEN);
	/* Fields of features that are not offered read as zero. */
	tdrv_config(&m->d, 0, space, sizeof(space));
	assert_memory_equal(space + 8, "\0\0\0\0\0\0\0\0", 8);
	/* A new driver has nothing in its balloon. */
	tdrv_write(&m->d, MMIO_STATUS, 0);
	balloon_stats(m->b, &s);
	assert_int_equal(s.actual, 0);
}

/* ---- inflate ---- */

/* Whatever the order, what is consecutive is one range; what is named twice is given once. */
static void test_5_5_6_inflate(void **state)
{
	struct machine *m = *state;
	uint32_t a[256];

	memset(tdrv_at(&m->d, (uint64_t)PFN(FREE_AT) * PAGE), 0x77, 300 * PAGE);
	for (unsigned i = 0; i < 256; i++) /* as Linux does: from the last page to the first */
		a[i] = PFN(FREE_AT + 255 - i);
	inflate(m, a, 256);
	expect_given(m, 0, PFN(FREE_AT), 256);
	expect_no_more(m, 1);
	assert_int_equal(*(uint8_t *)tdrv_at(&m->d, (uint64_t)PFN(FREE_AT + 255) * PAGE + 4095), 0);
	assert_int_equal(*(uint8_t *)tdrv_at(&m->d, (uint64_t)PFN(FREE_AT + 256) * PAGE), 0x77);

	const uint32_t b[] = {PFN(FREE_AT + 9), PFN(FREE_AT + 1), PFN(FREE_AT + 8), PFN(FREE_AT + 9),
		PFN(FREE_AT + 3), PFN(FREE_AT + 1), PFN(FREE_AT + 10)};
	inflate(m, b, ARRAY_LEN(b));
	expect_given(m, 0, PFN(FREE_AT + 1), 1);
	expect_given(m, 1, PFN(FREE_AT + 3), 1);
	expect_given(m, 2, PFN(FREE_AT + 8), 3);
	expect_no_more(m, 3);

	inflate(m, (uint32_t[]){PFN(0), PFN(PAGES - 1)},
		2); /* the first and the last: hurts only the guest */
	assert_int_equal(m->n_given, 2);
	assert_int_equal(refused(m), 0);
}

static void test_inflate_outside(void **state)
{
	struct machine *m = *state;
	const uint32_t a[] = {0, 1, UINT32_MAX, UINT32_MAX - 1, PFN(-1), PFN(FREE_AT), PFN(PAGES),
		PFN(PAGES + 1), 0x80000000, 0xfffff};

	inflate(m, a, ARRAY_LEN(a));
	expect_given(m, 0, PFN(FREE_AT), 1);
	expect_no_more(m, 1);
	assert_int_equal(refused(m), ARRAY_LEN(a) - 1);
	assert_false(tdrv_read(&m->d, MMIO_STATUS) & STATUS_NEEDS_RESET);
}

/* Neighbours in the guest, but not here. */
static void test_inflate_across_regions(void **state)
{
	struct machine *m = *state;

	add_region(m);
	inflate(m, (uint32_t[]){PFN(PAGES), PFN(PAGES - 1), PFN(PAGES + 1), PFN(PAGES - 2), PFN(PAGES + 16)},
		5);
	expect_given(m, 0, PFN(PAGES - 2), 2);
	expect_given(m, 1, PFN(PAGES), 2);
	expect_no_more(m, 2);
	assert_int_equal(refused(m), 1);
}

/* A region need not begin or end with a page. */
static void test_inflate_crooked_region(void **state)
{
	struct machine *m = *state;

	add_region(m);
	m->d.mem.regions[1].gpa += 3 * PAGE + 512;
	m->d.mem.regions[1].len = 2 * PAGE;
	inflate(m, (uint32_t[]){PFN(PAGES + 3), PFN(PAGES + 4), PFN(PAGES + 5)}, 3);
	expect_given(m, 0, PFN(PAGES + 4), 1);
	expect_no_more(m, 1);
	assert_int_equal(refused(m), 2);
}

static void test_inflate_framing(void **state)
{
	struct machine *m = *state;
	const uint32_t a[] = {PFN(FREE_AT), PFN(FREE_AT + 2)};
	struct tdrv_buf bufs[4] = {{.len = 3}, {.len = 4}, {.len = 3}, {.len = 8, .write = true}};
	void *p;

	/* Numbers cut in two, the last one incomplete, and a part that does not belong there. */
	for (unsigned i = 0, at = 0; i < 3; at += bufs[i++].len) {
		bufs[i].gpa = tdrv_alloc(&m->d, bufs[i].len, &p);
		memcpy(p, (const uint8_t *)a + at, MIN_OF(bufs[i].len, sizeof(a) - at));
	}
	bufs[3].gpa = tdrv_alloc(&m->d, 8, NULL);
	tdrv_add_indirect(&m->d, INFLATE, bufs, 4);
	tdrv_kick(&m->d, INFLATE);
	assert_int_equal(tdrv_wait(&m->d, INFLATE, NULL), 0);
	expect_given(m, 0, PFN(FREE_AT), 1);
	expect_given(m, 1, PFN(FREE_AT + 2), 1);
	expect_no_more(m, 2);

	bufs[0].len = 3; /* nothing at all */
	tdrv_add(&m->d, INFLATE, bufs, 1);
	tdrv_add(&m->d, INFLATE, bufs + 3, 1);
	tdrv_kick(&m->d, INFLATE);
	assert_int_equal(tdrv_wait(&m->d, INFLATE, NULL), 0);
	assert_int_equal(tdrv_wait(&m->d, INFLATE, NULL), 0);
	expect_no_more(m, 0);
}

/* Every second page, again and again: a turn's work is bounded, and so is that for one request. */
static void test_inflate_huge(void **state)
{
	struct machine *m = *state;
	static uint32_t a[3 * PAGES];

	for (unsigned i = 0; i < ARRAY_LEN(a); i++)
		a[i] = PFN(FREE_AT + 2 * (i % (PAGES / 4)));
	name_pages(m, INFLATE, a, ARRAY_LEN(a));
	tdrv_kick(&m->d, INFLATE);
	for (unsigned before = 0, turns = 0; !tdrv_used(&m->d, INFLATE, NULL, NULL); turns++) {
		assert_int_equal(loop_turn(m->loop, 10), 0);
		assert_true(m->n_given - before <= 1024);
		assert_true(turns < 10);
		before = m->n_given;
	}
	expect_no_more(m, PAGES); /* no request names more pages than there are */
}

/* The chain becomes shorter while the rest of it waits for another turn; the next request is not cut. */
static void test_inflate_shrinks(void **state)
{
	struct machine *m = *state;
	static uint32_t a[1500];
	const uint32_t len = 8;

	for (unsigned i = 0; i < ARRAY_LEN(a); i++)
		a[i] = PFN(FREE_AT);
	uint16_t head = name_pages(m, INFLATE, a, ARRAY_LEN(a));
	tdrv_kick(&m->d, INFLATE);
	assert_int_equal(loop_turn(m->loop, 10), 0);
	assert_false(tdrv_used(&m->d, INFLATE, NULL, NULL));
	memcpy(tdrv_at(&m->d, m->d.q[INFLATE].desc + 16 * (uint64_t)head + 8), &len, sizeof(len));
	assert_int_equal(tdrv_wait(&m->d, INFLATE, NULL), 0);
	m->n_given = 0;
	inflate(m, (uint32_t[]){PFN(FREE_AT + 4)}, 1);
	expect_given(m, 0, PFN(FREE_AT + 4), 1);
}

static void test_inflate_reset_amid(void **state)
{
	struct machine *m = *state;
	static uint32_t a[1500];

	for (unsigned i = 0; i < ARRAY_LEN(a); i++)
		a[i] = PFN(FREE_AT);
	name_pages(m, INFLATE, a, ARRAY_LEN(a));
	tdrv_kick(&m->d, INFLATE);
	assert_int_equal(loop_turn(m->loop, 10), 0);
	assert_false(tdrv_used(&m->d, INFLATE, NULL, NULL));
	tdrv_start(&m->d, ALL);
	m->n_given = 0;
	tdrv_settle(&m->d); /* nothing of the old driver's memory is given any more */
	expect_no_more(m, 0);
	inflate(m, (uint32_t[]){PFN(FREE_AT + 4)}, 1);
	expect_given(m, 0, PFN(FREE_AT + 4), 1);
}

/* The balloon swallows the queue's own rings: the queue breaks, at worst. */
static void test_inflate_own_rings(void **state)
{
	struct machine *m = *state;
	static uint32_t a[PAGES];

	for (unsigned i = 0; i < PAGES; i++)
		a[i] = PFN(i);
	name_pages(m, INFLATE, a, PAGES);
	tdrv_kick(&m->d, INFLATE);
	tdrv_settle(&m->d);
	tdrv_kick(&m->d, INFLATE);
	tdrv_settle(&m->d);
	tdrv_start(&m->d, ALL);
	m->n_given = 0;
	inflate(m, (uint32_t[]){PFN(FREE_AT)}, 1);
	expect_no_more(m, 1);
}

static void test_5_5_6_deflate(void **state)
{
	struct machine *m = *state;

	for (int i = 0; i < 100; i++) {
		name_pages(m, DEFLATE, (uint32_t[]){PFN(FREE_AT), PFN(FREE_AT + 1), 0}, 3);
		tdrv_kick(&m->d, DEFLATE);
		assert_int_equal(tdrv_wait(&m->d, DEFLATE, NULL), 0);
	}
	expect_no_more(m, 0);
}

/* ---- reporting ---- */

static void test_5_5_6_7_report(void **state)
{
	struct machine *m = *state;
	struct balloon_stats s;
	struct tdrv_buf bufs[32];

	for (unsigned i = 0; i < 32; i++) /* Linux: 32 large blocks; here with a gap after every second one */
		bufs[i] = range((uint64_t)(i / 2 * 5 + i % 2 * 2) * PAGE, 2 * PAGE);
	report(m, REPORT, bufs, 32);
	for (unsigned i = 0; i < 16; i++)
		expect_given(m, i, PFN(FREE_AT + i * 5), 4);
	expect_no_more(m, 16);
	balloon_stats(m->b, &s);
	assert_int_equal(s.reported, 64 * PAGE);
	assert_int_equal(s.refused, 0);
	report(m, REPORT_FIXED, bufs, 1);
	expect_no_more(m, 1);
}

/* Only pages that are free as a whole. */
static void test_report_unaligned(void **state)
{
	struct machine *m = *state;
	struct balloon_stats s;
	const struct tdrv_buf bufs[] = {
		range(1, 2 * PAGE),		 /* page 1 */
		range(10 * PAGE, PAGE - 1),	 /* none */
		range(20 * PAGE + 1, PAGE),	 /* none */
		range(30 * PAGE - 1, PAGE + 2),	 /* page 30 */
		range(40 * PAGE, 3 * PAGE + 17), /* 40 to 42 */
		range(41 * PAGE, PAGE),		 /* again */
		range(50 * PAGE + 5, 1),	 /* none */
	};

	report(m, REPORT, bufs, ARRAY_LEN(bufs));
	expect_given(m, 0, PFN(FREE_AT + 1), 1);
	expect_given(m, 1, PFN(FREE_AT + 30), 1);
	expect_given(m, 2, PFN(FREE_AT + 40), 3);
	expect_given(m, 3, PFN(FREE_AT + 41), 1);
	expect_no_more(m, 4);
	balloon_stats(m->b, &s);
	assert_int_equal(s.reported, 6 * PAGE);
}

/* What is for the device to read is not free, though it stands in the reporting queue. */
static void test_report_readable(void **state)
{
	struct machine *m = *state;
	struct tdrv_buf bufs[2] = {range(0, PAGE), range(PAGE, PAGE)};

	bufs[0].write = false;
	report(m, REPORT, bufs, 2);
	expect_given(m, 0, PFN(FREE_AT + 1), 1);
	expect_no_more(m, 1);
	report(m, REPORT, bufs, 1);
	expect_no_more(m, 0);
}

static void test_report_across_regions(void **state)
{
	struct machine *m = *state;
	struct tdrv_buf bufs[2] = {range((uint64_t)(PAGES - FREE_AT - 1) * PAGE, PAGE),
		{.gpa = TDRV_GPA + TDRV_MEM_LEN, .len = 2 * PAGE, .write = true}};

	add_region(m);
	report(m, REPORT, bufs, 2);
	expect_given(m, 0, PFN(PAGES - 1), 1);
	expect_given(m, 1, PFN(PAGES), 2);
	expect_no_more(m, 2);
	bufs[0].len = 2 * PAGE; /* one buffer over both: 2.7.5 */
	tdrv_add(&m->d, REPORT, bufs, 1);
	tdrv_kick(&m->d, REPORT);
	tdrv_expect_broken(&m->d);
	expect_no_more(m, 0);
}

/* All of memory in each of many reports, rings included: bounded per turn, and nobody comes to harm. */
static void test_report_everything(void **state)
{
	struct machine *m = *state;
	struct tdrv_buf all = {.gpa = TDRV_GPA, .len = TDRV_MEM_LEN, .write = true}, many[64];

	for (unsigned i = 0; i < 64; i++)
		many[i] = range(2ULL * i * PAGE, PAGE);
	for (unsigned i = 0; i < 50; i++)
		tdrv_add_indirect(&m->d, REPORT, many, 64);
	tdrv_kick(&m->d, REPORT);
	assert_int_equal(loop_turn(m->loop, 10), 0);
	assert_in_range(m->n_given, 64, 1024 + 64);
	for (unsigned i = 0; i < 50; i++)
		tdrv_wait(&m->d, REPORT, NULL);
	expect_no_more(m, 50 * 64);
	tdrv_add(&m->d, REPORT, &all, 1);
	tdrv_kick(&m->d, REPORT);
	tdrv_settle(&m->d);
	expect_given(m, 0, PFN(0), PAGES);
	tdrv_start(&m->d, ALL);
}

static void test_gpa_of(void **state)
{
	struct machine *m = *state;
	uint8_t *host = m->d.host;
	uint64_t gpa = 0;

	add_region(m);
	assert_true(guest_mem_gpa_of(&m->d.mem, host, TDRV_MEM_LEN, &gpa));
	assert_int_equal(gpa, TDRV_GPA);
	assert_true(guest_mem_gpa_of(&m->d.mem, host + TDRV_MEM_LEN - 1, 1, &gpa));
	assert_int_equal(gpa, TDRV_GPA + TDRV_MEM_LEN - 1);
	assert_true(guest_mem_gpa_of(&m->d.mem, m->extra + 5, 16 * PAGE - 5, &gpa));
	assert_int_equal(gpa, TDRV_GPA + TDRV_MEM_LEN + 5);
	assert_false(guest_mem_gpa_of(&m->d.mem, host, TDRV_MEM_LEN + 1, &gpa));
	assert_false(guest_mem_gpa_of(&m->d.mem, host - 1, 1, &gpa));
	assert_false(guest_mem_gpa_of(&m->d.mem, m->extra + 1, 16 * PAGE, &gpa));
	assert_false(guest_mem_gpa_of(&m->d.mem, host + 1, UINT64_MAX, &gpa));
	assert_false(guest_mem_gpa_of(&m->d.mem, NULL, 1, &gpa));
}

/* ---- statistics ---- */

static void test_5_5_6_3_stats(void **state)
{
	struct machine *m = *state;
	struct balloon_stats s;
	const struct stat_entry e[] = {{4, 400}, {7, 700}, {0, 1}, {1, 2}, {99, 5}, {2, 3}, {3, 4}, {10, 6},
		{5, 500}, {6, UINT64_MAX - 1}, {0xffff, 7}};

	balloon_stats(m->b, &s);
	assert_true(s.free == UINT64_MAX && s.total == UINT64_MAX && s.minor_faults == UINT64_MAX);
	tell_stats(m, e, sizeof(e));
	assert_false(tdrv_used(&m->d, STATS, NULL, NULL)); /* kept, to ask with it */
	balloon_stats(m->b, &s);
	assert_int_equal(s.free, 400);
	assert_int_equal(s.disk_caches, 700);
	assert_int_equal(s.swapped_in, 1);
	assert_int_equal(s.swapped_out, 2);
	assert_int_equal(s.major_faults, 3);
	assert_int_equal(s.minor_faults, 4);
	assert_int_equal(s.total, 500);
	assert_int_equal(s.available, UINT64_MAX - 1);
	assert_int_equal(tdrv_wait(&m->d, STATS, NULL), 0);
	assert_true(tdrv_interrupted(&m->d));
	balloon_stats(m->b, &s); /* asked already */
	tdrv_settle(&m->d);
	assert_false(tdrv_used(&m->d, STATS, NULL, NULL));

	tell_stats(m, (const struct stat_entry[]){{4, 401}, {4, 402}}, 20);
	balloon_stats(m->b, &s);
	assert_int_equal(s.free, 402);
	assert_int_equal(s.total, 500); /* what is not told again stands */
	tdrv_write(&m->d, MMIO_STATUS, 0);
	balloon_stats(m->b, &s);
	assert_int_equal(s.total, UINT64_MAX);
}

/* Entries cut short, none at all, more than are looked at, one after the other without being asked. */
static void test_stats_hostile(void **state)
{
	struct machine *m = *state;
	struct balloon_stats s;
	static struct stat_entry e[200];

	tell_stats(m, (const struct stat_entry[]){{4, 400}, {5, 500}}, 19);
	balloon_stats(m->b, &s);
	assert_int_equal(s.free, 400);
	assert_int_equal(s.total, UINT64_MAX);
	tdrv_wait(&m->d, STATS, NULL);

	for (unsigned i = 0; i < 200; i++)
		e[i] = (struct stat_entry){.tag = i < 64 ? 50 : 5, .val = 1};
	tell_stats(m, e, sizeof(e));
	balloon_stats(m->b, &s);
	assert_int_equal(s.total, UINT64_MAX);
	tdrv_wait(&m->d, STATS, NULL);

	for (uint64_t i = 1; i <= 3; i++) { /* 5.5.6.3.1: at most one; others wait their turn */
		const struct stat_entry one = {4, i};
		tell_stats(m, &one, sizeof(one));
	}
	for (uint64_t i = 1; i <= 3; i++) {
		assert_false(tdrv_used(&m->d, STATS, NULL, NULL));
		balloon_stats(m->b, &s);
		assert_int_equal(s.free, i);
		tdrv_wait(&m->d, STATS, NULL);
		tdrv_settle(&m->d);
	}
	struct tdrv_buf in = range(0, 100);
	tdrv_add(&m->d, STATS, &in, 1); /* nothing to read in it */
	tdrv_kick(&m->d, STATS);
	tdrv_settle(&m->d);
	balloon_stats(m->b, &s);
	tdrv_wait(&m->d, STATS, NULL);
	assert_int_equal(s.free, 3);
	expect_no_more(m, 0);
}

/* ---- broken rules, resets, snapshots ---- */

static void test_2_7_5_outside(void **state)
{
	struct machine *m = *state;
	struct tdrv_buf bad = {.gpa = TDRV_GPA + TDRV_MEM_LEN - 1, .len = 2};
	struct balloon_stats s;

	tell_stats(m, (const struct stat_entry[]){{4, 400}}, 10);
	tdrv_add(&m->d, INFLATE, &bad, 1);
	tdrv_kick(&m->d, INFLATE);
	tdrv_expect_broken(&m->d);
	/* 2.1.2: no queue is touched any more, the one of statistics neither */
	name_pages(m, DEFLATE, (uint32_t[]){PFN(FREE_AT)}, 1);
	tdrv_kick(&m->d, DEFLATE);
	balloon_stats(m->b, &s);
	expect_no_more(m, 0);
	assert_false(tdrv_used(&m->d, DEFLATE, NULL, NULL));
	assert_false(tdrv_used(&m->d, STATS, NULL, NULL));

	tdrv_start(&m->d, ALL);
	tell_stats(m, (const struct stat_entry[]){{4, 500}}, 10);
	balloon_stats(m->b, &s);
	assert_int_equal(s.free, 500);
	tdrv_wait(&m->d, STATS, NULL);
	inflate(m, (uint32_t[]){PFN(FREE_AT)}, 1);
	expect_no_more(m, 1);
}

/* The buffer of statistics is with us when the driver resets. */
static void test_reset_with_stats_held(void **state)
{
	struct machine *m = *state;
	struct balloon_stats s;

	for (int i = 0; i < 3; i++) {
		tell_stats(m, (const struct stat_entry[]){{4, 400}}, 10);
		tdrv_start(&m->d, i == 1 ? F_REPORTING : ALL);
		balloon_stats(m->b, &s);
		tdrv_settle(&m->d);
		assert_false(tdrv_used(&m->d, STATS, NULL, NULL));
		if (i == 1)
			tdrv_start(&m->d, ALL);
	}
}

static void test_snapshot(void **state)
{
	struct machine *m = *state, *other = machine_new();
	struct virtio_mmio_state *s = calloc(1, sizeof(*s));
	static uint32_t a[1500];
	struct balloon_stats st;

	/* Half a request done, figures held, both sides of the configuration written. */
	for (unsigned i = 0; i < ARRAY_LEN(a); i++)
		a[i] = PFN(FREE_AT + 2 * (i % 500));
	tell_stats(m, (const struct stat_entry[]){{4, 400}}, 10);
	assert_int_equal(balloon_set_target(m->b, 100 * PAGE), 0);
	tdrv_write(&m->d, MMIO_CONFIG + ACTUAL, 50);
	name_pages(m, INFLATE, a, ARRAY_LEN(a));
	tdrv_kick(&m->d, INFLATE);
	assert_int_equal(loop_turn(m->loop, 10), 0);
	assert_false(tdrv_used(&m->d, INFLATE, NULL, NULL));
	assert_int_equal(virtio_mmio_suspend(m->d.m, s), 0);
	unsigned given = m->n_given;
	expect_no_more(m, given);

	memcpy(other->d.host, m->d.host, TDRV_MEM_LEN);
	memcpy(other->d.q, m->d.q, sizeof(m->d.q));
	assert_int_equal(virtio_mmio_restore(other->d.m, s), 0);
	assert_int_equal(tdrv_wait(&other->d, INFLATE, NULL), 0);
	assert_true(other->n_given > 0);
	tdrv_settle(&other->d);
	balloon_stats(other->b, &st);
	assert_int_equal(st.free, 400);
	assert_int_equal(st.target, 100 * PAGE);
	assert_int_equal(st.actual, 50 * PAGE);
	assert_int_equal(tdrv_wait(&other->d, STATS, NULL), 0);
	machine_free(other);

	/* The first one may go on as well. */
	assert_int_equal(virtio_mmio_resume(m->d.m), 0);
	assert_int_equal(tdrv_wait(&m->d, INFLATE, NULL), 0);
	balloon_stats(m->b, &st);
	assert_int_equal(tdrv_wait(&m->d, STATS, NULL), 0);
	free(s);
}

static void test_restore_hostile(void **state)
{
	struct machine *m = *state;
	struct virtio_device *dev = balloon_device(m->b);
	uint8_t buf[VIRTIO_STATE_MAX] = {0}, bad[VIRTIO_STATE_MAX];
	uint32_t too_many = PAGES + 1;

	assert_int_equal(balloon_set_target(m->b, TDRV_MEM_LEN), 0);
	size_t len = dev->ops->save(dev, buf);
	assert_true(len > 0 && len <= sizeof(buf));
	assert_int_equal(dev->ops->restore(dev, buf, len), 0);
	for (size_t i = 0; i < sizeof(buf); i++) {
		if (i != len)
			assert_int_equal(dev->ops->restore(dev, buf, i), -EINVAL);
	}
	for (size_t at = 0; at < len; at += 4) { /* no version, nor more pages than there are */
		memcpy(bad, buf, len);
		memcpy(bad + at, &too_many, sizeof(too_many));
		assert_int_equal(dev->ops->restore(dev, bad, len), -EINVAL);
	}
}

static void test_new_refuses(void **state)
{
	struct machine *m = *state;
	struct balloon_config c = {.mem_bytes = TDRV_MEM_LEN};
	struct balloon_dev *b = NULL;

	assert_int_equal(balloon_new(m->loop, &c, &b), -EINVAL);
	c.discard = on_discard;
	c.mem_bytes = 1ULL << 44;
	assert_int_equal(balloon_new(m->loop, &c, &b), -EINVAL);
	assert_null(b);
	c.mem_bytes -= PAGE;
	assert_int_equal(balloon_new(m->loop, &c, &b), 0);
	assert_int_equal(balloon_set_target(b, c.mem_bytes), 0); /* not attached: nobody is told */
	balloon_free(b);
}

#define T(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_5_5_3_features),
		T(test_5_5_2_queue_numbers),
		T(test_5_5_4_target),
		T(test_5_5_4_actual),
		T(test_5_5_6_inflate),
		T(test_inflate_outside),
		T(test_inflate_across_regions),
		T(test_inflate_crooked_region),
		T(test_inflate_framing),
		T(test_inflate_huge),
		T(test_inflate_shrinks),
		T(test_inflate_reset_amid),
		T(test_inflate_own_rings),
		T(test_5_5_6_deflate),
		T(test_5_5_6_7_report),
		T(test_report_unaligned),
		T(test_report_readable),
		T(test_report_across_regions),
		T(test_report_everything),
		T(test_gpa_of),
		T(test_5_5_6_3_stats),
		T(test_stats_hostile),
		T(test_2_7_5_outside),
		T(test_reset_with_stats_held),
		T(test_snapshot),
		T(test_restore_hostile),
		T(test_new_refuses),
	};
	return cmocka_run_group_tests_name("balloon", tests, NULL, NULL);
}
