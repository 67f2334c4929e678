/* SPDX-License-Identifier: MIT */
/*
 * ARP (RFC 826, RFC 5227) and neighbour discovery (RFC 4861).
 *
 * THEORY OF OPERATION
 *
 * Who has which address is known from the attachments, so nothing is learned and nothing is passed on: we answer for the
 * gateway with our own Ethernet address, and for a box with that box's. What a box says of itself must be true; what it says
 * of others, or as a router, is dropped and counted as spoofed. Nobody answers a box for its own address: it would take that
 * for a conflict. Router solicitations go without an answer, as boxes are configured by their PID 1. That a frame's own
 * source address is the box's, the engine has seen to.
 *
 * A box's link-local address is its own to choose and leads nowhere, so any may ask; none is answered for.
 */
#include <string.h>

#include "engine.h"

enum { ARP_LEN = 28, ARP_REQUEST = 1, ARP_REPLY = 2 };
enum { ARP_OP_AT = 6, ARP_SHA_AT = 8, ARP_SPA_AT = 14, ARP_THA_AT = 18, ARP_TPA_AT = 24 };
enum { ND_RS = 133, ND_RA, ND_NS, ND_NA, ND_REDIRECT };
enum { ND_LEN = 24, ND_TARGET_AT = 8, ND_WITH_OPTION = ND_LEN + 8, ND_MESSAGE_MAX = 1500 };
enum { OPT_SOURCE = 1, OPT_TARGET = 2 };
enum { NA_ROUTER = 0x80, NA_SOLICITED = 0x40, NA_OVERRIDE = 0x20 };

/* The Ethernet address behind an address that p asks for; NULL: nobody's, or its own. */
static const uint8_t *mac_of(const struct port *p, const struct net_addr *a)
{
	if (engine_is_gateway(p->g, a))
		return p->g->mac;
	const struct port *other = engine_port_of(p->g, a);
	return other && other != p ? other->a.mac : NULL;
}

void neigh_arp(struct port *p, const struct pkt *k)
{
	static const uint8_t head[6] = {0, 1, 8, 0, 6, 4}; /* Ethernet, IPv4, and their addresses' lengths */
	const uint8_t *arp = k->frame + ETH_HDR_LEN;

	if (k->len < ETH_HDR_LEN + ARP_LEN || memcmp(arp, head, sizeof(head)) != 0 || arp[ARP_OP_AT] != 0 ||
		(arp[ARP_OP_AT + 1] != ARP_REQUEST && arp[ARP_OP_AT + 1] != ARP_REPLY)) {
		p->stats.dropped++;
		return;
	}
	struct net_addr sender = net_addr_from4(arp + ARP_SPA_AT), target = net_addr_from4(arp + ARP_TPA_AT);
	bool probe = !memcmp(arp + ARP_SPA_AT, (const uint8_t[4]){0}, 4);
	if (memcmp(arp + ARP_SHA_AT, p->a.mac, 6) != 0 || (!probe && !net_addr_equal(&sender, &p->a.ip4))) {
		p->g->spoofed++;
		return;
	}
	const uint8_t *mac = mac_of(p, &target);
	if (arp[ARP_OP_AT + 1] != ARP_REQUEST || !mac)
		return;

	uint8_t out[ETH_HDR_LEN + ARP_LEN];
	memcpy(out, p->a.mac, 6);
	memcpy(out + 6, mac, 6);
	memcpy(out + 12, k->frame + 12, 2);
	uint8_t *a = out + ETH_HDR_LEN;
	memcpy(a, head, sizeof(head));
	a[ARP_OP_AT] = 0;
	a[ARP_OP_AT + 1] = ARP_REPLY;
	memcpy(a + ARP_SHA_AT, mac, 6);
	memcpy(a + ARP_SPA_AT, arp + ARP_TPA_AT, 4);
	memcpy(a + ARP_THA_AT, p->a.mac, 6);
	memcpy(a + ARP_TPA_AT, arp + ARP_SPA_AT, 4);
	port_send(p, NULL, &(struct vnet_hdr){0}, &(struct iovec){out, sizeof(out)}, 1);
}

/* ---- neighbour discovery ---- */

/*
 * Section 7.1.1, as for all messages: from a neighbour, whole, options in order. False: it is to be dropped silently.
 * ret_lladdr: the option of this type, NULL when there is none.
 */
static bool nd_valid(const struct pkt *k, size_t fixed, uint8_t type, const uint8_t **ret_lladdr)
{
	const uint8_t *m = k->frame + k->l4;

	*ret_lladdr = NULL;
	if (k->ttl != 255 || k->icmp_code != 0 || k->l4_len < fixed || k->l4_len > ND_MESSAGE_MAX)
		return false;
	uint32_t sum = pkt_pseudo_sum(&k->src, &k->dst, IPPROTO_ICMPV6, k->l4_len);
	if (inet_sum_finish(inet_sum(sum, m, k->l4_len)) != 0)
		return false;
	for (size_t at = fixed; at < k->l4_len;) {
		size_t left = k->l4_len - at, len = left < 2 ? 0 : m[at + 1] * 8U;
		if (!len || len > left)
			return false;
		if (m[at] == type && len == 8)
			*ret_lladdr = m + at + 2;
		at += len;
	}
	return true;
}

static bool is_link_local(const struct net_addr *a)
{
	return a->b[0] == 0xfe && (a->b[1] & 0xc0) == 0x80;
}

/* The solicited-node multicast address (RFC 4291 section 2.7.1). */
static struct net_addr solicited_node(const struct net_addr *a)
{
	struct net_addr s = {.b = {0xff, 2, [11] = 1, 0xff}};

	memcpy(s.b + 13, a->b + 13, 3);
	return s;
}

/* Section 7.2.4. */
static void advertise(
	struct port *p, const struct net_addr *to, const struct net_addr *target, const uint8_t *mac)
{
	static const struct net_addr all_nodes = {.b = {0xff, 2, [15] = 1}};
	static const uint8_t all_nodes_mac[6] = {0x33, 0x33, 0, 0, 0, 1};
	bool to_all = net_addr_is_zero(to);
	uint8_t out[PKT_HEADERS_MAX];
	const struct pkt_out o = {.eth_dst = to_all ? all_nodes_mac : p->a.mac,
		.eth_src = mac,
		.src = target,
		.dst = to_all ? &all_nodes : to,
		.proto = IPPROTO_ICMPV6,
		.ttl = 255};

	size_t len = pkt_put_headers(out, &o, ND_WITH_OPTION);
	uint8_t *m = out + len;
	memset(m, 0, ND_WITH_OPTION);
	m[0] = ND_NA;
	m[4] = (uint8_t)(NA_OVERRIDE | (to_all ? 0 : NA_SOLICITED) | (mac == p->g->mac ? NA_ROUTER : 0));
	memcpy(m + ND_TARGET_AT, target->b, 16);
	m[ND_LEN] = OPT_TARGET;
	m[ND_LEN + 1] = 1;
	memcpy(m + ND_LEN + 2, mac, 6);
	uint32_t sum = pkt_pseudo_sum(o.src, o.dst, IPPROTO_ICMPV6, ND_WITH_OPTION);
	uint16_t v = inet_sum_finish(inet_sum(sum, m, ND_WITH_OPTION));
	memcpy(m + 2, &v, 2);
	port_send(p, NULL, &(struct vnet_hdr){0}, &(struct iovec){out, len + ND_WITH_OPTION}, 1);
}

static void solicitation(struct port *p, const struct pkt *k)
{
	struct net_addr target;
	const uint8_t *lladdr;

	if (!nd_valid(k, ND_LEN, OPT_SOURCE, &lladdr)) {
		p->stats.dropped++;
		return;
	}
	target = net_addr_from6(k->frame + k->l4 + ND_TARGET_AT);
	struct net_addr group = solicited_node(&target);
	bool anonymous = net_addr_is_zero(&k->src); /* duplicate address detection (RFC 4862 section 5.4.2) */
	/* An IPv4-mapped target would be found under its IPv4 address. */
	if (target.b[0] == 0xff || net_addr_is4(&target) ||
		(anonymous && (lladdr || !net_addr_equal(&k->dst, &group)))) {
		p->stats.dropped++;
		return;
	}
	if ((!anonymous && !net_addr_equal(&k->src, &p->a.ip6) && !is_link_local(&k->src)) ||
		(lladdr && memcmp(lladdr, p->a.mac, 6) != 0)) {
		p->g->spoofed++;
		return;
	}
	const uint8_t *mac = mac_of(p, &target);
	if (mac)
		advertise(p, &k->src, &target, mac);
}

/* Linux announces its own address when an interface comes up; nobody needs it. */
static void advertisement(struct port *p, const struct pkt *k)
{
	const uint8_t *lladdr;

	if (!nd_valid(k, ND_LEN, OPT_TARGET, &lladdr)) {
		p->stats.dropped++;
		return;
	}
	struct net_addr target = net_addr_from6(k->frame + k->l4 + ND_TARGET_AT);
	if ((!net_addr_equal(&target, &p->a.ip6) && !is_link_local(&target)) ||
		(lladdr && memcmp(lladdr, p->a.mac, 6) != 0))
		p->g->spoofed++;
}

bool neigh_nd(struct port *p, const struct pkt *k)
{
	if (!k->is6 || k->fragment || k->proto != IPPROTO_ICMPV6)
		return false;
	switch (k->icmp_type) {
	case ND_NS:
		solicitation(p, k);
		return true;
	case ND_NA:
		advertisement(p, k);
		return true;
	case ND_RA:
	case ND_REDIRECT:
		p->g->spoofed++;
		return true;
	default:
		return k->icmp_type == ND_RS;
	}
}
