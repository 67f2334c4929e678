/* SPDX-License-Identifier: MIT */
/*
 * What CPUID tells the guest: what KVM can (KVM_GET_SUPPORTED_CPUID, api.rst section 4.46), less what a box is not to
 * have, with the machine's own topology. No KVM here, only tables.
 */
#ifndef KVM_X86_CPUID_H
#define KVM_X86_CPUID_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CPUID_ENTRIES_MAX 256 /* KVM's own limit */

/* struct kvm_cpuid2 with its entries. */
struct cpuid_table {
	uint32_t n, padding;
	struct kvm_cpuid_entry2 e[CPUID_ENTRIES_MAX];
};
_Static_assert(offsetof(struct cpuid_table, e) == sizeof(struct kvm_cpuid2), "kvm_cpuid2");

struct cpuid_machine {
	unsigned n_vcpus;  /* each a core of one thread, all in one package; APIC IDs count from 0 */
	uint32_t tsc_khz;  /* 0: not known */
	bool tsc_deadline; /* KVM_CAP_TSC_DEADLINE_TIMER */
};

/* Entry of a leaf, or NULL. */
struct kvm_cpuid_entry2 *cpuid_find(struct cpuid_table *t, uint32_t function, uint32_t index);
/* Makes the machine's table from KVM's. */
void cpuid_prepare(struct cpuid_table *t, const struct cpuid_machine *m);
/* Puts a processor's own identity into the machine's table. */
void cpuid_identify(struct cpuid_table *t, unsigned vcpu);
/* Would a guest that was started with one table notice the other? Frequencies, which are measured, may differ. */
bool cpuid_same(const struct cpuid_table *a, const struct cpuid_table *b);

#endif
