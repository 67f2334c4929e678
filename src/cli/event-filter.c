/* SPDX-License-Identifier: MIT */
#include "event-filter.h"

#include <string.h>

#include "filter.h"

enum key { KEY_TYPE, KEY_EVENT, KEY_BOX, KEY_IMAGE, KEY_LABEL, KEY_NETWORK };

static const struct {
	const char *name;
	enum key key;
} keys[] = {{"type", KEY_TYPE}, {"event", KEY_EVENT}, {"box", KEY_BOX}, {"container", KEY_BOX},
	{"image", KEY_IMAGE}, {"label", KEY_LABEL}, {"network", KEY_NETWORK}};

struct condition {
	enum key key;
	const char *value; /* borrowed from the options */
	char *id;	   /* BOX: NULL when there is none now */
};

struct event_filter {
	struct condition *conditions;
	size_t n;
};

void event_filter_free(struct event_filter *f)
{
	if (!f)
		return;
	for (size_t i = 0; i < f->n; i++)
		free(f->conditions[i].id);
	free(f->conditions);
	free(f);
}

static int parse_condition(const char *given, struct condition *c, struct err *e)
{
	const char *eq = strchr(given, '=');

	if (!eq || !eq[1])
		return err_set(e, -EINVAL, "--filter %s: expected KEY=VALUE", given);
	c->value = eq + 1;
	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		if (strlen(keys[i].name) == (size_t)(eq - given) &&
			strncmp(keys[i].name, given, (size_t)(eq - given)) == 0) {
			c->key = keys[i].key;
			if (c->key == KEY_TYPE && strcmp(c->value, "box") == 0)
				c->value = "container"; /* what Docker's clients call it */
			return 0;
		}
	}
	err_set(e, -EINVAL, "--filter %s: no such filter", given);
	return err_hint(e, "there are type, event, box (or container), image, label and network");
}

int event_filter_parse(const struct strv *given, struct event_filter **ret, struct err *e)
{
	CLEANUP(event_filter_freep) struct event_filter *f = calloc(1, sizeof(*f));

	if (!f || !(f->conditions = calloc(given->n + 1, sizeof(*f->conditions))))
		return err_oom(e);
	for (; f->n < given->n; f->n++) {
		int r = parse_condition(given->v[f->n], &f->conditions[f->n], e);
		if (r < 0)
			return r;
	}
	*ret = TAKE_PTR(f);
	return 0;
}

int event_filter_resolve(struct event_filter *f, struct state *st, struct err *e)
{
	for (size_t i = 0; i < f->n; i++) {
		CLEANUP(box_freep) struct box *b = NULL;
		struct condition *c = &f->conditions[i];
		if (c->key != KEY_BOX)
			continue;
		int r = box_find(st, c->value, &b, e);
		if (r < 0 && r != -ENOENT)
			return r;
		if (r == 0)
			c->id = TAKE_PTR(b->id); /* gone or still to come: its name or ID has to do */
	}
	return 0;
}

/* "health_status" stands for "health_status: healthy" as well. */
static bool fits_action(const char *want, const char *action)
{
	size_t n = strlen(want);
	return strcmp(want, action) == 0 || (strncmp(want, action, n) == 0 && action[n] == ':');
}

static bool same(const char *a, const char *b)
{
	return a && b && strcmp(a, b) == 0;
}

static bool is_id_prefix(const char *s, const char *id)
{
	size_t n = strlen(s);
	return n >= BOX_ID_SHORT_LEN && strncmp(s, id, n) == 0;
}

static bool fits_box(const struct condition *c, const struct event *ev)
{
	return strcmp(ev->type, "container") == 0 &&
	       (same(c->id, ev->actor) || same(c->value, strv_getenv(&ev->attrs, "name")) ||
		       is_id_prefix(c->value, ev->actor));
}

/* An image event by its image, a box's by the image it was made from; "box" is also "box:latest". */
static bool fits_image(const char *want, const struct event *ev)
{
	bool is_image = strcmp(ev->type, "image") == 0;
	const char *name = strv_getenv(&ev->attrs, is_image ? "name" : "image");
	size_t n = strlen(want);

	if (same(want, name) || (is_image && same(want, ev->actor)))
		return true;
	return name && strncmp(want, name, n) == 0 && (name[n] == ':' || name[n] == '@') &&
	       !strchr(name + n, '/');
}

static bool fits(const struct condition *c, const struct event *ev)
{
	switch (c->key) {
	case KEY_TYPE:
		return strcmp(c->value, ev->type) == 0;
	case KEY_EVENT:
		return fits_action(c->value, ev->action);
	case KEY_BOX:
		return fits_box(c, ev);
	case KEY_IMAGE:
		return fits_image(c->value, ev);
	case KEY_NETWORK:
		return strcmp(ev->type, "network") == 0 &&
		       (same(c->value, strv_getenv(&ev->attrs, "name")) || is_id_prefix(c->value, ev->actor));
	case KEY_LABEL:
		return strv_has_pair(&ev->attrs, c->value);
	}
	return false;
}

bool event_filter_match(const struct event_filter *f, const struct event *ev)
{
	struct filter_tally t = {0};

	for (size_t i = 0; i < f->n; i++) {
		const struct condition *c = &f->conditions[i];
		filter_tally_add(&t, c->key, fits(c, ev), c->key == KEY_LABEL);
	}
	return filter_tally_fits(&t);
}
