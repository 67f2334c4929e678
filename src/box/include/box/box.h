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
 *     created    -> starting | removing
 *     starting   -> running | created, exited   the supervisor failed before the workload started: the old state
 *     running    -> paused | restarting | stopping | exited
 *     paused     -> running | restarting | stopping | exited
 *     restarting -> running | exited            the supervisor waits, then starts it again: restart policy or `restart`
 *     stopping   -> restarting | exited
 *     starting to stopping -> (none)            with --rm
 *     starting to stopping -> removing          rm -f: the supervisor removes it
 *     exited     -> starting | removing
 *     removing   -> (none) | dead               dead: its files could not be removed; `rm` tries again
 *     dead       -> removing
 *
 * A box in a live state (box_is_live) or in removing whose lock is free lost its owner. box_reconcile, called by
 * every command that looks at boxes, finishes removing, puts those that were starting back, and turns the others into
 * exited with status 137 (their machine died with the supervisor: see machine/backend.h); boxes with --rm are removed.
 * The machine's process holds the lock too, so that a free lock also means that the machine is gone. What should run by its
 * restart policy although its supervisor died is started again by box_revive (`a3s-box monitor`).
 *
 * Every move is one transaction together with its event (state/event.h), so that the history is as true as the record.
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

enum box_state {
	BOX_CREATED,
	BOX_STARTING, /* the first live one */
	BOX_RUNNING,
	BOX_PAUSED,
	BOX_RESTARTING,
	BOX_STOPPING, /* the last live one */
	BOX_EXITED,
	BOX_REMOVING,
	BOX_DEAD,
};

const char *box_state_name(enum box_state s);

enum box_restart_policy {
	BOX_RESTART_NO,
	BOX_RESTART_ALWAYS,
	BOX_RESTART_ON_FAILURE,
	BOX_RESTART_UNLESS_STOPPED
};
struct box_restart {
	enum box_restart_policy policy;
	uint32_t max_retries; /* of on-failure, 0: no limit */
};
const char *box_restart_name(enum box_restart_policy p);
/* Whether what ended with this status, after so many restarts by its policy, is to be started again. */
bool box_restart_wanted(const struct box_restart *p, int exit_code, uint32_t count);

/* What to wait before a restart: BOX_BACKOFF_MIN_NS, doubling up to _MAX_, anew after a run of _GOOD_. Zero-initialise. */
#define BOX_BACKOFF_MIN_NS  1000000000ull
#define BOX_BACKOFF_MAX_NS  60000000000ull
#define BOX_BACKOFF_GOOD_NS 30000000000ull
struct box_backoff {
	uint64_t delay_ns; /* the last one */
};
uint64_t box_backoff_next(struct box_backoff *b, uint64_t ran_ns);

/* A health check, from the image or from options. test as in Docker: {"CMD", argv…} or {"CMD-SHELL", line}; empty: none. */
struct box_health_check {
	struct strv test;
	uint64_t interval_ns, timeout_ns, start_period_ns, start_interval_ns;
	uint32_t retries;
};

enum box_log_driver { BOX_LOG_JSON_FILE, BOX_LOG_NONE, BOX_LOG_SYSLOG };
struct box_log_config {
	enum box_log_driver driver;
	uint64_t max_size;  /* json-file: bytes of one file before it is rotated; 0: never */
	uint32_t max_files; /* json-file: how many are kept, the current one included */
	struct strv opts;   /* as given, "key=value": for inspect, and for syslog */
};

/* Which filter its processes get, see box/seccomp.h. */
enum box_seccomp { BOX_SECCOMP_DEFAULT, BOX_SECCOMP_OWN, BOX_SECCOMP_NONE };

enum box_mount_type { BOX_MOUNT_BIND, BOX_MOUNT_VOLUME };
/* A folder or file of the host, or a volume, in a box. tmpfs is config.tmpfs. */
struct box_mount {
	enum box_mount_type type;
	char *source; /* bind: absolute path on the host; volume: its name, NULL until it has one (anonymous) */
	char *target;  /* absolute, clean */
	char *subpath; /* volume-subpath: below the volume; NULL */
	bool read_only;
	bool no_copy;		  /* an empty volume is not filled from the image */
	bool anonymous;		  /* made for this box */
	bool create;		  /* bind: a missing source is made, as a folder (-v, not --mount) */
	struct strv labels, opts; /* "key=value", of the volume if it has to be made */
};
void box_mount_done(struct box_mount *m);
/* A box's writable layer: a sparse file that looks so large. --storage-opt size= is a multiple of _STEP from _MIN to _MAX. */
#define BOX_DISK_BYTES (10ull << 30)
#define BOX_DISK_STEP  (1ull << 20)
#define BOX_DISK_MIN   (32ull << 20)
#define BOX_DISK_MAX   (8ull << 40)
#define BOX_MOUNTS_MAX WIRE_MOUNTS_MAX

/* What a box runs with, stored as JSON with the record; fixed at creation but for what `container-update` changes. */
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
	uint64_t run_limit_ns; /* --timeout: the box is stopped after it and ends with 124; 0: none */

	struct wire_limits limits; /* cpu_quota_us holds a fraction of --cpus too */
	uint64_t nano_cpus;	   /* --cpus as given, 0: not */
	struct box_restart restart;
	struct box_health_check health;
	struct box_log_config log;
	uint64_t shm_bytes;
	struct strv tmpfs, sysctls, devices; /* see struct wire_config */
	struct box_mount *mounts;
	size_t n_mounts;
	uint64_t disk_bytes;   /* --storage-opt size=: of its writable layer, 0: BOX_DISK_BYTES */
	struct strv add_hosts; /* "name:address" */
	struct strv dns, dns_search, dns_opts;
	struct strv cap_add, cap_drop,
		security_opts;	   /* as given, for inspect; process has what they amount to */
	struct strv annotations;   /* "key=value" */
	struct strv exposed_ports; /* "80/tcp", the image's and --expose */
	char *network; /* the first one's, as recorded: "bridge", "none", or a network's ID. Others are endpoints only. */
	struct box_endpoint *
		endpoints; /* box_create's, made with the record: box/network.h; not part of what is stored */
	size_t n_endpoints;
	char *scratch; /* box_create's, which copies it: the disk that the box begins with, below the home; not stored */
	struct strv publish; /* struct box_port as text (box/network.h) */
	bool publish_all;
	char *publish_address;	  /* of publish_all, NULL: all */
	struct strv egress_allow; /* as given: policy of its own default network */
	struct strv network_opts; /* "rate=100m", "host-loopback=yes" */
	bool privileged, read_only, unmasked, user_namespace;
	enum box_seccomp
		seccomp; /* OWN: compiled, box_create takes it from process.seccomp to boxes/ID/seccomp.bpf */
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
	bool oom_killed;			     /* its last run ended for want of memory */
	bool stopped_by_user; /* restart policies leave it alone until it is started again */
	bool lost; /* its owner died, or was told to end by the host, while it should run: see box_wants_revival */
	uint32_t restart_count; /* by its policy, since it was started */
	char *health; /* "starting", "healthy", "unhealthy"; NULL: no health check, or not running */
	struct strv ports,
		networks; /* of box_list_brief: what it has published, struct box_port as text; names */
	struct strv mount_texts; /* of box_list_brief: "bind" or "volume", source and target of each mount */
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

/* Called with every box that box_find or box_create gives out, when set: so that the audit log knows whom a command meant. */
extern void (*box_seen)(const struct box *b);

/* By full ID, name, or unique ID prefix. -ENOENT "no such box"; -EEXIST lists the candidates of an ambiguous prefix. */
int box_find(struct state *st, const char *ref, struct box **ret, struct err *e);
/* Newest first; only live ones unless all. */
int box_list(struct state *st, bool all, struct box ***ret, size_t *ret_n, struct err *e);
/*
 * For listings of many: of config only the parts asked for are filled in, which saves most of the time. PORTS are also what
 * it has published, NETWORKS the ones it is on.
 */
enum box_parts {
	BOX_PART_ARGV = 1,
	BOX_PART_LABELS = 2,
	BOX_PART_PORTS = 4,
	BOX_PART_NETWORKS = 8,
	BOX_PART_MOUNTS = 16, /* mount_texts */
};
int box_list_brief(
	struct state *st, bool all, unsigned parts, struct box ***ret, size_t *ret_n, struct err *e);

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

/*
 * Writes an event of the box (state/event.h) with Docker's attributes: image, name, the labels, and further pairs of name
 * and value, ended by NULL. Within the caller's transaction it is part of it.
 */
int box_event(struct state *st, struct err *e, const struct box *b, const char *action, ...);

/* ---- events of execs; none of them waits for the disk (state_begin_lax) ---- */
struct box_exec {
	char id[65];
	char command[1024]; /* cut off if need be */
};
/* A new ID, and the command line; or what it is called instead. */
void box_exec_init(struct box_exec *x, const char *what, const struct strv *argv);
/* Docker's exec_create and exec_start: its process runs. 0 or -errno. */
int box_exec_started(struct state *st, const struct box *b, const struct box_exec *x, struct err *e);
/* exec_die. status: 0 to 255, 128+N for signal N. 0 or -errno. */
int box_exec_died(struct state *st, const struct box *b, const struct box_exec *x, int status, struct err *e);

/* Record changes for the lock's holder. An exit code may have WIRE_EXIT_OOM added. */
int box_set_starting(struct state *st, const char *id, struct err *e);
int box_set_running(struct state *st, const char *id, const char *accel, const char *machine, struct err *e);
/* From running to paused, or back. */
int box_set_paused(struct state *st, const char *id, bool paused, struct err *e);
/*
 * A signal is about to end it; 0: it is about to be ended without one. by_user: its restart policy is to leave it alone
 * from now on.
 */
int box_set_stopping(struct state *st, const char *id, int sig, bool by_user, struct err *e);
int box_set_exited(struct state *st, const char *id, int exit_code, const char *error, struct err *e);
/* The supervisor waits to start it again. error: why it ended, NULL. restart_count: how often its policy did so by now. */
int box_set_restarting(struct state *st, const char *id, int exit_code, const char *error,
	uint32_t restart_count, struct err *e);
/* It was ended by something that box_revive is to make good. Nothing is done where its policy does not want it to run. */
int box_set_lost(struct state *st, const char *id, struct err *e);
/* "starting", "healthy", "unhealthy", or NULL. */
int box_set_health(struct state *st, const char *id, const char *health, struct err *e);
/*
 * `stop` or `kill` of one that does not run, but was lost: it is not to come back. Needs no lock; nothing is done to others, so
 * that who calls it looks afterwards whether it was started meanwhile.
 */
int box_set_stopped(struct state *st, const char *id, struct err *e);
int box_set_start_failed(struct state *st, const char *id, int exit_code, const char *error, struct err *e);

/* ---- changes that need no lock: one transaction, whatever the state ---- */

/* -EEXIST when another box has the name, -EINVAL when it is none. */
int box_rename(struct state *st, const struct box *b, const char *name, struct err *e);
/* What may change while a box exists: limits, restart policy. A supervisor is told by BOX_OP_RELOAD. */
int box_set_config(struct state *st, const struct box *b, const struct box_config *c, struct err *e);

/*
 * Whether its restart policy wants a box to run that does not, because its supervisor or the host went down (not
 * because it was stopped, or ended and was not to be restarted).
 */
bool box_wants_revival(const struct box *b);
/*
 * Starts such a box again. *ret_conn as of box_start. -EALREADY when it does not want it any more, or somebody else is at
 * it.
 */
int box_revive(struct state *st, const char *id, int *ret_conn, struct err *e);

/* ---- towards a running box ---- */

/* Connects to the supervisor. -ENOENT with "is not running" when there is none. fd or -errno. */
int box_connect(struct state *st, const struct box *b, struct err *e);
/* Connects to a guest port through the vsock device, handshake included (bounded to 10 s). fd or -errno. */
int box_connect_guest(struct state *st, const struct box *b, uint32_t port, struct err *e);

/*
 * Questions to the guest (wire.h, QUERY), asked in turn on one connection. box_query_new, ask and read never wait: poll
 * the descriptor for input, then read. Any failure but -EBUSY (the box is paused) ends the connection.
 */
struct box_query;
int box_query_new(struct state *st, const struct box *b, struct box_query **ret, struct err *e);
/* NULL allowed. */
void box_query_free(struct box_query *q);
DEFINE_CLEANUP(struct box_query *, box_query_free)
int box_query_fd(const struct box_query *q);
/* WIRE_GET_STATS, WIRE_GET_TASKS, or WIRE_UPDATE with limits. One at a time. 0 or -errno. */
int box_query_ask(struct box_query *q, enum wire_type type, const struct wire_limits *limits, struct err *e);
/* 1 and the answer, valid until the next call; 0 when it is not complete; -errno. */
int box_query_read(struct box_query *q, struct wire_frame *ret, struct err *e);
/* Whether the answer is the wanted one. 0; -EIO with the guest's reason; -EBADMSG. */
int box_query_check(
	const struct box_query *q, const struct wire_frame *f, enum wire_type want, struct err *e);

/* The same in one call, which waits for at most 20 s. 0 or -errno. */
int box_query_update(struct state *st, const struct box *b, const struct wire_limits *limits, struct err *e);
/* With the statistics of the same moment: the guest's uptime. */
int box_query_tasks(struct state *st, const struct box *b, struct wire_tasks *ret, struct wire_stats *stats,
	struct err *e);

/*
 * A TCP connection to be made inside a box (wire.h, FORWARD). Nothing waits: poll the descriptor for input, then read, until
 * the answer is there; the caller sets a time limit.
 */
struct box_forward;
int box_forward_new(struct state *st, const struct box *b, const struct wire_forward *to,
	struct box_forward **ret, struct err *e);
/* NULL allowed. */
void box_forward_free(struct box_forward *f);
DEFINE_CLEANUP(struct box_forward *, box_forward_free)
int box_forward_fd(const struct box_forward *f);
/* 1: connected, and the descriptor is the connection's; 0: not yet; -EIO with the guest's reason; or another -errno. */
int box_forward_read(struct box_forward *f, struct err *e);
/* The connected descriptor, non-blocking, now the caller's. */
int box_forward_take(struct box_forward *f);

enum box_op {
	/* Output from now on, input if asked for; session frames both ways, ending with EXIT, or FAIL and what went wrong. */
	BOX_OP_ATTACH = 1,
	BOX_OP_STOP = 2,    /* signal, and SIGKILL after the timeout; reply when stopped */
	BOX_OP_SIGNAL = 3,  /* to the workload; reply when sent */
	BOX_OP_WAIT = 4,    /* EXIT when it ends */
	BOX_OP_STARTED = 5, /* STARTED, or FAIL, once that is known */
	BOX_OP_PAUSE = 6,   /* the whole machine; reply when it stands still */
	BOX_OP_UNPAUSE = 7, /* reply when it goes on */
	BOX_OP_RESTART = 8, /* as STOP, then the workload starts anew; reply when it runs again */
	BOX_OP_RELOAD =
		9, /* the record was changed, by box_set_config or its networks: act on it; reply when read, or done */
	/*
	 * START of a process that is left to itself follows, and SIGNAL to it may; STARTED, or FAIL. The supervisor tells
	 * its events, its end too.
	 */
	BOX_OP_EXEC = 10,
};
struct box_request {
	enum box_op op;
	bool attach_stdin;
	bool discard; /* STOP: at once and without a signal, as the box is to be removed, which the supervisor does */
	bool networks; /* RELOAD: networks or the name were changed: reply when the box is on its networks */
	int signal;
	uint64_t timeout_ns;
};
/* Appends a request frame. 0 or -errno. */
int box_put_request(struct buf *out, const struct box_request *r);

/*
 * Asks the supervisor and waits for its answer (bounded by limit_ns; UINT64_MAX: for ever). For STOP, SIGNAL, PAUSE and
 * UNPAUSE: 0 or -errno. For STARTED: 0 once it runs, or has run. For WAIT: the exit status. -EPIPE when the supervisor went away
 * without an answer.
 */
int box_call(struct state *st, const struct box *b, const struct box_request *req, uint64_t limit_ns,
	struct err *e);

/* How hard a call tries. */
enum box_call_mode {
	/* One question, bounded by limit_ns. */
	BOX_CALL_ONCE,
	/*
	 * For a box that was live, without a limit: while it has an owner that cannot be reached yet, or no more, it asks
	 * again. -ESRCH when it is over: then the record is final.
	 */
	BOX_CALL_LIVE,
	/*
	 * STOP of a live box whatever its supervisor does: in the end that is killed, and its machine with it. 0 once it is
	 * over.
	 */
	BOX_CALL_KILL,
};
struct box_call {
	const struct box *box; /* borrowed */
	struct box_request req;
	enum box_call_mode mode;
	uint64_t limit_ns; /* ONCE only */

	int result; /* as box_call returns */
	struct err err;
	struct box_call_state *state; /* private */
};
/*
 * Makes all calls at the same time and returns when each has its result. done, which may be NULL, is called for each as it
 * comes.
 */
void box_call_many(struct state *st, struct box_call *calls, size_t n,
	void (*done)(struct box_call *c, void *data), void *data);

/* One call in mode LIVE. */
int box_call_live(struct state *st, const struct box *b, const struct box_request *req, struct err *e);
/* One call in mode KILL, with SIGKILL. */
int box_kill_hard(struct state *st, const struct box *b, struct err *e);
/*
 * Removes several boxes at once, live ones too, as `rm -f` does: results in calls[i].result and .err; of calls only .box is
 * looked at. The image's files are the caller's to collect.
 */
void box_remove_many(struct state *st, struct box_call *calls, size_t n);

/* ---- what the guest is told ---- */

/*
 * Fills in what confines every process of the box, the workload or an exec's: capabilities, no_new_privileges, resource
 * limits, OOM score and the seccomp filter (NULL: none), as malloc'd by the caller's wire_process_done. p may be the process
 * of b's own configuration. For `exec --privileged`, set caps to BOX_CAPS_ALL and free the filter afterwards. 0 or -errno.
 */
int box_fill_process(struct state *st, const struct box *b, struct wire_process *p, struct err *e);
/* All of *ret but network, time and entropy. 0, or -ENOMEM; release with wire_config_done either way. */
int box_fill_config(const struct box *b, struct wire_config *ret);

/* ---- logs (see log.h of this room for the format) ---- */
/* "json-file", "none", "syslog"; and back: 0 or -EINVAL. */
const char *box_log_driver_name(enum box_log_driver d);
int box_log_driver_parse(const char *s, enum box_log_driver *ret);
/* Whether the box waits at this moment because its log cannot be written, the disk being full for instance. */
bool box_log_stalled(struct state *st, const struct box *b);
/* Whether its opts are options of its driver, and their values can be understood. 0, or -EINVAL with e set. */
int log_config_check(const struct box_log_config *c, struct err *e);
struct box_log_opts {
	bool follow, timestamps, details; /* details: labels and environment that --log-opt asks for */
	int64_t tail;			  /* lines, -1: all */
	int64_t since_ns, until_ns;	  /* since the epoch, 0: from the start, to the end */
};
/* Prints to standard output and standard error. Follows until the box has ended. */
int box_logs(struct state *st, const struct box *b, const struct box_log_opts *o, struct err *e);

/* Where kernel and initramfs lie, relative to the running program. malloc'd path or NULL with e set. */
char *box_find_asset(const char *name, struct err *e);

/* ---- supervisor program ---- */
/* Runs the box ID: lock on descriptor 3, first client on 4. Returns the process's exit status. */
int supervisor_main(const char *id);

#endif
