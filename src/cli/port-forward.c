/* SPDX-License-Identifier: MIT */
/*
 * port-forward: listens on the host and carries each connection into a box (wire.h, FORWARD).
 *
 * THEORY OF OPERATION
 *
 * One loop over the listening sockets, the connections, and a connection to the supervisor that says when the box ends. A
 * connection that was accepted first asks the guest for its counterpart, and is read only when that is there; then bytes are
 * carried both ways (base/relay.h). A side is on the loop only while something is wanted of it.
 *
 * When descriptors run out, listening pauses until a connection has ended; clients wait in the sockets' queues.
 */
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>

#include "app.h"
#include "audit.h"
#include "base/io.h"
#include "base/loop.h"
#include "base/proc.h"
#include "base/relay.h"
#include "base/units.h"
#include "box/network.h"
#include "wire/conn.h"

enum {
	LISTENERS_MAX = 256,
	CONNECTIONS_MAX = 1024,
	ACCEPTS_PER_TURN = 16,
	ANY_ATTEMPTS = 16,     /* to find a number that is free on both loopback addresses */
	COMPLAINTS_MAX = 1000, /* lines about single connections; nobody reads more */
};

#define ANSWER_LIMIT_NS 30000000000ull /* the guest itself takes 10 s at most */

struct forward {
	const struct cmd *cmd;
	struct app app;
	struct box *box;
	struct loop *loop;
	struct wire_conn *supervisor;
	struct listener *listeners;
	size_t n_listeners;
	TAILQ_HEAD(, connection) connections;
	size_t n_connections, n_complaints;
	bool paused; /* no listening */
	struct err err;
};

struct listener {
	struct forward *fw;
	struct box_listener l;
	struct loop_source *src;
};

struct connection {
	struct forward *fw;
	uint16_t port;		    /* of the guest */
	struct box_forward *asking; /* until the guest has answered */
	struct loop_source *answer, *limit;
	struct loop_source *src[2]; /* NULL: nothing is wanted of this side */
	struct relay relay;	    /* 0: the client, 1: the guest */
	TAILQ_ENTRY(connection) all;
};

/* ---- connections ---- */

static void listen_again(struct forward *fw, bool on)
{
	if (fw->paused != on)
		return;
	fw->paused = !on;
	for (size_t i = 0; i < fw->n_listeners; i++)
		loop_set_events(fw->listeners[i].src, on ? EPOLLIN : 0);
}

static void connection_free(struct connection *c)
{
	struct forward *fw = c->fw;

	TAILQ_REMOVE(&fw->connections, c, all);
	fw->n_connections--;
	loop_source_free(c->answer);
	loop_source_free(c->limit);
	for (int i = 0; i < 2; i++) {
		loop_source_free(c->src[i]);
		close_fd(&c->relay.fd[i]);
	}
	box_forward_free(c->asking);
	free(c);
	listen_again(fw, true);
}

/* Of one connection: the command goes on. */
static void connection_failed(struct connection *c, const struct err *why)
{
	struct forward *fw = c->fw;
	struct err e = *why;

	if (fw->n_complaints++ < COMPLAINTS_MAX) {
		err_wrap(&e, "%s: port %u of box %s", fw->cmd->name, c->port, fw->box->name);
		err_print("a3s-box", &e);
	}
	connection_free(c);
}

static void on_side(void *data, int fd, uint32_t events);

/* On the loop for what is wanted, and for nothing else: a hang-up would be told for ever. */
static int watch(struct connection *c)
{
	for (int i = 0; i < 2; i++) {
		uint32_t wants = relay_wants(&c->relay, i);
		int r = 0;
		if (!wants)
			loop_source_free(TAKE_PTR(c->src[i]));
		else if (c->src[i])
			r = loop_set_events(c->src[i], wants);
		else
			r = loop_add_io(c->fw->loop, c->relay.fd[i], wants, on_side, c, &c->src[i]);
		if (r < 0)
			return r;
	}
	return 0;
}

static void on_side(void *data, int fd, uint32_t events)
{
	struct connection *c = data;
	uint32_t ready[2] = {0};

	ready[fd == c->relay.fd[1]] = events;
	int r = relay_move(&c->relay, ready);
	/* A connection that breaks has told both sides so; that is all that is known of it. */
	if (r <= 0 || watch(c) < 0)
		connection_free(c);
}

static void on_limit(void *data)
{
	struct err e = {0};

	err_set(&e, -ETIMEDOUT, "the box does not answer");
	connection_failed(data, &e);
}

static void on_answer(void *data, int fd, uint32_t events)
{
	struct connection *c = data;
	struct err e = {0};
	int r = box_forward_read(c->asking, &e);

	if (r < 0) {
		connection_failed(c, &e);
		return;
	}
	if (r == 0)
		return;
	loop_source_free(TAKE_PTR(c->answer));
	loop_source_free(TAKE_PTR(c->limit));
	c->relay.fd[1] = box_forward_take(c->asking);
	box_forward_free(TAKE_PTR(c->asking));
	if (watch(c) < 0)
		connection_free(c);
}

/* client is consumed. */
static void connection_new(struct forward *fw, int client, uint16_t port)
{
	struct connection *c = calloc(1, sizeof(*c));
	const struct wire_forward to = {.port = port};
	struct err e = {0};

	if (!c) {
		close(client);
		return;
	}
	c->fw = fw;
	c->port = port;
	c->relay.fd[0] = client;
	c->relay.fd[1] = -1;
	TAILQ_INSERT_TAIL(&fw->connections, c, all);
	fw->n_connections++;
	int r = box_forward_new(fw->app.st, fw->box, &to, &c->asking, &e);
	if (r == 0) {
		r = loop_add_io(fw->loop, box_forward_fd(c->asking), EPOLLIN, on_answer, c, &c->answer);
		if (r == 0)
			r = loop_add_timer(fw->loop, ANSWER_LIMIT_NS, on_limit, c, &c->limit);
		if (r < 0)
			err_sys(&e, r, "cannot watch it");
	}
	if (r < 0)
		connection_failed(c, &e);
}

static void on_listener(void *data, int fd, uint32_t events)
{
	struct listener *l = data;
	struct forward *fw = l->fw;

	for (int i = 0; i < ACCEPTS_PER_TURN && !fw->paused; i++) {
		int client = fw->n_connections < CONNECTIONS_MAX
				     ? accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)
				     : -1;
		if (client >= 0) {
			connection_new(fw, client, l->l.port.guest);
			continue;
		}
		bool full = fw->n_connections == CONNECTIONS_MAX || errno == EMFILE || errno == ENFILE ||
			    errno == ENOBUFS || errno == ENOMEM;
		if (full && fw->n_connections)
			listen_again(fw, false);
		return;
	}
}

/* ---- listening ---- */

static const char form[] = "[[ADDRESS:]HOST-PORT:]BOX-PORT";

/* "80", "8080:80", ":80", "0.0.0.0:8080:80", "[::1]::80"; without an address ip is empty. */
static int parse_spec(const char *s, struct box_port *ret)
{
	const char *guest = strrchr(s, ':');
	const char *host = guest ? memrchr(s, ':', (size_t)(guest - s)) : NULL;
	const char *first = host ? host + 1 : s;
	struct box_port p = {.protocol = IPPROTO_TCP};
	struct net_addr a;

	if (parse_port(guest ? guest + 1 : s, strlen(guest ? guest + 1 : s), &p.guest) < 0 || p.guest == 0)
		return -EINVAL;
	p.host = guest ? 0 : p.guest;
	if (guest && guest != first && parse_port(first, (size_t)(guest - first), &p.host) < 0)
		return -EINVAL;
	if (host) {
		size_t len = (size_t)(host - s);
		bool brackets = len >= 2 && s[0] == '[' && s[len - 1] == ']';
		if (len - (brackets ? 2 : 0) >= sizeof(p.ip))
			return -EINVAL;
		snprintf(p.ip, sizeof(p.ip), "%.*s", (int)(len - (brackets ? 2 : 0)), s + brackets);
		if (strcmp(p.ip, "localhost") == 0)
			p.ip[0] = '\0';
		else if (net_addr_parse(p.ip, &a) < 0)
			return -EINVAL;
	}
	*ret = p;
	return 0;
}

static int bind_at(struct forward *fw, const struct box_port *p, struct box_listener *ret, struct err *e)
{
	struct box_listener l[2];
	int n = box_port_bind(fw->app.st, p, l, e);

	if (n < 0)
		return n;
	box_listeners_close(l + 1, (size_t)n - 1); /* one address is one socket */
	*ret = l[0];
	return 1;
}

/* Both loopback addresses with one number, if the host has both. Returns how many, as bind_at does. */
static int bind_loopback(
	struct forward *fw, const struct box_port *p, struct box_listener *ret, struct err *e)
{
	struct box_port four = *p, six = *p;
	int r = -EADDRINUSE;

	snprintf(four.ip, sizeof(four.ip), "127.0.0.1");
	snprintf(six.ip, sizeof(six.ip), "::1");
	for (int i = 0; r == -EADDRINUSE && i < (p->host ? 1 : ANY_ATTEMPTS); i++) {
		r = bind_at(fw, &four, &ret[0], e);
		if (r < 0)
			return r;
		six.host = ret[0].port.host;
		r = bind_at(fw, &six, &ret[1], e);
		if (r == -EADDRNOTAVAIL || r == -EAFNOSUPPORT)
			return 1; /* no IPv6 here */
		if (r < 0)
			box_listeners_close(ret, 1);
	}
	return r < 0 ? r : 2;
}

static int add_listeners(struct forward *fw, const char *spec, struct err *e)
{
	struct box_listener l[2];
	struct box_port p;

	if (parse_spec(spec, &p) < 0)
		return err_set(e, -EINVAL, "%s: expected %s", spec, form);
	if (fw->n_listeners + 2 > LISTENERS_MAX)
		return err_set(e, -E2BIG, "more than %d ports", LISTENERS_MAX / 2);
	int n = *p.ip ? bind_at(fw, &p, l, e) : bind_loopback(fw, &p, l, e);
	for (int i = 0; i < n; i++)
		fw->listeners[fw->n_listeners++] = (struct listener){.fw = fw, .l = l[i]};
	return n < 0 ? n : 0;
}

static int start_listening(struct forward *fw, struct err *e)
{
	for (size_t i = 0; i < fw->n_listeners; i++) {
		struct listener *l = &fw->listeners[i];
		char host[NET_ADDR_HOST_MAX];

		int r = loop_add_io(fw->loop, l->l.fd, EPOLLIN, on_listener, l, &l->src);
		if (r < 0)
			return err_sys(e, r, "cannot listen");
		printf("Forwarding from %s:%u -> %u\n", net_addr_host_text(l->l.port.ip, host),
			l->l.port.host, l->l.port.guest);
	}
	return fflush(stdout) == 0 ? 0 : err_sys(e, -errno, "cannot write to standard output");
}

/* ---- the box ---- */

/* EXIT, or that the supervisor is gone. */
static void box_ended(struct forward *fw)
{
	err_set(&fw->err, -EPIPE, "box %s has ended", fw->box->name);
	loop_quit(fw->loop, 0);
}

static int on_supervisor_frame(void *data, struct wire_conn *c, const struct wire_frame *f)
{
	box_ended(data);
	return 0;
}

static void on_supervisor_end(void *data, struct wire_conn *c, int error)
{
	box_ended(data);
}

static int watch_box(struct forward *fw, struct err *e)
{
	static const struct wire_conn_ops ops = {
		.on_frame = on_supervisor_frame, .on_end = on_supervisor_end};
	const struct box_request wait = {.op = BOX_OP_WAIT};
	int fd = box_connect(fw->app.st, fw->box, e);

	if (fd < 0)
		return fd;
	int r = wire_conn_new(fw->loop, fd, &ops, fw, &fw->supervisor);
	if (r == 0)
		r = box_put_request(wire_conn_out(fw->supervisor), &wait);
	if (r < 0)
		return err_sys(e, r, "cannot watch box %s", fw->box->name);
	wire_conn_flush(fw->supervisor);
	return 0;
}

/* ---- the command ---- */

static void print_forms(void)
{
	printf("\nPorts:\n"
	       "  BOX-PORT                       the same port of this host leads to it\n"
	       "  HOST-PORT:BOX-PORT             another one does; any that is free if it is 0 or empty\n"
	       "  ADDRESS:HOST-PORT:BOX-PORT     on that address of this host [127.0.0.1 and ::1]\n"
	       "\nExample:\n  a3s-box port-forward web 8080:80 [::]:8443:443\n");
}

static int set_up(struct forward *fw, char **specs, size_t n, struct err *e)
{
	proc_raise_descriptor_limit();
	fw->listeners = calloc(LISTENERS_MAX, sizeof(*fw->listeners));
	int r = fw->listeners ? loop_new(&fw->loop) : -ENOMEM;
	if (r < 0)
		return err_sys(e, r, "cannot begin");
	for (size_t i = 0; r == 0 && i < n; i++)
		r = add_listeners(fw, specs[i], e);
	if (r == 0)
		r = watch_box(fw, e);
	return r == 0 ? start_listening(fw, e) : r;
}

static void tear_down(struct forward *fw)
{
	struct connection *c;

	fw->paused = false;
	while ((c = TAILQ_FIRST(&fw->connections)))
		connection_free(c);
	for (size_t i = 0; i < fw->n_listeners; i++) {
		loop_source_free(fw->listeners[i].src);
		close_fd(&fw->listeners[i].l.fd);
	}
	free(fw->listeners);
	wire_conn_free(fw->supervisor);
	loop_free(fw->loop);
	box_free(fw->box);
	app_close(&fw->app);
}

int cmd_port_forward(const struct cmd *c, int argc, char **argv)
{
	CLEANUP(tear_down)
	struct forward fw = {.cmd = c, .connections = TAILQ_HEAD_INITIALIZER(fw.connections)};
	struct opt opts[] = {{0}};
	struct err e = {0};

	int r = opts_parse(c, opts, OPTS_MIXED, &argc, argv, &e);
	if (r > 0) {
		if (argc == 2 && strcmp(argv[1], "--help") == 0)
			print_forms();
		return 0;
	}
	if (r == 0 && argc < 3)
		return app_usage(c, "a box and a port are needed");
	if (r == 0)
		r = app_open(&fw.app, false, &e);
	if (r == 0)
		r = box_find(fw.app.st, argv[1], &fw.box, &e);
	if (r == 0)
		r = fw.box->state == BOX_RUNNING ? 0 : app_not_running(fw.box, "start", &e);
	if (r == 0)
		r = set_up(&fw, argv + 2, (size_t)argc - 2, &e);
	if (r < 0)
		return app_fail(c, &e, 1);
	audit_started();
	r = loop_run(fw.loop);
	if (r < 0)
		err_sys(&fw.err, r, "cannot wait for connections");
	return app_fail(c, &fw.err, 1);
}
