/* SPDX-License-Identifier: MIT */
/* A registry's WWW-Authenticate header, and a Docker configuration file. */
#include <stdint.h>
#include <string.h>

#include "auth.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct oci_challenge c = {0};
	CLEANUP_FREE char *s = strndup((const char *)data, size), *credentials = NULL;
	struct err e = {0};

	if (!s)
		return 0;
	(void)oci_challenge_parse(s, &c);
	oci_challenge_done(&c);
	(void)oci_auth_find_in(s, strlen(s), "docker.io", &credentials, &e);
	return 0;
}
