/* SPDX-License-Identifier: MIT */
/* Files that people write, and other programs: registries.json, and the Docker configuration. */
#include <stdint.h>
#include <string.h>

#include "registry/config.h"
#include "registry/credentials.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const domains[] = {"docker.io", "localhost:5000", "registry.example"};
	CLEANUP(oci_registries_freep) struct oci_registries *registries = NULL;
	struct err e = {0};

	if (oci_registries_parse((const char *)data, size, &registries, &e) == 0)
		for (size_t i = 0; i < ARRAY_LEN(domains); i++) {
			size_t n;
			const char *const *mirrors = oci_registries_mirrors(registries, domains[i], &n);
			for (size_t k = 0; k < n; k++)
				if (strncmp(mirrors[k], "http", 4) != 0)
					abort();
			(void)oci_registries_insecure(registries, domains[i]);
		}
	for (size_t i = 0; i < ARRAY_LEN(domains); i++) {
		CLEANUP(oci_credentials_done) struct oci_credentials c = {0};
		CLEANUP_FREE char *helper = NULL, *basic = NULL;
		if (oci_credentials_parse(
			    (const char *)data, size, domains[i], "library/a", &c, &helper, &e) == 0)
			basic = oci_credentials_basic(&c);
	}
	return 0;
}
