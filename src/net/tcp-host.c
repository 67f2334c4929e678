/* SPDX-License-Identifier: MIT */
/*
 * The host's side of a connection. Descriptors are watched level-triggered, and only for what can be served. EPOLLHUP and
 * EPOLLERR cannot be switched off: the first comes when both directions of the socket are at their end, after which
 * nothing more can happen that read() would not tell, so that the socket is watched no longer (src is NULL).
 */
#include <netinet/tcp.h>
#include <string.h>
#include <sys/uio.h>

#include "base/io.h"
#include "tcp.h"

/* ---- connecting ---- */

/* The box is told what connect() said, as if it had made it (RFC 1122 section 4.2.3.9). */
void tcp_host_failed(struct tcp_conn *c, int error)
{
	enum icmp_why why = ICMP_WHY_HOST;
	struct pkt k;

	switch (error) {
	case ENETUNREACH:
	case EADDRNOTAVAIL:
	case EAFNOSUPPORT:
		why = ICMP_WHY_NET;
		break;
	case EHOSTUNREACH:
	case EHOSTDOWN:
	case ETIMEDOUT:
		break;
	case EACCES:
	case EPERM:
		why = ICMP_WHY_PROHIBITED;
		break;
	default:
		tcp_abort(c, TCP_BOX);
		return;
	}
	/* Without it a RST says less, but at once. */
	if (!c->syn || pkt_parse(&k, &(struct vnet_hdr){0}, c->syn, c->syn_len) < 0) {
		tcp_abort(c, TCP_BOX);
		return;
	}
	icmp_unreachable(c->tp->p, &k, why);
	tcp_conn_free(c);
}

static void connected(struct tcp_conn *c)
{
	free(TAKE_PTR(c->syn));
	c->iss = c->snd_una = tcp_isn(c);
	c->snd_max = c->iss + 1;
	c->want_out = false;
	tcp_set_state(c, CONN_SYN_RCVD);
	if (!tcp_watch(c))
		return;
	uint64_t now = time_mono_ns();
	c->limit_ns = now + TCP_SYN_NS;
	tcp_rto_start(c, now);
	tcp_send_syn(c);
}

/* The error that the socket has, 0: none. */
static int socket_error(int fd)
{
	int error = 0;
	socklen_t len = sizeof(error);

	return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0 ? errno : error;
}

static bool on_trouble(struct tcp_conn *c, uint32_t events)
{
	if (events & EPOLLERR && socket_error(c->fd) != 0) {
		tcp_abort(c, TCP_BOTH);
		return false;
	}
	loop_source_free(TAKE_PTR(c->src));
	return true;
}

static void on_host(void *data, int fd, uint32_t events)
{
	struct tcp_conn *c = data;

	if (c->state == CONN_CONNECTING) {
		int error = socket_error(fd);
		if (error)
			tcp_host_failed(c, error);
		else if (events & EPOLLOUT)
			connected(c);
		return;
	}
	/* What came before a reset is still to be had; read() tells of the reset behind it. */
	if (events & EPOLLERR && c->want_in) {
		tcp_pull(c);
		return;
	}
	if (events & (EPOLLERR | EPOLLHUP) && !on_trouble(c, events))
		return;
	if (events & (EPOLLOUT | EPOLLHUP) && c->in.len && !tcp_push(c))
		return;
	if (events & (EPOLLIN | EPOLLHUP) && !tcp_pull(c))
		return;
	tcp_half_closed(c);
}

static uint32_t wanted(const struct tcp_conn *c)
{
	return (c->want_in ? EPOLLIN : 0) | (c->want_out ? EPOLLOUT : 0);
}

int tcp_host_watch(struct tcp_conn *c)
{
	return loop_add_io(c->t->g->loop, c->fd, wanted(c), on_host, c, &c->src);
}

void tcp_host_options(int fd)
{
	const int on = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
}

void tcp_host_connect(struct tcp_conn *c, const struct net_addr *to)
{
	struct sockaddr_storage ss;
	socklen_t len = net_addr_sockaddr(to, c->key.dport, &ss);

	c->fd = socket(ss.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->fd < 0) {
		tcp_host_failed(c, errno);
		return;
	}
	tcp_host_options(c->fd);
	if (connect(c->fd, (struct sockaddr *)&ss, len) < 0 && errno != EINPROGRESS) {
		tcp_host_failed(c, errno);
		return;
	}
	c->want_out = true;
	c->limit_ns = time_mono_ns() + TCP_CONNECT_NS;
	tcp_timer(c);
	int r = tcp_host_watch(c);
	if (r < 0)
		tcp_host_failed(c, -r);
}

void tcp_host_dns(struct tcp_conn *c)
{
	int s[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, s) < 0) {
		tcp_abort(c, TCP_BOX);
		return;
	}
	c->fd = s[0];
	if (dns_serve_stream(c->tp->p, s[1]) < 0 || tcp_host_watch(c) < 0)
		tcp_abort(c, TCP_BOX);
	else
		connected(c);
}

bool tcp_host_start(struct tcp_conn *c)
{
	c->want_in = true;
	/* A client that was accepted has mostly sent already; a server has not. */
	return c->listen ? tcp_pull(c) : tcp_watch(c);
}

bool tcp_watch(struct tcp_conn *c)
{
	if (!c->src || loop_set_events(c->src, wanted(c)) == 0)
		return true;
	tcp_abort(c, TCP_BOTH);
	return false;
}

/* ---- host to box ---- */

/* Bytes that may be read and sent as one segment now, with room for them in the ring; 0: none. */
static uint32_t may_read(struct tcp_conn *c)
{
	uint32_t flight = c->snd_max - c->snd_una;
	uint32_t n = c->snd_wnd > flight ? c->snd_wnd - flight : 0;

	n = MIN_OF(n, tcp_segment_max(c));
	if (n == 0)
		return 0;
	if (c->out.cap == 0 && !ring_reserve(&c->t->pool, &c->tp->rings, &c->out, c->out_want) &&
		!ring_reserve(&c->t->pool, &c->tp->rings, &c->out, TCP_RING_MIN))
		return 0;
	if (c->out.cap - c->out.len < MIN_OF(n, TCP_SEND_MIN) && c->out.cap < TCP_RING_MAX &&
		ring_reserve(&c->t->pool, &c->tp->rings, &c->out, 4 * c->out.cap))
		c->out_want = c->out.cap;
	n = MIN_OF(n, c->out.cap - c->out.len);
	return n < TCP_SEND_MIN && flight ? 0 : n;
}

static void stop_reading(struct tcp_conn *c)
{
	c->want_in = false;
	if (c->out.len == 0)
		ring_release(&c->t->pool, &c->tp->rings, &c->out);
}

static bool stall(struct tcp_conn *c)
{
	c->stalled = true;
	stop_reading(c);
	/* With something under way, its acknowledgement goes on with this; else nobody might. */
	if (c->snd_una == c->snd_max)
		tcp_rto_start(c, time_mono_ns());
	return tcp_watch(c);
}

static bool at_end(struct tcp_conn *c)
{
	c->eof = true;
	stop_reading(c);
	tcp_send_fin(c);
	tcp_half_closed(c);
	return tcp_watch(c) && tcp_settle(c);
}

static bool wait_for_data(struct tcp_conn *c)
{
	if (c->out.len == 0)
		ring_release(&c->t->pool, &c->tp->rings, &c->out);
	c->want_in = true;
	return tcp_watch(c);
}

bool tcp_pull(struct tcp_conn *c)
{
	struct iovec iov[2];

	if (c->state != CONN_OPEN || c->eof)
		return true;
	if (c->stalled && c->snd_una == c->snd_max)
		c->retry_ns = TCP_NEVER;
	c->stalled = false;
	for (unsigned i = 0; i < TCP_READS; i++) {
		if (!port_room(c->tp->p)) {
			stop_reading(c);
			tcp_wait_room(c);
			return tcp_watch(c);
		}
		uint32_t want = may_read(c);
		if (want == 0)
			return stall(c);
		unsigned n_iov = ring_space(&c->out, want, iov);
		ssize_t n = readv(c->fd, iov, (int)n_iov);
		if (n == 0)
			return at_end(c);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return wait_for_data(c);
		if (n < 0) {
			tcp_abort(c, TCP_BOTH);
			return false;
		}
		c->out.len += (uint32_t)n;
		tcp_send_data(c, (uint32_t)n, n < want);
		/* What is short has emptied the socket; one that is watched no longer says its end only to read(). */
		if (n < want && c->src)
			return wait_for_data(c);
	}
	c->stalled = !c->src; /* then an acknowledgement goes on with it */
	return wait_for_data(c);
}

/* ---- room towards the box ---- */

void tcp_wait_room(struct tcp_conn *c)
{
	struct tcp_port *tp = c->tp;

	if (!c->in_wait.next)
		list_add(&tp->waiting, &c->in_wait);
	if (!tp->waiter.link)
		port_wait(tp->p, &tp->waiter);
}

void tcp_room(struct port_waiter *w)
{
	struct tcp_port *tp = LIST_OF(w, struct tcp_port, waiter);
	struct node *last = tp->waiting.prev;

	/* Each once, in the order in which they began to wait; who waits again does so behind the others. */
	while (!list_empty(&tp->waiting) && port_room(tp->p)) {
		struct node *n = tp->waiting.next;
		struct tcp_conn *c = LIST_OF(n, struct tcp_conn, in_wait);
		list_remove(n);
		if (c->ack_due && !c->in_turn.next)
			tcp_send_ack(c);
		tcp_pull(c);
		if (n == last)
			break;
	}
	if (!list_empty(&tp->waiting) && !tp->waiter.link)
		port_wait(tp->p, &tp->waiter);
}

/* ---- box to host ---- */

/* Tells the box of space that it may not know of, once it is worth it (RFC 9293 section 3.8.6.2.2). */
static void offer_window(struct tcp_conn *c)
{
	uint32_t more = tcp_window_edge(c) - c->rcv_adv;

	if (more >= TCP_RING_MAX / 4 || (more >= TCP_RING_MIN && c->rcv_adv - c->rcv_nxt < TCP_RING_MIN))
		tcp_ack_later(c);
}

bool tcp_push(struct tcp_conn *c)
{
	struct iovec iov[2];

	while (c->in.len) {
		struct msghdr m = {.msg_iov = iov, .msg_iovlen = ring_content(&c->in, 0, c->in.len, iov)};
		ssize_t n = sendmsg(c->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != EAGAIN) {
			tcp_abort(c, TCP_BOTH);
			return false;
		}
		if (n < 0)
			break;
		ring_consume(&c->in, (uint32_t)n);
	}
	c->want_out = c->in.len > 0;
	if (!c->want_out)
		ring_release(&c->t->pool, &c->tp->rings, &c->in);
	if (!c->fin_in) {
		offer_window(c);
	} else if (!c->want_out && !c->shut) {
		shutdown(c->fd, SHUT_WR);
		c->shut = true;
	}
	return tcp_watch(c) && tcp_settle(c);
}

ssize_t tcp_take(struct tcp_conn *c, const uint8_t *data, size_t len)
{
	struct ring *r = &c->in;
	struct iovec iov[2];
	size_t done = 0;

	if (r->len == 0) {
		ssize_t n = send(c->fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return -errno;
		done = n < 0 ? 0 : (size_t)n;
	}
	if (done == len)
		return (ssize_t)len;
	uint32_t cap = MAX_OF(r->cap, TCP_RING_MIN);
	while (cap < TCP_RING_MAX && cap - r->len < len - done)
		cap *= 2;
	if (!ring_reserve(&c->t->pool, &c->tp->rings, r, cap))
		ring_reserve(&c->t->pool, &c->tp->rings, r, TCP_RING_MIN);
	unsigned n_iov = ring_space(r, len - done, iov);
	for (unsigned i = 0; i < n_iov; i++) {
		memcpy(iov[i].iov_base, data + done, iov[i].iov_len);
		done += iov[i].iov_len;
		r->len += (uint32_t)iov[i].iov_len;
	}
	c->want_out = r->len > 0;
	int e = c->src ? loop_set_events(c->src, wanted(c)) : 0;
	return e < 0 ? e : (ssize_t)done;
}
