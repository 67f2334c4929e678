/* SPDX-License-Identifier: MIT */
/*
 * What devices share that work on their queues in the loop's thread: take chains while there are any, notify the driver
 * once for all that was returned, and keep its own notifications off while they would tell nothing.
 */
#ifndef PUMP_H
#define PUMP_H

#include "virtio/device.h"

enum pump_verdict {
	PUMP_USED,  /* the chain is returned, with *written bytes in it; the next one follows */
	PUMP_HOLD,  /* the device keeps the chain, to return it later by vq_push; the pump stops */
	PUMP_LATER, /* the chain stays in the queue as if never taken; the pump stops */
};
/* Handles one chain; *written is 0 before. The chain is valid only during the call: its memory may move. */
typedef enum pump_verdict (*pump_fn)(
	struct virtio_device *d, unsigned queue, const struct vq_chain *c, uint32_t *written);

enum pump_end {
	PUMP_EMPTY,   /* nothing is left, or the queue is not in use; the next chain will be notified */
	PUMP_STOPPED, /* by the function; notifications are off until the next run */
	PUMP_MORE,    /* the budget was spent; notifications are off until the next run */
	PUMP_BROKEN,  /* the driver broke a rule: no queue of the device is used any more until it resets */
};

/* Hands at most `budget` chains to fn, one after the other. scratch is where they are described. */
enum pump_end pump_run(
	struct virtio_device *d, unsigned queue, struct vq_chain *scratch, unsigned budget, pump_fn fn);
/* Sends a used buffer notification for what was pushed since the last one, if the driver wants it. */
void pump_notify(struct virtio_device *d, unsigned queue);
/* Tells the driver that the configuration changed, if there is one that can be told. */
void pump_config_changed(struct virtio_device *d);

/* virtio_device_ops.read_config over a structure that is already little endian; NULL, 0: none. */
void pump_read_config(const void *config, size_t config_len, uint32_t off, void *buf, uint32_t len);

#endif
