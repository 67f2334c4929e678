/* SPDX-License-Identifier: MIT */
/*
 * The machine's set-up: memory slots, processors, and the bus of devices.
 *
 * A device's window is placed so that its registers from VIRTIO_MMIO_PAGE_AT on begin on a page, which is mapped into
 * the guest read-only (KVM_MEM_READONLY, api.rst section 4.35): reads are ordinary loads, writes come out as MMIO.
 * Linux's driver gives ioremap the window's address and length, which need not be aligned. Of the writes, those that
 * happen in ordinary running end in the kernel (KVM_IOEVENTFD, section 4.59): QueueNotify in the device's kick
 * descriptors, and InterruptACK of 1, which has no effect (virtio/mmio.h), in a descriptor that nobody reads.
 *
 *     window i    MMIO_BASE + i * 0x2000 + 0x1000 - 0x60, 0x200 bytes
 *     page i      MMIO_BASE + i * 0x2000 + 0x1000
 */
#include "kvm/vm.h"

#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "base/io.h"
#include "kvm/arch.h"

enum {
	API_VERSION = 12,
	CMDLINE_MAX = 2047 /* bytes: COMMAND_LINE_SIZE of Linux, x86 and arm64, without the NUL */
};

int vm_ioctl(struct vm *vm, int fd, unsigned long request, void *arg)
{
	uint64_t start = time_mono_ns();
	int r;

	do
		r = ioctl(fd, request, arg);
	while (r < 0 && errno == EINTR);
	r = r < 0 ? -errno : r;
	__atomic_fetch_add(&vm->kvm_ns, time_mono_ns() - start, __ATOMIC_RELAXED);
	return r;
}

int vm_ioctl_value(struct vm *vm, int fd, unsigned long request, unsigned long value)
{
	return vm_ioctl(
		vm, fd, request, (void *)value); /* NOLINT: an argument of the kernel's, not a pointer */
}

int vm_extension(struct vm *vm, long capability)
{
	int r = vm_ioctl_value(vm, vm->fd, KVM_CHECK_EXTENSION, (unsigned long)capability);
	return r < 0 ? 0 : r;
}

static int map_slot(
	struct vm *vm, unsigned slot, uint32_t flags, uint64_t gpa, uint64_t len, const void *host)
{
	struct kvm_userspace_memory_region r = {.slot = slot,
		.flags = flags,
		.guest_phys_addr = gpa,
		.memory_size = len,
		.userspace_addr = (uintptr_t)host};
	return vm_ioctl(vm, vm->fd, KVM_SET_USER_MEMORY_REGION, &r);
}

static int create(struct vm *vm, int kvm_fd, struct err *e)
{
	static const struct {
		long capability;
		const char *name;
	} needed[] = {{KVM_CAP_USER_MEMORY, "USER_MEMORY"}, {KVM_CAP_IRQFD, "IRQFD"},
		{KVM_CAP_IOEVENTFD, "IOEVENTFD"}, {KVM_CAP_IMMEDIATE_EXIT, "IMMEDIATE_EXIT"}};

	int r = vm_ioctl_value(vm, kvm_fd, KVM_GET_API_VERSION, 0);
	if (r != API_VERSION)
		return r < 0 ? err_sys(e, r, "/dev/kvm")
			     : err_set(e, -ENOTSUP, "/dev/kvm: API version %d", r);
	vm->fd = vm_ioctl_value(vm, kvm_fd, KVM_CREATE_VM, 0);
	if (vm->fd < 0)
		return err_sys(e, vm->fd, "/dev/kvm: cannot create a machine");
	for (size_t i = 0; i < ARRAY_LEN(needed); i++) {
		if (!vm_extension(vm, needed[i].capability))
			return err_set(e, -ENOTSUP, "/dev/kvm: this host's KVM lacks %s", needed[i].name);
	}
	vm->readonly_mem = vm_extension(vm, KVM_CAP_READONLY_MEM);
	r = vm_ioctl_value(vm, kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (r < (int)sizeof(struct kvm_run))
		return err_set(e, -ENOTSUP, "/dev/kvm: no room for a processor's state");
	vm->run_size = (size_t)r;
	return arch_vm_init(vm, kvm_fd, e);
}

static int add_memory(struct vm *vm, const struct vm_config *c, struct err *e)
{
	int r = memory_init(&vm->mem, c->mem_bytes, c->shared_memory, c->restore_mem_fd, e);
	if (r < 0)
		return r;
	for (unsigned i = 0; i < vm->mem.guest.n_regions; i++) {
		const struct guest_mem_region *g = &vm->mem.guest.regions[i];
		r = map_slot(vm, SLOT_RAM + i, 0, g->gpa, g->len, g->host);
		if (r < 0)
			return err_sys(e, r, "/dev/kvm: guest memory");
	}
	return 0;
}

static int add_vcpu(struct vm *vm, struct vcpu *v, struct err *e)
{
	v->fd = vm_ioctl_value(vm, vm->fd, KVM_CREATE_VCPU, v->index);
	if (v->fd < 0)
		return err_sys(e, v->fd, "/dev/kvm: cannot create processor %u", v->index);
	void *run = mmap(NULL, vm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);
	if (run == MAP_FAILED)
		return err_sys(e, -errno, "/dev/kvm: processor %u", v->index);
	v->run = run;
	return arch_vcpu_init(vm, v, e);
}

static int set_up(struct vm *vm, const struct vm_config *c, struct err *e)
{
	int r = vcpus_init(vm);
	if (r == 0)
		r = serial_init(&vm->serial, c->serial_fd);
	if (r < 0)
		return err_sys(e, r, "machine");
	/* Its counters are aligned, hence no calloc. */
	vm->vcpus = aligned_alloc(_Alignof(struct vcpu), c->vcpus * sizeof(*vm->vcpus));
	if (!vm->vcpus)
		return err_oom(e);
	for (unsigned i = 0; i < c->vcpus; i++)
		vm->vcpus[i] = (struct vcpu){.vm = vm, .index = i, .fd = -1};
	vm->n_vcpus = c->vcpus;
	r = create(vm, c->kvm_fd, e);
	if (r == 0)
		r = add_memory(vm, c, e);
	for (unsigned i = 0; r == 0 && i < vm->n_vcpus; i++)
		r = add_vcpu(vm, &vm->vcpus[i], e);
	return r;
}

int vm_new(const struct vm_config *c, struct vm **ret, struct err *e)
{
	if (c->vcpus < 1 || c->vcpus > MACHINE_VCPUS_MAX)
		return err_set(e, -EINVAL, "%u processors: must be 1 to %d", c->vcpus, MACHINE_VCPUS_MAX);
	if (c->mem_bytes < (1 << 20) || c->mem_bytes > MACHINE_MEM_MAX || c->mem_bytes % (1 << 20))
		return err_set(
			e, -EINVAL, "memory of %llu bytes is not possible", (unsigned long long)c->mem_bytes);
	struct vm *vm = calloc(1, sizeof(*vm));
	if (!vm)
		return err_oom(e);
	vm->fd = vm->ack_fd = vm->event_fd = vm->mem.memfd = vm->serial.irq_fd = -1;
	int r = set_up(vm, c, e);
	if (r < 0) {
		vm_free(vm);
		return r;
	}
	*ret = vm;
	return 0;
}

void vm_free(struct vm *vm)
{
	if (!vm)
		return;
	for (unsigned i = 0; i < vm->n_vcpus; i++) {
		if (vm->vcpus[i].run)
			munmap(vm->vcpus[i].run, vm->run_size);
		close_fd(&vm->vcpus[i].fd);
	}
	free(vm->vcpus);
	close_fd(&vm->fd);
	close_fd(&vm->ack_fd);
	memory_done(&vm->mem);
	serial_done(&vm->serial);
	vcpus_done(vm);
	free(vm->arch);
	free(vm);
}

const struct guest_mem *vm_mem(const struct vm *vm)
{
	return &vm->mem.guest;
}

int vm_mem_fd(const struct vm *vm)
{
	return vm->mem.memfd;
}

uint64_t vm_private_resident(const struct vm *vm)
{
	return vm->mem.memfd >= 0 ? 0 : memory_resident(&vm->mem);
}

void vm_discard(void *vm, uint64_t gpa, uint64_t len)
{
	memory_discard(&((struct vm *)vm)->mem, gpa, len);
}

/* ---- devices ---- */

struct device *vm_device_at(struct vm *vm, uint64_t gpa, uint32_t len, uint32_t *ret_off)
{
	uint64_t i = (gpa - arch_mmio_base()) / VM_DEVICE_STRIDE; /* below the base: a huge number */

	if (i >= vm->n_devices || gpa < vm->devices[i].gpa)
		return NULL;
	uint64_t off = gpa - vm->devices[i].gpa;
	if (off + len > VIRTIO_MMIO_LEN)
		return NULL;
	*ret_off = (uint32_t)off;
	return &vm->devices[i];
}

/* Writes of exactly this value to a register, 32 bits wide, go to fd and nowhere else. */
static int bind_write(struct vm *vm, uint64_t gpa, uint32_t value, int fd)
{
	struct kvm_ioeventfd io = {
		.addr = gpa, .len = 4, .fd = fd, .datamatch = value, .flags = KVM_IOEVENTFD_FLAG_DATAMATCH};
	return vm_ioctl(vm, vm->fd, KVM_IOEVENTFD, &io);
}

static int bind_device(struct vm *vm, const struct device *d)
{
	int r = bind_write(vm, d->gpa + VIRTIO_MMIO_INT_ACK, VIRTIO_MMIO_INT_USED, vm->ack_fd);

	for (unsigned q = 0; r == 0 && q < virtio_mmio_n_queues(d->m); q++)
		r = bind_write(vm, d->gpa + VIRTIO_MMIO_QUEUE_NOTIFY, q, virtio_mmio_kick_fd(d->m, q));
	if (r < 0)
		return r;
	struct kvm_irqfd irq = {.fd = (uint32_t)virtio_mmio_irq_fd(d->m), .gsi = d->irq};
	return vm_ioctl(vm, vm->fd, KVM_IRQFD, &irq);
}

int vm_add_device(struct vm *vm, struct virtio_mmio *m, struct err *e)
{
	unsigned i = vm->n_devices;

	if (i == VM_DEVICES_MAX || !arch_device_irq(i))
		return err_set(e, -ENOSPC, "a machine has at most %u devices", i);
	if (vm->ack_fd < 0) {
		vm->ack_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (vm->ack_fd < 0)
			return err_sys(e, -errno, "device %u", i);
	}
	uint64_t page = arch_mmio_base() + (uint64_t)i * VM_DEVICE_STRIDE + VM_PAGE;
	struct device *d = &vm->devices[i];
	*d = (struct device){.m = m, .gpa = page - VIRTIO_MMIO_PAGE_AT, .irq = arch_device_irq(i)};
	int r = bind_device(vm, d);
	/* Without read-only slots every access is an exit, and all else is as before. */
	if (r == 0 && vm->readonly_mem) {
		r = map_slot(vm, SLOT_DEVICES + i, KVM_MEM_READONLY, page, VM_PAGE, virtio_mmio_page(m));
		d->page_mapped = r == 0;
	}
	if (r < 0)
		return err_sys(e, r, "/dev/kvm: device %u", i);
	vm->n_devices++;
	return 0;
}

/* ---- loading ---- */

int vm_load(struct vm *vm, int kernel_fd, int initrd_fd, const char *cmdline, struct err *e)
{
	char line[CMDLINE_MAX + 1];
	size_t n = 0;

	/* In front: what follows a "--" is not the kernel's. drivers/virtio/virtio_mmio.c of Linux has the format. */
	for (unsigned i = 0; i < vm->n_devices && n < sizeof(line); i++)
		n += (size_t)snprintf(line + n, sizeof(line) - n, "virtio_mmio.device=%u@0x%llx:%u ",
			VIRTIO_MMIO_LEN, (unsigned long long)vm->devices[i].gpa, vm->devices[i].irq);
	if (n < sizeof(line))
		n += (size_t)snprintf(line + n, sizeof(line) - n, "%s", cmdline);
	if (n >= sizeof(line))
		return err_set(e, -E2BIG, "the kernel's command line is longer than %d bytes", CMDLINE_MAX);
	return arch_load(vm, kernel_fd, initrd_fd, line, e);
}

/* ---- figures ---- */

void vm_exits(const struct vm *vm, uint64_t exits[EXIT_N])
{
	memset(exits, 0, EXIT_N * sizeof(exits[0]));
	for (unsigned i = 0; i < vm->n_vcpus; i++) {
		for (unsigned k = 0; k < EXIT_N; k++)
			exits[k] += __atomic_load_n(&vm->vcpus[i].exits[k], __ATOMIC_RELAXED);
	}
}

uint64_t vm_kvm_ns(const struct vm *vm)
{
	return __atomic_load_n(&vm->kvm_ns, __ATOMIC_RELAXED);
}

uint64_t vm_first_entry_ns(const struct vm *vm)
{
	return __atomic_load_n(&vm->first_entry_ns, __ATOMIC_RELAXED);
}
