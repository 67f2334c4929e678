/* SPDX-License-Identifier: MIT */
/* Which devices the processes of the box may use. */
#ifndef GUEST_DEVICES_H
#define GUEST_DEVICES_H

#include <linux/bpf.h>
#include <stddef.h>

/* The decision as a program of type BPF_PROG_TYPE_CGROUP_DEVICE: returns 1 for yes, 0 for no. */
extern const struct bpf_insn devices_program[];
extern const size_t devices_program_len;

/*
 * From now on the processes in this cgroup and below it open and make only what Docker's default list allows; what
 * is open stays open. Takes the place of an earlier call's. 0, or -errno and nothing is restricted.
 */
int devices_restrict(int cgroup);

#endif
