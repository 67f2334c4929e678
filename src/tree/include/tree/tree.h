/* SPDX-License-Identifier: MIT */
/*
 * Trees of files on their way: from a folder, a stream or an archive (sources) into a folder, a stream or an archive (sinks).
 *
 * THEORY OF OPERATION
 *
 * A source reads one tree and calls a sink for every entry, its content, and the end, in the order of wire/tree.h. A sink trusts
 * nothing of what it is given. Every pair fits together: `cp` into a box is a folder into a stream on the host, and a stream
 * into a folder in the guest; `export` is a box's disks into an archive. This room is part of the guest's program too: it uses
 * nothing but libc. Archives are the room oci's (oci/tar.h), disks the room storage's.
 *
 * Nothing is ever looked up by a path of more than one component, nothing but descriptors of folders is kept, and no link is
 * followed: openat2(2) with RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV where said. So a process that swaps
 * folders for links meanwhile can make a copy fail or be about other things that lie in the same root, but never leads it out.
 *
 * All functions return 0 or -errno with e set. A sink's failure ends the source, and is what that returns.
 */
#ifndef TREE_TREE_H
#define TREE_TREE_H

#include <sys/types.h>

#include "base/err.h"
#include "wire/tree.h"

#define TREE_DEPTH_MAX 2048

struct tree_sink {
	int (*entry)(void *data, const struct wire_entry *en, struct err *e);
	/* Of the last entry. Offsets only grow. */
	int (*content)(void *data, uint64_t offset, const void *bytes, size_t len, struct err *e);
	/* The tree is complete. */
	int (*end)(void *data, struct err *e);
	void *data;
};

/* What was copied so far, for progress. */
struct tree_progress {
	void (*fn)(void *data, uint64_t entries, uint64_t bytes); /* NULL: nobody wants to know */
	void *data;
};

/* ---- folders ---- */

/* A folder, by what it is. */
struct tree_file_id {
	dev_t dev;
	ino_t ino;
};

struct tree_read_opts {
	bool follow; /* a link that is the root is replaced by what it leads to, as stat(2) finds it (cp -L) */
	bool one_fs;	 /* what is mounted below is passed over, its folder stays */
	bool no_content; /* only the root's entry */
	/* Folders below the root that come as if they were empty; borrowed. */
	const struct tree_file_id *pass_over;
	size_t n_pass_over;
	struct tree_progress progress;
};
/*
 * Reads the tree whose root is `name` in the folder dirfd: one component, or "" for the folder itself. With owners, modes,
 * times, holes (SEEK_DATA), links between its files, extended attributes of files and folders (capabilities, ACLs, user.*
 * and trusted.*; what of them may not be read is left out). A file that shrinks while it is read is filled with zeros, one that
 * grows is cut. Entries of a folder come in the order of their names, bytewise. What vanishes before it was opened is passed
 * over (and what the kernel says to be gone when it is read: processes), sockets are too; one that is the root is -EINVAL. Files
 * that the kernel makes up (/proc, /sys) come with the length that they had when they were read; over 4 MiB they are -EFBIG. No
 * file is waited for, and of a deep tree few descriptors are held.
 */
int tree_read_folder(int dirfd, const char *name, const struct tree_read_opts *o, const struct tree_sink *to,
	struct err *e);

enum tree_owner {
	/*
	 * Everything belongs to who writes: `cp` from a box as user. Setuid, setgid, capabilities and ACLs are dropped, devices
	 * are -EPERM, and folders below the root that are there keep their attributes: a box cannot open them to others.
	 */
	TREE_OWNER_SELF,
	TREE_OWNER_KEEP,   /* chown(2): needs privileges; devices are made too */
	TREE_OWNER_STORED, /* kept in extended attributes, see tree/stored.h: volumes */
};
struct tree_write_opts {
	enum tree_owner owner;
	bool root_attr;			 /* a root folder that is there gets the root entry's attributes */
	bool durable;			 /* what would lie in memory only (tmpfs, ramfs) is -ENOMEDIUM */
	bool sync;			 /* everything is on the disk when `end` returns */
	uint64_t max_entries, max_bytes; /* 0: no limit */
	struct tree_progress progress;
};
struct tree_writer;
/*
 * A sink that makes the tree as `name` in the folder dirfd (borrowed until tree_writer_free): one component; or "" to fill the
 * folder itself. What is there already stays unless the tree has the same path: then a file or link is replaced (the new one
 * is made beside it and renamed over it), a folder is filled; a folder where the tree has none, or the reverse, is -EISDIR or
 * -ENOTDIR. Nothing that was a link before is written through. Files are only seen complete. Modes, owners and times of folders
 * are set when the tree is complete, so that a read-only folder can be filled. Extended attributes that the file system or the
 * user cannot have are left out, but for those of tree/stored.h. Whiteouts are -EINVAL, sockets are passed over. What is killed
 * can leave a file ".a3s-*" behind.
 */
int tree_writer_new(int dirfd, const char *name, const struct tree_write_opts *o, struct tree_writer **ret,
	struct err *e);
const struct tree_sink *tree_writer_sink(struct tree_writer *w);
/* Also before the end: what was made stays, but for the file that is not complete. */
void tree_writer_free(struct tree_writer *w);
DEFINE_CLEANUP(struct tree_writer *, tree_writer_free)

/* ---- streams of frames (wire/tree.h) ---- */

/*
 * Writes to a blocking descriptor, which is borrowed: buffered, and complete with `end`. -EPIPE when nobody reads (with a pipe
 * the process has to ignore SIGPIPE), -ETIMEDOUT when the socket's own limit has passed.
 */
struct tree_stream;
int tree_stream_new(int fd, struct tree_stream **ret, struct err *e);
const struct tree_sink *tree_stream_sink(struct tree_stream *s);
/* Ends the stream with FAIL instead. */
void tree_stream_fail(struct tree_stream *s, const char *text);
void tree_stream_free(struct tree_stream *s);
DEFINE_CLEANUP(struct tree_stream *, tree_stream_free)

/*
 * Reads one tree off a blocking descriptor, or off one that does not block (O_NONBLOCK), as for a pipe, which has no limit of its
 * own: then -ETIMEDOUT when nothing comes for a minute. `in` holds what was read before, and then what came behind the tree. It is checked in
 * every respect that wire/tree.h names, the order included: -EBADMSG. -EPIPE when it ends before its end; -EREMOTEIO with the
 * sender's text when that failed; -E2BIG for more than 16 million entries.
 */
int tree_read_stream(int fd, struct buf *in, const struct tree_sink *to, struct err *e);

#endif
