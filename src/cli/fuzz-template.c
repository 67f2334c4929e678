/* SPDX-License-Identifier: MIT */
/* Templates. Input: the template, a NUL, JSON to run it over; without a NUL, it is run over fixed data. */
#include <stdint.h>
#include <string.h>

#include "template-tree.h"

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size);

static const char fixed[] =
	"{\"A\": {\"b\": [1, 2, {\"C\": \"x\"}]}, \"N\": 7, \"F\": 1.5, \"S\": \"a,b\", \"Z\": null}";

static void ignore(void *data, const char *name, bool certain)
{
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
	const uint8_t *end = size ? memchr(input, 0, size) : NULL;
	struct template *t = NULL;
	struct err e = {0};

	if (size > 4096)
		return 0;
	char *text = strndup((const char *)input, size);
	json_t *j = end ? json_loadb((const char *)end + 1, size - (size_t)(end + 1 - input), JSON_DECODE_ANY,
				  NULL)
			: NULL;
	if (!j)
		j = json_loads(fixed, 0, NULL);
	if (text && template_parse(text, &t, &e) == 0) {
		struct template_labels labels = {.map = json_object_get(j, "A"), .headings = size & 1};
		char *out = NULL;
		int r = template_text(t, j, &labels, size & 2, &out, &e);
		if ((r == 0) != (out != NULL) || (r < 0 && !e.msg[0]))
			abort();
		free(out);
		template_fields(t, ignore, NULL);
		template_free(t);
	} else if (text && !e.msg[0]) {
		abort();
	}
	json_decref(j);
	free(text);
	return 0;
}
