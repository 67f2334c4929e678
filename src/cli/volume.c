/* SPDX-License-Identifier: MIT */
/* volume create, inspect, rm, prune. */
#include "volume.h"

#include <string.h>

#include "base/io.h"
#include "format.h"
#include "inspect.h"
#include "prune.h"

/* ---- create ---- */

static int take_labels(const struct strv *given, struct strv *ret, struct err *e)
{
	for (size_t i = 0; i < given->n; i++) {
		const char *s = given->v[i];
		CLEANUP_FREE char *kv = strchr(s, '=') ? strdup(s) : str_printf("%s=", s);
		if (*s == '\0' || *s == '=')
			return err_set(e, -EINVAL, "--label \"%s\": expected KEY=VALUE or KEY", s);
		if (!kv || strv_setenv(ret, kv) < 0)
			return err_oom(e);
	}
	return 0;
}

static int take_opts(const struct strv *given, struct strv *ret, struct err *e)
{
	for (size_t i = 0; i < given->n; i++) {
		if (!strchr(given->v[i], '='))
			return err_set(e, -EINVAL, "--opt %s: expected KEY=VALUE", given->v[i]);
		if (strv_setenv(ret, given->v[i]) < 0)
			return err_oom(e);
	}
	return 0;
}

static int create(const char *name, const char *driver, const struct strv *given_labels,
	const struct strv *given_opts, struct err *e)
{
	CLEANUP(box_volume_freep) struct box_volume *v = NULL;
	CLEANUP(strv_done) struct strv labels = {0};
	CLEANUP(strv_done) struct strv opts = {0};
	CLEANUP(app_close) struct app a = {0};
	bool created = false;
	int r = 0;

	if (strcmp(driver, "local") != 0)
		r = err_set(e, -EINVAL, "--driver %s: there is only local", driver);
	if (r == 0)
		r = take_labels(given_labels, &labels, e);
	if (r == 0)
		r = take_opts(given_opts, &opts, e);
	if (r == 0)
		r = app_open(&a, false, e);
	if (r == 0)
		r = box_volume_create(a.st, name, &labels, &opts, &v, &created, e);
	if (r == 0)
		printf("%s\n", v->name);
	return r;
}

int cmd_volume_create(const struct cmd *c, int argc, char **argv)
{
	CLEANUP(strv_done) struct strv labels = {0};
	CLEANUP(strv_done) struct strv driver_opts = {0};
	const char *driver = "local", *name = NULL;
	struct opt opts[] = {{'d', "driver", OPT_STR, &driver, "DRIVER", "there is only local [local]"},
		{'l', "label", OPT_LIST, &labels, "KEY=VALUE", "set a label"},
		{0, "name", OPT_STR, &name, "NAME", "the same as the argument"},
		{'o', "opt", OPT_LIST, &driver_opts, "KEY=VALUE",
			"type=none, o=bind[,ro] and device=/FOLDER: a folder of this host; type=tmpfs, "
			"device=tmpfs and o=OPTIONS: a tmpfs in each box"},
		{0}};
	struct err e = {0};

	int r = opts_parse(c, opts, OPTS_MIXED, &argc, argv, &e);
	if (r > 0)
		return 0;
	if (r == 0 && (argc > 2 || (argc == 2 && name)))
		return app_usage(c, "at most one name is taken");
	if (argc == 2)
		name = argv[1];
	if (r == 0)
		r = create(name, driver, &labels, &driver_opts, &e);
	return r < 0 ? app_fail(c, &e, 1) : 0;
}

/* ---- inspect ---- */

json_t *volume_json(const struct app *a, const struct box_volume *v, struct err *e)
{
	CLEANUP_FREE char *path = box_volume_path(a->st, v);
	json_t *j = !path ? NULL
			  : json_pack("{s:o, s:s, s:o, s:o, s:s, s:o, s:s}", "CreatedAt",
				    inspect_time_json(v->created_ns), "Driver", v->driver, "Labels",
				    json_from_pairs(&v->labels), "Mountpoint", json_from_text(path), "Name",
				    v->name, "Options", json_from_pairs(&v->opts), "Scope", "local");

	if (!j)
		err_oom(e);
	return j;
}

static int get_json(struct app *a, const struct inspect *in, const char *ref, json_t **ret, struct err *e)
{
	CLEANUP(box_volume_freep) struct box_volume *v = NULL;
	int r = box_volume_find(a->st, ref, &v, e);

	if (r == 0 && !(*ret = volume_json(a, v, e)))
		r = e->code;
	return r;
}

int cmd_volume_inspect(const struct cmd *c, int argc, char **argv)
{
	struct inspect in = {.get = get_json};
	struct opt opts[] = {
		{'f', "format", OPT_STR, &in.format, "FORMAT", "json, or a template like '{{.Mountpoint}}'"},
		{0}};
	struct err e = {0};

	int r = opts_parse(c, opts, OPTS_MIXED, &argc, argv, &e);
	if (r > 0)
		return 0;
	if (r == 0 && argc < 2)
		return app_usage(c, "a volume is needed");
	return r < 0 ? app_fail(c, &e, 1) : inspect_all(c, &in, argc, argv);
}

/* ---- rm ---- */

static int remove_one(struct app *a, const char *ref, bool force, struct err *e)
{
	CLEANUP(box_volume_freep) struct box_volume *v = NULL;
	int r = box_volume_find(a->st, ref, &v, e);

	if (r == 0)
		r = box_volume_remove(a->st, v->name, e);
	return r == -ENOENT && force ? 0 : r;
}

int cmd_volume_rm(const struct cmd *c, int argc, char **argv)
{
	CLEANUP(app_close) struct app a = {0};
	bool force = false;
	struct opt opts[] = {
		{'f', "force", OPT_FLAG, &force, NULL, "a volume that is not there is no failure"}, {0}};
	struct err e = {0};

	int r = opts_parse(c, opts, OPTS_MIXED, &argc, argv, &e);
	if (r > 0)
		return 0;
	if (r == 0 && argc < 2)
		return app_usage(c, "a volume is needed");
	if (r == 0)
		r = app_open(&a, false, &e);
	if (r < 0)
		return app_fail(c, &e, 1);
	return app_each(c, &a, argc, argv, force, remove_one);
}

/* ---- prune ---- */

int prune_volumes(const struct cmd *c, struct app *a, const struct prune *p, uint64_t *bytes, struct err *e)
{
	struct box_volume **list = NULL;
	size_t n = 0, removed = 0;
	int status = 0;
	int r = box_volume_list(a->st, &list, &n, e);

	for (size_t i = 0; r == 0 && i < n; i++) {
		struct err one = {0};
		if (list[i]->users || (!list[i]->anonymous && !p->all) ||
			!prune_fits(p, list[i]->created_ns, &list[i]->labels))
			continue;
		uint64_t own = box_volume_bytes(a->st, list[i]);
		int k = box_volume_remove(a->st, list[i]->name, &one);
		if (k == -EBUSY || k == -ENOENT) /* in use by now, or gone */
			continue;
		if (k < 0) {
			status = app_fail(c, &one, 1);
			continue;
		}
		printf("%s%s\n", removed++ ? "" : "Deleted Volumes:\n", list[i]->name);
		fflush(stdout);
		*bytes += own;
	}
	box_volume_list_free(list, n);
	if (removed)
		putchar('\n');
	return r < 0 ? r : status;
}

int cmd_volume_prune(const struct cmd *c, int argc, char **argv)
{
	CLEANUP(prune_done)
	struct prune p = {.volumes = true,
		.all_help = "volumes with a name as well",
		.all_what = "all volumes that no box needs"};
	CLEANUP(app_close) struct app a = {0};
	uint64_t bytes = 0;
	struct err e = {0};
	int status;

	enum prune_answer answer =
		prune_begin(c, &p, "all anonymous volumes that no box needs", argc, argv, &status);
	if (answer == PRUNE_OVER)
		return status;
	int r = answer == PRUNE_YES ? app_open(&a, false, &e) : 0;
	if (r == 0 && answer == PRUNE_YES)
		r = prune_volumes(c, &a, &p, &bytes, &e);
	if (r < 0)
		return app_fail(c, &e, 1);
	prune_print_reclaimed(bytes);
	return r;
}
