/* SPDX-License-Identifier: MIT */
/*
 * An engine for tests of its parts: some boxes whose frames are kept instead of sent, and a policy that says what it is told
 * to. Their clock and timer are the test's too (time_mono_ns, loop_add_timer and loop_set_timer are renamed by
 * meson.build). Box N (0 to FAKE_PORTS - 1) is 10.0.0.(N + 2) and fd00::(N + 2), with the Ethernet address
 * 02:00:00:00:00:(N + 2); the gateway has 1.
 */
#ifndef NET_TEST_FAKE_H
#define NET_TEST_FAKE_H

#include "engine.h"

enum { FAKE_PORTS = 3, FAKE_FRAMES = 8 };

struct fake {
	struct engine g;
	struct port ports[FAKE_PORTS];
	struct fake_frame {
		struct port *to, *from;
		struct vnet_hdr vnet;
		size_t len;
		uint8_t b[PKT_FRAME_MAX + 64];
	} frames[FAKE_FRAMES]; /* the first ones since fake_clear */
	unsigned n_frames;
	bool deny;		      /* what policy_allows says */
	unsigned asked;		      /* how often it was, quietly or not */
	int outside;		      /* what engine_outside returns */
	struct net_addr host4, host6; /* and where it leads */
	bool seen_as_gateway;	      /* what engine_seen_as says */
	uint64_t now_ns,
		timer_ns; /* the clock, and when the last timer that was added goes off; UINT64_MAX: never */
	loop_fn timer_fn;
	void *timer_data;
};
extern struct fake fake;

/* loop NULL: none is needed. */
void fake_init(struct loop *loop);
void fake_clear(void);
/* Time goes by, and the timer goes off as often as it is due. */
void fake_sleep(uint64_t ns);
struct net_addr fake_addr(const char *s);
/* An IP packet from a box in a frame to the gateway; 70000 bytes are enough. Returns its length. */
size_t fake_ip(uint8_t *frame, unsigned port, const char *dst, uint8_t proto, const void *l4, size_t len);
/* Parses without a virtio header; false when it is malformed. */
bool fake_parse(struct pkt *k, const uint8_t *frame, size_t len);
/* The checksum of an ICMP or ICMPv6 message of len bytes, whose field is zero. */
uint16_t fake_icmp_sum(const struct net_addr *src, const struct net_addr *dst, const void *icmp, size_t len);

#endif
