/* SPDX-License-Identifier: MIT */
/*
 * Memory snapshots: a machine as two files.
 *
 *     memory    the guest's memory, its regions back to back; as long as the memory, sparse. The machine that goes
 *               on maps it copy-on-write, so that nothing is read before it is used
 *     state     struct header, then records in this order: ARCH, VCPU 0…, SERIAL, DEVICE 0…; each is a struct
 *               record and its data. Host order; read only by the version that wrote it
 *
 * An interrupt that a device sent just before is perhaps still on its way inside of the kernel (irqfd hands it to a
 * worker) and then in no state that can be read. So every line is raised once when the machine goes on: a driver
 * finds nothing new and returns (virtio 1.2 section 2.3).
 *
 * SYSTEM CALLS of vm_save, on the loop's thread: ioctl on the VM: KVM_GET_IRQCHIP; on processors: KVM_GET_MP_STATE,
 * _REGS, _SREGS, _DEBUGREGS, _XCRS, _XSAVE, _XSAVE2, _LAPIC, _MSRS, _VCPU_EVENTS; ftruncate, lseek, write, pwrite64;
 * mmap, munmap, brk (malloc). vm_restore is called before the filters: fstat, pread64 and the KVM_SET_ counterparts,
 * KVM_SET_TSC_KHZ.
 */
#include <elf.h>
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "kvm/arch.h"

#if defined(__x86_64__)
#define ARCH_ID EM_X86_64
#elif defined(__aarch64__)
#define ARCH_ID EM_AARCH64
#endif

enum { STATE_VERSION = 1, STATE_MAX = 8 << 20 };
static const char state_magic[8] = "A3SBOXVM";

enum kind { RECORD_ARCH = 1, RECORD_VCPU, RECORD_SERIAL, RECORD_DEVICE };

struct header {
	char magic[8];
	uint32_t version, arch; /* arch: EM_ of <elf.h> */
	uint32_t n_vcpus, n_devices;
	uint64_t mem_bytes;
	uint64_t len; /* of the file */
};

struct record {
	uint32_t kind, index;
	uint64_t len; /* of what follows */
};

struct serial_state {
	uint8_t ier, lcr, mcr, scr, dll, dlm, thr_empty, pad;
};

/* ---- saving ---- */

/* Begins a record, whose length end_record fills in. Returns where it lies in out. */
static int begin_record(struct buf *out, enum kind kind, unsigned index, size_t *ret_at)
{
	struct record r = {.kind = kind, .index = index};
	*ret_at = out->len;
	return buf_append(out, &r, sizeof(r));
}

static void end_record(struct buf *out, size_t at)
{
	uint64_t len = out->len - at - sizeof(struct record);
	memcpy(buf_data(out) + at + offsetof(struct record, len), &len, sizeof(len));
}

static int save_processors(struct vm *vm, struct buf *out, struct err *e)
{
	size_t at;

	if (begin_record(out, RECORD_ARCH, 0, &at) < 0)
		return err_oom(e);
	int r = arch_vm_save(vm, out, e);
	if (r < 0)
		return r;
	end_record(out, at);
	for (unsigned i = 0; i < vm->n_vcpus; i++) {
		if (begin_record(out, RECORD_VCPU, i, &at) < 0)
			return err_oom(e);
		r = arch_vcpu_save(vm, &vm->vcpus[i], out, e);
		if (r < 0)
			return r;
		end_record(out, at);
	}
	return 0;
}

static int save_devices(
	const struct vm *vm, const struct virtio_mmio_state *devices, struct buf *out, struct err *e)
{
	const struct serial *s = &vm->serial;
	struct serial_state serial = {s->ier, s->lcr, s->mcr, s->scr, s->dll, s->dlm, s->thr_empty, 0};
	size_t at;

	if (begin_record(out, RECORD_SERIAL, 0, &at) < 0 || buf_append(out, &serial, sizeof(serial)) < 0)
		return err_oom(e);
	end_record(out, at);
	for (unsigned i = 0; i < vm->n_devices; i++) {
		if (begin_record(out, RECORD_DEVICE, i, &at) < 0 ||
			buf_append(out, &devices[i], sizeof(devices[i])) < 0)
			return err_oom(e);
		end_record(out, at);
	}
	return 0;
}

/* Everything, with the devices at rest. */
static int save_all(
	struct vm *vm, const struct virtio_mmio_state *devices, int state_fd, int mem_fd, struct err *e)
{
	CLEANUP(buf_done) struct buf out = {0};
	struct header h = {.version = STATE_VERSION,
		.arch = ARCH_ID,
		.n_vcpus = vm->n_vcpus,
		.n_devices = vm->n_devices,
		.mem_bytes = vm->mem.len};

	memcpy(h.magic, state_magic, sizeof(h.magic));
	if (buf_append(&out, &h, sizeof(h)) < 0)
		return err_oom(e);
	int r = save_processors(vm, &out, e);
	if (r == 0)
		r = save_devices(vm, devices, &out, e);
	if (r < 0)
		return r;
	h.len = out.len;
	memcpy(buf_data(&out), &h, sizeof(h));
	r = memory_write(&vm->mem, mem_fd);
	if (r < 0)
		return err_sys(e, r, "cannot write the machine's memory");
	r = io_write_full(state_fd, buf_data(&out), out.len);
	return r < 0 ? err_sys(e, r, "cannot write the machine's state") : 0;
}

static bool is_paused(struct vm *vm)
{
	pthread_mutex_lock(&vm->lock);
	bool out = vm->pause && vm->n_out == vm->n_vcpus;
	pthread_mutex_unlock(&vm->lock);
	return out && vm->clock_stopped;
}

int vm_save(struct vm *vm, int state_fd, int mem_fd, struct err *e)
{
	int r = 0;

	if (!is_paused(vm))
		return err_set(e, -EBUSY, "the machine is not paused");
	CLEANUP_FREE struct virtio_mmio_state *devices = calloc(vm->n_devices + 1, sizeof(*devices));
	if (!devices)
		return err_oom(e);
	/* First the devices: coming to rest, they write to memory and raise interrupts. */
	for (unsigned i = 0; r == 0 && i < vm->n_devices; i++) {
		r = virtio_mmio_suspend(vm->devices[i].m, &devices[i]);
		vm->devices[i].suspended = r == 0;
		if (r < 0)
			err_sys(e, r, "cannot suspend device %u", i);
	}
	if (r == 0)
		r = save_all(vm, devices, state_fd, mem_fd, e);
	for (unsigned i = 0; i < vm->n_devices; i++) {
		if (!vm->devices[i].suspended)
			continue;
		vm->devices[i].suspended = false;
		int resumed = virtio_mmio_resume(vm->devices[i].m);
		if (resumed < 0 && r == 0)
			r = err_sys(e, resumed, "cannot resume device %u", i);
	}
	return r;
}

/* ---- restoring ---- */

struct reader {
	const uint8_t *data;
	size_t left;
};

static int damaged(struct err *e)
{
	return err_set(e, -EINVAL, "saved machine: damaged, or of another version");
}

/* Takes the next record, which must be this one. */
static int take_record(struct reader *in, enum kind kind, unsigned index, const uint8_t **ret,
	size_t *ret_len, struct err *e)
{
	struct record r;

	if (in->left < sizeof(r))
		return damaged(e);
	memcpy(&r, in->data, sizeof(r));
	if (r.kind != kind || r.index != index || r.len > in->left - sizeof(r))
		return damaged(e);
	*ret = in->data + sizeof(r);
	*ret_len = r.len;
	in->data += sizeof(r) + r.len;
	in->left -= sizeof(r) + r.len;
	return 0;
}

static int restore_processors(struct vm *vm, struct reader *in, struct err *e)
{
	const uint8_t *data;
	size_t len;

	int r = take_record(in, RECORD_ARCH, 0, &data, &len, e);
	if (r == 0)
		r = arch_vm_restore(vm, data, len, e);
	for (unsigned i = 0; r == 0 && i < vm->n_vcpus; i++) {
		r = take_record(in, RECORD_VCPU, i, &data, &len, e);
		if (r == 0)
			r = arch_vcpu_restore(vm, &vm->vcpus[i], data, len, e);
	}
	return r;
}

static int restore_serial(struct vm *vm, struct reader *in, struct err *e)
{
	struct serial *s = &vm->serial;
	struct serial_state state;
	const uint8_t *data;
	size_t len;

	int r = take_record(in, RECORD_SERIAL, 0, &data, &len, e);
	if (r < 0)
		return r;
	if (len != sizeof(state))
		return damaged(e);
	memcpy(&state, data, sizeof(state));
	s->ier = state.ier;
	s->lcr = state.lcr;
	s->mcr = state.mcr;
	s->scr = state.scr;
	s->dll = state.dll;
	s->dlm = state.dlm;
	s->thr_empty = state.thr_empty != 0;
	return 0;
}

static void raise_line(int fd)
{
	const uint64_t one = 1;
	ssize_t n = write(fd, &one, sizeof(one));
	(void)n;
}

static int restore_devices(struct vm *vm, struct reader *in, struct err *e)
{
	CLEANUP_FREE struct virtio_mmio_state *s = malloc(sizeof(*s)); /* aligned */
	const uint8_t *data;
	size_t len;

	if (!s)
		return err_oom(e);
	for (unsigned i = 0; i < vm->n_devices; i++) {
		int r = take_record(in, RECORD_DEVICE, i, &data, &len, e);
		if (r < 0)
			return r;
		if (len != sizeof(*s))
			return damaged(e);
		memcpy(s, data, sizeof(*s));
		r = virtio_mmio_restore(vm->devices[i].m, s);
		if (r < 0)
			return err_sys(e, r, "saved machine: device %u", i);
		raise_line(virtio_mmio_irq_fd(vm->devices[i].m));
	}
	if (vm->serial.irq_fd >= 0)
		raise_line(vm->serial.irq_fd);
	return 0;
}

/* Appends the whole file to out. */
static int read_state(int fd, struct buf *out, struct err *e)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_sys(e, -errno, "saved machine");
	if (!S_ISREG(st.st_mode) || st.st_size > STATE_MAX)
		return damaged(e);
	uint8_t *data = buf_reserve(out, (size_t)st.st_size);
	if (!data)
		return err_oom(e);
	ssize_t n = io_pread_full(fd, data, (size_t)st.st_size, 0);
	if (n < 0)
		return err_sys(e, (int)n, "saved machine");
	buf_commit(out, (size_t)n);
	return 0;
}

int vm_restore(struct vm *vm, int state_fd, struct err *e)
{
	CLEANUP(buf_done) struct buf file = {0};
	struct header h;

	int r = read_state(state_fd, &file, e);
	if (r < 0)
		return r;
	struct reader in = {buf_data(&file), file.len};
	if (in.left < sizeof(h))
		return damaged(e);
	memcpy(&h, in.data, sizeof(h));
	in.data += sizeof(h);
	in.left -= sizeof(h);
	if (memcmp(h.magic, state_magic, sizeof(h.magic)) != 0 || h.version != STATE_VERSION ||
		h.arch != ARCH_ID || h.len != file.len)
		return damaged(e);
	if (h.n_vcpus != vm->n_vcpus || h.n_devices != vm->n_devices || h.mem_bytes != vm->mem.len)
		return err_set(
			e, -EINVAL, "saved machine: has other processors, devices or memory than this one");
	r = restore_processors(vm, &in, e);
	if (r == 0)
		r = restore_serial(vm, &in, e);
	if (r == 0)
		r = restore_devices(vm, &in, e);
	if (r < 0)
		return r;
	vm->clock_stopped = true; /* vm_resume, which vm_start ends with, lets it go on */
	return 0;
}
