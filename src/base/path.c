/* SPDX-License-Identifier: MIT */
#include "base/path.h"

#include <string.h>

size_t path_append(char *path, size_t len, const char *text)
{
	while (*text) {
		size_t n = strcspn(text, "/");

		if (n == 2 && text[0] == '.' && text[1] == '.') {
			while (len && path[--len] != '/')
				;
		} else if (n && !(n == 1 && text[0] == '.')) {
			path[len++] = '/';
			memmove(path + len, text, n);
			len += n;
		}
		text += n + (text[n] == '/');
	}
	return len;
}

void path_clean(char *dst, const char *src)
{
	size_t len = path_append(dst, 0, src);

	if (!len)
		dst[len++] = '/';
	dst[len] = '\0';
}
