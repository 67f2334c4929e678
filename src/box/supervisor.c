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

enum { FAIL_TEXT_MAX = 1024, TIMED_OUT_STATUS = 124 };

void sup_milestone(const struct supervisor *s, const char *what)
{
	log_debug("%7.1f ms: %s", (double)(time_mono_ns() - s->born_ns) / 1e6, what);
}

static void run_begin(struct supervisor *s, bool first);
static void resume_to_stop(struct supervisor *s);

/* Replaces the one timer: each phase has one thing to wait for. */
static int set_timer(struct supervisor *s, uint64_t delay_ns, loop_fn fn)
{
	loop_source_free(TAKE_PTR(s->run.timer));
	return loop_add_timer(s->loop, delay_ns, fn, s, &s->run.timer);
}

/* ---- the end of a run ---- */

/* Until the machine's process is gone, and with it its hold on the disk. Nobody hears of the end before. */
static void wait_machine(struct supervisor *s)
{
	int status;

	if (!s->run.dying)
		return;
	proc_wait(s->run.dying, &status);
	s->run.dying = 0;
	sup_milestone(s, "machine gone");
}

/*
 * What else the machine is made of, the guest's memory above all, which takes the kernel its time: its process, ending, is not
 * the last to have it, and who waits for the end does not wait for that. To follow run_release before the next turn of the loop.
 */
static void drop_machine(struct supervisor *s)
{
	wait_machine(s);
	machine_free(TAKE_PTR(s->run.machine));
}

/* All but what its end has to tell, and but for the machine, whose end is only begun. */
static void run_release(struct supervisor *s)
{
	sup_health_stop(s);
	sup_execs_end(s);
	loop_source_free(TAKE_PTR(s->run.timer));
	loop_source_free(TAKE_PTR(s->run.limit));
	loop_source_free(TAKE_PTR(s->run.machine_end));
	if (s->run.machine && !s->run.dying)
		s->run.dying = machine_end(s->run.machine);
	sup_machine_release_fs(s);
	sup_net_release(s);
	sup_capture_close(&s->run.console);
	sup_capture_close(&s->run.messages);
	sup_guest_close(s);
	sup_log_close(s);
}

/* Whether another run follows; *delay_ns: after how long. */
static bool goes_on(struct supervisor *s, uint64_t *delay_ns)
{
	const struct sup_run *run = &s->run;
	const struct box_config *c = &s->box->config;

	switch (run->intent) {
	case SUP_RESTART:
		s->restart_count = 0;
		s->backoff = (struct box_backoff){0};
		*delay_ns = 0;
		return true;
	case SUP_BY_POLICY:
	case SUP_UNHEALTHY:
		/* A command waits for the first start, and says why it failed: no policy hides that. */
		if (c->auto_remove || (run->first && run->fail_text))
			return false;
		if (!box_restart_wanted(
			    &c->restart, run->intent == SUP_UNHEALTHY ? 1 : run->exit_code, s->restart_count))
			return false;
		s->restart_count++;
		*delay_ns =
			box_backoff_next(&s->backoff, run->started_ns ? time_mono_ns() - run->started_ns : 0);
		return true;
	default:
		return false;
	}
}

/* What Docker tells of a stop follows the end. */
static int record_stop(struct supervisor *s, int r, struct err *e)
{
	if (r < 0 || (s->run.intent != SUP_STOP && s->run.intent != SUP_RESTART))
		return r;
	return box_event_now(s->st, s->box->id, "stop", e);
}

static int record_again(struct supervisor *s, const char *error, struct err *e)
{
	int r = state_begin(s->st, e);
	if (r < 0)
		return r;
	r = box_set_restarting(s->st, s->box->id, s->run.exit_code, error, s->restart_count, e);
	return state_end(s->st, record_stop(s, r, e), e);
}

static int record_exited(struct supervisor *s, const char *error, struct err *e)
{
	enum sup_intent why = s->run.intent;
	int r = state_begin(s->st, e);
	if (r < 0)
		return r;
	if (why == SUP_KILL ||
		why == SUP_STOP) /* known before, but not where it waited or merely got a signal */
		r = box_set_stopping(s->st, s->box->id, 0, true, e);
	if (r == 0)
		r = box_set_exited(s->st, s->box->id, s->run.exit_code, error, e);
	if (r == 0 && why == SUP_HOST_DOWN)
		r = box_set_lost(s->st, s->box->id, e);
	return state_end(s->st, record_stop(s, r, e), e);
}

/* As box_undo_start, but the lock is kept. */
static int undo_start(struct supervisor *s, struct err *e)
{
	enum sup_intent why = s->run.intent;

	if (s->box->config.auto_remove)
		return box_remove_locked(s->st, s->box->id, &s->lock_fd, e);
	int r = state_begin(s->st, e);
	if (r < 0)
		return r;
	r = box_set_start_failed(s->st, s->box->id, s->run.exit_code, s->run.fail_text, e);
	if (r == 0 && why == SUP_HOST_DOWN) /* what somebody started is to be started later */
		r = box_set_lost(s->st, s->box->id, e);
	else if (r == 0 && (why == SUP_KILL || why == SUP_STOP)) /* and what `monitor` did is not */
		r = box_set_stopped(s->st, s->box->id, e);
	return state_end(s->st, r, e);
}

/* The record's last move. */
static int finish_record(struct supervisor *s, struct err *e)
{
	struct box_run_end how = {.exit_code = s->run.exit_code, .signal = s->discard ? SIGKILL : 0};
	bool never = s->run.first && s->run.fail_text;

	if (s->discard || (s->box->config.auto_remove && !never))
		return box_remove_run(s->st, s->box->id, &s->lock_fd, s->ending.ran ? &how : NULL, e);
	return never ? undo_start(s, e) : record_exited(s, s->ending.error, e);
}

/* Whether the move that failed can be tried again: a box that is dead stays so. */
static bool record_is_open(struct supervisor *s)
{
	CLEANUP(box_freep) struct box *now = NULL;
	int r = box_find_quiet(s->st, s->box->id, &now, NULL);

	return r == 0 ? box_is_live(now) || now->state == BOX_REMOVING : r != -ENOENT;
}

/* Writes the record, again after a moment where that does not go; then gives the lock up and tells the clients. */
static void conclude(void *data)
{
	struct supervisor *s = data;
	struct err e = {0};

	int r = finish_record(s, &e);
	wait_machine(s);
	if (r < 0 && time_mono_ns() < s->ending.give_up_ns && record_is_open(s) &&
		set_timer(s, SUP_RECORD_RETRY_NS, conclude) == 0) {
		log_warn("the record cannot be written yet: %s", e.msg);
		drop_machine(s);
		return;
	}
	if (r < 0) /* the next command repairs what this could not write */
		log_error("%s", e.msg);
	if (s->lock_fd >= 0)
		box_unlock(s->st, s->box->id, &s->lock_fd);
	sup_milestone(s, "record written");
	sup_clients_finish(s, s->ending.cut_short ? s->ending.error : NULL, false);
	drop_machine(s);
	if (!s->clients)
		loop_quit(s->loop, 0);
}

/* No run follows. error: as of sup_finish. ran: there was a workload; cut_short: it did not end by itself. */
static void begin_ending(struct supervisor *s, const char *error, bool ran, bool cut_short)
{
	s->run.phase = SUP_DONE;
	sup_clients_unlisten(s);
	sup_net_free(s); /* who hears of the end can have its ports */
	s->ending.error = error ? strdup(error) : NULL;
	s->ending.ran = ran;
	s->ending.cut_short = cut_short;
	s->ending.give_up_ns = time_mono_ns() + SUP_RECORD_LIMIT_NS;
	conclude(s);
}

static void on_next_run(void *data)
{
	run_begin(data, false);
}

/* What waited for its next run will have none. */
static void give_up(struct supervisor *s)
{
	run_release(s); /* the timer */
	begin_ending(s, NULL, false, false);
}

static void end(struct supervisor *s, const char *error)
{
	struct sup_run *run = &s->run;
	bool cut_short = run->phase == SUP_RUNNING; /* how the workload would have ended nobody will know */
	bool ran = run->phase == SUP_RUNNING || run->phase == SUP_FLUSH;
	uint64_t delay_ns = 0;
	struct err e = {0};

	if (run->phase >= SUP_OVER)
		return;
	if (run->intent == SUP_TIMED_OUT && ran)
		run->exit_code = TIMED_OUT_STATUS;
	bool again = !s->discard && goes_on(s, &delay_ns);
	run->phase = again ? SUP_OVER : SUP_DONE;
	if (!again)
		sup_clients_unlisten(s);
	run_release(s);
	if (again && (record_again(s, error, &e) < 0 || set_timer(s, delay_ns, on_next_run) < 0)) {
		log_error("cannot restart: %s", e.msg);
		run->intent = SUP_HOST_DOWN; /* it should run: `monitor` may bring it back */
		again = false;
	}
	if (!again) {
		begin_ending(s, error, ran, cut_short);
		return;
	}
	wait_machine(s);
	sup_clients_finish(s, cut_short ? error : NULL, true);
	drop_machine(s);
}

bool sup_restarting(const struct supervisor *s)
{
	return s->run.phase == SUP_OVER || (!s->run.first && s->run.phase < SUP_RUNNING);
}

void sup_start_failed(struct supervisor *s, int status, const char *text)
{
	if (s->run.phase >= SUP_RUNNING)
		return;
	s->run.exit_code = status;
	free(s->run.fail_text);
	s->run.fail_text = malloc(FAIL_TEXT_MAX);
	if (!s->run.fail_text)
		abort(); /* nothing can be said any more; the next command repairs the record */
	text_escape(s->run.fail_text, FAIL_TEXT_MAX,
		*text ? text : "unknown reason"); /* often the guest's own words */
	end(s, s->run.fail_text);
}

void sup_finish(struct supervisor *s, int code, const char *error)
{
	if (s->run.phase < SUP_RUNNING) {
		sup_start_failed(s, 125, error ? error : "stopped before the workload started");
		return;
	}
	char safe[FAIL_TEXT_MAX];
	if (error)
		text_escape(safe, sizeof(safe), error);
	s->run.exit_code = code;
	end(s, error ? safe : NULL);
}

static void on_lost_limit(void *data)
{
	struct supervisor *s = data;
	sup_finish(s, 137, s->run.lost_text);
}

void sup_guest_lost(struct supervisor *s, const char *text)
{
	if (s->run.lost_text || s->run.phase >= SUP_OVER)
		return;
	s->run.lost_text = text;
	if (set_timer(s, SUP_LOST_LIMIT_NS, on_lost_limit) < 0)
		on_lost_limit(s);
}

static void on_flush_limit(void *data)
{
	struct supervisor *s = data;
	sup_finish(s, s->run.exit_code, "the guest did not unmount its disk in time");
}

void sup_workload_ended(struct supervisor *s, int code)
{
	s->run.exit_code = code;
	sup_health_stop(s);
	if (s->box->config.auto_remove && s->run.intent != SUP_RESTART) {
		sup_finish(s, code, NULL);
		return;
	}
	s->run.phase = SUP_FLUSH;
	set_timer(s, SUP_FLUSH_LIMIT_NS, on_flush_limit);
	resume_to_stop(s); /* its last words were on the way when the machine was paused */
	if (s->run.phase == SUP_FLUSH)
		sup_guest_shutdown(s);
}

static void on_kill_limit(void *data)
{
	sup_finish(data, 137, NULL); /* the guest does not even act on SIGKILL: pull the plug */
}

static void kill_workload(struct supervisor *s)
{
	s->run.killed = true;
	sup_guest_signal(s, SIGKILL);
	set_timer(s, SUP_KILL_LIMIT_NS, on_kill_limit);
}

static void on_stop_limit(void *data)
{
	struct supervisor *s = data;
	struct err e = {0};

	if (box_event_signal(s->st, s->box->id, SIGKILL, &e) < 0)
		log_error("%s", e.msg);
	kill_workload(s);
}

/* Of several who want it stopped, the one with the least patience counts. */
static void arm_stop_limit(struct supervisor *s, uint64_t timeout_ns)
{
	uint64_t now = time_mono_ns(), *at = &s->run.stop_ns;

	if (*at == 0 || *at > now + MIN_OF(timeout_ns, UINT64_MAX - now))
		*at = now + MIN_OF(timeout_ns, UINT64_MAX - now);
	set_timer(s, *at == UINT64_MAX ? UINT64_MAX : *at > now ? *at - now : 0, on_stop_limit);
}

/* ---- pause ---- */

static void on_resumed_to_stop(void *data, int result)
{
	struct supervisor *s = data;
	int code = s->run.phase == SUP_FLUSH ? s->run.exit_code : 128 + SIGKILL;

	if (result < 0)
		sup_finish(s, code, "the machine could not be resumed to stop it");
}

static void resume(struct supervisor *s)
{
	int r = machine_resume(s->run.machine, on_resumed_to_stop, s);
	if (r < 0)
		on_resumed_to_stop(s, r);
}

static void set_paused(struct supervisor *s, bool paused)
{
	s->run.paused = paused;
	sup_health_paused(s);
}

/* A paused guest would not see the signal by which its user ends it. */
static void go_on(struct supervisor *s)
{
	struct err e = {0};

	s->run.signalled = s->run.pause_pending && s->run.pause_wanted;
	if (!s->run.paused || s->run.pause_pending)
		return;
	if (box_set_paused(s->st, s->box->id, false, &e) < 0) {
		log_error("%s", e.msg);
		return;
	}
	set_paused(s, false);
	resume(s);
}

static void on_paused(void *data, int result)
{
	struct supervisor *s = data;
	struct sup_client *c = TAKE_PTR(s->run.pausing);
	bool stands = result == 0 && s->run.pause_wanted;
	struct err e = {0};

	s->run.pause_pending = false;
	if ((s->run.stopping || s->run.phase != SUP_RUNNING) && result == 0) {
		/* Its end came in between, and needs a guest that runs. */
		result = err_set(&e, -ESRCH, "the box is stopping");
	} else if (result == 0) {
		result = box_set_paused(s->st, s->box->id, s->run.pause_wanted, &e);
		if (result == 0)
			set_paused(s, s->run.pause_wanted);
	} else {
		err_sys(&e, result, "cannot %s the machine", s->run.pause_wanted ? "pause" : "resume");
	}
	if (c)
		sup_client_reply(c, result, result < 0 ? e.msg : NULL);
	if (stands && result < 0) /* what the record does not say must not be */
		resume(s);
	else if (stands && s->run.signalled)
		go_on(s);
	else if (result == 0 && !stands) /* what could not be told to a guest that stood still */
		sup_net_reload(s);
}

void sup_pause(struct supervisor *s, struct sup_client *c, bool pause)
{
	const char *why = NULL;

	if (sup_restarting(s))
		why = "it is restarting: wait until it runs";
	else if (s->run.phase != SUP_RUNNING || s->run.lost_text)
		why = s->run.phase < SUP_RUNNING ? "the workload has not started yet"
						 : "the workload has ended";
	else if (s->run.stopping)
		why = "the box is stopping";
	else if (s->run.pause_pending)
		why = "it is being paused or unpaused already";
	else if (pause == s->run.paused)
		why = pause ? "it is paused already" : "it is not paused";
	if (why) {
		sup_client_reply(c, -EALREADY, why);
		return;
	}
	s->run.pause_pending = true;
	s->run.pausing = c;
	s->run.pause_wanted = pause;
	s->run.signalled = false;
	int r = (pause ? machine_pause : machine_resume)(s->run.machine, on_paused, s);
	if (r < 0)
		on_paused(s, r);
}

/* A paused guest would neither see a signal nor unmount. */
static void resume_to_stop(struct supervisor *s)
{
	if (!s->run.paused)
		return;
	set_paused(s, false);
	if (!s->run.pause_pending) /* else it is an UNPAUSE, which does the same */
		resume(s);
}

/* ---- stop, restart, signals ---- */

void sup_stop(struct supervisor *s, int sig, uint64_t timeout_ns, enum sup_intent why)
{
	struct sup_run *run = &s->run;
	struct err e = {0};

	if (run->phase == SUP_DONE || (why == SUP_RESTART && run->phase < SUP_RUNNING))
		return; /* the answer comes with its end, or its start */
	if (why >= SUP_KILL || run->intent == SUP_BY_POLICY ||
		(why == SUP_HOST_DOWN && (run->intent == SUP_UNHEALTHY || run->intent == SUP_RESTART)))
		run->intent = why;
	if (run->phase < SUP_RUNNING && run->first) {
		sup_start_failed(s, 125, "stopped before the workload started");
		return;
	}
	if (run->phase == SUP_OVER && why == SUP_RESTART) {
		set_timer(s, 0, on_next_run);
		return;
	}
	if (run->phase == SUP_OVER) {
		give_up(s);
		return;
	}
	if (run->phase < SUP_RUNNING) { /* its last run's end stays what it was */
		end(s, NULL);
		return;
	}
	if (run->phase == SUP_FLUSH && sig == SIGKILL) {
		sup_finish(s, run->exit_code, "killed while unmounting");
		return;
	}
	if (run->phase != SUP_RUNNING || run->killed || run->lost_text)
		return; /* its end is on the way; the answer comes with it */
	run->stopping = true;
	sup_clients_update_throttle(s); /* neither a client nor the log holds up the end */
	sup_health_stop(s);
	resume_to_stop(s);
	if (run->phase != SUP_RUNNING)
		return;
	/* The guest is told first: it is about it while the record is on its way to the disk. */
	if (sig == SIGKILL) {
		kill_workload(s);
	} else {
		sup_guest_signal(s, sig);
		arm_stop_limit(s, timeout_ns);
	}
	if (box_set_stopping(s->st, s->box->id, sig, why == SUP_KILL || why == SUP_STOP, &e) < 0)
		log_error("%s", e.msg);
}

void sup_discard(struct supervisor *s)
{
	struct sup_run *run = &s->run;

	if (run->phase == SUP_DONE)
		return;
	s->discard = true;
	run->intent = SUP_KILL;
	if (run->phase == SUP_OVER)
		give_up(s);
	else if (run->phase < SUP_RUNNING)
		sup_start_failed(s, 125, "removed before the workload started");
	else
		sup_finish(s, run->phase == SUP_RUNNING ? 128 + SIGKILL : run->exit_code, NULL);
}

bool sup_signal_ends(const struct supervisor *s, int sig)
{
	return sig == SIGKILL || sig == s->box->config.stop_signal;
}

void sup_signal(struct supervisor *s, int sig)
{
	struct err e = {0};

	if (sig == SIGKILL) {
		sup_stop(s, SIGKILL, 0, SUP_KILL);
		return;
	}
	if (box_event_signal(s->st, s->box->id, sig, &e) < 0)
		log_error("%s", e.msg);
	sup_guest_signal(s, sig);
	if (sup_signal_ends(s, sig)) {
		s->run.intent = SUP_KILL;
		go_on(s);
	}
}

void sup_unhealthy(struct supervisor *s)
{
	const struct box_config *c = &s->box->config;

	if (s->run.phase != SUP_RUNNING || s->run.stopping || c->auto_remove ||
		!box_restart_wanted(&c->restart, 1, s->restart_count))
		return;
	sup_stop(s, c->stop_signal, c->stop_timeout_ns, SUP_UNHEALTHY);
}

int sup_reload(struct supervisor *s, struct err *e)
{
	CLEANUP(box_freep) struct box *now = NULL;
	struct box_config *c = &s->box->config;

	int r = box_find_quiet(s->st, s->box->id, &now, e);
	if (r < 0)
		return r;
	/* Only what may change: others hold pointers into the rest. */
	wire_limits_done(&c->limits);
	c->limits = now->config.limits;
	now->config.limits = (struct wire_limits){0};
	c->nano_cpus = now->config.nano_cpus;
	c->vcpus = now->config.vcpus; /* of the next machine */
	c->restart = now->config.restart;
	return 0;
}

void sup_reloaded(struct supervisor *s)
{
	if (s->run.phase == SUP_OVER && s->run.intent != SUP_RESTART &&
		s->box->config.restart.policy == BOX_RESTART_NO)
		give_up(s);
}

/* ---- events ---- */

static void on_signal(void *data, int fd, uint32_t events)
{
	struct supervisor *s = data;
	struct signalfd_siginfo info;

	if (read(fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
		sup_stop(s, s->box->config.stop_signal, s->box->config.stop_timeout_ns, SUP_HOST_DOWN);
}

static void on_boot_limit(void *data)
{
	struct supervisor *s = data;
	if (s->run.phase < SUP_RUNNING)
		sup_start_failed(s, 125, "the guest did not boot in time");
}

static void on_run_limit(void *data)
{
	struct supervisor *s = data;
	if (s->run.phase == SUP_RUNNING && !s->run.stopping)
		sup_stop(s, s->box->config.stop_signal, s->box->config.stop_timeout_ns, SUP_TIMED_OUT);
}

void sup_running(struct supervisor *s)
{
	uint64_t limit_ns = s->box->config.run_limit_ns;

	if (!s->run.lost_text)
		loop_source_free(TAKE_PTR(s->run.timer)); /* the boot's */
	s->run.phase = SUP_RUNNING;
	s->run.started_ns = time_mono_ns();
	sup_milestone(s, "workload started");
	if (limit_ns && loop_add_timer(s->loop, limit_ns, on_run_limit, s, &s->run.limit) < 0)
		log_error("out of memory: --timeout will not end this run");
	sup_clients_started(s);
	sup_clients_pump_stdin(s);
	sup_health_start(s);
	sup_net_look(s); /* what was asked for before there was a guest to tell */
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

/* What all runs share. What it leaves half-made on failure is released by the caller. */
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
	/* Before any run: a client that finds the lock held must soon find somebody to talk to. */
	return sup_clients_listen(s, e);
}

/* Everything up to a running guest. */
static int run_set_up(struct supervisor *s, struct err *e)
{
	int r = box_ensure_scratch(
		s->st, s->box_fd, s->box->config.disk_bytes, !s->box->config.auto_remove, e);
	if (r == 0)
		r = sup_log_open(s, e);
	if (r == 0)
		r = sup_guest_listen(s, e);
	if (r == 0)
		r = sup_machine_start(s, e);
	if (r == 0 && s->scratch_fd < 0)
		s->scratch_fd = openat(s->box_fd, "scratch.img", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (r == 0 && set_timer(s, SUP_BOOT_LIMIT_NS, on_boot_limit) < 0)
		r = err_oom(e);
	return r;
}

static void run_init(struct sup_run *run, bool first)
{
	*run = (struct sup_run){
		.first = first,
		.control_listen_fd = -1,
		.handshake_fd = -1,
		.console = {-1, -1, 0, NULL},
		.messages = {-1, -1, 0, NULL},
	};
}

static void run_begin(struct supervisor *s, bool first)
{
	int last_code = s->run.exit_code;
	bool by_user = s->run.intent == SUP_RESTART;
	struct err e = {0};

	run_release(s); /* the timer */
	drop_machine(s);
	free(s->run.fail_text);
	run_init(&s->run, first);
	s->run.exit_code = last_code; /* until this one has one */
	s->run.by_user = by_user;
	s->born_ns = time_mono_ns();
	int r = first ? set_up(s, &e) : 0;
	if (r == 0)
		r = run_set_up(s, &e);
	if (r < 0) {
		char text[sizeof(e.msg) + sizeof(e.hint) + 4];
		snprintf(text, sizeof(text), "%s%s%s%s", e.msg, *e.hint ? " (" : "", e.hint,
			*e.hint ? ")" : "");
		sup_start_failed(s, 125, text);
	} else {
		sup_net_started(s);
	}
}

static void release(struct supervisor *s)
{
	run_release(s);
	drop_machine(s);
	sup_net_free(s);
	sup_clients_unlisten(s);
	sup_clients_free(s);
	loop_source_free(s->signals_io);
	close_fd(&s->signals_fd);
	close_fd(&s->run_fd);
	close_fd(&s->vsock_fd);
	close_fd(&s->box_fd);
	close_fd(&s->scratch_fd);
	close_fd(&s->lock_fd);
	sup_net_wait_left(s);
	loop_free(s->loop);
	box_free(s->box);
	state_close(s->st);
	free(s->run.fail_text);
	free(s->ending.error);
}

int supervisor_main(const char *id)
{
	struct supervisor s = {.lock_fd = SUPERVISOR_LOCK_FD,
		.run_fd = -1,
		.box_fd = -1,
		.vsock_fd = -1,
		.scratch_fd = -1,
		.leaving.pidfd = -1,
		.signals_fd = -1,
		.listen_fd = -1};
	struct err e = {0};

	run_init(&s.run, true);
	io_set_cloexec(SUPERVISOR_LOCK_FD, true);
	io_set_cloexec(SUPERVISOR_CLIENT_FD, true);
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
		run_begin(&s, true);
		r = loop_run(s.loop);
	} else {
		log_error("%s", e.msg);
		s.run.phase = SUP_DONE;
		s.run.exit_code = 125;
		s.run.fail_text = strdup(e.msg);
		sup_clients_finish(&s, NULL, false);
	}
	release(&s);
	return r < 0;
}
