/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "test-fake.h"

static const uint8_t all[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

static int set_up(void **state)
{
	fake_init(NULL);
	return 0;
}

/* ---- ARP ---- */

struct arp {
	uint8_t head[6], op[2], sha[6], spa[4], tha[6], tpa[4];
};

/* From box 0, sender's last address byte and the target's. */
static struct arp arp(uint8_t op, uint8_t sender, uint8_t target)
{
	struct arp a = {.head = {0, 1, 8, 0, 6, 4},
		.op = {0, op},
		.spa = {10, 0, 0, sender},
		.tpa = {10, 0, 0, target}};

	memcpy(a.sha, fake.ports[0].a.mac, 6);
	if (!sender)
		a.spa[0] = 0;
	return a;
}

static void arp_input(const struct arp *a, size_t len)
{
	uint8_t frame[60] = {0};
	struct pkt k;

	memcpy(frame, all, 6);
	memcpy(frame + 6, fake.ports[0].a.mac, 6);
	frame[12] = 8;
	frame[13] = 6;
	memcpy(frame + 14, a, sizeof(*a));
	assert_true(fake_parse(&k, frame, len));
	fake_clear();
	neigh_arp(&fake.ports[0], &k);
}

static void check_arp(const uint8_t *mac, uint8_t sender, uint8_t target)
{
	struct arp want = {.head = {0, 1, 8, 0, 6, 4},
		.op = {0, 2},
		.spa = {10, 0, 0, target},
		.tpa = {sender ? 10 : 0, 0, 0, sender}};

	memcpy(want.sha, mac, 6);
	memcpy(want.tha, fake.ports[0].a.mac, 6);
	assert_int_equal(fake.n_frames, 1);
	const struct fake_frame *f = &fake.frames[0];
	assert_ptr_equal(f->to, &fake.ports[0]);
	assert_null(f->from);
	assert_int_equal(f->len, 42);
	assert_memory_equal(f->b, fake.ports[0].a.mac, 6);
	assert_memory_equal(f->b + 6, mac, 6);
	assert_memory_equal(f->b + 12, "\x08\x06", 2);
	assert_memory_equal(f->b + 14, &want, sizeof(want));
}

static void test_arp_answers(void **state)
{
	struct arp a = arp(1, 2, 1);

	arp_input(&a, 60); /* padded, as on a wire */
	check_arp(fake.g.mac, 2, 1);
	arp_input(&a, 42);
	check_arp(fake.g.mac, 2, 1);
	a = arp(1, 2, 3);
	arp_input(&a, 42);
	check_arp(fake.ports[1].a.mac, 2, 3);
	a = arp(1, 0, 3); /* whether the address is free: it is not */
	arp_input(&a, 42);
	check_arp(fake.ports[1].a.mac, 0, 3);
	/* Nobody's, the own one, gratuitous, a probe for the own one, and answers to nothing. */
	static const uint8_t silent[][3] = {
		{1, 2, 99}, {1, 2, 2}, {1, 0, 2}, {2, 2, 2}, {2, 2, 1}, {2, 0, 1}};
	for (size_t i = 0; i < ARRAY_LEN(silent); i++) {
		a = arp(silent[i][0], silent[i][1], silent[i][2]);
		arp_input(&a, 42);
		assert_int_equal(fake.n_frames, 0);
	}
	assert_int_equal(fake.g.spoofed, 0);
	assert_int_equal(fake.ports[0].stats.dropped, 0);
}

static void test_arp_poison(void **state)
{
	/* An answer or a request in another's name, or with another Ethernet address. */
	static const uint8_t foreign[][3] = {
		{2, 1, 3}, {2, 3, 1}, {1, 1, 3}, {1, 3, 1}, {2, 1, 1}, {1, 99, 1}};

	for (size_t i = 0; i < ARRAY_LEN(foreign); i++) {
		struct arp a = arp(foreign[i][0], foreign[i][1], foreign[i][2]);
		arp_input(&a, 42);
		assert_int_equal(fake.n_frames, 0);
		assert_int_equal(fake.g.spoofed, i + 1);
	}
	for (uint8_t op = 1; op <= 2; op++) {
		struct arp a = arp(op, 2, 1);
		a.sha[5] = 3;
		arp_input(&a, 42);
		assert_int_equal(fake.n_frames, 0);
		assert_int_equal(fake.g.spoofed, ARRAY_LEN(foreign) + op);
	}
	/* Other hardware, protocol, lengths, operations, and a frame that is too short. */
	for (size_t i = 0; i < 8; i++) {
		struct arp a = arp(1, 2, 1);
		((uint8_t *)&a)[i] ^= 0x10;
		arp_input(&a, 42);
		assert_int_equal(fake.n_frames, 0);
		assert_int_equal(fake.ports[0].stats.dropped, i + 1);
	}
	struct arp a = arp(1, 2, 1);
	arp_input(&a, 41);
	assert_int_equal(fake.n_frames, 0);
	assert_int_equal(fake.ports[0].stats.dropped, 9);
}

/* ---- neighbour discovery ---- */

struct nd {
	const char *src, *dst;
	uint8_t type, code, hops;
	const char *target;
	uint8_t opts[24];
	size_t opts_len;
	bool bad_sum, mapped; /* the target is box 1's IPv4 address */
};

static bool nd_input(const struct nd *n)
{
	struct net_addr src = fake_addr(n->src), dst = fake_addr(n->dst), target = fake_addr(n->target);
	const struct pkt_out o = {.eth_dst = fake.g.mac,
		.eth_src = fake.ports[0].a.mac,
		.src = &src,
		.dst = &dst,
		.proto = IPPROTO_ICMPV6,
		.ttl = n->hops ? n->hops : 255};
	uint8_t frame[200];
	size_t len = 24 + n->opts_len, head = pkt_put_headers(frame, &o, len);
	struct pkt k;

	uint8_t *m = frame + head;
	memset(m, 0, len);
	m[0] = n->type;
	m[1] = n->code;
	memcpy(m + 8, n->mapped ? fake.ports[1].a.ip4.b : target.b, 16);
	memcpy(m + 24, n->opts, n->opts_len);
	uint16_t sum = fake_icmp_sum(&src, &dst, m, len);
	sum ^= n->bad_sum;
	memcpy(m + 2, &sum, 2);
	assert_true(fake_parse(&k, frame, head + len));
	fake_clear();
	return neigh_nd(&fake.ports[0], &k);
}

static void check_na(const uint8_t *mac, const char *src, const char *dst, uint8_t flags)
{
	const struct fake_frame *f = &fake.frames[0];
	struct net_addr from = fake_addr(src), to = fake_addr(dst);
	struct pkt k;

	assert_int_equal(fake.n_frames, 1);
	assert_ptr_equal(f->to, &fake.ports[0]);
	assert_true(fake_parse(&k, f->b, f->len));
	assert_memory_equal(k.eth_src, mac, 6);
	assert_memory_equal(
		k.eth_dst, to.b[0] == 0xff ? (const uint8_t *)"\x33\x33\0\0\0\1" : fake.ports[0].a.mac, 6);
	assert_true(net_addr_equal(&k.src, &from) && net_addr_equal(&k.dst, &to));
	assert_int_equal(k.ttl, 255);
	assert_int_equal(k.icmp_type, 136);
	assert_int_equal(k.l4_len, 32);
	assert_int_equal(fake_icmp_sum(&k.src, &k.dst, f->b + k.l4, k.l4_len), 0);
	assert_int_equal(f->b[k.l4 + 4], flags);
	assert_memory_equal(f->b + k.l4 + 8, from.b, 16);
	assert_memory_equal(f->b + k.l4 + 24, "\2\1", 2);
	assert_memory_equal(f->b + k.l4 + 26, mac, 6);
}

static void test_nd_answers(void **state)
{
	/* As Linux asks: with its own Ethernet address as an option, or (unicast) without */
	assert_true(nd_input(&(struct nd){.src = "fd00::2",
		.dst = "ff02::1:ff00:1",
		.type = 135,
		.target = "fd00::1",
		.opts = {1, 1, 2, 0, 0, 0, 0, 2},
		.opts_len = 8}));
	check_na(fake.g.mac, "fd00::1", "fd00::2", 0xe0);
	assert_true(
		nd_input(&(struct nd){.src = "fd00::2", .dst = "fd00::3", .type = 135, .target = "fd00::3"}));
	check_na(fake.ports[1].a.mac, "fd00::3", "fd00::2", 0x60);
	assert_true(nd_input(&(struct nd){.src = "fe80::2",
		.dst = "fd00::3",
		.type = 135,
		.target = "fd00::3",
		.opts = {14, 1, 1, 2, 3, 4, 5, 6, 1, 1, 2, 0, 0, 0, 0, 2},
		.opts_len = 16}));
	check_na(fake.ports[1].a.mac, "fd00::3", "fe80::2", 0x60);
	/* Whether another's address is free */
	assert_true(nd_input(
		&(struct nd){.src = "::", .dst = "ff02::1:ff00:3", .type = 135, .target = "fd00::3"}));
	check_na(fake.ports[1].a.mac, "fd00::3", "ff02::1", 0x20);

	static const struct nd silent[] = {
		{.src = "::",
			.dst = "ff02::1:ff00:2",
			.type = 135,
			.target = "fd00::2"}, /* the own one, free */
		{.src = "fd00::2", .dst = "ff02::1:ff00:2", .type = 135, .target = "fd00::2"},
		{.src = "fd00::2", .dst = "ff02::1:ff00:99", .type = 135, .target = "fd00::99"},
		{.src = "fd00::2", .dst = "ff02::1:ff00:1", .type = 135, .target = "fe80::1"},
		{.src = "fe80::2", .dst = "ff02::2", .type = 133, .target = "::"},
		{.src = "fd00::2",
			.dst = "ff02::1",
			.type = 136,
			.target = "fd00::2",
			.opts = {2, 1, 2, 0, 0, 0, 0, 2},
			.opts_len = 8},
	};
	for (size_t i = 0; i < ARRAY_LEN(silent); i++) {
		assert_true(nd_input(&silent[i]));
		assert_int_equal(fake.n_frames, 0);
	}
	assert_int_equal(fake.g.spoofed, 0);
	assert_int_equal(fake.ports[0].stats.dropped, 0);
	assert_false(nd_input(&(struct nd){.src = "fd00::2", .dst = "fd00::1", .type = 128, .target = "::"}));
	assert_false(
		nd_input(&(struct nd){.src = "fd00::2", .dst = "ff02::16", .type = 143, .target = "::"}));
}

static void test_nd_poison(void **state)
{
	static const struct nd foreign[] = {
		{.src = "fd00::3", .dst = "fd00::1", .type = 135, .target = "fd00::1"},
		{.src = "fd00::2",
			.dst = "fd00::1",
			.type = 135,
			.target = "fd00::1",
			.opts = {1, 1, 2, 0, 0, 0, 0, 3},
			.opts_len = 8},
		{.src = "fd00::2", .dst = "fd00::3", .type = 136, .target = "fd00::1"},
		{.src = "fd00::2",
			.dst = "ff02::1",
			.type = 136,
			.target = "fd00::2",
			.opts = {2, 1, 2, 0, 0, 0, 0, 3},
			.opts_len = 8},
		{.src = "fe80::2", .dst = "ff02::1", .type = 134, .target = "::"},
		{.src = "fe80::2", .dst = "fd00::3", .type = 137, .target = "fd00::1"},
	};
	for (size_t i = 0; i < ARRAY_LEN(foreign); i++) {
		assert_true(nd_input(&foreign[i]));
		assert_int_equal(fake.n_frames, 0);
		if (fake.g.spoofed != i + 1)
			fail_msg("case %zu", i);
	}

	/* RFC 4861 section 7.1.1 */
	static const struct nd invalid[] = {
		{.mapped = true},
		{.hops = 254},
		{.code = 1},
		{.bad_sum = true},
		{.target = "ff02::1:ff00:1"},
		{.opts_len = 8},
		{.opts = {1, 2}, .opts_len = 8},
		{.opts = {9, 1}, .opts_len = 9},
		{.opts = {9, 1}, .opts_len = 10},
		{.src = "::", .dst = "fd00::3"},
		{.src = "::", .dst = "ff02::1:ff00:1"},
		{.src = "::", .dst = "ff02::1:ff00:3", .opts = {1, 1, 2, 0, 0, 0, 0, 2}, .opts_len = 8},
	};
	for (size_t i = 0; i < ARRAY_LEN(invalid); i++) {
		struct nd n = invalid[i];
		n.type = 135;
		n.src = n.src ? n.src : "fd00::2";
		n.dst = n.dst ? n.dst : "fd00::3";
		n.target = n.target ? n.target : "fd00::3";
		assert_true(nd_input(&n));
		assert_int_equal(fake.n_frames, 0);
		if (fake.ports[0].stats.dropped != i + 1)
			fail_msg("case %zu", i);
	}
	assert_int_equal(fake.g.spoofed, ARRAY_LEN(foreign));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_arp_answers, set_up),
		cmocka_unit_test_setup(test_arp_poison, set_up),
		cmocka_unit_test_setup(test_nd_answers, set_up),
		cmocka_unit_test_setup(test_nd_poison, set_up),
	};

	return cmocka_run_group_tests_name("net-neigh", tests, NULL, NULL);
}
