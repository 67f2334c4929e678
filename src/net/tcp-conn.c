/* SPDX-License-Identifier: MIT */
/*
 * Segments that arrive for a connection (RFC 9293 section 3.10.7, with RFC 5961 against blind attacks). Urgent data is
 * ordinary data (RFC 6093 tells programs not to use it, and a host's socket could not pass it on unchanged).
 */
#include "base/io.h"
#include "tcp.h"

/* ---- ends ---- */

bool tcp_settle(struct tcp_conn *c)
{
	if (!c->fin_out || c->snd_una != c->snd_max || !c->shut)
		return true;
	tcp_finish(c);
	return false;
}

void tcp_half_closed(struct tcp_conn *c)
{
	bool first = c->limit_ns == TCP_NEVER;

	if (!c->fin_in && !c->fin_out)
		return;
	c->limit_ns = time_mono_ns() + TCP_HALF_CLOSED_NS;
	if (first)
		tcp_timer(c);
}

/* An acknowledgement that tells the box where we are; not without limit, lest two ends out of step answer each other. */
static void challenge(struct tcp_conn *c)
{
	uint64_t now = time_mono_ns();

	if (now - c->challenge_ns >= 1000 * TCP_MS) {
		c->challenge_ns = now;
		c->n_challenges = 0;
	}
	if (c->n_challenges++ < TCP_CHALLENGES_PER_S)
		tcp_ack_later(c);
}

/* ---- what it acknowledges ---- */

static void recover(struct tcp_conn *c)
{
	c->recovering = true;
	c->recover = c->snd_max;
	tcp_retransmit(c);
}

static void take_new_ack(struct tcp_conn *c, uint32_t ack, uint64_t now)
{
	uint32_t n = ack - c->snd_una;

	ring_consume(&c->out, MIN_OF(n, c->out.len)); /* FIN is in no ring */
	if (c->out.len == 0)
		ring_release(&c->t->pool, &c->tp->rings, &c->out);
	c->snd_una = ack;
	c->dup_acks = 0;
	c->backoff = 0;
	c->stuck_ns = 0;
	if (c->rtt_ns && seq_le(c->rtt_seq, ack))
		tcp_rtt_sample(c, now);
	if (c->recovering) {
		if (seq_lt(ack, c->recover))
			tcp_retransmit(c);
		else
			c->recovering = false;
	}
	if (c->snd_una == c->snd_max)
		c->retry_ns = TCP_NEVER;
	else
		tcp_rto_start(c, now);
}

/* false: the segment is not to be looked at further. */
static bool take_ack(struct tcp_conn *c, const struct pkt *k, uint64_t now)
{
	uint32_t window = (uint32_t)k->window << c->snd_wscale;
	bool opened = false;

	if (seq_lt(c->snd_max, k->ack) || seq_lt(k->ack, c->snd_una - c->snd_wnd_max)) {
		challenge(c); /* RFC 5961 section 5.2 */
		return false;
	}
	if (seq_lt(c->snd_una, k->ack)) {
		take_new_ack(c, k->ack, now);
	} else if (k->ack == c->snd_una && c->snd_una != c->snd_max && k->payload_len == 0 &&
		   window == c->snd_wnd && !(k->tcp_flags & TCP_FIN)) {
		if (c->dup_acks < 3 && ++c->dup_acks == 3 && !c->recovering)
			recover(c);
	}
	if (seq_lt(c->snd_wl1, k->seq) || (c->snd_wl1 == k->seq && seq_le(c->snd_wl2, k->ack))) {
		opened = c->snd_wnd == 0 && window != 0;
		c->snd_wnd = window;
		c->snd_wnd_max = MAX_OF(c->snd_wnd_max, window);
		c->snd_wl1 = k->seq;
		c->snd_wl2 = k->ack;
	}
	if (opened) {
		c->backoff = 0;
		c->stuck_ns = 0;
		/* What did not fit before has been dropped by it, and is not waited for until the timer. */
		if (c->snd_una != c->snd_max) {
			recover(c);
			tcp_rto_start(c, now);
		}
	}
	return true;
}

/* ---- what it brings ---- */

static bool take_data(struct tcp_conn *c, const struct pkt *k)
{
	const uint8_t *data = k->frame + k->payload;
	uint32_t len = (uint32_t)k->payload_len;
	bool fin = k->tcp_flags & TCP_FIN;

	if (len == 0 && !fin)
		return true;
	if (seq_lt(c->rcv_nxt, k->seq)) {
		tcp_send_ack(c); /* each counts towards the three that make the box send again */
		return true;
	}
	uint32_t known = c->rcv_nxt - k->seq;
	if (fin || known > 0 || len > c->rcv_adv - c->rcv_nxt)
		tcp_ack_later(c);
	else
		tcp_ack_data(c, len);
	if (c->fin_in || known > len)
		return true;
	data += known;
	len -= known;
	if (len > c->rcv_adv - c->rcv_nxt) {
		len = c->rcv_adv - c->rcv_nxt;
		fin = false;
	}
	if (len) {
		ssize_t n = tcp_take(c, data, len);
		if (n < 0) {
			tcp_abort(c, TCP_BOTH);
			return false;
		}
		c->rcv_nxt += (uint32_t)n;
		if (n < len)
			return true;
	}
	if (!fin)
		return true;
	c->rcv_nxt++;
	c->fin_in = true;
	c->last_word = c->fin_out;
	return c->in.len > 0 || tcp_push(c);
}

/* ---- by state ---- */

void tcp_synchronise(struct tcp_conn *c, const struct pkt *k)
{
	c->irs = k->seq;
	c->rcv_nxt = c->rcv_adv = k->seq + 1;
	c->snd_wnd = c->snd_wnd_max = k->window; /* never scaled in a SYN */
	c->snd_wl1 = k->seq;
	c->snd_wl2 = k->ack;
	tcp_take_options(c, k);
}

static void in_syn_sent(struct tcp_conn *c, const struct pkt *k)
{
	bool is_answer = k->tcp_flags & TCP_ACK && k->ack == c->iss + 1;

	if (k->tcp_flags & TCP_RST) {
		if (is_answer)
			tcp_client_refused(c);
		return;
	}
	if (!is_answer) {
		/* Of a connection that had the same ports: RST ends its TIME_WAIT, then SYN is good. */
		if (k->tcp_flags & TCP_ACK) {
			tcp_refuse(c->tp->p, k);
			tcp_send_syn(c);
		}
		return;
	}
	if (!(k->tcp_flags & TCP_SYN))
		return;
	tcp_synchronise(c, k);
	c->snd_una = c->snd_max = c->iss + 1;
	c->retry_ns = c->limit_ns = TCP_NEVER;
	tcp_set_state(c, CONN_OPEN);
	tcp_client_answered(c);
	tcp_ack_later(c);
	tcp_host_start(c);
}

static void in_connecting(struct tcp_conn *c, const struct pkt *k)
{
	if (k->tcp_flags & TCP_RST) {
		if (k->seq == c->rcv_nxt)
			tcp_abort(c, TCP_HOST);
		return;
	}
	/* Given up and begun anew from the same port. */
	if (k->tcp_flags & TCP_SYN && !(k->tcp_flags & TCP_ACK) && k->seq != c->irs)
		tcp_synchronise(c, k);
}

/* In SYN_RCVD: whether the box has acknowledged our SYN. */
static bool handshake_done(struct tcp_conn *c, const struct pkt *k)
{
	if (k->ack != c->iss + 1) {
		tcp_refuse(c->tp->p, k);
		return false;
	}
	c->snd_una = k->ack;
	c->backoff = 0;
	c->retry_ns = c->limit_ns = TCP_NEVER;
	tcp_set_state(c, CONN_OPEN);
	return tcp_host_start(c);
}

static void in_synchronised(struct tcp_conn *c, const struct pkt *k)
{
	uint32_t end = k->seq + (uint32_t)k->payload_len + !!(k->tcp_flags & TCP_FIN);
	bool acceptable = seq_le(c->rcv_nxt, end) && seq_le(k->seq, c->rcv_adv);

	if (k->tcp_flags & TCP_SYN) {
		if (c->state == CONN_SYN_RCVD && k->seq == c->irs && !(k->tcp_flags & TCP_ACK))
			tcp_send_syn(c);
		else
			challenge(c);
		return;
	}
	if (k->tcp_flags & TCP_RST) {
		if (k->seq == c->rcv_nxt)
			tcp_abort(c, TCP_HOST);
		else if (acceptable)
			challenge(c);
		return;
	}
	if (!acceptable) {
		if (end != k->seq)
			tcp_ack_later(c);
		else
			challenge(c);
		return;
	}
	if (!(k->tcp_flags & TCP_ACK) || (c->state == CONN_SYN_RCVD && !handshake_done(c, k)))
		return;
	uint64_t now = time_mono_ns();
	if (!take_ack(c, k, now) || !take_data(c, k))
		return;
	tcp_half_closed(c);
	/* Room that this made. */
	if (c->stalled && !tcp_pull(c))
		return;
	tcp_settle(c);
}

void tcp_segment(struct tcp_conn *c, const struct pkt *k)
{
	switch (c->state) {
	case CONN_CONNECTING:
		in_connecting(c, k);
		break;
	case CONN_HELD: /* not in the table */
		break;
	case CONN_SYN_SENT:
		in_syn_sent(c, k);
		break;
	case CONN_SYN_RCVD:
	case CONN_OPEN:
		in_synchronised(c, k);
		break;
	case CONN_TIME_WAIT:
		if (!(k->tcp_flags & TCP_RST)) /* RFC 1337 */
			challenge(c);
		break;
	}
}
