/* SPDX-License-Identifier: MIT */
/* The box's interfaces, as the host wants them. */
#ifndef GUEST_NET_H
#define GUEST_NET_H

#include <stdbool.h>
#include <stddef.h>

#include "wire/wire.h"

/* Whether the guest has a network device at all. A box without one cannot get it later. */
bool net_has_device(void);
/*
 * Makes interfaces, addresses and default routes what n says; with boot, of a guest that has none yet. proc: a descriptor of
 * /proc. 0, or -errno with what could not be done in what.
 */
int net_apply(int proc, const struct wire_network *n, bool boot, char *what, size_t size);
/*
 * Waits until what ended processes have sent by TCP is acknowledged to its end, a moment at most: the machine may be gone as soon
 * as their end is known.
 */
void net_settle(int proc);

#endif
