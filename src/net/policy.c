/* SPDX-License-Identifier: MIT */
/* The text of policies. Whoever applies a file need not have written it: all of it is checked, and nothing is passed over. */
#include "net/policy.h"

#include <ctype.h>
#include <jansson.h>
#include <string.h>

#include "base/io.h"
#include "base/units.h"

enum { NAME_MAX_BYTES = 253, NAME_LABEL_MAX = 63 }; /* RFC 1035 section 2.3.4 */

static const char *const isolation_names[] = {
	[NET_ISOLATION_NONE] = "none", [NET_ISOLATION_STRICT] = "strict", [NET_ISOLATION_CUSTOM] = "custom"};
static const char *const direction_names[] = {[NET_EGRESS] = "egress", [NET_INGRESS] = "ingress"};
static const char *const action_names[] = {[NET_ALLOW] = "allow", [NET_DENY] = "deny", [NET_LOG] = "log"};
static const char *const selector_names[] = {[NET_SEL_BOX] = "box",
	[NET_SEL_LABEL] = "label",
	[NET_SEL_CIDR] = "cidr",
	[NET_SEL_DOMAIN] = "domain",
	[NET_SEL_HOST] = "host"};
static const struct {
	const char *name;
	uint8_t protocol;
} protocols[] = {{"any", 0}, {"tcp", IPPROTO_TCP}, {"udp", IPPROTO_UDP}, {"icmp", IPPROTO_ICMP}};

const char *net_isolation_name(enum net_isolation i)
{
	return isolation_names[i];
}

static int find_name(const char *const *names, size_t n, const char *s)
{
	for (size_t i = 0; i < n; i++) {
		if (strcmp(names[i], s) == 0)
			return (int)i;
	}
	return -EINVAL;
}

int net_isolation_parse(const char *s, enum net_isolation *ret)
{
	int i = find_name(isolation_names, ARRAY_LEN(isolation_names), s);

	if (i < 0)
		return i;
	*ret = (enum net_isolation)i;
	return 0;
}

static void selectors_free(struct net_selector *v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(v[i].text);
	free(v);
}

void net_policy_free(struct net_policy *p)
{
	if (!p)
		return;
	for (size_t d = 0; d < NET_DIRECTIONS; d++) {
		for (size_t i = 0; i < p->n[d]; i++) {
			struct net_rule *r = &p->rules[d][i];
			selectors_free(r->box, r->n_box);
			selectors_free(r->peer, r->n_peer);
			free(r->ports);
		}
		free(p->rules[d]);
	}
	free(p);
}

/* ---- reading ---- */

/* A name of DNS in letters and digits, "_" as in practice; lower case in place. wildcard: may begin with "*.". */
static bool domain_valid(char *s, bool wildcard)
{
	size_t len = strlen(s);

	if (len > 1 && s[len - 1] == '.')
		s[--len] = '\0';
	if (wildcard && strncmp(s, "*.", 2) == 0) {
		s += 2;
		len -= 2;
	}
	if (len == 0 || len > NAME_MAX_BYTES)
		return false;
	size_t label = 0;
	bool digits = true; /* of the last label: then it is an address, or is to look like one */
	for (char *c = s; *c; c++) {
		*c = (char)tolower((unsigned char)*c);
		if (*c == '.') {
			if (label == 0)
				return false;
			label = 0;
			digits = true;
			continue;
		}
		if (!strchr("abcdefghijklmnopqrstuvwxyz0123456789-_", *c) || ++label > NAME_LABEL_MAX)
			return false;
		digits &= isdigit((unsigned char)*c) != 0;
	}
	return label > 0 && !digits;
}

static bool box_name_valid(const char *s)
{
	size_t n = strlen(s);

	return n > 0 && n <= NAME_MAX_BYTES && isalnum((unsigned char)s[0]) &&
	       strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") == n;
}

static int bad_selector(struct err *e, const char *s, const char *why)
{
	return err_set(e, -EINVAL, "\"%s\": %s", s, why);
}

/* What stands behind "KIND:". */
static int parse_selector_value(struct net_selector *sel, const char *s, const char *value, struct err *e)
{
	switch (sel->kind) {
	case NET_SEL_BOX:
		if (!box_name_valid(value))
			return bad_selector(e, s, "expected the name of a box");
		break;
	case NET_SEL_LABEL:
		if (*value == '\0' || *value == '=')
			return bad_selector(e, s, "expected KEY or KEY=VALUE");
		break;
	case NET_SEL_CIDR:
		if (net_prefix_parse(value, &sel->cidr) < 0)
			return bad_selector(e, s,
				"expected an address or a network like 10.0.0.0/8, without bits behind its "
				"prefix");
		return 0;
	default:
		break;
	}
	sel->text = strdup(value);
	if (!sel->text)
		return err_oom(e);
	if (sel->kind == NET_SEL_DOMAIN && !domain_valid(sel->text, true)) {
		bad_selector(e, s, "expected a name like example.org or *.example.org");
		return err_hint(e, "addresses go into cidr:…, other scripts are written as xn--…");
	}
	return 0;
}

/* ret is filled as far as it comes; its text is the caller's to free also on failure. */
static int parse_selector(
	const char *s, enum net_direction dir, bool is_peer, struct net_selector *ret, struct err *e)
{
	size_t n = strcspn(s, ":");
	int kind = -EINVAL;

	for (size_t i = 0; i < ARRAY_LEN(selector_names); i++) {
		if (strlen(selector_names[i]) == n && strncmp(selector_names[i], s, n) == 0)
			kind = (int)i;
	}
	if (kind < 0 || (kind == NET_SEL_HOST) != (s[n] == '\0')) {
		bad_selector(e, s, "no such selector");
		return err_hint(e, "box:NAME, label:KEY, label:KEY=VALUE, cidr:NETWORK, domain:NAME, "
				   "domain:*.NAME or host");
	}
	ret->kind = (enum net_selector_kind)kind;
	if (!is_peer && kind != NET_SEL_BOX && kind != NET_SEL_LABEL)
		return bad_selector(e, s, "\"box\" takes box:… and label:… only");
	if (dir == NET_INGRESS && (kind == NET_SEL_DOMAIN || kind == NET_SEL_HOST))
		return bad_selector(e, s, "only the peer of an egress rule can be that");
	return kind == NET_SEL_HOST ? 0 : parse_selector_value(ret, s, s + n + 1, e);
}

static int parse_selectors(const json_t *j, enum net_direction dir, bool is_peer, struct net_selector **ret,
	size_t *ret_n, struct err *e)
{
	size_t n = json_is_array(j) ? json_array_size(j) : 1;

	/* An empty list would be nobody to its writer, and everybody to us. */
	if (n == 0)
		return err_set(e, -EINVAL, "an empty list selects nobody");
	if (n > NET_SELECTORS_MAX)
		return err_set(e, -E2BIG, "more than %d selectors", NET_SELECTORS_MAX);
	*ret = calloc(n, sizeof(**ret));
	if (!*ret)
		return err_oom(e);
	for (size_t i = 0; i < n; i++) {
		const char *s = json_string_value(json_is_array(j) ? json_array_get(j, i) : j);
		*ret_n = i + 1;
		int r = s ? parse_selector(s, dir, is_peer, &(*ret)[i], e)
			  : err_set(e, -EINVAL, "expected text like \"box:web\", or a list of such");
		if (r < 0)
			return r;
	}
	return 0;
}

/* "80,443,8000-8100" */
static int parse_ports(const char *s, struct net_rule *rule, struct err *e)
{
	struct net_port_range ranges[NET_PORT_RANGES_MAX];
	const char *p = s;
	size_t n = 0;

	for (bool more = true; more;) {
		struct net_port_range r;
		if (n == NET_PORT_RANGES_MAX)
			return err_set(e, -E2BIG, "\"ports\": more than %d ranges", NET_PORT_RANGES_MAX);
		size_t len = strcspn(p, ",");
		if (parse_port_range(p, len, &r.from, &r.to) < 0 || r.from == 0)
			break;
		ranges[n++] = r;
		p += len;
		more = *p == ',';
		p += more;
		if (!more) {
			rule->ports = calloc(n, sizeof(*rule->ports));
			if (!rule->ports)
				return err_oom(e);
			memcpy(rule->ports, ranges, n * sizeof(*ranges));
			rule->n_ports = n;
			return 0;
		}
	}
	return err_set(
		e, -EINVAL, "\"ports\": \"%s\": expected ports from 1 to 65535 like 80,443,8000-8100", s);
}

static int parse_protocol(const char *s, struct net_rule *rule, struct err *e)
{
	for (size_t i = 0; s && i < ARRAY_LEN(protocols); i++) {
		if (strcmp(protocols[i].name, s) == 0) {
			rule->protocol = protocols[i].protocol;
			return 0;
		}
	}
	return err_set(e, -EINVAL, "\"protocol\": expected tcp, udp, icmp or any");
}

static int parse_member(
	const char *key, const json_t *v, enum net_direction dir, struct net_rule *rule, struct err *e)
{
	const char *s = json_string_value(v);
	int r;

	if (strcmp(key, "box") == 0) {
		r = parse_selectors(v, dir, false, &rule->box, &rule->n_box, e);
		return r == -EINVAL || r == -E2BIG ? err_wrap(e, "\"box\"") : r;
	}
	if (strcmp(key, "peer") == 0) {
		r = parse_selectors(v, dir, true, &rule->peer, &rule->n_peer, e);
		return r == -EINVAL || r == -E2BIG ? err_wrap(e, "\"peer\"") : r;
	}
	if (strcmp(key, "protocol") == 0)
		return parse_protocol(s, rule, e);
	if (strcmp(key, "ports") == 0)
		return s ? parse_ports(s, rule, e)
			 : err_set(e, -EINVAL, "\"ports\": expected text like \"80,443\"");
	if (strcmp(key, "action") == 0) {
		r = s ? find_name(action_names, ARRAY_LEN(action_names), s) : -EINVAL;
		if (r < 0)
			return err_set(e, r, "\"action\": expected allow, deny or log");
		rule->action = (enum net_action)r;
		return 0;
	}
	err_set(e, -EINVAL, "\"%s\": there is no such member", key);
	return err_hint(e, "a rule has box, peer, protocol, ports and action");
}

static int parse_rule(json_t *j, enum net_direction dir, struct net_rule *rule, struct err *e)
{
	const char *key;
	json_t *v;

	if (!json_is_object(j))
		return err_set(e, -EINVAL, "expected an object like {\"action\": \"allow\"}");
	json_object_foreach (j, key, v) {
		int r = parse_member(key, v, dir, rule, e);
		if (r < 0)
			return r;
	}
	if (!json_object_get(j, "action"))
		return err_set(e, -EINVAL, "\"action\" is missing: allow, deny or log");
	if (rule->n_ports && rule->protocol == IPPROTO_ICMP)
		return err_set(e, -EINVAL, "\"ports\": icmp has none");
	return 0;
}

static int parse_rules(const json_t *list, enum net_direction dir, struct net_policy *p, struct err *e)
{
	size_t n = json_array_size(list);

	if (!json_is_array(list))
		return err_set(e, -EINVAL, "\"%s\": expected a list of rules", direction_names[dir]);
	if (n + p->n[NET_EGRESS] + p->n[NET_INGRESS] > NET_RULES_MAX)
		return err_set(e, -E2BIG, "more than %d rules", NET_RULES_MAX);
	p->rules[dir] = calloc(n + 1, sizeof(*p->rules[dir]));
	if (!p->rules[dir])
		return err_oom(e);
	for (size_t i = 0; i < n; i++) {
		p->n[dir] = i + 1;
		int r = parse_rule(json_array_get(list, i), dir, &p->rules[dir][i], e);
		if (r < 0)
			return r == -ENOMEM ? r : err_wrap(e, "%s[%zu]", direction_names[dir], i);
	}
	return 0;
}

static int parse_all(const json_t *j, struct net_policy *p, struct err *e)
{
	const char *key;
	json_t *v;

	if (!json_is_object(j))
		return err_set(e, -EINVAL, "expected an object: {\"egress\": […], \"ingress\": […]}");
	json_object_foreach ((json_t *)j, key, v) {
		int dir = find_name(direction_names, ARRAY_LEN(direction_names), key);
		if (dir < 0) {
			err_set(e, dir, "\"%s\": there is no such member", key);
			return err_hint(e, "a policy has egress and ingress");
		}
		int r = parse_rules(v, (enum net_direction)dir, p, e);
		if (r < 0)
			return r;
	}
	return 0;
}

int net_policy_parse(enum net_isolation isolation, const char *text, struct net_policy **ret, struct err *e)
{
	CLEANUP(net_policy_freep) struct net_policy *p = calloc(1, sizeof(*p));
	struct err ignored;
	json_error_t where;

	e = e ? e : &ignored; /* err_wrap and err_hint return what is in it */
	if (!p)
		return err_oom(e);
	p->isolation = isolation;
	if (text) {
		size_t len = strnlen(text, NET_POLICY_TEXT_MAX + 1);
		if (len > NET_POLICY_TEXT_MAX)
			return err_set(e, -E2BIG, "policy: more than %d KiB", NET_POLICY_TEXT_MAX >> 10);
		json_t *j = json_loadb(text, len, JSON_REJECT_DUPLICATES, &where);
		if (!j)
			return err_set(e, -EINVAL, "policy: line %d: %s", where.line, where.text);
		int r = parse_all(j, p, e);
		json_decref(j);
		if (r < 0)
			return r == -ENOMEM ? r : err_wrap(e, "policy");
	}
	*ret = TAKE_PTR(p);
	return 0;
}

/* ---- writing ---- */

static json_t *selector_json(const struct net_selector *s)
{
	char text[NET_ADDR_TEXT_MAX + 4];

	switch (s->kind) {
	case NET_SEL_HOST:
		return json_string("host");
	case NET_SEL_CIDR:
		return json_sprintf("cidr:%s", net_prefix_text(&s->cidr, text));
	default:
		return json_sprintf("%s:%s", selector_names[s->kind], s->text);
	}
}

/* One alone is no list, as people write it. */
static json_t *selectors_json(const struct net_selector *v, size_t n)
{
	json_t *list = n == 1 ? NULL : json_array();

	if (n == 1)
		return selector_json(v);
	for (size_t i = 0; i < n; i++) {
		if (json_array_append_new(list, selector_json(&v[i])) < 0) {
			json_decref(list);
			return NULL;
		}
	}
	return list;
}

static json_t *ports_json(const struct net_rule *rule)
{
	char text[NET_PORT_RANGES_MAX * 12];
	size_t used = 0;

	for (size_t i = 0; i < rule->n_ports; i++) {
		const struct net_port_range *r = &rule->ports[i];
		used += (size_t)snprintf(
			text + used, sizeof(text) - used, "%s%u", i ? "," : "", (unsigned)r->from);
		if (r->to != r->from)
			used += (size_t)snprintf(text + used, sizeof(text) - used, "-%u", (unsigned)r->to);
	}
	return json_stringn(text, used);
}

static const char *protocol_name(uint8_t protocol)
{
	for (size_t i = 0; i < ARRAY_LEN(protocols); i++) {
		if (protocols[i].protocol == protocol)
			return protocols[i].name;
	}
	return "any";
}

/* NULL when out of memory. */
static json_t *rule_json(const struct net_rule *rule)
{
	json_t *j = json_object();
	int r = 0;

	if (rule->n_box)
		r |= json_object_set_new(j, "box", selectors_json(rule->box, rule->n_box));
	if (rule->n_peer)
		r |= json_object_set_new(j, "peer", selectors_json(rule->peer, rule->n_peer));
	if (rule->protocol)
		r |= json_object_set_new(j, "protocol", json_string(protocol_name(rule->protocol)));
	if (rule->n_ports)
		r |= json_object_set_new(j, "ports", ports_json(rule));
	r |= json_object_set_new(j, "action", json_string(action_names[rule->action]));
	if (r < 0) {
		json_decref(j);
		return NULL;
	}
	return j;
}

char *net_policy_text(const struct net_policy *p)
{
	json_t *j = json_object();
	int r = 0;

	for (size_t d = 0; d < NET_DIRECTIONS; d++) {
		json_t *list = json_array();
		for (size_t i = 0; i < p->n[d]; i++)
			r |= json_array_append_new(list, rule_json(&p->rules[d][i]));
		r |= json_object_set_new(j, direction_names[d], list);
	}
	char *text = r < 0 ? NULL : json_dumps(j, JSON_COMPACT);
	json_decref(j);
	return text;
}

/* ---- --egress-allow ---- */

/* What stands before the ports: "host", an address or a network, else a name. malloc'd selector. */
static int allow_selector(const char *peer, char **ret, struct err *e)
{
	struct net_prefix prefix;
	CLEANUP_FREE char *name = strdup(peer);

	if (!name)
		return err_oom(e);
	if (strcmp(peer, "host") == 0)
		*ret = strdup(peer);
	else if (net_prefix_parse(peer, &prefix) == 0)
		*ret = str_printf("cidr:%s", peer);
	else if (domain_valid(name, true))
		*ret = str_printf("domain:%s", name);
	else
		return -EINVAL;
	return *ret ? 0 : err_oom(e);
}

/* Divides "PEER[:PORTS[/PROTOCOL]]"; *ret_ports NULL when there are none. A single colon is no IPv6 address. */
static bool split_allow(char *s, char **ret_peer, char **ret_ports, char **ret_protocol)
{
	char *colon = strchr(s, ':');

	*ret_peer = s;
	*ret_protocol = NULL;
	if (*s == '[') {
		char *end = strchr(s, ']');
		if (!end || (end[1] && end[1] != ':'))
			return false;
		*end = '\0';
		*ret_peer = s + 1;
		colon = end[1] ? end + 1 : NULL;
	} else if (colon && strchr(colon + 1, ':')) {
		colon = NULL; /* IPv6, all of it */
	}
	*ret_ports = colon ? colon + 1 : NULL;
	if (!colon)
		return true;
	*colon = '\0';
	char *slash = strchr(colon + 1, '/');
	if (slash) {
		*slash = '\0';
		*ret_protocol = slash + 1;
	}
	return true;
}

static int add_allow(json_t *rules, const char *value, struct err *e)
{
	CLEANUP_FREE char *copy = strdup(value);
	CLEANUP_FREE char *selector = NULL;
	char *peer, *ports, *protocol;

	if (!copy)
		return err_oom(e);
	int r = split_allow(copy, &peer, &ports, &protocol) ? allow_selector(peer, &selector, e) : -EINVAL;
	if (r == -EINVAL || (protocol && strcmp(protocol, "tcp") != 0 && strcmp(protocol, "udp") != 0)) {
		err_set(e, -EINVAL,
			"--egress-allow \"%s\": expected NAME, NETWORK or host, and perhaps :PORTS[/tcp or "
			"/udp]",
			value);
		return err_hint(
			e, "like example.org:443, *.example.org, 10.0.0.0/8:80,443/tcp, [fd00::/8]:53/udp");
	}
	if (r < 0)
		return r;
	json_t *rule = json_pack("{s:s, s:s}", "peer", selector, "action", "allow");
	if (ports)
		r |= json_object_set_new(rule, "ports", json_string(ports));
	if (protocol)
		r |= json_object_set_new(rule, "protocol", json_string(protocol));
	return json_array_append_new(rules, rule) < 0 || r < 0 ? err_oom(e) : 0;
}

/* Each value for itself, so that an error names the one it is about. */
static int check_allow(const json_t *rule, const char *value, struct err *e)
{
	struct net_rule parsed = {0};
	const char *ports = json_string_value(json_object_get(rule, "ports"));
	int r = ports ? parse_ports(ports, &parsed, e) : 0;

	free(parsed.ports);
	return r == -EINVAL || r == -E2BIG ? err_wrap(e, "--egress-allow %s", value) : r;
}

int net_policy_from_egress_allow(const struct strv *values, char **ret_text, struct err *e)
{
	json_t *egress = json_array();
	struct err ignored;
	int r = 0;

	e = e ? e : &ignored;
	for (size_t i = 0; r == 0 && i < values->n; i++) {
		r = i < NET_RULES_MAX - 1
			    ? add_allow(egress, values->v[i], e)
			    : err_set(e, -E2BIG, "--egress-allow: more than %d", NET_RULES_MAX - 1);
		if (r == 0)
			r = check_allow(json_array_get(egress, i), values->v[i], e);
	}
	json_t *j = json_pack("{s:o, s:[{s:s}]}", "egress", egress, "ingress", "action", "allow");
	char *text = r == 0 && j ? json_dumps(j, JSON_COMPACT) : NULL;
	json_decref(j);
	if (r < 0)
		return r;
	if (!text)
		return err_oom(e);
	if (strlen(text) > NET_POLICY_TEXT_MAX) {
		free(text);
		return err_set(e, -E2BIG, "--egress-allow: more than %d KiB", NET_POLICY_TEXT_MAX >> 10);
	}
	*ret_text = text;
	return 0;
}
