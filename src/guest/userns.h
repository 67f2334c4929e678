/* SPDX-License-Identifier: MIT */
/* User namespaces: see user_namespaces(7). */
#ifndef GUEST_USERNS_H
#define GUEST_USERNS_H

#include <sys/types.h>

/*
 * Makes a user namespace with this content of uid_map and gid_map, without a process in it. Needs CAP_SETUID, CAP_SETGID and CAP_SETFCAP.
 * Descriptor (close-on-exec) or -errno.
 */
int userns_new(const char *map);
/* Writes "uid_map" or "gid_map" of a process, whose number is that of the /proc open as `proc`. 0 or -errno. */
int userns_write_map(int proc, pid_t pid, const char *name, const char *map);

#endif
