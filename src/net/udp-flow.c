/* SPDX-License-Identifier: MIT */
/* The flows of boxes: a table, and lists by idleness. See udp.h. */
#include <stddef.h>
#include <string.h>

#include "base/io.h"
#include "udp.h"

#define SWEEP_NS 5000000000ull

/* ---- table ---- */

static struct udp_node **bucket(struct udp_port *up, const struct flow_key *key)
{
	return &up->buckets[flow_hash(key) % UDP_BUCKETS];
}

struct udp_node *udp_find(struct udp_port *up, const struct flow_key *key)
{
	struct udp_node *n = *bucket(up, key);

	while (n && memcmp(&n->key, key, sizeof(*key)) != 0)
		n = n->next;
	return n;
}

void udp_insert(struct udp_port *up, struct udp_node *n)
{
	struct udp_node **b = bucket(up, &n->key);

	n->next = *b;
	*b = n;
}

void udp_remove(struct udp_port *up, struct udp_node *n)
{
	for (struct udp_node **b = bucket(up, &n->key); *b; b = &(*b)->next) {
		if (*b == n) {
			*b = n->next;
			return;
		}
	}
}

/* ---- lists ---- */

static struct udp_list *list_of(struct udp_flow *f)
{
	return &f->sock->up->lists[f->client][f->answered];
}

static void list_add(struct udp_flow *f)
{
	struct udp_list *l = list_of(f);

	f->next = NULL;
	f->prev = l->last;
	*(l->last ? &l->last->next : &l->first) = f;
	l->last = f;
}

static void list_del(struct udp_flow *f)
{
	struct udp_list *l = list_of(f);

	*(f->prev ? &f->prev->next : &l->first) = f->next;
	*(f->next ? &f->next->prev : &l->last) = f->prev;
}

void udp_flow_touch(struct udp_flow *f, bool answer)
{
	list_del(f);
	f->answered |= answer;
	f->last_ns = time_mono_ns();
	list_add(f);
}

/* ---- flows ---- */

static void evict(struct udp_port *up, bool client)
{
	struct udp_list *l = up->lists[client];

	if (l[0].first)
		udp_flow_free(l[0].first);
	else if (l[1].first)
		udp_flow_free(l[1].first);
}

bool udp_port_evict(struct udp_port *up)
{
	const bool any = up->n[false] > 0;

	evict(up, false);
	return any;
}

bool udp_flow_evict(struct udp_state *u)
{
	struct udp_port *most = NULL;

	for (unsigned i = 0; i < NETD_PORTS_MAX; i++) {
		struct udp_port *up = u->ports[i];
		if (up && up->n[false] && (!most || up->n[false] > most->n[false]))
			most = up;
	}
	if (most)
		evict(most, false);
	return most;
}

struct udp_flow *udp_flow_new(struct udp_sock *s, bool client, const struct flow_key *key)
{
	struct udp_port *up = s->up;
	struct udp_flow *f = calloc(1, sizeof(*f));

	if (!f)
		return NULL;
	f->sock = s;
	f->client = client;
	f->node.key = *key;
	f->last_ns = time_mono_ns();
	/* Counted before another makes room, so that this socket does not end with it. */
	s->n_flows++;
	if (up->n[client] >= ENGINE_UDP_PER_PORT)
		evict(up, client);
	up->n[client]++;
	up->p->n_udp++;
	udp_insert(up, &f->node);
	list_add(f);
	struct udp_state *u = up->p->g->udp;
	if (!u->sweeping)
		loop_set_timer(u->timer, SWEEP_NS);
	u->sweeping = true;
	return f;
}

void udp_flow_free(struct udp_flow *f)
{
	struct udp_sock *s = f->sock;
	struct udp_port *up = s->up;

	list_del(f);
	udp_remove(up, &f->node);
	if (f->client)
		udp_remove(up, &f->origin);
	up->n[f->client]--;
	up->p->n_udp--;
	free(f);
	if (--s->n_flows == 0 && !s->published)
		udp_sock_free(s);
}

void udp_sock_free(struct udp_sock *s)
{
	if (!s->published) {
		udp_remove(s->up, &s->node);
		share_give(s->up->p);
	}
	port_unwait(&s->waiter);
	loop_source_free(s->io);
	close_fd(&s->fd);
	free(s);
}

/* ---- policy ---- */

void udp_client_key(const struct udp_flow *f, struct flow_key *ret)
{
	*ret = (struct flow_key){.src = f->origin.key.src,
		.sport = f->origin.key.sport,
		.dst = f->node.key.src,
		.dport = f->node.key.sport,
		.proto = IPPROTO_UDP};
}

static bool client_allowed(struct udp_flow *f)
{
	struct port *p = f->sock->up->p;
	struct flow_key k;

	udp_client_key(f, &k);
	return policy_allows(p->g, NULL, p, &k, true);
}

/* Forgets what is denied; whether anything is left. */
static bool peer_allowed(struct udp_flow *f)
{
	struct port *p = f->sock->up->p;
	unsigned n = 0;

	for (unsigned i = 0; i < f->n_uses; i++) {
		const struct flow_key k = {.src = f->node.key.src,
			.sport = f->node.key.sport,
			.dst = f->uses[i].seen,
			.dport = f->uses[i].port,
			.proto = IPPROTO_UDP};
		if (policy_allows(p->g, p, NULL, &k, true))
			f->uses[n++] = f->uses[i];
	}
	f->n_uses = n;
	return n > 0;
}

void udp_port_recheck(struct udp_port *up)
{
	for (unsigned i = 0; i < 4; i++) {
		struct udp_flow *next;
		for (struct udp_flow *f = up->lists[i / 2][i % 2].first; f; f = next) {
			next = f->next;
			if (!(f->client ? client_allowed(f) : peer_allowed(f)))
				udp_flow_free(f);
		}
	}
}

/* ---- boxes ---- */

static void sweep(void *data)
{
	struct udp_state *u = data;
	uint64_t now = time_mono_ns();
	bool any = false;

	for (unsigned i = 0; i < NETD_PORTS_MAX; i++) {
		for (unsigned j = 0; u->ports[i] && j < 4; j++) {
			struct udp_list *l = &u->ports[i]->lists[j / 2][j % 2];
			uint64_t limit = j % 2 ? UDP_ANSWERED_NS : UDP_NEW_NS;
			while (l->first && now - l->first->last_ns >= limit)
				udp_flow_free(l->first);
		}
		any |= u->ports[i] && u->ports[i]->p->n_udp;
	}
	u->sweeping = any;
	if (any)
		loop_set_timer(u->timer, SWEEP_NS);
}

struct udp_port *udp_port_of(struct port *p)
{
	struct udp_state *u = p->g->udp;
	struct udp_port **up = &u->ports[p->slot];

	if (!*up) {
		*up = calloc(1, sizeof(**up));
		if (!*up)
			return NULL;
		(*up)->p = p;
	}
	return *up;
}

void udp_port_gone(struct port *p)
{
	struct udp_state *u = p->g->udp;
	struct udp_port *up = u->ports[p->slot];

	if (!up)
		return;
	for (unsigned i = 0; i < 4; i++) {
		while (up->lists[i / 2][i % 2].first)
			udp_flow_free(up->lists[i / 2][i % 2].first);
	}
	while (up->published) {
		struct udp_sock *s = up->published;
		up->published = s->next;
		udp_sock_free(s);
	}
	u->ports[p->slot] = NULL;
	free(up);
}

void udp_recheck(struct engine *g)
{
	for (unsigned i = 0; i < NETD_PORTS_MAX; i++) {
		if (g->udp->ports[i])
			udp_port_recheck(g->udp->ports[i]);
	}
}

int udp_new(struct engine *g)
{
	struct udp_state *u = calloc(1, sizeof(*u));

	if (!u)
		return -ENOMEM;
	u->g = g;
	int r = loop_add_timer(g->loop, UINT64_MAX, sweep, u, &u->timer);
	if (r < 0) {
		free(u);
		return r;
	}
	g->udp = u;
	return 0;
}

void udp_free(struct engine *g)
{
	struct udp_state *u = TAKE_PTR(g->udp);

	if (!u)
		return;
	/* Boxes are gone before. */
	loop_source_free(u->timer);
	free(u);
}
