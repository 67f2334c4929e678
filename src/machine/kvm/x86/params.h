/* SPDX-License-Identifier: MIT */
/* What Linux is told at its 64-bit entry (Documentation/arch/x86/boot.rst and zero-page.rst of Linux). */
#ifndef KVM_X86_PARAMS_H
#define KVM_X86_PARAMS_H

#include <asm/bootparam.h>

#include "kvm/arch.h"

/* Where the loader puts things below MPTABLE_GPA. All of it is the guest's again once it has copied the parameters. */
enum {
	PARAMS_GDT = 0x500,
	PARAMS_ZERO_PAGE = 0x7000,
	PARAMS_PAGE_TABLES = 0x9000, /* three pages */
	PARAMS_SETUP_DATA = 0x1f000,
	PARAMS_CMDLINE = 0x20000
};
#define PARAMS_MAPPED (1ull << 30) /* bytes from 0 that the page tables map to themselves */

/* Selectors of the entry's GDT, as boot.rst wants them. */
enum { PARAMS_CS = 0x10, PARAMS_DS = 0x18 };

struct params_initrd {
	uint64_t gpa, len;
};

/* Fills a zeroed zero page. */
void params_zero_page(
	struct boot_params *p, uint64_t mem_bytes, size_t cmdline_len, const struct params_initrd *initrd);
/* GDT, page tables and a seed for the guest's random numbers. 0, or -EFAULT when memory is too small. */
int params_write_tables(const struct guest_mem *mem);

#endif
