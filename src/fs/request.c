/* SPDX-License-Identifier: MIT */
/*
 * A request: its header and what is fixed of it are copied before anything is looked at, as the guest may change its memory
 * meanwhile; then dispatched by a table that says what each kind needs; then its reply's header.
 */
#include "server.h"

#include <signal.h>
#include <string.h>

enum {
	ANY_NODE = 1,  /* the node is not looked at */
	CHANGES = 2,   /* refused on what is read-only */
	FOLDER = 4,    /* the node is a folder */
	GRANTS = 8,    /* its reply says what the guest may believe */
	NO_REPLY = 16, /* none is expected */
	EARLY = 32,    /* also before INIT */
	ON_ROOT = 64,  /* also of the made-up root folder */
};

static int op_init(struct request *r)
{
	/* What the guest must offer, or is the worse without; and 1 MiB at once. */
	const uint64_t want = FUSE_ASYNC_READ | FUSE_POSIX_LOCKS | FUSE_ATOMIC_O_TRUNC | FUSE_BIG_WRITES |
			      FUSE_FLOCK_LOCKS | FUSE_AUTO_INVAL_DATA | FUSE_DO_READDIRPLUS |
			      FUSE_READDIRPLUS_AUTO | FUSE_ASYNC_DIO | FUSE_PARALLEL_DIROPS | FUSE_MAX_PAGES |
			      FUSE_CACHE_SYMLINKS | FUSE_HANDLE_KILLPRIV_V2 | FUSE_SETXATTR_EXT |
			      FUSE_INIT_EXT | FUSE_DIRECT_IO_ALLOW_MMAP | FUSE_ALLOW_IDMAP;
	struct fuse_init_in in = {0};
	struct fuse_init_out out = {.major = FUSE_KERNEL_VERSION,
		.minor = FS_PROTO_MINOR,
		.max_background = 128,
		.congestion_threshold = 96,
		.max_write = WRITE_MAX,
		.time_gran = 1};
	uint64_t flags;

	/* Guests before 7.36 send less. */
	memcpy(&in, r->body, MIN_OF(r->body_len, sizeof(in)));
	if (in.major > FUSE_KERNEL_VERSION) /* it will ask again with ours */
		return reply_add(r, &out, sizeof(out));
	if (in.major < FUSE_KERNEL_VERSION || in.minor < 31)
		return -EPROTO;
	flags = in.flags | (in.flags & FUSE_INIT_EXT ? (uint64_t)in.flags2 << 32 : 0);
	flags &= want;
	out.flags = (uint32_t)flags;
	out.flags2 = (uint32_t)(flags >> 32);
	out.max_readahead = in.max_readahead;
	out.max_pages = WRITE_MAX / 4096;
	atomic_store(&r->s->setxattr_ext, (flags & FUSE_SETXATTR_EXT) != 0);
	atomic_store(&r->s->ready, true);
	return reply_add(r, &out, sizeof(out));
}

/* The file system was unmounted: no request follows but the INIT of another mount. */
static int op_destroy(struct request *r)
{
	atomic_store(&r->s->ready, false);
	forget_all(r->s);
	return 0;
}

static int op_forget(struct request *r)
{
	struct fuse_forget_in in;

	memcpy(&in, r->body, sizeof(in));
	node_forget(r->s, r->h.nodeid, in.nlookup);
	return 0;
}

static int op_batch_forget(struct request *r)
{
	struct fuse_batch_forget_in in;
	struct fuse_forget_one one;

	memcpy(&in, r->body, sizeof(in));
	for (size_t at = sizeof(in); in.count && r->body_len - at >= sizeof(one);
		at += sizeof(one), in.count--) {
		memcpy(&one, r->body + at, sizeof(one));
		node_forget(r->s, one.nodeid, one.nlookup);
	}
	return 0;
}

/* What is to be done is the device's, which knows the requests under way (fs_interrupts). */
static int op_interrupt(struct request *r)
{
	return 0;
}

static const struct op {
	int (*fn)(struct request *r);
	unsigned flags;
	size_t body;  /* the least */
	size_t reply; /* the most that has a fixed size; asked for before anything is done */
} ops[] = {
	[FUSE_LOOKUP] = {op_lookup, FOLDER | GRANTS | ON_ROOT, 2, sizeof(struct fuse_entry_out)},
	[FUSE_FORGET] = {op_forget, ANY_NODE | NO_REPLY, sizeof(struct fuse_forget_in), 0},
	[FUSE_GETATTR] = {op_getattr, GRANTS | ON_ROOT, 0, sizeof(struct fuse_attr_out)},
	[FUSE_SETATTR] = {op_setattr, CHANGES | GRANTS, sizeof(struct fuse_setattr_in),
		sizeof(struct fuse_attr_out)},
	[FUSE_READLINK] = {op_readlink, 0, 0, 0},
	[FUSE_SYMLINK] = {op_symlink, CHANGES | FOLDER | GRANTS, 4, sizeof(struct fuse_entry_out)},
	[FUSE_MKNOD] = {op_mknod, CHANGES | FOLDER | GRANTS, sizeof(struct fuse_mknod_in) + 2,
		sizeof(struct fuse_entry_out)},
	[FUSE_MKDIR] = {op_mkdir, CHANGES | FOLDER | GRANTS, sizeof(struct fuse_mkdir_in) + 2,
		sizeof(struct fuse_entry_out)},
	[FUSE_UNLINK] = {op_unlink, CHANGES | FOLDER, 2, 0},
	[FUSE_RMDIR] = {op_rmdir, CHANGES | FOLDER, 2, 0},
	[FUSE_RENAME] = {op_rename, CHANGES | FOLDER, sizeof(struct fuse_rename_in) + 4, 0},
	[FUSE_LINK] = {op_link, CHANGES | FOLDER | GRANTS, sizeof(struct fuse_link_in) + 2,
		sizeof(struct fuse_entry_out)},
	[FUSE_OPEN] = {op_open, GRANTS, sizeof(struct fuse_open_in), sizeof(struct fuse_open_out)},
	[FUSE_READ] = {op_read, 0, sizeof(struct fuse_read_in), 0},
	[FUSE_WRITE] = {op_write, 0, sizeof(struct fuse_write_in), sizeof(struct fuse_write_out)},
	[FUSE_STATFS] = {op_statfs, ON_ROOT, 0, sizeof(struct fuse_statfs_out)},
	[FUSE_RELEASE] = {op_release, 0, sizeof(struct fuse_release_in), 0},
	[FUSE_FSYNC] = {op_fsync, 0, sizeof(struct fuse_fsync_in), 0},
	[FUSE_SETXATTR] = {op_setxattr, CHANGES, FUSE_COMPAT_SETXATTR_IN_SIZE + 2, 0},
	[FUSE_GETXATTR] = {op_getxattr, 0, sizeof(struct fuse_getxattr_in) + 2, 0},
	[FUSE_LISTXATTR] = {op_listxattr, 0, sizeof(struct fuse_getxattr_in), 0},
	[FUSE_REMOVEXATTR] = {op_removexattr, CHANGES, 2, 0},
	[FUSE_FLUSH] = {op_flush, 0, sizeof(struct fuse_flush_in), 0},
	[FUSE_INIT] = {op_init, ANY_NODE | EARLY, 16, sizeof(struct fuse_init_out)},
	[FUSE_OPENDIR] = {op_opendir, FOLDER | ON_ROOT, sizeof(struct fuse_open_in),
		sizeof(struct fuse_open_out)},
	[FUSE_READDIR] = {op_readdir, FOLDER | ON_ROOT, sizeof(struct fuse_read_in), 0},
	[FUSE_RELEASEDIR] = {op_releasedir, FOLDER | ON_ROOT, sizeof(struct fuse_release_in), 0},
	[FUSE_FSYNCDIR] = {op_fsyncdir, FOLDER | ON_ROOT, sizeof(struct fuse_fsync_in), 0},
	[FUSE_GETLK] = {op_getlk, 0, sizeof(struct fuse_lk_in), sizeof(struct fuse_lk_out)},
	[FUSE_SETLK] = {op_setlk, 0, sizeof(struct fuse_lk_in), 0},
	[FUSE_SETLKW] = {op_setlkw, 0, sizeof(struct fuse_lk_in), 0},
	[FUSE_ACCESS] = {op_access, ON_ROOT, sizeof(struct fuse_access_in), 0},
	[FUSE_CREATE] = {op_create, CHANGES | FOLDER | GRANTS, sizeof(struct fuse_create_in) + 2,
		sizeof(struct fuse_entry_out) + sizeof(struct fuse_open_out)},
	[FUSE_INTERRUPT] = {op_interrupt, ANY_NODE | NO_REPLY | EARLY, 0, 0},
	[FUSE_DESTROY] = {op_destroy, ANY_NODE | EARLY, 0, 0},
	[FUSE_BATCH_FORGET] = {op_batch_forget, ANY_NODE | NO_REPLY, sizeof(struct fuse_batch_forget_in), 0},
	[FUSE_FALLOCATE] = {op_fallocate, CHANGES, sizeof(struct fuse_fallocate_in), 0},
	[FUSE_READDIRPLUS] = {op_readdirplus, FOLDER | GRANTS | ON_ROOT, sizeof(struct fuse_read_in), 0},
	[FUSE_RENAME2] = {op_rename2, CHANGES | FOLDER, sizeof(struct fuse_rename2_in) + 4, 0},
	[FUSE_LSEEK] = {op_lseek, 0, sizeof(struct fuse_lseek_in), sizeof(struct fuse_lseek_out)},
	[FUSE_COPY_FILE_RANGE] = {op_copy_file_range, 0, sizeof(struct fuse_copy_file_range_in),
		sizeof(struct fuse_write_out)},
	[FUSE_SYNCFS] = {op_syncfs, ON_ROOT, sizeof(struct fuse_syncfs_in), 0},
	[FUSE_TMPFILE] = {op_tmpfile, CHANGES | FOLDER | GRANTS, sizeof(struct fuse_create_in) + 1,
		sizeof(struct fuse_entry_out) + sizeof(struct fuse_open_out)},
	[FUSE_WATCH] = {op_watch, ON_ROOT, sizeof(struct fuse_watch_in), 0},
	[FUSE_WATCH_EVENTS] = {op_watch_events, ANY_NODE, 0, FUSE_WATCH_EVENT_LEN(0)},
};

static size_t iov_total(const struct iovec *v, unsigned n)
{
	size_t sum = 0;

	for (unsigned i = 0; i < n; i++)
		if (__builtin_add_overflow(sum, v[i].iov_len, &sum))
			return SIZE_MAX;
	return sum;
}

/* From `off` on; fewer bytes where there are no more. */
static size_t gather(const struct iovec *v, unsigned n, size_t off, void *dst, size_t len)
{
	size_t done = 0;

	for (unsigned i = 0; i < n && done < len; i++) {
		if (off >= v[i].iov_len) {
			off -= v[i].iov_len;
			continue;
		}
		size_t part = MIN_OF(v[i].iov_len - off, len - done);
		memcpy((char *)dst + done, (const char *)v[i].iov_base + off, part);
		done += part;
		off = 0;
	}
	return done;
}

static void scatter(const struct iovec *v, unsigned n, size_t off, const void *src, size_t len)
{
	for (unsigned i = 0; i < n && len; i++) {
		if (off >= v[i].iov_len) {
			off -= v[i].iov_len;
			continue;
		}
		size_t part = MIN_OF(v[i].iov_len - off, len);
		memcpy((char *)v[i].iov_base + off, src, part);
		src = (const char *)src + part;
		len -= part;
		off = 0;
	}
}

size_t reply_room(const struct request *r)
{
	size_t used = sizeof(struct fuse_out_header) + r->payload;

	return r->in_len > used ? r->in_len - used : 0;
}

int reply_add(struct request *r, const void *data, size_t len)
{
	if (len > reply_room(r))
		return -EINVAL;
	scatter(r->in, r->n_in, sizeof(struct fuse_out_header) + r->payload, data, len);
	r->payload += len;
	return 0;
}

int take_name(const struct request *r, size_t *at, const char **ret)
{
	const char *name = r->body + *at, *end;
	size_t len;

	if (*at >= r->body_len || !(end = memchr(name, '\0', r->body_len - *at)))
		return -EINVAL;
	len = (size_t)(end - name);
	if (len > FS_NAME_MAX)
		return -ENAMETOOLONG;
	if (len == 0 || memchr(name, '/', len) || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return -EINVAL;
	*at += len + 1;
	*ret = name;
	return 0;
}

int take_place(const struct request *r, size_t *at, const char **ret)
{
	int err = take_name(r, at, ret);

	return err < 0 ? err : node_fd(r->s, r->node);
}

bool fs_header(const struct iovec *out, unsigned n_out, struct fuse_in_header *ret)
{
	return gather(out, n_out, 0, ret, sizeof(*ret)) == sizeof(*ret);
}

bool fs_may_block(const struct fuse_in_header *h, const struct iovec *out, unsigned n_out)
{
	struct fuse_read_in io;

	switch (h->opcode) {
	case FUSE_SETLKW:
	case FUSE_WATCH_EVENTS:
	case FUSE_FSYNC:
	case FUSE_FSYNCDIR:
	case FUSE_SYNCFS:
	case FUSE_FALLOCATE:
	case FUSE_COPY_FILE_RANGE:
		return true;
	case FUSE_READ:
	case FUSE_WRITE:
		/* fuse_write_in begins as fuse_read_in does. */
		return gather(out, n_out, sizeof(*h), &io, sizeof(io)) == sizeof(io) && io.size >= FS_LARGE;
	default:
		return false;
	}
}

bool fs_interrupts(
	const struct fuse_in_header *h, const struct iovec *out, unsigned n_out, uint64_t *ret_unique)
{
	struct fuse_interrupt_in in;

	if (h->opcode != FUSE_INTERRUPT || gather(out, n_out, sizeof(*h), &in, sizeof(in)) != sizeof(in))
		return false;
	*ret_unique = in.unique;
	return true;
}

void fs_interrupt(struct fs_server *s, atomic_bool *flag)
{
	atomic_store(flag, true);
	locks_wake(s);
	watches_wake(s);
}

static const struct op *find_op(uint32_t opcode)
{
	return opcode < ARRAY_LEN(ops) && ops[opcode].fn ? &ops[opcode] : NULL;
}

static int dispatch(struct request *r, const struct op *op)
{
	struct fs_server *s = r->s;

	if (!(op->flags & EARLY) && !atomic_load(&s->ready))
		return -EIO;
	if (r->body_len < op->body || (!(op->flags & NO_REPLY) && reply_room(r) < op->reply))
		return -EINVAL;
	if (op->flags & ANY_NODE)
		return op->fn(r);
	if (!(r->node = node_get(s, r->h.nodeid)))
		return -ESTALE;
	if (r->node == s->root && !(op->flags & ON_ROOT))
		return op->flags & CHANGES ? -EROFS : -EOPNOTSUPP;
	if ((op->flags & CHANGES) && r->node->export->e.read_only)
		return -EROFS;
	if ((op->flags & FOLDER) && r->node->type != S_IFDIR)
		return -ENOTDIR;
	if (op->flags & GRANTS)
		attr_believed(r, r->node->export);
	return op->fn(r);
}

/* Whether a request may begin: not while everything is being forgotten. */
static bool begin(struct fs_server *s)
{
	bool may;

	pthread_mutex_lock(&s->run_lock);
	if ((may = !s->ending))
		s->active++;
	pthread_mutex_unlock(&s->run_lock);
	return may;
}

static void end(struct fs_server *s)
{
	pthread_mutex_lock(&s->run_lock);
	if (--s->active == 0 && s->ending)
		pthread_cond_broadcast(&s->idle_cond);
	pthread_mutex_unlock(&s->run_lock);
}

static int handle(struct request *r, const struct op *op)
{
	char small[1024], *big = NULL;
	size_t len = r->h.len - sizeof(r->h);
	int err;

	/* Of a write only its structure is copied: its content goes from the buffers to the file. */
	if (r->h.opcode == FUSE_WRITE)
		len = MIN_OF(len, sizeof(struct fuse_write_in));
	if (len > (r->h.opcode == FUSE_BATCH_FORGET ? WRITE_MAX : BODY_MAX))
		return -E2BIG;
	if (len > sizeof(small) && !(big = malloc(len)))
		return -ENOMEM;
	r->body = big ? big : small;
	r->body_len = gather(r->out, r->n_out, sizeof(r->h), r->body, len);
	err = dispatch(r, op);
	if (r->node)
		node_put(r->s, r->node);
	free(big);
	return err;
}

size_t fs_handle(struct fs_server *s, const struct fuse_in_header *h, const struct iovec *out, unsigned n_out,
	const struct iovec *in, unsigned n_in, const atomic_bool *interrupted)
{
	struct request r = {.s = s,
		.h = *h,
		.out = out,
		.n_out = n_out,
		.in = in,
		.n_in = n_in,
		.interrupted = interrupted};
	struct fuse_out_header reply = {0};
	const struct op *op;
	size_t total = iov_total(out, n_out);
	int err;

	r.in_len = iov_total(in, n_in);
	if (r.in_len == SIZE_MAX)
		return 0;
	op = find_op(r.h.opcode);
	if (!begin(s))
		err = -EINTR;
	else {
		if (r.h.len < sizeof(r.h) || r.h.len > total)
			err = -EINVAL;
		else
			err = op ? handle(&r, op) : -ENOSYS;
		end(s);
	}
	if ((op && (op->flags & NO_REPLY)) || r.in_len < sizeof(reply)) {
		r.payload = 0;
		reply.len = 0;
	} else {
		/* The guest's kernel takes nothing below -511 for an error. */
		reply = (struct fuse_out_header){.len = (uint32_t)(sizeof(reply) + (err < 0 ? 0 : r.payload)),
			.error = err < 0 ? (err > -512 ? err : -EIO) : 0,
			.unique = r.h.unique};
		scatter(in, n_in, 0, &reply, sizeof(reply));
	}
	if (r.granting)
		atomic_fetch_sub(&r.granting->granting, 1);
	return reply.len;
}
