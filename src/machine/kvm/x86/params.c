/* SPDX-License-Identifier: MIT */
#include "kvm/x86/params.h"

#include <string.h>

#include "base/io.h"
#include "kvm/x86/mptable.h"
#include "kvm/x86/x86.h"

enum { E820_RAM = 1, E820_RESERVED = 2 };
enum { LOADER_UNREGISTERED = 0xff, BOOT_FLAG = 0xaa55, PROTOCOL = 0x20c, MIB = 1 << 20 };
enum { SEED_BYTES = 32 };
enum { PTE_PRESENT = 1, PTE_WRITE = 2, PTE_LARGE = 0x80, PAGE_2M = 2 << 20 };

static void add_e820(struct boot_params *p, uint64_t from, uint64_t to, uint32_t type)
{
	if (from < to)
		p->e820_table[p->e820_entries++] =
			(struct boot_e820_entry){.addr = from, .size = to - from, .type = type};
}

/* Conventional memory up to the MP table; the PC's hole up to 1 MiB; the rest, with the hole for devices. */
static void set_e820(struct boot_params *p, uint64_t mem_bytes)
{
	struct arch_range r[ARCH_RAM_RANGES_MAX];
	unsigned n = arch_ram(mem_bytes, r);

	add_e820(p, 0, MPTABLE_GPA, E820_RAM);
	add_e820(p, MPTABLE_GPA, MIB, E820_RESERVED);
	add_e820(p, MIB, r[0].len, E820_RAM);
	for (unsigned i = 1; i < n; i++)
		add_e820(p, r[i].gpa, r[i].gpa + r[i].len, E820_RAM);
}

void params_zero_page(
	struct boot_params *p, uint64_t mem_bytes, size_t cmdline_len, const struct params_initrd *initrd)
{
	struct setup_header *h = &p->hdr;

	/* A bzImage's own header would be copied here; vmlinux has none. */
	h->boot_flag = BOOT_FLAG;
	memcpy(&h->header, "HdrS", 4);
	h->version = PROTOCOL;
	h->type_of_loader = LOADER_UNREGISTERED;
	h->loadflags = LOADED_HIGH;
	h->kernel_alignment = 16 * MIB;
	h->cmd_line_ptr = PARAMS_CMDLINE;
	h->cmdline_size = (uint32_t)cmdline_len;
	h->setup_data = PARAMS_SETUP_DATA;
	h->ramdisk_image = (uint32_t)initrd->gpa;
	p->ext_ramdisk_image = (uint32_t)(initrd->gpa >> 32);
	h->ramdisk_size = (uint32_t)initrd->len;
	p->ext_ramdisk_size = (uint32_t)(initrd->len >> 32);
	set_e820(p, mem_bytes);
}

/* A seed, so that getrandom() does not wait where the processor has no RDRAND either; Linux wipes it. */
static int write_seed(const struct guest_mem *mem)
{
	struct setup_data d = {.type = SETUP_RNG_SEED, .len = SEED_BYTES};
	uint8_t *dst = guest_mem_at(mem, PARAMS_SETUP_DATA, sizeof(d) + SEED_BYTES);

	if (!dst)
		return -EFAULT;
	memcpy(dst, &d, sizeof(d));
	io_random(dst + sizeof(d), SEED_BYTES);
	return 0;
}

int params_write_tables(const struct guest_mem *mem)
{
	/* Flat segments, SDM volume 3A section 3.4.5: 64-bit code, execute/read; data, read/write. */
	static const uint64_t gdt[] = {0, 0, 0x00af9b000000ffff, 0x00cf93000000ffff};
	uint64_t *table = guest_mem_at(mem, PARAMS_PAGE_TABLES, 3 * VM_PAGE);
	void *gdt_at = guest_mem_at(mem, PARAMS_GDT, sizeof(gdt));

	if (!table || !gdt_at)
		return -EFAULT;
	memcpy(gdt_at, gdt, sizeof(gdt));
	/* One page each of the three upper levels (SDM volume 3A section 4.5). */
	table[0] = (PARAMS_PAGE_TABLES + VM_PAGE) | PTE_PRESENT | PTE_WRITE;
	table[512] = (PARAMS_PAGE_TABLES + 2 * VM_PAGE) | PTE_PRESENT | PTE_WRITE;
	for (uint64_t i = 0; i < PARAMS_MAPPED / PAGE_2M; i++)
		table[1024 + i] = i * PAGE_2M | PTE_PRESENT | PTE_WRITE | PTE_LARGE;
	return write_seed(mem);
}
