/* SPDX-License-Identifier: MIT */
/*
 * The files of a box: connections to its guest for COPY_IN, COPY_OUT and FREEZE (wire.h), each of its own, with
 * blocking descriptors, and its disk on the host. What the guest says is bounded by wire.h and checked by the room tree.
 */
#include "box/files.h"

#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>

#include "base/io.h"
#include "base/log.h"
#include "maintenance.h"
#include "run.h"

#define ANSWER_LIMIT_NS \
	120000000000ull		 /* for the first answer: a guest that freezes writes back what it holds */
#define SETTLE_NS 10000000000ull /* for a box that is about to run, or to end */

enum { READ_CHUNK = 65536 };

struct box_files {
	struct state *st;
	struct box *box;
	int lock_fd;		   /* -1: it runs */
	struct maintenance *maint; /* NULL: it runs */
	int fd;			   /* of the copy that is under way; box_files_interrupt */
	bool interrupted;
};

/* ---- frames ---- */

/* Waits for one whole frame; the deadline is monotonic, UINT64_MAX: none. 0, -ETIMEDOUT, -EPIPE, -EBADMSG or -errno. */
static int read_frame(int fd, struct buf *in, uint64_t deadline_ns, struct wire_frame *ret)
{
	int r;

	while ((r = wire_next(in, ret)) == 0) {
		uint64_t now = time_mono_ns();
		struct pollfd p = {.fd = fd, .events = POLLIN};
		if (now >= deadline_ns)
			return -ETIMEDOUT;
		int n = poll(&p, 1, (int)MIN_OF((deadline_ns - now) / 1000000 + 1, (uint64_t)3600000));
		if (n == 0 || (n < 0 && errno == EINTR))
			continue;
		uint8_t *room = n < 0 ? NULL : buf_reserve(in, READ_CHUNK);
		if (!room)
			return n < 0 ? -errno : -ENOMEM;
		ssize_t got = recv(fd, room, READ_CHUNK, 0);
		if (got < 0 && errno != EINTR)
			return -errno;
		if (got == 0)
			return -EPIPE;
		if (got > 0)
			buf_commit(in, (size_t)got);
	}
	return r < 0 ? r : 0;
}

static uint64_t soon(void)
{
	return time_mono_ns() + ANSWER_LIMIT_NS;
}

/* Takes a DONE off the connection. A FAIL is the guest's errno and words. */
static int expect_done(int fd, struct buf *in, const char *name, uint64_t deadline_ns, struct err *e)
{
	CLEANUP_FREE char *text = NULL;
	struct wire_frame f;
	uint32_t status;
	int r = read_frame(fd, in, deadline_ns, &f);

	if (r == -EPIPE || r == -ECONNRESET)
		return err_set(e, -EPIPE, "the guest of box %s closed the connection", name);
	if (r < 0)
		return err_sys(e, r, "box %s does not answer", name);
	if (f.type == WIRE_DONE) {
		wire_consume(in, &f);
		return 0;
	}
	if (f.type != WIRE_FAIL || wire_get_fail(&f, &status, &text) < 0)
		return err_set(e, -EBADMSG, "the guest of box %s broke the protocol", name);
	return err_set(e, status ? -(int)status : -EIO, "%s", text);
}

/* Opens a connection and sends the frame in `out`. fd or -errno. */
static int ask(struct state *st, const struct box *b, const struct buf *out, struct err *e)
{
	CLEANUP_CLOSE int fd = box_connect_guest(st, b, WIRE_PORT_SESSION, e);
	if (fd < 0)
		return fd;
	int r = io_set_nonblock(fd, false);
	if (r == 0)
		r = io_write_full(fd, buf_data(out), out->len);
	if (r < 0)
		return err_sys(e, r, "box %s does not answer", b->name);
	return TAKE_FD(fd);
}

/* ---- opening ---- */

static int busy(const struct box *b, struct err *e)
{
	if (b->state == BOX_PAUSED) {
		err_set(e, -EBUSY, "box %s is paused", b->name);
		return err_hint(e, "let it go on with: a3s-box unpause %s", b->name);
	}
	if (b->state == BOX_REMOVING || b->state == BOX_DEAD)
		return err_set(e, -EBUSY, "box %s is being removed", b->name);
	err_set(e, -EBUSY, "box %s is %s", b->name, box_state_name(b->state));
	return err_hint(e, "try again when it runs, or has ended");
}

static bool is_at_rest(const struct box *b)
{
	return b->state == BOX_CREATED || b->state == BOX_EXITED;
}

/* The box as it is now; one that is about to start or to end is waited for, for a while. */
static int look(struct state *st, const char *id, uint64_t until_ns, struct box **ret, struct err *e)
{
	for (;;) {
		CLEANUP(box_freep) struct box *b = NULL;
		int r = box_find_quiet(st, id, &b, e);
		if (r < 0)
			return r;
		if (b->state == BOX_RUNNING || is_at_rest(b)) {
			*ret = TAKE_PTR(b);
			return 0;
		}
		bool passing = b->state == BOX_STARTING || b->state == BOX_STOPPING;
		if (!passing || time_mono_ns() >= until_ns)
			return busy(b, e);
		nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
	}
}

/*
 * The box as it is: running, or at rest and then locked (*ret_lock). Between the look and the lock it may have changed, so
 * both are repeated for a while.
 */
static int find_or_lock(struct state *st, const char *id, struct box **ret, int *ret_lock, struct err *e)
{
	uint64_t until = time_mono_ns() + SETTLE_NS;

	for (;;) {
		CLEANUP(box_freep) struct box *b = NULL;
		CLEANUP_CLOSE int lock = -1;
		int r = look(st, id, until, &b, e);
		if (r < 0)
			return r;
		if (b->state != BOX_RUNNING) {
			r = box_lock(st, id, &lock, e);
			if (r < 0) {
				CLEANUP(box_freep) struct box *now = NULL;
				bool same = r != -EBUSY || box_find_quiet(st, id, &now, NULL) < 0 ||
					    is_at_rest(now);
				if (same)
					return r;
				continue;
			}
			box_free(TAKE_PTR(b));
			r = box_find_quiet(st, id, &b, e);
			if (r == 0 && !is_at_rest(b))
				r = 1; /* started and lost, or gone: look again */
			if (r) {
				box_unlock(st, id, &lock);
				if (r < 0)
					return r;
				continue;
			}
		}
		*ret = TAKE_PTR(b);
		*ret_lock = TAKE_FD(lock);
		return 0;
	}
}

int box_files_open(struct state *st, const struct box *b, struct box_files **ret, struct err *e)
{
	CLEANUP(box_files_freep) struct box_files *f = calloc(1, sizeof(*f));

	if (!f)
		return err_oom(e);
	*f = (struct box_files){.st = st, .lock_fd = -1, .fd = -1};
	int r = find_or_lock(st, b->id, &f->box, &f->lock_fd, e);
	if (r == 0 && f->lock_fd >= 0)
		r = maintenance_start(st, f->box, f->lock_fd, &f->maint, e);
	if (r == 0)
		*ret = TAKE_PTR(f);
	return r;
}

int box_files_close(struct box_files *f, struct err *e)
{
	return f->maint ? maintenance_end(f->maint, e) : 0;
}

void box_files_free(struct box_files *f)
{
	if (!f)
		return;
	maintenance_free(f->maint);
	if (f->lock_fd >= 0)
		box_unlock(f->st, f->box->id, &f->lock_fd);
	box_free(f->box);
	free(f);
}

void box_files_interrupt(struct box_files *f)
{
	int fd = __atomic_load_n(&f->fd, __ATOMIC_SEQ_CST);

	__atomic_store_n(&f->interrupted, true, __ATOMIC_SEQ_CST);
	if (fd >= 0)
		shutdown(fd, SHUT_RDWR);
}

/* ---- copies ---- */

/* A copy that failed because its machine is gone, or was told to end, says that. */
static int explain(struct box_files *f, int r, struct err *e)
{
	struct err why = {0};

	if (r >= 0)
		return r;
	if (__atomic_load_n(&f->interrupted, __ATOMIC_SEQ_CST))
		return err_set(e, -EINTR, "interrupted");
	if (f->maint && maintenance_check(f->maint, &why) < 0 && e)
		*e = why;
	return e ? e->code : r;
}

/*
 * What the guest refused because it would not last: it knows no box that runs or not. Nor does it know of hints.
 */
static int explain_memory(int r, struct err *e)
{
	struct err why;

	if (r != -ENOMEDIUM || !e)
		return r;
	why = *e;
	err_set(e, r, "%s, and the box does not run", why.msg);
	return err_hint(e, "start the box first");
}

static int begin_copy(struct box_files *f, enum wire_type type, const struct wire_copy *c, int *ret_fd,
	struct buf *in, struct err *e)
{
	CLEANUP(buf_done) struct buf out = {0};
	int r = wire_put_copy(&out, type, c);

	if (r < 0)
		return r == -EMSGSIZE ? err_set(e, -ENAMETOOLONG, "the path is too long") : err_oom(e);
	CLEANUP_CLOSE int fd = ask(f->st, f->box, &out, e);
	if (fd < 0)
		return fd;
	__atomic_store_n(&f->fd, fd, __ATOMIC_SEQ_CST);
	r = __atomic_load_n(&f->interrupted, __ATOMIC_SEQ_CST) ? -EINTR
							       : expect_done(fd, in, f->box->name, soon(), e);
	if (r < 0) {
		__atomic_store_n(&f->fd, -1, __ATOMIC_SEQ_CST);
		return r;
	}
	*ret_fd = TAKE_FD(fd);
	return 0;
}

static void end_copy(struct box_files *f, int *fd)
{
	__atomic_store_n(&f->fd, -1, __ATOMIC_SEQ_CST);
	close_fd(fd);
}

int box_files_read(struct box_files *f, const struct wire_copy *c, const struct tree_sink *to, struct err *e)
{
	CLEANUP(buf_done) struct buf in = {0};
	int fd = -1;
	int r = begin_copy(f, WIRE_COPY_OUT, c, &fd, &in, e);

	if (r == 0)
		r = tree_read_stream(fd, &in, to, e);
	end_copy(f, &fd);
	return explain(f, r, e);
}

int box_files_write(struct box_files *f, const struct wire_copy *c,
	int (*source)(void *data, const struct tree_sink *to, struct err *e), void *data, struct err *e)
{
	CLEANUP(tree_stream_freep) struct tree_stream *s = NULL;
	CLEANUP(buf_done) struct buf in = {0};
	struct err guest = {0};
	struct wire_copy what = *c;
	int fd = -1;

	what.durable = f->maint != NULL;
	int r = begin_copy(f, WIRE_COPY_IN, &what, &fd, &in, e);

	if (r == 0)
		r = tree_stream_new(fd, &s, e);
	if (r == 0) {
		r = source(data, tree_stream_sink(s), e);
		/* Also where it did not take all of it: then it says why. */
		if (r < 0 && r != -EPIPE && r != -ECONNRESET)
			tree_stream_fail(s, "the host failed");
		else if (expect_done(fd, &in, f->box->name, r < 0 ? soon() : UINT64_MAX, &guest) < 0 &&
			 (r == 0 || guest.code != -EPIPE)) {
			r = guest.code;
			if (e)
				*e = guest;
		}
	}
	end_copy(f, &fd);
	r = explain(f, r, e);
	return f->maint ? explain_memory(r, e) : r;
}

/* ---- disks ---- */

/* Whether the journal has to be replayed: ext4's INCOMPAT_RECOVER of s_feature_incompat (kernel.org, ext4 data structures). */
static int needs_recovery(int fd)
{
	enum { SUPERBLOCK = 1024, MAGIC = SUPERBLOCK + 0x38, INCOMPAT = SUPERBLOCK + 0x60, RECOVER = 0x4 };
	uint8_t magic[2], incompat[4];

	if (io_pread_full(fd, magic, sizeof(magic), MAGIC) != sizeof(magic) ||
		io_pread_full(fd, incompat, sizeof(incompat), INCOMPAT) != sizeof(incompat))
		return -EIO;
	if (magic[0] != 0x53 || magic[1] != 0xef)
		return -EUCLEAN; /* the guest wrote over it */
	return (incompat[0] & RECOVER) != 0;
}

/* The box's own disk, read-only; -ENOENT: none yet. */
static int open_scratch(struct state *st, const struct box *b, struct err *e)
{
	CLEANUP_CLOSE int dir = box_open_box_dir(st, b->id, false, e);
	int fd = dir < 0 ? dir : openat(dir, "scratch.img", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

	if (dir >= 0 && fd < 0)
		fd = -errno;
	if (fd < 0 && fd != -ENOENT)
		return err_sys(e, fd, "cannot open the disk of box %s", b->name);
	return fd;
}

/* Of a box at rest, locked: its disk, clean; booting it once if need be. fd, -ENOENT, or -errno. */
static int open_clean(struct state *st, const struct box *b, int lock_fd, struct err *e)
{
	CLEANUP(maintenance_freep) struct maintenance *m = NULL;
	CLEANUP_CLOSE int fd = open_scratch(st, b, e);
	if (fd < 0)
		return fd;
	int r = needs_recovery(fd);
	if (r > 0) {
		r = maintenance_start(st, b, lock_fd, &m, e);
		if (r == 0)
			r = maintenance_end(m, e);
		if (r < 0)
			return r;
		r = needs_recovery(fd) ? -EUCLEAN : 0;
	}
	if (r < 0)
		return err_sys(e, r, "cannot read the disk of box %s", b->name);
	return TAKE_FD(fd);
}

/* Of a running box: its guest keeps the disk still until it is asked whether it did. fd or -errno. */
static int freeze(struct state *st, const struct box *b, struct err *e)
{
	CLEANUP(buf_done) struct buf out = {0};
	CLEANUP(buf_done) struct buf in = {0};

	if (wire_put(&out, WIRE_FREEZE, NULL, 0) < 0)
		return err_oom(e);
	CLEANUP_CLOSE int fd = ask(st, b, &out, e);
	if (fd < 0)
		return fd;
	int r = expect_done(fd, &in, b->name, soon(), e);
	return r < 0 ? r : TAKE_FD(fd);
}

/*
 * Whether the disk was still up to now, which the guest alone knows: it closes when it lost its patience or ended, but may have
 * thawed a moment before. Ends the freeze.
 */
static int end_freeze(int fd, const char *name, struct err *e)
{
	CLEANUP(buf_done) struct buf out = {0};
	CLEANUP(buf_done) struct buf in = {0};

	if (wire_put(&out, WIRE_FREEZE, NULL, 0) < 0)
		return err_oom(e);
	int r = io_write_full(fd, buf_data(&out), out.len);
	r = r < 0 ? err_sys(e, r, "box %s does not answer", name) : expect_done(fd, &in, name, soon(), e);
	if (r == -EPIPE || r == -ECONNRESET)
		return err_set(e, -ESTALE,
			"the disk of box %s changed while it was read: the box was stopped, or it took "
			"longer than %d s",
			name, WIRE_FREEZE_MAX_S);
	return r < 0 ? err_wrap(e, "the disk of box %s changed while it was read", name) : 0;
}

/* Of a running box: copies its disk to dst while its guest keeps it still. */
static int copy_frozen(struct state *st, const struct box *b, int src, int dst, struct err *e)
{
	CLEANUP_CLOSE int fd = freeze(st, b, e);
	if (fd < 0)
		return fd;
	uint64_t from = time_mono_ns();
	int r = io_copy_sparse(src, dst, false);
	log_debug("disk of box %s copied in %.1f ms", b->name, (double)(time_mono_ns() - from) / 1e6);
	if (r < 0)
		return err_sys(e, r, "cannot copy the disk of box %s", b->name);
	return end_freeze(fd, b->name, e); /* else what was copied last may not fit the rest */
}

/* A file without a name, in the box's folder: so that it can share blocks with the disk. */
static int open_nameless(struct state *st, const struct box *b, struct err *e)
{
	CLEANUP_CLOSE int dir = box_open_box_dir(st, b->id, false, e);
	if (dir < 0)
		return dir == -ENOENT ? err_sys(e, dir, "cannot copy the disk of box %s", b->name) : dir;
	int fd = openat(dir, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR)) {
		fd = openat(dir, "frozen.tmp", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
		if (fd >= 0)
			unlinkat(dir, "frozen.tmp", 0);
	}
	return fd < 0 ? err_sys(e, -errno, "cannot copy the disk of box %s", b->name) : fd;
}

/* Of a running box: its disk, held still by *ret_freeze, or a copy of it. fd or -errno. */
static int open_running(struct state *st, const struct box *b, bool in_place, int *ret_freeze, struct err *e)
{
	CLEANUP_CLOSE int src = open_scratch(st, b, e);

	if (src < 0)
		return src;
	if (in_place) {
		*ret_freeze = freeze(st, b, e);
		return *ret_freeze < 0 ? *ret_freeze : TAKE_FD(src);
	}
	CLEANUP_CLOSE int dst = open_nameless(st, b, e);
	int r = dst < 0 ? dst : copy_frozen(st, b, src, dst, e);
	return r < 0 ? r : TAKE_FD(dst);
}

int box_disk_hold(struct state *st, const struct box *b, bool in_place, struct box_disk *ret, struct err *e)
{
	CLEANUP(box_freep) struct box *now = NULL;
	CLEANUP_CLOSE int lock = -1;
	CLEANUP_CLOSE int frozen = -1;

	*ret = (struct box_disk){.fd = -1, .lock = -1, .freeze = -1};
	int r = find_or_lock(st, b->id, &now, &lock, e);
	if (r < 0)
		return r;
	CLEANUP_CLOSE int fd =
		lock >= 0 ? open_clean(st, now, lock, e) : open_running(st, now, in_place, &frozen, e);
	r = lock >= 0 && fd == -ENOENT ? 0 : fd;
	if (r >= 0 && !(ret->id = strdup(now->id)))
		r = err_oom(e);
	if (r < 0) {
		if (lock >= 0)
			box_unlock(st, now->id, &lock);
		return r;
	}
	ret->fd = fd == -ENOENT ? -1 : TAKE_FD(fd);
	ret->lock = TAKE_FD(lock);
	ret->freeze = TAKE_FD(frozen);
	return 0;
}

bool box_disk_still(struct box_disk *d)
{
	struct err ignored;
	bool still = d->freeze < 0 || end_freeze(d->freeze, d->id, &ignored) == 0;

	close_fd(&d->freeze);
	return still;
}

void box_disk_release(struct state *st, struct box_disk *d)
{
	close_fd(&d->freeze);
	close_fd(&d->fd);
	if (d->lock >= 0)
		box_unlock(st, d->id, &d->lock);
	free(TAKE_PTR(d->id));
}

int box_disk_copy(struct state *st, const struct box *b, int dst, bool *ret_any, struct err *e)
{
	CLEANUP(box_freep) struct box *now = NULL;
	CLEANUP_CLOSE int lock = -1;

	*ret_any = false;
	int r = find_or_lock(st, b->id, &now, &lock, e);
	if (r < 0)
		return r;
	CLEANUP_CLOSE int src = lock >= 0 ? open_clean(st, now, lock, e) : open_scratch(st, now, e);
	if (src < 0) {
		r = src == -ENOENT ? 0 : src;
	} else {
		r = lock >= 0 ? io_copy_sparse(src, dst, false) : copy_frozen(st, now, src, dst, e);
		if (lock >= 0 && r < 0)
			err_sys(e, r, "cannot copy the disk of box %s", b->name);
		*ret_any = r == 0;
	}
	if (lock >= 0)
		box_unlock(st, now->id, &lock);
	return r;
}

int box_mount_targets(const struct box *b, struct strv *ret, struct err *e)
{
	for (size_t i = 0; i < b->config.n_mounts; i++) {
		if (strv_push(ret, b->config.mounts[i].target) < 0)
			return err_oom(e);
	}
	for (size_t i = 0; i < b->config.tmpfs.n; i++) {
		const char *t = b->config.tmpfs.v[i];
		char *path = strndup(t, strcspn(t, ":"));
		if (!path || strv_take(ret, path) < 0)
			return err_oom(e);
	}
	return 0;
}
