/* SPDX-License-Identifier: MIT */
/*
 * A frame from a box. Input: u8 flags (1: the IPv4 header's checksum is made right), 12 bytes of virtio header, the frame.
 * Checked: that every offset of what parses lies inside of the packet and agrees with its neighbours, that nothing is read
 * behind it, and that what is passed on as a virtio header is honest.
 */
#include <string.h>

#include "base/cleanup.h"
#include "pkt.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(x) \
	do { \
		if (!(x)) \
			__builtin_trap(); \
	} while (0)

static void fix_sum(uint8_t *frame, size_t len)
{
	if (len < ETH_HDR_LEN + 20 || frame[12] != 8 || frame[13] != 0)
		return;
	uint8_t *ip = frame + ETH_HDR_LEN;
	size_t ihl = (ip[0] & 15) * 4U;
	if (ihl > len - ETH_HDR_LEN)
		return;
	memset(ip + 10, 0, 2);
	uint16_t sum = inet_sum_finish(inet_sum(0, ip, ihl));
	memcpy(ip + 10, &sum, sizeof(sum));
}

static void check_vnet(const struct pkt *p)
{
	const struct vnet_hdr *v = &p->vnet;

	CHECK(!(v->flags & ~VNET_NEEDS_CSUM) && !v->num_buffers);
	if (!v->flags) {
		CHECK(!v->gso_type && !v->gso_size && !v->hdr_len && !v->csum_start && !v->csum_offset);
		return;
	}
	CHECK(v->csum_start == p->l4 && (size_t)v->csum_start + v->csum_offset + 2 <= p->len);
	if (v->gso_type)
		CHECK(p->proto == IPPROTO_TCP && v->gso_size >= 48 && v->hdr_len == p->payload);
}

static void check_ip(const struct pkt *p)
{
	CHECK(p->is4 != p->is6 && net_addr_is4(&p->src) == p->is4 && net_addr_is4(&p->dst) == p->is4);
	CHECK(p->l3 == ETH_HDR_LEN && p->l4 >= p->l3 + (p->is4 ? 20U : 40U) && p->l4 + p->l4_len == p->len);
	if (p->fragment) {
		CHECK(p->l4_len && p->frag_off + p->l4_len <= 65535 && p->frag_off % 8 == 0 &&
			(!p->more || p->l4_len % 8 == 0));
		CHECK(!p->payload && !p->sport && !p->dport && !p->tcp_opts);
		return;
	}
	CHECK(!p->more && !p->frag_off && !p->frag_id);
	if (p->payload)
		CHECK(p->payload >= p->l4 + 8 && p->payload + p->payload_len == p->len);
	if (p->proto == IPPROTO_TCP) {
		uint16_t mss;
		int wscale;
		CHECK(p->tcp_opts == p->l4 + 20 && p->tcp_opts + p->tcp_opts_len == p->payload);
		pkt_tcp_options(p, &mss, &wscale);
		CHECK(wscale >= -1 && wscale <= 14);
	} else {
		CHECK(!p->tcp_opts && !p->tcp_opts_len && !p->tcp_flags);
	}
}

/* What comes out goes in again: the next box's, or our own after reassembly. */
static void check_again(const struct pkt *p)
{
	uint8_t raw[VNET_HDR_LEN];
	struct vnet_hdr v;
	struct pkt again;

	vnet_hdr_encode(raw, &p->vnet);
	vnet_hdr_decode(&v, raw);
	CHECK(pkt_parse(&again, &v, p->frame, p->len) == 0);
	CHECK(again.len == p->len && again.l4 == p->l4 && again.payload == p->payload &&
		again.proto == p->proto && again.fragment == p->fragment &&
		memcmp(&again.vnet, &p->vnet, sizeof(v)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct vnet_hdr v;
	struct pkt p;

	if (size < 1 + VNET_HDR_LEN)
		return 0;
	size_t len = size - 1 - VNET_HDR_LEN;
	CLEANUP_FREE uint8_t *frame = malloc(len ? len : 1); /* so that the sanitizer sees a step too far */
	CHECK(frame);
	memcpy(frame, data + 1 + VNET_HDR_LEN, len);
	vnet_hdr_decode(&v, data + 1);
	if (data[0] & 1)
		fix_sum(frame, len);
	if (pkt_parse(&p, &v, frame, len) < 0)
		return 0;
	CHECK(p.frame == frame && p.len <= len && p.eth_dst == frame && p.eth_src == frame + 6);
	if (p.ethertype == ETHERTYPE_ARP_)
		CHECK(!p.is4 && !p.is6);
	else
		check_ip(&p);
	check_vnet(&p);
	check_again(&p);
	return 0;
}
