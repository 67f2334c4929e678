/* SPDX-License-Identifier: MIT */
/* attach: the terminal and a box's workload, from now on. */
#include "app.h"
#include "detach.h"
#include "session.h"

static int check_attachable(const struct box *b, struct err *e)
{
	if (b->state == BOX_STARTING || b->state == BOX_RUNNING || b->state == BOX_STOPPING)
		return 0;
	return app_not_running(b, "start -a", e);
}

/* Connects to the workload of b. fd, or -errno. so gets what depends on the box. */
static int connect_to(struct state *st, const struct box *b, bool with_stdin, struct session_opts *so,
	struct buf *opening, struct err *e)
{
	const struct wire_process *p = &b->config.process;
	struct box_request req = {.op = BOX_OP_ATTACH, .attach_stdin = with_stdin && p->open_stdin};

	int r = check_attachable(b, e);
	if (r < 0)
		return r;
	if (p->tty && req.attach_stdin && !isatty(STDIN_FILENO)) {
		err_set(e, -ENOTTY, "box %s has a terminal, and standard input is none", b->name);
		return err_hint(e, "use --no-stdin to see its output only");
	}
	if (box_put_request(opening, &req) < 0)
		return err_oom(e);
	so->stdin_open = req.attach_stdin;
	so->tty = so->redraw = p->tty;
	return box_connect(st, b, e);
}

int cmd_attach(const struct cmd *c, int argc, char **argv)
{
	CLEANUP(buf_done) struct buf opening = {0};
	struct session_opts so = {.opening = &opening, .sig_proxy = true, .detach_status = 1};
	bool no_stdin = false;
	struct opt opts[] = {{0, "detach-keys", OPT_STR, &so.detach_keys, "KEYS", DETACH_HELP},
		{0, "no-stdin", OPT_FLAG, &no_stdin, NULL, "do not pass standard input on"},
		{0, "sig-proxy", OPT_FLAG, &so.sig_proxy, NULL,
			"pass signals on; with =false they end this command only [true]"},
		{0}};
	struct err e = {0};
	struct app a = {0};
	int status = 1;

	int r = opts_parse(c, opts, OPTS_MIXED, &argc, argv, &e);
	if (r > 0)
		return 0;
	if (r == 0 && argc != 2)
		return app_usage(c, "exactly one box is needed");
	if (r == 0)
		r = detach_parse(so.detach_keys, NULL, &e);
	if (r == 0)
		r = app_open(&a, false, &e);
	if (r == 0) {
		CLEANUP(box_freep) struct box *b = NULL;
		r = box_find(a.st, argv[1], &b, &e);
		if (r == 0)
			r = so.fd = connect_to(a.st, b, !no_stdin, &so, &opening, &e);
	}
	app_close(&a); /* a box may run for days: hold no database meanwhile */
	if (r >= 0)
		r = session_run(&so, &status, &e);
	return r < 0 ? app_fail(c, &e, status) : r;
}
