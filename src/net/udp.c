/* SPDX-License-Identifier: MIT */
/* Datagrams with the outside: frames of boxes to sockets of the host, and back. See udp.h. */
#include "udp.h"

#include <linux/errqueue.h>
#include <stddef.h>
#include <string.h>

#include "base/io.h"

/* ---- towards the box ---- */

static void put16(uint8_t *p, size_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

/* Over the network's MTU: with its checksum, in one piece, for frag.c to cut. */
static void send_large(struct port *p, const uint8_t *headers, size_t headers_len, uint32_t sum,
	const void *data, size_t len)
{
	const struct vnet_hdr none = {0};
	uint8_t *frame = p->g->udp->frame, *udp = frame + headers_len - UDP_HDR_LEN;

	memcpy(frame, headers, headers_len);
	memcpy(frame + headers_len, data, len);
	uint16_t check = inet_sum_finish(inet_sum(sum, udp, UDP_HDR_LEN + len));
	if (!check)
		check = 0xffff; /* RFC 768: zero is for none */
	memcpy(udp + 6, &check, sizeof(check));
	frag_output(p, NULL, &none, frame, headers_len + len);
}

void udp_send(struct port *p, const struct net_addr *src, uint16_t sport, const struct net_addr *dst,
	uint16_t dport, const void *data, size_t len)
{
	size_t max = net_addr_is4(dst) ? 65535 - 20 - UDP_HDR_LEN : 65535 - UDP_HDR_LEN;
	const struct pkt_out o = {.eth_dst = p->a.mac,
		.eth_src = p->g->mac,
		.src = src,
		.dst = dst,
		.proto = IPPROTO_UDP,
		.ip4_id = p->g->udp->ip4_id++};
	uint8_t headers[PKT_HEADERS_MAX];

	if (len > max || net_addr_is4(src) != net_addr_is4(dst)) {
		p->stats.dropped++;
		return;
	}
	size_t at = pkt_put_headers(headers, &o, UDP_HDR_LEN + len);
	uint8_t *udp = headers + at;
	put16(udp, sport);
	put16(udp + 2, dport);
	put16(udp + 4, UDP_HDR_LEN + len);
	put16(udp + 6, 0);
	uint32_t sum = pkt_pseudo_sum(src, dst, IPPROTO_UDP, UDP_HDR_LEN + len);
	if (at - ETH_HDR_LEN + UDP_HDR_LEN + len > NETD_MTU) {
		send_large(p, headers, at + UDP_HDR_LEN, sum, data, len);
		return;
	}
	/* The sum of the pseudo header, to be completed by who cares (virtio 1.2 section 5.1.6.2). */
	uint16_t check = (uint16_t)~inet_sum_finish(sum);
	memcpy(udp + 6, &check, sizeof(check));
	const struct vnet_hdr h = {.flags = VNET_NEEDS_CSUM, .csum_start = (uint16_t)at, .csum_offset = 6};
	const struct iovec iov[] = {{headers, at + UDP_HDR_LEN}, {(void *)data, len}};
	port_send(p, NULL, &h, iov, len ? 2 : 1);
}

/* ---- what comes in ---- */

static struct udp_use *use_of(struct udp_flow *f, const struct net_addr *seen, uint16_t port)
{
	for (unsigned i = 0; i < f->n_uses; i++) {
		if (f->uses[i].port == port && (!seen || net_addr_equal(&f->uses[i].seen, seen)))
			return &f->uses[i];
	}
	return NULL;
}

static struct udp_flow *peer_of(struct udp_sock *s, const struct net_addr *real)
{
	const struct flow_key k = {.src = s->box, .sport = s->box_port, .dst = *real, .proto = UDP_PEER};

	return (struct udp_flow *)udp_find(s->up, &k);
}

/* An answer: from an address that the box sent to, else dropped. */
static void peer_input(struct udp_sock *s, const struct msghdr *m, const void *data, size_t len)
{
	struct net_addr from;
	uint16_t port;

	if (!net_addr_from_sockaddr(m->msg_name, &from, &port))
		return;
	struct udp_flow *f = peer_of(s, &from);
	if (!f || f->n_uses == 0)
		return;
	/* The name that the box has for it: as used with this port, else as used last. */
	const struct udp_use *use = use_of(f, NULL, port);
	for (unsigned i = 0; i < f->n_uses && (!use || use->port != port); i++) {
		if (!use || f->uses[i].last_ns > use->last_ns)
			use = &f->uses[i];
	}
	struct net_addr seen = use->seen;
	udp_flow_touch(f, true);
	udp_send(s->up->p, &seen, port, &s->box, s->box_port, data, len);
}

static void wake(struct port_waiter *w)
{
	struct udp_sock *s = (struct udp_sock *)(void *)((char *)w - offsetof(struct udp_sock, waiter));

	loop_set_events(s->io, EPOLLIN);
}

struct batch {
	struct mmsghdr msgs[UDP_BATCH];
	struct iovec iov[UDP_BATCH];
	struct sockaddr_storage names[UDP_BATCH];
	_Alignas(struct cmsghdr) uint8_t control[UDP_BATCH][CMSG_SPACE(sizeof(struct in6_pktinfo))];
};

/* Returns the datagrams received, at most max. */
static int receive(struct udp_sock *s, struct batch *b, unsigned max)
{
	struct udp_state *u = s->up->p->g->udp;

	for (unsigned i = 0; i < max; i++) {
		b->iov[i] = (struct iovec){u->data[i], UDP_DATA_MAX};
		b->msgs[i].msg_hdr = (struct msghdr){.msg_name = &b->names[i],
			.msg_namelen = sizeof(b->names[i]),
			.msg_iov = &b->iov[i],
			.msg_iovlen = 1,
			.msg_control = s->published ? b->control[i] : NULL,
			.msg_controllen = s->published ? sizeof(b->control[i]) : 0};
	}
	return recvmmsg(s->fd, b->msgs, max, MSG_DONTWAIT, NULL);
}

static void input(struct udp_sock *s)
{
	struct port *p = s->up->p;
	struct batch b;

	for (unsigned round = 0; round < UDP_BATCHES; round++) {
		if (!port_room(p)) {
			port_wait(p, &s->waiter);
			loop_set_events(s->io, 0);
			return;
		}
		int max = s->small ? UDP_BATCH : 1, n = receive(s, &b, (unsigned)max);
		s->small = true;
		for (int i = 0; i < n; i++) {
			s->small &= b.msgs[i].msg_len <= UDP_SMALL;
			const struct msghdr *m = &b.msgs[i].msg_hdr;
			(s->published ? udp_client_input : peer_input)(
				s, m, b.iov[i].iov_base, b.msgs[i].msg_len);
		}
		if (n < max)
			return;
	}
}

/* ---- errors ---- */

/* Whether it says that the datagram did not arrive, and how the box is to be told. */
static bool why_of(int err, enum icmp_why *ret)
{
	switch (err) {
	case ECONNREFUSED:
		*ret = ICMP_WHY_PORT;
		return true;
	case EHOSTUNREACH:
	case EHOSTDOWN:
		*ret = ICMP_WHY_HOST;
		return true;
	case ENETUNREACH:
	case ENETDOWN:
	case ENONET:
	case EADDRNOTAVAIL: /* no address of the host's could be the source */
		*ret = ICMP_WHY_NET;
		return true;
	case EACCES:
	case EPERM:
		*ret = ICMP_WHY_PROHIBITED;
		return true;
	default:
		return false;
	}
}

/* An ICMP error that the host got about a datagram of ours. */
static void peer_error(struct udp_sock *s, const struct msghdr *m)
{
	enum icmp_why why;
	struct net_addr to;
	uint16_t port;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR((struct msghdr *)m, c)) {
		struct sock_extended_err ee;
		if (!((c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_RECVERR) ||
			    (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_RECVERR)) ||
			c->cmsg_len < CMSG_LEN(sizeof(ee)))
			continue;
		memcpy(&ee, CMSG_DATA(c), sizeof(ee));
		if ((ee.ee_origin != SO_EE_ORIGIN_ICMP && ee.ee_origin != SO_EE_ORIGIN_ICMP6) ||
			!why_of((int)ee.ee_errno, &why) || !net_addr_from_sockaddr(m->msg_name, &to, &port))
			continue;
		struct udp_flow *f = peer_of(s, &to);
		struct udp_use *use = f ? use_of(f, NULL, port) : NULL;
		if (!use)
			continue;
		const struct flow_key k = {.src = s->box,
			.sport = s->box_port,
			.dst = use->seen,
			.dport = port,
			.proto = IPPROTO_UDP};
		icmp_unreachable_udp(s->up->p, &k, why);
	}
}

static void errors(struct udp_sock *s)
{
	enum { MAX = 16 };

	for (unsigned i = 0; i < MAX; i++) {
		struct sockaddr_storage name;
		_Alignas(struct cmsghdr) uint8_t control[512];
		struct msghdr m = {.msg_name = &name,
			.msg_namelen = sizeof(name),
			.msg_control = control,
			.msg_controllen = sizeof(control)};
		if (recvmsg(s->fd, &m, MSG_ERRQUEUE | MSG_DONTWAIT) < 0)
			break;
		if (!s->published)
			peer_error(s, &m);
	}
	/* One that is not in the queue would wake us for ever. */
	int err;
	socklen_t len = sizeof(err);
	getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &err, &len);
}

static void on_socket(void *data, int fd, uint32_t events)
{
	struct udp_sock *s = data;

	if (events & EPOLLERR)
		errors(s);
	if (events & EPOLLIN)
		input(s);
}

int udp_sock_watch(struct udp_sock *s)
{
	s->waiter.fn = wake;
	return loop_add_io(s->up->p->g->loop, s->fd, EPOLLIN, on_socket, s, &s->io);
}

/* ---- what goes out ---- */

/*
 * A socket. Where the box has its share of them, its own longest idle flow ends for it, and where the process has no descriptor
 * left, one of the box that has most. -errno.
 */
static int open_socket(struct udp_port *up, int family)
{
	enum { TRIES = 8 };
	const int on = 1, dont = IP_PMTUDISC_DONT, dont6 = IPV6_PMTUDISC_DONT;
	struct udp_state *u = up->p->g->udp;
	int fd;

	for (unsigned i = 0; !share_room(up->p); i++) {
		if (i >= TRIES || !share_can_swap(up->p) || !udp_port_evict(up))
			return -EMFILE;
	}
	for (unsigned i = 0;; i++) {
		fd = socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		if (fd >= 0)
			break;
		int r = -errno;
		if ((r != -EMFILE && r != -ENFILE) || i >= TRIES || !udp_flow_evict(u))
			return r;
	}
	/* Large datagrams are cut into fragments, as the box sees no path MTU of the outside. */
	if (family == AF_INET) {
		setsockopt(fd, IPPROTO_IP, IP_RECVERR, &on, sizeof(on));
		setsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, &dont, sizeof(dont));
	} else {
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
		setsockopt(fd, IPPROTO_IPV6, IPV6_RECVERR, &on, sizeof(on));
		setsockopt(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, &dont6, sizeof(dont6));
	}
	return fd;
}

/* The socket of the box's source port, opened if need be. NULL: none to be had. */
static struct udp_sock *mapping_of(struct udp_port *up, const struct pkt *k, bool is4)
{
	static const uint8_t any[4];
	struct flow_key key = {.src = k->src, .sport = k->sport, .proto = UDP_MAPPING};

	if (is4)
		key.dst = net_addr_from4(any);
	struct udp_node *n = udp_find(up, &key);
	if (n)
		return (struct udp_sock *)n;
	if (!share_begin(up->p))
		return NULL;
	struct udp_sock *s = calloc(1, sizeof(*s));
	if (!s)
		return NULL;
	s->up = up;
	s->node.key = key;
	s->is4 = is4;
	s->box = k->src;
	s->box_port = k->sport;
	s->fd = open_socket(up, is4 ? AF_INET : AF_INET6);
	if (s->fd < 0 || udp_sock_watch(s) < 0) {
		close_fd(&s->fd);
		free(s);
		return NULL;
	}
	share_take(up->p);
	udp_insert(up, &s->node);
	return s;
}

static struct udp_flow *peer_new(struct udp_port *up, const struct pkt *k, const struct flow_key *key)
{
	struct udp_sock *s = mapping_of(up, k, net_addr_is4(&key->dst));
	struct udp_flow *f = s ? udp_flow_new(s, false, key) : NULL;

	if (s && s->n_flows == 0)
		udp_sock_free(s);
	return f;
}

static struct udp_use *use_add(struct udp_flow *f, const struct pkt *k)
{
	struct udp_use *use = &f->uses[0];

	if (f->n_uses < UDP_USES_MAX) {
		use = &f->uses[f->n_uses++];
	} else {
		for (unsigned i = 1; i < UDP_USES_MAX; i++) {
			if (f->uses[i].last_ns < use->last_ns)
				use = &f->uses[i];
		}
	}
	*use = (struct udp_use){.seen = k->dst, .port = k->dport};
	return use;
}

static void peer_output(struct udp_flow *f, struct udp_use *use, const struct pkt *k)
{
	struct port *p = f->sock->up->p;
	struct udp_sock *s = f->sock;
	struct sockaddr_storage ss;
	socklen_t len = net_addr_sockaddr(&f->node.key.dst, k->dport, &ss);
	enum icmp_why why;

	udp_flow_touch(f, false);
	use->last_ns = f->last_ns;
	for (unsigned i = 0; i < 3; i++) {
		if (sendto(s->fd, k->frame + k->payload, k->payload_len, MSG_DONTWAIT | MSG_NOSIGNAL,
			    (struct sockaddr *)&ss, len) >= 0)
			return;
		int r = errno;
		/* It may be about an earlier datagram, and is now said: of that on_socket tells the box. */
		if (r == ECONNREFUSED || (i == 0 && why_of(r, &why)))
			continue;
		p->stats.dropped++;
		if (why_of(r, &why))
			icmp_unreachable(p, k, why);
		return;
	}
	p->stats.dropped++;
}

/* To the host or the outside. */
static void outbound(struct udp_port *up, const struct pkt *k)
{
	struct port *p = up->p;
	struct flow_key key, peer = {.src = k->src, .sport = k->sport, .proto = UDP_PEER};
	int r = engine_outside(p->g, &k->dst, &peer.dst);

	if (r < 0) {
		icmp_unreachable(p, k,
			r == -EACCES	    ? ICMP_WHY_PROHIBITED
			: r == -ENETUNREACH ? ICMP_WHY_NET
					    : ICMP_WHY_HOST);
		return;
	}
	struct udp_flow *f = (struct udp_flow *)udp_find(up, &peer);
	struct udp_use *use = f ? use_of(f, &k->dst, k->dport) : NULL;
	flow_key_of(&key, k);
	if (!use && !policy_allows(p->g, p, NULL, &key, false)) {
		icmp_unreachable(p, k, ICMP_WHY_PROHIBITED);
		return;
	}
	if (!f)
		f = peer_new(up, k, &peer);
	if (!f) {
		p->stats.dropped++;
		return;
	}
	if (!use)
		use = use_add(f, k);
	peer_output(f, use, k);
}

void udp_input(struct port *p, const struct pkt *k)
{
	struct udp_port *up = udp_port_of(p);

	/* A source port of 0 wants no answer, a destination port of 0 has no meaning (RFC 768). */
	if (!up || k->fragment || k->proto != IPPROTO_UDP || !k->sport || !k->dport) {
		p->stats.dropped++;
		return;
	}
	if (up->published) {
		const struct flow_key key = {.src = k->src,
			.sport = k->sport,
			.dst = k->dst,
			.dport = k->dport,
			.proto = UDP_CLIENT};
		struct udp_flow *f = (struct udp_flow *)udp_find(up, &key);
		if (f) {
			udp_client_output(f, k);
			return;
		}
	}
	outbound(up, k);
}
