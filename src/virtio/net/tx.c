/* SPDX-License-Identifier: MIT */
/*
 * Frames of the guest (virtio 1.2 section 5.1.6.2). Large ones go to the socket from where they lie; small
 * ones gather in `out` until the queue is empty, so that a row of acknowledgements is one system call; those
 * with a checksum or segments to be made are made in `out`. What the socket does not take of a frame is kept
 * there and sent before anything else: on a stream, half a frame cannot be taken back.
 */
#include <string.h>
#include <sys/socket.h>

#include "net/internal.h"
#include "pump.h"

/* Frames up to this many bytes gather. */
enum { SMALL = 1024 };

static void put_prefix(uint8_t *p, size_t len)
{
	p[0] = (uint8_t)(len >> 24);
	p[1] = (uint8_t)(len >> 16);
	p[2] = (uint8_t)(len >> 8);
	p[3] = (uint8_t)len;
}

/* Writes to the socket. Bytes taken, 0 when it takes none; the link goes down on any other error. */
static size_t send_some(struct net_dev *n, struct iovec *iov, unsigned n_iov)
{
	struct msghdr mh = {.msg_iov = iov, .msg_iovlen = n_iov};
	ssize_t r;

	do {
		r = sendmsg(n->fd, &mh, MSG_DONTWAIT | MSG_NOSIGNAL);
	} while (r < 0 && errno == EINTR);
	if (r >= 0)
		return (size_t)r;
	if (errno != EAGAIN)
		net_down(n);
	return 0;
}

void net_tx_flush(struct net_dev *n)
{
	struct iovec iov = {n->out + n->out_start, n->out_end - n->out_start};

	n->writable = false;
	if (n->fd < 0 || iov.iov_len == 0)
		return;
	size_t sent = send_some(n, &iov, 1);
	if (n->fd < 0)
		return; /* and out is empty */
	n->out_start += sent;
	n->blocked = n->out_start < n->out_end;
	if (!n->blocked)
		n->out_start = n->out_end = 0;
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
static bool send_copy(struct net_dev *n, const struct net_hdr *h, const struct net_frame *f)
{
	uint8_t *p = n->out + n->out_end;
	size_t head = put_head(n, p, h, f->len);
	iov_read(f->iov, f->n, f->off, p + head, f->len);
	if (!n->vnet_hdr && h->flags & NET_HDR_F_NEEDS_CSUM)
		offload_checksum(h, p + head, f->len);
	n->out_end += head + f->len;
	if (n->out_end >= NET_OUT_GATHER)
		net_tx_flush(n);
	return true;
}

/* From where it lies, after what has gathered. */
static bool send_direct(struct net_dev *n, const struct net_hdr *h, const struct net_frame *f)
{
	uint8_t head[NET_PREFIX + NET_HDR_LEN];
	unsigned n_iov = 0;

	if (n->out_end)
		n->iov[n_iov++] = (struct iovec){n->out, n->out_end};
	size_t head_len = put_head(n, head, h, f->len), gathered = n->out_end;
	n->iov[n_iov++] = (struct iovec){head, head_len};
	n_iov += iov_slice(n->iov + n_iov, f->iov, f->n, f->off, f->len);

	size_t sent = send_some(n, n->iov, n_iov);
	if (n->fd < 0)
		return true; /* it went where the link went */
	if (sent == gathered + head_len + f->len) {
		n->out_end = 0;
		return true;
	}
	/* The rest of all three goes to out, in that order. */
	memcpy(n->out + n->out_end, head, head_len);
	iov_read(f->iov, f->n, f->off, n->out + n->out_end + head_len, f->len);
	n->out_end += head_len + f->len;
	n->out_start = sent;
	n->blocked = true;
	return true;
}

/* 5.1.6.2: cut into segments, for a peer that wants plain frames. */
static bool send_segments(struct net_dev *n, struct offload *o)
{
	size_t len, total = offload_count(o) * (NET_PREFIX + o->len) + o->payload;

	if (total > NET_OUT_SEGMENTS)
		return false;
	while ((len = offload_next(o, n->out + n->out_end + NET_PREFIX)) > 0) {
		put_prefix(n->out + n->out_end, len);
		n->out_end += NET_PREFIX + len;
	}
	net_tx_flush(n);
	return true;
}

static unsigned offloads(const struct net_dev *n)
{
	uint64_t f = n->dev.negotiated;

	return (f & NET_F_CSUM ? OFFLOAD_CSUM : 0) | (f & NET_F_HOST_TSO4 ? OFFLOAD_TSO4 : 0) |
	       (f & NET_F_HOST_TSO6 ? OFFLOAD_TSO6 : 0);
}

static bool take_frame(struct net_dev *n)
{
	const struct vq_chain *c = &n->chain;
	uint8_t raw[NET_HDR_LEN];
	struct net_hdr h;

	if (n->fd < 0 || c->out_len < NET_HDR_LEN || c->out_len > NET_WIRE_MAX)
		return false;
	iov_read(c->iov, c->n_out, 0, raw, sizeof(raw));
	net_hdr_decode(&h, raw);
	const struct net_frame f = {c->iov, c->n_out, NET_HDR_LEN, c->out_len - NET_HDR_LEN};
	if (offload_check(&h, offloads(n), &f, &n->offload) < 0)
		return false;
	bool gso = h.gso_type != NET_GSO_NONE;
	/* 5.1.4.2: packets, and segments that become packets, keep to the MTU */
	if ((gso ? offload_segment_max(&n->offload) : f.len) > net_frame_limit(n))
		return false;

	if (gso && !n->vnet_hdr)
		return send_segments(n, &n->offload);
	bool checksum = h.flags & NET_HDR_F_NEEDS_CSUM && !n->vnet_hdr;
	if (checksum || f.len <= SMALL || c->n_out + 2 > VQ_SIZE_MAX)
		return send_copy(n, &h, &f);
	return send_direct(n, &h, &f);
}

/* ---- the queue ---- */

bool net_tx_pump(struct net_dev *n)
{
	struct vq *q = &n->dev.vqs[NET_TX];
	unsigned frames = NET_BUDGET_FRAMES;
	size_t bytes = 0;
	bool pushed = false, more = false;

	if (n->blocked && n->writable)
		net_tx_flush(n);
	vq_disable_notify(q);
	while (vq_usable(q) && !n->blocked) {
		if (frames-- == 0 || bytes > NET_BUDGET_BYTES) {
			more = true;
			break;
		}
		int r = vq_pop(q, &n->chain);
		if (r < 0) {
			net_broken(n, NET_TX);
		} else if (r == 0) {
			net_tx_flush(n);
			if (n->blocked || !vq_enable_notify(q))
				break;
			vq_disable_notify(q);
		} else {
			bool taken = take_frame(n);
			size_t len = n->chain.out_len < NET_HDR_LEN ? 0 : n->chain.out_len - NET_HDR_LEN;
			net_count(taken ? &n->stats.tx_frames : &n->stats.tx_dropped, 1);
			net_count(&n->stats.tx_bytes, taken ? len : 0);
			bytes += len;
			vq_push(q, n->chain.head, 0);
			pushed = true;
		}
	}
	if (!n->blocked)
		net_tx_flush(n);
	if (pushed)
		pump_notify(&n->dev, NET_TX);
	return more;
}
