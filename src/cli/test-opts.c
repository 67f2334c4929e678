/* SPDX-License-Identifier: MIT */
/* The option parser: one table of command lines and what they mean. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "opts.h"

enum { WORDS_MAX = 12 };

static const struct cmd cmd = {.name = "test", .usage = "[OPTIONS] ARGS", .summary = "does nothing"};

static bool quiet, force;
static const char *name;
static struct strv list;

static const struct opt opts[] = {OPT_HEADING("Manners"), {'q', "quiet", OPT_FLAG, &quiet, NULL, "no output"},
	{'f', "force", OPT_FLAG, &force, NULL, "whatever happens"},
	{'n', "name", OPT_STR, &name, "NAME", "its name"},
	{'e', "env", OPT_LIST, &list, "NAME=value", "add to the environment"}, OPT_HEADING("Others"),
	{0, "only-long", OPT_STR, &name, "X", "has no letter"}, {0}};

struct opts_case {
	int order;
	const char *line; /* words separated by blanks; "<>" is an empty word */
	int r;
	const char *want; /* flags, name, list, other words; or what the error says */
};

static const struct opts_case cases[] = {
	{OPTS_MIXED, "", 0, "- - | |"},
	{OPTS_MIXED, "a b", 0, "- - | | a b"},
	{OPTS_MIXED, "-q", 0, "q - | |"},
	{OPTS_MIXED, "-qf x", 0, "qf - | | x"},
	{OPTS_MIXED, "--quiet --force", 0, "qf - | |"},
	{OPTS_MIXED, "--quiet=true", 0, "q - | |"},
	{OPTS_MIXED, "-q --quiet=false", 0, "- - | |"},
	{OPTS_MIXED, "-q=false -f=true", 0, "f - | |"},
	{OPTS_MIXED, "--quiet=1", -EINVAL, "expected true or false for: --quiet"},
	{OPTS_MIXED, "--quiet=", -EINVAL, "expected true or false for: --quiet"},
	{OPTS_MIXED, "-qf=maybe", -EINVAL, "expected true or false for: -qf"},
	{OPTS_MIXED, "--name x", 0, "- x | |"},
	{OPTS_MIXED, "--name=x", 0, "- x | |"},
	{OPTS_MIXED, "--name= y", 0, "- <> | | y"},
	{OPTS_MIXED, "--name=a=b", 0, "- a=b | |"},
	{OPTS_MIXED, "--name <>", 0, "- <> | |"},
	{OPTS_MIXED, "-n x", 0, "- x | |"},
	{OPTS_MIXED, "-nx", 0, "- x | |"},
	{OPTS_MIXED, "-n=x", 0, "- x | |"},
	{OPTS_MIXED, "-qnx", 0, "q x | |"},
	{OPTS_MIXED, "-qn x", 0, "q x | |"},
	{OPTS_MIXED, "-n -q", 0, "- -q | |"}, /* what follows is the value, whatever it looks like */
	{OPTS_MIXED, "--name -- x", 0, "- -- | | x"},
	{OPTS_MIXED, "-n a --name b", 0, "- b | |"}, /* the last one wins */
	{OPTS_MIXED, "--only-long z", 0, "- z | |"},
	{OPTS_MIXED, "-e A=1 --env=B=2 -eC", 0, "- - | A=1 B=2 C |"},
	{OPTS_MIXED, "a -q b --name c d", 0, "q c | | a b d"},
	{OPTS_MIXED, "a -- -q --name", 0, "- - | | a -q --name"},
	{OPTS_MIXED, "-- --", 0, "- - | | --"},
	{OPTS_MIXED, "- -q", 0, "q - | | -"}, /* a dash alone is an argument: standard input */
	{OPTS_MIXED, "<> -q", 0, "q - | | <>"},
	{OPTS_FIRST, "-q image -f --name x", 0, "q - | | image -f --name x"},
	{OPTS_FIRST, "--name x image", 0, "- x | | image"},
	{OPTS_FIRST, "-- image -q", 0, "- - | | image -q"},
	{OPTS_FIRST, "image -- -q", 0, "- - | | image -- -q"},
	{OPTS_FIRST, "- -q", 0, "- - | | - -q"},
	{OPTS_FIRST, "image --help", 0, "- - | | image --help"},
	{OPTS_MIXED, "--name", -EINVAL, "option needs an argument: --name"},
	{OPTS_MIXED, "-n", -EINVAL, "option needs an argument: -n"},
	{OPTS_MIXED, "a -qe", -EINVAL, "option needs an argument: -qe"},
	{OPTS_MIXED, "--nam x", -EINVAL,
		"unknown option: --nam"}, /* no abbreviations: they break when options are added */
	{OPTS_MIXED, "--names x", -EINVAL, "unknown option: --names"},
	{OPTS_MIXED, "--=x", -EINVAL, "unknown option: --"},
	{OPTS_MIXED, "---q", -EINVAL, "unknown option: ---q"},
	{OPTS_MIXED, "-x", -EINVAL, "unknown option: -x"},
	{OPTS_MIXED, "-qx", -EINVAL, "unknown option: -qx"},
	{OPTS_MIXED, "--evn=PASSWORD=x", -EINVAL, "unknown option: --evn"},
	{OPTS_MIXED, "-EPASSWORD=x", -EINVAL, "unknown option: -E"},
	{OPTS_MIXED, "-=x", -EINVAL, "unknown option: -"},
	{OPTS_MIXED, "--QUIET", -EINVAL, "unknown option: --QUIET"},
};

static void add(char *dst, size_t size, const char *sep, const char *word)
{
	size_t n = strlen(dst);
	snprintf(dst + n, size - n, "%s%s", sep, word && !*word ? "<>" : word ? word : "-");
}

/* Parses a line and writes what came out in the form of the table. */
static int parse(const char *line, int order, char *got, size_t size, struct err *e)
{
	char text[256], *words[WORDS_MAX + 1] = {(char[]){'t', 0}}, *save;
	int argc = 1;

	quiet = force = false;
	name = NULL;
	strv_done(&list);
	snprintf(text, sizeof(text), "%s", line);
	for (char *w = strtok_r(text, " ", &save); w; w = strtok_r(NULL, " ", &save)) {
		assert_true(argc < WORDS_MAX);
		words[argc++] = strcmp(w, "<>") == 0 ? w + 2 : w;
	}
	int r = opts_parse(&cmd, opts, order, &argc, words, e);
	if (r != 0)
		return r;
	got[0] = '\0';
	add(got, size, "", quiet && force ? "qf" : quiet ? "q" : force ? "f" : "-");
	add(got, size, " ", name);
	add(got, size, " ", "|");
	for (size_t i = 0; i < list.n; i++)
		add(got, size, " ", list.v[i]);
	add(got, size, " ", "|");
	for (int i = 1; i < argc; i++)
		add(got, size, " ", words[i]);
	assert_null(words[argc]);
	return 0;
}

static void every_line_of_the_table_means_what_it_says(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const struct opts_case *c = &cases[i];
		struct err e = {0};
		char got[512];
		int r = parse(c->line, c->order, got, sizeof(got), &e);
		const char *is = r < 0 ? e.msg : got;
		if (r != c->r || strcmp(is, c->want) != 0)
			fail_msg("\"%s\": %d \"%s\", want %d \"%s\"", c->line, r, is, c->r, c->want);
		if (r < 0)
			assert_string_equal(e.hint, "see a3s-box test --help");
	}
	strv_done(&list);
}

/* What parsing a line prints, and returns. */
static int printed(const char *line, char *text, size_t size)
{
	char got[512];
	int fds[2], saved;
	struct err e = {0};

	fflush(stdout);
	assert_int_equal(pipe(fds), 0);
	saved = dup(STDOUT_FILENO);
	dup2(fds[1], STDOUT_FILENO);
	int r = parse(line, OPTS_MIXED, got, sizeof(got), &e);
	fflush(stdout);
	dup2(saved, STDOUT_FILENO);
	close(saved);
	close(fds[1]);
	ssize_t n = read(fds[0], text, size - 1);
	close(fds[0]);
	assert_true(n > 0);
	text[n] = '\0';
	return r;
}

static void help_is_printed_from_the_same_table(void **state)
{
	char text[4096];

	assert_int_equal(printed("-q a --help --nonsense", text, sizeof(text)), 1);
	assert_non_null(strstr(text, "Usage: a3s-box test [OPTIONS] ARGS\n"));
	assert_non_null(strstr(text, "does nothing"));
	for (const struct opt *o = opts; o->name; o++) {
		assert_non_null(strstr(text, o->name));
		assert_non_null(strstr(text, o->help));
		assert_true(!o->arg || strstr(text, o->arg));
	}
	assert_non_null(strstr(text, "-n, --name NAME"));
	assert_non_null(strstr(text, "\nManners:\n  -q, --quiet"));
	assert_non_null(strstr(text, "\nOthers:\n      --only-long X"));
}

static void the_table_itself_is_printed_for_completion(void **state)
{
	char text[4096];

	assert_int_equal(printed("--help=options", text, sizeof(text)), 1);
	assert_string_equal(text, "q\tquiet\t\tno output\n"
				  "f\tforce\t\twhatever happens\n"
				  "n\tname\tNAME\tits name\n"
				  "e\tenv\tNAME=value\tadd to the environment\n"
				  "\tonly-long\tX\thas no letter\n");
}

static void a_value_may_be_help_and_help_is_no_value(void **state)
{
	char got[512];
	struct err e = {0};

	assert_int_equal(parse("--name --help", OPTS_MIXED, got, sizeof(got), &e), 0);
	assert_string_equal(got, "- --help | |");
	assert_int_equal(parse("-- --help", OPTS_MIXED, got, sizeof(got), &e), 0);
	assert_string_equal(got, "- - | | --help");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_line_of_the_table_means_what_it_says),
		cmocka_unit_test(help_is_printed_from_the_same_table),
		cmocka_unit_test(the_table_itself_is_printed_for_completion),
		cmocka_unit_test(a_value_may_be_help_and_help_is_no_value),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
