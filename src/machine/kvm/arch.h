/* SPDX-License-Identifier: MIT */
/*
 * What the machine's core asks of the processor's architecture: x86/ implements it. Nothing else in kvm/ knows one.
 *
 * Functions that return int give 0 or -errno with e set.
 */
#ifndef KVM_ARCH_H
#define KVM_ARCH_H

#include "base/buf.h"
#include "base/err.h"
#include "kvm/internal.h"

/* ---- the guest's address space ---- */

struct arch_range {
	uint64_t gpa, len;
};
/* How `bytes` of memory lie in it: back to back in the memory file, in this order. Returns the number of ranges. */
#define ARCH_RAM_RANGES_MAX 2
unsigned arch_ram(uint64_t bytes, struct arch_range ret[ARCH_RAM_RANGES_MAX]);
/* Address from which the devices' windows lie (a multiple of 64 KiB), outside of all memory. */
uint64_t arch_mmio_base(void);
/* Interrupt line of device i, for KVM_IRQFD. 0: there are no more. */
unsigned arch_device_irq(unsigned i);

/* ---- set-up ---- */

/* After KVM_CREATE_VM, before memory and processors. kvm_fd is borrowed for the call. */
int arch_vm_init(struct vm *vm, int kvm_fd, struct err *e);
/* After KVM_CREATE_VCPU and the mapping of its kvm_run; before anything runs. */
int arch_vcpu_init(struct vm *vm, struct vcpu *v, struct err *e);
/* After all devices: what only exists with them. */
int arch_load(struct vm *vm, int kernel_fd, int initrd_fd, const char *cmdline, struct err *e);

/* ---- running ---- */

/* An exit that kvm/vcpu.c does not know, on the processor's thread. False: it is not the architecture's either. */
bool arch_exit(struct vm *vm, struct vcpu *v);
/*
 * On the loop's thread, every processor out of the guest: the guest's clock stops, and later goes on from where it
 * stood. Nothing that fails here would be better for failing: a clock that cannot be set just goes on.
 */
void arch_clock_stop(struct vm *vm);
void arch_clock_go_on(struct vm *vm);

/* ---- memory snapshots; every processor out of the guest ---- */

/* Append to out. */
int arch_vm_save(struct vm *vm, struct buf *out, struct err *e);
int arch_vcpu_save(struct vm *vm, struct vcpu *v, struct buf *out, struct err *e);
/*
 * From what the same function of this version saved, which is not trusted. First the machine, then each processor,
 * then the clock.
 */
int arch_vm_restore(struct vm *vm, const void *data, size_t len, struct err *e);
int arch_vcpu_restore(struct vm *vm, struct vcpu *v, const void *data, size_t len, struct err *e);

#endif
