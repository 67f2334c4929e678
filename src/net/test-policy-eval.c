/* SPDX-License-Identifier: MIT */
/* Three boxes on a network, and a table of who may talk to whom under which rules. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/io.h"
#include "engine.h"

enum { WEB, APP, DB, BOXES, OUT = -1 };

static struct engine g;
static struct port ports[BOXES];
static struct netd_denial last;
static struct port *last_port;
static unsigned n_told;

/* ---- what other parts of the engine would do ---- */

uint64_t flow_hash(const struct flow_key *k)
{
	uint64_t h = 0;

	for (size_t i = 0; i < sizeof(k->src.b); i++)
		h = h * 31 + k->src.b[i];
	return h;
}

bool engine_is_gateway(const struct engine *e, const struct net_addr *a)
{
	return net_addr_equal(a, &e->config.gateway4) || net_addr_equal(a, &e->config.gateway6);
}

/* This host's own, one of them moving. */
static const char *host_moves_to = "203.0.113.5";

bool engine_is_this_host(const struct engine *e, const struct net_addr *a)
{
	char text[NET_ADDR_TEXT_MAX];

	net_addr_text(a, text);
	return strcmp(text, "192.168.1.5") == 0 || strcmp(text, "2001:db8::5") == 0 ||
	       strcmp(text, host_moves_to) == 0;
}

/* Stands for the clock: meson.build renames time_mono_ns. */
static uint64_t now_ns = 1000000000000;

uint64_t time_mono_ns(void)
{
	return now_ns;
}

static void sleep_s(uint64_t s)
{
	now_ns += s * 1000000000;
}

static void note_denial(struct port *p, const struct netd_denial *d)
{
	last = *d;
	last_port = p;
	n_told++;
}

/* ---- the network ---- */

static const char *const addresses[BOXES][2] = {
	{"10.88.0.2", "fd00:88::2"}, {"10.88.0.3", "fd00:88::3"}, {"10.88.0.4", "fd00:88::4"}};

static struct net_addr addr(const char *s)
{
	struct net_addr a;

	if (net_addr_parse(s, &a) < 0)
		fail_msg("%s is no address", s);
	return a;
}

static void set_rules(enum net_isolation isolation, const char *text)
{
	struct err e = {0};
	struct net_policy *p = NULL;

	if (net_policy_parse(isolation, text, &p, &e) < 0)
		fail_msg("%s: %s", text, e.msg);
	net_policy_free(g.policy);
	g.policy = p;
	if (g.policy_state)
		assert_int_equal(policy_changed(&g), 0);
}

static void add_box(size_t i, const char *name, const char *alias, const char *label1, const char *label2)
{
	struct port *p = &ports[i];

	*p = (struct port){.g = &g, .slot = (unsigned)(7 * i), .a.name = strdup(name)};
	strv_push(&p->a.aliases, alias);
	strv_push(&p->a.labels, label1);
	strv_push(&p->a.labels, label2);
	p->a.ip4 = addr(addresses[i][0]);
	p->a.ip6 = addr(addresses[i][1]);
	g.ports[p->slot] = p;
	g.n_ports++;
	assert_int_equal(policy_attach(p), 0);
}

static int set_up(void **state)
{
	g = (struct engine){.config = {.gateway4 = addr("10.88.0.1"), .gateway6 = addr("fd00:88::1")}};
	net_prefix_parse("10.88.0.0/24", &g.config.subnet4);
	net_prefix_parse("fd00:88::/64", &g.config.subnet6);
	set_rules(NET_ISOLATION_CUSTOM, NULL);
	assert_int_equal(policy_new(&g), 0);
	add_box(WEB, "web", "www", "tier=front", "env=prod");
	add_box(APP, "app", "api", "tier=back", "env=prod");
	add_box(DB, "db", "sql", "tier=back", "env=test");
	policy_on_denial = note_denial;
	n_told = 0;
	return 0;
}

static int tear_down(void **state)
{
	for (size_t i = 0; i < BOXES; i++) {
		policy_detach(&ports[i]);
		free(ports[i].a.name);
		strv_done(&ports[i].a.aliases);
		strv_done(&ports[i].a.labels);
	}
	policy_free(&g);
	net_policy_free(TAKE_PTR(g.policy));
	return 0;
}

/* outside: the address of a side that is OUT. */
static struct flow_key key(int from, int to, const char *outside, uint8_t proto, uint16_t port)
{
	int v6 = outside && strchr(outside, ':') ? 1 : 0;

	return (struct flow_key){.src = addr(from == OUT ? outside : addresses[from][v6]),
		.dst = addr(to == OUT ? outside : addresses[to][v6]),
		.sport = 40000,
		.dport = port,
		.proto = proto};
}

static bool asks(int from, int to, const char *outside, uint8_t proto, uint16_t port, bool quiet)
{
	struct flow_key k = key(from, to, outside, proto, port);

	return policy_allows(&g, from == OUT ? NULL : &ports[from], to == OUT ? NULL : &ports[to], &k, quiet);
}

/* ---- the table ---- */

#define TCP   IPPROTO_TCP
#define UDP   IPPROTO_UDP
#define ICMP  IPPROTO_ICMP
#define SCTP  132
#define ALLOW true
#define DENY  false
#define ANY   "{\"action\":\"allow\"}"
/* Egress rules where everything may come in, and the other way round. */
#define EGRESS(rules)  "{\"egress\":[" rules "],\"ingress\":[" ANY "]}"
#define INGRESS(rules) "{\"egress\":[" ANY "],\"ingress\":[" rules "]}"
#define TO(peer)       "{\"peer\":\"" peer "\",\"action\":\"allow\"}"
#define NOT(peer)      "{\"peer\":\"" peer "\",\"action\":\"deny\"}"
#define OF(box, peer)  "{\"box\":\"" box "\",\"peer\":\"" peer "\",\"action\":\"allow\"}"
#define ONLY(members)  "{" members ",\"action\":\"allow\"}"

#define NONE   NET_ISOLATION_NONE
#define STRICT NET_ISOLATION_STRICT
#define CUSTOM NET_ISOLATION_CUSTOM

static const struct {
	enum net_isolation isolation;
	const char *rules;
	int from, to;
	const char *outside; /* address of OUT; between boxes one of the family wanted, NULL: IPv4 */
	uint8_t proto;
	uint16_t port;
	bool want;
	int rule; /* which denied, -1: none */
} cases[] = {
	/* none: all may, whatever the rules say */
	{NONE, NULL, WEB, APP, NULL, TCP, 80, ALLOW, 0},
	{NONE, NULL, WEB, OUT, "192.0.2.1", TCP, 80, ALLOW, 0},
	{NONE, NULL, OUT, WEB, "192.0.2.1", TCP, 80, ALLOW, 0},
	{NONE, EGRESS("{\"action\":\"deny\"}"), WEB, APP, NULL, UDP, 53, ALLOW, 0},

	/* strict: no box to another, outside by rule, published ports are open */
	{STRICT, NULL, WEB, APP, NULL, TCP, 80, DENY, -1},
	{STRICT, NULL, WEB, APP, "fd00::", ICMP, 0, DENY, -1},
	{STRICT, EGRESS(ANY), WEB, APP, NULL, TCP, 80, DENY, -1},
	{STRICT, EGRESS(TO("box:app")), WEB, APP, NULL, TCP, 80, DENY, -1},
	{STRICT, NULL, WEB, OUT, "192.0.2.1", TCP, 80, DENY, -1},
	{STRICT, EGRESS(ANY), WEB, OUT, "192.0.2.1", TCP, 80, ALLOW, 0},
	{STRICT, EGRESS(TO("cidr:192.0.2.0/24")), WEB, OUT, "192.0.2.1", TCP, 80, ALLOW, 0},
	{STRICT, EGRESS(TO("cidr:192.0.2.0/24")), WEB, OUT, "198.51.100.1", TCP, 80, DENY, -1},
	{STRICT, NULL, OUT, WEB, "192.0.2.1", TCP, 80, ALLOW, 0},
	{STRICT, "{\"ingress\":[{\"action\":\"deny\"}]}", OUT, WEB, "192.0.2.1", TCP, 80, ALLOW, 0},
	{STRICT, NULL, WEB, OUT, "10.88.0.1", UDP, 53, ALLOW, 0}, /* the DNS server decides itself */
	{STRICT, NULL, WEB, OUT, "fd00:88::1", TCP, 53, ALLOW, 0},
	{STRICT, NULL, WEB, OUT, "10.88.0.1", ICMP, 0, DENY, -1},
	{STRICT, NULL, WEB, OUT, "192.0.2.1", UDP, 53, DENY, -1},

	/* custom: without rules nothing goes, in no direction */
	{CUSTOM, NULL, WEB, APP, NULL, TCP, 80, DENY, -1},
	{CUSTOM, NULL, WEB, OUT, "192.0.2.1", TCP, 80, DENY, -1},
	{CUSTOM, NULL, OUT, WEB, "192.0.2.1", TCP, 80, DENY, -1},
	{CUSTOM, NULL, WEB, OUT, "10.88.0.1", UDP, 53, ALLOW, 0},
	{CUSTOM, NULL, WEB, OUT, "10.88.0.1", TCP, 5353, DENY, -1},

	/* both sides have to agree */
	{CUSTOM, "{\"egress\":[" ANY "]}", WEB, APP, NULL, TCP, 80, DENY, -1},
	{CUSTOM, "{\"ingress\":[" ANY "]}", WEB, APP, NULL, TCP, 80, DENY, -1},
	{CUSTOM, EGRESS(ANY), WEB, APP, NULL, TCP, 80, ALLOW, 0},
	{CUSTOM, EGRESS(ANY), WEB, APP, "fd00::", SCTP, 0, ALLOW, 0},
	{CUSTOM, "{\"egress\":[" ANY "]}", WEB, OUT, "192.0.2.1", TCP, 80, ALLOW, 0},
	{CUSTOM, "{\"ingress\":[" ANY "]}", OUT, WEB, "192.0.2.1", TCP, 80, ALLOW, 0},

	/* box: names and aliases, of either side */
	{CUSTOM, EGRESS(TO("box:app")), WEB, APP, NULL, TCP, 80, ALLOW, 0},
	{CUSTOM, EGRESS(TO("box:app")), WEB, DB, NULL, TCP, 80, DENY, -1},
	{CUSTOM, EGRESS(TO("box:api")), WEB, APP, "fd00::", TCP, 80, ALLOW, 0},
	{CUSTOM, EGRESS(TO("box:App")), WEB, APP, NULL, TCP, 80, DENY, -1},
	{CUSTOM, EGRESS(TO("box:ap")), WEB, APP, NULL, TCP, 80, DENY, -1},
	{CUSTOM, EGRESS(TO("box:app")), WEB, OUT, "192.0.2.1", TCP, 80, DENY, -1},
	{CUSTOM, EGRESS(OF("box:web", "box:app")), WEB, APP, NULL, TCP, 80, ALLOW, 0},
	{CUSTOM, EGRESS(OF("box:web", "box:app")), DB, APP, NULL, TCP, 80, DENY, -1},
	{CUSTOM, EGRESS(OF("box:web", "box:app")), APP, WEB, NULL, TCP, 80, DENY, -1},
	{CUSTOM, INGRESS(OF("box:app", "box:www")), WEB, APP, NULL, TCP, 80, ALLOW, 0},
	{CUSTOM, INGRESS(OF("box:app", "box:www")), DB, APP, NULL, TCP, 80, DENY, -1},
	{CUSTOM, INGRESS(OF("box:app", "box:www")), WEB, DB, NULL, TCP, 80, DENY, -1},
	{CUSTOM, INGRESS(OF("box:app", "box:www")), OUT, APP, "192.0.2.1", TCP, 80, DENY, -1},
	{CUSTOM, EGRESS(ONLY("\"peer\":[\"box:nobody\",\"box:db\"]")), WEB, DB, NULL, TCP, 80, ALLOW, 0},
	{CUSTOM, EGRESS(ONLY("\"box\":[\"box:nobody\",\"box:db\"]")), DB, WEB, NULL, TCP, 80, ALLOW, 0},
	{CUSTOM, EGRESS(ONLY("\"box\":[\"box:nobody\",\"box:db\"]")), WEB, DB, NULL, TCP, 80, DENY, -1},

	/* labels */
	{CUSTOM, EGRESS(TO("label:tier=back")), WEB, APP, NULL, TCP, 80, ALLOW, 0},
	{CUSTOM, EGRESS(TO("label:tier=back")), WEB, DB, NULL, TCP, 80, ALLOW, 0},
	{CUSTOM, EGRESS(TO("label:tier=back")), DB, WEB, NULL, TCP, 80, DENY, -1},
	{CUSTOM, EGRESS(TO("label:tier")), DB, WEB, NULL, TCP, 80, ALLOW, 0},
	{CUSTOM, EGRESS(TO("label:tie")), DB, WEB, NULL, TCP, 80, DENY, -1},
	{CUSTOM, EGRESS(TO("label:tier=bac")), WEB, APP, NULL, TCP, 80, DENY, -1},
	{CUSTOM, EGRESS(OF("label:tier=front", "label:tier=back")), WEB, APP, NULL, TCP, 80, ALLOW, 0},
	{CUSTOM, EGRESS(OF("label:tier=front", "label:tier=back")), APP, DB, NULL, TCP, 80, DENY, -1},
	{CUSTOM, INGRESS(OF("label:env=test", "label:env=prod")), APP, DB, NULL, TCP, 80, ALLOW, 0},
	{CUSTOM, INGRESS(OF("label:env=test", "label:env=prod")), APP, WEB, NULL, TCP, 80, DENY, -1},

	/* addresses */
	{CUSTOM, EGRESS(TO("cidr:10.88.0.3")), WEB, APP, NULL, TCP, 80, ALLOW, 0},
	{CUSTOM, EGRESS(TO("cidr:10.88.0.3")), WEB, DB, NULL, TCP, 80, DENY, -1},
	{CUSTOM, EGRESS(TO("cidr:10.88.0.3")), WEB, APP, "fd00::", TCP, 80, DENY, -1},
	{CUSTOM, EGRESS(TO("cidr:fd00:88::/64")), WEB, APP, "fd00::", TCP, 80, ALLOW, 0},
	{CUSTOM, EGRESS(TO("cidr:0.0.0.0/0")), WEB, OUT, "192.0.2.1", TCP, 80, ALLOW, 0},
	{CUSTOM, EGRESS(TO("cidr:0.0.0.0/0")), WEB, OUT, "2001:db8::1", TCP, 80, DENY, -1},
	{CUSTOM, EGRESS(TO("cidr:::/0")), WEB, OUT, "192.0.2.1", TCP, 80, DENY, -1},
	{CUSTOM, EGRESS(TO("cidr:::/0")), WEB, OUT, "2001:db8::1", TCP, 80, ALLOW, 0},
	{CUSTOM, INGRESS(TO("cidr:192.0.2.0/24")), OUT, WEB, "192.0.2.77", TCP, 80, ALLOW, 0},
	{CUSTOM, INGRESS(TO("cidr:192.0.2.0/24")), OUT, WEB, "198.51.100.1", TCP, 80, DENY, -1},
	{CUSTOM, INGRESS(TO("cidr:10.88.0.2")), WEB, APP, NULL, TCP, 80, ALLOW, 0},
	{CUSTOM, INGRESS(TO("cidr:10.88.0.2")), DB, APP, NULL, TCP, 80, DENY, -1},

	/* this host */
	{CUSTOM, EGRESS(TO("host")), WEB, OUT, "10.88.0.1", TCP, 5432, ALLOW, 0},
	{CUSTOM, EGRESS(TO("host")), WEB, OUT, "fd00:88::1", ICMP, 0, ALLOW, 0},
	{CUSTOM, EGRESS(TO("host")), WEB, OUT, "192.0.2.1", TCP, 5432, DENY, -1},
	{CUSTOM, EGRESS(TO("host")), WEB, APP, NULL, TCP, 5432, DENY, -1},
	{CUSTOM, EGRESS(NOT("host") "," ANY), WEB, OUT, "10.88.0.1", TCP, 22, DENY, 0},
	{CUSTOM, EGRESS(NOT("host") "," ANY), WEB, OUT, "192.0.2.1", TCP, 22, ALLOW, 0},

	/* by any address of it; and only a rule that says so opens it */
	{CUSTOM, EGRESS(TO("host")), WEB, OUT, "192.168.1.5", TCP, 5432, ALLOW, 0},
	{CUSTOM, EGRESS(TO("host")), WEB, OUT, "2001:db8::5", UDP, 5432, ALLOW, 0},
	{CUSTOM, EGRESS(TO("host")), WEB, OUT, "192.168.1.6", TCP, 5432, DENY, -1},
	{CUSTOM, EGRESS(NOT("host") "," ANY), WEB, OUT, "192.168.1.5", TCP, 22, DENY, 0},
	{CUSTOM, EGRESS(NOT("host") "," ANY), WEB, OUT, "2001:db8::5", TCP, 22, DENY, 0},
	{CUSTOM, EGRESS(ANY), WEB, OUT, "10.88.0.1", TCP, 22, DENY, -1},
	{CUSTOM, EGRESS(ANY), WEB, OUT, "192.168.1.5", TCP, 22, DENY, -1},
	{CUSTOM, EGRESS(ANY), WEB, OUT, "192.168.1.5", UDP, 53, DENY, -1}, /* not our DNS server */
	{CUSTOM, EGRESS(ANY "," TO("host")), WEB, OUT, "192.168.1.5", TCP, 22, ALLOW, 0},
	{CUSTOM, EGRESS(TO("cidr:192.168.0.0/16")), WEB, OUT, "192.168.1.5", TCP, 22, DENY, -1},
	{CUSTOM, EGRESS(TO("cidr:192.168.1.5")), WEB, OUT, "192.168.1.5", TCP, 22, DENY, -1},
	{CUSTOM, EGRESS(NOT("cidr:192.168.1.5") "," TO("host")), WEB, OUT, "192.168.1.5", TCP, 22, DENY, 0},
	{CUSTOM, EGRESS(TO("cidr:10.88.0.0/24")), WEB, OUT, "10.88.0.1", TCP, 22, DENY, -1},
	{STRICT, EGRESS(ANY), WEB, OUT, "192.168.1.5", TCP, 8080, DENY, -1},
	{STRICT, EGRESS(TO("host")), WEB, OUT, "192.168.1.5", TCP, 8080, ALLOW, 0},
	{STRICT, NULL, OUT, WEB, "192.168.1.5", TCP, 80, ALLOW, 0}, /* it comes from there */
	{NONE, NULL, WEB, OUT, "192.168.1.5", TCP, 22, ALLOW, 0},

	/* what is link-local, by a network that is */
	{CUSTOM, EGRESS(ANY), WEB, OUT, "169.254.169.254", TCP, 80, DENY, -1},
	{CUSTOM, EGRESS(TO("cidr:0.0.0.0/0")), WEB, OUT, "169.254.169.254", TCP, 80, DENY, -1},
	{CUSTOM, EGRESS(TO("cidr:169.254.0.0/16")), WEB, OUT, "169.254.169.254", TCP, 80, ALLOW, 0},
	{CUSTOM, EGRESS(OF("box:app", "cidr:169.254.169.254") "," ANY), WEB, OUT, "169.254.169.254", TCP, 80,
		DENY, -1},
	{CUSTOM, EGRESS(OF("box:app", "cidr:169.254.169.254") "," ANY), APP, OUT, "169.254.169.254", TCP, 80,
		ALLOW, 0},

	/* IPv4 in IPv6 */
	{STRICT, EGRESS(ANY), WEB, OUT, "64:ff9b::c0a8:105", TCP, 80, DENY, -1},
	{STRICT, EGRESS(TO("cidr:::/0")), WEB, OUT, "2002:c0a8:105::1", TCP, 80, DENY, -1},
	{NONE, NULL, WEB, OUT, "64:ff9b::c0a8:105", TCP, 80, ALLOW, 0},

	/* protocols and ports */
	{CUSTOM, EGRESS(ONLY("\"protocol\":\"tcp\"")), WEB, APP, NULL, TCP, 80, ALLOW, 0},
	{CUSTOM, EGRESS(ONLY("\"protocol\":\"tcp\"")), WEB, APP, NULL, UDP, 80, DENY, -1},
	{CUSTOM, EGRESS(ONLY("\"protocol\":\"udp\"")), WEB, APP, NULL, UDP, 80, ALLOW, 0},
	{CUSTOM, EGRESS(ONLY("\"protocol\":\"icmp\"")), WEB, APP, NULL, ICMP, 0, ALLOW, 0},
	{CUSTOM, EGRESS(ONLY("\"protocol\":\"icmp\"")), WEB, APP, "fd00::", ICMP, 0, ALLOW, 0},
	{CUSTOM, EGRESS(ONLY("\"protocol\":\"icmp\"")), WEB, APP, NULL, TCP, 0, DENY, -1},
	{CUSTOM, EGRESS(ONLY("\"ports\":\"80,8000-8100\"")), WEB, APP, NULL, TCP, 80, ALLOW, 0},
	{CUSTOM, EGRESS(ONLY("\"ports\":\"80,8000-8100\"")), WEB, APP, NULL, UDP, 8000, ALLOW, 0},
	{CUSTOM, EGRESS(ONLY("\"ports\":\"80,8000-8100\"")), WEB, APP, NULL, TCP, 8100, ALLOW, 0},
	{CUSTOM, EGRESS(ONLY("\"ports\":\"80,8000-8100\"")), WEB, APP, NULL, TCP, 8101, DENY, -1},
	{CUSTOM, EGRESS(ONLY("\"ports\":\"80,8000-8100\"")), WEB, APP, NULL, TCP, 7999, DENY, -1},
	{CUSTOM, EGRESS(ONLY("\"ports\":\"1-65535\"")), WEB, APP, NULL, ICMP, 0, DENY, -1},
	{CUSTOM, EGRESS(ONLY("\"ports\":\"1-65535\"")), WEB, APP, NULL, SCTP, 0, DENY, -1},
	{CUSTOM, EGRESS(ONLY("\"ports\":\"53\",\"protocol\":\"udp\"")), WEB, OUT, "192.0.2.1", TCP, 53, DENY,
		-1},
	{CUSTOM, INGRESS(ONLY("\"ports\":\"443\",\"protocol\":\"tcp\"")), OUT, WEB, "192.0.2.1", TCP, 443,
		ALLOW, 0},
	{CUSTOM, INGRESS(ONLY("\"ports\":\"443\",\"protocol\":\"tcp\"")), OUT, WEB, "192.0.2.1", TCP, 80,
		DENY, -1},

	/* order: the first that decides, does */
	{CUSTOM, EGRESS(NOT("box:app") "," ANY), WEB, APP, NULL, TCP, 80, DENY, 0},
	{CUSTOM, EGRESS(NOT("box:app") "," ANY), WEB, DB, NULL, TCP, 80, ALLOW, 0},
	{CUSTOM, EGRESS(ANY "," NOT("box:app")), WEB, APP, NULL, TCP, 80, ALLOW, 0},
	{CUSTOM, EGRESS(TO("box:app") "," NOT("label:tier=back") "," ANY), WEB, APP, NULL, TCP, 80, ALLOW, 0},
	{CUSTOM, EGRESS(TO("box:app") "," NOT("label:tier=back") "," ANY), WEB, DB, NULL, TCP, 80, DENY, 1},
	{CUSTOM, EGRESS(NOT("cidr:10.88.0.0/24") "," TO("box:app")), WEB, APP, NULL, TCP, 80, DENY, 0},
	{CUSTOM, EGRESS("{\"action\":\"log\"}," ANY), WEB, APP, NULL, TCP, 80, ALLOW, 0},
	{CUSTOM, EGRESS("{\"action\":\"log\"}"), WEB, APP, NULL, TCP, 80, DENY, -1},
	{CUSTOM, EGRESS("{\"action\":\"log\"},{\"action\":\"deny\"}"), WEB, APP, NULL, TCP, 80, DENY, 1},
};

static void the_table_holds(void **state)
{
	assert_true(ARRAY_LEN(cases) >= 80);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		set_rules(cases[i].isolation, cases[i].rules);
		n_told = 0;
		last = (struct netd_denial){0};
		bool quiet = asks(
			cases[i].from, cases[i].to, cases[i].outside, cases[i].proto, cases[i].port, true);
		if (n_told)
			fail_msg("case %zu: a quiet question was told of", i);
		bool got = asks(
			cases[i].from, cases[i].to, cases[i].outside, cases[i].proto, cases[i].port, false);
		if (got != cases[i].want || quiet != got)
			fail_msg("case %zu: %s: %d (quiet %d)", i, cases[i].rules ? cases[i].rules : "-", got,
				quiet);
		if (!got && (!n_told || last.logged || last.rule != cases[i].rule || last.count != 1))
			fail_msg("case %zu: told of %u, by rule %d", i, n_told, last.rule);
		if (got && n_told && !last.logged)
			fail_msg("case %zu: told of a denial that was none", i);
	}
}

static void denials_are_counted_where_they_are(void **state)
{
	struct netd_report r = {0};

	set_rules(CUSTOM, "{\"egress\":[{\"action\":\"log\"}," NOT(
				  "box:db") "," ANY "],"
					    "\"ingress\":[" NOT("label:tier=front") "]}");
	assert_false(asks(WEB, DB, NULL, TCP, 5432, false));
	assert_ptr_equal(last_port, &ports[WEB]);
	assert_int_equal(last.direction, NET_EGRESS);
	assert_int_equal(last.protocol, TCP);
	assert_int_equal(last.port, 5432);
	struct net_addr db = addr(addresses[DB][0]), web = addr(addresses[WEB][0]);
	assert_true(net_addr_equal(&last.peer, &db));
	assert_false(asks(WEB, APP, NULL, UDP, 7, false)); /* who does not take it in notes it */
	assert_ptr_equal(last_port, &ports[APP]);
	assert_int_equal(last.direction, NET_INGRESS);
	assert_true(net_addr_equal(&last.peer, &web));
	assert_false(asks(DB, APP, NULL, ICMP, 0, false));
	assert_int_equal(last.rule, -1);
	assert_false(asks(DB, APP, NULL, ICMP, 0, true));
	assert_int_equal(ports[WEB].stats.denied, 1);
	assert_int_equal(ports[APP].stats.denied, 2);
	assert_int_equal(policy_report(&g, &r), 0);
	assert_int_equal(r.n_rules[NET_EGRESS], 3);
	assert_int_equal(r.n_rules[NET_INGRESS], 1);
	assert_int_equal(r.logged[NET_EGRESS][0], 3);
	assert_int_equal(r.denied[NET_EGRESS][1], 1);
	assert_int_equal(r.denied[NET_INGRESS][0], 1);
	assert_int_equal(r.denied_default, 1);
	assert_int_equal(r.denied_total, 3);
	for (size_t d = 0; d < NET_DIRECTIONS; d++) {
		free(r.denied[d]);
		free(r.logged[d]);
	}
	/* New rules, new counts. */
	r = (struct netd_report){0};
	set_rules(CUSTOM, EGRESS(ANY));
	assert_int_equal(policy_report(&g, &r), 0);
	assert_int_equal(r.denied_total, 0);
	for (size_t d = 0; d < NET_DIRECTIONS; d++) {
		free(r.denied[d]);
		free(r.logged[d]);
	}
}

static void a_box_that_changes_is_seen_anew(void **state)
{
	set_rules(CUSTOM, EGRESS(TO("label:new")));
	assert_false(asks(WEB, APP, NULL, TCP, 80, false));
	strv_push(&ports[APP].a.labels, "new=1");
	assert_int_equal(policy_attach(&ports[APP]), 0);
	assert_true(asks(WEB, APP, NULL, TCP, 80, false));
}

/* ---- names ---- */

static void learn(int box, const char *name, const char *address, uint32_t ttl_s)
{
	struct net_addr a = addr(address);
	policy_learn(&ports[box], name, &a, ttl_s);
}

static bool reaches(int box, const char *address)
{
	return asks(box, OUT, address, TCP, 443, false);
}

static void names_are_the_addresses_that_were_told(void **state)
{
	set_rules(STRICT, EGRESS(NOT("domain:bad.example.org") "," TO("domain:*.example.org") "," OF(
				  "box:app", "domain:example.net")));
	assert_false(reaches(WEB, "192.0.2.1"));
	learn(WEB, "a.example.org", "192.0.2.1", 10);
	learn(WEB, "a.b.example.org", "2001:db8::1", 10);
	learn(WEB, "example.org", "192.0.2.2", 10); /* not below itself */
	learn(WEB, "notexample.org", "192.0.2.3", 10);
	learn(WEB, "bad.example.org", "192.0.2.4", 10);
	learn(WEB, "example.net", "192.0.2.5", 10);
	learn(APP, "example.net", "192.0.2.5", 10);
	assert_true(reaches(WEB, "192.0.2.1"));
	assert_true(reaches(WEB, "2001:db8::1"));
	assert_false(reaches(WEB, "192.0.2.2"));
	assert_false(reaches(WEB, "192.0.2.3"));
	assert_false(reaches(WEB, "192.0.2.4"));
	assert_int_equal(last.rule, 0);
	assert_false(reaches(WEB, "192.0.2.5"));
	assert_true(reaches(APP, "192.0.2.5"));
	assert_false(reaches(APP, "192.0.2.1")); /* others' answers are not its own */
	/* A minute beyond their time. */
	sleep_s(69);
	assert_true(reaches(WEB, "192.0.2.1"));
	learn(WEB, "a.b.example.org", "2001:db8::1", 3600);
	sleep_s(2);
	assert_false(reaches(WEB, "192.0.2.1"));
	assert_true(reaches(WEB, "2001:db8::1"));
	/* What began before may go on. */
	assert_true(asks(WEB, OUT, "192.0.2.1", TCP, 443, true));
	assert_false(asks(WEB, OUT, "192.0.2.4", TCP, 443, true));
	/* New rules know what was learned under the old ones. */
	set_rules(STRICT, EGRESS(TO("domain:example.net") "," TO("domain:a.b.example.org")));
	assert_true(reaches(WEB, "2001:db8::1"));
	assert_false(asks(WEB, OUT, "192.0.2.1", TCP, 443, true));
	set_rules(STRICT, EGRESS(TO("cidr:198.51.100.0/24")));
	assert_false(reaches(WEB, "2001:db8::1"));
}

/* Who owns a name says what its addresses are. */
static void names_lead_to_no_box_and_not_to_the_host(void **state)
{
	set_rules(CUSTOM, EGRESS(TO("domain:evil.example.org")));
	learn(WEB, "evil.example.org", addresses[APP][0], 100);
	learn(WEB, "evil.example.org", "10.88.0.1", 100);
	assert_false(asks(WEB, APP, NULL, TCP, 80, false));
	assert_false(reaches(WEB, "10.88.0.1"));
}

/* Nor to what is around the host, unless a rule has the very name. */
static void names_rebound_lead_nowhere(void **state)
{
	static const char *const around[] = {
		"10.1.2.3", "172.16.0.1", "192.168.1.6", "100.64.0.1", "fc00::1", "fd12::1"};
	static const char *const nowhere[] = {
		"192.168.1.5", "2001:db8::5", "203.0.113.5", "169.254.169.254", "127.0.0.1"};

	set_rules(STRICT, EGRESS(TO("domain:*.example.org") "," TO("domain:in.example.net")));
	for (size_t i = 0; i < ARRAY_LEN(around); i++) {
		learn(WEB, "a.example.org", around[i], 100);
		if (reaches(WEB, around[i]))
			fail_msg("%s by *.", around[i]);
		learn(WEB, "in.example.net", around[i], 100);
		if (!reaches(WEB, around[i]))
			fail_msg("%s by its name", around[i]);
	}
	for (size_t i = 0; i < ARRAY_LEN(nowhere); i++) {
		learn(WEB, "a.example.org", nowhere[i], 100);
		learn(WEB, "in.example.net", nowhere[i], 100);
		if (reaches(WEB, nowhere[i]))
			fail_msg("%s", nowhere[i]);
	}
	/* Learned before the rules, and before the host had it. */
	set_rules(STRICT, EGRESS(TO("domain:*.example.net")));
	assert_false(reaches(WEB, "10.1.2.3"));
	learn(WEB, "x.example.net", "198.51.100.9", 100);
	assert_true(reaches(WEB, "198.51.100.9"));
	host_moves_to = "198.51.100.9";
	assert_false(asks(WEB, OUT, "198.51.100.9", TCP, 443, true));
	assert_false(reaches(WEB, "198.51.100.9"));
	host_moves_to = "203.0.113.5";
}

static void every_one_of_many_domains_is_found(void **state)
{
	enum { MANY = 900 };
	CLEANUP(buf_done) struct buf b = {0};
	char text[100];

	set_rules(STRICT, EGRESS(ANY));
	assert_false(policy_has_domains(&g));
	buf_append(&b, "{\"egress\":[", 11);
	for (unsigned i = 0; i < MANY; i++) { /* in no order, some of them twice */
		unsigned n = i * 7919 % 701;
		int len = snprintf(text, sizeof(text),
			"%s{\"peer\":\"domain:%sd%u.example.org\",\"action\":\"allow\"}", i ? "," : "",
			n % 3 ? "" : "*.", n);
		buf_append(&b, text, (size_t)len);
	}
	buf_append(&b, "]}", 3);
	set_rules(STRICT, (const char *)buf_data(&b));
	assert_true(policy_has_domains(&g));
	for (unsigned n = 0; n < 701; n++) {
		snprintf(text, sizeof(text), "%sd%u.example.org", n % 3 ? "" : "a.", n);
		if (!policy_allows_name(&ports[WEB], text))
			fail_msg("%s", text);
	}
	assert_false(policy_allows_name(&ports[WEB], "d701.example.org"));
	assert_false(policy_allows_name(&ports[WEB], "d0.example.org"));
}

static void what_is_learned_is_bounded(void **state)
{
	char name[32], address[32];

	set_rules(STRICT, EGRESS(TO("domain:*.example.org")));
	for (unsigned i = 0; i < 5000; i++) {
		snprintf(name, sizeof(name), "n%u.example.org", i);
		snprintf(address, sizeof(address), "198.18.%u.%u", i >> 8, i & 255);
		learn(WEB, name, address, 100);
	}
	assert_false(reaches(WEB, "198.18.0.1")); /* the oldest made room */
	assert_true(reaches(WEB, "198.18.19.135"));
	assert_true(reaches(WEB, "198.18.5.0"));
	/* Names of one address: the one that ends first goes. */
	set_rules(STRICT, EGRESS(TO("domain:n0.example.org")));
	learn(WEB, "n0.example.org", "203.0.113.1", 50);
	for (unsigned i = 1; i < 64; i++) {
		snprintf(name, sizeof(name), "n%u.example.org", i);
		learn(WEB, name, "203.0.113.1", 100);
	}
	assert_true(reaches(WEB, "203.0.113.1"));
	learn(WEB, "n64.example.org", "203.0.113.1", 100);
	assert_false(reaches(WEB, "203.0.113.1"));
	/* Too long for a name. */
	char longest[300];
	memset(longest, 'a', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	learn(WEB, longest, "203.0.113.2", 100);
	assert_false(reaches(WEB, "203.0.113.2"));
	/* A time to live that is none. */
	set_rules(STRICT, EGRESS(TO("domain:forever.example.org")));
	learn(WEB, "forever.example.org", "203.0.113.3", UINT32_MAX);
	sleep_s(7 * 86400 + 59);
	assert_true(reaches(WEB, "203.0.113.3"));
	sleep_s(2);
	assert_false(reaches(WEB, "203.0.113.3"));
}

static const struct {
	enum net_isolation isolation;
	const char *rules, *name;
	bool want;
} questions[] = {
	{NONE, NULL, "example.org", true},
	{STRICT, NULL, "example.org", false},
	{CUSTOM, NULL, "example.org", false},
	{STRICT, EGRESS(ANY), "example.org", true},
	{STRICT, EGRESS(TO("cidr:192.0.2.0/24")), "example.org", true},
	{STRICT, EGRESS(TO("cidr:0.0.0.0/0")), "example.org", true},
	{STRICT, EGRESS(NOT("cidr:192.0.2.0/24")), "example.org", false},
	{CUSTOM, EGRESS(TO("cidr:10.88.0.0/24")), "example.org", false}, /* inside of the network */
	{CUSTOM, EGRESS(TO("cidr:10.88.0.3")), "example.org", false},
	{CUSTOM, EGRESS(TO("cidr:fd00:88::/64")), "example.org", false},
	{CUSTOM, EGRESS(TO("cidr:10.88.0.0/16")), "example.org", true},
	{CUSTOM, EGRESS(TO("box:app")), "example.org", false},
	{CUSTOM, EGRESS(TO("host")), "example.org", false},
	{CUSTOM, EGRESS(TO("domain:example.org")), "example.org", true},
	{CUSTOM, EGRESS(TO("domain:example.org")), "www.example.org", false},
	{CUSTOM, EGRESS(TO("domain:*.example.org")), "www.example.org", true},
	{CUSTOM, EGRESS(TO("domain:*.example.org")), "example.org", false},
	{CUSTOM, EGRESS(OF("box:app", "domain:example.org")), "example.org", false}, /* web asks */
	{CUSTOM, EGRESS(OF("box:app", "cidr:0.0.0.0/0") "," TO("domain:a.b")), "example.org", false},
	{CUSTOM, EGRESS(NOT("domain:x.example.org") "," TO("domain:*.example.org")), "x.example.org", false},
	{CUSTOM, EGRESS(NOT("domain:x.example.org") "," TO("domain:*.example.org")), "y.example.org", true},
	{CUSTOM, EGRESS("{\"peer\":\"domain:a.b\",\"ports\":\"25\",\"action\":\"deny\"}," TO("domain:a.b")),
		"a.b", true},
	{CUSTOM, EGRESS("{\"peer\":\"domain:a.b\",\"action\":\"log\"}"), "a.b", false},
	{CUSTOM, EGRESS(ONLY("\"peer\":[\"box:app\",\"domain:a.b\"]")), "a.b", true},
	{CUSTOM, EGRESS(ONLY("\"peer\":[\"domain:a.b\",\"cidr:192.0.2.1\"]")), "c.d", true},
};

static void names_that_may_be_asked_for(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(questions); i++) {
		set_rules(questions[i].isolation, questions[i].rules);
		if (policy_allows_name(&ports[WEB], questions[i].name) != questions[i].want)
			fail_msg("question %zu: %s for %s", i, questions[i].rules, questions[i].name);
	}
}

/* ---- many rules ---- */

static void the_last_of_many_rules_counts(void **state)
{
	CLEANUP(buf_done) struct buf b = {0};
	static const char head[] = "{\"ingress\":[" ANY "],\"egress\":[", tail[] = ANY "]}";

	buf_append(&b, head, sizeof(head) - 1);
	for (unsigned i = 0; i < NET_RULES_MAX - 2; i++) {
		char rule[80];
		int n = snprintf(rule, sizeof(rule), "{\"peer\":\"box:b%u\",\"action\":\"deny\"},", i);
		buf_append(&b, rule, (size_t)n);
	}
	buf_append(&b, tail, sizeof(tail));
	set_rules(CUSTOM, (const char *)buf_data(&b));
	assert_true(asks(WEB, APP, NULL, TCP, 80, false));
	strv_push(&ports[APP].a.aliases, "b1021");
	assert_int_equal(policy_attach(&ports[APP]), 0);
	assert_false(asks(WEB, APP, NULL, TCP, 80, false));
	assert_int_equal(last.rule, 1021);
	assert_true(asks(APP, WEB, NULL, TCP, 80, false));
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(the_table_holds),
		TEST(denials_are_counted_where_they_are),
		TEST(a_box_that_changes_is_seen_anew),
		TEST(names_are_the_addresses_that_were_told),
		TEST(names_lead_to_no_box_and_not_to_the_host),
		TEST(names_rebound_lead_nowhere),
		TEST(every_one_of_many_domains_is_found),
		TEST(what_is_learned_is_bounded),
		TEST(names_that_may_be_asked_for),
		TEST(the_last_of_many_rules_counts),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
