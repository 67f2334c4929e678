/* SPDX-License-Identifier: MIT */
/* The entropy device (virtio 1.2 section 5.4). Its clock is ours, so that what may be drawn is known to the byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "base/io.h"
#include "rng/internal.h"
#include "test-mmio-driver.h"

enum { BURST = 4096, PER_SECOND = 8192 };
#define SECOND_NS 1000000000ULL
#define TICK_NS	  1000000ULL

struct machine {
	struct loop *loop;
	struct rng_dev *r;
	struct tdrv d;
};

static uint64_t clock_ns;

static uint64_t fake_clock(void)
{
	return clock_ns;
}

static int setup(void **state)
{
	struct machine *m = calloc(1, sizeof(*m));

	clock_ns = 5 * SECOND_NS;
	assert_int_equal(loop_new(&m->loop), 0);
	assert_int_equal(rng_new(m->loop, &m->r), 0);
	rng_set_limits(m->r, BURST, PER_SECOND, TICK_NS, fake_clock);
	tdrv_init(&m->d, m->loop, rng_device(m->r));
	tdrv_start(&m->d, VIRTIO_F_INDIRECT_DESC);
	*state = m;
	return 0;
}

static int teardown(void **state)
{
	struct machine *m = *state;

	tdrv_done(&m->d);
	rng_free(m->r);
	loop_free(m->loop);
	free(m);
	return 0;
}

static uint8_t *ask(struct machine *m, uint32_t len)
{
	void *p;
	struct tdrv_buf b = {.len = len, .write = true};

	b.gpa = tdrv_alloc(&m->d, len, &p);
	tdrv_add(&m->d, 0, &b, 1);
	return p;
}

/* Sixteen zero bytes in a row are not random. */
static bool looks_random(const uint8_t *p, size_t len)
{
	size_t zeros = 0;

	for (size_t i = 0; i < len; i++) {
		zeros = p[i] ? 0 : zeros + 1;
		if (zeros == 16)
			return false;
	}
	return true;
}

static void expect_nothing(struct machine *m)
{
	for (int i = 0; i < 5; i++) { /* the timer's turns included */
		assert_int_equal(loop_turn(m->loop, 2), 0);
		assert_false(tdrv_used(&m->d, 0, NULL, NULL));
	}
}

/* Draws whatever there is at this moment. */
static void empty_bucket(struct machine *m)
{
	ask(m, 4 * BURST);
	tdrv_kick(&m->d, 0);
	tdrv_wait(&m->d, 0, NULL);
}

static void test_5_4_2_identity(void **state)
{
	struct machine *m = *state;
	uint32_t v;

	assert_int_equal(tdrv_read(&m->d, MMIO_DEVICE_ID), 4);
	tdrv_write(&m->d, MMIO_QUEUE_SEL, 1);
	assert_int_equal(tdrv_read(&m->d, MMIO_QUEUE_NUM_MAX), 0);
	tdrv_config(&m->d, 0, &v, sizeof(v)); /* 5.4.4: none */
	assert_int_equal(v, 0);
	tdrv_write(&m->d, MMIO_CONFIG, 1);
}

static void test_5_4_6_request(void **state)
{
	struct machine *m = *state;
	uint8_t *a = ask(m, 64), *b = ask(m, 1000);

	tdrv_kick(&m->d, 0);
	assert_int_equal(tdrv_wait(&m->d, 0, NULL), 64);
	assert_int_equal(tdrv_wait(&m->d, 0, NULL), 1000);
	assert_true(looks_random(a, 64));
	assert_true(looks_random(b, 1000));
	assert_memory_not_equal(a, b, 64);
	assert_true(tdrv_interrupted(&m->d));
}

static void test_request_scattered(void **state)
{
	struct machine *m = *state;
	struct tdrv_buf bufs[3] = {{.len = 100}, {.len = 300, .write = true}, {.len = 17, .write = true}};
	uint8_t *p[3], zeros[100] = {0};

	for (unsigned i = 0; i < 3; i++)
		bufs[i].gpa = tdrv_alloc(&m->d, bufs[i].len, (void **)&p[i]);
	tdrv_add_indirect(&m->d, 0, bufs, 3);
	tdrv_kick(&m->d, 0);
	assert_int_equal(tdrv_wait(&m->d, 0, NULL), 317);
	assert_memory_equal(p[0], zeros, sizeof(zeros)); /* 5.4.6.1: does not belong there, is left alone */
	assert_true(looks_random(p[1], 300));
	assert_true(looks_random(p[2], 17));
	assert_int_equal(p[2][17], 0);
}

static void test_5_4_6_1_readable_only(void **state)
{
	struct machine *m = *state;
	struct tdrv_buf b = {.len = 100};

	b.gpa = tdrv_alloc(&m->d, b.len, NULL);
	tdrv_add(&m->d, 0, &b, 1);
	ask(m, 8);
	tdrv_kick(&m->d, 0);
	assert_int_equal(tdrv_wait(&m->d, 0, NULL), 0);
	assert_int_equal(tdrv_wait(&m->d, 0, NULL), 8);
}

/* A request gets what there is (5.4.6.2), the next one waits until there is something again. */
static void test_rate(void **state)
{
	struct machine *m = *state;
	uint8_t *p = ask(m, 3 * BURST);

	ask(m, 3 * BURST);
	tdrv_kick(&m->d, 0);
	assert_int_equal(tdrv_wait(&m->d, 0, NULL), BURST);
	assert_true(looks_random(p, BURST));
	assert_int_equal(p[BURST], 0);
	expect_nothing(m);
	tdrv_kick(&m->d, 0); /* impatience does not help */
	expect_nothing(m);
	clock_ns += SECOND_NS * 63 / PER_SECOND; /* less than the least that is given */
	expect_nothing(m);
	clock_ns += SECOND_NS / 4;
	uint32_t n = tdrv_wait(&m->d, 0, NULL);
	assert_in_range(n, PER_SECOND / 4, PER_SECOND / 4 + 63);
	/* However long nobody asks, the bucket holds no more than it does. */
	clock_ns += 3600 * SECOND_NS;
	ask(m, 3 * BURST);
	tdrv_kick(&m->d, 0);
	assert_int_equal(tdrv_wait(&m->d, 0, NULL), BURST);
}

/* Small buffers, segments and empty chains cost as much as RNG_COST_MIN bytes. */
static void test_rate_of_requests(void **state)
{
	struct machine *m = *state;
	struct tdrv_buf one = {.len = 1, .write = true}, readable = {.len = 1}, many[8];
	unsigned n = 0;

	one.gpa = readable.gpa = tdrv_alloc(&m->d, 1, NULL);
	for (unsigned i = 0; i < 8; i++)
		many[i] = one;
	for (bool empty = false; !empty;) {
		tdrv_add(&m->d, 0, n % 2 ? &one : &readable, 1);
		tdrv_kick(&m->d, 0);
		assert_int_equal(loop_turn(m->loop, 2), 0);
		empty = !tdrv_used(&m->d, 0, NULL, NULL);
		n += !empty;
		assert_true(n < 1000);
	}
	assert_int_equal(n, BURST / RNG_COST_MIN);

	clock_ns += SECOND_NS * 5 * RNG_COST_MIN / PER_SECOND; /* one for what waits, and four */
	assert_int_equal(tdrv_wait(&m->d, 0, NULL), 0);
	tdrv_add_indirect(&m->d, 0, many, 8);
	tdrv_kick(&m->d, 0);
	assert_int_equal(tdrv_wait(&m->d, 0, NULL), 4);
}

static void test_clock_backwards(void **state)
{
	struct machine *m = *state;

	empty_bucket(m);
	clock_ns -= SECOND_NS;
	ask(m, 64);
	tdrv_kick(&m->d, 0);
	expect_nothing(m);
	clock_ns += 2 * SECOND_NS;
	assert_int_equal(tdrv_wait(&m->d, 0, NULL), 64);
}

/* A reset does not fill the bucket, nor does it leave anything of the old queue behind. */
static void test_reset_while_waiting(void **state)
{
	struct machine *m = *state;

	empty_bucket(m);
	ask(m, 64);
	tdrv_kick(&m->d, 0);
	expect_nothing(m);
	tdrv_write(&m->d, MMIO_STATUS, 0);
	assert_int_equal(loop_turn(m->loop, 2), 0);
	tdrv_start(&m->d, VIRTIO_F_EVENT_IDX);
	ask(m, 64);
	tdrv_kick(&m->d, 0);
	expect_nothing(m);
	clock_ns += SECOND_NS;
	assert_int_equal(tdrv_wait(&m->d, 0, NULL), 64);
	for (int i = 0; i < 20; i++) {
		ask(m, 64);
		tdrv_kick(&m->d, 0);
		assert_int_equal(tdrv_wait(&m->d, 0, NULL), 64);
	}
}

static void test_2_7_5_outside(void **state)
{
	struct machine *m = *state;
	struct tdrv_buf bad = {.gpa = TDRV_GPA - 1, .len = 2, .write = true};

	tdrv_add(&m->d, 0, &bad, 1);
	tdrv_kick(&m->d, 0);
	tdrv_expect_broken(&m->d);
	ask(m, 64);
	tdrv_kick(&m->d, 0);
	expect_nothing(m);
	tdrv_start(&m->d, 0);
	ask(m, 64);
	tdrv_kick(&m->d, 0);
	assert_int_equal(tdrv_wait(&m->d, 0, NULL), 64);
}

/* A request that waits is answered where the machine is restored. */
static void test_snapshot(void **state)
{
	struct machine *m = *state;
	struct virtio_mmio_state *s = calloc(1, sizeof(*s));
	struct machine *other;

	setup((void **)&other);
	tdrv_write(&other->d, MMIO_STATUS, 0);
	empty_bucket(m);
	ask(m, 64);
	tdrv_kick(&m->d, 0);
	expect_nothing(m);
	assert_int_equal(virtio_mmio_suspend(m->d.m, s), 0);
	expect_nothing(m);
	assert_int_equal(s->device_len, 0);

	memcpy(other->d.host, m->d.host, TDRV_MEM_LEN);
	memcpy(other->d.q, m->d.q, sizeof(m->d.q));
	assert_int_equal(virtio_mmio_restore(other->d.m, s), 0);
	assert_int_equal(tdrv_wait(&other->d, 0, NULL), 64);
	teardown((void **)&other);
	free(s);
}

/* As it is in service: the real clock and limits. */
static void test_defaults(void **state)
{
	struct machine *m = *state;
	uint64_t total = 0;

	rng_set_limits(m->r, RNG_BURST, RNG_PER_SECOND, RNG_TICK_NS, time_mono_ns);
	uint64_t start = time_mono_ns();
	while (total < RNG_BURST + RNG_PER_SECOND / 8) {
		ask(m, 65536);
		tdrv_kick(&m->d, 0);
		total += tdrv_wait(&m->d, 0, NULL);
	}
	/* It may take longer, on a busy host, but not shorter. */
	assert_true(time_mono_ns() - start >= SECOND_NS / 8 - SECOND_NS / 1000);
}

#define T(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_5_4_2_identity),
		T(test_5_4_6_request),
		T(test_request_scattered),
		T(test_5_4_6_1_readable_only),
		T(test_rate),
		T(test_rate_of_requests),
		T(test_clock_backwards),
		T(test_reset_while_waiting),
		T(test_2_7_5_outside),
		T(test_snapshot),
		T(test_defaults),
	};
	return cmocka_run_group_tests_name("rng", tests, NULL, NULL);
}
