/* SPDX-License-Identifier: MIT */
/*
 * Published ports. A client is accepted before the box can be asked; while the box has never accepted on this port
 * since it was attached, it is likely to be starting, and clients wait for it instead of being turned away: the one that
 * came first asks for all. A program in the box that serves one family only is reached by clients of both.
 *
 * A port with TCP_WAITING_MAX clients that the box has not answered takes no more until one of them goes; nor does one whose
 * box has TCP_CLIENTS_MAX of them, or its share of descriptors. Then clients wait in the kernel's queue.
 */
#include <sys/random.h>

#include "base/io.h"
#include "tcp.h"

enum { PORT_FIRST = 32768, PORT_COUNT = 28232, PORT_TRIES = 128 };

/* The client's port, or another if a connection has the same addresses and it. */
static bool choose_port(struct tcp_conn *c, struct flow_key *k)
{
	uint16_t random;

	k->dport = c->client_port;
	for (unsigned i = 0; tcp_find(c->t, k); i++) {
		if (i == PORT_TRIES)
			return false;
		io_random(&random, sizeof(random));
		k->dport = (uint16_t)(PORT_FIRST + random % PORT_COUNT);
	}
	return true;
}

/* Sends SYN to the box, by the client's family or the other; false: it has no address there. HELD when it begins. */
static bool ask_box(struct tcp_conn *c, bool other_family)
{
	struct port *p = c->tp->p;
	bool is4 = net_addr_is4(&c->client) != other_family;
	struct flow_key k = {.src = is4 ? p->a.ip4 : p->a.ip6,
		.dst = engine_seen_as(c->t->g, &c->client, is4),
		.sport = c->listen->guest_port,
		.proto = IPPROTO_TCP};

	if (net_addr_is_zero(&k.src) || net_addr_is_zero(&k.dst) || !choose_port(c, &k))
		return false;
	c->other_family = other_family;
	tcp_enter(c, &k);
	tcp_set_state(c, CONN_SYN_SENT);
	c->iss = c->snd_una = tcp_isn(c);
	c->snd_max = c->iss + 1;
	c->rcv_nxt = c->rcv_adv = 0;
	c->backoff = 0;
	tcp_send_syn(c);
	if (c->listen->answered) {
		tcp_rto_start(c, time_mono_ns());
	} else {
		c->retry_ns = time_mono_ns() + TCP_HOLD_RETRY_NS;
		tcp_timer(c);
	}
	return true;
}

/* ---- who waits ---- */

static struct tcp_conn *first_waiting(const struct tcp_listen *l)
{
	return list_empty(&l->waiting) ? NULL : LIST_OF(l->waiting.next, struct tcp_conn, in_listen);
}

static bool may_accept(const struct tcp_listen *l)
{
	const struct port *p = l->tp->p;

	return l->n_waiting < TCP_WAITING_MAX && l->tp->n_clients < TCP_CLIENTS_MAX &&
	       p->n_conns < ENGINE_CONNS_PER_PORT && share_room(p);
}

static void accept_later(struct tcp_state *t)
{
	if (!t->accept_later)
		loop_set_timer(t->accept_timer, TCP_ACCEPT_RETRY_NS);
	t->accept_later = true;
}

static void pause_accepting(struct tcp_listen *l)
{
	l->paused = true;
	loop_set_events(l->src, 0);
	accept_later(l->tp->t);
}

static void resume_accepting(struct tcp_listen *l)
{
	if (!l->paused || !may_accept(l))
		return;
	l->paused = false;
	loop_set_events(l->src, EPOLLIN);
}

static void stop_waiting(struct tcp_conn *c)
{
	if (!c->in_listen.next)
		return;
	list_remove(&c->in_listen);
	c->listen->n_waiting--;
}

static void hold(struct tcp_conn *c)
{
	c->retry_ns = time_mono_ns() + TCP_HOLD_RETRY_NS;
	tcp_timer(c);
}

void tcp_client_answered(struct tcp_conn *c)
{
	struct tcp_listen *l = c->listen;
	bool first = !l->answered;

	l->answered = true;
	stop_waiting(c);
	for (struct node *n = l->waiting.next, *next; first && n != &l->waiting; n = next) {
		next = n->next;
		struct tcp_conn *other = LIST_OF(n, struct tcp_conn, in_listen);
		if (other->state == CONN_HELD && !ask_box(other, false) && !ask_box(other, true))
			tcp_abort(other, TCP_HOST);
	}
	resume_accepting(l);
}

void tcp_client_leave(struct tcp_conn *c)
{
	struct tcp_listen *l = c->listen;

	l->tp->n_clients--;
	stop_waiting(c);
	/* The next one asks in its place. */
	struct tcp_conn *first = l->answered ? NULL : first_waiting(l);
	if (first && first->state == CONN_HELD && first->retry_ns == TCP_NEVER)
		hold(first);
	resume_accepting(l);
}

void tcp_client_refused(struct tcp_conn *c)
{
	bool other = c->other_family;

	tcp_leave(c);
	tcp_set_state(c, CONN_HELD);
	if (!other && ask_box(c, true))
		return;
	if (c->listen->answered)
		tcp_abort(c, TCP_HOST);
	else
		hold(c);
}

void tcp_client_retry(struct tcp_conn *c, uint64_t now)
{
	if (c->state == CONN_HELD) {
		if (!ask_box(c, false) && !ask_box(c, true))
			hold(c);
		return;
	}
	tcp_send_syn(c);
	if (!c->listen->answered) {
		hold(c);
		return;
	}
	c->backoff += c->backoff < 10;
	tcp_rto_start(c, now);
}

static void welcome(struct tcp_listen *l, int fd, const struct sockaddr_storage *ss)
{
	struct tcp_conn *c = tcp_conn_new(l->tp, CONN_HELD, fd);

	if (!c) {
		l->tp->p->stats.dropped++;
		return;
	}
	c->listen = l;
	l->tp->n_clients++;
	tcp_host_options(fd);
	if (!net_addr_from_sockaddr(ss, &c->client, &c->client_port) || !tcp_allowed(c, false) ||
		tcp_host_watch(c) < 0) {
		tcp_abort(c, TCP_HOST);
		return;
	}
	uint64_t now = time_mono_ns(), until = l->tp->p->since_ns + TCP_HOLD_BOX_NS;
	l->answered |= now >= until;
	c->limit_ns = l->answered ? now + TCP_SYN_NS : MIN_OF(now + TCP_HOLD_NS, until);
	list_add(&l->waiting, &c->in_listen);
	l->n_waiting++;
	if (!l->answered && first_waiting(l) != c)
		tcp_timer(c);
	else if (!ask_box(c, false) && !ask_box(c, true))
		tcp_abort(c, TCP_HOST);
}

static void on_clients(void *data, int fd, uint32_t events)
{
	struct tcp_listen *l = data;

	for (unsigned i = 0; i < TCP_ACCEPTS && may_accept(l); i++) {
		struct sockaddr_storage ss;
		socklen_t len = sizeof(ss);
		int client = accept4(fd, (struct sockaddr *)&ss, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (client >= 0) {
			welcome(l, client, &ss);
			continue;
		}
		if (errno == EAGAIN)
			return;
		if (errno == EINTR || errno == ECONNABORTED)
			continue;
		/* Out of descriptors, of memory: clients wait in the kernel's queue, and nobody spins. */
		pause_accepting(l);
		return;
	}
	if (!may_accept(l))
		pause_accepting(l);
}

void tcp_listen_resume(void *data)
{
	struct tcp_state *t = data;

	bool paused = false;

	t->accept_later = false;
	for (unsigned i = 0; i < NETD_PORTS_MAX; i++) {
		for (struct tcp_listen *l = t->ports[i] ? t->ports[i]->listens : NULL; l; l = l->next) {
			resume_accepting(l);
			paused |= l->paused;
		}
	}
	if (paused)
		accept_later(t);
}

int tcp_publish(struct port *p, uint16_t guest_port, int fd)
{
	CLEANUP_CLOSE int own = fd;
	struct tcp_port *tp = tcp_port_get(p->g->tcp, p);
	CLEANUP_FREE struct tcp_listen *l = calloc(1, sizeof(*l));

	if (!tp || !l)
		return -ENOMEM;
	/* The supervisor has it too, but does nothing with it. */
	int r = io_set_nonblock(fd, true);
	if (r < 0)
		return r;
	l->tp = tp;
	l->guest_port = guest_port;
	list_init(&l->waiting);
	r = loop_add_io(p->g->loop, fd, EPOLLIN, on_clients, l, &l->src);
	if (r < 0)
		return r;
	l->fd = TAKE_FD(own);
	l->next = tp->listens;
	tp->listens = TAKE_PTR(l);
	return 0;
}

void tcp_listen_free(struct tcp_listen *l)
{
	loop_source_free(l->src);
	close_fd(&l->fd);
	free(l);
}
