/* SPDX-License-Identifier: MIT */
/*
 * A box and an outside for tests of udp*.c and dns*.c: network 10.9.0.0/24 and fd09::/64 with a gateway that leads to the
 * loopback of a network namespace of the test's own. There 198.18.0.0/15 and 2001:db8::/32 are local too, and seen as the
 * outside. What would go to the box is kept.
 */
#ifndef NET_TEST_OUTSIDE_H
#define NET_TEST_OUTSIDE_H

#include "engine.h"

enum { FRAMES_MAX = 64 };

struct outside {
	struct engine g;
	struct port box;
	struct { /* towards the box */
		struct pkt k;
		uint8_t *frame;
	} frames[FRAMES_MAX];
	unsigned n_frames, read; /* read: of those, taken by outside_receive */
	bool no_room;
	struct port_waiter *waiter;
	/* What icmp.c was told last. */
	unsigned n_icmp;
	enum icmp_why why;
	struct flow_key icmp_key;
	/* Policy */
	uint16_t deny_port; /* connections to it, both ways */
	const char *deny_name;
	const char *host_addr; /* what this host has besides, NULL */
	bool no_domains;       /* in the rules */
	unsigned n_asked;
	unsigned n_learned;
	struct {
		char name[300];
		struct net_addr addr;
		uint32_t ttl_s;
	} learned[32];
};

/* Enters a new network namespace, once in a process. false: not permitted, the test is to be skipped. */
bool outside_enter(void);
void outside_init(struct outside *o);
void outside_done(struct outside *o);
/* A datagram of the box. */
void outside_box_sends(struct outside *o, void (*input)(struct port *p, const struct pkt *k), const char *dst,
	uint16_t sport, uint16_t dport, const void *data, size_t len);
/* The next datagram to the box, waited for up to 10 s; NULL: none came in wait_ms (0: as long as that). */
const struct pkt *outside_receive(struct outside *o, int wait_ms);
/* Turns the loop as often as something happens. */
void outside_settle(struct outside *o);

struct net_addr outside_addr(const char *text);
/* A socket of the host, bound to that address; port 0: any. */
int outside_socket(int type, const char *addr, uint16_t port);
uint16_t outside_port_of(int fd);
unsigned outside_count_fds(void);

#endif
