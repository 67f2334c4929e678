/* SPDX-License-Identifier: MIT */
/*
 * ICMP (RFC 792) and ICMPv6 (RFC 4443): echo. What boxes are told about packets that go nowhere is in icmp-error.c.
 *
 * THEORY OF OPERATION
 *
 * An echo flow is a box's address, its identifier and a destination. The gateway's are answered here. All others go on
 * through a connected socket each, of the kernel's unprivileged kind, which chooses the identifier itself; where those are
 * not permitted (net.ipv4.ping_group_range) but raw sockets are, all flows share one raw socket of each family, opened
 * before the process is confined, and we choose identifiers. From what comes back the box gets its own identifier and the
 * destination that it knows. Errors on the way (a router where the hop limit ended, a network that is not reached) come
 * from the sockets' error queues and are made into what the box would have seen, so that traceroute works.
 *
 * Policy is asked once for a flow. A flow goes IDLE_NS after its last request; a box that begins more than
 * ENGINE_ECHO_PER_PORT loses the one that was idle longest, and all boxes together have ECHO_MAX at most.
 */
#include <endian.h>
#include <errno.h>
#include <linux/icmp.h>
#include <netinet/icmp6.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <linux/errqueue.h>

#include "base/io.h"
#include "icmp.h"

enum { ECHO_MAX = 4096, BUCKETS = 1024 };
enum { IP4_LEN = 20, IP6_LEN = 40, ICMP_LEN = 8, IP_LEN_MAX = 65535 };
enum { HEADROOM = ETH_HDR_LEN + IP6_LEN };
enum { BUDGET = 16 /* packets of one socket and turn */ };
#define IDLE_NS 10000000000ull

struct echo {
	struct icmp_state *s;
	struct port *port;
	struct flow_key key;
	struct echo *next; /* of its bucket */
	struct echo *older, *newer;
	uint64_t used_ns;
	struct loop_source *source;
	struct net_addr host; /* where it leads; of the gateway's, nowhere */
	int fd;		      /* the flow's own socket, or -1 */
	uint8_t ttl;	      /* of it, 0: not set yet */
	int slot;	      /* of the shared socket, or -1 */
};

struct raw { /* a socket for all flows of a family */
	struct icmp_state *s;
	int fd; /* -1: none, each flow has its own */
	bool is4;
	uint8_t ttl;
	struct loop_source *source;
};

struct icmp_state {
	struct engine *g;
	struct loop_source *timer;
	struct echo *buckets[BUCKETS];
	struct echo *oldest, *newest;
	unsigned n;
	struct raw raw[2];	      /* by is4 */
	struct echo *slots[ECHO_MAX]; /* flows that use them: the identifier is first_id and the slot */
	uint16_t first_id;
	unsigned next_slot;
	struct icmp_limit limits[NETD_PORTS_MAX];
	uint8_t buf[HEADROOM +
		    IP_LEN_MAX]; /* a packet that comes in, with room for the headers of its frame */
};

struct icmp_limit *icmp_limit_of(const struct port *p)
{
	return &p->g->icmp->limits[p->slot];
}

/* What an error of a socket means; false: nothing that the box could use. */
static bool why_of(int r, enum icmp_why *ret)
{
	switch (r) {
	case -ENETUNREACH:
	case -ENETDOWN:
	case -EADDRNOTAVAIL:
		*ret = ICMP_WHY_NET;
		return true;
	case -EHOSTUNREACH:
	case -EHOSTDOWN:
		*ret = ICMP_WHY_HOST;
		return true;
	case -EACCES:
	case -EPERM:
	case -EPROTONOSUPPORT: /* a host without this family's sockets */
	case -EAFNOSUPPORT:
		*ret = ICMP_WHY_PROHIBITED;
		return true;
	default:
		return false;
	}
}

static void fail(struct port *p, const struct pkt *k, int r)
{
	enum icmp_why why;

	p->stats.dropped++;
	if (why_of(r, &why))
		icmp_unreachable(p, k, why);
}

/* ---- flows ---- */

static struct echo **find(struct icmp_state *s, const struct port *p, const struct flow_key *key)
{
	struct echo **at = &s->buckets[flow_hash(key) % BUCKETS];

	while (*at && ((*at)->port != p || memcmp(&(*at)->key, key, sizeof(*key)) != 0))
		at = &(*at)->next;
	return at;
}

static void lru_unlink(struct icmp_state *s, struct echo *e)
{
	*(e->older ? &e->older->newer : &s->oldest) = e->newer;
	*(e->newer ? &e->newer->older : &s->newest) = e->older;
}

static void lru_append(struct icmp_state *s, struct echo *e)
{
	e->used_ns = time_mono_ns();
	e->older = s->newest;
	e->newer = NULL;
	*(s->newest ? &s->newest->newer : &s->oldest) = e;
	s->newest = e;
}

static void echo_free(struct echo *e)
{
	struct icmp_state *s = e->s;
	struct echo **at = find(s, e->port, &e->key);

	*at = e->next;
	lru_unlink(s, e);
	s->n--;
	e->port->n_echo--;
	if (e->slot >= 0)
		s->slots[e->slot] = NULL;
	loop_source_free(e->source);
	if (e->fd >= 0)
		share_give(e->port);
	close_fd(&e->fd);
	free(e);
}

static void on_timer(void *data)
{
	struct icmp_state *s = data;
	uint64_t now = time_mono_ns();

	while (s->oldest && now - s->oldest->used_ns >= IDLE_NS)
		echo_free(s->oldest);
	loop_set_timer(s->timer, s->oldest ? s->oldest->used_ns + IDLE_NS - now : UINT64_MAX);
}

/* Makes room for one more flow of p, at the cost of p, or else of the box that has most. */
static void make_room(struct icmp_state *s, const struct port *p)
{
	if (p->n_echo < ENGINE_ECHO_PER_PORT && s->n < ECHO_MAX)
		return;
	for (unsigned i = 0, most = 0; s->n == ECHO_MAX && i < NETD_PORTS_MAX; i++) {
		const struct port *other = s->g->ports[i];
		if (other && other->n_echo > most) {
			most = other->n_echo;
			p = other;
		}
	}
	struct echo *e = s->oldest;
	while (e && e->port != p)
		e = e->newer;
	if (e)
		echo_free(e);
}

/* ---- towards the box ---- */

/*
 * Makes an ICMP message that lies HEADROOM or more behind the start of the buffer an answer to the box, and sends it. Its
 * checksum is made anew, as IPv6's has the addresses in it.
 */
static void reply(struct echo *e, uint8_t *icmp, size_t len)
{
	bool is4 = net_addr_is4(&e->key.dst);
	struct port *p = e->port;
	const struct pkt_out o = {.eth_dst = p->a.mac,
		.eth_src = p->g->mac,
		.src = &e->key.dst,
		.dst = &e->key.src,
		.proto = is4 ? IPPROTO_ICMP : IPPROTO_ICMPV6};
	const uint16_t id = htobe16(e->key.sport);
	size_t head = ETH_HDR_LEN + (is4 ? IP4_LEN : IP6_LEN);

	if (len > IP_LEN_MAX - (is4 ? IP4_LEN : 0U))
		return;
	icmp[0] = is4 ? ICMP_ECHOREPLY : ICMP6_ECHO_REPLY;
	icmp[1] = icmp[2] = icmp[3] = 0;
	memcpy(icmp + 4, &id, sizeof(id));
	uint32_t sum = is4 ? 0 : pkt_pseudo_sum(o.src, o.dst, o.proto, len);
	uint16_t v = inet_sum_finish(inet_sum(sum, icmp, len));
	memcpy(icmp + 2, &v, sizeof(v));
	pkt_put_headers(icmp - head, &o, len);
	frag_output(p, NULL, &(struct vnet_hdr){0}, icmp - head, head + len);
}

/* The flow of a shared socket that has this ICMP message's identifier, and leads to host; NULL. */
static struct echo *raw_flow(const struct raw *w, const uint8_t *icmp, const struct net_addr *host)
{
	uint16_t slot = (uint16_t)((icmp[4] << 8 | icmp[5]) - w->s->first_id);
	struct echo *e = slot < ECHO_MAX ? w->s->slots[slot] : NULL;

	return e && net_addr_equal(&e->host, host) ? e : NULL;
}

static bool take_reply(struct echo *e)
{
	uint8_t *icmp = e->s->buf + HEADROOM;
	ssize_t n = recv(e->fd, icmp, IP_LEN_MAX, MSG_DONTWAIT);

	if (n < 0)
		return errno == EINTR;
	if (n >= ICMP_LEN)
		reply(e, icmp, (size_t)n);
	return true;
}

/* Raw sockets get everybody's answers; IPv4's with the IP header, and before the kernel has looked at the sum. */
static bool take_raw_reply(struct raw *w)
{
	uint8_t *icmp = w->s->buf + HEADROOM;
	struct sockaddr_storage ss = {0};
	socklen_t ss_len = sizeof(ss);
	struct net_addr host;
	uint16_t port;
	ssize_t n = recvfrom(w->fd, icmp, IP_LEN_MAX, MSG_DONTWAIT, (struct sockaddr *)&ss, &ss_len);
	size_t len = n < 0 ? 0 : (size_t)n, ihl = w->is4 && len ? (icmp[0] & 15) * 4U : 0;

	if (n < 0)
		return errno == EINTR;
	if (len < ihl + ICMP_LEN || !net_addr_from_sockaddr(&ss, &host, &port))
		return true;
	icmp += ihl;
	len -= ihl;
	if (icmp[0] != (w->is4 ? ICMP_ECHOREPLY : ICMP6_ECHO_REPLY) ||
		(w->is4 && inet_sum_finish(inet_sum(0, icmp, len)) != 0))
		return true;
	struct echo *e = raw_flow(w, icmp, &host);
	if (e)
		reply(e, icmp, len);
	return true;
}

/* Of the socket's error queue (ip(7)): what happened, and who says so. */
struct queued_error {
	struct sock_extended_err ee;
	struct sockaddr_in6 offender; /* or sockaddr_in */
};

/* What is said of a request's size, the host's kernel acts on itself. */
static bool is_for_the_box(const struct sock_extended_err *ee, bool is4)
{
	if (!is4)
		return ee->ee_origin == SO_EE_ORIGIN_ICMP6 &&
		       (ee->ee_type == ICMP6_DST_UNREACH || ee->ee_type == ICMP6_TIME_EXCEEDED);
	return ee->ee_origin == SO_EE_ORIGIN_ICMP &&
	       (ee->ee_type == ICMP_TIME_EXCEEDED ||
		       (ee->ee_type == ICMP_DEST_UNREACH && ee->ee_code != ICMP_FRAG_NEEDED));
}

/* Tells the box what a router or the destination said about a request; data begins with the request's ICMP header. */
static void pass_error(struct echo *e, const struct queued_error *q, const uint8_t *data)
{
	bool is4 = net_addr_is4(&e->key.dst);
	const struct pkt_out o = {.eth_dst = e->s->g->mac,
		.eth_src = e->port->a.mac,
		.src = &e->key.src,
		.dst = &e->key.dst,
		.proto = is4 ? IPPROTO_ICMP : IPPROTO_ICMPV6,
		.ttl = 1};
	const uint16_t id = htobe16(e->key.sport);
	uint8_t frame[HEADROOM + ICMP_LEN] = {0};
	struct sockaddr_storage ss = {0};
	struct net_addr offender;
	uint16_t port;

	memcpy(&ss, &q->offender, sizeof(q->offender));
	if (!is_for_the_box(&q->ee, is4) || !net_addr_from_sockaddr(&ss, &offender, &port))
		return;
	offender = engine_seen_as(e->s->g, &offender, is4);

	/* The request as the box sent it, as far as it is sure to be there (RFC 792). */
	size_t head = pkt_put_headers(frame, &o, ICMP_LEN);
	uint8_t *icmp = frame + head;
	icmp[0] = is4 ? ICMP_ECHO : ICMP6_ECHO_REQUEST;
	memcpy(icmp + 4, &id, sizeof(id));
	memcpy(icmp + 6, data + 6, 2);
	icmp_tell(e->port, &(struct icmp_message){.type = q->ee.ee_type,
				   .code = q->ee.ee_code,
				   .src = &offender,
				   .dst = &e->key.src,
				   .quote = frame + ETH_HDR_LEN,
				   .quote_len = head - ETH_HDR_LEN + ICMP_LEN});
}

/* Takes one from the queue of a flow's socket, or of a shared one: the other is NULL. False: there is none. */
static bool take_error(int fd, struct echo *e, const struct raw *w)
{
	union {
		struct cmsghdr align;
		uint8_t b[CMSG_SPACE(sizeof(struct queued_error)) + 64];
	} control;
	struct sockaddr_storage ss = {0};
	uint8_t data[64];
	struct iovec iov = {data, sizeof(data)};
	struct msghdr m = {.msg_name = &ss,
		.msg_namelen = sizeof(ss),
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control)};
	struct net_addr host;
	uint16_t port;

	ssize_t n = recvmsg(fd, &m, MSG_ERRQUEUE | MSG_DONTWAIT);
	if (n < 0)
		return false;
	if (n < ICMP_LEN)
		return true;
	if (w)
		e = net_addr_from_sockaddr(&ss, &host, &port) ? raw_flow(w, data, &host) : NULL;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); e && c; c = CMSG_NXTHDR(&m, c)) {
		struct queued_error q = {0};
		if (!(c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_RECVERR) &&
			!(c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_RECVERR))
			continue;
		memcpy(&q, CMSG_DATA(c), MIN_OF(c->cmsg_len - CMSG_LEN(0), sizeof(q)));
		pass_error(e, &q, data);
	}
	return true;
}

static void take_errors(int fd, struct echo *e, const struct raw *w)
{
	socklen_t len = sizeof(int);
	int r;

	for (unsigned i = 0; i < BUDGET && take_error(fd, e, w); i++)
		;
	/* One that has no message would otherwise be reported for ever. */
	getsockopt(fd, SOL_SOCKET, SO_ERROR, &r, &len);
}

static void on_socket(void *data, int fd, uint32_t events)
{
	struct echo *e = data;

	if (events & EPOLLERR)
		take_errors(fd, e, NULL);
	for (unsigned i = 0; i < BUDGET && take_reply(e); i++)
		;
}

static void on_raw(void *data, int fd, uint32_t events)
{
	struct raw *w = data;

	if (events & EPOLLERR)
		take_errors(fd, NULL, w);
	for (unsigned i = 0; i < BUDGET && take_raw_reply(w); i++)
		;
}

/* ---- towards the outside ---- */

static int receive_errors(int fd, bool is4)
{
	const int on = 1;
	int r = is4 ? setsockopt(fd, IPPROTO_IP, IP_RECVERR, &on, sizeof(on))
		    : setsockopt(fd, IPPROTO_IPV6, IPV6_RECVERR, &on, sizeof(on));

	return r < 0 ? -errno : 0;
}

/* A socket of the flow's own. 0 or -errno. */
static int echo_socket(struct echo *e)
{
	bool is4 = net_addr_is4(&e->host);
	struct sockaddr_storage ss;
	socklen_t len = net_addr_sockaddr(&e->host, 0, &ss);

	if (!share_room(e->port))
		return -EMFILE;
	e->fd = socket(
		ss.ss_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, is4 ? IPPROTO_ICMP : IPPROTO_ICMPV6);
	if (e->fd < 0)
		return -errno;
	int r = receive_errors(e->fd, is4);
	if (r < 0)
		return r;
	if (connect(e->fd, (struct sockaddr *)&ss, len) < 0)
		return -errno;
	r = loop_add_io(e->s->g->loop, e->fd, EPOLLIN, on_socket, e, &e->source);
	if (r == 0)
		share_take(e->port);
	return r;
}

/* A place among those that share a socket: there are as many as flows. */
static void echo_share(struct echo *e)
{
	struct icmp_state *s = e->s;

	while (s->slots[s->next_slot])
		s->next_slot = (s->next_slot + 1) % ECHO_MAX;
	e->slot = (int)s->next_slot;
	s->slots[s->next_slot] = e;
	s->next_slot =
		(s->next_slot + 1) % ECHO_MAX; /* not again so soon: an answer may still be on its way */
}

/* Begins a flow, or tells the box why not. host NULL: the gateway's. */
static struct echo *echo_new(
	struct port *p, const struct pkt *k, const struct flow_key *key, const struct net_addr *host)
{
	struct icmp_state *s = p->g->icmp;

	const bool may = !host || share_begin(p);
	if (may)
		make_room(s, p);
	struct echo *e = may ? calloc(1, sizeof(*e)) : NULL;
	if (!e) {
		p->stats.dropped++;
		return NULL;
	}
	*e = (struct echo){.s = s, .port = p, .key = *key, .fd = -1, .slot = -1};
	int r = 0;
	if (host) {
		e->host = *host;
		if (s->raw[net_addr_is4(host)].fd >= 0)
			echo_share(e);
		else
			r = echo_socket(e);
	}
	if (r < 0) {
		close_fd(&e->fd);
		free(e);
		fail(p, k, r);
		return NULL;
	}
	*find(s, p, key) = e;
	lru_append(s, e);
	p->n_echo++;
	if (!s->n++)
		loop_set_timer(s->timer, IDLE_NS);
	return e;
}

/* Through a shared socket: with our identifier, and IPv4 with a checksum that is right for it (RFC 1624). */
static ssize_t send_raw(const struct echo *e, int fd, const struct pkt *k)
{
	const uint16_t ours = htobe16((uint16_t)(e->s->first_id + e->slot));
	struct sockaddr_storage ss;
	uint8_t head[ICMP_LEN];
	uint16_t sum, id;

	memcpy(head, k->frame + k->l4, sizeof(head));
	memcpy(&sum, head + 2, sizeof(sum));
	memcpy(&id, head + 4, sizeof(id));
	sum = inet_sum_finish((uint32_t)(uint16_t)~sum + (uint16_t)~id + ours);
	memcpy(head + 2, &sum, sizeof(sum));
	memcpy(head + 4, &ours, sizeof(ours));
	struct iovec iov[] = {{head, sizeof(head)}, {(void *)(k->frame + k->payload), k->payload_len}};
	const struct msghdr m = {.msg_name = &ss,
		.msg_namelen = net_addr_sockaddr(&e->host, 0, &ss),
		.msg_iov = iov,
		.msg_iovlen = 2};
	return sendmsg(fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static ssize_t send_request(const struct echo *e, int fd, const struct pkt *k)
{
	if (e->slot >= 0)
		return send_raw(e, fd, k);
	/* The kernel sets the identifier and the checksum. */
	return send(fd, k->frame + k->l4, k->l4_len, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void forward(struct echo *e, const struct pkt *k)
{
	struct raw *w = e->slot >= 0 ? &e->s->raw[k->is4] : NULL;
	uint8_t *now = w ? &w->ttl : &e->ttl;
	const int ttl = k->ttl - 1, fd = w ? w->fd : e->fd;

	if (*now != ttl) {
		if (k->is4)
			setsockopt(fd, IPPROTO_IP, IP_TTL, &ttl, sizeof(ttl));
		else
			setsockopt(fd, IPPROTO_IPV6, IPV6_UNICAST_HOPS, &ttl, sizeof(ttl));
		*now = (uint8_t)ttl;
	}
	if (send_request(e, fd, k) >= 0)
		return;
	/* It may speak of an earlier request: then this one has not been tried. */
	take_errors(fd, e, w);
	if (send_request(e, fd, k) < 0)
		fail(e->port, k, -errno);
}

static bool is_good_request(const struct pkt *k)
{
	uint32_t sum = k->is4 ? 0 : pkt_pseudo_sum(&k->src, &k->dst, IPPROTO_ICMPV6, k->l4_len);

	return k->icmp_type == (k->is4 ? ICMP_ECHO : ICMP6_ECHO_REQUEST) && k->icmp_code == 0 &&
	       inet_sum_finish(inet_sum(sum, k->frame + k->l4, k->l4_len)) == 0;
}

void icmp_input(struct port *p, const struct pkt *k)
{
	bool gateway = engine_is_gateway(p->g, &k->dst);
	struct icmp_state *s = p->g->icmp;
	struct net_addr host;
	struct flow_key key;

	if (!is_good_request(k)) {
		p->stats.dropped++;
		return;
	}
	if (!gateway && k->ttl <= 1) {
		icmp_hop_limit(p, k);
		return;
	}
	flow_key_of(&key, k);
	struct echo *e = *find(s, p, &key);
	if (!e) {
		int r = gateway ? 0 : engine_outside(p->g, &k->dst, &host);
		if (!r && !policy_allows(p->g, p, NULL, &key, false))
			r = -EACCES;
		if (r < 0) {
			fail(p, k, r);
			return;
		}
		e = echo_new(p, k, &key, gateway ? NULL : &host);
		if (!e)
			return;
	} else {
		lru_unlink(s, e);
		lru_append(s, e);
	}
	if (gateway) {
		memcpy(s->buf + HEADROOM, k->frame + k->l4, k->l4_len);
		reply(e, s->buf + HEADROOM, k->l4_len);
	} else {
		forward(e, k);
	}
}

void icmp_recheck(struct engine *g)
{
	struct echo *next;

	for (struct echo *e = g->icmp->oldest; e; e = next) {
		next = e->newer;
		if (!policy_allows(g, e->port, NULL, &e->key, true))
			echo_free(e);
	}
}

void icmp_port_gone(struct port *p)
{
	struct icmp_state *s = p->g->icmp;
	struct echo *next;

	for (struct echo *e = s->oldest; e && p->n_echo; e = next) {
		next = e->newer;
		if (e->port == p)
			echo_free(e);
	}
	s->limits[p->slot] = (struct icmp_limit){0};
}

/* ---- shared sockets ---- */

/* Only answers: a raw socket gets a copy of every packet of its protocol. 0 or -errno. */
static int filter_raw(int fd, bool is4)
{
	const struct icmp_filter four = {.data = ~(1U << ICMP_ECHOREPLY)};
	struct icmp6_filter six;

	ICMP6_FILTER_SETBLOCKALL(&six);
	ICMP6_FILTER_SETPASS(ICMP6_ECHO_REPLY, &six);
	int r = is4 ? setsockopt(fd, SOL_RAW, ICMP_FILTER, &four, sizeof(four))
		    : setsockopt(fd, IPPROTO_ICMPV6, ICMP6_FILTER, &six, sizeof(six));
	return r < 0 ? -errno : 0;
}

/* Opens one if it is needed and permitted; that it is not is found out by the flow that would need it. 0 or -errno. */
static int raw_open(struct icmp_state *s, bool is4)
{
	const int family = is4 ? AF_INET : AF_INET6, proto = is4 ? IPPROTO_ICMP : IPPROTO_ICMPV6;
	struct raw *w = &s->raw[is4];

	*w = (struct raw){.s = s, .fd = -1, .is4 = is4};
	CLEANUP_CLOSE int own = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, proto);
	if (own >= 0 || (errno != EACCES && errno != EPERM))
		return 0;
	w->fd = socket(family, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, proto);
	if (w->fd < 0)
		return 0;
	int r = filter_raw(w->fd, is4);
	if (r == 0)
		r = receive_errors(w->fd, is4);
	return r < 0 ? r : loop_add_io(s->g->loop, w->fd, EPOLLIN, on_raw, w, &w->source);
}

int icmp_new(struct engine *g)
{
	struct icmp_state *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->g = g;
	s->raw[0].fd = s->raw[1].fd = -1;
	io_random(&s->first_id, sizeof(s->first_id));
	g->icmp = s;
	int r = loop_add_timer(g->loop, UINT64_MAX, on_timer, s, &s->timer);
	if (r == 0)
		r = raw_open(s, true);
	if (r == 0)
		r = raw_open(s, false);
	if (r < 0)
		icmp_free(g);
	return r;
}

void icmp_free(struct engine *g)
{
	struct icmp_state *s = TAKE_PTR(g->icmp);

	if (!s)
		return;
	while (s->oldest)
		echo_free(s->oldest);
	for (unsigned i = 0; i < ARRAY_LEN(s->raw); i++) {
		loop_source_free(s->raw[i].source);
		close_fd(&s->raw[i].fd);
	}
	loop_source_free(s->timer);
	free(s);
}
