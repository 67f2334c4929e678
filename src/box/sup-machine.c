/* SPDX-License-Identifier: MIT */
/* The supervisor and its machine: what it is made of, what it prints, what is recorded of it. */
#include <fcntl.h>
#include <string.h>

#include <jansson.h>

#include "base/io.h"
#include "base/log.h"
#include "machine-parts.h"
#include "run.h"
#include "supervisor.h"

/* ---- what the machine prints ---- */

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

void sup_capture_close(struct sup_capture *c)
{
	loop_source_free(TAKE_PTR(c->io));
	/* A panic's last lines. The writer is gone or dying, so this ends. */
	while (c->rd >= 0 && capture_some(c))
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
	while (s->run.messages.rd >= 0 && capture_some(&s->run.messages))
		;
	if (io_read_file_at(s->box_fd, "machine.log", SUP_CAPTURE_MAX, &text, &len) < 0)
		return;
	while (len && (text[len - 1] == '\n' || text[len - 1] == '\r'))
		text[--len] = '\0';
	const char *nl = strrchr(text, '\n');
	snprintf(dst, size, "%s", nl ? nl + 1 : text);
}

/* ---- start and end ---- */

static void on_machine_end(void *data, int fd, uint32_t events)
{
	struct supervisor *s = data;
	char words[256], text[400];

	if (s->run.phase == SUP_FLUSH) {
		sup_finish(s, s->run.exit_code, NULL); /* the guest powered off by itself */
		return;
	}
	last_words(s, words, sizeof(words));
	snprintf(text, sizeof(text), "the machine ended unexpectedly%s%s", *words ? ": " : "", words);
	sup_finish(s, 137, text);
}

/* ---- the file server ---- */

static void on_fs_end(void *data, int fd, uint32_t events)
{
	struct supervisor *s = data;
	char words[256], text[400];

	loop_source_free(TAKE_PTR(s->run.fs_end));
	if (s->run.phase > SUP_RUNNING)
		return;			  /* the guest is on its way down */
	if (!box_fs_failed(&s->run.fs)) { /* because its machine has ended, as will show */
		sup_guest_lost(s, "the server of its mounted files ended");
		return;
	}
	last_words(s, words, sizeof(words));
	snprintf(text, sizeof(text), "the server of its mounted files ended unexpectedly%s%s",
		*words ? ": " : "", words);
	/* Without it the guest waits for its files for ever. */
	sup_finish(s, 137, text);
}

static void on_fs_status(void *data, int fd, uint32_t events)
{
	struct supervisor *s = data;

	if (fs_status_read(&s->run.fs.process) != 0)
		loop_source_free(TAKE_PTR(s->run.fs_status));
}

/* Nothing is done for a box without mounts. */
static int start_fs(struct supervisor *s, int log_fd, struct machine_config *c, struct err *e)
{
	int r = box_fs_start(s->st, s->box, s->lock_fd, log_fd, &s->run.fs, e);

	if (r < 0 || box_fs_socket(&s->run.fs) < 0)
		return r;
	c->fs_fd = box_fs_socket(&s->run.fs);
	c->fs_tag = FS_TAG;
	sup_milestone(s, "file server started");
	r = loop_add_io(s->loop, s->run.fs.process.pid_fd, EPOLLIN, on_fs_end, s, &s->run.fs_end);
	if (r == 0)
		r = loop_add_io(
			s->loop, s->run.fs.process.status_fd, EPOLLIN, on_fs_status, s, &s->run.fs_status);
	return r < 0 ? err_sys(e, r, "cannot watch %s", FS_PROGRAM) : 0;
}

void sup_machine_release_fs(struct supervisor *s)
{
	loop_source_free(TAKE_PTR(s->run.fs_end));
	loop_source_free(TAKE_PTR(s->run.fs_status));
	box_fs_end(&s->run.fs);
}

int sup_machine_start(struct supervisor *s, struct err *e)
{
	CLEANUP_CLOSE int console = -1;
	CLEANUP_CLOSE int messages = -1;
	CLEANUP(machine_parts_done) struct machine_parts p = {0};
	CLEANUP_FREE char *qemu_net = NULL;
	struct machine_config c;

	int r = machine_parts_find(s->st, s->box, &p, &c, e);
	if (r == 0)
		r = capture_open(s, &s->run.console, "console.log", &console, e);
	if (r == 0)
		r = capture_open(s, &s->run.messages, "machine.log", &messages, e);
	if (r < 0)
		return r;
	s->accel = c.accel;
	c.vsock_dirfd = s->vsock_fd;
	c.hold_fd = s->lock_fd;
	c.console_fd = console;
	c.log_fd = messages;
	c.debug_serial = getenv("A3S_DEBUG_SERIAL") != NULL;
	sup_milestone(s, "starting the machine");
	r = sup_net_prepare(s, &c.net, e);
	if (r == 0 && c.net.present && s->accel != ACCEL_KVM) {
		c.qemu_net = qemu_net = box_find_asset("a3s-box-qemu.so", e);
		r = qemu_net ? 0 : e->code;
	}
	if (r == 0)
		r = start_fs(s, messages, &c, e);
	if (r == 0)
		r = machine_start(s->loop, &c, &s->run.machine, e);
	box_fs_connected(&s->run.fs);
	if (r == 0) {
		r = loop_add_io(s->loop, machine_end_fd(s->run.machine), EPOLLIN, on_machine_end, s,
			&s->run.machine_end);
		if (r < 0)
			err_sys(e, r, "cannot watch the machine");
	}
	return r;
}

/* ---- what is known of it ---- */

/* null for a box without mounts. */
static json_t *fs_json(const struct supervisor *s)
{
	const struct fs_process *p = &s->run.fs.process;
	json_t *confined = json_array();

	if (p->pid <= 0) {
		json_decref(confined);
		return json_null();
	}
	for (const char *at = p->confined; *at;) {
		size_t n = strcspn(at, ",");
		json_array_append_new(confined, json_stringn(at, n));
		at += n + strspn(at + n, ", ");
	}
	return json_pack("{s:o, s:s}", "Confinement", confined, "ConfinementMissing", p->not_confined);
}

int sup_record_running(struct supervisor *s, struct err *e)
{
	struct machine_status status = {0};
	json_t *confined = json_array();

	machine_status(s->run.machine, &status);
	for (unsigned i = 0; i < CONFINED_N; i++) {
		if (status.confined & 1u << i)
			json_array_append_new(confined, json_string(machine_confinement_name(i)));
	}
	char safe[sizeof(status.not_confined) * 4];
	text_escape(safe, sizeof(safe), status.not_confined); /* the machine's own words */
	json_t *j = json_pack("{s:s, s:o, s:s, s:o}", "Backend", accel_backend(s->accel), "Confinement",
		confined, "ConfinementMissing", safe, "FileServer", fs_json(s));
	CLEANUP_FREE char *text = j ? json_dumps(j, JSON_COMPACT) : NULL;
	json_decref(j);
	if (!text)
		return err_oom(e);
	int r = state_begin(s->st, e);
	if (r < 0)
		return r;
	r = box_set_running(s->st, s->box->id, accel_name(s->accel), text, e);
	if (r == 0)
		r = sup_net_record(s, e);
	if (r == 0 && s->run.by_user)
		r = box_event_now(s->st, s->box->id, "restart", e);
	return state_end(s->st, r, e);
}

static void on_stats(void *data, int result, const struct machine_stats *m)
{
	uint64_t exits = 0;

	if (result < 0)
		return;
	for (unsigned i = 0; i < EXIT_N; i++)
		exits += m->exits[i];
	log_debug("machine: exits %llu (io %llu, mmio %llu, hlt %llu, interrupted %llu, other %llu), kicks "
		  "%llu,"
		  " interrupts %llu, disk requests %llu",
		(unsigned long long)exits, (unsigned long long)m->exits[EXIT_IO],
		(unsigned long long)m->exits[EXIT_MMIO], (unsigned long long)m->exits[EXIT_HLT],
		(unsigned long long)m->exits[EXIT_INTR],
		(unsigned long long)(m->exits[EXIT_OTHER] + m->exits[EXIT_SHUTDOWN]),
		(unsigned long long)m->kicks, (unsigned long long)m->interrupts,
		(unsigned long long)m->disk_requests);
	log_debug("machine: set-up %.2f ms, of that KVM %.2f ms; %llu KiB resident, %llu KiB private",
		(double)m->setup_ns / 1e6, (double)m->kvm_setup_ns / 1e6,
		(unsigned long long)m->resident >> 10, (unsigned long long)m->private_bytes >> 10);
}

void sup_first_output(struct supervisor *s)
{
	if (s->run.had_output)
		return;
	s->run.had_output = true;
	sup_milestone(s, "first output");
	if (log_get_level() >= LOG_LVL_DEBUG)
		machine_stats(s->run.machine, on_stats, s);
}
