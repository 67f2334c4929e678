/* SPDX-License-Identifier: MIT */
/*
 * Frames for the guest (virtio 1.2 sections 5.1.6.3 and 5.1.6.4). The socket is read in large pieces into
 * `in`, from which whole frames are copied to the guest's buffers. While the guest has no buffers, the socket
 * is not read: the peer notices when its writes block. A frame that cannot be delivered at all is dropped; a
 * length that no frame can have means that the peer and we disagree on where frames begin, which ends the
 * connection.
 */
#include <endian.h>
#include <string.h>
#include <sys/socket.h>

#include "net/internal.h"
#include "pump.h"

/* ---- the socket ---- */

/* Reads what there is room for. False: nothing came. */
static bool fill(struct net_dev *n)
{
	/* An unfinished frame moves to the start when it could not be finished where it is. */
	if (n->in_start == n->in_end) {
		n->in_start = n->in_end = 0;
	} else if (NET_IN_MAX - n->in_end < NET_PREFIX + NET_WIRE_MAX) {
		memmove(n->in, n->in + n->in_start, n->in_end - n->in_start);
		n->in_end -= n->in_start;
		n->in_start = 0;
	}
	size_t room = NET_IN_MAX - n->in_end;
	ssize_t r;
	do {
		r = recv(n->fd, n->in + n->in_end, room, MSG_DONTWAIT);
	} while (r < 0 && errno == EINTR);
	if (r <= 0) {
		n->readable = false;
		if (r == 0 || errno != EAGAIN)
			net_down(n);
		return false;
	}
	n->in_end += (size_t)r;
	/* A short read emptied the socket; what comes later, its end included, epoll will tell. */
	if ((size_t)r < room && !n->hup)
		n->readable = false;
	return true;
}

/* The next whole frame with its header, if any: 1, 0, or -EPROTO. */
static int next_frame(const struct net_dev *n, uint8_t **ret, size_t *ret_len)
{
	size_t have = n->in_end - n->in_start;
	uint32_t len;

	if (have < NET_PREFIX)
		return 0;
	memcpy(&len, n->in + n->in_start, sizeof(len));
	len = be32toh(len);
	size_t head = n->vnet_hdr ? NET_HDR_LEN : 0;
	if (len < head || len > head + NET_FRAME_MAX)
		return -EPROTO;
	*ret = n->in + n->in_start + NET_PREFIX;
	*ret_len = len;
	return have - NET_PREFIX >= len;
}

/* ---- one frame ---- */

static unsigned offloads(const struct net_dev *n)
{
	uint64_t f = n->dev.negotiated;

	if (!(f & NET_F_GUEST_CSUM))
		return 0;
	return OFFLOAD_CSUM | OFFLOAD_DATA_VALID | (f & NET_F_GUEST_TSO4 ? OFFLOAD_TSO4 : 0) |
	       (f & NET_F_GUEST_TSO6 ? OFFLOAD_TSO6 : 0);
}

/*
 * Makes the header that the guest gets. -errno: the frame is not for it. A checksum that it has not learnt to
 * complete is completed here; segments that it cannot take are dropped: only a peer of our own sends them.
 */
static int judge(struct net_dev *n, struct net_hdr *h, uint8_t *frame, size_t len)
{
	const struct iovec iov = {frame, len};
	const struct net_frame f = {&iov, 1, 0, len};
	unsigned can = offloads(n);

	int r = offload_check(h, can | OFFLOAD_CSUM, &f, &n->offload);
	if (r < 0)
		return r;
	if (h->flags & NET_HDR_F_NEEDS_CSUM && !(can & OFFLOAD_CSUM)) {
		offload_checksum(h, frame, len);
		*h = (struct net_hdr){0};
	}
	/* 5.1.4.1: nothing longer than a packet may be, if the driver relies on it */
	if (n->dev.negotiated & NET_F_MTU && h->gso_type == NET_GSO_NONE && len > net_frame_limit(n))
		return -EMSGSIZE;
	return 0;
}

/*
 * Returns the buffers of one frame at once: 5.1.6.4.1 wants the driver to see all of them or none, so only
 * the last may move the index. The others' elements are written in front of it as vq_push would (2.7.8).
 */
static void push_all(struct vq *q, const struct net_used *used, unsigned n)
{
	enum { ENTRIES = 4, ENTRY = 8 };

	for (unsigned i = 0; i + 1 < n; i++) {
		const uint32_t elem[2] = {htole32(used[i].head), htole32(used[i].len)};
		size_t slot = q->next_used++ & (q->conf.size - 1);
		memcpy(q->used + ENTRIES + ENTRY * slot, elem, sizeof(elem));
		q->in_flight--;
	}
	vq_push(q, used[n - 1].head, used[n - 1].len);
}

enum delivery { DELIVERED, DROPPED, STARVED, BROKEN };

/* Gives the buffers back that were taken for a frame which they cannot hold. */
static enum delivery give_back(struct vq *q, unsigned n, enum delivery d)
{
	while (n--)
		vq_unpop(q);
	return d;
}

/* Takes a buffer. 1, 0 when there is none and the driver will notify of the next, -EPROTO. */
static int take_buffer(struct net_dev *n, struct vq *q)
{
	for (;;) {
		int r = vq_pop(q, &n->chain);
		if (r != 0)
			return r;
		/*
		 * Asked for while those taken so far still count as taken: it is the next one that is
		 * missing.
		 */
		if (!vq_enable_notify(q))
			return 0;
		vq_disable_notify(q);
	}
}

static enum delivery deliver(struct net_dev *n, struct net_hdr *h, const uint8_t *frame, size_t len)
{
	struct vq *q = &n->dev.vqs[NET_RX];
	bool merge = n->dev.negotiated & NET_F_MRG_RXBUF;
	size_t total = NET_HDR_LEN + len, done = 0;
	struct iovec head[NET_HDR_LEN]; /* where the header will be written */
	unsigned n_head = 0, k = 0;
	uint8_t raw[NET_HDR_LEN];

	while (done < total) {
		int r = k < q->conf.size ? take_buffer(n, q) : -EMSGSIZE;
		if (r == -EPROTO)
			return BROKEN;
		if (r <= 0) /* a queue full of buffers is all that there can be */
			return give_back(q, k, r == 0 ? STARVED : DROPPED);
		const struct vq_chain *c = &n->chain;
		const struct iovec *in = c->iov + c->n_out;
		if (!merge && c->in_len < total)
			return give_back(q, 1, DROPPED);
		if (c->in_len < NET_HDR_LEN) {
			vq_break(q, "5.1.6.3.1: receive buffer smaller than a header");
			return BROKEN;
		}
		size_t part = MIN_OF(c->in_len, total - done);
		if (k == 0) {
			n_head = iov_slice(head, in, c->n_in, 0, NET_HDR_LEN);
			iov_write(in, c->n_in, NET_HDR_LEN, frame, part - NET_HDR_LEN);
		} else {
			iov_write(in, c->n_in, 0, frame + done - NET_HDR_LEN, part);
		}
		n->used[k++] = (struct net_used){c->head, (uint32_t)part};
		done += part;
	}
	h->num_buffers = (uint16_t)k;
	net_hdr_encode(raw, h);
	iov_write(head, n_head, 0, raw, sizeof(raw));
	push_all(q, n->used, k);
	return DELIVERED;
}

static enum delivery put_frame(struct net_dev *n, uint8_t *frame, size_t len)
{
	struct net_hdr h = {0};

	if (n->vnet_hdr) {
		net_hdr_decode(&h, frame);
		frame += NET_HDR_LEN;
		len -= NET_HDR_LEN;
	}
	enum delivery d = judge(n, &h, frame, len) < 0 ? DROPPED : deliver(n, &h, frame, len);
	if (d == DELIVERED) {
		net_count(&n->stats.rx_frames, 1);
		net_count(&n->stats.rx_bytes, len);
	} else if (d == DROPPED) {
		net_count(&n->stats.rx_dropped, 1);
	}
	return d;
}

/* ---- the queue ---- */

bool net_rx_pump(struct net_dev *n)
{
	struct vq *q = &n->dev.vqs[NET_RX];
	unsigned frames = NET_BUDGET_FRAMES;
	size_t bytes = 0, len = 0;
	bool pushed = false;
	uint8_t *frame = NULL;

	if (!vq_usable(q) || n->starved)
		return false;
	vq_disable_notify(q);
	while (n->fd >= 0 && !n->starved && frames && bytes <= NET_BUDGET_BYTES) {
		int r = next_frame(n, &frame, &len);
		if (r < 0)
			net_down(n);
		if (r == 0 && !(n->readable && fill(n)))
			break;
		if (r <= 0)
			continue;
		enum delivery d = put_frame(n, frame, len);
		if (d == BROKEN) {
			net_broken(n, NET_RX);
			return false;
		}
		n->starved = d == STARVED;
		if (n->starved)
			break;
		pushed = pushed || d == DELIVERED;
		n->in_start += NET_PREFIX + len;
		frames--;
		bytes += len;
	}
	if (pushed)
		pump_notify(&n->dev, NET_RX);
	return frames == 0 || bytes > NET_BUDGET_BYTES;
}
