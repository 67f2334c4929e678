/* SPDX-License-Identifier: MIT */
/* Any bytes as a seccomp profile: what is accepted must be a program that the kernel would take, and that ends. */
#include <linux/audit.h>
#include <stdint.h>
#include <stdlib.h>

#include "box/caps.h"
#include "box/seccomp.h"
#include "test-seccomp-run.h"
#include "wire/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct err e = {0};
	uint8_t *f = NULL;
	size_t len = 0;

	if (size == 0)
		return 0;
	uint64_t caps = data[0] & 1 ? BOX_CAPS_ALL : BOX_CAPS_DEFAULT;
	uint32_t arch = data[0] & 2 ? AUDIT_ARCH_AARCH64 : AUDIT_ARCH_X86_64;
	if (box_seccomp_compile((const char *)data + 1, size - 1, caps, arch, &f, &len, &e) < 0)
		return 0;
	const struct sock_filter *insns = (const struct sock_filter *)(const void *)f;
	if (len % sizeof(*insns) || len > WIRE_SECCOMP_MAX || !filter_valid(insns, len / sizeof(*insns)))
		abort();
	for (int nr = -1; nr < 500; nr++) {
		struct seccomp_data d = {.nr = nr, .arch = arch, .args = {(uint64_t)nr, size}};
		unsigned steps = 0;
		(void)filter_run(insns, &d, &steps);
	}
	free(f);
	return 0;
}
