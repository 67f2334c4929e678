/* SPDX-License-Identifier: MIT */
/* The parts of the monitor's program, a3s-box-vmm. */
#ifndef VMM_VMM_H
#define VMM_VMM_H

#include "jail.h"
#include "kvm/vm.h"
#include "virtio/balloon.h"
#include "virtio/blk.h"
#include "virtio/console.h"
#include "virtio/net.h"
#include "virtio/rng.h"
#include "virtio/vhost-user-front.h"
#include "virtio/vsock.h"
#include "vmm/protocol.h"

/* Virtio 1.2 section 5.11: bytes of a tag, which need no NUL; more queues would be served by the same thread. */
enum { VMM_FS_TAG_MAX = 36, FS_REQUEST_QUEUES = 1 };
enum { VMM_MMIO_MAX = MACHINE_DISKS_MAX + 6 };

struct vmm_options {
	unsigned vcpus;
	uint64_t mem_bytes;
	unsigned n_disks;
	bool read_only[MACHINE_DISKS_MAX];
	uint64_t started_ns; /* CLOCK_MONOTONIC when the supervisor began to start us */
	bool serial, restore;
	struct net_config net; /* mtu 0: no such device */
	unsigned links;	       /* bits of those that have a peer from the start */
	const char *fs_tag;    /* NULL: no file system device */
};
/* Where its descriptors begin, after the disks'. */
static inline int vmm_fd_net(const struct vmm_options *o)
{
	return VMM_FD_DISKS + (int)o->n_disks;
}
/* After these: the socket to the file server, if there is one. */
static inline int vmm_fd_fs(const struct vmm_options *o)
{
	return vmm_fd_net(o) + __builtin_popcount(o->links);
}
/* And after that: state, memory. */
static inline int vmm_fd_restore(const struct vmm_options *o)
{
	return vmm_fd_fs(o) + (o->fs_tag != NULL);
}

struct vmm {
	struct vmm_options o;
	struct loop *loop;
	struct vm *vm;
	struct vsock_dev *vsock;
	struct console_dev *console;
	struct rng_dev *rng;
	struct balloon_dev *balloon;
	struct net_dev *net;	/* NULL: none */
	struct vhost_front *fs; /* NULL: none */
	struct blk_dev *disks[MACHINE_DISKS_MAX];
	struct virtio_mmio *mmio[VMM_MMIO_MAX];
	unsigned n_mmio;
	struct machine_status status;
	struct loop_source *control_io;
	uint32_t pausing_seq; /* of the PAUSE that is not answered yet; 0: none */
	bool paused;
};

/* ---- devices.c ---- */

/* What must be opened by name: before the jail. */
int vmm_open_vsock(struct vmm *v, struct err *e);
/* Makes the devices and puts them on the bus; disks' threads start. After the jail. */
int vmm_add_devices(struct vmm *v, struct err *e);
/* What the guest sent before it ended still goes out, as far as somebody reads it soon. */
void vmm_drain(struct vmm *v);
void vmm_device_stats(const struct vmm *v, struct machine_stats *s);

/* ---- control.c ---- */

int vmm_control_start(struct vmm *v, struct err *e);
/* Says that a link's peer is gone: net_on_disconnect. */
void vmm_control_net_gone(void *data, unsigned link);
/* Says READY. */
void vmm_control_ready(struct vmm *v);

#endif
