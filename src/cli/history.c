/* SPDX-License-Identifier: MIT */
/* history: the steps that made an image. */
#include <string.h>

#include "app.h"
#include "base/io.h"
#include "base/units.h"
#include "format.h"
#include "image-fields.h"

enum { CREATED_BY_MAX = 45 }; /* characters, as Docker cuts it */

enum { FIELD_ID, FIELD_CREATED_SINCE, FIELD_CREATED_AT, FIELD_CREATED_BY, FIELD_SIZE, FIELD_COMMENT };

static const struct format_field fields[] = {
	[FIELD_ID] = {"ID", "IMAGE"},
	[FIELD_CREATED_SINCE] = {"CreatedSince", "CREATED"},
	[FIELD_CREATED_AT] = {"CreatedAt", "CREATED AT"},
	[FIELD_CREATED_BY] = {"CreatedBy", "CREATED BY"},
	[FIELD_SIZE] = {"Size", "SIZE"},
	[FIELD_COMMENT] = {"Comment", "COMMENT"},
	{NULL, NULL},
};

struct listing {
	struct oci_image *image;
	struct oci_history *steps;
	size_t n;
	bool full, human;
	int64_t now;
};

static json_t *time_json(int64_t ns)
{
	char text[40];
	return json_string(ns ? format_time_rfc3339(text, sizeof(text), ns) : "N/A");
}

/* On one line, as Docker shows it: what tabs and line feeds divide is divided by blanks. malloc'd. */
static char *one_line(const char *s)
{
	char *line = strdup(s);

	for (char *p = line; p && *p; p++) {
		if (*p == '\t' || *p == '\n' || *p == '\r')
			*p = ' ';
	}
	return line;
}

static json_t *created_by_json(const char *text, bool full)
{
	CLEANUP_FREE char *line = one_line(text);
	size_t at = 0, characters = 0, len = line ? strlen(line) : 0, last = 0;

	if (!line)
		return NULL;
	while (!full && at < len && characters < CREATED_BY_MAX) {
		size_t n = text_utf8_len((const uint8_t *)line + at, len - at, NULL);
		if (++characters == CREATED_BY_MAX)
			last = at;
		at += n ? n : 1;
	}
	if (full || at >= len)
		return json_from_text(line);
	line[last] = '\0';
	CLEANUP_FREE char *cut = str_printf("%s…", line);
	return cut ? json_from_text(cut) : NULL;
}

static json_t *get_field(void *data, size_t row, size_t field)
{
	const struct listing *l = data;
	const struct oci_history *h = &l->steps[row];

	switch (field) {
	case FIELD_ID: /* that of a build's other steps is nowhere */
		return row ? json_string("<missing>") : image_id_json(l->image->id, l->full);
	case FIELD_CREATED_SINCE:
		return l->human ? image_age_json(h->created_ns, l->now) : time_json(h->created_ns);
	case FIELD_CREATED_AT:
		return time_json(h->created_ns);
	case FIELD_CREATED_BY:
		return created_by_json(h->created_by, l->full);
	case FIELD_SIZE:
		return l->human ? image_size_json(h->size)
				: json_sprintf("%llu", (unsigned long long)h->size);
	default: {
		CLEANUP_FREE char *line = one_line(h->comment);
		return line ? json_from_text(line) : NULL;
	}
	}
}

static int show(struct listing *l, const char *ref, const char *format, struct err *e)
{
	CLEANUP(format_freep) struct format *f = NULL;
	CLEANUP(app_close) struct app a = {0};
	const struct format_source src = {.fields = fields,
		.table = "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
		.get = get_field,
		.data = l};

	int r = format_parse(format, &src, &f, e);
	if (r == 0)
		r = app_open(&a, true, e);
	if (r == 0)
		r = oci_image_find(a.store, ref, &l->image, e);
	if (r == 0)
		r = oci_image_history(a.store, l->image, &l->steps, &l->n, e);
	if (r == 0)
		r = format_print(f, &src, l->n, e);
	oci_history_free(l->steps, l->n);
	oci_image_free(l->image);
	return r;
}

int cmd_history(const struct cmd *c, int argc, char **argv)
{
	struct listing l = {.human = true, .now = time_real_ns()};
	const char *format = NULL;
	bool quiet = false;
	struct opt opts[] = {{0, "format", OPT_STR, &format, "FORMAT", FORMAT_HELP("CreatedBy")},
		{'H', "human", OPT_FLAG, &l.human, NULL, "ages and sizes as people read them [true]"},
		{0, "no-trunc", OPT_FLAG, &l.full, NULL, "do not cut IDs and commands"},
		{'q', "quiet", OPT_FLAG, &quiet, NULL, "only IDs"}, {0}};
	struct err e = {0};

	int r = opts_parse(c, opts, OPTS_MIXED, &argc, argv, &e);
	if (r > 0)
		return 0;
	if (r == 0 && argc != 2)
		return app_usage(c, "exactly one image is needed");
	if (r == 0 && quiet && format)
		fprintf(stderr, "a3s-box: warning: history: --format is ignored with --quiet\n");
	if (r == 0)
		r = show(&l, argv[1], quiet ? "{{.ID}}" : format, &e);
	return r < 0 ? app_fail(c, &e, 1) : 0;
}
