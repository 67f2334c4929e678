/* SPDX-License-Identifier: MIT */
/*
 * One virtual machine on the KVM API (Documentation/virt/kvm/api.rst of Linux), inside of the monitor's process.
 *
 * THEORY OF OPERATION
 *
 * Each virtual processor is a thread that lives in KVM_RUN. Interrupt controllers are the kernel's. A device's
 * notifications are ioeventfds and its interrupts irqfds, so that in ordinary running nothing but a debug
 * port or a reset comes back to the monitor at all. Devices themselves run on the monitor's loop (or in threads of
 * their own): virtio/mmio.h.
 *
 * Everything that the kernel must be asked for is asked before vm_start; later calls are KVM_RUN, and, for a paused
 * machine, the ones that read and write state: the filter on system calls counts on it.
 *
 * What knows the processor's architecture is in kvm/x86/ behind kvm/arch.h.
 */
#ifndef KVM_VM_H
#define KVM_VM_H

#include "base/err.h"
#include "base/loop.h"
#include "machine/machine.h"
#include "virtio/mmio.h"

struct vm;

struct vm_config {
	int kvm_fd; /* /dev/kvm; borrowed during vm_new */
	unsigned vcpus;
	uint64_t mem_bytes;
	bool shared_memory; /* in a memfd, for devices in other processes; else anonymous, which gets huge pages */
	int restore_mem_fd; /* memory is this file, private copy-on-write; -1: fresh memory */
	int serial_fd; /* receives what the guest writes to the debug port (8250 at 0x3f8); -1: there is none */
};

/* Virtual machine, interrupt controllers, memory, processors (no threads yet). 0 or -errno with e set. */
int vm_new(const struct vm_config *c, struct vm **ret, struct err *e);
/* No thread may run any more (vm_stop). NULL allowed. Devices are the caller's. */
void vm_free(struct vm *vm);
DEFINE_CLEANUP(struct vm *, vm_free)

/* Guest memory, for devices. Owned by vm. */
const struct guest_mem *vm_mem(const struct vm *vm);
/* The memfd that it lies in, its regions one after the other; -1 without shared_memory. Owned by vm. */
int vm_mem_fd(const struct vm *vm);
/* Bytes of memory of this process alone that are the guest's: of the monitor's own figures, what is not its own. */
uint64_t vm_private_resident(const struct vm *vm);
/* Gives pages back to the host: a balloon_config.discard. Ranges outside of memory are ignored. */
void vm_discard(void *vm, uint64_t gpa, uint64_t len);

/* Puts a device on the bus: address, interrupt line, kick and interrupt descriptors, register page. Borrowed. */
int vm_add_device(struct vm *vm, struct virtio_mmio *m, struct err *e);
/*
 * Loads vmlinux (ELF64) and initramfs, boot parameters, processor tables; the command line gets one
 * `virtio_mmio.device=` per device. After the last vm_add_device. Descriptors are borrowed.
 */
int vm_load(struct vm *vm, int kernel_fd, int initrd_fd, const char *cmdline, struct err *e);

struct vm_start {
	struct loop *loop; /* allows loop_call */
	/* Called first on each processor's thread, before the guest runs on it (its system call filter). 0 or -errno. */
	int (*on_thread)(void *data);
	/* Once, from the loop: the guest has reset or powered off, or cannot run; why is a static text (NULL: a reset). */
	void (*on_end)(void *data, const char *why);
	void *data;
	bool paused; /* begin as if paused */
};
/* Starts the processors' threads, and waits until each has run on_thread. 0 or -errno with e set. */
int vm_start(struct vm *vm, const struct vm_start *s, struct err *e);
/*
 * fn is called from the loop when every processor is out of the guest. Pausing a paused machine is fine. Devices go on:
 * suspend them after. The processor that waits for the loop (loop_call) counts when it comes back.
 */
void vm_pause(struct vm *vm, void (*fn)(void *data), void *data);
void vm_resume(struct vm *vm);
/* Ends all threads; the loop's thread runs pending loop_calls meanwhile. */
void vm_stop(struct vm *vm);

/* From any thread: exits by kind. */
void vm_exits(const struct vm *vm, uint64_t exits[EXIT_N]);
/* Time spent in KVM's ioctls so far, and when the first processor entered the guest (CLOCK_MONOTONIC; 0: not yet). */
uint64_t vm_kvm_ns(const struct vm *vm);
uint64_t vm_first_entry_ns(const struct vm *vm);

/* ---- memory snapshots, of a paused machine; kvm/snapshot.c ---- */

/*
 * State of processors, interrupt controllers, clock and (suspended) devices to state_fd; memory to mem_fd, holes left out.
 * Plain structures behind a header with magic, version and sizes. 0 or -errno with e set.
 */
int vm_save(struct vm *vm, int state_fd, int mem_fd, struct err *e);
/*
 * The reverse, into a machine made by vm_new with restore_mem_fd and the same devices added in the same order, before
 * vm_start (which then starts it running, or paused). The file is not trusted. Devices' queues start.
 */
int vm_restore(struct vm *vm, int state_fd, struct err *e);

#endif
