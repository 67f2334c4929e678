/* SPDX-License-Identifier: MIT */
/*
 * The gateway's DNS server (private to dns*.c).
 *
 * THEORY OF OPERATION
 *
 * A question comes as a datagram or on a stream (dns.c), is read (dns-message.c) and answered at once when it is about a
 * name of the network (dns-server.c): names, aliases and IDs of its boxes, host.a3s.internal, --add-host, reverse names of the
 * network's addresses. Nothing is cached, so a box that comes or goes is seen by the next question; the time to live is 0.
 *
 * What is not ours is forwarded (dns-forward.c) where policy allows the name, as it came but for its ID, each question from a
 * socket of its own, connected to one resolver, with an ID from the kernel's random source (RFC 5452). The answer goes back as
 * it came, and its addresses to policy_learn.
 */
#ifndef NET_DNS_H
#define NET_DNS_H

#include "dns-message.h"
#include "engine.h"
#include "resolvconf.h"

#define DNS_TOTAL_NS   10000000000ull /* of a forwarded question, all tries together */
#define DNS_TRY_NS     2000000000ull
#define DNS_TRY_TCP_NS 5000000000ull
#define DNS_IDLE_NS \
	30000000000ull /* of a stream (RFC 7766 section 6.2.3), and of one whose answers nobody takes */
#define DNS_TICK_NS	200000000ull
#define DNS_LEARN_MIN_S 30u
#define DNS_LEARN_MAX_S 86400u

enum {
	DNS_ATTEMPTS = 5,	   /* of each resolver, within DNS_TOTAL_NS */
	DNS_QUESTION_MAX = 4096,   /* bytes of a question */
	DNS_STREAMS_PER_PORT = 16, /* at once */
	DNS_OUT_MAX =
		2 * (2 + DNS_MAX), /* of a stream: answers that wait, and room for those still to come */
};

struct dns_forward;
struct dns_stream {
	struct dns_stream *next, **link;
	struct dns_state *d;
	struct port *port;
	int fd;
	struct loop_source *io;
	struct buf in, out;
	unsigned n_forwards;
	bool ended;		    /* the box sends no more */
	uint64_t last_ns, wrote_ns; /* wrote_ns: when something was taken of out, or nothing was in it */
};

/* Who asked. */
struct dns_client {
	struct port *port;
	struct dns_stream *stream; /* NULL: by UDP */
	struct net_addr addr, gateway;
	uint16_t sport;
};

struct dns_state {
	struct engine *g;
	struct resolvconf resolvconf;
	struct loop_source *timer;
	bool ticking;
	unsigned turn; /* of addresses that several boxes have, and of resolvers */
	struct dns_forward *forwards[NETD_PORTS_MAX];
	struct dns_stream *streams[NETD_PORTS_MAX];
	unsigned n_streams[NETD_PORTS_MAX];
	struct net_addr found[2 * NETD_PORTS_MAX];
	uint8_t answer[DNS_MAX];
};

/* ---- dns.c ---- */
/* Bytes that the client takes. */
size_t dns_client_max(const struct dns_client *c, const struct dns_question *q);
void dns_reply(const struct dns_client *c, const uint8_t *msg, size_t len);
/* An answer without content. msg: the question as it came. */
void dns_reply_rcode(struct dns_state *d, const struct dns_client *c, const uint8_t *msg,
	const struct dns_question *q, unsigned rcode);
/* Lets time pass for what is under way. */
void dns_tick_start(struct dns_state *d);

/* ---- dns-server.c ---- */
/* Answers what the network itself knows. false: it does not. */
bool dns_local(
	struct dns_state *d, const struct dns_client *c, const uint8_t *msg, const struct dns_question *q);

/* ---- dns-forward.c ---- */
void dns_forward(struct dns_state *d, const struct dns_client *c, const uint8_t *msg, size_t len,
	const struct dns_question *q);
/* Ends those of one stream, or of all the port (stream NULL), without an answer. */
void dns_forward_cancel(struct dns_state *d, struct port *p, const struct dns_stream *stream);
/* Goes on with those whose resolver does not answer. Returns whether any are left. */
bool dns_forward_tick(struct dns_state *d, uint64_t now);

#endif
