/* SPDX-License-Identifier: MIT */
/*
 * Datagrams between boxes and the host or the outside (private to udp*.c).
 *
 * THEORY OF OPERATION
 *
 * Outbound. A box's source port (and the family of where it sends) has one unconnected socket of the host, whatever its
 * destinations, so that all of them see the same address (RFC 4787 section 4.1, endpoint-independent mapping). A *peer* is
 * an address that the box sent to from there; answers come in only from peers, from any of their ports (section 5,
 * address-dependent filtering). A peer remembers which of its addresses and ports policy was asked about. The socket ends with
 * its last peer.
 *
 * Published. A *client* is who sent to a published socket. The box sees it as engine_seen_as says, from its own port or one
 * that is made up where two would look the same; answers go out through the published socket, from the address that the client
 * had sent to.
 *
 * Peers and clients are *flows*: found by keyed hashing in a table of their box, and on one of four lists of the box, by
 * kind and whether both sides have spoken, the longest idle first. Idle ones end after UDP_NEW_NS and UDP_ANSWERED_NS; a box
 * that has ENGINE_UDP_PER_PORT of a kind loses the longest idle, those that nobody answered first, so that a flood of new ones
 * ends no conversation.
 */
#ifndef NET_UDP_H
#define NET_UDP_H

#include "engine.h"

#define UDP_NEW_NS	30000000000ull	/* before the first answer */
#define UDP_ANSWERED_NS 180000000000ull /* RFC 4787 REQ-5: two minutes or more */

enum {
	UDP_HDR_LEN = 8,
	UDP_BUCKETS = 1024, /* of a box's table */
	UDP_USES_MAX = 8,   /* verdicts that a peer remembers */
	UDP_SMALL =
		8192, /* bytes; larger ones are received one by one, so that no more come than there is room */
	UDP_BATCH = 8,	     /* datagrams of one system call */
	UDP_BATCHES = 4,     /* of one turn and socket */
	UDP_DATA_MAX = 65536 /* bytes to receive at most: more than any datagram has (65527) */
};

/* What a node of the table is; flow_key.proto of its key. */
enum udp_kind {
	UDP_MAPPING = 1, /* src, sport: the box; dst: any address of the family */
	UDP_PEER,	 /* src, sport: the box; dst: the peer's real address */
	UDP_CLIENT,	 /* src, sport: the box, guest port; dst, dport: the client as the box sees it */
	UDP_ORIGIN /* src, sport: the client; dst, dport: what it sent to; pad: interface of a link-local one */
};
struct udp_node {
	struct udp_node *next;
	struct flow_key key;
};

/* A socket of the host. */
struct udp_sock {
	struct udp_node node; /* a mapping's */
	struct udp_port *up;
	struct udp_sock *next; /* published ones of the box */
	int fd;
	struct loop_source *io;
	struct port_waiter waiter;
	bool published, is4; /* is4: AF_INET */
	bool small;	     /* the last datagrams were UDP_SMALL at most */
	struct net_addr box; /* a mapping's: the box's address */
	uint16_t box_port;   /* source port, or the guest's port */
	uint16_t host_port;  /* a published one's */
	unsigned n_flows;
};

struct udp_use {
	struct net_addr seen; /* the destination as the box wrote it: the peer's address, or the gateway's */
	uint16_t port;
	uint64_t last_ns;
};
struct udp_flow {
	struct udp_node node; /* UDP_PEER or UDP_CLIENT */
	struct udp_flow *prev, *next;
	struct udp_sock *sock;
	uint64_t last_ns;
	bool client, answered;
	union {
		struct {
			struct udp_use uses[UDP_USES_MAX];
			unsigned n_uses;
		};
		struct {
			struct udp_node origin;
			struct sockaddr_storage addr; /* the client's, as the socket takes it */
			struct net_addr local;	      /* what it sent to */
			uint32_t ifindex;	      /* where that is link-local */
		};
	};
};

/* A box. */
struct udp_port {
	struct port *p;
	struct udp_node *buckets[UDP_BUCKETS];
	struct udp_list {
		struct udp_flow *first, *last; /* first: the longest idle */
	} lists[2][2];			       /* [client][answered] */
	unsigned n[2];			       /* flows by client */
	struct udp_sock *published;
};

struct udp_state {
	struct engine *g;
	struct udp_port *ports[NETD_PORTS_MAX]; /* by slot; made at first use */
	struct loop_source *timer;
	bool sweeping; /* the timer is set: there are flows */
	uint16_t ip4_id;
	uint8_t data[UDP_BATCH][UDP_DATA_MAX];
	uint8_t frame[ETH_HDR_LEN + 40 + 65535]; /* one that is to be cut into fragments */
};

/* ---- udp-flow.c ---- */
struct udp_port *udp_port_of(struct port *p); /* NULL when out of memory */
struct udp_node *udp_find(struct udp_port *up, const struct flow_key *key);
void udp_insert(struct udp_port *up, struct udp_node *n);
void udp_remove(struct udp_port *up, struct udp_node *n);
/*
 * A flow of that socket with that key, which is not in the table; another makes room if need be. NULL when out of memory.
 */
struct udp_flow *udp_flow_new(struct udp_sock *s, bool client, const struct flow_key *key);
/* A mapping's socket ends with its last flow. */
void udp_flow_free(struct udp_flow *f);
/* It was used, by the side that answers or the one that began. */
void udp_flow_touch(struct udp_flow *f, bool answer);
/* Ends one flow of the box that has most with the outside, for its descriptor. false: there is none. */
bool udp_flow_evict(struct udp_state *u);
bool udp_port_evict(struct udp_port *up); /* the same of this box */
/* Ends all that policy does not allow any more. */
void udp_port_recheck(struct udp_port *up);
/* The connection of a client, as policy and its log know it: by its real address. */
void udp_client_key(const struct udp_flow *f, struct flow_key *ret);
void udp_sock_free(struct udp_sock *s);

/* ---- udp-publish.c ---- */
/* A datagram that came to a published socket. */
void udp_client_input(struct udp_sock *s, const struct msghdr *m, const void *data, size_t len);
/* A box's answer to a client. */
void udp_client_output(struct udp_flow *f, const struct pkt *k);

/* ---- udp.c ---- */
/* Watches the socket for what comes in. 0 or -errno. */
int udp_sock_watch(struct udp_sock *s);

#endif
