/* SPDX-License-Identifier: MIT */
/* Any bytes as each of an image's JSON documents; the first byte chooses which. */
#include <stdint.h>
#include <string.h>

#include "manifest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_index(const uint8_t *data, size_t size, struct err *e)
{
	CLEANUP(oci_platform_done) struct oci_platform p = {0};
	CLEANUP(oci_index_done) struct oci_index i = {0};

	if (oci_platform_parse("linux/amd64", &p, e) == 0 && oci_index_parse(data, size, &i, e) == 0)
		(void)oci_index_select(&i, &p, e);
}

static void try_config(const uint8_t *data, size_t size, struct err *e)
{
	CLEANUP(oci_config_done) struct oci_config c = {0};
	struct oci_image *i = calloc(1, sizeof(*i));
	char chain[OCI_DIGEST_MAX];

	if (i && oci_config_parse(data, size, &c, e) == 0) {
		/* What we store we must be able to read. */
		if (oci_config_exec(c.exec_json, i, e) < 0)
			abort();
		if (oci_chain_id(c.diff_ids, c.n_diff_ids, chain, e) < 0 || !oci_digest_valid(chain))
			abort();
	}
	oci_image_free(i);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP(oci_manifest_done) struct oci_manifest m = {0};
	struct err e = {0};
	enum oci_kind kind;

	if (size == 0)
		return 0;
	uint8_t which = *data++;
	size--;
	switch (which % 4) {
	case 0:
		try_index(data, size, &e);
		break;
	case 1:
		(void)oci_manifest_parse(data, size, &m, &e);
		break;
	case 2:
		try_config(data, size, &e);
		break;
	default:
		(void)oci_kind_of(data, size, NULL, &kind, &e);
		break;
	}
	return 0;
}
