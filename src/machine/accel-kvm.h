/* SPDX-License-Identifier: MIT */
#ifndef MACHINE_ACCEL_KVM_H
#define MACHINE_ACCEL_KVM_H

#include <stdbool.h>
#include <stdint.h>

struct kvm_probe_result {
	bool usable;
	char reason[160];
};

/* Runs the counting guest in this process, for some ms on a good host. Changes signal handlers: call it in a child. */
void kvm_probe_run(struct kvm_probe_result *ret);
/* Frequency of an invariant TSC in kHz, measured over 25 ms against the monotonic clock; 0 if there is none. */
uint64_t tsc_measure_khz(void);

#endif
