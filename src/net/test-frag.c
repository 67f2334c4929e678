/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "test-fake.h"

static uint8_t data[65536];

static int set_up(void **state)
{
	fake_init(NULL);
	assert_int_equal(frag_new(&fake.g), 0);
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 7 + (i >> 8));
	return 0;
}

static int tear_down(void **state)
{
	for (unsigned i = 0; i < FAKE_PORTS; i++) {
		frag_port_gone(&fake.ports[i]);
		assert_int_equal(fake.ports[i].n_frags, 0);
	}
	frag_free(&fake.g);
	return 0;
}

static const char *dst(bool is4)
{
	return is4 ? "10.0.0.1" : "fd00::1";
}

/* A fragment of a box's datagram. Returns what frag_input does. */
static size_t input(unsigned port, bool is4, uint8_t proto, uint32_t id, const void *bytes, size_t off,
	size_t len, bool more, const uint8_t **ret_frame)
{
	static uint8_t frame[70000], l4[70000];
	struct pkt k;
	size_t n;

	if (is4) {
		n = fake_ip(frame, port, dst(true), proto, bytes, len);
		frame[18] = (uint8_t)(id >> 8);
		frame[19] = (uint8_t)id;
		frame[20] = (uint8_t)(off >> 11 | (more ? 0x20 : 0));
		frame[21] = (uint8_t)(off >> 3);
		frame[24] = frame[25] = 0;
		uint16_t sum = inet_sum_finish(inet_sum(0, frame + 14, 20));
		memcpy(frame + 24, &sum, 2);
	} else {
		const uint8_t head[8] = {proto, 0, (uint8_t)(off >> 8), (uint8_t)(off | more),
			(uint8_t)(id >> 24), (uint8_t)(id >> 16), (uint8_t)(id >> 8), (uint8_t)id};
		memcpy(l4, head, 8);
		memcpy(l4 + 8, bytes, len);
		n = fake_ip(frame, port, dst(false), IPPROTO_FRAGMENT, l4, 8 + len);
	}
	if (!fake_parse(&k, frame, n) || !k.fragment)
		fail_msg("no fragment: %zu %zu", off, len);
	return frag_input(&fake.ports[port], &k, ret_frame);
}

static size_t udp(unsigned port, bool is4, uint32_t id, size_t off, size_t len, bool more)
{
	const uint8_t *frame;

	return input(port, is4, IPPROTO_UDP, id, data + off, off, len, more, &frame);
}

/* Makes data a datagram of so many bytes, header included. */
static void set_udp(size_t len)
{
	memcpy(data, (const uint8_t[]){0x12, 0x34, 0, 53, (uint8_t)(len >> 8), (uint8_t)len, 0xaa, 0xbb}, 8);
}

static void check_whole(const uint8_t *frame, size_t len, bool is4, size_t data_len)
{
	struct pkt k;

	assert_int_equal(len, (is4 ? 34 : 54) + data_len);
	assert_true(fake_parse(&k, frame, len));
	assert_false(k.fragment);
	assert_int_equal(k.proto, IPPROTO_UDP);
	assert_int_equal(k.sport, 0x1234);
	assert_int_equal(k.dport, 53);
	assert_int_equal(k.ttl, 64);
	assert_int_equal(k.l4_len, data_len);
	assert_memory_equal(frame + k.l4, data, data_len);
	assert_memory_equal(k.eth_src, fake.ports[0].a.mac, 6);
	assert_memory_equal(k.eth_dst, fake.g.mac, 6);
}

static void test_orders(void **state)
{
	static const uint8_t orders[][4] = {{0, 1, 2, 3}, {3, 2, 1, 0}, {1, 3, 0, 2}, {2, 0, 3, 1}};
	const uint8_t *frame = NULL;

	for (unsigned is4 = 0; is4 < 2; is4++) {
		for (size_t size = 4001; size < 65515; size = size * 2 + 3) {
			size_t piece = (size + 31) / 32 * 8;
			set_udp(size);
			for (unsigned o = 0; o < ARRAY_LEN(orders); o++) {
				size_t len = 0;
				for (unsigned i = 0; i < 4; i++) {
					size_t off = orders[o][i] * piece;
					assert_int_equal(len, 0);
					len = input(0, is4, IPPROTO_UDP, 77, data + off, off,
						MIN_OF(piece, size - off), orders[o][i] < 3, &frame);
				}
				check_whole(frame, len, is4, size);
			}
		}
	}
	assert_int_equal(fake.ports[0].n_frags, 0);
	assert_int_equal(fake.ports[0].stats.dropped, 0);
}

static void test_apart(void **state)
{
	/* What differs in box, identification, family, or IPv4's protocol is another packet. */
	const uint8_t *frame;

	set_udp(1000);
	assert_int_equal(udp(0, true, 1, 0, 800, true), 0);
	assert_int_equal(udp(1, true, 1, 800, 200, false), 0);
	assert_int_equal(udp(0, true, 2, 800, 200, false), 0);
	assert_int_equal(udp(0, false, 1, 800, 200, false), 0);
	assert_int_equal(input(0, true, 132, 1, data + 800, 800, 200, false, &frame), 0);
	assert_int_equal(fake.ports[0].n_frags, 4);
	assert_int_equal(udp(0, true, 1, 800, 200, false), 1034);
	assert_int_equal(fake.ports[0].n_frags, 3);
	/* IPv6's next header is the first fragment's (RFC 8200 section 4.5). */
	assert_int_equal(input(0, false, 132, 1, data, 0, 800, true, &frame), 1054);
	assert_int_equal(frame[20], 132);
	assert_int_equal(udp(0, false, 2, 0, 800, true), 0);
	size_t len = input(0, false, 132, 2, data + 800, 800, 200, false, &frame);
	check_whole(frame, len, false, 1000);
	frag_port_gone(&fake.ports[0]);
	assert_int_equal(fake.ports[1].n_frags, 1);
}

static void test_misfits(void **state)
{
	static const struct {
		struct {
			uint16_t off, len;
			bool more;
		} f[3];
		size_t n;
	} cases[] = {
		{{{0, 80, true}, {72, 80, true}, {152, 8, false}}, 3},	/* overlap */
		{{{0, 80, true}, {0, 80, true}, {80, 80, false}}, 3},	/* the same again */
		{{{80, 80, true}, {0, 88, true}, {160, 8, false}}, 3},	/* overlap from below */
		{{{0, 80, true}, {80, 9, false}, {88, 8, true}}, 3},	/* behind the last, in its unit */
		{{{160, 9, false}, {0, 80, true}, {168, 8, true}}, 3},	/* the same, before it is whole */
		{{{0, 80, true}, {160, 80, true}, {80, 80, false}}, 3}, /* a last one that is not */
		{{{160, 8, false}, {80, 8, false}, {0, 80, true}}, 3},	/* two last ones */
		{{{0, 80, true}, {65504, 31, false}}, 2},		/* with its header over 65535: IPv4 */
	};

	for (unsigned is4 = 0; is4 < 2; is4++) {
		for (size_t c = 0; c < ARRAY_LEN(cases); c++) {
			uint64_t before = fake.ports[0].stats.dropped;
			if (c == 7 && !is4)
				continue; /* IPv6 does not count its header */
			set_udp(c == 3 ? 89 : 168);
			for (size_t i = 0; i < cases[c].n; i++) {
				size_t len = udp(
					0, is4, 5, cases[c].f[i].off, cases[c].f[i].len, cases[c].f[i].more);
				/* Case 3 is whole with its second fragment; what comes behind begins anew. */
				if (c == 3 && i == 1)
					assert_int_equal(len, (is4 ? 34 : 54) + 89);
				else if (len)
					fail_msg("case %zu", c);
			}
			if (c != 3 && fake.ports[0].stats.dropped == before)
				fail_msg("case %zu is not counted", c);
			/* Nothing of what ended is taken up again (RFC 5722). */
			if (c != 3) {
				set_udp(168);
				assert_int_equal(udp(0, is4, 5, 0, 80, true), 0);
				assert_int_equal(udp(0, is4, 5, 80, 88, false), 0);
				assert_int_equal(fake.ports[0].n_frags, 1);
			}
			frag_port_gone(&fake.ports[0]);
		}
	}
}

static void test_hidden_headers(void **state)
{
	const uint8_t *frame;
	uint8_t b[96] = {0};

	/* A whole that is a fragment, within one fragment and within two. */
	b[0] = IPPROTO_UDP;
	assert_int_equal(input(0, false, IPPROTO_FRAGMENT, 1, b, 0, 40, false, &frame), 0);
	assert_int_equal(input(0, false, IPPROTO_FRAGMENT, 1, b, 0, 40, true, &frame), 0);
	assert_int_equal(input(0, false, IPPROTO_FRAGMENT, 1, b, 40, 40, false, &frame), 0);
	/* Hop-by-hop options where they may not be. */
	memcpy(b, (const uint8_t[]){IPPROTO_UDP, 0, 1, 4, 0, 0, 0, 0, 1, 2, 3, 4, 0, 16}, 14);
	assert_int_equal(input(0, false, IPPROTO_HOPOPTS, 1, b, 0, 24, false, &frame), 0);
	assert_int_equal(input(0, false, IPPROTO_DSTOPTS, 1, b, 0, 24, false, &frame), 54 + 24);
	/* The header that says what it is about in the second fragment (RFC 7112). */
	assert_int_equal(input(0, false, IPPROTO_DSTOPTS, 1, b, 0, 8, true, &frame), 0);
	assert_int_equal(input(0, false, IPPROTO_DSTOPTS, 1, b + 8, 8, 16, false, &frame), 0);
	assert_int_equal(input(0, false, IPPROTO_DSTOPTS, 1, b, 0, 16, true, &frame), 0);
	assert_int_equal(input(0, false, IPPROTO_DSTOPTS, 1, b + 16, 16, 8, false, &frame), 54 + 24);
	/* TCP whose options go on in the second fragment */
	memset(b, 0, sizeof(b));
	b[12] = 0xf0;
	assert_int_equal(input(0, true, IPPROTO_TCP, 1, b, 0, 56, true, &frame), 0);
	assert_int_equal(input(0, true, IPPROTO_TCP, 1, b + 56, 56, 40, false, &frame), 0);
	assert_int_equal(input(0, true, IPPROTO_TCP, 1, b, 0, 64, true, &frame), 0);
	assert_int_equal(input(0, true, IPPROTO_TCP, 1, b + 64, 64, 32, false, &frame), 34 + 96);
	/* Not what its length says */
	set_udp(100);
	assert_int_equal(udp(0, true, 1, 0, 80, true), 0);
	assert_int_equal(udp(0, true, 1, 80, 88, false), 0);
	assert_int_equal(fake.ports[0].n_frags, 0);
	assert_int_equal(fake.ports[0].stats.dropped, 6);
	/* A packet of one fragment leaves those that wait alone (RFC 6946). */
	set_udp(80);
	assert_int_equal(udp(0, false, 9, 0, 40, true), 0);
	size_t len = input(0, false, IPPROTO_UDP, 9, data, 0, 80, false, &frame);
	check_whole(frame, len, false, 80);
	assert_int_equal(udp(0, false, 9, 40, 40, false), 54 + 80);
}

static void test_bounds(void **state)
{
	/* Packets of a box: the oldest goes. */
	for (uint32_t id = 0; id <= ENGINE_FRAGS_PER_PORT; id++)
		assert_int_equal(udp(0, true, id, 0, 800, true), 0);
	assert_int_equal(fake.ports[0].n_frags, ENGINE_FRAGS_PER_PORT);
	assert_int_equal(fake.ports[0].stats.dropped, 1);
	set_udp(1000);
	assert_int_equal(
		udp(0, true, ENGINE_FRAGS_PER_PORT, 800, 200, false), 0); /* its header had another length */
	assert_int_equal(udp(0, true, 0, 800, 200, false), 0);
	/* Their bytes: small ones with a great offset take whole buffers. */
	frag_port_gone(&fake.ports[0]);
	for (uint32_t id = 0; id < 100; id++)
		assert_int_equal(udp(0, true, id, 65400, 8, true), 0);
	assert_in_range(fake.ports[0].n_frags, 14, 16);
	/* Others have their own. */
	set_udp(1000);
	assert_int_equal(udp(1, true, 1, 0, 800, true), 0);
	for (uint32_t id = 0; id < 100; id++)
		assert_int_equal(udp(0, true, id, 65400, 8, true), 0);
	assert_int_equal(udp(1, true, 1, 800, 200, false), 1034);
}

static void test_timeout(void **state)
{
	set_udp(1000);
	assert_int_equal(udp(0, true, 1, 0, 800, true), 0);
	fake_sleep(4900000000);
	assert_int_equal(udp(0, true, 2, 0, 800, true), 0);
	assert_int_equal(udp(1, true, 3, 0, 800, true), 0);
	assert_int_equal(fake.ports[0].n_frags, 2);
	fake_sleep(1200000000);
	assert_int_equal(fake.ports[0].n_frags, 1);
	assert_int_equal(fake.ports[0].stats.dropped, 1);
	assert_int_equal(udp(0, true, 1, 800, 200, false), 0);
	assert_int_equal(udp(0, true, 2, 800, 200, false), 1034);
	assert_int_equal(udp(1, true, 3, 800, 200, false), 1034);
	frag_port_gone(&fake.ports[0]);
	fake_sleep(10000000000);
	assert_int_equal(fake.timer_ns, UINT64_MAX); /* nothing waits */
}

static void test_output(void **state)
{
	static uint8_t frame[70000];
	const struct vnet_hdr none = {0};
	const uint8_t *whole = NULL;
	struct pkt k;

	/* What fits goes as it is, and so does what the receiver's device is to cut or sum. */
	set_udp(1000);
	size_t len = fake_ip(frame, 0, dst(true), IPPROTO_UDP, data, 1000);
	frag_output(&fake.ports[1], &fake.ports[0], &none, frame, len);
	assert_int_equal(fake.n_frames, 1);
	assert_int_equal(fake.frames[0].len, len);
	assert_ptr_equal(fake.frames[0].from, &fake.ports[0]);
	assert_memory_equal(fake.frames[0].b, frame, len);
	len = fake_ip(frame, 0, dst(true), IPPROTO_UDP, data, 65515);
	const struct vnet_hdr v = {.flags = VNET_NEEDS_CSUM, .csum_start = 34, .csum_offset = 6};
	fake_clear();
	frag_output(&fake.ports[1], NULL, &v, frame, len);
	assert_int_equal(fake.n_frames, 1);
	assert_int_equal(fake.frames[0].vnet.csum_start, 34);

	for (unsigned is4 = 0; is4 < 2; is4++) { /* cut, and put together again */
		size_t size = is4 ? 65515 : 65535;
		set_udp(size);
		len = fake_ip(frame, 0, dst(is4), IPPROTO_UDP, data, size);
		fake_clear();
		frag_output(&fake.ports[1], NULL, &none, frame, len);
		assert_int_equal(fake.n_frames, 2);
		for (unsigned i = 0; i < 2; i++) {
			assert_true(fake.frames[i].len <= 14 + NETD_MTU);
			assert_true(fake_parse(&k, fake.frames[i].b, fake.frames[i].len));
			assert_true(k.fragment);
			assert_int_equal(k.more, !i);
			size_t n = frag_input(&fake.ports[0], &k, &whole);
			assert_int_equal(n, i ? len : 0);
		}
		check_whole(whole, len, is4, size);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_orders, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_apart, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_misfits, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_hidden_headers, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_bounds, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_timeout, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_output, set_up, tear_down),
	};

	return cmocka_run_group_tests_name("net-frag", tests, NULL, NULL);
}
