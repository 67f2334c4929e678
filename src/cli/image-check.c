/* SPDX-License-Identifier: MIT */
/* image-check: whether everything that is stored is what it is said to be. */
#include <string.h>

#include "app.h"
#include "progress.h"

static void print_fault(void *data, const char *what, const char *fault)
{
	CLEANUP_FREE char *w = text_escape_dup(what), *f = text_escape_dup(fault);

	progress_pause(data);
	printf("%s: %s\n", w ? w : "", f ? f : "");
	fflush(stdout);
}

/* Of the whole: one file after the other is looked at. */
static void show(void *data, const char *item, const char *action, uint64_t done, uint64_t total)
{
	(void)item;
	progress_show(data, NULL, action, done, total);
}

static int check(bool repair, bool quiet, size_t *ret_left, struct err *e)
{
	CLEANUP(app_close) struct app a = {0};
	struct progress p;
	size_t faults = 0;

	*ret_left = 0;
	int r = app_open(&a, true, e);
	if (r < 0)
		return r;
	progress_init(&p, quiet ? PROGRESS_QUIET : PROGRESS_TERMINAL);
	struct oci_progress op = {show, &p};
	r = oci_store_check(a.store, repair, &op, print_fault, &p, &faults, ret_left, e);
	progress_done(&p);
	if (r < 0)
		return r;
	if (faults == 0)
		printf("No faults\n");
	else if (repair)
		printf("Faults: %zu, repaired: %zu\n", faults, faults - *ret_left);
	else
		printf("Faults: %zu\n", faults);
	return 0;
}

int cmd_image_check(const struct cmd *c, int argc, char **argv)
{
	bool repair = false, quiet = false;
	struct opt opts[] = {{'q', "quiet", OPT_FLAG, &quiet, NULL, "no progress"},
		{0, "repair", OPT_FLAG, &repair, NULL,
			"drop what is damaged, so that it is built or pulled anew"},
		{0}};
	struct err e = {0};
	size_t left = 0;

	int r = opts_parse(c, opts, OPTS_MIXED, &argc, argv, &e);
	if (r > 0)
		return 0;
	if (r == 0 && argc > 1)
		return app_usage(c, "no arguments are taken");
	if (r == 0)
		r = check(repair, quiet, &left, &e);
	if (r == 0 && left) {
		fflush(stdout);
		r = err_set(&e, -EBADMSG, "%zu fault%s left in the image store", left,
			left == 1 ? " is" : "s are");
		if (!repair)
			err_hint(&e, "repair what can be with: a3s-box image-check --repair");
	}
	return r < 0 ? app_fail(c, &e, 1) : 0;
}
