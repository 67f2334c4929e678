/* SPDX-License-Identifier: MIT */
/* What is told of an exec: events exec_create, exec_start and exec_die, as in Docker. */
#include <string.h>

#include "base/io.h"
#include "box/box.h"

void box_exec_init(struct box_exec *x, const char *what, const struct strv *argv)
{
	uint8_t id[sizeof(x->id) / 2];
	size_t len = 0;

	io_random(id, sizeof(id));
	hex_encode(x->id, id, sizeof(id));
	x->command[0] = '\0';
	if (what)
		snprintf(x->command, sizeof(x->command), "%s", what);
	for (size_t i = 0; !what && i < argv->n && len < sizeof(x->command); i++)
		len += (size_t)snprintf(
			x->command + len, sizeof(x->command) - len, "%s%s", i ? " " : "", argv->v[i]);
}

static int add(
	struct state *st, const struct box *b, const struct box_exec *x, const char *action, struct err *e)
{
	CLEANUP_FREE char *text = str_printf("%s: %s", action, x->command);

	return text ? box_event(st, e, b, text, "execID", x->id, NULL) : err_oom(e);
}

int box_exec_started(struct state *st, const struct box *b, const struct box_exec *x, struct err *e)
{
	int r = state_begin_lax(st, e);
	if (r < 0)
		return r;
	r = add(st, b, x, "exec_create", e);
	if (r == 0)
		r = add(st, b, x, "exec_start", e);
	return state_end(st, r, e);
}

int box_exec_died(struct state *st, const struct box *b, const struct box_exec *x, int status, struct err *e)
{
	char code[16];
	int r = state_begin_lax(st, e);

	if (r < 0)
		return r;
	snprintf(code, sizeof(code), "%d", status);
	return state_end(st, box_event(st, e, b, "exec_die", "execID", x->id, "exitCode", code, NULL), e);
}
