/* SPDX-License-Identifier: MIT */
/*
 * Echo and errors. What leads to the outside ends at the loopback interface of a network namespace that this process makes
 * for itself, where also errors of routers are forged; where that is not permitted, those tests are skipped.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include <linux/capability.h>

#include <cmocka.h>

#include "base/io.h"
#include "test-fake.h"

#define PING_GROUPS "/proc/sys/net/ipv4/ping_group_range"
enum { ECHO = 8, ECHO_REPLY = 0, ECHO6 = 128, ECHO_REPLY6 = 129, HEAD = 8 };

static bool have_ns, have_ip6;

static int set_up(void **state)
{
	struct loop *loop;

	assert_int_equal(loop_new(&loop), 0);
	fake_init(loop);
	assert_int_equal(icmp_new(&fake.g), 0);
	return 0;
}

static int tear_down(void **state)
{
	for (unsigned i = 0; i < FAKE_PORTS; i++) {
		icmp_port_gone(&fake.ports[i]);
		assert_int_equal(fake.ports[i].n_echo, 0);
	}
	icmp_free(&fake.g);
	loop_free(fake.g.loop);
	return 0;
}

/* The part under test sends what is too large in pieces; here they are as they came. */
void frag_output(
	struct port *to, struct port *from, const struct vnet_hdr *h, const uint8_t *frame, size_t len)
{
	port_send(to, from, h, &(struct iovec){(void *)frame, len}, 1);
}

uint64_t flow_hash(const struct flow_key *k)
{
	return k->sport; /* collides */
}

/* ---- requests and answers ---- */

struct request {
	unsigned port;
	const char *dst;
	uint16_t id, seq;
	size_t len; /* of the data */
	uint8_t type, code, ttl;
	bool bad_sum;
};

static uint8_t pattern(size_t i)
{
	return (uint8_t)(i * 5 + (i >> 8));
}

static void request(const struct request *r)
{
	static uint8_t frame[70000], icmp[66000];
	struct net_addr dst = fake_addr(r->dst);
	bool is4 = net_addr_is4(&dst);
	struct pkt k;

	memset(icmp, 0, HEAD);
	icmp[0] = r->type ? r->type : is4 ? ECHO : ECHO6;
	icmp[1] = r->code;
	const uint16_t id = htobe16(r->id), seq = htobe16(r->seq);
	memcpy(icmp + 4, &id, 2);
	memcpy(icmp + 6, &seq, 2);
	for (size_t i = 0; i < r->len; i++)
		icmp[HEAD + i] = pattern(i);
	const struct port *p = &fake.ports[r->port];
	uint16_t sum = fake_icmp_sum(is4 ? &p->a.ip4 : &p->a.ip6, &dst, icmp, HEAD + r->len);
	sum ^= r->bad_sum;
	memcpy(icmp + 2, &sum, 2);
	size_t len =
		fake_ip(frame, r->port, r->dst, is4 ? IPPROTO_ICMP : IPPROTO_ICMPV6, icmp, HEAD + r->len);
	assert_true(fake_parse(&k, frame, len));
	k.ttl = r->ttl ? r->ttl : 64;
	icmp_input(&fake.ports[r->port], &k);
}

static void check_reply(const struct fake_frame *f, const struct request *r)
{
	struct net_addr dst = fake_addr(r->dst);
	bool is4 = net_addr_is4(&dst);
	struct pkt k;

	assert_ptr_equal(f->to, &fake.ports[r->port]);
	assert_true(fake_parse(&k, f->b, f->len));
	assert_int_equal(k.is4, is4);
	assert_memory_equal(k.eth_src, fake.g.mac, 6);
	assert_memory_equal(k.eth_dst, f->to->a.mac, 6);
	assert_true(net_addr_equal(&k.src, &dst));
	assert_true(net_addr_equal(&k.dst, is4 ? &f->to->a.ip4 : &f->to->a.ip6));
	assert_int_equal(k.icmp_type, is4 ? ECHO_REPLY : ECHO_REPLY6);
	assert_int_equal(k.icmp_code, 0);
	assert_int_equal(k.sport, r->id);
	assert_int_equal(k.icmp_seq, r->seq);
	assert_int_equal(fake_icmp_sum(&k.src, &k.dst, f->b + k.l4, k.l4_len), 0);
	assert_int_equal(k.payload_len, r->len);
	for (size_t i = 0; i < r->len; i++)
		if (f->b[k.payload + i] != pattern(i))
			fail_msg("byte %zu", i);
}

/* An ICMP error to a box; its quote is returned as it would have been sent. */
static void check_error(const struct fake_frame *f, const char *src, uint8_t type, uint8_t code,
	uint8_t *ret_quote, size_t *ret_len)
{
	struct net_addr from = fake_addr(src);
	bool is4 = net_addr_is4(&from);
	struct pkt k;

	assert_true(fake_parse(&k, f->b, f->len));
	assert_int_equal(k.is4, is4);
	assert_true(net_addr_equal(&k.src, &from));
	assert_true(net_addr_equal(&k.dst, is4 ? &f->to->a.ip4 : &f->to->a.ip6));
	assert_int_equal(k.proto, is4 ? IPPROTO_ICMP : IPPROTO_ICMPV6);
	assert_int_equal(k.icmp_type, type);
	assert_int_equal(k.icmp_code, code);
	assert_int_equal(fake_icmp_sum(&k.src, &k.dst, f->b + k.l4, k.l4_len), 0);
	assert_memory_equal(f->b + k.l4 + 4, "\0\0\0\0", 4);
	assert_true(f->len - 14 <= (is4 ? 576 : 1280));
	memcpy(ret_quote, f->b + k.payload, k.payload_len);
	*ret_len = k.payload_len;
}

static void wait_frames(unsigned n)
{
	for (unsigned i = 0; i < 200 && fake.n_frames < n; i++)
		assert_int_equal(loop_turn(fake.g.loop, 50), 0);
	assert_int_equal(fake.n_frames, n);
}

/* ---- the gateway ---- */

static void test_gateway(void **state)
{
	static const struct request requests[] = {
		{.dst = "10.0.0.1", .id = 7, .seq = 1, .len = 56},
		{.dst = "10.0.0.1", .id = 7, .seq = 2, .len = 0},
		{.dst = "10.0.0.1", .id = 7, .seq = 3, .len = 65507, .ttl = 1},
		{.dst = "fd00::1", .id = 7, .seq = 4, .len = 57},
		{.dst = "fd00::1", .id = 8, .seq = 0xffff, .len = 65000},
		{.port = 1, .dst = "10.0.0.1", .id = 7, .len = 9},
	};

	for (size_t i = 0; i < ARRAY_LEN(requests); i++) {
		request(&requests[i]);
		assert_int_equal(fake.n_frames, i + 1);
		check_reply(&fake.frames[i], &requests[i]);
	}
	assert_int_equal(fake.ports[0].n_echo, 3);
	assert_int_equal(fake.ports[1].n_echo, 1);
	assert_int_equal(fake.asked, 4); /* once for each flow */

	static const struct request bad[] = {{.dst = "10.0.0.1", .bad_sum = true},
		{.dst = "fd00::1", .bad_sum = true}, {.dst = "10.0.0.1", .code = 1},
		{.dst = "10.0.0.1", .type = 13}, {.dst = "10.0.0.1", .type = 5},
		{.dst = "fd00::1", .type = 129}, {.dst = "fd00::1", .type = 134}};
	fake_clear();
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		request(&bad[i]);
		assert_int_equal(fake.n_frames, 0);
		assert_int_equal(fake.ports[0].stats.dropped, i + 1);
	}
	/* Idle for long enough, each by itself */
	fake_sleep(6000000000);
	request(&requests[0]);
	fake_sleep(5000000000);
	assert_int_equal(fake.ports[0].n_echo, 1);
	assert_int_equal(fake.ports[1].n_echo, 0);
	fake_sleep(5100000000);
	assert_int_equal(fake.ports[0].n_echo, 0);
	assert_int_equal(fake.timer_ns, UINT64_MAX);
}

static void test_policy(void **state)
{
	const struct request four = {.dst = "10.0.0.1", .id = 7, .len = 1000},
			     six = {.dst = "fd00::1", .id = 7};
	uint8_t quote[1500];
	size_t len;

	request(&four);
	request(&six);
	icmp_recheck(&fake.g);
	assert_int_equal(fake.ports[0].n_echo, 2);
	fake.deny = true;
	request(&four); /* under way */
	assert_int_equal(fake.n_frames, 3);
	icmp_recheck(&fake.g);
	assert_int_equal(fake.ports[0].n_echo, 0);
	fake_clear();
	request(&four);
	request(&six);
	assert_int_equal(fake.n_frames, 2);
	check_error(&fake.frames[0], "10.0.0.1", 3, 13, quote, &len);
	assert_int_equal(len, 576 - 28);
	check_error(&fake.frames[1], "fd00::1", 1, 1, quote, &len);
	assert_int_equal(len, 48);
	assert_memory_equal(quote + 24, fake_addr("fd00::1").b, 16);
	assert_int_equal(fake.ports[0].n_echo, 0);
}

static void test_bounds(void **state)
{
	request(&(struct request){.port = 1, .dst = "10.0.0.1", .id = 1});
	for (unsigned i = 0; i < ENGINE_ECHO_PER_PORT + 10; i++)
		request(&(struct request){.dst = "10.0.0.1", .id = (uint16_t)i});
	assert_int_equal(fake.ports[0].n_echo, ENGINE_ECHO_PER_PORT);
	assert_int_equal(fake.ports[1].n_echo, 1);
	unsigned asked = fake.asked;
	request(&(struct request){.dst = "10.0.0.1", .id = 10}); /* the oldest that is left */
	assert_int_equal(fake.asked, asked);
	request(&(struct request){.dst = "10.0.0.1", .id = 9});
	assert_int_equal(fake.asked, asked + 1);
	/* Such as need a socket are begun at a limited rate. */
	uint64_t dropped = fake.ports[1].stats.dropped;
	fake.ports[1].begins_ns = UINT64_MAX;
	request(&(struct request){.port = 1, .dst = "192.0.2.1", .id = 2});
	assert_int_equal(fake.ports[1].stats.dropped, dropped + 1);
	icmp_port_gone(&fake.ports[0]);
	assert_int_equal(fake.ports[0].n_echo, 0);
	assert_int_equal(fake.ports[1].n_echo, 1);
}

/* ---- errors ---- */

static void make_pkt(struct pkt *k, uint8_t *frame, const char *dst, uint8_t proto, uint8_t icmp_type)
{
	const uint8_t udp[8] = {icmp_type ? icmp_type : 0x12, icmp_type ? 0 : 0x34, 0, 53, 0, 8};

	size_t len = fake_ip(frame, 0, dst, proto, udp, sizeof(udp));
	assert_true(fake_parse(k, frame, len));
}

static void test_unreachable(void **state)
{
	static const struct {
		enum icmp_why why;
		const char *dst, *src;
		uint8_t type, code;
	} cases[] = {
		{ICMP_WHY_NET, "192.0.2.1", "10.0.0.1", 3, 0},
		{ICMP_WHY_HOST, "192.0.2.1", "10.0.0.1", 3, 1},
		{ICMP_WHY_PORT, "192.0.2.1", "192.0.2.1", 3, 3},
		{ICMP_WHY_PROHIBITED, "192.0.2.1", "10.0.0.1", 3, 13},
		{ICMP_WHY_NET, "2001:db8::1", "fd00::1", 1, 0},
		{ICMP_WHY_HOST, "2001:db8::1", "fd00::1", 1, 3},
		{ICMP_WHY_PORT, "2001:db8::1", "2001:db8::1", 1, 4},
		{ICMP_WHY_PROHIBITED, "2001:db8::1", "fd00::1", 1, 1},
	};
	uint8_t frame[200], quote[1500];
	struct flow_key key;
	struct pkt k;
	size_t len;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		make_pkt(&k, frame, cases[i].dst, IPPROTO_UDP, 0);
		fake_clear();
		icmp_unreachable(&fake.ports[0], &k, cases[i].why);
		assert_int_equal(fake.n_frames, 1);
		check_error(&fake.frames[0], cases[i].src, cases[i].type, cases[i].code, quote, &len);
		assert_int_equal(len, k.len - 14);
		assert_memory_equal(quote, frame + 14, len);
		/* The same from what is left of a datagram: addresses, ports and protocol are those that count. */
		flow_key_of(&key, &k);
		fake_clear();
		icmp_unreachable_udp(&fake.ports[0], &key, cases[i].why);
		assert_int_equal(fake.n_frames, 1);
		check_error(&fake.frames[0], cases[i].src, cases[i].type, cases[i].code, quote, &len);
		assert_int_equal(len, (k.is4 ? 20 : 40) + 8);
		uint8_t back[100];
		memcpy(back, frame, 14);
		memcpy(back + 14, quote, len);
		struct pkt q;
		assert_true(fake_parse(&q, back, 14 + len));
		assert_true(net_addr_equal(&q.src, &k.src) && net_addr_equal(&q.dst, &k.dst));
		assert_int_equal(q.sport, 0x1234);
		assert_int_equal(q.dport, 53);
	}
	/* Without a gateway of the family, the destination has to say it. */
	memset(&fake.g.config.gateway6, 0, sizeof(struct net_addr));
	fake_clear();
	icmp_unreachable(&fake.ports[0], &k, ICMP_WHY_HOST);
	check_error(&fake.frames[0], "2001:db8::1", 1, 3, quote, &len);
}

static void test_never_told(void **state)
{
	static const uint8_t errors4[] = {3, 4, 5, 11, 12, 9, 10}, errors6[] = {1, 2, 3, 4, 100, 127, 137};
	uint8_t frame[200];
	struct pkt k;

	for (size_t i = 0; i < ARRAY_LEN(errors4); i++) {
		make_pkt(&k, frame, "192.0.2.1", IPPROTO_ICMP, errors4[i]);
		icmp_unreachable(&fake.ports[0], &k, ICMP_WHY_HOST);
		make_pkt(&k, frame, "2001:db8::1", IPPROTO_ICMPV6, errors6[i]);
		icmp_unreachable(&fake.ports[0], &k, ICMP_WHY_HOST);
	}
	static const char *const groups[] = {
		"224.0.0.1", "239.1.1.1", "255.255.255.255", "ff02::1", "ff0e::1"};
	for (size_t i = 0; i < ARRAY_LEN(groups); i++) {
		make_pkt(&k, frame, groups[i], IPPROTO_UDP, 0);
		icmp_unreachable(&fake.ports[0], &k, ICMP_WHY_HOST);
	}
	make_pkt(&k, frame, "192.0.2.1", IPPROTO_UDP, 0);
	frame[0] |= 1;
	icmp_unreachable(&fake.ports[0], &k, ICMP_WHY_HOST);
	frame[0] &= ~1;
	k.fragment = true;
	k.frag_off = 8;
	icmp_unreachable(&fake.ports[0], &k, ICMP_WHY_HOST);
	assert_int_equal(fake.n_frames, 0);
	k.frag_off = 0;
	icmp_unreachable(&fake.ports[0], &k, ICMP_WHY_HOST);
	make_pkt(&k, frame, "192.0.2.1", IPPROTO_ICMP, ECHO);
	icmp_unreachable(&fake.ports[0], &k, ICMP_WHY_HOST);
	make_pkt(&k, frame, "2001:db8::1", IPPROTO_ICMPV6, ECHO6);
	icmp_unreachable(&fake.ports[0], &k, ICMP_WHY_HOST);
	assert_int_equal(fake.n_frames, 3);
}

static void test_rate(void **state)
{
	uint8_t frame[200];
	struct pkt k;

	make_pkt(&k, frame, "192.0.2.1", IPPROTO_UDP, 0);
	for (unsigned i = 0; i < 1000; i++)
		icmp_unreachable(&fake.ports[0], &k, ICMP_WHY_HOST);
	assert_int_equal(fake.n_frames, 100);
	icmp_unreachable(&fake.ports[1], &k, ICMP_WHY_HOST); /* has its own measure */
	assert_int_equal(fake.n_frames, 101);
	fake_clear();
	for (unsigned i = 0; i < 1000; i++) { /* a second */
		fake_sleep(1000000);
		icmp_unreachable(&fake.ports[0], &k, ICMP_WHY_HOST);
	}
	assert_int_equal(fake.n_frames, 100);
	fake_clear();
	icmp_port_gone(&fake.ports[0]);
	for (unsigned i = 0; i < 1000; i++)
		icmp_unreachable(&fake.ports[0], &k, ICMP_WHY_HOST);
	assert_int_equal(fake.n_frames, 100);
}

/* ---- the outside: this namespace's loopback interface ---- */

static bool write_file(const char *path, const char *text)
{
	CLEANUP_CLOSE int fd = open(path, O_WRONLY | O_CLOEXEC);

	return fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
}

/* A fresh one with its loopback interface up; nobody may use the kernel's unprivileged sockets in it. */
static bool enter_ns(void)
{
	struct ifreq ifr = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
	struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};

	if (unshare(CLONE_NEWNET) < 0)
		return false;
	CLEANUP_CLOSE int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	CLEANUP_CLOSE int fd6 = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool up = fd >= 0 && ioctl(fd, SIOCSIFFLAGS, &ifr) == 0;
	have_ip6 = up && fd6 >= 0 && bind(fd6, (struct sockaddr *)&six, sizeof(six)) == 0;
	return up;
}

/* The part under test begins again there. */
static void allow_ping(bool allow)
{
	assert_true(enter_ns());
	if (allow)
		assert_true(write_file(PING_GROUPS, "0 0"));
	icmp_free(&fake.g);
	assert_int_equal(icmp_new(&fake.g), 0);
}

static void make_ns(void)
{
	char map[64];

	snprintf(map, sizeof(map), "0 %u 1", (unsigned)getgid());
	if (unshare(CLONE_NEWUSER) == 0 &&
		(!write_file("/proc/self/setgroups", "deny") || !write_file("/proc/self/gid_map", map)))
		return;
	have_ns = enter_ns() && write_file(PING_GROUPS, "0 0");
}

static void need_ns(void)
{
	if (!have_ns) {
		print_message("no network namespace, or it cannot be set up\n");
		skip();
	}
}

static void ping(bool is4, size_t max)
{
	const struct request r[] = {
		{.dst = is4 ? "192.0.2.1" : "2001:db8::1", .id = 0x1234, .seq = 1, .len = 56},
		{.dst = is4 ? "192.0.2.1" : "2001:db8::1", .id = 0x1234, .seq = 2, .len = max},
		{.dst = is4 ? "192.0.2.2" : "2001:db8::2", .id = 0x1234, .seq = 3, .len = 0},
		{.port = 1, .dst = is4 ? "192.0.2.1" : "2001:db8::1", .id = 0x1234, .seq = 4, .len = 33},
	};

	for (size_t i = 0; i < ARRAY_LEN(r); i++) {
		fake_clear();
		request(&r[i]);
		wait_frames(1);
		check_reply(&fake.frames[0], &r[i]);
	}
	assert_int_equal(fake.ports[0].n_echo, 2);
	assert_int_equal(fake.ports[1].n_echo, 1);
	assert_int_equal(fake.ports[0].stats.dropped, 0);
	icmp_port_gone(&fake.ports[0]);
	icmp_port_gone(&fake.ports[1]);
}

static void test_outside(void **state)
{
	need_ns();
	for (unsigned unprivileged = 0; unprivileged < 2; unprivileged++) {
		allow_ping(unprivileged);
		ping(true, 65507);
		if (have_ip6)
			ping(false, 65000);
	}
}

/* Whether the first request was answered, and not another's with the same identifier: raw sockets get everything. */
static void test_raw_apart(void **state)
{
	const struct request a = {.dst = "192.0.2.1", .id = 1, .seq = 11, .len = 8},
			     b = {.port = 1, .dst = "192.0.2.1", .id = 1, .seq = 22, .len = 9};

	need_ns();
	allow_ping(false);
	request(&a);
	request(&b);
	wait_frames(2);
	unsigned first = fake.frames[0].to == &fake.ports[0] ? 0 : 1;
	check_reply(&fake.frames[first], &a);
	check_reply(&fake.frames[1 - first], &b);
	assert_int_equal(loop_turn(fake.g.loop, 50), 0);
	assert_int_equal(fake.n_frames, 2);
}

static void test_no_way(void **state)
{
	static const struct {
		int r;
		uint8_t code;
	} cases[] = {{-EACCES, 13}, {-ENETUNREACH, 0}, {-EHOSTUNREACH, 1}};
	const struct request r = {.dst = "192.0.2.1", .id = 1};
	uint8_t quote[1500];
	size_t len;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		fake.outside = cases[i].r;
		fake_clear();
		request(&r);
		assert_int_equal(fake.n_frames, 1);
		check_error(&fake.frames[0], "10.0.0.1", 3, cases[i].code, quote, &len);
	}
	assert_int_equal(fake.asked, 0);
	/* As the first router on the way */
	fake.outside = 0;
	fake_clear();
	request(&(struct request){.dst = "192.0.2.1", .id = 1, .ttl = 1});
	request(&(struct request){.dst = "2001:db8::1", .id = 1, .ttl = 1});
	check_error(&fake.frames[0], "10.0.0.1", 11, 0, quote, &len);
	check_error(&fake.frames[1], "fd00::1", 3, 0, quote, &len);
	assert_int_equal(fake.ports[0].n_echo, 0);
	need_ns();
	fake.host4 = fake_addr("198.51.100.1"); /* there is no route */
	fake_clear();
	request(&r);
	assert_int_equal(fake.n_frames, 1);
	check_error(&fake.frames[0], "10.0.0.1", 3, 0, quote, &len);
	assert_int_equal(fake.ports[0].n_echo, 0);
}

/* A router's answer to the next request that is seen on the loopback interface. */
static void forge_error(int raw, bool is4, uint8_t type, uint8_t code)
{
	const int v6_head = 40;
	struct net_addr lo = is4 ? fake_addr("127.0.0.1") : fake_addr("::1");
	const uint8_t mac[6] = {0};
	uint8_t b[300], out[300] = {type, code};
	struct sockaddr_storage ss;
	ssize_t n;

	do {
		n = recv(raw, b, sizeof(b), 0);
		assert_true(n >= 28 || (!is4 && n >= 8));
	} while (b[is4 ? 20 : 0] != (is4 ? ECHO : ECHO6));
	size_t quote = (size_t)n;
	if (is4) {
		memcpy(out + 8, b, quote);
	} else { /* comes without its IP header */
		const struct pkt_out o = {
			.eth_dst = mac, .eth_src = mac, .src = &lo, .dst = &lo, .proto = IPPROTO_ICMPV6};
		uint8_t head[54];
		pkt_put_headers(head, &o, quote);
		memcpy(out + 8, head + 14, v6_head);
		memcpy(out + 8 + v6_head, b, quote);
		quote += v6_head;
	}
	uint16_t sum = is4 ? fake_icmp_sum(&lo, &lo, out, 8 + quote) : 0;
	memcpy(out + 2, &sum, 2);
	socklen_t len = net_addr_sockaddr(&lo, 0, &ss);
	assert_int_equal(sendto(raw, out, 8 + quote, 0, (struct sockaddr *)&ss, len), 8 + quote);
}

static void pass_on(bool is4, uint8_t type, uint8_t code, bool passed)
{
	const struct request r = {
		.dst = is4 ? "192.0.2.1" : "2001:db8::1", .id = 0x4321, .seq = 77, .len = 56, .ttl = 3};
	CLEANUP_CLOSE int raw = socket(
		is4 ? AF_INET : AF_INET6, SOCK_RAW | SOCK_CLOEXEC, is4 ? IPPROTO_ICMP : IPPROTO_ICMPV6);
	uint8_t quote[1500];
	size_t len;

	assert_true(raw >= 0);
	const struct timeval limit = {.tv_sec = 10};
	assert_int_equal(setsockopt(raw, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)), 0);
	fake_clear();
	request(&r);
	forge_error(raw, is4, type, code);
	wait_frames(1 + passed); /* the answer as well */
	assert_int_equal(loop_turn(fake.g.loop, 20), 0);
	assert_int_equal(fake.n_frames, 1 + passed);
	unsigned reply = fake.frames[0].b[is4 ? 34 : 54] == (is4 ? ECHO_REPLY : ECHO_REPLY6) ? 0 : 1;
	check_reply(&fake.frames[reply], &r);
	if (passed) {
		check_error(&fake.frames[1 - reply], is4 ? "127.0.0.1" : "::1", type, code, quote, &len);
		uint8_t back[100] = {[12] = is4 ? 0x08 : 0x86, [13] = is4 ? 0 : 0xdd};
		memcpy(back + 14, quote, len);
		struct pkt k;
		assert_true(fake_parse(&k, back, 14 + len));
		struct net_addr dst = fake_addr(r.dst);
		assert_true(net_addr_equal(&k.dst, &dst));
		assert_true(net_addr_equal(&k.src, is4 ? &fake.ports[0].a.ip4 : &fake.ports[0].a.ip6));
		assert_int_equal(k.icmp_type, is4 ? ECHO : ECHO6);
		assert_int_equal(k.sport, 0x4321);
		assert_int_equal(k.icmp_seq, 77);
	}
	/* The flow goes on. */
	fake_clear();
	request(&r);
	wait_frames(1);
	check_reply(&fake.frames[0], &r);
	icmp_port_gone(&fake.ports[0]);
}

static void test_router_errors(void **state)
{
	need_ns();
	for (unsigned unprivileged = 0; unprivileged < 2; unprivileged++) {
		allow_ping(unprivileged);
		pass_on(true, 11, 0, true); /* hop limit */
		pass_on(true, 3, 1, true);
		pass_on(true, 3, 13, true);
		pass_on(true, 12, 0, false); /* parameter problem */
		if (have_ip6) {
			pass_on(false, 3, 0, true);
			pass_on(false, 1, 3, true);
			pass_on(false, 4, 0, false);
		}
	}
}

/* The last one: there is no way back. */
static void test_forbidden(void **state)
{
	struct __user_cap_header_struct h = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct none[2] = {{0}};
	uint8_t quote[1500];
	size_t len;

	need_ns();
	assert_true(enter_ns());
	assert_int_equal(syscall(SYS_capset, &h, none), 0);
	icmp_free(&fake.g);
	assert_int_equal(icmp_new(&fake.g), 0);
	request(&(struct request){.dst = "192.0.2.1", .id = 1});
	assert_int_equal(fake.n_frames, 1);
	check_error(&fake.frames[0], "10.0.0.1", 3, 13, quote, &len);
	assert_int_equal(fake.ports[0].n_echo, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_gateway, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_policy, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_bounds, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_unreachable, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_never_told, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_rate, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_no_way, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_outside, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_raw_apart, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_router_errors, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_forbidden, set_up, tear_down),
	};

	make_ns();
	return cmocka_run_group_tests_name("net-icmp", tests, NULL, NULL);
}
