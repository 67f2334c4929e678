/* SPDX-License-Identifier: MIT */
/*
 * Messages of clients, and of netd, as the other side reads them. The first byte says which; what is read is written and
 * read again.
 */
#include <string.h>

#include "net/net.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void again(int r, char *text)
{
	if (r < 0)
		__builtin_trap(); /* what we write, we must be able to read */
	free(text);
}

static void config(const char *text, size_t len)
{
	struct netd_config c = {0}, c2 = {0};

	if (netd_config_parse(text, len, &c) < 0)
		return;
	struct net_policy *p = NULL;
	if (net_policy_parse(c.isolation, c.policy, &p, NULL) == 0 || !c.policy) {
		char *out = netd_config_text(&c);
		again(out ? netd_config_parse(out, strlen(out), &c2) : -1, out);
		netd_config_done(&c2);
	}
	net_policy_free(p);
	netd_config_done(&c);
}

static void request(const char *text, size_t len)
{
	struct netd_request q = {0};
	struct netd_attachment a = {0};

	if (netd_request_parse(text, len, &q) < 0)
		return;
	if (q.op == NETD_ATTACH) {
		char *out = netd_attachment_text("attach", &q.a);
		/* The same content may take more bytes: only then it may be refused. */
		if (out && strlen(out) <= NETD_MESSAGE_MAX)
			again(netd_attachment_parse(out, strlen(out), &a), out);
		else
			free(out);
		netd_attachment_done(&a);
	}
	netd_request_done(&q);
}

static void report(const char *text, size_t len)
{
	struct netd_report r = {0}, r2 = {0};

	if (netd_report_parse(text, len, &r) < 0)
		return;
	char *out = netd_report_text(&r);
	again(out ? netd_report_parse(out, strlen(out), &r2) : -1, out);
	netd_report_done(&r2);
	netd_report_done(&r);
}

static void denial(const char *text, size_t len)
{
	struct netd_denial d, d2;

	if (netd_denial_parse(text, len, &d) < 0)
		return;
	char *out = netd_denial_text(&d);
	again(out ? netd_denial_parse(out, strlen(out), &d2) : -1, out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 1)
		return 0;
	const char *text = (const char *)data + 1;
	switch (data[0] & 3) {
	case 0:
		config(text, size - 1);
		break;
	case 1:
		request(text, size - 1);
		break;
	case 2:
		report(text, size - 1);
		break;
	default:
		denial(text, size - 1);
	}
	return 0;
}
