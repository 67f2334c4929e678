/* SPDX-License-Identifier: MIT */
/*
 * a3s-box-netd, the process of one network: a switch, a way to the outside, a DNS server, and the policy. This header is
 * what its clients see: supervisors, which attach boxes, and commands.
 *
 * THEORY OF OPERATION
 *
 * One netd serves one network: a user-defined one for all its boxes, or the default network of a single box. It holds no
 * state that its clients cannot give again: when it dies, boxes are attached to its successor and nothing else happens to
 * them. It needs no privilege and no TUN device: connections of boxes end in it and go on as sockets of the host. It is in
 * the hands of the boxes' packets, so it is confined (jail.c), reads no database and writes no file.
 *
 * It inherits: 3 its configuration (struct netd_config as JSON, a file to be read from the start), 4 a SOCK_SEQPACKET
 * socket, either listening (a user-defined network's: it ends when nothing has been attached for NETD_LINGER_NS) or connected (it
 * ends with that connection), 5 (listening only) the lock of the network's runtime folder, held while it lives.
 *
 * Control protocol: each datagram is one JSON object of at most NETD_MESSAGE_MAX bytes with "op", answered by one with
 * "error" (null or text, then mostly with an errno as "code") in order. One attachment a connection; the end of the connection
 * is its end.
 *
 *     attach    struct netd_attachment; descriptors: the frames' socket, then a socket for each published port
 *     ports     "publish": further published ports of this connection's attachment; descriptors: their sockets
 *     update    names, aliases, labels, names_only of this connection's attachment (the other members are ignored)
 *     policy    "isolation", "policy": in place of what is. Established connections that it denies are ended. With a "revision"
 *               that is not newer than that of what is, it is old news and changes nothing.
 *     inspect   answered with struct netd_report's content, of as many boxes as fit; where there are more, "next" is what the
 *               next question's "from" is to be
 *
 * And by itself, to the attachment's connection, for the audit log, at most NETD_DENIALS_PER_S a second of each direction (what
 * is beyond is only counted): {"event": "denied", "direction", "protocol", "peer", "port", "rule" (index or null), "count",
 * "action": "deny"|"log"}.
 *
 * Frames: as in virtio/net.h with virtio headers, link 0's untagged form.
 */
#ifndef NET_NET_H
#define NET_NET_H

#include "base/buf.h"
#include "net/policy.h"

#define NET_HOST_NAME "host.a3s.internal" /* what boxes call this host: the gateway's address */

#define NETD_MESSAGE_MAX (160 << 10)
#define NETD_FDS_MAX \
	128 /* of one message: a frame socket and published ports; more in further messages ("ports") */
#define NETD_LINGER_NS	   2000000000ull
#define NETD_DENIALS_PER_S 10
#define NETD_PORTS_MAX	   1024 /* boxes attached at once */
#define NETD_PUBLISH_MAX   4096 /* published ports of a box */
#define NETD_UPSTREAMS_MAX 8
#define NETD_MTU	   65520 /* of every interface: what a frame of virtio/net.h can carry, rounded down */

struct netd_config {
	char *id, *name;
	struct net_prefix subnet4, subnet6; /* bits 0: none of this family */
	struct net_addr gateway4, gateway6; /* ours: DNS server, router, and the host (host.a3s.internal) */
	bool internal;			    /* no way to the outside */
	bool host_loopback; /* the gateway's address leads to the host's loopback instead of an address of the host's */
	enum net_isolation isolation;
	char *policy;	   /* net/policy.h, NULL */
	uint64_t revision; /* of isolation and policy: grows with each change; 0: none */
	char *home;	   /* for the list of processes, nothing is done with it */
};
void netd_config_done(struct netd_config *c);

struct netd_publish {
	uint8_t protocol; /* IPPROTO_TCP or IPPROTO_UDP; the socket is bound, and listening if TCP */
	uint16_t guest_port;
};

struct netd_attachment {
	char *box, *name; /* ID, name */
	char *hostname;
	struct strv aliases, labels; /* labels "key=value" */
	uint8_t mac[6];
	struct net_addr ip4, ip6; /* zero: none */
	struct strv upstreams;	  /* --dns: in place of the host's resolvers */
	struct strv hosts;	  /* --add-host, "name:address": answered before anything else */
	uint64_t rate_bps;	  /* bits per second each way, 0: no limit */
	/*
	 * On several networks, all but one: DNS answers what this network knows and refuses the rest, at which the box's
	 * resolver asks the next one.
	 */
	bool names_only;
	struct netd_publish *publish;
	size_t n_publish;
};
void netd_attachment_done(struct netd_attachment *a);

/* What "inspect" says. */
struct netd_report {
	struct netd_report_box {
		char *box, *name;
		struct net_addr ip4, ip6;
		uint64_t rx_bytes, tx_bytes, rx_frames, tx_frames, dropped, denied, connections;
	} * boxes;
	size_t n_boxes;
	uint64_t denied_total;
	uint64_t *denied[NET_DIRECTIONS], *logged[NET_DIRECTIONS]; /* by rule, as many as the policy has */
	size_t n_rules[NET_DIRECTIONS];
	uint64_t denied_default; /* by no rule */
	uint64_t spoofed;	 /* frames with a source that is not the box's, and the like */
	uint64_t next; /* "from" of the question that the rest of the boxes answers; 0: these are all */
};
void netd_report_done(struct netd_report *r);

/* What a client wants, of any of the above. Zero it before; release it with netd_request_done. */
enum netd_op { NETD_ATTACH, NETD_PORTS, NETD_UPDATE, NETD_POLICY, NETD_INSPECT };
struct netd_request {
	enum netd_op op;
	struct netd_attachment a; /* attach, ports, update */
	enum net_isolation isolation;
	char *policy;
	uint64_t revision;
	uint64_t from;
};
void netd_request_done(struct netd_request *q);

/*
 * ---- messages: malloc'd JSON text, NULL when out of memory (or given what is no UTF-8); and back: 0, -EBADMSG, -ENOMEM ----
 * What a reader does not know it skips. *ret is only filled in when all is well.
 */
char *netd_config_text(const struct netd_config *c);
int netd_config_parse(const char *text, size_t len, struct netd_config *ret);
int netd_request_parse(const char *text, size_t len, struct netd_request *ret);
char *netd_attachment_text(const char *op, const struct netd_attachment *a);
int netd_attachment_parse(const char *text, size_t len, struct netd_attachment *ret);
/* The message "policy"; policy NULL: no rules; revision 0: none. */
char *netd_policy_text(enum net_isolation isolation, const char *policy, uint64_t revision);
char *netd_report_text(const struct netd_report *r);
int netd_report_parse(const char *text, size_t len, struct netd_report *ret);

/* The answer to anything but inspect; error NULL: done. */
char *netd_answer_text(const char *error);
/* The same with an errno, not 0, as "code". */
char *netd_refusal_text(int code, const char *error);

struct netd_denial {
	bool logged; /* a rule that only logs */
	enum net_direction direction;
	uint8_t protocol;
	struct net_addr peer;
	uint16_t port;
	int rule; /* -1: none */
	uint64_t count;
};
char *netd_denial_text(const struct netd_denial *d);
int netd_denial_parse(
	const char *text, size_t len, struct netd_denial *ret); /* -ENOMSG: it is no such event */

/* ---- program ---- */
int netd_main(void);

#endif
