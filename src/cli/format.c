/* SPDX-License-Identifier: MIT */
#include "format.h"

#include <string.h>

#include "app.h"

enum { FIELDS_MAX = 64, COLUMNS_MAX = 64 };

struct format {
	struct template *t; /* NULL: json */
	bool table;
	bool wants[FIELDS_MAX], wants_labels;
	size_t n_fields;
	const struct format_field *fields;
	const char *unknown; /* looked up in every row, and not there */
};

void format_free(struct format *f)
{
	if (!f)
		return;
	template_free(f->t);
	free(f);
}

static void note_field(void *data, const char *name, bool certain)
{
	struct format *f = data;

	for (size_t i = 0; i < f->n_fields; i++) {
		if (strcmp(f->fields[i].name, name) == 0) {
			f->wants[i] = true;
			return;
		}
	}
	if (certain)
		f->unknown = name;
	f->wants_labels |= strcmp(name, "Label") == 0;
}

/* Names the fields there are. */
static int unknown_field(const struct format *f, struct err *e)
{
	char names[256] = "";
	size_t used = 0;

	for (size_t i = 0; i < f->n_fields && used < sizeof(names) - 1; i++)
		used += (size_t)snprintf(
			names + used, sizeof(names) - used, "%s%s", i ? " " : "", f->fields[i].name);
	err_set(e, -EINVAL, "--format: there is no field \"%s\"", f->unknown);
	return err_hint(e, "fields: %s", names);
}

/* Shells do not make tabs of \t in quotes; Docker does. malloc'd. */
static char *unescape(const char *s)
{
	char *out = strdup(s), *to = out;

	for (; out && *s; s++) {
		bool special = s[0] == '\\' && (s[1] == 't' || s[1] == 'n');
		*to++ = !special ? *s : s[1] == 't' ? '\t' : '\n';
		s += special;
	}
	if (out)
		*to = '\0';
	return out;
}

int format_parse(const char *format, const struct format_source *src, struct format **ret, struct err *e)
{
	CLEANUP(format_freep) struct format *f = calloc(1, sizeof(*f));
	bool all = false;

	if (!f)
		return err_oom(e);
	f->fields = src->fields;
	while (src->fields[f->n_fields].name && f->n_fields < FIELDS_MAX)
		f->n_fields++;
	if (!format || !*format || strcmp(format, "table") == 0) {
		format = src->table;
		f->table = true;
	} else if (strncmp(format, "table", 5) == 0) {
		format += 5 + strspn(format + 5, " ");
		f->table = true;
	}
	if (strcmp(format, "json") == 0) {
		all = true;
	} else {
		if (!strstr(format, "{{")) {
			err_set(e, -EINVAL, "--format \"%s\": expected table, json or a template", format);
			return err_hint(e, "a template looks like '{{.%s}}'", src->fields[0].name);
		}
		CLEANUP_FREE char *text = unescape(format);
		int r = text ? template_parse(text, &f->t, e) : err_oom(e);
		if (r < 0)
			return err_wrap(e, "--format");
		all = template_fields(f->t, note_field, f);
	}
	if (f->unknown)
		return unknown_field(f, e);
	for (size_t i = 0; all && i < f->n_fields; i++)
		f->wants[i] = true;
	*ret = TAKE_PTR(f);
	return 0;
}

bool format_wants(const struct format *f, const char *field)
{
	for (size_t i = 0; i < f->n_fields; i++) {
		if (strcmp(f->fields[i].name, field) == 0)
			return f->wants[i];
	}
	return false;
}

bool format_wants_labels(const struct format *f)
{
	return f->wants_labels;
}

/* NULL when out of memory. */
static json_t *make_row(const struct format *f, const struct format_source *src, size_t row)
{
	json_t *j = json_object();

	for (size_t i = 0; j && i < f->n_fields; i++) {
		if (!f->wants[i])
			continue;
		if (json_object_set_new(j, f->fields[i].name, src->get(src->data, row, i)) < 0) {
			json_decref(j);
			return NULL;
		}
	}
	return j;
}

static int row_text(const struct format *f, const struct format_source *src, size_t row, bool escape,
	char **ret, struct err *e)
{
	struct template_labels labels = {
		.map = src->labels && f->wants_labels ? src->labels(src->data, row) : NULL};
	json_t *j = make_row(f, src, row);
	int r = j ? template_text(f->t, j, src->labels ? &labels : NULL, escape, ret, e) : err_oom(e);

	json_decref(j);
	return r < 0 ? err_wrap(e, "--format") : 0;
}

/* Cells are what tabs part. Returns how many there are; those past COLUMNS_MAX stay in the last. */
static size_t split_cells(char *text, const char **cells)
{
	size_t n = 0;

	for (char *end = text; end; text = end + 1) {
		end = n + 1 < COLUMNS_MAX ? strchr(text, '\t') : NULL;
		if (end)
			*end = '\0';
		cells[n++] = text;
	}
	for (size_t i = n; i < COLUMNS_MAX; i++)
		cells[i] = "";
	return n;
}

static int headings_text(const struct format *f, const struct format_source *src, char **ret, struct err *e)
{
	struct template_labels labels = {.headings = true};
	json_t *j = json_object();

	for (size_t i = 0; i < f->n_fields; i++)
		json_object_set_new(j, f->fields[i].name, json_string(f->fields[i].heading));
	int r = template_text(f->t, j, src->labels ? &labels : NULL, false, ret, e);
	json_decref(j);
	return r < 0 ? err_wrap(e, "--format") : 0;
}

static int print_table(const struct format *f, const struct format_source *src, size_t n, struct err *e)
{
	CLEANUP_FREE char *headings = NULL;
	const char *cells[COLUMNS_MAX];

	int r = headings_text(f, src, &headings, e);
	if (r < 0)
		return r;
	struct table *t = table_new(cells, split_cells(headings, cells));
	if (!t)
		return err_oom(e);
	for (size_t i = 0; r == 0 && i < n; i++) {
		CLEANUP_FREE char *text = NULL;
		r = row_text(f, src, i, false, &text, e);
		if (r == 0) {
			split_cells(text, cells);
			table_row(t, cells);
		}
	}
	if (r == 0)
		table_print(t);
	else
		table_free(t);
	return r;
}

int format_print(const struct format *f, const struct format_source *src, size_t n, struct err *e)
{
	bool escape = isatty(STDOUT_FILENO);
	int r = 0;

	if (f->table)
		return print_table(f, src, n, e);
	for (size_t i = 0; r == 0 && i < n; i++) {
		CLEANUP_FREE char *text = NULL;
		if (f->t) {
			r = row_text(f, src, i, escape, &text, e);
			if (r == 0)
				puts(text);
			continue;
		}
		json_t *j = make_row(f, src, i);
		if (!j)
			return err_oom(e);
		json_print(j, 0);
	}
	return r;
}

int format_list(const char *format, const struct format_source *src, size_t n, struct err *e)
{
	CLEANUP(format_freep) struct format *f = NULL;
	int r = format_parse(format, src, &f, e);

	return r < 0 ? r : format_print(f, src, n, e);
}

int format_parse_object(const char *option, const char *format, struct template **ret, struct err *e)
{
	*ret = NULL;
	if (strcmp(format, "json") == 0)
		return 0;
	if (!strstr(format, "{{"))
		return err_set(
			e, -EINVAL, "%s \"%s\": expected json or a template like '{{.ID}}'", option, format);
	int r = template_parse(format, ret, e);
	return r < 0 ? err_wrap(e, "%s", option) : 0;
}

int format_print_object(const struct template *t, json_t *j, struct err *e)
{
	int r = 0;

	if (!t) {
		json_print(j, 0);
		return 0;
	}
	r = template_print(t, j, stdout, e);
	json_decref(j);
	if (r == 0)
		putchar('\n');
	return r;
}
