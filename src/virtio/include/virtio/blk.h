/* SPDX-License-Identifier: MIT */
/*
 * The block device (virtio 1.2 section 5.2) over a raw file: one thread per queue, which does each request
 * where it finds it. Requests of one queue complete in order; several queues go side by side.
 *
 * The disk is as large as the file is at blk_new, in whole sectors of 512 bytes; it never grows the file.
 * Errors of the file are errors of the request, and nothing else. Stopping a queue waits for the request at
 * hand.
 */
#ifndef VIRTIO_BLK_H
#define VIRTIO_BLK_H

#include "base/err.h"
#include "virtio/device.h"

#define BLK_QUEUES_MAX 4

struct blk_dev;

struct blk_config {
	/*
	 * Regular file or block device, open for what the guest may do, not O_APPEND; borrowed, must outlive
	 * the device.
	 */
	int fd;
	bool read_only;
	unsigned n_queues; /* 1 to BLK_QUEUES_MAX */
	const char *id;	   /* VIRTIO_BLK_T_GET_ID, at most 20 bytes; NULL: none */
	/*
	 * Called first on every thread of the device, before it touches guest memory, with all signals
	 * blocked; one after the other, while blk_new waits. <0: the device fails to start with that error.
	 * NULL allowed.
	 */
	int (*on_thread)(void *data);
	void *data;
};

/* Starts the threads, which sleep until a transport starts their queues. 0 or -errno with e set. */
int blk_new(const struct blk_config *c, struct blk_dev **ret, struct err *e);
struct virtio_device *blk_device(struct blk_dev *b);
/* Stops the queues and ends the threads. The transport may be freed before or after. NULL allowed. */
void blk_free(struct blk_dev *b);
DEFINE_CLEANUP(struct blk_dev *, blk_free)

struct blk_stats {
	uint64_t requests;					    /* answered, whatever the answer was */
	uint64_t kicks;						    /* times that a thread was woken */
	uint64_t read_bytes, write_bytes, flushes, discarded_bytes; /* of requests that succeeded */
	uint64_t errors;					    /* requests answered IOERR or UNSUPP */
};
/* From any thread. */
void blk_stats(const struct blk_dev *b, struct blk_stats *ret);

#endif
