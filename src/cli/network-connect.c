/* SPDX-License-Identifier: MIT */
/* network connect, disconnect: the record, and the box's supervisor where it runs. If that cannot, the record is as it was. */
#include <string.h>

#include "base/io.h"
#include "network.h"

struct join {
	struct app app;
	struct box_network *network;
	struct box *box;
};

static void join_done(struct join *j)
{
	box_network_free(j->network);
	box_free(j->box);
	app_close(&j->app);
}

static int join_open(struct join *j, char **argv, struct err *e)
{
	int r = app_open(&j->app, false, e);

	if (r == 0)
		r = box_network_find(j->app.st, argv[1], &j->network, e);
	return r < 0 ? r : box_find(j->app.st, argv[2], &j->box, e);
}

static int connect_box(struct join *j, char **argv, struct box_endpoint *ep, struct err *e)
{
	struct err undo;
	int r = join_open(j, argv, e);

	if (r < 0)
		return r;
	ep->network = j->network->id;
	ep->box = j->box->id;
	r = box_endpoint_add(j->app.st, ep, e);
	if (r < 0)
		return r;
	r = box_networks_apply(j->app.st, j->box->id, e);
	if (r < 0 && box_endpoint_remove(j->app.st, j->network->id, j->box->id, &undo) == 0)
		(void)box_networks_apply(j->app.st, j->box->id, &undo);
	return r;
}

int cmd_network_connect(const struct cmd *c, int argc, char **argv)
{
	CLEANUP(join_done) struct join j = {0};
	CLEANUP(strv_done) struct strv aliases = {0};
	const char *ip4 = NULL, *ip6 = NULL;
	struct opt opts[] = {
		{0, "alias", OPT_LIST, &aliases, "NAME", "another name of the box on this network"},
		{0, "ip", OPT_STR, &ip4, "ADDRESS", "its IPv4 address [one that is free]"},
		{0, "ip6", OPT_STR, &ip6, "ADDRESS", "its IPv6 address [one that is free]"}, {0}};
	struct err e = {0};

	int r = opts_parse(c, opts, OPTS_MIXED, &argc, argv, &e);
	if (r > 0)
		return 0;
	if (r == 0 && argc != 3)
		return app_usage(c, "a network and a box are needed");
	struct box_endpoint ep = {.ip4_asked = (char *)ip4, .ip6_asked = (char *)ip6, .aliases = aliases};
	if (r == 0)
		r = connect_box(&j, argv, &ep, &e);
	return r < 0 ? app_fail(c, &e, 1) : 0;
}

static int warn_of(const struct err *e)
{
	char safe[ERR_MSG_MAX];

	text_escape(safe, sizeof(safe), e->msg);
	fprintf(stderr, "a3s-box: warning: network disconnect: %s\n", safe);
	return 0;
}

/* Puts the box back. Where that is too late it has left after all. */
static int undo(struct join *j, int r)
{
	struct err ignored;
	int back = box_endpoint_restore(j->app.st, j->network->id, j->box->id, &ignored);

	if (back == 0)
		(void)box_networks_apply(j->app.st, j->box->id, &ignored);
	return back == -ENOENT ? 0 : r;
}

static int disconnect_box(struct join *j, char **argv, bool force, struct err *e)
{
	int r = join_open(j, argv, e);

	if (r == 0)
		r = box_endpoint_remove(j->app.st, j->network->id, j->box->id, e);
	if (r < 0)
		return r;
	r = box_networks_apply(j->app.st, j->box->id, e);
	if (r < 0)
		r = force ? warn_of(e) : undo(j, r);
	return r;
}

int cmd_network_disconnect(const struct cmd *c, int argc, char **argv)
{
	CLEANUP(join_done) struct join j = {0};
	bool force = false;
	struct opt opts[] = {
		{'f', "force", OPT_FLAG, &force, NULL,
			"also when the running box cannot be told: it leaves with its next start"},
		{0}};
	struct err e = {0};

	int r = opts_parse(c, opts, OPTS_MIXED, &argc, argv, &e);
	if (r > 0)
		return 0;
	if (r == 0 && argc != 3)
		return app_usage(c, "a network and a box are needed");
	if (r == 0)
		r = disconnect_box(&j, argv, force, &e);
	return r < 0 ? app_fail(c, &e, 1) : 0;
}
