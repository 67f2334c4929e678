/* SPDX-License-Identifier: MIT */
/*
 * --format of all listings, as in Docker: table (what is shown without it), "table TEMPLATE" (the blank may be left out),
 * json (one object per line), or a template that is printed once per row.
 */
#ifndef CLI_FORMAT_H
#define CLI_FORMAT_H

#include "template.h"

/* field: one that the listing has, for an example. */
#define FORMAT_HELP(field) "table, table TEMPLATE, json, or a template like '{{." field "}}' [table]"

struct format_field {
	const char *name;    /* Docker's: "RunningFor" */
	const char *heading; /* of its column: "CREATED" */
};

struct format_source {
	const struct format_field *fields; /* ended by a NULL name */
	const char *table;		   /* the usual columns: "{{.ID}}\t{{.Image}}" */
	/* Computes one cell: a new reference, NULL when out of memory. Only fields that are shown are asked for. */
	json_t *(*get)(void *data, size_t row, size_t field);
	/* For .Label, a borrowed map; NULL: there are no labels. */
	json_t *(*labels)(void *data, size_t row);
	void *data;
};

struct format;

/* Checks format (NULL: table) before anything is done for it. 0, or -errno with e set: "--format: …". */
int format_parse(const char *format, const struct format_source *src, struct format **ret, struct err *e);
void format_free(struct format *f);
DEFINE_CLEANUP(struct format *, format_free)

/* Whether rows will be asked for this field: for what is worth not to be gathered. */
bool format_wants(const struct format *f, const char *field);
/* Whether it uses .Label. */
bool format_wants_labels(const struct format *f);

/* Prints rows 0 to n - 1, or of a table at least the headings. 0 or -errno. */
int format_print(const struct format *f, const struct format_source *src, size_t n, struct err *e);

/* Parses and prints in one. */
int format_list(const char *format, const struct format_source *src, size_t n, struct err *e);

/*
 * One object (info, version, inspect): "json" or a template; the caller prints its own text when format is NULL or empty.
 * *ret stays NULL for json. 0 or -errno.
 */
int format_parse_object(const char *option, const char *format, struct template **ret, struct err *e);
/* Prints j and a line feed: by t, or as JSON without it. Takes the reference. 0 or -errno. */
int format_print_object(const struct template *t, json_t *j, struct err *e);

#endif
