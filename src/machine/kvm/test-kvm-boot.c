/* SPDX-License-Identifier: MIT */
/* What the guest finds in its memory at entry: kernel, boot parameters, processor tables. No KVM. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <elf.h>
#include <sys/mman.h>

#include "base/io.h"
#include "kvm/x86/elf.h"
#include "kvm/x86/mptable.h"
#include "kvm/x86/params.h"
#include "kvm/x86/x86.h"

enum { MIB = 1 << 20, MEM = 4 * MIB, CODE_AT = 2 * MIB };

/* ---- ELF ---- */

struct kernel {
	Elf64_Ehdr h;
	Elf64_Phdr p[2];
	uint8_t code[64];
};

/* One segment of code with some bss, one without a load. */
static struct kernel good_kernel(void)
{
	struct kernel k = {.h = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
				   .e_type = ET_EXEC,
				   .e_machine = EM_X86_64,
				   .e_version = EV_CURRENT,
				   .e_entry = CODE_AT + 4,
				   .e_phoff = offsetof(struct kernel, p),
				   .e_phentsize = sizeof(Elf64_Phdr),
				   .e_phnum = 2},
		.p = {{.p_type = PT_LOAD,
			      .p_offset = offsetof(struct kernel, code),
			      .p_vaddr = 0xffffffff80000000,
			      .p_paddr = CODE_AT,
			      .p_filesz = sizeof(k.code),
			      .p_memsz = 4096},
			{.p_type = PT_NOTE, .p_paddr = UINT64_MAX, .p_filesz = UINT64_MAX}}};
	memset(k.code, 0x90, sizeof(k.code));
	return k;
}

static uint8_t *memory;
static struct guest_mem gm;

static int memory_up(void **state)
{
	memory = mmap(NULL, MEM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	gm = (struct guest_mem){.n_regions = 1, .regions = {{.gpa = 0, .len = MEM, .host = memory}}};
	return memory == MAP_FAILED;
}

static int memory_down(void **state)
{
	return munmap(memory, MEM);
}

static int load(const void *file, size_t len, struct elf_image *ret)
{
	CLEANUP_CLOSE int fd = memfd_create("kernel", MFD_CLOEXEC);
	struct err e = {0};

	assert_int_equal(io_write_full(fd, file, len), 0);
	int r = elf_load(fd, &gm, MIB, PARAMS_MAPPED, ret, &e);
	assert_int_equal(e.code, r);
	assert_true((r < 0) == (e.msg[0] != '\0'));
	return r;
}

static void a_kernel_is_loaded(void **state)
{
	struct kernel k = good_kernel();
	struct elf_image image;

	assert_int_equal(load(&k, sizeof(k), &image), 0);
	assert_int_equal(image.entry, CODE_AT + 4);
	assert_int_equal(image.start, CODE_AT);
	assert_int_equal(image.end, CODE_AT + 4096);
	assert_memory_equal(memory + CODE_AT, k.code, sizeof(k.code));
	assert_int_equal(memory[CODE_AT + sizeof(k.code)], 0);
	assert_int_equal(memory[CODE_AT - 1], 0);
}

static void expect_refused(const struct kernel *k)
{
	struct elf_image image;
	assert_int_equal(load(k, sizeof(*k), &image), -ENOEXEC);
}

static void other_files_are_refused(void **state)
{
	struct kernel k = good_kernel();
	struct elf_image image;

	for (size_t len = 0; len < sizeof(k); len++)
		assert_int_equal(load(&k, len, &image), -ENOEXEC);
	k.h.e_machine = EM_AARCH64;
	expect_refused(&k);
	k = good_kernel();
	k.h.e_ident[EI_CLASS] = ELFCLASS32;
	expect_refused(&k);
	k = good_kernel();
	k.h.e_type = ET_DYN;
	expect_refused(&k);
	k = good_kernel();
	k.h.e_phnum = 0;
	expect_refused(&k);
	k.h.e_phnum = 0xffff;
	expect_refused(&k);
	k = good_kernel();
	k.h.e_phentsize = 1;
	expect_refused(&k);
	k = good_kernel();
	k.h.e_phoff = UINT64_MAX - 8;
	expect_refused(&k);
	k.h.e_phoff = INT64_MAX - 8;
	expect_refused(&k);
}

static void segments_stay_inside(void **state)
{
	static const struct {
		uint64_t paddr, memsz;
	} bad[] = {{MIB - 1, 4096}, {0, 64}, {MEM - 64, 65}, {MEM, 64}, {UINT64_MAX - 64, 128},
		{UINT64_MAX, 64}, {CODE_AT, UINT64_MAX}, {CODE_AT, UINT64_MAX - CODE_AT + 1}, {CODE_AT, 63},
		{PARAMS_MAPPED, 64}, {0x100000000, 64}};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct kernel k = good_kernel();
		k.p[0].p_paddr = bad[i].paddr;
		k.p[0].p_memsz = bad[i].memsz;
		k.h.e_entry = bad[i].paddr;
		expect_refused(&k);
	}
	struct kernel k = good_kernel();
	k.p[0].p_filesz = k.p[0].p_memsz = MIB; /* longer than the file */
	expect_refused(&k);
	k = good_kernel();
	k.p[0].p_offset = INT64_MAX - 8;
	expect_refused(&k);
	k.p[0].p_offset = UINT64_MAX - 8;
	expect_refused(&k);
}

static void entry_is_loaded_code(void **state)
{
	static const uint64_t bad[] = {
		0, CODE_AT - 1, CODE_AT + 64, CODE_AT + 100, UINT64_MAX, 0xffffffff80000000};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct kernel k = good_kernel();
		k.h.e_entry = bad[i];
		expect_refused(&k);
	}
	struct kernel k = good_kernel();
	k.p[0].p_type = PT_NOTE;
	expect_refused(&k);
}

/* ---- MP table ---- */

static uint8_t sum(const uint8_t *p, size_t n)
{
	uint8_t s = 0;
	while (n--)
		s += *p++;
	return s;
}

/* As arch/x86/kernel/mpparse.c of Linux walks it. */
static void check_mptable(unsigned n_vcpus, uint32_t irqs)
{
	static const uint8_t sizes[] = {20, 8, 8, 8, 8};
	uint8_t t[MPTABLE_MAX + 1];
	unsigned n[5] = {0}, entries = 0;
	uint32_t pins = 0;

	memset(t, 0xee, sizeof(t));
	mptable_write(t, n_vcpus, irqs);
	assert_int_equal(t[MPTABLE_MAX], 0xee);
	assert_memory_equal(t, "_MP_", 4);
	assert_int_equal(sum(t, 16), 0);
	uint32_t at;
	memcpy(&at, t + 4, 4);
	const uint8_t *head = t + (at - MPTABLE_GPA), *p = head + 44;
	uint16_t len = (uint16_t)(head[4] | head[5] << 8);
	assert_memory_equal(head, "PCMP", 4);
	assert_true(head + len <= t + MPTABLE_MAX);
	assert_int_equal(sum(head, len), 0);
	for (; p < head + len; p += sizes[*p], entries++) {
		assert_in_range(*p, 0, 4);
		if (*p == 0) {
			assert_int_equal(p[1], n[0]); /* APIC ID */
			assert_int_equal(p[3], n[0] == 0 ? 3 : 1);
		} else if (*p == 2) {
			assert_int_equal(p[1], n_vcpus);
			assert_memory_equal(p + 4, "\x00\x00\xc0\xfe", 4);
		} else if (*p == 3) {
			assert_int_equal(p[2], 5); /* edge, active high */
			assert_int_equal(p[5], p[7]);
			assert_int_equal(p[6], n_vcpus);
			pins |= 1u << p[7];
		}
		n[*p]++;
	}
	assert_ptr_equal(p, head + len);
	assert_int_equal(entries, head[34] | head[35] << 8);
	assert_int_equal(n[0], n_vcpus);
	assert_int_equal(n[1], 1);
	assert_int_equal(n[2], 1);
	assert_int_equal(n[4], 2);
	assert_int_equal(pins, irqs);
}

static void mptable_is_well_formed(void **state)
{
	check_mptable(1, 0);
	check_mptable(1, 1u << 5);
	check_mptable(4, 0xfff0);
	check_mptable(32, 0xffffff);
}

/* ---- boot parameters ---- */

static void expect_e820(const struct boot_params *p, unsigned i, uint64_t from, uint64_t to, uint32_t type)
{
	assert_int_equal(p->e820_table[i].addr, from);
	assert_int_equal(p->e820_table[i].size, to - from);
	assert_int_equal(p->e820_table[i].type, type);
}

static void memory_map_is_told(void **state)
{
	static struct boot_params p, q;
	const struct params_initrd initrd = {.gpa = 0xbff00000, .len = 0x1234};
	const uint64_t gib = 1ull << 30;

	params_zero_page(&p, 128 * MIB, 10, &initrd);
	assert_int_equal(p.e820_entries, 3);
	expect_e820(&p, 0, 0, 0x9fc00, 1);
	expect_e820(&p, 1, 0x9fc00, MIB, 2);
	expect_e820(&p, 2, MIB, 128 * MIB, 1);
	params_zero_page(&q, 5 * gib, 10, &initrd);
	assert_int_equal(q.e820_entries, 4);
	expect_e820(&q, 2, MIB, 3 * gib, 1);
	expect_e820(&q, 3, 4 * gib, 6 * gib, 1);
	assert_int_equal(q.hdr.ramdisk_image, 0xbff00000);
	assert_int_equal(q.hdr.ramdisk_size, 0x1234);
	assert_int_equal(q.hdr.cmd_line_ptr, PARAMS_CMDLINE);
	assert_int_equal(q.hdr.type_of_loader, 0xff);
	assert_int_equal(q.sentinel, 0);
	assert_memory_equal((uint8_t *)&q + 0x202, "HdrS", 4);
}

static void tables_map_memory_to_itself(void **state)
{
	assert_int_equal(params_write_tables(&gm), 0);
	const uint64_t *t = (const uint64_t *)(void *)(memory + PARAMS_PAGE_TABLES);
	assert_int_equal(t[0], PARAMS_PAGE_TABLES + 0x1003);
	assert_int_equal(t[512], PARAMS_PAGE_TABLES + 0x2003);
	assert_int_equal(t[1024], 0x83);
	assert_int_equal(t[1024 + 511], 511ull << 21 | 0x83);
	assert_int_equal(t[1], 0);
	const uint64_t *gdt = (const uint64_t *)(void *)(memory + PARAMS_GDT);
	assert_int_equal(gdt[PARAMS_CS / 8] >> 53 & 1, 1); /* L: 64-bit */
	const struct setup_data *d = (const struct setup_data *)(void *)(memory + PARAMS_SETUP_DATA);
	assert_int_equal(d->type, SETUP_RNG_SEED);
	assert_int_equal(d->next, 0);
	static const uint8_t zeros[32];
	assert_memory_not_equal(d->data, zeros, d->len);
	gm.regions[0].len = PARAMS_PAGE_TABLES;
	assert_int_equal(params_write_tables(&gm), -EFAULT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_kernel_is_loaded, memory_up, memory_down),
		cmocka_unit_test_setup_teardown(other_files_are_refused, memory_up, memory_down),
		cmocka_unit_test_setup_teardown(segments_stay_inside, memory_up, memory_down),
		cmocka_unit_test_setup_teardown(entry_is_loaded_code, memory_up, memory_down),
		cmocka_unit_test(mptable_is_well_formed),
		cmocka_unit_test(memory_map_is_told),
		cmocka_unit_test_setup_teardown(tables_map_memory_to_itself, memory_up, memory_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
