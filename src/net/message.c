/* SPDX-License-Identifier: MIT */
/*
 * Messages of net/net.h. They come from processes of the same user, and yet nothing in them is believed: every member
 * has its type, its range and its greatest length.
 */
#include <inttypes.h>
#include <jansson.h>
#include <string.h>

#include "base/err.h"
#include "base/io.h"
#include "base/units.h"
#include "net/net.h"

enum { NAME_MAX_ = 255, STRING_MAX = 4096, LIST_MAX = 256, CONFIG_MAX = 256 << 10, REPORT_MAX = 4 << 20 };
#define COUNT_MAX INT64_MAX /* of a JSON integer */

/* ---- release ---- */

void netd_config_done(struct netd_config *c)
{
	free(c->id);
	free(c->name);
	free(c->policy);
	free(c->home);
	*c = (struct netd_config){0};
}

void netd_attachment_done(struct netd_attachment *a)
{
	free(a->box);
	free(a->name);
	free(a->hostname);
	free(a->publish);
	strv_done(&a->aliases);
	strv_done(&a->labels);
	strv_done(&a->upstreams);
	strv_done(&a->hosts);
	*a = (struct netd_attachment){0};
}

void netd_request_done(struct netd_request *q)
{
	netd_attachment_done(&q->a);
	free(q->policy);
	*q = (struct netd_request){0};
}

void netd_report_done(struct netd_report *r)
{
	for (size_t i = 0; i < r->n_boxes; i++) {
		free(r->boxes[i].box);
		free(r->boxes[i].name);
	}
	free(r->boxes);
	for (unsigned d = 0; d < NET_DIRECTIONS; d++) {
		free(r->denied[d]);
		free(r->logged[d]);
	}
	*r = (struct netd_report){0};
}

/* ---- writing ---- */

static void json_drop(json_t **j)
{
	json_decref(*j);
}
#define CLEANUP_JSON CLEANUP(json_drop)

/* A failure stays with the writer, so that only its end has to be looked at. */
struct writer {
	json_t *o;
	bool failed;
};

static void put(struct writer *w, const char *name, json_t *value)
{
	if (json_object_set_new(w->o, name, value) < 0) /* takes a NULL as a failure */
		w->failed = true;
}

static void put_text(struct writer *w, const char *name, const char *value)
{
	if (value)
		put(w, name, json_string(value));
}

static void put_count(struct writer *w, const char *name, uint64_t value)
{
	put(w, name, json_integer((json_int_t)MIN_OF(value, (uint64_t)COUNT_MAX)));
}

static void put_addr(struct writer *w, const char *name, const struct net_addr *a)
{
	char text[NET_ADDR_TEXT_MAX];

	if (!net_addr_is_zero(a))
		put_text(w, name, net_addr_text(a, text));
}

static void put_list(struct writer *w, const char *name, const struct strv *list)
{
	json_t *array = json_array();

	for (size_t i = 0; i < list->n; i++) {
		if (json_array_append_new(array, json_string(list->v[i])) < 0)
			w->failed = true;
	}
	put(w, name, array);
}

/* Rules are JSON themselves: as a part of the message they need no second quoting. */
static void put_policy(struct writer *w, enum net_isolation isolation, const char *policy, uint64_t revision)
{
	put_text(w, "isolation", net_isolation_name(isolation));
	if (policy)
		put(w, "policy", json_loads(policy, JSON_REJECT_DUPLICATES, NULL));
	if (revision)
		put_count(w, "revision", revision);
}

/* Ends the writer. */
static char *finish(struct writer *w)
{
	char *text = w->failed ? NULL : json_dumps(w->o, JSON_COMPACT);

	json_decref(w->o);
	w->o = NULL;
	return text;
}

static struct writer begin(void)
{
	struct writer w = {.o = json_object()};

	w.failed = !w.o;
	return w;
}

char *netd_config_text(const struct netd_config *c)
{
	struct writer w = begin();
	char prefix[NET_ADDR_TEXT_MAX + 4];

	put_text(&w, "id", c->id);
	put_text(&w, "name", c->name);
	if (c->subnet4.bits)
		put_text(&w, "subnet4", net_prefix_text(&c->subnet4, prefix));
	if (c->subnet6.bits)
		put_text(&w, "subnet6", net_prefix_text(&c->subnet6, prefix));
	put_addr(&w, "gateway4", &c->gateway4);
	put_addr(&w, "gateway6", &c->gateway6);
	put(&w, "internal", json_boolean(c->internal));
	put(&w, "host_loopback", json_boolean(c->host_loopback));
	put_policy(&w, c->isolation, c->policy, c->revision);
	put_text(&w, "home", c->home);
	return finish(&w);
}

static const char *protocol_name(uint8_t protocol)
{
	return protocol == IPPROTO_TCP ? "tcp" : protocol == IPPROTO_UDP ? "udp" : "icmp";
}

char *netd_attachment_text(const char *op, const struct netd_attachment *a)
{
	struct writer w = begin();
	char text[32];

	put_text(&w, "op", op);
	put_text(&w, "box", a->box);
	put_text(&w, "name", a->name);
	put_text(&w, "hostname", a->hostname);
	put_list(&w, "aliases", &a->aliases);
	put_list(&w, "labels", &a->labels);
	hex_encode(text, a->mac, sizeof(a->mac));
	put_text(&w, "mac", text);
	put_addr(&w, "ip4", &a->ip4);
	put_addr(&w, "ip6", &a->ip6);
	put_list(&w, "upstreams", &a->upstreams);
	put_list(&w, "hosts", &a->hosts);
	put_count(&w, "rate", a->rate_bps);
	put(&w, "names_only", json_boolean(a->names_only));
	json_t *ports = json_array();
	for (size_t i = 0; i < a->n_publish; i++) {
		snprintf(text, sizeof(text), "%u/%s", a->publish[i].guest_port,
			protocol_name(a->publish[i].protocol));
		if (json_array_append_new(ports, json_string(text)) < 0)
			w.failed = true;
	}
	put(&w, "publish", ports);
	return finish(&w);
}

char *netd_policy_text(enum net_isolation isolation, const char *policy, uint64_t revision)
{
	struct writer w = begin();

	put_text(&w, "op", "policy");
	put_policy(&w, isolation, policy, revision);
	return finish(&w);
}

char *netd_refusal_text(int code, const char *error)
{
	struct writer w = begin();
	CLEANUP_FREE char *safe = error ? text_escape_dup(error) : NULL; /* UTF-8, whatever it quotes */

	put(&w, "error", error ? json_string(safe) : json_null());
	if (code)
		put(&w, "code", json_integer(code));
	return finish(&w);
}

char *netd_answer_text(const char *error)
{
	return netd_refusal_text(0, error);
}

static json_t *report_box(const struct netd_report_box *b)
{
	struct writer w = begin();

	put_text(&w, "box", b->box);
	put_text(&w, "name", b->name);
	put_addr(&w, "ip4", &b->ip4);
	put_addr(&w, "ip6", &b->ip6);
	put_count(&w, "rx_bytes", b->rx_bytes);
	put_count(&w, "tx_bytes", b->tx_bytes);
	put_count(&w, "rx_frames", b->rx_frames);
	put_count(&w, "tx_frames", b->tx_frames);
	put_count(&w, "dropped", b->dropped);
	put_count(&w, "denied", b->denied);
	put_count(&w, "connections", b->connections);
	if (!w.failed)
		return w.o;
	json_decref(w.o);
	return NULL;
}

static void put_counts(struct writer *w, const char *name, const uint64_t *v, size_t n)
{
	json_t *array = json_array();

	for (size_t i = 0; i < n; i++) {
		if (json_array_append_new(
			    array, json_integer((json_int_t)MIN_OF(v[i], (uint64_t)COUNT_MAX))) < 0)
			w->failed = true;
	}
	put(w, name, array);
}

static const char *const denied_names[NET_DIRECTIONS] = {"denied_egress", "denied_ingress"};
static const char *const logged_names[NET_DIRECTIONS] = {"logged_egress", "logged_ingress"};

char *netd_report_text(const struct netd_report *r)
{
	struct writer w = begin();
	json_t *boxes = json_array();

	put(&w, "error", json_null());
	for (size_t i = 0; i < r->n_boxes; i++) {
		if (json_array_append_new(boxes, report_box(&r->boxes[i])) < 0)
			w.failed = true;
	}
	put(&w, "boxes", boxes);
	for (unsigned d = 0; d < NET_DIRECTIONS; d++) {
		put_counts(&w, denied_names[d], r->denied[d], r->denied[d] ? r->n_rules[d] : 0);
		put_counts(&w, logged_names[d], r->logged[d], r->logged[d] ? r->n_rules[d] : 0);
	}
	put_count(&w, "denied", r->denied_total);
	put_count(&w, "denied_default", r->denied_default);
	put_count(&w, "spoofed", r->spoofed);
	if (r->next)
		put_count(&w, "next", r->next);
	return finish(&w);
}

static const char *const direction_names[NET_DIRECTIONS] = {"egress", "ingress"};

char *netd_denial_text(const struct netd_denial *d)
{
	struct writer w = begin();

	put_text(&w, "event", "denied");
	put_text(&w, "direction", direction_names[d->direction]);
	put_text(&w, "protocol", protocol_name(d->protocol));
	if (d->protocol != IPPROTO_TCP && d->protocol != IPPROTO_UDP && d->protocol != IPPROTO_ICMP)
		put_count(&w, "protocol", d->protocol);
	put_addr(&w, "peer", &d->peer);
	put_count(&w, "port", d->port);
	put(&w, "rule", d->rule < 0 ? json_null() : json_integer(d->rule));
	put_count(&w, "count", d->count);
	put_text(&w, "action", d->logged ? "log" : "deny");
	return finish(&w);
}

/* ---- reading ---- */

/* As the writer: the first thing that is wrong stays. */
struct reader {
	json_t *o;
	int error; /* 0, -EBADMSG, -ENOMEM */
};

static void bad(struct reader *r)
{
	if (!r->error)
		r->error = -EBADMSG;
}

static int read_object(const char *text, size_t len, size_t max, json_t **ret)
{
	json_error_t je;

	if (len > max)
		return -EBADMSG;
	*ret = json_loadb(text, len, JSON_REJECT_DUPLICATES, &je);
	if (!*ret)
		return json_error_code(&je) == json_error_out_of_memory ? -ENOMEM : -EBADMSG;
	return json_is_object(*ret) ? 0 : -EBADMSG;
}

/* A member's text of at most max bytes, borrowed; NULL when it is absent or null. */
static const char *peek_text(struct reader *r, const char *name, size_t max)
{
	const json_t *j = json_object_get(r->o, name);

	if (!j || json_is_null(j))
		return NULL;
	if (!json_is_string(j) || json_string_length(j) > max) {
		bad(r);
		return NULL;
	}
	return json_string_value(j);
}

static char *get_text(struct reader *r, const char *name, size_t max)
{
	const char *s = peek_text(r, name, max);
	char *copy = str_dup(s);

	if (s && !copy)
		r->error = -ENOMEM;
	return copy;
}

static uint64_t get_count(struct reader *r, const char *name, uint64_t max)
{
	const json_t *j = json_object_get(r->o, name);

	if (!j)
		return 0;
	json_int_t v = json_integer_value(j);
	if (!json_is_integer(j) || v < 0 || (uint64_t)v > max)
		bad(r);
	return v < 0 ? 0 : (uint64_t)v;
}

static bool get_bool(struct reader *r, const char *name)
{
	const json_t *j = json_object_get(r->o, name);

	if (j && !json_is_boolean(j))
		bad(r);
	return json_is_true(j);
}

static struct net_addr get_addr(struct reader *r, const char *name)
{
	const char *s = peek_text(r, name, NET_ADDR_TEXT_MAX);
	struct net_addr a = {0};

	if (s && net_addr_parse(s, &a) < 0)
		bad(r);
	return a;
}

static struct net_prefix get_prefix(struct reader *r, const char *name)
{
	const char *s = peek_text(r, name, NET_ADDR_TEXT_MAX + 4);
	struct net_prefix p = {0};

	if (s && net_prefix_parse(s, &p) < 0)
		bad(r);
	return p;
}

static void get_list(struct reader *r, const char *name, size_t max, struct strv *ret)
{
	const json_t *j = json_object_get(r->o, name);
	size_t i;
	json_t *item;

	if (!j)
		return;
	if (!json_is_array(j) || json_array_size(j) > max) {
		bad(r);
		return;
	}
	json_array_foreach (j, i, item) {
		if (!json_is_string(item) || json_string_length(item) > STRING_MAX)
			bad(r);
		else if (strv_push(ret, json_string_value(item)) < 0)
			r->error = -ENOMEM;
		if (r->error)
			return;
	}
}

/* Rules as text, malloc'd, of a member that is an object, or a text with one in it. What they mean is policy.c's to judge. */
static void get_policy(
	struct reader *r, enum net_isolation *ret_isolation, char **ret_policy, uint64_t *ret_revision)
{
	const char *isolation = peek_text(r, "isolation", NAME_MAX_);
	const json_t *j = json_object_get(r->o, "policy");

	*ret_isolation = NET_ISOLATION_NONE;
	*ret_revision = get_count(r, "revision", COUNT_MAX);
	if (isolation && net_isolation_parse(isolation, ret_isolation) < 0)
		bad(r);
	if (json_is_object(j)) {
		*ret_policy = json_dumps(j, JSON_COMPACT);
		if (!*ret_policy)
			r->error = -ENOMEM;
		else if (strlen(*ret_policy) > NET_POLICY_TEXT_MAX)
			bad(r);
	} else {
		*ret_policy = get_text(r, "policy", NET_POLICY_TEXT_MAX);
	}
}

/* A gateway is in its subnet, and there is one exactly where there is a subnet of its family. */
static bool family_is_sound(const struct net_prefix *subnet, const struct net_addr *gateway, bool is4)
{
	if (!subnet->bits)
		return net_addr_is_zero(gateway);
	return net_addr_is4(&subnet->addr) == is4 && net_addr_is4(gateway) == is4 &&
	       (!is4 || subnet->bits > 96) && net_prefix_has(subnet, gateway);
}

int netd_config_parse(const char *text, size_t len, struct netd_config *ret)
{
	CLEANUP_JSON json_t *j = NULL;
	struct netd_config c = {0};
	struct reader r = {.error = read_object(text, len, CONFIG_MAX, &j)};

	r.o = j;
	if (r.error)
		return r.error;
	c.id = get_text(&r, "id", NAME_MAX_);
	c.name = get_text(&r, "name", NAME_MAX_);
	c.home = get_text(&r, "home", STRING_MAX);
	c.subnet4 = get_prefix(&r, "subnet4");
	c.subnet6 = get_prefix(&r, "subnet6");
	c.gateway4 = get_addr(&r, "gateway4");
	c.gateway6 = get_addr(&r, "gateway6");
	c.internal = get_bool(&r, "internal");
	c.host_loopback = get_bool(&r, "host_loopback");
	get_policy(&r, &c.isolation, &c.policy, &c.revision);
	if (!c.id || !c.name || !family_is_sound(&c.subnet4, &c.gateway4, true) ||
		!family_is_sound(&c.subnet6, &c.gateway6, false) || (!c.subnet4.bits && !c.subnet6.bits))
		bad(&r);
	if (r.error) {
		netd_config_done(&c);
		return r.error;
	}
	*ret = c;
	return 0;
}

/* "80/tcp" */
static int parse_publish(const char *s, struct netd_publish *ret)
{
	char number[8];
	const char *slash = strchr(s, '/');
	uint64_t port;

	if (!slash || (size_t)(slash - s) >= sizeof(number))
		return -EINVAL;
	memcpy(number, s, (size_t)(slash - s));
	number[slash - s] = '\0';
	if (parse_u64(number, 65535, &port) < 0 || port == 0)
		return -EINVAL;
	ret->guest_port = (uint16_t)port;
	ret->protocol = strcmp(slash, "/tcp") == 0 ? IPPROTO_TCP : IPPROTO_UDP;
	return ret->protocol == IPPROTO_TCP || strcmp(slash, "/udp") == 0 ? 0 : -EINVAL;
}

static void get_publish(struct reader *r, struct netd_attachment *a)
{
	const json_t *j = json_object_get(r->o, "publish");
	size_t i, n = json_array_size(j);
	json_t *item;

	if (!j || n == 0) {
		if (j && !json_is_array(j))
			bad(r);
		return;
	}
	if (n > NETD_PUBLISH_MAX) {
		bad(r);
		return;
	}
	a->publish = calloc(n, sizeof(*a->publish));
	if (!a->publish) {
		r->error = -ENOMEM;
		return;
	}
	a->n_publish = n;
	json_array_foreach (j, i, item) {
		if (!json_is_string(item) || parse_publish(json_string_value(item), &a->publish[i]) < 0)
			bad(r);
	}
}

static void get_attachment(struct reader *r, struct netd_attachment *a)
{
	const char *mac = peek_text(r, "mac", 12);

	if (mac && (strlen(mac) != 12 || hex_decode(a->mac, mac, sizeof(a->mac)) < 0 || (a->mac[0] & 1)))
		bad(r);
	a->box = get_text(r, "box", NAME_MAX_);
	a->name = get_text(r, "name", NAME_MAX_);
	a->hostname = get_text(r, "hostname", NAME_MAX_);
	get_list(r, "aliases", LIST_MAX, &a->aliases);
	get_list(r, "labels", LIST_MAX, &a->labels);
	a->ip4 = get_addr(r, "ip4");
	a->ip6 = get_addr(r, "ip6");
	if ((!net_addr_is_zero(&a->ip4) && !net_addr_is4(&a->ip4)) || net_addr_is4(&a->ip6))
		bad(r);
	get_list(r, "upstreams", NETD_UPSTREAMS_MAX, &a->upstreams);
	get_list(r, "hosts", LIST_MAX, &a->hosts);
	a->rate_bps = get_count(r, "rate", COUNT_MAX);
	a->names_only = get_bool(r, "names_only");
	get_publish(r, a);
}

static bool attachment_is_whole(const struct netd_attachment *a)
{
	static const uint8_t none[6];

	return a->box && a->name && memcmp(a->mac, none, sizeof(none)) != 0 &&
	       (!net_addr_is_zero(&a->ip4) || !net_addr_is_zero(&a->ip6));
}

int netd_request_parse(const char *text, size_t len, struct netd_request *ret)
{
	static const char *const names[] = {[NETD_ATTACH] = "attach",
		[NETD_PORTS] = "ports",
		[NETD_UPDATE] = "update",
		[NETD_POLICY] = "policy",
		[NETD_INSPECT] = "inspect"};
	CLEANUP_JSON json_t *j = NULL;
	struct netd_request q = {0};
	struct reader r = {.error = read_object(text, len, NETD_MESSAGE_MAX, &j)};
	size_t op = 0;

	r.o = j;
	if (r.error)
		return r.error;
	const char *name = peek_text(&r, "op", NAME_MAX_);
	while (op < ARRAY_LEN(names) && (!name || strcmp(names[op], name) != 0))
		op++;
	if (op == ARRAY_LEN(names))
		return -EBADMSG;
	q.op = (enum netd_op)op;
	if (q.op == NETD_POLICY)
		get_policy(&r, &q.isolation, &q.policy, &q.revision);
	else if (q.op == NETD_INSPECT)
		q.from = get_count(&r, "from", NETD_PORTS_MAX);
	else
		get_attachment(&r, &q.a);
	if ((q.op == NETD_ATTACH && !attachment_is_whole(&q.a)) || (q.op == NETD_UPDATE && !q.a.name))
		bad(&r);
	if (r.error) {
		netd_request_done(&q);
		return r.error;
	}
	*ret = q;
	return 0;
}

int netd_attachment_parse(const char *text, size_t len, struct netd_attachment *ret)
{
	struct netd_request q = {0};
	int r = netd_request_parse(text, len, &q);

	if (r == 0 && q.op > NETD_UPDATE)
		r = -EBADMSG;
	if (r < 0)
		netd_request_done(&q);
	else
		*ret = q.a;
	return r;
}

static void get_report_box(json_t *j, struct reader *all, struct netd_report_box *b)
{
	struct reader r = {.o = j};

	b->box = get_text(&r, "box", NAME_MAX_);
	b->name = get_text(&r, "name", NAME_MAX_);
	b->ip4 = get_addr(&r, "ip4");
	b->ip6 = get_addr(&r, "ip6");
	b->rx_bytes = get_count(&r, "rx_bytes", COUNT_MAX);
	b->tx_bytes = get_count(&r, "tx_bytes", COUNT_MAX);
	b->rx_frames = get_count(&r, "rx_frames", COUNT_MAX);
	b->tx_frames = get_count(&r, "tx_frames", COUNT_MAX);
	b->dropped = get_count(&r, "dropped", COUNT_MAX);
	b->denied = get_count(&r, "denied", COUNT_MAX);
	b->connections = get_count(&r, "connections", COUNT_MAX);
	if (!b->box || !b->name || !json_is_object(j))
		bad(&r);
	if (r.error && !all->error)
		all->error = r.error;
}

/* *ret has n of them when all is well. */
static uint64_t *get_counts(struct reader *r, const char *name, size_t *ret_n)
{
	const json_t *j = json_object_get(r->o, name);
	size_t i, n = json_array_size(j);
	uint64_t *v = calloc(n ? n : 1, sizeof(*v));
	json_t *item;

	*ret_n = n;
	if (!v)
		r->error = -ENOMEM;
	else if (!json_is_array(j) || n > NET_RULES_MAX)
		bad(r);
	if (r->error)
		return v;
	json_array_foreach (j, i, item) {
		if (!json_is_integer(item) || json_integer_value(item) < 0)
			bad(r);
		v[i] = (uint64_t)json_integer_value(item);
	}
	return v;
}

int netd_report_parse(const char *text, size_t len, struct netd_report *ret)
{
	CLEANUP_JSON json_t *j = NULL;
	struct netd_report p = {0};
	struct reader r = {.error = read_object(text, len, REPORT_MAX, &j)};
	size_t i, n;
	json_t *item;

	r.o = j;
	if (r.error)
		return r.error;
	const json_t *boxes = json_object_get(j, "boxes");
	if (!json_is_array(boxes) || json_array_size(boxes) > NETD_PORTS_MAX)
		return -EBADMSG;
	n = json_array_size(boxes);
	p.boxes = calloc(n ? n : 1, sizeof(*p.boxes));
	if (!p.boxes)
		return -ENOMEM;
	p.n_boxes = n;
	json_array_foreach (boxes, i, item)
		get_report_box(item, &r, &p.boxes[i]);
	for (unsigned d = 0; d < NET_DIRECTIONS; d++) {
		p.denied[d] = get_counts(&r, denied_names[d], &p.n_rules[d]);
		p.logged[d] = get_counts(&r, logged_names[d], &n);
		if (n != p.n_rules[d])
			bad(&r);
	}
	p.denied_total = get_count(&r, "denied", COUNT_MAX);
	p.denied_default = get_count(&r, "denied_default", COUNT_MAX);
	p.spoofed = get_count(&r, "spoofed", COUNT_MAX);
	p.next = get_count(&r, "next", NETD_PORTS_MAX);
	if (r.error) {
		netd_report_done(&p);
		return r.error;
	}
	*ret = p;
	return 0;
}

static uint8_t get_protocol(struct reader *r)
{
	const char *name;

	if (json_is_integer(json_object_get(r->o, "protocol")))
		return (uint8_t)get_count(r, "protocol", 255);
	name = peek_text(r, "protocol", NAME_MAX_);
	if (name && strcmp(name, "tcp") == 0)
		return IPPROTO_TCP;
	if (name && strcmp(name, "udp") == 0)
		return IPPROTO_UDP;
	if (!name || strcmp(name, "icmp") != 0)
		bad(r);
	return IPPROTO_ICMP;
}

int netd_denial_parse(const char *text, size_t len, struct netd_denial *ret)
{
	CLEANUP_JSON json_t *j = NULL;
	struct netd_denial d = {.rule = -1};
	struct reader r = {.error = read_object(text, len, NETD_MESSAGE_MAX, &j)};

	r.o = j;
	if (r.error)
		return r.error;
	const char *event = peek_text(&r, "event", NAME_MAX_);
	if (!event || strcmp(event, "denied") != 0)
		return -ENOMSG;
	const char *direction = peek_text(&r, "direction", NAME_MAX_);
	const char *action = peek_text(&r, "action", NAME_MAX_);
	if (!direction || !action)
		return -EBADMSG;
	d.logged = strcmp(action, "log") == 0;
	d.direction = strcmp(direction, "ingress") == 0 ? NET_INGRESS : NET_EGRESS;
	if (strcmp(direction, direction_names[d.direction]) != 0 ||
		(!d.logged && strcmp(action, "deny") != 0))
		bad(&r);
	d.protocol = get_protocol(&r);
	d.peer = get_addr(&r, "peer");
	d.port = (uint16_t)get_count(&r, "port", 65535);
	if (!json_is_null(json_object_get(j, "rule")))
		d.rule = (int)get_count(&r, "rule", NET_RULES_MAX);
	d.count = get_count(&r, "count", COUNT_MAX);
	if (!r.error)
		*ret = d;
	return r.error;
}
