/* SPDX-License-Identifier: MIT */
/*
 * Questions to supervisors, any number at once, in one thread: each call is a connection with one request on it, or waits
 * to be tried again.
 */
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "base/io.h"
#include "box/box.h"
#include "ctl.h"
#include "run.h"

enum { READ_MAX = 4096, REMOVE_ATTEMPTS = 10 };

#define RETRY_NS 5000000ull
/* The supervisor itself gives the guest 10 s before it ends the machine. */
#define KILL_LIMIT_NS 20000000000ull

struct box_call_state {
	int fd, pidfd; /* -1: not connected; not known */
	struct buf in;
	bool over;
	uint64_t next_ns;    /* monotonic: of the next attempt, while not connected */
	uint64_t limit_ns;   /* monotonic: until the answer; UINT64_MAX: for ever */
	uint64_t give_up_ns; /* monotonic: KILL's patience */
};

static uint64_t later(uint64_t from_ns, uint64_t delay_ns)
{
	uint64_t at;
	return __builtin_add_overflow(from_ns, delay_ns, &at) ? UINT64_MAX : at;
}

static void disconnect(struct box_call *c)
{
	close_fd(&c->state->fd);
	close_fd(&c->state->pidfd);
	buf_done(&c->state->in);
	c->state->in = (struct buf){0};
}

static void finish(struct box_call *c, int result)
{
	disconnect(c);
	c->result = result;
	c->state->over = true;
}

/* Nobody to talk to: it is starting, ending, or over. Only the lock tells. */
static void look_for_owner(struct state *st, struct box_call *c)
{
	struct box_call_state *s = c->state;

	disconnect(c);
	int r = box_repair(st, c->box->id, 0, &c->err);
	if (r < 0)
		finish(c, r);
	else if (r == 0)
		finish(c, c->mode == BOX_CALL_KILL ? 0 : -ESRCH);
	else if (time_mono_ns() >= s->give_up_ns)
		finish(c, err_set(&c->err, -EBUSY, "box %s cannot be stopped", c->box->name));
	else
		s->next_ns = time_mono_ns() + RETRY_NS;
}

/* The connection failed or ended without an answer. */
static void lost(struct state *st, struct box_call *c, int r)
{
	bool gone = r == -ENOENT || r == -EPIPE || r == -ECONNRESET;

	if (c->mode == BOX_CALL_KILL || (c->mode == BOX_CALL_LIVE && gone))
		look_for_owner(st, c);
	else
		finish(c, r);
}

static void no_answer(struct state *st, struct box_call *c, int r)
{
	err_sys(&c->err, r, "the supervisor of box %s does not answer", c->box->name);
	lost(st, c, r);
}

static void connect_and_ask(struct state *st, struct box_call *c)
{
	struct box_call_state *s = c->state;
	CLEANUP(buf_done) struct buf out = {0};
	struct ucred peer;
	socklen_t len = sizeof(peer);

	s->fd = box_connect(st, c->box, &c->err);
	if (s->fd < 0) {
		lost(st, c, s->fd);
		return;
	}
	/* Taken while it is connected: later the number could be another process's. */
	if (c->mode == BOX_CALL_KILL && getsockopt(s->fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 &&
		peer.pid > 0)
		s->pidfd = (int)syscall(SYS_pidfd_open, peer.pid, 0);
	s->limit_ns = c->mode == BOX_CALL_LIVE
			      ? UINT64_MAX
			      : later(time_mono_ns(), c->mode == BOX_CALL_KILL ? KILL_LIMIT_NS : c->limit_ns);
	int r = box_put_request(&out, &c->req);
	if (r == 0 && send(s->fd, buf_data(&out), out.len, MSG_NOSIGNAL) != (ssize_t)out.len)
		r = -EPIPE;
	if (r < 0)
		no_answer(st, c, r);
}

/* The result is known; KILL wants more: that it is over. */
static void answered(struct state *st, struct box_call *c, int result)
{
	if (c->mode == BOX_CALL_KILL)
		look_for_owner(st, c);
	else
		finish(c, result);
}

static void on_frame(struct state *st, struct box_call *c, const struct wire_frame *f)
{
	CLEANUP_FREE char *text = NULL;
	uint32_t status;

	if (f->type == WIRE_CTL_REPLY) {
		answered(st, c, ctl_get_reply(f, &c->err));
	} else if (c->req.op == BOX_OP_STARTED && (f->type == WIRE_STARTED || f->type == WIRE_EXIT)) {
		answered(st, c, 0);
	} else if (f->type == WIRE_EXIT && c->req.op == BOX_OP_WAIT) {
		if (wire_get_u32(f, &status) < 0)
			no_answer(st, c, -EBADMSG);
		else
			finish(c, (int)(status & 255));
	} else if (f->type == WIRE_FAIL) {
		if (wire_get_fail(f, &status, &text) < 0)
			no_answer(st, c, -EBADMSG);
		else
			answered(st, c, err_set(&c->err, -EIO, "%s", text));
	}
}

static void read_answer(struct state *st, struct box_call *c)
{
	struct box_call_state *s = c->state;
	struct wire_frame f;
	uint8_t *p = buf_reserve(&s->in, READ_MAX);
	ssize_t n = p ? read(s->fd, p, READ_MAX) : 0;
	int r;

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n <= 0) {
		no_answer(st, c, p ? -EPIPE : -ENOMEM);
		return;
	}
	buf_commit(&s->in, (size_t)n);
	while (s->fd >= 0 && (r = wire_next(&s->in, &f)) != 0) {
		if (r < 0) {
			no_answer(st, c, r);
			return;
		}
		on_frame(st, c, &f);
		if (s->fd >= 0)
			wire_consume(&s->in, &f);
	}
}

/* Time has passed for this call: an attempt is due, or an answer overdue. */
static void on_time(struct state *st, struct box_call *c, uint64_t now)
{
	struct box_call_state *s = c->state;

	if (s->over)
		return;
	if (s->fd < 0) {
		if (now >= s->next_ns)
			connect_and_ask(st, c);
	} else if (now >= s->limit_ns) {
		if (s->pidfd >= 0)
			syscall(SYS_pidfd_send_signal, s->pidfd, SIGKILL, NULL,
				0); /* its machine dies with it */
		no_answer(st, c, -ETIMEDOUT);
	}
}

/* Waits until something is to be done for one of them. */
static void wait_for_any(const struct box_call *calls, size_t n, struct pollfd *p)
{
	uint64_t until = UINT64_MAX, now = time_mono_ns();

	for (size_t i = 0; i < n; i++) {
		const struct box_call_state *s = calls[i].state;
		p[i] = (struct pollfd){.fd = s->over ? -1 : s->fd, .events = POLLIN};
		if (!s->over)
			until = MIN_OF(until, s->fd < 0 ? s->next_ns : s->limit_ns);
	}
	uint64_t ms = until <= now ? 0 : MIN_OF((until - now) / 1000000 + 1, (uint64_t)3600000);
	if (poll(p, n, (int)ms) < 0) {
		for (size_t i = 0; i < n; i++)
			p[i].revents = 0;
	}
}

static size_t report(struct box_call *calls, size_t n, bool *told,
	void (*done)(struct box_call *c, void *data), void *data)
{
	size_t left = 0;

	for (size_t i = 0; i < n; i++) {
		left += !calls[i].state->over;
		if (calls[i].state->over && !told[i]) {
			told[i] = true;
			if (done)
				done(&calls[i], data);
		}
	}
	return left;
}

void box_call_many(struct state *st, struct box_call *calls, size_t n,
	void (*done)(struct box_call *c, void *data), void *data)
{
	CLEANUP_FREE struct box_call_state *states = calloc(n + 1, sizeof(*states));
	CLEANUP_FREE struct pollfd *p = calloc(n + 1, sizeof(*p));
	CLEANUP_FREE bool *told = calloc(n + 1, sizeof(*told));

	for (size_t i = 0; i < n; i++) {
		calls[i].err = (struct err){0};
		calls[i].result = 0;
		if (!states || !p || !told) {
			calls[i].result = err_oom(&calls[i].err);
			if (done)
				done(&calls[i], data);
			continue;
		}
		states[i] = (struct box_call_state){.fd = -1, .pidfd = -1, .give_up_ns = UINT64_MAX};
		if (calls[i].mode == BOX_CALL_KILL)
			states[i].give_up_ns = time_mono_ns() + 2 * KILL_LIMIT_NS;
		calls[i].state = &states[i];
	}
	if (!states || !p || !told)
		return;
	for (;;) {
		uint64_t now = time_mono_ns();
		for (size_t i = 0; i < n; i++)
			on_time(st, &calls[i], now);
		if (report(calls, n, told, done, data) == 0)
			break;
		wait_for_any(calls, n, p);
		for (size_t i = 0; i < n; i++) {
			if (p[i].revents && !calls[i].state->over)
				read_answer(st, &calls[i]);
		}
	}
	for (size_t i = 0; i < n; i++)
		calls[i].state = NULL;
}

/* ---- one call ---- */

static int call_one(struct state *st, struct box_call *c, struct err *e)
{
	box_call_many(st, c, 1, NULL, NULL);
	if (c->result < 0 && e)
		*e = c->err;
	return c->result;
}

int box_call(struct state *st, const struct box *b, const struct box_request *req, uint64_t limit_ns,
	struct err *e)
{
	struct box_call c = {.box = b, .req = *req, .mode = BOX_CALL_ONCE, .limit_ns = limit_ns};
	return call_one(st, &c, e);
}

int box_call_live(struct state *st, const struct box *b, const struct box_request *req, struct err *e)
{
	struct box_call c = {.box = b, .req = *req, .mode = BOX_CALL_LIVE};
	return call_one(st, &c, e);
}

int box_kill_hard(struct state *st, const struct box *b, struct err *e)
{
	struct box_call c = {.box = b, .req = {.op = BOX_OP_STOP, .signal = SIGKILL}, .mode = BOX_CALL_KILL};
	return call_one(st, &c, e);
}

/* ---- removal ---- */

static struct box_call removal_of(const struct box *b)
{
	return (struct box_call){.box = b,
		.req = {.op = BOX_OP_STOP, .signal = SIGKILL, .discard = true},
		.mode = BOX_CALL_KILL};
}

/* It should not live (any more): with a record left, that and its files go. -EBUSY when somebody works on it. */
static int remove_once(struct state *st, const char *id, struct err *e)
{
	CLEANUP_CLOSE int lock = -1;
	CLEANUP(box_freep) struct box *now = NULL;

	int r = box_find_quiet(st, id, &now, e);
	if (r == 0 && box_is_live(now)) { /* `monitor`, say, started it meanwhile */
		struct box_call kill = removal_of(now);
		r = call_one(st, &kill, e);
		if (r < 0)
			return r == -EBUSY ? -ETIMEDOUT : r;			 /* it had its time */
		return err_set(e, -EBUSY, "box %s is being started", now->name); /* or gone: look again */
	}
	if (r == -ENOENT) /* its supervisor did it, as it was asked to, or as --rm says */
		return 0;
	if (r == 0)
		r = box_lock(st, id, &lock, e);
	if (r == 0)
		r = box_remove_locked(st, id, &lock, e);
	if (lock >= 0)
		box_unlock(st, id, &lock);
	return r;
}

static void remove_rest(struct state *st, struct box_call *c)
{
	c->result = -EBUSY;
	for (unsigned i = 0; i < REMOVE_ATTEMPTS && c->result == -EBUSY; i++)
		c->result = remove_once(st, c->box->id, &c->err);
}

void box_remove_many(struct state *st, struct box_call *calls, size_t n)
{
	CLEANUP_FREE struct box_call *live = calloc(n + 1, sizeof(*live));
	CLEANUP_FREE size_t *whose = calloc(n + 1, sizeof(*whose));
	size_t n_live = 0;

	for (size_t i = 0; live && whose && i < n; i++) {
		if (!box_is_live(calls[i].box))
			continue;
		whose[n_live] = i;
		live[n_live++] = removal_of(calls[i].box);
	}
	if (n_live)
		box_call_many(st, live, n_live, NULL, NULL);
	for (size_t i = 0, k = 0; i < n; i++) {
		if (!live || !whose) {
			calls[i].result = err_oom(&calls[i].err);
			continue;
		}
		calls[i].result = 0;
		if (k < n_live && whose[k] == i) {
			calls[i].result = live[k].result;
			calls[i].err = live[k++].err;
		}
		if (calls[i].result == 0)
			remove_rest(st, &calls[i]);
	}
}
