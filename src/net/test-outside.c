/* SPDX-License-Identifier: MIT */
#include "test-outside.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "base/io.h"

#define LIMIT_NS 10000000000ull

static struct outside *here; /* of the present test */

/* ---- namespace ---- */

static bool write_text(const char *path, const char *text)
{
	CLEANUP_CLOSE int fd = open(path, O_WRONLY | O_CLOEXEC);

	return fd >= 0 && io_write_full(fd, text, strlen(text)) == 0;
}

bool outside_enter(void)
{
	static int entered = -1;
	char uid[32], gid[32];

	if (entered >= 0)
		return entered;
	snprintf(uid, sizeof(uid), "0 %u 1", getuid());
	snprintf(gid, sizeof(gid), "0 %u 1", getgid());
	entered = 0;
	if (unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0)
		return false;
	write_text("/proc/self/setgroups", "deny");
	entered = write_text("/proc/self/uid_map", uid) && write_text("/proc/self/gid_map", gid) &&
		  system("ip link set lo up && ip route add local 198.18.0.0/15 dev lo &&"
			 "ip -6 route add local 2001:db8::/32 dev lo") == 0;
	return entered;
}

struct net_addr outside_addr(const char *text)
{
	struct net_addr a;

	assert_int_equal(net_addr_parse(text, &a), 0);
	return a;
}

int outside_socket(int type, const char *addr, uint16_t port)
{
	struct net_addr a = outside_addr(addr);
	struct sockaddr_storage ss;
	socklen_t len = net_addr_sockaddr(&a, port, &ss);
	int fd = socket(ss.ss_family, type | SOCK_CLOEXEC, 0);
	const int on = 1;

	assert_true(fd >= 0);
	/* Addresses that are local by a route alone. */
	setsockopt(fd, ss.ss_family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6,
		ss.ss_family == AF_INET ? IP_FREEBIND : IPV6_FREEBIND, &on, sizeof(on));
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	assert_int_equal(bind(fd, (struct sockaddr *)&ss, len), 0);
	if (type == SOCK_STREAM)
		assert_int_equal(listen(fd, 16), 0);
	return fd;
}

uint16_t outside_port_of(int fd)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	struct net_addr a;
	uint16_t port;

	assert_int_equal(getsockname(fd, (struct sockaddr *)&ss, &len), 0);
	assert_true(net_addr_from_sockaddr(&ss, &a, &port));
	return port;
}

unsigned outside_count_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	assert_non_null(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

/* ---- the box ---- */

void outside_init(struct outside *o)
{
	memset(o, 0, sizeof(*o));
	here = o;
	assert_int_equal(loop_new(&o->g.loop), 0);
	o->g.config = (struct netd_config){.name = (char *)"mynet",
		.gateway4 = outside_addr("10.9.0.1"),
		.gateway6 = outside_addr("fd09::1")};
	assert_int_equal(net_prefix_parse("10.9.0.0/24", &o->g.config.subnet4), 0);
	assert_int_equal(net_prefix_parse("fd09::/64", &o->g.config.subnet6), 0);
	memcpy(o->g.mac, "\x0a\0\0\0\0\x01", 6);
	o->box.g = &o->g;
	o->box.slot = 3;
	o->box.a = (struct netd_attachment){.box = (char *)"0123456789abcdef",
		.name = (char *)"web",
		.hostname = (char *)"0123456789ab",
		.mac = {2, 0, 0, 0, 0, 2},
		.ip4 = outside_addr("10.9.0.2"),
		.ip6 = outside_addr("fd09::2")};
	o->g.ports[3] = &o->box;
	o->g.n_ports = 1;
	assert_int_equal(udp_new(&o->g), 0);
	assert_int_equal(dns_new(&o->g), 0);
}

void outside_done(struct outside *o)
{
	dns_port_gone(&o->box);
	udp_port_gone(&o->box);
	assert_int_equal(o->box.n_udp, 0);
	assert_int_equal(o->box.n_dns, 0);
	assert_null(o->waiter);
	dns_free(&o->g);
	udp_free(&o->g);
	loop_free(TAKE_PTR(o->g.loop));
	for (unsigned i = 0; i < o->n_frames; i++)
		free(o->frames[i].frame);
	here = NULL;
}

void outside_box_sends(struct outside *o, void (*input)(struct port *p, const struct pkt *k), const char *dst,
	uint16_t sport, uint16_t dport, const void *data, size_t len)
{
	struct net_addr to = outside_addr(dst);
	const struct pkt_out out = {.eth_dst = o->g.mac,
		.eth_src = o->box.a.mac,
		.src = net_addr_is4(&to) ? &o->box.a.ip4 : &o->box.a.ip6,
		.dst = &to,
		.proto = IPPROTO_UDP};
	const struct vnet_hdr h = {.flags = VNET_DATA_VALID};
	uint8_t *frame = calloc(1, PKT_HEADERS_MAX + 8 + len);
	struct pkt k;

	size_t at = pkt_put_headers(frame, &out, 8 + len);
	const uint16_t udp[4] = {htobe16(sport), htobe16(dport), htobe16((uint16_t)(8 + len)), htobe16(1)};
	memcpy(frame + at, udp, sizeof(udp));
	if (len)
		memcpy(frame + at + 8, data, len);
	assert_int_equal(pkt_parse(&k, &h, frame, at + 8 + len), 0);
	input(&o->box, &k);
	free(frame);
}

const struct pkt *outside_receive(struct outside *o, int wait_ms)
{
	uint64_t end = time_mono_ns() + (wait_ms ? (uint64_t)wait_ms * 1000000 : LIMIT_NS);

	while (o->read == o->n_frames && time_mono_ns() < end)
		loop_turn(o->g.loop, 10);
	if (o->read == o->n_frames) {
		if (!wait_ms)
			fail_msg("nothing came for the box");
		return NULL;
	}
	return &o->frames[o->read++].k;
}

void outside_settle(struct outside *o)
{
	for (unsigned i = 0; i < 20; i++)
		loop_turn(o->g.loop, 1);
}

/* What the kernel of the box would check. */
static void check_sum(const struct pkt *k)
{
	size_t len = k->l4_len;
	uint8_t *l4 = malloc(len);
	uint16_t stored;

	memcpy(l4, k->frame + k->l4, len);
	memcpy(&stored, l4 + 6, 2);
	uint32_t pseudo = pkt_pseudo_sum(&k->src, &k->dst, IPPROTO_UDP, len);
	if (k->vnet.flags & VNET_NEEDS_CSUM) {
		assert_int_equal(k->vnet.csum_start, k->l4);
		assert_int_equal(k->vnet.csum_offset, 6);
		assert_int_equal(stored, (uint16_t)~inet_sum_finish(pseudo));
	} else {
		assert_int_not_equal(stored, 0);
		assert_int_equal(inet_sum_finish(inet_sum(pseudo, l4, len)), 0);
	}
	free(l4);
}

static int keep(const struct vnet_hdr *h, const uint8_t *frame, size_t len)
{
	struct outside *o = here;

	if (o->n_frames == FRAMES_MAX)
		return -ENOBUFS;
	uint8_t *copy = malloc(len);
	memcpy(copy, frame, len);
	o->frames[o->n_frames].frame = copy;
	struct pkt *k = &o->frames[o->n_frames].k;
	assert_int_equal(pkt_parse(k, h, copy, len), 0);
	assert_memory_equal(k->eth_dst, o->box.a.mac, 6);
	assert_memory_equal(k->eth_src, o->g.mac, 6);
	assert_int_equal(k->proto, IPPROTO_UDP);
	check_sum(k);
	o->n_frames++;
	return 0;
}

/* ---- the other parts ---- */

int port_send(
	struct port *to, struct port *from, const struct vnet_hdr *h, const struct iovec *iov, unsigned n_iov)
{
	uint8_t *frame = malloc(PKT_FRAME_MAX);
	size_t len = 0;

	for (unsigned i = 0; i < n_iov; i++) {
		assert_true(len + iov[i].iov_len <= PKT_FRAME_MAX);
		memcpy(frame + len, iov[i].iov_base, iov[i].iov_len);
		len += iov[i].iov_len;
	}
	assert_true(len <= ETH_HDR_LEN + NETD_MTU);
	int r = keep(h, frame, len);
	free(frame);
	return r;
}

void frag_output(
	struct port *to, struct port *from, const struct vnet_hdr *h, const uint8_t *frame, size_t len)
{
	assert_true(len > ETH_HDR_LEN + NETD_MTU);
	keep(h, frame, len);
}

bool port_room(const struct port *to)
{
	return !here->no_room;
}

void port_wait(struct port *to, struct port_waiter *w)
{
	here->waiter = w;
	w->link = &here->waiter;
}

void port_unwait(struct port_waiter *w)
{
	if (w->link)
		*w->link = NULL;
	w->link = NULL;
}

const struct net_addr *engine_gateway(const struct engine *g, bool is4)
{
	return is4 ? &g->config.gateway4 : &g->config.gateway6;
}

bool engine_is_gateway(const struct engine *g, const struct net_addr *a)
{
	return net_addr_equal(a, engine_gateway(g, net_addr_is4(a)));
}

struct port *engine_port_of(const struct engine *g, const struct net_addr *a)
{
	for (unsigned i = 0; i < NETD_PORTS_MAX; i++) {
		struct port *p = g->ports[i];
		if (p && !net_addr_is_zero(a) &&
			(net_addr_equal(a, &p->a.ip4) || net_addr_equal(a, &p->a.ip6)))
			return p;
	}
	return NULL;
}

int engine_outside(const struct engine *g, const struct net_addr *dst, struct net_addr *ret)
{
	*ret = *dst;
	if (engine_is_gateway(g, dst))
		*ret = outside_addr(net_addr_is4(dst) ? "127.0.0.1" : "::1");
	else if (net_addr_is_martian(dst))
		return -EACCES;
	else if (net_prefix_has(&g->config.subnet4, dst) || net_prefix_has(&g->config.subnet6, dst))
		return -EHOSTUNREACH;
	return g->config.internal ? -ENETUNREACH : 0;
}

struct net_addr engine_seen_as(const struct engine *g, const struct net_addr *client, bool is4)
{
	return net_addr_is4(client) == is4 && !net_addr_is_martian(client) ? *client
									   : *engine_gateway(g, is4);
}

bool policy_allows(struct engine *g, struct port *from, struct port *to, const struct flow_key *k, bool quiet)
{
	here->n_asked += !quiet;
	assert_int_equal(k->proto, IPPROTO_UDP);
	return !here->deny_port || k->dport != here->deny_port;
}

bool engine_is_this_host(const struct engine *g, const struct net_addr *a)
{
	char text[NET_ADDR_TEXT_MAX];

	return here->host_addr && strcmp(net_addr_text(a, text), here->host_addr) == 0;
}

bool policy_has_domains(const struct engine *g)
{
	return !here->no_domains;
}

bool policy_allows_name(struct port *p, const char *name)
{
	return !here->deny_name || strcmp(name, here->deny_name) != 0;
}

void policy_learn(struct port *p, const char *name, const struct net_addr *a, uint32_t ttl_s)
{
	struct outside *o = here;

	if (o->n_learned >= ARRAY_LEN(o->learned))
		return;
	snprintf(o->learned[o->n_learned].name, sizeof(o->learned[0].name), "%s", name);
	o->learned[o->n_learned].addr = *a;
	o->learned[o->n_learned++].ttl_s = ttl_s;
}

void icmp_unreachable(struct port *p, const struct pkt *k, enum icmp_why why)
{
	struct flow_key key;

	flow_key_of(&key, k);
	icmp_unreachable_udp(p, &key, why);
}

void icmp_unreachable_udp(struct port *p, const struct flow_key *k, enum icmp_why why)
{
	here->n_icmp++;
	here->why = why;
	here->icmp_key = *k;
}
