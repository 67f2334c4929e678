/* SPDX-License-Identifier: MIT */
/* Any bytes as a policy: what is read can be written, and is then the same. And any bytes as --egress-allow. */
#include <stdint.h>
#include <string.h>

#include "net/policy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void again(const char *text)
{
	CLEANUP(net_policy_freep) struct net_policy *p = NULL;

	if (net_policy_parse(NET_ISOLATION_CUSTOM, text, &p, NULL) < 0)
		return;
	CLEANUP_FREE char *once = net_policy_text(p);
	CLEANUP(net_policy_freep) struct net_policy *second = NULL;
	/* Written out it may have become too long: "10.0.0.1" has a prefix then. */
	int r = once ? net_policy_parse(NET_ISOLATION_CUSTOM, once, &second, NULL) : -ENOMEM;
	if (!once || (r < 0 && r != -E2BIG))
		abort();
	CLEANUP_FREE char *twice = r < 0 ? NULL : net_policy_text(second);
	if (r == 0 && (!twice || strcmp(once, twice) != 0))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP_FREE char *text = malloc(size + 1);
	CLEANUP_FREE char *from_allow = NULL;
	CLEANUP(strv_done) struct strv values = {0};

	if (!text)
		return 0;
	memcpy(text, data, size);
	text[size] = '\0';
	again(text);
	for (char *s = text, *end; s && values.n < 64; s = end ? end + 1 : NULL) {
		end = strchr(s, '\n');
		if (end)
			*end = '\0';
		if (strv_push(&values, s) < 0)
			return 0;
	}
	if (net_policy_from_egress_allow(&values, &from_allow, NULL) == 0)
		again(from_allow);
	return 0;
}
