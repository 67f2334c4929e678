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

#endif
