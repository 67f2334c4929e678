/* SPDX-License-Identifier: MIT */
#ifndef FS_JAIL_FILTER_H
#define FS_JAIL_FILTER_H

#include "fs/protocol.h"

/*
 * The calling thread, and those that it will start, come under the filter of system calls, for good. Its leases are those of the
 * exports' `use` files; locks that it holds in common with the supervisor, by these and FS_FD_HOLD, it cannot give up. 0 or
 * -errno.
 */
int jail_filter_enter(const struct fs_export *exports, size_t n);

#endif
