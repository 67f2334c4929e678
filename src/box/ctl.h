/* SPDX-License-Identifier: MIT */
/*
 * Requests of clients to a supervisor: one CTL_REQUEST frame opens a connection's purpose (enum box_op); ATTACH,
 * WAIT and STARTED are answered by session frames (wire.h), the others by one CTL_REPLY.
 */
#ifndef BOX_CTL_H
#define BOX_CTL_H

#include "box/box.h"

int ctl_get_request(const struct wire_frame *f, struct box_request *ret);
/* code 0 or -errno; text says why. */
int ctl_put_reply(struct buf *out, int code, const char *text);
/* Fills e from a failed reply and returns its code. */
int ctl_get_reply(const struct wire_frame *f, struct err *e);

#endif
