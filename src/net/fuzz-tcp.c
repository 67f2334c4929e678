/* SPDX-License-Identifier: MIT */
/*
 * A box and a host that do what the input says to tcp*.c, in any order. Input: steps of 8 bytes, see `step`. Checked besides
 * what the sanitizers see: that every segment to the box is well formed (test-tcp-box.c), the bounds of memory and of
 * numbers, and that nothing is left when the box goes.
 */
#include <string.h>
#include <sys/socket.h>

#include "base/io.h"
#include "test-tcp-box.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { STEPS = 400, PEERS = 8 };

static int listener = -1, published = -1;
static struct sockaddr_in at_listener, at_published;
static int peers[PEERS]; /* ends of the host; 0: none */

static int listen_somewhere(struct sockaddr_in *a)
{
	socklen_t len = sizeof(*a);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	*a = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	if (bind(fd, (struct sockaddr *)a, len) < 0 || listen(fd, 64) < 0)
		abort();
	getsockname(fd, (struct sockaddr *)a, &len);
	return fd;
}

static void add_peer(int fd)
{
	for (unsigned i = 0; fd > 0 && i < PEERS; i++) {
		if (!peers[i]) {
			peers[i] = fd;
			return;
		}
	}
	if (fd > 0)
		close(fd);
}

/* A connection of the engine's, as many steps on as k says. */
static const struct tcp_conn *pick(unsigned k)
{
	struct tcp_port *tp = box.g.tcp->ports[0];
	struct node *n = tp ? tp->conns.next : NULL;

	if (!n || n == &tp->conns)
		return NULL;
	while (k-- && n->next != &tp->conns)
		n = n->next;
	return LIST_OF(n, struct tcp_conn, in_port);
}

/* A segment near what a connection expects: op flags which window seq16 len8. */
static void segment(const uint8_t *b)
{
	static const uint8_t data[4096] = "data";
	const struct tcp_conn *c = pick(b[2] % 4);
	int16_t off = (int16_t)(b[4] | b[5] << 8);
	struct seg s = {.flags = b[1] & 0x3f,
		.window = (uint16_t)(b[3] << 8 | b[3]),
		.dport = ntohs(at_listener.sin_port),
		.sport = (uint16_t)(1000 + b[2]),
		.seq = (uint32_t)off,
		.is6 = b[2] & 64,
		.mss = b[6] & 1 ? (uint16_t)(b[6] << 3) : 0,
		.wscale = b[6] & 2 ? b[6] >> 4 : -1,
		.data = data,
		.len = (size_t)b[7] * 16};

	if (s.flags & TCP_SYN)
		s.flags &= ~(TCP_FIN | TCP_RST);
	if (c && !(b[2] & 128)) {
		s.is6 = !net_addr_is4(&c->key.src);
		s.peer = c->key.dst;
		s.sport = c->key.sport;
		s.dport = c->key.dport;
		s.seq = c->state == CONN_SYN_SENT ? (uint32_t)off
						  : c->rcv_nxt + (b[6] & 4 ? (uint32_t)off : 0);
		s.ack = c->snd_max - (b[6] & 8 ? (uint32_t)off : 0);
	}
	if (b[2] == 255)
		s = (struct seg){.flags = s.flags, .dport = 53, .peer = box.g.config.gateway4, .seq = s.seq};
	box_sends(&s);
}

static void host(const uint8_t *b)
{
	static uint8_t buf[1 << 16];
	int *p = &peers[b[2] % PEERS];
	const struct linger now = {.l_onoff = 1};
	ssize_t n = 0;

	switch (b[1] % 8) {
	case 0:
		add_peer(accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK));
		break;
	case 1: {
		int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		n = connect(fd, (struct sockaddr *)&at_published, sizeof(at_published));
		add_peer(fd);
		break;
	}
	case 2:
	case 3:
		if (*p)
			n = send(*p, buf, (size_t)(b[3] << 8) + b[4], MSG_NOSIGNAL);
		break;
	case 4:
		if (*p)
			n = recv(*p, buf, sizeof(buf), MSG_DONTWAIT);
		break;
	case 5:
		if (*p)
			shutdown(*p, SHUT_WR);
		break;
	case 6:
		if (*p)
			setsockopt(*p, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
		__attribute__((fallthrough));
	case 7:
		if (*p)
			close(*p);
		*p = 0;
		break;
	}
	(void)n;
}

static void step(const uint8_t *b)
{
	switch (b[0] % 8) {
	case 0:
	case 1:
	case 2:
		segment(b);
		break;
	case 3:
	case 4:
		host(b);
		break;
	case 5:
		box_sleep((uint64_t)b[1] << (b[2] % 32 + 10));
		break;
	case 6:
		box.no_room = b[1] & 1;
		box.drop = b[1] & 2;
		box.deny = b[1] & 4;
		box.outside = b[1] & 8 ? -EHOSTUNREACH : 0;
		if (!box.no_room)
			box_gives_room();
		break;
	case 7:
		if (b[1] == 0)
			tcp_recheck(&box.g);
		else if (b[1] == 1)
			tcp_port_gone(&box.p);
		break;
	}
	box_turn(0);
}

static void check(void)
{
	const struct tcp_conn *c = pick(0);

	if (box.g.tcp->pool.used > ENGINE_TCP_MEMORY || box.p.n_conns > ENGINE_CONNS_PER_PORT)
		abort();
	if (!c)
		return;
	if (c->out.len > c->out.cap || c->in.len > c->in.cap || seq_lt(c->snd_max, c->snd_una) ||
		c->out.len > c->snd_max - c->snd_una ||
		(c->heap_at && c->due_ns > MIN_OF(c->retry_ns, c->limit_ns)) ||
		(!c->heap_at && MIN_OF(c->retry_ns, c->limit_ns) != TCP_NEVER))
		abort();
	/* What is under way is what is kept, and FIN. */
	uint32_t flight = c->snd_max - c->snd_una;
	if (c->state == CONN_OPEN && flight && c->out.len + c->fin_out != flight)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	box_init();
	box.keep_none = true;
	listener = listen_somewhere(&at_listener);
	published = listen_somewhere(&at_published);
	if (tcp_publish(&box.p, 80, published) < 0)
		abort();
	for (size_t i = 0; i < STEPS && size >= 8; i++, data += 8, size -= 8) {
		step(data);
		check();
	}
	tcp_port_gone(&box.p);
	if (box.p.n_conns || box.g.tcp->pool.used || box.g.tcp->n_all || box.g.tcp->n_heap || box.waiter)
		abort();
	box_done();
	for (unsigned i = 0; i < PEERS; i++) {
		if (peers[i])
			close(peers[i]);
		peers[i] = 0;
	}
	close_fd(&listener);
	return 0;
}
