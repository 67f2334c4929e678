/* SPDX-License-Identifier: MIT */
/*
 * A box whose segments a test (or a fuzzer) writes by hand, before the real tcp*.c and sockets of this host's
 * loopback. The clock and the loop's timers are the test's (meson.build renames them). 10.0.0.2 and fd00::2 is the
 * box, 10.0.0.1 and fd00::1 the gateway; all else leads to the loopback.
 */
#ifndef NET_TEST_TCP_BOX_H
#define NET_TEST_TCP_BOX_H

#include "tcp.h"

enum { SEGMENTS = 64, BOX_PORT = 1000, BOX_ISS = 5000, BOX_WINDOW = 8000 };

struct seg { /* of a connection, either way */
	bool is6;
	uint16_t sport, dport, window, mss, gso; /* mss: 0 none */
	int wscale;				 /* -1: none */
	uint32_t seq, ack;
	uint8_t flags;
	const uint8_t *data; /* towards the box: malloc'd with the frame */
	size_t len;
	struct net_addr peer; /* the side that is not the box */
};

struct tcp_box {
	struct engine g;
	struct port p;
	struct seg seg[SEGMENTS]; /* towards the box */
	uint8_t *frame[SEGMENTS];
	unsigned n, read; /* read: of those, returned by box_next */
	bool deny, no_room, drop, keep_none;
	int outside; /* what engine_outside returns */
	struct net_addr host;
	unsigned n_icmp, n_asked;
	int dns_fd;
	struct port_waiter *waiter;
	uint64_t now_ns;
};
extern struct tcp_box box;

void box_init(void);
void box_done(void);
/* Sends a segment of the box. sport 0: BOX_PORT; peer zero: 10.9.9.9. */
void box_sends(const struct seg *s);
/* The same with a checksum of its own making, good or not. */
void box_sends_summed(const struct seg *s, bool good);
/* Turns the loop until nothing happens any more, or once for so many real milliseconds. */
void box_settle(void);
void box_turn(int wait_ms);
/* The next segment to the box, NULL. */
const struct seg *box_next(void);
/* Waits for one, up to 5 s of real time. */
const struct seg *box_wait(void);
/* Time goes by, timers go off. */
void box_sleep(uint64_t ns);
void box_gives_room(void);

#endif
