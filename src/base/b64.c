/* SPDX-License-Identifier: MIT */
#include "base/b64.h"

#include <errno.h>

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

size_t b64_encode(char *dst, const void *src, size_t len)
{
	const uint8_t *s = src;
	char *o = dst;

	for (; len >= 3; len -= 3, s += 3) {
		*o++ = alphabet[s[0] >> 2];
		*o++ = alphabet[(s[0] & 3) << 4 | s[1] >> 4];
		*o++ = alphabet[(s[1] & 15) << 2 | s[2] >> 6];
		*o++ = alphabet[s[2] & 63];
	}
	if (len) {
		*o++ = alphabet[s[0] >> 2];
		*o++ = alphabet[(s[0] & 3) << 4 | (len == 2 ? s[1] >> 4 : 0)];
		*o++ = len == 2 ? alphabet[(s[1] & 15) << 2] : '=';
		*o++ = '=';
	}
	*o = '\0';
	return (size_t)(o - dst);
}

static int digit(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

ssize_t b64_decode(void *dst, const char *src, size_t len)
{
	uint8_t *o = dst;

	if (len % 4)
		return -EINVAL;
	for (size_t i = 0; i < len; i += 4) {
		int d[4], pad = 0;
		for (int k = 0; k < 4; k++) {
			bool is_pad = src[i + k] == '=' && k >= 2 && i + 4 == len;
			d[k] = is_pad ? 0 : digit(src[i + k]);
			if (d[k] < 0 || (pad && !is_pad))
				return -EINVAL;
			pad += is_pad;
		}
		uint32_t v =
			(uint32_t)d[0] << 18 | (uint32_t)d[1] << 12 | (uint32_t)d[2] << 6 | (uint32_t)d[3];
		*o++ = (uint8_t)(v >> 16);
		if (pad < 2)
			*o++ = (uint8_t)(v >> 8);
		if (pad < 1)
			*o++ = (uint8_t)v;
	}
	return o - (uint8_t *)dst;
}
