/* SPDX-License-Identifier: MIT */
/* volume ls. */
#include <string.h>

#include "base/io.h"
#include "filter.h"
#include "format.h"
#include "volume.h"

/* ---- filters ---- */

enum key { KEY_NAME, KEY_DRIVER, KEY_LABEL, KEY_DANGLING };
static const char *const keys[] = {
	[KEY_NAME] = "name", [KEY_DRIVER] = "driver", [KEY_LABEL] = "label", [KEY_DANGLING] = "dangling"};

/* The key of "KEY=VALUE", and its value; -1: none of ours. */
static int split(const char *given, const char **ret_value)
{
	size_t n = strcspn(given, "=");

	*ret_value = given[n] ? given + n + 1 : "";
	for (size_t i = 0; given[n] && i < ARRAY_LEN(keys); i++) {
		if (strlen(keys[i]) == n && strncmp(keys[i], given, n) == 0)
			return (int)i;
	}
	return -1;
}

static bool is_truth(const char *s)
{
	return strcmp(s, "true") == 0 || strcmp(s, "1") == 0;
}

static int check_filters(const struct strv *given, struct err *e)
{
	for (size_t i = 0; i < given->n; i++) {
		const char *value, *f = given->v[i];
		int key = split(f, &value);
		if (key < 0) {
			err_set(e, -EINVAL, "--filter %s: no such filter", f);
			return err_hint(e, "there are name, driver, label and dangling, each with =VALUE");
		}
		if (*value == '\0')
			return err_set(e, -EINVAL, "--filter %s: a value is missing", f);
		if (key == KEY_DANGLING && !is_truth(value) && strcmp(value, "false") != 0 &&
			strcmp(value, "0") != 0)
			return err_set(e, -EINVAL, "--filter %s: expected true or false", f);
	}
	return 0;
}

static bool fits(const struct box_volume *v, int key, const char *value)
{
	switch (key) {
	case KEY_NAME:
		return strstr(v->name, value) != NULL;
	case KEY_DRIVER:
		return strcmp(v->driver, value) == 0;
	case KEY_LABEL:
		return strv_has_pair(&v->labels, value);
	default:
		return (v->users == 0) == is_truth(value);
	}
}

static bool matches(const struct box_volume *v, const struct strv *filters)
{
	struct filter_tally t = {0};

	for (size_t i = 0; i < filters->n; i++) {
		const char *value;
		int key = split(filters->v[i], &value);
		filter_tally_add(&t, (unsigned)key, fits(v, key, value), key == KEY_LABEL);
	}
	return filter_tally_fits(&t);
}

/* ---- the table ---- */

enum {
	FIELD_NAME,
	FIELD_DRIVER,
	FIELD_SCOPE,
	FIELD_MOUNTPOINT,
	FIELD_LABELS,
	FIELD_LINKS,
	FIELD_SIZE,
	FIELD_AVAILABILITY,
	FIELD_GROUP,
	FIELD_STATUS
};

/* The last five are what Docker's has, "N/A" there too: see df -v for links and sizes. */
static const struct format_field fields[] = {
	[FIELD_NAME] = {"Name", "VOLUME NAME"},
	[FIELD_DRIVER] = {"Driver", "DRIVER"},
	[FIELD_SCOPE] = {"Scope", "SCOPE"},
	[FIELD_MOUNTPOINT] = {"Mountpoint", "MOUNTPOINT"},
	[FIELD_LABELS] = {"Labels", "LABELS"},
	[FIELD_LINKS] = {"Links", "LINKS"},
	[FIELD_SIZE] = {"Size", "SIZE"},
	[FIELD_AVAILABILITY] = {"Availability", "AVAILABILITY"},
	[FIELD_GROUP] = {"Group", "GROUP"},
	[FIELD_STATUS] = {"Status", "STATUS"},
	{NULL, NULL},
};

struct listing {
	struct app a;
	struct box_volume **list;
	size_t n;
	json_t *labels; /* of the row last asked for */
};

static json_t *get_mountpoint(const struct listing *l, const struct box_volume *v)
{
	CLEANUP_FREE char *path = box_volume_path(l->a.st, v);
	return path ? json_from_text(path) : NULL;
}

static json_t *get_field(void *data, size_t row, size_t field)
{
	const struct listing *l = data;
	const struct box_volume *v = l->list[row];

	switch (field) {
	case FIELD_NAME:
		return json_string(v->name);
	case FIELD_DRIVER:
		return json_string(v->driver);
	case FIELD_SCOPE:
		return json_string("local");
	case FIELD_MOUNTPOINT:
		return get_mountpoint(l, v);
	case FIELD_LABELS:
		return json_from_joined(&v->labels, ",");
	default:
		return json_string("N/A");
	}
}

static json_t *get_labels(void *data, size_t row)
{
	struct listing *l = data;

	json_decref(l->labels);
	l->labels = json_from_pairs(&l->list[row]->labels);
	return l->labels;
}

/* Leaves only those that fit. */
static void apply_filters(struct listing *l, const struct strv *filters)
{
	size_t kept = 0;

	for (size_t i = 0; i < l->n; i++) {
		if (matches(l->list[i], filters))
			l->list[kept++] = l->list[i];
		else
			box_volume_free(l->list[i]);
	}
	l->n = kept;
}

static int list_volumes(struct listing *l, const struct strv *filters, const char *format, struct err *e)
{
	CLEANUP(format_freep) struct format *f = NULL;
	const struct format_source src = {.fields = fields,
		.table = "{{.Driver}}\t{{.Name}}",
		.get = get_field,
		.labels = get_labels,
		.data = l};

	int r = check_filters(filters, e);
	if (r == 0)
		r = format_parse(format, &src, &f, e);
	if (r == 0)
		r = app_open(&l->a, false, e);
	if (r == 0)
		r = box_volume_list(l->a.st, &l->list, &l->n, e);
	if (r == 0) {
		apply_filters(l, filters);
		r = format_print(f, &src, l->n, e);
	}
	box_volume_list_free(l->list, l->n);
	json_decref(l->labels);
	app_close(&l->a);
	return r;
}

int cmd_volume_ls(const struct cmd *c, int argc, char **argv)
{
	CLEANUP(strv_done) struct strv filters = {0};
	struct listing l = {0};
	bool quiet = false;
	const char *format = NULL;
	struct opt opts[] = {
		{'f', "filter", OPT_LIST, &filters, "FILTER", "name=, driver=, label= or dangling="},
		{0, "format", OPT_STR, &format, "FORMAT", FORMAT_HELP("Name")},
		{'q', "quiet", OPT_FLAG, &quiet, NULL, "only names"}, {0}};
	struct err e = {0};

	int r = opts_parse(c, opts, OPTS_MIXED, &argc, argv, &e);
	if (r > 0)
		return 0;
	if (r == 0 && argc > 1)
		return app_usage(c, "no arguments are taken");
	if (r == 0 && quiet && format)
		fprintf(stderr, "a3s-box: warning: volume ls: --format is ignored with --quiet\n");
	if (r == 0)
		r = list_volumes(&l, &filters, quiet ? "{{.Name}}" : format, &e);
	return r < 0 ? app_fail(c, &e, 1) : 0;
}
