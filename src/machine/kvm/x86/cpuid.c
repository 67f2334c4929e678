/* SPDX-License-Identifier: MIT */
#include "kvm/x86/cpuid.h"

#include <string.h>

#include "base/cleanup.h"

enum reg { EAX, EBX, ECX, EDX };
#define BIT(n) (1u << (n))

/* Bits that KVM offers and a box does not get. SDM volume 2A, CPUID; APM volume 3, appendix E. */
static const struct mask {
	uint32_t function, index;
	enum reg reg;
	uint32_t clear;
} masks[] = {
	/* No performance counters (below): PDCM, DTES64, DS_CPL and DS speak of them. */
	{1, 0, ECX, BIT(15) | BIT(2) | BIT(4)},
	{1, 0, EDX, BIT(21)},
	/* VMX, SVM: nested guests are a large part of KVM's attack surface. */
	{1, 0, ECX, BIT(5)},
	{0x80000001, 0, ECX, BIT(2)},
	/* MONITOR, MWAITX, WAITPKG: waiting in the guest would keep the host's processor. */
	{1, 0, ECX, BIT(3)},
	{0x80000001, 0, ECX, BIT(29)},
	{7, 0, ECX, BIT(5)},
	/* OSXSAVE, OSPKE: states of the running processor, which KVM shows by itself. */
	{1, 0, ECX, BIT(27)},
	{7, 0, ECX, BIT(4)},
	/* SGX, SGX_LC: enclaves need a device of the host, which is not opened. */
	{7, 0, EBX, BIT(2)},
	{7, 0, ECX, BIT(30)},
	/* AMX: 8 KiB of state for each thread, and only for a process that asks for it (arch_prctl). */
	{7, 0, EDX, BIT(22) | BIT(24) | BIT(25)},
	{7, 1, EAX, BIT(21)},
	{7, 1, EDX, BIT(8)},
	{0xd, 0, EAX, BIT(17) | BIT(18)},
	/* IBS, LWP, PERFCTR_CORE, _NB, _LLC: counters again. SKINIT, WDT: of the real machine only. */
	{0x80000001, 0, ECX, BIT(10) | BIT(15) | BIT(23) | BIT(24) | BIT(28) | BIT(12) | BIT(13)},
	/*
	 * Invariant TSC: Linux would prefer the bare TSC to kvmclock, and the TSC does not stand still while the
	 * machine is paused, nor go on at its frequency where a snapshot is resumed.
	 */
	{0x80000007, 0, EDX, BIT(8)},
};

/* Leaves that read as zero, all subleaves. */
static const uint32_t empty_leaves[] = {
	5,	    /* MONITOR/MWAIT */
	9,	    /* direct cache access */
	0xa,	    /* performance counters: KVM runs none for us (KVM_CAP_PMU_CAPABILITY) */
	0x12,	    /* SGX */
	0x14,	    /* processor trace */
	0x1d, 0x1e, /* AMX */
	0x23,	    /* performance counters, extended */
	0x8000000a, /* SVM */
	0x8000001f, /* memory encryption: this guest's is not encrypted */
	0x80000022, /* performance counters of AMD */
	0x80000026, /* extended topology: 0xb and 0x8000001e say enough */
};

enum { LEAF_TOPOLOGY = 0xb, LEAF_TOPOLOGY2 = 0x1f, LEAF_TSC = 0x15, LEAF_FREQUENCY = 0x16 };

static uint32_t *reg_of(struct kvm_cpuid_entry2 *e, enum reg r)
{
	return r == EAX ? &e->eax : r == EBX ? &e->ebx : r == ECX ? &e->ecx : &e->edx;
}

struct kvm_cpuid_entry2 *cpuid_find(struct cpuid_table *t, uint32_t function, uint32_t index)
{
	for (uint32_t i = 0; i < t->n; i++) {
		struct kvm_cpuid_entry2 *e = &t->e[i];
		if (e->function == function &&
			(!(e->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) || e->index == index))
			return e;
	}
	return NULL;
}

static void remove_leaf(struct cpuid_table *t, uint32_t function)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < t->n; i++) {
		if (t->e[i].function != function)
			t->e[n++] = t->e[i];
	}
	t->n = n;
}

/* A leaf that is not there reads as zero below the last one that is, so without room nothing false is said. */
static void put(struct cpuid_table *t, struct kvm_cpuid_entry2 e)
{
	if (t->n < CPUID_ENTRIES_MAX)
		t->e[t->n++] = e;
}

static uint32_t last_leaf(struct cpuid_table *t, uint32_t first)
{
	const struct kvm_cpuid_entry2 *e = cpuid_find(t, first, 0);
	return e ? e->eax : 0;
}

/* "GenuineIntel" in EBX, EDX, ECX: only Intel defines the leaves of frequencies. */
static bool is_intel(struct cpuid_table *t)
{
	const struct kvm_cpuid_entry2 *e = cpuid_find(t, 0, 0);
	return e && e->ebx == 0x756e6547 && e->edx == 0x49656e69 && e->ecx == 0x6c65746e;
}

/* Bits that number n things: the width of the core's number in an APIC ID. */
static unsigned id_bits(unsigned n)
{
	unsigned bits = 0;
	while (1u << bits < n)
		bits++;
	return bits;
}

/* ---- parts of the machine's table ---- */

static void set_leaf_1(struct cpuid_table *t, const struct cpuid_machine *m)
{
	struct kvm_cpuid_entry2 *e = cpuid_find(t, 1, 0);

	if (!e)
		return;
	e->ecx |= BIT(31) | BIT(21); /* a hypervisor; x2APIC, KVM's own whatever the host has */
	/* KVM has the deadline timer whatever the host has, but lists it as a capability only. */
	if (m->tsc_deadline)
		e->ecx |= BIT(24);
	else
		e->ecx &= ~BIT(24);
	e->ebx = (e->ebx & 0xff00u) | 1u << id_bits(m->n_vcpus)
					 << 16; /* CLFLUSH line; APIC IDs of the package */
	if (m->n_vcpus > 1)
		e->edx |= BIT(28); /* HTT: the number just set counts */
	else
		e->edx &= ~BIT(28);
}

/*
 * Who shares a cache: leaf 4 of Intel and 0x8000001d of AMD have the same fields. The first two levels belong to
 * a core, further ones to all.
 */
static void set_caches(struct cpuid_table *t, const struct cpuid_machine *m, uint32_t function)
{
	uint32_t ids = 1u << id_bits(m->n_vcpus);

	for (uint32_t i = 0; i < t->n; i++) {
		struct kvm_cpuid_entry2 *e = &t->e[i];
		if (e->function != function || (e->eax & 0x1f) == 0)
			continue;
		uint32_t level = e->eax >> 5 & 7;
		e->eax &=
			0x3fffu; /* what follows: processors that share it, and (Intel) cores in the package */
		if (level >= 3)
			e->eax |= (ids - 1) << 14;
		if (function == 4)
			e->eax |= (ids - 1) << 26;
	}
}

/* Leaves 0xb and 0x1f, SDM volume 3A section 9.9: one thread per core, all cores in the package. */
static void set_topology(struct cpuid_table *t, const struct cpuid_machine *m, uint32_t function)
{
	enum { TYPE_THREAD = 1, TYPE_CORE = 2 };

	remove_leaf(t, function);
	if (last_leaf(t, 0) < function)
		return;
	struct kvm_cpuid_entry2 e = {.function = function, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX};
	e.ebx = 1;
	e.ecx = TYPE_THREAD << 8;
	put(t, e);
	e.index = 1;
	e.eax = id_bits(m->n_vcpus);
	e.ebx = m->n_vcpus;
	e.ecx = TYPE_CORE << 8 | 1;
	put(t, e);
	e.index = 2;
	e.eax = e.ebx = 0;
	e.ecx = 2;
	put(t, e);
}

/* APM volume 3, E.4.7 and E.4.17. */
static void set_amd_topology(struct cpuid_table *t, const struct cpuid_machine *m)
{
	struct kvm_cpuid_entry2 *e = cpuid_find(t, 0x80000008, 0);
	if (e)
		e->ecx = is_intel(t) ? 0 : id_bits(m->n_vcpus) << 12 | (m->n_vcpus - 1);
	e = cpuid_find(t, 0x8000001e, 0);
	if (e)
		e->eax = e->ebx = e->ecx = e->edx = 0; /* one thread per core, one node */
}

/*
 * SDM: TSC = crystal * EBX / EAX. The crystal also drives the APIC's timer, and KVM's has 1 GHz. Our guest reads
 * neither, it asks kvmclock; others may.
 */
static void set_frequencies(struct cpuid_table *t, const struct cpuid_machine *m)
{
	uint32_t last = last_leaf(t, 0);

	remove_leaf(t, LEAF_TSC);
	remove_leaf(t, LEAF_FREQUENCY);
	if (!is_intel(t) || !m->tsc_khz)
		return;
	if (last >= LEAF_TSC)
		put(t, (struct kvm_cpuid_entry2){
			       .function = LEAF_TSC, .eax = 1000000, .ebx = m->tsc_khz, .ecx = 1000000000});
	if (last >= LEAF_FREQUENCY)
		put(t, (struct kvm_cpuid_entry2){.function = LEAF_FREQUENCY,
			       .eax = m->tsc_khz / 1000,
			       .ebx = m->tsc_khz / 1000});
}

void cpuid_prepare(struct cpuid_table *t, const struct cpuid_machine *m)
{
	for (size_t i = 0; i < ARRAY_LEN(masks); i++) {
		struct kvm_cpuid_entry2 *e = cpuid_find(t, masks[i].function, masks[i].index);
		if (e && e->function == masks[i].function)
			*reg_of(e, masks[i].reg) &= ~masks[i].clear;
	}
	for (size_t i = 0; i < ARRAY_LEN(empty_leaves); i++)
		remove_leaf(t, empty_leaves[i]);
	set_leaf_1(t, m);
	set_caches(t, m, 4);
	set_caches(t, m, 0x8000001d);
	set_topology(t, m, LEAF_TOPOLOGY);
	set_topology(t, m, LEAF_TOPOLOGY2);
	set_amd_topology(t, m);
	set_frequencies(t, m);
}

void cpuid_identify(struct cpuid_table *t, unsigned vcpu)
{
	for (uint32_t i = 0; i < t->n; i++) {
		struct kvm_cpuid_entry2 *e = &t->e[i];
		switch (e->function) {
		case 1:
			e->ebx = (e->ebx & 0x00ffffffu) | vcpu << 24;
			break;
		case LEAF_TOPOLOGY:
		case LEAF_TOPOLOGY2:
			e->edx = vcpu;
			break;
		case 0x8000001e:
			e->eax = vcpu;
			e->ebx = (e->ebx & ~0xffu) | vcpu;
			break;
		default:
			break;
		}
	}
}

bool cpuid_same(const struct cpuid_table *a, const struct cpuid_table *b)
{
	if (a->n != b->n || a->n > CPUID_ENTRIES_MAX)
		return false;
	for (uint32_t i = 0; i < a->n; i++) {
		const struct kvm_cpuid_entry2 *x = &a->e[i], *y = &b->e[i];
		if (x->function != y->function || x->index != y->index || x->flags != y->flags)
			return false;
		if (x->function != LEAF_TSC && x->function != LEAF_FREQUENCY &&
			(x->eax != y->eax || x->ebx != y->ebx || x->ecx != y->ecx || x->edx != y->edx))
			return false;
	}
	return true;
}
