/* SPDX-License-Identifier: MIT */
/* Clients of the supervisor. A client belongs to the same user, yet is bounded like any other peer. */
#include <signal.h>
#include <string.h>
#include <sys/socket.h>

#include "ctl.h"
#include "run.h"
#include "supervisor.h"

struct sup_client {
	struct supervisor *s;
	struct sup_client *next;
	struct wire_conn *conn;
	enum box_op op; /* 0: has not asked yet */
	bool inherited; /* see sup_client_add */
	bool has_stdin; /* its input goes to the workload */
	bool stdin_eof; /* it will send no more */
	bool finished;	/* it has its answer: it goes once that is written */
	enum { RELOAD_NONE, RELOAD_ASKED, RELOAD_TAKEN } reload;
	struct buf input;      /* granted, received and not yet passed on: at most WIRE_STDIN_WINDOW */
	struct sup_exec *exec; /* EXEC: the process whose start it waits for */
};

static void grant(struct sup_client *c, size_t bytes)
{
	if (bytes && !c->stdin_eof) {
		wire_put_u32(wire_conn_out(c->conn), WIRE_STDIN_CREDIT, (uint32_t)bytes);
		wire_conn_flush(c->conn);
	}
}

void sup_clients_update_throttle(struct supervisor *s)
{
	bool full = sup_log_full(s);
	/* Once it is to stop, nobody can hold it up by not reading: who is behind misses the rest (sup_clients_output). */
	for (struct sup_client *c = s->clients; c; c = c->next)
		full |= !c->finished && wire_conn_pending(c->conn) > SUP_CLIENT_QUEUE_MAX;
	sup_guest_throttle(s, full && !s->run.stopping);
}

/* Whether input is over with the first client. A terminal stays: who detached may come back to it. */
static bool ends_with_client(const struct supervisor *s)
{
	return s->box->config.stdin_once && !s->box->config.process.tty;
}

static void remove_client(struct sup_client *c)
{
	struct supervisor *s = c->s;
	struct sup_client **p = &s->clients;

	while (*p != c)
		p = &(*p)->next;
	*p = c->next;
	s->n_clients--;
	if (s->run.pausing == c)
		s->run.pausing = NULL; /* done all the same */
	bool ends_stdin = c->has_stdin && !c->finished && ends_with_client(s);
	bool silent = c->inherited && c->op == 0 && !c->finished;
	if (c->exec)
		sup_exec_forget_client(c->exec);
	wire_conn_free(c->conn);
	buf_done(&c->input);
	free(c);
	if (s->run.phase == SUP_DONE) {
		if (!s->clients && s->lock_fd < 0)
			loop_quit(s->loop, 0);
		return;
	}
	if (s->listen_io)
		loop_set_events(s->listen_io, EPOLLIN);
	if (silent) {
		sup_start_failed(s, 125, "the command that started it went away");
		return;
	}
	/* The only source of input is gone: the workload sees end of file once what was received is through. */
	s->run.stdin_over |= ends_stdin;
	sup_clients_pump_stdin(s);
	sup_clients_update_throttle(s);
}

void sup_clients_pump_stdin(struct supervisor *s)
{
	if (!s->run.session)
		return;
	for (struct sup_client *c = s->clients; c; c = c->next) {
		if (c->finished) /* its input was for a run that is over */
			continue;
		while (c->input.len && s->run.guest_credit) {
			size_t n = MIN_OF(
				MIN_OF(c->input.len, (size_t)s->run.guest_credit), (size_t)WIRE_DATA_MAX);
			if (!s->run.stdin_closed)
				wire_put(wire_conn_out(s->run.session), WIRE_STDIN, buf_data(&c->input), n);
			buf_consume(&c->input, n);
			s->run.guest_credit -= (uint32_t)n;
			grant(c, n);
		}
		if (c->has_stdin && c->stdin_eof && c->input.len == 0)
			s->run.stdin_over |= ends_with_client(s);
	}
	if (s->run.stdin_over && !s->run.stdin_closed) {
		s->run.stdin_closed = true;
		wire_put(wire_conn_out(s->run.session), WIRE_STDIN_EOF, NULL, 0);
	}
	wire_conn_flush(s->run.session);
}

void sup_client_reply(struct sup_client *c, int code, const char *text)
{
	ctl_put_reply(wire_conn_out(c->conn), code, text);
	wire_conn_flush(c->conn);
}

static void put_started(struct sup_client *c)
{
	wire_put_u32(wire_conn_out(c->conn), WIRE_STARTED, c->s->run.workload_pid);
	wire_conn_flush(c->conn);
}

static int attach(struct sup_client *c, const struct box_request *req)
{
	struct supervisor *s = c->s;

	if (sup_restarting(s)) {
		wire_put_fail(wire_conn_out(c->conn), 1, "it is restarting: wait until it runs");
		wire_conn_flush(c->conn);
		c->finished = true;
		return 0;
	}
	c->has_stdin = req->attach_stdin && s->box->config.process.open_stdin;
	if (s->run.phase >= SUP_RUNNING)
		put_started(c);
	if (c->has_stdin)
		grant(c, WIRE_STDIN_WINDOW);
	wire_conn_flush(c->conn);
	return 0;
}

/* A signal to the workload. What is to end a box that waits to be restarted ends the waiting. */
static void pass_signal(struct sup_client *c, int sig)
{
	struct supervisor *s = c->s;

	if (sup_restarting(s) && sup_signal_ends(s, sig)) {
		sup_client_reply(c, 0, NULL);
		sup_stop(s, sig, 0, SUP_KILL);
	} else if (sup_restarting(s)) {
		sup_client_reply(c, -EAGAIN, "it is restarting: wait until it runs");
	} else if (s->run.phase < SUP_RUNNING) {
		sup_client_reply(c, -EAGAIN, "the workload has not started yet");
	} else if (s->run.phase > SUP_RUNNING) {
		sup_client_reply(c, -ESRCH, "the workload has ended");
	} else {
		sup_client_reply(c, 0, NULL);
		sup_signal(s, sig);
	}
}

/* Only who means networks waits for them: what else may be changed is taken over at once. */
static void reload(struct sup_client *c, bool networks)
{
	struct err e = {0};
	struct supervisor *s = c->s;
	int r = sup_reload(s, &e);

	if (r < 0) {
		sup_client_reply(c, r, e.msg);
		return;
	}
	if (networks) {
		c->reload = RELOAD_ASKED;
		sup_net_reload(s);
	} else {
		sup_client_reply(c, 0, NULL);
	}
	sup_reloaded(s); /* c may be gone after it */
}

void sup_clients_reload(struct supervisor *s)
{
	for (struct sup_client *c = s->clients; c; c = c->next) {
		if (c->reload == RELOAD_ASKED)
			c->reload = RELOAD_TAKEN;
	}
}

void sup_clients_reloaded(struct supervisor *s, int code, const char *text)
{
	for (struct sup_client *c = s->clients; c; c = c->next) {
		if (c->reload != RELOAD_TAKEN)
			continue;
		c->reload = RELOAD_NONE;
		sup_client_reply(c, code, code < 0 ? text : NULL);
	}
}

static int on_request(struct sup_client *c, const struct wire_frame *f)
{
	struct supervisor *s = c->s;
	struct box_request req;
	int r = ctl_get_request(f, &req);

	if (r < 0)
		return r;
	c->op = req.op;
	switch (req.op) {
	case BOX_OP_ATTACH:
		return attach(c, &req);
	case BOX_OP_STARTED:
		if (s->run.phase == SUP_RUNNING || s->run.phase == SUP_FLUSH)
			put_started(c);
		return 0;
	case BOX_OP_STOP:
		if (req.discard)
			sup_discard(s);
		else
			sup_stop(s, req.signal, req.timeout_ns, req.signal == SIGKILL ? SUP_KILL : SUP_STOP);
		return 0;
	case BOX_OP_RESTART:
		sup_stop(s, req.signal, req.timeout_ns, SUP_RESTART);
		return 0;
	case BOX_OP_SIGNAL:
		pass_signal(c, req.signal);
		return 0;
	case BOX_OP_PAUSE:
	case BOX_OP_UNPAUSE:
		sup_pause(s, c, req.op == BOX_OP_PAUSE);
		return 0;
	case BOX_OP_RELOAD:
		reload(c, req.networks);
		return 0;
	case BOX_OP_EXEC: /* its START follows */
	case BOX_OP_WAIT:
		return 0;
	}
	return -EBADMSG;
}

void sup_client_set_exec(struct sup_client *c, struct sup_exec *x)
{
	c->exec = x;
}

void sup_client_answer(struct sup_client *c, enum wire_type type, const uint8_t *payload, size_t len)
{
	wire_put(wire_conn_out(c->conn), type, payload, len);
	c->finished = true;
	wire_conn_flush(c->conn);
	if (wire_conn_pending(c->conn) == 0)
		remove_client(c);
}

static int on_exec_frame(struct sup_client *c, const struct wire_frame *f)
{
	if (c->finished)
		return 0;
	if (f->type == WIRE_START && !c->exec)
		return sup_exec_start(c->s, c, f);
	return f->type == WIRE_SIGNAL && c->exec ? sup_exec_signal(c->exec, f) : -EBADMSG;
}

static int on_input(struct sup_client *c, const struct wire_frame *f)
{
	struct supervisor *s = c->s;

	if (!c->has_stdin || c->stdin_eof)
		return 0; /* nobody reads it; it was not granted either */
	if (f->type == WIRE_STDIN_EOF) {
		c->stdin_eof = true;
	} else {
		if (c->input.len + f->len > WIRE_STDIN_WINDOW)
			return -EBADMSG;
		int r = buf_append(&c->input, f->payload, f->len);
		if (r < 0)
			return r;
	}
	sup_clients_pump_stdin(s);
	return 0;
}

static int on_frame(void *data, struct wire_conn *conn, const struct wire_frame *f)
{
	struct sup_client *c = data;
	uint16_t rows, cols;
	uint32_t v;
	int r;

	if (c->op == 0)
		return f->type == WIRE_CTL_REQUEST ? on_request(c, f) : -EBADMSG;
	if (c->op == BOX_OP_EXEC)
		return on_exec_frame(c, f);
	if (c->op != BOX_OP_ATTACH)
		return -EBADMSG;
	if (c->finished)
		return 0;
	switch (f->type) {
	case WIRE_STDIN:
	case WIRE_STDIN_EOF:
		return on_input(c, f);
	case WIRE_RESIZE:
		r = wire_get_resize(f, &rows, &cols);
		if (r == 0)
			sup_guest_resize(c->s, rows, cols);
		return r;
	case WIRE_SIGNAL:
		r = wire_get_u32(f, &v);
		if (r < 0 || v < 1 || v > 64)
			return -EBADMSG;
		/* The user does not want to wait for the boot to end; and SIGKILL means it, whatever the guest does. */
		if (v == SIGKILL || (c->s->run.phase < SUP_RUNNING &&
					    (v == SIGINT || v == SIGTERM || v == SIGHUP || v == SIGQUIT)))
			sup_stop(c->s, (int)v, 0, SUP_KILL);
		else if (c->s->run.phase == SUP_RUNNING)
			sup_signal(c->s, (int)v);
		return 0;
	default:
		return -EBADMSG;
	}
}

static void on_end(void *data, struct wire_conn *conn, int error)
{
	remove_client(data);
}

static void on_written(void *data, struct wire_conn *conn)
{
	struct sup_client *c = data;

	sup_clients_update_throttle(c->s);
	if (c->finished && wire_conn_pending(conn) == 0)
		remove_client(c);
}

static const struct wire_conn_ops client_ops = {
	.on_frame = on_frame, .on_end = on_end, .on_written = on_written};

int sup_client_add(struct supervisor *s, int fd, bool inherited)
{
	if (s->n_clients >= SUP_CLIENTS_MAX) {
		close(fd);
		return -EMFILE;
	}
	struct sup_client *c = calloc(1, sizeof(*c));
	if (!c) {
		close(fd);
		return -ENOMEM;
	}
	c->s = s;
	c->inherited = inherited;
	int r = wire_conn_new(s->loop, fd, &client_ops, c, &c->conn);
	if (r < 0) {
		free(c);
		return r;
	}
	/* At the end of the list: finishing walks it while clients may leave. */
	struct sup_client **p = &s->clients;
	while (*p)
		p = &(*p)->next;
	*p = c;
	s->n_clients++;
	return 0;
}

static void on_accept(void *data, int fd, uint32_t events)
{
	struct supervisor *s = data;
	int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (client >= 0)
		sup_client_add(s, client, false);
	else if (errno == EMFILE || errno == ENFILE)
		loop_set_events(s->listen_io, 0); /* until one of those here goes */
}

int sup_clients_listen(struct supervisor *s, struct err *e)
{
	s->listen_fd = unix_listen_at(s->run_fd, RUN_CTL_SOCKET);
	int r = s->listen_fd;
	if (r >= 0)
		r = loop_add_io(s->loop, s->listen_fd, EPOLLIN, on_accept, s, &s->listen_io);
	return r < 0 ? err_sys(e, r, "cannot listen for commands") : 0;
}

void sup_clients_unlisten(struct supervisor *s)
{
	loop_source_free(TAKE_PTR(s->listen_io));
	close_fd(&s->listen_fd);
}

void sup_clients_output(struct supervisor *s, enum wire_type type, const uint8_t *data, size_t len)
{
	for (struct sup_client *c = s->clients; c; c = c->next) {
		if (c->op != BOX_OP_ATTACH || c->finished ||
			(s->run.stopping && wire_conn_pending(c->conn) > SUP_CLIENT_QUEUE_MAX))
			continue;
		wire_put(wire_conn_out(c->conn), type, data, len);
		wire_conn_flush(c->conn);
	}
	sup_clients_update_throttle(s);
}

void sup_clients_started(struct supervisor *s)
{
	for (struct sup_client *c = s->clients; c; c = c->next) {
		if (c->finished)
			continue;
		if (c->op == BOX_OP_ATTACH || c->op == BOX_OP_STARTED)
			put_started(c);
		else if (c->op == BOX_OP_RESTART)
			sup_client_reply(c, 0, NULL);
	}
}

/* Appends a client's answer to the end of a run. false: it stays, as its time comes with the next run. */
static bool finish(struct sup_client *c, const char *error, bool again)
{
	const struct sup_run *run = &c->s->run;
	struct buf *out = wire_conn_out(c->conn);
	uint32_t status = (uint32_t)run->exit_code & ~WIRE_EXIT_OOM;
	bool never = run->first && run->fail_text;

	switch (c->op) {
	case BOX_OP_STOP:
		ctl_put_reply(out, 0, NULL);
		return true;
	case BOX_OP_RESTART:
		if (run->intent == SUP_RESTART && again)
			return false;
		ctl_put_reply(out, -EIO, run->fail_text ? run->fail_text : "it was stopped meanwhile");
		return true;
	case BOX_OP_PAUSE:
	case BOX_OP_UNPAUSE:
		ctl_put_reply(out, -ESRCH, "the workload has ended");
		return true;
	case BOX_OP_RELOAD:
		if (c->reload != RELOAD_NONE) /* the record is what counts now, and the next run reads it */
			ctl_put_reply(out, again ? 0 : -ESRCH, again ? NULL : "the workload has ended");
		c->reload = RELOAD_NONE;
		return true;
	case BOX_OP_EXEC:
		wire_put_fail(out, 125, "box is not running");
		return true;
	case BOX_OP_SIGNAL: /* answered */
		return true;
	default:
		break;
	}
	if (again && (c->op == 0 || (run->fail_text && c->op == BOX_OP_STARTED)))
		return false;
	if (never)
		wire_put_fail(out, status, run->fail_text);
	else if (error && c->op == BOX_OP_ATTACH)
		wire_put_fail(out, status, error);
	else
		wire_put_u32(out, WIRE_EXIT, status);
	return true;
}

void sup_clients_finish(struct supervisor *s, const char *error, bool again)
{
	struct sup_client *next;

	for (struct sup_client *c = s->clients; c; c = next) {
		next = c->next;
		if (c->finished || !finish(c, error, again))
			continue;
		c->finished = true;
		wire_conn_flush(c->conn);
		if (wire_conn_pending(c->conn) == 0)
			remove_client(c);
	}
}

void sup_clients_free(struct supervisor *s)
{
	s->run.phase = SUP_DONE;
	while (s->clients)
		remove_client(s->clients);
}
