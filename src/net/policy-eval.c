/* SPDX-License-Identifier: MIT */
/*
 * Decisions. Rules are numbered by their place; for each port there is a bitmap of those that select it as "box", and one of
 * those that select it as "peer" by name or label, made when the port or the rules change. A decision walks the bits that
 * both sides have in common, lowest first: what it costs depends on the rules that are about these two, not on all.
 *
 * Names: every address that a box was told is kept with its name and the rules whose "domain" selects that name, until it
 * expires, the table is full, or the box goes. What has expired is still good for asking again about a connection that
 * began before (quiet).
 */
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "engine.h"

enum {
	WORD_BITS = 64,
	WORDS = NET_RULES_MAX / WORD_BITS,
	BUCKETS = 1024,
	LEARNED_PER_PORT = 4096,
	LEARNED_MAX = 65536, /* of all ports */
	NAMES_PER_ADDRESS = 64,
	NAME_MAX_BYTES = 253,
	TTL_MAX_S = 7 * 86400,
	TTL_EXTRA_S = 60,
	DNS_PORT = 53,
};
#define NS_PER_S 1000000000ull

struct rule_set {
	uint64_t bits[WORDS];
};

struct learned {
	struct net_addr addr;
	uint64_t expires_ns;   /* monotonic */
	struct learned *next;  /* in its bucket */
	struct learned **link; /* what points to it there */
	struct learned *newer, *older;
	struct rule_set rules; /* of egress, whose domains select the name */
	char name[];
};

struct policy_port {
	struct rule_set box[NET_DIRECTIONS], peer[NET_DIRECTIONS];
	bool every_name;	  /* it may ask DNS for anything */
	struct learned **buckets; /* NULL until something is learned */
	struct learned *newest, *oldest;
	unsigned n_learned;
};

/* A "domain" of an egress rule. Ordered by name. */
struct domain {
	const char *name; /* without "*."; borrowed from the policy */
	bool below;	  /* what is below the name, not itself */
	uint16_t rule;
};

struct policy_state {
	/* Rules whose peer may be anybody, and whose peer is also told by address or name. */
	struct rule_set anybody[NET_DIRECTIONS], by_address[NET_DIRECTIONS];
	struct domain *domains;
	size_t n_domains;
	unsigned n_learned;
	bool failed; /* memory ran out in the middle of a change: nothing is allowed that needs a rule */
	uint64_t denied[NET_DIRECTIONS][NET_RULES_MAX], logged[NET_DIRECTIONS][NET_RULES_MAX];
	uint64_t denied_default;
};

void (*policy_on_denial)(struct port *p, const struct netd_denial *d);

static void set_add(struct rule_set *s, size_t rule)
{
	s->bits[rule / WORD_BITS] |= 1ull << (rule % WORD_BITS);
}

static bool set_has(const struct rule_set *s, size_t rule)
{
	return s->bits[rule / WORD_BITS] >> (rule % WORD_BITS) & 1;
}

/* ---- which rules are about whom ---- */

static bool list_has(const struct strv *l, const char *s)
{
	for (size_t i = 0; i < l->n; i++) {
		if (strcmp(l->v[i], s) == 0)
			return true;
	}
	return false;
}

static bool selects_port(const struct net_selector *s, const struct port *p)
{
	if (s->kind == NET_SEL_LABEL)
		return strv_has_pair(&p->a.labels, s->text);
	return s->kind == NET_SEL_BOX &&
	       ((p->a.name && strcmp(p->a.name, s->text) == 0) || list_has(&p->a.aliases, s->text));
}

static bool any_selects_port(const struct net_selector *v, size_t n, const struct port *p)
{
	for (size_t i = 0; i < n; i++) {
		if (selects_port(&v[i], p))
			return true;
	}
	return false;
}

static const struct net_prefix *subnet_of(const struct engine *g, bool is4)
{
	return is4 ? &g->config.subnet4 : &g->config.subnet6;
}

/* Whether a rule lets a box reach somebody outside by anything but a name: then names keep no secret. */
static bool allows_without_name(const struct engine *g, const struct net_rule *rule)
{
	if (rule->action != NET_ALLOW)
		return false;
	for (size_t i = 0; i < rule->n_peer; i++) {
		const struct net_selector *s = &rule->peer[i];
		const struct net_prefix *own = subnet_of(g, net_addr_is4(&s->cidr.addr));
		bool inside = own->bits && s->cidr.bits >= own->bits && net_prefix_has(own, &s->cidr.addr);
		if (s->kind == NET_SEL_CIDR && !inside)
			return true;
	}
	return rule->n_peer == 0;
}

static void select_port(struct port *p)
{
	const struct net_policy *policy = p->g->policy;
	struct policy_port *pp = p->policy;

	memset(pp->box, 0, sizeof(pp->box));
	memset(pp->peer, 0, sizeof(pp->peer));
	pp->every_name = policy->isolation == NET_ISOLATION_NONE;
	for (size_t d = 0; d < NET_DIRECTIONS; d++) {
		for (size_t i = 0; i < policy->n[d]; i++) {
			const struct net_rule *rule = &policy->rules[d][i];
			if (any_selects_port(rule->peer, rule->n_peer, p))
				set_add(&pp->peer[d], i);
			if (rule->n_box && !any_selects_port(rule->box, rule->n_box, p))
				continue;
			set_add(&pp->box[d], i);
			pp->every_name |= d == NET_EGRESS && allows_without_name(p->g, rule);
		}
	}
}

/* Lets v[i] sink to where nothing below it is greater (heapsort). */
static void sink(struct domain *v, size_t i, size_t n)
{
	const struct domain d = v[i];

	for (size_t child; (child = 2 * i + 1) < n; i = child) {
		if (child + 1 < n && strcmp(v[child].name, v[child + 1].name) < 0)
			child++;
		if (strcmp(d.name, v[child].name) >= 0)
			break;
		v[i] = v[child];
	}
	v[i] = d;
}

/* Not qsort: the C library's asks for the machine's memory first (sysinfo), which the jail forbids. */
static void sort_domains(struct domain *v, size_t n)
{
	for (size_t i = n / 2; i > 0; i--)
		sink(v, i - 1, n);
	for (size_t left = n; left > 1; left--) {
		const struct domain greatest = v[0];
		v[0] = v[left - 1];
		v[left - 1] = greatest;
		sink(v, 0, left - 1);
	}
}

static int index_domains(struct policy_state *s, const struct net_policy *policy)
{
	size_t n = 0;

	free(TAKE_PTR(s->domains));
	s->n_domains = 0;
	for (size_t i = 0; i < policy->n[NET_EGRESS]; i++)
		n += policy->rules[NET_EGRESS][i].n_peer;
	s->domains = calloc(n + 1, sizeof(*s->domains));
	if (!s->domains)
		return -ENOMEM;
	for (size_t i = 0; i < policy->n[NET_EGRESS]; i++) {
		const struct net_rule *rule = &policy->rules[NET_EGRESS][i];
		for (size_t k = 0; k < rule->n_peer; k++) {
			const char *name = rule->peer[k].text;
			if (rule->peer[k].kind != NET_SEL_DOMAIN)
				continue;
			bool below = strncmp(name, "*.", 2) == 0;
			s->domains[s->n_domains++] = (struct domain){
				.name = name + (below ? 2 : 0), .below = below, .rule = (uint16_t)i};
		}
	}
	sort_domains(s->domains, s->n_domains);
	return 0;
}

/* Adds the rules with this very name. */
static void match_domain(const struct policy_state *s, const char *name, bool below, struct rule_set *ret)
{
	size_t lo = 0, hi = s->n_domains;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		if (strcmp(s->domains[mid].name, name) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	for (; lo < s->n_domains && strcmp(s->domains[lo].name, name) == 0; lo++) {
		if (s->domains[lo].below == below)
			set_add(ret, s->domains[lo].rule);
	}
}

static void match_name(const struct policy_state *s, const char *name, bool below_too, struct rule_set *ret)
{
	memset(ret, 0, sizeof(*ret));
	if (s->n_domains == 0)
		return;
	match_domain(s, name, false, ret);
	for (const char *dot = below_too ? strchr(name, '.') : NULL; dot; dot = strchr(dot + 1, '.'))
		match_domain(s, dot + 1, true, ret);
}

/*
 * Addresses of private networks count by whole names only: who writes a rule for one name trusts its owner to say where it
 * leads, in this host's surroundings too; below "*." anybody may have got a name.
 */
static void match_learned(const struct policy_state *s, struct learned *l)
{
	match_name(s, l->name, !net_addr_is_private(&l->addr), &l->rules);
}

/* What is the same for all ports. */
static int prepare_rules(struct engine *g)
{
	struct policy_state *s = g->policy_state;

	memset(s->anybody, 0, sizeof(s->anybody));
	memset(s->by_address, 0, sizeof(s->by_address));
	for (size_t d = 0; d < NET_DIRECTIONS; d++) {
		for (size_t i = 0; i < g->policy->n[d]; i++) {
			const struct net_rule *rule = &g->policy->rules[d][i];
			if (rule->n_peer == 0)
				set_add(&s->anybody[d], i);
			for (size_t k = 0; k < rule->n_peer; k++) {
				if (rule->peer[k].kind != NET_SEL_BOX && rule->peer[k].kind != NET_SEL_LABEL)
					set_add(&s->by_address[d], i);
			}
		}
	}
	int r = index_domains(s, g->policy);
	s->failed = r < 0;
	return r;
}

int policy_new(struct engine *g)
{
	g->policy_state = calloc(1, sizeof(*g->policy_state));
	if (!g->policy_state)
		return -ENOMEM;
	int r = prepare_rules(g);
	if (r < 0)
		policy_free(g);
	return r;
}

void policy_free(struct engine *g)
{
	if (g->policy_state)
		free(g->policy_state->domains);
	free(TAKE_PTR(g->policy_state));
}

int policy_changed(struct engine *g)
{
	struct policy_state *s = g->policy_state;
	int r = prepare_rules(g);

	memset(s->denied, 0, sizeof(s->denied));
	memset(s->logged, 0, sizeof(s->logged));
	s->denied_default = 0;
	for (size_t i = 0; i < NETD_PORTS_MAX; i++) {
		struct port *p = g->ports[i];
		if (!p || !p->policy)
			continue;
		select_port(p);
		for (struct learned *l = p->policy->newest; l; l = l->older)
			match_learned(s, l);
	}
	return r;
}

/* ---- addresses that boxes were told ---- */

static size_t bucket_of(const struct net_addr *a)
{
	struct flow_key k = {.src = *a};
	return flow_hash(&k) % BUCKETS;
}

static void unlink_age(struct policy_port *pp, struct learned *l)
{
	*(l->newer ? &l->newer->older : &pp->newest) = l->older;
	*(l->older ? &l->older->newer : &pp->oldest) = l->newer;
}

static void make_newest(struct policy_port *pp, struct learned *l)
{
	l->newer = NULL;
	l->older = pp->newest;
	*(pp->newest ? &pp->newest->newer : &pp->oldest) = l;
	pp->newest = l;
}

static void forget(struct engine *g, struct policy_port *pp, struct learned *l)
{
	*l->link = l->next;
	if (l->next)
		l->next->link = l->link;
	unlink_age(pp, l);
	pp->n_learned--;
	g->policy_state->n_learned--;
	free(l);
}

/* Who has the most gives the oldest, so that no box can make others forget. */
static void forget_of_greediest(struct engine *g)
{
	struct policy_port *greediest = NULL;

	for (size_t i = 0; i < NETD_PORTS_MAX; i++) {
		struct policy_port *pp = g->ports[i] ? g->ports[i]->policy : NULL;
		if (pp && (!greediest || pp->n_learned > greediest->n_learned))
			greediest = pp;
	}
	if (greediest && greediest->oldest)
		forget(g, greediest, greediest->oldest);
}

/* The entry to be renewed; or NULL, when there is room for one more of this address. */
static struct learned *find_learned(
	struct engine *g, struct policy_port *pp, const char *name, const struct net_addr *a)
{
	struct learned *stalest = NULL;
	unsigned n = 0;

	for (struct learned *l = pp->buckets[bucket_of(a)]; l; l = l->next) {
		if (!net_addr_equal(&l->addr, a))
			continue;
		if (strcmp(l->name, name) == 0)
			return l;
		if (!stalest || l->expires_ns < stalest->expires_ns)
			stalest = l;
		n++;
	}
	if (n >= NAMES_PER_ADDRESS)
		forget(g, pp, stalest);
	return NULL;
}

void policy_learn(struct port *p, const char *name, const struct net_addr *a, uint32_t ttl_s)
{
	struct engine *g = p->g;
	struct policy_port *pp = p->policy;
	size_t len = strnlen(name, NAME_MAX_BYTES + 1);
	uint64_t expires_ns = time_mono_ns() + (MIN_OF(ttl_s, (uint32_t)TTL_MAX_S) + TTL_EXTRA_S) * NS_PER_S;

	if (len > NAME_MAX_BYTES)
		return;
	if (!pp->buckets && !(pp->buckets = calloc(BUCKETS, sizeof(struct learned *))))
		return; /* what is not known is not allowed */
	struct learned *l = find_learned(g, pp, name, a);
	if (l) {
		l->expires_ns = MAX_OF(l->expires_ns, expires_ns);
		unlink_age(pp, l);
		make_newest(pp, l);
		return;
	}
	if (pp->n_learned >= LEARNED_PER_PORT)
		forget(g, pp, pp->oldest);
	else if (g->policy_state->n_learned >= LEARNED_MAX)
		forget_of_greediest(g);
	l = calloc(1, sizeof(*l) + len + 1);
	if (!l)
		return;
	l->addr = *a;
	l->expires_ns = expires_ns;
	memcpy(l->name, name, len);
	match_learned(g->policy_state, l);
	struct learned **bucket = &pp->buckets[bucket_of(a)];
	l->next = *bucket;
	l->link = bucket;
	if (l->next)
		l->next->link = &l->next;
	*bucket = l;
	make_newest(pp, l);
	pp->n_learned++;
	g->policy_state->n_learned++;
}

/* Rules with a domain that the box was told this address for. */
static void rules_of_address(
	const struct policy_port *pp, const struct net_addr *a, bool expired_too, struct rule_set *ret)
{
	uint64_t now = time_mono_ns();

	memset(ret, 0, sizeof(*ret));
	if (!pp->buckets)
		return;
	for (const struct learned *l = pp->buckets[bucket_of(a)]; l; l = l->next) {
		if (!net_addr_equal(&l->addr, a) || (!expired_too && l->expires_ns < now))
			continue;
		for (size_t w = 0; w < WORDS; w++)
			ret->bits[w] |= l->rules.bits[w];
	}
}

int policy_attach(struct port *p)
{
	if (!p->policy)
		p->policy = calloc(1, sizeof(*p->policy));
	if (!p->policy)
		return -ENOMEM;
	select_port(p);
	return 0;
}

void policy_detach(struct port *p)
{
	if (!p->policy)
		return;
	while (p->policy->oldest)
		forget(p->g, p->policy, p->policy->oldest);
	free(p->policy->buckets);
	free(TAKE_PTR(p->policy));
}

/* ---- decisions ---- */

/* One question in one direction: box is whom the rules are for, peer the other side, NULL when it is outside. */
struct question {
	struct engine *g;
	struct port *box, *peer;
	enum net_direction direction;
	const struct flow_key *key;
	const struct net_addr *peer_addr;
	bool quiet;
	bool is_host; /* the peer is this host, by the gateway's address or its own */
	bool have_names;
	struct rule_set names; /* filled when first needed */
};

static bool fits_ports(const struct net_rule *rule, const struct flow_key *k)
{
	if (rule->protocol && rule->protocol != k->proto)
		return false;
	if (rule->n_ports == 0)
		return true;
	if (k->proto != IPPROTO_TCP && k->proto != IPPROTO_UDP)
		return false;
	for (size_t i = 0; i < rule->n_ports; i++) {
		if (k->dport >= rule->ports[i].from && k->dport <= rule->ports[i].to)
			return true;
	}
	return false;
}

/*
 * By what is not membership. A name never means this host, another box, or what is link-local: who owns the name of an
 * outside host writes what addresses it has, and could write theirs (DNS rebinding). What was learned is asked about anew,
 * because the host's addresses may change.
 */
static bool fits_address(struct question *q, const struct net_rule *rule, size_t index)
{
	bool by_name = false;

	for (size_t i = 0; i < rule->n_peer; i++) {
		const struct net_selector *s = &rule->peer[i];
		if (s->kind == NET_SEL_CIDR && net_prefix_has(&s->cidr, q->peer_addr))
			return true;
		if (s->kind == NET_SEL_HOST && q->is_host)
			return true;
		by_name |= s->kind == NET_SEL_DOMAIN;
	}
	if (!by_name || q->peer || q->is_host || net_addr_is_link_local(q->peer_addr) ||
		net_addr_is_martian(q->peer_addr))
		return false;
	if (!q->have_names)
		rules_of_address(q->box->policy, q->peer_addr, q->quiet, &q->names);
	q->have_names = true;
	return set_has(&q->names, index);
}

static void tell(struct question *q, int rule, bool logged)
{
	const struct flow_key *k = q->key;
	struct netd_denial d = {.logged = logged,
		.direction = q->direction,
		.protocol = k->proto,
		.peer = *q->peer_addr,
		.port = k->dport,
		.rule = rule,
		.count = 1};

	if (policy_on_denial)
		policy_on_denial(q->box, &d);
}

/* rule -1: none. Returns false. */
static bool deny(struct question *q, int rule)
{
	struct policy_state *s = q->g->policy_state;

	if (q->quiet)
		return false;
	if (rule < 0)
		s->denied_default++;
	else
		s->denied[q->direction][rule]++;
	q->box->stats.denied++;
	tell(q, rule, false);
	return false;
}

/*
 * Whether the rule, which is about the peer, may allow it: this host is meant only by "host", and what is link-local only by
 * a network within 169.254/16; not by a wider network or by "anybody", which people write and think of the Internet.
 */
static bool may_allow(const struct question *q, const struct net_rule *rule)
{
	bool link_local = !q->peer && q->direction == NET_EGRESS && net_addr_is_link_local(q->peer_addr);

	if (!q->is_host && !link_local)
		return true;
	for (size_t i = 0; i < rule->n_peer; i++) {
		const struct net_selector *s = &rule->peer[i];
		if (q->is_host ? s->kind == NET_SEL_HOST
			       : s->kind == NET_SEL_CIDR && s->cidr.bits >= 96 + 16 &&
					 net_prefix_has(&s->cidr, q->peer_addr))
			return true;
	}
	return false;
}

static bool decide(struct question *q)
{
	struct policy_state *s = q->g->policy_state;
	const struct net_policy *policy = q->g->policy;
	enum net_direction d = q->direction;

	for (size_t w = 0; !s->failed && w * WORD_BITS < policy->n[d]; w++) {
		uint64_t members = s->anybody[d].bits[w] | (q->peer ? q->peer->policy->peer[d].bits[w] : 0);
		uint64_t left = q->box->policy->box[d].bits[w] & (members | s->by_address[d].bits[w]);
		for (; left; left &= left - 1) {
			size_t bit = (size_t)__builtin_ctzll(left), i = w * WORD_BITS + bit;
			const struct net_rule *rule = &policy->rules[d][i];
			if (!fits_ports(rule, q->key) || (!(members >> bit & 1) && !fits_address(q, rule, i)))
				continue;
			if (rule->action == NET_ALLOW && !may_allow(q, rule))
				continue;
			if (rule->action == NET_ALLOW)
				return true;
			if (rule->action == NET_DENY)
				return deny(q, (int)i);
			if (!q->quiet) {
				s->logged[d][i]++;
				tell(q, (int)i, true);
			}
		}
	}
	return deny(q, -1);
}

bool policy_allows(struct engine *g, struct port *from, struct port *to, const struct flow_key *k, bool quiet)
{
	enum net_isolation isolation = g->policy->isolation;
	bool gateway = !to && engine_is_gateway(g, &k->dst);
	struct question out = {.g = g,
		.box = from,
		.peer = to,
		.direction = NET_EGRESS,
		.key = k,
		.peer_addr = &k->dst,
		.quiet = quiet};
	struct question in = {.g = g,
		.box = to,
		.peer = from,
		.direction = NET_INGRESS,
		.key = k,
		.peer_addr = &k->src,
		.quiet = quiet};

	if (isolation == NET_ISOLATION_NONE)
		return true;
	/* The DNS server itself says what may be asked of it. */
	if (gateway && k->dport == DNS_PORT && (k->proto == IPPROTO_UDP || k->proto == IPPROTO_TCP))
		return true;
	/* It leads to an IPv4 address, past the rules about that. */
	if (from && !to && net_addr_is_translated(&k->dst))
		return deny(&out, -1);
	out.is_host = from && !to && (gateway || engine_is_this_host(g, &k->dst));
	if (isolation == NET_ISOLATION_STRICT) {
		if (from && to)
			return deny(&out, -1);
		return !from || decide(&out);
	}
	if (from && !decide(&out))
		return false;
	return !to || decide(&in);
}

bool policy_has_domains(const struct engine *g)
{
	return g->policy_state->n_domains > 0;
}

bool policy_allows_name(struct port *p, const char *name)
{
	const struct net_policy *policy = p->g->policy;
	struct rule_set names;

	if (p->policy->every_name)
		return true;
	if (p->g->policy_state->failed)
		return false;
	match_name(p->g->policy_state, name, true, &names);
	for (size_t i = 0; i < policy->n[NET_EGRESS]; i++) {
		const struct net_rule *rule = &policy->rules[NET_EGRESS][i];
		if (!set_has(&names, i) || !set_has(&p->policy->box[NET_EGRESS], i))
			continue;
		if (rule->action == NET_ALLOW)
			return true;
		if (rule->action == NET_DENY && !rule->protocol && !rule->n_ports)
			return false;
	}
	return false;
}

int policy_report(const struct engine *g, struct netd_report *r)
{
	const struct policy_state *s = g->policy_state;

	r->denied_default = r->denied_total = s->denied_default;
	for (size_t d = 0; d < NET_DIRECTIONS; d++) {
		size_t n = g->policy->n[d];
		r->n_rules[d] = n;
		r->denied[d] = calloc(n + 1, sizeof(**r->denied));
		r->logged[d] = calloc(n + 1, sizeof(**r->logged));
		if (!r->denied[d] || !r->logged[d])
			return -ENOMEM;
		for (size_t i = 0; i < n; i++) {
			r->denied[d][i] = s->denied[d][i];
			r->logged[d][i] = s->logged[d][i];
			r->denied_total += s->denied[d][i];
		}
	}
	return 0;
}
