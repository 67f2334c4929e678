/* SPDX-License-Identifier: MIT */
/*
 * THEORY OF OPERATION
 *
 * The loop's thread takes requests off the queues. Most are a few system calls on what the host has in its caches; it does these
 * at once, since a thread that has to be woken costs more than they do. What may take long (fs_may_block) goes to threads:
 *
 *     POOL_DATA   reads, writes, fsync: up to DATA_THREADS; what finds none free waits in a list
 *     POOL_LOCK   waiting for a lock of another box or of the host, or for events (watch.c): LOCK_THREADS. Nothing waits for one
 *                 of these: the lock's holder might be the one who waits. The guest is told ENOLCK instead, or EINTR, on which it
 *                 asks for events again.
 *
 * Threads are started as they are needed and then stay. `lock` is over the queues' state, the lists and the counts; it is never
 * held while a request is done. Notifications go out as soon as a request is done: the guest mostly waits for just this one, and
 * if it does not, it has said so in the ring (2.7.7).
 *
 * A chain that a thread has may be written to until it is returned. So a queue stops (queue_stopping), and the device is reset,
 * only when all are back; nothing else in the transport may take guest memory away. Waits for locks are interrupted then.
 *
 * The driver interrupts one by its number (FUSE_INTERRUPT), on the hiprio queue (5.11.6.2), which may be ahead of the queue that
 * the request is in: so what is in that is taken first. One that is not found is done, and nobody waits for it. The mark is on
 * the request, not its thread: it counts if it comes before the wait begins.
 */
#include "device.h"

#include <errno.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>

#include "base/io.h"
#include "proto.h"

enum { DATA_THREADS = 8, LOCK_THREADS = 256, STACK = 256 << 10, TURN_REQUESTS = 64 };

enum pool_kind { POOL_DATA, POOL_LOCK, POOLS };

struct job {
	struct job *next;
	unsigned queue;
	uint16_t head;
	struct fuse_in_header h;
	atomic_bool interrupted;
	unsigned n_out, n_in;
	struct iovec iov[];
};

struct worker {
	struct worker *next;
	struct fs_dev *d;
	enum pool_kind kind;
	pthread_t thread;
	struct job *job; /* under way; NULL: none */
};

struct pool {
	struct job *first, **last;
	unsigned n_jobs, n_threads, n_idle, max;
	struct worker *workers;
	pthread_cond_t work;
};

struct fs_dev {
	struct virtio_device dev; /* first */
	struct fs_server *server;
	struct loop_source *more; /* goes on taking in the next turn */
	pthread_mutex_t lock;	  /* all below, and dev.vqs while a queue runs */
	struct pool pools[POOLS];
	unsigned under_way[FS_QUEUES]; /* chains that threads have, or will have */
	pthread_cond_t done;	       /* one of these has become fewer */
	bool ending;
	struct vq_chain chain; /* of the loop's thread */
};

struct fs_space { /* 5.11.4 */
	char tag[36];
	uint32_t num_request_queues;
};

static struct fs_dev *of_device(struct virtio_device *d)
{
	return (struct fs_dev *)(void *)d;
}

/* ---- answers ---- */

/* With the lock held. Tells the driver at once; the transport takes that from any thread, and outlives what is under way. */
static void push(struct fs_dev *d, unsigned queue, uint16_t head, size_t written)
{
	struct vq *q = &d->dev.vqs[queue];

	vq_push(q, head, (uint32_t)written);
	if (vq_should_notify(q))
		d->dev.transport_ops->notify_driver(d->dev.transport, queue);
}

/* An error as the answer to a request of which only the header is known. */
static size_t answer_error(const struct fuse_in_header *h, int error, const struct iovec *in, unsigned n_in)
{
	const struct fuse_out_header out = {.len = sizeof(out), .error = error, .unique = h->unique};

	return iov_write(in, n_in, 0, &out, sizeof(out)) == sizeof(out) ? sizeof(out) : 0;
}

/* ---- threads ---- */

/* With the lock held, which is released meanwhile. */
static void do_job(struct worker *w, struct job *j)
{
	struct fs_dev *d = w->d;

	w->job = j;
	pthread_mutex_unlock(&d->lock);
	size_t n = fs_handle(d->server, &j->h, j->iov, j->n_out, j->iov + j->n_out, j->n_in, &j->interrupted);
	pthread_mutex_lock(&d->lock);
	w->job = NULL;
	push(d, j->queue, j->head, n);
	d->under_way[j->queue]--;
	pthread_cond_broadcast(&d->done);
	free(j);
}

static void *worker_main(void *data)
{
	struct worker *w = data;
	struct fs_dev *d = w->d;
	struct pool *p = &d->pools[w->kind];

	pthread_mutex_lock(&d->lock);
	for (;;) {
		struct job *j = p->first;
		if (j) {
			p->first = j->next;
			if (!p->first)
				p->last = &p->first;
			p->n_jobs--;
			do_job(w, j);
			continue;
		}
		if (d->ending)
			break;
		p->n_idle++;
		pthread_cond_wait(&p->work, &d->lock);
		p->n_idle--;
	}
	pthread_mutex_unlock(&d->lock);
	return NULL;
}

/* With the lock held. False: there is no room for another. */
static bool start_worker(struct fs_dev *d, enum pool_kind kind)
{
	struct pool *p = &d->pools[kind];
	sigset_t all, old;
	pthread_attr_t attr;

	if (p->n_threads == p->max)
		return false;
	struct worker *w = calloc(1, sizeof(*w));
	if (!w)
		return false;
	*w = (struct worker){.next = p->workers, .d = d, .kind = kind};
	sigfillset(&all);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	int r = pthread_create(&w->thread, &attr, worker_main, w);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	if (r != 0) {
		free(w);
		return false;
	}
	p->workers = w;
	p->n_threads++;
	return true;
}

/* Hands the loop's chain to a thread. False: there is none for it, and no memory to let it wait. */
static bool hand_over(struct fs_dev *d, unsigned queue, const struct fuse_in_header *h, enum pool_kind kind)
{
	const struct vq_chain *c = &d->chain;
	const size_t n = c->n_out + c->n_in;
	struct pool *p = &d->pools[kind];
	struct job *j = malloc(sizeof(*j) + n * sizeof(j->iov[0]));
	bool ok = j != NULL;

	if (!j)
		return false;
	*j = (struct job){.queue = queue, .head = c->head, .h = *h, .n_out = c->n_out, .n_in = c->n_in};
	memcpy(j->iov, c->iov, n * sizeof(j->iov[0]));
	pthread_mutex_lock(&d->lock);
	if (p->n_idle <= p->n_jobs) {
		bool started = start_worker(d, kind);
		ok = started || (kind == POOL_DATA && p->n_threads > 0);
	}
	if (ok) {
		*p->last = j;
		p->last = &j->next;
		p->n_jobs++;
		d->under_way[queue]++;
		pthread_cond_signal(&p->work);
	}
	pthread_mutex_unlock(&d->lock);
	if (!ok)
		free(j);
	return ok;
}

static void interrupt(struct fs_dev *d, struct job *j, unsigned queue, const uint64_t *unique)
{
	if (j && j->queue == queue && (!unique || j->h.unique == *unique))
		fs_interrupt(d->server, &j->interrupted);
}

/* With the lock held. Ends the waits for locks of the queue: of the request with the number, or all. */
static void interrupt_locks(struct fs_dev *d, unsigned queue, const uint64_t *unique)
{
	struct pool *p = &d->pools[POOL_LOCK];

	for (struct job *j = p->first; j; j = j->next)
		interrupt(d, j, queue, unique);
	for (struct worker *w = p->workers; w; w = w->next)
		interrupt(d, w->job, queue, unique);
}

/* ---- queues; on the loop's thread ---- */

static bool serve(struct fs_dev *d, unsigned queue, unsigned budget);

static void on_interrupt(struct fs_dev *d, unsigned queue, uint64_t unique)
{
	/* No more than the queue holds now: what comes later is not meant. One in the request queue itself is behind it anyway. */
	if (queue == FS_QUEUE_HIPRIO)
		(void)serve(d, FS_QUEUE_REQUEST, d->dev.vqs[FS_QUEUE_REQUEST].conf.size);
	pthread_mutex_lock(&d->lock);
	interrupt_locks(d, FS_QUEUE_REQUEST, &unique);
	pthread_mutex_unlock(&d->lock);
}

/* Returns how much of a turn it was. */
static unsigned handle(struct fs_dev *d, unsigned queue)
{
	const struct vq_chain *c = &d->chain;
	const struct iovec *in = c->iov + c->n_out;
	struct fuse_in_header h;
	uint64_t unique = 0;
	bool interrupts = false;
	size_t n = 0;

	/* The copy decides from here on: what the guest makes of the header meanwhile gets no lock's wait into another pool. */
	if (fs_header(c->iov, c->n_out, &h)) {
		const bool lock = h.opcode == FUSE_SETLKW || h.opcode == FUSE_WATCH_EVENTS;
		if (fs_may_block(&h, c->iov, c->n_out) &&
			hand_over(d, queue, &h, lock ? POOL_LOCK : POOL_DATA))
			return 1;
		/* Without memory for a thread the guest waits, but not for who cannot come. */
		n = lock ? answer_error(&h, h.opcode == FUSE_SETLKW ? -ENOLCK : -EINTR, in, c->n_in)
			 : fs_handle(d->server, &h, c->iov, c->n_out, in, c->n_in, NULL);
		interrupts = fs_interrupts(&h, c->iov, c->n_out, &unique);
	}
	pthread_mutex_lock(&d->lock);
	push(d, queue, c->head, n);
	pthread_mutex_unlock(&d->lock);
	if (!interrupts)
		return 1;
	on_interrupt(d, queue, unique); /* the chain is another then */
	return TURN_REQUESTS;
}

/* 2.1.2: after an error that only a reset mends, nothing more is taken from any queue. */
static void on_broken(struct fs_dev *d, unsigned queue)
{
	const char *why = d->dev.vqs[queue].why;

	pthread_mutex_lock(&d->lock);
	for (unsigned i = 0; i < FS_QUEUES; i++)
		vq_break(&d->dev.vqs[i], why);
	pthread_mutex_unlock(&d->lock);
	d->dev.transport_ops->needs_reset(d->dev.transport, queue, why);
}

/* Does what is there, up to so many requests. False: there is more. */
static bool serve(struct fs_dev *d, unsigned queue, unsigned budget)
{
	struct vq *q = &d->dev.vqs[queue];

	while (budget > 0) {
		pthread_mutex_lock(&d->lock);
		bool usable = vq_usable(q);
		int r = usable ? vq_pop(q, &d->chain) : 0;
		bool more = usable && r == 0 && vq_enable_notify(q);
		if (r > 0)
			vq_disable_notify(q);
		pthread_mutex_unlock(&d->lock);
		if (r < 0) {
			on_broken(d, queue);
			return true;
		}
		if (r > 0) {
			const unsigned used = handle(d, queue);
			budget -= MIN_OF(used, budget);
		} else if (!more) {
			return true;
		}
	}
	return false;
}

static void on_more(void *data)
{
	struct fs_dev *d = data;

	for (unsigned i = 0; i < FS_QUEUES; i++) {
		if (!serve(d, i, TURN_REQUESTS))
			loop_defer(d->more);
	}
}

/* Waits until no thread has a chain of the queue. */
static void drain(struct fs_dev *d, unsigned queue)
{
	pthread_mutex_lock(&d->lock);
	interrupt_locks(d, queue, NULL);
	while (d->under_way[queue] > 0)
		pthread_cond_wait(&d->done, &d->lock);
	pthread_mutex_unlock(&d->lock);
}

/* ---- device operations ---- */

/* What the driver is told is the front end's to say (vhost-user.c); in one process with it, the same. */
static void op_read_config(struct virtio_device *dev, uint32_t off, void *buf, uint32_t len)
{
	struct fs_space c = {.tag = FS_TAG, .num_request_queues = FS_QUEUES - FS_QUEUE_REQUEST};

	memset(buf, 0, len);
	if (off < sizeof(c))
		memcpy(buf, (const uint8_t *)&c + off, MIN_OF(len, sizeof(c) - off));
}

static void op_queue_notify(struct virtio_device *dev, unsigned queue)
{
	struct fs_dev *d = of_device(dev);

	if (!serve(d, queue, TURN_REQUESTS))
		loop_defer(d->more);
}

static void op_queue_started(struct virtio_device *dev, unsigned queue)
{
	loop_defer(of_device(dev)->more);
}

/* No more than the queue holds: a driver that goes on adding does not keep the loop. */
static void op_queue_stopping(struct virtio_device *dev, unsigned queue)
{
	struct fs_dev *d = of_device(dev);

	(void)serve(d, queue, d->dev.vqs[queue].conf.size);
	drain(d, queue);
}

static void op_reset(struct virtio_device *dev)
{
	struct fs_dev *d = of_device(dev);

	/* A front end may stop one queue and let others run, which a driver's reset never does. */
	for (unsigned i = 0; i < FS_QUEUES; i++)
		drain(d, i);
	fs_reset(d->server);
}

static const struct virtio_device_ops ops = {
	.read_config = op_read_config,
	.queue_started = op_queue_started,
	.queue_stopping = op_queue_stopping,
	.queue_notify = op_queue_notify,
	.reset = op_reset,
};

/* ---- life ---- */

int fs_device_new(struct loop *loop, struct fs_server *server, struct fs_dev **ret)
{
	static const unsigned max[POOLS] = {[POOL_DATA] = DATA_THREADS, [POOL_LOCK] = LOCK_THREADS};
	struct fs_dev *d = calloc(1, sizeof(*d));

	if (!d)
		return -ENOMEM;
	d->server = server;
	d->dev.ops = &ops;
	d->dev.id = VIRTIO_ID_FS;
	d->dev.features = VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX;
	d->dev.n_queues = FS_QUEUES;
	d->dev.holds_chains = true;
	pthread_mutex_init(&d->lock, NULL);
	pthread_cond_init(&d->done, NULL);
	for (unsigned i = 0; i < POOLS; i++) {
		struct pool *p = &d->pools[i];
		p->last = &p->first;
		p->max = max[i];
		pthread_cond_init(&p->work, NULL);
	}
	int r = loop_add_deferred(loop, on_more, d, &d->more);
	if (r < 0) {
		fs_device_free(d);
		return r;
	}
	*ret = d;
	return 0;
}

struct virtio_device *fs_device(struct fs_dev *d)
{
	return &d->dev;
}

void fs_device_free(struct fs_dev *d)
{
	if (!d)
		return;
	/* The transport stops its queues, so that nothing is under way any more. */
	if (d->dev.transport_ops)
		d->dev.transport_ops->device_gone(d->dev.transport);
	pthread_mutex_lock(&d->lock);
	d->ending = true;
	for (unsigned i = 0; i < POOLS; i++)
		pthread_cond_broadcast(&d->pools[i].work);
	pthread_mutex_unlock(&d->lock);
	for (unsigned i = 0; i < POOLS; i++) {
		struct pool *p = &d->pools[i];
		while (p->workers) {
			struct worker *w = p->workers;
			p->workers = w->next;
			pthread_join(w->thread, NULL);
			free(w);
		}
		pthread_cond_destroy(&p->work);
	}
	loop_source_free(d->more);
	pthread_cond_destroy(&d->done);
	pthread_mutex_destroy(&d->lock);
	free(d);
}
