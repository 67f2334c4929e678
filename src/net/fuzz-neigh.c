/* SPDX-License-Identifier: MIT */
/*
 * ARP and neighbour discovery from box 0. Input: u8 flags (1: the ICMPv6 checksum is made right), then a frame from its
 * ethertype on. Checked: that at most one frame comes out, to this box alone; that it is well formed and tells a true
 * address, of another than the box itself; that nothing comes out for a sender that the box is not.
 */
#include <string.h>

#include "base/cleanup.h"
#include "test-fake.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(x) \
	do { \
		if (!(x)) \
			__builtin_trap(); \
	} while (0)

/* Whether this is the address of whom the Ethernet address says. */
static void check_true(const struct net_addr *a, const uint8_t *mac)
{
	const struct port *p = engine_port_of(&fake.g, a);

	CHECK(p != &fake.ports[0]);
	CHECK(memcmp(mac, p ? p->a.mac : fake.g.mac, 6) == 0);
	CHECK(p || engine_is_gateway(&fake.g, a));
}

static void check_arp(const uint8_t *asked, const uint8_t *arp)
{
	struct net_addr a = net_addr_from4(arp + 14), sender = net_addr_from4(asked + 14);

	check_true(&a, arp + 8);
	CHECK(memcmp(arp, "\0\1\x08\0\6\4\0\2", 8) == 0 && memcmp(arp + 18, fake.ports[0].a.mac, 6) == 0);
	CHECK(memcmp(arp + 24, asked + 14, 4) == 0 && memcmp(asked + 8, fake.ports[0].a.mac, 6) == 0);
	CHECK(net_addr_equal(&sender, &fake.ports[0].a.ip4) || memcmp(arp + 24, "\0\0\0\0", 4) == 0);
}

static void check_nd(const struct pkt *asked, const struct fake_frame *f)
{
	struct pkt k;

	CHECK(fake_parse(&k, f->b, f->len) && k.icmp_type == 136 && k.ttl == 255 && k.l4_len == 32);
	CHECK(fake_icmp_sum(&k.src, &k.dst, f->b + k.l4, k.l4_len) == 0);
	check_true(&k.src, f->b + k.l4 + 26);
	CHECK(memcmp(f->b + k.l4 + 8, k.src.b, 16) == 0 && memcmp(k.eth_src, f->b + k.l4 + 26, 6) == 0);
	CHECK(net_addr_equal(&asked->src, &fake.ports[0].a.ip6) || net_addr_is_zero(&asked->src) ||
		asked->src.b[0] == 0xfe);
	CHECK(asked->ttl == 255 && asked->icmp_type == 135 && asked->icmp_code == 0);
}

static void fix_sum(uint8_t *frame, const struct pkt *k)
{
	memset(frame + k->l4 + 2, 0, 2);
	uint16_t sum = fake_icmp_sum(&k->src, &k->dst, frame + k->l4, k->l4_len);
	memcpy(frame + k->l4 + 2, &sum, sizeof(sum));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct pkt k;

	if (size < 3 || size > PKT_FRAME_MAX - 12)
		return 0;
	fake_init(NULL);
	CLEANUP_FREE uint8_t *frame = malloc(12 + size - 1);
	CHECK(frame);
	memset(frame, 0xff, 6);
	memcpy(frame + 6, fake.ports[0].a.mac, 6);
	memcpy(frame + 12, data + 1, size - 1);
	if (!fake_parse(&k, frame, 12 + size - 1))
		return 0;
	if (k.ethertype == ETHERTYPE_ARP_) {
		neigh_arp(&fake.ports[0], &k);
	} else {
		if (data[0] & 1 && k.proto == IPPROTO_ICMPV6 && !k.fragment)
			fix_sum(frame, &k);
		bool done = neigh_nd(&fake.ports[0], &k);
		CHECK(done || !fake.n_frames);
	}
	CHECK(fake.n_frames <= 1);
	if (!fake.n_frames)
		return 0;
	const struct fake_frame *f = &fake.frames[0];
	CHECK(f->to == &fake.ports[0] && !f->from && !f->vnet.flags && fake.g.spoofed == 0);
	if (k.ethertype == ETHERTYPE_ARP_)
		check_arp(frame + ETH_HDR_LEN, f->b + ETH_HDR_LEN);
	else
		check_nd(&k, f);
	return 0;
}
