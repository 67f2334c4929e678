/* SPDX-License-Identifier: MIT */
/*
 * Who may talk to whom: rules, their text, and their meaning. Used by the command line to check what a user wrote, and by
 * a3s-box-netd to act on it.
 *
 * Text is JSON, at most NET_POLICY_TEXT_MAX bytes and NET_RULES_MAX rules:
 *
 *     {"egress":  [RULE…], "ingress": [RULE…]}
 *
 *     RULE = {"box": SELECTOR | [SELECTOR…],      whose traffic; missing: every box's
 *             "peer": SELECTOR | [SELECTOR…],     the other side; missing: anybody
 *             "protocol": "tcp"|"udp"|"icmp"|"any" [any; with ports, tcp and udp]
 *             "ports": "80,443,8000-8100",        destination ports; missing: all; not with icmp
 *             "action": "allow"|"deny"|"log"}
 *
 *     SELECTOR = "box:NAME" | "label:KEY" | "label:KEY=VALUE" | "cidr:10.0.0.0/8" | "domain:example.org" |
 *                "domain:*.example.org" (any depth below, not itself) | "host" (host.a3s.internal)
 *
 * "domain" and "host" only as a peer of egress, "cidr" only as a peer. Egress rules speak of connections that a box begins,
 * ingress rules of those that it is to accept; a connection between two boxes needs both. They are tried in order; "log"
 * notes and goes on; the first "allow" or "deny" decides; none: deny. Replies are part of their connection. Names of DNS
 * are matched by the addresses in the answers that the box was given (RFC 1035), for as long as those are valid and a
 * minute more, but never with this host's, link-local or another box's address, and with a private one (net/addr.h) only
 * for a whole name, not for "*.". What one box may ask DNS for follows from its egress rules: everything if any of them allows
 * a peer that is not a domain outside the network, else only names that one of them allows.
 *
 * Some places are allowed only by rules that say so, and denied by any rule that has them: this host, by the gateway's
 * address or its own, which also leads to published ports of boxes, by a peer "host"; 169.254.0.0/16 by a "cidr" within it.
 * Neither "anybody" nor a wider "cidr" allows them. IPv6 addresses that stand for IPv4 ones (net_addr_is_translated) are
 * denied. With NONE 169.254.0.0/16 is not reached, this host and translated addresses are.
 *
 * Isolation of a network: NONE: everything is allowed. STRICT: no box to another, egress to the outside by rule, ingress
 * from published ports allowed. CUSTOM: as the rules say, also for published ports.
 */
#ifndef NET_POLICY_H
#define NET_POLICY_H

#include <stddef.h>

#include "base/err.h"
#include "base/strv.h"
#include "net/addr.h"

#define NET_POLICY_TEXT_MAX (128 << 10)
#define NET_RULES_MAX	    1024 /* of both directions together */
#define NET_SELECTORS_MAX   64	 /* of one side of one rule */
#define NET_PORT_RANGES_MAX 32	 /* of one rule */

enum net_isolation { NET_ISOLATION_NONE, NET_ISOLATION_STRICT, NET_ISOLATION_CUSTOM };
const char *net_isolation_name(enum net_isolation i);
int net_isolation_parse(const char *s, enum net_isolation *ret); /* 0 or -EINVAL */

enum net_direction { NET_EGRESS, NET_INGRESS, NET_DIRECTIONS };
enum net_action { NET_ALLOW, NET_DENY, NET_LOG };
enum net_selector_kind { NET_SEL_BOX, NET_SEL_LABEL, NET_SEL_CIDR, NET_SEL_DOMAIN, NET_SEL_HOST };

struct net_selector {
	enum net_selector_kind kind;
	char *text; /* BOX: name, LABEL: "KEY" or "KEY=VALUE", DOMAIN: lower case, no dot at the end, perhaps "*." in front */
	struct net_prefix cidr;
};
struct net_rule {
	struct net_selector *box, *peer; /* n 0: any */
	size_t n_box, n_peer;
	uint8_t protocol; /* IPPROTO_TCP, _UDP, _ICMP (ICMPv6 as well); 0: any */
	struct net_port_range {
		uint16_t from, to;
	} * ports; /* n 0: all */
	size_t n_ports;
	enum net_action action;
};
struct net_policy {
	enum net_isolation isolation;
	struct net_rule *rules[NET_DIRECTIONS];
	size_t n[NET_DIRECTIONS];
};

/* Reads text (JSON as above; NULL: no rules). 0; -EINVAL with the rule and what is wrong with it; -E2BIG; -ENOMEM. */
int net_policy_parse(enum net_isolation isolation, const char *text, struct net_policy **ret, struct err *e);
/* The same rules as compact JSON, malloc'd; NULL when out of memory. */
char *net_policy_text(const struct net_policy *p);
void net_policy_free(struct net_policy *p);
DEFINE_CLEANUP(struct net_policy *, net_policy_free)
/*
 * Rules for --egress-allow values, "example.org:443", "*.example.org", "10.0.0.0/8:80,443/tcp", "[fd00::/8]:53/udp",
 * "host:5432": JSON text, malloc'd, of a custom policy that allows them, and every ingress. 0 or -errno with e set.
 */
int net_policy_from_egress_allow(const struct strv *values, char **ret_text, struct err *e);

#endif
