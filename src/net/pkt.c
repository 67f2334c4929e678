/* SPDX-License-Identifier: MIT */
/*
 * THEORY OF OPERATION
 *
 * Each layer is read in its own function, which knows how many bytes are left and leaves the offsets of the next. What a
 * receiver could take one way and we another ends the frame: policy is decided by what is read here, but it is the
 * receiving kernel that acts on the bytes.
 *
 * The virtio header is compared with what is found and written anew in p->vnet, so that it can go on to another box's
 * device: a checksum is only to be made where TCP's or UDP's lies, segments only of TCP.
 *
 * Sums are made of words in host order. The ones' complement sum of swapped words is the swapped sum (RFC 1071), so only
 * constants and single numbers have to be brought into network order.
 */
#include "pkt.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

enum { IP4_MIN = 20, IP6_LEN = 40, TCP_MIN = 20, UDP_LEN = 8, ICMP_LEN = 8 };
enum { TCP_CSUM_AT = 16, UDP_CSUM_AT = 6 };
enum { IP4_RESERVED = 0x8000, IP4_DONT_FRAGMENT = 0x4000, IP4_MORE = 0x2000, IP4_OFFSET = 0x1fff };
enum { IP4_OPT_END = 0, IP4_OPT_NOP = 1, IP4_OPT_LSRR = 131, IP4_OPT_SSRR = 137 };
enum { IP6_OPT_PAD1 = 0, IP6_OPT_JUMBO = 0xc2, IP6_OPT_HOME_ADDRESS = 0xc9 };
enum { IP6_HEADERS_MAX = 8 /* extension headers of a packet; two are many */ };
enum { IP_LEN_MAX = 65535, GSO_SIZE_MIN = 48 /* as in virtio/net: no frame is cut to shreds */ };

static uint16_t get_be16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static uint32_t get_be32(const uint8_t *p)
{
	return (uint32_t)get_be16(p) << 16 | get_be16(p + 2);
}

static void put_be16(uint8_t *p, size_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static uint16_t get_le16(const uint8_t *p)
{
	return (uint16_t)(p[1] << 8 | p[0]);
}

static void put_le16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)v;
	p[1] = (uint8_t)(v >> 8);
}

void vnet_hdr_decode(struct vnet_hdr *h, const uint8_t raw[static VNET_HDR_LEN])
{
	*h = (struct vnet_hdr){
		.flags = raw[0],
		.gso_type = raw[1],
		.hdr_len = get_le16(raw + 2),
		.gso_size = get_le16(raw + 4),
		.csum_start = get_le16(raw + 6),
		.csum_offset = get_le16(raw + 8),
		.num_buffers = get_le16(raw + 10),
	};
}

void vnet_hdr_encode(uint8_t raw[static VNET_HDR_LEN], const struct vnet_hdr *h)
{
	raw[0] = h->flags;
	raw[1] = h->gso_type;
	put_le16(raw + 2, h->hdr_len);
	put_le16(raw + 4, h->gso_size);
	put_le16(raw + 6, h->csum_start);
	put_le16(raw + 8, h->csum_offset);
	put_le16(raw + 10, h->num_buffers);
}

/* ---- checksums ---- */

uint32_t pkt_pseudo_sum(const struct net_addr *src, const struct net_addr *dst, uint8_t proto, size_t l4_len)
{
	size_t skip = net_addr_is4(src) ? 12 : 0;
	const uint16_t len[2] = {htobe16((uint16_t)(l4_len >> 16)), htobe16((uint16_t)l4_len)};
	uint32_t sum = (uint32_t)htobe16(proto) + len[0] + len[1];

	return inet_sum(inet_sum(sum, src->b + skip, 16 - skip), dst->b + skip, 16 - skip);
}

/* ---- the fourth layer ---- */

static int parse_tcp(struct pkt *p)
{
	const uint8_t *t = p->frame + p->l4;

	if (p->l4_len < TCP_MIN)
		return -EBADMSG;
	size_t len = (size_t)(t[12] >> 4) * 4;
	if (len < TCP_MIN || len > p->l4_len)
		return -EBADMSG;
	p->sport = get_be16(t);
	p->dport = get_be16(t + 2);
	p->seq = get_be32(t + 4);
	p->ack = get_be32(t + 8);
	p->tcp_flags = t[13];
	p->window = get_be16(t + 14);
	p->tcp_opts = p->l4 + TCP_MIN;
	p->tcp_opts_len = len - TCP_MIN;
	p->payload = p->l4 + len;
	p->payload_len = p->l4_len - len;
	return p->tcp_flags & TCP_SYN && p->tcp_flags & (TCP_FIN | TCP_RST) ? -EBADMSG : 0;
}

static int parse_udp(struct pkt *p)
{
	const uint8_t *u = p->frame + p->l4;

	if (p->l4_len < UDP_LEN || get_be16(u + 4) != p->l4_len)
		return -EBADMSG;
	p->sport = get_be16(u);
	p->dport = get_be16(u + 2);
	p->payload = p->l4 + UDP_LEN;
	p->payload_len = p->l4_len - UDP_LEN;
	return 0;
}

static int parse_icmp(struct pkt *p)
{
	const uint8_t *i = p->frame + p->l4;

	/* The other family's would be taken for this one's by whoever asks for ICMP. */
	if (p->l4_len < ICMP_LEN || p->is4 != (p->proto == IPPROTO_ICMP))
		return -EBADMSG;
	p->icmp_type = i[0];
	p->icmp_code = i[1];
	if (p->is4 ? i[0] == 8 || i[0] == 0 : i[0] == 128 || i[0] == 129) {
		p->sport = get_be16(i + 4);
		p->icmp_seq = get_be16(i + 6);
	}
	p->payload = p->l4 + ICMP_LEN;
	p->payload_len = p->l4_len - ICMP_LEN;
	return 0;
}

/* Writes p->vnet anew from what may be believed of v. */
static int parse_vnet(struct pkt *p, const struct vnet_hdr *v)
{
	uint8_t type = v->gso_type & ~VNET_GSO_ECN;

	p->vnet = (struct vnet_hdr){0};
	if (!(v->flags & VNET_NEEDS_CSUM))
		return v->gso_type == VNET_GSO_NONE ? 0 : -EBADMSG; /* virtio 1.2, 5.1.6.2.1 */
	if (p->fragment || (p->proto != IPPROTO_TCP && p->proto != IPPROTO_UDP) || v->csum_start != p->l4 ||
		v->csum_offset != (p->proto == IPPROTO_TCP ? TCP_CSUM_AT : UDP_CSUM_AT))
		return -EBADMSG;
	p->vnet.flags = VNET_NEEDS_CSUM;
	p->vnet.csum_start = v->csum_start;
	p->vnet.csum_offset = v->csum_offset;
	if (v->gso_type == VNET_GSO_NONE)
		return 0;
	if (p->proto != IPPROTO_TCP || type != (p->is4 ? VNET_GSO_TCPV4 : VNET_GSO_TCPV6) ||
		v->gso_size < GSO_SIZE_MIN)
		return -EBADMSG;
	p->vnet.gso_type = v->gso_type;
	p->vnet.gso_size = v->gso_size;
	p->vnet.hdr_len = (uint16_t)p->payload;
	return 0;
}

/* ---- IP ---- */

/* Fragments: a whole number of blocks but for the last, none behind the greatest length, none inside of TCP's header. */
static int check_fragment(const struct pkt *p)
{
	if (!p->l4_len || (p->more && p->l4_len % 8) || p->frag_off + p->l4_len > IP_LEN_MAX)
		return -EBADMSG;
	if (p->proto == IPPROTO_TCP && (p->frag_off ? p->frag_off < TCP_MIN : p->l4_len < TCP_MIN))
		return -EBADMSG;
	return 0;
}

static int check_ip4_options(const uint8_t *o, size_t len)
{
	while (len && *o != IP4_OPT_END) {
		if (*o == IP4_OPT_NOP) {
			o++;
			len--;
			continue;
		}
		if (len < 2 || o[1] < 2 || o[1] > len || *o == IP4_OPT_LSRR || *o == IP4_OPT_SSRR)
			return -EBADMSG;
		len -= o[1];
		o += o[1];
	}
	return 0;
}

static int parse_ip4(struct pkt *p)
{
	const uint8_t *ip = p->frame + ETH_HDR_LEN;
	size_t left = p->len - ETH_HDR_LEN;

	if (left < IP4_MIN || ip[0] >> 4 != 4)
		return -EBADMSG;
	size_t ihl = (size_t)(ip[0] & 15) * 4, total = get_be16(ip + 2);
	if (ihl < IP4_MIN || total < ihl || total > left)
		return -EBADMSG;
	if (inet_sum_finish(inet_sum(0, ip, ihl)) != 0 || check_ip4_options(ip + IP4_MIN, ihl - IP4_MIN) < 0)
		return -EBADMSG;
	p->is4 = true;
	p->len = ETH_HDR_LEN + total;
	p->tos = ip[1];
	p->ttl = ip[8];
	p->proto = ip[9];
	p->src = net_addr_from4(ip + 12);
	p->dst = net_addr_from4(ip + 16);
	p->l3 = ETH_HDR_LEN;
	p->l4 = ETH_HDR_LEN + ihl;
	p->l4_len = total - ihl;
	if ((ip[12] & 0xf0) == 224 || !memcmp(ip + 12, "\xff\xff\xff\xff", 4))
		return -EBADMSG;

	uint16_t frag = get_be16(ip + 6);
	if (frag & IP4_RESERVED)
		return -EBADMSG;
	if (!(frag & (IP4_MORE | IP4_OFFSET)))
		return 0;
	p->fragment = true;
	p->more = frag & IP4_MORE;
	p->frag_id = get_be16(ip + 4);
	p->frag_off = (frag & IP4_OFFSET) * 8U;
	return check_fragment(p);
}

/*
 * Options of a hop-by-hop or destination options header (RFC 8200 section 4.2). Two would make another packet of it: a
 * length that is not the header's (RFC 2675), and a source address that is not (RFC 6275).
 */
static int check_ip6_options(const uint8_t *o, size_t len)
{
	while (len) {
		if (*o == IP6_OPT_PAD1) {
			o++;
			len--;
			continue;
		}
		if (len < 2 || o[1] + 2U > len || *o == IP6_OPT_JUMBO || *o == IP6_OPT_HOME_ADDRESS)
			return -EBADMSG;
		len -= o[1] + 2U;
		o += o[1] + 2U;
	}
	return 0;
}

static int parse_ip6_fragment(struct pkt *p)
{
	const uint8_t *h = p->frame + p->l4;

	if (p->l4_len < 8)
		return -EBADMSG;
	p->proto = h[0];
	p->fragment = true;
	p->more = h[3] & 1;
	p->frag_off = get_be16(h + 2) & 0xfff8U;
	p->frag_id = get_be32(h + 4);
	p->l4 += 8;
	p->l4_len -= 8;
	return check_fragment(p);
}

/* Passes over extension headers: l4, l4_len and proto become the last header's. */
static int parse_ip6_extensions(struct pkt *p)
{
	for (unsigned i = 0;; i++) {
		const uint8_t *h = p->frame + p->l4;
		if (p->proto == IPPROTO_FRAGMENT)
			return parse_ip6_fragment(p);
		if (p->proto != IPPROTO_HOPOPTS && p->proto != IPPROTO_DSTOPTS && p->proto != IPPROTO_ROUTING)
			return 0;
		if (i == IP6_HEADERS_MAX || p->l4_len < 8 || (p->proto == IPPROTO_HOPOPTS && i > 0))
			return -EBADMSG;
		size_t len = (h[1] + 1U) * 8;
		if (len > p->l4_len)
			return -EBADMSG;
		/* One that still leads elsewhere: the IP header's destination is not the last (section 4.4). */
		if (p->proto == IPPROTO_ROUTING ? h[2] == 0 || h[3] != 0
						: check_ip6_options(h + 2, len - 2) < 0)
			return -EBADMSG;
		p->proto = h[0];
		p->l4 += len;
		p->l4_len -= len;
	}
}

static int parse_ip6(struct pkt *p)
{
	const uint8_t *ip = p->frame + ETH_HDR_LEN;
	size_t left = p->len - ETH_HDR_LEN;

	if (left < IP6_LEN || ip[0] >> 4 != 6)
		return -EBADMSG;
	size_t len = get_be16(ip + 4);
	if (len > left - IP6_LEN)
		return -EBADMSG;
	p->is6 = true;
	p->len = ETH_HDR_LEN + IP6_LEN + len;
	p->tos = (uint8_t)(get_be16(ip) >> 4);
	p->proto = ip[6];
	p->ttl = ip[7];
	p->src = net_addr_from6(ip + 8);
	p->dst = net_addr_from6(ip + 24);
	p->l3 = ETH_HDR_LEN;
	p->l4 = ETH_HDR_LEN + IP6_LEN;
	p->l4_len = len;
	if (p->src.b[0] == 0xff || net_addr_is4(&p->src) || net_addr_is4(&p->dst))
		return -EBADMSG;
	return parse_ip6_extensions(p);
}

int pkt_parse(struct pkt *p, const struct vnet_hdr *vnet, const uint8_t *frame, size_t len)
{
	int r;

	if (len < ETH_HDR_LEN || len > PKT_WHOLE_MAX)
		return -EBADMSG;
	*p = (struct pkt){.frame = frame,
		.len = len,
		.ethertype = get_be16(frame + 12),
		.eth_dst = frame,
		.eth_src = frame + 6};
	switch (p->ethertype) {
	case ETHERTYPE_ARP_:
		return vnet->flags & VNET_NEEDS_CSUM || vnet->gso_type != VNET_GSO_NONE ? -EBADMSG : 0;
	case ETHERTYPE_IP4:
		r = parse_ip4(p);
		break;
	case ETHERTYPE_IP6:
		r = parse_ip6(p);
		break;
	case 0x8100: /* IEEE 802.1Q, 802.1ad: links are apart already */
	case 0x88a8:
		return -EBADMSG;
	default:
		return -EPROTONOSUPPORT;
	}
	if (r < 0)
		return r;
	if (!p->fragment) {
		if (p->proto == IPPROTO_TCP)
			r = parse_tcp(p);
		else if (p->proto == IPPROTO_UDP)
			r = parse_udp(p);
		else if (p->proto == IPPROTO_ICMP || p->proto == IPPROTO_ICMPV6)
			r = parse_icmp(p);
	}
	return r < 0 ? r : parse_vnet(p, vnet);
}

void pkt_tcp_options(const struct pkt *p, uint16_t *ret_mss, int *ret_wscale)
{
	const uint8_t *o = p->frame + p->tcp_opts;
	size_t len = p->tcp_opts_len;

	*ret_mss = 0;
	*ret_wscale = -1;
	while (len && *o != 0) {
		if (*o == 1) { /* no operation */
			o++;
			len--;
			continue;
		}
		if (len < 2 || o[1] < 2 || o[1] > len)
			return;
		if (o[0] == 2 && o[1] == 4)
			*ret_mss = get_be16(o + 2);
		else if (o[0] == 3 && o[1] == 3)
			*ret_wscale = o[2] < 14 ? o[2] : 14; /* RFC 7323 section 2.3 */
		len -= o[1];
		o += o[1];
	}
}

/* ---- making frames ---- */

size_t pkt_put_headers(uint8_t *buf, const struct pkt_out *o, size_t l4_len)
{
	bool is4 = net_addr_is4(o->src);
	uint8_t *ip = buf + ETH_HDR_LEN;
	uint8_t ttl = o->ttl ? o->ttl : 64;

	memcpy(buf, o->eth_dst, 6);
	memcpy(buf + 6, o->eth_src, 6);
	put_be16(buf + 12, is4 ? ETHERTYPE_IP4 : ETHERTYPE_IP6);
	if (!is4) {
		put_be16(ip, 0x6000U | (unsigned)o->tos << 4);
		put_be16(ip + 2, 0);
		put_be16(ip + 4, l4_len);
		ip[6] = o->proto;
		ip[7] = ttl;
		memcpy(ip + 8, o->src->b, 16);
		memcpy(ip + 24, o->dst->b, 16);
		return ETH_HDR_LEN + IP6_LEN;
	}
	ip[0] = 0x45;
	ip[1] = o->tos;
	put_be16(ip + 2, IP4_MIN + l4_len);
	put_be16(ip + 4, o->ip4_id);
	put_be16(ip + 6, o->ip4_id ? 0 : IP4_DONT_FRAGMENT);
	ip[8] = ttl;
	ip[9] = o->proto;
	put_be16(ip + 10, 0);
	memcpy(ip + 12, o->src->b + 12, 4);
	memcpy(ip + 16, o->dst->b + 12, 4);
	uint16_t sum = inet_sum_finish(inet_sum(0, ip, IP4_MIN));
	memcpy(ip + 10, &sum, 2);
	return ETH_HDR_LEN + IP4_MIN;
}
