/* SPDX-License-Identifier: MIT */
/* The guest's memory: one mapping, which lies in the guest's address space as the architecture says (arch_ram). */
#ifndef KVM_MEMORY_H
#define KVM_MEMORY_H

#include "base/err.h"
#include "virtio/mem.h"

struct memory {
	struct guest_mem guest;
	uint8_t *host; /* of all of it, back to back; NULL: none */
	uint64_t len;
	int memfd; /* shared: what it consists of; else -1 */
};

/* shared, restore_fd: see vm_config. 0 or -errno with e set; memory_done in either case. */
int memory_init(struct memory *m, uint64_t bytes, bool shared, int restore_fd, struct err *e);
void memory_done(struct memory *m);

/* Gives the pages that lie wholly in the range back to the host; a range that is not all in one region is ignored. */
void memory_discard(struct memory *m, uint64_t gpa, uint64_t len);
/* Bytes that the host has given it so far; of private memory, pages of the file that are in the host's cache count. */
uint64_t memory_resident(const struct memory *m);
/* Writes all of it to fd at its place, holes and zero pages left out, and sets the file's length. 0 or -errno. */
int memory_write(const struct memory *m, int fd);

#endif
