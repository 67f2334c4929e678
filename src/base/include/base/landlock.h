/* SPDX-License-Identifier: MIT */
/*
 * Landlock (landlock(7); Documentation/userspace-api/landlock.rst of Linux): what a process can reach by a name, whatever its
 * user may. The older <linux/landlock.h> know less than the kernels we run on: what came later is known here.
 *
 * Connecting to a Unix socket by its path is not among the rights handled (kernels that know it as one leave it free unless
 * asked).
 */
#ifndef BASE_LANDLOCK_H
#define BASE_LANDLOCK_H

#include <linux/landlock.h>
#include <stdbool.h>
#include <stdint.h>

#define LANDLOCK_FS_IOCTL_DEV (1ull << 15) /* a device's requests; ABI 5, Linux 6.10 */

/*
 * A ruleset that handles all rights on files that the running kernel knows and we do, signals and abstract sockets of others,
 * and with network also TCP: without more it allows nothing of them. Descriptor, or -errno.
 */
int landlock_new(bool network);
/*
 * Allows rights (LANDLOCK_ACCESS_FS_*) at or below what fd (O_PATH will do) is. Those that such a file cannot have, or the
 * kernel does not know, are left out. 0 or -errno.
 */
int landlock_allow(int ruleset, int fd, uint64_t rights);
/* The calling process comes under it, for good; no_new_privs must be set. 0 or -errno. */
int landlock_enter(int ruleset);

#endif
