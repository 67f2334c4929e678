/* SPDX-License-Identifier: MIT */
/*
 * What confines a process that holds a guest, so that a guest that takes it over has gained next to nothing.
 * Each layer stands alone: what a host does not permit is left out and reported, never a reason to fail (but
 * for the system call filter, which every kernel has).
 *
 * Two kinds of such processes:
 *
 * A monitor of ours confines itself: the supervisor starts it in new namespaces where permitted
 * (jail_namespaces), it opens what it needs, calls jail_enter while it has one thread, and each thread then
 * takes its filter by jail_filter, the one that makes the others last.
 *
 * QEMU opens its files itself and knows nothing of this. It is started in new namespaces without any
 * capability, under a Landlock ruleset that lets it reach its program, its data and its machine's files
 * (jail_qemu_prepare).
 */
#ifndef MACHINE_JAIL_H
#define MACHINE_JAIL_H

#include <linux/filter.h>

#include "base/proc.h"
#include "machine/machine.h"

/* Roles of threads, each with its own list of system calls (jail-seccomp.c). */
enum jail_role {
	JAIL_LOOP, /* the monitor's main thread: devices on the loop, control */
	JAIL_VCPU, /* KVM_RUN, and register accesses of the guest */
	JAIL_DISK, /* a block device's queue */
	JAIL_ROLES
};

/* Adds to a report that a layer holds, or why it does not. */
void jail_applied(struct machine_status *s, enum machine_confinement c);
PRINTF(3, 4) void jail_missing(struct machine_status *s, enum machine_confinement c, const char *fmt, ...);
/*
 * Adds what another one says. It may come from a process in the guest's hands: its text is cut, and made
 * printable.
 */
void jail_merge(struct machine_status *s, const struct machine_status *other);

/* ---- in the supervisor ---- */

/* What a monitor of ours is to be started with (proc_opts.confine): user 0 of new namespaces. */
struct proc_confine jail_namespaces(void);
/* Adds what proc_spawn has made of it. */
void jail_namespaces_report(const struct proc_confine *c, struct machine_status *s);

struct jail_qemu {
	struct proc_confine confine;
	struct sock_fprog filter;
	int landlock_error;  /* why there is no ruleset, -errno */
	bool foreign_files;  /* root's machine with files of other users: it keeps root's capabilities */
	uint64_t file_bytes; /* of the largest file that it writes, memory included */
};
/* Before QEMU is started: fills j->confine for proc_opts. program is QEMU's path. Never fails. */
void jail_qemu_prepare(struct jail_qemu *j, const char *program, const struct machine_config *c);
/* After it: limits the process's resources, and adds to the report. */
void jail_qemu_started(const struct jail_qemu *j, pid_t pid, struct machine_status *s);
void jail_qemu_done(struct jail_qemu *j);

/* ---- in our own monitor ---- */

struct jail_config {
	uint64_t file_bytes_max;  /* RLIMIT_FSIZE: no file of ours grows beyond, a saved machine's included */
	unsigned descriptors_max; /* RLIMIT_NOFILE */
	/* RLIMIT_AS: bytes of address space, the guest's memory included. Without effect under a sanitizer. */
	uint64_t memory_max;
};
/*
 * The calling process, single-threaded, with all descriptors open that it will ever need: empty root (in a
 * mount namespace of its own), Landlock without any right, resource limits, no capabilities, not dumpable, no
 * new privileges. The working folder stays reachable by relative names, for Unix sockets that stand in it,
 * but nothing above it, and nothing can be made in it. Folders must not be open: they would lead out. Fills
 * *s.
 */
void jail_enter(const struct jail_config *c, struct machine_status *s);
/*
 * Prepares the filters of all roles once, before threads exist, and adds to the report: the threads to come
 * will have one, or (built with a sanitizer, whose runtime asks for what no monitor may) not. 0 or -errno.
 */
int jail_filters_prepare(struct machine_status *s);
/*
 * Applies the role's filter to the calling thread, for good. What it forbids ends the process (SIGSYS). 0 or
 * -errno.
 */
int jail_filter(enum jail_role role);

/* ---- parts of the above ---- */

/* For a ruleset of base/landlock.h. */
enum jail_access {
	JAIL_READ,    /* of files, at or below the path */
	JAIL_EXECUTE, /* and to execute them */
	JAIL_WRITE,   /* one file or device: read, write, and a device's requests */
};
/* -ENOENT when there is no such path. */
int jail_landlock_allow(int ruleset, const char *path, enum jail_access a);
/* A filter for QEMU beside its own. 0 with code that the caller frees (it must be zeroed before), or -errno. */
int jail_qemu_filter(struct sock_fprog *ret);

#endif
