/* SPDX-License-Identifier: MIT */
/*
 * The session server: every process of the box, its connection to the host, and the reaping of all of them,
 * on one event loop. See server.c.
 */
#ifndef GUEST_SERVER_H
#define GUEST_SERVER_H

#include "base/loop.h"
#include "spawn.h"

#define SERVER_SESSIONS_MAX 512		   /* but for connections that are carried: FORWARD_MAX */
#define SERVER_NEW_MAX	    16		   /* connections that wait for START; more are not accepted yet */
#define SERVER_START_NS	    30000000000ull /* from connection to START */

struct server;

/*
 * box is borrowed; the server sets its main_pidfd. Blocks SIGCHLD for the calling thread: the loop takes it.
 * on_reaped is called after processes have ended. Returns 0 or -errno.
 */
int server_new(struct loop *loop, struct spawn_box *box, loop_fn on_reaped, void *data, struct server **ret);
/* Closes everything; processes are left alone. NULL allowed. */
void server_free(struct server *s);
DEFINE_CLEANUP(struct server *, server_free)

/* Accepts connections on a listening socket, which is consumed. 0 or -errno. */
int server_listen(struct server *s, int fd);
/* Serves one connected stream, which is consumed, also on failure. 0 or -errno. */
int server_add(struct server *s, int fd);

/* Instead of SERVER_START_NS, for connections from now on. */
void server_set_start_timeout(struct server *s, uint64_t ns);

/* Signals the workload. 0, or -ESRCH if none runs. */
int server_signal_main(struct server *s, int sig);
/* Refuses new processes from now on and kills those that run. */
void server_stop(struct server *s);
/* Whether no process of the box is left, and whether every connection has got its last byte. */
bool server_has_processes(const struct server *s);
bool server_has_sessions(const struct server *s);

#endif
