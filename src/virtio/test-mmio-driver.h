/* SPDX-License-Identifier: MIT */
/*
 * For tests: a guest's driver for any device over virtio-mmio, in the thread of the loop. It builds rings and buffers in a
 * memory of its own, and keeps to the rules unless told not to: everything lies open for a test to break.
 *
 * Memory is one region at TDRV_GPA. Each queue has its rings in a place of its own; behind them, buffers and indirect tables
 * are handed out by a bump allocator that starts afresh when it reaches the end and all that was added has come back.
 */
#ifndef TEST_MMIO_DRIVER_H
#define TEST_MMIO_DRIVER_H

#include "virtio/mmio.h"

#define TDRV_GPA     0x40000000ULL
#define TDRV_MEM_LEN (8u << 20)
#define TDRV_QSIZE   64

/* 4.2.2 and 2.1 */
enum {
	MMIO_MAGIC = 0x00,
	MMIO_VERSION = 0x04,
	MMIO_DEVICE_ID = 0x08,
	MMIO_VENDOR_ID = 0x0c,
	MMIO_DEVICE_FEATURES = 0x10,
	MMIO_DEVICE_FEATURES_SEL = 0x14,
	MMIO_DRIVER_FEATURES = 0x20,
	MMIO_DRIVER_FEATURES_SEL = 0x24,
	MMIO_QUEUE_SEL = 0x30,
	MMIO_QUEUE_NUM_MAX = 0x34,
	MMIO_QUEUE_NUM = 0x38,
	MMIO_QUEUE_READY = 0x44,
	MMIO_QUEUE_NOTIFY = 0x50,
	MMIO_INT_STATUS = 0x60,
	MMIO_INT_ACK = 0x64,
	MMIO_STATUS = 0x70,
	MMIO_QUEUE_DESC = 0x80,
	MMIO_QUEUE_DRIVER = 0x90,
	MMIO_QUEUE_DEVICE = 0xa0,
	MMIO_CONFIG_GENERATION = 0xfc,
	MMIO_CONFIG = 0x100,
};
enum {
	STATUS_ACKNOWLEDGE = 1,
	STATUS_DRIVER = 2,
	STATUS_DRIVER_OK = 4,
	STATUS_FEATURES_OK = 8,
	STATUS_NEEDS_RESET = 64,
	STATUS_FAILED = 128,
};

struct tdrv_desc { /* 2.7.5, little endian */
	uint64_t addr;
	uint32_t len;
	uint16_t flags, next;
};
enum { DESC_NEXT = 1, DESC_WRITE = 2, DESC_INDIRECT = 4 };

struct tdrv_queue {
	uint64_t desc, avail, used; /* guest-physical */
	uint16_t size;
	uint16_t avail_idx, used_seen, next_desc;
	uint16_t outstanding;	     /* chains added and not yet seen in the used ring */
	uint16_t owner[VQ_SIZE_MAX]; /* per descriptor of the table: head of its chain + 1; 0: free */
};

struct tdrv {
	struct loop *loop;
	struct virtio_device *dev;
	struct virtio_mmio *m;
	struct guest_mem mem;
	uint8_t *host;	   /* TDRV_MEM_LEN bytes at TDRV_GPA */
	uint64_t bump;	   /* next free guest-physical address for buffers */
	uint64_t features; /* negotiated */
	struct tdrv_queue q[VIRTIO_QUEUES_MAX];
};

/* Attaches a transport to the device, and allows calls on the loop. Fails the test (fail_msg) on any error. */
void tdrv_init(struct tdrv *d, struct loop *loop, struct virtio_device *dev);
void tdrv_done(struct tdrv *d);

uint32_t tdrv_read(struct tdrv *d, uint32_t off);
void tdrv_write(struct tdrv *d, uint32_t off, uint32_t v);
/* Configuration space. */
void tdrv_config(struct tdrv *d, uint32_t off, void *buf, uint32_t len);

/* 3.1.1: reset to FEATURES_OK, with the offered ones of `wanted` and VERSION_1. False: FEATURES_OK did not stay. */
bool tdrv_negotiate(struct tdrv *d, uint64_t wanted);
/* Sets queue q up in fresh, zeroed rings. */
void tdrv_queue_up(struct tdrv *d, unsigned q, uint16_t size);
void tdrv_driver_ok(struct tdrv *d);
/* All of it, with every queue of TDRV_QSIZE (or what the device allows). */
void tdrv_start(struct tdrv *d, uint64_t wanted);

/*
 * Room for len bytes of zeroed guest memory; *ret_host is where it lies (NULL allowed). Returns the guest-physical
 * address: a multiple of 16, or of a page from a page's length on.
 */
uint64_t tdrv_alloc(struct tdrv *d, size_t len, void **ret_host);
/* Host pointer of a guest-physical address inside of the memory. */
void *tdrv_at(struct tdrv *d, uint64_t gpa);

struct tdrv_buf {
	uint64_t gpa;
	uint32_t len;
	bool write; /* for the device to write to */
};
/* Makes a chain of these buffers available, without notifying. Returns its head. */
uint16_t tdrv_add(struct tdrv *d, unsigned q, const struct tdrv_buf *bufs, unsigned n);
/* The same through one indirect descriptor. */
uint16_t tdrv_add_indirect(struct tdrv *d, unsigned q, const struct tdrv_buf *bufs, unsigned n);
/* Notifies, as the monitor would: through the kick descriptor. */
void tdrv_kick(struct tdrv *d, unsigned q);
/* Takes the next used element. False: there is none. */
bool tdrv_used(struct tdrv *d, unsigned q, uint16_t *ret_head, uint32_t *ret_len);
/* Runs the loop (up to 5 s, then fails the test) until a used element is there, and takes it: its length. */
uint32_t tdrv_wait(struct tdrv *d, unsigned q, uint16_t *ret_head);
/* True if the interrupt descriptor was signalled since the last call. */
bool tdrv_interrupted(struct tdrv *d);
/* Runs the loop until nothing happens for some ms. */
void tdrv_settle(struct tdrv *d);
/* Runs until Status has NEEDS_RESET, or fails the test. */
void tdrv_expect_broken(struct tdrv *d);

#endif
