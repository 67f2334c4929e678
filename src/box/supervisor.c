/* SPDX-License-Identifier: MIT */
#include "supervisor.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>

#include "base/io.h"
#include "base/log.h"
#include "base/proc.h"
#include "run.h"

enum { FAIL_TEXT_MAX = 1024 };

void sup_milestone(const struct supervisor *s, const char *what)
{
	log_debug("%7.1f ms: %s", (double)(time_mono_ns() - s->born_ns) / 1e6, what);
}

/* ---- the end ---- */

static void tear_down(struct supervisor *s)
{
	loop_source_free(TAKE_PTR(s->timer));
	loop_source_free(TAKE_PTR(s->machine_end));
	if (s->machine)
		machine_free(TAKE_PTR(s->machine));
	sup_capture_close(&s->console);
	sup_capture_close(&s->messages);
	sup_guest_close(s);
	log_writer_close(&s->log);
}

static void finish_record(struct supervisor *s, const char *error)
{
	struct err e = {0};
	int r;

	if (s->fail_text)
		r = box_undo_start(s->st, s->box, &s->lock_fd, s->exit_code, s->fail_text, &e);
	else if (s->box->config.auto_remove)
		r = box_remove_locked(s->st, s->box->id, &s->lock_fd, &e);
	else
		r = box_set_exited(s->st, s->box->id, s->exit_code, error, &e);
	if (r < 0) /* the next command repairs what this could not write */
		log_error("%s", e.msg);
	if (s->lock_fd >= 0)
		box_unlock(s->st, s->box->id, &s->lock_fd);
}

static void end(struct supervisor *s, const char *error)
{
	bool cut_short = s->phase == SUP_RUNNING; /* how the workload would have ended nobody will know */

	if (s->phase == SUP_DONE)
		return;
	s->phase = SUP_DONE;
	sup_clients_unlisten(s);
	tear_down(s);
	sup_milestone(s, "machine gone");
	finish_record(s, error);
	sup_milestone(s, "record final");
	sup_clients_finish(s, cut_short ? error : NULL);
	if (!s->clients)
		loop_quit(s->loop, 0);
}

void sup_start_failed(struct supervisor *s, int status, const char *text)
{
	if (s->phase >= SUP_RUNNING)
		return;
	s->exit_code = status;
	free(s->fail_text);
	s->fail_text = malloc(FAIL_TEXT_MAX);
	if (!s->fail_text)
		abort(); /* nothing can be said any more; the next command repairs the record */
	text_escape(s->fail_text, FAIL_TEXT_MAX,
		*text ? text : "unknown reason"); /* often the guest's own words */
	end(s, NULL);
}

void sup_finish(struct supervisor *s, int code, const char *error)
{
	if (s->phase < SUP_RUNNING) {
		sup_start_failed(s, 125, error ? error : "stopped before the workload started");
		return;
	}
	char safe[FAIL_TEXT_MAX];
	if (error)
		text_escape(safe, sizeof(safe), error);
	s->exit_code = code;
	end(s, error ? safe : NULL);
}

/* Replaces the one timer: each phase has one thing to wait for. */
static int set_timer(struct supervisor *s, uint64_t delay_ns, loop_fn fn)
{
	loop_source_free(TAKE_PTR(s->timer));
	return loop_add_timer(s->loop, delay_ns, fn, s, &s->timer);
}

static void on_lost_limit(void *data)
{
	struct supervisor *s = data;
	sup_finish(s, 137, s->lost_text);
}

void sup_guest_lost(struct supervisor *s, const char *text)
{
	if (s->lost_text || s->phase == SUP_DONE)
		return;
	s->lost_text = text;
	if (set_timer(s, SUP_LOST_LIMIT_NS, on_lost_limit) < 0)
		on_lost_limit(s);
}

static void on_flush_limit(void *data)
{
	struct supervisor *s = data;
	sup_finish(s, s->exit_code, "the guest did not unmount its disk in time");
}

void sup_workload_ended(struct supervisor *s, int code)
{
	s->exit_code = code;
	if (s->box->config.auto_remove) {
		sup_finish(s, code, NULL);
		return;
	}
	s->phase = SUP_FLUSH;
	set_timer(s, SUP_FLUSH_LIMIT_NS, on_flush_limit);
	sup_guest_shutdown(s);
}

static void on_kill_limit(void *data)
{
	sup_finish(data, 137, NULL); /* the guest does not even act on SIGKILL: pull the plug */
}

static void on_stop_limit(void *data)
{
	struct supervisor *s = data;

	s->killed = true;
	sup_guest_signal(s, SIGKILL);
	set_timer(s, SUP_KILL_LIMIT_NS, on_kill_limit);
}

/* ---- pause ---- */

static void on_resumed_to_stop(void *data, int result)
{
	struct supervisor *s = data;

	if (result < 0)
		sup_finish(s, 137, "the machine could not be resumed to stop it");
}

static void on_paused(void *data, int result)
{
	struct supervisor *s = data;
	struct sup_client *c = TAKE_PTR(s->pausing);
	struct err e = {0};

	s->pause_pending = false;
	if (s->stopping && result == 0) { /* a stop came in between, and needs a guest that runs */
		if (s->pause_wanted)
			machine_resume(s->machine, on_resumed_to_stop, s);
		result = err_set(&e, -ESRCH, "the box is stopping");
	} else if (result == 0) {
		result = box_set_paused(s->st, s->box->id, s->pause_wanted, &e);
		if (result == 0)
			s->paused = s->pause_wanted;
		else if (s->pause_wanted) /* what the record does not say must not be */
			machine_resume(s->machine, on_resumed_to_stop, s);
	} else {
		err_sys(&e, result, "cannot %s the machine", s->pause_wanted ? "pause" : "resume");
	}
	if (c)
		sup_client_reply(c, result, result < 0 ? e.msg : NULL);
}

void sup_pause(struct supervisor *s, struct sup_client *c, bool pause)
{
	const char *why = NULL;

	if (s->phase != SUP_RUNNING || s->lost_text)
		why = s->phase < SUP_RUNNING ? "the workload has not started yet" : "the workload has ended";
	else if (s->stopping)
		why = "the box is stopping";
	else if (s->pause_pending)
		why = "it is being paused or unpaused already";
	else if (pause == s->paused)
		why = pause ? "it is paused already" : "it is not paused";
	if (why) {
		sup_client_reply(c, -EALREADY, why);
		return;
	}
	s->pause_pending = true;
	s->pausing = c;
	s->pause_wanted = pause;
	int r = (pause ? machine_pause : machine_resume)(s->machine, on_paused, s);
	if (r < 0)
		on_paused(s, r);
}

/* A paused guest would neither see a signal nor unmount. */
static void resume_to_stop(struct supervisor *s)
{
	if (!s->paused)
		return;
	s->paused = false;
	if (s->pause_pending)
		return; /* an UNPAUSE, which does the same */
	int r = machine_resume(s->machine, on_resumed_to_stop, s);
	if (r < 0)
		on_resumed_to_stop(s, r);
}

void sup_stop(struct supervisor *s, int sig, uint64_t timeout_ns)
{
	struct err e = {0};

	if (s->phase < SUP_RUNNING) {
		sup_start_failed(s, 125, "stopped before the workload started");
		return;
	}
	if (s->phase == SUP_FLUSH && sig == SIGKILL) {
		sup_finish(s, s->exit_code, "killed while unmounting");
		return;
	}
	if (s->phase != SUP_RUNNING || s->killed || s->lost_text)
		return; /* its end is on the way; the answer comes with it */
	if (!s->stopping && box_set_stopping(s->st, s->box->id, &e) < 0)
		log_error("%s", e.msg);
	s->stopping = true;
	resume_to_stop(s);
	if (s->phase != SUP_RUNNING)
		return;
	if (sig == SIGKILL) {
		on_stop_limit(s);
		return;
	}
	sup_guest_signal(s, sig);
	set_timer(s, timeout_ns, on_stop_limit);
}

/* ---- events ---- */

static void on_signal(void *data, int fd, uint32_t events)
{
	struct supervisor *s = data;
	struct signalfd_siginfo info;

	if (read(fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
		sup_stop(s, s->box->config.stop_signal, s->box->config.stop_timeout_ns);
}

static void on_boot_limit(void *data)
{
	struct supervisor *s = data;
	if (s->phase < SUP_RUNNING)
		sup_start_failed(s, 125, "the guest did not boot in time");
}

/* ---- the start ---- */

static int watch_signals(struct supervisor *s, struct err *e)
{
	sigset_t set;

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	s->signals_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	int r = s->signals_fd < 0
			? -errno
			: loop_add_io(s->loop, s->signals_fd, EPOLLIN, on_signal, s, &s->signals_io);
	return r < 0 ? err_sys(e, r, "cannot watch for signals") : 0;
}

/* Everything up to a running guest. What it leaves half-made on failure is released by the caller. */
static int set_up(struct supervisor *s, struct err *e)
{
	int r = watch_signals(s, e);
	if (r < 0)
		return r;
	s->run_fd = box_open_run_dir(s->st, s->box->id, true, e);
	if (s->run_fd < 0)
		return s->run_fd;
	s->box_fd = box_open_box_dir(s->st, s->box->id, true, e);
	if (s->box_fd < 0)
		return s->box_fd;
	s->vsock_fd = io_open_dir_at(s->run_fd, RUN_VSOCK_DIR, true);
	if (s->vsock_fd < 0)
		return err_sys(e, s->vsock_fd, "cannot make the folder of the box's sockets");
	/* First of all: a client that finds the lock held must soon find somebody to talk to. */
	r = sup_clients_listen(s, e);
	if (r == 0)
		r = box_ensure_scratch(s->st, s->box_fd, !s->box->config.auto_remove, e);
	if (r == 0)
		r = log_writer_open(&s->log, s->box_fd, e);
	if (r == 0)
		r = sup_guest_listen(s, e);
	if (r == 0)
		r = sup_machine_start(s, e);
	if (r == 0)
		s->scratch_fd = openat(s->box_fd, "scratch.img", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (r == 0 && set_timer(s, SUP_BOOT_LIMIT_NS, on_boot_limit) < 0)
		r = err_oom(e);
	return r;
}

static void release(struct supervisor *s)
{
	tear_down(s);
	sup_clients_unlisten(s);
	sup_clients_free(s);
	loop_source_free(s->signals_io);
	close_fd(&s->signals_fd);
	close_fd(&s->run_fd);
	close_fd(&s->vsock_fd);
	close_fd(&s->box_fd);
	close_fd(&s->scratch_fd);
	close_fd(&s->lock_fd);
	loop_free(s->loop);
	box_free(s->box);
	state_close(s->st);
	free(s->fail_text);
}

int supervisor_main(const char *id)
{
	struct supervisor s = {.lock_fd = SUPERVISOR_LOCK_FD,
		.run_fd = -1,
		.box_fd = -1,
		.vsock_fd = -1,
		.scratch_fd = -1,
		.console = {-1, -1, 0, NULL},
		.messages = {-1, -1, 0, NULL},
		.signals_fd = -1,
		.listen_fd = -1,
		.control_listen_fd = -1,
		.handshake_fd = -1,
		.log = {.dirfd = -1, .fd = -1}};
	struct err e = {0};

	io_set_cloexec(SUPERVISOR_LOCK_FD, true);
	io_set_cloexec(SUPERVISOR_CLIENT_FD, true);
	s.born_ns = time_mono_ns();
	proc_raise_descriptor_limit(); /* each guest connection takes one */
	int r = loop_new(&s.loop);
	if (r == 0)
		r = sup_client_add(&s, SUPERVISOR_CLIENT_FD, true);
	if (r < 0)
		err_sys(&e, r, "supervisor");
	if (r == 0)
		r = state_open(&s.st, &e);
	/* The home is absolute now: the caller's working folder, and its mount, are not ours to hold. */
	if (r == 0 && chdir("/") < 0)
		r = err_sys(&e, -errno, "supervisor");
	if (r == 0)
		r = box_find(s.st, id, &s.box, &e);
	if (r == 0) {
		r = set_up(&s, &e);
		if (r < 0)
			sup_start_failed(&s, 125, e.msg);
		r = loop_run(s.loop);
	} else {
		log_error("%s", e.msg);
		s.phase = SUP_DONE;
		s.exit_code = 125;
		s.fail_text = strdup(e.msg);
		sup_clients_finish(&s, NULL);
	}
	release(&s);
	return r < 0;
}
