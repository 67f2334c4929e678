/* SPDX-License-Identifier: MIT */
/*
 * A change of the networks of a box that runs (BOX_OP_RELOAD): what is attached becomes what the record says. The steps are
 * in sup-net.h; whoever asked is told the outcome, and that of a change which he asked for while one was under way comes with
 * the next.
 */
#include <string.h>
#include <sys/socket.h>

#include "base/io.h"
#include "base/log.h"
#include "run.h"
#include "sup-net.h"

static void forget_guest(struct sup_net *net)
{
	loop_source_free(TAKE_PTR(net->guest_io));
	wire_conn_free(TAKE_PTR(net->guest));
	close_fd(&net->guest_fd);
	net->guest_asked = false;
}

/* Which network is asked last for names may be another one now. */
static void tell_names(struct sup_net *net)
{
	for (size_t i = 0; i < ARRAY_LEN(net->links); i++) {
		struct sup_link *l = &net->links[i];
		l->stale = l->used;
		sup_link_tell_names(l);
	}
}

static void on_repair(void *data)
{
	struct sup_net *net = data;

	sup_net_reload(net->s);
}

/* The guest is to be told what is: nobody may ask for it any more. */
static void repair_later(struct sup_net *net)
{
	net->repair_ns =
		net->repair_ns ? MIN_OF(2 * net->repair_ns, SUP_NET_REPAIR_MAX_NS) : SUP_NET_REPAIR_MIN_NS;
	loop_source_free(TAKE_PTR(net->repair));
	if (loop_add_timer(net->s->loop, net->repair_ns, on_repair, net, &net->repair) < 0)
		sup_net_warn(net, "out of memory: the guest is not told of its networks");
}

/* Over, one way or the other: what was not meant to stay goes, and whoever waits is told. */
static void finish(struct sup_net *net, int code, const char *why)
{
	struct supervisor *s = net->s;
	struct err e = {0};

	forget_guest(net);
	loop_source_free(TAKE_PTR(net->limit));
	net->changing = false;
	for (size_t i = 0; i < ARRAY_LEN(net->links); i++) {
		struct sup_link *l = &net->links[i];
		if (code < 0 ? l->fresh : l->doomed)
			sup_link_end(l);
		l->fresh = l->doomed = false;
	}
	tell_names(net);
	sup_net_publish(net);
	if (code == 0 && box_networks_settled(s->st, s->box->id, net->change, &e) < 0)
		sup_net_warn(net, "%s", e.msg); /* the next command says so again */
	if (net->guest_stale)
		repair_later(net);
	sup_clients_reloaded(s, code, why);
	sup_net_look(s); /* asked for meanwhile */
}

void sup_net_change_failed(struct sup_net *net, int code, const char *why)
{
	char text[ERR_MSG_MAX], safe[ERR_MSG_MAX];

	net->guest_stale |= net->guest != NULL;
	snprintf(text, sizeof(text), "%.700s%s", why,
		net->guest_stale ? "; the state of its networks in the guest is unknown until it answers"
				 : "");
	text_escape(safe, sizeof(safe), text);
	finish(net, code, safe);
}

void sup_net_change_drop(struct sup_net *net)
{
	forget_guest(net);
	loop_source_free(TAKE_PTR(net->repair));
	net->repair_ns = 0;
	net->changing = net->again = net->guest_stale = false;
}

static void on_limit(void *data)
{
	struct sup_net *net = data;

	sup_net_change_failed(net, -ETIMEDOUT,
		net->guest_asked ? "the guest does not answer"
		: *net->why	 ? net->why
				 : "the network's process does not answer");
}

/* ---- the guest ---- */

static void guest_done(struct sup_net *net)
{
	net->guest_stale = false;
	net->repair_ns = 0;
	finish(net, 0, NULL);
}

static int on_frame(void *data, struct wire_conn *conn, const struct wire_frame *f)
{
	struct sup_net *net = data;
	CLEANUP_FREE char *text = NULL;
	uint32_t status;

	if (f->type == WIRE_DONE)
		guest_done(net);
	else if (f->type == WIRE_FAIL && wire_get_fail(f, &status, &text) == 0)
		sup_net_change_failed(net, -EIO, text);
	else
		return -EBADMSG;
	return 0;
}

static void on_end(void *data, struct wire_conn *conn, int error)
{
	sup_net_change_failed(data, -EPIPE, "the guest does not answer");
}

static const struct wire_conn_ops guest_ops = {.on_frame = on_frame, .on_end = on_end};

static int tell(struct sup_net *net, int fd, struct err *e)
{
	struct wire_network w = {0};
	int r = wire_conn_new(net->s->loop, fd, &guest_ops, net, &net->guest);

	if (r < 0)
		return err_sys(e, r, "cannot tell the guest");
	r = sup_net_fill(net, true, &w, e);
	if (r == 0) {
		r = wire_put_network(wire_conn_out(net->guest), &w);
		if (r < 0)
			err_sys(e, r, "cannot tell the guest");
	}
	wire_network_done(&w);
	if (r == 0)
		wire_conn_flush(net->guest);
	return r;
}

static void on_handshake(void *data, int fd, uint32_t events)
{
	struct sup_net *net = data;
	struct err e = {0};
	int r = handshake_read(&net->handshake, fd);

	if (r == 0)
		return;
	loop_source_free(TAKE_PTR(net->guest_io));
	if (r < 0)
		sup_net_change_failed(net, r, "the guest does not answer");
	else if (tell(net, TAKE_FD(net->guest_fd), &e) < 0)
		sup_net_change_failed(net, e.code, e.msg);
}

static void ask_guest(struct sup_net *net)
{
	int r = sup_guest_dial(net->s, &net->handshake);

	net->guest_asked = true;
	if (r >= 0) {
		net->guest_fd = r;
		r = loop_add_io(net->s->loop, r, EPOLLIN, on_handshake, net, &net->guest_io);
	}
	if (r < 0)
		sup_net_change_failed(net, r, "the guest does not answer");
}

void sup_net_change_step(struct sup_net *net)
{
	bool ready = !net->guest_asked;

	for (size_t i = 0; i < ARRAY_LEN(net->links); i++) {
		const struct sup_link *l = &net->links[i];
		ready &= !l->fresh ||
			 (l->phase == LINK_UP && l->taking < 0 && !l->drop && net->connecting != l);
	}
	if (ready)
		ask_guest(net);
}

/* ---- what is to be done ---- */

static bool same_text(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

static bool same_endpoint(const struct box_endpoint *a, const struct box_endpoint *b)
{
	return a->link == b->link && strcmp(a->network, b->network) == 0 && same_text(a->ip4, b->ip4) &&
	       same_text(a->ip6, b->ip6);
}

/* New names are of no concern to the guest: networks are told at the end. */
static void update_names(struct sup_net *net, const char *name, struct box_endpoint *v, size_t n)
{
	char *copy = strdup(name);

	if (copy) {
		free(net->name);
		net->name = copy;
	}
	for (size_t i = 0; i < n; i++) {
		struct sup_link *l = v[i].link < BOX_LINKS_MAX ? &net->links[v[i].link] : NULL;
		if (!l || !l->used || !same_endpoint(l->ep, &v[i]))
			continue;
		struct strv old = l->ep->aliases;
		l->ep->aliases = v[i].aliases;
		v[i].aliases = old;
	}
}

/* Marks what is to go, and sets what is to come. Returns how many that are, or -errno. */
static int compare(struct sup_net *net, struct box_endpoint *v, size_t n, struct err *e)
{
	int changes = 0, r = 0;

	for (size_t i = 0; i < ARRAY_LEN(net->links); i++) {
		struct sup_link *l = &net->links[i];
		l->doomed = l->used;
		for (size_t k = 0; l->doomed && k < n; k++)
			l->doomed = !same_endpoint(l->ep, &v[k]);
		changes += l->doomed;
	}
	for (size_t k = 0; r == 0 && k < n; k++) {
		struct sup_link *l = v[k].link < BOX_LINKS_MAX ? &net->links[v[k].link] : NULL;
		if (l && l->used && !l->doomed)
			continue;
		if (l && l->doomed) /* its place is needed at once */
			sup_link_end(l);
		r = sup_link_set(net, &v[k], e);
		if (r == 0) {
			l->fresh = true;
			changes++;
		}
	}
	return r < 0 ? r : changes;
}

static int begin_change(struct sup_net *net, struct err *e)
{
	CLEANUP(box_freep) struct box *b = NULL;
	struct supervisor *s = net->s;
	struct box_endpoint *v = NULL;
	size_t n = 0;

	int r = box_networks_changed(s->st, s->box->id, &net->change, e);
	if (r == 0)
		r = box_find_quiet(s->st, s->box->id, &b, e);
	if (r == 0)
		r = box_endpoints_of_box(s->st, s->box->id, &v, &n, e);
	if (r == 0) {
		update_names(net, b->name, v, n);
		r = compare(net, v, n, e);
	}
	box_endpoints_free(v, n);
	if (r == 0 && net->guest_stale)
		r = 1;
	if (r > 0 && s->run.paused) {
		r = err_set(e, -EBUSY, "box %s is paused", b->name);
		err_hint(e, "let it go on with: a3s-box unpause %s", b->name);
	}
	if (r > 0 && loop_add_timer(s->loop, SUP_NET_ANSWER_LIMIT_NS, on_limit, net, &net->limit) < 0)
		r = err_oom(e);
	return r;
}

static void begin(struct sup_net *net)
{
	struct err e = {0};

	net->again = false;
	net->changing = true;
	*net->why = '\0';
	loop_source_free(TAKE_PTR(net->repair));
	sup_clients_reload(net->s);
	int r = begin_change(net, &e);
	if (r <= 0) {
		finish(net, r, e.msg);
		return;
	}
	for (size_t i = 0; net->changing && i < ARRAY_LEN(net->links); i++) {
		if (net->links[i].fresh)
			sup_link_begin(&net->links[i]);
	}
	if (net->changing)
		sup_net_change_step(net);
}

void sup_net_look(struct supervisor *s)
{
	struct sup_net *net = s->net;

	if (net && net->again && !net->changing && s->run.phase == SUP_RUNNING)
		begin(net);
}

void sup_net_reload(struct supervisor *s)
{
	struct sup_net *net = s->net;

	if (net && s->run.phase <= SUP_RUNNING) {
		net->again = true;
		sup_net_look(s); /* else when it runs, or after the change under way */
	} else {		 /* the next run reads the record */
		sup_clients_reload(s);
		sup_clients_reloaded(s, 0, NULL);
	}
}
