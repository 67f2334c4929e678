/* SPDX-License-Identifier: MIT */
/*
 * IP addresses, both families in one form: 16 bytes in network order, IPv4 as ::ffff:a.b.c.d (RFC 4291 section 2.5.5.2).
 * A mapped address in an IPv6 packet is never accepted (net/pkt.h), so the two cannot be confused.
 */
#ifndef NET_ADDR_H
#define NET_ADDR_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

struct net_addr {
	uint8_t b[16];
};
#define NET_ADDR_TEXT_MAX 46 /* bytes, terminator included */

/* Addresses whose first bits are those of addr; IPv4's prefixes count from 96. */
struct net_prefix {
	struct net_addr addr;
	uint8_t bits; /* 0 to 128 */
};

bool net_addr_is4(const struct net_addr *a);
bool net_addr_is_zero(const struct net_addr *a); /* all 16 bytes: "no address" */
bool net_addr_equal(const struct net_addr *a, const struct net_addr *b);
struct net_addr net_addr_from4(const void *network_order_4);
struct net_addr net_addr_from6(const void *network_order_16);
/* "10.1.2.3", "fd00::1"; not "::ffff:10.1.2.3", no scope. 0 or -EINVAL. */
int net_addr_parse(const char *s, struct net_addr *ret);
/* buf of NET_ADDR_TEXT_MAX. Returns buf. */
const char *net_addr_text(const struct net_addr *a, char *buf);
#define NET_ADDR_HOST_MAX (NET_ADDR_TEXT_MAX + 2)
/* An address as text, as it is before ":PORT": IPv6 in brackets, all else as given. buf of NET_ADDR_HOST_MAX. Returns buf. */
const char *net_addr_host_text(const char *text, char *buf);
/* "10.0.0.0/8", "fd00::/64", or an address alone; bits beyond the prefix must be zero. 0 or -EINVAL. */
int net_prefix_parse(const char *s, struct net_prefix *ret);
/* buf of NET_ADDR_TEXT_MAX + 4. Returns buf. */
const char *net_prefix_text(const struct net_prefix *p, char *buf);
bool net_prefix_has(const struct net_prefix *p, const struct net_addr *a);
bool net_prefix_overlap(const struct net_prefix *a, const struct net_prefix *b);
/* Bits as people say them: 24 of an IPv4 prefix whose bits is 120. */
unsigned net_prefix_len(const struct net_prefix *p);
/* What connect(2) and friends take: AF_INET for IPv4. Returns its length. */
socklen_t net_addr_sockaddr(const struct net_addr *a, uint16_t port, struct sockaddr_storage *ret);
/* And back; mapped IPv4 of an AF_INET6 socket becomes IPv4. false: another family. */
bool net_addr_from_sockaddr(const struct sockaddr_storage *ss, struct net_addr *ret, uint16_t *ret_port);
/* What no box may be sent to through the host: this host (0/8, 127/8, ::, ::1), multicast, broadcast, IPv4-compatible IPv6. */
bool net_addr_is_martian(const struct net_addr *a);
bool net_addr_is_loopback(const struct net_addr *a);
/* 169.254.0.0/16 (RFC 3927), where clouds keep what a machine is to know of itself, and fe80::/10 (RFC 4291). */
bool net_addr_is_link_local(const struct net_addr *a);
/* Of networks that are not the Internet's: RFC 1918, 100.64.0.0/10 (RFC 6598), fc00::/7 (RFC 4193). */
bool net_addr_is_private(const struct net_addr *a);
/*
 * IPv6 that a router on the way turns into IPv4, which is part of it: NAT64 (RFC 6052, RFC 8215), 6to4 (RFC 3056), Teredo
 * (RFC 4380).
 */
bool net_addr_is_translated(const struct net_addr *a);

#endif
