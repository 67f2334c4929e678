/* SPDX-License-Identifier: MIT */
/* snapshot ls, inspect. */
#include <string.h>

#include "base/io.h"
#include "base/units.h"
#include "format.h"
#include "inspect.h"
#include "snapshot.h"

/* ---- ls ---- */

enum {
	FIELD_ID,
	FIELD_NAME,
	FIELD_BOX,
	FIELD_BOX_ID,
	FIELD_CREATED,
	FIELD_CREATED_AT,
	FIELD_SIZE,
	FIELD_IMAGE,
	FIELD_DESCRIPTION
};

static const struct format_field fields[] = {
	[FIELD_ID] = {"ID", "SNAPSHOT ID"},
	[FIELD_NAME] = {"Name", "NAME"},
	[FIELD_BOX] = {"Box", "BOX"},
	[FIELD_BOX_ID] = {"BoxID", "BOX ID"},
	[FIELD_CREATED] = {"CreatedSince", "CREATED"},
	[FIELD_CREATED_AT] = {"CreatedAt", "CREATED AT"},
	[FIELD_SIZE] = {"Size", "SIZE"},
	[FIELD_IMAGE] = {"Image", "IMAGE"},
	[FIELD_DESCRIPTION] = {"Description", "DESCRIPTION"},
	{NULL, NULL},
};

struct listing {
	struct box_snapshot **list;
	size_t n;
	bool full;
	int64_t now;
};

static json_t *get_field(void *data, size_t row, size_t field)
{
	const struct listing *l = data;
	const struct box_snapshot *s = l->list[row];
	char text[64], age[48];

	switch (field) {
	case FIELD_ID:
		return l->full ? json_string(s->id) : json_stringn(s->id, BOX_ID_SHORT_LEN);
	case FIELD_NAME:
		return json_from_text(s->name);
	case FIELD_BOX:
		return json_from_text(s->box_name);
	case FIELD_BOX_ID:
		return l->full ? json_string(s->box_id) : json_stringn(s->box_id, BOX_ID_SHORT_LEN);
	case FIELD_CREATED:
		snprintf(text, sizeof(text), "%s ago",
			format_duration_human(age, sizeof(age), l->now - s->created_ns));
		return json_string(text);
	case FIELD_CREATED_AT:
		return json_string(format_time_rfc3339(text, sizeof(text), s->created_ns));
	case FIELD_SIZE:
		return json_string(format_size(text, sizeof(text), s->bytes));
	case FIELD_IMAGE:
		return json_from_text(s->image);
	default:
		return json_from_text(s->description ? s->description : "");
	}
}

/* A box's name or ID; of one that is gone too, as its snapshots stay. */
static bool is_of(const struct box_snapshot *s, const char *box)
{
	return strcmp(s->box_name, box) == 0 ||
	       (strlen(box) >= 4 && strncmp(s->box_id, box, strlen(box)) == 0);
}

static bool fits(const struct box_snapshot *s, const struct strv *filters)
{
	bool any = filters->n == 0;

	for (size_t i = 0; i < filters->n; i++)
		any |= is_of(s, filters->v[i] + strlen("box="));
	return any;
}

static int check_filters(const struct strv *filters, struct err *e)
{
	for (size_t i = 0; i < filters->n; i++) {
		const char *f = filters->v[i];
		if (strncmp(f, "box=", 4) == 0 && f[4])
			continue;
		err_set(e, -EINVAL, "--filter %s: no such filter", f);
		return err_hint(e, "there is box=NAME or box=ID");
	}
	return 0;
}

static void apply_filters(struct listing *l, const struct strv *filters)
{
	size_t kept = 0;

	for (size_t i = 0; i < l->n; i++) {
		if (fits(l->list[i], filters))
			l->list[kept++] = l->list[i];
		else
			box_snapshot_free(l->list[i]);
	}
	l->n = kept;
}

static int list_snapshots(struct listing *l, const struct strv *filters, const char *format, struct err *e)
{
	CLEANUP(format_freep) struct format *f = NULL;
	CLEANUP(app_close) struct app a = {0};
	const struct format_source src = {.fields = fields,
		.table = "{{.ID}}\t{{.Name}}\t{{.Box}}\t{{.CreatedSince}}\t{{.Size}}",
		.get = get_field,
		.data = l};

	int r = check_filters(filters, e);
	if (r == 0)
		r = format_parse(format, &src, &f, e);
	if (r == 0)
		r = app_open(&a, false, e);
	if (r == 0)
		r = box_snapshot_list(a.st, NULL, &l->list, &l->n, e);
	if (r == 0) {
		apply_filters(l, filters);
		r = format_print(f, &src, l->n, e);
	}
	box_snapshot_list_free(l->list, l->n);
	return r;
}

int cmd_snapshot_ls(const struct cmd *c, int argc, char **argv)
{
	CLEANUP(strv_done) struct strv filters = {0};
	struct listing l = {.now = time_real_ns()};
	bool quiet = false;
	const char *format = NULL;
	struct opt opts[] = {{'f', "filter", OPT_LIST, &filters, "FILTER", "box=NAME or box=ID"},
		{0, "format", OPT_STR, &format, "FORMAT", FORMAT_HELP("Name")},
		{0, "no-trunc", OPT_FLAG, &l.full, NULL, "do not cut IDs"},
		{'q', "quiet", OPT_FLAG, &quiet, NULL, "only IDs"}, {0}};
	struct err e = {0};

	int r = opts_parse(c, opts, OPTS_MIXED, &argc, argv, &e);
	if (r > 0)
		return 0;
	if (r == 0 && argc > 1)
		return app_usage(c, "no arguments are taken");
	if (r == 0 && quiet && format)
		fprintf(stderr, "a3s-box: warning: snapshot ls: --format is ignored with --quiet\n");
	if (r == 0)
		r = list_snapshots(&l, &filters, quiet ? "{{.ID}}" : format, &e);
	return r < 0 ? app_fail(c, &e, 1) : 0;
}

/* ---- inspect ---- */

json_t *snapshot_json(const struct app *a, const struct box_snapshot *s)
{
	char created[64];
	CLEANUP_FREE char *path = str_printf("%s/snapshots/%s", a->st->home, s->id);

	return json_pack("{s:s, s:o, s:o, s:s, s:{s:s, s:o}, s:o, s:s, s:b, s:I, s:o}", "Id", s->id, "Name",
		json_from_text(s->name), "Description", json_from_text(s->description ? s->description : ""),
		"Created", format_time_rfc3339(created, sizeof(created), s->created_ns), "Box", "Id",
		s->box_id, "Name", json_from_text(s->box_name), "Image", json_from_text(s->image), "ImageID",
		s->image_id, "Running", s->running, "Size", (json_int_t)s->bytes, "Path",
		json_from_text(path ? path : ""));
}

static int get_json(struct app *a, const struct inspect *in, const char *ref, json_t **ret, struct err *e)
{
	CLEANUP(box_snapshot_freep) struct box_snapshot *s = NULL;
	int r = box_snapshot_find(a->st, ref, &s, e);

	if (r == 0 && !(*ret = snapshot_json(a, s)))
		r = err_oom(e);
	return r;
}

int cmd_snapshot_inspect(const struct cmd *c, int argc, char **argv)
{
	struct inspect in = {.get = get_json};
	struct opt opts[] = {
		{'f', "format", OPT_STR, &in.format, "FORMAT", "json, or a template like '{{.Box.Name}}'"},
		{0}};
	struct err e = {0};

	int r = opts_parse(c, opts, OPTS_MIXED, &argc, argv, &e);
	if (r > 0)
		return 0;
	if (r == 0 && argc < 2)
		return app_usage(c, "a snapshot is needed");
	return r < 0 ? app_fail(c, &e, 1) : inspect_all(c, &in, argc, argv);
}
