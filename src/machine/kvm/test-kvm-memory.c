/* SPDX-License-Identifier: MIT */
/* Guest memory, the address map, and the debug port. No KVM. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/io.h"
#include "kvm/arch.h"

enum { MIB = 1 << 20, PAGE = 4096 };
#define GIB (1ull << 30)

/* ---- address map ---- */

static void ram_has_a_hole_below_4_gib(void **state)
{
	struct arch_range r[ARCH_RAM_RANGES_MAX];

	assert_int_equal(arch_ram(64 * MIB, r), 1);
	assert_int_equal(r[0].gpa, 0);
	assert_int_equal(r[0].len, 64 * MIB);
	assert_int_equal(arch_ram(3 * GIB, r), 1);
	assert_int_equal(arch_ram(3 * GIB + MIB, r), 2);
	assert_int_equal(r[0].len, 3 * GIB);
	assert_int_equal(r[1].gpa, 4 * GIB);
	assert_int_equal(r[1].len, MIB);
	assert_true(arch_mmio_base() >= 3 * GIB);
	assert_true(arch_mmio_base() + VM_DEVICES_MAX * VM_DEVICE_STRIDE < 0xfec00000);
}

static void lines_are_distinct(void **state)
{
	uint32_t seen = 0;

	for (unsigned i = 0; i < VM_DEVICES_MAX; i++) {
		unsigned irq = arch_device_irq(i);
		assert_true(irq >= 5 && irq < 24);
		assert_false(seen & 1u << irq);
		seen |= 1u << irq;
	}
	assert_int_equal(arch_device_irq(19), 0);
}

static void devices_are_found_by_address(void **state)
{
	static struct vm vm;
	uint32_t off = 0;

	vm.n_devices = 3;
	for (unsigned i = 0; i < 3; i++)
		vm.devices[i].gpa = arch_mmio_base() + i * VM_DEVICE_STRIDE + PAGE - VIRTIO_MMIO_PAGE_AT;
	uint64_t second = vm.devices[1].gpa;
	assert_ptr_equal(vm_device_at(&vm, second, 4, &off), &vm.devices[1]);
	assert_int_equal(off, 0);
	assert_ptr_equal(vm_device_at(&vm, second + 0x100, 8, &off), &vm.devices[1]);
	assert_int_equal(off, 0x100);
	assert_non_null(vm_device_at(&vm, second + VIRTIO_MMIO_LEN - 4, 4, &off));
	assert_null(vm_device_at(&vm, second + VIRTIO_MMIO_LEN - 3, 4, &off));
	assert_null(vm_device_at(&vm, second + VIRTIO_MMIO_LEN, 1, &off));
	assert_null(vm_device_at(&vm, second - 1, 1, &off));
	assert_null(vm_device_at(&vm, vm.devices[2].gpa + VM_DEVICE_STRIDE, 4, &off));
	assert_null(vm_device_at(&vm, 0, 4, &off));
	assert_null(vm_device_at(&vm, UINT64_MAX, 1, &off));
	assert_null(vm_device_at(&vm, arch_mmio_base() - 1, 1, &off));
}

/* ---- memory ---- */

static void memory_is_where_the_map_says(void **state)
{
	struct memory m;
	struct err e;

	assert_int_equal(memory_init(&m, 4 * GIB, true, -1, &e), 0);
	assert_int_equal(m.guest.n_regions, 2);
	assert_ptr_equal(guest_mem_at(&m.guest, 4 * GIB, 16), m.host + 3 * GIB);
	assert_null(guest_mem_at(&m.guest, 3 * GIB - 8, 16));
	assert_int_equal((uintptr_t)m.host % (2 * MIB), 0);
	assert_true(memory_resident(&m) < MIB);
	/* The file cannot be resized by whoever gets hold of it. */
	assert_int_equal(ftruncate(m.memfd, PAGE), -1);
	assert_int_equal(errno, EPERM);
	memory_done(&m);
}

static void discarded_pages_are_gone(void **state)
{
	const bool shared = *state != NULL;
	struct memory m;
	struct err e;

	assert_int_equal(memory_init(&m, 4 * MIB, shared, -1, &e), 0);
	memset(m.host, 0x5a, 4 * MIB);
	assert_int_equal(memory_resident(&m), 4 * MIB);
	memory_discard(&m, MIB, MIB);
	assert_int_equal(memory_resident(&m), 3 * MIB);
	assert_int_equal(m.host[MIB], 0);
	assert_int_equal(m.host[MIB - 1], 0x5a);
	memory_discard(&m, 2 * MIB + 1, 2 * PAGE - 2); /* no whole page */
	assert_int_equal(m.host[2 * MIB + PAGE], 0x5a);
	memory_discard(&m, 2 * MIB + 1, 2 * PAGE); /* one */
	assert_int_equal(m.host[2 * MIB + PAGE], 0);
	assert_int_equal(m.host[2 * MIB], 0x5a);
	/* Not all in memory: nothing happens. */
	memory_discard(&m, 3 * MIB, 2 * MIB);
	memory_discard(&m, UINT64_MAX - PAGE + 1, PAGE);
	memory_discard(&m, 3 * MIB, UINT64_MAX);
	memory_discard(&m, 3 * MIB, 0);
	assert_int_equal(m.host[3 * MIB], 0x5a);
	memory_done(&m);
}

static void memory_is_saved_sparsely_and_mapped_back(void **state)
{
	const bool shared = *state != NULL;
	CLEANUP_CLOSE int fd = memfd_create("saved", MFD_CLOEXEC);
	struct memory m, back;
	struct stat st;
	struct err e;

	assert_int_equal(memory_init(&m, 8 * MIB, shared, -1, &e), 0);
	memset(m.host + MIB, 1, 3 * PAGE);
	m.host[8 * MIB - 1] = 2;
	memset(m.host + 2 * MIB, 0, MIB); /* touched, but zero */
	assert_int_equal(memory_write(&m, fd), 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, 8 * MIB);
	assert_int_equal(st.st_blocks * 512, 4 * PAGE);

	assert_int_equal(memory_init(&back, 8 * MIB, false, fd, &e), 0);
	assert_memory_equal(back.host, m.host, 8 * MIB);
	back.host[MIB] = 7;
	assert_int_equal(m.host[MIB], 1);
	uint8_t byte = 0;
	assert_int_equal(pread(fd, &byte, 1, MIB), 1);
	assert_int_equal(byte, 1); /* the file stays as it is */
	assert_true(memory_resident(&back) > 0);
	memory_discard(&back, MIB, PAGE);
	assert_int_equal(back.host[MIB], 1);
	/* And again from there. */
	CLEANUP_CLOSE int second = memfd_create("again", MFD_CLOEXEC);
	back.host[5 * MIB] = 9;
	assert_int_equal(memory_write(&back, second), 0);
	assert_int_equal(fstat(second, &st), 0);
	assert_int_equal(st.st_blocks * 512, 5 * PAGE);
	memory_done(&back);
	memory_done(&m);
}

static void a_file_of_another_size_is_refused(void **state)
{
	CLEANUP_CLOSE int fd = memfd_create("saved", MFD_CLOEXEC);
	int pipes[2];
	struct memory m;
	struct err e;

	assert_int_equal(ftruncate(fd, 4 * MIB - 1), 0);
	assert_int_equal(memory_init(&m, 4 * MIB, false, fd, &e), -EINVAL);
	memory_done(&m);
	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	assert_int_equal(memory_init(&m, 4 * MIB, false, pipes[0], &e), -EINVAL);
	memory_done(&m);
	close(pipes[0]);
	close(pipes[1]);
}

/* ---- debug port ---- */

struct port {
	struct serial s;
	int out;
};

static int port_open(void **state)
{
	static struct port p;
	int fds[2];

	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0 || serial_init(&p.s, fds[1]) < 0)
		return -1;
	p.out = fds[0];
	*state = &p;
	return 0;
}

static int port_close(void **state)
{
	struct port *p = *state;

	close(p->s.out_fd);
	close(p->out);
	serial_done(&p->s);
	return 0;
}

static void expect_text(struct port *p, const char *text)
{
	char got[512] = "";
	ssize_t n = read(p->out, got, sizeof(got) - 1);

	assert_int_equal(n, *text ? (ssize_t)strlen(text) : -1);
	assert_string_equal(got, text);
}

static void put(struct port *p, const char *text)
{
	while (*text)
		serial_write(&p->s, 0, (uint8_t)*text++);
}

static void lines_come_out_whole(void **state)
{
	struct port *p = *state;

	put(p, "hello");
	expect_text(p, "");
	put(p, "\nrest");
	expect_text(p, "hello\n");
	serial_flush(&p->s);
	expect_text(p, "rest");
	for (int i = 0; i < 256; i++)
		serial_write(&p->s, 0, 'x');
	char got[512];
	assert_int_equal(read(p->out, got, sizeof(got)), 256);
}

/* Existence, loop and scratch tests of drivers/tty/serial/8250/8250_port.c (autoconfig), in short. */
static void linux_recognises_it(void **state)
{
	struct serial *s = &((struct port *)*state)->s;

	serial_write(s, 1, 0);
	assert_int_equal(serial_read(s, 1), 0);
	serial_write(s, 1, 0x0f);
	assert_int_equal(serial_read(s, 1) & 0x0f, 0x0f);
	serial_write(s, 1, 0);
	serial_write(s, 4, 0x10 | 0x08 | 0x02);
	assert_int_equal(serial_read(s, 6) & 0xf0, 0x90);
	serial_write(s, 4, 0);
	serial_write(s, 2, 1);
	assert_int_equal(serial_read(s, 2) >> 6, 0);
	serial_write(s, 7, 0xa5);
	assert_int_equal(serial_read(s, 7), 0xa5);
	serial_write(s, 3, 0x83);
	serial_write(s, 0, 0x12);
	serial_write(s, 1, 0x34);
	assert_int_equal(serial_read(s, 0), 0x12);
	assert_int_equal(serial_read(s, 1), 0x34);
	serial_write(s, 3, 3);
	assert_int_equal(serial_read(s, 0), 0);
	assert_int_equal(serial_read(s, 5) & 0x60, 0x60);
}

static bool interrupted(struct serial *s)
{
	uint64_t n;
	return read(s->irq_fd, &n, sizeof(n)) == sizeof(n);
}

static void transmitter_interrupts_when_asked(void **state)
{
	struct port *p = *state;

	put(p, "a");
	assert_false(interrupted(&p->s));
	assert_int_equal(serial_read(&p->s, 2), 1);
	serial_write(&p->s, 1, 2);
	assert_true(interrupted(&p->s));
	assert_int_equal(serial_read(&p->s, 2), 2);
	assert_int_equal(serial_read(&p->s, 2), 1); /* acknowledged by reading */
	put(p, "b");
	assert_true(interrupted(&p->s));
	assert_int_equal(serial_read(&p->s, 2), 2);
	serial_write(&p->s, 1, 0);
	put(p, "c");
	assert_false(interrupted(&p->s));
}

static void a_full_pipe_does_not_block(void **state)
{
	struct port *p = *state;
	char block[4096] = {0};

	assert_int_equal(fcntl(p->s.out_fd, F_SETFL, 0), 0); /* blocking, as it may be */
	while (fcntl(p->s.out_fd, F_SETFL, O_NONBLOCK) == 0 && write(p->s.out_fd, block, sizeof(block)) > 0)
		;
	assert_int_equal(fcntl(p->s.out_fd, F_SETFL, 0), 0);
	for (int i = 0; i < 1000; i++)
		put(p, "lost\n");
}

/* With memory of our own, and with memory to share. */
#define BOTH(fn) \
	{.name = #fn, .test_func = fn}, \
	{ \
		.name = #fn " (shared)", .test_func = fn, .initial_state = &shared_state \
	}

static int shared_state;

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ram_has_a_hole_below_4_gib),
		cmocka_unit_test(lines_are_distinct),
		cmocka_unit_test(devices_are_found_by_address),
		cmocka_unit_test(memory_is_where_the_map_says),
		BOTH(discarded_pages_are_gone),
		BOTH(memory_is_saved_sparsely_and_mapped_back),
		cmocka_unit_test(a_file_of_another_size_is_refused),
		cmocka_unit_test_setup_teardown(lines_come_out_whole, port_open, port_close),
		cmocka_unit_test_setup_teardown(linux_recognises_it, port_open, port_close),
		cmocka_unit_test_setup_teardown(transmitter_interrupts_when_asked, port_open, port_close),
		cmocka_unit_test_setup_teardown(a_full_pipe_does_not_block, port_open, port_close),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
