/* SPDX-License-Identifier: MIT */
/* The clients of a network's process (private to this room): connections, what they ask, and what they are told. */
#ifndef NET_CONTROL_H
#define NET_CONTROL_H

#include "engine.h"

struct control;

/*
 * g must outlive it. on_change: called from the loop when the last attachment went, and when a connection did. 0 or -errno.
 */
int control_new(struct engine *g, void (*on_change)(void *data), void *data, struct control **ret);
void control_free(struct control *c);
DEFINE_CLEANUP(struct control *, control_free)
/* A new client; fd is consumed. Closed at once when it is another user's, or there are too many. */
void control_add(struct control *c, int fd);
unsigned control_clients(const struct control *c);
/* Whether somebody came a moment ago and has not said yet what he wants. */
bool control_expects(const struct control *c);

#endif
