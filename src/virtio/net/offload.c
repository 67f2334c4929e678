/* SPDX-License-Identifier: MIT */
/*
 * THEORY OF OPERATION
 *
 * NEEDS_CSUM says: sum 16-bit words from csum_start to the frame's end, where the field at csum_offset
 * already holds the sum of the pseudo header, and put the complement there. It says nothing of protocols, and
 * neither do we: both offsets only have to lie inside of the frame.
 *
 * A TCP frame to be cut is parsed from its Ethernet header on. What the virtio header tells of it is compared
 * with what is found (csum_start, csum_offset, gso_type) or ignored (hdr_len, 5.1.6.2.2). Each segment gets
 * the frame's headers, in which lengths, the IPv4 identification, the sequence number, flags and checksums
 * are made right, and the next gso_size bytes of payload.
 *
 * Sums are made of words in host order. The ones' complement sum of swapped words is the swapped sum (RFC
 * 1071), so only constants and single numbers have to be brought into network order.
 */
#include "net/offload.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

#include "base/checksum.h"
#include "base/cleanup.h"
#include "virtio/virtqueue.h"

enum { ETHERTYPE_AT = 12, TYPE_IPV4 = 0x0800, TYPE_IPV6 = 0x86dd };
enum { IP4_MIN = 20, IP4_LEN = 2, IP4_ID = 4, IP4_FRAG = 6, IP4_PROTO = 9, IP4_CSUM = 10, IP4_ADDRS = 12 };
enum { IP4_FRAG_MASK = 0x3fff }; /* more fragments, and the offset */
enum { IP6_MIN = 40, IP6_LEN = 4, IP6_NEXT = 6, IP6_ADDRS = 8, IP6_ADDRS_LEN = 32 };
enum { PROTO_TCP = 6, PROTO_HOPOPTS = 0, PROTO_DSTOPTS = 60 };
enum { TCP_MIN = 20, TCP_SEQ = 4, TCP_DOFF = 12, TCP_FLAGS = 13, TCP_CSUM = 16 };
enum { TCP_FIN = 0x01, TCP_PSH = 0x08, TCP_CWR = 0x80 };
enum { IP_LEN_MAX = 65535 };

static uint16_t get_be16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static void put_be16(uint8_t *p, size_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static uint32_t get_be32(const uint8_t *p)
{
	return (uint32_t)get_be16(p) << 16 | get_be16(p + 2);
}

static void put_be32(uint8_t *p, uint32_t v)
{
	put_be16(p, v >> 16);
	put_be16(p + 2, v & 0xffff);
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

void net_hdr_decode(struct net_hdr *h, const uint8_t raw[NET_HDR_LEN])
{
	*h = (struct net_hdr){
		.flags = raw[0],
		.gso_type = raw[1],
		.hdr_len = get_le16(raw + 2),
		.gso_size = get_le16(raw + 4),
		.csum_start = get_le16(raw + 6),
		.csum_offset = get_le16(raw + 8),
		.num_buffers = get_le16(raw + 10),
	};
}

void net_hdr_encode(uint8_t raw[NET_HDR_LEN], const struct net_hdr *h)
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

void offload_checksum(const struct net_hdr *h, uint8_t *frame, size_t len)
{
	uint16_t v = inet_sum_finish(inet_sum(0, frame + h->csum_start, len - h->csum_start));

	/* Zero would mean "no checksum" to UDP, and is the same number as 0xffff to everybody (RFC 768). */
	if (v == 0)
		v = 0xffff;
	memcpy(frame + h->csum_start + h->csum_offset, &v, 2);
}

/* ---- parsing ---- */

static int parse_ipv4(struct offload *o, size_t have)
{
	const uint8_t *ip = o->headers + o->l3;

	if (have < o->l3 + IP4_MIN || ip[0] >> 4 != 4)
		return -EINVAL;
	size_t ihl = (size_t)(ip[0] & 15) * 4;
	if (ihl < IP4_MIN || ip[IP4_PROTO] != PROTO_TCP || get_be16(ip + IP4_FRAG) & IP4_FRAG_MASK)
		return -EINVAL;
	o->l4 = o->l3 + ihl;
	return 0;
}

/*
 * Only such extension headers are passed over as leave the pseudo header alone; a routing header would not.
 */
static int parse_ipv6(struct offload *o, size_t have)
{
	const uint8_t *ip = o->headers + o->l3;

	if (have < o->l3 + IP6_MIN || ip[0] >> 4 != 6)
		return -EINVAL;
	uint8_t next = ip[IP6_NEXT];
	size_t at = o->l3 + IP6_MIN;
	while (next == PROTO_HOPOPTS || next == PROTO_DSTOPTS) {
		if (have < at + 8)
			return -EINVAL;
		next = o->headers[at];
		at += ((size_t)o->headers[at + 1] + 1) * 8;
	}
	if (next != PROTO_TCP)
		return -EINVAL;
	o->l4 = at;
	return 0;
}

/* Finds the headers of a frame that is to be cut. `have` bytes of them were copied. */
static int parse_headers(struct offload *o, size_t have)
{
	if (have < NET_ETH_LEN || get_be16(o->headers + ETHERTYPE_AT) != (o->v6 ? TYPE_IPV6 : TYPE_IPV4))
		return -EINVAL;
	o->l3 = NET_ETH_LEN;
	int r = o->v6 ? parse_ipv6(o, have) : parse_ipv4(o, have);
	if (r < 0)
		return r;
	if (have < o->l4 + TCP_MIN)
		return -EINVAL;
	size_t tcp = (size_t)(o->headers[o->l4 + TCP_DOFF] >> 4) * 4;
	if (tcp < TCP_MIN || have < o->l4 + tcp)
		return -EINVAL;
	o->len = o->l4 + tcp;
	return 0;
}

static int check_gso(struct net_hdr *h, unsigned negotiated, const struct net_frame *f, struct offload *o)
{
	unsigned needs = h->gso_type == NET_GSO_TCPV4 ? OFFLOAD_TSO4 : OFFLOAD_TSO6;

	if ((h->gso_type != NET_GSO_TCPV4 && h->gso_type != NET_GSO_TCPV6) || !(negotiated & needs))
		return -EOPNOTSUPP;
	if (h->gso_size < OFFLOAD_MSS_MIN || h->csum_offset != TCP_CSUM)
		return -EINVAL;
	memset(o, 0, sizeof(*o));
	o->v6 = h->gso_type == NET_GSO_TCPV6;
	size_t have = iov_read(f->iov, f->n, f->off, o->headers, MIN_OF(f->len, sizeof(o->headers)));
	int r = parse_headers(o, have);
	if (r < 0)
		return r;
	if (o->l4 != h->csum_start)
		return -EINVAL;
	o->payload = f->len - o->len;
	o->mss = MIN_OF(h->gso_size, MAX_OF(o->payload, 1));
	/* Each segment's length has to fit its own IP header. */
	if (o->len - o->l3 - (o->v6 ? IP6_MIN : 0) + o->mss > IP_LEN_MAX)
		return -EINVAL;
	h->hdr_len = (uint16_t)o->len;
	o->iov = f->iov;
	o->iov_off = f->off + o->len;
	while (o->payload && o->iov_off >= o->iov->iov_len) {
		o->iov_off -= o->iov->iov_len;
		o->iov++;
	}
	return 0;
}

int offload_check(struct net_hdr *h, unsigned negotiated, const struct net_frame *f, struct offload *o)
{
	uint8_t valid = negotiated & OFFLOAD_DATA_VALID ? h->flags & NET_HDR_F_DATA_VALID : 0;

	h->hdr_len = 0;
	h->num_buffers = 0;
	if (f->len < NET_ETH_LEN)
		return -EINVAL;
	/* 5.1.6.2.2: flags that we do not know are ignored */
	if (!(h->flags & NET_HDR_F_NEEDS_CSUM)) {
		/* 5.1.6.2.1: what is to be cut needs its checksums, too */
		if (h->gso_type != NET_GSO_NONE)
			return -EINVAL;
		*h = (struct net_hdr){.flags = valid};
		return 0;
	}
	if (!(negotiated & OFFLOAD_CSUM))
		return -EOPNOTSUPP;
	h->flags = NET_HDR_F_NEEDS_CSUM;
	/* The checksum of an Ethernet header is nobody's. */
	if (h->csum_start < NET_ETH_LEN || (size_t)h->csum_start + h->csum_offset + 2 > f->len)
		return -EINVAL;
	if (h->gso_type != NET_GSO_NONE)
		return check_gso(h, negotiated, f, o);
	h->gso_size = 0;
	return 0;
}

/* ---- cutting ---- */

size_t offload_count(const struct offload *o)
{
	return o->payload ? (o->payload + o->mss - 1) / o->mss : 1;
}

size_t offload_segment_max(const struct offload *o)
{
	return o->len + o->mss;
}

static void copy_payload(struct offload *o, uint8_t *dst, size_t len)
{
	while (len) {
		size_t part = MIN_OF(len, o->iov->iov_len - o->iov_off);
		memcpy(dst, (const uint8_t *)o->iov->iov_base + o->iov_off, part);
		dst += part;
		len -= part;
		o->iov_off += part;
		if (o->iov_off == o->iov->iov_len) {
			o->iov++;
			o->iov_off = 0;
		}
	}
}

/*
 * Lengths, and what IPv4 has besides. The identification differs so that fragments of segments are told
 * apart.
 */
static void fix_ip(const struct offload *o, uint8_t *seg, size_t len)
{
	uint8_t *ip = seg + o->l3;

	if (o->v6) {
		put_be16(ip + IP6_LEN, len - o->l3 - IP6_MIN);
		return;
	}
	put_be16(ip + IP4_LEN, len - o->l3);
	put_be16(ip + IP4_ID, (get_be16(ip + IP4_ID) + o->index) & 0xffff);
	put_be16(ip + IP4_CSUM, 0);
	uint16_t v = inet_sum_finish(inet_sum(0, ip, o->l4 - o->l3));
	memcpy(ip + IP4_CSUM, &v, 2);
}

static void fix_tcp(const struct offload *o, uint8_t *seg, size_t len, bool last)
{
	uint8_t *tcp = seg + o->l4;

	put_be32(tcp + TCP_SEQ, get_be32(tcp + TCP_SEQ) + (uint32_t)o->done);
	if (!last) /* the end is the last segment's to tell */
		tcp[TCP_FLAGS] &= (uint8_t) ~(TCP_FIN | TCP_PSH);
	if (o->index) /* RFC 3168, 6.1.2: the answer to congestion is told once */
		tcp[TCP_FLAGS] &= (uint8_t)~TCP_CWR;

	/* The pseudo header: addresses, protocol, length. */
	uint32_t sum = htobe16(PROTO_TCP) + (uint32_t)htobe16((uint16_t)(len - o->l4));
	if (o->v6)
		sum = inet_sum(sum, seg + o->l3 + IP6_ADDRS, IP6_ADDRS_LEN);
	else
		sum = inet_sum(sum, seg + o->l3 + IP4_ADDRS, 8);
	put_be16(tcp + TCP_CSUM, 0);
	uint16_t v = inet_sum_finish(inet_sum(sum, tcp, len - o->l4));
	memcpy(tcp + TCP_CSUM, &v, 2);
}

size_t offload_next(struct offload *o, uint8_t *dst)
{
	if (o->index >= offload_count(o))
		return 0;
	size_t part = MIN_OF(o->mss, o->payload - o->done);
	size_t len = o->len + part;
	memcpy(dst, o->headers, o->len);
	copy_payload(o, dst + o->len, part);
	fix_ip(o, dst, len);
	fix_tcp(o, dst, len, o->done + part == o->payload);
	o->done += part;
	o->index++;
	return len;
}
