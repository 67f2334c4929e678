/* SPDX-License-Identifier: MIT */
/*
 * The supervisor of one running box (private to this room).
 *
 * THEORY OF OPERATION
 *
 * One process, one thread, one event loop, for one run of one box. It is the parent of the machine, and stands between the
 * guest and any number of clients:
 *
 *     machine --- console, messages ------> console.log, machine.log (bounded)
 *     guest ----- control (port 4088) ----> sup-guest.c    configuration, readiness, shutdown
 *     guest ----- session (port 4089) ----> sup-guest.c    the workload: output to the log and to clients
 *     clients --- run/ID/ctl.sock --------> sup-client.c   attach, stop, signal, wait
 *
 * Phases only move forward:
 *
 *     BOOT      machine started; the guest connects, is configured, says READY
 *     LAUNCH    the session is open, START sent
 *     RUNNING   STARTED seen: the record says running (or stopping)
 *     FLUSH     EXIT seen, all output passed on; the guest unmounts (skipped with --rm: the disk is thrown away)
 *     DONE      machine gone, record final, lock given up; only clients that have not read everything keep us
 *
 * Back-pressure: when an attached client does not read, the session is not read, and the workload's write blocks.
 * Everything the guest or a client sends is bounded by the frame limits of wire.h and the numbers below.
 */
#ifndef BOX_SUPERVISOR_H
#define BOX_SUPERVISOR_H

#include "base/loop.h"
#include "box/box.h"
#include "log.h"
#include "machine/machine.h"
#include "wire/conn.h"

#define SUP_CLIENTS_MAX	     256
#define SUP_CLIENT_QUEUE_MAX (1u << 20) /* bytes waiting for a client before the workload is made to wait */
#define SUP_SESSION_QUEUE_MAX \
	(2u << 20) /* bytes waiting for the guest: a window of input in the smallest frames */
#define SUP_BOOT_LIMIT_NS \
	300000000000ull /* from spawn to READY: an emulated host may run dozens of boots at once */
#define SUP_FLUSH_LIMIT_NS 30000000000ull /* for the guest to unmount */
#define SUP_KILL_LIMIT_NS  10000000000ull /* from SIGKILL to the workload's end, before the machine is ended */
#define SUP_LOST_LIMIT_NS  2000000000ull /* from the end of the guest's connection to the end of its machine */
#define SUP_CAPTURE_MAX	   (1u << 20)	 /* bytes of console.log, and of machine.log, of one run */

enum sup_phase { SUP_BOOT, SUP_LAUNCH, SUP_RUNNING, SUP_FLUSH, SUP_DONE };

struct sup_client;

/* A pipe that others write to, kept in a file up to SUP_CAPTURE_MAX bytes; what is more is read and dropped. */
struct sup_capture {
	int rd, log; /* -1: not open */
	size_t bytes;
	struct loop_source *io;
};

struct supervisor {
	struct state *st;
	struct box *box;
	struct loop *loop;
	int lock_fd, run_fd, box_fd, vsock_fd; /* the last three: run/ID, boxes/ID, run/ID/vsock */
	int scratch_fd; /* keeps the file's blocks until after the last answer: freeing them takes its time */
	enum accel accel;

	struct machine *machine;
	struct loop_source *machine_end, *signals_io, *timer, *listen_io, *control_io, *handshake_io;
	int signals_fd, listen_fd, control_listen_fd, handshake_fd;
	struct sup_capture console,
		messages; /* the guest's serial console; what the machine's backend says */

	struct wire_conn *control, *session;
	struct log_writer log;
	uint32_t guest_credit; /* bytes of STDIN the guest still takes */
	uint32_t workload_pid;
	bool greeted;	   /* HELLO was seen */
	bool stdin_over;   /* no client will send more input */
	bool stdin_closed; /* STDIN_EOF was sent */

	uint64_t born_ns; /* monotonic: for sup_milestone */
	enum sup_phase phase;
	bool stopping, killed; /* a stop was asked for; SIGKILL was sent */
	bool paused;	       /* the machine stands still */
	bool had_output;
	bool pause_pending;	    /* the machine has not answered a PAUSE or UNPAUSE yet */
	struct sup_client *pausing; /* who asked; NULL once it went away */
	bool pause_wanted;	    /* which of the two */
	int exit_code;
	char *fail_text;       /* why the start failed */
	const char *lost_text; /* set while SUP_LOST_LIMIT_NS runs */

	struct sup_client *clients;
	unsigned n_clients;
};

/* ---- supervisor.c ---- */
/* Notes in supervisor.log, with A3S_LOG=debug, how long it took to get here. */
void sup_milestone(const struct supervisor *s, const char *what);
/* The workload never ran: status 125 to 127 and why. Ends everything. */
void sup_start_failed(struct supervisor *s, int status, const char *text);
/* The workload ended with this code; error NULL unless something went wrong. */
void sup_workload_ended(struct supervisor *s, int code);
/* The machine is of no more use: ends it, writes the final record, tells the clients. */
void sup_finish(struct supervisor *s, int code, const char *error);
/*
 * A connection of the guest is gone. If that is because the machine ended, the machine's end, which says more, is given
 * a moment to show; else text (a literal) is why.
 */
void sup_guest_lost(struct supervisor *s, const char *text);
/* Stop or kill, from a client or a signal to ourselves. */
void sup_stop(struct supervisor *s, int sig, uint64_t timeout_ns);

/* PAUSE and UNPAUSE: replies to the client when done. */
void sup_pause(struct supervisor *s, struct sup_client *c, bool pause);

/* ---- sup-machine.c ---- */
int sup_machine_start(struct supervisor *s, struct err *e);
/* The record says running, and what the machine runs on. */
int sup_record_running(struct supervisor *s, struct err *e);
/* Notes in supervisor.log, with A3S_LOG=debug, what the machine took to come here. Once. */
void sup_first_output(struct supervisor *s);
/* Takes what is left in the pipe. */
void sup_capture_close(struct sup_capture *c);

/* ---- sup-guest.c ---- */
int sup_guest_listen(struct supervisor *s, struct err *e);
void sup_guest_shutdown(struct supervisor *s);
void sup_guest_close(struct supervisor *s);
void sup_guest_signal(struct supervisor *s, int sig);
void sup_guest_resize(struct supervisor *s, uint16_t rows, uint16_t cols);
/* Reads on or stops reading the workload's output. */
void sup_guest_throttle(struct supervisor *s, bool stop);

/* ---- sup-client.c ---- */
int sup_clients_listen(struct supervisor *s, struct err *e);
/* fd is consumed. inherited: from the command that started us; if it goes without a word, so does the start. */
int sup_client_add(struct supervisor *s, int fd, bool inherited);
/* Answers a PAUSE or UNPAUSE. */
void sup_client_reply(struct sup_client *c, int code, const char *text);
/* No new clients. */
void sup_clients_unlisten(struct supervisor *s);
void sup_clients_output(struct supervisor *s, enum wire_type type, const uint8_t *data, size_t len);
void sup_clients_started(struct supervisor *s);
/*
 * To all: FAIL if the start failed, EXIT and successful replies otherwise. error: what went wrong with a workload that
 * ran, for whoever is attached; or NULL.
 */
void sup_clients_finish(struct supervisor *s, const char *error);
/* Sends what clients typed, as far as the guest's credit goes. */
void sup_clients_pump_stdin(struct supervisor *s);
void sup_clients_free(struct supervisor *s);

#endif
