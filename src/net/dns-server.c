/* SPDX-License-Identifier: MIT */
/* What the network itself knows: its boxes, the host, and --add-host. See dns.h. */
#include <string.h>
#include <strings.h>

#include "dns.h"

#define LOCAL_TTL_S 0 /* so that a change is seen at once */
enum { SHORT_ID = 12 };

/* Addresses for a name. */
struct hits {
	struct net_addr *v;
	size_t n, max;
	bool known; /* the name exists, perhaps without an address of the wanted kind */
};

static void hit(struct hits *h, const struct net_addr *a, uint16_t type)
{
	h->known = true;
	if (net_addr_is_zero(a) || h->n >= h->max ||
		(type != DNS_ANY && type != (net_addr_is4(a) ? DNS_A : DNS_AAAA)))
		return;
	h->v[h->n++] = *a;
}

/* "name:address" of --add-host; the address perhaps in brackets. */
static void find_hosts(struct hits *h, const struct port *p, const struct dns_question *q)
{
	for (size_t i = 0; i < p->a.hosts.n; i++) {
		const char *entry = p->a.hosts.v[i], *colon = strchr(entry, ':');
		char text[NET_ADDR_TEXT_MAX];
		struct net_addr a;

		if (!colon || (size_t)(colon - entry) != strlen(q->text) ||
			strncasecmp(entry, q->text, (size_t)(colon - entry)) != 0)
			continue;
		size_t n = strlen(++colon);
		if (n >= 2 && colon[0] == '[' && colon[n - 1] == ']') {
			colon++;
			n -= 2;
		}
		if (n >= sizeof(text))
			continue;
		memcpy(text, colon, n);
		text[n] = 0;
		if (net_addr_parse(text, &a) == 0)
			hit(h, &a, q->type);
	}
}

/* How well a name fits a box: 2 by what it is called on the network, 1 by what it calls itself, 0 not. */
static int fits(const struct netd_attachment *a, const char *name)
{
	if (a->name && strcasecmp(a->name, name) == 0)
		return 2;
	if (a->box && strlen(name) == SHORT_ID && strncasecmp(a->box, name, SHORT_ID) == 0)
		return 2;
	for (size_t i = 0; i < a->aliases.n; i++) {
		if (strcasecmp(a->aliases.v[i], name) == 0)
			return 2;
	}
	return a->hostname && strcasecmp(a->hostname, name) == 0;
}

/* Boxes of that name; those whose hostname it is only when nobody else has it. */
static void find_boxes(struct hits *h, const struct engine *g, const char *name, uint16_t type)
{
	int best = 0;

	if (!*name)
		return;
	for (unsigned i = 0, left = g->n_ports; i < NETD_PORTS_MAX && left; i++) {
		const struct port *p = g->ports[i];
		if (!p)
			continue;
		left--;
		int fit = fits(&p->a, name);
		if (!fit || fit < best)
			continue;
		if (fit > best)
			h->n = 0;
		best = fit;
		hit(h, &p->a.ip4, type);
		hit(h, &p->a.ip6, type);
	}
}

/* The name without ".NETWORK" at its end; NULL when it has no such end. */
static const char *strip_network(const struct engine *g, const char *text, char *buf)
{
	size_t len = strlen(text), n = g->config.name ? strlen(g->config.name) : 0;

	if (!n || len < n + 2 || text[len - n - 1] != '.' || strcasecmp(text + len - n, g->config.name) != 0)
		return NULL;
	memcpy(buf, text, len - n - 1);
	buf[len - n - 1] = 0;
	return buf;
}

static void find(struct hits *h, const struct engine *g, const struct port *p, const struct dns_question *q)
{
	char buf[DNS_TEXT_MAX];

	find_hosts(h, p, q);
	if (h->known)
		return;
	if (strcmp(q->text, NET_HOST_NAME) == 0) {
		hit(h, &g->config.gateway4, q->type);
		hit(h, &g->config.gateway6, q->type);
		return;
	}
	find_boxes(h, g, q->text, q->type);
	const char *name = h->known ? NULL : strip_network(g, q->text, buf);
	if (name)
		find_boxes(h, g, name, q->type);
}

/* ---- reverse ---- */

static bool in_network(const struct engine *g, const struct net_addr *a)
{
	const struct net_prefix *p = net_addr_is4(a) ? &g->config.subnet4 : &g->config.subnet6;

	return p->bits && net_prefix_has(p, a);
}

/* The name of an address of the network. 0, or -ENOENT: nobody has it. */
static int reverse_name(const struct engine *g, const struct net_addr *a, struct dns_name *ret)
{
	char text[DNS_TEXT_MAX];
	const struct port *p = engine_port_of(g, a);

	if (engine_is_gateway(g, a))
		return dns_name_parse(NET_HOST_NAME, ret);
	if (!p || !p->a.name)
		return -ENOENT;
	if (g->config.name &&
		(size_t)snprintf(text, sizeof(text), "%s.%s", p->a.name, g->config.name) < sizeof(text) &&
		dns_name_parse(text, ret) == 0)
		return 0;
	return dns_name_parse(p->a.name, ret) < 0 ? -ENOENT : 0;
}

static void reply_reverse(struct dns_state *d, const struct dns_client *c, const uint8_t *msg,
	const struct dns_question *q, const struct net_addr *a)
{
	struct dns_name target;
	struct dns_writer w;
	unsigned rcode = reverse_name(d->g, a, &target) < 0 ? DNS_NXDOMAIN : DNS_NOERROR;

	dns_write_begin(&w, d->answer, dns_client_max(c, q), msg, q, DNS_AA, rcode);
	if (rcode == DNS_NOERROR && (q->type == DNS_PTR || q->type == DNS_ANY))
		dns_write_ptr(&w, &target, LOCAL_TTL_S);
	dns_reply(c, d->answer, dns_write_end(&w, q, rcode));
}

/* ---- answers ---- */

bool dns_local(
	struct dns_state *d, const struct dns_client *c, const uint8_t *msg, const struct dns_question *q)
{
	struct hits h = {.v = d->found, .max = ARRAY_LEN(d->found)};
	struct dns_writer w;
	struct net_addr a;

	if (q->class != DNS_IN && q->class != DNS_ANY)
		return false;
	if (dns_name_reverse(&q->name, &a) && (in_network(d->g, &a) || engine_is_gateway(d->g, &a))) {
		reply_reverse(d, c, msg, q, &a);
		return true;
	}
	find(&h, d->g, c->port, q);
	if (!h.known)
		return false;
	unsigned rcode = q->edns && q->edns_version ? DNS_BADVERS : DNS_NOERROR; /* RFC 6891 section 6.1.3 */
	dns_write_begin(&w, d->answer, dns_client_max(c, q), msg, q, DNS_AA, rcode);
	/* Each time another one first: programs take the first. */
	size_t first = h.n ? d->turn++ % h.n : 0;
	for (size_t i = 0; i < h.n && rcode == DNS_NOERROR; i++)
		dns_write_address(&w, &h.v[(first + i) % h.n], LOCAL_TTL_S);
	dns_reply(c, d->answer, dns_write_end(&w, q, rcode));
	return true;
}
