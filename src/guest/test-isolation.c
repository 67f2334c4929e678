/* SPDX-License-Identifier: MIT */
/* What the box may not do, as far as it is data: the device program, run by an interpreter, and the masks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>
#include <sys/mount.h>

#include "base/cleanup.h"
#include "devices.h"
#include "mask.h"
#include "settings.h"
#include "tmpfs.h"

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
static uint64_t run_program(const struct bpf_insn *program, size_t len, uint32_t access, uint32_t type,
	uint32_t major, uint32_t minor)
{
	struct bpf_cgroup_dev_ctx ctx = {access << 16 | type, major, minor};
	uint64_t reg[11] = {0};
	unsigned int set = 1u << BPF_REG_1;

	for (size_t at = 0; at < len; at++) {
		const struct bpf_insn *i = &program[at];

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
		case BPF_ALU64 | BPF_X | BPF_MOV:
			assert_true(i->dst_reg != BPF_REG_1 && set & 1u << i->src_reg);
			reg[i->dst_reg] = reg[i->src_reg];
			set |= 1u << i->dst_reg;
			break;
		case BPF_ALU64 | BPF_K | BPF_AND:
			assert_true(set & 1u << i->dst_reg);
			reg[i->dst_reg] &= (uint64_t)i->imm;
			break;
		case BPF_JMP | BPF_K | BPF_JEQ:
		case BPF_JMP | BPF_K | BPF_JNE:
			assert_true(set & 1u << i->dst_reg);
			assert_true(i->off >= 0);
			if ((reg[i->dst_reg] == (uint64_t)i->imm) == (BPF_OP(i->code) == BPF_JEQ))
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

static uint64_t run(uint32_t access, uint32_t type, uint32_t major, uint32_t minor)
{
	return run_program(devices_program, devices_program_len, access, type, major, minor);
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

/* Each rule allows its own device and access; everything else is as without them. */
static void test_rules(void **state)
{
	const struct device_rule rules[] = {
		{BLOCK, 254, 0, ACC_READ},
		{CHAR, 10, 200, ACC_READ | ACC_WRITE},
		{BLOCK, 254, 0, ACC_WRITE},
		{CHAR, 200, 1048575, ACC_MKNOD},
	};
	CLEANUP_FREE struct bpf_insn *p = NULL;
	size_t len;

	assert_int_equal(devices_program_with(rules, ARRAY_LEN(rules), false, &p, &len), 0);
	for (size_t a = 0; a < ARRAY_LEN(accesses); a++) {
		for (uint32_t major = 0; major < 260; major++) {
			for (uint32_t minor = 0; minor < 260; minor++) {
				bool given = major == 10 && minor == 200;

				assert_int_equal(run_program(p, len, accesses[a], CHAR, major, minor),
					given || is_allowed(major, minor) ? 1 : 0);
				assert_int_equal(run_program(p, len, accesses[a], BLOCK, major, minor),
					major == 254 && minor == 0 && accesses[a] != (ACC_READ | ACC_WRITE));
			}
		}
		assert_int_equal(run_program(p, len, accesses[a], CHAR, 200, 1048575), 0);
	}
	assert_int_equal(run_program(p, len, ACC_MKNOD, BLOCK, 8, 0), 1);
	assert_int_equal(run_program(p, len, ACC_READ | ACC_MKNOD, BLOCK, 254, 0), 1);
}

static void test_all_devices(void **state)
{
	CLEANUP_FREE struct bpf_insn *p = NULL;
	size_t len;

	assert_int_equal(devices_program_with(NULL, 0, true, &p, &len), 0);
	assert_int_equal(run_program(p, len, ACC_READ | ACC_WRITE, BLOCK, 254, 0), 1);
	assert_int_equal(run_program(p, len, ACC_WRITE, CHAR, 1, 1), 1);
}

static void test_device_options(void **state)
{
	static const struct {
		const char *text, *from, *to;
		uint32_t access;
	} cases[] = {
		{"/dev/kvm", "kvm", "/dev/kvm", ACC_READ | ACC_WRITE | ACC_MKNOD},
		{"/dev/kvm:/dev/x", "kvm", "/dev/x", ACC_READ | ACC_WRITE | ACC_MKNOD},
		{"/dev/kvm:r", "kvm", "/dev/kvm", ACC_READ},
		{"/dev/net/tun:/srv/t:wm", "net/tun", "/srv/t", ACC_WRITE | ACC_MKNOD},
		{"kvm", NULL, NULL, 0},
		{"/etc/passwd", NULL, NULL, 0},
		{"/dev/a:/dev/b:rwx", NULL, NULL, 0},
		{"/dev/a:/dev/b:", NULL, NULL, 0},
		{"/dev/a:rr", NULL, NULL, 0},
		{"/dev/a:", NULL, NULL, 0},
		{"/dev/a:b:r", NULL, NULL, 0},
		{"/dev/a:/b:r:w", NULL, NULL, 0},
		{"", NULL, NULL, 0},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct device_map m;
		char text[64];

		snprintf(text, sizeof(text), "%s", cases[i].text);
		if (!cases[i].from) {
			assert_int_equal(settings_parse_device(text, &m), -EINVAL);
			continue;
		}
		assert_int_equal(settings_parse_device(text, &m), 0);
		assert_string_equal(m.from, cases[i].from);
		assert_string_equal(m.to, cases[i].to);
		assert_int_equal(m.access, cases[i].access);
	}
}

static void test_sysctl_options(void **state)
{
	static const struct {
		const char *text, *path, *value;
		int r;
	} cases[] = {
		{"net.ipv4.ip_forward=1", "net/ipv4/ip_forward", "1", 0},
		{"kernel.sem=1 2 3 4", "kernel/sem", "1 2 3 4", 0},
		{"fs.mqueue.msg_max=20", "fs/mqueue/msg_max", "20", 0},
		{"kernel.shmmax=a=b", "kernel/shmmax", "a=b", 0},
		{"net.x=/", "net/x", "/", 0},
		{"kernel.core_pattern=|/x", NULL, NULL, -EPERM},
		{"kernel.shmmaxx=1", NULL, NULL, -EPERM},
		{"kernel.modprobe=/x", NULL, NULL, -EPERM},
		{"vm.overcommit_memory=1", NULL, NULL, -EPERM},
		{"net/../kernel/panic=1", NULL, NULL, -EINVAL},
		{"network.x=1", NULL, NULL, -EPERM},
		{"net.ipv4.ip_forward", NULL, NULL, -EINVAL},
		{"=1", NULL, NULL, -EINVAL},
		{"", NULL, NULL, -EINVAL},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const char *path, *value;
		char text[64];

		snprintf(text, sizeof(text), "%s", cases[i].text);
		assert_int_equal(settings_parse_sysctl(text, &path, &value), cases[i].r);
		if (cases[i].r == 0) {
			assert_string_equal(path, cases[i].path);
			assert_string_equal(value, cases[i].value);
		}
	}
}

static void test_tmpfs_options(void **state)
{
	const uint64_t safe = MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
	static const char *const wrong[] = {"", "x", "/", "//", "/.", "/a/../b", "/a:siz=1", "/a:size",
		"/a:size=", "/a:", "/a:ro,", "/a:ro,,rw", "/a:bind", "/a:context=x"};
	struct tmpfs t;
	char why[256], big[700];

	assert_int_equal(tmpfs_parse("//a///b/", &t, why, sizeof(why)), 0);
	assert_string_equal(t.path, "/a/b");
	assert_string_equal(t.options, "");
	assert_int_equal(t.attributes, safe);
	assert_int_equal(tmpfs_parse("/..a:size=1m,exec,mode=700,ro,dev,uid=7", &t, why, sizeof(why)), 0);
	assert_string_equal(t.path, "/..a");
	assert_string_equal(t.options, "size=1m,mode=700,uid=7");
	assert_int_equal(t.attributes, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID);
	assert_true(t.has_mode && t.has_uid && !t.has_gid);
	for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
		why[0] = '\0';
		assert_int_equal(tmpfs_parse(wrong[i], &t, why, sizeof(why)), -EINVAL);
		assert_int_not_equal(why[0], '\0');
	}
	memset(big, 'a', sizeof(big));
	memcpy(big, "/a:size=", 8);
	big[sizeof(big) - 1] = '\0';
	assert_int_equal(tmpfs_parse(big, &t, why, sizeof(why)), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_open),
		cmocka_unit_test(test_make),
		cmocka_unit_test(test_unknown_questions),
		cmocka_unit_test(test_form),
		cmocka_unit_test(test_masks),
		cmocka_unit_test(test_rules),
		cmocka_unit_test(test_all_devices),
		cmocka_unit_test(test_device_options),
		cmocka_unit_test(test_sysctl_options),
		cmocka_unit_test(test_tmpfs_options),
	};

	return cmocka_run_group_tests_name("guest-isolation", tests, NULL, NULL);
}
