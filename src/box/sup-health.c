/* SPDX-License-Identifier: MIT */
/*
 * Health checks: a command run in the box now and then, whose exit status says whether the workload is well.
 *
 * As in Docker: the first probe starts one interval after the workload, each further one an interval after the end of the
 * last. Exit status 0 is healthy at once; `retries` failures in a row are unhealthy, but failures that start within the
 * start period of a workload that never was healthy do not count; until the first success in that period, the start interval
 * is the interval. A probe that takes longer than the timeout is killed, with its process group, and has failed. The last
 * HEALTH_LOG probes are kept in boxes/ID/health.json in Docker's form. While the machine stands still, so do the clocks.
 *
 * A probe is a session of its own (wire.h), one at a time. All that the guest sends is bounded: output beyond
 * HEALTH_OUTPUT_MAX is read and dropped. Whatever it does wrong is a failed probe and no more.
 */
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <string.h>

#include "base/io.h"
#include "base/log.h"
#include "base/units.h"
#include "run.h"
#include "supervisor.h"

enum { HEALTH_LOG = 5, HEALTH_OUTPUT_MAX = 4096 };

/* What a setting of 0 means. */
#define DEFAULT_INTERVAL_NS	  30000000000ull
#define DEFAULT_TIMEOUT_NS	  5000000000ull
#define DEFAULT_START_INTERVAL_NS 5000000000ull
#define DEFAULT_RETRIES		  3
/* For a probe to be gone after SIGKILL; then it is left to itself. */
#define KILL_LIMIT_NS 10000000000ull

struct result {
	int64_t start_ns, end_ns; /* since the epoch */
	int exit_code;		  /* -1: it did not end by itself, or did not start */
	char *output;		  /* UTF-8 */
};

struct sup_health {
	struct supervisor *s;
	uint64_t interval_ns, timeout_ns, start_interval_ns;
	uint64_t born_ns; /* monotonic */
	const char *status;
	unsigned streak; /* failures in a row */
	struct result log[HEALTH_LOG];
	size_t n_log;
	bool write_failed; /* said once */

	struct loop_source *timer;     /* to the next probe; then its time limit */
	uint64_t deadline_ns, left_ns; /* of the timer; what was left of it when the machine was paused */

	/* The probe that runs. */
	int fd; /* until the handshake is done; -1 */
	struct handshake handshake;
	struct loop_source *handshake_io;
	struct wire_conn *conn;
	bool started, timed_out, cut;
	int64_t start_ns;
	uint64_t start_mono_ns;
	struct buf output;
};

static void set_timer(struct sup_health *h, uint64_t delay_ns)
{
	h->deadline_ns = time_mono_ns() + delay_ns;
	h->left_ns = delay_ns;
	loop_set_timer(h->timer, h->s->run.paused ? UINT64_MAX : delay_ns);
}

/* ---- what is known ---- */

/* Text as JSON can hold it, as Go's encoder does: what is no UTF-8 becomes U+FFFD. */
static char *to_text(const uint8_t *s, size_t len)
{
	char *text = malloc(3 * len + 1), *o = text;

	for (size_t i = 0; text && i < len;) {
		size_t n = s[i] ? text_utf8_len(s + i, len - i, NULL) : 0;
		memcpy(o, n ? (const char *)s + i : "\xef\xbf\xbd", n ? n : 3);
		o += n ? n : 3;
		i += n ? n : 1;
	}
	if (text)
		*o = '\0';
	return text;
}

static json_t *result_json(const struct result *r)
{
	char start[40], end[40];

	return json_pack("{s:s, s:s, s:i, s:s}", "Start",
		format_time_rfc3339(start, sizeof(start), r->start_ns), "End",
		format_time_rfc3339(end, sizeof(end), r->end_ns), "ExitCode", r->exit_code, "Output",
		r->output);
}

/* Whole or not at all, but not durable: it says nothing about a box that does not run. */
static int replace_file(int dirfd, const char *text)
{
	static const char name[] = "health.json", fresh[] = "health.json.new";
	CLEANUP_CLOSE int fd =
		openat(dirfd, fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	int r = fd < 0 ? -errno : io_write_full(fd, text, strlen(text));

	if (r == 0 && renameat(dirfd, fresh, dirfd, name) < 0)
		r = -errno;
	if (r < 0)
		unlinkat(dirfd, fresh, 0);
	return r;
}

static void write_state(struct sup_health *h)
{
	json_t *list = json_array();

	for (size_t i = 0; i < h->n_log; i++)
		json_array_append_new(list, result_json(&h->log[i]));
	json_t *j = json_pack(
		"{s:s, s:i, s:o}", "Status", h->status, "FailingStreak", (int)h->streak, "Log", list);
	CLEANUP_FREE char *text = j ? json_dumps(j, JSON_COMPACT) : NULL;
	json_decref(j);
	int r = text ? replace_file(h->s->box_fd, text) : -ENOMEM;
	if (r < 0 && !h->write_failed)
		log_warn("health: cannot write health.json: %s", strerror(-r));
	h->write_failed = r < 0;
}

static void set_status(struct sup_health *h, const char *status)
{
	struct err e = {0};

	h->status = status;
	if (box_set_health(h->s->st, h->s->box->id, status, &e) < 0)
		log_warn("health: %s", e.msg);
}

/* ---- the end of a probe ---- */

static bool in_start_period(const struct sup_health *h, uint64_t now_ns)
{
	return now_ns - h->born_ns < h->s->box->config.health.start_period_ns;
}

static void schedule(struct sup_health *h)
{
	bool soon = strcmp(h->status, "starting") == 0 && in_start_period(h, time_mono_ns());

	set_timer(h, soon ? h->start_interval_ns : h->interval_ns);
}

static void drop_probe(struct sup_health *h)
{
	loop_source_free(TAKE_PTR(h->handshake_io));
	close_fd(&h->fd);
	wire_conn_free(TAKE_PTR(h->conn));
	buf_done(&h->output);
}

/* Takes text along. */
static void keep_result(struct sup_health *h, int exit_code, char *text)
{
	if (h->n_log == HEALTH_LOG) {
		free(h->log[0].output);
		memmove(h->log, h->log + 1, (HEALTH_LOG - 1) * sizeof(*h->log));
		h->n_log--;
	}
	h->log[h->n_log++] = (struct result){h->start_ns, time_real_ns(), exit_code, text};
}

/* The probe is over; text is what it printed, or why there is none. May end the run, and so free h. */
static void finish_probe(struct sup_health *h, int exit_code, char *text)
{
	const struct box_health_check *c = &h->s->box->config.health;
	struct supervisor *s = h->s;
	const char *status = h->status;

	drop_probe(h);
	if (!text) {
		schedule(h); /* out of memory: it is as if the probe had not been */
		return;
	}
	keep_result(h, exit_code, text);
	if (exit_code == 0) {
		h->streak = 0;
		status = "healthy";
	} else if (strcmp(status, "starting") != 0 || !in_start_period(h, h->start_mono_ns)) {
		h->streak += h->streak < UINT32_MAX / 2;
		if (h->streak >= (c->retries ? c->retries : DEFAULT_RETRIES))
			status = "unhealthy";
	}
	bool changed = strcmp(status, h->status) != 0;
	h->status = status;
	write_state(h); /* before the event, whose readers look */
	if (changed)
		set_status(h, status);
	schedule(h);
	if (changed && strcmp(status, "unhealthy") == 0)
		sup_unhealthy(s);
}

/* "1m30s", "500ms": as Go writes durations of at least a millisecond. */
static void format_duration(char *dst, size_t size, uint64_t ns)
{
	uint64_t s = ns / 1000000000, ms = ns / 1000000 % 1000;
	char seconds[32];

	if (s == 0) {
		snprintf(dst, size, "%llums", (unsigned long long)ms);
		return;
	}
	int n = snprintf(seconds, sizeof(seconds), "%llu.%03llu", (unsigned long long)(s % 60),
		(unsigned long long)ms);
	while (seconds[n - 1] == '0' && ms)
		n--;
	seconds[ms ? n : n - 4] = '\0';
	if (s >= 3600)
		snprintf(dst, size, "%lluh%llum%ss", (unsigned long long)(s / 3600),
			(unsigned long long)(s / 60 % 60), seconds);
	else if (s >= 60)
		snprintf(dst, size, "%llum%ss", (unsigned long long)(s / 60), seconds);
	else
		snprintf(dst, size, "%ss", seconds);
}

static void finish_exit(struct sup_health *h, int exit_code)
{
	CLEANUP_FREE char *text = to_text(buf_data(&h->output), h->output.len);
	char limit[64];

	if (text && (h->cut || h->timed_out)) {
		char *with = NULL;
		format_duration(limit, sizeof(limit), h->timeout_ns);
		if (h->timed_out)
			with = str_printf("Health check exceeded timeout (%s)%s%s%s", limit,
				*text ? ": " : "", text, h->cut ? "..." : "");
		else
			with = str_printf("%s...", text);
		free(text);
		text = with;
	}
	finish_probe(h, h->timed_out ? -1 : exit_code, TAKE_PTR(text));
}

static void fail_probe(struct sup_health *h, const char *why)
{
	if (h->timed_out)
		finish_exit(h, -1);
	else
		finish_probe(h, -1, to_text((const uint8_t *)why, strlen(why)));
}

/* ---- the session ---- */

static int on_first_frame(struct sup_health *h, const struct wire_frame *f)
{
	CLEANUP_FREE char *text = NULL;
	uint32_t v;

	if (f->type == WIRE_STARTED) {
		h->started = true;
		return wire_get_u32(f, &v);
	}
	if (f->type != WIRE_FAIL)
		return -EBADMSG;
	int r = wire_get_fail(f, &v, &text);
	if (r == 0)
		fail_probe(h, text);
	return r;
}

static int on_frame(void *data, struct wire_conn *conn, const struct wire_frame *f)
{
	struct sup_health *h = data;
	size_t room = HEALTH_OUTPUT_MAX - h->output.len;
	uint32_t v;
	int r;

	if (!h->started)
		return on_first_frame(h, f);
	switch (f->type) {
	case WIRE_STDOUT:
	case WIRE_STDERR:
		h->cut |= f->len > room;
		return buf_append(&h->output, f->payload, MIN_OF(f->len, room));
	case WIRE_EXIT:
		r = wire_get_u32(f, &v);
		if (r < 0 || (v & ~WIRE_EXIT_OOM) > 255)
			return -EBADMSG;
		finish_exit(h, (int)(v & 255));
		return 0;
	default:
		return -EBADMSG;
	}
}

static void on_end(void *data, struct wire_conn *conn, int error)
{
	fail_probe(data, error == -EBADMSG ? "the guest broke the protocol" : "the guest ended the session");
}

static const struct wire_conn_ops conn_ops = {.on_frame = on_frame, .on_end = on_end};

static int make_process(const struct sup_health *h, struct wire_process *p, struct err *e)
{
	const struct box *b = h->s->box;
	const struct wire_process *main = &b->config.process;
	const struct strv *test = &b->config.health.test;
	bool shell = strcmp(test->v[0], "CMD-SHELL") == 0;
	int r = 0;

	p->cwd = strdup(main->cwd ? main->cwd : "/");
	p->user = strdup(main->user ? main->user : "");
	if (!p->cwd || !p->user || strv_copy(&p->env, &main->env) < 0 ||
		strv_copy(&p->groups, &main->groups) < 0)
		return err_oom(e);
	if (shell && (strv_push(&p->argv, "/bin/sh") < 0 || strv_push(&p->argv, "-c") < 0))
		return err_oom(e);
	for (size_t i = 1; r == 0 && i < test->n; i++)
		r = strv_push(&p->argv, test->v[i]);
	return r < 0 ? err_oom(e) : box_fill_process(h->s->st, b, p, e);
}

static void start_process(struct sup_health *h)
{
	CLEANUP(wire_process_done) struct wire_process p = {0};
	struct err e = {0};
	int r = wire_conn_new(h->s->loop, TAKE_FD(h->fd), &conn_ops, h, &h->conn);

	if (r < 0) {
		fail_probe(h, strerror(-r));
		return;
	}
	if (make_process(h, &p, &e) < 0) {
		fail_probe(h, e.msg);
		return;
	}
	if (wire_put_process(wire_conn_out(h->conn), &p) < 0) {
		fail_probe(h, "command line and environment are too long");
		return;
	}
	wire_conn_flush(h->conn);
}

static void on_handshake(void *data, int fd, uint32_t events)
{
	struct sup_health *h = data;
	int r = handshake_read(&h->handshake, fd);

	if (r == 0)
		return;
	loop_source_free(TAKE_PTR(h->handshake_io));
	if (r > 0)
		start_process(h);
	else
		fail_probe(h, "the guest does not accept sessions");
}

static void start_probe(struct sup_health *h)
{
	h->started = h->timed_out = h->cut = false;
	h->start_ns = time_real_ns();
	h->start_mono_ns = time_mono_ns();
	set_timer(h, h->timeout_ns);
	int r = sup_guest_dial(h->s, &h->handshake);
	if (r >= 0) {
		h->fd = r;
		r = loop_add_io(h->s->loop, h->fd, EPOLLIN, on_handshake, h, &h->handshake_io);
	}
	if (r < 0)
		fail_probe(h, strerror(-r));
}

static void on_timer(void *data)
{
	struct sup_health *h = data;

	if (h->fd < 0 && !h->conn) {
		start_probe(h);
	} else if (h->conn && !h->timed_out) {
		h->timed_out = true;
		wire_put_u32(wire_conn_out(h->conn), WIRE_SIGNAL, SIGKILL | WIRE_SIGNAL_GROUP);
		wire_conn_flush(h->conn);
		set_timer(h, KILL_LIMIT_NS); /* those that are dying must not pile up */
	} else {
		h->timed_out = true;
		finish_exit(h, -1);
	}
}

/* ---- life ---- */

void sup_health_start(struct supervisor *s)
{
	const struct box_health_check *c = &s->box->config.health;

	sup_health_stop(s);
	if (c->test.n < 2 || (strcmp(c->test.v[0], "CMD") != 0 && strcmp(c->test.v[0], "CMD-SHELL") != 0))
		return; /* none, or "NONE" */
	struct sup_health *h = calloc(1, sizeof(*h));
	if (!h || loop_add_timer(s->loop, UINT64_MAX, on_timer, h, &h->timer) < 0) {
		free(h);
		log_error("out of memory: there will be no health checks");
		return;
	}
	h->s = s;
	h->fd = -1;
	h->born_ns = time_mono_ns();
	h->interval_ns = c->interval_ns ? c->interval_ns : DEFAULT_INTERVAL_NS;
	h->timeout_ns = c->timeout_ns ? c->timeout_ns : DEFAULT_TIMEOUT_NS;
	h->start_interval_ns = c->start_interval_ns ? c->start_interval_ns : DEFAULT_START_INTERVAL_NS;
	h->status = "starting";
	s->health = h;
	write_state(h);
	set_status(h, h->status);
	schedule(h);
}

void sup_health_paused(struct supervisor *s)
{
	struct sup_health *h = s->health;

	if (!h)
		return;
	uint64_t now = time_mono_ns();
	if (s->run.paused) {
		h->left_ns = h->deadline_ns > now ? h->deadline_ns - now : 0;
		loop_set_timer(h->timer, UINT64_MAX);
	} else {
		set_timer(h, h->left_ns);
	}
}

void sup_health_stop(struct supervisor *s)
{
	struct sup_health *h = TAKE_PTR(s->health);

	if (!h)
		return;
	drop_probe(h);
	loop_source_free(h->timer);
	for (size_t i = 0; i < h->n_log; i++)
		free(h->log[i].output);
	free(h);
}
