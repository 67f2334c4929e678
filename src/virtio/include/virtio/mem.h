/* SPDX-License-Identifier: MIT */
/*
 * Guest memory as devices see it: a table of regions, reached only by (guest-physical address, length)
 * with bounds checked against one region. Never hand out a pointer without the length that was checked.
 */
#ifndef VIRTIO_MEM_H
#define VIRTIO_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GUEST_MEM_REGIONS_MAX 8

struct guest_mem_region {
	uint64_t gpa;	/* guest-physical start */
	uint64_t len;	/* bytes */
	uint8_t *host;	/* mapping in this process */
	uint64_t uaddr; /* the transport's own address of the start (vhost-user ring addresses); else equal to
			   gpa */
};

struct guest_mem {
	unsigned n_regions;
	struct guest_mem_region regions[GUEST_MEM_REGIONS_MAX];
};

/* Host pointer to [gpa, gpa + len), or NULL when any byte is outside of one region or the sum overflows. */
void *guest_mem_at(const struct guest_mem *m, uint64_t gpa, uint64_t len);
/* The same for the transport's own addresses. */
void *guest_mem_at_uaddr(const struct guest_mem *m, uint64_t uaddr, uint64_t len);
/* The way back: where the guest has the len bytes at host. False when any of them is outside of one region. */
bool guest_mem_gpa_of(const struct guest_mem *m, const void *host, uint64_t len, uint64_t *ret_gpa);

#endif
