/* SPDX-License-Identifier: MIT */
/*
 * exec: a further process in a running box.
 *
 * The connection leads past the supervisor straight to the guest, so it is this command that notes the events: that the
 * process was made and started once it runs, that it ended before its status is passed on. A process that is to be left to
 * itself is the supervisor's to start, who can tell how it ends (box/sup-exec.c); of one that is left later, by its detach keys
 * or because this command was killed, nobody learns that.
 */
#include "exec.h"

#include <string.h>

#include "base/io.h"
#include "base/log.h"
#include "base/units.h"
#include "box/caps.h"
#include "detach.h"
#include "session.h"

/* One exec and what its events say. */
struct exec {
	struct app app;
	const struct box *box;
	struct box_exec told;
};

void exec_opts_done(struct exec_opts *o)
{
	strv_done(&o->env);
	strv_done(&o->env_files);
}

/* ---- events ---- */

/* Now, while the guest is busy with the process. */
static void on_started(void *data)
{
	struct exec *x = data;
	struct err e = {0};

	if (box_exec_started(x->app.st, x->box, &x->told, &e) < 0)
		log_warn("events of the exec are missing: %s", e.msg);
	app_close(&x->app); /* a session may last for days: hold no database meanwhile */
}

static void note_end(struct exec *x, int status)
{
	struct err e = {0};

	int r = state_open(&x->app.st, &e);
	if (r == 0)
		r = box_exec_died(x->app.st, x->box, &x->told, status, &e);
	if (r < 0)
		log_warn("the end of the exec is missing among the events: %s", e.msg);
}

/* ---- process ---- */

static int make_process(struct state *st, const struct box *b, const struct exec_opts *o, char *const *argv,
	size_t argc, struct wire_process *p, struct err *e)
{
	const struct wire_process *main = &b->config.process;

	p->tty = o->tty;
	p->open_stdin = o->interactive && !o->detach;
	p->cwd = strdup(o->workdir ? o->workdir : main->cwd ? main->cwd : "/");
	p->user = strdup(o->user ? o->user : main->user ? main->user : "");
	if (!p->cwd || !p->user || strv_copy(&p->env, &main->env) < 0 ||
		strv_copy(&p->groups, &main->groups) < 0)
		return err_oom(e);
	for (size_t i = 0; i < argc; i++) {
		if (strv_push(&p->argv, argv[i]) < 0)
			return err_oom(e);
	}
	int r = box_fill_process(st, b, p, e);
	if (r == 0 && o->privileged) {
		p->caps = BOX_CAPS_ALL;
		p->no_new_privileges = false;
		free(TAKE_PTR(p->seccomp));
		p->seccomp_len = 0;
	}
	/* As in Docker, --env counts more than any file, wherever it stands. */
	if (r == 0)
		r = spec_add_env_files(&p->env, &o->env_files, e);
	return r == 0 ? spec_add_env(&p->env, &o->env, e) : r;
}

static int make_opening(
	const struct exec_opts *o, const struct wire_process *p, struct buf *opening, struct err *e)
{
	struct box_request left_alone = {.op = BOX_OP_EXEC};
	int r = o->detach ? box_put_request(opening, &left_alone) : 0;

	if (r == 0)
		r = wire_put_process(opening, p);
	return r == -EMSGSIZE ? err_set(e, r, "command line and environment are too long")
	       : r < 0	      ? err_oom(e)
			      : 0;
}

int exec_in_box(const char *ref, const struct exec_opts *o, char *const *argv, size_t argc, int *status,
	struct err *e)
{
	CLEANUP(box_freep) struct box *b = NULL;
	CLEANUP(wire_process_done) struct wire_process p = {0};
	CLEANUP(buf_done) struct buf opening = {0};
	struct exec x = {0};

	*status = STATUS_FAILED;
	int r = app_open(&x.app, false, e);
	if (r == 0)
		r = box_find(x.app.st, ref, &b, e);
	if (r == 0)
		r = b->state == BOX_RUNNING ? 0 : app_not_running(b, "start", e);
	if (r == 0)
		r = make_process(x.app.st, b, o, argv, argc, &p, e);
	if (r == 0)
		r = make_opening(o, &p, &opening, e);
	int fd = r < 0	     ? r
		 : o->detach ? box_connect(x.app.st, b, e)
			     : box_connect_guest(x.app.st, b, WIRE_PORT_SESSION, e);
	if (fd < 0) {
		app_close(&x.app);
		return fd;
	}
	x.box = b;
	box_exec_init(&x.told, o->what, &p.argv);
	struct session_opts so = {.fd = fd,
		.opening = &opening,
		.stdin_open = p.open_stdin,
		.tty = o->tty && !o->detach,
		.sig_proxy = true,
		.until_started = o->detach,
		.to_guest = !o->detach,
		.detach_keys = o->detach_keys,
		.detach_status = 1,
		.limit_ns = o->limit_ns,
		.on_started = o->detach ? NULL : on_started,
		.data = &x};
	bool left = false;
	so.ret_detached = &left;
	r = session_run(&so, status, e);
	if (!x.app.st && !o->detach && !left)
		note_end(&x, r < 0 ? *status : r);
	app_close(&x.app);
	return r;
}

int exec_check(const struct exec_opts *o, struct err *e)
{
	if (o->workdir && o->workdir[0] != '/')
		return err_set(e, -EINVAL, "--workdir \"%s\": must be an absolute path", o->workdir);
	if (o->tty && o->interactive && !o->detach && !isatty(STDIN_FILENO)) {
		err_set(e, -ENOTTY, "-t needs a terminal, and standard input is none");
		return err_hint(e, "leave out -t");
	}
	if (o->detach && o->limit_ns)
		return err_set(e, -EINVAL, "--timeout: not with --detach, as nobody would wait for it");
	int r = detach_parse(o->detach_keys, NULL, e);
	return r == 0 ? spec_check_user(o->user, e) : r;
}

static int parse_limit(const char *s, uint64_t *ret, struct err *e)
{
	if (!s)
		return 0;
	if (parse_duration_ns(s, ret) < 0 || *ret == 0 || *ret > (uint64_t)INT64_MAX)
		return err_set(e, -EINVAL, "--timeout %s: expected a duration like 30s or 5m", s);
	return 0;
}

int cmd_exec(const struct cmd *c, int argc, char **argv)
{
	CLEANUP(exec_opts_done) struct exec_opts o = {0};
	const char *limit = NULL;
	struct opt opts[] = {{'d', "detach", OPT_FLAG, &o.detach, NULL, "leave it running in the background"},
		{0, "detach-keys", OPT_STR, &o.detach_keys, "KEYS", DETACH_HELP},
		{'e', "env", OPT_LIST, &o.env, "NAME=VALUE",
			"set an environment variable; NAME alone passes ours on"},
		{0, "env-file", OPT_LIST, &o.env_files, "FILE", "set the variables in a file, one a line"},
		{'i', "interactive", OPT_FLAG, &o.interactive, NULL, "pass standard input to the process"},
		{0, "privileged", OPT_FLAG, &o.privileged, NULL,
			"with all capabilities, and any system call"},
		{0, "timeout", OPT_STR, &limit, "DURATION", "end it after that long, status 124 [none]"},
		{'t', "tty", OPT_FLAG, &o.tty, NULL, "give the process a terminal"},
		{'u', "user", OPT_STR, &o.user, "USER[:GROUP]", "run as this user [the box's]"},
		{'w', "workdir", OPT_STR, &o.workdir, "PATH", "working directory [the box's]"}, {0}};
	struct err e = {0};
	int status = STATUS_FAILED;

	int r = opts_parse(c, opts, OPTS_FIRST, &argc, argv, &e);
	if (r > 0)
		return 0;
	if (r == 0)
		opts_drop_dashes(&argc, argv);
	if (r == 0 && argc < 3)
		return app_usage(c, "a box and a command are needed");
	if (r == 0)
		r = parse_limit(limit, &o.limit_ns, &e);
	if (r == 0)
		r = exec_check(&o, &e);
	if (r == 0)
		r = exec_in_box(argv[1], &o, argv + 2, (size_t)argc - 2, &status, &e);
	return r < 0 ? app_fail(c, &e, status) : r;
}
