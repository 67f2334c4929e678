/* SPDX-License-Identifier: MIT */
/*
 * One virtual machine behind a small interface. A backend is one table of operations (backend.h); which one
 * serves a machine follows from its accelerator: `kvm` is our own monitor, the others are QEMU. In both cases the guest
 * is held by a child process, and its vsock device serves Unix sockets in one folder (virtio/vsock.h). All calls belong to
 * the thread of the loop, the one that started the machine: the child dies with that thread.
 *
 * Legal calls: running: all; ended: free, and whatever else fails with -ESRCH.
 */
#ifndef MACHINE_MACHINE_H
#define MACHINE_MACHINE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/loop.h"
#include "machine/accel.h"

#define MACHINE_VCPUS_MAX 32
#define MACHINE_MEM_MIN \
	(64ull << 20) /* bytes: what our kernel and PID 1 need with a margin for a small workload */
#define MACHINE_MEM_MAX	  (1ull << 40)
#define MACHINE_DISKS_MAX 8

struct machine_disk {
	const char *path;
	bool read_only;
};

/* The network device (virtio/net.h, with virtio headers). */
#define MACHINE_LINKS_MAX 8
struct machine_net {
	bool present;
	uint8_t mac[6];
	uint16_t mtu;
	/*
	 * Peers of the links at the start: connected SOCK_STREAM sockets, borrowed; 0 and below: none, so that zero is
	 * "no link". Others come and go by machine_net_connect.
	 */
	int fds[MACHINE_LINKS_MAX];
};

struct machine_config {
	const char
		*name; /* shown in the host's list of processes where the backend has nothing else to show */
	const char *kernel; /* vmlinux */
	const char *initrd;
	const char *monitor;  /* a3s-box-vmm; only ACCEL_KVM */
	const char *qemu_net; /* a3s-box-qemu.so; only with a network device, and not ACCEL_KVM */
	unsigned vcpus;	      /* 1 to MACHINE_VCPUS_MAX */
	uint64_t mem_bytes;   /* a multiple of 1 MiB */
	struct machine_disk disks[MACHINE_DISKS_MAX]; /* /dev/vda, /dev/vdb, … in this order */
	size_t n_disks;
	enum accel accel; /* as accel_choose gave it: not ACCEL_AUTO */
	uint64_t tsc_khz; /* frequency of the host's time stamp counter, 0 if unknown */
	struct machine_net net;
	/*
	 * The virtio-fs device: a connected vhost-user socket to the process that serves it; 0 and below: none; borrowed.
	 * Guest memory is then shared with that process, a memfd. A machine that has one cannot be saved or go on from a
	 * saved one, and with the kvm backend it ends when that process does.
	 */
	int fs_fd;
	const char *fs_tag; /* 1 to 36 bytes, no comma */
	int vsock_dirfd;    /* folder for the vsock device's sockets; borrowed for the machine's life */
	int hold_fd; /* kept open by the machine's process, so that a lock on it ends with the machine; borrowed */
	int console_fd; /* receives the guest's console; borrowed */
	int log_fd;	/* receives the backend's own messages; borrowed */
	bool debug_serial; /* kvm backend: the kernel's messages from its first instruction on, at the price of an exit per byte */
	/*
	 * A saved machine to go on with, instead of booting: what machine_save wrote, -1 for none (both or neither). The
	 * memory is mapped copy-on-write: the file must not change while the machine lives. Only ACCEL_KVM.
	 */
	int restore_state_fd, restore_mem_fd;
};

struct machine;

/* Starts the machine; the guest runs, or soon will, when this returns. 0 or -errno. */
int machine_start(struct loop *loop, const struct machine_config *c, struct machine **ret, struct err *e);
/* Becomes readable when the machine has ended, for whatever reason. Owned by the machine. */
int machine_end_fd(const struct machine *m);
/* PID of the process that holds the guest, for statistics; 0 when it is gone. */
pid_t machine_pid(const struct machine *m);
/* Ends the machine at once, as pulling the plug, and waits until all of it is gone. */
void machine_kill(struct machine *m);
/* The same without the waiting: the PID of its process, which is the caller's to wait for, or 0. */
pid_t machine_end(struct machine *m);
/* Kills if need be, and frees; pending answers are never called. NULL allowed. */
void machine_free(struct machine *m);
DEFINE_CLEANUP(struct machine *, machine_free)

/* What confines the process that holds the guest, as bits of enum machine_confinement, and why a part is missing. */
enum machine_confinement {
	CONFINED_NO_NEW_PRIVS,
	CONFINED_SECCOMP,
	CONFINED_LANDLOCK,
	CONFINED_USER_NS,
	CONFINED_MOUNT_NS, /* with an empty root */
	CONFINED_NET_NS,
	CONFINED_PID_NS,
	CONFINED_IPC_NS,
	CONFINED_RLIMITS,
	CONFINED_CGROUP,
	CONFINED_N
};
struct machine_status {
	uint32_t confined;	/* 1u << enum machine_confinement */
	char not_confined[256]; /* "landlock: not in this kernel; cgroup: …", empty if all is applied */
};
/* Standard name of a bit: "seccomp", "user-namespace", … */
const char *machine_confinement_name(enum machine_confinement c);
/* false: not known yet (it is before the guest's first instruction). */
bool machine_status(struct machine *m, struct machine_status *ret);

/* ---- answered from the loop, or before they return; result 0 or -errno. One request of each kind at a time, else -EBUSY ---- */

typedef void (*machine_done_fn)(void *data, int result); /* may free the machine */
/*
 * Stops every processor of the guest; its devices finish what they have. With the kvm backend time does not go on for the
 * guest, with QEMU it does.
 */
int machine_pause(struct machine *m, machine_done_fn fn, void *data);
int machine_resume(struct machine *m, machine_done_fn fn, void *data);

enum machine_exit { /* why a processor came back from the guest to the monitor */
	EXIT_IO,
	EXIT_MMIO,
	EXIT_HLT,
	EXIT_INTR,
	EXIT_SHUTDOWN,
	EXIT_OTHER,
	EXIT_N
};
struct machine_stats {
	uint64_t exits[EXIT_N]; /* since the start, all processors; 0 where the backend cannot tell */
	uint64_t cpu_ns;	/* processor time of the process that holds the guest */
	uint64_t resident;	/* bytes of host memory that it uses, guest memory included */
	uint64_t guest_private; /* of that, guest memory that no other process could have; kvm backend only */
	uint64_t private_bytes; /* and what else no other process has: the price of the machine */
	/* kvm backend only, else 0: */
	uint64_t setup_ns;     /* from the start of the process to the first entry into the guest */
	uint64_t kvm_setup_ns; /* of that, inside of the kernel's KVM calls */
	uint64_t kicks, interrupts, disk_requests, disk_read_bytes, disk_write_bytes;
};
typedef void (*machine_stats_fn)(void *data, int result, const struct machine_stats *stats);
int machine_stats(struct machine *m, machine_stats_fn fn, void *data);

/*
 * Writes a paused machine to two files (empty, writable; borrowed): processors and devices, and memory (sparse). The
 * machine stays paused. Disks are not part of it. -ENOTSUP where the backend cannot.
 */
int machine_save(struct machine *m, int state_fd, int mem_fd, machine_done_fn fn, void *data);
/* Asks the guest to give so many bytes of memory back. -ENOTSUP where the backend cannot. */
int machine_balloon(struct machine *m, uint64_t bytes, machine_done_fn fn, void *data);

/*
 * Gives a link of the network device a peer (fd is consumed, also on failure), or with fd -1 takes it away. -ENOTSUP
 * without the device; -EISCONN as the result while the link has a peer. One request of each link at a time, else -EBUSY.
 * What the guest sees of the device's link (5.1.4 status), it sees with the kvm backend only: in QEMU it is always up.
 */
int machine_net_connect(struct machine *m, unsigned link, int fd, machine_done_fn fn, void *data);
/*
 * Called from the loop when a link's peer is gone, once for each connection, and not for one that was taken away. Set right
 * after machine_start; fn may free the machine, or connect the link again.
 */
void machine_net_on_gone(struct machine *m, void (*fn)(void *data, unsigned link), void *data);

/* Path of the QEMU program that the qemu backend would start, malloc'd, or NULL with e set. */
char *machine_qemu_path(struct err *e);

#endif
