/* SPDX-License-Identifier: MIT */
/* rm, prune. */
#include <string.h>

#include "audit.h"
#include "base/io.h"
#include "base/log.h"
#include "base/units.h"
#include "boxes.h"
#include "usage.h"

/* ---- rm ---- */

/* One that does not run. The lock keeps it so. */
static int remove_stopped(struct app *a, const struct box *b, struct err *e)
{
	CLEANUP_CLOSE int lock = -1;

	if (box_is_live(b)) {
		err_set(e, -EBUSY, "box %s is %s", b->name, box_state_name(b->state));
		return err_hint(e, "stop it first, or use rm -f");
	}
	int r = box_lock(a->st, b->id, &lock, e);
	return r == 0 ? box_remove_locked(a->st, b->id, &lock, e) : r;
}

/* Whether they run or not, all at the same time. */
static void remove_by_force(struct batch *bt)
{
	CLEANUP_FREE struct box_call *calls = calloc(bt->n, sizeof(*calls));
	CLEANUP_FREE size_t *owners = calloc(bt->n, sizeof(*owners));
	size_t n = 0;

	if (!calls || !owners) {
		batch_out_of_memory(bt);
		return;
	}
	for (size_t i = 0; i < bt->n; i++) {
		if (batch_wants(bt, i)) {
			calls[n].box = bt->v[i].box;
			owners[n++] = i;
		}
	}
	box_remove_many(bt->app.st, calls, n);
	batch_take(bt, calls, owners, n);
}

int cmd_rm(const struct cmd *c, int argc, char **argv)
{
	bool force = false, volumes = false;
	struct opt opts[] = {{'f', "force", OPT_FLAG, &force, NULL, "kill it first if it runs"},
		{'v', "volumes", OPT_FLAG, &volumes, NULL,
			"accepted: anonymous volumes, which boxes do not have yet"},
		{0}};
	struct err e = {0};
	struct batch bt;

	int r = opts_parse(c, opts, OPTS_MIXED, &argc, argv, &e);
	if (r)
		return r < 0 ? app_fail(c, &e, 1) : 0;
	r = batch_open(&bt, c, argc, argv, true);
	if (r)
		return r;
	bt.missing_is_fine = force;
	if (force)
		remove_by_force(&bt);
	for (size_t i = 0; !force && i < bt.n; i++) {
		if (batch_wants(&bt, i))
			bt.v[i].result = remove_stopped(&bt.app, bt.v[i].box, &bt.v[i].err);
	}
	return batch_finish(&bt);
}

/* ---- prune ---- */

struct prune {
	struct strv filters;
	int64_t until_ns; /* created before it; 0: whenever */
};

static void prune_done(struct prune *p)
{
	strv_done(&p->filters);
}

static const char *filter_value(const char *filter, const char *key)
{
	size_t n = strlen(key);
	return strncmp(filter, key, n) == 0 && filter[n] == '=' ? filter + n + 1 : NULL;
}

static int check_filters(struct prune *p, struct err *e)
{
	for (size_t i = 0; i < p->filters.n; i++) {
		const char *f = p->filters.v[i], *until = filter_value(f, "until");
		const char *label = filter_value(f, "label");
		if (!label)
			label = filter_value(f, "label!");
		if (until && (parse_time_ns(until, time_real_ns(), &p->until_ns) < 0 || p->until_ns <= 0))
			return err_set(e, -EINVAL,
				"--filter %s: expected a duration like 24h, or a time like "
				"2024-05-01T12:30:00Z",
				f);
		if (!until && (!label || !*label))
			return err_set(e, -EINVAL,
				"--filter %s: expected until=TIME, label=KEY[=VALUE] or label!=KEY[=VALUE]",
				f);
	}
	return 0;
}

static bool is_to_prune(const struct prune *p, const struct box *b)
{
	if (b->state != BOX_CREATED && b->state != BOX_EXITED && b->state != BOX_DEAD)
		return false;
	if (p->until_ns && b->created_ns >= p->until_ns)
		return false;
	for (size_t i = 0; i < p->filters.n; i++) {
		const char *with = filter_value(p->filters.v[i], "label");
		const char *without = filter_value(p->filters.v[i], "label!");
		if ((with && !strv_has_pair(&b->config.labels, with)) ||
			(without && strv_has_pair(&b->config.labels, without)))
			return false;
	}
	return true;
}

/* 1 yes, 0 no, -ECANCELED when nobody answers. */
static int ask(const struct prune *p, struct err *e)
{
	char answer[16];

	printf("WARNING! This will remove all stopped boxes%s.\nAre you sure you want to continue? [y/N] ",
		p->filters.n ? " that the filters select" : "");
	fflush(stdout);
	if (!fgets(answer, sizeof(answer), stdin)) {
		putchar('\n');
		err_set(e, -ECANCELED, "nobody confirmed it");
		return err_hint(e, "use -f to go on without a question");
	}
	answer[strcspn(answer, "\r\n")] = '\0';
	return strcasecmp(answer, "y") == 0 || strcasecmp(answer, "yes") == 0;
}

static int prune(const struct cmd *c, const struct prune *p, struct err *e)
{
	CLEANUP(app_close) struct app a = {0};
	struct box **boxes = NULL;
	uint64_t bytes = 0, removed = 0;
	int status = 0;
	char size[16];
	size_t n = 0;

	int r = app_open(&a, true, e);
	if (r == 0)
		r = box_list(a.st, true, &boxes, &n, e);
	if (r < 0)
		return r;
	for (size_t i = 0; i < n; i++) {
		if (!is_to_prune(p, boxes[i]))
			continue;
		uint64_t own = usage_box_bytes(&a, boxes[i]->id);
		audit_box(boxes[i]);
		r = remove_stopped(&a, boxes[i], e);
		if (r < 0) {
			status = app_fail(c, e, 1);
			continue;
		}
		printf("%s%s\n", removed++ ? "" : "Deleted Boxes:\n", boxes[i]->id);
		fflush(stdout);
		bytes += own;
	}
	box_list_free(boxes, n);
	struct err gc = {0};
	if (oci_store_gc_if_due(a.store, &gc) < 0)
		log_warn("%s", gc.msg);
	printf("%sTotal reclaimed space: %s", removed ? "\n" : "", format_size(size, sizeof(size), bytes));
	if (bytes >= 1000)
		printf(" (%llu bytes)", (unsigned long long)bytes);
	putchar('\n');
	return status;
}

int cmd_prune(const struct cmd *c, int argc, char **argv)
{
	CLEANUP(prune_done) struct prune p = {0};
	bool force = false;
	struct opt opts[] = {{0, "filter", OPT_LIST, &p.filters, "FILTER",
				     "only these: until=TIME (created before), label=KEY[=VALUE], label!=…"},
		{'f', "force", OPT_FLAG, &force, NULL, "do not ask"}, {0}};
	struct err e = {0};

	int r = opts_parse(c, opts, OPTS_MIXED, &argc, argv, &e);
	if (r > 0)
		return 0;
	if (r == 0 && argc > 1)
		return app_usage(c, "no arguments are taken");
	if (r == 0)
		r = check_filters(&p, &e);
	if (r == 0 && !force) {
		r = ask(&p, &e);
		if (r == 0)
			printf("Total reclaimed space: 0B\n");
		if (r <= 0)
			return r < 0 ? app_fail(c, &e, 1) : 0;
	}
	if (r >= 0)
		r = prune(c, &p, &e);
	return r < 0 ? app_fail(c, &e, 1) : r;
}
