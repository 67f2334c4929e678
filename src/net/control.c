/* SPDX-License-Identifier: MIT */
/*
 * The control protocol of net/net.h, on netd's side.
 *
 * THEORY OF OPERATION
 *
 * A request is read, done and answered before the next one is read. An answer that the client does not take is kept until it
 * does, and so is all else that it asks; so a client costs one answer of memory, whatever it does. Events are never kept:
 * who does not read them learns of them by the counters only.
 *
 * Denials: each connection has a table of the denials of the present second, one for each direction, so that what others
 * send hides nothing of what the box does. What is new in it is told at once, while fewer than NETD_DENIALS_PER_S have been;
 * what repeats is told once more, with its count, at the second's end, and counts against the next second.
 *
 * A port is freed only in callbacks of the loop that belong to a connection, or to the port's socket: never while a frame of
 * it is being looked at, although a denial leads from there to here.
 */
#include "control.h"

#include <string.h>
#include <sys/socket.h>

#include "base/io.h"
#include "base/log.h"

enum { CLIENTS_MAX = NETD_PORTS_MAX + 64, REPORT_BOXES = 256 };
#define NS_PER_S  1000000000ull
#define EXPECT_NS (5 * NS_PER_S) /* a client that has connected gets so long to attach before the end */

/* Of this second; counts are what has not been told. */
struct denials {
	struct netd_denial v[NETD_DENIALS_PER_S];
	unsigned n, n_told;
};

struct client {
	struct control *c;
	struct client *next, **link;
	int fd;
	struct loop_source *io;
	struct port *port; /* NULL: none attached */
	char *answer;	   /* that it has not taken yet */
	uint64_t since_ns;
	bool spoke;
	struct denials denials[NET_DIRECTIONS];
};

struct control {
	struct engine *g;
	void (*on_change)(void *data);
	void *data;
	struct client *clients;
	unsigned n_clients;
	struct client *of_port[NETD_PORTS_MAX];
	struct loop_source *second;
	bool in_second; /* the timer runs */
	char buf[NETD_MESSAGE_MAX + 1];
};

static struct control *the_control; /* policy_on_denial has no room for it */

/* ---- coming and going ---- */

static void client_detach(struct client *cl)
{
	if (!cl->port)
		return;
	cl->c->of_port[cl->port->slot] = NULL;
	cl->c->g->n_published -= (unsigned)cl->port->a.n_publish;
	port_free(TAKE_PTR(cl->port));
	memset(cl->denials, 0, sizeof(cl->denials));
}

static void client_free(struct client *cl)
{
	if (cl->port) /* the box may be gone as well: what it sent last is to arrive */
		(void)port_drain(cl->port);
	client_detach(cl);
	*cl->link = cl->next;
	if (cl->next)
		cl->next->link = cl->link;
	cl->c->n_clients--;
	loop_source_free(cl->io);
	close_fd(&cl->fd);
	free(cl->answer);
	free(cl);
}

static void client_end(struct client *cl)
{
	struct control *c = cl->c;

	client_free(cl);
	c->on_change(c->data);
}

/* The frames' socket is gone; the connection stays, and may attach again. */
static void on_port_gone(void *data)
{
	struct client *cl = data;
	struct control *c = cl->c;

	client_detach(cl);
	c->on_change(c->data);
}

/* ---- what it is told ---- */

static bool client_send(struct client *cl, const char *text)
{
	return send(cl->fd, text, strlen(text), MSG_DONTWAIT | MSG_NOSIGNAL) >= 0;
}

/* text moves in; NULL: memory ran out. */
static void client_answer(struct client *cl, char *text)
{
	static const char oom[] = "{\"error\":\"out of memory\"}";

	if (client_send(cl, text ? text : oom)) {
		free(text);
	} else {
		cl->answer = text ? text : strdup(oom);
		(void)loop_set_events(cl->io, EPOLLOUT); /* nothing more is read until it took this one */
	}
}

static void client_tell(struct client *cl, struct denials *t, struct netd_denial *d)
{
	CLEANUP_FREE char *text = NULL;

	if (t->n_told >= NETD_DENIALS_PER_S)
		return;
	t->n_told++;
	text = netd_denial_text(d);
	if (text && !cl->answer)
		(void)client_send(cl, text);
	d->count = 0;
}

static bool same_denial(const struct netd_denial *a, const struct netd_denial *b)
{
	return a->logged == b->logged && a->direction == b->direction && a->protocol == b->protocol &&
	       net_addr_equal(&a->peer, &b->peer) && a->port == b->port && a->rule == b->rule;
}

static void on_denial(struct port *p, const struct netd_denial *d)
{
	struct control *c = the_control;
	struct client *cl = c->of_port[p->slot];
	struct denials *t = cl ? &cl->denials[d->direction] : NULL;
	unsigned i = 0;

	if (!t)
		return;
	while (i < t->n && !same_denial(&t->v[i], d))
		i++;
	if (i == ARRAY_LEN(t->v))
		return;
	if (!c->in_second) {
		c->in_second = true;
		loop_set_timer(c->second, NS_PER_S);
	}
	if (i == t->n) {
		t->v[t->n++] = *d;
		client_tell(cl, t, &t->v[i]);
	} else {
		t->v[i].count += d->count;
	}
}

static void on_second(void *data)
{
	struct control *c = data;

	c->in_second = false;
	for (struct client *cl = c->clients; cl; cl = cl->next) {
		for (unsigned k = 0; k < NET_DIRECTIONS; k++) {
			struct denials *t = &cl->denials[k];
			const unsigned n = t->n;
			t->n_told = t->n = 0;
			for (unsigned i = 0; i < n; i++) {
				if (t->v[i].count)
					client_tell(cl, t, &t->v[i]);
			}
			c->in_second |= t->n_told > 0;
		}
	}
	if (c->in_second)
		loop_set_timer(c->second, NS_PER_S);
}

/* ---- what it asks ---- */

struct fds {
	int v[NETD_FDS_MAX]; /* -1: taken */
	size_t n;
};

static void fds_done(struct fds *f)
{
	for (size_t i = 0; i < f->n; i++)
		close_fd(&f->v[i]);
}

static int option(int fd, int what)
{
	int value;
	socklen_t len = sizeof(value);

	return getsockopt(fd, SOL_SOCKET, what, &value, &len) < 0 ? -1 : value;
}

/* Whether a descriptor is what a published port needs. */
static bool is_port_socket(int fd, uint8_t protocol)
{
	int domain = option(fd, SO_DOMAIN);

	return (domain == AF_INET || domain == AF_INET6) && option(fd, SO_PROTOCOL) == protocol &&
	       (protocol != IPPROTO_TCP || option(fd, SO_ACCEPTCONN) == 1);
}

/* Takes a list of ports with their sockets, from fds[first] on. */
static int publish(
	struct client *cl, const struct netd_attachment *a, struct fds *f, size_t first, struct err *e)
{
	if (f->n != first + a->n_publish)
		return err_set(e, -EBADMSG, "%zu descriptors for %zu published ports",
			f->n - MIN_OF(first, f->n), a->n_publish);
	for (size_t i = 0; i < a->n_publish; i++) {
		if (!is_port_socket(f->v[first + i], a->publish[i].protocol))
			return err_set(e, -EBADMSG, "published port %u: no socket of its protocol",
				a->publish[i].guest_port);
	}
	for (size_t i = 0; i < a->n_publish; i++) {
		const struct netd_publish *p = &a->publish[i];
		int fd = TAKE_FD(f->v[first + i]);
		int r = io_set_nonblock(fd, true);
		if (r < 0)
			close(fd);
		else
			r = p->protocol == IPPROTO_TCP ? tcp_publish(cl->port, p->guest_port, fd)
						       : udp_publish(cl->port, p->guest_port, fd);
		if (r < 0)
			return err_sys(e, r, "published port %u", p->guest_port);
		cl->port->a.n_publish++;
		cl->c->g->n_published++;
	}
	return 0;
}

/* A box that is there already, by its connection of before, which its supervisor has given up. */
static void replace(struct control *c, const struct netd_attachment *a)
{
	const struct net_addr *const both[] = {&a->ip4, &a->ip6};

	for (size_t i = 0; i < ARRAY_LEN(both); i++) {
		const struct port *p = engine_port_of(c->g, both[i]);
		struct client *old = p ? c->of_port[p->slot] : NULL;
		if (old && strcmp(p->a.box, a->box) == 0)
			client_detach(old);
	}
}

static bool addresses_fit(const struct engine *g, const struct netd_attachment *a)
{
	const struct netd_config *c = &g->config;

	return (net_addr_is_zero(&a->ip4) || (c->subnet4.bits && net_prefix_has(&c->subnet4, &a->ip4))) &&
	       (net_addr_is_zero(&a->ip6) || (c->subnet6.bits && net_prefix_has(&c->subnet6, &a->ip6)));
}

static int do_attach(struct client *cl, struct netd_attachment *a, struct fds *f, struct err *e)
{
	struct control *c = cl->c;
	/* How many there are the port counts itself, as they come. */
	struct netd_attachment ports = {.publish = a->publish, .n_publish = a->n_publish};

	if (cl->port)
		return err_set(e, -EISCONN, "this connection has a box attached");
	if (f->n < 1 || option(f->v[0], SO_DOMAIN) != AF_UNIX || option(f->v[0], SO_TYPE) != SOCK_STREAM)
		return err_set(e, -EBADMSG, "no socket for frames");
	if (!addresses_fit(c->g, a))
		return err_set(e, -ERANGE, "an address that is not of network %s", c->g->config.name);
	replace(c, a);
	a->publish = NULL;
	a->n_publish = 0;
	int r = port_new(c->g, a, TAKE_FD(f->v[0]), on_port_gone, cl, &cl->port);
	if (r == -EADDRINUSE)
		err_set(e, r, "another box has its address on network %s", c->g->config.name);
	else if (r == -ENOSPC)
		err_set(e, r, "network %s has %d boxes", c->g->config.name, NETD_PORTS_MAX);
	else if (r < 0)
		err_sys(e, r, "attach");
	if (r == 0) {
		c->of_port[cl->port->slot] = cl;
		r = publish(cl, &ports, f, 1, e);
		if (r < 0)
			client_detach(cl);
	}
	free(ports.publish);
	return r;
}

static int do_ports(struct client *cl, const struct netd_attachment *a, struct fds *f, struct err *e)
{
	if (!cl->port)
		return err_set(e, -ENOTCONN, "this connection has no box attached");
	if (cl->port->a.n_publish + a->n_publish > NETD_PUBLISH_MAX)
		return err_set(e, -E2BIG, "more than %d published ports", NETD_PUBLISH_MAX);
	return publish(cl, a, f, 0, e);
}

static int do_update(struct client *cl, struct netd_attachment *a, struct err *e)
{
	struct netd_attachment *now;

	if (!cl->port)
		return err_set(e, -ENOTCONN, "this connection has no box attached");
	now = &cl->port->a;
	/* Swapped: what was goes with the request. */
	struct netd_attachment old = *now;
	now->name = TAKE_PTR(a->name);
	now->hostname = TAKE_PTR(a->hostname);
	now->aliases = a->aliases;
	now->labels = a->labels;
	now->names_only = a->names_only;
	a->name = old.name;
	a->hostname = old.hostname;
	a->aliases = old.aliases;
	a->labels = old.labels;
	int r = policy_attach(cl->port);
	if (r < 0)
		return err_sys(e, r, "update");
	if (cl->c->g->policy->isolation != NET_ISOLATION_NONE)
		engine_recheck(cl->c->g);
	return 0;
}

static int do_policy(struct control *c, const struct netd_request *q, struct err *e)
{
	struct net_policy *p;

	/* Those who tell of changes may overtake each other, and our own configuration may be newer. */
	if (q->revision && q->revision <= c->g->config.revision)
		return 0;
	int r = net_policy_parse(q->isolation, q->policy, &p, e);

	if (r == 0)
		r = engine_set_policy(c->g, p);
	if (r == 0 && q->revision)
		c->g->config.revision = q->revision;
	return r == -ENOMEM ? err_oom(e) : r;
}

static char *do_inspect(const struct control *c, uint64_t from)
{
	const struct engine *g = c->g;

	for (size_t most = REPORT_BOXES; most > 0; most /= 2) {
		CLEANUP(netd_report_done) struct netd_report r = {.spoofed = g->spoofed};
		unsigned i = (unsigned)from;
		r.boxes = calloc(most, sizeof(*r.boxes));
		if (!r.boxes || policy_report(g, &r) < 0)
			return NULL;
		for (; i < NETD_PORTS_MAX && r.n_boxes < most; i++) {
			const struct port *p = g->ports[i];
			if (!p)
				continue;
			r.boxes[r.n_boxes++] = (struct netd_report_box){.box = str_dup(p->a.box),
				.name = str_dup(p->a.name),
				.ip4 = p->a.ip4,
				.ip6 = p->a.ip6,
				.rx_bytes = p->stats.rx_bytes,
				.tx_bytes = p->stats.tx_bytes,
				.rx_frames = p->stats.rx_frames,
				.tx_frames = p->stats.tx_frames,
				.dropped = p->stats.dropped,
				.denied = p->stats.denied,
				.connections = p->n_conns + p->n_udp + p->n_echo + p->n_flows};
		}
		while (i < NETD_PORTS_MAX && !g->ports[i])
			i++;
		r.next = i < NETD_PORTS_MAX ? i : 0;
		char *text = netd_report_text(&r);
		if (!text || strlen(text) <= NETD_MESSAGE_MAX)
			return text;
		free(text);
	}
	return NULL;
}

/* Returns the answer, malloc'd; NULL when out of memory. */
static char *perform(struct client *cl, struct netd_request *q, struct fds *f)
{
	struct err e = {0};
	int r = 0;

	if (q->op != NETD_ATTACH && q->op != NETD_PORTS && f->n)
		return str_printf("{\"error\":\"descriptors that nobody asked for\"}");
	switch (q->op) {
	case NETD_ATTACH:
		r = do_attach(cl, &q->a, f, &e);
		break;
	case NETD_PORTS:
		r = do_ports(cl, &q->a, f, &e);
		break;
	case NETD_UPDATE:
		r = do_update(cl, &q->a, &e);
		break;
	case NETD_POLICY:
		r = do_policy(cl->c, q, &e);
		break;
	case NETD_INSPECT:
		return do_inspect(cl->c, q->from);
	}
	return r < 0 ? netd_refusal_text(-r, e.msg) : netd_answer_text(NULL);
}

/* Descriptors of a message, all of them into *ret, which is zeroed. */
static void collect_fds(struct msghdr *m, struct fds *ret)
{
	ret->n = 0;
	for (struct cmsghdr *h = CMSG_FIRSTHDR(m); h; h = CMSG_NXTHDR(m, h)) {
		if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS)
			continue;
		size_t n = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < n && ret->n < NETD_FDS_MAX; i++)
			memcpy(&ret->v[ret->n++], CMSG_DATA(h) + i * sizeof(int), sizeof(int));
	}
}

/* One request. False: the connection is to be ended. */
static bool serve(struct client *cl)
{
	struct control *c = cl->c;
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(NETD_FDS_MAX * sizeof(int))];
	} control;
	struct iovec iov = {c->buf, NETD_MESSAGE_MAX};
	struct msghdr m = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
	ssize_t n = recvmsg(cl->fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	if (n == 0)
		return false;
	CLEANUP(fds_done) struct fds f;
	collect_fds(&m, &f);
	CLEANUP(netd_request_done) struct netd_request q = {0};
	cl->spoke = true;
	/* The kernel had no descriptors to give us: the message did not arrive whole, but the box that is attached goes on. */
	if (m.msg_flags & MSG_CTRUNC && !(m.msg_flags & MSG_TRUNC)) {
		client_answer(cl, netd_refusal_text(EMFILE, "no descriptors are left for its sockets"));
		return true;
	}
	int r = m.msg_flags & MSG_TRUNC ? -EMSGSIZE : netd_request_parse(c->buf, (size_t)n, &q);
	if (r < 0) {
		client_answer(cl, netd_answer_text(r == -EMSGSIZE ? "a message that is too large"
						   : r == -ENOMEM ? "out of memory"
								  : "malformed message"));
		return r == -ENOMEM;
	}
	client_answer(cl, perform(cl, &q, &f));
	return true;
}

static void on_client(void *data, int fd, uint32_t events)
{
	struct client *cl = data;

	if (events & EPOLLOUT && cl->answer && client_send(cl, cl->answer)) {
		free(TAKE_PTR(cl->answer));
		(void)loop_set_events(cl->io, EPOLLIN);
	}
	if (events & (EPOLLHUP | EPOLLERR) || (events & EPOLLIN && !serve(cl)))
		client_end(cl);
}

/* ---- the whole ---- */

static int client_new(struct control *c, int fd)
{
	struct ucred who;
	socklen_t len = sizeof(who);

	if (c->n_clients >= CLIENTS_MAX)
		return -EMFILE;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) < 0 || who.uid != geteuid())
		return -EPERM;
	int r = io_set_nonblock(fd, true);
	if (r < 0)
		return r;
	struct client *cl = calloc(1, sizeof(*cl));
	if (!cl)
		return -ENOMEM;
	r = loop_add_io(c->g->loop, fd, EPOLLIN, on_client, cl, &cl->io);
	if (r < 0) {
		free(cl);
		return r;
	}
	/* An answer about many boxes is one datagram: it must fit into what the kernel allows (unix(7)). */
	const int size = 2 * NETD_MESSAGE_MAX;
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	cl->c = c;
	cl->fd = fd;
	cl->since_ns = time_mono_ns();
	cl->next = c->clients;
	cl->link = &c->clients;
	if (cl->next)
		cl->next->link = &cl->next;
	c->clients = cl;
	c->n_clients++;
	return 0;
}

void control_add(struct control *c, int fd)
{
	int r = client_new(c, fd);

	if (r < 0) {
		log_warn("a client is turned away: %s", strerror(-r));
		close(fd);
	}
}

unsigned control_clients(const struct control *c)
{
	return c->n_clients;
}

bool control_expects(const struct control *c)
{
	const uint64_t now = time_mono_ns();

	for (const struct client *cl = c->clients; cl; cl = cl->next) {
		if (!cl->spoke && now - cl->since_ns < EXPECT_NS)
			return true;
	}
	return false;
}

int control_new(struct engine *g, void (*on_change)(void *data), void *data, struct control **ret)
{
	struct control *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	int r = loop_add_timer(g->loop, UINT64_MAX, on_second, c, &c->second);
	if (r < 0) {
		free(c);
		return r;
	}
	c->g = g;
	c->on_change = on_change;
	c->data = data;
	the_control = c;
	policy_on_denial = on_denial;
	*ret = c;
	return 0;
}

void control_free(struct control *c)
{
	if (!c)
		return;
	while (c->clients)
		client_free(c->clients);
	loop_source_free(c->second);
	policy_on_denial = NULL;
	the_control = NULL;
	free(c);
}
