/* SPDX-License-Identifier: MIT */
/* What commands that prune have in common: --filter and the question. */
#ifndef CLI_PRUNE_H
#define CLI_PRUNE_H

#include "image-filter.h"

struct prune {
	struct strv filters;	     /* "until=TIME", "label=KEY[=VALUE]", "label!=…" */
	struct image_filter *filter; /* the same, understood */
	bool force;		     /* without a question */
	/* Of a command that has -a, and dangling= among its filters: its help, and what then goes; set by the caller, or NULL. */
	const char *all_help, *all_what;
	bool all;
};
void prune_done(struct prune *p);
/* Whether the filters select something of this age, with these labels. */
bool prune_fits(const struct prune *p, int64_t created_ns, const struct strv *labels);
/*
 * How such a command begins: its options, and unless by force the question on standard error whether to remove `what`
 * ("all stopped boxes"). OVER: help was shown, or it failed and said so; the command ends with *ret_status.
 */
enum prune_answer { PRUNE_OVER, PRUNE_NO, PRUNE_YES };
enum prune_answer prune_begin(
	const struct cmd *c, struct prune *p, const char *what, int argc, char **argv, int *ret_status);

#endif
