/* SPDX-License-Identifier: MIT */
/*
 * THEORY OF OPERATION
 *
 * All work is done at the end of a turn of the loop, in bounded amounts; kicks and descriptors only ask for it.
 *
 * tx: a chain is written in chunks. When the descriptor takes no more, the chain goes back to the queue as if never
 * taken, and only the number of its bytes that are out already is kept (tx_done). So nothing of the guest's is held
 * while we wait: a queue may stop, be saved, or move at any moment.
 *
 * rx: a chunk is read only when a buffer of the guest is at hand for it. Without one the descriptor is not even
 * watched, and whoever writes to it waits.
 */
#include <endian.h>
#include <string.h>

#include "console/stream.h"
#include "pump.h"
#include "virtio/console.h"

enum { QUEUE_RX = 0, QUEUE_TX = 1, QUEUES = 2 }; /* 5.3.2 */

#define F_SIZE	      (1ULL << 0) /* 5.3.3 */
#define F_EMERG_WRITE (1ULL << 2)

struct console_space { /* 5.3.4, little endian */
	uint16_t cols, rows;
	uint32_t max_nr_ports, emerg_wr;
};
_Static_assert(sizeof(struct console_space) == 12, "5.3.4");

/* Linux fills the receive queue with pages: a queue that is longer than needed takes memory from the guest. */
#define QUEUE_SIZE 16
/* Per direction and turn. */
#define BUDGET_CHAINS 64
#define BUDGET_BYTES  65536u
/* Turns' worth of output that is still taken when the queue stops. */
#define STOP_TURNS 16

#define STATE_VERSION 1
struct console_state {
	uint32_t version;
	uint16_t cols, rows;
	uint32_t tx_done;
};

struct console_dev {
	struct virtio_device dev; /* first: the transport's pointer is ours */
	struct loop_source *work;
	struct stream in, out;
	uint16_t cols, rows;
	uint32_t tx_done; /* bytes of the first chain in the transmit queue that are written already */
	uint32_t budget;  /* bytes left of this run */
	struct vq_chain chain;
	uint8_t chunk[STREAM_CHUNK];
};

static struct console_dev *of_device(struct virtio_device *d)
{
	return (struct console_dev *)d;
}

static void schedule(void *data)
{
	struct console_dev *c = data;

	loop_defer(c->work);
}

/* ---- tx ---- */

static enum pump_verdict on_tx(
	struct virtio_device *d, unsigned queue, const struct vq_chain *chain, uint32_t *written)
{
	struct console_dev *c = of_device(d);

	/* The guest may have made the chain shorter since it was taken last; then it is done. */
	while (stream_is_open(&c->out) && c->tx_done < chain->out_len) {
		if (c->budget == 0)
			return PUMP_LATER;
		size_t len = MIN_OF(MIN_OF(chain->out_len - c->tx_done, c->budget), sizeof(c->chunk));
		iov_read(chain->iov, chain->n_out, c->tx_done, c->chunk, len);
		size_t n = stream_write(&c->out, c->chunk, len);
		if (n == 0 && stream_is_open(&c->out))
			return PUMP_LATER;
		c->tx_done += (uint32_t)n;
		c->budget -= (uint32_t)n;
	}
	c->tx_done = 0;
	return PUMP_USED;
}

/* Returns true when it stopped only because its budget was spent. */
static bool tx_pump(struct console_dev *c)
{
	if (stream_is_waiting(&c->out))
		return false;
	c->budget = BUDGET_BYTES;
	enum pump_end end = pump_run(&c->dev, QUEUE_TX, &c->chain, BUDGET_CHAINS, on_tx);
	return end == PUMP_MORE || (end == PUMP_STOPPED && c->budget == 0);
}

/* ---- rx ---- */

static enum pump_verdict on_rx(
	struct virtio_device *d, unsigned queue, const struct vq_chain *chain, uint32_t *written)
{
	struct console_dev *c = of_device(d);

	if (chain->in_len == 0) /* 5.3.6.1 forbids what else it may be; it does no harm, and holds no input */
		return PUMP_USED;
	size_t n = stream_read(&c->in, c->chunk, MIN_OF(chain->in_len, sizeof(c->chunk)));
	if (n == 0)
		return PUMP_LATER;
	iov_write(chain->iov + chain->n_out, chain->n_in, 0, c->chunk, n);
	*written = (uint32_t)n;
	return PUMP_USED;
}

static bool rx_pump(struct console_dev *c)
{
	/* Unless there may be input, the queue is not touched: the guest's buffers wait in it. */
	if (!stream_is_open(&c->in) || stream_is_waiting(&c->in))
		return false;
	return pump_run(&c->dev, QUEUE_RX, &c->chain, BUDGET_CHAINS, on_rx) == PUMP_MORE;
}

static void console_work(void *data)
{
	struct console_dev *c = data;
	bool more = tx_pump(c);

	if (rx_pump(c) || more)
		schedule(c);
}

/* ---- device operations ---- */

static void op_read_config(struct virtio_device *d, uint32_t off, void *buf, uint32_t len)
{
	const struct console_dev *c = of_device(d);
	/* max_nr_ports belongs to multiport, emerg_wr is for writing only */
	const struct console_space space = {.cols = htole16(c->cols), .rows = htole16(c->rows)};

	pump_read_config(&space, sizeof(space), off, buf, len);
}

/* 5.3.5.1: at any time, the low byte is output. It cannot wait: when the descriptor is full, it is lost. */
static void op_write_config(struct virtio_device *d, uint32_t off, const void *buf, uint32_t len)
{
	struct console_dev *c = of_device(d);

	if (off == offsetof(struct console_space, emerg_wr) && len > 0 && !stream_is_waiting(&c->out))
		stream_write(&c->out, buf, 1);
}

static void op_queue_started(struct virtio_device *d, unsigned queue)
{
	schedule(of_device(d));
}

static void op_queue_notify(struct virtio_device *d, unsigned queue)
{
	schedule(of_device(d));
}

static void op_queue_stopping(struct virtio_device *d, unsigned queue)
{
	/* What the guest wrote last, before it powered off, counts, as far as it can be had without waiting. */
	if (queue != QUEUE_TX)
		return;
	for (unsigned n = 0; n < STOP_TURNS && tx_pump(of_device(d)); n++)
		;
}

static void op_reset(struct virtio_device *d)
{
	of_device(d)->tx_done = 0;
}

static size_t op_save(struct virtio_device *d, void *buf)
{
	const struct console_dev *c = of_device(d);
	const struct console_state s = {
		.version = STATE_VERSION, .cols = c->cols, .rows = c->rows, .tx_done = c->tx_done};

	memcpy(buf, &s, sizeof(s));
	return sizeof(s);
}

/* Any size and any tx_done are possible: a chain that is shorter is done (on_tx). */
static int op_restore(struct virtio_device *d, const void *buf, size_t len)
{
	struct console_dev *c = of_device(d);
	struct console_state s;

	if (len != sizeof(s))
		return -EINVAL;
	memcpy(&s, buf, sizeof(s));
	if (s.version != STATE_VERSION)
		return -EINVAL;
	c->cols = s.cols;
	c->rows = s.rows;
	c->tx_done = s.tx_done;
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

int console_new(struct loop *loop, const struct console_config *conf, struct console_dev **ret)
{
	CLEANUP(console_freep) struct console_dev *c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->dev.ops = &ops;
	c->dev.id = VIRTIO_ID_CONSOLE;
	c->dev.early_config = true;
	c->dev.features =
		VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX | F_SIZE | F_EMERG_WRITE;
	c->dev.n_queues = QUEUES;
	c->dev.queue_size = QUEUE_SIZE;
	c->cols = conf->cols;
	c->rows = conf->rows;
	c->in.fd = c->out.fd = -1;

	int r = loop_add_deferred(loop, console_work, c, &c->work);
	if (r < 0)
		return r;
	r = stream_open(&c->in, loop, conf->in_fd, false, schedule, c);
	if (r < 0)
		return r;
	r = stream_open(&c->out, loop, conf->out_fd, true, schedule, c);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(c);
	return 0;
}

struct virtio_device *console_device(struct console_dev *c)
{
	return &c->dev;
}

void console_resize(struct console_dev *c, uint16_t cols, uint16_t rows)
{
	if (c->cols == cols && c->rows == rows)
		return;
	c->cols = cols;
	c->rows = rows;
	pump_config_changed(&c->dev); /* 5.3.6: the driver reads the new size */
}

void console_free(struct console_dev *c)
{
	if (!c)
		return;
	if (c->dev.transport_ops)
		c->dev.transport_ops->device_gone(c->dev.transport);
	stream_close(&c->in);
	stream_close(&c->out);
	loop_source_free(c->work);
	free(c);
}
