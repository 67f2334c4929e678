/* SPDX-License-Identifier: MIT */
/*
 * vhost-user front end: a device of ours to a transport in this process, whose queues another process serves (vhost-user.h is
 * its side). Notifications of both directions go between the guest and that process without passing through here.
 *
 * The other process may be in the guest's hands: nothing that it says is used but where it stopped, and it is given guest memory,
 * the queues' descriptors, and the one that interrupts the guest for this device; this process waits for its answers, and no
 * longer than VHOST_FRONT_WAIT_NS.
 */
#ifndef VIRTIO_VHOST_USER_FRONT_H
#define VIRTIO_VHOST_USER_FRONT_H

#include "base/loop.h"
#include "virtio/device.h"

#define VHOST_FRONT_WAIT_NS 30000000000ull

struct vhost_front;

struct vhost_front_config {
	uint32_t id; /* enum virtio_id */
	uint64_t
		features; /* offered to the driver; the other process must have them, or the connection ends */
	unsigned n_queues;
	const void *space; /* the device's configuration, little endian; copied */
	size_t space_len;
	const struct guest_mem *mem; /* borrowed for life */
	int mem_fd; /* a memfd that the regions of mem lie in, in their order, one after the other from its start; borrowed */
	/*
	 * Called once, from the loop, when the other process is gone or has broken the protocol; why is a static text. The guest
	 * gets no answer any more. vhost_front_free may not be called from it.
	 */
	void (*on_gone)(void *data, const char *why);
	void *data;
};

/* fd: connected socket, consumed, also on failure. Nothing is sent before the driver is ready. 0 or -errno. */
int vhost_front_new(struct loop *loop, const struct vhost_front_config *c, int fd, struct vhost_front **ret);
struct virtio_device *vhost_front_device(struct vhost_front *f);
/* Stops the queues, and disconnects. The transport may be freed before or after. NULL allowed. */
void vhost_front_free(struct vhost_front *f);
DEFINE_CLEANUP(struct vhost_front *, vhost_front_free)

#endif
