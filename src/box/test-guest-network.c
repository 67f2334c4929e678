/* SPDX-License-Identifier: MIT */
/* What the guest is told of a box's networks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/io.h"
#include "box/network.h"

#define TEXT(s) ((char *)(uintptr_t)(s))

static struct box make_box(void)
{
	return (struct box){.name = TEXT("b"), .config = {.hostname = TEXT("self")}};
}

static void fill(const struct box *b, const struct box_endpoint *eps, const struct box_network *const *nets,
	size_t n, struct wire_network *ret)
{
	struct err e = {0};

	if (box_fill_network(b, eps, nets, n, ret, &e) < 0)
		fail_msg("%s", e.msg);
}

static bool has(const struct strv *hosts, const char *line)
{
	for (size_t i = 0; i < hosts->n; i++)
		if (strcmp(hosts->v[i], line) == 0)
			return true;
	return false;
}

static void none(void **state)
{
	struct box b = make_box();
	CLEANUP(wire_network_done) struct wire_network n = {0};

	strv_push(&b.config.add_hosts, "db:10.0.0.1");
	strv_push(&b.config.add_hosts, "host:host-gateway");
	fill(&b, NULL, NULL, 0, &n);
	assert_int_equal(n.n_nics, 0);
	assert_null(n.resolv_conf);
	assert_int_equal(n.hosts.n, 2); /* there is no gateway for host-gateway to be */
	assert_true(has(&n.hosts, "10.0.0.1\tdb"));
	assert_true(has(&n.hosts, "127.0.0.1\tself"));
	strv_done(&b.config.add_hosts);

	/* Whoever asks for a resolver has one all the same. */
	wire_network_done(&n);
	strv_push(&b.config.dns, "9.9.9.9");
	fill(&b, NULL, NULL, 0, &n);
	assert_string_equal(n.resolv_conf, "nameserver 9.9.9.9\n");
	strv_done(&b.config.dns);
}

static void own_network(void **state)
{
	struct box b = make_box();
	const struct box_endpoint ep = {.ip4 = TEXT(BOX_DEFAULT_IP4), .ip6 = TEXT(BOX_DEFAULT_IP6)};
	const struct box_network *nets[] = {NULL};
	CLEANUP(wire_network_done) struct wire_network n = {0};

	strv_push(&b.config.add_hosts, "gate:host-gateway");
	strv_push(&b.config.dns, "9.9.9.9"); /* netd's to ask, not the box's */
	strv_push(&b.config.dns_search, "example.org");
	strv_push(&b.config.dns_opts, "ndots:2");
	fill(&b, &ep, nets, 1, &n);
	assert_int_equal(n.n_nics, 1);
	assert_int_equal(n.nics[0].link, 0);
	assert_string_equal(n.nics[0].name, "eth0");
	assert_string_equal(n.nics[0].ip4, BOX_DEFAULT_IP4);
	assert_int_equal(n.nics[0].prefix4, 24);
	assert_string_equal(n.nics[0].gateway4, BOX_DEFAULT_GATEWAY4);
	assert_string_equal(n.nics[0].ip6, BOX_DEFAULT_IP6);
	assert_int_equal(n.nics[0].prefix6, 64);
	assert_string_equal(n.nics[0].gateway6, BOX_DEFAULT_GATEWAY6);
	assert_int_equal(n.nics[0].mtu, NETD_MTU);
	assert_true(has(&n.hosts, BOX_DEFAULT_GATEWAY4 "\tgate"));
	assert_true(has(&n.hosts, BOX_DEFAULT_GATEWAY6 "\tgate"));
	assert_true(has(&n.hosts, BOX_DEFAULT_IP4 "\tself"));
	assert_true(has(&n.hosts, BOX_DEFAULT_IP6 "\tself"));
	assert_string_equal(
		n.resolv_conf, "nameserver " BOX_DEFAULT_GATEWAY4 "\nsearch example.org\noptions ndots:2\n");

	/* "." is no search list at all. */
	strv_done(&b.config.dns_search);
	strv_push(&b.config.dns_search, ".");
	wire_network_done(&n);
	fill(&b, &ep, nets, 1, &n);
	assert_null(strstr(n.resolv_conf, "search"));
	strv_done(&b.config.add_hosts);
	strv_done(&b.config.dns);
	strv_done(&b.config.dns_search);
	strv_done(&b.config.dns_opts);
}

static void several(void **state)
{
	struct box b = make_box();
	const struct box_network back = {
		.subnet4 = TEXT("10.88.1.0/24"), .gateway4 = TEXT("10.88.1.1"), .internal = true};
	const struct box_network front = {.subnet4 = TEXT("10.88.2.0/24"), .gateway4 = TEXT("10.88.2.1")};
	const struct box_endpoint eps[] = {
		{.link = 0, .ip4 = TEXT("10.88.1.5")}, {.link = 3, .ip4 = TEXT("10.88.2.6")}};
	const struct box_network *nets[] = {&back, &front};
	CLEANUP(wire_network_done) struct wire_network n = {0};

	/* The way out is the first network that leads out. It knows the names of the world, and is asked last. */
	fill(&b, eps, nets, 2, &n);
	assert_int_equal(n.n_nics, 2);
	assert_null(n.nics[0].gateway4);
	assert_string_equal(n.nics[1].name, "eth3");
	assert_string_equal(n.nics[1].gateway4, "10.88.2.1");
	assert_null(n.nics[1].ip6);
	assert_int_equal(strncmp(n.resolv_conf, "nameserver 10.88.1.1\nnameserver 10.88.2.1\n", 42), 0);
	assert_true(has(&n.hosts, "10.88.1.5\tself") && has(&n.hosts, "10.88.2.6\tself"));

	/* None leads out: no default route, but names. */
	wire_network_done(&n);
	fill(&b, eps, nets, 1, &n);
	assert_null(n.nics[0].gateway4);
	assert_int_equal(strncmp(n.resolv_conf, "nameserver 10.88.1.1\n", 21), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(none),
		cmocka_unit_test(own_network),
		cmocka_unit_test(several),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
