/* SPDX-License-Identifier: MIT */
/*
 * THEORY OF OPERATION
 *
 * Everything is told to the kernel by rtnetlink(7), one request a message, and is settled when the acknowledgement is
 * there: addresses are static, without duplicate address detection, router advertisements or link-local ones, so that
 * nothing has to be waited for. Link 0 is eth0, the device itself; it stays up without addresses while other
 * links, which are VLANs on it, need it.
 *
 * What is there is asked of the kernel, not remembered: later changes are made by another process than the first (query.c).
 * Addresses and routes of ours have a mark that the kernel keeps (IFA_PROTO, RTPROT_STATIC), so that those which the box has
 * added itself stay; only a default route of ours takes the place of another one with the same metric.
 *
 * A box may have switched IPv6 off (--sysctl net.ipv6.conf.all.disable_ipv6=1): then it has no IPv6, and that is no error.
 */
#include "net.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "base/io.h"

/* The macros of linux/netlink.h and rtnetlink.h step from one header to the next by bytes, and keep them aligned. */
#pragma GCC diagnostic ignored "-Wcast-align"

#define DEVICE	   "eth0"
#define ADDR_PROTO 0x61 /* ours; those of rtnetlink(7) are below 4 */

enum { REQUEST_MAX = 512, ANSWER_MAX = 16384, ADDRS_MAX = 64, DEFAULT_ROUTES_MAX = 16 };
enum { SETTLE_TRIES = 200 /* 1 ms apart */, SOCKSTAT_MAX = 1024 };

struct request {
	struct nlmsghdr *h;
	_Alignas(struct nlmsghdr) uint8_t mem[REQUEST_MAX];
};

struct addr {
	uint8_t family, prefix;
	uint8_t b[16];
};

static void begin(struct request *q, uint16_t type, uint16_t flags, const void *head, size_t len)
{
	memset(q->mem, 0, sizeof(q->mem));
	q->h = (struct nlmsghdr *)(void *)q->mem;
	q->h->nlmsg_type = type;
	q->h->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | NLM_F_ACK | flags);
	q->h->nlmsg_len = (uint32_t)NLMSG_LENGTH(len);
	memcpy(NLMSG_DATA(q->h), head, len);
}

/* Adds an attribute; there is room for all that this file adds. data NULL: the caller ends it by nest_end. */
static struct rtattr *attr(struct request *q, uint16_t type, const void *data, size_t len)
{
	struct rtattr *a = (struct rtattr *)(void *)(q->mem + NLMSG_ALIGN(q->h->nlmsg_len));

	a->rta_type = type;
	a->rta_len = (uint16_t)RTA_LENGTH(len);
	if (len)
		memcpy(RTA_DATA(a), data, len);
	q->h->nlmsg_len = (uint32_t)(NLMSG_ALIGN(q->h->nlmsg_len) + RTA_ALIGN(a->rta_len));
	return a;
}

static void nest_end(struct request *q, struct rtattr *a)
{
	a->rta_len = (uint16_t)(q->mem + q->h->nlmsg_len - (uint8_t *)a);
}

/* ---- talking to the kernel ---- */

static int open_netlink(void)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

	return fd < 0 ? -errno : fd;
}

/* Calls fn, if any, for each answer; the kernel's verdict at the end. */
static int ask(int fd, struct request *q, void (*fn)(const struct nlmsghdr *h, void *data), void *data)
{
	_Alignas(struct nlmsghdr) uint8_t mem[ANSWER_MAX];

	if (send(fd, q->h, q->h->nlmsg_len, 0) < 0)
		return -errno;
	for (;;) {
		ssize_t n = recv(fd, mem, sizeof(mem), 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		unsigned int left = (unsigned int)n;
		for (struct nlmsghdr *h = (struct nlmsghdr *)(void *)mem; NLMSG_OK(h, left);
			h = NLMSG_NEXT(h, left)) {
			if (h->nlmsg_type == NLMSG_ERROR)
				return ((struct nlmsgerr *)NLMSG_DATA(h))->error;
			if (h->nlmsg_type == NLMSG_DONE)
				return 0;
			if (fn)
				fn(h, data);
		}
	}
}

/* ---- links ---- */

static int link_set(int fd, unsigned index, bool up, uint32_t mtu)
{
	const struct ifinfomsg m = {.ifi_family = AF_UNSPEC,
		.ifi_index = (int)index,
		.ifi_flags = up ? IFF_UP : 0,
		.ifi_change = IFF_UP};
	struct request q;

	begin(&q, RTM_NEWLINK, 0, &m, sizeof(m));
	if (mtu)
		attr(&q, IFLA_MTU, &mtu, sizeof(mtu));
	return ask(fd, &q, NULL, NULL);
}

static int vlan_add(int fd, unsigned parent, const char *name, uint16_t id)
{
	const struct ifinfomsg m = {.ifi_family = AF_UNSPEC};
	const uint32_t on = parent;
	struct request q;

	begin(&q, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &m, sizeof(m));
	attr(&q, IFLA_IFNAME, name, strlen(name) + 1);
	attr(&q, IFLA_LINK, &on, sizeof(on));
	struct rtattr *info = attr(&q, IFLA_LINKINFO, NULL, 0);
	attr(&q, IFLA_INFO_KIND, "vlan", 4);
	struct rtattr *data = attr(&q, IFLA_INFO_DATA, NULL, 0);
	attr(&q, IFLA_VLAN_ID, &id, sizeof(id));
	nest_end(&q, data);
	nest_end(&q, info);
	return ask(fd, &q, NULL, NULL);
}

static int link_del(int fd, unsigned index)
{
	const struct ifinfomsg m = {.ifi_family = AF_UNSPEC, .ifi_index = (int)index};
	struct request q;

	begin(&q, RTM_DELLINK, 0, &m, sizeof(m));
	return ask(fd, &q, NULL, NULL);
}

/* No advertisement of anybody configures it, and it has no address but those it is given. */
static void no_autoconfiguration(int proc, const char *name)
{
	static const char *const settings[][2] = {
		{"accept_ra", "0"}, {"autoconf", "0"}, {"addr_gen_mode", "1"}};

	for (size_t i = 0; i < ARRAY_LEN(settings); i++) {
		char path[96];
		snprintf(path, sizeof(path), "sys/net/ipv6/conf/%s/%s", name, settings[i][0]);
		CLEANUP_CLOSE int fd = openat(proc, path, O_WRONLY | O_CLOEXEC);
		/* Without IPv6 there is nothing to keep out. */
		if (fd >= 0)
			(void)!write(fd, settings[i][1], strlen(settings[i][1]));
	}
}

static bool has_ipv6(int proc, const char *name)
{
	char path[96];
	CLEANUP_FREE char *off = NULL;

	snprintf(path, sizeof(path), "sys/net/ipv6/conf/%s/disable_ipv6", name);
	return io_read_file_at(proc, path, 16, &off, NULL) == 0 && off[0] == '0';
}

/* ---- addresses ---- */

static int addr_parse(uint8_t family, const char *text, uint32_t prefix, struct addr *ret)
{
	*ret = (struct addr){.family = family, .prefix = (uint8_t)prefix};
	if (prefix > (ret->family == AF_INET ? 32 : 128) || inet_pton(ret->family, text, ret->b) != 1)
		return -EINVAL;
	return 0;
}

static size_t addr_len(const struct addr *a)
{
	return a->family == AF_INET ? 4 : 16;
}

static int addr_change(int fd, unsigned index, const struct addr *a, bool add)
{
	const struct ifaddrmsg m = {.ifa_family = a->family,
		.ifa_prefixlen = a->prefix,
		.ifa_flags = IFA_F_NODAD,
		.ifa_index = index};
	const uint8_t proto = ADDR_PROTO;
	struct request q;

	begin(&q, add ? RTM_NEWADDR : RTM_DELADDR, add ? NLM_F_CREATE | NLM_F_REPLACE : 0, &m, sizeof(m));
	attr(&q, IFA_LOCAL, a->b, addr_len(a));
	attr(&q, IFA_ADDRESS, a->b, addr_len(a));
	if (add)
		attr(&q, IFA_PROTO, &proto, sizeof(proto));
	return ask(fd, &q, NULL, NULL);
}

/* Of ours, those of one interface. */
struct addr_list {
	unsigned index;
	size_t n;
	struct addr v[ADDRS_MAX];
};

static void on_addr(const struct nlmsghdr *h, void *data)
{
	struct addr_list *l = data;
	const struct ifaddrmsg *m = NLMSG_DATA(h);
	struct addr a = {.family = m->ifa_family, .prefix = m->ifa_prefixlen};
	bool found = false, ours = false;
	int left = (int)IFA_PAYLOAD(h);

	if (h->nlmsg_type != RTM_NEWADDR || m->ifa_index != l->index || l->n == ADDRS_MAX ||
		(a.family != AF_INET && a.family != AF_INET6))
		return;
	for (const struct rtattr *at = IFA_RTA(m); RTA_OK(at, left); at = RTA_NEXT(at, left)) {
		if (at->rta_type == IFA_PROTO && RTA_PAYLOAD(at) == 1)
			ours = *(const uint8_t *)RTA_DATA(at) == ADDR_PROTO;
		/* IFA_LOCAL is the box's own; IPv6 has IFA_ADDRESS only. */
		if ((at->rta_type == IFA_LOCAL || (at->rta_type == IFA_ADDRESS && !found)) &&
			RTA_PAYLOAD(at) == addr_len(&a)) {
			memcpy(a.b, RTA_DATA(at), addr_len(&a));
			found = true;
		}
	}
	if (found && ours)
		l->v[l->n++] = a;
}

/* Takes away what is there and not wanted. */
static int addrs_remove_others(int fd, unsigned index, const struct addr *want, size_t n)
{
	const struct ifaddrmsg m = {.ifa_family = AF_UNSPEC};
	struct addr_list have = {.index = index};
	struct request q;
	int r;

	begin(&q, RTM_GETADDR, NLM_F_DUMP, &m, sizeof(m));
	r = ask(fd, &q, on_addr, &have);
	for (size_t i = 0; r == 0 && i < have.n; i++) {
		bool wanted = false;
		for (size_t j = 0; j < n; j++)
			wanted |= memcmp(&have.v[i], &want[j], sizeof(want[j])) == 0;
		if (!wanted)
			r = addr_change(fd, index, &have.v[i], false);
	}
	return r;
}

/* ---- default routes ---- */

static int default_route(int fd, uint8_t family, const char *gateway, unsigned index)
{
	struct addr a;
	int r = addr_parse(family, gateway, 0, &a);
	if (r < 0)
		return r;
	const struct rtmsg m = {.rtm_family = a.family,
		.rtm_table = RT_TABLE_MAIN,
		.rtm_protocol = RTPROT_STATIC,
		.rtm_scope = RT_SCOPE_UNIVERSE,
		.rtm_type = RTN_UNICAST};
	const uint32_t out = index;
	struct request q;

	begin(&q, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, &m, sizeof(m));
	attr(&q, RTA_GATEWAY, a.b, addr_len(&a));
	attr(&q, RTA_OIF, &out, sizeof(out));
	return ask(fd, &q, NULL, NULL);
}

static int default_routes_remove(int fd, uint8_t family)
{
	const struct rtmsg m = {.rtm_family = family,
		.rtm_table = RT_TABLE_MAIN,
		.rtm_scope = RT_SCOPE_NOWHERE,
		.rtm_protocol = RTPROT_STATIC};
	int r = 0;

	for (int i = 0; r == 0 && i < DEFAULT_ROUTES_MAX; i++) {
		struct request q;
		begin(&q, RTM_DELROUTE, 0, &m, sizeof(m));
		r = ask(fd, &q, NULL, NULL);
	}
	return r == -ESRCH ? 0 : r;
}

/* ---- all of it ---- */

PRINTF(4, 5) static int note(int r, char *what, size_t size, const char *fmt, ...)
{
	va_list ap;

	if (r < 0) {
		va_start(ap, fmt);
		vsnprintf(what, size, fmt, ap);
		va_end(ap);
	}
	return r;
}

static bool nic_valid(const struct wire_nic *n)
{
	char name[IFNAMSIZ];

	snprintf(name, sizeof(name), "eth%u", n->link);
	return n->link < WIRE_NICS_MAX && n->name && strcmp(n->name, name) == 0;
}

static const struct wire_nic *find(const struct wire_network *n, const char *name)
{
	for (size_t i = 0; i < n->n_nics; i++) {
		if (strcmp(n->nics[i].name, name) == 0)
			return &n->nics[i];
	}
	return NULL;
}

static int apply_nic(
	int fd, int proc, unsigned device, const struct wire_nic *n, bool boot, char *what, size_t size)
{
	struct addr want[2];
	size_t n_want = 0;
	unsigned index = if_nametoindex(n->name);
	bool fresh = boot || index == 0;
	int r = 0;

	if (index == 0) {
		r = vlan_add(fd, device, n->name, (uint16_t)n->link);
		index = if_nametoindex(n->name);
	}
	if (fresh)
		no_autoconfiguration(proc, n->name);
	if (r == 0)
		r = link_set(fd, index, true, n->mtu);
	if (r < 0)
		return note(r, what, size, "interface %s", n->name);
	if (n->ip4)
		r = addr_parse(AF_INET, n->ip4, n->prefix4, &want[n_want++]);
	bool six = n->ip6 && has_ipv6(proc, n->name);
	if (r == 0 && six)
		r = addr_parse(AF_INET6, n->ip6, n->prefix6, &want[n_want++]);
	if (r == 0 && !fresh)
		r = addrs_remove_others(fd, index, want, n_want);
	for (size_t i = 0; r == 0 && i < n_want; i++)
		r = addr_change(fd, index, &want[i], true);
	if (r == 0 && n->gateway4)
		r = default_route(fd, AF_INET, n->gateway4, index);
	if (r == 0 && six && n->gateway6)
		r = default_route(fd, AF_INET6, n->gateway6, index);
	return note(r, what, size, "addresses of interface %s", n->name);
}

/* Interfaces and default routes that are not wanted any more. */
static int remove_others(int fd, unsigned device, const struct wire_network *n, char *what, size_t size)
{
	bool routed4 = false, routed6 = false;
	int r = 0;

	for (size_t i = 0; i < n->n_nics; i++) {
		routed4 |= n->nics[i].gateway4 != NULL;
		routed6 |= n->nics[i].gateway6 != NULL;
	}
	if (!routed4)
		r = default_routes_remove(fd, AF_INET);
	if (r == 0 && !routed6)
		r = default_routes_remove(fd, AF_INET6);
	if (r < 0)
		return note(r, what, size, "default route");
	if (!find(n, DEVICE))
		r = note(addrs_remove_others(fd, device, NULL, 0), what, size,
			"addresses of interface " DEVICE);
	for (unsigned link = 1; r == 0 && link < WIRE_NICS_MAX; link++) {
		char name[IFNAMSIZ];
		snprintf(name, sizeof(name), "eth%u", link);
		unsigned index = if_nametoindex(name);
		if (index && !find(n, name))
			r = note(link_del(fd, index), what, size, "interface %s", name);
	}
	return r;
}

bool net_has_device(void)
{
	return if_nametoindex(DEVICE) != 0;
}

int net_apply(int proc, const struct wire_network *n, bool boot, char *what, size_t size)
{
	CLEANUP_CLOSE int fd = -1;
	unsigned device = if_nametoindex(DEVICE);
	int r = 0;

	if (device == 0)
		return n->n_nics == 0 ? 0 : note(-ENODEV, what, size, "network device");
	for (size_t i = 0; i < n->n_nics; i++) {
		if (!nic_valid(&n->nics[i]))
			return note(-EINVAL, what, size, "network interface %zu", i);
	}
	fd = open_netlink();
	if (fd < 0)
		return note(fd, what, size, "netlink");
	if (!boot)
		r = remove_others(fd, device, n, what, size);
	if (r == 0 && !find(n, DEVICE)) {
		/* Its VLANs need it, whether it has a network of its own or not. */
		if (boot)
			no_autoconfiguration(proc, DEVICE);
		r = note(link_set(fd, device, true, n->n_nics ? n->nics[0].mtu : 0), what, size,
			"interface " DEVICE);
	}
	for (size_t i = 0; r == 0 && i < n->n_nics; i++)
		r = apply_nic(fd, proc, device, &n->nics[i], boot, what, size);
	return r;
}

/* Connections that no process has any more, and that have not ended yet: "TCP: inuse N orphan N …" (proc(5)). */
static unsigned long orphans(int proc)
{
	CLEANUP_CLOSE int fd = openat(proc, "self/net/sockstat", O_RDONLY | O_CLOEXEC);
	char text[SOCKSTAT_MAX];
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	text[MAX_OF(n, 0)] = '\0';
	const char *at = strstr(text, " orphan ");
	return at ? strtoul(at + strlen(" orphan "), NULL, 10) : 0;
}

void net_settle(int proc)
{
	for (int i = 0; i < SETTLE_TRIES && orphans(proc) > 0; i++)
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}
