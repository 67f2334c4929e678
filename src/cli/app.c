/* SPDX-License-Identifier: MIT */
#include "app.h"

#include <libsmartcols/libsmartcols.h>
#include <string.h>

#include "base/io.h"
#include "base/units.h"

int app_open(struct app *a, bool with_images, struct err *e)
{
	*a = (struct app){0};
	int r = state_open(&a->st, e);
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
	err_print("a3s-box", e);
	return status;
}

int app_usage(const struct cmd *c, const char *what)
{
	struct err e;

	err_set(&e, -EINVAL, "%s", what);
	err_hint(&e, "usage: a3s-box %s %s", c->name, c->usage);
	return app_fail(c, &e, c->usage_status);
}

void progress_init(struct progress *p, bool quiet)
{
	*p = (struct progress){.tty = isatty(STDERR_FILENO), .quiet = quiet};
}

void progress_show(void *data, const char *what, uint64_t done, uint64_t total)
{
	struct progress *p = data;
	char text[160], d[16], t[16];
	uint64_t now = time_mono_ns();

	if (p->quiet || !p->tty)
		return; /* nobody watches: standard error stays for what went wrong */
	text_escape(text, sizeof(text), what);
	if (now - p->last_ns < 100000000 && strcmp(text, p->last) == 0)
		return;
	p->last_ns = now;
	snprintf(p->last, sizeof(p->last), "%s", text);
	if (total)
		fprintf(stderr, "\r\033[K%s: %s of %s (%d%%)", text, format_size(d, sizeof(d), done),
			format_size(t, sizeof(t), total), (int)(MIN_OF(done, total) * 100 / total));
	else
		fprintf(stderr, "\r\033[K%s: %s", text, format_size(d, sizeof(d), done));
}

void progress_done(struct progress *p)
{
	if (p->tty && p->last[0])
		fprintf(stderr, "\r\033[K");
	p->last[0] = '\0';
}

struct table {
	struct libscols_table *t;
	size_t n;
};

struct table *table_new(const char *const *headings, size_t n)
{
	struct table *t = calloc(1, sizeof(*t));
	if (!t)
		return NULL;
	t->t = scols_new_table();
	t->n = n;
	if (!t->t) {
		free(t);
		return NULL;
	}
	scols_table_set_column_separator(t->t, "   ");
	scols_table_enable_maxout(t->t, 0);
	/* Never cut to the terminal's width: a script and a person see the same. */
	scols_table_set_termforce(t->t, SCOLS_TERMFORCE_NEVER);
	for (size_t i = 0; i < n; i++)
		scols_table_new_column(t->t, headings[i], 0, 0);
	return t;
}

void table_row(struct table *t, const char *const *cells)
{
	struct libscols_line *line = scols_table_new_line(t->t, NULL);
	for (size_t i = 0; line && i < t->n; i++)
		scols_line_set_data(line, i, cells[i] ? cells[i] : "");
}

void table_print(struct table *t)
{
	scols_print_table(t->t);
	if (scols_table_get_nlines(t->t) ==
		0) { /* the library prints nothing for an empty table; Docker, the headings */
		for (size_t i = 0; i < t->n; i++) {
			struct libscols_cell *h = scols_column_get_header(scols_table_get_column(t->t, i));
			printf("%s%s", i ? "   " : "", scols_cell_get_data(h));
		}
		putchar('\n');
	}
	scols_unref_table(t->t);
	free(t);
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
	size_t size = 4 * strlen(s) + 1;
	CLEANUP_FREE char *safe = malloc(size);
	if (safe)
		text_escape(safe, size, s);
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
