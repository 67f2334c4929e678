/* SPDX-License-Identifier: MIT */
/* Holds what the box writes back, so that its disk can be copied: wire.h, FREEZE. */
#ifndef GUEST_FREEZE_H
#define GUEST_FREEZE_H

#include <sys/types.h>

#include "wire/wire.h"

/*
 * Starts a process that freezes the scratch disk for as long as the connection lasts, WIRE_FREEZE_MAX_S at most. in holds what
 * has been read from it, FREEZE first; both stay the caller's, who closes the connection. When the process has ended, however it
 * did, the caller calls freeze_end. The PID, or -errno.
 */
pid_t freeze_start(int fd, const struct buf *in);
/* Thaws what a process that was killed has left. */
void freeze_end(void);

#endif
