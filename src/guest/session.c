/* SPDX-License-Identifier: MIT */
/*
 * THEORY OF OPERATION
 *
 * NEW --START--> STARTING --report: runs--> RUNNING --ended and output forwarded--> DONE
 *                   '------report: failed-------------------------------------------^
 * NEW --UPDATE, NETWORK, GET_STATS or GET_TASKS: query.c has the connection--> DONE, until its process ends
 * NEW --FORWARD, COPY_OUT, COPY_IN or FREEZE: forward.c, copy.c or freeze.c has it--> DONE, likewise
 * NEW --FREEZE while another one holds the disk--> QUEUED --that one ends--> as above; too late: FAIL--> DONE
 *
 * Every callback does its bit of input or output and ends in session_settle, which alone decides what happens
 * next: move queued input, watch what should be watched, end the session. It may free the session, so it
 * is always the last call.
 *
 * Memory is bounded: output is read from the process only while nothing waits for the host (out is empty), so
 * out holds the rest of one data frame and a few small ones; input holds at most the credit.
 *
 * When the process has ended, the workload's pipes reach their end by themselves, since its PID namespace
 * took every writer with it. A later process can leave children behind that hold the pipes: of those exactly
 * what is in the pipe at that moment is forwarded. A session whose host is gone, or wants no output any more, discards it
 * until its process ends, so that the process does not stop on a full pipe.
 */
#include "session.h"
#include "freeze.h"
#include "query.h"
#include "signals.h"

#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "base/io.h"
#include "base/proc.h"
#include "process.h"

#define CREDIT_STEP   (WIRE_STDIN_WINDOW / 4) /* credit is given back in steps, not per key stroke */
#define TTY_DRAIN_MAX 262144		      /* bytes taken from a terminal after its process ended */
#define QUEUE_NS      10000000000ull	      /* that FREEZE waits for its turn */
#define IN_CHUNK      (WIRE_HEADER_SIZE + WIRE_DATA_MAX)

static void session_settle(struct session *s);

/* ---- connection ---- */

/* The host is gone: the process loses its input, and with a terminal everything, unless it was announced. */
static void drop_connection(struct session *s)
{
	loop_source_free(TAKE_PTR(s->fd_source));
	close_fd(&s->fd);
	buf_done(&s->in);
	buf_done(&s->out);
	buf_done(&s->input);
	stream_close(&s->stdin_end);
	if (s->tty && !s->detached)
		stream_close(&s->stdout_end); /* hangs up */
	/* Nobody waits for a start any more that may never come: a file of the box's can hold it up. */
	if (s->state == SESSION_STARTING && !s->main && !s->detached && s->pid)
		kill(s->pid, SIGKILL);
}

/* Sends now what can be sent. Returns how much, or drops the connection and returns 0. */
static size_t send_some(struct session *s, const void *data, size_t len)
{
	ssize_t n;

	if (s->fd < 0)
		return 0;
	do
		n = send(s->fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno != EAGAIN)
		drop_connection(s);
	return n < 0 ? 0 : (size_t)n;
}

static void flush_out(struct session *s)
{
	while (s->fd >= 0 && s->out.len) {
		size_t n = send_some(s, buf_data(&s->out), s->out.len);

		if (!n)
			return;
		buf_consume(&s->out, n);
	}
}

/* Sends a whole frame, keeping what does not fit. */
static void send_frame(struct session *s, const uint8_t *frame, size_t len)
{
	size_t sent = s->out.len ? 0 : send_some(s, frame, len);

	if (s->fd >= 0 && sent < len && buf_append(&s->out, frame + sent, len - sent) < 0)
		drop_connection(s);
}

static void send_u32(struct session *s, enum wire_type type, uint32_t value)
{
	CLEANUP(buf_done) struct buf frame = {0};

	if (wire_put_u32(&frame, type, value) < 0)
		drop_connection(s);
	else
		send_frame(s, buf_data(&frame), frame.len);
}

static void send_fail(struct session *s, uint32_t status, const char *text)
{
	CLEANUP(buf_done) struct buf frame = {0};

	if (wire_put_fail(&frame, status, text) < 0)
		drop_connection(s);
	else
		send_frame(s, buf_data(&frame), frame.len);
	s->state = SESSION_DONE;
}

/* ---- process to host ---- */

static void forward(struct session *s, struct stream *st, enum wire_type type)
{
	uint8_t *frame = server_scratch(s->server);
	ssize_t n = stream_read(st, frame + WIRE_HEADER_SIZE, WIRE_DATA_MAX);

	if (n == -EAGAIN && s->tty && !s->pid && s->state == SESSION_RUNNING)
		n = 0; /* ended, and the terminal is empty: a child that still holds it does not count */
	if (n == -EAGAIN)
		return;
	if (n <= 0 || !st->limit)
		stream_close(st);
	if (n <= 0 || s->fd < 0 || s->detached)
		return;
	frame[0] = (uint8_t)type;
	frame[1] = 0;
	frame[2] = (uint8_t)(n >> 16);
	frame[3] = (uint8_t)(n >> 8);
	frame[4] = (uint8_t)n;
	send_frame(s, frame, WIRE_HEADER_SIZE + (size_t)n);
}

static void on_stdout(void *data, int fd, uint32_t events)
{
	struct session *s = data;

	forward(s, &s->stdout_end, WIRE_STDOUT);
	session_settle(s);
}

static void on_stderr(void *data, int fd, uint32_t events)
{
	struct session *s = data;

	forward(s, &s->stderr_end, WIRE_STDERR);
	session_settle(s);
}

/* After the process has ended: no more than what is in its pipe now. */
static void limit_to_content(struct stream *st)
{
	int n = 0;

	if (st->fd < 0)
		return;
	if (ioctl(st->fd, FIONREAD, &n) < 0 || n <= 0)
		stream_close(st);
	else
		st->limit = (size_t)n;
}

/* The same for a terminal, whose content only reading finds out. */
static void drain_terminal(struct session *s)
{
	if (s->stdout_end.limit == STREAM_NO_LIMIT)
		s->stdout_end.limit = TTY_DRAIN_MAX;
	while (s->stdout_end.fd >= 0 && !s->out.len)
		forward(s, &s->stdout_end, WIRE_STDOUT);
}

void session_reaped(struct session *s, int wait_status)
{
	if (s->group_ends)
		kill(-s->pid, SIGKILL); /* its group has this number until the last one is gone */
	s->pid = 0;
	if (s->helper == HELPER_FREEZE)
		freeze_end();
	s->status = (uint32_t)proc_status_code(wait_status);
	if (s->status == 128 + SIGKILL) {
		if (s->ended_by)
			s->status = 128 + (uint32_t)s->ended_by;
		else if (s->helper == HELPER_NONE && server_oom_killed(s->server, s->main))
			s->status |= WIRE_EXIT_OOM; /* also when a shell hands on that its child was killed */
	}
	stream_close(&s->stdin_end);
	if (s->main) {
		server_main_gone(s->server);
	} else if (!s->tty) {
		limit_to_content(&s->stdout_end);
		limit_to_content(&s->stderr_end);
	}
	session_settle(s);
}

/* ---- host to process ---- */

static void credit_taken(struct session *s, size_t n)
{
	s->credit_due += (uint32_t)n;
	if (s->credit_due < CREDIT_STEP || s->fd < 0)
		return;
	s->credit += s->credit_due;
	send_u32(s, WIRE_STDIN_CREDIT, s->credit_due);
	s->credit_due = 0;
}

/* Writes what the process takes; without a process that listens everything counts as taken. */
static size_t give_input(struct session *s, const uint8_t *data, size_t len)
{
	ssize_t n;

	if (s->stdin_end.fd < 0)
		return len;
	do
		n = write(s->stdin_end.fd, data, len);
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN)
		return 0;
	if (n < 0) {
		stream_close(&s->stdin_end);
		return len;
	}
	return (size_t)n;
}

static void move_input(struct session *s)
{
	while (s->input.len) {
		size_t n = give_input(s, buf_data(&s->input), s->input.len);

		if (!n)
			return;
		buf_consume(&s->input, n);
		credit_taken(s, n);
	}
	if (s->input_ended && !s->tty)
		stream_close(&s->stdin_end);
}

static void on_stdin(void *data, int fd, uint32_t events)
{
	struct session *s = data;

	if (events & EPOLLERR)
		stream_close(&s->stdin_end); /* nobody will read it any more */
	session_settle(s);
}

static int handle_stdin(struct session *s, const struct wire_frame *f)
{
	size_t n = 0;

	if (f->len > s->credit || s->input_ended)
		return -EPROTO;
	s->credit -= f->len;
	if (!s->input.len)
		n = give_input(s, f->payload, f->len);
	if (n < f->len && buf_append(&s->input, f->payload + n, f->len - n) < 0)
		return -ENOMEM;
	if (n)
		credit_taken(s, n);
	return 0;
}

/* ---- start ---- */

static void on_report(void *data, int fd, uint32_t events)
{
	struct session *s = data;
	const char *why = "";
	uint32_t pid, status;
	char report[SPAWN_REPORT_MAX + 1];
	ssize_t n = io_read_full(s->report, report, SPAWN_REPORT_MAX);

	loop_source_free(TAKE_PTR(s->report_source));
	close_fd(&s->report);
	status = spawn_parse(report, (size_t)MAX_OF(n, 0), &pid, &why);
	if (status) {
		send_fail(s, status, why);
	} else {
		s->state = SESSION_RUNNING;
		if (s->main)
			server_main_running(s->server);
		send_u32(s, WIRE_STARTED, pid);
		if (s->stdin_end.fd >= 0) {
			s->credit = WIRE_STDIN_WINDOW;
			send_u32(s, WIRE_STDIN_CREDIT, WIRE_STDIN_WINDOW);
		}
	}
	session_settle(s);
}

/* It was SESSION_NEW, and there is room for another. */
static void leave_new(struct session *s)
{
	loop_source_free(TAKE_PTR(s->start_timer));
	server_new_changed(s->server);
}

static int start(struct session *s, const struct wire_process *p)
{
	struct spawn sp;
	char text[160], why[128];
	int r = server_spawn(s->server, s, p, &sp);

	if (r < 0) {
		if (r == -ESRCH)
			snprintf(text, sizeof(text), "box is not running");
		else if (r == -EBUSY)
			snprintf(text, sizeof(text), "box is already running");
		else
			snprintf(text, sizeof(text), "cannot start the process: %s",
				process_strerror(-r, why, sizeof(why)));
		send_fail(s, 125, text);
		return 0;
	}
	s->state = SESSION_STARTING;
	s->main = p->main;
	s->tty = p->tty;
	s->pid = sp.pid;
	s->report = sp.report;
	stream_init(&s->stdin_end, sp.in);
	stream_init(&s->stdout_end, sp.out);
	stream_init(&s->stderr_end, sp.err);
	/* Only the hang-up counts: one wake-up, when the program runs or the attempt is over. */
	r = loop_add_io(server_loop(s->server), s->report, 0, on_report, s, &s->report_source);
	if (r < 0) {
		kill(s->pid, SIGKILL);
		s->state = SESSION_DONE;
	}
	return r;
}

static int handle_start(struct session *s, const struct wire_frame *f)
{
	struct wire_process p;
	int r;

	if (s->state != SESSION_NEW)
		return -EPROTO;
	r = wire_get_process(f, &p);
	if (r < 0)
		return r;
	if (!p.argv.n) {
		r = -EBADMSG;
	} else {
		r = start(s, &p);
		leave_new(s);
	}
	wire_process_done(&p);
	return r;
}

void session_refuse(struct session *s, const char *why)
{
	loop_source_free(TAKE_PTR(s->start_timer));
	send_fail(s, EBUSY, why);
	session_settle(s);
}

static void on_queue_timeout(void *data)
{
	session_refuse(data, "its disk is being copied already");
}

/* What it asks for stays in `in` until session_retry. */
static int enqueue(struct session *s)
{
	s->state = SESSION_QUEUED;
	leave_new(s);
	return loop_add_timer(server_loop(s->server), QUEUE_NS, on_queue_timeout, s, &s->start_timer);
}

/* The connection becomes that of a process which answers or carries; what is left here is the process. */
static int hand_over(struct session *s, enum session_helper kind)
{
	static const char *const too_many[] = {[HELPER_QUERY] = "too many questions at once",
		[HELPER_FORWARD] = "too many connections at once",
		[HELPER_COPY] = "too many copies at once"};
	pid_t pid = server_help(s->server, kind, s->fd, &s->in);

	if (pid == -EMFILE && kind == HELPER_FREEZE)
		return enqueue(s);
	if (pid == -EMFILE || pid == -ENOTCONN) {
		bool errno_status = kind == HELPER_COPY || kind == HELPER_FREEZE; /* as wire.h has it */

		send_fail(s,
			!errno_status	 ? 125
			: pid == -EMFILE ? EBUSY
					 : ENOTCONN,
			pid == -EMFILE ? too_many[kind] : "box is not running");
		leave_new(s);
		return 0;
	}
	if (pid < 0)
		return pid;
	s->pid = pid;
	s->helper = kind;
	s->state = SESSION_DONE;
	leave_new(s);
	drop_connection(s);
	return 0;
}

static int handle_resize(struct session *s, const struct wire_frame *f)
{
	struct winsize ws = {0};
	uint16_t rows, cols;
	int r = wire_get_resize(f, &rows, &cols);

	if (r < 0)
		return r;
	ws.ws_row = rows;
	ws.ws_col = cols;
	if (s->tty && s->stdout_end.fd >= 0)
		(void)!ioctl(s->stdout_end.fd, TIOCSWINSZ, &ws);
	return 0;
}

static int handle_signal(struct session *s, const struct wire_frame *f)
{
	uint32_t sig;
	int r = wire_get_u32(f, &sig);

	if (r < 0)
		return r;
	bool group = sig & WIRE_SIGNAL_GROUP;
	sig &= ~WIRE_SIGNAL_GROUP;
	if (sig < 1 || sig > (uint32_t)SIGRTMAX)
		return -EBADMSG;
	if (group && s->pid && !s->main && kill(-s->pid, (int)sig) == 0)
		s->group_ends = true;
	else /* that of the workload is the box's; a process that is being started has none yet */
		session_signal(s, (int)sig);
	return 0;
}

/* By far most boxes are stopped with one of these. Others just end a little later. */
static bool is_to_end(int sig)
{
	return sig == SIGTERM || sig == SIGINT || sig == SIGQUIT || sig == SIGKILL;
}

void session_signal(struct session *s, int sig)
{
	if (!s->pid)
		return; /* not reaped yet, so else the number is still ours */
	bool ends = s->main && is_to_end(sig);
	if (sig == SIGKILL)
		s->ended_by = sig;
	if (ends)
		server_thaw(s->server);
	if (!s->main || server_is_bare(s->server)) {
		kill(s->pid, sig);
	} else if (signals_to_init(server_proc(s->server), s->pid, sig)) {
		server_thaw(s->server);
		s->ended_by = sig;
	}
	if (ends) /* beside what it does about it */
		server_sync_ahead(s->server);
}

static enum session_helper helper_for(uint8_t type)
{
	if (query_is_question(type))
		return HELPER_QUERY;
	switch (type) {
	case WIRE_FORWARD:
		return HELPER_FORWARD;
	case WIRE_COPY_OUT:
	case WIRE_COPY_IN:
		return HELPER_COPY;
	case WIRE_FREEZE:
		return HELPER_FREEZE;
	default:
		return HELPER_NONE;
	}
}

static int handle_frame(struct session *s, const struct wire_frame *f)
{
	bool asks = s->state == SESSION_NEW || s->state == SESSION_QUEUED;
	enum session_helper helper = asks ? helper_for(f->type) : HELPER_NONE;

	if (helper != HELPER_NONE)
		return hand_over(s, helper);
	if (f->type != WIRE_START && s->state == SESSION_NEW)
		return -EPROTO;
	switch (f->type) {
	case WIRE_START:
		return handle_start(s, f);
	case WIRE_STDIN:
		return handle_stdin(s, f);
	case WIRE_STDIN_EOF:
		s->input_ended = true;
		return 0;
	case WIRE_DETACH:
		s->detached = true;
		return 0;
	case WIRE_RESIZE:
		return handle_resize(s, f);
	case WIRE_SIGNAL:
		return handle_signal(s, f);
	default:
		return -EPROTO;
	}
}

static int handle_input(struct session *s)
{
	struct wire_frame f;
	int r;

	while ((r = wire_next(&s->in, &f)) > 0) {
		r = handle_frame(s, &f);
		if (r < 0)
			return r;
		if (s->fd < 0)
			return 0; /* dropped while answering, with everything in it */
		if (s->state == SESSION_QUEUED)
			return 0;
		wire_consume(&s->in, &f);
	}
	if (r == 0 && !s->in.len)
		buf_done(&s->in); /* most sessions are silent most of the time */
	return r;
}

static void on_connection(void *data, int fd, uint32_t events)
{
	struct session *s = data;
	uint8_t *room;
	ssize_t n;

	if (events & EPOLLOUT)
		flush_out(s);
	if (s->fd >= 0 && (events & (EPOLLIN | EPOLLHUP | EPOLLERR))) {
		room = buf_reserve(&s->in, IN_CHUNK);
		n = room ? recv(s->fd, room, IN_CHUNK, MSG_DONTWAIT) : 0;
		if (n > 0)
			buf_commit(&s->in, (size_t)n);
		/* One that waits for its turn has nothing more to say. */
		if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR) ||
			(n > 0 && (s->state == SESSION_QUEUED || handle_input(s) < 0)))
			drop_connection(s);
	}
	session_settle(s);
}

void session_retry(struct session *s)
{
	if (handle_input(s) < 0)
		drop_connection(s);
	session_settle(s);
}

/* ---- life ---- */

static void on_start_timeout(void *data)
{
	struct session *s = data;

	drop_connection(s);
	session_settle(s);
}

static bool output_done(const struct session *s)
{
	return s->stdout_end.fd < 0 && s->stderr_end.fd < 0;
}

static int watch_all(struct session *s)
{
	struct loop *loop = server_loop(s->server);
	uint32_t output = s->state == SESSION_RUNNING && !s->out.len ? EPOLLIN : 0;
	int r = 0;

	if (s->fd >= 0)
		r = loop_set_events(s->fd_source, EPOLLIN | (s->out.len ? EPOLLOUT : 0));
	if (r == 0)
		r = stream_watch(&s->stdout_end, loop, output, on_stdout, s);
	if (r == 0)
		r = stream_watch(&s->stderr_end, loop, output, on_stderr, s);
	/* The pipe's error, nobody reading it, matters only while there is something to write. */
	if (r == 0)
		r = stream_watch(&s->stdin_end, loop, s->input.len ? EPOLLOUT : 0, on_stdin, s);
	return r;
}

static void session_settle(struct session *s)
{
	if (s->state == SESSION_RUNNING || s->state == SESSION_DONE)
		move_input(s);
	if (s->state == SESSION_RUNNING && !s->pid && s->tty && !s->main)
		drain_terminal(s);
	if (s->state == SESSION_RUNNING && !s->pid && (output_done(s) || (s->fd < 0 && !s->main))) {
		send_u32(s, WIRE_EXIT, s->status);
		s->state = SESSION_DONE;
	}
	if (s->state == SESSION_DONE && s->fd >= 0 && !s->out.len)
		drop_connection(s);
	if (s->fd < 0 && !s->pid && s->state != SESSION_STARTING && s->state != SESSION_RUNNING) {
		session_free(s);
		return;
	}
	/* Out of memory for the loop: the session cannot go on, its process ends. */
	if (watch_all(s) < 0) {
		drop_connection(s);
		s->state = SESSION_DONE;
		if (s->pid)
			kill(s->pid, SIGKILL);
		else
			session_free(s);
	}
}

int session_new(struct server *server, int fd, struct session **ret)
{
	struct session *s = calloc(1, sizeof(*s));
	int r = -ENOMEM;

	if (s) {
		s->server = server;
		s->fd = fd;
		s->report = -1;
		stream_init(&s->stdin_end, -1);
		stream_init(&s->stdout_end, -1);
		stream_init(&s->stderr_end, -1);
		r = loop_add_io(server_loop(server), fd, EPOLLIN, on_connection, s, &s->fd_source);
		if (r == 0)
			r = loop_add_timer(server_loop(server), server_start_timeout(server),
				on_start_timeout, s, &s->start_timer);
	}
	if (r < 0) {
		if (s)
			loop_source_free(s->fd_source);
		close(fd);
		free(s);
		return r;
	}
	*ret = s;
	return 0;
}

void session_free(struct session *s)
{
	if (s->link) {
		*s->link = s->next;
		if (s->next)
			s->next->link = s->link;
	}
	loop_source_free(s->start_timer);
	server_new_changed(s->server);
	drop_connection(s);
	stream_close(&s->stdout_end);
	stream_close(&s->stderr_end);
	loop_source_free(s->report_source);
	close_fd(&s->report);
	free(s);
}
