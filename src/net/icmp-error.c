/* SPDX-License-Identifier: MIT */
/*
 * What boxes are told about packets that go nowhere (RFC 792, RFC 1812 section 4.3, RFC 4443 section 3): limited to
 * TELL_PER_S a second and box, and never about errors (RFC 1122 section 3.2.2).
 */
#include <endian.h>
#include <netinet/icmp6.h>
#include <string.h>

#include <linux/icmp.h>

#include "base/io.h"
#include "icmp.h"

enum { IP4_LEN = 20, IP6_LEN = 40, ICMP_LEN = 8, UDP_LEN = 8 };
enum { TELL_PER_S = 100, TELL_BURST = 100 };
enum { ERROR_MAX4 = 576 /* RFC 1812 section 4.3.2.3 */, ERROR_MAX6 = 1280 /* RFC 4443 section 3.1 */ };
#define TOKEN_NS (1000000000ull / TELL_PER_S)

static bool may_tell(struct port *p)
{
	struct icmp_limit *l = icmp_limit_of(p);
	uint64_t now = time_mono_ns();

	if (now - l->since_ns >= TELL_BURST * TOKEN_NS) {
		l->tokens = TELL_BURST;
		l->since_ns = now;
	} else {
		uint64_t more = (now - l->since_ns) / TOKEN_NS;
		l->tokens = (unsigned)MIN_OF(l->tokens + more, TELL_BURST);
		l->since_ns += more * TOKEN_NS;
	}
	if (!l->tokens)
		return false;
	l->tokens--;
	return true;
}

void icmp_tell(struct port *p, const struct icmp_message *m)
{
	bool is4 = net_addr_is4(m->dst);
	uint8_t proto = is4 ? IPPROTO_ICMP : IPPROTO_ICMPV6;
	const struct pkt_out o = {
		.eth_dst = p->a.mac, .eth_src = p->g->mac, .src = m->src, .dst = m->dst, .proto = proto};
	uint8_t frame[ETH_HDR_LEN + ERROR_MAX6];
	size_t room = is4 ? ERROR_MAX4 - IP4_LEN - ICMP_LEN : ERROR_MAX6 - IP6_LEN - ICMP_LEN;
	size_t len = ICMP_LEN + MIN_OF(m->quote_len, room);

	if (!may_tell(p))
		return;
	size_t head = pkt_put_headers(frame, &o, len);
	uint8_t *icmp = frame + head;
	memset(icmp, 0, ICMP_LEN);
	icmp[0] = m->type;
	icmp[1] = m->code;
	memcpy(icmp + ICMP_LEN, m->quote, len - ICMP_LEN);
	uint32_t sum = is4 ? 0 : pkt_pseudo_sum(m->src, m->dst, proto, len);
	uint16_t v = inet_sum_finish(inet_sum(sum, icmp, len));
	memcpy(icmp + 2, &v, sizeof(v));
	port_send(p, NULL, &(struct vnet_hdr){0}, &(struct iovec){frame, head + len}, 1);
}

/* Who says it: a port's owner is the destination itself; all else the router. */
static const struct net_addr *teller(const struct engine *g, const struct net_addr *dst, enum icmp_why why)
{
	const struct net_addr *gateway = engine_gateway(g, net_addr_is4(dst));

	return why == ICMP_WHY_PORT || net_addr_is_zero(gateway) ? dst : gateway;
}

static void why_type(bool is4, enum icmp_why why, uint8_t *ret_type, uint8_t *ret_code)
{
	static const uint8_t codes4[] = {[ICMP_WHY_NET] = ICMP_NET_UNREACH,
		[ICMP_WHY_HOST] = ICMP_HOST_UNREACH,
		[ICMP_WHY_PORT] = ICMP_PORT_UNREACH,
		[ICMP_WHY_PROHIBITED] = ICMP_PKT_FILTERED};
	static const uint8_t codes6[] = {[ICMP_WHY_NET] = ICMP6_DST_UNREACH_NOROUTE,
		[ICMP_WHY_HOST] = ICMP6_DST_UNREACH_ADDR,
		[ICMP_WHY_PORT] = ICMP6_DST_UNREACH_NOPORT,
		[ICMP_WHY_PROHIBITED] = ICMP6_DST_UNREACH_ADMIN};

	*ret_type = is4 ? ICMP_DEST_UNREACH : ICMP6_DST_UNREACH;
	*ret_code = is4 ? codes4[why] : codes6[why];
}

/* RFC 1122 section 3.2.2, RFC 4443 section 2.4 (e): nobody is told about errors, multicast, and the rest of fragments. */
static bool may_be_told(const struct pkt *k)
{
	if ((!k->is4 && !k->is6) || k->eth_dst[0] & 1 || net_addr_is_zero(&k->src) ||
		(k->fragment && k->frag_off))
		return false;
	if (k->is6)
		return k->dst.b[0] != 0xff &&
		       (k->proto != IPPROTO_ICMPV6 ||
			       (!k->fragment && k->icmp_type >= 128 && k->icmp_type != ND_REDIRECT));
	if ((k->dst.b[12] & 0xf0) == 224 || k->dst.b[12] == 255 || !memcmp(k->src.b + 12, "\0\0\0", 4))
		return false;
	return k->proto != IPPROTO_ICMP ||
	       (!k->fragment &&
		       (k->icmp_type == ICMP_ECHO || k->icmp_type == ICMP_ECHOREPLY ||
			       k->icmp_type == ICMP_TIMESTAMP || k->icmp_type == ICMP_TIMESTAMPREPLY));
}

void icmp_unreachable(struct port *p, const struct pkt *k, enum icmp_why why)
{
	struct icmp_message m = {.src = teller(p->g, &k->dst, why),
		.dst = &k->src,
		.quote = k->frame + k->l3,
		.quote_len = k->len - k->l3};

	if (!may_be_told(k))
		return;
	why_type(k->is4, why, &m.type, &m.code);
	icmp_tell(p, &m);
}

void icmp_unreachable_udp(struct port *p, const struct flow_key *k, enum icmp_why why)
{
	const struct pkt_out o = {.eth_dst = p->g->mac,
		.eth_src = p->a.mac,
		.src = &k->src,
		.dst = &k->dst,
		.proto = IPPROTO_UDP};
	const uint16_t udp[4] = {htobe16(k->sport), htobe16(k->dport), htobe16(UDP_LEN)};
	uint8_t frame[ETH_HDR_LEN + IP6_LEN + UDP_LEN];
	size_t len = pkt_put_headers(frame, &o, UDP_LEN);

	memcpy(frame + len, udp, UDP_LEN);
	struct icmp_message m = {.src = teller(p->g, &k->dst, why),
		.dst = &k->src,
		.quote = frame + ETH_HDR_LEN,
		.quote_len = len - ETH_HDR_LEN + UDP_LEN};
	why_type(net_addr_is4(&k->dst), why, &m.type, &m.code);
	icmp_tell(p, &m);
}

void icmp_hop_limit(struct port *p, const struct pkt *k)
{
	const struct icmp_message m = {.type = k->is4 ? ICMP_TIME_EXCEEDED : ICMP6_TIME_EXCEEDED,
		.src = teller(p->g, &k->dst, ICMP_WHY_HOST),
		.dst = &k->src,
		.quote = k->frame + k->l3,
		.quote_len = k->len - k->l3};

	icmp_tell(p, &m);
}
