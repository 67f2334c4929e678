/* SPDX-License-Identifier: MIT */
/* What of a command line the audit log keeps. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "audit-args.h"

enum { WORDS_MAX = 200 };

struct args_case {
	const char *command, *line, *want; /* words separated by blanks */
};

static const struct args_case cases[] = {
	{"rm", "-f web", "-f web"},
	{"run", "-e A=secret box", "-e A=*** box"},
	{"run", "-eA=secret box", "-eA=*** box"},
	{"run", "-e=A=secret box", "-e=A=*** box"},
	{"run", "-ite A=secret box", "-ite A=*** box"},
	{"run", "-iteA=x=y box", "-iteA=*** box"},
	{"run", "-e A box", "-e A box"},
	{"run", "--env A=secret box", "--env A=*** box"},
	{"run", "--env=A=secret --env=B box", "--env=A=*** --env=B box"},
	{"run", "--env-file f --envx A=b", "--env-file f --envx A=***"},
	{"run", "--evn=PASSWORD=x --evn PASSWORD=x", "--evn=PASSWORD=*** --evn PASSWORD=***"},
	{"run", "--rm -e A=b --label=color=red --label token=x",
		"--rm -e A=*** --label=color=red --label token=***"},
	{"run", "--label=my.token=x --label=a=b", "--label=my.token=*** --label=a=b"},
	{"run", "-u e=1 -w e box", "-u e=1 -w e box"},
	{"run", "--name e -l color=red box", "--name e -l color=red box"},
	{"run", "-l api_token=abc box", "-l api_token=*** box"},
	{"run", "box env DB_PASSWORD=abc sh -e X=1", "box env DB_PASSWORD=*** sh -e X=***"},
	{"run", "-p 80:80 box", "-p 80:80 box"},
	{"login", "-u me -p pw host", "-u me -p *** host"},
	{"login", "-ppw host", "-p*** host"},
	{"login", "--password pw --password=pw host", "--password *** --password=*** host"},
	{"login", "--password-stdin host", "--password-stdin host"},
	{"build", "--build-arg K=v --secret id=v .", "--build-arg K=*** --secret id=*** ."},
	{"run", "-e", "-e"},
	{"run", "--env", "--env"},
	{"run", "- -- ---", "- -- ---"},
};

static json_t *split_args(const char *command, const char *line)
{
	char *copy = strdup(line), *argv[WORDS_MAX] = {copy}, *save = NULL;
	int argc = 1;

	for (char *w = strtok_r(copy, " ", &save); w; w = strtok_r(NULL, " ", &save))
		argv[argc++] = w;
	argv[0] = copy;
	json_t *list = audit_args(command, argc, argv);
	free(copy);
	return list;
}

static void test_cases(void **state)
{
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		json_t *list = split_args(cases[i].command, cases[i].line);
		char got[512] = "";
		for (size_t k = 0; k < json_array_size(list); k++)
			snprintf(got + strlen(got), sizeof(got) - strlen(got), "%s%s", k ? " " : "",
				json_string_value(json_array_get(list, k)));
		if (strcmp(got, cases[i].want) != 0)
			fail_msg("%s %s: \"%s\", want \"%s\"", cases[i].command, cases[i].line, got,
				cases[i].want);
		json_decref(list);
	}
}

static void test_bounds(void **state)
{
	static const char *const units[] = {"x", "\xc3\xa9", "\x01", "\\", "\xf0\x9f\x98\x80"};
	char *argv[WORDS_MAX], longest[5000], bytes[] = "\xff\x1b[2J\xc3\xa9", one[] = "a";

	for (size_t k = 0; k < sizeof(units) / sizeof(units[0]); k++) {
		size_t n = strlen(units[k]);
		for (size_t i = 0; i < sizeof(longest); i++)
			longest[i] = units[k][i % n];
		longest[(sizeof(longest) - 1) / n * n] = '\0';
		for (size_t i = 0; i < WORDS_MAX; i++)
			argv[i] = longest;
		argv[1] = bytes;
		json_t *list = audit_args("run", WORDS_MAX, argv);
		char *text = json_dumps(list, JSON_ENSURE_ASCII);
		assert_true(strlen(text) < 17 << 10);
		assert_string_equal(json_string_value(json_array_get(list, 0)), "\\xff\\x1b[2J\xc3\xa9");
		size_t last = json_array_size(list) - 1;
		assert_true(last > 3 && last < 100);
		assert_string_equal(json_string_value(json_array_get(list, last)), "…");
		free(text);
		json_decref(list);
	}
	for (size_t i = 0; i < WORDS_MAX; i++)
		argv[i] = one;
	json_t *list = audit_args("run", WORDS_MAX, argv);
	assert_int_equal(json_array_size(list), 101);
	json_decref(list);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_cases), cmocka_unit_test(test_bounds)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
