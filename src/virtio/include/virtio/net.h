/* SPDX-License-Identifier: MIT */
/*
 * The network device (virtio 1.2 section 5.1). Frames go over a stream socket, each after its length in 4 bytes,
 * big endian: the framing of QEMU's `-netdev stream`. With vnet_hdr (which QEMU does not know) both sides put a
 * struct virtio_net_hdr (5.1.6, 12 bytes, little endian, counted in the length) before each frame, and frames
 * may be longer than the MTU (segmentation offload); what the guest puts there has been verified. Without it the
 * device finishes checksums and cuts segments itself, so that the peer sees plain frames while the guest still
 * works with large ones.
 *
 * Nothing is queued but one frame per direction and what one turn gathers: a peer that does not read makes the
 * guest wait, a guest without buffers makes the peer wait. A frame that is malformed, longer than the MTU
 * allows, or asks for what the other side did not negotiate, is dropped and counted. A length that no frame can
 * have (more than 65550, or less than a header where one is due) breaks the framing and ends the connection.
 *
 * A device has up to NET_LINKS_MAX links, each a connection of its own, so that a box joins and leaves networks
 * while it runs, although virtio-mmio has no hot-plugging. Link 0 carries untagged frames; link N those with
 * VLAN ID N (IEEE 802.1Q), whose tag exists towards the guest only: the peers of all links see untagged frames.
 * A frame with any other tag, with two, or for a link without a peer, is dropped and counted. The device's link
 * (5.1.4 status) is up while it has any. Each link has its turn; a peer that does not read makes the guest wait,
 * on all links, until it reads or goes.
 */
#ifndef VIRTIO_NET_H
#define VIRTIO_NET_H

#include "base/loop.h"
#include "virtio/device.h"

struct net_dev;

#define NET_LINKS_MAX 8

struct net_config {
	uint8_t mac[6];
	uint16_t mtu; /* 68 to 65535: packets, without the Ethernet header and one VLAN tag */
	bool vnet_hdr;
};

/* 0 or -errno. */
int net_new(struct loop *loop, const struct net_config *c, struct net_dev **ret);
struct virtio_device *net_device(struct net_dev *n);
/*
 * Gives a link a peer: a connected SOCK_STREAM socket, non-blocking; consumed, also on failure. 0, -EISCONN when
 * it has one, or -errno.
 */
int net_connect(struct net_dev *n, unsigned link, int fd);
/* Takes it away again; frames under way are lost. Not an error when there is none. */
void net_disconnect(struct net_dev *n, unsigned link);
/*
 * Called from the loop, once per connection, when a link's peer is gone or broke the framing: the link is down
 * by then. net_connect and net_free may be called from it.
 */
void net_on_disconnect(struct net_dev *n, void (*fn)(void *data, unsigned link), void *data);
/* Disconnects. The transport may be freed before or after. NULL allowed. */
void net_free(struct net_dev *n);
DEFINE_CLEANUP(struct net_dev *, net_free)

struct net_stats {
	uint64_t rx_frames, rx_bytes, rx_dropped; /* to the guest */
	uint64_t tx_frames, tx_bytes, tx_dropped; /* from the guest; what is cut counts once */
};
/* From any thread. */
void net_stats(const struct net_dev *n, struct net_stats *ret);

#endif
