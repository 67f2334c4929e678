/* SPDX-License-Identifier: MIT */
/* Names and addresses. */
#include <arpa/inet.h>
#include <string.h>

#include "base/io.h"
#include "base/units.h"
#include "spec.h"

static const char name_chars[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.";

#define RESOLV_ENTRIES_MAX 64
#define HOSTS_MAX	   4096
#define RATE_MIN	   8000ull /* bits a second: a packet of the usual size still gets through */
#define RATE_MAX	   1000000000000ull
#define EXPOSE_MAX	   8192

static bool host_name_valid(const char *s, size_t len, size_t max)
{
	return len > 0 && len <= max && strspn(s, name_chars) >= len && s[0] != '-' && s[0] != '.';
}

static bool address_valid(const char *s)
{
	uint8_t addr[16];
	return inet_pton(AF_INET, s, addr) == 1 || inet_pton(AF_INET6, s, addr) == 1;
}

/* "name:address" or "name=address", the address perhaps in brackets, or host-gateway; stored as "name:address". */
static int add_host(const char *s, struct strv *dst, struct err *e)
{
	size_t n = strcspn(s, "=:");
	const char *address = s[n] ? s + n + 1 : "";
	size_t len = strlen(address);

	CLEANUP_FREE char *bare = len > 1 && *address == '[' && address[len - 1] == ']'
					  ? strndup(address + 1, len - 2)
					  : strdup(address);
	if (!bare)
		return err_oom(e);
	/* /etc/hosts has underscores in practice, as compose makes them. */
	size_t valid = 0;
	while (valid < n && (s[valid] == '_' || strchr(name_chars, s[valid])))
		valid++;
	if (n == 0 || n > 253 || valid != n || *s == '-' || *s == '.' ||
		(!address_valid(bare) && strcmp(bare, "host-gateway") != 0))
		return err_set(e, -EINVAL, "--add-host %s: expected NAME:ADDRESS, or NAME:host-gateway", s);
	char *text = str_printf("%.*s:%s", (int)n, s, bare);
	return !text || strv_take(dst, text) < 0 ? err_oom(e) : 0;
}

static int add_dns(const char *s, struct strv *dst, struct err *e)
{
	if (!address_valid(s))
		return err_set(e, -EINVAL, "--dns %s: expected an IP address", s);
	return strv_push(dst, s) < 0 ? err_oom(e) : 0;
}

static int add_dns_search(const char *s, struct strv *dst, struct err *e)
{
	size_t n = strlen(s);
	bool ok = strcmp(s, ".") == 0;

	if (!ok && n > 0 && n <= 254) {
		ok = *s != '.' && *s != '-';
		for (size_t i = 0; i < n; i++)
			ok &= s[i] == '_' || strchr(name_chars, s[i]) != NULL;
	}
	if (!ok)
		return err_set(e, -EINVAL, "--dns-search %s: expected a domain, or . for no search list", s);
	return strv_push(dst, s) < 0 ? err_oom(e) : 0;
}

static int add_dns_option(const char *s, struct strv *dst, struct err *e)
{
	size_t n = strlen(s);
	bool ok = n > 0 && n < 64;

	for (size_t i = 0; i < n; i++)
		ok &= s[i] > ' ' && s[i] < 0x7f;
	if (!ok)
		return err_set(e, -EINVAL,
			"--dns-option \"%s\": expected an option of resolv.conf(5), like ndots:2", s);
	return strv_push(dst, s) < 0 ? err_oom(e) : 0;
}

static int add_each(const char *flag, const struct strv *given, size_t max,
	int (*add)(const char *, struct strv *, struct err *), struct strv *dst, struct err *e)
{
	if (given->n > max)
		return err_set(e, -E2BIG, "%s: more than %zu", flag, max);
	return spec_add_each(given, add, dst, e);
}

/* ---- networks ---- */

/* One more, by the name that the user gave; *ret is to be filled further. */
static int add_network(struct box_config *c, const char *name, struct box_endpoint **ret, struct err *e)
{
	if (strcmp(name, "default") == 0)
		name = BOX_NETWORK_DEFAULT;
	if (strcmp(name, "host") == 0) {
		err_set(e, -ENOTSUP,
			"--network host: a box has a kernel of its own, and so not the host's network");
		return err_hint(e, "publish its ports with -p; it reaches the host as " NET_HOST_NAME);
	}
	if (strncmp(name, "container:", 10) == 0)
		return err_set(e, -ENOTSUP, "--network %s: a box shares its network with no other", name);
	if (!*name)
		return err_set(e, -EINVAL, "--network \"\": expected a network, bridge or none");
	if (c->n_endpoints == BOX_LINKS_MAX)
		return err_set(e, -EMLINK, "--network: a box can be on %d networks", BOX_LINKS_MAX);
	struct box_endpoint *v = reallocarray(c->endpoints, c->n_endpoints + 1, sizeof(*v));
	if (!v)
		return err_oom(e);
	c->endpoints = v;
	*ret = &v[c->n_endpoints++];
	**ret = (struct box_endpoint){.network = strdup(name)};
	return (*ret)->network ? 0 : err_oom(e);
}

static int set_ip(const char *flag, const char *s, bool four, char **dst, struct err *e)
{
	struct net_addr a;
	char text[NET_ADDR_TEXT_MAX];

	if (net_addr_parse(s, &a) < 0 || net_addr_is4(&a) != four || net_addr_is_martian(&a))
		return err_set(e, -EINVAL, "%s %s: expected an %s address", flag, s, four ? "IPv4" : "IPv6");
	free(*dst);
	*dst = strdup(net_addr_text(&a, text));
	return *dst ? 0 : err_oom(e);
}

static int add_alias(const char *flag, const char *s, struct strv *dst, struct err *e)
{
	if (dst->n == BOX_ALIASES_MAX)
		return err_set(e, -E2BIG, "%s: more than %d", flag, BOX_ALIASES_MAX);
	if (!box_alias_valid(s))
		return err_set(e, -EINVAL,
			"%s \"%s\": expected up to 63 letters, digits, - and _, or several such with dots",
			flag, s);
	return strv_push(dst, s) < 0 ? err_oom(e) : 0;
}

/* "name=NET,alias=a,ip=10.88.0.9" */
static int add_long_form(struct box_config *c, const char *s, struct err *e)
{
	CLEANUP_FREE char *copy = strdup(s);
	struct box_endpoint *ep = NULL;
	char *save = NULL;
	int r = 0;

	if (!copy)
		return err_oom(e);
	for (char *f = strtok_r(copy, ",", &save); r == 0 && f; f = strtok_r(NULL, ",", &save)) {
		size_t n = strcspn(f, "=");
		const char *value = f[n] ? f + n + 1 : "";
		f[n] = '\0';
		if (!ep && strcmp(f, "name") == 0)
			r = add_network(c, value, &ep, e);
		else if (ep && strcmp(f, "alias") == 0)
			r = add_alias("--network: alias", value, &ep->aliases, e);
		else if (ep && strcmp(f, "ip") == 0)
			r = set_ip("--network: ip", value, true, &ep->ip4_asked, e);
		else if (ep && strcmp(f, "ip6") == 0)
			r = set_ip("--network: ip6", value, false, &ep->ip6_asked, e);
		else
			r = err_set(e, -EINVAL,
				"--network %s: expected NETWORK, or "
				"name=NETWORK[,alias=NAME][,ip=ADDRESS][,ip6=ADDRESS]",
				s);
	}
	return r;
}

/* --network-alias, --ip and --ip6 are about the first network. */
static int set_first(const struct run_opts *o, struct box_endpoint *ep, struct err *e)
{
	int r = 0;

	if (o->ip && ep->ip4_asked)
		return err_set(e, -EINVAL, "--ip and --network ip= contradict each other: give one of them");
	if (o->ip6 && ep->ip6_asked)
		return err_set(
			e, -EINVAL, "--ip6 and --network ip6= contradict each other: give one of them");
	if (o->ip)
		r = set_ip("--ip", o->ip, true, &ep->ip4_asked, e);
	if (r == 0 && o->ip6)
		r = set_ip("--ip6", o->ip6, false, &ep->ip6_asked, e);
	for (size_t i = 0; r == 0 && i < o->network_aliases.n; i++)
		r = add_alias("--network-alias", o->network_aliases.v[i], &ep->aliases, e);
	return r;
}

/* What does not go together, as far as names tell. */
static int check_networks(const struct run_opts *o, const struct box_config *c, struct err *e)
{
	bool own = false; /* the default network */

	for (size_t i = 0; i < c->n_endpoints; i++) {
		const struct box_endpoint *ep = &c->endpoints[i];
		bool none = strcmp(ep->network, BOX_NETWORK_NONE) == 0;
		bool bridge = strcmp(ep->network, BOX_NETWORK_DEFAULT) == 0;
		own |= bridge;
		if ((none || bridge) && (ep->ip4_asked || ep->ip6_asked || ep->aliases.n))
			return err_set(e, -EINVAL,
				"--ip, --ip6 and --network-alias are for networks that were made for boxes, "
				"not for %s",
				ep->network);
		if (none && c->n_endpoints > 1)
			return err_set(e, -EINVAL, "--network none and --network %s contradict each other",
				c->endpoints[i ? 0 : 1].network);
		if (!none && c->dns.n > NETD_UPSTREAMS_MAX)
			return err_set(e, -E2BIG, "--dns: %zu are given, on a network there can be %d",
				c->dns.n, NETD_UPSTREAMS_MAX);
		if (none && (c->publish.n || c->publish_all))
			return err_set(e, -EINVAL,
				"--publish and --network none contradict each other: without a network no "
				"port can be reached");
	}
	if (!own && c->egress_allow.n) {
		err_set(e, -EINVAL,
			"--egress-allow is about a box's own default network, which it is not on");
		return err_hint(e, "on a network, set its policy: a3s-box network update --policy FILE %s",
			c->endpoints[0].network);
	}
	if (!own && strv_getenv(&c->network_opts, "host-loopback"))
		return err_set(e, -EINVAL,
			"--network-opt host-loopback is about a box's own default network, which it is not "
			"on");
	return 0;
}

/* Bits a second: "100m", "1.5g" is none. */
static int parse_rate(const char *s, uint64_t *ret)
{
	size_t n = strspn(s, "0123456789");
	CLEANUP_FREE char *number = strndup(s, n);
	uint64_t v, unit = 1;

	for (const char *u = "kmg"; *u && s[n]; u++) {
		unit *= 1000;
		if ((s[n] | 0x20) == *u && s[n + 1] == '\0') {
			n++;
			break;
		}
	}
	if (!number || s[n] || parse_u64(number, RATE_MAX / unit, &v) < 0 || v * unit < RATE_MIN)
		return -EINVAL;
	*ret = v * unit;
	return 0;
}

static int add_network_opt(const char *s, struct strv *dst, struct err *e)
{
	char text[64];
	uint64_t rate;

	if (strncmp(s, "rate=", 5) == 0 && parse_rate(s + 5, &rate) == 0)
		snprintf(text, sizeof(text), "rate=%llu", (unsigned long long)rate);
	else if (strcmp(s, "host-loopback=yes") == 0 || strcmp(s, "host-loopback=no") == 0)
		snprintf(text, sizeof(text), "%s", s);
	else
		return err_set(e, -EINVAL,
			"--network-opt %s: expected rate=BITS (a second, like 100m), or host-loopback=yes",
			s);
	return strv_setenv(dst, text) < 0 ? err_oom(e) : 0;
}

static int set_networks(const struct run_opts *o, struct box_config *c, struct err *e)
{
	CLEANUP_FREE char *rules = NULL;
	struct box_endpoint *ep;
	int r = 0;

	if (o->mac_address) {
		err_set(e, -ENOTSUP, "--mac-address %s: a box's address follows from its ID", o->mac_address);
		return err_hint(e, "nobody but the box sees it");
	}
	for (size_t i = 0; r == 0 && i < o->networks.n; i++) {
		const char *s = o->networks.v[i];
		r = strchr(s, '=') ? add_long_form(c, s, e) : add_network(c, s, &ep, e);
	}
	if (r == 0 && c->n_endpoints == 0)
		r = add_network(c, BOX_NETWORK_DEFAULT, &ep, e);
	if (r == 0)
		r = set_first(o, &c->endpoints[0], e);
	if (r == 0)
		r = add_each("--network-opt", &o->network_opts, 64, add_network_opt, &c->network_opts, e);
	if (r == 0 && o->egress_allow.n) {
		r = net_policy_from_egress_allow(&o->egress_allow, &rules, e);
		if (r == 0 && strv_copy(&c->egress_allow, &o->egress_allow) < 0)
			r = err_oom(e);
	}
	return r < 0 ? r : check_networks(o, c, e);
}

int spec_resolve_networks(struct box_config *c, struct state *st, struct err *e)
{
	for (size_t i = 0; i < c->n_endpoints; i++) {
		CLEANUP(box_network_freep) struct box_network *n = NULL;
		struct box_endpoint *ep = &c->endpoints[i];
		int r = box_network_find(st, ep->network, &n, e);
		if (r < 0)
			return err_wrap(e, "--network");
		free(ep->network);
		ep->network = TAKE_PTR(n->id);
		for (size_t k = 0; k < i; k++) {
			if (strcmp(c->endpoints[k].network, ep->network) == 0)
				return err_set(e, -EINVAL, "--network %s: it is given twice", n->name);
		}
	}
	c->network = strdup(c->endpoints[0].network);
	if (!c->network)
		return err_oom(e);
	if (strcmp(c->network, BOX_NETWORK_NONE) == 0) { /* nothing that could be recorded */
		box_endpoints_free(TAKE_PTR(c->endpoints), c->n_endpoints);
		c->n_endpoints = 0;
	}
	return 0;
}

static int set_ports(const struct run_opts *o, struct box_config *c, struct err *e)
{
	int r = add_each("--expose", &o->expose, EXPOSE_MAX, spec_add_expose, &c->exposed_ports, e);

	c->publish_all = o->publish_all;
	if (r < 0 || (!o->publish.n && !o->publish_all))
		return r;
	r = spec_publish_address(&c->publish_address, e);
	for (size_t i = 0; r == 0 && i < o->publish.n; i++)
		r = spec_add_publish(o->publish.v[i], c->publish_address, &c->publish, e);
	return r;
}

int spec_network(const struct run_opts *o, struct box_config *c, struct err *e)
{
	const char *h = o->hostname;

	if (h && !host_name_valid(h, strlen(h), 63))
		return err_set(
			e, -EINVAL, "--hostname \"%s\": expected up to 63 letters, digits, - and .", h);
	c->hostname = str_dup(h);
	if (h && !c->hostname)
		return err_oom(e);
	int r = add_each("--add-host", &o->add_hosts, HOSTS_MAX, add_host, &c->add_hosts, e);
	if (r == 0)
		r = add_each("--dns", &o->dns, RESOLV_ENTRIES_MAX, add_dns, &c->dns, e);
	if (r == 0)
		r = add_each("--dns-search", &o->dns_search, RESOLV_ENTRIES_MAX, add_dns_search,
			&c->dns_search, e);
	if (r == 0)
		r = add_each(
			"--dns-option", &o->dns_opts, RESOLV_ENTRIES_MAX, add_dns_option, &c->dns_opts, e);
	if (r == 0)
		r = set_ports(o, c, e);
	if (r == 0)
		r = set_networks(o, c, e);
	return r;
}
