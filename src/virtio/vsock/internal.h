/* SPDX-License-Identifier: MIT */
/*
 * The vsock device's own structures. vsock.c moves packets between the queues and connections, conn.c
 * is the life of a connection, host.c the Unix sockets on the host's side.
 */
#ifndef VSOCK_INTERNAL_H
#define VSOCK_INTERNAL_H

#include <sys/queue.h>

#include "base/buf.h"
#include "virtio/device.h"
#include "virtio/vsock.h"

/* ---- wire format: 5.10.6 ---- */

struct vsock_hdr { /* little endian on the wire, host order in here */
	uint64_t src_cid, dst_cid;
	uint32_t src_port, dst_port;
	uint32_t len; /* payload bytes */
	uint16_t type, op;
	uint32_t flags;
	uint32_t buf_alloc, fwd_cnt;
} __attribute__((packed));
#define VSOCK_HDR_SIZE 44
_Static_assert(sizeof(struct vsock_hdr) == VSOCK_HDR_SIZE, "5.10.6");

enum vsock_op {
	VSOCK_OP_REQUEST = 1,
	VSOCK_OP_RESPONSE = 2,
	VSOCK_OP_RST = 3,
	VSOCK_OP_SHUTDOWN = 4,
	VSOCK_OP_RW = 5,
	VSOCK_OP_CREDIT_UPDATE = 6,
	VSOCK_OP_CREDIT_REQUEST = 7,
};

enum { VSOCK_TYPE_STREAM = 1 };						/* 5.10.6.2 */
enum { VSOCK_SHUT_RCV = 1, VSOCK_SHUT_SEND = 2, VSOCK_SHUT_BOTH = 3 };	/* 5.10.6.5 */
enum { VSOCK_RX = 0, VSOCK_TX = 1, VSOCK_EVENT = 2, VSOCK_QUEUES = 3 }; /* 5.10.2 */

/* 5.10.6.7: struct virtio_vsock_event, one le32 */
enum { VSOCK_EVENT_TRANSPORT_RESET = 0, VSOCK_EVENT_SIZE = 4 };

#define VSOCK_F_STREAM (1ULL << 0) /* 5.10.3 */
#define VSOCK_HOST_CID 2	   /* 5.10.4 */

/* ---- limits ---- */

#define VSOCK_BUF_ALLOC \
	(256 * 1024) /* bytes that a guest may have under way per connection, as Linux offers */
#define VSOCK_CREDIT_STEP \
	(64 * 1024) /* bytes forwarded but not told at which we tell, well before BUF_ALLOC */
#define VSOCK_PKT_MAX	     (64 * 1024) /* payload of one packet to the guest, as Linux sends */
#define VSOCK_CONNS_MAX	     1024
#define VSOCK_CONNECTING_MAX 128 /* host clients without an answer; more wait in the listen queue */
#define VSOCK_STRAY_MAX	     256 /* resets for packets without connection */
#define VSOCK_LINE_MAX	     32	 /* bytes of "CONNECT <port>\n" */
#define VSOCK_HASH_SIZE	     512
#define VSOCK_FIRST_PORT     (1U << 30)	    /* host ports of connections into the guest */
#define VSOCK_LINE_NS	     5000000000ULL  /* a client's time to say CONNECT */
#define VSOCK_ANSWER_NS	     10000000000ULL /* the guest's time to answer a REQUEST */
#define VSOCK_TICK_NS	     1000000000ULL  /* how often both are looked at */

/*
 * Legal moves:
 *   LINE   -> ASKED (line read) | freed (bad line, time, end of file)
 *   ASKED  -> OPEN (RESPONSE) | freed (RST; or host gone, time, before REQUEST was sent) | DEAD (the same,
 * after) OPEN   -> DEAD (error, or clean end: RST to be sent) | LINGER (guest gone, data left) | freed (guest
 * gone) DEAD   -> freed (RST sent or received, device reset) LINGER -> freed (all data written, or nobody
 * reads it) ASKED, OPEN and DEAD are in the hash table: the guest knows of them. DEAD has no descriptor any
 * more.
 */
enum vsock_state { VSOCK_LINE, VSOCK_ASKED, VSOCK_OPEN, VSOCK_DEAD, VSOCK_LINGER };

/* Packets that a connection wants to send: at most one of each kind, which bounds them without a queue. */
enum vsock_want {
	WANT_RST = 1,
	WANT_REQUEST = 2,
	WANT_RESPONSE = 4,
	WANT_SHUTDOWN = 8,
	WANT_CREDIT = 16,
};

struct vsock_conn {
	TAILQ_ENTRY(vsock_conn) all, ready, waiting;
	struct vsock_conn *hash_next;
	struct vsock_dev *v;
	enum vsock_state state;
	int fd;
	struct loop_source *src; /* NULL once the peer hung up: epoll would report that for ever */
	uint32_t guest_port, host_port;
	uint64_t deadline_ns; /* LINE and ASKED */

	unsigned want;
	bool on_ready, on_waiting, hashed;
	bool asked;	    /* REQUEST was sent */
	bool readable;	    /* the socket has data or its end, as far as we know */
	bool hup;	    /* the socket's peer is gone in both directions */
	bool host_eof;	    /* nothing more will come from the host */
	bool host_deaf;	    /* the host does not read any more */
	bool guest_fin;	    /* the guest will not send any more */
	bool guest_deaf;    /* the guest will not receive any more */
	bool fin_done;	    /* the host has been told guest_fin */
	unsigned shut_sent; /* VSOCK_SHUT_ flags that the guest has been told */

	/* guest to host; all free-running (5.10.6.3) */
	uint32_t rx_cnt;   /* payload bytes received from the guest */
	uint32_t fwd_cnt;  /* of these, written to the socket (or discarded for good) */
	uint32_t fwd_told; /* fwd_cnt in the last packet to the guest */
	struct buf out;	   /* received and not yet written: rx_cnt - fwd_cnt bytes */
	/* host to guest */
	uint32_t tx_cnt, peer_alloc, peer_fwd;
};

TAILQ_HEAD(vsock_list, vsock_conn);

struct vsock_stray {
	uint32_t guest_port, host_port;
	uint16_t type;
};

struct vsock_dev {
	struct virtio_device dev; /* first: the transport's pointer is ours */
	struct loop *loop;
	int dirfd, listen_fd;
	struct loop_source *listen_src, *work, *timer;
	bool accept_paused; /* out of descriptors, until the next tick */
	bool timer_armed;
	uint64_t line_ns, answer_ns, tick_ns;

	struct vsock_list all, ready, waiting;
	unsigned n_conns, n_waiting;
	uint32_t next_port, hash_seed;
	struct vsock_conn *hash[VSOCK_HASH_SIZE];

	struct vsock_stray stray[VSOCK_STRAY_MAX]; /* ring */
	unsigned stray_first, n_stray;

	bool tell_reset; /* the guest is to forget its connections, and does not know it yet */

	struct vq_chain chain;
	struct iovec slice[VQ_SIZE_MAX];
};

/* conn.c */

/* A new connection that owns fd (consumed, also on failure), or NULL when there are too many or no memory. */
struct vsock_conn *vsock_conn_new(struct vsock_dev *v, int fd, enum vsock_state state);
void vsock_conn_free(struct vsock_conn *c);
struct vsock_conn *vsock_conn_find(struct vsock_dev *v, uint32_t guest_port, uint32_t host_port);
/* Gives it its addresses and enters it into the hash table. */
void vsock_conn_hash(struct vsock_conn *c, uint32_t guest_port, uint32_t host_port);
/* Begins or ends waiting for the other side, with a time limit; 0 ends. */
void vsock_conn_wait(struct vsock_conn *c, uint64_t limit_ns);
/* Starts watching the socket. 0 or -errno. */
int vsock_conn_watch_new(struct vsock_conn *c, uint32_t events);
/* Watches for what can be used now. */
void vsock_conn_watch(struct vsock_conn *c);
/* Queues it for the rx pump if it has something to send there and may. */
void vsock_conn_schedule(struct vsock_conn *c);
/* True when a data packet could be sent to the guest: data, credit, an open direction. */
bool vsock_conn_can_read(const struct vsock_conn *c);
uint32_t vsock_conn_credit(const struct vsock_conn *c);
/* Something failed: closes the host's side at once and tells the guest. May free c. */
void vsock_conn_reset(struct vsock_conn *c);
/* The guest forgot the connection: what it had sent is still delivered. May free c. */
void vsock_conn_guest_gone(struct vsock_conn *c);
/* The socket has nothing more to give. */
void vsock_conn_host_eof(struct vsock_conn *c);
/* A packet of the guest for this connection; payload is in iov. May free c. */
void vsock_conn_packet(struct vsock_conn *c, const struct vsock_hdr *h, const struct iovec *iov, unsigned n);

/* host.c */

int vsock_host_init(struct vsock_dev *v);
void vsock_host_done(struct vsock_dev *v);
/* Accepts clients if there is room for them, stops otherwise. */
void vsock_host_update(struct vsock_dev *v);
/* Input, or the peer's end, on a connection in state LINE. May free c. */
void vsock_host_line(struct vsock_conn *c, bool hup);
/* Connects to the socket that stands for a host port. Descriptor or -errno. */
int vsock_host_connect(struct vsock_dev *v, uint32_t port);

/* vsock.c */

/* What is saved of the device (struct virtio_device_ops). No connection outlives it, but addresses do. */
struct vsock_saved {
	uint32_t version; /* VSOCK_SAVED_VERSION */
	uint32_t next_port;
};
#define VSOCK_SAVED_VERSION 1

/* Runs the pumps at the end of this turn of the loop. */
void vsock_schedule_work(struct vsock_dev *v);

/* For tests: shortens the limits on waiting clients. */
void vsock_set_limits(struct vsock_dev *v, uint64_t line_ns, uint64_t answer_ns, uint64_t tick_ns);

#endif
