/* SPDX-License-Identifier: MIT */
/*
 * THEORY OF OPERATION
 *
 * What a supervisor does for a box, in short: machine, control connection, configuration, one process, shutdown. It is the work
 * of a thread with a loop of its own, since the caller copies with blocking descriptors meanwhile, and the vsock device may be
 * served by this process. The thread starts the machine, so that the machine dies with it, and it with us.
 *
 *     BOOT     machine started; the guest connects, is configured, says READY
 *     LAUNCH   START sent, for a process that only waits (guest/init.h)
 *     UP       STARTED seen; maintenance_start returns
 *     FLUSH    SHUTDOWN sent; the guest unmounts
 *     OVER     BYE seen, or something failed (m->err): the loop ends, and everything is released
 *
 * The configuration is the box's as far as it decides what its files look like. Its limits but for memory, its sysctls and its
 * networks are not applied: they are about what runs.
 *
 * The threads share the phase and the error, which this one writes, and the orders of the other.
 */
#include "maintenance.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "base/io.h"
#include "base/log.h"
#include "base/loop.h"
#include "box/network.h"
#include "box/seccomp.h"
#include "machine-parts.h"
#include "run.h"
#include "sup-fs.h"
#include "wire/conn.h"

#define CONTROL_SOCKET RUN_VSOCK_SOCKET "_4088"
_Static_assert(WIRE_PORT_CONTROL == 4088, "the socket's name says the port");

#define BOOT_LIMIT_NS  300000000000ull /* as a supervisor's */
#define FLUSH_LIMIT_NS 30000000000ull
#define BYE_LIMIT_NS   2000000000ull /* from the machine's end */

enum { WORDS_MAX = 2048 }; /* bytes kept of what console and backend say */

enum phase { BOOT, LAUNCH, UP, FLUSH, OVER };
enum order { NOTHING, SHUT_DOWN, PULL_PLUG };

/* What is printed on a pipe: its last bytes are kept. */
struct words {
	int rd;
	struct loop_source *io;
	char text[WORDS_MAX];
	size_t len;
};

struct maintenance {
	struct state *st;
	struct box *box;
	int lock_fd; /* borrowed */
	int run_fd, vsock_fd;
	pthread_t thread;
	bool joined;

	/* Of both threads. */
	pthread_mutex_t mutex;
	pthread_cond_t changed;
	enum phase phase;
	enum order order;
	struct err err; /* set once OVER, if something failed */
	int order_fd;	/* eventfd: there is an order */

	/* Of the thread, while there is one. */
	struct loop *loop;
	struct loop_source *order_io;
	struct machine *machine;
	struct box_fs fs;
	struct loop_source *fs_end;
	struct machine_config config;
	struct machine_parts parts;
	struct loop_source *machine_end, *timer, *control_io, *handshake_io;
	int control_listen_fd, handshake_fd;
	struct handshake handshake;
	struct wire_conn *control, *session;
	bool greeted;
	struct words console, messages;
};

/* ---- phases ---- */

static void set_phase(struct maintenance *m, enum phase phase)
{
	pthread_mutex_lock(&m->mutex);
	m->phase = phase;
	pthread_cond_signal(&m->changed);
	pthread_mutex_unlock(&m->mutex);
}

/* The first reason counts. Its hint stays. what: may be NULL. */
static void fail_err(struct maintenance *m, const struct err *why, const char *what)
{
	pthread_mutex_lock(&m->mutex);
	if (m->phase != OVER) {
		m->err = *why;
		if (what)
			err_wrap(&m->err, "%s", what);
		err_wrap(&m->err, "box %s", m->box->name);
	}
	pthread_mutex_unlock(&m->mutex);
	set_phase(m, OVER);
	loop_quit(m->loop, 0);
}

static void fail(struct maintenance *m, int code, const char *what, const char *why)
{
	struct err e;

	err_set(&e, code, "%s", *why ? why : what);
	fail_err(m, &e, *why ? what : NULL);
}

static void fail_sys(struct maintenance *m, int r, const char *what)
{
	fail(m, r, what, strerror(-r));
}

static void on_limit(void *data)
{
	struct maintenance *m = data;

	fail(m, -ETIMEDOUT,
		m->phase == FLUSH ? "its guest did not unmount its disk in time" : "its guest does not boot",
		"");
}

/* ---- what is printed ---- */

static bool take_words(struct words *w)
{
	char chunk[1024];
	ssize_t n = read(w->rd, chunk, sizeof(chunk));

	if (n <= 0)
		return false;
	if ((size_t)n > WORDS_MAX - 1 - w->len) {
		size_t drop = MIN_OF(w->len, (size_t)n);
		memmove(w->text, w->text + drop, w->len - drop);
		w->len -= drop;
	}
	memcpy(w->text + w->len, chunk, (size_t)n);
	w->len += (size_t)n;
	return true;
}

static void on_words(void *data, int fd, uint32_t events)
{
	struct words *w = data;

	if (!take_words(w) && events & (EPOLLHUP | EPOLLERR))
		loop_source_free(TAKE_PTR(w->io));
}

static int open_words(struct maintenance *m, struct words *w, int *ret_wr)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	w->rd = fds[0];
	*ret_wr = fds[1];
	int r = io_set_nonblock(w->rd, true);
	return r < 0 ? r : loop_add_io(m->loop, w->rd, EPOLLIN, on_words, w, &w->io);
}

static void close_words(struct words *w)
{
	loop_source_free(TAKE_PTR(w->io));
	close_fd(&w->rd);
}

/* Its last line. */
static const char *last_line(struct words *w)
{
	while (w->rd >= 0 && take_words(w))
		;
	while (w->len && (w->text[w->len - 1] == '\n' || w->text[w->len - 1] == '\r'))
		w->len--;
	w->text[w->len] = '\0';
	const char *nl = strrchr(w->text, '\n');
	return nl ? nl + 1 : w->text;
}

/* ---- guest ---- */

static void on_machine_end(void *data, int fd, uint32_t events)
{
	struct maintenance *m = data;
	const char *words = last_line(&m->messages);

	if (m->phase == FLUSH) { /* BYE may still be on its way */
		loop_source_free(TAKE_PTR(m->machine_end));
		loop_set_timer(m->timer, BYE_LIMIT_NS);
		return;
	}
	log_debug("console: %s", last_line(&m->console));
	fail(m, -EIO, "its machine ended unexpectedly", words);
}

static int on_session_frame(void *data, struct wire_conn *conn, const struct wire_frame *f)
{
	struct maintenance *m = data;
	CLEANUP_FREE char *text = NULL;
	uint32_t status;

	if (m->phase == LAUNCH && f->type == WIRE_STARTED) {
		loop_set_timer(m->timer, UINT64_MAX);
		set_phase(m, UP);
		return 0;
	}
	if (m->phase == LAUNCH && f->type == WIRE_FAIL && wire_get_fail(f, &status, &text) == 0) {
		fail(m, -EIO, "its files cannot be reached", text);
		return 0;
	}
	return m->phase == FLUSH ? 0 : -EBADMSG;
}

static void on_session_end(void *data, struct wire_conn *conn, int error)
{
	struct maintenance *m = data;

	wire_conn_free(TAKE_PTR(m->session));
	if (m->phase < FLUSH)
		fail(m, -EIO, "its guest ended the session", "");
}

static const struct wire_conn_ops session_ops = {.on_frame = on_session_frame, .on_end = on_session_end};

/* Nothing of the image runs; the box's namespaces exist with this one's process. */
static int put_process(struct buf *out)
{
	struct wire_process p = {
		.main = true, .cwd = strdup("/"), .user = strdup("0:0"), .no_new_privileges = true};
	int r = p.cwd && p.user && strv_push(&p.argv, "/dev/a3s/nsexec") == 0 &&
				strv_push(&p.argv, "--hold") == 0 && strv_push(&p.env, "PATH=/") == 0
			? 0
			: -ENOMEM;

	if (r == 0) {
		p.seccomp = malloc(box_seccomp_default_filter_len);
		p.seccomp_len = box_seccomp_default_filter_len;
		if (p.seccomp)
			memcpy(p.seccomp, box_seccomp_default_filter, p.seccomp_len);
		r = p.seccomp ? wire_put_process(out, &p) : -ENOMEM;
	}
	wire_process_done(&p);
	return r;
}

static void on_handshake(void *data, int fd, uint32_t events)
{
	struct maintenance *m = data;
	int r = handshake_read(&m->handshake, fd);

	if (r == 0)
		return;
	loop_source_free(TAKE_PTR(m->handshake_io));
	if (r > 0)
		r = wire_conn_new(m->loop, TAKE_FD(m->handshake_fd), &session_ops, m, &m->session);
	if (r == 0)
		r = put_process(wire_conn_out(m->session));
	if (r < 0)
		fail_sys(m, r, "its guest does not accept sessions");
	else
		wire_conn_flush(m->session);
}

static void open_session(struct maintenance *m)
{
	set_phase(m, LAUNCH);
	m->handshake_fd = unix_connect_at(m->run_fd, RUN_VSOCK_SOCKET);
	int r = m->handshake_fd < 0 ? m->handshake_fd : io_set_nonblock(m->handshake_fd, true);
	if (r == 0)
		r = handshake_ask(&m->handshake, m->handshake_fd, WIRE_PORT_SESSION);
	if (r == 0)
		r = loop_add_io(m->loop, m->handshake_fd, EPOLLIN, on_handshake, m, &m->handshake_io);
	if (r < 0)
		fail_sys(m, r, "its guest does not accept sessions");
}

static int put_config(struct maintenance *m, struct buf *out)
{
	CLEANUP(wire_config_done) struct wire_config c = {0};
	struct err e = {0};
	int r = box_fill_config(m->box, &c);

	if (r == 0)
		r = box_fs_fill(&m->fs, m->box, &c);
	if (r == 0)
		r = box_fill_network(m->box, NULL, NULL, 0, &c.network, &e);
	if (r < 0)
		return r;
	strv_done(&c.sysctls);
	uint64_t mem_max = c.limits.mem_max;
	wire_limits_done(&c.limits);
	c.limits = (struct wire_limits){.mem_max = mem_max};
	c.real_ns = time_real_ns();
	io_random(c.entropy, sizeof(c.entropy));
	r = wire_put_config(out, &c);
	explicit_bzero(c.entropy, sizeof(c.entropy));
	return r;
}

static int on_hello(struct maintenance *m, const struct wire_frame *f)
{
	struct wire_hello h;

	if (m->greeted || m->phase != BOOT)
		return -EBADMSG;
	m->greeted = true;
	int r = wire_get_hello(f, &h);
	if (r < 0)
		return r;
	r = h.version == WIRE_VERSION ? put_config(m, wire_conn_out(m->control)) : -EPROTO;
	wire_hello_done(&h);
	if (r == 0)
		wire_conn_flush(m->control);
	return r;
}

static int on_control_frame(void *data, struct wire_conn *conn, const struct wire_frame *f)
{
	struct maintenance *m = data;
	CLEANUP_FREE char *text = NULL;
	uint32_t status;

	switch (f->type) {
	case WIRE_HELLO:
		return on_hello(m, f);
	case WIRE_READY:
		if (m->phase != BOOT || !m->greeted)
			return -EBADMSG;
		open_session(m);
		return 0;
	case WIRE_FAIL:
		if (m->phase > LAUNCH || wire_get_fail(f, &status, &text) < 0)
			return -EBADMSG;
		fail(m, -EIO, "its guest does not boot", text);
		return 0;
	case WIRE_BYE:
		if (m->phase == FLUSH) { /* the disk is clean: that is all that was wanted */
			set_phase(m, OVER);
			loop_quit(m->loop, 0);
		}
		return 0;
	default:
		return -EBADMSG;
	}
}

static void on_control_end(void *data, struct wire_conn *conn, int error)
{
	struct maintenance *m = data;

	wire_conn_free(TAKE_PTR(m->control));
	fail(m, -EIO, m->phase == FLUSH ? "its guest did not unmount its disk" : "its guest went away", "");
}

static const struct wire_conn_ops control_ops = {.on_frame = on_control_frame, .on_end = on_control_end};

static void on_control_accept(void *data, int fd, uint32_t events)
{
	struct maintenance *m = data;
	int conn = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (conn < 0)
		return;
	/* The next one could only be forged from inside. */
	loop_source_free(TAKE_PTR(m->control_io));
	close_fd(&m->control_listen_fd);
	unlinkat(m->run_fd, CONTROL_SOCKET, 0);
	int r = wire_conn_new(m->loop, conn, &control_ops, m, &m->control);
	if (r < 0)
		fail_sys(m, r, "its guest cannot be talked to");
}

/* ---- the thread ---- */

static void on_fs_end(void *data, int fd, uint32_t events)
{
	struct maintenance *m = data;

	loop_source_free(TAKE_PTR(m->fs_end));
	if (box_fs_failed(&m->fs)) /* else because its machine has ended, as will show */
		fail(m, -EIO, "the server of its mounted files ended unexpectedly", last_line(&m->messages));
}

/* Nothing is done for a box without mounts. */
static int start_fs(struct maintenance *m, struct err *e)
{
	int r = box_fs_start(m->st, m->box, m->lock_fd, m->config.log_fd, &m->fs, e);

	if (r < 0 || box_fs_socket(&m->fs) < 0)
		return r;
	m->config.fs_fd = box_fs_socket(&m->fs);
	m->config.fs_tag = FS_TAG;
	r = loop_add_io(m->loop, m->fs.process.pid_fd, EPOLLIN, on_fs_end, m, &m->fs_end);
	return r < 0 ? err_sys(e, r, "cannot watch %s", FS_PROGRAM) : 0;
}

static void shut_down(struct maintenance *m)
{
	set_phase(m, FLUSH);
	loop_set_timer(m->timer, FLUSH_LIMIT_NS);
	wire_put(wire_conn_out(m->control), WIRE_SHUTDOWN, NULL, 0);
	wire_conn_flush(m->control);
}

static void on_order(void *data, int fd, uint32_t events)
{
	struct maintenance *m = data;
	uint64_t n;

	if (read(fd, &n, sizeof(n)) != sizeof(n))
		return;
	pthread_mutex_lock(&m->mutex);
	enum order what = m->order;
	pthread_mutex_unlock(&m->mutex);
	if (what == SHUT_DOWN && m->phase == UP)
		shut_down(m);
	else
		fail(m, -ECANCELED, "its machine was ended", "");
}

static int begin(struct maintenance *m, struct err *e)
{
	CLEANUP_CLOSE int console = -1;
	CLEANUP_CLOSE int messages = -1;
	int r = loop_add_io(m->loop, m->order_fd, EPOLLIN, on_order, m, &m->order_io);

	if (r == 0)
		r = open_words(m, &m->console, &console);
	if (r == 0)
		r = open_words(m, &m->messages, &messages);
	if (r == 0)
		r = m->control_listen_fd = unix_listen_at(m->run_fd, CONTROL_SOCKET);
	if (r >= 0)
		r = loop_add_io(m->loop, m->control_listen_fd, EPOLLIN, on_control_accept, m, &m->control_io);
	if (r == 0)
		r = loop_add_timer(m->loop, BOOT_LIMIT_NS, on_limit, m, &m->timer);
	if (r < 0)
		return err_sys(e, r, "cannot boot it");
	m->config.console_fd = console;
	m->config.log_fd = messages;
	r = start_fs(m, e);
	if (r == 0)
		r = machine_start(m->loop, &m->config, &m->machine, e);
	box_fs_connected(&m->fs);
	if (r < 0)
		return r;
	r = loop_add_io(m->loop, machine_end_fd(m->machine), EPOLLIN, on_machine_end, m, &m->machine_end);
	return r < 0 ? err_sys(e, r, "cannot watch its machine") : 0;
}

static void release(struct maintenance *m)
{
	loop_source_free(TAKE_PTR(m->machine_end));
	loop_source_free(TAKE_PTR(m->handshake_io));
	loop_source_free(TAKE_PTR(m->control_io));
	loop_source_free(TAKE_PTR(m->timer));
	loop_source_free(TAKE_PTR(m->order_io));
	wire_conn_free(TAKE_PTR(m->session));
	wire_conn_free(TAKE_PTR(m->control));
	close_fd(&m->handshake_fd);
	close_fd(&m->control_listen_fd);
	machine_free(TAKE_PTR(m->machine));
	loop_source_free(TAKE_PTR(m->fs_end));
	box_fs_end(&m->fs);
	close_words(&m->console);
	close_words(&m->messages);
}

static void *run(void *data)
{
	struct maintenance *m = data;
	struct err e = {0};

	if (begin(m, &e) < 0)
		fail_err(m, &e, "its machine cannot be started");
	int r = loop_run(m->loop);
	if (r < 0)
		fail_sys(m, r, "its machine cannot be watched");
	release(m);
	return NULL;
}

/* The thread takes no signals: they are the caller's. */
static int start_thread(struct maintenance *m)
{
	sigset_t all, before;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int r = pthread_create(&m->thread, NULL, run, m);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	m->joined = r != 0;
	return -r;
}

static void join(struct maintenance *m)
{
	if (!m->joined)
		pthread_join(m->thread, NULL);
	m->joined = true;
}

/* ---- the caller's side ---- */

static int prepare(struct maintenance *m, struct err *e)
{
	CLEANUP_CLOSE int box_dir = box_open_box_dir(m->st, m->box->id, true, e);
	if (box_dir < 0)
		return box_dir;
	int r = box_ensure_scratch(m->st, box_dir, m->box->config.disk_bytes, true, e);
	if (r < 0)
		return r;
	m->run_fd = box_open_run_dir(m->st, m->box->id, true, e);
	if (m->run_fd < 0)
		return m->run_fd;
	m->vsock_fd = io_open_dir_at(m->run_fd, RUN_VSOCK_DIR, true);
	if (m->vsock_fd < 0)
		return err_sys(e, m->vsock_fd, "cannot make the folder of the box's sockets");
	r = machine_parts_find(m->st, m->box, &m->parts, &m->config, e);
	if (r == 0) {
		m->config.vsock_dirfd = m->vsock_fd;
		m->config.hold_fd = m->lock_fd;
		m->order_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		r = m->order_fd < 0 ? -errno : loop_new(&m->loop);
		if (r < 0)
			err_sys(e, r, "cannot boot box %s", m->box->name);
	}
	return r;
}

/* Waits until its files can be reached. 0, or the error. */
static int wait_up(struct maintenance *m, struct err *e)
{
	pthread_mutex_lock(&m->mutex);
	while (m->phase != UP && m->phase != OVER)
		pthread_cond_wait(&m->changed, &m->mutex);
	int r = m->phase == OVER ? m->err.code : 0;
	if (r < 0 && e)
		*e = m->err;
	pthread_mutex_unlock(&m->mutex);
	return r;
}

int maintenance_start(
	struct state *st, const struct box *b, int lock_fd, struct maintenance **ret, struct err *e)
{
	CLEANUP(maintenance_freep) struct maintenance *m = calloc(1, sizeof(*m));

	if (!m)
		return err_oom(e);
	*m = (struct maintenance){.st = st,
		.lock_fd = lock_fd,
		.run_fd = -1,
		.vsock_fd = -1,
		.control_listen_fd = -1,
		.handshake_fd = -1,
		.order_fd = -1,
		.joined = true,
		.console.rd = -1,
		.messages.rd = -1};
	pthread_mutex_init(&m->mutex, NULL);
	pthread_cond_init(&m->changed, NULL);
	int r = box_find_quiet(st, b->id, &m->box, e);
	if (r == 0 && box_is_live(m->box))
		r = err_set(e, -EBUSY, "box %s is %s", b->name, box_state_name(m->box->state));
	if (r == 0)
		r = prepare(m, e);
	if (r < 0)
		return r;
	r = start_thread(m);
	if (r < 0)
		return err_sys(e, r, "cannot boot box %s", b->name);
	r = wait_up(m, e);
	if (r == 0)
		*ret = TAKE_PTR(m);
	return r;
}

/* The thread does it, if it has not ended. */
static void order(struct maintenance *m, enum order what)
{
	const uint64_t one = 1;

	pthread_mutex_lock(&m->mutex);
	m->order = what;
	pthread_mutex_unlock(&m->mutex);
	ssize_t n = write(m->order_fd, &one, sizeof(one)); /* cannot fail: the counter is far from its end */
	(void)n;
	join(m);
}

int maintenance_end(struct maintenance *m, struct err *e)
{
	order(m, SHUT_DOWN);
	return maintenance_check(m, e);
}

int maintenance_check(struct maintenance *m, struct err *e)
{
	pthread_mutex_lock(&m->mutex);
	int r = m->phase == OVER ? m->err.code : 0;
	if (r < 0 && e)
		*e = m->err;
	pthread_mutex_unlock(&m->mutex);
	return r;
}

void maintenance_free(struct maintenance *m)
{
	if (!m)
		return;
	if (!m->joined)
		order(m, PULL_PLUG);
	loop_free(m->loop);
	close_fd(&m->order_fd);
	close_fd(&m->run_fd);
	close_fd(&m->vsock_fd);
	pthread_mutex_destroy(&m->mutex);
	pthread_cond_destroy(&m->changed);
	machine_parts_done(&m->parts);
	box_free(m->box);
	free(m);
}
