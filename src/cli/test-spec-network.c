/* SPDX-License-Identifier: MIT */
/* --publish, --network and what belongs to them: Docker's grammar, what is refused, and how ports are shown. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "ports.h"
#include "spec.h"

static void join(char *dst, size_t size, const struct strv *l)
{
	size_t n = 0;

	dst[0] = '\0';
	for (size_t i = 0; i < l->n; i++)
		n += (size_t)snprintf(dst + n, size - n, "%s%s", i ? " " : "", l->v[i]);
}

/* given: what is published, one after the other. */
static const struct {
	const char *given, *want; /* want with a leading "!": part of the message */
} publish_cases[] = {
	{"80", "0:80/tcp"},
	{":80", "0:80/tcp"},
	{"0:80", "0:80/tcp"},
	{"8080:80", "8080:80/tcp"},
	{"8080:80/udp", "8080:80/udp"},
	{"127.0.0.1:8080:80", "127.0.0.1:8080:80/tcp"},
	{"127.0.0.1::80", "127.0.0.1:0:80/tcp"},
	{"0.0.0.0:53:53/udp", "0.0.0.0:53:53/udp"},
	{"[::1]:8080:80", "[::1]:8080:80/tcp"},
	{"[::]:8080:80", "[::]:8080:80/tcp"},
	{"::1:8080:80", "[::1]:8080:80/tcp"},
	{"[0:0::1]::80", "[::1]:0:80/tcp"},
	{"8080-8082:80-82", "8080:80/tcp 8081:81/tcp 8082:82/tcp"},
	{"80-82", "0:80/tcp 0:81/tcp 0:82/tcp"},
	{"0:80-81/udp", "0:80/udp 0:81/udp"},
	{"8080-8090:80", "8080-8090:80/tcp"},
	{"127.0.0.1:8080-8090:80", "127.0.0.1:8080-8090:80/tcp"},
	{"8080-8080:80", "8080:80/tcp"},
	{"65535:65535", "65535:65535/tcp"},
	{"target=80,published=8080,protocol=udp", "8080:80/udp"},
	{"target=80", "0:80/tcp"},
	{"8080:80/UDP", "8080:80/udp"},
	{"8080:80 8080:80", "8080:80/tcp"},
	{"8080:80 8080:80/udp", "8080:80/tcp 8080:80/udp"},
	{"80 80", "0:80/tcp"},
	{"8080:80 8080:81", "!port 8080/tcp of the host is given twice"},
	{"8080:80-81", "!1 port of the host for 2 of the box"},
	{"8080-8081:80-82", "!2 ports of the host for 3"},
	{"8080:80/sctp", "!SCTP"},
	{"8080:80/icmp", "!--publish \"8080:80/icmp\": \"icmp\" is no protocol"},
	{"8080:80/", "!\" is no "},
	{"8080:0", "!\"0\" is no port"},
	{"8080:", "!no port of the box"},
	{"", "!--publish \"\": no port"},
	{":", "!no port of the box"},
	{"x:80", "!\"x\" is no port"},
	{"-1:80", "!\" is no "},
	{"65536:80", "!\" is no "},
	{"80:65536", "!\" is no "},
	{"8090-8080:80", "!\" is no "},
	{"8080-:80", "!\" is no "},
	{"0-5:80", "!\" is no "},
	{"localhost:8080:80", "!\"localhost\" is no address"},
	{"300.0.0.1:8080:80", "!\" is no "},
	{"[::1:8080:80", "!\" is no "},
	{"1.2.3.4:5:6:7", "!\" is no "},
	{"8080:80 ", "!\" is no "},
	{"target=80,nosuch=1", "!expected target="},
	{"target=99999", "!--publish \"target=99999\": \"99999\" is no port"},
	{"published=80", "!expected target="},
	{"00000000000000080:80", "!\" is no "},
};

static void ports_are_published_as_docker_does(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(publish_cases); i++) {
		const char *want = publish_cases[i].want;
		char text[2048], *given = strdup(publish_cases[i].given), *save = given;
		struct strv got = {0};
		struct err e = {0};
		int r = *given ? 0 : spec_add_publish("", NULL, &got, &e);
		bool spaces = *want == '!' && given[strlen(given) - (*given != 0)] == ' ';
		for (char *one; r == 0 && given && *given && (one = spaces ? given : strsep(&save, " "));) {
			r = spec_add_publish(one, NULL, &got, &e);
			if (spaces)
				break;
		}
		join(text, sizeof(text), &got);
		if (*want == '!' ? r >= 0 || !strstr(e.msg, want + 1) : r < 0 || strcmp(text, want) != 0)
			fail_msg("%s: %d \"%s\" %s, want %s", publish_cases[i].given, r, text, e.msg, want);
		strv_done(&got);
		free(given);
	}
}

static void the_address_of_the_environment_is_where_none_is_given(void **state)
{
	struct strv got = {0};
	struct err e = {0};
	char *address, text[256];

	setenv("A3S_PUBLISH_ADDRESS", "127.0.0.1", 1);
	assert_int_equal(spec_publish_address(&address, &e), 0);
	assert_string_equal(address, "127.0.0.1");
	assert_int_equal(spec_add_publish("80", address, &got, &e), 0);
	assert_int_equal(spec_add_publish("[::1]:80:80", address, &got, &e), 0);
	join(text, sizeof(text), &got);
	assert_string_equal(text, "127.0.0.1:0:80/tcp [::1]:80:80/tcp");
	strv_done(&got);
	free(address);
	setenv("A3S_PUBLISH_ADDRESS", "everywhere", 1);
	assert_int_equal(spec_publish_address(&address, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "A3S_PUBLISH_ADDRESS: everywhere"));
	unsetenv("A3S_PUBLISH_ADDRESS");
	assert_int_equal(spec_publish_address(&address, &e), 0);
	assert_null(address);
}

/* Nobody writes to them. */
#define NETS(...) \
	{ \
		.v = (char **)(const char *[]){__VA_ARGS__, NULL}, \
		.n = ARRAY_LEN(((const char *[]){__VA_ARGS__})) \
	}

static const struct {
	struct run_opts o;
	const char *why; /* part of the message, NULL: accepted */
} network_cases[] = {
	{{0}, NULL},
	{{.networks = NETS("bridge")}, NULL},
	{{.networks = NETS("default")}, NULL},
	{{.networks = NETS("none")}, NULL},
	{{.networks = NETS("front", "back")}, NULL},
	{{.networks = NETS("name=front,alias=a,alias=b,ip=10.1.0.2,ip6=fd00::2", "back")}, NULL},
	{{.networks = NETS("front"), .ip = "10.1.0.2", .ip6 = "fd00::2", .network_aliases = NETS("db")},
		NULL},
	{{.networks = NETS("host")}, "--network host"},
	{{.networks = NETS("container:x")}, "--network container:x"},
	{{.networks = NETS("")}, "--network"},
	{{.networks = NETS("none", "front")}, "--network none and --network front"},
	{{.networks = NETS("front", "none")}, "--network none and --network front"},
	{{.networks = NETS("none"), .publish = NETS("80")}, "--publish and --network none"},
	{{.networks = NETS("none"), .publish_all = true}, "--publish and --network none"},
	{{.networks = NETS("a", "b", "c", "d", "e", "f", "g", "h")}, NULL},
	{{.networks = NETS("a", "b", "c", "d", "e", "f", "g", "h", "i")}, "8 networks"},
	{{.networks = NETS("name=front,mtu=9000")}, "--network name=front,mtu=9000"},
	{{.networks = NETS("alias=x")}, "--network alias=x"},
	{{.networks = NETS("name=front,ip=fd00::1")}, "ip fd00::1"},
	{{.networks = NETS("name=front,ip=10.1.0.2"), .ip = "10.1.0.3"}, "--ip and --network"},
	{{.networks = NETS("name=front,alias=a b")}, "alias"},
	{{.ip = "10.1.0.2"}, "not for bridge"},
	{{.network_aliases = NETS("db")}, "not for bridge"},
	{{.networks = NETS("front"), .ip = "10.1.0"}, "--ip 10.1.0"},
	{{.networks = NETS("front"), .ip = "0.0.0.0"}, "--ip 0.0.0.0"},
	{{.networks = NETS("front"), .ip6 = "10.1.0.2"}, "--ip6 10.1.0.2"},
	{{.networks = NETS("front"), .network_aliases = NETS("-x")}, "--network-alias"},
	{{.networks = NETS("front"), .network_aliases = NETS("_a.b-c.d")}, NULL},
	{{.networks = NETS("front"), .network_aliases = NETS("a..b")}, "--network-alias"},
	{{.networks = NETS("front"), .network_aliases = NETS("a.")}, "--network-alias"},
	{{.networks = NETS("front"), .network_aliases = NETS("")}, "--network-alias \"\""},
	{{.dns = NETS("1.1.1.1", "2", "3", "4", "5", "6", "7", "8", "9")}, "--dns"},
	{{.dns = NETS("::1", "::2", "::3", "::4", "::5", "::6", "::7", "::8", "::9")}, "--dns: 9"},
	{{.networks = NETS("none"),
		 .dns = NETS("::1", "::2", "::3", "::4", "::5", "::6", "::7", "::8", "::9")},
		NULL},
	{{.mac_address = "02:00:00:00:00:01"}, "--mac-address"},
	{{.egress_allow = NETS("example.org:443", "10.0.0.0/8")}, NULL},
	{{.egress_allow = NETS("example.org:https")}, "example.org:https"},
	{{.networks = NETS("front"), .egress_allow = NETS("example.org")}, "--egress-allow"},
	{{.networks = NETS("front", "bridge"), .egress_allow = NETS("example.org")}, NULL},
	{{.network_opts = NETS("rate=100m")}, NULL},
	{{.network_opts = NETS("rate=1")}, "--network-opt rate=1"},
	{{.network_opts = NETS("rate=fast")}, "--network-opt rate=fast"},
	{{.network_opts = NETS("rate=99999999999g")}, "--network-opt"},
	{{.network_opts = NETS("rate=18446744073709551615")}, "--network-opt"},
	{{.network_opts = NETS("host-loopback=yes")}, NULL},
	{{.network_opts = NETS("host-loopback=maybe")}, "--network-opt host-loopback=maybe"},
	{{.network_opts = NETS("nosuch=1")}, "--network-opt nosuch=1"},
	{{.networks = NETS("front"), .network_opts = NETS("host-loopback=yes")}, "host-loopback"},
	{{.networks = NETS("front"), .network_opts = NETS("rate=1g")}, NULL},
};

static void networks_are_checked_before_anything_starts(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(network_cases); i++) {
		struct box_config c = {0};
		struct err e = {0};
		int r = spec_from_opts(&network_cases[i].o, &c, &e);
		if (network_cases[i].why ? r >= 0 || !strstr(e.msg, network_cases[i].why) : r < 0)
			fail_msg("case %zu: %d \"%s\", want \"%s\"", i, r, e.msg,
				network_cases[i].why ? network_cases[i].why : "");
		box_config_done(&c);
	}
}

static void what_was_given_arrives(void **state)
{
	struct run_opts o = {.networks = NETS("name=front,alias=a", "back"),
		.network_aliases = NETS("db"),
		.ip = "10.1.0.9",
		.network_opts = NETS("rate=1m", "rate=100m"),
		.publish = NETS("8080:80"),
		.publish_all = true};
	struct box_config c = {0};
	char text[256];
	struct err e = {0};

	assert_int_equal(spec_from_opts(&o, &c, &e), 0);
	assert_int_equal(c.n_endpoints, 2);
	assert_string_equal(c.endpoints[0].network, "front");
	assert_string_equal(c.endpoints[1].network, "back");
	join(text, sizeof(text), &c.endpoints[0].aliases);
	assert_string_equal(text, "a db");
	assert_string_equal(c.endpoints[0].ip4_asked, "10.1.0.9");
	assert_null(c.endpoints[0].ip6_asked);
	assert_int_equal(c.endpoints[1].aliases.n, 0);
	join(text, sizeof(text), &c.network_opts);
	assert_string_equal(text, "rate=100000000");
	assert_string_equal(c.publish.v[0], "8080:80/tcp");
	assert_true(c.publish_all);
	box_config_done(&c);
}

static const struct {
	struct strv exposed, ports;
	const char *want;
} shown[] = {
	{{0}, {0}, ""},
	{NETS("443/tcp", "80/tcp", "81/tcp", "53/udp"), {0}, "53/udp, 80-81/tcp, 443/tcp"},
	{NETS("80/tcp"), NETS("0.0.0.0:8080:80/tcp", "[::]:8080:80/tcp"),
		"0.0.0.0:8080->80/tcp, [::]:8080->80/tcp"},
	{NETS("80/tcp", "443/tcp"), NETS("127.0.0.1:80:80/tcp"), "443/tcp, 127.0.0.1:80->80/tcp"},
	{{0}, NETS("0.0.0.0:80:80/tcp", "0.0.0.0:81:81/tcp", "[::]:80:80/tcp", "[::]:81:81/tcp"),
		"0.0.0.0:80-81->80-81/tcp, [::]:80-81->80-81/tcp"},
	{{0}, NETS("0.0.0.0:80:80/tcp", "0.0.0.0:81:81/udp", "0.0.0.0:9000:82/tcp"),
		"0.0.0.0:80->80/tcp, 0.0.0.0:81->81/udp, 0.0.0.0:9000->82/tcp"},
	{NETS("80/sctp"), {0}, "80/sctp"},
};

static void ports_are_shown_as_docker_does(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(shown); i++) {
		struct box b = {.state = BOX_RUNNING,
			.config.exposed_ports = shown[i].exposed,
			.ports = shown[i].ports};
		char *text = ports_text(&b);
		assert_string_equal(text, shown[i].want);
		free(text);
		b.state = BOX_EXITED;
		text = ports_text(&b);
		assert_string_equal(text, "");
		free(text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ports_are_published_as_docker_does),
		cmocka_unit_test(the_address_of_the_environment_is_where_none_is_given),
		cmocka_unit_test(networks_are_checked_before_anything_starts),
		cmocka_unit_test(what_was_given_arrives),
		cmocka_unit_test(ports_are_shown_as_docker_does),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
