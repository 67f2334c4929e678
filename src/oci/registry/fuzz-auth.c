/* SPDX-License-Identifier: MIT */
/*
 * What a registry says in headers and errors: WWW-Authenticate, Link, Content-Range, Retry-After, error
 * bodies.
 */
#include <stdint.h>
#include <string.h>

#include "registry/answer.h"
#include "registry/auth.h"
#include "registry/headers.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct oci_challenge c = {0};
	CLEANUP_FREE char *s = strndup((const char *)data, size);
	uint64_t first, last;
	char text[100];

	if (!s)
		return 0;
	(void)oci_challenge_parse(s, &c);
	oci_challenge_done(&c);
	free(oci_header_value((const char *)data, size, "Link"));
	free(oci_header_link_next(s));
	(void)oci_header_content_range(s, &first, &last);
	(void)oci_header_upload_range(s, &last);
	(void)oci_header_retry_after(s, 1700000000);
	(void)oci_answer_text(s, size % 2 ? "text/plain" : NULL, text, sizeof(text));
	return 0;
}
