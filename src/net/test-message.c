/* SPDX-License-Identifier: MIT */
/* Messages (net/net.h): there and back, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "net/net.h"

#define TEXT(s) (char *)(uintptr_t)(s)

static struct net_addr addr(const char *s)
{
	struct net_addr a;

	assert_int_equal(net_addr_parse(s, &a), 0);
	return a;
}

static struct net_prefix prefix(const char *s)
{
	struct net_prefix p;

	assert_int_equal(net_prefix_parse(s, &p), 0);
	return p;
}

static void configurations(void **state)
{
	static const char rules[] =
		"{\"egress\":[{\"peer\":\"cidr:10.0.0.0/8\",\"action\":\"allow\"}],\"ingress\":[]}";
	const struct netd_config c = {.id = TEXT("0123"),
		.name = TEXT("web"),
		.subnet4 = prefix("10.88.1.0/24"),
		.subnet6 = prefix("fd00::/64"),
		.gateway4 = addr("10.88.1.1"),
		.gateway6 = addr("fd00::1"),
		.internal = true,
		.isolation = NET_ISOLATION_CUSTOM,
		.policy = TEXT(rules),
		.revision = 7,
		.home = TEXT("/home/\xc3\xa4")};
	struct netd_config c2;
	CLEANUP_FREE char *text = netd_config_text(&c);

	assert_non_null(text);
	assert_int_equal(netd_config_parse(text, strlen(text), &c2), 0);
	assert_string_equal(c2.id, c.id);
	assert_string_equal(c2.name, c.name);
	assert_memory_equal(&c2.subnet4, &c.subnet4, sizeof(c.subnet4));
	assert_memory_equal(&c2.subnet6, &c.subnet6, sizeof(c.subnet6));
	assert_memory_equal(&c2.gateway4, &c.gateway4, sizeof(c.gateway4));
	assert_memory_equal(&c2.gateway6, &c.gateway6, sizeof(c.gateway6));
	assert_true(c2.internal);
	assert_false(c2.host_loopback);
	assert_int_equal(c2.isolation, NET_ISOLATION_CUSTOM);
	assert_string_equal(c2.policy, rules);
	assert_int_equal(c2.revision, 7);
	assert_string_equal(c2.home, c.home);
	netd_config_done(&c2);
}

static void configurations_that_are_refused(void **state)
{
	static const char *const bad[] = {"", "[]", "{}",
		"{\"id\":\"1\",\"name\":\"n\"}",			     /* no address at all */
		"{\"id\":\"1\",\"name\":\"n\",\"subnet4\":\"10.0.0.0/24\"}", /* no gateway */
		"{\"id\":\"1\",\"name\":\"n\",\"subnet4\":\"10.0.0.0/24\",\"gateway4\":\"10.0.1.1\"}",
		"{\"id\":\"1\",\"name\":\"n\",\"subnet4\":\"fd00::/64\",\"gateway4\":\"fd00::1\"}",
		"{\"id\":\"1\",\"name\":\"n\",\"subnet6\":\"10.0.0.0/24\",\"gateway6\":\"10.0.0.1\"}",
		"{\"id\":\"1\",\"name\":\"n\",\"gateway4\":\"10.0.0.1\"}",
		"{\"id\":1,\"name\":\"n\",\"subnet4\":\"10.0.0.0/24\",\"gateway4\":\"10.0.0.1\"}",
		"{\"id\":\"1\",\"name\":\"n\",\"subnet4\":\"10.0.0.0/"
		"24\",\"gateway4\":\"10.0.0.1\",\"internal\":1}",
		"{\"id\":\"1\",\"id\":\"2\",\"name\":\"n\",\"subnet4\":\"10.0.0.0/"
		"24\",\"gateway4\":\"10.0.0.1\"}"};
	static const char good[] = "{\"id\":\"1\",\"name\":\"n\",\"subnet4\":\"10.0.0.0/"
				   "24\",\"gateway4\":\"10.0.0.1\",\"new\":[1]}";
	struct netd_config c = {0};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(netd_config_parse(bad[i], strlen(bad[i]), &c), -EBADMSG);
	assert_null(c.id);
	/* What a later version may say is passed over. */
	assert_int_equal(netd_config_parse(good, strlen(good), &c), 0);
	netd_config_done(&c);
}

static void attachments(void **state)
{
	static struct netd_publish publish[NETD_PUBLISH_MAX];
	struct netd_attachment a = {.box = TEXT("b"),
		.name = TEXT("web"),
		.hostname = TEXT("h"),
		.mac = {2, 1, 2, 3, 4, 5},
		.ip4 = addr("10.0.0.2"),
		.ip6 = addr("fd00::2"),
		.rate_bps = 1000000007,
		.publish = publish,
		.n_publish = ARRAY_LEN(publish)};
	struct netd_attachment b;

	for (size_t i = 0; i < ARRAY_LEN(publish); i++)
		publish[i] = (struct netd_publish){i % 2 ? IPPROTO_UDP : IPPROTO_TCP, (uint16_t)(65535 - i)};
	assert_int_equal(strv_push(&a.aliases, "one"), 0);
	assert_int_equal(strv_push(&a.aliases, "two"), 0);
	assert_int_equal(strv_push(&a.labels, "k=\"v\"\n"), 0);
	assert_int_equal(strv_push(&a.upstreams, "9.9.9.9"), 0);
	assert_int_equal(strv_push(&a.hosts, "x:1.2.3.4"), 0);
	CLEANUP_FREE char *text = netd_attachment_text("attach", &a);
	assert_non_null(text);
	assert_in_range(strlen(text), 1, NETD_MESSAGE_MAX);
	assert_int_equal(netd_attachment_parse(text, strlen(text), &b), 0);
	assert_string_equal(b.box, "b");
	assert_string_equal(b.name, "web");
	assert_string_equal(b.hostname, "h");
	assert_memory_equal(b.mac, a.mac, 6);
	assert_memory_equal(&b.ip4, &a.ip4, sizeof(a.ip4));
	assert_memory_equal(&b.ip6, &a.ip6, sizeof(a.ip6));
	assert_int_equal(b.rate_bps, 1000000007);
	assert_int_equal(b.aliases.n, 2);
	assert_string_equal(b.aliases.v[1], "two");
	assert_string_equal(b.labels.v[0], "k=\"v\"\n");
	assert_string_equal(b.upstreams.v[0], "9.9.9.9");
	assert_string_equal(b.hosts.v[0], "x:1.2.3.4");
	assert_int_equal(b.n_publish, ARRAY_LEN(publish));
	for (size_t i = 0; i < b.n_publish; i++) {
		assert_int_equal(b.publish[i].protocol, publish[i].protocol);
		assert_int_equal(b.publish[i].guest_port, publish[i].guest_port);
	}
	netd_attachment_done(&b);
	strv_done(&a.aliases);
	strv_done(&a.labels);
	strv_done(&a.upstreams);
	strv_done(&a.hosts);
}

static void requests_that_are_refused(void **state)
{
#define BOX "\"box\":\"b\",\"name\":\"n\",\"mac\":\"020000000001\""
	static const char *const bad[] = {"{\"op\":\"attach\"," BOX "}", /* no address */
		"{\"op\":\"attach\"," BOX ",\"ip4\":\"fd00::1\"}",
		"{\"op\":\"attach\"," BOX ",\"ip6\":\"10.0.0.1\"}",
		"{\"op\":\"attach\",\"box\":\"b\",\"name\":\"n\",\"ip4\":\"10.0.0.1\"}", /* no MAC */
		"{\"op\":\"attach\",\"box\":\"b\",\"name\":\"n\",\"mac\":\"010000000001\",\"ip4\":\"10.0.0."
		"1\"}",
		"{\"op\":\"attach\"," BOX ",\"ip4\":\"10.0.0.1\",\"publish\":[\"0/tcp\"]}",
		"{\"op\":\"attach\"," BOX ",\"ip4\":\"10.0.0.1\",\"publish\":[\"65536/tcp\"]}",
		"{\"op\":\"attach\"," BOX ",\"ip4\":\"10.0.0.1\",\"publish\":[\"80/sctp\"]}",
		"{\"op\":\"attach\"," BOX ",\"ip4\":\"10.0.0.1\",\"publish\":{\"80/tcp\":1}}",
		"{\"op\":\"attach\"," BOX ",\"ip4\":\"10.0.0.1\",\"rate\":-1}",
		"{\"op\":\"attach\"," BOX ",\"ip4\":\"10.0.0.1\",\"labels\":\"k\"}",
		"{\"op\":\"attach\"," BOX ",\"ip4\":\"10.0.0.1\",\"labels\":[1]}", "{\"op\":\"update\"}",
		"{\"op\":1}", "{\"op\":\"inspect\",\"from\":1.5}"};
	struct netd_request q = {0};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(netd_request_parse(bad[i], strlen(bad[i]), &q), -EBADMSG);
}

static void policies(void **state)
{
	static const char rules[] = "{\"egress\":[],\"ingress\":[{\"action\":\"deny\"}]}";
	static const char quoted[] =
		"{\"op\":\"policy\",\"isolation\":\"custom\",\"policy\":\"{\\\"egress\\\":[]}\"}";
	struct netd_request q = {0};
	CLEANUP_FREE char *text = netd_policy_text(NET_ISOLATION_CUSTOM, rules, 12);
	CLEANUP_FREE char *none = netd_policy_text(NET_ISOLATION_STRICT, NULL, 0);

	assert_int_equal(netd_request_parse(text, strlen(text), &q), 0);
	assert_int_equal(q.op, NETD_POLICY);
	assert_int_equal(q.isolation, NET_ISOLATION_CUSTOM);
	assert_string_equal(q.policy, rules);
	assert_int_equal(q.revision, 12);
	netd_request_done(&q);
	assert_int_equal(netd_request_parse(none, strlen(none), &q), 0);
	assert_int_equal(q.isolation, NET_ISOLATION_STRICT);
	assert_null(q.policy);
	assert_int_equal(q.revision, 0);
	netd_request_done(&q);
	assert_int_equal(netd_request_parse(quoted, strlen(quoted), &q), 0);
	assert_string_equal(q.policy, "{\"egress\":[]}");
	netd_request_done(&q);
}

static void reports(void **state)
{
	uint64_t counts[2] = {7, UINT64_MAX};
	struct netd_report_box box = {.box = TEXT("b"),
		.name = TEXT("n"),
		.ip4 = addr("10.0.0.2"),
		.rx_bytes = 1,
		.tx_bytes = 2,
		.rx_frames = 3,
		.tx_frames = 4,
		.dropped = 5,
		.denied = 6,
		.connections = 8};
	const struct netd_report r = {.boxes = &box,
		.n_boxes = 1,
		.denied = {counts, NULL},
		.logged = {counts, NULL},
		.n_rules = {2, 0},
		.denied_total = 9,
		.denied_default = 10,
		.spoofed = 11,
		.next = 12};
	struct netd_report r2;
	CLEANUP_FREE char *text = netd_report_text(&r);

	assert_non_null(text);
	assert_int_equal(strncmp(text, "{\"error\":null,", 14), 0); /* it is an answer */
	assert_int_equal(netd_report_parse(text, strlen(text), &r2), 0);
	assert_int_equal(r2.n_boxes, 1);
	assert_string_equal(r2.boxes[0].box, "b");
	assert_memory_equal(&r2.boxes[0].ip4, &box.ip4, sizeof(box.ip4));
	assert_memory_equal(&r2.boxes[0].rx_bytes, &box.rx_bytes, 7 * sizeof(uint64_t));
	assert_int_equal(r2.n_rules[NET_EGRESS], 2);
	assert_int_equal(r2.denied[NET_EGRESS][0], 7);
	assert_int_equal(r2.logged[NET_EGRESS][1], INT64_MAX);
	assert_int_equal(r2.n_rules[NET_INGRESS], 0);
	assert_int_equal(r2.denied_total, 9);
	assert_int_equal(r2.denied_default, 10);
	assert_int_equal(r2.spoofed, 11);
	assert_int_equal(r2.next, 12);
	netd_report_done(&r2);
	assert_int_equal(netd_report_parse("{\"error\":null}", 14, &r2), -EBADMSG);
}

static void denials(void **state)
{
	static const uint8_t protocols[] = {IPPROTO_TCP, IPPROTO_UDP, IPPROTO_ICMP, 47};

	for (size_t i = 0; i < ARRAY_LEN(protocols); i++) {
		const struct netd_denial d = {.logged = i == 1,
			.direction = i % 2 ? NET_INGRESS : NET_EGRESS,
			.protocol = protocols[i],
			.peer = addr(i % 2 ? "fd00::7" : "10.0.0.7"),
			.port = (uint16_t)(i * 1000),
			.rule = (int)i - 1,
			.count = i + 1};
		struct netd_denial d2 = {0};
		CLEANUP_FREE char *text = netd_denial_text(&d);
		assert_non_null(text);
		assert_int_equal(netd_denial_parse(text, strlen(text), &d2), 0);
		assert_int_equal(d2.logged, d.logged);
		assert_int_equal(d2.direction, d.direction);
		assert_int_equal(d2.protocol, d.protocol);
		assert_memory_equal(&d2.peer, &d.peer, sizeof(d.peer));
		assert_int_equal(d2.port, d.port);
		assert_int_equal(d2.rule, d.rule);
		assert_int_equal(d2.count, d.count);
	}
	struct netd_denial d;
	assert_int_equal(netd_denial_parse("{\"error\":null}", 14, &d), -ENOMSG);
	assert_int_equal(netd_denial_parse("{\"event\":\"denied\"}", 18, &d), -EBADMSG);
}

static void answers(void **state)
{
	CLEANUP_FREE char *good = netd_answer_text(NULL);
	CLEANUP_FREE char *bad = netd_answer_text("a\"\n\xff");

	CLEANUP_FREE char *code = netd_refusal_text(EADDRINUSE, "taken");

	assert_string_equal(code, "{\"error\":\"taken\",\"code\":98}");
	assert_string_equal(good, "{\"error\":null}");
	assert_string_equal(bad, "{\"error\":\"a\\\"\\\\x0a\\\\xff\"}");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(configurations),
		cmocka_unit_test(configurations_that_are_refused),
		cmocka_unit_test(attachments),
		cmocka_unit_test(requests_that_are_refused),
		cmocka_unit_test(policies),
		cmocka_unit_test(reports),
		cmocka_unit_test(denials),
		cmocka_unit_test(answers),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
