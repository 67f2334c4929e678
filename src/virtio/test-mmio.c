/* SPDX-License-Identifier: MIT */
/* The rules of virtio over MMIO, each under the number of its section, against drivers that keep or break them. */
#include "test-mmio-fixture.h"

#include "base/io.h"

/* ---- 4.2.2: registers ---- */

static void s4_2_2_registers_after_power_on(void **state)
{
	struct fixture *f = *state;
	assert_int_equal(tdrv_read(&f->d, MMIO_MAGIC), 0x74726976);
	assert_int_equal(tdrv_read(&f->d, MMIO_VERSION), 2);
	assert_int_equal(tdrv_read(&f->d, MMIO_DEVICE_ID), VIRTIO_ID_ENTROPY);
	assert_int_not_equal(tdrv_read(&f->d, MMIO_VENDOR_ID), 0);
	assert_int_equal(status(f), 0);
	assert_int_equal(tdrv_read(&f->d, MMIO_INT_STATUS), 1);
	assert_int_equal(tdrv_read(&f->d, MMIO_QUEUE_NUM_MAX), QUEUE_MAX);
	tdrv_write(&f->d, MMIO_QUEUE_READY, 2); /* means nothing */
	assert_int_equal(tdrv_read(&f->d, MMIO_QUEUE_READY), 0);
	assert_int_equal(virtio_mmio_n_queues(f->d.m), QUEUES);
	assert_int_equal(virtio_mmio_kick_fd(f->d.m, QUEUES), -1);
	config_matches_page(f);
}

static void s4_2_2_no_shared_memory(void **state)
{
	struct fixture *f = *state;
	for (uint32_t id = 0; id < 3; id++) {
		tdrv_write(&f->d, 0xac, id);
		for (uint32_t off = 0xb0; off <= 0xbc; off += 4)
			assert_int_equal(tdrv_read(&f->d, off), UINT32_MAX);
	}
}

static void s4_2_2_an_absent_queue_has_size_0_and_keeps_nothing(void **state)
{
	struct fixture *f = *state;
	static const uint32_t absent[] = {QUEUES, VIRTIO_QUEUES_MAX, 0xffff, 0x10000, UINT32_MAX};
	for (unsigned i = 0; i < ARRAY_LEN(absent); i++) {
		tdrv_write(&f->d, MMIO_QUEUE_SEL, absent[i]);
		assert_int_equal(tdrv_read(&f->d, MMIO_QUEUE_NUM_MAX), 0);
		tdrv_write(&f->d, MMIO_QUEUE_NUM, 8);
		tdrv_write(&f->d, MMIO_QUEUE_DESC, 8);
		tdrv_write(&f->d, MMIO_QUEUE_READY, 1);
		assert_int_equal(tdrv_read(&f->d, MMIO_QUEUE_READY), 0);
		tdrv_write(&f->d, MMIO_QUEUE_NOTIFY, absent[i]);
	}
	tdrv_start(&f->d, 0);
	tdrv_write(&f->d, MMIO_QUEUE_NOTIFY, QUEUES);
	tdrv_settle(&f->d);
	assert_int_equal(f->e.notified[0] + f->e.notified[1], 0);
	echo_works(f, 1);
}

static void s4_2_2_read_only_and_write_only(void **state)
{
	struct fixture *f = *state;
	static const uint32_t read_only[] = {MMIO_MAGIC, MMIO_VERSION, MMIO_DEVICE_ID, MMIO_VENDOR_ID,
		MMIO_DEVICE_FEATURES, MMIO_QUEUE_NUM_MAX, MMIO_INT_STATUS, 0xb0, MMIO_CONFIG_GENERATION};
	static const uint32_t write_only[] = {MMIO_DEVICE_FEATURES_SEL, MMIO_DRIVER_FEATURES,
		MMIO_DRIVER_FEATURES_SEL, MMIO_QUEUE_SEL, MMIO_QUEUE_NUM, MMIO_QUEUE_NOTIFY, MMIO_INT_ACK,
		MMIO_QUEUE_DESC, MMIO_QUEUE_DESC + 4, MMIO_QUEUE_DRIVER, MMIO_QUEUE_DEVICE, 0x28, 0x40, 0xc0};
	for (unsigned i = 0; i < ARRAY_LEN(read_only); i++) {
		uint32_t before = tdrv_read(&f->d, read_only[i]);
		tdrv_write(&f->d, read_only[i], ~before);
		assert_int_equal(tdrv_read(&f->d, read_only[i]), before);
	}
	for (unsigned i = 0; i < ARRAY_LEN(write_only); i++) {
		tdrv_write(&f->d, write_only[i], 1);
		assert_int_equal(tdrv_read(&f->d, write_only[i]), 0);
	}
}

static void s4_2_2_2_registers_are_32_bits_wide_and_aligned(void **state)
{
	struct fixture *f = *state;
	static const struct {
		uint32_t off, len;
	} bad[] = {{MMIO_MAGIC, 1}, {MMIO_MAGIC, 2}, {MMIO_MAGIC + 1, 4}, {MMIO_MAGIC, 8},
		{MMIO_INT_STATUS, 1}, {MMIO_INT_STATUS, 8}, {MMIO_STATUS, 2}, {MMIO_CONFIG_GENERATION, 8},
		{MMIO_CONFIG - 2, 4}};
	uint8_t buf[16];
	tdrv_write(&f->d, MMIO_STATUS, STATUS_ACKNOWLEDGE);
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		memset(buf, 0xff, sizeof(buf));
		virtio_mmio_read(f->d.m, bad[i].off, buf, bad[i].len);
		for (unsigned k = 0; k < sizeof(buf); k++)
			assert_int_equal(buf[k], k < bad[i].len ? 0 : 0xff);
	}
	const uint64_t driver = STATUS_ACKNOWLEDGE | STATUS_DRIVER;
	virtio_mmio_write(f->d.m, MMIO_STATUS, &driver, 1);
	virtio_mmio_write(f->d.m, MMIO_STATUS, &driver, 2);
	virtio_mmio_write(f->d.m, MMIO_STATUS, &driver, 8);
	virtio_mmio_write(f->d.m, MMIO_STATUS + 1, &driver, 4);
	assert_int_equal(status(f), STATUS_ACKNOWLEDGE);
}

static void s4_2_2_2_configuration_by_the_width_of_its_fields(void **state)
{
	struct fixture *f = *state;
	uint8_t buf[16];
	static const uint32_t good[] = {1, 2, 4, 8};
	for (unsigned i = 0; i < ARRAY_LEN(good); i++) {
		for (uint32_t off = 0; off < CONFIG; off += good[i]) {
			virtio_mmio_read(f->d.m, MMIO_CONFIG + off, buf, good[i]);
			assert_memory_equal(buf, f->e.config + off, good[i]);
		}
	}
	static const struct {
		uint32_t off, len;
	} bad[] = {{MMIO_CONFIG, 3}, {MMIO_CONFIG, 16}, {MMIO_CONFIG + 1, 2}, {MMIO_CONFIG + 2, 4},
		{MMIO_CONFIG + 4, 8}, {VIRTIO_MMIO_LEN, 1}, {VIRTIO_MMIO_LEN, 4}, {UINT32_MAX, 1},
		{UINT32_MAX - 3, 4}, {0x1000, 4}, {MMIO_CONFIG, 0}};
	assert_true(tdrv_negotiate(&f->d, 0));
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		memset(buf, 0xff, sizeof(buf));
		virtio_mmio_read(f->d.m, bad[i].off, buf, bad[i].len);
		for (unsigned k = 0; k < bad[i].len; k++)
			assert_int_equal(buf[k], 0);
		virtio_mmio_write(f->d.m, bad[i].off, buf, bad[i].len);
	}
	virtio_mmio_read(f->d.m, MMIO_CONFIG + CONFIG, buf, 8); /* behind the device's fields */
	assert_int_equal(buf[0] | buf[7], 0);
	assert_int_equal(f->e.config_writes, 0);
}

/* ---- 2.1, 2.2, 3.1: initialization ---- */

static void s4_2_2_features_by_halves(void **state)
{
	struct fixture *f = *state;
	static const uint32_t expected[] = {(uint32_t)OFFERED, (uint32_t)(OFFERED >> 32), 0, 0};
	for (uint32_t sel = 0; sel < 4; sel++) {
		tdrv_write(&f->d, MMIO_DEVICE_FEATURES_SEL, sel);
		assert_int_equal(tdrv_read(&f->d, MMIO_DEVICE_FEATURES), expected[sel]);
	}
	tdrv_write(&f->d, MMIO_DEVICE_FEATURES_SEL, UINT32_MAX);
	assert_int_equal(tdrv_read(&f->d, MMIO_DEVICE_FEATURES), 0);
	tdrv_start(&f->d, FEATURE_LOW | FEATURE_HIGH);
	assert_int_equal(f->e.negotiated, FEATURE_LOW | FEATURE_HIGH | VIRTIO_F_VERSION_1);
}

/* Sets features as they are, also such as are not offered. True: FEATURES_OK stayed. */
static bool accept_features(struct fixture *f, uint64_t features)
{
	tdrv_write(&f->d, MMIO_STATUS, 0);
	tdrv_write(&f->d, MMIO_STATUS, STATUS_ACKNOWLEDGE | STATUS_DRIVER);
	for (uint32_t i = 0; i < 2; i++) {
		tdrv_write(&f->d, MMIO_DRIVER_FEATURES_SEL, i);
		tdrv_write(&f->d, MMIO_DRIVER_FEATURES, (uint32_t)(features >> (32 * i)));
	}
	tdrv_write(&f->d, MMIO_STATUS, STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK);
	return status(f) & STATUS_FEATURES_OK;
}

static void s2_2_2_a_subset_of_the_offered_features(void **state)
{
	struct fixture *f = *state;
	assert_true(accept_features(f, OFFERED));
	assert_true(accept_features(f, VIRTIO_F_VERSION_1));
	assert_false(accept_features(f, OFFERED | 1));
	assert_false(accept_features(f, OFFERED | 1ULL << 63));
	assert_true(accept_features(f, OFFERED)); /* the same set again after a reset */
}

static void s6_1_version_1_has_to_be_accepted(void **state)
{
	struct fixture *f = *state;
	assert_false(accept_features(f, OFFERED & ~VIRTIO_F_VERSION_1));
	assert_false(accept_features(f, 0));
}

static void s2_2_1_features_are_settled_by_features_ok(void **state)
{
	struct fixture *f = *state;
	assert_true(accept_features(f, VIRTIO_F_VERSION_1 | FEATURE_LOW));
	tdrv_write(&f->d, MMIO_DRIVER_FEATURES_SEL, 0);
	tdrv_write(&f->d, MMIO_DRIVER_FEATURES, 0xffffffff);
	tdrv_queue_up(&f->d, 0, 8);
	tdrv_driver_ok(&f->d);
	assert_int_equal(f->e.negotiated, VIRTIO_F_VERSION_1 | FEATURE_LOW);
	/* and before it, there is nothing beyond 64 */
	tdrv_write(&f->d, MMIO_STATUS, 0);
	tdrv_write(&f->d, MMIO_DRIVER_FEATURES_SEL, 2);
	tdrv_write(&f->d, MMIO_DRIVER_FEATURES, 0xffffffff);
	tdrv_write(&f->d, MMIO_DRIVER_FEATURES_SEL, 33);
	tdrv_write(&f->d, MMIO_DRIVER_FEATURES, 0xffffffff);
	tdrv_write(&f->d, MMIO_DRIVER_FEATURES_SEL, 1);
	tdrv_write(&f->d, MMIO_DRIVER_FEATURES, 1);
	tdrv_write(&f->d, MMIO_STATUS, STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK);
	assert_true(status(f) & STATUS_FEATURES_OK);
}

static void s3_1_1_driver_ok_only_after_features_ok(void **state)
{
	struct fixture *f = *state;
	tdrv_write(&f->d, MMIO_STATUS, 0);
	tdrv_write(&f->d, MMIO_STATUS, STATUS_ACKNOWLEDGE | STATUS_FEATURES_OK);
	assert_int_equal(status(f), STATUS_ACKNOWLEDGE); /* nor FEATURES_OK before DRIVER */
	assert_false(accept_features(f, OFFERED | 1));
	tdrv_queue_up(&f->d, 0, 8);
	tdrv_write(&f->d, MMIO_STATUS, STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_DRIVER_OK);
	assert_int_equal(status(f), STATUS_ACKNOWLEDGE | STATUS_DRIVER);
	tdrv_write(&f->d, MMIO_STATUS, 0xf); /* both at once, with features that are no good */
	assert_int_equal(status(f), STATUS_ACKNOWLEDGE | STATUS_DRIVER);
	assert_int_equal(f->e.started[0], 0);
}

static void s2_1_1_status_bits_are_only_added(void **state)
{
	struct fixture *f = *state;
	tdrv_start(&f->d, 0);
	uint32_t all = status(f);
	for (uint32_t v = 1; v < 0x40; v++) {
		tdrv_write(&f->d, MMIO_STATUS, v);
		assert_int_equal(status(f), all);
	}
	tdrv_write(&f->d, MMIO_STATUS,
		all | STATUS_NEEDS_RESET | 0x30 | 0xffffff00); /* not the driver's to set */
	assert_int_equal(status(f), all);
	assert_int_equal(f->e.stopping[0], 0);
	echo_works(f, 0);
}

static void s2_1_failed_stops_the_queues_until_reset(void **state)
{
	struct fixture *f = *state;
	tdrv_start(&f->d, 0);
	tdrv_write(&f->d, MMIO_STATUS, status(f) | STATUS_FAILED);
	assert_true(status(f) & STATUS_FAILED);
	assert_int_equal(f->e.stopping[0], 1);
	offer(f, 0, "x", NULL);
	tdrv_kick(&f->d, 0);
	tdrv_write(&f->d, MMIO_STATUS, 0xf);
	tdrv_settle(&f->d);
	assert_false(tdrv_used(&f->d, 0, NULL, NULL));
	tdrv_start(&f->d, 0);
	echo_works(f, 0);
}

static void s2_1_2_nothing_is_touched_before_driver_ok(void **state)
{
	struct fixture *f = *state;
	void *in;
	assert_true(tdrv_negotiate(&f->d, 0));
	tdrv_queue_up(&f->d, 0, 8);
	tdrv_queue_up(&f->d, 1, 8);
	offer(f, 0, "early", &in);
	tdrv_kick(&f->d, 0);
	tdrv_write(&f->d, MMIO_QUEUE_NOTIFY, 0);
	tdrv_settle(&f->d);
	assert_int_equal(used_idx(f, 0), 0);
	assert_int_equal(f->e.started[0] + f->e.notified[0], 0);
	assert_false(tdrv_interrupted(&f->d));
	tdrv_driver_ok(&f->d);
	assert_int_equal(tdrv_wait(&f->d, 0, NULL), 6); /* not lost: it is looked at when the queue starts */
	assert_string_equal(in, "early");
}

/* ---- 4.2.2.2, 4.2.3.2: queues ---- */

static void s4_2_3_2_ready_after_driver_ok(void **state)
{
	struct fixture *f = *state;
	assert_true(tdrv_negotiate(&f->d, 0));
	tdrv_queue_up(&f->d, 0, 8);
	tdrv_driver_ok(&f->d);
	assert_int_equal(f->e.started[0], 1);
	assert_int_equal(f->e.started[1], 0);
	tdrv_queue_up(&f->d, 1, 16);
	assert_int_equal(f->e.started[1], 1);
	assert_int_equal(f->e.started[0], 1); /* the other one goes on */
	echo_works(f, 1);
	echo_works(f, 0);
}

static void s4_2_2_2_queue_registers_are_fixed_while_ready(void **state)
{
	struct fixture *f = *state;
	static const uint32_t regs[] = {MMIO_QUEUE_NUM, MMIO_QUEUE_DESC, MMIO_QUEUE_DESC + 4,
		MMIO_QUEUE_DRIVER, MMIO_QUEUE_DRIVER + 4, MMIO_QUEUE_DEVICE, MMIO_QUEUE_DEVICE + 4};
	for (int live = 0; live < 2; live++) {
		assert_true(tdrv_negotiate(&f->d, 0));
		tdrv_queue_up(&f->d, 0, 8);
		if (live)
			tdrv_driver_ok(&f->d);
		tdrv_write(&f->d, MMIO_QUEUE_SEL, 0);
		for (unsigned i = 0; i < ARRAY_LEN(regs); i++)
			tdrv_write(&f->d, regs[i], 64);
		tdrv_write(&f->d, MMIO_QUEUE_READY, 1); /* ready already: no change */
		tdrv_write(&f->d, MMIO_QUEUE_READY, 2); /* neither */
		assert_int_equal(tdrv_read(&f->d, MMIO_QUEUE_READY), 1);
		if (!live)
			tdrv_driver_ok(&f->d);
		assert_int_equal(f->e.dev.vqs[0].conf.size, 8);
		assert_int_equal(f->e.dev.vqs[0].conf.desc, f->d.q[0].desc);
		assert_int_equal(f->e.dev.vqs[0].conf.used, f->d.q[0].used);
		echo_works(f, 0);
		assert_int_equal(f->e.started[0], live + 1);
	}
}

static void s4_2_2_2_queue_ready_0_stops_and_1_starts_afresh(void **state)
{
	struct fixture *f = *state;
	tdrv_start(&f->d, VIRTIO_F_EVENT_IDX);
	echo_works(f, 0);
	offer(f, 0, "last", NULL);
	tdrv_write(&f->d, MMIO_QUEUE_SEL, 0);
	tdrv_write(&f->d, MMIO_QUEUE_READY, 0);
	assert_int_equal(tdrv_read(&f->d, MMIO_QUEUE_READY), 0);
	assert_int_equal(f->e.stopping[0], 1);
	assert_int_equal(used_idx(f, 0), 2); /* what was there is still taken */
	memset(tdrv_at(&f->d, f->d.q[0].used), 0, 64);
	offer(f, 0, "late", NULL);
	tdrv_kick(&f->d, 0);
	tdrv_settle(&f->d);
	assert_int_equal(used_idx(f, 0), 0);
	echo_works(f, 1); /* the other one goes on */
	tdrv_queue_up(&f->d, 0, 16);
	assert_int_equal(f->e.dev.vqs[0].next_avail, 0);
	assert_int_equal(f->e.dev.vqs[0].conf.size, 16);
	echo_works(f, 0);
}

static void s4_2_2_2_a_queue_of_a_bad_size_needs_reset(void **state)
{
	struct fixture *f = *state;
	static const uint32_t bad[] = {0, 3, QUEUE_MAX + 1, 2 * QUEUE_MAX, 0x10008, 0x80000000, UINT32_MAX};
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		assert_true(tdrv_negotiate(&f->d, 0));
		tdrv_queue_up(&f->d, 0, 8);
		tdrv_write(&f->d, MMIO_QUEUE_READY, 0);
		tdrv_write(&f->d, MMIO_QUEUE_NUM, bad[i]);
		tdrv_write(&f->d, MMIO_QUEUE_READY, 1);
		tdrv_driver_ok(&f->d);
		assert_true(status(f) & STATUS_NEEDS_RESET);
		assert_int_equal(f->e.started[0], 0);
	}
}

static void s2_7_a_ring_where_none_can_be_needs_reset(void **state)
{
	struct fixture *f = *state;
	static const struct {
		uint32_t reg;
		uint64_t addr;
	} bad[] = {{MMIO_QUEUE_DESC, TDRV_GPA + 8}, {MMIO_QUEUE_DRIVER, TDRV_GPA + 1},
		{MMIO_QUEUE_DEVICE, TDRV_GPA + 2}, {MMIO_QUEUE_DESC, 0}, {MMIO_QUEUE_DRIVER, UINT64_MAX - 1},
		{MMIO_QUEUE_DEVICE, TDRV_GPA + TDRV_MEM_LEN - 16},
		{MMIO_QUEUE_DESC, TDRV_GPA + (1ULL << 32)}};
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		assert_true(tdrv_negotiate(&f->d, 0));
		tdrv_queue_up(&f->d, 1, 8);
		tdrv_queue_up(&f->d, 0, 8);
		tdrv_write(&f->d, MMIO_QUEUE_READY, 0);
		tdrv_write(&f->d, bad[i].reg, (uint32_t)bad[i].addr);
		tdrv_write(&f->d, bad[i].reg + 4, (uint32_t)(bad[i].addr >> 32));
		tdrv_write(&f->d, MMIO_QUEUE_READY, 1);
		assert_int_equal(status(f) & STATUS_NEEDS_RESET, 0);
		tdrv_driver_ok(&f->d);
		assert_true(status(f) & STATUS_NEEDS_RESET);
		assert_int_equal(tdrv_read(&f->d, MMIO_INT_STATUS), 3);
		assert_true(tdrv_interrupted(&f->d));
		assert_int_equal(f->e.started[0] + f->e.started[1], 0);
		/* 2.1.2: it does not get better by trying again */
		tdrv_write(&f->d, MMIO_QUEUE_SEL, 1);
		tdrv_write(&f->d, MMIO_QUEUE_READY, 0);
		tdrv_queue_up(&f->d, 1, 8);
	}
	assert_int_equal(f->e.started[1], 0);
}

static void s4_2_2_notification_by_the_register(void **state)
{
	struct fixture *f = *state;
	void *in;
	tdrv_start(&f->d, VIRTIO_F_INDIRECT_DESC);
	offer(f, 1, "by register", &in);
	tdrv_write(&f->d, MMIO_QUEUE_NOTIFY, 1);
	assert_int_equal(tdrv_wait(&f->d, 1, NULL), 12);
	assert_string_equal(in, "by register");
	assert_true(tdrv_interrupted(&f->d));
	assert_int_equal(f->e.notified[1], 1);
	struct virtio_mmio_stats s;
	virtio_mmio_stats(f->d.m, &s);
	assert_int_equal(s.kicks, 1);
	assert_int_equal(s.interrupts, 1);
	assert_true(s.accesses > 10);
}

static void s2_7_negotiated_features_reach_the_queues(void **state)
{
	struct fixture *f = *state;
	void *out, *in;
	uint64_t a = tdrv_alloc(&f->d, 16, &out), b = tdrv_alloc(&f->d, 16, &in);
	const struct tdrv_buf bufs[] = {{a, 4, false}, {b, 16, true}};
	tdrv_start(&f->d, VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX);
	assert_true(f->e.dev.vqs[0].conf.indirect && f->e.dev.vqs[0].conf.event_idx);
	memcpy(out, "abc", 4);
	tdrv_add_indirect(&f->d, 0, bufs, 2);
	tdrv_kick(&f->d, 0);
	assert_int_equal(tdrv_wait(&f->d, 0, NULL), 4);
	assert_string_equal(in, "abc");
	tdrv_start(&f->d, 0);
	assert_false(f->e.dev.vqs[0].conf.indirect || f->e.dev.vqs[0].conf.event_idx);
	tdrv_add_indirect(&f->d, 0, bufs, 2);
	tdrv_kick(&f->d, 0);
	tdrv_expect_broken(&f->d);
}

/* ---- 2.1.2, 2.3, 2.4, 2.5: what the device tells; reset ---- */

static void s2_1_2_a_broken_ring_needs_reset_and_is_told(void **state)
{
	struct fixture *f = *state;
	tdrv_start(&f->d, 0);
	tdrv_settle(&f->d);
	assert_false(tdrv_interrupted(&f->d));
	const struct tdrv_buf outside = {1, 4, false};
	tdrv_add(&f->d, 0, &outside, 1);
	tdrv_kick(&f->d, 0);
	tdrv_expect_broken(&f->d);
	assert_int_equal(tdrv_read(&f->d, MMIO_INT_STATUS), 3);
	assert_true(tdrv_interrupted(&f->d));
	config_matches_page(f);
	tdrv_kick(&f->d, 0);
	tdrv_settle(&f->d);
	tdrv_start(&f->d, 0); /* 2.1.2: and a reset heals it */
	assert_int_equal(tdrv_read(&f->d, MMIO_INT_STATUS), 1);
	assert_int_equal(status(f) & STATUS_NEEDS_RESET, 0);
	echo_works(f, 0);
}

static void s2_1_2_needs_reset_before_driver_ok_is_told_at_driver_ok(void **state)
{
	struct fixture *f = *state;
	f->e.dev.transport_ops->needs_reset(f->e.dev.transport, 0, "nobody is there");
	assert_int_equal(status(f), 0);
	assert_true(tdrv_negotiate(&f->d, 0));
	tdrv_queue_up(&f->d, 0, 8);
	f->e.dev.transport_ops->needs_reset(f->e.dev.transport, 0, NULL);
	assert_true(status(f) & STATUS_NEEDS_RESET);
	assert_false(tdrv_interrupted(&f->d));
	tdrv_driver_ok(&f->d);
	assert_true(tdrv_interrupted(&f->d));
	assert_int_equal(f->e.started[0], 0);
}

static void s2_4_reset_at_any_moment(void **state)
{
	struct fixture *f = *state;
	for (int at = 0; at < 5; at++) {
		unsigned resets = f->e.resets;
		if (at >= 1)
			assert_true(tdrv_negotiate(&f->d, 0));
		if (at >= 2)
			tdrv_queue_up(&f->d, 0, 8);
		if (at >= 3)
			tdrv_driver_ok(&f->d);
		if (at >= 4) {
			offer(f, 0, "on its way", NULL);
			tdrv_kick(&f->d, 0);
		}
		tdrv_write(&f->d, MMIO_STATUS, 0);
		assert_true(f->e.resets > resets);
		assert_int_equal(status(f), 0);
		assert_int_equal(tdrv_read(&f->d, MMIO_INT_STATUS), 1);
		tdrv_write(&f->d, MMIO_QUEUE_SEL, 0);
		assert_int_equal(tdrv_read(&f->d, MMIO_QUEUE_READY), 0);
		assert_int_equal(f->e.started[0], f->e.stopping[0]);
		assert_int_equal(f->e.dev.negotiated, 0);
		(void)tdrv_interrupted(&f->d);
		/* 2.4.1: no notification and no look at the queues until it is initialized again */
		if (at >= 2) {
			uint16_t used = used_idx(f, 0);
			offer(f, 0, "after", NULL);
			tdrv_kick(&f->d, 0);
			tdrv_settle(&f->d);
			assert_int_equal(used_idx(f, 0), used);
		}
		assert_false(tdrv_interrupted(&f->d));
	}
	tdrv_start(&f->d, 0);
	echo_works(f, 0);
}

static void s2_3_configuration_change_until_acknowledged(void **state)
{
	struct fixture *f = *state;
	const struct virtio_transport_ops *t = f->e.dev.transport_ops;
	uint8_t v;
	t->config_changed(f->e.dev.transport); /* no driver: nobody to tell */
	assert_int_equal(tdrv_read(&f->d, MMIO_INT_STATUS), 1);
	tdrv_start(&f->d, 0);
	uint32_t generation = tdrv_read(&f->d, MMIO_CONFIG_GENERATION);
	f->e.config[4] = 99;
	tdrv_config(&f->d, 4, &v, 1);
	assert_int_equal(v, 5); /* until the device says so */
	t->config_changed(f->e.dev.transport);
	tdrv_config(&f->d, 4, &v, 1);
	assert_int_equal(v, 99);
	assert_int_not_equal(tdrv_read(&f->d, MMIO_CONFIG_GENERATION), generation);
	assert_int_equal(tdrv_read(&f->d, MMIO_INT_STATUS), 3);
	assert_true(tdrv_interrupted(&f->d));
	config_matches_page(f);
	tdrv_write(&f->d, MMIO_INT_ACK, 1); /* bit 0 never goes */
	assert_int_equal(tdrv_read(&f->d, MMIO_INT_STATUS), 3);
	tdrv_write(&f->d, MMIO_INT_ACK, 0xfffffffe);
	assert_int_equal(tdrv_read(&f->d, MMIO_INT_STATUS), 1);
	config_matches_page(f);
}

static void s2_3_a_change_during_initialization_is_not_lost(void **state)
{
	struct fixture *f = *state;
	assert_true(tdrv_negotiate(&f->d, 0));
	f->e.dev.transport_ops->config_changed(f->e.dev.transport);
	assert_false(tdrv_interrupted(&f->d));
	tdrv_driver_ok(&f->d);
	assert_true(tdrv_interrupted(&f->d));
	assert_int_equal(tdrv_read(&f->d, MMIO_INT_STATUS), 3);
}

static void s2_5_2_the_page_stays_where_it_is(void **state)
{
	struct fixture *f = *state;
	const void *page = virtio_mmio_page(f->d.m);
	assert_int_equal((uintptr_t)page % VIRTIO_MMIO_PAGE_LEN, 0);
	tdrv_start(&f->d, 0);
	memset(f->e.config, 0xab, CONFIG);
	f->e.dev.transport_ops->config_changed(f->e.dev.transport);
	assert_ptr_equal(virtio_mmio_page(f->d.m), page);
	config_matches_page(f);
	const uint8_t *bytes = page;
	assert_int_equal(bytes[MMIO_CONFIG - VIRTIO_MMIO_PAGE_AT + CONFIG - 1], 0xab);
	assert_int_equal(bytes[VIRTIO_MMIO_LEN - VIRTIO_MMIO_PAGE_AT], 0);
	uint32_t generation = tdrv_read(&f->d, MMIO_CONFIG_GENERATION);
	f->e.dev.transport_ops->config_changed(f->e.dev.transport); /* nothing is different */
	assert_int_equal(tdrv_read(&f->d, MMIO_CONFIG_GENERATION), generation);
}

static void s3_1_1_configuration_is_written_after_features_ok(void **state)
{
	struct fixture *f = *state;
	const uint64_t v = 0x1122334455667788;
	uint32_t back;
	virtio_mmio_write(f->d.m, MMIO_CONFIG, &v, 4);
	assert_int_equal(f->e.config_writes, 0);
	assert_true(tdrv_negotiate(&f->d, 0));
	uint32_t generation = tdrv_read(&f->d, MMIO_CONFIG_GENERATION);
	static const uint32_t widths[] = {1, 2, 4, 8};
	for (unsigned i = 0; i < ARRAY_LEN(widths); i++) {
		virtio_mmio_write(f->d.m, MMIO_CONFIG + 8, &v, widths[i]);
		assert_int_equal(f->e.write_len, widths[i]);
	}
	assert_int_equal(f->e.config_writes, 4);
	tdrv_config(&f->d, 8, &back, 4);
	assert_int_equal(back, 0x55667788); /* what it did is seen at once */
	assert_int_not_equal(tdrv_read(&f->d, MMIO_CONFIG_GENERATION), generation);
	assert_int_equal(
		tdrv_read(&f->d, MMIO_INT_STATUS), 1); /* the driver need not be told of its own write */
	config_matches_page(f);
}

/* ---- threads ---- */

static void own_threads_get_the_kick_descriptors(void **state)
{
	struct fixture *f = *state;
	assert_int_equal(f->e.dev.kick_fds[0], virtio_mmio_kick_fd(f->d.m, 0));
	tdrv_start(&f->d, 0);
	for (int i = 0; i < 200; i++)
		echo_works(f, i % QUEUES);
	assert_int_equal(f->e.notified[0], 0);
	offer(f, 0, "last", NULL);
	tdrv_kick(&f->d, 0);
	tdrv_write(&f->d, MMIO_STATUS, 0);
	assert_int_equal(used_idx(f, 0), 101);
	const struct tdrv_buf outside = {1, 4, false}; /* a thread may ask for the reset as well */
	tdrv_start(&f->d, 0);
	tdrv_add(&f->d, 1, &outside, 1);
	tdrv_kick(&f->d, 1);
	tdrv_expect_broken(&f->d);
	tdrv_start(&f->d, 0);
	echo_works(f, 1);
}

struct driver_thread {
	struct fixture *f;
	struct loop *loop;
	unsigned rounds;
};

static void quit_loop(void *data)
{
	loop_quit(data, 0);
}

/* A processor: initializes, uses and resets the device, again and again. */
static void *processor(void *data)
{
	struct driver_thread *t = data;
	struct fixture *f = t->f;
	uint8_t buf[8];

	for (unsigned i = 0; i < t->rounds; i++) {
		tdrv_start(&f->d, VIRTIO_F_EVENT_IDX);
		for (int k = 0; k < 4; k++) {
			void *in;
			uint64_t end = time_mono_ns() + 5000000000ULL;
			offer(f, k % QUEUES, "threads", &in);
			tdrv_write(&f->d, MMIO_QUEUE_NOTIFY, (uint32_t)(k % QUEUES));
			while (!tdrv_used(&f->d, k % QUEUES, NULL, NULL) && time_mono_ns() < end)
				usleep(10);
			assert_true(time_mono_ns() < end);
			assert_string_equal(in, "threads");
			virtio_mmio_write(f->d.m, MMIO_CONFIG + 8, in, 4);
			virtio_mmio_read(f->d.m, MMIO_CONFIG, buf, 8);
			tdrv_write(&f->d, MMIO_INT_ACK, 3);
		}
	}
	loop_call(t->loop, quit_loop, t->loop);
	return NULL;
}

/* A second one, which reads and writes what does not disturb the first. */
static void *meddler(void *data)
{
	struct driver_thread *t = data;
	uint32_t v = 1;

	for (unsigned i = 0; i < 20 * t->rounds; i++) {
		v = v * 1664525 + 1013904223;
		(void)tdrv_read(&t->f->d, MMIO_CONFIG_GENERATION);
		(void)tdrv_read(&t->f->d, MMIO_QUEUE_NUM_MAX);
		tdrv_write(&t->f->d, MMIO_INT_ACK, v);
		tdrv_write(&t->f->d, MMIO_QUEUE_NOTIFY, v >> 30);
		tdrv_write(&t->f->d, MMIO_STATUS, STATUS_NEEDS_RESET); /* no bit of a driver's */
	}
	return NULL;
}

static void processors_and_the_loop(void **state)
{
	struct fixture *f = *state;
	struct driver_thread t = {.f = f, .loop = f->loop, .rounds = 60};
	pthread_t a, b;

	assert_int_equal(pthread_create(&a, NULL, processor, &t), 0);
	assert_int_equal(pthread_create(&b, NULL, meddler, &t), 0);
	assert_int_equal(loop_run(f->loop), 0);
	pthread_join(a, NULL);
	/* the meddler may still wait for the loop */
	for (int i = 0; i < 2000 && pthread_tryjoin_np(b, NULL) != 0; i++)
		loop_turn(f->loop, 1);
	tdrv_settle(&f->d);
}

/* The guest's view of the page: it reads without a lock and in the middle of changes. */
struct page_reader {
	const uint32_t *page;
	bool quit;
	unsigned looks, torn;
};

static void *read_page(void *data)
{
	struct page_reader *r = data;
	const uint32_t *generation = r->page + (MMIO_CONFIG_GENERATION - VIRTIO_MMIO_PAGE_AT) / 4;
	const uint32_t *config = r->page + (MMIO_CONFIG - VIRTIO_MMIO_PAGE_AT) / 4;

	while (!__atomic_load_n(&r->quit, __ATOMIC_RELAXED)) {
		uint32_t v[CONFIG / 4];
		uint32_t before = __atomic_load_n(generation, __ATOMIC_ACQUIRE);
		for (unsigned i = 0; i < CONFIG / 4; i++)
			v[i] = __atomic_load_n(&config[i], __ATOMIC_ACQUIRE);
		if (__atomic_load_n(generation, __ATOMIC_ACQUIRE) != before)
			continue; /* 2.5.1: the driver reads again */
		r->looks++;
		for (unsigned i = 1; i < CONFIG / 4; i++)
			r->torn += v[i] != v[0];
	}
	return NULL;
}

static void s2_5_1_no_half_change_with_one_generation(void **state)
{
	struct fixture *f = *state;
	struct page_reader r = {.page = virtio_mmio_page(f->d.m)};
	pthread_t t;

	tdrv_start(&f->d, 0);
	memset(f->e.config, 0, CONFIG);
	f->e.dev.transport_ops->config_changed(f->e.dev.transport);
	assert_int_equal(pthread_create(&t, NULL, read_page, &r), 0);
	const uint64_t end = time_mono_ns() + 300000000ULL;
	for (int i = 0; time_mono_ns() < end; i++) {
		memset(f->e.config, i, CONFIG);
		f->e.dev.transport_ops->config_changed(f->e.dev.transport);
	}
	__atomic_store_n(&r.quit, true, __ATOMIC_RELAXED);
	pthread_join(t, NULL);
	assert_true(r.looks > 0);
	assert_int_equal(r.torn, 0);
}

#define RULE(t)	  cmocka_unit_test_setup_teardown(t, setup, teardown)
#define THREAD(t) cmocka_unit_test_setup_teardown(t, setup_threads, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		RULE(s4_2_2_registers_after_power_on),
		RULE(s4_2_2_no_shared_memory),
		RULE(s4_2_2_an_absent_queue_has_size_0_and_keeps_nothing),
		RULE(s4_2_2_read_only_and_write_only),
		RULE(s4_2_2_2_registers_are_32_bits_wide_and_aligned),
		RULE(s4_2_2_2_configuration_by_the_width_of_its_fields),
		RULE(s4_2_2_features_by_halves),
		RULE(s2_2_2_a_subset_of_the_offered_features),
		RULE(s6_1_version_1_has_to_be_accepted),
		RULE(s2_2_1_features_are_settled_by_features_ok),
		RULE(s3_1_1_driver_ok_only_after_features_ok),
		RULE(s2_1_1_status_bits_are_only_added),
		RULE(s2_1_failed_stops_the_queues_until_reset),
		RULE(s2_1_2_nothing_is_touched_before_driver_ok),
		RULE(s4_2_3_2_ready_after_driver_ok),
		RULE(s4_2_2_2_queue_registers_are_fixed_while_ready),
		RULE(s4_2_2_2_queue_ready_0_stops_and_1_starts_afresh),
		RULE(s4_2_2_2_a_queue_of_a_bad_size_needs_reset),
		RULE(s2_7_a_ring_where_none_can_be_needs_reset),
		RULE(s4_2_2_notification_by_the_register),
		RULE(s2_7_negotiated_features_reach_the_queues),
		RULE(s2_1_2_a_broken_ring_needs_reset_and_is_told),
		RULE(s2_1_2_needs_reset_before_driver_ok_is_told_at_driver_ok),
		RULE(s2_4_reset_at_any_moment),
		RULE(s2_3_configuration_change_until_acknowledged),
		RULE(s2_3_a_change_during_initialization_is_not_lost),
		RULE(s2_5_2_the_page_stays_where_it_is),
		RULE(s3_1_1_configuration_is_written_after_features_ok),
		THREAD(own_threads_get_the_kick_descriptors),
		RULE(processors_and_the_loop),
		RULE(s2_5_1_no_half_change_with_one_generation),
	};
	return cmocka_run_group_tests_name("mmio", tests, NULL, NULL);
}
