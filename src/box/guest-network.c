/* SPDX-License-Identifier: MIT */
/*
 * What a box's networks mean to the guest: interfaces, /etc/hosts, /etc/resolv.conf.
 *
 * The resolver of a box with a network is its network's gateway (netd), whatever --dns says: that is where netd sends what it
 * does not know itself. So names of boxes are found, and domain rules learn what names mean.
 */
#include <fcntl.h>
#include <string.h>

#include "base/io.h"
#include "box/network.h"
#include "machine/machine.h"

#define HOST_RESOLV_CONF     "/etc/resolv.conf"
#define HOST_RESOLV_CONF_MAX 65536
#define HOST_GATEWAY	     "host-gateway" /* Docker's word, in --add-host */
#define RESOLVERS_MAX	     3		    /* MAXNS of resolv.h, and musl's */

_Static_assert(
	BOX_LINKS_MAX == WIRE_NICS_MAX && BOX_LINKS_MAX == MACHINE_LINKS_MAX, "a link for each network");

/* ---- interfaces ---- */

/* The network's own, or those of every default network. */
static void net_texts(const struct box_network *n, const char **subnet4, const char **gateway4,
	const char **subnet6, const char **gateway6)
{
	*subnet4 = n ? n->subnet4 : BOX_DEFAULT_SUBNET4;
	*gateway4 = n ? n->gateway4 : BOX_DEFAULT_GATEWAY4;
	*subnet6 = n ? n->subnet6 : BOX_DEFAULT_SUBNET6;
	*gateway6 = n ? n->gateway6 : BOX_DEFAULT_GATEWAY6;
}

static int prefix_of(const char *subnet, uint32_t *ret)
{
	struct net_prefix p;

	if (!subnet || net_prefix_parse(subnet, &p) < 0)
		return -EBADMSG;
	*ret = net_prefix_len(&p);
	return 0;
}

static int copy_text(char **dst, const char *src)
{
	*dst = str_dup(src);
	return src && !*dst ? -ENOMEM : 0;
}

static int fill_nic(
	struct wire_nic *nic, const struct box_endpoint *ep, const struct box_network *n, bool routes)
{
	const char *subnet4, *gateway4, *subnet6, *gateway6;
	int r = 0;

	net_texts(n, &subnet4, &gateway4, &subnet6, &gateway6);
	nic->link = ep->link;
	nic->mtu = NETD_MTU;
	nic->name = str_printf("eth%u", ep->link);
	if (!nic->name || copy_text(&nic->ip4, ep->ip4) < 0 || copy_text(&nic->ip6, ep->ip6) < 0)
		return -ENOMEM;
	if (ep->ip4)
		r = prefix_of(subnet4, &nic->prefix4);
	if (r == 0 && ep->ip6)
		r = prefix_of(subnet6, &nic->prefix6);
	if (r == 0 && routes && ep->ip4)
		r = copy_text(&nic->gateway4, gateway4);
	if (r == 0 && routes && ep->ip6)
		r = copy_text(&nic->gateway6, gateway6);
	return r;
}

int box_main_network(const struct box_network *const *nets, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (!nets[i] || !nets[i]->internal)
			return (int)i;
	}
	return -1;
}

/* ---- /etc/hosts ---- */

static int add_host(struct strv *hosts, const char *address, const char *name)
{
	char *line = str_printf("%s\t%s", address, name);
	return line ? strv_take(hosts, line) : -ENOMEM;
}

/* --add-host; host-gateway is what there is of the two. */
static int add_given_hosts(
	const struct box_config *c, const char *gateway4, const char *gateway6, struct strv *hosts)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < c->add_hosts.n; i++) {
		const char *colon = strchr(c->add_hosts.v[i], ':');
		if (!colon)
			continue;
		bool given = strcmp(colon + 1, HOST_GATEWAY) != 0;
		const char *addresses[] = {given ? colon + 1 : gateway4, given ? NULL : gateway6};
		CLEANUP_FREE char *name = strndup(c->add_hosts.v[i], (size_t)(colon - c->add_hosts.v[i]));
		r = name ? 0 : -ENOMEM;
		for (size_t j = 0; r == 0 && j < ARRAY_LEN(addresses); j++) {
			if (addresses[j])
				r = add_host(hosts, addresses[j], name);
		}
	}
	return r;
}

static int fill_hosts(const struct box_config *c, const struct box_endpoint *eps, size_t n,
	const char *gateway4, const char *gateway6, struct strv *hosts)
{
	bool named = false;
	int r = add_given_hosts(c, gateway4, gateway6, hosts);

	if (r == 0 && (gateway4 || gateway6))
		r = add_host(hosts, gateway4 ? gateway4 : gateway6, NET_HOST_NAME);
	for (size_t i = 0; r == 0 && i < n; i++) {
		const char *addresses[] = {eps[i].ip4, eps[i].ip6};
		for (size_t j = 0; r == 0 && j < ARRAY_LEN(addresses); j++) {
			if (!addresses[j])
				continue;
			r = add_host(hosts, addresses[j], c->hostname);
			named = true;
		}
	}
	/* Without a network the box's own name means the loopback: many programs look it up. */
	return r == 0 && !named ? add_host(hosts, "127.0.0.1", c->hostname) : r;
}

/* ---- /etc/resolv.conf ---- */

static int add_text(struct buf *b, const char *a, const char *sep, const char *end)
{
	int r = buf_append(b, a, strlen(a));
	if (r == 0)
		r = buf_append(b, sep, strlen(sep));
	return r == 0 ? buf_append(b, end, strlen(end)) : r;
}

/* One line of resolv.conf(5) for all values; none for an empty list. */
static int add_list(struct buf *b, const char *key, const struct strv *values)
{
	int r = values->n ? add_text(b, key, "", "") : 0;

	for (size_t i = 0; r == 0 && i < values->n; i++)
		r = add_text(b, " ", values->v[i], "");
	return r == 0 && values->n ? buf_append(b, "\n", 1) : r;
}

/* The words of the last line of the host's file that begins with key. */
static int host_list(const char *key, struct strv *ret)
{
	CLEANUP_FREE char *text = NULL;
	char *save_line = NULL, *save_word = NULL;

	if (io_read_file_at(AT_FDCWD, HOST_RESOLV_CONF, HOST_RESOLV_CONF_MAX, &text, NULL) < 0)
		return 0;
	for (char *line = strtok_r(text, "\n", &save_line); line; line = strtok_r(NULL, "\n", &save_line)) {
		char *word = strtok_r(line, " \t\r", &save_word);
		if (!word || strcmp(word, key) != 0)
			continue;
		strv_done(ret);
		while ((word = strtok_r(NULL, " \t\r", &save_word))) {
			if (strv_push(ret, word) < 0)
				return -ENOMEM;
		}
	}
	return 0;
}

static int add_search(struct buf *b, const struct box_config *c, bool networked)
{
	CLEANUP(strv_done) struct strv host = {0};

	/* Docker's way to ask for no search list at all. */
	if (c->dns_search.n == 1 && strcmp(c->dns_search.v[0], ".") == 0)
		return 0;
	if (c->dns_search.n || !networked)
		return add_list(b, "search", &c->dns_search);
	int r = host_list("search", &host);
	return r == 0 ? add_list(b, "search", &host) : r;
}

/*
 * Every network's own, for the names of its boxes; the one that knows the rest comes last, as the others refuse that
 * (netd_attachment's names_only). Resolvers look at three.
 */
static int add_servers(struct buf *b, const struct box_endpoint *eps, const struct box_network *const *nets,
	size_t n, size_t main_net)
{
	int r = 0;

	for (size_t i = 0, others = 0; r == 0 && i <= n; i++) {
		const char *subnet4, *subnet6, *gateway4, *gateway6;
		size_t at = i < n ? i : main_net;
		if (i < n && (at == main_net || others == RESOLVERS_MAX - 1))
			continue;
		others++;
		net_texts(nets[at], &subnet4, &gateway4, &subnet6, &gateway6);
		const char *gateway = eps[at].ip4 ? gateway4 : eps[at].ip6 ? gateway6 : NULL;
		if (gateway)
			r = add_text(b, "nameserver ", gateway, "\n");
	}
	return r;
}

static int fill_resolv_conf(const struct box_config *c, const struct box_endpoint *eps,
	const struct box_network *const *nets, size_t n, size_t main_net, char **ret)
{
	CLEANUP(buf_done) struct buf b = {0};
	bool networked = n > 0;

	if (!networked && c->dns.n + c->dns_search.n + c->dns_opts.n == 0)
		return 0;
	int r = networked ? add_servers(&b, eps, nets, n, main_net) : 0;
	for (size_t i = 0; r == 0 && !networked && i < c->dns.n; i++)
		r = add_text(&b, "nameserver ", c->dns.v[i], "\n");
	if (r == 0)
		r = add_search(&b, c, networked);
	if (r == 0)
		r = add_list(&b, "options", &c->dns_opts);
	if (r < 0)
		return r;
	*ret = b.len ? strndup((char *)buf_data(&b), b.len) : strdup("");
	return *ret ? 0 : -ENOMEM;
}

/* ---- all of it ---- */

int box_fill_network(const struct box *b, const struct box_endpoint *eps,
	const struct box_network *const *nets, size_t n, struct wire_network *ret, struct err *e)
{
	const struct box_config *c = &b->config;
	const char *subnet4, *subnet6, *gateway4 = NULL, *gateway6 = NULL;
	int route = box_main_network(nets, n), r = 0;

	*ret = (struct wire_network){0};
	if (n > WIRE_NICS_MAX)
		return err_set(e, -E2BIG, "more than %d networks", WIRE_NICS_MAX);
	for (size_t i = 0; r == 0 && i < n; i++) {
		r = fill_nic(&ret->nics[i], &eps[i], nets[i], (int)i == route);
		ret->n_nics = i + 1;
	}
	/* Names are asked where the default route leads, else on the first network. */
	size_t main_net = route < 0 ? 0 : (size_t)route;
	if (n > 0) {
		net_texts(nets[main_net], &subnet4, &gateway4, &subnet6, &gateway6);
		gateway4 = eps[main_net].ip4 ? gateway4 : NULL;
		gateway6 = eps[main_net].ip6 ? gateway6 : NULL;
	}
	if (r == 0)
		r = fill_hosts(c, eps, n, gateway4, gateway6, &ret->hosts);
	if (r == 0)
		r = fill_resolv_conf(c, eps, nets, n, main_net, &ret->resolv_conf);
	if (r < 0) {
		wire_network_done(ret);
		return err_sys(e, r, "network configuration of box %s", b->name);
	}
	return 0;
}
