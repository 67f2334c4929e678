/* SPDX-License-Identifier: MIT */
/* SipHash-2-4 (Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012), for keys of one length. */
#include <endian.h>
#include <string.h>

#include "base/io.h"
#include "engine.h"
#include "hash.h"

static uint64_t rotl(uint64_t x, unsigned n)
{
	return x << n | x >> (64 - n);
}

static inline void round_of(uint64_t v[static 4])
{
	v[0] += v[1];
	v[1] = rotl(v[1], 13) ^ v[0];
	v[0] = rotl(v[0], 32);
	v[2] += v[3];
	v[3] = rotl(v[3], 16) ^ v[2];
	v[0] += v[3];
	v[3] = rotl(v[3], 21) ^ v[0];
	v[2] += v[1];
	v[1] = rotl(v[1], 17) ^ v[2];
	v[2] = rotl(v[2], 32);
}

uint64_t hash_words(const uint64_t key[static 2], const void *words, size_t n)
{
	uint64_t v[4] = {key[0] ^ 0x736f6d6570736575, key[1] ^ 0x646f72616e646f6d,
		key[0] ^ 0x6c7967656e657261, key[1] ^ 0x7465646279746573};
	const uint8_t *p = words;

	for (size_t i = 0; i <= n; i++) {
		uint64_t m = (uint64_t)(n * 8) << 56; /* the last block: the length, and no bytes left over */
		if (i < n) {
			memcpy(&m, p + i * 8, 8);
			m = le64toh(m);
		}
		v[3] ^= m;
		round_of(v);
		round_of(v);
		v[0] ^= m;
	}
	v[2] ^= 0xff;
	for (unsigned i = 0; i < 4; i++)
		round_of(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

const uint64_t *hash_key(void)
{
	static uint64_t key[2];

	if (!key[0] && !key[1])
		io_random(key, sizeof(key));
	return key;
}

uint64_t flow_hash(const struct flow_key *k)
{
	_Static_assert(sizeof(*k) == 40, "whole words, no padding that is not named");
	return hash_words(hash_key(), k, sizeof(*k) / 8);
}
