/* SPDX-License-Identifier: MIT */
/* What commands that prune have in common: --filter and the question. */
#ifndef CLI_PRUNE_H
#define CLI_PRUNE_H

#include "app.h"

struct prune {
	struct strv filters; /* "until=TIME", "label=KEY[=VALUE]", "label!=…" */
	bool force;	     /* without a question */
	int64_t until_ns;    /* set by prune_check: created before it; 0: whenever */
};
#define PRUNE_OPTS(p) \
	{0, "filter", OPT_LIST, &(p)->filters, "FILTER", \
		"only these: until=TIME (created before), label=KEY[=VALUE], label!=…"}, \
	{ \
		'f', "force", OPT_FLAG, &(p)->force, NULL, "do not ask" \
	}
void prune_done(struct prune *p);
/* 0, or -EINVAL naming a filter that is none. */
int prune_check(struct prune *p, struct err *e);
/* Whether the filters select something of this age, with these labels. */
bool prune_fits(const struct prune *p, int64_t created_ns, const struct strv *labels);
/*
 * Asks on standard output, unless by force, whether to remove `what` ("all stopped boxes"). 1 yes, 0 no, -ECANCELED when
 * nobody answers.
 */
int prune_ask(const struct prune *p, const char *what, struct err *e);

#endif
