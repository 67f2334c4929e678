/* SPDX-License-Identifier: MIT */
/*
 * The limits of the box's cgroup (cgroup v2: Documentation/admin-guide/cgroup-v2.rst of Linux). cgroup is the box's
 * folder everywhere, a descriptor that may be O_PATH.
 */
#ifndef GUEST_CGROUP_H
#define GUEST_CGROUP_H

#include <stddef.h>

#include "wire/wire.h"

/* Lets the cgroups below root, a path, have the controllers that the box needs from its start. 0 or -errno. */
int cgroup_enable(const char *root);

/*
 * Gives the box these limits in place of those it has: all, or none. 0; -EINVAL and the like with what is wrong in one
 * line of `why`. first: nothing has been changed since the cgroup was made, so that what is usual need not be written.
 *
 * Memory is never taken by force: what the box caches is given back first, and a limit below what it then still uses
 * is refused with -EBUSY, where the kernel would kill processes until it fits.
 *
 * proc: a /proc of the guest; -1: none, so that the number of processes is bounded only by what is asked for.
 */
int cgroup_limit(int cgroup, int proc, const struct wire_limits *l, bool first, char *why, size_t size);

/* How many processes of the box the kernel has killed for want of memory; 0 if that cannot be known. */
uint64_t cgroup_oom_kills(int cgroup);

/* How many processes and threads a box may have that asks for no limit; 0 if that cannot be known. */
uint64_t cgroup_guest_pids(int proc);

/* ---- parts ---- */

/* What the guest has, which no limit exceeds. */
struct cgroup_guest {
	uint64_t mem_bytes; /* that a box may use: cgroup_guest_memory */
	uint64_t cpus;
	uint64_t pids; /* cgroup_guest_pids */
};
/* Memory of total bytes less what PID 1 and the kernel keep, so that it is the box that runs short, never they. */
uint64_t cgroup_guest_memory(uint64_t total);
/* cpu.weight for Docker's CPU shares, by the formula of crun and runc: 2, 1024 and 262144 are 1, 100 and 10000. */
unsigned int cgroup_cpu_weight(uint64_t shares);
/* 0, or -EINVAL with the reason: what the host should not have sent, or cannot know. */
int cgroup_check(const struct wire_limits *l, const struct cgroup_guest *g, char *why, size_t size);

#endif
