/* SPDX-License-Identifier: MIT */
/*
 * Boxes: their records, their lifecycle, and the way to their supervisors.
 *
 * THEORY OF OPERATION
 *
 * A box is a row in the state database, a folder boxes/ID (scratch disk, logs) and, while somebody works on it, a
 * folder run/ID with a lock. Whoever holds the lock owns the box's state: a command for a moment, a supervisor for the
 * whole run; the command that starts a box hands its lock to the supervisor by inheritance, without a gap. Whether a box
 * is alive is therefore a question to the kernel (is the lock held?), never to a stored PID.
 *
 * States and legal moves (each one transaction, made by the lock's holder):
 *
 *     (none)    -> created, starting           box_create
 *     created   -> starting | removing
 *     starting  -> running | created, exited   the supervisor failed before the workload started: the old state
 *     running   -> paused | stopping | exited
 *     paused    -> running | stopping | exited
 *     stopping  -> exited
 *     starting to stopping -> (none)           with --rm
 *     exited    -> starting | removing
 *     removing  -> (none)
 *
 * A box in starting, running, paused, stopping or removing whose lock is free lost its owner. box_reconcile, called by
 * every command that looks at boxes, finishes removing, puts those that were starting back, and turns the others into
 * exited with status 137 (their machine died with the supervisor: see machine/backend.h); boxes with --rm are removed.
 * The machine's process holds the lock too, so that a free lock also means that the machine is gone.
 */
#ifndef BOX_BOX_H
#define BOX_BOX_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "machine/machine.h"
#include "oci/oci.h"
#include "state/state.h"
#include "wire/wire.h"

#define BOX_ID_LEN	 64 /* hex digits */
#define BOX_ID_SHORT_LEN 12
#define BOX_NAME_MAX	 64

enum box_state { BOX_CREATED, BOX_STARTING, BOX_RUNNING, BOX_PAUSED, BOX_STOPPING, BOX_EXITED, BOX_REMOVING };

const char *box_state_name(enum box_state s);

/* What a box runs with; fixed at creation and stored as JSON with the record. */
struct box_config {
	struct strv entrypoint, cmd; /* as given or taken from the image; process.argv is both */
	struct wire_process process; /* complete; rows and cols unused */
	char *hostname;
	struct strv labels; /* "key=value" */
	uint32_t vcpus;
	uint64_t mem_bytes;
	enum accel accel; /* as asked for */
	bool auto_remove;
	bool stdin_once; /* standard input ends with the first attached client */
	int stop_signal; /* Linux signal number */
	uint64_t stop_timeout_ns;
};
void box_config_done(struct box_config *c);

struct box {
	char *id, *name;
	char *image;	/* as the user names it: "alpine:3.20" */
	char *image_id; /* config digest */
	char *manifest; /* manifest digest: holds the image in the store */
	char *disk;	/* image disk, path below the home folder */
	enum box_state state;
	int exit_code;
	char *error; /* why the last start or run failed, NULL if it did not */
	char *accel; /* accelerator of the last run, NULL before the first */
	char *machine; /* JSON: what confines the process that holds the guest of the last run; NULL before the first */
	int64_t created_ns, started_ns, finished_ns; /* since the epoch, 0: not yet */
	struct box_config config;
};
void box_free(struct box *b);
DEFINE_CLEANUP(struct box *, box_free)
void box_list_free(struct box **list, size_t n);

static inline bool box_is_live(const struct box *b)
{
	return b->state >= BOX_STARTING && b->state <= BOX_STOPPING;
}

/* Creates the tables when missing. Call once after state_open. */
int box_init(struct state *st, struct err *e);

/*
 * Repairs what dead owners left behind (see above), also folders that no record knows. Cheap: looks only at run/ and
 * at records in a live state.
 */
int box_reconcile(struct state *st, struct err *e);

/* By full ID, name, or unique ID prefix. -ENOENT "no such box"; -EEXIST lists the candidates of an ambiguous prefix. */
int box_find(struct state *st, const char *ref, struct box **ret, struct err *e);
/* Newest first; only live ones unless all. */
int box_list(struct state *st, bool all, struct box ***ret, size_t *ret_n, struct err *e);

/* 0, or -EEXIST with a hint when a box has this name. box_create decides; this is to know early. */
int box_check_name_free(struct state *st, const char *name, struct err *e);
/* Allowed in names: [a-zA-Z0-9][a-zA-Z0-9_.-]*, at most BOX_NAME_MAX bytes. */
bool box_name_valid(const char *name);

/*
 * Records a new box in state created, or in state starting when box_start is to follow at once (one transaction
 * less). name NULL: one is made up. config moves in and is emptied on success. *ret_lock_fd is the held lock, for
 * box_start or box_unlock.
 */
int box_create(struct state *st, const struct oci_image *image, const char *image_ref, const char *disk,
	const char *name, struct box_config *config, enum box_state state, struct box **ret, int *ret_lock_fd,
	struct err *e);

/* Takes the lock of a box that is not live. -EBUSY when somebody holds it. */
int box_lock(struct state *st, const char *id, int *ret_lock_fd, struct err *e);
/* Gives the lock up and removes run/ID. */
void box_unlock(struct state *st, const char *id, int *lock_fd);

/*
 * Starts the supervisor of a box in state starting whose lock is held; the lock passes to it. *ret_conn is
 * a connection to it as from box_connect, opened before anything can happen. On failure the start is undone as by
 * box_undo_start.
 */
int box_start(struct state *st, struct box *b, int *lock_fd, int *ret_conn, struct err *e);
/*
 * A start failed before the workload ran: with --rm the box is removed, else it goes back to created or exited, with
 * the status (125 to 127) and the reason. Gives the lock up.
 */
int box_undo_start(
	struct state *st, const struct box *b, int *lock_fd, int status, const char *reason, struct err *e);

/* Removes record, disks and logs of a box that is not live; takes *lock_fd (held) along. */
int box_remove_locked(struct state *st, const char *id, int *lock_fd, struct err *e);

/* Record changes for the lock's holder. */
int box_set_starting(struct state *st, const char *id, struct err *e);
int box_set_running(struct state *st, const char *id, const char *accel, const char *machine, struct err *e);
/* From running to paused, or back. */
int box_set_paused(struct state *st, const char *id, bool paused, struct err *e);
int box_set_stopping(struct state *st, const char *id, struct err *e);
int box_set_exited(struct state *st, const char *id, int exit_code, const char *error, struct err *e);
int box_set_start_failed(struct state *st, const char *id, int exit_code, const char *error, struct err *e);

/* ---- towards a running box ---- */

/* Connects to the supervisor. -ENOENT with "is not running" when there is none. fd or -errno. */
int box_connect(struct state *st, const struct box *b, struct err *e);
/* Connects to a guest port through the vsock device, handshake included (bounded to 10 s). fd or -errno. */
int box_connect_guest(struct state *st, const struct box *b, uint32_t port, struct err *e);

enum box_op {
	/* Output from now on, input if asked for; session frames both ways, ending with EXIT, or FAIL and what went wrong. */
	BOX_OP_ATTACH = 1,
	BOX_OP_STOP = 2,    /* signal, and SIGKILL after the timeout; reply when stopped */
	BOX_OP_SIGNAL = 3,  /* to the workload; reply when sent */
	BOX_OP_WAIT = 4,    /* EXIT when it ends */
	BOX_OP_STARTED = 5, /* STARTED, or FAIL, once that is known */
	BOX_OP_PAUSE = 6,   /* the whole machine; reply when it stands still */
	BOX_OP_UNPAUSE = 7, /* reply when it goes on */
};
struct box_request {
	enum box_op op;
	bool attach_stdin;
	int signal;
	uint64_t timeout_ns;
};
/* Appends a request frame. 0 or -errno. */
int box_put_request(struct buf *out, const struct box_request *r);

/*
 * Asks the supervisor and waits for its answer (bounded by limit_ns; UINT64_MAX: for ever). For STOP, SIGNAL, PAUSE and
 * UNPAUSE: 0 or -errno. For WAIT: the exit status. -EPIPE when the supervisor went away without an answer.
 */
int box_call(struct state *st, const struct box *b, const struct box_request *req, uint64_t limit_ns,
	struct err *e);

/*
 * The same for a box that was live, without a limit: while it has an owner that cannot be reached yet, or no more, it
 * asks again. -ESRCH when it is over: then the record is final.
 */
int box_call_live(struct state *st, const struct box *b, const struct box_request *req, struct err *e);

/* Ends a live box whatever its supervisor does: SIGKILL in the guest, then to the supervisor. Waits until it is over. */
int box_kill_hard(struct state *st, const struct box *b, struct err *e);

/* ---- logs (see log.h of this room for the format) ---- */
struct box_log_opts {
	bool follow, timestamps;
	int64_t tail;	  /* lines, -1: all */
	int64_t since_ns; /* since the epoch, 0: from the start */
};
/* Prints to standard output and standard error. Follows until the box has ended. */
int box_logs(struct state *st, const struct box *b, const struct box_log_opts *o, struct err *e);

/* Where kernel and initramfs lie, relative to the running program. malloc'd path or NULL with e set. */
char *box_find_asset(const char *name, struct err *e);

/* ---- supervisor program ---- */
/* Runs the box ID: lock on descriptor 3, first client on 4. Returns the process's exit status. */
int supervisor_main(const char *id);

#endif
