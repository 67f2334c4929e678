/* SPDX-License-Identifier: MIT */
/* From options and image to what a box runs with: Docker's rules, and what is refused before anything starts. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "spec.h"

static void join(char *dst, size_t size, const struct strv *l)
{
	size_t n = 0;

	dst[0] = '\0';
	for (size_t i = 0; i < l->n; i++)
		n += (size_t)snprintf(dst + n, size - n, "%s%s", i ? " " : "", l->v[i]);
}

static const struct {
	struct run_opts o;
	const char *why; /* part of the message, NULL: accepted */
} checks[] = {
	{{0}, NULL},
	{{.cpus = "1"}, NULL},
	{{.cpus = "2.0"}, NULL},
	{{.cpus = "0"}, "--cpus 0"},
	{{.cpus = "33"}, "--cpus 33"},
	{{.cpus = "1.5"}, "fractions"},
	{{.cpus = "-1"}, "--cpus -1"},
	{{.cpus = "2."}, "--cpus 2."},
	{{.cpus = ""}, "--cpus"},
	{{.memory = "64m"}, NULL},
	{{.memory = "100000000"}, NULL},
	{{.memory = "63m"}, "too small"},
	{{.memory = "0"}, "too small"},
	{{.memory = "1000p"}, "more than this host has"},
	{{.memory = "lots"}, "expected a size"},
	{{.memory = "99999999999999999999"}, "expected a size"},
	{{.user = "root"}, NULL},
	{{.user = "0:0"}, NULL},
	{{.user = ""}, "--user"},
	{{.user = ":0"}, "--user"},
	{{.user = "a:"}, "--user"},
	{{.user = "a:b:c"}, "--user"},
	{{.user = "a b"}, "--user"},
	{{.user = "a\n"}, "--user"},
	{{.name = "web-1"}, NULL},
	{{.name = "-web"}, "--name"},
	{{.name = ""}, "--name"},
	{{.hostname = "a.example.org"}, NULL},
	{{.hostname = "a_b"}, "--hostname"},
	{{.hostname = ""}, "--hostname"},
	{{.hostname = "-a"}, "--hostname"},
	{{.workdir = "/w"}, NULL},
	{{.workdir = "w"}, "--workdir"},
	{{.workdir = ""}, "--workdir"},
	{{.accel = "tcg"}, NULL},
	{{.accel = "xen"}, "--accel xen"},
	{{.stop_signal = "SIGQUIT"}, NULL},
	{{.stop_signal = "SIGNOPE"}, "--stop-signal"},
	{{.stop_timeout = "3"}, NULL},
	{{.stop_timeout = "soon"}, "--stop-timeout"},
};

static void options_are_checked_before_anything_starts(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(checks); i++) {
		struct box_config c = {0};
		struct err e = {0};
		int r = spec_from_opts(&checks[i].o, &c, &e);
		if (checks[i].why ? r >= 0 || !strstr(e.msg, checks[i].why) : r < 0)
			fail_msg("case %zu: %d \"%s\", want \"%s\"", i, r, e.msg,
				checks[i].why ? checks[i].why : "");
		box_config_done(&c);
	}
}

static void values_and_defaults_arrive(void **state)
{
	struct run_opts o = {.cpus = "3",
		.memory = "100000000",
		.interactive = true,
		.rm = true,
		.stop_signal = "9",
		.stop_timeout = "1m"};
	struct box_config c = {0}, d = {0};
	struct err e = {0};

	assert_int_equal(spec_from_opts(&o, &c, &e), 0);
	assert_int_equal(c.vcpus, 3);
	assert_int_equal(c.mem_bytes, 96ull << 20); /* whole MiB, never less than asked for */
	assert_int_equal(c.stop_signal, SIGKILL);
	assert_int_equal(c.stop_timeout_ns, 60000000000);
	assert_true(c.auto_remove && c.stdin_once && c.process.open_stdin && !c.process.tty);
	box_config_done(&c);
	o = (struct run_opts){.interactive = true, .detach = true};
	assert_int_equal(spec_from_opts(&o, &d, &e), 0);
	assert_int_equal(d.accel, ACCEL_AUTO);
	assert_int_equal(d.stop_timeout_ns, 10000000000);
	assert_false(d.stdin_once || d.auto_remove); /* detached: later clients may still type */
	box_config_done(&d);
}

static const struct {
	const char *entrypoint, *image_entrypoint, *image_cmd, *args, *want;
} commands[] = {
	{NULL, NULL, "sh", "", "sh"},
	{NULL, NULL, "sh", "ls", "ls"},
	{NULL, "init", "serve", "", "init serve"},
	{NULL, "init", "serve", "ls", "init ls"},
	{"own", "init", "serve", "", "own"}, /* a given entrypoint drops the image's command */
	{"own", "init", "serve", "ls", "own ls"},
	{"", "init", "serve", "ls", "ls"},
	{"", "init", "serve", "", NULL},
	{NULL, NULL, NULL, "", NULL},
	{NULL, "init", NULL, "", "init"},
};

static void the_command_follows_dockers_rules(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
		struct run_opts o = {.entrypoint = commands[i].entrypoint};
		struct oci_image image = {0};
		struct box_config c = {0};
		struct err e = {0};
		char arg[16], *args[] = {arg}, got[64];
		snprintf(arg, sizeof(arg), "%s", commands[i].args);
		if (commands[i].image_entrypoint)
			assert_int_equal(strv_push(&image.entrypoint, commands[i].image_entrypoint), 0);
		if (commands[i].image_cmd)
			assert_int_equal(strv_push(&image.cmd, commands[i].image_cmd), 0);
		int r = spec_add_image(&c, &o, &image, args, *arg ? 1 : 0, &e);
		join(got, sizeof(got), &c.process.argv);
		if (commands[i].want ? r < 0 || strcmp(got, commands[i].want) != 0 : r != -EINVAL)
			fail_msg("case %zu: %d \"%s\" %s", i, r, got, e.msg);
		if (r == 0) {
			assert_string_equal(c.process.cwd, "/");
			assert_string_equal(c.process.user, "");
			assert_int_equal(c.stop_signal, SIGTERM);
		}
		strv_done(&image.entrypoint);
		strv_done(&image.cmd);
		box_config_done(&c);
	}
}

static void the_image_gives_what_the_options_do_not(void **state)
{
	char workdir[] = "/srv", user[] = "www", stop[] = "SIGQUIT", wild[] = "SIGWILD";
	struct oci_image image = {.workdir = workdir, .user = user, .stop_signal = stop};
	struct run_opts o = {0};
	struct box_config c = {0};
	struct err e = {0};
	char got[128];

	assert_int_equal(strv_push(&image.cmd, "sh"), 0);
	assert_int_equal(strv_push(&image.env, "PATH=/bin"), 0);
	assert_int_equal(strv_push(&image.env, "A=image"), 0);
	assert_int_equal(strv_push(&o.env, "A=mine"), 0);
	assert_int_equal(strv_push(&o.env, "B="), 0);
	assert_int_equal(spec_add_image(&c, &o, &image, NULL, 0, &e), 0);
	assert_string_equal(c.process.cwd, "/srv");
	assert_string_equal(c.process.user, "www");
	assert_int_equal(c.stop_signal, SIGQUIT);
	join(got, sizeof(got), &c.process.env);
	assert_string_equal(got, "PATH=/bin A=mine B=");
	box_config_done(&c);

	o.workdir = "/w";
	o.user = "0";
	image.stop_signal = wild;
	assert_int_equal(spec_add_image(&c, &o, &image, NULL, 0, &e), 0);
	assert_string_equal(c.process.cwd, "/w");
	assert_string_equal(c.process.user, "0");
	assert_int_equal(c.stop_signal, SIGTERM); /* an image cannot make a box that cannot be stopped */
	box_config_done(&c);
	strv_done(&image.cmd);
	strv_done(&image.env);
	run_opts_done(&o);
}

static void variables_without_a_value_are_taken_from_our_environment(void **state)
{
	static const char *const given[] = {"SET_HERE", "NOT_SET_HERE", "X=1"}, *const bad[] = {
											"", "=x", "="};
	struct strv env = {0}, list = {0};
	struct err e = {0};
	char got[128];

	setenv("SET_HERE", "a b=c", 1);
	unsetenv("NOT_SET_HERE");
	for (size_t i = 0; i < ARRAY_LEN(given); i++)
		assert_int_equal(strv_push(&list, given[i]), 0);
	assert_int_equal(spec_add_env(&env, &list, &e), 0);
	join(got, sizeof(got), &env);
	assert_string_equal(got, "SET_HERE=a b=c X=1");
	strv_done(&list);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		assert_int_equal(strv_push(&list, bad[i]), 0);
		assert_int_equal(spec_add_env(&env, &list, &e), -EINVAL);
		strv_done(&list);
	}
	strv_done(&env);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(options_are_checked_before_anything_starts),
		cmocka_unit_test(values_and_defaults_arrive),
		cmocka_unit_test(the_command_follows_dockers_rules),
		cmocka_unit_test(the_image_gives_what_the_options_do_not),
		cmocka_unit_test(variables_without_a_value_are_taken_from_our_environment),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
