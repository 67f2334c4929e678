/* SPDX-License-Identifier: MIT */
/* Files into the box and out of it: wire.h, COPY. */
#ifndef GUEST_COPY_H
#define GUEST_COPY_H

#include <sys/types.h>

#include "spawn.h"

#define COPY_MAX    8	/* connections at once */
#define COPY_IDLE_S 600 /* without an entry or a piece of content, for whatever reason: then it is given up */

/*
 * Starts a process that serves the connection, which joins the running box; in holds what has been read from it, COPY_OUT or
 * COPY_IN first. Both stay the caller's, who closes the connection, so that it ends with the process. The PID, or -errno.
 */
pid_t copy_start(const struct spawn_box *box, int fd, const struct buf *in);

/* ---- parts ---- */

/* Where a path leads: what is `name` in the folder dir, or with "" the folder itself. dir is open with O_PATH. */
struct copy_place {
	int dir;
	char name[256];
};
/*
 * Resolves the path inside of the folder root (absolute paths and links begin there, ".." ends there). With follow a link at its
 * end is followed too, even to what is not there yet. 0 or -errno.
 */
int copy_find(int root, const char *path, bool follow, struct copy_place *ret);

#endif
