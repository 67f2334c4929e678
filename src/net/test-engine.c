/* SPDX-License-Identifier: MIT */
/* Whose address is whose, with the kernel's own answers, in a network namespace of the test's own; and what ends when. */
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/io.h"
#include "test-world.h"

static bool write_text(const char *path, const char *text)
{
	CLEANUP_CLOSE int fd = open(path, O_WRONLY | O_CLOEXEC);

	return fd >= 0 && io_write_full(fd, text, strlen(text)) == 0;
}

/* A host with two addresses of one network, and one of IPv6. False: not permitted here. */
static bool enter_namespace(void)
{
	char uid[32], gid[32];

	snprintf(uid, sizeof(uid), "0 %u 1", getuid());
	snprintf(gid, sizeof(gid), "0 %u 1", getgid());
	if (unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0)
		return false;
	(void)write_text("/proc/self/setgroups", "deny");
	return write_text("/proc/self/uid_map", uid) && write_text("/proc/self/gid_map", gid) &&
	       system("ip link set lo up && ip link add veth0 type veth peer name veth1 &&"
		      "ip link set veth0 up && ip link set veth1 up &&"
		      "ip addr add 192.168.1.5/24 dev veth0 && ip addr add 192.168.1.77/24 dev veth0 &&"
		      "ip -6 addr add 2001:db8:5::5/64 dev veth0 nodad &&"
		      "ip route add default via 192.168.1.1") == 0;
}

static bool is_ours(struct world *w, const char *text)
{
	struct net_addr a;

	assert_int_equal(net_addr_parse(text, &a), 0);
	bool first = engine_is_this_host(w->g, &a);
	assert_int_equal(engine_is_this_host(w->g, &a), first); /* as it was kept */
	return first;
}

static void this_host_is_known_by_all_its_addresses(void **state)
{
	static const char *const ours[] = {"192.168.1.5", "192.168.1.77", "192.168.1.255", "2001:db8:5::5"};
	static const char *const others[] = {"192.168.1.6", "192.0.2.1", "8.8.8.8", "2001:db8:5::6",
		"2001:db8::1", "169.254.169.254", "10.9.0.10", "224.0.0.1"};
	struct world w;

	if (!enter_namespace())
		skip();
	world_init(&w, NET_ISOLATION_STRICT, NULL, 1);
	for (size_t i = 0; i < ARRAY_LEN(ours); i++) {
		if (!is_ours(&w, ours[i]))
			fail_msg("%s", ours[i]);
	}
	for (size_t i = 0; i < ARRAY_LEN(others); i++) {
		if (is_ours(&w, others[i]))
			fail_msg("%s", others[i]);
	}
	/* Where the kernel binds to anything, that says nothing. */
	world_done(&w);
	world_init(&w, NET_ISOLATION_STRICT, NULL, 1);
	if (write_text("/proc/sys/net/ipv4/ip_nonlocal_bind", "1")) {
		assert_true(is_ours(&w, "192.168.1.5"));
		assert_false(is_ours(&w, "8.8.8.8"));
	}
	world_done(&w);
}

static int way_to(struct world *w, const char *text)
{
	struct net_addr a, to;

	w->g->config.internal = false;
	assert_int_equal(net_addr_parse(text, &a), 0);
	return engine_outside(w->g, &a, &to);
}

static void what_is_link_local_is_not_outside(void **state)
{
	struct world w;
	struct net_addr link4, link6;

	world_init(&w, NET_ISOLATION_NONE, NULL, 1);
	assert_int_equal(way_to(&w, "169.254.169.254"), -EACCES);
	assert_int_equal(way_to(&w, "fe80::1"), -EACCES);
	assert_int_equal(way_to(&w, "127.0.0.1"), -EACCES);
	assert_int_equal(net_addr_parse("169.254.3.4", &link4), 0);
	assert_int_equal(net_addr_parse("fe80::7", &link6), 0);
	struct net_addr seen4 = engine_seen_as(w.g, &link4, true), seen6 = engine_seen_as(w.g, &link6, false);
	assert_true(net_addr_equal(&seen4, &w.g->config.gateway4));
	assert_true(net_addr_equal(&seen6, &w.g->config.gateway6));
	world_done(&w);
	/* There are rules, which have to allow it (policy-eval.c). */
	world_init(&w, NET_ISOLATION_STRICT, NULL, 1);
	assert_int_equal(way_to(&w, "fe80::1"), -EACCES);
	assert_int_equal(way_to(&w, "169.254.169.254"), 0);
	world_done(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_link_local_is_not_outside),
		cmocka_unit_test(this_host_is_known_by_all_its_addresses),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
