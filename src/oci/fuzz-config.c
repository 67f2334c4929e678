/* SPDX-License-Identifier: MIT */
/* Any bytes as an image's configuration. */
#include <stdint.h>

#include "manifest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP(oci_config_done) struct oci_config c = {0};
	CLEANUP(oci_image_freep) struct oci_image *i = calloc(1, sizeof(*i));
	char chain[OCI_DIGEST_MAX];
	struct err e = {0};

	if (!i || oci_config_parse(data, size, &c, &e) < 0)
		return 0;
	/* What we store we must be able to read. */
	if (oci_config_exec(c.exec_json, i, &e) < 0)
		abort();
	if (oci_chain_id(c.diff_ids, c.n_diff_ids, chain, &e) < 0 || !oci_digest_valid(chain))
		abort();
	return 0;
}
