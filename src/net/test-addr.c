/* SPDX-License-Identifier: MIT */
#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "net/addr.h"

static struct net_addr addr(const char *s)
{
	struct net_addr a;

	if (net_addr_parse(s, &a) < 0)
		fail_msg("%s", s);
	return a;
}

static struct net_prefix prefix(const char *s)
{
	struct net_prefix p;

	if (net_prefix_parse(s, &p) < 0)
		fail_msg("%s", s);
	return p;
}

static void test_text(void **state)
{
	static const char *const good[][2] = {{"10.1.2.3", "10.1.2.3"}, {"0.0.0.0", "0.0.0.0"},
		{"255.255.255.255", "255.255.255.255"}, {"fd00::1", "fd00::1"}, {"FD00:0:0::1", "fd00::1"},
		{"::", "::"}, {"2001:db8:1:2:3:4:5:6", "2001:db8:1:2:3:4:5:6"}};
	static const char *const bad[] = {"", "10.1.2", "10.1.2.3.4", "10.1.2.256", "010.1.2.3", "10.1.2.3 ",
		" 10.1.2.3", "::ffff:10.1.2.3", "::ffff:0:0", "fe80::1%eth0", "fd00::1/64", "fd00:::1",
		"[::1]", "localhost"};
	char buf[NET_ADDR_TEXT_MAX];
	struct net_addr a;

	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		a = addr(good[i][0]);
		assert_string_equal(net_addr_text(&a, buf), good[i][1]);
	}
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		memset(&a, 7, sizeof(a));
		assert_int_equal(net_addr_parse(bad[i], &a), -EINVAL);
		assert_int_equal(a.b[0], 7);
	}
	a = addr("10.1.2.3");
	assert_memory_equal(a.b, "\0\0\0\0\0\0\0\0\0\0\xff\xff\x0a\1\2\3", 16);
	memset(&a, 0xff, sizeof(a));
	assert_int_equal(strlen(net_addr_text(&a, buf)), 39);
}

static void test_prefix(void **state)
{
	static const char *const good[][2] = {{"10.0.0.0/8", "10.0.0.0/8"}, {"10.1.2.3", "10.1.2.3/32"},
		{"0.0.0.0/0", "0.0.0.0/0"}, {"fd00::/7", NULL}, {"fc00::/7", "fc00::/7"}, {"::/0", "::/0"},
		{"fd00::1", "fd00::1/128"}, {"10.1.2.128/25", "10.1.2.128/25"}};
	static const char *const bad[] = {"10.0.0.1/8", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/08",
		"10.0.0.0/-1", "10.0.0.0/+8", "10.0.0.0/8/8", "10.0.0.0/8 ", "/8", "fd00::/129", "fd00::1/64",
		"fd00::/1000", "10.0.0.0/256", "10.1.2.192/25", "::ffff:10.0.0.0/104",
		"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa/8"};
	char buf[NET_ADDR_TEXT_MAX + 4];
	struct net_prefix p;

	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		if (!good[i][1]) {
			assert_int_equal(net_prefix_parse(good[i][0], &p), -EINVAL);
			continue;
		}
		p = prefix(good[i][0]);
		assert_string_equal(net_prefix_text(&p, buf), good[i][1]);
	}
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(net_prefix_parse(bad[i], &p), -EINVAL);
	p = prefix("10.0.0.0/8");
	assert_int_equal(p.bits, 104);
	assert_int_equal(net_prefix_len(&p), 8);
	p = prefix("fd00::/64");
	assert_int_equal(net_prefix_len(&p), 64);
}

static void test_contains(void **state)
{
	static const struct {
		const char *prefix, *addr;
		bool has;
	} cases[] = {
		{"10.0.0.0/8", "10.255.0.1", true},
		{"10.0.0.0/8", "11.0.0.0", false},
		{"10.1.2.128/25", "10.1.2.128", true},
		{"10.1.2.128/25", "10.1.2.127", false},
		{"10.1.2.3/32", "10.1.2.3", true},
		{"10.1.2.3/32", "10.1.2.2", false},
		{"0.0.0.0/0", "255.1.1.1", true},
		{"0.0.0.0/0", "fd00::1", false},
		{"::/0", "fd00::1", true},
		{"::/0", "10.0.0.1", false},
		{"fd00::/61", "fd00:0:0:7::1", true},
		{"fd00::/61", "fd00:0:0:8::1", false},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct net_prefix p = prefix(cases[i].prefix);
		struct net_addr a = addr(cases[i].addr);
		if (net_prefix_has(&p, &a) != cases[i].has)
			fail_msg("%s %s", cases[i].prefix, cases[i].addr);
	}

	static const struct {
		const char *a, *b;
		bool overlap;
	} pairs[] = {
		{"10.0.0.0/8", "10.1.0.0/16", true},
		{"10.0.0.0/16", "10.1.0.0/16", false},
		{"0.0.0.0/0", "10.1.0.0/16", true},
		{"::/0", "10.1.0.0/16", false},
		{"fd00::/8", "fd00:1::/64", true},
		{"fd00::/64", "fd00:0:0:1::/64", false},
	};
	for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
		struct net_prefix a = prefix(pairs[i].a), b = prefix(pairs[i].b);
		assert_int_equal(net_prefix_overlap(&a, &b), pairs[i].overlap);
		assert_int_equal(net_prefix_overlap(&b, &a), pairs[i].overlap);
	}
}

static void test_sockaddr(void **state)
{
	struct sockaddr_storage ss;
	struct net_addr a = addr("10.1.2.3"), b;
	uint16_t port;

	assert_int_equal(net_addr_sockaddr(&a, 8080, &ss), sizeof(struct sockaddr_in));
	assert_int_equal(ss.ss_family, AF_INET);
	assert_int_equal(((struct sockaddr_in *)&ss)->sin_port, htons(8080));
	assert_true(net_addr_from_sockaddr(&ss, &b, &port));
	assert_true(net_addr_equal(&a, &b));
	assert_int_equal(port, 8080);

	a = addr("fd00::1");
	assert_int_equal(net_addr_sockaddr(&a, 65535, &ss), sizeof(struct sockaddr_in6));
	assert_int_equal(ss.ss_family, AF_INET6);
	assert_true(net_addr_from_sockaddr(&ss, &b, &port));
	assert_true(net_addr_equal(&a, &b));
	assert_int_equal(port, 65535);

	/* What accept gives on an AF_INET6 socket for an IPv4 client. */
	assert_int_equal(
		inet_pton(AF_INET6, "::ffff:192.0.2.1", &((struct sockaddr_in6 *)&ss)->sin6_addr), 1);
	assert_true(net_addr_from_sockaddr(&ss, &b, &port));
	a = addr("192.0.2.1");
	assert_true(net_addr_is4(&b));
	assert_true(net_addr_equal(&a, &b));
	ss.ss_family = AF_UNIX;
	assert_false(net_addr_from_sockaddr(&ss, &b, &port));
}

static void test_kinds(void **state)
{
	static const char *const martians[] = {"0.0.0.0", "0.1.2.3", "127.0.0.1", "127.255.0.1", "224.0.0.1",
		"239.1.1.1", "255.255.255.255", "::", "::1", "::127.0.0.1", "ff02::1", "ff0e::1"};
	static const char *const others[] = {"1.1.1.1", "10.0.0.1", "126.0.0.1", "128.0.0.1", "169.254.1.1",
		"223.1.1.1", "fe80::1", "fd00::1", "2001:db8::1", "64:ff9b::1"};

	for (size_t i = 0; i < ARRAY_LEN(martians); i++) {
		struct net_addr a = addr(martians[i]);
		if (!net_addr_is_martian(&a))
			fail_msg("%s", martians[i]);
	}
	for (size_t i = 0; i < ARRAY_LEN(others); i++) {
		struct net_addr a = addr(others[i]);
		if (net_addr_is_martian(&a) || net_addr_is_loopback(&a))
			fail_msg("%s", others[i]);
	}
	struct net_addr a = addr("127.9.9.9"), b = addr("::1"), zero = addr("::"), zero4 = addr("0.0.0.0");
	assert_true(net_addr_is_loopback(&a));
	assert_true(net_addr_is_loopback(&b));
	char text[NET_ADDR_HOST_MAX];
	assert_string_equal(net_addr_host_text("10.0.0.1", text), "10.0.0.1");
	assert_string_equal(net_addr_host_text("fd00::1", text), "[fd00::1]");
	assert_string_equal(net_addr_host_text("", text), "");
	assert_true(net_addr_is_zero(&zero));
	assert_false(net_addr_is_zero(&zero4));
	assert_false(net_addr_is_zero(&b));
}

static void test_places(void **state)
{
	static const struct {
		const char *text, *kinds; /* l: link-local, p: private, t: translated */
	} cases[] = {{"169.254.0.0", "l"}, {"169.254.169.254", "l"}, {"169.253.255.255", ""},
		{"169.255.0.0", ""}, {"fe80::1", "l"}, {"febf::1", "l"}, {"fec0::1", ""}, {"fe7f::1", ""},
		{"10.0.0.0", "p"}, {"11.0.0.0", ""}, {"172.15.255.255", ""}, {"172.16.0.0", "p"},
		{"172.31.255.255", "p"}, {"172.32.0.0", ""}, {"192.168.0.1", "p"}, {"192.167.0.1", ""},
		{"100.63.255.255", ""}, {"100.64.0.0", "p"}, {"100.127.255.255", "p"}, {"100.128.0.0", ""},
		{"fc00::", "p"}, {"fdff::1", "p"}, {"fbff::1", ""}, {"64:ff9b::c0a8:105", "t"},
		{"64:ff9b:1:2:3::1", "t"}, {"64:ff9b:2::1", ""}, {"2002:c0a8:105::1", "t"}, {"2003::1", ""},
		{"2001::1", "t"}, {"2001:db8::1", ""}, {"8.8.8.8", ""}, {"32.2.0.1", ""}};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct net_addr a = addr(cases[i].text);
		char got[4] = "", *c = got;
		if (net_addr_is_link_local(&a))
			*c++ = 'l';
		if (net_addr_is_private(&a))
			*c++ = 'p';
		if (net_addr_is_translated(&a))
			*c++ = 't';
		if (strcmp(got, cases[i].kinds) != 0)
			fail_msg("%s: %s", cases[i].text, got);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_text),
		cmocka_unit_test(test_prefix),
		cmocka_unit_test(test_contains),
		cmocka_unit_test(test_sockaddr),
		cmocka_unit_test(test_kinds),
		cmocka_unit_test(test_places),
	};

	return cmocka_run_group_tests_name("net-addr", tests, NULL, NULL);
}
