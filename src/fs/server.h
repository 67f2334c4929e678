/* SPDX-License-Identifier: MIT */
/* The parts of the file server among themselves: what fs.h explains, in pieces. Nothing here is for others. */
#ifndef FS_SERVER_H
#define FS_SERVER_H

#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "fs.h"
#include "proto.h"
#include "tree/stored.h"
#include "watch.h"

#define NODES_MAX	(1u << 22) /* of about 300 bytes each, and a name */
#define NODE_STRIPES	64
#define HANDLES_MAX	65536
#define HANDLE_SLOTS	4096  /* chains of the table of handles */
#define OWNERS_MAX	4096  /* lock owners with a descriptor each, of all files */
#define HELD_MAX	65536 /* ranges of POSIX locks that are noted, of all owners */
#define DEVICES_MAX	256
#define DEPTH_MAX	1024 /* folders without a descriptor above a node that is to be found again */
#define WRITE_MAX	(1u << 20)
#define BODY_MAX	(FS_NAME_MAX + 1 + XATTR_VALUE_MAX + 64u)
#define FS_NAME_MAX	255u
#define XATTR_VALUE_MAX 65536u /* XATTR_SIZE_MAX, XATTR_LIST_MAX of linux/limits.h */
#define BELIEVED_S	1u     /* how long names and attributes are believed by a guest that is alone */
/* Times of files have the granularity of the kernel's tick, 10 ms at most: within two, another change may have the same time. */
#define FS_LARGE (128u << 10) /* bytes of a read or write that takes long */
#define RACY_NS	 20000000ll

struct export
{
	struct fs_export e;
	struct node *node;
	/* FS_CACHE_VOLUME, see lease.c. */
	pthread_mutex_t lease_lock; /* one thread at a time takes or gives up */
	atomic_bool alone;
	atomic_uint alone_since;	 /* counts up with every time that it became alone */
	atomic_uint granting;		 /* requests under way that may tell the guest to believe something */
	atomic_ullong believed_until_ns; /* monotonic */
};

/* What was known of a file's content when the guest had it open last: whether what it has of it still holds. */
struct content_mark {
	bool known, racy;
	unsigned alone; /* alone_since + 1 while alone, else 0 */
	off_t size;
	struct timespec mtime, ctime;
};

/* Bytes of a file, the last included. */
struct lock_range {
	int64_t start, end;
	bool exclusive;
};

struct lock_owner {
	struct lock_owner *next;
	uint64_t id;
	int fd;
	unsigned refs;
	bool dropped; /* not in its node's list any more */
	/* Under posix_lock, see held.c. */
	uint32_t pid;		 /* of the process that locked last, as the guest counts */
	struct lock_range *held; /* in order, without overlap */
	size_t n_held;
	bool unknown; /* could not be noted: what it holds is not in `held` */
};

/* A request that waits for a POSIX lock, for as long as it does. Under posix_lock. */
struct lock_wait {
	struct lock_wait *next, *next_seen;
	bool seen;
	uint64_t owner;
	struct node *node; /* the request's reference */
	struct lock_range want;
};

struct node {
	/* Under the server's lock. */
	struct node *id_next, *key_next, *lru_prev, *lru_next;
	struct node *
		parent; /* with name: where it was seen last; NULL for the root, exports, and what has no name */
	char *name;
	int fd;	     /* O_PATH, -1: closed, found again by its name */
	bool pinned; /* its descriptor stays: it cannot be found again by its name */
	bool hashed; /* the guest can name it */
	uint64_t lookups;
	unsigned refs; /* requests, handles and nodes below it */
	unsigned uses; /* of its descriptor, right now */
	/* Never change. */
	uint64_t id;
	struct export *export; /* NULL: the root */
	dev_t dev;
	ino_t ino;
	int64_t btime_ns; /* tells a new file with an old number from the old one, once that has no descriptor here */
	mode_t type; /* S_IFMT of what the host has */
	/* Under the watches' lock. */
	struct watch *watch;
	/* Under node_lock. */
	unsigned cached; /* handles through which the guest caches content */
	unsigned racy_reads;
	struct content_mark mark;
	struct lock_owner *owners;
	atomic_uint privileges; /* counts when setuid, setgid or capabilities may be set, before and after */
	atomic_ullong
		plain; /* with which count, and since when alone, it was seen to have none of them; 0: never */
};

struct handle {
	struct handle *next;
	uint64_t id;
	struct node *node;
	int fd;
	unsigned refs;
	bool folder, cached, writable;
	atomic_bool wrote;
	/* Folders: what was read and not yet told. */
	pthread_mutex_t dir_lock;
	char *dir_buf;
	size_t dir_len, dir_at;
	int64_t dir_off; /* of the entry at dir_at */
};

struct fs_server {
	int proc_fd;
	uid_t user;
	struct export *exports;
	size_t n_exports;
	unsigned max_fds;
	struct node *root;

	pthread_mutex_t lock; /* nodes, handles; never held across a system call that may wait */
	struct node **by_id, **by_key;
	size_t buckets; /* a power of two */
	size_t n_nodes, max_nodes;
	unsigned n_fds;	   /* of nodes but exports' */
	struct node *dead; /* to be freed as the lock is let go */
	struct node lru;   /* ring of those with a descriptor that is neither pinned nor used; next: latest */
	uint64_t next_id;
	struct handle *handles[HANDLE_SLOTS];
	unsigned n_handles;
	uint64_t next_handle;
	dev_t devices[DEVICES_MAX];
	unsigned n_devices;

	pthread_mutex_t stripes[NODE_STRIPES];

	atomic_uint waiters; /* for locks */
	atomic_uint freed;   /* counts unlocks and interrupts; those who wait for locks watch it (futex(2)) */
	/* POSIX locks as they are granted and noted. Before a node's lock; no call under it waits for another's lock. */
	pthread_mutex_t posix_lock;
	struct lock_wait *lock_waits;
	size_t n_held;

	pthread_mutex_t run_lock;
	pthread_cond_t idle_cond;
	unsigned active;    /* requests under way: run_lock */
	atomic_bool ending; /* none may begin; written under run_lock */

	atomic_uint n_owners;
	pthread_mutex_t sync_lock;
	atomic_ullong sync_asked;
	unsigned long long sync_done;

	struct watches watches;

	atomic_bool ready; /* INIT was answered */
	atomic_bool setxattr_ext;
};

struct request {
	struct fs_server *s;
	struct fuse_in_header h;
	const atomic_bool *interrupted; /* fs_handle; may be NULL */
	const struct iovec *out, *in;
	unsigned n_out, n_in;
	size_t in_len;
	char *body; /* our copy of what follows the header; of WRITE its structure only */
	size_t body_len;
	struct node *node;
	struct export *granting;
	size_t payload; /* bytes of the reply behind its header */
};

struct file_stat {
	struct stat st;
	int64_t btime_ns;
};

/* ---- server.c ---- */

/* What the guest has open, locked and looked up. Requests may be under way: what they use goes with them. */
void forget_all(struct fs_server *s);

/* ---- request.c ---- */

/* Appends to the reply. -EINVAL when the guest left no room. */
int reply_add(struct request *r, const void *data, size_t len);
/* Room behind the header and what was added. */
size_t reply_room(const struct request *r);
/*
 * The next name of the body, from *at on, which moves: one component, neither "." nor "..", at most FS_NAME_MAX bytes. Points
 * into the body.
 */
int take_name(const struct request *r, size_t *at, const char **ret);
/* The same of a name in the folder that the request is about, whose descriptor is returned: node_done_fd. Or -errno. */
int take_place(const struct request *r, size_t *at, const char **ret);

/* ---- inode.c ---- */

int nodes_init(struct fs_server *s);
void nodes_done(struct fs_server *s);
/* Everything but root and exports is gone for the guest; what requests still use ends with them. */
void nodes_reset(struct fs_server *s);
/* A reference, to be given back by node_put; NULL: the guest made that up. */
struct node *node_get(struct fs_server *s, uint64_t id);
void node_ref(struct fs_server *s, struct node *n);
void node_put(struct fs_server *s, struct node *n);
/* Its descriptor, to be given back by node_done_fd; found again if need be. -ESTALE: it is no more where it was. */
int node_fd(struct fs_server *s, struct node *n);
void node_done_fd(struct fs_server *s, struct node *n);
/*
 * The node of what fd (O_PATH, consumed in any case) is, seen as name in parent (NULL: without a name); lookups is added to
 * what the guest has. Returns a reference in *ret.
 */
int node_found(struct fs_server *s, struct export *x, struct node *parent, const char *name, int fd,
	const struct file_stat *fs, uint64_t lookups, struct node **ret);
/* What fd (consumed) is loses the name that the guest knows: if the guest knows it, its descriptor stays. */
void node_unnamed(struct fs_server *s, struct export *x, int fd);
void node_forget(struct fs_server *s, uint64_t id, uint64_t n);
/* A parent with a reference, NULL: none. */
struct node *node_parent(struct fs_server *s, struct node *n);
/* No descriptors left: gives up some that are not used. false: there are none. */
bool node_fds_shrink(struct fs_server *s);
/* As open(2) of what an O_PATH descriptor is: a regular file or a folder, never anything else. */
int reopen(struct fs_server *s, int fd, int flags);
pthread_mutex_t *node_lock(struct fs_server *s, const struct node *n);

/* ---- attr.c ---- */

int get_stat(int fd, struct file_stat *ret);
/* As the box sees n, which fd is. Whether an attribute says so. */
bool attr_stored(struct fs_server *s, struct node *n, int fd, const struct stat *st, struct stored_stat *ret);
/* 0 or 1 seconds; the request counts among those that grant from then on. */
unsigned attr_believed(struct request *r, struct export *x);
int attr_fill(struct request *r, struct node *n, int fd, const struct stat *st, struct fuse_attr *ret);
/* So that it is seen as `want`. st: as it is; is_new: it has no attribute yet. -EOPNOTSUPP where there are none. */
int attr_set_owner(
	struct fs_server *s, int fd, const struct stat *st, const struct stored_stat *want, bool is_new);
/* Clears capabilities, and setuid and setgid if that is asked for, as a write does. is_open: not O_PATH, which is faster. */
int attr_kill_privileges(struct fs_server *s, struct node *n, int fd, bool is_open, bool set_id);
/* Whether a change of the file that comes now may have the same time. */
bool attr_is_racy(const struct timespec *t);
uint64_t attr_ino(struct fs_server *s, dev_t dev, ino_t ino);
int op_getattr(struct request *r);
int op_setattr(struct request *r);
int op_access(struct request *r);
int op_statfs(struct request *r);

/* ---- names.c ---- */

/* The entry `name` of r->node, looked up: O_PATH, and what it is. */
int open_child(struct fs_server *s, int dirfd, const char *name, struct file_stat *ret);
/* What the guest is told of an entry; fd is consumed. *ret may be NULL; lookups counts one up. */
int entry_fill(struct request *r, struct node *parent, const char *name, int fd, const struct file_stat *fs,
	struct fuse_entry_out *out, struct node **ret);
int op_lookup(struct request *r);
int op_readlink(struct request *r);
int op_unlink(struct request *r);
int op_rmdir(struct request *r);
int op_rename(struct request *r);
int op_rename2(struct request *r);
int op_link(struct request *r);

/* ---- create.c ---- */

int op_symlink(struct request *r);
int op_mknod(struct request *r);
int op_mkdir(struct request *r);
int op_create(struct request *r);
int op_tmpfile(struct request *r);

/* ---- handle.c ---- */

/* fd is consumed, also on failure. */
int handle_new(
	struct fs_server *s, struct node *n, int fd, bool folder, bool cached, bool writable, uint64_t *ret);
/* A reference; NULL unless it is of that node and kind. */
struct handle *handle_get(struct fs_server *s, uint64_t id, const struct node *n, bool folder);
void handle_put(struct fs_server *s, struct handle *h);
/* The guest has closed it. -EBADF. */
int handle_release(struct fs_server *s, uint64_t id, const struct node *n, bool folder);
void handles_reset(struct fs_server *s);

/* ---- file.c ---- */

/* A handle of the regular file n for fd, which is consumed, and what the guest is told of it. */
int file_open(struct request *r, struct node *n, int fd, bool writable, struct fuse_open_out *out);
/* Notes how the guest's last handle leaves the file. */
void file_mark_closed(struct fs_server *s, struct handle *h);
int op_open(struct request *r);
int op_read(struct request *r);
int op_write(struct request *r);
int op_flush(struct request *r);
int op_release(struct request *r);
int op_fsync(struct request *r);
int op_fallocate(struct request *r);
int op_lseek(struct request *r);
int op_copy_file_range(struct request *r);
int op_syncfs(struct request *r);

/* ---- dir.c ---- */

int op_opendir(struct request *r);
int op_readdir(struct request *r);
int op_readdirplus(struct request *r);
int op_releasedir(struct request *r);
int op_fsyncdir(struct request *r);

/* ---- lock.c ---- */

void locks_drop_owner(struct fs_server *s, struct node *n, uint64_t owner);
void locks_drop_all(struct fs_server *s, struct node *n);
/* Those who wait for locks look again: something may have been unlocked here, or one of them is to end. */
void locks_wake(struct fs_server *s);
int op_getlk(struct request *r);
int op_setlk(struct request *r);
int op_setlkw(struct request *r);

/* ---- held.c; all but the waits' with posix_lock held ---- */

struct lock_range lock_range_of(const struct flock *l);
/* The kernel has granted the owner that (F_OFD_SETLK), or unlocked it. */
void held_note(struct fs_server *s, struct lock_owner *o, const struct flock *l);
/* The owner goes, and its descriptor with it. */
void held_forget(struct fs_server *s, struct lock_owner *o);
/*
 * w->owner is to wait on w->node for w->want. -EDEADLK: one whom it would wait for waits for it, perhaps through others, as
 * posix_locks_deadlock() of Linux finds it; else it counts among those who wait until held_wait_end.
 */
int held_wait_begin(struct fs_server *s, struct lock_wait *w);
void held_wait_end(struct fs_server *s, struct lock_wait *w);
/* The process whose lock is just that (F_OFD_GETLK). 0: it is not of this guest, or not known. */
uint32_t held_by(struct fs_server *s, struct node *n, const struct flock *l);

/* ---- xattr.c ---- */

int op_setxattr(struct request *r);
int op_getxattr(struct request *r);
int op_listxattr(struct request *r);
int op_removexattr(struct request *r);

/* ---- watch.c ---- */

/* 0 or -errno; watches_done either way. */
int watches_init(struct fs_server *s);
void watches_done(struct fs_server *s);
/* Nothing is watched any more. */
void watches_reset(struct fs_server *s);
/* The request that waits for events, if there is one, looks whether it is to end. */
void watches_wake(struct fs_server *s);
/* Whether the node was watched; then the use of its descriptor is the caller's to give back, unless it is freed. */
bool watch_drop(struct fs_server *s, struct node *n);
int op_watch(struct request *r);
int op_watch_events(struct request *r);

/* ---- lease.c ---- */

void lease_take(struct export *x);
void lease_look(struct export *x);

/* "N": the name of a descriptor in the working folder, which is proc_fd. */
struct fd_name {
	char text[12];
};
struct fd_name fd_name(int fd);

#endif
