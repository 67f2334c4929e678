/* SPDX-License-Identifier: MIT */
/*
 * Templates as users of Docker write them after --format and -f: the part of Go's text/template (https://pkg.go.dev/
 * text/template) that makes sense over JSON, with Docker's functions.
 *
 *     {{.A.B}} {{$x}} {{.}} {{$}}  {{json .}}  {{index .M "k" 0}}  {{(index .L 0).Name}}  {{.Label "k"}}
 *     {{if P}} … {{else if P}} … {{else}} … {{end}}   {{range $i, $e := P}} … {{else}} … {{end}}   {{break}} {{continue}}
 *     {{with P}} … {{else}} … {{end}}   {{$x := P}} {{$x = P}}   {{P | f "arg"}}   {{- trim -}}   {{/\* comment *\/}}
 *     and eq ge gt index join json le len lower lt ne not or pad print printf println slice split title truncate upper
 *
 * JSON knows no types: a missing key that begins with a capital is taken for a field that a structure does not have,
 * which is an error as in Docker; any other is taken for one that is not in a map, which prints "<no value>".
 *
 * Text, nesting, steps and output are bounded. Nothing is printed unless all of it can be.
 */
#ifndef CLI_TEMPLATE_H
#define CLI_TEMPLATE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

#include "base/err.h"

struct template;

/* 0 or -EINVAL with e naming the place; -ENOMEM. */
int template_parse(const char *text, struct template **ret, struct err *e);
void template_free(struct template *t);
DEFINE_CLEANUP(struct template *, template_free)

/*
 * Prints t for root, without a line feed of its own. On a terminal, control characters in values (but tabs and line feeds)
 * are escaped: values are chosen by others. 0, or -EINVAL when the template does not fit the data; -E2BIG when it goes
 * on without end or prints too much.
 */
int template_print(const struct template *t, json_t *root, FILE *f, struct err *e);

/*
 * What .Label looks up in a row of a listing: a map, or for the headings of a table NULL with headings set, which makes
 * {{.Label "com.example.some-name"}} "some name", as Docker does.
 */
struct template_labels {
	json_t *map; /* borrowed */
	bool headings;
	json_t *more; /* borrowed: fields of root besides, not shown with root as a whole; then there is no .Label */
};
/* As template_print; the text goes to *ret (malloc'd). escape: as for a terminal. */
int template_text(const struct template *t, json_t *root, const struct template_labels *labels, bool escape,
	char **ret, struct err *e);

/*
 * Calls fn (NULL: nothing) for every field that is looked up in root itself ("A" for {{.A.B}} outside of range and with, and {{$.A}}), or that
 * may be (certain false: inside them, and for .Label "x"). Returns whether root may also be used as a whole.
 */
bool template_fields(
	const struct template *t, void (*fn)(void *data, const char *name, bool certain), void *data);

#endif
