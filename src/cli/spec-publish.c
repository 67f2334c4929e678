/* SPDX-License-Identifier: MIT */
/* --publish, in Docker's whole grammar, and --expose. */
#include <string.h>
#include <strings.h>

#include "base/io.h"
#include "base/units.h"
#include "spec.h"

#define PORTS_MAX 8192 /* exposed */

static const char form[] = "[ADDRESS:][PORT[-PORT]:]PORT[-PORT][/tcp or /udp]";

struct range {
	uint16_t from, to;
};

/* "80", "80-90"; zero: or "0". */
static int parse_range(const char *s, size_t len, bool zero, struct range *ret)
{
	struct range r;

	if (parse_port_range(s, len, &r.from, &r.to) < 0 || (r.from == 0 && (!zero || r.to)))
		return -EINVAL;
	*ret = r;
	return 0;
}

/* ---- --expose ---- */

static int add_port(struct strv *ports, const char *text)
{
	for (size_t i = 0; i < ports->n; i++) {
		if (strcmp(ports->v[i], text) == 0)
			return 0;
	}
	return ports->n >= PORTS_MAX ? -E2BIG : strv_push(ports, text);
}

/* "80", "80/udp", "8000-8010/tcp", each port of a range for itself. -EINVAL for what is none. */
static int expose(const char *s, struct strv *ports)
{
	size_t n = strcspn(s, "/");
	const char *proto = s[n] ? s + n + 1 : "tcp";
	struct range r;

	if (parse_range(s, n, false, &r) < 0 ||
		(strcmp(proto, "tcp") != 0 && strcmp(proto, "udp") != 0 && strcmp(proto, "sctp") != 0))
		return -EINVAL;
	int err = 0;
	for (uint32_t port = r.from; err == 0 && port <= r.to; port++) {
		char text[16];
		snprintf(text, sizeof(text), "%u/%s", port, proto);
		err = add_port(ports, text);
	}
	return err;
}

int spec_add_image_ports(struct box_config *c, const struct oci_image *image, struct err *e)
{
	/* What an image says wrongly about ports is no reason not to run it. */
	for (size_t i = 0; i < image->exposed_ports.n; i++) {
		if (expose(image->exposed_ports.v[i], &c->exposed_ports) == -ENOMEM)
			return err_oom(e);
	}
	return 0;
}

int spec_add_expose(const char *s, struct strv *dst, struct err *e)
{
	int r = expose(s, dst);
	if (r == -EINVAL)
		return err_set(e, r, "--expose %s: expected PORT[-PORT][/tcp, /udp or /sctp]", s);
	return r < 0 ? err_sys(e, r, "--expose %s", s) : 0;
}

/* ---- --publish ---- */

/* What is before the last colon but one: an address, IPv6 with or without brackets; empty for all. */
static int parse_address(const char *s, size_t len, char *dst)
{
	struct net_addr a;

	if (len >= 2 && s[0] == '[' && s[len - 1] == ']') {
		s++;
		len -= 2;
	}
	if (len >= NET_ADDR_TEXT_MAX)
		return -EINVAL;
	snprintf(dst, NET_ADDR_TEXT_MAX, "%.*s", (int)len, s);
	if (len == 0)
		return 0;
	if (net_addr_parse(dst, &a) < 0)
		return -EINVAL;
	net_addr_text(&a, dst);
	return 0;
}

struct mapping {
	char ip[NET_ADDR_TEXT_MAX];
	struct range host, guest; /* host 0: any */
	uint8_t protocol;
};

/* given: what the user wrote, of which a long form's s was made. */
static int bad_publish(const char *given, struct err *e, const char *what, const char *s, size_t len)
{
	err_set(e, -EINVAL, "--publish \"%s\": \"%.*s\" is no %s", given, (int)len, s, what);
	return err_hint(e, "expected %s", form);
}

static int parse_mapping(const char *given, const char *s, struct mapping *m, struct err *e)
{
	const char *slash = strrchr(s, '/');
	size_t len = slash ? (size_t)(slash - s) : strlen(s);
	const char *guest = memrchr(s, ':', len);
	const char *host = guest ? memrchr(s, ':', (size_t)(guest - s)) : NULL;

	*m = (struct mapping){.protocol = IPPROTO_TCP};
	if (slash && strcasecmp(slash, "/udp") == 0)
		m->protocol = IPPROTO_UDP;
	else if (slash && strcasecmp(slash, "/sctp") == 0)
		return err_set(
			e, -ENOTSUP, "--publish %s: SCTP ports cannot be published, only TCP and UDP", given);
	else if (slash && strcasecmp(slash, "/tcp") != 0)
		return bad_publish(given, e, "protocol, tcp or udp", slash + 1, strlen(slash + 1));
	const char *first = host ? host + 1 : s; /* of the host's port */
	size_t n_host = guest ? (size_t)(guest - first) : 0;
	guest = guest ? guest + 1 : s;
	size_t n_guest_text = (size_t)(s + len - guest);
	if (n_guest_text == 0) {
		err_set(e, -EINVAL, "--publish \"%s\": no port of the box is given", given);
		return err_hint(e, "expected %s", form);
	}
	if (host && parse_address(s, (size_t)(host - s), m->ip) < 0)
		return bad_publish(given, e, "address of this host", s, (size_t)(host - s));
	if (n_host && parse_range(first, n_host, true, &m->host) < 0)
		return bad_publish(given, e, "port or range of ports from 1 to 65535, or 0", first, n_host);
	if (parse_range(guest, n_guest_text, false, &m->guest) < 0)
		return bad_publish(given, e, "port or range of ports from 1 to 65535", guest, n_guest_text);
	uint32_t n = (uint32_t)m->host.to - m->host.from, n_guest = (uint32_t)m->guest.to - m->guest.from;
	if (m->host.from && n != n_guest && n_guest)
		return err_set(e, -EINVAL, "--publish %s: %u port%s of the host for %u of the box", given,
			n + 1, n ? "s" : "", n_guest + 1);
	return 0;
}

/* One more; the same once more is no mistake, another box's port on the same one of the host is. */
static int add_one(const char *given, const struct box_port *p, struct strv *dst, struct err *e)
{
	char text[BOX_PORT_TEXT_MAX];
	struct box_port other;

	box_port_text(p, text);
	for (size_t i = 0; i < dst->n; i++) {
		if (strcmp(dst->v[i], text) == 0)
			return 0;
		if (p->host && !p->host_last && box_port_parse(dst->v[i], &other) == 0 && !other.host_last &&
			other.host == p->host && other.protocol == p->protocol &&
			strcmp(other.ip, p->ip) == 0)
			return err_set(e, -EINVAL, "--publish %s: port %u/%s of the host is given twice",
				given, p->host, box_protocol_name(p->protocol));
	}
	if (dst->n >= NETD_PUBLISH_MAX / 2) /* each may be two sockets */
		return err_set(e, -E2BIG, "--publish: more than %d ports", NETD_PUBLISH_MAX / 2);
	return strv_push(dst, text) < 0 ? err_oom(e) : 0;
}

/* Docker's long form, "target=80,published=8080,protocol=tcp", as the short one. malloc'd; NULL: it is none. */
static char *from_long_form(const char *s)
{
	CLEANUP_FREE char *copy = strdup(s);
	const char *target = NULL, *published = "", *protocol = "tcp";
	char *save = NULL;

	for (char *f = copy ? strtok_r(copy, ",", &save) : NULL; f; f = strtok_r(NULL, ",", &save)) {
		if (strncmp(f, "target=", 7) == 0)
			target = f + 7;
		else if (strncmp(f, "published=", 10) == 0)
			published = f + 10;
		else if (strncmp(f, "protocol=", 9) == 0)
			protocol = f + 9;
		else if (strncmp(f, "mode=", 5) != 0)
			return NULL;
	}
	return target ? str_printf("%s:%s/%s", published, target, protocol) : NULL;
}

static int add_publish(const char *given, const char *s, const char *address, struct strv *dst, struct err *e)
{
	struct mapping m;
	int r = parse_mapping(given, s, &m, e);
	bool choose = r == 0 && m.host.from && m.guest.from == m.guest.to && m.host.to > m.host.from;

	if (r == 0 && !*m.ip && address)
		snprintf(m.ip, sizeof(m.ip), "%s", address);
	for (uint32_t i = 0; r == 0 && i <= (uint32_t)m.guest.to - m.guest.from; i++) {
		struct box_port p = {.host = (uint16_t)(m.host.from ? m.host.from + i : 0),
			.host_last = choose ? m.host.to : 0,
			.guest = (uint16_t)(m.guest.from + i),
			.protocol = m.protocol};
		snprintf(p.ip, sizeof(p.ip), "%s", m.ip);
		r = add_one(given, &p, dst, e);
	}
	return r;
}

int spec_add_publish(const char *s, const char *address, struct strv *dst, struct err *e)
{
	bool is_long = strchr(s, '=') != NULL;
	CLEANUP_FREE char *standard = is_long ? from_long_form(s) : NULL;

	if (is_long && !standard)
		return err_set(e, -EINVAL,
			"--publish %s: expected target=PORT[,published=PORT][,protocol=tcp or "
			"udp][,mode=MODE]",
			s);
	return add_publish(s, standard ? standard : s, address, dst, e);
}

int spec_publish_address(char **ret, struct err *e)
{
	const char *s = getenv("A3S_PUBLISH_ADDRESS");
	char text[NET_ADDR_TEXT_MAX];

	*ret = NULL;
	if (!s || !*s)
		return 0;
	if (parse_address(s, strlen(s), text) < 0 || !*text)
		return err_set(e, -EINVAL, "A3S_PUBLISH_ADDRESS: %s: expected an IP address", s);
	*ret = strdup(text);
	return *ret ? 0 : err_oom(e);
}
