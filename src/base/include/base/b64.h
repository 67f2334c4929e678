/* SPDX-License-Identifier: MIT */
/* Base64 (RFC 4648 section 4), strict: padding required, no line breaks. */
#ifndef BASE_B64_H
#define BASE_B64_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Bytes that encoding len bytes takes, with the NUL. */
#define B64_SIZE(len) (((len) + 2) / 3 * 4 + 1)

/* Writes B64_SIZE(len) bytes. Returns the length without the NUL. */
size_t b64_encode(char *dst, const void *src, size_t len);
/* Writes at most len / 4 * 3 bytes. Returns their number or -EINVAL. */
ssize_t b64_decode(void *dst, const char *src, size_t len);

#endif
