/* SPDX-License-Identifier: MIT */
/* Answers the host's questions about the box: wire.h, QUERY. */
#ifndef GUEST_QUERY_H
#define GUEST_QUERY_H

#include <stdbool.h>
#include <sys/types.h>

#include "spawn.h"

#define QUERY_MAX    16 /* connections at once */
#define QUERY_IDLE_S 30 /* without a question, or without taking the answer: then the connection is closed */
#define QUERY_WORK_S 10 /* for one answer */

bool query_is_question(uint8_t type);
/*
 * Starts a process that serves the connection; in holds what has been read from it. Both stay the caller's, who closes
 * the connection, so that it ends with the process. The PID, or -errno.
 */
pid_t query_start(const struct spawn_box *box, int fd, const struct buf *in);

#endif
