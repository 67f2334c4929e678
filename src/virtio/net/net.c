/* SPDX-License-Identifier: MIT */
/*
 * THEORY OF OPERATION
 *
 * The device joins two queues and up to NET_LINKS_MAX stream sockets on the loop's thread. Sockets and kicks
 * only note what became possible; net_work, once per turn, moves frames both ways within a budget, so that a
 * busy link starves nobody.
 *
 * Both directions wait where they must, and hold no more than one frame per link in doing so: tx stops taking
 * frames while a socket is full, rx stops reading sockets while the guest has no buffers (tx.c, rx.c).
 *
 * A peer that is gone, or breaks the framing, takes its link down: frames of the guest for it are discarded
 * until net_connect. Unsent and unfinished frames of the old connection are forgotten. The driver sees in the
 * configuration (5.1.4) whether any link is up. A reset by the driver leaves connections as they are, half-sent
 * frames included: they are the stream's.
 */
#include <endian.h>
#include <string.h>

#include "net/internal.h"
#include "pump.h"

enum { NET_S_LINK_UP = 1 };
enum { MTU_MIN = 68 }; /* 5.1.4.1 */

struct net_space { /* 5.1.4, little endian */
	uint8_t mac[6];
	uint16_t status, max_virtqueue_pairs, mtu;
} __attribute__((packed));
_Static_assert(sizeof(struct net_space) == 12, "5.1.4");

/* Saved with a memory snapshot: what the driver has read of the configuration. */
struct net_state {
	uint32_t version;
	uint16_t link_up, mtu;
	uint8_t mac[6], pad[2];
};
enum { NET_STATE_VERSION = 2 };

static struct net_dev *of_device(struct virtio_device *d)
{
	return (struct net_dev *)d;
}

void net_broken(struct net_dev *n, unsigned queue)
{
	const char *why = n->dev.vqs[queue].why;

	for (unsigned i = 0; i < NET_QUEUES; i++)
		vq_break(&n->dev.vqs[i], why);
	if (n->dev.transport_ops)
		n->dev.transport_ops->needs_reset(n->dev.transport, queue, why);
}

/* ---- links ---- */

static bool any_up(const struct net_dev *n)
{
	for (unsigned i = 0; i < NET_LINKS_MAX; i++) {
		if (n->links[i].fd >= 0)
			return true;
	}
	return false;
}

static void link_changed(struct net_dev *n)
{
	n->tell_link = false;
	pump_config_changed(&n->dev);
}

static void disconnect(struct net_link *l)
{
	struct net_dev *n = l->n;
	bool was_up = l->fd >= 0;

	loop_source_free(l->src);
	close_fd(&l->fd);
	free(l->out);
	free(l->in);
	n->n_blocked -= l->blocked;
	*l = (struct net_link){.n = n, .fd = -1};
	n->starved = false; /* it may have been this one's frame that had no room */
	if (was_up && !any_up(n))
		link_changed(n);
}

void net_down(struct net_link *l)
{
	disconnect(l);
	l->gone = true;
	loop_defer(l->n->work);
}

static void watch(struct net_link *l)
{
	struct net_dev *n = l->n;
	uint32_t events = 0;

	if (l->fd < 0)
		return;
	/* Also while the guest has no buffers: whose turn is next depends on who has something. */
	if (vq_usable(&n->dev.vqs[NET_RX]) && !l->readable)
		events |= EPOLLIN;
	if (l->blocked)
		events |= EPOLLOUT;
	if (loop_set_events(l->src, events) < 0)
		net_down(l);
}

/* Tells the owner of one link that is gone; of more, next time: it may free the device. */
static void tell_gone(struct net_dev *n)
{
	unsigned i = 0;

	while (i < NET_LINKS_MAX && !n->links[i].gone)
		i++;
	if (i == NET_LINKS_MAX)
		return;
	n->links[i].gone = false;
	loop_defer(n->work);
	if (n->on_gone)
		n->on_gone(n->on_gone_data, i);
}

static void net_work(void *data)
{
	struct net_dev *n = data;
	bool tx_more = net_tx_pump(n), rx_more = net_rx_pump(n);

	for (unsigned i = 0; i < NET_LINKS_MAX; i++) {
		struct net_link *l = &n->links[i];
		if (l->hup && !rx_more)
			net_down(l); /* all that it left behind, and the guest had room for, is delivered */
		watch(l);
	}
	if (tx_more || rx_more)
		loop_defer(n->work);
	tell_gone(n);
}

static void on_tx_timer(void *data)
{
	net_tx_tell(data);
}

static void on_socket(void *data, int fd, uint32_t events)
{
	struct net_link *l = data;

	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		l->readable = true;
	if (events & (EPOLLHUP | EPOLLERR))
		l->hup = true;
	if (events & EPOLLOUT)
		l->writable = true;
	loop_defer(l->n->work);
}

int net_connect(struct net_dev *n, unsigned link, int fd)
{
	CLEANUP_CLOSE int sock = fd;

	if (link >= NET_LINKS_MAX || sock < 0)
		return -EINVAL;
	struct net_link *l = &n->links[link];
	if (l->fd >= 0)
		return -EISCONN;
	bool was_up = any_up(n);
	CLEANUP_FREE uint8_t *out = malloc(NET_OUT_MAX);
	CLEANUP_FREE uint8_t *in = malloc(NET_IN_MAX);
	if (!out || !in)
		return -ENOMEM;
	int r = loop_add_io(n->loop, sock, 0, on_socket, l, &l->src);
	if (r < 0)
		return r;
	l->fd = TAKE_FD(sock);
	l->out = TAKE_PTR(out);
	l->in = TAKE_PTR(in);
	l->readable = true;
	l->gone = false;
	loop_defer(n->work);
	if (!was_up)
		link_changed(n);
	return 0;
}

void net_disconnect(struct net_dev *n, unsigned link)
{
	if (link >= NET_LINKS_MAX)
		return;
	disconnect(&n->links[link]);
	loop_defer(n->work); /* the guest may have waited for this one */
}

void net_on_disconnect(struct net_dev *n, void (*fn)(void *data, unsigned link), void *data)
{
	n->on_gone = fn;
	n->on_gone_data = data;
}

/* ---- device operations ---- */

static void op_read_config(struct virtio_device *d, uint32_t off, void *buf, uint32_t len)
{
	const struct net_dev *n = of_device(d);
	struct net_space s = {
		.status = htole16(any_up(n) ? NET_S_LINK_UP : 0),
		.max_virtqueue_pairs = htole16(1),
		.mtu = htole16(n->mtu),
	};

	memcpy(s.mac, n->mac, sizeof(s.mac));
	pump_read_config(&s, sizeof(s), off, buf, len);
}

static void op_queue_started(struct virtio_device *d, unsigned queue)
{
	struct net_dev *n = of_device(d);

	if (queue == NET_RX) {
		n->starved = false;
		for (unsigned i = 0; i < NET_LINKS_MAX; i++)
			n->links[i].readable = n->links[i].fd >= 0;
	}
	if (n->tell_link)
		link_changed(n);
	loop_defer(n->work);
}

static void op_queue_notify(struct virtio_device *d, unsigned queue)
{
	struct net_dev *n = of_device(d);

	if (queue == NET_RX)
		n->starved = false;
	loop_defer(n->work);
}

static void op_queue_stopping(struct virtio_device *d, unsigned queue)
{
	struct net_dev *n = of_device(d);

	/* What the guest sent last counts, as far as the sockets take it. A queue's worth bounds the work. */
	if (queue == NET_TX) {
		for (unsigned i = 0; i <= NET_QUEUE_SIZE && net_tx_pump(n); i += NET_BUDGET_FRAMES)
			;
		net_tx_tell(n);
	}
	loop_defer(n->work); /* the sockets' events follow from which queues run */
}

static void op_reset(struct virtio_device *d)
{
	/* The links are not the driver's. */
}

static size_t op_save(struct virtio_device *d, void *buf)
{
	const struct net_dev *n = of_device(d);
	struct net_state s = {.version = NET_STATE_VERSION, .link_up = any_up(n), .mtu = n->mtu};

	memcpy(s.mac, n->mac, sizeof(s.mac));
	memcpy(buf, &s, sizeof(s));
	return sizeof(s);
}

/* Address and MTU the driver has read for good; the link it is told of when it is another. */
static int op_restore(struct virtio_device *d, const void *buf, size_t len)
{
	struct net_dev *n = of_device(d);
	struct net_state s;

	if (len != sizeof(s))
		return -EINVAL;
	memcpy(&s, buf, sizeof(s));
	if (s.version != NET_STATE_VERSION || s.mtu != n->mtu || memcmp(s.mac, n->mac, sizeof(s.mac)) != 0)
		return -EINVAL;
	n->tell_link = (s.link_up != 0) != any_up(n);
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

int net_new(struct loop *loop, const struct net_config *c, struct net_dev **ret)
{
	if (c->mtu < MTU_MIN)
		return -EINVAL;
	CLEANUP(net_freep) struct net_dev *n = calloc(1, sizeof(*n));
	if (!n)
		return -ENOMEM;
	for (unsigned i = 0; i < NET_LINKS_MAX; i++)
		n->links[i] = (struct net_link){.n = n, .fd = -1};
	n->loop = loop;
	n->mtu = c->mtu;
	n->vnet_hdr = c->vnet_hdr;
	memcpy(n->mac, c->mac, sizeof(n->mac));
	n->dev.ops = &ops;
	n->dev.id = VIRTIO_ID_NET;
	n->dev.n_queues = NET_QUEUES;
	n->dev.queue_size = NET_QUEUE_SIZE;
	n->dev.features = VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX | NET_F_CSUM |
			  NET_F_GUEST_CSUM | NET_F_MTU | NET_F_MAC | NET_F_HOST_TSO4 | NET_F_HOST_TSO6 |
			  NET_F_MRG_RXBUF | NET_F_STATUS;
	if (c->vnet_hdr)
		n->dev.features |= NET_F_GUEST_TSO4 | NET_F_GUEST_TSO6;
	int r = loop_add_deferred(loop, net_work, n, &n->work);
	if (r == 0)
		r = loop_add_timer(loop, UINT64_MAX, on_tx_timer, n, &n->tx_timer);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(n);
	return 0;
}

struct virtio_device *net_device(struct net_dev *n)
{
	return &n->dev;
}

void net_free(struct net_dev *n)
{
	if (!n)
		return;
	if (n->dev.transport_ops)
		n->dev.transport_ops->device_gone(n->dev.transport);
	n->dev.transport_ops = NULL;
	for (unsigned i = 0; i < NET_LINKS_MAX; i++)
		disconnect(&n->links[i]);
	loop_source_free(n->work);
	loop_source_free(n->tx_timer);
	free(n);
}

void net_stats(const struct net_dev *n, struct net_stats *ret)
{
	const struct net_stats *s = &n->stats;

	*ret = (struct net_stats){
		.rx_frames = __atomic_load_n(&s->rx_frames, __ATOMIC_RELAXED),
		.rx_bytes = __atomic_load_n(&s->rx_bytes, __ATOMIC_RELAXED),
		.rx_dropped = __atomic_load_n(&s->rx_dropped, __ATOMIC_RELAXED),
		.tx_frames = __atomic_load_n(&s->tx_frames, __ATOMIC_RELAXED),
		.tx_bytes = __atomic_load_n(&s->tx_bytes, __ATOMIC_RELAXED),
		.tx_dropped = __atomic_load_n(&s->tx_dropped, __ATOMIC_RELAXED),
	};
}
