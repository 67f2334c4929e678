/* SPDX-License-Identifier: MIT */
/*
 * monitor: brings back what should run by its restart policy, but lost its supervisor, or the host it ran on.
 *
 * THEORY OF OPERATION
 *
 * A look (look_around) lets dead owners be repaired, starts what box_wants_revival names, and watches the supervisors of
 * what runs: each by a pidfd, taken through its socket. What asks for a look: a supervisor's death, a new folder in run/,
 * the end of a wait, and a slow timer for what those may have missed. Any number of monitors may run: whoever takes a box's
 * lock starts it, and the others find that it wants nothing any more. Every start has its own entry in the audit log, and
 * SIGTERM and SIGINT end the loop, so that the whole has one too.
 */
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "app.h"
#include "audit.h"
#include "base/io.h"
#include "base/loop.h"
#include "wire/conn.h"

#define SLOW_LOOK_NS 30000000000ull
#define SOON_NS	     200000000ull /* for what happens together to be looked at together */

struct monitor {
	struct app app;
	const struct cmd *cmd;
	struct loop *loop;
	struct loop_source *timer, *folder_io, *stop_io;
	uint64_t due_ns; /* monotonic: of the timer */
	int folder_fd;	 /* inotify */
	bool once;
	int status;
	unsigned starting;
	struct watched *boxes;
};

/* A box with a restart policy. */
struct watched {
	struct monitor *m;
	struct watched *next;
	char id[BOX_ID_LEN + 1];
	char *name;
	bool seen; /* by the look that goes on */
	int pidfd; /* of its supervisor, -1: not watched */
	struct loop_source *death;
	struct wire_conn *start; /* of a start that goes on */
	struct box_backoff backoff;
	uint64_t next_ns;  /* monotonic: when it may be brought back again */
	uint64_t since_ns; /* monotonic: since when it runs, as far as was seen; 0: it does not */
	uint64_t ran_ns;   /* how long it ran last, since it was brought back */
};

static void look_soon(struct monitor *m, uint64_t delay_ns);

static void unwatch(struct watched *w)
{
	loop_source_free(TAKE_PTR(w->death));
	close_fd(&w->pidfd);
}

static void watched_free(struct watched *w)
{
	if (w->start)
		w->m->starting--;
	wire_conn_free(w->start);
	unwatch(w);
	free(w->name);
	free(w);
}

static struct watched *get_watched(struct monitor *m, const struct box *b)
{
	struct watched *w = m->boxes;
	CLEANUP_FREE char *name = strdup(b->name);

	while (w && strcmp(w->id, b->id) != 0)
		w = w->next;
	if (!name || (!w && !(w = calloc(1, sizeof(*w)))))
		return NULL;
	if (!w->m) {
		w->m = m;
		w->pidfd = -1;
		snprintf(w->id, sizeof(w->id), "%s", b->id);
		w->next = m->boxes;
		m->boxes = w;
	}
	free(w->name);
	w->name = TAKE_PTR(name);
	w->seen = true;
	return w;
}

static void forget_unseen(struct monitor *m)
{
	for (struct watched **p = &m->boxes; *p;) {
		struct watched *w = *p;
		if (w->seen) {
			p = &w->next;
			continue;
		}
		*p = w->next;
		watched_free(w);
	}
}

/* ---- supervisors ---- */

static void on_death(void *data, int fd, uint32_t events)
{
	struct watched *w = data;

	unwatch(w);
	look_soon(w->m, 0);
}

/* false: it has nobody to watch yet. */
static bool watch(struct watched *w, const struct box *b)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	if (w->pidfd >= 0)
		return true;
	/* While the connection holds, the number is the supervisor's. */
	CLEANUP_CLOSE int fd = box_connect(w->m->app.st, b, NULL);
	if (fd < 0 || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0 || peer.pid <= 0)
		return false;
	w->pidfd = (int)syscall(SYS_pidfd_open, peer.pid, 0);
	if (w->pidfd < 0 || loop_add_io(w->m->loop, w->pidfd, EPOLLIN, on_death, w, &w->death) < 0) {
		unwatch(w);
		return false;
	}
	return true;
}

/* ---- starts ---- */

/* One that watches goes on: no single failure is how it ends. */
static void tell(struct monitor *m, struct err *e)
{
	if (m->once) {
		m->status = app_fail(m->cmd, e, 1);
		return;
	}
	err_wrap(e, "%s", m->cmd->name);
	err_print("a3s-box", e);
}

static void tell_failure(struct watched *w, struct err *e)
{
	err_wrap(e, "cannot start %s", w->name);
	audit_part(w->id, w->name, e);
	tell(w->m, e);
}

static void start_over(struct watched *w)
{
	wire_conn_free(TAKE_PTR(w->start));
	w->m->starting--;
	look_soon(w->m, 0);
}

static int on_frame(void *data, struct wire_conn *conn, const struct wire_frame *f)
{
	struct watched *w = data;
	struct err e = {0};
	CLEANUP_FREE char *text = NULL;
	uint32_t status;

	if (f->type == WIRE_STARTED) {
		printf("started %s\n", w->name);
		fflush(stdout);
		audit_part(w->id, w->name, NULL);
	} else if (f->type == WIRE_FAIL && wire_get_fail(f, &status, &text) == 0) {
		err_set(&e, -EIO, "%s", text);
		tell_failure(w, &e);
	} else {
		return -EBADMSG;
	}
	start_over(w);
	return 0;
}

static void on_end(void *data, struct wire_conn *conn, int error)
{
	struct watched *w = data;
	struct err e = {0};

	err_set(&e, -EPIPE, "its supervisor went away");
	tell_failure(w, &e);
	start_over(w);
}

static const struct wire_conn_ops start_ops = {.on_frame = on_frame, .on_end = on_end};

/* After a power cut its disk may have to be built again; the others wait for that. */
static void bring_back(struct watched *w, const struct box *b)
{
	struct monitor *m = w->m;
	struct box_request req = {.op = BOX_OP_STARTED};
	struct err e = {0};
	uint64_t now = time_mono_ns();
	int fd = -1;

	w->next_ns = now + box_backoff_next(&w->backoff, w->ran_ns);
	w->ran_ns = 0;
	int r = oci_ref_disk(m->app.store, b->manifest, NULL, &e);
	if (r == 0)
		r = box_revive(m->app.st, w->id, &fd, &e);
	if (r == -EALREADY)
		return;
	if (r == 0 && (r = wire_conn_new(m->loop, fd, &start_ops, w, &w->start)) < 0)
		err_sys(&e, r, "cannot watch its start");
	if (r < 0) {
		tell_failure(w, &e);
		return;
	}
	m->starting++;
	box_put_request(wire_conn_out(w->start), &req);
	wire_conn_flush(w->start);
}

/* ---- looking ---- */

/* Looks at one box. Returns the time until it wants to be looked at again, or UINT64_MAX. */
static uint64_t look_at(struct monitor *m, const struct box *b)
{
	uint64_t now = time_mono_ns();

	if (b->config.restart.policy == BOX_RESTART_NO)
		return UINT64_MAX;
	struct watched *w = get_watched(m, b);
	if (!w || w->start)
		return UINT64_MAX;
	if (b->state == BOX_RUNNING && w->since_ns == 0)
		w->since_ns = now;
	if (box_is_live(b))
		return m->once || watch(w, b) ? UINT64_MAX : SOON_NS;
	if (w->since_ns)
		w->ran_ns = now - w->since_ns;
	w->since_ns = 0;
	if (!box_wants_revival(b))
		return UINT64_MAX;
	if (now < w->next_ns)
		return m->once ? UINT64_MAX : w->next_ns - now;
	bring_back(w, b);
	return w->start || m->once ? UINT64_MAX : w->next_ns - now;
}

static void look_around(void *data)
{
	struct monitor *m = data;
	struct box **list = NULL;
	size_t n = 0;
	struct err e = {0};
	uint64_t next_ns = SLOW_LOOK_NS;

	m->due_ns = UINT64_MAX;
	while (waitpid(-1, NULL, WNOHANG) > 0) /* supervisors that we started */
		;
	int r = box_reconcile(m->app.st, &e);
	if (r == 0)
		r = box_list(m->app.st, true, &list, &n, &e);
	if (r < 0) {
		tell(m, &e);
	} else {
		for (struct watched *w = m->boxes; w; w = w->next)
			w->seen = false;
		for (size_t i = n; i > 0; i--) /* oldest first, as they were made */
			next_ns = MIN_OF(next_ns, look_at(m, list[i - 1]));
		box_list_free(list, n);
		forget_unseen(m);
	}
	if (!m->once)
		look_soon(m, next_ns);
	else if (m->starting == 0)
		loop_quit(m->loop, 0);
}

static void look_soon(struct monitor *m, uint64_t delay_ns)
{
	uint64_t at = time_mono_ns() + delay_ns;

	if (at >= m->due_ns)
		return; /* there will be one before */
	m->due_ns = at;
	loop_set_timer(m->timer, delay_ns);
}

static void on_folder(void *data, int fd, uint32_t events)
{
	char what[4096];

	while (read(fd, what, sizeof(what)) > 0) /* which one it was does not matter */
		;
	look_soon(data, SOON_NS);
}

static int watch_folder(struct monitor *m, struct err *e)
{
	char path[64];
	CLEANUP_CLOSE int run = io_open_dir_at(m->app.st->home_fd, "run", true);
	if (run < 0)
		return err_sys(e, run, "cannot open %s/run", m->app.st->home);
	m->folder_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", run);
	int r = m->folder_fd < 0 || inotify_add_watch(m->folder_fd, path, IN_CREATE | IN_MOVED_TO) < 0
			? -errno
			: 0;
	if (r == 0)
		r = loop_add_io(m->loop, m->folder_fd, EPOLLIN, on_folder, m, &m->folder_io);
	return r < 0 ? err_sys(e, r, "cannot watch %s/run", m->app.st->home) : 0;
}

/* ---- the end ---- */

static int stop_fd = -1;

static void on_signal(int sig)
{
	int saved = errno;
	ssize_t n = write(stop_fd, &(uint64_t){1}, sizeof(uint64_t));

	(void)n; /* it is told already */
	errno = saved;
}

static void on_stop(void *data, int fd, uint32_t events)
{
	struct monitor *m = data;

	loop_quit(m->loop, 0);
}

/* By a handler, which no program that we start inherits. */
static int catch_signals(struct monitor *m, struct err *e)
{
	static const int signals[] = {SIGTERM, SIGINT};
	struct sigaction act = {.sa_handler = on_signal, .sa_flags = SA_RESTART};

	stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	int r = stop_fd < 0 ? -errno : loop_add_io(m->loop, stop_fd, EPOLLIN, on_stop, m, &m->stop_io);
	if (r < 0)
		return err_sys(e, r, "cannot wait for signals");
	for (size_t i = 0; i < ARRAY_LEN(signals); i++) {
		struct sigaction old;
		if (sigaction(signals[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
			sigaction(signals[i], &act, NULL);
	}
	return 0;
}

static void monitor_done(struct monitor *m)
{
	while (m->boxes) {
		struct watched *w = m->boxes;
		m->boxes = w->next;
		watched_free(w);
	}
	loop_source_free(m->folder_io);
	loop_source_free(m->stop_io);
	close_fd(&m->folder_fd);
	loop_source_free(m->timer);
	loop_free(m->loop);
	app_close(&m->app);
}

int cmd_monitor(const struct cmd *c, int argc, char **argv)
{
	CLEANUP(monitor_done) struct monitor m = {.cmd = c, .folder_fd = -1};
	struct opt opts[] = {{0, "once", OPT_FLAG, &m.once, NULL, "start what should run, and end"}, {0}};
	struct err e = {0};

	int r = opts_parse(c, opts, OPTS_MIXED, &argc, argv, &e);
	if (r)
		return r < 0 ? app_fail(c, &e, 1) : 0;
	if (argc > 1)
		return app_usage(c, "no argument is expected");
	r = app_open(&m.app, true, &e);
	if (r == 0 && (r = loop_new(&m.loop)) < 0)
		err_sys(&e, r, "cannot watch");
	if (r == 0 && (r = loop_add_timer(m.loop, 0, look_around, &m, &m.timer)) < 0)
		err_sys(&e, r, "cannot watch");
	if (r == 0 && !m.once)
		r = watch_folder(&m, &e);
	if (r == 0)
		r = catch_signals(&m, &e);
	if (r == 0 && (r = loop_run(m.loop)) < 0)
		err_sys(&e, r, "cannot watch");
	return r < 0 ? app_fail(c, &e, 1) : m.status;
}
