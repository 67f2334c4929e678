/* SPDX-License-Identifier: MIT */
/* The kernel loader on any file. Memory has two regions with a gap, and red zones of the sanitizer around. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/io.h"
#include "kvm/x86/elf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { FROM = 0x1000, LOW = 0x8000, HIGH_AT = 0x10000, HIGH = 0x4000 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP_CLOSE int fd = memfd_create("elf", MFD_CLOEXEC);
	uint8_t *low = malloc(LOW), *high = malloc(HIGH);
	struct elf_image image;
	struct err e = {0};

	if (fd >= 0 && low && high && io_write_full(fd, data, size) == 0) {
		const struct guest_mem mem = {.n_regions = 2,
			.regions = {{.gpa = 0, .len = LOW, .host = low},
				{.gpa = HIGH_AT, .len = HIGH, .host = high}}};
		int r = elf_load(fd, &mem, FROM, HIGH_AT + HIGH, &image, &e);
		if ((r < 0) != (e.code < 0) || r > 0)
			__builtin_trap();
		if (r == 0 && (image.start < FROM || image.end > HIGH_AT + HIGH ||
				      image.entry < image.start || image.entry >= image.end))
			__builtin_trap();
	}
	free(low);
	free(high);
	return 0;
}
