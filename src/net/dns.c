/* SPDX-License-Identifier: MIT */
/* Questions, and the streams that they come on. See dns.h. */
#include "dns.h"

#include <string.h>

#include "base/io.h"

/* ---- answers ---- */

size_t dns_client_max(const struct dns_client *c, const struct dns_question *q)
{
	return c->stream ? DNS_MAX : q->udp_size;
}

void dns_reply(const struct dns_client *c, const uint8_t *msg, size_t len)
{
	struct dns_stream *s = c->stream;
	uint8_t prefix[2];

	if (!s) {
		udp_send(c->port, &c->gateway, 53, &c->addr, c->sport, msg, len);
		return;
	}
	dns_put16(prefix, (unsigned)len);
	/* Room for both first: half a message would be the end of the stream. */
	if (!buf_reserve(&s->out, sizeof(prefix) + len))
		return;
	if (!s->out.len)
		s->wrote_ns = time_mono_ns();
	buf_append(&s->out, prefix, sizeof(prefix));
	buf_append(&s->out, msg, len);
	loop_set_events(s->io, EPOLLOUT); /* goes on from there */
}

void dns_reply_rcode(struct dns_state *d, const struct dns_client *c, const uint8_t *msg,
	const struct dns_question *q, unsigned rcode)
{
	struct dns_writer w;

	dns_write_begin(&w, d->answer, DNS_PLAIN_MAX, msg, q, 0, rcode);
	dns_reply(c, d->answer, dns_write_end(&w, q, rcode));
}

static void question(struct dns_state *d, const struct dns_client *c, const uint8_t *msg, size_t len)
{
	struct dns_question q;
	int r = dns_question_parse(&q, msg, len);

	if (r == -EINVAL)
		return;
	if (r < 0) {
		dns_reply_rcode(d, c, msg, &q, r == -ENOTSUP ? DNS_NOTIMP : DNS_FORMERR);
		return;
	}
	bool transfer = q.type == DNS_AXFR || q.type == DNS_IXFR; /* answers of many messages */
	if (!transfer && dns_local(d, c, msg, &q))
		return;
	if (transfer || c->port->a.names_only)
		dns_reply_rcode(d, c, msg, &q, DNS_REFUSED);
	else
		dns_forward(d, c, msg, len, &q);
}

void dns_input(struct port *p, const struct pkt *k)
{
	const struct dns_client c = {.port = p, .addr = k->src, .gateway = k->dst, .sport = k->sport};

	if (k->fragment || k->proto != IPPROTO_UDP || !k->sport || k->payload_len > DNS_QUESTION_MAX) {
		p->stats.dropped++;
		return;
	}
	question(p->g->dns, &c, k->frame + k->payload, k->payload_len);
}

/* ---- streams ---- */

static void stream_free(struct dns_stream *s)
{
	dns_forward_cancel(s->d, s->port, s);
	*s->link = s->next;
	if (s->next)
		s->next->link = s->link;
	s->d->n_streams[s->port->slot]--;
	loop_source_free(s->io);
	close_fd(&s->fd);
	buf_done(&s->in);
	buf_done(&s->out);
	free(s);
}

/* Whether there is room for one more answer beside those that wait and those under way, however large they are. */
static bool may_ask(const struct dns_stream *s)
{
	return s->out.len + (s->n_forwards + 1) * (size_t)(2 + DNS_MAX) <= DNS_OUT_MAX;
}

/* Takes whole questions from what was read. false: the stream makes no sense. */
static bool stream_questions(struct dns_stream *s)
{
	const struct dns_client c = {.port = s->port, .stream = s};

	while (s->in.len >= 2 && may_ask(s)) {
		size_t len = dns_get16(buf_data(&s->in));
		if (len > DNS_QUESTION_MAX)
			return false;
		if (s->in.len < 2 + len)
			break;
		question(s->d, &c, buf_data(&s->in) + 2, len);
		buf_consume(&s->in, 2 + len);
	}
	return true;
}

/* 1: something was read, 0: nothing for now, or -errno. */
static int stream_read(struct dns_stream *s)
{
	enum { STEP = 4096 };
	uint8_t *p = buf_reserve(&s->in, STEP);

	if (!p)
		return -ENOMEM;
	ssize_t n = read(s->fd, p, STEP);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	if (n == 0) {
		s->ended = true;
		return 0;
	}
	buf_commit(&s->in, (size_t)n);
	return 1;
}

static int stream_write(struct dns_stream *s)
{
	while (s->out.len) {
		ssize_t n = send(s->fd, buf_data(&s->out), s->out.len, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0)
			return errno == EAGAIN || errno == EINTR ? 0 : -errno;
		buf_consume(&s->out, (size_t)n);
		s->last_ns = s->wrote_ns = time_mono_ns();
	}
	return 0;
}

static void on_stream(void *data, int fd, uint32_t events)
{
	struct dns_stream *s = data;
	int r = 0;

	if ((events & EPOLLIN) && !s->ended && may_ask(s)) {
		r = stream_read(s);
		if (r > 0)
			s->last_ns = time_mono_ns();
	}
	if (r >= 0 && !stream_questions(s))
		r = -EBADMSG;
	if (r >= 0)
		r = stream_write(s);
	/* What was held back by the answers that are gone now. */
	if (r == 0 && !stream_questions(s))
		r = -EBADMSG;
	bool whole = s->in.len >= 2 && s->in.len >= 2u + dns_get16(buf_data(&s->in));
	if (r < 0 || (events & (EPOLLERR | EPOLLHUP)) ||
		(s->ended && !s->n_forwards && !s->out.len && !whole)) {
		stream_free(s);
		return;
	}
	loop_set_events(s->io, (s->out.len ? EPOLLOUT : 0u) | (!s->ended && may_ask(s) ? EPOLLIN : 0u));
}

int dns_serve_stream(struct port *p, int fd)
{
	struct dns_state *d = p->g->dns;
	CLEANUP_CLOSE int own = fd;

	if (d->n_streams[p->slot] >= DNS_STREAMS_PER_PORT)
		return -EMFILE;
	struct dns_stream *s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->d = d;
	s->port = p;
	s->last_ns = time_mono_ns();
	int r = loop_add_io(p->g->loop, own, EPOLLIN, on_stream, s, &s->io);
	if (r < 0) {
		free(s);
		return r;
	}
	s->fd = TAKE_FD(own);
	s->link = &d->streams[p->slot];
	s->next = *s->link;
	if (s->next)
		s->next->link = &s->next;
	*s->link = s;
	d->n_streams[p->slot]++;
	dns_tick_start(d);
	return 0;
}

/* ---- time ---- */

static void tick(void *data)
{
	struct dns_state *d = data;
	uint64_t now = time_mono_ns();
	bool any = dns_forward_tick(d, now);

	for (unsigned i = 0; i < NETD_PORTS_MAX; i++) {
		struct dns_stream *next;
		for (struct dns_stream *s = d->streams[i]; s; s = next) {
			next = s->next;
			if ((!s->n_forwards && now - s->last_ns > DNS_IDLE_NS) ||
				(s->out.len && now - s->wrote_ns > DNS_IDLE_NS))
				stream_free(s);
		}
		any |= d->streams[i] != NULL;
	}
	d->ticking = any;
	if (any)
		loop_set_timer(d->timer, DNS_TICK_NS);
}

void dns_tick_start(struct dns_state *d)
{
	if (!d->ticking)
		loop_set_timer(d->timer, DNS_TICK_NS);
	d->ticking = true;
}

/* ---- the whole ---- */

void dns_port_gone(struct port *p)
{
	struct dns_state *d = p->g->dns;

	while (d->streams[p->slot])
		stream_free(d->streams[p->slot]);
	dns_forward_cancel(d, p, NULL);
}

int dns_new(struct engine *g)
{
	struct dns_state *d = calloc(1, sizeof(*d));

	if (!d)
		return -ENOMEM;
	d->g = g;
	d->resolvconf.path = RESOLVCONF_PATH;
	int r = loop_add_timer(g->loop, UINT64_MAX, tick, d, &d->timer);
	if (r < 0) {
		free(d);
		return r;
	}
	g->dns = d;
	return 0;
}

void dns_free(struct engine *g)
{
	struct dns_state *d = TAKE_PTR(g->dns);

	if (!d)
		return;
	loop_source_free(d->timer);
	free(d);
}
