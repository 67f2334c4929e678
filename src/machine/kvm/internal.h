/* SPDX-License-Identifier: MIT */
/* Shared by the files of kvm/ and kvm/x86/. */
#ifndef KVM_INTERNAL_H
#define KVM_INTERNAL_H

#include <linux/kvm.h>
#include <pthread.h>

#include "kvm/memory.h"
#include "kvm/serial.h"
#include "kvm/vm.h"

/* Memory slots (KVM_SET_USER_MEMORY_REGION): memory first, then one per device for its register page. */
enum { SLOT_RAM, SLOT_DEVICES = SLOT_RAM + GUEST_MEM_REGIONS_MAX };

enum {
	VM_DEVICES_MAX = 16,
	VM_DEVICE_STRIDE = 0x2000, /* address space per device, a power of 2: finding one is a shift */
	VM_PAGE = 4096
};

struct vcpu {
	struct vm *vm;
	unsigned index;
	int fd;
	struct kvm_run *run;
	pthread_t thread;
	bool has_thread;
	uint64_t exits[EXIT_N]; /* written by its thread, read by any: relaxed */
	/* Not in the same cache line as the next one: the counters change with every exit. */
} __attribute__((aligned(64)));

struct device {
	struct virtio_mmio *m; /* borrowed */
	uint64_t gpa;	       /* of the window's first byte */
	unsigned irq;
	bool page_mapped; /* the guest reads the register page without an exit */
	bool suspended;	  /* by vm_save */
};

struct arch_vm; /* the architecture's part */

struct vm {
	int fd;
	unsigned n_vcpus;
	struct vcpu *vcpus;
	size_t run_size; /* bytes of each processor's kvm_run */
	struct memory mem;
	unsigned n_devices;
	struct device devices[VM_DEVICES_MAX];
	int ack_fd; /* eventfd that nobody reads: swallows InterruptACK; -1 until there is a device */
	struct serial serial;
	bool readonly_mem;    /* KVM_CAP_READONLY_MEM */
	uint64_t kvm_ns;      /* atomic */
	struct arch_vm *arch; /* from arch_vm_init; freed with free */

	/* ---- kvm/vcpu.c ---- */
	struct vm_start start;
	int event_fd; /* eventfd: some thread has changed what the loop is to look at */
	struct loop_source *event_src;
	uint64_t first_entry_ns; /* atomic */

	pthread_mutex_t lock;	/* all below */
	pthread_cond_t changed; /* any of it */
	bool pause, ended, stop;
	bool end_told;
	const char *end_why;
	unsigned n_started;	      /* threads that have run on_thread */
	unsigned n_out;		      /* threads that are parked, or gone */
	unsigned n_gone;	      /* threads that have come to their end */
	int start_result;	      /* first failure of an on_thread */
	void (*pause_fn)(void *data); /* pending; NULL: none */
	void *pause_data;
	bool clock_stopped; /* of the loop's thread */
};

/* ioctl without EINTR, its time added to vm_kvm_ns. What the ioctl returns, or -errno. */
int vm_ioctl(struct vm *vm, int fd, unsigned long request, void *arg);
/* The same for ioctls whose argument is a number. */
int vm_ioctl_value(struct vm *vm, int fd, unsigned long request, unsigned long value);
/* What KVM_CHECK_EXTENSION says of the machine; 0 on failure too. */
int vm_extension(struct vm *vm, long capability);

/*
 * The device, and *ret_off in its window, of a guest access of len bytes; NULL when there is none, or not for all of
 * the bytes.
 */
struct device *vm_device_at(struct vm *vm, uint64_t gpa, uint32_t len, uint32_t *ret_off);

/* kvm/vcpu.c: pthread objects and event descriptor. 0 or -errno; and the reverse, of a machine without threads. */
int vcpus_init(struct vm *vm);
void vcpus_done(struct vm *vm);

/* On a processor's thread: the guest is over, see on_end. The processor does not run again. */
void vcpu_end(struct vcpu *v, const char *why);

#endif
