/* SPDX-License-Identifier: MIT */
/* wait: for boxes to end, all watched at the same time; their codes in the order given. */
#include <string.h>
#include <time.h>

#include "boxes.h"

enum condition { NOT_RUNNING, NEXT_EXIT, REMOVED };

/* How often a box is looked at that has no supervisor who could tell. */
enum { POLL_NS = 100000000 };

struct waiting {
	struct batch bt;
	enum condition condition;
	int *codes;   /* of each item, -1: not known yet */
	size_t shown; /* items that were reported */
	int status;
};

/* Reports what is known, up to the first item that is not. */
static void show(struct waiting *w)
{
	for (; w->shown < w->bt.n; w->shown++) {
		struct batch_item *it = &w->bt.v[w->shown], *first = &w->bt.v[it->same];
		int code = w->codes[it->same];
		if (first->result < 0 && first == it)
			w->status = app_fail(w->bt.cmd, &it->err, 1);
		if (first->result < 0)
			continue;
		if (code < 0)
			return;
		printf("%d\n", code);
		fflush(stdout);
	}
}

static void pause_a_moment(void)
{
	nanosleep(&(struct timespec){.tv_nsec = POLL_NS}, NULL);
}

/* What the record says of a box that is over. */
static void take_recorded(struct waiting *w, size_t i)
{
	CLEANUP(box_freep) struct box *now = NULL;
	struct batch_item *it = &w->bt.v[i];

	it->result = box_find(w->bt.app.st, it->box->id, &now, &it->err);
	if (it->result == -ENOENT && w->condition == REMOVED)
		it->result = 0; /* that is what was waited for */
	if (it->result == 0)
		w->codes[i] = now ? now->exit_code : it->box->exit_code;
}

static void on_ended(struct box_call *call, void *data)
{
	struct waiting *w = data;
	size_t i = 0;

	while (w->bt.v[i].box != call->box)
		i++;
	if (call->result == -ESRCH) { /* over before it could be asked */
		take_recorded(w, i);
	} else if (call->result < 0) {
		w->bt.v[i].result = call->result;
		w->bt.v[i].err = call->err;
	} else {
		w->codes[i] = call->result;
	}
	if (w->condition == NOT_RUNNING)
		show(w);
}

static int wait_for_live(struct waiting *w)
{
	CLEANUP_FREE struct box_call *calls = calloc(w->bt.n, sizeof(*calls));
	size_t n = 0;

	if (!calls)
		return -ENOMEM;
	for (size_t i = 0; i < w->bt.n; i++) {
		const struct box *b = w->bt.v[i].box;
		if (!batch_wants(&w->bt, i))
			continue;
		if (box_is_live(b))
			calls[n++] = (struct box_call){
				.box = b, .req = {.op = BOX_OP_WAIT}, .mode = BOX_CALL_LIVE};
		else if (w->condition != NEXT_EXIT)
			w->codes[i] = b->exit_code;
	}
	if (w->condition == NOT_RUNNING)
		show(w);
	box_call_many(w->bt.app.st, calls, n, on_ended, w);
	return 0;
}

/* The end of a box that did not run when we began: after its next start. */
static void wait_next(struct waiting *w, size_t i)
{
	struct batch_item *it = &w->bt.v[i];

	while (it->result == 0 && w->codes[i] < 0) {
		CLEANUP(box_freep) struct box *now = NULL;
		struct box_request req = {.op = BOX_OP_WAIT};
		it->result = box_find(w->bt.app.st, it->box->id, &now, &it->err);
		if (it->result < 0)
			return;
		/* 0: it runs */
		if (now->finished_ns && now->finished_ns != it->box->finished_ns) {
			w->codes[i] = now->exit_code; /* it ran and ended between two looks */
		} else if (box_is_live(now)) {
			int r = box_call_live(w->bt.app.st, now, &req, &it->err);
			if (r >= 0)
				w->codes[i] = r;
			else if (r != -ESRCH)
				it->result = r;
		} else {
			pause_a_moment();
		}
	}
}

static void wait_removed(struct waiting *w, size_t i)
{
	struct batch_item *it = &w->bt.v[i];

	for (int r = 0; r == 0;) {
		CLEANUP(box_freep) struct box *now = NULL;
		r = box_find(w->bt.app.st, it->box->id, &now, &it->err);
		if (r == 0)
			pause_a_moment();
		else if (r != -ENOENT)
			it->result = r;
	}
}

static int wait_all(struct waiting *w)
{
	struct batch *bt = &w->bt;

	w->codes = malloc(bt->n * sizeof(*w->codes));
	if (!w->codes)
		return -ENOMEM;
	for (size_t i = 0; i < bt->n; i++)
		w->codes[i] = -1;
	int r = wait_for_live(w);
	for (size_t i = 0; r == 0 && i < bt->n; i++) {
		if (batch_wants(bt, i) && w->condition == NEXT_EXIT && w->codes[i] < 0)
			wait_next(w, i);
		else if (batch_wants(bt, i) && w->condition == REMOVED)
			wait_removed(w, i);
		show(w);
	}
	return r;
}

static int parse_condition(const char *s, enum condition *ret, struct err *e)
{
	static const char *const names[] = {"not-running", "next-exit", "removed"};

	for (size_t i = 0; s && i < ARRAY_LEN(names); i++) {
		if (strcmp(s, names[i]) == 0) {
			*ret = (enum condition)i;
			return 0;
		}
	}
	return s ? err_set(e, -EINVAL, "--condition %s: expected not-running, next-exit or removed", s) : 0;
}

int cmd_wait(const struct cmd *c, int argc, char **argv)
{
	const char *condition = NULL;
	struct opt opts[] = {{0, "condition", OPT_STR, &condition, "WHEN",
				     "not-running, next-exit or removed [not-running]"},
		{0}};
	struct waiting w = {.condition = NOT_RUNNING};
	struct err e = {0};

	int r = opts_parse(c, opts, OPTS_MIXED, &argc, argv, &e);
	if (r > 0)
		return 0;
	if (r == 0)
		r = parse_condition(condition, &w.condition, &e);
	if (r < 0)
		return app_fail(c, &e, 1);
	r = batch_open(&w.bt, c, argc, argv, false);
	if (r)
		return r;
	if (wait_all(&w) < 0) {
		err_oom(&e);
		w.status = app_fail(c, &e, 1);
	}
	free(w.codes);
	batch_close(&w.bt);
	return w.status;
}
