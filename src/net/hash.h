/* SPDX-License-Identifier: MIT */
#ifndef NET_HASH_H
#define NET_HASH_H

#include <stddef.h>
#include <stdint.h>

/* SipHash-2-4 of n words of 8 bytes (any alignment), as bytes in the order in which they lie. */
uint64_t hash_words(const uint64_t key[static 2], const void *words, size_t n);
/* The process's key, drawn at its first use. */
const uint64_t *hash_key(void);

#endif
