/* SPDX-License-Identifier: MIT */
/*
 * The network device's own structures. net.c is the device and its links, tx.c takes frames from the guest, rx.c
 * brings them to it, offload.c knows checksums and segments.
 */
#ifndef NET_INTERNAL_H
#define NET_INTERNAL_H

#include "net/offload.h"
#include "virtio/net.h"

/* 5.1.3 */
#define NET_F_CSUM	 (1ULL << 0)
#define NET_F_GUEST_CSUM (1ULL << 1)
#define NET_F_MTU	 (1ULL << 3)
#define NET_F_MAC	 (1ULL << 5)
#define NET_F_GUEST_TSO4 (1ULL << 7)
#define NET_F_GUEST_TSO6 (1ULL << 8)
#define NET_F_HOST_TSO4	 (1ULL << 11)
#define NET_F_HOST_TSO6	 (1ULL << 12)
#define NET_F_MRG_RXBUF	 (1ULL << 15)
#define NET_F_STATUS	 (1ULL << 16)

enum { NET_RX, NET_TX, NET_QUEUES }; /* 5.1.2 */
enum { NET_QUEUE_SIZE = 256 };

/* Per direction and turn of the loop. */
enum { NET_BUDGET_FRAMES = 256, NET_BUDGET_BYTES = 1 << 20 };

/* Each frame's length on the socket, big endian, and what it may be with a virtio header. */
enum { NET_PREFIX = 4, NET_WIRE_MAX = NET_HDR_LEN + NET_FRAME_MAX };

/*
 * Bytes for a link's socket wait in its `out`: small frames of one turn, to be sent together (up to OUT_GATHER),
 * and what the socket did not take of a frame. A frame that is cut is written there whole, if its segments fit
 * into OUT_SEGMENTS. Whenever a frame is taken, out_start is 0 and out_end below OUT_GATHER, so there is room
 * for any.
 */
enum {
	NET_OUT_GATHER = 64 << 10,
	NET_OUT_SEGMENTS = 192 << 10,
	NET_OUT_MAX = NET_OUT_GATHER + NET_OUT_SEGMENTS
};
_Static_assert(NET_OUT_SEGMENTS >= NET_PREFIX + NET_WIRE_MAX, "room for any frame");
enum { NET_IN_MAX = 2 * (NET_PREFIX + NET_WIRE_MAX) };

struct net_used {
	uint16_t head;
	uint32_t len;
};

/* What a link may deliver before it is the next one's turn: bytes, beyond which its last frame may go. */
enum { NET_TURN_BYTES = NET_FRAME_MAX };

struct net_link {
	struct net_dev *n;
	int fd; /* of the peer; -1: none, then src, out and in are NULL */
	struct loop_source *src;
	bool hup;  /* the peer is gone; what it wrote may still be in the socket */
	bool gone; /* on_gone has to be called */

	/*
	 * Bytes [out_start, out_end) are for the socket. While it takes no more (blocked), no link takes frames.
	 */
	uint8_t *out;
	size_t out_start, out_end;
	bool blocked, writable;

	/* Bytes [in_start, in_end) came from the socket. */
	uint8_t *in;
	size_t in_start, in_end;
	bool readable;
	int32_t credit; /* bytes that its turn has left */
};

struct net_dev {
	struct virtio_device dev; /* first: the operations get this */
	struct loop *loop;
	struct loop_source *work;
	uint8_t mac[6];
	uint16_t mtu;
	bool vnet_hdr;
	bool tell_link; /* the driver knows another state of the link */
	void (*on_gone)(void *data, unsigned link);
	void *on_gone_data;
	struct net_stats stats;

	struct net_link links[NET_LINKS_MAX];
	unsigned n_blocked;	      /* links that are */
	unsigned turn;		      /* link whose turn it is to deliver */
	bool starved;		      /* the guest has no buffers for the next frame */
	unsigned tx_quiet;	      /* frames given back that the driver was not notified of */
	struct loop_source *tx_timer; /* then it will be */

	struct vq_chain chain;
	/*
	 * The frame at hand: two entries for what precedes it on the socket, its Ethernet header, and the rest
	 * as it lies.
	 */
	struct iovec iov[2 + 1 + VQ_SIZE_MAX];
	uint8_t eth[NET_ETH_LEN];
	struct net_used used[VQ_SIZE_MAX];
	struct offload offload;
};

static inline void net_count(uint64_t *counter, uint64_t n)
{
	__atomic_fetch_add(counter, n, __ATOMIC_RELAXED);
}

/* Bytes that the longest frame of one packet has, without a tag. */
static inline size_t net_frame_limit(const struct net_dev *n)
{
	return (size_t)n->mtu + NET_ETH_LEN;
}

/* Its number is also the VLAN ID of its frames (IEEE 802.1Q), but for 0, whose frames have no tag. */
static inline unsigned net_link_id(const struct net_link *l)
{
	return (unsigned)(l - l->n->links);
}

enum { NET_TYPE_AT = 12, NET_TYPE_VLAN = 0x8100, NET_TYPE_QINQ = 0x88a8 };

/* The type of an Ethernet frame, or of what follows a tag if p is that much further. */
static inline uint16_t net_type(const uint8_t *p)
{
	return (uint16_t)(p[NET_TYPE_AT] << 8 | p[NET_TYPE_AT + 1]);
}

static inline bool net_type_is_tag(uint16_t type)
{
	return type == NET_TYPE_VLAN || type == NET_TYPE_QINQ;
}

/* Works on a queue. True when it stopped only because its budget was spent. */
bool net_tx_pump(struct net_dev *n);
bool net_rx_pump(struct net_dev *n);
/* Notifies the driver of the frames that it was not told of. */
void net_tx_tell(struct net_dev *n);
/* Sends what waits in out. */
void net_tx_flush(struct net_link *l);

/* Takes a link down and has on_gone called later. */
void net_down(struct net_link *l);
/* A queue was found broken: both are. */
void net_broken(struct net_dev *n, unsigned queue);

#endif
