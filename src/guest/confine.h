/* SPDX-License-Identifier: MIT */
/* What a process of the box may do: its limits, identity, capabilities and system calls. */
#ifndef GUEST_CONFINE_H
#define GUEST_CONFINE_H

#include "user.h"
#include "wire/wire.h"

/*
 * All return 0 or -errno, with what failed in one line of `what`. They are called in this order by the process itself, the
 * last right before execve: see confine.c.
 */

/* Resource limits and the weight for the out-of-memory killer: needs the capabilities of the first user namespace. */
int confine_limits(const struct wire_process *p, char *what, size_t size);
/* Groups, group and user; bounding set and what remains of the other sets; no_new_privs. */
int confine_identity(const struct wire_process *p, const struct user_ids *ids, char *what, size_t size);
/* The system call filter, if there is one. */
int confine_filter(const struct wire_process *p, char *what, size_t size);

/* No capability is left in any set, and none can be had again. */
int confine_no_capabilities(char *what, size_t size);

#endif
