/* SPDX-License-Identifier: MIT */
/* For tests of the network device: a driver on one end, and a peer on the socket's other. */
#ifndef TEST_LINK_H
#define TEST_LINK_H

#include "net/internal.h"
#include "test-mmio-driver.h"

enum { LINK_MTU = 1500, LINK_FRAME = LINK_MTU + NET_ETH_LEN };

/* Everything that a driver may want, and what one without offloads has. */
#define LINK_PLAIN (VIRTIO_F_INDIRECT_DESC | NET_F_MAC | NET_F_MTU | NET_F_STATUS)
#define LINK_FEATURES \
	(LINK_PLAIN | VIRTIO_F_EVENT_IDX | NET_F_CSUM | NET_F_GUEST_CSUM | NET_F_GUEST_TSO4 | \
		NET_F_GUEST_TSO6 | NET_F_HOST_TSO4 | NET_F_HOST_TSO6)

struct link_buf { /* posted for the device to fill */
	uint16_t head;
	uint64_t gpa;
	uint32_t len;
};

struct link {
	struct loop *loop;
	struct net_dev *n;
	struct tdrv d;
	int peer;			 /* non-blocking */
	unsigned at;			 /* its link */
	unsigned gone;			 /* calls of on_disconnect */
	unsigned gone_link;		 /* what the last one said */
	struct link_buf rx[VQ_SIZE_MAX]; /* by head */
	uint32_t seed;
};

/* A device with a peer, whose driver has not started yet. */
void link_init(struct link *k, bool vnet_hdr, uint16_t mtu);
void link_start(struct link *k, uint64_t features);
void link_done(struct link *k);
/* A fresh socket pair: its other end. The device's own buffers are small if asked. */
int link_pair(struct link *k, bool small);
/* The peer moves to another link. */
void link_use(struct link *k, unsigned link);
uint32_t link_random(struct link *k);
void link_fill(struct link *k, void *buf, size_t len);
struct net_stats link_stats(struct link *k);

/* Offers a frame for transmission, in about so many descriptors; notifies. h may be NULL: no offload. */
void link_send(struct link *k, const struct net_hdr *h, const void *frame, size_t len, unsigned cuts);
/* Takes back all that was transmitted so far. Returns how many. */
unsigned link_reap(struct link *k);
/* Posts a buffer for a frame, in descriptors of `piece` bytes (0: one). link_kick_rx notifies. */
void link_post(struct link *k, uint32_t len, uint32_t piece);
void link_kick_rx(struct link *k);
/* Waits for a frame that the guest gets, and takes all of its buffers. Its length; h may be NULL. */
size_t link_receive(struct link *k, struct net_hdr *h, void *frame, size_t max);

/* The peer writes len bytes, turning the loop while the socket is full. */
void peer_write(struct link *k, const void *buf, size_t len);
/* A frame with its length in front; with a header if h is not NULL. */
void peer_send(struct link *k, const struct net_hdr *h, const void *frame, size_t len);
/* Reads exactly len bytes, turning the loop until they are there. */
void peer_read(struct link *k, void *buf, size_t len);
/* A whole frame as it is on the wire, without its length. */
size_t peer_receive(struct link *k, void *frame, size_t max);
/* Fails if anything more comes for the peer. */
void peer_expect_nothing(struct link *k);

#endif
