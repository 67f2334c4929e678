/* SPDX-License-Identifier: MIT */
#include "pkt.h"

#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"

#define VNET_NONE \
	&(struct vnet_hdr) \
	{ \
		0 \
	}

static const uint8_t box_mac[6] = {2, 0, 0, 0, 0, 1}, gw_mac[6] = {2, 0, 0, 0, 0, 2};

/* As captured: 10.0.0.2:40000 > 10.0.0.1:80, SYN, mss 1460, sackOK, nop, wscale 7; and an echo request. */
static const uint8_t syn4[] = "\2\0\0\0\0\2\2\0\0\0\0\1\x08\0"
			      "\x45\0\0\x34\x12\x34\x40\0\x40\6\x14\x8e\x0a\0\0\2\x0a\0\0\1"
			      "\x9c\x40\0\x50\x11\x22\x33\x44\0\0\0\0\x80\2\xfa\xf0\0\0\0\0"
			      "\2\4\5\xb4\4\2\1\3\3\7\1\1";
static const uint8_t echo6[] =
	"\2\0\0\0\0\2\2\0\0\0\0\1\x86\xdd"
	"\x60\0\0\0\0\x0c\x3a\x40\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\2\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1"
	"\x80\0\0\0\x12\x34\0\7ping";
#define LEN(a) (sizeof(a) - 1)

static struct net_addr addr(const char *s)
{
	struct net_addr a;

	assert_int_equal(net_addr_parse(s, &a), 0);
	return a;
}

/* A frame under construction, right against the end of its allocation where the sanitizers see a step too far. */
struct frame {
	uint8_t b[70000];
	size_t len;
};

static void put16(uint8_t *p, unsigned v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static void fix_ip4(struct frame *f)
{
	uint8_t *ip = f->b + 14;

	put16(ip + 10, 0);
	uint16_t sum = inet_sum_finish(inet_sum(0, ip, (ip[0] & 15) * 4U));
	memcpy(ip + 10, &sum, 2);
}

static void make(struct frame *f, bool is4, uint8_t proto, const void *l4, size_t len)
{
	struct net_addr src = addr(is4 ? "10.0.0.2" : "fd00::2"), dst = addr(is4 ? "10.0.0.1" : "fd00::1");
	const struct pkt_out o = {
		.eth_dst = gw_mac, .eth_src = box_mac, .src = &src, .dst = &dst, .proto = proto};

	f->len = pkt_put_headers(f->b, &o, len);
	memcpy(f->b + f->len, l4, len);
	f->len += len;
}

static int parse(struct pkt *p, const struct vnet_hdr *v, const struct frame *f)
{
	uint8_t *exact = malloc(f->len ? f->len : 1);

	memcpy(exact, f->b, f->len);
	int r = pkt_parse(p, v, exact, f->len);
	free(exact);
	return r;
}

static int parse_raw(const void *data, size_t len)
{
	struct frame f = {.len = len};
	struct pkt p;

	memcpy(f.b, data, len);
	return parse(&p, VNET_NONE, &f);
}

static void test_tcp(void **state)
{
	struct pkt p;
	uint16_t mss;
	int wscale;

	assert_int_equal(pkt_parse(&p, VNET_NONE, syn4, LEN(syn4)), 0);
	assert_true(p.is4 && !p.is6 && !p.fragment);
	struct net_addr src = addr("10.0.0.2"), dst = addr("10.0.0.1");
	assert_true(net_addr_equal(&p.src, &src) && net_addr_equal(&p.dst, &dst));
	assert_int_equal(p.proto, IPPROTO_TCP);
	assert_int_equal(p.sport, 40000);
	assert_int_equal(p.dport, 80);
	assert_int_equal(p.seq, 0x11223344);
	assert_int_equal(p.ack, 0);
	assert_int_equal(p.window, 0xfaf0);
	assert_int_equal(p.tcp_flags, TCP_SYN);
	assert_int_equal(p.payload_len, 0);
	assert_int_equal(p.payload, p.len);
	assert_int_equal(p.ttl, 64);
	pkt_tcp_options(&p, &mss, &wscale);
	assert_int_equal(mss, 1460);
	assert_int_equal(wscale, 7);

	/* Options that end early, have lengths of nothing, or lie beyond: what came before counts. */
	struct frame f;
	static const struct {
		uint8_t o[12];
		uint16_t mss;
		int wscale;
	} cases[] = {
		{{0, 2, 4, 5, 0xb4}, 0, -1},
		{{2, 4, 5, 0xb4, 3, 0, 7, 7}, 1460, -1},
		{{2, 4, 5, 0xb4, 3, 9, 7, 7}, 1460, -1},
		{{2, 3, 5, 3, 3, 200, 1, 1, 1, 1, 1, 3}, 0, 14},
		{{1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2}, 0, -1},
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		memcpy(f.b, syn4, LEN(syn4));
		memcpy(f.b + 54, cases[i].o, 12);
		assert_int_equal(pkt_parse(&p, VNET_NONE, f.b, LEN(syn4)), 0);
		pkt_tcp_options(&p, &mss, &wscale);
		assert_int_equal(mss, cases[i].mss);
		assert_int_equal(wscale, cases[i].wscale);
	}
}

static void test_cut_everywhere(void **state)
{
	struct pkt p;
	struct frame f;

	for (size_t i = 0; i < LEN(syn4); i++)
		assert_int_equal(parse_raw(syn4, i), -EBADMSG);
	for (size_t i = 0; i < LEN(echo6); i++)
		assert_int_equal(parse_raw(echo6, i), -EBADMSG);
	/* What is behind the packet is cut off: short frames are padded. */
	f.len = 64 + LEN(echo6);
	memcpy(f.b, echo6, LEN(echo6));
	assert_int_equal(parse(&p, VNET_NONE, &f), 0);
	assert_int_equal(p.len, LEN(echo6));
	assert_int_equal(p.payload_len, 4);
	assert_int_equal(p.sport, 0x1234);
	assert_int_equal(p.icmp_seq, 7);
	assert_int_equal(p.icmp_type, 128);
}

/* Changes one byte of a good frame, and puts the header's checksum right. */
static int changed(const void *frame, size_t len, size_t at, uint8_t v)
{
	struct frame f = {.len = len};
	struct pkt p;

	memcpy(f.b, frame, len);
	f.b[at] = v;
	if (f.b[12] == 8)
		fix_ip4(&f);
	return parse(&p, VNET_NONE, &f);
}

static void test_malformed(void **state)
{
	static const struct {
		size_t at;
		uint8_t v;
		int r;
	} four[] =
		{
			{14, 0x65, -EBADMSG}, {14, 0x44, -EBADMSG},
			{14, 0x4f, -EBADMSG},					/* version, header length */
			{17, 0x13, -EBADMSG}, {17, 0x35, -EBADMSG},		/* total length */
			{20, 0x80, -EBADMSG},					/* reserved flag */
			{26, 224, -EBADMSG}, {26, 239, -EBADMSG}, {26, 240, 0}, /* source address */
			{46, 0x40, -EBADMSG}, {46, 0x90, -EBADMSG},		/* TCP header length */
			{47, TCP_SYN | TCP_FIN, -EBADMSG}, {47, TCP_SYN | TCP_RST, -EBADMSG},
			{47, TCP_SYN | TCP_ACK, 0}, {12, 0x81, -EBADMSG}, {12, 0x88, -EPROTONOSUPPORT},
			{12, 0, -EPROTONOSUPPORT}, /* ethertype */
			{23, 58, -EBADMSG},	   /* ICMPv6 within IPv4 */
		},
	  six[] = {
		  {14, 0x40, -EBADMSG},
		  {18, 1, -EBADMSG},
		  {19, 0x0d, -EBADMSG},
		  {22, 0xff, -EBADMSG},
		  {20, 1, -EBADMSG}, /* ICMP within IPv6 */
		  {20, 59, 0},
		  {20, 50, 0},
		  {20, 51, 0},
		  {20, 132, 0},
	  };

	assert_int_equal(changed(syn4, LEN(syn4), 17, 0x34), 0);
	for (size_t i = 0; i < ARRAY_LEN(four); i++)
		if (changed(syn4, LEN(syn4), four[i].at, four[i].v) != four[i].r)
			fail_msg("byte %zu: %u", four[i].at, four[i].v);
	for (size_t i = 0; i < ARRAY_LEN(six); i++)
		if (changed(echo6, LEN(echo6), six[i].at, six[i].v) != six[i].r)
			fail_msg("byte %zu: %u", six[i].at, six[i].v);

	struct frame f;
	struct pkt p;
	make(&f, true, IPPROTO_UDP, "\1\2\0\x35\0\x0c\0\0abcd", 12);
	assert_int_equal(parse(&p, VNET_NONE, &f), 0);
	assert_int_equal(p.sport, 0x102);
	assert_int_equal(p.dport, 53);
	assert_int_equal(p.payload_len, 4);
	f.b[24]++;
	assert_int_equal(parse(&p, VNET_NONE, &f), -EBADMSG); /* header checksum */
	make(&f, true, IPPROTO_UDP, "\1\2\0\x35\0\x0b\0\0abcd", 12);
	assert_int_equal(parse(&p, VNET_NONE, &f), -EBADMSG);
	/* Mapped addresses */
	for (size_t at = 22; at <= 38; at += 16) {
		make(&f, false, IPPROTO_UDP, "\1\2\0\x35\0\x0c\0\0abcd", 12);
		assert_int_equal(parse(&p, VNET_NONE, &f), 0);
		memcpy(f.b + at, addr("10.0.0.1").b, 16);
		assert_int_equal(parse(&p, VNET_NONE, &f), -EBADMSG);
	}
	f.len = PKT_WHOLE_MAX + 1;
	assert_int_equal(parse(&p, VNET_NONE, &f), -EBADMSG);
}

static void test_ip4_options(void **state)
{
	static const struct {
		uint8_t o[8];
		int r;
	} cases[] = {
		{{1, 1, 1, 1, 1, 1, 1, 1}, 0},
		{{0, 131, 0, 0}, 0}, /* behind the end */
		{{7, 7, 4, 0, 0, 0, 0, 0}, 0},
		{{131, 7, 4, 0, 0, 0, 0, 0}, -EBADMSG},
		{{1, 137, 7, 4, 0, 0, 0, 0}, -EBADMSG},
		{{7, 9}, -EBADMSG},
		{{7, 1}, -EBADMSG},
		{{7, 0}, -EBADMSG},
		{{1, 1, 1, 1, 1, 1, 1, 7}, -EBADMSG},
	};
	struct frame f;
	struct pkt p;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		make(&f, true, IPPROTO_UDP, "\0\0\0\0\0\0\0\0\1\2\0\x35\0\x0c\0\0abcd", 20);
		memcpy(f.b + 34, cases[i].o, 8);
		f.b[14] = 0x47;
		fix_ip4(&f);
		assert_int_equal(parse(&p, VNET_NONE, &f), cases[i].r);
		if (!cases[i].r)
			assert_int_equal(p.dport, 53);
	}
}

static void test_ip6_extensions(void **state)
{
	/* first: the first header's number; the rest ends with 12 bytes of UDP */
	static const struct {
		uint8_t first, len, h[32];
		int r;
	} cases[] = {
		{0, 8, {17, 0, 1, 4}, 0},
		{60, 8, {17, 0, 0, 0, 0, 0, 0, 0}, 0},
		{0, 16, {60, 0, 1, 4, 0, 0, 0, 0, 17, 0, 1, 4}, 0},
		{60, 16, {0, 0, 1, 4, 0, 0, 0, 0, 17, 0, 1, 4}, -EBADMSG}, /* hop-by-hop not first */
		{0, 8, {17, 0, 0xc2, 4}, -EBADMSG},			   /* jumbo */
		{60, 24, {17, 2, 0xc9, 16}, -EBADMSG},			   /* home address */
		{60, 8, {17, 0, 1, 5}, -EBADMSG},			   /* option over the end */
		{60, 8, {17, 0, 0, 0, 0, 0, 0, 7}, -EBADMSG},
		{60, 8, {17, 3, 1, 4}, -EBADMSG}, /* header over the end */
		{43, 8, {17, 0, 2, 0}, 0},	  /* a routing header that is done with */
		{43, 8, {17, 0, 2, 1}, -EBADMSG}, /* and one that is not */
		{43, 8, {17, 0, 0, 0}, -EBADMSG}, /* type 0 */
		{43, 8, {17, 255, 2, 0}, -EBADMSG},
	};
	struct frame f;
	struct pkt p;
	uint8_t l4[200];

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		memcpy(l4, cases[i].h, cases[i].len);
		memcpy(l4 + cases[i].len, "\1\2\0\x35\0\x0c\0\0abcd", 12);
		make(&f, false, cases[i].first, l4, cases[i].len + 12U);
		if (parse(&p, VNET_NONE, &f) != cases[i].r)
			fail_msg("case %zu", i);
		if (cases[i].r)
			continue;
		assert_int_equal(p.proto, IPPROTO_UDP);
		assert_int_equal(p.l4, 54 + cases[i].len);
		assert_int_equal(p.dport, 53);
	}
	for (unsigned n = 1; n <= 12; n++) { /* so many headers and no more */
		for (unsigned i = 0; i < n; i++)
			memcpy(l4 + 8 * (size_t)i, i + 1 < n ? "\x3c\0\1\4\0\0\0\0" : "\x11\0\1\4\0\0\0\0",
				8);
		memcpy(l4 + 8 * (size_t)n, "\1\2\0\x35\0\x0c\0\0abcd", 12);
		make(&f, false, 60, l4, 8 * (size_t)n + 12);
		assert_int_equal(parse(&p, VNET_NONE, &f), n <= 8 ? 0 : -EBADMSG);
	}
}

static void test_fragments(void **state)
{
	static const struct {
		bool is4;
		uint8_t proto;
		uint16_t off; /* of 8 bytes */
		bool more;
		size_t len;
		int r;
	} cases[] = {
		{true, 17, 0, true, 8, 0},
		{true, 17, 1, false, 1, 0},
		{true, 17, 1, true, 9, -EBADMSG},
		{true, 17, 1, false, 0, -EBADMSG},
		{true, 17, 8191, false, 7, 0},
		{true, 17, 8191, false, 8, -EBADMSG},
		{true, 6, 0, true, 24, 0},
		{true, 6, 0, true, 16, -EBADMSG},
		{true, 6, 1, false, 40, -EBADMSG},
		{true, 6, 2, false, 40, -EBADMSG},
		{true, 6, 3, false, 40, 0},
		{false, 17, 0, true, 8, 0},
		{false, 17, 0, false, 8, 0},
		{false, 17, 3, true, 12, -EBADMSG},
		{false, 17, 3, false, 0, -EBADMSG},
		{false, 17, 8191, false, 8, -EBADMSG},
		{false, 6, 1, false, 24, -EBADMSG},
		{false, 6, 0, true, 16, -EBADMSG},
	};
	static const uint8_t zeros[64];
	struct frame f;
	struct pkt p;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		if (cases[i].is4) {
			make(&f, true, cases[i].proto, zeros, cases[i].len);
			put16(f.b + 18, 0x1234);
			put16(f.b + 20, cases[i].off | (cases[i].more ? 0x2000U : 0));
			fix_ip4(&f);
		} else {
			uint8_t l4[80] = {cases[i].proto, 0, 0, 0, 0xaa, 0xbb, 0x12, 0x34};
			put16(l4 + 2, cases[i].off * 8U | cases[i].more);
			make(&f, false, 44, l4, 8 + cases[i].len);
		}
		if (parse(&p, VNET_NONE, &f) != cases[i].r)
			fail_msg("case %zu", i);
		if (cases[i].r)
			continue;
		assert_true(p.fragment);
		assert_int_equal(p.more, cases[i].more);
		assert_int_equal(p.frag_off, cases[i].off * 8);
		assert_int_equal(p.frag_id, cases[i].is4 ? 0x1234 : 0xaabb1234);
		assert_int_equal(p.proto, cases[i].proto);
		assert_int_equal(p.l4_len, cases[i].len);
		assert_int_equal(p.l4 + p.l4_len, f.len);
		assert_int_equal(p.sport + p.dport + p.payload, 0);
		const struct vnet_hdr v = {
			.flags = VNET_NEEDS_CSUM, .csum_start = (uint16_t)p.l4, .csum_offset = 6};
		assert_int_equal(parse(&p, &v, &f), -EBADMSG);
	}
}

static void test_vnet(void **state)
{
	enum { CSUM = VNET_NEEDS_CSUM, TSO4 = VNET_GSO_TCPV4, TSO6 = VNET_GSO_TCPV6 };
	static const struct {
		struct vnet_hdr v;
		int r;
	} cases[] = {
		{{0}, 0},
		{{.flags = VNET_DATA_VALID}, 0},
		{{.gso_type = TSO4, .gso_size = 1000}, -EBADMSG},
		{{.flags = CSUM, .csum_start = 34, .csum_offset = 16}, 0},
		{{.flags = CSUM, .csum_start = 34, .csum_offset = 6}, -EBADMSG},
		{{.flags = CSUM, .csum_start = 14, .csum_offset = 16}, -EBADMSG},
		{{.flags = CSUM, .csum_start = 34, .csum_offset = 16, .gso_type = TSO4, .gso_size = 1000}, 0},
		{{.flags = CSUM,
			 .csum_start = 34,
			 .csum_offset = 16,
			 .gso_type = TSO4 | VNET_GSO_ECN,
			 .gso_size = 48},
			0},
		{{.flags = CSUM, .csum_start = 34, .csum_offset = 16, .gso_type = TSO4, .gso_size = 47},
			-EBADMSG},
		{{.flags = CSUM, .csum_start = 34, .csum_offset = 16, .gso_type = TSO6, .gso_size = 1000},
			-EBADMSG},
		{{.flags = CSUM, .csum_start = 34, .csum_offset = 16, .gso_type = 3, .gso_size = 1000},
			-EBADMSG},
		{{.flags = CSUM, .csum_start = 34, .csum_offset = 16, .gso_type = 5, .gso_size = 1000},
			-EBADMSG},
	};
	struct pkt p;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct vnet_hdr v = cases[i].v;
		v.num_buffers = 9;
		v.hdr_len = 9999;
		if (pkt_parse(&p, &v, syn4, LEN(syn4)) != cases[i].r)
			fail_msg("case %zu", i);
		if (cases[i].r)
			continue;
		assert_int_equal(p.vnet.flags, v.flags & CSUM);
		assert_int_equal(p.vnet.gso_type, v.gso_type);
		assert_int_equal(p.vnet.gso_size, v.gso_size);
		assert_int_equal(p.vnet.csum_start, v.csum_start);
		assert_int_equal(p.vnet.num_buffers, 0);
		assert_int_equal(p.vnet.hdr_len, v.gso_type ? p.payload : 0);
	}
	const struct vnet_hdr v = {.flags = CSUM, .csum_start = 54, .csum_offset = 2};
	assert_int_equal(pkt_parse(&p, &v, echo6, LEN(echo6)), -EBADMSG); /* Linux sums ICMP itself */

	static const uint8_t raw[VNET_HDR_LEN] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
	uint8_t back[VNET_HDR_LEN];
	struct vnet_hdr h;
	vnet_hdr_decode(&h, raw);
	assert_int_equal(h.hdr_len, 0x403);
	assert_int_equal(h.num_buffers, 0xc0b);
	vnet_hdr_encode(back, &h);
	assert_memory_equal(raw, back, VNET_HDR_LEN);
}

/* RFC 1071 section 4.1 in its plainest form. */
static uint16_t slow_sum(const uint8_t *p, size_t len)
{
	uint32_t sum = 0;

	for (size_t i = 0; i < len; i++)
		sum += i % 2 ? p[i] : (uint32_t)p[i] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return htons((uint16_t)~sum);
}

static void test_sums(void **state)
{
	static uint8_t data[65536];
	uint32_t seed = 1;

	for (size_t i = 0; i < sizeof(data); i++) {
		seed = seed * 1664525 + 1013904223;
		data[i] = (uint8_t)(seed >> 24);
	}
	for (size_t len = 0; len < 300; len++)
		for (size_t at = 0; at < 9; at++)
			assert_int_equal(
				inet_sum_finish(inet_sum(0, data + at, len)), slow_sum(data + at, len));
	assert_int_equal(inet_sum_finish(inet_sum(0, data, sizeof(data))), slow_sum(data, sizeof(data)));
	uint32_t parts = inet_sum(inet_sum(inet_sum(0, data, 2), data + 2, 9998), data + 10000, 55536);
	assert_int_equal(inet_sum_finish(parts), slow_sum(data, sizeof(data)));
	memset(data, 0xff, sizeof(data));
	assert_int_equal(inet_sum_finish(inet_sum(0xffffffff, data, sizeof(data))), 0);

	/* The pseudo headers, written out. */
	struct net_addr a4 = addr("10.0.0.2"), b4 = addr("10.0.0.1"), a6 = addr("fd00::2"),
			b6 = addr("fd00::1");
	const uint8_t four[] = {10, 0, 0, 2, 10, 0, 0, 1, 0, 6, 0x12, 0x34};
	assert_int_equal(inet_sum_finish(pkt_pseudo_sum(&a4, &b4, 6, 0x1234)), slow_sum(four, sizeof(four)));
	uint8_t six[40] = {0};
	memcpy(six, a6.b, 16);
	memcpy(six + 16, b6.b, 16);
	six[33] = 1;
	six[35] = 2;
	six[39] = 58;
	assert_int_equal(inet_sum_finish(pkt_pseudo_sum(&a6, &b6, 58, 65538)), slow_sum(six, sizeof(six)));
}

static void test_headers(void **state)
{
	struct net_addr src = addr("10.0.0.2"), dst = addr("10.0.0.1");
	struct pkt_out o = {.eth_dst = gw_mac,
		.eth_src = box_mac,
		.src = &src,
		.dst = &dst,
		.proto = 6,
		.ip4_id = 0x1234};
	uint8_t buf[PKT_HEADERS_MAX];

	assert_int_equal(pkt_put_headers(buf, &o, 32), 34);
	assert_int_equal(buf[20] | buf[21], 0); /* with an identification it may be fragmented */
	o.ip4_id = 0;
	assert_int_equal(pkt_put_headers(buf, &o, 32), 34);
	uint8_t want[34];
	memcpy(want, syn4, 34);
	want[18] = want[19] = 0;
	want[24] = 0x26; /* 0x148e + 0x1234 */
	want[25] = 0xc2;
	assert_memory_equal(buf, want, 34);

	struct net_addr src6 = addr("fd00::2"), dst6 = addr("fd00::1");
	o = (struct pkt_out){.eth_dst = gw_mac, .eth_src = box_mac, .src = &src6, .dst = &dst6, .proto = 58};
	assert_int_equal(pkt_put_headers(buf, &o, 12), 54);
	assert_memory_equal(buf, echo6, 54);
	o.tos = 0xb8;
	o.ttl = 255;
	pkt_put_headers(buf, &o, 12);
	assert_int_equal(buf[14], 0x6b);
	assert_int_equal(buf[15], 0x80);
	assert_int_equal(buf[21], 255);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tcp),
		cmocka_unit_test(test_cut_everywhere),
		cmocka_unit_test(test_malformed),
		cmocka_unit_test(test_ip4_options),
		cmocka_unit_test(test_ip6_extensions),
		cmocka_unit_test(test_fragments),
		cmocka_unit_test(test_vnet),
		cmocka_unit_test(test_sums),
		cmocka_unit_test(test_headers),
	};

	return cmocka_run_group_tests_name("net-pkt", tests, NULL, NULL);
}
