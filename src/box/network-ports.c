/* SPDX-License-Identifier: MIT */
/* Ports of the host that lead into a box: their text, their records, and the sockets that hold them (box/network.h). */
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "base/io.h"
#include "base/units.h"
#include "box/network.h"
#include "run.h"

/* With HOST 0: how often the one family's free port may be the other's taken one. */
enum { ANY_PORT_ATTEMPTS = 64 };
/* A box that ends may have given its ports up, and its netd not yet: that long a port in use is tried again. */
#define IN_USE_LIMIT_NS 300000000ull
#define IN_USE_PAUSE_NS 10000000

/* ---- text ---- */

/* "IP:" or "[IP]:" at the start, as net_addr_text writes it. Returns what follows, or NULL. */
static const char *take_ip(const char *s, char *ip)
{
	bool six = *s == '[';
	const char *end = strchr(s, six ? ']' : ':');
	size_t len = end ? (size_t)(end - s) - six : 0;
	struct net_addr a;

	if (len == 0 || len >= NET_ADDR_TEXT_MAX || (six && end[1] != ':'))
		return NULL;
	memcpy(ip, s + six, len);
	ip[len] = '\0';
	if (net_addr_parse(ip, &a) < 0 || net_addr_is4(&a) == six)
		return NULL;
	net_addr_text(&a, ip);
	return end + 1 + six;
}

int box_port_parse(const char *text, struct box_port *ret)
{
	struct box_port p = {0};
	const char *colon = strchr(text, ':'), *s = text;

	if (!colon)
		return -EINVAL;
	if (*text == '[' || strchr(colon + 1, ':'))
		s = take_ip(text, p.ip);
	size_t n = s ? strcspn(s, ":-") : 0;
	if (!s || parse_port(s, n, &p.host) < 0)
		return -EINVAL;
	s += n;
	if (*s == '-') {
		n = strcspn(++s, ":");
		if (parse_port(s, n, &p.host_last) < 0 || p.host == 0 || p.host_last <= p.host)
			return -EINVAL;
		s += n;
	}
	n = *s == ':' ? strcspn(++s, "/") : 0;
	if (parse_port(s, n, &p.guest) < 0 || p.guest == 0)
		return -EINVAL;
	s += n;
	p.protocol = strcmp(s, "/tcp") == 0 ? IPPROTO_TCP : strcmp(s, "/udp") == 0 ? IPPROTO_UDP : 0;
	if (!p.protocol)
		return -EINVAL;
	*ret = p;
	return 0;
}

const char *box_protocol_name(uint8_t protocol)
{
	return protocol == IPPROTO_TCP ? "tcp" : "udp";
}

char *box_port_text(const struct box_port *p, char *buf)
{
	char last[8] = "", host[NET_ADDR_HOST_MAX];

	if (p->host_last)
		snprintf(last, sizeof(last), "-%u", p->host_last);
	snprintf(buf, BOX_PORT_TEXT_MAX, "%s%s%u%s:%u/%s", net_addr_host_text(p->ip, host), *p->ip ? ":" : "",
		p->host, last, p->guest, box_protocol_name(p->protocol));
	return buf;
}

/* ---- records ---- */

int box_ports_init(struct state *st, struct err *e)
{
	/* As long as the box, and as a run: moves.c. */
	return state_exec(st, e,
		"CREATE TABLE IF NOT EXISTS published ("
		" box TEXT NOT NULL REFERENCES boxes(id) ON DELETE CASCADE,"
		" guest INTEGER NOT NULL, protocol INTEGER NOT NULL, ip TEXT NOT NULL, host INTEGER NOT NULL,"
		" PRIMARY KEY(box, guest, protocol, ip, host)) WITHOUT ROWID",
		"");
}

int box_ports_set(struct state *st, const char *box, const struct box_port *ports, size_t n, struct err *e)
{
	int r = state_begin(st, e);
	if (r < 0)
		return r;
	r = state_exec(st, e, "DELETE FROM published WHERE box=?1", "s", box);
	for (size_t i = 0; r == 0 && i < n; i++)
		r = state_exec(st, e,
			"INSERT OR IGNORE INTO published(box,guest,protocol,ip,host) VALUES(?,?,?,?,?)",
			"siisi", box, (int64_t)ports[i].guest, (int64_t)ports[i].protocol, ports[i].ip,
			(int64_t)ports[i].host);
	return state_end(st, r, e);
}

int box_ports_read(struct state *st, const char *box,
	int (*fn)(const char *box, const struct box_port *p, void *data), void *data, struct err *e)
{
	CLEANUP(stmt_done) sqlite3_stmt *s = NULL;
	int r = state_prepare(st, &s, e,
		"SELECT box, guest, protocol, ip, host FROM published WHERE ?1 IS NULL OR box=?1"
		" ORDER BY box, guest, protocol, ip, host",
		"s", box);

	while (r == 0 && (r = state_step(st, s, e)) > 0) {
		const char *id = (const char *)sqlite3_column_text(s, 0);
		const char *ip = (const char *)sqlite3_column_text(s, 3);
		struct box_port p = {.guest = (uint16_t)sqlite3_column_int(s, 1),
			.protocol = (uint8_t)sqlite3_column_int(s, 2),
			.host = (uint16_t)sqlite3_column_int(s, 4)};
		snprintf(p.ip, sizeof(p.ip), "%s", ip ? ip : "");
		r = id ? fn(id, &p, data) : err_oom(e);
	}
	return r;
}

/* ---- sockets ---- */

/* A socket bound to an address of the host, listening if TCP. fd or -errno. */
static int bind_one(const struct net_addr *a, uint16_t port, uint8_t protocol)
{
	struct sockaddr_storage ss;
	socklen_t len = net_addr_sockaddr(a, port, &ss);
	int on = 1, type = protocol == IPPROTO_TCP ? SOCK_STREAM : SOCK_DGRAM;
	CLEANUP_CLOSE int fd = socket(ss.ss_family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -errno;
	/* Connections of the last run that linger are no reason not to listen again; a second listener is refused anyway. */
	if ((type == SOCK_STREAM && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0) ||
		(ss.ss_family == AF_INET6 &&
			setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) < 0) ||
		bind(fd, (struct sockaddr *)&ss, len) < 0 ||
		(type == SOCK_STREAM && listen(fd, SOMAXCONN) < 0))
		return -errno;
	return TAKE_FD(fd);
}

static uint16_t port_of(int fd)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	struct net_addr a;
	uint16_t port = 0;

	if (getsockname(fd, (struct sockaddr *)&ss, &len) == 0)
		net_addr_from_sockaddr(&ss, &a, &port);
	return port;
}

/* A host may lack one of the two families. */
static bool no_family(int r)
{
	return r == -EAFNOSUPPORT || r == -EADDRNOTAVAIL;
}

/*
 * One number on the given address, or on all of both families. ret: two places. Returns how many it filled, or -errno with
 * *where as the address that it failed on.
 */
static int bind_number(const struct box_port *p, uint16_t host, struct box_listener *ret, const char **where)
{
	static const char *const everywhere[] = {"0.0.0.0", "::"};
	size_t n_addresses = *p->ip ? 1 : ARRAY_LEN(everywhere);
	int n = 0, r = 0;

	for (size_t i = 0; i < n_addresses; i++) {
		struct net_addr a;
		*where = *p->ip ? p->ip : everywhere[i];
		r = net_addr_parse(*where, &a);
		if (r == 0)
			r = bind_one(&a, n ? ret[0].port.host : host, p->protocol);
		if (r < 0 && n_addresses > 1 && no_family(r) && (n || i == 0))
			continue;
		if (r < 0)
			break;
		ret[n] = (struct box_listener){.fd = r, .port = *p};
		ret[n].port.host = port_of(r);
		ret[n].port.host_last = 0;
		snprintf(ret[n].port.ip, sizeof(ret[n].port.ip), "%s", *where);
		n++;
		r = 0;
	}
	if (r < 0 && !(n && no_family(r))) {
		box_listeners_close(ret, (size_t)n);
		return r;
	}
	return n;
}

struct owner_query {
	const struct box_port *want;
	const char *where;
	char box[BOX_ID_LEN + 1];
};

/* Whether one address of the host is in the other's way: the same, or one of them all of the family. */
static bool collide(const char *a, const char *b)
{
	bool six = strchr(a, ':') != NULL;
	const char *all = six ? "::" : "0.0.0.0";

	return six == (strchr(b, ':') != NULL) &&
	       (strcmp(a, b) == 0 || strcmp(a, all) == 0 || strcmp(b, all) == 0);
}

static int find_owner(const char *box, const struct box_port *p, void *data)
{
	struct owner_query *q = data;
	const struct box_port *want = q->want;

	if (p->protocol != want->protocol || p->host < want->host ||
		p->host > MAX_OF(want->host, want->host_last) || !collide(p->ip, q->where))
		return 0;
	snprintf(q->box, sizeof(q->box), "%s", box);
	return 1;
}

/* Says who has the port. */
static int in_use(struct state *st, const struct box_port *p, const char *where, struct err *e)
{
	struct owner_query q = {.want = p, .where = where};
	CLEANUP(box_freep) struct box *b = NULL;
	char host[NET_ADDR_HOST_MAX];

	net_addr_host_text(where, host);
	if (p->host_last)
		err_set(e, -EADDRINUSE, "no port from %u to %u/%s on %s is free", p->host, p->host_last,
			box_protocol_name(p->protocol), host);
	else
		err_set(e, -EADDRINUSE, "port %u/%s on %s is in use", p->host, box_protocol_name(p->protocol),
			host);
	if (st && box_ports_read(st, NULL, find_owner, &q, NULL) > 0 &&
		box_find_quiet(st, q.box, &b, NULL) == 0)
		return err_hint(e, "box %s publishes %s", b->name, p->host_last ? "one of them" : "it");
	return err_hint(
		e, "by another program, or a port-forward: choose another port, or 0 for any that is free");
}

static int cannot_bind(struct state *st, const struct box_port *p, const char *where, int r, struct err *e)
{
	char host[NET_ADDR_HOST_MAX];

	if (r == -EADDRINUSE)
		return in_use(st, p, where, e);
	err_sys(e, r, "port %u/%s on %s cannot be published", p->host, box_protocol_name(p->protocol),
		net_addr_host_text(where, host));
	if (r == -EACCES && p->host < 1024)
		err_hint(e, "choose a port from 1024 on, or let users have lower ones: sysctl "
			    "net.ipv4.ip_unprivileged_port_start");
	else if (r == -EADDRNOTAVAIL)
		err_hint(e, "this host does not have the address");
	return r;
}

/* Any of the numbers that it may have. As bind_number. */
static int bind_any(const struct box_port *p, struct box_listener *ret, const char **where)
{
	uint32_t last = p->host_last ? p->host_last : p->host;
	int r = -EADDRINUSE;

	if (p->host == 0)
		for (unsigned i = 0; r == -EADDRINUSE && i < ANY_PORT_ATTEMPTS; i++)
			r = bind_number(p, 0, ret, where);
	else
		for (uint32_t n = p->host; r == -EADDRINUSE && n <= last; n++)
			r = bind_number(p, (uint16_t)n, ret, where);
	return r;
}

int box_port_bind(struct state *st, const struct box_port *p, struct box_listener *ret, struct err *e)
{
	const char *where = p->ip;
	uint64_t until = time_mono_ns() + IN_USE_LIMIT_NS;
	int r;

	while ((r = bind_any(p, ret, &where)) == -EADDRINUSE && time_mono_ns() < until)
		nanosleep(&(struct timespec){.tv_nsec = IN_USE_PAUSE_NS}, NULL);
	return r < 0 ? cannot_bind(st, p, where, r, e) : r;
}

void box_listeners_close(struct box_listener *v, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (v[i].port.protocol == IPPROTO_TCP)
			shutdown(v[i].fd, SHUT_RDWR); /* netd may have it as well */
		close_fd(&v[i].fd);
	}
}
