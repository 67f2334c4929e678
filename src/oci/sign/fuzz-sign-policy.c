/* SPDX-License-Identifier: MIT */
/* Any bytes as a policy, which is then asked about some images. */
#include <stdint.h>
#include <string.h>

#include "sign/policy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const names[] = {"busybox", "a.b.example.com:5000/x/y:v1", "[::1]:5000/z",
		"localhost/q@sha256:a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1"};
	struct sign_policy *p = NULL;
	const struct sign_rule *rules;
	struct err e = {0};
	size_t n;

	if (sign_policy_parse((const char *)data, size, &p, &e) < 0)
		return 0;
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		struct oci_reference ref = {0};
		if (oci_reference_parse(names[i], &ref, &e) < 0 ||
			sign_policy_find(p, &ref, &rules, &n, &e) < 0 || n == 0)
			abort();
		struct sign_candidate c = {.payload = "{}", .payload_len = 2, .signature = "AAAA"};
		for (size_t k = 0; k < n; k++)
			if ((sign_rule_verify(&rules[k], &ref, "sha256:x", &c, &e) == 0) !=
				(rules[k].kind == SIGN_ACCEPT))
				abort();
		oci_reference_done(&ref);
	}
	sign_policy_free(p);
	return 0;
}
