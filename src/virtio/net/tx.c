/* SPDX-License-Identifier: MIT */
/*
 * Frames of the guest (virtio 1.2 section 5.1.6.2). Large ones go to the socket from where they lie; small ones
 * gather in `out` until the queue is empty, so that a row of acknowledgements is one system call; those with a
 * checksum or segments to be made are made in `out`. A tag (IEEE 802.1Q) says which link a frame is for, and
 * stays here. What the socket does not take of a frame is kept there and sent before anything else: on a stream,
 * half a frame cannot be taken back.
 */
#include <string.h>
#include <sys/socket.h>

#include "net/internal.h"
#include "pump.h"

enum {
	SMALL = 1024,	   /* bytes: frames up to this gather */
	QUIET_FRAMES = 16, /* small frames given back without a word */
};
#define QUIET_NS 1000000ull

static void put_prefix(uint8_t *p, size_t len)
{
	p[0] = (uint8_t)(len >> 24);
	p[1] = (uint8_t)(len >> 16);
	p[2] = (uint8_t)(len >> 8);
	p[3] = (uint8_t)len;
}

/* Writes to the socket. Bytes taken, 0 when it takes none; the link goes down on any other error. */
static size_t send_some(struct net_link *l, struct iovec *iov, unsigned n_iov)
{
	struct msghdr mh = {.msg_iov = iov, .msg_iovlen = n_iov};
	ssize_t r;

	do {
		r = sendmsg(l->fd, &mh, MSG_DONTWAIT | MSG_NOSIGNAL);
	} while (r < 0 && errno == EINTR);
	if (r >= 0)
		return (size_t)r;
	if (errno != EAGAIN)
		net_down(l);
	return 0;
}

static void set_blocked(struct net_link *l, bool blocked)
{
	l->n->n_blocked += (unsigned)blocked - l->blocked;
	l->blocked = blocked;
}

void net_tx_flush(struct net_link *l)
{
	l->writable = false;
	if (l->fd < 0 || l->out_end == 0)
		return;
	struct iovec iov = {l->out + l->out_start, l->out_end - l->out_start};
	size_t sent = send_some(l, &iov, 1);
	if (l->fd < 0)
		return; /* and out is no more */
	l->out_start += sent;
	set_blocked(l, l->out_start < l->out_end);
	if (!l->blocked)
		l->out_start = l->out_end = 0;
}

/* ---- one frame: true when it was taken, false when it is dropped ---- */

/* Length and header, as they precede the frame on the socket. Returns their bytes. */
static size_t put_head(const struct net_dev *n, uint8_t *dst, const struct net_hdr *h, size_t len)
{
	put_prefix(dst, len + (n->vnet_hdr ? NET_HDR_LEN : 0));
	if (!n->vnet_hdr)
		return NET_PREFIX;
	net_hdr_encode(dst + NET_PREFIX, h);
	return NET_PREFIX + NET_HDR_LEN;
}

/* By way of out, with its checksum completed if it needs that from us. */
static bool send_copy(struct net_link *l, const struct net_hdr *h, const struct net_frame *f)
{
	const struct net_dev *n = l->n;
	uint8_t *p = l->out + l->out_end;
	size_t head = put_head(n, p, h, f->len);
	iov_read(f->iov, f->n, 0, p + head, f->len);
	if (!n->vnet_hdr && h->flags & NET_HDR_F_NEEDS_CSUM)
		offload_checksum(h, p + head, f->len);
	l->out_end += head + f->len;
	if (l->out_end >= NET_OUT_GATHER)
		net_tx_flush(l);
	return true;
}

/*
 * From where it lies, after what has gathered. The two entries of n->iov before the frame's take what precedes
 * it.
 */
static bool send_direct(struct net_link *l, const struct net_hdr *h, const struct net_frame *f)
{
	struct net_dev *n = l->n;
	uint8_t head[NET_PREFIX + NET_HDR_LEN];
	size_t head_len = put_head(n, head, h, f->len), gathered = l->out_end;
	unsigned skip = gathered == 0;

	n->iov[0] = (struct iovec){l->out, gathered};
	n->iov[1] = (struct iovec){head, head_len};
	size_t sent = send_some(l, n->iov + skip, 2 - skip + f->n);
	if (l->fd < 0)
		return true; /* it went where the link went */
	if (sent == gathered + head_len + f->len) {
		l->out_end = 0;
		return true;
	}
	/* The rest of all three goes to out, in that order. */
	memcpy(l->out + l->out_end, head, head_len);
	iov_read(f->iov, f->n, 0, l->out + l->out_end + head_len, f->len);
	l->out_end += head_len + f->len;
	l->out_start = sent;
	set_blocked(l, true);
	return true;
}

/* 5.1.6.2: cut into segments, for a peer that wants plain frames. */
static bool send_segments(struct net_link *l, struct offload *o)
{
	size_t len, total = offload_count(o) * (NET_PREFIX + o->len) + o->payload;

	if (total > NET_OUT_SEGMENTS)
		return false;
	while ((len = offload_next(o, l->out + l->out_end + NET_PREFIX)) > 0) {
		put_prefix(l->out + l->out_end, len);
		l->out_end += NET_PREFIX + len;
	}
	net_tx_flush(l);
	return true;
}

static unsigned offloads(const struct net_dev *n)
{
	uint64_t f = n->dev.negotiated;

	return (f & NET_F_CSUM ? OFFLOAD_CSUM : 0) | (f & NET_F_HOST_TSO4 ? OFFLOAD_TSO4 : 0) |
	       (f & NET_F_HOST_TSO6 ? OFFLOAD_TSO6 : 0);
}

/*
 * IEEE 802.1Q: the link that a frame is for, or NULL. n->eth becomes the Ethernet header without the tag;
 * *ret_tag is the bytes that it had, by which h is corrected. `have` bytes of the frame are at eth, at least an
 * Ethernet header.
 */
static struct net_link *untag(
	struct net_dev *n, struct net_hdr *h, const uint8_t *eth, size_t have, size_t *ret_tag)
{
	unsigned link = 0;
	size_t tag = 0;

	if (net_type(eth) == NET_TYPE_VLAN) {
		tag = NET_VLAN_LEN;
		if (have < NET_ETH_LEN + tag)
			return NULL;
		link = (eth[NET_ETH_LEN] << 8 | eth[NET_ETH_LEN + 1]) & 0xfff; /* the rest is its priority */
		if (link == 0)
			return NULL;
		if (h->flags & NET_HDR_F_NEEDS_CSUM) {
			if (h->csum_start < NET_ETH_LEN + tag)
				return NULL;
			h->csum_start -= NET_VLAN_LEN;
		}
	}
	if (link >= NET_LINKS_MAX || n->links[link].fd < 0 || net_type_is_tag(net_type(eth + tag)))
		return NULL;
	memcpy(n->eth, eth, NET_TYPE_AT);
	memcpy(n->eth + NET_TYPE_AT, eth + NET_TYPE_AT + tag, NET_ETH_LEN - NET_TYPE_AT);
	*ret_tag = tag;
	return &n->links[link];
}

/*
 * The Ethernet header is read once, and what was read is what is sent: the guest may change the frame meanwhile,
 * but neither its link nor its type.
 */
static bool take_frame(struct net_dev *n)
{
	const struct vq_chain *c = &n->chain;
	uint8_t raw[NET_HDR_LEN + NET_ETH_LEN + NET_VLAN_LEN];
	struct net_hdr h;
	size_t tag;

	if (c->out_len < NET_HDR_LEN + NET_ETH_LEN || c->out_len > NET_WIRE_MAX + NET_VLAN_LEN)
		return false;
	size_t have = iov_read(c->iov, c->n_out, 0, raw, sizeof(raw)) - NET_HDR_LEN;
	net_hdr_decode(&h, raw);
	struct net_link *l = untag(n, &h, raw + NET_HDR_LEN, have, &tag);
	if (!l)
		return false;
	struct iovec *iov = n->iov + 2;
	const size_t off = NET_HDR_LEN + NET_ETH_LEN + tag;
	iov[0] = (struct iovec){n->eth, NET_ETH_LEN};
	const struct net_frame f = {
		.iov = iov,
		.n = 1 + iov_slice(iov + 1, c->iov, c->n_out, off, c->out_len - off),
		.len = c->out_len - NET_HDR_LEN - tag,
	};
	if (f.len > NET_FRAME_MAX || offload_check(&h, offloads(n), &f, &n->offload) < 0)
		return false;
	bool gso = h.gso_type != NET_GSO_NONE;
	/* 5.1.4.2: packets, and segments that become packets, keep to the MTU */
	if ((gso ? offload_segment_max(&n->offload) : f.len) > net_frame_limit(n))
		return false;

	if (gso && !n->vnet_hdr)
		return send_segments(l, &n->offload);
	bool checksum = h.flags & NET_HDR_F_NEEDS_CSUM && !n->vnet_hdr;
	if (checksum || f.len <= SMALL || f.n + 2 > VQ_SIZE_MAX)
		return send_copy(l, &h, &f);
	return send_direct(l, &h, &f);
}

/* ---- the queue ---- */

static void flush_all(struct net_dev *n, bool only_writable)
{
	for (unsigned i = 0; i < NET_LINKS_MAX; i++) {
		struct net_link *l = &n->links[i];
		if (l->blocked ? l->writable : !only_writable)
			net_tx_flush(l);
	}
}

void net_tx_tell(struct net_dev *n)
{
	if (n->tx_quiet > 0)
		pump_notify(&n->dev, NET_TX);
	n->tx_quiet = 0;
}

/*
 * An interrupt costs the guest as much as a small frame. What follows one is mostly an answer, and when that arrives
 * the driver looks at both queues. So it is told of small frames when they are many, or after a moment.
 */
static void given_back(struct net_dev *n, unsigned frames, bool large)
{
	if (n->tx_quiet == 0)
		loop_set_timer(n->tx_timer, QUIET_NS);
	n->tx_quiet += frames;
	if (large || n->tx_quiet >= QUIET_FRAMES)
		net_tx_tell(n);
}

bool net_tx_pump(struct net_dev *n)
{
	struct vq *q = &n->dev.vqs[NET_TX];
	unsigned frames = NET_BUDGET_FRAMES, returned = 0;
	size_t bytes = 0;
	bool large = false, more = false;

	if (n->n_blocked)
		flush_all(n, true);
	vq_disable_notify(q);
	while (vq_usable(q) && !n->n_blocked) {
		if (frames-- == 0 || bytes > NET_BUDGET_BYTES) {
			more = true;
			break;
		}
		int r = vq_pop(q, &n->chain);
		if (r < 0) {
			net_broken(n, NET_TX);
		} else if (r == 0) {
			flush_all(n, false);
			if (n->n_blocked || !vq_enable_notify(q))
				break;
			vq_disable_notify(q);
		} else {
			bool taken = take_frame(n);
			size_t len = n->chain.out_len < NET_HDR_LEN ? 0 : n->chain.out_len - NET_HDR_LEN;
			net_count(taken ? &n->stats.tx_frames : &n->stats.tx_dropped, 1);
			net_count(&n->stats.tx_bytes, taken ? len : 0);
			bytes += len;
			large = large || len > SMALL;
			vq_push(q, n->chain.head, 0);
			returned++;
		}
	}
	flush_all(n, false);
	if (returned)
		given_back(n, returned, large);
	return more;
}
