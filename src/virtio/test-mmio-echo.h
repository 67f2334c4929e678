/* SPDX-License-Identifier: MIT */
/*
 * For tests of transports: a device that echoes what it reads into what it may write, on the loop's thread or in threads
 * of its own. Every operation is counted.
 */
#ifndef TEST_MMIO_ECHO_H
#define TEST_MMIO_ECHO_H

#include <pthread.h>
#include <string.h>

#include "base/cleanup.h"
#include "virtio/device.h"

enum { QUEUES = 2, CONFIG = 32, QUEUE_MAX = 256 };
#define FEATURE_LOW  (1ULL << 3)
#define FEATURE_HIGH (1ULL << 40)
#define OFFERED \
	(VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX | FEATURE_LOW | FEATURE_HIGH)

struct echo {
	struct virtio_device dev; /* first */
	uint8_t config[CONFIG];
	unsigned started[QUEUES], stopping[QUEUES], notified[QUEUES], resets, config_writes;
	uint32_t write_len;
	uint64_t negotiated; /* when a queue started */
	uint64_t secret;     /* saved and restored */
	bool keep;	     /* takes a chain and does not return it */
	bool mute;	     /* does not ask for a reset */
	struct vq_chain chain[QUEUES];
	pthread_t thread[QUEUES];
	bool quit[QUEUES];
	unsigned served;
};

static struct echo *of_device(struct virtio_device *d)
{
	return (struct echo *)d;
}

static void serve(struct echo *e, unsigned queue)
{
	struct vq *q = &e->dev.vqs[queue];
	struct vq_chain *c = &e->chain[queue];
	uint8_t buf[256];
	bool pushed = false;
	int r;

	while ((r = vq_pop(q, c)) > 0 && !e->keep) {
		size_t n = iov_read(c->iov, c->n_out, 0, buf, sizeof(buf));
		n = iov_write(c->iov + c->n_out, c->n_in, 0, buf, n);
		vq_push(q, c->head, (uint32_t)n);
		pushed = true;
		__atomic_fetch_add(&e->served, 1, __ATOMIC_RELAXED);
	}
	if (r < 0 && !e->mute)
		e->dev.transport_ops->needs_reset(e->dev.transport, queue, q->why);
	if (pushed && vq_should_notify(q))
		e->dev.transport_ops->notify_driver(e->dev.transport, queue);
}

static void op_read_config(struct virtio_device *d, uint32_t off, void *buf, uint32_t len)
{
	memset(buf, 0, len);
	if (off < CONFIG)
		memcpy(buf, of_device(d)->config + off, MIN_OF(len, CONFIG - off));
}

static void op_write_config(struct virtio_device *d, uint32_t off, const void *buf, uint32_t len)
{
	of_device(d)->config_writes++;
	of_device(d)->write_len = len;
	if (off + len <= CONFIG)
		memcpy(of_device(d)->config + off, buf, len);
}

static void *thread_main(void *data)
{
	void **slot = data; /* see op_queue_started */
	struct echo *e = slot[0];
	unsigned queue = (unsigned)(uintptr_t)slot[1];
	uint64_t n;

	free(slot);
	do {
		serve(e, queue);
	} while (!__atomic_load_n(&e->quit[queue], __ATOMIC_ACQUIRE) &&
		 read(e->dev.kick_fds[queue], &n, sizeof(n)) == sizeof(n));
	return NULL;
}

static void op_queue_started(struct virtio_device *d, unsigned queue)
{
	struct echo *e = of_device(d);

	e->started[queue]++;
	e->negotiated = d->negotiated;
	if (!d->own_threads) {
		serve(e, queue);
		return;
	}
	void **slot = malloc(2 * sizeof(*slot));
	if (!slot)
		abort();
	slot[0] = e;
	slot[1] = (void *)(uintptr_t)queue;
	__atomic_store_n(&e->quit[queue], false, __ATOMIC_RELEASE);
	if (pthread_create(&e->thread[queue], NULL, thread_main, slot) != 0)
		abort();
}

static void op_queue_stopping(struct virtio_device *d, unsigned queue)
{
	struct echo *e = of_device(d);
	const uint64_t one = 1;

	e->stopping[queue]++;
	if (d->own_threads) {
		__atomic_store_n(&e->quit[queue], true, __ATOMIC_RELEASE);
		if (write(d->kick_fds[queue], &one, sizeof(one)) != sizeof(one))
			abort();
		pthread_join(e->thread[queue], NULL);
	}
	serve(e, queue);
}

static void op_queue_notify(struct virtio_device *d, unsigned queue)
{
	of_device(d)->notified[queue]++;
	serve(of_device(d), queue);
}

static void op_reset(struct virtio_device *d)
{
	of_device(d)->resets++;
}

static size_t op_save(struct virtio_device *d, void *buf)
{
	memcpy(buf, &of_device(d)->secret, 8);
	return 8;
}

static int op_restore(struct virtio_device *d, const void *buf, size_t len)
{
	if (len != 8)
		return -EINVAL;
	memcpy(&of_device(d)->secret, buf, 8);
	return 0;
}

static const struct virtio_device_ops ops = {
	.read_config = op_read_config,
	.write_config = op_write_config,
	.queue_started = op_queue_started,
	.queue_stopping = op_queue_stopping,
	.queue_notify = op_queue_notify,
	.reset = op_reset,
	.save = op_save,
	.restore = op_restore,
};

static inline void echo_init(struct echo *e)
{
	memset(e, 0, sizeof(*e));
	e->dev.ops = &ops;
	e->dev.id = VIRTIO_ID_ENTROPY;
	e->dev.features = OFFERED;
	e->dev.n_queues = QUEUES;
	e->dev.queue_size = QUEUE_MAX;
	for (unsigned i = 0; i < CONFIG; i++)
		e->config[i] = (uint8_t)(i + 1);
}

#endif
