/* SPDX-License-Identifier: MIT */
#include "app.h"

#include <string.h>
#include <wchar.h>

#include "audit.h"
#include "base/buf.h"
#include "state/event.h"

enum { COLUMN_GAP = 3 };

int app_open(struct app *a, bool with_images, struct err *e)
{
	*a = (struct app){0};
	int r = state_open(&a->st, e);
	audit_opened();
	if (r == 0)
		r = event_init(a->st, e);
	if (r == 0)
		r = box_init(a->st, e);
	if (r == 0)
		r = box_reconcile(a->st, e);
	if (r == 0 && with_images)
		r = oci_store_open(a->st, &a->store, e);
	if (r < 0)
		app_close(a);
	return r;
}

void app_close(struct app *a)
{
	oci_store_close(TAKE_PTR(a->store));
	state_close(TAKE_PTR(a->st));
}

int app_fail(const struct cmd *c, struct err *e, int status)
{
	err_wrap(e, "%s", c->name);
	audit_error(e);
	err_print("a3s-box", e);
	return status;
}

int app_not_running(const struct box *b, const char *start, struct err *e)
{
	switch (b->state) {
	case BOX_PAUSED:
		err_set(e, -EBUSY, "box %s is paused", b->name);
		return err_hint(e, "let it go on with: a3s-box unpause %s", b->name);
	case BOX_RESTARTING:
		err_set(e, -EBUSY, "box %s is restarting", b->name);
		return err_hint(e, "wait until it is running");
	default:
		err_set(e, -ENOENT, "box %s is not running", b->name);
		return err_hint(e, "start it with: a3s-box %s %s", start, b->name);
	}
}

int app_usage(const struct cmd *c, const char *what)
{
	struct err e;

	err_set(&e, -EINVAL, "%s", what);
	err_hint(&e, "usage: a3s-box %s %s", c->name, c->usage);
	return app_fail(c, &e, c->usage_status);
}

struct table {
	size_t n;	       /* columns */
	char **cells;	       /* row by row, the headings first */
	size_t rows, capacity; /* in rows */
	size_t *widths;	       /* of columns, in places on a terminal */
};

/* Places that s takes on a terminal: most text is ASCII, and a listing may be long. */
static size_t text_width(const char *s)
{
	size_t width = 0, left = strlen(s);

	while (left) {
		uint32_t cp = (unsigned char)*s;
		size_t n = cp < 0x80 ? 1 : text_utf8_len((const uint8_t *)s, left, &cp);
		int w = cp < 0x80 ? 1 : wcwidth((wchar_t)cp);
		width += w > 0 ? (size_t)w : 0;
		n = n ? n : 1;
		s += n;
		left -= n;
	}
	return width;
}

/* A copy that cannot drive a terminal or break the table. */
void table_free(struct table *t)
{
	if (!t)
		return;
	for (size_t i = 0; i < t->rows * t->n; i++)
		free(t->cells[i]);
	free(t->cells);
	free(t->widths);
	free(t);
}

struct table *table_new(const char *const *headings, size_t n)
{
	struct table *t = calloc(1, sizeof(*t));

	if (t)
		t->widths = calloc(n + 1, sizeof(*t->widths));
	if (!t || !t->widths) {
		table_free(t);
		return NULL;
	}
	t->n = n;
	table_row(t, headings);
	return t;
}

void table_row(struct table *t, const char *const *cells)
{
	if (t->rows == t->capacity) {
		size_t capacity = t->capacity ? 2 * t->capacity : 16;
		char **bigger = reallocarray(t->cells, capacity * (t->n + 1), sizeof(char *));
		if (!bigger)
			return;
		t->cells = bigger;
		t->capacity = capacity;
	}
	char **row = t->cells + t->rows++ * t->n;
	for (size_t i = 0; i < t->n; i++) {
		row[i] = text_escape_dup(cells[i] ? cells[i] : "");
		size_t width = row[i] ? text_width(row[i]) : 0;
		t->widths[i] = MAX_OF(t->widths[i], width);
	}
}

/* Never cut to the terminal's width: a script and a person see the same. */
void table_print(struct table *t)
{
	for (size_t r = 0; r < t->rows; r++) {
		char *const *row = t->cells + r * t->n;
		for (size_t i = 0; i < t->n; i++) {
			const char *cell = row[i] ? row[i] : "";
			fputs(cell, stdout);
			if (i + 1 < t->n)
				printf("%*s", (int)(t->widths[i] - text_width(cell)) + COLUMN_GAP, "");
		}
		putchar('\n');
	}
	table_free(t);
}

int json_print(json_t *j, size_t indent)
{
	/* Names come from images: on a terminal nothing but plain characters may reach it. */
	size_t flags = isatty(STDOUT_FILENO) ? JSON_ENSURE_ASCII : 0;
	int r = json_dumpf(
		j, stdout, flags | (indent ? JSON_INDENT(indent) : JSON_COMPACT) | JSON_ENCODE_ANY);
	json_decref(j);
	putchar('\n');
	return r < 0 || fflush(stdout) != 0;
}

json_t *json_from_text(const char *s)
{
	json_t *j = s ? json_string(s) : json_null();
	if (j)
		return j;
	CLEANUP_FREE char *safe = text_escape_dup(s);
	j = safe ? json_string(safe) : NULL;
	return j ? j : json_null();
}

json_t *json_from_strv(const struct strv *l)
{
	json_t *a = json_array();
	for (size_t i = 0; i < l->n; i++)
		json_array_append_new(a, json_from_text(l->v[i]));
	return a;
}

json_t *json_from_joined(const struct strv *l, const char *separator)
{
	CLEANUP(buf_done) struct buf b = {0};

	for (size_t i = 0; i < l->n; i++) {
		if ((i && buf_append(&b, separator, strlen(separator)) < 0) ||
			buf_append(&b, l->v[i], strlen(l->v[i])) < 0)
			return NULL;
	}
	return buf_append(&b, "", 1) < 0 ? NULL : json_from_text((const char *)buf_data(&b));
}

json_t *json_from_pairs(const struct strv *l)
{
	json_t *j = json_object();
	for (size_t i = 0; i < l->n; i++) {
		size_t n = strcspn(l->v[i], "=");
		CLEANUP_FREE char *key = strndup(l->v[i], n);
		json_t *shown = json_from_text(key); /* a key may hold any bytes, too */
		if (json_is_string(shown))
			json_object_set_new(j, json_string_value(shown),
				json_from_text(l->v[i] + n + (l->v[i][n] == '=')));
		json_decref(shown);
	}
	return j;
}

int app_each(const struct cmd *c, struct app *a, int argc, char **argv, bool force,
	int (*fn)(struct app *a, const char *ref, bool force, struct err *e))
{
	int status = 0;

	for (int i = 1; i < argc; i++) {
		struct err e = {0};
		int r = fn(a, argv[i], force, &e);
		if (r < 0)
			status = app_fail(c, &e, 1);
		else if (r == 0)
			printf("%s\n", argv[i]);
	}
	return status;
}
