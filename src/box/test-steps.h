/* SPDX-License-Identifier: MIT */
/* Looks at every step that makes something in a folder, or makes it last: mkdirat, fchmod, renameat and fsync of the program. */
#ifndef BOX_TEST_STEPS_H
#define BOX_TEST_STEPS_H

#include <stdbool.h>

/* Called before each step, with its number since steps_watch. What it does itself is not looked at. NULL: nobody looks. */
void steps_watch(void (*hook)(unsigned step));
/* Whether the folder was given to fsync since steps_watch. */
bool steps_synced(int dirfd, const char *path);

#endif
