/* SPDX-License-Identifier: MIT */
/* What the box may not do, as far as it is data: the device program, run by an interpreter, and the masks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "base/cleanup.h"
#include "devices.h"
#include "mask.h"

#define ACC_MKNOD BPF_DEVCG_ACC_MKNOD
#define ACC_READ  BPF_DEVCG_ACC_READ
#define ACC_WRITE BPF_DEVCG_ACC_WRITE
#define BLOCK	  BPF_DEVCG_DEV_BLOCK
#define CHAR	  BPF_DEVCG_DEV_CHAR

static uint64_t load(const struct bpf_cgroup_dev_ctx *ctx, const struct bpf_insn *i, size_t size)
{
	uint64_t value = 0;

	assert_int_equal(i->src_reg, BPF_REG_1);
	assert_in_range(i->off, 0, sizeof(*ctx) - size);
	assert_int_equal((size_t)i->off % size, 0);
	memcpy(&value, (const char *)ctx + i->off, size);
	return value;
}

/* The part of the machine that the program uses; as the kernel's verifier, no register is read before written. */
static uint64_t run(uint32_t access, uint32_t type, uint32_t major, uint32_t minor)
{
	struct bpf_cgroup_dev_ctx ctx = {access << 16 | type, major, minor};
	uint64_t reg[11] = {0};
	unsigned int set = 1u << BPF_REG_1;

	for (size_t at = 0; at < devices_program_len; at++) {
		const struct bpf_insn *i = &devices_program[at];

		assert_true(i->imm >= 0); /* else it would be sign-extended */
		switch (i->code) {
		case BPF_LDX | BPF_MEM | BPF_W:
		case BPF_LDX | BPF_MEM | BPF_H:
			assert_true(i->dst_reg != BPF_REG_1);
			reg[i->dst_reg] = load(&ctx, i, BPF_SIZE(i->code) == BPF_W ? 4 : 2);
			set |= 1u << i->dst_reg;
			break;
		case BPF_ALU64 | BPF_K | BPF_MOV:
			assert_true(i->dst_reg != BPF_REG_1);
			reg[i->dst_reg] = (uint64_t)i->imm;
			set |= 1u << i->dst_reg;
			break;
		case BPF_JMP | BPF_K | BPF_JEQ:
			assert_true(set & 1u << i->dst_reg);
			assert_true(i->off >= 0);
			if (reg[i->dst_reg] == (uint64_t)i->imm)
				at += (size_t)i->off;
			break;
		case BPF_JMP | BPF_EXIT:
			assert_true(set & 1u << BPF_REG_0);
			return reg[BPF_REG_0];
		default:
			fail_msg("instruction %zu: %#x", at, i->code);
		}
	}
	fail_msg("ran over the end");
	return 0;
}

static const uint32_t accesses[] = {ACC_READ, ACC_WRITE, ACC_READ | ACC_WRITE};
static const uint32_t allowed[][2] = {{1, 3}, {1, 5}, {1, 7}, {1, 8}, {1, 9}, {5, 0}, {5, 1}, {5, 2}};

static bool is_allowed(uint32_t major, uint32_t minor)
{
	for (size_t i = 0; i < ARRAY_LEN(allowed); i++)
		if (allowed[i][0] == major && allowed[i][1] == minor)
			return true;
	return major == 136;
}

static void test_open(void **state)
{
	for (size_t a = 0; a < ARRAY_LEN(accesses); a++) {
		for (uint32_t major = 0; major < 300; major++) {
			for (uint32_t minor = 0; minor < 300; minor++) {
				assert_int_equal(run(accesses[a], CHAR, major, minor),
					is_allowed(major, minor) ? 1 : 0);
				assert_int_equal(run(accesses[a], BLOCK, major, minor), 0);
			}
		}
		assert_int_equal(run(accesses[a], CHAR, 136, 1048575), 1);
		assert_int_equal(run(accesses[a], CHAR, 1, UINT32_MAX), 0);
		assert_int_equal(run(accesses[a], CHAR, 5, UINT32_MAX), 0);
		assert_int_equal(run(accesses[a], CHAR, 0x80000001u, 3), 0);
	}
}

static void test_make(void **state)
{
	for (uint32_t major = 0; major < 300; major++) {
		assert_int_equal(run(ACC_MKNOD, CHAR, major, 3), 1);
		assert_int_equal(run(ACC_MKNOD, BLOCK, major, 0), 1);
		/* Never asked together by the kernel; then it is the open that decides. */
		assert_int_equal(run(ACC_MKNOD | ACC_READ, BLOCK, major, 0), 0);
	}
}

static void test_unknown_questions(void **state)
{
	assert_int_equal(run(ACC_READ, 0, 1, 3), 0);
	assert_int_equal(run(ACC_READ, 3, 1, 3), 0);
	assert_int_equal(run(ACC_READ, 0xffff, 1, 3), 0);
}

/* Every instruction was given: a hole in the table would be code 0. */
static void test_form(void **state)
{
	for (size_t i = 0; i < devices_program_len; i++)
		assert_int_not_equal(devices_program[i].code, 0);
	assert_int_equal(devices_program[devices_program_len - 1].code, BPF_JMP | BPF_EXIT);
}

static bool listed(const struct mask *list, size_t n, const char *path, enum mask_kind kind)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(list[i].path, path) == 0)
			return list[i].kind == kind;
	return false;
}

/* Docker's defaults, as the review names them. */
static void test_masks(void **state)
{
	static const char *const read_only[] = {"bus", "fs", "irq", "sys", "sysrq-trigger"};
	static const char *const hidden[] = {"acpi", "asound", "kcore", "keys", "latency_stats", "timer_list",
		"timer_stats", "sched_debug", "scsi"};

	assert_int_equal(mask_proc_len, ARRAY_LEN(read_only) + ARRAY_LEN(hidden));
	for (size_t i = 0; i < ARRAY_LEN(read_only); i++)
		assert_true(listed(mask_proc, mask_proc_len, read_only[i], MASK_READ_ONLY));
	for (size_t i = 0; i < ARRAY_LEN(hidden); i++)
		assert_true(listed(mask_proc, mask_proc_len, hidden[i], MASK_HIDDEN));
	assert_int_equal(mask_sys_len, 2);
	assert_true(listed(mask_sys, mask_sys_len, "firmware", MASK_HIDDEN));
	assert_true(listed(mask_sys, mask_sys_len, "devices/virtual/powercap", MASK_HIDDEN));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_open),
		cmocka_unit_test(test_make),
		cmocka_unit_test(test_unknown_questions),
		cmocka_unit_test(test_form),
		cmocka_unit_test(test_masks),
	};

	return cmocka_run_group_tests_name("guest-isolation", tests, NULL, NULL);
}
