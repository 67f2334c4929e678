/* SPDX-License-Identifier: MIT */
#include "opts.h"

#include <string.h>

static void print_help(const struct cmd *c, const struct opt *opts)
{
	printf("Usage: a3s-box %s %s\n\n%s\n", c->name, c->usage, c->summary);
	if (!opts->name)
		return;
	if (opts->kind != OPT_GROUP)
		printf("\nOptions:\n");
	for (const struct opt *o = opts; o->name; o++) {
		char left[64];
		if (o->kind == OPT_GROUP) {
			printf("\n%s:\n", o->help);
			continue;
		}
		snprintf(left, sizeof(left), "%s%s%s%s",
			o->letter ? (char[]){'-', o->letter, ',', ' ', 0} : "    ", "--", o->name, "");
		if (o->kind != OPT_FLAG) {
			size_t n = strlen(left);
			snprintf(left + n, sizeof(left) - n, " %s", o->arg);
		}
		printf("  %-34s %s\n", left, o->help);
	}
}

static void print_table(const struct opt *opts)
{
	for (const struct opt *o = opts; o->name; o++) {
		if (o->kind != OPT_GROUP)
			printf("%.1s\t%s\t%s\t%s\n", &o->letter, o->name, o->kind == OPT_FLAG ? "" : o->arg,
				o->help);
	}
}

/* Names the option only: what stands behind it may be a secret, and errors are logged. */
static int bad(const struct cmd *c, struct err *e, const char *what, const char *arg, size_t len)
{
	err_set(e, -EINVAL, "%s: %.*s", what, (int)MIN_OF(len, strcspn(arg, "=")), arg);
	err_hint(e, "see a3s-box %s --help", c->name);
	return -EINVAL;
}

static int set_value(
	const struct cmd *c, const struct opt *o, const char *shown, const char *value, struct err *e)
{
	switch (o->kind) {
	case OPT_FLAG:
		if (value && strcmp(value, "true") != 0 && strcmp(value, "false") != 0)
			return bad(c, e, "expected true or false for", shown, SIZE_MAX);
		*(bool *)o->value = !value || strcmp(value, "true") == 0;
		return 0;
	case OPT_STR:
		*(const char **)o->value = value;
		return 0;
	case OPT_LIST:
		return strv_push(o->value, value) < 0 ? err_oom(e) : 0;
	case OPT_GROUP:
		break;
	}
	return -EINVAL;
}

struct parser {
	const struct cmd *c;
	const struct opt *opts;
	int argc, i;
	char **argv;
	struct err *e;
};

static int next_value(struct parser *p, const char *shown, const char **ret)
{
	if (p->i + 1 >= p->argc)
		return bad(p->c, p->e, "option needs an argument", shown, SIZE_MAX);
	*ret = p->argv[++p->i];
	return 0;
}

static bool is_named(const char *name, const char *word, size_t len)
{
	return name && strlen(name) == len && memcmp(name, word, len) == 0;
}

static int parse_long(struct parser *p)
{
	const char *arg = p->argv[p->i], *name = arg + 2, *eq = strchr(name, '=');
	size_t len = eq ? (size_t)(eq - name) : strlen(name);
	const char *value = eq ? eq + 1 : NULL;

	for (const struct opt *o = p->opts; o->name; o++) {
		if (o->kind == OPT_GROUP || (!is_named(o->name, name, len) && !is_named(o->alias, name, len)))
			continue;
		if (o->kind != OPT_FLAG && !value) {
			int r = next_value(p, arg, &value);
			if (r < 0)
				return r;
		}
		return set_value(p->c, o, arg, value, p->e);
	}
	return bad(p->c, p->e, "unknown option", arg, SIZE_MAX);
}

static int parse_short(struct parser *p)
{
	const char *arg = p->argv[p->i];

	for (const char *s = arg + 1; *s; s++) {
		const struct opt *o = p->opts;
		while (o->name && o->letter != *s)
			o++;
		if (!o->name)
			return bad(p->c, p->e, "unknown option", arg, (size_t)(s + 1 - arg));
		const char *value = NULL;
		if (o->kind != OPT_FLAG) {
			int r = 0;
			if (s[1])
				value = s[1] == '=' ? s + 2 : s + 1;
			else
				r = next_value(p, arg, &value);
			return r < 0 ? r : set_value(p->c, o, arg, value, p->e);
		}
		int r;
		if (s[1] == '=')
			return set_value(p->c, o, arg, s + 2, p->e);
		r = set_value(p->c, o, arg, NULL, p->e);
		if (r < 0)
			return r;
	}
	return 0;
}

int opts_parse(const struct cmd *c, const struct opt *opts, int order, int *argc, char **argv, struct err *e)
{
	struct parser p = {.c = c, .opts = opts, .argc = *argc, .i = 1, .argv = argv, .e = e};
	int out = 1;

	for (; p.i < p.argc; p.i++) {
		const char *arg = argv[p.i];
		int r;

		if (strcmp(arg, "--") == 0) {
			p.i++;
			break;
		}
		if (arg[0] != '-' || arg[1] == '\0') {
			if (order == OPTS_FIRST)
				break;
			argv[out++] = argv[p.i];
			continue;
		}
		if (strcmp(arg, "--help") == 0) {
			print_help(c, opts);
			return 1;
		}
		if (p.i == 1 && strcmp(arg, "--help=options") == 0) {
			print_table(opts);
			return 1;
		}
		r = arg[1] == '-' ? parse_long(&p) : parse_short(&p);
		if (r < 0)
			return r;
	}
	while (p.i < p.argc)
		argv[out++] = argv[p.i++];
	argv[out] = NULL;
	*argc = out;
	return 0;
}

void opts_drop_dashes(int *argc, char **argv)
{
	if (*argc < 3 || strcmp(argv[2], "--") != 0)
		return;
	memmove(argv + 2, argv + 3, (size_t)(*argc - 2) * sizeof(*argv)); /* the NULL too */
	--*argc;
}
