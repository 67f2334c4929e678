/* SPDX-License-Identifier: MIT */
/*
 * vhost-user back end: serves any struct virtio_device to a front end (QEMU) over a connected Unix socket.
 * Source: "Vhost-user Protocol" of QEMU 7.2's documentation (docs/interop/vhost-user.rst).
 */
#ifndef VIRTIO_VHOST_USER_H
#define VIRTIO_VHOST_USER_H

#include "base/loop.h"
#include "virtio/device.h"

struct vhost_user;

/*
 * fd is consumed, also on failure. n_queues are those that the front end passes on (the device may have
 * more). on_gone is called once, from the loop, when the front end disconnected or broke the protocol; reason
 * is a static text; vhost_user_free may be called from it. By then the queues are drained and stopped and the
 * device is reset. Returns 0, -EBUSY when the device is attached already, or -errno.
 */
int vhost_user_new(struct loop *loop, struct virtio_device *dev, unsigned n_queues, int fd,
	void (*on_gone)(void *data, const char *reason), void *data, struct vhost_user **ret);
/* Disconnects. Does not call on_gone. May be called before or after the device is freed. */
void vhost_user_free(struct vhost_user *u);

#endif
