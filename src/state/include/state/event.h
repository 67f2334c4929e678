/* SPDX-License-Identifier: MIT */
/*
 * Events: what happened to boxes, images and the others, kept in the state database.
 *
 * An event is written in the transaction that makes it true, so that none is lost or invented, whoever is killed. IDs grow
 * by time of commit: a reader that remembers the last one it saw misses nothing. The newest EVENTS_KEEP are kept.
 */
#ifndef STATE_EVENT_H
#define STATE_EVENT_H

#include "base/strv.h"
#include "state/state.h"

#define EVENTS_KEEP 20000

struct event {
	int64_t id;	 /* set by event_add's database */
	int64_t time_ns; /* since the epoch */
	char *type; /* "container" (a box, as Docker's clients expect it), "image", "network", "volume", "snapshot" */
	char *action;	   /* Docker's word: "create", "start", "die", "health_status: healthy", … */
	char *actor;	   /* full ID or name */
	struct strv attrs; /* "key=value" */
};
void event_done(struct event *ev);

/* Creates the table when missing. Call once after state_open. */
int event_init(struct state *st, struct err *e);

/*
 * Records an event now. Inside a transaction of the caller it is part of it. attrs: pairs of name and value, ended by NULL;
 * a pair whose value is NULL is left out.
 */
int event_add(struct state *st, struct err *e, const char *type, const char *action, const char *actor, ...);
/* The same with attributes "key=value" as a list. */
int event_add_list(struct state *st, struct err *e, const char *type, const char *action, const char *actor,
	const struct strv *attrs);

/*
 * Calls fn for every event with an ID above after_id and a time of at least since_ns, in order, until fn returns non-zero,
 * which is then returned; else 0 or -errno. *last_id, when not NULL, becomes the last ID seen, or stays.
 */
int event_read(struct state *st, int64_t after_id, int64_t since_ns,
	int (*fn)(const struct event *ev, void *data), void *data, int64_t *last_id, struct err *e);

#endif
