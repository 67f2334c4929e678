/* SPDX-License-Identifier: MIT */
/*
 * A framed connection on an event loop: reads frames and hands them out in order, queues frames and writes them when
 * the peer takes them. The peer is not trusted: a malformed frame ends the connection.
 */
#ifndef WIRE_CONN_H
#define WIRE_CONN_H

#include "base/loop.h"
#include "wire/wire.h"

struct wire_conn;

struct wire_conn_ops {
	/* One frame; its payload is valid during the call. A negative result ends the connection with that error. */
	int (*on_frame)(void *data, struct wire_conn *c, const struct wire_frame *f);
	/* The peer closed (error 0) or the connection failed (-errno). Called once, not after wire_conn_free. */
	void (*on_end)(void *data, struct wire_conn *c, int error);
	/* Output was written; wire_conn_pending tells what is left. May be NULL. */
	void (*on_written)(void *data, struct wire_conn *c);
};

/* fd is a connected stream socket, consumed also on failure. Nothing is called before the loop's next turn. */
int wire_conn_new(
	struct loop *l, int fd, const struct wire_conn_ops *ops, void *data, struct wire_conn **ret);
/* Closes at once; unwritten output is lost. NULL allowed; allowed from its own callbacks. */
void wire_conn_free(struct wire_conn *c);
DEFINE_CLEANUP(struct wire_conn *, wire_conn_free)

/* Where to put frames (wire_put…), to be followed by wire_conn_flush. Dropped silently once the connection ended. */
struct buf *wire_conn_out(struct wire_conn *c);
/* Writes what the socket takes now and arranges for the rest. A failure is reported through on_end later. */
void wire_conn_flush(struct wire_conn *c);
/* Bytes of output not yet taken by the socket. 0 once the connection ended. */
size_t wire_conn_pending(const struct wire_conn *c);
/* Stops or resumes the reading of frames, also of those already buffered. */
void wire_conn_pause(struct wire_conn *c, bool paused);

#endif
