/* SPDX-License-Identifier: MIT */
/* snapshot create, restore, fork, rm, prune. */
#include "snapshot.h"

#include <string.h>

#include "audit.h"
#include "base/log.h"
#include "base/units.h"
#include "prune.h"

#define FORKS_MAX 1000

/* ---- create ---- */

static int create(const char *ref, const char *name, const char *description, struct err *e)
{
	CLEANUP(box_snapshot_freep) struct box_snapshot *s = NULL;
	CLEANUP(app_close) struct app a = {0};
	CLEANUP(box_freep) struct box *b = NULL;
	int r = app_open(&a, false, e);

	if (r == 0)
		r = box_find(a.st, ref, &b, e);
	if (r == 0)
		r = box_snapshot_create(a.st, b, name, description, &s, e);
	if (r == 0)
		printf("%s\n", s->id);
	return r;
}

int cmd_snapshot_create(const struct cmd *c, int argc, char **argv)
{
	const char *description = NULL;
	bool memory = false;
	struct opt opts[] = {
		{0, "description", OPT_STR, &description, "TEXT", "what it is for, shown by inspect"},
		{0, "memory", OPT_FLAG, &memory, NULL, "refused: only the disk can be kept"}, {0}};
	struct err e = {0};

	int r = opts_parse(c, opts, OPTS_MIXED, &argc, argv, &e);
	if (r > 0)
		return 0;
	if (r == 0 && (argc < 2 || argc > 3))
		return app_usage(c, "a box is needed, then perhaps a name for the snapshot");
	if (r == 0 && memory) {
		r = err_set(
			&e, -ENOTSUP, "--memory: this version keeps the disk of a box, not what runs in it");
		err_hint(&e, "leave it out: a new box starts from the disk");
	}
	if (r == 0)
		r = create(argv[1], argc > 2 ? argv[2] : NULL, description, &e);
	return r < 0 ? app_fail(c, &e, 1) : 0;
}

/* ---- restore, fork ---- */

/* So many new boxes; name only for one. Each that was made stays, whatever comes of the next. */
static int fork_boxes(const char *ref, const char *name, uint64_t n, struct err *e)
{
	CLEANUP(box_snapshot_freep) struct box_snapshot *s = NULL;
	CLEANUP(app_close) struct app a = {0};
	int r = app_open(&a, true, e), hold = -1;

	if (r == 0)
		r = box_snapshot_find(a.st, ref, &s, e);
	if (r == 0 && name)
		r = box_check_name_free(a.st, name, e); /* before the disk is copied for it */
	if (r == 0) /* until a box needs the image, as the snapshot may go meanwhile */
		r = oci_store_hold(a.store, &hold, e);
	for (uint64_t i = 0; r == 0 && i < n; i++) {
		CLEANUP(box_freep) struct box *b = NULL;
		r = box_snapshot_fork(a.st, s, name, &b, e);
		if (r == 0)
			printf("%s\n", b->id);
	}
	oci_store_release(a.store, &hold);
	return r;
}

static int restore(const char *box, const char *ref, struct err *e)
{
	CLEANUP(box_snapshot_freep) struct box_snapshot *s = NULL;
	CLEANUP(app_close) struct app a = {0};
	CLEANUP(box_freep) struct box *b = NULL;
	int r = app_open(&a, false, e);

	if (r == 0)
		r = box_find(a.st, box, &b, e);
	if (r == 0)
		r = box_snapshot_find(a.st, ref, &s, e);
	if (r == 0)
		r = box_snapshot_restore(a.st, s, b, e);
	if (r == 0)
		printf("%s\n", box);
	return r;
}

int cmd_snapshot_restore(const struct cmd *c, int argc, char **argv)
{
	const char *name = NULL;
	struct opt opts[] = {{0, "name", OPT_STR, &name, "NAME", "of the new box [made up]"}, {0}};
	struct err e = {0};

	int r = opts_parse(c, opts, OPTS_MIXED, &argc, argv, &e);
	if (r > 0)
		return 0;
	if (r == 0 && (argc < 2 || argc > 3))
		return app_usage(c, "a snapshot is needed, or a box and a snapshot of it");
	if (r == 0 && argc > 2 && name)
		r = err_set(&e, -EINVAL, "--name %s: no new box is made where one is named", name);
	if (r == 0 && name && !box_name_valid(name)) {
		r = err_set(&e, -EINVAL, "--name %s: no name for a box", name);
		err_hint(&e, "[a-zA-Z0-9][a-zA-Z0-9_.-]*, at most %d bytes", BOX_NAME_MAX);
	}
	if (r == 0)
		r = argc > 2 ? restore(argv[1], argv[2], &e) : fork_boxes(argv[1], name, 1, &e);
	return r < 0 ? app_fail(c, &e, 1) : 0;
}

int cmd_snapshot_fork(const struct cmd *c, int argc, char **argv)
{
	const char *count = "1";
	uint64_t n = 0;
	struct opt opts[] = {{'n', "number", OPT_STR, &count, "NUMBER", "how many boxes [1]"}, {0}};
	struct err e = {0};

	int r = opts_parse(c, opts, OPTS_MIXED, &argc, argv, &e);
	if (r > 0)
		return 0;
	if (r == 0 && argc != 2)
		return app_usage(c, "one snapshot is needed");
	if (r == 0 && (parse_u64(count, FORKS_MAX, &n) < 0 || n == 0))
		r = err_set(&e, -EINVAL, "--number %s: expected a number from 1 to %d", count, FORKS_MAX);
	if (r == 0)
		r = fork_boxes(argv[1], NULL, n, &e);
	return r < 0 ? app_fail(c, &e, 1) : 0;
}

/* ---- rm ---- */

/* What no snapshot and no box needs any more, if its names went before. */
static void collect_images(struct app *a)
{
	struct err e = {0};

	if (oci_store_gc_if_due(a->store, &e) < 0)
		log_warn("%s", e.msg);
}

static int remove_one(struct app *a, const char *ref, bool force, struct err *e)
{
	CLEANUP(box_snapshot_freep) struct box_snapshot *s = NULL;
	int r = box_snapshot_find(a->st, ref, &s, e);

	return r < 0 ? r : box_snapshot_remove(a->st, s->id, e);
}

int cmd_snapshot_rm(const struct cmd *c, int argc, char **argv)
{
	CLEANUP(app_close) struct app a = {0};
	struct opt opts[] = {{0}};
	struct err e = {0};

	int r = opts_parse(c, opts, OPTS_MIXED, &argc, argv, &e);
	if (r > 0)
		return 0;
	if (r == 0 && argc < 2)
		return app_usage(c, "a snapshot is needed");
	if (r == 0)
		r = app_open(&a, true, &e);
	if (r < 0)
		return app_fail(c, &e, 1);
	int status = app_each(c, &a, argc, argv, false, remove_one);
	collect_images(&a);
	return status;
}

/* ---- prune ---- */

struct limits {
	uint64_t keep, bytes; /* UINT64_MAX: no limit */
};

/* Of each box the newest `keep`; of all the newest that fit into `bytes`. list: newest first. */
static bool is_over(const struct limits *l, struct box_snapshot *const *list, size_t i, uint64_t *kept_bytes)
{
	uint64_t newer = 0;

	for (size_t k = 0; k < i; k++)
		newer += strcmp(list[k]->box_id, list[i]->box_id) == 0;
	if (newer >= l->keep)
		return true;
	/* Once one did not fit, none that is older does: else small old ones would outlive a large new one. */
	if (*kept_bytes == UINT64_MAX || list[i]->bytes > l->bytes - MIN_OF(*kept_bytes, l->bytes)) {
		*kept_bytes = UINT64_MAX;
		return l->bytes != UINT64_MAX;
	}
	*kept_bytes += list[i]->bytes;
	return false;
}

static int prune(const struct cmd *c, const struct limits *l, struct err *e)
{
	CLEANUP(app_close) struct app a = {0};
	struct box_snapshot **list = NULL;
	size_t n = 0, removed = 0;
	uint64_t kept_bytes = 0, freed = 0;
	int status = 0, r = app_open(&a, true, e);

	if (r == 0)
		r = box_snapshot_list(a.st, NULL, &list, &n, e);
	if (r < 0)
		return r;
	for (size_t i = 0; i < n; i++) {
		if (!is_over(l, list, i, &kept_bytes))
			continue;
		r = box_snapshot_remove(a.st, list[i]->id, e);
		if (r < 0) {
			status = app_fail(c, e, 1);
			continue;
		}
		printf("%s%s\n", removed++ ? "" : "Deleted Snapshots:\n", list[i]->id);
		fflush(stdout);
		freed += list[i]->bytes;
	}
	box_snapshot_list_free(list, n);
	if (removed)
		putchar('\n');
	collect_images(&a);
	prune_print_reclaimed(freed);
	return status;
}

int cmd_snapshot_prune(const struct cmd *c, int argc, char **argv)
{
	struct limits l = {UINT64_MAX, UINT64_MAX};
	struct prune p = {0};
	const char *keep = NULL, *bytes = NULL;
	struct opt opts[] = {{'f', "force", OPT_FLAG, &p.force, NULL, "do not ask"},
		{0, "keep", OPT_STR, &keep, "NUMBER", "so many of each box, the newest, may stay"},
		{0, "max-bytes", OPT_STR, &bytes, "SIZE", "all together may take so much, the newest stay"},
		{0}};
	struct err e = {0};

	int r = opts_parse(c, opts, OPTS_MIXED, &argc, argv, &e);
	if (r > 0)
		return 0;
	if (r == 0 && argc > 1)
		return app_usage(c, "no arguments are taken");
	if (r == 0 && keep && parse_u64(keep, 1u << 30, &l.keep) < 0)
		r = err_set(&e, -EINVAL, "--keep %s: expected a number", keep);
	if (r == 0 && bytes && parse_size(bytes, &l.bytes) < 0)
		r = err_set(&e, -EINVAL, "--max-bytes %s: expected a size, like 10g", bytes);
	if (r == 0 && !keep && !bytes) {
		r = err_set(&e, -EINVAL, "nothing says which snapshots may stay");
		err_hint(&e, "give --keep NUMBER, --max-bytes SIZE, or both");
	}
	if (r == 0)
		r = prune_ask(&p, " all snapshots beyond these limits.", &e);
	if (r < 0)
		return app_fail(c, &e, 1);
	r = r > 0 ? prune(c, &l, &e) : 0;
	return r < 0 ? app_fail(c, &e, 1) : r;
}
