/* SPDX-License-Identifier: MIT */
/* Inside of the session server: one session and what it asks of the server. */
#ifndef GUEST_SESSION_H
#define GUEST_SESSION_H

#include "server.h"
#include "stream.h"

enum session_state {
	SESSION_NEW,	  /* waiting for START */
	SESSION_QUEUED,	  /* FREEZE is there, and waits for the end of another one's */
	SESSION_STARTING, /* process made, its program not yet running */
	SESSION_RUNNING,  /* STARTED sent; the process may have ended meanwhile */
	SESSION_DONE,	  /* EXIT or FAIL written: the connection closes when it is out */
};

/* Its process is none of the box, but a copy of PID 1 that has the connection. */
enum session_helper {
	HELPER_NONE,
	HELPER_QUERY,	/* answers questions (query.h) */
	HELPER_FORWARD, /* carries a connection (forward.h) */
	HELPER_COPY,	/* takes and gives files (copy.h) */
	HELPER_FREEZE,	/* holds the disk still (freeze.h) */
};

struct session {
	struct server *server;
	struct session *next, **link; /* in the server's list */
	enum session_state state;
	bool main, tty;
	enum session_helper helper;
	bool detached;	 /* DETACH was seen: no output, and the terminal outlives the connection */
	bool group_ends; /* what is left of its process group ends with it */
	pid_t pid;	 /* 0: no process, or reaped */
	uint32_t status; /* once reaped */
	int ended_by; /* signal that SIGKILL stood in for (signals.h), or SIGKILL that was asked for; 0: none */

	int fd; /* connection, -1 when gone */
	struct loop_source *fd_source;
	struct loop_source *start_timer; /* while SESSION_NEW or SESSION_QUEUED */
	struct buf in, out;

	struct stream stdin_end, stdout_end, stderr_end;
	struct buf input;    /* STDIN that the process did not take yet; at most WIRE_STDIN_WINDOW */
	uint32_t credit;     /* bytes of STDIN the host may still send */
	uint32_t credit_due; /* bytes taken but not yet credited */
	bool input_ended;    /* STDIN_EOF received */

	int report; /* see spawn.h */
	struct loop_source *report_source;
};

/* fd is consumed, also on failure. */
int session_new(struct server *server, int fd, struct session **ret);
/* Takes it off the server's list. The process is left alone. */
void session_free(struct session *s);
/* The process has ended; wait_status as of waitpid. May free the session. */
void session_reaped(struct session *s, int wait_status);
/* Of SESSION_QUEUED: its turn may have come; or it never will. Both may free the session, retry leaves no other queued. */
void session_retry(struct session *s);
void session_refuse(struct session *s, const char *why);
/* Signals its process, if it still has one. */
void session_signal(struct session *s, int sig);

/* ---- server.c ---- */
struct loop *server_loop(struct server *server);
/* WIRE_HEADER_SIZE + WIRE_DATA_MAX bytes, for use within one callback. */
uint8_t *server_scratch(struct server *server);
/* Starts a process for s. 0 or -errno, -ESRCH: the box is not running; -EBUSY: it runs already. */
int server_spawn(struct server *server, struct session *s, const struct wire_process *p, struct spawn *ret);
/* The box may be about to end: rootfs_sync_ahead, once at a time. */
void server_sync_ahead(struct server *server);
/* The workload is to end: what waits to write must be able to, or it never will. Ends what holds the disk still, or is to. */
void server_thaw(struct server *server);
/*
 * Starts a helper: query_start and the like. -EMFILE when there are too many of its kind, -ESRCH when the box is being stopped,
 * -ENOTCONN when it has to be running for this and is not.
 */
pid_t server_help(struct server *server, enum session_helper kind, int fd, const struct buf *in);
/*
 * Whether the kernel has killed a process of the box for want of memory: in this boot (the workload asks), or since this
 * was last asked.
 */
bool server_oom_killed(struct server *server, bool in_this_boot);
/* A session has become SESSION_NEW or is so no longer. */
void server_new_changed(struct server *server);
uint64_t server_start_timeout(const struct server *server);
/* Unit tests: the workload is no init of a namespace. */
bool server_is_bare(const struct server *server);
/* The box's /proc of PID 1 (struct spawn_box). */
int server_proc(const struct server *server);
void server_main_running(struct server *server);
void server_main_gone(struct server *server);

#endif
