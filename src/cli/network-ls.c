/* SPDX-License-Identifier: MIT */
/* network ls. */
#include <string.h>

#include "base/io.h"
#include "base/units.h"
#include "filter.h"
#include "format.h"
#include "network.h"

enum { SHORT_ID = 12 };

/* ---- filters ---- */

enum key { KEY_NAME, KEY_ID, KEY_DRIVER, KEY_LABEL, KEY_SCOPE, KEY_DANGLING, KEY_TYPE };
static const char *const keys[] = {[KEY_NAME] = "name",
	[KEY_ID] = "id",
	[KEY_DRIVER] = "driver",
	[KEY_LABEL] = "label",
	[KEY_SCOPE] = "scope",
	[KEY_DANGLING] = "dangling",
	[KEY_TYPE] = "type"};

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

static bool one_of(const char *s, const char *const *words, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (strcmp(s, words[i]) == 0)
			return true;
	}
	return false;
}

static int check_filters(const struct strv *given, struct err *e)
{
	static const char *const truth[] = {"true", "1", "false", "0"},
				 *const types[] = {"custom", "builtin"},
				 *const scopes[] = {"local", "global", "swarm"};

	for (size_t i = 0; i < given->n; i++) {
		const char *value, *f = given->v[i];
		int key = split(f, &value);
		if (key < 0) {
			err_set(e, -EINVAL, "--filter %s: no such filter", f);
			return err_hint(e, "there are name, id, driver, label, scope, dangling and type, "
					   "each with =VALUE");
		}
		if (key == KEY_DANGLING && !one_of(value, truth, ARRAY_LEN(truth)))
			return err_set(e, -EINVAL, "--filter %s: expected true or false", f);
		if (key == KEY_TYPE && !one_of(value, types, ARRAY_LEN(types)))
			return err_set(e, -EINVAL, "--filter %s: expected custom or builtin", f);
		if (key == KEY_SCOPE && !one_of(value, scopes, ARRAY_LEN(scopes)))
			return err_set(e, -EINVAL, "--filter %s: expected local, global or swarm", f);
		if (*value == '\0')
			return err_set(e, -EINVAL, "--filter %s: a value is missing", f);
	}
	return 0;
}

static bool is_builtin(const struct box_network *n)
{
	return strcmp(n->id, n->name) == 0;
}

static bool fits(const struct box_network *n, bool used, int key, const char *value)
{
	bool yes = *value == 't' || *value == '1';

	switch (key) {
	case KEY_NAME:
		return strstr(n->name, value) != NULL;
	case KEY_ID:
		return strncmp(n->id, value, strlen(value)) == 0;
	case KEY_DRIVER:
		return strcmp(n->driver, value) == 0;
	case KEY_LABEL:
		return strv_has_pair(&n->labels, value);
	case KEY_SCOPE:
		return strcmp(value, "local") == 0;
	case KEY_DANGLING:
		return (!used && !is_builtin(n)) == yes;
	default:
		return is_builtin(n) == (strcmp(value, "builtin") == 0);
	}
}

static bool matches(const struct box_network *n, bool used, const struct strv *filters)
{
	struct filter_tally t = {0};

	for (size_t i = 0; i < filters->n; i++) {
		const char *value;
		int key = split(filters->v[i], &value);
		filter_tally_add(&t, (unsigned)key, fits(n, used, key, value), key == KEY_LABEL);
	}
	return filter_tally_fits(&t);
}

/* ---- the table ---- */

enum {
	FIELD_ID,
	FIELD_NAME,
	FIELD_DRIVER,
	FIELD_SCOPE,
	FIELD_IPV4,
	FIELD_IPV6,
	FIELD_INTERNAL,
	FIELD_LABELS,
	FIELD_CREATED_AT,
	FIELD_ISOLATION
};

static const struct format_field fields[] = {
	[FIELD_ID] = {"ID", "NETWORK ID"},
	[FIELD_NAME] = {"Name", "NAME"},
	[FIELD_DRIVER] = {"Driver", "DRIVER"},
	[FIELD_SCOPE] = {"Scope", "SCOPE"},
	[FIELD_IPV4] = {"IPv4", "IPV4"},
	[FIELD_IPV6] = {"IPv6", "IPV6"},
	[FIELD_INTERNAL] = {"Internal", "INTERNAL"},
	[FIELD_LABELS] = {"Labels", "LABELS"},
	[FIELD_CREATED_AT] = {"CreatedAt", "CREATED AT"},
	[FIELD_ISOLATION] = {"Isolation", "ISOLATION"},
	{NULL, NULL},
};

struct listing {
	struct box_network **list;
	size_t n;
	bool full;
	json_t *labels; /* of the row last asked for */
};

/* Docker's text for a truth value in a listing. */
static json_t *truth(bool b)
{
	return json_string(b ? "true" : "false");
}

static json_t *get_field(void *data, size_t row, size_t field)
{
	const struct listing *l = data;
	const struct box_network *n = l->list[row];
	char text[48];

	switch (field) {
	case FIELD_ID:
		return l->full ? json_string(n->id) : json_stringn(n->id, strnlen(n->id, SHORT_ID));
	case FIELD_NAME:
		return json_string(n->name);
	case FIELD_DRIVER:
		return json_string(n->driver);
	case FIELD_SCOPE:
		return json_string("local");
	case FIELD_IPV4:
		return truth(n->subnet4 != NULL);
	case FIELD_IPV6:
		return truth(n->subnet6 != NULL);
	case FIELD_INTERNAL:
		return truth(n->internal);
	case FIELD_LABELS:
		return json_from_joined(&n->labels, ",");
	case FIELD_ISOLATION:
		return json_string(net_isolation_name(n->isolation));
	default:
		return json_string(
			n->created_ns ? format_time_rfc3339(text, sizeof(text), n->created_ns) : "N/A");
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
static int apply_filters(struct app *a, struct listing *l, const struct strv *filters, struct err *e)
{
	size_t kept = 0;
	int r = 0;

	for (size_t i = 0; r == 0 && filters->n && i < l->n; i++) {
		struct box_endpoint *eps = NULL;
		size_t n_eps = 0;
		r = box_endpoints_of_network(a->st, l->list[i]->id, &eps, &n_eps, e);
		box_endpoints_free(eps, n_eps);
		if (r == 0 && matches(l->list[i], n_eps > 0, filters)) {
			struct box_network *swap = l->list[kept];
			l->list[kept++] = l->list[i];
			l->list[i] = swap;
		}
	}
	if (r == 0 && filters->n) {
		for (size_t i = kept; i < l->n; i++)
			box_network_free(l->list[i]);
		l->n = kept;
	}
	return r;
}

static int list_networks(struct listing *l, const struct strv *filters, const char *format, struct err *e)
{
	CLEANUP(format_freep) struct format *f = NULL;
	CLEANUP(app_close) struct app a = {0};
	const struct format_source src = {.fields = fields,
		.table = "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}",
		.get = get_field,
		.labels = get_labels,
		.data = l};

	int r = check_filters(filters, e);
	if (r == 0)
		r = format_parse(format, &src, &f, e);
	if (r == 0)
		r = app_open(&a, false, e);
	if (r == 0)
		r = box_network_list(a.st, &l->list, &l->n, e);
	if (r == 0)
		r = apply_filters(&a, l, filters, e);
	if (r == 0)
		r = format_print(f, &src, l->n, e);
	box_network_list_free(l->list, l->n);
	json_decref(l->labels);
	return r;
}

int cmd_network_ls(const struct cmd *c, int argc, char **argv)
{
	CLEANUP(strv_done) struct strv filters = {0};
	struct listing l = {0};
	bool quiet = false;
	const char *format = NULL;
	struct opt opts[] = {{'f', "filter", OPT_LIST, &filters, "FILTER",
				     "name=, id=, driver=, label=, scope=, dangling= or type="},
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
		fprintf(stderr, "a3s-box: warning: network ls: --format is ignored with --quiet\n");
	if (r == 0)
		r = list_networks(&l, &filters, quiet ? "{{.ID}}" : format, &e);
	return r < 0 ? app_fail(c, &e, 1) : 0;
}
