/* SPDX-License-Identifier: MIT */
/*
 * The inside of a3s-box-netd (private to this room): what its parts are to each other.
 *
 * THEORY OF OPERATION
 *
 * One thread, one loop. A frame from a box goes through
 *
 *     port.c      framing, rate limit, a budget per box and turn, so that a flood starves nobody
 *     engine.c    parsed (pkt.h); source addresses must be the box's; ARP and neighbour discovery are answered (neigh.c), never
 *                 forwarded; fragments are put together (frag.c); then by its destination to one of
 *     switch.c      another box: policy for what begins, a table of flows for what goes on, both ways
 *     tcp.c udp.c icmp.c   the host and the outside: each connection ends here and goes on as a socket of the host
 *     dns*.c        port 53 of the gateway
 *     share.c     how many sockets each box may have
 *
 * Boxes route: every packet is delivered by its IP destination alone, with the Ethernet addresses made right. What is for
 * nobody (multicast, broadcast, DHCP, router advertisements, foreign addresses) ends here, and is counted.
 *
 * Policy is asked once for each connection, by the part that keeps it (policy_allows), and again for all of them when rules
 * change (…_recheck). A denied connection is refused at once, by icmp_unreachable, so that programs fail instead of waiting.
 *
 * Towards a box: frames of other boxes are pushed (port_send drops when the queue is full, the greediest sender first, as any
 * switch); what comes from sockets is pulled: a part that has something looks at port_room and waits (port_wait), so that
 * the socket's own flow control holds the sender back and nothing is buffered here twice.
 *
 * Every table is bounded, per box and in all (numbers below); what is over is refused or replaces the longest idle.
 */
#ifndef NET_ENGINE_H
#define NET_ENGINE_H

#include "base/loop.h"
#include "net/net.h"
#include "pkt.h"

enum {
	ENGINE_CONNS_PER_PORT =
		16384,		    /* TCP connections of a box with the outside, half-open ones included */
	ENGINE_UDP_PER_PORT = 4096, /* UDP flows with the outside, each a socket */
	ENGINE_ECHO_PER_PORT = 256,
	ENGINE_FLOWS_PER_PORT = 32768, /* between boxes */
	ENGINE_FRAGS_PER_PORT = 32,    /* packets being put together */
	ENGINE_DNS_PER_PORT = 256,     /* questions under way */
	ENGINE_BEGINS_PER_S = 1000,    /* sockets that a box's datagrams and echoes may need in a second */
};
#define ENGINE_TCP_MEMORY (128u << 20) /* bytes of all connections' buffers together */

/* A connection, as the side that begins it sees it. ICMP: sport is the echo's identifier, dport 0. */
struct flow_key {
	struct net_addr src, dst;
	uint16_t sport, dport;
	uint8_t proto; /* IPPROTO_TCP, _UDP, _ICMP (also for ICMPv6), or another between boxes */
	uint8_t pad[3];
};
static inline void flow_key_of(struct flow_key *k, const struct pkt *p)
{
	*k = (struct flow_key){.src = p->src,
		.dst = p->dst,
		.sport = p->sport,
		.dport = p->proto == IPPROTO_TCP || p->proto == IPPROTO_UDP ? p->dport : 0,
		.proto = p->proto == IPPROTO_ICMPV6 ? IPPROTO_ICMP : p->proto};
}
/* hash.c: keyed (SipHash-2-4, key drawn at start), so that no box can make collisions. */
uint64_t flow_hash(const struct flow_key *k);

struct engine {
	struct loop *loop;
	struct netd_config config;
	uint8_t mac[6]; /* of the gateway */
	struct net_policy *policy;
	struct port *ports[NETD_PORTS_MAX];
	unsigned n_ports;
	/* Descriptors (share.c): for connections with the outside at most, 0: as many as there are; in use so; published ports. */
	unsigned socket_budget, n_sockets, n_published;
	uint64_t
		spoofed; /* frames that claimed to be somebody else, and what was to poison or mislead others */
	struct engine_state *state;    /* engine.c */
	struct port_state *port_state; /* port.c */
	/* Each part's own, made by its …_new and released by its …_free. */
	struct policy_state *policy_state;
	struct switch_state *switch_state;
	struct frag_state *frag;
	struct tcp_state *tcp;
	struct udp_state *udp;
	struct icmp_state *icmp;
	struct dns_state *dns;
};

struct port { /* one attached box */
	struct engine *g;
	unsigned slot; /* in g->ports */
	struct netd_attachment a;
	struct {
		uint64_t rx_frames, rx_bytes; /* to the box */
		uint64_t tx_frames, tx_bytes; /* from it */
		uint64_t dropped, denied;
	} stats;
	unsigned n_conns, n_udp, n_echo, n_flows, n_frags,
		n_dns;		    /* against the limits above; kept by each part */
	unsigned n_sockets;	    /* share.c */
	uint64_t begins_ns;	    /* share.c: until when what has begun is paid for */
	uint64_t since_ns;	    /* when it was attached */
	struct port_io *io;	    /* port.c */
	struct policy_port *policy; /* policy-eval.c: which rules select it */
};

/* ---- engine.c ---- */
int engine_new(
	struct loop *loop, struct netd_config *config /* moves in */, struct engine **ret, struct err *e);
void engine_free(struct engine *g);
DEFINE_CLEANUP(struct engine *, engine_free)
/* A frame from a box; called by port.c. */
void engine_input(struct port *p, const struct vnet_hdr *h, const uint8_t *frame, size_t len);
/* The port that has this address, NULL. */
struct port *engine_port_of(const struct engine *g, const struct net_addr *a);
bool engine_is_gateway(const struct engine *g, const struct net_addr *a);
/* Whether the host itself has this address (or it is a broadcast to its neighbours), as it was a second ago at most. */
bool engine_is_this_host(const struct engine *g, const struct net_addr *a);
/* The gateway's address of that family; zero when there is none. */
const struct net_addr *engine_gateway(const struct engine *g, bool is4);
/*
 * Where a packet for dst really goes: a host's address; the gateway's own means this host (config.host_loopback). 0;
 * -EACCES for martians and link-local addresses (IPv4's only where no rules are, see net/policy.h), -ENETUNREACH on an
 * internal network, -EHOSTUNREACH for addresses of the network that nobody has.
 */
int engine_outside(const struct engine *g, const struct net_addr *dst, struct net_addr *ret);
/* How a box sees a client on the outside: itself, or the gateway where that cannot be (loopback, our subnet, other family). */
struct net_addr engine_seen_as(const struct engine *g, const struct net_addr *client, bool is4);
/*
 * Takes a policy (moves in) in place of the present one, and ends what it denies. 0; -ENOMEM: it holds, but until it is set
 * again nothing is allowed that needs a rule.
 */
int engine_set_policy(struct engine *g, struct net_policy *p);
/* Ends what the policy denies, now that the rules, or the boxes that they are about, are others. */
void engine_recheck(struct engine *g);
/* The boxes that are attached are others now: port.c. */
void engine_ports_changed(struct engine *g);

/* ---- share.c: descriptors for connections of boxes with the outside ---- */
/* How many there may be, by the process's limit and what it needs besides. */
unsigned share_budget(void);
/*
 * Whether the box may have one more. While over half of them are used, nobody may hold more than budget / (boxes + 1). Who
 * makes one takes a place, and gives it back with it.
 */
bool share_room(const struct port *p);
bool share_can_swap(const struct port *p); /* or if it gave up another */
void share_take(struct port *p);
void share_give(struct port *p);
/* Whether the box may begin what costs a socket but no handshake: not more than ENGINE_BEGINS_PER_S. Counts. */
bool share_begin(struct port *p);

/* ---- port.c ---- */
int port_state_new(struct engine *g);
void port_state_free(struct engine *g); /* also every port */
/*
 * fd: frames, a connected stream socket; consumed, also on failure. a moves in, but not on failure. on_gone: the frames'
 * socket is closed, port_free may be called. 0; -EADDRINUSE when another box has one of its addresses; -ENOSPC; or -errno.
 */
int port_new(struct engine *g, struct netd_attachment *a, int fd, void (*on_gone)(void *data), void *data,
	struct port **ret);
/* Takes what the box has sent, whatever its rate. False: its end was behind it, and on_gone was called. */
bool port_drain(struct port *p);
/* Ends all that is of it, in every part. */
void port_free(struct port *p);
/*
 * A frame towards the box, complete with its Ethernet header. from: whose turn it counts against; NULL: ours.
 * Copied or sent before it returns. 0, or -ENOBUFS: dropped, and counted.
 */
int port_send(struct port *to, struct port *from, const struct vnet_hdr *h, const struct iovec *iov,
	unsigned n_iov);
/* Whether a part that pulls from a socket should send now: the queue is short. */
bool port_room(const struct port *to);
/* Calls fn once, from the loop, when there is room again. */
struct port_waiter {
	void (*fn)(struct port_waiter *w);
	struct port_waiter *next, **link; /* link NULL: not waiting */
	struct port *port;		  /* port.c's */
};
void port_wait(struct port *to, struct port_waiter *w);
void port_unwait(struct port_waiter *w); /* nothing is done when it does not wait */

/* ---- policy-eval.c ---- */
int policy_new(struct engine *g);
void policy_free(struct engine *g);
/* Which rules select this port, as box and as peer; again when its name, aliases or labels changed. 0 or -ENOMEM. */
int policy_attach(struct port *p);
void policy_detach(struct port *p);
/* g->policy was replaced: counters start anew. 0 or -ENOMEM. */
int policy_changed(struct engine *g);
/*
 * Whether a connection may begin. from NULL: from the outside, by a published port; to NULL: to the outside, or with a
 * gateway's address to the host. Counts, and notes what is to be logged. quiet: only asks (…_recheck).
 */
bool policy_allows(
	struct engine *g, struct port *from, struct port *to, const struct flow_key *k, bool quiet);
/* An address that the box was told for a name (lower case, no dot at the end), valid for so many seconds. */
void policy_learn(struct port *p, const char *name, const struct net_addr *a, uint32_t ttl_s);
/* Whether any rule has a domain: else there is nothing to learn. */
bool policy_has_domains(const struct engine *g);
/* Whether the box may ask for it. */
bool policy_allows_name(struct port *p, const char *name);
/* Fills in the counters. 0 or -ENOMEM. */
int policy_report(const struct engine *g, struct netd_report *r);
/* Set by netd.c: takes what is to go to the audit log, unlimited in rate. */
extern void (*policy_on_denial)(struct port *p, const struct netd_denial *d);

/* ---- neigh.c: ARP (RFC 826), neighbour discovery (RFC 4861) ---- */
void neigh_arp(struct port *p, const struct pkt *k);
/* True: it was neighbour discovery (types 133 to 137), and is done with. */
bool neigh_nd(struct port *p, const struct pkt *k);

/* ---- frag.c ---- */
int frag_new(struct engine *g);
void frag_free(struct engine *g);
/*
 * Takes a fragment. Returns the length of the whole frame (Ethernet header, one IP header without options and fragment
 * header, data) when this completed it, valid until the next call; else 0. Overlaps end the packet (RFC 5722).
 */
size_t frag_input(struct port *p, const struct pkt *k, const uint8_t **ret_frame);
void frag_port_gone(struct port *p);
/* Sends a whole frame whose IP packet is over NETD_MTU as fragments, else as it is. */
void frag_output(
	struct port *to, struct port *from, const struct vnet_hdr *h, const uint8_t *frame, size_t len);

/* ---- switch.c ---- */
int switch_new(struct engine *g);
void switch_free(struct engine *g);
void switch_forward(struct port *from, struct port *to, const struct pkt *k);
void switch_port_gone(struct port *p);
void switch_recheck(struct engine *g);

/* ---- tcp.c ---- */
int tcp_new(struct engine *g);
void tcp_free(struct engine *g);
/* For the gateway or the outside. */
void tcp_input(struct port *p, const struct pkt *k);
/* A published port: a listening socket, consumed also on failure. */
int tcp_publish(struct port *p, uint16_t guest_port, int fd);
void tcp_port_gone(struct port *p);
void tcp_recheck(struct engine *g);

/* ---- udp.c ---- */
int udp_new(struct engine *g);
void udp_free(struct engine *g);
void udp_input(struct port *p, const struct pkt *k);
int udp_publish(struct port *p, uint16_t guest_port, int fd); /* bound; consumed also on failure */
void udp_port_gone(struct port *p);
void udp_recheck(struct engine *g);
/* One datagram towards the box; data is not kept. */
void udp_send(struct port *p, const struct net_addr *src, uint16_t sport, const struct net_addr *dst,
	uint16_t dport, const void *data, size_t len);

/* ---- icmp.c ---- */
int icmp_new(struct engine *g);
void icmp_free(struct engine *g);
/* Echo to the gateway or the outside; all else is dropped. */
void icmp_input(struct port *p, const struct pkt *k);
void icmp_port_gone(struct port *p);
void icmp_recheck(struct engine *g);
/* Tells the box why its packet goes nowhere (RFC 1122 section 3.2.2: never about ICMP errors); limited in rate. */
enum icmp_why { ICMP_WHY_NET, ICMP_WHY_HOST, ICMP_WHY_PORT, ICMP_WHY_PROHIBITED };
void icmp_unreachable(struct port *p, const struct pkt *k, enum icmp_why why);
/* The same when only the connection is known: about a UDP datagram that the box sent. */
void icmp_unreachable_udp(struct port *p, const struct flow_key *k, enum icmp_why why);

/* ---- dns.c ---- */
int dns_new(struct engine *g);
void dns_free(struct engine *g);
/* A question by UDP for the gateway's port 53. */
void dns_input(struct port *p, const struct pkt *k);
/* Serves questions by TCP (RFC 7766) on fd, a stream socket, non-blocking; consumed also on failure. */
int dns_serve_stream(struct port *p, int fd);
void dns_port_gone(struct port *p);

/* ---- jail.c ---- */
/*
 * Confines the process, which has everything open: Landlock or a root of its own (to read the resolver's files), seccomp, no
 * new privileges, limits. owns_folder: the working folder has a socket of ours to be removed. What this host does not give is
 * left out, and logged. 0, or -errno with e set: without a filter it must not go on.
 */
int jail_enter_netd(bool owns_folder, struct err *e);

#endif
