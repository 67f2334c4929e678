/* SPDX-License-Identifier: MIT */
/*
 * Checksums and segmentation that one side left to the other (virtio 1.2 section 5.1.6), judged and done in
 * software. Frames are given as they lie, scattered, and may change meanwhile: headers are copied once. They
 * have no tag (IEEE 802.1Q).
 */
#ifndef NET_OFFLOAD_H
#define NET_OFFLOAD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

enum {
	NET_HDR_LEN = 12,
	NET_ETH_LEN = 14,
	NET_VLAN_LEN = 4,
	NET_FRAME_MAX = 65550, /* 5.1.6.3: the largest packet, without its header */
};
enum { NET_HDR_F_NEEDS_CSUM = 1, NET_HDR_F_DATA_VALID = 2 }; /* 5.1.6 */
enum { NET_GSO_NONE = 0, NET_GSO_TCPV4 = 1, NET_GSO_TCPV6 = 4 };

/* 5.1.6: struct virtio_net_hdr, in host order. */
struct net_hdr {
	uint8_t flags, gso_type;
	uint16_t hdr_len, gso_size, csum_start, csum_offset, num_buffers;
};
void net_hdr_decode(struct net_hdr *h, const uint8_t raw[NET_HDR_LEN]);
void net_hdr_encode(uint8_t raw[NET_HDR_LEN], const struct net_hdr *h);

/* A frame: bytes [off, off + len) of scattered memory, which has as many. */
struct net_frame {
	const struct iovec *iov;
	unsigned n;
	size_t off, len;
};

/* Offloads that were negotiated for a direction. TSO without CSUM counts for nothing (5.1.3.1). */
enum { OFFLOAD_CSUM = 1, OFFLOAD_TSO4 = 2, OFFLOAD_TSO6 = 4, OFFLOAD_DATA_VALID = 8 };

/* Smallest segment that we cut: Linux's tcp_min_snd_mss. It bounds how many a frame becomes. */
#define OFFLOAD_MSS_MIN 48
/* Longest headers of a frame that we cut, from the Ethernet header's start to the TCP header's end. */
#define OFFLOAD_HEADERS_MAX 256

/* A TCP frame being cut. Filled by offload_check. */
struct offload {
	uint8_t headers[OFFLOAD_HEADERS_MAX];
	size_t l3, l4, len; /* offsets of the IP and TCP headers, length of all */
	bool v6;
	size_t mss, payload; /* bytes per segment, and in all */
	size_t done;	     /* payload bytes in the segments so far */
	uint32_t index;	     /* of the next segment */
	const struct iovec *iov;
	size_t iov_off; /* where its payload begins */
};

/*
 * Judges a header and the frame that it belongs to by what was negotiated, and leaves nothing in the header
 * that a receiver would have to doubt: unknown flags go, unused fields are zero, hdr_len is the true one. For
 * a frame that is to be cut, fills *o. 0, -EOPNOTSUPP when it asks for what was not negotiated, -EINVAL when
 * it is malformed.
 */
int offload_check(struct net_hdr *h, unsigned negotiated, const struct net_frame *f, struct offload *o);

/* Segments that the frame becomes, at least one. */
size_t offload_count(const struct offload *o);
/* Bytes of the largest of them, headers included. */
size_t offload_segment_max(const struct offload *o);
/*
 * Writes the next segment with valid checksums to dst (offload_segment_max bytes). Its length; 0: that was
 * all.
 */
size_t offload_next(struct offload *o, uint8_t *dst);

/*
 * Completes the checksum of a whole frame whose header offload_check accepted, with NEEDS_CSUM and without
 * GSO.
 */
void offload_checksum(const struct net_hdr *h, uint8_t *frame, size_t len);

#endif
