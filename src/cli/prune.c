/* SPDX-License-Identifier: MIT */
#include "prune.h"

#include <string.h>

#include "base/io.h"
#include "base/units.h"

void prune_done(struct prune *p)
{
	strv_done(&p->filters);
}

static const char *filter_value(const char *filter, const char *key)
{
	size_t n = strlen(key);
	return strncmp(filter, key, n) == 0 && filter[n] == '=' ? filter + n + 1 : NULL;
}

static int check(struct prune *p, struct err *e)
{
	for (size_t i = 0; i < p->filters.n; i++) {
		const char *f = p->filters.v[i], *until = filter_value(f, "until");
		const char *label = filter_value(f, "label");
		if (!label)
			label = filter_value(f, "label!");
		if (until && (parse_time_ns(until, time_real_ns(), &p->until_ns) < 0 || p->until_ns <= 0))
			return err_set(e, -EINVAL,
				"--filter %s: expected a duration like 24h, or a time like "
				"2024-05-01T12:30:00Z",
				f);
		if (!until && (!label || !*label))
			return err_set(e, -EINVAL,
				"--filter %s: expected until=TIME, label=KEY[=VALUE] or label!=KEY[=VALUE]",
				f);
	}
	return 0;
}

bool prune_fits(const struct prune *p, int64_t created_ns, const struct strv *labels)
{
	if (p->until_ns && created_ns >= p->until_ns)
		return false;
	for (size_t i = 0; i < p->filters.n; i++) {
		const char *with = filter_value(p->filters.v[i], "label");
		const char *without = filter_value(p->filters.v[i], "label!");
		if ((with && !strv_has_pair(labels, with)) || (without && strv_has_pair(labels, without)))
			return false;
	}
	return true;
}

/* 1 yes, 0 no, -ECANCELED when nobody answers. */
static int ask(const struct prune *p, const char *what, struct err *e)
{
	char answer[16];

	if (p->force)
		return 1;
	printf("WARNING! This will remove %s%s.\nAre you sure you want to continue? [y/N] ", what,
		p->filters.n ? " that the filters select" : "");
	fflush(stdout);
	if (!fgets(answer, sizeof(answer), stdin)) {
		putchar('\n');
		fflush(stdout); /* before what is said on the other stream */
		err_set(e, -ECANCELED, "nobody confirmed it");
		return err_hint(e, "use -f to go on without a question");
	}
	answer[strcspn(answer, "\r\n")] = '\0';
	return strcasecmp(answer, "y") == 0 || strcasecmp(answer, "yes") == 0;
}

enum prune_answer prune_begin(
	const struct cmd *c, struct prune *p, const char *what, int argc, char **argv, int *ret_status)
{
	struct opt opts[] = {{0, "filter", OPT_LIST, &p->filters, "FILTER",
				     "only these: until=TIME (created before), label=KEY[=VALUE], label!=…"},
		{'f', "force", OPT_FLAG, &p->force, NULL, "do not ask"}, {0}};
	struct err e = {0};

	*ret_status = 0;
	int r = opts_parse(c, opts, OPTS_MIXED, &argc, argv, &e);
	if (r > 0)
		return PRUNE_OVER;
	if (r == 0 && argc > 1) {
		*ret_status = app_usage(c, "no arguments are taken");
		return PRUNE_OVER;
	}
	if (r == 0)
		r = check(p, &e);
	if (r == 0)
		r = ask(p, what, &e);
	if (r >= 0)
		return r > 0 ? PRUNE_YES : PRUNE_NO;
	*ret_status = app_fail(c, &e, 1);
	return PRUNE_OVER;
}
