/* SPDX-License-Identifier: MIT */
#ifndef RNG_INTERNAL_H
#define RNG_INTERNAL_H

#include "pump.h"
#include "virtio/rng.h"

/*
 * What a guest may draw: bytes at once, and bytes per second. A buffer costs RNG_COST_MIN at least, for tiny ones cost
 * us as much as that.
 */
#define RNG_BURST      65536u
#define RNG_PER_SECOND (256u * 1024)
#define RNG_COST_MIN   64u
#define RNG_TICK_NS    10000000ULL /* how long a guest waits that has drawn all */

struct rng_dev {
	struct virtio_device dev; /* first: the transport's pointer is ours */
	struct loop_source *work, *timer;
	bool waiting; /* for the timer */
	uint32_t burst, per_second;
	uint64_t tick_ns;
	uint64_t (*now_ns)(void);
	/* The bucket: what may be drawn now, and when that was counted. */
	uint64_t tokens, counted_ns;
	struct vq_chain chain;
};

/*
 * For tests: other limits (burst at most per_second) and another clock. The bucket is full afterwards. Once it is empty,
 * the clock is looked at every tick_ns of real time.
 */
void rng_set_limits(
	struct rng_dev *r, uint32_t burst, uint32_t per_second, uint64_t tick_ns, uint64_t (*now_ns)(void));

#endif
