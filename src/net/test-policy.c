/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/io.h"
#include "net/policy.h"

/* What a text becomes when it is read and written again; NULL: it is refused, and the error has `says`. */
static const struct {
	const char *text, *becomes, *says;
} texts[] = {
	{NULL, "{\"egress\":[],\"ingress\":[]}", NULL},
	{"{}", "{\"egress\":[],\"ingress\":[]}", NULL},
	{"{\"egress\": [{\"action\": \"allow\"}]}", "{\"egress\":[{\"action\":\"allow\"}],\"ingress\":[]}",
		NULL},
	{"{\"ingress\": [{\"action\": \"log\"}, {\"action\": \"deny\"}]}",
		"{\"egress\":[],\"ingress\":[{\"action\":\"log\"},{\"action\":\"deny\"}]}", NULL},
	{"{\"egress\": [{\"box\": \"box:web\", \"peer\": [\"label:a\", \"label:a=b=c\"], \"protocol\": "
	 "\"tcp\","
	 " \"ports\": \"80,443,8000-8100\", \"action\": \"allow\"}]}",
		"{\"egress\":[{\"box\":\"box:web\",\"peer\":[\"label:a\",\"label:a=b=c\"],\"protocol\":"
		"\"tcp\","
		"\"ports\":\"80,443,8000-8100\",\"action\":\"allow\"}],\"ingress\":[]}",
		NULL},
	{"{\"egress\": [{\"peer\": [\"cidr:10.0.0.0/8\"], \"action\": \"deny\", \"protocol\": \"any\"}]}",
		"{\"egress\":[{\"peer\":\"cidr:10.0.0.0/8\",\"action\":\"deny\"}],\"ingress\":[]}", NULL},
	{"{\"egress\": [{\"peer\": \"cidr:FD00::1\", \"protocol\": \"icmp\", \"action\": \"deny\"}]}",
		"{\"egress\":[{\"peer\":\"cidr:fd00::1/"
		"128\",\"protocol\":\"icmp\",\"action\":\"deny\"}],\"ingress\":[]}",
		NULL},
	{"{\"egress\": [{\"peer\": [\"domain:*.Example.ORG.\", \"domain:a_b.c\", \"host\"], \"action\": "
	 "\"allow\"}]}",
		"{\"egress\":[{\"peer\":[\"domain:*.example.org\",\"domain:a_b.c\",\"host\"],\"action\":"
		"\"allow\"}],"
		"\"ingress\":[]}",
		NULL},
	{"{\"ingress\": [{\"peer\": \"cidr:0.0.0.0/0\", \"ports\": \"1-65535\", \"action\": \"allow\"}]}",
		"{\"egress\":[],\"ingress\":[{\"peer\":\"cidr:0.0.0.0/"
		"0\",\"ports\":\"1-65535\",\"action\":\"allow\"}]}",
		NULL},

	{"", NULL, "policy: line"},
	{"[]", NULL, "expected an object"},
	{"{", NULL, "policy: line 1"},
	{"{} x", NULL, "policy: line 1"},
	{"{\"egress\": [], \"egress\": []}", NULL, "duplicate"},
	{"{\"outgress\": []}", NULL, "\"outgress\": there is no such member"},
	{"{\"egress\": {}}", NULL, "\"egress\": expected a list"},
	{"{\"egress\": [1]}", NULL, "egress[0]: expected an object"},
	{"{\"egress\": [{\"action\": \"allow\"}, {}]}", NULL, "egress[1]: \"action\" is missing"},
	{"{\"egress\": [{\"action\": \"permit\"}]}", NULL, "\"action\": expected allow"},
	{"{\"egress\": [{\"action\": 1}]}", NULL, "\"action\": expected allow"},
	{"{\"egress\": [{\"action\": \"allow\", \"port\": \"80\"}]}", NULL,
		"\"port\": there is no such member"},
	{"{\"egress\": [{\"action\": \"allow\", \"ports\": 80}]}", NULL, "\"ports\": expected text"},
	{"{\"egress\": [{\"action\": \"allow\", \"ports\": \"\"}]}", NULL, "\"ports\""},
	{"{\"egress\": [{\"action\": \"allow\", \"ports\": \"0\"}]}", NULL, "\"ports\""},
	{"{\"egress\": [{\"action\": \"allow\", \"ports\": \"65536\"}]}", NULL, "\"ports\""},
	{"{\"egress\": [{\"action\": \"allow\", \"ports\": \"99999999999999999999\"}]}", NULL, "\"ports\""},
	{"{\"egress\": [{\"action\": \"allow\", \"ports\": \"90-80\"}]}", NULL, "\"ports\""},
	{"{\"egress\": [{\"action\": \"allow\", \"ports\": \"80-\"}]}", NULL, "\"ports\""},
	{"{\"egress\": [{\"action\": \"allow\", \"ports\": \"80,\"}]}", NULL, "\"ports\""},
	{"{\"egress\": [{\"action\": \"allow\", \"ports\": \"80 443\"}]}", NULL, "\"ports\""},
	{"{\"egress\": [{\"action\": \"allow\", \"ports\": \"-80\"}]}", NULL, "\"ports\""},
	{"{\"egress\": [{\"action\": \"allow\", \"ports\": \"http\"}]}", NULL, "\"ports\""},
	{"{\"egress\": [{\"action\": \"allow\", \"ports\": \"80\", \"protocol\": \"icmp\"}]}", NULL,
		"icmp has none"},
	{"{\"egress\": [{\"action\": \"allow\", \"protocol\": \"sctp\"}]}", NULL, "\"protocol\": expected"},
	{"{\"egress\": [{\"action\": \"allow\", \"protocol\": 6}]}", NULL, "\"protocol\": expected"},
	{"{\"egress\": [{\"action\": \"allow\", \"box\": []}]}", NULL, "\"box\": an empty list"},
	{"{\"egress\": [{\"action\": \"allow\", \"peer\": null}]}", NULL, "\"peer\": expected text"},
	{"{\"egress\": [{\"action\": \"allow\", \"peer\": [\"host\", 1]}]}", NULL, "\"peer\": expected text"},
	{"{\"egress\": [{\"action\": \"allow\", \"peer\": \"web\"}]}", NULL, "no such selector"},
	{"{\"egress\": [{\"action\": \"allow\", \"peer\": \"host:1\"}]}", NULL, "no such selector"},
	{"{\"egress\": [{\"action\": \"allow\", \"peer\": \"box\"}]}", NULL, "no such selector"},
	{"{\"egress\": [{\"action\": \"allow\", \"peer\": \"Box:web\"}]}", NULL, "no such selector"},
	{"{\"egress\": [{\"action\": \"allow\", \"peer\": \"\"}]}", NULL, "no such selector"},
	{"{\"egress\": [{\"action\": \"allow\", \"peer\": \"box:\"}]}", NULL, "expected the name of a box"},
	{"{\"egress\": [{\"action\": \"allow\", \"peer\": \"box:a b\"}]}", NULL,
		"expected the name of a box"},
	{"{\"egress\": [{\"action\": \"allow\", \"peer\": \"label:\"}]}", NULL, "expected KEY"},
	{"{\"egress\": [{\"action\": \"allow\", \"peer\": \"label:=x\"}]}", NULL, "expected KEY"},
	{"{\"egress\": [{\"action\": \"allow\", \"peer\": \"cidr:10.0.0.1/8\"}]}", NULL,
		"expected an address"},
	{"{\"egress\": [{\"action\": \"allow\", \"peer\": \"cidr:10.0.0.0/33\"}]}", NULL,
		"expected an address"},
	{"{\"egress\": [{\"action\": \"allow\", \"peer\": \"cidr:::ffff:10.0.0.1\"}]}", NULL,
		"expected an address"},
	{"{\"egress\": [{\"action\": \"allow\", \"peer\": \"cidr:example.org\"}]}", NULL,
		"expected an address"},
	{"{\"egress\": [{\"action\": \"allow\", \"peer\": \"domain:10.0.0.1\"}]}", NULL, "expected a name"},
	{"{\"egress\": [{\"action\": \"allow\", \"peer\": \"domain:*\"}]}", NULL, "expected a name"},
	{"{\"egress\": [{\"action\": \"allow\", \"peer\": \"domain:*.\"}]}", NULL, "expected a name"},
	{"{\"egress\": [{\"action\": \"allow\", \"peer\": \"domain:a.*.b\"}]}", NULL, "expected a name"},
	{"{\"egress\": [{\"action\": \"allow\", \"peer\": \"domain:a..b\"}]}", NULL, "expected a name"},
	{"{\"egress\": [{\"action\": \"allow\", \"peer\": \"domain:.\"}]}", NULL, "expected a name"},
	{"{\"egress\": [{\"action\": \"allow\", \"peer\": \"domain:b\xc3\xbc.org\"}]}", NULL,
		"expected a name"},
	{"{\"egress\": [{\"action\": \"allow\", \"peer\": \"domain:a\\u0000b.org\"}]}", NULL, "policy: line"},
	{"{\"egress\": [{\"action\": \"allow\", \"peer\": \"domain:"
	 "a123456789012345678901234567890123456789012345678901234567890123.org\"}]}",
		NULL, "expected a name"},
	{"{\"egress\": [{\"action\": \"allow\", \"box\": \"host\"}]}", NULL, "takes box"},
	{"{\"egress\": [{\"action\": \"allow\", \"box\": \"cidr:10.0.0.1\"}]}", NULL, "takes box"},
	{"{\"egress\": [{\"action\": \"allow\", \"box\": \"domain:a.b\"}]}", NULL, "takes box"},
	{"{\"ingress\": [{\"action\": \"allow\", \"peer\": \"domain:a.b\"}]}", NULL,
		"only the peer of an egress"},
	{"{\"ingress\": [{\"action\": \"allow\", \"peer\": \"host\"}]}", NULL, "only the peer of an egress"},
};

static void texts_are_read_and_written(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		CLEANUP(net_policy_freep) struct net_policy *p = NULL;
		struct net_policy *unsaid = NULL;
		struct err e = {0};
		int r = net_policy_parse(NET_ISOLATION_CUSTOM, texts[i].text, &p, &e);
		assert_int_equal(net_policy_parse(NET_ISOLATION_CUSTOM, texts[i].text, &unsaid, NULL), r);
		net_policy_free(TAKE_PTR(unsaid));
		if (texts[i].says) {
			if (r != -EINVAL || p || !strstr(e.msg, texts[i].says))
				fail_msg("%s: %d: %s", texts[i].text, r, e.msg);
			continue;
		}
		if (r < 0)
			fail_msg("%s: %s", texts[i].text, e.msg);
		CLEANUP_FREE char *text = net_policy_text(p);
		assert_string_equal(text, texts[i].becomes);
		assert_int_equal(p->isolation, NET_ISOLATION_CUSTOM);
		/* And what was written is read as the same. */
		CLEANUP(net_policy_freep) struct net_policy *again = NULL;
		assert_int_equal(net_policy_parse(NET_ISOLATION_CUSTOM, text, &again, NULL), 0);
		CLEANUP_FREE char *twice = net_policy_text(again);
		assert_string_equal(twice, text);
	}
}

/* n times unit with commas between, in head and tail. */
static char *repeat(const char *head, const char *unit, size_t n, const char *tail)
{
	size_t len = strlen(unit) + 1;
	char *s = malloc(strlen(head) + n * len + strlen(tail) + 1), *p = s;

	p = stpcpy(p, head);
	for (size_t i = 0; i < n; i++)
		p = stpcpy(stpcpy(p, i ? "," : ""), unit);
	stpcpy(p, tail);
	return s;
}

static void check_bound(const char *head, const char *unit, size_t max, const char *tail, const char *says)
{
	for (size_t n = max; n <= max + 1; n++) {
		CLEANUP_FREE char *s = repeat(head, unit, n, tail);
		CLEANUP(net_policy_freep) struct net_policy *p = NULL;
		struct err e = {0};
		int r = net_policy_parse(NET_ISOLATION_STRICT, s, &p, &e);
		if (r != (n > max ? -E2BIG : 0) || (n > max && !strstr(e.msg, says)))
			fail_msg("%zu: %d: %s", n, r, e.msg);
	}
}

static void everything_is_bounded(void **state)
{
	check_bound("{\"egress\":[", "{\"action\":\"log\"}", NET_RULES_MAX, "]}", "more than 1024 rules");
	check_bound("{\"ingress\":[{\"action\":\"log\"},{\"action\":\"log\"}],\"egress\":[",
		"{\"action\":\"log\"}", NET_RULES_MAX - 2, "]}", "more than 1024 rules");
	check_bound("{\"egress\":[{\"action\":\"log\",\"peer\":[", "\"box:a\"", NET_SELECTORS_MAX, "]}]}",
		"more than 64");
	check_bound("{\"egress\":[{\"action\":\"log\",\"ports\":\"", "1-2", NET_PORT_RANGES_MAX, "\"}]}",
		"more than 32");
	CLEANUP_FREE char *blanks = malloc(NET_POLICY_TEXT_MAX + 2);
	memset(blanks, ' ', NET_POLICY_TEXT_MAX + 1);
	blanks[NET_POLICY_TEXT_MAX + 1] = '\0';
	memcpy(blanks, "{}", 2);
	struct err e = {0};
	struct net_policy *p = NULL;
	assert_int_equal(net_policy_parse(NET_ISOLATION_STRICT, blanks, &p, &e), -E2BIG);
	/* Nesting without end. */
	memset(blanks, '[', NET_POLICY_TEXT_MAX);
	blanks[NET_POLICY_TEXT_MAX] = '\0';
	assert_int_equal(net_policy_parse(NET_ISOLATION_STRICT, blanks, &p, &e), -EINVAL);
}

static void isolations_have_names(void **state)
{
	enum net_isolation i;

	for (int k = NET_ISOLATION_NONE; k <= NET_ISOLATION_CUSTOM; k++) {
		assert_int_equal(net_isolation_parse(net_isolation_name((enum net_isolation)k), &i), 0);
		assert_int_equal(i, k);
	}
	assert_int_equal(net_isolation_parse("", &i), -EINVAL);
	assert_int_equal(net_isolation_parse("Strict", &i), -EINVAL);
}

static const struct {
	const char *value, *rule; /* NULL: refused */
} allows[] = {
	{"example.org:443", "{\"peer\":\"domain:example.org\",\"ports\":\"443\",\"action\":\"allow\"}"},
	{"Example.ORG.", "{\"peer\":\"domain:example.org\",\"action\":\"allow\"}"},
	{"*.example.org", "{\"peer\":\"domain:*.example.org\",\"action\":\"allow\"}"},
	{"10.0.0.0/8:80,443/tcp", "{\"peer\":\"cidr:10.0.0.0/"
				  "8\",\"protocol\":\"tcp\",\"ports\":\"80,443\",\"action\":\"allow\"}"},
	{"10.0.0.1", "{\"peer\":\"cidr:10.0.0.1/32\",\"action\":\"allow\"}"},
	{"[fd00::/8]:53/udp",
		"{\"peer\":\"cidr:fd00::/8\",\"protocol\":\"udp\",\"ports\":\"53\",\"action\":\"allow\"}"},
	{"[fd00::1]", "{\"peer\":\"cidr:fd00::1/128\",\"action\":\"allow\"}"},
	{"fd00::/8", "{\"peer\":\"cidr:fd00::/8\",\"action\":\"allow\"}"},
	{"0.0.0.0/0", "{\"peer\":\"cidr:0.0.0.0/0\",\"action\":\"allow\"}"},
	{"host:5432", "{\"peer\":\"host\",\"ports\":\"5432\",\"action\":\"allow\"}"},
	{"host", "{\"peer\":\"host\",\"action\":\"allow\"}"},
	{"example.org:8000-8100",
		"{\"peer\":\"domain:example.org\",\"ports\":\"8000-8100\",\"action\":\"allow\"}"},
	{"", NULL},
	{":", NULL},
	{":443", NULL},
	{"example.org:", NULL},
	{"example.org:http", NULL},
	{"example.org:0", NULL},
	{"example.org:443/", NULL},
	{"example.org:443/icmp", NULL},
	{"example.org:443/tcp/udp", NULL},
	{"example.org/tcp", NULL},
	{"https://example.org", NULL},
	{"10.0.0.1/8", NULL},
	{"10.0.0.256", NULL},
	{"[fd00::/8", NULL},
	{"[fd00::/8]53", NULL},
	{"[]:53", NULL},
	{"a b", NULL},
	{"*", NULL},
};

static void egress_allow_becomes_rules(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(allows); i++) {
		CLEANUP(strv_done) struct strv values = {0};
		CLEANUP(net_policy_freep) struct net_policy *p = NULL;
		CLEANUP_FREE char *text = NULL;
		struct err e = {0};
		strv_push(&values, allows[i].value);
		int r = net_policy_from_egress_allow(&values, &text, &e);
		if (!allows[i].rule) {
			if (r != -EINVAL || text || !strstr(e.msg, "--egress-allow"))
				fail_msg("%s: %d: %s", allows[i].value, r, e.msg);
			continue;
		}
		if (r < 0 || net_policy_parse(NET_ISOLATION_CUSTOM, text, &p, &e) < 0)
			fail_msg("%s: %s", allows[i].value, e.msg);
		CLEANUP_FREE char *want =
			str_printf("{\"egress\":[%s],\"ingress\":[{\"action\":\"allow\"}]}", allows[i].rule);
		CLEANUP_FREE char *got = net_policy_text(p);
		assert_string_equal(got, want);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(texts_are_read_and_written),
		cmocka_unit_test(everything_is_bounded),
		cmocka_unit_test(isolations_have_names),
		cmocka_unit_test(egress_allow_becomes_rules),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
