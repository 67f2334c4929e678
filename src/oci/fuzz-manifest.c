/* SPDX-License-Identifier: MIT */
/* Any bytes as an image's manifest, and as one of any type. */
#include <stdint.h>

#include "manifest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const types[] = {NULL, OCI_TYPE_MANIFEST, OCI_TYPE_ARTIFACT};
	CLEANUP(oci_manifest_done) struct oci_manifest m = {0};
	enum oci_kind kind;

	for (size_t i = 0; i < ARRAY_LEN(types); i++) {
		CLEANUP(oci_contents_done) struct oci_contents c = {0};
		struct err e = {0};
		if (oci_kind_of(data, size, types[i], &kind, &e) < 0 && e.code >= 0)
			abort();
		e = (struct err){0};
		if (oci_document_names(data, size, types[i], &c, &e) < 0 && e.code >= 0)
			abort();
		for (size_t k = 0; k < c.n; k++)
			if (!oci_digest_valid(c.v[k].digest) || !c.v[k].media_type)
				abort();
	}
	struct err e = {0};
	if (oci_manifest_parse(data, size, &m, &e) < 0)
		return 0;
	for (size_t i = 0; i < m.n_layers; i++)
		if (!oci_digest_valid(m.layers[i].digest))
			abort();
	return 0;
}
