/* SPDX-License-Identifier: MIT */
/* Any text as an image reference: what is accepted must survive being written and read again. */
#include <stdint.h>
#include <string.h>

#include "oci/oci.h"
#include "reference.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP_FREE char *s = strndup((const char *)data, size);
	struct err e = {0};

	if (!s)
		return 0;
	CLEANUP_FREE char *name = oci_ref_normalise(s, &e);
	if (!name) {
		if (!e.code)
			abort();
		return 0;
	}
	CLEANUP_FREE char *again = oci_ref_normalise(name, &e);
	CLEANUP_FREE char *familiar = oci_ref_familiar(name);
	CLEANUP_FREE char *back = familiar ? oci_ref_normalise(familiar, &e) : NULL;
	if (!again || strcmp(again, name) != 0 || !back || strcmp(back, name) != 0)
		abort();
	return 0;
}
