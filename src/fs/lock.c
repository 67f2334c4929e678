/* SPDX-License-Identifier: MIT */
/*
 * Locks, as the host's kernel keeps them, so that they hold between boxes and against the host's own programs. flock(2) is on
 * the handle's descriptor. POSIX locks are of an owner (a table of descriptors of a process in the guest) and a file:
 * open file description locks (fcntl(2), F_OFD_SETLK) on a descriptor of that owner's own, as closing which gives them all up.
 * Whose they are is noted besides (held.c).
 *
 * Who waits asks again and again, soon after something was unlocked by this guest, else after some milliseconds: a thread that
 * waits in the kernel could be ended by a signal only, which may come a moment before the wait. What ends these is a flag.
 */
#include "server.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <time.h>

#define WAIT_MIN_NS 500000l
#define WAIT_MAX_NS 10000000l

static void owner_put(struct fs_server *s, struct node *n, struct lock_owner *o)
{
	bool last;

	pthread_mutex_lock(node_lock(s, n));
	last = --o->refs == 0;
	pthread_mutex_unlock(node_lock(s, n));
	if (!last)
		return;
	pthread_mutex_lock(&s->posix_lock);
	held_forget(s, o);
	pthread_mutex_unlock(&s->posix_lock);
	close(o->fd);
	free(o);
	atomic_fetch_sub(&s->n_owners, 1);
}

static struct lock_owner *owner_find(struct fs_server *s, struct node *n, uint64_t id)
{
	struct lock_owner *o;

	pthread_mutex_lock(node_lock(s, n));
	for (o = n->owners; o && o->id != id; o = o->next)
		;
	if (o)
		o->refs++;
	pthread_mutex_unlock(node_lock(s, n));
	return o;
}

static int lock_open(struct fs_server *s, struct node *n)
{
	bool writable = n->type == S_IFREG && !n->export->e.read_only;
	int nodefd = node_fd(s, n), fd;

	if (nodefd < 0)
		return nodefd;
	fd = reopen(s, nodefd, writable ? O_RDWR : O_RDONLY);
	/* The guest has it open in one way only, perhaps as the host permits no other. */
	if (fd == -EACCES || fd == -EROFS || fd == -EPERM || fd == -ETXTBSY)
		fd = reopen(s, nodefd, O_RDONLY);
	if (fd == -EACCES)
		fd = reopen(s, nodefd, O_WRONLY);
	node_done_fd(s, n);
	return fd;
}

/* A reference to the owner of that number, made if need be. */
static int owner_get(struct fs_server *s, struct node *n, uint64_t id, struct lock_owner **ret)
{
	struct lock_owner *o, *other;
	int fd;

	if ((*ret = owner_find(s, n, id)))
		return 0;
	if (atomic_fetch_add(&s->n_owners, 1) >= OWNERS_MAX) {
		atomic_fetch_sub(&s->n_owners, 1);
		return -ENOLCK;
	}
	fd = lock_open(s, n);
	if (fd < 0 || !(o = calloc(1, sizeof(*o)))) {
		atomic_fetch_sub(&s->n_owners, 1);
		if (fd < 0)
			return fd;
		close(fd);
		return -ENOMEM;
	}
	*o = (struct lock_owner){.id = id, .fd = fd, .refs = 2};
	pthread_mutex_lock(node_lock(s, n));
	for (other = n->owners; other && other->id != id; other = other->next)
		;
	if (other) {
		other->refs++;
	} else {
		o->next = n->owners;
		n->owners = o;
	}
	pthread_mutex_unlock(node_lock(s, n));
	if (other) { /* another thread was faster */
		o->refs = 1;
		owner_put(s, n, o);
	}
	*ret = other ? other : o;
	return 0;
}

void locks_wake(struct fs_server *s)
{
	atomic_fetch_add(&s->freed, 1);
	if (atomic_load(&s->waiters))
		syscall(SYS_futex, &s->freed, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

struct lock {
	struct handle *h; /* flock(2) */
	int op;
	struct lock_owner *owner; /* POSIX */
	struct flock range;
	uint32_t pid;
};

/* Without waiting: -EAGAIN. */
static int try_lock(struct fs_server *s, struct lock *l)
{
	int r;

	if (!l->h)
		pthread_mutex_lock(&s->posix_lock);
	do
		r = l->h ? flock(l->h->fd, l->op | LOCK_NB) : fcntl(l->owner->fd, F_OFD_SETLK, &l->range);
	while (r < 0 && errno == EINTR);
	r = r < 0 ? -errno : 0;
	if (!l->h) {
		if (r == 0) {
			held_note(s, l->owner, &l->range);
			l->owner->pid = l->pid ? l->pid : l->owner->pid; /* who unlocks has none */
		}
		pthread_mutex_unlock(&s->posix_lock);
	}
	return r == -EACCES ? -EAGAIN : r;
}

/* Takes all owners, or that with the number, off the list. */
static void drop(struct fs_server *s, struct node *n, const uint64_t *id)
{
	struct lock_owner *gone = NULL, **p, *o;

	pthread_mutex_lock(node_lock(s, n));
	for (p = &n->owners; (o = *p);) {
		if (id && o->id != *id) {
			p = &o->next;
			continue;
		}
		*p = o->next;
		o->dropped = true;
		o->next = gone;
		gone = o;
	}
	pthread_mutex_unlock(node_lock(s, n));
	if (!gone)
		return;
	while ((o = gone)) {
		gone = o->next;
		/* Now, also if a request still uses the descriptor. */
		struct lock all = {.owner = o, .range = {.l_type = F_UNLCK, .l_whence = SEEK_SET}};
		(void)try_lock(s, &all);
		owner_put(s, n, o);
	}
	locks_wake(s);
}

void locks_drop_owner(struct fs_server *s, struct node *n, uint64_t owner)
{
	drop(s, n, &owner);
}

void locks_drop_all(struct fs_server *s, struct node *n)
{
	drop(s, n, NULL);
}

/* In a thread of its own. */
static int wait_lock(struct fs_server *s, struct lock *l, const atomic_bool *interrupted)
{
	struct timespec delay = {.tv_nsec = WAIT_MIN_NS};
	int err = -EAGAIN;

	if (atomic_fetch_add(&s->waiters, 1) >= FS_WAITERS_MAX) {
		atomic_fetch_sub(&s->waiters, 1);
		return -ENOLCK;
	}
	while (err == -EAGAIN) {
		unsigned seen = atomic_load(&s->freed);
		if (atomic_load(&s->ending) || (interrupted && atomic_load(interrupted))) {
			err = -EINTR;
			break;
		}
		err = try_lock(s, l);
		if (err == -EAGAIN)
			syscall(SYS_futex, &s->freed, FUTEX_WAIT_PRIVATE, seen, &delay, NULL, 0);
		delay.tv_nsec = MIN_OF(delay.tv_nsec * 2, WAIT_MAX_NS);
	}
	atomic_fetch_sub(&s->waiters, 1);
	return err;
}

static int range_of(const struct fuse_file_lock *lk, struct flock *ret)
{
	if (lk->start > lk->end || lk->start > INT64_MAX ||
		(lk->type != F_RDLCK && lk->type != F_WRLCK && lk->type != F_UNLCK))
		return -EINVAL;
	*ret = (struct flock){.l_type = (short)lk->type,
		.l_whence = SEEK_SET,
		.l_start = (off_t)lk->start,
		/* To the largest offset is to the end, wherever that will be. */
		.l_len = lk->end >= INT64_MAX ? 0 : (off_t)(lk->end - lk->start + 1)};
	return 0;
}

static int set_flock(struct request *r, const struct fuse_lk_in *in, bool wait)
{
	struct lock l = {.op = in->lk.type == F_RDLCK ? LOCK_SH : in->lk.type == F_WRLCK ? LOCK_EX : LOCK_UN};
	int err;

	if (!(l.h = handle_get(r->s, in->fh, r->node, r->node->type == S_IFDIR)))
		return -EBADF;
	err = try_lock(r->s, &l);
	if (err == -EAGAIN && wait)
		err = wait_lock(r->s, &l, r->interrupted);
	handle_put(r->s, l.h);
	/* Also a change from exclusive to shared lets others in. */
	if (err == 0)
		locks_wake(r->s);
	return err;
}

static int wait_posix(struct request *r, struct lock *l)
{
	struct lock_wait w = {.owner = l->owner->id, .node = r->node, .want = lock_range_of(&l->range)};
	int err = held_wait_begin(r->s, &w);

	if (err < 0)
		return err;
	err = wait_lock(r->s, l, r->interrupted);
	held_wait_end(r->s, &w);
	return err;
}

static int set_posix(struct request *r, const struct fuse_lk_in *in, bool wait)
{
	struct lock l = {0};
	int err = range_of(&in->lk, &l.range);

	if (err < 0)
		return err;
	if (in->lk.type == F_UNLCK) {
		if (!(l.owner = owner_find(r->s, r->node, in->owner)))
			return 0;
	} else {
		struct handle *h = handle_get(r->s, in->fh, r->node, r->node->type == S_IFDIR);
		if (!h)
			return -EBADF;
		handle_put(r->s, h);
		err = owner_get(r->s, r->node, in->owner, &l.owner);
		if (err < 0)
			return err;
	}
	l.pid = in->lk.pid;
	err = try_lock(r->s, &l);
	if (err == -EAGAIN && wait)
		err = wait_posix(r, &l);
	if (err == 0 && in->lk.type != F_UNLCK) {
		/* It was closed by another thread of its process meanwhile, and what that gave up must not come back. */
		pthread_mutex_lock(node_lock(r->s, r->node));
		if (l.owner->dropped)
			err = -EBADF;
		pthread_mutex_unlock(node_lock(r->s, r->node));
	}
	owner_put(r->s, r->node, l.owner);
	if (err == 0 && in->lk.type != F_WRLCK)
		locks_wake(r->s);
	return err;
}

static int set_lock(struct request *r, bool wait)
{
	struct fuse_lk_in in;

	memcpy(&in, r->body, sizeof(in));
	if (r->node->type != S_IFREG && r->node->type != S_IFDIR)
		return -EBADF;
	return in.lk_flags & FUSE_LK_FLOCK ? set_flock(r, &in, wait) : set_posix(r, &in, wait);
}

int op_setlk(struct request *r)
{
	return set_lock(r, false);
}

int op_setlkw(struct request *r)
{
	return set_lock(r, true);
}

int op_getlk(struct request *r)
{
	struct fuse_lk_in in;
	struct fuse_lk_out out = {.lk.type = F_UNLCK};
	struct lock_owner *o;
	struct flock range;
	uint32_t pid = 0;
	int fd, err;

	memcpy(&in, r->body, sizeof(in));
	err = range_of(&in.lk, &range);
	if (err < 0)
		return err;
	if ((in.lk_flags & FUSE_LK_FLOCK) || range.l_type == F_UNLCK ||
		(r->node->type != S_IFREG && r->node->type != S_IFDIR))
		return -EINVAL;
	o = owner_find(r->s, r->node, in.owner);
	fd = o ? o->fd : lock_open(r->s, r->node);
	if (fd < 0)
		return fd;
	pthread_mutex_lock(&r->s->posix_lock);
	err = fcntl(fd, F_OFD_GETLK, &range) < 0 ? -errno : 0;
	if (err == 0 && range.l_type != F_UNLCK)
		pid = held_by(r->s, r->node, &range);
	pthread_mutex_unlock(&r->s->posix_lock);
	if (o)
		owner_put(r->s, r->node, o);
	else
		close(fd);
	if (err < 0)
		return err;
	if (range.l_type != F_UNLCK)
		/* 0: another box's or the host's, which has no number in the guest. */
		out.lk = (struct fuse_file_lock){.start = (uint64_t)range.l_start,
			.end = range.l_len ? (uint64_t)(range.l_start + range.l_len - 1) : INT64_MAX,
			.type = (uint32_t)range.l_type,
			.pid = pid};
	return reply_add(r, &out, sizeof(out));
}
