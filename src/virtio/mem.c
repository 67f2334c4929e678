/* SPDX-License-Identifier: MIT */
#include "virtio/mem.h"

/* Offsets are compared, never sums, so that nothing can wrap around. */
static void *region_at(const struct guest_mem_region *r, uint64_t start, uint64_t addr, uint64_t len)
{
	if (addr < start || addr - start > r->len || len > r->len - (addr - start))
		return NULL;
	return r->host + (addr - start);
}

void *guest_mem_at(const struct guest_mem *m, uint64_t gpa, uint64_t len)
{
	for (unsigned i = 0; i < m->n_regions; i++) {
		void *p = region_at(&m->regions[i], m->regions[i].gpa, gpa, len);
		if (p)
			return p;
	}
	return NULL;
}

void *guest_mem_at_uaddr(const struct guest_mem *m, uint64_t uaddr, uint64_t len)
{
	for (unsigned i = 0; i < m->n_regions; i++) {
		void *p = region_at(&m->regions[i], m->regions[i].uaddr, uaddr, len);
		if (p)
			return p;
	}
	return NULL;
}

bool guest_mem_gpa_of(const struct guest_mem *m, const void *host, uint64_t len, uint64_t *ret_gpa)
{
	for (unsigned i = 0; i < m->n_regions; i++) {
		const struct guest_mem_region *r = &m->regions[i];
		if (region_at(r, (uintptr_t)r->host, (uintptr_t)host, len)) {
			*ret_gpa = r->gpa + ((uintptr_t)host - (uintptr_t)r->host);
			return true;
		}
	}
	return false;
}
