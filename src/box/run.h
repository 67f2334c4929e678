/* SPDX-License-Identifier: MIT */
/* Folders and sockets of a box (private to this room). */
#ifndef BOX_RUN_H
#define BOX_RUN_H

#include "box/box.h"

/* Descriptors the supervisor is started with. */
enum { SUPERVISOR_LOCK_FD = 3, SUPERVISOR_CLIENT_FD = 4 };

#define RUN_CTL_SOCKET "ctl.sock"
/* There while the box waits because its log cannot be written; empty, so that a full disk has room for it. */
#define RUN_LOG_STALLED "log-stalled"
/* A folder of its own: the monitor, which may be in the guest's hands, sees it and nothing else of run/ID. */
#define RUN_VSOCK_DIR	 "vsock"
#define RUN_VSOCK_SOCKET RUN_VSOCK_DIR "/vsock.sock"

/* Opens (and makes) run/ID or boxes/ID. fd; -ENOENT, which says nothing; or -errno with e set. */
int box_open_run_dir(struct state *st, const char *id, bool create, struct err *e);
int box_open_box_dir(struct state *st, const char *id, bool create, struct err *e);

/* As box_find; box_seen is not told, as it is not the user who means it. */
int box_find_quiet(struct state *st, const char *ref, struct box **ret, struct err *e);

/* As box_lock, but without waiting for those who hold the lock only to look for a dead owner. */
int box_try_lock(struct state *st, const char *id, int *ret_lock_fd, struct err *e);

/* Writes the events of a run's end: oom if that was it, and die. exit_code may have WIRE_EXIT_OOM added. */
int box_event_die(struct state *st, const struct box *b, int exit_code, struct err *e);

/* An event without attributes of its own, with what the record says at that time. */
int box_event_now(struct state *st, const char *id, const char *action, struct err *e);

/* A signal was sent by a user, or because one asked for an end. */
int box_event_signal(struct state *st, const char *id, int sig, struct err *e);

/* How the last run ended of a box that is removed with it. */
struct box_run_end {
	int exit_code; /* WIRE_EXIT_OOM may be added */
	int signal;    /* it was ended by removal: what is told of that; else 0 */
};
/* As box_remove_locked; the end of a run that is not in the record yet, or NULL, is told with the removal. */
int box_remove_run(
	struct state *st, const char *id, int *lock_fd, const struct box_run_end *how, struct err *e);
/* What box_reconcile does, for one box; waits for a dying owner until the deadline (monotonic). 1: it has an owner. */
int box_repair(struct state *st, const char *id, uint64_t deadline_ns, struct err *e);

/* Whether its restart policy wants a box to run again that lost its owner. */
bool box_loss_counts(const struct box *b);

/* Creates the tables of networks and endpoints when missing: network.c. */
int box_networks_init(struct state *st, struct err *e);
/* Tells netds of changed rules that a command died before it could tell them, and removes what dead ones left. */
void box_networks_repair(struct state *st);
/* As box_endpoint_add, for a box that is being made, which nobody runs yet: endpoints.c. */
int box_endpoint_insert(struct state *st, const struct box_endpoint *ep, struct err *e);
/* Takes a box off all its networks, in the transaction that removes it: endpoints.c. */
int box_endpoints_drop(struct state *st, const struct box *b, struct err *e);
/*
 * Notes, in the transaction of a change of networks or name, that the supervisor of a live box has to act on it. *ret is the
 * change's number, 0 where nobody has to: network-changes.c.
 */
int box_networks_note(struct state *st, const char *box, int64_t *ret, struct err *e);
/* Reminds supervisors of changes that a command died before it could tell, and settles those of boxes that do not live. */
void box_network_changes_repair(struct state *st);

/* Creates the table of published ports when missing: network-ports.c. */
int box_ports_init(struct state *st, struct err *e);

/*
 * Makes scratch.img in the box's folder unless it is there: a sparse copy of a template that is formatted once for each size.
 * bytes: its apparent size, 0: BOX_DISK_BYTES.
 */
int box_ensure_scratch(struct state *st, int box_dirfd, uint64_t bytes, bool durable, struct err *e);

/* Connects to the vsock device of a running box, as box_connect_guest without the handshake. fd or -errno. */
int box_dial_guest(struct state *st, const struct box *b, struct err *e);

/*
 * The vsock device's handshake on a connection to it: "CONNECT <port>\n" is answered by "OK <port>\n", and then the stream
 * is the guest's. Not a byte behind the line is taken.
 */
struct handshake {
	char line[32];
	size_t len;
};
/* Asks for a guest port, and forgets an earlier answer. 0 or -errno. */
int handshake_ask(struct handshake *h, int fd, uint32_t port);
/* Reads what there is of the answer, without waiting: 1 connected, 0 incomplete, -ECONNREFUSED, or another -errno. */
int handshake_read(struct handshake *h, int fd);

/* Listening and connected Unix stream sockets by folder and name, for paths of any length. fd or -errno. */
int unix_listen_at(int dirfd, const char *name);
int unix_connect_at(int dirfd, const char *name);

#endif
