/* SPDX-License-Identifier: MIT */
/* What reaches the monitor from a guest, and what does not; how a guest ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <poll.h>

#include "kvm/test-kvm-guest.h"

/* ---- ports ---- */

PAYLOAD(say_hello, "mov $0x3f8, %dx\n"
		   "mov $'h', %al\n out %al, %dx\n"
		   "mov $'i', %al\n out %al, %dx\n"
		   "lea 2f(%rip), %rsi\n mov $4, %ecx\n cld\n rep outsb\n" TRIPLE_FAULT "2: .ascii \" you\"");

static void debug_port_writes_and_triple_fault_ends(void **state)
{
	struct guest *g = *state;

	guest_boot(g, PAYLOAD_OF(say_hello));
	guest_await_end(g);
	assert_null(g->why);
	guest_expect_output(g, "hi you"); /* also without a line end */
	assert_true(guest_exits(g, EXIT_IO) >= 3);
	assert_int_equal(guest_exits(g, EXIT_SHUTDOWN), 1);
	assert_int_equal(g->n_threads, 1);
	assert_true(vm_first_entry_ns(g->vm) > 0);
	assert_true(vm_kvm_ns(g->vm) > 0);
}

PAYLOAD(reset_by_keyboard, "mov $0xfe, %al\n out %al, $0x64\n 1: jmp 1b");

static void keyboard_controller_resets(void **state)
{
	struct guest *g = *state;

	guest_boot(g, PAYLOAD_OF(reset_by_keyboard));
	guest_await_end(g);
	assert_null(g->why);
}

PAYLOAD(read_around, "mov $0x300000, %rdi\n"
		     "xor %eax, %eax\n in $0x60, %al\n stosq\n" /* nobody: ones */
		     "xor %eax, %eax\n in $0x80, %eax\n stosq\n"
		     "mov $0x0a, %al\n out %al, $0x70\n xor %eax, %eax\n in $0x71, %al\n stosq\n"
		     "mov $0x0d, %al\n out %al, $0x70\n xor %eax, %eax\n in $0x71, %al\n stosq\n"
		     "mov $0xe0000000, %ebx\n mov (%rbx), %rax\n stosq\n" /* no device there */
		     "mov %rax, (%rbx)\n" TRIPLE_FAULT);

static void what_is_not_there_reads_as_ones(void **state)
{
	struct guest *g = *state;

	guest_boot(g, PAYLOAD_OF(read_around));
	guest_await_end(g);
	assert_int_equal(guest_word(g, 0), 0xff);
	assert_int_equal(guest_word(g, 1), 0xffffffff);
	assert_int_equal(guest_word(g, 2), 0);	  /* the clock is not being updated */
	assert_int_equal(guest_word(g, 3), 0x80); /* its time is valid */
	assert_int_equal(guest_word(g, 4), UINT64_MAX);
	assert_int_equal(guest_exits(g, EXIT_MMIO), 2);
}

/* ---- devices ---- */

PAYLOAD(use_device, "mov $0x300000, %rdi\n mov $" GUEST_DEVICE ", %ebx\n"
		    "mov 0x00(%rbx), %eax\n stosq\n" /* MagicValue: an exit */
		    "mov 0x60(%rbx), %eax\n stosq\n" /* InterruptStatus: none */
		    "mov 0x70(%rbx), %eax\n stosq\n" /* Status: none */
		    "movl $1, 0x70(%rbx)\n"	     /* ACKNOWLEDGE: an exit */
		    "mov 0x70(%rbx), %eax\n stosq\n"
		    "mov 0x100(%rbx), %eax\n stosq\n" /* configuration */
		    "movl $1, 0x64(%rbx)\n"	      /* InterruptACK of 1: swallowed */
		    "movl $1, 0x64(%rbx)\n"
		    "movl $2, 0x64(%rbx)\n" /* of 2: an exit */
		    "movl $0, 0x50(%rbx)\n" /* QueueNotify */
		    "movl $1, 0x50(%rbx)\n movl $1, 0x50(%rbx)\n"
		    "movl $2, 0x50(%rbx)\n" /* no such queue: an exit */
	TRIPLE_FAULT);

static uint64_t read_eventfd(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	uint64_t n = 0;

	return poll(&p, 1, 0) == 1 && read(fd, &n, sizeof(n)) == sizeof(n) ? n : 0;
}

static void registers_cost_an_exit_only_where_they_must(void **state)
{
	struct guest *g = *state;

	guest_new(g, -1);
	guest_add_device(g);
	guest_load(g, PAYLOAD_OF(use_device));
	guest_start(g, false);
	guest_await_end(g);
	assert_int_equal(guest_word(g, 0), 0x74726976);
	assert_int_equal(guest_word(g, 1), 1);
	assert_int_equal(guest_word(g, 2), 0);
	assert_int_equal(guest_word(g, 3), 1);
	assert_int_equal(guest_word(g, 4), 0x42424242);
	assert_int_equal(guest_exits(g, EXIT_MMIO), g->vm->readonly_mem ? 4 : 8);
	assert_int_equal(read_eventfd(virtio_mmio_kick_fd(g->mmio, 0)), 1);
	assert_int_equal(read_eventfd(virtio_mmio_kick_fd(g->mmio, 1)), 2);
	assert_int_equal(read_eventfd(g->vm->ack_fd), 2);
}

static void without_read_only_memory_registers_exit(void **state)
{
	struct guest *g = *state;

	guest_new(g, -1);
	g->vm->readonly_mem = false;
	guest_add_device(g);
	guest_load(g, PAYLOAD_OF(use_device));
	guest_start(g, false);
	guest_await_end(g);
	assert_int_equal(guest_word(g, 1), 1);
	assert_int_equal(guest_word(g, 3), 1);
	assert_int_equal(guest_word(g, 4), 0x42424242);
	assert_int_equal(guest_exits(g, EXIT_MMIO), 8);
}

/*
 * Interrupt 5 of the I/O APIC as vector 0x30, edge-triggered, to APIC 0. The handler's address goes into a table at
 * 0x310000, which is all zeros but for it (SDM volume 3A section 6.14.1).
 */
PAYLOAD(await_interrupt,
	"mov $0x310300, %edi\n lea 3f(%rip), %rax\n"
	"mov %ax, (%rdi)\n movw $0x10, 2(%rdi)\n movw $0x8e00, 4(%rdi)\n shr $16, %rax\n mov %ax, 6(%rdi)\n"
	"lidt 2f(%rip)\n mov $0x310000, %esp\n"
	"mov $0xff, %al\n out %al, $0x21\n out %al, $0xa1\n" /* the line also leads to the 8259, which is masked */
	"mov $0xfee00000, %ebx\n movl $0x1ff, 0xf0(%rbx)\n" /* APIC on */
	"mov $0xfec00000, %ebx\n"
	"movl $0x1b, (%rbx)\n movl $0, 0x10(%rbx)\n"
	"movl $0x1a, (%rbx)\n movl $0x30, 0x10(%rbx)\n"
	"movl $1, 0x300000\n sti\n"
	"1: hlt\n jmp 1b\n"
	"2: .word 0xfff\n .quad 0x310000\n"
	"3: movl $2, 0x300000\n mov $0xfe, %al\n out %al, $0x64\n jmp 3b");

static void a_device_interrupts(void **state)
{
	struct guest *g = *state;
	const uint64_t one = 1;

	guest_new(g, -1);
	guest_add_device(g);
	guest_load(g, PAYLOAD_OF(await_interrupt));
	guest_start(g, false);
	for (int i = 0; i < GUEST_LIMIT_MS && guest_word(g, 0) != 1; i++)
		loop_turn(g->loop, 1);
	assert_int_equal(guest_word(g, 0), 1);
	assert_int_equal(write(virtio_mmio_irq_fd(g->mmio), &one, sizeof(one)), sizeof(one));
	guest_await_end(g);
	assert_int_equal(guest_word(g, 0), 2);
}

static void devices_are_limited(void **state)
{
	struct guest *g = *state;
	struct err e;

	guest_new(g, -1);
	guest_add_device(g);
	g->vm->n_devices = VM_DEVICES_MAX;
	assert_int_equal(vm_add_device(g->vm, g->mmio, &e), -ENOSPC);
	g->vm->n_devices = 1;
}

/* ---- several processors ---- */

/* INIT and SIPI to APIC 1 (SDM volume 3A section 9.4.4); its code is copied to 0x8000, in real mode. */
PAYLOAD(start_second, "lea 2f(%rip), %rsi\n mov $0x8000, %edi\n mov $3f-2f, %ecx\n cld\n rep movsb\n"
		      "mov $0xfee00000, %ebx\n movl $0x1ff, 0xf0(%rbx)\n"
		      "movl $0x01000000, 0x310(%rbx)\n movl $0x4500, 0x300(%rbx)\n"
		      "movl $0x01000000, 0x310(%rbx)\n movl $0x4608, 0x300(%rbx)\n"
		      "1: pause\n cmpb $2, 0x9fff\n jne 1b\n" TRIPLE_FAULT ".code16\n"
		      "2: mov $0x3f8, %dx\n mov $'2', %al\n out %al, %dx\n"
		      "xor %ax, %ax\n mov %ax, %ds\n movb $2, 0x9fff\n cli\n hlt\n"
		      "3:\n.code64\n");

static void a_second_processor_starts(void **state)
{
	struct guest *g = *state;

	g->vcpus = 2;
	guest_boot(g, PAYLOAD_OF(start_second));
	guest_await_end(g);
	assert_int_equal(g->n_threads, 2);
	guest_expect_output(g, "2");
}

/* ---- what cannot run ---- */

static void a_wrong_configuration_is_refused(void **state)
{
	struct guest *g = *state;
	const struct vm_config good = {.kvm_fd = g->kvm_fd,
		.vcpus = 1,
		.mem_bytes = GUEST_MEM,
		.restore_mem_fd = -1,
		.serial_fd = -1};
	struct vm_config c = good;
	struct vm *vm = NULL;
	struct err e;

	c.vcpus = 0;
	assert_int_equal(vm_new(&c, &vm, &e), -EINVAL);
	c.vcpus = MACHINE_VCPUS_MAX + 1;
	assert_int_equal(vm_new(&c, &vm, &e), -EINVAL);
	c = good;
	c.mem_bytes = GUEST_MEM + 1;
	assert_int_equal(vm_new(&c, &vm, &e), -EINVAL);
	c.mem_bytes = 0;
	assert_int_equal(vm_new(&c, &vm, &e), -EINVAL);
	c = good;
	c.kvm_fd = g->out;
	assert_int_equal(vm_new(&c, &vm, &e), -ENOTTY);
	assert_null(vm);
}

static void the_command_line_has_an_end(void **state)
{
	struct guest *g = *state;
	char line[2100];
	struct err e;

	guest_new(g, -1);
	memset(line, 'x', sizeof(line));
	line[sizeof(line) - 1] = '\0';
	assert_int_equal(vm_load(g->vm, -1, -1, line, &e), -E2BIG);
}

static int refuse(void *data)
{
	return -EPERM;
}

static void a_thread_that_may_not_run_ends_all(void **state)
{
	struct guest *g = *state;
	const struct vm_start s = {.loop = g->loop, .on_thread = refuse, .data = g};
	struct err e;

	g->vcpus = 2;
	guest_new(g, -1);
	guest_load(g, PAYLOAD_OF(reset_by_keyboard));
	assert_int_equal(vm_start(g->vm, &s, &e), -EPERM);
	assert_int_equal(vm_first_entry_ns(g->vm), 0);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, guest_setup, guest_teardown)
	const struct CMUnitTest tests[] = {
		TEST(debug_port_writes_and_triple_fault_ends),
		TEST(keyboard_controller_resets),
		TEST(what_is_not_there_reads_as_ones),
		TEST(registers_cost_an_exit_only_where_they_must),
		TEST(without_read_only_memory_registers_exit),
		TEST(a_device_interrupts),
		TEST(devices_are_limited),
		TEST(a_second_processor_starts),
		TEST(a_wrong_configuration_is_refused),
		TEST(the_command_line_has_an_end),
		TEST(a_thread_that_may_not_run_ends_all),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
