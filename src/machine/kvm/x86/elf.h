/* SPDX-License-Identifier: MIT */
/* Loader of a statically linked ELF64 kernel to its physical addresses (ELF-64 Object File Format 1.5). */
#ifndef KVM_X86_ELF_H
#define KVM_X86_ELF_H

#include "base/err.h"
#include "virtio/mem.h"

struct elf_image {
	uint64_t entry;	     /* physical; inside of what was read from the file */
	uint64_t start, end; /* physical, of everything loaded */
};

/*
 * Reads fd's segments into memory. The file is not trusted: whatever is not wholly inside of [from, to), and of one
 * region of memory, fails. What a segment has beyond its part of the file is left as it is: memory is fresh, and
 * zero. 0; -ENOEXEC for a file that is no such kernel, or -errno; with e set.
 */
int elf_load(int fd, const struct guest_mem *mem, uint64_t from, uint64_t to, struct elf_image *ret,
	struct err *e);

#endif
