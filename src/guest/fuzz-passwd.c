/* SPDX-License-Identifier: MIT */
/*
 * The user and group parsers on an image's files. Input: the user specification, a line feed, the content of
 * passwd, a byte 0xff, the content of group.
 */
#include <stdint.h>
#include <string.h>

#include "user.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *end = size ? memchr(data, '\n', size) : NULL, *split;
	struct user_files files = {0};
	struct user_ids ids = {0};
	struct strv extra = {0};
	char why[128], *spec;

	if (!end)
		return 0;
	spec = strndup((const char *)data, (size_t)(end - data));
	if (!spec)
		return 0;
	size -= (size_t)(end + 1 - data);
	data = end + 1;
	split = size ? memchr(data, 0xff, size) : NULL;
	files.passwd = (const char *)data;
	files.passwd_len = split ? (size_t)(split - data) : size;
	if (split) {
		files.group = (const char *)split + 1;
		files.group_len = size - files.passwd_len - 1;
	}
	strv_push(&extra, spec);
	for (int with_extra = 0; with_extra < 2; with_extra++) {
		int r = user_resolve(spec, with_extra ? &extra : NULL, &files, &ids, why, sizeof(why));

		if (r == 0) {
			if (!ids.home || ids.uid > USER_ID_MAX || ids.gid > USER_ID_MAX ||
				ids.n_groups > USER_GROUPS_MAX)
				abort();
			user_ids_done(&ids);
		} else if (!memchr(why, '\0', sizeof(why)) || ids.home || ids.groups) {
			abort();
		}
	}
	strv_done(&extra);
	free(spec);
	return 0;
}
