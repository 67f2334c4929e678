/* SPDX-License-Identifier: MIT */
/* How Linux finds processors and interrupt lines without ACPI: tables of Intel's MultiProcessor Specification 1.4. */
#ifndef KVM_X86_MPTABLE_H
#define KVM_X86_MPTABLE_H

#include <stdint.h>

/* Last KiB of the 640 KiB of conventional memory, one of the places where it is looked for (section 4). */
#define MPTABLE_GPA	  0x9fc00u
#define MPTABLE_MAX	  0x400u
#define MPTABLE_VCPUS_MAX 32

/*
 * Writes the tables as they have to lie at MPTABLE_GPA: n_vcpus processors whose APIC IDs count from 0, and one
 * ISA interrupt for each bit of irqs, to the I/O APIC's pin of the same number.
 */
void mptable_write(uint8_t dst[MPTABLE_MAX], unsigned n_vcpus, uint32_t irqs);

#endif
