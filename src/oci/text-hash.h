/* SPDX-License-Identifier: MIT */
/* A hash of texts that others choose, for tables: with a random key, so that nobody can choose where they lie. */
#ifndef OCI_TEXT_HASH_H
#define OCI_TEXT_HASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint64_t oci_text_hash(const uint64_t key[2], const char *text, size_t n)
{
	uint64_t h = key[0] ^ n;

	while (n > 0) {
		uint64_t w = 0;
		size_t k = n < sizeof(w) ? n : sizeof(w);
		memcpy(&w, text, k);
		unsigned __int128 m = (unsigned __int128)(h ^ w) * (key[1] | 1);
		h = (uint64_t)m ^ (uint64_t)(m >> 64);
		text += k;
		n -= k;
	}
	return h ^ (h >> 29);
}

#endif
