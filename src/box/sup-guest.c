/* SPDX-License-Identifier: MIT */
/* The supervisor's connections with the guest. Whatever arrives here was written by an attacker. */
#include <string.h>
#include <sys/socket.h>

#include "base/io.h"
#include "base/log.h"
#include "box/network.h"
#include "run.h"
#include "supervisor.h"

#define CONTROL_SOCKET RUN_VSOCK_SOCKET "_4088"
_Static_assert(WIRE_PORT_CONTROL == 4088, "the socket's name says the port");

static void send_config(struct supervisor *s)
{
	CLEANUP(wire_config_done) struct wire_config c = {0};
	struct err e = {0};

	int r = box_fill_config(s->box, &c);
	if (r == 0)
		r = box_fs_fill(&s->run.fs, s->box, &c);
	if (r < 0)
		err_sys(&e, r, "cannot configure the guest");
	else
		r = s->net ? sup_net_fill(s->net, false, &c.network, &e)
			   : box_fill_network(s->box, NULL, NULL, 0, &c.network, &e);
	if (r < 0) {
		sup_start_failed(s, 125, e.msg);
		return;
	}
	c.real_ns = time_real_ns();
	io_random(c.entropy, sizeof(c.entropy));
	r = wire_put_config(wire_conn_out(s->run.control), &c);
	explicit_bzero(c.entropy, sizeof(c.entropy));
	if (r < 0)
		sup_start_failed(s, 125, strerror(-r));
	else
		wire_conn_flush(s->run.control);
}

/* ---- session: the workload ---- */

static int on_session_fail(struct supervisor *s, const struct wire_frame *f)
{
	CLEANUP_FREE char *text = NULL;
	uint32_t status;
	int r = wire_get_fail(f, &status, &text);
	if (r < 0)
		return r;
	sup_start_failed(s, status == 126 || status == 127 ? (int)status : 125, text);
	return 0;
}

static int on_session_frame(void *data, struct wire_conn *conn, const struct wire_frame *f)
{
	struct supervisor *s = data;
	struct err e = {0};
	uint32_t v = 0;
	int r;

	if (s->run.phase == SUP_LAUNCH) {
		if (f->type == WIRE_FAIL)
			return on_session_fail(s, f);
		r = f->type == WIRE_STARTED ? wire_get_u32(f, &s->run.workload_pid) : -EBADMSG;
		if (r < 0)
			return r;
		r = sup_record_running(s, &e);
		if (r < 0) {
			sup_start_failed(s, 125, e.msg);
			return 0;
		}
		sup_running(s);
		return 0;
	}
	if (s->run.phase != SUP_RUNNING)
		return 0;
	switch (f->type) {
	case WIRE_STDOUT:
	case WIRE_STDERR:
		sup_first_output(s);
		sup_log_put(s, f->type == WIRE_STDERR, f->payload, f->len);
		sup_clients_output(s, (enum wire_type)f->type, f->payload, f->len);
		return 0;
	case WIRE_STDIN_CREDIT:
		r = wire_get_u32(f, &v);
		if (r < 0 || v > WIRE_STDIN_WINDOW || s->run.guest_credit + v > WIRE_STDIN_WINDOW)
			return -EBADMSG;
		/* Credit for input that it never took off the wire would have us queue without end. */
		if (wire_conn_pending(conn) > SUP_SESSION_QUEUE_MAX)
			return -EBADMSG;
		s->run.guest_credit += v;
		sup_clients_pump_stdin(s);
		return 0;
	case WIRE_EXIT:
		r = wire_get_u32(f, &v);
		if (r < 0 || (v & ~WIRE_EXIT_OOM) > 255)
			return -EBADMSG;
		sup_milestone(s, "workload ended");
		sup_workload_ended(s, (int)v);
		return 0;
	default:
		return -EBADMSG;
	}
}

static void on_session_end(void *data, struct wire_conn *conn, int error)
{
	struct supervisor *s = data;

	wire_conn_free(TAKE_PTR(s->run.session));
	if (error == -EBADMSG && s->run.phase <= SUP_RUNNING)
		sup_finish(s, 137, "the guest broke the protocol");
	else if (s->run.phase == SUP_LAUNCH)
		sup_guest_lost(s, "the guest refused to start the workload");
	else if (s->run.phase == SUP_RUNNING)
		sup_guest_lost(s, "the guest ended the session");
}

static const struct wire_conn_ops session_ops = {.on_frame = on_session_frame, .on_end = on_session_end};

static void start_workload(struct supervisor *s, int fd)
{
	struct wire_process *p = &s->box->config.process;
	struct err e = {0};
	int r = wire_conn_new(s->loop, fd, &session_ops, s, &s->run.session);

	if (r == 0 && box_fill_process(s->st, s->box, p, &e) < 0) {
		sup_start_failed(s, 125, e.msg);
		return;
	}
	if (r == 0) {
		p->main = true;
		r = wire_put_process(wire_conn_out(s->run.session), p);
	}
	if (r < 0) {
		sup_start_failed(
			s, 125, r == -EMSGSIZE ? "command line and environment are too long" : strerror(-r));
		return;
	}
	wire_conn_flush(s->run.session);
}

int sup_guest_dial(const struct supervisor *s, struct handshake *h)
{
	/* Our own listener: its backlog takes us at once. */
	CLEANUP_CLOSE int fd = unix_connect_at(s->run_fd, RUN_VSOCK_SOCKET);
	int r = fd < 0 ? fd : io_set_nonblock(fd, true);

	if (r == 0)
		r = handshake_ask(h, fd, WIRE_PORT_SESSION);
	return r < 0 ? r : TAKE_FD(fd);
}

static void on_handshake(void *data, int fd, uint32_t events)
{
	struct supervisor *s = data;
	int r = handshake_read(&s->run.handshake, fd);

	if (r == 0)
		return;
	loop_source_free(TAKE_PTR(s->run.handshake_io));
	if (r > 0)
		start_workload(s, TAKE_FD(s->run.handshake_fd));
	else
		sup_start_failed(s, 125, "the guest does not accept sessions");
}

static void open_session(struct supervisor *s)
{
	s->run.phase = SUP_LAUNCH;
	int r = sup_guest_dial(s, &s->run.handshake);
	if (r >= 0) {
		s->run.handshake_fd = r;
		r = loop_add_io(s->loop, s->run.handshake_fd, EPOLLIN, on_handshake, s, &s->run.handshake_io);
	}
	if (r < 0)
		sup_start_failed(s, 125, strerror(-r));
}

void sup_guest_network_ready(struct supervisor *s)
{
	if (s->run.phase == SUP_BOOT && s->run.guest_ready)
		open_session(s);
}

/* ---- control ---- */

static int on_control_frame(void *data, struct wire_conn *conn, const struct wire_frame *f)
{
	struct supervisor *s = data;
	struct wire_hello h;
	CLEANUP_FREE char *text = NULL;
	uint32_t status;
	int r;

	switch (f->type) {
	case WIRE_HELLO:
		if (s->run.phase != SUP_BOOT || s->run.greeted)
			return -EBADMSG;
		sup_milestone(s, "guest connected");
		s->run.greeted = true; /* once: an answer to each would be a way to fill our memory */
		r = wire_get_hello(f, &h);
		if (r < 0)
			return r;
		r = h.version == WIRE_VERSION ? 0 : -EPROTO;
		wire_hello_done(&h);
		if (r == 0)
			send_config(s);
		return r;
	case WIRE_READY:
		if (s->run.phase != SUP_BOOT)
			return -EBADMSG;
		if (s->run.guest_ready)
			return -EBADMSG;
		sup_milestone(s, "guest ready");
		s->run.guest_ready = true;
		if (sup_net_ready(s))
			open_session(s);
		return 0;
	case WIRE_FAIL:
		r = wire_get_fail(f, &status, &text);
		if (r < 0 || s->run.phase > SUP_LAUNCH)
			return -EBADMSG;
		sup_start_failed(s, 125, text);
		return 0;
	case WIRE_BYE:
		if (s->run.phase == SUP_FLUSH) {
			sup_milestone(s, "disk clean");
			sup_finish(s, s->run.exit_code, NULL);
		}
		return 0;
	case WIRE_PONG:
		return 0;
	default:
		return -EBADMSG;
	}
}

static void on_control_end(void *data, struct wire_conn *conn, int error)
{
	struct supervisor *s = data;

	wire_conn_free(TAKE_PTR(s->run.control));
	if ((error == -EBADMSG || error == -EPROTO) && s->run.phase <= SUP_RUNNING)
		sup_finish(s, 137, "the guest broke the protocol");
	else if (s->run.phase <= SUP_LAUNCH)
		sup_guest_lost(s, "the guest went away while booting");
	else if (s->run.phase == SUP_RUNNING)
		sup_guest_lost(s, "the guest went away");
	else if (s->run.phase == SUP_FLUSH)
		sup_finish(s, s->run.exit_code, "the guest did not unmount its disk");
}

static const struct wire_conn_ops control_ops = {.on_frame = on_control_frame, .on_end = on_control_end};

static void on_control_accept(void *data, int fd, uint32_t events)
{
	struct supervisor *s = data;
	int conn = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (conn < 0)
		return;
	/* One guest, one control connection, for life: the next can only be forged from inside. */
	loop_source_free(TAKE_PTR(s->run.control_io));
	close_fd(&s->run.control_listen_fd);
	unlinkat(s->run_fd, CONTROL_SOCKET, 0);
	int r = wire_conn_new(s->loop, conn, &control_ops, s, &s->run.control);
	if (r < 0)
		sup_start_failed(s, 125, strerror(-r));
}

int sup_guest_listen(struct supervisor *s, struct err *e)
{
	s->run.control_listen_fd = unix_listen_at(s->run_fd, CONTROL_SOCKET);
	int r = s->run.control_listen_fd;
	if (r >= 0)
		r = loop_add_io(
			s->loop, s->run.control_listen_fd, EPOLLIN, on_control_accept, s, &s->run.control_io);
	return r < 0 ? err_sys(e, r, "cannot listen for the guest") : 0;
}

void sup_guest_signal(struct supervisor *s, int sig)
{
	if (s->run.session) {
		wire_put_u32(wire_conn_out(s->run.session), WIRE_SIGNAL, (uint32_t)sig);
		wire_conn_flush(s->run.session);
	}
}

void sup_guest_resize(struct supervisor *s, uint16_t rows, uint16_t cols)
{
	if (s->run.session) {
		wire_put_resize(wire_conn_out(s->run.session), rows, cols);
		wire_conn_flush(s->run.session);
	} else { /* not started yet: it starts with the right size */
		s->box->config.process.rows = rows;
		s->box->config.process.cols = cols;
	}
}

void sup_guest_throttle(struct supervisor *s, bool stop)
{
	if (s->run.session)
		wire_conn_pause(s->run.session, stop);
}

void sup_guest_shutdown(struct supervisor *s)
{
	if (!s->run.control) {
		sup_finish(s, s->run.exit_code, NULL);
		return;
	}
	wire_put(wire_conn_out(s->run.control), WIRE_SHUTDOWN, NULL, 0);
	wire_conn_flush(s->run.control);
}

void sup_guest_close(struct supervisor *s)
{
	wire_conn_free(TAKE_PTR(s->run.session));
	wire_conn_free(TAKE_PTR(s->run.control));
	loop_source_free(TAKE_PTR(s->run.handshake_io));
	close_fd(&s->run.handshake_fd);
	loop_source_free(TAKE_PTR(s->run.control_io));
	close_fd(&s->run.control_listen_fd);
}
