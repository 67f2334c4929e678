/* SPDX-License-Identifier: MIT */
#include <string.h>

#include "session.h"
#include "spec.h"

struct exec_opts {
	bool detach, interactive, tty;
	const char *workdir, *user;
	struct strv env;
};

static int make_process(const struct box *b, const struct exec_opts *o, int argc, char **argv,
	struct wire_process *p, struct err *e)
{
	const struct wire_process *main = &b->config.process;

	p->tty = o->tty;
	p->open_stdin = o->interactive;
	p->cwd = strdup(o->workdir ? o->workdir : main->cwd ? main->cwd : "/");
	p->user = strdup(o->user ? o->user : main->user ? main->user : "");
	if (!p->cwd || !p->user || strv_copy(&p->env, &main->env) < 0 ||
		strv_copy(&p->groups, &main->groups) < 0)
		return err_oom(e);
	for (int i = 2; i < argc; i++) {
		if (strv_push(&p->argv, argv[i]) < 0)
			return err_oom(e);
	}
	return spec_add_env(&p->env, &o->env, e);
}

static int run_in_box(
	const struct cmd *c, const struct exec_opts *o, int argc, char **argv, int *status, struct err *e)
{
	CLEANUP(app_close) struct app a = {0};
	CLEANUP(box_freep) struct box *b = NULL;
	CLEANUP(wire_process_done) struct wire_process p = {0};
	CLEANUP(buf_done) struct buf opening = {0};

	*status = STATUS_FAILED;
	int r = app_open(&a, false, e);
	if (r == 0)
		r = box_find(a.st, argv[1], &b, e);
	if (r == 0 && b->state == BOX_PAUSED) {
		r = err_set(e, -EBUSY, "box %s is paused", b->name);
		err_hint(e, "let it go on with: a3s-box unpause %s", b->name);
	} else if (r == 0 && b->state != BOX_RUNNING) {
		r = err_set(e, -ENOENT, "box %s is not running", b->name);
		err_hint(e, "start it with: a3s-box start %s", b->name);
	}
	if (r == 0)
		r = make_process(b, o, argc, argv, &p, e);
	if (r == 0) {
		r = wire_put_process(&opening, &p);
		if (r < 0)
			err_set(e, r, "command line and environment are too long");
	}
	int fd = r == 0 ? box_connect_guest(a.st, b, WIRE_PORT_SESSION, e) : r;
	if (fd < 0)
		return fd;
	app_close(&a); /* a session may last for days: hold no database meanwhile */
	struct session_opts so = {.fd = fd,
		.opening = &opening,
		.stdin_open = o->interactive,
		.tty = o->tty,
		.sig_proxy = true,
		.until_started = o->detach};
	return session_run(&so, status, e);
}

int cmd_exec(const struct cmd *c, int argc, char **argv)
{
	struct exec_opts o = {0};
	struct opt opts[] = {{'d', "detach", OPT_FLAG, &o.detach, NULL, "leave it running in the background"},
		{'e', "env", OPT_LIST, &o.env, "NAME=VALUE",
			"set an environment variable; NAME alone passes ours on"},
		{'i', "interactive", OPT_FLAG, &o.interactive, NULL, "pass standard input to the process"},
		{'t', "tty", OPT_FLAG, &o.tty, NULL, "give the process a terminal"},
		{'u', "user", OPT_STR, &o.user, "USER[:GROUP]", "run as this user [the box's]"},
		{'w', "workdir", OPT_STR, &o.workdir, "PATH", "working directory [the box's]"}, {0}};
	struct err e = {0};
	int status = STATUS_FAILED;

	int r = opts_parse(c, opts, OPTS_FIRST, &argc, argv, &e);
	if (r > 0)
		return 0;
	if (r == 0 && argc < 3) {
		strv_done(&o.env);
		return app_usage(c, "a box and a command are needed");
	}
	if (r == 0 && o.workdir && o.workdir[0] != '/')
		r = err_set(&e, -EINVAL, "--workdir \"%s\": must be an absolute path", o.workdir);
	if (r == 0 && o.tty && o.interactive && !o.detach && !isatty(STDIN_FILENO)) {
		r = err_set(&e, -ENOTTY, "-t needs a terminal, and standard input is none");
		err_hint(&e, "leave out -t");
	}
	if (r == 0)
		r = spec_check_user(o.user, &e);
	if (r == 0)
		r = run_in_box(c, &o, argc, argv, &status, &e);
	strv_done(&o.env);
	return r < 0 ? app_fail(c, &e, status) : r;
}
