/* SPDX-License-Identifier: MIT */
/* Datagrams of clients to published ports, and the answers. See udp.h. */
#include <stddef.h>
#include <string.h>

#include "base/io.h"
#include "udp.h"

/* The address that the datagram was sent to. false: the socket did not say. */
static bool local_of(const struct msghdr *m, struct net_addr *ret, uint32_t *ret_ifindex)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR((struct msghdr *)m, c)) {
		if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO &&
			c->cmsg_len >= CMSG_LEN(sizeof(struct in_pktinfo))) {
			struct in_pktinfo i;
			memcpy(&i, CMSG_DATA(c), sizeof(i));
			/* Not the header's destination, which may be a broadcast. */
			*ret = net_addr_from4(&i.ipi_spec_dst);
			*ret_ifindex = 0;
			return true;
		}
		if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO &&
			c->cmsg_len >= CMSG_LEN(sizeof(struct in6_pktinfo))) {
			struct in6_pktinfo i;
			memcpy(&i, CMSG_DATA(c), sizeof(i));
			memcpy(ret->b, &i.ipi6_addr, 16); /* a mapped one is IPv4, as in struct net_addr */
			*ret_ifindex = IN6_IS_ADDR_LINKLOCAL(&i.ipi6_addr) ? i.ipi6_ifindex : 0;
			return true;
		}
	}
	return false;
}

/*
 * Picks what the client is for the box, in key's dst and dport: its own address and port where the box can see them and no
 * other client looks the same. false: nothing is free.
 */
static bool pick_seen(
	struct udp_port *up, struct flow_key *key, const struct net_addr *client, uint16_t client_port)
{
	enum { TRIES = 64, MADE_UP = 32768 };

	key->dst = engine_seen_as(up->p->g, client, net_addr_is4(&key->src));
	if (net_addr_is_zero(&key->dst))
		return false;
	bool itself = net_addr_equal(&key->dst, client);
	key->dport = client_port;
	/* The gateway's low ports are services of ours. */
	if ((itself || client_port >= 1024) && !udp_find(up, key))
		return true;
	for (unsigned i = 0; i < TRIES; i++) {
		uint16_t r;
		io_random(&r, sizeof(r));
		key->dport = (uint16_t)(MADE_UP + r % (65536 - MADE_UP));
		if (!udp_find(up, key))
			return true;
	}
	return false;
}

/* The box's address that a client of that family comes to. */
static const struct net_addr *box_address(const struct port *p, bool is4)
{
	const struct net_addr *same = is4 ? &p->a.ip4 : &p->a.ip6;

	return net_addr_is_zero(same) ? is4 ? &p->a.ip6 : &p->a.ip4 : same;
}

static struct udp_flow *client_new(struct udp_sock *s, const struct flow_key *origin)
{
	struct udp_port *up = s->up;
	struct flow_key key = {.src = *box_address(up->p, net_addr_is4(&origin->src)),
		.sport = s->box_port,
		.proto = UDP_CLIENT};
	const struct flow_key asked = {.src = origin->src,
		.sport = origin->sport,
		.dst = key.src,
		.dport = s->box_port,
		.proto = IPPROTO_UDP};

	if (net_addr_is_zero(&key.src) || !policy_allows(up->p->g, NULL, up->p, &asked, false) ||
		!pick_seen(up, &key, &origin->src, origin->sport))
		return NULL;
	struct udp_flow *f = udp_flow_new(s, true, &key);
	if (!f)
		return NULL;
	f->origin.key = *origin;
	udp_insert(up, &f->origin);
	return f;
}

void udp_client_input(struct udp_sock *s, const struct msghdr *m, const void *data, size_t len)
{
	struct udp_port *up = s->up;
	struct flow_key origin = {.dport = s->host_port, .proto = UDP_ORIGIN};
	const struct sockaddr_storage *from = m->msg_name;
	uint32_t ifindex;

	if (!net_addr_from_sockaddr(from, &origin.src, &origin.sport) || !origin.sport ||
		!local_of(m, &origin.dst, &ifindex)) {
		up->p->stats.dropped++;
		return;
	}
	if (from->ss_family == AF_INET6)
		memcpy(origin.pad, &((const struct sockaddr_in6 *)from)->sin6_scope_id, sizeof(origin.pad));
	struct udp_node *n = udp_find(up, &origin);
	struct udp_flow *f = n ? (struct udp_flow *)(void *)((char *)n - offsetof(struct udp_flow, origin))
			       : client_new(s, &origin);
	if (!f) {
		up->p->stats.dropped++;
		return;
	}
	if (!n) {
		f->addr = *from;
		f->local = origin.dst;
		f->ifindex = ifindex;
	}
	udp_flow_touch(f, false);
	udp_send(up->p, &f->node.key.dst, f->node.key.dport, &f->node.key.src, f->node.key.sport, data, len);
}

void udp_client_output(struct udp_flow *f, const struct pkt *k)
{
	struct udp_sock *s = f->sock;
	struct iovec iov = {(void *)(k->frame + k->payload), k->payload_len};
	_Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(sizeof(struct in6_pktinfo))] = {0};
	struct msghdr m = {.msg_name = &f->addr,
		.msg_namelen = f->addr.ss_family == AF_INET ? sizeof(struct sockaddr_in)
							    : sizeof(struct sockaddr_in6),
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control};
	struct cmsghdr *c = (struct cmsghdr *)control;

	if (s->is4) {
		struct in_pktinfo i = {0};
		memcpy(&i.ipi_spec_dst, f->local.b + 12, 4);
		m.msg_controllen = CMSG_SPACE(sizeof(i));
		*c = (struct cmsghdr){CMSG_LEN(sizeof(i)), IPPROTO_IP, IP_PKTINFO};
		memcpy(CMSG_DATA(c), &i, sizeof(i));
	} else {
		struct in6_pktinfo i = {.ipi6_ifindex = f->ifindex};
		memcpy(&i.ipi6_addr, f->local.b, 16);
		m.msg_controllen = CMSG_SPACE(sizeof(i));
		*c = (struct cmsghdr){CMSG_LEN(sizeof(i)), IPPROTO_IPV6, IPV6_PKTINFO};
		memcpy(CMSG_DATA(c), &i, sizeof(i));
	}
	udp_flow_touch(f, true);
	if (sendmsg(s->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		s->up->p->stats.dropped++;
}

/* What tells us the address that a datagram was sent to. */
static int want_local(int fd, bool is4)
{
	const int on = 1;

	if (is4)
		return setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof(on)) < 0 ? -errno : 0;
	return setsockopt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof(on)) < 0 ? -errno : 0;
}

int udp_publish(struct port *p, uint16_t guest_port, int fd)
{
	CLEANUP_CLOSE int own = fd;
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	int type = 0;
	socklen_t type_len = sizeof(type);
	struct net_addr a;
	uint16_t host_port;

	if (getsockopt(own, SOL_SOCKET, SO_TYPE, &type, &type_len) < 0 ||
		getsockname(own, (struct sockaddr *)&ss, &len) < 0)
		return -errno;
	if (type != SOCK_DGRAM || !guest_port || !net_addr_from_sockaddr(&ss, &a, &host_port) || !host_port)
		return -EINVAL;
	int r = want_local(own, ss.ss_family == AF_INET);
	if (r < 0)
		return r;
	struct udp_port *up = udp_port_of(p);
	struct udp_sock *s = up ? calloc(1, sizeof(*s)) : NULL;
	if (!s)
		return -ENOMEM;
	s->up = up;
	s->published = true;
	s->is4 = ss.ss_family == AF_INET;
	s->box_port = guest_port;
	s->host_port = host_port;
	s->fd = own;
	r = udp_sock_watch(s);
	if (r < 0) {
		free(s);
		return r;
	}
	own = -1;
	s->next = up->published;
	up->published = s;
	return 0;
}
