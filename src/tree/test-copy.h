/* SPDX-License-Identifier: MIT */
/* Folders of a test, and what is needed to compare two of them. */
#ifndef TREE_TEST_COPY_H
#define TREE_TEST_COPY_H

#include <stdbool.h>

#include "tree/tree.h"

/* A fresh folder below /tmp, open; removed by copy_world_done. */
struct copy_world {
	char path[64];
	int dir;
};
void copy_world_new(struct copy_world *w);
void copy_world_done(struct copy_world *w);
/* False, with a line, where the kernel or an emulator lacks openat2(2): then there is nothing to test. */
bool copy_possible(void);

/* A folder of the world, made if need be, open O_PATH. */
int copy_folder(const struct copy_world *w, const char *name);
void copy_file(int dir, const char *path, const char *text, mode_t mode);
/* The file's text is this. */
void copy_assert_text(int dir, const char *path, const char *text);
/* Lists everything below, a line each with type, mode, size, time, target, number of names and a sum of the content: malloc'd. */
char *copy_describe(int dir);

#endif
