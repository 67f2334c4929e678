/* SPDX-License-Identifier: MIT */
/*
 * Questions that others answer. See dns.h.
 *
 * A question goes to one resolver after the other, DNS_TRY_NS for each, round and round until DNS_TOTAL_NS are over. What a
 * resolver says is the answer, unless it says that it cannot or will not (SERVFAIL, REFUSED) and others are left to be asked.
 * By UDP if the box came by UDP, also when the answer is truncated: the box then comes by TCP, and so do we.
 */
#include <string.h>

#include "base/io.h"
#include "dns.h"

struct dns_forward {
	struct dns_forward *next, **link;
	struct dns_state *d;
	struct dns_client client;
	struct dns_question q;
	struct resolvers up;
	unsigned tries, n_tries, n_unwilling;
	uint64_t deadline_ns, try_deadline_ns;
	uint16_t id; /* of the present try */
	int fd;
	struct loop_source *io;
	size_t sent;   /* by TCP, of 2 + len */
	struct buf in; /* by TCP */
	size_t len;
	uint8_t msg[]; /* two bytes of length, then the question */
};

static void close_try(struct dns_forward *f)
{
	loop_source_free(TAKE_PTR(f->io));
	close_fd(&f->fd);
	buf_done(&f->in);
	f->sent = 0;
}

static void forward_free(struct dns_forward *f)
{
	close_try(f);
	*f->link = f->next;
	if (f->next)
		f->next->link = f->link;
	f->client.port->n_dns--;
	if (f->client.stream)
		f->client.stream->n_forwards--;
	free(f);
}

static void fail(struct dns_forward *f)
{
	dns_reply_rcode(f->d, &f->client, f->msg + 2, &f->q, DNS_SERVFAIL);
	forward_free(f);
}

/* ---- answers ---- */

static void learn(void *data, const struct net_addr *a, uint32_t ttl_s)
{
	struct dns_forward *f = data;

	/* A name of the outside that leads to this host or its link opens nothing (DNS rebinding; policy-eval.c). */
	if (net_addr_is_martian(a) || net_addr_is_link_local(a) || engine_is_gateway(f->d->g, a) ||
		engine_is_this_host(f->d->g, a))
		return;
	policy_learn(f->client.port, f->q.text, a, MIN_OF(MAX_OF(ttl_s, DNS_LEARN_MIN_S), DNS_LEARN_MAX_S));
}

/* The resolver's answer with the box's ID, and its question as it was written. msg: DNS_MAX bytes at most. */
static void deliver(struct dns_forward *f, uint8_t *msg, size_t len)
{
	dns_put16(msg, f->q.id);
	if (dns_get16(msg + 4) == 0) { /* an error with nothing else in it */
		dns_reply_rcode(f->d, &f->client, f->msg + 2, &f->q, msg[3] & 15);
		forward_free(f);
		return;
	}
	memcpy(msg + DNS_HDR_LEN, f->msg + 2 + DNS_HDR_LEN, f->q.end - DNS_HDR_LEN);
	if ((msg[3] & 15) == DNS_NOERROR && policy_has_domains(f->d->g))
		dns_answer_addresses(&f->q, msg, len, learn, f);
	if (len <= dns_client_max(&f->client, &f->q)) {
		dns_reply(&f->client, msg, len);
	} else { /* RFC 2181 section 9: nothing at all rather than a part */
		unsigned rcode = msg[3] & 15;
		struct dns_writer w;
		dns_write_begin(&w, f->d->answer, DNS_PLAIN_MAX, f->msg + 2, &f->q, 0, rcode);
		w.truncated = true;
		dns_reply(&f->client, f->d->answer, dns_write_end(&w, &f->q, rcode));
	}
	forward_free(f);
}

static void next_try(struct dns_forward *f);

/* A message that may be the answer. true: f is done with, or with another resolver. */
static bool consider(struct dns_forward *f, uint8_t *msg, size_t len)
{
	int rcode = dns_answer_match(&f->q, f->id, msg, len);

	if (rcode < 0)
		return false;
	if ((rcode == DNS_SERVFAIL || rcode == DNS_REFUSED) && ++f->n_unwilling < f->up.n)
		next_try(f);
	else
		deliver(f, msg, len);
	return true;
}

static void on_datagram(void *data, int fd, uint32_t events)
{
	enum { MAX = 8 };
	struct dns_forward *f = data;
	uint8_t *buf = f->d->answer;

	for (unsigned i = 0; i < MAX; i++) {
		ssize_t n = recv(fd, buf, DNS_MAX, MSG_DONTWAIT);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n < 0) { /* nobody listens there, or there is no way */
			next_try(f);
			return;
		}
		if (consider(f, buf, (size_t)n))
			return;
	}
}

/* Sends what is left of the question. 0 or -errno. */
static int stream_send(struct dns_forward *f)
{
	while (f->sent < 2 + f->len) {
		ssize_t n = send(f->fd, f->msg + f->sent, 2 + f->len - f->sent, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0)
			return errno == EAGAIN || errno == EINTR ? 0 : -errno;
		f->sent += (size_t)n;
	}
	return loop_set_events(f->io, EPOLLIN);
}

/* Reads on. 1: the answer is whole, 0: not yet, or -errno. */
static int stream_receive(struct dns_forward *f)
{
	size_t have = f->in.len, want = have < 2 ? 2 : 2u + dns_get16(buf_data(&f->in));
	uint8_t *p = buf_reserve(&f->in, want - have);

	if (!p)
		return -ENOMEM;
	ssize_t n = recv(f->fd, p, want - have, MSG_DONTWAIT);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	if (n == 0)
		return -EPIPE;
	buf_commit(&f->in, (size_t)n);
	return f->in.len > 2 && f->in.len == 2u + dns_get16(buf_data(&f->in));
}

static void on_stream(void *data, int fd, uint32_t events)
{
	struct dns_forward *f = data;
	int r = 0;

	if (f->sent < 2 + f->len)
		r = (events & (EPOLLERR | EPOLLHUP)) ? -EPIPE : stream_send(f);
	else
		r = stream_receive(f);
	if (r == 0)
		return;
	size_t len = r > 0 ? f->in.len - 2 : 0;
	if (len)
		memcpy(f->d->answer, buf_data(&f->in) + 2, len);
	if (!len || !consider(f, f->d->answer, len))
		next_try(f);
}

/* ---- tries ---- */

/* Asks the resolver whose turn it is. 0 or -errno. */
static int begin_try(struct dns_forward *f)
{
	bool tcp = f->client.stream;
	const struct resolver *to = &f->up.v[f->tries % f->up.n];
	uint64_t limit = tcp		   ? DNS_TRY_TCP_NS
			 : f->up.timeout_s ? f->up.timeout_s * 1000000000ull
					   : DNS_TRY_NS;

	close_try(f);
	io_random(&f->id, sizeof(f->id));
	dns_put16(f->msg + 2, f->id);
	f->id = dns_get16(f->msg + 2);
	f->try_deadline_ns = time_mono_ns() + limit;
	f->fd = socket(
		to->addr.ss_family, (tcp ? SOCK_STREAM : SOCK_DGRAM) | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (f->fd < 0)
		return -errno;
	if (connect(f->fd, (const struct sockaddr *)&to->addr, to->len) < 0 && errno != EINPROGRESS)
		return -errno;
	if (!tcp && send(f->fd, f->msg + 2, f->len, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		return -errno;
	return loop_add_io(
		f->d->g->loop, f->fd, tcp ? EPOLLOUT : EPOLLIN, tcp ? on_stream : on_datagram, f, &f->io);
}

/* Until one can be asked; else the question fails. */
static void try_from_here(struct dns_forward *f)
{
	for (; f->tries < f->n_tries && time_mono_ns() < f->deadline_ns; f->tries++) {
		if (begin_try(f) == 0)
			return;
	}
	fail(f);
}

static void next_try(struct dns_forward *f)
{
	f->tries++;
	try_from_here(f);
}

bool dns_forward_tick(struct dns_state *d, uint64_t now)
{
	bool any = false;

	for (unsigned i = 0; i < NETD_PORTS_MAX; i++) {
		struct dns_forward *next;
		for (struct dns_forward *f = d->forwards[i]; f; f = next) {
			next = f->next;
			if (now >= f->deadline_ns)
				fail(f);
			else if (now >= f->try_deadline_ns)
				next_try(f);
		}
		any |= d->forwards[i] != NULL;
	}
	return any;
}

void dns_forward_cancel(struct dns_state *d, struct port *p, const struct dns_stream *stream)
{
	struct dns_forward *next;

	for (struct dns_forward *f = d->forwards[p->slot]; f; f = next) {
		next = f->next;
		if (!stream || f->client.stream == stream)
			forward_free(f);
	}
}

/* ---- begin ---- */

/* The box's own resolvers (--dns), or the host's; not those that would be in the network itself, where we have no socket. */
static void pick_resolvers(struct dns_state *d, const struct port *p, struct resolvers *ret)
{
	*ret = *resolvconf_get(&d->resolvconf);
	if (p->a.upstreams.n) {
		ret->n = 0;
		for (size_t i = 0; i < p->a.upstreams.n && ret->n < NETD_UPSTREAMS_MAX; i++)
			ret->n += resolver_parse(p->a.upstreams.v[i], &ret->v[ret->n]) == 0;
	}
	if (!ret->n) /* as resolv.conf(5) says */
		ret->n = resolver_parse("127.0.0.1", &ret->v[0]) == 0;
	size_t n = 0;
	for (size_t i = 0; i < ret->n; i++) {
		struct net_addr a;
		uint16_t port;
		if (net_addr_from_sockaddr(&ret->v[i].addr, &a, &port) && !engine_is_gateway(d->g, &a) &&
			!engine_port_of(d->g, &a))
			ret->v[n++] = ret->v[i];
	}
	ret->n = n;
	if (ret->rotate && n > 1) {
		struct resolver first[NETD_UPSTREAMS_MAX];
		size_t turn = d->turn++ % n;
		memcpy(first, ret->v, sizeof(first));
		for (size_t i = 0; i < n; i++)
			ret->v[i] = first[(turn + i) % n];
	}
}

/* Whether the same question of the same socket is under way: the box asks again because it waits. */
static bool is_repeated(const struct dns_state *d, const struct dns_client *c, const struct dns_question *q)
{
	for (const struct dns_forward *f = c->stream ? NULL : d->forwards[c->port->slot]; f; f = f->next) {
		if (!f->client.stream && f->client.sport == c->sport && f->q.id == q->id &&
			f->q.type == q->type && net_addr_equal(&f->client.addr, &c->addr) &&
			f->q.name.len == q->name.len &&
			memcmp(f->q.name.wire, q->name.wire, q->name.len) == 0)
			return true;
	}
	return false;
}

static struct dns_forward *forward_new(struct dns_state *d, const struct dns_client *c, const uint8_t *msg,
	size_t len, const struct dns_question *q, const struct resolvers *up)
{
	struct dns_forward *f = calloc(1, sizeof(*f) + 2 + len);

	if (!f)
		return NULL;
	f->d = d;
	f->client = *c;
	f->q = *q;
	f->up = *up;
	f->n_tries = (unsigned)up->n * (up->attempts ? up->attempts : DNS_ATTEMPTS);
	f->deadline_ns = time_mono_ns() + DNS_TOTAL_NS;
	f->fd = -1;
	f->len = len;
	dns_put16(f->msg, (unsigned)len);
	memcpy(f->msg + 2, msg, len);
	if (q->edns) /* what we can pass on */
		dns_put16(f->msg + 2 + q->edns_at, c->stream ? DNS_UDP_MAX : q->udp_size);
	f->link = &d->forwards[c->port->slot];
	f->next = *f->link;
	if (f->next)
		f->next->link = &f->next;
	*f->link = f;
	c->port->n_dns++;
	if (c->stream)
		c->stream->n_forwards++;
	return f;
}

void dns_forward(struct dns_state *d, const struct dns_client *c, const uint8_t *msg, size_t len,
	const struct dns_question *q)
{
	struct resolvers up;

	if (d->g->config.internal) {
		dns_reply_rcode(d, c, msg, q, DNS_NXDOMAIN);
		return;
	}
	if (!policy_allows_name(c->port, q->text)) {
		dns_reply_rcode(d, c, msg, q, DNS_REFUSED);
		return;
	}
	if (is_repeated(d, c, q))
		return;
	pick_resolvers(d, c->port, &up);
	struct dns_forward *f =
		up.n && c->port->n_dns < ENGINE_DNS_PER_PORT ? forward_new(d, c, msg, len, q, &up) : NULL;
	if (!f) {
		dns_reply_rcode(d, c, msg, q, DNS_SERVFAIL);
		return;
	}
	dns_tick_start(d);
	try_from_here(f);
}
