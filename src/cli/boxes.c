/* SPDX-License-Identifier: MIT */
/* Commands on existing boxes: stop, kill, pause, unpause, rm, wait, logs. */
#include <signal.h>
#include <string.h>

#include "app.h"
#include "base/io.h"
#include "base/log.h"
#include "base/units.h"

/* What a supervisor gets to answer what it can answer at once. */
#define CALL_LIMIT_NS 10000000000ull

/* Does fn for every box named, goes on after errors, and prints each name that worked. with_images: fn drops boxes. */
static int for_each_box(const struct cmd *c, int argc, char **argv, bool with_images, bool echo,
	int (*fn)(struct app *a, struct box *b, void *data, struct err *e), void *data)
{
	struct err e = {0};
	struct app a;
	int status = 0;

	if (argc < 2)
		return app_usage(c, "a box is needed");
	if (app_open(&a, with_images, &e) < 0)
		return app_fail(c, &e, 1);
	for (int i = 1; i < argc; i++) {
		CLEANUP(box_freep) struct box *b = NULL;
		int r = box_find(a.st, argv[i], &b, &e);
		if (r == 0)
			r = fn(&a, b, data, &e);
		if (r < 0)
			status = app_fail(c, &e, 1);
		else if (echo)
			printf("%s\n", argv[i]);
		fflush(stdout);
	}
	/* An image removed by force goes with the last box that needed it. */
	struct err gc = {0};
	if (a.store && oci_store_gc_if_due(a.store, &gc) < 0)
		log_warn("%s", gc.msg);
	app_close(&a);
	return status;
}

static int stop_box(struct app *a, struct box *b, void *data, struct err *e)
{
	const uint64_t *timeout = data;
	struct box_request req = {.op = BOX_OP_STOP, .signal = b->config.stop_signal};

	if (!box_is_live(b))
		return 0; /* as in Docker: what is asked for is so */
	req.timeout_ns = timeout ? *timeout : b->config.stop_timeout_ns;
	int r = box_call_live(a->st, b, &req, e);
	return r == -ESRCH ? 0 : r; /* it ended by itself, or was killed: stopped all the same */
}

int cmd_stop(const struct cmd *c, int argc, char **argv)
{
	const char *timeout = NULL;
	struct opt opts[] = {
		{'t', "time", OPT_STR, &timeout, "SECONDS", "wait before it is killed [the box's, 10]"}, {0}};
	uint64_t ns;
	struct err e = {0};

	int r = opts_parse(c, opts, OPTS_MIXED, &argc, argv, &e);
	if (r > 0)
		return 0;
	if (r == 0 && timeout && parse_duration_ns(timeout, &ns) < 0)
		r = err_set(&e, -EINVAL, "--time %s: expected seconds", timeout);
	if (r < 0)
		return app_fail(c, &e, 1);
	return for_each_box(c, argc, argv, false, true, stop_box, timeout ? &ns : NULL);
}

static int kill_box(struct app *a, struct box *b, void *data, struct err *e)
{
	const int *sig = data;
	struct box_request req = {.op = BOX_OP_SIGNAL, .signal = *sig};

	if (!box_is_live(b))
		return err_set(e, -ESRCH, "box %s is not running", b->name);
	if (*sig == SIGKILL)
		return box_kill_hard(a->st, b, e);
	return box_call(a->st, b, &req, CALL_LIMIT_NS, e);
}

int cmd_kill(const struct cmd *c, int argc, char **argv)
{
	const char *name = "KILL";
	struct opt opts[] = {
		{'s', "signal", OPT_STR, &name, "SIGNAL", "what to send, by name or number [KILL]"}, {0}};
	struct err e = {0};
	int sig;

	int r = opts_parse(c, opts, OPTS_MIXED, &argc, argv, &e);
	if (r > 0)
		return 0;
	if (r == 0 && parse_signal(name, &sig) < 0)
		r = err_set(&e, -EINVAL, "--signal %s: no such signal", name);
	if (r < 0)
		return app_fail(c, &e, 1);
	return for_each_box(c, argc, argv, false, true, kill_box, &sig);
}

static int pause_box(struct app *a, struct box *b, void *data, struct err *e)
{
	const enum box_op *op = data;
	struct box_request req = {.op = *op};

	if (!box_is_live(b))
		return err_set(e, -ESRCH, "box %s is not running", b->name);
	int r = box_call(a->st, b, &req, CALL_LIMIT_NS, e);
	return r < 0 ? err_wrap(e, "box %s", b->name) : 0;
}

static int pause_or_unpause(const struct cmd *c, int argc, char **argv, enum box_op op)
{
	struct opt opts[] = {{0}};
	struct err e = {0};

	int r = opts_parse(c, opts, OPTS_MIXED, &argc, argv, &e);
	if (r)
		return r < 0 ? app_fail(c, &e, 1) : 0;
	return for_each_box(c, argc, argv, false, true, pause_box, &op);
}

int cmd_pause(const struct cmd *c, int argc, char **argv)
{
	return pause_or_unpause(c, argc, argv, BOX_OP_PAUSE);
}

int cmd_unpause(const struct cmd *c, int argc, char **argv)
{
	return pause_or_unpause(c, argc, argv, BOX_OP_UNPAUSE);
}

static int remove_box(struct app *a, struct box *b, void *data, struct err *e)
{
	const bool *force = data;
	CLEANUP_CLOSE int lock = -1;
	CLEANUP(box_freep) struct box *now = NULL;
	int r = 0;

	if (box_is_live(b)) {
		if (!*force) {
			err_set(e, -EBUSY, "box %s is %s", b->name, box_state_name(b->state));
			return err_hint(e, "stop it first, or use rm -f");
		}
		r = box_kill_hard(a->st, b, e);
		if (r < 0)
			return r;
		r = box_find(a->st, b->id, &now, NULL);
		if (r == -ENOENT)
			return 0; /* --rm took it along */
	}
	if (r == 0)
		r = box_lock(a->st, b->id, &lock, e);
	if (r == 0)
		r = box_remove_locked(a->st, b->id, &lock, e);
	return r;
}

int cmd_rm(const struct cmd *c, int argc, char **argv)
{
	bool force = false;
	struct opt opts[] = {{'f', "force", OPT_FLAG, &force, NULL, "kill it first if it runs"}, {0}};
	struct err e = {0};

	int r = opts_parse(c, opts, OPTS_MIXED, &argc, argv, &e);
	if (r)
		return r < 0 ? app_fail(c, &e, 1) : 0;
	return for_each_box(c, argc, argv, true, true, remove_box, &force);
}

static int wait_box(struct app *a, struct box *b, void *data, struct err *e)
{
	struct box_request req = {.op = BOX_OP_WAIT};
	CLEANUP(box_freep) struct box *now = NULL;
	int code = b->exit_code;

	if (box_is_live(b)) {
		code = box_call_live(a->st, b, &req, e);
		if (code == -ESRCH) { /* over before it could be asked: the record knows */
			int r = box_find(a->st, b->id, &now, e);
			if (r < 0)
				return r;
			code = now->exit_code;
		}
		if (code < 0)
			return code;
	}
	printf("%d\n", code);
	return 0;
}

int cmd_wait(const struct cmd *c, int argc, char **argv)
{
	struct opt opts[] = {{0}};
	struct err e = {0};

	int r = opts_parse(c, opts, OPTS_MIXED, &argc, argv, &e);
	if (r)
		return r < 0 ? app_fail(c, &e, 1) : 0;
	return for_each_box(c, argc, argv, false, false, wait_box, NULL);
}

static int logs_box(struct app *a, struct box *b, void *data, struct err *e)
{
	return box_logs(a->st, b, data, e);
}

int cmd_logs(const struct cmd *c, int argc, char **argv)
{
	struct box_log_opts o = {.tail = -1};
	const char *tail = NULL, *since = NULL;
	struct opt opts[] = {{'f', "follow", OPT_FLAG, &o.follow, NULL, "go on until the box has ended"},
		{0, "since", OPT_STR, &since, "DURATION", "only what is younger, e.g. 10m"},
		{'n', "tail", OPT_STR, &tail, "LINES", "only the last lines, or all [all]"},
		{'t', "timestamps", OPT_FLAG, &o.timestamps, NULL, "with the time of each line"}, {0}};
	struct err e = {0};
	uint64_t n;

	int r = opts_parse(c, opts, OPTS_MIXED, &argc, argv, &e);
	if (r > 0)
		return 0;
	if (r == 0 && tail && strcmp(tail, "all") != 0) {
		if (parse_u64(tail, 1000000, &n) < 0)
			r = err_set(&e, -EINVAL, "--tail %s: expected a number up to 1000000, or all", tail);
		else
			o.tail = (int64_t)n;
	}
	if (r == 0 && since) {
		if (parse_duration_ns(since, &n) < 0 || n > (uint64_t)time_real_ns())
			r = err_set(&e, -EINVAL, "--since %s: expected a duration like 10m", since);
		else
			o.since_ns = time_real_ns() - (int64_t)n;
	}
	if (r < 0)
		return app_fail(c, &e, 1);
	if (argc > 2)
		return app_usage(c, "exactly one box is needed");
	return for_each_box(c, argc, argv, false, false, logs_box, &o);
}
