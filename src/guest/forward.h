/* SPDX-License-Identifier: MIT */
/* Connections from the host into the guest: wire.h, FORWARD. */
#ifndef GUEST_FORWARD_H
#define GUEST_FORWARD_H

#include <sys/types.h>

#include "wire/wire.h"

#define FORWARD_MAX	  512 /* connections at once */
#define FORWARD_CONNECT_S 10

/*
 * Starts a process that connects and carries the bytes both ways; in holds what has been read from the host's connection, FORWARD
 * first. Both stay the caller's, who closes the connection, so that it ends with the process. The PID, or -errno.
 */
pid_t forward_start(int fd, const struct buf *in);

#endif
