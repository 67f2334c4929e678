/* SPDX-License-Identifier: MIT */
/*
 * Loading of Linux, and the processor at its entry.
 *
 * vmlinux is entered at its ELF entry, startup_64, as the "64-bit boot protocol" of boot.rst says. What a boot loader
 * does before (real mode, 32-bit entry, decompression) does not happen. Further processors are started by the guest
 * itself, through their APICs.
 */
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "kvm/x86/elf.h"
#include "kvm/x86/mptable.h"
#include "kvm/x86/params.h"
#include "kvm/x86/x86.h"

/* SDM volume 3A, sections 2.5 and 2.2.1; Linux sets all further bits itself. */
enum {
	CR0_PE = 1,
	CR0_ET = 1 << 4,
	CR0_NE = 1 << 5,
	CR4_PAE = 1 << 5,
	EFER_LME = 1 << 8,
	EFER_LMA = 1 << 10
};
#define CR0_PG		(1u << 31)
#define RFLAGS_RESERVED 2

int x86_set_entry(struct vm *vm, struct vcpu *v, uint64_t entry, uint64_t params, struct err *e)
{
	struct kvm_sregs s;
	int r = vm_ioctl(vm, v->fd, KVM_GET_SREGS, &s);
	if (r < 0)
		return err_sys(e, r, "/dev/kvm: registers");
	struct kvm_segment code = {
		.limit = 0xffffffff, .selector = PARAMS_CS, .type = 11, .present = 1, .s = 1, .l = 1, .g = 1};
	struct kvm_segment data = {
		.limit = 0xffffffff, .selector = PARAMS_DS, .type = 3, .present = 1, .s = 1, .db = 1, .g = 1};
	s.cs = code;
	s.ds = s.es = s.fs = s.gs = s.ss = data;
	s.gdt.base = PARAMS_GDT;
	s.gdt.limit = PARAMS_DS + 7;
	s.cr0 = CR0_PE | CR0_ET | CR0_NE | CR0_PG;
	s.cr3 = PARAMS_PAGE_TABLES;
	s.cr4 = CR4_PAE;
	s.efer = EFER_LME | EFER_LMA;
	r = vm_ioctl(vm, v->fd, KVM_SET_SREGS, &s);
	if (r < 0)
		return err_sys(e, r, "/dev/kvm: registers");
	struct kvm_regs regs = {
		.rip = entry, .rsi = params, .rsp = PARAMS_ZERO_PAGE, .rflags = RFLAGS_RESERVED};
	r = vm_ioctl(vm, v->fd, KVM_SET_REGS, &regs);
	return r < 0 ? err_sys(e, r, "/dev/kvm: registers") : 0;
}

/* As high as possible below the hole: what lies in the middle of free memory splits it. */
static int load_initrd(struct vm *vm, int fd, uint64_t kernel_end, struct params_initrd *ret, struct err *e)
{
	uint64_t end = vm->mem.guest.regions[0].len;
	struct stat st;

	*ret = (struct params_initrd){0};
	if (fd < 0)
		return 0;
	if (fstat(fd, &st) < 0)
		return err_sys(e, -errno, "guest initramfs");
	if (!S_ISREG(st.st_mode))
		return err_set(e, -EINVAL, "guest initramfs: not a regular file");
	uint64_t len = (uint64_t)st.st_size;
	if (len > end || ((end - len) & ~(uint64_t)(VM_PAGE - 1)) < kernel_end)
		return err_set(e, -ENOSPC, "guest initramfs: the machine has too little memory for it");
	ret->gpa = (end - len) & ~(uint64_t)(VM_PAGE - 1);
	ret->len = len;
	void *dst = guest_mem_at(&vm->mem.guest, ret->gpa, len);
	ssize_t n = dst ? io_pread_full(fd, dst, len, 0) : -EFAULT;
	if (n < 0)
		return err_sys(e, (int)n, "guest initramfs");
	if ((uint64_t)n != len)
		return err_set(e, -EIO, "guest initramfs: the file has been cut short");
	return 0;
}

/* Interrupt lines that lead somewhere. */
static uint32_t irqs_in_use(const struct vm *vm)
{
	uint32_t irqs = vm->serial.out_fd >= 0 ? 1u << X86_SERIAL_IRQ : 0;
	for (unsigned i = 0; i < vm->n_devices; i++)
		irqs |= 1u << vm->devices[i].irq;
	return irqs;
}

int arch_load(struct vm *vm, int kernel_fd, int initrd_fd, const char *cmdline, struct err *e)
{
	const struct guest_mem *mem = &vm->mem.guest;
	size_t len = strlen(cmdline);
	struct elf_image kernel;
	struct params_initrd initrd;

	int r = elf_load(kernel_fd, mem, 1 << 20, PARAMS_MAPPED, &kernel, e);
	if (r == 0)
		r = load_initrd(vm, initrd_fd, kernel.end, &initrd, e);
	if (r < 0)
		return r;
	struct boot_params *zero_page = guest_mem_at(mem, PARAMS_ZERO_PAGE, sizeof(*zero_page));
	char *line = guest_mem_at(mem, PARAMS_CMDLINE, len + 1);
	uint8_t *mptable = guest_mem_at(mem, MPTABLE_GPA, MPTABLE_MAX);
	if (!zero_page || !line || !mptable || params_write_tables(mem) < 0)
		return err_set(e, -EFAULT, "the machine has too little memory");
	params_zero_page(zero_page, vm->mem.len, len, &initrd);
	memcpy(line, cmdline, len + 1);
	mptable_write(mptable, vm->n_vcpus, irqs_in_use(vm));
	return x86_set_entry(vm, &vm->vcpus[0], kernel.entry, PARAMS_ZERO_PAGE, e);
}
