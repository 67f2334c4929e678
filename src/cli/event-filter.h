/* SPDX-License-Identifier: MIT */
/* events --filter, as in Docker: values of one key are alternatives, but for labels; keys must all fit. */
#ifndef CLI_EVENT_FILTER_H
#define CLI_EVENT_FILTER_H

#include "app.h"
#include "state/event.h"

struct event_filter;

/* given: "key=value". 0, or -EINVAL with e naming what is allowed. */
int event_filter_parse(const struct strv *given, struct event_filter **ret, struct err *e);
void event_filter_free(struct event_filter *f);
DEFINE_CLEANUP(struct event_filter *, event_filter_free)

/* Boxes named by name or by a part of their ID are also found by their full ID, whatever they are called later. */
int event_filter_resolve(struct event_filter *f, struct state *st, struct err *e);
bool event_filter_match(const struct event_filter *f, const struct event *ev);

#endif
