/* SPDX-License-Identifier: MIT */
/*
 * Processes that a command leaves to themselves (exec -d).
 *
 * The command hands its START over and goes once the process runs. The connection with the guest is ours, and stays as long as
 * the process does, so that there is somebody to tell how it ended. Its output is not wanted, and the guest drops it (DETACH);
 * whatever comes all the same is dropped here. The guest can neither tell of a process that nobody has asked for, nor of an end
 * more than once.
 */
#include <signal.h>
#include <string.h>

#include "base/io.h"
#include "base/log.h"
#include "run.h"
#include "supervisor.h"

enum { EXECS_MAX = 512 }; /* what the guest accepts, SERVER_SESSIONS_MAX */

struct sup_exec {
	struct supervisor *s;
	struct sup_exec *next;
	struct sup_client *client; /* who waits for its start; NULL: nobody */
	struct box_exec told;	   /* what its events say */
	struct buf opening;	   /* frames for the guest, until the handshake is done */
	int fd;			   /* likewise; -1 */
	struct handshake handshake;
	struct loop_source *handshake_io;
	struct wire_conn *conn;
	bool started;
};

static void exec_free(struct sup_exec *x)
{
	struct supervisor *s = x->s;
	struct sup_exec **p = &s->execs;

	while (*p != x)
		p = &(*p)->next;
	*p = x->next;
	s->n_execs--;
	if (x->client)
		sup_client_set_exec(x->client, NULL);
	loop_source_free(x->handshake_io);
	close_fd(&x->fd);
	wire_conn_free(x->conn);
	buf_done(&x->opening);
	free(x);
}

/* A frame for whoever waits for the start. */
static void answer(struct sup_exec *x, enum wire_type type, const uint8_t *payload, size_t len)
{
	struct sup_client *c = TAKE_PTR(x->client);

	if (c) {
		sup_client_set_exec(c, NULL);
		sup_client_answer(c, type, payload, len);
	}
}

static void refuse(struct sup_client *c, const char *text)
{
	CLEANUP(buf_done) struct buf frame = {0};
	struct wire_frame f;

	if (wire_put_fail(&frame, 125, text) == 0 && wire_next(&frame, &f) > 0)
		sup_client_answer(c, WIRE_FAIL, f.payload, f.len);
}

static void fail(struct sup_exec *x, const char *text)
{
	struct sup_client *c = x->client;

	exec_free(x);
	if (c)
		refuse(c, text);
}

static void note_end(struct sup_exec *x, int status)
{
	struct err e = {0};

	if (box_exec_died(x->s->st, x->s->box, &x->told, status, &e) < 0)
		log_warn("the end of an exec is missing among the events: %s", e.msg);
}

/* ---- the guest ---- */

static int on_first_frame(struct sup_exec *x, const struct wire_frame *f)
{
	struct err e = {0};

	if (f->type == WIRE_FAIL) {
		answer(x, WIRE_FAIL, f->payload, f->len);
		exec_free(x);
		return 0;
	}
	if (f->type != WIRE_STARTED)
		return -EBADMSG;
	x->started = true;
	if (box_exec_started(x->s->st, x->s->box, &x->told, &e) < 0)
		log_warn("events of an exec are missing: %s", e.msg);
	answer(x, WIRE_STARTED, f->payload, f->len);
	return 0;
}

static int on_frame(void *data, struct wire_conn *conn, const struct wire_frame *f)
{
	struct sup_exec *x = data;
	uint32_t v;

	if (!x->started)
		return on_first_frame(x, f);
	if (f->type != WIRE_EXIT)
		return f->type == WIRE_STDOUT || f->type == WIRE_STDERR ? 0 : -EBADMSG;
	int r = wire_get_u32(f, &v);
	if (r < 0 || (v & ~WIRE_EXIT_OOM) > 255)
		return -EBADMSG;
	note_end(x, (int)(v & 255));
	exec_free(x);
	return 0;
}

static void on_end(void *data, struct wire_conn *conn, int error)
{
	struct sup_exec *x = data;

	if (!x->started) {
		fail(x, error == -EBADMSG ? "the guest broke the protocol" : "the guest ended the session");
		return;
	}
	note_end(x, 128 + SIGKILL);
	exec_free(x);
}

static const struct wire_conn_ops conn_ops = {.on_frame = on_frame, .on_end = on_end};

static void on_handshake(void *data, int fd, uint32_t events)
{
	struct sup_exec *x = data;
	int r = handshake_read(&x->handshake, fd);

	if (r == 0)
		return;
	loop_source_free(TAKE_PTR(x->handshake_io));
	if (r > 0)
		r = wire_conn_new(x->s->loop, TAKE_FD(x->fd), &conn_ops, x, &x->conn);
	if (r == 0)
		r = buf_append(wire_conn_out(x->conn), buf_data(&x->opening), x->opening.len);
	if (r < 0) {
		fail(x, "the guest does not accept sessions");
		return;
	}
	buf_done(&x->opening);
	wire_conn_flush(x->conn);
}

/* ---- the command ---- */

static int dial(struct sup_exec *x, const struct wire_frame *start)
{
	int r = wire_put(&x->opening, WIRE_START, start->payload, start->len);

	if (r == 0)
		r = wire_put(&x->opening, WIRE_DETACH, NULL, 0);
	if (r == 0)
		r = x->fd = sup_guest_dial(x->s, &x->handshake);
	return r < 0 ? r : loop_add_io(x->s->loop, x->fd, EPOLLIN, on_handshake, x, &x->handshake_io);
}

int sup_exec_start(struct supervisor *s, struct sup_client *c, const struct wire_frame *start)
{
	CLEANUP(wire_process_done) struct wire_process p = {0};
	const struct sup_run *run = &s->run;

	int r = wire_get_process(start, &p);
	if (r < 0 || p.main || p.argv.n == 0)
		return -EBADMSG;
	if (run->phase != SUP_RUNNING || run->stopping || run->lost_text) {
		refuse(c, "box is not running");
		return 0;
	}
	struct sup_exec *x = s->n_execs < EXECS_MAX ? calloc(1, sizeof(*x)) : NULL;
	if (!x) {
		refuse(c, "too many processes were left to themselves");
		return 0;
	}
	x->s = s;
	x->fd = -1;
	x->client = c;
	box_exec_init(&x->told, NULL, &p.argv);
	x->next = s->execs;
	s->execs = x;
	s->n_execs++;
	sup_client_set_exec(c, x);
	r = dial(x, start);
	if (r < 0)
		fail(x, strerror(-r));
	return 0;
}

int sup_exec_signal(struct sup_exec *x, const struct wire_frame *f)
{
	struct buf *out = x->conn ? wire_conn_out(x->conn) : &x->opening;

	if (out->len > SUP_SESSION_QUEUE_MAX)
		return -EBADMSG;
	int r = wire_put(out, WIRE_SIGNAL, f->payload, f->len);
	if (x->conn)
		wire_conn_flush(x->conn);
	return r;
}

void sup_exec_forget_client(struct sup_exec *x)
{
	x->client = NULL;
}

void sup_execs_end(struct supervisor *s)
{
	struct err e = {0};

	if (!s->execs)
		return;
	bool lax = state_begin_lax(s->st, &e) == 0; /* one for all */
	while (s->execs) {
		if (s->execs->started)
			note_end(s->execs, 128 + SIGKILL);
		exec_free(s->execs);
	}
	if (lax && state_end(s->st, 0, &e) < 0)
		log_warn("ends of execs are missing among the events: %s", e.msg);
}
