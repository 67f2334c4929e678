/* SPDX-License-Identifier: MIT */
/*
 * The file system device (virtio 1.2 section 5.11) over a file server (fs.h): takes requests off its queues and has them done.
 */
#ifndef FS_DEVICE_H
#define FS_DEVICE_H

#include "base/loop.h"
#include "fs.h"
#include "virtio/device.h"

/* 5.11.2: hiprio, and the request queues. More of these would be served by the same thread. */
enum { FS_QUEUE_HIPRIO, FS_QUEUE_REQUEST, FS_QUEUES };

struct fs_dev;

/*
 * server and loop are borrowed for life. Threads are started as requests need them, with all signals blocked. 0 or -errno.
 */
int fs_device_new(struct loop *loop, struct fs_server *server, struct fs_dev **ret);
struct virtio_device *fs_device(struct fs_dev *d);
/* Waits for what is under way, and ends the threads. The transport may be freed before or after. NULL allowed. */
void fs_device_free(struct fs_dev *d);
DEFINE_CLEANUP(struct fs_dev *, fs_device_free)

#endif
