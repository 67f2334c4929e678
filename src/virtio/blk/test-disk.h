/* SPDX-License-Identifier: MIT */
/* For tests of the block device: a disk with a driver, and requests cut into descriptors as one likes. */
#ifndef TEST_DISK_H
#define TEST_DISK_H

#include "blk/internal.h"
#include "test-mmio-driver.h"

enum { DISK_LEN = 4 << 20, DISK_SECTORS = DISK_LEN / BLK_SECTOR };

enum disk_kind { DISK_FILE, DISK_MEMFD };

struct disk {
	struct loop *loop;
	struct blk_dev *b;
	struct blk_config conf;
	struct tdrv d;
	int fd;
	uint32_t seed; /* of disk_random */
};

/* Everything that the driver may want. */
#define DISK_FEATURES \
	(VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC | BLK_F_SEG_MAX | BLK_F_RO | BLK_F_BLK_SIZE | \
		BLK_F_FLUSH | BLK_F_TOPOLOGY | BLK_F_MQ | BLK_F_DISCARD | BLK_F_WRITE_ZEROES)

/* A disk of DISK_LEN bytes, without a driver yet (disk_start) or with one that wants these features. */
void disk_init(struct disk *k, enum disk_kind kind, bool read_only, unsigned n_queues);
void disk_start(struct disk *k, uint64_t features);
void disk_done(struct disk *k);
uint32_t disk_random(struct disk *k);
void disk_fill(struct disk *k, void *buf, size_t len);

/* A request under way. */
struct disk_op {
	unsigned queue;
	uint16_t head;
	uint32_t in_len; /* with the status */
	struct tdrv_buf bufs[128];
	unsigned n, n_out;
};

/*
 * Makes a request available without notifying: the readable bytes are out, the writable ones in_len, each
 * kind cut into so many descriptors at random places (0: as few as there can be), and indirect or not.
 */
void disk_submit(struct disk *k, struct disk_op *op, unsigned queue, const void *out, size_t out_len,
	size_t in_len, unsigned cuts, bool indirect);
/* Copies what the device has written (in_len bytes). */
void disk_collect(struct disk *k, const struct disk_op *op, void *in);

/*
 * A whole request on queue 0, one descriptor each for header, data and status; waits for it, checks that the
 * used length is right, and returns the status. Exactly one of out and in is not NULL, or neither.
 */
int disk_do(struct disk *k, uint32_t type, uint64_t sector, const void *out, void *in, size_t len);
int disk_do_cut(struct disk *k, uint32_t type, uint64_t sector, const void *out, void *in, size_t len,
	unsigned cuts, bool indirect);
/* Notifies, and waits until the device asks for a reset. */
void disk_expect_broken(struct disk *k);

#endif
