/* SPDX-License-Identifier: MIT */
/* Files and descriptors: complete reads and writes, durable replacement, trees that are never left through a link. */
#ifndef BASE_IO_H
#define BASE_IO_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/cleanup.h"

/* Reads until len bytes or end of file. Returns the bytes read, or -errno. */
ssize_t io_read_full(int fd, void *buf, size_t len);
/* As io_read_full at a file offset. */
ssize_t io_pread_full(int fd, void *buf, size_t len, off_t off);
/* Writes all of buf. Returns 0 or -errno. */
int io_write_full(int fd, const void *buf, size_t len);
int io_pwrite_full(int fd, const void *buf, size_t len, off_t off);

int io_set_nonblock(int fd, bool on);
int io_set_cloexec(int fd, bool on);

/*
 * Reads a regular file below dirfd (AT_FDCWD allowed) of at most max bytes; the result has a NUL after it
 * that is not counted. Returns 0, -EFBIG when longer than max, or -errno. *ret is malloc'd.
 */
int io_read_file_at(int dirfd, const char *path, size_t max, char **ret, size_t *ret_len);
/* Replaces a file durably: temporary beside it, fsync, rename, fsync of the folder. Returns 0 or -errno. */
int io_write_file_at(int dirfd, const char *path, const void *buf, size_t len, mode_t mode);

/*
 * openat2(2): flags are those of open(2), but O_CREAT, O_CLOEXEC is added; resolve are RESOLVE_*. Where something
 * is renamed on the way of a lookup that ".." may not lead out of, the kernel gives up with EAGAIN: it is tried again, a bounded
 * number of times. fd or -errno; -ENOSYS where the kernel, or an emulator of another architecture, has no such call.
 */
int io_openat2(int dirfd, const char *path, uint64_t flags, uint64_t resolve);
/* Opens (and with create makes, mode 0700) a directory below dirfd, not following a final link. fd or -errno. */
int io_open_dir_at(int dirfd, const char *path, bool create);
/* mkdir -p of an absolute or relative path with mode for new parts. Returns 0 or -errno. */
int io_mkdir_p(const char *path, mode_t mode);
/* Removes a file or whole tree below dirfd, however deep, without following links or changing device. 0 also if absent. */
int io_remove_tree_at(int dirfd, const char *path);
/*
 * What a file or whole tree below dirfd takes on disk: allocated blocks, folders included, a file with several names once, as du
 * counts. Links are not followed. 0 when it is not there; what cannot be read, or lies deeper than there are descriptors, counts
 * nothing.
 */
uint64_t io_tree_bytes_at(int dirfd, const char *path);
int io_fsync_dir(int dirfd);

/*
 * Copies src to dst (both open regular files, dst empty): shared extents where the file system can,
 * otherwise only the parts that hold data (FICLONE, else SEEK_DATA). dst gets src's length. sync: it is on the disk then.
 * Returns 0 or -errno.
 */
int io_copy_sparse(int src, int dst, bool sync);

/* printf into a malloc'd string; NULL when out of memory. */
char *str_printf(const char *fmt, ...) PRINTF(1, 2);
/* strdup that maps NULL to NULL. */
char *str_dup(const char *s);
/* Fills buf from the kernel's random source. Cannot fail. */
void io_random(void *buf, size_t len);
/* Writes 2*len lower-case hex digits and a NUL. */
void hex_encode(char *dst, const void *src, size_t len);
/* Reads 2*len lower-case hex digits into len bytes; what follows them is not looked at. 0 or -EINVAL. */
int hex_decode(void *dst, const char *src, size_t len);

/* Time in nanoseconds: monotonic, and since the epoch. */
uint64_t time_mono_ns(void);
int64_t time_real_ns(void);

#endif
