/* SPDX-License-Identifier: MIT */
/*
 * Frames for the guest (virtio 1.2 sections 5.1.6.3 and 5.1.6.4). Each link's socket is read in large pieces
 * into its `in`, from which whole frames are copied to the guest's buffers. While the guest has no buffers, no
 * socket is read: the peer notices when its writes block. A frame that cannot be delivered at all is dropped; a
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
static bool fill(struct net_link *l)
{
	/* An unfinished frame moves to the start when it could not be finished where it is. */
	if (l->in_start == l->in_end) {
		l->in_start = l->in_end = 0;
	} else if (NET_IN_MAX - l->in_end < NET_PREFIX + NET_WIRE_MAX) {
		memmove(l->in, l->in + l->in_start, l->in_end - l->in_start);
		l->in_end -= l->in_start;
		l->in_start = 0;
	}
	size_t room = NET_IN_MAX - l->in_end;
	ssize_t r;
	do {
		r = recv(l->fd, l->in + l->in_end, room, MSG_DONTWAIT);
	} while (r < 0 && errno == EINTR);
	if (r <= 0) {
		l->readable = false;
		if (r == 0 || errno != EAGAIN)
			net_down(l);
		return false;
	}
	l->in_end += (size_t)r;
	/* A short read emptied the socket; what comes later, its end included, epoll will tell. */
	if ((size_t)r < room && !l->hup)
		l->readable = false;
	return true;
}

/* The next whole frame with its header, if any: 1, 0, or -EPROTO. */
static int next_frame(const struct net_link *l, uint8_t **ret, size_t *ret_len)
{
	size_t have = l->in_end - l->in_start;
	uint32_t len;

	if (have < NET_PREFIX)
		return 0;
	memcpy(&len, l->in + l->in_start, sizeof(len));
	len = be32toh(len);
	size_t head = l->n->vnet_hdr ? NET_HDR_LEN : 0;
	if (len < head || len > head + NET_FRAME_MAX)
		return -EPROTO;
	*ret = l->in + l->in_start + NET_PREFIX;
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
 * complete is completed here, and *ret_done set; segments that it cannot take are dropped: only a peer of our
 * own sends them. So are frames that bring a tag: it could lead to another link.
 */
static int judge(struct net_dev *n, struct net_hdr *h, uint8_t *frame, size_t len, bool *ret_done)
{
	const struct iovec iov = {frame, len};
	const struct net_frame f = {&iov, 1, 0, len};
	unsigned can = offloads(n);

	int r = offload_check(h, can | OFFLOAD_CSUM, &f, &n->offload);
	if (r < 0)
		return r;
	if (net_type_is_tag(net_type(frame)))
		return -EINVAL;
	*ret_done = h->flags & NET_HDR_F_NEEDS_CSUM && !(can & OFFLOAD_CSUM);
	if (*ret_done) {
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

/* A frame as the guest gets it: what had to be written anew of it, and the rest as it came. */
struct tagged {
	uint8_t head[NET_TYPE_AT + NET_VLAN_LEN];
	size_t head_len, len; /* len: of all */
	const uint8_t *rest;
};

/* Frames of link 0 stay as they are, those of another get its tag (IEEE 802.1Q). */
static int tag(struct tagged *t, struct net_hdr *h, unsigned link, const uint8_t *frame, size_t len)
{
	*t = (struct tagged){.len = len, .rest = frame};
	if (link == 0)
		return 0;
	const uint8_t vlan[NET_VLAN_LEN] = {NET_TYPE_VLAN >> 8, NET_TYPE_VLAN & 0xff, 0, (uint8_t)link};
	memcpy(t->head, frame, NET_TYPE_AT);
	memcpy(t->head + NET_TYPE_AT, vlan, NET_VLAN_LEN);
	t->head_len = sizeof(t->head);
	t->rest += NET_TYPE_AT;
	t->len += NET_VLAN_LEN;
	if (h->flags & NET_HDR_F_NEEDS_CSUM) {
		if (h->csum_start > UINT16_MAX - NET_VLAN_LEN)
			return -EMSGSIZE;
		h->csum_start += NET_VLAN_LEN;
	}
	if (h->gso_type != NET_GSO_NONE)
		h->hdr_len += NET_VLAN_LEN; /* at most OFFLOAD_HEADERS_MAX before */
	return 0;
}

/* Copies bytes [from, from + len) of a frame to offset off of a buffer. */
static void put(
	const struct iovec *iov, unsigned n, size_t off, const struct tagged *t, size_t from, size_t len)
{
	if (from < t->head_len) {
		size_t part = MIN_OF(len, t->head_len - from);
		iov_write(iov, n, off, t->head + from, part);
		off += part;
		from += part;
		len -= part;
	}
	iov_write(iov, n, off, t->rest + (from - t->head_len), len);
}

static enum delivery deliver(struct net_dev *n, struct net_hdr *h, const struct tagged *t)
{
	struct vq *q = &n->dev.vqs[NET_RX];
	bool merge = n->dev.negotiated & NET_F_MRG_RXBUF;
	size_t total = NET_HDR_LEN + t->len, done = 0;
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
			put(in, c->n_in, NET_HDR_LEN, t, 0, part - NET_HDR_LEN);
		} else {
			put(in, c->n_in, 0, t, done - NET_HDR_LEN, part);
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

static enum delivery put_frame(struct net_link *l, uint8_t *frame, size_t len)
{
	struct net_dev *n = l->n;
	static const uint8_t no_header[NET_HDR_LEN];
	uint8_t *raw = n->vnet_hdr ? frame : NULL;
	struct net_hdr h = {0};
	struct tagged t;
	bool done = false;

	if (raw) {
		net_hdr_decode(&h, raw);
		frame += NET_HDR_LEN;
		len -= NET_HDR_LEN;
	}
	int r = judge(n, &h, frame, len, &done);
	if (done && raw) /* it may have to wait for buffers, and be judged again */
		memcpy(raw, no_header, NET_HDR_LEN);
	if (r == 0)
		r = tag(&t, &h, net_link_id(l), frame, len);
	enum delivery d = r < 0 ? DROPPED : deliver(n, &h, &t);
	if (d == DELIVERED) {
		net_count(&n->stats.rx_frames, 1);
		net_count(&n->stats.rx_bytes, len);
	} else if (d == DROPPED) {
		net_count(&n->stats.rx_dropped, 1);
	}
	return d;
}

/* ---- the queue ---- */

/* What is left of a device's turn of the loop. */
struct budget {
	unsigned frames;
	size_t bytes;
	bool pushed;
};

static bool spent(const struct budget *b)
{
	return b->frames == 0 || b->bytes > NET_BUDGET_BYTES;
}

enum pulled { PULLED_ALL, PULLED_TURN, PULLED_STARVED, PULLED_BROKEN, PULLED_BUDGET };

/* Delivers a link's frames until there are no more, or its turn is over. */
static enum pulled pull(struct net_link *l, struct budget *b)
{
	size_t len = 0;
	uint8_t *frame = NULL;

	while (l->fd >= 0) {
		if (spent(b))
			return PULLED_BUDGET;
		if (l->credit <= 0)
			return PULLED_TURN;
		int r = next_frame(l, &frame, &len);
		if (r < 0)
			net_down(l);
		if (r == 0 && !(l->readable && fill(l)))
			break;
		if (r <= 0)
			continue;
		enum delivery d = put_frame(l, frame, len);
		if (d == BROKEN)
			return PULLED_BROKEN;
		if (d == STARVED)
			return PULLED_STARVED;
		b->pushed = b->pushed || d == DELIVERED;
		l->in_start += NET_PREFIX + len;
		l->credit -= (int32_t)len;
		b->frames--;
		b->bytes += len;
	}
	l->credit = 0; /* who has nothing to say saves nothing up */
	return PULLED_ALL;
}

/*
 * Links take turns (deficit round robin: RFC 970's fair queueing as by Shreedhar and Varghese, SIGCOMM 1995). A
 * turn that was interrupted goes on where it was, so that a guest with few buffers gives them to all alike.
 */
bool net_rx_pump(struct net_dev *n)
{
	struct vq *q = &n->dev.vqs[NET_RX];
	struct budget b = {.frames = NET_BUDGET_FRAMES};
	enum pulled p = PULLED_ALL;

	if (!vq_usable(q) || n->starved)
		return false;
	vq_disable_notify(q);
	for (unsigned idle = 0; idle < NET_LINKS_MAX;) {
		p = pull(&n->links[n->turn], &b);
		if (p > PULLED_TURN)
			break;
		idle = p == PULLED_ALL ? idle + 1 : 0;
		n->turn = (n->turn + 1) % NET_LINKS_MAX;
		n->links[n->turn].credit += NET_TURN_BYTES;
	}
	if (p == PULLED_BROKEN) {
		net_broken(n, NET_RX);
		return false;
	}
	n->starved = p == PULLED_STARVED;
	if (b.pushed)
		pump_notify(&n->dev, NET_RX);
	return p == PULLED_BUDGET;
}
