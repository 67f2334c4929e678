/* SPDX-License-Identifier: MIT */
/* Datagrams with the outside, through real sockets in a network namespace of the test's own. */
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/io.h"
#include "test-outside.h"
#include "udp.h"

static uint8_t big[65536];

static int setup(void **state)
{
	static struct outside o;

	if (!outside_enter()) {
		print_message("no network namespace of our own: not permitted here\n");
		*state = NULL;
		return 0;
	}
	outside_init(&o);
	*state = &o;
	return 0;
}

static int teardown(void **state)
{
	if (*state)
		outside_done(*state);
	return 0;
}

#define SETUP(o) \
	struct outside *o = *state; \
	if (!(o)) \
	skip()

/* What a socket of the host gets, and from where. */
static size_t host_receive(int fd, void *buf, size_t max, char *from, uint16_t *port)
{
	struct pollfd p = {fd, POLLIN, 0};
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	struct net_addr a;

	assert_int_equal(poll(&p, 1, 10000), 1);
	ssize_t n = recvfrom(fd, buf, max, 0, (struct sockaddr *)&ss, &len);
	assert_true(n >= 0);
	assert_true(net_addr_from_sockaddr(&ss, &a, port));
	net_addr_text(&a, from);
	return (size_t)n;
}

static void host_send(int fd, const char *to, uint16_t port, const void *data, size_t len)
{
	struct net_addr a = outside_addr(to);
	struct sockaddr_storage ss;
	socklen_t ss_len = net_addr_sockaddr(&a, port, &ss);

	assert_int_equal(sendto(fd, data, len, 0, (struct sockaddr *)&ss, ss_len), len);
}

static void expect(
	const struct pkt *k, const char *src, uint16_t sport, uint16_t dport, const void *data, size_t len)
{
	char text[NET_ADDR_TEXT_MAX];

	assert_string_equal(net_addr_text(&k->src, text), src);
	assert_int_equal(k->sport, sport);
	assert_int_equal(k->dport, dport);
	assert_int_equal(k->payload_len, len);
	if (len)
		assert_memory_equal(k->frame + k->payload, data, len);
}

static void test_echo(void **state)
{
	static const struct {
		const char *at, *to; /* the host's address, as the box calls it */
		size_t max;
	} cases[] = {{"127.0.0.1", "10.9.0.1", 65507}, {"::1", "fd09::1", 65484},
		{"198.18.0.1", "198.18.0.1", 65507}, {"2001:db8::1", "2001:db8::1", 65484}};
	static uint8_t got[65536];
	SETUP(o);

	for (size_t i = 0; i < sizeof(big); i++)
		big[i] = (uint8_t)(i * 7 + i / 251);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		CLEANUP_CLOSE int fd = outside_socket(SOCK_DGRAM, cases[i].at, 0);
		uint16_t port = outside_port_of(fd), from_port = 0, first_port = 0;
		const size_t sizes[] = {0, 1, 1400, 9001, cases[i].max};
		for (size_t j = 0; j < ARRAY_LEN(sizes); j++) {
			char from[NET_ADDR_TEXT_MAX];
			outside_box_sends(o, udp_input, cases[i].to, 4000, port, big, sizes[j]);
			assert_int_equal(host_receive(fd, got, sizeof(got), from, &from_port), sizes[j]);
			assert_memory_equal(got, big, sizes[j]);
			first_port = j ? first_port : from_port;
			assert_int_equal(from_port, first_port);
			host_send(fd, from, from_port, big, sizes[j]);
			expect(outside_receive(o, 0), cases[i].to, port, 4000, big, sizes[j]);
		}
	}
	assert_int_equal(o->n_icmp, 0);
	assert_int_equal(o->n_asked, 4);
}

/* RFC 4787: one mapping whatever the destination; answers from every port of who was sent to, and from nobody else. */
static void test_mapping(void **state)
{
	SETUP(o);
	CLEANUP_CLOSE int a = outside_socket(SOCK_DGRAM, "198.18.0.1", 7000);
	CLEANUP_CLOSE int a2 = outside_socket(SOCK_DGRAM, "198.18.0.1", 7001);
	CLEANUP_CLOSE int b = outside_socket(SOCK_DGRAM, "198.18.0.2", 7000);
	CLEANUP_CLOSE int stranger = outside_socket(SOCK_DGRAM, "198.18.0.3", 7000);
	char from[NET_ADDR_TEXT_MAX], buf[16];
	uint16_t port_a, port_b, port_other;

	outside_box_sends(o, udp_input, "198.18.0.1", 4000, 7000, "a", 1);
	outside_box_sends(o, udp_input, "198.18.0.2", 4000, 7000, "b", 1);
	outside_box_sends(o, udp_input, "198.18.0.2", 4001, 7000, "c", 1);
	host_receive(a, buf, sizeof(buf), from, &port_a);
	host_receive(b, buf, sizeof(buf), from, &port_b);
	host_receive(b, buf, sizeof(buf), from, &port_other);
	assert_int_equal(port_a, port_b);
	assert_int_not_equal(port_a, port_other);
	assert_int_equal(o->box.n_udp, 3);

	host_send(stranger, from, port_a, "x", 1);
	host_send(a2, from, port_a, "from 7001", 9);
	expect(outside_receive(o, 0), "198.18.0.1", 7001, 4000, "from 7001", 9);
	host_send(a2, from, port_other, "x", 1); /* 4001 never sent to it */
	assert_null(outside_receive(o, 50));

	/* The gateway's own address and the host's are one host: the box gets the name that it used with the port. */
	CLEANUP_CLOSE int lo = outside_socket(SOCK_DGRAM, "127.0.0.1", 7002);
	outside_box_sends(o, udp_input, "10.9.0.1", 4000, 7002, "d", 1);
	host_receive(lo, buf, sizeof(buf), from, &port_b);
	assert_int_equal(port_a, port_b);
	host_send(lo, from, port_b, "e", 1);
	expect(outside_receive(o, 0), "10.9.0.1", 7002, 4000, "e", 1);
}

static void test_unreachable(void **state)
{
	SETUP(o);
	CLEANUP_CLOSE int fd = outside_socket(SOCK_DGRAM, "198.18.0.1", 7000);
	char from[NET_ADDR_TEXT_MAX], buf[16];
	uint16_t port;

	for (unsigned i = 0; i < 2; i++) {
		const char *to = i ? "2001:db8::9" : "198.18.0.1";
		struct net_addr addr = outside_addr(to);
		o->n_icmp = 0;
		outside_box_sends(o, udp_input, to, 4000, 9, "x", 1);
		uint64_t end = time_mono_ns() + 10000000000ull;
		while (!o->n_icmp && time_mono_ns() < end)
			loop_turn(o->g.loop, 10);
		assert_int_equal(o->n_icmp, 1);
		assert_int_equal(o->why, ICMP_WHY_PORT);
		assert_true(net_addr_equal(&o->icmp_key.dst, &addr));
		assert_int_equal(o->icmp_key.dport, 9);
		assert_int_equal(o->icmp_key.sport, 4000);
	}
	/* An error that waits costs the next datagram nothing. */
	outside_box_sends(o, udp_input, "198.18.0.1", 4000, 9, "x", 1);
	outside_box_sends(o, udp_input, "198.18.0.1", 4000, 7000, "y", 1);
	assert_int_equal(host_receive(fd, buf, sizeof(buf), from, &port), 1);
	assert_int_equal(buf[0], 'y');

	o->n_icmp = 0;
	outside_box_sends(o, udp_input, "127.0.0.1", 4000, 9, "x", 1);
	assert_int_equal(o->why, ICMP_WHY_PROHIBITED);
	outside_box_sends(o, udp_input, "10.9.0.77", 4000, 9, "x", 1);
	assert_int_equal(o->why, ICMP_WHY_HOST);
	outside_box_sends(o, udp_input, "192.0.2.1", 4000, 9, "x", 1); /* the namespace has no route there */
	assert_int_equal(o->why, ICMP_WHY_NET);
	o->g.config.internal = true;
	o->why = ICMP_WHY_HOST;
	outside_box_sends(o, udp_input, "198.18.0.1", 4002, 7000, "x", 1);
	assert_int_equal(o->why, ICMP_WHY_NET);
	assert_int_equal(o->n_icmp, 4);
}

static void test_policy(void **state)
{
	SETUP(o);
	CLEANUP_CLOSE int a = outside_socket(SOCK_DGRAM, "198.18.0.1", 7000);
	CLEANUP_CLOSE int b = outside_socket(SOCK_DGRAM, "198.18.0.2", 7001);
	char from[NET_ADDR_TEXT_MAX], buf[16];
	uint16_t port;

	for (unsigned i = 0; i < 3; i++) {
		outside_box_sends(o, udp_input, "198.18.0.1", 4000, 7000, "a", 1);
		outside_box_sends(o, udp_input, "198.18.0.2", 4000, 7001, "a", 1);
	}
	assert_int_equal(o->n_asked, 2);
	host_receive(a, buf, sizeof(buf), from, &port);
	o->deny_port = 7000;
	udp_recheck(&o->g);
	assert_int_equal(o->box.n_udp, 1);
	host_send(a, from, port, "x", 1);
	host_send(b, from, port, "y", 1);
	expect(outside_receive(o, 0), "198.18.0.2", 7001, 4000, "y", 1);
	assert_null(outside_receive(o, 50));
	outside_box_sends(o, udp_input, "198.18.0.1", 4000, 7000, "a", 1);
	assert_int_equal(o->n_icmp, 1);
	assert_int_equal(o->why, ICMP_WHY_PROHIBITED);
	assert_int_equal(o->box.n_udp, 1);
}

static void test_bounds(void **state)
{
	SETUP(o);
	CLEANUP_CLOSE int fd = outside_socket(SOCK_DGRAM, "198.18.0.1", 7000);
	char from[NET_ADDR_TEXT_MAX], buf[16];
	uint16_t port;
	unsigned fds;

	outside_box_sends(o, udp_input, "198.18.0.1", 4000, 7000, "a", 1);
	host_receive(fd, buf, sizeof(buf), from, &port);
	host_send(fd, from, port, "b", 1);
	outside_receive(o, 0);
	fds = outside_count_fds();
	for (unsigned i = 0; i < ENGINE_UDP_PER_PORT + 100; i++) {
		char to[32];
		snprintf(to, sizeof(to), "198.19.%u.%u", i >> 8, i & 255);
		outside_box_sends(o, udp_input, to, 4001, 9, "a", 1);
	}
	assert_int_equal(o->box.n_udp, ENGINE_UDP_PER_PORT);
	assert_int_equal(outside_count_fds(), fds + 1);
	/* The conversation is still there. */
	host_send(fd, from, port, "c", 1);
	expect(outside_receive(o, 0), "198.18.0.1", 7000, 4000, "c", 1);

	/* Time passes: what had no answer goes first, with its socket. */
	struct udp_port *up = o->g.udp->ports[o->box.slot];
	for (struct udp_flow *f = up->lists[false][false].first; f; f = f->next)
		f->last_ns -= UDP_NEW_NS;
	up->lists[false][true].first->last_ns -= UDP_NEW_NS;
	loop_set_timer(o->g.udp->timer, 0);
	outside_settle(o);
	assert_int_equal(o->box.n_udp, 1);
	assert_int_equal(outside_count_fds(), fds);
	up->lists[false][true].first->last_ns -= UDP_ANSWERED_NS;
	loop_set_timer(o->g.udp->timer, 0);
	outside_settle(o);
	assert_int_equal(o->box.n_udp, 0);
	assert_int_equal(outside_count_fds(), fds - 1);
}

/* A box with its share of sockets loses its longest idle one for a new one; and it does not get them at any speed. */
static void test_share(void **state)
{
	SETUP(o);

	o->g.n_ports = 1;
	o->g.socket_budget = 8;
	for (uint16_t i = 0; i < 100; i++)
		outside_box_sends(o, udp_input, "198.18.0.1", (uint16_t)(4000 + i), 9, "a", 1);
	assert_int_equal(o->box.n_sockets, 4);
	assert_int_equal(o->g.n_sockets, 4);
	assert_int_equal(o->box.n_udp, 4);
	o->g.n_sockets += 4; /* all are used, and mostly by others */
	outside_box_sends(o, udp_input, "198.18.0.1", 5000, 9, "a", 1);
	assert_int_equal(o->box.n_sockets, 4);
	assert_int_equal(o->g.n_sockets, 8);
	o->g.n_sockets += 4; /* nothing that it gives up would make room */
	outside_box_sends(o, udp_input, "198.18.0.1", 5002, 9, "a", 1);
	assert_int_equal(o->box.n_sockets, 4);
	o->g.n_sockets -= 8;
	o->box.begins_ns = time_mono_ns() + 60000000000ull;
	uint64_t dropped = o->box.stats.dropped;
	outside_box_sends(o, udp_input, "198.18.0.1", 5001, 9, "a", 1);
	assert_int_equal(o->box.stats.dropped, dropped + 1);
	o->box.begins_ns = 0;
	outside_box_sends(o, udp_input, "198.18.0.1", 5001, 9, "a", 1);
	assert_int_equal(o->box.stats.dropped, dropped + 1);
	assert_int_equal(o->box.n_udp, 4);
	unsigned n = 0;
	for (unsigned i = 0; i < 100 * ENGINE_BEGINS_PER_S; i++)
		n += share_begin(&o->box);
	assert_in_range(n, ENGINE_BEGINS_PER_S - 1, 10 * ENGINE_BEGINS_PER_S);
}

/* A box that does not take its datagrams: they wait in the socket. */
static void test_room(void **state)
{
	SETUP(o);
	CLEANUP_CLOSE int fd = outside_socket(SOCK_DGRAM, "198.18.0.1", 7000);
	char from[NET_ADDR_TEXT_MAX], buf[16];
	uint16_t port;

	outside_box_sends(o, udp_input, "198.18.0.1", 4000, 7000, "a", 1);
	host_receive(fd, buf, sizeof(buf), from, &port);
	o->no_room = true;
	for (unsigned i = 0; i < 20; i++)
		host_send(fd, from, port, &i, 1);
	assert_null(outside_receive(o, 30));
	assert_non_null(o->waiter);
	o->no_room = false;
	struct port_waiter *w = o->waiter;
	port_unwait(w);
	w->fn(w);
	for (uint8_t i = 0; i < 20; i++)
		expect(outside_receive(o, 0), "198.18.0.1", 7000, 4000, &i, 1);
	/* One that waits is gone with the box. */
	o->no_room = true;
	host_send(fd, from, port, "x", 1);
	outside_settle(o);
	assert_non_null(o->waiter);
}

/* Datagrams as large as can be have their checksum, which is never zero (RFC 768). */
static void test_checksum(void **state)
{
	SETUP(o);
	struct net_addr src = outside_addr("198.18.0.1");

	memset(big, 0, sizeof(big));
	for (unsigned i = 0; i < 2; i++) {
		udp_send(&o->box, &src, 7, &o->box.a.ip4, 8, big, 65507);
		const struct pkt *k = outside_receive(o, 0);
		assert_int_equal(k->vnet.flags, 0);
		if (i)
			assert_memory_equal(k->frame + k->l4 + 6, "\xff\xff", 2);
		memcpy(big, k->frame + k->l4 + 6, 2); /* what makes the next one zero */
	}
	udp_send(&o->box, &src, 7, &o->box.a.ip4, 8, big, 65508);
	udp_send(&o->box, &src, 7, &o->box.a.ip6, 8, big, 1);
	assert_int_equal(o->n_frames, 2);
	assert_int_equal(o->box.stats.dropped, 2);
}

static void publish(struct outside *o, int fd, uint16_t guest_port)
{
	assert_int_equal(udp_publish(&o->box, guest_port, fd), 0);
}

static void test_publish(void **state)
{
	SETUP(o);
	int shared = outside_socket(SOCK_DGRAM, "0.0.0.0", 8053),
	    specific = outside_socket(SOCK_DGRAM, "198.18.0.7", 8054);
	CLEANUP_CLOSE int a = outside_socket(SOCK_DGRAM, "127.0.0.1", 5555);
	CLEANUP_CLOSE int b = outside_socket(SOCK_DGRAM, "127.0.0.2", 5555);
	CLEANUP_CLOSE int c = outside_socket(SOCK_DGRAM, "198.18.0.9", 5555);
	char from[NET_ADDR_TEXT_MAX];
	static uint8_t got[65536];
	uint16_t port;

	publish(o, shared, 53);
	publish(o, specific, 53);
	host_send(a, "127.0.0.3", 8053, "a", 1);
	host_send(b, "127.0.0.3", 8053, "b", 1);
	host_send(c, "198.18.0.8", 8053, "c", 1);
	host_send(c, "198.18.0.7", 8054, "d", 1);
	uint16_t seen[4];
	for (unsigned i = 0; i < 4; i++) {
		const struct pkt *k = outside_receive(o, 0);
		char data = (char)k->frame[k->payload], src[NET_ADDR_TEXT_MAX];
		assert_in_range(data, 'a', 'd');
		seen[data - 'a'] = k->sport;
		assert_int_equal(k->dport, 53);
		assert_string_equal(net_addr_text(&k->src, src), data < 'c' ? "10.9.0.1" : "198.18.0.9");
	}
	/* The same to two published ports of one guest port looks like two clients. */
	assert_int_not_equal(seen[0], seen[1]);
	assert_int_not_equal(seen[2], seen[3]);
	assert_true(seen[2] == 5555 || seen[3] == 5555);
	assert_int_equal(o->box.n_udp, 4);

	/* Each answer comes from where the question went. */
	static const struct {
		const char *to, *from;
		uint16_t port;
	} answers[] = {{"10.9.0.1", "127.0.0.3", 8053}, {"10.9.0.1", "127.0.0.3", 8053},
		{"198.18.0.9", "198.18.0.8", 8053}, {"198.18.0.9", "198.18.0.7", 8054}};
	for (unsigned i = 0; i < 4; i++) {
		uint8_t data = (uint8_t)('A' + i);
		outside_box_sends(o, udp_input, answers[i].to, 53, seen[i], &data, 1);
		assert_int_equal(host_receive(i == 0 ? a : i == 1 ? b : c, got, sizeof(got), from, &port), 1);
		assert_int_equal(got[0], data);
		assert_string_equal(from, answers[i].from);
		assert_int_equal(port, answers[i].port);
	}
	/* Large ones, both ways. */
	host_send(c, "198.18.0.7", 8054, big, 65507);
	expect(outside_receive(o, 0), "198.18.0.9", seen[3], 53, big, 65507);
	outside_box_sends(o, udp_input, "198.18.0.9", 53, seen[3], big, 65507);
	assert_int_equal(host_receive(c, got, sizeof(got), from, &port), 65507);
	assert_memory_equal(got, big, 65507);

	o->deny_port = 53;
	udp_recheck(&o->g);
	assert_int_equal(o->box.n_udp, 0);
	host_send(a, "127.0.0.3", 8053, "a", 1);
	assert_null(outside_receive(o, 50));
}

/* Both families by one socket; and a box that has one family only. */
static void test_publish6(void **state)
{
	SETUP(o);
	int fd = outside_socket(SOCK_DGRAM, "::", 8055);
	CLEANUP_CLOSE int c6 = outside_socket(SOCK_DGRAM, "2001:db8::5", 5555);
	CLEANUP_CLOSE int c4 = outside_socket(SOCK_DGRAM, "198.18.0.9", 5555);
	char from[NET_ADDR_TEXT_MAX], got[16];
	uint16_t port;

	publish(o, fd, 53);
	host_send(c6, "2001:db8::6", 8055, "six", 3);
	expect(outside_receive(o, 0), "2001:db8::5", 5555, 53, "six", 3);
	outside_box_sends(o, udp_input, "2001:db8::5", 53, 5555, "SIX", 3);
	assert_int_equal(host_receive(c6, got, sizeof(got), from, &port), 3);
	assert_string_equal(from, "2001:db8::6");
	host_send(c4, "198.18.0.6", 8055, "four", 4);
	expect(outside_receive(o, 0), "198.18.0.9", 5555, 53, "four", 4);
	outside_box_sends(o, udp_input, "198.18.0.9", 53, 5555, "FOUR", 4);
	assert_int_equal(host_receive(c4, got, sizeof(got), from, &port), 4);
	assert_string_equal(from, "198.18.0.6");
	assert_int_equal(port, 8055);

	o->box.a.ip6 = (struct net_addr){0};
	CLEANUP_CLOSE int other = outside_socket(SOCK_DGRAM, "2001:db8::5", 5556);
	host_send(other, "2001:db8::6", 8055, "x", 1);
	const struct pkt *k = outside_receive(o, 0);
	expect(k, "10.9.0.1", 5556, 53, "x", 1);
	outside_box_sends(o, udp_input, "10.9.0.1", 53, k->sport, "y", 1);
	assert_int_equal(host_receive(other, got, sizeof(got), from, &port), 1);

	/* Not what can be published. */
	assert_int_equal(udp_publish(&o->box, 53, outside_socket(SOCK_STREAM, "127.0.0.1", 0)), -EINVAL);
	assert_int_equal(udp_publish(&o->box, 0, outside_socket(SOCK_DGRAM, "127.0.0.1", 0)), -EINVAL);
	assert_int_equal(udp_publish(&o->box, 53, socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_echo, setup, teardown),
		cmocka_unit_test_setup_teardown(test_mapping, setup, teardown),
		cmocka_unit_test_setup_teardown(test_unreachable, setup, teardown),
		cmocka_unit_test_setup_teardown(test_policy, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bounds, setup, teardown),
		cmocka_unit_test_setup_teardown(test_share, setup, teardown),
		cmocka_unit_test_setup_teardown(test_room, setup, teardown),
		cmocka_unit_test_setup_teardown(test_checksum, setup, teardown),
		cmocka_unit_test_setup_teardown(test_publish, setup, teardown),
		cmocka_unit_test_setup_teardown(test_publish6, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
