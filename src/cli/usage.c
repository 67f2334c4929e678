/* SPDX-License-Identifier: MIT */
#include "usage.h"

#include <string.h>

#include "base/io.h"

uint64_t usage_tree_bytes(int dirfd, const char *path)
{
	return io_tree_bytes_at(dirfd, path);
}

uint64_t usage_box_bytes(const struct app *a, const char *id)
{
	CLEANUP_FREE char *path = str_printf("boxes/%s", id);
	return path ? usage_tree_bytes(a->st->home_fd, path) : 0;
}

uint64_t usage_scratch_bytes(const struct app *a, const char *id)
{
	CLEANUP_FREE char *path = str_printf("boxes/%s/scratch.img", id);
	return path ? usage_tree_bytes(a->st->home_fd, path) : 0;
}

json_t *usage_volumes_json(const struct box *b)
{
	char text[24];
	size_t n = 0;

	/* Type, source, target of each. */
	for (size_t i = 0; i + 2 < b->mount_texts.n; i += 3)
		n += strcmp(b->mount_texts.v[i], "volume") == 0;
	snprintf(text, sizeof(text), "%zu", n);
	return json_string(text);
}
