/* SPDX-License-Identifier: MIT */
/*
 * The seam between a virtio device and the transport that carries it (virtio 1.2 sections 2 and 4).
 * A device is written once against this; vhost-user (towards another monitor) and virtio-mmio (inside of our
 * own) drive it. The transport negotiates features, sets queues up and calls the operations;
 * the device works on its queues and asks the transport to notify the driver. One transport at a time.
 *
 * All operations are called on the thread of the loop that the transport was made with. A device that works on
 * its queues in threads of its own (own_threads) gets each queue's kick descriptor instead of queue_notify, hands
 * the queue over in queue_started, and has it back when queue_stopping returns.
 */
#ifndef VIRTIO_DEVICE_H
#define VIRTIO_DEVICE_H

#include "virtio/virtqueue.h"

#define VIRTIO_F_INDIRECT_DESC (1ULL << 28) /* 6 */
#define VIRTIO_F_EVENT_IDX     (1ULL << 29)
#define VIRTIO_F_VERSION_1     (1ULL << 32)

enum virtio_id { /* 5 */
	VIRTIO_ID_NET = 1,
	VIRTIO_ID_BLOCK = 2,
	VIRTIO_ID_CONSOLE = 3,
	VIRTIO_ID_ENTROPY = 4,
	VIRTIO_ID_BALLOON = 5,
	VIRTIO_ID_VSOCK = 19,
	VIRTIO_ID_FS = 26,
};

#define VIRTIO_QUEUES_MAX 8
/* Largest saved state of a device, without its queues. */
#define VIRTIO_STATE_MAX 4096

struct virtio_device;

struct virtio_device_ops {
	/* Copies configuration [off, off + len) to buf; what lies behind its end reads as zero. */
	void (*read_config)(struct virtio_device *d, uint32_t off, void *buf, uint32_t len);
	/* The driver wrote configuration. NULL: all of it is read-only, writes are ignored. */
	void (*write_config)(struct virtio_device *d, uint32_t off, const void *buf, uint32_t len);
	/* A queue became usable: chains may already be in it. d->negotiated is final. */
	void (*queue_started)(struct virtio_device *d, unsigned queue);
	/*
	 * A queue will be stopped on return. What the driver has put into it should still be taken; every chain that was
	 * taken must be returned (or given back by vq_unpop).
	 */
	void (*queue_stopping)(struct virtio_device *d, unsigned queue);
	/* The driver notified us of available chains. */
	void (*queue_notify)(struct virtio_device *d, unsigned queue);
	/* The driver has forgotten all that it knew of the device (2.4). Queues are stopped, or about to
	 * start afresh. */
	void (*reset)(struct virtio_device *d);

	/*
	 * For memory snapshots: what the driver knows of the device beyond its queues, as one plain structure in host
	 * order that begins with a version. Called while no queue runs. save: bytes written to buf (VIRTIO_STATE_MAX
	 * long). restore: before the queues start in another process; a saved state is not trusted. 0 or -EINVAL.
	 * Both NULL: there is nothing to save.
	 */
	size_t (*save)(struct virtio_device *d, void *buf);
	int (*restore)(struct virtio_device *d, const void *buf, size_t len);
};

struct virtio_transport_ops {
	/* Sends a used buffer notification (2.3). May be called from any thread. */
	void (*notify_driver)(void *transport, unsigned queue);
	/* Configuration changed: tells the driver (2.3, 4.2.2). From the loop's thread. NULL: the transport cannot. */
	void (*config_changed)(void *transport);
	/* A queue was found broken; the driver has to reset the device (2.1.2). Nothing may be freed from
	 * here. May be called from any thread. */
	void (*needs_reset)(void *transport, unsigned queue, const char *why);
	/* The device is being freed: the transport must not touch it any more. */
	void (*device_gone)(void *transport);
};

struct virtio_device {
	const struct virtio_device_ops *ops;
	uint32_t id;	   /* enum virtio_id */
	uint64_t features; /* offered */
	unsigned n_queues; /* of which a transport may serve only the first ones */
	uint16_t
		queue_size; /* largest queue that is offered, a power of 2; 0: VQ_SIZE_MAX. Not of vhost-user. */
	bool own_threads;
	bool holds_chains; /* keeps chains between calls: memory may be taken away only while its queues are stopped */
	bool early_config; /* configuration may be written before the features are settled (5.3.5.1) */
	struct vq vqs[VIRTIO_QUEUES_MAX];

	/* Set by the transport. */
	uint64_t negotiated; /* features, valid while a queue runs */
	int kick_fds
		[VIRTIO_QUEUES_MAX]; /* own_threads: eventfds that the driver's notifications come on; borrowed */
	int irq_fd; /* eventfd that interrupts the driver when it is written to, whatever for; borrowed; not of vhost-user */
	const struct virtio_transport_ops *transport_ops; /* NULL: not attached */
	void *transport;
};

#endif
