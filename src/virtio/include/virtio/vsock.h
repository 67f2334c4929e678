/* SPDX-License-Identifier: MIT */
/*
 * The vsock device: stream sockets between guest and host (virtio 1.2 section 5.10).
 *
 * Host side: inside one folder (an O_PATH or ordinary directory descriptor),
 *   `vsock.sock`        is listened on by the device. A client writes "CONNECT <port>\n" and reads
 *                       "OK <host port>\n", after which the stream is the guest's; refused: the device
 * closes. `vsock.sock_<port>` is connected to by the device when the guest connects to (CID 2, port). Sockets
 * are bound and reached through /proc/self/fd, so the folder's path may have any length.
 */
#ifndef VIRTIO_VSOCK_H
#define VIRTIO_VSOCK_H

#include <stdbool.h>

#include "base/loop.h"

struct vsock_dev;
struct vhost_user;
struct virtio_device;

#define VSOCK_GUEST_CID 3

/* dirfd is borrowed and must outlive the device; AT_FDCWD: the working folder. Returns 0 or -errno. */
int vsock_new(struct loop *loop, int dirfd, struct vsock_dev **ret);
/* True while something that the guest sent has not been taken by the host's side: worth turning the loop for. */
bool vsock_unsent(const struct vsock_dev *v);
/* Closes everything at once and removes vsock.sock. The transport may be freed before or after. */
void vsock_free(struct vsock_dev *v);
DEFINE_CLEANUP(struct vsock_dev *, vsock_free)

/* For a transport in process, which serves the event queue too: after a restore the guest is told to forget its
 * connections (5.10.6.7). */
struct virtio_device *vsock_device(struct vsock_dev *v);

/*
 * Serves the device to QEMU over a connected vhost-user socket (fd is consumed, also on failure).
 * on_gone is called once when the front end disconnected or broke the protocol (reason is a short static
 * text).
 */
int vsock_serve_vhost_user(struct vsock_dev *v, int fd, void (*on_gone)(void *data, const char *reason),
	void *data, struct vhost_user **ret);
void vhost_user_free(struct vhost_user *u);
DEFINE_CLEANUP(struct vhost_user *, vhost_user_free)

#endif
