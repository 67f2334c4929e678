/* SPDX-License-Identifier: MIT */
/* ps --filter, as in Docker: values of one key are alternatives, but for labels; keys must all fit. */
#ifndef CLI_PS_FILTER_H
#define CLI_PS_FILTER_H

#include "app.h"

struct ps_filter;

/* given: "key=value". 0, or -EINVAL with e naming what is allowed. */
int ps_filter_parse(const struct strv *given, struct ps_filter **ret, struct err *e);
void ps_filter_free(struct ps_filter *f);
DEFINE_CLEANUP(struct ps_filter *, ps_filter_free)

/* Looks up what before, since, ancestor and network name. 0 or -errno: no such box. */
int ps_filter_resolve(struct ps_filter *f, struct app *a, struct err *e);
/* Whether stopped boxes are asked for too, whatever -a. */
bool ps_filter_wants_all(const struct ps_filter *f);
bool ps_filter_wants_images(const struct ps_filter *f);
/* What it looks at, of enum box_parts. */
unsigned ps_filter_parts(const struct ps_filter *f);
bool ps_filter_match(const struct ps_filter *f, const struct box *b);

#endif
