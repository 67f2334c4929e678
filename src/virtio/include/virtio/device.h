/* SPDX-License-Identifier: MIT */
/*
 * The seam between a virtio device and the transport that carries it (virtio 1.2 sections 2 and 4).
 * A device is written once against this; vhost-user (towards another monitor) and virtio-mmio (inside of our
 * own) drive it. The transport negotiates features, sets queues up and calls the operations;
 * the device works on its queues and asks the transport to notify the driver. One thread, one transport at a
 * time.
 */
#ifndef VIRTIO_DEVICE_H
#define VIRTIO_DEVICE_H

#include "virtio/virtqueue.h"

#define VIRTIO_F_INDIRECT_DESC (1ULL << 28) /* 6 */
#define VIRTIO_F_EVENT_IDX     (1ULL << 29)
#define VIRTIO_F_VERSION_1     (1ULL << 32)

#define VIRTIO_ID_VSOCK 19 /* 5 */

#define VIRTIO_QUEUES_MAX 4

struct virtio_device;

struct virtio_device_ops {
	/* Copies configuration [off, off + len) to buf; what lies behind its end reads as zero. */
	void (*read_config)(struct virtio_device *d, uint32_t off, void *buf, uint32_t len);
	/* A queue became usable: chains may already be in it. */
	void (*queue_started)(struct virtio_device *d, unsigned queue);
	/* A queue will be stopped on return. What the driver has put into it should still be taken. */
	void (*queue_stopping)(struct virtio_device *d, unsigned queue);
	/* The driver notified us of available chains. */
	void (*queue_notify)(struct virtio_device *d, unsigned queue);
	/* The driver has forgotten all that it knew of the device (2.4). Queues are stopped, or about to
	 * start afresh. */
	void (*reset)(struct virtio_device *d);
};

struct virtio_transport_ops {
	/* Sends a used buffer notification (2.3). */
	void (*notify_driver)(void *transport, unsigned queue);
	/* A queue was found broken; the driver has to reset the device (2.1.2). Nothing may be freed from
	 * here. */
	void (*needs_reset)(void *transport, unsigned queue, const char *why);
	/* The device is being freed: the transport must not touch it any more. */
	void (*device_gone)(void *transport);
};

struct virtio_device {
	const struct virtio_device_ops *ops;
	uint32_t id;
	uint64_t features; /* offered */
	unsigned n_queues; /* of which a transport may serve only the first ones */
	struct vq vqs[VIRTIO_QUEUES_MAX];

	const struct virtio_transport_ops *transport_ops; /* NULL: not attached */
	void *transport;
};

#endif
