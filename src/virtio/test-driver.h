/* SPDX-License-Identifier: MIT */
/*
 * For tests: a front end that speaks vhost-user, and a guest's virtio-vsock driver that builds rings in a
 * memfd. It keeps to the suppression rules (2.7.7, 2.7.10): it kicks only when asked to and looks at the used
 * rings only when called, so that a lost notification shows as a test that stands still.
 */
#ifndef TEST_DRIVER_H
#define TEST_DRIVER_H

#include <stdbool.h>

#include "base/loop.h"
#include "vhost-user-proto.h"
#include "vsock/internal.h"

enum {
	DRV_QSIZE = 128,
	DRV_RX_PAYLOAD = 3776, /* as Linux */
	DRV_TX_PAYLOAD = 65536,
	DRV_MEM_LEN = 16 << 20,
};
#define DRV_GPA	  0x80000000ULL
#define DRV_UADDR 0x7f1200000000ULL

struct drv_queue {
	size_t desc, avail, used, tables, data; /* offsets in memory */
	size_t slot_len;
	uint16_t avail_idx, used_seen;
	uint16_t kicked; /* avail_idx when the device was last considered for a kick */
	uint16_t free[DRV_QSIZE];
	unsigned n_free;
	int kick, call;
};

struct drv {
	struct loop *loop;
	int sock; /* vhost-user */
	int memfd;
	uint8_t *mem;
	bool event_idx;
	struct drv_queue q[2];
	/* Called for each packet that arrives; the payload is valid during the call. */
	void (*on_packet)(void *data, const struct vsock_hdr *h, const uint8_t *payload);
	void *data;
	bool hold_rx; /* the guest does not look at its receive queue */
	bool mute;    /* a kick is still under way when something else happens */
	uint64_t n_kicks, n_calls;
};

void drv_init(struct drv *d, struct loop *loop, int sock);
void drv_done(struct drv *d);

/* ---- front end ---- */

/* Sends a message; fds may be NULL. */
void drv_send(struct drv *d, uint32_t request, uint32_t flags, const void *payload, uint32_t size,
	const int *fds, unsigned n_fds);
/* Runs the loop until a reply has arrived, at most `turns`; returns its payload size or -1 at end of file. */
int drv_recv(struct drv *d, uint32_t request, void *payload, uint32_t size);
void drv_set_u64(struct drv *d, uint32_t request, uint64_t v);
uint64_t drv_get_u64(struct drv *d, uint32_t request);
void drv_set_state(struct drv *d, uint32_t request, uint32_t index, uint32_t num);
void drv_set_ring_fd(struct drv *d, uint32_t request, uint32_t index, int fd);
void drv_set_mem(struct drv *d);
/* From GET_FEATURES to SET_MEM_TABLE. */
void drv_negotiate(struct drv *d, bool event_idx);
/* Rings are cleared (fresh) or go on at base. Buffers are offered when fresh. */
void drv_start_rings(struct drv *d, const uint16_t base[2], bool fresh);
void drv_stop_rings(struct drv *d, uint16_t ret_base[2]);
/* All of it, from scratch. */
void drv_boot(struct drv *d, bool event_idx);

/* ---- driver ---- */

/* Queues a packet (direct chain, or indirect with `indirect`). False when the queue is full. */
bool drv_tx(struct drv *d, const struct vsock_hdr *h, const void *payload, uint32_t len, bool indirect);
bool drv_tx_full(struct drv *d);
/* One turn of the loop and of the guest. Returns true if anything arrived. */
bool drv_turn(struct drv *d);

#endif
