/* SPDX-License-Identifier: MIT */
/*
 * For fuzz targets: a guest that does to its memory, its rings and the device's configuration what the input says. The
 * transport is this file, so that a step is a few microseconds.
 *
 * Input is taken in steps of 8 bytes: u8 what, u8 queue, u8 index, u8 flags, u16 a, u16 b. What a target adds to
 * fuzz_guest_step is its own; its numbers begin at FUZZ_STEPS.
 */
#ifndef FUZZ_GUEST_H
#define FUZZ_GUEST_H

#include <string.h>

#include "base/cleanup.h"
#include "base/loop.h"
#include "virtio/device.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { FUZZ_STEP = 8, FUZZ_STEPS = 10 };
/* Two regions, neighbours in the guest and not here. Rings are in the first, a page for each queue. */
enum { FUZZ_GPA = 0x100000, FUZZ_REGION = 0x10000, FUZZ_QSIZE = 16 };
enum { FUZZ_RING = 0x1000, FUZZ_AVAIL = 0x400, FUZZ_USED = 0x800, FUZZ_DATA = 0x8000 };

struct fuzz_guest {
	struct loop *loop;
	struct virtio_device *dev;
	struct guest_mem gm;
	uint16_t avail[VIRTIO_QUEUES_MAX];
};

static inline uint16_t fuzz_u16(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

static inline void fuzz_notify(void *t, unsigned queue)
{
	if (queue >= ((struct fuzz_guest *)t)->dev->n_queues)
		__builtin_trap();
}

static inline void fuzz_config_changed(void *t)
{
}

static inline void fuzz_needs_reset(void *t, unsigned queue, const char *why)
{
	if (!why || !((struct fuzz_guest *)t)->dev->vqs[queue].broken)
		__builtin_trap();
}

static inline uint8_t *fuzz_ring(struct fuzz_guest *g, unsigned q)
{
	return g->gm.regions[0].host + (size_t)FUZZ_RING * q;
}

static inline void fuzz_start(struct fuzz_guest *g, unsigned q, uint16_t next_avail)
{
	const uint64_t ring = FUZZ_GPA + (uint64_t)FUZZ_RING * q;
	const struct vq_config conf = {.size = FUZZ_QSIZE,
		.event_idx = g->dev->negotiated & VIRTIO_F_EVENT_IDX,
		.indirect = g->dev->negotiated & VIRTIO_F_INDIRECT_DESC,
		.next_avail = next_avail,
		.desc = ring,
		.avail = ring + FUZZ_AVAIL,
		.used = ring + FUZZ_USED};

	if (vq_init(&g->dev->vqs[q], &g->gm, &conf) < 0)
		__builtin_trap();
	g->dev->ops->queue_started(g->dev, q);
}

static inline uint16_t fuzz_stop(struct fuzz_guest *g, unsigned q)
{
	g->dev->ops->queue_stopping(g->dev, q);
	/* Nothing is kept across a stop; a broken queue is only good for a reset. */
	if (!g->dev->vqs[q].broken && g->dev->vqs[q].in_flight)
		__builtin_trap();
	return vq_stop(&g->dev->vqs[q]);
}

/* 3.1: a new driver, with those of the features that are offered */
static inline void fuzz_reset(struct fuzz_guest *g, uint64_t features, bool start)
{
	for (unsigned q = 0; q < g->dev->n_queues; q++)
		fuzz_stop(g, q);
	g->dev->ops->reset(g->dev);
	g->dev->negotiated = start ? g->dev->features & (features | VIRTIO_F_VERSION_1) : 0;
	for (unsigned q = 0; start && q < g->dev->n_queues; q++) {
		memset(fuzz_ring(g, q), 0, FUZZ_RING);
		g->avail[q] = 0;
		fuzz_start(g, q, 0);
	}
}

/* Saved, changed in one byte (xor, 0: not), and restored if the device takes it. */
static inline void fuzz_snapshot(struct fuzz_guest *g, uint8_t at, uint8_t xor)
{
	uint16_t next[VIRTIO_QUEUES_MAX];
	uint8_t state[VIRTIO_STATE_MAX];
	bool broken = false;

	for (unsigned q = 0; q < g->dev->n_queues; q++)
		broken |= g->dev->vqs[q].broken;
	if (broken)
		return;
	for (unsigned q = 0; q < g->dev->n_queues; q++)
		next[q] = fuzz_stop(g, q);
	if (g->dev->ops->save) {
		size_t len = g->dev->ops->save(g->dev, state);
		state[at % len] ^= xor;
		if (g->dev->ops->restore(g->dev, state, len) < 0 && xor == 0)
			__builtin_trap();
	}
	for (unsigned q = 0; q < g->dev->n_queues; q++)
		fuzz_start(g, q, next[q]);
}

static inline void fuzz_config(struct fuzz_guest *g, bool write, uint32_t off, uint32_t len, uint32_t v)
{
	uint8_t buf[8] = {0};

	memcpy(buf, &v, sizeof(v));
	if (!write)
		g->dev->ops->read_config(g->dev, off, buf, len);
	else if (g->dev->ops->write_config)
		g->dev->ops->write_config(g->dev, off, buf, len);
}

static inline void fuzz_put_desc(struct fuzz_guest *g, unsigned q, const uint8_t *s)
{
	static const uint32_t lens[] = {
		0, 1, FUZZ_REGION, 2 * FUZZ_REGION, 1U << 31, UINT32_MAX, 4096, 65535};
	struct {
		uint64_t addr;
		uint32_t len;
		uint16_t flags, next;
	} d = {
		/* in units of 4, so that all of both regions is in reach; and what is not */
		.addr = s[3] & 0x40 ? (uint64_t)fuzz_u16(s + 4) << 48 : FUZZ_GPA + 4ULL * fuzz_u16(s + 4),
		.len = s[3] & 0x20 ? lens[s[6] % ARRAY_LEN(lens)] : fuzz_u16(s + 6),
		.flags = s[3] & 7,
		.next = (uint16_t)(s[2] + 1),
	};

	memcpy(fuzz_ring(g, q) + sizeof(d) * (s[2] % FUZZ_QSIZE), &d, sizeof(d));
}

static inline void fuzz_offer(struct fuzz_guest *g, unsigned q, uint16_t head)
{
	uint8_t *avail = fuzz_ring(g, q) + FUZZ_AVAIL;

	memcpy(avail + 4 + 2 * (g->avail[q] % FUZZ_QSIZE), &head, 2);
	g->avail[q]++;
	memcpy(avail + 2, &g->avail[q], 2);
	g->dev->ops->queue_notify(g->dev, q);
}

static inline void fuzz_poke(struct fuzz_guest *g, uint16_t at, uint16_t v)
{
	size_t off = 4 * (size_t)at; /* of both regions; the last two bytes of one are left out */

	memcpy(g->gm.regions[off / FUZZ_REGION % 2].host + off % FUZZ_REGION, &v, sizeof(v));
}

/* One step, without the turn of the loop that belongs to it. */
static inline void fuzz_guest_step(struct fuzz_guest *g, const uint8_t *s)
{
	unsigned q = s[1] % g->dev->n_queues;
	uint16_t a = fuzz_u16(s + 4), b = fuzz_u16(s + 6);

	switch (s[0] % FUZZ_STEPS) {
	case 0:
		fuzz_put_desc(g, q, s);
		break;
	case 1: /* a descriptor, and the chain that begins with it is offered */
		fuzz_put_desc(g, q, s);
		fuzz_offer(g, q, s[2] % FUZZ_QSIZE);
		break;
	case 2:
		fuzz_offer(g, q, s[2]);
		break;
	case 3:
		fuzz_poke(g, a, b);
		break;
	case 4: /* a run of words, such as an array of page numbers */
		for (unsigned i = 0; i < s[3]; i++) {
			fuzz_poke(g, (uint16_t)(a + i), (uint16_t)(b + (s[2] & 1 ? i : 0)));
		}
		break;
	case 5:
		fuzz_config(g, s[3] & 1, s[2], s[1] % 9, (uint32_t)a << 16 | b);
		break;
	case 6: /* all the rings at once */
		for (unsigned i = 0; i < g->dev->n_queues; i++)
			g->dev->ops->queue_notify(g->dev, i);
		break;
	case 7:
		fuzz_snapshot(g, s[2], s[3]);
		break;
	case 8: /* the index goes wild */
		g->avail[q] = a;
		memcpy(fuzz_ring(g, q) + FUZZ_AVAIL + 2, &a, 2);
		g->dev->ops->queue_notify(g->dev, q);
		break;
	default:
		fuzz_reset(g, (uint64_t)a | (uint64_t)b << 16, true);
	}
}

static inline void fuzz_device_gone(void *t)
{
	struct fuzz_guest *g = t;

	for (unsigned q = 0; q < g->dev->n_queues; q++)
		fuzz_stop(g, q);
}

/* Attaches to the device, whose queues then run with all features. */
static inline void fuzz_guest_init(struct fuzz_guest *g, struct loop *loop, struct virtio_device *dev)
{
	static const struct virtio_transport_ops transport = {
		.notify_driver = fuzz_notify,
		.config_changed = fuzz_config_changed,
		.needs_reset = fuzz_needs_reset,
		.device_gone = fuzz_device_gone,
	};

	*g = (struct fuzz_guest){.loop = loop, .dev = dev, .gm = {.n_regions = 2}};
	for (unsigned i = 0; i < 2; i++) { /* allocations of their own: an overrun is seen */
		g->gm.regions[i] = (struct guest_mem_region){.gpa = FUZZ_GPA + (uint64_t)FUZZ_REGION * i,
			.len = FUZZ_REGION,
			.host = aligned_alloc(4096, FUZZ_REGION)};
		if (!g->gm.regions[i].host)
			abort();
		memset(g->gm.regions[i].host, 0, FUZZ_REGION);
	}
	dev->transport_ops = &transport;
	dev->transport = g;
	fuzz_reset(g, UINT64_MAX, true);
}

/* After the device is freed. */
static inline void fuzz_guest_done(struct fuzz_guest *g)
{
	for (unsigned i = 0; i < 2; i++)
		free(g->gm.regions[i].host);
}

#endif
