/* SPDX-License-Identifier: MIT */
/*
 * Starting boxes that exist.
 *
 * THEORY OF OPERATION
 *
 * An attempt either starts a box, or finds that it runs, or finds somebody else at it. The first leaves a connection with
 * its supervisor, on which the answer to BOX_OP_STARTED comes: boxes boot side by side, as many as STARTS_MAX. Another
 * command's start is asked in the same way what comes of it; whoever else works on the box (a repair, a removal) is waited
 * for by further attempts.
 */
#include <string.h>
#include <time.h>

#include "base/io.h"
#include "base/loop.h"
#include "boxes.h"
#include "session.h"
#include "start.h"
#include "wire/conn.h"

/* A machine that boots takes a processor and its memory: more at once would only make all of them late. */
#define STARTS_MAX 8
/* For whoever works on a box that is to be started. */
#define PATIENCE_NS 10000000000ull
#define RETRY_NS    10000000ull

/* ---- one attempt ---- */

/* A connection with the supervisor of a live box. */
static int join(struct app *a, const struct box *b, bool attached, int *ret_fd, struct err *e)
{
	struct err ignored;

	if (b->state == BOX_STOPPING)
		return err_set(e, -EBUSY, "box %s is stopping", b->name);
	if (b->state == BOX_PAUSED) {
		err_set(e, -EBUSY, "box %s is paused", b->name);
		return err_hint(e, "let it go on with: a3s-box unpause %s", b->name);
	}
	if (!attached && b->state != BOX_STARTING)
		return 0;
	*ret_fd = box_connect(a->st, b, e);
	if (*ret_fd != -ENOENT)
		return MIN_OF(*ret_fd, 0);
	/* Its owner does not listen yet, or is gone; what a dead one left is repaired. */
	box_reconcile(a->st, &ignored);
	return -EAGAIN;
}

/*
 * attached: a connection is wanted also if it runs; else *ret_fd is -1 then. *ret_ours: the start is this one. 0, -EAGAIN
 * when it is to be tried again, or -errno.
 */
static int start_attempt(struct app *a, const char *ref, bool attached, struct box **ret, int *ret_fd,
	bool *ret_ours, struct err *e)
{
	CLEANUP(box_freep) struct box *b = NULL;
	CLEANUP_CLOSE int lock = -1;

	*ret_fd = -1;
	*ret_ours = false;
	int r = box_find(a->st, ref, &b, e);
	if (r < 0)
		return r;
	if (box_is_live(b)) {
		r = join(a, b, attached, ret_fd, e);
	} else {
		*ret_ours = true;
		r = start_prepare(a, b, &lock, e);
		if (r == 0)
			r = box_start(a->st, b, &lock, ret_fd, e);
		r = r == -EBUSY ? -EAGAIN : r;
	}
	if (r == 0)
		*ret = TAKE_PTR(b);
	return r;
}

int start_attached(struct app *a, const char *ref, struct box **ret, int *ret_fd, struct err *e)
{
	bool ours;

	for (uint64_t until = time_mono_ns() + PATIENCE_NS;;) {
		int r = start_attempt(a, ref, true, ret, ret_fd, &ours, e);
		if (r != -EAGAIN || time_mono_ns() >= until)
			return r;
		nanosleep(&(struct timespec){.tv_nsec = RETRY_NS}, NULL);
	}
}

/* ---- several ---- */

struct starting {
	struct starts *all;
	struct batch_item *item;
	struct wire_conn *conn;
	struct loop_source *retry; /* timer */
	uint64_t until_ns;	   /* monotonic: for attempts */
	bool ours;		   /* the start that conn waits for; else another command's */
};

struct starts {
	struct batch *bt;
	bool (*wanted)(const struct batch *bt, size_t i);
	struct loop *loop;
	struct loop_source *more, *slow; /* deferred; timer */
	struct starting *v;		 /* one for each item */
	size_t next;			 /* the first that was not begun */
	size_t under_way;
};

static void finish(struct starting *w, int result)
{
	w->item->result = result;
	wire_conn_free(TAKE_PTR(w->conn));
	loop_source_free(TAKE_PTR(w->retry));
	w->all->under_way--;
	loop_defer(w->all->more);
}

static void try_again(struct starting *w)
{
	struct err *e = &w->item->err;

	wire_conn_free(TAKE_PTR(w->conn));
	if (time_mono_ns() < w->until_ns)
		loop_set_timer(w->retry, RETRY_NS);
	else
		finish(w, e->code ? e->code : err_set(e, -EBUSY, "somebody else is starting it"));
}

static int on_frame(void *data, struct wire_conn *conn, const struct wire_frame *f)
{
	struct starting *w = data;
	CLEANUP_FREE char *text = NULL;
	uint32_t status;

	if (f->type == WIRE_STARTED || f->type == WIRE_EXIT) { /* it may have ended since */
		finish(w, 0);
		return 0;
	}
	if (f->type != WIRE_FAIL || wire_get_fail(f, &status, &text) < 0)
		return -EBADMSG;
	w->item->status = status >= 1 && status <= 255 ? (int)status : STATUS_FAILED;
	finish(w, err_set(&w->item->err, -EIO, "%s", text));
	return 0;
}

static void on_end(void *data, struct wire_conn *conn, int error)
{
	struct starting *w = data;

	if (!w->ours) { /* how that one's start ended, the record says */
		try_again(w);
		return;
	}
	w->item->status = STATUS_FAILED;
	finish(w, err_set(&w->item->err, -EPIPE,
			  error == -EBADMSG ? "the box broke the protocol"
					    : "the box is gone: it was killed, or its supervisor died"));
}

static const struct wire_conn_ops start_ops = {.on_frame = on_frame, .on_end = on_end};

static int ask(struct starting *w, int fd)
{
	struct box_request req = {.op = BOX_OP_STARTED};
	struct err *e = &w->item->err;
	int r = wire_conn_new(w->all->loop, fd, &start_ops, w, &w->conn);

	if (r == 0)
		r = box_put_request(wire_conn_out(w->conn), &req);
	if (r < 0)
		return err_sys(e, r, "cannot wait for its start");
	wire_conn_flush(w->conn);
	return 0;
}

static void attempt(void *data)
{
	struct starting *w = data;
	CLEANUP(box_freep) struct box *b = NULL;
	int fd;

	w->item->err = (struct err){0};
	int r = start_attempt(&w->all->bt->app, w->item->box->id, false, &b, &fd, &w->ours, &w->item->err);
	if (r == -EAGAIN) {
		try_again(w);
		return;
	}
	if (r == 0 && fd >= 0)
		r = ask(w, fd);
	if (r < 0 || fd < 0)
		finish(w, r);
}

static void start_more(void *data)
{
	struct starts *s = data;

	while (s->under_way < STARTS_MAX && s->next < s->bt->n) {
		size_t i = s->next++;
		struct starting *w = &s->v[i];
		if (!s->wanted(s->bt, i))
			continue;
		*w = (struct starting){
			.all = s, .item = &s->bt->v[i], .until_ns = time_mono_ns() + PATIENCE_NS};
		s->under_way++;
		if (loop_add_timer(s->loop, UINT64_MAX, attempt, w, &w->retry) < 0)
			finish(w, err_oom(&w->item->err));
		else
			attempt(w);
	}
	if (s->under_way == 0)
		loop_quit(s->loop, 0);
}

static void on_slow(void *data)
{
	session_say_slow();
}

void batch_start(struct batch *bt, bool (*wanted)(const struct batch *bt, size_t i))
{
	struct starts s = {.bt = bt, .wanted = wanted, .v = calloc(bt->n, sizeof(*s.v))};

	int r = s.v ? loop_new(&s.loop) : -ENOMEM;
	if (r == 0)
		r = loop_add_deferred(s.loop, start_more, &s, &s.more);
	if (r == 0)
		r = loop_add_timer(s.loop, SESSION_SLOW_NS, on_slow, NULL, &s.slow);
	if (r == 0) {
		loop_defer(s.more);
		r = loop_run(s.loop);
	}
	for (size_t i = 0; r < 0 && i < bt->n; i++) {
		if (wanted(bt, i))
			bt->v[i].result = err_sys(&bt->v[i].err, r, "cannot wait for starts");
	}
	for (size_t i = 0; s.v && i < bt->n; i++) {
		wire_conn_free(s.v[i].conn);
		loop_source_free(s.v[i].retry);
	}
	loop_source_free(s.more);
	loop_source_free(s.slow);
	loop_free(s.loop);
	free(s.v);
}
