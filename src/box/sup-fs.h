/* SPDX-License-Identifier: MIT */
/*
 * The file server of a box that runs, or that is booted to reach its files (private to this room).
 *
 * A box without mounts has none, and all of this does nothing for it. A new machine gets a new server: it ends with the machine
 * that it served.
 */
#ifndef BOX_SUP_FS_H
#define BOX_SUP_FS_H

#include "box/box.h"
#include "fs/protocol.h"

/* Zero-initialised: none. */
struct box_fs {
	struct fs_process process; /* pid 0: none */
	struct {
		bool file, read_only; /* what the source is; how it is served */
	} exports[BOX_MOUNTS_MAX];    /* of each mount */
};

/*
 * Opens the sources of the box's mounts, as the paths mean now: -ENOENT where one is missing that is not to be made, -ENOTSUP
 * where one is neither a folder nor a regular file. Volumes are filled if they are to be. Then starts the server, which holds
 * lock_fd open, and writes its messages to log_fd (both borrowed). It dies with the calling thread. 0, or -errno with nothing
 * left behind.
 */
int box_fs_start(
	struct state *st, const struct box *b, int lock_fd, int log_fd, struct box_fs *ret, struct err *e);
/* For machine_config.fs_fd; -1: none. Stays ours until box_fs_connected, which is to be called once a machine has it. */
int box_fs_socket(const struct box_fs *fs);
void box_fs_connected(struct box_fs *fs);
/* c->mounts, by b's. 0 or -ENOMEM. */
int box_fs_fill(const struct box_fs *fs, const struct box *b, struct wire_config *c);
/* Whether it ended otherwise than with its machine. Not waited for. */
bool box_fs_failed(const struct box_fs *fs);
/* Ends it, and waits for that. */
void box_fs_end(struct box_fs *fs);

#endif
