/* SPDX-License-Identifier: MIT */
/*
 * THEORY OF OPERATION
 *
 * A box's root has CAP_MKNOD, as in Docker, and could make itself a node for the scratch disk and write to it below
 * the file system. cgroup v2 has no list of devices: a program decides at each mknod and at each open of a node. Ours
 * is Docker's default list: any node can be made; /dev/null, zero, full, random, urandom, tty, console, ptmx and
 * the slaves of devpts can be opened; nothing else. /dev/net/tun is not among them as long as no box is given one.
 *
 * It is so short that it is written down as instructions. Each has a name, and jumps say the name of where they go:
 * an instruction more or less moves no number.
 *
 * Devices that a box is given come before it, a block of instructions each that either says yes or goes on to the next.
 *
 * It is attached without BPF_F_ALLOW_OVERRIDE and BPF_F_ALLOW_MULTI: below the box's cgroup, where a box may make
 * cgroups of its own, nothing can be put in its place.
 */
#include "devices.h"

#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>

#include "base/cleanup.h"

/* Major numbers, see Documentation/admin-guide/devices.txt of Linux. */
#define MEMORY	  1
#define TERMINALS 5
#define PTY_SLAVE 136

enum at {
	GET_ACCESS,
	IF_MKNOD,
	GET_TYPE,
	IF_CHAR,
	DENY,
	RETURN_0,
	GET_MAJOR,
	GET_MINOR,
	IF_PTY_SLAVE,
	IF_MEMORY,
	IF_TERMINAL,
	DENY_MAJOR,
	RETURN_0_MAJOR,
	IF_NULL,
	IF_ZERO,
	IF_FULL,
	IF_RANDOM,
	IF_URANDOM,
	DENY_MEMORY,
	RETURN_0_MEMORY,
	IF_TTY,
	IF_CONSOLE,
	IF_PTMX,
	DENY_TERMINAL,
	RETURN_0_TERMINAL,
	ALLOW,
	RETURN_1,
};

/* clang-format off */
#define GET(reg, width, from) {.code = BPF_LDX | BPF_MEM | (width), .dst_reg = (reg), .src_reg = BPF_REG_1, \
	.off = (from)}
#define ANSWER(value) {.code = BPF_ALU64 | BPF_K | BPF_MOV, .dst_reg = BPF_REG_0, .imm = (value)}
#define IF(here, reg, value, target) [here] = {.code = BPF_JMP | BPF_K | BPF_JEQ, .dst_reg = (reg), \
	.off = (target) - (here) - 1, .imm = (value)}
#define RETURN {.code = BPF_JMP | BPF_EXIT}

/* access_type is access << 16 | type */
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the halves of access_type are the other way round"
#endif
#define TYPE	offsetof(struct bpf_cgroup_dev_ctx, access_type)
#define ACCESS	(TYPE + 2)
#define MAJOR	offsetof(struct bpf_cgroup_dev_ctx, major)
#define MINOR	offsetof(struct bpf_cgroup_dev_ctx, minor)

/* R0 the answer, R1 the question (struct bpf_cgroup_dev_ctx), R2 access, R3 type, R4 major, R5 minor */
const struct bpf_insn devices_program[] = {
	/* c *:* m, b *:* m: the kernel asks for mknod alone, so that more bits are something else */
	[GET_ACCESS] = GET(BPF_REG_2, BPF_H, ACCESS),
	IF(IF_MKNOD, BPF_REG_2, BPF_DEVCG_ACC_MKNOD, ALLOW),
	/* no block device, nor what else there may be one day */
	[GET_TYPE] = GET(BPF_REG_3, BPF_H, TYPE),
	IF(IF_CHAR, BPF_REG_3, BPF_DEVCG_DEV_CHAR, GET_MAJOR),
	[DENY] = ANSWER(0),
	[RETURN_0] = RETURN,
	[GET_MAJOR] = GET(BPF_REG_4, BPF_W, MAJOR),
	[GET_MINOR] = GET(BPF_REG_5, BPF_W, MINOR),
	/* c 136:* rwm */
	IF(IF_PTY_SLAVE, BPF_REG_4, PTY_SLAVE, ALLOW),
	IF(IF_MEMORY, BPF_REG_4, MEMORY, IF_NULL),
	IF(IF_TERMINAL, BPF_REG_4, TERMINALS, IF_TTY),
	[DENY_MAJOR] = ANSWER(0),
	[RETURN_0_MAJOR] = RETURN,
	/* c 1:3, 1:5, 1:7, 1:8, 1:9 rwm */
	IF(IF_NULL, BPF_REG_5, 3, ALLOW),
	IF(IF_ZERO, BPF_REG_5, 5, ALLOW),
	IF(IF_FULL, BPF_REG_5, 7, ALLOW),
	IF(IF_RANDOM, BPF_REG_5, 8, ALLOW),
	IF(IF_URANDOM, BPF_REG_5, 9, ALLOW),
	[DENY_MEMORY] = ANSWER(0),
	[RETURN_0_MEMORY] = RETURN,
	/* c 5:0, 5:1, 5:2 rwm */
	IF(IF_TTY, BPF_REG_5, 0, ALLOW),
	IF(IF_CONSOLE, BPF_REG_5, 1, ALLOW),
	IF(IF_PTMX, BPF_REG_5, 2, ALLOW),
	[DENY_TERMINAL] = ANSWER(0),
	[RETURN_0_TERMINAL] = RETURN,
	[ALLOW] = ANSWER(1),
	[RETURN_1] = RETURN,
};
/* clang-format on */
const size_t devices_program_len = ARRAY_LEN(devices_program);

static int bpf(int command, union bpf_attr *attr)
{
	int r = (int)syscall(SYS_bpf, command, attr, sizeof(*attr));

	return r < 0 ? -errno : r;
}

#define RULE_LEN 8 /* instructions of one rule */

/* clang-format off */
#define UNLESS(here, reg, value) [here] = {.code = BPF_JMP | BPF_K | BPF_JNE, .dst_reg = (reg), \
	.off = RULE_LEN - (here) - 1, .imm = (int32_t)(value)}

static void put_rule(struct bpf_insn *out, const struct device_rule *d)
{
	/* Asked for more than is allowed: the rules after this one may say something else. */
	uint32_t denied = ~(d->access | BPF_DEVCG_ACC_MKNOD) & 0x7fffffff;
	const struct bpf_insn rule[RULE_LEN] = {
		UNLESS(0, BPF_REG_3, d->type),
		UNLESS(1, BPF_REG_4, d->major),
		UNLESS(2, BPF_REG_5, d->minor),
		[3] = {.code = BPF_ALU64 | BPF_X | BPF_MOV, .dst_reg = BPF_REG_0, .src_reg = BPF_REG_2},
		[4] = {.code = BPF_ALU64 | BPF_K | BPF_AND, .dst_reg = BPF_REG_0, .imm = (int32_t)denied},
		UNLESS(5, BPF_REG_0, 0),
		[6] = ANSWER(1),
		[7] = RETURN,
	};

	memcpy(out, rule, sizeof(rule));
}

int devices_program_with(
	const struct device_rule *rules, size_t n, bool all, struct bpf_insn **ret, size_t *ret_len)
{
	static const struct bpf_insn everything[] = {ANSWER(1), RETURN};
	static const struct bpf_insn questions[] = {GET(BPF_REG_2, BPF_H, ACCESS), GET(BPF_REG_3, BPF_H, TYPE),
		GET(BPF_REG_4, BPF_W, MAJOR), GET(BPF_REG_5, BPF_W, MINOR)};
	size_t room = ARRAY_LEN(questions) + n * RULE_LEN + devices_program_len, len = 0;
	struct bpf_insn *p = calloc(room, sizeof(*p));

	if (!p)
		return -ENOMEM;
	if (all) {
		memcpy(p, everything, sizeof(everything));
		len = ARRAY_LEN(everything);
	} else {
		memcpy(p, questions, sizeof(questions));
		len = ARRAY_LEN(questions);
		for (size_t i = 0; i < n; i++, len += RULE_LEN)
			put_rule(p + len, &rules[i]);
		memcpy(p + len, devices_program, devices_program_len * sizeof(*p));
		len += devices_program_len;
	}
	*ret = p;
	*ret_len = len;
	return 0;
}
/* clang-format on */

static int load(const struct bpf_insn *program, size_t len)
{
	union bpf_attr load;

	/* Not by an initializer: the kernel wants every byte of the union to be 0. */
	memset(&load, 0, sizeof(load));
	load.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
	load.insns = (uint64_t)(uintptr_t)program;
	load.insn_cnt = (uint32_t)len;
	load.license = (uint64_t)(uintptr_t) "MIT";
	return bpf(BPF_PROG_LOAD, &load);
}

int devices_restrict(int cgroup, const struct device_rule *rules, size_t n, bool all)
{
	union bpf_attr attach;
	CLEANUP_FREE struct bpf_insn *program = NULL;
	CLEANUP_CLOSE int fd = -1;
	size_t len;
	int r;

	if (n > DEVICES_RULES_MAX)
		return -E2BIG;
	if (n || all) {
		r = devices_program_with(rules, n, all, &program, &len);
		if (r < 0)
			return r;
		fd = load(program, len);
	} else {
		fd = load(devices_program, devices_program_len);
	}
	if (fd < 0)
		return fd;
	memset(&attach, 0, sizeof(attach));
	attach.target_fd = (uint32_t)cgroup;
	attach.attach_bpf_fd = (uint32_t)fd;
	attach.attach_type = BPF_CGROUP_DEVICE;
	return bpf(BPF_PROG_ATTACH, &attach);
}
