/* SPDX-License-Identifier: MIT */
/* logs: what a box printed, now or as it comes. */
#include <ctype.h>
#include <string.h>

#include "app.h"
#include "base/io.h"
#include "base/units.h"

#define TIME_FORMS "a time like 2024-05-01T12:30:00Z, seconds since 1970, or a duration like 10m"

static int parse_tail(const char *s, int64_t *ret, struct err *e)
{
	uint64_t n;

	if (strcmp(s, "all") == 0 || strcmp(s, "-1") == 0)
		return 0;
	if (parse_u64(s, INT64_MAX, &n) < 0)
		return err_set(e, -EINVAL, "--tail %s: expected a number of lines, or all", s);
	*ret = (int64_t)n;
	return 0;
}

static int parse_moment(const char *option, const char *s, int64_t *ret, struct err *e)
{
	if (!s)
		return 0;
	int r = parse_time_ns(s, time_real_ns(), ret);
	return r < 0 ? err_set(e, r, "%s %s: expected " TIME_FORMS, option, s) : 0;
}

static int print_log(const char *name, const struct box_log_opts *o, struct err *e)
{
	CLEANUP(app_close) struct app a = {0};
	CLEANUP(box_freep) struct box *b = NULL;

	int r = app_open(&a, false, e);
	if (r == 0)
		r = box_find(a.st, name, &b, e);
	return r == 0 ? box_logs(a.st, b, o, e) : r;
}

int cmd_logs(const struct cmd *c, int argc, char **argv)
{
	struct box_log_opts o = {.tail = -1};
	const char *tail = NULL, *since = NULL, *until = NULL;
	struct opt opts[] = {{0, "details", OPT_FLAG, &o.details, NULL,
				     "with the labels and variables that --log-opt asked for"},
		{'f', "follow", OPT_FLAG, &o.follow, NULL, "go on until the box has ended"},
		{0, "since", OPT_STR, &since, "TIME", "only from this time on, or this long ago, e.g. 10m"},
		{'n', "tail", OPT_STR, &tail, "LINES", "only the last lines, or all [all]"},
		{'t', "timestamps", OPT_FLAG, &o.timestamps, NULL, "with the time of each line"},
		{0, "until", OPT_STR, &until, "TIME", "only up to this time, or this long ago"}, {0}};
	struct err e = {0};

	int r = opts_parse(c, opts, OPTS_MIXED, &argc, argv, &e);
	if (r > 0)
		return 0;
	if (r == 0 && argc != 2)
		return app_usage(c, "exactly one box is needed");
	if (r == 0 && tail)
		r = parse_tail(tail, &o.tail, &e);
	if (r == 0)
		r = parse_moment("--since", since, &o.since_ns, &e);
	if (r == 0)
		r = parse_moment("--until", until, &o.until_ns, &e);
	if (r == 0)
		r = print_log(argv[1], &o, &e);
	return r < 0 ? app_fail(c, &e, 1) : 0;
}
