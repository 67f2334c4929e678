/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/io.h"
#include "changes.h"
#include "words.h"

/* What a configuration is after an instruction, as compact JSON with its keys in order. Returns the result. */
static int change(const char *before, const char *instruction, char **ret, struct err *e)
{
	json_t *config = json_loads(before, 0, NULL);

	assert_non_null(config);
	int r = oci_config_change(config, instruction, e);
	*ret = json_dumps(config, JSON_COMPACT | JSON_SORT_KEYS);
	json_decref(config);
	return r;
}

/* The configuration before, the instruction, the configuration after. */
static const char *const forms[][3] = {
	{"{}", "CMD echo $HOME \"a b\"", "{\"Cmd\":[\"/bin/sh\",\"-c\",\"echo $HOME \\\"a b\\\"\"]}"},
	{"{}", "cmd [\"echo\", \"$HOME\"]", "{\"Cmd\":[\"echo\",\"$HOME\"]}"},
	{"{}", "CMD []", "{\"Cmd\":[]}"},
	{"{}", "CMD [ -f /x ] && true", "{\"Cmd\":[\"/bin/sh\",\"-c\",\"[ -f /x ] && true\"]}"},
	{"{}", "CMD=/bin/bash", "{\"Cmd\":[\"/bin/sh\",\"-c\",\"/bin/bash\"]}"},
	{"{\"Shell\":[\"/bin/bash\",\"-ec\"]}", "CMD x",
		"{\"Cmd\":[\"/bin/bash\",\"-ec\",\"x\"],\"Shell\":[\"/bin/bash\",\"-ec\"]}"},
	{"{\"Cmd\":[\"old\"]}", "ENTRYPOINT [\"/x\"]", "{\"Entrypoint\":[\"/x\"]}"},
	{"{\"Cmd\":[\"old\"]}", "ENTRYPOINT [\"/x\"]\nCMD [\"new\"]",
		"{\"Cmd\":[\"new\"],\"Entrypoint\":[\"/x\"]}"},
	{"{}", "ENTRYPOINT exec top -b", "{\"Entrypoint\":[\"/bin/sh\",\"-c\",\"exec top -b\"]}"},
	{"{}", "ENV A=b", "{\"Env\":[\"A=b\"]}"},
	{"{}", "  ENV\tA=b  ", "{\"Env\":[\"A=b\"]}"},
	{"{}", "ENV A=b B=\"c d\" C=e\\ f D='$A' E=",
		"{\"Env\":[\"A=b\",\"B=c d\",\"C=e f\",\"D=$A\",\"E=\"]}"},
	{"{}", "ENV A b c=d", "{\"Env\":[\"A=b c=d\"]}"},
	{"{\"Env\":[\"A=1\",\"B=2\"]}", "ENV A=3 C=$A-${B}", "{\"Env\":[\"A=3\",\"B=2\",\"C=1-2\"]}"},
	{"{\"Env\":null}", "ENV A=${X:-none}${X:+some}${X-n}${X+s}", "{\"Env\":[\"A=nonen\"]}"},
	{"{\"Env\":[\"X=\"]}", "ENV A=${X:-none}${X:+some}${X-n}${X+s}", "{\"Env\":[\"X=\",\"A=nones\"]}"},
	{"{\"Env\":[\"X=v\"]}", "ENV A=${X:-none}${X:+some}${X:?gone}", "{\"Env\":[\"X=v\",\"A=vsomev\"]}"},
	{"{\"Env\":[\"X=v\"]}", "ENV A=\"\\$X \\\"$X\\\" \\n\" B=\\$X$",
		"{\"Env\":[\"X=v\",\"A=$X \\\"v\\\" \\\\n\",\"B=$X$\"]}"},
	{"{}", "ENV A=${X:-${Y:-'}'}}", "{\"Env\":[\"A=}\"]}"},
	{"{}", "ENV A=b \\\n  B=c", "{\"Env\":[\"A=b\",\"B=c\"]}"},
	{"{}", "ENV \xc3\xa4=\xc3\xb6", "{\"Env\":[\"\xc3\xa4=\xc3\xb6\"]}"},
	{"{}", "EXPOSE 80 443/UDP 1000-1002/sctp",
		"{\"ExposedPorts\":{\"1000/sctp\":{},\"1001/sctp\":{},\"1002/sctp\":{},\"443/"
		"udp\":{},\"80/tcp\":{}}}"},
	{"{\"Env\":[\"P=81\"],\"ExposedPorts\":{\"80/tcp\":{}}}", "EXPOSE $P",
		"{\"Env\":[\"P=81\"],\"ExposedPorts\":{\"80/tcp\":{},\"81/tcp\":{}}}"},
	{"{}", "LABEL a=b \"c d\"=\"e f\" g=", "{\"Labels\":{\"a\":\"b\",\"c d\":\"e f\",\"g\":\"\"}}"},
	{"{\"Labels\":{\"a\":\"x\",\"z\":\"y\"}}", "LABEL a blue image",
		"{\"Labels\":{\"a\":\"blue image\",\"z\":\"y\"}}"},
	{"{}", "USER app:staff", "{\"User\":\"app:staff\"}"},
	{"{}", "USER 1000", "{\"User\":\"1000\"}"},
	{"{}", "VOLUME /a /b", "{\"Volumes\":{\"/a\":{},\"/b\":{}}}"},
	{"{}", "VOLUME [\"/a b\", \"/c\"]", "{\"Volumes\":{\"/a b\":{},\"/c\":{}}}"},
	{"{}", "WORKDIR /a/../b/", "{\"WorkingDir\":\"/b\"}"},
	{"{\"WorkingDir\":\"/a\"}", "WORKDIR b", "{\"WorkingDir\":\"/a/b\"}"},
	{"{\"WorkingDir\":\"/a\"}", "WORKDIR ../../..", "{\"WorkingDir\":\"/\"}"},
	{"{\"WorkingDir\":\"/a\"}", "WORKDIR /c d", "{\"WorkingDir\":\"/c d\"}"},
	{"{}", "STOPSIGNAL SIGRTMIN+3", "{\"StopSignal\":\"SIGRTMIN+3\"}"},
	{"{}", "STOPSIGNAL 9", "{\"StopSignal\":\"9\"}"},
	{"{}", "HEALTHCHECK NONE", "{\"Healthcheck\":{\"Test\":[\"NONE\"]}}"},
	{"{}",
		"HEALTHCHECK --interval=5m --timeout=3s --start-period=0 --start-interval=1ms "
		"--retries=2 CMD curl -f x || exit 1",
		"{\"Healthcheck\":{\"Interval\":300000000000,\"Retries\":2,\"StartInterval\":1000000,"
		"\"StartPeriod\":0,"
		"\"Test\":[\"CMD-SHELL\",\"curl -f x || exit 1\"],\"Timeout\":3000000000}}"},
	{"{\"Healthcheck\":{\"Retries\":9}}", "HEALTHCHECK CMD [\"/x\", \"y\"]",
		"{\"Healthcheck\":{\"Test\":[\"CMD\",\"/x\",\"y\"]}}"},
	{"{}", "ONBUILD RUN make \"$X\"", "{\"OnBuild\":[\"RUN make \\\"$X\\\"\"]}"},
	{"{\"OnBuild\":[\"a\"]}", "ONBUILD add . /", "{\"OnBuild\":[\"a\",\"add . /\"]}"},
	{"{}", "# a remark\n\nUSER a\nUSER b", "{\"User\":\"b\"}"},
	{"{\"Env\":7,\"Labels\":[1]}", "ENV A=b\nLABEL a=b", "{\"Env\":[\"A=b\"],\"Labels\":{\"a\":\"b\"}}"},
};

static void test_forms(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
		struct err e = {0};
		char *got;
		if (change(forms[i][0], forms[i][1], &got, &e) < 0)
			fail_msg("%s: %s", forms[i][1], e.msg);
		if (strcmp(got, forms[i][2]) != 0)
			fail_msg("%s: %s instead of %s", forms[i][1], got, forms[i][2]);
		free(got);
	}
}

/* The instruction, and what its error says. */
static const char *const refusals[][2] = {
	{"", "the instruction is empty"},
	{"# nothing", "the instruction is empty"},
	{"RUN make", "\"RUN\" is no instruction that changes an image's configuration"},
	{"FROM x", "\"FROM\" is no instruction"},
	{"MAINTAINER x", "\"MAINTAINER\" is no"},
	{"CMDX y", "\"CMDX\" is no"},
	{"CMD[\"a\"]", "is no instruction"},
	{"=x", "is no instruction"},
	{"CMD", "CMD: it needs an argument"},
	{"CMD [\"a\", 1]", "CMD: the list must be one of strings"},
	{"ENTRYPOINT [[]]", "ENTRYPOINT: the list must be one of strings"},
	{"ENV A", "ENV: \"A\" has no value"},
	{"ENV A=b c", "ENV: \"c\" has no \"=\""},
	{"ENV =b", "ENV: a name is empty"},
	{"ENV A=\"b", "ENV: the closing \" is missing"},
	{"ENV A='b", "ENV: the closing ' is missing"},
	{"ENV A=${B", "ENV: the closing } is missing"},
	{"ENV A=${B:", "ENV: the closing } is missing"},
	{"ENV A=${}", "ENV: \"${\" without the name"},
	{"ENV A=${B%x}", "ENV: \"${B%\" is not supported"},
	{"ENV A=${B:}", "ENV: \"${B}\" is not supported"},
	{"ENV A=\"${B:?is needed}\"", "ENV: B: is needed"},
	{"ENV A=${B?}", "ENV: B: not set"},
	{"ENV A=\xff", "is not in UTF-8"},
	{"LABEL \"\"=x", "LABEL: a name is empty"},
	{"EXPOSE x", "EXPOSE: invalid port \"x\""},
	{"EXPOSE 0", "EXPOSE: invalid port"},
	{"EXPOSE 65536", "EXPOSE: invalid port"},
	{"EXPOSE 9-8", "EXPOSE: invalid port"},
	{"EXPOSE 80/icmp", "EXPOSE: invalid port"},
	{"EXPOSE 80/tcpx", "EXPOSE: invalid port"},
	{"EXPOSE 1-65535", "EXPOSE: ExposedPorts would have more than 16384"},
	{"USER a b", "USER: expected one user"},
	{"USER $NOBODY", "USER: expected one user"},
	{"VOLUME [\"\"]", "VOLUME: a path is empty"},
	{"VOLUME [1]", "VOLUME: the list must be one of strings"},
	{"WORKDIR $X", "WORKDIR: the path is empty"},
	{"STOPSIGNAL SIGNOTHING", "STOPSIGNAL: \"SIGNOTHING\" is no signal"},
	{"HEALTHCHECK", "HEALTHCHECK: it needs an argument"},
	{"HEALTHCHECK RUN x", "HEALTHCHECK: expected CMD or NONE, not \"RUN\""},
	{"HEALTHCHECK NONE x", "HEALTHCHECK: NONE takes neither"},
	{"HEALTHCHECK --retries=1 NONE", "HEALTHCHECK: NONE takes neither"},
	{"HEALTHCHECK CMD", "HEALTHCHECK: CMD needs a command"},
	{"HEALTHCHECK CMD []", "HEALTHCHECK: CMD needs a command"},
	{"HEALTHCHECK --interval CMD x", "HEALTHCHECK: option \"--interval\" has no value"},
	{"HEALTHCHECK --interval=1us CMD x", "HEALTHCHECK: invalid --interval"},
	{"HEALTHCHECK --interval=x CMD x", "HEALTHCHECK: invalid --interval"},
	{"HEALTHCHECK --retries=-1 CMD x", "HEALTHCHECK: invalid --retries"},
	{"HEALTHCHECK --often=1 CMD x", "HEALTHCHECK: unknown option \"--often\""},
	{"ONBUILD FROM x", "ONBUILD: \"FROM\" cannot be put off"},
	{"ONBUILD ONBUILD RUN x", "ONBUILD: \"ONBUILD\" cannot be put off"},
	{"ONBUILD RUN", "ONBUILD: RUN needs an argument"},
};

static void test_refusals(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(refusals); i++) {
		struct err e = {0};
		char *got;
		if (change("{}", refusals[i][0], &got, &e) == 0)
			fail_msg("%s: %s", refusals[i][0], got);
		if (!strstr(e.msg, refusals[i][1]))
			fail_msg("%s: \"%s\" does not say \"%s\"", refusals[i][0], e.msg, refusals[i][1]);
		free(got);
	}
}

/* The command that an entry point does not clear is one that was set in the same breath, before or after. */
static void test_several(void **state)
{
	static const char *const orders[][2] = {
		{"CMD [\"c\"]", "ENTRYPOINT [\"e\"]"}, {"ENTRYPOINT [\"e\"]", "CMD [\"c\"]"}};

	for (size_t i = 0; i < ARRAY_LEN(orders); i++) {
		struct strv list = {0};
		for (size_t k = 0; k < 2; k++)
			assert_int_equal(strv_push(&list, orders[i][k]), 0);
		json_t *config = json_pack("{s:[s]}", "Cmd", "old");
		assert_int_equal(oci_config_changes(config, &list, NULL), 0);
		char *got = json_dumps(config, JSON_COMPACT | JSON_SORT_KEYS);
		assert_string_equal(got, "{\"Cmd\":[\"c\"],\"Entrypoint\":[\"e\"]}");
		free(got);
		json_decref(config);
		strv_done(&list);
	}
}

/* A few bytes do not become many. */
static void test_bounds(void **state)
{
	struct err e = {0};
	char *got, *line = malloc(70000), *value = malloc(60001);

	memset(value, 'v', 60000);
	value[60000] = '\0';
	json_t *config = json_pack("{s:[o]}", "Env", json_sprintf("V=%s", value));
	strcpy(line, "ENV A=");
	for (int i = 0; i < 20000; i++)
		strcat(line + i * 2, "$V");
	assert_int_equal(oci_config_change(config, line, &e), -E2BIG);
	json_decref(config);
	memset(line, 'x', 69999);
	line[69999] = '\0';
	assert_int_equal(change("{}", line, &got, &e), -E2BIG);
	free(got);
	strcpy(line, "ENV A=");
	for (int i = 0; i < 1000; i++)
		strcat(line, "${A:-");
	assert_int_equal(change("{}", line, &got, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "nested too deep"));
	free(got);
	free(line);
	free(value);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_forms),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_several),
		cmocka_unit_test(test_bounds),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
