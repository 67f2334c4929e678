/* SPDX-License-Identifier: MIT */
/*
 * From box to box.
 *
 * THEORY OF OPERATION
 *
 * Where everybody may talk to everybody (isolation none), packets are passed on and nothing is remembered. Else policy is asked
 * about what begins, and a flow remembers the answer for both directions, so that rules cost nothing from then on:
 *
 *     TCP    begins with SYN. A segment of an unknown connection is taken for one that began before us (a netd that was
 *            killed, or a flow that was forgotten) if policy allows it the one way or the other; nobody is told about it
 *            and nothing is counted. As an answer it is taken only for PICK_UP_NS after one of the two was attached, and
 *            until the other side has spoken too such a flow belongs to who sent it, up to PICKED_MAX of them: so nobody
 *            reaches a box by inventing answers. Else it is answered by a reset, as by a host that knows of no connection.
 *     UDP    begins with any packet
 *     ICMP   begins with an echo request; replies and errors only pass where there is what they speak of
 *     other protocols: between two addresses, with any packet
 *
 * What is denied is refused: TCP by a reset (as tcp.c does for the outside), the rest by ICMP "prohibited".
 *
 *     FLOW_NEW      TCP: SYN seen                       -> OPEN when both sides have acknowledged, CLOSING
 *     FLOW_OPEN     TCP: established                    -> CLOSING after RST, or FIN of both sides
 *     FLOW_CLOSING  TCP                                 -> NEW by a SYN that policy allows again
 *     FLOW_UDP, FLOW_OTHER
 *
 * A flow belongs to the box that began it, in one of its lists, by kind, the one used last in front. So all that idles too long
 * is at the ends, and so is what makes room when a box has too many: what is half open first, then the longest idle. What a
 * flow idles is only looked at once a second: a packet normally touches nothing but the flow. Which flow that is, each box's
 * cache of recent ones mostly knows without the keyed hash: who makes collisions there makes them for himself.
 */
#include <string.h>
#include <time.h>

#include "base/io.h"
#include "engine.h"

enum kind { FLOW_NEW, FLOW_CLOSING, FLOW_OTHER, FLOW_UDP, FLOW_OPEN, FLOW_KINDS };
static const uint32_t idle_max_s[FLOW_KINDS] = {
	[FLOW_NEW] = 30, [FLOW_CLOSING] = 30, [FLOW_OTHER] = 30, [FLOW_UDP] = 180, [FLOW_OPEN] = 2 * 3600};

enum {
	FLOWS_MAX = 1 << 18,
	BUCKETS = 1 << 16,
	RECENT = 256,
	SWEEP_S = 5,
	PICKED_MAX = 1024, /* flows of a box that it claims to answer on */
	REPLY = 1	   /* direction of a packet; 0: as the flow began */
};
#define NS_PER_S   1000000000ull
#define PICK_UP_NS (60 * NS_PER_S)

struct flow {
	struct flow *next; /* in its bucket */
	struct flow_key key;
	enum kind kind;
	bool acked[2], fin[2]; /* TCP, by direction */
	bool has_ack[2];
	uint32_t ack
		[2]; /* what each side has last acknowledged: a reset to it must have it as its number (RFC 5961) */
	uint32_t used_s;
	struct port *from, *to, *owner;	       /* owner: from; `to` of one that was picked up by an answer */
	struct flow *newer, *older;	       /* in its owner's list */
	struct flow *other_next, **other_link; /* of those whose other end is the same box */
};

struct list {
	struct flow *newest, *oldest;
};

struct switch_port {
	struct list lists[FLOW_KINDS];
	struct flow *of_others; /* that lead to it, or would come from it */
	unsigned n_picked;
	struct flow *recent[RECENT]; /* of both directions, by recent_of what this box sends */
};

struct switch_state {
	struct loop_source *sweep;
	unsigned n_flows;
	struct switch_port ports[NETD_PORTS_MAX];
	struct flow *buckets[BUCKETS];
};

static uint32_t now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &t); /* a few nanoseconds, for every packet */
	return (uint32_t)t.tv_sec + 1;
}

/* ---- the table ---- */

/* The key of what comes back. */
static struct flow_key reversed(const struct flow_key *k)
{
	struct flow_key r = *k;

	r.src = k->dst;
	r.dst = k->src;
	if (k->proto == IPPROTO_TCP || k->proto == IPPROTO_UDP) {
		r.sport = k->dport;
		r.dport = k->sport;
	}
	return r;
}

/* The same for both directions. */
static size_t bucket_of(const struct flow_key *k)
{
	const struct flow_key r = reversed(k);

	return flow_hash(memcmp(k, &r, sizeof(r)) <= 0 ? k : &r) % BUCKETS;
}

static unsigned recent_of(const struct flow_key *k)
{
	uint32_t low;

	memcpy(&low, k->dst.b + 12, sizeof(low));
	low = (low ^ (uint32_t)k->sport << 16 ^ k->dport) * 0x9e3779b1u;
	return low >> 24;
}

static bool is_reverse(const struct flow_key *a, const struct flow_key *b)
{
	const bool ports = a->proto == IPPROTO_TCP || a->proto == IPPROTO_UDP;

	return net_addr_equal(&a->src, &b->dst) && net_addr_equal(&a->dst, &b->src) && a->proto == b->proto &&
	       a->sport == (ports ? b->dport : b->sport) && a->dport == (ports ? b->sport : b->dport);
}

/* Of the packet's own direction, or the other one's; *ret_direction says which. */
static struct flow *find_any(const struct switch_state *s, const struct flow_key *k, bool forward,
	bool backward, int *ret_direction)
{
	for (struct flow *f = s->buckets[bucket_of(k)]; f; f = f->next) {
		if (forward && memcmp(&f->key, k, sizeof(*k)) == 0) {
			*ret_direction = 0;
			return f;
		}
		if (backward && is_reverse(&f->key, k)) {
			*ret_direction = REPLY;
			return f;
		}
	}
	return NULL;
}

/* The same for what a box sends, which is remembered. */
static struct flow *find(
	struct port *from, const struct flow_key *k, bool forward, bool backward, int *ret_direction)
{
	struct switch_state *s = from->g->switch_state;
	struct flow **recent = &s->ports[from->slot].recent[recent_of(k)], *f = *recent;

	if (f && f->from == from && forward && memcmp(&f->key, k, sizeof(*k)) == 0) {
		*ret_direction = 0;
		return f;
	}
	if (f && f->from != from && backward && is_reverse(&f->key, k)) {
		*ret_direction = REPLY;
		return f;
	}
	f = find_any(s, k, forward, backward, ret_direction);
	if (f)
		*recent = f;
	return f;
}

static void forget_recent(struct switch_state *s, const struct flow *f)
{
	const struct flow_key back = reversed(&f->key);
	struct flow **of_from = &s->ports[f->from->slot].recent[recent_of(&f->key)];
	struct flow **of_to = &s->ports[f->to->slot].recent[recent_of(&back)];

	if (*of_from == f)
		*of_from = NULL;
	if (*of_to == f)
		*of_to = NULL;
}

static struct list *list_of(struct flow *f)
{
	return &f->owner->g->switch_state->ports[f->owner->slot].lists[f->kind];
}

static void list_add(struct flow *f)
{
	struct list *l = list_of(f);

	f->newer = NULL;
	f->older = l->newest;
	*(l->newest ? &l->newest->newer : &l->oldest) = f;
	l->newest = f;
}

static void list_remove(struct flow *f)
{
	struct list *l = list_of(f);

	*(f->newer ? &f->newer->older : &l->newest) = f->older;
	*(f->older ? &f->older->newer : &l->oldest) = f->newer;
}

/* Into the lists of a box that it counts against. */
static void give_to(struct switch_state *s, struct flow *f, struct port *owner)
{
	const struct port *other = owner == f->from ? f->to : f->from;
	struct flow **others = &s->ports[other->slot].of_others;

	f->owner = owner;
	list_add(f);
	f->other_next = *others;
	f->other_link = others;
	if (f->other_next)
		f->other_next->other_link = &f->other_next;
	*others = f;
	owner->n_flows++;
	s->ports[owner->slot].n_picked += owner != f->from;
}

static void take_away(struct switch_state *s, struct flow *f)
{
	list_remove(f);
	*f->other_link = f->other_next;
	if (f->other_next)
		f->other_next->other_link = f->other_link;
	f->owner->n_flows--;
	s->ports[f->owner->slot].n_picked -= f->owner != f->from;
}

static void flow_free(struct switch_state *s, struct flow *f)
{
	struct flow **at = &s->buckets[bucket_of(&f->key)];

	while (*at != f)
		at = &(*at)->next;
	*at = f->next;
	forget_recent(s, f);
	take_away(s, f);
	s->n_flows--;
	free(f);
}

static void flow_used(struct flow *f, uint32_t now)
{
	if (f->used_s == now)
		return;
	f->used_s = now;
	list_remove(f);
	list_add(f);
}

static void flow_becomes(struct flow *f, enum kind kind)
{
	list_remove(f);
	f->kind = kind;
	list_add(f);
}

/* The flow of a box that others miss least; NULL when it has none. */
static struct flow *expendable(const struct switch_port *sp)
{
	struct flow *best = sp->lists[FLOW_NEW].oldest;

	for (enum kind k = FLOW_CLOSING; !sp->lists[FLOW_NEW].oldest && k < FLOW_KINDS; k++) {
		struct flow *f = sp->lists[k].oldest;
		if (f && (!best || f->used_s < best->used_s))
			best = f;
	}
	return best;
}

/* Of all boxes, who has the most gives. */
static struct flow *of_greediest(const struct engine *g)
{
	const struct port *greediest = NULL;

	for (unsigned i = 0; i < NETD_PORTS_MAX; i++) {
		if (g->ports[i] && (!greediest || g->ports[i]->n_flows > greediest->n_flows))
			greediest = g->ports[i];
	}
	return greediest ? expendable(&g->switch_state->ports[greediest->slot]) : NULL;
}

static enum kind first_kind(const struct flow_key *k)
{
	return k->proto == IPPROTO_TCP ? FLOW_NEW : k->proto == IPPROTO_UDP ? FLOW_UDP : FLOW_OTHER;
}

/* One more of that box. */
static void make_room(struct switch_state *s, const struct port *owner)
{
	struct flow *old = NULL;

	if (owner->n_flows >= ENGINE_FLOWS_PER_PORT)
		old = expendable(&s->ports[owner->slot]);
	else if (s->n_flows >= FLOWS_MAX)
		old = of_greediest(owner->g);
	if (old)
		flow_free(s, old);
}

static struct flow *flow_add(struct port *from, struct port *to, const struct flow_key *k, struct port *owner)
{
	struct switch_state *s = from->g->switch_state;

	make_room(s, owner);
	struct flow *f = calloc(1, sizeof(*f));
	if (!f)
		return NULL;
	struct flow **bucket = &s->buckets[bucket_of(k)];
	*f = (struct flow){
		.next = *bucket, .key = *k, .kind = first_kind(k), .used_s = now_s(), .from = from, .to = to};
	*bucket = f;
	give_to(s, f, owner);
	if (s->n_flows++ == 0)
		loop_set_timer(s->sweep, SWEEP_S * NS_PER_S);
	return f;
}

static struct flow *flow_new(struct port *from, struct port *to, const struct flow_key *k)
{
	return flow_add(from, to, k, from);
}

static void on_sweep(void *data)
{
	struct engine *g = data;
	struct switch_state *s = g->switch_state;
	const uint32_t now = now_s();

	for (unsigned i = 0; i < NETD_PORTS_MAX; i++) {
		for (enum kind k = 0; k < FLOW_KINDS; k++) {
			struct flow *f;
			while ((f = s->ports[i].lists[k].oldest) && now - f->used_s > idle_max_s[k])
				flow_free(s, f);
		}
	}
	loop_set_timer(s->sweep, s->n_flows ? SWEEP_S * NS_PER_S : UINT64_MAX);
}

/* ---- passing on ---- */

static void pass(struct port *from, struct port *to, const struct pkt *k)
{
	uint8_t eth[ETH_HDR_LEN];

	memcpy(eth, to->a.mac, 6);
	memcpy(eth + 6, from->a.mac, 6);
	memcpy(eth + 12, k->frame + 12, 2);
	/* A packet that was put together of fragments may be larger than what goes in one. */
	if (k->len - ETH_HDR_LEN > NETD_MTU && k->vnet.gso_type == VNET_GSO_NONE) {
		static uint8_t whole[PKT_WHOLE_MAX];
		if (k->len > sizeof(whole))
			return;
		memcpy(whole, k->frame, k->len);
		memcpy(whole, eth, sizeof(eth));
		frag_output(to, from, &k->vnet, whole, k->len);
		return;
	}
	const struct iovec iov[2] = {
		{eth, ETH_HDR_LEN}, {(uint8_t *)(uintptr_t)k->frame + ETH_HDR_LEN, k->len - ETH_HDR_LEN}};
	(void)port_send(to, from, &k->vnet, iov, 2);
}

/* A reset towards a box, as if from the other end of its connection. key: as the box sends. */
static void send_reset(struct port *box, const struct flow_key *k, const uint8_t *other_mac, uint32_t seq,
	uint32_t ack, bool with_ack)
{
	static const struct vnet_hdr plain;
	enum { TCP_LEN = 20, OFFSET_AND_FLAGS = 12, CHECKSUM = 16 };
	uint8_t frame[PKT_HEADERS_MAX] = {0};
	const struct pkt_out o = {.eth_dst = box->a.mac,
		.eth_src = other_mac,
		.src = &k->dst,
		.dst = &k->src,
		.proto = IPPROTO_TCP};
	size_t l4 = pkt_put_headers(frame, &o, TCP_LEN);
	uint8_t *tcp = frame + l4;
	const uint16_t ports[2] = {htons(k->dport), htons(k->sport)};
	const uint32_t numbers[2] = {htonl(seq), with_ack ? htonl(ack) : 0};

	memcpy(tcp, ports, sizeof(ports));
	memcpy(tcp + 4, numbers, sizeof(numbers));
	tcp[OFFSET_AND_FLAGS] = TCP_LEN / 4 << 4;
	tcp[OFFSET_AND_FLAGS + 1] = TCP_RST | (with_ack ? TCP_ACK : 0);
	uint16_t sum = inet_sum_finish(
		inet_sum(pkt_pseudo_sum(&k->dst, &k->src, IPPROTO_TCP, TCP_LEN), tcp, TCP_LEN));
	memcpy(tcp + CHECKSUM, &sum, sizeof(sum));
	const struct iovec iov = {frame, l4 + TCP_LEN};
	(void)port_send(box, NULL, &plain, &iov, 1);
}

/* Answers a segment as a host does that knows of no such connection (RFC 9293 section 3.10.7.1). */
static void refuse_tcp(struct port *from, struct port *to, const struct pkt *k, const struct flow_key *key)
{
	if (k->tcp_flags & TCP_RST)
		return;
	if (k->tcp_flags & TCP_ACK)
		send_reset(from, key, to->a.mac, k->ack, 0, false);
	else
		send_reset(from, key, to->a.mac, 0,
			k->seq + (uint32_t)k->payload_len + !!(k->tcp_flags & TCP_SYN) +
				!!(k->tcp_flags & TCP_FIN),
			true);
}

/* ---- TCP ---- */

static void tcp_advance(struct flow *f, const struct pkt *k, int direction)
{
	if (k->tcp_flags & TCP_ACK) {
		f->ack[direction] = k->ack;
		f->has_ack[direction] = f->acked[direction] = true;
	}
	f->fin[direction] |= !!(k->tcp_flags & TCP_FIN);
	if ((k->tcp_flags & TCP_RST) || (f->fin[0] && f->fin[1])) {
		if (f->kind != FLOW_CLOSING)
			flow_becomes(f, FLOW_CLOSING);
	} else if (f->kind == FLOW_NEW && f->acked[0] && f->acked[1]) {
		flow_becomes(f, FLOW_OPEN);
		if (f->owner != f->from) { /* it was true: from is in it as well */
			struct port *from = f->from;
			struct switch_state *s = from->g->switch_state;
			take_away(s, f);
			if (from->n_flows >= ENGINE_FLOWS_PER_PORT)
				flow_free(s, expendable(&s->ports[from->slot]));
			give_to(s, f, from);
		}
	}
}

static bool may_pick_up_answer(const struct port *from, const struct port *to)
{
	const uint64_t now = time_mono_ns();

	return from->g->switch_state->ports[from->slot].n_picked < PICKED_MAX &&
	       (now - from->since_ns < PICK_UP_NS || now - to->since_ns < PICK_UP_NS);
}

/* A connection that began before us. */
static struct flow *tcp_pick_up(
	struct port *from, struct port *to, const struct flow_key *key, int *ret_direction)
{
	const struct flow_key back = reversed(key);
	struct flow *f = NULL;

	if (policy_allows(from->g, from, to, key, true)) {
		*ret_direction = 0;
		f = flow_new(from, to, key);
	} else if (may_pick_up_answer(from, to) && policy_allows(from->g, to, from, &back, true)) {
		*ret_direction = REPLY;
		f = flow_add(to, from, &back, from);
	}
	/* Until both sides have spoken it is half open, so that none can fill the table with inventions. */
	return f;
}

static void forward_tcp(struct port *from, struct port *to, const struct pkt *k, const struct flow_key *key)
{
	struct switch_state *s = from->g->switch_state;
	const bool syn = (k->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
	int direction = 0;
	struct flow *f = find(from, key, true, true, &direction);

	/* Who answers by SYN, or begins again after the end, begins a connection of its own. */
	if (f && syn && (direction == REPLY || f->kind == FLOW_CLOSING)) {
		if (!policy_allows(from->g, from, to, key, false)) {
			refuse_tcp(from, to, k, key);
			return;
		}
		flow_free(s, f);
		f = flow_new(from, to, key);
		direction = 0;
	} else if (!f && syn) {
		if (policy_allows(from->g, from, to, key, false))
			f = flow_new(from, to, key);
	} else if (!f && !(k->tcp_flags & TCP_RST)) {
		f = tcp_pick_up(from, to, key, &direction);
	}
	if (!f) {
		from->stats.dropped += !syn;
		refuse_tcp(from, to, k, key);
		return;
	}
	tcp_advance(f, k, direction);
	flow_used(f, now_s());
	pass(from, to, k);
}

/* ---- ICMP ---- */

enum icmp_class { ICMP_REQUEST, ICMP_REPLY, ICMP_ERROR, ICMP_UNKNOWN };
static enum icmp_class classify(const struct pkt *k)
{
	if (k->is4) { /* RFC 792 */
		switch (k->icmp_type) {
		case 8:
			return ICMP_REQUEST;
		case 0:
			return ICMP_REPLY;
		case 3:
		case 11:
		case 12:
			return ICMP_ERROR;
		default:
			return ICMP_UNKNOWN;
		}
	}
	switch (k->icmp_type) { /* RFC 4443 */
	case 128:
		return ICMP_REQUEST;
	case 129:
		return ICMP_REPLY;
	case 1:
	case 2:
	case 3:
	case 4:
		return ICMP_ERROR;
	default:
		return ICMP_UNKNOWN;
	}
}

/* The connection of the packet that an error cites, as that packet has it. It is cut off, its checksums are unknown. */
static bool cited_key(const struct pkt *k, struct flow_key *ret)
{
	const uint8_t *p = k->frame + k->payload;
	size_t len = k->payload_len, head;

	*ret = (struct flow_key){0};
	if (k->is4) {
		if (len < 20 || p[0] >> 4 != 4)
			return false;
		head = (size_t)(p[0] & 15) * 4;
		ret->proto = p[9];
		ret->src = net_addr_from4(p + 12);
		ret->dst = net_addr_from4(p + 16);
		if (head < 20 || (((p[6] & 0x1f) << 8) | p[7])) /* a later fragment has no ports */
			return false;
	} else {
		if (len < 40 || p[0] >> 4 != 6)
			return false;
		head = 40; /* boxes that talk to each other have no use for extension headers */
		ret->proto = p[6];
		ret->src = net_addr_from6(p + 8);
		ret->dst = net_addr_from6(p + 24);
	}
	if (len < head + 8)
		return false;
	if (ret->proto == IPPROTO_TCP || ret->proto == IPPROTO_UDP) {
		ret->sport = (uint16_t)(p[head] << 8 | p[head + 1]);
		ret->dport = (uint16_t)(p[head + 2] << 8 | p[head + 3]);
	} else if (ret->proto == (k->is4 ? IPPROTO_ICMP : IPPROTO_ICMPV6)) {
		ret->proto = IPPROTO_ICMP;
		ret->sport = (uint16_t)(p[head + 4] << 8 | p[head + 5]);
	}
	return true;
}

static void forward_icmp_error(struct port *from, struct port *to, const struct pkt *k)
{
	struct flow_key cited;
	int direction;

	/* Of a packet that `to` sent to `from`, on a connection that is known. */
	if (cited_key(k, &cited) && net_addr_equal(&cited.src, &k->dst) &&
		net_addr_equal(&cited.dst, &k->src) &&
		find_any(from->g->switch_state, &cited, true, true, &direction))
		pass(from, to, k);
	else
		from->stats.dropped++;
}

/* ---- all but TCP: by the address pair, with ports or an echo's identifier where there are any ---- */

static void forward_flow(struct port *from, struct port *to, const struct pkt *k, const struct flow_key *key,
	bool forward, bool backward)
{
	int direction;
	struct flow *f = find(from, key, forward, backward, &direction);

	if (!f && forward && policy_allows(from->g, from, to, key, false))
		f = flow_new(from, to, key);
	if (f) {
		flow_used(f, now_s());
		pass(from, to, k);
	} else if (forward) {
		icmp_unreachable(from, k, ICMP_WHY_PROHIBITED);
	} else {
		from->stats.dropped++;
	}
}

static bool is_icmp(const struct pkt *k)
{
	return k->proto == (k->is4 ? IPPROTO_ICMP : IPPROTO_ICMPV6);
}

void switch_forward(struct port *from, struct port *to, const struct pkt *k)
{
	struct flow_key key;

	if (from->g->policy->isolation == NET_ISOLATION_NONE) {
		pass(from, to, k);
		return;
	}
	flow_key_of(&key, k);
	if (k->proto == IPPROTO_TCP) {
		forward_tcp(from, to, k, &key);
	} else if (k->proto == IPPROTO_UDP) {
		forward_flow(from, to, k, &key, true, true);
	} else if (!is_icmp(k)) {
		key.sport = 0;
		key.proto = k->proto;
		forward_flow(from, to, k, &key, true, true);
	} else {
		enum icmp_class class = classify(k);
		if (class == ICMP_ERROR)
			forward_icmp_error(from, to, k);
		else if (class == ICMP_UNKNOWN)
			from->stats.dropped++;
		else
			forward_flow(from, to, k, &key, class == ICMP_REQUEST, class == ICMP_REPLY);
	}
}

/* ---- the whole ---- */

int switch_new(struct engine *g)
{
	struct switch_state *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	int r = loop_add_timer(g->loop, UINT64_MAX, on_sweep, g, &s->sweep);
	if (r < 0)
		free(s);
	else
		g->switch_state = s;
	return r;
}

static void forget_port(struct switch_state *s, struct switch_port *sp)
{
	for (enum kind k = 0; k < FLOW_KINDS; k++) {
		while (sp->lists[k].oldest)
			flow_free(s, sp->lists[k].oldest);
	}
	while (sp->of_others)
		flow_free(s, sp->of_others);
}

void switch_free(struct engine *g)
{
	struct switch_state *s = g->switch_state;

	if (!s)
		return;
	loop_source_free(s->sweep);
	free(TAKE_PTR(g->switch_state)); /* every port, and every flow with it, is gone */
}

void switch_port_gone(struct port *p)
{
	struct switch_state *s = p->g->switch_state;

	/* Connections may go on when it comes back (tcp_pick_up): nobody is told. */
	forget_port(s, &s->ports[p->slot]);
}

/* Both ends of a connection that is no longer allowed learn it at once. */
static void end_tcp(struct flow *f)
{
	const struct flow_key back = reversed(&f->key);

	if (f->has_ack[0])
		send_reset(f->from, &f->key, f->to->a.mac, f->ack[0], 0, false);
	if (f->has_ack[1])
		send_reset(f->to, &back, f->from->a.mac, f->ack[1], 0, false);
}

void switch_recheck(struct engine *g)
{
	struct switch_state *s = g->switch_state;

	for (unsigned i = 0; i < NETD_PORTS_MAX; i++) {
		for (enum kind k = 0; k < FLOW_KINDS; k++) {
			struct flow *older;
			for (struct flow *f = s->ports[i].lists[k].newest; f; f = older) {
				older = f->older;
				if (policy_allows(g, f->from, f->to, &f->key, true))
					continue;
				if (k == FLOW_OPEN || k == FLOW_NEW)
					end_tcp(f);
				flow_free(s, f);
			}
		}
	}
}
