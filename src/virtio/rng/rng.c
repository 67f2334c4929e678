/* SPDX-License-Identifier: MIT */
/*
 * THEORY OF OPERATION
 *
 * Requests are answered in the order of the queue, straight into guest memory, and paid for from a bucket that fills by
 * the clock. When it is empty the pump rests, and the driver's notifications are not heeded, until a timer has
 * let some in again: so a guest that asks without end costs the host a fixed small part of a processor. A request
 * may be answered with less than it has room for (5.4.6.2), so each gets what there is.
 */
#include <string.h>
#include <sys/random.h>

#include "base/io.h"
#include "rng/internal.h"

enum { QUEUE_REQUEST = 0, QUEUES = 1 }; /* 5.4.2 */

#define QUEUE_SIZE 8   /* Linux has one request under way */
#define CHUNK	   256 /* what getrandom(2) gives without being interrupted */
#define SECOND_NS  1000000000ULL

static struct rng_dev *of_device(struct virtio_device *d)
{
	return (struct rng_dev *)d;
}

static void refill(struct rng_dev *r)
{
	uint64_t now = r->now_ns();
	/* More than a second fills the bucket anyway, and this much cannot overflow. */
	uint64_t gone = now > r->counted_ns ? MIN_OF(now - r->counted_ns, SECOND_NS) : 0;
	uint64_t more = gone * r->per_second / SECOND_NS;

	if (more == 0)
		return; /* the time is not lost: it is counted when it is worth a byte */
	r->tokens = MIN_OF(r->tokens + more, r->burst);
	r->counted_ns = now;
}

/* Fills one segment as far as the bucket allows. Less than len: it is empty, or *failed. */
static size_t fill_segment(struct rng_dev *r, uint8_t *p, size_t len, bool *failed)
{
	size_t done = 0;

	/* Each chunk pays the minimum at least, so that a chain of single bytes is not cheap. */
	while (done < len && r->tokens >= RNG_COST_MIN) {
		size_t want = MIN_OF(MIN_OF(len - done, r->tokens), CHUNK);
		ssize_t n = getrandom(p + done, want, GRND_NONBLOCK);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			*failed = true; /* a host that is just booting, or memory that is gone */
			break;
		}
		done += (size_t)n;
		r->tokens -= MIN_OF(r->tokens, MAX_OF((uint64_t)n, RNG_COST_MIN));
	}
	return done;
}

static enum pump_verdict on_request(
	struct virtio_device *d, unsigned queue, const struct vq_chain *c, uint32_t *written)
{
	struct rng_dev *r = of_device(d);
	bool failed = false;
	size_t done = 0;

	if (r->tokens < RNG_COST_MIN)
		return PUMP_LATER;
	if (c->n_in == 0) { /* 5.4.6.1 forbids what it has instead: nobody reads that */
		r->tokens -= RNG_COST_MIN;
		return PUMP_USED;
	}
	for (unsigned i = 0; i < c->n_in; i++) {
		const struct iovec *v = &c->iov[c->n_out + i];
		size_t n = fill_segment(r, v->iov_base, v->iov_len, &failed);
		done += n;
		if (n < v->iov_len)
			break;
	}
	*written = (uint32_t)done;
	/* 5.4.6.2: one byte at least; when there is none, it is tried again later */
	return done > 0 ? PUMP_USED : PUMP_LATER;
}

static void rng_work(void *data)
{
	struct rng_dev *r = data;

	if (r->waiting)
		return;
	refill(r);
	/* The bucket bounds the work of a turn: it holds some hundred requests at the minimum. */
	if (pump_run(&r->dev, QUEUE_REQUEST, &r->chain, UINT32_MAX, on_request) == PUMP_STOPPED) {
		r->waiting = true;
		loop_set_timer(r->timer, r->tick_ns);
	}
}

static void on_timer(void *data)
{
	struct rng_dev *r = data;

	r->waiting = false;
	loop_defer(r->work);
}

/* ---- device operations ---- */

/* 5.4.4: there is no configuration */
static void op_read_config(struct virtio_device *d, uint32_t off, void *buf, uint32_t len)
{
	memset(buf, 0, len);
}

static void op_queue_started(struct virtio_device *d, unsigned queue)
{
	loop_defer(of_device(d)->work);
}

/* Requests that are not answered yet stay in the queue: nobody waits for them across a stop. */
static void op_queue_stopping(struct virtio_device *d, unsigned queue)
{
}

static void op_queue_notify(struct virtio_device *d, unsigned queue)
{
	loop_defer(of_device(d)->work);
}

/* The bucket is not filled: resets would be a way around it. */
static void op_reset(struct virtio_device *d)
{
}

static const struct virtio_device_ops ops = {
	.read_config = op_read_config,
	.queue_started = op_queue_started,
	.queue_stopping = op_queue_stopping,
	.queue_notify = op_queue_notify,
	.reset = op_reset,
};

/* ---- life ---- */

void rng_set_limits(
	struct rng_dev *r, uint32_t burst, uint32_t per_second, uint64_t tick_ns, uint64_t (*now_ns)(void))
{
	r->burst = burst;
	r->per_second = per_second;
	r->tick_ns = tick_ns;
	r->now_ns = now_ns;
	r->tokens = burst;
	r->counted_ns = now_ns();
}

int rng_new(struct loop *loop, struct rng_dev **ret)
{
	CLEANUP(rng_freep) struct rng_dev *r = calloc(1, sizeof(*r));
	if (!r)
		return -ENOMEM;
	r->dev.ops = &ops;
	r->dev.id = VIRTIO_ID_ENTROPY;
	r->dev.features = VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX;
	r->dev.n_queues = QUEUES;
	r->dev.queue_size = QUEUE_SIZE;
	rng_set_limits(r, RNG_BURST, RNG_PER_SECOND, RNG_TICK_NS, time_mono_ns);

	int e = loop_add_deferred(loop, rng_work, r, &r->work);
	if (e < 0)
		return e;
	e = loop_add_timer(loop, UINT64_MAX, on_timer, r, &r->timer);
	if (e < 0)
		return e;
	*ret = TAKE_PTR(r);
	return 0;
}

struct virtio_device *rng_device(struct rng_dev *r)
{
	return &r->dev;
}

void rng_free(struct rng_dev *r)
{
	if (!r)
		return;
	if (r->dev.transport_ops)
		r->dev.transport_ops->device_gone(r->dev.transport);
	loop_source_free(r->timer);
	loop_source_free(r->work);
	free(r);
}
