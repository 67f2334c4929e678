/* SPDX-License-Identifier: MIT */
/* The guest's side of nsexec (nsexec.c): starts isolated subprocesses of the box for whoever in it asks. See isolate.c. */
#ifndef GUEST_ISOLATE_H
#define GUEST_ISOLATE_H

#include "base/loop.h"
#include "spawn.h"

#define ISOLATE_SOCKET "/dev/a3s/socket" /* in the box */

/* Listens at this path (ISOLATE_SOCKET as PID 1 sees it), before the box runs. 0 or -errno. box is borrowed. */
int isolate_listen(struct loop *loop, struct spawn_box *box, const char *path);

#endif
