/* SPDX-License-Identifier: MIT */
/* Any bytes as a trusted root, or (first byte odd) as authorities in PEM. */
#include <stdint.h>
#include <string.h>

#include "sign/root.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP(sign_root_freep) struct sign_root *root = NULL;
	struct err e = {0};

	if (size == 0)
		return 0;
	CLEANUP_FREE char *text = strndup((const char *)data + 1, size - 1);
	int r = *data & 1 ? sign_root_from_pem(text, NULL, NULL, &root, &e)
			  : sign_root_parse((const char *)data + 1, size - 1, &root, &e);
	if ((r == 0) != (root != NULL) || (r < 0 && !*e.msg))
		abort();
	return 0;
}
