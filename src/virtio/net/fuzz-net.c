/* SPDX-License-Identifier: MIT */
/*
 * The network device between a guest and peers on some links that do what the input says, in any order. Input:
 * u8 flags (1: with virtio headers), u8 features, then steps of 8 bytes, see `step`. Checked: the bounds of what
 * is held; that peers always get whole frames without a tag, of a length that the link allows, whatever the
 * guest did.
 */
#include <endian.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>

#include "net/internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { QSIZE = 16, SLOT = 0x11000, MTU = 1500, GPA = 0x1000 };
enum { RX_AT = 0, TX_AT = 0x1000, AVAIL = 0x400, USED = 0x800, RX_DATA = 0x2000, RX_SLOT = 0x1000 };
enum { TX_DATA = RX_DATA + QSIZE * RX_SLOT, MEM = TX_DATA + 4 * SLOT };
enum { NEXT = 1, WRITE = 2 };

enum { PEERS = 3 };
static const unsigned link_of[PEERS] = {0, 1, NET_LINKS_MAX - 1};

struct peer {
	int fd;
	/* The stream as it sees it: a frame's length and first bytes, and what is still to come. */
	uint8_t got[NET_PREFIX + NET_HDR_LEN + NET_ETH_LEN];
	size_t n_got, left;
};

struct world {
	struct loop *loop;
	struct net_dev *n;
	uint8_t *mem;
	struct guest_mem gm;
	uint16_t avail[2], rx_seen;
	uint8_t features;
	struct peer peers[PEERS];
	unsigned at; /* whose turn it is */
};

static void transport_notify(void *t, unsigned queue)
{
}

static void transport_needs_reset(void *t, unsigned queue, const char *why)
{
	if (!why)
		__builtin_trap();
}

static void transport_device_gone(void *t)
{
}

static const struct virtio_transport_ops transport = {
	.notify_driver = transport_notify,
	.needs_reset = transport_needs_reset,
	.device_gone = transport_device_gone,
};

static void put_desc(struct world *w, size_t ring, unsigned i, uint64_t at, uint32_t len, uint16_t flags)
{
	struct {
		uint64_t addr;
		uint32_t len;
		uint16_t flags, next;
	} d = {GPA + at, len, flags, (uint16_t)((i + 1) % QSIZE)};
	memcpy(w->mem + ring + 16 * (size_t)(i % QSIZE), &d, sizeof(d));
}

static void offer(struct world *w, unsigned q, uint16_t head)
{
	size_t ring = q ? TX_AT : RX_AT;

	memcpy(w->mem + ring + AVAIL + 4 + 2 * (w->avail[q] % QSIZE), &head, 2);
	w->avail[q]++;
	memcpy(w->mem + ring + AVAIL + 2, &w->avail[q], 2);
	w->n->dev.ops->queue_notify(&w->n->dev, q);
}

/* Features: 1 EVENT_IDX, 2 CSUM, 4 HOST_TSO, 8 GUEST_CSUM, 16 GUEST_TSO, 32 MRG_RXBUF, 64 MTU */
static void start(struct world *w, uint8_t f)
{
	uint64_t features = VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | (f & 1 ? VIRTIO_F_EVENT_IDX : 0) |
			    (f & 2 ? NET_F_CSUM : 0) | (f & 4 ? NET_F_HOST_TSO4 | NET_F_HOST_TSO6 : 0) |
			    (f & 8 ? NET_F_GUEST_CSUM : 0) |
			    (f & 16 ? NET_F_GUEST_TSO4 | NET_F_GUEST_TSO6 : 0) |
			    (f & 32 ? NET_F_MRG_RXBUF : 0) | (f & 64 ? NET_F_MTU : 0);

	w->features = f;
	memset(w->mem, 0, RX_DATA);
	memset(w->avail, 0, sizeof(w->avail));
	w->rx_seen = 0;
	w->n->dev.negotiated = features & w->n->dev.features;
	for (unsigned q = 0; q < 2; q++) {
		size_t ring = GPA + (q ? TX_AT : RX_AT);
		const struct vq_config conf = {.size = QSIZE,
			.event_idx = f & 1,
			.indirect = true,
			.desc = ring,
			.avail = ring + AVAIL,
			.used = ring + USED};
		if (vq_init(&w->n->dev.vqs[q], &w->gm, &conf) < 0)
			__builtin_trap();
		w->n->dev.ops->queue_started(&w->n->dev, q);
	}
}

static void stop(struct world *w)
{
	for (unsigned q = 0; q < 2; q++) {
		w->n->dev.ops->queue_stopping(&w->n->dev, q);
		vq_stop(&w->n->dev.vqs[q]);
	}
	w->n->dev.ops->reset(&w->n->dev);
}

static void connect_peer(struct world *w, unsigned i)
{
	const int size = 4096;
	int s[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, s) < 0)
		abort();
	setsockopt(s[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	close_fd(&w->peers[i].fd);
	w->peers[i] = (struct peer){.fd = s[0]};
	if (net_connect(w->n, link_of[i], s[1]) < 0)
		abort();
}

/*
 * Flags: 1 closes the other end (or 2: ours), else connects what is not; then the peer of the high bits is at.
 */
static void change_peers(struct world *w, uint8_t flags)
{
	if (flags & 2)
		net_disconnect(w->n, link_of[w->at]);
	if (flags & 1)
		close_fd(&w->peers[w->at].fd);
	else if (!(flags & 2) && w->n->links[link_of[w->at]].fd < 0)
		connect_peer(w, w->at);
	w->at = (flags >> 4) % PEERS;
}

/* ---- frames ---- */

static const uint32_t lens[] = {
	0, 13, 14, 54, 60, 74, 100, 1000, 1514, 1518, 1519, 4000, 20000, 65549, 65550, 65551};
static const uint16_t sizes[] = {0, 1, 47, 48, 100, 536, 1448, 65535};

/* Headers of some frame, and the offset of the fourth layer. */
static size_t build(uint8_t *p, uint8_t kind)
{
	size_t l3 = 14, l4;

	memset(p, 0, 200);
	p[12] = 8;
	if (kind & 4) { /* a tag */
		p[12] = 0x81;
		p[15] = kind & 16 ? 1 : NET_LINKS_MAX - 1;
		p[16] = 8;
		l3 += 4;
	}
	if (kind & 1) {
		p[l3 - 2] = 0x86;
		p[l3 - 1] = 0xdd;
		p[l3] = 0x60;
		p[l3 + 6] = kind & 2 ? 60 : 6;
		l4 = l3 + 40;
		if (kind & 2) { /* an extension header */
			p[l4] = 6;
			p[l4 + 1] = kind >> 5;
			l4 += 8 + (kind >> 5) * 8U;
		}
	} else {
		p[l3] = (uint8_t)(0x45 + (kind >> 5));
		p[l3 + 9] = kind & 2 ? 17 : 6;
		l4 = l3 + 20 + (kind >> 5) * 4U;
	}
	p[l4 + 12] = kind & 8 ? 0x80 : 0x50;
	p[l4 + 13] = 0x99;
	return l4;
}

/*
 * s[1] kind, s[2] flags and type, s[3] size and length, s[4] and s[5] offsets, s[6] and s[7] a byte of it
 * that differs
 */
static size_t make_frame(uint8_t *raw, const uint8_t *s)
{
	size_t l4 = build(raw + NET_HDR_LEN, s[1]);
	const struct net_hdr h = {
		.flags = s[2] & 3,
		.gso_type = s[2] & 4 ? (s[1] & 1 ? NET_GSO_TCPV6 : NET_GSO_TCPV4) : s[2] >> 4,
		.hdr_len = s[4],
		.gso_size = sizes[s[3] & 7],
		.csum_start = (uint16_t)(l4 + (s[4] & 0xf0 ? s[4] * 257U : 0)),
		.csum_offset = (uint16_t)(16 + (s[5] & 0xf0 ? s[5] * 257U : 0)),
	};

	net_hdr_encode(raw, &h);
	raw[s[6]] ^= s[7];
	return lens[s[3] >> 4];
}

static void guest_frame(struct world *w, const uint8_t *s)
{
	unsigned slot = w->avail[NET_TX] % QSIZE;
	size_t at = TX_DATA + (slot % 4) * SLOT, len = make_frame(w->mem + at, s);
	uint32_t cut = s[2] & 8 ? s[1] % 64U : 0;

	if (cut) {
		put_desc(w, TX_AT, slot, at, cut, NEXT);
		put_desc(w, TX_AT, slot + 1, at + cut, (uint32_t)(NET_HDR_LEN + len - MIN_OF(cut, len)), 0);
	} else {
		put_desc(w, TX_AT, slot, at, (uint32_t)(NET_HDR_LEN + len), 0);
	}
	offer(w, NET_TX, (uint16_t)slot);
}

static void peer_frame(struct world *w, const uint8_t *s)
{
	static uint8_t raw[NET_PREFIX + NET_HDR_LEN + 0x10100];
	size_t len = make_frame(raw + NET_PREFIX, s), skip = w->n->vnet_hdr ? 0 : NET_HDR_LEN;

	len += NET_HDR_LEN - skip;
	const uint32_t prefix = htobe32((uint32_t)len);
	memcpy(raw + skip, &prefix, NET_PREFIX);
	ssize_t n = send(w->peers[w->at].fd, raw + skip, NET_PREFIX + len, MSG_NOSIGNAL | MSG_DONTWAIT);
	(void)n; /* perhaps half of it */
}

/* ---- both ends ---- */

/* The beginning of a frame is there: length and type are what they may be. */
static void peer_judge(struct world *w, struct peer *p, size_t head)
{
	uint32_t len;

	memcpy(&len, p->got, NET_PREFIX);
	p->left = be32toh(len);
	size_t limit = w->n->vnet_hdr ? NET_FRAME_MAX : MTU + NET_ETH_LEN;
	if (p->left < head + NET_ETH_LEN || p->left > head + limit)
		__builtin_trap();
	if (net_type_is_tag(net_type(p->got + NET_PREFIX + head)))
		__builtin_trap();
	p->left -= head + NET_ETH_LEN;
	p->n_got = 0;
}

/* Reads what the device sent, and follows the framing. */
static void peer_take(struct world *w, struct peer *p, size_t max)
{
	static uint8_t buf[70000];
	size_t head = w->n->vnet_hdr ? NET_HDR_LEN : 0;
	ssize_t n = recv(p->fd, buf, MIN_OF(max, sizeof(buf)), MSG_DONTWAIT);

	for (ssize_t i = 0; i < n;) {
		if (p->left) {
			size_t part = MIN_OF(p->left, (size_t)(n - i));
			p->left -= part;
			i += (ssize_t)part;
			continue;
		}
		p->got[p->n_got++] = buf[i++];
		if (p->n_got == NET_PREFIX + head + NET_ETH_LEN)
			peer_judge(w, p, head);
	}
}

static void guest_post(struct world *w, const uint8_t *s)
{
	static const uint32_t room[] = {4096, 2000, 1526, 200, 12, 11, 0, 1U << 17};

	for (unsigned i = 0; i < (s[1] & 15U); i++) {
		unsigned slot = w->avail[NET_RX] % QSIZE;
		put_desc(w, RX_AT, slot, RX_DATA + slot * RX_SLOT, room[s[2] & 7], s[2] & 8 ? 0 : WRITE);
		offer(w, NET_RX, (uint16_t)slot);
	}
}

static void guest_take(struct world *w)
{
	uint16_t used;

	memcpy(&used, w->mem + RX_AT + USED + 2, 2);
	for (int i = 0; i < QSIZE && w->rx_seen != used; i++, w->rx_seen++)
		;
}

static void check(const struct world *w)
{
	const struct net_dev *n = w->n;

	unsigned blocked = 0;

	for (unsigned i = 0; i < NET_LINKS_MAX; i++) {
		const struct net_link *l = &n->links[i];
		if (l->out_start > l->out_end || l->out_end > NET_OUT_MAX || l->in_start > l->in_end ||
			l->in_end > NET_IN_MAX)
			__builtin_trap();
		bool up = l->fd >= 0;
		if (l->blocked != (l->out_end > 0) || up != (l->src != NULL) || up != (l->out != NULL) ||
			up != (l->in != NULL) || l->gone)
			__builtin_trap();
		blocked += l->blocked;
	}
	if (blocked != n->n_blocked)
		__builtin_trap();
	for (unsigned q = 0; q < 2; q++) {
		if (vq_usable(&n->dev.vqs[q]) && n->dev.vqs[q].in_flight)
			__builtin_trap(); /* no chain is held between turns */
	}
}

static void step(struct world *w, const uint8_t *s)
{
	uint16_t off;
	ssize_t n = 0;

	memcpy(&off, s + 2, 2);
	switch (s[0] % 16) {
	case 0 ... 4:
		guest_frame(w, s);
		break;
	case 5 ... 7:
		peer_frame(w, s);
		break;
	case 8:
		n = send(w->peers[w->at].fd, s + 2, s[1] % 7, MSG_NOSIGNAL | MSG_DONTWAIT);
		break;
	case 9:
		peer_take(w, &w->peers[w->at], s[1] & 1 ? 70000 : off);
		break;
	case 10:
	case 11:
		guest_post(w, s);
		break;
	case 12:
		guest_take(w);
		break;
	case 13: /* rings go wild */
		memcpy(w->mem + off % RX_DATA, s + 4, 4);
		w->n->dev.ops->queue_notify(&w->n->dev, s[1] & 1);
		break;
	case 14:
		change_peers(w, s[1]);
		break;
	default:
		stop(w);
		start(w, s[1]);
	}
	(void)n;
	if (s[0] & 0x80)
		return; /* together with the next one */
	loop_turn(w->loop, 0);
	check(w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct world w = {.gm.n_regions = 1};

	if (size < 2)
		return 0;
	const struct net_config c = {.mtu = MTU, .vnet_hdr = data[0] & 1};
	w.mem = calloc(1, MEM);
	if (!w.mem || loop_new(&w.loop) < 0 || net_new(w.loop, &c, &w.n) < 0)
		abort();
	for (unsigned i = 0; i < PEERS; i++) {
		w.peers[i].fd = -1;
		connect_peer(&w, i);
	}
	w.gm.regions[0] = (struct guest_mem_region){.gpa = GPA, .len = MEM, .host = w.mem};
	w.n->dev.transport_ops = &transport;
	start(&w, data[1]);
	for (size_t at = 2; at + 8 <= size; at += 8)
		step(&w, data + at);
	for (int i = 0; i < 20 + PEERS; i++) {
		loop_turn(w.loop, 0);
		for (unsigned p = 0; p < PEERS; p++)
			peer_take(&w, &w.peers[p], 70000);
	}
	check(&w);
	stop(&w);
	net_free(w.n);
	for (unsigned p = 0; p < PEERS; p++)
		close_fd(&w.peers[p].fd);
	loop_free(w.loop);
	free(w.mem);
	return 0;
}
