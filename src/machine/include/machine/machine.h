/* SPDX-License-Identifier: MIT */
/*
 * One virtual machine behind a small interface. A backend is one table of operations (backend.h); which one
 * serves a machine follows from its accelerator. All calls belong to one thread, the one that started the
 * machine: a child process backend dies with that thread.
 *
 * Legal calls: running: kill, free; ended: free.
 */
#ifndef MACHINE_MACHINE_H
#define MACHINE_MACHINE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "machine/accel.h"

#define MACHINE_VCPUS_MAX 32
#define MACHINE_MEM_MIN \
	(64ull << 20) /* bytes: what our kernel and PID 1 need with a margin for a small workload */
#define MACHINE_DISKS_MAX 8

struct machine_disk {
	const char *path;
	bool read_only;
};

struct machine_config {
	const char *kernel; /* vmlinux with a PVH entry */
	const char *initrd;
	unsigned vcpus;				      /* 1 to MACHINE_VCPUS_MAX */
	uint64_t mem_bytes;			      /* a multiple of 1 MiB */
	struct machine_disk disks[MACHINE_DISKS_MAX]; /* /dev/vda, /dev/vdb, … in this order */
	size_t n_disks;
	enum accel accel; /* ACCEL_KVM or ACCEL_TCG, as accel_choose gave it */
	uint64_t tsc_khz; /* frequency of the host's time stamp counter, 0 if unknown */
	int vsock_fd;	  /* the front end's end of a connected vhost-user socket; borrowed */
	int hold_fd; /* kept open by the machine's process, so that a lock on it ends with the machine; borrowed */
	int console_fd; /* receives the guest's serial console; borrowed */
	int log_fd;	/* receives the backend's own messages; borrowed */
};

struct machine;

/* Starts the machine; the guest runs when this returns. 0 or -errno. */
int machine_start(const struct machine_config *c, struct machine **ret, struct err *e);
/* Becomes readable when the machine has ended, for whatever reason. Owned by the machine. */
int machine_end_fd(const struct machine *m);
/* PID of the process that holds the guest, for statistics; our own for an in-process backend. */
pid_t machine_pid(const struct machine *m);
/* Ends the machine at once, as pulling the plug, and waits until all of it is gone. */
void machine_kill(struct machine *m);
/* Kills if need be, and frees. NULL allowed. */
void machine_free(struct machine *m);
DEFINE_CLEANUP(struct machine *, machine_free)

/* Path of the QEMU program that the qemu backend would start, malloc'd, or NULL with e set. */
char *machine_qemu_path(struct err *e);

#endif
