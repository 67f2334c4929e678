/* SPDX-License-Identifier: MIT */
/*
 * THEORY OF OPERATION
 *
 * Inflate requests name pages by number, reports are the free memory itself, as buffers. Both end in `give`, which
 * joins what is consecutive to one call of discard, and lets nothing through that is not whole pages inside of one
 * region of guest memory. Linux takes the pages of a request from lists, so their numbers are put in order first.
 *
 * MUST_TELL_HOST is not offered: pages come back from the balloon as soon as the guest touches them, and what it puts
 * into the deflate queue is only returned. A page is discarded before its request is returned, and never after
 * (5.5.6.2, 5.5.6.7.2): by then it may be in use again.
 *
 * A long inflate request is done over several turns; between them its chain lies in the queue, and only the count of
 * pages done is kept. Starting again from its beginning, as after a restore, does no harm, for all its pages
 * are still the balloon's.
 *
 * Statistics (5.5.6.3): the driver lets us have a buffer with its figures, and returning it asks for the next. So we
 * keep one, except across a stop, for which it goes back into the queue unseen.
 */
#include <endian.h>
#include <string.h>

#include "pump.h"
#include "virtio/balloon.h"

#define F_STATS_VQ	 (1ULL << 1) /* 5.5.3 */
#define F_DEFLATE_ON_OOM (1ULL << 2)
#define F_REPORTING	 (1ULL << 5)

/*
 * 5.5.2 numbers the queues 0 to 4, each fixed, with gaps where a feature is missing. Linux (6.12, vm_find_vqs) leaves
 * no gaps. Both can be served at once: no number means two things under one set of features (see role_of).
 */
#define QUEUES	   5
#define QUEUE_SIZE 64 /* Linux reports 32 ranges at once */

enum role { ROLE_NONE, ROLE_INFLATE, ROLE_DEFLATE, ROLE_STATS, ROLE_REPORT };

#define PFN_SHIFT  12 /* 5.5.6: whatever the guest's page size is */
#define PAGE	   (1ULL << PFN_SHIFT)
#define BATCH	   256		/* pages put in order at a time; what Linux sends */
#define STATS_MAX  64		/* entries looked at */
#define FREE_QUICK (256 * 1024) /* bytes that are as quickly freed as discard is called */

/* Per turn and queue: chains, and pages or ranges (a page, or FREE_QUICK bytes of a range, is one). */
#define BUDGET_CHAINS 64
#define BUDGET_GIVE   1024u

struct balloon_space { /* 5.5.4, little endian; without free page hints and poison value */
	uint32_t num_pages, actual;
};

#define STATE_VERSION 1
struct balloon_state {
	uint32_t version;
	uint32_t target, actual; /* pages */
};

/* Memory on its way to discard. */
struct run {
	uint64_t gpa, len;
};

struct balloon_dev {
	struct virtio_device dev; /* first: the transport's pointer is ours */
	struct balloon_config conf;
	struct loop_source *work;
	uint32_t max_pages, target, actual; /* pages */

	uint32_t inflate_done; /* pages of the first chain in the inflate queue that are given already */
	uint64_t budget;       /* left of this run */
	struct run run;

	bool stats_held; /* the driver's buffer is with us */
	uint16_t stats_head;
	struct balloon_stats stats; /* target and actual are filled in when asked for */

	struct vq_chain chain;
	uint32_t batch[BATCH];
};

static struct balloon_dev *of_device(struct virtio_device *d)
{
	return (struct balloon_dev *)d;
}

static enum role role_of(const struct balloon_dev *b, unsigned queue)
{
	bool stats = b->dev.negotiated & F_STATS_VQ, report = b->dev.negotiated & F_REPORTING;

	switch (queue) {
	case 0:
		return ROLE_INFLATE;
	case 1:
		return ROLE_DEFLATE;
	case 2:
		return stats ? ROLE_STATS : report ? ROLE_REPORT : ROLE_NONE;
	case 3: /* fixed: free page hints, which are not offered */
		return stats && report ? ROLE_REPORT : ROLE_NONE;
	case 4:
		return report ? ROLE_REPORT : ROLE_NONE;
	default:
		return ROLE_NONE;
	}
}

/* ---- giving memory back ---- */

static void give_rest(struct balloon_dev *b)
{
	if (b->run.len > 0)
		b->conf.discard(b->conf.data, b->run.gpa, b->run.len);
	b->run.len = 0;
}

/* A range of whole pages. False: it is not the guest's. */
static bool give(struct balloon_dev *b, const struct guest_mem *mem, uint64_t gpa, uint64_t len)
{
	if (!guest_mem_at(mem, gpa, len)) {
		b->stats.refused++;
		return false;
	}
	/* Two regions may meet in the guest and still be two mappings here. */
	if (b->run.len > 0 && gpa == b->run.gpa + b->run.len &&
		guest_mem_at(mem, b->run.gpa, b->run.len + len)) {
		b->run.len += len;
		return true;
	}
	give_rest(b);
	b->run = (struct run){gpa, len};
	return true;
}

/*
 * By insertion: a driver's lists are nearly in order, and a batch is short. Not by qsort, which asks the kernel how much
 * memory there is: the monitor's filter on system calls forbids it.
 */
static void sort_pfns(uint32_t *v, size_t n)
{
	for (size_t i = 1; i < n; i++) {
		uint32_t x = v[i];
		size_t at = i;
		for (; at > 0 && v[at - 1] > x; at--)
			v[at] = v[at - 1];
		v[at] = x;
	}
}

static void give_batch(struct balloon_dev *b, const struct guest_mem *mem, size_t n)
{
	for (size_t i = 0; i < n; i++)
		b->batch[i] = le32toh(b->batch[i]);
	sort_pfns(b->batch, n);
	for (size_t i = 0; i < n; i++) {
		if (i == 0 || b->batch[i] != b->batch[i - 1])
			give(b, mem, (uint64_t)b->batch[i] << PFN_SHIFT, PAGE);
	}
	give_rest(b);
}

/* 5.5.6: an array of le32 page numbers. What follows the last whole one is ignored, and what is beyond all there are. */
static enum pump_verdict on_inflate(
	struct virtio_device *d, unsigned queue, const struct vq_chain *c, uint32_t *written)
{
	struct balloon_dev *b = of_device(d);
	uint32_t total = MIN_OF(c->out_len / (uint32_t)sizeof(b->batch[0]), b->max_pages);

	/* The guest may have made the chain shorter since it was taken last; then it is done. */
	while (b->inflate_done < total) {
		size_t n = MIN_OF(MIN_OF(total - b->inflate_done, b->budget), BATCH);
		if (n == 0)
			return PUMP_LATER;
		iov_read(c->iov, c->n_out, sizeof(b->batch[0]) * (size_t)b->inflate_done, b->batch,
			sizeof(b->batch[0]) * n);
		give_batch(b, d->vqs[queue].mem, n);
		b->inflate_done += (uint32_t)n;
		b->budget -= n;
	}
	b->inflate_done = 0;
	return PUMP_USED;
}

static enum pump_verdict on_deflate(
	struct virtio_device *d, unsigned queue, const struct vq_chain *c, uint32_t *written)
{
	return PUMP_USED;
}

/* 5.5.6.7: the writable parts are free memory. Pages of which only a part is free are left alone. */
static enum pump_verdict on_report(
	struct virtio_device *d, unsigned queue, const struct vq_chain *c, uint32_t *written)
{
	struct balloon_dev *b = of_device(d);
	const struct guest_mem *mem = d->vqs[queue].mem;

	if (b->budget == 0)
		return PUMP_LATER;
	for (unsigned i = 0; i < c->n_in; i++) {
		const struct iovec *v = &c->iov[c->n_out + i];
		uint64_t gpa, cost = 1 + v->iov_len / FREE_QUICK;
		b->budget -= MIN_OF(b->budget, cost);
		/* The host has the range, so it is in a region, and its end cannot overflow. */
		if (!guest_mem_gpa_of(mem, v->iov_base, v->iov_len, &gpa))
			continue;
		uint64_t start = (gpa + PAGE - 1) / PAGE * PAGE, end = (gpa + v->iov_len) / PAGE * PAGE;
		if (start < end && give(b, mem, start, end - start))
			b->stats.reported += end - start;
	}
	give_rest(b);
	return PUMP_USED;
}

/* ---- statistics ---- */

static uint64_t *stat_of(struct balloon_stats *s, uint16_t tag)
{
	switch (tag) { /* 5.5.6.4 */
	case 0:
		return &s->swapped_in;
	case 1:
		return &s->swapped_out;
	case 2:
		return &s->major_faults;
	case 3:
		return &s->minor_faults;
	case 4:
		return &s->free;
	case 5:
		return &s->total;
	case 6:
		return &s->available;
	case 7:
		return &s->disk_caches;
	default:
		return NULL; /* 5.5.6.3.2: unknown ones are ignored */
	}
}

static void forget_stats(struct balloon_dev *b)
{
	for (uint16_t tag = 0; stat_of(&b->stats, tag); tag++)
		*stat_of(&b->stats, tag) = UINT64_MAX;
}

static enum pump_verdict on_stats(
	struct virtio_device *d, unsigned queue, const struct vq_chain *c, uint32_t *written)
{
	struct balloon_dev *b = of_device(d);

	for (size_t i = 0; i < STATS_MAX; i++) {
		struct {
			uint16_t tag;
			uint64_t val;
		} __attribute__((packed)) e;
		if (iov_read(c->iov, c->n_out, i * sizeof(e), &e, sizeof(e)) < sizeof(e))
			break;
		uint64_t *stat = stat_of(&b->stats, le16toh(e.tag));
		if (stat)
			*stat = le64toh(e.val);
	}
	b->stats_held = true;
	b->stats_head = c->head;
	return PUMP_HOLD;
}

/* The queue of the statistics, or NULL. */
static struct vq *stats_queue(struct balloon_dev *b)
{
	return role_of(b, 2) == ROLE_STATS ? &b->dev.vqs[2] : NULL;
}

void balloon_stats(struct balloon_dev *b, struct balloon_stats *ret)
{
	struct vq *q = stats_queue(b);

	*ret = b->stats;
	ret->target = (uint64_t)b->target << PFN_SHIFT;
	ret->actual = (uint64_t)b->actual << PFN_SHIFT;
	if (!b->stats_held || !q)
		return;
	b->stats_held = false;
	vq_push(q, b->stats_head, 0);
	pump_notify(&b->dev, 2);
	loop_defer(b->work); /* to be told of the next */
}

/* ---- work ---- */

/* Returns true when it stopped only because its budget was spent. */
static bool queue_pump(struct balloon_dev *b, unsigned queue, pump_fn fn)
{
	b->budget = BUDGET_GIVE;
	enum pump_end end = pump_run(&b->dev, queue, &b->chain, BUDGET_CHAINS, fn);
	return end == PUMP_MORE || (end == PUMP_STOPPED && b->budget == 0);
}

static void balloon_work(void *data)
{
	struct balloon_dev *b = data;
	bool more = false;

	for (unsigned i = 0; i < QUEUES; i++) {
		switch (role_of(b, i)) {
		case ROLE_INFLATE:
			more |= queue_pump(b, i, on_inflate);
			break;
		case ROLE_DEFLATE:
			more |= queue_pump(b, i, on_deflate);
			break;
		case ROLE_REPORT:
			more |= queue_pump(b, i, on_report);
			break;
		case ROLE_STATS: /* 5.5.6.3.1: the driver has one buffer; a second one waits */
			if (!b->stats_held)
				pump_run(&b->dev, i, &b->chain, 1, on_stats);
			break;
		case ROLE_NONE:
			break;
		}
	}
	if (more)
		loop_defer(b->work);
}

/* ---- device operations ---- */

static void op_read_config(struct virtio_device *d, uint32_t off, void *buf, uint32_t len)
{
	const struct balloon_dev *b = of_device(d);
	const struct balloon_space space = {.num_pages = htole32(b->target), .actual = htole32(b->actual)};

	pump_read_config(&space, sizeof(space), off, buf, len);
}

/* 4.2.2.2: a field is written as a whole. Only `actual` is the driver's. */
static void op_write_config(struct virtio_device *d, uint32_t off, const void *buf, uint32_t len)
{
	struct balloon_dev *b = of_device(d);
	uint32_t v;

	if (off != offsetof(struct balloon_space, actual) || len != sizeof(v))
		return;
	memcpy(&v, buf, sizeof(v));
	b->actual = MIN_OF(le32toh(v), b->max_pages);
}

static void op_queue_started(struct virtio_device *d, unsigned queue)
{
	loop_defer(of_device(d)->work);
}

static void op_queue_stopping(struct virtio_device *d, unsigned queue)
{
	struct balloon_dev *b = of_device(d);
	struct vq *q = stats_queue(b);

	/* No other chain of this queue was taken since, so this is still "directly after". */
	if (b->stats_held && q == &d->vqs[queue]) {
		b->stats_held = false;
		vq_unpop(q);
	}
}

static void op_queue_notify(struct virtio_device *d, unsigned queue)
{
	loop_defer(of_device(d)->work);
}

/* A driver that starts afresh has an empty balloon. What we want of it stays. */
static void op_reset(struct virtio_device *d)
{
	struct balloon_dev *b = of_device(d);

	b->actual = 0;
	b->inflate_done = 0;
	b->stats_held = false;
	forget_stats(b);
}

static size_t op_save(struct virtio_device *d, void *buf)
{
	const struct balloon_dev *b = of_device(d);
	const struct balloon_state s = {.version = STATE_VERSION, .target = b->target, .actual = b->actual};

	memcpy(buf, &s, sizeof(s));
	return sizeof(s);
}

static int op_restore(struct virtio_device *d, const void *buf, size_t len)
{
	struct balloon_dev *b = of_device(d);
	struct balloon_state s;

	if (len != sizeof(s))
		return -EINVAL;
	memcpy(&s, buf, sizeof(s));
	if (s.version != STATE_VERSION || s.target > b->max_pages || s.actual > b->max_pages)
		return -EINVAL;
	b->target = s.target;
	b->actual = s.actual;
	return 0;
}

static const struct virtio_device_ops ops = {
	.read_config = op_read_config,
	.write_config = op_write_config,
	.queue_started = op_queue_started,
	.queue_stopping = op_queue_stopping,
	.queue_notify = op_queue_notify,
	.reset = op_reset,
	.save = op_save,
	.restore = op_restore,
};

/* ---- life ---- */

int balloon_new(struct loop *loop, const struct balloon_config *c, struct balloon_dev **ret)
{
	if (!c->discard || c->mem_bytes >> PFN_SHIFT > UINT32_MAX)
		return -EINVAL;
	CLEANUP(balloon_freep) struct balloon_dev *b = calloc(1, sizeof(*b));
	if (!b)
		return -ENOMEM;
	b->dev.ops = &ops;
	b->dev.id = VIRTIO_ID_BALLOON;
	b->dev.features = VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX | F_STATS_VQ |
			  F_DEFLATE_ON_OOM | F_REPORTING;
	b->dev.n_queues = QUEUES;
	b->dev.queue_size = QUEUE_SIZE;
	b->conf = *c;
	b->max_pages = (uint32_t)(c->mem_bytes >> PFN_SHIFT);
	forget_stats(b);

	int r = loop_add_deferred(loop, balloon_work, b, &b->work);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(b);
	return 0;
}

struct virtio_device *balloon_device(struct balloon_dev *b)
{
	return &b->dev;
}

int balloon_set_target(struct balloon_dev *b, uint64_t bytes)
{
	uint64_t pages = bytes >> PFN_SHIFT;

	if (pages > b->max_pages)
		return -EINVAL;
	if (pages == b->target)
		return 0;
	b->target = (uint32_t)pages;
	pump_config_changed(&b->dev); /* 5.5.6: the driver looks at num_pages */
	return 0;
}

void balloon_free(struct balloon_dev *b)
{
	if (!b)
		return;
	if (b->dev.transport_ops)
		b->dev.transport_ops->device_gone(b->dev.transport);
	loop_source_free(b->work);
	free(b);
}
