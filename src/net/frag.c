/* SPDX-License-Identifier: MIT */
/*
 * Fragments of IPv4 (RFC 791 section 3.2) and IPv6 (RFC 8200 section 4.5).
 *
 * THEORY OF OPERATION
 *
 * Fragments are put together before anything is decided about them, so that policy sees what the receiver will see. Each
 * packet has a buffer with room in front of its data for the headers of the whole, and a bit for every 8 bytes that came.
 * Whatever does not fit together ends the packet: an overlap, data behind the last fragment, two last ones. What remains of
 * it refuses the rest until its time is over (RFC 5722 section 4).
 *
 * The whole is parsed once more here: a fragment within it, and headers that were not all in the first fragment (RFC 7112),
 * are refused. A packet of one fragment (RFC 6946) passes by what waits.
 *
 * Bounds: ENGINE_FRAGS_PER_PORT packets and FRAG_PORT_BYTES per box, FRAG_BYTES in all; beyond them the oldest packet of the
 * box goes, or of the box that has most. TIMEOUT_NS after its first fragment a packet is given up. The timer runs only
 * while something waits.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "engine.h"

enum { IP4_LEN = 20, IP6_LEN = 40, IP6_FRAG_LEN = 8, UNIT = 8, IP_LEN_MAX = 65535 };
enum { HEADROOM = ETH_HDR_LEN + IP6_LEN };
enum { DATA_MAX4 = IP_LEN_MAX - IP4_LEN, DATA_MAX6 = IP_LEN_MAX };
enum { FIRST_CAP = 4096, FRAG_PORT_BYTES = 1 << 20, FRAG_BYTES = 32 << 20 };
#define TIMEOUT_NS 5000000000ull
#define TICK_NS	   1000000000ull

struct frag { /* a packet, as far as it has come */
	struct frag *next;
	uint64_t since_ns;
	struct net_addr src, dst;
	uint32_t id;
	uint8_t *mem; /* HEADROOM + cap bytes */
	bool ended;   /* what is still to come of it is refused */
	uint32_t cap;
	uint32_t received; /* bytes */
	uint32_t end;	   /* of what came furthest */
	uint32_t total;	   /* 0: the last fragment is still to come */
	uint32_t first;	   /* bytes of the first fragment, 0: still to come */
	uint8_t proto, tos, ttl;
	uint64_t seen[(IP_LEN_MAX + 1) / UNIT / 64];
};

struct frag_port {
	struct frag *oldest, **tail;
	size_t bytes; /* of buffers */
};

struct frag_state {
	struct engine *g;
	struct loop_source *timer;
	struct frag_port ports[NETD_PORTS_MAX];
	size_t bytes;
	unsigned n;
	uint8_t *done; /* buffer of the packet that was returned last */
};

/* ---- what waits ---- */

static void give_back(struct frag_state *s, unsigned slot, struct frag *f)
{
	s->bytes -= f->cap;
	s->ports[slot].bytes -= f->cap;
	f->cap = 0;
	free(TAKE_PTR(f->mem));
}

static void unlink_frag(struct frag_state *s, unsigned slot, struct frag **at)
{
	struct frag_port *fp = &s->ports[slot];
	struct frag *f = *at;

	*at = f->next;
	if (fp->tail == &f->next)
		fp->tail = at;
	s->n--;
	s->g->ports[slot]->n_frags--;
}

static void drop_oldest(struct frag_state *s, unsigned slot)
{
	struct frag *f = s->ports[slot].oldest;

	unlink_frag(s, slot, &s->ports[slot].oldest);
	give_back(s, slot, f);
	free(f);
	s->g->ports[slot]->stats.dropped++;
}

static void on_timer(void *data)
{
	struct frag_state *s = data;
	uint64_t now = time_mono_ns();

	for (unsigned i = 0; i < NETD_PORTS_MAX; i++)
		while (s->ports[i].oldest && now - s->ports[i].oldest->since_ns >= TIMEOUT_NS)
			drop_oldest(s, i);
	loop_set_timer(s->timer, s->n ? TICK_NS : UINT64_MAX);
}

int frag_new(struct engine *g)
{
	struct frag_state *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->g = g;
	for (unsigned i = 0; i < NETD_PORTS_MAX; i++)
		s->ports[i].tail = &s->ports[i].oldest;
	int r = loop_add_timer(g->loop, UINT64_MAX, on_timer, s, &s->timer);
	if (r < 0) {
		free(s);
		return r;
	}
	g->frag = s;
	return 0;
}

void frag_port_gone(struct port *p)
{
	while (p->g->frag->ports[p->slot].oldest)
		drop_oldest(p->g->frag, p->slot);
}

void frag_free(struct engine *g)
{
	struct frag_state *s = TAKE_PTR(g->frag);

	if (!s)
		return;
	for (unsigned i = 0; i < NETD_PORTS_MAX; i++)
		while (s->ports[i].oldest)
			drop_oldest(s, i);
	loop_source_free(s->timer);
	free(s->done);
	free(s);
}

/* The box whose packets hold most memory. */
static unsigned greediest(const struct frag_state *s)
{
	unsigned most = 0;

	for (unsigned i = 1; i < NETD_PORTS_MAX; i++)
		if (s->ports[i].bytes > s->ports[most].bytes)
			most = i;
	return most;
}

/* Gives f room for `end` bytes of data; others of its box, or of the greediest one, may go for it. */
static int reserve(struct frag_state *s, unsigned slot, struct frag *f, uint32_t end)
{
	struct frag_port *fp = &s->ports[slot];
	uint32_t cap = MAX_OF(MAX_OF(end, FIRST_CAP), MIN_OF(2 * f->cap, (uint32_t)IP_LEN_MAX));
	size_t more = cap - f->cap;

	if (end <= f->cap)
		return 0;
	while (fp->bytes + more > FRAG_PORT_BYTES) {
		if (fp->oldest == f)
			return -ENOBUFS;
		drop_oldest(s, slot);
	}
	while (s->bytes + more > FRAG_BYTES) {
		unsigned most = greediest(s);
		if (s->ports[most].oldest == f)
			return -ENOBUFS;
		drop_oldest(s, most);
	}
	uint8_t *mem = realloc(f->mem, HEADROOM + cap);
	if (!mem)
		return -ENOMEM;
	f->mem = mem;
	f->cap = cap;
	fp->bytes += more;
	s->bytes += more;
	return 0;
}

/* ---- a fragment ---- */

/* Where the packet of this fragment is linked, or would be. */
static struct frag **find(struct frag_port *fp, const struct pkt *k)
{
	struct frag **at = &fp->oldest;

	for (; *at; at = &(*at)->next) {
		const struct frag *f = *at;
		/* IPv6 does not count the protocol in; only the first fragment's is meant (RFC 8200 section 4.5). */
		if (f->id == k->frag_id && net_addr_equal(&f->src, &k->src) &&
			net_addr_equal(&f->dst, &k->dst) && (k->is6 || f->proto == k->proto))
			break;
	}
	return at;
}

static struct frag **start(struct frag_state *s, struct port *p, const struct pkt *k)
{
	struct frag_port *fp = &s->ports[p->slot];

	if (p->n_frags >= ENGINE_FRAGS_PER_PORT)
		drop_oldest(s, p->slot);
	struct frag *f = calloc(1, sizeof(*f));
	if (!f)
		return NULL;
	*f = (struct frag){.since_ns = time_mono_ns(),
		.src = k->src,
		.dst = k->dst,
		.id = k->frag_id,
		.proto = k->proto};
	struct frag **at = fp->tail;
	*at = f;
	fp->tail = &f->next;
	p->n_frags++;
	if (!s->n++)
		loop_set_timer(s->timer, TICK_NS);
	return at;
}

/* Marks the units of [off, end) as seen; false when one of them was already. */
static bool mark(struct frag *f, uint32_t off, uint32_t end)
{
	uint32_t to = (end + UNIT - 1) / UNIT;

	for (uint32_t u = off / UNIT; u < to;) {
		uint32_t bit = u % 64, n = MIN_OF(64 - bit, to - u);
		uint64_t mask = (n == 64 ? UINT64_MAX : (UINT64_C(1) << n) - 1) << bit;
		if (f->seen[u / 64] & mask)
			return false;
		f->seen[u / 64] |= mask;
		u += n;
	}
	return true;
}

/* Takes the data over. 0, or the packet is to end. */
static int add(struct frag_state *s, unsigned slot, struct frag *f, const struct pkt *k)
{
	uint32_t off = k->frag_off, end = off + (uint32_t)k->l4_len;

	if (end > (k->is4 ? DATA_MAX4 : DATA_MAX6) || (f->total && (!k->more || end > f->total)) ||
		(!k->more && end < f->end) || !mark(f, off, end))
		return -EBADMSG;
	int r = reserve(s, slot, f, end);
	if (r < 0)
		return r;
	memcpy(f->mem + HEADROOM + off, k->frame + k->l4, k->l4_len);
	f->received += (uint32_t)k->l4_len;
	f->end = MAX_OF(f->end, end);
	if (!k->more)
		f->total = end;
	if (!off) {
		f->first = (uint32_t)k->l4_len;
		f->proto = k->proto;
		f->tos = k->tos;
		f->ttl = k->ttl;
	}
	return 0;
}

/* The whole frame, within f->mem; 0 when it is none. */
static size_t finish(const struct frag *f, const struct pkt *k, const uint8_t **ret_frame)
{
	uint8_t *frame = f->mem + (k->is4 ? IP6_LEN - IP4_LEN : 0);
	const struct pkt_out o = {.eth_dst = k->eth_dst,
		.eth_src = k->eth_src,
		.src = &f->src,
		.dst = &f->dst,
		.proto = f->proto,
		.ttl = f->ttl,
		.tos = f->tos,
		.ip4_id = (uint16_t)f->id};
	struct pkt whole;

	size_t head = pkt_put_headers(frame, &o, f->total);
	/* Hop-by-hop options belong in front of the fragment header, and come first (RFC 8200 section 4.1). */
	if (k->is6 && f->proto == IPPROTO_HOPOPTS)
		return 0;
	if (pkt_parse(&whole, &(struct vnet_hdr){0}, frame, head + f->total) < 0 || whole.fragment ||
		(whole.payload ? whole.payload : whole.l4) - head > f->first)
		return 0;
	*ret_frame = frame;
	return head + f->total;
}

/* RFC 6946: a packet of one fragment has nothing to do with others of the same identification. */
static size_t whole_at_once(struct frag_state *s, const struct pkt *k, const uint8_t **ret_frame)
{
	struct frag f = {.src = k->src,
		.dst = k->dst,
		.id = k->frag_id,
		.total = (uint32_t)k->l4_len,
		.first = (uint32_t)k->l4_len,
		.proto = k->proto,
		.tos = k->tos,
		.ttl = k->ttl};

	s->done = f.mem = malloc(HEADROOM + k->l4_len);
	if (!f.mem)
		return 0;
	memcpy(f.mem + HEADROOM, k->frame + k->l4, k->l4_len);
	return finish(&f, k, ret_frame);
}

size_t frag_input(struct port *p, const struct pkt *k, const uint8_t **ret_frame)
{
	struct frag_state *s = p->g->frag;
	size_t len;

	free(TAKE_PTR(s->done));
	if (!k->frag_off && !k->more) {
		len = whole_at_once(s, k, ret_frame);
		p->stats.dropped += !len;
		return len;
	}
	struct frag **at = find(&s->ports[p->slot], k);
	if (!*at && !(at = start(s, p, k))) {
		p->stats.dropped++;
		return 0;
	}
	struct frag *f = *at;
	if (f->ended || add(s, p->slot, f, k) < 0) {
		give_back(s, p->slot, f);
		f->ended = true;
		p->stats.dropped++;
		return 0;
	}
	if (f->received != f->total)
		return 0;
	len = finish(f, k, ret_frame);
	p->stats.dropped += !len;
	s->done = TAKE_PTR(f->mem);
	give_back(s, p->slot, f);
	unlink_frag(s, p->slot, find(&s->ports[p->slot], k)); /* `at` may be gone with an older one */
	free(f);
	return len;
}

/* ---- cutting ---- */

static void put_be16(uint8_t *p, size_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

/*
 * Cuts the data behind the headers: `head` has room behind its `fixed` bytes for the fragment header that IPv6 needs, and
 * the frame's data begins at `data`.
 */
static void cut(
	struct port *to, struct port *from, uint8_t *head, size_t fixed, const uint8_t *data, size_t len)
{
	bool is4 = fixed == ETH_HDR_LEN + IP4_LEN;
	uint8_t *ip = head + ETH_HDR_LEN, *frag = head + fixed;
	size_t extra = is4 ? 0 : IP6_FRAG_LEN;
	const size_t step = (NETD_MTU - (fixed - ETH_HDR_LEN) - extra) / UNIT * UNIT;

	for (size_t off = 0; off < len; off += step) {
		size_t part = MIN_OF(step, len - off);
		bool more = off + part < len;
		if (is4) {
			put_be16(ip + 2, IP4_LEN + part);
			put_be16(ip + 6, off / UNIT | (more ? 0x2000U : 0));
			put_be16(ip + 10, 0);
			uint16_t sum = inet_sum_finish(inet_sum(0, ip, IP4_LEN));
			memcpy(ip + 10, &sum, 2);
		} else {
			put_be16(ip + 4, extra + part);
			put_be16(frag + 2, off | more);
		}
		const struct iovec iov[] = {{head, fixed + extra}, {(void *)(data + off), part}};
		port_send(to, from, &(struct vnet_hdr){0}, iov, 2);
	}
}

void frag_output(
	struct port *to, struct port *from, const struct vnet_hdr *h, const uint8_t *frame, size_t len)
{
	uint8_t head[ETH_HDR_LEN + IP6_LEN + IP6_FRAG_LEN];
	const uint8_t *ip = frame + ETH_HDR_LEN;
	bool is4 = ip[0] >> 4 == 4;
	size_t fixed = ETH_HDR_LEN + (is4 ? IP4_LEN : IP6_LEN), skip = is4 ? (ip[0] & 15) * 4U : IP6_LEN;

	/* What the receiver's device cuts or sums is not cut here, and hop-by-hop options and routes stay where they are. */
	if (len <= ETH_HDR_LEN + NETD_MTU || h->gso_type != VNET_GSO_NONE || h->flags & VNET_NEEDS_CSUM ||
		(!is4 && (ip[6] == IPPROTO_HOPOPTS || ip[6] == IPPROTO_ROUTING ||
				 ip[6] == IPPROTO_FRAGMENT))) {
		port_send(to, from, h, &(struct iovec){(void *)frame, len}, 1);
		return;
	}
	memcpy(head, frame, fixed);
	if (is4) {
		head[ETH_HDR_LEN] = 0x45; /* options are not kept */
		io_random(head + ETH_HDR_LEN + 4, 2);
	} else {
		head[fixed] = head[ETH_HDR_LEN + 6];
		head[fixed + 1] = 0;
		io_random(head + fixed + 4, 4);
		head[ETH_HDR_LEN + 6] = IPPROTO_FRAGMENT;
	}
	cut(to, from, head, fixed, frame + ETH_HDR_LEN + skip, len - ETH_HDR_LEN - skip);
}
