/* SPDX-License-Identifier: MIT */
/*
 * The supervisor of one running box (private to this room).
 *
 * THEORY OF OPERATION
 *
 * One process, one thread, one event loop, for one life of one box: a run, and those that its restart policy or `restart`
 * let follow. It is the parent of the machine, and stands between the guest and any number of clients:
 *
 *     machine --- console, messages ------> console.log, machine.log (bounded)
 *     file server, of a box with mounts --> machine.log; served to the machine over vhost-user, see sup-fs.h
 *     guest ----- control (port 4088) ----> sup-guest.c    configuration, readiness, shutdown
 *     guest ----- session (port 4089) ----> sup-guest.c    the workload: output to the log and to clients
 *     guest ----- sessions (port 4089) ---> sup-exec.c     processes left to themselves: how they end
 *     clients --- run/ID/ctl.sock --------> sup-client.c   attach, stop, signal, wait
 *
 * Phases of a run only move forward:
 *
 *     BOOT      machine started; the guest connects, is configured, says READY
 *     LAUNCH    the session is open, START sent
 *     RUNNING   STARTED seen: the record says running (or stopping)
 *     FLUSH     EXIT seen, all output passed on; the guest unmounts (skipped with --rm: the disk is thrown away)
 *     OVER      machine gone, whoever waited for the end is told; the record says restarting until the next run's STARTED
 *     DONE      machine gone, no run follows: the record is written, for a while again if that fails, the lock given up;
 *               then only clients that have not read everything keep us
 *
 * OVER or DONE is decided by what the run ended for (enum sup_intent). A run that fails before RUNNING ends the life if it
 * is the first one, as the command that asked for it is told; later it is an end like any other.
 *
 * Back-pressure: when an attached client does not read, the session is not read, and the workload's write blocks.
 * Everything the guest or a client sends is bounded by the frame limits of wire.h and the numbers below.
 */
#ifndef BOX_SUPERVISOR_H
#define BOX_SUPERVISOR_H

#include "base/loop.h"
#include "box/box.h"
#include "machine/machine.h"
#include "run.h"
#include "sup-fs.h"
#include "wire/conn.h"

#define SUP_CLIENTS_MAX	     256
#define SUP_CLIENT_QUEUE_MAX (1u << 20) /* bytes waiting for a client before the workload is made to wait */
#define SUP_SESSION_QUEUE_MAX \
	(2u << 20) /* bytes waiting for the guest: a window of input in the smallest frames */
#define SUP_BOOT_LIMIT_NS \
	300000000000ull /* from spawn to READY: an emulated host may run dozens of boots at once */
#define SUP_FLUSH_LIMIT_NS  30000000000ull /* for the guest to unmount */
#define SUP_KILL_LIMIT_NS   10000000000ull /* from SIGKILL to the workload's end, before the machine is ended */
#define SUP_LOST_LIMIT_NS   2000000000ull /* from the end of the guest's connection to the end of its machine */
#define SUP_RECORD_RETRY_NS 1000000000ull  /* between attempts to write the record's last move */
#define SUP_RECORD_LIMIT_NS 30000000000ull /* then the next command repairs it */
#define SUP_CAPTURE_MAX	    (1u << 20)	   /* bytes of console.log, and of machine.log, of one run */

enum sup_phase { SUP_BOOT, SUP_LAUNCH, SUP_RUNNING, SUP_FLUSH, SUP_OVER, SUP_DONE };

struct sup_client;
struct sup_exec;
struct sup_net;

/* A pipe that others write to, kept in a file up to SUP_CAPTURE_MAX bytes; what is more is read and dropped. */
struct sup_capture {
	int rd, log; /* -1: not open */
	size_t bytes;
	struct loop_source *io;
};

/* Why a run ends, and so what comes after it. The first reason counts, but for a user's: then the last one. */
enum sup_intent {
	SUP_BY_POLICY, /* by itself: its restart policy decides */
	SUP_HOST_DOWN, /* we were told to end: over; `monitor` is to bring it back later */
	SUP_TIMED_OUT, /* --timeout: over, with 124 */
	SUP_UNHEALTHY, /* its policy decides, and this is a failure whatever the exit status */
	SUP_KILL,      /* by the user with a signal: over */
	SUP_STOP,      /* by the user with `stop`: over */
	SUP_RESTART,   /* by the user with `restart`: once more */
};

/* All that is of one run: from the start of a machine to its end. Set up by run_begin, released by run_release. */
struct sup_run {
	struct machine *machine;
	pid_t dying; /* of a machine that was ended, to be waited for; 0: none */
	struct box_fs fs;
	struct loop_source *fs_end, *fs_status; /* of its process; of what it says of itself */
	struct loop_source *machine_end, *timer, *limit, *control_io, *handshake_io;
	int control_listen_fd, handshake_fd;
	struct handshake handshake;
	struct sup_capture console,
		messages; /* the guest's serial console; what the machine's backend says */

	struct wire_conn *control, *session;
	uint32_t guest_credit; /* bytes of STDIN the guest still takes */
	uint32_t workload_pid;
	bool greeted;	   /* HELLO was seen */
	bool guest_ready;  /* READY was seen */
	bool stdin_over;   /* no client will send more input */
	bool stdin_closed; /* STDIN_EOF was sent */

	enum sup_phase phase;
	enum sup_intent intent;
	bool first; /* the one that a command waits for: if it does not start, nothing has happened */
	bool stopping, killed; /* a signal was sent to end it; SIGKILL was */
	bool paused;	       /* the machine stands still */
	bool had_output;
	bool pause_pending;	    /* the machine has not answered a PAUSE or UNPAUSE yet */
	struct sup_client *pausing; /* who asked; NULL once it went away */
	bool pause_wanted;	    /* which of the two */
	bool signalled;	       /* while it was being paused, by the signal that ends it: it is to go on */
	uint64_t stop_ns;      /* monotonic: when SIGKILL follows, while stopping; 0: not set */
	bool by_user;	       /* `restart` is why it is */
	uint64_t started_ns;   /* monotonic, of STARTED */
	int exit_code;	       /* WIRE_EXIT_OOM may be added */
	char *fail_text;       /* why the start failed */
	const char *lost_text; /* set while SUP_LOST_LIMIT_NS runs */
};

struct supervisor {
	struct state *st;
	struct box *box;
	struct loop *loop;
	int lock_fd, run_fd, box_fd, vsock_fd; /* the last three: run/ID, boxes/ID, run/ID/vsock */
	int scratch_fd; /* keeps the file's blocks until after the last answer: freeing them takes its time */
	enum accel accel;

	struct loop_source *signals_io, *listen_io;
	int signals_fd, listen_fd;

	struct sup_run run;
	struct sup_log *log;
	struct sup_health *health;
	struct sup_net *net; /* NULL: no network, or not set up yet */
	struct {
		int pidfd; /* of a private netd that is to end by itself; -1 */
		struct loop_source *io, *timer;
	} leaving;
	struct box_backoff backoff;
	uint32_t restart_count; /* by the policy */
	bool discard;		/* the box is to be removed with the end of its run */
	struct {
		char *error; /* of the workload, NULL */
		bool ran, cut_short;
		uint64_t give_up_ns; /* monotonic */
	} ending;		     /* DONE: what is to be written and told; the lock is held until then */
	uint64_t born_ns;	     /* monotonic: for sup_milestone */

	struct sup_client *clients;
	unsigned n_clients;
	struct sup_exec *execs; /* of this run */
	unsigned n_execs;
};

/* ---- supervisor.c ---- */
/* Notes in supervisor.log, with A3S_LOG=debug, how long it took to get here. */
void sup_milestone(const struct supervisor *s, const char *what);
/* STARTED was seen. */
void sup_running(struct supervisor *s);
/* The workload of this run never ran: status 125 to 127 and why. */
void sup_start_failed(struct supervisor *s, int status, const char *text);
/* The workload ended with this code, WIRE_EXIT_OOM added as the case may be. */
void sup_workload_ended(struct supervisor *s, int code);
/*
 * The machine is of no more use: ends it, writes the record, tells the clients. error: what went wrong with a workload that
 * ran, or NULL.
 */
void sup_finish(struct supervisor *s, int code, const char *error);
/*
 * A connection of the guest is gone. If that is because the machine ended, the machine's end, which says more, is given
 * a moment to show; else text (a literal) is why.
 */
void sup_guest_lost(struct supervisor *s, const char *text);
/* Ends the run: signal, and SIGKILL after the timeout. */
void sup_stop(struct supervisor *s, int sig, uint64_t timeout_ns, enum sup_intent why);
/* Ends the run at once and removes the box. */
void sup_discard(struct supervisor *s);
/* Sends a signal of a user to the workload that runs. One that is to end it makes an end by the user of what follows. */
void sup_signal(struct supervisor *s, int sig);
/* Whether the signal is one by which a user ends the box for good. */
bool sup_signal_ends(const struct supervisor *s, int sig);
/* Between two runs, or in a start that is not the first: there is no workload, nor is it over. */
bool sup_restarting(const struct supervisor *s);
/* The health check's verdict: ends the run if the policy will start it again. */
void sup_unhealthy(struct supervisor *s);
/* The record's configuration was changed: takes it over, but for networks. */
int sup_reload(struct supervisor *s, struct err *e);
/* To follow once that is answered: ends the waiting for a restart that is not wanted any more. */
void sup_reloaded(struct supervisor *s);

/* PAUSE and UNPAUSE: replies to the client when done. */
void sup_pause(struct supervisor *s, struct sup_client *c, bool pause);

/* ---- sup-machine.c ---- */
int sup_machine_start(struct supervisor *s, struct err *e);
/* The record says running, and what the machine runs on. */
int sup_record_running(struct supervisor *s, struct err *e);
/* Notes in supervisor.log, with A3S_LOG=debug, what the machine took to come here. Once. */
void sup_first_output(struct supervisor *s);
/* The machine is gone: so is its file server. */
void sup_machine_release_fs(struct supervisor *s);
/* Takes what is left in the pipe. */
void sup_capture_close(struct sup_capture *c);

/* ---- sup-guest.c ---- */
int sup_guest_listen(struct supervisor *s, struct err *e);
/* A connection to the guest's session port, not blocking, that waits for the device's answer. fd or -errno. */
int sup_guest_dial(const struct supervisor *s, struct handshake *h);
/* The box's links are up: the workload may start. */
void sup_guest_network_ready(struct supervisor *s);
void sup_guest_shutdown(struct supervisor *s);
void sup_guest_close(struct supervisor *s);
void sup_guest_signal(struct supervisor *s, int sig);
void sup_guest_resize(struct supervisor *s, uint16_t rows, uint16_t cols);
/* Reads on or stops reading the workload's output. */
void sup_guest_throttle(struct supervisor *s, bool stop);

/* ---- sup-net.c, sup-net-change.c: see sup-net.h ---- */
/* Before the machine starts: binds published ports, if it is the first run, and makes the sockets of its links. */
int sup_net_prepare(struct supervisor *s, struct machine_net *ret, struct err *e);
/* The machine runs, and has the sockets of *ret: the box is attached to its networks. */
void sup_net_started(struct supervisor *s);
/* Whether it is, to all of them. */
bool sup_net_ready(const struct supervisor *s);
/* What the guest is to be told. changed: of the change under way. */
int sup_net_fill(const struct sup_net *net, bool changed, struct wire_network *ret, struct err *e);
/* Records the published ports, in the transaction that says it runs. */
int sup_net_record(struct supervisor *s, struct err *e);
/* The record's networks, or the box's name, may have been changed: acts on it, and answers those who asked for it. */
void sup_net_reload(struct supervisor *s);
/* Does so now, if it was not possible when it was asked for. */
void sup_net_look(struct supervisor *s);
/* The run is over: the machine is gone. */
void sup_net_release(struct supervisor *s);
void sup_net_free(struct supervisor *s);
/* Waits for the end of the netd that is leaving, a moment at most. Everybody was told of the box's end before. */
void sup_net_wait_left(struct supervisor *s);

/* ---- sup-log.c ---- */
/* Opens what the box's log driver writes to. */
int sup_log_open(struct supervisor *s, struct err *e);
/* Output of the workload; stream 0: stdout, 1: stderr. */
void sup_log_put(struct supervisor *s, int stream, const uint8_t *data, size_t len);
/* Whether the workload must wait, because its log takes nothing at the moment. */
bool sup_log_full(const struct supervisor *s);
/* Writes what is left, if that goes at once, and closes. Nothing is done when it is not open. */
void sup_log_close(struct supervisor *s);

/* ---- sup-health.c ---- */
/* The workload runs: probes begin, if the box has a health check. */
void sup_health_start(struct supervisor *s);
/* The machine stands still, or goes on (s->paused): so do intervals and time limits. */
void sup_health_paused(struct supervisor *s);
/* The workload has ended, or is to: no probe any more. Nothing is done when there is none. */
void sup_health_stop(struct supervisor *s);

/* ---- sup-client.c ---- */
int sup_clients_listen(struct supervisor *s, struct err *e);
/* fd is consumed. inherited: from the command that started us; if it goes without a word, so does the start. */
int sup_client_add(struct supervisor *s, int fd, bool inherited);
/* Answers a PAUSE or UNPAUSE. */
void sup_client_reply(struct sup_client *c, int code, const char *text);
/* No new clients. */
void sup_clients_unlisten(struct supervisor *s);
/* Lets the workload run or wait, whatever clients and log can take. */
void sup_clients_update_throttle(struct supervisor *s);
void sup_clients_output(struct supervisor *s, enum wire_type type, const uint8_t *data, size_t len);
void sup_clients_started(struct supervisor *s);
/*
 * The run is over. To all that wait for that: FAIL if the first start failed, EXIT and replies otherwise. error: what went
 * wrong with a workload that ran, for whoever is attached; or NULL. again: another run follows, so that those who asked for
 * it, and those who have not asked for anything yet, stay.
 */
void sup_clients_finish(struct supervisor *s, const char *error, bool again);
/*
 * Those who asked for a RELOAD of networks. The first takes all that have come by now; the second answers those.
 */
void sup_clients_reload(struct supervisor *s);
void sup_clients_reloaded(struct supervisor *s, int code, const char *text);
/* Sends what clients typed, as far as the guest's credit goes. */
void sup_clients_pump_stdin(struct supervisor *s);
void sup_clients_free(struct supervisor *s);
/* The process that a client has asked for, as long as it waits for the start; NULL: it does not any more. */
void sup_client_set_exec(struct sup_client *c, struct sup_exec *x);
/* The last frame for this client, who may be gone after it. */
void sup_client_answer(struct sup_client *c, enum wire_type type, const uint8_t *payload, size_t len);

/* ---- sup-exec.c ---- */
/*
 * START of a process that is left to itself, for a client that gets STARTED or FAIL, and may be gone after it. 0, or -EBADMSG
 * when the frame is none.
 */
int sup_exec_start(struct supervisor *s, struct sup_client *c, const struct wire_frame *start);
/* SIGNAL for one that was not answered yet. 0 or -errno. */
int sup_exec_signal(struct sup_exec *x, const struct wire_frame *f);
/* Nobody waits for its start any more; it goes on. */
void sup_exec_forget_client(struct sup_exec *x);
/* The run is over, and so are they. */
void sup_execs_end(struct supervisor *s);

#endif
