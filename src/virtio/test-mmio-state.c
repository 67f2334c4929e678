/* SPDX-License-Identifier: MIT */
/* Suspension, saved states and the life of a transport over MMIO. */
#include "test-mmio-fixture.h"

/* ---- memory snapshots ---- */

static void suspended_queues_go_on_where_they_stood(void **state)
{
	struct fixture *f = *state;
	struct virtio_mmio_state s;
	void *in;
	tdrv_start(&f->d, VIRTIO_F_EVENT_IDX);
	for (int i = 0; i < 70; i++) /* past the ring's end */
		echo_works(f, 0);
	(void)tdrv_interrupted(&f->d);
	offer(f, 0, "not notified", &in);
	assert_int_equal(virtio_mmio_suspend(f->d.m, &s), 0);
	assert_int_equal(used_idx(f, 0), 71); /* what was there is done */
	assert_true(tdrv_used(&f->d, 0, NULL, NULL));
	assert_int_equal(s.queues[0].next_avail, 71);
	assert_int_equal(s.queues[1].next_avail, 0);
	offer(f, 0, "meanwhile", &in);
	tdrv_kick(&f->d, 0);
	tdrv_settle(&f->d); /* this kick goes by unheard */
	assert_int_equal(used_idx(f, 0), 71);
	(void)tdrv_interrupted(&f->d);
	struct virtio_mmio_stats before, after;
	virtio_mmio_stats(f->d.m, &before);
	assert_int_equal(virtio_mmio_resume(f->d.m), 0);
	assert_true(tdrv_interrupted(&f->d));
	assert_int_equal(tdrv_wait(&f->d, 0, NULL), 10);
	assert_string_equal(in, "meanwhile");
	tdrv_settle(&f->d);
	virtio_mmio_stats(f->d.m, &after);
	assert_int_equal(after.kicks - before.kicks, QUEUES); /* each is looked at */
	assert_true(after.interrupts - before.interrupts >= 1);
	assert_int_equal(f->e.resets, 1); /* nobody reset the device: that was tdrv_start */
	echo_works(f, 0);
	echo_works(f, 1);
	tdrv_write(&f->d, MMIO_QUEUE_SEL, 0); /* a queue that begins anew begins at 0 */
	tdrv_write(&f->d, MMIO_QUEUE_READY, 0);
	tdrv_queue_up(&f->d, 0, 8);
	assert_int_equal(f->e.dev.vqs[0].next_avail, 0);
	echo_works(f, 0);
}

static void a_device_without_driver_is_suspended_and_resumed_silently(void **state)
{
	struct fixture *f = *state;
	struct virtio_mmio_state s;
	assert_int_equal(virtio_mmio_suspend(f->d.m, &s), 0);
	assert_int_equal(virtio_mmio_resume(f->d.m), 0);
	assert_false(tdrv_interrupted(&f->d));
	assert_int_equal(f->e.started[0] + f->e.stopping[0], 0);
}

static void a_chain_that_the_device_keeps_fails_the_suspension(void **state)
{
	struct fixture *f = *state;
	struct virtio_mmio_state s;
	tdrv_start(&f->d, 0);
	f->e.keep = true;
	offer(f, 0, "kept", NULL);
	assert_int_equal(virtio_mmio_suspend(f->d.m, &s), -EBUSY);
	assert_int_equal(f->e.stopping[1], 1);
}

static void a_queue_broken_at_suspension_does_not_come_back(void **state)
{
	struct fixture *f = *state;
	struct virtio_mmio_state s;
	tdrv_start(&f->d, 0);
	f->e.mute = true;
	vq_break(&f->e.dev.vqs[0], "without a word");
	assert_int_equal(virtio_mmio_suspend(f->d.m, &s), 0);
	assert_true(s.status & STATUS_NEEDS_RESET);
	assert_int_equal(virtio_mmio_resume(f->d.m), 0);
	assert_int_equal(f->e.started[0], 1);
	tdrv_start(&f->d, 0);
	echo_works(f, 0);
}

/* The same guest memory and driver in front of a fresh device, as in another process. */
static void fresh_transport(struct fixture *f)
{
	virtio_mmio_free(f->d.m);
	echo_init(&f->e);
	assert_int_equal(virtio_mmio_new(f->loop, &f->e.dev, &f->d.mem, &f->d.m), 0);
}

static void a_restored_device_goes_on_where_the_saved_one_stood(void **state)
{
	struct fixture *f = *state;
	struct virtio_mmio_state s, again;
	void *in;
	tdrv_start(&f->d, VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC | FEATURE_HIGH);
	f->e.secret = 4711;
	f->e.dev.transport_ops->config_changed(f->e.dev.transport);
	for (int i = 0; i < 3; i++)
		echo_works(f, 1);
	assert_int_equal(virtio_mmio_suspend(f->d.m, &s), 0);
	offer(f, 1, "before", &in);
	fresh_transport(f);
	assert_int_equal(virtio_mmio_restore(f->d.m, &s), 0);
	assert_int_equal(f->e.secret, 4711);
	assert_int_equal(f->e.negotiated, f->d.features);
	assert_true(f->e.dev.vqs[0].conf.event_idx && f->e.dev.vqs[0].conf.indirect);
	assert_int_equal(status(f), 0xf);
	assert_int_equal(tdrv_read(&f->d, MMIO_INT_STATUS), 3); /* not acknowledged yet */
	assert_int_not_equal(tdrv_read(&f->d, MMIO_CONFIG_GENERATION), s.config_generation);
	config_matches_page(f);
	assert_true(tdrv_interrupted(&f->d));
	assert_int_equal(tdrv_wait(&f->d, 1, NULL), 7);
	assert_string_equal(in, "before");
	echo_works(f, 0);
	/* and once more: what was saved is what is saved */
	fresh_transport(f);
	assert_int_equal(virtio_mmio_restore(f->d.m, &s), 0);
	assert_int_equal(virtio_mmio_restore(f->d.m, &s), -EINVAL); /* not fresh any more */
	assert_int_equal(virtio_mmio_suspend(f->d.m, &again), 0);
	again.config_generation = s.config_generation;
	again.queues[0].next_avail = s.queues[0].next_avail;
	again.queues[1].next_avail = s.queues[1].next_avail;
	assert_memory_equal(&s, &again, sizeof(s));
}

#define FIELD(f) offsetof(struct virtio_mmio_state, f), sizeof(((struct virtio_mmio_state *)0)->f)

static void a_saved_state_is_not_trusted(void **state)
{
	static const struct {
		size_t at, len;
		uint64_t value;
		int expected;
	} bad[] = {
		{FIELD(version), VIRTIO_MMIO_STATE_VERSION + 1, -EINVAL},
		{FIELD(device_id), VIRTIO_ID_BLOCK, -EINVAL}, {FIELD(n_queues), QUEUES + 1, -EINVAL},
		{FIELD(n_queues), UINT32_MAX, -EINVAL}, {FIELD(status), 0x1f, -EINVAL},
		{FIELD(status), 0x7, -EINVAL}, /* DRIVER_OK without FEATURES_OK */
		{FIELD(status), 0xd, -EINVAL}, /* FEATURES_OK without DRIVER */
		{FIELD(driver_features), VIRTIO_F_VERSION_1 | 1, -EINVAL},
		{FIELD(driver_features), 0, -EINVAL}, {FIELD(interrupt_status), 5, -EINVAL},
		{FIELD(queues[1].size), 2 * QUEUE_MAX, -EINVAL}, {FIELD(queues[1].size), 0, -EINVAL},
		{FIELD(queues[0].size), 3, -EINVAL}, {FIELD(queues[0].ready), 2, -EINVAL},
		{FIELD(queues[1].pad), 1, -EINVAL}, {FIELD(queues[0].avail), TDRV_GPA + 1, -EINVAL},
		{FIELD(queues[1].desc), 0, -EFAULT}, {FIELD(queues[1].used), UINT64_MAX - 3, -EFAULT},
		{FIELD(device_len), VIRTIO_STATE_MAX + 1, -EINVAL},
		{FIELD(device_len), 7, -EINVAL}, /* the device's own opinion */
	};
	struct fixture *f = *state;
	struct virtio_mmio_state good;
	tdrv_start(&f->d, 0);
	assert_int_equal(virtio_mmio_suspend(f->d.m, &good), 0);
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		struct virtio_mmio_state s = good;
		memcpy((uint8_t *)&s + bad[i].at, &bad[i].value, bad[i].len);
		fresh_transport(f);
		assert_int_equal(virtio_mmio_restore(f->d.m, &s), bad[i].expected);
		assert_int_equal(status(f), 0);
		assert_int_equal(f->e.started[0] + f->e.started[1], 0);
		assert_false(vq_usable(&f->e.dev.vqs[0]));
		config_matches_page(f);
		tdrv_start(&f->d, 0); /* as after a reset */
		echo_works(f, 0);
	}
}

/* 2.7.6: a place in the ring that was never reached is found out as any other jump */
static void a_saved_index_off_the_ring_breaks_the_queue(void **state)
{
	struct fixture *f = *state;
	struct virtio_mmio_state s;
	tdrv_start(&f->d, 0);
	echo_works(f, 0);
	assert_int_equal(virtio_mmio_suspend(f->d.m, &s), 0);
	s.queues[0].next_avail = 0x7000;
	fresh_transport(f);
	assert_int_equal(virtio_mmio_restore(f->d.m, &s), 0);
	tdrv_expect_broken(&f->d);
	assert_int_equal(used_idx(f, 0), 1);
	/* a used index that the guest put there is only its own loss */
	tdrv_start(&f->d, 0);
	assert_int_equal(virtio_mmio_suspend(f->d.m, &s), 0);
	memcpy(tdrv_at(&f->d, f->d.q[0].used + 2), "\xfe\xff", 2);
	assert_int_equal(virtio_mmio_resume(f->d.m), 0);
	for (int i = 0; i < 4; i++)
		offer(f, 0, "x", NULL);
	tdrv_kick(&f->d, 0);
	tdrv_settle(&f->d);
	assert_int_equal(used_idx(f, 0), 2);
	assert_int_equal(f->e.dev.vqs[0].in_flight, 0);
}

/* ---- life ---- */

static void one_transport_at_a_time(void **state)
{
	struct fixture *f = *state;
	struct virtio_mmio *other;
	assert_int_equal(virtio_mmio_new(f->loop, &f->e.dev, &f->d.mem, &other), -EBUSY);
	struct echo e;
	echo_init(&e);
	e.dev.queue_size = 2 * VQ_SIZE_MAX;
	assert_int_equal(virtio_mmio_new(f->loop, &e.dev, &f->d.mem, &other), -EINVAL);
	virtio_mmio_free(NULL);
}

static void a_device_may_go_first(void **state)
{
	struct fixture *f = *state;
	struct virtio_mmio_state s;
	tdrv_start(&f->d, 0);
	f->e.dev.transport_ops->device_gone(f->e.dev.transport);
	assert_int_equal(f->e.stopping[0], 1);
	f->e.dev.transport_ops = NULL;
	f->e.dev.ops = NULL; /* whoever asks it for something falls */
	tdrv_kick(&f->d, 0);
	tdrv_settle(&f->d);
	virtio_mmio_write(f->d.m, MMIO_CONFIG, &s, 4);
	tdrv_write(&f->d, MMIO_QUEUE_SEL, 1);
	tdrv_write(&f->d, MMIO_QUEUE_READY, 0);
	tdrv_start(&f->d, 0);
	assert_int_equal(virtio_mmio_suspend(f->d.m, &s), -ENODEV);
	assert_int_equal(virtio_mmio_restore(f->d.m, &s), -ENODEV);
}

#define RULE(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		RULE(suspended_queues_go_on_where_they_stood),
		RULE(a_device_without_driver_is_suspended_and_resumed_silently),
		RULE(a_chain_that_the_device_keeps_fails_the_suspension),
		RULE(a_queue_broken_at_suspension_does_not_come_back),
		RULE(a_restored_device_goes_on_where_the_saved_one_stood),
		RULE(a_saved_state_is_not_trusted),
		RULE(a_saved_index_off_the_ring_breaks_the_queue),
		RULE(one_transport_at_a_time),
		RULE(a_device_may_go_first),
	};
	return cmocka_run_group_tests_name("mmio-state", tests, NULL, NULL);
}
