/* SPDX-License-Identifier: MIT */
/*
 * Fragments in any order from two boxes. Input: steps of 8 bytes:
 *
 *     u8  1: IPv6, 2: more fragments, 4: time goes by, 8: the box goes, 16: which box
 *     u8  identification
 *     u16 offset in units of 8 bytes, u16 length of data, big endian
 *     u8  protocol, or what time goes by in units of 100 ms
 *     u8  what the data's bytes are made from, if not 0
 *
 * Each byte of a packet follows from its identification and place, unless a step says otherwise. Checked: that a whole has
 * just these bytes, parses, and comes out of cutting it and putting it together once more; the bounds of what waits; that
 * nothing is left when the boxes are gone.
 */
#include <string.h>

#include "test-fake.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
	STEP = 8,
	IS6 = 1,
	MORE = 2,
	SLEEP = 4,
	GONE = 8,
	EXPERIMENTAL = 253 /* RFC 3692: no header to be parsed */
};

#define CHECK(x) \
	do { \
		if (!(x)) \
			__builtin_trap(); \
	} while (0)

static uint8_t byte_of(uint8_t id, size_t at)
{
	return (uint8_t)(id + at * 3 + (at >> 8));
}

/* Returns the length of the frame. */
static size_t make(uint8_t *frame, const uint8_t *s)
{
	static uint8_t l4[66000];
	size_t off = (s[2] << 8 | s[3]) % 8192 * 8U, len = s[4] << 8 | s[5], head = s[0] & IS6 ? 8 : 0;
	unsigned port = s[0] >> 4 & 1;

	memset(l4, 0, head);
	for (size_t i = 0; i < len; i++)
		l4[head + i] = s[7] ? (uint8_t)(s[7] * i) : byte_of(s[1], off + i);
	if (s[0] & IS6) {
		l4[0] = s[6];
		l4[2] = (uint8_t)(off >> 8);
		l4[3] = (uint8_t)(off | (s[0] & MORE ? 1 : 0));
		l4[7] = s[1];
		len = MIN_OF(len + 8, PKT_FRAME_MAX - 54U);
		return fake_ip(frame, port, "fd00::1", IPPROTO_FRAGMENT, l4, len);
	}
	len = fake_ip(frame, port, "10.0.0.1", s[6], l4, MIN_OF(len, 65515U));
	frame[19] = s[1];
	frame[20] = (uint8_t)(off >> 11 | (s[0] & MORE ? 0x20 : 0));
	frame[21] = (uint8_t)(off >> 3);
	memset(frame + 24, 0, 2);
	uint16_t sum = inet_sum_finish(inet_sum(0, frame + 14, 20));
	memcpy(frame + 24, &sum, sizeof(sum));
	return len;
}

static void check_whole(struct port *p, const struct pkt *k, const uint8_t *frame, size_t len, bool pure)
{
	static uint8_t kept[PKT_WHOLE_MAX];
	const uint8_t *again = frame;
	struct pkt whole, part;

	CHECK(len <= PKT_WHOLE_MAX && fake_parse(&whole, frame, len) && !whole.fragment && whole.len == len);
	CHECK(net_addr_equal(&whole.src, &k->src) && net_addr_equal(&whole.dst, &k->dst));
	if (whole.proto == EXPERIMENTAL && pure)
		for (size_t i = 0; i < whole.l4_len; i++)
			CHECK(frame[whole.l4 + i] == byte_of((uint8_t)k->frag_id, i));
	if (len <= ETH_HDR_LEN + NETD_MTU || (whole.is6 && whole.l4 != 54))
		return;
	memcpy(kept, frame, len);
	fake_clear();
	frag_output(p, NULL, &(struct vnet_hdr){0}, kept, len);
	CHECK(fake.n_frames == 2);
	for (unsigned i = 0; i < 2; i++) {
		CHECK(fake_parse(&part, fake.frames[i].b, fake.frames[i].len) && part.fragment);
		size_t n = frag_input(&fake.ports[2], &part, &again); /* one where nothing waits */
		CHECK(n == (i ? len : 0));
	}
	CHECK(memcmp(again + whole.l4, kept + whole.l4, whole.l4_len) == 0);
}

static void step(const uint8_t *s, bool *pure)
{
	static uint8_t frame[70000];
	struct port *p = &fake.ports[s[0] >> 4 & 1];
	const uint8_t *whole = NULL;
	struct pkt k;

	if (s[0] & SLEEP) {
		fake_sleep(s[6] * 100000000ULL);
		return;
	}
	if (s[0] & GONE) {
		frag_port_gone(p);
		CHECK(p->n_frags == 0);
		return;
	}
	size_t len = make(frame, s);
	*pure &= !s[7];
	if (!fake_parse(&k, frame, len) || !k.fragment)
		return;
	len = frag_input(p, &k, &whole);
	CHECK(p->n_frags <= ENGINE_FRAGS_PER_PORT);
	if (len)
		check_whole(p, &k, whole, len, *pure);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	bool pure = true;

	fake_init(NULL);
	CHECK(frag_new(&fake.g) == 0);
	for (size_t at = 0; at + STEP <= size && at < 500 * STEP; at += STEP)
		step(data + at, &pure);
	fake_sleep(7000000000);
	for (unsigned i = 0; i < FAKE_PORTS; i++)
		CHECK(fake.ports[i].n_frags == 0);
	CHECK(fake.timer_ns == UINT64_MAX);
	frag_free(&fake.g);
	return 0;
}
