/* SPDX-License-Identifier: MIT */
/*
 * THEORY OF OPERATION
 *
 * The device sits between two queues and many Unix sockets, and copies no more than it must.
 *
 * tx (guest to device): each packet is looked up by (guest port, host port) and its payload is written to the
 * socket directly from guest memory. What the socket does not take is kept, up to the 256 KiB of credit that
 * the guest has for the connection; the guest learns that it may go on by credit updates, which we send
 * unasked (Linux never asks) once 64 KiB were forwarded. tx never waits for rx, with one exception
 * (5.10.6.1): resets for packets that belong to nothing need a queue of their own; while that is full, tx
 * stands still.
 *
 * rx (device to guest): connections that have something for the guest stand in one line, `ready`; each in
 * turn fills one receive buffer, by readv from its socket straight into guest memory, and goes to the end of
 * the line. A connection never queues packets: it has at most one wish of each kind (`want`), and the fields
 * of the packet are those at the time of sending. So memory is bounded whatever the guest does.
 *
 * All of it happens in vsock_work, once per turn of the loop: sockets and kicks only note what became
 * possible. While the pumps run, notifications from the driver are off; they are on only where a pump waits
 * for the driver. A budget per turn keeps a busy guest from starving other sources.
 *
 * The third queue tells the guest one thing: that all of its connections are gone, after it was restored from a
 * snapshot into a world where nobody knows them (5.10.6.7). Only a transport in process serves it.
 *
 * When a queue is found broken, all are out of service until the driver resets the device: the connections
 * are dropped as by a reset.
 */
#include <endian.h>
#include <string.h>
#include <sys/socket.h>

#include "base/io.h"
#include "base/log.h"
#include "virtio/vhost-user.h"
#include "vsock/internal.h"

/* Packets per direction and turn. */
#define BUDGET 256

static struct vsock_dev *of_device(struct virtio_device *d)
{
	return (struct vsock_dev *)d;
}

void vsock_schedule_work(struct vsock_dev *v)
{
	loop_defer(v->work);
}

static void hdr_swap(struct vsock_hdr *h)
{
	h->src_cid = le64toh(h->src_cid);
	h->dst_cid = le64toh(h->dst_cid);
	h->src_port = le32toh(h->src_port);
	h->dst_port = le32toh(h->dst_port);
	h->len = le32toh(h->len);
	h->type = le16toh(h->type);
	h->op = le16toh(h->op);
	h->flags = le32toh(h->flags);
	h->buf_alloc = le32toh(h->buf_alloc);
	h->fwd_cnt = le32toh(h->fwd_cnt);
}

static void drop_all(struct vsock_dev *v)
{
	struct vsock_conn *c, *next;

	for (c = TAILQ_FIRST(&v->all); c; c = next) {
		next = TAILQ_NEXT(c, all);
		if (c->state == VSOCK_ASKED || c->state == VSOCK_DEAD)
			vsock_conn_free(c);
		else if (c->state == VSOCK_OPEN)
			vsock_conn_guest_gone(c);
	}
	v->n_stray = 0;
}

static void queue_broken(struct vsock_dev *v, unsigned queue)
{
	const char *why = v->dev.vqs[queue].why;

	for (unsigned i = 0; i < VSOCK_QUEUES; i++)
		vq_break(&v->dev.vqs[i], why);
	if (v->dev.transport_ops)
		v->dev.transport_ops->needs_reset(v->dev.transport, queue, why);
	drop_all(v);
}

static void notify_driver(struct vsock_dev *v, unsigned queue)
{
	if (v->dev.transport_ops && vq_should_notify(&v->dev.vqs[queue]))
		v->dev.transport_ops->notify_driver(v->dev.transport, queue);
}

/* ---- tx: packets of the guest ---- */

/* Room was made sure of before the packet was taken. */
static void add_stray(struct vsock_dev *v, const struct vsock_hdr *h)
{
	if (h->op == VSOCK_OP_RST)
		return; /* a reset is not answered, or two peers would do so for ever */
	v->stray[(v->stray_first + v->n_stray++) % VSOCK_STRAY_MAX] =
		(struct vsock_stray){.guest_port = h->src_port, .host_port = h->dst_port, .type = h->type};
	vsock_schedule_work(v);
}

/* A guest connects (5.10.6.5): REQUEST, answered by RESPONSE, or by RST when nobody listens or there is no
 * room. */
static void on_request(struct vsock_dev *v, const struct vsock_hdr *h)
{
	int fd = v->n_conns < VSOCK_CONNS_MAX ? vsock_host_connect(v, h->dst_port) : -ENOSPC;
	if (fd < 0) {
		add_stray(v, h);
		return;
	}
	struct vsock_conn *c = vsock_conn_new(v, fd, VSOCK_OPEN);
	if (!c) {
		add_stray(v, h);
		return;
	}
	c->peer_alloc = h->buf_alloc;
	c->peer_fwd = h->fwd_cnt;
	if (vsock_conn_watch_new(c, EPOLLIN) < 0) {
		vsock_conn_free(c);
		add_stray(v, h);
		return;
	}
	vsock_conn_hash(c, h->src_port, h->dst_port);
	c->want |= WANT_RESPONSE;
	vsock_conn_schedule(c);
}

static void on_packet(struct vsock_dev *v, const struct vq_chain *chain)
{
	struct vsock_hdr h;

	if (iov_read(chain->iov, chain->n_out, 0, &h, sizeof(h)) < sizeof(h))
		return; /* no header, nobody to answer */
	hdr_swap(&h);
	/* 5.10.6.4.1: the guest's own CID is the source. We are the host and route to nobody else. */
	if (h.src_cid != VSOCK_GUEST_CID || h.dst_cid != VSOCK_HOST_CID)
		return;
	/* 5.10.6.4.2: an unknown type is answered by RST */
	if (h.type != VSOCK_TYPE_STREAM) {
		add_stray(v, &h);
		return;
	}

	struct vsock_conn *c = vsock_conn_find(v, h.src_port, h.dst_port);
	/* 5.10.6: buffers may be longer than len, never shorter */
	if (h.len > chain->out_len - VSOCK_HDR_SIZE) {
		if (c)
			vsock_conn_reset(c);
		else
			add_stray(v, &h);
	} else if (c) {
		unsigned n = iov_slice(v->slice, chain->iov, chain->n_out, VSOCK_HDR_SIZE, h.len);
		vsock_conn_packet(c, &h, v->slice, n);
	} else if (h.op == VSOCK_OP_REQUEST) {
		on_request(v, &h);
	} else {
		add_stray(v, &h);
	}
}

/* Returns true when it stopped only because its budget was spent. */
static bool tx_pump(struct vsock_dev *v)
{
	struct vq *q = &v->dev.vqs[VSOCK_TX];
	bool more = false, pushed = false;
	unsigned budget = BUDGET;

	if (!vq_usable(q))
		return false;
	vq_disable_notify(q);
	/* 5.10.6.1: the queue is processed as long as there are resources to hold what may have to be
	 * answered */
	while (v->n_stray < VSOCK_STRAY_MAX) {
		if (budget-- == 0) {
			more = true;
			break;
		}
		int r = vq_pop(q, &v->chain);
		if (r < 0) {
			queue_broken(v, VSOCK_TX);
			return false;
		}
		if (r == 0) {
			if (!vq_enable_notify(q))
				break;
			vq_disable_notify(q);
			continue;
		}
		on_packet(v, &v->chain);
		vq_push(q, v->chain.head, 0);
		pushed = true;
	}
	if (pushed)
		notify_driver(v, VSOCK_TX);
	return more;
}

/* ---- rx: packets to the guest ---- */

static uint32_t put_packet(struct vsock_dev *v, struct vsock_hdr *h)
{
	uint32_t total = VSOCK_HDR_SIZE + h->len;

	h->src_cid = VSOCK_HOST_CID;
	h->dst_cid = VSOCK_GUEST_CID;
	hdr_swap(h);
	iov_write(v->chain.iov + v->chain.n_out, v->chain.n_in, 0, h, sizeof(*h));
	return total;
}

static uint32_t put_stray(struct vsock_dev *v)
{
	const struct vsock_stray *s = &v->stray[v->stray_first];
	struct vsock_hdr h = {
		.src_port = s->host_port, .dst_port = s->guest_port, .type = s->type, .op = VSOCK_OP_RST};

	v->stray_first = (v->stray_first + 1) % VSOCK_STRAY_MAX;
	v->n_stray--;
	return put_packet(v, &h);
}

/* 5.10.6.3.2: every packet of a stream carries valid credit, so each doubles as a credit update. */
static uint32_t put_conn(struct vsock_conn *c, enum vsock_op op, uint32_t len, uint32_t flags)
{
	struct vsock_hdr h = {
		.src_port = c->host_port,
		.dst_port = c->guest_port,
		.type = VSOCK_TYPE_STREAM,
		.op = op,
		.len = len,
		.flags = flags,
		.buf_alloc = VSOCK_BUF_ALLOC,
		.fwd_cnt = c->fwd_cnt,
	};

	c->fwd_told = c->fwd_cnt;
	c->want &= ~(unsigned)WANT_CREDIT;
	return put_packet(c->v, &h);
}

static uint32_t put_rst(struct vsock_conn **pc)
{
	uint32_t n = put_conn(*pc, VSOCK_OP_RST, 0, 0);

	vsock_conn_free(TAKE_PTR(*pc));
	return n;
}

/* Reads from the socket into the receive buffer. 0 when there was no data after all (want may have changed).
 */
static uint32_t put_data(struct vsock_conn *c)
{
	struct vsock_dev *v = c->v;
	size_t room = MIN_OF(v->chain.in_len - VSOCK_HDR_SIZE, vsock_conn_credit(c));
	room = MIN_OF(room, VSOCK_PKT_MAX);
	unsigned n_iov =
		iov_slice(v->slice, v->chain.iov + v->chain.n_out, v->chain.n_in, VSOCK_HDR_SIZE, room);
	struct msghdr mh = {.msg_iov = v->slice, .msg_iovlen = n_iov};

	ssize_t n = recvmsg(c->fd, &mh, MSG_DONTWAIT);
	if (n > 0) {
		c->tx_cnt += (uint32_t)n;
		/* A short read emptied the socket; what comes later, its end included, epoll will tell. */
		if ((size_t)n < room && !c->hup)
			c->readable = false;
		return put_conn(c, VSOCK_OP_RW, (uint32_t)n, 0);
	}
	if (n == 0)
		vsock_conn_host_eof(c);
	else if (errno == EAGAIN)
		c->readable = false;
	else if (errno != EINTR)
		vsock_conn_reset(c);
	return 0;
}

/* Fills the receive buffer with the connection's next packet. 0 when it had none. NULLs *pc when it was the
 * last. */
static uint32_t put_next(struct vsock_conn **pc)
{
	struct vsock_conn *c = *pc;

	if (c->want & WANT_RST)
		return put_rst(pc);
	if (c->want & WANT_REQUEST) {
		c->want &= ~(unsigned)WANT_REQUEST;
		c->asked = true;
		return put_conn(c, VSOCK_OP_REQUEST, 0, 0);
	}
	if (c->want & WANT_RESPONSE) {
		c->want &= ~(unsigned)WANT_RESPONSE;
		return put_conn(c, VSOCK_OP_RESPONSE, 0, 0);
	}
	/* Data goes before SHUTDOWN: nothing that the host wrote may be lost behind its end. */
	if (vsock_conn_can_read(c)) {
		uint32_t n = put_data(c);
		if (n)
			return n;
		if (c->want & WANT_RST)
			return put_rst(pc);
	}
	if (c->want & WANT_SHUTDOWN) {
		c->want &= ~(unsigned)WANT_SHUTDOWN;
		return put_conn(c, VSOCK_OP_SHUTDOWN, 0, c->shut_sent);
	}
	if (c->want & WANT_CREDIT)
		return put_conn(c, VSOCK_OP_CREDIT_UPDATE, 0, 0);
	return 0;
}

/* Lets the first connection in line have the buffer. Returns the bytes written, 0 for none. */
static uint32_t put_turn(struct vsock_dev *v)
{
	if (v->n_stray)
		return put_stray(v);
	struct vsock_conn *c = TAILQ_FIRST(&v->ready);
	TAILQ_REMOVE(&v->ready, c, ready);
	c->on_ready = false;
	uint32_t n = put_next(&c);
	if (c) {
		vsock_conn_schedule(c); /* to the end of the line */
		if (!c->on_ready)
			vsock_conn_watch(c);
	}
	return n;
}

/* While the guest has no buffers, sockets that are readable would wake us in vain. */
static void stop_watching_ready(struct vsock_dev *v)
{
	struct vsock_conn *c;

	TAILQ_FOREACH(c, &v->ready, ready)
	vsock_conn_watch(c);
}

static bool rx_has_work(const struct vsock_dev *v)
{
	return v->n_stray || !TAILQ_EMPTY(&v->ready);
}

static bool rx_pump(struct vsock_dev *v)
{
	struct vq *q = &v->dev.vqs[VSOCK_RX];
	bool pushed = false, more = false, starved = false;
	unsigned budget = BUDGET;

	vq_disable_notify(q);
	while (rx_has_work(v) && !starved) {
		if (budget-- == 0) {
			more = true;
			break;
		}
		int r = vq_pop(q, &v->chain);
		if (r == 0) {
			starved = !vq_enable_notify(q);
			continue;
		}
		/* A buffer without room for a byte of data would stall every stream. */
		if (r > 0 && v->chain.in_len <= VSOCK_HDR_SIZE)
			vq_break(q, "5.10.6.4: receive buffer too small");
		if (!vq_usable(q)) {
			queue_broken(v, VSOCK_RX);
			return false;
		}
		uint32_t n = put_turn(v);
		if (n) {
			vq_push(q, v->chain.head, n);
			pushed = true;
		} else {
			vq_unpop(q);
		}
	}
	if (pushed)
		notify_driver(v, VSOCK_RX);
	if (starved)
		stop_watching_ready(v);
	return more;
}

/* ---- events ---- */

/* 5.10.6.7: told once, in the first buffer that the driver has for it, however late that comes */
static void event_pump(struct vsock_dev *v)
{
	struct vq *q = &v->dev.vqs[VSOCK_EVENT];
	const uint32_t id = htole32(VSOCK_EVENT_TRANSPORT_RESET);

	if (!v->tell_reset || !vq_usable(q))
		return;
	vq_disable_notify(q);
	int r;
	do {
		r = vq_pop(q, &v->chain);
	} while (r == 0 && vq_enable_notify(q));
	if (r == 0)
		return;
	if (r > 0 && v->chain.in_len < VSOCK_EVENT_SIZE)
		vq_break(q, "5.10.6.7: event buffer too small");
	if (!vq_usable(q)) {
		queue_broken(v, VSOCK_EVENT);
		return;
	}
	iov_write(v->chain.iov + v->chain.n_out, v->chain.n_in, 0, &id, sizeof(id));
	vq_push(q, v->chain.head, VSOCK_EVENT_SIZE);
	v->tell_reset = false;
	notify_driver(v, VSOCK_EVENT);
}

static void vsock_work(void *data)
{
	struct vsock_dev *v = data;
	bool stalled = v->n_stray == VSOCK_STRAY_MAX;

	/* First: what follows belongs to the connections after it. */
	event_pump(v);
	bool more = tx_pump(v);
	if (v->n_stray == VSOCK_STRAY_MAX)
		stalled = true;
	if (rx_pump(v))
		more = true;
	if (more || (stalled && v->n_stray < VSOCK_STRAY_MAX))
		vsock_schedule_work(v);
}

/* ---- device operations ---- */

static void op_read_config(struct virtio_device *d, uint32_t off, void *buf, uint32_t len)
{
	const uint64_t cid = htole64(VSOCK_GUEST_CID); /* 5.10.4 */

	memset(buf, 0, len);
	if (off < sizeof(cid))
		memcpy(buf, (const uint8_t *)&cid + off, MIN_OF(len, sizeof(cid) - off));
}

static void op_queue_started(struct virtio_device *d, unsigned queue)
{
	vsock_schedule_work(of_device(d));
}

static void op_queue_notify(struct virtio_device *d, unsigned queue)
{
	vsock_schedule_work(of_device(d));
}

static void op_queue_stopping(struct virtio_device *d, unsigned queue)
{
	struct vsock_dev *v = of_device(d);

	/* What the guest wrote last, before it powered off, counts. A queue's worth bounds the work. */
	if (queue != VSOCK_TX)
		return;
	for (unsigned n = 0; n <= VQ_SIZE_MAX && tx_pump(v); n += BUDGET)
		;
}

static void op_reset(struct virtio_device *d)
{
	struct vsock_dev *v = of_device(d);

	v->tell_reset = false; /* a driver that begins anew has nothing to forget */
	drop_all(v);
}

/* Connections end with this process: what the guest has to be told of them is the same whatever they were. */
static size_t op_save(struct virtio_device *d, void *buf)
{
	const struct vsock_saved s = {.version = VSOCK_SAVED_VERSION, .next_port = of_device(d)->next_port};

	memcpy(buf, &s, sizeof(s));
	return sizeof(s);
}

static int op_restore(struct virtio_device *d, const void *buf, size_t len)
{
	struct vsock_dev *v = of_device(d);
	struct vsock_saved s;

	if (len != sizeof(s))
		return -EINVAL;
	memcpy(&s, buf, sizeof(s));
	if (s.version != VSOCK_SAVED_VERSION || s.next_port < VSOCK_FIRST_PORT || s.next_port == UINT32_MAX)
		return -EINVAL;
	drop_all(v);
	v->next_port =
		s.next_port; /* until it is told, the guest takes the old ports for the old connections */
	v->tell_reset = true;
	vsock_schedule_work(v);
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

void vsock_set_limits(struct vsock_dev *v, uint64_t line_ns, uint64_t answer_ns, uint64_t tick_ns)
{
	v->line_ns = line_ns;
	v->answer_ns = answer_ns;
	v->tick_ns = tick_ns;
}

int vsock_new(struct loop *loop, int dirfd, struct vsock_dev **ret)
{
	CLEANUP(vsock_freep) struct vsock_dev *v = calloc(1, sizeof(*v));
	if (!v)
		return -ENOMEM;
	v->dev.ops = &ops;
	v->dev.id = VIRTIO_ID_VSOCK;
	v->dev.features = VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX | VSOCK_F_STREAM;
	v->dev.n_queues = VSOCK_QUEUES;
	v->loop = loop;
	v->dirfd = dirfd;
	v->listen_fd = -1;
	v->next_port = VSOCK_FIRST_PORT;
	vsock_set_limits(v, VSOCK_LINE_NS, VSOCK_ANSWER_NS, VSOCK_TICK_NS);
	io_random(&v->hash_seed, sizeof(v->hash_seed));
	TAILQ_INIT(&v->all);
	TAILQ_INIT(&v->ready);
	TAILQ_INIT(&v->waiting);

	int r = loop_add_deferred(loop, vsock_work, v, &v->work);
	if (r < 0)
		return r;
	r = vsock_host_init(v);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(v);
	return 0;
}

bool vsock_unsent(const struct vsock_dev *v)
{
	const struct vsock_conn *c;

	TAILQ_FOREACH(c, &v->all, all)
	{
		if (c->out.len)
			return true;
	}
	return false;
}

void vsock_free(struct vsock_dev *v)
{
	if (!v)
		return;
	if (v->dev.transport_ops)
		v->dev.transport_ops->device_gone(v->dev.transport);
	while (!TAILQ_EMPTY(&v->all))
		vsock_conn_free(TAILQ_FIRST(&v->all));
	vsock_host_done(v);
	loop_source_free(v->work);
	free(v);
}

struct virtio_device *vsock_device(struct vsock_dev *v)
{
	return &v->dev;
}

int vsock_serve_vhost_user(struct vsock_dev *v, int fd, void (*on_gone)(void *data, const char *reason),
	void *data, struct vhost_user **ret)
{
	/* QEMU keeps the event queue to itself. */
	return vhost_user_new(v->loop, &v->dev, VSOCK_EVENT, fd, on_gone, data, ret);
}
