/* SPDX-License-Identifier: MIT */
#include "tcp.h"

#include <string.h>

#include "base/io.h"

enum { TABLE_MIN = 256, HEAP_MIN = 64 };

/* ---- connections by address ---- */

struct tcp_conn *tcp_find(struct tcp_state *t, const struct flow_key *k)
{
	uint64_t hash = flow_hash(k);

	for (struct tcp_conn *c = t->table[hash & t->table_mask]; c; c = c->hash_next) {
		if (c->hash == hash && memcmp(&c->key, k, sizeof(*k)) == 0)
			return c;
	}
	return NULL;
}

static void link_into(struct tcp_conn **table, size_t mask, struct tcp_conn *c)
{
	struct tcp_conn **bucket = &table[c->hash & mask];

	c->hash_next = *bucket;
	*bucket = c;
}

/* Twice as large; without memory, chains are longer instead. */
static void grow_table(struct tcp_state *t)
{
	size_t mask = 2 * t->table_mask + 1;
	struct tcp_conn **table = calloc(mask + 1, sizeof(struct tcp_conn *));

	if (!table)
		return;
	for (size_t i = 0; i <= t->table_mask; i++) {
		for (struct tcp_conn *c = t->table[i], *next; c; c = next) {
			next = c->hash_next;
			link_into(table, mask, c);
		}
	}
	free(t->table);
	t->table = table;
	t->table_mask = mask;
}

void tcp_enter(struct tcp_conn *c, const struct flow_key *k)
{
	struct tcp_state *t = c->t;

	if (t->n_conns > t->table_mask)
		grow_table(t);
	c->key = *k;
	c->hash = flow_hash(k);
	link_into(t->table, t->table_mask, c);
	t->n_conns++;
}

void tcp_leave(struct tcp_conn *c)
{
	struct tcp_state *t = c->t;

	for (struct tcp_conn **p = &t->table[c->hash & t->table_mask]; *p; p = &(*p)->hash_next) {
		if (*p == c) {
			*p = c->hash_next;
			t->n_conns--;
			return;
		}
	}
}

uint32_t tcp_isn(const struct tcp_conn *c)
{
	/* The table's index is the other half, so that this tells nothing of it. The clock counts in 64 ns. */
	return (uint32_t)(c->hash >> 32) + (uint32_t)(time_mono_ns() >> 6);
}

/* ---- timers: a heap by due_ns, whose top the loop's timer is set to ---- */

static void heap_put(struct tcp_state *t, size_t at, struct tcp_conn *c)
{
	t->heap[at] = c;
	c->heap_at = at;
}

static void heap_sift(struct tcp_state *t, size_t at)
{
	struct tcp_conn *c = t->heap[at];

	for (; at > 1 && c->due_ns < t->heap[at / 2]->due_ns; at /= 2)
		heap_put(t, at, t->heap[at / 2]);
	for (size_t child; (child = 2 * at) <= t->n_heap; at = child) {
		if (child < t->n_heap && t->heap[child + 1]->due_ns < t->heap[child]->due_ns)
			child++;
		if (c->due_ns <= t->heap[child]->due_ns)
			break;
		heap_put(t, at, t->heap[child]);
	}
	heap_put(t, at, c);
}

static void heap_remove(struct tcp_conn *c)
{
	struct tcp_state *t = c->t;
	size_t at = c->heap_at;

	if (!at)
		return;
	c->heap_at = 0;
	struct tcp_conn *last = t->heap[t->n_heap--];
	if (last == c)
		return;
	heap_put(t, at, last);
	heap_sift(t, at);
}

/* Room for every connection is made when it begins, so that a timer cannot fail. */
static bool heap_room(struct tcp_state *t, size_t n)
{
	size_t cap = t->heap_cap;

	if (n < cap)
		return true;
	cap = cap ? 2 * cap : HEAP_MIN;
	struct tcp_conn **heap = reallocarray(t->heap, cap, sizeof(struct tcp_conn *));
	if (!heap)
		return false;
	t->heap = heap;
	t->heap_cap = cap;
	return true;
}

static void set_loop_timer(struct tcp_state *t, uint64_t now)
{
	uint64_t due = t->n_heap ? t->heap[1]->due_ns : TCP_NEVER;

	if (due >= t->timer_ns)
		return;
	t->timer_ns = due;
	loop_set_timer(t->timer, due > now ? due - now : 0);
}

void tcp_timer(struct tcp_conn *c)
{
	struct tcp_state *t = c->t;
	uint64_t due = MIN_OF(MIN_OF(c->retry_ns, c->limit_ns), c->ack_ns);

	/* What is in the heap too early is put right when it comes to the top: bulk data does not move it about. */
	if (due == TCP_NEVER || (c->heap_at && c->due_ns <= due))
		return;
	c->due_ns = due;
	if (!c->heap_at)
		heap_put(t, ++t->n_heap, c);
	heap_sift(t, c->heap_at);
	if (c->heap_at == 1)
		set_loop_timer(t, time_mono_ns());
}

/* How long a connection may be sent to in vain. */
static uint64_t stuck_limit(const struct tcp_conn *c)
{
	const struct ring_pool *pool = &c->t->pool;

	return ring_scarce(pool) && c->tp->rings.used >= pool->used / pool->n_users ? TCP_STUCK_SCARCE_NS
										    : TCP_STUCK_NS;
}

static void retry_open(struct tcp_conn *c, uint64_t now)
{
	if (c->snd_una == c->snd_max) {
		if (!c->stalled)
			return;
		if (c->snd_wnd == 0) {
			c->backoff += c->backoff < 10;
			tcp_probe(c);
		}
		tcp_pull(c);
		return;
	}
	if (!port_room(c->tp->p)) { /* what was sent before may still be there */
		tcp_rto_start(c, now);
		return;
	}
	if (c->stuck_ns == 0)
		c->stuck_ns = now;
	if (now - c->stuck_ns > stuck_limit(c)) {
		tcp_abort(c, TCP_BOTH);
		return;
	}
	c->backoff += c->backoff < 10;
	c->recovering = true;
	c->recover = c->snd_max;
	tcp_retransmit(c);
	tcp_rto_start(c, now);
}

static void expired(struct tcp_conn *c, uint64_t now)
{
	if (now >= c->limit_ns) {
		if (c->state == CONN_CONNECTING)
			tcp_host_failed(c, ETIMEDOUT);
		else
			tcp_abort(c, TCP_BOTH);
		return;
	}
	c->retry_ns = TCP_NEVER;
	tcp_timer(c); /* the limit remains */
	switch (c->state) {
	case CONN_SYN_RCVD:
		c->backoff += c->backoff < 10;
		tcp_send_syn(c);
		tcp_rto_start(c, now);
		break;
	case CONN_HELD:
	case CONN_SYN_SENT:
		tcp_client_retry(c, now);
		break;
	case CONN_OPEN:
		retry_open(c, now);
		break;
	case CONN_CONNECTING:
	case CONN_TIME_WAIT:
		break;
	}
}

static void on_timer(void *data)
{
	struct tcp_state *t = data;
	uint64_t now = time_mono_ns();

	t->timer_ns = TCP_NEVER;
	for (unsigned i = 0; i < TCP_TIMERS && t->n_heap && t->heap[1]->due_ns <= now; i++) {
		struct tcp_conn *c = t->heap[1];
		heap_remove(c);
		if (c->ack_ns <= now) {
			c->ack_ns = TCP_NEVER;
			c->quick_acks = TCP_QUICK_ACKS;
			tcp_send_ack(c);
		}
		if (MIN_OF(c->retry_ns, c->limit_ns) <= now)
			expired(c, now);
		else
			tcp_timer(c);
	}
	set_loop_timer(t, now);
}

static void on_turn(void *data)
{
	struct tcp_state *t = data;

	while (!list_empty(&t->turn_conns)) {
		struct tcp_conn *c = LIST_OF(t->turn_conns.next, struct tcp_conn, in_turn);
		list_remove(&c->in_turn);
		tcp_send_ack(c);
	}
}

/* ---- life ---- */

struct tcp_port *tcp_port_get(struct tcp_state *t, struct port *p)
{
	struct tcp_port *tp = t->ports[p->slot];

	if (tp)
		return tp;
	tp = calloc(1, sizeof(*tp));
	if (!tp)
		return NULL;
	tp->t = t;
	tp->p = p;
	tp->waiter.fn = tcp_room;
	list_init(&tp->conns);
	list_init(&tp->old);
	list_init(&tp->waiting);
	t->ports[p->slot] = tp;
	return tp;
}

static bool is_half_open(const struct tcp_conn *c)
{
	return c->state == CONN_CONNECTING || c->state == CONN_SYN_RCVD;
}

void tcp_set_state(struct tcp_conn *c, enum conn_state state)
{
	c->tp->n_half_open -= is_half_open(c);
	c->state = state;
	c->tp->n_half_open += is_half_open(c);
}

struct tcp_conn *tcp_conn_new(struct tcp_port *tp, enum conn_state state, int fd)
{
	CLEANUP_CLOSE int own = fd;
	struct tcp_state *t = tp->t;

	if (tp->p->n_conns >= ENGINE_CONNS_PER_PORT || !share_room(tp->p) || !heap_room(t, t->n_all + 1))
		return NULL;
	struct tcp_conn *c = calloc(1, sizeof(*c));
	if (!c)
		return NULL;
	c->t = t;
	c->tp = tp;
	c->fd = TAKE_FD(own);
	c->state = state;
	c->retry_ns = c->limit_ns = c->ack_ns = TCP_NEVER;
	c->rto_ms = TCP_RTO_MIN_MS;
	c->out_want = TCP_RING_MIN;
	tp->n_half_open += is_half_open(c);
	list_add(&tp->conns, &c->in_port);
	tp->p->n_conns++;
	share_take(tp->p);
	t->n_all++;
	return c;
}

/* What TIME_WAIT does not need. */
static void release(struct tcp_conn *c)
{
	loop_source_free(TAKE_PTR(c->src));
	close_fd(&c->fd);
	free(TAKE_PTR(c->syn));
	ring_release(&c->t->pool, &c->tp->rings, &c->out);
	ring_release(&c->t->pool, &c->tp->rings, &c->in);
	list_remove(&c->in_port);
	list_remove(&c->in_turn);
	list_remove(&c->in_wait);
	c->tp->p->n_conns--;
	share_give(c->tp->p);
	if (c->listen)
		tcp_client_leave(c);
}

void tcp_conn_free(struct tcp_conn *c)
{
	struct tcp_state *t = c->t;

	if (c->state == CONN_TIME_WAIT) {
		list_remove(&c->in_port);
		list_remove(&c->in_turn);
		list_remove(&c->in_wait);
		c->tp->n_old--;
	} else {
		release(c);
		c->tp->n_half_open -= is_half_open(c);
	}
	if (c->state != CONN_HELD)
		tcp_leave(c);
	heap_remove(c);
	t->n_all--;
	free(c);
}

void tcp_abort(struct tcp_conn *c, unsigned sides)
{
	const struct linger now = {.l_onoff = 1};

	if (sides & TCP_BOX && c->state != CONN_HELD && c->state != CONN_TIME_WAIT)
		tcp_send_rst(c);
	if (sides & TCP_HOST && c->fd >= 0)
		setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	tcp_conn_free(c);
}

void tcp_finish(struct tcp_conn *c)
{
	struct tcp_port *tp = c->tp;

	if (c->ack_due)
		tcp_send_ack(c);
	if (!c->last_word) {
		tcp_conn_free(c);
		return;
	}
	release(c);
	tcp_set_state(c, CONN_TIME_WAIT);
	list_add(&tp->old, &c->in_port);
	c->ack_due = false;
	c->retry_ns = c->ack_ns = TCP_NEVER;
	c->limit_ns = time_mono_ns() + TCP_TIME_WAIT_NS;
	tcp_timer(c);
	if (++tp->n_old > TCP_TIME_WAIT_MAX)
		tcp_conn_free(LIST_OF(tp->old.next, struct tcp_conn, in_port));
}

/* ---- from a box ---- */

/* Sums that a device has not vouched for; only boxes that route for others, or make their own packets, send such. */
static bool checksum_good(const struct pkt *k)
{
	if (k->vnet.flags & VNET_NEEDS_CSUM)
		return true;
	uint32_t sum = pkt_pseudo_sum(&k->src, &k->dst, IPPROTO_TCP, k->l4_len);
	return inet_sum_finish(inet_sum(sum, k->frame + k->l4, k->l4_len)) == 0;
}

static bool is_dns(const struct engine *g, const struct flow_key *k)
{
	return k->dport == 53 && engine_is_gateway(g, &k->dst);
}

bool tcp_allowed(struct tcp_conn *c, bool quiet)
{
	struct engine *g = c->t->g;
	struct port *p = c->tp->p;

	if (!c->listen)
		return is_dns(g, &c->key) || policy_allows(g, p, NULL, &c->key, quiet);
	/* The client as it is: a rule by CIDR is to mean it also where the box sees the gateway in its place. */
	const struct flow_key k = {
		.src = c->client,
		.dst = net_addr_is_zero(&p->a.ip4) ||
				       (!net_addr_is4(&c->client) && !net_addr_is_zero(&p->a.ip6))
			       ? p->a.ip6
			       : p->a.ip4,
		.sport = c->client_port,
		.dport = c->listen->guest_port,
		.proto = IPPROTO_TCP,
	};
	return policy_allows(g, NULL, p, &k, quiet);
}

static void begin(struct tcp_port *tp, const struct pkt *k, const struct flow_key *key)
{
	struct engine *g = tp->t->g;
	struct net_addr to;

	if (tp->n_half_open >= TCP_HALF_OPEN_MAX) { /* not refused: it tries again by itself */
		tp->p->stats.dropped++;
		return;
	}
	bool dns = is_dns(g, key);
	if (!dns && !policy_allows(g, tp->p, NULL, key, false)) {
		tcp_refuse(tp->p, k);
		return;
	}
	int r = dns ? 0 : engine_outside(g, &key->dst, &to);
	if (r < 0) {
		icmp_unreachable(tp->p, k,
			r == -EACCES	    ? ICMP_WHY_PROHIBITED
			: r == -ENETUNREACH ? ICMP_WHY_NET
					    : ICMP_WHY_HOST);
		return;
	}
	struct tcp_conn *c = tcp_conn_new(tp, CONN_CONNECTING, -1);
	if (!c) {
		tp->p->stats.dropped++;
		tcp_refuse(tp->p, k);
		return;
	}
	tcp_enter(c, key);
	tcp_synchronise(c, k);
	if (dns) {
		tcp_host_dns(c);
		return;
	}
	c->syn = k->len <= TCP_SYN_KEPT ? malloc(k->len) : NULL;
	if (c->syn) {
		memcpy(c->syn, k->frame, k->len);
		c->syn_len = k->len;
	}
	tcp_host_connect(c, &to);
}

void tcp_input(struct port *p, const struct pkt *k)
{
	struct tcp_state *t = p->g->tcp;
	struct flow_key key;

	if (!checksum_good(k)) {
		p->stats.dropped++;
		return;
	}
	bool is_syn = (k->tcp_flags & (TCP_SYN | TCP_ACK | TCP_RST)) == TCP_SYN;
	flow_key_of(&key, k);
	struct tcp_conn *c = tcp_find(t, &key);
	if (c && c->state == CONN_TIME_WAIT && is_syn && seq_lt(c->rcv_nxt, k->seq)) {
		tcp_conn_free(c);
		c = NULL;
	}
	if (c) {
		tcp_segment(c, k);
		return;
	}
	struct tcp_port *tp = is_syn ? tcp_port_get(t, p) : NULL;
	if (tp)
		begin(tp, k, &key);
	else
		tcp_refuse(p, k);
}

/* ---- the engine ---- */

int tcp_new(struct engine *g)
{
	struct tcp_state *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	g->tcp = t;
	t->g = g;
	t->timer_ns = TCP_NEVER;
	t->table_mask = TABLE_MIN - 1;
	list_init(&t->turn_conns);
	t->table = calloc(TABLE_MIN, sizeof(struct tcp_conn *));
	int r = t->table ? 0 : -ENOMEM;
	if (r == 0)
		r = loop_add_timer(g->loop, TCP_NEVER, on_timer, t, &t->timer);
	if (r == 0)
		r = loop_add_timer(g->loop, TCP_NEVER, tcp_listen_resume, t, &t->accept_timer);
	if (r == 0)
		r = loop_add_deferred(g->loop, on_turn, t, &t->turn);
	if (r < 0)
		tcp_free(g);
	return r;
}

void tcp_free(struct engine *g)
{
	struct tcp_state *t = g->tcp;

	if (!t)
		return;
	for (unsigned i = 0; i < NETD_PORTS_MAX; i++) {
		if (t->ports[i])
			tcp_port_gone(t->ports[i]->p);
	}
	loop_source_free(t->timer);
	loop_source_free(t->accept_timer);
	loop_source_free(t->turn);
	ring_pool_done(&t->pool);
	free(t->heap);
	free(t->table);
	free(t);
	g->tcp = NULL;
}

/*
 * The box is gone. What it has said to the end of, the host's kernel delivers, with room for what it did not take yet; the peer
 * of anything else is told that it was cut off.
 */
static void let_go(struct tcp_conn *c)
{
	const int room = TCP_RING_MAX;

	if (c->fin_in && c->in.len) {
		setsockopt(c->fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
		if (!tcp_push(c))
			return;
	}
	if (c->shut)
		tcp_conn_free(c);
	else
		tcp_abort(c, TCP_HOST);
}

void tcp_port_gone(struct port *p)
{
	struct tcp_state *t = p->g->tcp;
	struct tcp_port *tp = t ? t->ports[p->slot] : NULL;

	if (!tp)
		return;
	while (!list_empty(&tp->conns))
		let_go(LIST_OF(tp->conns.next, struct tcp_conn, in_port));
	while (!list_empty(&tp->old))
		tcp_conn_free(LIST_OF(tp->old.next, struct tcp_conn, in_port));
	while (tp->listens) { /* behind the connections, which look at them */
		struct tcp_listen *l = tp->listens;
		tp->listens = l->next;
		tcp_listen_free(l);
	}
	port_unwait(&tp->waiter);
	t->ports[p->slot] = NULL;
	free(tp);
}

void tcp_recheck(struct engine *g)
{
	for (unsigned i = 0; i < NETD_PORTS_MAX; i++) {
		struct tcp_port *tp = g->tcp->ports[i];
		if (!tp)
			continue;
		for (struct node *n = tp->conns.next, *next; n != &tp->conns; n = next) {
			next = n->next;
			struct tcp_conn *c = LIST_OF(n, struct tcp_conn, in_port);
			if (!tcp_allowed(c, true))
				tcp_abort(c, TCP_BOTH);
		}
	}
}
