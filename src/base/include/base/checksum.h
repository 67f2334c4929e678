/* SPDX-License-Identifier: MIT */
/*
 * The Internet's checksum (RFC 1071): the ones' complement sum of 16-bit words. Words are summed as they lie in memory, which
 * gives the swapped sum on a little-endian machine, to be stored as it is.
 */
#ifndef BASE_CHECKSUM_H
#define BASE_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

/* Adds to a sum. Of several parts only the last may have an odd length. */
uint32_t inet_sum(uint32_t sum, const void *data, size_t len);
/* Folded and complemented, to be stored by memcpy. */
uint16_t inet_sum_finish(uint32_t sum);

#endif
