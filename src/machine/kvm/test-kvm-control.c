/* SPDX-License-Identifier: MIT */
/* Pausing, stopping, saving and restoring a machine whose guest is busy. */
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
#include "kvm/test-kvm-guest.h"

enum { MOMENT_MS = 20 };

/* Counts in a register and in memory; a difference between the two ends the guest. */
PAYLOAD(count_up, "xor %eax, %eax\n mov $0x300000, %ebx\n"
		  "1: cmp %rax, (%rbx)\n jne 2f\n inc %rax\n mov %rax, (%rbx)\n jmp 1b\n"
		  "2: " TRIPLE_FAULT);

/* Turns the loop for a moment. */
static void a_moment(struct guest *g)
{
	uint64_t until = time_mono_ns() + MOMENT_MS * 1000000ull;
	while (time_mono_ns() < until)
		assert_int_equal(loop_turn(g->loop, 1), 0);
}

/* The counter moves. */
static void expect_running(struct guest *g)
{
	uint64_t limit = time_mono_ns() + GUEST_LIMIT_MS * 1000000ull, before = guest_word(g, 0);

	while (guest_word(g, 0) == before) {
		assert_true(time_mono_ns() < limit);
		assert_int_equal(loop_turn(g->loop, 1), 0);
	}
	assert_false(g->ended);
}

static void expect_still(struct guest *g)
{
	uint64_t before = guest_word(g, 0);

	a_moment(g);
	assert_int_equal(guest_word(g, 0), before);
	assert_false(g->ended);
}

static void a_busy_guest_pauses_and_goes_on(void **state)
{
	struct guest *g = *state;

	guest_boot(g, PAYLOAD_OF(count_up));
	for (int i = 0; i < 5; i++) {
		expect_running(g);
		guest_pause(g);
		expect_still(g);
		guest_pause(g); /* again is fine */
		vm_resume(g->vm);
	}
	expect_running(g);
	assert_int_equal(g->n_paused, 10);
	assert_true(guest_exits(g, EXIT_INTR) >= 5);
}

static void a_machine_may_begin_paused(void **state)
{
	struct guest *g = *state;

	g->vcpus = 3;
	guest_new(g, -1);
	guest_load(g, PAYLOAD_OF(count_up));
	guest_start(g, true);
	assert_int_equal(g->n_threads, 3);
	expect_still(g);
	assert_int_equal(guest_word(g, 0), 0);
	assert_int_equal(vm_first_entry_ns(g->vm), 0);
	guest_pause(g);
	vm_resume(g->vm);
	expect_running(g);
	assert_true(vm_first_entry_ns(g->vm) > 0);
}

static void flag(void *data)
{
	*(bool *)data = true;
}

static void a_pause_that_is_given_up_is_answered(void **state)
{
	struct guest *g = *state;
	bool told = false;

	guest_boot(g, PAYLOAD_OF(count_up));
	expect_running(g);
	vm_pause(g->vm, flag, &told);
	vm_resume(g->vm);
	assert_true(told);
	expect_running(g);
}

static void a_busy_guest_is_stopped(void **state)
{
	struct guest *g = *state;

	g->vcpus = 4;
	guest_boot(g, PAYLOAD_OF(count_up));
	expect_running(g);
	vm_stop(g->vm);
	uint64_t at = guest_word(g, 0);
	a_moment(g);
	assert_int_equal(guest_word(g, 0), at);
	assert_int_equal(g->n_ended, 0);
}

static void a_paused_guest_is_stopped(void **state)
{
	struct guest *g = *state;

	guest_boot(g, PAYLOAD_OF(count_up));
	guest_pause(g);
	vm_stop(g->vm);
}

static void a_stop_before_the_start_is_nothing(void **state)
{
	struct guest *g = *state;

	guest_new(g, -1);
	vm_stop(g->vm);
}

/* ---- with a processor that waits for the loop ---- */

/* Status 0 resets the device, which the loop does. */
PAYLOAD(reset_device, "mov $" GUEST_DEVICE ", %ebx\n movl $1, 0x300000\n movl $0, 0x70(%rbx)\n"
		      "movl $2, 0x300000\n 1: incl 0x300008\n jmp 1b");

static void boot_into_a_wait(struct guest *g)
{
	const struct timespec nap = {.tv_nsec = 1000000};

	guest_new(g, -1);
	guest_add_device(g);
	guest_load(g, PAYLOAD_OF(reset_device));
	guest_start(g, false);
	for (int i = 0; i < GUEST_LIMIT_MS && guest_exits(g, EXIT_MMIO) == 0; i++)
		nanosleep(&nap, NULL);
	assert_int_equal(guest_word(g, 0), 1);
}

static void a_processor_that_waits_for_the_loop_is_paused(void **state)
{
	struct guest *g = *state;

	boot_into_a_wait(g);
	guest_pause(g);
	assert_int_equal(g->n_resets, 1);
	/* The write is complete, the next instruction has not run: so it can be saved. */
	assert_int_equal(guest_word(g, 0), 1);
	vm_resume(g->vm);
	for (int i = 0; i < GUEST_LIMIT_MS && guest_word(g, 1) == 0; i++)
		loop_turn(g->loop, 1);
	assert_int_equal(guest_word(g, 0), 2);
}

static void a_processor_that_waits_for_the_loop_is_stopped(void **state)
{
	struct guest *g = *state;

	boot_into_a_wait(g);
	vm_stop(g->vm);
}

/* ---- snapshots ---- */

struct files {
	int state, mem;
};

static void save(struct guest *g, struct files *f)
{
	struct err e = {0};

	f->state = memfd_create("state", MFD_CLOEXEC);
	f->mem = memfd_create("mem", MFD_CLOEXEC);
	if (vm_save(g->vm, f->state, f->mem, &e) < 0)
		fail_msg("%s", e.msg);
}

static void files_done(struct files *f)
{
	close_fd(&f->state);
	close_fd(&f->mem);
}

static void a_saved_guest_goes_on_elsewhere(void **state)
{
	struct guest *g = *state;
	struct files f;
	struct stat st;
	struct err e;
	uint8_t before[VM_PAGE], after[VM_PAGE];

	g->vcpus = 2;
	guest_new(g, -1);
	guest_add_device(g);
	guest_load(g, PAYLOAD_OF(count_up));
	guest_start(g, false);
	expect_running(g);
	assert_int_equal(vm_save(g->vm, -1, -1, &e), -EBUSY);
	guest_pause(g);
	uint64_t at = guest_word(g, 0);
	save(g, &f);
	assert_int_equal(guest_word(g, 0), at);
	assert_int_equal(fstat(f.mem, &st), 0);
	assert_int_equal(st.st_size, GUEST_MEM);
	assert_true(st.st_blocks * 512 < 64 * VM_PAGE);
	vm_resume(g->vm); /* the saved one goes on too */
	expect_running(g);
	guest_end(g);

	assert_int_equal(pread(f.mem, before, sizeof(before), GUEST_DATA), sizeof(before));
	for (int i = 0; i < 2; i++) {
		guest_new(g, f.mem);
		guest_add_device(g);
		if (vm_restore(g->vm, f.state, &e) < 0)
			fail_msg("%s", e.msg);
		assert_int_equal(guest_word(g, 0), at);
		guest_start(g, i == 1);
		if (i == 1) {
			expect_still(g);
			assert_int_equal(guest_word(g, 0), at);
			vm_resume(g->vm);
		}
		expect_running(g);
		assert_true(guest_word(g, 0) > at);
		guest_end(g);
	}
	assert_int_equal(pread(f.mem, after, sizeof(after), GUEST_DATA), sizeof(after));
	assert_memory_equal(before, after, sizeof(after));
	files_done(&f);
}

static int restore(struct guest *g, const struct files *f)
{
	struct err e = {0};

	guest_new(g, f->mem);
	guest_add_device(g);
	int r = vm_restore(g->vm, f->state, &e);
	assert_int_equal(e.code, r);
	guest_end(g);
	return r;
}

static void a_damaged_state_is_refused(void **state)
{
	struct guest *g = *state;
	struct files f;
	struct stat st;

	guest_new(g, -1);
	guest_add_device(g);
	guest_load(g, PAYLOAD_OF(count_up));
	guest_start(g, true);
	guest_pause(g);
	save(g, &f);
	guest_end(g);
	assert_int_equal(fstat(f.state, &st), 0);
	size_t len = (size_t)st.st_size;
	CLEANUP_FREE uint8_t *data = malloc(len);
	assert_int_equal(io_pread_full(f.state, data, len, 0), (ssize_t)len);

	/* Each byte of header and first record, then some of everything. */
	for (size_t at = 0; at < len; at += at < 80 ? 1 : len / 40) {
		uint8_t wrong = data[at] ^ 0xff;
		assert_int_equal(io_pwrite_full(f.state, &wrong, 1, (off_t)at), 0);
		int r = restore(g, &f); /* deep inside it may be another valid state */
		if (at < 56)
			assert_true(r < 0);
		assert_int_equal(io_pwrite_full(f.state, &data[at], 1, (off_t)at), 0);
	}
	for (size_t cut = 0; cut < len; cut += len / 10) {
		assert_int_equal(ftruncate(f.state, (off_t)cut), 0);
		assert_int_equal(restore(g, &f), -EINVAL);
	}
	assert_int_equal(ftruncate(f.state, 0), 0);
	assert_int_equal(io_pwrite_full(f.state, data, len, 0), 0);
	assert_int_equal(restore(g, &f), 0);
	g->vcpus = 2; /* another machine */
	assert_int_equal(restore(g, &f), -EINVAL);
	files_done(&f);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, guest_setup, guest_teardown)
	const struct CMUnitTest tests[] = {
		TEST(a_busy_guest_pauses_and_goes_on),
		TEST(a_machine_may_begin_paused),
		TEST(a_pause_that_is_given_up_is_answered),
		TEST(a_busy_guest_is_stopped),
		TEST(a_paused_guest_is_stopped),
		TEST(a_stop_before_the_start_is_nothing),
		TEST(a_processor_that_waits_for_the_loop_is_paused),
		TEST(a_processor_that_waits_for_the_loop_is_stopped),
		TEST(a_saved_guest_goes_on_elsewhere),
		TEST(a_damaged_state_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
