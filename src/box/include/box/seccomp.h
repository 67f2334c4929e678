/* SPDX-License-Identifier: MIT */
/*
 * Seccomp filters for a box's processes.
 *
 * THEORY OF OPERATION
 *
 * A profile in Docker's JSON format says for each system call by name what becomes of it, in part depending on the box's
 * capabilities, on the kernel and on the architecture. It is compiled on the host, because only there is a library that
 * knows the calls' names, into a classic BPF program (seccomp(2)) for the guest's kernel; the guest is sent the program. What
 * Docker's default profile (seccomp-default.json) amounts to under the default capabilities is compiled when a3s-box is built
 * and a part of it; another filter is compiled when a box is created and kept beside its disk, as boxes/ID/seccomp.bpf.
 */
#ifndef BOX_SECCOMP_H
#define BOX_SECCOMP_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define BOX_SECCOMP_PROFILE_MAX (1u << 20) /* bytes of a profile */
#define BOX_SECCOMP_FILE	"seccomp.bpf"

/*
 * Compiles a profile for processes with these capabilities on an architecture (AUDIT_ARCH_X86_64 or AUDIT_ARCH_AARCH64) whose
 * kernel is the guest's. *ret is malloc'd, struct sock_filter[] of *ret_len bytes, at most WIRE_SECCOMP_MAX. -EINVAL for a
 * profile that is none, -ENOTSUP for what only works with a helper outside (SCMP_ACT_NOTIFY), -E2BIG, -ENOENT without
 * libseccomp, -ENOMEM; e then says what is wrong with the profile, to be put behind its name.
 *
 * Rules as in Docker and runc: names that no system call has here are skipped; a rule whose action is the default's has no
 * effect; several conditions on one argument are alternatives; calls newer than all that a profile names fail with ENOSYS, so
 * that programs fall back, unless the default action lets them pass. Of the rules for a call those with conditions come first,
 * in their order. Unlike there, a rule for socket or an IPC call says nothing about the multiplexers socketcall and ipc of
 * 32-bit x86, whose arguments a filter cannot see: they need a rule of their own (Docker's default has one).
 */
int box_seccomp_compile(const char *profile, size_t len, uint64_t caps, uint32_t arch, uint8_t **ret,
	size_t *ret_len, struct err *e);

/* The architecture of the guests that this program runs. */
uint32_t box_seccomp_native_arch(void);

/* Docker's default profile, and what it compiles to under BOX_CAPS_DEFAULT. */
extern const char box_seccomp_default_profile[];
extern const size_t box_seccomp_default_profile_len;
extern const uint8_t box_seccomp_default_filter[];
extern const size_t box_seccomp_default_filter_len;

#endif
