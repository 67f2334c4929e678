/* SPDX-License-Identifier: MIT */
/*
 * Two connected stream sockets, and the bytes of each carried to the other, until both directions have ended.
 *
 * A direction ends on its own: the end of the data is passed on behind the last byte. Memory is bounded by a buffer for each
 * direction; what is not taken is not read. A socket is to be watched only for what relay_wants says, and not at all for 0:
 * a hang-up that is reported while bytes for the other side wait must not cost those.
 *
 * Side 0 has asked for the connection, side 1 answers. An answerer may close without having read everything: that
 * breaks the writing to it, and what it said before is passed on all the same. An asker who breaks ends the whole.
 */
#ifndef BASE_RELAY_H
#define BASE_RELAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RELAY_CHUNK 65536

struct relay_half {
	bool over; /* its end was passed on */
	size_t start, end;
	uint8_t mem[RELAY_CHUNK];
};
/* Zeroed but for fd, which stay the caller's. to[i]: what goes to side i. */
struct relay {
	int fd[2];
	struct relay_half to[2];
};

/* Bytes that were read from side 1 - i already; before anything else. -EMSGSIZE when they do not fit. */
int relay_put(struct relay *r, int i, const void *data, size_t len);
/* What to watch side i for: POLLIN, POLLOUT (which are EPOLLIN and EPOLLOUT). */
uint32_t relay_wants(const struct relay *r, int i);
/*
 * Moves what can be moved at once. events: of each side, as poll or epoll gave them, 0 for none. 1 while it goes on, 0 when
 * both directions have ended, -errno when the connection broke.
 */
int relay_move(struct relay *r, const uint32_t events[static 2]);
/* Whether the asker, whose own direction has ended, still takes what comes; a vsock or Unix socket knows. */
bool relay_is_heard(const struct relay *r);

#endif
