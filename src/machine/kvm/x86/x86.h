/* SPDX-License-Identifier: MIT */
/* Shared by the files of kvm/x86/. "SDM" is Intel's Software Developer's Manual, "APM" AMD's Programmer's Manual. */
#ifndef KVM_X86_X86_H
#define KVM_X86_X86_H

#include "kvm/arch.h"
#include "kvm/x86/cpuid.h"

/* The guest's address space below 4 GiB. */
#define X86_RAM_HOLE  0xc0000000ull /* memory ends here, and goes on at 4 GiB */
#define X86_RAM_HIGH  0x100000000ull
#define X86_MMIO_BASE 0xd0000000ull
#define X86_IOAPIC    0xfec00000u /* where KVM_CREATE_IRQCHIP has it */
#define X86_LAPIC     0xfee00000u
#define X86_TSS \
	0xfffbd000u /* three pages that Intel's VMX needs for real mode; KVM's own at 0xfffbc000 precedes */
#define X86_IOAPIC_PINS 24
#define X86_SERIAL_IRQ	4
#define X86_FIRST_IRQ	5 /* of devices: 0 to 4 have old meanings that Linux remembers */

enum { X86_MSRS_MAX = 512 };

/* struct kvm_msr_list and kvm_msrs with what they end with. */
struct x86_msr_list {
	uint32_t n;
	uint32_t indices[X86_MSRS_MAX];
};
_Static_assert(offsetof(struct x86_msr_list, indices) == sizeof(struct kvm_msr_list), "kvm_msr_list");
struct x86_msrs {
	uint32_t n, pad;
	struct kvm_msr_entry e[X86_MSRS_MAX];
};
_Static_assert(offsetof(struct x86_msrs, e) == sizeof(struct kvm_msrs), "kvm_msrs");

/* The guest's clocks at one moment: all that makes them go on from there. Part of a saved machine. */
struct x86_clock {
	uint64_t kvmclock; /* ns; 0: not known */
	uint64_t host_tsc; /* at that moment; 0: not known, and neither is what follows */
	uint64_t tsc_offsets[MACHINE_VCPUS_MAX]; /* of each processor's TSC to the host's */
};

struct arch_vm {
	struct cpuid_table cpuid; /* of all processors but for what differs between them */
	struct x86_msr_list msrs; /* what has to be saved of a processor */
	uint32_t tsc_khz;	  /* of the guest's TSC; 0: not known */
	size_t xsave_size;
	struct x86_clock clock; /* while the machine is paused */
	uint8_t rtc_index;
};

/* A processor's state at the 64-bit entry of Linux. */
int x86_set_entry(struct vm *vm, struct vcpu *v, uint64_t entry, uint64_t params, struct err *e);

#endif
