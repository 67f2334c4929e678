/* SPDX-License-Identifier: MIT */
/* What the supervisor says to a network's process, and what it hears from it. */
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>

#include <jansson.h>

#include "base/io.h"
#include "base/log.h"
#include "base/units.h"
#include "state/audit.h"
#include "sup-net.h"

/* Of what the user may give more of, netd gets so much: names in /etc/hosts and labels that no policy can mean. */
#define COUNT_MAX (UINT64_C(1) << 32) /* of one message about denials: netd may say anything */
enum { LIST_MAX = 200, LIST_BYTES_MAX = 32 << 10, STRING_MAX = 1024 };

/* ---- connecting ---- */

/* The default network: the same for every box, but for what its options say. */
static int private_config(const struct supervisor *s, struct netd_config *c, char **ret_policy, struct err *e)
{
	const struct box_config *b = &s->box->config;
	const char *loopback = strv_getenv(&b->network_opts, "host-loopback");
	int r;

	*c = (struct netd_config){.id = s->box->id,
		.name = s->box->name,
		.host_loopback = loopback && strcmp(loopback, "yes") == 0,
		.home = s->st->home};
	r = net_prefix_parse(BOX_DEFAULT_SUBNET4, &c->subnet4);
	if (r == 0)
		r = net_prefix_parse(BOX_DEFAULT_SUBNET6, &c->subnet6);
	if (r == 0)
		r = net_addr_parse(BOX_DEFAULT_GATEWAY4, &c->gateway4);
	if (r == 0)
		r = net_addr_parse(BOX_DEFAULT_GATEWAY6, &c->gateway6);
	if (r < 0)
		return err_sys(e, r, "default network");
	if (b->egress_allow.n == 0)
		return 0;
	c->isolation = NET_ISOLATION_CUSTOM;
	r = net_policy_from_egress_allow(&b->egress_allow, ret_policy, e);
	c->policy = *ret_policy;
	return r;
}

int sup_link_connect(struct sup_link *l, struct err *e)
{
	const struct supervisor *s = l->net->s;
	CLEANUP_FREE char *policy = NULL;
	struct netd_config c;

	if (l->network)
		return box_netd_try(s->st, l->network, e);
	int r = private_config(s, &c, &policy, e);
	return r < 0 ? r : box_netd_start_private(&c, &l->pidfd, e);
}

/* ---- attach, ports, update ---- */

static int set_addr(const char *s, struct net_addr *ret)
{
	return s ? net_addr_parse(s, ret) : 0;
}

/* host-gateway means the gateway, of both families. */
static int add_hosts(const struct sup_link *l, struct strv *dst)
{
	const struct strv *given = &l->net->s->box->config.add_hosts;
	const char *gateways[] = {l->network ? l->network->gateway4 : BOX_DEFAULT_GATEWAY4,
		l->network ? l->network->gateway6 : BOX_DEFAULT_GATEWAY6};
	size_t bytes = 0;
	int r = 0;

	for (size_t i = 0; r == 0 && i < given->n; i++) {
		const char *colon = strchr(given->v[i], ':');
		bytes += strlen(given->v[i]);
		if (!colon || bytes > LIST_BYTES_MAX || dst->n >= LIST_MAX) /* /etc/hosts has all of them */
			continue;
		if (strcmp(colon + 1, "host-gateway") != 0) {
			r = strv_push(dst, given->v[i]);
			continue;
		}
		for (size_t k = 0; r == 0 && k < ARRAY_LEN(gateways); k++) {
			char *text = gateways[k] ? str_printf("%.*s:%s", (int)(colon - given->v[i]),
							   given->v[i], gateways[k])
						 : NULL;
			if (gateways[k])
				r = text ? strv_take(dst, text) : -ENOMEM;
		}
	}
	return r;
}

static bool is_text(const char *s, size_t len)
{
	for (size_t i = 0, n; i < len; i += n) {
		n = text_utf8_len((const uint8_t *)s + i, len - i, NULL);
		if (n == 0)
			return false;
	}
	return true;
}

static int add_labels(const struct strv *given, struct strv *dst)
{
	size_t bytes = 0;
	int r = 0;

	for (size_t i = 0; r == 0 && i < given->n && dst->n < LIST_MAX; i++) {
		size_t len = strlen(given->v[i]);
		if (len > STRING_MAX || bytes + len > LIST_BYTES_MAX || !is_text(given->v[i], len))
			continue;
		bytes += len;
		r = strv_push(dst, given->v[i]);
	}
	return r;
}

/* Its aliases, and on a network of one's own its short ID, as in Docker. */
static int add_aliases(const struct sup_link *l, struct strv *dst)
{
	int r = strv_copy(dst, &l->ep->aliases);
	char *id = r == 0 && l->network ? strndup(l->net->s->box->id, BOX_ID_SHORT_LEN) : NULL;

	return id ? strv_take(dst, id) : r;
}

/* The publisher's next ports, up to max. */
static void put_ports(const struct sup_link *l, struct netd_publish *v, int *fds, size_t max, size_t *ret_n)
{
	const struct sup_net *net = l->net;
	size_t n = 0;

	for (size_t i = l->ports_sent; net->publisher == l && i < net->n_ports && n < max; i++, n++) {
		v[n] = (struct netd_publish){
			.protocol = net->ports[i].port.protocol, .guest_port = net->ports[i].port.guest};
		fds[n] = net->ports[i].fd;
	}
	*ret_n = n;
}

static int send_text(struct sup_link *l, const char *text, const int *fds, size_t n, struct err *e)
{
	int r = text ? box_netd_send(l->control, text, fds, n) : -ENOMEM;

	return r < 0 ? err_sys(e, r, "network %s", l->network ? l->network->name : BOX_NETWORK_DEFAULT) : 0;
}

/* Whether another of the box's networks is the one that its resolver asks last. */
static bool is_names_only(const struct sup_link *l)
{
	const struct box_network *networks[BOX_LINKS_MAX];
	const struct sup_link *links[BOX_LINKS_MAX];
	size_t n = 0;

	for (size_t i = 0; i < BOX_LINKS_MAX; i++) {
		const struct sup_link *other = &l->net->links[i];
		if (!other->used || other->doomed)
			continue;
		links[n] = other;
		networks[n++] = other->network;
	}
	int main_net = box_main_network(networks, n);
	return n && links[MAX_OF(main_net, 0)] != l;
}

/* What is to be said of the box on this network. */
static int fill(const struct sup_link *l, struct netd_attachment *a)
{
	const struct box *b = l->net->s->box;
	const char *rate = strv_getenv(&b->config.network_opts, "rate");

	a->box = str_dup(b->id);
	a->name = str_dup(l->net->name);
	a->hostname = str_dup(b->config.hostname);
	a->names_only = is_names_only(l);
	box_mac(b->id, a->mac);
	if (rate && parse_u64(rate, UINT64_MAX, &a->rate_bps) < 0)
		return -EBADMSG;
	int r = a->box && a->name && (a->hostname || !b->config.hostname) ? 0 : -ENOMEM;
	if (r == 0)
		r = set_addr(l->network ? l->ep->ip4 : BOX_DEFAULT_IP4, &a->ip4);
	if (r == 0)
		r = set_addr(l->network ? l->ep->ip6 : BOX_DEFAULT_IP6, &a->ip6);
	if (r == 0)
		r = add_aliases(l, &a->aliases);
	if (r == 0)
		r = add_labels(&b->config.labels, &a->labels);
	for (size_t i = 0; r == 0 && i < b->config.dns.n && i < NETD_UPSTREAMS_MAX; i++)
		r = strv_push(&a->upstreams, b->config.dns.v[i]);
	return r == 0 ? add_hosts(l, &a->hosts) : r;
}

int sup_link_ask(struct sup_link *l, struct err *e)
{
	struct netd_attachment a = {0};
	struct netd_publish publish[NETD_FDS_MAX];
	int fds[NETD_FDS_MAX] = {l->peer};
	int r = fill(l, &a);

	l->stale = false;
	l->ports_sent = 0;
	put_ports(l, publish, fds + 1, NETD_FDS_MAX - 1, &a.n_publish);
	a.publish = publish;
	CLEANUP_FREE char *text = r == 0 ? netd_attachment_text("attach", &a) : NULL;
	if (r < 0)
		err_sys(e, r, "network %s", l->network ? l->network->name : BOX_NETWORK_DEFAULT);
	else
		r = send_text(l, text, fds, 1 + a.n_publish, e);
	l->ports_sent = a.n_publish;
	a.publish = NULL;
	a.n_publish = 0;
	netd_attachment_done(&a);
	return r;
}

int sup_link_send_ports(struct sup_link *l, struct err *e)
{
	struct netd_attachment a = {0};
	struct netd_publish publish[NETD_FDS_MAX];
	int fds[NETD_FDS_MAX];

	put_ports(l, publish, fds, NETD_FDS_MAX, &a.n_publish);
	if (a.n_publish == 0)
		return 0;
	a.publish = publish;
	CLEANUP_FREE char *text = netd_attachment_text("ports", &a);
	int r = send_text(l, text, fds, a.n_publish, e);
	if (r < 0)
		return r;
	l->ports_sent += a.n_publish;
	return 1;
}

static int update(struct sup_link *l, struct err *e)
{
	struct netd_attachment a = {0};
	int r = fill(l, &a);
	CLEANUP_FREE char *text = r == 0 ? netd_attachment_text("update", &a) : NULL;

	netd_attachment_done(&a);
	return r < 0 ? err_sys(e, r, "network") : send_text(l, text, NULL, 0, e);
}

void sup_link_tell_names(struct sup_link *l)
{
	struct err e = {0};

	if (!l->stale || l->phase != LINK_UP)
		return;
	int r = update(l, &e);
	l->stale = r < 0;
	if (r < 0 && r != -EAGAIN) /* which is: answers to others are on the way */
		sup_net_warn(l->net, "%s", e.msg);
}

/* ---- what is written, and not without limit ---- */

/* A box must not be able to push everything else out of the audit log, nor fill the disk with ours. */
static bool may_write(struct sup_bucket *b, unsigned max, uint64_t refill_ns)
{
	uint64_t now = time_mono_ns(), more = (now - b->filled_ns) / refill_ns;

	if (more) {
		b->tokens = (unsigned)MIN_OF(b->tokens + more, (uint64_t)max);
		b->filled_ns += more * refill_ns;
	}
	if (b->tokens == 0)
		return false;
	b->tokens--;
	return true;
}

void sup_net_warn(struct sup_net *net, const char *fmt, ...)
{
	struct sup_bucket *b = &net->warnings;
	char text[ERR_MSG_MAX];
	va_list ap;

	if (!may_write(b, SUP_NET_WARNINGS, SUP_NET_WARNING_REFILL_NS)) {
		b->left_out++;
		return;
	}
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (b->left_out)
		log_warn("%s (%" PRIu64 " warnings were left out)", text, b->left_out);
	else
		log_warn("%s", text);
	b->left_out = 0;
}

static const char *protocol_name(uint8_t p)
{
	return p == IPPROTO_TCP ? "tcp" : p == IPPROTO_UDP ? "udp" : p == IPPROTO_ICMP ? "icmp" : "other";
}

static void write_denial(struct sup_link *l, const struct netd_denial *d)
{
	const struct box *b = l->net->s->box;
	const char *network = l->network ? l->network->name : BOX_NETWORK_DEFAULT;
	const char *direction = d->direction == NET_EGRESS ? "egress" : "ingress";
	char peer[NET_ADDR_TEXT_MAX], port[16] = "", why[32] = ": no rule allows it", text[256];
	struct err e = {0};

	net_addr_text(&d->peer, peer);
	if (d->rule >= 0)
		snprintf(why, sizeof(why), " by rule %s[%d]", direction, d->rule);
	if (d->protocol == IPPROTO_TCP || d->protocol == IPPROTO_UDP)
		snprintf(port, sizeof(port), " port %u", d->port);
	snprintf(text, sizeof(text), "%s: %s %s %s %s%s %s%s", network, direction, protocol_name(d->protocol),
		d->direction == NET_EGRESS ? "to" : "from", peer, port, d->logged ? "logged" : "denied", why);
	json_t *entry = audit_entry_new("network");
	json_t *boxes = json_object_get(entry, "boxes");
	json_array_append_new(boxes, json_pack("{s:s, s:s}", "id", b->id, "name", l->net->name));
	json_object_set_new(entry, "network",
		json_pack("{s:s, s:s, s:s, s:s, s:i, s:o, s:I, s:I}", "name", network, "direction", direction,
			"protocol", protocol_name(d->protocol), "peer", peer, "port", (int)d->port, "rule",
			d->rule >= 0 ? json_integer(d->rule) : json_null(), "count", (json_int_t)d->count,
			"left_out", (json_int_t)l->net->denials[d->direction].left_out));
	if (audit_entry_write(
		    l->net->s->st->home_fd, entry, d->logged ? "success" : "denied", NULL, text, &e) < 0)
		sup_net_warn(l->net, "%s", e.msg);
}

void sup_link_event(struct sup_link *l, const char *text, size_t len)
{
	struct netd_denial d;

	if (netd_denial_parse(text, len, &d) < 0)
		return;
	/* What others try must not hide what the box does. */
	struct sup_bucket *b = &l->net->denials[d.direction];
	d.count = MIN_OF(d.count, COUNT_MAX);
	if (!may_write(b, SUP_NET_DENIALS, SUP_NET_DENIAL_REFILL_NS)) {
		b->left_out = MIN_OF(b->left_out + d.count, (uint64_t)INT64_MAX);
		return;
	}
	write_denial(l, &d);
	b->left_out = 0;
}
