/* SPDX-License-Identifier: MIT */
/* network inspect: the record, who is on it, and what its process counts. */
#include <string.h>

#include "base/io.h"
#include "format.h"
#include "inspect.h"
#include "network.h"

/* ---- the record ---- */

static void add_config(json_t *list, const char *subnet, const char *gateway)
{
	if (subnet)
		json_array_append_new(
			list, json_pack("{s:s, s:s}", "Subnet", subnet, "Gateway", gateway ? gateway : ""));
}

/* "10.88.0.2/24", "" without an address. */
static json_t *address_json(const char *address, const char *subnet)
{
	struct net_prefix p;

	if (!address || !subnet || net_prefix_parse(subnet, &p) < 0)
		return json_string("");
	return json_sprintf("%s/%u", address, net_prefix_len(&p));
}

static json_t *box_json(const struct box_network *n, const struct box_endpoint *ep)
{
	char mac[24], id[65];
	uint8_t m[6];

	box_mac(ep->box, m);
	snprintf(mac, sizeof(mac), "%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5]);
	network_endpoint_id(id, n->id, ep->box);
	return json_pack("{s:s, s:o, s:s, s:o, s:o, s:o}", "Name", ep->box_name, "EndpointID",
		json_string(id), "MacAddress", mac, "IPv4Address", address_json(ep->ip4, n->subnet4),
		"IPv6Address", address_json(ep->ip6, n->subnet6), "Aliases", json_from_strv(&ep->aliases));
}

static int add_boxes(const struct app *a, const struct box_network *n, json_t *j, struct err *e)
{
	struct box_endpoint *eps = NULL;
	size_t n_eps = 0;
	json_t *boxes = json_object();
	int r = box_endpoints_of_network(a->st, n->id, &eps, &n_eps, e);

	for (size_t i = 0; r == 0 && i < n_eps; i++)
		json_object_set_new(boxes, eps[i].box, box_json(n, &eps[i]));
	box_endpoints_free(eps, n_eps);
	json_object_set_new(j, "Containers", boxes);
	return r;
}

/* ---- the process ---- */

static json_t *counts_json(const uint64_t *denied, const uint64_t *logged, size_t n)
{
	json_t *list = json_array();

	for (size_t i = 0; i < n; i++)
		json_array_append_new(
			list, json_pack("{s:I, s:I}", "Denied", (json_int_t)(denied ? denied[i] : 0),
				      "Logged", (json_int_t)(logged ? logged[i] : 0)));
	return list;
}

static void add_traffic(json_t *boxes, const struct netd_report *report)
{
	for (size_t i = 0; i < report->n_boxes; i++) {
		const struct netd_report_box *b = &report->boxes[i];
		if (b->box)
			json_object_set_new(boxes, b->box,
				json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "Name",
					b->name ? b->name : "", "RxBytes", (json_int_t)b->rx_bytes, "TxBytes",
					(json_int_t)b->tx_bytes, "RxFrames", (json_int_t)b->rx_frames,
					"TxFrames", (json_int_t)b->tx_frames, "Dropped",
					(json_int_t)b->dropped, "Denied", (json_int_t)b->denied,
					"Connections", (json_int_t)b->connections));
	}
}

/* One question; *next is "from" of what is asked, and then of what to ask next, 0: nothing. j NULL: it is made. */
static int ask(int fd, uint64_t *next, json_t **j, struct err *e)
{
	CLEANUP(netd_report_done) struct netd_report report = {0};
	CLEANUP_FREE char *question =
		str_printf("{\"op\":\"inspect\",\"from\":%llu}", (unsigned long long)*next);
	CLEANUP_FREE char *answer = NULL;
	uint64_t from = *next;

	int r = question ? box_netd_call(fd, question, NULL, 0, &answer, e) : err_oom(e);
	if (r == 0)
		r = netd_report_parse(answer, strlen(answer), &report);
	if (r < 0)
		return r;
	if (!*j)
		*j = json_pack("{s:I, s:I, s:I, s:{s:o, s:o}, s:{}}", "Denied",
			(json_int_t)report.denied_total, "DeniedByDefault", (json_int_t)report.denied_default,
			"Spoofed", (json_int_t)report.spoofed, "Rules", "egress",
			counts_json(report.denied[NET_EGRESS], report.logged[NET_EGRESS],
				report.n_rules[NET_EGRESS]),
			"ingress",
			counts_json(report.denied[NET_INGRESS], report.logged[NET_INGRESS],
				report.n_rules[NET_INGRESS]),
			"Boxes");
	add_traffic(json_object_get(*j, "Boxes"), &report);
	*next = report.next > from ? report.next : 0;
	return 0;
}

/* null where no box runs on it: then nothing is counted. */
static json_t *counters_json(const struct app *a, const struct box_network *n)
{
	CLEANUP_CLOSE int fd = box_netd_connect(a->st, n->id, NULL);
	json_t *j = NULL;
	uint64_t next = 0;
	struct err e;
	int r = fd < 0 ? fd : ask(fd, &next, &j, &e);

	while (r == 0 && next)
		r = ask(fd, &next, &j, &e);
	return j ? j : json_null();
}

/* ---- both ---- */

json_t *network_json(const struct app *a, const struct box_network *n, struct err *e)
{
	json_t *config = json_array();

	add_config(config, n->subnet4, n->gateway4);
	add_config(config, n->subnet6, n->gateway6);
	json_t *j = json_pack("{s:s, s:s, s:o, s:s, s:s, s:b, s:b, s:{s:s, s:{}, s:o}, s:b, s:b, s:b}",
		"Name", n->name, "Id", n->id, "Created", inspect_time_json(n->created_ns), "Scope", "local",
		"Driver", n->driver, "EnableIPv4", n->subnet4 != NULL, "EnableIPv6", n->subnet6 != NULL,
		"IPAM", "Driver", "default", "Options", "Config", config, "Internal", n->internal,
		"Attachable", 0, "Ingress", 0);
	int r = j ? add_boxes(a, n, j, e) : err_oom(e);
	if (r < 0) {
		json_decref(j);
		return NULL;
	}
	json_object_set_new(j, "Options", json_from_pairs(&n->opts));
	json_object_set_new(j, "Labels", json_from_pairs(&n->labels));
	json_object_set_new(j, "Isolation", json_string(net_isolation_name(n->isolation)));
	json_object_set_new(
		j, "Policy", n->policy ? json_loads(n->policy, JSON_REJECT_DUPLICATES, NULL) : json_null());
	json_object_set_new(j, "Counters", counters_json(a, n));
	return j;
}

static int get_json(struct app *a, const struct inspect *in, const char *ref, json_t **ret, struct err *e)
{
	CLEANUP(box_network_freep) struct box_network *n = NULL;
	int r = box_network_find(a->st, ref, &n, e);

	if (r == 0 && !(*ret = network_json(a, n, e)))
		r = e->code;
	return r;
}

int cmd_network_inspect(const struct cmd *c, int argc, char **argv)
{
	struct inspect in = {.get = get_json};
	bool verbose = false;
	struct opt opts[] = {
		{'f', "format", OPT_STR, &in.format, "FORMAT", "json, or a template like '{{.Isolation}}'"},
		{'v', "verbose", OPT_FLAG, &verbose, NULL, "accepted: everything is shown anyway"}, {0}};
	struct err e = {0};

	int r = opts_parse(c, opts, OPTS_MIXED, &argc, argv, &e);
	if (r > 0)
		return 0;
	if (r == 0 && argc < 2)
		return app_usage(c, "a network is needed");
	return r < 0 ? app_fail(c, &e, 1) : inspect_all(c, &in, argc, argv);
}
