/* SPDX-License-Identifier: MIT */
#include "supervisor.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>

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

/* Takes one piece off the pipe. Returns false when there is none, or no more to come. */
static bool capture_some(struct sup_capture *c)
{
	char chunk[4096];
	ssize_t n = read(c->rd, chunk, sizeof(chunk));

	if (n <= 0)
		return false;
	/* Beyond the limit it is still read, or the writer would hang. */
	size_t room = SUP_CAPTURE_MAX - c->bytes, take = MIN_OF((size_t)n, room);
	if (take && io_write_full(c->log, chunk, take) == 0)
		c->bytes += take;
	return true;
}

static void on_capture(void *data, int fd, uint32_t events)
{
	struct sup_capture *c = data;

	if (!capture_some(c) && events & (EPOLLHUP | EPOLLERR))
		loop_source_free(TAKE_PTR(c->io));
}

/* Opens the file and the pipe; *ret_wr is the writer's end. */
static int capture_open(
	struct supervisor *s, struct sup_capture *c, const char *name, int *ret_wr, struct err *e)
{
	int fds[2];

	c->log = openat(s->box_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (c->log < 0 || pipe2(fds, O_CLOEXEC) < 0)
		return err_sys(e, -errno, "cannot open %s", name);
	c->rd = fds[0];
	*ret_wr = fds[1];
	io_set_nonblock(c->rd, true);
	int r = loop_add_io(s->loop, c->rd, EPOLLIN, on_capture, c, &c->io);
	return r < 0 ? err_sys(e, r, "cannot open %s", name) : 0;
}

static void capture_close(struct sup_capture *c)
{
	loop_source_free(TAKE_PTR(c->io));
	while (c->rd >= 0 && capture_some(c)) /* a panic's last lines; the writer is gone, so this ends */
		;
	close_fd(&c->rd);
	close_fd(&c->log);
}

/* The last thing the backend said, for the error of a machine that did not start. */
static void last_words(struct supervisor *s, char *dst, size_t size)
{
	CLEANUP_FREE char *text = NULL;
	size_t len;

	dst[0] = '\0';
	while (s->messages.rd >= 0 && capture_some(&s->messages))
		;
	if (io_read_file_at(s->box_fd, "machine.log", SUP_CAPTURE_MAX, &text, &len) < 0)
		return;
	while (len && (text[len - 1] == '\n' || text[len - 1] == '\r'))
		text[--len] = '\0';
	const char *nl = strrchr(text, '\n');
	snprintf(dst, size, "%s", nl ? nl + 1 : text);
}

static void tear_down(struct supervisor *s)
{
	loop_source_free(TAKE_PTR(s->timer));
	loop_source_free(TAKE_PTR(s->machine_end));
	if (s->machine)
		machine_free(TAKE_PTR(s->machine));
	capture_close(&s->console);
	capture_close(&s->messages);
	sup_guest_close(s);
	vhost_user_free(TAKE_PTR(s->vhost));
	vsock_free(TAKE_PTR(s->vsock));
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
	if (sig == SIGKILL) {
		on_stop_limit(s);
		return;
	}
	sup_guest_signal(s, sig);
	set_timer(s, timeout_ns, on_stop_limit);
}

/* ---- events ---- */

static void on_machine_end(void *data, int fd, uint32_t events)
{
	struct supervisor *s = data;
	char words[256], text[400];

	if (s->phase == SUP_FLUSH) {
		sup_finish(s, s->exit_code, NULL); /* the guest powered off by itself */
		return;
	}
	last_words(s, words, sizeof(words));
	snprintf(text, sizeof(text), "the machine ended unexpectedly%s%s", *words ? ": " : "", words);
	sup_finish(s, 137, text);
}

static void on_vhost_gone(void *data, const char *reason)
{
	struct supervisor *s = data;

	/* The machine is dead or dying; if not, it is broken beyond use. Its end is what the rest hangs on. */
	log_debug("vsock device: %s", reason);
	if (s->machine && machine_pid(s->machine) > 0)
		kill(machine_pid(s->machine), SIGKILL);
}

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

static int start_machine(struct supervisor *s, struct err *e)
{
	int pair[2];
	CLEANUP_CLOSE int console = -1;
	CLEANUP_CLOSE int messages = -1;
	CLEANUP_CLOSE int vsock_fd = -1;
	CLEANUP_FREE char *kernel = box_find_asset("vmlinux", e);
	CLEANUP_FREE char *initrd = kernel ? box_find_asset("initramfs.cpio", e) : NULL;
	CLEANUP_FREE char *image = str_printf("%s/%s", s->st->home, s->box->disk);
	CLEANUP_FREE char *scratch = str_printf("%s/boxes/%s/scratch.img", s->st->home, s->box->id);
	struct accel_info info;

	if (!kernel || !initrd)
		return e->code;
	if (!image || !scratch)
		return err_oom(e);
	CLEANUP_CLOSE int cache = io_open_dir_at(s->st->home_fd, "cache", true);
	accel_probe(cache, &info);
	int r = accel_choose(s->box->config.accel, &info, &s->accel, e);
	if (r == 0)
		r = capture_open(s, &s->console, "console.log", &console, e);
	if (r == 0)
		r = capture_open(s, &s->messages, "machine.log", &messages, e);
	if (r < 0)
		return r;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return err_sys(e, -errno, "cannot set up the vsock device");
	vsock_fd = pair[1];
	r = vsock_new(s->loop, s->run_fd, &s->vsock);
	if (r < 0)
		close(pair[0]);
	else
		r = vsock_serve_vhost_user(s->vsock, pair[0], on_vhost_gone, s, &s->vhost);
	if (r < 0)
		return err_sys(e, r, "cannot set up the vsock device");
	struct machine_config c = {
		.kernel = kernel,
		.initrd = initrd,
		.vcpus = s->box->config.vcpus,
		.mem_bytes = s->box->config.mem_bytes,
		.disks = {{.path = image, .read_only = true}, {.path = scratch}},
		.n_disks = 2,
		.accel = s->accel,
		.tsc_khz = info.tsc_khz,
		.vsock_fd = vsock_fd,
		.hold_fd = s->lock_fd,
		.console_fd = console,
		.log_fd = messages,
	};
	sup_milestone(s, "starting the machine");
	r = machine_start(&c, &s->machine, e);
	if (r == 0) {
		r = loop_add_io(
			s->loop, machine_end_fd(s->machine), EPOLLIN, on_machine_end, s, &s->machine_end);
		if (r < 0)
			err_sys(e, r, "cannot watch the machine");
	}
	return r;
}

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
	/* First of all: a client that finds the lock held must soon find somebody to talk to. */
	r = sup_clients_listen(s, e);
	if (r == 0)
		r = box_ensure_scratch(s->st, s->box_fd, !s->box->config.auto_remove, e);
	if (r == 0)
		r = log_writer_open(&s->log, s->box_fd, e);
	if (r == 0)
		r = sup_guest_listen(s, e);
	if (r == 0)
		r = start_machine(s, e);
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
