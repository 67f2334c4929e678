/* SPDX-License-Identifier: MIT */
/*
 * Where a frame of a box goes (engine.h), and whose address is whose.
 *
 * Addresses of boxes are found in a hash table that is made anew whenever a box comes or goes, which is rare; so nothing
 * is ever taken out of it.
 */
#include "engine.h"

#include <endian.h>
#include <string.h>
#include <sys/socket.h>

#include "base/io.h"
#include "base/log.h"
#include "hash.h"

enum {
	MAP_SIZE = 8 * NETD_PORTS_MAX
};				    /* a power of two: at most a quarter full, as a box has two addresses */
enum { KNOWN_MAX = 256 };	    /* a power of two */
#define HOST_FRESH_NS 1000000000ull /* the host's own address is asked for again, as it may change */

struct engine_state {
	struct port *map[MAP_SIZE];
	struct {
		struct net_addr addr; /* zero: the host has no way out of this family */
		uint64_t asked_ns;
	} host[2]; /* IPv4, IPv6 */
	struct known {
		struct net_addr addr;
		uint64_t asked_ns; /* 0: never */
		bool is_ours;
	} known[KNOWN_MAX]; /* whether the host has them; each in one place, where the last one stays */
};

/* ---- addresses ---- */

/*
 * Not keyed: what is in the table the host has chosen, and a box that asks for what is not there finds an empty place soon,
 * whatever it asks for.
 */
static unsigned map_slot(const struct net_addr *a)
{
	uint64_t low;

	memcpy(&low, a->b + 8, sizeof(low));
	return (unsigned)(be64toh(low) * 0x9e3779b97f4a7c15u >> 32) & (MAP_SIZE - 1);
}

static void map_add(struct engine_state *s, const struct net_addr *a, struct port *p)
{
	unsigned i = map_slot(a);

	if (net_addr_is_zero(a))
		return;
	while (s->map[i])
		i = (i + 1) & (MAP_SIZE - 1);
	s->map[i] = p;
}

void engine_ports_changed(struct engine *g)
{
	memset(g->state->map, 0, sizeof(g->state->map));
	for (unsigned i = 0; i < NETD_PORTS_MAX; i++) {
		if (g->ports[i]) {
			map_add(g->state, &g->ports[i]->a.ip4, g->ports[i]);
			map_add(g->state, &g->ports[i]->a.ip6, g->ports[i]);
		}
	}
}

struct port *engine_port_of(const struct engine *g, const struct net_addr *a)
{
	const struct engine_state *s = g->state;

	if (net_addr_is_zero(a))
		return NULL;
	for (unsigned i = map_slot(a); s->map[i]; i = (i + 1) & (MAP_SIZE - 1)) {
		if (net_addr_equal(&s->map[i]->a.ip4, a) || net_addr_equal(&s->map[i]->a.ip6, a))
			return s->map[i];
	}
	return NULL;
}

bool engine_is_gateway(const struct engine *g, const struct net_addr *a)
{
	return !net_addr_is_zero(a) && net_addr_equal(a, engine_gateway(g, net_addr_is4(a)));
}

const struct net_addr *engine_gateway(const struct engine *g, bool is4)
{
	return is4 ? &g->config.gateway4 : &g->config.gateway6;
}

static bool in_subnet(const struct engine *g, const struct net_addr *a)
{
	const struct net_prefix *p = net_addr_is4(a) ? &g->config.subnet4 : &g->config.subnet6;

	return p->bits && net_prefix_has(p, a);
}

/* 1, 0, or -errno: there is no socket to try it with. */
static int can_bind(const struct net_addr *a)
{
	struct sockaddr_storage ss;
	socklen_t len = net_addr_sockaddr(a, 0, &ss);
	CLEANUP_CLOSE int fd = socket(ss.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	return fd < 0 ? -errno : bind(fd, (struct sockaddr *)&ss, len) == 0;
}

/* Whether a socket connected to the address has it itself: to its own addresses a host speaks from the same. */
static bool speaks_to_itself(const struct net_addr *a)
{
	struct sockaddr_storage ss;
	struct net_addr own;
	uint16_t port;
	socklen_t len = net_addr_sockaddr(a, 9, &ss);
	CLEANUP_CLOSE int fd = socket(ss.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return true; /* what cannot be asked about is not opened */
	if (connect(fd, (struct sockaddr *)&ss, len) < 0)
		return false;
	len = sizeof(ss);
	return getsockname(fd, (struct sockaddr *)&ss, &len) == 0 &&
	       net_addr_from_sockaddr(&ss, &own, &port) && net_addr_equal(&own, a);
}

/*
 * To a second address of an interface the kernel speaks from the first one; but it binds to any of its own. Where it binds
 * to foreign ones too (ip_nonlocal_bind), as to one of documentation, that says nothing.
 */
static bool ask_is_ours(const struct net_addr *a)
{
	struct net_addr foreign;

	if (net_addr_is_martian(a))
		return false; /* nothing is sent there in the first place */
	if (speaks_to_itself(a))
		return true;
	return can_bind(a) != 0 &&
	       net_addr_parse(net_addr_is4(a) ? "192.0.2.1" : "2001:db8::1", &foreign) == 0 &&
	       can_bind(&foreign) <= 0;
}

bool engine_is_this_host(const struct engine *g, const struct net_addr *a)
{
	const struct flow_key key = {.dst = *a};
	struct known *k = &g->state->known[flow_hash(&key) & (KNOWN_MAX - 1)];
	uint64_t now = time_mono_ns();

	if (k->asked_ns && now - k->asked_ns <= HOST_FRESH_NS && net_addr_equal(&k->addr, a))
		return k->is_ours;
	*k = (struct known){.addr = *a, .asked_ns = now, .is_ours = ask_is_ours(a)};
	return k->is_ours;
}

/* With which address this host speaks to the outside: the kernel's choice for one of documentation (RFC 5737, RFC 3849). */
static struct net_addr ask_host_address(bool is4)
{
	struct net_addr to, got = {0};
	struct sockaddr_storage ss;
	uint16_t port;

	if (net_addr_parse(is4 ? "192.0.2.1" : "2001:db8::1", &to) < 0)
		return got;
	socklen_t len = net_addr_sockaddr(&to, 9, &ss);
	CLEANUP_CLOSE int fd = socket(ss.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&ss, len) < 0)
		return got;
	len = sizeof(ss);
	if (getsockname(fd, (struct sockaddr *)&ss, &len) < 0 || !net_addr_from_sockaddr(&ss, &got, &port) ||
		net_addr_is_martian(&got))
		return (struct net_addr){0};
	return got;
}

static int host_itself(const struct engine *g, bool is4, struct net_addr *ret)
{
	struct engine_state *s = g->state;

	if (g->config.host_loopback)
		return net_addr_parse(is4 ? "127.0.0.1" : "::1", ret);
	uint64_t now = time_mono_ns();
	if (!s->host[!is4].asked_ns || now - s->host[!is4].asked_ns > HOST_FRESH_NS) {
		s->host[!is4].addr = ask_host_address(is4);
		s->host[!is4].asked_ns = now;
	}
	if (net_addr_is_zero(&s->host[!is4].addr))
		return -EHOSTUNREACH;
	*ret = s->host[!is4].addr;
	return 0;
}

int engine_outside(const struct engine *g, const struct net_addr *dst, struct net_addr *ret)
{
	if (engine_is_gateway(g, dst))
		return g->config.internal ? -ENETUNREACH : host_itself(g, net_addr_is4(dst), ret);
	if (net_addr_is_martian(dst))
		return -EACCES;
	/*
	 * fe80::/10 means something only together with an interface. In 169.254/16 a cloud's host finds its own keys: where
	 * there are rules, policy_allows wants one that says so.
	 */
	if (net_addr_is_link_local(dst) && (!net_addr_is4(dst) || g->config.isolation == NET_ISOLATION_NONE))
		return -EACCES;
	if (in_subnet(g, dst))
		return -EHOSTUNREACH;
	if (g->config.internal)
		return -ENETUNREACH;
	*ret = *dst;
	return 0;
}

struct net_addr engine_seen_as(const struct engine *g, const struct net_addr *client, bool is4)
{
	if (net_addr_is4(client) != is4 || net_addr_is_martian(client) || in_subnet(g, client) ||
		net_addr_is_link_local(client))
		return *engine_gateway(g, is4);
	return *client;
}

/* ---- frames ---- */

/* ICMPv6 types of neighbour discovery (RFC 4861 section 4): router solicitation to redirect. */
static bool is_nd(const struct pkt *k)
{
	return k->is6 && k->proto == IPPROTO_ICMPV6 && !k->fragment && k->icmp_type >= 133 &&
	       k->icmp_type <= 137;
}

/*
 * A box has one address of each family. Neighbour discovery is also done from a link-local address, which nobody else gets to
 * see (neigh.c ends it here), and from none at all. Multicast group membership (RFC 3810), DHCP and the like come from
 * such addresses too: nothing that is meant to deceive, and for nobody here.
 */
enum source { SOURCE_OWN, SOURCE_NOBODY, SOURCE_FOREIGN };
static enum source judge_source(const struct port *p, const struct pkt *k)
{
	const struct net_addr *own = k->is4 ? &p->a.ip4 : &p->a.ip6;
	static const uint8_t zero4[4];

	if (!net_addr_is_zero(own) && net_addr_equal(&k->src, own))
		return SOURCE_OWN;
	if (k->is6 && (net_addr_is_zero(&k->src) || net_addr_is_link_local(&k->src)))
		return is_nd(k) ? SOURCE_OWN : SOURCE_NOBODY;
	if (k->is4 && memcmp(k->src.b + 12, zero4, 4) == 0)
		return SOURCE_NOBODY;
	return SOURCE_FOREIGN;
}

static bool is_multicast(const struct net_addr *a)
{
	static const uint8_t ones[4] = {255, 255, 255, 255};

	if (!net_addr_is4(a))
		return a->b[0] == 0xff;
	return (a->b[12] & 0xf0) == 0xe0 || memcmp(a->b + 12, ones, 4) == 0;
}

/* To the gateway, the host behind it, or the outside. */
static void to_outside(struct port *p, const struct pkt *k)
{
	switch (k->proto) {
	case IPPROTO_TCP:
		tcp_input(p, k);
		break;
	case IPPROTO_UDP:
		if (k->dport == 53 && engine_is_gateway(p->g, &k->dst))
			dns_input(p, k);
		else
			udp_input(p, k);
		break;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		icmp_input(p, k);
		break;
	default: /* there is no socket to continue it with */
		p->stats.dropped++;
		icmp_unreachable(p, k, ICMP_WHY_HOST);
	}
}

/* An IP packet with a source that is the box's. */
static void ip_input(struct port *p, const struct pkt *k)
{
	/* A frame to all with a packet to one (RFC 1122 section 3.3.6), and what is for all of a link: nobody listens. */
	if (is_multicast(&k->dst) || (k->eth_dst[0] & 1)) {
		p->stats.dropped++;
		return;
	}
	struct port *to = engine_port_of(p->g, &k->dst);
	if (to == p)
		p->stats.dropped++;
	else if (to)
		switch_forward(p, to, k);
	else
		to_outside(p, k);
}

static void fragment_input(struct port *p, const struct pkt *k)
{
	static const struct vnet_hdr plain;
	const uint8_t *frame;
	struct pkt whole;

	if (is_multicast(&k->dst)) {
		p->stats.dropped++;
		return;
	}
	size_t len = frag_input(p, k, &frame);
	if (!len)
		return;
	if (pkt_parse(&whole, &plain, frame, len) < 0 || whole.fragment ||
		judge_source(p, &whole) != SOURCE_OWN || is_nd(&whole)) /* RFC 6980: never in fragments */
		p->stats.dropped++;
	else
		ip_input(p, &whole);
}

void engine_input(struct port *p, const struct vnet_hdr *h, const uint8_t *frame, size_t len)
{
	struct pkt k;

	p->stats.tx_frames++;
	p->stats.tx_bytes += len;
	if (pkt_parse(&k, h, frame, len) < 0) {
		p->stats.dropped++;
		return;
	}
	if (memcmp(k.eth_src, p->a.mac, sizeof(p->a.mac)) != 0) {
		p->g->spoofed++;
		p->stats.dropped++;
		return;
	}
	if (!k.is4 && !k.is6) {
		neigh_arp(p, &k);
		return;
	}
	enum source source = judge_source(p, &k);
	if (source != SOURCE_OWN) {
		p->g->spoofed += source == SOURCE_FOREIGN;
		p->stats.dropped++;
		return;
	}
	if (is_nd(&k) && neigh_nd(p, &k))
		return;
	if (k.fragment)
		fragment_input(p, &k);
	else
		ip_input(p, &k);
}

/* ---- the whole ---- */

/* In the order in which they come to be; they go in the opposite one. */
static const struct part {
	int (*new)(struct engine *g);
	void (*free)(struct engine *g);
} parts[] = {
	{policy_new, policy_free},
	{switch_new, switch_free},
	{frag_new, frag_free},
	{tcp_new, tcp_free},
	{udp_new, udp_free},
	{icmp_new, icmp_free},
	{dns_new, dns_free},
	{port_state_new, port_state_free},
};

/* The gateway's: the same in every process that serves this network, so that boxes need not learn it anew. */
static void make_mac(const struct netd_config *c, uint8_t ret[static 6])
{
	static const uint64_t key[2] = {0, 1};
	uint8_t id[64] = {0};

	memcpy(id, c->id, strnlen(c->id, sizeof(id)));
	uint64_t h = hash_words(key, id, sizeof(id) / 8);
	memcpy(ret, &h, 6);
	ret[0] = 0x0a; /* locally administered, to one (IEEE 802) */
}

int engine_new(struct loop *loop, struct netd_config *config, struct engine **ret, struct err *e)
{
	struct engine *g = calloc(1, sizeof(*g));

	if (!g)
		return err_oom(e);
	g->loop = loop;
	g->socket_budget = share_budget();
	g->state = calloc(1, sizeof(*g->state));
	int r = g->state ? net_policy_parse(config->isolation, config->policy, &g->policy, e) : err_oom(e);
	size_t n = 0;
	make_mac(config, g->mac);
	if (r == 0)
		g->config = *config;
	while (r == 0 && n < ARRAY_LEN(parts)) {
		r = parts[n].new(g);
		if (r < 0)
			err_sys(e, r, "start the network");
		else
			n++;
	}
	if (r < 0) {
		g->config = (struct netd_config){0}; /* stays the caller's */
		while (n > 0)
			parts[--n].free(g);
		net_policy_free(g->policy);
		free(g->state);
		free(g);
		return r;
	}
	*config = (struct netd_config){0};
	*ret = g;
	return 0;
}

void engine_free(struct engine *g)
{
	if (!g)
		return;
	for (size_t n = ARRAY_LEN(parts); n > 0; n--)
		parts[n - 1].free(g);
	net_policy_free(g->policy);
	netd_config_done(&g->config);
	free(g->state);
	free(g);
}

void engine_recheck(struct engine *g)
{
	switch_recheck(g);
	tcp_recheck(g);
	udp_recheck(g);
	icmp_recheck(g);
}

int engine_set_policy(struct engine *g, struct net_policy *p)
{
	struct net_policy *old = g->policy;

	g->policy = p;
	g->config.isolation = p->isolation;
	int r = policy_changed(g);
	net_policy_free(old);
	engine_recheck(g);
	return r;
}
