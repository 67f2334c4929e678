/* SPDX-License-Identifier: MIT */
/* Which devices the processes of the box may use. */
#ifndef GUEST_DEVICES_H
#define GUEST_DEVICES_H

#include <linux/bpf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The decision as a program of type BPF_PROG_TYPE_CGROUP_DEVICE: returns 1 for yes, 0 for no. */
extern const struct bpf_insn devices_program[];
extern const size_t devices_program_len;

/* A device that a box may use besides. */
struct device_rule {
	uint32_t type; /* BPF_DEVCG_DEV_BLOCK or BPF_DEVCG_DEV_CHAR */
	uint32_t major, minor;
	uint32_t access; /* BPF_DEVCG_ACC_READ, _WRITE, _MKNOD; the last one is always granted */
};

#define DEVICES_RULES_MAX 128

/*
 * The program with these rules besides, n at most DEVICES_RULES_MAX, into a malloc'd *ret; with `all`, one that allows
 * everything. 0 or -ENOMEM.
 */
int devices_program_with(
	const struct device_rule *rules, size_t n, bool all, struct bpf_insn **ret, size_t *ret_len);

/*
 * From now on the processes in this cgroup and below it open and make only what Docker's default list allows, and what
 * the rules say; what is open stays open. Takes the place of an earlier call's. 0, or -errno and nothing has changed.
 */
int devices_restrict(int cgroup, const struct device_rule *rules, size_t n, bool all);

#endif
