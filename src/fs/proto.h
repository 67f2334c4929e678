/* SPDX-License-Identifier: MIT */
/* What of Linux 6.12's FUSE protocol (7.41, include/uapi/linux/fuse.h there) the headers of older systems do not have. */
#ifndef FS_PROTO_H
#define FS_PROTO_H

#include <linux/fuse.h>

#define FS_PROTO_MINOR 38 /* what we speak: the newest whose messages are all known here */

#ifndef FOPEN_PARALLEL_DIRECT_WRITES
#define FOPEN_PARALLEL_DIRECT_WRITES (1 << 6)
#endif
#ifndef FUSE_DIRECT_IO_ALLOW_MMAP
#define FUSE_DIRECT_IO_ALLOW_MMAP (1ULL << 36)
#endif
#ifndef FUSE_ALLOW_IDMAP
#define FUSE_ALLOW_IDMAP (1ULL << 40)
#endif

/*
 * Not Linux's: between this server and our own guest's kernel (kernel/patches/0006-virtiofs-watch.patch); watch.c. FUSE_WATCH is
 * about a node; of the root, with no mask, it ends FUSE_WATCH_EVENTS, whose reply is a sequence of struct fuse_watch_event.
 */
enum { FUSE_WATCH = 128, FUSE_WATCH_EVENTS = 129 };

struct fuse_watch_in {
	uint32_t mask; /* IN_* of inotify(7), and FAN_EVENT_ON_CHILD; 0: nothing any more */
	uint32_t padding;
};

#define FUSE_WATCH_GONE 1 /* it has no name left */

/* Followed by namelen bytes, a NUL, and zeros up to a multiple of eight. */
struct fuse_watch_event {
	uint64_t nodeid;
	uint32_t mask;	  /* IN_*; IN_Q_OVERFLOW: events were lost, of whatever */
	uint32_t cookie;  /* the same for both sides of a move, which follow each other */
	uint32_t namelen; /* 0: of the node itself, else of this entry of it */
	uint32_t flags;
};
#define FUSE_WATCH_EVENT_LEN(namelen) ((sizeof(struct fuse_watch_event) + (namelen) + 1 + 7) & ~(size_t)7)

#endif
