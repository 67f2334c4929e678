/* SPDX-License-Identifier: MIT */
/* rm, prune. */
#include <string.h>

#include "audit.h"
#include "base/log.h"
#include "box/volume.h"
#include "boxes.h"
#include "prune.h"
#include "usage.h"

/* ---- rm ---- */

/* One that does not run. The lock keeps it so. */
static int remove_stopped(struct app *a, const struct box *b, bool volumes, struct err *e)
{
	CLEANUP_CLOSE int lock = -1;

	if (box_is_live(b)) {
		err_set(e, -EBUSY, "box %s is %s", b->name, box_state_name(b->state));
		return err_hint(e, "stop it first, or use rm -f");
	}
	int r = box_lock(a->st, b->id, &lock, e);
	if (r == 0 && volumes)
		r = box_volumes_go(a->st, b->id, true, e);
	return r == 0 ? box_remove_locked(a->st, b->id, &lock, e) : r;
}

/* Says that their anonymous volumes go with them; or, of those that could not be removed, that they do not. */
static void take_volumes(struct batch *bt, bool go)
{
	for (size_t i = 0; i < bt->n; i++) {
		struct batch_item *it = &bt->v[i];
		struct err ignored;
		if (it->box && go && batch_wants(bt, i))
			it->result = box_volumes_go(bt->app.st, it->box->id, true, &it->err);
		else if (it->box && !go && it->result < 0)
			box_volumes_go(bt->app.st, it->box->id, false, &ignored);
	}
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
			"also the anonymous volumes that were made for it"},
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
	if (force && volumes)
		take_volumes(&bt, true);
	if (force)
		remove_by_force(&bt);
	if (force && volumes)
		take_volumes(&bt, false);
	for (size_t i = 0; !force && i < bt.n; i++) {
		if (batch_wants(&bt, i))
			bt.v[i].result = remove_stopped(&bt.app, bt.v[i].box, volumes, &bt.v[i].err);
	}
	return batch_finish(&bt);
}

/* ---- prune ---- */

static bool is_to_prune(const struct prune *p, const struct box *b)
{
	return (b->state == BOX_CREATED || b->state == BOX_EXITED || b->state == BOX_DEAD) &&
	       prune_fits(p, b->created_ns, &b->config.labels);
}

int prune_boxes(const struct cmd *c, struct app *a, const struct prune *p, uint64_t *bytes, struct err *e)
{
	struct box **boxes = NULL;
	size_t n = 0, removed = 0;
	int status = 0;
	int r = box_list(a->st, true, &boxes, &n, e);

	if (r < 0)
		return r;
	for (size_t i = 0; i < n; i++) {
		if (!is_to_prune(p, boxes[i]))
			continue;
		uint64_t own = usage_box_bytes(a, boxes[i]->id);
		audit_box(boxes[i]);
		r = remove_stopped(a, boxes[i], false, e);
		if (r < 0) {
			status = app_fail(c, e, 1);
			continue;
		}
		printf("%s%s\n", removed++ ? "" : "Deleted Boxes:\n", boxes[i]->id);
		fflush(stdout);
		*bytes += own;
	}
	box_list_free(boxes, n);
	if (removed)
		putchar('\n');
	return status;
}

static int prune(const struct cmd *c, const struct prune *p, struct err *e)
{
	CLEANUP(app_close) struct app a = {0};
	struct err gc = {0};
	uint64_t bytes = 0;
	int r = app_open(&a, true, e);

	if (r == 0)
		r = prune_boxes(c, &a, p, &bytes, e);
	if (r < 0)
		return r;
	if (oci_store_gc_if_due(a.store, &gc) < 0)
		log_warn("%s", gc.msg);
	prune_print_reclaimed(bytes);
	return r;
}

int cmd_prune(const struct cmd *c, int argc, char **argv)
{
	CLEANUP(prune_done) struct prune p = {0};
	struct err e = {0};
	int status;

	enum prune_answer answer = prune_begin(c, &p, "all stopped boxes", argc, argv, &status);
	if (answer == PRUNE_NO)
		printf("Total reclaimed space: 0B\n");
	if (answer != PRUNE_YES)
		return status;
	int r = prune(c, &p, &e);
	return r < 0 ? app_fail(c, &e, 1) : r;
}
