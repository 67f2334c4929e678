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
	bool volumes; /* filters are those of volumes: label=, label!=, and all= for -a */
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
/* Understands the filters, of the keys of enum image_filter_key. 0 or -errno. */
int prune_parse(struct prune *p, unsigned keys, struct err *e);
/* Asks on standard error, unless by force. 1 yes, 0 no, -ECANCELED when nobody answers. */
int prune_ask(const struct prune *p, const char *warning, struct err *e);

/*
 * What such commands do. Each prints what is removed, under a heading and with an empty line behind; a failure of one thing
 * does not keep the others. *bytes grows by what is free now. 0; 1: a failure was told; or -errno.
 */
int prune_boxes(const struct cmd *c, struct app *a, const struct prune *p, uint64_t *bytes, struct err *e);
int prune_networks(const struct cmd *c, struct app *a, const struct prune *p, struct err *e);
int prune_volumes(const struct cmd *c, struct app *a, const struct prune *p, uint64_t *bytes, struct err *e);
int prune_images(const struct cmd *c, struct app *a, const struct prune *p, uint64_t *bytes, struct err *e);
/* "Total reclaimed space: 4.2MB (4194304 bytes)". */
void prune_print_reclaimed(uint64_t bytes);

#endif
