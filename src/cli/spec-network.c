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
#define PORTS_MAX	   8192

static bool host_name_valid(const char *s, size_t len, size_t max)
{
	return len > 0 && len <= max && strspn(s, name_chars) >= len && s[0] != '-' && s[0] != '.';
}

static bool address_valid(const char *s)
{
	uint8_t addr[16];
	return inet_pton(AF_INET, s, addr) == 1 || inet_pton(AF_INET6, s, addr) == 1;
}

/* "name:address" or "name=address", the address perhaps in brackets; stored as "name:address". */
static int add_host(const char *s, struct strv *dst, struct err *e)
{
	size_t n = strcspn(s, "=:");
	const char *address = s[n] ? s + n + 1 : "";
	size_t len = strlen(address);

	if (strcmp(address, "host-gateway") == 0) {
		err_set(e, -ENOTSUP, "--add-host %s: a box has no network yet that leads to the host", s);
		return err_hint(e, "give an address instead of host-gateway");
	}
	CLEANUP_FREE char *bare = len > 1 && *address == '[' && address[len - 1] == ']'
					  ? strndup(address + 1, len - 2)
					  : strdup(address);
	if (!bare)
		return err_oom(e);
	/* /etc/hosts has underscores in practice, as compose makes them. */
	size_t valid = 0;
	while (valid < n && (s[valid] == '_' || strchr(name_chars, s[valid])))
		valid++;
	if (n == 0 || n > 253 || valid != n || *s == '-' || *s == '.' || !address_valid(bare))
		return err_set(e, -EINVAL, "--add-host %s: expected NAME:ADDRESS", s);
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

/* ---- ports ---- */

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
	size_t digits = strspn(s, "0123456789"), more = 0;
	uint64_t from, to;

	if (s[digits] == '-')
		more = 1 + strspn(s + digits + 1, "0123456789");
	const char *proto = s[digits + more] == '/' ? s + digits + more + 1 : "tcp";
	CLEANUP_FREE char *first = strndup(s, digits),
			  *last = more ? strndup(s + digits + 1, more - 1) : strndup(s, digits);
	if (!first || !last)
		return -ENOMEM;
	if ((s[digits + more] && s[digits + more] != '/') || parse_u64(first, 65535, &from) < 0 ||
		parse_u64(last, 65535, &to) < 0 || from == 0 || from > to ||
		(strcmp(proto, "tcp") != 0 && strcmp(proto, "udp") != 0 && strcmp(proto, "sctp") != 0))
		return -EINVAL;
	int r = 0;
	for (uint64_t port = from; r == 0 && port <= to; port++) {
		char text[16];
		snprintf(text, sizeof(text), "%u/%s", (unsigned)port, proto);
		r = add_port(ports, text);
	}
	return r;
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

static int add_expose(const char *s, struct strv *dst, struct err *e)
{
	int r = expose(s, dst);
	if (r == -EINVAL)
		return err_set(e, r, "--expose %s: expected PORT[-PORT][/tcp, /udp or /sctp]", s);
	return r < 0 ? err_sys(e, r, "--expose %s", s) : 0;
}

static int add_each(const char *flag, const struct strv *given, size_t max,
	int (*add)(const char *, struct strv *, struct err *), struct strv *dst, struct err *e)
{
	if (given->n > max)
		return err_set(e, -E2BIG, "%s: more than %zu", flag, max);
	return spec_add_each(given, add, dst, e);
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
		r = add_each("--expose", &o->expose, PORTS_MAX, add_expose, &c->exposed_ports, e);
	return r;
}
