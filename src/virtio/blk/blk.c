/* SPDX-License-Identifier: MIT */
/*
 * THEORY OF OPERATION
 *
 * Each queue has a thread, which sleeps in read(2) on the queue's kick descriptor and does what it finds, one
 * request after the other, by reading and writing the file directly from and to guest memory. Most of a box's
 * disk is in the page cache, where that is a memcpy: handing requests to other threads or to the kernel's
 * asynchronous interfaces would cost more than it saves. A guest that wants requests side by side uses
 * several queues.
 *
 * While there is work, the driver's notifications are off. The driver is told of finished requests once per
 * batch: when the queue is empty, after BATCH requests or BATCH_BYTES of data, and before a request that may
 * take long.
 *
 * A queue belongs either to the loop (PARKED) or to its thread, and changes hands under the lock:
 *
 *	PARKED -> RUNNING   queue_started: the transport has set it up
 *	RUNNING -> STOPPING queue_stopping: a write to the kick descriptor wakes the thread, which does what
 *	                    the driver has put into the queue, though no more than the queue holds and not
 *	                    much more than STOP_BYTES: the loop waits
 *	STOPPING -> PARKED  by the thread, after which it touches neither queue nor guest memory
 *
 * The wake-up may stay in the descriptor, as one more spurious notification. A broken queue is reported once;
 * its thread goes on sleeping until the driver resets the device.
 */
#include <endian.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "base/io.h"
#include "blk/internal.h"
#include "pump.h"

enum { BATCH = 16, BATCH_BYTES = 128 << 10, STOP_BYTES = 64 << 20, STACK = 256 << 10 };

struct blk_space { /* 5.2.4, little endian */
	uint64_t capacity;
	uint32_t size_max, seg_max;
	uint8_t geometry[4];
	uint32_t blk_size;
	uint8_t physical_block_exp, alignment_offset;
	uint16_t min_io_size;
	uint32_t opt_io_size;
	uint8_t writeback, unused0;
	uint16_t num_queues;
	uint32_t max_discard_sectors, max_discard_seg, discard_sector_alignment;
	uint32_t max_write_zeroes_sectors, max_write_zeroes_seg;
	uint8_t write_zeroes_may_unmap, unused1[3];
};
_Static_assert(sizeof(struct blk_space) == 64, "5.2.4: 60 bytes, and the structure's own padding");

/* Saved with a memory snapshot: what the driver has read and will not read again. */
struct blk_state {
	uint32_t version;
	uint32_t read_only;
	uint64_t capacity;
};
enum { BLK_STATE_VERSION = 1 };

static struct blk_dev *of_device(struct virtio_device *d)
{
	return (struct blk_dev *)d;
}

/* ---- the queue's thread ---- */

static enum blk_queue_state state_of(struct blk_queue *bq)
{
	return __atomic_load_n(&bq->state, __ATOMIC_ACQUIRE);
}

/* With the lock held. */
static void move_to(struct blk_queue *bq, enum blk_queue_state s)
{
	__atomic_store_n(&bq->state, s, __ATOMIC_RELEASE);
	pthread_cond_broadcast(&bq->moved);
}

static struct vq *vq_of(struct blk_queue *bq)
{
	return &bq->b->dev.vqs[bq->index];
}

void blk_begin(struct blk_queue *bq)
{
	uint64_t f = bq->b->dev.negotiated;

	bq->writethrough = !(f & BLK_F_FLUSH);
	bq->discard = f & BLK_F_DISCARD;
	bq->zeroes = f & BLK_F_WRITE_ZEROES;
	bq->pushed = 0;
	bq->bytes = bq->told_bytes = 0;
}

void blk_tell(struct blk_queue *bq)
{
	struct virtio_device *d = &bq->b->dev;

	if (bq->pushed && vq_should_notify(vq_of(bq)))
		d->transport_ops->notify_driver(d->transport, bq->index);
	bq->pushed = 0;
	bq->told_bytes = bq->bytes;
}

static bool on_broken(struct blk_queue *bq)
{
	struct virtio_device *d = &bq->b->dev;

	d->transport_ops->needs_reset(d->transport, bq->index, vq_of(bq)->why);
	return false;
}

bool blk_serve(struct blk_queue *bq, unsigned limit)
{
	struct vq *q = vq_of(bq);

	if (!vq_usable(q))
		return false;
	vq_disable_notify(q);
	/* Whoever waits for the queue waits for one request, not for the rest of a batch. */
	for (unsigned n = 0; n < limit && !(n && state_of(bq) == BLK_QUEUE_STOPPING);) {
		int r = vq_pop(q, &bq->chain);
		if (r == 0) {
			blk_tell(bq);
			if (!vq_enable_notify(q))
				return false;
			vq_disable_notify(q);
			continue;
		}
		int64_t written = r < 0 ? r : blk_request(bq, q);
		if (written < 0)
			return on_broken(bq);
		vq_push(q, bq->chain.head, (uint32_t)written);
		n++;
		if (++bq->pushed >= BATCH || bq->bytes - bq->told_bytes >= BATCH_BYTES)
			blk_tell(bq);
	}
	blk_tell(bq);
	return true;
}

/*
 * What the driver has put into the queue before it is taken out of service, within bounds: it may go on
 * adding.
 */
static void drain(struct blk_queue *bq)
{
	uint64_t start = bq->bytes;

	for (unsigned n = 0; n < BLK_QUEUE_SIZE; n++) {
		if (!blk_serve(bq, 1) || bq->bytes - start > STOP_BYTES)
			return;
	}
}

/* Sleeps until a notification came. */
static void wait_for_kick(struct blk_queue *bq, int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	uint64_t count;

	/* The descriptor was made blocking; should its owner have undone that, this still works. */
	while (read(fd, &count, sizeof(count)) < 0 && errno == EAGAIN)
		(void)poll(&p, 1, -1);
	blk_count(&bq->b->stats.kicks, 1);
}

static void run(struct blk_queue *bq)
{
	int kick = bq->b->dev.kick_fds[bq->index];

	blk_begin(bq);
	for (;;) {
		while (state_of(bq) == BLK_QUEUE_RUNNING && blk_serve(bq, BATCH))
			;
		if (state_of(bq) != BLK_QUEUE_RUNNING)
			break;
		wait_for_kick(bq, kick);
	}
	drain(bq);
}

static void *thread_main(void *data)
{
	struct blk_queue *bq = data;
	struct blk_dev *b = bq->b;
	char name[16];

	/* By the thread itself, and first: another's name is set through /proc, and a confined process has none. */
	snprintf(name, sizeof(name), "blk-queue%u", bq->index);
	pthread_setname_np(pthread_self(), name);
	int r = b->conf.on_thread ? b->conf.on_thread(b->conf.data) : 0;

	pthread_mutex_lock(&bq->lock);
	bq->error = r;
	move_to(bq, r < 0 ? BLK_QUEUE_FAILED : BLK_QUEUE_PARKED);
	while (bq->state != BLK_QUEUE_FAILED && bq->state != BLK_QUEUE_EXITING) {
		if (bq->state == BLK_QUEUE_PARKED) {
			pthread_cond_wait(&bq->moved, &bq->lock);
			continue;
		}
		pthread_mutex_unlock(&bq->lock);
		run(bq);
		pthread_mutex_lock(&bq->lock);
		move_to(bq, BLK_QUEUE_PARKED);
	}
	pthread_mutex_unlock(&bq->lock);
	return NULL;
}

/* ---- device operations ---- */

static void op_read_config(struct virtio_device *d, uint32_t off, void *buf, uint32_t len)
{
	const struct blk_dev *b = of_device(d);
	bool rw = !b->conf.read_only;
	const struct blk_space s = {
		.capacity = htole64(b->capacity / BLK_SECTOR),
		.seg_max = htole32(BLK_SEG_MAX),
		.blk_size = htole32(BLK_SECTOR),
		.physical_block_exp = 3, /* 4 KiB: smaller writes make the host read first */
		.min_io_size = htole16(BLK_ALIGN_SECTORS),
		.num_queues = htole16((uint16_t)b->conf.n_queues),
		.max_discard_sectors = htole32(rw ? BLK_DISCARD_SECTORS_MAX : 0),
		.max_discard_seg = htole32(rw ? BLK_DISCARD_SEGS_MAX : 0),
		.discard_sector_alignment = htole32(rw ? BLK_ALIGN_SECTORS : 0),
		.max_write_zeroes_sectors = htole32(rw ? BLK_ZEROES_SECTORS_MAX : 0),
		.max_write_zeroes_seg = htole32(rw ? BLK_ZEROES_SEGS_MAX : 0),
		.write_zeroes_may_unmap = rw,
	};

	pump_read_config(&s, sizeof(s), off, buf, len);
}

static void op_queue_started(struct virtio_device *d, unsigned queue)
{
	struct blk_queue *bq = &of_device(d)->queues[queue];

	/* The thread is to sleep in read(2). Whoever writes to it cannot be made to wait: 2^64 is far. */
	(void)io_set_nonblock(d->kick_fds[queue], false);
	pthread_mutex_lock(&bq->lock);
	if (bq->state == BLK_QUEUE_PARKED)
		move_to(bq, BLK_QUEUE_RUNNING);
	pthread_mutex_unlock(&bq->lock);
}

static void op_queue_stopping(struct virtio_device *d, unsigned queue)
{
	struct blk_queue *bq = &of_device(d)->queues[queue];
	const uint64_t one = 1;

	pthread_mutex_lock(&bq->lock);
	if (bq->state == BLK_QUEUE_RUNNING) {
		move_to(bq, BLK_QUEUE_STOPPING);
		ssize_t n = write(d->kick_fds[queue], &one, sizeof(one));
		(void)n;
	}
	while (bq->state == BLK_QUEUE_STOPPING)
		pthread_cond_wait(&bq->moved, &bq->lock);
	pthread_mutex_unlock(&bq->lock);
}

static void op_queue_notify(struct virtio_device *d, unsigned queue)
{
	/* The thread reads the kick descriptor itself. */
}

static void op_reset(struct virtio_device *d)
{
	/* Nothing outlives a request. */
}

static size_t op_save(struct virtio_device *d, void *buf)
{
	const struct blk_dev *b = of_device(d);
	const struct blk_state s = {
		.version = BLK_STATE_VERSION, .read_only = b->conf.read_only, .capacity = b->capacity};

	memcpy(buf, &s, sizeof(s));
	return sizeof(s);
}

/* A driver that knows another disk than this one would write beyond its end, or believe it writable. */
static int op_restore(struct virtio_device *d, const void *buf, size_t len)
{
	const struct blk_dev *b = of_device(d);
	struct blk_state s;

	if (len != sizeof(s))
		return -EINVAL;
	memcpy(&s, buf, sizeof(s));
	if (s.version != BLK_STATE_VERSION || s.read_only != b->conf.read_only || s.capacity != b->capacity)
		return -EINVAL;
	return 0;
}

static const struct virtio_device_ops ops = {
	.read_config = op_read_config,
	.queue_started = op_queue_started,
	.queue_stopping = op_queue_stopping,
	.queue_notify = op_queue_notify,
	.reset = op_reset,
	.save = op_save,
	.restore = op_restore,
};

/* ---- life ---- */

static int measure(struct blk_dev *b, struct err *e)
{
	struct stat st;
	uint64_t bytes;

	int flags = fcntl(b->conf.fd, F_GETFL);
	if (flags < 0 || fstat(b->conf.fd, &st) < 0)
		return err_sys(e, -errno, "cannot examine the disk");
	if ((flags & O_ACCMODE) == O_WRONLY || (!b->conf.read_only && (flags & O_ACCMODE) != O_RDWR))
		return err_set(e, -EBADF, "the disk is not open for what it is to be used for");
	if (S_ISREG(st.st_mode))
		bytes = (uint64_t)st.st_size;
	else if (!S_ISBLK(st.st_mode))
		return err_set(e, -ENOTBLK, "the disk is neither a file nor a block device");
	else if (ioctl(b->conf.fd, BLKGETSIZE64, &bytes) < 0)
		return err_sys(e, -errno, "cannot find the size of the disk");
	if (flags & O_APPEND) /* Linux would write every block behind the end */
		return err_set(e, -EINVAL, "the disk is open for appending");
	b->capacity = bytes / BLK_SECTOR * BLK_SECTOR;
	return 0;
}

int blk_alloc(const struct blk_config *c, struct blk_dev **ret, struct err *e)
{
	if (c->n_queues < 1 || c->n_queues > BLK_QUEUES_MAX || (c->id && strlen(c->id) > BLK_ID_LEN))
		return err_set(e, -EINVAL, "the disk's description is not valid");
	CLEANUP(blk_freep) struct blk_dev *b = calloc(1, sizeof(*b));
	if (!b)
		return err_oom(e);
	b->conf = *c;
	b->conf.id = NULL;
	if (c->id) /* 5.2.6: padded with NULs, and without one when it is 20 bytes long */
		memcpy(b->id, c->id, strlen(c->id));
	for (unsigned i = 0; i < BLK_QUEUES_MAX; i++) {
		struct blk_queue *bq = &b->queues[i];
		bq->b = b;
		bq->index = i;
		pthread_mutex_init(&bq->lock, NULL);
		pthread_cond_init(&bq->moved, NULL);
	}
	b->dev.ops = &ops;
	b->dev.id = VIRTIO_ID_BLOCK;
	b->dev.features = VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX | BLK_F_SEG_MAX |
			  BLK_F_BLK_SIZE | BLK_F_FLUSH | BLK_F_TOPOLOGY | BLK_F_MQ |
			  (c->read_only ? BLK_F_RO : BLK_F_DISCARD | BLK_F_WRITE_ZEROES);
	b->dev.n_queues = c->n_queues;
	b->dev.queue_size = BLK_QUEUE_SIZE;
	b->dev.own_threads = true;
	int r = measure(b, e);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(b);
	return 0;
}

/* With every signal blocked, which the thread inherits. */
static int start_thread(struct blk_queue *bq, const pthread_attr_t *attr)
{
	int r = pthread_create(&bq->thread, attr, thread_main, bq);
	if (r)
		return -r;
	bq->has_thread = true;
	pthread_mutex_lock(&bq->lock);
	while (bq->state == BLK_QUEUE_BORN)
		pthread_cond_wait(&bq->moved, &bq->lock);
	r = bq->state == BLK_QUEUE_FAILED ? bq->error : 0;
	pthread_mutex_unlock(&bq->lock);
	return r;
}

int blk_new(const struct blk_config *c, struct blk_dev **ret, struct err *e)
{
	CLEANUP(blk_freep) struct blk_dev *b = NULL;
	pthread_attr_t attr;
	sigset_t all, before;

	int r = blk_alloc(c, &b, e);
	if (r < 0)
		return r;
	sigfillset(&all);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	for (unsigned i = 0; i < c->n_queues && r == 0; i++)
		r = start_thread(&b->queues[i], &attr);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attr);
	if (r < 0)
		return err_sys(e, r, "cannot start the disk's threads");
	*ret = TAKE_PTR(b);
	return 0;
}

struct virtio_device *blk_device(struct blk_dev *b)
{
	return &b->dev;
}

void blk_free(struct blk_dev *b)
{
	if (!b)
		return;
	/* The transport stops the queues, so that every thread is parked. */
	if (b->dev.transport_ops)
		b->dev.transport_ops->device_gone(b->dev.transport);
	for (unsigned i = 0; i < BLK_QUEUES_MAX; i++) {
		struct blk_queue *bq = &b->queues[i];
		if (bq->has_thread) {
			pthread_mutex_lock(&bq->lock);
			move_to(bq, BLK_QUEUE_EXITING);
			pthread_mutex_unlock(&bq->lock);
			pthread_join(bq->thread, NULL);
		}
		pthread_cond_destroy(&bq->moved);
		pthread_mutex_destroy(&bq->lock);
	}
	free(b);
}

void blk_stats(const struct blk_dev *b, struct blk_stats *ret)
{
	const struct blk_stats *s = &b->stats;

	*ret = (struct blk_stats){
		.requests = __atomic_load_n(&s->requests, __ATOMIC_RELAXED),
		.kicks = __atomic_load_n(&s->kicks, __ATOMIC_RELAXED),
		.read_bytes = __atomic_load_n(&s->read_bytes, __ATOMIC_RELAXED),
		.write_bytes = __atomic_load_n(&s->write_bytes, __ATOMIC_RELAXED),
		.flushes = __atomic_load_n(&s->flushes, __ATOMIC_RELAXED),
		.discarded_bytes = __atomic_load_n(&s->discarded_bytes, __ATOMIC_RELAXED),
		.errors = __atomic_load_n(&s->errors, __ATOMIC_RELAXED),
	};
}
