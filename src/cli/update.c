/* SPDX-License-Identifier: MIT */
/* container-update: limits and the restart policy of boxes that exist, live where they run. */
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>

#include "base/io.h"
#include "spec.h"

static bool has_limits(const struct limit_opts *o)
{
	return o->cpus || o->cpu_shares || o->cpu_quota || o->cpu_period || o->cpuset || o->memory ||
	       o->reservation || o->swap || o->pids;
}

/* One that was starting: its guest may have been told of the old limits before its supervisor read the new ones. */
static int apply_to_started(struct app *a, const struct box *b, const struct box_config *c, struct err *e)
{
	CLEANUP(box_freep) struct box *now = NULL;
	struct box_request started = {.op = BOX_OP_STARTED};
	int r = 0;

	if (b->state == BOX_STARTING)
		r = box_call_live(a->st, b, &started, e);
	if (r == -EIO) /* the start failed */
		return 0;
	if (r == 0)
		r = box_find(a->st, b->id, &now, e);
	return r < 0 || now->state != BOX_RUNNING ? r : box_query_update(a->st, now, &c->limits, e);
}

/* Tells a running box's guest and its supervisor what the record says now. */
static int apply_live(struct app *a, const struct box *b, const struct limit_opts *o,
	const struct box_config *c, struct err *e)
{
	struct box_request req = {.op = BOX_OP_RELOAD};

	if (b->state == BOX_RUNNING && has_limits(o)) {
		int r = box_query_update(a->st, b, &c->limits, e);
		if (r < 0)
			return r;
	}
	int r = box_call_live(a->st, b, &req, e);
	if (r == 0 && b->state != BOX_RUNNING && has_limits(o))
		r = apply_to_started(a, b, c, e);
	return r == -ESRCH ? 0 : r; /* it has ended: the next start reads the record */
}

/* The record as it was, and as it is now: read, checked and written in one transaction. */
static int change_record(struct app *a, const char *ref, const struct limit_opts *o, struct box **ret_old,
	struct box **ret_new, struct err *e)
{
	int r = state_begin(a->st, e);
	if (r < 0)
		return r;
	r = box_find(a->st, ref, ret_old, e);
	if (r == 0)
		r = box_find(a->st, (*ret_old)->id, ret_new, e);
	if (r == 0 && (*ret_old)->state == BOX_PAUSED && has_limits(o)) {
		r = err_set(e, -EBUSY, "box %s is paused", (*ret_old)->name);
		err_hint(e, "let it go on with: a3s-box unpause %s", (*ret_old)->name);
	}
	if (r == 0)
		r = spec_limits(o, true, &(*ret_new)->config, e);
	if (r == 0)
		r = box_set_config(a->st, *ret_old, &(*ret_new)->config, e);
	return state_end(a->st, r, e);
}

/* One update of a box at a time, until *ret_fd is closed: what is undone is then what was done. */
static int lock_updates(struct app *a, const char *ref, int *ret_fd, struct err *e)
{
	CLEANUP(box_freep) struct box *b = NULL;
	int r = box_find(a->st, ref, &b, e);
	if (r < 0)
		return r;
	CLEANUP_FREE char *path = str_printf("boxes/%s", b->id);
	if (!path)
		return err_oom(e);
	*ret_fd = openat(a->st->home_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	while ((r = *ret_fd < 0 ? -1 : flock(*ret_fd, LOCK_EX)) < 0 && errno == EINTR)
		;
	return r < 0 ? err_sys(e, -errno, "cannot lock the folder of box %s", b->name) : 0;
}

static int update_one(struct app *a, const char *ref, const struct limit_opts *o, struct err *e)
{
	CLEANUP(box_freep) struct box *old = NULL;
	CLEANUP(box_freep) struct box *new = NULL;
	CLEANUP_CLOSE int lock = -1;
	struct err undo;

	int r = lock_updates(a, ref, &lock, e);
	if (r == 0)
		r = change_record(a, ref, o, &old, &new, e);
	if (r < 0 || !box_is_live(old))
		return r;
	r = apply_live(a, old, o, &new->config, e);
	if (r < 0) { /* all or nothing */
		box_set_config(a->st, old, &old->config, &undo);
		return r;
	}
	if (new->config.vcpus > old->config.vcpus)
		fprintf(stderr, "a3s-box: warning: box %s has %u CPUs until it is started again, then %u\n",
			old->name, old->config.vcpus, new->config.vcpus);
	return 0;
}

int cmd_container_update(const struct cmd *c, int argc, char **argv)
{
	struct limit_opts o = {0};
	struct opt opts[SPEC_OPTS_MAX] = {0};
	struct err e = {0};
	struct app a = {0};
	int status = 0;

	spec_limit_opts(&o, opts);
	for (struct opt *p = opts; p->name; p++) {
		if (strcmp(p->name, "memory") == 0)
			p->help = "limit of its memory, up to what its machine has";
		else if (strcmp(p->name, "cpus") == 0)
			p->help = "how many CPUs it may use; more than its machine has come with its next "
				  "start";
	}
	int r = opts_parse(c, opts, OPTS_MIXED, &argc, argv, &e);
	if (r)
		return r < 0 ? app_fail(c, &e, c->usage_status) : 0;
	if (argc < 2)
		return app_usage(c, "a box is needed");
	if (!has_limits(&o) && !o.restart)
		return app_usage(c, "nothing is given that should change");
	r = app_open(&a, false, &e);
	if (r < 0)
		return app_fail(c, &e, c->usage_status);
	for (int i = 1; i < argc; i++) {
		if (update_one(&a, argv[i], &o, &e) < 0)
			status = app_fail(c, &e, 1);
		else
			printf("%s\n", argv[i]);
	}
	app_close(&a);
	return status;
}
