/* SPDX-License-Identifier: MIT */
/* Guest memory that a front end lends by passing descriptors. */
#ifndef VHOST_USER_MEM_H
#define VHOST_USER_MEM_H

#include "vhost-user-proto.h"
#include "virtio/mem.h"

struct vhost_user_mappings {
	unsigned n;
	struct {
		void *addr;
		size_t len;
	} map[GUEST_MEM_REGIONS_MAX];
};

/*
 * Maps the regions of a SET_MEM_TABLE message; fds[i] belongs to region i and stays the caller's. On success
 * fills *mem and *maps; on failure both are untouched. Returns 0, -EINVAL for a table that does not add up,
 * -EPERM for memory that could shrink under the mapping, or -errno.
 */
int vhost_user_map(const struct vhost_user_memory *table, const int *fds, struct guest_mem *mem,
	struct vhost_user_mappings *maps);
void vhost_user_unmap(struct vhost_user_mappings *maps);

#endif
