/* SPDX-License-Identifier: MIT */
/*
 * THEORY OF OPERATION
 *
 * An event loop over the connection, standard input and a pipe that signal handlers write to. Output is written with
 * blocking writes: a slow reader of ours thereby slows the workload, link by link. The handlers are installed without
 * SA_RESTART, so that a signal interrupts such a write and is passed on even while nobody reads.
 */
#include "session.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>

#include "base/io.h"
#include "base/loop.h"
#include "wire/conn.h"

enum {
	IMPATIENCE = 3,	     /* so many SIGINT or SIGTERM kill the process, and one more ends this command */
	QUEUE_MAX = 2 << 20, /* bytes waiting for the guest: a window of input in the smallest frames */
};

struct session {
	const struct session_opts *o;
	struct loop *loop;
	struct wire_conn *conn;
	struct loop_source *stdin_io, *stdin_again;
	struct loop_source *slow; /* timer: say that it takes long */
	bool stdin_is_file;	  /* epoll does not take regular files: they are always ready */
	bool stdin_eof, started, out_closed[2];
	uint32_t credit;
	int last_signal, urgent;
	bool ended;
	int status; /* of the process, once ended */
	struct err *e;
};

#define SLOW_NS 10000000000ull

static int signal_pipe[2] = {-1, -1};
static struct termios saved_termios;
static volatile sig_atomic_t termios_saved;

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
	if (termios_saved) {
		tcsetattr(STDIN_FILENO, TCSADRAIN, &saved_termios);
		termios_saved = 0;
	}
}

static void raw_terminal(void)
{
	struct termios raw;

	if (tcgetattr(STDIN_FILENO, &saved_termios) < 0)
		return;
	termios_saved = 1;
	atexit(restore_terminal);
	raw = saved_termios;
	cfmakeraw(&raw);
	tcsetattr(STDIN_FILENO, TCSADRAIN, &raw);
}

static void send_size(struct session *s)
{
	struct winsize ws;
	for (int fd = 0; fd < 3; fd++) {
		if (ioctl(fd, TIOCGWINSZ, &ws) == 0) {
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

static void pass_signal(struct session *s, int sig)
{
	if (sig == SIGWINCH) {
		if (s->o->tty)
			send_size(s);
		return;
	}
	s->last_signal = sig;
	if (sig == SIGINT || sig == SIGTERM)
		s->urgent++;
	if (s->urgent > IMPATIENCE) {
		finish(s, 128 + sig);
		return;
	}
	if (s->urgent == IMPATIENCE - 1)
		fprintf(stderr, "a3s-box: once more to kill the process at once\n");
	wire_put_u32(
		wire_conn_out(s->conn), WIRE_SIGNAL, (uint32_t)(s->urgent >= IMPATIENCE ? SIGKILL : sig));
	wire_conn_flush(s->conn);
}

static void take_signals(struct session *s)
{
	uint8_t sig;
	while (read(signal_pipe[0], &sig, 1) == 1)
		pass_signal(s, sig);
}

static void on_signal_pipe(void *data, int fd, uint32_t events)
{
	take_signals(data);
}

static int watch_signals(struct session *s, struct loop_source **ret)
{
	static const int proxied[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGALRM};
	struct sigaction sa = {.sa_handler = on_signal_async};

	if (pipe2(signal_pipe, O_CLOEXEC | O_NONBLOCK) < 0)
		return -errno;
	sigaction(SIGWINCH, &sa, NULL);
	for (size_t i = 0; s->o->sig_proxy && i < ARRAY_LEN(proxied); i++) {
		struct sigaction old;
		sigaction(proxied[i], &sa, &old);
		if (old.sa_handler == SIG_IGN) /* nohup, and background jobs of shells */
			sigaction(proxied[i], &old, NULL);
	}
	return loop_add_io(s->loop, signal_pipe[0], EPOLLIN, on_signal_pipe, s, ret);
}

/* Writes all, passing signals on while blocked. What a closed reader misses is dropped, and the workload told. */
static void write_output(struct session *s, int fd, const uint8_t *data, size_t len)
{
	while (len && !s->out_closed[fd - 1]) {
		ssize_t n = write(fd, data, len);
		if (n >= 0) {
			data += n;
			len -= (size_t)n;
		} else if (errno == EINTR) {
			take_signals(s);
		} else if (errno == EAGAIN) { /* somebody made our output non-blocking */
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

static void stdin_closed(struct session *s)
{
	s->stdin_eof = true;
	loop_source_free(TAKE_PTR(s->stdin_io));
	wire_put(wire_conn_out(s->conn), WIRE_STDIN_EOF, NULL, 0);
	wire_conn_flush(s->conn);
}

static void read_stdin(struct session *s)
{
	uint8_t chunk[WIRE_DATA_MAX];

	if (s->stdin_eof || s->credit == 0)
		return;
	ssize_t n = read(STDIN_FILENO, chunk, MIN_OF(sizeof(chunk), (size_t)s->credit));
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		stdin_closed(s);
		return;
	}
	s->credit -= (uint32_t)n;
	wire_put(wire_conn_out(s->conn), WIRE_STDIN, chunk, (size_t)n);
	wire_conn_flush(s->conn);
	if (s->stdin_is_file)
		loop_defer(s->stdin_again);
	else if (s->credit == 0)
		loop_set_events(s->stdin_io, 0);
}

static void on_stdin(void *data, int fd, uint32_t events)
{
	struct session *s = data;

	if (s->credit) {
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
	if (!s->o->stdin_open || s->stdin_eof || !s->started || s->credit == 0)
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

static int on_fail(struct session *s, const struct wire_frame *f)
{
	CLEANUP_FREE char *text = NULL;
	uint32_t status;
	int r = wire_get_fail(f, &status, &text);
	if (r < 0)
		return r;
	/* The user asked for it to end before it began: that is no failure to explain. */
	if (s->last_signal && status == 125)
		finish(s, 128 + s->last_signal);
	else {
		err_set(s->e, -EIO, "%s", text);
		finish(s, status >= 1 && status <= 255 ? (int)status : 125);
	}
	return 0;
}

static int on_frame(void *data, struct wire_conn *c, const struct wire_frame *f)
{
	struct session *s = data;
	uint32_t v;
	int r;

	switch (f->type) {
	case WIRE_STARTED:
		s->started = true;
		loop_source_free(TAKE_PTR(s->slow));
		if (s->o->until_started)
			finish(s, 0);
		else if (s->o->tty && s->o->stdin_open && isatty(STDIN_FILENO))
			raw_terminal();
		add_credit(s, 0);
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
		r = wire_get_u32(f, &v);
		if (r < 0 || v > 255)
			return -EBADMSG;
		finish(s, (int)v);
		return 0;
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

static const struct wire_conn_ops conn_ops = {.on_frame = on_frame, .on_end = on_end};

static void on_slow(void *data)
{
	if (isatty(STDERR_FILENO)) /* nobody else waits for a word; scripts read what is there */
		fprintf(stderr,
			"a3s-box: still starting (a busy or emulated host takes its time; ^C gives up)\n");
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
		r = loop_add_timer(s->loop, SLOW_NS, on_slow, s, &s->slow);
	if (r == 0)
		r = watch_signals(s, signals);
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
		err_sys(e, r, "cannot set up the session");
	} else {
		wire_conn_flush(s.conn);
		if (o->tty)
			send_size(&s);
		r = loop_run(s.loop);
		/* Output that is lost is no success, whatever the process says. */
		*ret_status = s.status == 0 && e->code ? 1 : s.status;
	}
	restore_terminal();
	loop_source_free(s.stdin_io);
	loop_source_free(s.stdin_again);
	loop_source_free(s.slow);
	loop_source_free(signals);
	wire_conn_free(s.conn);
	loop_free(s.loop);
	if (r < 0 && !e->code)
		return err_sys(e, r, "session");
	return e->code ? e->code : s.status;
}
