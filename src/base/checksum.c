/* SPDX-License-Identifier: MIT */
#include "base/checksum.h"

#include <string.h>

uint32_t inet_sum(uint32_t sum, const void *data, size_t len)
{
	const uint8_t *p = data;
	uint64_t a = sum, b = 0; /* 2^32 words of 32 bits would have to come before these overflow */
	uint64_t w[4];
	uint32_t w32;
	uint16_t w16;

	for (; len >= sizeof(w); p += sizeof(w), len -= sizeof(w)) {
		memcpy(w, p, sizeof(w));
		a += (w[0] & 0xffffffff) + (w[1] & 0xffffffff) + (w[2] & 0xffffffff) + (w[3] & 0xffffffff);
		b += (w[0] >> 32) + (w[1] >> 32) + (w[2] >> 32) + (w[3] >> 32);
	}
	for (; len >= 4; p += 4, len -= 4) {
		memcpy(&w32, p, 4);
		a += w32;
	}
	if (len >= 2) {
		memcpy(&w16, p, 2);
		a += w16;
		p += 2;
		len -= 2;
	}
	if (len) {
		const uint8_t last[2] = {*p, 0};
		memcpy(&w16, last, 2);
		a += w16;
	}
	a = (a & 0xffffffff) + (a >> 32) + (b & 0xffffffff) + (b >> 32);
	while (a >> 16)
		a = (a & 0xffff) + (a >> 16);
	return (uint32_t)a;
}

uint16_t inet_sum_finish(uint32_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}
