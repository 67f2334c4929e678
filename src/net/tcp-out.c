/* SPDX-License-Identifier: MIT */
/*
 * Segments to the box. Each carries what there is to acknowledge and the window. Its checksum is only begun, which the
 * virtio header tells (virtio 1.2 section 5.1.6.4: NEEDS_CSUM), so that nobody reads the data for it: the guest takes
 * a frame that is marked so as good. A box with a smaller MSS than ours gets large frames all the same, to be taken as
 * segments of gso_size.
 */
#include <string.h>

#include "base/io.h"
#include "tcp.h"

enum { TCP_HDR_LEN = 20, TCP_CSUM_AT = 16, IP4_LEN = 20, IP6_LEN = 40, TCP_MSS_MIN = 88 };

struct segment {
	const struct net_addr *src, *dst;
	uint16_t sport, dport;
	uint32_t seq, ack;
	uint8_t flags;
	uint16_t window, gso; /* gso: bytes of data in a segment, 0: it is one */
	const uint8_t *opts;
	size_t n_opts; /* a multiple of 4 */
	struct iovec data[2];
	unsigned n_data;
	size_t len; /* of data */
};

static void put16(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static void put32(uint8_t *p, uint32_t v)
{
	put16(p, v >> 16);
	put16(p + 2, v);
}

static int emit(struct port *p, const struct segment *s)
{
	uint8_t buf[PKT_HEADERS_MAX];
	const struct pkt_out o = {.eth_dst = p->a.mac,
		.eth_src = p->g->mac,
		.src = s->src,
		.dst = s->dst,
		.proto = IPPROTO_TCP};
	size_t l4_len = TCP_HDR_LEN + s->n_opts + s->len;
	size_t l4 = pkt_put_headers(buf, &o, l4_len);
	uint8_t *t = buf + l4;

	put16(t, s->sport);
	put16(t + 2, s->dport);
	put32(t + 4, s->seq);
	put32(t + 8, s->ack);
	t[12] = (uint8_t)((TCP_HDR_LEN + s->n_opts) / 4 << 4);
	t[13] = s->flags;
	put16(t + 14, s->window);
	uint16_t sum = (uint16_t)~inet_sum_finish(pkt_pseudo_sum(s->src, s->dst, IPPROTO_TCP, l4_len));
	memcpy(t + TCP_CSUM_AT, &sum, 2);
	put16(t + 18, 0);
	if (s->n_opts)
		memcpy(t + TCP_HDR_LEN, s->opts, s->n_opts);

	const struct vnet_hdr h = {
		.flags = VNET_NEEDS_CSUM,
		.gso_type = s->gso == 0		   ? VNET_GSO_NONE
			    : net_addr_is4(s->src) ? VNET_GSO_TCPV4
						   : VNET_GSO_TCPV6,
		.hdr_len = (uint16_t)(l4 + TCP_HDR_LEN + s->n_opts),
		.gso_size = s->gso,
		.csum_start = (uint16_t)l4,
		.csum_offset = TCP_CSUM_AT,
	};
	const struct iovec iov[3] = {{buf, l4 + TCP_HDR_LEN + s->n_opts}, s->data[0], s->data[1]};
	return port_send(p, NULL, &h, iov, 1 + s->n_data);
}

/* ---- windows ---- */

uint32_t tcp_window_edge(const struct tcp_conn *c)
{
	uint32_t most = TCP_RING_MAX;

	if (!c->scaling)
		most = UINT16_MAX;
	else if (ring_scarce(&c->t->pool))
		most = 4 * TCP_RING_MIN;
	uint32_t edge = c->rcv_nxt + (c->in.len < most ? most - c->in.len : 0);
	return seq_lt(edge, c->rcv_adv) ? c->rcv_adv : edge;
}

/*
 * The window field of a segment. Rounding down may take back less than one step of the scale, which RFC 7323 section 2.4
 * allows; what was promised before is taken nevertheless.
 */
static uint16_t window_of(struct tcp_conn *c, uint8_t flags)
{
	uint32_t window = tcp_window_edge(c) - c->rcv_nxt;
	unsigned scale = flags & TCP_SYN ? 0 : c->rcv_wscale;

	window = MIN_OF(window >> scale, UINT16_MAX);
	uint32_t edge = c->rcv_nxt + (window << scale);
	if (seq_lt(c->rcv_adv, edge))
		c->rcv_adv = edge;
	return (uint16_t)window;
}

uint32_t tcp_segment_max(const struct tcp_conn *c)
{
	uint32_t most = NETD_MTU - TCP_HDR_LEN - (net_addr_is4(&c->key.src) ? IP4_LEN : IP6_LEN);

	return c->mss >= most ? most : most - most % c->mss;
}

void tcp_take_options(struct tcp_conn *c, const struct pkt *k)
{
	uint32_t most = NETD_MTU - TCP_HDR_LEN - (k->is4 ? IP4_LEN : IP6_LEN);
	uint16_t mss;
	int wscale;

	pkt_tcp_options(k, &mss, &wscale);
	if (mss == 0)
		mss = k->is4 ? 536 : 1220; /* RFC 9293 section 3.7.1 */
	c->mss = (uint16_t)MIN_OF(MAX_OF(mss, TCP_MSS_MIN), most);
	c->scaling = wscale >= 0;
	c->snd_wscale = c->scaling ? (uint8_t)MIN_OF(wscale, 14) : 0;
	c->rcv_wscale = c->scaling ? TCP_WSCALE : 0;
}

/* ---- segments of a connection ---- */

/* len bytes of `out` from off on, with sequence number seq. */
static int send_segment(struct tcp_conn *c, uint8_t flags, uint32_t seq, uint32_t off, uint32_t len)
{
	struct segment s = {
		.src = &c->key.dst,
		.dst = &c->key.src,
		.sport = c->key.dport,
		.dport = c->key.sport,
		.seq = seq,
		.ack = flags & TCP_ACK ? c->rcv_nxt : 0,
		.flags = flags,
		.window = window_of(c, flags),
		.len = len,
		.gso = len > c->mss ? c->mss : 0,
	};
	uint8_t opts[8] = {2, 4};

	if (flags & TCP_SYN) {
		put16(opts + 2, NETD_MTU - TCP_HDR_LEN - (net_addr_is4(s.src) ? IP4_LEN : IP6_LEN));
		memcpy(opts + 4, (const uint8_t[]){1, 3, 3, TCP_WSCALE}, 4);
		s.opts = opts;
		s.n_opts = c->state == CONN_SYN_RCVD && !c->scaling ? 4 : 8;
	}
	if (len)
		s.n_data = ring_content(&c->out, off, len, s.data);
	int r = emit(c->tp->p, &s);
	if (r == 0 && flags & TCP_ACK) {
		c->ack_due = false;
		c->ack_ns = TCP_NEVER;
		list_remove(&c->in_turn);
	}
	return r;
}

void tcp_send_syn(struct tcp_conn *c)
{
	send_segment(c, c->state == CONN_SYN_RCVD ? TCP_SYN | TCP_ACK : TCP_SYN, c->iss, 0, 0);
}

void tcp_send_ack(struct tcp_conn *c)
{
	if (send_segment(c, TCP_ACK, c->snd_max, 0, 0) < 0 && c->state == CONN_OPEN) {
		c->ack_due = true;
		list_remove(&c->in_turn);
		tcp_wait_room(c);
	}
}

void tcp_ack_later(struct tcp_conn *c)
{
	if (c->ack_due)
		return;
	c->ack_due = true;
	list_add(&c->t->turn_conns, &c->in_turn);
	loop_defer(c->t->turn);
}

void tcp_ack_data(struct tcp_conn *c, uint32_t len)
{
	if (c->ack_ns != TCP_NEVER || c->quick_acks || len > TCP_DELAYED_MAX) {
		c->quick_acks -= c->quick_acks > 0;
		tcp_ack_later(c);
	} else if (!c->ack_due) {
		c->ack_ns = time_mono_ns() + TCP_ACK_DELAY_NS;
		tcp_timer(c);
	}
}

/* len numbers of the sequence are new. */
static void note_sent(struct tcp_conn *c, uint32_t len)
{
	uint64_t now = time_mono_ns();

	if (c->rtt_ns == 0 && !c->recovering && c->stuck_ns == 0) {
		c->rtt_ns = now;
		c->rtt_seq = c->snd_max + len;
	}
	if (c->snd_max == c->snd_una)
		tcp_rto_start(c, now);
	c->snd_max += len;
}

void tcp_send_data(struct tcp_conn *c, uint32_t len, bool push)
{
	uint32_t off = c->out.len - len, seq = c->snd_max;

	note_sent(c, len);
	/* A frame that is dropped here is one more that is lost: the timer sees to it. */
	send_segment(c, TCP_ACK | (push ? TCP_PSH : 0), seq, off, len);
}

void tcp_send_fin(struct tcp_conn *c)
{
	uint32_t seq = c->snd_max;

	c->fin_out = true;
	note_sent(c, 1);
	send_segment(c, TCP_ACK | TCP_FIN, seq, 0, 0);
}

void tcp_send_rst(struct tcp_conn *c)
{
	send_segment(c, TCP_RST | TCP_ACK, c->snd_max, 0, 0);
}

void tcp_retransmit(struct tcp_conn *c)
{
	uint32_t len = MIN_OF(c->out.len, tcp_segment_max(c));
	uint8_t flags = TCP_ACK | TCP_PSH;

	/* A box that took its window back is asked with what fits, and with one byte if nothing does. */
	if (len > c->snd_wnd)
		len = MAX_OF(c->snd_wnd, 1);
	if (c->fin_out && len == c->out.len)
		flags |= TCP_FIN;
	c->rtt_ns = 0; /* Karn: whose acknowledgement comes, nobody knows */
	send_segment(c, flags, c->snd_una, 0, len);
}

void tcp_probe(struct tcp_conn *c)
{
	/* Not acceptable, hence to be answered with an acknowledgement and the window (RFC 9293 section 3.10.7.4). */
	send_segment(c, TCP_ACK, c->snd_una - 1, 0, 0);
}

/* ---- time (RFC 6298) ---- */

void tcp_rto_start(struct tcp_conn *c, uint64_t now)
{
	uint64_t ms = (uint64_t)c->rto_ms << c->backoff;

	c->retry_ns = now + MIN_OF(ms, TCP_RTO_MAX_MS) * TCP_MS;
	tcp_timer(c);
}

void tcp_rtt_sample(struct tcp_conn *c, uint64_t now)
{
	uint64_t us = (now - c->rtt_ns) / 1000;
	uint32_t r = (uint32_t)MIN_OF(us, TCP_RTO_MAX_MS * 1000);

	c->rtt_ns = 0;
	if (c->srtt_us == 0) {
		c->srtt_us = r;
		c->rttvar_us = r / 2;
	} else {
		uint32_t diff = c->srtt_us > r ? c->srtt_us - r : r - c->srtt_us;
		c->rttvar_us = c->rttvar_us - c->rttvar_us / 4 + diff / 4;
		c->srtt_us = c->srtt_us - c->srtt_us / 8 + r / 8;
	}
	uint32_t ms = (c->srtt_us + 4 * c->rttvar_us) / 1000;
	c->rto_ms = MIN_OF(MAX_OF(ms, TCP_RTO_MIN_MS), TCP_RTO_MAX_MS);
}

/* ---- without a connection ---- */

void tcp_refuse(struct port *p, const struct pkt *k)
{
	struct segment s = {
		.src = &k->dst, .dst = &k->src, .sport = k->dport, .dport = k->sport, .flags = TCP_RST};

	if (k->tcp_flags & TCP_RST)
		return;
	if (k->tcp_flags & TCP_ACK) {
		s.seq = k->ack;
	} else {
		s.flags |= TCP_ACK;
		s.ack = k->seq + (uint32_t)k->payload_len + !!(k->tcp_flags & TCP_SYN) +
			!!(k->tcp_flags & TCP_FIN);
	}
	emit(p, &s);
}
