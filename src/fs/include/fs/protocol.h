/* SPDX-License-Identifier: MIT */
/*
 * Between the supervisor and the file server that it starts for a box, a3s-box-fsd (fs.h has its theory). Both are of one build.
 *
 * The server inherits its descriptors at fixed numbers and one option for each export:
 *
 *     3      the vhost-user socket (virtio/vhost-user.h), whose other end is machine_config.fs_fd
 *     4      a pipe: one struct fs_status, written when it is confined and serves
 *     5      only held: the box's lock, so that it is not free while somebody can still write to its files
 *     6...   the exports in order, O_PATH; one of FS_CACHE_VOLUME is followed by its `use` file
 *
 *     --export=ro|rw,dir|file,host|volume
 *     --nodes=N        fs_launch.max_nodes
 *     --root           root runs the box: the server keeps what root needs to use the files of others
 *
 * It ends when the front end disconnects (the machine is gone), and with the thread that started it. Its exit status is 0 where
 * it ended because of that, 1 for everything else, with a line on standard error.
 */
#ifndef FS_PROTOCOL_H
#define FS_PROTOCOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

#define FS_EXPORTS_MAX 128
#define FS_TAG	       "a3s" /* WIRE_MOUNTS_TAG */
#define FS_PROGRAM     "a3s-box-fsd"

enum fs_fd {
	FS_FD_VHOST = 3,
	FS_FD_STATUS = 4,
	FS_FD_HOLD = 5,
	FS_FD_EXPORTS = 6,
};

enum fs_cache { FS_CACHE_HOST, FS_CACHE_VOLUME }; /* see fs.h */

struct fs_export {
	int fd; /* O_PATH: the folder or the regular file */
	int use_fd; /* FS_CACHE_VOLUME: its file `use`, open for reading and writing, no lease taken yet; else -1 */
	bool read_only; /* enforced by the server, whatever the guest does */
	bool file;
	enum fs_cache cache;
};

/* What confines the server: standard names as machine_confinement_name gives them ("seccomp", "landlock", ...). */
struct fs_status {
	char confined[256];	/* separated by ", " */
	char not_confined[256]; /* "landlock: not in this kernel; ...", empty if all is applied */
};

struct fs_launch {
	const char *program;		 /* path of a3s-box-fsd */
	const char *name;		 /* shown in the host's list of processes: the box */
	const struct fs_export *exports; /* descriptors are borrowed */
	size_t n_exports;		 /* 1 to FS_EXPORTS_MAX */
	size_t max_nodes; /* how many files and folders the guest may keep at once; at least 1. See fs_nodes_of */
	int hold_fd;	  /* borrowed */
	int log_fd;	  /* receives its messages; borrowed */
};

struct fs_process {
	pid_t pid;
	int pid_fd;    /* readable when it has ended */
	int vhost_fd;  /* for machine_config.fs_fd; to be closed once the machine has been started */
	int status_fd; /* to be read by fs_status_read */
	char confined[256],
		not_confined[256]; /* what was applied before its first instruction; names as in fs_status */
};

/*
 * As many nodes as a guest of so many bytes of memory can use: its kernel needs a kilobyte for each, the server a third of that.
 * So what a hostile one makes the server keep is bounded by what the box may have itself.
 */
size_t fs_nodes_of(uint64_t guest_bytes);
/* Starts the server; it dies with the calling thread. Fills *ret, whose descriptors are the caller's. 0 or -errno with e set. */
int fs_launch(const struct fs_launch *l, struct fs_process *ret, struct err *e);
/*
 * Reads what the server says when it serves, without waiting, and adds it to p's confinement; what it says is made printable. 1:
 * done, once; 0: not yet; -EPIPE: it has ended without; or -errno.
 */
int fs_status_read(struct fs_process *p);
/*
 * Kills it if it still runs, waits for it, five seconds at most, and closes the descriptors. What cannot be ended keeps hold_fd's
 * lock until it can. What has no process (pid 0, or negative) is left alone.
 */
void fs_process_done(struct fs_process *p);

#endif
