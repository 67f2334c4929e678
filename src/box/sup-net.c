/* SPDX-License-Identifier: MIT */
/* The box's links: made, lost and made again; and its published ports. See sup-net.h. */
#include "sup-net.h"

#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/io.h"
#include "base/log.h"
#include "run.h"

static void lost(struct sup_link *l, const char *why);

static const char *name_of(const struct sup_link *l)
{
	return l->network ? l->network->name : BOX_NETWORK_DEFAULT;
}

static bool has_device(const struct supervisor *s)
{
	const char *network = s->box->config.network;
	return network && strcmp(network, BOX_NETWORK_NONE) != 0; /* NULL: from before there were networks */
}

/* ---- netd's side of a link ---- */

/* The machine is given, or gives up, sockets at the end of the turn. */
static void pump(struct sup_net *net)
{
	loop_defer(net->pump);
}

/* Ends a netd that is our child. */
static void reap(int *pidfd)
{
	siginfo_t info;

	if (*pidfd < 0)
		return;
	syscall(SYS_pidfd_send_signal, *pidfd, SIGKILL, NULL, 0);
	while (waitid(P_PIDFD, (id_t)*pidfd, &info, WEXITED) < 0 && errno == EINTR)
		;
	close_fd(pidfd);
}

/* It has ended, or its time has. */
static void end_leaving(void *data)
{
	struct supervisor *s = data;

	loop_source_free(TAKE_PTR(s->leaving.io));
	loop_source_free(TAKE_PTR(s->leaving.timer));
	reap(&s->leaving.pidfd);
}

static void on_left(void *data, int fd, uint32_t events)
{
	end_leaving(data);
}

/* The link's netd, whose connections are closed next, is to end by itself. */
static void leave(struct sup_link *l)
{
	struct supervisor *s = l->net->s;

	if (l->pidfd < 0)
		return;
	end_leaving(s); /* one of a run before */
	s->leaving.pidfd = TAKE_FD(l->pidfd);
	if (loop_add_io(s->loop, s->leaving.pidfd, EPOLLIN, on_left, s, &s->leaving.io) < 0 ||
		loop_add_timer(s->loop, SUP_NET_LEAVE_NS, end_leaving, s, &s->leaving.timer) < 0)
		end_leaving(s);
}

void sup_net_wait_left(struct supervisor *s)
{
	struct pollfd p = {.fd = s->leaving.pidfd, .events = POLLIN};

	if (s->leaving.pidfd >= 0)
		(void)poll(&p, 1, (int)(SUP_NET_LEAVE_NS / 1000000));
	end_leaving(s);
}

/* Both connections and the attempt; the slot stays. */
static void disconnect(struct sup_link *l)
{
	loop_source_free(TAKE_PTR(l->timer));
	loop_source_free(TAKE_PTR(l->control_io));
	close_fd(&l->control);
	close_fd(&l->peer);
	close_fd(&l->taking);
	reap(&l->pidfd);
	l->phase = LINK_DOWN;
	l->ports_sent = 0;
}

static void on_retry(void *data)
{
	sup_link_begin(data);
}

static void retry_later(struct sup_link *l, const char *why)
{
	struct sup_net *net = l->net;

	disconnect(l);
	snprintf(net->why, sizeof(net->why), "%s", why);
	l->delay_ns = l->delay_ns ? MIN_OF(2 * l->delay_ns, SUP_NET_RETRY_MAX_NS) : SUP_NET_RETRY_MIN_NS;
	if (l->n_hung) /* each attempt leaves it one more connection that it does not look at */
		l->delay_ns = MIN_OF(SUP_NET_RETRY_MAX_NS << MIN_OF(l->n_hung, 5u), SUP_NET_RETRY_HUNG_NS);
	if (loop_add_timer(net->s->loop, l->delay_ns, on_retry, l, &l->timer) < 0)
		log_error("network %s: out of memory", name_of(l));
}

/* What was there is gone: netd died, or does what it should not. */
static void lost(struct sup_link *l, const char *why)
{
	if (l->phase == LINK_UP || strcmp(l->net->why, why) != 0)
		sup_net_warn(l->net, "network %s: %s: connecting again", name_of(l), why);
	if (l->phase == LINK_UP && time_mono_ns() - l->up_ns > SUP_NET_RETRY_MAX_NS)
		l->delay_ns = 0;
	l->drop |= l->net->machine_runs;
	retry_later(l, why);
	pump(l->net);
}

/* An address that another box has yet is free when that has gone: until the limit, which says so. */
static void refused(struct sup_link *l, int code, const char *why)
{
	struct sup_net *net = l->net;

	if (l->fresh && net->changing) {
		sup_net_change_failed(net, -EIO, why);
	} else if (net->s->run.phase < SUP_RUNNING && code != -EADDRINUSE) {
		char text[ERR_MSG_MAX];
		snprintf(text, sizeof(text), "network %.100s: %.800s", name_of(l), why);
		sup_start_failed(net->s, 125, text);
	} else {
		lost(l, why);
	}
}

/* An answer of netd: to attach, or for the ports; one at a time. */
static void answered(struct sup_link *l, int r, const struct err *e)
{
	struct err send = {0};

	l->n_hung = 0;
	if (r < 0) {
		refused(l, r, e->msg);
		return;
	}
	r = sup_link_send_ports(l, &send);
	if (r < 0)
		lost(l, send.msg);
	if (r == 0 && l->phase == LINK_UP)
		sup_link_tell_names(l);
	if (r || l->phase != LINK_ASKED)
		return;
	loop_source_free(TAKE_PTR(l->timer));
	l->phase = LINK_UP;
	l->up_ns = time_mono_ns();
	sup_link_tell_names(l);
	sup_milestone(l->net->s, "network attached");
	sup_net_progress(l->net);
}

static bool says_too_much(struct sup_link *l)
{
	uint64_t now = time_mono_ns();

	if (now - l->second_ns >= 1000000000) {
		l->second_ns = now;
		l->n_messages = 0;
	}
	return ++l->n_messages > SUP_NET_MESSAGES;
}

static void on_control(void *data, int fd, uint32_t events)
{
	struct sup_link *l = data;
	CLEANUP_FREE char *text = NULL;
	struct err e = {0};
	size_t len;

	int r = box_netd_receive(fd, &text, &len);
	if (r == -EAGAIN)
		return;
	if (r < 0) {
		lost(l, r == -EPIPE || r == -ECONNRESET ? "its process is gone" : strerror(-r));
		return;
	}
	if (says_too_much(l)) {
		lost(l, "its process says too much");
		return;
	}
	r = box_netd_answer(text, len, &e);
	if (r == -ENOMSG)
		sup_link_event(l, text, len);
	else
		answered(l, r, &e);
}

static void on_answer_limit(void *data)
{
	struct sup_link *l = data;

	l->n_hung++;
	lost(l, "its process does not answer");
}

/* Connected: asks, and gives the machine the other end. */
static int ask(struct sup_link *l, struct err *e)
{
	struct loop *loop = l->net->s->loop;
	int pair[2];

	if (l->peer < 0) {
		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
			return err_sys(e, -errno, "cannot make a socket");
		close_fd(&l->taking);
		l->taking = pair[0];
		l->peer = pair[1];
	}
	int r = io_set_nonblock(l->control, true);
	if (r == 0)
		r = loop_add_io(loop, l->control, EPOLLIN, on_control, l, &l->control_io);
	if (r == 0)
		r = loop_add_timer(loop, SUP_NET_ANSWER_LIMIT_NS, on_answer_limit, l, &l->timer);
	if (r < 0)
		return err_sys(e, r, "cannot watch it");
	r = sup_link_ask(l, e);
	close_fd(&l->peer);
	return r;
}

void sup_link_begin(struct sup_link *l)
{
	struct err e = {0};

	if (!l->used || l->phase != LINK_DOWN)
		return;
	loop_source_free(TAKE_PTR(l->timer));
	int r = sup_link_connect(l, &e);
	if (r == -EAGAIN) {
		int peer = TAKE_FD(l->peer),
		    taking = TAKE_FD(l->taking); /* the machine may have its end by now */
		retry_later(l, "another command is starting or ending its process");
		l->peer = peer;
		l->taking = taking;
		return;
	}
	if (r >= 0) {
		l->control = r;
		l->phase = LINK_ASKED;
		r = ask(l, &e);
	}
	if (r < 0 && r != -EPIPE && r != -ECONNRESET && l->net->s->run.phase < SUP_RUNNING)
		refused(l, r, e.msg);
	else if (r < 0)
		lost(l, e.msg);
	else
		pump(l->net);
}

void sup_link_end(struct sup_link *l)
{
	struct sup_net *net = l->net;

	if (!l->used)
		return;
	leave(l);
	disconnect(l);
	l->drop |= net->machine_runs;
	if (net->publisher == l)
		net->publisher = NULL;
	box_endpoints_free(TAKE_PTR(l->ep), 1);
	box_network_free(TAKE_PTR(l->network));
	l->used = l->fresh = l->doomed = l->stale = false;
	l->delay_ns = 0;
	l->n_hung = 0;
	pump(net);
}

/* ---- the machine's side ---- */

static void on_taken(void *data, int result)
{
	struct sup_net *net = data;
	struct sup_link *l = TAKE_PTR(net->connecting);

	if (result < 0 && net->giving && l && l->used && l->phase != LINK_DOWN)
		lost(l, strerror(-result));
	else
		pump(net);
	sup_net_progress(net);
}

/* The machine takes one at a time. */
static void on_pump(void *data)
{
	struct sup_net *net = data;

	for (size_t i = 0; net->machine_runs && !net->connecting && i < ARRAY_LEN(net->links); i++) {
		struct sup_link *l = &net->links[i];
		if (!l->drop && l->taking < 0)
			continue;
		int fd = l->drop ? -1 : TAKE_FD(l->taking);
		l->drop = false;
		net->connecting = l;
		net->giving = fd >= 0;
		int r = machine_net_connect(net->s->run.machine, (unsigned)i, fd, on_taken, net);
		if (r < 0)
			on_taken(net, r);
		return; /* what is left is done by on_taken; net may be gone */
	}
}

/* The machine's peer went: netd closed the frames' socket, or died. */
static void on_gone(void *data, unsigned index)
{
	struct sup_net *net = data;
	struct sup_link *l = index < ARRAY_LEN(net->links) ? &net->links[index] : NULL;

	if (l && l->used && l->phase != LINK_DOWN && l->taking < 0 && net->connecting != l)
		lost(l, "its process is gone");
}

/* ---- published ports ---- */

static int add_port(struct sup_net *net, const struct box_port *p, struct err *e)
{
	struct box_listener *v = reallocarray(net->ports, net->n_ports + 2, sizeof(*v));
	if (!v)
		return err_oom(e);
	net->ports = v;
	int r = box_port_bind(net->s->st, p, v + net->n_ports, e);
	net->n_ports += r > 0 ? (size_t)r : 0;
	return r < 0 ? r : 0;
}

static bool is_published(const struct sup_net *net, uint16_t guest, uint8_t protocol)
{
	for (size_t i = 0; i < net->n_ports; i++) {
		if (net->ports[i].port.guest == guest && net->ports[i].port.protocol == protocol)
			return true;
	}
	return false;
}

/* -P: what is exposed and not published yet. */
static int bind_exposed(struct sup_net *net, struct err *e)
{
	const struct box_config *c = &net->s->box->config;
	int r = 0;

	for (size_t i = 0; r == 0 && i < c->exposed_ports.n && net->n_ports + 1 < NETD_PUBLISH_MAX; i++) {
		struct box_port p;
		CLEANUP_FREE char *text = str_printf("0:%s", c->exposed_ports.v[i]);
		if (!text)
			return err_oom(e);
		if (box_port_parse(text, &p) < 0 || is_published(net, p.guest, p.protocol))
			continue; /* SCTP, for instance */
		snprintf(p.ip, sizeof(p.ip), "%s", c->publish_address ? c->publish_address : "");
		r = add_port(net, &p, e);
	}
	return r;
}

static int bind_ports(struct sup_net *net, struct err *e)
{
	const struct box_config *c = &net->s->box->config;
	int r = 0;

	for (size_t i = 0; r == 0 && i < c->publish.n; i++) {
		struct box_port p;
		if (box_port_parse(c->publish.v[i], &p) < 0)
			return err_set(e, -EBADMSG, "record of the box: published port %s", c->publish.v[i]);
		r = add_port(net, &p, e);
	}
	return r == 0 && c->publish_all ? bind_exposed(net, e) : r;
}

void sup_net_publish(struct sup_net *net)
{
	struct err e = {0};

	for (int pass = 0; net->n_ports && !net->publisher && pass < 2; pass++) {
		for (size_t i = 0; !net->publisher && i < ARRAY_LEN(net->links); i++) {
			struct sup_link *l = &net->links[i];
			/* One that leads outside, if there is one. */
			if (l->used && !l->doomed && (pass || !l->network || !l->network->internal))
				net->publisher = l;
		}
	}
	/* What is asked, or down, gets them on its way up. */
	struct sup_link *l = net->publisher;
	if (l && l->phase == LINK_UP && sup_link_send_ports(l, &e) < 0)
		lost(l, e.msg);
}

int sup_net_record(struct supervisor *s, struct err *e)
{
	struct sup_net *net = s->net;
	CLEANUP_FREE struct box_port *v = NULL;

	if (!net || !net->n_ports || !s->run.first) /* they stay in the record between runs */
		return 0;
	v = calloc(net->n_ports, sizeof(*v));
	if (!v)
		return err_oom(e);
	for (size_t i = 0; i < net->n_ports; i++)
		v[i] = net->ports[i].port;
	return box_ports_set(s->st, s->box->id, v, net->n_ports, e);
}

/* ---- a run ---- */

int sup_link_set(struct sup_net *net, struct box_endpoint *ep, struct err *e)
{
	CLEANUP(box_network_freep) struct box_network *n = NULL;
	bool own = strcmp(ep->network, BOX_NETWORK_DEFAULT) == 0;

	if (ep->link >= BOX_LINKS_MAX || net->links[ep->link].used)
		return err_set(e, -EBADMSG, "record of the box: link %u", ep->link);
	int r = own ? 0 : box_network_find(net->s->st, ep->network, &n, e);
	if (r < 0)
		return r;
	struct sup_link *l = &net->links[ep->link];
	l->ep = malloc(sizeof(*l->ep));
	if (!l->ep)
		return err_oom(e);
	l->used = true;
	l->network = TAKE_PTR(n);
	*l->ep = *ep;
	*ep = (struct box_endpoint){0};
	return 0;
}

/* As the record is now: the box may have been renamed since it was first read. */
static int set_links(struct sup_net *net, struct err *e)
{
	CLEANUP(box_freep) struct box *b = NULL;
	struct box_endpoint *v = NULL;
	int64_t change = 0;
	size_t n = 0;
	int r = box_networks_changed(net->s->st, net->s->box->id, &change, e);

	if (r == 0)
		r = box_find_quiet(net->s->st, net->s->box->id, &b, e);
	if (r == 0) {
		free(net->name);
		net->name = TAKE_PTR(b->name);
		r = box_endpoints_of_box(net->s->st, net->s->box->id, &v, &n, e);
	}

	for (size_t i = 0; r == 0 && i < n; i++)
		r = sup_link_set(net, &v[i], e);
	box_endpoints_free(v, n);
	return r == 0 ? box_networks_settled(net->s->st, net->s->box->id, change, e) : r;
}

static struct sup_net *net_new(struct supervisor *s)
{
	struct sup_net *net = calloc(1, sizeof(*net));

	if (!net || loop_add_deferred(s->loop, on_pump, net, &net->pump) < 0) {
		free(net);
		return NULL;
	}
	net->s = s;
	net->guest_fd = -1;
	for (size_t i = 0; i < ARRAY_LEN(net->denials); i++)
		net->denials[i] = (struct sup_bucket){.tokens = SUP_NET_DENIALS, .filled_ns = time_mono_ns()};
	net->warnings = (struct sup_bucket){.tokens = SUP_NET_WARNINGS, .filled_ns = time_mono_ns()};
	for (size_t i = 0; i < ARRAY_LEN(net->links); i++) {
		struct sup_link *l = &net->links[i];
		l->net = net;
		l->control = l->pidfd = l->peer = l->taking = -1;
	}
	return net;
}

int sup_net_prepare(struct supervisor *s, struct machine_net *ret, struct err *e)
{
	struct sup_net *net = s->net;

	*ret = (struct machine_net){.present = has_device(s), .mtu = NETD_MTU};
	if (!ret->present)
		return 0;
	box_mac(s->box->id, ret->mac);
	if (!net) { /* the first run */
		net = s->net = net_new(s);
		int r = net ? bind_ports(net, e) : err_oom(e);
		if (r < 0)
			return r;
	}
	int r = set_links(net, e);
	for (size_t i = 0; r == 0 && i < ARRAY_LEN(net->links); i++) {
		struct sup_link *l = &net->links[i];
		int pair[2];
		if (!l->used)
			continue;
		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
			return err_sys(e, -errno, "cannot make a socket");
		ret->fds[i] = l->taking = pair[0];
		l->peer = pair[1];
	}
	return r;
}

static void on_start_limit(void *data)
{
	struct sup_net *net = data;
	char text[ERR_MSG_MAX];

	snprintf(text, sizeof(text), "the network was not there in time: %.800s",
		*net->why ? net->why : "its process does not answer");
	sup_start_failed(net->s, 125, text);
}

void sup_net_started(struct supervisor *s)
{
	struct sup_net *net = s->net;

	if (!net)
		return;
	net->machine_runs = true;
	machine_net_on_gone(s->run.machine, on_gone, net);
	for (size_t i = 0; i < ARRAY_LEN(net->links); i++)
		close_fd(&net->links[i].taking); /* it has them */
	if (!sup_net_ready(s) &&
		loop_add_timer(s->loop, SUP_NET_START_LIMIT_NS, on_start_limit, net, &net->limit) < 0) {
		sup_start_failed(s, 125, strerror(ENOMEM));
		return;
	}
	sup_net_publish(net);
	for (size_t i = 0; i < ARRAY_LEN(net->links) && s->run.phase < SUP_OVER; i++) {
		if (net->links[i].used)
			sup_link_begin(&net->links[i]);
	}
}

bool sup_net_ready(const struct supervisor *s)
{
	bool ready = true;

	for (size_t i = 0; s->net && i < ARRAY_LEN(s->net->links); i++) {
		const struct sup_link *l = &s->net->links[i];
		ready &= !l->used || l->phase == LINK_UP;
	}
	return ready;
}

void sup_net_progress(struct sup_net *net)
{
	struct supervisor *s = net->s;

	if (net->changing) {
		sup_net_change_step(net);
	} else if (s->run.phase < SUP_RUNNING && sup_net_ready(s)) {
		loop_source_free(TAKE_PTR(net->limit));
		sup_guest_network_ready(s);
	}
}

int sup_net_fill(const struct sup_net *net, bool changed, struct wire_network *ret, struct err *e)
{
	const struct box_network *networks[BOX_LINKS_MAX];
	struct box_endpoint eps[BOX_LINKS_MAX];
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_LEN(net->links); i++) {
		const struct sup_link *l = &net->links[i];
		if (!l->used || (changed ? l->doomed : l->fresh))
			continue;
		eps[n] = *l->ep;
		networks[n++] = l->network;
	}
	return box_fill_network(net->s->box, eps, networks, n, ret, e);
}

void sup_net_release(struct supervisor *s)
{
	struct sup_net *net = s->net;

	if (!net)
		return;
	net->machine_runs = false;
	net->connecting = NULL;
	sup_net_change_drop(net);
	loop_source_free(TAKE_PTR(net->limit));
	for (size_t i = 0; i < ARRAY_LEN(net->links); i++) {
		sup_link_end(&net->links[i]);
		net->links[i].drop = false;
	}
	*net->why = '\0';
}

void sup_net_free(struct supervisor *s)
{
	struct sup_net *net = TAKE_PTR(s->net);

	if (!net)
		return;
	/* The one that is leaving has copies, which keep a port of datagrams bound. */
	for (size_t i = 0; i < net->n_ports; i++) {
		if (net->ports[i].port.protocol == IPPROTO_UDP)
			sup_net_wait_left(s);
	}
	loop_source_free(net->pump);
	box_listeners_close(net->ports, net->n_ports);
	free(net->ports);
	free(net->name);
	free(net);
}
