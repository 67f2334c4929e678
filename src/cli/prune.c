/* SPDX-License-Identifier: MIT */
#include "prune.h"

#include <string.h>

#include "base/io.h"
#include "base/units.h"

void prune_done(struct prune *p)
{
	strv_done(&p->filters);
	image_filter_free(p->filter);
}

int prune_parse(struct prune *p, unsigned keys, struct err *e)
{
	int r = image_filter_parse(&p->filters, NULL, keys, &p->filter, e);
	if (r < 0)
		return r;
	/* As in Docker, where -a is short for dangling=false. Of two that differ the one that removes less. */
	int dangling = image_filter_take_dangling(p->filter);
	if (dangling >= 0)
		p->all = !dangling;
	return 0;
}

/* Docker's other way to say -a for volumes: taken out of the list. */
static int take_all(struct prune *p, struct err *e)
{
	size_t kept = 0;
	int r = 0;

	for (size_t i = 0; i < p->filters.n; i++) {
		char *f = p->filters.v[i];
		if (r < 0 || strncmp(f, "all=", 4) != 0) {
			p->filters.v[kept++] = f;
			continue;
		}
		p->all = strcmp(f + 4, "true") == 0 || strcmp(f + 4, "1") == 0;
		if (!p->all && strcmp(f + 4, "false") != 0 && strcmp(f + 4, "0") != 0)
			r = err_set(e, -EINVAL, "--filter %s: expected true or false", f);
		free(f);
	}
	if (kept < p->filters.n)
		p->filters.v[kept] = NULL;
	p->filters.n = kept;
	return r;
}

static int parse_filters(struct prune *p, struct err *e)
{
	unsigned keys = IMAGE_FILTER_LABEL | IMAGE_FILTER_NO_LABEL;
	int r = p->volumes ? take_all(p, e) : 0;

	if (!p->volumes)
		keys |= IMAGE_FILTER_UNTIL | (p->all_help ? IMAGE_FILTER_DANGLING : 0);
	return r < 0 ? r : prune_parse(p, keys, e);
}

bool prune_fits(const struct prune *p, int64_t created_ns, const struct strv *labels)
{
	return image_filter_match(
		p->filter, &(struct image_filter_subject){.created_ns = created_ns, .labels = labels});
}

int prune_ask(const struct prune *p, const char *warning, struct err *e)
{
	char answer[16];

	if (p->force)
		return 1;
	fprintf(stderr, "WARNING! This will remove%s\nAre you sure you want to continue? [y/N] ", warning);
	if (!fgets(answer, sizeof(answer), stdin)) {
		fputc('\n', stderr);
		err_set(e, -ECANCELED, "nobody confirmed it");
		return err_hint(e, "use -f to go on without a question");
	}
	answer[strcspn(answer, "\r\n")] = '\0';
	return strcasecmp(answer, "y") == 0 || strcasecmp(answer, "yes") == 0;
}

static int ask(const struct prune *p, const char *what, struct err *e)
{
	CLEANUP_FREE char *warning =
		str_printf(" %s%s.", what, p->filters.n ? " that the filters select" : "");

	return warning ? prune_ask(p, warning, e) : err_oom(e);
}

void prune_print_reclaimed(uint64_t bytes)
{
	char size[16];

	printf("Total reclaimed space: %s", format_size(size, sizeof(size), bytes));
	if (bytes >= 1000)
		printf(" (%llu bytes)", (unsigned long long)bytes);
	putchar('\n');
}

enum prune_answer prune_begin(
	const struct cmd *c, struct prune *p, const char *what, int argc, char **argv, int *ret_status)
{
	struct opt opts[] = {{'a', "all", OPT_FLAG, &p->all, NULL, p->all_help},
		{0, "filter", OPT_LIST, &p->filters, "FILTER",
			p->volumes ? "only these: label=KEY[=VALUE], label!=…; all=true as -a"
			: p->all_help
				? "only these: until=TIME (created before), label=KEY[=VALUE], label!=…, "
				  "dangling=false as -a"
				: "only these: until=TIME (created before), label=KEY[=VALUE], label!=…"},
		{'f', "force", OPT_FLAG, &p->force, NULL, "do not ask"}, {0}};
	struct err e = {0};

	*ret_status = 0;
	int r = opts_parse(c, p->all_help ? opts : opts + 1, OPTS_MIXED, &argc, argv, &e);
	if (r > 0)
		return PRUNE_OVER;
	if (r == 0 && argc > 1) {
		*ret_status = app_usage(c, "no arguments are taken");
		return PRUNE_OVER;
	}
	if (r == 0)
		r = parse_filters(p, &e);
	if (r == 0)
		r = ask(p, p->all ? p->all_what : what, &e);
	if (r >= 0)
		return r > 0 ? PRUNE_YES : PRUNE_NO;
	*ret_status = app_fail(c, &e, 1);
	return PRUNE_OVER;
}
