/* SPDX-License-Identifier: MIT */
/* Folders and sockets of a box (private to this room). */
#ifndef BOX_RUN_H
#define BOX_RUN_H

#include "box/box.h"

/* Descriptors the supervisor is started with. */
enum { SUPERVISOR_LOCK_FD = 3, SUPERVISOR_CLIENT_FD = 4 };

#define RUN_CTL_SOCKET "ctl.sock"
/* A folder of its own: the monitor, which may be in the guest's hands, sees it and nothing else of run/ID. */
#define RUN_VSOCK_DIR	 "vsock"
#define RUN_VSOCK_SOCKET RUN_VSOCK_DIR "/vsock.sock"
#define SCRATCH_BYTES	 (10ull << 30) /* apparent size of a box's writable layer; sparse */

/* Opens (and makes) run/ID or boxes/ID. fd; -ENOENT, which says nothing; or -errno with e set. */
int box_open_run_dir(struct state *st, const char *id, bool create, struct err *e);
int box_open_box_dir(struct state *st, const char *id, bool create, struct err *e);

/* As box_lock, but without waiting for those who hold the lock only to look for a dead owner. */
int box_try_lock(struct state *st, const char *id, int *ret_lock_fd, struct err *e);

/* Makes scratch.img in the box's folder unless it is there: a sparse copy of a template formatted once. */
int box_ensure_scratch(struct state *st, int box_dirfd, bool durable, struct err *e);

/* Listening and connected Unix stream sockets by folder and name, for paths of any length. fd or -errno. */
int unix_listen_at(int dirfd, const char *name);
int unix_connect_at(int dirfd, const char *name);

#endif
