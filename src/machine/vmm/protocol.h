/* SPDX-License-Identifier: MIT */
/*
 * Between the supervisor (kvm.c) and the monitor that it starts (vmm/main.c). Both are of one build.
 *
 * The monitor inherits its descriptors at fixed numbers and its settings as options. They then talk over a
 * SOCK_SEQPACKET pair: the monitor says READY once, when all is set up and before the guest's first instruction; every
 * request is answered by one reply with its op and sequence number, in any order; NET_GONE, whose sequence number is 0, comes
 * once for each connection of a link that ended otherwise than by NET_CONNECT. The monitor may be in the guest's hands: what
 * it says is believed about nothing but itself.
 */
#ifndef VMM_PROTOCOL_H
#define VMM_PROTOCOL_H

#include "machine/machine.h"

enum vmm_fd { /* 1: the guest's console; 2: the monitor's own messages */
	VMM_FD_CONTROL = 3,
	VMM_FD_HOLD = 4, /* nothing is done with it: it keeps the box's lock */
	VMM_FD_VSOCK_DIR = 5,
	VMM_FD_KERNEL = 6,
	VMM_FD_INITRD = 7,
	VMM_FD_DISKS = 8, /* as many as there are disks, then: */
			  /* a peer of each link that --net= names */
			  /* --fs=: the vhost-user socket to the file server */
			  /* restore: state, memory */
};

enum vmm_op {
	VMM_READY,
	VMM_PAUSE,
	VMM_RESUME,
	VMM_STATS,
	VMM_SAVE,
	VMM_BALLOON,
	VMM_NET_CONNECT,
	VMM_NET_GONE, /* no request: the monitor says it by itself */
	VMM_OPS
};

struct vmm_request {
	uint32_t op; /* enum vmm_op */
	uint32_t seq;
	/*
	 * BALLOON: bytes. SAVE comes with two descriptors: state, memory. NET_CONNECT: the link; with a descriptor: its
	 * peer, without: it is to have none.
	 */
	uint64_t arg;
};

struct vmm_reply {
	uint32_t op;
	uint32_t seq;
	int32_t result; /* 0 or -errno */
	uint32_t pad;
	union {
		struct machine_status status; /* READY */
		struct machine_stats stats;   /* STATS: but for what the kernel keeps of the process */
		uint32_t link;		      /* NET_GONE */
	};
};

#endif
