/* SPDX-License-Identifier: MIT */
/* Commands on existing boxes: stop, restart, kill, pause, unpause, rename. */
#include "boxes.h"

#include <signal.h>
#include <string.h>

#include "base/log.h"
#include "base/units.h"
#include "box/network.h"
#include "start.h"

/* What a supervisor gets to answer what it can answer at once. */
#define CALL_LIMIT_NS 10000000000ull

enum { STOP_ATTEMPTS = 5 };

/* ---- batches ---- */

static void find_one(struct batch *bt, size_t i, const char *ref)
{
	struct batch_item *it = &bt->v[i];

	it->ref = ref;
	it->same = i;
	it->result = box_find(bt->app.st, ref, &it->box, &it->err);
	for (size_t j = 0; it->box && j < i; j++) {
		if (bt->v[j].box && strcmp(bt->v[j].box->id, it->box->id) == 0) {
			it->same = bt->v[j].same;
			break;
		}
	}
}

int batch_open(struct batch *bt, const struct cmd *c, int argc, char **argv, bool with_images)
{
	struct err e = {0};

	*bt = (struct batch){.cmd = c};
	if (argc < 2)
		return app_usage(c, "a box is needed");
	int r = app_open(&bt->app, with_images, &e);
	if (r < 0)
		return app_fail(c, &e, c->usage_status);
	bt->v = calloc((size_t)argc, sizeof(*bt->v));
	if (!bt->v) {
		app_close(&bt->app);
		err_oom(&e);
		return app_fail(c, &e, c->usage_status);
	}
	for (int i = 1; i < argc; i++)
		find_one(bt, bt->n++, argv[i]);
	return 0;
}

/* A result of 0 is one that is to be found out still; of several items for one box the first stands for all. */
bool batch_wants(const struct batch *bt, size_t i)
{
	return bt->v[i].result == 0 && bt->v[i].same == i;
}

void batch_out_of_memory(struct batch *bt)
{
	for (size_t i = 0; i < bt->n; i++) {
		if (bt->v[i].result == 0)
			bt->v[i].result = err_oom(&bt->v[i].err);
	}
}

void batch_take(struct batch *bt, const struct box_call *calls, const size_t *owners, size_t n)
{
	for (size_t k = 0; k < n; k++) {
		bt->v[owners[k]].result = calls[k].result;
		bt->v[owners[k]].err = calls[k].err;
	}
}

void batch_call(struct batch *bt,
	int (*prepare)(const struct box *b, struct box_call *call, void *data, struct err *e), void *data,
	int over)
{
	CLEANUP_FREE struct box_call *calls = calloc(bt->n, sizeof(*calls));
	CLEANUP_FREE size_t *owners = calloc(bt->n, sizeof(*owners));
	size_t n = 0;

	if (!calls || !owners) {
		batch_out_of_memory(bt);
		return;
	}
	for (size_t i = 0; i < bt->n; i++) {
		struct batch_item *it = &bt->v[i];
		if (!batch_wants(bt, i))
			continue;
		calls[n] = (struct box_call){.box = it->box, .limit_ns = CALL_LIMIT_NS};
		int r = prepare(it->box, &calls[n], data, &it->err);
		if (r > 0)
			owners[n++] = i;
		else
			it->result = r;
	}
	box_call_many(bt->app.st, calls, n, NULL, NULL);
	batch_take(bt, calls, owners, n);
	for (size_t k = 0; k < n; k++) {
		struct batch_item *it = &bt->v[owners[k]];
		if (it->result == -ESRCH)
			it->result = over < 0
					     ? err_set(&it->err, over, "box %s is not running", it->box->name)
					     : 0;
	}
}

void batch_close(struct batch *bt)
{
	for (size_t i = 0; i < bt->n; i++)
		box_free(bt->v[i].box);
	free(TAKE_PTR(bt->v));
	app_close(&bt->app);
}

int batch_finish(struct batch *bt)
{
	struct err gc = {0};
	int status = 0;

	for (size_t i = 0; i < bt->n; i++) {
		struct batch_item *it = &bt->v[i], *first = &bt->v[it->same];
		if (first->result == 0)
			printf("%s\n", it->ref);
		else if (first == it) {
			bool fine = bt->missing_is_fine && it->result == -ENOENT && !it->box;
			int failed = app_fail(bt->cmd, &it->err, it->status ? it->status : 1);
			status = fine ? status : failed;
		}
		fflush(stdout);
	}
	/* An image removed by force goes with the last box that needed it. */
	if (bt->app.store && oci_store_gc_if_due(bt->app.store, &gc) < 0)
		log_warn("%s", gc.msg);
	batch_close(bt);
	return status;
}

/* ---- stop, restart ---- */

struct stop_opts {
	enum box_op op;
	const char *time, *signal_name;
	uint64_t timeout_ns;
	int signal; /* 0: the box's */
};

static int parse_stop_opts(struct stop_opts *o, struct err *e)
{
	if (o->signal_name && parse_signal(o->signal_name, &o->signal) < 0)
		return err_set(e, -EINVAL, "--signal %s: expected a signal's name or number", o->signal_name);
	if (o->time && strcmp(o->time, "-1") == 0)
		o->timeout_ns = UINT64_MAX; /* as in Docker: wait for ever */
	else if (o->time && parse_duration_ns(o->time, &o->timeout_ns) < 0)
		return err_set(e, -EINVAL, "--time %s: expected seconds, or -1 to wait for ever", o->time);
	return 0;
}

static int prepare_stop(const struct box *b, struct box_call *call, void *data, struct err *e)
{
	const struct stop_opts *o = data;

	if (!box_is_live(b))
		return 0; /* as in Docker: what is asked for is so */
	call->req = (struct box_request){.op = o->op,
		.signal = o->signal ? o->signal : b->config.stop_signal,
		.timeout_ns = o->time ? o->timeout_ns : b->config.stop_timeout_ns};
	call->mode = BOX_CALL_LIVE;
	return 1;
}

static int stop_opts_from_args(
	const struct cmd *c, struct stop_opts *o, int *argc, char **argv, struct err *e)
{
	struct opt opts[] = {{'s', "signal", OPT_STR, &o->signal_name, "SIGNAL",
				     "what asks it to stop, by name or number [the box's, TERM]"},
		{'t', "time", OPT_STR, &o->time, "SECONDS",
			"wait before it is killed, -1: for ever [the box's, 10]"},
		{0}};

	int r = opts_parse(c, opts, OPTS_MIXED, argc, argv, e);
	return r == 0 ? parse_stop_opts(o, e) : r;
}

/* Finds the boxes and asks those that run to stop. 0; 1 when that was all, *status being ours then. */
static int ask_to_stop(struct batch *bt, const struct cmd *c, struct stop_opts *o, int argc, char **argv,
	bool with_images, int *status)
{
	struct err e = {0};

	int r = stop_opts_from_args(c, o, &argc, argv, &e);
	if (r) {
		*status = r < 0 ? app_fail(c, &e, 1) : 0;
		return 1;
	}
	*status = batch_open(bt, c, argc, argv, with_images);
	if (*status)
		return 1;
	batch_call(bt, prepare_stop, o, -ESRCH);
	return 0;
}

/* Whether item i is one that did not run, or ended by itself before it could be asked. */
static bool was_over(const struct batch *bt, size_t i)
{
	const struct batch_item *it = &bt->v[i];
	return it->same == i && (it->result == -ESRCH || (it->result == 0 && !box_is_live(it->box)));
}

/*
 * For one without a supervisor who could be asked: what only `monitor` would start is to stay as it is. If that was
 * quicker, it is stopped again.
 */
static int keep_stopped(struct app *a, const char *id, struct stop_opts *o, struct err *e)
{
	for (unsigned i = 0; i < STOP_ATTEMPTS; i++) {
		CLEANUP(box_freep) struct box *now = NULL;
		struct box_call call = {0};
		int r = box_set_stopped(a->st, id, e);
		if (r == 0)
			r = box_find(a->st, id, &now, e);
		if (r < 0)
			return r == -ENOENT ? 0 : r; /* it went with its end, as --rm says */
		if (prepare_stop(now, &call, o, e) == 0)
			return 0;
		r = box_call_live(a->st, now, &call.req, e);
		if (r != -ESRCH)
			return r;
	}
	return err_set(e, -EBUSY, "box %.*s is started again and again", BOX_ID_SHORT_LEN, id);
}

int cmd_stop(const struct cmd *c, int argc, char **argv)
{
	struct stop_opts o = {.op = BOX_OP_STOP};
	struct batch bt;
	int status;

	if (ask_to_stop(&bt, c, &o, argc, argv, false, &status))
		return status;
	for (size_t i = 0; i < bt.n; i++) {
		struct batch_item *it = &bt.v[i];
		if (was_over(&bt, i)) /* stopped all the same */
			it->result = keep_stopped(&bt.app, it->box->id, &o, &it->err);
	}
	return batch_finish(&bt);
}

int cmd_restart(const struct cmd *c, int argc, char **argv)
{
	struct stop_opts o = {.op = BOX_OP_RESTART};
	struct batch bt;
	int status;

	if (ask_to_stop(&bt, c, &o, argc, argv, true, &status))
		return status;
	batch_start(&bt, was_over);
	return batch_finish(&bt);
}

/* ---- kill ---- */

static int prepare_kill(const struct box *b, struct box_call *call, void *data, struct err *e)
{
	const int *sig = data;

	if (!box_is_live(b))
		return err_set(e, -ESRCH, "box %s is not running", b->name);
	call->req = (struct box_request){.op = BOX_OP_SIGNAL, .signal = *sig};
	if (*sig == SIGKILL) {
		call->req.op = BOX_OP_STOP;
		call->mode = BOX_CALL_KILL;
	}
	return 1;
}

int cmd_kill(const struct cmd *c, int argc, char **argv)
{
	const char *name = "KILL";
	struct opt opts[] = {
		{'s', "signal", OPT_STR, &name, "SIGNAL", "what to send, by name or number [KILL]"}, {0}};
	struct err e = {0};
	struct batch bt;
	int sig;

	int r = opts_parse(c, opts, OPTS_MIXED, &argc, argv, &e);
	if (r > 0)
		return 0;
	if (r == 0 && parse_signal(name, &sig) < 0)
		r = err_set(&e, -EINVAL, "--signal %s: expected a signal's name or number", name);
	if (r < 0)
		return app_fail(c, &e, 1);
	r = batch_open(&bt, c, argc, argv, false);
	if (r)
		return r;
	batch_call(&bt, prepare_kill, &sig, sig == SIGKILL ? 0 : -ESRCH);
	for (size_t i = 0; i < bt.n; i++) { /* whom its user wants to end, `monitor` does not bring back */
		struct batch_item *it = &bt.v[i];
		struct err ignored;
		if (it->same == i && it->box && (sig == SIGKILL || sig == it->box->config.stop_signal))
			box_set_stopped(bt.app.st, it->box->id, &ignored);
	}
	return batch_finish(&bt);
}

/* ---- pause, unpause ---- */

static int prepare_pause(const struct box *b, struct box_call *call, void *data, struct err *e)
{
	const enum box_op *op = data;

	if (!box_is_live(b))
		return err_set(e, -ESRCH, "box %s is not running", b->name);
	call->req.op = *op;
	return 1;
}

static int pause_or_unpause(const struct cmd *c, int argc, char **argv, enum box_op op)
{
	struct opt opts[] = {{0}};
	struct err e = {0};
	struct batch bt;

	int r = opts_parse(c, opts, OPTS_MIXED, &argc, argv, &e);
	if (r)
		return r < 0 ? app_fail(c, &e, 1) : 0;
	r = batch_open(&bt, c, argc, argv, false);
	if (r)
		return r;
	batch_call(&bt, prepare_pause, &op, -ESRCH);
	for (size_t i = 0; i < bt.n; i++) {
		struct batch_item *it = &bt.v[i];
		if (it->result < 0 && it->box && strncmp(it->err.msg, "box ", 4) != 0)
			err_wrap(&it->err, "box %s", it->box->name);
	}
	return batch_finish(&bt);
}

int cmd_pause(const struct cmd *c, int argc, char **argv)
{
	return pause_or_unpause(c, argc, argv, BOX_OP_PAUSE);
}

int cmd_unpause(const struct cmd *c, int argc, char **argv)
{
	return pause_or_unpause(c, argc, argv, BOX_OP_UNPAUSE);
}

/* ---- rename ---- */

/* The names that its networks know it by. */
static void tell_name(struct app *a, const struct box *b)
{
	struct err e = {0};

	if (box_networks_apply(a->st, b->id, &e) < 0)
		fprintf(stderr, "a3s-box: warning: rename: its networks do not know the name yet: %s\n",
			e.msg);
}

int cmd_rename(const struct cmd *c, int argc, char **argv)
{
	CLEANUP(app_close) struct app a = {0};
	CLEANUP(box_freep) struct box *b = NULL;
	struct opt opts[] = {{0}};
	struct err e = {0};

	int r = opts_parse(c, opts, OPTS_MIXED, &argc, argv, &e);
	if (r > 0)
		return 0;
	if (r == 0 && argc != 3)
		return app_usage(c, "a box and its new name are needed");
	if (r == 0)
		r = app_open(&a, false, &e);
	if (r == 0)
		r = box_find(a.st, argv[1], &b, &e);
	if (r == 0)
		r = box_rename(a.st, b, argv[2], &e);
	if (r == 0)
		tell_name(&a, b);
	return r < 0 ? app_fail(c, &e, 1) : 0;
}
