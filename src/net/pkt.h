/* SPDX-License-Identifier: MIT */
/*
 * Frames, taken apart and put together. Everything in a frame is a box's to write: a struct pkt is only filled when each
 * header lies whole inside of the frame, lengths agree, and nothing is ambiguous; what is beyond the IP packet's length is
 * cut off. No allocation, no state.
 */
#ifndef NET_PKT_H
#define NET_PKT_H

#include <stddef.h>
#include <sys/uio.h>

#include "base/checksum.h"
#include "net/addr.h"

enum {
	ETH_HDR_LEN = 14,
	VNET_HDR_LEN = 12,
	PKT_FRAME_MAX = 65550,			  /* bytes with the Ethernet header, as in virtio/net.h */
	PKT_WHOLE_MAX = ETH_HDR_LEN + 40 + 65535, /* of a packet that was put together of fragments */
	PKT_HEADERS_MAX = ETH_HDR_LEN + 40 + 60	  /* of the frames that we make */
};
enum { ETHERTYPE_IP4 = 0x0800, ETHERTYPE_ARP_ = 0x0806, ETHERTYPE_IP6 = 0x86dd };

/* virtio 1.2 section 5.1.6, in host order. */
enum { VNET_NEEDS_CSUM = 1, VNET_DATA_VALID = 2 };
enum { VNET_GSO_NONE = 0, VNET_GSO_TCPV4 = 1, VNET_GSO_TCPV6 = 4, VNET_GSO_ECN = 0x80 };
struct vnet_hdr {
	uint8_t flags, gso_type;
	uint16_t hdr_len, gso_size, csum_start, csum_offset, num_buffers;
};
void vnet_hdr_decode(struct vnet_hdr *h, const uint8_t raw[static VNET_HDR_LEN]);
void vnet_hdr_encode(uint8_t raw[static VNET_HDR_LEN], const struct vnet_hdr *h);

struct pkt {
	struct vnet_hdr vnet;
	const uint8_t *frame; /* from the Ethernet header on; not kept */
	size_t len;	      /* bytes of it that count */
	uint16_t ethertype;
	const uint8_t *eth_dst, *eth_src;

	/* IP: where is4 or is6 */
	bool is4, is6;
	struct net_addr src, dst;
	uint8_t proto; /* the last header's, after IPv6's extension headers (RFC 8200 section 4; AH, ESP, no next header: as is) */
	uint8_t ttl, tos;
	size_t l3, l4; /* offsets of the IP header and of what proto says */
	size_t l4_len; /* bytes from l4 to the packet's end */

	/* Fragments (RFC 791 section 3.2, RFC 8200 section 4.5): then nothing below is filled, and l4 is where its data begins. */
	bool fragment, more;
	uint32_t frag_id;
	uint32_t frag_off; /* bytes */

	/* TCP (RFC 9293 section 3.1), UDP (RFC 768) */
	uint16_t sport, dport;
	size_t payload, payload_len; /* offset and bytes */
	uint32_t seq, ack;	     /* TCP */
	uint16_t window;
	uint8_t tcp_flags;
	size_t tcp_opts, tcp_opts_len;
	/* ICMP (RFC 792), ICMPv6 (RFC 4443): payload is what follows the first 8 bytes; sport is an echo's identifier */
	uint8_t icmp_type, icmp_code;
	uint16_t icmp_seq;
};
enum { TCP_FIN = 1, TCP_SYN = 2, TCP_RST = 4, TCP_PSH = 8, TCP_ACK = 16, TCP_URG = 32 };

/*
 * 0; -EPROTONOSUPPORT for an ethertype that is neither ARP nor IP; -EBADMSG for what is malformed: bad lengths or version,
 * a VLAN tag, IPv4 options that route (RFC 7126), an IPv6 routing header of type 0 (RFC 5095), mapped or multicast source
 * addresses, a fragment that overlaps the headers (RFC 1858, RFC 8200), TCP flags that mean nothing (SYN with FIN or RST),
 * ICMP of the other family, UDP with a length of its own, a virtio header that asks for what the packet is not.
 * IPv4 header checksums are verified. p->vnet is written anew from what is true of vnet, fit to be sent on.
 */
int pkt_parse(struct pkt *p, const struct vnet_hdr *vnet, const uint8_t *frame, size_t len);

/* TCP options of a SYN (RFC 9293 section 3.2, RFC 7323): mss 0 and wscale -1 when absent. */
void pkt_tcp_options(const struct pkt *p, uint16_t *ret_mss, int *ret_wscale);

/* ---- making frames ---- */

struct pkt_out { /* addresses of one side of a frame to be made */
	const uint8_t *eth_dst, *eth_src;
	const struct net_addr *src, *dst;
	uint8_t proto, ttl, tos; /* ttl 0: 64 */
	uint16_t ip4_id;	 /* 0: none, and not to be fragmented (RFC 6864) */
};
/*
 * Writes Ethernet and IP header for l4_len bytes to come (below 65536 with the header). The IPv4 header's checksum is
 * filled in. Returns the bytes written: 34 or 54.
 */
size_t pkt_put_headers(uint8_t *buf, const struct pkt_out *o, size_t l4_len);
/* One's complement sum of the pseudo header (RFC 9293 section 3.1, RFC 8200 section 8.1), not complemented. */
uint32_t pkt_pseudo_sum(const struct net_addr *src, const struct net_addr *dst, uint8_t proto, size_t l4_len);

#endif
