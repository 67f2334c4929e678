/* SPDX-License-Identifier: MIT */
/* Paths as text: nothing is looked up. */
#ifndef BASE_PATH_H
#define BASE_PATH_H

#include <stddef.h>

/*
 * Appends the components of text to the path of len bytes, "" or a clean one, in front of each a "/": without empty ones and ".",
 * and ".." takes the last one away, where there is one. Adds at most strlen(text) + 1 bytes. Returns the new length; 0 is the
 * root, and nothing ends the path. text may lie in path, at len or behind it, if it begins with "/".
 */
size_t path_append(char *path, size_t len, const char *text);
/* src as an absolute path of that form, "/" for the root. dst has strlen(src) + 2 bytes; it may be src, if that is absolute. */
void path_clean(char *dst, const char *src);

#endif
