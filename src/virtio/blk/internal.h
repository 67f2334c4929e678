/* SPDX-License-Identifier: MIT */
/* The block device's own structures. blk.c is the device and its threads, request.c does one request. */
#ifndef BLK_INTERNAL_H
#define BLK_INTERNAL_H

#include <pthread.h>

#include "virtio/blk.h"

/* 5.2.3 */
#define BLK_F_SEG_MAX	   (1ULL << 2)
#define BLK_F_RO	   (1ULL << 5)
#define BLK_F_BLK_SIZE	   (1ULL << 6)
#define BLK_F_FLUSH	   (1ULL << 9)
#define BLK_F_TOPOLOGY	   (1ULL << 10)
#define BLK_F_MQ	   (1ULL << 12)
#define BLK_F_DISCARD	   (1ULL << 13)
#define BLK_F_WRITE_ZEROES (1ULL << 14)

enum { BLK_SECTOR = 512, BLK_ID_LEN = 20 };

/* Entries of each queue; a request is one chain, of which two descriptors hold no data. */
enum { BLK_QUEUE_SIZE = 256, BLK_SEG_MAX = BLK_QUEUE_SIZE - 2 };

/*
 * What one request may ask for. Discarding is a matter of metadata, so much at once is fine. Zeros may have
 * to be written, one request of them is bounded to what keeps its queue busy for some ms.
 */
enum {
	BLK_DATA_MAX =
		64
		<< 20, /* of one request, so that none holds its queue for long; drivers ask for 1 MiB or so */
	BLK_COST = 1 << 20, /* bytes that a flush, or one range to discard, counts for */
	BLK_DISCARD_SECTORS_MAX = 1 << 22,
	BLK_DISCARD_SEGS_MAX = 16,
	BLK_ZEROES_SECTORS_MAX = 1 << 16,
	BLK_ZEROES_SEGS_MAX = 4,
	BLK_ALIGN_SECTORS = 8, /* file systems have blocks of 4 KiB */
};

enum blk_type { /* 5.2.6 */
	BLK_T_IN = 0,
	BLK_T_OUT = 1,
	BLK_T_FLUSH = 4,
	BLK_T_GET_ID = 8,
	BLK_T_DISCARD = 11,
	BLK_T_WRITE_ZEROES = 13,
};
enum blk_status { BLK_S_OK = 0, BLK_S_IOERR = 1, BLK_S_UNSUPP = 2 };

struct blk_req_hdr { /* 5.2.6, little endian */
	uint32_t type, reserved;
	uint64_t sector;
};
_Static_assert(sizeof(struct blk_req_hdr) == 16, "5.2.6");

struct blk_segment { /* 5.2.6: virtio_blk_discard_write_zeroes, little endian */
	uint64_t sector;
	uint32_t n_sectors, flags;
};
_Static_assert(sizeof(struct blk_segment) == 16, "5.2.6");
enum { BLK_SEGMENT_UNMAP = 1 };

/* Where a queue's thread is. The loop moves it to RUNNING, STOPPING and EXITING, the thread to the others. */
enum blk_queue_state {
	BLK_QUEUE_BORN,	  /* on_thread has not returned yet */
	BLK_QUEUE_FAILED, /* on_thread refused; the thread ends */
	BLK_QUEUE_PARKED, /* the queue is the loop's */
	BLK_QUEUE_RUNNING,
	BLK_QUEUE_STOPPING, /* the thread still has it */
	BLK_QUEUE_EXITING,
};

struct blk_queue {
	struct blk_dev *b;
	unsigned index;
	pthread_t thread;
	bool has_thread;
	pthread_mutex_t lock;
	pthread_cond_t moved;	    /* state has changed */
	enum blk_queue_state state; /* written under lock; read without by its thread */
	int error;		    /* of on_thread, when FAILED */

	/* Of the thread, while it has the queue. */
	bool writethrough, discard, zeroes; /* what was negotiated */
	unsigned pushed;		    /* requests returned of which the driver was not yet told */
	uint64_t bytes, told_bytes;	    /* of all requests done; when the driver was last told */
	struct vq_chain chain;
};

struct blk_dev {
	struct virtio_device dev; /* first: the operations get this */
	struct blk_config conf;
	uint64_t capacity; /* bytes, a multiple of BLK_SECTOR */
	uint8_t id[BLK_ID_LEN];
	bool no_zero_range;	/* the file system said so; from any thread */
	struct blk_stats stats; /* added to by any thread */
	struct blk_queue queues[BLK_QUEUES_MAX];
};

static inline void blk_count(uint64_t *counter, uint64_t n)
{
	__atomic_fetch_add(counter, n, __ATOMIC_RELAXED);
}

/* Everything but the threads, for blk_new and for tests that drive the queues themselves. As blk_new. */
int blk_alloc(const struct blk_config *c, struct blk_dev **ret, struct err *e);
/* The thread's view of a queue that starts. */
void blk_begin(struct blk_queue *bq);
/*
 * Does up to limit requests. True: there may be more. The driver has been told of all that were done. False:
 * there are none, and the driver will notify of the next, or the queue is broken.
 */
bool blk_serve(struct blk_queue *bq, unsigned limit);

/*
 * Does the request in bq->chain and writes its status. Returns the bytes written to the chain, from its start
 * on, or -EPROTO when the chain is no request: the queue is broken then.
 */
int64_t blk_request(struct blk_queue *bq, struct vq *q);
/* Before a request that may take long: tells the driver of those before it. */
void blk_tell(struct blk_queue *bq);

#endif
