/* SPDX-License-Identifier: MIT */
/* Where something is mounted in the box. */
#ifndef GUEST_TARGET_H
#define GUEST_TARGET_H

#include <stdbool.h>
#include <sys/stat.h>
#include <sys/types.h>

/*
 * Opens (O_PATH) what is at an absolute path, in a process whose root is the box's and before a program of the box has run.
 * Links lead to where they lead in the box. What is missing is made, for `owner`: folders, mode 0755, and with `file` an empty
 * file at the end. *st: what was there, st_mode 0 where nothing was. -EPERM inside of /proc, whose masks nothing may hide or
 * pretend to be; -EISDIR, -ENOTDIR where something of the other kind is; or another -errno.
 */
int target_open(const char *path, bool file, uid_t owner, struct stat *st);

#endif
