/* SPDX-License-Identifier: MIT */
/*
 * The vhost-user wire format, in host byte order (both ends share the machine). A message is
 *
 *   u32 request | u32 flags | u32 size | payload of size bytes
 *
 * with up to eight descriptors (SCM_RIGHTS) on its first byte. flags: bits 0-1 version (1), bit 2 reply,
 * bit 3 reply wanted. Source: QEMU 7.2, docs/interop/vhost-user.rst.
 */
#ifndef VHOST_USER_PROTO_H
#define VHOST_USER_PROTO_H

#include <stddef.h>
#include <stdint.h>

enum vhost_user_request {
	VHOST_USER_GET_FEATURES = 1,
	VHOST_USER_SET_FEATURES = 2,
	VHOST_USER_SET_OWNER = 3,
	VHOST_USER_RESET_OWNER = 4,
	VHOST_USER_SET_MEM_TABLE = 5,
	VHOST_USER_SET_VRING_NUM = 8,
	VHOST_USER_SET_VRING_ADDR = 9,
	VHOST_USER_SET_VRING_BASE = 10,
	VHOST_USER_GET_VRING_BASE = 11,
	VHOST_USER_SET_VRING_KICK = 12,
	VHOST_USER_SET_VRING_CALL = 13,
	VHOST_USER_SET_VRING_ERR = 14,
	VHOST_USER_GET_PROTOCOL_FEATURES = 15,
	VHOST_USER_SET_PROTOCOL_FEATURES = 16,
	VHOST_USER_GET_QUEUE_NUM = 17,
	VHOST_USER_SET_VRING_ENABLE = 18,
	VHOST_USER_GET_CONFIG = 24,
};

#define VHOST_USER_F_PROTOCOL_FEATURES \
	(1ULL << 30) /* a virtio feature bit of the transport, never shown to the guest */
#define VHOST_USER_PROTOCOL_F_REPLY_ACK (1ULL << 3)
#define VHOST_USER_PROTOCOL_F_CONFIG	(1ULL << 9)

enum { VHOST_USER_VERSION = 1, VHOST_USER_VERSION_MASK = 3, VHOST_USER_REPLY = 4, VHOST_USER_NEED_REPLY = 8 };

#define VHOST_USER_FDS_MAX     8
#define VHOST_USER_CONFIG_MAX  256 /* bytes of configuration space in one message */
#define VHOST_USER_PAYLOAD_MAX 512 /* above the largest that we accept, 8 + 8 * 32 and 12 + 256 */

/* SET_VRING_KICK, _CALL, _ERR: u64 of ring index and this flag */
#define VHOST_USER_VRING_IDX_MASK 0xff
#define VHOST_USER_VRING_NOFD	  0x100

struct vhost_user_header {
	uint32_t request, flags, size;
};

struct vhost_user_vring_state {
	uint32_t index, num;
};

struct vhost_user_vring_addr {
	uint32_t index, flags; /* bit 0: log writes */
	uint64_t desc, used, avail, log;
};

struct vhost_user_region {
	uint64_t gpa, size, uaddr, mmap_offset;
};

struct vhost_user_memory {
	uint32_t n_regions, padding;
	struct vhost_user_region regions[VHOST_USER_FDS_MAX];
};

struct vhost_user_config {
	uint32_t offset, size, flags;
	uint8_t data[VHOST_USER_CONFIG_MAX];
};

union vhost_user_payload {
	uint64_t u64;
	struct vhost_user_vring_state state;
	struct vhost_user_vring_addr addr;
	struct vhost_user_memory memory;
	struct vhost_user_config config;
	uint8_t bytes[VHOST_USER_PAYLOAD_MAX];
};

struct vhost_user_msg {
	struct vhost_user_header h;
	union vhost_user_payload p;
	int fds[VHOST_USER_FDS_MAX]; /* owned; -1 once taken */
	unsigned n_fds;
	size_t got; /* bytes received of header and payload together */
};

/* A message without content. */
void vhost_user_msg_init(struct vhost_user_msg *m);
/* Closes the descriptors that nobody took, and empties the message. */
void vhost_user_msg_done(struct vhost_user_msg *m);
/*
 * Receives what is there of a message. 1: complete. 0: more has to come. -ECONNRESET: end of stream.
 * -EPROTO: too long, wrong version, too many or cut off descriptors. Other -errno: the socket failed.
 */
int vhost_user_recv(int sock, struct vhost_user_msg *m);
/* The same for the front end: receives a reply. */
int vhost_user_recv_reply(int sock, struct vhost_user_msg *m);
/* Sends a reply to request of size bytes, without blocking. 0 or -errno; a peer that does not read is an
 * error. */
int vhost_user_reply(int sock, uint32_t request, const void *payload, uint32_t size);
/* Sends a request of size bytes with n_fds (at most VHOST_USER_FDS_MAX) descriptors, without blocking. As vhost_user_reply. */
int vhost_user_send(
	int sock, uint32_t request, const void *payload, uint32_t size, const int *fds, unsigned n_fds);

#endif
