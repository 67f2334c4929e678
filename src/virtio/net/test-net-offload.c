/* SPDX-License-Identifier: MIT */
/*
 * Checksums and segmentation of the network device (virtio 1.2 sections 5.1.6.2 and 5.1.6.4), compared with a
 * reference that is as simple as can be: every segment is built from nothing, sums go byte by byte.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "net/test-link.h"

enum { TCP = 6, UDP = 17 };

/* How a frame is made. */
struct shape {
	bool v6;
	unsigned vlan;			  /* ID of its tag, 0: none */
	unsigned ip_options, tcp_options; /* in bytes; of IPv6 a destination options header */
	size_t payload;
	uint8_t flags; /* of TCP */
	uint32_t seq;
	uint16_t id;
};

struct made {
	uint8_t frame[NET_FRAME_MAX + 64];
	size_t l3, l4, headers, len;
};

static void be16(uint8_t *p, size_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static void be32(uint8_t *p, uint32_t v)
{
	be16(p, v >> 16);
	be16(p + 2, v & 0xffff);
}

/* ---- the reference ---- */

static uint32_t sum(uint32_t s, const uint8_t *p, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		s += i % 2 ? p[i] : (uint32_t)p[i] << 8;
		s = (s & 0xffff) + (s >> 16);
	}
	return s;
}

/* The pseudo header's sum of what begins at l4 of a frame of that length. */
static uint32_t pseudo(const struct made *m, bool v6, uint8_t proto, size_t len)
{
	uint8_t tail[4] = {0, proto};

	be16(tail + 2, len - m->l4);
	uint32_t s = sum(0, tail, 4);
	return v6 ? sum(s, m->frame + m->l3 + 8, 32) : sum(s, m->frame + m->l3 + 12, 8);
}

/*
 * A TCP frame with these headers and that payload. With `whole` its checksums are right, else the TCP one
 * holds the pseudo header's, as a driver leaves it that wants it completed.
 */
static void make(struct made *m, const struct shape *s, const uint8_t *payload, bool whole)
{
	uint8_t *p = m->frame;
	size_t at = 12;

	memset(p, 0, 256);
	memcpy(p, "\x02\0\0\0\0\x01\x02\0\0\0\0\x02", 12);
	if (s->vlan) {
		be16(p + at, 0x8100);
		be16(p + at + 2, 0xe000 | s->vlan); /* with a priority */
		at += 4;
	}
	be16(p + at, s->v6 ? 0x86dd : 0x0800);
	m->l3 = at + 2;
	m->l4 = m->l3 + (s->v6 ? 40 : 20) + s->ip_options;
	m->headers = m->l4 + 20 + s->tcp_options;
	m->len = m->headers + s->payload;
	uint8_t *ip = p + m->l3, *tcp = p + m->l4;
	if (s->v6) {
		ip[0] = 0x60;
		be16(ip + 4, m->len - m->l3 - 40);
		ip[6] = s->ip_options ? 60 : TCP;
		ip[7] = 64;
		for (int i = 0; i < 32; i++)
			ip[8 + i] = (uint8_t)(0xf0 + i);
		if (s->ip_options) {
			ip[40] = TCP;
			ip[41] = (uint8_t)(s->ip_options / 8 - 1);
		}
	} else {
		ip[0] = (uint8_t)(0x40 | (5 + s->ip_options / 4));
		be16(ip + 2, m->len - m->l3);
		be16(ip + 4, s->id);
		be16(ip + 6, 0x4000);
		ip[8] = 64;
		ip[9] = TCP;
		memcpy(ip + 12, "\x0a\0\0\x01\xc0\xa8\xff\xfe", 8);
		memset(ip + 20, 1, s->ip_options);
		be16(ip + 10, 0xffff - sum(0, ip, 20 + s->ip_options));
	}
	be16(tcp, 443);
	be16(tcp + 2, 50000);
	be32(tcp + 4, s->seq);
	be32(tcp + 8, 0x01020304);
	tcp[12] = (uint8_t)((5 + s->tcp_options / 4) << 4);
	tcp[13] = s->flags;
	be16(tcp + 14, 1000);
	be16(tcp + 18, 7);
	memset(tcp + 20, 1, s->tcp_options);
	memcpy(p + m->headers, payload, s->payload);
	uint32_t ph = pseudo(m, s->v6, TCP, m->len);
	be16(tcp + 16, whole ? 0xffff - sum(ph, tcp, m->len - m->l4) : ph);
}

static struct net_hdr gso_header(const struct made *m, bool v6, uint16_t mss)
{
	return (struct net_hdr){
		.flags = NET_HDR_F_NEEDS_CSUM,
		.gso_type = v6 ? NET_GSO_TCPV6 : NET_GSO_TCPV4,
		.hdr_len = (uint16_t)m->headers,
		.gso_size = mss,
		.csum_start = (uint16_t)m->l4,
		.csum_offset = 16,
	};
}

/* Reads the segments that a frame has to become. */
static void expect_segments(struct link *k, const struct shape *s, const uint8_t *payload, size_t mss)
{
	static struct made want;
	uint8_t got[NET_FRAME_MAX];

	for (size_t at = 0, i = 0; at < s->payload || i == 0; at += mss, i++) {
		struct shape seg = *s;
		seg.vlan = 0;
		seg.payload = MIN_OF(mss, s->payload - at);
		seg.seq += (uint32_t)at;
		seg.id = (uint16_t)(s->id + i);
		if (at + seg.payload < s->payload)
			seg.flags &= (uint8_t)~0x09; /* FIN, PSH */
		if (at)
			seg.flags &= 0x7f; /* CWR */
		make(&want, &seg, payload + at, true);
		assert_int_equal(peer_receive(k, got, sizeof(got)), want.len);
		assert_memory_equal(got, want.frame, want.len);
	}
}

/* ---- fixtures ---- */

static int start(void **state, bool vnet_hdr, uint16_t mtu, uint64_t features)
{
	struct link *k = malloc(sizeof(*k));

	link_init(k, vnet_hdr, mtu);
	link_start(k, features);
	*state = k;
	return 0;
}

static int setup(void **state)
{
	return start(state, false, LINK_MTU, LINK_FEATURES);
}

static int setup_jumbo(void **state)
{
	return start(state, false, 65535, LINK_FEATURES);
}

static int setup_vnet(void **state)
{
	return start(state, true, LINK_MTU, LINK_FEATURES);
}

static int setup_vnet_jumbo(void **state)
{
	return start(state, true, 65535, LINK_FEATURES);
}

static int setup_vnet_bare(void **state)
{
	return start(state, true, LINK_MTU, LINK_PLAIN);
}

static int setup_bare(void **state)
{
	return start(state, false, LINK_MTU, LINK_PLAIN);
}

static int teardown(void **state)
{
	link_done(*state);
	free(*state);
	return 0;
}

static uint8_t payload[NET_FRAME_MAX];
static struct made m;

static void drop(struct link *k, const struct net_hdr *h)
{
	uint64_t before = link_stats(k).tx_dropped;

	link_send(k, h, m.frame, m.len, link_random(k) % 10);
	tdrv_wait(&k->d, NET_TX, NULL);
	assert_int_equal(link_stats(k).tx_dropped, before + 1);
}

/* ---- 5.1.6.2: segments ---- */

static void cut_and_compare(struct link *k, const struct shape *s, uint16_t mss, unsigned cuts)
{
	make(&m, s, payload, false);
	const struct net_hdr h = gso_header(&m, s->v6, mss);
	link_send(k, &h, m.frame, m.len, cuts);
	expect_segments(k, s, payload, mss);
	link_reap(k);
}

static void s5_1_6_2_frames_are_cut(void **state)
{
	struct link *k = *state;

	link_fill(k, payload, sizeof(payload));
	for (unsigned i = 0; i < 200; i++) {
		if (i % 40 == 0)
			link_use(k, i / 40);
		struct shape s = {
			.v6 = i & 1,
			.vlan = k->at,
			.ip_options = link_random(k) % 3 * 8,
			.tcp_options = link_random(k) % 11 * 4,
			.flags = (uint8_t)link_random(k),
			.seq = UINT32_MAX - link_random(k) % 100000,
			.id = (uint16_t)(0xfff0 + link_random(k) % 20),
		};
		uint16_t mss = (uint16_t)(OFFLOAD_MSS_MIN + link_random(k) % 1300);
		s.payload =
			link_random(k) % 8 == 0 ? mss * (1 + link_random(k) % 10) : link_random(k) % 20000;
		cut_and_compare(k, &s, mss, link_random(k) % 30);
	}
	assert_int_equal(link_stats(k).tx_dropped, 0);
}

static void s5_1_6_2_largest_frames_are_cut(void **state)
{
	struct link *k = *state;

	link_fill(k, payload, sizeof(payload));
	for (int v6 = 0; v6 < 2; v6++) {
		struct shape s = {.v6 = v6, .tcp_options = 12, .flags = 0x99, .seq = 1};
		s.payload = NET_FRAME_MAX - 14 - (v6 ? 40 : 20) - 32;
		cut_and_compare(k, &s, v6 ? 1428 : 1448, 20);
		cut_and_compare(k, &s, 536, 0);
		cut_and_compare(k, &s, OFFLOAD_MSS_MIN, 20); /* the most segments that there can be */
	}
}

/* One segment may be as long as an IP packet can be, and no longer. */
static void s5_1_6_2_segments_fit_an_ip_packet(void **state)
{
	struct link *k = *state;
	struct shape s = {.payload = 65535 - 40};

	make(&m, &s, payload, false);
	struct net_hdr h = gso_header(&m, false, UINT16_MAX);
	link_send(k, &h, m.frame, m.len, 0);
	expect_segments(k, &s, payload, UINT16_MAX);
	s.payload++;
	make(&m, &s, payload, false);
	h = gso_header(&m, false, UINT16_MAX);
	link_send(k, &h, m.frame, m.len, 0);
	peer_expect_nothing(k);
	assert_int_equal(link_stats(k).tx_dropped, 1);
	h.gso_size = 40000;
	link_send(k, &h, m.frame, m.len, 0);
	expect_segments(k, &s, payload, 40000);
}

/* Long headers before every few bytes: more than we are ready to write for one frame. */
static void s5_1_6_2_amplification_is_bounded(void **state)
{
	struct link *k = *state;
	struct shape s = {.v6 = true, .ip_options = 96, .tcp_options = 40};

	s.payload = NET_FRAME_MAX - 14 - 40 - 96 - 60;
	make(&m, &s, payload, false);
	struct net_hdr h = gso_header(&m, true, OFFLOAD_MSS_MIN);
	drop(k, &h);
	cut_and_compare(k, &s, 120, 0);
}

static void s5_1_6_2_2_hdr_len_is_not_relied_on(void **state)
{
	struct link *k = *state;
	static const uint16_t wrong[] = {0, 1, 14, 60, 5000, UINT16_MAX};
	const struct shape s = {.payload = 5000, .flags = 0x18};

	for (unsigned i = 0; i < ARRAY_LEN(wrong); i++) {
		make(&m, &s, payload, false);
		struct net_hdr h = gso_header(&m, false, 1000);
		h.hdr_len = wrong[i];
		h.num_buffers = wrong[i];
		h.flags |= 0xf0; /* 5.1.6.2.2: unknown flags are ignored */
		link_send(k, &h, m.frame, m.len, 0);
		expect_segments(k, &s, payload, 1000);
	}
}

static void s5_1_6_2_1_malformed_headers(void **state)
{
	struct link *k = *state;
	const struct shape s = {.payload = 3000};

	make(&m, &s, payload, false);
	const struct net_hdr good = gso_header(&m, false, 1000);
	struct net_hdr h;
#define WITH(change) (h = good, change, drop(k, &h))
	WITH(h.flags = 0); /* what is cut needs its checksum */
	WITH(h.flags = NET_HDR_F_DATA_VALID);
	WITH(h.gso_size = 0);
	WITH(h.gso_size = OFFLOAD_MSS_MIN - 1);
	WITH(h.gso_size = 1500);  /* segments longer than the MTU */
	WITH(h.gso_type = 2);	  /* nothing */
	WITH(h.gso_type = 3);	  /* UFO */
	WITH(h.gso_type = 5);	  /* USO */
	WITH(h.gso_type |= 0x80); /* ECN was not offered */
	WITH(h.gso_type = 4);	  /* not what the frame is */
	WITH(h.csum_start -= 2);  /* not where TCP is */
	WITH(h.csum_start = 13);
	WITH(h.csum_start = UINT16_MAX);
	WITH(h.csum_offset = 6);
	WITH(h.csum_offset = UINT16_MAX);
	h = (struct net_hdr){.flags = 1, .csum_start = 34, .csum_offset = (uint16_t)(m.len - 35)};
	drop(k, &h); /* one byte of the field is outside */
#undef WITH
	peer_expect_nothing(k);
	link_send(k, &good, m.frame, m.len, 0);
	expect_segments(k, &s, payload, 1000);
}

/* Bytes of the headers that must be what they are. */
static void s5_1_6_2_malformed_packets_are_not_cut(void **state)
{
	struct link *k = *state;
	static const struct {
		bool v6;
		uint8_t at, value;
	} bad[] = {
		{false, 13, 0x06}, /* ARP */
		{false, 12, 0x09},
		{false, 14, 0x65}, /* version */
		{false, 14, 0x44},
		{false, 14, 0x4f}, /* IHL */
		{false, 23, UDP},
		{false, 20, 0x20},
		{false, 21, 1}, /* UDP, fragments */
		{false, 46, 0x40},
		{false, 46, 0xf0}, /* data offset */
		{true, 14, 0x45},
		{true, 20, 0},
		{true, 20, 43},
		{true, 20, 44},
		{true, 20, 60},
		{true, 20, 59},
		{true, 66, 0x40},
	};

	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		const struct shape s = {.v6 = bad[i].v6, .payload = i % 2 ? 4 : 3000};
		make(&m, &s, payload, false);
		const struct net_hdr h = gso_header(&m, bad[i].v6, 1000);
		m.frame[bad[i].at] = bad[i].value;
		drop(k, &h);
	}
	for (int v6 = 0; v6 < 2; v6++) { /* the frame ends within its headers */
		const struct shape s = {.v6 = v6};
		make(&m, &s, payload, false);
		const struct net_hdr h = gso_header(&m, v6, 1000);
		for (m.len = m.headers - 1; m.len > 0; m.len--)
			drop(k, &h);
	}
	peer_expect_nothing(k);
}

/* An extension header that would end behind what we look at. */
static void s5_1_6_2_endless_extension_headers(void **state)
{
	struct link *k = *state;
	const struct shape s = {.v6 = true, .ip_options = 8, .payload = 3000};

	make(&m, &s, payload, false);
	for (unsigned len = 1; len < 256; len++) {
		const struct net_hdr h = gso_header(&m, true, 1000);
		m.frame[m.l3 + 41] = (uint8_t)len;
		drop(k, &h);
	}
	memset(m.frame + m.l3 + 40, 0, 250); /* hop-by-hop options in a row */
	const struct net_hdr h = gso_header(&m, true, 1000);
	drop(k, &h);
}

/* ---- 5.1.6.2: checksums ---- */

static void s5_1_6_2_checksums_are_completed(void **state)
{
	struct link *k = *state;
	uint8_t got[NET_FRAME_MAX];
	static struct made want;

	link_fill(k, payload, sizeof(payload));
	for (unsigned i = 0; i < 200; i++) {
		if (i % 40 == 0)
			link_use(k, i / 40);
		struct shape s = {.v6 = i & 1,
			.vlan = k->at,
			.tcp_options = i % 5 * 4,
			.flags = 0x99,
			.payload = link_random(k) % 1400};
		make(&m, &s, payload, false);
		s.vlan = 0;
		make(&want, &s, payload, true);
		const struct net_hdr h = {
			.flags = NET_HDR_F_NEEDS_CSUM, .csum_start = (uint16_t)m.l4, .csum_offset = 16};
		link_send(k, &h, m.frame, m.len, link_random(k) % 20);
		assert_int_equal(peer_receive(k, got, sizeof(got)), want.len);
		assert_memory_equal(got, want.frame, want.len);
		link_reap(k);
	}
}

/* RFC 768: a checksum that comes to zero is sent as all ones. */
static void s5_1_6_2_udp_checksum_of_zero(void **state)
{
	struct link *k = *state;
	uint8_t frame[64] = {0}, got[64];
	const struct net_hdr h = {.flags = NET_HDR_F_NEEDS_CSUM, .csum_start = 34, .csum_offset = 6};

	be16(frame + 12, 0x0800);
	be16(frame + 34, 0xfffe); /* with the 1 of the field, the sum is all ones */
	be16(frame + 40, 1);
	link_send(k, &h, frame, sizeof(frame), 0);
	assert_int_equal(peer_receive(k, got, sizeof(got)), sizeof(frame));
	assert_int_equal(got[40], 0xff);
	assert_int_equal(got[41], 0xff);
}

/* 5.1.6.2.1, 2.2.1: what was not negotiated is not done. */
static void s5_1_6_2_1_offloads_that_were_not_negotiated(void **state)
{
	struct link *k = *state;
	const struct shape s = {.payload = 1000}, s6 = {.v6 = true, .payload = 1000};

	make(&m, &s, payload, false);
	struct net_hdr h = {.flags = NET_HDR_F_NEEDS_CSUM, .csum_start = (uint16_t)m.l4, .csum_offset = 16};
	drop(k, &h);
	h = gso_header(&m, false, 500);
	drop(k, &h);
	/* One of the two kinds. */
	link_start(k, LINK_PLAIN | NET_F_CSUM | NET_F_HOST_TSO6);
	drop(k, &h);
	make(&m, &s6, payload, false);
	h = gso_header(&m, true, 500);
	link_send(k, &h, m.frame, m.len, 0);
	expect_segments(k, &s6, payload, 500);
	/* 5.1.3.1: TSO requires CSUM */
	link_start(k, LINK_PLAIN | NET_F_HOST_TSO6);
	drop(k, &h);
}

/* ---- a peer that speaks of offloads itself ---- */

static void vnet_hdr_passes_frames_uncut(void **state)
{
	struct link *k = *state;
	uint8_t got[NET_HDR_LEN + NET_FRAME_MAX], raw[NET_HDR_LEN];
	const struct shape s = {.payload = 60000, .flags = 0x99};

	link_fill(k, payload, sizeof(payload));
	make(&m, &s, payload, false);
	struct net_hdr h = gso_header(&m, false, 1400);
	net_hdr_encode(raw, &h);
	h.hdr_len = 9999; /* what the peer gets is what is true */
	h.num_buffers = 77;
	h.flags |= 0xfe;
	link_send(k, &h, m.frame, m.len, 20);
	assert_int_equal(peer_receive(k, got, sizeof(got)), NET_HDR_LEN + m.len);
	assert_memory_equal(got, raw, NET_HDR_LEN);
	assert_memory_equal(got + NET_HDR_LEN, m.frame, m.len);
	h = (struct net_hdr){.gso_size = 3, .csum_start = 5, .csum_offset = 6, .hdr_len = 7};
	link_send(k, &h, m.frame, 100, 0);
	assert_int_equal(peer_receive(k, got, sizeof(got)), NET_HDR_LEN + 100);
	memset(raw, 0, sizeof(raw));
	assert_memory_equal(got, raw, NET_HDR_LEN);
	link_reap(k);
	h = gso_header(&m, true, 1400); /* malformed ones are not passed on either */
	drop(k, &h);
}

/*
 * IEEE 802.1Q: the peer of a link knows nothing of its tag, offsets included; nor does the guest of its absence.
 */
static void offsets_move_with_the_tag(void **state)
{
	struct link *k = *state;
	static struct made plain;
	static uint8_t got[NET_HDR_LEN + NET_FRAME_MAX];
	struct net_hdr h;

	link_fill(k, payload, sizeof(payload));
	for (unsigned i = 0; i < 60; i++) {
		if (i % 10 == 0)
			link_use(k, 1 + i / 10);
		const bool gso = i & 2;
		struct shape s = {.v6 = i & 1, .vlan = k->at, .tcp_options = 12, .flags = 0x10};
		s.payload = gso ? 5000 + link_random(k) % 60000 : link_random(k) % 1400;
		make(&m, &s, payload, false);
		s.vlan = 0;
		make(&plain, &s, payload, false);
		struct net_hdr tagged = gso_header(&m, s.v6, 1400), want = gso_header(&plain, s.v6, 1400);
		if (!gso) {
			tagged.gso_type = want.gso_type = NET_GSO_NONE;
			tagged.gso_size = tagged.hdr_len = want.gso_size = want.hdr_len = 0;
		}
		link_send(k, &tagged, m.frame, m.len, link_random(k) % 20);
		assert_int_equal(peer_receive(k, got, sizeof(got)), NET_HDR_LEN + plain.len);
		net_hdr_decode(&h, got);
		assert_memory_equal(&h, &want, sizeof(h));
		assert_memory_equal(got + NET_HDR_LEN, plain.frame, plain.len);
		link_reap(k);

		m.frame[14] = 0; /* no priority */
		link_post(k, NET_HDR_LEN + NET_FRAME_MAX + 4, i % 3 ? 1 + link_random(k) % 100 + 1100 : 0);
		link_kick_rx(k);
		peer_send(k, &want, plain.frame, plain.len);
		assert_int_equal(link_receive(k, &h, got, sizeof(got)), m.len);
		tagged.num_buffers = 1;
		assert_memory_equal(&h, &tagged, sizeof(h));
		assert_memory_equal(got, m.frame, m.len);
	}
}

static void a_checksum_inside_of_the_tag_is_refused(void **state)
{
	struct link *k = *state;
	const struct shape s = {.vlan = 3, .payload = 100};

	link_use(k, 3);
	make(&m, &s, payload, false);
	for (uint16_t at = 0; at < 18; at++) {
		const struct net_hdr h = {.flags = NET_HDR_F_NEEDS_CSUM, .csum_start = at, .csum_offset = 16};
		drop(k, &h);
	}
	/* Towards the guest an offset may not leave its 16 bits. */
	const size_t longest = 65535 + NET_ETH_LEN;
	struct net_hdr h = {.flags = NET_HDR_F_NEEDS_CSUM, .csum_start = UINT16_MAX - 3};
	memset(m.frame, 0, sizeof(m.frame));
	link_post(k, NET_HDR_LEN + NET_FRAME_MAX + 4, 0);
	link_kick_rx(k);
	peer_send(k, &h, m.frame, longest);
	h.csum_start--;
	peer_send(k, &h, m.frame, longest);
	static uint8_t got[NET_FRAME_MAX + 4];
	assert_int_equal(link_receive(k, &h, got, sizeof(got)), longest + 4);
	assert_int_equal(h.csum_start, UINT16_MAX);
	assert_int_equal(link_stats(k).rx_dropped, 1);
}

static void s5_1_6_4_1_large_frames_reach_the_guest(void **state)
{
	struct link *k = *state;
	static uint8_t got[NET_FRAME_MAX];
	struct net_hdr h, in;

	link_fill(k, payload, sizeof(payload));
	for (unsigned i = 0; i < 20; i++) {
		const struct shape s = {.v6 = i & 1, .payload = NET_FRAME_MAX - 14 - 40 - 20 - i * 1000};
		make(&m, &s, payload, false);
		in = gso_header(&m, s.v6, 1400);
		link_post(k, NET_HDR_LEN + NET_FRAME_MAX, 0);
		link_kick_rx(k);
		peer_send(k, &in, m.frame, m.len);
		assert_int_equal(link_receive(k, &h, got, sizeof(got)), m.len);
		assert_memory_equal(got, m.frame, m.len);
		in.num_buffers = 1;
		assert_memory_equal(&h, &in, sizeof(h));
	}
	/* A header that lies never reaches the guest. */
	link_post(k, NET_HDR_LEN + NET_FRAME_MAX, 0);
	link_kick_rx(k);
	in.csum_start = UINT16_MAX;
	peer_send(k, &in, m.frame, m.len);
	in = (struct net_hdr){.flags = NET_HDR_F_DATA_VALID | 4, .csum_start = 9};
	peer_send(k, &in, m.frame, 500);
	assert_int_equal(link_receive(k, &h, got, sizeof(got)), 500);
	assert_true(h.flags == NET_HDR_F_DATA_VALID && h.csum_start == 0);
	assert_int_equal(link_stats(k).rx_dropped, 1);
}

static void s5_1_6_4_1_a_guest_without_offloads_gets_whole_checksums(void **state)
{
	struct link *k = *state;
	static struct made want;
	uint8_t got[LINK_FRAME + 100];
	const struct shape s = {.payload = 1001};
	struct net_hdr h;

	link_post(k, 2000, 0);
	link_kick_rx(k);
	make(&m, &s, payload, false);
	make(&want, &s, payload, true);
	struct net_hdr in = gso_header(&m, false, 500); /* it could not take this */
	peer_send(k, &in, m.frame, m.len);
	in = (struct net_hdr){.flags = NET_HDR_F_NEEDS_CSUM | NET_HDR_F_DATA_VALID,
		.csum_start = (uint16_t)m.l4,
		.csum_offset = 16};
	peer_send(k, &in, m.frame, m.len);
	assert_int_equal(link_receive(k, &h, got, sizeof(got)), m.len);
	assert_true(h.flags == 0 && h.csum_start == 0 && h.csum_offset == 0);
	assert_memory_equal(got, want.frame, m.len);
	assert_int_equal(link_stats(k).rx_dropped, 1);
}

/* Judged again when buffers come, it is not completed again. */
static void a_checksum_is_completed_once(void **state)
{
	struct link *k = *state;
	static struct made want;
	uint8_t got[LINK_FRAME + 100];
	const struct shape s = {.payload = 1001};

	make(&m, &s, payload, false);
	make(&want, &s, payload, true);
	const struct net_hdr in = {
		.flags = NET_HDR_F_NEEDS_CSUM, .csum_start = (uint16_t)m.l4, .csum_offset = 16};
	peer_send(k, &in, m.frame, m.len);
	tdrv_settle(&k->d); /* it waits */
	link_post(k, 2000, 0);
	link_kick_rx(k);
	assert_int_equal(link_receive(k, NULL, got, sizeof(got)), m.len);
	assert_memory_equal(got, want.frame, m.len);
}

#define ON(s, t) \
	{ \
#t, t, setup_##s, teardown, NULL \
	}
#define RULE(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		RULE(s5_1_6_2_frames_are_cut),
		RULE(s5_1_6_2_largest_frames_are_cut),
		ON(jumbo, s5_1_6_2_segments_fit_an_ip_packet),
		RULE(s5_1_6_2_amplification_is_bounded),
		RULE(s5_1_6_2_2_hdr_len_is_not_relied_on),
		RULE(s5_1_6_2_1_malformed_headers),
		RULE(s5_1_6_2_malformed_packets_are_not_cut),
		RULE(s5_1_6_2_endless_extension_headers),
		RULE(s5_1_6_2_checksums_are_completed),
		RULE(s5_1_6_2_udp_checksum_of_zero),
		ON(bare, s5_1_6_2_1_offloads_that_were_not_negotiated),
		ON(vnet, vnet_hdr_passes_frames_uncut),
		ON(vnet, s5_1_6_4_1_large_frames_reach_the_guest),
		ON(vnet, offsets_move_with_the_tag),
		ON(vnet_jumbo, a_checksum_inside_of_the_tag_is_refused),
		ON(vnet_bare, a_checksum_is_completed_once),
		ON(vnet_bare, s5_1_6_4_1_a_guest_without_offloads_gets_whole_checksums),
	};
	return cmocka_run_group_tests_name("net-offload", tests, NULL, NULL);
}
