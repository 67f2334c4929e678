/* SPDX-License-Identifier: MIT */
/*
 * The console device (virtio 1.2 section 5.3): one port, without multiport.
 *
 * Nothing here blocks the loop. A reader of out_fd that is slow makes the guest wait: Linux spins for each write to its
 * console until it is taken, so whoever gives a pipe reads it. A reader that goes away does no harm: what is written
 * from then on is discarded.
 */
#ifndef VIRTIO_CONSOLE_H
#define VIRTIO_CONSOLE_H

#include "base/loop.h"
#include "virtio/device.h"

struct console_dev;

struct console_config {
	/*
	 * What the guest reads, and what it writes to: a pipe, terminal, socket or file; may be the same descriptor; -1:
	 * nothing comes, output is discarded. Duplicated, so the caller may close its own. Their flags are not
	 * changed, but for the controlling side of a pseudo-terminal, which is made non-blocking.
	 */
	int in_fd, out_fd;
	uint16_t cols, rows; /* 0: unknown */
};

/* 0 or -errno. */
int console_new(struct loop *loop, const struct console_config *c, struct console_dev **ret);
struct virtio_device *console_device(struct console_dev *c);
/* The size changed: tells the driver. */
void console_resize(struct console_dev *c, uint16_t cols, uint16_t rows);
/* Output that no descriptor has taken yet is lost. NULL allowed. */
void console_free(struct console_dev *c);
DEFINE_CLEANUP(struct console_dev *, console_free)

#endif
