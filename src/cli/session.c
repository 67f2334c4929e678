/* SPDX-License-Identifier: MIT */
/*
 * THEORY OF OPERATION
 *
 * An event loop over the connection, standard input and a pipe that signal handlers write to. Output is written with
 * blocking writes: a slow reader of ours thereby slows the workload, link by link. The handlers are installed without
 * SA_RESTART, so that a signal interrupts such a write and is passed on even while nobody reads. The time limit of an exec
 * is such a signal too.
 */
#include "session.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <time.h>

#include "audit.h"
#include "base/io.h"
#include "base/loop.h"
#include "detach.h"
#include "wire/conn.h"

enum {
	IMPATIENCE = 3,	     /* so many SIGINT or SIGTERM kill the process, and one more ends this command */
	QUEUE_MAX = 2 << 20, /* bytes waiting for the guest: a window of input in the smallest frames */
	/* Seconds after the time limit's SIGTERM: SIGKILL, and no more waiting. */
	LIMIT_KILL_S = 5,
	LIMIT_LOST_S = 15,
};

#define KEYS_NS	  1000000000ull /* who pauses so long amid the detach keys wants them passed on */
#define DETACH_NS 2000000000ull /* for a guest that does not take the word */

struct session {
	const struct session_opts *o;
	struct loop *loop;
	struct wire_conn *conn;
	struct loop_source *stdin_io, *stdin_again;
	struct loop_source *slow; /* timer: say that it takes long */
	bool stdin_is_file;	  /* epoll does not take regular files: they are always ready */
	bool stdin_eof, started, out_closed[2];
	uint32_t credit;
	struct detach keys;
	struct loop_source *keys_timer; /* while keys are held, or detaching */
	bool detaching;
	int last_signal, urgent;
	timer_t limit_timer;
	bool limited;	  /* limit_timer exists */
	int limit_passed; /* seconds since it ran out, from 1 on */
	bool ended;
	int status; /* of the process, once ended */
	struct err *e;
};

static const int proxied[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGALRM};
enum { N_ENDING = 4 }; /* the first ones: what ends a command from outside */

static int signal_pipe[2] = {-1, -1};
static struct sigaction saved_actions[_NSIG];
static sigset_t watched;
static struct termios saved_termios;
static bool termios_known, terminal_is_raw;

static void on_signal_async(int sig)
{
	uint8_t byte = (uint8_t)sig;
	int saved = errno;
	if (write(signal_pipe[1], &byte, 1) < 0)
		byte = 0; /* the pipe is full of signals already */
	errno = saved;
}

static void restore_terminal(void)
{
	if (terminal_is_raw) {
		tcsetattr(STDIN_FILENO, TCSADRAIN, &saved_termios);
		terminal_is_raw = false;
	}
}

static void raw_terminal(void)
{
	struct termios raw;

	if (!termios_known) {
		if (tcgetattr(STDIN_FILENO, &saved_termios) < 0)
			return;
		termios_known = true;
		atexit(restore_terminal);
	}
	raw = saved_termios;
	cfmakeraw(&raw);
	tcsetattr(STDIN_FILENO, TCSADRAIN, &raw);
	terminal_is_raw = true;
}

static bool wants_raw(const struct session *s)
{
	return s->started && s->o->tty && s->o->stdin_open && isatty(STDIN_FILENO);
}

static void send_size(struct session *s, bool redraw)
{
	struct winsize ws;
	for (int fd = 0; fd < 3; fd++) {
		if (ioctl(fd, TIOCGWINSZ, &ws) == 0) {
			if (redraw) /* Linux signals only a size that is another one */
				wire_put_resize(wire_conn_out(s->conn), ws.ws_row, (uint16_t)(ws.ws_col + 1));
			wire_put_resize(wire_conn_out(s->conn), ws.ws_row, ws.ws_col);
			wire_conn_flush(s->conn);
			return;
		}
	}
}

static void finish(struct session *s, int status)
{
	s->ended = true;
	s->status = status;
	loop_quit(s->loop, 0);
}

static void send_signal(struct session *s, uint32_t sig)
{
	wire_put_u32(wire_conn_out(s->conn), WIRE_SIGNAL, sig);
	wire_conn_flush(s->conn);
}

/* A second of the time that an exec gets after its limit. */
static void on_limit(struct session *s)
{
	s->limit_passed++;
	if (!s->started) { /* nobody who could take SIGTERM, and perhaps never */
		if (s->limit_passed == 1)
			send_signal(s, SIGKILL);
		else if (s->limit_passed >= 1 + LIMIT_KILL_S)
			finish(s, 124);
		return;
	}
	if (s->limit_passed == 1)
		send_signal(s, SIGTERM | WIRE_SIGNAL_GROUP);
	else if (s->limit_passed == 1 + LIMIT_KILL_S)
		send_signal(s, SIGKILL | WIRE_SIGNAL_GROUP);
	else if (s->limit_passed >= 1 + LIMIT_LOST_S)
		finish(s, 124);
}

static void pass_signal(struct session *s, int sig)
{
	s->last_signal = sig;
	if (!s->o->sig_proxy && sig != SIGPIPE) {
		finish(s, 128 + sig);
		return;
	}
	if (sig == SIGINT || sig == SIGTERM)
		s->urgent++;
	if (s->urgent > IMPATIENCE) {
		finish(s, 128 + sig);
		return;
	}
	if (s->urgent == IMPATIENCE - 1)
		fprintf(stderr, "a3s-box: once more to kill the process at once\n");
	send_signal(s, (uint32_t)(s->urgent >= IMPATIENCE ? SIGKILL : sig));
}

static void take_signal(struct session *s, int sig)
{
	if (sig == SIGWINCH) {
		if (s->o->tty)
			send_size(s, false);
	} else if (sig == SIGTSTP) { /* the shell gets its terminal back as it was */
		restore_terminal();
		raise(SIGSTOP);
	} else if (sig == SIGCONT) {
		if (wants_raw(s))
			raw_terminal();
		send_size(s, false);
	} else if (sig == SIGRTMIN) {
		on_limit(s);
	} else {
		pass_signal(s, sig);
	}
}

static void take_signals(struct session *s)
{
	uint8_t sig;
	while (!s->ended && read(signal_pipe[0], &sig, 1) == 1)
		take_signal(s, sig);
}

static void on_signal_pipe(void *data, int fd, uint32_t events)
{
	take_signals(data);
}

static void watch_signal(int sig)
{
	struct sigaction sa = {.sa_handler = on_signal_async};

	sigaction(sig, &sa, &saved_actions[sig]);
	if (saved_actions[sig].sa_handler == SIG_IGN) /* nohup, and background jobs of shells */
		sigaction(sig, &saved_actions[sig], NULL);
	else
		sigaddset(&watched, sig);
}

static int watch_signals(struct session *s, struct loop_source **ret)
{
	const struct session_opts *o = s->o;
	/* Who only waits for a start ends by them as any command does. */
	size_t n = o->sig_proxy ? ARRAY_LEN(proxied) : o->until_started ? 0 : N_ENDING;

	sigemptyset(&watched);
	if (pipe2(signal_pipe, O_CLOEXEC | O_NONBLOCK) < 0)
		return -errno;
	for (size_t i = 0; i < n; i++)
		watch_signal(proxied[i]);
	watch_signal(SIGWINCH);
	if (o->tty && o->stdin_open) {
		watch_signal(SIGTSTP);
		watch_signal(SIGCONT);
	}
	if (o->limit_ns)
		watch_signal(SIGRTMIN);
	return loop_add_io(s->loop, signal_pipe[0], EPOLLIN, on_signal_pipe, s, ret);
}

static void unwatch_signals(void)
{
	for (int sig = 1; sig < _NSIG; sig++) {
		if (sigismember(&watched, sig) == 1)
			sigaction(sig, &saved_actions[sig], NULL);
	}
	close_fd(&signal_pipe[0]);
	close_fd(&signal_pipe[1]);
}

static int start_limit(struct session *s)
{
	struct sigevent ev = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN};
	struct itimerspec when = {.it_interval.tv_sec = 1};

	when.it_value.tv_sec = (time_t)(s->o->limit_ns / 1000000000);
	when.it_value.tv_nsec = (long)(s->o->limit_ns % 1000000000);
	if (timer_create(CLOCK_MONOTONIC, &ev, &s->limit_timer) < 0)
		return -errno;
	s->limited = true;
	return timer_settime(s->limit_timer, 0, &when, NULL) < 0 ? -errno : 0;
}

/* Writes all, passing signals on while blocked. What a closed reader misses is dropped, and the workload told. */
static void write_output(struct session *s, int fd, const uint8_t *data, size_t len)
{
	while (len && !s->out_closed[fd - 1] && !s->ended) {
		ssize_t n = write(fd, data, len);
		if (n >= 0) {
			data += n;
			len -= (size_t)n;
		} else if (errno == EINTR) {
			take_signals(s);
			s->out_closed[fd - 1] |=
				s->limit_passed > 1; /* a second past its time, and nobody reads */
		} else if (errno == EAGAIN) {	     /* somebody made our output non-blocking */
			fd_set set;
			FD_ZERO(&set);
			FD_SET(fd, &set);
			select(fd + 1, NULL, &set, NULL, NULL);
			take_signals(s);
		} else {
			s->out_closed[fd - 1] = true;
			if (errno != EPIPE)
				err_sys(s->e, -errno, "cannot write the process's output");
			pass_signal(s, SIGPIPE); /* what a process hears whose output nobody takes */
		}
	}
}

/* Bytes that may be read: keys that are held may have to be sent still. */
static size_t input_room(const struct session *s)
{
	return s->credit - s->keys.held;
}

static void send_input(struct session *s, const uint8_t *data, size_t n)
{
	if (n == 0)
		return;
	s->credit -= (uint32_t)n;
	wire_put(wire_conn_out(s->conn), WIRE_STDIN, data, n);
	wire_conn_flush(s->conn);
}

static void release_keys(struct session *s)
{
	uint8_t keys[DETACH_KEYS_MAX];

	send_input(s, keys, detach_release(&s->keys, keys));
}

/* The user leaves; the process stays. */
static void detach(struct session *s)
{
	s->detaching = true;
	if (s->o->to_guest)
		wire_put(wire_conn_out(s->conn), WIRE_DETACH, NULL, 0);
	wire_conn_flush(s->conn);
	if (wire_conn_pending(s->conn) == 0)
		finish(s, s->o->detach_status);
	else
		loop_set_timer(s->keys_timer, DETACH_NS);
}

static void stdin_closed(struct session *s)
{
	release_keys(s);
	s->stdin_eof = true;
	loop_source_free(TAKE_PTR(s->stdin_io));
	wire_put(wire_conn_out(s->conn), WIRE_STDIN_EOF, NULL, 0);
	wire_conn_flush(s->conn);
}

static void read_stdin(struct session *s)
{
	uint8_t chunk[WIRE_DATA_MAX - DETACH_KEYS_MAX], typed[WIRE_DATA_MAX];
	bool detached;

	if (s->stdin_eof || s->detaching || input_room(s) == 0)
		return;
	ssize_t n = read(STDIN_FILENO, chunk, MIN_OF(sizeof(chunk), input_room(s)));
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		stdin_closed(s);
		return;
	}
	size_t passed = detach_filter(&s->keys, chunk, (size_t)n, typed, &detached);
	send_input(s, typed, passed);
	loop_set_timer(s->keys_timer, s->keys.held ? KEYS_NS : UINT64_MAX);
	if (s->stdin_is_file)
		loop_defer(s->stdin_again);
	else if (detached || input_room(s) == 0)
		loop_set_events(s->stdin_io, 0);
	if (detached)
		detach(s);
}

static void on_stdin(void *data, int fd, uint32_t events)
{
	struct session *s = data;

	if (input_room(s) && !s->detaching) {
		read_stdin(s);
	} else if (events & (EPOLLHUP | EPOLLERR)) {
		/* HUP cannot be masked: off the loop until there is credit to read the rest with. */
		loop_source_free(TAKE_PTR(s->stdin_io));
	}
}

static void on_stdin_again(void *data)
{
	read_stdin(data);
}

static void add_credit(struct session *s, uint32_t bytes)
{
	s->credit += bytes;
	/* Before the process runs, the terminal is still an ordinary one, where ^C means this command. */
	if (!s->o->stdin_open || s->stdin_eof || s->detaching || !s->started || input_room(s) == 0)
		return;
	if (!s->stdin_is_file && !s->stdin_io) {
		int r = loop_add_io(s->loop, STDIN_FILENO, EPOLLIN, on_stdin, s, &s->stdin_io);
		if (r == -EPERM)
			s->stdin_is_file = true;
		else if (r < 0)
			stdin_closed(s); /* closed, or nothing that can be waited for */
	}
	if (s->stdin_io)
		loop_set_events(s->stdin_io, EPOLLIN);
	if (s->stdin_is_file)
		loop_defer(s->stdin_again);
}

static void on_keys_timer(void *data)
{
	struct session *s = data;

	if (s->detaching) {
		finish(s, s->o->detach_status);
		return;
	}
	release_keys(s);
	add_credit(s, 0);
}

static int on_fail(struct session *s, const struct wire_frame *f)
{
	CLEANUP_FREE char *text = NULL;
	uint32_t status;
	int r = wire_get_fail(f, &status, &text);
	if (r < 0)
		return r;
	/* The user asked for it to end before it began: that is no failure to explain. */
	if (s->last_signal && !s->started && status == 125)
		finish(s, 128 + s->last_signal);
	else {
		err_set(s->e, -EIO, "%s", text);
		finish(s, status >= 1 && status <= 255 ? (int)status : 125);
	}
	return 0;
}

static void on_started(struct session *s)
{
	s->started = true;
	loop_source_free(TAKE_PTR(s->slow));
	if (s->o->on_started)
		s->o->on_started(s->o->data);
	if (!s->o->until_started)
		audit_started();
	if (s->o->until_started)
		finish(s, 0);
	else if (wants_raw(s))
		raw_terminal();
	add_credit(s, 0);
}

static int on_exit_status(struct session *s, const struct wire_frame *f)
{
	uint32_t v;
	int r = wire_get_u32(f, &v);

	v &= ~WIRE_EXIT_OOM;
	if (r < 0 || v > 255)
		return -EBADMSG;
	finish(s, s->limit_passed ? 124 : (int)v);
	return 0;
}

static int on_frame(void *data, struct wire_conn *c, const struct wire_frame *f)
{
	struct session *s = data;
	uint32_t v;
	int r;

	switch (f->type) {
	case WIRE_STARTED:
		if (!s->started)
			on_started(s);
		return 0;
	case WIRE_STDOUT:
	case WIRE_STDERR:
		write_output(s, f->type == WIRE_STDOUT ? STDOUT_FILENO : STDERR_FILENO, f->payload, f->len);
		return 0;
	case WIRE_STDIN_CREDIT:
		r = wire_get_u32(f, &v);
		/* Credit for input that was never taken off the wire would have us queue without end. */
		if (r < 0 || v > WIRE_STDIN_WINDOW || s->credit + v > WIRE_STDIN_WINDOW ||
			wire_conn_pending(s->conn) > QUEUE_MAX)
			return -EBADMSG;
		add_credit(s, v);
		return 0;
	case WIRE_EXIT:
		return on_exit_status(s, f);
	case WIRE_FAIL:
		return on_fail(s, f);
	default:
		return -EBADMSG;
	}
}

static void on_end(void *data, struct wire_conn *c, int error)
{
	struct session *s = data;

	if (s->ended)
		return;
	err_set(s->e, -EPIPE,
		error == -EBADMSG ? "the box broke the protocol"
				  : "the box is gone: it was killed, or its supervisor died");
	finish(s, s->started ? 137 : 125);
}

static void on_written(void *data, struct wire_conn *c)
{
	struct session *s = data;

	if (s->detaching && !s->ended && wire_conn_pending(c) == 0)
		finish(s, s->o->detach_status);
}

static const struct wire_conn_ops conn_ops = {
	.on_frame = on_frame, .on_end = on_end, .on_written = on_written};

void session_say_slow(void)
{
	if (isatty(STDERR_FILENO)) /* nobody else waits for a word; scripts read what is there */
		fprintf(stderr,
			"a3s-box: still starting (a busy or emulated host takes its time; ^C gives up)\n");
}

static void on_slow(void *data)
{
	session_say_slow();
}

static int set_up(struct session *s, struct loop_source **signals)
{
	int r = loop_new(&s->loop);
	if (r == 0)
		r = wire_conn_new(s->loop, s->o->fd, &conn_ops, s, &s->conn);
	else
		close(s->o->fd);
	if (r == 0)
		r = loop_add_deferred(s->loop, on_stdin_again, s, &s->stdin_again);
	if (r == 0)
		r = loop_add_timer(s->loop, SESSION_SLOW_NS, on_slow, s, &s->slow);
	if (r == 0)
		r = loop_add_timer(s->loop, UINT64_MAX, on_keys_timer, s, &s->keys_timer);
	if (r == 0 && s->o->tty && s->o->stdin_open)
		r = detach_parse(s->o->detach_keys, &s->keys, s->e);
	if (r == 0)
		r = watch_signals(s, signals);
	if (r == 0 && s->o->limit_ns)
		r = start_limit(s);
	if (r == 0)
		r = buf_append(wire_conn_out(s->conn), buf_data(s->o->opening), s->o->opening->len);
	return r;
}

int session_run(const struct session_opts *o, int *ret_status, struct err *e)
{
	struct session s = {.o = o, .e = e};
	struct loop_source *signals = NULL;

	e->code = 0;
	*ret_status = 125;
	signal(SIGPIPE, SIG_IGN);
	int r = set_up(&s, &signals);
	if (r < 0) {
		if (!e->code)
			err_sys(e, r, "cannot set up the session");
	} else {
		wire_conn_flush(s.conn);
		if (o->tty)
			send_size(&s, o->redraw);
		r = loop_run(s.loop);
		if (s.limit_passed && s.status == 124)
			err_set(e, -ETIMEDOUT, "--timeout: its time ran out, and it was ended");
		/* Output that is lost is no success, whatever the process says. */
		*ret_status = s.status == 0 && e->code ? 1 : s.status;
	}
	if (s.limited)
		timer_delete(s.limit_timer);
	unwatch_signals();
	restore_terminal();
	if (s.detaching)
		fprintf(stderr, "read escape sequence\n");
	if (o->ret_detached)
		*o->ret_detached = s.detaching;
	loop_source_free(s.stdin_io);
	loop_source_free(s.stdin_again);
	loop_source_free(s.slow);
	loop_source_free(s.keys_timer);
	loop_source_free(signals);
	wire_conn_free(s.conn);
	loop_free(s.loop);
	if (r < 0 && !e->code)
		return err_sys(e, r, "session");
	return e->code ? e->code : s.status;
}
