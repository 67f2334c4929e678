/* SPDX-License-Identifier: MIT */
/* /etc/hosts and /etc/resolv.conf of the box: what the host says of them, then and now. */
#ifndef GUEST_NAMES_H
#define GUEST_NAMES_H

#include <stddef.h>

#include "wire/wire.h"

/* Content of /etc/hosts for these lines, appended. 0 or -ENOMEM. */
int names_hosts(struct buf *out, const struct strv *lines);

/*
 * A later state of both files, which rootfs_configure has made. What the box has changed in them itself stays (names.c). 0, or -errno
 * with the file's name in what.
 */
int names_update(const struct wire_network *n, char *what, size_t size);
/* The part for one file: `path` is it, `kept` has what it said when we last wrote it. */
enum names_rule { NAMES_BY_LINE, NAMES_UNLESS_CHANGED };
int names_rewrite(const char *path, const char *kept, const char *text, size_t len, enum names_rule rule);

#endif
