/* SPDX-License-Identifier: MIT */
/*
 * For tests: a machine with a guest of a few instructions, on the real KVM. Where /dev/kvm cannot be opened, tests
 * skip.
 *
 * The guest is entered as Linux would be: 64-bit, paging on, at GUEST_CODE. Its first GiB is mapped to itself, and so
 * is the fourth, where the devices are. RSI points to the boot parameters.
 */
#ifndef TEST_KVM_GUEST_H
#define TEST_KVM_GUEST_H

#include "kvm/internal.h"
#include "kvm/vm.h"

enum {
	GUEST_CODE = 0x200000,
	GUEST_DATA = 0x300000, /* zeroed, for the guest's results */
	GUEST_MEM = 4 << 20,
	GUEST_LIMIT_MS = 20000 /* some hosts' KVM takes its time */
};
/* First device: see kvm/vm.c. As text for the assembler. */
#define GUEST_DEVICE "0xd0000fa0"

/* Code of a guest, position-independent, by the compiler's assembler. */
#define PAYLOAD(name, text) \
	extern const uint8_t name[], name##_end[]; \
	__asm__(".pushsection .rodata\n" #name ":\n" text "\n" #name "_end:\n.popsection")
#define PAYLOAD_OF(name) name, (size_t)(name##_end - name)

/* Ends the guest: no interrupt table, then an exception. */
#define TRIPLE_FAULT "lidt 9f(%rip)\nud2\n9: .word 0\n.quad 0\n"

struct guest {
	int kvm_fd;
	struct loop *loop;
	struct vm *vm;
	int out; /* what the debug port says; non-blocking */
	int out_write;
	unsigned vcpus;
	/* What happened. */
	bool ended;
	unsigned n_ended, n_paused, n_threads;
	const char *why;
	int thread_result; /* for on_thread to return */

	/* A device, from guest_add_device. */
	struct virtio_device dev;
	struct virtio_mmio *mmio;
	unsigned n_resets;
};

/* Setup and teardown of cmocka. One processor; a test may change g->vcpus before guest_new. */
int guest_setup(void **state);
int guest_teardown(void **state);

/* vm_new; restore_fd as in vm_config. Skips the test when there is no KVM. */
void guest_new(struct guest *g, int restore_fd);
void guest_add_device(struct guest *g);
/* vm_load of the code. */
void guest_load(struct guest *g, const uint8_t *code, size_t len);
void guest_start(struct guest *g, bool paused);
/* New, loaded, started. */
void guest_boot(struct guest *g, const uint8_t *code, size_t len);
/* Stops and frees machine and device, so that another can be made. */
void guest_end(struct guest *g);

/* Turns the loop until *flag, or fails the test. */
void guest_await(struct guest *g, const bool *flag);
/* Turns the loop until the guest has ended by itself. */
void guest_await_end(struct guest *g);
/* vm_pause, and waits. */
void guest_pause(struct guest *g);
/* The guest's word i at GUEST_DATA. */
uint64_t guest_word(struct guest *g, unsigned i);
void guest_expect_output(struct guest *g, const char *text);
uint64_t guest_exits(const struct guest *g, enum machine_exit kind);

#endif
