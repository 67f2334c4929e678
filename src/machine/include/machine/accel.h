/* SPDX-License-Identifier: MIT */
/*
 * Which accelerator a machine gets: our own monitor on KVM, QEMU on KVM, or QEMU's emulation (TCG). KVM is measured, not
 * assumed: some hosts offer a /dev/kvm that creates VMs and vCPUs and then runs a kernel a thousand times too slowly.
 */
#ifndef MACHINE_ACCEL_H
#define MACHINE_ACCEL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

enum accel { ACCEL_AUTO, ACCEL_KVM, ACCEL_QEMU_KVM, ACCEL_TCG };

struct accel_info {
	bool kvm_usable;
	char kvm_reason[160]; /* why, for `info` and for the error of --accel kvm; also set when usable */
	uint64_t tsc_khz;     /* host TSC frequency, 0 if it is not constant or not measurable */
};

/* "auto", "kvm", "qemu-kvm", "tcg". 0 or -EINVAL. */
int accel_parse(const char *s, enum accel *ret);
const char *accel_name(enum accel a);
/* Whether guests are confined by the CPU (KVM), or only by an emulator (tcg). */
bool accel_isolates(enum accel a);
/* Which program holds the guest: "kvm" (our monitor) or "qemu". */
const char *accel_backend(enum accel a);

/*
 * Measures, or takes the verdict of this boot of the host and this user from cache_dirfd (file `accel`, one line,
 * atomically replaced; -1: no cache). Takes some 50 ms; bounded to 3 s on a host whose KVM is slow. Never fails: what
 * cannot be measured is not usable.
 */
void accel_probe(int cache_dirfd, struct accel_info *ret);
/*
 * Never ACCEL_AUTO for what was asked: automatically, our own monitor where KVM is usable, else TCG. -ENOTSUP with e set if
 * KVM is forced and not usable.
 */
int accel_choose(enum accel wanted, const struct accel_info *info, enum accel *ret, struct err *e);

#endif
