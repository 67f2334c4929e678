/* SPDX-License-Identifier: MIT */
/*
 * TCP (private to tcp*.c): an end point of our own towards the boxes (RFC 9293), a host's socket behind each
 * connection.
 *
 * THEORY OF OPERATION
 *
 * tcp.c        connections by address, a box's share, timers; a SYN from a box; what the engine tells us
 * tcp-conn.c   a segment of the box for a connection: what it acknowledges, what it brings
 * tcp-out.c    segments to the box: data, acknowledgements, retransmission, resets
 * tcp-host.c   the host's socket: connecting, reading from it, writing to it
 * tcp-listen.c published ports: clients that are accepted, and held until the box answers
 * tcp-ring.c   buffers
 *
 * A connection is made in the order in which it can be true. From a box: the host's connect() first, SYN-ACK when
 * it has succeeded, and RST or an ICMP error when it has not. From outside: accept() first, as there is no other
 * way; then SYN to the box. From then on it is two streams that end each by itself:
 *
 *     host to box   read() -> `out` ring -> segment;        eof: read() gave the end -> FIN
 *     box to host   segment -> send(), `in` ring if need be; fin_in: FIN came, all is sent -> shutdown(SHUT_WR)
 *
 * Nothing is buffered that can wait where it is. The host's socket is read only when the box's window and the
 * queue towards it have room, and what is read is sent in the same breath, so `out` only holds what is not
 * acknowledged yet: [snd_una, snd_max). The `in` ring only holds what the kernel did not take, and the window
 * follows its free space. A connection at rest has neither. Should ENGINE_TCP_MEMORY, or a box's share of it, be used
 * up, `out` waits and of a segment only what fits is taken, so that the box sends the rest again.
 *
 * The way to a box is a queue in memory: it delivers in order and within microseconds, and loses a frame only when
 * a queue overflows or the guest is out of memory. Therefore
 *   - no congestion control: there is no path to share. Both ends of the queue are known; the window and port_room say
 *     exactly what may be sent, and the outside has the host's kernel, with its congestion control, in front of it;
 *   - no selective acknowledgement, and what comes out of order is not kept: it would be used after a loss alone;
 *   - no timestamps: they tell old duplicates from new segments (RFC 7323 section 5), and a queue makes no duplicates.
 * A loss is repaired all the same: by retransmission after three duplicate acknowledgements (RFC 5681 section 3.2)
 * or after RTO (RFC 6298), then segment by segment up to what had been sent (RFC 6582).
 *
 * TIME_WAIT is short for the same reason: it answers a FIN that was sent again because our last acknowledgement was
 * lost. It counts against nothing and gives way to a new connection, whose sequence numbers are beyond (RFC 6528).
 *
 * Functions that may end a connection return whether it is still there.
 */
#ifndef NET_TCP_H
#define NET_TCP_H

#include <stddef.h>

#include "engine.h"

#define TCP_RING_MIN   (16u << 10)
#define TCP_RING_MAX   (1u << 20)
#define TCP_RING_SIZES 7	  /* powers of two from MIN to MAX */
#define TCP_RING_SPARE (8u << 20) /* bytes of unused rings that are kept for the next use */

enum {
	TCP_HALF_OPEN_MAX = 1024, /* of one box: connecting, or not yet answered by it */
	TCP_TIME_WAIT_MAX = 4096, /* of one box; the oldest goes */
	TCP_SYN_KEPT = 256, /* bytes of a frame with a SYN, for an ICMP error; such with data are not kept */
	TCP_ACCEPTS = 64,   /* clients taken in one turn of one published port */
	TCP_WAITING_MAX = 128, /* clients of one published port that the box has not answered yet */
	TCP_CLIENTS_MAX =
		ENGINE_CONNS_PER_PORT / 4 * 3, /* of a box, so that it can always begin some itself */
	TCP_TIMERS = 256,		       /* that go off in one turn */
	TCP_READS = 16,			       /* segments of one connection in one turn */
	TCP_SEND_MIN =
		4096, /* bytes: with less room than this, and others under way, wait (RFC 9293 section 3.8.6.2.1) */
	TCP_WSCALE = 5,		/* ours: up to 2 MiB */
	TCP_DELAYED_MAX = 4096, /* bytes of a segment whose acknowledgement may be delayed */
	TCP_QUICK_ACKS = 16,	/* that are not, after one was delayed in vain */
	TCP_CHALLENGES_PER_S =
		10, /* answers to what is not acceptable, per connection (RFC 5961 section 7) */
};
#define TCP_MS	       1000000ull
#define TCP_RTO_MIN_MS 200u
#define TCP_RTO_MAX_MS 60000u
#define TCP_HOLD_NS    (10000 * TCP_MS) /* a client waits for a box that starts */
#define TCP_HOLD_BOX_NS \
	(30000 * TCP_MS) /* and a box that was attached so long ago is not starting any more */
#define TCP_HOLD_RETRY_NS  (100 * TCP_MS)
#define TCP_SYN_NS	   (30000 * TCP_MS)  /* a box may take to answer our SYN or SYN-ACK */
#define TCP_CONNECT_NS	   (135000 * TCP_MS) /* somewhat more than Linux's connect() with its six retries */
#define TCP_HALF_CLOSED_NS (600000 * TCP_MS) /* without any data */
#define TCP_STUCK_NS	   (900000 * TCP_MS) /* retransmitting in vain: a box may have been paused */
#define TCP_STUCK_SCARCE_NS \
	(30000 * TCP_MS) /* the same where memory is scarce and the box has more than others */
#define TCP_TIME_WAIT_NS    (1000 * TCP_MS)
#define TCP_ACCEPT_RETRY_NS (100 * TCP_MS)
#define TCP_ACK_DELAY_NS    (2 * TCP_MS)
#define TCP_NEVER	    UINT64_MAX

static inline bool seq_lt(uint32_t a, uint32_t b)
{
	return (int32_t)(a - b) < 0;
}
static inline bool seq_le(uint32_t a, uint32_t b)
{
	return (int32_t)(a - b) <= 0;
}

/* ---- rings (tcp-ring.c) ---- */

struct ring {
	uint8_t *mem;	    /* NULL: cap is 0 */
	uint32_t cap;	    /* a power of two */
	uint32_t head, len; /* content begins at mem[head]; all of it lies modulo cap */
};
struct ring_user { /* a box */
	size_t used;
};
struct ring_pool {
	size_t used, spare; /* bytes */
	unsigned n_users;   /* that have any */
	struct ring_spare {
		struct ring_spare *next;
	} * free[TCP_RING_SIZES];
};
/*
 * Makes the ring at least cap (a power of two, MIN to MAX) large, keeping its content. false: no memory, or none allowed: while
 * more than half is used, a box may hold ENGINE_TCP_MEMORY / (boxes that hold any + 1).
 */
bool ring_reserve(struct ring_pool *pool, struct ring_user *u, struct ring *r, uint32_t cap);
void ring_release(struct ring_pool *pool, struct ring_user *u, struct ring *r);
void ring_pool_done(struct ring_pool *pool);
/* Whether more than half of the memory is used: then nobody gets more than the least. */
static inline bool ring_scarce(const struct ring_pool *pool)
{
	return pool->used > ENGINE_TCP_MEMORY / 2;
}
/* At most max bytes of free space, or of content from off on, as one or two pieces; returns their number. */
unsigned ring_space(const struct ring *r, size_t max, struct iovec iov[static 2]);
unsigned ring_content(const struct ring *r, uint32_t off, size_t max, struct iovec iov[static 2]);
void ring_consume(struct ring *r, uint32_t n);

/* ---- lists ---- */

struct node { /* of a ring with a head; next NULL: on none */
	struct node *prev, *next;
};
static inline void list_init(struct node *head)
{
	head->prev = head->next = head;
}
static inline bool list_empty(const struct node *head)
{
	return head->next == head;
}
static inline void list_add(struct node *head, struct node *n) /* at the end */
{
	n->prev = head->prev;
	n->next = head;
	head->prev->next = n;
	head->prev = n;
}
static inline void list_remove(struct node *n)
{
	if (!n->next)
		return;
	n->prev->next = n->next;
	n->next->prev = n->prev;
	n->prev = n->next = NULL;
}
#define LIST_OF(n, type, member) ((type *)(void *)((char *)(n)-offsetof(type, member)))

/* ---- connections ---- */

enum conn_state {
	CONN_CONNECTING, /* SYN from the box; the host's connect() is under way */
	CONN_SYN_RCVD,	 /* it succeeded; our SYN-ACK is to be acknowledged */
	CONN_HELD,	 /* accepted on the host; the box refused, and is asked again. Not in the table */
	CONN_SYN_SENT,	 /* accepted on the host; our SYN is to be answered */
	CONN_OPEN,	 /* ESTABLISHED and all that follows, by fin_out, fin_in, and what is acknowledged */
	CONN_TIME_WAIT,	 /* only answers */
};

struct tcp_conn {
	struct tcp_state *t;
	struct tcp_port *tp;
	struct tcp_conn *hash_next;
	struct node in_port, in_turn, in_wait; /* of tp->conns or tp->old; of t->turn_conns; of tp->waiting */
	struct node in_listen;		       /* of listen->waiting, until the box has answered */
	struct flow_key key;		       /* seen from the box: src is the box */
	uint64_t hash;
	enum conn_state state;

	/* The host's side */
	int fd;
	struct loop_source *src; /* NULL also when the socket has nothing more to tell */
	bool want_in, want_out;	 /* what is watched for */
	bool eof;		 /* read() gave the end */
	bool shut;		 /* shutdown(SHUT_WR) is done */
	bool stalled;		 /* reading waits for window, ring or memory */
	uint8_t *syn;		 /* CONNECTING: the box's SYN, for an ICMP error */
	size_t syn_len;

	/* From a published port */
	struct tcp_listen *listen; /* NULL: the box began */
	struct net_addr client;	   /* as the host sees it */
	uint16_t client_port;
	bool other_family; /* the present attempt is by the other family than the client's */

	/* Towards the box (RFC 9293 section 3.3.1) */
	uint32_t iss, snd_una, snd_max, snd_wnd, snd_wl1, snd_wl2, snd_wnd_max;
	uint32_t irs, rcv_nxt, rcv_adv; /* rcv_adv: right edge of the window that the box was told */
	uint16_t mss;			/* of data that it takes */
	uint8_t snd_wscale, rcv_wscale;
	bool scaling;
	bool fin_out, fin_in; /* FIN was sent (it is the last of [snd_una, snd_max)), came */
	bool last_word;	      /* FIN came after ours was sent: TIME_WAIT is our side's */
	bool ack_due;	      /* at the end of the turn */
	uint8_t quick_acks;   /* so many are not delayed: no answer came in time to carry the last */
	bool recovering;      /* until snd_una reaches `recover` */
	uint8_t dup_acks;
	uint32_t recover;
	struct ring out, in;
	uint32_t out_want; /* size of the next `out` ring */

	/* Retransmission */
	uint32_t rtt_seq;
	uint64_t rtt_ns; /* when the segment that ends at rtt_seq was sent; 0: none is timed */
	uint32_t srtt_us, rttvar_us, rto_ms;
	uint8_t backoff;
	uint64_t stuck_ns; /* since when nothing was acknowledged; 0: not */
	uint64_t challenge_ns;
	unsigned n_challenges;

	/* Timers: when to do what the state says, to give up, to send a delayed acknowledgement; TCP_NEVER */
	uint64_t retry_ns, limit_ns, ack_ns;
	uint64_t due_ns; /* in the heap: at most the smallest */
	size_t heap_at;	 /* from 1 on; 0: not in it */
};

struct tcp_listen {
	struct tcp_listen *next;
	struct tcp_port *tp;
	uint16_t guest_port;
	int fd;
	struct loop_source *src;
	bool answered;	     /* the box has accepted here since it was attached, or has had the time to */
	bool paused;	     /* not watched: clients wait in the kernel's queue */
	struct node waiting; /* HELD and SYN_SENT, the oldest first */
	unsigned n_waiting;
};

struct tcp_port { /* what we know of a port */
	struct tcp_state *t;
	struct port *p;
	struct node conns, old; /* old: in TIME_WAIT, the oldest first */
	unsigned n_half_open, n_old;
	unsigned n_clients; /* of `conns`, from published ports */
	struct ring_user rings;
	struct tcp_listen *listens;
	struct port_waiter waiter;
	struct node waiting; /* connections that wait for room towards the box */
};

struct tcp_state {
	struct engine *g;
	struct tcp_port *ports[NETD_PORTS_MAX]; /* by slot */
	struct tcp_conn **table;
	size_t table_mask, n_conns; /* of the table */
	size_t n_all;		    /* connections */
	struct tcp_conn **heap;	    /* binary, from 1 on, by due_ns */
	size_t n_heap, heap_cap;
	struct loop_source *timer;
	uint64_t timer_ns; /* what it is set to */
	struct loop_source *turn;
	struct node turn_conns;
	struct loop_source *accept_timer;
	bool accept_later; /* it runs */
	struct ring_pool pool;
};

/* ---- tcp.c ---- */
struct tcp_port *tcp_port_get(struct tcp_state *t, struct port *p); /* NULL: out of memory */
/* Takes fd in any case; NULL, and fd closed: out of memory or over the box's share. The key is not in the table yet. */
struct tcp_conn *tcp_conn_new(struct tcp_port *tp, enum conn_state state, int fd);
struct tcp_conn *tcp_find(struct tcp_state *t, const struct flow_key *k);
void tcp_enter(struct tcp_conn *c, const struct flow_key *k); /* into the table */
void tcp_leave(struct tcp_conn *c);
void tcp_set_state(struct tcp_conn *c, enum conn_state state);
/* Releases it; the host's peer sees an end, or what the kernel makes of unread data. */
void tcp_conn_free(struct tcp_conn *c);
/* Ends it with RST, towards the box, the host, or both. */
enum tcp_side { TCP_BOX = 1, TCP_HOST = 2, TCP_BOTH = 3 };
void tcp_abort(struct tcp_conn *c, unsigned sides);
/* Both directions are at their end. */
void tcp_finish(struct tcp_conn *c);
/* After retry_ns, limit_ns or ack_ns was made earlier. */
void tcp_timer(struct tcp_conn *c);
/* Initial sequence number (RFC 6528). */
uint32_t tcp_isn(const struct tcp_conn *c);

/* Whether the policy lets it be: asked once at its beginning (not quiet), and when rules change. */
bool tcp_allowed(struct tcp_conn *c, bool quiet);

/* ---- tcp-conn.c ---- */
void tcp_segment(struct tcp_conn *c, const struct pkt *k);
/* Takes over what the box's SYN says. */
void tcp_synchronise(struct tcp_conn *c, const struct pkt *k);
/* Ends the connection if both directions are at their end. */
bool tcp_settle(struct tcp_conn *c);
/* With one direction at its end, the other must not rest for ever. */
void tcp_half_closed(struct tcp_conn *c);

/* ---- tcp-out.c ---- */
/* What the box's SYN or SYN-ACK says of itself. */
void tcp_take_options(struct tcp_conn *c, const struct pkt *k);
void tcp_send_syn(struct tcp_conn *c);	/* SYN, or SYN-ACK in SYN_RCVD */
void tcp_send_ack(struct tcp_conn *c);	/* now; when it could not be, again when there is room */
void tcp_ack_later(struct tcp_conn *c); /* at the end of the turn, if nothing else carries it before */
/*
 * The same for a segment with len bytes of data; what is short is mostly answered, and then waits some time for the
 * answer to carry it (RFC 9293 section 3.8.6.3), unless that was in vain lately.
 */
void tcp_ack_data(struct tcp_conn *c, uint32_t len);
/* Sends len bytes that were just added at the end of `out`. */
void tcp_send_data(struct tcp_conn *c, uint32_t len, bool push);
void tcp_send_fin(struct tcp_conn *c);
void tcp_send_rst(struct tcp_conn *c);
/* Whatever was not acknowledged, from its beginning, as one segment. */
void tcp_retransmit(struct tcp_conn *c);
void tcp_probe(struct tcp_conn *c);		      /* makes the box say what its window is */
void tcp_rto_start(struct tcp_conn *c, uint64_t now); /* from now on */
void tcp_rtt_sample(struct tcp_conn *c, uint64_t now);
/* Bytes of data that one segment carries at most. */
uint32_t tcp_segment_max(const struct tcp_conn *c);
/* Where the window's right edge may be put now. */
uint32_t tcp_window_edge(const struct tcp_conn *c);
/* RST as an answer to what belongs to no connection (RFC 9293 section 3.10.7.1). */
void tcp_refuse(struct port *p, const struct pkt *k);

/* ---- tcp-host.c ---- */
/* Begins to connect to where the box's SYN is to go; the connection may be gone afterwards. */
void tcp_host_connect(struct tcp_conn *c, const struct net_addr *to);
void tcp_host_dns(struct tcp_conn *c);		     /* the same for the gateway's DNS server */
void tcp_host_failed(struct tcp_conn *c, int error); /* ends it: tells the box an errno of connect() */
void tcp_host_options(int fd);
int tcp_host_watch(struct tcp_conn *c); /* makes src; 0 or -errno */
/* Serves fd from now on: the box has agreed. */
bool tcp_host_start(struct tcp_conn *c);
/* Host to box: reads and sends what may be sent. */
bool tcp_pull(struct tcp_conn *c);
/* Box to host: writes what waits, then the end if it has come. */
bool tcp_push(struct tcp_conn *c);
/* New data of the box. Returns what was taken of it, less if there is no memory, or -errno: the host takes no more. */
ssize_t tcp_take(struct tcp_conn *c, const uint8_t *data, size_t len);
/* Puts what is watched for into effect. */
bool tcp_watch(struct tcp_conn *c);
void tcp_wait_room(struct tcp_conn *c);
void tcp_room(struct port_waiter *w);

/* ---- tcp-listen.c ---- */
void tcp_listen_free(struct tcp_listen *l);
void tcp_listen_resume(void *data); /* accept_timer */
/* The box answered the SYN of a client with RST. */
void tcp_client_refused(struct tcp_conn *c);
/* The box answered it by SYN: it is OPEN. Those that wait with it may ask as well. */
void tcp_client_answered(struct tcp_conn *c);
/* It waits no longer, or is going. */
void tcp_client_leave(struct tcp_conn *c);
/* HELD, SYN_SENT: the time for another try has come. */
void tcp_client_retry(struct tcp_conn *c, uint64_t now);

#endif
