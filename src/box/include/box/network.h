/* SPDX-License-Identifier: MIT */
/*
 * Networks: their records, which boxes are on them, and the addresses and ports that those have.
 *
 * THEORY OF OPERATION
 *
 * A network is a row; that a box is on it is a row as well (an endpoint), made with the box or by `network connect`, and gone
 * with either. An endpoint has its addresses for as long as it exists, whether the box runs or not: they are picked in the
 * transaction that inserts it, so that no two can have the same. The supervisor of a running box is told to look again
 * (BOX_OP_RELOAD) and makes what is of what should be.
 *
 * A box that is live has an address until its supervisor has given it up: its endpoint is *leaving* until then, which only
 * those see who look for what is in use. Each change of a live box's networks, or of its name, has a number, which stays in the
 * record until the supervisor has acted on it (box_networks_settled): what a command left behind that died before it could tell
 * the supervisor, or to wait for it, the next command tells (box_reconcile).
 *
 * Three networks are always there and have no row: "bridge", the default, of which each box has its own (the same addresses
 * for all, nobody else on it); "none"; and "host", which is refused, as a box has its own kernel. A box created with `none`
 * has no network device and cannot be connected later.
 *
 * Rows of published ports are what a running supervisor has bound; they go with the move that ends the run.
 *
 * run/net/ID/ has the lock and control socket of the network's netd while there is one (net/net.h).
 */
#ifndef BOX_NETWORK_H
#define BOX_NETWORK_H

#include "box/box.h"
#include "net/net.h"

#define BOX_NETWORK_DEFAULT "bridge"
#define BOX_NETWORK_NONE    "none"
#define BOX_NETWORKS_MAX    1024
#define BOX_NETWORK_HOST_LOOPBACK \
	"host-loopback=yes" /* option: the gateway's address leads to the host's loopback */
#define BOX_LINKS_MAX 8	    /* networks of a box: as many as its device has links */

/* Of every box on its own default network. */
#define BOX_DEFAULT_SUBNET4  "10.87.0.0/24"
#define BOX_DEFAULT_SUBNET6  "fda3:5b0c::/64"
#define BOX_DEFAULT_GATEWAY4 "10.87.0.1"
#define BOX_DEFAULT_GATEWAY6 "fda3:5b0c::1"
#define BOX_DEFAULT_IP4	     "10.87.0.2"
#define BOX_DEFAULT_IP6	     "fda3:5b0c::2"

struct box_network {
	char *id, *name; /* id: 64 hex digits; of the predefined ones, the name */
	char *driver;	 /* "bridge"; of "none", "null" */
	char *subnet4, *gateway4, *subnet6, *gateway6; /* as text */
	bool internal;
	enum net_isolation isolation;
	char *policy; /* JSON text, NULL */
	struct strv labels, opts;
	int64_t created_ns;
	int64_t revision; /* of isolation and policy: grows with each change */
};
void box_network_free(struct box_network *n);
DEFINE_CLEANUP(struct box_network *, box_network_free)
void box_network_list_free(struct box_network **list, size_t n);

/*
 * Creates one; subnets and gateways that are NULL are chosen: the first /24 of 10.88.0.0/13, then of 172.28.0.0/14, that neither
 * another network nor what the host's interfaces and routes are about overlaps, and fda3:5b0c:X:Y::/64 from the ID. -EEXIST by
 * name, -EADDRINUSE when a given subnet overlaps another network's. A subnet that is "" leaves its family out. Records the event.
 */
int box_network_create(
	struct state *st, const struct box_network *want, struct box_network **ret, struct err *e);
/* By name, full ID or unique ID prefix; "bridge" and "none" too. -ENOENT, -EEXIST (ambiguous). */
int box_network_find(struct state *st, const char *ref, struct box_network **ret, struct err *e);
/* Predefined ones first, then by name. */
int box_network_list(struct state *st, struct box_network ***ret, size_t *ret_n, struct err *e);
/* -EBUSY while a box is on it, or leaving it (the hint names them), -EPERM for predefined ones. */
int box_network_remove(struct state *st, const struct box_network *n, struct err *e);
/* Isolation and policy, also of the running netd. What that refuses is undone, unless it was changed again meanwhile. */
int box_network_set_policy(struct state *st, const struct box_network *n, enum net_isolation isolation,
	const char *policy, struct err *e);

struct box_endpoint {
	char *network, *network_name; /* ID, name */
	char *box, *box_name;
	unsigned link;	 /* virtio/net.h; the box's interface ethLINK */
	char *ip4, *ip6; /* without prefix; NULL: none */
	char *ip4_asked, *ip6_asked;
	struct strv aliases;
};
void box_endpoints_free(struct box_endpoint *v, size_t n);
#define BOX_ALIASES_MAX 64 /* of a box on a network */
/* Labels of 1 to 63 letters, digits, - and _, with dots between them, 253 in all; no option: it begins with no -. */
bool box_alias_valid(const char *s);
/*
 * Puts a box on a network. ep: network, box, ip4_asked, ip6_asked (NULL: any), aliases. -EEXIST when it is on it, -EADDRINUSE
 * when another has the address, -ERANGE outside of the subnet, -ENOSPC when there is none left, -EMLINK with BOX_LINKS_MAX
 * networks, -ENOTSUP on predefined ones with addresses or aliases, and for a box without a network device; -EBUSY while the box
 * is leaving it. Within the caller's transaction it is part of it. Records the event.
 */
int box_endpoint_add(struct state *st, const struct box_endpoint *ep, struct err *e);
/* It goes, or, of a live box, is leaving. -ENOENT when the box is not on the network. Records the event. */
int box_endpoint_remove(struct state *st, const char *network, const char *box, struct err *e);
/* Takes back box_endpoint_remove, as long as it is leaving; -ENOENT: it is gone by now. */
int box_endpoint_restore(struct state *st, const char *network, const char *box, struct err *e);
/* Of a box by link; of a network by address. Those that are leaving are not among them. */
int box_endpoints_of_box(
	struct state *st, const char *box, struct box_endpoint **ret, size_t *ret_n, struct err *e);
int box_endpoints_of_network(
	struct state *st, const char *network, struct box_endpoint **ret, size_t *ret_n, struct err *e);

/*
 * Number of the last change that a live box's supervisor has not acted on yet; 0: none. Who acts asks before he reads the
 * record, as what changes later has a higher one.
 */
int box_networks_changed(struct state *st, const char *box, int64_t *ret, struct err *e);
/* All changes up to that number have been acted on: what was leaving by them is gone. Writes nothing where nothing waits. */
int box_networks_settled(struct state *st, const char *box, int64_t change, struct err *e);
/*
 * Lets a running box act on its record, and waits until it has. 0 also where it does not run: its next start reads the record.
 * Otherwise what the supervisor says; the record is as it was.
 */
int box_networks_apply(struct state *st, const char *box, struct err *e);

/*
 * A port to be published: config.publish has these as text, "[IP:]HOST[-LAST]:GUEST/PROTO" with IPv6 in brackets, HOST 0 for
 * any that is free.
 */
struct box_port {
	char ip[NET_ADDR_TEXT_MAX]; /* of the host, "" for all addresses, both families */
	uint16_t host, guest;
	uint16_t host_last; /* not 0: any free one from host to it */
	uint8_t protocol;   /* IPPROTO_TCP, IPPROTO_UDP */
};
int box_port_parse(const char *text, struct box_port *ret); /* one port, canonical form. 0 or -EINVAL */
#define BOX_PORT_TEXT_MAX 80
char *box_port_text(const struct box_port *p, char *buf);
const char *box_protocol_name(uint8_t protocol); /* "tcp", "udp" */
/* What a running box has bound: all of it in place of what was. In the record's transaction, or one of its own. */
int box_ports_set(struct state *st, const char *box, const struct box_port *ports, size_t n, struct err *e);
/* Of one box, or of all (box NULL), ordered by box, guest port, protocol, address. Calls fn for each. */
int box_ports_read(struct state *st, const char *box,
	int (*fn)(const char *box, const struct box_port *p, void *data), void *data, struct err *e);

/* A socket that holds a port: as it was bound, with one address and its number. */
struct box_listener {
	struct box_port port;
	int fd; /* non-blocking; TCP: it listens */
};
/*
 * Binds a port: on all addresses as a socket for each family that the host has, with the same number. ret has two places.
 * Returns how many were filled; -EADDRINUSE with who has it, where that is a box of st (NULL allowed), or -errno.
 */
int box_port_bind(struct state *st, const struct box_port *p, struct box_listener *ret, struct err *e);
/* Nobody listens any more: not who has copies of the sockets, either. */
void box_listeners_close(struct box_listener *v, size_t n);

/* The box's MAC address on all its networks: locally administered, from its ID. */
void box_mac(const char *box_id, uint8_t ret[static 6]);

/*
 * What the guest is told of the networks that it has links to: eps[i] is on nets[i] (NULL: its own default network), by
 * link; n 0: none. 0 or -errno with *ret empty; release with wire_network_done.
 */
int box_fill_network(const struct box *b, const struct box_endpoint *eps,
	const struct box_network *const *nets, size_t n, struct wire_network *ret, struct err *e);

/* Of those, the one whose gateway is the default route, and the last resolver: the lowest that leads out; -1: none. */
int box_main_network(const struct box_network *const *nets, size_t n);

/* ---- towards netd (netd.c) ---- */
/* Of a network that has one running: descriptor of a control connection; -ENOENT: none runs. */
int box_netd_connect(struct state *st, const char *network, struct err *e);
/* The same, started if need be; never waits. -EAGAIN, which says nothing: somebody else is starting or ending it, try again. */
int box_netd_try(struct state *st, const struct box_network *n, struct err *e);
/* Starts one for a single box's default network, as our child, which ends with the connection. *ret_pidfd is its. */
int box_netd_start_private(struct netd_config *config, int *ret_pidfd, struct err *e);
/*
 * Sends text with descriptors (borrowed) and waits at most 10 s for the answer, which must say no error; ret_answer may be
 * NULL.
 */
int box_netd_call(int fd, const char *text, const int *fds, size_t n_fds, char **ret_answer, struct err *e);
/* The same, without descriptors, for who has less time. */
int box_netd_call_within(int fd, const char *text, uint64_t limit_ns, struct err *e);
/* The parts of a call, for who does not wait. Send: 0 or -errno; on a blocking socket it may wait. */
int box_netd_send(int fd, const char *text, const int *fds, size_t n_fds);
/* 1 and what it says, malloc'd and terminated; -EAGAIN: nothing yet; -EPIPE: it is gone; or -errno. */
int box_netd_receive(int fd, char **ret, size_t *ret_len);
/* What an answer says: 0; -EIO, or -EADDRINUSE of an attachment, with its error; -ENOMSG: it is none, but an event; -EBADMSG. */
int box_netd_answer(const char *text, size_t len, struct err *e);

#endif
