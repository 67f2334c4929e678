/* SPDX-License-Identifier: MIT */
/*
 * THEORY OF OPERATION
 *
 * A connection joins one stream of the guest to one Unix socket. Each direction ends on its own: the end of
 * one side's data is passed on only behind its last byte. What is known of the four ends is kept in four
 * flags, and conn_update derives from them alone what to tell whom:
 *
 *   guest_fin   the guest sent SHUTDOWN(SEND): once all is written, shutdown(SHUT_WR) on the socket
 *   guest_deaf  the guest sent SHUTDOWN(RECEIVE): shutdown(SHUT_RD), so that the host's writer gets EPIPE
 *   host_eof    the socket gave its end: SHUTDOWN(SEND) to the guest
 *   host_deaf   the socket refused data (EPIPE): SHUTDOWN(RECEIVE) to the guest, and what comes is discarded
 *
 * Who has told the other both is finished and waits for RST (5.10.6.5): we answer a guest's full shutdown
 * with RST when the last byte is written, and a guest answers ours. Errors are told by RST at once. A guest
 * that resets after it has sent data, or is reset itself, leaves a LINGER behind: the socket alone, until it
 * is written out.
 */
#include <string.h>
#include <sys/socket.h>

#include "base/io.h"
#include "vsock/internal.h"

/* ---- table ---- */

static struct vsock_conn **bucket(struct vsock_dev *v, uint32_t guest_port, uint32_t host_port)
{
	/* Seeded, since the guest chooses ports; with at most VSOCK_CONNS_MAX entries a bad guess costs
	 * little. */
	uint32_t h = (guest_port ^ v->hash_seed) * 0x9e3779b1U;

	h = (h ^ (h >> 15) ^ host_port) * 0x85ebca6bU;
	return &v->hash[(h ^ (h >> 13)) % VSOCK_HASH_SIZE];
}

struct vsock_conn *vsock_conn_find(struct vsock_dev *v, uint32_t guest_port, uint32_t host_port)
{
	for (struct vsock_conn *c = *bucket(v, guest_port, host_port); c; c = c->hash_next) {
		if (c->guest_port == guest_port && c->host_port == host_port)
			return c;
	}
	return NULL;
}

void vsock_conn_hash(struct vsock_conn *c, uint32_t guest_port, uint32_t host_port)
{
	struct vsock_conn **b = bucket(c->v, guest_port, host_port);

	c->guest_port = guest_port;
	c->host_port = host_port;
	c->hash_next = *b;
	*b = c;
	c->hashed = true;
}

static void unhash(struct vsock_conn *c)
{
	if (!c->hashed)
		return;
	for (struct vsock_conn **p = bucket(c->v, c->guest_port, c->host_port); *p; p = &(*p)->hash_next) {
		if (*p == c) {
			*p = c->hash_next;
			break;
		}
	}
	c->hashed = false;
}

/* ---- life ---- */

struct vsock_conn *vsock_conn_new(struct vsock_dev *v, int fd, enum vsock_state state)
{
	CLEANUP_CLOSE int own = fd;

	if (v->n_conns >= VSOCK_CONNS_MAX)
		return NULL;
	struct vsock_conn *c = calloc(1, sizeof(*c));
	if (!c)
		return NULL;
	c->v = v;
	c->state = state;
	c->fd = TAKE_FD(own);
	TAILQ_INSERT_TAIL(&v->all, c, all);
	v->n_conns++;
	return c;
}

static void leave_ready(struct vsock_conn *c)
{
	if (c->on_ready)
		TAILQ_REMOVE(&c->v->ready, c, ready);
	c->on_ready = false;
}

static void close_socket(struct vsock_conn *c)
{
	loop_source_free(TAKE_PTR(c->src));
	close_fd(&c->fd);
	buf_done(&c->out);
}

void vsock_conn_free(struct vsock_conn *c)
{
	struct vsock_dev *v = c->v;

	leave_ready(c);
	unhash(c);
	close_socket(c);
	TAILQ_REMOVE(&v->all, c, all);
	v->n_conns--;
	vsock_conn_wait(c, 0);
	free(c);
}

void vsock_conn_wait(struct vsock_conn *c, uint64_t limit_ns)
{
	struct vsock_dev *v = c->v;

	if (limit_ns == 0) {
		if (c->on_waiting) {
			TAILQ_REMOVE(&v->waiting, c, waiting);
			v->n_waiting--;
			c->on_waiting = false;
			vsock_host_update(v);
		}
		return;
	}
	c->deadline_ns = time_mono_ns() + limit_ns;
	if (!c->on_waiting) {
		TAILQ_INSERT_TAIL(&v->waiting, c, waiting);
		v->n_waiting++;
		c->on_waiting = true;
	}
	vsock_host_update(v);
}

/*
 * A socket closed while it holds data that nobody read shows its peer ECONNRESET instead of an end of file.
 * After a clean end that would be wrong, so the rest is read and dropped; SHUT_RDWR keeps it finite.
 */
static void close_cleanly(struct vsock_conn *c)
{
	char scrap[4096];

	if (c->fd >= 0) {
		shutdown(c->fd, SHUT_RDWR);
		while (recv(c->fd, scrap, sizeof(scrap), MSG_DONTWAIT) > 0)
			;
	}
	close_socket(c);
}

/* Keeps only the address, until the guest has been told. */
static void die(struct vsock_conn *c)
{
	vsock_conn_wait(c, 0);
	c->state = VSOCK_DEAD;
	c->want = WANT_RST;
	vsock_conn_schedule(c);
}

void vsock_conn_reset(struct vsock_conn *c)
{
	if (c->hashed && (c->state != VSOCK_ASKED || c->asked)) {
		close_socket(c);
		die(c);
	} else {
		vsock_conn_free(c); /* the guest never heard of it */
	}
}

void vsock_conn_guest_gone(struct vsock_conn *c)
{
	unhash(c);
	leave_ready(c);
	c->want = 0;
	if (c->out.len == 0 || !c->src) {
		close_cleanly(c);
		vsock_conn_free(c);
		return;
	}
	c->state = VSOCK_LINGER;
	vsock_conn_watch(c);
}

/* ---- scheduling ---- */

uint32_t vsock_conn_credit(const struct vsock_conn *c)
{
	/* 5.10.6.3: peer_free = peer_buf_alloc - (tx_cnt - peer_fwd_cnt), on 32-bit counters that wrap around
	 */
	uint32_t under_way = c->tx_cnt - c->peer_fwd;

	/* A guest may have shrunk its buffer below what is under way (or lie): that is no credit, not a lot.
	 */
	return under_way < c->peer_alloc ? c->peer_alloc - under_way : 0;
}

bool vsock_conn_can_read(const struct vsock_conn *c)
{
	return c->state == VSOCK_OPEN && c->readable && !c->host_eof && vsock_conn_credit(c) > 0;
}

void vsock_conn_schedule(struct vsock_conn *c)
{
	if (!c->on_ready && (c->want || vsock_conn_can_read(c))) {
		TAILQ_INSERT_TAIL(&c->v->ready, c, ready);
		c->on_ready = true;
		vsock_schedule_work(c->v);
	}
}

void vsock_conn_watch(struct vsock_conn *c)
{
	uint32_t events = 0;

	if (!c->src)
		return;
	if (c->state == VSOCK_OPEN && !c->host_eof && !c->readable)
		events |= EPOLLIN;
	if (c->out.len)
		events |= EPOLLOUT;
	loop_set_events(c->src, events);
}

/* ---- guest to host ---- */

static void note_forwarded(struct vsock_conn *c, uint32_t n)
{
	c->fwd_cnt += n;
	/* Unasked and early: Linux only waits, it never asks for credit (5.10.6.3). */
	if (c->fwd_cnt - c->fwd_told >= VSOCK_CREDIT_STEP && !c->guest_fin)
		c->want |= WANT_CREDIT;
}

/* The host does not read any more: what it did not take counts as consumed. */
static void host_deaf(struct vsock_conn *c)
{
	c->host_deaf = true;
	buf_done(&c->out);
	note_forwarded(c, c->rx_cnt - c->fwd_cnt);
}

/* Derives from the four ends what has to be told, and tells it. */
static void conn_update(struct vsock_conn *c)
{
	unsigned shut = 0;

	if (c->guest_fin && c->out.len == 0 && !c->fin_done) {
		shutdown(c->fd, SHUT_WR);
		c->fin_done = true;
	}
	if (c->guest_fin && c->guest_deaf) {
		/* 5.10.6.5: a clean disconnect is confirmed by RST; not before the last byte is where it
		 * belongs */
		if (c->out.len == 0) {
			close_cleanly(c);
			die(c);
			return;
		}
	} else {
		if (c->host_eof && (!c->guest_deaf || c->host_deaf))
			shut |= VSOCK_SHUT_SEND;
		/* Also when both directions have ended cleanly: then it asks the guest for the final RST. */
		if (c->host_deaf || (c->host_eof && (c->hup || c->fin_done)))
			shut |= VSOCK_SHUT_RCV;
	}
	if (shut & ~c->shut_sent) {
		c->shut_sent |= shut;
		c->want |= WANT_SHUTDOWN;
	}
	vsock_conn_schedule(c);
	vsock_conn_watch(c);
}

void vsock_conn_host_eof(struct vsock_conn *c)
{
	c->host_eof = true;
	conn_update(c);
}

static void flush_out(struct vsock_conn *c)
{
	while (c->out.len) {
		ssize_t n = send(c->fd, buf_data(&c->out), c->out.len, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0) {
			if (errno == EINTR)
				continue;
			if (errno != EAGAIN || c->hup)
				host_deaf(c);
			return;
		}
		buf_consume(&c->out, (size_t)n);
		note_forwarded(c, (uint32_t)n);
	}
	buf_done(&c->out); /* an idle connection holds no memory */
}

static void on_rw(struct vsock_conn *c, const struct vsock_hdr *h, const struct iovec *iov, unsigned n_iov)
{
	/* 5.10.6.3.1: data only when there is room for it, and none after the sender said that it was done */
	if (c->guest_fin || h->len > VSOCK_BUF_ALLOC - (c->rx_cnt - c->fwd_cnt)) {
		vsock_conn_reset(c);
		return;
	}
	c->rx_cnt += h->len;
	if (c->host_deaf) {
		host_deaf(c);
		conn_update(c);
		return;
	}

	size_t done = 0;
	if (c->out.len == 0 && h->len > 0) {
		struct msghdr mh = {.msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = n_iov};
		ssize_t n = sendmsg(c->fd, &mh, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && (c->hup || (errno != EAGAIN && errno != EINTR))) {
			host_deaf(c);
			conn_update(c);
			return;
		}
		done = n > 0 ? (size_t)n : 0;
		note_forwarded(c, (uint32_t)done);
	}
	if (done < h->len) {
		uint8_t *p = buf_reserve(&c->out, h->len - done);
		if (!p) {
			vsock_conn_reset(c);
			return;
		}
		buf_commit(&c->out, iov_read(iov, n_iov, done, p, h->len - done));
		vsock_conn_watch(c);
	}
	vsock_conn_schedule(c);
}

static void on_shutdown(struct vsock_conn *c, uint32_t flags)
{
	/* 5.10.6.5: these hints are permanent; later packets with bits clear do not reset them */
	if (flags & VSOCK_SHUT_SEND)
		c->guest_fin = true;
	if (flags & VSOCK_SHUT_RCV && !c->guest_deaf) {
		c->guest_deaf = true;
		c->host_eof = true; /* what it still sends has no reader */
		shutdown(c->fd, SHUT_RD);
	}
	conn_update(c);
}

/* The guest accepted a host's client (5.10.6.5). */
static void on_response(struct vsock_conn *c)
{
	char line[32];
	int len = snprintf(line, sizeof(line), "OK %u\n", c->host_port);

	/* Nothing was written to this socket before, so it has room. */
	if (send(c->fd, line, (size_t)len, MSG_DONTWAIT | MSG_NOSIGNAL) != len) {
		vsock_conn_reset(c);
		return;
	}
	c->state = VSOCK_OPEN;
	vsock_conn_wait(c, 0);
	vsock_conn_watch(c);
}

static void packet_asked(struct vsock_conn *c, const struct vsock_hdr *h)
{
	switch (h->op) {
	case VSOCK_OP_RESPONSE:
		on_response(c);
		break;
	case VSOCK_OP_RST: /* nobody listens in the guest: the client sees the end of file */
		vsock_conn_free(c);
		break;
	case VSOCK_OP_CREDIT_UPDATE:
	case VSOCK_OP_CREDIT_REQUEST:
		break;
	default:
		vsock_conn_reset(c);
	}
}

static void packet_open(struct vsock_conn *c, const struct vsock_hdr *h, const struct iovec *iov, unsigned n)
{
	switch (h->op) {
	case VSOCK_OP_RW:
		on_rw(c, h, iov, n);
		break;
	case VSOCK_OP_CREDIT_UPDATE:
		vsock_conn_schedule(c); /* it may have waited for this */
		break;
	case VSOCK_OP_CREDIT_REQUEST:
		c->want |= WANT_CREDIT; /* 5.10.6.3: answered by CREDIT_UPDATE */
		vsock_conn_schedule(c);
		break;
	case VSOCK_OP_SHUTDOWN:
		on_shutdown(c, h->flags);
		break;
	case VSOCK_OP_RST:
		vsock_conn_guest_gone(c);
		break;
	default: /* REQUEST or RESPONSE on what is connected, or no operation of 5.10.6 */
		vsock_conn_reset(c);
	}
}

void vsock_conn_packet(struct vsock_conn *c, const struct vsock_hdr *h, const struct iovec *iov, unsigned n)
{
	c->peer_alloc = h->buf_alloc;
	c->peer_fwd = h->fwd_cnt;
	if (c->state == VSOCK_ASKED) {
		packet_asked(c, h);
	} else if (c->state == VSOCK_OPEN) {
		packet_open(c, h, iov, n);
	} else if (c->state == VSOCK_DEAD && h->op == VSOCK_OP_RST) {
		vsock_conn_free(c); /* both gave up at once: ours need not be sent */
	}
}

/* ---- socket events ---- */

static void on_io_open(struct vsock_conn *c, uint32_t events)
{
	if (events & EPOLLIN)
		c->readable = true;
	if (c->out.len && (events & EPOLLOUT || c->hup))
		flush_out(c);
	if (events & EPOLLOUT || c->hup) {
		conn_update(c);
		return;
	}
	/* Watching goes on as long as the pump has hope to read this very turn. */
	vsock_conn_schedule(c);
	if (!c->on_ready)
		vsock_conn_watch(c);
}

static void on_io(void *data, int fd, uint32_t events)
{
	struct vsock_conn *c = data;

	if (events & (EPOLLHUP | EPOLLERR) && c->state != VSOCK_LINE) {
		/* Level-triggered for ever: from here on reading alone tells what is left. */
		loop_source_free(TAKE_PTR(c->src));
		c->hup = c->readable = true;
	}
	switch (c->state) {
	case VSOCK_LINE:
		vsock_host_line(c, events & (EPOLLHUP | EPOLLERR));
		break;
	case VSOCK_ASKED: /* nothing else is watched for: the client left */
		vsock_conn_reset(c);
		break;
	case VSOCK_OPEN:
		on_io_open(c, events);
		break;
	case VSOCK_LINGER:
		flush_out(c);
		if (c->out.len == 0) {
			close_cleanly(c);
			vsock_conn_free(c);
		}
		break;
	case VSOCK_DEAD:
		break;
	}
}

int vsock_conn_watch_new(struct vsock_conn *c, uint32_t events)
{
	return loop_add_io(c->v->loop, c->fd, events, on_io, c, &c->src);
}
