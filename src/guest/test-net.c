/* SPDX-License-Identifier: MIT */
/* Interfaces as the host wants them: in a network namespace of our own, where one end of a veth pair stands for the device. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "base/io.h"
#include "net.h"

static int proc_fd = -1;
static bool usable;

static int shell(const char *command)
{
	int status = system(command);

	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* Root of a namespace of its own, whoever runs this. */
static bool enter_namespace(void)
{
	char map[32];
	uid_t uid = geteuid();

	if (unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0)
		return false;
	snprintf(map, sizeof(map), "0 %u 1", uid);
	CLEANUP_CLOSE int fd = open("/proc/self/uid_map", O_WRONLY | O_CLOEXEC);
	return fd >= 0 && io_write_full(fd, map, strlen(map)) == 0;
}

static int setup(void **state)
{
	usable = enter_namespace() &&
		 shell("ip link add eth0 type veth peer name p0 && ip link set lo up && ip link set p0 up") ==
			 0;
	if (!usable)
		print_message("no network namespace, or no ip(8): skipped\n");
	proc_fd = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	return 0;
}

static int teardown(void **state)
{
	close_fd(&proc_fd);
	return 0;
}

static void apply(const struct wire_network *n, bool boot)
{
	char what[160] = "";
	int r = net_apply(proc_fd, n, boot, what, sizeof(what));

	if (r < 0)
		fail_msg("%s: %s", what, strerror(-r));
}

/* Whether ip(8) says it, of the interface or the routes. */
static bool says(const char *command, const char *text)
{
	char line[512];

	snprintf(line, sizeof(line), "ip %s | tr -s ' \\n' ' ' | grep -qF -- '%s'", command, text);
	return shell(line) == 0;
}

/* IPv6 may be absent where this runs. */
static bool has_ipv6(void)
{
	return access("/proc/sys/net/ipv6/conf/eth0/addr_gen_mode", F_OK) == 0;
}

static struct wire_nic nic(uint32_t link, const char *name)
{
	return (struct wire_nic){.link = link, .name = (char *)(uintptr_t)name, .mtu = 1400};
}

#define TEXT(s) ((char *)(uintptr_t)(s))

static void test_life(void **state)
{
	struct wire_network n = {.n_nics = 1};

	if (!usable)
		skip();
	n.nics[0] = nic(0, "eth0");
	n.nics[0].ip4 = TEXT("10.87.0.2");
	n.nics[0].prefix4 = 24;
	n.nics[0].gateway4 = TEXT("10.87.0.1");
	if (has_ipv6()) {
		n.nics[0].ip6 = TEXT("fda3:5b0c::2");
		n.nics[0].prefix6 = 64;
		n.nics[0].gateway6 = TEXT("fda3:5b0c::1");
	}
	apply(&n, true);
	assert_true(says("link show eth0", "mtu 1400"));
	assert_true(says("addr show eth0", "inet 10.87.0.2/24"));
	assert_true(says("route", "default via 10.87.0.1 dev eth0"));
	if (has_ipv6()) {
		/* At once, without waiting for anybody, and with nothing that nobody asked for. */
		assert_true(says("addr show eth0", "inet6 fda3:5b0c::2/64"));
		assert_false(says("addr show eth0", "tentative"));
		assert_false(says("addr show eth0", "fe80"));
		assert_true(says("-6 route", "default via fda3:5b0c::1 dev eth0"));
	}

	/* The same once more is no change; what the box has added stays. */
	assert_int_equal(
		shell("ip addr add 192.168.7.7/24 dev eth0 && ip route add 10.99.0.0/16 via 10.87.0.9"), 0);
	apply(&n, false);
	assert_true(says("addr show eth0", "inet 192.168.7.7/24"));
	assert_true(says("addr show eth0", "inet 10.87.0.2/24"));
	assert_true(says("route", "10.99.0.0/16"));

	/* Another address, another gateway. */
	n.nics[0].ip4 = TEXT("10.87.0.3");
	n.nics[0].gateway4 = TEXT("10.87.0.254");
	apply(&n, false);
	assert_false(says("addr show eth0", "10.87.0.2/"));
	assert_true(says("addr show eth0", "inet 10.87.0.3/24"));
	assert_true(says("route", "default via 10.87.0.254 dev eth0"));
	assert_false(says("route", "10.87.0.1 "));

	/* No default route any more, and IPv6 gone. */
	n.nics[0].gateway4 = n.nics[0].gateway6 = n.nics[0].ip6 = NULL;
	apply(&n, false);
	assert_false(says("route", "default"));
	assert_false(says("-6 route", "default"));
	assert_false(says("addr show eth0", "fda3:5b0c"));

	/* Off all networks: the device stays up, for what may come. */
	n.n_nics = 0;
	apply(&n, false);
	assert_false(says("addr show eth0", "10.87"));
	assert_true(says("addr show eth0", "192.168.7.7"));
	assert_true(says("link show eth0", ",UP"));
	assert_int_equal(shell("ip addr flush dev eth0"), 0);
}

static void test_vlans(void **state)
{
	struct wire_network n = {.n_nics = 2};

	if (!usable || shell("ip link add link eth0 name eth1 type vlan id 1 2>/dev/null") != 0)
		skip(); /* no VLANs where this runs */
	n.nics[0] = nic(1, "eth1");
	n.nics[0].ip4 = TEXT("10.88.1.2");
	n.nics[0].prefix4 = 24;
	n.nics[0].gateway4 = TEXT("10.88.1.1");
	n.nics[1] = nic(3, "eth3");
	n.nics[1].ip4 = TEXT("10.88.3.2");
	n.nics[1].prefix4 = 24;
	apply(&n, false);
	assert_true(says("-d link show eth3", "vlan protocol 802.1Q id 3"));
	assert_true(says("route", "default via 10.88.1.1 dev eth1"));
	n.nics[0] = n.nics[1];
	n.nics[0].gateway4 = TEXT("10.88.3.1");
	n.n_nics = 1;
	apply(&n, false);
	assert_int_equal(if_nametoindex("eth1"), 0);
	assert_true(says("route", "default via 10.88.3.1 dev eth3"));
	n.n_nics = 0;
	apply(&n, false);
	assert_int_equal(if_nametoindex("eth3"), 0);
}

static void test_without_ipv6(void **state)
{
	struct wire_network n = {.n_nics = 1};

	if (!usable || !has_ipv6())
		skip();
	n.nics[0] = nic(0, "eth0");
	n.nics[0].ip4 = TEXT("10.87.0.2");
	n.nics[0].prefix4 = 24;
	n.nics[0].ip6 = TEXT("fda3:5b0c::2");
	n.nics[0].prefix6 = 64;
	n.nics[0].gateway6 = TEXT("fda3:5b0c::1");
	assert_int_equal(shell("echo 1 >/proc/sys/net/ipv6/conf/eth0/disable_ipv6"), 0);
	apply(&n, false);
	assert_true(says("addr show eth0", "inet 10.87.0.2/24"));
	assert_false(says("addr show eth0", "inet6"));
	assert_int_equal(shell("echo 0 >/proc/sys/net/ipv6/conf/eth0/disable_ipv6"), 0);
}

static void test_refused(void **state)
{
	const struct wire_nic bad[] = {
		{.link = 0, .name = NULL},
		{.link = 0, .name = TEXT("eth1")},
		{.link = 1, .name = TEXT("eth0")},
		{.link = 8, .name = TEXT("eth8")},
		{.link = 0, .name = TEXT("eth0"), .ip4 = TEXT("10.87.0.256"), .prefix4 = 24},
		{.link = 0, .name = TEXT("eth0"), .ip4 = TEXT("10.87.0.2"), .prefix4 = 33},
		{.link = 0, .name = TEXT("eth0"), .ip4 = TEXT("fda3::2"), .prefix4 = 24},
		{.link = 0, .name = TEXT("eth0"), .ip6 = TEXT("10.0.0.1"), .prefix6 = 64},
		{.link = 0, .name = TEXT("eth0"), .gateway4 = TEXT("x")},
		{.link = 0, .name = TEXT("eth0"), .gateway4 = TEXT("fda3::1")},
	};

	if (!usable)
		skip();
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct wire_network n = {.n_nics = 1, .nics = {bad[i]}};
		char what[160] = "";

		assert_int_equal(net_apply(proc_fd, &n, false, what, sizeof(what)), -EINVAL);
		assert_true(*what);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_life),
		cmocka_unit_test(test_vlans),
		cmocka_unit_test(test_without_ipv6),
		cmocka_unit_test(test_refused),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
