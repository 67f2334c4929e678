/* SPDX-License-Identifier: MIT */
/* The PC that the guest sees: address map, interrupt controllers, processors' set-up, and the few ports. */
#include <string.h>

#include "base/io.h"
#include "kvm/x86/x86.h"

enum { PORT_KEYBOARD = 0x64, PORT_RTC_INDEX = 0x70, PORT_RTC_DATA = 0x71, PORT_SERIAL = 0x3f8 };
enum { KEYBOARD_RESET = 0xfe };
/* MC146818A data sheet: registers of date and status. */
enum { RTC_DAY = 7, RTC_MONTH = 8, RTC_STATUS_D = 0x0d, RTC_VALID = 0x80 };

/* SDM volume 4 */
enum { MSR_MISC_ENABLE = 0x1a0, MSR_MTRR_DEF_TYPE = 0x2ff };
enum {
	MISC_ENABLE_FAST_STRING = 1,
	MISC_ENABLE_NO_BTS = 1 << 11,
	MISC_ENABLE_NO_PEBS = 1 << 12,
	MTRR_WRITE_BACK = 6,
	MTRR_ENABLE = 1 << 11
};

/* ---- address map ---- */

unsigned arch_ram(uint64_t bytes, struct arch_range ret[ARCH_RAM_RANGES_MAX])
{
	ret[0] = (struct arch_range){.gpa = 0, .len = MIN_OF(bytes, X86_RAM_HOLE)};
	if (bytes <= X86_RAM_HOLE)
		return 1;
	ret[1] = (struct arch_range){.gpa = X86_RAM_HIGH, .len = bytes - X86_RAM_HOLE};
	return 2;
}

uint64_t arch_mmio_base(void)
{
	return X86_MMIO_BASE;
}

/* 5 to 23, each a pin of the I/O APIC. */
unsigned arch_device_irq(unsigned i)
{
	return i < X86_IOAPIC_PINS - X86_FIRST_IRQ ? X86_FIRST_IRQ + i : 0;
}

/* ---- set-up ---- */

static int read_msr_list(struct vm *vm, int kvm_fd, struct err *e)
{
	struct x86_msr_list *list = &vm->arch->msrs;

	list->n = X86_MSRS_MAX;
	int r = vm_ioctl(vm, kvm_fd, KVM_GET_MSR_INDEX_LIST, list);
	return r < 0 ? err_sys(e, r, "/dev/kvm: list of registers") : 0;
}

static int read_cpuid(struct vm *vm, int kvm_fd, unsigned n_vcpus, struct err *e)
{
	struct arch_vm *a = vm->arch;

	a->cpuid.n = CPUID_ENTRIES_MAX;
	int r = vm_ioctl(vm, kvm_fd, KVM_GET_SUPPORTED_CPUID, &a->cpuid);
	if (r < 0)
		return err_sys(e, r, "/dev/kvm: what the processor can");
	r = vm_ioctl_value(vm, vm->fd, KVM_GET_TSC_KHZ, 0);
	a->tsc_khz = r > 0 ? (uint32_t)r : 0;
	struct cpuid_machine m = {.n_vcpus = n_vcpus,
		.tsc_khz = a->tsc_khz,
		.tsc_deadline = vm_extension(vm, KVM_CAP_TSC_DEADLINE_TIMER)};
	cpuid_prepare(&a->cpuid, &m);
	return 0;
}

int arch_vm_init(struct vm *vm, int kvm_fd, struct err *e)
{
	struct kvm_enable_cap no_pmu = {.cap = KVM_CAP_PMU_CAPABILITY, .args = {KVM_PMU_CAP_DISABLE}};

	vm->arch = calloc(1, sizeof(*vm->arch));
	if (!vm->arch)
		return err_oom(e);
	/* Intel's VMX wants it before any processor (api.rst section 4.25); the identity map has a default (4.55). */
	int r = vm_ioctl_value(vm, vm->fd, KVM_SET_TSS_ADDR, X86_TSS);
	if (r == 0)
		r = vm_ioctl(vm, vm->fd, KVM_CREATE_IRQCHIP, NULL);
	if (r < 0)
		return err_sys(e, r, "/dev/kvm: cannot create interrupt controllers");
	vm_ioctl(vm, vm->fd, KVM_ENABLE_CAP,
		&no_pmu); /* an old KVM has counters; CPUID shows none either way */
	if (vm->serial.irq_fd >= 0) {
		struct kvm_irqfd irq = {.fd = (uint32_t)vm->serial.irq_fd, .gsi = X86_SERIAL_IRQ};
		r = vm_ioctl(vm, vm->fd, KVM_IRQFD, &irq);
		if (r < 0)
			return err_sys(e, r, "/dev/kvm: debug port");
	}
	r = vm_extension(vm, KVM_CAP_XSAVE2);
	vm->arch->xsave_size = MAX_OF((size_t)r, sizeof(struct kvm_xsave));
	r = read_cpuid(vm, kvm_fd, vm->n_vcpus, e);
	return r < 0 ? r : read_msr_list(vm, kvm_fd, e);
}

int arch_vcpu_init(struct vm *vm, struct vcpu *v, struct err *e)
{
	/*
	 * What a PC's firmware leaves behind. String operations are fast; all memory is write-back where nothing
	 * else is said: the reset value would mean uncached.
	 */
	struct x86_msrs msrs = {.n = 2,
		.e = {{.index = MSR_MISC_ENABLE,
			      .data = MISC_ENABLE_FAST_STRING | MISC_ENABLE_NO_BTS | MISC_ENABLE_NO_PEBS},
			{.index = MSR_MTRR_DEF_TYPE, .data = MTRR_ENABLE | MTRR_WRITE_BACK}}};

	cpuid_identify(&vm->arch->cpuid, v->index); /* overwrites the last one's */
	int r = vm_ioctl(vm, v->fd, KVM_SET_CPUID2, &vm->arch->cpuid);
	if (r < 0)
		return err_sys(e, r, "/dev/kvm: cannot describe processor %u", v->index);
	r = vm_ioctl(vm, v->fd, KVM_SET_MSRS, &msrs);
	return r < 0 ? err_sys(e, r, "/dev/kvm: registers of processor %u", v->index) : 0;
}

/* ---- ports ---- */

/*
 * The guest has its time from kvmclock, and the true one from the host over vsock. A clock that is not there would be
 * waited for (its status would read as "being updated" for ever): it stands at the start of the year 2000.
 */
static uint8_t read_rtc(const struct arch_vm *a)
{
	switch (__atomic_load_n(&a->rtc_index, __ATOMIC_RELAXED)) {
	case RTC_DAY:
	case RTC_MONTH:
		return 1;
	case RTC_STATUS_D:
		return RTC_VALID;
	default:
		return 0;
	}
}

static uint8_t port_read(struct vm *vm, uint16_t port)
{
	if (vm->serial.out_fd >= 0 && port >= PORT_SERIAL && port < PORT_SERIAL + SERIAL_REGS)
		return serial_read(&vm->serial, port - PORT_SERIAL);
	if (port == PORT_RTC_DATA)
		return read_rtc(vm->arch);
	return 0xff; /* as a bus without an answer: Linux finds nothing there, and looks no further */
}

static void port_write(struct vm *vm, struct vcpu *v, uint16_t port, uint8_t value)
{
	if (vm->serial.out_fd >= 0 && port >= PORT_SERIAL && port < PORT_SERIAL + SERIAL_REGS)
		serial_write(&vm->serial, port - PORT_SERIAL, value);
	else if (port == PORT_RTC_INDEX)
		__atomic_store_n(&vm->arch->rtc_index, value & 0x7f, __ATOMIC_RELAXED);
	else if (port == PORT_KEYBOARD && value == KEYBOARD_RESET)
		vcpu_end(v, NULL);
}

/*
 * Wider accesses are of one port each byte, as on the ISA bus; a string operation repeats them (`count`). The kernel
 * leaves the data behind kvm_run (api.rst section 5).
 */
bool arch_exit(struct vm *vm, struct vcpu *v)
{
	struct kvm_run *run = v->run;

	if (run->exit_reason != KVM_EXIT_IO)
		return false;
	size_t len = (size_t)run->io.size * run->io.count;
	if (run->io.data_offset > vm->run_size || len > vm->run_size - run->io.data_offset)
		return false;
	uint8_t *data = (uint8_t *)run + run->io.data_offset;
	for (size_t i = 0; i < len; i++) {
		uint16_t port = (uint16_t)(run->io.port + i % run->io.size);
		if (run->io.direction == KVM_EXIT_IO_IN)
			data[i] = port_read(vm, port);
		else
			port_write(vm, v, port, data[i]);
	}
	return true;
}

/* ---- clock ---- */

/*
 * kvmclock and the processors' TSCs are put back together, by the algorithm of
 * Documentation/virt/kvm/devices/vcpu.rst section 4.1: Linux compares the one with the other, and timers are set in
 * TSC. Where the host cannot tell its own TSC (it is no clock there), or has no such attribute (before Linux 5.16),
 * TSCs run on, and only kvmclock stands still.
 */

static int tsc_offset(struct vm *vm, const struct vcpu *v, unsigned long request, uint64_t *offset)
{
	struct kvm_device_attr a = {
		.group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET, .addr = (uintptr_t)offset};
	return vm_ioctl(vm, v->fd, request, &a);
}

void arch_clock_stop(struct vm *vm)
{
	struct x86_clock *clock = &vm->arch->clock;
	struct kvm_clock_data now = {0};

	*clock = (struct x86_clock){0};
	if (vm_ioctl(vm, vm->fd, KVM_GET_CLOCK, &now) < 0)
		return;
	clock->kvmclock = now.clock;
	if (!(now.flags & KVM_CLOCK_HOST_TSC))
		return;
	for (unsigned i = 0; i < vm->n_vcpus; i++) {
		if (tsc_offset(vm, &vm->vcpus[i], KVM_GET_DEVICE_ATTR, &clock->tsc_offsets[i]) < 0)
			return;
	}
	clock->host_tsc = now.host_tsc;
}

static void set_tscs(struct vm *vm, const struct x86_clock *clock)
{
	struct kvm_clock_data now = {0};

	if (!clock->host_tsc || vm_ioctl(vm, vm->fd, KVM_GET_CLOCK, &now) < 0 ||
		!(now.flags & KVM_CLOCK_HOST_TSC))
		return;
	/* Since kvmclock was set, some time has passed in it: the TSCs must have it too. */
	uint64_t passed =
		(uint64_t)((unsigned __int128)(now.clock - clock->kvmclock) * vm->arch->tsc_khz / 1000000);
	for (unsigned i = 0; i < vm->n_vcpus; i++) {
		uint64_t offset = clock->tsc_offsets[i] + clock->host_tsc - now.host_tsc + passed;
		tsc_offset(vm, &vm->vcpus[i], KVM_SET_DEVICE_ATTR, &offset);
	}
}

void arch_clock_go_on(struct vm *vm)
{
	const struct x86_clock *clock = &vm->arch->clock;
	struct kvm_clock_data c = {.clock = clock->kvmclock};

	if (c.clock && vm_ioctl(vm, vm->fd, KVM_SET_CLOCK, &c) == 0)
		set_tscs(vm, clock);
	/*
	 * The guest is told, so that its watchdogs do not take the pause for a lockup; and KVM shows it the clock
	 * anew. EINVAL: this processor has no kvmclock yet.
	 */
	for (unsigned i = 0; i < vm->n_vcpus; i++)
		vm_ioctl(vm, vm->vcpus[i].fd, KVM_KVMCLOCK_CTRL, NULL);
}
