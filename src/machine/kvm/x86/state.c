/* SPDX-License-Identifier: MIT */
/*
 * State of processors and of what belongs to the machine as a whole, for memory snapshots.
 *
 * The order of the calls matters (api.rst section 4, and kvm/x86.c of Linux):
 *
 *     read      mp_state first: it lets the APIC act on what it has received; events last, for the same reason
 *     write     mp_state; registers before events, which they would clear; sregs before the APIC, whose base they have;
 *               the APIC before the MSRs, because the deadline timer's is refused in another mode of the timer; TSC
 *               before the deadline; the clock last of all, when the machine goes on
 *
 * The TSCs are written as registers too, for hosts on which nothing better can be done (arch_clock_go_on). Processors
 * are read one after the other, so their values differ by some microseconds; KVM takes values that are this close for
 * the same one (kvm_synchronize_tsc).
 */
#include <string.h>

#include "kvm/x86/x86.h"

enum { VM_STATE_VERSION = 1, VCPU_STATE_VERSION = 1, IRQCHIPS = 3, MSR_TSC_DEADLINE = 0x6e0 };

/* Both as they lie in the file: host order, of one version and build of the host's headers. */
struct vm_state {
	uint32_t version, tsc_khz;
	struct x86_clock clock;
	struct kvm_irqchip chips[IRQCHIPS]; /* 8259 master, slave, I/O APIC */
	uint32_t rtc_index, pad;
	struct cpuid_table cpuid;
};

/* Followed by xsave_len bytes and n_msrs of struct kvm_msr_entry. */
struct vcpu_state {
	uint32_t version, n_msrs, xsave_len, pad;
	struct kvm_mp_state mp_state;
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_debugregs debugregs;
	struct kvm_xcrs xcrs;
	struct kvm_lapic_state lapic;
	struct kvm_vcpu_events events;
};

struct call {
	unsigned long request;
	void *arg;
	const char *what;
};

static int do_calls(struct vm *vm, int fd, const struct call *calls, size_t n, struct err *e)
{
	for (size_t i = 0; i < n; i++) {
		int r = vm_ioctl(vm, fd, calls[i].request, calls[i].arg);
		if (r < 0)
			return err_sys(e, r, "/dev/kvm: a processor's state (%s)", calls[i].what);
	}
	return 0;
}

/* ---- saving ---- */

int arch_vm_save(struct vm *vm, struct buf *out, struct err *e)
{
	CLEANUP_FREE struct vm_state *s = calloc(1, sizeof(*s));

	if (!s)
		return err_oom(e);
	s->version = VM_STATE_VERSION;
	s->tsc_khz = vm->arch->tsc_khz;
	s->clock = vm->arch->clock;
	s->rtc_index = vm->arch->rtc_index;
	s->cpuid = vm->arch->cpuid;
	for (uint32_t i = 0; i < IRQCHIPS; i++) {
		s->chips[i].chip_id = i;
		int r = vm_ioctl(vm, vm->fd, KVM_GET_IRQCHIP, &s->chips[i]);
		if (r < 0)
			return err_sys(e, r, "/dev/kvm: state of the interrupt controllers");
	}
	return buf_append(out, s, sizeof(*s)) < 0 ? err_oom(e) : 0;
}

/* All of the list that this processor has: the kernel stops at the first that it has not (api.rst section 4.18). */
static int read_msrs(struct vm *vm, const struct vcpu *v, struct x86_msrs *ret, struct err *e)
{
	const struct arch_vm *a = vm->arch;
	unsigned n = 0; /* read so far */
	struct x86_msrs part;

	for (unsigned next = 0; next < a->msrs.n;) {
		memset(&part, 0, sizeof(part));
		part.n = a->msrs.n - next;
		for (unsigned i = 0; i < part.n; i++)
			part.e[i].index = a->msrs.indices[next + i];
		int r = vm_ioctl(vm, v->fd, KVM_GET_MSRS, &part);
		if (r < 0)
			return err_sys(e, r, "/dev/kvm: a processor's registers");
		memcpy(&ret->e[n], part.e, (size_t)r * sizeof(part.e[0]));
		n += (unsigned)r;
		next += (unsigned)r + 1;
	}
	ret->n = n;
	return 0;
}

int arch_vcpu_save(struct vm *vm, struct vcpu *v, struct buf *out, struct err *e)
{
	size_t xsave_len = vm->arch->xsave_size;
	struct vcpu_state s = {.version = VCPU_STATE_VERSION, .xsave_len = (uint32_t)xsave_len};
	CLEANUP_FREE uint8_t *xsave = calloc(1, xsave_len);
	struct x86_msrs msrs;

	if (!xsave)
		return err_oom(e);
	const struct call calls[] = {{KVM_GET_MP_STATE, &s.mp_state, "run state"},
		{KVM_GET_REGS, &s.regs, "registers"}, {KVM_GET_SREGS, &s.sregs, "system registers"},
		{KVM_GET_DEBUGREGS, &s.debugregs, "debug registers"}, {KVM_GET_XCRS, &s.xcrs, "xcrs"},
		{xsave_len > sizeof(struct kvm_xsave) ? KVM_GET_XSAVE2 : KVM_GET_XSAVE, xsave, "xsave"},
		{KVM_GET_LAPIC, &s.lapic, "APIC"}};
	const struct call last = {KVM_GET_VCPU_EVENTS, &s.events, "events"};
	int r = do_calls(vm, v->fd, calls, ARRAY_LEN(calls), e);
	if (r == 0)
		r = read_msrs(vm, v, &msrs, e);
	if (r == 0)
		r = do_calls(vm, v->fd, &last, 1, e);
	if (r < 0)
		return r;
	s.n_msrs = msrs.n;
	if (buf_append(out, &s, sizeof(s)) < 0 || buf_append(out, xsave, xsave_len) < 0 ||
		buf_append(out, msrs.e, s.n_msrs * sizeof(msrs.e[0])) < 0)
		return err_oom(e);
	return 0;
}

/* ---- restoring ---- */

static int damaged(struct err *e)
{
	return err_set(e, -EINVAL, "saved machine: damaged, or of another version");
}

/*
 * A saved TSC's frequency is that of the host then, which is measured at each boot. KVM ignores a difference of 250
 * parts in a million; beyond, the processor must be able to scale, and offsets are no longer in units of the host's
 * TSC.
 */
static int set_frequency(struct vm *vm, struct vm_state *s, struct err *e)
{
	uint32_t host = vm->arch->tsc_khz, guest = s->tsc_khz;

	if (!guest || guest == host)
		return 0;
	for (unsigned i = 0; i < vm->n_vcpus; i++) {
		int r = vm_ioctl_value(vm, vm->vcpus[i].fd, KVM_SET_TSC_KHZ, guest);
		if (r < 0)
			return err_sys(e, r, "saved machine: its clock of %u kHz", guest);
	}
	if (((uint64_t)MAX_OF(host, guest) - MIN_OF(host, guest)) * 4000 > host)
		s->clock.host_tsc = 0;
	vm->arch->tsc_khz = guest;
	return 0;
}

int arch_vm_restore(struct vm *vm, const void *data, size_t len, struct err *e)
{
	CLEANUP_FREE struct vm_state *s = malloc(sizeof(*s)); /* aligned */

	if (!s)
		return err_oom(e);
	if (len != sizeof(*s))
		return damaged(e);
	memcpy(s, data, sizeof(*s));
	if (s->version != VM_STATE_VERSION)
		return damaged(e);
	if (!cpuid_same(&s->cpuid, &vm->arch->cpuid))
		return err_set(e, -ENOTSUP,
			"saved machine: it was saved on another processor, or another version of KVM");
	int r = set_frequency(vm, s, e);
	if (r < 0)
		return r;
	for (uint32_t i = 0; i < IRQCHIPS; i++) {
		s->chips[i].chip_id = i;
		r = vm_ioctl(vm, vm->fd, KVM_SET_IRQCHIP, &s->chips[i]);
		if (r < 0)
			return err_sys(e, r, "/dev/kvm: state of the interrupt controllers");
	}
	vm->arch->rtc_index = s->rtc_index & 0x7f;
	vm->arch->clock = s->clock; /* set when the machine goes on: arch_clock_go_on */
	return 0;
}

static bool msr_known(const struct arch_vm *a, uint32_t index)
{
	for (unsigned i = 0; i < a->msrs.n; i++) {
		if (a->msrs.indices[i] == index)
			return true;
	}
	return false;
}

/* Some registers can be read and not written: that is no harm if they have the value anyway. */
static bool msr_is(struct vm *vm, const struct vcpu *v, const struct kvm_msr_entry *want)
{
	struct {
		uint32_t n, pad;
		struct kvm_msr_entry e;
	} one = {.n = 1, .e.index = want->index};

	return vm_ioctl(vm, v->fd, KVM_GET_MSRS, &one) == 1 && one.e.data == want->data;
}

static int write_msrs(
	struct vm *vm, const struct vcpu *v, const struct kvm_msr_entry *e, unsigned n, struct err *err)
{
	struct x86_msrs part;

	for (unsigned next = 0; next < n;) {
		memset(&part, 0, sizeof(part));
		part.n = n - next;
		memcpy(part.e, e + next, (n - next) * sizeof(part.e[0]));
		int r = vm_ioctl(vm, v->fd, KVM_SET_MSRS, &part);
		if (r < 0)
			return err_sys(err, r, "/dev/kvm: a processor's registers");
		next += (unsigned)r;
		if (next < n && !msr_is(vm, v, &e[next]))
			return err_set(err, -EINVAL,
				"/dev/kvm: a processor's register %#x cannot be restored", e[next].index);
		next++;
	}
	return 0;
}

/* The MSRs of a saved processor, in the order in which they are written: the deadline timer's is the last. */
static int sort_msrs(
	const struct arch_vm *a, const void *data, unsigned n, struct kvm_msr_entry *ret, struct err *e)
{
	struct kvm_msr_entry deadline = {0}, entry;
	const uint8_t *p = data;
	unsigned k = 0;

	for (unsigned i = 0; i < n; i++, p += sizeof(entry)) {
		memcpy(&entry, p, sizeof(entry));
		if (!msr_known(a, entry.index))
			return damaged(e);
		if (entry.index == MSR_TSC_DEADLINE)
			deadline = entry;
		else
			ret[k++] = entry;
	}
	if (k < n)
		ret[k++] = deadline;
	return (int)k;
}

int arch_vcpu_restore(struct vm *vm, struct vcpu *v, const void *data, size_t len, struct err *e)
{
	const struct arch_vm *a = vm->arch;
	struct vcpu_state s;
	struct kvm_msr_entry msrs[X86_MSRS_MAX];

	if (len < sizeof(s))
		return damaged(e);
	memcpy(&s, data, sizeof(s));
	if (s.version != VCPU_STATE_VERSION || s.n_msrs > X86_MSRS_MAX || s.xsave_len != a->xsave_size ||
		len != sizeof(s) + a->xsave_size + s.n_msrs * sizeof(msrs[0]))
		return damaged(e);
	CLEANUP_FREE uint8_t *xsave = malloc(a->xsave_size);
	if (!xsave)
		return err_oom(e);
	memcpy(xsave, (const uint8_t *)data + sizeof(s), a->xsave_size);
	int n = sort_msrs(a, (const uint8_t *)data + sizeof(s) + a->xsave_size, s.n_msrs, msrs, e);
	if (n < 0)
		return n;
	const struct call calls[] = {{KVM_SET_MP_STATE, &s.mp_state, "run state"},
		{KVM_SET_REGS, &s.regs, "registers"}, {KVM_SET_SREGS, &s.sregs, "system registers"},
		{KVM_SET_XSAVE, xsave, "xsave"}, {KVM_SET_XCRS, &s.xcrs, "xcrs"},
		{KVM_SET_DEBUGREGS, &s.debugregs, "debug registers"}, {KVM_SET_LAPIC, &s.lapic, "APIC"}};
	int r = do_calls(vm, v->fd, calls, ARRAY_LEN(calls), e);
	if (r == 0)
		r = write_msrs(vm, v, msrs, (unsigned)n, e);
	const struct call last = {KVM_SET_VCPU_EVENTS, &s.events, "events"};
	return r < 0 ? r : do_calls(vm, v->fd, &last, 1, e);
}
