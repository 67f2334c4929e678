/* SPDX-License-Identifier: MIT */
/*
 * The traditional memory balloon (virtio 1.2 section 5.5) with free page reporting (5.5.6.7): memory that the guest
 * does not use goes back to the host by itself, and on request.
 */
#ifndef VIRTIO_BALLOON_H
#define VIRTIO_BALLOON_H

#include "base/loop.h"
#include "virtio/device.h"

struct balloon_dev;

struct balloon_config {
	uint64_t mem_bytes; /* of the guest: what a target may not exceed. At most 16 TiB. */
	/*
	 * Gives [gpa, gpa + len) back to the host; the guest may read anything there afterwards. Both are multiples of 4
	 * KiB, and the range lies inside of one region of guest memory. From the loop's thread. It may be memory that the
	 * host uses at this moment, for a queue of ours or another device's: what is mapped must stay mapped.
	 */
	void (*discard)(void *data, uint64_t gpa, uint64_t len);
	void *data;
};

/* What the driver told last (5.5.6.3), which may be any number; UINT64_MAX: nothing. Bytes, but for counts of events. */
struct balloon_stats {
	uint64_t free, available, total, disk_caches, swapped_in, swapped_out, major_faults, minor_faults;
	/* From here on our own figures. */
	uint64_t target;   /* bytes that we ask for */
	uint64_t actual;   /* bytes that the driver says it has given, at most mem_bytes */
	uint64_t reported; /* bytes given back by free page reporting, in total */
	uint64_t refused;  /* pages offered that are not the guest's: no decent driver does that */
};

/* 0, -EINVAL: mem_bytes or discard cannot be, or -errno. */
int balloon_new(struct loop *loop, const struct balloon_config *c, struct balloon_dev **ret);
struct virtio_device *balloon_device(struct balloon_dev *b);
/* Asks the driver to give up so many bytes in all (rounded down to pages). -EINVAL: more than there is. */
int balloon_set_target(struct balloon_dev *b, uint64_t bytes);
/* Copies what is known, and asks the driver for fresh figures for the next time. */
void balloon_stats(struct balloon_dev *b, struct balloon_stats *ret);
/* NULL allowed. */
void balloon_free(struct balloon_dev *b);
DEFINE_CLEANUP(struct balloon_dev *, balloon_free)

#endif
