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
	enum box_op op;	  /* 0: has not asked yet */
	bool inherited;	  /* see sup_client_add */
	bool has_stdin;	  /* its input goes to the workload */
	bool stdin_eof;	  /* it will send no more */
	struct buf input; /* granted, received and not yet passed on: at most WIRE_STDIN_WINDOW */
};

static void grant(struct sup_client *c, size_t bytes)
{
	if (bytes && !c->stdin_eof) {
		wire_put_u32(wire_conn_out(c->conn), WIRE_STDIN_CREDIT, (uint32_t)bytes);
		wire_conn_flush(c->conn);
	}
}

static void update_throttle(struct supervisor *s)
{
	bool full = false;
	/* Once it is to stop, nobody can hold it up by not reading: who is behind misses the rest (sup_clients_output). */
	for (struct sup_client *c = s->clients; c; c = c->next)
		full |= wire_conn_pending(c->conn) > SUP_CLIENT_QUEUE_MAX;
	sup_guest_throttle(s, full && !s->stopping);
}

static void remove_client(struct sup_client *c)
{
	struct supervisor *s = c->s;
	struct sup_client **p = &s->clients;

	while (*p != c)
		p = &(*p)->next;
	*p = c->next;
	s->n_clients--;
	if (s->pausing == c)
		s->pausing = NULL; /* done all the same */
	bool ends_stdin = c->has_stdin && s->box->config.stdin_once, silent = c->inherited && c->op == 0;
	wire_conn_free(c->conn);
	buf_done(&c->input);
	free(c);
	if (s->phase == SUP_DONE) {
		if (!s->clients)
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
	s->stdin_over |= ends_stdin;
	sup_clients_pump_stdin(s);
	update_throttle(s);
}

void sup_clients_pump_stdin(struct supervisor *s)
{
	if (!s->session)
		return;
	for (struct sup_client *c = s->clients; c; c = c->next) {
		while (c->input.len && s->guest_credit) {
			size_t n =
				MIN_OF(MIN_OF(c->input.len, (size_t)s->guest_credit), (size_t)WIRE_DATA_MAX);
			if (!s->stdin_closed)
				wire_put(wire_conn_out(s->session), WIRE_STDIN, buf_data(&c->input), n);
			buf_consume(&c->input, n);
			s->guest_credit -= (uint32_t)n;
			grant(c, n);
		}
		if (c->has_stdin && c->stdin_eof && c->input.len == 0)
			s->stdin_over |= s->box->config.stdin_once;
	}
	if (s->stdin_over && !s->stdin_closed) {
		s->stdin_closed = true;
		wire_put(wire_conn_out(s->session), WIRE_STDIN_EOF, NULL, 0);
	}
	wire_conn_flush(s->session);
}

void sup_client_reply(struct sup_client *c, int code, const char *text)
{
	ctl_put_reply(wire_conn_out(c->conn), code, text);
	wire_conn_flush(c->conn);
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
		c->has_stdin = req.attach_stdin && s->box->config.process.open_stdin;
		if (s->phase >= SUP_RUNNING)
			wire_put_u32(wire_conn_out(c->conn), WIRE_STARTED, s->workload_pid);
		if (c->has_stdin)
			grant(c, WIRE_STDIN_WINDOW);
		wire_conn_flush(c->conn);
		return 0;
	case BOX_OP_STARTED:
		if (s->phase >= SUP_RUNNING) {
			wire_put_u32(wire_conn_out(c->conn), WIRE_STARTED, s->workload_pid);
			wire_conn_flush(c->conn);
		}
		return 0;
	case BOX_OP_STOP:
		sup_stop(s, req.signal, req.timeout_ns);
		return 0;
	case BOX_OP_SIGNAL:
		if (s->phase < SUP_RUNNING)
			sup_client_reply(c, -EAGAIN, "the workload has not started yet");
		else if (s->phase > SUP_RUNNING)
			sup_client_reply(c, -ESRCH, "the workload has ended");
		else {
			if (req.signal == SIGKILL)
				sup_stop(s, SIGKILL, 0);
			else
				sup_guest_signal(s, req.signal);
			sup_client_reply(c, 0, NULL);
		}
		return 0;
	case BOX_OP_PAUSE:
	case BOX_OP_UNPAUSE:
		sup_pause(s, c, req.op == BOX_OP_PAUSE);
		return 0;
	case BOX_OP_WAIT:
		return 0;
	}
	return -EBADMSG;
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
	if (c->op != BOX_OP_ATTACH)
		return -EBADMSG;
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
		if (v == SIGKILL || (c->s->phase < SUP_RUNNING &&
					    (v == SIGINT || v == SIGTERM || v == SIGHUP || v == SIGQUIT)))
			sup_stop(c->s, (int)v, 0);
		else if (c->s->phase == SUP_RUNNING)
			sup_guest_signal(c->s, (int)v);
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

	update_throttle(c->s);
	if (c->s->phase == SUP_DONE && wire_conn_pending(conn) == 0)
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
		if (c->op != BOX_OP_ATTACH ||
			(s->stopping && wire_conn_pending(c->conn) > SUP_CLIENT_QUEUE_MAX))
			continue;
		wire_put(wire_conn_out(c->conn), type, data, len);
		wire_conn_flush(c->conn);
	}
	update_throttle(s);
}

void sup_clients_started(struct supervisor *s)
{
	for (struct sup_client *c = s->clients; c; c = c->next) {
		if (c->op == BOX_OP_ATTACH || c->op == BOX_OP_STARTED) {
			wire_put_u32(wire_conn_out(c->conn), WIRE_STARTED, s->workload_pid);
			wire_conn_flush(c->conn);
		}
	}
}

void sup_clients_finish(struct supervisor *s, const char *error)
{
	struct sup_client *next;

	for (struct sup_client *c = s->clients; c; c = next) {
		next = c->next;
		struct buf *out = wire_conn_out(c->conn);
		if (c->op == BOX_OP_STOP)
			ctl_put_reply(out, 0, NULL);
		else if (c->op == BOX_OP_PAUSE || c->op == BOX_OP_UNPAUSE)
			ctl_put_reply(out, -ESRCH, "the workload has ended");
		else if (s->fail_text)
			wire_put_fail(out, (uint32_t)s->exit_code, s->fail_text);
		else if (error && c->op == BOX_OP_ATTACH)
			wire_put_fail(out, (uint32_t)s->exit_code, error);
		else
			wire_put_u32(out, WIRE_EXIT, (uint32_t)s->exit_code);
		wire_conn_flush(c->conn);
		if (wire_conn_pending(c->conn) == 0)
			remove_client(c);
	}
}

void sup_clients_free(struct supervisor *s)
{
	s->phase = SUP_DONE;
	while (s->clients)
		remove_client(s->clients);
}
