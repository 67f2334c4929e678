/* SPDX-License-Identifier: MIT */
/* What inspect says of a box's networks and ports. */
#include <string.h>

#include "base/io.h"
#include "box/network.h"
#include "inspect.h"
#include "network.h"
#include "ports.h"

/* Appends {"HostIp", "HostPort"} to the list of one of the box's ports. */
static void add_binding(json_t *ports, unsigned guest, uint8_t protocol, const char *ip, const char *host)
{
	char key[16];

	snprintf(key, sizeof(key), "%u/%s", guest, box_protocol_name(protocol));
	json_t *list = json_object_get(ports, key);
	if (!json_is_array(list)) {
		list = json_array();
		json_object_set_new(ports, key, list);
	}
	json_array_append_new(list, json_pack("{s:s, s:s}", "HostIp", ip, "HostPort", host));
}

static int add_published(const char *box, const struct box_port *p, void *data)
{
	char number[8];

	snprintf(number, sizeof(number), "%u", p->host);
	add_binding(data, p->guest, p->protocol, p->ip, number);
	return 0;
}

/* While it runs: null for what is only exposed. */
static json_t *ports_json(const struct app *a, const struct box *b)
{
	json_t *j = json_object();

	if (!box_is_live(b))
		return j;
	for (size_t i = 0; i < b->config.exposed_ports.n; i++)
		json_object_set_new(j, b->config.exposed_ports.v[i], json_null());
	if (box_ports_read(a->st, b->id, add_published, j, NULL) < 0)
		json_object_clear(j);
	return j;
}

static char *mac_text(const struct box *b, char *dst, size_t size)
{
	uint8_t m[6];

	box_mac(b->id, m);
	snprintf(dst, size, "%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5]);
	return dst;
}

static json_t *text_or_empty(const char *s)
{
	return json_from_text(s ? s : "");
}

static json_int_t prefix_len(const char *subnet)
{
	struct net_prefix p;
	return subnet && net_prefix_parse(subnet, &p) == 0 ? (json_int_t)net_prefix_len(&p) : 0;
}

/* As in Docker, addresses are shown while it runs. */
static json_t *endpoint_json(const struct box *b, const struct box_endpoint *ep, const struct box_network *n)
{
	bool live = box_is_live(b);
	char mac[24] = "", id[BOX_ID_LEN + 1] = "";
	json_t *asked = ep->ip4_asked || ep->ip6_asked ? json_object() : json_null();
	json_t *names = json_from_strv(&ep->aliases);

	if (ep->ip4_asked)
		json_object_set_new(asked, "IPv4Address", json_string(ep->ip4_asked));
	if (ep->ip6_asked)
		json_object_set_new(asked, "IPv6Address", json_string(ep->ip6_asked));
	if (strcmp(ep->network, BOX_NETWORK_DEFAULT) != 0) {
		json_array_insert_new(names, 0, json_string(b->name));
		json_array_append_new(names, json_stringn(b->id, BOX_ID_SHORT_LEN));
	}
	if (live) {
		mac_text(b, mac, sizeof(mac));
		network_endpoint_id(id, n->id, b->id);
	}
	return json_pack("{s:o, s:n, s:o, s:s, s:n, s:s, s:s, s:o, s:o, s:I, s:o, s:o, s:I, s:o}",
		"IPAMConfig", asked, "Links", "Aliases",
		ep->aliases.n ? json_from_strv(&ep->aliases) : json_null(), "MacAddress", mac, "DriverOpts",
		"NetworkID", ep->network, "EndpointID", id, "Gateway",
		text_or_empty(live ? n->gateway4 : NULL), "IPAddress", text_or_empty(live ? ep->ip4 : NULL),
		"IPPrefixLen", live && ep->ip4 ? prefix_len(n->subnet4) : (json_int_t)0, "IPv6Gateway",
		text_or_empty(live && ep->ip6 ? n->gateway6 : NULL), "GlobalIPv6Address",
		text_or_empty(live ? ep->ip6 : NULL), "GlobalIPv6PrefixLen",
		live && ep->ip6 ? prefix_len(n->subnet6) : (json_int_t)0, "DNSNames", names);
}

static json_t *none_json(void)
{
	return json_pack("{s:n, s:n, s:n, s:s, s:n, s:s, s:s, s:s, s:s, s:i, s:s, s:s, s:i, s:n}",
		"IPAMConfig", "Links", "Aliases", "MacAddress", "", "DriverOpts", "NetworkID",
		BOX_NETWORK_NONE, "EndpointID", "", "Gateway", "", "IPAddress", "", "IPPrefixLen", 0,
		"IPv6Gateway", "", "GlobalIPv6Address", "", "GlobalIPv6PrefixLen", 0, "DNSNames");
}

static bool has_none(const struct box *b)
{
	return !b->config.network || strcmp(b->config.network, BOX_NETWORK_NONE) == 0;
}

json_t *inspect_network_settings(const struct app *a, const struct box *b)
{
	static const char *const of_own[] = {"Gateway", "IPAddress", "IPPrefixLen", "IPv6Gateway",
		"GlobalIPv6Address", "GlobalIPv6PrefixLen", "MacAddress", "EndpointID"};
	json_t *networks = json_object(), *none = none_json();
	struct box_endpoint *eps = NULL;
	size_t n = 0;

	if (box_endpoints_of_box(a->st, b->id, &eps, &n, NULL) < 0)
		n = 0;
	for (size_t i = 0; i < n; i++) {
		CLEANUP(box_network_freep) struct box_network *net = NULL;
		if (box_network_find(a->st, eps[i].network, &net, NULL) == 0)
			json_object_set_new(networks, net->name, endpoint_json(b, &eps[i], net));
	}
	box_endpoints_free(eps, n);
	if (has_none(b))
		json_object_set(networks, BOX_NETWORK_NONE, none);
	json_t *j = json_pack("{s:o, s:o}", "Ports", ports_json(a, b), "Networks", networks);
	/* Docker shows those of the default network here as well. */
	const json_t *own = json_object_get(networks, BOX_NETWORK_DEFAULT);
	for (size_t i = 0; i < ARRAY_LEN(of_own); i++)
		json_object_set(j, of_own[i], json_object_get(own ? own : none, of_own[i]));
	json_decref(none);
	return j;
}

static json_t *bindings_json(const struct box_config *c)
{
	json_t *j = json_object();

	for (size_t i = 0; i < c->publish.n; i++) {
		struct box_port p;
		char host[16] = "";
		if (box_port_parse(c->publish.v[i], &p) < 0)
			continue;
		if (p.host_last)
			snprintf(host, sizeof(host), "%u-%u", p.host, p.host_last);
		else if (p.host)
			snprintf(host, sizeof(host), "%u", p.host);
		add_binding(j, p.guest, p.protocol, p.ip, host);
	}
	return j;
}

void inspect_add_network_config(json_t *host_config, const struct app *a, const struct box *b)
{
	CLEANUP(box_network_freep) struct box_network *n = NULL;
	const struct box_config *c = &b->config;
	const char *mode = has_none(b) ? BOX_NETWORK_NONE : c->network;

	if (box_network_find(a->st, mode, &n, NULL) == 0)
		mode = n->name;
	json_object_set_new(host_config, "NetworkMode", json_from_text(mode));
	json_object_set_new(host_config, "PortBindings", bindings_json(c));
	json_object_set_new(host_config, "PublishAllPorts", json_boolean(c->publish_all));
	/* Ours. */
	json_object_set_new(host_config, "EgressAllow", json_from_strv(&c->egress_allow));
	json_object_set_new(host_config, "NetworkOptions", json_from_pairs(&c->network_opts));
}
