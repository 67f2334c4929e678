/* SPDX-License-Identifier: MIT */
/* system-prune: all that is not in use, in the order in which one thing keeps another. */
#include <string.h>

#include "base/buf.h"
#include "prune.h"

struct wanted {
	struct prune p; /* p.all: images with a name too */
	bool volumes;
};

static int add_line(struct buf *b, const char *line)
{
	return buf_append(b, line, strlen(line));
}

/* Docker's question, with our words. */
static int ask(const struct wanted *w, struct err *e)
{
	CLEANUP(buf_done) struct buf b = {0};
	int r = add_line(&b, ":\n  - all stopped boxes\n  - all networks that no box is on\n");

	if (r == 0 && w->volumes)
		r = add_line(&b, "  - all anonymous volumes that no box needs\n");
	if (r == 0)
		r = add_line(&b, w->p.all ? "  - all images that no box needs\n"
					  : "  - all images without a name that no box needs\n");
	if (r == 0 && w->p.filters.n)
		r = add_line(&b, "\n  Only what these filters select:\n");
	for (size_t i = 0; r == 0 && i < w->p.filters.n; i++) {
		CLEANUP_FREE char *shown = text_escape_dup(w->p.filters.v[i]);
		r = shown ? add_line(&b, "  - ") : -ENOMEM;
		if (r == 0)
			r = add_line(&b, shown);
		if (r == 0)
			r = add_line(&b, "\n");
	}
	if (r == 0)
		r = buf_append(&b, "", 1);
	return r < 0 ? err_oom(e) : prune_ask(&w->p, (const char *)buf_data(&b), e);
}

/* A part that fails is told, and the others are done all the same. */
static int told(const struct cmd *c, int r, int status, struct err *e)
{
	return r < 0 ? app_fail(c, e, 1) : r ? r : status;
}

static int prune_all(const struct cmd *c, const struct wanted *w, struct err *e)
{
	CLEANUP(app_close) struct app a = {0};
	/* Without a filter of their own: -a is about images, and volumes with a name are never taken. */
	struct prune of_volumes = {.filter = w->p.filter};
	uint64_t bytes = 0;
	int status = 0;
	int r = app_open(&a, true, e);

	if (r < 0)
		return r;
	status = told(c, prune_boxes(c, &a, &w->p, &bytes, e), status, e);
	status = told(c, prune_networks(c, &a, &w->p, e), status, e);
	if (w->volumes)
		status = told(c, prune_volumes(c, &a, &of_volumes, &bytes, e), status, e);
	status = told(c, prune_images(c, &a, &w->p, &bytes, e), status, e);
	prune_print_reclaimed(bytes);
	return status;
}

int cmd_system_prune(const struct cmd *c, int argc, char **argv)
{
	struct wanted w = {0};
	struct opt opts[] = {
		{'a', "all", OPT_FLAG, &w.p.all, NULL, "also images with a name that no box needs"},
		{0, "filter", OPT_LIST, &w.p.filters, "FILTER",
			"only these: until=TIME (created before), label=KEY[=VALUE], label!=…"},
		{'f', "force", OPT_FLAG, &w.p.force, NULL, "do not ask"},
		{0, "volumes", OPT_FLAG, &w.volumes, NULL, "also anonymous volumes that no box needs"}, {0}};
	unsigned keys = IMAGE_FILTER_LABEL | IMAGE_FILTER_NO_LABEL | IMAGE_FILTER_UNTIL;
	struct err e = {0};

	int r = opts_parse(c, opts, OPTS_MIXED, &argc, argv, &e);
	if (r == 0 && argc > 1) {
		prune_done(&w.p);
		return app_usage(c, "no arguments are taken");
	}
	for (size_t i = 0; r == 0 && w.volumes && i < w.p.filters.n; i++) {
		if (strncmp(w.p.filters.v[i], "until=", 6) == 0)
			r = err_set(&e, -EINVAL,
				"--filter %s: it is not for --volumes, whose age says nothing",
				w.p.filters.v[i]);
	}
	if (r == 0)
		r = prune_parse(&w.p, keys, &e);
	if (r == 0) {
		r = ask(&w, &e);
		if (r == 0)
			prune_print_reclaimed(0);
		else if (r > 0)
			r = prune_all(c, &w, &e);
	} else if (r > 0) { /* help was shown */
		r = 0;
	}
	prune_done(&w.p);
	return r < 0 ? app_fail(c, &e, 1) : r;
}
