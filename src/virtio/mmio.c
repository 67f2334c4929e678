/* SPDX-License-Identifier: MIT */
/*
 * THEORY OF OPERATION
 *
 * A register file, used by the threads of the guest's processors, in front of a device that belongs to the thread of
 * the loop. Two rules keep them apart:
 *
 *   - Registers lie under `lock`, which is never held while the device is called, nor while the loop is waited for.
 *   - What starts, stops, resets or configures the device (Status, QueueReady, writes to configuration) is carried to
 *     the loop by loop_call; the processor waits until it is done, so that the driver's next read sees it (2.4,
 *     4.2.2.2).
 *
 * A queue runs when the driver has set DRIVER_OK and its QueueReady, in whatever order (sync_queues); nothing of its
 * memory is touched before (2.1.2). What a driver may not write stays as it was; a queue that cannot run asks for a
 * reset of the device (2.1.2).
 *
 * Interrupts are eventfd writes from any thread; bit 0 of InterruptStatus is always set (see the header), so that
 * telling of used buffers needs no lock.
 */
#include "virtio/mmio.h"

#include <endian.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>

#include "base/log.h"
#include "mmio-page.h"
#include "mmio-regs.h"

struct queue {
	struct virtio_mmio *m;
	unsigned index;
	int kick_fd;
	struct loop_source *kick_src; /* NULL: the device watches the descriptor itself */

	/* Registers, under lock; next_avail is the loop's: where a queue that was suspended goes on. */
	struct virtio_mmio_queue regs;

	/* of the loop's thread */
	bool running;
	bool starting; /* between the two passes of start_queues */
};

struct virtio_mmio {
	struct loop *loop;
	struct virtio_device *dev; /* of the loop's thread; NULL once freed by its owner */
	const struct guest_mem *mem;
	int irq_fd;

	/* Copies of what never changes, for all threads. */
	uint32_t device_id;
	uint64_t device_features;
	uint16_t queue_max;
	unsigned n_queues;

	pthread_mutex_t lock; /* registers: all below, and those of the queues */
	uint32_t status, queue_sel, device_features_sel, driver_features_sel;
	uint64_t driver_features;
	uint32_t interrupt_status;
	struct mmio_page page; /* written under lock; read by the guest at any time */
	struct queue queues[VIRTIO_QUEUES_MAX];

	uint64_t kicks, interrupts, accesses; /* atomic */
};

static void count(uint64_t *n)
{
	__atomic_fetch_add(n, 1, __ATOMIC_RELAXED);
}

static void signal_fd(int fd)
{
	const uint64_t one = 1;
	ssize_t n = write(fd, &one, sizeof(one)); /* never blocks: the counter's end is centuries away */
	(void)n;
}

static void interrupt(struct virtio_mmio *m)
{
	count(&m->interrupts);
	signal_fd(m->irq_fd);
}

/* ---- the page; all under lock ---- */

/* 4.2.2: bit 0 is always set, which the header explains. */
static void put_interrupt_status(struct virtio_mmio *m, uint32_t v)
{
	m->interrupt_status = v | VIRTIO_MMIO_INT_USED;
	mmio_page_put(&m->page, VIRTIO_MMIO_INT_STATUS, m->interrupt_status);
}

static void put_status(struct virtio_mmio *m, uint32_t v)
{
	m->status = v;
	mmio_page_put(&m->page, REG_STATUS, v);
}

/* Shows what the device's configuration is now. On the loop's thread, without lock. */
static void refresh_config(struct virtio_mmio *m)
{
	uint32_t config[CONFIG_WORDS] = {0};

	if (m->dev)
		m->dev->ops->read_config(m->dev, 0, config, sizeof(config));
	pthread_mutex_lock(&m->lock);
	mmio_page_put_config(&m->page, config);
	pthread_mutex_unlock(&m->lock);
}

/* ---- what the device asks of its transport ---- */

static void transport_notify_driver(void *transport, unsigned queue)
{
	interrupt(transport);
}

/*
 * 2.3: before DRIVER_OK nobody would hear it; the bit stands, and set_status tells as soon as somebody does.
 * Nobody is there at all as long as Status is 0.
 */
static void raise_config(struct virtio_mmio *m, uint32_t add_status)
{
	bool tell = false;

	pthread_mutex_lock(&m->lock);
	if (m->status) {
		put_status(m, m->status | add_status);
		put_interrupt_status(m, m->interrupt_status | VIRTIO_MMIO_INT_CONFIG);
		tell = m->status & STATUS_DRIVER_OK;
	}
	pthread_mutex_unlock(&m->lock);
	if (tell)
		interrupt(m);
}

static void transport_config_changed(void *transport)
{
	refresh_config(transport);
	raise_config(transport, 0);
}

/* 2.1.2: DEVICE_NEEDS_RESET, and with DRIVER_OK a configuration change notification */
static void transport_needs_reset(void *transport, unsigned queue, const char *why)
{
	struct virtio_mmio *m = transport;

	log_debug("virtio-mmio: device %u, queue %u is broken: %s", m->device_id, queue, why ? why : "?");
	raise_config(m, STATUS_NEEDS_RESET);
}

/* ---- queues; on the loop's thread ---- */

static void stop_queue(struct queue *q)
{
	struct virtio_device *dev = q->m->dev;

	if (q->running) {
		dev->ops->queue_stopping(dev, q->index);
		vq_stop(&dev->vqs[q->index]);
		q->running = false;
	}
	q->regs.next_avail = 0;
}

static void stop_queues(struct virtio_mmio *m)
{
	for (unsigned i = 0; i < m->n_queues; i++)
		stop_queue(&m->queues[i]);
}

static void transport_device_gone(void *transport)
{
	struct virtio_mmio *m = transport;

	stop_queues(m);
	m->dev = NULL;
}

static const struct virtio_transport_ops transport_ops = {
	.notify_driver = transport_notify_driver,
	.config_changed = transport_config_changed,
	.needs_reset = transport_needs_reset,
	.device_gone = transport_device_gone,
};

/* The registers of a queue and the features as vq_init wants them. False when it should not run. */
static bool queue_config(struct queue *q, struct vq_config *ret)
{
	struct virtio_mmio *m = q->m;

	pthread_mutex_lock(&m->lock);
	uint32_t told = m->status & (STATUS_DRIVER_OK | STATUS_FAILED | STATUS_NEEDS_RESET);
	bool run = told == STATUS_DRIVER_OK && q->regs.ready;
	*ret = (struct vq_config){
		.size = q->regs.size,
		.event_idx = m->driver_features & VIRTIO_F_EVENT_IDX,
		.indirect = m->driver_features & VIRTIO_F_INDIRECT_DESC,
		.next_avail = q->regs.next_avail,
		.desc = q->regs.desc,
		.avail = q->regs.avail,
		.used = q->regs.used,
	};
	pthread_mutex_unlock(&m->lock);
	return run;
}

/*
 * Starts the queues that should run and do not: all of them, or none and -EINVAL or -EFAULT, before the device has
 * seen any.
 */
static int start_queues(struct virtio_mmio *m)
{
	struct virtio_device *dev = m->dev;
	int r = 0;

	if (!dev)
		return 0;
	for (unsigned i = 0; i < m->n_queues && r == 0; i++) {
		struct queue *q = &m->queues[i];
		struct vq_config conf;
		if (q->running || !queue_config(q, &conf))
			continue;
		r = vq_init(&dev->vqs[i], m->mem, &conf);
		q->starting = r == 0;
	}
	for (unsigned i = 0; i < m->n_queues; i++) {
		struct queue *q = &m->queues[i];
		if (!q->starting)
			continue;
		q->starting = false;
		if (r < 0) {
			vq_stop(&dev->vqs[i]);
			continue;
		}
		q->running = true;
		dev->ops->queue_started(dev, i);
	}
	return r;
}

/* As start_queues, for what the driver just asked for. */
static void sync_queues(struct virtio_mmio *m)
{
	if (start_queues(m) < 0)
		transport_needs_reset(m, 0, "4.2.3.2: a queue was made ready that cannot run");
}

static void on_kick(void *data, int fd, uint32_t events)
{
	struct queue *q = data;
	uint64_t n;

	/* 2.1.2: notifications before DRIVER_OK mean nothing */
	if (read(fd, &n, sizeof(n)) != sizeof(n) || !q->running)
		return;
	count(&q->m->kicks);
	q->m->dev->ops->queue_notify(q->m->dev, q->index);
}

/* ---- what a driver's write does to the device; on the loop's thread ---- */

/* 2.4, 4.2.2.1: as after power-on. The driver may have done so at any moment. */
static void reset(struct virtio_mmio *m)
{
	stop_queues(m);
	if (m->dev) {
		m->dev->ops->reset(m->dev);
		m->dev->negotiated = 0;
	}
	refresh_config(m);
	pthread_mutex_lock(&m->lock);
	m->queue_sel = m->device_features_sel = m->driver_features_sel = 0;
	m->driver_features = 0;
	for (unsigned i = 0; i < m->n_queues; i++)
		m->queues[i].regs = (struct virtio_mmio_queue){0};
	put_interrupt_status(m, 0);
	put_status(m, 0);
	pthread_mutex_unlock(&m->lock);
}

/* 2.2.2: a subset of what was offered. 6.1: and with VERSION_1, for we speak nothing older. */
static bool features_acceptable(const struct virtio_mmio *m)
{
	return !(m->driver_features & ~m->device_features) && m->driver_features & VIRTIO_F_VERSION_1;
}

/* 2.1.1, 3.1.1: the driver only ever adds bits, FEATURES_OK after its features and DRIVER_OK after that; 0 resets. */
static void set_status(struct virtio_mmio *m, uint32_t v)
{
	if (v == 0) {
		reset(m);
		return;
	}
	pthread_mutex_lock(&m->lock);
	uint32_t before = m->status, now = before | (v & STATUS_OF_DRIVER);
	if (now & ~before & STATUS_FEATURES_OK && (!(now & STATUS_DRIVER) || !features_acceptable(m)))
		now &= ~(uint32_t)STATUS_FEATURES_OK;
	if (!(now & STATUS_FEATURES_OK))
		now &= ~(uint32_t)STATUS_DRIVER_OK;
	put_status(m, now);
	uint64_t features = now & STATUS_FEATURES_OK ? m->driver_features : 0;
	bool missed = now & ~before & STATUS_DRIVER_OK && m->interrupt_status & VIRTIO_MMIO_INT_CONFIG;
	pthread_mutex_unlock(&m->lock);

	if (m->dev)
		m->dev->negotiated = features;
	if (missed)
		interrupt(m);
	if (now & STATUS_FAILED)
		stop_queues(m); /* 2.1: the driver has given up; what its memory serves is anybody's guess */
	else
		sync_queues(m);
}

/* 4.2.2.2: QueueReady. 0 returns when the queue is not used any more. */
static void set_queue_ready(struct queue *q, bool ready)
{
	if (!ready)
		stop_queue(q);
	pthread_mutex_lock(&q->m->lock);
	q->regs.ready = ready;
	pthread_mutex_unlock(&q->m->lock);
	if (ready)
		sync_queues(q->m);
}

/* 3.1.1: configuration may be read at any time, but written only when the features are settled */
static void write_config(struct virtio_mmio *m, uint32_t off, const void *buf, uint32_t len)
{
	/* Features are never none once FEATURES_OK is set: VERSION_1 is one. */
	if (!m->dev || !m->dev->ops->write_config || !(m->dev->negotiated || m->dev->early_config))
		return;
	m->dev->ops->write_config(m->dev, off, buf, len);
	refresh_config(m);
}

/* A write on its way to the loop's thread. */
struct carried {
	struct virtio_mmio *m;
	struct queue *queue; /* that was selected */
	uint32_t off, v;
	const void *buf;
	uint32_t len;
};

static void on_carried(void *data)
{
	const struct carried *c = data;

	if (c->off >= REG_CONFIG)
		write_config(c->m, c->off - REG_CONFIG, c->buf, c->len);
	else if (c->off == REG_STATUS)
		set_status(c->m, c->v);
	else
		set_queue_ready(c->queue, c->v);
}

/* ---- registers; on a processor's thread, under lock ---- */

static struct queue *selected(struct virtio_mmio *m)
{
	return m->queue_sel < m->n_queues ? &m->queues[m->queue_sel] : NULL;
}

/* 4.2.2: the registers in front of the page. Write-only ones and holes read as 0. */
static uint32_t read_register(struct virtio_mmio *m, uint32_t off)
{
	const struct queue *q = selected(m);

	switch (off) {
	case REG_MAGIC:
		return MAGIC;
	case REG_VERSION:
		return VERSION;
	case REG_DEVICE_ID:
		return m->device_id;
	case REG_VENDOR_ID:
		return VENDOR;
	case REG_DEVICE_FEATURES:
		return m->device_features_sel < 2
			       ? (uint32_t)(m->device_features >> (32 * m->device_features_sel))
			       : 0;
	case REG_QUEUE_NUM_MAX:
		return q ? m->queue_max : 0;
	case REG_QUEUE_READY:
		return q ? q->regs.ready : 0;
	default:
		return 0;
	}
}

/* 4.2.2.2: not while the queue is ready; there may be no such queue */
static void write_queue_register(struct queue *q, uint32_t off, uint32_t v)
{
	if (!q || q->regs.ready)
		return;
	if (off == REG_QUEUE_NUM) { /* whether vq_init likes it shows when the queue starts */
		q->regs.size = v <= q->m->queue_max ? (uint16_t)v : 0;
		return;
	}
	uint32_t low = off & ~4U;
	uint64_t *reg = low == REG_QUEUE_DESC	  ? &q->regs.desc
			: low == REG_QUEUE_DRIVER ? &q->regs.avail
						  : &q->regs.used;
	put_half(reg, off != low, v);
}

/* 4.2.2: all but Status and QueueReady. Read-only ones and holes ignore it. */
static void write_register(struct virtio_mmio *m, uint32_t off, uint32_t v)
{
	switch (off) {
	case REG_DEVICE_FEATURES_SEL:
		m->device_features_sel = v;
		break;
	case REG_DRIVER_FEATURES: /* 2.2.1: settled by FEATURES_OK; there are no more than 64 */
		if (m->driver_features_sel < 2 && !(m->status & STATUS_FEATURES_OK))
			put_half(&m->driver_features, m->driver_features_sel == 1, v);
		break;
	case REG_DRIVER_FEATURES_SEL:
		m->driver_features_sel = v;
		break;
	case REG_QUEUE_SEL:
		m->queue_sel = v;
		break;
	case REG_QUEUE_NUM:
	case REG_QUEUE_DESC:
	case REG_QUEUE_DESC + 4:
	case REG_QUEUE_DRIVER:
	case REG_QUEUE_DRIVER + 4:
	case REG_QUEUE_DEVICE:
	case REG_QUEUE_DEVICE + 4:
		write_queue_register(selected(m), off, v);
		break;
	case VIRTIO_MMIO_QUEUE_NOTIFY: /* 4.2.2: the queue's index */
		if (v < m->n_queues)
			signal_fd(m->queues[v].kick_fd);
		break;
	case VIRTIO_MMIO_INT_ACK:
		put_interrupt_status(m, m->interrupt_status & ~v);
	}
}

void virtio_mmio_read(struct virtio_mmio *m, uint32_t off, void *buf, uint32_t len)
{
	count(&m->accesses);
	memset(buf, 0, len);
	if (!is_access(off, len))
		return;
	pthread_mutex_lock(&m->lock);
	if (off >= VIRTIO_MMIO_PAGE_AT) {
		mmio_page_read(&m->page, off, buf, len);
	} else {
		uint32_t v = htole32(read_register(m, off));
		memcpy(buf, &v, sizeof(v));
	}
	pthread_mutex_unlock(&m->lock);
}

void virtio_mmio_write(struct virtio_mmio *m, uint32_t off, const void *buf, uint32_t len)
{
	struct carried c = {.m = m, .off = off, .buf = buf, .len = len};
	bool carry = true;

	count(&m->accesses);
	if (!is_access(off, len))
		return;
	if (off < REG_CONFIG) {
		memcpy(&c.v, buf, sizeof(c.v));
		c.v = le32toh(c.v);
		pthread_mutex_lock(&m->lock);
		if (off == REG_QUEUE_READY) {
			c.queue = selected(m);
			carry = c.queue && c.v <= 1 && c.queue->regs.ready != c.v;
		} else if (off != REG_STATUS) {
			write_register(m, off, c.v);
			carry = false;
		}
		pthread_mutex_unlock(&m->lock);
	}
	if (carry)
		loop_call(m->loop, on_carried, &c);
}

/* ---- memory snapshots ---- */

/* Stops a queue so that it can go on. 0, or -EBUSY when the device has kept some of its chains. */
static int suspend_queue(struct queue *q)
{
	struct virtio_device *dev = q->m->dev;
	struct vq *vq = &dev->vqs[q->index];
	int r = 0;

	if (!q->running)
		return 0;
	dev->ops->queue_stopping(dev, q->index);
	if (vq->broken)
		transport_needs_reset(q->m, q->index, vq->why); /* or it would come back as good as new */
	else if (vq->in_flight)
		r = -EBUSY;
	q->regs.next_avail = vq_stop(vq);
	q->running = false;
	return r;
}

int virtio_mmio_suspend(struct virtio_mmio *m, struct virtio_mmio_state *ret)
{
	int r = 0;

	memset(ret, 0, sizeof(*ret)); /* the padding as well: it is stored */
	if (!m->dev)
		return -ENODEV;
	for (unsigned i = 0; i < m->n_queues; i++) {
		int one = suspend_queue(&m->queues[i]);
		r = r < 0 ? r : one;
	}
	if (r < 0)
		return r;
	ret->version = VIRTIO_MMIO_STATE_VERSION;
	ret->device_id = m->device_id;
	ret->n_queues = m->n_queues;
	pthread_mutex_lock(&m->lock);
	ret->driver_features = m->driver_features;
	ret->status = m->status;
	ret->queue_sel = m->queue_sel;
	ret->device_features_sel = m->device_features_sel;
	ret->driver_features_sel = m->driver_features_sel;
	ret->config_generation = m->page.generation;
	ret->interrupt_status = m->interrupt_status;
	for (unsigned i = 0; i < m->n_queues; i++)
		ret->queues[i] = m->queues[i].regs;
	pthread_mutex_unlock(&m->lock);
	if (m->dev->ops->save)
		ret->device_len = (uint32_t)m->dev->ops->save(m->dev, ret->device);
	return 0;
}

int virtio_mmio_resume(struct virtio_mmio *m)
{
	int r = start_queues(m);

	if (r < 0) {
		transport_needs_reset(m, 0, "2.7: a queue's memory is not there any more");
		return r;
	}
	/* Whatever was notified meanwhile, in either direction, may be lost: both sides look once more. */
	bool any = false;
	for (unsigned i = 0; i < m->n_queues; i++) {
		if (m->queues[i].running) {
			signal_fd(m->queues[i].kick_fd);
			any = true;
		}
	}
	pthread_mutex_lock(&m->lock);
	any = any || m->status & STATUS_DRIVER_OK;
	pthread_mutex_unlock(&m->lock);
	if (any)
		interrupt(m);
	return 0;
}

/* Only what the registers could hold. Selectors may be anything. */
static bool state_fits(const struct virtio_mmio *m, const struct virtio_mmio_state *s)
{
	const uint32_t all = STATUS_OF_DRIVER | STATUS_NEEDS_RESET;

	if (s->version != VIRTIO_MMIO_STATE_VERSION || s->device_id != m->device_id ||
		s->n_queues != m->n_queues)
		return false;
	if (s->status & ~all ||
		s->interrupt_status & ~(uint32_t)(VIRTIO_MMIO_INT_USED | VIRTIO_MMIO_INT_CONFIG))
		return false;
	if (s->status & STATUS_DRIVER_OK && !(s->status & STATUS_FEATURES_OK))
		return false;
	if (s->status & STATUS_FEATURES_OK &&
		(!(s->status & STATUS_DRIVER) || s->driver_features & ~m->device_features ||
			!(s->driver_features & VIRTIO_F_VERSION_1)))
		return false;
	for (unsigned i = 0; i < m->n_queues; i++) {
		if (s->queues[i].size > m->queue_max || s->queues[i].ready > 1 || s->queues[i].pad)
			return false;
	}
	return s->device_len <= (m->dev->ops->restore ? VIRTIO_STATE_MAX : 0);
}

static void load_registers(struct virtio_mmio *m, const struct virtio_mmio_state *s)
{
	pthread_mutex_lock(&m->lock);
	m->driver_features = s->driver_features;
	m->queue_sel = s->queue_sel;
	m->device_features_sel = s->device_features_sel;
	m->driver_features_sel = s->driver_features_sel;
	for (unsigned i = 0; i < m->n_queues; i++)
		m->queues[i].regs = s->queues[i];
	put_interrupt_status(m, s->interrupt_status);
	put_status(m, s->status);
	/* Configuration may be another one here; a driver in the middle of reading it must notice. */
	mmio_page_put_generation(&m->page, s->config_generation + 1);
	pthread_mutex_unlock(&m->lock);
	m->dev->negotiated = s->status & STATUS_FEATURES_OK ? s->driver_features : 0;
}

int virtio_mmio_restore(struct virtio_mmio *m, const struct virtio_mmio_state *s)
{
	if (!m->dev)
		return -ENODEV;
	pthread_mutex_lock(&m->lock);
	bool fresh = m->status == 0;
	pthread_mutex_unlock(&m->lock);
	if (!fresh || !state_fits(m, s))
		return -EINVAL;
	load_registers(m, s);
	int r = m->dev->ops->restore ? m->dev->ops->restore(m->dev, s->device, s->device_len) : 0;
	refresh_config(m);
	if (r == 0)
		r = virtio_mmio_resume(m);
	if (r < 0)
		reset(m);
	return r;
}

/* ---- life ---- */

static int init_queue(struct virtio_mmio *m, unsigned i)
{
	struct queue *q = &m->queues[i];

	/* A thread of the device may sleep in read. */
	q->kick_fd = eventfd(0, EFD_CLOEXEC | (m->dev->own_threads ? 0 : EFD_NONBLOCK));
	if (q->kick_fd < 0)
		return -errno;
	if (m->dev->own_threads) {
		m->dev->kick_fds[i] = q->kick_fd;
		return 0;
	}
	return loop_add_io(m->loop, q->kick_fd, EPOLLIN, on_kick, q, &q->kick_src);
}

static int init_page(struct virtio_mmio *m)
{
	int r = mmio_page_init(&m->page);

	if (r < 0)
		return r;
	put_interrupt_status(m, 0);
	refresh_config(m);
	return 0;
}

int virtio_mmio_new(
	struct loop *loop, struct virtio_device *dev, const struct guest_mem *mem, struct virtio_mmio **ret)
{
	if (dev->transport_ops)
		return -EBUSY;
	if (dev->n_queues > VIRTIO_QUEUES_MAX || dev->queue_size > VQ_SIZE_MAX)
		return -EINVAL;
	CLEANUP(virtio_mmio_freep) struct virtio_mmio *m = calloc(1, sizeof(*m));
	if (!m)
		return -ENOMEM;
	pthread_mutex_init(&m->lock, NULL);
	m->loop = loop;
	m->dev = dev;
	m->mem = mem;
	m->device_id = dev->id;
	m->device_features = dev->features;
	m->queue_max = dev->queue_size ? dev->queue_size : VQ_SIZE_MAX;
	m->n_queues = dev->n_queues;
	for (unsigned i = 0; i < m->n_queues; i++) {
		m->queues[i] = (struct queue){.m = m, .index = i, .kick_fd = -1};
		dev->kick_fds[i] = -1;
	}
	m->irq_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (m->irq_fd < 0)
		return -errno;
	int r = init_page(m);
	for (unsigned i = 0; i < m->n_queues && r == 0; i++)
		r = init_queue(m, i);
	if (r < 0)
		return r;
	dev->negotiated = 0;
	dev->irq_fd = m->irq_fd;
	dev->transport_ops = &transport_ops;
	dev->transport = m;
	*ret = TAKE_PTR(m);
	return 0;
}

void virtio_mmio_free(struct virtio_mmio *m)
{
	if (!m)
		return;
	if (m->dev && m->dev->transport == m) {
		stop_queues(m);
		m->dev->ops->reset(m->dev);
		m->dev->negotiated = 0;
		m->dev->transport_ops = NULL;
		m->dev->transport = NULL;
	}
	for (unsigned i = 0; i < m->n_queues; i++) {
		loop_source_free(m->queues[i].kick_src);
		close_fd(&m->queues[i].kick_fd);
		if (m->dev)
			m->dev->kick_fds[i] = -1;
	}
	close_fd(&m->irq_fd);
	mmio_page_done(&m->page);
	pthread_mutex_destroy(&m->lock);
	free(m);
}

unsigned virtio_mmio_n_queues(const struct virtio_mmio *m)
{
	return m->n_queues;
}

int virtio_mmio_kick_fd(const struct virtio_mmio *m, unsigned queue)
{
	return queue < m->n_queues ? m->queues[queue].kick_fd : -1;
}

int virtio_mmio_irq_fd(const struct virtio_mmio *m)
{
	return m->irq_fd;
}

const void *virtio_mmio_page(const struct virtio_mmio *m)
{
	return m->page.words;
}

void virtio_mmio_stats(const struct virtio_mmio *m, struct virtio_mmio_stats *ret)
{
	ret->kicks = __atomic_load_n(&m->kicks, __ATOMIC_RELAXED);
	ret->interrupts = __atomic_load_n(&m->interrupts, __ATOMIC_RELAXED);
	ret->accesses = __atomic_load_n(&m->accesses, __ATOMIC_RELAXED);
}
