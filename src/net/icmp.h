/* SPDX-License-Identifier: MIT */
/* Between icmp.c and icmp-error.c. */
#ifndef NET_ICMP_H
#define NET_ICMP_H

#include "engine.h"

struct icmp_limit {	   /* a bucket of what a box may still be told */
	uint64_t since_ns; /* tokens are counted up to then; 0: never */
	unsigned tokens;
};
struct icmp_limit *icmp_limit_of(const struct port *p);

struct icmp_message {
	uint8_t type, code;
	const struct net_addr *src, *dst; /* dst: the box's */
	const uint8_t
		*quote; /* the packet that it is about, from its IP header on; cut where it is too long */
	size_t quote_len;
};
/* Sends an error to a box, within its limit. */
void icmp_tell(struct port *p, const struct icmp_message *m);
/* As a router that the packet's hop limit does not get over. */
void icmp_hop_limit(struct port *p, const struct pkt *k);

#endif
