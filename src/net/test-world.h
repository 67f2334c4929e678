/* SPDX-License-Identifier: MIT */
/* A whole engine with boxes that are sockets in the test's hands. */
#ifndef NET_TEST_WORLD_H
#define NET_TEST_WORLD_H

#include "engine.h"

enum { WORLD_BOXES = 8 };

struct world {
	struct loop *loop;
	struct engine *g;
	int fd[WORLD_BOXES]; /* the box's end, -1: none */
	struct port *p[WORLD_BOXES];
	unsigned gone; /* calls of on_gone */
};

/* Boxes b0, b1 … at 10.9.0.10 and fd09::10 up, MAC 02:00:00:00:00:10 up; the gateway has 1. */
void world_init(struct world *w, enum net_isolation isolation, const char *policy, unsigned boxes);
void world_add(struct world *w, unsigned i, uint64_t rate_bps);
void world_done(struct world *w);
struct net_addr world_addr(unsigned i, bool is4); /* 1: the gateway's */
/* As many turns as make no difference any more. */
void world_turn(struct world *w);

/* A frame from a box, with its header and length; then turns. */
void world_send(struct world *w, unsigned from, const struct vnet_hdr *h, const void *frame, size_t len);
/* The next frame that a box was sent; 0: none. buf of PKT_FRAME_MAX. */
size_t world_receive(struct world *w, unsigned box, struct vnet_hdr *h, uint8_t *buf);
/* The same, taken apart: a frame that is kept until the next call. False: none. */
bool world_next(struct world *w, unsigned box, struct pkt *ret);

struct frame_of {
	unsigned from;
	struct net_addr dst;
	struct net_addr src; /* zero: the box's */
	uint8_t proto;
	uint16_t sport, dport; /* an echo's identifier: sport */
	uint32_t seq, ack;
	uint8_t flags; /* TCP */
	uint8_t icmp_type;
	size_t payload;
	const void *data; /* NULL: zeroes */
};
/* buf of PKT_FRAME_MAX. Returns the length. */
size_t frame_make(uint8_t *buf, const struct frame_of *f);
void world_send_of(struct world *w, const struct frame_of *f);

#endif
