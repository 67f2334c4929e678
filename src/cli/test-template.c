/* SPDX-License-Identifier: MIT */
/* Templates: what Go's text/template prints for the same text and data, and what is refused. */
#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "template-tree.h"

static const char data[] =
	"{\"Name\": \"web\", \"ID\": \"0123456789abcdef\", \"N\": 3, \"Neg\": -7, \"F\": 0.5, \"Big\": 1e21, "
	"\"T\": true,"
	" \"No\": false, \"Nil\": null, \"Empty\": \"\", \"L\": [\"a\", \"b\", \"c\"], \"None\": [],"
	" \"State\": {\"Status\": \"running\", \"Pid\": 12}, \"Labels\": {\"b\": \"2\", \"a\": \"1\", "
	"\"com.x/y\": \"dot\"},"
	" \"Deep\": [{\"Source\": \"/s\", \"Tags\": [1, 2]}, {\"Source\": \"/t\", \"Tags\": []}], \"Uni\": "
	"\"größe ok\"}";

struct template_case {
	const char *text, *want; /* the error says want when it begins with "!" */
};

static const struct template_case cases[] = {
	{"", ""},
	{"plain } text {", "plain } text {"},
	{"{{.Name}}", "web"},
	{"<{{ .State.Status }}>", "<running>"},
	{"{{$.Name}}{{$}}", "!"},
	{"{{.N}} {{.Neg}} {{.F}} {{.Big}} {{.T}} {{.No}}", "3 -7 0.5 1e+21 true false"},
	{"{{.Nil}}", "<no value>"},
	{"{{.L}} {{.None}} {{.Labels}}", "[a b c] [] map[a:1 b:2 com.x/y:dot]"},
	{"{{.Labels.a}}{{.Labels.zz}}", "1<no value>"},
	{"{{.Missing}}", "!there is no field \"Missing\""},
	{"{{.Name.First}}", "!a string has no field \"First\""},
	{"{{.Nil.X}}", "!nothing has no field \"X\""},
	{"{{json .State}}", "{\"Status\":\"running\",\"Pid\":12}"},
	{"{{json .Name}} {{json .Nil}} {{.L | json}}", "\"web\" null [\"a\",\"b\",\"c\"]"},
	{"{{\"a\\tb\\u00e9\\\"\"}}{{`raw\\n`}}", "a\tb\xc3\xa9\"raw\\n"},
	{"{{'a'}} {{'\\n'}} {{'\xc3\xa9'}}", "97 10 233"},
	{"{{12}} {{-4}} {{0x1F}} {{1.5}} {{.5}} {{1e3}}", "12 -4 31 1.5 0.5 1000"},
	{"{{true}} {{false}}", "true false"},
	/* functions */
	{"{{upper .Name}} {{lower \"ABC\"}} {{title \"two words's end\"}}", "WEB abc Two Words's End"},
	{"{{upper .Uni}}", "GR\xc3\x96\xc3\x9f"
			   "E OK"},
	{"{{join .L \",\"}} {{.L | len}} {{len .Name}} {{len .Labels}}", "a,b,c 3 3 3"},
	{"{{split \"a:b:\" \":\"}} {{index (split \"a:b\" \":\") 1}} {{len (split \"abc\" \"\")}}",
		"[a b ] b 3"},
	{"{{index .L 1}} {{index .Labels \"com.x/y\"}}[{{index .Labels \"none\"}}]", "b dot[]"},
	{"{{index .Deep 0 \"Tags\" 1}} {{(index .Deep 1).Source}}", "2 /t"},
	{"{{index .L 3}}", "!outside of a list of 3"},
	{"{{index .L -1}}", "!outside"},
	{"{{index .Name 0}}", "!a list or map expected"},
	{"{{slice .ID 0 12}} {{slice .L 1}} {{slice .L 1 2}}", "0123456789ab [b c] [b]"},
	{"{{slice .L 2 1}}", "!outside"},
	{"{{truncate .ID 4}} {{truncate .Uni 3}}. {{truncate .Name 10}}", "0123 gr. web"},
	{"[{{pad .Name 1 2}}][{{pad .Empty 1 2}}]", "[ web  ][]"},
	{"{{pad .Name 1 99999}}", "!0 to 1000"},
	{"{{print .N 4 \"x\" 5 6}} {{println \"a\" 1}}.", "3 4x5 6 a 1\n."},
	{"{{printf \"%s-%d|%5d|%-5d|%05d|%+d\" .Name .N .N .N .Neg .N}}", "web-3|    3|3    |-0007|+3"},
	{"{{printf \"%q %v %t %x %X %o %b %c\" .Name .L .T 255 255 8 5 'z'}}",
		"\"web\" [a b c] true ff FF 10 101 z"},
	{"{{printf \"%.2f %6.1f %g %e\" .F .F .F .F}}", "0.50    0.5 0.5 5.000000e-01"},
	{"{{printf \"%.3s|%8s|%-8s|%*d\" .ID .Name .Name 4 .N}}", "012|     web|web     |   3"},
	{"{{printf \"%d %s\" .Name .N}}", "%!d(string=web) %!s(int=3)"},
	{"{{printf \"%d%%\"}}", "%!d(MISSING)%"},
	{"{{printf \"x\" 1 \"y\"}}", "x%!(EXTRA int=1, string=y)"},
	{"{{printf \"%99999d\" 1}}", "!widths"},
	{"{{printf \"%\"}}", "%!(NOVERB)"},
	{"{{printf \"%x\" \"hi\"}}", "6869"},
	/* comparisons */
	{"{{eq .N 3}} {{eq .Name \"a\" \"web\"}} {{ne .Name \"x\"}} {{eq .T true}}", "true true true true"},
	{"{{lt .N 4}} {{le .N 3}} {{gt .N 3}} {{ge .N 3}} {{lt \"a\" \"b\"}} {{gt .F 0.1}}",
		"true true false true true true"},
	{"{{eq .Name 3}}", "!cannot compare a string with a number"},
	{"{{lt .T .No}}", "!cannot compare"},
	{"{{and .N .Name}} {{and .Empty .Bad.Field}} {{or .Empty .Name}} {{or .N .Bad.Field}} {{not .Empty}}",
		"web  web 3 true"},
	/* control */
	{"{{if .T}}yes{{else}}no{{end}}{{if .None}}yes{{else}}no{{end}}", "yesno"},
	{"{{if .No}}a{{else if eq .N 3}}b{{else}}c{{end}}", "b"},
	{"{{if .No}}a{{else if .No}}b{{else if .No}}c{{else}}d{{end}}.", "d."},
	{"{{if and .T (gt .N 2)}}ok{{end}}", "ok"},
	{"{{range .L}}<{{.}}>{{end}}", "<a><b><c>"},
	{"{{range $i, $e := .L}}{{if $i}},{{end}}{{$i}}={{$e}}{{end}}", "0=a,1=b,2=c"},
	{"{{range $e := .L}}{{$e}}{{$.Name}}{{end}}", "awebbwebcweb"},
	{"{{range $k, $v := .Labels}}{{$k}}={{$v}};{{end}}", "a=1;b=2;com.x/y=dot;"},
	{"{{range .None}}x{{else}}none of {{.Name}}{{end}}", "none of web"},
	{"{{range .N}}{{.}}{{end}}", "012"},
	{"{{range .L}}{{if eq . \"b\"}}{{continue}}{{end}}{{.}}{{end}}", "ac"},
	{"{{range .L}}{{if eq . \"b\"}}{{break}}{{end}}{{.}}{{end}}", "a"},
	{"{{range .Deep}}{{range .Tags}}{{.}}{{else}}-{{end}}{{.Source}} {{end}}", "12/s -/t "},
	{"{{range .Name}}{{end}}", "!range cannot go over a string"},
	{"{{with .State}}{{.Pid}}{{end}}{{with .Empty}}x{{else}}{{.N}}{{end}}", "123"},
	{"{{with $s := .State}}{{$s.Status}}{{end}}", "running"},
	{"{{with .Empty}}x{{else with .State}}{{.Pid}}{{end}}", "12"},
	{"{{$x := 1}}{{range .L}}{{$x = .}}{{end}}{{$x}}", "c"},
	{"{{$x := 1}}{{if .T}}{{$x := 2}}{{$x}}{{end}}{{$x}}", "21"},
	{"{{.Name | printf \"%s/%s\" \"a\" | upper}}", "A/WEB"},
	{"{{(.State).Status}}", "running"},
	/* trimming and comments */
	{"a \n {{- .Name -}} \n b", "awebb"},
	{"a {{- /* said */ -}} b {{/* said */}}c", "ab c"},
	{"{{- 3 -}} x", "3x"},
	{"{{-3}}", "-3"},
	{"{{range .L -}} {{.}} {{- end}}", "abc"},
	/* what is no template */
	{"{{.Name", "!unclosed action"},
	{"{{", "!a value is missing"},
	{"{{}}", "!a value is missing"},
	{"{{.Name}", "!unexpected"},
	{"{{if .T}}x", "!{{end}} is missing"},
	{"{{if .T}}x{{else}}y", "!{{end}} is missing"},
	{"{{if .T}}x{{else}}y{{else}}z{{end}}", "!second else"},
	{"x{{end}}", "!without a block"},
	{"x{{else}}", "!without a block"},
	{"{{break}}", "!belong into range"},
	{"{{nosuch .Name}}", "!no such function"},
	{"{{template \"x\"}}", "!not supported"},
	{"{{$x}}", "!undefined variable"},
	{"{{$x = 1}}", "!undefined variable"},
	{"{{if $x := 1}}{{end}}{{$x}}", "!undefined variable"},
	{"{{$a, $b := .L}}", "!for range only"},
	{"{{upper}}", "!wrong number of arguments for upper"},
	{"{{upper .Name .Name}}", "!wrong number of arguments"},
	{"{{print upper .Name}}", "!needs parentheses"},
	{"{{.Name .ID}}", "!no function"},
	{"{{.Name | .ID}}", "!no function"},
	{"{{.Name |}}", "!a value is missing"},
	{"{{(.Name}}", "!\")\" expected"},
	{"{{.Name)}}", "!unexpected"},
	{"{{\"abc}}", "!unterminated string"},
	{"{{\"\\q\"}}", "!invalid escape"},
	{"{{\"\\u0000\"}}", "!invalid escape"},
	{"{{\"\\ud800\"}}", "!invalid escape"},
	{"{{'ab'}}", "!unterminated character"},
	{"{{1x}}", "!invalid number"},
	{"{{-inf}}", "!invalid number"},
	{"{{99999999999999999999}}", "!invalid number"},
	{"{{.Name.}}", "!unexpected"},
	{"{{. Name}}", "!no such function"},
	{"{{/* x}}", "!unclosed comment"},
	{"{{.Label \"x\"}}", "!there is no field \"Label\""},
	/* without end */
	{"{{range $i := 1000}}{{range 1000}}{{range 1000}}{{end}}{{end}}{{end}}", "!takes too long"},
	{"{{range 9000000000000000000}}{{end}}", "!takes too long"},
	{"{{$x := .ID}}{{range 100}}{{$x = print $x $x}}{{end}}", "!more than 16 MiB"},
	{"{{$x := .ID}}{{range 20}}{{$x = print $x $x}}{{end}}{{$x}}{{$x}}{{$x}}",
		"!prints more than 16 MiB"},
};

static json_t *root;

static void check(const struct template_case *c)
{
	CLEANUP(template_freep) struct template *t = NULL;
	CLEANUP_FREE char *text = NULL;
	struct err e = {0};
	int r = template_parse(c->text, &t, &e);

	if (r == 0)
		r = template_text(t, root, NULL, false, &text, &e);
	if (c->want[0] == '!' && c->want[1] && (r >= 0 || !strstr(e.msg, c->want + 1)))
		fail_msg("%s: %d \"%s\", want the error \"%s\"", c->text, r, r < 0 ? e.msg : text,
			c->want + 1);
	if (c->want[0] != '!' && (r < 0 || strcmp(text, c->want) != 0))
		fail_msg("%s: %d \"%s\", want \"%s\"", c->text, r, r < 0 ? e.msg : text, c->want);
}

static void test_cases(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		check(&cases[i]);
}

/* Deep nesting and long texts are refused, not followed. */
static void test_bounds(void **state)
{
	static const char *const parts[][2] = {
		{"{{if 1}}", "{{end}}"}, {"(", ")"}, {"{{if 0}}{{else ", "{{end}}"}};
	struct template *t = NULL;
	struct err e;

	for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
		CLEANUP(buf_done) struct buf b = {0};
		if (i == 1)
			buf_append(&b, "{{", 2);
		for (int k = 0; k < 5000; k++)
			buf_append(&b, parts[i][0], strlen(parts[i][0]));
		buf_append(&b, "1", 2);
		assert_int_equal(template_parse((const char *)buf_data(&b), &t, &e), -EINVAL);
	}
	char *text = malloc(TEMPLATE_TEXT_MAX + 2);
	memset(text, 'x', TEMPLATE_TEXT_MAX + 1);
	text[TEMPLATE_TEXT_MAX + 1] = '\0';
	assert_int_equal(template_parse(text, &t, &e), -EINVAL);
	text[TEMPLATE_TEXT_MAX] = '\0';
	assert_int_equal(template_parse(text, &t, &e), 0);
	template_free(t);
	free(text);
}

static void test_labels(void **state)
{
	CLEANUP(template_freep) struct template *t = NULL;
	CLEANUP_FREE char *row = NULL, *heading = NULL;
	struct template_labels labels = {.map = json_object_get(root, "Labels")},
			       headings = {.headings = true};
	struct err e = {0};

	assert_int_equal(
		template_parse(
			"{{.Label \"com.x/y\"}}|{{$.Label \"none\"}}|{{.Label \"c.some-name\"}}", &t, &e),
		0);
	assert_int_equal(template_text(t, root, &labels, false, &row, &e), 0);
	assert_string_equal(row, "dot||");
	assert_int_equal(template_text(t, root, &headings, false, &heading, &e), 0);
	assert_string_equal(heading, "x/y|none|some name");
}

/* On a terminal, values cannot drive it; the template's own text can. */
static void test_escape(void **state)
{
	CLEANUP(template_freep) struct template *t = NULL;
	CLEANUP_FREE char *text = NULL;
	json_t *j = json_pack("{s:s}", "X", "a\x1b[2J\nb\tc");
	struct err e = {0};

	assert_int_equal(template_parse("\x1b[1m{{.X}}", &t, &e), 0);
	assert_int_equal(template_text(t, j, NULL, true, &text, &e), 0);
	assert_string_equal(text, "\x1b[1ma\\x1b[2J\nb\tc");
	json_decref(j);
}

static void note(void *to, const char *name, bool certain)
{
	char *s = to;
	sprintf(s + strlen(s), "%s%s ", name, certain ? "!" : "");
}

static void test_fields(void **state)
{
	static const struct {
		const char *text, *want;
		bool whole;
	} table[] = {
		{"{{.A.B}} {{upper .C}}{{if .D}}{{.E}}{{end}}", "A! C! D! E! ", false},
		{"{{range .A}}{{.B}}{{$.C}}{{.}}{{end}}", "A! B C! ", false},
		{"{{with .A}}{{.B}}{{else}}{{.C}}{{end}}", "A! B C! ", false},
		{"{{json .}}", "", true},
		{"{{$x := $}}{{$x.A}}", "A ", true},
		{"{{(index .A 0).B}}{{.Label \"x\"}}", "A! B Label ", false},
		{"plain", "", false},
	};

	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		CLEANUP(template_freep) struct template *t = NULL;
		char found[256] = "";
		struct err e = {0};
		assert_int_equal(template_parse(table[i].text, &t, &e), 0);
		assert_int_equal(template_fields(t, note, found), table[i].whole);
		if (strcmp(found, table[i].want) != 0)
			fail_msg("%s: \"%s\", want \"%s\"", table[i].text, found, table[i].want);
	}
}

static int set_up(void **state)
{
	setlocale(LC_CTYPE, "C.UTF-8");
	root = json_loads(data, JSON_REJECT_DUPLICATES, NULL);
	return root ? 0 : -1;
}

static int tear_down(void **state)
{
	json_decref(root);
	return 0;
}

static void long_values_are_escaped_without_cutting_characters(void **state)
{
	struct template *t = NULL;
	struct err e = {0};
	char value[400], *text = NULL;

	for (size_t a = 245; a < 260; a++) {
		memset(value, 'a', a);
		snprintf(value + a, sizeof(value) - a, "\xe2\x82\xac\xf0\x9f\x98\x80 tail");
		json_t *j = json_pack("{s:s}", "V", value);
		assert_int_equal(template_parse("{{.V}}", &t, &e), 0);
		assert_int_equal(template_text(t, j, NULL, true, &text, &e), 0);
		assert_string_equal(text, value);
		free(text);
		template_free(t);
		json_decref(j);
	}
}

static void headings_stay_as_they_are(void **state)
{
	static const char *const texts[] = {"{{lower .V}}", "{{.V | json}}", "{{truncate .V 2}}",
		"{{index (split .V \",\") 0}}", "{{join (split .V \",\") \"-\"}}", "{{title .V}}"};
	struct template_labels labels = {.headings = true};

	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		struct template *t = NULL;
		struct err e = {0};
		char *text = NULL;
		json_t *j = json_pack("{s:s}", "V", "BOX ID");
		assert_int_equal(template_parse(texts[i], &t, &e), 0);
		assert_int_equal(template_text(t, j, &labels, false, &text, &e), 0);
		assert_string_equal(text, "BOX ID");
		free(text);
		template_free(t);
		json_decref(j);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cases),
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_labels),
		cmocka_unit_test(test_escape),
		cmocka_unit_test(test_fields),
		cmocka_unit_test(long_values_are_escaped_without_cutting_characters),
		cmocka_unit_test(headings_stay_as_they_are),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
